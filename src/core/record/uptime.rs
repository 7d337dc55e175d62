//! What a span of time brought: how much of it the fleet was up, what was lost and why, where, and what it cost.
//!
//! Running time and money are sums by day, so that the first and the last day count with their share of the span. Downtime
//! and reclaims are those of the spells themselves, while all of the span are kept; else they are sums by day, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::core::pass::spell::{ALL_TIME, DaySums, Days, Lost, Part, PlaceSums, Spell, SpellEnd, by_day, day_of};
use crate::core::pass::usage::{InstanceDay, InstanceDays, MeteredUsage};
use crate::core::record::downtime::{LONGEST_SPAN, SPELLS_KEPT, percentile, share};
use crate::core::recreation::marker::base_of;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::time::{Timestamp, millis};

/// What the store remembers of downtime.
#[derive(Clone, Copy, Debug)]
pub struct Remembered<'a> {
    pub open: &'a [(InstanceId, Spell)],
    /// Oldest first.
    pub ended: &'a [Spell],
    pub days: &'a Days,
}

/// What a span of time brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uptime {
    pub from: Timestamp,
    pub to: Timestamp,
    /// What is down counts until then.
    pub known_to: Timestamp,
    /// The most that were to run at one time.
    pub instances: u32,
    pub running_seconds: u64,
    /// Instance-time of which nothing tells whether it was up, in seconds.
    pub unseen_seconds: u64,
    pub lost: Lost,
    /// How long those took that ended in the span with something running, ascending, in milliseconds.
    pub recoveries: Vec<i64>,
    pub reclaims: u64,
    pub usage: MeteredUsage,
    /// Most running time first.
    pub places: Vec<PlaceUptime>,
    /// Oldest first.
    pub days: Vec<DayUptime>,
}

/// One place in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceUptime {
    pub place: Place,
    pub running_seconds: u64,
    pub lost_millis: i64,
    pub reclaims: u64,
    /// Calls that were refused for lack of room.
    pub refusals: u64,
}

/// One day (UTC), as far as it lies in the span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayUptime {
    pub day: String,
    pub running_seconds: u64,
    pub lost_millis: i64,
    pub reclaims: u64,
    pub usage: MeteredUsage,
}

/// Which part of instance-time that was to run was up; `None` without any.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a share for people; exact up to 2^53 milliseconds")]
pub fn availability(running_seconds: u64, lost_millis: i64) -> Option<f64> {
    let up = i64::try_from(running_seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    let to_run = up.saturating_add(lost_millis);
    (to_run > 0).then(|| up as f64 / to_run as f64)
}

impl Uptime {
    /// What the store tells about the span.
    #[must_use]
    pub fn of(remembered: Remembered<'_>, from: Timestamp, to: Timestamp) -> Self {
        let Remembered { open, ended, days } = remembered;
        let known_to = known_to(days, to);
        let mut uptime = Self { from, to, known_to, ..Self::default() };
        let is_cut = ended.len() >= SPELLS_KEPT && ended.iter().all(|it| it.ended_at.is_some_and(|at| at > from));
        let mut by_day: BTreeMap<&str, DayUptime> = BTreeMap::new();
        let mut by_place: BTreeMap<String, PlaceUptime> = BTreeMap::new();
        for (day, sums) in days.iter().filter(|(day, _)| *day != ALL_TIME) {
            let permille = share(day, sums, from, to);
            if permille > 0 {
                uptime.add_day(day, sums, permille, (&mut by_day, &mut by_place), is_cut);
            }
        }
        let all = ended.iter().chain(open.iter().map(|(_, spell)| spell));
        for spell in all.filter(|it| it.end != Some(SpellEnd::Ahead)) {
            uptime.add_spell(spell, (&mut by_day, &mut by_place), is_cut);
        }
        uptime.recoveries.sort_unstable();
        uptime.days = by_day.into_values().collect();
        uptime.places = by_place.into_values().collect();
        uptime.places.sort_by(|a, b| b.running_seconds.cmp(&a.running_seconds).then_with(|| a.place.cmp(&b.place)));
        uptime
    }

    fn add_day<'a>(
        &mut self,
        day: &'a str,
        sums: &DaySums,
        permille: u64,
        (days, places): (&mut BTreeMap<&'a str, DayUptime>, &mut BTreeMap<String, PlaceUptime>),
        is_cut: bool,
    ) {
        let part = |count: u64| (count * permille + 500) / 1000;
        self.instances = self.instances.max(sums.instances);
        self.running_seconds += part(sums.running_seconds);
        self.unseen_seconds += part(sums.unseen_seconds);
        let of_day = days.entry(day).or_default();
        of_day.day = day.to_owned();
        of_day.running_seconds = part(sums.running_seconds);
        for (key, sums) in &sums.places {
            let place = Place::of_key(key);
            let of_place = places.entry(place.to_string()).or_default();
            of_place.place = place;
            of_place.running_seconds += part(sums.running_seconds);
            of_place.refusals += part(sums.refusals);
            let usage = sums.usage().part(permille);
            self.usage.add(usage);
            of_day.usage.add(usage);
            if is_cut {
                of_place.reclaims += part(sums.reclaims);
                of_day.reclaims += part(sums.reclaims);
                self.reclaims += part(sums.reclaims);
            }
        }
        if is_cut {
            for part in Part::ALL {
                let lost = sums.lost.of(part) / 1000 * i64::try_from(permille).unwrap_or(1000);
                self.lost.add(part, lost);
                of_day.lost_millis += lost;
            }
        }
    }

    fn add_spell(
        &mut self,
        spell: &Spell,
        (days, places): (&mut BTreeMap<&str, DayUptime>, &mut BTreeMap<String, PlaceUptime>),
        is_cut: bool,
    ) {
        let Self { from, to, known_to, .. } = *self;
        let is_within = |at: Timestamp| from < at && at <= to;
        if spell.end.is_some_and(SpellEnd::is_recovery) && spell.ended_at.is_some_and(is_within) {
            self.recoveries.push(spell.length(to));
        }
        let is_summed = is_cut && spell.ended_at.is_some();
        let mut of_place = places.get_mut(&spell.market);
        for (part, begin, end) in spell.stretches(known_to) {
            let (begin, end) = (begin.max(from), end.min(to));
            if let Some(it) = &mut of_place {
                it.lost_millis += millis(end.since(begin));
            }
            if !is_summed {
                self.lost.add(part, millis(end.since(begin)));
                for (day, length) in by_day(begin, end) {
                    if let Some(it) = days.get_mut(day.as_str()) {
                        it.lost_millis += length;
                    }
                }
            }
        }
        if is_within(spell.down_at) && !is_summed {
            self.reclaims += 1;
            let day = day_of(spell.down_at).0;
            days.get_mut(day.as_str()).into_iter().for_each(|it| it.reclaims += 1);
            of_place.into_iter().for_each(|it| it.reclaims += 1);
        }
    }

    /// The same of one life, whose spells and days these are. It begins no earlier than running time is counted by
    /// instance.
    #[must_use]
    pub fn of_one(remembered: Remembered<'_>, instance_days: &InstanceDays, from: Timestamp, to: Timestamp) -> Self {
        let begin = instance_days.keys().next().and_then(|first| {
            let began = remembered.days.get(first).and_then(|sums| sums.began_at);
            began.or_else(|| format!("{first}T00:00:00Z").parse().ok())
        });
        let all = remembered.days.get(ALL_TIME).map(|all| (ALL_TIME.to_owned(), all.clone()));
        let mut days: Days = all.into_iter().collect();
        for (day, InstanceDay { instances }) in instance_days {
            let mut sums = PlaceSums::default();
            instances.values().for_each(|usage| sums.add(*usage));
            let DaySums { looked_at, began_at, .. } = remembered.days.get(day).cloned().unwrap_or_default();
            let (instances, running_seconds) = (1, sums.running_seconds);
            let places = [(String::new(), sums)].into();
            let of_day = DaySums { looked_at, began_at, instances, running_seconds, places, ..DaySums::default() };
            days.insert(day.clone(), of_day);
        }
        let from = begin.map_or(to, |begin| from.max(begin).min(to));
        let uptime = Self::of(Remembered { days: &days, ..remembered }, from, to);
        Self { places: Vec::new(), ..uptime }
    }

    /// The smallest length that at least `percent` of the recoveries do not exceed, in milliseconds.
    #[must_use]
    pub fn recovery(&self, percent: usize) -> Option<i64> {
        percentile(&self.recoveries, percent)
    }
}

/// Until when open downtime counts in a span that ends at `to`: an hour after the last look at most.
fn known_to(days: &Days, to: Timestamp) -> Timestamp {
    let looked_at = days.get(ALL_TIME).and_then(|all| all.looked_at);
    looked_at.map_or(to, |at| to.min(at + LONGEST_SPAN))
}

/// What ran by instance in a span; of the days at its ends, their share.
#[must_use]
pub fn within(instance_days: &InstanceDays, days: &Days, from: Timestamp, to: Timestamp) -> InstanceDays {
    let part = |(day, InstanceDay { instances }): (&String, &InstanceDay)| {
        let permille = share(day, days.get(day).unwrap_or(&DaySums::default()), from, to);
        let instances = instances.iter().map(|(id, usage)| (id.clone(), usage.part(permille))).collect();
        (permille > 0).then(|| (day.clone(), InstanceDay { instances }))
    };
    instance_days.iter().filter_map(part).collect()
}

/// The ids of what is called that, or has that id, and of what took its place; empty if nothing is known of it.
#[must_use]
pub fn ids_of(remembered: Remembered<'_>, instance_days: &InstanceDays, wanted: &str) -> BTreeSet<InstanceId> {
    let ran = instance_days.values().flat_map(|day| day.instances.keys());
    let mut ids: BTreeSet<InstanceId> = ran.filter(|id| id.as_str() == wanted).cloned().collect();
    let spells = || remembered.ended.iter().chain(remembered.open.iter().map(|(_, spell)| spell));
    let is_called = |it: &&Spell| it.name == wanted || base_of(&it.name) == wanted;
    ids.extend(spells().filter(is_called).flat_map(|it| it.ids.iter().cloned()));
    ids.extend(spells().flat_map(|it| &it.ids).filter(|id| id.as_str() == wanted).cloned());
    loop {
        let known = ids.len();
        for spell in spells().filter(|it| it.ids.iter().any(|id| ids.contains(id))).collect::<Vec<_>>() {
            ids.extend(spell.ids.iter().cloned());
        }
        if ids.len() == known {
            return ids;
        }
    }
}

/// One life: an instance and what took its place, with what it was down for in a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane<'a> {
    /// The name before it was recreated, and its last id.
    pub name: &'a str,
    pub id: &'a InstanceId,
    /// Oldest first.
    pub spells: Vec<&'a Spell>,
    pub lost_millis: i64,
}

/// The lives that were down in a span, the worst first.
#[must_use]
pub fn lanes<'a>(remembered: Remembered<'a>, from: Timestamp, to: Timestamp) -> Vec<Lane<'a>> {
    let to = known_to(remembered.days, to);
    let all = remembered.ended.iter().chain(remembered.open.iter().map(|(_, spell)| spell));
    let mut spells: Vec<&Spell> = all.filter(|it| it.end != Some(SpellEnd::Ahead) && it.down_at < to).collect();
    spells.sort_by_key(|spell| spell.down_at);
    let mut lanes: Vec<Lane<'a>> = Vec::new();
    let mut lane_of: HashMap<&InstanceId, usize> = HashMap::new();
    for spell in spells {
        let Some(last) = spell.ids.last() else { continue };
        let known = spell.ids.iter().find_map(|id| lane_of.get(id)).copied();
        let at = known.unwrap_or_else(|| {
            lanes.push(Lane { name: base_of(&spell.name), id: last, spells: Vec::new(), lost_millis: 0 });
            lanes.len() - 1
        });
        lane_of.extend(spell.ids.iter().map(|id| (id, at)));
        let lost = spell.ended_at.unwrap_or(to).min(to).since(spell.down_at.max(from));
        if !lost.is_zero() {
            lanes[at].lost_millis += millis(lost);
            lanes[at].id = last;
            lanes[at].spells.push(spell);
        }
    }
    lanes.retain(|lane| !lane.spells.is_empty());
    lanes.sort_by(|a, b| b.lost_millis.cmp(&a.lost_millis).then_with(|| a.name.cmp(b.name)));
    lanes
}

/// How many instances went down in each place in each hour of the day (UTC), the place with the most first.
#[must_use]
pub fn reclaims_by_hour(lanes: &[Lane<'_>], from: Timestamp) -> Vec<(String, [u32; 24])> {
    let mut hours: BTreeMap<&str, [u32; 24]> = BTreeMap::new();
    for spell in lanes.iter().flat_map(|lane| &lane.spells).filter(|spell| spell.down_at >= from) {
        let hour = spell.down_at.as_millis().div_euclid(3_600_000).rem_euclid(24);
        let hour = usize::try_from(hour).unwrap_or(0);
        hours.entry(&spell.market).or_default()[hour] += 1;
    }
    let mut hours: Vec<_> = hours.into_iter().map(|(place, counts)| (place.to_owned(), counts)).collect();
    hours.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().sum::<u32>()));
    hours
}
