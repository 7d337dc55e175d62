//! The screen of a rollout: its state, its stages, the instances with a problem, and what it saved.

use std::fmt::Write as _;

use super::table::Column::{Left, Right};
use super::table::{painted, table};
use super::{Color, Screen, attempts, counted, folded, labeled, short, to_the_second};
use crate::core::record::execution::Attempt;
use crate::core::rollout::analysis::Analysis;
use crate::core::rollout::course::{Course, Fleet, Member, MemberState, RollbackScope, RolloutEnd, State, cumulative};
use crate::core::rollout::quality::{self, QualityVerdict};
use crate::core::rollout::report::{Load, Report, StageReport};
use crate::core::world::money::Usd;
use crate::core::world::time::{Timestamp, in_words, millis};
use crate::report::text::visible;

/// The most instances with a problem that are listed.
const LISTED: usize = 10;

/// What a call did, and the state of the rollout.
#[must_use]
pub fn rollout(screen: Screen, fleet: Option<&Fleet>, did: &[Attempt], message: &str, now: Timestamp) -> String {
    let mut out = String::new();
    if !did.is_empty() {
        out.push_str(&attempts(screen, did));
        out.push('\n');
    }
    if !message.is_empty() {
        let _ = writeln!(out, "{}", screen.sentences(&visible(message)));
    }
    if let Some(fleet) = fleet {
        if !out.is_empty() {
            out.push('\n');
        }
        state(&mut out, screen, fleet, now);
    }
    out
}

/// What a rollout would do, shown before the operator confirms it.
#[must_use]
pub fn prospect(screen: Screen, analysis: &Analysis, course: &Course) -> String {
    let approved = analysis.approved();
    let count = course.max_moves.map_or(approved.count, |most| most.min(approved.count));
    let stages = course.stages.iter().zip(&course.soaks).map(|(percent, soak)| {
        format!("{} after the {percent} % stage, which soaks {}", cumulative(*percent, count), in_words(*soak))
    });
    let stages: Vec<String> = stages.collect();
    let back = match course.rollback {
        RollbackScope::All => "everything",
        RollbackScope::Stage => "that stage",
    };
    let text = format!(
        "{} become spot instances, lowest risk first: {}. Each gets a spot instance next to it and is deleted after the \
         last gate has passed; if a gate fails, {back} is rolled back. Container disks and addresses are not kept. \
         Expected saving: {} USD per month.\n",
        counted(count, "on-demand instance"),
        stages.join("; "),
        approved.hourly.monthly().to_the_cent(),
    );
    screen.sentences(&text) + "\n"
}

fn state(out: &mut String, screen: Screen, fleet: &Fleet, now: Timestamp) {
    let report = fleet.report(now);
    let color = match &fleet.rollout.state {
        State::Over { end: RolloutEnd::Completed, .. } => Color::Green,
        State::Over { end: RolloutEnd::Failed | RolloutEnd::RolledBack, .. } | State::RollingBack { .. } => Color::Red,
        State::Over { end: RolloutEnd::Aborted, .. }
        | State::Moving { .. }
        | State::Soaking { .. }
        | State::Held { .. }
        | State::Retiring { .. } => Color::Yellow,
    };
    let paused = report.paused_at.map_or_else(String::new, |at| format!(", paused for {}", in_words(now.since(at))));
    let word = report.state.replace('_', " ");
    let stage = report.stage.and_then(|at| report.stages.get(at - 1));
    let stage = stage.map_or_else(String::new, |stage| format!(" at {} %", stage.percent));
    let (since, on_spot) = (in_words(now.since(report.since)), report.moved + report.ready);
    let since = if fleet.rollout.state.end().is_some() { format!("{since} ago") } else { format!("for {since}") };
    let head = format!("{word}{stage} {since}{paused}: {on_spot} of {} on spot", report.candidates);
    let text = screen.sentences(&head);
    let _ = writeln!(out, "{}{}", screen.paint(&word, color), &text[word.len()..]);
    for reason in report.reason.map(str::to_owned).into_iter().chain(fleet.overdue(now)) {
        let _ = writeln!(out, "{}", screen.sentences(&visible(&reason)));
    }
    out.push('\n');
    out.push_str(&stages(screen, &report));
    out.push('\n');
    troubled(out, screen, &fleet.members);
    let mut line = |label: &str, text: String| labeled(out, screen, label, &visible(&text));
    line(
        "instances",
        format!(
            "{} moved, {} side by side, {} failed, {} put back{}; {} analyzed, {}",
            report.moved,
            report.ready,
            report.failed,
            report.restored,
            if report.stranded > 0 { format!(", {} in need of attention", report.stranded) } else { String::new() },
            report.instances_analyzed,
            match report.opportunities {
                1 => "1 opportunity".to_owned(),
                count => format!("{count} opportunities"),
            }
        ),
    );
    line("savings", savings(fleet, &report, now));
    line("measured", format!("{}, {} samples each time", report.probe, fleet.rollout.samples));
    line(
        "started",
        format!(
            "{} ago ({}), {}",
            in_words(now.since(report.begun_at)),
            to_the_second(report.begun_at),
            report.rollout_id
        ),
    );
    line("next", fleet.next(now));
}

fn stages(screen: Screen, report: &Report<'_>) -> String {
    let row = |stage: &StageReport<'_>| {
        let verdict = match stage.verdict {
            Some(QualityVerdict::Pass) => painted(screen, "pass", Color::Green),
            Some(QualityVerdict::Fail) => painted(screen, "fail", Color::Red),
            Some(QualityVerdict::Inconclusive) => painted(screen, "inconclusive", Color::Yellow),
            None => "-".into(),
        };
        let degraded = stage.figures.and_then(|it| it.degradation).map_or("-".into(), quality::percent);
        let (new, on_spot) = (stage.instances.to_string(), stage.on_spot.to_string());
        vec![format!("{} %", stage.percent), new, on_spot, short(Some(millis(stage.soak))), verdict, degraded]
    };
    let rows: Vec<Vec<String>> = report.stages.iter().map(row).collect();
    let columns = [Right("STAGE"), Right("NEW"), Right("ON SPOT"), Left("SOAK"), Left("VERDICT"), Right("DEGRADED")];
    let mut out = table(screen, &columns, &rows, &["SOAK", "NEW"]);
    for StageReport { percent, reason, load, .. } in &report.stages {
        let Some(reason) = reason else { continue };
        let busy = load.as_ref().map_or_else(String::new, |Load { instances, before, now }| {
            format!("; GPU load of {}: {before:.1} % before, {now:.1} % now", counted(instances, "instance"))
        });
        for line in folded(&format!("  {percent} %: "), &visible(&format!("{reason}{busy}")), screen.width) {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

/// The instances with a problem.
fn troubled(out: &mut String, screen: Screen, members: &[Member]) {
    let is_troubled =
        |it: &&Member| matches!(it.state, MemberState::Failed | MemberState::Stranded) && it.note.is_some();
    let all: Vec<&Member> = members.iter().filter(is_troubled).collect();
    for member in all.iter().take(LISTED) {
        let note = member.note.as_deref().unwrap_or_default();
        let text = format!("{} {}: {note}", member.id, screen.name(&member.name));
        labeled(out, screen, member.state.into_str(), &visible(&text));
    }
    if all.len() > LISTED {
        let _ = writeln!(out, "  {:<11} and {} more", "", all.len() - LISTED);
    }
}

fn savings(fleet: &Fleet, report: &Report<'_>, now: Timestamp) -> String {
    let hourly = fleet.estimated().max(Usd::default());
    let expected = format!("{} USD per month expected", hourly.monthly().to_the_cent());
    match fleet.realized(now) {
        Some(amount) => {
            let (amount, instances) = (amount.to_the_cent(), counted(report.prices_read_back, "instance"));
            format!("{expected}; {amount} USD so far, at the reported prices of {instances}")
        }
        None => format!("{expected}; none so far"),
    }
}
