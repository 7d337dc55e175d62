//! The screens for people: the answer first, details below, nothing that is not needed.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::json::{ConfigPart, InFlightPart, StatusDocument};
use super::text::{shorten, visible};
use crate::core::journal::{MOST_FAILURES, Recreation, Step};
use crate::core::model::{Instance, InstanceId, Timestamp};
use crate::core::plan::Plan;
use crate::core::policy::Policy;
use crate::core::summary::{
    Attempt, Execution, ExecutionStatus, Health, Outcome, Recorded, Statistics, Summary, Totals,
};
use crate::core::verdict::{Decision, in_words};

/// From this many columns on a table of passes has room for their ids.
const WIDE: usize = 130;

/// The widest a name gets in a table, in columns.
const LONGEST_NAME: usize = 40;

/// The place a screen is drawn on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Columns; `None` where lines may be as long as they like.
    pub width: Option<usize>,
    /// Whether colour is wanted.
    pub color: bool,
}

impl Screen {
    fn table(self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(header);
        match self.width {
            Some(width) => {
                let width = u16::try_from(width).unwrap_or(u16::MAX);
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    /// A name that leaves room for the rest of the row. Whoever needs it whole asks for JSON.
    fn name(self, name: &str) -> String {
        shorten(&visible(name), self.width.map_or(LONGEST_NAME, |width| (width / 6).clamp(12, LONGEST_NAME)))
    }

    fn paint(self, text: &str, color: Color) -> String {
        let code = match color {
            Color::DarkGreen => 32,
            Color::DarkYellow => 33,
            Color::DarkRed => 31,
            _ => 2,
        };
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.into() }
    }
}

/// A table as text. Cells are padded to the column's width; trailing blanks go, so that lines can be compared.
fn render(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for line in table.lines() {
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// The plan: what would be done first, then what is left alone and why.
#[must_use]
pub fn plan(screen: Screen, instances: &[Instance], plan: &Plan, policy: &Policy) -> String {
    let mut table = screen.table(&["INSTANCE", "NAME", "STATUS", "VERDICT", "REASON"]);
    let skips = plan.rows(instances).filter(|(_, decision)| decision.verdict() == "skip");
    for (instance, decision) in plan.actions(instances).into_iter().chain(skips) {
        let verdict = Cell::new(decision.verdict());
        table.add_row([
            Cell::new(visible(instance.id.as_str())),
            Cell::new(screen.name(&instance.name)),
            Cell::new(visible(instance.status.as_str())),
            match decision.verdict() {
                "migrate" => verdict.fg(Color::DarkGreen),
                "recreate" | "resume" => verdict.fg(Color::DarkCyan),
                _ => verdict,
            },
            Cell::new(visible(&decision.detail(instance, policy))),
        ]);
    }
    render(table)
}

/// The plan in one line: how many, and why the others are left alone.
#[must_use]
pub fn plan_counts(plan: &Plan) -> String {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for reason in plan.all().filter(|it| it.verdict() == "skip").map(Decision::reason) {
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let skipped: usize = reasons.iter().map(|(_, count)| count).sum();
    let why: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{count} {}", reason.replace('_', " "))).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    let with = |verdict: &str| plan.all().filter(|decision| decision.verdict() == verdict).count();
    let mut actions = format!("{} to migrate", with("migrate"));
    for (verdict, words) in [("recreate", "to recreate"), ("resume", "to go on with")] {
        let count = with(verdict);
        if count > 0 {
            let _ = write!(actions, ", {count} {words}");
        }
    }
    format!("{} instances: {actions}, {skipped} left alone{why}", plan.decisions.len())
}

/// What a pass did: a table of its actions and a closing line.
#[must_use]
pub fn pass(screen: Screen, execution: &Execution, attempts: &[Attempt], counts: &str) -> String {
    let mut out = String::new();
    if !attempts.is_empty() {
        let mut table = screen.table(&["INSTANCE", "NAME", "ACTION", "OUTCOME", "ANSWER", "REASON"]);
        for attempt in attempts {
            let color = match attempt.outcome {
                Outcome::Done | Outcome::Accepted => Color::DarkGreen,
                Outcome::Unknown | Outcome::Skipped => Color::DarkYellow,
                Outcome::Failed => Color::DarkRed,
            };
            table.add_row([
                Cell::new(visible(attempt.instance_id.as_str())),
                Cell::new(screen.name(&attempt.instance_name)),
                Cell::new(attempt.action.as_str()),
                Cell::new(attempt.outcome.as_str()).fg(color),
                number(attempt.response_time.map_or_else(|| "-".into(), |ms| format!("{ms} ms"))),
                Cell::new(visible(&attempt.reason)),
            ]);
        }
        out.push_str(&render(table));
        out.push('\n');
    }
    let rehearsal = if execution.dry_run { "rehearsal " } else { "" };
    let Summary { migrated_instances: migrated, recreated_instances: recreated, error_count: errors, .. } =
        execution.summary;
    let _ = writeln!(out, "{counts}");
    let _ = writeln!(
        out,
        "{rehearsal}{} in {}: {migrated} migrated, {recreated} recreated, {errors} failed or unknown",
        screen.paint(execution.status.as_str(), color_of(execution.status)),
        short(execution.duration),
    );
    out
}

/// Past passes.
#[must_use]
pub fn history(screen: Screen, executions: &[Recorded], total: usize, offset: usize, now: Timestamp) -> String {
    if executions.is_empty() {
        return match total {
            0 => "no passes are recorded\n".into(),
            total => format!("no passes from {offset} on, {total} are recorded\n"),
        };
    }
    // On a narrow terminal the job id, which only scripts need, makes room.
    let with_job = screen.width.is_none_or(|width| width >= WIDE);
    let mut header =
        vec!["STARTED", "AGO", "STATUS", "TOOK", "SEEN", "EXITED", "ELIGIBLE", "MIGRATED", "RECREATED", "ERRORS"];
    header.extend(with_job.then_some("JOB"));
    let mut table = screen.table(&header);
    for Recorded { execution, attempts: _ } in executions {
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
            format!("{} (rehearsal)", execution.status.as_str())
        } else {
            execution.status.as_str().into()
        };
        let mut row = vec![
            Cell::new(to_the_second(execution.started_at)),
            number(in_words(now.since(execution.started_at))),
            Cell::new(status).fg(color_of(execution.status)),
            number(short(execution.duration)),
            number(seen),
            number(exited),
            number(eligible),
            number(migrated),
            number(recreated),
            number(errors),
        ];
        row.extend(with_job.then(|| Cell::new(&execution.job_id)));
        table.add_row(row);
    }
    let mut out = render(table);
    let (first, last) = (offset + 1, offset + executions.len());
    let _ = writeln!(out, "\n{first}-{last} of {total} passes, newest first");
    out
}

/// The state of the service, and why it is so.
#[must_use]
pub fn status(
    screen: Screen,
    document: &StatusDocument<'_>,
    why: &str,
    open: &[(InstanceId, Recreation)],
    totals: &Totals,
    store: &str,
    now: Timestamp,
) -> String {
    let StatusDocument { enabled: _, last_execution, statistics, config, migration_service, in_flight } = document;
    let color = match migration_service.status {
        Health::Healthy => Color::DarkGreen,
        Health::Degraded | Health::Disabled | Health::NeverExecuted => Color::DarkYellow,
        Health::Unhealthy => Color::DarkRed,
    };
    let health = screen.paint(&migration_service.status.as_str().replace('_', " "), color);
    let mut out = format!("{health}: {}\n\n", visible(why));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<11} {value}");
    };
    match last_execution {
        Some(execution) => {
            let Summary {
                total_instances: seen,
                exited_instances: exited,
                eligible_instances: eligible,
                migrated_instances: migrated,
                recreated_instances: recreated,
                error_count: errors,
                ..
            } = execution.summary;
            let (began, ago) = (to_the_second(execution.started_at), in_words(now.since(execution.started_at)));
            let rehearsal = if execution.dry_run { "rehearsal, " } else { "" };
            let state = execution.status.as_str();
            let took = execution.duration.map_or_else(String::new, |_| format!(" in {}", short(execution.duration)));
            line("last pass", format!("{rehearsal}{state}{took}, {ago} ago ({began})"));
            let errors = counted(errors, "error");
            let done = format!("{migrated} migrated, {recreated} recreated");
            line("", format!("{seen} seen, {exited} exited, {eligible} eligible, {done}, {errors}"));
        }
        None => line("last pass", "none yet".into()),
    }
    match migration_service.next_execution {
        Some(next) if next > now => {
            line("next pass", format!("in {} ({})", in_words(next.since(now)), to_the_second(next)));
        }
        Some(next) => line("next pass", format!("due since {} ({})", in_words(now.since(next)), to_the_second(next))),
        None => line("next pass", "not scheduled".into()),
    }
    let InFlightPart { migrations, recreations, quarantined, .. } = *in_flight;
    let mut flights = counted(migrations, "migration");
    if recreations > 0 {
        let _ = write!(flights, ", {}", counted(recreations, "recreation"));
    }
    line("in flight", flights);
    let words = if quarantined > 0 { counted(quarantined, "instance") } else { "none".into() };
    line("quarantined", words);
    let room = screen.width.map_or(usize::MAX, |width| width.saturating_sub(14));
    for (id, recreation) in open {
        let name = screen.name(&recreation.instance_name);
        let age = in_words(now.since(recreation.since));
        line("", visible(&format!("{id} {name}: {} ({age} ago)", standing(recreation, now))));
        if let Some(error) = &recreation.last_error {
            line("", shorten(&visible(&format!("  {error}")), room));
        }
    }
    let Statistics { total_executions: passes, successful_executions: good, success_rate, .. } = *statistics;
    if passes > 0 {
        let average = short(Some(statistics.average_execution_time));
        line("passes", format!("{passes}, {good} completed ({:.1} %), {average} on average", success_rate * 100.0));
        let errors = counted(statistics.total_errors, "error");
        let Totals { migrations, migrations_succeeded: succeeded, migrations_failed: failed, .. } = totals;
        line("migrations", format!("{migrations} accepted, {succeeded} running again, {failed} failed, {errors}"));
        if statistics.total_recreations > 0 {
            line("recreations", format!("{} done", statistics.total_recreations));
        }
    }
    let ConfigPart { interval_minutes, max_concurrent, eligibility_interval_hours, eligibility, scope, .. } = config;
    let rehearsing = if config.dry_run { ", rehearsal only" } else { "" };
    line(
        "settings",
        format!(
            "every {interval_minutes} min, cooldown {eligibility_interval_hours} h, eligibility {eligibility}, \
             scope {scope}, {max_concurrent} at once{rehearsing}"
        ),
    );
    line("store", visible(store));
    out
}

/// How a recreation stands.
fn standing(recreation: &Recreation, now: Timestamp) -> String {
    let failures = recreation.failures;
    if let Some(until) = recreation.quarantined_until(now) {
        return format!("left alone for {} after {failures} failures", in_words(until.since(now)));
    }
    match &recreation.step {
        Step::Pending { .. } if failures > 0 => format!("failed {failures} of {MOST_FAILURES} times, tried again"),
        Step::Pending { .. } => "to be created".into(),
        Step::Deleting { .. } => "deleted first, then created anew".into(),
        Step::Intent { .. } => "create call without an answer so far".into(),
        Step::Created { replacement, .. } => format!("replacement {replacement} comes up"),
        Step::Running { replacement } => format!("replacement {replacement} runs, the old one is to go"),
        Step::Deleted { replacement } => format!("replacement {replacement} runs, the old one goes"),
        Step::Abandoned { replacement, .. } => format!("replacement {replacement} is given up"),
        Step::Closed { .. } => "done".into(),
        Step::Ended => "ended without a successor".into(),
    }
}

fn color_of(status: ExecutionStatus) -> Color {
    match status {
        ExecutionStatus::Completed => Color::DarkGreen,
        ExecutionStatus::Running | ExecutionStatus::Partial => Color::DarkYellow,
        ExecutionStatus::Failed | ExecutionStatus::Timeout | ExecutionStatus::Interrupted => Color::DarkRed,
    }
}

/// A duration in milliseconds, short: `850 ms`, `12.3 s`, `4 min`.
fn short(millis: Option<i64>) -> String {
    match millis {
        None => "-".into(),
        Some(ms @ ..1000) => format!("{ms} ms"),
        Some(ms @ 1000..60_000) => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        Some(ms) => in_words(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
    }
}

/// `1 error`, `2 errors`.
fn counted(count: impl std::fmt::Display, thing: &str) -> String {
    let count = count.to_string();
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

fn to_the_second(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.split_once('.').map_or(text.clone(), |(whole, _)| whole.replace('T', " ") + " UTC")
}
