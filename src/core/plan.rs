//! One verdict for every instance and every open recreation, and what became of the calls of earlier passes.
//!
//! [`plan`] cannot fail and cannot wait. Recovery after a crash is not a special path: what an earlier pass left open
//! is settled here, on every pass, from what is seen now.

use std::collections::HashMap;

use super::failures::Failures;
use super::journal::{CLOSED_LIFE, Cause, ENDED_LIFE, Next, PATIENCE, Recreation, Rest, Step, next};
use super::ledger::{Call, InFlight, Ledger, Observation, Stamp};
use super::marker::replacement_name;
use super::model::{Billing, Instance, InstanceId, JobIndex, Listing, Snapshot, Status, Timestamp, find};
use super::policy::{Eligibility, Halves, Policy};
use super::settle::{EVIDENCE_LIFE, End, SETTLE_TIME, Settlement, observe, settle};
use super::verdict::{Decision, Eligible, FailedJob, Recreating, Skip};

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
    pub fn extras(&self) -> impl Iterator<Item = (usize, &InstanceId)> {
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

    let failures = Failures::new(snapshot, ledger, &jobs, now);
    let view = View { ledger, policy, jobs: &jobs, failures: &failures, no_effect: &no_effect, now };
    let instances = &snapshot.instances.items;
    let mut managed = 0;
    let mut decisions: Vec<Decision> = Vec::with_capacity(instances.len());
    for instance in instances {
        decisions.push(match view.unmanaged(&instance.id, &instance.name) {
            Some(skip) => Decision::Skip(skip),
            None if !policy.scope.covers(&instance.billing) => Decision::Skip(Skip::OutOfScope),
            None => {
                managed += 1;
                view.decide(instance)
            }
        });
    }
    let open = ledger.recreations.iter().filter(|(_, recreation)| !recreation.step.is_over());
    let mut absent: Vec<Absent> = open
        .filter(|(id, _)| find(instances, id).is_none())
        .map(|(id, recreation)| {
            let name = recreation.instance_name.clone();
            let decision = match view.unmanaged(id, &name) {
                Some(skip) => Decision::Skip(skip),
                None if policy.halves == Halves::MigrateOnly => Decision::Skip(Skip::RecreationOpen),
                None => view.go_on(id, recreation.clone()),
            };
            let instance = Instance {
                id: id.clone(),
                name: name.into(),
                status: Status::from_word("gone"),
                billing: Billing::Unstated,
                reclaim: None,
                created_at: None,
                started_at: None,
                stopped_at: None,
            };
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
    let (observations, stalls) = (observe(snapshot, ledger, now), failures.stalls());
    Plan { decisions, absent, settlements, observations, stalls, journal, managed }
}

/// Everything a verdict on one instance depends on.
struct View<'a> {
    ledger: &'a Ledger,
    policy: &'a Policy,
    jobs: &'a JobIndex<'a>,
    failures: &'a Failures<'a>,
    no_effect: &'a HashMap<&'a InstanceId, Option<Timestamp>>,
    now: Timestamp,
}

impl View<'_> {
    fn unmanaged(&self, id: &InstanceId, name: &str) -> Option<Skip> {
        let Policy { only, exclude, .. } = self.policy;
        if !only.is_empty() && !only.iter().any(|selector| selector.matches(id, name)) {
            return Some(Skip::NotSelected);
        }
        let selector = exclude.iter().position(|selector| selector.matches(id, name))?;
        Some(Skip::Excluded { selector })
    }

    fn decide(&self, instance: &Instance) -> Decision {
        let recreates = self.policy.halves != Halves::MigrateOnly;
        if recreates && let Some(keep) = self.failures.extra(&instance.id) {
            return Decision::Retire { keep: keep.clone() };
        }
        match self.failures.recreation(instance) {
            Some(_) if !recreates => return Decision::Skip(Skip::RecreationOpen),
            Some(recreation) => return self.go_on(&instance.id, recreation),
            None => {}
        }
        if let Some(skip) = self.obstacle(instance) {
            return Decision::Skip(skip);
        }
        if recreates && let Some(cause) = self.failures.failure(instance) {
            if let Some(of) = self.failures.replaces(&instance.id) {
                return Decision::Skip(Skip::ReplacementFailed { of: of.clone() });
            }
            let marker = replacement_name(&instance.id, &instance.name, cause.job());
            let recreation = Recreation::planned(&instance.name, cause, marker, self.now);
            return self.go_on(&instance.id, recreation);
        }
        if instance.status != Status::Exited {
            return Decision::Skip(self.not_exited(instance));
        }
        if recreates && let Some(of) = self.given_up(&instance.id) {
            return Decision::Skip(Skip::ReplacementFailed { of: of.clone() });
        }
        match self.policy.halves {
            Halves::RecreateOnly => Decision::Skip(Skip::NotFailed),
            Halves::Both | Halves::MigrateOnly => self.by_cooldown(instance),
        }
    }

    /// The old instance, if this is its replacement and about to be deleted.
    fn given_up(&self, id: &InstanceId) -> Option<&InstanceId> {
        let Policy { recreate_order, retry_quarantined, .. } = self.policy;
        let old = self.failures.replaces(id)?;
        let recreation = self.ledger.recreations.get(old)?;
        let sight = self.failures.sight(old, recreation)?;
        let seen = recreation.clone().see(&sight);
        let next = next(&seen, &sight, *recreate_order, *retry_quarantined);
        (matches!(next, Next::Abandon(_)) && seen.step.replacement() == Some(id)).then_some(old)
    }

    /// What comes next in a recreation.
    fn go_on(&self, id: &InstanceId, recreation: Recreation) -> Decision {
        let Policy { recreate_order, retry_quarantined, .. } = self.policy;
        let (recreation, next) = match self.failures.sight(id, &recreation) {
            Some(sight) => {
                let seen = recreation.see(&sight);
                let next = next(&seen, &sight, *recreate_order, *retry_quarantined);
                (seen, next)
            }
            None => (recreation, Next::Rest(Rest::OldBusy)),
        };
        let stored = self.ledger.recreations.get(id);
        match next {
            Next::Rest(rest) => {
                Decision::Skip(Skip::Waiting { instance: id.clone(), recreation: Box::new(recreation), rest })
            }
            Next::Nothing if stored.is_some_and(|stored| stored.step == recreation.step) => {
                Decision::Skip(match recreation.step {
                    Step::Closed { replacement: Some(by) } => Skip::Replaced { by },
                    _ => Skip::NotFailed,
                })
            }
            next => {
                let work = Box::new(Recreating { instance: id.clone(), recreation, next, prepared: None });
                if work.begins() { Decision::Recreate(work) } else { Decision::Resume(work) }
            }
        }
    }

    /// The first reason to leave a managed instance alone, whatever its migration time says and whether its migration
    /// failed or not.
    fn obstacle(&self, instance: &Instance) -> Option<Skip> {
        if !matches!(instance.status, Status::Exited | Status::Migrating) {
            return Some(self.not_exited(instance));
        }
        if let Some(job) = self.jobs.unfinished(&instance.id) {
            // That of a migration is what `migrating` means.
            let says_nothing_new = instance.status == Status::Migrating && job.kind.is_migration();
            return Some(if says_nothing_new {
                self.not_exited(instance)
            } else {
                Skip::JobUnfinished { job: job.id.clone(), kind: job.kind.clone() }
            });
        }
        if instance.status == Status::Exited {
            if let Some(call) = self.unsettled(&instance.id) {
                return Some(Skip::Unsettled { called_at: call.called_at, until: call.called_at + SETTLE_TIME });
            }
            if self.policy.eligibility == Eligibility::Reclaimed && !self.has_evidence(instance) {
                return Some(Skip::NoReclaimEvidence);
            }
        }
        None
    }

    fn not_exited(&self, instance: &Instance) -> Skip {
        // Soon after it began a migration has no job that could be seen.
        let stalled = self.failures.stalled_since(instance).filter(|since| self.now.since(*since) >= SETTLE_TIME);
        if let Some(since) = stalled {
            return Skip::Stalled { since, until: since + PATIENCE };
        }
        // The failure of an earlier job says nothing about a call of which no job is to be seen yet.
        let failed_job = match self.failures.failure(instance) {
            Some(Cause::JobFailed { job, error }) => Some(Box::new(FailedJob { id: job, error })),
            Some(Cause::Stalled { .. } | Cause::Found) | None => None,
        };
        Skip::NotExited { failed_job }
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
        // A new story over an old one that is over begins with its first deed, too.
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
