//! What `replay` shows: the same figures for what is and for what would have been.

use serde::Serialize;

use super::uptime::UptimeDocument;
use crate::core::record::trace::Trace;
use crate::core::record::trail::WriteCounts;
use crate::core::record::uptime::Uptime;

/// A replay and what it is compared with.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    /// The file of the trace, or `history`.
    pub name: &'a str,
    pub trace: &'a Trace,
    /// What was asked for, as `KEY=VALUE`.
    pub changes: &'a [&'a str],
    /// The settings besides on which no replay depends.
    pub idle: Vec<&'a str>,
    /// What really was, if that is what is replayed.
    pub recorded: Option<Uptime>,
    /// With the settings of this call.
    pub is: Played,
    /// With the changes.
    pub would_be: Played,
    /// The share of the time that the fleet could have been up, if the room is known at all times.
    pub most_up: Option<f64>,
}

/// What one replay came to.
#[derive(Clone, Debug)]
pub struct Played {
    pub uptime: Uptime,
    pub tally: WriteCounts,
}

/// What `replay -o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayDocument<'a> {
    source: &'a str,
    places: usize,
    set: &'a [&'a str],
    without_effect: &'a [&'a str],
    /// The share of the time of all places of which the room is known.
    known: f64,
    best_possible: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<UptimeDocument<'a>>,
    is: PlayedPart<'a>,
    would_be: PlayedPart<'a>,
}

#[derive(Debug, Serialize)]
struct PlayedPart<'a> {
    #[serde(flatten)]
    uptime: UptimeDocument<'a>,
    calls: WriteCounts,
}

impl<'a> ReplayDocument<'a> {
    /// The document of a replay.
    #[must_use]
    pub fn new(replay: &'a Replay<'a>) -> Self {
        let Replay { name, trace, changes, idle, recorded, is, would_be, most_up } = replay;
        let part =
            |played: &'a Played| PlayedPart { uptime: UptimeDocument::new(&played.uptime, None), calls: played.tally };
        Self {
            source: name,
            places: trace.places.len(),
            set: changes,
            without_effect: idle,
            known: rounded(trace.known),
            best_possible: most_up.map(rounded),
            recorded: recorded.as_ref().map(|uptime| UptimeDocument::new(uptime, None)),
            is: part(is),
            would_be: part(would_be),
        }
    }
}

fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}
