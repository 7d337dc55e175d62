//! Screens for people: the answer first, then the details.

mod analyze;
mod doctor;
mod explain;
mod history;
mod life;
mod markets;
mod plan;
mod replay;
mod rollout;
mod status;
mod table;
mod uptime;

use std::iter;
use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::text::{shorten, visible, wrap};
use crate::core::record::execution::ExecutionStatus;
use crate::core::world::time::{Timestamp, in_words};

pub use analyze::analyze;
pub use doctor::doctor;
pub use explain::explain;
pub use history::history;
pub use life::{life, writes};
pub use markets::markets;
use plan::attempts;
pub use plan::{pass, plan, plan_counts};
pub use replay::replay;
pub use rollout::{prospect, rollout};
pub use status::status;
pub(super) use uptime::minute;
pub use uptime::uptime;
pub(super) use uptime::{bill_rows, billed};

/// The longest name in a table, in columns.
const LONGEST_NAME: usize = 40;

/// Where a screen is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Columns of the terminal; `None` when the output goes elsewhere, and no line is broken.
    pub width: Option<usize>,
    pub color: bool,
}

impl Screen {
    /// A name shortened to leave room for the rest of the row; JSON has all of it.
    fn name(self, name: &str) -> String {
        shorten(&visible(name), self.width.map_or(LONGEST_NAME, |width| (width / 6).clamp(12, LONGEST_NAME)))
    }

    fn paint(self, text: &str, color: Color) -> String {
        if self.color { format!("\u{1b}[{}m{text}\u{1b}[0m", color as u8) } else { text.into() }
    }

    /// Sentences on lines of their own, broken between words.
    fn sentences(self, text: &str) -> String {
        wrap(text, self.width.unwrap_or(usize::MAX)).join("\n")
    }
}

/// A part of a list of passes.
#[derive(Clone, Copy, Debug)]
pub struct HistoryPage<'a> {
    /// How many newer ones are skipped.
    pub offset: usize,
    pub total: usize,
    /// The command that shows the next page, without its offset.
    pub command: &'a str,
    /// The period that is listed, in words; `None` for everything.
    pub since: Option<&'a str>,
}

impl HistoryPage<'_> {
    /// Says that the page is empty.
    fn nothing(&self) -> String {
        match (self.total, self.since) {
            (0, None) => "no passes are recorded\n".into(),
            (0, Some(since)) => format!("no passes are recorded in the last {since}\n"),
            (total, _) => format!("no passes after the first {}, {total} are recorded\n", self.offset),
        }
    }

    /// The closing line: what is listed, and how to list more.
    fn closing(&self, shown: usize) -> String {
        let Self { offset, total, command, since: _ } = *self;
        let (first, last) = (offset + 1, offset + shown);
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let more = if last < total { format!("; older: {command} --offset {last}") } else { String::new() };
        format!("{range} of {}, newest first{more}", counted(total, "pass"))
    }
}

/// Basic colors, which terminals adapt to their theme, with their ANSI codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

fn color_of(status: ExecutionStatus) -> Color {
    match status {
        ExecutionStatus::Completed => Color::Green,
        ExecutionStatus::Running | ExecutionStatus::Partial => Color::Yellow,
        ExecutionStatus::Failed | ExecutionStatus::Timeout | ExecutionStatus::Interrupted => Color::Red,
    }
}

/// A duration in milliseconds, short: `850 ms`, `12.3 s`, `4 min 20 s`.
fn short(millis: Option<i64>) -> String {
    match millis {
        None => "-".into(),
        Some(ms @ ..1000) => format!("{ms} ms"),
        Some(ms @ 1000..60_000) => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        // Whole minutes would hide that one pass took twice as long as another.
        Some(ms @ 60_000..3_600_000) if ms / 1000 % 60 > 0 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        Some(ms) => in_words(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
    }
}

/// `1 error`, `2 errors`, `2 passes`.
pub(super) fn counted(count: impl std::fmt::Display, thing: &str) -> String {
    let count = count.to_string();
    match thing.strip_suffix('y') {
        _ if count == "1" => format!("1 {thing}"),
        Some(stem) if !thing.ends_with("ay") => format!("{count} {stem}ies"),
        _ if thing.ends_with('s') => format!("{count} {thing}es"),
        _ => format!("{count} {thing}s"),
    }
}

/// How long ago, in the largest unit that fits; `now` also for times ahead of the clock.
fn ago(moment: Timestamp, now: Timestamp) -> String {
    match now.since(moment).as_secs() {
        0 => "now".into(),
        secs @ 1..60 => format!("{secs} s"),
        secs @ 60..3600 => format!("{} min", secs / 60),
        secs @ 3600..86_400 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86_400),
    }
}

/// A head and a text beside it, broken between words so that no line is wider than `width`. A longer word stays whole.
fn folded(head: &str, text: &str, width: Option<usize>) -> Vec<String> {
    let indent = head.width();
    let lines = wrap(text, width.map_or(usize::MAX, |width| width.saturating_sub(indent)));
    let heads = iter::once(head.to_owned()).chain(iter::repeat(" ".repeat(indent)));
    heads.zip(lines).map(|(head, line)| head + &line).collect()
}

/// Adds a text behind a label, below the others of its block.
fn labeled(out: &mut String, screen: Screen, label: &str, text: &str) {
    for line in folded(&format!("  {label:<12}"), text, screen.width) {
        *out += line.trim_end();
        out.push('\n');
    }
}

/// `2026-01-15 12:00`, in UTC.
fn to_the_minute(moment: Timestamp) -> String {
    moment.to_string().chars().take("2026-01-15T12:00".len()).collect::<String>().replace('T', " ")
}

fn to_the_second(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.split_once('.').map_or(text.clone(), |(whole, _)| whole.replace('T', " ") + " UTC")
}

/// `14:05` within the next twelve hours, else with its date; in UTC.
fn time_of_day(moment: Timestamp, now: Timestamp) -> String {
    let text = to_the_minute(moment);
    if moment.since(now) < Duration::from_secs(12 * 3600) {
        text.chars().skip("2026-01-15 ".len()).collect()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, words) in [
            (None, "-"),
            (Some(0), "0 ms"),
            (Some(999), "999 ms"),
            (Some(12_345), "12.3 s"),
            (Some(59_999), "59.9 s"),
            (Some(60_000), "1 min"),
            (Some(81_500), "1 min 21 s"),
            (Some(119_000), "1 min 59 s"),
            (Some(600_400), "10 min"),
            (Some(5_400_000), "1 h 30 min"),
        ] {
            assert_eq!(short(millis), words, "{millis:?}");
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
            let page = HistoryPage { offset, total, command: "respot history", since: None };
            assert_eq!(page.closing(shown), line);
        }
    }
}
