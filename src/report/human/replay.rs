//! What a replay came to, beside what is.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::Column::{Left, Right};
use super::table::table;
use super::uptime::minute;
use super::{Screen, counted};
use crate::core::pass::spell::Part;
use crate::core::record::downtime::hours;
use crate::core::record::uptime::{Uptime, availability};
use crate::core::world::money::Usd;
use crate::core::world::time::in_words;
use crate::report::replayed::{Played, Replay};
use crate::report::text::visible;

/// The figures side by side, and what they rest on.
#[must_use]
pub fn replay(screen: Screen, replay: &Replay<'_>) -> String {
    let Replay { name, trace, changes, idle, recorded, is, would_be, most_up } = replay;
    let span = format!("{} to {}", minute(&trace.from.to_string()), minute(&trace.to.to_string()));
    let (instances, places) = (counted(is.uptime.instances, "instance"), counted(trace.places.len(), "place"));
    let mut out = screen.sentences(&format!("{}: {span}, {instances} in {places}", visible(name))) + "\n\n";

    let columns: Vec<(&'static str, &Uptime, Option<&Played>)> = recorded
        .iter()
        .map(|uptime| ("RECORDED", uptime, None))
        .chain([("AS SET", &is.uptime, Some(is))])
        .chain((!changes.is_empty()).then_some(("WITH --SET", &would_be.uptime, Some(would_be))))
        .collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, cell: &dyn Fn(&Uptime, Option<&Played>) -> String| {
        let cells = columns.iter().map(|(_, uptime, played)| cell(uptime, *played));
        rows.push([name.to_owned()].into_iter().chain(cells).collect());
    };
    row("up", &|uptime, _| {
        let up = availability(uptime.running_seconds, uptime.lost.total());
        up.map_or_else(|| "-".into(), |up| format!("{:.2} %", up * 100.0))
    });
    row("lost hours", &|uptime, _| format!("{:.1}", hours(uptime.lost.total())));
    for part in Part::ALL {
        row(&format!("  {}", part.in_words()), &|uptime, _| format!("{:.1}", hours(uptime.lost.of(part))));
    }
    row("reclaims", &|uptime, _| uptime.reclaims.to_string());
    for (name, percent) in [("recovery p50", 50), ("recovery p95", 95), ("recovery worst", 100)] {
        row(name, &|uptime, _| {
            let length = uptime.recovery(percent).and_then(|it| u64::try_from(it).ok());
            length.map_or_else(|| "-".into(), |it| in_words(Duration::from_millis(it)))
        });
    }
    let count =
        |of: fn(&Played) -> u64| move |_: &Uptime, it: Option<&Played>| it.map_or("-".into(), |it| of(it).to_string());
    row("migrations", &count(|it| it.tally.migrations));
    row("creations", &count(|it| it.tally.creations));
    row("refused calls", &|uptime, played| {
        let recorded = || uptime.places.iter().map(|place| place.refusals).sum();
        played.map_or_else(recorded, |it| it.tally.refusals).to_string()
    });
    row("cost USD", &|uptime, _| match uptime.usage.saved() {
        Some(_) => uptime.usage.cost.to_the_cent(),
        None => "-".into(),
    });
    row("saved USD", &|uptime, _| uptime.usage.saved().map_or_else(|| "-".into(), Usd::to_the_cent));
    let heads: Vec<_> = [Left("FIGURE")].into_iter().chain(columns.iter().map(|(name, ..)| Right(name))).collect();
    out += &table(screen, &heads, &rows, &[]);

    let mut notes = String::new();
    if let Some(most_up) = most_up {
        let _ = write!(notes, "At best {:.2} %: what fits where there is room, at every moment. ", most_up * 100.0);
        notes += "A trace has no prices: 1 USD an hour as spot and 2 on demand are assumed.";
    } else {
        let _ = write!(
            notes,
            "The room is known for {:.0} % of the time of these places; for the rest an answer is taken to hold until the next one, and after a reclaim the next one.",
            trace.known * 100.0
        );
    }
    if !idle.is_empty() {
        let _ = write!(notes, " No replay depends on {}.", idle.join(", "));
    }
    out + "\n" + &screen.sentences(&notes) + "\n"
}
