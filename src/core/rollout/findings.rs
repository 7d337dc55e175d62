//! What is known about an instance before it is judged: its row, the offers, its metrics and one sample of its probe.
//! What could not be found out stays unknown, with the reason; it never becomes a number.

use std::time::Duration;

use super::metrics::Metrics;
use crate::core::pass::market::Markets;
use crate::core::pass::rules::selects;
use crate::core::world::instance::{Billing, Instance, Status};
use crate::core::world::market::{Offer, OfferQuery};
use crate::core::world::money::Usd;
use crate::core::world::policy::Selector;
use crate::core::world::probe::{Endpoint, Probe};

/// The operator's settings for what may be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// If not empty, only instances that match one of these are considered.
    pub only: Vec<Selector>,
    /// Instances that match one of these are not considered.
    pub exclude: Vec<Selector>,
    /// Instances that match one of these may lose their container disk and local volumes.
    pub may_lose: Vec<Selector>,
    pub probe: Option<Probe>,
    /// The most GPUs that the account may have at once, if known.
    pub gpu_quota: Option<u32>,
    /// The most instances that the account may have at once, if known.
    pub instance_quota: Option<u32>,
    /// Whether a webhook is notified of new addresses.
    pub notifies: bool,
}

impl Terms {
    /// Whether an instance is considered.
    #[must_use]
    pub fn cover(&self, instance: &Instance) -> bool {
        let any = |patterns: &[Selector]| patterns.iter().any(|it| selects(it, &instance.id, &instance.name));
        (self.only.is_empty() || any(&self.only)) && !any(&self.exclude)
    }

    /// The pattern by which the operator consented to what an instance would lose.
    #[must_use]
    pub fn consent(&self, instance: &Instance) -> Option<&Selector> {
        self.may_lose.iter().find(|it| it.matches(&instance.id, &instance.name))
    }
}

/// A row of the instance list with all that an analysis needs. It holds no environment, no command and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedInstance {
    pub instance: Instance,
    /// Empty if the provider left it out.
    pub product_name: String,
    pub gpu_num: Option<u32>,
    pub cpu_num: Option<u32>,
    pub memory_gb: Option<u32>,
    /// Container disk in GB.
    pub rootfs_size: Option<u32>,
    /// Ports and volumes, or the name of a field that cannot be read.
    pub fittings: Result<Fittings, String>,
    /// The addresses of its ports.
    pub endpoints: Vec<Endpoint>,
}

/// The ports and volumes of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fittings {
    /// What has addresses that change with a move, for example `its ports 22, 8080`; without ports that the provider keeps
    /// for itself.
    pub addressed: Option<String>,
    /// By id.
    pub network_volumes: Vec<String>,
    /// Mount points or names of volumes that a recreation loses besides its disk.
    pub local_volumes: Vec<String>,
    /// What the provider calls the disk that a recreation loses, for example `container disk`.
    pub disk: &'static str,
    /// What a move takes along, in sentences.
    pub carried: Vec<String>,
    /// What else the operator has to consent to, in sentences.
    pub consents: Vec<String>,
    /// What rules a move out, in sentences.
    pub obstacles: Vec<String>,
}

impl ListedInstance {
    /// Whether it could be moved at all.
    #[must_use]
    pub fn is_on_demand(&self) -> bool {
        let Instance { billing, status, aside, .. } = &self.instance;
        *billing == Billing::OnDemand && *status == Status::Running && aside.is_none()
    }

    /// The query for spot offers like it; `None` if what to query for is unknown.
    #[must_use]
    pub fn query(&self) -> Option<OfferQuery> {
        let place = self.instance.place.as_deref()?;
        Some(OfferQuery {
            cluster_id: Some(place.cluster.to_string()),
            product_name: self.product_name.clone(),
            gpu_num: self.gpu_num?,
            billing: Billing::Spot.to_string(),
        })
    }
}

/// What counts against the account's quotas: every instance that is not being removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub instances: u64,
    pub gpus: u64,
    /// Whether no instance is missing from the list, and each states its number of GPUs.
    pub is_complete: bool,
}

impl Usage {
    /// Counts a listing.
    #[must_use]
    pub fn of(rows: &[ListedInstance], is_complete: bool) -> Self {
        let mut usage = Self { is_complete, ..Self::default() };
        for row in rows.iter().filter(|it| !it.instance.status.is_going()) {
            usage.instances += 1;
            usage.gpus += u64::from(row.gpu_num.unwrap_or(0));
            usage.is_complete &= row.gpu_num.is_some();
        }
        usage
    }
}

/// The spot offer for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    Offer(Offer),
    /// The provider does not list its product in its cluster.
    Nothing,
    Unknown(String),
}

impl Offered {
    /// Finds the product of an instance among the offers in its cluster.
    #[must_use]
    pub fn among(offers: &[Offer], product: &str) -> Self {
        let own = offers.iter().find(|offer| offer.product_id == product);
        own.map_or(Self::Nothing, |offer| Self::Offer(offer.clone()))
    }

    pub(super) fn offer(&self) -> Option<&Offer> {
        if let Self::Offer(offer) = self { Some(offer) } else { None }
    }

    /// The hourly costs of all GPUs, on demand and as spot.
    #[must_use]
    pub fn costs(&self, gpu_num: Option<u32>) -> (Option<Usd>, Option<Usd>) {
        let all = |price: Option<Usd>| Some(price?.times(gpu_num?));
        self.offer().map_or((None, None), |offer| (all(offer.on_demand_price), all(offer.price)))
    }
}

/// The result of one sample of the probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Probed {
    Passed(Duration),
    Failed(String),
    /// No sample was taken.
    #[default]
    Unasked,
}

/// All that is known about one instance besides its row.
#[derive(Clone, Debug)]
pub struct Findings<'a> {
    pub offered: Offered,
    /// `None` if they could not be read.
    pub metrics: Option<Metrics>,
    pub probed: Probed,
    pub usage: Usage,
    /// How often spot instances are reclaimed.
    pub markets: &'a Markets,
}
