//! Classes of errors.

use serde::{Deserialize, Serialize};

/// The classes of error (`docs/reference.md`, `errorKind`): each is handled differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ErrorKind {
    /// There was no connection, or it was lost.
    Network,
    /// There was no response in time.
    Timeout,
    /// Too many requests, or a quota is exhausted.
    RateLimit,
    /// The key is wrong, or lacks a permission.
    Auth,
    /// The product is out of stock.
    Capacity,
    /// The balance or a limit of the account.
    Billing,
    Configuration,
    /// The provider refuses the action in the current state of the instance.
    State,
    Api,
}
