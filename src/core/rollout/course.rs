//! A rollout: on-demand instances become spot ones in stages, with a gate after each, and back again if that was wrong.
//!
//! ```text
//! moving(stage) -> soaking(stage) -> moving(next stage) -> ... -> retiring -> over: completed
//!                    |       ^
//!                    v       |      what cannot be told is held
//!                   held(stage)
//! a gate that fails, a hold that lasts too long, a person: -> rolling back -> over: rolled_back, aborted, failed
//! ```
//!
//! The rollout decides what it wants of each instance ([`Fleet::works`]); how that is done, and what a crash leaves open,
//! is the matter of the journal of recreations, which both directions of a move are. The on-demand instance stays until
//! the whole rollout has passed, so that nearly every rollback is the deletion of what was made. Time is read from the
//! clock and never slept: a scheduler calls, and each call takes at most one step.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gate::Judgement;
use crate::core::recreation::marker::hash;
use crate::core::world::instance::InstanceId;
use crate::core::world::money::Usd;
use crate::core::world::probe::{Measurement, Probe};
use crate::core::world::time::{Timestamp, millis};

/// How a rollout goes, as the operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Cumulative shares in percent, increasing.
    pub stages: Vec<u8>,
    /// How long each stage soaks; as many as there are stages.
    pub soaks: Vec<Duration>,
    /// How long it is held for what cannot be told, and for an instance that does not come up.
    pub hold: Duration,
    /// What is rolled back when a gate fails.
    pub rollback: RollbackScope,
    /// At most so many instances are moved.
    pub max_moves: Option<usize>,
    /// Samples of each measurement of an instance.
    pub samples: u32,
}

impl Course {
    pub const STAGES: [u8; 3] = [10, 50, 100];
    pub const SOAK_MINUTES: [u16; 3] = [5, 10, 15];
    pub const HOLD: Duration = Duration::from_secs(3600);
    pub const ROLLBACK: RollbackScope = RollbackScope::All;
    pub const SAMPLES: u32 = 100;
}

impl Default for Course {
    fn default() -> Self {
        Self {
            stages: Self::STAGES.into(),
            soaks: Self::SOAK_MINUTES.map(|minutes| Duration::from_secs(60 * u64::from(minutes))).into(),
            hold: Self::HOLD,
            rollback: Self::ROLLBACK,
            max_moves: None,
            samples: Self::SAMPLES,
        }
    }
}

/// What is rolled back when a gate fails.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum RollbackScope {
    /// Everything that was moved.
    All,
    /// The stage that failed; what passed before stays.
    Stage,
}

/// A rollout, as it is stored, without its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// `rollout-` and a ULID: sorts by time.
    pub id: String,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// How far it is.
    pub state: State,
    /// Since when a person holds it.
    pub paused_at: Option<Timestamp>,
    /// Its stages.
    pub stages: Vec<Stage>,
    /// How long it is held for what cannot be told, in milliseconds.
    pub hold: i64,
    /// What is rolled back when a gate fails.
    pub rollback: RollbackScope,
    /// What it measures with; see [`label`].
    pub probe: String,
    /// Samples of each measurement.
    pub samples: u32,
    /// How many instances were analysed.
    pub analyzed: usize,
    /// How many of those would save money.
    pub opportunities: usize,
    /// When it was last measured.
    pub checked_at: Option<Timestamp>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Cumulative share in percent.
    pub percent: u8,
    /// How long it soaks, in milliseconds.
    pub soak: i64,
    /// Instances that it moves; those of earlier stages not counted.
    pub instances: usize,
    /// What the last measurement says.
    pub judgement: Option<Judgement>,
    /// When that was.
    pub judged_at: Option<Timestamp>,
}

/// How far a rollout is. Stages are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "name", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum State {
    /// The instances of a stage are moved.
    Moving {
        /// Which stage.
        stage: usize,
        /// Since when.
        since: Timestamp,
    },
    /// They run, and are watched.
    Soaking {
        /// Which stage.
        stage: usize,
        /// Since when.
        since: Timestamp,
    },
    /// Whether they do well cannot be told.
    Held {
        /// Which stage.
        stage: usize,
        /// Since when.
        since: Timestamp,
    },
    /// All that was to be seen was seen: on-demand instances that have a successor are deleted.
    Retiring {
        /// Since when.
        since: Timestamp,
        /// How it ends then.
        end: End,
        /// Why not everything passed, if so.
        why: Option<String>,
    },
    /// What was moved is put back.
    RollingBack {
        /// Since when.
        since: Timestamp,
        /// The first stage that is.
        from: usize,
        /// Why.
        why: String,
        /// How it ends then.
        end: End,
    },
    /// It is over, and stays so.
    Over {
        /// Since when.
        since: Timestamp,
        /// How.
        end: End,
        /// Why, unless all went well.
        why: Option<String>,
    },
}

/// How a rollout ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum End {
    /// Everything that could be moved is, and passed.
    Completed,
    /// Something could be neither moved nor put back: a person has to look.
    Failed,
    /// A gate failed, and what it was about is back.
    RolledBack,
    /// A person ended it, and everything is back.
    Aborted,
}

impl State {
    /// The word for it; that of its end when it is over.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Over { end, .. } => end.into_str(),
            state => state.into_str(),
        }
    }

    /// Since when.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        match self {
            Self::Moving { since, .. }
            | Self::Soaking { since, .. }
            | Self::Held { since, .. }
            | Self::Retiring { since, .. }
            | Self::RollingBack { since, .. }
            | Self::Over { since, .. } => *since,
        }
    }

    /// The stage it is at, counted from 0.
    #[must_use]
    pub fn stage(&self) -> Option<usize> {
        match self {
            Self::Moving { stage, .. } | Self::Soaking { stage, .. } | Self::Held { stage, .. } => Some(*stage),
            Self::Retiring { .. } | Self::RollingBack { .. } | Self::Over { .. } => None,
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self {
            Self::Over { end, .. } => Some(*end),
            _ => None,
        }
    }

    /// What it goes wrong for, if it does.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::RollingBack { why, .. } => Some(why),
            Self::Retiring { why, .. } | Self::Over { why, .. } => why.as_deref(),
            Self::Moving { .. } | Self::Soaking { .. } | Self::Held { .. } => None,
        }
    }
}

/// One instance that a rollout is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The on-demand instance.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// Its place in the order; the lowest risk comes first.
    pub rank: usize,
    /// The stage that moves it, counted from 0.
    pub stage: usize,
    /// Its GPUs.
    pub gpu_num: u32,
    /// The costs expected when the rollout started.
    pub estimate: Costs,
    /// The costs that the provider reported for the instances themselves.
    pub read_back: Costs,
    /// The measurement before the first move.
    pub baseline: Measurement,
    /// The last one since.
    pub latest: Option<Measurement>,
    /// How busy its GPUs were before the first move, in hundredths of a percent, if the provider said. It decides nothing:
    /// an application that answers quickly because nobody asks it shows here.
    #[serde(default)]
    pub load_before: Option<u32>,
    /// The same of its successor, at the last measurement.
    #[serde(default)]
    pub load_now: Option<u32>,
    /// How far it is.
    pub state: MemberState,
    /// The instance in its place, once there is one.
    pub successor: Option<InstanceId>,
    /// When that one was seen to run, billed as it should be, and to answer.
    pub ready_at: Option<Timestamp>,
    /// When the on-demand one was gone.
    pub retired_at: Option<Timestamp>,
    /// When its successor was gone again, if it was there.
    pub undone_at: Option<Timestamp>,
    /// Whether its recreation is open.
    pub is_open: bool,
    /// Why it is not moved, or not put back.
    pub note: Option<String>,
}

/// The hourly cost of all GPUs of one instance; `None` if unknown. Stored in 1/100000 USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// On demand.
    pub on_demand: Option<Usd>,
    /// As spot.
    pub spot: Option<Usd>,
}

/// How far one instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum MemberState {
    /// Its stage has not come.
    Waiting,
    /// Its successor is made, and awaited.
    Moving,
    /// Its successor runs and answers; it runs as well.
    Ready,
    /// It is gone, and its successor has its place.
    Moved,
    /// It could not be moved and stays; a successor, if any, is deleted.
    Failed,
    /// It stays, and its successor is deleted, since the rollout goes back.
    Undoing,
    /// It was gone already: an on-demand instance is made from its successor.
    Returning,
    /// It runs on-demand, as before or anew.
    Restored,
    /// It could not be put back: a person has to look.
    Stranded,
}

/// A rollout with its members, in the order of their ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The rollout.
    pub rollout: Rollout,
    /// Its members.
    pub members: Vec<Member>,
}

/// An instance that is to be moved, with what was found out before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The on-demand instance.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// Its GPUs.
    pub gpu_num: u32,
    /// What it is expected to cost.
    pub estimate: Costs,
    /// What the provider says that it costs now.
    pub on_demand_cost: Option<Usd>,
    /// The measurement before the first move.
    pub baseline: Measurement,
    /// How busy its GPUs are, in hundredths of a percent, if the provider says.
    pub load: Option<u32>,
}

/// How many instances are moved when a stage is through: rounded up, at least one, never more than there are.
#[must_use]
pub fn cumulative(percent: u8, instances: usize) -> usize {
    (instances * usize::from(percent)).div_ceil(100).clamp(1, instances.max(1)).min(instances)
}

/// What a probe is called in the store and on screens. A command is the operator's own and may hold a secret, so only a
/// sum of it is kept: enough to tell that it is the same.
#[must_use]
pub fn label(probe: &Probe) -> String {
    match probe {
        Probe::Http { .. } | Probe::Tcp { .. } => probe.to_string(),
        Probe::Command(command) => format!("exec:#{:016x}", hash(&[command])),
    }
}

impl Fleet {
    /// A rollout that begins: its candidates are frozen in their order. What lies beyond the last stage is left out.
    #[must_use]
    pub fn begin(
        id: String,
        candidates: Vec<Candidate>,
        course: &Course,
        probe: &Probe,
        (analyzed, opportunities): (usize, usize),
        now: Timestamp,
    ) -> Self {
        let Course { stages, soaks, hold, rollback, max_moves, samples } = course;
        let count = max_moves.map_or(candidates.len(), |most| most.min(candidates.len()));
        let ends: Vec<usize> = stages.iter().map(|percent| cumulative(*percent, count)).collect();
        let members: Vec<Member> = candidates
            .into_iter()
            .take(count)
            .enumerate()
            .filter_map(|(rank, candidate)| {
                let stage = ends.iter().position(|end| rank < *end)?;
                let Candidate { id, name, gpu_num, estimate, on_demand_cost, baseline, load } = candidate;
                let read_back = Costs { on_demand: on_demand_cost, spot: None };
                Some(Member {
                    id,
                    name,
                    rank,
                    stage,
                    gpu_num,
                    estimate,
                    read_back,
                    baseline,
                    latest: None,
                    load_before: load,
                    load_now: None,
                    state: MemberState::Waiting,
                    successor: None,
                    ready_at: None,
                    retired_at: None,
                    undone_at: None,
                    is_open: false,
                    note: None,
                })
            })
            .collect();
        let of_stage = |stage| members.iter().filter(|member| member.stage == stage).count();
        let stages = stages.iter().zip(soaks).enumerate().map(|(stage, (percent, soak))| Stage {
            percent: *percent,
            soak: millis(*soak),
            instances: of_stage(stage),
            judgement: None,
            judged_at: None,
        });
        let rollout = Rollout {
            id,
            begun_at: now,
            state: State::Moving { stage: 0, since: now },
            paused_at: None,
            stages: stages.collect(),
            hold: millis(*hold),
            rollback: *rollback,
            probe: label(probe),
            samples: *samples,
            analyzed,
            opportunities,
            checked_at: None,
        };
        Self { rollout, members }
    }

    /// How many members are in this state.
    #[must_use]
    pub fn count(&self, state: MemberState) -> usize {
        self.members.iter().filter(|member| member.state == state).count()
    }

    /// A person holds it. Nothing changes if somebody does already, or it is over.
    pub fn pause(&mut self, now: Timestamp) -> bool {
        let may = self.rollout.state.end().is_none() && self.rollout.paused_at.is_none();
        if may {
            self.rollout.paused_at = Some(now);
        }
        may
    }

    /// It goes on. The time of the pause counts neither as soak nor as hold.
    pub fn resume(&mut self, now: Timestamp) -> bool {
        let Some(paused_at) = self.rollout.paused_at.take() else { return false };
        let away = now.since(paused_at);
        match &mut self.rollout.state {
            State::Moving { since, .. }
            | State::Soaking { since, .. }
            | State::Held { since, .. }
            | State::Retiring { since, .. }
            | State::RollingBack { since, .. } => *since = *since + away,
            State::Over { .. } => {}
        }
        true
    }
}

#[cfg(test)]
mod tests;
