//! One verdict for every instance and every open recreation, and what became of the calls of earlier passes.
//!
//! [`plan`] cannot fail and cannot wait. Recovery after a crash is not a special path: what an earlier pass left open
//! is settled here, on every pass, from what is seen now.

use std::collections::HashMap;

use super::ledger::{Ledger, Observation};
use super::settle::{Settlement, observe, settle};
use super::verdict::{Decision, Recreating, Skip};
use crate::core::pass::rules::View;
use crate::core::recreation::journal::{CLOSED_LIFE, ENDED_LIFE, Recreation, Step};
use crate::core::world::instance::{Billing, Instance, InstanceId, Status};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::{JobIndex, Listing, Snapshot, find};
use crate::core::world::time::Timestamp;

/// What a pass would do, or does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for every listed instance, in the listing's order.
    pub decisions: Vec<Decision>,
    /// Open recreations whose old instance is not listed any more.
    pub absent: Vec<Absent>,
    /// What became of the calls of earlier passes.
    pub settlements: Vec<Settlement>,
    /// What to remember, and to forget, about announced reclaims.
    pub observations: Vec<(InstanceId, Option<Observation>)>,
    /// The same about instances that are `migrating` without a job.
    pub stalls: Vec<(InstanceId, Option<Timestamp>)>,
    /// Recreations of which something new is seen, and those to forget.
    pub journal: Vec<(InstanceId, Option<Recreation>)>,
    /// How many of the listed instances the rules of selection cover.
    pub managed: usize,
}

/// The verdict on an open recreation whose old instance is not listed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The old instance, as far as the journal knows it; its status is `gone`.
    pub instance: Instance,
    /// The verdict.
    pub decision: Decision,
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

    /// Every instance with its verdict, those that are not listed any more last.
    pub fn rows<'a>(&'a self, instances: &'a [Instance]) -> impl Iterator<Item = (&'a Instance, &'a Decision)> {
        let absent = self.absent.iter().map(|absent| (&absent.instance, &absent.decision));
        instances.iter().zip(&self.decisions).chain(absent)
    }

    /// Every verdict, also those on instances that are not listed any more.
    pub fn all(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().chain(self.absent.iter().map(|absent| &absent.decision))
    }

    /// Everything there is to do about recreations, resumed ones first.
    #[must_use]
    pub fn recreations(&self) -> Vec<&Recreating> {
        let resumed = self.all().filter_map(|it| if let Decision::Resume(work) = it { Some(&**work) } else { None });
        let begun = self.all().filter_map(|it| if let Decision::Recreate(work) = it { Some(&**work) } else { None });
        resumed.chain(begun).collect()
    }

    /// The same, to be completed with what was asked for since.
    pub fn recreations_mut(&mut self) -> impl Iterator<Item = &mut Recreating> {
        let decisions = self.decisions.iter_mut().chain(self.absent.iter_mut().map(|absent| &mut absent.decision));
        decisions.filter_map(|decision| match decision {
            Decision::Resume(work) | Decision::Recreate(work) => Some(&mut **work),
            Decision::Migrate(_) | Decision::Retire { .. } | Decision::Skip(_) => None,
        })
    }

    /// Instances that are one too many, as positions in the listing, each with the one that stays.
    pub fn duplicates(&self) -> impl Iterator<Item = (usize, &InstanceId)> {
        self.decisions.iter().enumerate().filter_map(|(at, decision)| match decision {
            Decision::Retire { keep } => Some((at, keep)),
            _ => None,
        })
    }

    /// What is to be done, in its order: recreations that are open, those that begin, migrations; each oldest first.
    #[must_use]
    pub fn actions<'a>(&'a self, instances: &'a [Instance]) -> Vec<(&'a Instance, &'a Decision)> {
        let order =
            |decision: &Decision| ["resume", "recreate", "migrate"].iter().position(|it| *it == decision.verdict());
        let mut actions: Vec<_> = self
            .rows(instances)
            .filter_map(|(instance, decision)| Some((order(decision)?, instance, decision)))
            .collect();
        actions.sort_by_key(|(order, instance, _)| (*order, oldest_first(instance)));
        actions.into_iter().map(|(_, instance, decision)| (instance, decision)).collect()
    }

    /// How many instances would be created, or deleted to be created. One that was deleted first is not counted: it was
    /// allowed when it began, and all that is left to do is to bring it back.
    #[must_use]
    pub fn creations(&self) -> usize {
        let was_deleted = |decision: &Decision| {
            decision.recreation().is_some_and(|(_, it)| matches!(it.step, Step::Pending { kept: Some(_) }))
        };
        self.all().filter(|decision| decision.creates() && !was_deleted(decision)).count()
    }
}

/// Decides what to do about every instance in `snapshot` and every open recreation in `ledger`.
///
/// The verdicts follow the order of `docs/reference.md`, Eligibility: the first rule that fits decides ([`super::rules`]).
#[must_use]
pub fn plan(snapshot: &Snapshot, ledger: &Ledger, policy: &Policy, now: Timestamp) -> Plan {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let settlements = settle(snapshot, ledger, &jobs, now);
    let view = View::new(snapshot, ledger, policy, &jobs, &settlements, now);
    let instances = &snapshot.instances.items;
    let mut decisions: Vec<Decision> = instances.iter().map(|instance| view.decide(instance)).collect();
    let managed = decisions.iter().filter(|decision| decision.is_on_managed()).count();
    let open = ledger.recreations.iter().filter(|(_, recreation)| !recreation.step.is_over());
    let mut absent: Vec<Absent> = open
        .filter(|(id, _)| find(instances, id).is_none())
        .map(|(id, recreation)| {
            let instance = Instance {
                id: id.clone(),
                name: recreation.instance_name.as_str().into(),
                status: Status::from_word("gone"),
                billing: Billing::Unstated,
                reclaim: None,
                place: None,
                created_at: None,
                started_at: None,
                stopped_at: None,
            };
            let decision = view.decide(&instance);
            Absent { instance, decision }
        })
        .collect();
    absent.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
    if let Some(limit) = policy.max_migrations {
        cut_migrations(&mut decisions, instances, limit);
    }
    let every = decisions.iter().chain(absent.iter().map(|absent| &absent.decision));
    let journal = journal(every, snapshot, ledger, now);
    if let Some(limit) = policy.max_recreations {
        cut_recreations(&mut decisions, &mut absent, instances, limit);
    }
    let (observations, stalls) = (observe(snapshot, ledger, now), view.failures.stalls());
    Plan { decisions, absent, settlements, observations, stalls, journal, managed }
}

/// What is new about recreations: steps that a look brought about, and what is over for long enough to be forgotten.
fn journal<'a>(
    decisions: impl Iterator<Item = &'a Decision>,
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
            // Nobody looks after it any more, for example since it is excluded. A specification that is kept is the last
            // trace of an instance, and stays.
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
    for (id, recreation) in decisions.filter_map(Decision::recreation) {
        let is_new = match ledger.recreations.get(id) {
            Some(stored) => stored != recreation,
            // One that nobody began is stored when it begins.
            None => !matches!(recreation.step, Step::Pending { .. }),
        };
        // A new story over an old one that is over begins with its first transition, too.
        let begins = matches!(recreation.step, Step::Pending { .. }) && recreation.pass.is_empty();
        if is_new && !begins {
            changes.insert(id, Some(recreation));
        }
    }
    let mut changes: Vec<_> = changes.into_iter().map(|(id, change)| (id.clone(), change.cloned())).collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

/// Leaves `limit` migrations, the oldest; the others become skips that say so.
fn cut_migrations(decisions: &mut [Decision], instances: &[Instance], limit: usize) {
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

/// Leaves `limit` creations: those whose old instance is gone, those that were begun by earlier passes, then the oldest.
fn cut_recreations(decisions: &mut [Decision], absent: &mut [Absent], instances: &[Instance], limit: usize) {
    let over = || Decision::Skip(Skip::OverLimit { limit });
    let mut left = limit;
    for absent in absent.iter_mut().filter(|absent| absent.decision.creates()) {
        if left == 0 {
            absent.decision = over();
        }
        left = left.saturating_sub(1);
    }
    let mut chosen: Vec<usize> = (0..decisions.len()).filter(|&at| decisions[at].creates()).collect();
    chosen.sort_by_key(|&at| (matches!(decisions[at], Decision::Recreate(_)), oldest_first(&instances[at])));
    for &at in chosen.iter().skip(left) {
        decisions[at] = over();
    }
}

/// The order of actions: who stopped first comes first, who has no stop time last; the id decides the rest, so that the
/// order of the listing does not matter.
fn oldest_first(instance: &Instance) -> (Timestamp, &InstanceId) {
    (instance.stopped_at.map_or(Timestamp::from_millis(i64::MAX), Timestamp::from), &instance.id)
}

#[cfg(test)]
mod tests;
