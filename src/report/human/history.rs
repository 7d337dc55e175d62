//! Past passes.

use std::fmt::Write as _;

use super::table::{Cell, columns};
use super::{Screen, ago, color_of, counted, life, short, to_the_minute, to_the_second};
use crate::core::record::execution::{Attempt, Outcome, Recorded, Summary};
use crate::core::record::trail::{Seen, Sighting};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::report::text::visible;

/// From this many columns on a table of passes has room for everything.
const WIDE: usize = 150;

/// So many troubles of a pass are listed.
const MOST_TROUBLES: usize = 3;

/// A part of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// How many are passed over.
    pub offset: usize,
    /// How many there are in all.
    pub total: usize,
    /// The command that shows the next page, but for its offset.
    pub command: &'a str,
    /// The time that is looked at, in words; `None` for all.
    pub since: Option<&'a str>,
}

impl Page<'_> {
    /// Says that there is nothing to be seen.
    pub(super) fn nothing(&self) -> String {
        match (self.total, self.since) {
            (0, None) => "no passes are recorded\n".into(),
            (0, Some(since)) => format!("no passes are recorded of the last {since}\n"),
            (total, _) => format!("no passes from {} on, {total} are recorded\n", self.offset),
        }
    }

    /// The closing line: what was seen, and how to see more.
    pub(super) fn closing(&self, shown: usize) -> String {
        let Self { offset, total, command, since: _ } = *self;
        let (first, last) = (offset + 1, offset + shown);
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let more = if last < total { format!("; older: {command} --offset {last}") } else { String::new() };
        format!("{range} of {}, newest first{more}", counted(total, "pass"))
    }
}

/// Past passes.
#[must_use]
pub fn history(screen: Screen, executions: &[Recorded], page: Page<'_>, now: Timestamp) -> String {
    if executions.is_empty() {
        return page.nothing();
    }
    // On a narrow terminal words get short, and the job id, which only scripts need, makes room.
    let is_wide = screen.width.is_none_or(|width| width >= WIDE);
    let header: &[&str] = if is_wide {
        &[
            "STARTED",
            "AGO",
            "STATUS",
            "TOOK",
            "",
            "SEEN",
            "EXITED",
            "ELIGIBLE",
            "MIGRATED",
            "RECREATED",
            "ERRORS",
            "JOB",
        ]
    } else {
        &["STARTED (UTC)", "AGO", "STATUS", "TOOK", "", "SEEN", "MIGR", "RECR", "ERR"]
    };
    let room = if is_wide { 20 } else { 7 };
    let longest = executions.iter().filter_map(|it| it.execution.duration).max().unwrap_or(0);
    // Whatever is a number stands on the right, its name too.
    let is_left = |name: &str| matches!(name, "STARTED" | "STARTED (UTC)" | "STATUS" | "JOB" | "");
    let names = header.iter().map(|name| if is_left(name) { Cell::new(*name) } else { Cell::number(name) });
    let mut rows = vec![(names.collect(), Vec::new())];
    for recorded in executions {
        let execution = &recorded.execution;
        let Summary {
            total_instances: seen,
            exited_instances: exited,
            eligible_instances: eligible,
            migrated_instances: migrated,
            recreated_instances: recreated,
            skipped_instances: _,
            error_count: errors,
        } = execution.summary;
        let status = if execution.dry_run {
            format!("{} (rehearsal)", execution.status.into_str())
        } else {
            execution.status.into_str().into()
        };
        let started = execution.started_at;
        let mut row = vec![
            Cell::new(if is_wide { to_the_second(started) } else { to_the_minute(started) }),
            Cell::number(ago(started, now)),
            Cell::new(status).paint(color_of(execution.status)),
            Cell::number(short(execution.duration)),
            Cell::new(bar(execution.duration, longest, room)),
            Cell::number(seen),
        ];
        if is_wide {
            row.extend([Cell::number(exited), Cell::number(eligible)]);
        }
        row.extend([Cell::number(migrated), Cell::number(recreated), Cell::number(errors)]);
        if is_wide {
            row.push(Cell::new(&execution.job_id));
        }
        rows.push((row, troubles(screen, recorded)));
    }
    let mut out = columns(screen, rows, &["", "STARTED (UTC)", "SEEN", "RECR"]);
    let _ = writeln!(out, "\n{}", screen.sentences(&page.closing(executions.len())));
    out
}

/// What went wrong in a pass: why the whole of it did, which actions failed, which migrations were seen to have failed.
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

/// A bar as long as the duration is beside the longest; whatever took any time has one.
fn bar(duration: Option<i64>, longest: i64, room: i64) -> String {
    let Some(duration) = duration.filter(|duration| *duration > 0) else { return String::new() };
    // Rounded to the nearest.
    let length = (duration.saturating_mul(2 * room) / longest.max(1) + 1) / 2;
    "#".repeat(usize::try_from(length.clamp(1, room)).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::execution::{Action, Execution, ExecutionStatus};

    #[test]
    fn bars_compare_with_the_longest() {
        for (duration, longest, length) in [
            (None, 100, 0),
            (Some(0), 100, 0),
            (Some(1), 1_000_000, 1),
            (Some(50), 100, 10),
            (Some(47), 100, 9),
            (Some(48), 100, 10),
            (Some(100), 100, 20),
            (Some(i64::MAX), i64::MAX, 1),
        ] {
            assert_eq!(bar(duration, longest, 20), "#".repeat(length), "{duration:?} of {longest}");
        }
    }

    /// What is shown below a pass with this error and so many failed migrations, of which the first was seen only later.
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

    #[test]
    fn the_closing_line_says_how_to_see_more() {
        for (offset, total, shown, line) in [
            (0, 5, 5, "1-5 of 5 passes, newest first"),
            (0, 50, 20, "1-20 of 50 passes, newest first; older: respot history --offset 20"),
            (40, 50, 10, "41-50 of 50 passes, newest first"),
            (0, 1, 1, "1 of 1 pass, newest first"),
            (4, 9, 1, "5 of 9 passes, newest first; older: respot history --offset 5"),
        ] {
            let page = Page { offset, total, command: "respot history", since: None };
            assert_eq!(page.closing(shown), line);
        }
    }
}
