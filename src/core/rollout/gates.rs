//! The three gates. Each begins in favour and gathers evidence: what speaks for it, what leaves a doubt, what speaks
//! against it. One thing against it is enough to refuse.
//!
//! The confidence is that in the verdict, in percent. An approval begins at `MOST`, since a hint about stock or a look of
//! a moment ago proves nothing, and each doubt takes some away. A refusal is as sure as its surest reason: a fact is sure,
//! what nobody could find out is not.

use crate::core::recreation::blueprint::{Offer, RESERVED_PORTS, Stock};
use crate::core::rollout::analysis::{Facts, Member, Offered, Probed, Terms};
use crate::core::rollout::metrics::Health;
use crate::core::world::probe::Probe;
use crate::core::world::time::Timestamp;

/// What an approval begins with.
const MOST: u8 = 95;

/// And does not fall below.
const LEAST: u8 = 5;

/// Refused for a fact; for a hint or for one look; for what nobody knows.
const SURE: u8 = 95;
const LIKELY: u8 = 80;
const UNSURE: u8 = 30;

/// Doubts: a number that cannot be compared, little left, something that nobody told.
const UNCOMPARED: u8 = 10;
const LITTLE_LEFT: u8 = 25;
const UNTOLD: u8 = 15;

/// What a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Verdict {
    /// Nothing speaks against it.
    Approve,
    /// Something does.
    Refuse,
}

/// Which way a piece of evidence weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// In favour.
    For,
    /// It takes so much confidence from an approval.
    Doubt(u8),
    /// It refuses, with so much confidence.
    Against(u8),
}

/// One short sentence with its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Which way it weighs.
    pub weight: Weight,
    /// The sentence.
    pub text: String,
}

/// One question, its answer and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// In the order in which it was gathered.
    pub evidence: Vec<Evidence>,
}

impl Gate {
    fn say(&mut self, weight: Weight, text: impl Into<String>) {
        self.evidence.push(Evidence { weight, text: text.into() });
    }

    /// The answer.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.against().next().is_some() { Verdict::Refuse } else { Verdict::Approve }
    }

    /// How sure it is, in percent.
    #[must_use]
    pub fn confidence(&self) -> u8 {
        let (mut approval, mut refusal) = (MOST, None);
        for evidence in &self.evidence {
            match evidence.weight {
                Weight::For => {}
                Weight::Doubt(takes) => approval = approval.saturating_sub(takes).max(LEAST),
                Weight::Against(sure) => refusal = refusal.max(Some(sure)),
            }
        }
        refusal.unwrap_or(approval)
    }

    /// What it refuses for.
    pub fn against(&self) -> impl Iterator<Item = &str> {
        self.evidence.iter().filter(|it| matches!(it.weight, Weight::Against(_))).map(|it| it.text.as_str())
    }
}

/// The three of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// Would it be as good?
    pub performance: Gate,
    /// Is there room for it?
    pub resource: Gate,
    /// Does what runs there stand it?
    pub application: Gate,
}

impl Gates {
    /// Asks all three.
    #[must_use]
    pub fn of(member: &Member, facts: &Facts<'_>, terms: &Terms, now: Timestamp) -> Self {
        Self {
            performance: performance(member, facts, now),
            resource: resource(member, facts, terms),
            application: application(member, &facts.probed, terms),
        }
    }

    /// All three, each with its name.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Gate); 3] {
        let Self { performance, resource, application } = self;
        [("performance", performance), ("resource", resource), ("application", application)]
    }

    /// Whether all three approve.
    #[must_use]
    pub fn approve(&self) -> bool {
        self.all().iter().all(|(_, gate)| gate.verdict() == Verdict::Approve)
    }
}

/// What is offered is not less than what is there, and what is there is well now.
fn performance(member: &Member, facts: &Facts<'_>, now: Timestamp) -> Gate {
    let mut gate = Gate::default();
    match &facts.offered {
        Offered::Offer(offer) => compare(&mut gate, member, offer),
        Offered::Nothing | Offered::Unknown(_) => {
            gate.say(Weight::Against(UNSURE), "what would take its place is not known");
        }
    }
    let health = facts.metrics.as_ref().map_or(Health::Unknown, |it| it.health(member.cpu_num, now));
    match health {
        Health::Healthy { used, unmeasured } => {
            gate.say(Weight::For, format!("healthy now: {used}"));
            for what in unmeasured {
                gate.say(Weight::Doubt(UNCOMPARED), format!("its {what} was not measured"));
            }
        }
        Health::Unhealthy { used } => gate.say(Weight::Against(LIKELY), format!("near its limits now: {used}")),
        Health::Unknown => gate.say(Weight::Against(UNSURE), "no fresh metrics show that it is healthy"),
    }
    gate
}

/// Each size on both sides. The GPUs are as many as were asked for.
fn compare(gate: &mut Gate, member: &Member, offer: &Offer) {
    let Some(gpu_num) = member.gpu_num else {
        gate.say(Weight::Against(UNSURE), "how many GPUs it has is not known");
        return;
    };
    let of_all = |each: Option<u32>| each.map(|each| each.saturating_mul(gpu_num));
    let sizes = [
        ("CPUs", member.cpu_num, of_all(offer.cpu_per_gpu)),
        ("GB of memory", member.memory_gb, of_all(offer.memory_per_gpu)),
        ("GB of disk at most", member.rootfs_size, offer.max_rootfs),
    ];
    let mut not_less = vec![format!("{gpu_num} x {}", offer.product_id)];
    for (what, has, gets) in sizes {
        match (has, gets) {
            (Some(has), Some(gets)) if gets < has => {
                gate.say(Weight::Against(SURE), format!("it would get {gets} {what} in place of {has}"));
            }
            (Some(_), Some(gets)) => not_less.push(format!("{gets} {what}")),
            (None, _) | (_, None) => gate.say(Weight::Doubt(UNCOMPARED), format!("its {what} cannot be compared")),
        }
    }
    if gate.verdict() == Verdict::Approve {
        gate.say(Weight::For, format!("not less than it has: {}", not_less.join(", ")));
    }
}

/// There is room for the new one while the old one is still there.
fn resource(member: &Member, facts: &Facts<'_>, terms: &Terms) -> Gate {
    let mut gate = Gate::default();
    stock(&mut gate, member, &facts.offered);
    let usage = facts.usage;
    let gpus = u64::from(member.gpu_num.unwrap_or(0));
    let quotas = [
        ("GPUs", "RESPOT_GPU_QUOTA", terms.gpu_quota, usage.gpus, gpus),
        ("instances", "RESPOT_INSTANCE_QUOTA", terms.instance_quota, usage.instances, 1),
    ];
    for (what, setting, quota, used, more) in quotas {
        match quota.map(u64::from) {
            Some(quota) if used + more > quota => {
                let text = format!("no room for both at once: {used} {what} in use and {more} more, {quota} allowed");
                gate.say(Weight::Against(SURE), text);
            }
            Some(quota) => {
                gate.say(Weight::For, format!("{used} {what} in use and {more} more, {quota} allowed"));
                if !usage.is_complete {
                    gate.say(Weight::Doubt(UNTOLD), format!("there may be more {what} than the list shows"));
                }
            }
            None => gate.say(Weight::Doubt(UNTOLD), format!("the quota of {what} is not known: set {setting}")),
        }
    }
    gate
}

/// Its own product in its own cluster: so its volumes are where the offer is.
fn stock(gate: &mut Gate, member: &Member, offered: &Offered) {
    let place = member.instance.place.as_deref();
    let (product, cluster) =
        place.map_or(("its product", "its cluster"), |it| (it.product.as_str(), it.cluster.as_str()));
    let offer = match offered {
        Offered::Offer(offer) if offer.price.is_some() => offer,
        Offered::Offer(_) | Offered::Nothing => {
            gate.say(Weight::Against(SURE), format!("{product} is not sold as spot in {cluster}"));
            return;
        }
        Offered::Unknown(why) => {
            gate.say(Weight::Against(UNSURE), format!("what is on offer is not known: {why}"));
            return;
        }
    };
    let (weight, left) = match offer.stock {
        _ if !offer.available => (Weight::Against(LIKELY), "none is left"),
        Stock::None => (Weight::Against(LIKELY), "none is left"),
        Stock::Low => (Weight::Doubt(LITTLE_LEFT), "few are left"),
        Stock::Normal => (Weight::For, "enough are left"),
        Stock::High => (Weight::For, "many are left"),
        Stock::Unstated => (Weight::Doubt(UNTOLD), "it is not said how many are left"),
    };
    gate.say(weight, format!("of {product} as spot in {cluster} {left}"));
    let volumes = member.fittings.as_ref().map(|it| it.network_volumes.as_slice()).unwrap_or_default();
    for volume in volumes {
        gate.say(Weight::For, format!("its network volume {} is in {cluster}, as the offer is", volume.id));
    }
}

/// What runs there stands to be created anew: what it loses may be lost, its addresses may change, and it is up.
fn application(member: &Member, probed: &Probed, terms: &Terms) -> Gate {
    let mut gate = Gate::default();
    match &member.fittings {
        Err(what) => gate.say(Weight::Against(UNSURE), format!("what it would lose is not known: {what}")),
        Ok(_) => losses(&mut gate, member, terms),
    }
    match &terms.probe {
        None => gate.say(Weight::Against(SURE), "no health probe is configured: set RESPOT_PROBE or --probe"),
        Some(probe) => {
            let probe = without_secrets(probe);
            match probed {
                Probed::Passed(took) => {
                    gate.say(Weight::For, format!("{probe} passed within {} ms", took.as_millis()));
                }
                Probed::Failed(why) => gate.say(Weight::Against(LIKELY), format!("{probe} failed: {why}")),
                Probed::Unasked => gate.say(Weight::Against(UNSURE), format!("{probe} was not asked")),
            }
        }
    }
    gate
}

/// What has to be consented to. Every instance has a container disk.
fn losses(gate: &mut Gate, member: &Member, terms: &Terms) {
    let Ok(fittings) = &member.fittings else { return };
    let consent = terms.consent(&member.instance);
    let disk = member.rootfs_size.map_or(String::new(), |size| format!(" ({size} GB)"));
    let local = match fittings.local_volumes.as_slice() {
        [] => String::new(),
        mounts => format!(" and what is at {}", mounts.join(", ")),
    };
    match consent {
        Some(pattern) => {
            let text = format!("its container disk{disk}{local} may be lost: it matches {}", pattern.as_str());
            gate.say(Weight::For, text);
        }
        None => {
            let text = format!("its container disk{disk}{local} would be lost: allow that with --may-lose");
            gate.say(Weight::Against(SURE), text);
        }
    }
    let ports = fittings.ports.iter().map(|port| port.number).filter(|port| !RESERVED_PORTS.contains(port));
    let ports = ports.map(|port| port.to_string()).collect::<Vec<_>>().join(", ");
    let (weight, text) = match (ports.is_empty(), terms.tells, consent) {
        (true, _, _) => (Weight::For, "it has no ports whose addresses could change".into()),
        (false, true, _) => (Weight::For, format!("the webhook is told of new addresses of its ports {ports}")),
        (false, false, Some(_)) => {
            (Weight::For, format!("the addresses of its ports {ports} may change, as its disk may be lost"))
        }
        (false, false, None) => {
            let text = format!("nobody is told of new addresses of its ports {ports}: set WEBHOOK_URL or --may-lose");
            (Weight::Against(LIKELY), text)
        }
    };
    gate.say(weight, text);
}

/// Neither a path nor a command: both are the operator's own, and may hold a token.
fn without_secrets(probe: &Probe) -> String {
    match probe {
        Probe::Http { port, .. } => format!("the probe http:{port}"),
        Probe::Tcp { port } => format!("the probe tcp:{port}"),
        Probe::Command(_) => "the probe's command".into(),
    }
}
