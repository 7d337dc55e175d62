//! A table of each field's rule, and what cannot be recreated.

use super::*;
use crate::core::recreation::blueprint::Nearness;
use crate::core::world::instance::Place;
use crate::core::world::market::Stock;

/// An instance of which everything is known, and nothing out of the ordinary.
pub(in crate::cloud::novita) fn configuration() -> Configuration {
    Configuration {
        name: "train-7".into(),
        kind: "gpu".into(),
        billing: Some(Billing::Spot),
        image_url: "app:1.4".into(),
        product_id: "own".into(),
        product_name: "RTX".into(),
        cluster_id: "us".into(),
        gpu_num: Some(2),
        rootfs_size: Some(60),
        ..Configuration::default()
    }
}

fn changed(change: impl FnOnce(&mut Configuration)) -> Result<Blueprint, String> {
    let mut configuration = configuration();
    change(&mut configuration);
    blueprint(configuration)
}

fn port(number: u16, kind: &str) -> Port {
    Port { number, kind: kind.into() }
}

fn variable(key: &str, value: &str) -> Variable {
    Variable { key: key.into(), value: value.into() }
}

/// The table of `docs/reference.md`, Recreation: a change to what the provider says, the field of the specification, and what
/// stands there.
#[test]
fn every_field_follows_its_rule() {
    type Row = (fn(&mut Configuration), &'static str, Value);
    let rows: &[Row] = &[
        (|_| (), "imageUrl", json!("app:1.4")),
        (|_| (), "imageAuthId", json!("")),
        (|c| c.image_auth_id = "auth-7".into(), "imageAuthId", json!("auth-7")),
        (|_| (), "productId", json!("own")),
        (|c| c.product_id.clear(), "productName", json!("RTX")),
        (|_| (), "clusterId", json!("us")),
        (|_| (), "networkId", json!("")),
        (|c| c.network_id = "vpc-1".into(), "networkId", json!("vpc-1")),
        (|_| (), "kind", json!("gpu")),
        (|c| c.kind = "cpu".into(), "kind", json!("cpu")),
        (|c| c.kind.clear(), "kind", json!("gpu")),
        (|_| (), "billing", json!("spot")),
        (|c| c.billing = None, "billing", json!("spot")),
        (|c| c.billing = Some(Billing::Unstated), "billing", json!("spot")),
        (|c| c.billing = Some(Billing::OnDemand), "billing", json!("onDemand")),
        // An unknown mode is left for the provider to refuse: guessing could be expensive.
        (|c| c.billing = Some(Billing::from_word("barter")), "billing", json!("barter")),
        (|_| (), "gpuNum", json!(2)),
        (|c| c.gpu_num = None, "gpuNum", json!(1)),
        (|_| (), "rootfsSize", json!(60)),
        (|c| c.rootfs_size = None, "rootfsSize", json!(50)),
        (|_| (), "ports", json!("")),
        (|c| c.ports = vec![port(8080, "http"), port(22, "tcp")], "ports", json!("8080/http,22/tcp")),
        (|c| c.ports = vec![port(22, "")], "ports", json!("22/tcp")),
        (|c| c.ports = vec![port(2222, "tcp"), port(2223, "http"), port(2224, "")], "ports", json!("")),
        (|c| c.ports = vec![port(2221, "tcp"), port(2225, "tcp")], "ports", json!("2221/tcp,2225/tcp")),
        (|c| c.ports = vec![port(80, "http"), port(80, "http"), port(80, "tcp")], "ports", json!("80/http,80/tcp")),
        (|_| (), "envs", json!([])),
        (
            |c| c.envs = vec![variable("B", "a=b"), variable("A", "")],
            "envs",
            json!([{"key": "B", "value": "a=b"}, {"key": "A", "value": ""}]),
        ),
        (|c| c.command = " serve ".into(), "command", json!(" serve ")),
        (|c| c.entrypoint = "sh -c".into(), "entrypoint", json!("sh -c")),
        (
            |c| c.network_volumes = vec![NetworkVolume { id: "v".into(), mount_point: "/data".into() }],
            "networkVolumes",
            json!([{"id": "v", "mountPoint": "/data"}]),
        ),
        // Whatever is assumed or lost is said.
        (|_| (), "notes", json!([])),
        (|c| c.gpu_num = None, "notes", json!(["the provider leaves out its gpuNum, 1 is assumed"])),
        (|c| c.rootfs_size = None, "notes", json!(["the provider leaves out its rootfsSize, 50 is assumed"])),
        (|c| c.auto_migrates = true, "notes", json!(["its auto-migration is not switched on again"])),
        (
            |c| c.local_volumes = vec!["/workspace".into(), "/tmp".into()],
            "notes",
            json!([
                "its local volume at /workspace is not created again",
                "its local volume at /tmp is not created again"
            ]),
        ),
    ];
    for (row, (change, field, expected)) in rows.iter().enumerate() {
        let spec = serde_json::to_value(changed(change).expect("it can be created")).expect("JSON");
        assert_eq!(spec.get(field), Some(expected), "row {row}: {field}");
    }
}

#[test]
fn what_cannot_be_recreated_says_why() {
    type Row = (fn(&mut Configuration), &'static str);
    let rows: &[Row] = &[
        (|c| c.image_url.clear(), "no image"),
        (
            |c| {
                c.product_id.clear();
                c.product_name.clear();
            },
            "no product",
        ),
        (|c| c.billing = Some(Billing::Monthly), "billed monthly"),
        (
            |c| {
                c.image_url.clear();
                c.billing = Some(Billing::Monthly);
            },
            "nothing was changed",
        ),
    ];
    for (change, part) in rows {
        let error = changed(change).expect_err("it cannot");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let secret = |c: &mut Configuration| {
        c.envs = vec![variable("TOKEN", "hunter2")];
        c.command = "serve --key hunter2".into();
        c.entrypoint = "KEY=hunter2".into();
    };
    let blueprint = changed(secret).expect("it can be created");
    let printed = format!("{blueprint:?} {:?}", Spec::of(&blueprint).expect("a specification").envs);
    assert!(!printed.contains("hunter2") && printed.contains("TOKEN"), "{printed}");
}

fn minimal() -> Spec {
    Spec {
        kind: "gpu".into(),
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
    }
}

#[test]
fn the_body_has_what_is_known_and_leaves_out_what_is_empty() {
    let rich = Spec {
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
            Billing::Spot,
            "",
            json!({
                "name": "a", "kind": "gpu", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 50,
                "imageUrl": "registry.example/app:1", "billingMode": "spot",
            }),
        ),
        (
            rich,
            Billing::OnDemand,
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
            Spec { kind: "cpu".into(), ..minimal() },
            Billing::Unstated,
            "5",
            json!({
                "name": "a", "kind": "cpu", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 50,
                "imageUrl": "registry.example/app:1", "clusterId": "5",
            }),
        ),
    ];
    for (spec, billing, cluster_id, expected) in rows {
        let Value::Object(payload) = json!(spec) else { panic!("not an object") };
        let blueprint = Blueprint { billing, notes: vec!["a note".into()], payload };
        let place = Place { product: "4090.16c62g".into(), cluster: cluster_id.into() };
        let placement = Placement {
            place,
            cluster_name: String::new(),
            nearness: Nearness::Own,
            price: None,
            on_demand_price: None,
            stock: Stock::Unstated,
            words: String::new(),
        };
        let body = create_body(Order {
            marker: "a",
            replaces: &crate::core::world::instance::InstanceId::new("b"),
            blueprint: &blueprint,
            placement: &placement,
        });
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), expected);
    }
}
