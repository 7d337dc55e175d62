//! What earlier passes left behind: attempts, calls whose end was not seen, reclaims that were announced.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::exposure::Exposures;
use crate::core::recreation::journal::Recreation;
use crate::core::world::instance::{InstanceId, JobId, ReclaimNotice};
use crate::core::world::time::Timestamp;

/// What earlier passes left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The last migrate attempt of each instance that has one.
    pub last_attempt: HashMap<InstanceId, Stamp>,
    /// Migrate calls whose end was not seen yet.
    pub in_flight: HashMap<InstanceId, InFlight>,
    /// Reclaims that were announced.
    pub observations: HashMap<InstanceId, Observation>,
    /// The journal: recreations by the old instance.
    pub recreations: HashMap<InstanceId, Recreation>,
    /// Since when instances are known to be `migrating` without a job.
    pub stalls: HashMap<InstanceId, Timestamp>,
    /// The failed migration of each instance that was last told of, so that it is told once.
    pub told_failures: HashMap<InstanceId, String>,
    /// How often spot instances are taken, by place.
    pub exposures: Exposures,
}

/// The stored time of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Then.
    At(Timestamp),
    /// Something is stored that is no time. The instance is left alone until somebody looks.
    Unreadable(String),
}

/// A migrate call whose end was not seen yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The instance's name at that time.
    pub instance_name: String,
    /// When the call was made, or was about to be.
    pub called_at: Timestamp,
    /// The pass that made it.
    pub pass: String,
    /// The newest migration job known before the call: any other that is not older is the call's own.
    pub job_before: Option<KnownJob>,
    /// The migration time to put back should the call have had no effect.
    pub previous_attempt: Option<Timestamp>,
    /// What is known of the call.
    pub call: Call,
}

/// A job as remembered from before a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownJob {
    /// Its id.
    pub id: JobId,
    /// When it was made, by the provider's clock.
    pub created_at: Option<Timestamp>,
}

/// What is known of a migrate call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// The intent was stored. Unless the pass goes on to say more, it was killed around the call.
    Begun,
    /// The provider accepted it.
    Accepted,
    /// No clear answer came: it may or may not have had an effect.
    Unknown,
}

/// A reclaim as an earlier pass saw it announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// What the provider said.
    pub notice: ReclaimNotice,
    /// When a pass first saw this notice.
    pub first_seen_at: Timestamp,
    /// When a pass last saw it.
    pub last_seen_at: Timestamp,
}
