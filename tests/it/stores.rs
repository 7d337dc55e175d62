//! A store in trouble: nothing is done to the provider without a record, and nothing that is stored is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use novita_sim::{Op, Spec, World};
use respot::clock::Clock;
use respot::core::world::time::Timestamp;
use serde_json::{Value, json};

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage, each, side_by_side};
use crate::receiver::Receiver;
use crate::redis_server::{RedisServer, free_port};

fn down(count: usize) -> World {
    let mut world = World::new(51);
    for n in 0..count {
        world.add(Spec::exited(&format!("train-{n}")).id(&format!("i{n:03}")));
    }
    world
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("i{n:03}")).collect()
}

/// The commands that need the store, and fail without it before the provider hears of them.
const COMMANDS: [&str; 5] = ["run", "dry-run", "history", "status", "run -o json"];

fn all_end_with_4(stage: &Stage, url: &str, says: &[&str]) {
    side_by_side(&COMMANDS, 5, |words| {
        let output = stage.call(words).env("REDIS_URL", url).output().ends_with(4).says(says.iter()).says(["hint: "]);
        assert!(!output.all().contains("hunter2"), "{}", output.all());
        if words.ends_with("json") {
            let error = &output.json()["error"];
            assert_eq!((&error["code"], &error["kind"]), (&4.into(), &"store".into()));
        }
    });
    assert_eq!(stage.provider.with(|world| world.log().len()), 0);
}

#[test]
fn no_store_no_pass() {
    let guarded = RedisServer::start_with(&["--requirepass", "hunter2"], ":hunter2@");
    let port = guarded.port();
    let nobody = free_port();
    let stage = Stage::new(Kind::Sqlite, down(2));
    let http = stage.provider.address();
    let rows: &[(String, Vec<String>)] = &[
        (format!("redis://127.0.0.1:{nobody}"), vec![format!("redis://127.0.0.1:{nobody}"), "cannot reach".into()]),
        (format!("redis://:hunter2@127.0.0.1:{nobody}"), vec!["cannot reach".into()]),
        (format!("redis://127.0.0.1:{port}"), vec![format!("redis://127.0.0.1:{port}"), "refused".into()]),
        (format!("redis://:hunter2wrong@127.0.0.1:{port}"), vec!["refused".into(), "password".into()]),
        (format!("redis://respot:hunter2@127.0.0.1:{port}"), vec!["refused".into()]),
        (format!("redis://:hunter2@127.0.0.1:{port}/99"), vec!["refused".into()]),
        (format!("rediss://:hunter2@127.0.0.1:{port}"), vec!["cannot reach".into()]),
        (format!("redis://{http}"), vec!["cannot reach".into()]),
    ];
    side_by_side(rows, 8, |(url, says)| {
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        all_end_with_4(&stage, url, &says);
    });
    assert_eq!(stage.calls(), 0);
}

/// How a file can be wrong, made at this path, and what is said about it.
type BadFile = (&'static str, fn(&PathBuf), &'static [&'static str]);

#[test]
fn a_state_file_that_is_none_is_left_as_it_is() {
    let rows: &[BadFile] = &[
        ("a folder", |path| std::fs::create_dir(path).expect("made"), &["state.db"]),
        (
            "no database",
            |path| std::fs::write(path, "not a database, but long enough".repeat(99)).expect("w"),
            &["cannot be read"],
        ),
        (
            "half a database",
            |path| {
                let whole = std::fs::read(path.with_file_name("whole.db")).expect("read");
                std::fs::write(path, &whole[..whole.len() / 2]).expect("written");
            },
            &["cannot be read"],
        ),
        (
            "damaged in the middle",
            |path| {
                let mut whole = std::fs::read(path.with_file_name("whole.db")).expect("read");
                let length = whole.len();
                whole[4096..length].fill(0xa5);
                std::fs::write(path, whole).expect("written");
            },
            &["cannot be read"],
        ),
        (
            "another program's",
            |path| {
                let connection = rusqlite::Connection::open(path).expect("opened");
                connection.execute_batch("CREATE TABLE cookies (name TEXT)").expect("a table");
            },
            &["another application"],
        ),
        (
            "of a newer layout",
            |path| {
                std::fs::copy(path.with_file_name("whole.db"), path).expect("copied");
                let connection = rusqlite::Connection::open(path).expect("opened");
                connection.pragma_update(None, "user_version", 99).expect("set");
            },
            &["99", "newer respot"],
        ),
    ];
    each(rows, |(_, make, says)| {
        let stage = Stage::new(Kind::Sqlite, down(2));
        stage.call("run -q --max-migrations 0 --store sqlite:whole.db").output().ends_with(0);
        let path = stage.path("state.db");
        make(&path);
        let content =
            || std::fs::metadata(&path).is_ok_and(|it| it.is_file()).then(|| std::fs::read(&path).expect("read"));
        let before = content();
        all_end_with_4(&stage, "sqlite:state.db", says);
        assert_eq!(content(), before);
    });
    let stage = Stage::new(Kind::Sqlite, down(1));
    stage.file("file", "");
    for words in ["run", "dry-run"] {
        stage.call(words).arg("--store=sqlite:file/state.db").output().ends_with(4).says(["file/state.db"]);
    }
    // An empty file is what a first call may have left when it was killed.
    stage.call("run -q --store sqlite:file").output().ends_with(0);
    assert_eq!(stage.migrated(), ["i000"]);
}

#[test]
fn the_state_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new(Kind::Sqlite, down(1));
    stage.pass(0);
    let mode = |path: PathBuf| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(stage.state_file()), 0o600);
    assert_eq!(mode(stage.path("state/respot")), 0o700);
    assert_eq!(stage.files(), [stage.state_file()], "one plain file between the passes");
}

/// Calls that are open, notices that were seen, totals and a pass that was killed: one record of each kind.
fn with_every_record(kind: Kind) -> Stage {
    let mut world = down(3);
    world.add(Spec::running("told").id("told").notified(3_000_000));
    let stage = Stage::new(kind, world);
    stage.call("run -q --max-migrations 1").output().ends_with(0);
    stage.fault("migrate:delay=5000");
    let run = stage.call("run -q --max-migrations 1").spawn();
    stage.until("a second call is made", |world| world.calls(Op::Migrate) == 2);
    run.signal(rustix::process::Signal::KILL);
    assert_eq!(run.wait().code(), 128 + 9);
    stage.end_lease();
    stage.provider.with(World::clear_faults);
    stage
}

/// The records by kind, with a field of each map.
fn records(stage: &Stage) -> Vec<(String, Option<String>)> {
    let dump = stage.dump();
    let open = stage.stored("open-execution").expect("a killed pass");
    let field = |map: &str, field: &str| {
        let wanted = format!("{map}[{field}]");
        assert!(dump.keys().any(|key| key.ends_with(&wanted)), "{wanted}: {dump:?}");
        (map.to_owned(), Some(field.to_owned()))
    };
    vec![
        ("totals".to_owned(), None),
        field("executions", &open),
        field("in-flight", "i000"),
        field("observations", "told"),
    ]
}

#[test]
fn what_a_newer_version_wrote_or_nobody_can_read_is_not_overwritten() {
    /// What becomes of a record, and whether it can still be looked at.
    type Spoil = (&'static str, fn(&str) -> String, bool);
    let spoils: &[Spoil] = &[
        (
            "newer",
            |text| {
                let mut record: Value = serde_json::from_str(text).expect("JSON");
                record["v"] = 2.into();
                record["later"] = json!({"of": "value"});
                record.to_string()
            },
            true,
        ),
        ("newer and quite different", |_| json!({"v": 3, "everything": "else"}).to_string(), false),
        ("garbage", |_| "garbage".into(), false),
        ("empty", |_| String::new(), false),
    ];
    let rows: Vec<(Kind, usize, &Spoil)> =
        BOTH.iter().flat_map(|kind| (0..4).flat_map(move |at| spoils.iter().map(move |it| (*kind, at, it)))).collect();
    each(&rows, |(kind, at, (what, spoil, readable))| {
        let stage = with_every_record(*kind);
        let (name, field) = records(&stage).swap_remove(*at);
        let key = field.as_ref().map_or(name.clone(), |field| format!("{name}[{field}]"));
        let spoilt = spoil(&stage.stored(&key).expect("a record"));
        match &field {
            Some(field) => stage.put_field(&name, field, &spoilt),
            None => stage.put(&name, &spoilt),
        }
        let calls = stage.provider.with(|world| world.log().len());
        let kept = |key: &str| stage.stored(key);
        let (open, before) = (kept("open-execution"), kept(&key));
        for words in ["run", "run -o json", "run"] {
            let output = stage.call(words).output().ends_with(4).says([name.as_str()]);
            if what.starts_with("newer") {
                output.says(["newer", "format"]);
            }
            assert_eq!(kept(&key), before, "it stays as it is");
        }
        assert_eq!(stage.provider.with(|world| world.log().len()), calls, "and nothing is done");
        if name == "totals" || name == "executions" {
            assert_eq!(kept("open-execution"), open, "the killed pass is not forgotten");
        }
        assert!(kept("lease").is_none());
        // Looking goes as far as it can, and never needs what it does not show.
        for words in ["status", "history"] {
            let code = stage.call(words).output().code();
            let needed = name == "executions" || name == "totals";
            assert_eq!(code, if *readable || !needed { 0 } else { 4 }, "{words}");
        }
        // When the record is mended all goes on, and nothing was lost.
        let mut record: Value = serde_json::from_str(&before.expect("there")).unwrap_or_default();
        if record["v"] == 2 {
            record["v"] = 1.into();
            match &field {
                Some(field) => stage.put_field(&name, field, &record.to_string()),
                None => stage.put(&name, &record.to_string()),
            }
            stage.provider.advance(5 * MINUTE);
            stage.pass(0);
            assert_eq!(stage.migrated(), ids(3));
            let status = stage.status();
            assert_eq!(status["statistics"]["totalMigrations"], 3);
            let history = stage.history();
            let states: Vec<&str> =
                history["executions"].as_array().expect("e").iter().filter_map(|it| it["status"].as_str()).collect();
            assert!(states.contains(&"interrupted"), "{states:?}");
        }
    });
}

/// Events and the audit trail are worth no pass: what is damaged of them costs what it held, and is removed.
#[test]
fn a_damaged_record_that_no_decision_rests_on_costs_only_itself() {
    let event = json!({"v": 1, "id": "evt_1", "event": "test", "at": "2026-01-15T12:00:00Z", "body": "{}", "attempts": 0,
        "lastError": null});
    let without = |name: &str| {
        let mut event = event.clone();
        event.as_object_mut().expect("an object").remove(name);
        event.to_string()
    };
    let newer = || json!({"v": 2, "everything": "else"}).to_string();
    let intact = event.to_string();
    // The map and a field, what stands there, the exit code, and whether it is still there afterwards.
    let rows: Vec<(&str, &str, String, i32, bool)> = vec![
        ("outbox", "evt_0", "garbage".into(), 0, false),
        ("outbox", "evt_0", String::new(), 0, false),
        ("outbox", "evt_0", without("body"), 0, false),
        ("outbox", "evt_0", without("at"), 0, false),
        ("outbox", "\u{1b}[31m", "[]".into(), 0, false),
        // It says another id than it is kept under.
        ("outbox", "evt_0", intact.clone(), 0, false),
        ("outbox", "evt_0", newer(), 0, true),
        ("writes", "000000", "garbage".into(), 0, false),
        ("writes", "zzz", "{}".into(), 0, false),
        ("writes", "000000", newer(), 4, true),
        ("told-failures", "gone", "garbage".into(), 0, false),
        ("told-failures", "gone", newer(), 4, true),
    ];
    let rows: Vec<_> = BOTH.iter().flat_map(|kind| rows.iter().map(move |row| (*kind, row))).collect();
    each(&rows, |(kind, (map, field, text, code, stays))| {
        let (stage, receiver) = (with_every_record(*kind), Receiver::willing());
        stage.put_field(map, field, text);
        for words in ["status", "history", "history --writes", "status -o prometheus"] {
            stage.call(words).output().ends_with(0);
        }
        stage.provider.advance(5 * MINUTE);
        let run = stage.call("run").env("WEBHOOK_URL", receiver.url("/")).env("WEBHOOK_SECRET", "secret");
        let output = run.output().ends_with(*code);
        if !stays && *map != "told-failures" && *text != intact {
            output.says(["removed a corrupt record", map]);
        }
        assert_eq!(stage.stored(&format!("{map}[{field}]")).is_some(), *stays);
        assert_eq!(stage.migrated(), if *code == 0 { ids(3) } else { ids(2) });
        let told = receiver.taken().iter().any(|told| told.json()["event"] == "pass.failed");
        assert_eq!(told, *code == 0, "and the other events are told");
    });
}

#[test]
fn a_time_that_is_none_holds_up_its_instance_alone() {
    let values = ["yesterday", "", "{\"v\":2}", "1768478400", "2026-01-15", "\u{1b}[31m2026-01-15T12:00:00Z"];
    let rows: Vec<(Kind, &str)> = BOTH.iter().flat_map(|kind| values.iter().map(|value| (*kind, *value))).collect();
    each(&rows, |(kind, value)| {
        let stage = Stage::new(*kind, down(3));
        stage.call("run -q --max-migrations 0").output().ends_with(0);
        stage.put("migration-times:i001", value);
        let run = stage.pass(0);
        let rows = run["plan"].as_array().expect("a plan");
        assert_eq!(rows[1]["reason"], "unreadable_record");
        assert_eq!(stage.migrated(), ["i000", "i002"]);
        assert_eq!(stage.stored("migration-times:i001").as_deref(), Some(*value), "left for somebody to look at");
    });
    // Other spellings of a time that people and tools write are understood.
    for value in ["2026-01-15T11:00:00Z", "2026-01-15T12:00:00.5+01:00", " 2026-01-15T11:00:00.123Z\n"] {
        let stage = Stage::new(Kind::Redis, down(1));
        stage.put("migration-times:i000", value);
        assert_eq!(stage.pass(0)["plan"][0]["reason"], "cooling_down");
    }
}

#[test]
fn data_of_another_type_is_not_touched() {
    let rows: &[(&str, &[&str])] = &[
        ("migration-times:i001", &["RPUSH", "x"]),
        ("totals", &["HSET", "f", "v"]),
        ("open-execution", &["RPUSH", "x"]),
        ("executions", &["SET", "x"]),
        ("in-flight", &["SET", "x"]),
        ("observations", &["SET", "x"]),
        ("told-failures", &["SET", "x"]),
        ("writes", &["SET", "x"]),
        ("outbox", &["SET", "x"]),
        ("lease", &["RPUSH", "x"]),
    ];
    each(rows, |(key, command)| {
        let stage = Stage::new(Kind::Redis, down(3));
        let redis = stage.redis.as_ref().expect("a server");
        let full = format!("respot:{key}");
        let mut words = vec![command[0], full.as_str()];
        words.extend(&command[1..]);
        redis.raw(&words);
        let kind = redis.raw(&["TYPE", &full]);
        stage.call("run").output().ends_with(4).says([*key]);
        assert_eq!(redis.raw(&["TYPE", &full]), kind);
        assert_eq!(stage.migrated(), [] as [String; 0]);
    });
}

#[test]
fn a_server_that_goes_in_the_middle_of_a_pass_ends_it() {
    /// What happens to the server.
    type Blow = (&'static str, fn(&mut RedisServer));
    let blows: &[Blow] = &[
        ("restarted, empty", RedisServer::restart),
        ("killed", RedisServer::kill),
        ("flushed", |redis| drop(redis.raw(&["FLUSHALL"]))),
        ("lease taken away", |redis| drop(redis.raw(&["DEL", "respot:lease"]))),
        ("lease of another pass", |redis| drop(redis.raw(&["SET", "respot:lease", "migration-job-x", "PX", "500"]))),
        ("read-only", |redis| drop(redis.raw(&["REPLICAOF", "127.0.0.1", "1"]))),
        ("full", |redis| drop(redis.raw(&["CONFIG", "SET", "maxmemory", "1"]))),
    ];
    side_by_side(blows, 7, |(what, blow)| {
        let mut stage = Stage::new(Kind::Redis, down(30));
        stage.fault("migrate:delay=100");
        let run = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "3").spawn();
        stage.until("six calls are made", |world| world.calls(Op::Migrate) >= 6);
        blow(stage.redis.as_mut().expect("a server"));
        let output = run.wait().ends_with(4).says(["error: "]);
        assert_eq!(output.json()["error"]["kind"], "store");
        let made = stage.provider.with(|world| world.calls(Op::Migrate));
        assert!(made < 15, "{made} calls were made though the store was {what}");
        let redis = stage.redis.as_mut().expect("a server");
        redis.restart();
        // The memory is gone, yet what is under way is seen to be so.
        for _ in 0..3 {
            stage.pass(0);
            stage.provider.advance(5 * MINUTE);
        }
        assert_eq!(stage.migrated(), ids(30), "each exactly once");
    });
}

#[test]
fn a_server_that_keeps_its_data_may_be_restarted_in_the_middle_of_a_pass() {
    let mut stage = Stage::new(Kind::Redis, down(12));
    stage.redis = Some(RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"], ""));
    stage.fault("migrate:delay=100");
    let run = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "2").spawn();
    stage.until("four calls are made", |world| world.calls(Op::Migrate) >= 4);
    stage.redis.as_mut().expect("a server").restart();
    assert_eq!(run.wait().ends_with(0).json()["summary"]["migratedInstances"], 12);
    assert_eq!(stage.migrated(), ids(12));
    assert_eq!(stage.status()["lastExecution"]["status"], "completed");
}

#[test]
fn of_two_passes_at_once_one_works() {
    each(&BOTH, |kind| {
        let mut refused = 0;
        let mut migrated = Vec::new();
        let stage = Stage::new(*kind, World::new(52));
        stage.fault("migrate:delay=20");
        for round in 0..20 {
            let ids: Vec<String> = (0..6).map(|n| format!("r{round:02}-{n}")).collect();
            stage.provider.with(|world| {
                for id in &ids {
                    world.add(Spec::exited("x").id(id));
                }
            });
            migrated.extend(ids);
            let calls = [stage.call("run -o json").spawn(), stage.call("run -o json").spawn()];
            let documents = calls.map(|call| call.wait().ends_with(0).json());
            let skipped: Vec<_> = documents.iter().filter(|it| it["reason"] == "another_pass_running").collect();
            refused += skipped.len();
            let running = documents.iter().find(|it| it["status"] == "completed").expect("one did the work");
            for skipped in skipped {
                let message = skipped["message"].as_str().expect("a message");
                assert!(message.contains(running["jobId"].as_str().expect("an id")), "{message}");
            }
            assert_eq!(stage.migrated(), migrated, "each exactly once, round {round}");
            stage.provider.advance(MINUTE);
        }
        assert!(refused >= 10, "{refused} of 20 met at all");
        let status = stage.status();
        assert_eq!(status["statistics"]["totalMigrations"], 120);
        assert_eq!(status["statistics"]["totalExecutions"], 40 - refused);
    });
}

#[test]
fn a_second_pass_says_so_and_looking_goes_on_meanwhile() {
    for kind in BOTH {
        let mut world = World::new(7);
        for (n, cluster) in ["us-xx-1", "eu-xx-2", "ap-xx-1"].into_iter().enumerate() {
            world.add(Spec::exited(&format!("train-{n}")).product("l40s.16c80g", 1).cluster(cluster));
        }
        let stage = Stage::new(kind, world);
        stage.fault("migrate:delay=1500");
        let run = stage.call("run -o json").spawn();
        stage.until("it is at work", |world| world.calls(Op::Migrate) > 0);
        let status = stage.status();
        assert_eq!(status["lastExecution"]["status"], "running");
        assert_eq!(status["lastExecution"]["completedAt"], Value::Null);
        assert_eq!(status["inFlight"]["migrations"], 3);
        assert_eq!(stage.history()["executions"][0]["status"], "running");
        let second = stage.call("run").output().ends_with(0).says(["another pass is running"]);
        assert!(second.stderr.contains(status["lastExecution"]["jobId"].as_str().expect("an id")));
        let table = stage.call("run -q").output().ends_with(0);
        assert_eq!(table.all().trim(), "");
        // Neither a dry run nor a rehearsal is in its way.
        stage.call("dry-run").output().ends_with(0);
        stage.call("run -q").env("MIGRATION_DRY_RUN", "true").output().ends_with(0);
        assert_eq!(run.wait().ends_with(0).json()["summary"]["migratedInstances"], 3);
    }
}

#[test]
fn a_clock_that_jumps_back_loses_nothing() {
    for kind in BOTH {
        let stage = Stage::new(kind, down(2));
        let dawn = stage.provider.with(|world| world.now_ms());
        let hour = 3_600_000;
        let pass = |hours: i64| stage.call("run -o json").now(Some(dawn + hours * hour)).output().ends_with(0).json();
        pass(0);
        let times = || -> BTreeMap<String, String> {
            stage.dump().into_iter().filter(|(key, _)| key.contains("migration-times")).collect()
        };
        stage.provider.with(|world| (world.reclaim_now("i000"), world.reclaim_now("i001")));
        for hours in [-1, -48, -24 * 400] {
            let run = pass(hours);
            assert_eq!(run["plan"][0]["reason"], "cooling_down", "{hours} h");
            // They count from then on.
            let now = Timestamp::from_millis(dawn + (hours + 1) * hour);
            assert!(times().values().all(|at| at.parse::<Timestamp>().expect(at) < now), "{hours} h");
            for words in ["status", "history", "status -o json", "history -o json", "status --check"] {
                let call = stage.call(words).now(Some(dawn + hours * hour));
                let code = call.output().code();
                assert!(code == 0 || words.ends_with("check"), "{words}");
            }
        }
        assert_eq!(stage.accepted(&["i000", "i001"]), [1, 1]);
        assert_eq!(stage.history()["total"], 4);
        stage.provider.advance(5 * HOUR);
        pass(5);
        assert_eq!(stage.accepted(&["i000", "i001"]), [2, 2]);
    }
}

/// One pass by a clock that is a year ahead holds nothing up when it is right again.
#[test]
fn a_pass_with_the_clock_a_year_ahead_leaves_nothing_behind() {
    for kind in BOTH {
        let stage = Stage::new(kind, down(1));
        let dawn = stage.provider.with(|world| world.now_ms());
        let at = |hours: i64| Some(dawn + hours * 3_600_000);
        let pass = |hours: i64| {
            let call = stage.call("run -o json").env("MIGRATION_ESCALATION", "never");
            call.now(at(hours)).output().ends_with(0).json()
        };
        let check = |hours: i64, code, words: &str| {
            let status = stage.call("status --check").now(at(hours)).output().ends_with(code);
            assert!(status.stdout.contains(words), "{}", status.stdout);
        };
        pass(365 * 24);
        check(1, 1, "the clock is wrong, or was");
        stage.provider.advance(HOUR);
        assert!(stage.provider.with(|world| world.reclaim_now("i000")));
        assert_eq!(pass(1)["plan"][0]["reason"], "cooling_down");
        check(1, 0, "on schedule");
        stage.provider.advance(2 * HOUR);
        assert_eq!(pass(3)["plan"][0]["reason"], "cooling_down", "from the first pass with the right time on");
        stage.provider.advance(3 * HOUR);
        pass(6);
        assert_eq!(stage.accepted(&["i000"]), [2]);
        let last = stage.call("history -o json --limit 1").now(at(6)).output().ends_with(0).json();
        assert!(last["executions"][0]["startedAt"].as_str().unwrap().starts_with("2026"), "{last}");
        check(6 + 5 * 24, 1, "overdue by 4 d");
    }
}

/// What the provider dates is compared with the provider's time, whatever the clock of this machine shows.
#[test]
fn a_pass_goes_by_the_clock_of_the_provider() {
    for kind in BOTH {
        let stage = Stage::new(kind, down(1));
        let now = stage.provider.with(|world| {
            world.rules_mut().wire.clock_skew_ms = world.now_ms() - Clock::system().now().as_millis();
            world.now_ms()
        });
        let words = ["the clock of this machine is", "ahead of the provider's; the pass goes by the provider's"];
        let run = stage.call("run -o json").now(None).output().ends_with(0).says(words).json();
        let started = run["startedAt"].as_str().unwrap().parse::<Timestamp>().expect("a time");
        assert!(started.as_millis().abs_diff(now) < 60_000, "{started}");
        let stored = stage.dump().into_iter().find(|(key, _)| key.contains("migration-times")).expect("stored").1;
        assert!(stored.parse::<Timestamp>().expect("a time").as_millis().abs_diff(now) < 60_000, "{stored}");
        assert!(run["duration"].as_i64().unwrap() < 60_000);
        // A machine that is behind holds its lease all the same, which lives by its own clock.
        for ahead in [33_000, 3_600_000, 365 * 86_400_000] {
            let stage = Stage::new(kind, down(1));
            stage.provider.with(|world| world.rules_mut().wire.clock_skew_ms = ahead);
            stage.call("run -q").now(None).output().ends_with(0);
            assert_eq!(stage.accepted(&["i000"]), [1], "{kind:?} {ahead}");
        }
    }
}

/// Names that SQLite takes for something else would each be another memory without a word.
#[test]
fn a_store_is_a_file_that_is_meant() {
    for name in [":memory:", "file:x.db", "file:/x/y.db", "file:x?mode=memory", "file::memory:?cache=shared"] {
        let stage = Stage::new(Kind::Sqlite, down(1));
        for words in ["run -q", "status"] {
            let output = stage.call(words).env("REDIS_URL", format!("sqlite:{name}")).output().ends_with(2);
            assert!(output.stderr.contains("write sqlite:/path/to/state.db"), "{name}: {output:?}");
        }
    }
}

#[test]
fn a_locked_file_is_waited_for() {
    let stage = Stage::new(Kind::Sqlite, down(2));
    stage.call("run -q --max-migrations 0").output().ends_with(0);
    let connection = stage.open_sqlite();
    connection.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let run = stage.call("run -q").spawn();
    sleep(Duration::from_millis(1500));
    connection.execute_batch("COMMIT").expect("unlocked");
    run.wait().ends_with(0);
    // But not for ever.
    connection.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let calls = stage.calls();
    side_by_side(&["run", "history", "status"], 3, |words| {
        stage.call(words).limit(15).output().ends_with(4).says(["locked", "state.db"]);
    });
    assert_eq!(stage.calls(), calls);
}
