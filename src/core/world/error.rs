//! The classes of error.

use serde::{Deserialize, Serialize};

/// The classes of error (contract, section 5): each has its own way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl ErrorKind {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::RateLimit => "rate_limit",
            Self::Auth => "auth",
            Self::Capacity => "capacity",
            Self::Billing => "billing",
            Self::Configuration => "configuration",
            Self::State => "state",
            Self::Api => "api",
        }
    }
}
