//! Tables: what counts as a failure and what as stuck, who is one too many, and what is seen of a recreation.

mod duplicates;

use super::*;
use crate::core::pass::ledger::{InFlight, KnownJob};
use crate::core::recreation::marker::replacement_name;
use crate::core::world::instance::{Billing, Job, JobId, JobKind, JobState};
use crate::core::world::snapshot::{Listing, Shortfall};
use crate::core::world::time::Seconds;

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn ago(minutes: i64) -> Timestamp {
    Timestamp::from_secs(now().as_secs() - 60 * minutes)
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

fn instance(text: &str, status: &str) -> Instance {
    Instance {
        id: id(text),
        name: format!("name-{text}").into(),
        status: Status::from_word(status),
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

fn job(text: &str, kind: &str, state: &str, minutes: i64) -> Job {
    Job {
        id: JobId::new(text),
        instance: id("a"),
        kind: JobKind::from_word(kind),
        state: JobState::from_word(state),
        created_at: Some(ago(minutes)),
        error: Some("no node".into()),
    }
}

fn snapshot(mut instances: Vec<Instance>, jobs: Vec<Job>) -> Snapshot {
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    Snapshot {
        taken_at: now(),
        abilities: Default::default(),
        instances: Listing::complete(instances),
        jobs: Listing::complete(jobs),
    }
}

/// Looks at a world with everything that is known about failures in it.
fn look<T>(snapshot: &Snapshot, ledger: &Ledger, ask: impl FnOnce(&Failures<'_>) -> T) -> T {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    ask(&Failures::new(snapshot, ledger, &jobs, None, now()))
}

fn call(minutes: i64, call: Call, before: Option<(&str, i64)>) -> InFlight {
    InFlight {
        instance_name: "name-a".into(),
        called_at: ago(minutes),
        pass: "p".into(),
        job_before: before.map(|(id, minutes)| KnownJob { id: JobId::new(id), created_at: Some(ago(minutes)) }),
        previous_attempt: None,
        call,
    }
}

const MIGRATE: &str = "instanceMigrate";
const AUTO: &str = "autoInstanceMigrate";

/// One instance in one world: its status, when it last started (minutes ago), its jobs, our call, since when it is known
/// to be stalled; and why it needs a replacement, if it does.
#[test]
fn what_needs_a_replacement_and_why() {
    type Row = (&'static str, Option<i64>, Vec<Job>, Option<InFlight>, Option<i64>, &'static str);
    let fail = |minutes| vec![job("j", MIGRATE, "fail", minutes)];
    let rows: Vec<Row> = vec![
        ("migrating", None, fail(10), None, None, "failed j"),
        ("migrating", None, vec![job("j", MIGRATE, "break", 10)], None, None, "failed j"),
        ("migrating", None, vec![job("j", AUTO, "fail", 10)], None, None, "failed j"),
        ("migrating", None, vec![job("j", AUTO, "break", 10)], None, None, "failed j"),
        ("exited", None, fail(10), None, None, "failed j"),
        ("exited", Some(20), fail(10), None, None, "failed j"),
        ("exited", Some(5), fail(10), None, None, "nothing"),
        // A time of starting that does not fit says nothing about one that is still migrating.
        ("migrating", Some(5), fail(10), None, None, "failed j"),
        ("running", None, fail(10), None, None, "nothing"),
        ("hibernated", None, fail(10), None, None, "nothing"),
        ("toRemove", None, fail(10), None, None, "nothing"),
        ("exited", None, vec![], None, None, "nothing"),
        ("exited", None, vec![job("j", "saveImage", "fail", 10)], None, None, "nothing"),
        ("exited", None, vec![job("j", "somethingNew", "fail", 10)], None, None, "nothing"),
        ("exited", None, vec![job("j", MIGRATE, "success", 10)], None, None, "nothing"),
        // The newest migration decides; whatever is unfinished comes first.
        (
            "migrating",
            None,
            vec![job("k", MIGRATE, "success", 30), job("j", MIGRATE, "fail", 10)],
            None,
            None,
            "failed j",
        ),
        ("exited", None, vec![job("k", MIGRATE, "success", 5), job("j", MIGRATE, "fail", 10)], None, None, "nothing"),
        (
            "migrating",
            None,
            vec![job("k", MIGRATE, "running", 5), job("j", MIGRATE, "fail", 10)],
            None,
            None,
            "nothing",
        ),
        (
            "migrating",
            None,
            vec![job("k", MIGRATE, "pulling", 5), job("j", MIGRATE, "fail", 10)],
            None,
            None,
            "nothing",
        ),
        ("migrating", None, vec![job("k", MIGRATE, "odd", 5), job("j", MIGRATE, "fail", 10)], None, None, "nothing"),
        (
            "exited",
            None,
            vec![job("k", "saveImage", "running", 99), job("j", MIGRATE, "fail", 10)],
            None,
            None,
            "nothing",
        ),
        ("exited", None, vec![job("k", "saveImage", "fail", 5), job("j", MIGRATE, "fail", 10)], None, None, "failed j"),
        // A call of ours that knew this job: another one is on its way, for as long as calls live.
        ("migrating", None, fail(10), Some(call(1, Call::Accepted, Some(("j", 10)))), None, "nothing"),
        ("exited", None, fail(10), Some(call(1, Call::Unknown, Some(("j", 10)))), None, "nothing"),
        ("exited", None, fail(10), Some(call(1, Call::Begun, Some(("j", 10)))), None, "nothing"),
        ("migrating", None, fail(10), Some(call(4, Call::Accepted, Some(("j", 10)))), None, "failed j"),
        ("migrating", None, fail(1), Some(call(2, Call::Accepted, Some(("i", 90)))), None, "failed j"),
        ("migrating", None, fail(1), Some(call(2, Call::Accepted, None)), None, "failed j"),
        // Stuck: migrating with nothing at work, for an hour at least.
        ("migrating", None, vec![], None, None, "nothing"),
        ("migrating", None, vec![], None, Some(59), "nothing"),
        ("migrating", None, vec![], None, Some(60), "stalled 60"),
        ("migrating", None, vec![job("j", MIGRATE, "success", 90)], None, Some(60), "stalled 60"),
        ("migrating", None, vec![job("j", MIGRATE, "running", 90)], None, Some(60), "nothing"),
        ("migrating", None, vec![job("j", "saveImage", "running", 90)], None, Some(60), "nothing"),
        ("migrating", None, fail(10), None, Some(90), "failed j"),
        ("exited", None, vec![], None, Some(90), "nothing"),
        ("running", None, vec![], None, Some(90), "nothing"),
        // Since a call that was accepted and of which no job came.
        // One list without a job proves nothing.
        ("migrating", None, vec![], Some(call(61, Call::Accepted, None)), None, "nothing"),
        ("migrating", None, vec![], Some(call(61, Call::Accepted, None)), Some(2), "nothing"),
        ("migrating", None, vec![], Some(call(61, Call::Accepted, None)), Some(5), "stalled 61"),
        ("migrating", None, vec![], Some(call(61, Call::Unknown, None)), None, "nothing"),
        (
            "migrating",
            None,
            vec![job("j", MIGRATE, "success", 90)],
            Some(call(61, Call::Accepted, Some(("j", 90)))),
            Some(5),
            "stalled 61",
        ),
        (
            "migrating",
            None,
            vec![job("j", MIGRATE, "success", 60)],
            Some(call(61, Call::Accepted, None)),
            None,
            "nothing",
        ),
    ];
    for (row, (status, started, jobs, call, stalled, expected)) in rows.into_iter().enumerate() {
        let started_at = started.and_then(|minutes| Seconds::new(ago(minutes).as_secs()));
        let instance = Instance { started_at, ..instance("a", status) };
        let mut ledger = Ledger::default();
        ledger.in_flight.extend(call.map(|call| (id("a"), call)));
        ledger.stalls.extend(stalled.map(|minutes| (id("a"), ago(minutes))));
        let snapshot = snapshot(vec![instance.clone(), self::instance("z", "running")], jobs);
        let seen = match look(&snapshot, &ledger, |failures| failures.failure(&instance)) {
            None => "nothing".into(),
            Some(Cause::JobFailed { job, error }) => {
                assert_eq!(error.as_deref(), Some("no node"), "row {row}: why is kept");
                format!("failed {job}")
            }
            Some(Cause::Stalled { since }) => format!("stalled {}", now().since(since).as_secs() / 60),
            Some(other) => format!("{other:?}"),
        };
        assert_eq!(seen, expected, "row {row}: {status} {ledger:?}");
    }
}

fn stalls(snapshot: &Snapshot, ledger: &Ledger) -> Vec<(InstanceId, Option<Timestamp>)> {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    Failures::new(snapshot, ledger, &jobs, None, now()).stalls()
}

/// What is remembered about instances that are `migrating` without a job: (status, the job's state or none, remembered
/// for so many minutes; the change).
#[test]
fn the_hour_begins_with_the_first_look_and_ends_with_the_first_sign() {
    type Row = (Option<&'static str>, Option<&'static str>, Option<i64>, Option<Option<i64>>);
    let rows: &[Row] = &[
        (Some("migrating"), None, None, Some(Some(0))),
        (Some("migrating"), None, Some(30), None),
        (Some("migrating"), Some("running"), Some(30), Some(None)),
        (Some("migrating"), Some("running"), None, None),
        (Some("migrating"), Some("fail"), Some(30), Some(None)),
        (Some("migrating"), Some("success"), None, Some(Some(0))),
        (Some("running"), None, Some(30), Some(None)),
        (Some("exited"), None, Some(30), Some(None)),
        (Some("exited"), None, None, None),
        (None, None, Some(30), Some(None)),
    ];
    for (row, (status, state, known, expected)) in rows.iter().enumerate() {
        let instances = status.map(|status| instance("a", status)).into_iter().collect();
        let jobs = state.map(|state| job("j", MIGRATE, state, 10)).into_iter().collect();
        let mut ledger = Ledger::default();
        ledger.stalls.extend(known.map(|minutes| (id("a"), ago(minutes))));
        let snapshot = snapshot(instances, jobs);
        let changes = stalls(&snapshot, &ledger);
        let expected: Vec<_> = expected.iter().map(|since| (id("a"), since.map(ago))).collect();
        assert_eq!(changes, expected, "row {row}");
    }
    // An instance that a listing with gaps does not show may still be stuck.
    let mut gap = snapshot(vec![], vec![]);
    gap.instances.shortfall = Some(Shortfall::Rows { announced: 2, received: 1 });
    let ledger = Ledger { stalls: [(id("a"), ago(30))].into(), ..Ledger::default() };
    assert_eq!(stalls(&gap, &ledger), []);
}

/// An instance with the marker of "a": its id, status and age in minutes.
fn with_marker(text: &str, status: &str, minutes: i64) -> Instance {
    let name = replacement_name(&id("a"), "train", text);
    let created_at = Seconds::new(ago(minutes).as_secs());
    Instance { marker: Some(Box::new(name.as_str().into())), name: name.into(), created_at, ..instance(text, status) }
}

fn recreation(step: Step, minutes: i64) -> Recreation {
    let cause = Cause::JobFailed { job: JobId::new("j"), error: None };
    let begun = Recreation::planned("train", cause, "marker".into(), ago(minutes));
    Recreation { step, pass: "p".into(), ..begun }
}

/// What is seen of the old instance "a", whose recreation was begun 30 minutes ago: its status, when it last started,
/// its jobs.
#[test]
fn the_old_instance_as_it_is_seen() {
    let rows: Vec<(Option<&str>, Option<i64>, Vec<Job>, Old)> = vec![
        (None, None, vec![], Old::Gone),
        (Some("toRemove"), None, vec![], Old::Going),
        (Some("removing"), None, vec![], Old::Going),
        (Some("removed"), None, vec![], Old::Going),
        (Some("migrating"), None, vec![], Old::Failed),
        (Some("migrating"), None, vec![job("j", MIGRATE, "fail", 40)], Old::Failed),
        (Some("migrating"), None, vec![job("j", MIGRATE, "running", 5)], Old::Busy),
        (Some("running"), None, vec![], Old::Runs),
        (Some("running"), None, vec![job("j", "saveImage", "running", 5)], Old::Busy),
        (Some("exited"), None, vec![], Old::Failed),
        (Some("exited"), Some(90), vec![job("j", MIGRATE, "fail", 40)], Old::Failed),
        (Some("exited"), None, vec![job("j", MIGRATE, "success", 5)], Old::Down),
        (Some("exited"), Some(20), vec![job("j", MIGRATE, "fail", 40)], Old::Down),
        (Some("exited"), None, vec![job("j", MIGRATE, "pulling", 5)], Old::Busy),
        (Some("starting"), None, vec![], Old::Busy),
        (Some("stopping"), None, vec![], Old::Busy),
        (Some("hibernated"), None, vec![], Old::Busy),
    ];
    for (row, (status, started, jobs, expected)) in rows.into_iter().enumerate() {
        let started_at = started.and_then(|minutes| Seconds::new(ago(minutes).as_secs()));
        let old = status.map(|status| Instance { started_at, ..instance("a", status) });
        let snapshot = snapshot(old.into_iter().collect(), jobs);
        let open = recreation(Step::Pending { kept: None }, 30);
        let situation =
            look(&snapshot, &Ledger::default(), |it| it.situation(&id("a"), &open)).expect("complete listings");
        assert_eq!(
            (situation.old, situation.successor, situation.marked),
            (expected, Successor::None, None),
            "row {row}"
        );
    }
}

/// One that was to run until its replacement runs: exited without a reclaim it was stopped by a person.
#[test]
fn an_old_instance_that_a_person_stopped_ahead_of_its_reclaim() {
    for (cause, expected) in [
        (Cause::Announced, Old::Stopped),
        (Cause::Returned, Old::Stopped),
        (Cause::Reclaimed, Old::Failed),
        (Cause::Bridged, Old::Failed),
    ] {
        let snapshot = snapshot(vec![instance("a", "exited")], vec![]);
        let open = Recreation { cause: cause.clone(), ..recreation(Step::Pending { kept: None }, 30) };
        let situation = look(&snapshot, &Ledger::default(), |it| it.situation(&id("a"), &open));
        assert_eq!(situation.expect("complete listings").old, expected, "{cause:?}");
    }
}

/// The old instance is gone, and the pass that found the replacement has not stored it yet.
#[test]
fn a_replacement_that_the_journal_does_not_name_yet_belongs_to_its_recreation() {
    let name = replacement_name(&id("a"), "train", "j");
    let new = Instance { marker: Some(Box::new(name.as_str().into())), ..instance("r", "exited") };
    let snapshot = snapshot(vec![new], vec![]);
    let open = recreation(Step::Intent { kept: None }, 5);
    for (step, expected) in [(open.step.clone(), Some(id("a"))), (Step::Ended, None)] {
        let recreations = [(id("a"), Recreation { step, ..open.clone() })].into_iter().collect();
        let ledger = Ledger { recreations, ..Ledger::default() };
        assert_eq!(look(&snapshot, &ledger, |it| it.replaces(&id("r")).cloned()), expected);
    }
}

/// What is seen of the replacement "r" that the journal names.
#[test]
fn the_replacement_as_it_is_seen() {
    let failed = Successor::Failed("its migration failed: no node (job j)".into());
    let own = |job: Job| Job { instance: id("r"), ..job };
    let rows: Vec<(Option<&str>, Option<Job>, Successor)> = vec![
        (None, None, Successor::Gone),
        (Some("removing"), None, Successor::Gone),
        (Some("running"), None, Successor::Running),
        (Some("toCreate"), None, Successor::ComingUp),
        (Some("creating"), None, Successor::ComingUp),
        (Some("pending"), None, Successor::ComingUp),
        (Some("pulling"), None, Successor::ComingUp),
        (Some("starting"), None, Successor::ComingUp),
        (Some("exited"), None, Successor::Down),
        (Some("migrating"), None, Successor::Unclear),
        (Some("hibernated"), None, Successor::Unclear),
        (Some("exited"), Some(own(job("j", MIGRATE, "fail", 5))), failed.clone()),
        (Some("migrating"), Some(own(job("j", MIGRATE, "fail", 5))), failed),
        (Some("migrating"), Some(own(job("j", MIGRATE, "running", 5))), Successor::Unclear),
    ];
    for (row, (status, job, expected)) in rows.into_iter().enumerate() {
        let replacement = status.map(|status| instance("r", status));
        let snapshot = snapshot(replacement.into_iter().collect(), job.into_iter().collect());
        let open = recreation(Step::Created { replacement: id("r"), kept: None }, 30);
        let situation =
            look(&snapshot, &Ledger::default(), |it| it.situation(&id("a"), &open)).expect("complete listings");
        assert_eq!(situation.successor, expected, "row {row}");
    }
}

#[test]
fn of_several_bearers_the_furthest_on_is_seen_and_the_named_one_is_no_news() {
    let marked =
        || vec![with_marker("b", "creating", 9), with_marker("c", "starting", 5), with_marker("d", "exited", 8)];
    let running = || marked().into_iter().chain([with_marker("e", "running", 1)]).collect::<Vec<_>>();
    let none = || Step::Pending { kept: None };
    let named = |text: &str| Step::Created { replacement: id(text), kept: None };
    for (marked, step, expected) in [
        (vec![], none(), None),
        (marked(), none(), Some(("c", false))),
        (running(), none(), Some(("e", true))),
        (running(), named("e"), Some(("c", false))),
        (vec![with_marker("b", "running", 9)], named("b"), None),
        (vec![with_marker("b", "removing", 9)], none(), None),
    ] {
        let snapshot = snapshot(marked, vec![]);
        let open = recreation(step, 30);
        let situation =
            look(&snapshot, &Ledger::default(), |it| it.situation(&id("a"), &open)).expect("complete listings");
        assert_eq!(situation.marked, expected.map(|(text, runs)| (id(text), runs)));
    }
}

#[test]
fn nothing_is_concluded_from_a_listing_with_gaps() {
    let gap = || Some(Shortfall::Rows { announced: 2, received: 1 });
    let open = recreation(Step::Pending { kept: None }, 30);
    for (instances, jobs, is_seen) in [(None, None, true), (gap(), None, false), (None, gap(), false)] {
        let mut snapshot = snapshot(vec![], vec![]);
        (snapshot.instances.shortfall, snapshot.jobs.shortfall) = (instances, jobs);
        let situation = look(&snapshot, &Ledger::default(), |it| it.situation(&id("a"), &open));
        assert_eq!(situation.is_some(), is_seen);
    }
}

/// Whether a recreation is known of "a": the journal's, one that must have been begun, or none.
#[test]
fn a_recreation_is_known_by_the_journal_or_by_a_replacement() {
    let named = |text: &str| Step::Created { replacement: id(text), kept: None };
    let closed = |text: &str| Step::Closed { replacement: Some(id(text)) };
    let running = || vec![with_marker("b", "running", 9)];
    for (name, status, marked, stored, expected) in [
        ("nothing", "migrating", vec![], None, None),
        ("open in the journal", "migrating", vec![], Some(named("b")), Some("created")),
        ("open, and it is going", "removing", running(), Some(named("b")), Some("created")),
        ("known by its replacement alone", "migrating", running(), None, Some("pending")),
        ("the old one is going, there is nothing to do", "removing", running(), None, None),
        ("closed, and both rows are there", "migrating", running(), Some(closed("b")), Some("closed")),
        ("closed, and the replacement is gone: a new story", "migrating", vec![], Some(closed("b")), None),
        ("ended", "migrating", vec![], Some(Step::Ended), None),
    ] {
        let old = instance("a", status);
        let mut ledger = Ledger::default();
        ledger.recreations.extend(stored.map(|step| (id("a"), recreation(step, 30))));
        let snapshot = snapshot(marked.into_iter().chain([old.clone()]).collect(), vec![]);
        let known = look(&snapshot, &ledger, |it| it.recreation(&old));
        assert_eq!(known.as_ref().map(|it| it.step.into_str()), expected, "{name}");
    }
}

#[test]
fn what_a_rollout_left_as_it_is_stays_so() {
    let cause = Cause::Moved { rollout: "rollout-1".into(), to: Billing::Spot };
    let marker = replacement_name(&id("a"), "name-a", cause.decided_by());
    let mut successor = instance("b", "running");
    (successor.name, successor.marker) = (marker.as_str().into(), Some(Box::new(marker.as_str().into())));
    let snapshot = snapshot(vec![instance("a", "exited"), successor], vec![]);
    let moved = Recreation { step: Step::Ended, ..Recreation::planned("name-a", cause, marker.clone(), ago(10)) };
    let found = Recreation { cause: Cause::Found, ..moved.clone() };
    for (stored, is_left) in [(Some(moved), true), (Some(found), false), (None, false)] {
        let ledger =
            Ledger { recreations: stored.clone().map(|it| (id("a"), it)).into_iter().collect(), ..Ledger::default() };
        let recreation = look(&snapshot, &ledger, |it| it.recreation(&snapshot.instances.items[0]));
        assert_eq!(recreation.is_none(), is_left, "{stored:?}: {recreation:?}");
    }
}
