//! `report --invoice` against the provider's own books: what its instances really cost, by the times they ran.

use novita_sim::{AfterReclaim, Spec, World};
use serde_json::{Value, json};

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage};

const PRODUCT: &str = "4090.16c62g";
const HALF: u64 = 30 * MINUTE;

/// The midnight that the day before the last one begins with: 2026-01-15T00:00:00Z.
const MIDNIGHT: i64 = 1_768_435_200_000;

fn usd(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no amount: {value}"))
}

fn near(a: f64, b: f64, by: f64, what: &str, report: &Value) {
    assert!((a - b).abs() <= by, "{what}: {a} is not {b}: {report:#}");
}

/// 30 hours of four spot instances, of which one has two GPUs, and of one on demand that is not managed. One goes
/// elsewhere, and prices change in between.
fn stage(kind: Kind, decimals: bool) -> Stage {
    let mut world = World::new(17);
    world.rules_mut().after_reclaim = AfterReclaim::Kept;
    world.rules_mut().create_step_ms = 0;
    world.rules_mut().wire.bill_decimals = decimals;
    for (id, gpus) in [("a", 1), ("b", 2), ("c", 1), ("d", 1)] {
        world.add(Spec::running(&format!("train-{id}")).id(id).product(PRODUCT, gpus));
    }
    world.add(Spec::running("web").id("web").product(PRODUCT, 1).billing("onDemand"));
    let stage = Stage::new(kind, world);
    for pass in 0..60 {
        match pass {
            10 => {
                stage.fault("migrate:status=400,reason=INSUFFICIENT_RESOURCE*9");
                stage.provider.with(|world| assert!(world.reclaim_now("a")));
            }
            // What runs keeps its price, and what would start now costs more.
            30 => stage.provider.with(|world| assert!(world.set_price(PRODUCT, 80_000, Some(40_000)))),
            40 => stage.provider.with(|world| assert!(world.reclaim_now("c"))),
            _ => {}
        }
        assert!(stage.call("run -q").output().code() < 2);
        stage.provider.advance(HALF);
    }
    assert!(stage.call("run -q").output().code() < 2);
    stage
}

#[test]
fn a_bill_is_set_against_the_time_that_passes_saw() {
    for (kind, decimals) in BOTH.into_iter().zip([true, false]) {
        let stage = stage(kind, decimals);
        let now = stage.provider.with(|world| world.now_ms());
        let call = |words: &str| stage.call(words).now(Some(now)).output();
        let report = call("report --invoice --since 1d -o json").ends_with(0).json();
        let savings = &report["savings"];

        // Billed are the hours that ended an hour ago or earlier.
        let hour = i64::try_from(HOUR).unwrap();
        let billed_to = (now - hour).div_euclid(hour) * hour;
        let cost = |world: &World, is_managed: bool| {
            let its = world.ever().filter(|it| (it.id != "web") == is_managed);
            its.map(|it| world.cost_micros(&it.id, MIDNIGHT, billed_to)).sum::<i64>() as f64 / 1e6
        };
        let ran = |world: &World, from: i64, to: i64| {
            let its = world.ever().filter(|it| it.id != "web").flat_map(|it| world.runs_of(&it.id));
            let within = its.map(|run| (run.to_ms.unwrap_or(now).min(to) - run.from_ms.max(from)).max(0));
            within.sum::<i64>() as f64 / 3_600_000.0
        };
        // Before the first pass, nothing tells that they were ours to watch; that time is billed all the same.
        let [managed, other] = [true, false].map(|ours| stage.provider.with(|world| cost(world, ours)));
        // Whole numbers are rounded down, row by row.
        let lost = if decimals { 0.006 } else { 0.02 };
        near(usd(&savings["billed"]), managed, lost, "billed", &report);
        let not_seen = usd(&report["invoice"]["differences"]["notSeenRunning"]);
        near(usd(&savings["cost"]), managed - not_seen, 0.02, "all prices are known", &report);
        let before = stage.provider.with(|world| {
            let its = world.ever().filter(|it| it.id != "web");
            its.map(|it| world.cost_micros(&it.id, MIDNIGHT, now - 30 * hour)).sum::<i64>() as f64 / 1e6
        });
        // Less what the first and the last row of the day may be about: two hours of five GPUs.
        near(not_seen, before - 1.7, 1.8, "billed before the first pass", &report);
        near(usd(&report["invoice"]["otherInstances"]), other, lost, "others", &report);
        let unbilled = stage.provider.with(|world| ran(world, billed_to, now));
        near(usd(&report["invoice"]["notBilledHours"]), unbilled, 0.6, "not billed yet", &report);

        let differences = report["invoice"]["differences"].as_object().unwrap();
        let sum = differences.values().map(usd).sum::<f64>() + usd(&report["invoice"]["estimated"]);
        near(sum, usd(&savings["billed"]), 0.03, "the differences add up", &report);
        // Of the 40000 that spot costs since the 30th pass, what runs pays 33500.
        let price = usd(&differences["price"]);
        near(price + not_seen - before, -1.8, 0.6, "another price", &report);

        // Only time that passes saw counts: none before the first. That they learn of another price takes some time.
        let (began, raised) = (now - 30 * hour, now - 15 * hour);
        let worth = stage.provider.with(|world| {
            let mut worth = 0.0;
            for machine in world.ever().filter(|it| it.id != "web") {
                let listed = world.products().iter().find(|it| it.id == machine.product_id).unwrap().price;
                let prices = [
                    (began, raised, if machine.product_id == PRODUCT { 67_000 } else { listed }),
                    (raised, billed_to, listed),
                ];
                for run in world.runs_of(&machine.id) {
                    for (from, to, price) in prices {
                        let ran = (run.to_ms.unwrap_or(now).min(to) - run.from_ms.max(from)).max(0);
                        worth += ran as f64 / 3_600_000.0 * f64::from(price * machine.gpu_num) / 1e5;
                    }
                }
            }
            worth
        });
        near(usd(&savings["onDemandCost"]), worth, worth * 0.04, "what on-demand would have cost", &report);
        near(usd(&savings["saved"]), usd(&savings["onDemandCost"]) - usd(&savings["cost"]), 0.011, "saved", &report);
        assert_eq!(savings["source"], "bill");
        let days = report["days"].as_array().unwrap().iter();
        near(days.map(|day| usd(&day["proved"])).sum(), usd(&savings["saved"]), 0.03, "the days add up", &report);

        let estimate = call("report --since 1d -o json").ends_with(0).json();
        assert_eq!((&estimate["savings"]["source"], &estimate["savings"]["billed"]), (&json!("prices"), &Value::Null));
        assert!(estimate.get("invoice").is_none() && estimate["days"][0].get("proved").is_none(), "{estimate:#}");

        // One life: a and what took its place.
        let life = call("report --invoice --since 1d --instance a -o json").ends_with(0).json();
        let its = |world: &World| {
            world
                .ever()
                .filter(|it| it.name.starts_with("train-a"))
                .map(|it| world.cost_micros(&it.id, MIDNIGHT, billed_to))
                .sum::<i64>()
        };
        near(
            usd(&life["savings"]["billed"]),
            stage.provider.with(|world| its(world)) as f64 / 1e6,
            lost,
            "one life",
            &life,
        );
        near(usd(&life["upHours"]) + usd(&life["downHours"]), 30.0, 0.6, "its time", &life);

        let screen = call("report --invoice --since 1d").ends_with(0).stdout;
        for words in [
            " by the bill, which has ",
            " are not billed yet",
            "estimated cost, from prices",
            "other price than last known",
        ] {
            assert!(screen.contains(words), "{words}: {screen}");
        }
        let file = stage.path("report.html").display().to_string();
        call(&format!("report --invoice --since 1d --html {file}")).ends_with(0);
        let page = std::fs::read_to_string(&file).unwrap();
        for words in [
            format!("<strong>{:.2} USD</strong>", usd(&savings["saved"])),
            "by the bill".into(),
            "From the estimate to the bill".into(),
        ] {
            assert!(page.contains(&words), "{words}: {page}");
        }
    }
}

/// A week of reclaims, refusals, outages and failed migrations, drawn from a seed: up and down to a few minutes in all,
/// causes that add up, and money to cents, all of it from what the provider's world did.
#[test]
fn a_week_with_faults_adds_up() {
    const FLEET: usize = 5;
    const PASSES: u64 = 7 * 48;
    let mut world = World::new(23);
    world.rules_mut().after_reclaim = AfterReclaim::Kept;
    world.rules_mut().fail_migrations = 0.2;
    for number in 0..FLEET {
        let gpus = u32::try_from(number % 3 + 1).unwrap();
        world.add(Spec::running(&format!("train-{number}")).id(&format!("i{number}")).product(PRODUCT, gpus));
    }
    let stage = Stage::new(Kind::Sqlite, world);
    let began = stage.provider.with(|world| world.now_ms());
    let mut rng = fastrand::Rng::with_seed(11);
    let mut taken = 0;
    for pass in 0..=PASSES {
        let code = stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "0").output().code();
        assert!(code < 4, "pass {pass}: {code}");
        stage.provider.with(World::clear_faults);
        if pass == PASSES {
            break;
        }
        let minutes = rng.u64(1..29);
        stage.provider.advance(minutes * MINUTE);
        if rng.u8(..100) < 15 {
            stage.provider.with(|world| {
                let running: Vec<String> =
                    world.machines().filter(|it| it.status == "running").map(|it| it.id.clone()).collect();
                taken += usize::from(rng.choice(running).is_some_and(|id| world.reclaim_now(&id)));
            });
        }
        match rng.u8(..100) {
            ..10 => {
                stage.fault("migrate:status=400,reason=INSUFFICIENT_RESOURCE");
                stage.fault("create:status=400,reason=INSUFFICIENT_RESOURCE");
            }
            10..13 => stage.fault("list:status=401"),
            13..20 => stage.fault("create:cut-after*1"),
            _ => {}
        }
        stage.provider.advance((30 - minutes) * MINUTE);
    }
    let now = stage.provider.with(|world| world.now_ms());
    let report = stage.call("report --since 10d -o json").now(Some(now)).output().ends_with(0).json();
    let (up, cost) = stage.provider.with(|world| {
        // Of an instance and its replacement, one counts at a time.
        let ran = |id: &str| -> i64 {
            let runs = world.runs_of(id).into_iter();
            runs.map(|run| (run.to_ms.unwrap_or(now).min(now) - run.from_ms.max(began)).max(0)).sum()
        };
        let all: Vec<_> = world.ever().map(|it| (ran(&it.id), it.price, it.gpu_num)).collect();
        let hours = |ms: i64| ms as f64 / 3_600_000.0;
        let cost = |(ms, price, gpus): &(i64, u32, u32)| hours(*ms) * f64::from(price * gpus) / 1e5;
        (all.iter().map(|(ms, ..)| hours(*ms)).sum::<f64>(), all.iter().map(cost).sum::<f64>())
    });
    let whole = (now - began) as f64 / 3_600_000.0 * FLEET as f64;
    let spells = usd(&report["reclaims"]);
    assert!(spells > 20.0 && usd(&report["lostHours"]["noRoom"]) > 0.5, "a hard week: {report:#}");
    // Passes take some real time, which the world's clock follows.
    let minutes = 6.0 / 60.0;
    near(
        usd(&report["upHours"]) + usd(&report["downHours"]),
        whole - usd(&report["unseenHours"]),
        minutes,
        "all",
        &report,
    );
    near(usd(&report["upHours"]), up, minutes, "up", &report);
    let lost = report["lostHours"].as_object().unwrap().values().map(usd).sum::<f64>();
    near(lost, usd(&report["downHours"]), 0.001, "causes", &report);
    near(usd(&report["savings"]["cost"]), cost, 0.05, "money", &report);
    assert_eq!(report["reclaims"], taken, "each reclaim once: {report:#}");
    let day = |name: &str| report["days"].as_array().unwrap().iter().map(|it| usd(&it[name])).sum::<f64>();
    near(day("saved"), usd(&report["savings"]["saved"]), 0.05, "days", &report);
    near(day("reclaims"), spells, 0.0, "reclaims", &report);
}

#[test]
fn a_bill_that_cannot_be_read_is_not_guessed() {
    let mut world = World::new(17);
    world.add(Spec::running("train-a").id("a").product(PRODUCT, 1).started_ago_ms(60_000));
    let stage = Stage::new(Kind::Sqlite, world);
    for _ in 0..2 {
        stage.pass(0);
        stage.provider.advance(HALF);
    }
    let before = stage.dump();
    let report = |words: &str| {
        let now = stage.provider.with(|world| world.now_ms());
        stage.call(&format!("report --invoice {}", if words.is_empty() { "-ojson" } else { words })).now(Some(now))
    };
    for (fault, exit, why) in [
        ("bills:status=401", 3, "NOVITA_API_KEY"),
        ("bills:status=404", 3, "404"),
        ("bills:status=200,reason=UNKNOWN", 3, "without bills"),
        ("bills:malformed", 3, "invalid JSON"),
        ("bills:html", 3, "an HTML page"),
    ] {
        stage.fault(fault);
        let output = report("").output().ends_with(exit);
        assert!(output.all().contains(why), "{fault}: {output:?}");
        stage.provider.with(World::clear_faults);
    }
    let keyless = report("").env("NOVITA_API_KEY", "").output().ends_with(2);
    assert!(keyless.stderr.contains("NOVITA_API_KEY is not set"), "{keyless:?}");
    // 90 days, of which no single call may ask for more than seven.
    let nothing_yet = report("--since 90d -ojson").output().ends_with(0).json();
    assert_eq!(
        nothing_yet["savings"]["saved"],
        Value::Null,
        "a minute before the first pass is billed: {nothing_yet:#}"
    );
    near(usd(&nothing_yet["invoice"]["notBilledHours"]), 0.5, 0.02, "the rest is not", &nothing_yet);
    let screen = report("-otable").output().ends_with(0).stdout;
    assert!(screen.contains("the bill has nothing yet for the time that passes saw"), "{screen}");
    assert_eq!(stage.dump(), before, "nothing is written");
}
