//! What a rollout did and saved, for screens, events and scripts.

use serde::Serialize;

use crate::core::rollout::course::{Costs, Fleet, Member, MemberState, State};
use crate::core::rollout::gate::{Effect, Verdict};
use crate::core::world::money::Usd;
use crate::core::world::time::{Timestamp, millis};

/// A rollout as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    /// Its id.
    pub rollout_id: &'a str,
    /// The word for how far it is; see [`State::as_str`].
    pub state: &'static str,
    /// The stage it is at, counted from 1.
    pub stage: Option<usize>,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// Since when it is where it is.
    pub since: Timestamp,
    /// Since when a person holds it.
    pub paused_at: Option<Timestamp>,
    /// Why it goes back, or went.
    pub reason: Option<&'a str>,
    /// What it measures with.
    pub probe: &'a str,
    /// Its stages.
    pub stages: Vec<StageReport<'a>>,
    /// Instances that were analysed.
    pub instances_analyzed: usize,
    /// Of those, the ones that would save money.
    pub opportunities: usize,
    /// Of those, the ones that it is about.
    pub candidates: usize,
    /// On spot, and the on-demand instance gone.
    pub moved: usize,
    /// On spot, and the on-demand instance still there.
    pub ready: usize,
    /// Not moved.
    pub failed: usize,
    /// Put back.
    pub restored: usize,
    /// Neither: a person has to look.
    pub stranded: usize,
    /// Share of the instances that were tried which are on spot and answer, 0 to 1; `None` before the first.
    pub success_rate: Option<f64>,
    /// What the last judgement found, in percent.
    pub degradation: Option<f64>,
    /// What it was expected to save in all, in USD.
    pub estimated_savings: Savings,
    /// What it saved so far in USD, at prices that the provider gave back. Both instances are paid for while they run side
    /// by side, so that it begins below zero. `None` while no price is known.
    pub realised_savings: Option<f64>,
    /// Of how many instances both prices are known.
    pub prices_read_back: usize,
}

/// One stage as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReport<'a> {
    /// Cumulative share in percent.
    pub percent: u8,
    /// Instances of its own.
    pub instances: usize,
    /// Of those, on spot.
    pub on_spot: usize,
    /// How long it soaks, in milliseconds.
    pub soak: i64,
    /// What the last judgement says.
    pub verdict: Option<Verdict>,
    /// In one sentence.
    pub reason: Option<&'a str>,
    /// What it rests on.
    pub effect: Option<&'a Effect>,
    /// When it was made.
    pub judged_at: Option<Timestamp>,
    /// How busy the GPUs of its instances are, as the provider has it. It decides nothing.
    pub load: Option<Load>,
}

/// The mean load of GPUs, in percent, of instances of which both are known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// How many instances that is.
    pub instances: usize,
    /// Before the first move.
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
    /// Per hour.
    pub hourly: f64,
    /// Per month of 730 hours.
    pub monthly: f64,
    /// Per year of twelve of those.
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
        Some(self.on_demand? - self.spot?)
    }
}

impl Member {
    /// What its move saved so far, in micro-USD per hour times milliseconds; `None` if a price is not known.
    fn realised(&self, now: Timestamp) -> Option<i128> {
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
            let judgement = stage.judgement.as_ref();
            StageReport {
                percent: stage.percent,
                instances: stage.instances,
                on_spot: members.iter().filter(|it| it.stage == number).filter(on_spot).count(),
                soak: stage.soak,
                verdict: judgement.map(|it| it.verdict),
                reason: judgement.map(|it| it.reason.as_str()),
                effect: judgement.map(|it| &it.effect),
                judged_at: stage.judged_at,
                load: Load::of(members.iter().filter(|it| it.stage == number).filter(on_spot)),
            }
        });
        let judged = rollout.stages.iter().filter(|stage| stage.judged_at.is_some());
        let last = judged.max_by_key(|stage| stage.judged_at).and_then(|stage| stage.judgement.as_ref());
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
            degradation: last.and_then(|it| it.effect.degradation).map(percent),
            estimated_savings: Savings::of(self.estimated()),
            realised_savings: self.realised(now).map(Usd::to_f64),
            prices_read_back: members.iter().filter(|member| member.realised(now).is_some()).count(),
        }
    }

    /// The hourly saving expected of all members together.
    #[must_use]
    pub fn estimated(&self) -> Usd {
        self.members.iter().filter_map(|member| member.estimate.saved()).sum()
    }

    /// What it saved so far at the prices that the provider reported, in whole 1/100000 USD; `None` while none is known.
    #[must_use]
    pub fn realised(&self, now: Timestamp) -> Option<Usd> {
        let known = self.members.iter().filter_map(|member| member.realised(now));
        let hundred_thousandths = known.reduce(|sum, realised| sum + realised)? / (10 * 3_600_000);
        Some(Usd::from_micros(i64::try_from(10 * hundred_thousandths).unwrap_or(i64::MAX)))
    }

    /// What the schedule does next, in one sentence.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> String {
        let Self { rollout, .. } = self;
        let stage = |stage: usize| rollout.stages.get(stage).map_or(0, |stage| stage.percent);
        let until = |at: Timestamp| crate::core::world::time::in_words(at.since(now));
        if rollout.paused_at.is_some() {
            return "nothing until respot rollout resume".into();
        }
        match &rollout.state {
            State::Moving { stage: at, .. } => format!("moves the instances of the {} % stage", stage(*at)),
            State::Soaking { stage: at, since } => {
                let soak = rollout.stages.get(*at).map_or(0, |stage| stage.soak);
                let due = *since + std::time::Duration::from_millis(u64::try_from(soak).unwrap_or(0));
                if now < due {
                    format!("watches the {} % stage, and decides in {}", stage(*at), until(due))
                } else {
                    format!("decides on the {} % stage", stage(*at))
                }
            }
            State::Held { stage: at, since } => {
                let hold = std::time::Duration::from_millis(u64::try_from(rollout.hold).unwrap_or(0));
                let left = until(*since + hold);
                format!("measures the {} % stage again, and puts everything back in {left} at the latest", stage(*at))
            }
            State::Retiring { .. } => "deletes on-demand instances that have a successor".into(),
            State::RollingBack { .. } => "goes on putting back what was moved".into(),
            State::Over { .. } => "nothing: it is over".into(),
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
