//! One verdict for every instance and every open recreation, and what became of the calls of earlier passes.
//!
//! [`plan`] cannot fail and cannot wait. Recovery after a crash is not a special path: what an earlier pass left open
//! is settled here, on every pass, from what is observed now.

use std::collections::HashMap;

use super::ledger::{KnownJob, Ledger, Observation};
use super::rules::View;
use super::settle::{Settlement, observe, settle};
use super::verdict::{Decision, Eligible, Recreating, Skip, Verdict};
use crate::core::recreation::journal::{CLOSED_LIFE, ENDED_LIFE, Recreation, Step};
use crate::core::world::instance::{Billing, Instance, InstanceId, Status};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::{JobIndex, Snapshot, find};
use crate::core::world::time::Timestamp;

/// What a pass would do, or does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each row: the listed instances in the listing's order, then `absent`. [`Plan::rows`] pairs them.
    pub decisions: Vec<Decision>,
    /// The old instances of open recreations that are no longer listed, as far as the journal knows them.
    pub absent: Vec<Instance>,
    pub settlements: Vec<Settlement>,
    /// Reclaim notices to remember, and those to forget.
    pub observations: Vec<(InstanceId, Option<Observation>)>,
    /// Since when instances are `migrating` without a job, to remember and to forget.
    pub stalls: Vec<(InstanceId, Option<Timestamp>)>,
    /// Recreations that changed, and those to forget.
    pub journal: Vec<(InstanceId, Option<Recreation>)>,
    /// How many of the listed instances the selection covers.
    pub managed: usize,
}

/// What a plan asks for, by the way it is carried out.
#[derive(Debug, Default)]
pub struct Work<'a> {
    pub duplicates: Vec<Duplicate<'a>>,
    /// Those that earlier passes started come first.
    pub recreations: Vec<&'a Recreating>,
    /// Oldest first.
    pub migrations: Vec<Migration<'a>>,
}

/// An instance to delete, since another one with its marker stays.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate<'a> {
    pub instance: &'a Instance,
    pub keep: &'a InstanceId,
}

/// An instance to migrate, and what is to be remembered of the time before.
#[derive(Clone, Copy, Debug)]
pub struct Migration<'a> {
    pub instance: &'a Instance,
    pub eligible: Eligible,
    pub job_before: Option<&'a KnownJob>,
}

impl Work<'_> {
    /// How many actions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.duplicates.len() + self.recreations.len() + self.migrations.len()
    }
}

impl Plan {
    /// Every instance with its verdict, those that are no longer listed last.
    pub fn rows<'a>(&'a self, listed: &'a [Instance]) -> impl Iterator<Item = (&'a Instance, &'a Decision)> {
        listed.iter().chain(&self.absent).zip(&self.decisions)
    }

    /// Everything there is to do.
    #[must_use]
    pub fn work<'a>(&'a self, listed: &'a [Instance]) -> Work<'a> {
        let mut work = Work::default();
        for (instance, decision) in self.rows(listed) {
            match decision {
                Decision::Migrate { eligible, job_before } => {
                    let (eligible, job_before) = (*eligible, job_before.as_deref());
                    work.migrations.push(Migration { instance, eligible, job_before });
                }
                Decision::Recreate(recreating) | Decision::Resume(recreating) => work.recreations.push(recreating),
                Decision::Retire { keep } => work.duplicates.push(Duplicate { instance, keep }),
                Decision::Skip(_) => {}
            }
        }
        work.recreations.sort_by_key(|recreating| recreating.starts());
        work.migrations.sort_by_key(|migration| oldest_first(migration.instance));
        work
    }

    /// The rows with an action, for people: open recreations, new ones, migrations; each oldest first.
    #[must_use]
    pub fn actions<'a>(&'a self, listed: &'a [Instance]) -> Vec<(&'a Instance, &'a Decision)> {
        let mut actions: Vec<_> =
            self.rows(listed).filter(|(_, decision)| decision.verdict() != Verdict::Skip).collect();
        actions.sort_by_key(|(instance, decision)| (decision.verdict(), oldest_first(instance)));
        actions
    }

    /// How many verdicts there are of this kind.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.decisions.iter().filter(|decision| decision.verdict() == verdict).count()
    }

    /// How many instances would be created, or deleted to be created. One that was deleted first is not counted: it was
    /// allowed when its recreation started, and all that is left to do is to bring it back.
    #[must_use]
    pub fn creations(&self) -> usize {
        let was_deleted = |decision: &Decision| {
            decision.recreation().is_some_and(|(_, it)| matches!(it.step, Step::Pending { kept: Some(_) }))
        };
        self.decisions.iter().filter(|decision| decision.creates() && !was_deleted(decision)).count()
    }
}

/// Decides what to do about every instance in `snapshot` and every open recreation in `ledger`. The first rule that fits
/// decides ([`super::rules`]).
#[must_use]
pub fn plan(snapshot: &Snapshot, ledger: &Ledger, policy: &Policy, now: Timestamp) -> Plan {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let settlements = settle(snapshot, ledger, &jobs, now);
    let view = View::new(snapshot, ledger, policy, &jobs, &settlements, now);
    let listed = &snapshot.instances.items;
    let absent = absent(listed, ledger);
    let mut decisions: Vec<Decision> = listed.iter().chain(&absent).map(|instance| view.decide(instance)).collect();
    let managed = decisions[..listed.len()].iter().filter(|decision| decision.is_on_managed()).count();
    let rows = || listed.iter().chain(&absent);
    if let Some(limit) = policy.max_migrations {
        let is_cut = |decision: &Decision| matches!(decision, Decision::Migrate { .. });
        cut(&mut decisions, limit, is_cut, |_, _, instance| oldest_first(instance), rows());
    }
    let journal = journal(&decisions, snapshot, ledger, now);
    if let Some(limit) = policy.max_recreations {
        // First those whose old instance is gone, then those that earlier passes started.
        let order = |at: usize, decision: &Decision, instance| {
            (at < listed.len(), matches!(decision, Decision::Recreate(_)), oldest_first(instance))
        };
        cut(&mut decisions, limit, Decision::creates, order, rows());
    }
    let (observations, stalls) = (observe(snapshot, ledger, now), view.failures.stalls());
    Plan { decisions, absent, settlements, observations, stalls, journal, managed }
}

/// The old instances of open recreations that are not listed, ordered by id.
fn absent(listed: &[Instance], ledger: &Ledger) -> Vec<Instance> {
    let open = ledger.recreations.iter().filter(|(_, recreation)| !recreation.step.is_over());
    let mut absent: Vec<Instance> = open
        .filter(|(id, _)| find(listed, id).is_none())
        .map(|(id, recreation)| Instance {
            id: id.clone(),
            name: recreation.instance_name.as_str().into(),
            status: Status::from_word("gone"),
            billing: Billing::Unstated,
            reclaim: None,
            marker: None,
            place: None,
            created_at: None,
            started_at: None,
            stopped_at: None,
        })
        .collect();
    absent.sort_by(|a, b| a.id.cmp(&b.id));
    absent
}

/// What changed about recreations: steps that the observation brought about, and what was over for long enough to be
/// forgotten.
fn journal(
    decisions: &[Decision],
    snapshot: &Snapshot,
    ledger: &Ledger,
    now: Timestamp,
) -> Vec<(InstanceId, Option<Recreation>)> {
    let mut changes: HashMap<&InstanceId, Option<&Recreation>> = HashMap::new();
    for (id, stored) in &ledger.recreations {
        let age = now.since(stored.since);
        let is_forgotten = match stored.step {
            Step::Closed { .. } => age >= CLOSED_LIFE,
            Step::Ended => age >= ENDED_LIFE,
            // Passes no longer handle it, for example since it is excluded. A kept specification is the last trace of an
            // instance, and stays.
            _ => {
                let is_listed = |id: &InstanceId| find(&snapshot.instances.items, id).is_some();
                let is_gone = !is_listed(id) && !stored.step.replacement().is_some_and(is_listed);
                let is_left_alone = is_gone && snapshot.instances.is_complete() && age >= ENDED_LIFE;
                is_left_alone && stored.step.kept().is_none()
            }
        };
        if is_forgotten {
            changes.insert(id, None);
        }
    }
    for (id, recreation) in decisions.iter().filter_map(Decision::recreation) {
        let is_new = match ledger.recreations.get(id) {
            Some(stored) => stored != recreation,
            // A new one is stored with its first transition.
            None => !matches!(recreation.step, Step::Pending { .. }),
        };
        // So is a new one for an instance whose last recreation is over.
        let starts = matches!(recreation.step, Step::Pending { .. }) && recreation.pass.is_empty();
        if is_new && !starts {
            changes.insert(id, Some(recreation));
        }
    }
    let mut changes: Vec<_> = changes.into_iter().map(|(id, change)| (id.clone(), change.cloned())).collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

/// Leaves the first `limit` of the actions that `is_cut` names; the others become skips that say so.
fn cut<'a, K: Ord>(
    decisions: &mut [Decision],
    limit: usize,
    is_cut: impl Fn(&Decision) -> bool,
    order: impl Fn(usize, &Decision, &'a Instance) -> K,
    rows: impl Iterator<Item = &'a Instance>,
) {
    let mut chosen: Vec<(K, usize)> = rows
        .zip(&*decisions)
        .enumerate()
        .filter(|(_, (_, decision))| is_cut(decision))
        .map(|(at, (instance, decision))| (order(at, decision, instance), at))
        .collect();
    chosen.sort();
    for (_, at) in chosen.into_iter().skip(limit) {
        decisions[at] = Decision::Skip(Skip::OverLimit { limit });
    }
}

/// The order of actions: what stopped first comes first, what has no stop time last. The id decides the rest, so that
/// the order of the listing does not matter.
fn oldest_first(instance: &Instance) -> (Timestamp, &InstanceId) {
    (instance.stopped_at.map_or(Timestamp::from_millis(i64::MAX), Timestamp::from), &instance.id)
}

#[cfg(test)]
mod tests;
