//! Room for spot instances: how many of a product fit into a cluster, and what becomes of those that no longer do.
//!
//! A market whose room nobody has set follows the stock of its product. One whose room is set is a spot market as traces
//! of capacity describe it: creations, migrations and starts are refused while nothing fits, and when the room falls
//! below what lives there, instances are taken until the rest fits; how, [`Notice`] says.

use std::collections::VecDeque;

use crate::machine::Machine;
use crate::settings::{Hint, Notice};
use crate::time::Event;
use crate::world::World;

/// How many spot instances of a product fit into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Any number.
    Any,
    /// At most so many at once, whatever their size.
    For(u32),
}

impl Room {
    /// Nobody fits.
    pub const NONE: Self = Self::For(0);

    /// How many fit.
    fn limit(self) -> usize {
        match self {
            Self::Any => usize::MAX,
            Self::For(count) => usize::try_from(count).unwrap_or(usize::MAX),
        }
    }
}

/// A product in a cluster whose room is set.
#[derive(Clone, Debug)]
pub(crate) struct Market {
    product: String,
    cluster: String,
    /// What the room was and is, by when it became so; the last one is now.
    past: Vec<(i64, Room)>,
    /// What it is going to be, soonest first.
    coming: VecDeque<(i64, Room)>,
}

impl Market {
    fn room(&self) -> Room {
        self.past.last().map_or(Room::Any, |(_, room)| *room)
    }

    /// The room at an earlier time.
    fn room_at(&self, at: i64) -> Room {
        let earlier = self.past.iter().rev().find(|(since, _)| *since <= at);
        earlier.or(self.past.first()).map_or(Room::Any, |(_, room)| *room)
    }

    fn has(&self, machine: &Machine) -> bool {
        machine.product_id == self.product && machine.cluster_id == self.cluster && machine.billing_mode == "spot"
    }

    pub(crate) fn shift(&mut self, by: i64) {
        self.past.iter_mut().chain(&mut self.coming).for_each(|(at, _)| *at += by);
    }
}

impl World {
    /// Sets the room of a market now. Who does not fit any more is taken, or told.
    pub fn set_room(&mut self, product: &str, cluster: &str, room: Room) {
        let number = self.market_numbered(product, cluster);
        self.room_becomes(number, room);
    }

    /// The same later on. Times must not go back from one call to the next for a market. With [`Notice::Ahead`], which
    /// must be set before, instances are told beforehand.
    pub fn set_room_at(&mut self, at_ms: i64, product: &str, cluster: &str, room: Room) {
        let market = self.market_numbered(product, cluster);
        if let Some(known) = self.markets.get_mut(market) {
            assert!(known.coming.back().is_none_or(|(at, _)| *at <= at_ms), "the room changes in order");
            known.coming.push_back((at_ms, room));
        }
        if self.rules.notice == Notice::Ahead {
            let told_at = self.now.max(at_ms - self.rules.notice_ms);
            self.schedule(told_at, Event::Foretell { market });
        }
        self.schedule(at_ms, Event::Room { market });
    }

    /// The room of a market; `None` where it follows the stock of the product.
    #[must_use]
    pub fn room(&self, product: &str, cluster: &str) -> Option<Room> {
        self.market(product, cluster).map(Market::room)
    }

    /// The instances that occupy the room of a market: those that run and those on their way there.
    pub fn living_in<'a>(&'a self, product: &'a str, cluster: &'a str) -> impl Iterator<Item = &'a Machine> {
        self.machines().filter(move |machine| {
            machine.product_id == product
                && machine.cluster_id == cluster
                && machine.billing_mode == "spot"
                && self.is_living(machine)
        })
    }

    /// Whether an instance occupies its place: it runs, or is on its way to.
    #[must_use]
    pub fn is_living(&self, machine: &Machine) -> bool {
        match machine.status.as_str() {
            "toCreate" | "creating" | "pending" | "pulling" | "created" | "toStart" | "starting" | "running"
            | "toRestart" | "restarting" | "toStop" | "stopping" => true,
            // One whose migration failed is nowhere.
            "migrating" => self.unfinished_jobs_of(&machine.id).next().is_some(),
            _ => false,
        }
    }

    /// Whether one more spot instance fits beside everybody but `newcomer`, if that one is there already.
    pub(crate) fn has_room(&self, product: &str, billing: &str, cluster: &str, newcomer: Option<&str>) -> bool {
        let Some(market) = self.market(product, cluster).filter(|_| billing == "spot") else { return true };
        match market.room() {
            Room::Any => true,
            Room::NONE => false,
            room @ Room::For(_) => {
                let others = self.living_in(product, cluster).filter(|it| newcomer.is_none_or(|id| it.id != id));
                others.count() < room.limit()
            }
        }
    }

    /// How many more instances the product list says fit into a market; `None` where it follows the stock.
    pub(crate) fn hinted_room(&self, product: &str, billing: &str, cluster: &str) -> Option<u32> {
        let market = self.market(product, cluster).filter(|_| billing == "spot")?;
        let room = match self.rules.hint {
            Hint::Stale { ms } => market.room_at(self.now - ms),
            Hint::True | Hint::Absent | Hint::AlwaysYes => market.room(),
        };
        Some(match room {
            Room::Any => u32::MAX,
            Room::NONE => 0,
            Room::For(count) => {
                let living = u32::try_from(self.living_in(product, cluster).count()).unwrap_or(u32::MAX);
                count.saturating_sub(living)
            }
        })
    }

    /// What is set to happen to the room of a market happens.
    pub(crate) fn room_changes(&mut self, number: usize) {
        let coming = self.markets.get_mut(number).and_then(|market| market.coming.pop_front());
        if let Some((_, room)) = coming {
            self.room_becomes(number, room);
        }
    }

    fn room_becomes(&mut self, number: usize, room: Room) {
        let now = self.now;
        if let Some(market) = self.markets.get_mut(number) {
            market.past.push((now, room));
        }
        self.review(number);
    }

    /// An instance has come up: perhaps its room has gone meanwhile, or is about to.
    pub(crate) fn came_up(&mut self, slot: usize) {
        let machine = self.machine_at(slot);
        let place = machine.and_then(|machine| self.markets.iter().position(|market| market.has(machine)));
        if let Some(number) = place.filter(|_| self.rules.notice != Notice::None) {
            self.review(number);
        }
    }

    /// Takes or tells those who do not fit.
    pub(crate) fn review(&mut self, number: usize) {
        let Some(market) = self.markets.get(number) else { return };
        let (room, now) = (market.room(), self.now);
        match self.rules.notice {
            Notice::None => self.take_excess(number, room, |_| true),
            Notice::Grace { .. } => {
                let ends = now + self.rules.notice_ms;
                self.tell_excess(number, room, ends, |machine| !is_told(machine));
            }
            Notice::Ahead => {
                // Those who were told to go now do so by themselves.
                self.take_excess(number, room, |machine| !is_told(machine) || machine.spot_reclaim_at > now);
                let horizon = now + self.rules.notice_ms;
                let coming = self.markets.get(number).map(|market| market.coming.clone()).unwrap_or_default();
                for (at, room) in coming.into_iter().take_while(|(at, _)| *at <= horizon) {
                    self.tell_excess(number, room, at, |machine| !is_told(machine) || machine.spot_reclaim_at > at);
                }
            }
        }
    }

    fn take_excess(&mut self, number: usize, room: Room, stays: impl Fn(&Machine) -> bool) {
        for slot in self.excess(number, room, stays) {
            let (epoch, now) = (self.reclaim_command(slot), self.now);
            self.change(slot, |machine| machine.spot_reclaim_at = now);
            self.happen(Event::Reclaim { slot, epoch });
        }
    }

    /// Those who are not running yet are told when they come up.
    fn tell_excess(&mut self, number: usize, room: Room, ends: i64, stays: impl Fn(&Machine) -> bool) {
        for slot in self.excess(number, room, stays) {
            if self.machine_at(slot).is_some_and(|machine| machine.status == "running") {
                self.announce(slot, ends);
            }
        }
    }

    /// Which of those who would stay do not fit, drawn from the seed.
    fn excess(&mut self, number: usize, room: Room, stays: impl Fn(&Machine) -> bool) -> Vec<usize> {
        let Some(market) = self.markets.get(number).filter(|_| room != Room::Any) else { return Vec::new() };
        let lives = |machine: &Machine| market.has(machine) && self.is_living(machine) && stays(machine);
        let slots = (0..self.slots.len()).filter(|slot| self.machine_at(*slot).is_some_and(lives));
        let mut slots: Vec<usize> = slots.collect();
        let fit = room.limit().min(slots.len());
        if fit > 0 {
            self.rng.shuffle(&mut slots);
        }
        slots.split_off(fit)
    }

    /// Tells an instance when it will be taken, and takes it then.
    pub(crate) fn announce(&mut self, slot: usize, at: i64) {
        let epoch = self.reclaim_command(slot);
        self.change(slot, |machine| {
            machine.spot_status = "notified".into();
            machine.spot_reclaim_at = at;
        });
        self.schedule(at, Event::Reclaim { slot, epoch });
        if let Notice::Grace { withdrawn, tick_ms } = self.rules.notice
            && withdrawn > 0.0
        {
            self.schedule(self.now + tick_ms, Event::Reconsider { slot, epoch });
        }
    }

    /// The provider takes back the announcement of a reclaim. `false` if there is no such instance.
    pub fn withdraw_reclaim(&mut self, id: &str) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        self.reclaim_command(slot);
        self.edit(id, |machine| (machine.spot_status, machine.spot_reclaim_at) = (String::new(), 0))
    }

    /// An instance was told to go: perhaps it may stay after all.
    pub(crate) fn reconsider(&mut self, slot: usize, epoch: u32) {
        let Notice::Grace { withdrawn, tick_ms } = self.rules.notice else { return };
        let market = self.machine_at(slot).and_then(|it| self.markets.iter().find(|market| market.has(it)));
        let is_back = market.is_some_and(|market| {
            let stay = self.living_in(&market.product, &market.cluster).filter(|machine| !is_told(machine));
            stay.count() < market.room().limit()
        });
        if is_back && self.rng.f64() < withdrawn {
            self.reclaim_command(slot);
            self.change(slot, |machine| {
                machine.spot_status.clear();
                machine.spot_reclaim_at = 0;
            });
        } else {
            self.schedule(self.now + tick_ms, Event::Reconsider { slot, epoch });
        }
    }

    fn market(&self, product: &str, cluster: &str) -> Option<&Market> {
        self.markets.iter().find(|market| market.product == product && market.cluster == cluster)
    }

    fn market_numbered(&mut self, product: &str, cluster: &str) -> usize {
        let known = self.markets.iter().position(|market| market.product == product && market.cluster == cluster);
        known.unwrap_or_else(|| {
            let (product, cluster) = (product.to_owned(), cluster.to_owned());
            self.markets.push(Market { product, cluster, past: Vec::new(), coming: VecDeque::new() });
            self.markets.len() - 1
        })
    }
}

fn is_told(machine: &Machine) -> bool {
    machine.spot_status == "notified"
}
