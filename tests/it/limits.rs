//! Waits of the program at their full length. These take up to a minute and do next to nothing, so they run side by
//! side; they are many rows of one test, since the test runner would give each of them a thread of the few it has.

use std::time::Duration;

use novita_sim::{Op, Options, Server, Spec, World};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::harness::{Kind, MINUTE, Stage, side_by_side};

fn down(count: usize) -> World {
    let mut world = World::new(71);
    for n in 0..count {
        world.add(Spec::exited(&format!("train-{n}")).id(&format!("i{n:03}")));
    }
    world
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("i{n:03}")).collect()
}

/// A wait, the seconds within which it ends, and how it goes.
type Wait = (&'static str, std::ops::Range<u64>, fn());

/// Takes about 65 s, the length of the shortest deadline that may be set.
#[test]
fn every_wait_has_its_end() {
    let waits: &[Wait] = &[
        ("the deadline of a pass", 60..75, the_deadline),
        ("nobody at the provider's address", 20..40, || gives_up("", "network")),
        ("a provider that never answers", 20..45, || gives_up("list:hang", "timeout")),
        ("a provider that is down", 20..40, || gives_up("list:status=503", "api")),
        ("a provider that cuts every connection", 20..40, || gives_up("any:cut-before", "network")),
        ("half an answer, always", 20..40, || gives_up("list:truncated", "network")),
        ("a provider that asks to come back much later", 0..35, || {
            gives_up("list:status=429,retry-after=3600", "rate_limit");
        }),
        ("a provider that always has too much to do", 20..40, || gives_up("list:status=429", "rate_limit")),
        ("a migration that is never answered and has no effect", 30..50, || never_answered("migrate/i001:hang*1", 0)),
        ("a migration that is never answered and has its effect", 30..50, || {
            never_answered("migrate/i001:hang,effect*1", 1);
        }),
        ("the lease of a dead pass, in a file", 25..45, || the_lease_of_the_dead(Kind::Sqlite)),
        ("the lease of a dead pass, on a server", 25..45, || the_lease_of_the_dead(Kind::Redis)),
        ("a lease that is renewed", 30..60, || the_lease_is_renewed(Kind::Redis)),
        ("a lease that is renewed, in a file", 30..60, || the_lease_is_renewed(Kind::Sqlite)),
        ("a frozen Redis server", 4..30, a_frozen_server),
    ];
    side_by_side(waits, waits.len(), |(_, seconds, wait)| {
        let begun = Instant::now();
        wait();
        let took = begun.elapsed().as_secs();
        assert!(seconds.contains(&took), "it took {took} s");
    });
}

fn the_deadline() {
    let stage = Stage::new(Kind::Sqlite, down(8));
    stage.fault("migrate:delay=13000");
    let call = stage.call("run -o json").env("MIGRATION_JOB_TIMEOUT_MS", "60000").env("MIGRATION_MAX_CONCURRENT", "1");
    let document = call.limit(80).output().ends_with(6).json();
    assert_eq!(document["status"], "timeout");
    assert_eq!(document["summary"]["migratedInstances"], 5, "the fifth was in flight");
    assert_eq!(stage.migrated().len(), 5);
    assert_eq!(document["attempts"].as_array().map(Vec::len), Some(8));
    let status = stage.status();
    assert_eq!(status["lastExecution"]["status"], "timeout");
    assert_eq!(status["migrationService"]["status"], "unhealthy");
    stage.provider.with(World::clear_faults);
    stage.pass(0);
    assert_eq!(stage.migrated(), ids(8));
}

/// Without a fault there is nobody to talk to.
fn gives_up(fault: &str, kind: &str) {
    let stage = Stage::new(Kind::Sqlite, down(2));
    let call = if fault.is_empty() {
        let gone = Server::start(World::new(1), Options::default()).expect("a server");
        let url = gone.url();
        gone.stop();
        stage.call("run -o json").env("NOVITA_API_BASE_URL", url)
    } else {
        stage.fault(fault);
        stage.call("run -o json")
    };
    let output = call.limit(60).output().ends_with(3).says(["given up after", "GET /v1/", "hint: "]);
    let error = &output.json()["error"];
    assert_eq!((&error["code"], &error["kind"]), (&3.into(), &kind.into()));
    assert_eq!(stage.provider.with(|world| world.log().len()), 0);
    assert_eq!(stage.status()["lastExecution"]["status"], "failed");
}

fn never_answered(fault: &str, accepted: usize) {
    let stage = Stage::new(Kind::Sqlite, down(3));
    stage.fault(fault);
    let document = stage.call("run -o json").limit(60).output().ends_with(1 - i32::from(accepted == 1)).json();
    let outcome = if accepted == 1 { "accepted" } else { "unknown" };
    assert_eq!(
        document["attempts"].as_array().expect("a").iter().filter(|it| it["outcome"] == outcome).count(),
        1 + 2 * accepted
    );
    assert_eq!(stage.accepted(&["i000", "i001", "i002"]), [1, accepted, 1]);
    stage.provider.advance(MINUTE);
    stage.pass(0);
    assert_eq!(stage.accepted(&["i000", "i001", "i002"]), [1, accepted, 1]);
    stage.provider.advance(4 * MINUTE);
    stage.pass(0);
    assert_eq!(stage.migrated(), ids(3));
}

fn the_lease_of_the_dead(kind: Kind) {
    let stage = Stage::new(kind, down(2));
    stage.fault("migrate:delay=9000");
    let run = stage.call("run -q").spawn();
    stage.until("it is at work", |world| world.calls(Op::Migrate) > 0);
    let begun = Instant::now();
    run.signal(Signal::KILL);
    run.wait();
    stage.provider.with(World::clear_faults);
    loop {
        let document = stage.pass(0);
        if document["reason"] != "another_pass_running" {
            break;
        }
        // Later the lease may end between the two calls.
        if begun.elapsed() < Duration::from_secs(20) {
            assert_eq!(stage.status()["lastExecution"]["status"], "running", "nobody can know yet");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(begun.elapsed() < Duration::from_secs(35), "{:?}", begun.elapsed());
    assert_eq!(stage.history()["executions"][1]["status"], "interrupted");
    stage.provider.advance(5 * MINUTE);
    stage.pass(0);
    assert_eq!(stage.migrated(), ids(2));
}

/// A pass longer than a lease lives keeps others out all the time.
fn the_lease_is_renewed(kind: Kind) {
    let stage = Stage::new(kind, down(3));
    stage.fault("migrate:delay=13000");
    let run = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "1").limit(60).spawn();
    stage.until("it is at work", |world| world.calls(Op::Migrate) > 0);
    for _ in 0..17 {
        assert_eq!(stage.pass(0)["reason"], "another_pass_running");
        std::thread::sleep(Duration::from_secs(2));
    }
    assert_eq!(run.wait().ends_with(0).json()["summary"]["migratedInstances"], 3);
    assert_eq!(stage.migrated(), ids(3));
}

fn a_frozen_server() {
    let stage = Stage::new(Kind::Redis, down(2));
    stage.pass(0);
    let redis = stage.redis.as_ref().expect("a server");
    redis.freeze();
    side_by_side(&["run", "dry-run", "status", "history"], 4, |words| {
        stage.call(words).output().ends_with(4).says(["cannot reach the store"]);
    });
    redis.thaw();
    stage.pass(0);
    assert_eq!(stage.migrated(), ids(2));
}
