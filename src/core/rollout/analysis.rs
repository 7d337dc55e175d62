//! What moving on-demand instances to spot would save, what speaks against it, and how certain that is.
//!
//! An *opportunity* in the strict sense is an instance whose own product is sold as spot in its own cluster, for its own
//! number of GPUs, for less than it costs now. Whether it may be moved is a separate question, which the three gates of
//! [`gates`](super::gates) answer: a saving that a gate refuses is worth knowing, since most gates name the setting that
//! opens them.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;

use super::findings::{Findings, ListedInstance, Terms};
use super::gates::Gates;
use super::metrics::Workload;
use crate::core::pass::market::Market;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::market::{Quota, Stock};
use crate::core::world::money::{HOURS_PER_MONTH, Usd};
use crate::core::world::snapshot::Shortfall;
use crate::core::world::time::Timestamp;

/// How likely a spot instance in the same place is to be interrupted, and how bad that would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Risk {
    /// Interruptions are rare.
    Low,
    /// Interruptions happen, or their rate is unknown.
    Medium,
    /// Interruptions are frequent, or a replacement would be hard to get.
    High,
}

/// The instance-hours per reclaim at which each risk starts: at most one reclaim a month, or one a week, for an instance
/// that runs all the time. Less than a month of observation is never a low risk.
const RISKS: [(u32, Risk); 2] = [(HOURS_PER_MONTH, Risk::Low), (168, Risk::Medium)];

impl Risk {
    /// The risk of a place with this record of reclaims and this stock. Low stock makes a reclaimed instance hard to replace.
    #[must_use]
    pub fn of(market: Option<&Market>, stock: Stock) -> Self {
        let measured = market.filter(|it| it.rate().is_some()).map_or(Self::Medium, |it| {
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
    pub instance: InstanceId,
    pub name: String,
    /// Its product and cluster, if the provider states both.
    pub place: Option<Place>,
    /// 0 if the provider does not state it.
    pub gpu_num: u32,
    /// The hourly cost of all its GPUs now.
    pub current_cost: Option<Usd>,
    /// The hourly cost of all its GPUs as spot; `None` if it is not sold that way.
    pub spot_cost: Option<Usd>,
    pub risk: Risk,
    /// The record of reclaims in its place; `None` if there is none.
    pub market: Option<Market>,
    pub workload: Workload,
    /// What its move would take of quotas.
    pub claims: Vec<Claim>,
    pub gates: Gates,
    /// Whether all three gates approve, and spot is cheaper.
    pub approved: bool,
}

/// The hourly saving; `None` if spot is not cheaper.
#[must_use]
pub fn saving(current: Option<Usd>, spot: Option<Usd>) -> Option<Usd> {
    Some(current?.minus(spot?)).filter(|saving| *saving > Usd::default())
}

impl Opportunity {
    /// The hourly saving; `None` if there is none, and so no opportunity.
    #[must_use]
    pub fn saving(&self) -> Option<Usd> {
        saving(self.current_cost, self.spot_cost)
    }

    /// The saving in hundredths of a percent of the current cost.
    #[must_use]
    pub fn saving_share(&self) -> Option<u64> {
        self.saving()?.share_of(self.current_cost?)
    }

    /// Why it is not an opportunity.
    #[must_use]
    pub fn why_none(&self) -> &'static str {
        match (self.current_cost, self.spot_cost) {
            (_, None) => "not sold as spot",
            (None, Some(_)) => "its price is not known",
            (Some(_), Some(_)) => "spot is not cheaper",
        }
    }
}

/// What a move takes of something that the account may have so much of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// For example `GPUs`.
    pub what: String,
    pub left: u64,
    pub more: u64,
}

/// What a move would take of the quotas that are known.
fn claims(listed: &ListedInstance, findings: &Findings<'_>, terms: &Terms) -> Vec<Claim> {
    let claim = |what: &str, quota: u64, used: u64, more: u64| Claim {
        what: what.into(),
        left: quota.saturating_sub(used),
        more,
    };
    if let Some(Quota { what, limit, used, more }) = findings.offered.offer().and_then(|it| it.quota.as_ref()) {
        return limit.iter().map(|limit| claim(what, *limit, *used, *more)).collect();
    }
    let usage = findings.usage;
    let gpus = terms.gpu_quota.map(|quota| claim("GPUs", quota.into(), usage.gpus, listed.gpu_num.unwrap_or(0).into()));
    let instances = terms.instance_quota.map(|quota| claim("instances", quota.into(), usage.instances, 1));
    gpus.into_iter().chain(instances).collect()
}

/// Judges an instance by all that is known about it.
#[must_use]
pub fn judge(listed: &ListedInstance, findings: &Findings<'_>, terms: &Terms, now: Timestamp) -> Opportunity {
    let ListedInstance { instance, gpu_num, cpu_num, .. } = listed;
    let (current_cost, spot_cost) = findings.offered.costs(*gpu_num);
    let place = instance.place.as_deref();
    let market = place.and_then(|place| findings.markets.get(place)).copied();
    let stock = match findings.offered.offer() {
        Some(offer) if !offer.available => Stock::None,
        Some(offer) => offer.stock,
        None => Stock::Unstated,
    };
    let gates = Gates::of(listed, findings, terms, now);
    Opportunity {
        instance: instance.id.clone(),
        name: instance.name.to_string(),
        place: place.cloned(),
        gpu_num: gpu_num.unwrap_or(0),
        current_cost,
        spot_cost,
        risk: Risk::of(market.as_ref(), stock),
        market,
        workload: findings.metrics.as_ref().map_or(Workload::Unknown, |it| it.workload(*cpu_num)),
        claims: claims(listed, findings, terms),
        approved: gates.approve() && saving(current_cost, spot_cost).is_some(),
        gates,
    }
}

/// All running on-demand instances that were considered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// Lowest risk first, then the largest saving; instances without a saving last.
    pub opportunities: Vec<Opportunity>,
    /// What is known to be missing from the list of instances.
    pub shortfall: Option<Shortfall>,
    /// What could not be read, in sentences.
    pub notes: Vec<String>,
}

/// How many opportunities there are, and what they save together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalSaving {
    pub count: usize,
    pub hourly: Usd,
}

impl Analysis {
    /// Ranks the instances.
    #[must_use]
    pub fn new(mut opportunities: Vec<Opportunity>, shortfall: Option<Shortfall>, notes: Vec<String>) -> Self {
        opportunities.sort_by(|a, b| {
            let key = |it: &Opportunity| (it.saving().is_none(), it.risk, Reverse(it.saving()));
            key(a).cmp(&key(b)).then_with(|| a.instance.cmp(&b.instance))
        });
        Self { opportunities, shortfall, notes }
    }

    /// The instances that would save something.
    pub fn found(&self) -> impl Iterator<Item = &Opportunity> {
        self.opportunities.iter().filter(|it| it.saving().is_some())
    }

    /// The approved opportunities that the quotas have room for together, since each runs beside what it replaces until the
    /// end; and what the first of the others lacks.
    #[must_use]
    pub fn movable(&self) -> (Vec<&Opportunity>, Option<&str>) {
        let (mut chosen, mut lacks, mut taken) = (Vec::new(), None, HashMap::<&str, u64>::new());
        for it in self.found().filter(|it| it.approved) {
            let so_far = |claim: &Claim| taken.get(claim.what.as_str()).copied().unwrap_or(0);
            match it.claims.iter().find(|claim| so_far(claim).saturating_add(claim.more) > claim.left) {
                Some(claim) => lacks = lacks.or(Some(claim.what.as_str())),
                None => {
                    it.claims.iter().for_each(|claim| *taken.entry(&claim.what).or_default() += claim.more);
                    chosen.push(it);
                }
            }
        }
        (chosen, lacks)
    }

    /// What all opportunities would save together.
    #[must_use]
    pub fn total(&self) -> TotalSaving {
        sum(self.found())
    }

    /// What the opportunities that all gates approve would save together.
    #[must_use]
    pub fn approved(&self) -> TotalSaving {
        sum(self.found().filter(|it| it.approved))
    }
}

fn sum<'a>(opportunities: impl Iterator<Item = &'a Opportunity>) -> TotalSaving {
    let savings: Vec<Usd> = opportunities.filter_map(Opportunity::saving).collect();
    TotalSaving { count: savings.len(), hourly: savings.into_iter().sum() }
}
