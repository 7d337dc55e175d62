//! `doctor`: each check in each of its states, what mends it, and that looking changes nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use novita_sim::{Op, Spec, World};
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{BOTH, Call, KEY, Kind, Stage, side_by_side};
use crate::redis_server::{RedisServer, free_port};

/// Parts of addresses and settings that nobody may see; the key is looked for by the harness.
const SECRETS: [&str; 3] = ["hunter2", "c2VjcmV0", "sk_wrong"];

/// No call takes longer, however much hangs: the store and everything else are waited for one after the other.
const LONGEST_SECS: u64 = 12;

fn world() -> World {
    let mut world = World::new(91);
    world.add(Spec::exited("train").id("i1"));
    world
}

fn mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("permissions");
}

fn nobody_listens(path: &str) -> String {
    format!("http://127.0.0.1:{}/{path}", free_port())
}

fn locked_folder(stage: &Stage) -> String {
    let file = stage.file("locked/x", "");
    mode(file.parent().expect("a folder"), 0o555);
    stage.path("locked").display().to_string()
}

fn put_password(call: Call, stage: &mut Stage, login: &str) -> Call {
    let redis = RedisServer::start_with(&["--requirepass", "hunter2"], ":hunter2@");
    let call = call.env("REDIS_URL", redis.url_as(login));
    stage.redis = Some(redis);
    call
}

fn at_work(stage: &mut Stage, call: Call) -> Call {
    stage.put("lease", "migration-job-7");
    call
}

/// What is tried; the store; what is done to the world and to the call; the exit code; and check, status and words of
/// detail or mend. Everything that is neither fine nor skipped has to be in the list.
type Row =
    (&'static str, Kind, fn(&mut Stage, Call) -> Call, i32, &'static [(&'static str, &'static str, &'static str)]);

const ROWS: &[Row] = &[
    (
        "all is well",
        Kind::Sqlite,
        |_, call| call,
        0,
        &[
            (
                "settings",
                "ok",
                "no configuration file; NOVITA_API_KEY, NOVITA_API_BASE_URL, MIGRATION_KEEP_TRYING_MS from the environment",
            ),
            ("secret-files", "skipped", "no secret is read from a file"),
            ("api", "ok", "/gpu-instance/openapi answers"),
            ("key", "ok", "accepts it"),
            ("clock", "ok", "differs from the provider's by"),
            ("store", "ok", "state/respot/state.db is readable and writable"),
            ("webhook", "skipped", "WEBHOOK_URL is not set"),
            ("ping", "skipped", "RESPOT_PING_URL is not set"),
            ("metrics-file", "skipped", "RESPOT_METRICS_FILE is not set"),
            ("pushgateway", "skipped", "RESPOT_PUSHGATEWAY_URL is not set"),
        ],
    ),
    // A proxy is not asked for what stays on this machine.
    (
        "all is well",
        Kind::Redis,
        |_, call| call.env("ALL_PROXY", nobody_listens("")),
        0,
        &[("store", "ok", "redis://127.0.0.1:"), ("api", "ok", "answers")],
    ),
    (
        "everything is set and answers",
        Kind::Redis,
        |stage, call| {
            let place = format!("http://{}", stage.provider.address());
            let call = call.env("WEBHOOK_URL", format!("{place}/hunter2")).env("WEBHOOK_SECRET", "whsec_c2VjcmV0");
            let call = call.env("RESPOT_PING_URL", format!("{place}/hunter2")).env("RESPOT_PUSHGATEWAY_URL", &place);
            call.env("RESPOT_METRICS_FILE", "m.prom").env("RESPOT_TERMINATION_MESSAGE_FILE", "t.json")
        },
        0,
        &[
            ("webhook", "ok", "/… accepts connections"),
            ("ping", "ok", "/… accepts connections"),
            ("pushgateway", "ok", "accepts connections"),
            ("metrics-file", "ok", "m.prom is writable"),
            ("termination-file", "ok", "t.json is writable"),
        ],
    ),
    (
        "no state file yet",
        Kind::Sqlite,
        |stage, call| call.env("XDG_STATE_HOME", stage.path("fresh")),
        0,
        &[("store", "ok", "fresh/respot/state.db will be created by the first pass")],
    ),
    ("a pass is at work", Kind::Sqlite, at_work, 0, &[("store", "ok", "a pass is running: migration-job-7")]),
    ("a pass is at work", Kind::Redis, at_work, 0, &[("store", "ok", "a pass is running: migration-job-7")]),
    (
        "a configuration file",
        Kind::Sqlite,
        |stage, call| call.arg("--config").arg(stage.file("respot.toml", "migration_scope = \"all\"")),
        0,
        &[("settings", "ok", "MIGRATION_SCOPE from /"), ("settings", "ok", "respot.toml; NOVITA_API_KEY")],
    ),
    (
        "a secret in an open configuration file",
        Kind::Sqlite,
        |stage, call| {
            let path = stage.file("respot.toml", "redis_url = \"redis://:hunter2@localhost\"");
            mode(&path, 0o644);
            call.arg("--config").arg(path).arg("--store=sqlite:x.db")
        },
        0,
        &[("secret-files", "warning", "chmod o= ")],
    ),
    (
        "an open key file",
        Kind::Sqlite,
        |stage, call| {
            let path = stage.file("api key", KEY);
            mode(&path, 0o644);
            call.unset("NOVITA_API_KEY").env("NOVITA_API_KEY_FILE", path)
        },
        0,
        &[("secret-files", "warning", "/api key'"), ("key", "ok", "accepts it")],
    ),
    (
        "a closed key file",
        Kind::Sqlite,
        |stage, call| {
            let path = stage.file("key", KEY);
            mode(&path, 0o640);
            call.unset("NOVITA_API_KEY").env("NOVITA_API_KEY_FILE", path)
        },
        0,
        &[("secret-files", "ok", "not readable by others")],
    ),
    (
        "a misspelt store",
        Kind::Sqlite,
        |_, call| call.env("REDIS_ULR", "redis://:hunter2@x"),
        0,
        &[("settings", "warning", "rename it to REDIS_URL")],
    ),
    (
        "switched off",
        Kind::Sqlite,
        |_, call| call.env("MIGRATION_ENABLED", "false"),
        0,
        &[("settings", "warning", "MIGRATION_ENABLED=true")],
    ),
    (
        "no key",
        Kind::Sqlite,
        |_, call| call.unset("NOVITA_API_KEY"),
        2,
        &[
            ("key", "failed", "set NOVITA_API_KEY, or NOVITA_API_KEY_FILE"),
            ("api", "ok", "answers"),
            ("clock", "ok", "differs"),
            ("store", "ok", "writable"),
        ],
    ),
    (
        "a wrong key",
        Kind::Sqlite,
        |_, call| call.env("NOVITA_API_KEY", "sk_wrong"),
        3,
        &[("key", "failed", "set NOVITA_API_KEY"), ("api", "ok", "answers")],
    ),
    (
        "the API is down",
        Kind::Redis,
        |_, call| call.env("NOVITA_API_BASE_URL", nobody_listens("x")),
        3,
        &[
            ("api", "failed", "check the network and NOVITA_API_BASE_URL"),
            ("key", "skipped", "not checked"),
            ("clock", "skipped", "not checked"),
            ("store", "ok", "writable"),
        ],
    ),
    (
        "the API's proxy is down",
        Kind::Sqlite,
        |_, call| call.env("NOVITA_API_BASE_URL", "http://api.invalid").env("ALL_PROXY", nobody_listens("")),
        3,
        &[("settings", "warning", "is not https"), ("api", "failed", "and ALL_PROXY, through which requests go")],
    ),
    (
        "the API behind a proxy",
        Kind::Sqlite,
        |stage, call| {
            let proxy = format!("http://user:pw12@{}", stage.provider.address());
            let base = "http://api.invalid/gpu-instance/openapi";
            call.env("NOVITA_API_BASE_URL", base).env("ALL_PROXY", proxy)
        },
        0,
        &[("settings", "warning", "is not https"), ("api", "ok", "answers through ALL_PROXY (http://127.0.0.1:")],
    ),
    (
        "the API hangs",
        Kind::Sqlite,
        |stage, call| {
            stage.fault("list:hang*9");
            call
        },
        3,
        &[("api", "failed", "no answer within 5 s"), ("key", "skipped", "")],
    ),
    (
        "the API's body does not end",
        Kind::Sqlite,
        |stage, call| {
            stage.fault("list:endless-body*9");
            call
        },
        3,
        &[("api", "failed", "GET /v1/gpu/instances")],
    ),
    (
        "the API is a web page",
        Kind::Sqlite,
        |stage, call| {
            stage.fault("list:html*9");
            call
        },
        3,
        &[("api", "failed", "check NOVITA_API_BASE_URL"), ("key", "skipped", "")],
    ),
    (
        "the API is in trouble",
        Kind::Sqlite,
        |stage, call| {
            stage.fault("list:status=503*9");
            call
        },
        3,
        &[("api", "failed", "the provider has a problem"), ("clock", "ok", "differs")],
    ),
    (
        "the API has enough of us",
        Kind::Sqlite,
        |stage, call| {
            stage.fault("list:status=429*9");
            call
        },
        0,
        &[("api", "warning", "MIGRATION_INTERVAL_MINUTES"), ("key", "skipped", "")],
    ),
    (
        "the clock is late",
        Kind::Sqlite,
        |stage, call| {
            stage.provider.with(|world| world.rules_mut().wire.clock_skew_ms = 200_000);
            call
        },
        0,
        &[("clock", "warning", "3 min behind"), ("clock", "warning", "timedatectl set-ntp true")],
    ),
    (
        "the clock is early, and so is --now",
        Kind::Sqlite,
        |stage, call| {
            stage.provider.with(|world| world.rules_mut().wire.clock_skew_ms = -90_000);
            call.now(Some(0))
        },
        0,
        &[("clock", "warning", "ahead of the provider's")],
    ),
    (
        "the key travels in the open",
        Kind::Sqlite,
        |_, call| call.env("NOVITA_API_BASE_URL", "http://192.0.2.1/x"),
        3,
        &[("settings", "warning", "use https:// in NOVITA_API_BASE_URL"), ("api", "failed", "192.0.2.1")],
    ),
    (
        "Redis is down",
        Kind::Redis,
        |_, call| call.env("REDIS_URL", format!("redis://:hunter2@127.0.0.1:{}", free_port())),
        4,
        &[("store", "failed", "check that the store is up"), ("api", "ok", ""), ("key", "ok", "")],
    ),
    (
        "Redis hangs",
        Kind::Redis,
        |stage, call| {
            stage.redis.as_ref().expect("a server").freeze();
            call
        },
        4,
        &[("store", "failed", "no answer in time"), ("key", "ok", "")],
    ),
    (
        "no Redis at all",
        Kind::Redis,
        |stage, call| call.env("REDIS_URL", format!("redis://{}", stage.provider.address())),
        4,
        &[("store", "failed", "check that the store is up")],
    ),
    (
        "no password",
        Kind::Redis,
        |stage, call| put_password(call, stage, ""),
        4,
        &[("store", "failed", "redis://:PASSWORD@HOST:PORT")],
    ),
    (
        "a wrong password",
        Kind::Redis,
        |stage, call| put_password(call, stage, ":hunter22@"),
        4,
        &[("store", "failed", "redis://USER:PASSWORD@HOST:PORT")],
    ),
    ("the right password", Kind::Redis, |stage, call| put_password(call, stage, ":hunter2@"), 0, &[]),
    (
        "a replica",
        Kind::Redis,
        |stage, call| {
            stage.redis.as_ref().expect("a server").raw(&["REPLICAOF", "127.0.0.1", "1"]);
            call
        },
        4,
        &[("store", "failed", "REPLICAOF NO ONE")],
    ),
    (
        "a server without memory",
        Kind::Redis,
        |stage, call| {
            stage.redis.as_ref().expect("a server").raw(&["CONFIG", "SET", "maxmemory", "1"]);
            call
        },
        4,
        &[("store", "failed", "CONFIG SET maxmemory")],
    ),
    (
        "a user without rights",
        Kind::Redis,
        |stage, call| {
            let redis = stage.redis.as_ref().expect("a server");
            redis.raw(&["ACL", "SETUSER", "ops", "on", ">hunter2", "~*", "+@read", "+ping"]);
            call.env("REDIS_URL", redis.url_as("ops:hunter2@"))
        },
        4,
        &[("store", "failed", "ACL SETUSER")],
    ),
    (
        "a user with the rights that are asked for",
        Kind::Redis,
        |stage, call| {
            let redis = stage.redis.as_ref().expect("a server");
            let rights = ["~respot:*", "+@read", "+@write", "+@scripting", "+ping", "+select", "+info"];
            redis.raw(&[&["ACL", "SETUSER", "ops", "on", ">hunter2"], &rights[..]].concat());
            call.env("REDIS_URL", format!("{}/0", redis.url_as("ops:hunter2@")))
        },
        0,
        &[],
    ),
    (
        "a newer format",
        Kind::Redis,
        |stage, call| {
            stage.put("totals", r#"{"v":99}"#);
            call
        },
        4,
        &[("store", "failed", "use that version")],
    ),
    (
        "a newer format",
        Kind::Sqlite,
        |stage, call| {
            stage.put("totals", r#"{"v":99}"#);
            call
        },
        4,
        &[("store", "failed", "use that version")],
    ),
    (
        "an open state file",
        Kind::Sqlite,
        |stage, call| {
            mode(stage.state_file(), 0o644);
            call
        },
        0,
        &[("state-file", "warning", "chmod 600 ")],
    ),
    (
        "an open folder",
        Kind::Sqlite,
        |stage, call| {
            mode(stage.path("state/respot"), 0o777);
            call
        },
        0,
        &[("state-file", "warning", "chmod o-w ")],
    ),
    (
        "a state file that is not ours to write",
        Kind::Sqlite,
        |stage, call| {
            mode(stage.state_file(), 0o444);
            call.bound_by_permissions()
        },
        4,
        &[("store", "failed", "chmod u+w "), ("state-file", "warning", "chmod 600")],
    ),
    (
        "a folder that is not ours to write",
        Kind::Sqlite,
        |stage, call| {
            let folder = locked_folder(stage);
            call.arg(format!("--store=sqlite:{folder}/new/state.db")).bound_by_permissions()
        },
        4,
        &[("store", "failed", "cannot create"), ("store", "failed", "chmod u+wx ")],
    ),
    (
        "the webhook is down",
        Kind::Sqlite,
        |_, call| call.env("WEBHOOK_URL", nobody_listens("hunter2")).env("WEBHOOK_SECRET", "whsec_c2VjcmV0"),
        1,
        &[("webhook", "failed", "check WEBHOOK_URL")],
    ),
    (
        "the ping is down",
        Kind::Sqlite,
        |_, call| call.env("RESPOT_PING_URL", nobody_listens("hunter2")),
        1,
        &[("ping", "failed", "check RESPOT_PING_URL")],
    ),
    (
        "a name that does not exist",
        Kind::Sqlite,
        |_, call| call.env("RESPOT_PUSHGATEWAY_URL", "http://respot.invalid/hunter2"),
        1,
        &[("pushgateway", "failed", "check RESPOT_PUSHGATEWAY_URL")],
    ),
    (
        "behind a proxy",
        Kind::Sqlite,
        |_, call| {
            call.env("RESPOT_PING_URL", "http://ping.invalid/hunter2").env("ALL_PROXY", "http://proxy.invalid:3128")
        },
        0,
        &[("ping", "warning", "only reachable through ALL_PROXY")],
    ),
    (
        "no folder for metrics",
        Kind::Sqlite,
        |_, call| call.env("RESPOT_METRICS_FILE", "none/m.prom"),
        1,
        &[("metrics-file", "failed", "mkdir -p none")],
    ),
    (
        "metrics in a folder's place",
        Kind::Sqlite,
        |_, call| call.env("RESPOT_METRICS_FILE", "state"),
        1,
        &[("metrics-file", "failed", "set RESPOT_METRICS_FILE to a file")],
    ),
    (
        "metrics where we may not write",
        Kind::Redis,
        |stage, call| {
            let folder = locked_folder(stage);
            call.env("RESPOT_METRICS_FILE", format!("{folder}/m.prom")).bound_by_permissions()
        },
        1,
        &[("metrics-file", "failed", "chmod u+wx ")],
    ),
    (
        "a test event for nobody",
        Kind::Sqlite,
        |_, call| call.arg("--send-test-event"),
        2,
        &[("webhook", "failed", "set WEBHOOK_URL")],
    ),
    (
        "of store and provider the store counts",
        Kind::Redis,
        |_, call| {
            let call = call.env("REDIS_URL", format!("redis://127.0.0.1:{}", free_port()));
            call.env("NOVITA_API_KEY", "sk_wrong")
        },
        4,
        &[("store", "failed", ""), ("key", "failed", "")],
    ),
    (
        "of settings and provider the settings count",
        Kind::Redis,
        |_, call| call.env("NOVITA_API_BASE_URL", nobody_listens("x")).unset("NOVITA_API_KEY"),
        2,
        &[("api", "failed", ""), ("key", "failed", "")],
    ),
];

/// Detail and mend as one text.
fn words(check: &Value) -> String {
    let mend = check["mend"].as_str().map_or_else(String::new, |mend| format!(" -> {mend}"));
    format!("{}{mend}", check["detail"].as_str().expect("a detail"))
}

#[test]
fn every_check_has_its_states_and_looking_changes_nothing() {
    side_by_side(ROWS, 6, |(_, kind, arrange, code, expected)| {
        let mut stage = Stage::new(*kind, world());
        stage.pass(0);
        stage.end_lease();
        let call = stage.call("doctor -o json").now(None);
        let call = arrange(&mut stage, call);
        let frozen = expected.iter().any(|(check, _, words)| *check == "store" && *words == "no answer in time");
        let look = |stage: &Stage| if frozen { Default::default() } else { (stage.dump(), stage.files()) };
        let (before, writes) = (look(&stage), written(&stage));

        let begun = Instant::now();
        let output = call.output().ends_with(*code);
        let took = begun.elapsed().as_secs();
        assert!(took <= LONGEST_SECS, "took {took} s");
        assert_eq!(output.stderr, "");
        for secret in SECRETS {
            assert!(!output.all().contains(secret), "{secret} in {}", output.all());
        }
        assert_eq!((look(&stage), written(&stage)), (before, writes));
        let document = output.json();
        let checks = document["checks"].as_array().expect("checks");
        assert_eq!(document["ok"], *code == 0);
        for (check, status, text) in *expected {
            let found =
                checks.iter().any(|it| it["check"] == *check && it["status"] == *status && words(it).contains(text));
            assert!(found, "no {check} {status} {text:?} in {document:#}");
        }
        for check in checks {
            let bad = ["failed", "warning"].contains(&check["status"].as_str().expect("a status"));
            assert_eq!(bad, check["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{check}");
            let known = expected.iter().any(|(name, status, _)| check["check"] == *name && check["status"] == *status);
            // In a container, and of a test's server, these are right.
            let right = ["container's writable layer", "keeps nothing on disk"].map(|it| words(check).contains(it));
            assert!(!bad || known || right.contains(&true), "unexpected: {check}");
        }
    });
}

/// How many writes reached the provider.
fn written(stage: &Stage) -> u64 {
    stage.provider.with(|world| [Op::Migrate, Op::Create, Op::Delete].map(|op| world.calls(op)).iter().sum())
}

#[test]
fn a_locked_state_file_does_not_hold_it_up_for_long() {
    let stage = Stage::new(Kind::Sqlite, world());
    stage.pass(0);
    let lock = stage.open_sqlite();
    lock.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let begun = Instant::now();
    let output = stage.call("doctor").now(None).output().ends_with(4);
    assert!(begun.elapsed().as_secs() <= LONGEST_SECS);
    assert!(output.stdout.contains("FAIL  store            cannot reach the store"), "{}", output.stdout);
    assert!(output.stdout.contains("another process has locked it"), "{}", output.stdout);
}

#[test]
fn without_a_terminal_it_is_a_line_for_each_check_and_one_for_its_mend() {
    for kind in BOTH {
        let stage = Stage::new(kind, world());
        let output = stage.call("doctor").now(None).env("RESPOT_METRICS_FILE", "none/m").output().ends_with(1);
        let lines: Vec<&str> = output.stdout.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("FAIL  metrics-file     ")).expect("the failed check");
        assert_eq!(lines[at + 1].trim_start(), "-> mkdir -p none");
        assert!(lines.contains(&"-     webhook          WEBHOOK_URL is not set"), "{lines:#?}");
        assert!(lines.last().expect("a verdict").starts_with("1 check failed"), "{lines:#?}");
    }
}

#[test]
fn settings_that_cannot_be_used_end_it_as_they_end_a_pass() {
    let stage = Stage::new(Kind::Sqlite, world());
    let output = stage.call("doctor -o json").env("MIGRATION_INTERVAL_MINUTES", "0").output().ends_with(2);
    assert_eq!(output.json()["error"]["kind"], "configuration");
    output.says(["MIGRATION_INTERVAL_MINUTES", "1-60"].iter().take(1));
}
