//! On-demand instances that stand in while no market has room, and what they may cost in a day.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::recreation::marker::{Origin, is_bridge};
use crate::core::world::instance::InstanceId;
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
    /// When it was seen to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

/// By the instance that each stands in for.
pub type Bridges = HashMap<InstanceId, Bridge>;

impl Bridge {
    /// What it has cost since midnight (UTC).
    #[must_use]
    pub fn cost_today(&self, now: Timestamp) -> Usd {
        let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
        let midnight = Timestamp::from_millis(now.as_millis() - now.as_millis().rem_euclid(day));
        let until = self.closed_at.unwrap_or(now).min(now);
        cost(self.price, until.since(self.opened_at.max(midnight)))
    }
}

fn cost(price: Usd, time: Duration) -> Usd {
    let micros = i128::from(price.micros()) * i128::try_from(time.as_millis()).unwrap_or(i128::MAX) / 3_600_000;
    Usd::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
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
    pub fn of(snapshot: &Snapshot, bridges: &Bridges) -> Self {
        let recorded: HashSet<Origin> = bridges.keys().map(Origin::of).collect();
        let living = snapshot.instances.items.iter().filter(|it| is_bridge(&it.name) && !it.status.is_going());
        let unrecorded = living.filter(|it| Origin::in_name(&it.name).is_some_and(|it| !recorded.contains(&it)));
        let created = unrecorded.map(|it| it.created_at.map_or(snapshot.taken_at, Timestamp::from));
        Self { unrecorded: created.collect(), recorded: bridges.clone() }
    }

    /// Whether one more at this price stays within the budget: what was spent today, one stay of each that stands, and one
    /// of the new one. What is not on record counts at the same price.
    #[must_use]
    pub fn may_open(&self, price: Usd, policy: &BridgePolicy, now: Timestamp) -> bool {
        let forgotten = self.unrecorded.iter().map(|at| Bridge { opened_at: *at, price, closed_at: None });
        let all: Vec<Bridge> = self.recorded.values().copied().chain(forgotten).collect();
        let standing = all.iter().filter(|bridge| bridge.closed_at.is_none()).map(|bridge| bridge.price);
        let stays = standing.chain([price]).map(|price| cost(price, policy.stay));
        let committed: Usd = stays.chain(all.iter().map(|bridge| bridge.cost_today(now))).sum();
        committed <= policy.per_day
    }
}

/// What to change: those whose instance is gone are closed, those of long ago are forgotten.
#[must_use]
pub fn observe(snapshot: &Snapshot, bridges: &Bridges, now: Timestamp) -> Vec<(InstanceId, Option<Bridge>)> {
    let living = snapshot.instances.items.iter().filter(|it| is_bridge(&it.name) && !it.status.is_going());
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

    const HOUR: u64 = 3600;

    /// Noon.
    fn now() -> Timestamp {
        Timestamp::from_secs(1_768_478_400)
    }

    fn bridge(opened_ago: u64, closed_ago: Option<u64>) -> Bridge {
        let ago = |hours: u64| now() - Duration::from_secs(hours * HOUR);
        Bridge { opened_at: ago(opened_ago), price: Usd::from_micros(2_000_000), closed_at: closed_ago.map(ago) }
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
