//! What is stored, and how it looks on the screen and as metrics.

use clap::Parser;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::cli::Cli;
use crate::core::pass::bridge::{Bridge, Bridges};
use crate::core::pass::ledger::Observation;
use crate::core::pass::market::Market;
use crate::core::pass::spell::{DaySums, HeldBy, Lost, Part, Spell, SpellEnd};
use crate::core::record::execution::{
    Action, Attempt, EndedMigrations, ExecutionStatus, Outcome, Recorded, Summary, Totals,
};
use crate::core::record::health::Health;
use crate::core::record::outbox::Outgoing;
use crate::core::record::trail::ProviderCalls;
use crate::core::recreation::journal::{Cause, MOST_FAILURES, Recreation, Step};
use crate::core::world::instance::{InstanceId, Place, ReclaimNotice};
use crate::core::world::money::Usd;
use crate::report::human::{self, Screen};
use crate::report::prometheus::{self, METRICS};
use crate::settings::Environment;

const MINUTE: i64 = 60_000;

fn now() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

fn minutes_ago(minutes: i64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() - minutes * MINUTE)
}

fn settings(environment: &[(&str, &str)]) -> Settings {
    let cli = Cli::try_parse_from(["respot", "status"]).expect("arguments");
    let environment: Environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::load(&cli, &environment).expect("settings")
}

fn pass(ago: i64, status: ExecutionStatus, summary: Summary) -> Recorded {
    let began = minutes_ago(ago);
    let begun = Execution::begun(format!("migration-job-{ago}"), began, false);
    let execution = match status {
        ExecutionStatus::Running => begun,
        status => begun.closed(status, Timestamp::from_millis(began.as_millis() + 81_500), summary, None),
    };
    Recorded { provider_calls: ProviderCalls { total: 20, failed: 0 }, ..Recorded::of(execution) }
}

fn failed(action: Action) -> Attempt {
    Attempt {
        instance_id: InstanceId::new("i-7"),
        instance_name: "train-7".into(),
        action,
        outcome: Outcome::Failed,
        reason: "no stock".into(),
        error_kind: None,
        new_instance_id: None,
        response_time: Some(40),
        at: minutes_ago(5),
    }
}

fn recreation(name: &str, failures: u32, step: Step) -> Recreation {
    let planned = Recreation::planned(name, Cause::Found, "marker".into(), minutes_ago(80));
    Recreation { failures, step, last_error: (failures > 0).then(|| "no \u{1b}[31mroom\nleft".into()), ..planned }
}

/// A day of passes each quarter of an hour but for two hours, in which almost everything happened.
fn busy() -> Overview {
    let seen = Summary { total_instances: 45, exited_instances: 3, eligible_instances: 2, ..Summary::default() };
    let mut executions: Vec<Recorded> = (0..100)
        .filter(|n| !(40..48).contains(n))
        .map(|n| {
            let migrated_instances = if n % 10 == 3 { 2 } else { 0 };
            let recreated_instances = u64::from(n == 30);
            pass(5 + 15 * n, ExecutionStatus::Completed, Summary { migrated_instances, recreated_instances, ..seen })
        })
        .collect();
    let attempts = vec![failed(Action::Migrate), failed(Action::Recreate)];
    let summary = seen.with_attempts(&attempts);
    executions[0] = Recorded { attempts, ..pass(5, ExecutionStatus::Partial, summary) };
    executions[3].execution.dry_run = true;
    executions[9] = pass(140, ExecutionStatus::Failed, Summary::default());
    executions[9].provider_calls = ProviderCalls { total: 20, failed: 20 };
    executions[5].ended_migrations = EndedMigrations { succeeded: 34, failed: 1 };
    let to_be = |failures| recreation("a-rather-long-name-of-an-instance", failures, Step::Pending { kept: None });
    Overview {
        lost_moves: 0,
        unread: Vec::new(),
        rollout: None,
        total: 400,
        totals: Totals {
            executions: 400,
            successful: 390,
            duration_sum: 400 * 81_500,
            duration_count: 400,
            migrations: 70,
            migrations_succeeded: 66,
            migrations_failed: 3,
            recreations: 4,
            instances_processed: 18_000,
            errors: 12,
            generation: 7,
        },
        in_flight: 1,
        recreations: vec![
            (InstanceId::new("a6quhqi8h2mh3g1k"), recreation("sweep-9", 0, Step::Intent { kept: None })),
            (InstanceId::new("tkvmohnq7ygn811c"), to_be(MOST_FAILURES)),
            (InstanceId::new("gone"), recreation("lost", 0, Step::Ended)),
        ],
        outbox: vec![Outgoing {
            id: "evt-1".into(),
            event: "instance.migrated".into(),
            at: minutes_ago(130),
            body: "{}".into(),
            attempts: 4,
            last_error: Some("connection refused".into()),
            not_before: None,
        }],
        executions,
        down: vec![
            down("train-7", 184, Part::NoRoom, 12),
            down("dev-3", 34, Part::HeldBack, 0),
            down("web \u{1b}[31m", 3, Part::ComingUp, 1),
        ],
        ended_spells: vec![ended(900, 6), ended(500, 34), ended(400, 4)],
        markets: [("us-1", 7, None), ("us-1", 5, Some(2)), ("eu-\"2\"", 1, Some(300)), ("eu-3", 0, None)]
            .into_iter()
            .enumerate()
            .map(|(n, (cluster, refused, refused_ago))| {
                let place = Place { product: format!("p{n}").as_str().into(), cluster: cluster.into() };
                let mut market = Market { ours: 1, ..Market::unseen(minutes_ago(999)) };
                refused_ago.into_iter().for_each(|ago| market.refuse(1, minutes_ago(ago)));
                (place, Market { refused, rests_until: refused_ago.map(|ago| minutes_ago(ago - 4)), ..market })
            })
            .collect(),
        bridges: [("x", 60, None), ("y", 90, Some(70)), ("z", 9999, Some(9000))]
            .into_iter()
            .map(|(id, opened_ago, closed_ago)| {
                let (opened_at, closed_at) = (minutes_ago(opened_ago), closed_ago.map(minutes_ago));
                (InstanceId::new(id), Bridge { opened_at, price: Usd::from_micros(330_000), closed_at, before: None })
            })
            .collect(),
        // The second is down, the third is long over.
        notices: [(41, None), (50, Some(1)), (-5, None), (90, None)]
            .map(|(ends_in, down_ago)| Observation {
                notice: ReclaimNotice { spot_status: "notified".into(), reclaim_at: minutes_ago(-ends_in) },
                first_seen_at: minutes_ago(10),
                last_seen_at: minutes_ago(5),
                down_seen_at: down_ago.map(minutes_ago),
            })
            .into(),
        days: [("2023-11-14", 12 * 3600 * 45), (ALL_TIME, 30 * 24 * 3600 * 45)]
            .map(|(day, running_seconds)| {
                let lost = Lost { noticing: 3_600_000, no_room: 600_500, ..Lost::default() };
                let (recovered, recovered_millis) = (3, 44 * MINUTE);
                let recovered_within = [0, 0, 1, 2, 2, 2, 3, 3, 3, 3, 3];
                let sums = DaySums {
                    running_seconds,
                    lost,
                    recovered,
                    recovered_millis,
                    recovered_within,
                    bridged: Usd::from_micros(1_250_000),
                    ..DaySums::default()
                };
                (day.to_owned(), sums)
            })
            .into(),
    }
}

/// An open spell, of which ten minutes were spent on noticing it at most.
fn down(name: &str, ago: i64, part: Part, refused_calls: u32) -> (InstanceId, Spell) {
    let held_by = HeldBy { reason: "cooling_down".into(), since: minutes_ago(20), until: Some(minutes_ago(-125)) };
    let parts = vec![(Part::Noticing, ago.min(10) * MINUTE), (part, (ago - 10).max(0) * MINUTE)];
    let spell = Spell { name: name.into(), down_at: minutes_ago(ago), part, refused_calls, parts, ..Spell::default() };
    let held_by = (part == Part::HeldBack).then_some(held_by);
    (InstanceId::new(&format!("id-of-{name}")), Spell { held_by, ..spell })
}

fn ended(ago: i64, length: i64) -> Spell {
    let (down_at, parts) =
        (minutes_ago(ago + length), vec![(Part::Noticing, MINUTE), (Part::ComingUp, (length - 1) * MINUTE)]);
    Spell { down_at, parts, ended_at: Some(minutes_ago(ago)), end: Some(SpellEnd::InPlace), ..Spell::default() }
}

fn screen(figures: &Figures<'_>, width: Option<usize>, color: bool) -> String {
    human::status(Screen { width, color }, figures, "sqlite:/var/lib/respot/state.db")
}

fn without_color(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    plain.extend(parts.map(|part| part.split_once('m').expect("a colour").1));
    plain
}

#[test]
fn the_screen_of_a_busy_service() {
    let (overview, settings) = (busy(), settings(&[]));
    let figures = figures(&overview, &settings, now());
    assert_eq!(screen(&figures, Some(80), false), include_str!("busy.txt"));
}

#[test]
fn a_screen_fits_its_place() {
    let mut long = busy();
    long.executions[0].execution.status = ExecutionStatus::Failed;
    long.executions[0].execution.error =
        Some("GET /v1/gpu/instances: 401 UNAUTHORIZED: ".to_owned() + &"no ".repeat(60));
    let many = (0..30).map(|n| (InstanceId::new(&format!("id-{n}")), recreation("x", 0, Step::Pending { kept: None })));
    long.recreations.extend(many);
    long.executions[1].execution.summary.error_count = 1_000_000;
    long.totals.errors = 1_000_000;
    for overview in [busy(), long, Overview::default()] {
        for environment in [&[][..], &[("MIGRATION_ENABLED", "false")], &[("MIGRATION_DRY_RUN", "true")]] {
            let settings = settings(environment);
            let figures = figures(&overview, &settings, now());
            for width in [80, 100, 200] {
                let plain = screen(&figures, Some(width), false);
                for line in plain.lines() {
                    assert!(line.width() <= width, "{} columns of {width}: {line}", line.width());
                    assert_eq!(line, line.trim_end());
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                }
                assert!(plain.lines().count() <= 68, "{plain}");
                assert_eq!(without_color(&screen(&figures, Some(width), true)), plain);
            }
            let piped = screen(&figures, None, false);
            assert!(!piped.contains('\u{1b}') && piped.contains("sqlite:/var/lib"), "{piped}");
        }
    }
}

/// The value of a metric with its labels, as written.
fn value<'a>(text: &'a str, metric: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))
}

#[test]
fn metrics_say_what_the_screen_says() {
    let (overview, settings) = (busy(), settings(&[]));
    let figures = figures(&overview, &settings, now());
    let text = prometheus::text(&figures);
    for (metric, expected) in [
        ("respot_enabled", "1"),
        ("respot_healthy", "0"),
        ("respot_health{state=\"degraded\"}", "1"),
        ("respot_health{state=\"healthy\"}", "0"),
        ("respot_interval_seconds", "900"),
        ("respot_last_pass_start_timestamp_seconds", "1699999700.000"),
        ("respot_last_pass_end_timestamp_seconds", "1699999781.500"),
        ("respot_last_pass_duration_seconds", "81.500"),
        ("respot_last_pass_status{status=\"partial\"}", "1"),
        ("respot_last_pass_status{status=\"completed\"}", "0"),
        ("respot_next_pass_timestamp_seconds", "1700000600.000"),
        ("respot_instances{state=\"total\"}", "45"),
        ("respot_instances{state=\"exited\"}", "3"),
        ("respot_instances{state=\"eligible\"}", "2"),
        ("respot_in_flight{kind=\"migration\"}", "1"),
        ("respot_in_flight{kind=\"recreation\"}", "1"),
        ("respot_quarantined_instances", "1"),
        ("respot_unreplaced_instances", "1"),
        ("respot_instances_down", "3"),
        ("respot_longest_down_since_timestamp_seconds", "1699988960.000"),
        ("respot_downtime_seconds_total{cause=\"noticing\"}", "4980.000"),
        ("respot_downtime_seconds_total{cause=\"no_room\"}", "11040.500"),
        ("respot_downtime_seconds_total{cause=\"held_back\"}", "1440.000"),
        ("respot_downtime_seconds_total{cause=\"coming_up\"}", "0.000"),
        ("respot_recovery_seconds_bucket{le=\"300\"}", "1"),
        ("respot_recovery_seconds_bucket{le=\"+Inf\"}", "3"),
        ("respot_refused_calls_total{cluster=\"us-1\"}", "12"),
        ("respot_refused_calls_total{cluster=\"eu-\\\"2\\\"\"}", "1"),
        ("respot_recovery_seconds_sum", "2640.000"),
        ("respot_recovery_seconds_count", "3"),
        ("respot_bridges", "1"),
        ("respot_bridge_usd_total", "1.25"),
        ("respot_market_rests", "1"),
        ("respot_undelivered_events", "1"),
        ("respot_oldest_undelivered_event_timestamp_seconds", "1699992200.000"),
        ("respot_passes_total{result=\"completed\"}", "390"),
        ("respot_passes_total{result=\"other\"}", "10"),
        ("respot_migrations_total", "70"),
        ("respot_migrations_ended_total{result=\"succeeded\"}", "66"),
        ("respot_migrations_ended_total{result=\"failed\"}", "3"),
        ("respot_recreations_total", "4"),
        ("respot_errors_total", "12"),
        ("respot_migration_success_ratio", "0.9714285714285714"),
        ("respot_recreation_success_ratio", "0"),
        ("respot_average_pass_duration_seconds", "81.500"),
        ("respot_provider_error_ratio", "0.011363636363636364"),
        ("respot_schedule_adherence_ratio", "0.9166666666666666"),
    ] {
        assert_eq!(value(&text, metric), Some(expected), "{metric} in\n{text}");
    }
    // There was no rollout.
    let names = METRICS.iter().map(|it| it.name);
    let all: Vec<&str> = names.filter(|name| !name.starts_with("respot_rollout_")).collect();
    let written: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(written, all, "each of them, in this order");
}

#[test]
fn what_is_not_known_is_absent() {
    let absent = |overview: &Overview, environment: &[(&str, &str)]| {
        let settings = settings(environment);
        let text = prometheus::text(&figures(overview, &settings, now()));
        let is_number =
            |line: &str| line.rsplit(' ').next().is_some_and(|it| it.parse::<f64>().is_ok_and(f64::is_finite));
        assert!(text.lines().all(|line| line.starts_with('#') || is_number(line)), "{text}");
        let there = |name: &str| text.contains(&format!("# TYPE {name} "));
        let names: Vec<&str> = METRICS.iter().map(|it| it.name).filter(|name| !there(name)).collect();
        names.join(" ").replace("respot_", "")
    };
    let last_pass = "last_pass_start_timestamp_seconds last_pass_end_timestamp_seconds last_pass_duration_seconds \
                     last_pass_status next_pass_timestamp_seconds instances";
    let rates = "migration_success_ratio recreation_success_ratio average_pass_duration_seconds provider_error_ratio \
                 schedule_adherence_ratio";
    let nothing = Overview::default();
    let oldest = "oldest_undelivered_event_timestamp_seconds";
    let rollout = "rollout_state rollout_since_timestamp_seconds rollout_instances rollout_overdue";
    let down = &format!("longest_down_since_timestamp_seconds availability_ratio {rollout}");
    assert_eq!(absent(&nothing, &[]), format!("{last_pass} {down} {oldest} refused_calls_total {rates}"));
    let off = &[("MIGRATION_ENABLED", "false")];
    assert_eq!(absent(&busy(), off), format!("next_pass_timestamp_seconds {rollout} schedule_adherence_ratio"));

    // The first pass is at work, or was killed: it has no end, and saw nothing yet.
    for status in [ExecutionStatus::Running, ExecutionStatus::Interrupted] {
        let mut first = pass(1, ExecutionStatus::Running, Summary::default());
        first.execution.status = status;
        first.provider_calls = ProviderCalls::default();
        let overview = Overview { executions: vec![first], ..Overview::default() };
        let expected = format!(
            "last_pass_end_timestamp_seconds last_pass_duration_seconds instances {down} {oldest} refused_calls_total {rates}"
        );
        assert_eq!(absent(&overview, &[]), expected);
    }
    // The second is, and hides nothing of the first.
    let mut overview = busy();
    overview.executions.insert(0, pass(0, ExecutionStatus::Running, Summary::default()));
    let settings = settings(&[]);
    let text = prometheus::text(&figures(&overview, &settings, now()));
    assert_eq!(value(&text, "respot_last_pass_status{status=\"running\"}"), Some("1"));
    assert_eq!(value(&text, "respot_last_pass_start_timestamp_seconds"), Some("1700000000.000"));
    assert_eq!(value(&text, "respot_last_pass_duration_seconds"), Some("81.500"));
    assert_eq!(value(&text, "respot_instances{state=\"total\"}"), Some("45"));
}

/// The rows of the screen for what is announced and for what stands in.
#[test]
fn what_is_announced_and_what_stands_in_has_its_row() {
    let (on, budget) = (("RESPOT_NOTICE", "on"), ("RESPOT_BRIDGE_USD_PER_DAY", "5"));
    let long = ("RESPOT_NOTICE_LEAD_MINUTES", "60");
    for (overview, environment, rows) in [
        (Overview::default(), vec![on, budget], ["", ""]),
        (
            busy(),
            vec![],
            [
                "2: first ends in 41 min, then down for about 6 min, since RESPOT_NOTICE is off",
                "1: 0.44 of 0.00 USD today, returns when a market was steady for 30 min",
            ],
        ),
        (
            busy(),
            vec![on, budget],
            [
                "2: first ends in 41 min, replaced from 22:24 on",
                "1: 0.44 of 5.00 USD today, returns when a market was steady for 30 min",
            ],
        ),
        (
            Overview { bridges: Bridges::new(), ..busy() },
            vec![on, long],
            ["2: first ends in 41 min, its replacement is due", ""],
        ),
    ] {
        let settings = settings(&environment);
        let screen = screen(&figures(&overview, &settings, now()), None, false);
        let row = |label: &str| screen.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default().trim();
        assert_eq!([row("  announced "), row("  bridges ")], rows, "{environment:?}");
    }
}

#[test]
fn what_is_in_flight_is_counted_once() {
    let (overview, settings) = (busy(), settings(&[]));
    let figures = figures(&overview, &settings, now());
    let json::InFlightPart { migrations, recreations, rollout, quarantined, undelivered_events } =
        &figures.document.in_flight;
    assert_eq!((migrations, recreations, rollout, quarantined, undelivered_events), (&1, &1, &None, &1, &1));
    assert_eq!(figures.diagnosis.health, Health::Degraded);
    assert_eq!((figures.open().count(), figures.quarantined().count(), figures.ended().count()), (1, 1, 1));
}
