//! Traces of spot capacity: see `benches/traces/README.md`.

use std::path::Path;
use std::time::Duration;

use novita_sim::Room;
use serde_json::Value;

/// The room of some zones over time.
pub(crate) struct Trace {
    pub(crate) zones: Vec<Zone>,
    pub(crate) gap: Duration,
    pub(crate) ticks: usize,
    /// Whether rooms are numbers of instances. Otherwise there is room for any number or for none.
    counted: bool,
}

/// The room of one zone.
pub(crate) struct Zone {
    pub(crate) name: String,
    /// By tick.
    room: Vec<u32>,
}

/// Where a trace is from, and which part of it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    file: &'static str,
    /// Only zones whose name ends like this.
    zones: &'static str,
    /// Only so many days.
    days: Option<u64>,
}

const fn source(name: &'static str, file: &'static str) -> Source {
    Source { name, file, zones: "", days: None }
}

pub(crate) const A: Source = source("A", "availability-1-node-aws-02-15-2023.json");
/// The hard part of A.
pub(crate) const A14: Source = Source { name: "A14", days: Some(14), ..A };
pub(crate) const B: Source = source("B", "preemption-1-node-aws-04-22-2023.json");
pub(crate) const C: Source = source("C", "availability-16-node-aws-08-27-2023.json");
pub(crate) const D: Source = source("D", "preemption-4-node-aws-08-03-2023.json");
pub(crate) const E: Source = source("E", "preemption-1-node-aws-04-19-2023.json");
pub(crate) const F: Source = Source { zones: "_v100_1", ..source("F", "availability-1-node-aws-10-26-2022.json") };

impl Trace {
    /// Reads a trace, cut to so many days if it is longer.
    pub(crate) fn read(source: Source, most_days: Option<u64>) -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/traces").join(source.file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let trace: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&trace, source, most_days).ok_or_else(|| format!("{} is no trace", path.display()))
    }

    fn parse(trace: &Value, source: Source, most_days: Option<u64>) -> Option<Self> {
        let gap = Duration::from_secs(trace["gap_seconds"].as_u64()?);
        let named = trace["zones"].as_object()?.iter().filter(|(name, _)| name.ends_with(source.zones));
        let zones: Option<Vec<Zone>> = named.map(|(name, runs)| Zone::parse(name, runs)).collect();
        let zones = zones?;
        let whole = zones.iter().map(|zone| zone.room.len()).min()?;
        let days = [source.days, most_days].into_iter().flatten().min();
        let ticks =
            days.map_or(whole, |days| whole.min(usize::try_from(days * 86_400 / gap.as_secs()).unwrap_or(whole)));
        let counted = zones.iter().any(|zone| zone.room.iter().any(|room| *room > 1));
        Some(Self { zones, gap, ticks, counted })
    }

    /// The room of a zone in a tick.
    pub(crate) fn room(&self, zone: usize, tick: usize) -> Room {
        match self.zones[zone].room[tick] {
            0 => Room::NONE,
            count if self.counted => Room::For(count),
            _ => Room::Any,
        }
    }

    /// How many instances could run in a tick, wherever there is room.
    pub(crate) fn room_for(&self, fleet: u32, tick: usize) -> u32 {
        let room = self.zones.iter().map(|zone| zone.room[tick]);
        if self.counted { fleet.min(room.sum()) } else { fleet * room.max().unwrap_or_default() }
    }

    /// After how many ticks a pass is due that is made every so many minutes: whole ticks.
    pub(crate) fn every(&self, minutes: u64) -> usize {
        let (wanted, gap) = (minutes * 60, self.gap.as_secs());
        usize::try_from((wanted + gap / 2) / gap).unwrap_or_default().max(1)
    }
}

impl Zone {
    fn parse(name: &str, runs: &Value) -> Option<Self> {
        let mut room = Vec::new();
        for run in runs.as_array()? {
            let (value, ticks) = (u32::try_from(run[0].as_u64()?).ok()?, usize::try_from(run[1].as_u64()?).ok()?);
            room.resize(room.len() + ticks, value);
        }
        // us-east-1a_v100_1
        let name = name.split('_').next().unwrap_or(name).to_owned();
        Some(Self { name, room })
    }
}
