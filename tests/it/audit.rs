//! The audit trail against the provider's own books: nothing reached the provider that is not on record, and nothing is
//! on record as answered that never reached it.

use std::collections::BTreeMap;

use novita_sim::{Fate, Op, Outcome, Spec, World};
use serde_json::Value;

use crate::harness::{BOTH, MINUTE, Stage};

/// Calls by what they were about: an instance, or for a creation the name that was asked for.
type Counts = BTreeMap<(&'static str, String), (usize, usize)>;

fn call_of(op: Op) -> Option<&'static str> {
    match op {
        Op::Migrate => Some("migrate"),
        Op::Create => Some("create"),
        Op::Delete => Some("delete"),
        _ => None,
    }
}

/// Compares the history's writes with the provider's log. Answers how many there are.
pub(crate) fn is_complete(stage: &Stage) -> usize {
    // Arrived at the provider, and taken there.
    let mut arrived = Counts::new();
    for entry in stage.provider.with(|world| world.log().to_vec()) {
        let Some(call) = call_of(entry.op) else { continue };
        let counts = arrived.entry((call, if call == "create" { entry.name } else { entry.instance })).or_default();
        counts.0 += usize::from(entry.outcome != Outcome::Lost);
        counts.1 += usize::from(entry.outcome == Outcome::Applied);
    }
    // Recorded at all, and recorded as accepted.
    let mut recorded = Counts::new();
    let history = stage.history();
    let writes = history["executions"].as_array().unwrap().iter().flat_map(|it| it["writes"].as_array().unwrap());
    let writes: Vec<&Value> = writes.collect();
    for write in &writes {
        let text = |name: &str| write[name].as_str().unwrap_or_else(|| panic!("{name} in {write}")).to_owned();
        let is_known =
            write["outcome"] != "accepted" || write["call"] != "create" || write["newInstanceId"].is_string();
        assert!(is_known, "what was created? {write}");
        let call = ["migrate", "create", "delete"].into_iter().find(|call| *call == text("call")).unwrap();
        let whom = match (call, write["newInstanceId"].as_str()) {
            // The name follows from the old instance alone.
            ("create", _) => format!("{}-recreated-", crate::successors::base(&text("instanceName"))),
            _ => text("instanceId"),
        };
        let counts = recorded.entry((call, whom)).or_default();
        counts.0 += usize::from(write["outcome"] != "not_sent");
        counts.1 += usize::from(write["outcome"] == "accepted");
    }
    let mut by_name = Counts::new();
    for ((call, whom), (all, applied)) in arrived {
        let whom = if call == "create" { format!("{}-recreated-", crate::successors::base(&whom)) } else { whom };
        let counts = by_name.entry((call, whom)).or_default();
        *counts = (counts.0 + all, counts.1 + applied);
    }
    for (key, (arrived, _)) in &by_name {
        let (sent, _) = recorded.get(key).copied().unwrap_or_default();
        // A write that is told to slow down is one write, however often it knocks.
        assert!(sent > 0 || *arrived == 0, "{key:?} arrived {arrived} times and is not on record: {writes:#?}");
    }
    for (key, (_, accepted)) in &recorded {
        let (_, applied) = by_name.get(key).copied().unwrap_or_default();
        // Deleting what is gone is a success, and no effect.
        let is_true = key.0 == "delete" || *accepted <= applied;
        assert!(is_true, "{key:?} is on record as accepted {accepted} times, and took effect {applied} times");
    }
    writes.len()
}

#[test]
fn every_write_is_in_the_history_and_in_the_log() {
    for kind in BOTH {
        let mut world = World::new(4);
        world.rules_mut().create_step_ms = 0;
        for n in 0..4 {
            world.add(Spec::exited(&format!("train-{n}")).id(&format!("a{n}")));
            world.add(Spec::stuck(&format!("stuck-{n}"), 60_000).id(&format!("s{n}")));
        }
        world.add(Spec::exited("lost").id("lost").fate(Fate::FailsStuck));
        let stage = Stage::new(kind, world);
        for fault in [
            "migrate/a0:status=400,reason=INSUFFICIENT_RESOURCE*1",
            "migrate/a1:cut-after*1",
            "create%50:status=400,reason=INSUFFICIENT_RESOURCE*1",
            "delete%50:status=500*1",
        ] {
            stage.fault(fault);
        }
        let mut lines = Vec::new();
        for _ in 0..5 {
            let output = stage.call("run --log-format json --force").env("MIGRATION_RECREATE_WAIT_MS", "0").output();
            assert!(matches!(output.code(), 0 | 1), "{output:?}");
            let all = output.stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            lines.extend(all.filter(|line| line["target"] == "respot::audit"));
            stage.provider.advance(10 * MINUTE);
        }
        let count = is_complete(&stage);
        assert!(count >= 15, "only {count} writes");
        let history = stage.history();
        let recorded = history["executions"].as_array().unwrap().iter().rev().flat_map(|execution| {
            execution["writes"].as_array().unwrap().iter().map(|write| (execution["jobId"].clone(), write.clone()))
        });
        let recorded: Vec<(Value, Value)> = recorded.collect();
        assert_eq!(lines.len(), recorded.len());
        let same = |line: &Value, (job, write): &(Value, Value)| {
            let fields = ["at", "call", "instanceId", "instanceName", "outcome"];
            line["jobId"] == *job && fields.iter().all(|name| line[name] == write[name])
        };
        for line in &lines {
            assert!(recorded.iter().any(|it| same(line, it)), "{line} is not in the history");
        }
        assert!(lines.iter().any(|line| line["outcome"] == "refused" && line["errorKind"] == "capacity"));
        assert!(lines.iter().any(|line| line["outcome"] == "unknown" && line["instanceId"] == "a1"), "the cut one");
        // A rehearsal writes nothing, so it has nothing on record.
        stage.call("run -q").env("MIGRATION_DRY_RUN", "true").output();
        assert_eq!(stage.history()["executions"][0]["writes"], Value::Array(Vec::new()));
    }
}
