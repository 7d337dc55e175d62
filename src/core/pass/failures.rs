//! Which instances need a replacement, which have one, and what is observed of both.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::evidence;
use super::ledger::{Call, Ledger, Stamp};
use super::settle::is_new;
use crate::core::recreation::journal::{Cause, Old, Recreation, Rest, Situation, Step, Successor};
use crate::core::recreation::marker::{Origin, is_bridge};
use crate::core::world::instance::{Aside, Billing, Instance, InstanceId, Status};
use crate::core::world::snapshot::{JobIndex, Shortfall, Snapshot, find};
use crate::core::world::time::Timestamp;
use crate::core::world::times::{FOLLOW_TIME, JOBS_WINDOW, PATIENCE, SETTLE_TIME};

/// Instances with the same marker count as duplicates only if they were created within this time of each other: a request
/// cannot live longer, so a later one is a copy that an operator made on purpose.
const TWIN_TIME: Duration = Duration::from_secs(3600);

/// The same, measured from the recreation in the journal.
const KNOWN_TWIN_TIME: Duration = Duration::from_secs(24 * 3600);

/// How many times an instance is replaced at most within the time in which duplicates appear.
const MOST_GENERATIONS: usize = 50;

/// How far back they are read when the usual window leaves a question open.
const WIDEST_WINDOW: Duration = FOLLOW_TIME;

/// The time from which the jobs must be read again, if the usual window did not reach far enough: no pass ran for days,
/// and a call or a migration from before is still open.
#[must_use]
pub fn jobs_needed_since(snapshot: &Snapshot, ledger: &Ledger) -> Option<Timestamp> {
    let window = snapshot.taken_at - JOBS_WINDOW;
    let migrations = snapshot.jobs.items.iter().filter(|job| job.kind.is_migration());
    let explained: HashSet<&InstanceId> = migrations.map(|job| &job.instance).collect();
    let is_unexplained =
        |instance: &Instance| instance.status == Status::Migrating && !explained.contains(&instance.id);
    if snapshot.instances.items.iter().any(is_unexplained) {
        return Some(snapshot.taken_at - WIDEST_WINDOW);
    }
    // It was reclaimed, and migrated after that: whether the migration failed decides what its being down means.
    let migrated_since = |instance: &Instance| {
        let Some(Stamp::At(at)) = ledger.last_attempt.get(&instance.id) else { return None };
        let seen = ledger.observations.get(&instance.id);
        let is_open = instance.status == Status::Exited && !explained.contains(&instance.id);
        let reclaimed_at = || evidence::reclaimed_at(instance, seen, None, snapshot.taken_at);
        (is_open && reclaimed_at().is_some_and(|reclaimed_at| reclaimed_at <= *at)).then_some(*at)
    };
    let called = ledger.in_flight.values().map(|call| call.called_at);
    let called = called.chain(snapshot.instances.items.iter().filter_map(migrated_since)).min()?;
    // With a margin for the provider's clock.
    let called = called - Duration::from_secs(3600);
    (called < window).then(|| called.max(snapshot.taken_at - WIDEST_WINDOW))
}

/// What is known about failed migrations and their replacements, put together once for all verdicts.
pub(in crate::core) struct Failures<'a> {
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
    jobs: &'a JobIndex<'a>,
    /// How long an announced instance stays beside its replacement.
    overlap: Option<Duration>,
    now: Timestamp,
    /// Living instances by the marker in their name, the most advanced first.
    marked: HashMap<Origin, Vec<&'a Instance>>,
    /// The old instance of each replacement that an open recreation names, or whose old instance is still there.
    replaces: HashMap<&'a InstanceId, &'a InstanceId>,
    duplicates: HashMap<&'a InstanceId, Twin<'a>>,
}

/// What is known of a duplicate: the instance that stays, and whether that one runs, so that the duplicate may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) struct Twin<'a> {
    pub(in crate::core) of: &'a InstanceId,
    pub(in crate::core) may_go: bool,
}

impl<'a> Failures<'a> {
    pub(in crate::core) fn new(
        snapshot: &'a Snapshot,
        ledger: &'a Ledger,
        jobs: &'a JobIndex<'a>,
        overlap: Option<Duration>,
        now: Timestamp,
    ) -> Self {
        let mut marked: HashMap<Origin, Vec<&Instance>> = HashMap::new();
        for instance in snapshot.instances.items.iter().filter(|instance| !instance.status.is_going()) {
            if let Some(origin) = Origin::replaced_by(instance) {
                marked.entry(origin).or_default().push(instance);
            }
        }
        let mut replaces: HashMap<&InstanceId, &InstanceId> = HashMap::new();
        let open = || ledger.recreations.iter().filter(|(_, recreation)| !recreation.step.is_over());
        if !marked.is_empty() {
            // Also before the journal names it, or without one: two recreations must not handle one replacement.
            let listed = snapshot.instances.items.iter().filter(|instance| !instance.status.is_going());
            for old in listed.map(|instance| &instance.id).chain(open().map(|(old, _)| old)) {
                let group = marked.get(&Origin::of(old)).into_iter().flatten();
                replaces.extend(group.map(|replacement| (&replacement.id, old)));
            }
        }
        replaces.extend(open().filter_map(|(old, recreation)| Some((recreation.step.replacement()?, old))));
        let mut this = Self { snapshot, ledger, jobs, overlap, now, marked, replaces, duplicates: HashMap::new() };
        for group in this.marked.values_mut() {
            group.sort_by_key(|instance| (progress(instance, now), instance.created_at, &instance.id));
        }
        this.duplicates = this.find_duplicates();
        this
    }

    /// What is known of this instance if it is a duplicate.
    pub(in crate::core) fn duplicate(&self, id: &InstanceId) -> Option<Twin<'a>> {
        self.duplicates.get(id).copied()
    }

    /// The old instance, if this one replaces it in an open recreation.
    pub(in crate::core) fn replaces(&self, id: &InstanceId) -> Option<&'a InstanceId> {
        self.replaces.get(id).copied()
    }

    /// The instance that an open rollout moves and its new billing mode, if this is that instance or its successor.
    pub(in crate::core) fn moving(&self, id: &InstanceId) -> Option<(&'a InstanceId, &'a Billing)> {
        let ledger = &self.ledger.recreations;
        let own = ledger.get_key_value(id);
        let (old, recreation) = own
            .into_iter()
            .chain(self.replaces(id).and_then(|old| ledger.get_key_value(old)))
            .find(|(_, recreation)| recreation.is_move() && !recreation.step.is_over())?;
        Some((old, recreation.moves_to()?))
    }

    /// Duplicates, each with the instance that stays:
    ///
    /// 1. An instance made for a move that was called off is a duplicate of the old one, which runs.
    /// 2. Of several instances with one marker one stays: the one that the journal names if it runs, else the most
    ///    advanced. The others are duplicates, which may go once that one runs, and only if they were created at about the
    ///    same time.
    /// 3. A replacement that was given up is deleted by its own recreation, and no other is deleted in its favor.
    /// 4. If one of them was replaced in its turn, the successor stays in its place, once it runs.
    fn find_duplicates(&self) -> HashMap<&'a InstanceId, Twin<'a>> {
        let mut duplicates = HashMap::new();
        let called_off = self.called_off();
        for (old, recreation, marked) in &called_off {
            if are_twins(marked, marked, Some(recreation)) {
                duplicates.insert(&marked.id, Twin { of: old, may_go: true });
            }
        }
        let journal: HashMap<Origin, &Recreation> =
            self.ledger.recreations.iter().map(|(old, recreation)| (Origin::of(old), recreation)).collect();
        for (origin, group) in &self.marked {
            let recreation = journal.get(origin).copied();
            let named = recreation.and_then(|recreation| recreation.step.replacement());
            let has_others = group.len() > 1 || named.is_some_and(|named| group.iter().any(|it| it.id != *named));
            if !has_others || called_off.iter().any(|(old, ..)| Origin::of(old) == *origin) {
                continue;
            }
            let members = group.iter().map(|it| &it.id).chain(named);
            let heir = members.into_iter().find_map(|id| Some((id, self.heir(id)?)));
            let given_up = matches!(recreation.map(|it| &it.step), Some(Step::Abandoned { .. }));
            let group = || group.iter().copied().filter(|it| !(given_up && Some(&it.id) == named));
            let runs = |instance: &Instance| instance.status == Status::Running;
            let is_other = |instance: &&Instance| Some(&instance.id) != named;
            let advanced = || group().min_by_key(|it| (progress(it, self.now), is_other(it)));
            let (keep, stays) = match heir {
                Some((replaced, heir)) => (heir, heir.map_or(replaced, |heir| &heir.id)),
                None => {
                    let keep = group().find(|it| !is_other(it) && runs(it)).or_else(advanced);
                    let Some(keep) = keep else { continue };
                    (Some(keep), &keep.id)
                }
            };
            let may_go = keep.is_some_and(runs);
            let others = group().filter(|it| it.id != *stays && heir.is_none_or(|(replaced, _)| it.id != *replaced));
            // One that was replaced in its turn was made at the same time as its duplicates; its successor was not.
            let replaced = heir.and_then(|(replaced, _)| self.find_living(replaced));
            let first = replaced.or(keep);
            let twins = others.filter(|other| are_twins(first.unwrap_or(other), other, recreation));
            duplicates.extend(twins.map(|twin| (&twin.id, Twin { of: stays, may_go })));
        }
        duplicates
    }

    /// The last one in the line of replacements of an instance that was replaced in its turn: `Some(None)` while that one is
    /// being made, or given up.
    fn heir(&self, id: &InstanceId) -> Option<Option<&'a Instance>> {
        let (mut id, mut heir) = (id, None);
        // A line is not longer than this; names that were written by hand may form a circle.
        for _ in 0..MOST_GENERATIONS {
            let recreation = self.ledger.recreations.get(id);
            match recreation.map(|it| &it.step) {
                _ if recreation.is_some_and(Recreation::is_move) => break,
                Some(Step::Deleting { .. } | Step::Abandoned { .. } | Step::Pending { kept: Some(_) }) => {
                    return Some(None);
                }
                _ => {}
            }
            let named = recreation.and_then(|it| self.find_living(it.step.replacement()?));
            match named.or_else(|| self.marked(id, None)) {
                Some(next) => (id, heir) = (&next.id, Some(next)),
                None if matches!(recreation.map(|it| &it.step), Some(Step::Intent { .. })) => return Some(None),
                None => break,
            }
        }
        heir.map(Some)
    }

    /// Instances with the marker of a move that was called off, made by a request that arrived late; each with the old
    /// instance, which runs.
    fn called_off(&self) -> Vec<(&'a InstanceId, &'a Recreation, &'a Instance)> {
        let is_called_off = |it: &Recreation| it.is_move() && matches!(it.step, Step::Closed { replacement: None });
        let moves = self.ledger.recreations.iter().filter(|(_, recreation)| is_called_off(recreation));
        let stayed = moves.filter(|(old, _)| {
            find(&self.snapshot.instances.items, old).is_some_and(|old| old.status == Status::Running)
        });
        stayed
            .flat_map(|(old, recreation)| {
                let marked = self.marked.get(&Origin::of(old)).into_iter().flatten();
                marked.filter(|marked| marked.id != *old).map(move |marked| (old, recreation, *marked))
            })
            .collect()
    }

    /// The most advanced living instance with the marker of `old`, other than `known`.
    fn marked(&self, old: &InstanceId, known: Option<&InstanceId>) -> Option<&'a Instance> {
        if self.marked.is_empty() {
            return None;
        }
        let group = self.marked.get(&Origin::of(old))?;
        group.iter().copied().find(|instance| Some(&instance.id) != known && instance.id != *old)
    }

    /// Whether instances with the marker of `old` live beside its replacement.
    pub(in crate::core) fn has_others(&self, old: &InstanceId, replacement: Option<&InstanceId>) -> bool {
        replacement.is_some() && self.marked(old, replacement).is_some()
    }

    /// The recreation of a listed instance: the open one, or one that must have started, since a replacement exists.
    pub(in crate::core) fn recreation(&self, instance: &Instance) -> Option<Recreation> {
        let stored = self.ledger.recreations.get(&instance.id);
        if let Some(stored) = stored {
            let has_just_ended = self.now.since(stored.since) < SETTLE_TIME;
            let lingers = |new: &InstanceId| has_just_ended || self.find_living(new).is_some();
            if !stored.step.is_over() || stored.step.replacement().is_some_and(lingers) {
                return Some(self.ahead(instance, stored.clone()));
            }
            // A rollout left both as they are: the operator decides which one to keep.
            if stored.is_move() && stored.step == Step::Ended {
                return None;
            }
        }
        if instance.status.is_going() {
            return None;
        }
        let marker = self.marked(&instance.id, None)?.marker.as_deref()?;
        let cause = self.failure(instance).unwrap_or(Cause::Found);
        Some(self.ahead(instance, Recreation::planned(&instance.name, cause, marker.to_string(), self.now)))
    }

    /// Where announced reclaims are acted on, a replacement of what runs again and is to be reclaimed again is one ahead.
    fn ahead(&self, instance: &Instance, recreation: Recreation) -> Recreation {
        let is_leaving = self.overlap.is_some() && instance.status == Status::Running && instance.reclaim.is_some();
        let is_for_a_failure = matches!(
            recreation.cause,
            Cause::Reclaimed | Cause::Found | Cause::JobFailed { .. } | Cause::Stalled { .. }
        );
        match is_leaving && is_for_a_failure && !recreation.step.is_over() {
            true => Recreation { cause: Cause::Announced, ..recreation },
            false => recreation,
        }
    }

    /// Whether the provider migrates instances.
    pub(in crate::core) fn can_migrate(&self) -> bool {
        self.snapshot.abilities.migrates
    }

    /// Whether the provider forgets what was reclaimed.
    pub(in crate::core) fn forgets_ended(&self) -> bool {
        self.snapshot.abilities.forgets_ended
    }

    /// What is observed of a recreation. `None` while listings have gaps, or one of the two is missing for the first time:
    /// nothing is concluded from that.
    pub(in crate::core) fn situation(&self, old: &InstanceId, recreation: &Recreation) -> Option<Situation> {
        let named = recreation.step.replacement();
        let is_doubted = |id: &InstanceId| self.ledger.is_doubted(id, self.now);
        let has_gaps = !self.snapshot.jobs.is_complete()
            || match &self.snapshot.instances.shortfall {
                None => false,
                // A replacement is in the region of the old instance, and the regions of what is listed were read whole.
                Some(Shortfall::Region { .. }) => find(&self.snapshot.instances.items, old).is_none(),
                Some(_) => true,
            };
        if has_gaps || is_doubted(old) || named.is_some_and(is_doubted) {
            return None;
        }
        let listed = &self.snapshot.instances.items;
        let overlap = (recreation.cause == Cause::Announced)
            .then(|| self.overlap(find(listed, old)?, find(listed, named?)?))
            .flatten();
        Some(Situation {
            overlap,
            old: self.old(find(&self.snapshot.instances.items, old), recreation),
            is_unwanted: named
                .and_then(|id| find(listed, id))
                .is_some_and(|it| it.aside.as_deref() == Some(&Aside::TerminatedByUser)),
            successor: named.map_or(Successor::None, |id| self.successor(id)),
            marked: self.marked(old, named).map(|marked| (marked.id.clone(), marked.status == Status::Running)),
            now: self.now,
        })
    }

    /// When an exited instance was reclaimed, if that is proved.
    pub(in crate::core) fn reclaimed_at(&self, instance: &Instance) -> Option<Timestamp> {
        let id = &instance.id;
        let called = self.ledger.in_flight.get(id);
        let job = self.jobs.newest_migration(id).filter(|job| {
            // The job of the last call may not be listed yet.
            called.is_none_or(|call| is_new(job, call.job_before.as_ref(), call.called_at))
        });
        let stamp = match self.ledger.last_attempt.get(id) {
            Some(Stamp::At(at)) => Some(*at),
            Some(Stamp::Unreadable(_)) | None => None,
        };
        // The provider's time is compared with the provider's where there is one.
        let migrated_at = job.and_then(|job| job.created_at).or(stamp);
        let is_exited = instance.status == Status::Exited;
        is_exited
            .then(|| evidence::reclaimed_at(instance, self.ledger.observations.get(id), migrated_at, self.now))
            .flatten()
    }

    /// Whether it is proved that an exited instance was reclaimed, and that a failed migration since then, if any, left it
    /// as it was.
    pub(in crate::core) fn has_evidence(&self, id: &InstanceId) -> bool {
        let Some(instance) = find(&self.snapshot.instances.items, id) else { return false };
        let seen = self.ledger.observations.get(&instance.id);
        let was_reclaimed = || evidence::reclaimed_at(instance, seen, None, self.now).is_some();
        self.reclaimed_at(instance).is_some() || self.failure(instance).is_some() && was_reclaimed()
    }

    /// Whether an exited instance is a replacement that never ran, so that no person stopped it. Start times must be told at
    /// all.
    pub(in crate::core) fn never_ran(&self, instance: &Instance) -> bool {
        let Instance { status, started_at, .. } = instance;
        let is_replacement = Origin::replaced_by(instance).is_some();
        let is_told = || self.snapshot.instances.items.iter().any(|it| it.started_at.is_some());
        *status == Status::Exited && is_replacement && started_at.is_none() && is_told()
    }

    /// Why the old instance stays for now beside a replacement that runs: the other one is to be reclaimed sooner, or
    /// traffic is to move first.
    fn overlap(&self, old: &Instance, new: &Instance) -> Option<Rest> {
        let end = |it: &Instance| it.reclaim.as_ref().map(|notice| notice.reclaim_at);
        if end(new).is_some_and(|new| end(old).is_some_and(|old| new <= old)) {
            return Some(Rest::BothAnnounced);
        }
        let until = Timestamp::from(new.started_at?) + self.overlap.unwrap_or_default();
        (self.now < until).then_some(Rest::Overlapping { until })
    }

    fn old(&self, instance: Option<&Instance>, recreation: &Recreation) -> Old {
        let Some(instance) = instance else { return Old::Gone };
        if instance.status.is_going() {
            return Old::Going;
        }
        if self.jobs.unfinished(&instance.id).is_some() {
            return Old::Busy;
        }
        let ran_since = instance.started_at.is_some_and(|started| Timestamp::from(started) > recreation.opened_at);
        match &instance.status {
            Status::Running if recreation.cause == Cause::Announced && instance.reclaim.is_some() => Old::Leaving,
            Status::Running if recreation.cause == Cause::Returned => Old::Leaving,
            Status::Running => Old::Runs,
            Status::Migrating => Old::Failed,
            Status::Exited if recreation.cause.is_for_reclaim() && self.reclaimed_at(instance).is_some() => Old::Failed,
            Status::Exited if ran_since => Old::Down,
            Status::Exited if recreation.cause == Cause::Returned && self.never_ran(instance) => Old::Failed,
            // It ran when its recreation started, and nothing proves a reclaim.
            Status::Exited if matches!(recreation.cause, Cause::Announced | Cause::Returned) => Old::Stopped,
            Status::Exited if recreation.cause.is_for_reclaim() => Old::Failed,
            Status::Exited => match self.jobs.newest_migration(&instance.id) {
                Some(job) if !job.state.has_failed() => Old::Down,
                Some(_) | None => Old::Failed,
            },
            // A provider that tells a stopped instance from one that ended: nothing is under way with it.
            _ if recreation.is_move() && instance.aside.as_deref() == Some(&Aside::StoppedByUser) => Old::Failed,
            _ => Old::Busy,
        }
    }

    fn successor(&self, id: &InstanceId) -> Successor {
        let Some(instance) = self.find_living(id) else { return Successor::Gone };
        match &instance.status {
            Status::Running => Successor::Running,
            status if status.is_coming_up() => Successor::ComingUp,
            _ => match self.failure(instance) {
                Some(cause) => Successor::Failed(cause.in_words()),
                None if self.reclaimed_at(instance).is_some() => Successor::Reclaimed,
                // No other rule brings it back: what is on demand is not migrated.
                None if instance.billing == Billing::OnDemand
                    && (is_bridge(&instance.name) || self.never_ran(instance)) =>
                {
                    Successor::Failed("the on-demand instance does not run".into())
                }
                None if instance.status == Status::Exited => Successor::Down,
                None => Successor::Unclear,
            },
        }
    }

    fn find_living(&self, id: &InstanceId) -> Option<&'a Instance> {
        find(&self.snapshot.instances.items, id).filter(|instance| !instance.status.is_going())
    }

    /// Why a migration of an instance came to nothing, if it did. A reclaim after it is another story.
    pub(in crate::core) fn failure(&self, instance: &Instance) -> Option<Cause> {
        let is_migrating = instance.status == Status::Migrating;
        if !is_migrating && instance.status != Status::Exited || self.jobs.unfinished(&instance.id).is_some() {
            return None;
        }
        if self.reclaimed_at(instance).is_some() {
            return None;
        }
        let newest = self.jobs.newest_migration(&instance.id);
        if let Some(job) = newest.filter(|job| job.state.has_failed()) {
            // A later call of ours may be under way, whose job is not listed yet.
            let call = self.ledger.in_flight.get(&instance.id);
            let is_answered = call.is_none_or(|call| {
                is_new(job, call.job_before.as_ref(), call.called_at) || self.now.since(call.called_at) >= SETTLE_TIME
            });
            // If it ran since then, it was stopped for another reason.
            let started = instance.started_at.map(Timestamp::from);
            let ran_since = !is_migrating && job.created_at.is_some() && started > job.created_at;
            return (is_answered && !ran_since)
                .then(|| Cause::JobFailed { job: job.id.clone(), error: job.error.clone() });
        }
        let since = self.stalled_since(instance)?;
        (self.now.since(since) >= PATIENCE).then_some(Cause::Stalled { since })
    }

    /// Since when an instance is known to be `migrating` without a job that is at work on it or failed.
    pub(in crate::core) fn stalled_since(&self, instance: &Instance) -> Option<Timestamp> {
        let newest = self.jobs.newest_migration(&instance.id);
        let has_failed = newest.is_some_and(|job| job.state.has_failed());
        if instance.status != Status::Migrating || has_failed || self.jobs.unfinished(&instance.id).is_some() {
            return None;
        }
        let seen = self.ledger.stalls.get(&instance.id).copied();
        // After an accepted call without a job, it has been like this since the call.
        let call = self.ledger.in_flight.get(&instance.id).filter(|call| call.call == Call::Accepted);
        let called =
            call.filter(|call| newest.is_none_or(|job| !is_new(job, call.job_before.as_ref(), call.called_at)));
        // One list without its job proves nothing: that counts once a second look agrees.
        let Some(seen) = seen.filter(|seen| self.now.since(*seen) >= SETTLE_TIME) else {
            return Some(seen.unwrap_or(self.now));
        };
        Some(called.map_or(seen, |call| call.called_at.min(seen)))
    }

    /// Since when instances are `migrating` without a job, to remember and to forget.
    pub(in crate::core) fn stalls(&self) -> Vec<(InstanceId, Option<Timestamp>)> {
        let mut changes: Vec<(InstanceId, Option<Timestamp>)> = Vec::new();
        for instance in self.snapshot.instances.items.iter().filter(|it| it.status == Status::Migrating) {
            let known = self.ledger.stalls.get(&instance.id).copied();
            let since = self.stalled_since(instance);
            if since != known {
                changes.push((instance.id.clone(), since));
            }
        }
        let still = |id: &InstanceId| {
            find(&self.snapshot.instances.items, id)
                .map_or(!self.ledger.is_gone(id, &self.snapshot.instances, self.now), |it| {
                    it.status == Status::Migrating
                })
        };
        changes.extend(self.ledger.stalls.keys().filter(|id| !still(id)).map(|id| (id.clone(), None)));
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        changes
    }
}

/// How advanced an instance is; less is more advanced.
fn progress(instance: &Instance, now: Timestamp) -> u8 {
    let is_overdue = instance.created_at.is_some_and(|at| now.since(at.into()) >= PATIENCE);
    match &instance.status {
        // It will not come up any more, and what is exited can be migrated.
        status if status.is_coming_up() && instance.started_at.is_none() && is_overdue => 4,
        Status::Running => 0,
        Status::Starting | Status::Pulling => 1,
        status if status.is_coming_up() => 2,
        _ => 3,
    }
}

/// Whether two instances with one marker come from one decision.
fn are_twins(keep: &Instance, other: &Instance, recreation: Option<&Recreation>) -> bool {
    let apart = |a: Timestamp, b: Timestamp| a.since(b).max(b.since(a));
    match (other.created_at.map(Timestamp::from), keep.created_at.map(Timestamp::from), recreation) {
        (Some(other), _, Some(recreation)) if apart(other, recreation.opened_at) <= KNOWN_TWIN_TIME => true,
        (Some(other), Some(keep), _) => apart(other, keep) <= TWIN_TIME,
        (_, _, recreation) => recreation.is_some(),
    }
}

#[cfg(test)]
mod tests;
