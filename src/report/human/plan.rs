//! A plan, and what a pass made of it.

use std::fmt::Write as _;

use super::table::{Cell, prose};
use super::{Color, Screen, color_of, counted, short};
use crate::core::pass::plan::Plan;
use crate::core::pass::verdict::{Decision, Verdict};
use crate::core::record::execution::{Attempt, Execution, Outcome, Summary};
use crate::core::world::instance::Instance;
use crate::core::world::policy::Policy;
use crate::report::text::visible;

/// From this many columns on a table of actions has room for everything.
const WIDE: usize = 100;

/// The plan: what would be done first, then what is left alone and why.
#[must_use]
pub fn plan(screen: Screen, instances: &[Instance], plan: &Plan, policy: &Policy) -> String {
    let names = ["INSTANCE", "NAME", "STATUS", "VERDICT"].map(Cell::new).to_vec();
    let mut rows = vec![(names, "REASON".to_owned())];
    let skips = plan.rows(instances).filter(|(_, decision)| decision.verdict() == Verdict::Skip);
    for (instance, decision) in plan.actions(instances).into_iter().chain(skips) {
        let verdict = Cell::new(decision.verdict().into_str());
        let cells = vec![
            Cell::new(visible(instance.id.as_str())),
            Cell::new(screen.name(&instance.name)),
            Cell::new(visible(instance.status.as_str())),
            match decision.verdict() {
                Verdict::Migrate => verdict.paint(Color::Green),
                Verdict::Recreate | Verdict::Resume => verdict.paint(Color::Cyan),
                Verdict::Skip => verdict,
            },
        ];
        rows.push((cells, visible(&decision.detail(instance, policy))));
    }
    prose(screen, &rows)
}

/// The plan in one line: how many, and why the others are left alone.
#[must_use]
pub fn plan_counts(screen: Screen, plan: &Plan) -> String {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for reason in plan.decisions.iter().filter(|it| it.verdict() == Verdict::Skip).map(Decision::reason) {
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
    let mut actions = format!("{} to migrate", plan.count(Verdict::Migrate));
    for (verdict, words) in [(Verdict::Recreate, "to recreate"), (Verdict::Resume, "to go on with")] {
        let count = plan.count(verdict);
        if count > 0 {
            let _ = write!(actions, ", {count} {words}");
        }
    }
    screen.sentences(&format!(
        "{}: {actions}, {skipped} left alone{why}",
        counted(plan.decisions.len() - plan.absent.len(), "instance")
    ))
}

/// What a pass did: a table of its actions and a closing line.
#[must_use]
pub fn pass(screen: Screen, execution: &Execution, attempts: &[Attempt], counts: &str) -> String {
    let mut out = String::new();
    if !attempts.is_empty() {
        out.push_str(&self::attempts(screen, attempts));
        out.push('\n');
    }
    let rehearsal = if execution.dry_run { "rehearsal " } else { "" };
    let Summary { migrated_instances: migrated, recreated_instances: recreated, error_count: errors, .. } =
        execution.summary;
    let _ = writeln!(out, "{counts}");
    let (status, took) = (execution.status.into_str(), short(execution.duration));
    let closing = screen.sentences(&format!(
        "{rehearsal}{status} in {took}: {migrated} migrated, {recreated} recreated, {errors} failed or unknown"
    ));
    let _ = writeln!(out, "{}", closing.replacen(status, &screen.paint(status, color_of(execution.status)), 1));
    out
}

/// A table of actions.
pub(super) fn attempts(screen: Screen, attempts: &[Attempt]) -> String {
    // How long an answer took makes room for why; the other views have it.
    let has_answer = screen.width.is_none_or(|width| width >= WIDE);
    let answer = |text: String| has_answer.then(|| Cell::number(text));
    let mut names = ["INSTANCE", "NAME", "ACTION", "OUTCOME"].map(Cell::new).to_vec();
    names.extend(answer("ANSWER".into()));
    let mut rows = vec![(names, "REASON".to_owned())];
    for attempt in attempts {
        let color = match attempt.outcome {
            Outcome::Done | Outcome::Accepted => Color::Green,
            Outcome::Unknown | Outcome::Skipped => Color::Yellow,
            Outcome::Failed => Color::Red,
        };
        let mut cells = vec![
            Cell::new(visible(attempt.instance_id.as_str())),
            Cell::new(screen.name(&attempt.instance_name)),
            Cell::new(attempt.action.into_str()),
            Cell::new(attempt.outcome.into_str()).paint(color),
        ];
        cells.extend(answer(attempt.response_time.map_or_else(|| "-".into(), |ms| format!("{ms} ms"))));
        rows.push((cells, visible(&attempt.reason)));
    }
    prose(screen, &rows)
}
