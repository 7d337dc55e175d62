//! The downtime of one logical instance: since when it is down, why, and where the time went.
//!
//! A *spell* lasts from the stop of an instance that is to run until it, or what took its place, is seen running. Its
//! time is a line of parts without gaps, so that the parts add up to the spell. The last part is provisional while
//! something comes up: if that comes to nothing, it counts as failed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::usage::MeteredUsage;
use crate::core::world::instance::{Instance, InstanceId};
use crate::core::world::money::Usd;
use crate::core::world::time::{Timestamp, any_time_if_any, millis};

/// Parts of a spell are merged beyond this number, so that a long one stays small.
const PARTS_KEPT: usize = 16;

/// A day in milliseconds.
pub const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// Where the time of a spell goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Part {
    /// From its stop to the first look that saw it down.
    #[default]
    Noticing,
    /// A rule kept the pass from acting.
    HeldBack,
    /// There was nowhere to go.
    NoRoom,
    /// A call failed for another reason, or was accepted and came to nothing.
    Failed,
    /// From the accepted call to the instance that runs.
    ComingUp,
}

impl Part {
    pub const ALL: [Self; 5] = [Self::Noticing, Self::HeldBack, Self::NoRoom, Self::Failed, Self::ComingUp];

    /// `no room` and so on.
    #[must_use]
    pub fn in_words(self) -> String {
        self.into_str().replace('_', " ")
    }
}

/// Where the begin of a spell is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DownFrom {
    /// The provider's stop time.
    Stop,
    /// The time for which the reclaim was announced.
    Reclaim,
    /// The first look that saw it down: how long it took to notice is not known.
    #[default]
    FirstLook,
}

/// How a spell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpellEnd {
    /// The same instance runs again.
    InPlace,
    /// Its replacement runs.
    Elsewhere,
    /// An on-demand instance runs in its place.
    Bridged,
    /// Its replacement ran before it went down: a spell without length.
    Ahead,
    /// It is gone without a successor, or not to run any more.
    GivenUp,
}

impl SpellEnd {
    /// Whether something that was down runs again.
    #[must_use]
    pub fn is_recovery(self) -> bool {
        matches!(self, Self::InPlace | Self::Elsewhere | Self::Bridged)
    }
}

/// The rule that holds an instance back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeldBy {
    /// The machine name of the verdict's reason.
    pub reason: String,
    pub since: Timestamp,
    /// When time alone may change that.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "any_time_if_any")]
    pub until: Option<Timestamp>,
}

/// One spell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spell {
    /// The instance that went down, then its replacements.
    pub ids: Vec<InstanceId>,
    pub name: String,
    /// Where it was when it went down, in words; empty if that is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub market: String,
    pub down_at: Timestamp,
    pub down_from: DownFrom,
    /// The first look that saw it down.
    pub seen_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_tried_at: Option<Timestamp>,
    /// The accepted call whose end is awaited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// Calls refused for lack of room.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused_calls: u32,
    /// Attempts that came to nothing, for whatever reason. What came to nothing more often is tried later.
    #[serde(skip_serializing_if = "is_zero")]
    pub rejected_calls: u32,
    /// Migrate calls without an effect.
    #[serde(skip_serializing_if = "is_zero")]
    pub fruitless_calls: u32,
    /// Where its time goes at present.
    pub part: Part,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
    /// What is behind it, oldest first, in milliseconds.
    pub parts: Vec<(Part, i64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<SpellEnd>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Spell {
    /// One that this look found.
    #[must_use]
    pub fn begun(instance: &Instance, down_at: Timestamp, down_from: DownFrom, seen_at: Timestamp) -> Self {
        let (ids, name) = (vec![instance.id.clone()], instance.name.to_string());
        let market = instance.place.as_ref().map_or_else(String::new, ToString::to_string);
        let mut spell = Self { ids, name, market, down_at, down_from, seen_at, ..Self::default() };
        spell.pass_to(seen_at);
        spell
    }

    /// Up to when its time is accounted for.
    #[must_use]
    pub fn known_to(&self) -> Timestamp {
        let past: i64 = self.parts.iter().map(|(_, millis)| millis).sum();
        Timestamp::from_millis(self.down_at.as_millis().saturating_add(past))
    }

    /// Its length; that of an open one by now.
    #[must_use]
    pub fn length(&self, now: Timestamp) -> i64 {
        millis(self.ended_at.unwrap_or(now).since(self.down_at))
    }

    /// The time up to `now` goes to the present part.
    pub fn pass_to(&mut self, now: Timestamp) {
        let gone = now.as_millis() - self.known_to().as_millis();
        if gone > 0 {
            self.parts.push((self.part, gone));
            self.merge();
        }
    }

    /// From now on its time goes to `part`. Ends the wait for an accepted call, which then came to nothing.
    pub fn turn_to(&mut self, part: Part, held_by: Option<HeldBy>) {
        if self.part == Part::ComingUp && part != Part::ComingUp {
            if let Some((last @ Part::ComingUp, _)) = self.parts.last_mut() {
                *last = Part::Failed;
            }
            self.merge();
            self.accepted_at = None;
        }
        (self.part, self.held_by) = (part, held_by);
    }

    /// Neighbors of one kind become one part. Of too many parts, the older half is kept as sums.
    fn merge(&mut self) {
        join(&mut self.parts);
        if self.parts.len() > PARTS_KEPT {
            self.parts[..PARTS_KEPT / 2].sort_by_key(|(part, _)| *part);
            join(&mut self.parts);
        }
    }

    /// The same spell, ended.
    #[must_use]
    pub fn ended(mut self, at: Timestamp, end: SpellEnd) -> Self {
        self.pass_to(at);
        (self.accepted_at, self.held_by) = (None, None);
        (self.ended_at, self.end) = (Some(self.known_to()), Some(end));
        self
    }

    /// What is behind it and keeps its part: all but the wait for an accepted call.
    pub fn settled(&self) -> impl Iterator<Item = (Part, i64)> {
        let awaits = self.part == Part::ComingUp && matches!(self.parts.last(), Some((Part::ComingUp, _)));
        self.parts[..self.parts.len() - usize::from(awaits)].iter().copied()
    }

    /// Its stretches of time with their parts, oldest first; an open one lasts until now.
    pub fn stretches(&self, now: Timestamp) -> impl Iterator<Item = (Part, Timestamp, Timestamp)> {
        let open = now.as_millis() - self.known_to().as_millis();
        let open = (self.ended_at.is_none() && open > 0).then_some((self.part, open));
        let mut from = self.down_at;
        self.parts.iter().copied().chain(open).map(move |(part, length)| {
            let to = Timestamp::from_millis(from.as_millis().saturating_add(length));
            (part, std::mem::replace(&mut from, to), to)
        })
    }
}

fn join(parts: &mut Vec<(Part, i64)>) {
    parts.dedup_by(|next, part| {
        let is_same = next.0 == part.0;
        part.1 += if is_same { next.1 } else { 0 };
        is_same
    });
}

/// Lost time by its part, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Lost {
    pub noticing: i64,
    pub held_back: i64,
    pub no_room: i64,
    pub failed: i64,
    pub coming_up: i64,
}

impl Lost {
    fn sum(&mut self, part: Part) -> &mut i64 {
        match part {
            Part::Noticing => &mut self.noticing,
            Part::HeldBack => &mut self.held_back,
            Part::NoRoom => &mut self.no_room,
            Part::Failed => &mut self.failed,
            Part::ComingUp => &mut self.coming_up,
        }
    }

    pub fn add(&mut self, part: Part, millis: i64) {
        let sum = self.sum(part);
        *sum = sum.saturating_add(millis);
    }

    #[must_use]
    pub fn of(mut self, part: Part) -> i64 {
        *self.sum(part)
    }

    #[must_use]
    pub fn total(self) -> i64 {
        Part::ALL.iter().map(|part| self.of(*part)).sum()
    }
}

/// The buckets of the histogram of recoveries: the most that they took, in seconds.
pub const BUCKETS: [u64; 11] = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400];

/// What is counted of one day in UTC, and of all time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DaySums {
    /// The last look at the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// The first look of the day, or of all time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// How long managed instances were running, in total, in seconds.
    pub running_seconds: u64,
    /// The time of spells that ended.
    pub lost: Lost,
    /// Spells that ended with a running instance.
    pub recovered: u64,
    /// How long those took, in milliseconds.
    pub recovered_millis: i64,
    /// How many took at most [`BUCKETS`].
    pub recovered_within: [u64; BUCKETS.len()],
    /// Reclaims that were announced while the instance was running.
    pub announced: u64,
    /// Of those, the ones that came true.
    pub taken: u64,
    /// Of those, the ones that were withdrawn.
    pub withdrawn: u64,
    /// What on-demand instances that stood in have cost up to the last look.
    pub bridged: Usd,
    /// The most instances that one look found which are to run.
    #[serde(skip_serializing_if = "is_zero")]
    pub instances: u32,
    /// Instance-time of which neither the looks nor the provider say whether it was up, in seconds.
    #[serde(skip_serializing_if = "is_none_counted")]
    pub unseen_seconds: u64,
    /// By the [`Place::key`](crate::core::world::instance::Place::key); empty in those of all time.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, PlaceSums>,
}

/// What is counted of one place in one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PlaceSums {
    pub running_seconds: u64,
    /// Instances that went down there; those that were replaced before are not among them.
    pub reclaims: u64,
    /// Calls that were refused for lack of room.
    pub refusals: u64,
    /// Of the running time, what was billed at a known price, in seconds.
    pub priced_seconds: u64,
    /// What that cost, and what it would have cost on demand, by the last known prices.
    pub cost: Usd,
    pub on_demand_cost: Usd,
}

impl PlaceSums {
    pub fn add(&mut self, usage: MeteredUsage) {
        let mut sum = self.usage();
        sum.add(usage);
        (self.running_seconds, self.priced_seconds, self.cost, self.on_demand_cost) = sum.into();
    }

    #[must_use]
    pub fn usage(&self) -> MeteredUsage {
        MeteredUsage::from((self.running_seconds, self.priced_seconds, self.cost, self.on_demand_cost))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none_counted(count: &u64) -> bool {
    *count == 0
}

/// The sums by their day (`2026-01-15`), and those of all time under [`ALL_TIME`].
pub type Days = BTreeMap<String, DaySums>;

/// Sorts behind every day.
pub const ALL_TIME: &str = "total";

/// The day in UTC, and its begin.
#[must_use]
pub fn day_of(moment: Timestamp) -> (String, Timestamp) {
    let begin = Timestamp::from_millis(moment.as_millis().div_euclid(DAY_MILLIS) * DAY_MILLIS);
    (moment.to_string().chars().take("2026-01-15".len()).collect(), begin)
}

/// A stretch of time, cut at midnight.
pub fn by_day(from: Timestamp, to: Timestamp) -> impl Iterator<Item = (String, i64)> {
    let mut from = from;
    std::iter::from_fn(move || {
        let (day, begin) = day_of(from);
        let until = Timestamp::from_millis(begin.as_millis().saturating_add(DAY_MILLIS)).min(to);
        let length = until.as_millis() - from.as_millis();
        from = until;
        (length > 0).then_some((day, length))
    })
}
