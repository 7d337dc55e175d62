//! systemd, cron and compose: the schedule of each, and what it starts, started as it would be.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use novita_sim::World;

use super::{documents, every_minutes, leaves_time, path, read, settings};
use crate::harness::{Call, KEY, Kind, Stage};
use crate::rollout_program::good;
use crate::rollouts::web;

/// A fleet whose passes wait for nothing.
fn stage() -> Stage {
    Stage::new(Kind::Sqlite, World::fleet(7, 12))
}

/// The lines of a unit as `Name=value`, in order.
fn unit(file: &str) -> Vec<(String, String)> {
    let text = read(file);
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

fn values<'a>(unit: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    unit.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str()).collect()
}

fn value<'a>(unit: &'a [(String, String)], name: &str) -> &'a str {
    let [value] = values(unit, name)[..] else { panic!("{name} is there once") };
    value
}

fn seconds(unit: &[(String, String)], name: &str) -> Duration {
    Duration::from_secs(value(unit, name).trim_end_matches('s').parse().unwrap())
}

/// The service as systemd would start it: credentials in a folder, a state folder, its own environment and no other.
#[test]
fn the_service_makes_a_pass() {
    let stage = stage();
    let service = unit("deploy/systemd/respot.service");
    let credentials = stage.path("credentials");
    for credential in values(&service, "LoadCredential") {
        let (name, from) = credential.split_once(':').unwrap();
        let content = match from {
            "/etc/respot/api-key" => format!("{KEY}\n"),
            "/etc/respot/respot.toml" => read("examples/minimal.toml"),
            other => panic!("{other}: what is that?"),
        };
        stage.file(&format!("credentials/{name}"), content);
    }
    let folder = credentials.to_str().unwrap();
    let given = |unit: &[(String, String)]| -> Vec<(String, String)> {
        let lines = values(unit, "Environment").into_iter().map(|it| it.split_once('=').unwrap());
        lines.map(|(name, value)| (name.to_owned(), value.replace("%d", folder))).collect()
    };
    let mut environment = given(&service);
    environment.push(("STATE_DIRECTORY".into(), stage.path("state").to_str().unwrap().into()));
    let start = value(&service, "ExecStart").strip_prefix("/usr/local/bin/respot ").unwrap();
    let arguments: Vec<&str> = start.split(' ').collect();

    let real = settings(&arguments, &environment);
    assert!(!real.rehearsal);
    leaves_time(&real, seconds(&service, "TimeoutStartSec"), seconds(&service, "TimeoutStopSec"));

    let timer = unit("deploy/systemd/respot.timer");
    let minutes = value(&timer, "OnCalendar").strip_prefix("*:0/").unwrap();
    assert_eq!(every_minutes(&format!("*/{minutes} * * * *")), real.interval, "status would be wrong");
    assert!(seconds(&timer, "RandomizedDelaySec") + seconds(&timer, "AccuracySec") < Duration::from_secs(60));
    assert_eq!(value(&timer, "FixedRandomDelay"), "true");

    let rehearsal = unit("deploy/systemd/rehearsal.conf");
    let rehearsed: Vec<_> = environment.iter().cloned().chain(given(&rehearsal)).collect();
    assert!(settings(&arguments, &rehearsed).rehearsal);

    for (environment, migrates) in [(rehearsed, false), (environment, true)] {
        let call = stage.other(env!("CARGO_BIN_EXE_respot")).env("NOVITA_API_BASE_URL", stage.provider.url());
        let call = arguments
            .iter()
            .fold(call, Call::arg)
            .env("MIGRATION_RETRY_FAILED", "false")
            .env("MIGRATION_KEEP_TRYING_MS", "0");
        let call = environment.iter().fold(call, |call, (name, value)| call.env(name, value));
        let now = stage.provider.with(|world| world.now_ms());
        call.now(Some(now)).output().ends_with(0).says(["Migration job completed"]);
        assert_eq!(!stage.migrated().is_empty(), migrates);
    }
}

/// The drop-in makes the service take a step, as the user that owns the state of passes.
#[test]
fn the_service_takes_a_step_of_a_rollout() {
    let (service, dropped) = (unit("deploy/systemd/respot.service"), unit("deploy/systemd/respot-rollout.conf"));
    assert_eq!(values(&dropped, "ExecStart"), ["", "/usr/local/bin/respot rollout --yes"], "the pass is replaced");
    assert_eq!((value(&service, "DynamicUser"), value(&service, "StateDirectory")), ("yes", "respot"));
    assert_eq!(value(&dropped, "User"), "respot", "the name that systemd gives the user of respot.service");
    let (passes, steps) = (unit("deploy/systemd/respot.timer"), unit("deploy/systemd/respot-rollout.timer"));
    let minute =
        |timer: &[(String, String)]| value(timer, "OnCalendar").split(['*', ':', '/']).nth(2).map(str::to_owned);
    assert_ne!(minute(&passes), minute(&steps), "both would wait for one lease");

    let mut world = World::fleet(7, 12);
    world.add(web(0, good()).id("web-0"));
    let stage = Stage::new(Kind::Sqlite, world);
    let words = "rollout --yes -o json";
    let call = stage.call(words).env("RESPOT_PROBE", "http:8080/").env("RESPOT_ROLLOUT_MAY_LOSE", "web-*");
    let document = call.output().ends_with(0).json();
    assert_eq!(document["rollout"]["state"], "moving", "{document}");
}

/// On an instance with a role nobody has to make a file for a key, and no setting asks for one.
#[test]
fn the_service_needs_no_key_on_ec2() {
    let (service, dropped) = (unit("deploy/systemd/respot.service"), unit("deploy/systemd/ec2.conf"));
    assert_eq!(values(&dropped, "LoadCredential"), ["", "respot.toml:/etc/respot/respot.toml"], "the key is left out");
    let stage = stage();
    let file = stage.file("respot.toml", read("examples/ec2.toml"));
    let lines = values(&service, "Environment").into_iter().map(|it| it.split_once('=').unwrap());
    let left = lines.filter(|(name, _)| *name != value(&dropped, "UnsetEnvironment"));
    let replaced = |value: &str| value.replace("%d/respot.toml", file.to_str().unwrap());
    let mut environment: Vec<(String, String)> = left.map(|(name, value)| (name.to_owned(), replaced(value))).collect();
    environment.push(("STATE_DIRECTORY".into(), stage.path("state").to_str().unwrap().into()));
    assert!(environment.iter().all(|(_, value)| !value.contains("%d")), "{environment:?}");
    let loaded = settings(&["run"], &environment);
    assert!(loaded.ec2.is_some() && loaded.account.is_some());
}

/// Each line of the crontab by `/bin/sh` with cron's meagre environment.
#[test]
fn the_lines_of_the_crontab_work() {
    let text = read("deploy/crontab");
    let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let (schedules, assignments): (Vec<&str>, Vec<&str>) = plain.into_iter().partition(|it| it.starts_with('*'));
    assert_eq!(schedules.len(), 1, "one schedule works as the file stands");
    let hidden: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    let schedules = schedules.into_iter().chain(hidden.iter().filter(|it| it.starts_with('*')).copied());
    let (schedules, rollouts): (Vec<&str>, Vec<&str>) = schedules.partition(|it| it.contains("respot run"));
    assert!(hidden.contains(&"MIGRATION_DRY_RUN=true"), "the way to a rehearsal is shown");

    let stage = stage();
    let key = stage.file("api-key", format!("{KEY}\n"));
    let log = stage.path("respot.log");
    let environment: Vec<(String, String)> = assignments
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("/etc/respot/api-key", key.to_str().unwrap())))
        .collect();
    let home = [("STATE_DIRECTORY".to_owned(), stage.path("state").to_str().unwrap().to_owned())];
    let loaded = settings(&["run"], &[&environment[..], &home].concat());

    assert_eq!(rollouts.len(), 1, "one line moves instances to spot");
    let command = rollouts[0].split_at(rollouts[0].find(" /").unwrap()).1;
    let command = command.replace("/usr/local/bin/respot", env!("CARGO_BIN_EXE_respot"));
    let command = command.replace("/var/log/respot.log", log.to_str().unwrap());
    let shell = stage.other("/bin/sh").arg("-c").arg(&command);
    let of_rollouts = hidden.iter().filter(|it| it.starts_with("RESPOT_")).filter_map(|line| line.split_once('='));
    let shell = of_rollouts.fold(shell, |call, (name, value)| call.env(name, value));
    let shell = environment.iter().fold(shell, |call, (name, value)| call.env(name, value));
    let shell = shell.env("HOME", stage.path("")).env("NOVITA_API_BASE_URL", stage.provider.url());
    let shell = shell.env("MIGRATION_KEEP_TRYING_MS", "0");
    assert_eq!(shell.output().ends_with(0).all(), "\n", "all goes into the file");
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("nothing to move") || said.contains("started with"), "{said}");

    let mut quiet = 0;
    for line in schedules {
        let (schedule, command) = line.split_at(line.find(" /").unwrap());
        assert_eq!(every_minutes(schedule), loaded.interval, "status would be wrong");
        assert!(!command.contains('%'), "cron makes a line end of it");
        let now = stage.provider.with(|world| world.now_ms());
        let now = respot::core::world::time::Timestamp::from_millis(now);
        let command = command.replace("respot run", &format!("respot run --now={now}"));
        let command = command.replace("/usr/local/bin/respot", env!("CARGO_BIN_EXE_respot"));
        let command = command.replace("/var/log/respot.log", log.to_str().unwrap());
        for fails in [false, true] {
            let shell = stage
                .other("/bin/sh")
                .arg("-c")
                .arg(&command)
                .env("MIGRATION_RETRY_FAILED", "false")
                .env("MIGRATION_KEEP_TRYING_MS", "0");
            let shell = environment.iter().fold(shell, |call, (name, value)| call.env(name, value));
            let shell = shell.env("HOME", stage.path("")).env("NOVITA_API_BASE_URL", stage.provider.url());
            let shell = if fails { shell.env("NOVITA_API_KEY_FILE", "/nowhere") } else { shell };
            let output = shell.output().ends_with(if fails { 2 } else { 0 });
            if command.contains(">>") {
                assert_eq!(output.all(), "\n", "all goes into the file");
                let said = if fails { "/nowhere" } else { "Migration job completed" };
                assert!(fs::read_to_string(&log).unwrap().contains(said));
            } else {
                quiet += 1;
                assert_eq!(output.all() == "\n", !fails, "a mail comes when something failed, and only then");
            }
        }
    }
    assert_eq!(quiet, 2, "the way to mails is shown");
}

/// What rotates the log does so for the file that the crontab writes.
#[test]
fn the_log_that_is_written_is_rotated() {
    let rotation = read("deploy/logrotate");
    let file = rotation.lines().find_map(|line| line.strip_suffix(" {")).unwrap();
    assert!(read("deploy/crontab").contains(&format!(">> {file} ")));
}

#[test]
fn compose_starts_a_pass_that_remembers_in_redis() {
    let compose = &documents(&read("deploy/compose.yaml"))[0];
    let (respot, redis) = (&compose["services"]["respot"], &compose["services"]["redis"]);
    let words = |value: &serde_json::Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };

    let example = read("deploy/respot.env.example");
    let lines = example.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut environment: BTreeMap<String, String> =
        lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect();
    assert_eq!(environment["NOVITA_API_KEY"], "", "the example holds no key, not even a wrong one");
    environment.insert("NOVITA_API_KEY".into(), KEY.into());
    let own: BTreeMap<String, String> = serde_json::from_value(respot["environment"].clone()).unwrap();
    assert_eq!(own["REDIS_URL"], "redis://redis:6379");
    environment.extend(own);
    let environment: Vec<_> = environment.into_iter().collect();
    let command = words(&respot["command"]);
    let settings = settings(&command.iter().map(String::as_str).collect::<Vec<_>>(), &environment);
    assert!(settings.rehearsal, "whoever only copied the example moves nothing");

    // The schedule is the host's; the guide shows it.
    let guide = read("deploy/README.md");
    let line = guide.lines().find(|line| line.starts_with("*/") && line.contains("compose.yaml")).unwrap();
    assert_eq!(every_minutes(&line[..line.find(" root ").or(line.find(" cd ")).unwrap()]), settings.interval);

    assert_eq!(respot["depends_on"]["redis"]["condition"], "service_healthy");
    assert!(redis["healthcheck"]["test"].is_array() && redis["ports"].is_null());
    let mounted = words(&redis["volumes"]);
    let volumes = compose["volumes"].as_object().unwrap();
    assert!(mounted.iter().all(|it| volumes.contains_key(it.split(':').next().unwrap())), "{mounted:?}");
    assert_eq!((&respot["read_only"], &respot["restart"]), (&true.into(), &"no".into()));
    assert_eq!(words(&respot["env_file"]), ["respot.env"]);
    assert!(read("deploy/.gitignore").lines().any(|line| line == "respot.env"), "the key is not committed");
    let dockerfile = path("deploy").join(respot["build"]["context"].as_str().unwrap());
    assert!(dockerfile.join(respot["build"]["dockerfile"].as_str().unwrap()).metadata().is_ok());
}

/// Redis with the options of `deploy/compose.yaml`: it takes them, and a pass works with it.
#[test]
fn redis_takes_the_options_of_compose() {
    let compose = &documents(&read("deploy/compose.yaml"))[0];
    let command: Vec<String> = serde_json::from_value(compose["services"]["redis"]["command"].clone()).unwrap();
    assert_eq!(command[0], "redis-server");
    let stage = stage();
    let (port, folder) = (crate::redis_server::free_port(), stage.path("data"));
    fs::create_dir_all(&folder).unwrap();
    let server = command[1..].iter().fold(stage.other("redis-server"), Call::arg);
    let server = server.arg("--port").arg(port.to_string()).arg("--dir").arg(&folder).spawn();
    let url = format!("redis://127.0.0.1:{port}");
    let up = |_: u32| {
        std::thread::sleep(Duration::from_millis(50));
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    };
    let came_up = (0..100).any(up);
    let pass = stage
        .call("run")
        .env("REDIS_URL", &url)
        .env("MIGRATION_RETRY_FAILED", "false")
        .env("MIGRATION_KEEP_TRYING_MS", "0")
        .output();
    server.signal(rustix::process::Signal::TERM);
    let server = server.wait();
    assert!(came_up, "{}", server.all());
    pass.ends_with(0);
    assert!(
        folder.join("appendonlydir").metadata().is_ok() || folder.join("appendonly.aof").metadata().is_ok(),
        "it is on the disk"
    );
}
