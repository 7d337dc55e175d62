//! Tables for every step: what a look makes of it, what comes next, and which transitions it takes.

use super::*;
use crate::core::world::instance::{Billing, JobId};

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

fn spec() -> Box<Blueprint> {
    Box::new(Blueprint { billing: Billing::Spot, notes: vec![], payload: Default::default() })
}

/// A recreation at this step since so many seconds.
fn at(step: Step, secs: u64) -> Recreation {
    let cause = Cause::JobFailed { job: JobId::new("j"), error: None };
    let since = now() - Duration::from_secs(secs);
    Recreation { step, since, pass: "p".into(), ..Recreation::planned("name", cause, "marker".into(), since) }
}

fn situation(old: Old, successor: Successor) -> Situation {
    Situation { old, successor, marked: None, is_unwanted: false, overlap: None, now: now() }
}

const SETTLED: u64 = 180;
const CREATE_FIRST: RecreateOrder = RecreateOrder::CreateFirst;

/// Each row: the step, since how many seconds, what is seen, the step afterwards, and what comes next.
#[test]
fn what_is_seen_decides_what_comes_next() {
    use Old::{Busy, Down, Failed, Going, Gone, Runs, Stopped};
    let r = || id("r");
    let pending = || Step::Pending { kept: None };
    let kept = || Step::Pending { kept: Some(spec()) };
    let intent = || Step::Intent { kept: None };
    let intent_kept = || Step::Intent { kept: Some(spec()) };
    let created = || Step::Created { replacement: r(), kept: None };
    let created_kept = || Step::Created { replacement: r(), kept: Some(spec()) };
    let running = || Step::Running { replacement: r() };
    let deleted = || Step::Deleted { replacement: r() };
    let abandoned = || Step::Abandoned { replacement: r(), kept: None };
    let closed = || Step::Closed { replacement: Some(r()) };
    let none = || Successor::None;
    let rows: Vec<(Step, u64, Old, Successor, &str, &str)> = vec![
        // Nothing is under way.
        (pending(), 0, Failed, none(), "pending", "create"),
        (pending(), 0, Busy, none(), "pending", "rest"),
        (pending(), 0, Runs, none(), "closed", "nothing"),
        (pending(), 0, Down, none(), "closed", "nothing"),
        (pending(), 0, Stopped, none(), "closed", "nothing"),
        (pending(), 0, Going, none(), "ended", "nothing"),
        (pending(), 0, Gone, none(), "ended", "nothing"),
        (kept(), 0, Gone, none(), "pending", "create"),
        (kept(), 0, Going, none(), "pending", "create"),
        (kept(), 0, Busy, none(), "pending", "rest"),
        (kept(), 0, Failed, none(), "deleting", "delete first"),
        (kept(), 0, Runs, none(), "deleting", "rest"),
        // Delete-first.
        (Step::Deleting { kept: spec() }, 0, Failed, none(), "deleting", "delete first"),
        (Step::Deleting { kept: spec() }, 0, Going, none(), "deleting", "rest"),
        (Step::Deleting { kept: spec() }, 0, Gone, none(), "pending", "create"),
        (Step::Deleting { kept: spec() }, 0, Runs, none(), "deleting", "rest"),
        (Step::Deleting { kept: spec() }, SETTLED, Runs, none(), "closed", "nothing"),
        // The create call may have been sent.
        (intent(), SETTLED - 1, Failed, none(), "intent", "rest"),
        (intent(), SETTLED, Failed, none(), "pending", "create"),
        (intent(), SETTLED - 1, Gone, none(), "intent", "rest"),
        (intent(), SETTLED, Gone, none(), "ended", "nothing"),
        (intent_kept(), SETTLED, Gone, none(), "pending", "create"),
        (intent(), SETTLED, Runs, none(), "closed", "nothing"),
        // The replacement exists.
        (created(), 0, Failed, Successor::ComingUp, "created", "watch"),
        (created(), 0, Failed, Successor::Running, "created", "delete old"),
        (created(), 0, Down, Successor::Running, "created", "delete old"),
        (created(), 0, Busy, Successor::Running, "created", "rest"),
        (created(), 0, Gone, Successor::Running, "closed", "nothing"),
        (created(), 0, Going, Successor::Running, "closed", "nothing"),
        (created(), 0, Runs, Successor::Running, "created", "rest"),
        (created(), SETTLED, Runs, Successor::Running, "created", "abandon"),
        (created(), SETTLED, Runs, Successor::ComingUp, "created", "abandon"),
        (created(), 0, Stopped, Successor::Running, "created", "rest"),
        (created(), SETTLED, Stopped, Successor::Running, "created", "abandon"),
        (created(), SETTLED, Stopped, Successor::ComingUp, "created", "abandon"),
        (created(), 0, Stopped, Successor::Gone, "created", "rest"),
        (created(), 0, Stopped, Successor::None, "created", "rest"),
        (created(), 0, Failed, Successor::Gone, "created", "watch"),
        (created(), SETTLED, Failed, Successor::Gone, "pending", "create"),
        (created(), SETTLED, Gone, Successor::Gone, "ended", "nothing"),
        (created(), 3600, Failed, Successor::ComingUp, "created", "abandon"),
        (created(), 3600, Gone, Successor::ComingUp, "created", "watch"),
        (created(), 0, Failed, Successor::Failed("x".into()), "created", "abandon"),
        (created(), 0, Gone, Successor::Failed("x".into()), "closed", "nothing"),
        (created(), 0, Failed, Successor::Down, "created", "rest"),
        (created(), 0, Gone, Successor::Down, "closed", "nothing"),
        (created_kept(), 0, Gone, Successor::ComingUp, "created", "watch"),
        (created_kept(), 0, Gone, Successor::Running, "closed", "nothing"),
        (created_kept(), 0, Failed, Successor::Running, "created", "delete old"),
        (created_kept(), 0, Runs, Successor::Running, "created", "delete old"),
        (created_kept(), 0, Stopped, Successor::Running, "created", "delete old"),
        (created_kept(), 0, Busy, Successor::Running, "created", "rest"),
        (created_kept(), 0, Failed, Successor::ComingUp, "created", "watch"),
        (created_kept(), SETTLED, Gone, Successor::Gone, "pending", "create"),
        (created_kept(), 0, Gone, Successor::Down, "created", "rest"),
        (created_kept(), 3600, Gone, Successor::ComingUp, "created", "abandon"),
        // The old one may be deleted.
        (running(), 0, Failed, Successor::Running, "running", "delete old"),
        (running(), 0, Runs, Successor::Running, "running", "delete old"),
        (running(), 0, Gone, Successor::Running, "closed", "nothing"),
        (running(), 0, Gone, Successor::Down, "closed", "nothing"),
        (running(), 0, Failed, Successor::Down, "running", "rest"),
        (running(), SETTLED, Failed, Successor::Down, "created", "rest"),
        (running(), SETTLED, Failed, Successor::Gone, "pending", "create"),
        (running(), 0, Gone, Successor::Gone, "running", "rest"),
        (running(), SETTLED, Gone, Successor::Gone, "ended", "nothing"),
        // Its deletion was accepted.
        (deleted(), 0, Failed, Successor::Running, "deleted", "rest"),
        (deleted(), SETTLED, Failed, Successor::Running, "deleted", "delete old"),
        (deleted(), 0, Going, Successor::Running, "closed", "nothing"),
        (deleted(), 0, Gone, Successor::ComingUp, "closed", "nothing"),
        // The replacement was given up.
        (abandoned(), 0, Failed, Successor::Running, "abandoned", "abandon"),
        (abandoned(), 0, Failed, Successor::Gone, "pending", "create"),
        (abandoned(), 0, Runs, Successor::Gone, "closed", "nothing"),
        (abandoned(), 0, Gone, Successor::Gone, "ended", "nothing"),
        // It is over, and a row lingers.
        (closed(), 0, Failed, Successor::Running, "closed", "nothing"),
        (closed(), SETTLED, Failed, Successor::Running, "deleted", "rest"),
        (closed(), SETTLED, Gone, Successor::Running, "closed", "nothing"),
        (closed(), SETTLED, Failed, Successor::Gone, "closed", "nothing"),
        (Step::Ended, SETTLED, Failed, none(), "ended", "nothing"),
    ];
    for (step, secs, old, successor, then, comes) in rows {
        let name = format!("{} since {secs} s, old {old:?}, replacement {successor:?}", step.into_str());
        let seen = situation(old, successor);
        let recreation = at(step, secs).observe(&seen);
        assert_eq!(recreation.step.into_str(), then, "{name}");
        let next = match next(&recreation, &seen, CREATE_FIRST, false) {
            Next::Create => "create",
            Next::DeleteOldFirst => "delete first",
            Next::Watch => "watch",
            Next::DeleteOld => "delete old",
            Next::Abandon(_) => "abandon",
            Next::CallOff => "call off",
            Next::LeaveBoth(_) => "leave both",
            Next::Rest(_) => "rest",
            Next::Nothing => "nothing",
        };
        assert_eq!(next, comes, "{name}");
        assert_eq!(recreation.clone().observe(&seen), recreation, "{name}: a second look tells nothing new");
        if recreation.step == Step::Ended && then == "ended" && secs != SETTLED {
            assert!(recreation.last_error.is_some(), "{name}: a dead end says why");
        }
    }
}

#[test]
fn a_bearer_of_the_marker_is_adopted() {
    let marked = |runs| Situation { marked: Some((id("b"), runs)), ..situation(Old::Failed, Successor::None) };
    let replacement = |recreation: Recreation, seen: &Situation| recreation.observe(seen).step.replacement().cloned();
    let pending = Step::Pending { kept: None };
    let created = || Step::Created { replacement: id("r"), kept: None };
    for step in [pending, Step::Intent { kept: None }] {
        assert_eq!(replacement(at(step, 0), &marked(false)), Some(id("b")));
    }
    for (successor, runs, expected) in [
        (Successor::ComingUp, true, "b"),
        (Successor::Down, true, "b"),
        (Successor::ComingUp, false, "r"),
        (Successor::Running, true, "r"),
        (Successor::Gone, false, "b"),
    ] {
        let seen = Situation { successor, ..marked(runs) };
        assert_eq!(replacement(at(created(), 0), &seen), Some(id(expected)), "{seen:?}");
    }
    for step in [Step::Running { replacement: id("r") }, Step::Deleted { replacement: id("r") }] {
        let down = Situation { successor: Successor::Down, ..marked(true) };
        assert_eq!(
            replacement(at(step, SETTLED), &down),
            Some(id("b")),
            "the one that runs, once nothing is under way"
        );
    }
    let gone = Situation { successor: Successor::Gone, ..marked(false) };
    for step in [Step::Running { replacement: id("r") }, Step::Deleted { replacement: id("r") }] {
        assert_eq!(replacement(at(step, 0), &gone), Some(id("b")));
    }
}

#[test]
fn three_failures_in_a_row_are_a_quarantine_of_a_day() {
    let refused = |recreation: Recreation, now| {
        let intent = recreation.apply(Transition::Create, now).unwrap();
        intent.apply(Transition::CreateRefused("sold out".into()), now).unwrap()
    };
    let mut recreation = at(Step::Pending { kept: None }, 0);
    for failures in 1..=MOST_FAILURES {
        assert_eq!(recreation.quarantined_until(now()), None);
        recreation = refused(recreation, now());
        assert_eq!((recreation.failures, recreation.last_error.as_deref()), (failures, Some("sold out")));
    }
    let until = now() + QUARANTINE;
    assert_eq!(recreation.quarantined_until(now()), Some(until));
    let seen = situation(Old::Failed, Successor::None);
    let wait = Next::Rest(Rest::Quarantined { until });
    assert_eq!(next(&recreation, &seen, CREATE_FIRST, false), wait);
    assert_eq!(next(&recreation, &seen, CREATE_FIRST, true), Next::Create, "released by hand");
    let early = refused(recreation.clone(), now());
    assert!(early.quarantined_until(now()).is_some(), "one more failure, and it is back");
    let later = Situation { now: until, ..seen };
    assert_eq!(next(&recreation, &later, CREATE_FIRST, false), Next::Create, "released by time");
    let after = refused(recreation, until);
    assert_eq!((after.failures, after.quarantined_until(until)), (1, None), "and counted from zero");
}

#[test]
fn what_was_not_sent_is_no_failure() {
    let intent = at(Step::Intent { kept: None }, 0).apply(Transition::CreateUnsent, now()).unwrap();
    assert_eq!((intent.step, intent.failures), (Step::Pending { kept: None }, 0));
}

/// Every step with every transition: what is not in the table is an error.
#[test]
fn illegal_deeds_are_errors() {
    let r = || id("r");
    let steps = [
        Step::Pending { kept: None },
        Step::Pending { kept: Some(spec()) },
        Step::Deleting { kept: spec() },
        Step::Intent { kept: None },
        Step::Created { replacement: r(), kept: None },
        Step::Created { replacement: r(), kept: Some(spec()) },
        Step::Running { replacement: r() },
        Step::Deleted { replacement: r() },
        Step::Abandoned { replacement: r(), kept: None },
        Step::Closed { replacement: Some(r()) },
        Step::Ended,
    ];
    let transitions = [
        Transition::DeleteOldFirst(spec()),
        Transition::Create,
        Transition::CreateRefused("x".into()),
        Transition::CreateUnsent,
        Transition::Found(r()),
        Transition::DeleteOld,
        Transition::DeletionAccepted,
        Transition::Abandon(Unfit::Down),
    ];
    // One row a step, one column a transition: the first letter of the step afterwards, or a dot.
    let expected = [
        "d i p . c . . .", // pending
        ". i p . c . . .", // pending, kept
        "d . . . . . d .", // deleting
        ". i p p c . . .", // intent
        ". . . . c r . a", // created
        ". . . . c r . a", // created, kept: the old one may turn out not to be gone
        ". . . . . r d .", // running
        ". . . . . r . .", // deleted
        ". . . . . . . a", // abandoned
        ". . . . . . . .", // closed
        ". . . . . . . .", // ended
    ];
    for (step, row) in steps.iter().zip(expected) {
        let letter = |transition: &Transition| match at(step.clone(), 0).apply(transition.clone(), now()) {
            Ok(recreation) => recreation.step.into_str()[..1].to_owned(),
            Err(_) => ".".into(),
        };
        let got: Vec<String> = transitions.iter().map(letter).collect();
        assert_eq!(got.join(" "), row, "{}", step.into_str());
    }
}

/// With create-first the journal holds no secrets; with delete-first it holds them until it closes.
#[test]
fn what_is_kept_is_wiped_when_it_closes() {
    let kept = Step::Created { replacement: id("r"), kept: Some(spec()) };
    assert!(kept.kept().is_some());
    let closed = at(kept, 0).observe(&situation(Old::Gone, Successor::Running));
    assert_eq!(closed.step, Step::Closed { replacement: Some(id("r")) });
    assert!(closed.step.kept().is_none());
    assert!(!serde_json::to_string(&closed).unwrap().contains("image"));
}

#[test]
fn every_step_reads_back_as_it_was_written() {
    for step in [
        Step::Pending { kept: Some(spec()) },
        Step::Deleting { kept: spec() },
        Step::Intent { kept: None },
        Step::Created { replacement: id("r"), kept: None },
        Step::Running { replacement: id("r") },
        Step::Closed { replacement: None },
        Step::Ended,
    ] {
        let recreation = at(step, 5);
        let text = serde_json::to_string(&recreation).unwrap();
        assert_eq!(serde_json::from_str::<Recreation>(&text).unwrap(), recreation, "{text}");
    }
}

/// A person who ends a replacement wants none any more. What was kept says that the old instance is gone by our hand.
#[test]
fn a_replacement_that_a_person_ended_is_not_replaced() {
    let ended = Situation { is_unwanted: true, ..situation(Old::Failed, Successor::Gone) };
    for step in [
        Step::Created { replacement: id("r"), kept: None },
        Step::Running { replacement: id("r") },
        Step::Deleted { replacement: id("r") },
    ] {
        let seen = at(step, 0).observe(&ended);
        assert_eq!(seen.step, Step::Closed { replacement: Some(id("r")) });
    }
    let given_up = at(Step::Abandoned { replacement: id("r"), kept: None }, 0).observe(&ended);
    assert!(matches!(given_up.step, Step::Pending { .. }), "it was given up by us: {:?}", given_up.step);
}
