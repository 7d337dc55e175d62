//! What a replacement is made of and where it can be created. Only the provider knows what that means; here it is
//! kept, passed on and described.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Billing, InstanceId, JobId, Place};
use crate::core::world::market::Stock;
use crate::core::world::money::Usd;

/// The member of a payload that stands for all others where they are encrypted.
pub const SEALED: &str = "sealed";

/// What a replacement is made of, but for its name and its place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    pub billing: Billing,
    /// What is assumed, and what the replacement will lack.
    pub notes: Vec<String>,
    /// The provider's own terms. May contain secrets.
    #[serde(flatten)]
    pub payload: Map<String, Value>,
}

impl Blueprint {
    /// The payload in the provider's own form.
    ///
    /// # Errors
    /// When it is sealed, or another provider or a newer version wrote it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let why = match self.payload.contains_key(SEALED) {
            true => "is sealed, and RESPOT_STORE_KEY is not set",
            false => "cannot be read, so it cannot be created again; nothing was changed",
        };
        serde_json::from_value(Value::Object(self.payload.clone()))
            .map_err(|_| format!("its stored configuration {why}"))
    }
}

impl fmt::Debug for Blueprint {
    /// Without the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { billing, notes, payload: _ } = self;
        write!(f, "a {billing} instance, {notes:?}")
    }
}

/// A replacement to prepare.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub instance: &'a InstanceId,
    pub name: &'a str,
    /// The journal's blueprint, if it has one; otherwise the provider is asked what the old instance is made of.
    pub kept: Option<&'a Blueprint>,
    /// The billing mode of the replacement, if it is not that of the instance.
    pub billing: Option<&'a Billing>,
    /// Whether it keeps product and cluster.
    pub stays: bool,
    /// The failed job that is the reason; it does not count as being at work.
    pub failed_job: Option<&'a JobId>,
    /// Whether the old instance is deleted first, so that a place must be available now.
    pub needs_room: bool,
}

/// A replacement that can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub blueprint: Blueprint,
    /// Where it can be created; never empty. The plan puts those that may be asked now into their order.
    pub placements: Vec<Placement>,
    /// How many GPUs it asks for.
    pub gpus: u32,
    /// What its own product costs, for all its GPUs and an hour.
    pub own_price: Option<Usd>,
    /// Whether its own place comes first after a reclaim: the provider does not migrate, so that it was not asked yet.
    pub is_home_untried: bool,
    /// What ties it to its cluster, if anything does: then `placements` are all there.
    pub tied_by: Option<String>,
    /// What could not be read of the places on offer: there may be more of them.
    pub unread: Option<String>,
}

impl Prepared {
    /// The first place, and the notes.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = self.placements.first().map_or_else(|| "nowhere".into(), |first| first.words.clone());
        for note in &self.blueprint.notes {
            words.push_str("; ");
            words.push_str(note);
        }
        words
    }
}

/// A place where a replacement can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// An empty cluster lets the provider choose.
    pub place: Place,
    /// The name of the cluster, if it is known.
    pub cluster_name: String,
    /// How near it is to where the instance was.
    pub nearness: Nearness,
    /// For all its GPUs and an hour, if it is known.
    pub price: Option<Usd>,
    /// The same on demand.
    pub on_demand_price: Option<Usd>,
    /// A hint.
    pub stock: Stock,
    /// The place seen from the old instance's, with its price, for example `on its own product A in B, 0.67 USD/h`.
    pub words: String,
}

/// How near a place is to where the instance was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// Its own product in its own cluster.
    Own,
    SameCluster,
    Elsewhere,
}

/// Why a replacement cannot be created now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The provider's data do not suffice, for this reason.
    CannotRecreate(String),
    /// No product of its kind is offered now.
    NoPlace { product: String },
    /// Nothing of its kind is available now, and the old instance would be deleted first.
    NoRoom { product: String },
    /// A job is at work on the old instance.
    JobAtWork(JobId),
    /// The old instance does not exist.
    Gone,
    /// What the old instance is made of could not be read.
    Unread { kind: ErrorKind, error: String },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotRecreate(why) => f.write_str(why),
            Self::NoPlace { product } => {
                write!(f, "neither its product {product} nor another of its kind is offered now")
            }
            Self::NoRoom { product } => write!(
                f,
                "neither its product {product} nor another of its kind is available now, so it is not deleted first"
            ),
            Self::JobAtWork(job) => write!(f, "job {job} is at work on it"),
            Self::Gone => f.write_str("it is gone, nothing to do"),
            Self::Unread { kind: _, error } => write!(f, "what it is made of could not be read: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obstacles_in_words() {
        for (obstacle, expected) in [
            (Obstacle::CannotRecreate("it has no image".into()), "it has no image"),
            (Obstacle::NoPlace { product: "p".into() }, "neither its product p nor another of its kind"),
            (Obstacle::NoRoom { product: "p".into() }, "is available now, so it is not deleted first"),
            (Obstacle::JobAtWork(JobId::new("j1")), "job j1 is at work on it"),
            (Obstacle::Gone, "it is gone"),
            (Obstacle::Unread { kind: ErrorKind::Api, error: "HTTP 500".into() }, "could not be read: HTTP 500"),
        ] {
            assert!(obstacle.to_string().contains(expected), "{obstacle}");
        }
    }

    /// An entry of before, which had every field by name, is read as it was written and written as it was read.
    #[test]
    fn the_stored_form_stays_the_same_and_is_never_shown() {
        let stored = serde_json::json!({
            "kind": "gpu", "billing": "spot", "imageUrl": "app:1", "envs": [{"key": "TOKEN", "value": "hunter2"}],
            "gpuNum": 1, "notes": ["a note"],
        });
        let blueprint: Blueprint = serde_json::from_value(stored.clone()).expect("a blueprint");
        assert_eq!((&blueprint.billing, blueprint.notes.as_slice()), (&Billing::Spot, &["a note".to_owned()][..]));
        assert_eq!(serde_json::to_value(&blueprint).expect("JSON"), stored);
        assert_eq!(format!("{blueprint:?}"), r#"a spot instance, ["a note"]"#);
    }
}
