//! Past passes.

use std::fmt::Write as _;

use super::table::Column::{Left, Right};
use super::table::{painted, table};
use super::{HistoryPage, Screen, ago, color_of, folded, life, short, to_the_minute};
use crate::core::record::execution::{Attempt, Execution, Outcome, Recorded, Summary};
use crate::core::record::trail::{Seen, Sighting};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::report::text::visible;

/// At most this many troubles of a pass are listed.
const MOST_TROUBLES: usize = 3;

/// Columns of the longest bar.
const BAR: i64 = 10;

/// Past passes.
#[must_use]
pub fn history(screen: Screen, executions: &[Recorded], page: HistoryPage<'_>, now: Timestamp) -> String {
    if executions.is_empty() {
        return page.nothing();
    }
    let longest = executions.iter().filter_map(|it| it.execution.duration).max().unwrap_or(0);
    let rows: Vec<Vec<String>> = executions.iter().map(|it| row(screen, &it.execution, longest, now)).collect();
    let columns = [
        Left("STARTED (UTC)"),
        Right("AGO"),
        Left("STATUS"),
        Right("TOOK"),
        Left(""),
        Right("SEEN"),
        Right("EXITED"),
        Right("ELIGIBLE"),
        Right("MIGRATED"),
        Right("RECREATED"),
        Right("ERRORS"),
        Left("JOB"),
    ];
    // Only scripts need the job id.
    let spare = ["JOB", "ELIGIBLE", "EXITED", "", "SEEN", "STARTED (UTC)", "TOOK", "RECREATED"];
    let mut out = table(screen, &columns, &rows, &spare);
    for recorded in executions {
        let troubles = troubles(screen, recorded);
        if !troubles.is_empty() {
            let _ = writeln!(out, "\n{}:", to_the_minute(recorded.execution.started_at));
        }
        for line in troubles.iter().flat_map(|trouble| folded("  ", trouble, screen.width)) {
            let _ = writeln!(out, "{line}");
        }
    }
    let _ = writeln!(out, "\n{}", screen.sentences(&page.closing(executions.len())));
    out
}

fn row(screen: Screen, execution: &Execution, longest: i64, now: Timestamp) -> Vec<String> {
    let Summary {
        total_instances: seen,
        exited_instances: exited,
        eligible_instances: eligible,
        migrated_instances: migrated,
        recreated_instances: recreated,
        skipped_instances: _,
        error_count: errors,
        no_room_instances: _,
    } = execution.summary;
    let rehearsal = if execution.dry_run { " (rehearsal)" } else { "" };
    let times = [to_the_minute(execution.started_at), ago(execution.started_at, now)];
    let status = painted(screen, &format!("{}{rehearsal}", execution.status.into_str()), color_of(execution.status));
    let took = [status, short(execution.duration), bar(execution.duration, longest)];
    let counts = [seen, exited, eligible, migrated, recreated, errors].map(|count| count.to_string());
    times.into_iter().chain(took).chain(counts).chain([execution.job_id.clone()]).collect()
}

/// What went wrong in a pass: its own error, actions that failed, migrations that were found to have failed.
fn troubles(screen: Screen, recorded: &Recorded) -> Vec<String> {
    let Recorded { execution, attempts, sightings, .. } = recorded;
    let who = |id: &InstanceId, name: &str| {
        if name.is_empty() { id.to_string() } else { format!("{id} {}", screen.name(name)) }
    };
    let failed = |it: &&Attempt| matches!(it.outcome, Outcome::Failed | Outcome::Unknown);
    let actions = attempts.iter().filter(failed).map(|it| {
        let (action, outcome) = (it.action.into_str(), it.outcome.into_str());
        format!("{}: {action} {outcome}: {}", who(&it.instance_id, &it.instance_name), it.reason)
    });
    let is_trouble = |it: &&Sighting| match it.seen {
        Seen::MigrationFailed | Seen::MigrationStuck | Seen::NotRunning | Seen::Vanished => true,
        Seen::ReclaimNotice | Seen::MigrationConfirmed | Seen::CallWithoutEffect | Seen::RunningAgain => false,
    };
    let seen = sightings.iter().filter(is_trouble).map(|it| {
        let what = life::what(it.seen.into());
        format!("{}: {what}: {}", who(&it.instance_id, &it.instance_name), it.detail)
    });
    let mut troubles: Vec<String> = execution.error.iter().cloned().chain(actions).chain(seen).collect();
    if troubles.len() > MOST_TROUBLES {
        let more = troubles.len() - MOST_TROUBLES;
        troubles.truncate(MOST_TROUBLES);
        troubles.push(format!("and {more} more, see respot history -o json"));
    }
    troubles.iter().map(|trouble| visible(trouble)).collect()
}

/// A bar in proportion to the longest duration; any time at all has one.
fn bar(duration: Option<i64>, longest: i64) -> String {
    let Some(duration) = duration.filter(|duration| *duration > 0) else { return String::new() };
    // Rounded to the nearest.
    let length = (duration.saturating_mul(2 * BAR) / longest.max(1) + 1) / 2;
    "#".repeat(usize::try_from(length.clamp(1, BAR)).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::execution::{Action, ExecutionStatus};

    #[test]
    fn bars_compare_with_the_longest() {
        for (duration, longest, length) in [
            (None, 100, 0),
            (Some(0), 100, 0),
            (Some(1), 1_000_000, 1),
            (Some(50), 100, 5),
            (Some(44), 100, 4),
            (Some(45), 100, 5),
            (Some(100), 100, 10),
            (Some(i64::MAX), i64::MAX, 1),
        ] {
            assert_eq!(bar(duration, longest), "#".repeat(length), "{duration:?} of {longest}");
        }
    }

    /// The lines below a pass with an error and failed migrations, the first of which was observed later.
    #[test]
    fn a_pass_says_what_went_wrong() {
        let at = Timestamp::from_secs(1_700_000_000);
        let id = |n: usize| InstanceId::new(&format!("i{n}"));
        let shown = |error: Option<&str>, failures: usize| {
            let mut recorded = Recorded::of(Execution {
                job_id: "p".into(),
                status: ExecutionStatus::Partial,
                started_at: at,
                completed_at: None,
                duration: None,
                dry_run: false,
                summary: Summary::default(),
                error: error.map(Into::into),
                error_kind: None,
            });
            recorded.attempts.extend((1..failures).map(|n| Attempt {
                instance_id: id(n),
                instance_name: "train".into(),
                action: Action::Migrate,
                outcome: Outcome::Failed,
                reason: "no\u{1b}stock".into(),
                error_kind: None,
                new_instance_id: None,
                response_time: None,
                at,
            }));
            recorded.sightings.extend((0..failures.min(1)).map(|n| Sighting {
                at,
                instance_id: id(n),
                instance_name: String::new(),
                seen: Seen::MigrationFailed,
                detail: "no node".into(),
            }));
            troubles(Screen { width: None, color: false }, &recorded)
        };
        let failed = |n: usize| format!("i{n} train: migrate failed: no\\u{{1b}}stock");
        let seen = || "i0: migration failed: no node".to_owned();
        for (error, failures, lines) in [
            (None, 0, vec![]),
            (Some("refused"), 0, vec!["refused".to_owned()]),
            (None, 1, vec![seen()]),
            (None, 3, vec![failed(1), failed(2), seen()]),
            (None, 5, vec![failed(1), failed(2), failed(3), "and 2 more, see respot history -o json".into()]),
        ] {
            assert_eq!(shown(error, failures), lines, "{error:?}, {failures}");
        }
    }
}
