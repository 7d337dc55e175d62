//! What a replacement is made of: the instance's own data, with the defaults that `docs/reference.md` documents in the
//! section on recreation, each named in a note.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::Order;
use crate::core::recreation::blueprint::{Blueprint, Placement};
use crate::core::world::instance::{Billing, JobId};
use crate::core::world::market::OfferQuery;
use crate::core::world::money::Usd;

/// Everything the provider says about an instance that its replacement needs: list row and detail response, merged.
/// Empty texts are left out or empty there.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) name: String,
    /// `gpu` or `cpu`.
    pub(super) kind: String,
    pub(super) billing: Option<Billing>,
    pub(super) image_url: String,
    /// The id of the registry credentials.
    pub(super) image_auth_id: String,
    pub(super) product_id: String,
    pub(super) product_name: String,
    pub(super) cluster_id: String,
    pub(super) network_id: String,
    pub(super) gpu_num: Option<u32>,
    /// Container disk in GB.
    pub(super) rootfs_size: Option<u32>,
    /// In the provider's order.
    pub(super) ports: Vec<Port>,
    pub(super) envs: Vec<Variable>,
    pub(super) command: String,
    pub(super) entrypoint: String,
    pub(super) network_volumes: Vec<NetworkVolume>,
    /// Mount points of volumes on the node itself, which cannot be requested in a create call.
    pub(super) local_volumes: Vec<String>,
    /// Whether the provider moves it by itself when its node fails; no create call can ask for that.
    pub(super) auto_migrates: bool,
    /// Jobs at work on it, according to the detail response.
    pub(super) jobs: Vec<JobId>,
    /// What one GPU of it costs in an hour, if that is reported.
    pub(super) price: Option<Usd>,
}

impl fmt::Debug for Configuration {
    /// Without command, entrypoint and the environment's values: all may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, product_id, cluster_id, gpu_num, rootfs_size, billing, ports, envs, jobs, .. } = self;
        let volumes = (&self.network_volumes, &self.local_volumes);
        write!(f, "{name:?}: {gpu_num:?} x {product_id} in {cluster_id}, {rootfs_size:?} GB, {billing:?}, ")?;
        write!(f, "{ports:?}, {envs:?}, {volumes:?}, {jobs:?}")
    }
}

/// A port and its type, which is empty if the provider left it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: u16,
    /// `http` or `tcp`.
    pub(super) kind: String,
}

/// An environment variable. Its value may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Variable {
    pub(super) key: String,
    pub(super) value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=[hidden]", self.key)
    }
}

/// A volume that outlives instances and is tied to one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkVolume {
    pub(super) id: String,
    pub(super) mount_point: String,
}

/// The payload of a [`Blueprint`]: what to create, but for name, product, cluster and billing mode. Empty texts are none.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    /// `gpu` or `cpu`.
    pub(super) kind: String,
    pub(super) image_url: String,
    /// The id of the registry credentials.
    pub(super) image_auth_id: String,
    pub(super) product_id: String,
    /// By which other products of the same kind are found.
    pub(super) product_name: String,
    pub(super) cluster_id: String,
    pub(super) network_id: String,
    pub(super) gpu_num: u32,
    /// Container disk in GB.
    pub(super) rootfs_size: u32,
    /// For example `8080/http,22/tcp`.
    pub(super) ports: String,
    pub(super) envs: Vec<Variable>,
    /// May contain secrets, as the entrypoint may.
    pub(super) command: String,
    pub(super) entrypoint: String,
    pub(super) network_volumes: Vec<NetworkVolume>,
}

/// Ports that the provider keeps for itself.
pub(super) const RESERVED_PORTS: std::ops::RangeInclusive<u16> = 2222..=2224;

/// What the provider's own pages assume where it leaves out the field.
const DEFAULT_GPU_NUM: u32 = 1;
const DEFAULT_ROOTFS_GB: u32 = 50;

/// What the replacement of an instance is made of.
///
/// # Errors
/// Why it cannot be recreated.
pub(super) fn blueprint(configuration: Configuration) -> Result<Blueprint, String> {
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
        auto_migrates,
        jobs: _,
        price: _,
    } = configuration;
    if image_url.is_empty() {
        return Err("the provider reports no image for it, so it cannot be recreated; nothing was changed".into());
    }
    if product_id.is_empty() && product_name.is_empty() {
        return Err("the provider reports no product for it, so it cannot be recreated; nothing was changed".into());
    }
    let billing = match billing {
        // Its term cannot be transferred either.
        Some(Billing::Monthly) => {
            return Err(
                "it is billed monthly: the provider does not delete such instances, so it is left to you".into()
            );
        }
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
    if auto_migrates {
        notes.push("its auto-migration is not switched on again".into());
    }
    notes.extend(local_volumes.iter().map(|mount| format!("its local volume at {mount} is not created again")));
    let spec = Spec {
        kind: if kind.is_empty() { "gpu".into() } else { kind },
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
    };
    match json!(spec) {
        Value::Object(payload) => Ok(Blueprint { billing, notes, payload }),
        _ => Err("it cannot be described".into()),
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

impl Spec {
    /// Reads the payload of a blueprint.
    ///
    /// # Errors
    /// When another provider, or a newer version, wrote it.
    pub(super) fn of(blueprint: &Blueprint) -> Result<Self, String> {
        blueprint.read()
    }

    /// The query for offers in one cluster, or in all.
    pub(super) fn query(&self, billing: &Billing, cluster_id: Option<&str>) -> OfferQuery {
        OfferQuery {
            cluster_id: cluster_id.map(Into::into),
            product_name: self.product_name.clone(),
            gpu_num: self.gpu_num,
            billing: billing.to_string(),
        }
    }

    /// What ties it to its cluster, if anything does.
    pub(super) fn tied_by(&self) -> Option<String> {
        match (self.network_volumes.first(), self.network_id.as_str()) {
            (Some(volume), _) => Some(format!("network volume {}", volume.id)),
            (None, "") => None,
            (None, network) => Some(format!("private network {network}")),
        }
    }
}

/// The body of the create call. It contains secrets. What is empty is left out, so that the provider's own default
/// applies and not an empty value.
pub(super) fn create_body(order: Order<'_>) -> String {
    let Order { marker, replaces: _, blueprint, placement: Placement { place, .. } } = order;
    let mut body = blueprint.payload.clone();
    body.remove("productName");
    // Other names than in the provider's responses, and a capital I.
    let volumes = body.remove("networkVolumes").unwrap_or_default();
    let volumes = volumes.as_array().into_iter().flatten();
    let storages: Vec<Value> = volumes.map(|it| json!({ "Id": it["id"], "mountPoint": it["mountPoint"] })).collect();
    body.insert("networkStorages".into(), storages.into());
    body.insert("name".into(), marker.into());
    body.insert("productId".into(), place.product.as_str().into());
    body.insert("clusterId".into(), place.cluster.as_str().into());
    body.insert("billingMode".into(), blueprint.billing.as_str().into());
    body.retain(|_, value| *value != json!("") && *value != json!([]));
    Value::Object(body).to_string()
}

#[cfg(test)]
pub(super) mod tests;
