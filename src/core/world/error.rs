//! The classes of error.

use serde::{Deserialize, Serialize};

/// The classes of error (`docs/reference.md`, `errorKind`): each has its own way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ErrorKind {
    /// No connection, or it broke.
    Network,
    /// No answer in time.
    Timeout,
    /// Too many requests, or a quota.
    RateLimit,
    /// The key is wrong or not allowed.
    Auth,
    /// No stock.
    Capacity,
    /// Money or an account limit.
    Billing,
    /// The request itself is wrong.
    Configuration,
    /// The provider refuses the action in this state.
    State,
    /// Any other answer.
    Api,
}
