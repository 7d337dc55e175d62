//! The verdicts: what is to be done about an instance, or why nothing is, each with its facts and its sentence.

use std::time::Duration;

use super::ledger::KnownJob;
use crate::core::recreation::blueprint::{Obstacle, Prepared};
use crate::core::recreation::journal::{Cause, MOST_FAILURES, Next, Recreation, Rest, Step, Unfit};
use crate::core::recreation::marker::Origin;
use crate::core::world::instance::{Aside, Billing, Instance, InstanceId, JobId, JobKind, Status};
use crate::core::world::policy::Policy;
use crate::core::world::time::{Timestamp, in_words};

/// The verdict on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Migrate {
        eligible: Eligible,
        /// Its newest migration job: any other that is not older is the call's own.
        job_before: Option<Box<KnownJob>>,
        /// Whether it is proved that it was reclaimed.
        is_proved: bool,
        /// What follows if its market refuses it, for people; empty unless it was asked for.
        otherwise: Box<str>,
    },
    /// Start a recreation of it.
    Recreate(Box<Recreating>),
    /// Continue a recreation that an earlier pass started.
    Resume(Box<Recreating>),
    /// Delete it: another instance with the same marker is more advanced.
    Retire {
        keep: InstanceId,
    },
    Skip(Skip),
}

/// A decision in one word, in the order of the actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Verdict {
    Resume,
    Recreate,
    Migrate,
    Skip,
}

/// A recreation with something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreating {
    pub instance: InstanceId,
    /// The journal, as seen now.
    pub recreation: Recreation,
    pub next: Next,
    /// What is to be created and where, once that was read; only before a creation.
    pub prepared: Option<Result<Prepared, Obstacle>>,
    /// Why it is not migrated in its own place, if it was reclaimed.
    pub instead: Option<Instead>,
    /// The migration in its own place, should that be the only one or the best.
    pub at_home: Option<(Eligible, Option<Box<KnownJob>>)>,
    /// Whether it is proved that the instance was reclaimed.
    pub is_proved: bool,
}

/// Why a reclaimed instance is not migrated in its own place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Its last migration is too recent: its place lost it twice.
    CoolingDown { last: Timestamp, until: Timestamp },
    /// Its market has no room, and is not asked again before this time.
    NoRoom { until: Timestamp },
    /// The provider does not migrate.
    NoMigration,
    /// Migrating it had no effect, this often.
    NoEffect { calls: u32 },
    /// The best market is to be chosen, and its own is one of them.
    Ranked,
    /// The operator wants it created elsewhere first.
    Ladder,
}

impl Instead {
    fn in_words(self) -> String {
        match self {
            Self::CoolingDown { last, until } => format!("migrated at {last}, and cooling down there until {until}"),
            Self::NoRoom { until } => format!("no room in its own market, which is asked again after {until}"),
            Self::NoMigration => "its provider does not migrate".into(),
            Self::NoEffect { calls } => format!("{calls} migrate calls had no effect"),
            Self::Ranked => "the best market is chosen".into(),
            Self::Ladder => "MIGRATION_LADDER has it recreated first".into(),
        }
    }
}

impl Recreating {
    /// One that does not start for a reclaim.
    #[must_use]
    pub fn new(instance: InstanceId, recreation: Recreation, next: Next) -> Self {
        Self { instance, recreation, next, prepared: None, instead: None, at_home: None, is_proved: false }
    }

    /// Whether an instance would be created, or deleted to be created.
    #[must_use]
    pub fn creates(&self) -> bool {
        // One that was reclaimed before it ran is deleted, and the next one is created at once.
        matches!(self.next, Next::Create | Next::DeleteOldFirst | Next::Abandon(Unfit::Reclaimed))
    }

    /// Whether it starts now: no earlier pass has started it.
    #[must_use]
    pub fn starts(&self) -> bool {
        self.recreation.pass.is_empty() && matches!(self.recreation.step, Step::Pending { .. })
    }

    fn obstacle(&self) -> Option<&Obstacle> {
        self.prepared.as_ref().and_then(|prepared| prepared.as_ref().err())
    }
}

/// Why an instance is to be migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Eligible {
    NoPreviousMigration,
    /// The last attempt is long enough ago.
    CooledDown {
        last: Timestamp,
        elapsed: Duration,
    },
    /// It was reclaimed after its last migration, and can be nowhere else.
    ReclaimedAgain {
        last: Timestamp,
        elapsed: Duration,
    },
}

impl Eligible {
    /// The attempt to put back should the next call have no effect.
    #[must_use]
    pub fn previous_attempt(self) -> Option<Timestamp> {
        match self {
            Self::NoPreviousMigration => None,
            Self::CooledDown { last, .. } | Self::ReclaimedAgain { last, .. } => Some(last),
        }
    }

    /// In one sentence.
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            Self::NoPreviousMigration => "no previous migration".into(),
            Self::CooledDown { last, elapsed } => format!("{} since the last one at {last}", in_words(elapsed)),
            Self::ReclaimedAgain { last, elapsed } => {
                format!("reclaimed again, {} after its last migration at {last}", in_words(elapsed))
            }
        }
    }
}

/// Why an instance is left alone. The machine names of the reasons are only added to, never changed.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Skip {
    NotSelected,
    Excluded {
        /// The pattern that matched, by its position.
        selector: usize,
    },
    OutOfScope,
    /// The provider's facts say that it is not one to act on.
    #[strum(serialize = "not_opted_in")]
    Aside(Box<Aside>),
    /// It was reclaimed, the provider has forgotten what it was made of, and that is not on record.
    ConfigurationUnknown {
        /// Why it could not be launched again while it ran, if it was seen then.
        problem: Option<Box<str>>,
    },
    NotExited {
        /// Its newest migration job, if that failed.
        failed_job: Option<Box<FailedJob>>,
    },
    /// One of the provider's jobs is at work on it.
    JobUnfinished {
        job: JobId,
        kind: JobKind,
    },
    /// A call of an earlier pass has no clear answer yet.
    #[strum(serialize = "call_unsettled")]
    Unsettled {
        called_at: Timestamp,
        /// When it counts as without effect, should nothing be seen until then.
        until: Timestamp,
    },
    /// The `reclaimed` policy requires evidence, and there is none.
    NoReclaimEvidence,
    /// What is stored as its migration time is not a time.
    UnreadableRecord {
        value: Box<str>,
    },
    /// The last attempt is too recent.
    CoolingDown {
        last: Timestamp,
        until: Timestamp,
    },
    /// It is `migrating` and no job is at work on it, but not for long enough.
    #[strum(serialize = "migration_stalled")]
    Stalled {
        /// Since then, as far as is known.
        since: Timestamp,
        until: Timestamp,
    },
    Waiting {
        instance: InstanceId,
        recreation: Box<Recreation>,
        rest: Rest,
    },
    /// A rollout moves it, or it is the instance in the place of the one that is moved.
    #[strum(serialize = "rollout")]
    Moving {
        old: InstanceId,
        to: Box<Billing>,
    },
    /// Its recreation is over, and its row lingers.
    Replaced {
        by: InstanceId,
    },
    /// It is a duplicate, and the one that stays does not run yet.
    #[strum(serialize = "extra_replacement")]
    Duplicate {
        of: InstanceId,
    },
    /// Its recreation is open, and this pass only migrates.
    RecreationOpen,
    /// It is a replacement that failed itself or is given up; the recreation it belongs to decides.
    ReplacementFailed {
        of: InstanceId,
    },
    /// Exited, and no migration of it failed: nothing for `check-failed`.
    NotFailed,
    /// Eligible, but the pass may not do more.
    OverLimit {
        limit: usize,
    },
    /// Reclaimed instances are recreated in waves of limited size; this one comes with the next.
    NextWave {
        limit: usize,
    },
    /// Its row has no name, which `--exclude` may mean.
    Nameless,
    /// Rows of the list of instances have no ID: one of them may be its replacement.
    IncompleteList,
    /// It stands in for a spot instance.
    Bridge {
        /// When its stay is over, if that is to come.
        until: Option<Timestamp>,
    },
    /// It stood in for a spot instance, and was stopped by a person.
    BridgeStopped,
    /// No market that it may go to has room.
    NoRoom {
        /// When the first of them is asked again.
        until: Option<Timestamp>,
        /// What was asked, and what ties it.
        detail: Box<str>,
        is_proved: bool,
    },
}

/// A migration job that ended without doing its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedJob {
    pub id: JobId,
    pub error: Option<Box<str>>,
}

impl Decision {
    /// Whether an instance would be created, or deleted to be created.
    #[must_use]
    pub fn creates(&self) -> bool {
        match self {
            Self::Recreate(work) | Self::Resume(work) => work.creates(),
            Self::Migrate { .. } | Self::Retire { .. } | Self::Skip(_) => false,
        }
    }

    /// Whether it is about an instance that was reclaimed for sure, and is not up again.
    #[must_use]
    pub fn is_on_proved(&self) -> bool {
        match self {
            Self::Migrate { is_proved, .. } | Self::Skip(Skip::NoRoom { is_proved, .. }) => *is_proved,
            Self::Recreate(work) | Self::Resume(work) => work.is_proved,
            Self::Skip(Skip::Waiting { rest: Rest::Overlapping { .. } | Rest::BothAnnounced, .. }) => false,
            Self::Skip(Skip::Waiting { recreation, .. }) => recreation.cause.is_for_reclaim(),
            Self::Skip(Skip::NextWave { .. } | Skip::ConfigurationUnknown { .. }) => true,
            Self::Skip(_) | Self::Retire { .. } => false,
        }
    }

    /// Whether the rules of selection cover the instance.
    #[must_use]
    pub fn is_on_managed(&self) -> bool {
        match self {
            Self::Skip(Skip::NotSelected | Skip::Excluded { .. } | Skip::OutOfScope | Skip::BridgeStopped) => false,
            Self::Skip(Skip::Aside(aside)) => !aside.is_foreign() && **aside != Aside::TerminatedByUser,
            _ => true,
        }
    }

    /// The recreation it is about, with its old instance.
    #[must_use]
    pub fn recreation(&self) -> Option<(&InstanceId, &Recreation)> {
        match self {
            Self::Recreate(work) | Self::Resume(work) => Some((&work.instance, &work.recreation)),
            Self::Skip(Skip::Waiting { instance, recreation, .. }) => Some((instance, recreation)),
            Self::Migrate { .. } | Self::Retire { .. } | Self::Skip(_) => None,
        }
    }

    /// What is to be done. A recreation with an obstacle is a skip.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Migrate { .. } => Verdict::Migrate,
            Self::Recreate(work) | Self::Resume(work) if work.obstacle().is_some() => Verdict::Skip,
            Self::Recreate(_) => Verdict::Recreate,
            Self::Resume(_) | Self::Retire { .. } => Verdict::Resume,
            Self::Skip(_) => Verdict::Skip,
        }
    }

    /// Says what follows if the market of an instance that is to be migrated refuses it.
    pub fn foresee(&mut self, words: String) {
        if let Self::Migrate { otherwise, .. } = self {
            *otherwise = words.into();
        }
    }

    /// The recreation to carry out, to be completed with what is read for it.
    pub fn recreating_mut(&mut self) -> Option<&mut Recreating> {
        match self {
            Self::Recreate(work) | Self::Resume(work) => Some(work),
            Self::Migrate { .. } | Self::Retire { .. } | Self::Skip(_) => None,
        }
    }

    /// The recreation to carry out.
    #[must_use]
    pub fn recreating(&self) -> Option<&Recreating> {
        match self {
            Self::Recreate(work) | Self::Resume(work) => Some(work),
            Self::Migrate { .. } | Self::Retire { .. } | Self::Skip(_) => None,
        }
    }

    /// What is to be created and where, if it is known.
    #[must_use]
    pub fn prepared(&self) -> Option<&Prepared> {
        self.recreating()?.prepared.as_ref()?.as_ref().ok()
    }

    /// The reason's machine name.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Migrate { eligible, .. } => eligible.into_str(),
            Self::Recreate(work) | Self::Resume(work) => work.reason(),
            Self::Retire { .. } => "extra_replacement",
            Self::Skip(Skip::NotExited { failed_job: Some(_) }) => "migration_failed",
            Self::Skip(Skip::Waiting { rest, .. }) => rest.into_str(),
            Self::Skip(Skip::Aside(aside)) => aside.as_ref().into(),
            Self::Skip(skip) => skip.into_str(),
        }
    }

    /// When the verdict may change by time alone.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Skip(
                Skip::CoolingDown { until, .. }
                | Skip::Unsettled { until, .. }
                | Skip::Stalled { until, .. }
                | Skip::Waiting { rest: Rest::Unsettled { until } | Rest::Quarantined { until }, .. },
            ) => Some(*until),
            Self::Skip(Skip::NoRoom { until, .. } | Skip::Bridge { until }) => *until,
            Self::Skip(_) | Self::Migrate { .. } | Self::Recreate(_) | Self::Resume(_) | Self::Retire { .. } => None,
        }
    }

    /// The reason in one sentence, with its facts.
    #[must_use]
    pub fn detail(&self, instance: &Instance, policy: &Policy) -> String {
        match self {
            Self::Migrate { eligible, otherwise, .. } if otherwise.is_empty() => eligible.in_words(),
            Self::Migrate { eligible, otherwise, .. } => format!("{}; {otherwise}", eligible.in_words()),
            Self::Recreate(work) | Self::Resume(work) => work.detail(),
            Self::Retire { keep } if Origin::replaced_by(instance) == Some(Origin::of(keep)) => {
                format!("duplicate of {keep}, whose move was called off and which runs: a late request created it")
            }
            Self::Retire { keep } => {
                format!("duplicate of {keep}, which is more advanced: a late request created it")
            }
            Self::Skip(skip) => skip.detail(instance, policy),
        }
    }
}

impl Recreating {
    fn reason(&self) -> &'static str {
        match (self.obstacle(), &self.next, &self.recreation.cause) {
            (Some(Obstacle::JobAtWork(_)), _, _) => "job_unfinished",
            (Some(Obstacle::Unread { .. }), _, _) => "unread",
            (Some(Obstacle::Gone), _, _) => "gone",
            (Some(Obstacle::CannotRecreate(_) | Obstacle::NoPlace { .. } | Obstacle::NoRoom { .. }), _, _) => {
                "cannot_recreate"
            }
            (None, Next::Create | Next::DeleteOldFirst, Cause::JobFailed { .. }) => "migration_failed",
            (None, Next::Create | Next::DeleteOldFirst, Cause::Stalled { .. }) => "migration_stuck",
            (None, Next::Create | Next::DeleteOldFirst, Cause::Reclaimed) => "reclaimed",
            (None, Next::Create | Next::DeleteOldFirst, Cause::Announced) => "announced",
            (None, Next::Create | Next::DeleteOldFirst, Cause::Bridged) => "bridge",
            (None, Next::Create | Next::DeleteOldFirst, Cause::Returned) => "return_to_spot",
            (None, Next::Create | Next::DeleteOldFirst, Cause::Found) => "recreation_open",
            (None, Next::Create | Next::DeleteOldFirst, Cause::Moved { .. }) => "rollout",
            (None, Next::Watch, _) => "replacement_coming_up",
            (None, Next::DeleteOld, _) => "replacement_running",
            (None, Next::Abandon(_), _) => "replacement_abandoned",
            (None, Next::Rest(_), _) => "recreation_waits",
            (None, Next::Nothing | Next::CallOff | Next::LeaveBoth(_), _) => match self.recreation.step {
                Step::Ended => "recreation_ended",
                _ => "recreation_closed",
            },
        }
    }

    /// The reason in one sentence, with its facts.
    #[must_use]
    pub fn detail(&self) -> String {
        let Self { instance: _, recreation, next, prepared, instead, .. } = self;
        let why = match instead {
            Some(instead) => format!("{}; {}", recreation.cause.in_words(), instead.in_words()),
            None => recreation.cause.in_words(),
        };
        let replacement = recreation.step.replacement().map_or("none", InstanceId::as_str);
        let again = match (recreation.failures, &recreation.last_error) {
            (_, None) => String::new(),
            (0, Some(error)) => format!("; the last attempt: {error}"),
            (failures @ ..MOST_FAILURES, Some(error)) => {
                format!("; attempt {}, the last one failed: {error}", failures + 1)
            }
            (failures, Some(error)) => format!("; tried again after {failures} failures, the last one: {error}"),
        };
        match (next, prepared) {
            (_, Some(Err(obstacle))) => format!("{why}; {obstacle}"),
            (Next::Create, Some(Ok(prepared))) => format!("{why}; recreated {}{again}", prepared.in_words()),
            (Next::Create, None) => format!("{why}; recreated{again}"),
            (Next::Abandon(Unfit::Reclaimed), Some(Ok(prepared))) => {
                format!("its replacement {replacement} was reclaimed before it ran; recreated {}", prepared.in_words())
            }
            (Next::DeleteOldFirst, Some(Ok(prepared))) => {
                format!("{why}; deleted first, then recreated {}{again}", prepared.in_words())
            }
            (Next::DeleteOldFirst, None) => format!("{why}; deleted first, then recreated{again}"),
            (Next::Watch, _) => format!("{why}; its replacement {replacement} is awaited, then the old one is deleted"),
            (Next::DeleteOld, _) => format!("{why}; its replacement {replacement} runs, the old one is deleted"),
            (Next::Abandon(unfit), _) => format!("its replacement {replacement} is deleted: {unfit}"),
            (Next::Rest(_), _) => format!("{why}; nothing to do yet"),
            (Next::CallOff, _) => "it stays as it is".into(),
            (Next::LeaveBoth(why), _) => why.clone(),
            (Next::Nothing, _) => match (&recreation.step, &recreation.last_error) {
                (Step::Closed { replacement: Some(replacement) }, _) => format!("{why}; replaced by {replacement}"),
                (Step::Ended, Some(error)) => error.clone(),
                (_, _) => "no replacement is needed any more".into(),
            },
        }
    }
}

impl Skip {
    fn detail(&self, instance: &Instance, policy: &Policy) -> String {
        match self {
            Self::NotSelected => "not selected by --only".into(),
            Self::Excluded { selector } => {
                let pattern = policy.exclude.get(*selector).map_or("?", |selector| selector.as_str());
                format!("excluded by --exclude {pattern}")
            }
            Self::OutOfScope => {
                format!("billing is {}, scope is {}", instance.billing, policy.scope.into_str())
            }
            Self::Aside(aside) => aside.to_string(),
            Self::ConfigurationUnknown { problem: Some(problem) } => {
                format!("reclaimed, and left to you: {problem}")
            }
            Self::ConfigurationUnknown { problem: None } => {
                "reclaimed; no pass recorded what it was made of while it ran, and the provider has forgotten it".into()
            }
            Self::NotExited { failed_job: None } => match &instance.status {
                Status::Other(word) if word.is_empty() => "the provider gave no status; left alone".into(),
                Status::Other(word) => format!("status {word} is unknown to this version; left alone"),
                status => format!("status is {status}"),
            },
            Self::NotExited { failed_job: Some(job) } => {
                let FailedJob { id, error } = &**job;
                let why = error.as_deref().unwrap_or("the provider gave no reason");
                format!("its migration failed: {why} (job {id})")
            }
            Self::JobUnfinished { job, kind } => format!("job {job} ({kind}) is unfinished on it"),
            Self::Unsettled { called_at, until } => {
                format!("the migrate call at {called_at} has no visible result yet; tried again after {until}")
            }
            Self::NoReclaimEvidence => "no evidence of a reclaim, now or seen by an earlier pass".into(),
            Self::UnreadableRecord { value } => {
                format!("its stored migration time is not a time: {value:?}; delete or fix the record")
            }
            Self::CoolingDown { last, until } => format!("migrated at {last}, cooling down until {until}"),
            Self::Stalled { since, until } => {
                format!("migrating since {since} without a job at work on it, counts as stuck after {until}")
            }
            Self::Waiting { instance: _, recreation, rest } => {
                let error = recreation.last_error.as_deref().unwrap_or("no reason is known");
                match rest {
                    Rest::Unsettled { until } => {
                        let sent = |call: &str| {
                            let since = recreation.since;
                            format!("the {call} call at {since} has no visible result yet; checked again after {until}")
                        };
                        match &recreation.step {
                            Step::Intent { .. } => sent("create"),
                            Step::Created { replacement, .. } => {
                                format!(
                                    "it runs again; whether its replacement {replacement} goes is decided after {until}"
                                )
                            }
                            _ => sent("delete"),
                        }
                    }
                    Rest::Quarantined { until } => format!(
                        "left alone until {until} after {} failed recreations in a row: {error}",
                        recreation.failures
                    ),
                    Rest::OldBusy if matches!(instance.status, Status::Migrating | Status::Exited) => {
                        "its recreation waits: a job is at work on it".into()
                    }
                    Rest::OldBusy => format!("its recreation waits: its status is {}", instance.status),
                    Rest::Unseen if recreation.pass.is_empty() => {
                        "not recreated yet: the list is incomplete, or lacks an instance for the first time".into()
                    }
                    Rest::Unseen => {
                        "its recreation waits: the list is incomplete, or lacks an instance for the first time".into()
                    }
                    Rest::Overlapping { until } => {
                        let replacement = recreation.step.replacement().map_or("none", InstanceId::as_str);
                        format!("{replacement} runs beside it until {until}, so that traffic can move")
                    }
                    Rest::BothAnnounced => {
                        let replacement = recreation.step.replacement().map_or("none", InstanceId::as_str);
                        format!("{replacement} runs beside it and is to be reclaimed sooner")
                    }
                    Rest::Soaking => {
                        let replacement = recreation.step.replacement().map_or("none", InstanceId::as_str);
                        format!("{replacement} runs beside it until the rollout decides")
                    }
                    Rest::ReplacementDown => {
                        let replacement = recreation.step.replacement().map_or("none", InstanceId::as_str);
                        format!("its replacement {replacement} does not run; it is deleted once that one does")
                    }
                }
            }
            Self::Moving { old, to } if *old == instance.id => format!("a rollout moves it to {to}"),
            Self::Moving { old, to } => format!("a rollout moves {old} to {to}, and this is the instance in its place"),
            Self::Replaced { by } => format!("replaced by {by}; its row lingers"),
            Self::Duplicate { of } => format!("duplicate of {of}, and deleted once that one runs"),
            Self::RecreationOpen => "its recreation is open, and MIGRATION_RETRY_FAILED is false".into(),
            Self::ReplacementFailed { of } => format!("it replaces {of}, whose recreation decides what becomes of it"),
            Self::NotFailed => "no migration of it failed".into(),
            Self::OverLimit { limit } => format!("eligible, but over the limit of {limit} for this pass"),
            Self::Nameless => "its row has no name, so that --exclude cannot be checked".into(),
            Self::IncompleteList => {
                "rows of the list of instances have no ID that can be read; one of them may be its replacement".into()
            }
            Self::Bridge { until: Some(until) } => {
                format!("it stands in for a spot instance, and returns to spot after {until}")
            }
            Self::Bridge { until: None } => {
                "it stands in for a spot instance, and returns to spot once a market is steady".into()
            }
            Self::BridgeStopped => "it stood in for a spot instance, and a person stopped it".into(),
            Self::NextWave { limit } => {
                format!("reclaimed; at most {limit} are recreated at a time, and this one comes with the next")
            }
            Self::NoRoom { until: Some(until), detail, .. } => format!("no room: {detail}; asked again after {until}"),
            Self::NoRoom { until: None, detail, .. } => format!("no room: {detail}"),
        }
    }
}
