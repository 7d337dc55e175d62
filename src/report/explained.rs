//! Everything `explain` has to say about one instance: the document, and what the screen shows.

use serde::{Serialize, Serializer};

use super::document::Number;
use super::json::ErrorPart;
use super::markets::usd;
use crate::core::pass::explain::Checked;
use crate::core::pass::ladder::{Ask, Board, LeftOut};
use crate::core::pass::ledger::{Call, InFlight, Observation, Stamp};
use crate::core::record::life::LifeEvent;
use crate::core::recreation::blueprint::{Nearness, Placement};
use crate::core::recreation::journal::Recreation;
use crate::core::world::instance::{Billing, InstanceId, Status};
use crate::core::world::market::Stock;
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;

/// What `explain -o json` prints.
#[derive(Debug, Serialize)]
pub struct ExplainDocument<'a> {
    /// Why the provider could not be asked; what follows is then from the store alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorPart<'a>>,
    #[serde(flatten)]
    pub explained: &'a Explained,
}

/// What there is to say about one instance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    pub instance_id: InstanceId,
    pub instance_name: Option<String>,
    /// Missing if the provider could not be asked or does not list it.
    pub status: Option<Status>,
    pub billing: Option<Billing>,
    /// As in a plan; missing without a plan.
    pub verdict: Option<&'static str>,
    /// As in a plan; `not_listed` and `replaced` also for what the provider does not list.
    pub reason: Option<&'static str>,
    pub detail: Option<String>,
    /// When time alone may change the verdict.
    pub until: Option<Timestamp>,
    pub next_pass: Option<String>,
    /// Why the next pass would be refused as a whole.
    pub refused: Option<String>,
    pub rules: Vec<Checked>,
    /// Where it may be created, in this order, and where not, if it was reclaimed or is to be.
    pub places: Vec<PlacePart>,
    /// The reclaim that was announced.
    #[serde(serialize_with = "flat")]
    pub observations: Option<Observation>,
    /// The last migrate attempt, as it is stored.
    #[serde(serialize_with = "as_stored")]
    pub last_attempt: Option<Stamp>,
    /// The migrate call whose end was not seen yet.
    pub in_flight: Option<CallPart>,
    pub journal: Option<JournalPart>,
    /// All ids it ever had, old before new.
    pub ids: Vec<InstanceId>,
    /// What was done to any of these, oldest first; the last ten.
    pub attempts: Vec<LifeEvent>,
    /// What happened to any of these, oldest first; the last ten. For the screen.
    #[serde(skip)]
    pub events: Vec<LifeEvent>,
}

/// A place for a replacement. Amounts are in USD per hour for all its GPUs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacePart {
    pub product_id: String,
    pub cluster_id: String,
    pub price: Option<Number<Usd>>,
    /// Missing if the price is not known.
    pub score: Option<Number<Usd>>,
    /// Instances there that do not go.
    pub ours: u32,
    /// Why it is not asked.
    pub left_out: Option<String>,
    /// Whether stock is stated to be there, as far as it is stated.
    pub has_stock: Option<bool>,
    /// Whether it is where the instance was.
    pub is_own: bool,
}

impl PlacePart {
    #[must_use]
    pub fn new((it, left_out): (&Placement, Option<LeftOut>), board: &Board, ask: Ask<'_>) -> Self {
        Self {
            product_id: it.place.product.to_string(),
            cluster_id: it.place.cluster.to_string(),
            price: it.price.map(Number),
            score: it.price.map(|_| usd(board.score(it, ask))),
            ours: board.ours(&it.place),
            left_out: left_out.map(|why| why.to_string()),
            has_stock: (it.stock != Stock::Unstated).then_some(it.stock != Stock::None),
            is_own: it.nearness == Nearness::Own,
        }
    }
}

/// The notice and when it was seen, side by side.
fn flat<S: Serializer>(seen: &Option<Observation>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Flat<'a> {
        spot_status: &'a str,
        reclaim_at: Timestamp,
        first_seen_at: Timestamp,
        last_seen_at: Timestamp,
    }
    let flat = seen.as_ref().map(|Observation { notice, first_seen_at, last_seen_at, down_seen_at: _ }| Flat {
        spot_status: &notice.spot_status,
        reclaim_at: notice.reclaim_at,
        first_seen_at: *first_seen_at,
        last_seen_at: *last_seen_at,
    });
    flat.serialize(serializer)
}

fn as_stored<S: Serializer>(stamp: &Option<Stamp>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = stamp.as_ref().map(|stamp| match stamp {
        Stamp::At(at) => at.to_string(),
        Stamp::Unreadable(value) => value.clone(),
    });
    text.serialize(serializer)
}

/// An open migrate call.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallPart {
    pub called_at: Timestamp,
    pub job_id: String,
    pub call: Call,
}

impl From<&InFlight> for CallPart {
    fn from(call: &InFlight) -> Self {
        Self { called_at: call.called_at, job_id: call.pass.clone(), call: call.call }
    }
}

/// A recreation, without what is kept of the old instance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalPart {
    pub instance_id: InstanceId,
    pub step: &'static str,
    pub since: Timestamp,
    pub opened_at: Timestamp,
    pub cause: String,
    pub replacement: Option<InstanceId>,
    pub marker: String,
    pub failures: u32,
    pub last_error: Option<String>,
    /// Until when it is left alone after repeated failures.
    pub quarantined_until: Option<Timestamp>,
    /// The pass that last wrote it.
    pub job_id: String,
}

impl JournalPart {
    /// A recreation as it stands at `now`.
    #[must_use]
    pub fn new(old: &InstanceId, recreation: &Recreation, now: Timestamp) -> Self {
        Self {
            instance_id: old.clone(),
            step: recreation.step.into_str(),
            since: recreation.since,
            opened_at: recreation.opened_at,
            cause: recreation.cause.in_words(),
            replacement: recreation.step.replacement().cloned(),
            marker: recreation.marker.clone(),
            failures: recreation.failures,
            last_error: recreation.last_error.clone(),
            quarantined_until: recreation.quarantined_until(now),
            job_id: recreation.pass.clone(),
        }
    }
}
