//! What became of the calls of earlier passes, and what to remember of announced reclaims.
//!
//! A call that a crash, a timeout or a cut connection left open is settled here by what is observed now. Nothing is
//! guessed: only complete listings after [`SETTLE_TIME`] prove that a call had no effect.

use std::borrow::Cow;

use super::ledger::{Call, InFlight, KnownJob, Ledger, Observation, Stamp};
use crate::core::world::instance::{Instance, InstanceId, Job, JobId, Status};
use crate::core::world::snapshot::{JobIndex, Snapshot, find};
use crate::core::world::time::Timestamp;
use crate::core::world::times::{EVIDENCE_LIFE, FOLLOW_TIME, JOBS_WINDOW, LONGEST_NOTICE, SETTLE_TIME};

/// What became of a migrate call of an earlier pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub instance: InstanceId,
    pub call: InFlight,
    pub end: CallEnd,
}

/// How a migrate call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// It had an effect after all: the migration is under way, and followed.
    Confirmed,
    Migrated,
    Failed {
        job: JobId,
        error: Option<Box<str>>,
    },
    /// The instance is in no complete listing any more.
    Vanished,
    /// The call never had an effect: the earlier migration time is put back.
    NoEffect,
    /// It was accepted, and the instance ended up in this status. Nothing more will be learned.
    Closed {
        status: Status,
    },
}

impl Settlement {
    /// Whether this is the first proof that the call was accepted.
    #[must_use]
    pub fn proves_acceptance(&self) -> bool {
        self.call.call != Call::Accepted
            && match self.end {
                CallEnd::Confirmed | CallEnd::Migrated | CallEnd::Failed { .. } => true,
                CallEnd::Vanished | CallEnd::NoEffect | CallEnd::Closed { .. } => false,
            }
    }

    /// Whether the call stays on record, now known as accepted.
    #[must_use]
    pub fn stays_open(&self) -> bool {
        matches!(self.end, CallEnd::Confirmed)
    }
}

/// Compares the calls of earlier passes with what is observed now. Calls without news are left out.
pub(super) fn settle(snapshot: &Snapshot, ledger: &Ledger, jobs: &JobIndex<'_>, now: Timestamp) -> Vec<Settlement> {
    let mut settlements: Vec<Settlement> = ledger
        .in_flight
        .iter()
        .filter_map(|(id, call)| {
            let end = end_of(id, call, (snapshot, ledger), jobs, now)?;
            Some(Settlement { instance: id.clone(), call: call.clone(), end })
        })
        .collect();
    settlements.sort_by(|a, b| a.instance.cmp(&b.instance));
    settlements
}

/// What is left of earlier passes without the calls that are proved to have had no effect.
#[must_use]
pub(super) fn without_effects<'a>(ledger: &'a Ledger, settlements: &[Settlement]) -> Cow<'a, Ledger> {
    let mut ledger = Cow::Borrowed(ledger);
    for Settlement { instance, call, .. } in settlements.iter().filter(|it| it.end == CallEnd::NoEffect) {
        let Ledger { last_attempt, in_flight, .. } = ledger.to_mut();
        in_flight.remove(instance);
        match call.previous_attempt {
            Some(at) => drop(last_attempt.insert(instance.clone(), Stamp::At(at))),
            None => drop(last_attempt.remove(instance)),
        }
    }
    ledger
}

fn end_of(
    id: &InstanceId,
    call: &InFlight,
    (snapshot, ledger): (&Snapshot, &Ledger),
    jobs: &JobIndex<'_>,
    now: Timestamp,
) -> Option<CallEnd> {
    let Some(instance) = find(&snapshot.instances.items, id) else {
        return ledger.is_gone(id, &snapshot.instances, now).then_some(CallEnd::Vanished);
    };
    let settled = now.since(call.called_at) >= SETTLE_TIME;
    let accepted = call.call == Call::Accepted;
    let own_job = jobs.newest_migration(id).filter(|job| is_new(job, call.job_before.as_ref(), call.called_at));
    if let Some(job) = own_job
        && job.state.has_failed()
    {
        return Some(CallEnd::Failed { job: job.id.clone(), error: job.error.clone() });
    }
    match (&instance.status, own_job) {
        (Status::Running, Some(job)) if !job.state.is_unfinished() => Some(CallEnd::Migrated),
        // Running without a job of ours: it may have been started by hand. Only an accepted call explains it.
        (Status::Running, None) if accepted => Some(CallEnd::Migrated),
        (Status::Migrating, _) | (_, Some(_)) if !accepted => Some(CallEnd::Confirmed),
        (status, _) if now.since(call.called_at) >= FOLLOW_TIME => Some(CallEnd::Closed { status: status.clone() }),
        // The job is done, and the instance stays as it is.
        (Status::Exited, Some(job)) if !job.state.is_unfinished() && settled => {
            Some(CallEnd::Closed { status: instance.status.clone() })
        }
        // Proved without effect only by complete listings, whatever the provider answered.
        (status, None) if settled && snapshot.instances.is_complete() && snapshot.jobs.is_complete() => {
            match (accepted, status) {
                // What its row does not say may be said by the next one.
                (true, Status::Migrating | Status::Other(_)) => None,
                (true, Status::Exited) if !has_run_since(instance, call.called_at) => Some(CallEnd::NoEffect),
                (true, status) => Some(CallEnd::Closed { status: status.clone() }),
                (false, _) => Some(CallEnd::NoEffect),
            }
        }
        _ => None,
    }
}

fn has_run_since(instance: &Instance, called_at: Timestamp) -> bool {
    instance.started_at.is_some_and(|started| Timestamp::from(started) >= called_at)
}

/// Whether the job was made after the one known before a call. Only the provider's times are compared, so that a skew
/// between its clock and ours does not matter. If none was known, one that is older than what was looked at then is not new.
#[must_use]
pub fn is_new(job: &Job, before: Option<&KnownJob>, called_at: Timestamp) -> bool {
    match before {
        Some(before) => job.id != before.id && job.created_at >= before.created_at,
        None => job.created_at.is_none_or(|at| at >= called_at - JOBS_WINDOW),
    }
}

/// What to remember and to forget about announced reclaims: a notice is kept until the instance is seen running
/// without one, so that it still counts after the reclaim, when the provider's fields may be empty again.
pub(super) fn observe(snapshot: &Snapshot, ledger: &Ledger, now: Timestamp) -> Vec<(InstanceId, Option<Observation>)> {
    let mut changes: Vec<(InstanceId, Option<Observation>)> = Vec::new();
    for instance in &snapshot.instances.items {
        let known = ledger.observations.get(&instance.id);
        match (&instance.reclaim, known) {
            (Some(notice), known) => {
                let known = known.filter(|known| known.is_about_this_life(instance));
                let seen = Observation {
                    notice: (**notice).clone(),
                    first_seen_at: known.map_or(now, |known| known.first_seen_at),
                    last_seen_at: now,
                    down_seen_at: down_seen_at(instance, known, now),
                };
                changes.push((instance.id.clone(), Some(seen)));
            }
            (None, Some(_)) if instance.status == Status::Running => changes.push((instance.id.clone(), None)),
            (None, Some(known))
                if known.down_seen_at.is_none()
                    && instance.status == Status::Exited
                    && now.since(known.last_seen_at) <= EVIDENCE_LIFE =>
            {
                let seen = Observation { down_seen_at: Some(now), ..known.clone() };
                changes.push((instance.id.clone(), Some(seen)));
            }
            (None, _) => {}
        }
    }
    let gone = |id: &InstanceId, seen: &Observation| {
        now.since(seen.last_seen_at) > EVIDENCE_LIFE || ledger.is_gone(id, &snapshot.instances, now)
    };
    changes.extend(ledger.observations.iter().filter(|(id, seen)| gone(id, seen)).map(|(id, _)| (id.clone(), None)));
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes.dedup_by(|a, b| a.0 == b.0);
    changes
}

fn down_seen_at(instance: &Instance, known: Option<&Observation>, now: Timestamp) -> Option<Timestamp> {
    (instance.status == Status::Exited).then(|| known.and_then(|known| known.down_seen_at).unwrap_or(now))
}

impl Observation {
    /// Whether the instance has not been started again since. Compares times of the provider alone.
    #[must_use]
    pub fn is_about_this_life(&self, instance: &Instance) -> bool {
        instance.started_at.is_none_or(|started| Timestamp::from(started) < self.notice.reclaim_at)
    }

    /// When the instance is to be reclaimed. A time that keeps moving away is not believed.
    #[must_use]
    pub fn believed_end(&self) -> Timestamp {
        self.notice.reclaim_at.min(self.first_seen_at + LONGEST_NOTICE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::instance::{Billing, JobKind, JobState, ReclaimNotice};
    use crate::core::world::snapshot::{Listing, Shortfall};

    fn ago(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 - secs)
    }

    fn instance(status: Status) -> Instance {
        Instance {
            id: InstanceId::new("a"),
            name: "a".into(),
            status,
            billing: Billing::Spot,
            reclaim: None,
            marker: None,
            aside: None,
            place: None,
            gpus: 1,
            created_at: None,
            started_at: None,
            stopped_at: None,
        }
    }

    fn job(id: &str, state: JobState, age: i64) -> Job {
        Job {
            id: JobId::new(id),
            instance: InstanceId::new("a"),
            kind: JobKind::InstanceMigrate,
            state,
            created_at: Some(ago(age)),
            error: Some("no node".into()),
        }
    }

    const OLD_JOB: i64 = 9000;

    #[test]
    fn every_call_comes_to_an_end_by_what_is_seen() {
        use Call::{Accepted, Begun, Unknown};
        let own = |state| Some(job("new", state, 100));
        let known = |state| Some(job("old", state, OLD_JOB));
        let failed = || Some(CallEnd::Failed { job: JobId::new("new"), error: Some("no node".into()) });
        let closed = |status| Some(CallEnd::Closed { status });
        let week = 7 * 24 * 3600;
        // What is known of the call, its age in seconds, the status now, the newest job, and the end.
        let rows = [
            (Accepted, 100, Status::Running, None, Some(CallEnd::Migrated)),
            (Accepted, 100, Status::Running, own(JobState::Success), Some(CallEnd::Migrated)),
            (Unknown, 100, Status::Running, own(JobState::Success), Some(CallEnd::Migrated)),
            // It may have been started by hand: that proves nothing about the call.
            (Unknown, 100, Status::Running, None, None),
            (Unknown, 200, Status::Running, None, Some(CallEnd::NoEffect)),
            (Accepted, 100, Status::Running, own(JobState::Running), None),
            (Unknown, 100, Status::Running, own(JobState::Running), Some(CallEnd::Confirmed)),
            (Accepted, 100, Status::Migrating, None, None),
            (Accepted, 100, Status::Migrating, own(JobState::Running), None),
            (Begun, 100, Status::Migrating, None, Some(CallEnd::Confirmed)),
            (Unknown, 100, Status::Exited, own(JobState::Pulling), Some(CallEnd::Confirmed)),
            (Accepted, 100, Status::Migrating, own(JobState::Fail), failed()),
            (Unknown, 100, Status::Exited, own(JobState::Break), failed()),
            // The job was there before the call and says nothing about it.
            (Unknown, 100, Status::Exited, known(JobState::Fail), None),
            (Unknown, 200, Status::Exited, known(JobState::Success), Some(CallEnd::NoEffect)),
            // Nor does one that is older still, should the one known before be listed no more.
            (Unknown, 100, Status::Exited, Some(job("older", JobState::Fail, OLD_JOB + 1)), None),
            (Unknown, 179, Status::Exited, None, None),
            (Unknown, 180, Status::Exited, None, Some(CallEnd::NoEffect)),
            (Begun, 180, Status::Exited, None, Some(CallEnd::NoEffect)),
            (Accepted, 179, Status::Exited, None, None),
            (Accepted, 180, Status::Exited, None, Some(CallEnd::NoEffect)),
            (Accepted, 200, Status::Exited, own(JobState::Success), closed(Status::Exited)),
            (Accepted, 100, Status::Exited, own(JobState::Success), None),
            (Accepted, 200, Status::Exited, own(JobState::Running), None),
            (Accepted, 200, Status::Migrating, None, None),
            (Accepted, week, Status::Migrating, None, closed(Status::Migrating)),
            (Accepted, 200, Status::Removing, None, closed(Status::Removing)),
            (Accepted, 200, Status::from_word("unreadable"), None, None),
        ];
        for (at, (call, age, status, newest, expected)) in rows.into_iter().enumerate() {
            let job_before = Some(KnownJob { id: JobId::new("old"), created_at: Some(ago(OLD_JOB)) });
            let in_flight = InFlight {
                instance_name: "a".into(),
                called_at: ago(age),
                pass: "p".into(),
                job_before,
                previous_attempt: None,
                call,
            };
            let snapshot = Snapshot {
                abilities: Default::default(),
                taken_at: ago(0),
                instances: Listing::complete(vec![instance(status)]),
                jobs: Listing::complete(newest.into_iter().collect()),
            };
            let ledger =
                Ledger { in_flight: [(InstanceId::new("a"), in_flight)].into_iter().collect(), ..Ledger::default() };
            let ends: Vec<CallEnd> = settle(&snapshot, &ledger, &JobIndex::new(&snapshot.jobs.items), ago(0))
                .into_iter()
                .map(|settlement| settlement.end)
                .collect();
            assert_eq!(ends.first(), expected.as_ref(), "row {at}");
        }
    }

    /// Jobs are listed for longer when something is open: one from before what was looked at then is not of the call.
    #[test]
    fn a_job_from_long_before_the_call_is_not_its_own() {
        let day = 24 * 3600;
        for (age, is_its) in [(100, true), (day, true), (3 * day, false)] {
            let known = job("old", JobState::Success, age);
            assert_eq!(is_new(&known, None, ago(200)), is_its, "{age} s ago");
        }
    }

    #[test]
    fn only_a_complete_listing_proves_that_an_instance_vanished() {
        let call = InFlight {
            instance_name: "a".into(),
            called_at: ago(10),
            pass: "p".into(),
            job_before: None,
            previous_attempt: None,
            call: Call::Accepted,
        };
        let notice = ReclaimNotice { spot_status: "notified".into(), reclaim_at: ago(10) };
        let seen = Observation { notice, first_seen_at: ago(20), last_seen_at: ago(10), down_seen_at: None };
        let ledger = Ledger {
            in_flight: [(InstanceId::new("a"), call)].into_iter().collect(),
            observations: [(InstanceId::new("a"), seen)].into_iter().collect(),
            ..Ledger::default()
        };
        for (shortfall, expected) in
            [(None, Some(CallEnd::Vanished)), (Some(Shortfall::Rows { announced: 1, received: 0 }), None)]
        {
            let instances = Listing { items: vec![], shortfall };
            let snapshot = Snapshot {
                abilities: Default::default(),
                taken_at: ago(0),
                instances,
                jobs: Listing::complete(vec![]),
            };
            let settled = settle(&snapshot, &ledger, &JobIndex::new(&[]), ago(0));
            assert_eq!(settled.first().map(|it| it.end.clone()), expected);
            let changes = observe(&snapshot, &ledger, ago(0));
            assert_eq!(changes.len(), usize::from(expected.is_some()), "nor is a notice forgotten before");
        }
    }

    #[test]
    fn a_notice_is_remembered_until_the_instance_runs_without_one() {
        let notice = ReclaimNotice { spot_status: "notified".into(), reclaim_at: ago(-3600) };
        let other = ReclaimNotice { spot_status: "reclaiming".into(), reclaim_at: ago(-3600) };
        let seen = |notice: &ReclaimNotice, first, last| Observation {
            notice: notice.clone(),
            first_seen_at: ago(first),
            last_seen_at: ago(last),
            down_seen_at: None,
        };
        let down = |seen: Observation| Observation { down_seen_at: Some(ago(0)), ..seen };
        let old = || Some(seen(&notice, 500, 100));
        let stale = || Some(seen(&notice, 900_000, 800_000));
        // Status (None: not listed), the notice now, what is remembered, and what is to be remembered (None: no
        // change, Some(None): forget).
        let rows = [
            (Some(Status::Running), Some(&notice), None, Some(Some(seen(&notice, 0, 0)))),
            (Some(Status::Running), Some(&notice), old(), Some(Some(seen(&notice, 500, 0)))),
            // It is the same reclaim, though its word changed.
            (Some(Status::Exited), Some(&other), old(), Some(Some(down(seen(&other, 500, 0))))),
            (Some(Status::Exited), None, old(), Some(Some(down(seen(&notice, 500, 100))))),
            (Some(Status::Exited), None, old().map(down), None),
            (Some(Status::Migrating), None, old(), None),
            (Some(Status::Running), None, old(), Some(None)),
            (Some(Status::Running), None, None, None),
            (Some(Status::Exited), None, stale(), Some(None)),
            (None, None, old(), Some(None)),
        ];
        for (at, (status, reclaim, known, expected)) in rows.into_iter().enumerate() {
            let listed = status.map(|status| Instance { reclaim: reclaim.cloned().map(Box::new), ..instance(status) });
            let snapshot = Snapshot {
                abilities: Default::default(),
                taken_at: ago(0),
                instances: Listing::complete(listed.into_iter().collect()),
                jobs: Listing::complete(vec![]),
            };
            let observations = known.map(|known| (InstanceId::new("a"), known)).into_iter().collect();
            let changes = observe(&snapshot, &Ledger { observations, ..Ledger::default() }, ago(0));
            let change = changes.into_iter().map(|(_, change)| change).next();
            assert_eq!(change, expected, "row {at}");
        }
    }
}
