//! The provider that the settings chose, or one on paper; and who writes to it.

use std::collections::HashMap;
use std::time::Duration;

use super::ec2;
use super::http::HttpTransport;
use super::novita::client::Client;
use super::replay::PaperCloud;
use super::{CloudError, CloudRead, CloudWrite, Guard, Made, Order, Ping, Progress, Registered, Rehearsal};
use crate::clock::Reading;
use crate::core::record::invoice::BillRow;
use crate::core::record::trail::ProviderCalls;
use crate::core::recreation::blueprint::{Obstacle, Prepared, Wanted};
use crate::core::rollout::findings::ListedInstance;
use crate::core::rollout::metrics::Metrics;
use crate::core::world::instance::{Instance, InstanceId, Job, ReclaimNotice};
use crate::core::world::market::{Offer, OfferQuery};
use crate::core::world::probe::CloseUp;
use crate::core::world::snapshot::{Abilities, Listing};
use crate::core::world::time::Timestamp;

/// A provider.
pub enum Provider<'a> {
    Novita(Client<HttpTransport>),
    Ec2(Box<ec2::client::Ec2Client<ec2::transport::SignedTransport>>),
    Paper(PaperCloud<'a>),
}

/// Who writes to it.
#[derive(Clone, Copy)]
pub enum ProviderWriter<'a> {
    Cloud(&'a Provider<'a>),
    Rehearsal,
}

macro_rules! each {
    ($cloud:expr, $it:ident => $call:expr) => {
        match $cloud {
            Provider::Novita($it) => $call,
            Provider::Ec2($it) => $call,
            Provider::Paper($it) => $call,
        }
    };
}

impl CloudRead for Provider<'_> {
    fn abilities(&self) -> Abilities {
        each!(self, it => it.abilities())
    }

    fn owner(&self) -> String {
        each!(self, it => it.owner())
    }

    async fn instances(&self, progress: Progress<'_>) -> Result<Listing<Instance>, CloudError> {
        each!(self, it => it.instances(progress).await)
    }

    async fn jobs(&self, since: Timestamp) -> Result<Listing<Job>, CloudError> {
        each!(self, it => it.jobs(since).await)
    }

    async fn close_up(&self, id: &InstanceId) -> Result<Option<CloseUp>, CloudError> {
        each!(self, it => it.close_up(id).await)
    }

    async fn is_sound(&self, id: &InstanceId) -> Result<bool, CloudError> {
        each!(self, it => it.is_sound(id).await)
    }

    async fn row(&self, id: &InstanceId, name: &str) -> Result<Option<Instance>, CloudError> {
        each!(self, it => it.row(id, name).await)
    }

    async fn marked(&self, marker: &str) -> Result<Vec<Instance>, CloudError> {
        each!(self, it => it.marked(marker).await)
    }

    async fn prepare(&self, wanted: &[Wanted<'_>], jobs: &[Job], at_once: usize) -> Vec<Result<Prepared, Obstacle>> {
        each!(self, it => it.prepare(wanted, jobs, at_once).await)
    }

    async fn record(
        &self,
        known: &HashMap<InstanceId, &str>,
        at_once: usize,
    ) -> Vec<(InstanceId, Result<Made, CloudError>)> {
        each!(self, it => it.record(known, at_once).await)
    }

    fn ended(&self, id: &InstanceId) -> Option<ReclaimNotice> {
        each!(self, it => it.ended(id))
    }

    async fn offers(&self, query: &OfferQuery) -> Result<Vec<Offer>, CloudError> {
        each!(self, it => it.offers(query).await)
    }

    async fn fleet(&self, progress: Progress<'_>) -> Result<Listing<ListedInstance>, CloudError> {
        each!(self, it => it.fleet(progress).await)
    }

    fn caveats(&self) -> Vec<String> {
        each!(self, it => it.caveats())
    }

    async fn metrics(
        &self,
        id: &InstanceId,
        from: Timestamp,
        to: Timestamp,
        interval: Duration,
    ) -> Result<Option<Metrics>, CloudError> {
        each!(self, it => it.metrics(id, from, to, interval).await)
    }

    async fn bills(&self, from: Timestamp, to: Timestamp) -> Result<Vec<BillRow>, CloudError> {
        each!(self, it => it.bills(from, to).await)
    }

    async fn ping(&self, timeout: Duration) -> Ping {
        each!(self, it => it.ping(timeout).await)
    }

    fn reading(&self) -> Option<Reading> {
        each!(self, it => it.reading())
    }

    fn calls(&self) -> ProviderCalls {
        each!(self, it => it.calls())
    }
}

impl CloudWrite for ProviderWriter<'_> {
    async fn migrate(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        match self {
            Self::Cloud(cloud) => each!(cloud, it => it.migrate(id, guard).await),
            Self::Rehearsal => Rehearsal.migrate(id, guard).await,
        }
    }

    async fn create(&self, order: Order<'_>, guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        match self {
            Self::Cloud(cloud) => each!(cloud, it => it.create(order, guard).await),
            Self::Rehearsal => Rehearsal.create(order, guard).await,
        }
    }

    async fn delete(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        match self {
            Self::Cloud(cloud) => each!(cloud, it => it.delete(id, guard).await),
            Self::Rehearsal => Rehearsal.delete(id, guard).await,
        }
    }

    fn moves_traffic(&self) -> bool {
        match self {
            Self::Cloud(cloud) => each!(cloud, it => it.moves_traffic()),
            Self::Rehearsal => Rehearsal.moves_traffic(),
        }
    }

    async fn shift(&self, from: &InstanceId, to: &InstanceId, guard: Guard<'_>) -> Result<Option<String>, CloudError> {
        match self {
            Self::Cloud(cloud) => each!(cloud, it => it.shift(from, to, guard).await),
            Self::Rehearsal => Rehearsal.shift(from, to, guard).await,
        }
    }

    async fn register(&self, may: &dyn Fn(&InstanceId) -> bool, guard: Guard<'_>) -> Vec<Registered> {
        match self {
            Self::Cloud(cloud) => each!(cloud, it => it.register(may, guard).await),
            Self::Rehearsal => Rehearsal.register(may, guard).await,
        }
    }
}
