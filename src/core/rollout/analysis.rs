//! What moving on-demand instances to spot would save, what speaks against it, and how sure that is.
//!
//! Everything here is decided from values: rows of the instance list, offers, metrics, one sample of a probe, and what
//! this store has seen of reclaims. What is not known stays so, and says so; it never becomes a number.
//!
//! An *opportunity* in the strict sense is an instance whose own product is sold as spot in its own cluster, for its own
//! number of GPUs, for less than it costs now. Whether it may be moved is another question, which three gates answer.
//! Both are kept apart: a saving that a gate refuses is worth knowing, since most gates name the setting that opens them.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::time::Duration;

use serde::Serialize;

use super::metrics::{Metrics, Workload};
use crate::core::pass::exposure::{Exposure, Exposures};
use crate::core::recreation::blueprint::{NetworkVolume, Offer, OfferQuery, Port, Stock};
pub use crate::core::rollout::gates::{Evidence, Gate, Gates, Verdict, Weight};
use crate::core::world::instance::{Billing, Instance, InstanceId, Place, Status};
use crate::core::world::money::{HOURS_PER_MONTH, Usd};
use crate::core::world::policy::Selector;
use crate::core::world::probe::{Endpoint, Probe};
use crate::core::world::snapshot::Shortfall;
use crate::core::world::time::Timestamp;

/// What the operator says about instances that may be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// When not empty, only what matches one of these is looked at.
    pub only: Vec<Selector>,
    /// What matches one of these is not.
    pub exclude: Vec<Selector>,
    /// What matches one of these may lose its container disk and its local volumes.
    pub may_lose: Vec<Selector>,
    /// How health and speed are measured.
    pub probe: Option<Probe>,
    /// GPUs that the account may have at once, if the operator says.
    pub gpu_quota: Option<u32>,
    /// Instances that the account may have at once, if the operator says.
    pub instance_quota: Option<u32>,
    /// Whether somebody is told of new addresses.
    pub tells: bool,
}

impl Terms {
    /// Whether an instance is looked at.
    #[must_use]
    pub fn cover(&self, instance: &Instance) -> bool {
        let any = |patterns: &[Selector]| patterns.iter().any(|it| it.matches(&instance.id, &instance.name));
        (self.only.is_empty() || any(&self.only)) && !any(&self.exclude)
    }

    /// The pattern that consents to what an instance would lose.
    #[must_use]
    pub fn consent(&self, instance: &Instance) -> Option<&Selector> {
        self.may_lose.iter().find(|it| it.matches(&instance.id, &instance.name))
    }
}

/// A row of the instance list with everything that an analysis needs: no environment, no command, nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// How it is.
    pub instance: Instance,
    /// The product's name; empty if the provider left it out.
    pub product_name: String,
    /// GPUs.
    pub gpu_num: Option<u32>,
    /// CPUs.
    pub cpu_num: Option<u32>,
    /// Memory in GB.
    pub memory_gb: Option<u32>,
    /// Container disk in GB.
    pub rootfs_size: Option<u32>,
    /// Its ports and volumes; the name of a field that cannot be read.
    pub fittings: Result<Fittings, String>,
    /// Where its ports can be reached.
    pub endpoints: Vec<Endpoint>,
}

/// What is attached to an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fittings {
    /// Ports.
    pub ports: Vec<Port>,
    /// Network volumes.
    pub network_volumes: Vec<NetworkVolume>,
    /// Mount points of volumes on the node itself.
    pub local_volumes: Vec<String>,
}

impl Member {
    /// Whether it is an instance that could be moved at all.
    #[must_use]
    pub fn is_on_demand(&self) -> bool {
        self.instance.billing == Billing::OnDemand && self.instance.status == Status::Running
    }

    /// The question for offers like it as spot; `None` if what to ask for is not known.
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

/// What the account has, which a quota counts: whatever is not going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Instances.
    pub instances: u64,
    /// Their GPUs.
    pub gpus: u64,
    /// Whether that is all: no instance is missing, and none without its number of GPUs.
    pub is_complete: bool,
}

impl Usage {
    /// Counts a listing.
    #[must_use]
    pub fn of(members: &[Member], is_complete: bool) -> Self {
        let mut usage = Self { is_complete, ..Self::default() };
        for member in members.iter().filter(|it| !it.instance.status.is_going()) {
            usage.instances += 1;
            usage.gpus += u64::from(member.gpu_num.unwrap_or(0));
            usage.is_complete &= member.gpu_num.is_some();
        }
        usage
    }
}

/// What is on offer in place of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Its own product.
    Offer(Offer),
    /// The provider does not list its product there.
    Nothing,
    /// Nobody knows, and why.
    Unknown(String),
}

impl Offered {
    /// Looks for the product of an instance among the offers in its cluster.
    #[must_use]
    pub fn among(offers: &[Offer], product: &str) -> Self {
        let own = offers.iter().find(|offer| offer.product_id == product);
        own.map_or(Self::Nothing, |offer| Self::Offer(offer.clone()))
    }

    fn offer(&self) -> Option<&Offer> {
        if let Self::Offer(offer) = self { Some(offer) } else { None }
    }

    /// What all GPUs cost per hour on demand and as spot.
    #[must_use]
    pub fn costs(&self, gpu_num: Option<u32>) -> (Option<Usd>, Option<Usd>) {
        let all = |price: Option<Usd>| Some(price?.times(gpu_num?));
        self.offer().map_or((None, None), |offer| (all(offer.on_demand_price), all(offer.price)))
    }
}

/// What one sample of the probe brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Probed {
    /// A good answer.
    Passed(Duration),
    /// A bad one, or none.
    Failed(String),
    /// Nobody asked.
    #[default]
    Unasked,
}

/// Everything that was found out about one instance.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What is on offer.
    pub offered: Offered,
    /// What was measured of it; `None` if that could not be read.
    pub metrics: Option<Metrics>,
    /// The sample of the probe.
    pub probed: Probed,
    /// What the account has.
    pub usage: Usage,
    /// How often spot instances are taken.
    pub exposures: &'a Exposures,
}

/// How likely it is that a spot instance in its place is interrupted, and how bad that would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Risk {
    /// Hardly.
    Low,
    /// Now and then, or nobody knows.
    Medium,
    /// Often, or it could not be replaced.
    High,
}

/// From so many instance-hours for each reclaim on, the risk is this: hardly more than one a month, or than one a week,
/// for an instance that runs all the time. What was seen for less than a month in all is not called low.
const RISKS: [(u32, Risk); 2] = [(HOURS_PER_MONTH, Risk::Low), (168, Risk::Medium)];

impl Risk {
    /// Of a place where this was seen, with so much in stock. Where little is left, what is taken is hard to replace.
    #[must_use]
    pub fn of(exposure: Option<&Exposure>, stock: Stock) -> Self {
        let measured = exposure.filter(|it| it.rate().is_some()).map_or(Self::Medium, |it| {
            let hours = it.hours();
            let fits = |(each, risk): &(u32, Risk)| {
                let reclaims = if *risk == Self::Low { it.reclaims.max(1) } else { it.reclaims };
                hours >= u64::from(*each).saturating_mul(reclaims)
            };
            RISKS.iter().find(|row| fits(row)).map_or(Self::High, |(_, risk)| *risk)
        });
        match stock {
            Stock::None => Self::High,
            Stock::Low => measured.max(Self::Medium),
            Stock::Normal | Stock::High | Stock::Unstated => measured,
        }
    }
}

/// One running on-demand instance, whether or not it could be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opportunity {
    /// The on-demand instance.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// Its product and cluster, if the provider says both.
    pub place: Option<Place>,
    /// Its GPUs; 0 if the provider does not say.
    pub gpu_num: u32,
    /// The hourly cost of all its GPUs now.
    pub current_cost: Option<Usd>,
    /// The hourly cost of all its GPUs as spot; `None` if it is not sold that way.
    pub spot_cost: Option<Usd>,
    /// The risk.
    pub risk: Risk,
    /// What was seen of reclaims in its place; `None` if nothing was.
    pub exposure: Option<Exposure>,
    /// How it works.
    pub workload: Workload,
    /// What speaks for and against it.
    pub gates: Gates,
    /// Whether all three gates approve, and spot is cheaper.
    pub approved: bool,
}

/// The hourly saving; `None` if spot is not cheaper.
#[must_use]
pub fn saving(current: Option<Usd>, spot: Option<Usd>) -> Option<Usd> {
    Some(current? - spot?).filter(|saving| *saving > Usd::default())
}

impl Opportunity {
    /// The hourly saving; `None` if there is none, and so no opportunity.
    #[must_use]
    pub fn saving(&self) -> Option<Usd> {
        saving(self.current_cost, self.spot_cost)
    }

    /// The same in hundredths of a percent of what it costs now.
    #[must_use]
    pub fn saving_share(&self) -> Option<u64> {
        self.saving()?.share_of(self.current_cost?)
    }

    /// Why it is no opportunity.
    #[must_use]
    pub fn why_none(&self) -> &'static str {
        match (self.current_cost, self.spot_cost) {
            (_, None) => "not sold as spot",
            (None, Some(_)) => "its price is not known",
            (Some(_), Some(_)) => "spot is not cheaper",
        }
    }
}

/// Puts everything that was found out about an instance together.
#[must_use]
pub fn judge(member: &Member, facts: &Facts<'_>, terms: &Terms, now: Timestamp) -> Opportunity {
    let Member { instance, gpu_num, cpu_num, .. } = member;
    let (current_cost, spot_cost) = facts.offered.costs(*gpu_num);
    let place = instance.place.as_deref();
    let exposure = place.and_then(|place| facts.exposures.get(place)).copied();
    let stock = match facts.offered.offer() {
        Some(offer) if !offer.available => Stock::None,
        Some(offer) => offer.stock,
        None => Stock::Unstated,
    };
    let gates = Gates::of(member, facts, terms, now);
    Opportunity {
        instance: instance.id.clone(),
        name: instance.name.to_string(),
        place: place.cloned(),
        gpu_num: gpu_num.unwrap_or(0),
        current_cost,
        spot_cost,
        risk: Risk::of(exposure.as_ref(), stock),
        exposure,
        workload: facts.metrics.as_ref().map_or(Workload::Unknown, |it| it.workload(*cpu_num)),
        approved: gates.approve() && saving(current_cost, spot_cost).is_some(),
        gates,
    }
}

/// Every running on-demand instance that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// Ranked: lowest risk first, then what saves most; what saves nothing last.
    pub opportunities: Vec<Opportunity>,
    /// What is known to be missing from the list of instances.
    pub shortfall: Option<Shortfall>,
    /// What could not be read, in sentences.
    pub notes: Vec<String>,
}

/// How many opportunities there are, and what they save together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalSaving {
    /// The number of opportunities.
    pub count: usize,
    /// The hourly saving.
    pub hourly: Usd,
}

impl Analysis {
    /// Ranks what was found.
    #[must_use]
    pub fn new(mut opportunities: Vec<Opportunity>, shortfall: Option<Shortfall>, notes: Vec<String>) -> Self {
        opportunities.sort_by(|a, b| {
            let key = |it: &Opportunity| (it.saving().is_none(), it.risk, Reverse(it.saving()));
            key(a).cmp(&key(b)).then_with(|| a.instance.cmp(&b.instance))
        });
        Self { opportunities, shortfall, notes }
    }

    /// Those that would save something.
    pub fn found(&self) -> impl Iterator<Item = &Opportunity> {
        self.opportunities.iter().filter(|it| it.saving().is_some())
    }

    /// What all opportunities would save.
    #[must_use]
    pub fn total(&self) -> TotalSaving {
        sum(self.found())
    }

    /// What those would save that all gates approve.
    #[must_use]
    pub fn approved(&self) -> TotalSaving {
        sum(self.found().filter(|it| it.approved))
    }
}

fn sum<'a>(opportunities: impl Iterator<Item = &'a Opportunity>) -> TotalSaving {
    let savings: Vec<Usd> = opportunities.filter_map(Opportunity::saving).collect();
    TotalSaving { count: savings.len(), hourly: savings.into_iter().sum() }
}
