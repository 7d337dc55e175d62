//! Rollouts under `kill -9` at random moments, signals, and others at work at the same time, with real stores, over HTTP:
//! nobody is ever without a running instance, and nothing is made twice.
//!
//! Another seed: `KILL_SEED=17 cargo test --test it rollout_kills -- --nocapture`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use novita_sim::{Op, Outcome, World};
use respot::core::world::time::Timestamp;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{BOTH, Kind, MINUTE, Stage, side_by_side};
use crate::rollout_program::{call, good, is_over, living as billed, next, slow, stage, told, until};
use crate::successors::{base, deleted_last, each_has_one, living, nothing_twice, story};

/// Rounds for each store, and kills in each.
const ROUNDS: u64 = 8;
const KILLS: usize = 5;

/// What all rounds together did; printed, so that nobody takes a quiet test for a good one.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    creates: usize,
    deletes: usize,
    /// Where rollouts were when they were killed, and how they ended.
    states: BTreeMap<String, usize>,
}

#[expect(clippy::disallowed_methods, reason = "a test may be told its seed")]
fn first_seed() -> u64 {
    std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

#[test]
#[expect(clippy::disallowed_macros, reason = "says how much was done")]
fn whenever_it_is_killed_everybody_has_an_instance() {
    let first = first_seed();
    let rounds: Vec<(Kind, u64)> = (0..ROUNDS).flat_map(|n| BOTH.map(|kind| (kind, first + n))).collect();
    let (tally, begun) = (Mutex::new(Tally::default()), Instant::now());
    side_by_side(&rounds, 8, |(kind, seed)| one_round(*kind, *seed, &tally));
    let tally = tally.into_inner().expect("no panic");
    println!("seed {first}, {} rounds in {:.0?}: {tally:?}", rounds.len(), begun.elapsed());
    assert!(tally.kills == 80 && tally.creates >= 20 && tally.deletes >= 20, "too quiet: {tally:?}");
}

fn one_round(kind: Kind, seed: u64, tally: &Mutex<Tally>) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let count = chance.usize(2..5);
    let goes_back = chance.u8(0..3) == 0;
    let app = if goes_back { slow() } else { good() };
    let stage = stage(kind, count, &app);
    stage.provider.with(|world| {
        let rules = world.rules_mut();
        rules.create_step_ms = chance.i64(10..200);
        rules.action_step_ms = chance.i64(10..200);
        rules.visible_after_ms = chance.i64(0..200);
        rules.stale_rows = chance.bool();
    });
    let names: Vec<String> = (0..count).map(|n| format!("web-{n}")).collect();
    // It has begun before anybody is killed, so that there is something to kill.
    next(&stage);
    for _ in 0..KILLS {
        trouble(&stage, &mut chance);
        // Some steps in peace, so that kills come everywhere.
        for _ in 0..chance.usize(0..2) {
            next(&stage);
        }
        kill_one(&stage, &mut chance);
        recorded(&stage, &names);
        let state = told(&stage, "status", 0)["rollout"]["state"].as_str().unwrap_or("none").to_owned();
        *tally.lock().expect("no panic").states.entry(state).or_default() += 1;
        tally.lock().expect("no panic").kills += 1;
        stage.provider.with(|world| check(world, &names));
        stage.end_lease();
        stage.provider.advance(chance.u64(0..400_000));
        if chance.u8(0..3) == 0 {
            stage.call("run -q").output();
        }
    }
    stage.provider.with(World::clear_faults);
    let last = until(&stage, |it| !it.is_null() && is_over(it));
    stage.provider.with(|world| {
        each_has_one(world, &names);
        nothing_twice(world);
        deleted_last(world);
    });
    let end = last["rollout"]["state"].as_str().unwrap();
    let expected = match end {
        "completed" => (0, count),
        _ => (count, 0),
    };
    let of_members = || last["members"].as_array().unwrap().iter().map(|it| (&it["name"], &it["state"], &it["note"]));
    let failed = of_members().filter(|it| it.1 == "failed").count();
    assert!(
        billed(&stage) == expected || failed > 0 && end == "completed",
        "{end}: {:?}",
        of_members().collect::<Vec<_>>()
    );
    assert_ne!(end, "failed", "{last}");
    let log = stage.provider.with(|world| world.log().len());
    next(&stage);
    stage.call("run -q").output().ends_with(0);
    assert_eq!(stage.provider.with(|world| world.log().len()), log, "all is done");
    let mut tally = tally.lock().expect("no panic");
    tally.creates += stage.provider.with(|world| world.applied(Op::Create));
    tally.deletes += stage.provider.with(|world| world.applied(Op::Delete));
    *tally.states.entry(end.into()).or_default() += 1;
}

/// Answers take time, and some get lost.
fn trouble(stage: &Stage, chance: &mut fastrand::Rng) {
    stage.provider.with(World::clear_faults);
    stage.fault(&format!("any:delay={}", chance.u32(1..20)));
    let rules =
        ["create%40:cut-after*2", "delete%40:cut-after*2", "create%30:cut-before*1", "create%50:status=503,effect*1"];
    if let Some(rule) = rules.get(chance.usize(0..6)) {
        stage.fault(rule);
    }
    let slow = ["create", "delete", "get", "list"][chance.usize(0..4)];
    stage.fault(&format!("{slow}:delay={}", chance.u32(1..150)));
}

/// The last that was made in anybody's place was written down before. The journal of an earlier rollout gives way to that
/// of the next one.
fn recorded(stage: &Stage, names: &[String]) {
    let (log, dump) = (stage.provider.with(|world| world.log().to_vec()), stage.dump());
    let journal = dump.iter().filter(|(key, _)| key.contains("recreations["));
    let journal: Vec<Value> = journal.map(|(_, text)| serde_json::from_str(text).expect("JSON")).collect();
    let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
    for name in names {
        let made =
            log.iter().rfind(|it| it.op == Op::Create && it.outcome == Outcome::Applied && base(&it.name) == name);
        let Some(made) = made else { continue };
        let is_its = |entry: &Value| {
            let opened_at: Timestamp = text(entry, "openedAt").parse().expect("a time");
            let marker = text(entry, "marker");
            marker == made.name || base(&marker) == name && opened_at.as_millis() > made.at_ms
        };
        assert!(journal.iter().any(is_its), "{made:?} is not in {journal:#?}");
    }
}

/// Begins calls until one is killed: some time after its beginning, or just after a request of some kind.
fn kill_one(stage: &Stage, chance: &mut fastrand::Rng) {
    let mut longest = 1500;
    loop {
        let words = if chance.u8(0..40) == 0 { "abort" } else { "--yes --new" };
        let op = [None, None, Some(Op::Create), Some(Op::Delete), Some(Op::Get)];
        let op = op[chance.usize(0..op.len())].filter(|_| longest > 800);
        let calls = || op.map(|op| stage.provider.with(|world| world.calls(op)));
        let (before, begun) = (calls(), Instant::now());
        let run = call(stage, words).spawn();
        let limit = Duration::from_millis(if op.is_some() { longest } else { chance.u64(0..=longest) });
        while begun.elapsed() < limit && (op.is_none() || calls() == before) {
            sleep(Duration::from_millis(1));
        }
        if op.is_some() {
            sleep(Duration::from_micros(chance.u64(0..40_000)));
        }
        run.signal(Signal::KILL);
        match run.wait().code() {
            137 => return,
            0 | 1 => longest /= 2,
            code => panic!("it ended with {code}"),
        }
        stage.end_lease();
        stage.provider.advance(chance.u64(0..7) * MINUTE);
    }
}

/// At any moment: one that runs, and never more than two.
fn check(world: &World, names: &[String]) {
    for name in names {
        let alive = living(world, name);
        let runs = alive.iter().filter(|it| it.status == "running").count();
        assert!(runs >= 1 && alive.len() <= 2, "{name}: {}", story(world, name));
        assert!(alive.iter().all(|it| base(&it.name) == name));
    }
}

/// SIGTERM: what was begun is recorded, and the next call goes on.
#[test]
fn a_signal_is_an_end_that_is_recorded() {
    side_by_side(&BOTH, 2, |kind| {
        // While it looks, while it measures, while it makes an instance.
        for (at, fault, op) in
            [(0, "list:delay=2000", Op::List), (0, "create:delay=1000", Op::Create), (2, "get:delay=400", Op::Get)]
        {
            let stage = stage(*kind, 2, &good());
            next(&stage);
            for _ in 0..at {
                next(&stage);
            }
            stage.fault(fault);
            let before = stage.provider.with(|world| world.calls(op));
            let run = call(&stage, "--yes -o json").spawn();
            stage.until("it is at work", |world| world.calls(op) > before);
            run.signal(Signal::TERM);
            let output = run.wait().ends_with(6);
            assert_eq!((&output.json()["error"]["code"], stage.stored("lease")), (&6.into(), None), "{fault}");
            let steps: Vec<String> = stage
                .dump()
                .into_iter()
                .filter(|(key, _)| key.contains("rollout-steps["))
                .map(|(_, text)| text)
                .collect();
            assert_eq!(steps.iter().filter(|it| it.contains("\"interrupted\"")).count(), 1, "{fault}: {steps:?}");
            stage.provider.with(World::clear_faults);
            assert_eq!(until(&stage, is_over)["rollout"]["state"], "completed");
            assert_eq!(billed(&stage), (0, 2));
            stage.provider.with(|world| nothing_twice(world));
        }
    });
}

/// Two calls at once, and a pass beside one: whoever comes second says so and does nothing.
#[test]
fn one_at_a_time() {
    side_by_side(&BOTH, 2, |kind| {
        let stage = stage(*kind, 2, &good());
        // Both want to begin one.
        stage.fault("get:delay=300");
        let calls = [(), ()].map(|()| call(&stage, "--yes -o json").spawn());
        let said: Vec<_> = calls.map(|it| it.wait().ends_with(0).json()).into();
        let of = |text: &str| said.iter().filter(|it| it["message"].as_str().unwrap().contains(text)).count();
        assert_eq!(of("started with 2"), 1, "{said:?}");
        assert_eq!(of("another pass is running") + of("another call has started a rollout"), 1, "{said:?}");
        stage.provider.with(World::clear_faults);
        stage.provider.advance(MINUTE);
        // Both want to go on; and a pass.
        stage.fault("list:delay=500");
        let mut calls: Vec<_> = (0..2).map(|_| call(&stage, "--yes -o json").spawn()).collect();
        calls.push(stage.call("run -o json").spawn());
        let said: Vec<String> = calls.into_iter().map(|it| it.wait().ends_with(0).stdout).collect();
        let others = said
            .iter()
            .filter(|it| it.contains("another pass is running") || it.contains("another_pass_is_running"))
            .count();
        assert_eq!(others, 2, "{said:?}");
        // A word waits until it is heard.
        let run = stage.call("run -q").spawn();
        sleep(Duration::from_millis(200));
        let paused = told(&stage, "pause", 0);
        assert!(paused["rollout"]["pausedAt"].is_string(), "{paused}");
        run.wait().ends_with(0);
        told(&stage, "resume", 0);
        stage.provider.with(World::clear_faults);
        assert_eq!(until(&stage, is_over)["rollout"]["state"], "completed");
        stage.provider.with(|world| nothing_twice(world));
    });
}
