//! What a person is told to do about an error: that which mends it.

use novita_sim::{Fate, Spec, World};

use crate::harness::{Call, Kind, Stage, side_by_side};
use crate::receiver::{Answer, Receiver};
use crate::redis_server::{RedisServer, free_port};
use crate::tls;

/// What is wrong, how to call the program with it, how it ends, what it says and what it does not say.
struct Row {
    what: &'static str,
    call: fn(&mut Stage) -> Call,
    code: i32,
    says: &'static [&'static str],
    never: &'static [&'static str],
}

const HTTPS: &str = "https://api.invalid/gpu-instance/openapi";

fn clustered(stage: &mut Stage, prefix: &str) -> Call {
    let redis = RedisServer::start_with(&["--cluster-enabled", "yes"], "");
    redis.raw(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    while !format!("{:?}", redis.raw(&["CLUSTER", "INFO"])).contains("cluster_state:ok") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let call = stage.call("run").env("REDIS_URL", redis.url()).env("REDIS_KEY_PREFIX", prefix);
    stage.redis = Some(redis);
    call
}

fn answered_by(stage: &Stage, answer: &'static str) -> Call {
    let provider = Receiver::with(move |_, _| Answer::Whole(answer));
    stage.call("dry-run").env("NOVITA_API_BASE_URL", provider.url("/gpu-instance/openapi"))
}

fn through_a_proxy(stage: &Stage, answer: &'static str) -> Call {
    let proxy = Receiver::with(move |_, _| Answer::Whole(answer));
    stage.call("dry-run").env("NOVITA_API_BASE_URL", HTTPS).env("HTTPS_PROXY", proxy.url(""))
}

const ELSEWHERE: &[&str] = &["check the password", "check that the store is up"];
const KEY: &[&str] = &["NOVITA_API_KEY", "NOVITA_API_BASE_URL"];

const ROWS: &[Row] = &[
    Row {
        what: "a Redis Cluster",
        call: |stage| clustered(stage, "respot:"),
        code: 4,
        says: &["CROSSSLOT", "a Redis Cluster, which is not supported"],
        never: ELSEWHERE,
    },
    Row {
        what: "a Redis Cluster of one server and a prefix with a hash tag",
        call: |stage| clustered(stage, "{respot}:"),
        code: 0,
        says: &["status=completed"],
        never: ELSEWHERE,
    },
    Row {
        what: "a replica",
        call: |stage| {
            let redis = RedisServer::start();
            redis.raw(&["REPLICAOF", "127.0.0.1", "1"]);
            let call = stage.call("run").env("REDIS_URL", redis.url());
            stage.redis = Some(redis);
            call
        },
        code: 4,
        says: &["REDIS_URL points to a replica"],
        never: ELSEWHERE,
    },
    Row {
        what: "an address of Sentinels",
        call: |stage| stage.call("run").env("REDIS_URL", "redis+sentinel://127.0.0.1:26379/mymaster"),
        code: 2,
        says: &["REDIS_URL"],
        never: ELSEWHERE,
    },
    Row {
        what: "a link to nothing",
        call: |stage| {
            std::os::unix::fs::symlink(stage.path("nowhere"), stage.path("link.db")).unwrap();
            let store = format!("--store=sqlite:{}", stage.path("link.db").display());
            stage.call("run").arg(store)
        },
        code: 4,
        says: &["it is a link to nothing", "remove the link"],
        never: ELSEWHERE,
    },
    Row {
        what: "a folder",
        call: |stage| stage.call("status").arg(format!("--store=sqlite:{}", stage.path(".").display())),
        code: 4,
        says: &["it is a folder", "name a file in it"],
        never: ELSEWHERE,
    },
    Row {
        what: "a database of another application",
        call: |stage| {
            let other = rusqlite::Connection::open(stage.path("other.db")).expect("a database");
            other.execute_batch("CREATE TABLE theirs (id INTEGER)").expect("a table");
            stage.call("run").arg(format!("--store=sqlite:{}", stage.path("other.db").display()))
        },
        code: 4,
        says: &["a database of another application", "name another file"],
        never: &["remove", "move"],
    },
    Row {
        what: "an output in the place of a store that does not exist yet",
        call: |stage| {
            let (folder, store) = (stage.path("folder"), stage.path("new.db"));
            std::fs::create_dir(&folder).expect("a folder");
            let call = stage.call("run").arg(format!("--store=sqlite:{}", store.display()));
            call.env("RESPOT_METRICS_FILE", folder.join("../new.db"))
        },
        code: 2,
        says: &["RESPOT_METRICS_FILE would overwrite the store", "name another file"],
        never: ELSEWHERE,
    },
    Row {
        what: "a setting that does not exist",
        call: |stage| stage.call("status").env("MIGRATION_COLOR", "1").env("NOVITA_COLOR", "1"),
        code: 0,
        says: &["MIGRATION_COLOR is set, but there is no such setting", "NOVITA_COLOR is set"],
        never: ELSEWHERE,
    },
    Row {
        what: "a proxy that wants a login, on the way to the provider",
        call: |stage| through_a_proxy(stage, "HTTP/1.1 407 Who Are You\r\ncontent-length: 0\r\n\r\n"),
        code: 3,
        says: &["the proxy refused", "user and password in HTTPS_PROXY"],
        never: KEY,
    },
    Row {
        what: "a proxy that refuses",
        call: |stage| through_a_proxy(stage, "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"),
        code: 3,
        says: &["the proxy refused", "what the proxy allows"],
        never: KEY,
    },
    Row {
        what: "a proxy that answers in place of the provider",
        call: |stage| answered_by(stage, "HTTP/1.1 407 Who Are You\r\ncontent-length: 0\r\n\r\n"),
        code: 3,
        says: &["407", "user and password in HTTPS_PROXY"],
        never: KEY,
    },
    Row {
        what: "a proxy that is down",
        call: |stage| {
            let url = "http://api.invalid/gpu-instance/openapi";
            let call = stage.call("dry-run").env("NOVITA_API_BASE_URL", url);
            call.env("HTTP_PROXY", format!("http://127.0.0.1:{}", free_port()))
        },
        code: 3,
        says: &["cannot connect through HTTP_PROXY", "check that the proxy is up"],
        never: &["check the network"],
    },
    Row {
        what: "an account without money",
        call: |stage| {
            answered_by(stage, "HTTP/1.1 402 Pay\r\ncontent-length: 32\r\n\r\n{\"reason\": \"NOT_ENOUGH_BALANCE\"}")
        },
        code: 3,
        says: &["402 NOT_ENOUGH_BALANCE", "check the balance"],
        never: KEY,
    },
    Row {
        what: "a total that no list reaches",
        call: |stage| {
            stage.fault("list:lying-total=+1000000");
            stage.call("run")
        },
        code: 5,
        says: &["the list of instances is incomplete: the provider announced 1000000 rows and delivered 0"],
        never: &["deadline"],
    },
    Row {
        what: "a page of a firewall",
        call: |stage| answered_by(stage, "HTTP/1.1 403 No\r\ncontent-length: 13\r\n\r\n<html>No page"),
        code: 3,
        says: &["403", "something in between refused", "proxy"],
        never: KEY,
    },
    Row {
        what: "a compressed answer",
        call: |stage| answered_by(stage, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx"),
        code: 3,
        says: &["compressed (gzip)", "something between here and the provider compresses"],
        never: &["JSON"],
    },
    Row {
        what: "a certificate file that is missing",
        call: |stage| {
            stage.call("dry-run").env("NOVITA_API_BASE_URL", HTTPS).env("SSL_CERT_FILE", stage.path("none.pem"))
        },
        code: 2,
        says: &["no CA certificates found", "none.pem", "correct SSL_CERT_FILE, or unset it"],
        never: &["install ca-certificates"],
    },
];

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

#[test]
fn what_is_advised_mends() {
    side_by_side(ROWS, 8, |Row { what, call, code, says, never }| {
        let mut stage = Stage::new(Kind::Sqlite, World::new(1));
        let output = call(&mut stage).now(None).output().ends_with(*code).says(says.iter());
        for word in *never {
            assert!(!output.stderr.contains(word), "{what}: {word} in {}", output.stderr);
        }
    });
}

#[test]
fn an_untrusted_redis_is_a_matter_of_certificates() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let (port, _, _web) = tls::serve(&stage);
    let call = stage.call("run").env("REDIS_URL", format!("rediss://localhost:{port}"));
    let output = call.output().ends_with(4).says(["certificate", "set SSL_CERT_FILE"]);
    for word in ELSEWHERE {
        assert!(!output.stderr.contains(word), "{}", output.stderr);
    }
}

/// Each row: a receiver, and what doctor says of it. A pass could not use any of them.
#[test]
fn doctor_finds_the_receivers_that_a_pass_could_not_use() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let https = stage.provider.url().replace("http:", "https:");
    for (setting, value, says) in [
        ("RESPOT_METRICS_FILE", "/dev/null", "it is no plain file"),
        ("RESPOT_METRICS_FILE", "none/", "is a directory"),
        ("RESPOT_PING_URL", &https, "no TLS connection"),
        ("RESPOT_PUSHGATEWAY_URL", &https, "no TLS connection"),
    ] {
        let doctor = stage.call("doctor").now(None).env(setting, value).output().ends_with(1);
        assert!(doctor.stdout.contains(says), "{setting}={value}: {}", doctor.stdout);
    }
}

/// What a pass could not work with is found by doctor: a place without room for a store, lists that lack rows.
#[test]
fn doctor_ends_as_a_pass_would() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    for (words, fault, code, says) in [
        ("--store sqlite:/sys/x.db", "", 4, "/sys"),
        ("", "jobs:lying-total=+3", 5, "the list of jobs is incomplete: the provider announced 3 rows and delivered 0"),
        ("", "list:lying-total=+5", 5, "the list of instances is incomplete: the provider announced 5 rows"),
    ] {
        if !fault.is_empty() {
            stage.fault(fault);
        }
        // Without instances a pass has no use for jobs.
        for command in ["doctor", "run"].into_iter().take(if fault.starts_with("jobs") { 1 } else { 2 }) {
            let output = stage.call(&format!("{command} {words}")).now(None).output().ends_with(code);
            let all = format!("{}{}", output.stdout, output.stderr);
            assert!(all.contains(says), "{command} {words} {fault}: {all}");
        }
        stage.provider.with(World::clear_faults);
    }
    // Rows without an ID: a pass migrates and recreates nothing.
    stage.provider.with(|world| ["a", "b"].into_iter().for_each(|id| drop(world.add(Spec::running("train").id(id)))));
    stage.fault("list:nameless-row");
    stage.call("run -q").output().ends_with(0);
    let doctor = stage.call("doctor").output().ends_with(0);
    assert!(doctor.stdout.contains("until then passes migrate, and recreate nothing"), "{}", doctor.stdout);
    // A job that does not say where it is at work.
    stage.provider.with(|world| {
        world.clear_faults();
        world.add(Spec::exited("reclaimed").fate(Fate::NeverEnds));
    });
    stage.call("run -q").output().ends_with(0);
    stage.provider.advance(crate::harness::MINUTE);
    stage.fault("jobs:nameless-row");
    let run = stage.call("run").output().ends_with(0);
    assert!(run.stderr.contains("unfinished jobs without a readable instance ID"), "{}", run.stderr);
}

/// Each row: settings of which one keeps the other from having an effect, and what is said.
#[test]
fn settings_without_an_effect_are_said() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let order = ("MIGRATION_RECREATE_ORDER", "delete-first");
    for (one, other, says) in [
        (("RESPOT_NOTICE", "on"), order, "RESPOT_NOTICE has no effect while MIGRATION_RECREATE_ORDER is delete-first"),
        (("RESPOT_BRIDGE_USD_PER_DAY", "5"), order, "RESPOT_BRIDGE_USD_PER_DAY has no effect while"),
        (("RESPOT_NOTICE", "on"), ("MIGRATION_RETRY_FAILED", "false"), "passes only migrate"),
    ] {
        let warned = |name: &str, value: &str| {
            let call = stage.call("status").env(one.0, one.1).env(name, value);
            call.output().ends_with(0).stderr.contains(says)
        };
        assert!(warned(other.0, other.1), "{one:?} {other:?}");
        assert!(!warned("MIGRATION_SCOPE", "spot"), "{one:?}");
    }
}

/// A pipe that gives nothing is not waited for, and one that gives the key is read.
#[test]
fn a_key_may_come_from_a_pipe() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let given = format!("echo {}", crate::harness::KEY);
    for (script, code, says) in [
        ("sleep 7", 2, "nothing comes from it"),
        ("true", 2, "nothing comes from it"),
        (&given, 0, "Migration job completed"),
    ] {
        let words = format!("{script} | NOVITA_API_KEY_FILE=/dev/stdin {} run", env!("CARGO_BIN_EXE_respot"));
        let call = stage.other("sh").arg("-c").arg(words).env("HOME", stage.path(""));
        let output = call.env("NOVITA_API_BASE_URL", stage.provider.url()).output().ends_with(code);
        assert!(output.stderr.contains(says), "{script}: {}", output.stderr);
    }
}

/// It may say that this is a rehearsal: its writer is waited for, and without one there is no pass.
#[test]
fn a_configuration_may_come_from_a_named_pipe() {
    for (writer, code, says) in
        [("sleep 1; echo migration_dry_run=true > c", 0, "true"), (":", 2, "nothing comes from it")]
    {
        let mut world = World::new(1);
        let id = world.add(Spec::exited("worker"));
        let stage = Stage::new(Kind::Sqlite, world);
        let pass = format!("mkfifo c; ({writer}) & {} run -o json --config c", env!("CARGO_BIN_EXE_respot"));
        let call = stage
            .other("sh")
            .arg("-c")
            .arg(pass)
            .env("HOME", stage.path(""))
            .env("NOVITA_API_KEY", crate::harness::KEY);
        let output = call.env("NOVITA_API_BASE_URL", stage.provider.url()).output().ends_with(code);
        assert!(output.all().contains(says), "{writer}: {}", output.all());
        assert_eq!(stage.provider.with(|world| world.migrations_of(&id)), 0, "{writer}");
    }
}
