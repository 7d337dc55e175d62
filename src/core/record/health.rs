//! Whether the schedule is kept and the passes do their work.

use std::time::Duration;

use serde::Serialize;

use crate::core::pass::spell::Spell;
use crate::core::record::execution::{Execution, ExecutionStatus};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::{Timestamp, in_words};
use crate::core::world::times::LONGEST_RECREATION;

/// How many of the last executions count for `recentErrors`.
pub const RECENT: usize = 5;

/// Whether the migration service does what its schedule promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Health {
    /// On schedule, without errors.
    Healthy,
    /// Something is down for more than two intervals, or in quarantine; the last pass was partial, or there were errors in
    /// the last five.
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

/// What keeps a fleet from being well although its passes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetTroubles<'a> {
    /// What is down, the longest first.
    pub down: &'a [(InstanceId, Spell)],
    /// Instances left alone after repeated failures.
    pub quarantined: usize,
    /// Recreations that take longer than any should, by the old instance.
    pub overdue: &'a [&'a InstanceId],
    /// Instances that the last passes saw gone without a successor.
    pub lost: usize,
    /// What else a person has to look at.
    pub left_over: Option<LeftOver>,
}

/// What no pass can bring in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOver {
    /// The last rollout could not put everything back.
    FailedRollout,
    /// It has been deleting or restoring instances for longer than [`LONGEST_RECREATION`].
    OverdueRollout,
    /// Moves are open that belong to no rollout: its record was lost.
    LostRollout,
    /// On-demand instances that stand in are all there is, and have cost more today than they may.
    OverBudget,
}

impl LeftOver {
    /// What it is, and the command that shows more.
    #[must_use]
    pub fn in_words(self) -> (&'static str, &'static str) {
        match self {
            Self::FailedRollout => ("the last rollout failed and needs an operator", "respot rollout status"),
            Self::OverdueRollout => ("the rollout has not finished for hours", "respot rollout status"),
            Self::LostRollout => {
                ("the record of a rollout was lost, and its instances run twice", "respot rollout --yes")
            }
            Self::OverBudget => {
                ("on-demand stand-ins have cost more today than RESPOT_BRIDGE_USD_PER_DAY", "respot markets")
            }
        }
    }
}

impl<'a> FleetTroubles<'a> {
    /// What is down for longer than passes need to notice it and to bring it back: two intervals.
    #[must_use]
    pub fn lasting(&self, interval: Duration, now: Timestamp) -> Vec<&'a (InstanceId, Spell)> {
        self.down.iter().filter(|(_, spell)| now.since(spell.down_at) > 2 * interval).collect()
    }

    fn lasting_in_words(&self, interval: Duration, now: Timestamp) -> Option<String> {
        let lasting = self.lasting(interval, now);
        let (id, spell) = lasting.first()?;
        let name = if spell.name.is_empty() { id.as_str() } else { &spell.name };
        let more = if lasting.len() == 1 { String::new() } else { format!(" and {} more", lasting.len() - 1) };
        Some(format!("{name}{more} down for {}", in_words(now.since(spell.down_at))))
    }
}

/// Judges the service by its last passes, newest first, and by what is down.
#[must_use]
pub fn diagnose(
    enabled: bool,
    interval: Duration,
    newest_first: &[Execution],
    troubles: FleetTroubles<'_>,
    now: Timestamp,
) -> Diagnosis {
    let recent_errors = newest_first.iter().take(RECENT).map(|it| it.summary.error_count).sum();
    let verdict = |health, why: String, next_execution| Diagnosis { health, why, next_execution, recent_errors };
    if !enabled {
        return verdict(Health::Disabled, "MIGRATION_ENABLED is false".into(), None);
    }
    let Some(last) = newest_first.first() else {
        return verdict(Health::NeverExecuted, "no pass ever ran with this store".into(), None);
    };
    if last.started_at.is_ahead_of(now) {
        let by = in_words(last.started_at.since(now));
        let why = format!("the clock is wrong, or was: the last pass is dated {by} ahead");
        return verdict(Health::Unhealthy, why, None);
    }
    let due = last.started_at + interval;
    let reason = last.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    if now.since(due) > interval {
        let late = in_words(now.since(due));
        return verdict(Health::Unhealthy, format!("overdue by {late}"), Some(due));
    }
    let (health, why) = match last.status {
        ExecutionStatus::Failed | ExecutionStatus::Timeout | ExecutionStatus::Interrupted => {
            (Health::Unhealthy, format!("the last pass ended as {}{reason}", last.status.into_str()))
        }
        ExecutionStatus::Partial | ExecutionStatus::Running | ExecutionStatus::Completed => {
            match troubles.lasting_in_words(interval, now) {
                Some(why) => (Health::Degraded, why),
                None if troubles.lost > 0 => (
                    Health::Degraded,
                    format!("gone without a successor in the last {RECENT} passes: {}", troubles.lost),
                ),
                None if !troubles.overdue.is_empty() => {
                    let hours = LONGEST_RECREATION.as_secs() / 3600;
                    (Health::Degraded, format!("recreations under way for over {hours} h: {}", troubles.overdue.len()))
                }
                None if troubles.left_over.is_some() => {
                    (Health::Degraded, troubles.left_over.map_or("", |it| it.in_words().0).into())
                }
                None if last.status == ExecutionStatus::Partial => (
                    Health::Degraded,
                    format!("failed or unknown actions in the last pass: {}", last.summary.error_count),
                ),
                None if recent_errors > 0 => (
                    Health::Degraded,
                    format!("failed or unknown actions in the last {RECENT} passes: {recent_errors}"),
                ),
                None if troubles.quarantined > 0 => {
                    (Health::Degraded, format!("left alone after repeated failures: {}", troubles.quarantined))
                }
                None if last.status == ExecutionStatus::Running => (Health::Healthy, "a pass is at work".into()),
                None if !troubles.down.is_empty() => {
                    (Health::Healthy, format!("on schedule, {} down for less than two intervals", troubles.down.len()))
                }
                None => (Health::Healthy, "on schedule, no errors".into()),
            }
        }
    };
    verdict(health, why, Some(due))
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
            (&[(Completed, 0, 0)], -1, Health::Healthy, "on schedule"),
            (
                &[(Completed, 0, 0)],
                -600,
                Health::Unhealthy,
                "the clock is wrong, or was: the last pass is dated 10 h ahead",
            ),
        ];
        for (passes, now, health, part) in rows {
            let passes: Vec<Execution> = passes.iter().map(|&(status, began, n)| execution(status, began, n)).collect();
            let got = diagnose(true, quarter, &passes, FleetTroubles::default(), at(*now));
            assert_eq!(got.health, *health, "{passes:?}");
            assert!(got.why.contains(part), "{:?} lacks {part:?}", got.why);
            let known = passes.first().filter(|last| !last.started_at.is_ahead_of(at(*now)));
            let due = known.map(|last| last.started_at + quarter);
            assert_eq!(got.next_execution, due);
        }
        let off = diagnose(false, quarter, &[execution(Failed, 0, 1)], FleetTroubles::default(), at(1));
        assert_eq!((off.health, off.next_execution), (Health::Disabled, None));
    }

    #[test]
    fn a_fleet_with_something_down_is_not_healthy_for_long() {
        use ExecutionStatus::{Completed, Failed, Partial, Running};
        let quarter = Duration::from_secs(15 * 60);
        let spell = |name: &str, since| {
            let spell = Spell { name: name.into(), down_at: at(since), ..Spell::default() };
            (InstanceId::new(&format!("id-of-{name}")), spell)
        };
        // The last pass and its errors; since when things are down, how many are quarantined; the verdict and a part of why.
        let rows: &[(ExecutionStatus, u64, &[(&str, i64)], usize, Health, &str)] = &[
            (Completed, 0, &[("a", -30)], 0, Health::Healthy, "on schedule, 1 down for less than two intervals"),
            (Completed, 0, &[("a", -31)], 0, Health::Degraded, "a down for 31 min"),
            (Completed, 0, &[("", -31)], 0, Health::Degraded, "id-of- down for 31 min"),
            (Completed, 0, &[("a", -120), ("b", -60), ("c", -3)], 0, Health::Degraded, "a and 1 more down for 2 h"),
            (Running, 0, &[("a", -31)], 0, Health::Degraded, "a down"),
            (Partial, 1, &[("a", -31)], 0, Health::Degraded, "a down"),
            (Partial, 1, &[("a", -3)], 0, Health::Degraded, "in the last pass: 1"),
            (Failed, 0, &[("a", -31)], 0, Health::Unhealthy, "ended as failed"),
            (Completed, 0, &[], 2, Health::Degraded, "left alone after repeated failures: 2"),
            (Running, 0, &[], 1, Health::Degraded, "left alone"),
        ];
        for (status, errors, down, quarantined, health, part) in rows {
            let down: Vec<_> = down.iter().map(|(name, since)| spell(name, *since)).collect();
            let troubles = FleetTroubles { down: &down, quarantined: *quarantined, ..FleetTroubles::default() };
            let got = diagnose(true, quarter, &[execution(*status, -1, *errors)], troubles, at(0));
            assert_eq!((got.health, got.why.contains(part)), (*health, true), "{:?} lacks {part:?}", got.why);
        }
        let well = execution(Completed, -1, 0);
        let stuck = InstanceId::new("a");
        for (troubles, part) in [
            (
                FleetTroubles { left_over: Some(LeftOver::FailedRollout), ..FleetTroubles::default() },
                "the last rollout failed and needs an operator",
            ),
            (FleetTroubles { lost: 2, ..FleetTroubles::default() }, "gone without a successor in the last 5 passes: 2"),
            (FleetTroubles { overdue: &[&stuck], ..FleetTroubles::default() }, "under way for over 2 h: 1"),
        ] {
            let got = diagnose(true, quarter, std::slice::from_ref(&well), troubles, at(0));
            assert_eq!((got.health, got.why.contains(part)), (Health::Degraded, true), "{}", got.why);
        }
    }
}
