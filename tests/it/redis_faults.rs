//! Redis in trouble while a pass migrates and recreates: nothing is done to the provider that is not recorded, and when
//! Redis is well again, with or without its memory, the next passes bring every instance to one successor.

use novita_sim::{Op, Spec, World};
use redis::Value;

use crate::harness::{Kind, MINUTE, Stage, side_by_side};
use crate::redis_server::RedisServer;
use crate::successors::{deleted_last, each_has_one, nothing_twice, quick, recorded_before};

/// What happens to the server, how it is well again, and how the pass must end.
struct Blow {
    what: &'static str,
    strike: fn(&mut RedisServer),
    heal: fn(&mut RedisServer),
    code: i32,
}

const BLOWS: [Blow; 10] = [
    Blow { what: "restarted, empty", strike: RedisServer::restart, heal: |_| {}, code: 4 },
    Blow { what: "killed", strike: RedisServer::kill, heal: RedisServer::restart, code: 4 },
    Blow { what: "flushed", strike: |redis| drop(redis.raw(&["FLUSHALL"])), heal: |_| {}, code: 4 },
    Blow { what: "lease gone", strike: |redis| drop(redis.raw(&["DEL", "respot:lease"])), heal: |_| {}, code: 4 },
    Blow {
        what: "lease of another pass",
        strike: |redis| drop(redis.raw(&["SET", "respot:lease", "migration-job-x", "PX", "60000"])),
        heal: |_| {},
        code: 4,
    },
    Blow {
        what: "read-only",
        strike: |redis| drop(redis.raw(&["REPLICAOF", "127.0.0.1", "1"])),
        heal: |redis| drop(redis.raw(&["REPLICAOF", "NO", "ONE"])),
        code: 4,
    },
    Blow {
        what: "without the right to write",
        strike: |redis| drop(redis.raw(&["ACL", "SETUSER", "default", "-@write"])),
        heal: |redis| drop(redis.raw(&["ACL", "SETUSER", "default", "+@all"])),
        code: 4,
    },
    Blow {
        what: "out of memory",
        strike: |redis| drop(redis.raw(&["CONFIG", "SET", "maxmemory", "1"])),
        heal: |redis| drop(redis.raw(&["CONFIG", "SET", "maxmemory", "0"])),
        code: 4,
    },
    Blow { what: "standing still", strike: |redis| redis.freeze(), heal: |redis| redis.thaw(), code: 4 },
    Blow { what: "slow", strike: |redis| drop(redis.raw(&["CLIENT", "PAUSE", "3000", "ALL"])), heal: |_| {}, code: 0 },
];

impl std::fmt::Debug for Blow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

/// The moment: an answer is on its way, or all that is missing is that the replacements run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Answer(Op),
    Waiting,
}

#[test]
fn redis_in_trouble_in_the_middle_of_a_pass() {
    let answers = [Op::List, Op::Get, Op::Create, Op::Migrate, Op::Delete].map(Moment::Answer);
    let moments = answers.into_iter().chain([Moment::Waiting]);
    let rows: Vec<(Moment, &Blow)> = moments.flat_map(|at| BLOWS.iter().map(move |blow| (at, blow))).collect();
    side_by_side(&rows, 20, |(moment, blow)| struck(*moment, blow));
}

fn struck(moment: Moment, blow: &Blow) {
    let mut world = quick(9);
    if moment == Moment::Waiting {
        // Long enough for the blow to come before the replacements, also on a machine with other things to do.
        world.rules_mut().create_step_ms = 700;
    }
    let names = ["stuck-0", "stuck-1", "down-0", "down-1"].map(ToOwned::to_owned);
    for name in &names {
        let is_stuck = name.starts_with("stuck");
        world.add(if is_stuck { Spec::stuck(name, 600_000) } else { Spec::exited(name) });
    }
    let mut stage = Stage::new(Kind::Redis, world);
    if let Moment::Answer(op) = moment {
        stage.fault(&format!("{}:delay=1000", op.as_str()));
    }
    // One call at a time, so that all that comes after the blow is new.
    let wait = if moment == Moment::Waiting { "3000" } else { "300" };
    let call = stage.call("run -o json").env("MIGRATION_MAX_CONCURRENT", "1");
    let run = call.env("MIGRATION_RECREATE_WAIT_MS", wait).spawn();
    stage.until("it is in the middle", |world| match moment {
        Moment::Answer(op) => world.calls(op) > 0,
        // The last of the migrations was answered, so the pass looks once at the replacements, and waits.
        Moment::Waiting => world.applied(Op::Migrate) == 2 && world.calls(Op::Get) >= 4,
    });
    recorded_before(&stage);
    (blow.strike)(stage.redis.as_mut().expect("a server"));
    let log = stage.provider.with(|world| world.log().to_vec());
    let output = run.wait().ends_with(blow.code);
    if blow.code == 4 {
        assert_eq!(output.json()["error"]["kind"], "store");
        assert_eq!(stage.provider.with(|world| world.log().to_vec()), log, "nothing was done after the blow");
    }
    stage.provider.with(World::clear_faults);
    (blow.heal)(stage.redis.as_mut().expect("a server"));
    stage.end_lease();
    for _ in 0..4 {
        stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "300").output().ends_with(0);
        stage.provider.advance(5 * MINUTE);
    }
    stage.provider.with(|world| {
        each_has_one(world, &names);
        nothing_twice(world);
        deleted_last(world);
    });
    assert_eq!(stage.status()["inFlight"]["recreations"], 0);
}

/// What a server drops when its memory is full is forgotten: only `noeviction` keeps the memory of passes.
#[test]
fn doctor_points_out_a_server_that_evicts() {
    for (most, policy, is_told) in [
        ("64mb", "allkeys-lru", true),
        ("64mb", "volatile-ttl", true),
        ("64mb", "noeviction", false),
        ("0", "allkeys-lru", false),
    ] {
        let mut stage = Stage::new(Kind::Redis, World::new(7));
        stage.redis = Some(RedisServer::start_with(&["--maxmemory", most, "--maxmemory-policy", policy], ""));
        let document = stage.call("doctor -o json").now(None).output().ends_with(0).json();
        let mut checks = document["checks"].as_array().expect("checks").iter();
        let is_it = |it: &&serde_json::Value| it["check"] == "store" && it["detail"].to_string().contains("maxmemory");
        let warning = checks.find(is_it);
        assert_eq!(warning.is_some(), is_told, "{policy} with {most}: {document}");
        let told = warning.is_none_or(|it| {
            it["detail"].to_string().contains(policy) && it["mend"].to_string().contains("noeviction")
        });
        assert!(told, "{document}");
    }
}

/// Whatever a pass needs, doctor needs as well: a user whom the server denies any of it is found out, and the advice mends.
#[test]
fn doctor_makes_every_call_that_a_pass_makes() {
    // A pass's own calls are made by scripts, too.
    let denied = ["~", "hset", "hdel", "hkeys", "hgetall", "hmget", "get", "set", "del", "pexpire", "eval"];
    side_by_side(&denied, 4, |denied| {
        let mut stage = Stage::new(Kind::Redis, quick(7));
        let redis = RedisServer::start();
        let (keys, calls) = match *denied {
            "~" => ("~other:*", "+@all".to_owned()),
            denied => ("~*", format!("-{denied}")),
        };
        redis.raw(&["ACL", "SETUSER", "fleet", "on", ">pw12", keys, "+@all", &calls]);
        let url = redis.url_as("fleet:pw12@");
        stage.redis = Some(redis);
        let call = |words: &str| stage.call(words).env("REDIS_URL", &url).env("REDIS_KEY_PREFIX", "g[p]u:");
        let run = call("run -q").output();
        if run.code() == 4 {
            let status = call("status --check").output();
            assert!(status.code() != 0, "{denied}: {status:?}");
        }
        let doctor = call("doctor -o json").now(None).output();
        // A pass over an empty fleet makes some of these calls only.
        assert!(doctor.code() == 4 && [0, 4].contains(&run.code()), "{denied}: {run:?} {doctor:?}");
        let document = doctor.json();
        let failed = document["checks"].as_array().expect("checks").iter().find(|it| it["status"] == "failed");
        let advice = failed.expect("a failed check")["mend"].as_str().expect("advice").to_owned();
        let (_, words) = advice.split_once("ACL SETUSER USER ").unwrap_or_else(|| panic!("{denied}: {advice}"));
        let words: Vec<&str> = words.split(' ').map(|word| word.trim_matches('\'')).collect();
        stage.redis.as_ref().expect("a server").raw(&[&["ACL", "SETUSER", "fleet"], &words[..]].concat());
        call("doctor -q").now(None).output().ends_with(0);
        call("run -q").output().ends_with(0);
    });
}

/// What a server keeps in memory alone is forgotten when it restarts.
#[test]
fn doctor_points_out_a_server_that_keeps_nothing() {
    for (options, is_told) in [(&[][..], true), (&["--appendonly", "yes"], false), (&["--save", "60 1"], false)] {
        let mut stage = Stage::new(Kind::Redis, World::new(7));
        stage.redis = Some(RedisServer::start_with(options, ""));
        let document = stage.call("doctor -o json").now(None).output().ends_with(0).json();
        assert_eq!(document.to_string().contains("keeps nothing on disk"), is_told, "{options:?}: {document}");
    }
}

/// A memory that was lost is noticed by what the provider still lists, and said once.
#[test]
fn a_memory_that_was_lost_is_said() {
    const LOST: &str = "the store is empty, but passes made some of these instances";
    let mut world = quick(9);
    world.add(Spec::stuck("stuck-0", 600_000));
    let stage = Stage::new(Kind::Redis, world);
    let pass = || {
        stage.provider.advance(5 * MINUTE);
        stage.call("run").output().ends_with(0).stderr.matches(LOST).count()
    };
    assert_eq!((pass(), pass()), (0, 0), "it made one itself, and knows that");
    let redis = stage.redis.as_ref().expect("a server");
    redis.raw(&["FLUSHALL"]);
    assert_eq!((pass(), pass()), (1, 0));
    for key in ["respot:totals", "respot:generation"] {
        redis.raw(&["DEL", key]);
        let run = stage.call("run").output().ends_with(0);
        assert!(run.stderr.contains("the store has lost a part of its memory"), "{key}: {}", run.stderr);
        let run = stage.call("run").output().ends_with(0);
        assert!(!run.stderr.contains("memory"), "{key}: once: {}", run.stderr);
    }
}

/// Each row: what a stranger did to the store, and how doctor, a pass and `status` end and what they say. A message names the
/// key as the server knows it.
#[test]
fn what_others_did_to_the_store_is_named() {
    type End = (i32, &'static str);
    const ENDLESS: &str = "another pass is running";
    let rows: &[(&[&str], End, End, End)] = &[
        (&["SET", "respot:writes", "x"], (4, "\"respot:writes\": another type"), (4, "respot:writes"), (0, "")),
        (
            &["HSET", "respot:totals", "a", "b"],
            (4, "\"respot:totals\": another type"),
            (4, "respot:totals"),
            (4, "totals"),
        ),
        (&["HSET", "respot:executions", "x", "{\"v\":99}"], (0, "format 99"), (0, ""), (4, "a newer respot wrote")),
        (&["SET", "respot:rollout", "x"], (0, "passes work, but status or rollout does not"), (0, ""), (4, "rollout")),
        // Doctor shows who holds it; it ends by itself, though nothing renews it.
        (&["SET", "respot:lease", "x"], (0, "a pass is running: x"), (0, ENDLESS), (0, "")),
    ];
    side_by_side(rows, 4, |(command, doctor, run, status)| {
        let stage = Stage::new(Kind::Redis, quick(7));
        let redis = stage.redis.as_ref().expect("a server");
        redis.raw(command);
        for (words, (code, says)) in [("doctor", doctor), ("run", run), ("status", status)] {
            let output = stage.call(words).now(None).output().ends_with(*code);
            let all = format!("{}{}", output.stdout, output.stderr);
            assert!(all.contains(says), "{command:?}, {words}: {all}");
        }
        if run.1 == ENDLESS {
            let left = redis.raw(&["PTTL", "respot:lease"]);
            assert!(matches!(left, Value::Int(1..=30_000)), "it gets a life: {left:?}");
        }
    });
}

/// A server that does not tell how it keeps what it was given is not passed over.
#[test]
fn what_doctor_may_not_ask_is_said() {
    let mut stage = Stage::new(Kind::Redis, World::new(7));
    let redis = RedisServer::start();
    redis.raw(&["ACL", "SETUSER", "fleet", "on", ">pw12", "~*", "+@all", "-info"]);
    let url = redis.url_as("fleet:pw12@");
    stage.redis = Some(redis);
    let doctor = stage.call("doctor").now(None).env("REDIS_URL", &url).output().ends_with(0);
    assert!(doctor.stdout.contains("whether it evicts keys and saves to disk is not known"), "{}", doctor.stdout);
}
