//! The downtime ledger: what a look shows, and what a pass tried, turned into changes of spells.
//!
//! 1. A spell starts for an instance that is to run (the pass manages it, no rollout moves it), is `exited` or
//!    `migrating`, and was announced as reclaimed or is acted on by the policy. What a person stopped, as far as is
//!    known, has none.
//! 2. It starts at the provider's stop time, else at the reclaim time if that is past, but not before the last look:
//!    that one saw nothing wrong, or the instance was not to run then.
//! 3. It ends when the instance or its replacement is seen running, at the provider's start time if that lies after the
//!    last look.
//! 4. In between, each look says where the time up to the next one goes, and each attempt corrects that.
//! 5. A pass whose selection leaves an instance out says nothing about its spell. After `FORGOTTEN` without a word the
//!    spell is given up.

mod figures;
mod look;
mod told;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

pub use self::figures::{
    DownInstance, LostHours, RecoveryFigures, Storm, hours, hours_of, percentile, recovery, share, storm,
};
use self::look::{Fate, LookView, Standstill};
pub use self::told::add_spells;
use crate::core::pass::bridge::{self, Bridges};
use crate::core::pass::ledger::{Call, Ledger};
use crate::core::pass::market::Markets;
use crate::core::pass::plan::Plan;
use crate::core::pass::settle::CallEnd;
use crate::core::pass::spell::{
    ALL_TIME, BUCKETS, DaySums, Days, DownFrom, HeldBy, Part, PlaceSums, Spell, SpellEnd, by_day, day_of,
};
use crate::core::pass::usage::{InstanceDay, InstanceDays, MeteredUsage};
use crate::core::pass::verdict::{Decision, Skip};
use crate::core::record::execution::{Action, Attempt, Outcome};
use crate::core::record::trail::{ProviderWrite, WriteCall, WriteOutcome};
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::recreation::marker::is_bridge;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Billing, Instance, InstanceId, Place, Status};
use crate::core::world::snapshot::{Snapshot, find};
use crate::core::world::time::Timestamp;

/// The windows that figures are made for: a day, a week, a month.
pub const WINDOWS: [Duration; 3] =
    [Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600), Duration::from_secs(30 * 24 * 3600)];

/// How many ended spells are kept.
pub const SPELLS_KEPT: usize = 2000;

/// How many days have sums of their own.
pub const DAYS_KEPT: usize = 400;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A spell that no look confirmed for this long is given up: longer than the longest interval between passes.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// An instance without a start time counts as running for at most this long before a look.
pub const LONGEST_SPAN: Duration = Duration::from_secs(3600);

/// A change to what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DowntimeChange {
    /// The open spell of an instance; or it has none.
    Open(InstanceId, Option<Spell>),
    Ended(Spell),
    Day(String, DaySums),
    /// What ran that day, by instance.
    Instances(String, InstanceDay),
}

/// The downtime ledger while a pass works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downtime {
    open: HashMap<InstanceId, Spell>,
    days: Days,
    instance_days: InstanceDays,
    changed_instance_days: BTreeSet<String>,
    /// How many attempts of the pass it knows.
    noted: usize,
    /// What ended in this pass, and whether that is stored.
    ended: Vec<(Spell, bool)>,
    /// Instances whose replacement took over in an earlier pass.
    replaced: BTreeSet<InstanceId>,
    /// The refusals of each market, as far as they are counted.
    refusals: HashMap<Place, u64>,
    changed: BTreeSet<InstanceId>,
    changed_days: BTreeSet<String>,
}

impl Downtime {
    /// As earlier passes left it.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let refusals = ledger.markets.iter().map(|(place, market)| (place.clone(), market.refused)).collect();
        let took_over = |it: &Recreation| matches!(it.step, Step::Running { .. } | Step::Deleted { .. });
        let replaced = ledger.recreations.iter().filter(|(_, it)| took_over(it)).map(|(id, _)| id.clone()).collect();
        let (open, days, instance_days) = (ledger.spells.clone(), ledger.days.clone(), ledger.instance_days.clone());
        Self { open, days, instance_days, refusals, replaced, ..Self::default() }
    }

    /// Takes what a look shows.
    pub fn look(&mut self, (snapshot, ledger): (&Snapshot, &Ledger), plan: &Plan) {
        let now = snapshot.taken_at;
        let last_look = self.days.get(ALL_TIME).and_then(|all| all.looked_at).map(|at| at.min(now));
        let view = LookView::new(snapshot, ledger, plan);
        self.count_notices(&view, plan);
        let gap = last_look.map_or(Duration::ZERO, |last| now.since(last));
        let (mut unseen, mut instances) = (Duration::ZERO, 0);
        self.close_days(last_look, now);
        for (instance, decision) in plan.rows(&snapshot.instances.items).filter(|(_, decision)| is_to_run(decision)) {
            let old = view.replaces.get(&instance.id);
            instances += u32::from(old.is_none());
            if instance.status == Status::Running {
                // Of two that run side by side, one counts.
                if !old.is_some_and(|old| view.runs(old)) {
                    let (up, unknown) = watched(instance, gap, now);
                    unseen += unknown;
                    self.count_running(instance, (up, now), ledger, now);
                }
            } else if old.is_none() && view.is_lost(instance, decision) && !self.open.contains_key(&instance.id) {
                let (at, from) = went_down(instance, last_look, now);
                let before = last_look.map_or(Duration::ZERO, |last| at.since(last));
                if from == DownFrom::FirstLook {
                    unseen += before;
                } else {
                    self.count_running(instance, (before, at), ledger, now);
                }
                self.begin(instance, at, from, now, ledger);
            }
        }
        let mut ids: Vec<InstanceId> = self.open.keys().cloned().collect();
        ids.sort();
        for id in ids {
            let Some(spell) = self.open.remove(&id) else { continue };
            let up = self.follow(id.clone(), spell, &view);
            if let Some(instance) = find(&snapshot.instances.items, &id) {
                let until = instance.stopped_at.map_or(now, Timestamp::from);
                self.count_running(instance, (up, until), ledger, now);
            }
        }
        for settlement in plan.settlements.iter().filter(|it| it.end == CallEnd::NoEffect) {
            if let Some(spell) = self.open.get_mut(&settlement.instance) {
                let accepted = settlement.call.call == Call::Accepted;
                spell.rejected_calls = spell.rejected_calls.saturating_add(accepted.into());
                spell.fruitless_calls = spell.fruitless_calls.saturating_add(1);
            }
        }
        // Between two looks the day is known from its midnight on.
        let began_at = if last_look.is_some() { day_of(now).1 } else { now };
        let bridged = bridge::since(last_look, &ledger.bridges, now);
        self.count(now, |sums| {
            sums.bridged = [sums.bridged, bridged].into_iter().sum();
            (sums.looked_at, sums.began_at) = (Some(now), sums.began_at.or(Some(began_at)));
            sums.unseen_seconds += unseen.as_secs();
            sums.instances = sums.instances.max(instances);
        });
    }

    /// Counts for its place and for itself how long an instance ran, until when, and what that cost.
    fn count_running(
        &mut self,
        instance: &Instance,
        (up, until): (Duration, Timestamp),
        ledger: &Ledger,
        now: Timestamp,
    ) {
        if up.is_zero() {
            return;
        }
        let market = instance.place.as_ref().and_then(|place| ledger.markets.get(place)).copied().unwrap_or_default();
        let gpus = instance.gpus.into();
        let mut usage = MeteredUsage { running_seconds: up.as_secs(), ..MeteredUsage::default() };
        if let Some((spot, on_demand)) = market.price.zip(market.on_demand_price) {
            let price = if instance.billing == Billing::OnDemand { on_demand } else { spot };
            usage.priced_seconds = up.as_secs();
            (usage.cost, usage.on_demand_cost) = (price.times(gpus).during(up), on_demand.times(gpus).during(up));
        }
        let earliest = instance_days_at_hand(now).next();
        for (day, length) in by_day(until - up, until) {
            let part = usage.during(u64::try_from(length / 1000).unwrap_or(0));
            let sums = self.sums(&day);
            sums.running_seconds += part.running_seconds;
            if let Some(place) = &instance.place {
                sums.places.entry(place.key()).or_default().add(part);
            }
            if earliest.as_ref().is_some_and(|earliest| day >= *earliest) {
                self.instance_days.entry(day.clone()).or_default().add(&instance.id, part);
                self.changed_instance_days.insert(day);
            }
        }
        self.sums(ALL_TIME).running_seconds += up.as_secs();
    }

    /// The days between two looks are known up to their end.
    fn close_days(&mut self, last_look: Option<Timestamp>, now: Timestamp) {
        let Some(last_look) = last_look else { return };
        let (mut end, today) = (day_of(last_look).1 + DAY, day_of(now).1);
        while end <= today {
            let day = day_of(end - DAY).0;
            self.sums(&day).looked_at = Some(end);
            end = end + DAY;
        }
    }

    fn begin(&mut self, instance: &Instance, at: Timestamp, from: DownFrom, now: Timestamp, ledger: &Ledger) {
        if ledger.observations.contains_key(&instance.id) {
            self.count(now, |sums| sums.taken += 1);
        }
        self.count_reclaim(instance, at);
        self.open.insert(instance.id.clone(), Spell::begun(instance, at, from, now));
    }

    /// Goes on with a spell. Returns how long its instance was up without being seen.
    fn follow(&mut self, id: InstanceId, mut spell: Spell, view: &LookView<'_>) -> Duration {
        let now = view.snapshot.taken_at;
        self.changed.insert(id.clone());
        let mut up = Duration::ZERO;
        match view.fate(&id, &spell) {
            Fate::Up(at, end) => self.end(spell.ended(at, end)),
            Fate::Gone => self.end(spell.ended(now, SpellEnd::GivenUp)),
            Fate::Unseen if now.since(spell.known_to()) > FORGOTTEN => {
                let at = spell.known_to();
                self.end(spell.ended(at, SpellEnd::GivenUp));
            }
            Fate::Unseen => {
                self.open.insert(id, spell);
            }
            Fate::Inherited(heir) => {
                spell.pass_to(now);
                spell.turn_to(Part::Failed, None);
                spell.ids.push(heir.clone());
                self.changed.insert(heir.clone());
                self.open.insert(heir, spell);
            }
            Fate::Down(standstill) => {
                // It was up between two looks, and is down again.
                let instance = find(&view.snapshot.instances.items, &id);
                let times = instance.and_then(|it| Some((it, it.started_at?.into(), it.stopped_at?.into())));
                if let Some((instance, started, stopped)) = times
                    && spell.known_to() < started
                    && started <= stopped
                    && stopped <= now
                {
                    self.end(spell.ended(started, SpellEnd::InPlace));
                    up = stopped.since(started);
                    self.count_reclaim(instance, stopped);
                    spell = Spell::begun(instance, stopped, DownFrom::Stop, now);
                }
                spell.pass_to(now);
                turn(&mut spell, standstill);
                self.open.insert(id, spell);
            }
        }
        up
    }

    /// Takes what the pass tried so far, in the order of the attempts.
    pub fn note(&mut self, attempts: &[Attempt]) {
        let new = attempts.get(self.noted..).unwrap_or_default();
        self.noted = attempts.len();
        for Attempt { instance_id: id, at, outcome, error_kind, new_instance_id: new, response_time, .. } in new {
            let Some(spell) = self.open.get_mut(id) else { continue };
            self.changed.insert(id.clone());
            if let Some(new) = new.as_ref().filter(|new| !spell.ids.contains(new)) {
                spell.ids.push(new.clone());
            }
            let came_to_nothing = match outcome {
                Outcome::Unknown | Outcome::NoRoom | Outcome::Failed => true,
                // It was asked for, and not found.
                Outcome::Skipped => response_time.is_some(),
                Outcome::Accepted | Outcome::Done => false,
            };
            spell.rejected_calls = spell.rejected_calls.saturating_add(came_to_nothing.into());
            let part = match outcome {
                // That it runs is seen by the next look, or was seen by the last one.
                Outcome::Accepted | Outcome::Unknown | Outcome::Done => Part::ComingUp,
                Outcome::NoRoom => Part::NoRoom,
                Outcome::Failed if *error_kind == Some(ErrorKind::Capacity) => Part::NoRoom,
                Outcome::Failed => Part::Failed,
                Outcome::Skipped => continue,
            };
            spell.pass_to(*at);
            spell.first_tried_at.get_or_insert(*at);
            spell.turn_to(part, None);
            if part == Part::ComingUp {
                spell.accepted_at.get_or_insert(*at);
            }
        }
    }

    fn count_reclaim(&mut self, instance: &Instance, at: Timestamp) {
        if let Some(place) = &instance.place {
            self.count_at(place, at, |sums| sums.reclaims += 1);
        }
    }

    /// Takes the whole pass at its end: replacements that it saw running, and calls that were refused for lack of room.
    pub fn close(
        &mut self,
        attempts: &[Attempt],
        writes: &[ProviderWrite],
        (bridges, markets): (&Bridges, &Markets),
        now: Timestamp,
    ) {
        self.note(attempts);
        for (place, market) in markets {
            let counted = self.refusals.insert(place.clone(), market.refused).unwrap_or(0);
            if market.refused > counted {
                self.count_at(place, now, |sums| sums.refusals += market.refused - counted);
            }
        }
        let is_recreation = |it: &&Attempt| it.action != Action::Migrate && it.outcome == Outcome::Done;
        for Attempt { instance_id: id, instance_name, new_instance_id, .. } in attempts.iter().filter(is_recreation) {
            let Some(new) = new_instance_id else { continue };
            if let Some(spell) = self.open.remove(id) {
                self.changed.insert(id.clone());
                let is_bridged = bridges.get(id).is_some_and(|bridge| bridge.closed_at.is_none());
                self.end(spell.ended(now, if is_bridged { SpellEnd::Bridged } else { SpellEnd::Elsewhere }));
            } else if !is_bridge(instance_name)
                && !self.replaced.contains(id)
                && !self.ended.iter().any(|(spell, _)| spell.ids.contains(id))
            {
                // It never went down.
                let (ids, name) = (vec![id.clone(), new.clone()], instance_name.clone());
                let spell = Spell { ids, name, down_at: now, seen_at: now, ..Spell::default() };
                self.end(spell.ended(now, SpellEnd::Ahead));
            }
        }
        let refusals = writes.iter().filter(|it| it.outcome == WriteOutcome::Refused);
        let is_skipped = |id: &InstanceId| {
            let of = |it: &&Attempt| it.instance_id == *id && it.action == Action::Migrate;
            attempts.iter().rfind(of).is_some_and(|it| it.outcome == Outcome::Skipped)
        };
        for ProviderWrite { instance_id: id, error_kind, call, .. } in refusals {
            let spell = if let Some(spell) = self.open.get_mut(id) {
                self.changed.insert(id.clone());
                spell
            } else if let Some((spell, is_stored)) = self.ended.iter_mut().rfind(|(it, _)| it.ids.contains(id)) {
                *is_stored = false;
                spell
            } else {
                continue;
            };
            if *error_kind == Some(ErrorKind::Capacity) {
                spell.refused_calls = spell.refused_calls.saturating_add(1);
            }
            // Not found, although it is listed.
            if *call == WriteCall::Migrate && *error_kind == Some(ErrorKind::State) && is_skipped(id) {
                spell.fruitless_calls = spell.fruitless_calls.saturating_add(1);
            }
        }
    }

    /// What is to be stored since the last time.
    pub fn changes(&mut self) -> Vec<DowntimeChange> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let mut changes: Vec<DowntimeChange> = changed
            .map(|id| {
                let spell = self.open.get(&id).cloned();
                DowntimeChange::Open(id, spell)
            })
            .collect();
        for (spell, is_stored) in self.ended.iter_mut().filter(|(_, is_stored)| !is_stored) {
            *is_stored = true;
            changes.push(DowntimeChange::Ended(spell.clone()));
        }
        for day in std::mem::take(&mut self.changed_days) {
            let sums = self.days.get(&day).cloned().unwrap_or_default();
            changes.push(DowntimeChange::Day(day, sums));
        }
        for day in std::mem::take(&mut self.changed_instance_days) {
            let of_day = self.instance_days.get(&day).cloned().unwrap_or_default();
            changes.push(DowntimeChange::Instances(day, of_day));
        }
        changes
    }

    fn end(&mut self, spell: Spell) {
        let at = spell.ended_at.unwrap_or(spell.seen_at);
        for (part, from, to) in spell.stretches(at) {
            for (day, length) in by_day(from, to) {
                self.sums(&day).lost.add(part, length);
                self.sums(ALL_TIME).lost.add(part, length);
            }
        }
        if spell.end.is_some_and(SpellEnd::is_recovery) {
            let length = spell.length(at);
            self.count(at, |sums| {
                sums.recovered += 1;
                sums.recovered_millis += length;
                for (within, bucket) in sums.recovered_within.iter_mut().zip(BUCKETS) {
                    *within += u64::from(u64::try_from(length).unwrap_or(0) <= bucket * 1000);
                }
            });
        }
        self.ended.push((spell, false));
    }

    fn count_notices(&mut self, view: &LookView<'_>, plan: &Plan) {
        let now = view.snapshot.taken_at;
        for (id, seen) in &plan.observations {
            let is_known = view.ledger.observations.contains_key(id);
            let runs = view.runs(id);
            match seen {
                Some(_) if runs && !is_known => self.count(now, |sums| sums.announced += 1),
                // Forgotten since it runs again after the reclaim: that one came true.
                None if runs && is_known && !self.open.contains_key(id) => self.count(now, |sums| sums.withdrawn += 1),
                Some(_) | None => {}
            }
        }
    }

    fn count(&mut self, at: Timestamp, change: impl Fn(&mut DaySums)) {
        change(self.sums(&day_of(at).0));
        change(self.sums(ALL_TIME));
    }

    fn count_at(&mut self, place: &Place, at: Timestamp, change: impl Fn(&mut PlaceSums)) {
        change(self.sums(&day_of(at).0).places.entry(place.key()).or_default());
    }

    fn sums(&mut self, day: &str) -> &mut DaySums {
        self.changed_days.insert(day.to_owned());
        self.days.entry(day.to_owned()).or_default()
    }
}

/// The days of which a pass has what ran by instance: three, and the one of `now`. What ran before is not counted by
/// instance, after a longer time without a pass.
pub fn instance_days_at_hand(now: Timestamp) -> impl Iterator<Item = String> {
    (0..=3).rev().map(move |days| day_of(now - DAY * days).0)
}

/// Whether the pass manages the instance, and no rollout moves it.
fn is_to_run(decision: &Decision) -> bool {
    decision.is_on_managed() && !matches!(decision, Decision::Skip(Skip::Moving { .. }))
}

/// How long a running instance ran in the `gap` since the last look, and for how long nothing tells.
fn watched(instance: &Instance, gap: Duration, now: Timestamp) -> (Duration, Duration) {
    match instance.started_at {
        Some(at) => (gap.min(now.since(at.into())), Duration::ZERO),
        None => (gap.min(LONGEST_SPAN), gap.saturating_sub(LONGEST_SPAN)),
    }
}

/// Since when an instance is down that is seen down for the first time.
fn went_down(instance: &Instance, last_look: Option<Timestamp>, now: Timestamp) -> (Timestamp, DownFrom) {
    let started = instance.started_at.map(Timestamp::from);
    let is_possible = |at: &Timestamp| *at <= now && started.is_none_or(|started| started <= *at);
    let stopped = instance.stopped_at.map(Timestamp::from).filter(is_possible).map(|at| (at, DownFrom::Stop));
    let reclaimed = instance.reclaim.as_ref().map(|it| it.reclaim_at).filter(is_possible);
    let known = stopped.or(reclaimed.map(|at| (at, DownFrom::Reclaim)));
    match (known, last_look) {
        (Some((at, from)), Some(last)) if at >= last => (at, from),
        (Some(_), Some(last)) => (last, DownFrom::FirstLook),
        (_, _) => (now, DownFrom::FirstLook),
    }
}

fn turn(spell: &mut Spell, standstill: Standstill) {
    let now = spell.known_to();
    match standstill {
        Standstill::UnderWay => {
            spell.accepted_at.get_or_insert(now);
            spell.turn_to(Part::ComingUp, None);
        }
        Standstill::NoRoom(held) => spell.turn_to(Part::NoRoom, Some(held)),
        Standstill::HeldBack(held) => {
            let known = spell.held_by.take().filter(|known| known.reason == held.reason);
            let since = known.map_or(held.since, |known| known.since);
            spell.turn_to(Part::HeldBack, Some(HeldBy { since, ..held }));
        }
        Standstill::Due => match spell.part {
            Part::ComingUp => spell.turn_to(Part::Failed, None),
            Part::NoRoom | Part::Failed => {}
            Part::Noticing | Part::HeldBack => {
                let held = HeldBy { reason: "not_started".into(), since: now, until: None };
                spell.turn_to(Part::HeldBack, Some(held));
            }
        },
        Standstill::Same if spell.part == Part::Noticing => spell.turn_to(Part::HeldBack, None),
        Standstill::Same => {}
    }
}

#[cfg(test)]
mod tests;
