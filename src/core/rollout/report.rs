//! What a rollout did and saved, for screens, events and JSON documents.

use std::time::Duration;

use serde::Serialize;

use crate::core::rollout::course::{Costs, Fleet, Member, MemberState, State, in_millis};
use crate::core::rollout::quality::{QualityFigures, QualityVerdict};
use crate::core::world::money::Usd;
use crate::core::world::time::{Timestamp, in_words, millis};

/// A rollout as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    pub rollout_id: &'a str,
    /// See [`State::as_str`].
    pub state: &'static str,
    /// The current stage, counted from 1.
    pub stage: Option<usize>,
    pub begun_at: Timestamp,
    pub since: Timestamp,
    /// Since when it is paused by an operator.
    pub paused_at: Option<Timestamp>,
    /// Why it is being or was rolled back.
    pub reason: Option<&'a str>,
    pub probe: &'a str,
    pub stages: Vec<StageReport<'a>>,
    pub instances_analyzed: usize,
    /// Analyzed instances that would save money.
    pub opportunities: usize,
    pub candidates: usize,
    /// Members on spot whose on-demand instance is gone.
    pub moved: usize,
    /// Members on spot whose on-demand instance still exists.
    pub ready: usize,
    /// Members that could not be moved.
    pub failed: usize,
    pub restored: usize,
    /// Members that could not be put back and need an operator.
    pub stranded: usize,
    /// The share of attempted members that are on spot and respond, 0 to 1; `None` before the first attempt.
    pub success_rate: Option<f64>,
    /// The degradation of the last judgment in percent.
    pub degradation: Option<f64>,
    pub estimated_savings: Savings,
    /// What it saved so far in USD, at prices that the provider reported. Both instances are paid for while they run side
    /// by side, so this starts below zero. `None` while no price is known.
    #[serde(rename = "realisedSavings")]
    pub realized_savings: Option<f64>,
    /// The number of members of which both prices are known.
    pub prices_read_back: usize,
}

/// One stage as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReport<'a> {
    /// Cumulative share in percent.
    pub percent: u8,
    pub instances: usize,
    /// Those of its instances that are on spot.
    pub on_spot: usize,
    /// In milliseconds.
    #[serde(with = "in_millis")]
    pub soak: Duration,
    pub verdict: Option<QualityVerdict>,
    /// The reason for the verdict in one sentence.
    pub reason: Option<&'a str>,
    #[serde(rename = "effect")]
    pub figures: Option<&'a QualityFigures>,
    pub judged_at: Option<Timestamp>,
    /// The load of its GPUs. It decides nothing.
    pub load: Option<Load>,
}

/// The mean GPU load in percent of the instances for which it is known both before and now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// The number of those instances.
    pub instances: usize,
    pub before: f64,
    /// At the last measurement.
    pub now: f64,
}

impl Load {
    fn of<'a>(members: impl Iterator<Item = &'a Member>) -> Option<Self> {
        let known: Vec<(u32, u32)> = members.filter_map(|it| Some((it.load_before?, it.load_now?))).collect();
        let count = i64::try_from(known.len()).ok().filter(|count| *count > 0)?;
        let mean = |sum: i64| percent(sum / count);
        Some(Self {
            instances: known.len(),
            before: mean(known.iter().map(|(before, _)| i64::from(*before)).sum()),
            now: mean(known.iter().map(|(_, now)| i64::from(*now)).sum()),
        })
    }
}

/// Money in USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Savings {
    pub hourly: f64,
    /// For a month of 730 hours.
    pub monthly: f64,
    /// For a year of 8760 hours.
    pub annual: f64,
}

impl Savings {
    fn of(hourly: Usd) -> Self {
        Self { hourly: hourly.to_f64(), monthly: hourly.monthly().to_f64(), annual: hourly.annual().to_f64() }
    }
}

impl Costs {
    /// The hourly saving, if both costs are known; negative if spot costs more.
    #[must_use]
    pub fn saved(self) -> Option<Usd> {
        Some(self.on_demand?.minus(self.spot?))
    }
}

impl Member {
    /// What its move saved so far, in micro-USD per hour times milliseconds; `None` if a price is not known.
    fn realized(&self, now: Timestamp) -> Option<i128> {
        let Costs { on_demand, spot } = self.read_back;
        let since = |then: Option<Timestamp>| {
            let until = self.undone_at.unwrap_or(now);
            then.map_or(0, |then| i128::from(millis(until.since(then))))
        };
        let cost = |hourly: Usd, since_at| i128::from(hourly.micros()) * since(since_at);
        Some(cost(on_demand?, self.retired_at) - cost(spot?, self.ready_at))
    }
}

impl Fleet {
    /// The report as of `now`.
    #[must_use]
    pub fn report(&self, now: Timestamp) -> Report<'_> {
        let Self { rollout, members } = self;
        let on_spot = |member: &&Member| matches!(member.state, MemberState::Ready | MemberState::Moved);
        let tried = members.len() - self.count(MemberState::Waiting);
        let stages = rollout.stages.iter().enumerate().map(|(number, stage)| {
            let judgment = stage.judgment.as_ref();
            StageReport {
                percent: stage.percent,
                instances: stage.instances,
                on_spot: members.iter().filter(|it| it.stage == number).filter(on_spot).count(),
                soak: stage.soak,
                verdict: judgment.map(|it| it.verdict),
                reason: judgment.map(|it| it.reason.as_str()),
                figures: judgment.map(|it| &it.figures),
                judged_at: stage.judged_at,
                load: Load::of(members.iter().filter(|it| it.stage == number).filter(on_spot)),
            }
        });
        let judged = rollout.stages.iter().filter(|stage| stage.judged_at.is_some());
        let last = judged.max_by_key(|stage| stage.judged_at).and_then(|stage| stage.judgment.as_ref());
        Report {
            rollout_id: &rollout.id,
            state: rollout.state.as_str(),
            stage: rollout.state.stage().map(|stage| stage + 1),
            begun_at: rollout.begun_at,
            since: rollout.state.since(),
            paused_at: rollout.paused_at,
            reason: rollout.state.why(),
            probe: &rollout.probe,
            stages: stages.collect(),
            instances_analyzed: rollout.analyzed,
            opportunities: rollout.opportunities,
            candidates: members.len(),
            moved: self.count(MemberState::Moved),
            ready: self.count(MemberState::Ready),
            failed: self.count(MemberState::Failed),
            restored: self.count(MemberState::Restored),
            stranded: self.count(MemberState::Stranded),
            success_rate: (tried > 0).then(|| share(members.iter().filter(on_spot).count(), tried)),
            degradation: last.and_then(|it| it.figures.degradation).map(percent),
            estimated_savings: Savings::of(self.estimated()),
            realized_savings: self.realized(now).map(Usd::to_f64),
            prices_read_back: members.iter().filter(|member| member.realized(now).is_some()).count(),
        }
    }

    /// The hourly saving expected of all members together.
    #[must_use]
    pub fn estimated(&self) -> Usd {
        self.members.iter().filter_map(|member| member.estimate.saved()).sum()
    }

    /// What it saved so far at the prices that the provider reported, in whole 1/100000 USD; `None` while none is known.
    #[must_use]
    pub fn realized(&self, now: Timestamp) -> Option<Usd> {
        let known = self.members.iter().filter_map(|member| member.realized(now));
        let hundred_thousandths = known.reduce(|sum, realized| sum + realized)? / (10 * 3_600_000);
        Some(Usd::from_micros(i64::try_from(10 * hundred_thousandths).unwrap_or(i64::MAX)))
    }

    /// What the next call will do, in one sentence.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> String {
        let Self { rollout, .. } = self;
        let stage = |stage: usize| rollout.stages.get(stage).map_or(0, |stage| stage.percent);
        let until = |at: Timestamp| in_words(at.since(now));
        if rollout.paused_at.is_some() {
            return "nothing until respot rollout resume".into();
        }
        match &rollout.state {
            State::Moving { stage: at, .. } => format!("moves the instances of the {} % stage", stage(*at)),
            State::Soaking { stage: at, since } => {
                let due = *since + self.soak(*at);
                if now < due {
                    format!("watches the {} % stage, and decides in {}", stage(*at), until(due))
                } else {
                    format!("decides on the {} % stage", stage(*at))
                }
            }
            State::Held { stage: at, since } => {
                let left = until(*since + rollout.hold);
                format!("measures the {} % stage again, and rolls back in {left} at the latest", stage(*at))
            }
            State::Retiring { .. } => "deletes on-demand instances that have a successor".into(),
            State::RollingBack { .. } => "continues to put back what was moved".into(),
            State::Over { .. } => "nothing: the rollout is over".into(),
        }
    }
}

/// Basis points in percent.
#[expect(clippy::cast_precision_loss, reason = "for people and scripts; decisions are made on the integers")]
fn percent(points: i64) -> f64 {
    points as f64 / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "a share of at most some thousand instances")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
