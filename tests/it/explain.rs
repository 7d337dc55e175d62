//! `explain` says what `dry-run` says, of every instance and with every rule, and writes nothing anywhere.

use std::collections::BTreeSet;

use novita_sim::{Fate, JobRow, Spec, World};
use respot::core::recreation::blueprint::Blueprint;
use respot::core::recreation::journal::{Cause, Recreation, Step};
use respot::core::world::instance::JobId;
use respot::core::world::time::Timestamp;
use serde_json::Value;

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage, each, keys, side_by_side};

const DOCUMENT: &str = "attempts billing detail ids inFlight instanceId instanceName journal lastAttempt nextPass \
    observations places reason refused rules status until verdict";

fn explain(stage: &Stage, words: &str, wanted: &str) -> Value {
    let document = stage.call(&format!("explain -o json {words}")).arg(format!("--now={}", now(stage)));
    let document = document.now(None).arg(wanted).output().ends_with(0).json();
    assert_eq!(keys(&document), DOCUMENT);
    document
}

/// The world's time to the second, so that calls moments apart agree.
fn now(stage: &Stage) -> Timestamp {
    Timestamp::from_secs(stage.provider.with(|world| world.now_ms()) / 1000 / 600 * 600)
}

fn texts<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// Exactly one rule decides, unless the instance is migrated; and it answers with the verdict's own sentence.
fn is_sound(document: &Value) {
    let rules = document["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), 21, "{rules:?}");
    let deciding: Vec<&Value> = rules.iter().filter(|it| matches!(texts(it, "outcome"), "stops" | "acts")).collect();
    match deciding[..] {
        [] => assert_eq!(document["verdict"], "migrate", "{document:#}"),
        [rule] => {
            assert!(texts(rule, "detail").starts_with(texts(document, "detail")), "{rule}");
            assert_eq!(rule["outcome"] == "stops", document["verdict"] == "skip");
        }
        _ => panic!("{deciding:?}"),
    }
}

#[test]
fn it_agrees_with_the_dry_run_on_every_instance_of_a_fleet() {
    for (kind, seed) in BOTH.into_iter().zip([3, 8]) {
        let stage = Stage::new(kind, World::fleet(seed, 45));
        for (words, wait) in [("--force", 0), ("--force --eligibility reclaimed --max-migrations 2", 20 * MINUTE)] {
            stage.provider.advance(wait);
            let planned = stage.call(&format!("dry-run -o json {words} --now={}", now(&stage))).now(None).output();
            let planned = planned.ends_with(0).json();
            let rows = planned["plan"].as_array().expect("a plan");
            assert!(rows.len() >= 40);
            let (dump, writes) = (stage.dump(), stage.provider.with(|world| world.log().len()));
            side_by_side(rows, 4, |row| {
                let document = explain(&stage, words, texts(row, "instanceId"));
                for field in ["instanceId", "instanceName", "status", "verdict", "reason", "detail", "until"] {
                    assert_eq!(document[field], row[field], "{field} of {document:#}");
                }
                is_sound(&document);
                let table = stage.call(&format!("explain {words}")).arg(texts(row, "instanceId"));
                let table = table.output().ends_with(0).stdout;
                let first = format!("{}: {}", texts(row, "verdict"), texts(row, "detail"));
                assert!(table.starts_with(&first) && table.contains("within limits"), "{table}");
            });
            assert_eq!((stage.dump(), stage.provider.with(|world| world.log().len())), (dump, writes));
            stage.call("run -q --force").env("MIGRATION_RECREATE_WAIT_MS", "0").output();
        }
    }
}

fn zoo() -> World {
    let mut world = World::new(3);
    world.rules_mut().create_step_ms = 0;
    let hour = 3_600_000;
    for spec in [
        Spec::exited("train-old").id("old").stopped_ago_ms(9 * hour),
        Spec::exited("train-new").id("new").stopped_ago_ms(hour),
        Spec::reclaimed("eval-7", 2 * hour).id("taken"),
        Spec::exited("billed-by-hour").id("demand").billing("onDemand"),
        Spec::running("web").id("up"),
        Spec::running("web").id("up2"),
        Spec::running("warned").id("warned").notified(hour),
        Spec::exited("being saved").id("saving"),
        Spec::exited("lost call").id("lost"),
        Spec::exited("odd time").id("odd"),
        Spec::exited("kept").id("kept"),
        Spec::exited("twin").id("twin-1"),
        Spec::exited("twin").id("twin-2").status("removed"),
        Spec::stuck("stuck", hour).id("stuck"),
        Spec::stuck("hopeless", hour).id("hopeless"),
    ] {
        world.add(spec);
    }
    let begun = world.now_ms() - hour;
    world.add_job(JobRow {
        id: "save-1".into(),
        kind: "saveImage".into(),
        ..JobRow::migration("saving", "running", begun)
    });
    world
}

/// A record of the journal, as it is stored.
fn record(old: &str, step: Step, failures: u32, since: Timestamp) -> String {
    let cause = Cause::JobFailed { job: JobId::new("j"), error: Some("no node".into()) };
    let planned = Recreation::planned(old, cause, format!("{old}-recreated-x"), since);
    let last_error = Some("no stock".into());
    let recreation = Recreation { step, failures, last_error, pass: "migration-job-01A".into(), ..planned };
    let mut record = serde_json::to_value(recreation).expect("JSON");
    record["v"] = 1.into();
    record.to_string()
}

#[test]
fn each_verdict_is_explained_with_its_facts() {
    // What is asked, the reason, and what must be told somewhere on the screen.
    let rows: &[(&str, &str, &[&str])] = &[
        ("old", "no_previous_migration", &["migrates it", "no previous migration", "stopped at"]),
        ("train-old", "no_previous_migration", &["(train-old)", "status exited"]),
        ("old --only web", "not_selected", &["not selected by --only", "> selected", "leaves it alone"]),
        ("old --exclude train-*", "excluded", &["excluded by --exclude train-*"]),
        ("demand", "out_of_scope", &["billing is onDemand, scope is spot"]),
        ("demand --scope all", "no_previous_migration", &["billing is onDemand, scope is all"]),
        ("up", "not_exited", &["status is running"]),
        ("warned", "not_exited", &["notified, reclaim at", "first seen", "last seen"]),
        ("old --eligibility reclaimed", "no_reclaim_evidence", &["no evidence of a reclaim"]),
        ("taken --eligibility reclaimed", "no_previous_migration", &["reclaim at"]),
        ("saving", "job_unfinished", &["job save-1 (saveImage)"]),
        ("new", "cooling_down", &["cooling down until", "last attempt", "time alone may change that in"]),
        ("odd", "unreadable_record", &["\"soon\"", "not a valid time"]),
        ("lost", "call_unsettled", &["no visible result yet", "outcome unknown"]),
        ("old --max-migrations 0", "over_limit", &["over the limit of 0"]),
        ("stuck", "migration_failed", &["USD/h", "recreates it", "us-xx-1"]),
        ("stuck --max-recreations 0", "over_limit", &["over the limit of 0", "its migration failed"]),
        ("hopeless", "quarantined", &["left alone until", "no stock", "failed 3 times in a row"]),
        ("hopeless --retry-quarantined", "migration_failed", &["recreated"]),
        ("kept", "migration_failed", &["deleting since", "continues its recreation"]),
        ("twin", "no_previous_migration", &["twin-1"]),
    ];
    let secret = "hunter2-hunter2";
    for kind in BOTH {
        let stage = Stage::new(kind, zoo());
        let begun = Timestamp::from_millis(stage.provider.with(|world| world.now_ms()) - 60_000);
        stage.call("run -q --max-migrations 0 --max-recreations 0").output().ends_with(0);
        stage.put("migration-times:new", &begun.to_string());
        stage.fault("migrate:cut-before*9");
        let _ = stage.call("run -q --only lost").output();
        stage.provider.with(World::clear_faults);
        stage.put("migration-times:odd", "soon");
        stage.put_field("recreations", "hopeless", &record("hopeless", Step::Pending { kept: None }, 3, begun));
        let kept: Blueprint = serde_json::from_value(serde_json::json!({
            "kind": "gpu", "billing": "spot", "imageUrl": "app", "imageAuthId": "", "productId": "4090.16c62g",
            "productName": "", "clusterId": "", "networkId": "", "gpuNum": 1, "rootfsSize": 50, "ports": "",
            "envs": [{"key": "TOKEN", "value": secret}], "command": "", "entrypoint": "", "networkVolumes": [],
            "notes": [],
        }))
        .expect("a blueprint");
        let step = Step::Deleting { kept: Box::new(kept) };
        stage.put_field("recreations", "kept", &record("kept", step, 1, begun));
        let (dump, writes) = (stage.dump(), stage.provider.with(|world| world.log().len()));
        each(rows, |(words, reason, told)| {
            let (wanted, words) = words.split_once(' ').unwrap_or((words, ""));
            let document = stage.call(&format!("explain -o json {wanted} {words}")).output().ends_with(0);
            let table = stage.call(&format!("explain {wanted} {words}")).output().ends_with(0);
            for output in [&document, &table] {
                assert!(!output.all().contains(secret) && !output.all().contains("TOKEN"), "{output:?}");
            }
            let document = document.json();
            assert_eq!(document["reason"], *reason, "{document:#}");
            is_sound(&document);
            for part in *told {
                assert!(table.stdout.contains(part), "{part:?} is not in {}", table.stdout);
            }
        });
        assert_eq!((stage.dump(), stage.provider.with(|world| world.log().len())), (dump, writes));
    }
}

#[test]
fn whoever_is_not_one_listed_instance_is_told_so() {
    for kind in BOTH {
        let stage = Stage::new(kind, zoo());
        let (files, dump) = (stage.files(), stage.dump());
        stage.call("explain nobody").output().ends_with(2).says(["nobody", "nothing is remembered", "hint: "]);
        stage.call("explain web").output().ends_with(2).says(["2 instances have the name", "up (running", "up2 ("]);
        let error = stage.call("explain web -o json").output().ends_with(2).json();
        assert_eq!((&error["error"]["code"], &error["error"]["kind"]), (&2.into(), &"usage".into()));
        stage.call("explain").output().ends_with(2).says(["INSTANCE"]);
        stage.call("explain up").unset("NOVITA_API_KEY").output().ends_with(2).says(["NOVITA_API_KEY"]);
        assert_eq!((stage.files(), stage.dump()), (files, dump), "no store was made");
    }
}

/// One that was recreated is explained by what became of it.
#[test]
fn what_was_replaced_is_explained_from_memory() {
    for kind in BOTH {
        let stage = Stage::new(kind, zoo());
        stage.call("run -q --only stuck").output().ends_with(0);
        stage.provider.advance(10 * MINUTE);
        stage.call("run -q --only stuck*").output().ends_with(0);
        stage.provider.advance(10 * MINUTE);
        let heir = stage.provider.with(|world| {
            let heir = world.machines().find(|it| it.name.starts_with("stuck-recreated-")).expect("a replacement");
            (heir.id.clone(), heir.name.clone())
        });
        stage.until("the old one is gone", |world| world.get("stuck").is_none());
        for wanted in ["stuck", &heir.0, &heir.1] {
            let document = explain(&stage, "", wanted);
            assert_eq!(document["ids"], Value::from(vec!["stuck".to_owned(), heir.0.clone()]));
            let (reason, verdict) =
                if wanted == "stuck" { ("replaced", Value::Null) } else { ("not_exited", "skip".into()) };
            assert_eq!((&document["reason"], &document["verdict"]), (&reason.into(), &verdict), "{wanted}");
            assert!(!document["attempts"].as_array().expect("attempts").is_empty());
        }
        let table = stage.call("explain stuck").output().ends_with(0).stdout;
        let told = format!("replaced by {}, whose status is running", heir.0);
        assert!(table.contains(&told) && table.contains("stuck -> "), "{table}");
    }
}

#[test]
fn without_the_provider_the_store_still_answers() {
    for kind in BOTH {
        let stage = Stage::new(kind, zoo());
        stage.call("run -q --only new").output().ends_with(0);
        stage.fault("list:status=401*1000");
        let output = stage.call("explain new").output().ends_with(3).says(["error: ", "hint: check NOVITA_API_KEY"]);
        for part in ["new (train-new), the provider could not be reached", "last attempt", "migrate -> accepted"] {
            assert!(output.stdout.contains(part), "{part} is not in {}", output.stdout);
        }
        let document = stage.call("explain new -o json").output().ends_with(3).says(["error: "]).json();
        assert_eq!((&document["error"]["kind"], &document["verdict"]), (&"auth".into(), &Value::Null));
        assert_eq!(document["attempts"][0]["event"], "migrate");
        // Of whom the store knows nothing there is nothing to say.
        let output = stage.call("explain old").output().ends_with(3).says(["error: "]);
        assert!(output.stdout.is_empty());
        assert_eq!(keys(&stage.call("explain old -o json").output().ends_with(3).json()), "error");
        stage.call("explain new --store sqlite:/dev/null/x").output().ends_with(4);
    }
}

/// What the next pass does is what it then does.
#[test]
fn what_it_foretells_comes_true() {
    let stage = Stage::new(Kind::Sqlite, zoo());
    stage.provider.with(|world| world.edit("old", |machine| machine.fate = Fate::Succeeds));
    let ids: BTreeSet<&str> = ["old", "new", "taken", "demand", "up", "saving", "stuck"].into();
    let foretold: Vec<Value> = ids.iter().map(|id| explain(&stage, "", id)).collect();
    let run = stage.call("run -o json").output().ends_with(0).json();
    for document in foretold {
        let rows = run["plan"].as_array().expect("a plan");
        let row = rows.iter().find(|row| row["instanceId"] == document["instanceId"]).expect("a row");
        assert_eq!((&row["verdict"], &row["reason"]), (&document["verdict"], &document["reason"]));
    }
    stage.provider.advance(HOUR);
    // It runs now, and what a pass has no need to ask for is told all the same.
    let document = explain(&stage, "", "old");
    assert_eq!((&document["status"], &document["attempts"][0]["outcome"]), (&"running".into(), &"accepted".into()));
    assert_eq!(document["lastAttempt"], document["attempts"][0]["at"]);
    let cooldown = document["rules"].as_array().expect("rules").iter().find(|it| it["rule"] == "cooled_down");
    assert_eq!(cooldown.expect("a rule")["outcome"], "would_stop");
}
