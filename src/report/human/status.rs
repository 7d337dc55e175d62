//! The state of the service, on one screen: the answer, what to do about it, what is under way, how the last day went.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr as _;

use super::{Color, Screen, counted, short, to_the_second};
use crate::core::record::execution::{Execution, Statistics, Summary, Totals};
use crate::core::record::health::Health;
use crate::core::record::indicators::{
    HOURS, Hour, Indicators, MIGRATION_TARGET, PASS_TIME_TARGET, PROVIDER_TARGET, RECREATION_TARGET, SCHEDULE_TARGET,
    Share, Standing, Target,
};
use crate::core::record::life::step_in_words;
use crate::core::recreation::journal::{MOST_FAILURES, Recreation, Step};
use crate::core::rollout::report::Report;
use crate::core::world::instance::InstanceId;
use crate::core::world::time::{Timestamp, in_words};
use crate::report::figures::Figures;
use crate::report::json::{ConfigPart, InFlightPart, StatusDocument};
use crate::report::text::{shorten, together, visible, wrap};

/// Columns of a label, with the blanks around it.
const LABEL: usize = 14;

/// With fewer columns whether a target is met says enough.
const NARROW: usize = 50;

/// So many recreations of a kind are listed.
const LISTED: usize = 6;

/// Lines that begin with a label.
struct Lines {
    screen: Screen,
    text: String,
}

impl Lines {
    /// Breaks what is too long for the screen between words.
    fn add(&mut self, label: &str, value: &str) {
        let room = self.screen.width.map_or(usize::MAX, |width| width.saturating_sub(LABEL).max(20));
        for (n, part) in wrap(value, room).into_iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            let _ = writeln!(self.text, "{}", format!("  {label:<12}{part}").trim_end());
        }
    }

    /// One line, shortened in the middle if need be.
    fn add_short(&mut self, value: &str) {
        let room = self.screen.width.map_or(usize::MAX, |width| width.saturating_sub(LABEL));
        let _ = writeln!(self.text, "{:LABEL$}{}", "", shorten(value, room));
    }
}

/// The state of the service, and why it is so.
#[must_use]
pub fn status(screen: Screen, figures: &Figures<'_>, store: &str) -> String {
    let now = figures.now;
    let mut lines = Lines { screen, text: headline(screen, figures) };
    for (n, step) in figures.advice.iter().enumerate() {
        let label = if n == 0 { "to do" } else { "" };
        let commands: Vec<String> = step.commands.iter().map(|command| together(command)).collect();
        lines.add(label, &visible(&format!("{}: {}", step.what, commands.join(", "))));
    }
    match figures.document.last_execution {
        Some(execution) => last_pass(&mut lines, execution, now),
        None => lines.add("last pass", "none yet"),
    }
    lines.add("next pass", &next_pass(figures));
    under_way(&mut lines, figures);
    if figures.document.last_execution.is_some() {
        lines.text.push_str(&hours(screen, &figures.hours));
        lines.text.push_str(&indicators(screen, &figures.indicators));
    }
    lines.text.push('\n');
    in_all(&mut lines, figures);
    lines.add("settings", &settings(&figures.document.config));
    lines.add("store", &visible(store));
    lines.text
}

fn headline(screen: Screen, figures: &Figures<'_>) -> String {
    let health = figures.diagnosis.health;
    let color = match health {
        Health::Healthy => Color::Green,
        Health::Degraded | Health::Disabled | Health::NeverExecuted => Color::Yellow,
        Health::Unhealthy => Color::Red,
    };
    let word = health.into_str().replace('_', " ");
    let why = format!("{word}: {}", visible(&figures.diagnosis.why));
    let text = wrap(&why, screen.width.unwrap_or(usize::MAX)).join("\n");
    format!("{}{}\n\n", screen.paint(&word, color), &text[word.len()..])
}

fn last_pass(lines: &mut Lines, execution: &Execution, now: Timestamp) {
    let Summary {
        total_instances: seen,
        exited_instances: exited,
        eligible_instances: eligible,
        migrated_instances: migrated,
        recreated_instances: recreated,
        skipped_instances: _,
        error_count: errors,
    } = execution.summary;
    let (began, ago) = (to_the_second(execution.started_at), in_words(now.since(execution.started_at)));
    let rehearsal = if execution.dry_run { "rehearsal, " } else { "" };
    let state = execution.status.into_str();
    let took = execution.duration.map_or_else(String::new, |_| format!(" in {}", short(execution.duration)));
    let began = together(&format!("({began})"));
    lines.add("last pass", &format!("{rehearsal}{state}{took}, {ago} ago {began}"));
    let counts = [(seen, "seen"), (exited, "exited"), (eligible, "eligible"), (migrated, "migrated")];
    let counts = counts.into_iter().chain([(recreated, "recreated")]).map(|(count, what)| format!("{count} {what}"));
    lines.add("", &listed(counts.chain([counted(errors, "error")])));
}

/// So many of this, so many of that; a number stays with what it counts.
fn listed(counts: impl IntoIterator<Item = String>) -> String {
    counts.into_iter().map(|count| together(&count)).collect::<Vec<_>>().join(", ")
}

fn next_pass(figures: &Figures<'_>) -> String {
    let now = figures.now;
    let at = |next| together(&format!("({})", to_the_second(next)));
    match figures.diagnosis.next_execution {
        Some(next) if next > now => format!("in {} {}", in_words(next.since(now)), at(next)),
        Some(next) => format!("due since {} {}", in_words(now.since(next)), at(next)),
        None => "not scheduled".into(),
    }
}

fn under_way(lines: &mut Lines, figures: &Figures<'_>) {
    let InFlightPart { migrations, recreations, quarantined, ref rollout, .. } = figures.document.in_flight;
    let mut flights = counted(migrations, "migration");
    if recreations > 0 {
        let _ = write!(flights, ", {}", counted(recreations, "recreation"));
    }
    lines.add("in flight", &flights);
    list(lines, figures.open(), recreations, figures.now);
    if let Some(rollout) = rollout {
        let Report { state, stage, stages, candidates, moved, ready, paused_at, .. } = rollout;
        let at = stage.and_then(|at| stages.get(at - 1)).map_or_else(String::new, |it| format!(" at {} %", it.percent));
        let paused = if paused_at.is_some() { ", paused" } else { "" };
        let on_spot = moved + ready;
        let state = state.replace('_', " ");
        lines.add("rollout", &format!("{state}{at}{paused}, {on_spot} of {candidates} on spot: respot rollout status"));
    }
    let words = if quarantined > 0 { counted(quarantined, "instance") } else { "none".into() };
    lines.add("quarantined", &words);
    list(lines, figures.quarantined(), quarantined, figures.now);
    let ended = figures.ended().count();
    if ended > 0 {
        lines.add("unreplaced", &counted(ended, "instance"));
        list(lines, figures.ended(), ended, figures.now);
    }
    if let Some(oldest) = figures.outbox.first() {
        let count = counted(figures.outbox.len(), "event");
        let age = in_words(figures.now.since(oldest.at));
        let why = oldest.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        lines.add("undelivered", &visible(&format!("{count}, the oldest {age} old{why}")));
    }
}

fn list<'a>(
    lines: &mut Lines,
    recreations: impl Iterator<Item = &'a (InstanceId, Recreation)>,
    count: usize,
    now: Timestamp,
) {
    for (id, recreation) in recreations.take(LISTED) {
        let name = lines.screen.name(&recreation.instance_name);
        let age = together(&format!("({} ago)", in_words(now.since(recreation.since))));
        lines.add("", &visible(&format!("{id} {name}: {} {age}", standing(recreation, now))));
        if let Some(error) = &recreation.last_error {
            lines.add_short(&visible(&format!("  {error}")));
        }
    }
    if count > LISTED {
        lines.add("", &format!("and {} more", count - LISTED));
    }
}

/// How a recreation stands.
fn standing(recreation: &Recreation, now: Timestamp) -> String {
    let failures = recreation.failures;
    if let Some(until) = recreation.quarantined_until(now) {
        return format!("left alone for {} after {failures} failures", in_words(until.since(now)));
    }
    match &recreation.step {
        Step::Pending { .. } if failures > 0 => format!("failed {failures} of {MOST_FAILURES} times, tried again"),
        step => step_in_words(step),
    }
}

/// What happened in each hour of the last day: a bar an hour, the highest the greatest of its row.
fn hours(screen: Screen, hours: &[Hour; HOURS]) -> String {
    let mut out = String::from("\n");
    let bars = format!("{:<LABEL$}{:<12}{:<9}{:>3}", "LAST 24 HOURS", "-24 h", "-12 h", "now");
    out += &row(screen, bars, LABEL + HOURS, &[&format!("{:>7}", "TOTAL"), &format!("{:>8}", "MOST/H")]);
    let rows: [(&str, fn(&Hour) -> u64, Option<Color>); 5] = [
        ("passes", |hour| hour.passes, None),
        ("  failed", |hour| hour.failed, Some(Color::Red)),
        ("migrated", |hour| hour.migrated, Some(Color::Green)),
        ("recreated", |hour| hour.recreated, Some(Color::Cyan)),
        ("errors", |hour| hour.errors, Some(Color::Red)),
    ];
    let rehearsals: u64 = hours.iter().map(|hour| hour.rehearsals).sum();
    let gaps = hours.iter().any(|hour| hour.passes == 0).then(|| "· no pass".to_owned());
    let notes: Vec<String> =
        gaps.into_iter().chain((rehearsals > 0).then(|| counted(rehearsals, "rehearsal"))).collect();
    for (label, value, color) in rows {
        let (total, most) = hours.iter().map(value).fold((0, 0), |(sum, most), it| (sum + it, it.max(most)));
        if label == "  failed" && total == 0 {
            continue;
        }
        let bars: String = hours.iter().map(|hour| bar(hour.passes, value(hour), most)).collect();
        let note = if label == "passes" { format!("  {}", notes.join(", ")) } else { String::new() };
        let bars = match color {
            Some(color) if total > 0 => screen.paint(&bars, color),
            _ => bars,
        };
        let parts = [&format!("{total:>7}"), &format!("{most:>8}"), note.as_str()];
        out += &row(screen, format!("  {label:<12}{bars}"), LABEL + HOURS, &parts);
    }
    out
}

/// A line that takes so many columns, with as many of the parts that follow it as have room.
fn row(screen: Screen, mut line: String, mut columns: usize, parts: &[&str]) -> String {
    for part in parts {
        columns += part.width();
        if screen.width.is_some_and(|width| columns > width) {
            break;
        }
        line += part;
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

/// A bar for one hour; a dot where no pass ran, since nothing is known of that hour.
fn bar(passes: u64, value: u64, most: u64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if passes == 0 {
        return '·';
    }
    // Only nothing is the lowest bar, only the most is the highest.
    let height = (value * 7).checked_div(most).unwrap_or(0).max(u64::from(value > 0));
    usize::try_from(height).ok().and_then(|height| BARS.get(height)).copied().unwrap_or('█')
}

fn indicators(screen: Screen, indicators: &Indicators) -> String {
    let Indicators { migrations, recreations, pass_time, provider_errors, schedule } = indicators;
    let rate = |share: &Share, target: Target, thing: &str| {
        let value = share.basis_points().map(|points| format!("{}.{:02} %", points / 100, points % 100));
        let target_words = match target {
            Target::Above(percent) => format!("> {percent} %"),
            Target::Below(percent) => format!("< {percent} %"),
        };
        let of = format!("{} of {}", share.part, counted(share.whole, thing));
        (value, target_words, share.against(target), of)
    };
    let time = {
        let value = pass_time.millis().map(|millis| match millis {
            ..1000 => format!("{millis} ms"),
            1000.. => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        });
        let of = format!("mean of {}", counted(pass_time.count, "pass"));
        (value, format!("< {}", in_words(PASS_TIME_TARGET)), pass_time.against(PASS_TIME_TARGET), of)
    };
    let rows = [
        ("migration success", rate(migrations, MIGRATION_TARGET, "migration")),
        ("recreation success", rate(recreations, RECREATION_TARGET, "recreation")),
        ("average pass time", time),
        ("provider errors", rate(provider_errors, PROVIDER_TARGET, "call")),
        ("schedule adherence", rate(schedule, SCHEDULE_TARGET, "due pass")),
    ];
    let has_room = screen.width.is_none_or(|width| width >= NARROW);
    let target_of = |target: &str| if has_room { format!("{target:>9}") } else { String::new() };
    let mut out = format!("\n{:<22}{:>9}{}\n", "INDICATORS", "24 H", target_of("TARGET"));
    for (name, (value, target, standing, of)) in rows {
        let verdict = match standing {
            Standing::Met => screen.paint("ok    ", Color::Green),
            Standing::Missed => screen.paint("missed", Color::Red),
            Standing::NoData => " ".repeat(6),
        };
        let of = if standing == Standing::NoData { "no data" } else { &of };
        let value = value.unwrap_or_else(|| "-".into());
        let target = target_of(&target);
        let columns = format!("  {name:<20}{value:>9}{target}  missed").width();
        let line = format!("  {name:<20}{value:>9}{target}  {verdict}");
        out += &row(screen, line, columns, &[&format!("  {of}")]);
    }
    out
}

fn in_all(lines: &mut Lines, figures: &Figures<'_>) {
    let Statistics { total_executions: passes, successful_executions: good, success_rate, .. } =
        figures.document.statistics;
    if passes == 0 {
        return;
    }
    let StatusDocument { statistics, .. } = &figures.document;
    let average = short(Some(statistics.average_execution_time));
    let completed = format!("{good} completed ({:.1} %)", success_rate * 100.0);
    lines.add("in all", &listed([counted(passes, "pass"), completed, format!("{average} on average")]));
    let Totals { migrations, migrations_succeeded, migrations_failed, recreations, errors, .. } = figures.totals;
    let (again, failed) = (format!("{migrations_succeeded} running again"), format!("{migrations_failed} failed"));
    lines.add("", &listed([format!("{} accepted", counted(migrations, "migration")), again, failed]));
    lines.add("", &listed([format!("{} done", counted(recreations, "recreation")), counted(errors, "error")]));
}

fn settings(config: &ConfigPart) -> String {
    let ConfigPart { interval_minutes, max_concurrent, eligibility_interval_hours, eligibility, scope, .. } = config;
    let rehearsing = if config.dry_run { ", rehearsal only" } else { "" };
    let every = format!("every {interval_minutes} min");
    let (cooldown, at_once) = (format!("cooldown {eligibility_interval_hours} h"), format!("{max_concurrent} at once"));
    let rules = [format!("eligibility {eligibility}"), format!("scope {scope}")];
    listed([every, cooldown].into_iter().chain(rules).chain([at_once])) + rehearsing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_tell_nothing_from_little_and_the_most_from_less() {
        // Passes, a value and the most of the row.
        for (passes, value, most, expected) in [
            (0, 0, 0, '·'),
            (0, 0, 9, '·'),
            (1, 0, 0, '▁'),
            (1, 0, 9, '▁'),
            (1, 1, 1000, '▂'),
            (1, 1, 1, '█'),
            (1, 1, 2, '▄'),
            (1, 2, 2, '█'),
            (1, 999, 1000, '▇'),
            (1, 1000, 1000, '█'),
        ] {
            assert_eq!(bar(passes, value, most), expected, "{value} of {most}");
        }
    }
}
