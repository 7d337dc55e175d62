//! The body of a creation and its answer (`novita-api.md` section 2.3; `docs/reference.md`, Recreation).

use serde::Serialize;
use serde_json::Value;

use super::{Text, decode};
use crate::cloud::Order;
use crate::core::recreation::blueprint::{NetworkVolume, Placement, RecreateSpec, Variable};
use crate::core::world::instance::InstanceId;

/// What is empty is left out, so that the provider's own default applies and not an empty value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Create<'a> {
    name: &'a str,
    kind: &'a str,
    product_id: &'a str,
    gpu_num: u32,
    rootfs_size: u32,
    image_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    image_auth_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ports: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    envs: &'a [Variable],
    #[serde(skip_serializing_if = "str::is_empty")]
    command: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    entrypoint: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network_storages: Vec<NetworkStorage<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    network_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    billing_mode: &'a str,
}

/// With a capital I, and with another word for the mount than the answers have (section 2.3).
#[derive(Serialize)]
struct NetworkStorage<'a> {
    #[serde(rename = "Id")]
    id: &'a str,
    #[serde(rename = "mountPoint")]
    mount_point: &'a str,
}

/// Writes the body. It holds secrets.
pub(in crate::cloud::novita) fn create(order: Order<'_>) -> String {
    let Order { name, spec, placement } = order;
    let RecreateSpec {
        kind,
        billing,
        image_url,
        image_auth_id,
        product_id: _,
        product_name: _,
        cluster_id: _,
        network_id,
        gpu_num,
        rootfs_size,
        ports,
        envs,
        command,
        entrypoint,
        network_volumes,
        notes: _,
    } = spec;
    let Placement { product_id, cluster_id, price: _ } = placement;
    let body = Create {
        name,
        kind,
        product_id,
        gpu_num: *gpu_num,
        rootfs_size: *rootfs_size,
        image_url,
        image_auth_id,
        ports,
        envs,
        command,
        entrypoint,
        cluster_id,
        network_storages: network_volumes
            .iter()
            .map(|NetworkVolume { id, mount_point }| NetworkStorage { id, mount_point })
            .collect(),
        network_id,
        billing_mode: billing.as_str(),
    };
    serde_json::json!(body).to_string()
}

/// Reads the id of the new instance; `id` by the documentation, the other places by clients (sections 2.2 and 2.3).
pub(in crate::cloud::novita) fn created(body: &[u8]) -> Result<InstanceId, String> {
    let answer: Value = decode(body)?;
    let id = ["/id", "/Id", "/instanceId", "/instance/id", "/instance/Id"].into_iter().find_map(|place| {
        let id = Text::of(answer.pointer(place)?);
        let id = id.as_str().trim();
        (!id.is_empty()).then(|| InstanceId::new(id))
    });
    id.ok_or_else(|| "an object without an id".into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::world::instance::Billing;

    fn minimal() -> RecreateSpec {
        RecreateSpec {
            kind: "gpu".into(),
            billing: Billing::Spot,
            image_url: "registry.example/app:1".into(),
            image_auth_id: String::new(),
            product_id: "own".into(),
            product_name: "RTX 4090 24GB".into(),
            cluster_id: "own-cluster".into(),
            network_id: String::new(),
            gpu_num: 1,
            rootfs_size: 50,
            ports: String::new(),
            envs: vec![],
            command: String::new(),
            entrypoint: String::new(),
            network_volumes: vec![],
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn the_body_has_what_is_known_and_leaves_out_what_is_empty() {
        let rich = RecreateSpec {
            billing: Billing::OnDemand,
            image_auth_id: "auth-1".into(),
            network_id: "net-1".into(),
            gpu_num: 2,
            rootfs_size: 60,
            ports: "8080/http,22/tcp".into(),
            envs: vec![
                Variable { key: "MODE".into(), value: "ba\"tch".into() },
                Variable { key: "EMPTY".into(), value: String::new() },
            ],
            command: "python train.py".into(),
            entrypoint: "/bin/sh -c".into(),
            network_volumes: vec![
                NetworkVolume { id: "vol-1".into(), mount_point: "/network".into() },
                NetworkVolume { id: "vol-2".into(), mount_point: "/data".into() },
            ],
            ..minimal()
        };
        let rows = [
            (
                minimal(),
                "",
                json!({
                    "name": "a", "kind": "gpu", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 50,
                    "imageUrl": "registry.example/app:1", "billingMode": "spot",
                }),
            ),
            (
                rich,
                "us-xx-1",
                json!({
                    "name": "a", "kind": "gpu", "productId": "4090.16c62g", "gpuNum": 2, "rootfsSize": 60,
                    "imageUrl": "registry.example/app:1", "imageAuthId": "auth-1", "ports": "8080/http,22/tcp",
                    "envs": [{"key": "MODE", "value": "ba\"tch"}, {"key": "EMPTY", "value": ""}],
                    "command": "python train.py", "entrypoint": "/bin/sh -c", "clusterId": "us-xx-1",
                    "networkStorages": [{"Id": "vol-1", "mountPoint": "/network"}, {"Id": "vol-2", "mountPoint": "/data"}],
                    "networkId": "net-1", "billingMode": "onDemand",
                }),
            ),
            (
                RecreateSpec { billing: Billing::Unstated, kind: "cpu".into(), ..minimal() },
                "5",
                json!({
                    "name": "a", "kind": "cpu", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 50,
                    "imageUrl": "registry.example/app:1", "clusterId": "5",
                }),
            ),
        ];
        for (spec, cluster_id, expected) in rows {
            let price = Some(crate::core::world::money::Usd::from_micros(70));
            let placement = Placement { product_id: "4090.16c62g".into(), cluster_id: cluster_id.into(), price };
            let body = create(Order { name: "a", spec: &spec, placement: &placement });
            assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), expected);
        }
    }

    #[test]
    fn the_new_id_is_found_where_clients_find_it() {
        let id = Ok(InstanceId::new("f60718293a4b5c6d"));
        for body in [
            fixture!("create.json"),
            fixture!("create-capital-id.json"),
            br#"{"id":"","instanceId":" f60718293a4b5c6d "}"#,
            br#"{"id":null,"instance":{"id":"f60718293a4b5c6d"}}"#,
            br#"{"instance":{"Id":"f60718293a4b5c6d"}}"#,
        ] {
            assert_eq!(created(body), id);
        }
        assert_eq!(created(br#"{"id":7}"#), Ok(InstanceId::new("7")));
        for (body, part) in [
            (b"".as_slice(), "an empty body"),
            (b"{}", "without an id"),
            (b"null", "without an id"),
            (br#"{"id":{"secret":1}}"#, "without an id"),
            (br#"{"id":"f6071829"#, "cut off"),
            (br#""f60718293a4b5c6d""#, "without an id"),
            (fixture!("error-gateway.html"), "an HTML page"),
        ] {
            let error = created(body).expect_err(part);
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
