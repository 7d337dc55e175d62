//! The state of the service on one screen.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::Column::{Left, Right};
use super::table::{painted, table};
use super::{Color, Screen, counted, labeled, short, time_of_day, to_the_second};
use crate::core::pass::market::Market;
use crate::core::pass::spell::{Part, Spell};
use crate::core::record::downtime::{RecoveryFigures, Storm};
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
use crate::core::world::money::Usd;
use crate::core::world::time::{Timestamp, in_words};
use crate::report::document::Number;
use crate::report::figures::Figures;
use crate::report::json::{BridgesPart, ConfigPart, InFlightPart, StatusDocument};
use crate::report::text::{shorten, together, visible};

/// Columns of a label, with the blanks around it.
const LABEL: usize = 14;

/// At most this many recreations of a kind are listed.
const LISTED: usize = 6;

/// The screen so far.
struct Draft {
    screen: Screen,
    text: String,
}

impl Draft {
    fn add(&mut self, label: &str, value: &str) {
        labeled(&mut self.text, self.screen, label, value);
    }
}

/// The state of the service and its reason, what to do about it, work in progress, and the last day.
#[must_use]
pub fn status(screen: Screen, figures: &Figures<'_>, store: &str) -> String {
    let now = figures.now;
    let mut draft = Draft { screen, text: headline(screen, figures) };
    for (n, step) in figures.advice.iter().enumerate() {
        let label = if n == 0 { "to do" } else { "" };
        let commands: Vec<String> = step.commands.iter().map(|command| together(command)).collect();
        draft.add(label, &visible(&format!("{}: {}", step.what, commands.join(", "))));
    }
    match figures.document.last_execution {
        Some(execution) => last_pass(&mut draft, execution, now),
        None => draft.add("last pass", "none yet"),
    }
    draft.add("next pass", &next_pass(figures));
    downtime(&mut draft, figures);
    ahead(&mut draft, figures);
    under_way(&mut draft, figures);
    if figures.document.last_execution.is_some() {
        let (hours, indicators) = (hours(screen, &figures.hours), indicators(screen, &figures.indicators));
        let _ = write!(draft.text, "\n{hours}\n{indicators}");
    }
    draft.text.push('\n');
    in_all(&mut draft, figures);
    draft.add("settings", &settings(&figures.document.config));
    draft.add("store", &visible(store));
    draft.text
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
    format!("{}{}\n\n", screen.paint(&word, color), &screen.sentences(&why)[word.len()..])
}

fn last_pass(draft: &mut Draft, execution: &Execution, now: Timestamp) {
    let Summary {
        total_instances: seen,
        exited_instances: exited,
        eligible_instances: eligible,
        migrated_instances: migrated,
        recreated_instances: recreated,
        skipped_instances: _,
        error_count: errors,
        no_room_instances: no_room,
    } = execution.summary;
    let (began, ago) = (to_the_second(execution.started_at), in_words(now.since(execution.started_at)));
    let rehearsal = if execution.dry_run { "rehearsal, " } else { "" };
    let state = execution.status.into_str();
    let took = execution.duration.map_or_else(String::new, |_| format!(" in {}", short(execution.duration)));
    let began = together(&format!("({began})"));
    draft.add("last pass", &format!("{rehearsal}{state}{took}, {ago} ago {began}"));
    let counts = [(seen, "seen"), (exited, "exited"), (eligible, "eligible"), (migrated, "migrated")];
    let counts = counts.into_iter().chain([(recreated, "recreated")]).map(|(count, what)| format!("{count} {what}"));
    let no_room = (no_room > 0).then(|| format!("{no_room} without room"));
    draft.add("", &listed(counts.chain(no_room).chain([counted(errors, "error")])));
}

/// Counts with commas between them; a number stays on one line with what it counts.
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

/// What is down and why, and how what was down came back; nothing while there is nothing of it.
fn downtime(draft: &mut Draft, figures: &Figures<'_>) {
    let rows = figures.down.iter().take(LISTED).map(|(id, spell)| {
        let name = if spell.name.is_empty() { id.as_str() } else { &spell.name };
        let lasts = together(&format!("for {}", in_words(figures.now.since(spell.down_at))));
        format!("{} {lasts}, {}", draft.screen.name(name), why_down(spell, figures))
    });
    let mut rows: Vec<String> = rows.collect();
    if let Some(more) = figures.down.len().checked_sub(LISTED).filter(|more| *more > 0) {
        rows.push(format!("and {more} more"));
    }
    rows.extend(without_room(figures));
    if !rows.is_empty() {
        draft.add("down", &visible(&format!("{}: {}", figures.down.len(), rows.join("; "))));
    }
    if let Some(Storm { market, count, from, to, still_down }) = &figures.storm {
        let within = together(&format!("within {}", in_words(to.since(*from).max(Duration::from_secs(60)))));
        let from = together(&format!("from {}", time_of_day(*from, figures.now)));
        let left = if *still_down > 0 { format!("{still_down} still down") } else { "all up again".into() };
        draft.add("storm", &format!("{count} of {} went down {within} {from}; {left}", visible(market)));
    }
    // Before the first spell has ended, its parts are above.
    let [.., month] = &figures.recovery;
    if month.spells > month.open {
        draft.add("recovery", &recovery(month));
    }
}

/// In how many markets there is no room, as far as is known since something waits for it.
fn without_room(figures: &Figures<'_>) -> Option<String> {
    let waits = figures.down.iter().filter(|(_, spell)| spell.part == Part::NoRoom);
    let since = waits.map(|(_, spell)| spell.down_at).min()?;
    let is_empty = |market: &&Market| market.drought_since.is_some() && market.bad_at.is_some_and(|at| at >= since);
    let count = figures.markets.values().filter(is_empty).count();
    (count > 0).then(|| format!("{} without room", counted(count, "market")))
}

/// Announced reclaims, and on-demand instances that stand in; nothing while there is nothing of it.
fn ahead(draft: &mut Draft, figures: &Figures<'_>) {
    let now = figures.now;
    if let [first, ..] = figures.announced[..] {
        let [.., month] = &figures.recovery;
        let median = month.p50_ms.filter(|_| month.spells > month.open);
        let what = match (figures.notice.map(|notice| first - notice.lead), median) {
            (Some(from), _) if from > now => format!("replaced from {} on", time_of_day(from, now)),
            (Some(_), _) => "its replacement is due".into(),
            (None, None) => "then brought back, since RESPOT_NOTICE is off".into(),
            (None, median) => format!("then down for about {}, since RESPOT_NOTICE is off", short(median)),
        };
        let ends = together(&format!("first ends in {}", in_words(first.since(now))));
        draft.add("announced", &format!("{}: {ends}, {what}", figures.announced.len()));
    }
    let BridgesPart { standing, cost_today: Number(cost), budget_per_day: Number(budget), .. } =
        &figures.document.bridges;
    if *standing > 0 || *cost > Usd::default() {
        let cost = together(&format!("{} of {} USD today", cost.to_the_cent(), budget.to_the_cent()));
        let steady = in_words(figures.bridge.steady);
        draft.add("bridges", &format!("{standing}: {cost}, returns when a market was steady for {steady}"));
    }
}

/// Why an instance is still down, and when that may change.
fn why_down(spell: &Spell, figures: &Figures<'_>) -> String {
    let next = figures.diagnosis.next_execution;
    // What ends before the next pass is seen by that one.
    let until = spell.held_by.as_ref().and_then(|held| held.until).max(next);
    let again = until.filter(|at| *at > figures.now).map_or_else(String::new, |at| {
        format!(", {}", together(&format!("next try at {}", time_of_day(at, figures.now))))
    });
    match spell.part {
        Part::ComingUp => "coming up".into(),
        Part::Noticing | Part::HeldBack => {
            let reason = spell.held_by.as_ref().map_or("not acted on", |held| &held.reason).replace('_', " ");
            format!("held back: {reason}{again}")
        }
        Part::NoRoom => match spell.refused_calls {
            0 => format!("no room{again}"),
            calls => format!("no room ({} refused){again}", counted(calls, "call")),
        },
        Part::Failed => format!("the last attempt failed{again}"),
    }
}

fn recovery(figures: &RecoveryFigures) -> String {
    let RecoveryFigures { spells, p50_ms, p95_ms, worst_ms, up_share, lost_instance_hours, lost_by, .. } = figures;
    let quantile = |name: &str, millis: &Option<i64>| {
        let length = Duration::from_millis(millis.and_then(|it| u64::try_from(it).ok()).unwrap_or(0));
        format!("{name} {}", in_words(length))
    };
    let times = [quantile("p50", p50_ms), quantile("p95", p95_ms), quantile("worst", worst_ms)];
    let times = listed(std::iter::once(counted(spells, "spell")).chain(times));
    let up =
        up_share.map_or_else(String::new, |share| format!("; {}", together(&format!("up {:.1} %", share * 100.0))));
    // A month of one instance, so that fleets of any size compare.
    let monthly = |hours: f64| figures.monthly(hours);
    let parts = [
        ("noticing", lost_by.noticing),
        ("held back", lost_by.held_back),
        ("no room", lost_by.no_room),
        ("failed", lost_by.failed),
        ("coming up", lost_by.coming_up),
    ];
    let parts = parts.into_iter().filter(|(_, hours)| monthly(*hours) >= 0.05);
    let parts = listed(parts.map(|(part, hours)| format!("{part} {:.1}", monthly(hours))));
    let lost = together(&format!("{:.1} h", monthly(*lost_instance_hours)));
    let parts = if parts.is_empty() { parts } else { format!(": {parts}") };
    format!("30 d: {times}{up}; lost {lost} per instance-month{parts}")
}

fn under_way(draft: &mut Draft, figures: &Figures<'_>) {
    let InFlightPart { migrations, recreations, quarantined, ref rollout, .. } = figures.document.in_flight;
    let mut flights = counted(migrations, "migration");
    if recreations > 0 {
        let _ = write!(flights, ", {}", counted(recreations, "recreation"));
    }
    draft.add("in flight", &flights);
    list(draft, figures.open(), recreations, figures.now);
    if let Some(rollout) = rollout {
        let Report { state, stage, stages, candidates, moved, ready, paused_at, .. } = rollout;
        let at = stage.and_then(|at| stages.get(at - 1)).map_or_else(String::new, |it| format!(" at {} %", it.percent));
        let paused = if paused_at.is_some() { ", paused" } else { "" };
        let on_spot = moved + ready;
        let state = state.replace('_', " ");
        draft.add("rollout", &format!("{state}{at}{paused}, {on_spot} of {candidates} on spot: respot rollout status"));
    }
    let words = if quarantined > 0 { counted(quarantined, "instance") } else { "none".into() };
    draft.add("quarantined", &words);
    list(draft, figures.quarantined(), quarantined, figures.now);
    let ended = figures.ended().count();
    if ended > 0 {
        draft.add("unreplaced", &counted(ended, "instance"));
        list(draft, figures.ended(), ended, figures.now);
    }
    if let Some(oldest) = figures.outbox.first() {
        let count = counted(figures.outbox.len(), "event");
        let age = in_words(figures.now.since(oldest.at));
        let why = oldest.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        draft.add("undelivered", &visible(&format!("{count}, the oldest {age} old{why}")));
    }
}

fn list<'a>(
    draft: &mut Draft,
    recreations: impl Iterator<Item = &'a (InstanceId, Recreation)>,
    count: usize,
    now: Timestamp,
) {
    for (id, recreation) in recreations.take(LISTED) {
        let name = draft.screen.name(&recreation.instance_name);
        let age = together(&format!("({} ago)", in_words(now.since(recreation.since))));
        draft.add("", &visible(&format!("{id} {name}: {} {age}", standing(recreation, now))));
        if let Some(error) = &recreation.last_error {
            let room = draft.screen.width.map_or(usize::MAX, |width| width.saturating_sub(LABEL));
            let _ = writeln!(draft.text, "{:LABEL$}{}", "", shorten(&visible(&format!("  {error}")), room));
        }
    }
    if count > LISTED {
        draft.add("", &format!("and {} more", count - LISTED));
    }
}

fn standing(recreation: &Recreation, now: Timestamp) -> String {
    let failures = recreation.failures;
    if let Some(until) = recreation.quarantined_until(now) {
        return format!("left alone for {} after {failures} failures", in_words(until.since(now)));
    }
    match &recreation.step {
        Step::Pending { .. } if failures > 0 => format!("failed {failures} of {MOST_FAILURES} times, will be retried"),
        step => step_in_words(step),
    }
}

/// What happened in each hour of the last day: a bar an hour, scaled to the maximum of its row.
fn hours(screen: Screen, hours: &[Hour; HOURS]) -> String {
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
    let row = |(label, value, color): &(&str, fn(&Hour) -> u64, Option<Color>)| {
        let (total, most) = hours.iter().map(value).fold((0, 0), |(sum, most), it| (sum + it, it.max(most)));
        let bars: String = hours.iter().map(|hour| bar(hour.passes, value(hour), most)).collect();
        let bars = color.filter(|_| total > 0).map_or(bars.clone(), |color| painted(screen, &bars, color));
        let note = if *label == "passes" { notes.join(", ") } else { String::new() };
        let is_shown = *label != "  failed" || total > 0;
        is_shown.then(|| vec![format!("  {label}"), bars, total.to_string(), most.to_string(), note])
    };
    let rows: Vec<Vec<String>> = rows.iter().filter_map(row).collect();
    let times = "-24 h       -12 h    now";
    let columns = [Left("LAST 24 HOURS"), Left(times), Right("TOTAL"), Right("MOST/H"), Left("")];
    table(screen, &columns, &rows, &["", "MOST/H", "TOTAL"])
}

/// A bar for one hour; a dot where no pass ran, because nothing is known about that hour.
fn bar(passes: u64, value: u64, most: u64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if passes == 0 {
        return '·';
    }
    // Only zero is the lowest bar, only the maximum is the highest.
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
    let row = |(name, (value, target, standing, of)): (&str, (Option<String>, String, Standing, String))| {
        let (verdict, of) = match standing {
            Standing::Met => (painted(screen, "ok", Color::Green), of),
            Standing::Missed => (painted(screen, "missed", Color::Red), of),
            Standing::NoData => (String::new(), "no data".into()),
        };
        vec![format!("  {name}"), value.unwrap_or_else(|| "-".into()), target, verdict, of]
    };
    let rows: Vec<Vec<String>> = rows.into_iter().map(row).collect();
    let columns = [Left("INDICATORS"), Right("24 H"), Right("TARGET"), Left(""), Left("BASED ON")];
    table(screen, &columns, &rows, &["BASED ON", "TARGET"])
}

fn in_all(draft: &mut Draft, figures: &Figures<'_>) {
    let Statistics { total_executions: passes, successful_executions: good, success_rate, .. } =
        figures.document.statistics;
    if passes == 0 {
        return;
    }
    let StatusDocument { statistics, .. } = &figures.document;
    let average = short(Some(statistics.average_execution_time));
    let completed = format!("{good} completed ({:.1} %)", success_rate * 100.0);
    draft.add("in all", &listed([counted(passes, "pass"), completed, format!("{average} on average")]));
    let Totals { migrations, migrations_succeeded, migrations_failed, recreations, errors, .. } = figures.totals;
    let (again, failed) = (format!("{migrations_succeeded} running again"), format!("{migrations_failed} failed"));
    draft.add("", &listed([format!("{} accepted", counted(migrations, "migration")), again, failed]));
    draft.add("", &listed([format!("{} done", counted(recreations, "recreation")), counted(errors, "error")]));
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
