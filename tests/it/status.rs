//! `respot status` over passes of the real program: its screen agrees with history, with its document and with the
//! provider's own books, and the scripts of operators get what they read.

use std::io::Write;
use std::process::{Command, Stdio};

use novita_sim::{Fate, Op, Spec, World};
use respot::core::world::time::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage};

const QUARTER: u64 = 15 * MINUTE;

/// A row of the screen by its label: what follows it.
fn row<'a>(screen: &'a str, label: &str) -> &'a str {
    let found = screen.lines().find_map(|line| line.trim_start().strip_prefix(label)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no row {label:?} on\n{screen}")).trim()
}

/// The bars of a row, and its total.
fn bars(screen: &str, label: &str) -> (Vec<char>, u64) {
    let mut parts = row(screen, label).split_whitespace();
    let bars = parts.next().unwrap().chars().collect();
    (bars, parts.next().unwrap().parse().unwrap())
}

/// Begins a pass that cannot go on, and kills it once it is on record.
fn killed_pass(stage: &Stage) {
    stage.fault("list:hang*9");
    let running = stage.call("run -q").spawn();
    let begun = || stage.status()["lastExecution"]["status"] == "running";
    assert!((0..400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        begun()
    }));
    running.signal(Signal::KILL);
    running.wait();
    stage.end_lease();
    stage.provider.with(World::clear_faults);
}

/// Two hours and more: migrations that succeed and fail, a rehearsal, a killed pass, passes that did not take place, a
/// refused migration, a pass by hand.
fn eventful(kind: Kind) -> Stage {
    let mut world = World::new(41);
    world.rules_mut().create_step_ms = 0;
    for (id, fate) in [("ok1", Fate::Succeeds), ("ok2", Fate::Succeeds), ("stuck", Fate::FailsStuck)] {
        world.add(Spec::exited(&format!("train-{id}")).id(id).fate(fate));
    }
    world.add(Spec::running("web").id("web"));
    let stage = Stage::new(kind, world);
    let later = |ms: u64| stage.provider.advance(ms);
    stage.pass(0);
    later(QUARTER);
    stage.pass(0);
    later(5 * MINUTE);
    stage.pass(0);
    later(10 * MINUTE);
    stage.call("run -q").env("MIGRATION_DRY_RUN", "true").output().ends_with(0);
    later(QUARTER);
    killed_pass(&stage);
    later(QUARTER);
    stage.pass(0);
    // The machine slept: three passes are missing.
    later(HOUR);
    stage.provider.with(|world| world.add(Spec::exited("late").id("late").fate(Fate::Succeeds)));
    stage.fault("migrate:status=400,reason=VALIDATOR_PARAM*1");
    stage.pass(1);
    later(QUARTER);
    stage.pass(0);
    later(5 * MINUTE);
    stage
}

#[test]
fn the_screen_agrees_with_history_and_the_provider() {
    for kind in BOTH {
        let stage = eventful(kind);
        let now = stage.provider.with(|world| world.now_ms());
        let screen = stage.call("status").now(Some(now)).output().ends_with(0).stdout;
        let status = stage.call("status -o json").now(Some(now)).output().ends_with(0).json();
        let history = stage.history();
        let executions = history["executions"].as_array().unwrap();
        let real = || executions.iter().filter(|it| it["dryRun"] == false);
        let sum = |name: &str| real().map(|it| it["summary"][name].as_u64().unwrap()).sum::<u64>();

        // The health, the last pass, what is in flight: as the document has them.
        assert_eq!(status["migrationService"]["status"], "degraded");
        assert!(screen.starts_with("degraded: late down for 30 min\n"), "{screen}");
        assert_eq!(row(&screen, "to do"), "see what keeps late down: respot explain late");
        let advice = "see which actions failed, and why: respot history --limit 5, respot explain late";
        assert!(screen.contains(&format!("\n              {advice}\n")), "{screen}");
        assert_eq!(row(&screen, "down"), "1: late for 30 min, coming up");
        let recovery = &status["recovery"];
        assert_eq!((&recovery["spells"], &recovery["open"]), (&json!(4), &json!(1)));
        assert!(row(&screen, "recovery").starts_with("30 d: 4 spells, "), "{screen}");
        let began = status["lastExecution"]["startedAt"].as_str().unwrap();
        let began = format!("({} UTC)", began.split('.').next().unwrap().replace('T', " "));
        let last = row(&screen, "last pass");
        assert!(last.starts_with("completed in ") && last.ends_with(&format!(", 5 min ago {began}")), "{last}");
        assert!(row(&screen, "next pass").starts_with("in "), "{screen}");
        assert_eq!(row(&screen, "in flight"), "1 migration");
        assert_eq!(status["inFlight"]["migrations"], 1);
        assert_eq!(row(&screen, "quarantined"), "none");

        // Hour by hour.
        for (label, name) in
            [("migrated", "migratedInstances"), ("recreated", "recreatedInstances"), ("errors", "errorCount")]
        {
            assert_eq!(bars(&screen, label).1, sum(name), "{label} on\n{screen}");
        }
        let (passes, total) = bars(&screen, "passes");
        assert_eq!((passes.len(), total), (24, executions.len() as u64));
        assert!(row(&screen, "passes").ends_with("1 rehearsal"), "{screen}");
        assert_eq!(bars(&screen, "failed").1, 1, "the killed one");
        for (n, bar) in passes.iter().enumerate() {
            let age = |it: &&Value| now - it["startedAt"].as_str().unwrap().parse::<Timestamp>().unwrap().as_millis();
            let ago = i64::try_from(23 - n).unwrap();
            let hour = i64::try_from(HOUR).unwrap();
            let ran = executions.iter().filter(|it| age(it) / hour == ago).count();
            assert_eq!(*bar == '·', ran == 0, "{ran} passes began {ago} h ago, on\n{screen}");
            let errors = bars(&screen, "errors").0[n];
            assert_eq!(errors == '·', ran == 0, "{screen}");
        }

        // The indicators.
        let attempts = || real().flat_map(|it| it["attempts"].as_array().unwrap());
        let anew = || attempts().filter(|it| it["action"] != "migrate");
        let good = anew().filter(|it| it["outcome"] == "done" && it["newInstanceId"].is_string()).count();
        let bad = anew().filter(|it| it["outcome"] == "failed").count();
        assert_eq!((good, bad), (1, 0));
        assert!(row(&screen, "recreation success").ends_with("ok      1 of 1 recreation"), "{screen}");
        let recorded =
            |part: &str, name: &str| executions.iter().map(|it| it[part][name].as_u64().unwrap()).sum::<u64>();
        let (succeeded, failed) = (recorded("endedMigrations", "succeeded"), recorded("endedMigrations", "failed"));
        let (calls, failures) = (recorded("providerCalls", "total"), recorded("providerCalls", "failed"));
        for (label, part, whole, thing) in [
            ("migration success", succeeded, succeeded + failed, "migrations"),
            ("provider errors", failures, calls, "calls"),
        ] {
            let of = if whole == 0 { "no data".into() } else { format!(" {part} of {whole} {thing}") };
            assert!(row(&screen, label).ends_with(&of), "{label} is not {of:?} on\n{screen}");
        }
        let durations: Vec<i64> = real().filter_map(|it| it["duration"].as_i64()).collect();
        assert_eq!(durations.len(), executions.len() - 2, "the killed one has none, the rehearsal is left out");
        let pass_time = row(&screen, "average pass time");
        assert!(pass_time.ends_with(&format!("mean of {} passes", durations.len())), "{screen}");
        // Every quarter of an hour from the first on, without the three that slept and the one by hand.
        let schedule = row(&screen, "schedule adherence");
        assert!(schedule.starts_with("66.66 %") && schedule.ends_with("missed  6 of 9 due passes"), "{screen}");

        // The totals, and the provider's own books.
        let (migrated, created, deleted) = stage
            .provider
            .with(|world| (world.applied(Op::Migrate), world.applied(Op::Create), world.applied(Op::Delete)));
        let figures = &status["statistics"];
        assert_eq!((migrated, created, deleted), (4, 1, 1));
        assert_eq!(figures["totalMigrations"], migrated);
        assert_eq!(figures["totalRecreations"], created);
        assert_eq!(sum("migratedInstances"), migrated as u64);
        let accepted = "4 migrations accepted, 2 running again, 1 failed";
        assert!(screen.contains(accepted) && screen.contains("1 recreation done, 1 error\n"), "{screen}");
        let running =
            ["ok1", "ok2", "late"].map(|id| stage.provider.with(|world| world.get(id).unwrap().status.clone()));
        assert_eq!(running, ["running", "running", "running"], "and a pass has yet to see the last of them");
        let (all, completed) = (figures["totalExecutions"].as_u64(), figures["successfulExecutions"].as_u64());
        assert_eq!((all, completed), (Some(7), Some(5)));
        assert!(row(&screen, "in all").starts_with("7 passes, 5 completed (71.4 %), "), "{screen}");
        assert_eq!(figures["totalErrors"].as_u64(), Some(sum("errorCount")));
    }
}

#[test]
fn the_screen_does_not_depend_on_colour_or_place() {
    let stage = eventful(Kind::Sqlite);
    let now = Some(stage.provider.with(|world| world.now_ms()));
    let plain = stage.call("status --color never").now(now).output().ends_with(0).stdout;
    let colored = stage.call("status --color always").now(now).colored().output().ends_with(0).stdout;
    let mut parts = colored.split('\u{1b}');
    let mut stripped = parts.next().unwrap().to_owned();
    stripped.extend(parts.map(|part| part.split_once('m').unwrap().1));
    assert_eq!(stripped, plain);
    assert!(!plain.contains('\u{1b}'));
    for code in colored.split('\u{1b}').skip(1).map(|part| part.split('m').next().unwrap()) {
        assert!(["[0", "[2", "[31", "[32", "[33", "[36"].contains(&code), "{code} is none of the basic colours");
    }
}

/// What the scripts that came with the service before read.
const SCRIPTS: [&str; 2] = [
    ".enabled, .lastExecution.status",
    "{success_rate: (.statistics.successfulExecutions / .statistics.totalExecutions * 100), \
      avg_execution_time_minutes: (.statistics.averageExecutionTime / 60000), \
      total_migrations: .statistics.totalMigrations, \
      migration_rate: (.statistics.totalMigrations / .statistics.totalInstancesProcessed * 100)}",
];

/// What jq makes of a document; `None` where it is not installed.
fn jq(words: &[&str], document: &str) -> Option<String> {
    let spawned = Command::new("jq").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.ok()?;
    child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "jq {words:?} on {document}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn scripts_read_the_document_unchanged() {
    let stage = eventful(Kind::Sqlite);
    let document = stage.call("status -o json").output().ends_with(0).stdout;
    let status: Value = serde_json::from_str(&document).unwrap();
    let figure = |name: &str| status["statistics"][name].as_f64().unwrap();
    assert_eq!((&status["enabled"], &status["lastExecution"]["status"]), (&json!(true), &json!("completed")));
    let expected = [
        ("success_rate", figure("successfulExecutions") / figure("totalExecutions") * 100.0),
        ("avg_execution_time_minutes", figure("averageExecutionTime") / 60_000.0),
        ("total_migrations", figure("totalMigrations")),
        ("migration_rate", figure("totalMigrations") / figure("totalInstancesProcessed") * 100.0),
    ];
    assert!((expected[0].1 - 500.0 / 7.0).abs() < 1e-9 && (expected[2].1 - 4.0).abs() < 1e-9, "{expected:?}");
    assert!(expected.iter().all(|(_, value)| value.is_finite()), "{expected:?}");
    let Some(lines) = jq(&["-r", SCRIPTS[0]], &document) else { return };
    assert_eq!(lines, "true\ncompleted\n");
    let figures: Value = serde_json::from_str(&jq(&[SCRIPTS[1]], &document).unwrap()).unwrap();
    for (name, value) in expected {
        assert!((figures[name].as_f64().unwrap() - value).abs() < 1e-9, "{name} in {figures}");
    }
    assert_eq!(figures.as_object().unwrap().len(), expected.len());
}

#[test]
fn a_probe_gets_its_answer_as_an_exit_code_alone() {
    let stage = Stage::new(Kind::Sqlite, World::new(42));
    let silent = |words: &str, code: i32| {
        let output = stage.call(words).output().ends_with(code);
        assert_eq!(output.all().trim(), "", "{words}");
    };
    silent("status --check -q", 1);
    let screen = stage.call("status").output().ends_with(0).stdout;
    assert!(screen.starts_with("never executed: "), "{screen}");
    assert_eq!(row(&screen, "to do"), "see what a pass would do: respot dry-run");
    assert!(!screen.contains("INDICATORS"), "{screen}");
    stage.pass(0);
    silent("status --check -q", 0);
    silent("-q status --check -o table", 0);
    let healthy = stage.call("status -q").output().ends_with(0).stdout;
    assert!(healthy.starts_with("healthy: ") && !healthy.contains("to do"), "{healthy}");
    assert_eq!(stage.call("status --check -q -o json").output().ends_with(0).json()["enabled"], true);
    stage.provider.advance(30 * MINUTE + 1);
    silent("status --check -q", 1);
    let late = stage.call("status --check").output().ends_with(1).stdout;
    let advice = "check the scheduler and this machine's clock, no pass began at its time: crontab -l, \
         systemctl list-timers, kubectl get cronjob, respot doctor";
    assert_eq!(row(&late, "to do"), advice);
    assert!(late.starts_with("unhealthy: overdue by 15 min\n"), "{late}");
}

/// The indicators look back a day and health over five passes, however many passes that is.
#[test]
fn a_day_of_passes_is_read_whatever_the_interval() {
    let stage = Stage::new(Kind::Sqlite, World::new(43));
    let begun = stage.provider.with(|world| world.now_ms());
    let recorded = |minute: i64| {
        let began = begun + minute * 60_000;
        let id = ulid_of(began);
        let record = json!({"v": 1, "jobId": id, "status": "completed", "startedAt": Timestamp::from_millis(began),
            "completedAt": Timestamp::from_millis(began + 1000), "duration": 1000, "dryRun": false, "attempts": [],
            "summary": {"totalInstances": 1, "exitedInstances": 0, "eligibleInstances": 0, "migratedInstances": 0,
                "recreatedInstances": 0, "skippedInstances": 1, "errorCount": 0}});
        stage.put_field("executions", &id, &record.to_string());
    };
    stage.pass(0);
    for minute in 1..=1700 {
        recorded(minute);
    }
    let screen = |minute: i64| {
        let call =
            stage.call("status").env("MIGRATION_INTERVAL_MINUTES", "1").now(Some(begun + minute * 60_000 + 20_000));
        call.output().ends_with(0).stdout
    };
    let busy = screen(1700);
    assert_eq!(bars(&busy, "passes").1, 1440);
    assert!(row(&busy, "schedule adherence").ends_with("1440 of 1440 due passes"), "{busy}");
    // Two days later nothing of it is left but the last pass, from which on passes are missing.
    let silent = screen(1700 + 2 * 1440);
    assert_eq!(bars(&silent, "passes"), (vec!['·'; 24], 0));
    assert!(row(&silent, "schedule adherence").ends_with("0 of 1440 due passes"), "{silent}");
    assert!(row(&silent, "average pass time").ends_with("no data"), "{silent}");
}

/// An id as passes have it, which begins with the time.
fn ulid_of(millis: i64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |place: u32| char::from(DIGITS[usize::try_from((millis >> (5 * place)) & 31).unwrap()]);
    let time: String = (0..10).rev().map(digit).collect();
    format!("migration-job-{time}{}", "0".repeat(16))
}

/// What a person has to look at is no good health: an instance that is gone without a successor, a deletion that is accepted
/// and never happens.
#[test]
fn what_needs_a_person_is_not_healthy() {
    for kind in BOTH {
        let mut world = World::new(3);
        world.add(Spec::running("train-a").id("a"));
        world.add(Spec::running("train-b").id("b"));
        let stage = Stage::new(kind, world);
        let check = |words: &str| {
            let status = stage.call("status --check").output();
            let is_well = words == "on schedule";
            assert_eq!((status.code() == 0, status.stdout.contains(words)), (is_well, true), "{status:?}");
        };
        stage.provider.with(|world| assert!(world.reclaim("a")));
        stage.call("run -q").output().ends_with(0);
        check("on schedule");
        stage.provider.with(|world| assert!(world.vanish("a")));
        // One look proves no absence.
        for _ in 0..2 {
            check("on schedule");
            stage.provider.advance(5 * MINUTE);
            stage.call("run -q").output().ends_with(0);
        }
        check("gone without a successor in the last 5 passes: 1");
    }
    let mut world = World::new(3);
    world.add(Spec::stuck("train-a", 3_600_000).id("a"));
    let stage = Stage::new(Kind::Sqlite, world);
    stage.fault("delete:status=200");
    for _ in 0..14 {
        let code = stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "0").output().code();
        assert!(code < 2, "{code}");
        stage.provider.advance(15 * MINUTE);
    }
    let status = stage.call("status --check").output().ends_with(1);
    for words in ["recreations under way for over 2 h: 1", "see what holds up the recreation of a"] {
        assert!(status.stdout.contains(words), "{}", status.stdout);
    }
}
