//! What must never be in any output: secrets, and whatever a terminal would act on. The second is looked for in every
//! output of every test by the harness; here is the data that brings it.

use novita_sim::{JobRow, Op, Spec, World};
use serde_json::Value;

use crate::harness::{BOTH, KEY, Kind, MINUTE, Stage, each, side_by_side};
use crate::redis_server::RedisServer;

/// The secrets of these tests; the key is looked for by the harness as well.
const SECRETS: [&str; 6] = [KEY, "f00dcafe", "hunter2", "env-of-the-user", "whsec_c2VjcmV0", "line-of-the-file"];

const REDIS: &str = ":hunter2@";

fn world() -> World {
    let mut world = World::new(81);
    for n in 0..3 {
        let spec = Spec::exited(&format!("train-{n}")).id(&format!("i{n}")).env("HF_TOKEN", "env-of-the-user");
        world.add(spec);
    }
    world.rules_mut().create_step_ms = 0;
    world.add(stuck());
    world
}

/// It is to be recreated, and everything that may hold a secret holds one.
fn stuck() -> Spec {
    Spec::stuck("stuck", 600_000).id("stuck").env("PASSWORD", "env-of-the-user").with(|machine| {
        machine.command = "serve --token hunter2-of-the-user".into();
        machine.entrypoint = "sh -c 'PASSWORD=hunter2-of-the-user start'".into();
    })
}

fn leaks(text: &str) -> Vec<&'static str> {
    SECRETS.into_iter().filter(|secret| text.contains(secret)).collect()
}

/// Words, environment and a file (whose path takes the place of FILE), with REDIS for the address of a server that
/// wants a password, and a fault of the provider's.
type Try = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

const TRIES: &[Try] = &[
    ("run", &[], "", ""),
    ("run --log-format json", &[], "", ""),
    ("run -o table", &[], "", ""),
    ("run -o json", &[], "", "migrate:cut-after"),
    ("dry-run", &[], "", ""),
    ("run", &[("NOVITA_API_KEY", ""), ("NOVITA_API_KEY_FILE", "FILE")], "sk_f00dcafe5ecret\n", ""),
    ("run", &[("NOVITA_API_KEY", ""), ("NOVITA_API_KEY_FILE", "FILE")], "sk_f00dcafe\nline-of-the-file\n", ""),
    ("run", &[("NOVITA_API_KEY", ""), ("NOVITA_API_KEY_FILE", "FILE")], "sk_f00dcafe\u{1b}[2J", ""),
    ("run", &[("NOVITA_API_KEY", "sk_f00dcafe with spaces")], "", ""),
    ("run", &[("NOVITA_API_KEY", "Bearer sk_f00dcafe")], "", ""),
    ("run", &[("NOVITA_API_KEY", "sk_f00dcafewrong")], "", ""),
    ("run", &[("NOVITA_API_KEY", ""), ("NOVITA_API_KEY_FILE", "sk_f00dcafe5ecret")], "", ""),
    ("run", &[("NOVITA_API_BASE_URL", "sk_f00dcafe5ecret")], "", ""),
    ("run", &[("NOVITA_API_BASE_URL", "https://user:hunter2@x/")], "", ""),
    ("run", &[("RESPOT_STORE_KEY", "c2VjcmV0")], "", ""),
    ("run", &[("WEBHOOK_SECRET", "whsec_c2VjcmV0"), ("WEBHOOK_URL", "https://x/")], "", ""),
    ("run", &[("WEBHOOK_SECRT", "whsec_c2VjcmV0")], "", ""),
    ("run", &[("NOVITA_APIKEY", "sk_f00dcafe")], "", ""),
    ("run", &[("REDIS_URL", "REDIS")], "", ""),
    ("run --store REDIS", &[], "", ""),
    ("history --store REDIS -o json", &[], "", ""),
    ("status --store REDIS", &[], "", ""),
    ("run", &[("REDIS_URL", "redis://:hunter2@127.0.0.1:1")], "", ""),
    ("run", &[("REDIS_URL", "redis://respot:hunter2@localhost:port")], "", ""),
    ("run", &[("REDIS_URL", "redis://respot:12/hunter2@localhost")], "", ""),
    ("run", &[("REDIS_URL", "redis://respot:12?hunter2@localhost")], "", ""),
    ("run", &[("REDIS_URL", "redis://respot:12#hunter2@localhost")], "", ""),
    ("run", &[("REDIS_URL", "redis://localhost/0?password=hunter2")], "", ""),
    ("run", &[("REDIS_URL", "redis://:hunter2@host/first")], "", ""),
    ("run", &[("REDIS_URL", "respot:hunter2@localhost:6379")], "", ""),
    ("run", &[("REDIS_URL", "http://:hunter2@localhost")], "", ""),
    ("run", &[("REDIS_URL", "rediss://:hunter2@127.0.0.1:1")], "", ""),
    ("run --config FILE", &[], "novita_api_key = \"sk_f00dcafe5ecret\"\nredis_url = \"REDIS\"", ""),
    ("run --config FILE", &[], "novita_api_key = sk_f00dcafe", ""),
    ("run --config FILE", &[], "novita_api_key = \"sk_f00dcafe", ""),
    ("run --config FILE", &[], "novita_api_key = 'sk_f00dcafe' line-of-the-file", ""),
    ("run --config FILE", &[], "novita_api_key = [\"sk_f00dcafe\"]", ""),
    ("run --config FILE", &[], "novita_api_keys = \"sk_f00dcafe\"", ""),
    ("run --config FILE", &[], "novita_api_key \"sk_f00dcafe\"", ""),
    ("run --config FILE", &[], "novita_api_key = \"a\"\nnovita_api_key = \"sk_f00dcafe\"", ""),
    ("run --config FILE", &[], "[novita]\napi_key = \"sk_f00dcafe\"", ""),
    ("run --config FILE", &[], "redis_url = \"mysql://:hunter2@x\"", ""),
    ("run --config FILE", &[], "line-of-the-file hunter2", ""),
    ("run", &[], "", "list:status=401,message=key sk_f00dcafe5ecret is unknown"),
    ("run", &[], "", "list:status=400,message=Authorization~3a Bearer sk_f00dcafe5ecret refused"),
    ("run", &[], "", "migrate:status=400,message=password=hunter2 is too short"),
    ("run", &[], "", "list:malformed"),
    ("run", &[], "", "jobs:truncated*2"),
    ("run", &[], "", "list:html"),
    ("check-failed -o json", &[], "", ""),
    ("check-failed --log-format json", &[("MIGRATION_RECREATE_ORDER", "delete-first")], "", ""),
    ("dry-run", &[("MIGRATION_RECREATE_ORDER", "delete-first")], "", ""),
    ("run", &[("MIGRATION_DRY_RUN", "true")], "", ""),
    ("run -o json", &[], "", "create:status=400,reason=VALIDATOR_PARAM,message=invalid envs PASSWORD=env-of-the-user"),
    ("run", &[], "", "create:status=400,message=command serve --token hunter2-of-the-user is too long"),
    ("run", &[], "", "create:status=400,message=env-of-the-user"),
    ("run", &[], "", "create:malformed*1"),
    ("run", &[], "", "create:html*1"),
    ("run", &[], "", "get:html*9"),
    ("run", &[], "", "get:truncated*9"),
    ("run", &[], "", "get:malformed*9"),
];

#[test]
fn no_secret_is_in_any_output_nor_in_the_store() {
    let redis = RedisServer::start_with(&["--requirepass", "hunter2"], REDIS);
    side_by_side(TRIES, 12, |(words, env, file, fault)| {
        for (level, form) in [("trace", ""), ("", "-vv "), ("", "-q ")] {
            let stage = Stage::new(Kind::Sqlite, world());
            let fill = |text: &str| {
                text.replace("REDIS", &redis.url()).replace("FILE", &stage.path("a.file").display().to_string())
            };
            stage.file("a.file", fill(file));
            if !fault.is_empty() {
                stage.fault(fault);
            }
            let mut call = stage.call(&fill(&format!("{form}{words}"))).env("RUST_LOG", level);
            call = call.env("REDIS_KEY_PREFIX", stage.path("").display().to_string());
            for (name, value) in *env {
                let value =
                    if *name == "NOVITA_API_KEY_FILE" || *name == "REDIS_URL" { fill(value) } else { (*value).into() };
                call = call.env(name, value);
            }
            let output = call.output();
            assert_eq!(leaks(&output.all()), [] as [&str; 0], "{}", output.all());
            for path in stage.files() {
                if path.ends_with("state.db") {
                    let bytes = std::fs::read(path).expect("read");
                    assert_eq!(leaks(&String::from_utf8_lossy(&bytes)), [] as [&str; 0]);
                }
            }
        }
    });
    let mut stage = Stage::new(Kind::Sqlite, world());
    stage.redis = Some(redis);
    let dump = stage.dump();
    assert!(dump.len() > 10, "some of them worked: {dump:?}");
    assert_eq!(leaks(&format!("{dump:?}")), [] as [&str; 0]);
}

/// What happens to the creation of a replacement while its old instance is gone already, or still there.
const CREATIONS: [&str; 5] = [
    "create:delay=1",
    "create:status=400,reason=BALANCE_NOT_ENOUGH,message=env-of-the-user*1",
    "create:status=400,message=serve --token hunter2-of-the-user*1",
    "create:cut-after*1",
    "create:malformed*1",
];

#[test]
fn what_a_replacement_is_made_of_is_stored_only_while_its_old_instance_is_gone() {
    let mut rows = Vec::new();
    for kind in BOTH {
        for order in ["create-first", "delete-first"] {
            rows.extend(CREATIONS.map(|fault| (kind, order, fault)));
        }
    }
    side_by_side(&rows, 10, |(kind, order, fault)| {
        let mut world = World::new(83);
        world.rules_mut().action_step_ms = 0;
        world.add(stuck());
        let stage = Stage::new(*kind, world);
        stage.fault(fault);
        let pass = || {
            let call = stage.call("check-failed -vv -o json").env("MIGRATION_RECREATE_ORDER", order);
            let output = call.env("MIGRATION_RECREATE_WAIT_MS", "1000").output();
            assert_eq!(leaks(&output.all()), [] as [&str; 0], "{}", output.all());
        };
        let holders = || {
            let dump = stage.dump().into_iter();
            dump.filter(|(_, value)| !leaks(value).is_empty()).map(|(key, _)| key).collect::<Vec<_>>()
        };
        pass();
        let gone = stage.provider.with(|world| world.get("stuck").is_none());
        assert_eq!(gone, *order == "delete-first", "which of them comes first");
        assert_eq!(holders().len(), usize::from(gone), "{:?}", holders());
        for _ in 0..4 {
            stage.provider.advance(5 * MINUTE);
            pass();
        }
        assert_eq!(stage.status()["statistics"]["totalRecreations"], 1);
        let made = stage.provider.with(|world| world.machines().map(|it| it.command.clone()).collect::<Vec<_>>());
        assert_eq!(made, ["serve --token hunter2-of-the-user"], "its secrets did arrive where they belong");
        assert_eq!(holders(), [] as [&str; 0]);
        for path in stage.files() {
            let bytes = std::fs::read(&path).expect("read");
            assert_eq!(leaks(&String::from_utf8_lossy(&bytes)), [] as [&str; 0], "{}", path.display());
        }
        for words in ["status", "status -o json", "history -o json"] {
            let output = stage.call(words).output().ends_with(0);
            assert_eq!(leaks(&output.all()), [] as [&str; 0], "{}", output.all());
        }
    });
}

/// Names that break tables, terminals, logs and keys.
const ODD: [&str; 16] = [
    "\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}",
    "\u{9b}2J\u{90}q\u{9c}",
    "line one\nline two\r\nline three\ttab",
    "\u{0}\u{1}\u{8}\u{7f}",
    "abc\u{202e}gpj.exe\u{2066}x\u{2069}\u{200f}\u{200e}\u{61c}",
    "para\u{2028}graph\u{2029}s",
    "🚀 rocket 👩\u{200d}💻 训练",
    "zero\u{200b}width\u{feff}",
    "quote \" backslash \\ percent %s {} ${HOME} `id`",
    "--dry-run",
    "",
    "   ",
    "a=b c=\"d\"",
    "[0;1]*?",
    "e\u{301}\u{301}\u{301}\u{301}",
    "\u{fffd}\u{10ffff}\u{e0001}",
];

#[test]
fn names_are_shown_harmless_and_kept_whole() {
    each(&BOTH, |kind| {
        let mut world = World::new(82);
        world.rules_mut().create_step_ms = 0;
        let mut names: Vec<String> = ODD.iter().map(ToString::to_string).collect();
        names.extend([
            "x".repeat(255),
            "名".repeat(255),
            "👩\u{200d}💻".repeat(85),
            format!("{}end", "\u{1b}[2J".repeat(63)),
        ]);
        for (n, name) in names.iter().enumerate() {
            world.add(Spec::exited(name).id(&format!("n{n:02}")));
        }
        for (n, odd) in ODD.iter().enumerate() {
            world.add(Spec::running("odd status").id(&format!("s{n:02}")).status(&format!("x{odd}")));
            world.add(Spec::exited("odd billing").id(&format!("b{n:02}")).billing(&format!("x{odd}")));
            world.add(Spec::exited("odd id").id(&format!("i{odd}{n:02}")));
            world.add(Spec::exited(odd).id(&format!("j{n:02}")).status("migrating"));
            world.add_job(JobRow {
                id: format!("job {odd}{n}"),
                kind: "instanceMigrate".into(),
                state: "fail".into(),
                error: "FAILED".into(),
                error_message: format!("because {odd}"),
                instance_id: format!("j{n:02}"),
                created_at: world.now_ms() - 60_000,
                visible_at: world.now_ms() - 60_000,
                quirks: 0,
            });
        }
        let stage = Stage::new(*kind, world);
        stage.fault("migrate/n00:status=400,reason=VALIDATOR_PARAM,message=\u{1b}[2J \u{202e} no\u{9b} stock\u{61c}*1");
        let calls = |when: &str| {
            for words in ["dry-run", "dry-run -o json", "dry-run -vv", "dry-run -vv --log-format json"] {
                stage.call(words).arg("--exclude=[n\u{1b}]x").output().ends_with(0);
            }
            for words in ["history", "history -o json", "status", "status -o json"] {
                stage.call(words).output().ends_with(0);
            }
            for name in ODD {
                stage.call("history").arg(format!("--instance={name}").replace('\0', "")).output().ends_with(0);
            }
            let _ = when;
        };
        calls("before");
        let output = stage.call("run -vv --scope all").output().ends_with(1);
        assert!((290..350).contains(&output.stderr.lines().count()), "{}", output.stderr);
        stage.provider.advance(MINUTE / 30);
        let run = stage.call("run -vv --scope all --log-format json -o json").output().ends_with(0);
        for line in run.stderr.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            assert!(line["message"].is_string());
        }
        let document = run.json();
        let rows = document["plan"].as_array().expect("a plan");
        for (n, name) in names.iter().enumerate() {
            let id = format!("n{n:02}");
            let row = rows.iter().find(|row| row["instanceId"] == id.as_str()).expect("a row");
            assert_eq!(row["instanceName"], name.as_str());
        }
        for (n, odd) in ODD.iter().enumerate() {
            let id = format!("i{odd}{n:02}");
            assert_eq!(stage.accepted(&[&id]), [1], "{id:?}");
            assert!(rows.iter().any(|row| row["instanceId"] == id.as_str()));
        }
        assert_eq!(stage.provider.with(|world| world.applied(Op::Migrate)), names.len() + 2 * ODD.len());
        for (n, odd) in ODD.iter().enumerate() {
            let id = format!("j{n:02}");
            let base = if odd.is_empty() { id.as_str() } else { odd };
            let made = stage.provider.with(|world| {
                let made = world.machines().filter(|it| it.name.starts_with(&format!("{base}-recreated-")));
                (
                    made.filter(|it| it.status == "running").count(),
                    world.get(&id).is_some_and(novita_sim::Machine::is_alive),
                )
            });
            assert_eq!(made, (1, false), "{odd:?}");
        }
        stage.provider.advance(10 * MINUTE);
        stage.call("run -o table").output().ends_with(0);
        calls("after");
        assert_eq!(stage.status()["inFlight"]["migrations"], 0);
        // What somebody wrote on the command line comes back harmless, too.
        for word in [
            "--only=\u{1b}[",
            "--eligibility=\u{1b}[2J",
            "--store=\u{1b}[2J",
            "--config=\u{1b}[2J\u{202e}",
            "--\u{1b}[2J",
            "--now=\u{9b}",
        ] {
            stage.call("run").arg(word).now(None).output().ends_with(2);
            stage.call("run -o json").arg(word).now(None).output().ends_with(2);
        }
        stage.call("run").env("MIGRATION_SCOPE", "\u{1b}[2J\n\u{202e}").output().ends_with(2);
        stage.call("run").env("MIGRATION_SCOPE\u{1b}[2J", "x").output();
        stage.call("run").arg("--store=sqlite:\u{1b}[2J\u{202e}.db").output().ends_with(0);
        stage.call("status").arg("--store=sqlite:\u{1b}[2J\u{202e}.db").output().ends_with(0);
    });
}
