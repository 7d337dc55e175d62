//! A provider in trouble: what the real program makes of it, and that the world ends up as it should.

use novita_sim::{ErrorShape, Fate, NotFound, Op, Spec, World};
use serde_json::Value;

use crate::audit;
use crate::harness::{BOTH, HOUR, KEY, Kind, MINUTE, Stage, each, side_by_side};

/// Three pages, and four instances that are down.
const DOWN: [&str; 4] = ["i000", "i070", "i140", "i210"];

fn pages() -> World {
    let mut world = World::new(21);
    for n in 0..230 {
        let spec = if n % 70 == 0 { Spec::exited("down") } else { Spec::running("up") };
        world.add(spec.id(&format!("i{n:03}")));
    }
    world
}

/// Faults of reads, the exit code, and what stderr must say. The instances that are down are migrated when the code is
/// 0, and no write is tried otherwise.
type ReadFault = (&'static [&'static str], i32, &'static [&'static str]);

const READS: &[ReadFault] = &[
    (&["list:html"], 3, &["GET /v1/gpu/instances", "HTML", "NOVITA_API_BASE_URL"]),
    (&["jobs:html"], 3, &["GET /v1/jobs", "HTML"]),
    (&["list@2:html*99"], 3, &["HTML"]),
    (&["any:html*1"], 0, &[]),
    (&["list:malformed"], 3, &["GET /v1/gpu/instances", "JSON"]),
    (&["list:malformed*2"], 0, &[]),
    (&["list@3:malformed"], 0, &[]),
    (&["jobs:malformed*1"], 0, &[]),
    (&["list:truncated*2"], 0, &[]),
    (&["list@2:truncated"], 0, &[]),
    (&["list:empty"], 3, &["empty body"]),
    (&["list:empty*1", "jobs:empty*1"], 0, &[]),
    (&["list:status=500*3"], 0, &[]),
    (&["list:status=502*1", "jobs:status=503,retry-after=1*1"], 0, &[]),
    (&["list:status=429,retry-after=1*1"], 0, &[]),
    (&["list:status=429,retry-after=Wed~2c 21 Oct 2015 07~3a28~3a00 GMT*1"], 0, &[]),
    (&["list:status=429*4", "jobs:status=429*2"], 0, &[]),
    (&["list:status=401"], 3, &["GET /v1/gpu/instances", "401", "UNAUTHORIZED", "NOVITA_API_KEY"]),
    (&["jobs:status=403"], 3, &["GET /v1/jobs", "403", "FORBIDDEN", "NOVITA_API_KEY"]),
    (&["list:status=404"], 3, &["404", "NOVITA_API_BASE_URL"]),
    (&["list:status=302"], 3, &["302"]),
    (&["list:status=400,reason=VALIDATOR_PARAM,message=invalid pageSize"], 3, &["400", "VALIDATOR_PARAM", "pageSize"]),
    (&["list:cut-before*2", "jobs:cut-after*2"], 0, &[]),
    (&["list:endless-pages"], 3, &["does not end"]),
    (&["jobs:endless-pages"], 3, &["GET /v1/jobs", "does not end"]),
    (&["list:endless-body"], 3, &["GET /v1/gpu/instances"]),
    (&["jobs:endless-body*1"], 3, &["GET /v1/jobs"]),
    (&["list:same-page"], 5, &["instances", "230"]),
    (&["list:same-page*2"], 0, &[]),
    (&["list:duplicate-rows"], 0, &[]),
    (&["jobs:duplicate-rows", "list:duplicate-rows*1"], 0, &[]),
    (&["list:lying-total=5"], 5, &["instances", "235", "230"]),
    (&["list:lying-total=100000"], 5, &["instances", "100230"]),
    (&["jobs:lying-total=1"], 5, &["jobs"]),
    (&["list:lying-total=5*3"], 0, &[]),
    (&["list:lying-total=-1"], 0, &[]),
    (&["list:lying-total=-30"], 0, &[]),
    (&["list:lying-total=-130"], 0, &[]),
    (&["list:lying-total=-229"], 0, &[]),
    (&["list:lying-total=-230"], 0, &[]),
    (&["list:lying-total=-9000"], 0, &[]),
    (&["list:delay=300"], 0, &[]),
];

/// Where there is room cannot be known then, and that is no lack of room: it is said.
#[test]
fn places_that_cannot_be_read_are_pointed_out() {
    for (fault, call) in
        [("clusters:status=404", "GET /v1/clusters: 404"), ("products:status=400", "GET /v1/products: 400")]
    {
        let mut world = World::new(3);
        world.add(Spec::stuck("train", 600_000).id("a"));
        let stage = Stage::new(Kind::Sqlite, world);
        stage.fault(fault);
        for words in ["dry-run", "run"] {
            let output = stage.call(words).env("MIGRATION_RECREATE_WAIT_MS", "0").output();
            assert!(output.stderr.contains("the places on offer could not be read"), "{words}: {}", output.stderr);
            assert!(output.stderr.contains(call), "{words}: {}", output.stderr);
        }
    }
}

/// The first page, whichever is asked for: its total would cost hundreds of requests.
#[test]
fn a_page_that_comes_again_and_again_ends_the_list() {
    let mut world = World::new(21);
    for n in 0..20_000 {
        world.add(Spec::running("up").id(&format!("i{n:05}")));
    }
    let stage = Stage::new(Kind::Sqlite, world);
    stage.fault("list:same-page");
    stage.call("run").output().ends_with(5).says(["20000", "100"]);
    assert!(stage.calls() < 100, "{} requests", stage.calls());
}

#[test]
fn a_listing_is_whole_or_nothing_is_done() {
    side_by_side(READS, 6, |(faults, code, says)| {
        let stage = Stage::new(Kind::Sqlite, pages());
        // Whatever jobs there are must be seen, too.
        stage.provider.with(|world| {
            for n in 0..3 {
                world.add_job(job(&format!("i00{n}")));
            }
        });
        for fault in *faults {
            stage.fault(fault);
        }
        let output = stage.call("run -o json").output().ends_with(*code).says(*says);
        let document = output.json();
        if *code == 0 {
            assert_eq!(document["summary"]["totalInstances"], 230);
            assert_eq!(stage.migrated(), DOWN);
            return;
        }
        assert_eq!(document["error"]["code"], *code);
        assert_eq!(output.stderr.matches("error: ").count(), 1, "one clear line: {}", output.stderr);
        assert_eq!(stage.provider.with(|world| world.log().len()), 0, "no write was tried");
        let last = &stage.status()["lastExecution"];
        assert_eq!(last["status"], "failed");
        assert!(last["error"].is_string());
        // It is over as soon as the provider is well again.
        stage.provider.with(World::clear_faults);
        stage.pass(0);
        assert_eq!(stage.migrated(), DOWN);
    });
}

fn job(instance: &str) -> novita_sim::JobRow {
    novita_sim::JobRow {
        id: format!("job-of-{instance}"),
        kind: "saveImage".into(),
        state: "success".into(),
        error: String::new(),
        error_message: String::new(),
        instance_id: instance.into(),
        created_at: novita_sim::DAWN_MS - 1_000_000,
        visible_at: novita_sim::DAWN_MS - 1_000_000,
        quirks: 0,
    }
}

#[test]
fn a_wrong_key_is_one_clear_line() {
    each(&ErrorShape::ALL, |shape| {
        let mut world = pages();
        world.rules_mut().wire.errors = *shape;
        let stage = Stage::new(Kind::Sqlite, world);
        for words in ["run -q", "dry-run", "run -o json -q"] {
            let wrong = "sk_0123456789wrong";
            let output = stage.call(words).env("NOVITA_API_KEY", wrong).output().ends_with(3);
            let output = output.says(["error: GET /v1/", "401", "NOVITA_API_KEY"]);
            assert_eq!(output.stderr.lines().count(), 2, "an error and a hint: {}", output.stderr);
            assert!(!output.all().contains("0123456789"), "{}", output.all());
        }
        assert_eq!(stage.provider.with(|world| world.log().len()), 0);
    });
}

/// What befalls the migrate call of one of three instances: the fault; the exit code, the outcome and the error kind of
/// the pass that it befalls; and how many migrations took effect after it, one minute and five minutes later.
type WriteFault = (&'static str, i32, &'static str, Option<&'static str>, [usize; 3]);

const WRITES: &[WriteFault] = &[
    // Nobody knows. Settled by looking, and never by sending again.
    ("cut-before*1", 1, "unknown", Some("network"), [0, 0, 1]),
    ("status=500*1", 1, "unknown", Some("api"), [0, 0, 1]),
    ("status=503,retry-after=1*1", 1, "unknown", Some("api"), [0, 0, 1]),
    ("status=408*1", 1, "unknown", Some("timeout"), [0, 0, 1]),
    ("status=302*1", 1, "unknown", Some("api"), [0, 0, 1]),
    ("html*1", 1, "unknown", Some("api"), [0, 0, 1]),
    ("late=30000*1", 1, "unknown", Some("network"), [0, 1, 1]),
    ("late=150000*1", 1, "unknown", Some("network"), [0, 0, 1]),
    // It had an effect, which a look shows.
    ("cut-after*1", 0, "accepted", None, [1, 1, 1]),
    ("status=500,effect*1", 0, "accepted", None, [1, 1, 1]),
    ("status=503,effect*1", 0, "accepted", None, [1, 1, 1]),
    ("truncated*1", 0, "accepted", None, [1, 1, 1]),
    ("endless-body*1", 0, "accepted", None, [1, 1, 1]),
    ("status=400,message=invalid state change,effect*1", 0, "accepted", None, [1, 1, 1]),
    ("status=409,reason=CONFLICT,effect*1", 0, "accepted", None, [1, 1, 1]),
    // Accepted, in whatever words.
    ("malformed*1", 0, "accepted", None, [1, 1, 1]),
    ("empty*1", 0, "accepted", None, [1, 1, 1]),
    ("status=202,effect*1", 0, "accepted", None, [1, 1, 1]),
    // Asked to come back later, which is safe.
    ("status=429,retry-after=1*1", 0, "accepted", None, [1, 1, 1]),
    ("status=429*2", 0, "accepted", None, [1, 1, 1]),
    // Refused: tried again by the next pass, not after a cooldown.
    ("status=400,message=invalid state change*1", 1, "failed", Some("state"), [0, 1, 1]),
    ("status=409,reason=CONFLICT*1", 1, "failed", Some("state"), [0, 1, 1]),
    ("status=400,reason=INSUFFICIENT_RESOURCE*1", 0, "no_room", Some("capacity"), [0, 1, 1]),
    ("status=400,reason=MIGRATE_INSUFFICIENT_RESOURCE*1", 0, "no_room", Some("capacity"), [0, 1, 1]),
    ("status=400,reason=BALANCE_NOT_ENOUGH*1", 1, "failed", Some("billing"), [0, 1, 1]),
    ("status=400,reason=VALIDATOR_PARAM*1", 1, "failed", Some("configuration"), [0, 1, 1]),
    ("status=401*1", 1, "failed", Some("auth"), [0, 1, 1]),
    ("status=418,reason=TEAPOT*1", 1, "failed", Some("api"), [0, 1, 1]),
    // Not there, say two of the provider's voices.
    ("status=404*1", 0, "skipped", None, [0, 1, 1]),
    ("status=400,reason=RESOURCE_NOT_FOUND,message=instance not fount*1", 0, "skipped", None, [0, 1, 1]),
];

#[test]
fn a_migrate_call_in_trouble_is_never_made_twice_nor_forgotten() {
    let rows: Vec<(Kind, &WriteFault)> = BOTH.iter().flat_map(|kind| WRITES.iter().map(|row| (*kind, row))).collect();
    side_by_side(&rows, 12, |(kind, (fault, code, outcome, error_kind, counts))| {
        let mut world = World::new(31);
        // Each in a market of its own, so that none shares a refusal.
        for (id, cluster) in [("a", "us-xx-1"), ("b", "eu-xx-2"), ("c", "ap-xx-1")] {
            world.add(Spec::exited(&format!("train-{id}")).id(id).product("l40s.16c80g", 1).cluster(cluster));
        }
        let stage = Stage::new(*kind, world);
        stage.fault(&format!("migrate/a:{fault}"));
        let run = stage.pass(*code);
        let attempts = run["attempts"].as_array().expect("attempts");
        let attempt = attempts.iter().find(|it| it["instanceId"] == "a").expect("an attempt");
        assert_eq!((attempt["outcome"].as_str(), attempt["errorKind"].as_str()), (Some(*outcome), *error_kind));
        assert_eq!(run["status"], if *code == 0 { "completed" } else { "partial" });
        assert_eq!(run["summary"]["errorCount"], u64::from(*code == 1));
        assert_eq!(stage.accepted(&["a", "b", "c"]), [counts[0], 1, 1]);
        let stays = matches!(*outcome, "unknown" | "accepted");
        assert_eq!(stage.stored("migration-times:a").is_some(), stays, "whether an attempt counts");
        for (minutes, count) in [(2, counts[1]), (4, counts[2]), (20, counts[2])] {
            stage.provider.advance(minutes * MINUTE);
            stage.pass(0);
            assert_eq!(stage.accepted(&["a", "b", "c"]), [count, 1, 1], "{minutes} min later");
        }
        let status = stage.status();
        assert_eq!(status["inFlight"]["migrations"], 0);
        assert_eq!(status["statistics"]["totalMigrations"], 3);
        assert!(stage.stored("migration-times:a").is_some());
    });
}

#[test]
fn a_refusal_is_understood_in_every_shape() {
    each(&ErrorShape::ALL, |shape| {
        let mut world = World::new(33);
        world.add(Spec::exited("train-a").id("a").fate(Fate::NoStock));
        world.rules_mut().wire.errors = *shape;
        let stage = Stage::new(Kind::Sqlite, world);
        // Without a word in it, it is a refusal like any other.
        let is_empty = *shape == ErrorShape::Empty;
        let run = stage.pass(i32::from(is_empty));
        let attempt = &run["attempts"][0];
        let expected = if is_empty { ("failed", "api") } else { ("no_room", "capacity") };
        assert_eq!((&attempt["outcome"], &attempt["errorKind"]), (&expected.0.into(), &expected.1.into()));
        assert_eq!(stage.stored("migration-times:a"), None);
    });
}

#[test]
fn a_refusal_puts_the_earlier_attempt_back() {
    for kind in BOTH {
        let mut world = World::new(34);
        world.add(Spec::exited("train-a").id("a"));
        let stage = Stage::new(kind, world);
        stage.pass(0);
        let first = stage.stored("migration-times:a").expect("an attempt");
        stage.provider.advance(5 * HOUR);
        stage.provider.with(|world| {
            world.reclaim_now("a");
            world.set_stock(0);
        });
        stage.pass(0);
        assert_eq!(stage.stored("migration-times:a"), Some(first));
        stage.provider.with(|world| world.set_stock(8));
        stage.provider.advance(2 * MINUTE);
        stage.pass(0);
        assert_eq!(stage.accepted(&["a"]), [2]);
    }
}

#[test]
fn an_instance_that_goes_away_meanwhile_is_no_error() {
    each(&[NotFound::Reason, NotFound::Reason404, NotFound::Text404], |not_found| {
        let mut world = World::new(35);
        for id in ["a", "b", "c"] {
            world.add(Spec::exited("x").id(id));
        }
        world.rules_mut().wire.not_found = *not_found;
        let stage = Stage::new(Kind::Sqlite, world);
        stage.fault("migrate/a:delay=600");
        let run = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "1").spawn();
        stage.until("the first is called", |world| world.calls(Op::Migrate) > 0);
        stage.provider.with(|world| world.vanish("b"));
        let document = run.wait().ends_with(0).json();
        assert_eq!(document["attempts"].as_array().map(Vec::len), Some(3));
        assert_eq!(document["attempts"][1]["outcome"], "skipped");
        assert_eq!(stage.accepted(&["a", "c"]), [1, 1]);
        assert_eq!(stage.stored("migration-times:b"), None);
        // The same while it is followed.
        stage.provider.with(|world| world.vanish("c"));
        for open in [1, 0] {
            stage.provider.advance(10 * MINUTE);
            stage.pass(0);
            assert_eq!(stage.status()["inFlight"]["migrations"], open, "one look proves no absence");
        }
    });
}

/// A failed migration is answered by a replacement, whether it left the instance stuck or exited, and never by another
/// migration; what is still at work is left alone.
#[test]
fn failed_migrations_are_recreated_and_never_migrated_again() {
    for kind in BOTH {
        let mut world = World::new(36);
        world.rules_mut().create_step_ms = 0;
        world.add(Spec::exited("back").id("back").fate(Fate::FailsBack));
        world.add(Spec::exited("stuck").id("stuck").fate(Fate::FailsStuck));
        world.add(Spec::exited("endless").id("endless").fate(Fate::NeverEnds));
        let stage = Stage::new(kind, world);
        stage.pass(0);
        stage.provider.advance(5 * MINUTE);
        let run = stage.pass(0);
        let row = |id: &str| -> Value {
            let rows = run["plan"].as_array().expect("a plan");
            rows.iter().find(|row| row["instanceId"] == id).expect(id).clone()
        };
        for (id, verdict, reason) in [
            ("back", "recreate", "migration_failed"),
            ("stuck", "recreate", "migration_failed"),
            ("endless", "skip", "not_exited"),
        ] {
            assert_eq!((&row(id)["verdict"], &row(id)["reason"]), (&verdict.into(), &reason.into()), "{id}");
        }
        assert!(row("back")["detail"].as_str().expect("a sentence").contains("image pull failed on the new node"));
        for minutes in [1, 5, 60, 240] {
            stage.provider.advance(minutes * MINUTE);
            stage.pass(0);
        }
        assert_eq!(stage.accepted(&["back", "stuck", "endless"]), [1, 1, 1]);
        let mut seen = stage.provider.with(|world| {
            let base = |name: &str| name.split_once("-recreated-").map_or(name.into(), |(base, _)| format!("{base}'"));
            world.machines().map(|it| format!("{} {}", base(&it.name), it.status)).collect::<Vec<_>>()
        });
        seen.sort();
        assert_eq!(seen, ["back' running", "endless migrating", "stuck' running"]);
        let status = stage.status();
        let in_flight = &status["inFlight"];
        assert_eq!((&in_flight["migrations"], &in_flight["recreations"]), (&1.into(), &0.into()));
        assert_eq!(status["statistics"]["totalRecreations"], 2);
    }
}

/// What the issue asks for: five passes in trouble, and everything is as if there had been none.
#[test]
fn five_passes_with_faults_migrate_every_instance_exactly_once() {
    each(&BOTH, |kind| {
        let mut world = World::new(41);
        let mut eligible = Vec::new();
        for n in 0..130 {
            let id = format!("i{n:03}");
            let spec = match n % 5 {
                0 => {
                    eligible.push(id.clone());
                    Spec::exited(&format!("train-{n}"))
                }
                1 => Spec::exited("by the hour").billing("onDemand"),
                2 => Spec::running("odd").status("hibernated"),
                _ => Spec::running("web"),
            };
            world.add(spec.id(&id).quirks(n));
        }
        let stage = Stage::new(*kind, world);
        for fault in [
            "list%10:status=503*6",
            "list%10:truncated*4",
            "jobs%20:malformed*2",
            "get%20:cut-before*4",
            "any%10:delay=50",
            "migrate%10:cut-before*2",
            "migrate%10:cut-after*2",
            "migrate%10:status=429,retry-after=1*2",
            "migrate%10:status=503*2",
            "migrate%10:status=503,effect*2",
            "migrate%10:status=400,reason=INSUFFICIENT_RESOURCE*2",
            "migrate%10:status=400,message=invalid state change,effect*2",
            "migrate%10:late=20000*1",
            "migrate%10:truncated*1",
        ] {
            stage.fault(fault);
        }
        let mut migrated = 0;
        for _ in 0..5 {
            let output = stage.call("run -o json").output();
            assert!(matches!(output.code(), 0 | 1), "{output:?}");
            migrated += output.json()["summary"]["migratedInstances"].as_u64().expect("a count");
            stage.provider.advance(5 * MINUTE);
        }
        assert_eq!(stage.migrated(), eligible, "each exactly once");
        assert!(audit::is_complete(&stage) >= eligible.len());
        let applied = u64::try_from(stage.provider.with(|world| world.applied(Op::Migrate))).expect("a count");
        let history = stage.history();
        let executions = history["executions"].as_array().expect("executions");
        let sum = |name: &str| executions.iter().filter_map(|it| it["summary"][name].as_u64()).sum::<u64>();
        assert_eq!((executions.len(), sum("totalInstances"), sum("migratedInstances")), (5, 650, migrated));
        let statistics = &stage.status()["statistics"];
        assert_eq!(statistics["totalMigrations"], applied, "also those that were proved later");
        assert_eq!(statistics["totalErrors"], sum("errorCount"));
        assert_eq!(statistics["totalInstancesProcessed"], 650);
        assert_eq!(statistics["totalExecutions"], 5);
        // Each is accepted in the history, or was unknown and proved by a later pass.
        let attempts = executions.iter().flat_map(|it| it["attempts"].as_array().expect("attempts"));
        let (mut accepted, mut unknown) = (Vec::new(), Vec::new());
        for attempt in attempts {
            let id = attempt["instanceId"].as_str().expect("an id").to_owned();
            match attempt["outcome"].as_str() {
                Some("accepted") => accepted.push(id),
                Some("unknown") => unknown.push(id),
                Some("failed" | "no_room") => {}
                other => panic!("{other:?}"),
            }
        }
        accepted.sort();
        assert!(accepted.windows(2).all(|pair| pair[0] != pair[1]), "{accepted:?}");
        for id in &eligible {
            assert!(accepted.contains(id) || unknown.contains(id), "{id}");
        }
        assert!(!accepted.is_empty() && KEY.len() > 5);
    });
}
