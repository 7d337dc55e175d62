//! A rollout: on-demand instances become spot instances in stages, with a gate after each stage and a way back.
//!
//! ```text
//! moving(stage) -> soaking(stage) -> moving(next stage) -> ... -> retiring -> over: completed
//!                    |       ^
//!                    v       |      inconclusive
//!                   held(stage)
//! a gate fails, a hold times out, an operator aborts: -> rolling back -> over: rolled_back, aborted, failed
//! ```
//!
//! The rollout decides what it wants of each instance ([`Fleet::works`]). The journal of recreations carries that out in
//! either direction, and knows what a crash left open. The on-demand instance stays until the whole rollout has passed, so
//! a rollback usually just deletes what was created. A scheduler calls, and each call takes at most one step: no time is
//! slept away, only read from the clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quality::Judgment;
use crate::core::recreation::marker::hash;
use crate::core::world::instance::InstanceId;
use crate::core::world::money::Usd;
use crate::core::world::probe::{Measurement, Probe};
use crate::core::world::time::Timestamp;

/// The operator's settings for a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Cumulative shares in percent, increasing.
    pub stages: Vec<u8>,
    /// How long each stage soaks; one entry for each stage.
    pub soaks: Vec<Duration>,
    /// How long an inconclusive stage is held, and how long a new instance may take to run and respond.
    pub hold: Duration,
    pub rollback: RollbackScope,
    pub max_moves: Option<usize>,
    /// Samples for each measurement of an instance.
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
    All,
    /// The stage that failed; earlier stages stay.
    Stage,
}

/// A rollout as it is stored, without its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// `rollout-` and a ULID, so ids sort by time.
    pub id: String,
    pub begun_at: Timestamp,
    pub state: State,
    /// Since when it is paused by an operator.
    pub paused_at: Option<Timestamp>,
    pub stages: Vec<RolloutStage>,
    /// See [`Course::hold`].
    #[serde(with = "in_millis")]
    pub hold: Duration,
    pub rollback: RollbackScope,
    /// The probe, as [`label`] writes it.
    pub probe: String,
    pub samples: u32,
    /// Instances that were analyzed.
    pub analyzed: usize,
    /// Analyzed instances that would save money.
    pub opportunities: usize,
    /// When it was last measured.
    pub checked_at: Option<Timestamp>,
    /// Whether this call has a hook that moves traffic.
    #[serde(skip)]
    pub has_hook: bool,
}

/// One stage of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStage {
    /// Cumulative share in percent.
    pub percent: u8,
    #[serde(with = "in_millis")]
    pub soak: Duration,
    /// Instances that this stage moves, not counting those of earlier stages.
    pub instances: usize,
    /// The last judgment.
    #[serde(rename = "judgement")]
    pub judgment: Option<Judgment>,
    pub judged_at: Option<Timestamp>,
}

/// The progress of a rollout. Stages are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "name", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum State {
    /// The instances of a stage are being moved.
    Moving {
        stage: usize,
        since: Timestamp,
    },
    /// The moved instances run and are watched.
    Soaking {
        stage: usize,
        since: Timestamp,
    },
    Held {
        stage: usize,
        since: Timestamp,
    },
    /// No stage is left to judge: on-demand instances that have a successor are being deleted.
    Retiring {
        since: Timestamp,
        /// How the rollout ends after that.
        end: RolloutEnd,
        /// Why it is not completed, if so.
        why: Option<String>,
    },
    /// Moved instances are being put back.
    RollingBack {
        since: Timestamp,
        /// The first stage that is rolled back.
        from: usize,
        why: String,
        /// How the rollout ends after that.
        end: RolloutEnd,
    },
    Over {
        since: Timestamp,
        end: RolloutEnd,
        /// Why it is not completed, if so.
        why: Option<String>,
    },
}

/// How a rollout ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RolloutEnd {
    /// Everything that could be moved was moved, and passed.
    Completed,
    /// An instance could neither be moved nor put back, and needs an operator.
    Failed,
    /// A gate failed, and what it covers was put back.
    RolledBack,
    /// An operator aborted it, and everything was put back.
    Aborted,
}

impl State {
    /// Its name in JSON; the name of its end when it is over.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Over { end, .. } => end.into_str(),
            state => state.into_str(),
        }
    }

    /// When it entered this state.
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

    /// The current stage, counted from 0.
    #[must_use]
    pub fn stage(&self) -> Option<usize> {
        match self {
            Self::Moving { stage, .. } | Self::Soaking { stage, .. } | Self::Held { stage, .. } => Some(*stage),
            Self::Retiring { .. } | Self::RollingBack { .. } | Self::Over { .. } => None,
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<RolloutEnd> {
        match self {
            Self::Over { end, .. } => Some(*end),
            _ => None,
        }
    }

    /// Why it is not going well, if so.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::RollingBack { why, .. } => Some(why),
            Self::Retiring { why, .. } | Self::Over { why, .. } => why.as_deref(),
            Self::Moving { .. } | Self::Soaking { .. } | Self::Held { .. } => None,
        }
    }
}

/// One instance of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub id: InstanceId,
    pub name: String,
    /// Its position in the order of moves; the lowest risk comes first.
    pub rank: usize,
    /// The stage that moves it, counted from 0.
    pub stage: usize,
    pub gpu_num: u32,
    /// The costs expected when the rollout started.
    pub estimate: Costs,
    /// The costs that the provider reported for the instances themselves.
    pub read_back: Costs,
    /// The measurements before the first move, and of the on-demand instance at each check since.
    pub baseline: Measurement,
    /// The last measurement of its successor.
    pub latest: Option<Measurement>,
    /// The load of its GPUs before the first move, in hundredths of a percent, if the provider reported it. It is shown but
    /// decides nothing: it reveals an application that responds quickly only because it receives no requests.
    #[serde(default)]
    pub load_before: Option<u32>,
    /// The load of its successor's GPUs at the last measurement.
    #[serde(default)]
    pub load_now: Option<u32>,
    pub state: MemberState,
    /// The instance that replaces it, once it exists.
    pub successor: Option<InstanceId>,
    /// When the successor ran, with the right billing mode, and responded.
    pub ready_at: Option<Timestamp>,
    /// When the on-demand instance was gone.
    pub retired_at: Option<Timestamp>,
    /// When a successor that had been ready was gone.
    pub undone_at: Option<Timestamp>,
    /// Since when a successor that had been ready is not seen running, although nothing says that it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled_since: Option<Timestamp>,
    /// Since when a successor whose on-demand instance is about to go does not respond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
    /// The instance that serves, as the hook last confirmed; `None` before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<InstanceId>,
    /// The instance that its traffic was about to be moved to when it was last moved, until that is confirmed: it may serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switching: Option<InstanceId>,
    /// The successor that was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<InstanceId>,
    /// Whether its recreation is open in the journal.
    pub is_open: bool,
    /// Why it is not moved, or not put back.
    pub note: Option<String>,
}

/// The hourly cost of all GPUs of one instance; `None` if unknown. Stored in 1/100000 USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    pub on_demand: Option<Usd>,
    pub spot: Option<Usd>,
}

/// The progress of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum MemberState {
    Waiting,
    /// Its successor is being created or does not respond yet.
    Moving,
    /// Its successor runs and responds, and the on-demand instance still runs.
    Ready,
    /// The on-demand instance is gone, and its successor has taken over.
    Moved,
    /// It could not be moved and stays; its successor, if any, is being deleted.
    Failed,
    /// It stays, and its successor is being deleted by a rollback.
    Undoing,
    /// The on-demand instance was gone already: a new one is being created from its successor.
    Returning,
    /// It runs on demand, as before or recreated.
    Restored,
    /// It could not be put back and needs an operator.
    Stranded,
}

/// A rollout with its members in the order of their ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    pub rollout: Rollout,
    pub members: Vec<Member>,
}

/// An instance to be moved, with what was measured before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub id: InstanceId,
    pub name: String,
    pub gpu_num: u32,
    pub estimate: Costs,
    /// The hourly cost that the provider reports for it now.
    pub on_demand_cost: Option<Usd>,
    pub baseline: Measurement,
    /// The load of its GPUs in hundredths of a percent, if the provider reports it.
    pub load: Option<u32>,
}

/// How many instances are moved after a stage: rounded up, and at least one.
#[must_use]
pub fn cumulative(percent: u8, instances: usize) -> usize {
    (instances * usize::from(percent)).div_ceil(100).clamp(1, instances.max(1)).min(instances)
}

/// How a probe is named in the store and on screens. A command may contain a secret, so only its hash is kept, which is
/// enough to recognize it.
#[must_use]
pub fn label(probe: &Probe) -> String {
    match probe {
        Probe::Http { .. } | Probe::Tcp { .. } => probe.to_string(),
        Probe::Command(command) => format!("exec:#{:016x}", hash(&[command])),
    }
}

impl Fleet {
    /// Starts a rollout: freezes its candidates in their order. Candidates beyond the last stage are left out.
    #[must_use]
    pub fn start(
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
                    unsettled_since: None,
                    silent_since: None,
                    serves: None,
                    switching: None,
                    withdrawn: None,
                    is_open: false,
                    note: None,
                })
            })
            .collect();
        let of_stage = |stage| members.iter().filter(|member| member.stage == stage).count();
        let stages = stages.iter().zip(soaks).enumerate().map(|(stage, (percent, soak))| RolloutStage {
            percent: *percent,
            soak: *soak,
            instances: of_stage(stage),
            judgment: None,
            judged_at: None,
        });
        let rollout = Rollout {
            id,
            begun_at: now,
            state: State::Moving { stage: 0, since: now },
            paused_at: None,
            stages: stages.collect(),
            hold: *hold,
            rollback: *rollback,
            probe: label(probe),
            samples: *samples,
            analyzed,
            opportunities,
            checked_at: None,
            has_hook: false,
        };
        Self { rollout, members }
    }

    /// The number of members in a state.
    #[must_use]
    pub fn count(&self, state: MemberState) -> usize {
        self.members.iter().filter(|member| member.state == state).count()
    }

    /// Pauses it; `false` if it is paused already, or over.
    pub fn pause(&mut self, now: Timestamp) -> bool {
        let may = self.rollout.state.end().is_none() && self.rollout.paused_at.is_none();
        if may {
            self.rollout.paused_at = Some(now);
        }
        may
    }

    /// Resumes it; `false` if it is not paused. The time of the pause counts neither as soak nor as hold.
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

/// A duration in whole milliseconds, as records and documents hold it.
pub(super) mod in_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::core::world::time::millis;

    pub(in crate::core::rollout) fn serialize<S: Serializer>(it: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(millis(*it))
    }

    pub(in crate::core::rollout) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests;
