//! Stores and documents that an earlier version wrote: this version reads the stores, prints the same documents, and
//! its passes continue where the earlier ones ended. `tests/fixtures/stores/README.md` says what the fixtures hold.

mod fixture;

use std::collections::{BTreeMap, BTreeSet};

use novita_sim::{Machine, Op, World};
use serde_json::Value;

use self::fixture::{Fixture, HEIRS, call, documents};
use crate::harness::{BOTH, Kind, MINUTE, Stage, side_by_side};
use crate::receiver::Receiver;
use crate::rollout_program::is_over;
use crate::successors::{deleted_last, each_has_one, nothing_twice};

/// Records the fixtures instead, with the program that this names: see the README beside them.
#[expect(clippy::disallowed_methods, reason = "a test may be told to record its expectations")]
fn recorder() -> Option<std::path::PathBuf> {
    std::env::var("PINNED_PROGRAM").ok().map(Into::into)
}

#[test]
fn documents_are_what_the_earlier_version_printed() {
    if let Some(program) = recorder() {
        for kind in BOTH {
            let fixture = Fixture::record(kind, &program);
            fixture.save(
                &documents(kind)
                    .iter()
                    .map(|words| (*words, fixture.document(words, Some(&program))))
                    .collect::<Vec<_>>(),
            );
        }
    }
    let rows: Vec<(Kind, &str)> =
        BOTH.into_iter().flat_map(|kind| documents(kind).iter().map(move |words| (kind, *words))).collect();
    side_by_side(&rows, 4, |(kind, words)| {
        let fixture = Fixture::load(*kind);
        let now = fixture::without_prose(words, fixture.document(words, None));
        let then = fixture::without_prose(words, fixture.printed(words));
        let mut found = Vec::new();
        differences(&then, &now, "", &mut found);
        found.retain(|line| !is_known(words, line));
        assert!(found.is_empty(), "{words}\n{}", found.join("\n"));
    });
}

/// What was changed on purpose since: fields, columns and rules were added, and lack of room is no failure any more.
fn is_known(words: &str, line: &str) -> bool {
    const NO_ROOM: [&str; 4] = [
        "/exit: 1 became 0",
        "/printed/attempts/migrate full/outcome: \"failed\" became \"no_room\"",
        "/printed/status: \"partial\" became \"completed\"",
        "/printed/summary/errorCount: 1 became 0",
    ];
    // Migrations are sent before creations, so that no creation has shown that there is room when the first one is refused:
    // that goes elsewhere, and the second one is not sent.
    const MIGRATED_FIRST: [&str; 4] = [
        "/printed/attempts/migrate cut/outcome: \"accepted\" became \"no_room\"",
        "/printed/attempts/migrate cut/responseTime: \"(measured)\" became null",
        "/printed/summary/migratedInstances: 1 became 0",
        "/printed/summary/recreatedInstances: 3 became 4",
    ];
    // Confidences follow from evidence: one sample of a probe, one point of metrics, no market ever asked, no quotas set.
    const CONFIDENCES: [&str; 3] = [
        "application/confidence: 0.95 became 0.89",
        "performance/confidence: 0.95 became 0.88",
        "resource/confidence: 0.65 became 0.56",
    ];
    // The provider draws IDs in the order of the calls, which is another one.
    const DRAWN: [&str; 3] = ["dnk7m4yghnruxam8", "3g08gx8uj4t1q8m6", "thm12euithc8knaf"];
    let is_drawn = line.split_once("/newInstanceId: ").is_some_and(|(_, ids)| {
        let ids: Vec<&str> = ids.split(" became ").map(|id| id.trim_matches('"')).collect();
        ids.len() == 2 && DRAWN.contains(&ids[0]) && ids[1].len() == ids[0].len()
    });
    line.contains(": \"(absent)\" became ")
        || ["run -o json", "check-failed -o json"].contains(&words) && is_drawn
        || words == "analyze -o json" && CONFIDENCES.iter().any(|it| line.ends_with(it))
        || words == "run -o json" && (NO_ROOM.contains(&line) || MIGRATED_FIRST.contains(&line))
        || words.contains("-o csv")
            && line.split_once("\" became \"").is_some_and(|(then, now)| {
                let then = then.split_once(": \"").map_or(then, |(_, then)| then);
                now.starts_with(&format!("{then},"))
            })
}

/// The metric that a line is about.
fn metric(line: &Value) -> &str {
    let line = line.as_str().unwrap_or_default();
    let line = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line);
    line.split([' ', '{']).next().unwrap_or_default()
}

/// Where two documents differ, and what each has there.
fn differences(then: &Value, now: &Value, at: &str, found: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let value =
                    |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or("(absent)".into());
                differences(&value(a), &value(b), &format!("{at}/{name}"), found);
            }
        }
        // Metrics, without those that were added.
        (Value::Array(a), Value::Array(b)) if a.iter().any(|line| metric(line).starts_with("respot_")) => {
            let known: BTreeSet<&str> = a.iter().map(metric).collect();
            let b: Vec<&Value> = b.iter().filter(|line| known.contains(metric(line))).collect();
            assert!(a.iter().eq(b.iter().copied()), "{a:?} became {b:?}");
        }
        // The rules of an explanation, by their names.
        (Value::Array(a), Value::Array(b)) if a.first().is_some_and(|it| it["rule"].is_string()) => {
            for then in a {
                let now = b.iter().find(|it| it["rule"] == then["rule"]);
                differences(then, now.unwrap_or(&Value::Null), &format!("{at}/{}", then["rule"]), found);
            }
        }
        // The actions of a pass, by what is done to which instance.
        (Value::Array(a), Value::Array(b))
            if a.first().is_some_and(|it| it["responseTime"] != Value::Null || it["newInstanceId"] != Value::Null) =>
        {
            let name = |it: &Value| {
                format!(
                    "{} {}",
                    it["action"].as_str().unwrap_or_default(),
                    it["instanceId"].as_str().unwrap_or_default()
                )
            };
            let find = |all: &[Value], wanted: &str| all.iter().find(|it| name(it) == wanted).cloned();
            for wanted in a.iter().chain(b).map(name).collect::<BTreeSet<String>>() {
                let of = |all: &[Value]| find(all, &wanted).unwrap_or("(absent)".into());
                differences(&of(a), &of(b), &format!("{at}/{wanted}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (place, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{at}/{place}"), found);
            }
        }
        (then, now) if then == now => {}
        (then, now) => found.push(format!("{at}: {then} became {now}")),
    }
}

fn records(dump: &BTreeMap<String, String>, map: &str) -> BTreeMap<String, Value> {
    let of = |key: &String| key.split_once(&format!("{map}[")).map(|(_, field)| field.trim_end_matches(']').to_owned());
    let found = dump.iter().filter_map(|(key, text)| Some((of(key)?, serde_json::from_str(text).expect("JSON"))));
    found.collect()
}

fn all_executions(stage: &Stage) -> BTreeMap<String, Value> {
    let executions = stage.history()["executions"].as_array().expect("executions").clone();
    executions.into_iter().map(|it| (it["jobId"].as_str().expect("an id").to_owned(), it)).collect()
}

/// What was under way at the provider when the store was written comes to its end.
fn time_passes(stage: &Stage) {
    stage.provider.with(|world| {
        let jobs: Vec<_> = world.jobs().iter().filter(|job| job.is_unfinished()).cloned().collect();
        for job in jobs {
            world.edit_job(&job.id, |job| job.state = "success".into());
            world.set_status(&job.instance_id, "running");
        }
        let coming: Vec<String> = world
            .machines()
            .filter(|it| matches!(it.status.as_str(), "toCreate" | "creating" | "pulling"))
            .map(|it| it.id.clone())
            .collect();
        let now = world.now_ms();
        for id in coming {
            world.set_status(&id, "running");
            world.edit(&id, |machine| (machine.first_ran_at, machine.last_started_at) = (now, now));
        }
    });
}

#[test]
fn passes_continue_where_the_earlier_version_ended() {
    side_by_side(&BOTH, 2, |kind| {
        let fixture = Fixture::load(*kind);
        let (stage, receiver) = (fixture.stage(), Receiver::willing());
        let (before, stored) = (all_executions(&stage), stage.dump());
        let (totals, written) = (stage.status()["statistics"].clone(), stage.provider.with(|world| world.log().len()));
        assert_eq!(written, 0, "reading changes nothing");
        for pass in 0..8 {
            let run = call(&stage, "run -q --retry-quarantined").env("WEBHOOK_URL", receiver.url("/"));
            let output = run.output();
            assert!(matches!(output.code(), 0 | 1), "{output:?}");
            if pass == 0 {
                time_passes(&stage);
            }
            stage.provider.advance(6 * MINUTE);
        }

        // Nothing is lost, and nothing is done twice.
        stage.provider.with(|world| {
            each_has_one(world, &HEIRS.map(str::to_owned));
            nothing_twice(world);
            deleted_last(world);
        });
        let accepted =
            stage.provider.with(|world| ["lost", "pending", "cooling"].map(|id| world.accepted_migrations_of(id)));
        assert_eq!(accepted, [0, 0, 0], "these were migrated before, or are cooling down");
        let status = stage.status();
        for open in ["migrations", "recreations", "quarantined", "undeliveredEvents"] {
            assert_eq!(status["inFlight"][open], 0, "{open}: {status}");
        }

        // Every execution of then is still there as it was; the one that was killed at last is closed.
        let after = all_executions(&stage);
        assert_eq!(after.len(), before.len() + 8);
        let killed = stored.iter().find_map(|(key, id)| key.ends_with("open-execution").then_some(id)).expect("one");
        for (id, then) in &before {
            if *killed == *id {
                let told = (&after[id]["attempts"][0]["instanceId"], &after[id]["writes"][0]["outcome"]);
                assert_eq!(told, (&"cut".into(), &"unknown".into()), "it is closed with what it left: {}", after[id]);
            } else {
                assert_eq!(after[id], *then, "{id}");
            }
        }
        let more = |name: &str, count: usize| {
            let then = totals[name].as_u64().expect(name);
            assert_eq!(status["statistics"][name].as_u64(), Some(then + count as u64), "{name}");
        };
        // Those of the killed pass were counted by nobody yet.
        more("totalExecutions", 8 + 1);
        let (made, migrated) = stage.provider.with(|world| (world.applied(Op::Create), world.applied(Op::Migrate)));
        more("totalMigrations", migrated);
        let open: Vec<String> = records(&stored, "recreations")
            .into_iter()
            .filter(|(_, it)| it["closedAt"].is_null() && it["step"] == "created")
            .map(|(id, _)| id)
            .collect();
        assert!(!open.is_empty(), "some replacement was still coming up");
        assert!(made > 0);

        // Each event that no receiver had taken arrives once, as it was written.
        let waiting = records(&stored, "outbox");
        assert!(waiting.len() >= 5, "{waiting:?}");
        for (id, event) in waiting {
            let taken: Vec<String> =
                receiver.taken().into_iter().filter(|it| it.header("webhook-id") == id).map(|it| it.body).collect();
            assert_eq!(taken, [event["body"].as_str().expect("a body")], "{id}");
        }

        // The rollout goes on to its end.
        let mut ended = Value::Null;
        for _ in 0..40 {
            let output = call(&stage, "rollout --yes -o json").output();
            assert!(matches!(output.code(), 0 | 1), "{output:?}");
            stage.provider.advance(6 * MINUTE);
            ended = output.json();
            if is_over(&ended["rollout"]) {
                break;
            }
        }
        assert_eq!(ended["rollout"]["state"], "completed", "{ended:#}");
        let webs = stage.provider.with(|world: &mut World| {
            let alive = world.machines().filter(|it| it.is_alive() && it.name.starts_with("web-"));
            alive.map(|it: &Machine| it.billing_mode.clone()).collect::<Vec<_>>()
        });
        assert_eq!(webs, ["spot"; 4]);
        stage.provider.with(|world| nothing_twice(world));
    });
}
