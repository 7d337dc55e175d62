//! What a provider offers.

use super::money::Usd;

/// A product as it is offered for one billing mode and one number of GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub product_id: String,
    pub name: String,
    /// Per GPU and hour in the requested billing mode; `None` if it is not sold that way.
    pub price: Option<Usd>,
    /// Per GPU and hour on demand, whatever was requested.
    pub on_demand_price: Option<Usd>,
    /// CPUs per GPU, if known.
    pub cpu_per_gpu: Option<u32>,
    /// Memory per GPU in GB, if known.
    pub memory_per_gpu: Option<u32>,
    /// Whether it could be created now. A hint, not a promise.
    pub available: bool,
    /// How much is left. A hint, too.
    pub stock: Stock,
    /// Display names of the clusters that have it; empty means no restriction.
    pub regions: Vec<String>,
    /// The largest container disk in GB, if known.
    pub max_rootfs: Option<u32>,
    /// What it counts against, where the provider says so.
    pub quota: Option<Quota>,
}

/// How much an account may have at once of something, and how much of it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// For example `spot vCPUs`.
    pub what: String,
    /// The error says why it is not known.
    pub limit: Result<u64, String>,
    pub used: u64,
    /// What one more would take.
    pub more: u64,
}

/// How much of a product is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stock {
    None,
    Low,
    Normal,
    High,
    /// The provider does not say.
    #[default]
    Unstated,
}

/// A query for offers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OfferQuery {
    /// Only in this cluster.
    pub cluster_id: Option<String>,
    pub product_name: String,
    pub gpu_num: u32,
    /// The word of the billing mode.
    pub billing: String,
}
