//! Passes that are stopped, asked nicely or not: nothing new is begun, nothing is done twice, nothing is forgotten.

use std::thread::sleep;
use std::time::Duration;

use novita_sim::{Op, Outcome, Spec, World};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::harness::{BOTH, Kind, MINUTE, Stage, each, side_by_side};
use crate::successors::{deleted_last, each_has_one, nothing_twice, quick, recorded_before};

fn down(count: usize) -> World {
    let mut world = World::new(61);
    for n in 0..count {
        world.add(Spec::exited(&format!("train-{n}")).id(&format!("i{n:03}")));
    }
    world
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("i{n:03}")).collect()
}

/// What the world, the store and the history say about a pass that did not come to its end.
fn agree(stage: &Stage, document: &serde_json::Value, status: &str) {
    let made = stage.provider.with(|world| world.applied(Op::Migrate));
    assert_eq!(document["status"], status);
    assert_eq!(document["summary"]["migratedInstances"], made);
    let attempts = document["attempts"].as_array().expect("attempts");
    let accepted = attempts.iter().filter(|it| it["outcome"] == "accepted").count();
    assert_eq!(accepted, made);
    let last = &stage.status()["lastExecution"];
    assert_eq!((&last["jobId"], &last["status"]), (&document["jobId"], &status.into()));
    assert!(last["error"].is_string());
    let stamps = stage.dump().keys().filter(|key| key.contains("migration-times:")).count();
    assert_eq!(stamps, made, "what was not begun is not remembered");
    assert_eq!(stage.status()["migrationService"]["status"], "unhealthy");
}

#[test]
fn a_signal_lets_calls_in_flight_end_and_begins_nothing_new() {
    let rows = [(Kind::Sqlite, Signal::TERM), (Kind::Sqlite, Signal::INT), (Kind::Redis, Signal::TERM)];
    side_by_side(&rows, 3, |(kind, signal)| {
        let stage = Stage::new(*kind, down(12));
        stage.fault("migrate:delay=700");
        let run = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "3").spawn();
        stage.until("the second round of calls", |world| world.calls(Op::Migrate) >= 4);
        run.signal(*signal);
        let document = run.wait().ends_with(6).says(["stopping"]).json();
        assert!((4..=6).contains(&stage.migrated().len()), "{:?}", stage.migrated());
        agree(&stage, &document, "interrupted");
        let attempts = document["attempts"].as_array().expect("attempts");
        assert_eq!(attempts.len(), 12, "those not begun are listed, too");
        assert_eq!(stage.stored("lease"), None);
        // The next pass goes on at once.
        stage.provider.with(World::clear_faults);
        stage.pass(0);
        assert_eq!(stage.migrated(), ids(12));
        assert_eq!(stage.status()["statistics"]["totalMigrations"], 12);
    });
}

#[test]
fn a_signal_ends_looking_at_once() {
    for (words, faults) in [
        ("run -o json", ["list:hang", "jobs:delay=1"]),
        ("run -o json", ["jobs:hang", "list:delay=1"]),
        ("run -o json", ["list:status=500", "jobs:delay=1"]),
        ("dry-run -o json", ["list:hang", "jobs:hang"]),
    ] {
        let stage = Stage::new(Kind::Sqlite, down(2));
        for fault in faults {
            stage.fault(fault);
        }
        let run = stage.call(words).spawn();
        stage.until("it looks", |world| world.calls(Op::List) + world.calls(Op::Jobs) >= 2);
        let begun = Instant::now();
        run.signal(Signal::TERM);
        let document = run.wait().ends_with(6).json();
        assert!(begun.elapsed() < Duration::from_secs(2), "{faults:?}");
        assert_eq!(stage.provider.with(|world| world.log().len()), 0);
        if words.starts_with("run") {
            agree(&stage, &document, "interrupted");
        } else {
            assert_eq!(document["error"]["code"], 6);
        }
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    each(&BOTH, |kind| {
        let stage = Stage::new(*kind, down(6));
        stage.fault("migrate:hang,effect");
        let run = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "2").spawn();
        stage.until("two calls hang", |world| world.calls(Op::Migrate) == 2);
        run.signal(Signal::TERM);
        sleep(Duration::from_millis(700));
        let begun = Instant::now();
        run.signal(Signal::INT);
        let output = run.wait().ends_with(6).says(["second signal"]);
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(output.json()["error"]["code"], 6);
        // What was open is settled later, from what is seen.
        stage.provider.with(World::clear_faults);
        stage.call("run").output().ends_with(0).says(["another pass is running"]);
        stage.end_lease();
        stage.provider.advance(5 * MINUTE);
        stage.pass(0);
        assert_eq!(stage.migrated(), ids(6));
        let history = stage.history();
        assert_eq!(history["executions"][1]["status"], "interrupted");
        assert_eq!(stage.status()["statistics"]["totalMigrations"], 6);
    });
}

#[test]
fn a_signal_leaves_recreations_to_the_next_pass() {
    // What is slow, and how many calls of which kind are made when the signal comes.
    let moments = [("create:delay=700", Op::Create), ("delete:delay=700", Op::Delete), ("list:delay=1", Op::Create)];
    let rows: Vec<_> = BOTH.iter().flat_map(|kind| moments.map(|moment| (*kind, moment))).collect();
    side_by_side(&rows, 6, |(kind, (slow, op))| {
        let mut world = quick(62);
        let names = ["stuck-0", "stuck-1", "stuck-2"].map(ToOwned::to_owned);
        for name in &names {
            world.add(Spec::stuck(name, 600_000));
        }
        if slow.starts_with("list") {
            // It waits for replacements when the signal comes.
            world.rules_mut().create_step_ms = 60_000;
        }
        let stage = Stage::new(*kind, world);
        stage.fault(slow);
        let call = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "1");
        let run = call.env("MIGRATION_RECREATE_WAIT_MS", "1000").spawn();
        stage.until("the call", |world| world.calls(*op) > 0);
        sleep(Duration::from_millis(100));
        run.signal(Signal::TERM);
        let document = run.wait().ends_with(6).says(["stopping"]).json();
        assert_eq!(document["status"], "interrupted");
        let made = stage.provider.with(|world| world.applied(*op));
        assert!(made == 1 || slow.starts_with("list"), "{made}: nothing new was begun");
        assert_eq!(stage.stored("lease"), None);
        let journal = recorded_before(&stage);
        let unheard = journal.iter().filter(|it| it["step"] == "intent").count();
        assert_eq!(unheard, 0, "the calls in flight ended, and what came of them is known");
        stage.provider.with(World::clear_faults);
        stage.provider.with(|world| world.rules_mut().create_step_ms = 30);
        for _ in 0..2 {
            stage.provider.advance(4 * MINUTE);
            stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "400").output().ends_with(0);
        }
        stage.provider.with(|world| {
            each_has_one(world, &names);
            nothing_twice(world);
            deleted_last(world);
        });
    });
}

/// Kills the program at any moment, as a power cut or the kernel would, and looks whether later passes put it right.
#[test]
fn a_pass_killed_at_any_moment_is_put_right_by_the_next() {
    const ROUNDS: u64 = 15;
    let rows: Vec<(Kind, u64)> = BOTH.iter().flat_map(|kind| (0..ROUNDS).map(|round| (*kind, round))).collect();
    each(&rows, |(kind, round)| {
        let mut rng = fastrand::Rng::with_seed(1000 + round);
        let stage = Stage::new(*kind, down(8));
        stage.fault("any:delay=15");
        // Some calls are stuck on their way and take effect after the death of the sender.
        stage.fault(&format!("migrate%30:late={}*3", rng.u32(100..20_000)));
        let mut killed = 0;
        for _ in 0..3 {
            let run = stage.call("run -q").env("MIGRATION_MAX_CONCURRENT", "3").spawn();
            sleep(Duration::from_millis(rng.u64(5..260)));
            run.signal(Signal::KILL);
            killed += usize::from(run.wait().code() == 128 + 9);
            stage.end_lease();
            stage.provider.advance(rng.u64(0..2) * MINUTE);
        }
        // Whether the last one came so far as to say that it is there.
        let open = stage.stored("open-execution");
        stage.provider.with(World::clear_faults);
        for _ in 0..3 {
            stage.call("run -q").output();
            stage.provider.advance(4 * MINUTE);
        }
        assert_eq!(stage.migrated(), ids(8), "each exactly once");
        let twice = stage.provider.with(|world| {
            world.log().iter().filter(|it| it.op == Op::Migrate && matches!(it.outcome, Outcome::Refused(..))).count()
        });
        assert_eq!(twice, 0, "none was even asked for while it was under way");
        let status = stage.status();
        assert_eq!(status["inFlight"]["migrations"], 0);
        assert_eq!(status["statistics"]["totalMigrations"], 8);
        assert_eq!(status["lastExecution"]["status"], "completed");
        let history = stage.history();
        let executions = history["executions"].as_array().expect("executions");
        let interrupted = executions.iter().filter(|it| it["status"] == "interrupted").count();
        assert!(interrupted <= killed, "{interrupted} of {killed}");
        if let Some(open) = open {
            let its = executions.iter().find(|it| it["jobId"] == open.as_str()).expect("its record");
            assert_eq!(its["status"], "interrupted");
        }
        assert!(executions.iter().all(|it| it["status"] != "running"));
    });
}
