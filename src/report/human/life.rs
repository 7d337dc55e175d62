//! The events of instances.

use std::fmt::Write as _;

use super::{Color, HistoryPage, Screen, ago, folded, short, to_the_minute, to_the_second};
use crate::core::record::execution::ROLLOUT_STEP;
use crate::core::record::life::{EventKind, Life, LifeEvent};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::report::text::visible;

/// With fewer columns left beside its time, an event goes below it.
const LEAST_ROOM: usize = 24;

/// The life of one instance, oldest first.
#[must_use]
pub fn life(screen: Screen, life: &Life, wanted: &str, since: Option<&str>, now: Timestamp) -> String {
    if life.ids.is_empty() {
        return format!(
            "nothing is known of {}: no recorded pass acted on an instance with this id or name, or saw a reclaim of it\n",
            visible(wanted)
        );
    }
    let mut out = chain(life);
    out.push('\n');
    if life.events.is_empty() {
        let of = since.map_or(String::new(), |since| format!(" in the last {since}"));
        let _ = writeln!(out, "nothing is recorded{of}");
    }
    events(&mut out, screen, &life.events, false, now);
    out
}

/// Each id of the instance with its name and its replacement.
fn chain(life: &Life) -> String {
    let widest = life.ids.iter().map(|id| visible(id.as_str()).chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for id in &life.ids {
        let shown = visible(id.as_str());
        let name = life.names.get(id).map_or("(name unknown)".into(), |name| visible(name));
        let by = life.replaced_by.get(id).map_or(String::new(), |by| format!(", replaced by {by}"));
        let _ = writeln!(out, "{shown:<widest$}  {name}{}", visible(&by));
    }
    out
}

/// Writes to the provider, newest first.
#[must_use]
pub fn writes(screen: Screen, writes: &[LifeEvent], page: HistoryPage<'_>, shown: usize, now: Timestamp) -> String {
    if shown == 0 {
        return page.nothing();
    }
    let mut out = String::new();
    events(&mut out, screen, writes, true, now);
    let calls = match writes.len() {
        0 => "no write calls were".into(),
        1 => "1 write call was".into(),
        count => format!("{count} write calls were"),
    };
    let closing = format!("{calls} sent to the provider by passes {}", page.closing(shown));
    let _ = writeln!(out, "{}", screen.sentences(&closing));
    out
}

/// One event a line, wrapped beside its time.
pub(super) fn events(out: &mut String, screen: Screen, events: &[LifeEvent], with_names: bool, now: Timestamp) {
    let agos: Vec<String> = events.iter().map(|event| ago(event.at, now)).collect();
    let widest = agos.iter().map(String::len).max().unwrap_or(0);
    for (event, ago) in events.iter().zip(&agos) {
        let time = if screen.width.is_some() { to_the_minute(event.at) } else { to_the_second(event.at) };
        let head = format!("{time}  {ago:>widest$}  ");
        let text = visible(&sentence(event, screen, with_names));
        let color = match event.outcome {
            Some(outcome) if outcome.is_success() => Some(Color::Green),
            Some(outcome) if outcome.is_failure() => Some(Color::Red),
            Some(_) => Some(Color::Yellow),
            None => None,
        };
        let is_narrow = screen.width.is_some_and(|width| width < head.len() + LEAST_ROOM);
        let lines = if is_narrow {
            let below = folded("    ", &text, screen.width);
            std::iter::once(head.trim_end().to_owned()).chain(below).collect()
        } else {
            folded(&head, &text, screen.width)
        };
        for line in lines {
            let _ = writeln!(out, "{}", color.map_or(line.clone(), |color| screen.paint(&line, color)));
        }
    }
}

/// What happened, in one sentence that starts with the instance.
fn sentence(event: &LifeEvent, screen: Screen, with_names: bool) -> String {
    let whole = screen.width.is_none();
    let LifeEvent { instance_id, instance_name, reason, new_instance_id, .. } = event;
    let mut text = instance_id.to_string();
    if with_names && !instance_name.is_empty() {
        let name = if whole { visible(instance_name) } else { screen.name(instance_name) };
        let _ = write!(text, " ({name})");
    }
    let _ = write!(text, ": {}", what(event.event));
    if let Some(outcome) = event.outcome {
        let _ = write!(text, " -> {}", outcome.into_str().replace('_', " "));
    }
    let known = |id: &InstanceId| reason.as_ref().is_some_and(|reason| reason.contains(id.as_str()));
    if let Some(new) = new_instance_id.as_ref().filter(|new| !known(new)) {
        let _ = write!(text, ", now {new}");
    }
    if let Some(time) = event.response_time {
        let _ = write!(text, ", answered in {}", short(Some(time)));
    }
    if let Some(reason) = reason {
        let _ = write!(text, "; {reason}");
    }
    if let Some(last) = event.last_at {
        let last = if whole { last.to_string() } else { to_the_minute(last) };
        let _ = write!(text, " ({} times, last at {last})", event.times);
    }
    if let Some(job) = &event.job_id {
        // People need no prefix that all ids share.
        let (whose, short) = match job.strip_prefix(ROLLOUT_STEP) {
            Some(short) => ("rollout step", short),
            None if event.dry_run => ("rehearsal", job.strip_prefix("migration-job-").unwrap_or(job)),
            None => ("pass", job.strip_prefix("migration-job-").unwrap_or(job)),
        };
        let _ = write!(text, " [{whose} {}]", if whole { job } else { short });
    }
    text
}

/// An event in words.
pub(super) fn what(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Down => "down",
        EventKind::UpAgain => "up again",
        EventKind::GivenUp => "given up, still down",
        EventKind::ReclaimNotice => "reclaim notice seen",
        EventKind::MigrationConfirmed => "migration confirmed",
        EventKind::CallWithoutEffect => "migrate call without effect",
        EventKind::RunningAgain => "seen running again",
        EventKind::MigrationFailed => "migration failed",
        EventKind::MigrationStuck => "migration stuck",
        EventKind::NotRunning => "migration over, not running",
        EventKind::Vanished => "vanished",
        EventKind::Migrate => "migrate",
        EventKind::Recreate => "recreate",
        EventKind::Resume => "recreation resumed",
        EventKind::Create => "create call",
        EventKind::Delete => "delete call",
        EventKind::Journal => "journal",
    }
}
