//! What `history` tells: the life of an instance under all the ids it ever had, compared with the provider's own log;
//! pages, bars and tables for spreadsheets.

use novita_sim::{Entry, Fate, Op, Outcome, Spec, World};
use serde_json::Value;

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Output, Stage, each};
use crate::successors::{base, living, quick, story};

fn pass(stage: &Stage) {
    let code = stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "300").output().code();
    assert!(matches!(code, 0 | 1), "{code}");
}

/// The one that lives under this name, by its id.
fn heir(stage: &Stage, name: &str) -> String {
    stage.provider.with(|world| living(world, name).first().map(|it| it.id.clone())).unwrap_or_default()
}

/// Announced, taken, migrated, failed, created anew; and all of it again with the replacement. Answers all ids.
fn two_generations(stage: &Stage) -> Vec<String> {
    let mut ids = vec![heir(stage, "train-7")];
    for _ in 0..2 {
        let id = ids.last().expect("one").clone();
        stage.provider.with(|world| {
            assert!(world.edit(&id, |machine| machine.fate = Fate::FailsStuck));
            assert!(world.reclaim(&id));
        });
        pass(stage);
        stage.provider.advance(HOUR);
        stage.until("it is taken", |world| world.get(&id).is_some_and(|machine| machine.status == "exited"));
        for _ in 0..8 {
            pass(stage);
            stage.provider.advance(5 * MINUTE);
            let now = heir(stage, "train-7");
            let is_alone = stage.provider.with(|world| living(world, "train-7").len() == 1);
            if is_alone && now != id {
                break;
            }
        }
        ids.push(heir(stage, "train-7"));
    }
    ids
}

fn world() -> World {
    let mut world = quick(5);
    world.add(Spec::running("train-7").id("t7"));
    world.add(Spec::running("web").id("w1"));
    world.add(Spec::exited("eval").id("e1"));
    world
}

fn of<'a>(life: &'a [Value], events: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    life.iter().filter(move |it| events.contains(&it["event"].as_str().expect("a kind")))
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>, field: &str) -> Vec<String> {
    values.filter_map(|it| it[field].as_str().map(str::to_owned)).collect()
}

fn life_of(stage: &Stage, wanted: &str) -> Value {
    stage.call("history -o json").arg(format!("--instance={wanted}")).output().ends_with(0).json()
}

#[test]
fn a_life_is_what_the_provider_saw() {
    for kind in BOTH {
        let stage = Stage::new(kind, world());
        let ids = two_generations(&stage);
        let (log, names) = stage.provider.with(|world| {
            let log = world.log().iter().filter(|it| base(&it.name) == "train-7" && it.outcome == Outcome::Applied);
            let log: Vec<Entry> = log.cloned().collect();
            let names = world.ever().filter(|it| base(&it.name) == "train-7").map(|it| it.name.clone());
            (log, names.collect::<Vec<_>>())
        });
        let told =
            |op: Op| -> Vec<String> { log.iter().filter(|it| it.op == op).map(|it| it.instance.clone()).collect() };
        let story = stage.provider.with(|world| story(world, "train-7"));
        assert_eq!(told(Op::Migrate), ids[..2], "{story}");
        assert_eq!(told(Op::Create), ids[1..], "{story}");
        assert_eq!(told(Op::Delete), ids[..2], "{story}");

        for wanted in ids.iter().chain(&names) {
            let document = life_of(&stage, wanted);
            let life = document["life"].as_array().expect("a life");
            assert_eq!(document["ids"], Value::from(ids.clone()), "{wanted}");
            let migrated = of(life, &["migrate"]).filter(|it| it["outcome"] == "accepted");
            assert_eq!(texts(migrated, "instanceId"), told(Op::Migrate));
            let mut made = texts(of(life, &["recreate", "resume"]), "newInstanceId");
            made.dedup();
            assert_eq!(made, told(Op::Create));
            for (event, field, op) in [("create", "newInstanceId", Op::Create), ("delete", "instanceId", Op::Delete)] {
                let written = texts(of(life, &[event]).filter(|it| it["outcome"] == "accepted"), field);
                assert!(written.is_empty() || written == told(op), "{written:?}");
            }
            // What came before what, for each that was replaced.
            for id in &ids[..2] {
                let own: Vec<&Value> = life.iter().filter(|it| it["instanceId"] == id.as_str()).collect();
                let place = |event: &str| own.iter().position(|it| it["event"] == event).unwrap_or(usize::MAX);
                let order = ["reclaim_notice", "migrate", "migration_failed", "recreate"].map(place);
                assert!(order.is_sorted() && order[3] < own.len(), "{id}: {order:?} in {own:#?}");
                // Each notice once: that it was announced, then that it was carried out.
                let notices =
                    texts(of(life, &["reclaim_notice"]).filter(|it| it["instanceId"] == id.as_str()), "reason");
                assert!(matches!(&notices[..], [_] | [_, _]) && notices.first() != notices.get(1), "{notices:?}");
                let called = log.iter().find(|it| it.op == Op::Migrate && it.instance == *id).expect("a call").at_ms;
                let at: respot::core::world::time::Timestamp = own[order[1]]["at"].as_str().unwrap().parse().unwrap();
                assert!((at.as_millis() - called).abs() < 60_000, "{at} is not {called}");
            }
            assert!(texts(life.iter(), "at").is_sorted(), "oldest first");
            // Every event of a pass names one that is there, and the passes are those that acted.
            let executions = document["executions"].as_array().expect("executions");
            assert_eq!(document["total"], executions.len());
            let acting = of(life, &["migrate", "recreate", "resume"]);
            let passes = texts(executions.iter(), "jobId");
            for job in texts(acting, "jobId") {
                assert!(passes.contains(&job), "{job} is not in {passes:?}");
            }
            assert!(!document["life"].to_string().contains("\"e1\""), "of nobody else");
        }

        // The same for people and for spreadsheets: one line an event, in a pipe.
        let events = life_of(&stage, "t7")["life"].as_array().expect("a life").len();
        let table = stage.call("history --instance t7").output().ends_with(0).stdout;
        assert_eq!(table.lines().count(), ids.len() + 1 + events, "{table}");
        for part in ["t7", &ids[2], "reclaim notice seen", "migrate -> accepted", "migration failed", "replaced by"] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
        let rows = csv(&stage.call("history -o csv --instance t7").output().ends_with(0));
        assert_eq!((rows.len(), rows[0][0].as_str(), rows[1][7].as_str()), (events + 1, "at", "reclaim_notice"));
        let later = stage.call("history -o json --instance t7 --since 1s").output().ends_with(0).json();
        assert_eq!((&later["total"], later["ids"].as_array().map(Vec::len)), (&0.into(), Some(3)));
    }
}

/// A rehearsal leaves the ends of real calls to real passes, and sees the same each time.
#[test]
fn rehearsals_tell_nothing_twice() {
    let mut world = world();
    world.add(Spec::exited("eval-2").id("e2").fate(Fate::Succeeds));
    let stage = Stage::new(Kind::Sqlite, world);
    let rehearse = || stage.call("run -q").env("MIGRATION_DRY_RUN", "true").output().ends_with(0);
    pass(&stage);
    stage.provider.advance(HOUR);
    for _ in 0..2 {
        rehearse();
    }
    let events = |stage: &Stage| texts(life_of(stage, "e2")["life"].as_array().expect("a life").iter(), "event");
    assert_eq!(events(&stage), ["down", "migrate"]);
    pass(&stage);
    rehearse();
    assert_eq!(events(&stage), ["down", "migrate", "up_again", "running_again"]);
}

#[test]
fn of_an_instance_that_nobody_knows_there_is_no_life() {
    for kind in BOTH {
        let stage = Stage::new(kind, world());
        for _ in 0..2 {
            let document = life_of(&stage, "nobody");
            assert_eq!((&document["total"], &document["life"]), (&0.into(), &Value::Array(vec![])));
            let said = stage.call("history --instance nobody").output().ends_with(0).stdout;
            assert!(said.contains("nothing is known of nobody"), "{said}");
            pass(&stage);
        }
    }
}

/// Reads what RFC 4180 says, no more.
fn csv(output: &Output) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = output.stdout.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => field.extend(chars.next()),
            ('"', _) => quoted = !quoted,
            (',', false) => row.push(std::mem::take(&mut field)),
            ('\r', false) => {}
            ('\n', false) => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            (c, _) => field.push(c),
        }
    }
    assert!(field.is_empty() && row.is_empty() && !quoted, "the last line ends, too");
    let columns = rows.first().map_or(0, Vec::len);
    assert!(rows.iter().all(|row| row.len() == columns), "{rows:?}");
    rows
}

#[test]
fn names_that_are_formulas_or_escapes_stay_texts() {
    let names = ["=HYPERLINK(\"http://x\",\"y\")", "@SUM(A1)", "a,b\n\"c\"", "\u{1b}[31mred", "-1+2"];
    let mut world = World::new(3);
    for (n, name) in names.iter().enumerate() {
        world.add(Spec::exited(name).id(&format!("i{n}")));
    }
    let stage = Stage::new(Kind::Sqlite, world);
    pass(&stage);
    for (n, name) in names.iter().enumerate() {
        let output = stage.call("history -o csv --instance").arg(format!("i{n}")).output().ends_with(0);
        let rows = csv(&output);
        let shown = &rows[1][6];
        assert!(!shown.starts_with(['=', '@', '-', '+']), "{shown}");
        assert_eq!(*shown == *name, !name.contains(['=', '@', '\n', '\u{1b}']) && !name.starts_with('-'), "{shown}");
        assert!(output.stdout.ends_with("\r\n") && !output.stdout.replace("\r\n", "").contains(['\r', '\n']));
        assert_eq!(life_of(&stage, name)["ids"][0], format!("i{n}"), "by its name, whatever that is");
    }
}

#[test]
fn pages_lead_to_each_other() {
    let stage = Stage::new(Kind::Sqlite, world());
    for _ in 0..5 {
        pass(&stage);
        stage.provider.advance(15 * MINUTE);
    }
    let rows: &[(&str, &str, usize)] = &[
        ("history", "1-5 of 5 passes, newest first\n", 5),
        ("history --limit 2", "1-2 of 5 passes, newest first; older: respot history --limit 2 --offset 2\n", 2),
        (
            "history --limit 2 --offset 2",
            "3-4 of 5 passes, newest first; older: respot history --limit 2 --offset 4\n",
            2,
        ),
        ("history --limit 2 --offset 4", "5 of 5 passes, newest first\n", 1),
        ("history --limit 2 --offset 7", "no passes after the first 7, 5 are recorded\n", 0),
        (
            "history --limit 1 --since 40m",
            "1 of 2 passes, newest first; older: respot history --limit 1 --since 40m --offset 1\n",
            1,
        ),
        ("history --since 1s", "no passes are recorded in the last 1s\n", 0),
    ];
    each(rows, |(words, closing, count)| {
        let table = stage.call(words).output().ends_with(0).stdout;
        assert!(table.ends_with(closing), "{table}");
        let bars = table.lines().filter(|line| line.contains('#')).count();
        assert_eq!(bars, *count, "{table}");
        let rows = csv(&stage.call(&format!("{words} -o csv")).output().ends_with(0));
        assert_eq!(rows.len(), count + 1);
        assert_eq!(
            rows[0].join(" "),
            "jobId status startedAt completedAt duration dryRun totalInstances exitedInstances \
            eligibleInstances migratedInstances recreatedInstances skippedInstances errorCount error \
            noRoomInstances"
        );
    });
    // The whole of a page is what the documents say.
    let rows = csv(&stage.call("history -o csv").output().ends_with(0));
    for (row, execution) in rows[1..].iter().zip(stage.history()["executions"].as_array().expect("executions")) {
        assert_eq!(row[0], execution["jobId"].as_str().unwrap());
        assert_eq!(row[4], execution["duration"].to_string());
        assert_eq!(row[9], execution["summary"]["migratedInstances"].to_string());
    }
    stage.call("history --writes").output().ends_with(0);
    stage.call("history --writes --instance t7").output().ends_with(2);
}

/// What a pass wrote to the provider, as its record has it: by itself, and in the life of the instance.
#[test]
fn every_write_can_be_seen() {
    for kind in BOTH {
        let stage = Stage::new(kind, world());
        pass(&stage);
        let job = stage.history()["executions"][0]["jobId"].as_str().expect("a job id").to_owned();
        let mut record: Value = serde_json::from_str(&stage.stored(&format!("executions[{job}]")).unwrap()).unwrap();
        let write = |call: &str, outcome: &str, new: Value, error: Value| {
            serde_json::json!({"at": "2026-01-15T12:00:09.000Z", "call": call, "instanceId": "t7",
                "instanceName": "train-7", "outcome": outcome, "errorKind": null, "error": error,
                "newInstanceId": new, "responseTime": 77})
        };
        record["writes"] = Value::Array(vec![
            write("create", "accepted", "t8".into(), Value::Null),
            write("delete", "refused", Value::Null, "=no\u{1b}[31m".into()),
        ]);
        stage.put_field("executions", &job, &record.to_string());

        let table = stage.call("history --writes").output().ends_with(0).stdout;
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[0].contains("t7 (train-7): delete call -> refused, answered in 77 ms; =no\\u{1b}[31m"),
            "{table}"
        );
        assert!(lines[1].contains("t7 (train-7): create call -> accepted, now t8, answered in 77 ms"), "{table}");
        assert!(lines[2].starts_with("2 write calls were sent") && lines.len() == 3, "{table}");
        let rows = csv(&stage.call("history --writes -o csv").output().ends_with(0));
        assert_eq!((rows.len(), rows[1][7].as_str(), rows[1][9].as_str()), (3, "delete", "'=no\\u{1b}[31m"));
        for wanted in ["t7", "t8", "train-7"] {
            let document = life_of(&stage, wanted);
            assert_eq!(document["ids"], serde_json::json!(["t7", "t8"]));
            assert_eq!(texts(document["life"].as_array().unwrap().iter(), "event"), ["create", "delete"]);
            assert_eq!(document["executions"][0]["writes"], record["writes"]);
        }
    }
}

#[test]
fn only_history_writes_for_spreadsheets() {
    let stage = Stage::new(Kind::Sqlite, world());
    each(&["run", "dry-run", "check-failed", "status", "explain t7"], |words| {
        let output = stage.call(&format!("{words} -o csv")).output().ends_with(2);
        assert!(
            output.stdout.is_empty()
                && output.stderr.starts_with("error: --output csv is only supported by respot history"),
            "{output:?}"
        );
    });
    assert_eq!((stage.calls(), stage.files().len()), (0, 0), "nothing was asked or written");
}
