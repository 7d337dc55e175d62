//! Everything `explain` has to say, in the shape of its document.

use serde::Serialize;

use super::json::ErrorPart;
use crate::core::pass::explain::Checked;
use crate::core::pass::ledger::{Call, InFlight, Observation, Stamp};
use crate::core::record::life::LifeEvent;
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;

/// What is to be said of one instance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainDocument<'a> {
    /// Why the provider could not be asked; what follows is then from the store alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorPart<'a>>,
    /// The instance.
    pub instance_id: &'a InstanceId,
    /// Its name, as far as it is known.
    pub instance_name: Option<&'a str>,
    /// What it is doing; missing if the provider could not be asked or does not list it.
    pub status: Option<&'a str>,
    /// How it is paid for, as far as the provider says.
    pub billing: Option<&'a str>,
    /// As in a plan; missing without a plan.
    pub verdict: Option<&'static str>,
    /// As in a plan; `not_listed` and `replaced` also for what the provider does not list.
    pub reason: Option<&'static str>,
    /// The reason in one sentence.
    pub detail: Option<&'a str>,
    /// When time alone may change the verdict.
    pub until: Option<Timestamp>,
    /// What the next pass does.
    pub next_pass: Option<&'a str>,
    /// Why the next pass would be refused as a whole.
    pub refused: Option<&'a str>,
    /// Every rule in its order.
    pub rules: &'a [Checked],
    /// The reclaim that was announced.
    pub observations: Option<ObservationPart<'a>>,
    /// The last migrate attempt, as it is stored.
    pub last_attempt: Option<String>,
    /// The migrate call whose end was not seen yet.
    pub in_flight: Option<CallPart<'a>>,
    /// The recreation it belongs to.
    pub journal: Option<JournalPart<'a>>,
    /// All ids it ever had, old before new.
    pub ids: &'a [InstanceId],
    /// What was done to any of these, oldest first; the last ten.
    pub attempts: &'a [LifeEvent],
}

/// An announced reclaim.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservationPart<'a> {
    /// The provider's word.
    pub spot_status: &'a str,
    /// When the instance is, or was, to be taken.
    pub reclaim_at: Timestamp,
    /// When a pass first saw this.
    pub first_seen_at: Timestamp,
    /// When a pass last saw it.
    pub last_seen_at: Timestamp,
}

impl<'a> From<&'a Observation> for ObservationPart<'a> {
    fn from(seen: &'a Observation) -> Self {
        let Observation { notice, first_seen_at, last_seen_at } = seen;
        Self {
            spot_status: &notice.spot_status,
            reclaim_at: notice.reclaim_at,
            first_seen_at: *first_seen_at,
            last_seen_at: *last_seen_at,
        }
    }
}

/// An open migrate call.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallPart<'a> {
    /// When it was made.
    pub called_at: Timestamp,
    /// The pass that made it.
    pub job_id: &'a str,
    /// What is known of it: `begun`, `accepted`, `unknown`.
    pub call: Call,
}

impl<'a> From<&'a InFlight> for CallPart<'a> {
    fn from(call: &'a InFlight) -> Self {
        Self { called_at: call.called_at, job_id: &call.pass, call: call.call }
    }
}

/// A recreation, without what is kept of the old instance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalPart<'a> {
    /// The old instance.
    pub instance_id: &'a InstanceId,
    /// How far it is.
    pub step: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// When it was begun.
    pub opened_at: Timestamp,
    /// Why.
    pub cause: String,
    /// The replacement.
    pub replacement: Option<&'a InstanceId>,
    /// The replacement's name.
    pub marker: &'a str,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them.
    pub last_error: Option<&'a str>,
    /// Until when it is left alone after repeated failures.
    pub quarantined_until: Option<Timestamp>,
    /// The pass that last wrote it.
    pub job_id: &'a str,
}

impl<'a> JournalPart<'a> {
    /// A recreation as it stands at `now`.
    #[must_use]
    pub fn new(old: &'a InstanceId, recreation: &'a Recreation, now: Timestamp) -> Self {
        let Recreation { instance_name: _, cause, marker, opened_at, pass, failures, last_error, step, since } =
            recreation;
        Self {
            instance_id: old,
            step: Step::into_str(step),
            since: *since,
            opened_at: *opened_at,
            cause: cause.in_words(),
            replacement: step.replacement(),
            marker,
            failures: *failures,
            last_error: last_error.as_deref(),
            quarantined_until: recreation.quarantined_until(now),
            job_id: pass,
        }
    }
}

/// A stored migration time as it is.
#[must_use]
pub fn stamp(stamp: &Stamp) -> String {
    match stamp {
        Stamp::At(at) => at.to_string(),
        Stamp::Unreadable(value) => value.clone(),
    }
}
