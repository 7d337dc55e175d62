//! The journal of one recreation: its step, what is observed of it, and what comes next.
//!
//! Three functions, each one exhaustive match over [`Step`]: [`Recreation::apply`] takes what the program did,
//! [`Recreation::observe`] takes what is seen of both instances, [`next`] says what to do now. Recovery after a crash is
//! `observe` and `next` on what was stored.
//!
//! ```text
//! create-first:  pending -> intent -> created -> running -> deleted -> closed
//! delete-first:  pending -> deleting -> pending (with the specification) -> intent -> created -> closed
//! setbacks:      intent, created, running -> pending, one failure more;  created -> abandoned -> pending
//! dead ends:     ended, with its reason
//! ```

mod cause;
pub mod moves;
mod unfit;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::cause::Cause;
pub use self::unfit::Unfit;
use crate::core::recreation::blueprint::Blueprint;
use crate::core::world::instance::InstanceId;
use crate::core::world::policy::RecreateOrder;
use crate::core::world::time::Timestamp;
use crate::core::world::times::{PATIENCE, SETTLE_TIME};

/// The failed recreations in a row after which an instance is left alone.
pub const MOST_FAILURES: u32 = 3;

/// How long it is left alone then.
pub const QUARANTINE: Duration = Duration::from_secs(24 * 3600);

/// How long a closed recreation is remembered: rows of deleted instances linger, and requests may arrive late.
pub const CLOSED_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long one that ended without a successor is shown.
pub const ENDED_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The recreation of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recreation {
    pub instance_name: String,
    pub cause: Cause,
    pub marker: String,
    pub opened_at: Timestamp,
    pub pass: String,
    /// Failures in a row.
    pub failures: u32,
    pub last_error: Option<String>,
    #[serde(flatten)]
    pub step: Step,
    /// When it came to this step.
    pub since: Timestamp,
    /// What the replacement lacks of the old instance, or what was assumed for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The step of a recreation. It is stored before the call that it allows is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[strum(serialize_all = "camelCase", const_into_str)]
pub enum Step {
    /// Nothing is under way; the next thing is to create, or to delete if that comes first.
    Pending {
        /// Kept since the old instance is gone, in the order delete-first.
        kept: Option<Box<Blueprint>>,
    },
    /// Delete-first: the specification is safe, the old instance may be deleted.
    Deleting {
        kept: Box<Blueprint>,
    },
    /// The call that creates the replacement may have been sent.
    Intent {
        kept: Option<Box<Blueprint>>,
    },
    Created {
        replacement: InstanceId,
        kept: Option<Box<Blueprint>>,
    },
    /// The replacement was seen running, the old instance may be deleted.
    Running {
        replacement: InstanceId,
    },
    Deleted {
        replacement: InstanceId,
    },
    /// The replacement is given up, and may be deleted.
    Abandoned {
        replacement: InstanceId,
        kept: Option<Box<Blueprint>>,
    },
    Closed {
        /// The successor; `None` if none was needed any more.
        replacement: Option<InstanceId>,
    },
    /// Over without a successor; `last_error` says why.
    Ended,
}

impl Step {
    /// The replacement, once there is one.
    #[must_use]
    pub fn replacement(&self) -> Option<&InstanceId> {
        match self {
            Self::Created { replacement, .. }
            | Self::Running { replacement }
            | Self::Deleted { replacement }
            | Self::Abandoned { replacement, .. } => Some(replacement),
            Self::Closed { replacement } => replacement.as_ref(),
            Self::Pending { .. } | Self::Deleting { .. } | Self::Intent { .. } | Self::Ended => None,
        }
    }

    /// The specification, where it is kept because the old instance is gone, or about to go.
    #[must_use]
    pub fn kept(&self) -> Option<&Blueprint> {
        match self {
            Self::Pending { kept }
            | Self::Intent { kept }
            | Self::Created { kept, .. }
            | Self::Abandoned { kept, .. } => kept.as_deref(),
            Self::Deleting { kept } => Some(kept),
            Self::Running { .. } | Self::Deleted { .. } | Self::Closed { .. } | Self::Ended => None,
        }
    }

    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Ended)
    }
}

/// What the program did, or is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Delete-first: the old instance is about to be deleted.
    DeleteOldFirst(Box<Blueprint>),
    Create,
    /// The provider refused to create, or there is nothing that could be requested.
    CreateRefused(String),
    /// Nothing can be created now, for this reason: no place has room, or the provider wants fewer calls. That is no failure of the
    /// recreation.
    PutOff(String),
    /// The call that creates was not sent after all. That is no failure of the recreation.
    CreateUnsent,
    Found(InstanceId),
    /// The old instance is about to be deleted.
    DeleteOld,
    DeletionAccepted,
    /// The replacement is about to be deleted, for this reason.
    Abandon(Unfit),
    /// There will be no replacement, since none is needed any more.
    CallOff,
    /// Both are left as they are, for this reason.
    LeaveBoth(String),
}

/// A transition that does not fit the step: an error in the program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a recreation at step {step} cannot take {transition}")]
pub struct Illegal {
    step: &'static str,
    transition: String,
}

impl Recreation {
    /// One that has not started.
    #[must_use]
    pub fn planned(name: &str, cause: Cause, marker: String, now: Timestamp) -> Self {
        Self {
            instance_name: name.into(),
            cause,
            marker,
            opened_at: now,
            pass: String::new(),
            failures: 0,
            last_error: None,
            step: Step::Pending { kept: None },
            since: now,
            notes: Vec::new(),
        }
    }

    /// The journal after a transition.
    ///
    /// # Errors
    /// [`Illegal`] when the transition does not fit the step.
    pub fn apply(self, transition: Transition, now: Timestamp) -> Result<Self, Illegal> {
        // After a quarantine failures count from zero.
        let is_served = matches!(self.step, Step::Pending { .. })
            && self.failures >= MOST_FAILURES
            && self.quarantined_until(now).is_none();
        let failures = if is_served { 0 } else { self.failures };
        let this = Self { failures, ..self };
        let step = match (this.step, transition) {
            (Step::Pending { kept: None }, Transition::DeleteOldFirst(spec)) => Step::Deleting { kept: spec },
            (Step::Deleting { kept }, Transition::DeleteOldFirst(_)) => Step::Deleting { kept },
            // From the intent again: the last placement was refused.
            (Step::Pending { kept } | Step::Intent { kept }, Transition::Create) => Step::Intent { kept },
            (Step::Pending { kept } | Step::Intent { kept }, Transition::CreateRefused(why)) => {
                let failed = Self { step: Step::Pending { kept: None }, ..this };
                return Ok(failed.failed(kept, why, now));
            }
            (Step::Intent { kept }, Transition::CreateUnsent) => Step::Pending { kept },
            // The next pass starts over, and may migrate it.
            (Step::Pending { kept: None } | Step::Intent { kept: None }, Transition::PutOff(why))
                if this.cause == Cause::Bridged || this.failures == 0 && this.cause.is_for_reclaim() =>
            {
                let step = Step::Closed { replacement: None };
                return Ok(Self { step, since: now, last_error: Some(why), ..this });
            }
            (Step::Pending { kept } | Step::Intent { kept }, Transition::PutOff(why)) => {
                return Ok(Self { step: Step::Pending { kept }, since: now, last_error: Some(why), ..this });
            }
            (Step::Pending { kept: None }, Transition::CallOff) => Step::Closed { replacement: None },
            (Step::Created { kept: None, .. } | Step::Abandoned { kept: None, .. }, Transition::LeaveBoth(why)) => {
                return Ok(Self { step: Step::Ended, since: now, last_error: Some(why), ..this });
            }
            (
                Step::Pending { kept } | Step::Intent { kept } | Step::Created { kept, .. },
                Transition::Found(replacement),
            ) => Step::Created { replacement, kept },
            // What was kept is not needed any more: the replacement runs.
            (
                Step::Created { replacement, .. } | Step::Running { replacement } | Step::Deleted { replacement },
                Transition::DeleteOld,
            ) => Step::Running { replacement },
            (Step::Running { replacement }, Transition::DeletionAccepted) => Step::Deleted { replacement },
            // The specification stays: the old instance is not gone for sure.
            (Step::Deleting { kept }, Transition::DeletionAccepted) => Step::Deleting { kept },
            (Step::Abandoned { replacement, kept }, Transition::Abandon(_)) => Step::Abandoned { replacement, kept },
            (Step::Created { replacement, kept }, Transition::Abandon(why)) => {
                let failures = this.failures + u32::from(why.is_failure());
                let step = Step::Abandoned { replacement, kept };
                return Ok(Self { failures, step, since: now, last_error: Some(why.to_string()), ..this });
            }
            // A rollout that is rolled back, after a deletion without effect.
            (Step::Running { replacement } | Step::Deleted { replacement }, Transition::Abandon(why))
                if matches!(this.cause, Cause::Moved { .. }) =>
            {
                let (failures, step) = (this.failures + 1, Step::Abandoned { replacement, kept: None });
                return Ok(Self { failures, step, since: now, last_error: Some(why.to_string()), ..this });
            }
            (
                step @ (Step::Pending { .. }
                | Step::Deleting { .. }
                | Step::Intent { .. }
                | Step::Created { .. }
                | Step::Running { .. }
                | Step::Deleted { .. }
                | Step::Abandoned { .. }
                | Step::Closed { .. }
                | Step::Ended),
                transition,
            ) => return Err(Illegal { step: step.into_str(), transition: format!("{transition:?}") }),
        };
        Ok(Self { step, since: now, ..this })
    }

    /// One failure more, and the next attempt from the start.
    fn failed(self, kept: Option<Box<Blueprint>>, why: String, now: Timestamp) -> Self {
        let failures = self.failures + 1;
        Self { failures, last_error: Some(why), step: Step::Pending { kept }, since: now, ..self }
    }

    /// Until when it is left alone after repeated failures.
    #[must_use]
    pub fn quarantined_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.since + QUARANTINE;
        let waits = matches!(self.step, Step::Pending { .. });
        (waits && self.failures >= MOST_FAILURES && now < until).then_some(until)
    }
}

/// What is observed of the old instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    Failed,
    Runs,
    /// It runs, and is to be replaced all the same: its reclaim is announced, or it only stands in.
    Leaving,
    /// It is exited, and no failed migration of it stands.
    Down,
    /// It was to go on running until its replacement runs, and a person stopped it.
    Stopped,
    /// Something is under way with it, or its state is unknown.
    Busy,
    Going,
    /// A complete listing does not have it.
    Gone,
}

/// What is observed of the replacement that the journal names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Successor {
    None,
    Running,
    ComingUp,
    /// It is listed and does not run: the rules for any other instance apply to it.
    Down,
    /// Its status says neither that it runs or will, nor that it has stopped.
    Unclear,
    /// It was reclaimed before it was seen running.
    Reclaimed,
    Failed(String),
    /// A complete listing does not have it, or it is being removed.
    Gone,
}

/// Everything that is observed of one recreation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    pub old: Old,
    pub successor: Successor,
    /// The most advanced instance with the marker that the journal does not name, and whether it runs.
    pub marked: Option<(InstanceId, bool)>,
    /// Whether a person ended the replacement that the journal names.
    pub is_unwanted: bool,
    /// Why both go on running for now, although the replacement is there.
    pub overlap: Option<Rest>,
    pub now: Timestamp,
}

impl Recreation {
    /// The journal after an observation. Absence proves something only after [`SETTLE_TIME`], and the caller reports it
    /// from complete listings only.
    #[must_use]
    pub fn observe(self, situation: &Situation) -> Self {
        let Situation { old, successor, marked, is_unwanted, now, overlap: _ } = situation;
        let (old, now) = (*old, *now);
        let is_settled = now.since(self.since) >= SETTLE_TIME;
        let is_gone = matches!(old, Old::Gone | Old::Going);
        let to = |this: Self, step: Step| Self { step, since: now, ..this };
        let vanished = || "the replacement vanished before it was seen running";
        match self.step.clone() {
            Step::Created { replacement, kept: None }
            | Step::Running { replacement }
            | Step::Deleted { replacement }
                if *is_unwanted && marked.is_none() && !self.is_move() =>
            {
                to(self, Step::Closed { replacement: Some(replacement) })
            }
            Step::Pending { kept } | Step::Intent { kept } if marked.is_some() => match marked.clone() {
                Some((replacement, _)) => to(self, Step::Created { replacement, kept }),
                None => self,
            },
            Step::Pending { kept: None } if is_gone => self.ended(now),
            Step::Pending { kept: None } if matches!(old, Old::Runs | Old::Down | Old::Stopped) && !self.is_move() => {
                to(self, Step::Closed { replacement: None })
            }
            // It was not gone after all, and the kept specification says that it is to go.
            Step::Pending { kept: Some(kept) } if matches!(old, Old::Failed | Old::Runs | Old::Down | Old::Stopped) => {
                to(self, Step::Deleting { kept })
            }
            Step::Pending { .. } => self,
            Step::Deleting { kept } if old == Old::Gone => {
                to(self, Step::Pending { kept: Some(kept) }).observe(situation)
            }
            Step::Deleting { .. } if old == Old::Runs && is_settled => to(self, Step::Closed { replacement: None }),
            Step::Deleting { .. } => self,
            Step::Intent { kept } if is_settled => {
                let why = "the call to create it had no effect".to_owned();
                // A provider that does not answer says nothing about the instance. A rollout takes the move back.
                let this = match self.is_move() {
                    true => self.failed(kept, why, now),
                    false => Self { step: Step::Pending { kept }, since: now, last_error: Some(why), ..self },
                };
                this.observe(situation)
            }
            Step::Intent { .. } => self,
            Step::Created { replacement, kept } => match (successor, marked) {
                (Successor::Gone, Some((marked, _)))
                | (
                    Successor::ComingUp
                    | Successor::Down
                    | Successor::Unclear
                    | Successor::Reclaimed
                    | Successor::Failed(_),
                    Some((marked, true)),
                ) => to(self, Step::Created { replacement: marked.clone(), kept }),
                (Successor::Gone, None) if is_settled => self.failed(kept, vanished().into(), now).observe(situation),
                (Successor::Running, _) if is_gone => to(self, Step::Closed { replacement: Some(replacement) }),
                // Nothing can be created from the old one any more; the new one is now an instance like any other.
                (Successor::Down | Successor::Unclear | Successor::Reclaimed | Successor::Failed(_), _)
                    if is_gone && kept.is_none() =>
                {
                    to(self, Step::Closed { replacement: Some(replacement) })
                }
                _ => self,
            },
            Step::Running { replacement } | Step::Deleted { replacement } => match (successor, marked) {
                (Successor::Gone | Successor::None, Some((marked, _))) => {
                    to(self, Step::Created { replacement: marked.clone(), kept: None })
                }
                (Successor::Gone | Successor::None, None) if is_settled => {
                    self.failed(None, vanished().into(), now).observe(situation)
                }
                (Successor::Gone | Successor::None, None) => self,
                (_, _) if is_gone => to(self, Step::Closed { replacement: Some(replacement) }),
                // No deletion can be under way any more, and the replacement does not run.
                (
                    Successor::ComingUp
                    | Successor::Down
                    | Successor::Unclear
                    | Successor::Reclaimed
                    | Successor::Failed(_),
                    _,
                ) if is_settled => to(self, Step::Created { replacement, kept: None }).observe(situation),
                (
                    Successor::Running
                    | Successor::ComingUp
                    | Successor::Down
                    | Successor::Unclear
                    | Successor::Reclaimed
                    | Successor::Failed(_),
                    _,
                ) => self,
            },
            Step::Abandoned { kept, .. } if matches!(successor, Successor::Gone | Successor::None) => {
                // Its failure was counted when it was given up.
                to(self, Step::Pending { kept }).observe(situation)
            }
            // Without the old one nothing can be created: the new one stays, whatever it was to be deleted for.
            Step::Abandoned { replacement, kept: None } if is_gone => match successor {
                Successor::ComingUp => to(self, Step::Created { replacement, kept: None }),
                _ => to(self, Step::Closed { replacement: Some(replacement) }),
            },
            Step::Abandoned { .. } => self,
            // The row of a deleted instance may linger, but not forever.
            Step::Closed { replacement: Some(replacement) }
                if !is_gone && is_settled && *successor == Successor::Running =>
            {
                to(self, Step::Deleted { replacement })
            }
            Step::Closed { .. } | Step::Ended => self,
        }
    }

    fn ended(self, now: Timestamp) -> Self {
        let why = "the old instance vanished before a replacement existed, and no specification was kept".to_owned();
        let before = self.last_error.map_or_else(String::new, |before| format!("; before that: {before}"));
        Self { step: Step::Ended, since: now, last_error: Some(why + &before), ..self }
    }
}

/// What to do about a recreation now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Create,
    /// Delete-first: keep the specification, delete the old instance, then create.
    DeleteOldFirst,
    /// Wait for the replacement to run, then go on.
    Watch,
    DeleteOld,
    Abandon(Unfit),
    /// Record that none is needed any more.
    CallOff,
    LeaveBoth(String),
    Rest(Rest),
    Nothing,
}

/// Why nothing is done about a recreation in this pass; the words are the reasons of skips.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Rest {
    /// A call has no visible result yet.
    #[strum(serialize = "recreation_unsettled")]
    Unsettled {
        until: Timestamp,
    },
    Quarantined {
        until: Timestamp,
    },
    /// Something is under way with the old instance.
    #[strum(serialize = "recreation_waits")]
    OldBusy,
    /// The listings have gaps, and nothing is concluded from them.
    #[strum(serialize = "recreation_waits")]
    Unseen,
    /// The replacement is listed and does not run; it is handled like any other instance.
    ReplacementDown,
    /// Old and new run side by side for a while, so that traffic can move.
    #[strum(serialize = "replacement_running")]
    Overlapping {
        until: Timestamp,
    },
    /// Both are to be reclaimed, and the old one later.
    #[strum(serialize = "replacement_running")]
    BothAnnounced,
    /// Old and new run side by side until the rollout decides.
    #[strum(serialize = "rollout")]
    Soaking,
}

/// Decides what to do about a recreation as it is observed.
#[must_use]
pub fn next(recreation: &Recreation, situation: &Situation, order: RecreateOrder, retry_quarantined: bool) -> Next {
    let Situation { old, successor, now, .. } = situation;
    let unsettled = || Next::Rest(Rest::Unsettled { until: recreation.since + SETTLE_TIME });
    let is_settled = now.since(recreation.since) >= SETTLE_TIME;
    match &recreation.step {
        Step::Pending { kept } => match (recreation.quarantined_until(*now), kept, old) {
            (Some(until), _, _) if !retry_quarantined => Next::Rest(Rest::Quarantined { until }),
            (_, _, Old::Busy) => Next::Rest(Rest::OldBusy),
            (_, Some(_), _) => Next::Create,
            // What refused for another reason than lack of room is not asked again at once: the instance still runs.
            (_, None, Old::Leaving) if recreation.failures > 0 && now.since(recreation.since) < PATIENCE => {
                Next::Rest(Rest::Quarantined { until: recreation.since + PATIENCE })
            }
            (_, None, Old::Leaving) => Next::Create,
            (_, None, Old::Failed) => match order {
                RecreateOrder::CreateFirst => Next::Create,
                RecreateOrder::DeleteFirst => Next::DeleteOldFirst,
            },
            (_, None, Old::Runs | Old::Down | Old::Stopped | Old::Going | Old::Gone) => Next::Nothing,
        },
        Step::Deleting { .. } => match old {
            Old::Failed | Old::Down | Old::Stopped => Next::DeleteOldFirst,
            Old::Runs | Old::Leaving | Old::Busy | Old::Going | Old::Gone => Next::Rest(Rest::OldBusy),
        },
        Step::Intent { .. } => unsettled(),
        Step::Created { kept, .. } => match (successor, old) {
            // A person who stopped it may want its disk, and nothing in its place.
            (
                Successor::Running | Successor::ComingUp | Successor::Down | Successor::Unclear | Successor::Reclaimed,
                Old::Stopped,
            ) if kept.is_none() => {
                if is_settled {
                    Next::Abandon(Unfit::OldStopped)
                } else {
                    unsettled()
                }
            }
            // Both run: the old one was never to be deleted, so it is the one to keep.
            (
                Successor::Running | Successor::ComingUp | Successor::Down | Successor::Unclear | Successor::Reclaimed,
                Old::Runs,
            ) if kept.is_none() => {
                if is_settled {
                    Next::Abandon(Unfit::NotNeeded)
                } else {
                    unsettled()
                }
            }
            (Successor::Running, Old::Leaving) if situation.overlap.is_some() => {
                Next::Rest(situation.overlap.clone().unwrap_or(Rest::OldBusy))
            }
            // With a kept specification the old one was to be deleted, so it is, even if it runs again.
            (Successor::Running, Old::Failed | Old::Down | Old::Stopped | Old::Runs | Old::Leaving) => Next::DeleteOld,
            (Successor::Running, _) => Next::Rest(Rest::OldBusy),
            (Successor::ComingUp, _) if now.since(recreation.since) >= PATIENCE => {
                if matches!(old, Old::Gone | Old::Going) && kept.is_none() {
                    Next::Watch
                } else {
                    Next::Abandon(Unfit::NotComingUp)
                }
            }
            // One that is watched is followed by the deletion of the old one.
            (Successor::Gone | Successor::None, Old::Stopped) if kept.is_none() => unsettled(),
            (Successor::ComingUp | Successor::Gone | Successor::None, _) => Next::Watch,
            (Successor::Failed(why), _) => Next::Abandon(Unfit::Failed(why.clone())),
            (Successor::Reclaimed, Old::Failed | Old::Down | Old::Leaving) => Next::Abandon(Unfit::Reclaimed),
            (Successor::Down | Successor::Unclear | Successor::Reclaimed, _) => Next::Rest(Rest::ReplacementDown),
        },
        Step::Running { .. } => match successor {
            Successor::Running => Next::DeleteOld,
            Successor::None
            | Successor::ComingUp
            | Successor::Down
            | Successor::Unclear
            | Successor::Reclaimed
            | Successor::Failed(_)
            | Successor::Gone => unsettled(),
        },
        Step::Deleted { .. } => match successor {
            Successor::Running if is_settled => Next::DeleteOld,
            Successor::Running
            | Successor::None
            | Successor::ComingUp
            | Successor::Down
            | Successor::Unclear
            | Successor::Reclaimed
            | Successor::Failed(_)
            | Successor::Gone => unsettled(),
        },
        Step::Abandoned { .. } => Next::Abandon(Unfit::GivenUp(recreation.last_error.clone().unwrap_or_default())),
        Step::Closed { .. } | Step::Ended => Next::Nothing,
    }
}

#[cfg(test)]
mod tests;
