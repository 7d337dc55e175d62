//! The state of the service as Prometheus reads it: text format 0.0.4.
//!
//! Counters are those of the totals, so that they never go down. What is not known is absent; nothing is ever `NaN`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::figures::Figures;
use crate::core::pass::spell::{BUCKETS, DaySums, Lost, Part};
use crate::core::record::execution::{Execution, ExecutionStatus, Summary};
use crate::core::record::health::Health;
use crate::core::record::indicators::Share;
use crate::core::rollout::course::MemberState;
use crate::core::world::time::Timestamp;

/// A metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// What it says, in one sentence.
    pub help: &'static str,
    samples: fn(&Figures<'_>) -> Vec<Sample>,
}

/// The kinds of metric that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Kind {
    Gauge,
    Counter,
    Histogram,
}

struct Sample {
    /// Behind the name; only a histogram's samples have one.
    suffix: &'static str,
    label: Option<(&'static str, Cow<'static, str>)>,
    value: Figure,
}

enum Figure {
    Count(u64),
    /// In milliseconds, written as seconds.
    Seconds(i64),
    Decimal(f64),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Seconds(millis) => {
                let sign = if *millis < 0 { "-" } else { "" };
                write!(f, "{sign}{}.{:03}", millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000)
            }
            Self::Decimal(number) => write!(f, "{number}"),
        }
    }
}

const fn gauge(name: &'static str, help: &'static str, samples: fn(&Figures<'_>) -> Vec<Sample>) -> Metric {
    Metric { name, kind: Kind::Gauge, help, samples }
}

const fn counter(name: &'static str, help: &'static str, samples: fn(&Figures<'_>) -> Vec<Sample>) -> Metric {
    Metric { name, kind: Kind::Counter, help, samples }
}

const fn histogram(name: &'static str, help: &'static str, samples: fn(&Figures<'_>) -> Vec<Sample>) -> Metric {
    Metric { name, kind: Kind::Histogram, help, samples }
}

/// Every metric, in the order in which they are written.
pub const METRICS: &[Metric] = &[
    gauge("respot_build_info", "The version of respot, as a label; always 1.", |_| {
        labelled("version", [(env!("CARGO_PKG_VERSION"), 1)])
    }),
    gauge("respot_enabled", "Whether passes do anything: 0 when MIGRATION_ENABLED is false.", |it| {
        count(it.document.enabled)
    }),
    gauge("respot_healthy", "1 when respot status --check would succeed, else 0.", |it| {
        count(it.diagnosis.health == Health::Healthy)
    }),
    gauge("respot_health", "1 for the state of health that the service is in, 0 for the others.", health),
    gauge("respot_interval_seconds", "Time between two passes, as the settings have it.", |it| {
        vec![plain(Figure::Count(it.document.config.interval_minutes * 60))]
    }),
    gauge(
        "respot_last_pass_start_timestamp_seconds",
        "When the newest pass began, rehearsals included. Absent before the first.",
        |it| time(newest(it).map(|pass| pass.started_at)),
    ),
    gauge(
        "respot_last_pass_end_timestamp_seconds",
        "When the newest pass that was closed ended. Absent before the first.",
        |it| time(newest_closed(it).and_then(|pass| pass.completed_at)),
    ),
    gauge("respot_last_pass_duration_seconds", "How long that pass took. Absent before the first.", |it| {
        seconds(newest_closed(it).and_then(|pass| pass.duration))
    }),
    gauge(
        "respot_last_pass_status",
        "1 for the status of the newest pass, 0 for the others. Absent before it.",
        status,
    ),
    gauge(
        "respot_next_pass_timestamp_seconds",
        "When the next pass is due. Absent before the first, and when switched off.",
        |it| time(it.diagnosis.next_execution),
    ),
    gauge(
        "respot_instances",
        "Instances that the newest pass that did its work saw: all, exited, and eligible for an action. Absent before it.",
        instances,
    ),
    gauge("respot_in_flight", "Migrations whose end was not seen yet, and recreations that are open.", |it| {
        let flights = &it.document.in_flight;
        labelled("kind", [("migration", whole(flights.migrations)), ("recreation", whole(flights.recreations))])
    }),
    gauge("respot_quarantined_instances", "Instances left alone for a day after repeated failures.", |it| {
        vec![plain(Figure::Count(whole(it.document.in_flight.quarantined)))]
    }),
    gauge("respot_unreplaced_instances", "Recreations of the last week that ended without a successor.", |it| {
        vec![plain(Figure::Count(whole(it.ended().count())))]
    }),
    gauge("respot_instances_down", "Instances that are to run, and were down at the last look.", |it| {
        vec![plain(Figure::Count(whole(it.down.len())))]
    }),
    gauge(
        "respot_longest_down_since_timestamp_seconds",
        "Since when the one is down that is down the longest. Absent without any.",
        |it| time(it.down.first().map(|(_, spell)| spell.down_at)),
    ),
    gauge(
        "respot_availability_ratio",
        "Share of the time that instances were up of that they were to run, by window. Absent before it is known.",
        availability,
    ),
    gauge("respot_bridges", "On-demand instances that stand in while no market has room.", |it| {
        vec![plain(Figure::Count(whole(it.document.bridges.standing)))]
    }),
    gauge(
        "respot_rollout_state",
        "1 for the state of the last rollout, 0 for the others. Absent before the first.",
        rollout,
    ),
    gauge(
        "respot_rollout_since_timestamp_seconds",
        "When the last rollout entered its state. Absent before the first.",
        |it| time(it.rollout.map(|fleet| fleet.rollout.state.since())),
    ),
    gauge(
        "respot_rollout_instances",
        "Instances of the last rollout: on spot, waiting, failed, put back. Absent before the first.",
        members,
    ),
    gauge(
        "respot_rollout_overdue",
        "1 if the rollout has been deleting or putting back instances for more than two hours. Absent before the first.",
        |it| it.rollout.map_or_else(Vec::new, |fleet| count(fleet.overdue(it.now).is_some())),
    ),
    gauge("respot_market_rests", "Markets that refused lately and are not asked again yet.", |it| {
        let rests = it.markets.values().filter(|market| market.rests(u32::MAX, it.now).is_some()).count();
        vec![plain(Figure::Count(whole(rests)))]
    }),
    gauge("respot_undelivered_events", "Events that no receiver took yet.", |it| {
        vec![plain(Figure::Count(whole(it.outbox.len())))]
    }),
    gauge(
        "respot_oldest_undelivered_event_timestamp_seconds",
        "When the oldest of these events happened. Absent without any.",
        |it| time(it.outbox.first().map(|waiting| waiting.at)),
    ),
    counter("respot_passes_total", "Real passes that ended: completed, or any other way.", |it| {
        let (all, good) = (it.totals.executions, it.totals.successful);
        labelled("result", [("completed", good), ("other", all.saturating_sub(good))])
    }),
    counter("respot_migrations_total", "Migrations that the provider accepted.", |it| {
        vec![plain(Figure::Count(it.totals.migrations))]
    }),
    counter("respot_migrations_ended_total", "Of those, the ones whose end was seen.", |it| {
        let totals = &it.totals;
        labelled("result", [("succeeded", totals.migrations_succeeded), ("failed", totals.migrations_failed)])
    }),
    counter("respot_recreations_total", "Recreations that came to a running successor.", |it| {
        vec![plain(Figure::Count(it.totals.recreations))]
    }),
    counter("respot_errors_total", "Actions that failed or whose end was not known.", |it| {
        vec![plain(Figure::Count(it.totals.errors))]
    }),
    counter(
        "respot_downtime_seconds_total",
        "Time that instances were down and should not have been, by cause; what is still coming up is counted later.",
        downtime,
    ),
    counter(
        "respot_refused_calls_total",
        "Migrations and creations that were refused for lack of room, by cluster. Absent without any.",
        refusals,
    ),
    counter(
        "respot_bridge_usd_total",
        "What on-demand instances that stood in have cost up to the last look, in USD.",
        |it| vec![plain(Figure::Decimal(it.downtime.map_or(0.0, |sums| sums.bridged.to_f64())))],
    ),
    histogram(
        "respot_recovery_seconds",
        "Time from the stop of an instance to the one that runs in its place.",
        recoveries,
    ),
    gauge(
        "respot_migration_success_ratio",
        "Share of migrations that succeeded, of those whose end was seen in the last day. Absent without any.",
        |it| ratio(it.indicators.migrations),
    ),
    gauge(
        "respot_recreation_success_ratio",
        "Share of recreations that succeeded, of those and the failed attempts of the last day. Absent without any.",
        |it| ratio(it.indicators.recreations),
    ),
    gauge(
        "respot_average_pass_duration_seconds",
        "Mean duration of the real passes of the last day. Absent without any.",
        |it| seconds(it.indicators.pass_time.millis()),
    ),
    gauge(
        "respot_provider_error_ratio",
        "Share of calls to the provider that it or the network failed in the last day. Absent without any.",
        |it| ratio(it.indicators.provider_errors),
    ),
    gauge(
        "respot_schedule_adherence_ratio",
        "Share of passes of the last day that began within a minute of their time. Absent without any.",
        |it| ratio(it.indicators.schedule),
    ),
];

/// Writes every metric that has a value.
#[must_use]
pub fn text(figures: &Figures<'_>) -> String {
    let mut out = String::new();
    for Metric { name, kind, help, samples } in METRICS {
        let samples = samples(figures);
        if samples.is_empty() {
            continue;
        }
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", escape(help, false), kind.into_str());
        for Sample { suffix, label, value } in samples {
            let _ = match label {
                Some((label, text)) => writeln!(out, "{name}{suffix}{{{label}=\"{}\"}} {value}", escape(&text, true)),
                None => writeln!(out, "{name}{suffix} {value}"),
            };
        }
    }
    out
}

/// What would end a line or a label early.
fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

fn rollout(figures: &Figures<'_>) -> Vec<Sample> {
    let Some(fleet) = figures.rollout else { return Vec::new() };
    let states =
        ["moving", "soaking", "held", "retiring", "rolling_back", "completed", "rolled_back", "aborted", "failed"];
    labelled("state", states.map(|state| (state, u64::from(state == fleet.rollout.state.as_str()))))
}

fn members(figures: &Figures<'_>) -> Vec<Sample> {
    let Some(fleet) = figures.rollout else { return Vec::new() };
    let count = |states: &[MemberState]| whole(states.iter().map(|state| fleet.count(*state)).sum());
    labelled(
        "state",
        [
            ("on_spot", count(&[MemberState::Ready, MemberState::Moved])),
            ("waiting", count(&[MemberState::Waiting, MemberState::Moving])),
            ("failed", count(&[MemberState::Failed, MemberState::Stranded])),
            ("put_back", count(&[MemberState::Undoing, MemberState::Returning, MemberState::Restored])),
        ],
    )
}

fn newest<'a>(figures: &Figures<'a>) -> Option<&'a Execution> {
    figures.passes.first().map(|it| &it.execution)
}

/// One that is at work hides nothing of what is known from the one before.
fn newest_closed<'a>(figures: &Figures<'a>) -> Option<&'a Execution> {
    figures.passes.iter().map(|it| &it.execution).find(|pass| pass.completed_at.is_some())
}

fn health(figures: &Figures<'_>) -> Vec<Sample> {
    use Health::{Degraded, Disabled, Healthy, NeverExecuted, Unhealthy};
    let is = figures.diagnosis.health;
    labelled(
        "state",
        [Healthy, Degraded, Unhealthy, Disabled, NeverExecuted].map(|it| (it.into_str(), u64::from(it == is))),
    )
}

fn status(figures: &Figures<'_>) -> Vec<Sample> {
    use ExecutionStatus::{Completed, Failed, Interrupted, Partial, Running, Timeout};
    let Some(last) = newest(figures) else { return Vec::new() };
    let all = [Running, Completed, Partial, Failed, Timeout, Interrupted];
    labelled("status", all.map(|it| (it.into_str(), u64::from(it == last.status))))
}

/// A pass that failed may have seen nothing, which is not the same as seeing that nothing is there.
fn instances(figures: &Figures<'_>) -> Vec<Sample> {
    let worked = |pass: &&Execution| matches!(pass.status, ExecutionStatus::Completed | ExecutionStatus::Partial);
    let Some(pass) = figures.passes.iter().map(|it| &it.execution).find(worked) else { return Vec::new() };
    let Summary { total_instances, exited_instances, eligible_instances, .. } = pass.summary;
    labelled("state", [("total", total_instances), ("exited", exited_instances), ("eligible", eligible_instances)])
}

/// The bounds of [`BUCKETS`], as labels.
const BUCKET_LABELS: [&str; BUCKETS.len()] =
    ["60", "120", "300", "600", "900", "1800", "3600", "7200", "14400", "43200", "86400"];

fn availability(figures: &Figures<'_>) -> Vec<Sample> {
    let windows = ["24h", "7d", "30d"].into_iter().zip(&figures.recovery);
    let known = windows.filter_map(|(window, it)| Some((window, it.up_share?)));
    known
        .map(|(window, share)| Sample { label: Some(("window", window.into())), ..plain(Figure::Decimal(share)) })
        .collect()
}

/// Never goes down: of what is still down, only what is behind it counts, without the part that may yet fail.
fn downtime(figures: &Figures<'_>) -> Vec<Sample> {
    let mut lost = figures.downtime.map_or_else(Lost::default, |all| all.lost);
    for (part, millis) in figures.down.iter().flat_map(|(_, spell)| spell.settled()) {
        lost.add(part, millis);
    }
    let sample =
        |part: Part| Sample { label: Some(("cause", part.into_str().into())), ..plain(Figure::Seconds(lost.of(part))) };
    Part::ALL.map(sample).into()
}

fn refusals(figures: &Figures<'_>) -> Vec<Sample> {
    let mut by_cluster: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, market) in figures.markets.iter().filter(|(_, market)| market.refused > 0) {
        *by_cluster.entry(place.cluster.as_str()).or_default() += market.refused;
    }
    let sample = |(cluster, count): (&str, u64)| Sample {
        label: Some(("cluster", cluster.to_owned().into())),
        ..plain(Figure::Count(count))
    };
    by_cluster.into_iter().map(sample).collect()
}

fn recoveries(figures: &Figures<'_>) -> Vec<Sample> {
    let none = DaySums::default();
    let DaySums { recovered, recovered_millis, recovered_within, .. } = figures.downtime.unwrap_or(&none);
    let buckets = BUCKET_LABELS.into_iter().zip(recovered_within.iter().copied()).chain([("+Inf", *recovered)]);
    let bucket =
        |(le, count)| Sample { suffix: "_bucket", label: Some(("le", Cow::Borrowed(le))), value: Figure::Count(count) };
    let sum = Sample { suffix: "_sum", ..plain(Figure::Seconds(*recovered_millis)) };
    let count = Sample { suffix: "_count", ..plain(Figure::Count(*recovered)) };
    buckets.map(bucket).chain([sum, count]).collect()
}

fn plain(value: Figure) -> Sample {
    Sample { suffix: "", label: None, value }
}

fn count(is: bool) -> Vec<Sample> {
    vec![plain(Figure::Count(u64::from(is)))]
}

fn labelled<const N: usize>(label: &'static str, values: [(&'static str, u64); N]) -> Vec<Sample> {
    values.map(|(text, count)| Sample { label: Some((label, text.into())), ..plain(Figure::Count(count)) }).into()
}

fn time(moment: Option<Timestamp>) -> Vec<Sample> {
    seconds(moment.map(Timestamp::as_millis))
}

fn seconds(millis: Option<i64>) -> Vec<Sample> {
    millis.map(|millis| plain(Figure::Seconds(millis))).into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "a rate for dashboards; exact up to 2^53 of anything")]
fn ratio(Share { part, whole }: Share) -> Vec<Sample> {
    let ratio = (whole > 0).then(|| plain(Figure::Decimal(part as f64 / whole as f64)));
    ratio.into_iter().collect()
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
