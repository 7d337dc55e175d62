//! What a provider of GPU instances can be asked, and what can be asked of it. Providers are in folders below.
//!
//! Reading and writing are two traits, and no writer is a reader: a pass holds one of each, so that a rehearsal is the
//! real reader beside [`Rehearsal`], and a dry run has no writer at all.

pub mod http;
pub mod novita;
pub mod request;
pub mod transport;

use std::fmt;
use std::time::Duration;

use crate::core::record::outbox::Connections;
use crate::core::record::trail::ProviderCalls;
use crate::core::recreation::blueprint::{Cluster, Configuration, Offer, OfferQuery, Placement, RecreateSpec};
use crate::core::rollout::findings::ListedInstance;
use crate::core::rollout::metrics::Metrics;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Instance, InstanceId, Job, JobId};
use crate::core::world::probe::CloseUp;
use crate::core::world::snapshot::Listing;
use crate::core::world::time::Timestamp;
use crate::stop::Stop;

/// Told after each page: rows received so far, and how many there are if the provider said so.
pub type Progress<'a> = &'a dyn Fn(u64, Option<u64>);

/// Stands before every sending of a write.
#[derive(Clone, Copy)]
pub struct Guard<'a> {
    /// Ends the waits before a sending; never a sending itself.
    pub stop: &'a Stop,
    /// Asked at the last moment; `false` ends the call unsent.
    pub may_send: &'a dyn Fn() -> bool,
}

/// Reading the provider's world. Changes nothing there.
pub trait CloudRead {
    /// Every instance, each once, ordered by id, with a word on what is known to be missing.
    ///
    /// # Errors
    /// When the provider cannot be reached for about 30 s, refuses the key or answers nonsense.
    fn instances(&self, progress: Progress<'_>) -> impl Future<Output = Result<Listing<Instance>, CloudError>>;

    /// Every job made at `since` or later, of any kind.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn jobs(&self, since: Timestamp) -> impl Future<Output = Result<Listing<Job>, CloudError>>;

    /// One job, however old; `None` when the provider does not list it.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn job(&self, id: &JobId) -> impl Future<Output = Result<Option<Job>, CloudError>>;

    /// One instance; `None` when the provider says that it does not exist.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn instance(&self, id: &InstanceId) -> impl Future<Output = Result<Option<Instance>, CloudError>>;

    /// The instances with exactly this name. Finds, but proves no absence: the provider's filter is fuzzy.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn named(&self, name: &str) -> impl Future<Output = Result<Vec<Instance>, CloudError>>;

    /// Everything known about an instance, list row and detail answer merged; `None` when it does not exist. `name` is
    /// the one it has in the list, by which its row is found again.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn configuration(
        &self,
        id: &InstanceId,
        name: &str,
    ) -> impl Future<Output = Result<Option<Configuration>, CloudError>>;

    /// Where an instance can be reached; empty while it comes up.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn connections(&self, id: &InstanceId) -> impl Future<Output = Result<Connections, CloudError>>;

    /// How an instance is right now, where it can be reached and what it costs; `None` when it does not exist.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn close_up(&self, id: &InstanceId) -> impl Future<Output = Result<Option<CloseUp>, CloudError>>;

    /// How many calls were made so far, writes included.
    fn calls(&self) -> ProviderCalls;

    /// The products on offer.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn offers(&self, query: &OfferQuery) -> impl Future<Output = Result<Vec<Offer>, CloudError>>;

    /// The clusters.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn clusters(&self) -> impl Future<Output = Result<Vec<Cluster>, CloudError>>;

    /// Every instance with its sizes, ports and volumes, from the list alone.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn fleet(&self, progress: Progress<'_>) -> impl Future<Output = Result<Listing<ListedInstance>, CloudError>>;

    /// What was measured of an instance from a time to another, a point each `interval`; `None` when it does not exist.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    fn metrics(
        &self,
        id: &InstanceId,
        from: Timestamp,
        to: Timestamp,
        interval: Duration,
    ) -> impl Future<Output = Result<Option<Metrics>, CloudError>>;

    /// Sends the read that every pass starts with, for one instance, once and for at most `timeout`.
    fn ping(&self, timeout: Duration) -> impl Future<Output = Ping>;
}

/// The result of one small read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Whether a pass could use the response.
    pub answer: Result<(), CloudError>,
    /// Whether there was a response at all.
    pub responded: bool,
    /// The provider's clock, to the second.
    pub date: Option<Timestamp>,
}

/// What to create.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The name of the new instance.
    pub name: &'a str,
    /// What it is made of.
    pub spec: &'a RecreateSpec,
    /// Where it is to be.
    pub placement: &'a Placement,
}

/// Changing the provider's world.
pub trait CloudWrite {
    /// Asks the provider to migrate an instance. Returns when the call was accepted, which is long before the instance
    /// runs. Sent again only where the first sending cannot have had an effect.
    ///
    /// # Errors
    /// [`CloudError`], whose [`Effect`] says whether the call may have worked all the same.
    fn migrate(&self, id: &InstanceId, guard: Guard<'_>) -> impl Future<Output = Result<(), CloudError>>;

    /// Creates an instance and answers its id, long before it runs. Sent again only where the first sending cannot have
    /// had an effect.
    ///
    /// # Errors
    /// [`CloudError`], whose [`Effect`] says whether it may exist all the same.
    fn create(&self, order: Order<'_>, guard: Guard<'_>) -> impl Future<Output = Result<InstanceId, CloudError>>;

    /// Deletes an instance. One that does not exist any more is a success.
    ///
    /// # Errors
    /// [`CloudError`], whose [`Effect`] says whether it may be gone all the same.
    fn delete(&self, id: &InstanceId, guard: Guard<'_>) -> impl Future<Output = Result<(), CloudError>>;
}

/// The writer of a rehearsal: sends nothing.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal;

impl CloudWrite for Rehearsal {
    async fn migrate(&self, _id: &InstanceId, _guard: Guard<'_>) -> Result<(), CloudError> {
        Ok(())
    }

    async fn create(&self, _order: Order<'_>, _guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        Err(rehearsed("create"))
    }

    async fn delete(&self, _id: &InstanceId, _guard: Guard<'_>) -> Result<(), CloudError> {
        Err(rehearsed("delete"))
    }
}

fn rehearsed(call: &str) -> CloudError {
    CloudError {
        kind: ErrorKind::Configuration,
        effect: Effect::NotSent,
        not_found: false,
        call: call.into(),
        message: "not sent in a rehearsal".into(),
        hint: None,
    }
}

/// Whether a failed call may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Not one byte was sent, so it had none.
    NotSent,
    /// The provider said no, so it had none.
    Refused,
    /// Nobody knows: no answer, half an answer, or a server's error.
    Possible,
}

/// A call that did not succeed. Never contains a request body or the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudError {
    /// The class, which decides how to proceed.
    pub kind: ErrorKind,
    pub effect: Effect,
    /// Whether the provider says that what the call named does not exist.
    pub not_found: bool,
    /// The call, for example `GET /v1/gpu/instances`.
    pub call: String,
    /// The provider's response, shortened and without secrets, or what happened to the connection.
    pub message: String,
    /// How to fix it.
    pub hint: Option<&'static str>,
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.message)
    }
}

impl std::error::Error for CloudError {}
