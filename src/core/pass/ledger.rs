//! What earlier passes left behind: attempts, calls whose end was not seen, reclaims that were announced.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::bridge::Bridges;
use super::kept::{Kept, LaunchRecord};
use super::market::Markets;
use super::spell::{Days, Spell};
use super::usage::InstanceDays;
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::world::instance::{Instance, InstanceId, JobId, ReclaimNotice};
use crate::core::world::snapshot::{Listing, find};
use crate::core::world::time::{Timestamp, any_time_if_any};
use crate::core::world::times::SETTLE_TIME;

/// What earlier passes left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The provider and the account that this is about, if it is on record.
    pub owner: Option<String>,
    /// The last migrate attempt of each instance that has one.
    pub last_attempt: HashMap<InstanceId, Stamp>,
    /// Migrate calls whose end is not known yet.
    pub in_flight: HashMap<InstanceId, InFlight>,
    pub observations: HashMap<InstanceId, Observation>,
    /// The journal: recreations by the old instance.
    pub recreations: HashMap<InstanceId, Recreation>,
    /// Since when instances are known to be `migrating` without a job.
    pub stalls: HashMap<InstanceId, Timestamp>,
    /// Since when instances that something would be concluded about are in no list and unknown by their id.
    pub missing: HashMap<InstanceId, Timestamp>,
    /// The failed migration of each instance that was last reported, so that it is reported once.
    pub told_failures: HashMap<InstanceId, String>,
    /// What is known of markets.
    pub markets: Markets,
    /// On-demand instances that stand in, and those that did.
    pub bridges: Bridges,
    /// What is down, by the instance that is.
    pub spells: HashMap<InstanceId, Spell>,
    /// What is counted of downtime.
    pub days: Days,
    /// What ran so far on the latest days, by instance.
    pub instance_days: InstanceDays,
    /// Instances as they were last seen, where the provider forgets them.
    pub kept: HashMap<InstanceId, Kept>,
    /// What those of them that are down are made of.
    pub launch_records: HashMap<InstanceId, LaunchRecord>,
}

impl Ledger {
    /// The instances about which something would be concluded if they were gone.
    #[must_use]
    pub fn known(&self) -> BTreeSet<&InstanceId> {
        let open = self.recreations.iter().filter(|(_, recreation)| !recreation.step.is_over());
        let open = open.flat_map(|(old, recreation)| [Some(old), recreation.step.replacement()]).flatten();
        let others = self.in_flight.keys().chain(self.observations.keys()).chain(self.spells.keys());
        open.chain(others).chain(self.stalls.keys()).chain(self.told_failures.keys()).collect()
    }

    /// Whether its deletion was requested, so that its absence is no surprise.
    #[must_use]
    pub fn is_to_go(&self, id: &InstanceId) -> bool {
        self.recreations.iter().any(|(old, Recreation { step, .. })| {
            let is_given_up = matches!(step, Step::Abandoned { replacement, .. } if replacement == id);
            // A specification is kept for as long as its instance is to be deleted, or is.
            is_given_up || old == id && (step.kept().is_some() || matches!(step, Step::Deleted { .. }))
        })
    }

    /// Whether an instance is missing, and no second look has confirmed that yet.
    #[must_use]
    pub fn is_doubted(&self, id: &InstanceId, now: Timestamp) -> bool {
        self.missing.get(id).is_some_and(|since| now.since(*since) < SETTLE_TIME)
    }

    /// Whether it is proved that an instance does not exist: no row of the list is missing but its own, and a second look agrees.
    #[must_use]
    pub fn is_gone(&self, id: &InstanceId, instances: &Listing<Instance>, now: Timestamp) -> bool {
        instances.is_complete() && find(&instances.items, id).is_none() && !self.is_doubted(id, now)
    }
}

/// The stored time of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    At(Timestamp),
    /// What is stored is not a time. The instance is left alone until an operator fixes the record.
    Unreadable(String),
}

/// A migrate call whose end is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The instance's name at that time.
    pub instance_name: String,
    /// When the call was made, or was about to be.
    pub called_at: Timestamp,
    pub pass: String,
    /// The newest migration job known before the call: any other that is not older is the call's own.
    pub job_before: Option<KnownJob>,
    /// The migration time to put back should the call have had no effect.
    pub previous_attempt: Option<Timestamp>,
    pub call: Call,
}

/// A job as remembered from before a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownJob {
    pub id: JobId,
    /// When it was made, by the provider's clock.
    #[serde(default, deserialize_with = "any_time_if_any")]
    pub created_at: Option<Timestamp>,
}

/// What is known of a migrate call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// The intent was stored. If nothing follows, the pass was killed around the call.
    Begun,
    Accepted,
    /// No clear answer came: the call may have had an effect.
    Unknown,
}

/// A reclaim as an earlier pass saw it announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    pub notice: ReclaimNotice,
    /// When this reclaim was first seen announced; a time that moves is the same reclaim.
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
    /// When the instance was first seen down after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_seen_at: Option<Timestamp>,
}
