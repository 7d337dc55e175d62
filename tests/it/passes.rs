//! Passes of the real program when nothing goes wrong but what the provider's manual leaves open: who is migrated, what
//! is remembered, and that rehearsals leave no trace on real passes.

use std::collections::BTreeMap;

use novita_sim::{AfterReclaim, JobRow, MigrateAnswer, Op, PageBase, Rules, Spec, Total, World, quirk};
use respot::core::world::time::Timestamp;
use serde_json::Value;

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage, each};

fn exited(ids: &[&str]) -> World {
    let mut world = World::new(5);
    for id in ids {
        world.add(Spec::exited(&format!("train-{id}")).id(id));
    }
    world
}

/// The plan's reason for each instance.
fn reasons(document: &Value) -> BTreeMap<String, String> {
    let rows = document["plan"].as_array().expect("a plan").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    rows.map(|row| (text(&row["instanceId"]), text(&row["reason"]))).collect()
}

/// One of each kind. What is created runs at once, so that no pass waits for it.
fn zoo() -> World {
    let mut world = World::new(3);
    world.rules_mut().create_step_ms = 0;
    let hour = 3_600_000;
    let specs = [
        Spec::exited("train-old").id("old").stopped_ago_ms(9 * hour),
        Spec::exited("train-new").id("new").stopped_ago_ms(hour),
        Spec::exited("never-stopped").id("timeless").with(|machine| machine.last_stopped_at = 0),
        Spec::reclaimed("eval-7", 2 * hour).id("taken"),
        Spec::exited("billed-by-hour").id("demand").billing("onDemand"),
        Spec::exited("billed-by-month").id("monthly").billing("monthly"),
        Spec::exited("billed-somehow").id("unstated").billing("").stopped_ago_ms(8 * hour),
        Spec::exited("billed-oddly").id("barter").billing("barter").stopped_ago_ms(7 * hour),
        Spec::running("web").id("up"),
        Spec::running("sleeping").id("asleep").status("hibernated"),
        Spec::running("nothing said").id("blank").status(""),
        Spec::exited("being saved").id("saving"),
        Spec::stuck("stuck", hour).id("stuck"),
    ];
    for spec in specs {
        world.add(spec.quirks(quirk::NULL));
    }
    world.add_job(JobRow {
        id: "save-1".into(),
        kind: "saveImage".into(),
        state: "running".into(),
        error: String::new(),
        error_message: String::new(),
        instance_id: "saving".into(),
        created_at: world.now_ms() - hour,
        visible_at: world.now_ms() - hour,
        quirks: 0,
    });
    world
}

const ALL: &[&str; 5] = &["new", "old", "taken", "timeless", "unstated"];

#[test]
fn who_is_acted_on() {
    // Who is migrated, and whether the instance that is stuck in its migration is recreated.
    let rows: &[(&str, &[&str], bool)] = &[
        ("run", ALL, true),
        ("run --eligibility time --scope spot", ALL, true),
        ("run --scope all", &["barter", "demand", "monthly", "new", "old", "taken", "timeless", "unstated"], true),
        // Whether it was reclaimed does not matter to an instance whose migration failed.
        ("run --eligibility reclaimed", &["taken"], true),
        ("run --max-migrations 0", &[], true),
        ("run --max-migrations 1", &["old"], true),
        ("run --max-migrations 3", &["old", "taken", "unstated"], true),
        ("run --max-migrations 4", &["new", "old", "taken", "unstated"], true),
        ("run --max-migrations 99", ALL, true),
        ("run --max-recreations 0", ALL, false),
        ("run --max-recreations 1 --max-migrations 0", &[], true),
        ("run --only old", &["old"], false),
        ("run --only train-* --only eval-?", &["new", "old", "taken"], false),
        ("run --only train-* --exclude new", &["old"], false),
        ("run --only train", &[], false),
        ("run --exclude billed-*", &["new", "old", "taken", "timeless"], true),
        ("run --exclude [nst]*", &["unstated"], false),
        ("run --only train-* --max-migrations 1", &["old"], false),
        ("check-failed", &[], true),
        ("check-failed --scope all", &[], true),
        ("check-failed --exclude st*", &[], false),
        ("check-failed --max-recreations 0", &[], false),
    ];
    each(rows, |(words, migrated, recreated)| {
        let stage = Stage::new(Kind::Sqlite, zoo());
        let run = stage.call(&format!("{words} -o json")).output().ends_with(0).json();
        assert_eq!(stage.migrated(), *migrated);
        let created = stage.provider.with(|world| world.applied(Op::Create));
        assert_eq!(created, usize::from(*recreated));
        let eligible = migrated.len() + created;
        assert_eq!(run["summary"]["eligibleInstances"], eligible);
        assert_eq!(run["summary"]["recreatedInstances"], created);
        assert_eq!(run["summary"]["skippedInstances"], 13 - eligible);
        assert_eq!(run["summary"]["totalInstances"], 13);
        let stamped = stage.dump().keys().filter(|key| key.starts_with("migration-times:")).count();
        assert_eq!(stamped, migrated.len());
    });
}

#[test]
fn without_the_second_half_failed_migrations_are_left_alone() {
    let stage = Stage::new(Kind::Sqlite, zoo());
    let run = stage.call("run -o json").env("MIGRATION_RETRY_FAILED", "false").output().ends_with(0).json();
    assert_eq!(reasons(&run)["stuck"], "migration_failed");
    assert_eq!(
        (stage.migrated(), run["summary"]["eligibleInstances"].as_u64()),
        (ALL.map(String::from).to_vec(), Some(5))
    );
    assert_eq!(stage.provider.with(|world| world.applied(Op::Create)), 0);
}

#[test]
fn every_instance_has_its_reason() {
    let stage = Stage::new(Kind::Sqlite, zoo());
    let plan = stage.call("dry-run -o json --exclude train-new --max-migrations 1").output().ends_with(0).json();
    let expected = [
        ("asleep", "not_exited"),
        ("barter", "out_of_scope"),
        ("blank", "not_exited"),
        ("demand", "out_of_scope"),
        ("monthly", "out_of_scope"),
        ("new", "excluded"),
        ("old", "no_previous_migration"),
        ("saving", "job_unfinished"),
        ("stuck", "migration_failed"),
        ("taken", "over_limit"),
        ("timeless", "over_limit"),
        ("unstated", "over_limit"),
        ("up", "not_exited"),
    ];
    assert_eq!(reasons(&plan), expected.map(|(id, reason)| (id.into(), reason.into())).into());
}

#[test]
fn the_wire_may_be_as_loose_as_it_likes() {
    let rules: &[(&str, fn(&mut Rules))] = &[
        ("pages begin at 0", |rules| rules.wire.page_base = PageBase::Zero),
        ("pages begin at 1, and 0 is empty", |rules| rules.wire.page_base = PageBase::One),
        ("pages begin at 0, and there is no total", |rules| {
            rules.wire.page_base = PageBase::Zero;
            rules.wire.total = Total::Absent;
        }),
        ("no array behind the last page", |rules| rules.wire.past_end_without_array = true),
        ("the total is a string", |rules| rules.wire.total = Total::Text),
        ("there is no total", |rules| rules.wire.total = Total::Absent),
        ("no total and no array behind the last page", |rules| {
            rules.wire.total = Total::Absent;
            rules.wire.past_end_without_array = true;
        }),
        ("pages are small", |rules| rules.wire.max_page_size = 50),
        ("pages are small and begin at 0", |rules| {
            rules.wire.max_page_size = 30;
            rules.wire.page_base = PageBase::Zero;
        }),
        ("the oldest comes first", |rules| rules.wire.newest_first = false),
        ("migrate answers nothing", |rules| rules.wire.migrate_answer = MigrateAnswer::Empty),
        ("migrate answers {}", |rules| rules.wire.migrate_answer = MigrateAnswer::Object),
        ("migrate answers with a job", |rules| rules.wire.migrate_answer = MigrateAnswer::JobId),
        ("job ids are called jobId", |rules| rules.wire.job_id_key = "jobId"),
        ("rows are stale", |rules| rules.stale_rows = true),
    ];
    each(rules, |(_, change)| {
        // Exactly whole pages, one less and one more.
        for count in [199, 200, 201] {
            let mut world = World::new(9);
            for n in 0..count {
                let spec = if n % 20 == 0 { Spec::exited("down") } else { Spec::running("up") };
                world.add(spec.id(&format!("i{n:03}")).quirks(u32::try_from(n).expect("small") & quirk::ALL));
            }
            change(world.rules_mut());
            let down: Vec<String> = (0..count).step_by(20).map(|n| format!("i{n:03}")).collect();
            let stage = Stage::new(Kind::Sqlite, world);
            let run = stage.pass(0);
            assert_eq!(run["summary"]["totalInstances"], count);
            assert_eq!(stage.migrated(), down, "of {count}");
            // What is under way, and what is back, is left alone.
            for minutes in [1, 1, 10] {
                stage.provider.advance(minutes * MINUTE);
                stage.pass(0);
            }
            assert_eq!(stage.migrated(), down, "of {count}, later");
            assert_eq!(stage.status()["inFlight"]["migrations"], 0);
        }
    });
}

#[test]
fn the_cooldown_counts_from_the_last_attempt() {
    for kind in BOTH {
        let stage = Stage::new(kind, exited(&["a"]));
        stage.provider.with(|world| world.rules_mut().migrate_keeps_exited = true);
        for (after, code, times, reason) in [
            (0, 0, 1, "no_previous_migration"),
            (4 * HOUR - 5 * MINUTE, 0, 1, "cooling_down"),
            (6 * MINUTE, 0, 2, "cooled_down"),
            (3 * HOUR, 0, 2, "cooling_down"),
        ] {
            stage.provider.advance(after);
            let run = stage.pass(code);
            assert_eq!(reasons(&run)["a"], reason);
            assert_eq!(stage.accepted(&["a"]), [times]);
        }
        let short = stage.call("run -q").env("MIGRATION_ELIGIBILITY_INTERVAL_HOURS", "1");
        short.output().ends_with(0);
        assert_eq!(stage.accepted(&["a"]), [3], "a shorter cooldown counts at once");
    }
}

#[test]
fn evidence_of_a_reclaim_outlives_the_fields_that_showed_it() {
    for kind in BOTH {
        let mut world = World::new(8);
        world.rules_mut().after_reclaim = AfterReclaim::Cleared;
        world.add(Spec::running("told").id("told"));
        world.add(Spec::running("stopped").id("stopped"));
        let stage = Stage::new(kind, world);
        let pass = || stage.call("run -o json --eligibility reclaimed").output().ends_with(0).json();
        stage.provider.with(|world| world.reclaim("told"));
        pass();
        stage.provider.with(|world| world.user_stop("stopped"));
        stage.provider.advance(90 * MINUTE);
        let machine = stage.provider.with(|world| world.get("told").cloned()).expect("it is there");
        assert_eq!((machine.status.as_str(), machine.spot_status.as_str()), ("exited", ""));
        let run = pass();
        assert_eq!(reasons(&run)["stopped"], "no_reclaim_evidence");
        assert_eq!(stage.migrated(), ["told"]);
        // Running again it has nothing to do with the old notice.
        stage.provider.advance(10 * MINUTE);
        pass();
        stage.provider.with(|world| world.user_stop("told"));
        stage.provider.advance(5 * HOUR);
        pass();
        assert_eq!(stage.migrated(), ["told"]);
    }
}

#[test]
fn a_rehearsal_is_recorded_and_touches_nothing_real() {
    for kind in BOTH {
        let stage = Stage::new(kind, exited(&["a", "b"]));
        let rehearse = |expected: u64| {
            let call = stage.call("run -o json").env("MIGRATION_DRY_RUN", "true");
            let document = call.output().ends_with(0).json();
            assert_eq!(document["dryRun"], true);
            assert_eq!(document["summary"]["eligibleInstances"], expected);
            assert_eq!(stage.provider.with(|world| world.log().len()), 0, "nothing was sent");
            assert!(stage.stored("migration-times:a").is_none() && stage.stored("lease").is_none());
            let time = stage.stored("dry-run:migration-times:a").expect("a time of its own");
            time.parse::<Timestamp>().expect("RFC 3339");
        };
        rehearse(2);
        stage.provider.advance(HOUR);
        rehearse(0);
        stage.provider.advance(4 * HOUR);
        rehearse(2);
        let status = stage.status();
        assert_eq!((&status["lastExecution"]["dryRun"], &status["inFlight"]["migrations"]), (&true.into(), &0.into()));
        assert_eq!(status["statistics"]["totalExecutions"], 0);
        assert_eq!(stage.history()["total"], 3);
        // The real pass is not delayed by it, and the next rehearsal knows of the real one.
        let run = stage.pass(0);
        assert_eq!(run["summary"]["migratedInstances"], 2);
        assert_eq!(stage.migrated(), ["a", "b"]);
        assert_eq!(stage.status()["statistics"]["totalExecutions"], 1);
        stage.provider.with(|world| (world.reclaim_now("a"), world.reclaim_now("b")));
        stage.provider.advance(4 * HOUR + MINUTE);
        let call = stage.call("run -o json").env("MIGRATION_DRY_RUN", "true");
        assert_eq!(call.output().ends_with(0).json()["summary"]["eligibleInstances"], 2);
    }
}

#[test]
fn redis_holds_what_the_contract_says() {
    for prefix in [None, Some("team-7/"), Some("")] {
        let stage = Stage::new(Kind::Redis, exited(&["a", "b"]));
        let before = stage.provider.with(|world| world.now_ms());
        let call = stage.call("run -q");
        let call = if let Some(prefix) = prefix { call.env("REDIS_KEY_PREFIX", prefix) } else { call };
        call.output().ends_with(0);
        let prefix = prefix.unwrap_or("respot:");
        let redis = stage.redis.as_ref().expect("a server");
        for id in ["a", "b"] {
            let key = format!("{prefix}migration-times:{id}");
            let value: String = redis::from_redis_value(redis.raw(&["GET", &key])).expect(&key);
            let time: Timestamp = value.parse().expect("RFC 3339");
            assert_eq!(time.to_string(), value);
            assert!((0..20_000).contains(&(time.as_millis() - before)), "{value}");
            let life: i64 = redis::from_redis_value(redis.raw(&["TTL", &key])).expect("a life");
            assert!((7 * 86_400 - 60..=7 * 86_400).contains(&life), "{life}");
        }
        let dump = stage.dump();
        assert!(!dump.contains_key(&format!("{prefix}lease")), "the lease is given back");
        assert!(dump.keys().all(|key| key.starts_with(prefix)), "{dump:?}");
        for (key, value) in dump.iter().filter(|(_, value)| value.starts_with('{')) {
            let record: Value = serde_json::from_str(value).expect(key);
            assert_eq!(record["v"], 1, "{key}");
        }
    }
}

#[test]
fn history_pages_and_filters() {
    for kind in BOTH {
        let stage = Stage::new(kind, exited(&["a", "b"]));
        stage.call("run -q --only a").output().ends_with(0);
        stage.provider.advance(2 * HOUR);
        stage.call("run -q").output().ends_with(0);
        stage.provider.advance(HOUR);
        stage.call("run -q").output().ends_with(0);
        let rows: &[(&str, usize, &[usize])] = &[
            ("", 3, &[0, 1, 1]),
            ("--limit 1", 3, &[0]),
            ("--limit 1 --offset 1", 3, &[1]),
            ("--offset 3", 3, &[]),
            ("--limit 0", 3, &[]),
            ("--since 30m", 1, &[0]),
            ("--since 90m", 2, &[0, 1]),
            ("--since 24h --limit 1 --offset 2", 3, &[1]),
            ("--instance a", 1, &[1]),
            ("--instance train-b", 1, &[1]),
            ("--instance nobody", 0, &[]),
        ];
        each(rows, |(words, total, migrated)| {
            let history = stage.call(&format!("history -o json {words}")).output().ends_with(0).json();
            assert_eq!(history["total"], *total);
            let executions = history["executions"].as_array().expect("executions").iter();
            let counts: Vec<u64> =
                executions.map(|it| it["summary"]["migratedInstances"].as_u64().expect("a count")).collect();
            let expected: Vec<u64> = migrated.iter().map(|n| u64::try_from(*n).expect("small")).collect();
            assert_eq!(counts, expected);
            stage.call(&format!("history {words}")).output().ends_with(0);
        });
    }
}

#[test]
fn the_log_of_a_pass_ends_with_its_summary() {
    let stage = Stage::new(Kind::Sqlite, zoo());
    let output = stage.call("run --log-format json").output().ends_with(0);
    assert_eq!(output.stdout, "", "in cron the log is all there is");
    let lines: Vec<Value> =
        output.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let last = lines.last().expect("a line");
    assert_eq!((&last["level"], &last["message"]), (&"info".into(), &"Migration job completed".into()));
    assert_eq!(last["jobId"], stage.status()["lastExecution"]["jobId"]);
    assert_eq!(last["summary"], stage.status()["lastExecution"]["summary"]);
    assert!(last["duration"].is_u64());

    stage.provider.advance(HOUR);
    for (words, lines) in [("run -q", 0..=0), ("run", 3..=40), ("run -v", 10..=60), ("run -vv", 10..=400)] {
        let output = stage.call(words).output().ends_with(0);
        assert!(lines.contains(&output.stderr.lines().count()), "{words}: {}", output.stderr);
    }
    let output = stage.call("status --color always").colored().output().ends_with(0);
    assert!(output.stdout.contains('\u{1b}'));
}
