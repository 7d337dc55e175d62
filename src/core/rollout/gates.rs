//! The three gates of an analysis: performance, resource and application. Each gathers evidence for and against a move,
//! and one reason against it is enough to refuse.
//!
//! The confidence concerns the verdict, and follows from the evidence: see [`Certainty`].

use std::time::Duration;

use super::findings::{Findings, ListedInstance, Offered, Probed, Terms};
use super::metrics::{self, ResourceHealth};
use crate::core::pass::market::Markets;
use crate::core::world::market::{Offer, Quota, Stock};
use crate::core::world::probe::Probe;
use crate::core::world::time::Timestamp;

/// How well something is known, in thousandths: 1000 if the provider or the operator states it, (n + 1) / (n + 2) after n
/// observations that agree (Laplace's rule of succession), which is 500, even odds, for what is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Certainty(u64);

impl Certainty {
    pub const STATED: Self = Self(1000);
    pub const UNKNOWN: Self = Self(500);

    /// After this many observations that agree, and this many that do not.
    #[must_use]
    pub fn observed(agree: u64, differ: u64) -> Self {
        let all = agree.saturating_add(differ).saturating_add(2);
        Self((agree.saturating_add(1).saturating_mul(1000).saturating_add(all / 2)) / all)
    }

    /// The same of an old observation: as good as unknown at the age at which it is stale.
    fn aged(self, age: Duration, stale: Duration) -> Self {
        let left = stale.saturating_sub(age).as_secs();
        let Self(unknown) = Self::UNKNOWN;
        Self(unknown + self.0.saturating_sub(unknown) * left / stale.as_secs().max(1))
    }
}

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
    /// For the move; what is unknown is for it, too, and lowers the confidence of an approval.
    For(Certainty),
    Against(Certainty),
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

    /// The confidence in the verdict, in percent: that of the surest reason for a refusal, or the mean of all evidence for an
    /// approval.
    #[must_use]
    pub fn confidence(&self) -> u8 {
        let (mut approval, mut count, mut refusal) = (0, 0, None);
        for evidence in &self.evidence {
            match evidence.weight {
                Weight::For(Certainty(certainty)) => (approval, count) = (approval + certainty, count + 1),
                Weight::Against(Certainty(certainty)) => refusal = refusal.max(Some(certainty)),
            }
        }
        let Certainty(unknown) = Certainty::UNKNOWN;
        let permille = refusal.or_else(|| u64::checked_div(approval, count)).unwrap_or(unknown);
        u8::try_from((permille + 5) / 10).unwrap_or(100)
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
            gate.say(Weight::Against(Certainty::UNKNOWN), "the spot offer is unknown");
        }
    }
    let health = findings.metrics.as_ref().map_or(ResourceHealth::Unknown, |it| it.health(listed.cpu_num, now));
    match health {
        ResourceHealth::Healthy { used, unmeasured, points, age } => {
            let certainty = Certainty::observed(points, 0).aged(age, metrics::FRESH);
            gate.say(Weight::For(certainty), format!("healthy now: {used}"));
            for what in unmeasured {
                gate.say(Weight::For(Certainty::UNKNOWN), format!("its {what} was not measured"));
            }
        }
        ResourceHealth::Unhealthy { used, points, age } => {
            let certainty = Certainty::observed(points, 0).aged(age, metrics::FRESH);
            gate.say(Weight::Against(certainty), format!("near its limits now: {used}"));
        }
        ResourceHealth::Unknown => {
            gate.say(Weight::Against(Certainty::UNKNOWN), "no fresh metrics show that it is healthy");
        }
    }
    if let Some(what) = findings.metrics.as_ref().and_then(|it| it.unreported) {
        gate.say(Weight::For(Certainty::UNKNOWN), format!("its {what} is not reported"));
    }
    gate
}

/// Compares each size. The number of GPUs is the same, since the query asked for it.
fn compare(gate: &mut Gate, listed: &ListedInstance, offer: &Offer) {
    let Some(gpu_num) = listed.gpu_num else {
        gate.say(Weight::Against(Certainty::UNKNOWN), "its number of GPUs is unknown");
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
                gate.say(Weight::Against(Certainty::STATED), format!("it would get {gets} {what} instead of {has}"));
            }
            (Some(_), Some(gets)) => not_less.push(format!("{gets} {what}")),
            (None, _) | (_, None) => {
                gate.say(Weight::For(Certainty::UNKNOWN), format!("its {what} cannot be compared"));
            }
        }
    }
    if gate.verdict() == GateVerdict::Approve {
        gate.say(Weight::For(Certainty::STATED), format!("at least as large: {}", not_less.join(", ")));
    }
}

/// There is room for the new instance while the old one still exists.
fn resource(listed: &ListedInstance, findings: &Findings<'_>, terms: &Terms) -> Gate {
    let mut gate = Gate::default();
    stock(&mut gate, listed, (&findings.offered, findings.markets));
    if let Some(quota) = findings.offered.offer().and_then(|offer| offer.quota.as_ref()) {
        let Quota { what, limit, used, more } = quota;
        match limit {
            Ok(limit) => room(&mut gate, what, (*limit, *used, *more)),
            Err(why) => gate.say(Weight::For(Certainty::UNKNOWN), format!("the quota of {what} is unknown: {why}")),
        }
        return gate;
    }
    let usage = findings.usage;
    let gpus = u64::from(listed.gpu_num.unwrap_or(0));
    let quotas = [
        ("GPUs", "RESPOT_GPU_QUOTA", terms.gpu_quota, usage.gpus, gpus),
        ("instances", "RESPOT_INSTANCE_QUOTA", terms.instance_quota, usage.instances, 1),
    ];
    for (what, setting, quota, used, more) in quotas {
        match quota.map(u64::from) {
            Some(quota) => {
                room(&mut gate, what, (quota, used, more));
                if used + more <= quota && !usage.is_complete {
                    gate.say(Weight::For(Certainty::UNKNOWN), format!("there may be more {what} than the list shows"));
                }
            }
            None => {
                gate.say(Weight::For(Certainty::UNKNOWN), format!("the quota of {what} is unknown: set {setting}"));
            }
        }
    }
    gate
}

/// Whether a quota has room for the new instance beside the old one.
fn room(gate: &mut Gate, what: &str, (quota, used, more): (u64, u64, u64)) {
    let text = format!("{used} {what} in use plus {more} more, {quota} allowed");
    match used.saturating_add(more) > quota {
        true => gate.say(Weight::Against(Certainty::STATED), format!("no quota for both at once: {text}")),
        false => gate.say(Weight::For(Certainty::STATED), text),
    }
}

/// Only its own product in its own cluster counts, so its volumes are where the offer is.
fn stock(gate: &mut Gate, listed: &ListedInstance, (offered, markets): (&Offered, &Markets)) {
    let place = listed.instance.place.as_deref();
    let (product, cluster) =
        place.map_or(("its product", "its cluster"), |it| (it.product.as_str(), it.cluster.as_str()));
    let offer = match offered {
        Offered::Offer(offer) if offer.price.is_some() => offer,
        Offered::Offer(_) | Offered::Nothing => {
            gate.say(Weight::Against(Certainty::STATED), format!("{product} is not sold as spot in {cluster}"));
            return;
        }
        Offered::Unknown(why) => {
            gate.say(Weight::Against(Certainty::UNKNOWN), format!("the spot offer is unknown: {why}"));
            return;
        }
    };
    // What is stated about stock is a hint: one observation more, beside what its market answered.
    let market = place.and_then(|place| markets.get(place)).copied().unwrap_or_default();
    let room = |hint: u64| Weight::For(Certainty::observed(market.accepted + hint, market.refused));
    let (weight, left) = match offer.stock {
        stock if !offer.available || stock == Stock::None => {
            (Weight::Against(Certainty::observed(market.refused + 1, market.accepted)), "none left")
        }
        Stock::Low => (room(0), "few left"),
        Stock::Normal => (room(1), "enough left"),
        Stock::High => (room(1), "many left"),
        Stock::Unstated | Stock::None => (room(0), "not reported"),
    };
    let asked = match market.accepted + market.refused {
        0 => String::new(),
        calls => format!("; it accepted {} of {calls} calls", market.accepted),
    };
    gate.say(weight, format!("spot stock of {product} in {cluster}: {left}{asked}"));
    let volumes = listed.fittings.as_ref().map(|it| it.network_volumes.as_slice()).unwrap_or_default();
    for volume in volumes {
        gate.say(
            Weight::For(Certainty::STATED),
            format!("its network volume {volume} is in {cluster}, like the offer"),
        );
    }
}

/// What it would lose may be lost, its addresses may change, and it responds now.
fn application(listed: &ListedInstance, probed: &Probed, terms: &Terms) -> Gate {
    let mut gate = Gate::default();
    match &listed.fittings {
        Err(what) => gate.say(Weight::Against(Certainty::UNKNOWN), format!("what it would lose is unknown: {what}")),
        Ok(_) => losses(&mut gate, listed, terms),
    }
    match &terms.probe {
        None => {
            gate.say(Weight::Against(Certainty::STATED), "no health probe is configured: set RESPOT_PROBE or --probe");
        }
        Some(probe) => {
            let probe = without_secrets(probe);
            match probed {
                Probed::Passed(took) => {
                    gate.say(
                        Weight::For(Certainty::observed(1, 0)),
                        format!("{probe} passed within {} ms", took.as_millis()),
                    );
                }
                Probed::Failed(why) => {
                    gate.say(Weight::Against(Certainty::observed(1, 0)), format!("{probe} failed: {why}"));
                }
                Probed::Unasked => gate.say(Weight::Against(Certainty::UNKNOWN), format!("{probe} was not run")),
            }
        }
    }
    gate
}

/// What rules a move out, and what the operator has to consent to. Every instance has a disk.
fn losses(gate: &mut Gate, listed: &ListedInstance, terms: &Terms) {
    let Ok(fittings) = &listed.fittings else { return };
    for obstacle in &fittings.obstacles {
        gate.say(Weight::Against(Certainty::STATED), obstacle.as_str());
    }
    for carried in &fittings.carried {
        gate.say(Weight::For(Certainty::STATED), carried.as_str());
    }
    let consent = terms.consent(&listed.instance);
    let size = listed.rootfs_size.map_or(String::new(), |size| format!(" ({size} GB)"));
    let local = match fittings.local_volumes.as_slice() {
        [] => String::new(),
        mounts => format!(" and the data at {}", mounts.join(", ")),
    };
    let disk = format!("its {}{size}{local}", fittings.disk);
    let losses = [(format!("{disk} may be lost"), format!("{disk} would be lost"))];
    for (may, would) in losses.into_iter().chain(fittings.consents.iter().map(|it| (it.clone(), it.clone()))) {
        match consent {
            Some(pattern) => {
                gate.say(Weight::For(Certainty::STATED), format!("{may}: it matches {}", pattern.as_str()));
            }
            None => gate.say(Weight::Against(Certainty::STATED), format!("{would}: allow that with --may-lose")),
        }
    }
    let (weight, text) = match (&fittings.addressed, terms.notifies, consent) {
        (None, _, _) => (Weight::For(Certainty::STATED), "it has no ports whose addresses could change".into()),
        (Some(what), true, _) => {
            (Weight::For(Certainty::STATED), format!("a webhook is notified of new addresses of {what}"))
        }
        (Some(what), false, Some(_)) => {
            (Weight::For(Certainty::STATED), format!("the addresses of {what} may change, as its disk may be lost"))
        }
        (Some(what), false, None) => {
            let text = format!("no webhook is notified of new addresses of {what}: set WEBHOOK_URL or --may-lose");
            (Weight::Against(Certainty::STATED), text)
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
