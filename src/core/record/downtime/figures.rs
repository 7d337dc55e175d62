//! What the downtime ledger says about the last day, week or month.

use std::time::Duration;

use serde::Serialize;

use super::{LONGEST_SPAN, SPELLS_KEPT};
use crate::core::pass::spell::{ALL_TIME, DAY_MILLIS, DaySums, Days, Lost, Part, Spell, SpellEnd};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::{Timestamp, millis};

/// Lost instance-hours by their part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LostHours {
    pub noticing: f64,
    pub held_back: f64,
    pub no_room: f64,
    pub failed: f64,
    pub coming_up: f64,
}

impl From<Lost> for LostHours {
    fn from(lost: Lost) -> Self {
        let Lost { noticing, held_back, no_room, failed, coming_up } = lost;
        Self {
            noticing: hours(noticing),
            held_back: hours(held_back),
            no_room: hours(no_room),
            failed: hours(failed),
            coming_up: hours(coming_up),
        }
    }
}

/// How well what went down was brought back in a window that ends now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryFigures {
    pub window_ms: i64,
    /// Those that ended in the window, and those that are open.
    pub spells: usize,
    pub open: usize,
    /// Of their lengths; open ones count with what they have. `None` without any.
    pub p50_ms: Option<i64>,
    pub p95_ms: Option<i64>,
    pub worst_ms: Option<i64>,
    /// Time up / time that instances were to run; `None` before anything was watched.
    pub up_share: Option<f64>,
    /// The part of the window's spells that lies in the window.
    pub lost_instance_hours: f64,
    pub lost_by: LostHours,
    /// Spells that ended with the same instance running.
    pub in_place: usize,
    /// With a replacement running.
    pub elsewhere: usize,
    /// Instances whose replacement ran before they went down.
    pub ahead: usize,
    /// With an on-demand instance running.
    pub bridged: usize,
    /// Calls of these spells that were refused for lack of room.
    pub refused_calls: u64,
    /// Announcements of every day (UTC) that the window touches.
    pub announced: u64,
    pub announced_taken: u64,
    pub announced_withdrawn: u64,
    /// How long instances were to run.
    #[serde(skip)]
    pub to_run_ms: i64,
}

impl RecoveryFigures {
    /// Hours of the window, as hours in a month of one instance.
    #[must_use]
    pub fn monthly(&self, hours: f64) -> f64 {
        const MONTH_HOURS: f64 = 730.0;
        if self.to_run_ms == 0 { 0.0 } else { hours * MONTH_HOURS / ratio(self.to_run_ms, 3_600_000) }
    }
}

/// An instance that is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownInstance<'a> {
    pub instance_id: &'a InstanceId,
    pub instance_name: &'a str,
    pub since: Timestamp,
    pub down_ms: i64,
    /// Where its time goes at present.
    pub part: Part,
    /// The rule that holds it back.
    pub reason: Option<&'a str>,
    /// When time alone may change that.
    pub until: Option<Timestamp>,
    pub refused_calls: u32,
}

impl<'a> DownInstance<'a> {
    #[must_use]
    pub fn new(id: &'a InstanceId, spell: &'a Spell, now: Timestamp) -> Self {
        let held = spell.held_by.as_ref();
        Self {
            instance_id: id,
            instance_name: &spell.name,
            since: spell.down_at,
            down_ms: spell.length(now),
            part: spell.part,
            reason: held.map(|held| held.reason.as_str()),
            until: held.and_then(|held| held.until),
            refused_calls: spell.refused_calls,
        }
    }
}

/// Instances of one market that went down within ten minutes of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// The product and the cluster, in words.
    pub market: String,
    pub count: usize,
    pub from: Timestamp,
    pub to: Timestamp,
    pub still_down: usize,
}

/// [`STORM_SIZE`] instances of one market that go down within this time are a storm.
const STORM: Duration = Duration::from_secs(600);
const STORM_SIZE: usize = 3;

/// A storm is shown for this long, and until all its instances are up again.
const STORM_SHOWN: Duration = Duration::from_secs(3600);

/// The largest storm of late.
#[must_use]
pub fn storm(open: &[(InstanceId, Spell)], ended: &[Spell], now: Timestamp) -> Option<Storm> {
    let went_down = |it: &&Spell| !it.market.is_empty() && it.end != Some(SpellEnd::Ahead);
    let late = ended.iter().filter(|it| now.since(it.down_at) <= STORM_SHOWN);
    let mut spells: Vec<&Spell> = open.iter().map(|(_, spell)| spell).chain(late).filter(went_down).collect();
    spells.sort_by_key(|it| (&it.market, it.down_at));
    let storms = spells.iter().enumerate().filter_map(|(at, first)| {
        let within = |it: &&&Spell| it.market == first.market && it.down_at.since(first.down_at) <= STORM;
        let of_one: Vec<&Spell> = spells[at..].iter().take_while(within).copied().collect();
        let (count, to) = (of_one.len(), of_one.last()?.down_at);
        let still_down = of_one.iter().filter(|it| it.end.is_none()).count();
        let storm = Storm { market: first.market.clone(), count, from: first.down_at, to, still_down };
        (count >= STORM_SIZE).then_some(storm)
    });
    storms.max_by_key(|it| (it.count, it.from))
}

/// The figures of the last `window`. `ended` are all that are kept.
#[must_use]
pub fn recovery(
    open: &[(InstanceId, Spell)],
    ended: &[Spell],
    days: &Days,
    window: Duration,
    now: Timestamp,
) -> RecoveryFigures {
    let from = now - window;
    let open = || open.iter().map(|(_, spell)| spell);
    let all: Vec<&Spell> = ended.iter().filter(|it| it.ended_at.is_some_and(|at| at > from)).chain(open()).collect();
    let ended_as = |end: SpellEnd| all.iter().filter(|it| it.end == Some(end)).count();
    let ahead = ended_as(SpellEnd::Ahead);
    let mut lengths: Vec<i64> =
        all.iter().filter(|it| it.end != Some(SpellEnd::Ahead)).map(|it| it.length(now)).collect();
    lengths.sort_unstable();

    let touched = || {
        let days = days.iter().filter(|(day, _)| *day != ALL_TIME);
        days.map(|(day, sums)| (share(day, sums, from, now), sums)).filter(|(permille, _)| *permille > 0)
    };
    let is_cut = ended.len() >= SPELLS_KEPT && ended.iter().all(|it| it.ended_at.is_some_and(|at| at > from));
    let mut lost = Lost::default();
    if is_cut {
        for ((permille, sums), part) in touched().flat_map(|day| Part::ALL.map(|part| (day, part))) {
            lost.add(part, sums.lost.of(part) / 1000 * i64::try_from(permille).unwrap_or(1000));
        }
    }
    for spell in all.iter().filter(|it| !is_cut || it.ended_at.is_none()) {
        for (part, begin, end) in spell.stretches(now) {
            lost.add(part, millis(end.since(begin.max(from))));
        }
    }
    let ran = touched().map(|(permille, sums)| i64::try_from(sums.running_seconds * permille).unwrap_or(i64::MAX));
    let to_run_ms = ran.fold(lost.total(), i64::saturating_add);
    RecoveryFigures {
        window_ms: millis(window),
        spells: lengths.len(),
        open: open().count(),
        p50_ms: percentile(&lengths, 50),
        p95_ms: percentile(&lengths, 95),
        worst_ms: lengths.last().copied(),
        up_share: (to_run_ms > 0).then(|| 1.0 - ratio(lost.total(), to_run_ms)),
        lost_instance_hours: hours(lost.total()),
        lost_by: LostHours::from(lost),
        in_place: ended_as(SpellEnd::InPlace),
        elsewhere: ended_as(SpellEnd::Elsewhere),
        ahead,
        bridged: ended_as(SpellEnd::Bridged),
        refused_calls: all.iter().map(|it| u64::from(it.refused_calls)).sum(),
        announced: touched().map(|(_, sums)| sums.announced).sum(),
        announced_taken: touched().map(|(_, sums)| sums.taken).sum(),
        announced_withdrawn: touched().map(|(_, sums)| sums.withdrawn).sum(),
        to_run_ms,
    }
}

/// How much of what was counted of a day lies between two moments, in thousandths. The day is known up to its last look; the
/// first one of a store from its first look, and every other from midnight, since its first look counts what was before.
#[must_use]
pub fn share(day: &str, sums: &DaySums, from: Timestamp, to: Timestamp) -> u64 {
    let Ok(begin) = format!("{day}T00:00:00Z").parse::<Timestamp>() else { return 0 };
    let midnight = Timestamp::from_millis(begin.as_millis().saturating_add(DAY_MILLIS));
    let began = sums.began_at.filter(|at| at.since(begin) > LONGEST_SPAN);
    let begin = began.map_or(begin, |at| at.clamp(begin, midnight));
    let end = sums.looked_at.map_or(midnight.min(to.max(begin)), |at| at.clamp(begin, midnight));
    let whole = end.since(begin).as_millis().max(1);
    let part = end.min(to).since(begin.max(from)).as_millis();
    u64::try_from((part * 1000 + whole / 2) / whole).unwrap_or(1000)
}

/// The smallest length that at least `percent` of the spells do not exceed.
#[must_use]
pub fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied()
}

#[expect(clippy::cast_precision_loss, reason = "hours and rates for people; exact up to 2^53 milliseconds")]
fn ratio(part: i64, whole: i64) -> f64 {
    part as f64 / whole as f64
}

/// Whole seconds in hours.
#[must_use]
pub fn hours_of(seconds: u64) -> f64 {
    hours(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000))
}

/// Milliseconds in hours, with the precision of a second.
#[must_use]
pub fn hours(millis: i64) -> f64 {
    ratio(millis / 1000, 3600)
}
