//! What the program is told and how it answers: settings, usage, documents, exit codes.

use std::os::unix::fs::{PermissionsExt, symlink};

use novita_sim::{Spec, World};
use serde_json::Value;

use crate::harness::{BOTH, HOUR, KEY, Kind, MINUTE, Output, Stage, each, keys};

/// Three that are eligible, the first of them the longest down, and a few that are not.
fn small_world() -> World {
    let mut world = World::new(11);
    for (id, stopped_ago_ms) in [("a1", 3_000_000), ("a2", 2_000_000), ("a3", 1_000_000)] {
        world.add(Spec::exited(&format!("train-{id}")).id(id).stopped_ago_ms(stopped_ago_ms));
    }
    world.add(Spec::running("web").id("r1"));
    world.add(Spec::exited("paid").id("o1").billing("onDemand"));
    world
}

/// A way to be wrong about a setting, and what the message must name.
#[derive(Debug)]
struct Wrong {
    words: &'static str,
    env: &'static [(&'static str, &'static str)],
    file: &'static str,
    named: &'static [&'static str],
}

const fn env(env: &'static [(&'static str, &'static str)], named: &'static [&'static str]) -> Wrong {
    Wrong { words: "run", env, file: "", named }
}

const fn file(file: &'static str, named: &'static [&'static str]) -> Wrong {
    Wrong { words: "run --config respot.toml", env: &[], file, named }
}

const fn words(words: &'static str, named: &'static [&'static str]) -> Wrong {
    Wrong { words, env: &[], file: "", named }
}

const WRONG: &[Wrong] = &[
    // Quotes and control characters that no shell took away.
    env(&[("REDIS_KEY_PREFIX", "\"prod:\"")], &["REDIS_KEY_PREFIX", "quotes"]),
    env(&[("RESPOT_STORE_KEY", "aGVsbG8=")], &["RESPOT_STORE_KEY", "openssl rand -base64 32"]),
    env(&[("WEBHOOK_SECRET", "'s3cret'")], &["WEBHOOK_SECRET", "quotes"]),
    env(&[("NOVITA_API_KEY", "sk_5e\ncret")], &["NOVITA_API_KEY", "control character"]),
    file("migration_scope = \"'all'\"", &["MIGRATION_SCOPE", "quotes"]),
    env(&[("REDIS_URL", "sqlite:~/respot/state.db")], &["REDIS_URL", "only expanded by a shell"]),
    env(&[("RESPOT_METRICS_FILE", "~/respot.prom")], &["RESPOT_METRICS_FILE", "only expanded by a shell"]),
    env(
        &[("REDIS_URL", "sqlite:s.db"), ("RESPOT_METRICS_FILE", "s.db")],
        &["RESPOT_METRICS_FILE would overwrite the store"],
    ),
    Wrong {
        words: "report --html respot.toml --config respot.toml",
        env: &[],
        file: "migration_enabled = true",
        named: &["--html would overwrite the configuration file"],
    },
    env(&[("REDIS_URL", "rediss://redis.internal/#insecure")], &["REDIS_URL", "# is not used"]),
    env(&[("REDIS_URL", "redis://redis.internal/0?ssl=true")], &["REDIS_URL", "? or # is not used"]),
    env(&[("HTTPS_PROXY", "'http://proxy:3128'")], &["HTTPS_PROXY", "quotes"]),
    env(&[("ALL_PROXY", "socks5://127.0.0.1:1080")], &["ALL_PROXY", "SOCKS proxies are not supported"]),
    env(&[("http_proxy", "http://:pw12@")], &["http_proxy", "empty host"]),
    env(&[("MIGRATION_INTERVAL_MINUTES", "0")], &["MIGRATION_INTERVAL_MINUTES", "\"0\"", "1 to 60"]),
    env(&[("MIGRATION_INTERVAL_MINUTES", "61")], &["MIGRATION_INTERVAL_MINUTES", "\"61\"", "1 to 60"]),
    env(&[("MIGRATION_INTERVAL_MINUTES", "often")], &["MIGRATION_INTERVAL_MINUTES", "\"often\"", "1 to 60"]),
    env(&[("MIGRATION_INTERVAL_MINUTES", "1.5")], &["MIGRATION_INTERVAL_MINUTES", "\"1.5\"", "whole number"]),
    env(&[("MIGRATION_INTERVAL_MINUTES", "-1")], &["MIGRATION_INTERVAL_MINUTES", "\"-1\""]),
    env(&[("MIGRATION_JOB_TIMEOUT_MS", "59999")], &["MIGRATION_JOB_TIMEOUT_MS", "\"59999\"", "60000 to 1800000"]),
    env(&[("MIGRATION_JOB_TIMEOUT_MS", "1800001")], &["MIGRATION_JOB_TIMEOUT_MS", "\"1800001\"", "60000 to 1800000"]),
    env(&[("MIGRATION_JOB_TIMEOUT_MS", "10m")], &["MIGRATION_JOB_TIMEOUT_MS", "\"10m\""]),
    env(&[("MIGRATION_MAX_CONCURRENT", "0")], &["MIGRATION_MAX_CONCURRENT", "\"0\"", "1 to 20"]),
    env(&[("MIGRATION_MAX_CONCURRENT", "21")], &["MIGRATION_MAX_CONCURRENT", "\"21\"", "1 to 20"]),
    env(&[("MIGRATION_MAX_CONCURRENT", "99999999999999999999999")], &["MIGRATION_MAX_CONCURRENT", "1 to 20"]),
    env(
        &[("MIGRATION_ELIGIBILITY_INTERVAL_HOURS", "0")],
        &["MIGRATION_ELIGIBILITY_INTERVAL_HOURS", "\"0\"", "1 to 168"],
    ),
    env(&[("MIGRATION_ELIGIBILITY_INTERVAL_HOURS", "169")], &["MIGRATION_ELIGIBILITY_INTERVAL_HOURS", "\"169\""]),
    env(&[("MIGRATION_ENABLED", "ture")], &["MIGRATION_ENABLED", "\"ture\"", "true or false"]),
    env(&[("MIGRATION_DRY_RUN", "maybe")], &["MIGRATION_DRY_RUN", "\"maybe\"", "true or false"]),
    env(&[("MIGRATION_RETRY_FAILED", "2")], &["MIGRATION_RETRY_FAILED", "\"2\"", "true or false"]),
    env(&[("MIGRATION_LOG_LEVEL", "verbose")], &["MIGRATION_LOG_LEVEL", "\"verbose\"", "debug"]),
    env(&[("MIGRATION_ELIGIBILITY", "reclaim")], &["MIGRATION_ELIGIBILITY", "\"reclaim\"", "time or reclaimed"]),
    env(&[("MIGRATION_SCOPE", "spto")], &["MIGRATION_SCOPE", "\"spto\"", "spot or all"]),
    env(&[("RUST_LOG", "respot=loud")], &["RUST_LOG", "respot=loud"]),
    env(&[("NOVITA_API_BASE_URL", "api.novita.ai")], &["NOVITA_API_BASE_URL", "\"api.novita.ai\"", "https://"]),
    env(&[("NOVITA_API_BASE_URL", "ftp://x/")], &["NOVITA_API_BASE_URL", "\"ftp://x/\"", "https://"]),
    env(&[("NOVITA_API_BASE_URL", "https://u:pw12@x/")], &["NOVITA_API_BASE_URL", "user"]),
    env(&[("NOVITA_API_BASE_URL", "https://x/?key=1")], &["NOVITA_API_BASE_URL", "query"]),
    env(&[("NOVITA_API_KEY", "two words")], &["NOVITA_API_KEY"]),
    env(&[("NOVITA_API_KEY", "")], &["NOVITA_API_KEY"]),
    env(&[("NOVITA_API_KEY", ""), ("NOVITA_API_KEY_FILE", "none.key")], &["NOVITA_API_KEY_FILE", "none.key"]),
    env(&[("NOVITA_API_KEY", ""), ("NOVITA_API_KEY_FILE", "/dev/null")], &["NOVITA_API_KEY_FILE", "the key is empty"]),
    env(&[("NOVITA_API_KEY", ""), ("NOVITA_API_KEY_FILE", "/dev/zero")], &["NOVITA_API_KEY_FILE", "it is longer than"]),
    env(&[("REDIS_URL", "sqlite:'/var/lib/x.db'")], &["REDIS_URL", "without quotes"]),
    env(&[("REDIS_URL", "sqlite: /var/lib/x.db")], &["REDIS_URL", "blanks"]),
    env(&[("REDIS_URL", "sqlite:$HOME/x.db")], &["REDIS_URL", "variables"]),
    env(&[("REDIS_URL", "sqlite:x.db?mode=memory")], &["REDIS_URL", "parameters"]),
    env(&[("STATE_DIRECTORY", "state")], &["STATE_DIRECTORY is not an absolute path: state"]),
    env(&[("XDG_CONFIG_HOME", "config")], &["XDG_CONFIG_HOME is not an absolute path: config"]),
    env(&[("REDIS_URL", "http://localhost")], &["REDIS_URL", "\"http\"", "redis://"]),
    env(&[("REDIS_URL", "localhost:6379")], &["REDIS_URL", "redis://"]),
    env(&[("REDIS_URL", "redis://")], &["REDIS_URL", "redis://"]),
    env(&[("REDIS_URL", "redis://h/first")], &["REDIS_URL", "database", "redis://"]),
    env(&[("REDIS_URL", "sqlite:")], &["REDIS_URL", "path"]),
    env(&[("MIGRATION_DRYRUN", "true")], &["MIGRATION_DRYRUN", "MIGRATION_DRY_RUN"]),
    env(&[("MIGRATION_DRY_RUNN", "true")], &["MIGRATION_DRY_RUNN", "MIGRATION_DRY_RUN"]),
    env(&[("migration_dry_run", "true")], &["migration_dry_run", "MIGRATION_DRY_RUN"]),
    env(&[("MIGRATION_MAX_CONCURENT", "1")], &["MIGRATION_MAX_CONCURENT", "MIGRATION_MAX_CONCURRENT"]),
    env(&[("RESPOT_CONFG", "x")], &["RESPOT_CONFG", "RESPOT_CONFIG"]),
    env(&[("NOVITA_APIKEY", "x")], &["NOVITA_APIKEY", "NOVITA_API_KEY"]),
    file("migration_dryrun = true", &["migration_dryrun", "migration_dry_run"]),
    file("colour = \"red\"", &["colour", "respot.toml"]),
    file("MIGRATION_SCOPE = \"all\"", &["MIGRATION_SCOPE", "migration_scope"]),
    file("[migration]\nscope = \"all\"", &["migration", "respot.toml"]),
    file("migration_scope = \"spto\"", &["MIGRATION_SCOPE", "\"spto\"", "spot or all", "respot.toml"]),
    file("migration_interval_minutes = 0", &["MIGRATION_INTERVAL_MINUTES", "\"0\"", "1 to 60", "respot.toml"]),
    file("migration_interval_minutes = 1.5", &["migration_interval_minutes", "float", "respot.toml"]),
    file("migration_scope = [\"all\"]", &["migration_scope", "array", "respot.toml"]),
    file("migration_enabled = true\nnovita_api_key = \"sk_5e", &["respot.toml", "line 2"]),
    file("migration_enabled = true\nmigration_enabled = false", &["respot.toml", "line 2"]),
    words("run --config nowhere.toml", &["nowhere.toml"]),
    words("run --store mysql://x", &["--store", "mysql", "redis://"]),
    words("run --eligibility always", &["MIGRATION_ELIGIBILITY", "\"always\"", "--eligibility"]),
    words("run --scope none", &["MIGRATION_SCOPE", "\"none\"", "--scope"]),
    words("run --only [", &["--only", "\"[\""]),
    words("dry-run --exclude a**b", &["--exclude", "a**b"]),
    words("run --max-migrations many", &["--max-migrations", "many"]),
    words("run --max-migrations -1", &["-1"]),
    words("run --dry-run", &["--dry-run"]),
    words("run --detailed-exit-code", &["--detailed-exit-code"]),
    words("run -q -v", &["--quiet", "--verbose"]),
    words("run --log-format xml", &["xml", "json"]),
    words("run --color blue", &["blue", "never"]),
    env(
        &[("RESPOT_PROBE", "nonsense")],
        &["RESPOT_PROBE", "\"nonsense\"", "http:PORT/PATH", "tcp:PORT", "exec:COMMAND"],
    ),
    env(&[("RESPOT_PROBE", "http:0/")], &["RESPOT_PROBE", "\"http:0/\""]),
    env(&[("RESPOT_PROBE", "tcp:65536")], &["RESPOT_PROBE", "\"tcp:65536\""]),
    env(&[("RESPOT_PROBE", "tcp:22/ssh")], &["RESPOT_PROBE", "\"tcp:22/ssh\""]),
    env(&[("RESPOT_PROBE", "https://example.com/")], &["RESPOT_PROBE", "http:PORT/PATH"]),
    env(&[("RESPOT_PROBE_SAMPLES", "29")], &["RESPOT_PROBE_SAMPLES", "\"29\"", "30 to 1000"]),
    env(&[("RESPOT_PROBE_SAMPLES", "1001")], &["RESPOT_PROBE_SAMPLES", "\"1001\"", "30 to 1000"]),
    env(&[("RESPOT_PROBE_TIMEOUT_MS", "99")], &["RESPOT_PROBE_TIMEOUT_MS", "\"99\"", "100 to 60000"]),
    env(&[("RESPOT_PROBE_TIMEOUT_MS", "60001")], &["RESPOT_PROBE_TIMEOUT_MS", "\"60001\"", "100 to 60000"]),
    env(&[("RESPOT_PROBE_TIMEOUT_MS", "5s")], &["RESPOT_PROBE_TIMEOUT_MS", "\"5s\""]),
    env(&[("RESPOT_ROLLOUT_STAGES", "50,10")], &["RESPOT_ROLLOUT_STAGES", "\"50,10\"", "from 1 to 100"]),
    env(&[("RESPOT_ROLLOUT_STAGES", "0,10")], &["RESPOT_ROLLOUT_STAGES", "\"0,10\"", "from 1 to 100"]),
    env(&[("RESPOT_ROLLOUT_STAGES", "10,101")], &["RESPOT_ROLLOUT_STAGES", "\"10,101\"", "from 1 to 100"]),
    env(&[("RESPOT_ROLLOUT_STAGES", "abc")], &["RESPOT_ROLLOUT_STAGES", "\"abc\"", "from 1 to 100"]),
    env(&[("RESPOT_ROLLOUT_STAGES", "10,10")], &["RESPOT_ROLLOUT_STAGES", "\"10,10\"", "greater than the one before"]),
    env(&[("RESPOT_ROLLOUT_STAGES", "10,,100")], &["RESPOT_ROLLOUT_STAGES", "\"10,,100\""]),
    env(
        &[("RESPOT_ROLLOUT_STAGES", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21")],
        &["RESPOT_ROLLOUT_STAGES", "at most 20"],
    ),
    env(&[("RESPOT_ROLLOUT_SOAK_MINUTES", "0")], &["RESPOT_ROLLOUT_SOAK_MINUTES", "\"0\"", "1 to 10080"]),
    env(&[("RESPOT_ROLLOUT_SOAK_MINUTES", "5,10081")], &["RESPOT_ROLLOUT_SOAK_MINUTES", "\"5,10081\"", "1 to 10080"]),
    env(&[("RESPOT_ROLLOUT_SOAK_MINUTES", "-5")], &["RESPOT_ROLLOUT_SOAK_MINUTES", "\"-5\"", "1 to 10080"]),
    env(&[("RESPOT_ROLLOUT_HOLD_MINUTES", "4")], &["RESPOT_ROLLOUT_HOLD_MINUTES", "\"4\"", "5 to 1440"]),
    env(&[("RESPOT_ROLLOUT_HOLD_MINUTES", "1441")], &["RESPOT_ROLLOUT_HOLD_MINUTES", "\"1441\"", "5 to 1440"]),
    env(&[("RESPOT_ROLLOUT_ROLLBACK", "some")], &["RESPOT_ROLLOUT_ROLLBACK", "\"some\"", "all or stage"]),
    env(&[("RESPOT_ROLLOUT_MAY_LOSE", "web-*,[")], &["RESPOT_ROLLOUT_MAY_LOSE", "\"[\""]),
    env(&[("RESPOT_GPU_QUOTA", "0")], &["RESPOT_GPU_QUOTA", "\"0\"", "1 to 1000000"]),
    env(&[("RESPOT_INSTANCE_QUOTA", "0")], &["RESPOT_INSTANCE_QUOTA", "\"0\"", "1 to 1000000"]),
    env(&[("RESPOT_INSTANCE_QUOTA", "many")], &["RESPOT_INSTANCE_QUOTA", "\"many\""]),
    env(&[("RESPOT_ROLLOUT_STAGE", "100")], &["RESPOT_ROLLOUT_STAGE", "RESPOT_ROLLOUT_STAGES"]),
    env(&[("RESPOT_PROB", "tcp:22")], &["RESPOT_PROB", "RESPOT_PROBE"]),
    file("respot_rollout_stages = \"50,10\"", &["RESPOT_ROLLOUT_STAGES", "\"50,10\"", "respot.toml"]),
    file("respot_rollout_stages = [50, 100]", &["respot_rollout_stages", "array", "respot.toml"]),
    words("rollout --stages 50,10", &["--stages", "\"50,10\"", "from 1 to 100"]),
    words("rollout --stages", &["--stages"]),
    words("rollout --soak 0", &["--soak", "\"0\"", "1 to 10080"]),
    words("rollout --rollback some", &["--rollback", "\"some\"", "all or stage"]),
    words("rollout --max-moves 0", &["--max-moves", "0", "at least 1"]),
    words("rollout --max-moves few", &["--max-moves", "few"]),
    words("rollout --probe nonsense", &["--probe", "\"nonsense\"", "tcp:PORT"]),
    words("analyze --probe udp:53", &["--probe", "\"udp:53\"", "tcp:PORT"]),
    words("rollout --may-lose [", &["--may-lose", "\"[\""]),
    words("rollout --only a**b", &["--only", "a**b"]),
    words("rollout --yes status", &["status"]),
    words("rollout stop", &["stop"]),
    words("rollout pause --wait", &["--wait"]),
    words("rollout -o csv", &["csv", "history"]),
    words("history --since yesterday", &["--since", "yesterday"]),
    words("history --limit few", &["--limit", "few"]),
    words("migrate", &["migrate"]),
    words("run everything", &["everything"]),
];

#[test]
fn a_wrong_setting_stops_before_anything_is_asked_of_anybody() {
    let stage = Stage::new(Kind::Sqlite, small_world());
    each(WRONG, |wrong| {
        let folder = tempfile::TempDir::new().expect("a folder");
        let call = |form: &str| {
            std::fs::write(folder.path().join("respot.toml"), wrong.file).expect("written");
            let words = wrong.words.replace("respot.toml", &folder.path().join("respot.toml").display().to_string());
            let call = stage.call(&format!("{form}{words}"));
            wrong.env.iter().fold(call, |call, (name, value)| call.env(name, value)).output().ends_with(2)
        };
        let output = call("").says(["error: "]).says(wrong.named);
        assert_eq!(output.stdout, "", "data goes to stdout, and there is none");
        assert!(!output.all().contains("pw12") && !output.all().contains("sk_5e"), "{}", output.all());

        let output = call("-o json ").says(wrong.named);
        let document = output.json();
        assert_eq!(keys(&document), "error");
        assert_eq!(keys(&document["error"]), "code hint kind message");
        assert_eq!(document["error"]["code"], 2);
        let usage = !output.stderr.contains("MIGRATION_ELIGIBILITY") && wrong.file.is_empty() && wrong.env.is_empty();
        let kind = document["error"]["kind"].as_str().expect("a kind");
        assert!(kind == "configuration" || (usage && kind == "usage"), "{kind}");
        for named in wrong.named {
            let told = format!("{} {}", document["error"]["message"], document["error"]["hint"]).replace("\\\"", "\"");
            assert!(told.contains(named), "{named} is not in {told}");
        }
    });
    assert_eq!(stage.calls(), 0);
    assert_eq!(stage.files(), [] as [std::path::PathBuf; 0], "no store was made");
}

/// Who may not look at a file cannot know that it is not there: it could say that this is a rehearsal.
#[test]
fn a_configuration_file_that_may_not_be_looked_at_stops_the_pass() {
    // What is at the usual place, what hinders, and the code: 0 for "there is no file".
    let rows = [
        ("nothing", "", 0),
        ("a folder without permissions", "Permission denied", 2),
        ("a file without permissions", "Permission denied", 2),
        ("a dangling link", "No such file", 2),
        ("a loop of links", "symbolic links", 2),
        ("a dangling link above", "a link to nothing", 2),
        ("a file for a folder", "Not a directory", 2),
        ("a folder for a file", "Is a directory", 2),
    ];
    each(&rows, |(what, hinders, code)| {
        let stage = Stage::new(Kind::Sqlite, small_world());
        let file = stage.file("config/respot/respot.toml", "migration_dry_run = true");
        let folder = file.parent().expect("a folder");
        let without_permissions =
            |path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o0)).expect("permissions");
        match *what {
            "a folder without permissions" => without_permissions(folder),
            "a file without permissions" => without_permissions(&file),
            what => {
                std::fs::remove_file(&file).expect("removed");
                match what {
                    "a dangling link" => symlink("elsewhere.toml", &file).expect("linked"),
                    "a dangling link above" => {
                        std::fs::remove_dir(folder).expect("removed");
                        symlink("/mnt/absent/respot", folder).expect("linked");
                    }
                    "a loop of links" => symlink("respot.toml", &file).expect("linked"),
                    "a file for a folder" => {
                        std::fs::remove_dir(folder).expect("removed");
                        drop(stage.file("config/respot", ""));
                    }
                    "a folder for a file" => std::fs::create_dir(&file).expect("made"),
                    _ => {}
                }
            }
        }
        let call = stage.call("run").env("XDG_CONFIG_HOME", stage.path("config")).bound_by_permissions();
        let output = call.output().ends_with(*code);
        if *code == 0 {
            assert_eq!(stage.migrated().len(), 3);
        } else {
            output.says(["config/respot/respot.toml", hinders, "--config"]);
            assert_eq!(stage.calls(), 0);
        }
        let _ = std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700));
    });
}

#[test]
fn json_is_asked_for_in_every_spelling() {
    let stage = Stage::new(Kind::Sqlite, small_world());
    each(&["-o json", "-o=json", "-ojson", "--output json", "--output=json"], |spelling| {
        for words in ["run --nonsense", "nonsense", "history --limit x"] {
            let output = stage.call(&format!("{words} {spelling}")).output().ends_with(2);
            assert_eq!(output.json()["error"]["kind"], "usage", "{words}");
        }
    });
}

/// Where a setting is given, and what comes of it: (file at the usual place, file named by the variable, file named by
/// the flag, environment, the interval that counts).
type Layer = (&'static str, &'static str, &'static str, &'static str, u64);

#[test]
fn flag_over_environment_over_file() {
    let rows: &[Layer] = &[
        ("", "", "", "", 15),
        ("migration_interval_minutes = 1", "", "", "", 1),
        ("migration_interval_minutes = \"1\"", "", "", "", 1),
        ("migration_interval_minutes = 1", "migration_interval_minutes = 2", "", "", 2),
        ("migration_interval_minutes = 1", "migration_interval_minutes = 2", "migration_interval_minutes = 3", "", 3),
        ("migration_interval_minutes = 1", "migration_interval_minutes = 2", "migration_interval_minutes = 3", "4", 4),
        ("migration_interval_minutes = 1", "", "", " 5 ", 5),
        ("migration_interval_minutes = 1", "# nothing", "", "", 15),
    ];
    each(rows, |(usual, named, flagged, environment, interval)| {
        let stage = Stage::new(Kind::Sqlite, small_world());
        let mut call = stage.call("status -o json");
        if !usual.is_empty() {
            stage.file("config/respot/respot.toml", usual);
        }
        call = call.env("XDG_CONFIG_HOME", stage.path("config"));
        if !named.is_empty() {
            call = call.env("RESPOT_CONFIG", stage.file("named.toml", named));
        }
        if !flagged.is_empty() {
            call = call.arg("--config").arg(stage.file("flagged.toml", flagged));
        }
        let document = call.env("MIGRATION_INTERVAL_MINUTES", environment).output().ends_with(0).json();
        assert_eq!(document["config"]["intervalMinutes"], *interval);
    });
    // Settings that have a flag.
    let stage = Stage::new(Kind::Sqlite, small_world());
    let out_of_reach = "redis://127.0.0.1:1";
    let call = stage.call("run --scope spot --eligibility time --store sqlite:here.db -q");
    let call =
        call.env("REDIS_URL", out_of_reach).env("MIGRATION_SCOPE", "all").env("MIGRATION_ELIGIBILITY", "reclaimed");
    call.output().ends_with(0);
    assert_eq!(stage.migrated(), ["a1", "a2", "a3"]);
    assert_eq!(stage.files(), [stage.path("here.db")]);
}

#[test]
fn looking_back_needs_no_key_and_no_provider() {
    for kind in BOTH {
        let stage = Stage::new(kind, small_world());
        for words in ["status", "history", "status -o json", "history -o json"] {
            let call = stage.call(words).unset("NOVITA_API_KEY").env("NOVITA_API_BASE_URL", "http://127.0.0.1:1/");
            call.output().ends_with(0);
        }
        for words in ["run", "dry-run"] {
            stage.call(words).unset("NOVITA_API_KEY").output().ends_with(2).says(["NOVITA_API_KEY"]);
        }
        let key = stage.file("key", format!("  {KEY}\n"));
        stage.call("dry-run -q").unset("NOVITA_API_KEY").env("NOVITA_API_KEY_FILE", key).output().ends_with(0);
        assert!(stage.dump().is_empty());
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let stage = Stage::new(Kind::Sqlite, small_world());
    for (words, text) in [("--help", "dry-run"), ("run --help", "--max-migrations"), ("--version", "respot ")] {
        let output = stage.call(words).now(None).output().ends_with(0);
        assert!(output.stdout.contains(text) && output.stderr.is_empty(), "{output:?}");
    }
}

const SUMMARY: &str = "eligibleInstances errorCount exitedInstances migratedInstances noRoomInstances \
    recreatedInstances skippedInstances totalInstances";
const EXECUTION: &str = "completedAt dryRun duration jobId startedAt status summary";
const ATTEMPT: &str = "action at errorKind instanceId instanceName newInstanceId outcome reason responseTime";
const PLAN_ROW: &str = "detail instanceId instanceName reason status until verdict";

fn each_of<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no array {name} in {value}"))
}

/// Times are RFC 3339 in UTC with milliseconds.
fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == "2024-01-15T10:45:00.000Z".len() && text.ends_with('Z') && text.as_bytes()[19] == b'.'
}

fn check_execution(execution: &Value, extra: &str) {
    let mut expected: Vec<&str> = EXECUTION.split(' ').chain(extra.split(' ')).filter(|it| !it.is_empty()).collect();
    expected.sort_unstable();
    assert_eq!(keys(execution), expected.join(" "));
    assert_eq!(keys(&execution["summary"]), SUMMARY);
    assert!(is_time(&execution["startedAt"]) && is_time(&execution["completedAt"]), "{execution}");
    assert!(execution["duration"].is_u64() && execution["dryRun"].is_boolean(), "{execution}");
    assert!(execution["jobId"].as_str().is_some_and(|id| id.starts_with("migration-job-0")), "{execution}");
}

#[test]
fn documents_are_those_of_the_contract() {
    for kind in BOTH {
        let stage = Stage::new(kind, small_world());

        let never = stage.status();
        assert_eq!(never["lastExecution"], Value::Null);
        assert_eq!(never["migrationService"]["status"], "never_executed");

        let plan = stage.call("dry-run -o json").output().ends_with(0).json();
        check_execution(&plan, "plan");
        assert_eq!((&plan["dryRun"], &plan["status"]), (&true.into(), &"completed".into()));

        let run = stage.pass(0);
        check_execution(&run, "attempts plan");
        assert_eq!((&run["dryRun"], &run["status"]), (&false.into(), &"completed".into()));
        let counts = serde_json::json!({"totalInstances": 5, "exitedInstances": 4, "eligibleInstances": 3,
            "migratedInstances": 3, "recreatedInstances": 0, "skippedInstances": 2, "errorCount": 0, "noRoomInstances": 0});
        assert_eq!(run["summary"], counts);
        for (document, verdict) in [(&plan, "migrate"), (&run, "migrate")] {
            let rows = each_of(document, "plan");
            assert_eq!(rows.len(), 5);
            for row in rows {
                assert_eq!(keys(row), PLAN_ROW);
            }
            assert_eq!(rows.iter().filter(|row| row["verdict"] == verdict).count(), 3);
        }
        let attempts = each_of(&run, "attempts");
        assert_eq!(attempts.len(), 3);
        for attempt in attempts {
            assert_eq!(keys(attempt), ATTEMPT);
            assert_eq!((&attempt["action"], &attempt["outcome"]), (&"migrate".into(), &"accepted".into()));
            assert_eq!((&attempt["errorKind"], &attempt["newInstanceId"]), (&Value::Null, &Value::Null));
            assert!(attempt["responseTime"].is_u64() && is_time(&attempt["at"]));
        }

        let history = stage.history();
        assert_eq!(keys(&history), "executions limit offset total");
        assert_eq!((&history["total"], &history["limit"], &history["offset"]), (&1.into(), &1000.into(), &0.into()));
        let executions = each_of(&history, "executions");
        check_execution(&executions[0], "attempts endedMigrations providerCalls writes");
        assert_eq!(executions[0]["attempts"], run["attempts"]);

        let status = stage.status();
        assert_eq!(
            keys(&status),
            "bridges config enabled inFlight lastExecution markets migrationService recovery statistics"
        );
        check_execution(&status["lastExecution"], "");
        assert_eq!(status["lastExecution"]["jobId"], run["jobId"]);
        assert_eq!(
            keys(&status["statistics"]),
            "averageExecutionTime failedExecutions successRate successfulExecutions totalErrors totalExecutions \
             totalInstancesProcessed totalMigrations totalRecreations"
        );
        assert_eq!(
            keys(&status["config"]),
            "dryRun eligibility eligibilityIntervalHours intervalMinutes jobTimeoutMs maxConcurrent provider retryFailed scope"
        );
        assert_eq!(
            keys(&status["recovery"]),
            "ahead announced announcedTaken announcedWithdrawn bridged down elsewhere inPlace lostBy lostInstanceHours open \
             p50Ms p95Ms refusedCalls spells upShare windowMs windows worstMs"
        );
        assert_eq!(keys(&status["bridges"]), "budgetPerDay costToday instances standing");
        assert_eq!(keys(&status["recovery"]["lostBy"]), "comingUp failed heldBack noRoom noticing");
        assert_eq!(keys(&status["migrationService"]), "enabled lastExecution nextExecution recentErrors status");
        assert_eq!(status["migrationService"]["status"], "healthy");
        assert_eq!(keys(&status["inFlight"]), "migrations quarantined recreations rollout undeliveredEvents");
        assert_eq!(status["inFlight"]["migrations"], 3);

        // The scripts of operators, which must never divide by what is not there.
        let number = |name: &str| status["statistics"][name].as_f64().unwrap_or_else(|| panic!("{name}"));
        assert!((number("successfulExecutions") / number("totalExecutions") - 1.0).abs() < f64::EPSILON);
        assert!((number("totalMigrations") / number("totalInstancesProcessed") - 0.6).abs() < f64::EPSILON);
        assert!(number("averageExecutionTime") / 60_000.0 < 1.0);
        assert_eq!((&status["enabled"], &status["lastExecution"]["status"]), (&true.into(), &"completed".into()));

        let disabled = stage
            .call("run -o json")
            .env("MIGRATION_ENABLED", "false")
            .unset("NOVITA_API_KEY")
            .output()
            .ends_with(0)
            .json();
        assert_eq!((&disabled["status"], &disabled["reason"]), (&"skipped".into(), &"disabled".into()));
        assert_eq!(stage.call("status").env("MIGRATION_ENABLED", "false").arg("--check").output().code(), 1);
    }
}

#[test]
fn looking_writes_nothing_anywhere() {
    for kind in BOTH {
        let stage = Stage::new(kind, small_world());
        let looks = ["dry-run", "history", "status", "dry-run -o json --scope all", "status --check"];
        let look = |when: &str| {
            for words in looks {
                let (files, dump) = (stage.files(), stage.dump());
                let code = stage.call(words).output().code();
                assert!(code == 0 || (code == 1 && words.ends_with("--check")), "{words} {when}");
                assert_eq!((stage.files(), stage.dump()), (files, dump), "{words} {when}");
            }
        };
        look("before the first pass");
        assert!(stage.files().is_empty(), "not even an empty file");
        assert_eq!(stage.provider.with(|world| world.log().len()), 0);
        stage.pass(0);
        let writes = stage.provider.with(|world| world.log().len());
        look("after a pass");
        stage.provider.advance(5 * HOUR);
        look("much later");
        assert_eq!(stage.provider.with(|world| world.log().len()), writes);
    }
}

#[test]
fn the_detailed_exit_code_tells_whether_there_is_something_to_do() {
    let stage = Stage::new(Kind::Sqlite, small_world());
    for (words, code) in [
        ("dry-run --detailed-exit-code", 10),
        ("dry-run --detailed-exit-code -o json", 10),
        ("dry-run", 0),
        ("dry-run --detailed-exit-code --max-migrations 0", 0),
        ("dry-run --detailed-exit-code --exclude *", 0),
        ("run -q", 0),
        ("dry-run --detailed-exit-code", 0),
    ] {
        let output: Output = stage.call(words).output();
        assert_eq!(output.code(), code, "{words}: {}", output.stderr);
    }
}

/// Outside a terminal every instance has its line.
#[test]
fn a_terminal_shows_what_needs_explanation() {
    let stage = Stage::new(Kind::Sqlite, small_world());
    let ids = stage.call("dry-run -o json").output().ends_with(0).json();
    let ids: Vec<&str> = ids["plan"].as_array().unwrap().iter().map(|it| it["instanceId"].as_str().unwrap()).collect();
    let listed =
        |text: &str| ids.iter().filter(|id| text.lines().any(|line| line.starts_with(&format!("{id} ")))).count();
    let (short, whole) = (stage.call("dry-run").screen(80), stage.call("dry-run --all").screen(80));
    assert!(listed(&short) < ids.len() && short.contains("\nnot listed: "), "{short}");
    assert!(short.contains(" migrate ") && !short.contains(" is running"), "{short}");
    assert!(listed(&whole) == ids.len() && !whole.contains("not listed"), "{whole}");
    let piped = stage.call("dry-run").output().ends_with(0).stdout;
    assert_eq!(listed(&piped), ids.len(), "{piped}");
}

#[test]
fn health_is_an_exit_code_for_probes() {
    let stage = Stage::new(Kind::Sqlite, small_world());
    let health = |ago: u64, expected: &str, code: i32| {
        stage.provider.advance(ago);
        assert_eq!(stage.status()["migrationService"]["status"], expected);
        assert_eq!(stage.call("status --check").output().code(), code, "{expected}");
    };
    health(0, "never_executed", 1);
    stage.pass(0);
    health(0, "healthy", 0);
    health(29 * MINUTE, "healthy", 0);
    health(2 * MINUTE, "unhealthy", 1);
    stage.pass(0);
    health(0, "healthy", 0);
    stage.fault("list:html");
    stage.pass(3);
    health(0, "unhealthy", 1);
}

/// Other programs may own such a variable; a pass that uses another store than was meant must not be silent about it.
#[test]
fn names_that_mean_something_else_are_pointed_out() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let rows = [
        ("REDIS_URI", "x", "(misspelled?)"),
        ("REDIS_KEY_PREFX", "x", "(misspelled?)"),
        ("REDIS_HOST", "x", "REDIS_HOST is set and not read; REDIS_URL is not set"),
        ("DRY_RUN", "true", "DRY_RUN is set and not read; MIGRATION_DRY_RUN is not set"),
        ("RESPOT_DRY_RUN", "true", "RESPOT_DRY_RUN is set and not read; MIGRATION_DRY_RUN is not set"),
        ("RESPOT_COLOUR_OF_THE_SKY", "x", "there is no such setting"),
        ("RUST_LOG", "info,tower=noisy", "passed over: \"tower=noisy\""),
        ("REDIS_PORT", "tcp://10.0.0.1:6379", ""),
        ("DRY_RUN", "", ""),
    ];
    each(&rows, |(name, value, said)| {
        let output = stage.call("status").env(name, value).unset("REDIS_URL").output().ends_with(0);
        assert!(output.stderr.contains(said), "{name}: {}", output.stderr);
        assert_eq!(output.stderr.is_empty(), said.is_empty(), "{name}: {}", output.stderr);
    });
}

/// A pattern that matches nothing is most likely misspelled, and would leave what was meant alone without a word.
#[test]
fn a_pattern_that_matches_nothing_is_pointed_out() {
    let mut world = World::new(1);
    world.add(Spec::running("train[7]"));
    let stage = Stage::new(Kind::Sqlite, world);
    let rows = [
        ("--only=trian-*", "the pattern \"trian-*\" matches no instance"),
        ("--exclude=web", "the pattern \"web\" matches no instance"),
        ("--only=train[7]", ""),
        ("--exclude=train?7?", ""),
    ];
    for (option, said) in rows {
        for words in ["dry-run", "run", "check-failed"] {
            let output = stage.call(words).arg(option).output().ends_with(0);
            assert_eq!(
                output.stderr.matches("matches no instance").count(),
                usize::from(!said.is_empty()),
                "{words}: {}",
                output.stderr
            );
            assert!(output.stderr.contains(said), "{words} {option}: {}", output.stderr);
        }
    }
}
