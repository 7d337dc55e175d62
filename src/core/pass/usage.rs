//! How long instances ran, and what that cost by the last known prices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::world::instance::InstanceId;
use crate::core::world::money::Usd;

/// How many instances of a day are counted each on its own.
pub const INSTANCES_KEPT: usize = 1000;

/// For how many days instances are counted each on its own.
pub const INSTANCE_DAYS_KEPT: usize = 100;

/// Running time and its cost. Stored as a list of its four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, Usd, Usd)", into = "(u64, u64, Usd, Usd)")]
pub struct MeteredUsage {
    pub running_seconds: u64,
    /// Of the running time, that at a known price.
    pub priced_seconds: u64,
    /// What that cost, and what it would have cost on demand.
    pub cost: Usd,
    pub on_demand_cost: Usd,
}

impl From<(u64, u64, Usd, Usd)> for MeteredUsage {
    fn from((running_seconds, priced_seconds, cost, on_demand_cost): (u64, u64, Usd, Usd)) -> Self {
        Self { running_seconds, priced_seconds, cost, on_demand_cost }
    }
}

impl From<MeteredUsage> for (u64, u64, Usd, Usd) {
    fn from(it: MeteredUsage) -> Self {
        (it.running_seconds, it.priced_seconds, it.cost, it.on_demand_cost)
    }
}

impl MeteredUsage {
    pub fn add(&mut self, other: Self) {
        self.running_seconds = self.running_seconds.saturating_add(other.running_seconds);
        self.priced_seconds = self.priced_seconds.saturating_add(other.priced_seconds);
        self.cost = [self.cost, other.cost].into_iter().sum();
        self.on_demand_cost = [self.on_demand_cost, other.on_demand_cost].into_iter().sum();
    }

    /// A part of it, in thousandths.
    #[must_use]
    pub fn part(self, permille: u64) -> Self {
        let seconds = |count: u64| (count * permille + 500) / 1000;
        let (running_seconds, priced_seconds) = (seconds(self.running_seconds), seconds(self.priced_seconds));
        let (cost, on_demand_cost) = (self.cost.part(permille, 1000), self.on_demand_cost.part(permille, 1000));
        Self { running_seconds, priced_seconds, cost, on_demand_cost }
    }

    /// What `seconds` of it are on average.
    #[must_use]
    pub fn during(self, seconds: u64) -> Self {
        let count = |count: u64| {
            let part = u128::from(count) * u128::from(seconds);
            u64::try_from(part.checked_div(self.running_seconds.into()).unwrap_or_default()).unwrap_or(u64::MAX)
        };
        let part = |amount: Usd| amount.part(seconds, self.running_seconds);
        Self {
            running_seconds: seconds,
            priced_seconds: count(self.priced_seconds),
            cost: part(self.cost),
            on_demand_cost: part(self.on_demand_cost),
        }
    }

    /// What spot has saved; `None` while no price is known.
    #[must_use]
    pub fn saved(&self) -> Option<Usd> {
        (self.priced_seconds > 0).then(|| self.on_demand_cost.minus(self.cost))
    }
}

/// One day in UTC, by instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceDay {
    pub instances: BTreeMap<InstanceId, MeteredUsage>,
}

/// By the day (`2026-01-15`).
pub type InstanceDays = BTreeMap<String, InstanceDay>;

impl InstanceDay {
    /// Counts for an instance, unless there are too many others.
    pub fn add(&mut self, id: &InstanceId, usage: MeteredUsage) {
        if let Some(known) = self.instances.get_mut(id) {
            known.add(usage);
        } else if self.instances.len() < INSTANCES_KEPT {
            self.instances.insert(id.clone(), usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instances_of_a_day_are_bounded_and_those_known_go_on() {
        let usage = MeteredUsage { running_seconds: 60, ..MeteredUsage::default() };
        let mut day = InstanceDay::default();
        for number in 0..=INSTANCES_KEPT {
            day.add(&InstanceId::new(&format!("i{number}")), usage);
        }
        day.add(&InstanceId::new("i0"), usage);
        assert_eq!(day.instances.len(), INSTANCES_KEPT);
        assert_eq!(day.instances[&InstanceId::new("i0")].running_seconds, 120);
    }

    #[test]
    fn it_is_stored_as_four_numbers() {
        let usage = MeteredUsage {
            running_seconds: 3600,
            priced_seconds: 1800,
            cost: Usd::from_micros(167_500),
            on_demand_cost: Usd::from_micros(335_005),
        };
        let text = serde_json::to_string(&usage).expect("json");
        assert_eq!(text, "[3600,1800,16750,33500.5]");
        assert_eq!(serde_json::from_str::<MeteredUsage>(&text).expect("usage"), usage);
    }
}
