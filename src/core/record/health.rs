//! Whether the schedule is kept and the passes do their work.

use std::time::Duration;

use serde::Serialize;

use crate::core::record::execution::{Execution, ExecutionStatus};
use crate::core::world::time::{Timestamp, in_words};

/// How many of the last executions count for `recentErrors`.
pub const RECENT: usize = 5;

/// Whether the migration service does what its schedule promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Health {
    /// On schedule, without errors.
    Healthy,
    /// The last pass was partial, or there were errors in the last five.
    Degraded,
    /// Overdue by more than one interval, or the last pass failed.
    Unhealthy,
    Disabled,
    NeverExecuted,
}

/// The state of the service, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub health: Health,
    pub why: String,
    /// When the schedule should call next.
    pub next_execution: Option<Timestamp>,
    /// Failed and unknown actions of the last [`RECENT`] passes.
    pub recent_errors: u64,
}

/// Judges the service by its last passes, newest first.
#[must_use]
pub fn diagnose(enabled: bool, interval: Duration, newest_first: &[Execution], now: Timestamp) -> Diagnosis {
    let recent_errors = newest_first.iter().take(RECENT).map(|it| it.summary.error_count).sum();
    let verdict = |health, why: String, next_execution| Diagnosis { health, why, next_execution, recent_errors };
    if !enabled {
        return verdict(Health::Disabled, "MIGRATION_ENABLED is false".into(), None);
    }
    let Some(last) = newest_first.first() else {
        return verdict(Health::NeverExecuted, "no pass ever ran with this store".into(), None);
    };
    let due = last.started_at + interval;
    let reason = last.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    if now.since(due) > interval {
        let late = in_words(now.since(due));
        return verdict(Health::Unhealthy, format!("overdue by {late}"), Some(due));
    }
    match last.status {
        ExecutionStatus::Failed | ExecutionStatus::Timeout | ExecutionStatus::Interrupted => {
            verdict(Health::Unhealthy, format!("the last pass ended as {}{reason}", last.status.into_str()), Some(due))
        }
        ExecutionStatus::Partial => {
            let why = format!("failed or unknown actions in the last pass: {}", last.summary.error_count);
            verdict(Health::Degraded, why, Some(due))
        }
        ExecutionStatus::Running | ExecutionStatus::Completed if recent_errors > 0 => {
            let why = format!("failed or unknown actions in the last {RECENT} passes: {recent_errors}");
            verdict(Health::Degraded, why, Some(due))
        }
        ExecutionStatus::Running => verdict(Health::Healthy, "a pass is at work".into(), Some(due)),
        ExecutionStatus::Completed => verdict(Health::Healthy, "on schedule, no errors".into(), Some(due)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::execution::Summary;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + 60 * minutes)
    }

    fn execution(status: ExecutionStatus, began: i64, errors: u64) -> Execution {
        let summary = Summary { total_instances: 45, error_count: errors, ..Summary::default() };
        let begun = Execution::begun(format!("migration-job-{began}"), at(began), false);
        match status {
            ExecutionStatus::Running => begun,
            ExecutionStatus::Interrupted => Execution { status, summary, ..begun },
            status => begun.closed(status, at(began + 1), summary, None),
        }
    }

    #[test]
    fn health_follows_from_the_last_passes() {
        use ExecutionStatus::{Completed, Failed, Interrupted, Partial, Running, Timeout};
        let quarter = Duration::from_secs(15 * 60);
        // Newest first, each with the minute it began and its errors; the time now; the verdict and a part of why.
        let rows: &[(&[(ExecutionStatus, i64, u64)], i64, Health, &str)] = &[
            (&[], 0, Health::NeverExecuted, "no pass ever ran"),
            (&[(Completed, 0, 0)], 1, Health::Healthy, "on schedule"),
            (&[(Running, 0, 0)], 1, Health::Healthy, "at work"),
            (&[(Partial, 0, 2)], 1, Health::Degraded, "in the last pass: 2"),
            (&[(Completed, 60, 0), (Partial, 45, 3)], 61, Health::Degraded, "passes: 3"),
            (
                &[
                    (Completed, 75, 0),
                    (Completed, 60, 0),
                    (Completed, 45, 0),
                    (Completed, 30, 0),
                    (Completed, 15, 0),
                    (Partial, 0, 3),
                ],
                76,
                Health::Healthy,
                "on schedule",
            ),
            (&[(Failed, 0, 0), (Completed, -15, 0)], 1, Health::Unhealthy, "ended as failed"),
            (&[(Timeout, 0, 0)], 1, Health::Unhealthy, "ended as timeout"),
            (&[(Interrupted, 0, 0)], 1, Health::Unhealthy, "ended as interrupted"),
            (&[(Completed, 0, 0)], 30, Health::Healthy, "on schedule"),
            (&[(Completed, 0, 0)], 31, Health::Unhealthy, "overdue by 16 min"),
            (&[(Completed, 0, 0)], -600, Health::Healthy, "on schedule"),
        ];
        for (passes, now, health, part) in rows {
            let passes: Vec<Execution> = passes.iter().map(|&(status, began, n)| execution(status, began, n)).collect();
            let got = diagnose(true, quarter, &passes, at(*now));
            assert_eq!(got.health, *health, "{passes:?}");
            assert!(got.why.contains(part), "{:?} lacks {part:?}", got.why);
            let due = passes.first().map(|last| last.started_at + quarter);
            assert_eq!(got.next_execution, due);
        }
        let off = diagnose(false, quarter, &[execution(Failed, 0, 1)], at(1));
        assert_eq!((off.health, off.next_execution), (Health::Disabled, None));
    }
}
