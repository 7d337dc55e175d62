//! What the program needs of a provider of GPU instances. Each provider is a folder below; [`request`] is the request
//! engine that HTTP providers share.
//!
//! A pass holds a reader and a writer. In a rehearsal the writer is [`Rehearsal`]; a dry run has none.

pub mod any;
pub mod ec2;
pub mod http;
pub mod novita;
pub mod replay;
pub mod request;
pub mod transport;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::clock::Reading;
use crate::core::record::invoice::BillRow;
use crate::core::record::trail::ProviderCalls;
use crate::core::recreation::blueprint::{Blueprint, Obstacle, Placement, Prepared, Wanted};
use crate::core::rollout::findings::ListedInstance;
use crate::core::rollout::metrics::Metrics;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Instance, InstanceId, Job, ReclaimNotice};
use crate::core::world::market::{Offer, OfferQuery};
use crate::core::world::probe::CloseUp;
use crate::core::world::snapshot::{Abilities, Listing};
use crate::core::world::time::Timestamp;
use crate::stop::Stop;

/// Called after each page with the rows received so far, and their total if the provider reports it.
pub type Progress<'a> = &'a dyn Fn(u64, Option<u64>);

/// Checked before every attempt at a write.
#[derive(Clone, Copy)]
pub struct Guard<'a> {
    /// Ends the waits before an attempt, never an attempt itself.
    pub stop: &'a Stop,
    /// Asked right before sending; `false` ends the call without sending.
    pub may_send: &'a dyn Fn() -> bool,
}

/// Reading from the provider. Every error means that the provider could not be reached for about 30 s, refused the key or
/// sent an unexpected response.
pub trait CloudRead {
    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// The provider and, where it is known, the account: what a memory of passes is about. Empty if that does not matter.
    fn owner(&self) -> String {
        String::new()
    }

    /// Every instance, each once, ordered by id.
    fn instances(&self, progress: Progress<'_>) -> impl Future<Output = Result<Listing<Instance>, CloudError>>;

    /// Every job created at `since` or later, of any kind. A provider without jobs has none.
    fn jobs(&self, since: Timestamp) -> impl Future<Output = Result<Listing<Job>, CloudError>> {
        let _ = since;
        async { Ok(Listing::complete(Vec::new())) }
    }

    /// How an instance is right now, where it can be reached and what it costs; `None` if it does not exist.
    fn close_up(&self, id: &InstanceId) -> impl Future<Output = Result<Option<CloseUp>, CloudError>>;

    /// Whether the provider's own checks of an instance that runs have passed, where it makes any.
    fn is_sound(&self, id: &InstanceId) -> impl Future<Output = Result<bool, CloudError>> {
        let _ = id;
        async { Ok(true) }
    }

    /// The row of an instance in the list, which may say more than its details, for example a reclaim notice; `None` if it
    /// is not listed.
    fn row(&self, id: &InstanceId, name: &str) -> impl Future<Output = Result<Option<Instance>, CloudError>> {
        let _ = name;
        async { Ok(self.close_up(id).await?.map(|found| found.instance)) }
    }

    /// The instances that carry this marker. Those that are missing may exist all the same.
    fn marked(&self, marker: &str) -> impl Future<Output = Result<Vec<Instance>, CloudError>>;

    /// What replacements are made of and where they can be created, each in its place; at most `at_once` at a time.
    /// `jobs` are those of the snapshot.
    fn prepare(
        &self,
        wanted: &[Wanted<'_>],
        jobs: &[Job],
        at_once: usize,
    ) -> impl Future<Output = Vec<Result<Prepared, Obstacle>>>;

    /// What the instances of the last listing are made of that run, for a provider that forgets it when they end; only those
    /// whose mark is not `known`. Each with its error, if it could not be read.
    fn record(
        &self,
        known: &HashMap<InstanceId, &str>,
        at_once: usize,
    ) -> impl Future<Output = Vec<(InstanceId, Result<Made, CloudError>)>> {
        let _ = (known, at_once);
        async { Vec::new() }
    }

    /// Whether an instance that the last listing lacks was reclaimed, as far as the provider still tells.
    fn ended(&self, id: &InstanceId) -> Option<ReclaimNotice> {
        let _ = id;
        None
    }

    /// The products on offer.
    fn offers(&self, query: &OfferQuery) -> impl Future<Output = Result<Vec<Offer>, CloudError>>;

    /// Every instance with its sizes, ports and volumes.
    fn fleet(&self, progress: Progress<'_>) -> impl Future<Output = Result<Listing<ListedInstance>, CloudError>>;

    /// What an analysis of the last listing cannot know, in sentences.
    fn caveats(&self) -> Vec<String> {
        Vec::new()
    }

    /// The metrics of an instance, a point each `interval`; `None` if it does not exist.
    fn metrics(
        &self,
        id: &InstanceId,
        from: Timestamp,
        to: Timestamp,
        interval: Duration,
    ) -> impl Future<Output = Result<Option<Metrics>, CloudError>>;

    /// What was billed for the instances of the account from `from` to `to`, by hour. A provider that does not say so has
    /// billed nothing.
    fn bills(&self, from: Timestamp, to: Timestamp) -> impl Future<Output = Result<Vec<BillRow>, CloudError>> {
        let _ = (from, to);
        async { Ok(Vec::new()) }
    }

    /// Sends the read that every pass starts with, for one instance, once and for at most `timeout`.
    fn ping(&self, timeout: Duration) -> impl Future<Output = Ping>;

    /// What the provider's clock showed when it last answered, if it says so.
    fn reading(&self) -> Option<Reading> {
        None
    }

    /// The calls made so far, writes included.
    fn calls(&self) -> ProviderCalls;
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

/// What an instance is made of while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Changes with what it is made of.
    pub mark: String,
    /// The error says why it cannot be launched again.
    pub blueprint: Result<Blueprint, String>,
}

/// A replacement that was to be registered in a target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// `None` where it is not known what is in the group.
    pub instance: Option<InstanceId>,
    /// For example `web:8000`.
    pub group: String,
    pub answer: Result<(), CloudError>,
}

/// A replacement to create.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Marks it as a replacement: in its name, or in a tag.
    pub marker: &'a str,
    /// The old instance.
    pub replaces: &'a InstanceId,
    pub blueprint: &'a Blueprint,
    pub placement: &'a Placement,
}

/// Writing to the provider. A write is only sent again if it cannot have had an effect; otherwise the error's [`Effect`]
/// says whether it may have had one.
pub trait CloudWrite {
    /// Asks the provider to migrate an instance. Returns when the call was accepted, long before the instance runs.
    fn migrate(&self, id: &InstanceId, guard: Guard<'_>) -> impl Future<Output = Result<(), CloudError>>;

    /// Creates an instance and returns its id, long before it runs.
    fn create(&self, order: Order<'_>, guard: Guard<'_>) -> impl Future<Output = Result<InstanceId, CloudError>>;

    /// Deletes an instance, or takes it out of service in the way that the settings want. One that does not exist anymore is
    /// a success.
    fn delete(&self, id: &InstanceId, guard: Guard<'_>) -> impl Future<Output = Result<(), CloudError>>;

    /// Whether the settings name something at the provider that traffic comes through.
    fn moves_traffic(&self) -> bool {
        false
    }

    /// Takes the next step to move traffic from one instance to another. Returns what is waited for; `None` once it is done.
    fn shift(
        &self,
        from: &InstanceId,
        to: &InstanceId,
        guard: Guard<'_>,
    ) -> impl Future<Output = Result<Option<String>, CloudError>> {
        let _ = (from, to, guard);
        async { Ok(None) }
    }

    /// Lets traffic reach replacements, as [`CloudRead::record`] found them running, where it reached what they replace.
    /// Only those that `may` be acted on.
    fn register(&self, may: &dyn Fn(&InstanceId) -> bool, guard: Guard<'_>) -> impl Future<Output = Vec<Registered>> {
        let _ = (may, guard);
        async { Vec::new() }
    }
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
    NotSent,
    /// The provider refused it, so it had no effect.
    Refused,
    /// Unknown: no response, an incomplete one, or a server error.
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
    pub hint: Option<&'static str>,
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.message)
    }
}

impl std::error::Error for CloudError {}
