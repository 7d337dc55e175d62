//! Spot requests.

use std::collections::BTreeMap;

use crate::machine::Behavior;
use crate::plan::Plan;

/// The state of a spot request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// It waits for room.
    Open,
    /// It has an instance.
    Active,
    /// Its instance is stopped.
    Disabled,
    /// It is over.
    Closed,
    /// It was cancelled.
    Cancelled,
    /// It never had an instance that ran.
    Failed,
}

impl RequestState {
    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// A spot request.
#[derive(Clone, Debug)]
pub struct SpotRequest {
    /// Its id.
    pub id: String,
    /// The region it is in.
    pub region: String,
    /// Its state.
    pub state: RequestState,
    /// The code of its status.
    pub code: String,
    /// When the status changed, in Unix milliseconds.
    pub updated_ms: i64,
    /// When it was made.
    pub created_ms: i64,
    /// Its instance.
    pub instance: Option<String>,
    /// Whether it launches again.
    pub persistent: bool,
    /// What happens at an interruption.
    pub behavior: Behavior,
    /// The maximum price.
    pub max_price: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What it launches.
    pub(crate) plan: Plan,
    pub(crate) visible_ms: i64,
    /// When it is gone.
    pub(crate) gone_ms: Option<i64>,
    /// Changes when it is to do something else than what was planned.
    pub(crate) epoch: u32,
}

impl SpotRequest {
    /// Its type of instance.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.plan.kind
    }

    /// Its zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.plan.zone
    }

    /// Whether it is persistent and was not cancelled.
    pub(crate) fn launches_again(&self) -> bool {
        self.persistent && self.state != RequestState::Cancelled
    }

    /// Whether it counts in the quota.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.state, RequestState::Open | RequestState::Active)
    }

    pub(crate) fn is_shown(&self, now: i64) -> bool {
        now >= self.visible_ms && self.gone_ms.is_none_or(|gone| now < gone)
    }

    /// Sets the status.
    pub(crate) fn say(&mut self, code: &str, now: i64) {
        code.clone_into(&mut self.code);
        self.updated_ms = now;
    }

    /// The sentence that goes with the code.
    pub(crate) fn message(&self) -> &'static str {
        match self.code.as_str() {
            "fulfilled" => "Your Spot request is fulfilled.",
            "pending-evaluation" => "Your Spot request has been submitted for review, and is pending evaluation.",
            "capacity-not-available" => "There is no Spot capacity available that matches your request.",
            "marked-for-stop" => "Your Spot instance is marked for stop.",
            "marked-for-termination" => "Your Spot instance is marked for termination.",
            "instance-terminated-no-capacity" => {
                "Your Spot instance was terminated because there is no Spot capacity available."
            }
            "instance-terminated-by-user" => "Spot instance terminated due to user-initiated termination.",
            "instance-stopped-no-capacity" => {
                "Your Spot instance was stopped because there was no Spot capacity available."
            }
            "instance-stopped-by-user" => "Your Spot instance was stopped by the user.",
            "request-canceled-and-instance-running" => {
                "Your Spot request is canceled, but your instance is still running."
            }
            "canceled-before-fulfillment" => "Your Spot request was canceled before it was fulfilled.",
            "system-error" => "There was an unexpected system error. Please resubmit your request.",
            "bad-parameters" => "One or more parameters of your request are not valid.",
            _ => "The status of your Spot request has changed.",
        }
    }
}
