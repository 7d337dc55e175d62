//! Who else is told of a pass: the dead man's switch, Kubernetes, a collector of metrics.

use std::time::Duration;

use novita_sim::{Spec, World};
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{BOTH, Kind, Stage};
use crate::receiver::{Answer, Receiver};

fn world() -> World {
    let mut world = World::new(2);
    world.add(Spec::exited("train-1").id("a1"));
    world
}

#[test]
fn the_dead_mans_switch_hears_how_passes_begin_and_end() {
    // The words, a fault, settings, the exit code, and what the switch hears.
    let rows: &[(&str, &str, &[(&str, &str)], i32, &[&str])] = &[
        ("run", "", &[], 0, &["/p/start", "/p"]),
        ("check-failed", "", &[], 0, &["/p/start", "/p"]),
        ("run", "", &[("MIGRATION_DRY_RUN", "true")], 0, &["/p/start", "/p"]),
        // Single actions that fail are in the summary; the schedule is kept all the same.
        ("run", "migrate:status=400,reason=VALIDATOR_PARAM", &[], 1, &["/p/start", "/p"]),
        ("run", "list:html", &[], 3, &["/p/start", "/p/fail"]),
        ("run", "", &[("REDIS_URL", "redis://127.0.0.1:1")], 4, &["/p/fail"]),
        // Whoever switched passes off need not be woken.
        ("run", "", &[("MIGRATION_ENABLED", "false")], 0, &["/p"]),
        ("dry-run", "", &[], 0, &[]),
        ("status", "", &[], 0, &[]),
    ];
    for (words, fault, variables, code, heard) in rows {
        let (stage, switch) = (Stage::new(Kind::Sqlite, world()), Receiver::willing());
        if !fault.is_empty() {
            stage.fault(fault);
        }
        let call = stage.call(words).env("RESPOT_PING_URL", switch.url("/p"));
        let call = variables.iter().fold(call, |call, (name, value)| call.env(name, value));
        call.output().ends_with(*code);
        let told = switch.taken();
        assert_eq!(told.iter().map(|told| told.path.as_str()).collect::<Vec<_>>(), *heard, "{words} {fault}");
        if let Some(end) = told.last() {
            let end = end.json();
            assert!(end["summary"].is_object() || end["error"].is_object() || end["reason"].is_string(), "{end}");
        }
    }
}

#[test]
fn a_pass_that_finds_another_at_work_is_silent() {
    for kind in BOTH {
        let (stage, switch) = (Stage::new(kind, world()), Receiver::willing());
        stage.fault("migrate:delay=3000");
        let running = stage.call("run").spawn();
        stage.until("it migrates", |world| world.calls(novita_sim::Op::Migrate) > 0);
        stage.call("run").env("RESPOT_PING_URL", switch.url("/p")).output().ends_with(0).says(["another pass"]);
        assert!(switch.told().is_empty());
        running.wait().ends_with(0);
    }
}

/// All three at once, and none of them answers.
#[test]
fn who_does_not_answer_costs_less_than_ten_seconds_in_all() {
    let (stage, deaf) = (Stage::new(Kind::Sqlite, world()), Receiver::with(|_, _| Answer::Silence));
    let call = stage.call("run").env("RESPOT_PING_URL", deaf.url("/p"));
    let call = call.env("WEBHOOK_URL", deaf.url("/w")).env("WEBHOOK_SECRET", "secret-of-the-receiver");
    let call = call.env("RESPOT_PUSHGATEWAY_URL", deaf.url(""));
    stage.fault("list:html");
    let began = Instant::now();
    let output = call.output().ends_with(3).says(["setting=RESPOT_PING_URL", "events were not delivered"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(11), "{took:?}");
    assert!(!output.all().contains("secret-of"), "{}", output.all());
}

/// The same figures as a file, at the Pushgateway and by `status`, after every kind of pass.
#[test]
fn metrics_are_replaced_as_one_and_pushed() {
    for kind in BOTH {
        let (stage, gateway) = (Stage::new(kind, world()), Receiver::willing());
        let path = stage.path("respot.prom");
        let without_time = |text: &str| {
            let is_of_now = |line: &&str| !line.contains("timestamp");
            text.lines().filter(is_of_now).map(String::from).collect::<Vec<_>>()
        };
        for (words, fault, code) in [
            ("run", "", 0),
            ("run", "list:html", 3),
            ("check-failed", "", 0),
            ("run --only a1", "migrate:status=400,message=no", 0),
        ] {
            stage.provider.with(World::clear_faults);
            if !fault.is_empty() {
                stage.fault(fault);
            }
            let call = stage.call(words).env("RESPOT_METRICS_FILE", &path);
            call.env("RESPOT_PUSHGATEWAY_URL", gateway.url("/")).output().ends_with(code);
            let written = std::fs::read_to_string(&path).unwrap();
            let pushed = gateway.taken().pop().unwrap();
            assert_eq!((pushed.method.as_str(), pushed.path.as_str()), ("PUT", "/metrics/job/respot"));
            assert_eq!(pushed.body, written);
            let shown = stage.call("status -o prometheus").output().ends_with(0).stdout;
            assert_eq!(without_time(&written), without_time(&shown), "{words} {fault}");
            stage.provider.advance(60_000);
        }
        assert_eq!(gateway.taken().len(), 4);
        assert_eq!(
            stage.files().iter().filter(|file| file.to_string_lossy().contains(".prom")).count(),
            1,
            "no leftovers"
        );
        let output = stage.call("run").env("RESPOT_METRICS_FILE", "/proc/no/such/folder").output().ends_with(0);
        output.says(["setting=RESPOT_METRICS_FILE"]);
        let group = gateway.url("/metrics/job/respot/instance/team-a");
        stage.call("run -q").env("RESPOT_PUSHGATEWAY_URL", group).output().ends_with(0);
        assert_eq!(gateway.taken().pop().unwrap().path, "/metrics/job/respot/instance/team-a");
    }
}

#[test]
fn the_termination_message_is_the_summary_or_the_error() {
    let stage = Stage::new(Kind::Sqlite, world());
    let path = stage.file("termination-log", "longer than anything that will be written there: ".repeat(99));
    let run = |code| {
        stage.call("run -q").env("RESPOT_TERMINATION_MESSAGE_FILE", &path).output().ends_with(code);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.len() < 4096, "Kubernetes keeps no more");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let written = run(0);
    let recorded = stage.status()["lastExecution"].clone();
    assert_eq!(written, recorded);
    assert_eq!(written["summary"]["migratedInstances"], 1);
    stage.fault("list:status=401,message=no");
    assert_eq!(run(3)["error"]["code"], 3);
    // One that cannot be written is no reason to fail.
    stage.provider.with(World::clear_faults);
    let output =
        stage.call("run").env("RESPOT_TERMINATION_MESSAGE_FILE", stage.path("no/folder")).output().ends_with(0);
    let last = output.stderr.lines().last().unwrap();
    assert!(last.contains("Migration job completed"), "the summary is the last line: {}", output.stderr);
    output.says(["setting=RESPOT_TERMINATION_MESSAGE_FILE"]);
}
