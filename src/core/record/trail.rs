//! What was written to the provider: every call that changes something there, with its end.

use serde::{Deserialize, Serialize};

use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::time::Timestamp;

/// One call that changes the provider's world. Stored as `unknown` before it is sent, so that one that a crash cut off is
/// on record, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderWrite {
    pub at: Timestamp,
    pub call: WriteCall,
    /// The instance it is about; for a creation, the one to be replaced.
    pub instance_id: InstanceId,
    pub instance_name: String,
    pub outcome: WriteOutcome,
    /// The class of the error, if there was one.
    pub error_kind: Option<ErrorKind>,
    /// What the provider said no with, or what broke.
    pub error: Option<String>,
    pub new_instance_id: Option<InstanceId>,
    /// The spot market that was asked for room; none with deletions, on demand, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<Place>,
    /// Time to the answer in milliseconds, as far as there was one.
    pub response_time: Option<i64>,
}

/// The calls that change the provider's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum WriteCall {
    Migrate,
    Create,
    Delete,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum WriteOutcome {
    Accepted,
    Refused,
    /// It never left.
    NotSent,
    /// No clear answer came: it may have had an effect.
    Unknown,
}

/// Something that a pass saw happen to an instance without doing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    pub at: Timestamp,
    pub instance_id: InstanceId,
    pub instance_name: String,
    pub seen: Seen,
    pub detail: String,
}

/// What a pass can see happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    ReclaimNotice,
    /// A migrate call without a clear answer had an effect after all.
    MigrationConfirmed,
    /// A migrate call without a clear answer had no effect.
    CallWithoutEffect,
    /// The instance runs again after its migration.
    RunningAgain,
    MigrationFailed,
    /// It is `migrating` for long, and no job is at work on it.
    MigrationStuck,
    /// Its migration ended, and it does not run.
    NotRunning,
    /// It is in no complete listing any more.
    Vanished,
}

/// How many calls a pass made to the provider, retries included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderCalls {
    pub total: u64,
    /// Those that the provider or the network failed: no connection, no answer in time, too many requests, a refused
    /// key, a 5xx, nonsense. A plain no to one instance ("no stock") is an answer and no failure.
    pub failed: u64,
}

/// The writes of a span of time by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WriteCounts {
    /// Accepted.
    pub migrations: u64,
    /// Accepted.
    pub creations: u64,
    /// Migrations and creations refused for lack of room.
    pub refusals: u64,
    pub deletions: u64,
}
