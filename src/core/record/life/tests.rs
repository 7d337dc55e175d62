//! Lives from records: who belongs to a chain, and what is told of it in which order.

use super::*;
use crate::core::pass::ledger::{InFlight, Observation};
use crate::core::record::execution::Execution;
use crate::core::recreation::marker::replacement_name;
use crate::core::world::instance::ReclaimNotice;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + 60 * minutes)
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

fn attempt(action: Action, old: &str, new: Option<&str>, outcome: Outcome, minutes: i64) -> Attempt {
    Attempt {
        instance_id: id(old),
        instance_name: format!("name-{old}"),
        action,
        outcome,
        reason: "because".into(),
        error_kind: None,
        new_instance_id: new.map(id),
        response_time: Some(120),
        at: at(minutes),
    }
}

fn write(call: WriteCall, old: &str, new: Option<&str>, minutes: i64) -> ProviderWrite {
    ProviderWrite {
        at: at(minutes),
        call,
        instance_id: id(old),
        instance_name: format!("name-{old}"),
        outcome: WriteOutcome::Accepted,
        error_kind: None,
        error: None,
        new_instance_id: new.map(id),
        market: None,
        response_time: Some(90),
    }
}

fn sighting(seen: Seen, old: &str, minutes: i64) -> Sighting {
    Sighting {
        at: at(minutes),
        instance_id: id(old),
        instance_name: format!("name-{old}"),
        seen,
        detail: "as seen".into(),
    }
}

fn pass(minutes: i64, attempts: Vec<Attempt>, writes: Vec<ProviderWrite>, sightings: Vec<Sighting>) -> Recorded {
    let execution = Execution::begun(format!("migration-job-{minutes:04}"), at(minutes), false);
    Recorded { attempts, writes, sightings, ..Recorded::of(execution) }
}

/// Newest first, as the store reads them.
fn newest_first(mut passes: Vec<Recorded>) -> Vec<Recorded> {
    passes.reverse();
    passes
}

fn recreation(step: Step, minutes: i64) -> Recreation {
    let cause = Cause::JobFailed { job: crate::core::world::instance::JobId::new("j"), error: Some("no node".into()) };
    let planned = Recreation::planned("name-a", cause, "name-a-recreated-x".into(), at(minutes));
    Recreation { step, pass: "killed".into(), ..planned }
}

fn told(life: &Life) -> Vec<String> {
    life.events
        .iter()
        .map(|it| {
            let minutes = (it.at.as_secs() - at(0).as_secs()) / 60;
            let times = if it.times > 1 { format!(" x{}", it.times) } else { String::new() };
            format!(
                "{minutes} {} {} {}{times}",
                it.instance_id,
                it.event.into_str(),
                it.outcome.map_or("-", Conclusion::into_str)
            )
        })
        .collect()
}

/// The whole story of the module: notice, migrated, failed, recreated, and the same with the replacement.
fn a_long_life() -> Vec<Recorded> {
    use Action::{Migrate, Recreate, Resume};
    use Outcome::{Accepted, Done};
    newest_first(vec![
        pass(0, vec![], vec![], vec![sighting(Seen::ReclaimNotice, "a", 0)]),
        pass(
            15,
            vec![attempt(Migrate, "a", None, Accepted, 15), attempt(Migrate, "other", None, Accepted, 15)],
            vec![write(WriteCall::Migrate, "a", None, 15), write(WriteCall::Migrate, "other", None, 15)],
            vec![],
        ),
        pass(
            30,
            vec![attempt(Recreate, "a", Some("b"), Accepted, 30)],
            vec![write(WriteCall::Create, "a", Some("b"), 30)],
            vec![sighting(Seen::MigrationFailed, "a", 30)],
        ),
        pass(
            45,
            vec![attempt(Resume, "a", Some("b"), Done, 45)],
            vec![write(WriteCall::Delete, "a", None, 45)],
            vec![sighting(Seen::ReclaimNotice, "b", 45)],
        ),
        pass(60, vec![attempt(Recreate, "b", Some("c"), Done, 60)], vec![], vec![]),
    ])
}

#[test]
fn a_life_is_told_in_order_whoever_of_the_chain_is_asked_for() {
    let passes = a_long_life();
    let expected = [
        "0 a reclaim_notice -",
        "15 a migrate accepted",
        "30 a migration_failed -",
        "30 a recreate accepted",
        "30 a create accepted",
        "45 a resume done",
        "45 a delete accepted",
        "45 b reclaim_notice -",
        "60 b recreate done",
    ];
    // By id, by name, by a name that was given and never seen in a record, and the last of the chain.
    let marker = replacement_name(&id("a"), "name-a", "");
    for wanted in ["a", "b", "c", "name-a", "name-b", &marker] {
        let mut life = life(&passes, &Ledger::default(), wanted);
        life.events.sort_by_key(|event| (event.at, event.instance_id.clone()));
        assert_eq!(life.ids, ["a", "b", "c"].map(id), "{wanted}");
        assert_eq!(told(&life), expected, "{wanted}");
    }
    let life = life(&passes, &Ledger::default(), "other");
    assert_eq!((life.ids, life.events.len()), (vec![id("other")], 1));
}

#[test]
fn of_nobody_nothing_is_told() {
    for wanted in ["", "nobody", "nam", "migration-job-0015"] {
        assert_eq!(life(&a_long_life(), &Ledger::default(), wanted), Life::default(), "{wanted:?}");
    }
}

#[test]
fn a_name_proves_the_chain_when_the_record_of_the_creation_is_gone() {
    let marker = replacement_name(&id("a"), "name-a", "");
    let renamed = |attempt: Attempt| Attempt { instance_name: marker.clone(), ..attempt };
    let passes = newest_first(vec![
        pass(0, vec![attempt(Action::Migrate, "a", None, Outcome::Accepted, 0)], vec![], vec![]),
        pass(60, vec![renamed(attempt(Action::Migrate, "b", None, Outcome::Accepted, 60))], vec![], vec![]),
    ]);
    for wanted in ["a", "b"] {
        assert_eq!(life(&passes, &Ledger::default(), wanted).ids, ["a", "b"].map(id), "{wanted}");
    }
}

#[test]
fn what_only_the_ledger_knows_is_told_once() {
    let notice = ReclaimNotice { spot_status: "notified".into(), reclaim_at: at(9) };
    let seen = Observation { notice, first_seen_at: at(1), last_seen_at: at(5), down_seen_at: None };
    let call = InFlight {
        instance_name: "name-a".into(),
        called_at: at(2),
        pass: "killed".into(),
        job_before: None,
        previous_attempt: None,
        call: Call::Begun,
    };
    let created = Step::Created { replacement: id("b"), kept: None };
    let ledger = Ledger {
        in_flight: [(id("a"), call)].into(),
        observations: [(id("a"), seen)].into(),
        recreations: [(id("a"), recreation(created, 7))].into(),
        ..Ledger::default()
    };
    let alone = life(&[], &ledger, "b");
    assert_eq!(alone.ids, ["a", "b"].map(id));
    assert_eq!(
        told(&alone),
        ["1 a reclaim_notice -", "2 a migrate unknown", "7 a migration_failed -", "7 a journal -"]
    );
    // The same as the executions know it.
    let mut known = pass(
        1,
        vec![attempt(Action::Migrate, "a", None, Outcome::Unknown, 2)],
        vec![],
        vec![sighting(Seen::ReclaimNotice, "a", 1), sighting(Seen::MigrationFailed, "a", 7)],
    );
    known.execution.job_id = "killed".into();
    let both = life(&[known], &ledger, "b");
    assert_eq!(told(&both), ["1 a reclaim_notice -", "2 a migrate unknown", "7 a migration_failed -"]);
}

#[test]
fn what_changes_nothing_is_told_once_with_how_often() {
    let failed = |minutes| {
        let attempts = vec![attempt(Action::Recreate, "a", None, Outcome::Failed, minutes)];
        pass(minutes, attempts, vec![], vec![sighting(Seen::MigrationFailed, "a", minutes)])
    };
    let accepted =
        |minutes| pass(minutes, vec![attempt(Action::Migrate, "a", None, Outcome::Accepted, minutes)], vec![], vec![]);
    let passes = newest_first(vec![accepted(0), failed(15), failed(30), failed(45), accepted(60)]);
    let life = life(&passes, &Ledger::default(), "a");
    assert_eq!(
        told(&life),
        ["0 a migrate accepted", "15 a migration_failed - x3", "15 a recreate failed x3", "60 a migrate accepted"]
    );
    assert_eq!(life.events[1].last_at, Some(at(45)));
}

#[test]
fn what_was_withdrawn_replaces_nothing() {
    let created =
        |new: &str, minutes| pass(minutes, vec![], vec![write(WriteCall::Create, "a", Some(new), minutes)], vec![]);
    let executions = newest_first(vec![created("z", 1), created("b", 5)]);
    let by = |step: Option<Step>| {
        let recreations = step.map(|step| (id("a"), recreation(step, 7))).into_iter().collect();
        life(&executions, &Ledger { recreations, ..Ledger::default() }, "a").replaced_by.remove(&id("a"))
    };
    assert_eq!(by(None), Some(id("b")), "the last one");
    for (step, expected) in [
        (Step::Closed { replacement: Some(id("b")) }, Some("b")),
        (Step::Closed { replacement: None }, None),
        (Step::Pending { kept: None }, None),
        (Step::Abandoned { replacement: id("b"), kept: None }, None),
    ] {
        assert_eq!(by(Some(step)), expected.map(id));
    }
}

#[test]
fn damaged_records_that_form_a_circle_are_told_all_the_same() {
    let circle = vec![pass(
        0,
        vec![
            attempt(Action::Recreate, "a", Some("b"), Outcome::Done, 0),
            attempt(Action::Recreate, "b", Some("a"), Outcome::Done, 1),
            attempt(Action::Recreate, "a", Some("a"), Outcome::Done, 2),
        ],
        vec![],
        vec![],
    )];
    let life = life(&circle, &Ledger::default(), "a");
    assert_eq!((life.ids, life.events.len()), (["a", "b"].map(id).to_vec(), 3));
}

#[test]
fn writes_are_listed_newest_first() {
    let listed: Vec<_> = writes(&a_long_life()).iter().map(|it| (it.event, it.instance_id.to_string())).collect();
    let expected =
        [(EventKind::Delete, "a"), (EventKind::Create, "a"), (EventKind::Migrate, "other"), (EventKind::Migrate, "a")];
    assert_eq!(listed, expected.map(|(kind, id)| (kind, id.to_owned())));
}

/// What is kept of an instance in the order delete-first is in no word about its journal.
#[test]
fn nothing_kept_is_told() {
    use crate::core::recreation::blueprint::Blueprint;
    let stored = serde_json::json!({"billing": "spot", "notes": [], "envs": [{"key": "TOKEN", "value": "hush"}]});
    let kept = Box::new(serde_json::from_value::<Blueprint>(stored).expect("a blueprint"));
    let ledger = Ledger {
        recreations: [(id("a"), recreation(Step::Pending { kept: Some(kept) }, 7))].into(),
        ..Ledger::default()
    };
    let life = life(&[], &ledger, "a");
    assert_eq!(life.events.len(), 2);
    let text = serde_json::to_string(&life.events).expect("JSON");
    assert!(!text.contains("hush") && !text.contains("TOKEN"), "{text}");
}
