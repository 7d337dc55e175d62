//! `replay` against the program itself: the same trace, minute by minute on the simulated provider.

use std::path::Path;

use novita_sim::{AfterReclaim, Cluster, DAWN_MS, Product, Room, Spec, World};
use serde_json::{Value, json};

use crate::harness::{BOTH, Kind, MINUTE, Output, Stage};

const PRODUCT: &str = "v100_1";

/// How long the trace lasts that both play, in ticks of 195 s: 26 hours.
const TICKS: u64 = 480;

const QUARTERS: u64 = TICKS * 195 / 900;

/// The begin of a public trace in which every zone loses its room at some time.
fn trace() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/traces/availability-1-node-aws-02-15-2023.json");
    let mut trace: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for runs in trace["zones"].as_object_mut().unwrap().values_mut() {
        let mut left = TICKS;
        runs.as_array_mut().unwrap().retain_mut(|run| {
            let ticks = run[1].as_u64().unwrap().min(left);
            left -= ticks;
            run[1] = ticks.into();
            ticks > 0
        });
    }
    trace
}

/// The same on the simulated provider: one instance in each zone.
fn world(trace: &Value) -> World {
    let mut world = World::new(1);
    while let Some(id) = world.products().first().map(|product| product.id.clone()) {
        world.withdraw_product(&id);
    }
    let zones = trace["zones"].as_object().unwrap();
    let cluster = |zone: &String| zone.strip_suffix(&format!("_{PRODUCT}")).unwrap().to_owned();
    world.add_product(Product {
        id: PRODUCT.into(),
        name: "V100".into(),
        cpu_per_gpu: 8,
        memory_per_gpu: 61,
        max_rootfs: 200,
        clusters: zones.keys().map(cluster).collect(),
        price: 200_000,
        spot_price: Some(100_000),
        stock: u32::MAX,
        sold_out_in: Vec::new(),
        spot_sold_out: false,
        hint_lies: true,
    });
    world.rules_mut().boots_in(120_000);
    world.rules_mut().after_reclaim = AfterReclaim::Kept;
    for (number, (zone, runs)) in zones.iter().enumerate() {
        let id = cluster(zone);
        world.add_cluster(Cluster { id: id.clone(), name: id.to_uppercase(), network_storage: true });
        world.add(Spec::running(&format!("m{number}")).cluster(&id).product(PRODUCT, 1));
        let mut at = DAWN_MS;
        for run in runs.as_array().unwrap() {
            let room = if run[0] == 0 { Room::NONE } else { Room::Any };
            match at {
                DAWN_MS => world.set_room(PRODUCT, &id, room),
                at => world.set_room_at(at, PRODUCT, &id, room),
            }
            at += 195_000 * run[1].as_i64().unwrap();
        }
    }
    world
}

fn share(figures: &Value) -> f64 {
    figures["availability"].as_f64().unwrap_or_else(|| panic!("no availability: {figures:#}"))
}

fn near(a: f64, b: f64, by: f64, what: &Value) {
    assert!((a - b).abs() <= by, "{a} and {b}: {what:#}");
}

fn replay(stage: &Stage, words: &str) -> Output {
    // The world stands still while a pass waits.
    stage.call("replay").arg("-ojson").env("MIGRATION_RECREATE_WAIT_MS", "0").args(words).output()
}

#[test]
fn a_replay_agrees_with_the_program_on_the_same_market() {
    for kind in BOTH {
        let trace = trace();
        let stage = Stage::new(kind, world(&trace));
        let file = stage.file("trace.json", trace.to_string());
        for quarter in 0..=QUARTERS {
            let code = stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "0").output().code();
            assert!(code < 2, "quarter {quarter}: {code}");
            stage.provider.advance(15 * MINUTE * u64::from(quarter < QUARTERS));
        }
        let report = stage.call("report -o json").output().ends_with(0).json();
        assert!(share(&report) < 0.97 && report["reclaims"].as_u64() > Some(10), "a hard market: {report:#}");

        let before = stage.dump();
        let played = replay(&stage, &format!("--trace {}", file.display())).ends_with(0).json();
        near(share(&played["is"]), share(&report), 0.01, &json!([played, report]));
        let recoveries = |of: &Value| of["recoveries"]["count"].as_f64().unwrap();
        near(recoveries(&played["is"]), recoveries(&report), 4.0, &json!([played, report]));
        let again = replay(&stage, &format!("--trace {}", file.display())).ends_with(0).json();
        assert_eq!(again, played, "the same each time");
        assert_eq!(played["wouldBe"], played["is"], "nothing is changed");
        assert!(share(&played["is"]) < played["bestPossible"].as_f64().unwrap(), "{played:#}");

        // What the passes saw is a part of the market, and says which.
        let from_history = replay(&stage, "--from-history --set MIGRATION_INTERVAL_MINUTES=60").ends_with(0).json();
        assert_eq!(share(&from_history["recorded"]), share(&report));
        near(share(&from_history["is"]), share(&report), 0.02, &from_history);
        assert!(share(&from_history["wouldBe"]) < share(&from_history["is"]) - 0.02, "{from_history:#}");
        let known = from_history["known"].as_f64().unwrap();
        assert!(0.3 < known && known < 1.0, "{known}");
        assert_eq!(stage.dump(), before, "nothing is written");
    }
}

/// A history under the settings that made it comes out as it was: each migration was accepted at once, and instances with
/// several GPUs cost what they cost.
#[test]
fn a_history_under_its_own_settings_is_what_was_recorded() {
    let mut world = World::new(5);
    world.rules_mut().after_reclaim = AfterReclaim::Kept;
    for (number, gpus) in [1, 1, 4, 8].into_iter().enumerate() {
        world.add(Spec::running(&format!("m{number}")).id(&format!("m{number}")).product("4090.16c62g", gpus));
    }
    let stage = Stage::new(Kind::Sqlite, world);
    for pass in 0..120_u64 {
        assert!(stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "0").output().code() < 2);
        stage.provider.advance((pass % 14 + 1) * MINUTE);
        if pass % 6 == 3 {
            // Three of the four, in turn.
            let id = format!("m{}", pass / 6 % 3 + 1);
            stage.provider.with(|world| world.reclaim_now(&id));
        }
        stage.provider.advance((14 - pass % 14) * MINUTE);
    }
    let played = replay(&stage, "--from-history").ends_with(0).json();
    let (is, recorded) = (&played["is"], &played["recorded"]);
    near(share(is), share(recorded), 0.01, &played);
    assert_eq!(
        (&recorded["lostHours"]["noRoom"], &is["lostHours"]["noRoom"]),
        (&json!(0.0), &json!(0.0)),
        "{played:#}"
    );
    let cost = |of: &Value| of["savings"]["cost"].as_f64().unwrap_or_else(|| panic!("no cost: {played:#}"));
    assert!((cost(is) / cost(recorded) - 1.0).abs() < 0.1, "{played:#}");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let trace = stage.file("trace.json", r#"{"gap_seconds": 600, "zones": {"a_x": [[1, 6], [0, 3], [1, 30]]}}"#);
    let trace = format!("--trace {}", trace.display());
    stage.file("broken.json", "{");
    for (words, why) in [
        ("", "--from-history|--trace <FILE>"),
        ("--from-history --trace x", "cannot be used with"),
        ("--from-history", "no downtime is stored"),
        ("--trace none.json", "cannot read the trace none.json"),
        ("--trace broken.json", "broken.json is not a trace: EOF"),
        (&format!("{trace} --set MIGRATION_INTERVAL_MINUTE=5"), "did you mean MIGRATION_INTERVAL_MINUTES?"),
        (&format!("{trace} --set MIGRATION_INTERVAL_MINUTES"), "expected SETTING=VALUE"),
        (
            &format!("{trace} --set MIGRATION_INTERVAL_MINUTES=x"),
            "invalid value \"x\" for MIGRATION_INTERVAL_MINUTES (from --set)",
        ),
    ] {
        let refused = replay(&stage, words).ends_with(2);
        assert!(refused.stderr.contains(why), "{words}: {}", refused.stderr);
    }
    // What may be a secret is not repeated.
    let idle = replay(&stage, &format!("{trace} --set NOVITA_API_KEY=sk_x9 --set MIGRATION_LOG_LEVEL=debug"));
    assert!(!idle.all().contains("sk_x9"), "{idle:?}");
    let idle = idle.ends_with(0).json();
    assert_eq!(idle["withoutEffect"], json!(["NOVITA_API_KEY", "MIGRATION_LOG_LEVEL"]));
    // Announced an hour ahead, it has nowhere to go; the outage of half an hour is all there is.
    let told = replay(&stage, &format!("{trace} --notice 1h --set RESPOT_NOTICE=true")).ends_with(0).json();
    assert_eq!((&told["is"]["reclaims"], &told["wouldBe"]["reclaims"]), (&json!(1), &json!(1)), "{told:#}");
    let screen = stage.call("replay --set MIGRATION_INTERVAL_MINUTES=5").args(&trace).screen(80);
    for words in ["FIGURE", "AS SET", "WITH --SET", "up ", "At best 92.31 %", "1 USD an hour as spot"] {
        assert!(screen.contains(words), "{words}: {screen}");
    }
    assert!(stage.files().iter().all(|it| *it != stage.state_file()), "no store is made");
}
