//! One verdict for every instance, each with its reason, and what became of the calls of earlier passes.
//!
//! [`plan`] cannot fail and cannot wait. Recovery after a crash is not a special path: a call that an earlier pass
//! left open is settled here, on every pass, from what is seen now.

use std::collections::HashMap;
use std::time::Duration;

use super::ledger::{Call, InFlight, Ledger, Observation, Stamp};
use super::model::{Instance, InstanceId, JobId, JobIndex, JobKind, Listing, Snapshot, Status, Timestamp};
use super::policy::{Eligibility, Policy};
use super::settle::{EVIDENCE_LIFE, End, SETTLE_TIME, Settlement, observe, settle};

/// What a pass would do, or does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for every listed instance, in the listing's order.
    pub decisions: Vec<Decision>,
    /// What became of the calls of earlier passes.
    pub settlements: Vec<Settlement>,
    /// What to remember, and to forget, about announced reclaims.
    pub observations: Vec<(InstanceId, Option<Observation>)>,
}

impl Plan {
    /// The instances to migrate, oldest first, as positions in the listing.
    #[must_use]
    pub fn migrations(&self, instances: &Listing<Instance>) -> Vec<usize> {
        let mut chosen: Vec<usize> =
            (0..self.decisions.len()).filter(|&at| matches!(self.decisions[at], Decision::Migrate(_))).collect();
        chosen.sort_by_key(|&at| oldest_first(&instances.items[at]));
        chosen
    }
}

/// The verdict on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Migrate it.
    Migrate(Eligible),
    /// Leave it alone.
    Skip(Skip),
}

/// Why an instance is to be migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligible {
    /// No attempt is known.
    NoPreviousMigration,
    /// The last attempt is long enough ago.
    CooledDown {
        /// The last attempt.
        last: Timestamp,
        /// How long ago that was.
        elapsed: Duration,
    },
}

/// Why an instance is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// `--only` names others.
    NotSelected,
    /// `--exclude` names it.
    Excluded {
        /// The pattern that matched, by its position.
        selector: usize,
    },
    /// The scope leaves out its billing.
    OutOfScope,
    /// It is doing something else than being exited.
    NotExited {
        /// Its newest migration job, if that failed: the migration will not come to an end by itself.
        failed_job: Option<Box<FailedJob>>,
    },
    /// One of the provider's jobs is at work on it.
    JobUnfinished {
        /// The job.
        job: JobId,
        /// What it does.
        kind: JobKind,
    },
    /// A call of an earlier pass has no clear answer yet.
    Unsettled {
        /// When the call was made.
        called_at: Timestamp,
        /// When it counts as without effect, should nothing be seen until then.
        until: Timestamp,
    },
    /// The `reclaimed` policy wants evidence, and there is none.
    NoReclaimEvidence,
    /// What is stored as its migration time is no time.
    UnreadableRecord {
        /// What is stored.
        value: Box<str>,
    },
    /// The last attempt is too recent.
    CoolingDown {
        /// The last attempt.
        last: Timestamp,
        /// When the cooldown ends.
        until: Timestamp,
    },
    /// Eligible, but the pass may not do more.
    OverLimit {
        /// How many it may.
        limit: usize,
    },
}

/// A migration job that ended without doing its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedJob {
    /// Its id.
    pub id: JobId,
    /// Why, in the provider's words.
    pub error: Option<Box<str>>,
}

/// Decides what to do about every instance in `snapshot`.
///
/// The verdicts follow the order of the contract's section 3: the first rule that fits decides.
#[must_use]
pub fn plan(snapshot: &Snapshot, ledger: &Ledger, policy: &Policy, now: Timestamp) -> Plan {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let settlements = settle(snapshot, ledger, &jobs, now);
    let no_effect: HashMap<&InstanceId, Option<Timestamp>> = settlements
        .iter()
        .filter(|settlement| settlement.end == End::NoEffect)
        .map(|settlement| (&settlement.instance, settlement.call.previous_attempt))
        .collect();

    let view = View { ledger, policy, jobs: &jobs, no_effect: &no_effect, now };
    let mut decisions: Vec<Decision> = snapshot.instances.items.iter().map(|instance| view.decide(instance)).collect();
    if let Some(limit) = policy.max_migrations {
        cut_to_limit(&mut decisions, &snapshot.instances.items, limit);
    }
    let observations = observe(snapshot, ledger, now);
    Plan { decisions, settlements, observations }
}

/// Everything a verdict on one instance depends on.
struct View<'a> {
    ledger: &'a Ledger,
    policy: &'a Policy,
    jobs: &'a JobIndex<'a>,
    no_effect: &'a HashMap<&'a InstanceId, Option<Timestamp>>,
    now: Timestamp,
}

impl View<'_> {
    fn decide(&self, instance: &Instance) -> Decision {
        match self.obstacle(instance) {
            Some(skip) => Decision::Skip(skip),
            None => self.by_cooldown(instance),
        }
    }

    /// The first reason to leave the instance alone whatever its migration time says.
    fn obstacle(&self, instance: &Instance) -> Option<Skip> {
        let Policy { eligibility, scope, cooldown: _, only, exclude, max_migrations: _ } = self.policy;
        if !only.is_empty() && !only.iter().any(|selector| selector.matches(instance)) {
            return Some(Skip::NotSelected);
        }
        if let Some(selector) = exclude.iter().position(|selector| selector.matches(instance)) {
            return Some(Skip::Excluded { selector });
        }
        if !scope.covers(&instance.billing) {
            return Some(Skip::OutOfScope);
        }
        if instance.status != Status::Exited {
            let failed = || self.jobs.newest_migration(&instance.id).filter(|job| job.state.has_failed());
            let failed_job = (instance.status == Status::Migrating)
                .then(failed)
                .flatten()
                .map(|job| Box::new(FailedJob { id: job.id.clone(), error: job.error.clone() }));
            return Some(Skip::NotExited { failed_job });
        }
        if let Some(job) = self.jobs.unfinished(&instance.id) {
            return Some(Skip::JobUnfinished { job: job.id.clone(), kind: job.kind.clone() });
        }
        if let Some(call) = self.unsettled(&instance.id) {
            return Some(Skip::Unsettled { called_at: call.called_at, until: call.called_at + SETTLE_TIME });
        }
        if *eligibility == Eligibility::Reclaimed && !self.has_evidence(instance) {
            return Some(Skip::NoReclaimEvidence);
        }
        None
    }

    fn by_cooldown(&self, instance: &Instance) -> Decision {
        let last = match (self.no_effect.get(&instance.id), self.ledger.last_attempt.get(&instance.id)) {
            (Some(previous), _) => *previous,
            (None, Some(Stamp::Unreadable(value))) => {
                return Decision::Skip(Skip::UnreadableRecord { value: value.as_str().into() });
            }
            (None, Some(Stamp::At(last))) => Some(*last),
            (None, None) => None,
        };
        let Some(last) = last else { return Decision::Migrate(Eligible::NoPreviousMigration) };
        let until = last + self.policy.cooldown;
        if self.now < until {
            return Decision::Skip(Skip::CoolingDown { last, until });
        }
        Decision::Migrate(Eligible::CooledDown { last, elapsed: self.now.since(last) })
    }

    /// A call that may still have an effect, and was neither proved nor disproved.
    fn unsettled(&self, id: &InstanceId) -> Option<&InFlight> {
        let call = self.ledger.in_flight.get(id)?;
        (call.call != Call::Accepted && !self.no_effect.contains_key(id)).then_some(call)
    }

    fn has_evidence(&self, instance: &Instance) -> bool {
        let seen_earlier = || self.ledger.observations.get(&instance.id);
        instance.reclaim.is_some()
            || seen_earlier().is_some_and(|seen| self.now.since(seen.last_seen_at) <= EVIDENCE_LIFE)
    }
}

/// Leaves `limit` migrations, the oldest; the others become skips that say so.
fn cut_to_limit(decisions: &mut [Decision], instances: &[Instance], limit: usize) {
    let mut chosen: Vec<usize> =
        (0..decisions.len()).filter(|&at| matches!(decisions[at], Decision::Migrate(_))).collect();
    if chosen.len() <= limit {
        return;
    }
    chosen.sort_by_key(|&at| oldest_first(&instances[at]));
    for &at in &chosen[limit..] {
        decisions[at] = Decision::Skip(Skip::OverLimit { limit });
    }
}

/// The order of migrations: who stopped first comes first, who has no stop time last; the id decides the rest, so that
/// the order of the listing does not matter.
fn oldest_first(instance: &Instance) -> (Timestamp, &InstanceId) {
    (instance.stopped_at.unwrap_or(Timestamp::from_millis(i64::MAX)), &instance.id)
}

impl Decision {
    /// The verdict's machine name (contract, section 5).
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Migrate(_) => "migrate",
            Self::Skip(_) => "skip",
        }
    }

    /// The reason's machine name. Names are part of the contract: they are added to, never changed.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Migrate(Eligible::NoPreviousMigration) => "no_previous_migration",
            Self::Migrate(Eligible::CooledDown { .. }) => "cooled_down",
            Self::Skip(skip) => match skip {
                Skip::NotSelected => "not_selected",
                Skip::Excluded { .. } => "excluded",
                Skip::OutOfScope => "out_of_scope",
                Skip::NotExited { failed_job: None } => "not_exited",
                Skip::NotExited { failed_job: Some(_) } => "migration_failed",
                Skip::JobUnfinished { .. } => "job_unfinished",
                Skip::Unsettled { .. } => "call_unsettled",
                Skip::NoReclaimEvidence => "no_reclaim_evidence",
                Skip::UnreadableRecord { .. } => "unreadable_record",
                Skip::CoolingDown { .. } => "cooling_down",
                Skip::OverLimit { .. } => "over_limit",
            },
        }
    }

    /// When the verdict may change by time alone.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Skip(Skip::CoolingDown { until, .. } | Skip::Unsettled { until, .. }) => Some(*until),
            Self::Skip(_) | Self::Migrate(_) => None,
        }
    }

    /// The reason in one sentence, with its facts.
    #[must_use]
    pub fn detail(&self, instance: &Instance, policy: &Policy) -> String {
        match self {
            Self::Migrate(Eligible::NoPreviousMigration) => "no previous migration".into(),
            Self::Migrate(Eligible::CooledDown { last, elapsed }) => {
                format!("{} since the last one at {last}", in_words(*elapsed))
            }
            Self::Skip(skip) => skip.detail(instance, policy),
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
                format!("billing is {}, scope is {}", instance.billing, policy.scope.as_str())
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
                format!("its stored migration time is not a time: {value:?}; delete or mend the record")
            }
            Self::CoolingDown { last, until } => format!("migrated at {last}, cooling down until {until}"),
            Self::OverLimit { limit } => format!("eligible, but over the limit of {limit} for this pass"),
        }
    }
}

/// A duration as a person says it: the two greatest units.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let secs = duration.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests;
