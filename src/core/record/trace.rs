//! Where there was room over time: a public trace of a market, or what the passes of a store saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::execution::Recorded;
use super::trail::{ProviderWrite, WriteCall, WriteOutcome};
use super::uptime::{Lane, Remembered, lanes, within};
use crate::core::pass::market::Markets;
use crate::core::pass::spell::{ALL_TIME, Spell, SpellEnd};
use crate::core::pass::usage::{InstanceDays, MeteredUsage};
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::money::Usd;
use crate::core::world::time::{Timestamp, millis};

/// Room for any number of instances.
pub const ANY: u32 = u32::MAX;

/// A public trace has no dates: it begins here.
const DAWN: i64 = 1_704_067_200;

/// The longest trace that is replayed.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// What is assumed of a public trace, which has no prices: USD for an hour as spot and on demand.
pub const ASSUMED_PRICES: [Usd; 2] = [Usd::from_micros(1_000_000), Usd::from_micros(2_000_000)];

/// How long an answer of a market is taken for knowledge of its room.
const SIGN_HOLDS: Duration = Duration::from_secs(30 * 60);

/// How long the room is gone that a reclaim takes, if the first answer after it has room.
const RECLAIM_TAKES: Duration = Duration::from_secs(1);

/// Where there was room over time, and the fleet that lived there.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub from: Timestamp,
    pub to: Timestamp,
    pub places: Vec<RoomOverTime>,
    /// By instance: the number of the place where it begins.
    pub fleet: Vec<usize>,
    /// Instances besides that were never down, and what they cost as far as that is known.
    pub steady: u32,
    pub steady_usage: MeteredUsage,
    /// The share of the time of all places of which the room is known. A public trace knows all of it.
    pub known: f64,
}

/// The room for spot instances in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomOverTime {
    pub place: Place,
    /// For one instance and an hour, as spot and on demand.
    pub prices: [Option<Usd>; 2],
    /// How many instances fit, from when on; by time, and one at the begin.
    pub steps: Vec<(Timestamp, u32)>,
}

impl RoomOverTime {
    /// How many instances fit at a time.
    #[must_use]
    pub fn room(&self, at: Timestamp) -> u32 {
        let next = self.steps.partition_point(|(from, _)| *from <= at);
        next.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }
}

/// A public trace as it is written: for each zone how many instances fit, run by run.
#[derive(Deserialize)]
struct Written {
    gap_seconds: u32,
    zones: BTreeMap<String, Vec<(u32, u32)>>,
}

impl Trace {
    /// Reads a public trace. Zones are named `cluster_product`; one instance begins in each.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn of_text(text: &str) -> Result<Self, String> {
        let Written { gap_seconds, zones } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let ticks = |runs: &[(u32, u32)]| runs.iter().map(|(_, ticks)| u64::from(*ticks)).sum::<u64>();
        let shortest = zones.values().map(|runs| ticks(runs)).min().ok_or("it has no zones")?;
        let length = Duration::from_secs(shortest.saturating_mul(u64::from(gap_seconds)));
        if length.is_zero() || length > LONGEST {
            let days = length.as_secs() / 86_400;
            return Err(format!("it is {days} days long, and a replay takes 1 second to 400 days"));
        }
        let from = Timestamp::from_secs(DAWN);
        // In a trace of single instances 1 means that there was room, for however many.
        let is_counted = zones.values().flatten().any(|(room, _)| *room > 1);
        let room_of = |room: u32| if room == 1 && !is_counted { ANY } else { room };
        let place = |(name, runs): (&String, &Vec<(u32, u32)>)| {
            let (cluster, product) = name.split_once('_').unwrap_or((name, "any"));
            let mut at = from;
            let step = |(room, ticks): &(u32, u32)| {
                let begin = at;
                at = at + Duration::from_secs(u64::from(gap_seconds) * u64::from(*ticks));
                (begin, room_of(*room))
            };
            RoomOverTime {
                place: Place { product: product.into(), cluster: cluster.into() },
                prices: ASSUMED_PRICES.map(Some),
                steps: runs.iter().map(step).collect(),
            }
        };
        let places: Vec<RoomOverTime> = zones.iter().map(place).collect();
        Ok(Self {
            from,
            to: from + length,
            fleet: (0..places.len()).collect(),
            places,
            steady: 0,
            steady_usage: MeteredUsage::default(),
            known: 1.0,
        })
    }

    /// What the passes of a store saw between two times: markets that refused or took an instance, and instances that ran
    /// or were reclaimed. An answer holds until the next one, and the first one after a reclaim since the reclaim. `None`
    /// if nothing was down.
    #[must_use]
    pub fn of_history(
        passes: &[Recorded],
        (remembered, instance_days, markets): (Remembered<'_>, &InstanceDays, &Markets),
        from: Timestamp,
        to: Timestamp,
    ) -> Option<Self> {
        let by_name: BTreeMap<String, &Place> = markets.keys().map(|place| (place.to_string(), place)).collect();
        let mut seen = PlacesSeen { from, to, calls: calls(passes), by_name, stays: Vec::new(), signs: Vec::new() };
        let lanes = lanes(remembered, from, to);
        let begins: Vec<&Place> = lanes.iter().filter_map(|lane| seen.follow(lane)).collect();
        for (at, place, has_room) in &seen.calls.signs {
            seen.signs.push((*at, *place, Sign::of(*has_room)));
        }
        let days = || remembered.days.iter().filter(|(day, _)| *day != ALL_TIME);
        let visited = seen.stays.iter().map(|(place, ..)| *place);
        let visited: BTreeSet<&Place> = visited.chain(seen.signs.iter().map(|(_, place, _)| *place)).collect();
        let room = |place: &&Place| {
            let market = markets.get(*place).copied().unwrap_or_default();
            let mut usage = MeteredUsage::default();
            days().filter_map(|(_, day)| day.places.get(&place.key())).for_each(|sums| usage.add(sums.usage()));
            // What instances cost there on average, whatever their GPUs; else what one GPU costs.
            let average = |cost: Usd| (usage.priced_seconds > 0).then(|| cost.part(3600, usage.priced_seconds));
            let prices =
                [average(usage.cost).or(market.price), average(usage.on_demand_cost).or(market.on_demand_price)];
            RoomOverTime { place: (*place).clone(), prices, steps: seen.steps(place) }
        };
        let mut places: Vec<RoomOverTime> = visited.iter().map(room).collect();
        let fleet: Vec<usize> = begins.iter().filter_map(|it| visited.iter().position(|place| place == it)).collect();
        let known: i64 = visited.iter().map(|place| seen.known_millis(place)).sum();
        let all = millis(to.since(from)).saturating_mul(i64::try_from(places.len()).unwrap_or(i64::MAX));
        let most = days().map(|(_, day)| day).map(|day| day.instances).max().unwrap_or(0);
        let steady = most.saturating_sub(u32::try_from(fleet.len()).unwrap_or(u32::MAX));
        let seconds = u64::from(steady) * to.since(from).as_secs();
        let in_lanes: BTreeSet<&InstanceId> =
            lanes.iter().flat_map(|lane| &lane.spells).flat_map(|spell| &spell.ids).collect();
        let (mut of_steady, mut of_lanes) = (MeteredUsage::default(), MeteredUsage::default());
        for (id, usage) in within(instance_days, remembered.days, from, to).values().flat_map(|day| &day.instances) {
            if in_lanes.contains(id) { of_lanes.add(*usage) } else { of_steady.add(*usage) }
        }
        seen.weigh(&mut places, &of_lanes);
        if of_steady.priced_seconds == 0 {
            // By instance nothing is known: on average.
            days().flat_map(|(_, day)| day.places.values()).for_each(|sums| of_steady.add(sums.usage()));
        }
        let steady_usage = of_steady.during(seconds);
        (!fleet.is_empty()).then(|| Self { from, to, places, fleet, steady, steady_usage, known: share(known, all) })
    }

    /// The share of the time that the fleet could have been up, had it been wherever there was room: at any time for as
    /// many instances as fit into all places with their product.
    #[must_use]
    pub fn most_up(&self) -> f64 {
        let changes = self.places.iter().flat_map(|place| place.steps.iter().map(|(at, _)| *at));
        let times: BTreeSet<Timestamp> = changes.chain([self.to]).filter(|at| *at <= self.to).collect();
        let mut wanted: BTreeMap<&str, u32> = BTreeMap::new();
        for number in &self.fleet {
            *wanted.entry(&self.places[*number].place.product).or_default() += 1;
        }
        let up_at = |at: Timestamp| {
            let of = |(product, wanted): (&&str, &u32)| {
                let places = self.places.iter().filter(|it| it.place.product == **product);
                let room = places.map(|it| it.room(at)).fold(0, u32::saturating_add);
                i64::from(room.min(*wanted))
            };
            wanted.iter().map(of).sum::<i64>()
        };
        let times: Vec<Timestamp> = times.into_iter().collect();
        let up: i64 = times.windows(2).map(|pair| up_at(pair[0]) * millis(pair[1].since(pair[0]))).sum();
        let fleet = i64::try_from(self.fleet.len()).unwrap_or(i64::MAX);
        share(up, millis(self.to.since(self.from)).saturating_mul(fleet))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn share(part: i64, whole: i64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// What a market answered.
#[derive(Debug, Default)]
struct Calls<'a> {
    /// Where and when, and whether it had room.
    signs: Vec<(Timestamp, &'a Place, bool)>,
    /// Where replacements were created.
    created: BTreeMap<&'a InstanceId, &'a Place>,
}

fn calls(passes: &[Recorded]) -> Calls<'_> {
    let mut calls = Calls::default();
    for ProviderWrite { at, call, outcome, error_kind, new_instance_id, market, .. } in
        passes.iter().flat_map(|pass| &pass.writes)
    {
        let Some(market) = market.as_ref().filter(|_| *call != WriteCall::Delete) else { continue };
        match outcome {
            WriteOutcome::Accepted => calls.signs.push((*at, market, true)),
            WriteOutcome::Refused if *error_kind == Some(ErrorKind::Capacity) => {
                calls.signs.push((*at, market, false));
            }
            WriteOutcome::Refused | WriteOutcome::NotSent | WriteOutcome::Unknown => {}
        }
        if let Some(new) = new_instance_id {
            calls.created.insert(new, market);
        }
    }
    calls
}

/// What is seen of the places of a store.
struct PlacesSeen<'a> {
    from: Timestamp,
    to: Timestamp,
    calls: Calls<'a>,
    by_name: BTreeMap<String, &'a Place>,
    /// Where an instance ran, from when to when.
    stays: Vec<(&'a Place, Timestamp, Timestamp)>,
    signs: Vec<(Timestamp, &'a Place, Sign)>,
}

/// What shows whether a place has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    /// An instance was taken away.
    Reclaim,
    Refused,
    Accepted,
}

impl Sign {
    fn of(has_room: bool) -> Self {
        if has_room { Self::Accepted } else { Self::Refused }
    }
}

impl<'a> PlacesSeen<'a> {
    /// Takes the life of one instance; where it was at the begin, if that is known.
    fn follow(&mut self, lane: &Lane<'_>) -> Option<&'a Place> {
        let place_of = |spell: &Spell| self.by_name.get(&spell.market).copied();
        let first = lane.spells.first().and_then(|spell| place_of(spell))?;
        let mut runs_since = Some((first, self.from));
        for spell in &lane.spells {
            let went_down = place_of(spell);
            let down_at = spell.down_at.max(self.from);
            if let (Some(place), Some((_, since))) = (went_down, runs_since) {
                self.stays.push((place, since, down_at));
                self.signs.push((down_at, place, Sign::Reclaim));
            }
            let created = spell.ids.last().and_then(|id| self.calls.created.get(id)).copied();
            let is_in_place = spell.end == Some(SpellEnd::InPlace);
            let place = if is_in_place { went_down } else { created };
            runs_since = place.zip(spell.ended_at.filter(|_| spell.end.is_some_and(SpellEnd::is_recovery)));
        }
        if let Some((place, since)) = runs_since {
            self.stays.push((place, since, self.to));
        }
        Some(first)
    }

    /// Makes prices those of the instances that are replayed, which may have other GPUs than the rest of their places.
    fn weigh(&self, places: &mut [RoomOverTime], usage: &MeteredUsage) {
        for (number, cost) in [usage.cost, usage.on_demand_cost].into_iter().enumerate() {
            let price = |place: &Place| places.iter().find(|it| it.place == *place).and_then(|it| it.prices[number]);
            let stays = self.stays.iter().filter_map(|(place, from, to)| Some((price(place)?, to.since(*from))));
            let (mut sum, mut time) = (Usd::default(), Duration::ZERO);
            for (price, stay) in stays {
                (sum, time) = ([sum, price.during(stay)].into_iter().sum(), time + stay);
            }
            let own = cost.part(time.as_secs(), usage.priced_seconds);
            let (Ok(own), Ok(average)) = (u64::try_from(own.micros()), u64::try_from(sum.micros())) else { continue };
            for it in places.iter_mut().filter(|_| own > 0 && average > 0) {
                it.prices[number] = it.prices[number].map(|price| price.part(own, average));
            }
        }
    }

    /// How many ran there at a time.
    fn living(&self, place: &Place, at: Timestamp) -> u32 {
        let those = self.stays.iter().filter(|(of, from, to)| *of == place && *from <= at && at < *to);
        u32::try_from(those.count()).unwrap_or(u32::MAX)
    }

    fn steps(&self, place: &Place) -> Vec<(Timestamp, u32)> {
        let mut signs: Vec<(Timestamp, Sign)> =
            self.signs.iter().filter(|(_, of, _)| *of == place).map(|(at, _, sign)| (*at, *sign)).collect();
        signs.sort_unstable();
        let begin = if self.living(place, self.from) > 0 { ANY } else { 0 };
        let mut steps = vec![(self.from, begin)];
        for (number, (at, sign)) in signs.iter().enumerate() {
            let room = if *sign == Sign::Accepted { ANY } else { self.living(place, *at) };
            steps.push((*at, room));
            let answer = signs[number..].iter().find(|(_, sign)| *sign != Sign::Reclaim);
            if *sign == Sign::Reclaim && answer.is_some_and(|(_, sign)| *sign == Sign::Accepted) {
                steps.push((*at + RECLAIM_TAKES, ANY));
            }
        }
        steps.sort_by_key(|(at, _)| *at);
        steps.dedup_by(|next, step| next.1 == step.1);
        steps
    }

    /// How long something ran there, or its last answer was young.
    fn known_millis(&self, place: &Place) -> i64 {
        let stays = self.stays.iter().filter(|(of, ..)| *of == place).map(|(_, from, to)| (*from, *to));
        let answers = self.signs.iter().filter(|(_, of, sign)| *of == place && *sign != Sign::Reclaim);
        let answers = answers.map(|(at, ..)| (*at, *at + SIGN_HOLDS));
        let mut spans: Vec<(Timestamp, Timestamp)> = stays.chain(answers).collect();
        spans.sort_unstable();
        let (mut known, mut until) = (0, self.from);
        for (from, to) in spans {
            let to = to.min(self.to);
            known += millis(to.since(from.max(until)));
            until = until.max(to);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_trace_is_read_or_refused_with_its_reason() {
        let trace = |text: &str| Trace::of_text(text);
        let read = trace(r#"{"gap_seconds": 60, "zones": {"a_gpu": [[1, 2], [0, 3]], "b": [[0, 1], [1, 9]]}}"#);
        let read = read.expect("a trace");
        assert_eq!((read.fleet.as_slice(), read.to.since(read.from)), (&[0, 1][..], Duration::from_secs(300)));
        let rooms = |seconds: u64| {
            let at = read.from + Duration::from_secs(seconds);
            [read.places[0].room(at), read.places[1].room(at)]
        };
        for (at, expected) in [(0, [ANY, 0]), (59, [ANY, 0]), (60, [ANY, ANY]), (119, [ANY, ANY]), (120, [0, ANY])] {
            assert_eq!(rooms(at), expected, "after {at} s");
        }
        assert_eq!((read.places[0].place.product.as_str(), read.places[1].place.product.as_str()), ("gpu", "any"));
        // The first of 5 minutes has room for one of the two, whose products differ; the next for both; then for one.
        assert!((read.most_up() - 0.6).abs() < 1e-9, "{}", read.most_up());
        let counted = trace(r#"{"gap_seconds": 60, "zones": {"a": [[1, 1], [3, 1]]}}"#).expect("a trace");
        assert_eq!(counted.places[0].steps.iter().map(|(_, room)| *room).collect::<Vec<_>>(), [1, 3]);
        for (text, why) in [
            ("", "EOF"),
            ("[]", "expected"),
            (r#"{"gap_seconds": 60}"#, "zones"),
            (r#"{"zones": {}}"#, "gap_seconds"),
            (r#"{"gap_seconds": 60, "zones": {}}"#, "no zones"),
            (r#"{"gap_seconds": 60, "zones": {"a": []}}"#, "0 days"),
            (r#"{"gap_seconds": 0, "zones": {"a": [[1, 1]]}}"#, "0 days"),
            (r#"{"gap_seconds": -1, "zones": {"a": [[1, 1]]}}"#, "-1"),
            (r#"{"gap_seconds": 4294967295, "zones": {"a": [[1, 4294967295]]}}"#, "400 days"),
            (r#"{"gap_seconds": 60, "zones": {"a": [[1]]}}"#, "2"),
        ] {
            let refused = trace(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
