//! How well the last day went: five indicators, each against its target, and what happened in each hour.
//!
//! Thresholds are compared in whole numbers. "No data" is an answer of its own, and neither 0 % nor 100 %.

use std::time::Duration;

use crate::core::record::execution::{Action, Attempt, Execution, ExecutionStatus, Outcome, Recorded};
use crate::core::world::time::{Timestamp, millis};

/// How far the indicators look back: passes younger than this.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// The hours in [`WINDOW`].
pub const HOURS: usize = 24;

/// How far back passes are wanted: some from before the window tell at which minutes the schedule calls.
pub const LOOK_BACK: Duration = Duration::from_secs(27 * 3600);

/// A pass that starts within this time of its due time is on time, unless the interval is short.
const ON_TIME: Duration = Duration::from_secs(60);

/// What a rate is measured against, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Above(u64),
    Below(u64),
}

/// Migrations that should succeed.
pub const MIGRATION_TARGET: Target = Target::Above(95);
/// Recreations that should succeed.
pub const RECREATION_TARGET: Target = Target::Above(95);
/// Calls that the provider may fail.
pub const PROVIDER_TARGET: Target = Target::Below(1);
/// Passes that should begin at their time.
pub const SCHEDULE_TARGET: Target = Target::Above(95);
/// A pass should on average take less than this.
pub const PASS_TIME_TARGET: Duration = Duration::from_secs(120);

/// How an indicator stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Met,
    Missed,
    /// Nothing happened that it could be judged by.
    NoData,
}

/// A part of a whole; of nothing when nothing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub part: u64,
    /// Out of this many.
    pub whole: u64,
}

impl Share {
    /// In hundredths of a percent, rounded down; `None` of nothing. Only the whole is 10 000.
    #[must_use]
    pub fn basis_points(self) -> Option<u64> {
        let points = u128::from(self.part) * 10_000;
        points.checked_div(u128::from(self.whole)).map(|points| u64::try_from(points).unwrap_or(u64::MAX))
    }

    /// Whether it is as it should be. On the threshold it is not.
    #[must_use]
    pub fn against(self, target: Target) -> Standing {
        let is = u128::from(self.part) * 100;
        let limit = |percent: u64| u128::from(self.whole) * u128::from(percent);
        let met = match target {
            _ if self.whole == 0 => return Standing::NoData,
            Target::Above(percent) => is > limit(percent),
            Target::Below(percent) => is < limit(percent),
        };
        if met { Standing::Met } else { Standing::Missed }
    }

    fn and(self, part: u64, whole: u64) -> Self {
        Self { part: self.part + part, whole: self.whole + whole }
    }
}

/// A mean duration; of no passes when none ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mean {
    /// The sum in milliseconds.
    pub sum_millis: i64,
    /// Out of this many.
    pub count: u64,
}

impl Mean {
    /// In milliseconds, rounded down; `None` of nothing.
    #[must_use]
    pub fn millis(self) -> Option<i64> {
        i64::try_from(self.count).ok().and_then(|count| self.sum_millis.checked_div(count))
    }

    /// Whether it is less than the target. On the threshold it is not.
    #[must_use]
    pub fn against(self, target: Duration) -> Standing {
        let limit = i128::from(millis(target)) * i128::from(self.count);
        match self.count {
            0 => Standing::NoData,
            _ if i128::from(self.sum_millis) < limit => Standing::Met,
            _ => Standing::Missed,
        }
    }
}

/// How well the last day went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indicators {
    /// Accepted migrations after which the instance ran again, of those whose end was seen.
    pub migrations: Share,
    /// Recreations that came to a running successor, of those and the failed attempts. What is still under way, in doubt
    /// or was not begun counts for neither.
    pub recreations: Share,
    /// Time from begin to end of a pass; rehearsals are left out.
    pub pass_time: Mean,
    /// Calls that the provider or the network failed, of all calls. Rehearsals read, too.
    pub provider_errors: Share,
    /// Passes that began at their time, of those that should have begun. Rehearsals are passes of the schedule.
    pub schedule: Share,
}

impl Indicators {
    /// From the passes, newest first, of at least [`WINDOW`], better of [`LOOK_BACK`]. `interval` is the time between two
    /// passes; `None` where nothing is scheduled.
    #[must_use]
    pub fn of(newest_first: &[Recorded], interval: Option<Duration>, now: Timestamp) -> Self {
        let mut all = Self::default();
        for recorded in newest_first.iter().filter(|it| age(&it.execution, now) < WINDOW) {
            let Recorded { execution, attempts, writes: _, provider_calls, ended_migrations, sightings: _ } = recorded;
            all.provider_errors = all.provider_errors.and(provider_calls.failed, provider_calls.total);
            if execution.dry_run {
                continue;
            }
            let (good, bad) = (ended_migrations.succeeded, ended_migrations.failed);
            all.migrations = all.migrations.and(good, good + bad);
            for outcome in attempts.iter().filter_map(recreated) {
                all.recreations = all.recreations.and(u64::from(outcome), 1);
            }
            if let Some(duration) = execution.duration {
                let Mean { sum_millis, count } = all.pass_time;
                all.pass_time = Mean { sum_millis: sum_millis.saturating_add(duration), count: count + 1 };
            }
        }
        let begun = newest_first.iter().rev().map(|it| it.execution.started_at);
        let begun: Vec<Timestamp> = begun.filter(|at| !at.is_ahead_of(now)).collect();
        all.schedule = interval.map_or_else(Share::default, |interval| adherence(&begun, interval, now));
        all
    }
}

/// Whether an attempt brought a successor; `None` where it is no recreation, or not over.
fn recreated(attempt: &Attempt) -> Option<bool> {
    let Attempt { action, outcome, new_instance_id, .. } = attempt;
    match (action, outcome) {
        (Action::Migrate, _) => None,
        // One without a successor retired an instance that was one too many.
        (_, Outcome::Done) => new_instance_id.is_some().then_some(true),
        (_, Outcome::Failed) => Some(false),
        (_, Outcome::Accepted | Outcome::NoRoom | Outcome::Unknown | Outcome::Skipped) => None,
    }
}

/// Nothing is known of the age of one that is dated ahead.
fn age(execution: &Execution, now: Timestamp) -> Duration {
    if execution.started_at.is_ahead_of(now) { Duration::MAX } else { now.since(execution.started_at) }
}

/// How a schedule was kept, from when its passes began, oldest first.
///
/// A schedule calls each `interval`; at which minutes is learnt from the passes. Each pass that is on time is the anchor
/// of what follows, so that a timer that counts from its last call may drift:
///
/// * less than an interval after the anchor, it is an extra pass, by hand, and counts for nothing;
/// * at a multiple of the interval it is on time; the times in between were missed;
/// * anything else is late. Whether a call was late or the schedule was moved shows with the next one, which is on time
///   by the old minutes or by the new ones.
///
/// A quarter of the interval, at most a minute, makes no difference. The very first pass was not due. What is
/// due but within that time is not missed yet, so it does not matter when one asks. All times are UTC: a clock that is put
/// forward an hour moves no interval of this program's, which are of an hour at most. An interval that was made shorter is
/// held against the passes before, for a day.
fn adherence(begun: &[Timestamp], interval: Duration, now: Timestamp) -> Share {
    let (every, slack) = (millis(interval).max(1), millis(ON_TIME.min(interval / 4)));
    let window = now.as_millis().saturating_sub(millis(WINDOW));
    // Of the times number `after + 1` to `last` from `start` on, those within the window.
    let due = |start: Timestamp, after: i64, last: i64| {
        let before_window = (window - start.as_millis()).div_euclid(every);
        u64::try_from(last - after.max(before_window)).unwrap_or(0)
    };
    // The number of the time that a pass came for, and whether it came at that time.
    let slot = |start: Timestamp, pass: Timestamp| {
        let gap = pass.as_millis() - start.as_millis();
        let number = (gap + slack).div_euclid(every);
        (number, (gap - number * every).abs() <= slack)
    };
    let Some((&first, rest)) = begun.split_first() else { return Share::default() };
    // The last pass on time, how many times since then are accounted for, and a late pass since then.
    let (mut anchor, mut counted, mut late) = (first, 0, None::<Timestamp>);
    let mut kept = Share::default();
    for &pass in rest {
        let (number, on_time) = slot(anchor, pass);
        let moved = late.map(|late| (late, slot(late, pass))).filter(|(_, (number, fits))| *fits && *number > 0);
        let expected = match moved {
            _ if number < 1 => continue,
            _ if on_time => due(anchor, counted, number),
            Some((late, (number, _))) => due(late, 0, number),
            None => {
                // A second one for the same time is by hand.
                if number > counted {
                    kept = kept.and(0, due(anchor, counted, number));
                    (counted, late) = (number, Some(pass));
                }
                continue;
            }
        };
        kept = kept.and(expected.min(1), expected);
        (anchor, counted, late) = (pass, 0, None);
    }
    // What is over its time by now. After a late pass the milder of both readings.
    let over = |start: Timestamp| (now.as_millis() - start.as_millis() - slack - 1).div_euclid(every);
    let missed = due(anchor, counted, over(anchor));
    let missed = late.map_or(missed, |late| missed.min(due(late, 0, over(late))));
    kept.and(0, missed)
}

/// What happened in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    pub passes: u64,
    /// Of those, rehearsals. What they would have done is in no other figure.
    pub rehearsals: u64,
    /// Of the passes, those that failed, ran into their deadline or were killed.
    pub failed: u64,
    pub migrated: u64,
    pub recreated: u64,
    pub errors: u64,
}

impl Hour {
    fn with(self, execution: &Execution) -> Self {
        use ExecutionStatus::{Completed, Failed, Interrupted, Partial, Running, Timeout};
        let failed = match execution.status {
            Failed | Timeout | Interrupted => 1,
            Running | Completed | Partial => 0,
        };
        let counts = |count: u64| if execution.dry_run { 0 } else { count };
        let summary = execution.summary;
        Self {
            passes: self.passes + 1,
            rehearsals: self.rehearsals + u64::from(execution.dry_run),
            failed: self.failed + failed,
            migrated: self.migrated + counts(summary.migrated_instances),
            recreated: self.recreated + counts(summary.recreated_instances),
            errors: self.errors + counts(summary.error_count),
        }
    }
}

/// The hours of the last day, the oldest first; the last one ends now.
#[must_use]
pub fn hours(executions: &[Recorded], now: Timestamp) -> [Hour; HOURS] {
    let mut hours = [Hour::default(); HOURS];
    for Recorded { execution, .. } in executions {
        let ago = usize::try_from(age(execution, now).as_secs() / 3600).unwrap_or(HOURS);
        if let Some(hour) = (HOURS - 1).checked_sub(ago) {
            hours[hour] = hours[hour].with(execution);
        }
    }
    hours
}

#[cfg(test)]
mod tests;
