//! Events found by comparing a snapshot with the ledger. Each is emitted once, in the commit that records it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::core::pass::ledger::Ledger;
use crate::core::pass::plan::Plan;
use crate::core::pass::settle::CallEnd;
use crate::core::pass::verdict::{Decision, FailedJob, Skip};
use crate::core::recreation::journal::{Cause, Recreation, Step};
use crate::core::recreation::marker::Origin;
use crate::core::world::instance::{Instance, InstanceId, ReclaimNotice};
use crate::core::world::snapshot::{Snapshot, find};
use crate::core::world::time::Timestamp;

/// An event of an instance that a pass found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// A migration that an earlier pass asked for is over, and the instance runs.
    Migrated {
        instance: &'a Instance,
        called_at: Timestamp,
        /// Whether the provider had announced the reclaim.
        announced: bool,
    },
    /// A recreation is over, and its replacement runs.
    Recreated {
        old: &'a InstanceId,
        new: &'a InstanceId,
        recreation: &'a Recreation,
    },
    /// A migration failed, or hangs.
    MigrationFailed {
        instance: &'a Instance,
        /// What tells this failure from the next one of the same instance.
        failure: String,
        error: Option<&'a str>,
    },
    Announced {
        instance: &'a Instance,
        notice: &'a ReclaimNotice,
    },
    Lost {
        id: &'a InstanceId,
        name: &'a str,
    },
}

/// Everything that is new in a plan, ordered by instance id within each kind.
#[must_use]
pub fn news<'a>(snapshot: &'a Snapshot, plan: &'a Plan, ledger: &'a Ledger) -> Vec<News<'a>> {
    let listed = |id: &InstanceId| find(&snapshot.instances.items, id);
    let migrated = plan.settlements.iter().filter(|it| it.end == CallEnd::Migrated).filter_map(|settlement| {
        let instance = listed(&settlement.instance)?;
        let announced = instance.reclaim.is_some() || ledger.observations.contains_key(&instance.id);
        Some(News::Migrated { instance, called_at: settlement.call.called_at, announced })
    });
    let recreated = plan.journal.iter().filter_map(|(old, recreation)| {
        let recreation = recreation.as_ref()?;
        let was = ledger.recreations.get(old).map(|stored| &stored.step);
        closes(was, recreation).map(|new| News::Recreated { old, new, recreation })
    });
    let announced = plan.observations.iter().filter_map(|(id, seen)| {
        let notice = &seen.as_ref()?.notice;
        // A word or a time that moves is the same reclaim.
        let is_known = |it: &&Instance| ledger.observations.get(id).is_some_and(|known| known.is_about_this_life(it));
        listed(id).filter(|it| !is_known(it)).map(|instance| News::Announced { instance, notice })
    });
    let lost = lost(snapshot, plan, ledger).into_iter().map(|(id, name)| News::Lost { id, name });
    migrated.chain(recreated).chain(failed(snapshot, plan, ledger)).chain(announced).chain(lost).collect()
}

/// The instances that are gone without a successor, with their names as far as these are known: those that were down,
/// announced to be reclaimed, in a migration or in a recreation when they were last seen. Of others nothing is stored.
#[must_use]
pub fn lost<'a>(snapshot: &Snapshot, plan: &'a Plan, ledger: &'a Ledger) -> BTreeMap<&'a InstanceId, &'a str> {
    if !snapshot.instances.is_complete() {
        return BTreeMap::new();
    }
    let announced = ledger.observations.iter().filter(|(_, seen)| seen.down_seen_at.is_none()).map(|(id, _)| (id, ""));
    let migrating = plan.settlements.iter().filter(|it| it.end == CallEnd::Vanished);
    let migrating = migrating.map(|it| (&it.instance, &*it.call.instance_name));
    let down = ledger.spells.iter().map(|(id, spell)| (id, spell.name.as_str()));
    let ended = plan.journal.iter().filter_map(|(id, changed)| Some((id, changed.as_ref()?)));
    let ended = ended.filter(|(_, it)| it.step == Step::Ended && !it.is_move());
    let ended = ended.map(|(id, it)| (id, it.instance_name.as_str()));
    let mut lost: BTreeMap<&InstanceId, &str> = announced.chain(migrating).chain(down).chain(ended).collect();
    lost.retain(|id, _| ledger.is_gone(id, &snapshot.instances, snapshot.taken_at));
    if lost.is_empty() {
        return lost;
    }
    // What a recreation is to bring back, or has brought back, and what it gave up, is not lost.
    let mut handled: HashSet<&InstanceId> = HashSet::new();
    for (old, stored) in &ledger.recreations {
        let changed = plan.journal.iter().find(|(id, _)| id == old).and_then(|(_, it)| it.as_ref());
        let now = changed.unwrap_or(stored);
        let has_ended = now.step == Step::Ended && stored.step != Step::Ended;
        if !has_ended && now.step != (Step::Closed { replacement: None }) {
            handled.insert(old);
        }
        handled.extend(stored.step.replacement().filter(|_| !stored.step.is_over()));
    }
    let markers = snapshot.instances.items.iter().filter_map(Origin::replaced_by);
    let replaced: HashSet<Origin> = markers.collect();
    lost.retain(|id, _| !handled.contains(id) && !replaced.contains(&Origin::of(id)));
    lost
}

/// The replacement, if this step of the journal is the one that ends the recreation.
#[must_use]
pub fn closes<'a>(was: Option<&Step>, recreation: &'a Recreation) -> Option<&'a InstanceId> {
    match (was, &recreation.step) {
        (Some(Step::Closed { .. }), _) => None,
        (_, Step::Closed { replacement }) => replacement.as_ref(),
        _ => None,
    }
}

/// Failed migrations that were not reported before: those that a call of ours led to, and those that a verdict names.
fn failed<'a>(snapshot: &'a Snapshot, plan: &'a Plan, ledger: &'a Ledger) -> Vec<News<'a>> {
    let mut failures: HashMap<&InstanceId, (&Instance, String, Option<&str>)> = HashMap::new();
    for settlement in &plan.settlements {
        let CallEnd::Failed { job, error } = &settlement.end else { continue };
        let Some(instance) = find(&snapshot.instances.items, &settlement.instance) else { continue };
        failures.insert(&instance.id, (instance, job.to_string(), error.as_deref()));
    }
    for (instance, decision) in plan.rows(&snapshot.instances.items) {
        let (failure, error) = match decision {
            Decision::Skip(Skip::NotExited { failed_job: Some(job) }) => {
                let FailedJob { id, error } = &**job;
                (id.to_string(), error.as_deref())
            }
            decision => match decision.recreation().map(|(_, recreation)| &recreation.cause) {
                Some(Cause::JobFailed { job, error }) => (job.to_string(), error.as_deref()),
                Some(Cause::Stalled { since }) => (format!("stalled {since}"), Some("no job is at work on it")),
                _ => continue,
            },
        };
        failures.entry(&instance.id).or_insert((instance, failure, error));
    }
    let is_news = |id: &InstanceId, failure: &str| ledger.told_failures.get(id).is_none_or(|told| told != failure);
    let mut failed: Vec<News<'a>> = failures
        .into_iter()
        .filter(|(id, (_, failure, _))| is_news(id, failure))
        .map(|(_, (instance, failure, error))| News::MigrationFailed { instance, failure, error })
        .collect();
    failed.sort_by(|a, b| a.instance_id().cmp(b.instance_id()));
    failed
}

impl News<'_> {
    fn instance_id(&self) -> &InstanceId {
        match self {
            Self::Migrated { instance, .. }
            | Self::MigrationFailed { instance, .. }
            | Self::Announced { instance, .. } => &instance.id,
            Self::Recreated { new, .. } => new,
            Self::Lost { id, .. } => id,
        }
    }
}

/// Failures that need not be remembered any more: their instance is gone, and nothing is to bring it back.
#[must_use]
pub fn forgotten_failures(snapshot: &Snapshot, ledger: &Ledger) -> Vec<InstanceId> {
    if !snapshot.instances.is_complete() {
        return Vec::new();
    }
    let is_gone = |id: &&InstanceId| find(&snapshot.instances.items, id).is_none();
    let is_open = |id: &InstanceId| ledger.recreations.get(id).is_some_and(|it| !it.step.is_over());
    ledger.told_failures.keys().filter(is_gone).filter(|id| !is_open(id)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pass::ledger::{Call, InFlight, Observation};
    use crate::core::pass::plan;
    use crate::core::pass::spell::Spell;
    use crate::core::world::instance::{Billing, Job, JobId, JobKind, JobState, Status};
    use crate::core::world::policy::Policy;
    use crate::core::world::snapshot::{Listing, Shortfall};
    use crate::core::world::time::Seconds;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs)
    }

    fn notice(spot_status: &str, reclaim_at: i64) -> ReclaimNotice {
        ReclaimNotice { spot_status: spot_status.into(), reclaim_at: at(reclaim_at) }
    }

    fn snapshot(status: Status, reclaim: Option<ReclaimNotice>, job: Option<JobState>) -> Snapshot {
        let id = InstanceId::new("a");
        let job = job.map(|state| Job {
            id: JobId::new("j"),
            instance: id.clone(),
            kind: JobKind::InstanceMigrate,
            state,
            created_at: Some(at(-100)),
            error: Some("no node".into()),
        });
        let instance = Instance {
            id,
            name: "a".into(),
            status,
            billing: Billing::Spot,
            reclaim: reclaim.map(Box::new),
            marker: None,
            aside: None,
            place: None,
            gpus: 1,
            created_at: None,
            started_at: None,
            stopped_at: None,
        };
        let jobs = Listing::complete(job.into_iter().collect());
        Snapshot { taken_at: at(0), abilities: Default::default(), instances: Listing::complete(vec![instance]), jobs }
    }

    fn told(snapshot: &Snapshot, ledger: &Ledger) -> Vec<&'static str> {
        let plan = plan::plan(snapshot, ledger, &Policy::default(), at(0));
        let kinds = news(snapshot, &plan, ledger).into_iter().map(|it| match it {
            News::Migrated { .. } => "migrated",
            News::Recreated { .. } => "recreated",
            News::MigrationFailed { .. } => "failed",
            News::Announced { .. } => "announced",
            News::Lost { .. } => "lost",
        });
        kinds.collect()
    }

    #[test]
    fn a_notice_is_told_once_and_again_after_another_start() {
        let seen = |notice| Observation { notice, first_seen_at: at(-60), last_seen_at: at(-60), down_seen_at: None };
        let rows: [(Option<ReclaimNotice>, &[&str]); 5] = [
            (None, &["announced"]),
            (Some(notice("notified", 600)), &[]),
            (Some(notice("notified", 900)), &[]),
            (Some(notice("reclaiming", 600)), &[]),
            // That one came true, and it was started again since.
            (Some(notice("terminated", -7200)), &["announced"]),
        ];
        let mut snapshot = snapshot(Status::Running, Some(notice("notified", 600)), None);
        snapshot.instances.items[0].started_at = Seconds::new(at(-3600).as_secs());
        for (known, expected) in rows {
            let observations = known.clone().map(|known| (InstanceId::new("a"), seen(known))).into_iter().collect();
            let ledger = Ledger { observations, ..Ledger::default() };
            assert_eq!(told(&snapshot, &ledger), expected, "{known:?}");
        }
    }

    #[test]
    fn the_end_of_a_call_is_told_when_it_is_one() {
        let call = |call| InFlight {
            instance_name: "a".into(),
            called_at: at(-200),
            pass: "p".into(),
            job_before: None,
            previous_attempt: None,
            call,
        };
        // The status, the job of the call, what is known of the call, the failure reported last, and the events.
        let rows: [(Status, JobState, Call, Option<&str>, &[&str]); 7] = [
            (Status::Running, JobState::Success, Call::Accepted, None, &["migrated"]),
            (Status::Running, JobState::Success, Call::Unknown, None, &["migrated"]),
            // It had an effect after all, and is not over.
            (Status::Migrating, JobState::Running, Call::Unknown, None, &[]),
            (Status::Migrating, JobState::Running, Call::Accepted, None, &[]),
            (Status::Migrating, JobState::Fail, Call::Accepted, None, &["failed"]),
            (Status::Migrating, JobState::Fail, Call::Accepted, Some("j"), &[]),
            // It failed, and the instance was started by hand: no verdict names the failure.
            (Status::Running, JobState::Fail, Call::Accepted, Some("earlier"), &["failed"]),
        ];
        for (status, job, known, failure, expected) in rows {
            let id = || InstanceId::new("a");
            let in_flight = [(id(), call(known))].into_iter().collect();
            let told_failures = failure.map(|failure| (id(), failure.into())).into_iter().collect();
            let ledger = Ledger { in_flight, told_failures, ..Ledger::default() };
            let what = format!("{status:?} {job:?} {known:?} {failure:?}");
            assert_eq!(told(&snapshot(status, None, Some(job)), &ledger), expected, "{what}");
        }
    }

    /// Each row: what is known of "gone", which is not listed; whether the listing is complete; and the events.
    #[test]
    fn what_is_gone_without_a_successor_is_told() {
        let gone = || InstanceId::new("gone");
        let seen = |down_seen_at| Observation {
            notice: notice("notified", 600),
            first_seen_at: at(-60),
            last_seen_at: at(-60),
            down_seen_at,
        };
        let announced = || Ledger { observations: [(gone(), seen(None))].into(), ..Ledger::default() };
        let call = InFlight {
            instance_name: "a".into(),
            called_at: at(-200),
            pass: "p".into(),
            job_before: None,
            previous_attempt: None,
            call: Call::Accepted,
        };
        let recreation = |step| {
            let begun = Recreation::planned("a", Cause::Reclaimed, "a-recreated-x".into(), at(-20));
            Ledger { recreations: [(gone(), Recreation { step, ..begun })].into(), ..announced() }
        };
        let down = Spell { ids: vec![gone()], name: "a".into(), ..Spell::default() };
        let rows: Vec<(&str, Ledger, bool, &[&str])> = vec![
            ("nothing", Ledger::default(), true, &[]),
            ("announced", announced(), true, &["lost"]),
            ("the listing is incomplete", announced(), false, &[]),
            (
                "stopped by a person, then deleted",
                Ledger { observations: [(gone(), seen(Some(at(-60))))].into(), ..Ledger::default() },
                true,
                &[],
            ),
            ("down", Ledger { spells: [(gone(), down)].into(), ..Ledger::default() }, true, &["lost"]),
            ("in a migration", Ledger { in_flight: [(gone(), call)].into(), ..Ledger::default() }, true, &["lost"]),
            ("to be replaced, nothing kept", recreation(Step::Pending { kept: None }), true, &["lost"]),
            ("the request for its successor is under way", recreation(Step::Intent { kept: None }), true, &[]),
            ("replaced", recreation(Step::Closed { replacement: Some(InstanceId::new("a")) }), true, &[]),
            ("told before", recreation(Step::Ended), true, &[]),
        ];
        for (what, ledger, is_complete, expected) in rows {
            let mut snapshot = snapshot(Status::Running, None, None);
            if !is_complete {
                snapshot.instances.shortfall = Some(Shortfall::Rows { announced: 2, received: 1 });
            }
            assert_eq!(told(&snapshot, &ledger), expected, "{what}");
        }
    }

    #[test]
    fn a_failure_is_forgotten_only_with_its_instance() {
        let told_failures = ["a", "gone"].map(|id| (InstanceId::new(id), "j".to_owned())).into_iter().collect();
        let ledger = Ledger { told_failures, ..Ledger::default() };
        let mut snapshot = snapshot(Status::Running, None, None);
        assert_eq!(forgotten_failures(&snapshot, &ledger), [InstanceId::new("gone")]);
        let mut brought_back = ledger.clone();
        let begun = Recreation::planned("a", Cause::Reclaimed, "a-recreated-x".into(), at(-20));
        brought_back.recreations = [(InstanceId::new("gone"), begun)].into();
        assert_eq!(forgotten_failures(&snapshot, &brought_back), [], "its recreation is open");
        snapshot.instances.shortfall = Some(Shortfall::Rows { announced: 2, received: 1 });
        assert_eq!(forgotten_failures(&snapshot, &ledger), []);
    }
}
