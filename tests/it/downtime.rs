//! The downtime ledger of the real program: what `status`, `history` and metrics tell of instances that are down agrees
//! with the provider's own books.

use novita_sim::{Fate, Machine, Spec, World};
use serde_json::{Value, json};

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage};

const QUARTER: u64 = 15 * MINUTE;

/// A fleet that was seen running a quarter ago, and is migrated within two minutes where there is room.
fn fleet(kind: Kind) -> Stage {
    let mut world = World::new(61);
    world.rules_mut().create_step_ms = 0;
    for id in ["a", "b", "c"] {
        world.add(Spec::running(&format!("train-{id}")).id(id).fate(Fate::Succeeds));
    }
    let stage = Stage::new(kind, world);
    stage.pass(0);
    stage.provider.advance(QUARTER);
    stage
}

fn reclaim(stage: &Stage, ids: &[&str]) {
    stage.provider.with(|world| ids.iter().for_each(|id| assert!(world.reclaim_now(id))));
}

fn recovery(stage: &Stage) -> Value {
    stage.status()["recovery"].clone()
}

fn hours(value: &Value) -> f64 {
    value.as_f64().expect("hours")
}

#[test]
fn what_was_lost_is_what_the_provider_saw() {
    for kind in BOTH {
        let stage = fleet(kind);
        // Down five minutes before a pass that finds no room, up some time after the next one.
        stage.provider.advance(QUARTER - 5 * MINUTE);
        let stopped = stage.provider.with(|world| world.now_ms());
        reclaim(&stage, &["a"]);
        stage.provider.advance(5 * MINUTE);
        stage.fault("migrate:status=400,reason=INSUFFICIENT_RESOURCE*9");
        stage.fault("create:status=400,reason=INSUFFICIENT_RESOURCE*9");
        let refused = stage.call("run -q").output().code();
        assert!(refused < 2, "{refused}");
        stage.provider.with(World::clear_faults);
        let open = recovery(&stage);
        assert_eq!((&open["spells"], &open["open"]), (&json!(1), &json!(1)));
        let executions = stage.history()["executions"].clone();
        let is_refusal = |it: &&Value| it["outcome"] == "refused";
        let refusals = executions[0]["writes"].as_array().expect("writes").iter().filter(is_refusal).count();
        assert_eq!(open["refusedCalls"], refusals, "{executions}");
        let down = &open["down"][0];
        assert_eq!((&down["instanceId"], &down["part"]), (&"a".into(), &"noRoom".into()), "{open}");
        let down_for = down["downMs"].as_u64().expect("a length");
        assert!(down_for.abs_diff(5 * MINUTE) < MINUTE, "{down_for} ms");
        stage.provider.advance(QUARTER);
        stage.pass(0);
        stage.provider.advance(QUARTER);
        stage.pass(0);

        let after = recovery(&stage);
        let started = stage.provider.with(|world| world.get("a").expect("a").last_started_at);
        let length = started - stopped;
        assert_eq!((&after["open"], &after["inPlace"], &after["down"]), (&json!(0), &json!(1), &json!([])));
        let worst = after["worstMs"].as_i64().expect("a length");
        assert!((worst - length).abs() <= 1000, "{worst} of {length} ms");
        let parts = ["noticing", "heldBack", "noRoom", "failed", "comingUp"].map(|it| hours(&after["lostBy"][it]));
        let (lost, sum) = (hours(&after["lostInstanceHours"]), parts.iter().sum::<f64>());
        assert!((lost - sum).abs() < 0.001, "{after}");
        assert!((parts[0] * 60.0 - 5.0).abs() < 0.1 && (parts[2] * 60.0 - 15.0).abs() < 0.1, "{after}");
        // Three instances were watched from the first pass on.
        let watched = 3.0 * 4.0 * 0.25;
        let up = after["upShare"].as_f64().expect("a share");
        assert!((up - (1.0 - lost / watched)).abs() < 0.005, "{up} with {lost} of {watched} h lost");
        assert_eq!(after["windows"].as_array().map(Vec::len), Some(3));

        let screen = stage.call("status").output().ends_with(0).stdout;
        assert!(screen.contains("recovery    30 d: 1 spell, p50 ") && !screen.contains("  down "), "{screen}");
        let life = stage.call("history --instance train-a -o json").output().ends_with(0).json();
        let events: Vec<&str> =
            life["life"].as_array().expect("events").iter().filter_map(|it| it["event"].as_str()).collect();
        assert!(events.contains(&"down") && events.contains(&"up_again"), "{events:?}");
        let metrics = stage.call("status -o prometheus").output().ends_with(0).stdout;
        for line in [
            "respot_instances_down 0",
            "respot_downtime_seconds_total{cause=\"noticing\"} 300",
            "respot_recovery_seconds_count 1",
            "respot_availability_ratio{window=\"30d\"} 0.",
        ] {
            assert!(metrics.contains(&format!("\n{line}")), "{line} in\n{metrics}");
        }
    }
}

#[test]
fn a_fleet_with_something_down_is_degraded() {
    let stage = fleet(Kind::Sqlite);
    reclaim(&stage, &["a", "b"]);
    stage.fault("migrate:status=400,reason=INSUFFICIENT_RESOURCE*99");
    stage.fault("create:status=400,reason=INSUFFICIENT_RESOURCE*99");
    let mut health = Vec::new();
    for _ in 0..4 {
        assert!(stage.call("run -q").output().code() < 2);
        stage.provider.advance(MINUTE);
        health.push(stage.status()["migrationService"]["status"].clone());
        stage.provider.advance(QUARTER - MINUTE);
    }
    assert_eq!(health[3], "degraded", "{health:?}");
    let now = Some(stage.provider.with(|world| world.now_ms()));
    let screen = stage.call("status --check").now(now).output().ends_with(1).stdout;
    assert!(screen.starts_with("degraded: train-a and 1 more down for 1 h\n"), "{screen}");
    assert!(screen.contains("see what keeps train-a and 1 more down: respot explain train-a"), "{screen}");
    assert!(screen.contains("  down        2: train-a for 1 h, no room ("), "{screen}");
    stage.provider.with(World::clear_faults);
    for _ in 0..3 {
        assert!(stage.call("run -q").output().code() < 2);
        stage.provider.advance(QUARTER);
    }
    assert_eq!(recovery(&stage)["open"], 0);
}

#[test]
fn rehearsals_and_stops_by_a_person_are_no_downtime() {
    let stage = fleet(Kind::Sqlite);
    stage.provider.with(|world| assert!(world.user_stop("a")));
    stage.provider.advance(QUARTER);
    let careful = |words: &str| stage.call(words).env("MIGRATION_ELIGIBILITY", "reclaimed");
    careful("run -q").output().ends_with(0);
    assert_eq!(recovery(&stage)["spells"], 0);
    reclaim(&stage, &["b"]);
    stage.provider.advance(QUARTER);
    careful("run -q").env("MIGRATION_DRY_RUN", "true").output().ends_with(0);
    assert_eq!(recovery(&stage)["spells"], 0, "a rehearsal counts nothing");
    careful("run -q").output().ends_with(0);
    assert_eq!(recovery(&stage)["down"][0]["instanceId"], "b");
    // Excluded from then on, it is given up after a while.
    for _ in 0..3 {
        stage.provider.advance(HOUR);
        stage.call("run -q --exclude train-*").output().ends_with(0);
    }
    assert_eq!(recovery(&stage)["open"], 0);
}

/// No decision rests on these records: what is damaged of them costs itself only. Those of a newer version stay.
#[test]
fn a_damaged_record_of_downtime_costs_only_itself() {
    let stage = fleet(Kind::Sqlite);
    reclaim(&stage, &["a"]);
    stage.pass(0);
    stage.put_field("spells", "a", "garbage");
    stage.put_field("downtime", "2026-01-15T12:00:00.000Z x", "garbage");
    stage.put_field("downtime-days", "total", "{}");
    assert_eq!(recovery(&stage)["open"], 0);
    for words in ["status", "report", "replay --from-history"] {
        let said = stage.call(words).output();
        assert!(said.stderr.contains("left out here: spells: 1, downtime: 1"), "{words}: {}", said.stderr);
    }
    stage.put_field("exposures", "p@c", "garbage");
    stage.call("markets").output().ends_with(0).says(["exposures: 1"]);
    stage.provider.advance(QUARTER);
    stage.pass(0);
    assert!(recovery(&stage)["windowMs"].is_number());
    stage.put_field("spells", "b", "{\"v\": 2}");
    stage.call("run").output().ends_with(4).says(["spells", "newer", "format"]);
    stage.call("status").output().ends_with(0);
}

/// A shortage on the fleet of the demo: whoever looks, after a pass or between two, sees all that is down, since when, why
/// and what comes next, and is never told that all is well.
#[test]
fn a_shortage_is_told_at_every_moment() {
    let stage = Stage::new(Kind::Sqlite, World::fleet(11, 40));
    let pass = || {
        stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "0").output();
    };
    let mut passes = 0;
    while passes < 3 || !recovery(&stage)["down"].as_array().expect("what is down").is_empty() {
        pass();
        stage.provider.advance(QUARTER);
        passes += 1;
        assert!(passes < 30, "the fleet does not come up: {:#}", recovery(&stage));
    }
    let down = |world: &World| {
        let is_down = |it: &&Machine| it.billing_mode == "spot" && it.status == "exited";
        let mut ids: Vec<String> = world.machines().filter(is_down).map(|it| it.id.clone()).collect();
        ids.sort();
        ids
    };
    stage.provider.with(|world| {
        world.set_stock(0);
        let running = world.machines().filter(|it| it.billing_mode == "spot" && it.status == "running");
        let taken: Vec<String> = running.take(5).map(|it| it.id.clone()).collect();
        taken.iter().for_each(|id| assert!(world.reclaim_now(id)));
    });
    for minutes in [0, 7, 15, 22, 30, 37, 45, 52, 60, 67] {
        if minutes % 15 == 0 {
            pass();
        }
        let (status, screen) = (stage.status(), stage.call("status").screen(200));
        let told = status["recovery"]["down"].as_array().expect("what is down");
        let mut ids: Vec<&str> = told.iter().filter_map(|it| it["instanceId"].as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, stage.provider.with(|world| down(world)), "{status:#}");
        for it in told {
            let why = match it["part"].as_str() {
                Some("noRoom") => "no room",
                Some("heldBack") => it["reason"].as_str().expect("a rule"),
                part => panic!("{minutes} min: {part:?} of {told:#?}"),
            };
            let since = it["downMs"].as_u64().expect("a length") / MINUTE;
            let name = it["instanceName"].as_str().expect("a name");
            let row = match since {
                0..60 => format!("{name} for {since} min, "),
                _ => format!("{name} for 1 h"),
            };
            // The first of them are named.
            let row = row.replace("for 0 min, ", "for ");
            let is_shown = screen.contains(&row) && screen.contains(&why.replace('_', " "));
            assert!(is_shown || told.len() > 6, "{minutes} min, {name}, {why}:\n{screen}");
        }
        // With a margin for the real time that the passes take.
        let health =
            if minutes > 29 { "degraded: ".into() } else { format!("healthy: on schedule, {} down", told.len()) };
        let count = format!("  down        {}: ", told.len());
        let is_late = told.iter().any(|it| it["downMs"].as_u64() > Some(30 * MINUTE));
        assert!(is_late || screen.starts_with(&health), "{minutes} min:\n{screen}");
        for part in [&*count, ", no room", "next try at ", " without room\n"] {
            assert!(screen.contains(part), "{minutes} min, {part:?}:\n{screen}");
        }
        assert!(!screen.contains("no errors"), "{screen}");
        stage.provider.advance(if minutes % 15 == 0 { 7 * MINUTE } else { 8 * MINUTE });
    }
    stage.provider.with(|world| world.set_stock(u32::MAX));
    // One of which nothing proves that it was reclaimed waits for its cooldown of four hours.
    for _ in 0..14 {
        pass();
        stage.provider.advance(QUARTER);
    }
    assert_eq!(recovery(&stage)["down"], json!([]));
    assert!(stage.call("status").screen(100).starts_with("healthy: on schedule, no errors"));
}

/// Three hours of a fleet of three, of which two are reclaimed, one of them while no market has room: every figure of the
/// report against the provider's own world, looked at every minute.
#[test]
fn a_report_adds_up_to_what_the_provider_saw() {
    for kind in BOTH {
        let stage = fleet(kind);
        let began = stage.provider.with(|world| world.now_ms()) - i64::try_from(QUARTER).expect("a number");
        let mut up_minutes = 3 * 15;
        for minute in 0..180 {
            match minute {
                20 => reclaim(&stage, &["a"]),
                // It is taken an hour later, and a pass has seen it announced.
                2 => stage.provider.with(|world| assert!(world.reclaim("b"))),
                62 => {
                    stage.fault("migrate:status=400,reason=INSUFFICIENT_RESOURCE");
                    stage.fault("create:status=400,reason=INSUFFICIENT_RESOURCE");
                }
                100 => stage.provider.with(World::clear_faults),
                _ => {}
            }
            let running = |machine: &&Machine| machine.status == "running";
            up_minutes += stage.provider.with(|world| world.machines().filter(running).count().min(3));
            stage.provider.advance(MINUTE);
            if minute % 15 == 14 {
                assert!(stage.call("run -q").output().code() < 2);
            }
        }
        let now = stage.provider.with(|world| world.now_ms());
        let call = |words: &str| stage.call(words).now(Some(now)).output().ends_with(0);
        let report = call("report -o json").json();
        let watched = (now - began) as f64 / 3_600_000.0 * 3.0;
        let [up, down] = ["upHours", "downHours"].map(|it| hours(&report[it]));
        let near = |a: f64, b: f64, by: f64| assert!((a - b).abs() < by, "{a} is not {b}: {report:#}");
        near(up + down, watched, 0.05);
        near(up, up_minutes as f64 / 60.0, 0.07);
        near(report["availability"].as_f64().expect("a share"), up / (up + down), 1e-5);
        let lost = report["lostHours"].as_object().expect("parts").values().map(hours).sum::<f64>();
        near(lost, down, 0.001);
        assert_eq!((&report["instances"], &report["reclaims"]), (&json!(3), &json!(2)), "{report:#}");
        assert_eq!((&report["recoveries"]["count"], &report["unseenHours"]), (&json!(2), &json!(0.0)), "{report:#}");
        let places = report["byPlace"].as_array().expect("places");
        let sum = |of: &str| places.iter().map(|it| it[of].as_f64().expect("a number")).sum::<f64>();
        near(sum("instanceHours"), up, 0.01);
        near(sum("reclaims"), 2.0, 0.1);
        let history = stage.history();
        let writes = history["executions"].as_array().expect("passes").iter().flat_map(|it| it["writes"].as_array());
        let refused = writes.flatten().filter(|it| it["errorKind"] == "capacity").count();
        assert!(refused > 0, "{history:#}");
        near(sum("refusals"), refused as f64, 0.1);
        let savings = ["onDemandCost", "cost", "saved", "pricedHours"].map(|it| hours(&report["savings"][it]));
        let [on_demand, cost, saved, priced] = savings;
        near(saved, on_demand - cost, 0.011);
        // The simulator sells the GPU as spot for half of its price on demand.
        near(cost * 2.0, on_demand, 0.03);
        near(on_demand, priced * 0.67, 0.2);
        near(priced, up, 0.02);
        let [day] = &report["days"].as_array().expect("days")[..] else { panic!("{report:#}") };
        assert_eq!((&day["availability"], &day["reclaims"]), (&report["availability"], &json!(2)));

        let csv = call("report -o csv").stdout;
        let rows: Vec<&str> = csv.lines().collect();
        assert!(rows.len() == 2 && rows[0].starts_with("day,availability,"), "{csv}");
        let one = call("report -o json --instance train-b").json();
        near(hours(&one["upHours"]) + hours(&one["downHours"]), watched / 3.0, 0.05);
        assert!(hours(&one["downHours"]) > hours(&report["downHours"]) / 2.0, "{one:#}");
        let unknown = stage.call("report --instance nope").now(Some(now)).output().ends_with(2);
        assert!(unknown.stderr.contains("nothing is known of \"nope\""), "{}", unknown.stderr);
        // Twenty minutes, before anything went down.
        let until = stage.provider.with(|world| world.now_ms()) - 165 * 60_000;
        let until = respot::core::world::time::Timestamp::from_millis(until);
        let early = call(&format!("report -o json --since 20m --until {until}")).json();
        assert_eq!((&early["availability"], &early["reclaims"]), (&json!(1.0), &json!(0)), "{early:#}");
        let file = stage.path("report.html").display().to_string();
        let printed = call(&format!("report --html {file}")).stdout;
        assert_eq!(printed, format!("{file}\n"));
        page_says_the_same(&std::fs::read_to_string(&file).expect("a page"), &report);
        let lost = stage.call("report --html none/report.html").now(Some(now)).output().ends_with(7);
        assert!(lost.stderr.contains("cannot write none/report.html"), "{}", lost.stderr);
        let screen = call("report").stdout;
        for words in ["3 instances, up ", "2 reclaims; 2 recoveries, p50 ", "no room", "saved about "] {
            assert!(screen.contains(words), "{words}: {screen}");
        }
    }
}

/// The page loads nothing, runs nothing, and has the figures of the document.
fn page_says_the_same(page: &str, report: &Value) {
    for banned in ["<script", "http:", "https:", "url(", "@import", "<link", "<img"] {
        assert!(!page.contains(banned), "{banned}");
    }
    assert!(page.len() < 600_000 && page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    let up = report["availability"].as_f64().expect("a share") * 100.0;
    let saved = hours(&report["savings"]["saved"]);
    let lost = hours(&report["lostHours"]["noRoom"]);
    for words in [
        format!("<strong>{up:.2}\u{a0}%</strong>"),
        format!("<strong>{}</strong>", report["reclaims"]),
        format!("<strong>{saved:.2} USD</strong>"),
        format!("<td class=\"number\">{lost:.1}</td>"),
        "train-a down 1 time, ".into(),
        "Is that proved?".into(),
    ] {
        assert!(page.contains(&words), "{words}: {page}");
    }
    let pictures = page.matches("<svg role=\"img\"").count();
    assert!(pictures >= 4 && page.matches("<desc>").count() == pictures, "each picture is described");
}
