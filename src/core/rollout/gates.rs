//! The three gates of an analysis: performance, resource and application. Each gathers evidence for and against a move,
//! and one reason against it is enough to refuse.
//!
//! The confidence is in percent and concerns the verdict. An approval starts at `BASE_CONFIDENCE`, since a hint about
//! stock or a single observation proves nothing, and each doubt lowers it. A refusal is as certain as its most certain
//! reason.

use super::findings::{Findings, ListedInstance, Offered, Probed, Terms};
use super::metrics::ResourceHealth;
use crate::core::world::market::{Offer, Stock};
use crate::core::world::probe::Probe;
use crate::core::world::time::Timestamp;

/// The confidence of an approval without any doubt.
const BASE_CONFIDENCE: u8 = 95;

/// Doubts do not lower an approval below this.
const LEAST_CONFIDENCE: u8 = 5;

/// The confidence of a refusal for a known fact.
const REFUSED_FOR_FACT: u8 = 95;
/// The confidence of a refusal for a hint or a single observation.
const REFUSED_FOR_HINT: u8 = 80;
/// The confidence of a refusal because something is unknown.
const REFUSED_UNKNOWN: u8 = 30;

/// What a doubt takes from an approval: a size that cannot be compared, low stock, something the provider did not report.
const PENALTY_UNCOMPARED: u8 = 10;
const PENALTY_LOW_STOCK: u8 = 25;
const PENALTY_UNREPORTED: u8 = 15;

/// The answer of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum GateVerdict {
    Approve,
    /// There is at least one reason against the move.
    Refuse,
}

/// How a piece of evidence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    For,
    /// Lowers the confidence of an approval by this much.
    Doubt(u8),
    Against(u8),
}

/// One short sentence with its findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub weight: Weight,
    pub text: String,
}

/// The evidence of one gate, in the order in which it was gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    pub evidence: Vec<Evidence>,
}

impl Gate {
    fn say(&mut self, weight: Weight, text: impl Into<String>) {
        self.evidence.push(Evidence { weight, text: text.into() });
    }

    /// The answer.
    #[must_use]
    pub fn verdict(&self) -> GateVerdict {
        if self.against().next().is_some() { GateVerdict::Refuse } else { GateVerdict::Approve }
    }

    /// The confidence in the verdict, in percent.
    #[must_use]
    pub fn confidence(&self) -> u8 {
        let (mut approval, mut refusal) = (BASE_CONFIDENCE, None);
        for evidence in &self.evidence {
            match evidence.weight {
                Weight::For => {}
                Weight::Doubt(takes) => approval = approval.saturating_sub(takes).max(LEAST_CONFIDENCE),
                Weight::Against(sure) => refusal = refusal.max(Some(sure)),
            }
        }
        refusal.unwrap_or(approval)
    }

    /// The reasons for a refusal.
    pub fn against(&self) -> impl Iterator<Item = &str> {
        self.evidence.iter().filter(|it| matches!(it.weight, Weight::Against(_))).map(|it| it.text.as_str())
    }
}

/// All three gates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// Is the spot instance as large, and is the current one healthy?
    pub performance: Gate,
    /// Is there stock and quota for it?
    pub resource: Gate,
    /// Can the application be recreated, and does it respond now?
    pub application: Gate,
}

impl Gates {
    /// Evaluates all three gates.
    #[must_use]
    pub fn of(listed: &ListedInstance, findings: &Findings<'_>, terms: &Terms, now: Timestamp) -> Self {
        Self {
            performance: performance(listed, findings, now),
            resource: resource(listed, findings, terms),
            application: application(listed, &findings.probed, terms),
        }
    }

    /// The gates with their names.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Gate); 3] {
        let Self { performance, resource, application } = self;
        [("performance", performance), ("resource", resource), ("application", application)]
    }

    /// Whether all three approve.
    #[must_use]
    pub fn approve(&self) -> bool {
        self.all().iter().all(|(_, gate)| gate.verdict() == GateVerdict::Approve)
    }
}

/// The offer is at least as large as the instance, and the instance is healthy now.
fn performance(listed: &ListedInstance, findings: &Findings<'_>, now: Timestamp) -> Gate {
    let mut gate = Gate::default();
    match &findings.offered {
        Offered::Offer(offer) => compare(&mut gate, listed, offer),
        Offered::Nothing | Offered::Unknown(_) => {
            gate.say(Weight::Against(REFUSED_UNKNOWN), "the spot offer is unknown");
        }
    }
    let health = findings.metrics.as_ref().map_or(ResourceHealth::Unknown, |it| it.health(listed.cpu_num, now));
    match health {
        ResourceHealth::Healthy { used, unmeasured } => {
            gate.say(Weight::For, format!("healthy now: {used}"));
            for what in unmeasured {
                gate.say(Weight::Doubt(PENALTY_UNCOMPARED), format!("its {what} was not measured"));
            }
        }
        ResourceHealth::Unhealthy { used } => {
            gate.say(Weight::Against(REFUSED_FOR_HINT), format!("near its limits now: {used}"));
        }
        ResourceHealth::Unknown => {
            gate.say(Weight::Against(REFUSED_UNKNOWN), "no fresh metrics show that it is healthy");
        }
    }
    gate
}

/// Compares each size. The number of GPUs is the same, since the query asked for it.
fn compare(gate: &mut Gate, listed: &ListedInstance, offer: &Offer) {
    let Some(gpu_num) = listed.gpu_num else {
        gate.say(Weight::Against(REFUSED_UNKNOWN), "its number of GPUs is unknown");
        return;
    };
    let of_all = |each: Option<u32>| each.map(|each| each.saturating_mul(gpu_num));
    let sizes = [
        ("CPUs", listed.cpu_num, of_all(offer.cpu_per_gpu)),
        ("GB of memory", listed.memory_gb, of_all(offer.memory_per_gpu)),
        ("GB of disk at most", listed.rootfs_size, offer.max_rootfs),
    ];
    let mut not_less = vec![format!("{gpu_num} x {}", offer.product_id)];
    for (what, has, gets) in sizes {
        match (has, gets) {
            (Some(has), Some(gets)) if gets < has => {
                gate.say(Weight::Against(REFUSED_FOR_FACT), format!("it would get {gets} {what} instead of {has}"));
            }
            (Some(_), Some(gets)) => not_less.push(format!("{gets} {what}")),
            (None, _) | (_, None) => {
                gate.say(Weight::Doubt(PENALTY_UNCOMPARED), format!("its {what} cannot be compared"));
            }
        }
    }
    if gate.verdict() == GateVerdict::Approve {
        gate.say(Weight::For, format!("at least as large: {}", not_less.join(", ")));
    }
}

/// There is room for the new instance while the old one still exists.
fn resource(listed: &ListedInstance, findings: &Findings<'_>, terms: &Terms) -> Gate {
    let mut gate = Gate::default();
    stock(&mut gate, listed, &findings.offered);
    let usage = findings.usage;
    let gpus = u64::from(listed.gpu_num.unwrap_or(0));
    let quotas = [
        ("GPUs", "RESPOT_GPU_QUOTA", terms.gpu_quota, usage.gpus, gpus),
        ("instances", "RESPOT_INSTANCE_QUOTA", terms.instance_quota, usage.instances, 1),
    ];
    for (what, setting, quota, used, more) in quotas {
        match quota.map(u64::from) {
            Some(quota) if used + more > quota => {
                let text = format!("no quota for both at once: {used} {what} in use plus {more} more, {quota} allowed");
                gate.say(Weight::Against(REFUSED_FOR_FACT), text);
            }
            Some(quota) => {
                gate.say(Weight::For, format!("{used} {what} in use plus {more} more, {quota} allowed"));
                if !usage.is_complete {
                    gate.say(
                        Weight::Doubt(PENALTY_UNREPORTED),
                        format!("there may be more {what} than the list shows"),
                    );
                }
            }
            None => {
                gate.say(Weight::Doubt(PENALTY_UNREPORTED), format!("the quota of {what} is unknown: set {setting}"));
            }
        }
    }
    gate
}

/// Only its own product in its own cluster counts, so its volumes are where the offer is.
fn stock(gate: &mut Gate, listed: &ListedInstance, offered: &Offered) {
    let place = listed.instance.place.as_deref();
    let (product, cluster) =
        place.map_or(("its product", "its cluster"), |it| (it.product.as_str(), it.cluster.as_str()));
    let offer = match offered {
        Offered::Offer(offer) if offer.price.is_some() => offer,
        Offered::Offer(_) | Offered::Nothing => {
            gate.say(Weight::Against(REFUSED_FOR_FACT), format!("{product} is not sold as spot in {cluster}"));
            return;
        }
        Offered::Unknown(why) => {
            gate.say(Weight::Against(REFUSED_UNKNOWN), format!("the spot offer is unknown: {why}"));
            return;
        }
    };
    let (weight, left) = match offer.stock {
        _ if !offer.available => (Weight::Against(REFUSED_FOR_HINT), "none left"),
        Stock::None => (Weight::Against(REFUSED_FOR_HINT), "none left"),
        Stock::Low => (Weight::Doubt(PENALTY_LOW_STOCK), "few left"),
        Stock::Normal => (Weight::For, "enough left"),
        Stock::High => (Weight::For, "many left"),
        Stock::Unstated => (Weight::Doubt(PENALTY_UNREPORTED), "not reported"),
    };
    gate.say(weight, format!("spot stock of {product} in {cluster}: {left}"));
    let volumes = listed.fittings.as_ref().map(|it| it.network_volumes.as_slice()).unwrap_or_default();
    for volume in volumes {
        gate.say(Weight::For, format!("its network volume {volume} is in {cluster}, like the offer"));
    }
}

/// What it would lose may be lost, its addresses may change, and it responds now.
fn application(listed: &ListedInstance, probed: &Probed, terms: &Terms) -> Gate {
    let mut gate = Gate::default();
    match &listed.fittings {
        Err(what) => gate.say(Weight::Against(REFUSED_UNKNOWN), format!("what it would lose is unknown: {what}")),
        Ok(_) => losses(&mut gate, listed, terms),
    }
    match &terms.probe {
        None => {
            gate.say(Weight::Against(REFUSED_FOR_FACT), "no health probe is configured: set RESPOT_PROBE or --probe");
        }
        Some(probe) => {
            let probe = without_secrets(probe);
            match probed {
                Probed::Passed(took) => {
                    gate.say(Weight::For, format!("{probe} passed within {} ms", took.as_millis()));
                }
                Probed::Failed(why) => gate.say(Weight::Against(REFUSED_FOR_HINT), format!("{probe} failed: {why}")),
                Probed::Unasked => gate.say(Weight::Against(REFUSED_UNKNOWN), format!("{probe} was not run")),
            }
        }
    }
    gate
}

/// What the operator has to consent to. Every instance has a container disk.
fn losses(gate: &mut Gate, listed: &ListedInstance, terms: &Terms) {
    let Ok(fittings) = &listed.fittings else { return };
    let consent = terms.consent(&listed.instance);
    let disk = listed.rootfs_size.map_or(String::new(), |size| format!(" ({size} GB)"));
    let local = match fittings.local_volumes.as_slice() {
        [] => String::new(),
        mounts => format!(" and the data at {}", mounts.join(", ")),
    };
    match consent {
        Some(pattern) => {
            let text = format!("its container disk{disk}{local} may be lost: it matches {}", pattern.as_str());
            gate.say(Weight::For, text);
        }
        None => {
            let text = format!("its container disk{disk}{local} would be lost: allow that with --may-lose");
            gate.say(Weight::Against(REFUSED_FOR_FACT), text);
        }
    }
    let ports = fittings.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (weight, text) = match (ports.is_empty(), terms.notifies, consent) {
        (true, _, _) => (Weight::For, "it has no ports whose addresses could change".into()),
        (false, true, _) => (Weight::For, format!("a webhook is notified of new addresses of its ports {ports}")),
        (false, false, Some(_)) => {
            (Weight::For, format!("the addresses of its ports {ports} may change, as its disk may be lost"))
        }
        (false, false, None) => {
            let text =
                format!("no webhook is notified of new addresses of its ports {ports}: set WEBHOOK_URL or --may-lose");
            (Weight::Against(REFUSED_FOR_HINT), text)
        }
    };
    gate.say(weight, text);
}

/// Omits the path or the command, which may hold a token.
fn without_secrets(probe: &Probe) -> String {
    match probe {
        Probe::Http { port, .. } => format!("the probe http:{port}"),
        Probe::Tcp { port } => format!("the probe tcp:{port}"),
        Probe::Command(_) => "the probe's command".into(),
    }
}
