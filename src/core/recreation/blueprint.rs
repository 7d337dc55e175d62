//! What a replacement is made of: the instance's own data and nothing else, and a place among the products.
//!
//! The table is in `docs/reference.md`, Recreation. A fact that is missing stays missing, but for the documented defaults, and
//! those are named in the plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Billing, JobId};
use crate::core::world::money::Usd;

/// Everything the provider says about an instance that its replacement needs: list row and detail answer, merged.
/// Empty texts are what the provider leaves out or empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Its name.
    pub name: String,
    /// `gpu` or `cpu`.
    pub kind: String,
    /// How it is paid for.
    pub billing: Option<Billing>,
    /// The image.
    pub image_url: String,
    /// The id of the registry credentials.
    pub image_auth_id: String,
    /// The product, by id.
    pub product_id: String,
    /// The product's name.
    pub product_name: String,
    /// The cluster, by id.
    pub cluster_id: String,
    /// The private network, by id.
    pub network_id: String,
    /// GPUs.
    pub gpu_num: Option<u32>,
    /// Container disk in GB.
    pub rootfs_size: Option<u32>,
    /// Ports, in the provider's order.
    pub ports: Vec<Port>,
    /// Environment.
    pub envs: Vec<Variable>,
    /// Command.
    pub command: String,
    /// Entrypoint.
    pub entrypoint: String,
    /// Network volumes.
    pub network_volumes: Vec<NetworkVolume>,
    /// Mount points of volumes on the node itself, which no creation can ask for.
    pub local_volumes: Vec<String>,
    /// Jobs that the detail answer says are at work on it.
    pub jobs: Vec<JobId>,
}

impl fmt::Debug for Configuration {
    /// Neither command nor entrypoint, nor the environment's values: all may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, product_id, cluster_id, gpu_num, rootfs_size, billing, ports, envs, jobs, .. } = self;
        let volumes = (&self.network_volumes, &self.local_volumes);
        write!(f, "{name:?}: {gpu_num:?} x {product_id} in {cluster_id}, {rootfs_size:?} GB, {billing:?}, ")?;
        write!(f, "{ports:?}, {envs:?}, {volumes:?}, {jobs:?}")
    }
}

/// A port and its type; an empty type is one the provider left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// `http` or `tcp`.
    pub kind: String,
}

/// An environment variable. Its value may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub key: String,
    /// Its value: sent to the provider, kept where a specification is kept, shown nowhere.
    pub value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=[hidden]", self.key)
    }
}

/// A volume with a life of its own, tied to one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkVolume {
    /// Its id.
    pub id: String,
    /// Where it is mounted.
    pub mount_point: String,
}

/// What to create, but for name, product and cluster, which a [`Placement`] and the journal decide.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecreateSpec {
    /// `gpu` or `cpu`.
    pub kind: String,
    /// How it is paid for.
    pub billing: Billing,
    /// The image.
    pub image_url: String,
    /// The id of the registry credentials; empty for none.
    pub image_auth_id: String,
    /// The product of the instance, by id; empty if the provider left it out.
    pub product_id: String,
    /// The product's name, by which others of its kind are found.
    pub product_name: String,
    /// The cluster of the instance, by id; empty if the provider left it out.
    pub cluster_id: String,
    /// The private network; empty for none.
    pub network_id: String,
    /// GPUs.
    pub gpu_num: u32,
    /// Container disk in GB.
    pub rootfs_size: u32,
    /// `8080/http,22/tcp`.
    pub ports: String,
    /// Environment.
    pub envs: Vec<Variable>,
    /// Command; empty for the image's own. May hold a secret.
    pub command: String,
    /// Entrypoint; empty for the image's own. May hold a secret.
    pub entrypoint: String,
    /// Network volumes.
    pub network_volumes: Vec<NetworkVolume>,
    /// What the plan says about it: assumed defaults, and what cannot be had again.
    pub notes: Vec<String>,
}

impl fmt::Debug for RecreateSpec {
    /// Not the environment, and neither command nor entrypoint: all may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { product_id, cluster_id, gpu_num, rootfs_size, billing, .. } = self;
        write!(f, "{gpu_num} x {product_id} in {cluster_id}, {rootfs_size} GB, {billing}")
    }
}

/// Why an instance cannot be recreated. Nothing is touched then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRecreate {
    /// No image is known.
    #[error("the provider gives no image for it, so it cannot be recreated; nothing was touched")]
    NoImage,
    /// Neither a product nor the name of one is known.
    #[error("the provider gives no product for it, so it cannot be recreated; nothing was touched")]
    NoProduct,
    /// Paid by the month: it cannot be deleted, and its term cannot be transferred.
    #[error("it is paid by the month: the provider deletes no such instance, so it is left to you")]
    Monthly,
}

/// Ports that the provider keeps for itself (`novita-api.md` section 2.3).
pub(crate) const RESERVED_PORTS: std::ops::RangeInclusive<u16> = 2222..=2224;

/// What the provider's own pages assume (`docs/reference.md`); only where it leaves the field out.
const DEFAULT_GPU_NUM: u32 = 1;
const DEFAULT_ROOTFS_GB: u32 = 50;

impl TryFrom<Configuration> for RecreateSpec {
    type Error = CannotRecreate;

    fn try_from(configuration: Configuration) -> Result<Self, CannotRecreate> {
        let Configuration {
            name: _,
            kind,
            billing,
            image_url,
            image_auth_id,
            product_id,
            product_name,
            cluster_id,
            network_id,
            gpu_num,
            rootfs_size,
            ports,
            envs,
            command,
            entrypoint,
            network_volumes,
            local_volumes,
            jobs: _,
        } = configuration;
        if image_url.is_empty() {
            return Err(CannotRecreate::NoImage);
        }
        if product_id.is_empty() && product_name.is_empty() {
            return Err(CannotRecreate::NoProduct);
        }
        let billing = match billing {
            Some(Billing::Monthly) => return Err(CannotRecreate::Monthly),
            None | Some(Billing::Unstated) => Billing::Spot,
            Some(billing) => billing,
        };
        let mut notes = Vec::new();
        let mut or_default = |value: Option<u32>, default: u32, what: &str| {
            value.unwrap_or_else(|| {
                notes.push(format!("the provider leaves out its {what}, {default} is assumed"));
                default
            })
        };
        let gpu_num = or_default(gpu_num, DEFAULT_GPU_NUM, "gpuNum");
        let rootfs_size = or_default(rootfs_size, DEFAULT_ROOTFS_GB, "rootfsSize");
        notes.extend(local_volumes.iter().map(|mount| format!("its local volume at {mount} is not created again")));
        let kind = if kind.is_empty() { "gpu".into() } else { kind };
        Ok(Self {
            kind,
            billing,
            image_url,
            image_auth_id,
            product_id,
            product_name,
            cluster_id,
            network_id,
            gpu_num,
            rootfs_size,
            ports: written_ports(&ports),
            envs,
            command,
            entrypoint,
            network_volumes,
            notes,
        })
    }
}

fn written_ports(ports: &[Port]) -> String {
    let mut written: Vec<String> = Vec::new();
    for Port { number, kind } in ports.iter().filter(|port| !RESERVED_PORTS.contains(&port.number)) {
        let port = format!("{number}/{}", if kind.is_empty() { "tcp" } else { kind });
        if !written.contains(&port) {
            written.push(port);
        }
    }
    written.join(",")
}

/// A product as it is offered for one billing mode and one number of GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The product, by id.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// The price of one GPU for one hour in the requested billing mode; `None` if it is not sold that way.
    pub price: Option<Usd>,
    /// The on-demand price of one GPU for one hour, whatever billing mode was requested.
    pub on_demand_price: Option<Usd>,
    /// CPUs per GPU, if the provider says.
    pub cpu_per_gpu: Option<u32>,
    /// Memory per GPU in GB, if the provider says.
    pub memory_per_gpu: Option<u32>,
    /// Whether the provider says that it could be deployed now. A hint, not a promise.
    pub available: bool,
    /// How much of it is left. A hint, too.
    pub stock: Stock,
    /// Display names of the clusters that have it; none is no restriction (`novita-api.md` section 5).
    pub regions: Vec<String>,
    /// The largest container disk in GB, if the provider says.
    pub max_rootfs: Option<u32>,
}

/// How much of a product is left, in the provider's words (`novita-api.md` section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stock {
    /// Nothing.
    None,
    /// Little.
    Low,
    /// Enough.
    Normal,
    /// Plenty.
    High,
    /// It does not say, or in a word that this version does not know.
    #[default]
    Unstated,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: String,
    /// Its display name.
    pub name: String,
}

/// What is on offer for one specification. `None` is what could not be read: then nothing is concluded from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Market {
    /// In the instance's own cluster.
    pub own_cluster: Option<Vec<Offer>>,
    /// In any cluster.
    pub anywhere: Option<Vec<Offer>>,
    /// The clusters.
    pub clusters: Vec<Cluster>,
}

/// A question for offers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OfferQuery {
    /// Only in this cluster.
    pub cluster_id: Option<String>,
    /// The product's name; fuzzy at the provider, compared exactly here.
    pub product_name: String,
    /// GPUs.
    pub gpu_num: u32,
    /// The word of the billing mode.
    pub billing: String,
}

impl RecreateSpec {
    /// The question for offers in one cluster, or in all.
    #[must_use]
    pub fn query(&self, cluster_id: Option<&str>) -> OfferQuery {
        OfferQuery {
            cluster_id: cluster_id.map(Into::into),
            product_name: self.product_name.clone(),
            gpu_num: self.gpu_num,
            billing: self.billing.to_string(),
        }
    }

    /// Whether something ties the replacement to the cluster of the instance: a network volume, or a private network.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        !self.network_volumes.is_empty() || !self.network_id.is_empty()
    }
}

/// Where a replacement may be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The product, by id.
    pub product_id: String,
    /// The cluster, by id; empty lets the provider choose.
    pub cluster_id: String,
    /// The price of one GPU for one hour, if known.
    pub price: Option<Usd>,
}

/// Where to create the replacement, the best place first: the own product, then the cheapest available one of the same
/// name in the same cluster, then in any other that nothing forbids. When nothing is said to be available the own
/// product is tried all the same, unless it is known to be gone: stock is a hint only (`novita-api.md` section 5).
#[must_use]
pub fn placements(spec: &RecreateSpec, market: &Market) -> Vec<Placement> {
    let mut chosen = available(spec, market);
    if chosen.is_empty() && !spec.product_id.is_empty() && !is_gone(spec, market) {
        let price = own_offer(spec, market).and_then(|offer| offer.price);
        chosen.push(Placement { product_id: spec.product_id.clone(), cluster_id: spec.cluster_id.clone(), price });
    }
    chosen
}

/// The places of which the provider says that they could be had now.
fn available(spec: &RecreateSpec, market: &Market) -> Vec<Placement> {
    let fits = |offer: &&Offer| {
        offer.available && offer.price.is_some() && offer.max_rootfs.is_none_or(|max| spec.rootfs_size <= max)
    };
    let is_same_kind = |offer: &&Offer| {
        offer.product_id == spec.product_id || (!spec.product_name.is_empty() && offer.name == spec.product_name)
    };
    let place = |offer: &Offer, cluster_id: &str| Placement {
        product_id: offer.product_id.clone(),
        cluster_id: cluster_id.into(),
        price: offer.price,
    };
    let cheapest_first = |mut places: Vec<Placement>| {
        places.sort_by(|a, b| (a.price, &a.product_id, &a.cluster_id).cmp(&(b.price, &b.product_id, &b.cluster_id)));
        places
    };
    let own_cluster = market.own_cluster.as_deref().unwrap_or_default();
    let in_own: Vec<Placement> =
        own_cluster.iter().filter(is_same_kind).filter(fits).map(|offer| place(offer, &spec.cluster_id)).collect();
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        in_own.into_iter().partition(|placement| placement.product_id == spec.product_id);
    chosen.extend(cheapest_first(others));
    if !spec.is_tied() {
        let anywhere = market.anywhere.as_deref().unwrap_or_default().iter().filter(is_same_kind).filter(fits);
        let elsewhere = anywhere.flat_map(|offer| {
            let clusters = clusters_of(offer, &market.clusters);
            clusters.into_iter().map(move |cluster| place(offer, &cluster))
        });
        let elsewhere = elsewhere.filter(|place| place.cluster_id.is_empty() || place.cluster_id != spec.cluster_id);
        chosen.extend(cheapest_first(elsewhere.collect()));
    }
    chosen
}

/// The ids of the clusters that have the offer; one empty id where nothing restricts it.
fn clusters_of(offer: &Offer, clusters: &[Cluster]) -> Vec<String> {
    if offer.regions.is_empty() {
        return vec![String::new()];
    }
    // Regions are display names with a place behind them; ids are another spelling (`novita-api.md` section 5).
    let short = |name: &str| name.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let known = clusters.iter().filter(|cluster| {
        offer.regions.iter().any(|region| {
            let region = short(region);
            region == short(&cluster.name) || region == cluster.id.to_ascii_lowercase()
        })
    });
    let known: Vec<String> = known.map(|cluster| cluster.id.clone()).collect();
    // A region that no cluster is known for: the provider finds it.
    if known.is_empty() { vec![String::new()] } else { known }
}

fn own_offer<'a>(spec: &RecreateSpec, market: &'a Market) -> Option<&'a Offer> {
    let lists = [market.own_cluster.as_deref(), market.anywhere.as_deref()];
    lists.into_iter().flatten().flatten().find(|offer| offer.product_id == spec.product_id)
}

/// Whether the lists came, show products, and the own one is not among them.
fn is_gone(spec: &RecreateSpec, market: &Market) -> bool {
    let lists = [market.own_cluster.as_deref(), market.anywhere.as_deref()];
    lists.into_iter().flatten().any(|offers| !offers.is_empty()) && own_offer(spec, market).is_none()
}

/// What is to be created, where, in the order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What.
    pub spec: RecreateSpec,
    /// Where; never empty.
    pub placements: Vec<Placement>,
    /// The price of the own product, if it is known, to compare with.
    pub own_price: Option<Usd>,
    /// Whether the provider says of one of the places that it could be had now.
    pub has_room: bool,
}

/// Why a recreation that was due is not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its own data do not suffice.
    CannotRecreate(CannotRecreate),
    /// No product of its kind is on offer any more.
    NoPlace {
        /// The product it had.
        product: String,
    },
    /// Nothing of its kind is said to be available now, and the old instance would be deleted first.
    NoRoom {
        /// The product it has.
        product: String,
    },
    /// A job is at work on it, says the detail answer.
    JobAtWork(JobId),
    /// The provider says that it does not exist.
    Gone,
    /// The provider did not say what it is made of; nothing is concluded from that.
    Unread {
        /// The class of the error.
        kind: ErrorKind,
        /// The error.
        error: String,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotRecreate(why) => why.fmt(f),
            Self::NoPlace { product } => {
                write!(f, "neither its product {product} nor another of its kind is on offer any more")
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

/// Puts specification and market together.
///
/// # Errors
/// [`Obstacle::NoPlace`].
pub fn prepare(spec: RecreateSpec, market: &Market) -> Result<Prepared, Obstacle> {
    let placements = placements(&spec, market);
    if placements.is_empty() {
        let product = if spec.product_id.is_empty() { spec.product_name } else { spec.product_id };
        return Err(Obstacle::NoPlace { product });
    }
    let own_price = own_offer(&spec, market).and_then(|offer| offer.price);
    let has_room = !available(&spec, market).is_empty();
    Ok(Prepared { spec, placements, own_price, has_room })
}

impl Prepared {
    /// The first choice in words, with the price difference and what was assumed.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { spec, placements, own_price, has_room: _ } = self;
        let Some(first) = placements.first() else { return "nowhere".into() };
        let mut words = placed(spec, first, *own_price);
        for note in &spec.notes {
            words.push_str("; ");
            words.push_str(note);
        }
        words
    }
}

/// A placement in words, seen from where the instance was.
#[must_use]
pub fn placed(spec: &RecreateSpec, placement: &Placement, own_price: Option<Usd>) -> String {
    let Placement { product_id, cluster_id, price } = placement;
    let cluster = if cluster_id.is_empty() { "any cluster" } else { cluster_id };
    let is_own = *product_id == spec.product_id && *cluster_id == spec.cluster_id;
    let unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    let mut words = if is_own {
        format!("on its own product {product_id} in {cluster}")
    } else {
        let (product, cluster_before) = (unknown(&spec.product_id), unknown(&spec.cluster_id));
        format!("on {product_id} in {cluster} in place of {product} in {cluster_before}")
    };
    if let Some(price) = price {
        words.push_str(&format!(", {} USD/h", price.times(spec.gpu_num)));
        if let Some(own) = own_price.filter(|own| !is_own && *own > Usd::default()) {
            let percent = i128::from(price.minus(own).micros()) * 1000 / i128::from(own.micros());
            let sign = if price < &own { "-" } else { "+" };
            let percent = percent.unsigned_abs();
            let difference = format!("{sign}{}.{} %", percent / 10, percent % 10);
            words.push_str(&if own == *price { " (the same price)".into() } else { format!(" ({difference})") });
        }
    }
    words
}

#[cfg(test)]
mod tests;
