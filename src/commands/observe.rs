//! Reads the provider and the store, and decides: the first half of every command that plans.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures_util::future::try_join;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::Failure;
use super::survey::survey;
use crate::act::{Limits, World};
use crate::cloud::{CloudRead, Made};
use crate::core::pass::failures::jobs_needed_since;
use crate::core::pass::kept::{self, Kept, LaunchRecord};
use crate::core::pass::ladder::{Board, idle_places};
use crate::core::pass::ledger::Ledger;
use crate::core::pass::market::Notice;
use crate::core::pass::plan::{self, Plan};
use crate::core::pass::rules::idle_patterns;
use crate::core::pass::safety::{self, BlastRadius, Unsafe};
use crate::core::pass::verdict::Decision;
use crate::core::recreation::blueprint::Prepared;
use crate::core::world::instance::{Instance, InstanceId, Status};
use crate::core::world::policy::{Placing, Policy};
use crate::core::world::probe::CloseUp;
use crate::core::world::snapshot::{Shortfall, Snapshot, find};
use crate::core::world::time::Timestamp;
use crate::core::world::times::{JOBS_WINDOW, LONGEST_NOTICE, SETTLE_TIME};
use crate::report::{Event, Reporter};
use crate::settings::{Settings, rows};
use crate::stop::{Stop, StopCause};
use crate::store::records::{self, Change, Mode};
use crate::store::{StoreRead, check_owner};

/// What is there, and what to do about it.
#[derive(Debug)]
pub struct Observed {
    pub snapshot: Snapshot,
    pub ledger: Ledger,
    /// Writes back what the ledger had of times ahead of the clock.
    pub redated: Vec<Change>,
    pub plan: Plan,
    /// Whether the plan may be carried out.
    pub safe: Result<(), Unsafe>,
    pub board: Board,
}

/// Reads the world and the ledger and plans. The whole ledger is one round trip.
///
/// # Errors
/// Exit codes 3 and 4.
pub async fn observe<C: CloudRead, S: StoreRead>(world: &World<'_, C, S>) -> Result<Observed, Failure> {
    observe_again(world, &HashSet::new()).await
}

/// The same in a pass that has `tried` some instances in vain.
async fn observe_again<C: CloudRead, S: StoreRead>(
    world: &World<'_, C, S>,
    tried: &HashSet<InstanceId>,
) -> Result<Observed, Failure> {
    let World { cloud, store, limits, clock, reporter, .. } = *world;
    let begun = Instant::now();
    let progress = |received, announced| reporter.event(Event::Listed { received, announced });
    let (instances, mut jobs) = try_join(cloud.instances(&progress), cloud.jobs(clock.now() - JOBS_WINDOW)).await?;
    if let Some(ahead) = clock.compare(cloud.reading()) {
        reporter.event(Event::ClockCorrected { ahead });
        jobs = cloud.jobs(clock.now() - JOBS_WINDOW).await?;
    }
    let taken_at = clock.at(begun);
    let mut snapshot = Snapshot { taken_at, instances, jobs, abilities: cloud.abilities() };
    let exited: Vec<&InstanceId> =
        snapshot.instances.items.iter().filter(|it| it.status == Status::Exited).map(|it| &it.id).collect();
    let (mut ledger, mut redated) = records::ledger(store, &exited, limits.mode, clock.now()).await?;
    check_owner(store, ledger.owner.as_deref(), &cloud.owner())?;
    date_notices(&mut snapshot, &ledger);
    if snapshot.abilities.forgets_ended {
        let kept = remember(world, (&mut snapshot, &mut ledger)).await?;
        if limits.mode == Mode::Real {
            redated.extend(kept);
        }
    }
    if let Some(since) = jobs_needed_since(&snapshot, &ledger) {
        snapshot.jobs = cloud.jobs(since).await?;
    }
    let known = ledger.known().into_iter().cloned().collect();
    let missing = confirm_absent(cloud, (&mut snapshot, &mut ledger), known, limits.workers).await;
    if limits.mode == Mode::Real {
        redated.extend(missing);
    }
    reporter.event(Event::Observed { snapshot: &snapshot });
    let now = clock.now();
    let listed = &snapshot.instances.items;
    let mut plan = plan::plan(&snapshot, &ledger, limits.policy, now);
    if let Some(Shortfall::Nameless { .. }) = snapshot.instances.shortfall {
        plan.hold_recreations();
    }
    let safe = safety::check(&snapshot, &plan, limits.blast_radius);
    if !limits.blast_radius.force {
        plan.limit_wave(listed, limits.blast_radius.allowed(plan.managed), tried);
    }
    let mut board = Board::new(ledger.markets.clone(), listed);
    board.observe(listed, notices(&snapshot, &ledger, &plan), now);
    Ok(Observed { snapshot, ledger, redated, plan, safe, board })
}

/// Adds to a listing what the provider has forgotten, and to the ledger what that is made of.
async fn remember<C: CloudRead, S: StoreRead>(
    world: &World<'_, C, S>,
    (snapshot, ledger): (&mut Snapshot, &mut Ledger),
) -> Result<Vec<Change>, Failure> {
    let kept = kept::complete(snapshot, &ledger.kept, &ledger.recreations, |id| world.cloud.ended(id));
    let open = ledger.recreations.iter().filter(|(_, it)| !it.step.is_over()).map(|(id, _)| id);
    let down = snapshot.instances.items.iter().filter(|it| it.status == Status::Exited).map(|it| &it.id);
    let heir_of = |id: &InstanceId| match ledger.kept.contains_key(id) {
        true => None,
        false => kept::made_of(id, &ledger.recreations).cloned(),
    };
    let handed_over = kept.iter().filter(|(_, kept)| kept.is_some()).map(|(id, _)| id);
    let wanted: BTreeSet<InstanceId> = open.chain(down).chain(handed_over).cloned().collect();
    let sources: Vec<(InstanceId, Option<InstanceId>)> =
        wanted.into_iter().map(|id| (id.clone(), heir_of(&id))).collect();
    let read: Vec<InstanceId> = sources.iter().map(|(id, old)| old.as_ref().unwrap_or(id).clone()).collect();
    let mut changes = Vec::new();
    if !read.is_empty() {
        let found = records::launch_records(world.store, &read).await?;
        for (id, old) in sources {
            let Some(record) = found.get(old.as_ref().unwrap_or(&id)) else { continue };
            // From now on it is on record by its own id.
            if old.is_some() {
                changes.push(Change::Launch(id.clone(), record.clone()));
            }
            ledger.launch_records.insert(id, record.clone());
        }
    }
    changes.extend(kept.into_iter().map(|(id, kept)| Change::Keep(id, kept)));
    Ok(changes)
}

/// Reads what the instances that run are made of, where the provider forgets it: what is not on record, and once a day what
/// is, since volumes may have grown. With the number of those that could not be read.
pub(super) async fn record_running<C: CloudRead, S: StoreRead>(
    world: &World<'_, C, S>,
    snapshot: &Snapshot,
    ledger: &Ledger,
) -> (Vec<Change>, usize) {
    let known = ledger.kept.iter().filter(|(_, kept)| kept.is_fresh(snapshot.taken_at));
    let known = known.map(|(id, kept)| (id.clone(), kept.mark.as_str())).collect();
    let (mut changes, mut unread) = (Vec::new(), 0);
    for (id, made) in world.cloud.record(&known, world.limits.workers).await {
        match (made, find(&snapshot.instances.items, &id)) {
            (Ok(Made { mark, blueprint }), Some(instance)) => {
                let (blueprint, problem) = match blueprint {
                    Ok(blueprint) => (Some(blueprint), None),
                    Err(problem) => (None, Some(problem)),
                };
                changes.push(Change::Launch(id.clone(), LaunchRecord { blueprint, problem }));
                changes.push(Change::Keep(id, Some(Kept::of(instance, mark, snapshot.taken_at))));
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                unread += 1;
                world.reporter.event(Event::NotRecorded { instance: &id, error: &error.to_string() });
            }
        }
    }
    (changes, unread)
}

/// Points out that what is on offer could not be read, and patterns for clusters that match nothing of it.
pub(super) fn point_out_offers(reporter: &dyn Reporter, prepared: &[&Prepared], placing: &Placing) {
    if let Some(error) = prepared.iter().find_map(|it| it.unread.as_ref()) {
        reporter.event(Event::OffersUnread { error });
    }
    for pattern in idle_places(prepared, placing) {
        reporter.event(Event::IdlePlace { pattern: pattern.as_str() });
    }
}

/// Points out patterns that match nothing, which are most likely misspelled.
pub(super) fn point_out_idle_patterns<C: CloudRead, S: StoreRead>(world: &World<'_, C, S>, snapshot: &Snapshot) {
    if snapshot.instances.is_complete() {
        for pattern in idle_patterns(world.limits.policy, &snapshot.instances.items) {
            world.reporter.event(Event::IdlePattern { pattern: pattern.as_str() });
        }
    }
}

/// Asks for each of these instances by its id if the listing lacks it: one listing proves no absence. If any of them still
/// exists, or that cannot be read, the listing is incomplete, and nothing is concluded from it. Even if its id is unknown, too, it
/// counts as gone only once a later look agrees, unless its deletion was requested. Returns what is to be remembered of that.
pub(super) async fn confirm_absent<C: CloudRead>(
    cloud: &C,
    (snapshot, ledger): (&mut Snapshot, &mut Ledger),
    known: BTreeSet<InstanceId>,
    at_once: usize,
) -> Vec<Change> {
    let taken_at = snapshot.taken_at;
    let listed = &snapshot.instances;
    let is_listed = |id: &InstanceId| find(&listed.items, id).is_some();
    let is_over = |(id, since): &(&InstanceId, &Timestamp)| is_listed(id) || taken_at.since(**since) > MISSING_LIFE;
    let over: Vec<InstanceId> = ledger.missing.iter().filter(is_over).map(|(id, _)| id.clone()).collect();
    let missing: Vec<InstanceId> = known.into_iter().filter(|id| listed.is_complete() && !is_listed(id)).collect();
    let asked = missing.into_iter().map(async |id| match cloud.close_up(&id).await {
        Ok(None) => Some((id, true)),
        // A new instance may be listed some time after it was created.
        Ok(Some(CloseUp { instance, .. })) => {
            let is_new = instance.created_at.is_some_and(|at| taken_at.since(at.into()) < SETTLE_TIME);
            (!is_new && !instance.status.is_going()).then_some((id, false))
        }
        Err(_) => Some((id, false)),
    });
    let answered: Vec<Option<(InstanceId, bool)>> = stream::iter(asked).buffered(at_once.max(1)).collect().await;
    let (absent, unlisted): (Vec<_>, Vec<_>) = answered.into_iter().flatten().partition(|(_, is_absent)| *is_absent);
    let mut changes = Vec::new();
    for id in over {
        ledger.missing.remove(&id);
        changes.push(Change::Missing(id, None));
    }
    for (id, _) in absent {
        if !ledger.missing.contains_key(&id) && !ledger.is_to_go(&id) {
            ledger.missing.insert(id.clone(), taken_at);
            changes.push(Change::Missing(id, Some(taken_at)));
        }
    }
    if !unlisted.is_empty() {
        let ids = unlisted.into_iter().map(|(id, _)| id).collect();
        snapshot.instances.shortfall = Some(Shortfall::Unlisted { ids });
    }
    changes
}

/// How long it is remembered that an instance is missing: longer than the longest gap between two passes of a schedule.
const MISSING_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A reclaim that is announced without its time comes an hour after the announcement was first seen.
fn date_notices(snapshot: &mut Snapshot, ledger: &Ledger) {
    let taken_at = snapshot.taken_at;
    for Instance { id, reclaim, .. } in &mut snapshot.instances.items {
        if let Some(notice) = reclaim.as_mut().filter(|notice| notice.reclaim_at == Timestamp::LATEST) {
            let known = ledger.observations.get(id).map(|seen| seen.notice.reclaim_at);
            notice.reclaim_at = known.unwrap_or(taken_at + LONGEST_NOTICE);
        }
    }
}

/// The reclaim notices that stand.
fn notices<'a>(snapshot: &'a Snapshot, ledger: &'a Ledger, plan: &'a Plan) -> impl Iterator<Item = Notice<'a>> {
    plan.observations.iter().filter_map(|(id, seen)| {
        let notice = &seen.as_ref()?.notice;
        let known = ledger.observations.get(id);
        let instance = find(&snapshot.instances.items, id)?;
        let is_new = known.is_none_or(|it| it.notice != *notice && !it.is_about_this_life(instance));
        Some(Notice { instance: id, reclaim_at: notice.reclaim_at, is_new })
    })
}

/// The same, and everything that the recreations of a safe plan need beyond the listings; reports every verdict.
///
/// # Errors
/// As [`observe`].
pub(super) async fn prepared<C: CloudRead, S: StoreRead>(world: &World<'_, C, S>) -> Result<Observed, Failure> {
    prepared_again(world, &HashSet::new()).await
}

/// The same in a pass that has `tried` some instances in vain.
pub(super) async fn prepared_again<C: CloudRead, S: StoreRead>(
    world: &World<'_, C, S>,
    tried: &HashSet<InstanceId>,
) -> Result<Observed, Failure> {
    let World { cloud, limits, clock, reporter, .. } = *world;
    let mut observed = observe_again(world, tried).await?;
    let Observed { snapshot, ledger, plan, safe, board, .. } = &mut observed;
    if safe.is_ok() {
        let recreations = plan.decisions.iter_mut().filter_map(Decision::recreating_mut);
        survey(cloud, &snapshot.jobs.items, &ledger.launch_records, recreations, limits.workers).await;
        let prepared: Vec<&Prepared> = plan.decisions.iter().filter_map(Decision::prepared).collect();
        point_out_offers(reporter, &prepared, &limits.policy.placing);
        prepared.iter().for_each(|prepared| board.state(prepared, clock.now()));
        plan.place(board, limits.policy, clock.now());
    }
    for (instance, decision) in plan.rows(&snapshot.instances.items) {
        reporter.event(Event::Decided { instance, decision, policy: limits.policy });
    }
    Ok(observed)
}

/// Work that is dropped when the command is stopped or reaches its deadline.
///
/// # Errors
/// Exit code 6, and those of the work.
pub(super) async fn unless_stopped<T>(
    stop: &Stop,
    deadline: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        cause = stop.triggered() => Err(Failure::stopped(cause)),
        () = stop.trigger_at(Instant::now() + deadline) => Err(Failure::stopped(StopCause::Deadline)),
        done = work => done,
    }
}

impl<'a> Limits<'a> {
    /// The defaults under this policy, without going on trying.
    #[must_use]
    pub fn of(policy: &'a Policy, mode: Mode) -> Self {
        Self {
            policy,
            workers: rows::MAX_CONCURRENT,
            deadline: rows::JOB_TIMEOUT,
            mode,
            blast_radius: BlastRadius::default(),
            recreate_wait: rows::RECREATE_WAIT,
            keep_trying: Duration::ZERO,
        }
    }

    /// From the settings.
    #[must_use]
    pub fn new(settings: &'a Settings, mode: Mode) -> Self {
        Self {
            policy: &settings.policy,
            workers: settings.max_concurrent,
            deadline: settings.job_timeout,
            mode,
            blast_radius: settings.blast_radius,
            recreate_wait: settings.recreate_wait,
            keep_trying: settings.keep_trying,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pass::ledger::Observation;
    use crate::core::world::instance::{Billing, ReclaimNotice};
    use crate::core::world::snapshot::Listing;

    #[test]
    fn a_reclaim_without_a_time_comes_an_hour_after_it_was_first_seen() {
        let now = Timestamp::from_secs(1_700_000_000);
        let notice = |reclaim_at| ReclaimNotice { spot_status: "notified".into(), reclaim_at };
        let instance = Instance {
            id: InstanceId::new("a"),
            name: "a".into(),
            status: Status::Running,
            billing: Billing::Spot,
            reclaim: Some(Box::new(notice(Timestamp::LATEST))),
            marker: None,
            aside: None,
            place: None,
            gpus: 1,
            created_at: None,
            started_at: None,
            stopped_at: None,
        };
        let (instances, jobs) = (Listing::complete(vec![instance]), Listing::complete(vec![]));
        let snapshot = Snapshot { taken_at: now, instances, jobs, abilities: Default::default() };
        let mut ledger = Ledger::default();
        let dated = |ledger: &Ledger| {
            let mut snapshot = snapshot.clone();
            date_notices(&mut snapshot, ledger);
            snapshot.instances.items[0].reclaim.as_ref().map(|it| it.reclaim_at)
        };
        assert_eq!(dated(&ledger), Some(now + LONGEST_NOTICE));
        let known = now + Duration::from_secs(600);
        let seen = Observation { notice: notice(known), first_seen_at: now, last_seen_at: now, down_seen_at: None };
        ledger.observations.insert(InstanceId::new("a"), seen);
        assert_eq!(dated(&ledger), Some(known));
    }
}
