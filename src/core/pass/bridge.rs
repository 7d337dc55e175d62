//! On-demand instances that stand in while no market has room, and what they may cost in a day.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::recreation::marker::{Origin, is_bridge};
use crate::core::world::instance::{InstanceId, Status};
use crate::core::world::money::Usd;
use crate::core::world::policy::BridgePolicy;
use crate::core::world::snapshot::Snapshot;
use crate::core::world::time::Timestamp;
use crate::core::world::times::SETTLE_TIME;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the cost of a bridge is remembered.
const LIFE: Duration = Duration::from_secs(400 * 24 * 3600);

/// How many are remembered; the newest stay.
pub const BRIDGES_KEPT: usize = 1000;

/// An on-demand instance that stands in for another. It is on record before it is created, so that no crash forgets what
/// it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    pub opened_at: Timestamp,
    /// For an hour and all its GPUs.
    pub price: Usd,
    /// When it was seen to be gone, or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// What earlier ones for the same instance cost on the day that this one was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Usd>,
}

/// By the instance that each stands in for.
pub type Bridges = HashMap<InstanceId, Bridge>;

impl Bridge {
    /// One that is opened now, in the place of what is on record for the same instance.
    #[must_use]
    pub fn open(price: Usd, earlier: Option<&Self>, now: Timestamp) -> Self {
        let before = earlier.map(|it| it.cost_today(now)).filter(|cost| *cost > Usd::default());
        Self { opened_at: now, price, closed_at: None, before }
    }

    /// What is left of one that was not created after all: the cost of those before it.
    #[must_use]
    pub fn undone(self) -> Option<Self> {
        self.before.map(|_| Self { closed_at: Some(self.opened_at), ..self })
    }

    /// What it, and those before it for the same instance, have cost since midnight (UTC).
    #[must_use]
    pub fn cost_today(&self, now: Timestamp) -> Usd {
        let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
        let midnight = Timestamp::from_millis(now.as_millis() - now.as_millis().rem_euclid(day));
        let until = self.closed_at.unwrap_or(now).min(now);
        let before = self.before.filter(|_| self.opened_at >= midnight).unwrap_or_default();
        [self.price.during(until.since(self.opened_at.max(midnight))), before].into_iter().sum()
    }
}

/// What bridges have cost from `last_look` until now.
#[must_use]
pub fn since(last_look: Option<Timestamp>, bridges: &Bridges, now: Timestamp) -> Usd {
    let open = bridges.values().filter(|it| it.closed_at.is_none());
    let from = |it: &Bridge| last_look.map_or(it.opened_at, |at| at.max(it.opened_at));
    open.map(|it| it.price.during(now.since(from(it)))).sum()
}

/// What bridges have cost today, and how many stand.
#[must_use]
pub fn today(bridges: &Bridges, now: Timestamp) -> (Usd, usize) {
    let open = bridges.values().filter(|bridge| bridge.closed_at.is_none()).count();
    (bridges.values().map(|bridge| bridge.cost_today(now)).sum(), open)
}

/// The bridges of a pass: those on record, and those that the store has forgotten.
#[derive(Clone, Debug, Default)]
pub struct KnownBridges {
    pub recorded: Bridges,
    /// When those were created that are known by their names alone.
    unrecorded: Vec<Timestamp>,
}

impl KnownBridges {
    #[must_use]
    pub fn of(snapshot: &Snapshot, bridges: &Bridges, now: Timestamp) -> Self {
        let mut bridges = bridges.clone();
        // One that is gone by now does not make room for another at its cost.
        for (old, bridge) in observe(snapshot, &bridges, now) {
            match bridge {
                Some(bridge) => drop(bridges.insert(old, bridge)),
                None => drop(bridges.remove(&old)),
            }
        }
        // The request for one that was taken to be gone may have arrived late.
        let open = bridges.iter().filter(|(_, bridge)| bridge.closed_at.is_none());
        let recorded: HashSet<Origin> = open.map(|(old, _)| Origin::of(old)).collect();
        // One that was stopped may be started again.
        let living = snapshot.instances.items.iter().filter(|it| is_bridge(&it.name) && !it.status.is_going());
        let unrecorded = living.filter(|it| Origin::in_name(&it.name).is_some_and(|it| !recorded.contains(&it)));
        let created = unrecorded.map(|it| it.created_at.map_or(snapshot.taken_at, Timestamp::from));
        Self { unrecorded: created.collect(), recorded: bridges }
    }

    /// Whether one more at this price stays within the budget: what was spent today, one stay of each that stands, and one
    /// of the new one. What is not on record counts at the same price.
    #[must_use]
    pub fn may_open(&self, price: Usd, policy: &BridgePolicy, now: Timestamp) -> bool {
        let forgotten = self.unrecorded.iter().map(|at| Bridge::open(price, None, *at));
        let all: Vec<Bridge> = self.recorded.values().copied().chain(forgotten).collect();
        let standing = all.iter().filter(|bridge| bridge.closed_at.is_none()).map(|bridge| bridge.price);
        let stays = standing.chain([price]).map(|price| price.during(policy.stay));
        let committed: Usd = stays.chain(all.iter().map(|bridge| bridge.cost_today(now))).sum();
        committed <= policy.per_day
    }
}

/// What to change: those whose instance is gone or stopped are closed, those of long ago are forgotten.
#[must_use]
pub fn observe(snapshot: &Snapshot, bridges: &Bridges, now: Timestamp) -> Vec<(InstanceId, Option<Bridge>)> {
    // One that was stopped costs nothing.
    let living = snapshot.instances.items.iter().filter(|it| is_bridge(&it.name) && !it.status.is_going());
    let living = living.filter(|it| it.status != Status::Exited);
    let standing: Vec<Origin> = living.filter_map(|it| Origin::in_name(&it.name)).collect();
    let is_gone = |old: &InstanceId, bridge: &Bridge| {
        let is_settled = now.since(bridge.opened_at) >= SETTLE_TIME;
        bridge.closed_at.is_none()
            && is_settled
            && snapshot.instances.is_complete()
            && !standing.contains(&Origin::of(old))
    };
    let mut by_age: Vec<(&InstanceId, &Bridge)> = bridges.iter().collect();
    by_age.sort_by_key(|(old, bridge)| (std::cmp::Reverse(bridge.opened_at), *old));
    let mut changes: Vec<(InstanceId, Option<Bridge>)> = Vec::new();
    for (at, (old, bridge)) in by_age.into_iter().enumerate() {
        let is_old = bridge.closed_at.is_some_and(|closed| now.since(closed) > LIFE);
        if is_old || at >= BRIDGES_KEPT && bridge.closed_at.is_some() {
            changes.push((old.clone(), None));
        } else if is_gone(old, bridge) {
            changes.push((old.clone(), Some(Bridge { closed_at: Some(now), ..*bridge })));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::snapshot::Listing;

    const HOUR: u64 = 3600;

    /// Noon.
    fn now() -> Timestamp {
        Timestamp::from_secs(1_768_478_400)
    }

    fn bridge(opened_ago: u64, closed_ago: Option<u64>) -> Bridge {
        let ago = |hours: u64| now() - Duration::from_secs(hours * HOUR);
        Bridge {
            opened_at: ago(opened_ago),
            price: Usd::from_micros(2_000_000),
            closed_at: closed_ago.map(ago),
            before: None,
        }
    }

    #[test]
    fn a_day_begins_at_midnight() {
        for (opened, closed, cost) in
            [(1, None, 2), (11, Some(10), 2), (30, None, 24), (30, Some(11), 2), (30, Some(13), 0), (0, None, 0)]
        {
            let found = bridge(opened, closed).cost_today(now());
            assert_eq!(found, Usd::from_micros(cost * 1_000_000), "{opened} h ago until {closed:?}");
        }
    }

    #[test]
    fn a_second_bridge_for_an_instance_does_not_hide_what_the_first_one_cost() {
        let (price, gone) = (Usd::from_micros(1_000_000), bridge(3, Some(2)));
        let second = Bridge::open(price, Some(&gone), now());
        let later = now() + Duration::from_secs(HOUR);
        assert_eq!(second.cost_today(later), Usd::from_micros(3_000_000), "2 USD of the first, 1 of its own");
        assert_eq!(second.undone().map(|it| it.cost_today(later)), Some(Usd::from_micros(2_000_000)));
        assert_eq!(Bridge::open(price, None, now()).undone(), None);
        let tomorrow = now() + Duration::from_secs(13 * HOUR);
        assert_eq!(second.cost_today(tomorrow), Usd::from_micros(1_000_000), "a new day");
    }

    /// Each row: how many minutes ago the last look was and the bridge was opened and closed; and the minutes that count.
    #[test]
    fn what_bridges_cost_is_counted_look_by_look() {
        for (last_look, opened, closed, expected) in [
            (Some(5), 60, None, 5),
            (Some(60), 5, None, 5),
            (None, 60, None, 60),
            (Some(5), 60, Some(2), 0),
            (Some(-5), 60, None, 0),
        ] {
            let ago = |minutes: i64| Timestamp::from_millis(now().as_millis() - minutes * 60_000);
            let closed_at = closed.map(ago);
            let bridge = Bridge { opened_at: ago(opened), price: Usd::from_micros(60_000), closed_at, before: None };
            let bridges = [(InstanceId::new("a"), bridge)].into_iter().collect();
            let counted = since(last_look.map(ago), &bridges, now());
            assert_eq!(counted.micros(), expected * 1000, "{last_look:?} {opened} {closed:?}");
        }
    }

    #[test]
    fn one_that_is_gone_needs_room_in_the_budget_again() {
        let snapshot = Snapshot {
            taken_at: now(),
            abilities: Default::default(),
            instances: Listing::complete(vec![]),
            jobs: Listing::complete(vec![]),
        };
        let old = InstanceId::new("a");
        let known = KnownBridges::of(&snapshot, &[(old.clone(), bridge(1, None))].into_iter().collect(), now());
        assert_eq!(known.recorded[&old].closed_at, Some(now()));
    }

    #[test]
    fn a_bridge_needs_its_whole_stay_in_the_budget() {
        // Each costs 2 USD an hour and stays an hour.
        for (standing, budget, expected) in [
            (vec![], 1, false),
            (vec![], 2, true),
            (vec![bridge(0, None)], 3, false),
            (vec![bridge(0, None)], 4, true),
            (vec![bridge(1, None)], 5, false),
            (vec![bridge(1, None)], 6, true),
            (vec![bridge(3, Some(2))], 3, false),
            (vec![bridge(3, Some(2))], 4, true),
            (vec![bridge(40, Some(20))], 2, true),
        ] {
            let bridges: Bridges =
                standing.iter().enumerate().map(|(n, it)| (InstanceId::new(&n.to_string()), *it)).collect();
            let policy = BridgePolicy { per_day: Usd::from_micros(budget * 1_000_000), ..BridgePolicy::DEFAULT };
            let price = Usd::from_micros(2_000_000);
            let known = KnownBridges { recorded: bridges.clone(), unrecorded: vec![] };
            assert_eq!(known.may_open(price, &policy, now()), expected, "{standing:?} of {budget} USD");
            if bridges.values().all(|bridge| bridge.closed_at.is_none()) {
                let unrecorded = bridges.values().map(|bridge| bridge.opened_at).collect();
                let forgotten = KnownBridges { recorded: Bridges::new(), unrecorded };
                assert_eq!(forgotten.may_open(price, &policy, now()), expected, "{standing:?}, forgotten");
            }
        }
    }
}
