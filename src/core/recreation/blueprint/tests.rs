//! Tables: each field's rule, every market situation, and the words for a place and its price.

use serde_json::{Value, json};

use super::*;

/// An instance of which everything is known, and nothing out of the ordinary.
fn configuration() -> Configuration {
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

fn spec(change: impl FnOnce(&mut Configuration)) -> Result<RecreateSpec, CannotRecreate> {
    let mut configuration = configuration();
    change(&mut configuration);
    RecreateSpec::try_from(configuration)
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
        // What nobody knows is the provider's to refuse: guessing could cost.
        (|c| c.billing = Some(Billing::Other("barter".into())), "billing", json!("barter")),
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
        let spec = serde_json::to_value(spec(change).expect("it can be created")).expect("JSON");
        assert_eq!(spec.get(field), Some(expected), "row {row}: {field}");
    }
}

#[test]
fn what_cannot_be_created_anew_says_why() {
    let unfit = |c: &mut Configuration| c.billing = Some(Billing::Monthly);
    type Row = (fn(&mut Configuration), CannotRecreate, &'static str);
    let rows: &[Row] = &[
        (|c| c.image_url.clear(), CannotRecreate::NoImage, "no image"),
        (
            |c| {
                c.product_id.clear();
                c.product_name.clear();
            },
            CannotRecreate::NoProduct,
            "no product",
        ),
        (unfit, CannotRecreate::Monthly, "by the month"),
        (
            |c| {
                c.image_url.clear();
                c.billing = Some(Billing::Monthly);
            },
            CannotRecreate::NoImage,
            "nothing was touched",
        ),
    ];
    for (change, expected, part) in rows {
        let error = spec(change).expect_err("it cannot");
        assert_eq!(error, *expected);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let secret = |c: &mut Configuration| {
        c.envs = vec![variable("TOKEN", "hunter2")];
        c.command = "serve --key hunter2".into();
        c.entrypoint = "KEY=hunter2".into();
    };
    let spec = spec(secret).expect("it can be created");
    let printed = format!("{spec:?} {:?}", spec.envs);
    assert!(!printed.contains("hunter2") && printed.contains("TOKEN"), "{printed}");
}

/// An offer: product, name, price in cents, and what else is to be said: `sold out`, or a largest disk; and its regions.
fn offer(product: &str, cents: u64, more: &str, regions: &[&str]) -> Offer {
    let (name, product_id) = product.split_once(':').unwrap_or(("RTX", product));
    Offer {
        product_id: product_id.into(),
        name: name.into(),
        price: (cents > 0).then_some(Usd::from_hundred_thousandths(cents * 1000)),
        available: more != "sold out",
        regions: regions.iter().map(ToString::to_string).collect(),
        max_rootfs: more.parse().ok(),
        ..Offer::default()
    }
}

/// What is on offer in the own cluster, and anywhere; `None` is a list that could not be read.
type Offers<'a> = Option<&'a [Offer]>;

#[test]
fn every_market_has_its_places() {
    let own = || offer("own", 30, "", &["US-1 (West)", "EU-2"]);
    let own_sold_out = || offer("own", 30, "sold out", &["US-1"]);
    let (dear, cheap) = (|| offer("dear", 50, "", &["US-1"]), || offer("cheap", 20, "", &["US-1"]));
    let (far, other) = (|| offer("far", 10, "", &["EU-2 (North)"]), || offer("H100:other", 1, "", &[]));
    let everywhere = || offer("all", 15, "", &[]);
    let not_spot = || offer("unsold", 0, "", &["US-1"]);
    let (small, large) = (|| offer("small", 5, "59", &["US-1"]), || offer("large", 25, "60", &["US-1"]));
    let nowhere = || offer("lost", 5, "", &["ZZ-9"]);
    type Change = fn(&mut Configuration);
    let (free, tied): (Change, Change) =
        (|_| (), |c| c.network_volumes = vec![NetworkVolume { id: "v".into(), mount_point: "/v".into() }]);
    let in_vpc: Change = |c| c.network_id = "vpc-1".into();
    let no_product: Change = |c| c.product_id.clear();
    let no_name: Change = |c| c.product_name.clear();
    let rows: &[(&str, Change, Offers<'_>, Offers<'_>, &[&str])] = &[
        (
            "the own product first, others after it by price",
            free,
            Some(&[dear(), own(), cheap()]),
            None,
            &["own@us", "cheap@us", "dear@us"],
        ),
        ("the own product is sold out", free, Some(&[own_sold_out(), dear(), cheap()]), None, &["cheap@us", "dear@us"]),
        ("nothing here, so elsewhere", free, Some(&[own_sold_out()]), Some(&[own_sold_out(), far()]), &["far@eu"]),
        ("here before elsewhere, though dearer", free, Some(&[dear()]), Some(&[dear(), far()]), &["dear@us", "far@eu"]),
        ("the own product elsewhere", free, Some(&[own_sold_out()]), Some(&[own()]), &["own@eu"]),
        ("no regions is anywhere", free, Some(&[own_sold_out()]), Some(&[everywhere()]), &["all@"]),
        (
            "a region of no known cluster: the provider finds it",
            free,
            Some(&[own_sold_out()]),
            Some(&[own_sold_out(), nowhere()]),
            &["lost@"],
        ),
        ("a volume ties it", tied, Some(&[own_sold_out()]), Some(&[far()]), &["own@us"]),
        ("a private network ties it", in_vpc, Some(&[own_sold_out(), cheap()]), Some(&[far()]), &["cheap@us"]),
        ("another name", free, Some(&[own_sold_out(), other()]), Some(&[other()]), &["own@us"]),
        ("not sold as spot", free, Some(&[own_sold_out(), not_spot()]), None, &["own@us"]),
        ("too small for its disk", free, Some(&[own_sold_out(), small(), large()]), None, &["large@us"]),
        (
            "nothing at all: the hint is not believed",
            free,
            Some(&[own_sold_out()]),
            Some(&[own_sold_out()]),
            &["own@us"],
        ),
        ("not sold any more", free, Some(&[cheap()]), Some(&[cheap()]), &["cheap@us"]),
        ("not sold any more, and no other has room", free, Some(&[small()]), Some(&[small()]), &[]),
        ("empty lists prove nothing", free, Some(&[]), Some(&[]), &["own@us"]),
        ("unread lists prove nothing", free, None, None, &["own@us"]),
        ("only the far list could be read", free, None, Some(&[own(), far()]), &["far@eu", "own@eu"]),
        ("its product is not known: by its name", no_product, Some(&[dear(), cheap()]), None, &["cheap@us", "dear@us"]),
        ("its product is not known, and nothing is left", no_product, Some(&[own_sold_out()]), None, &[]),
        (
            "its product's name is not known: only itself",
            no_name,
            Some(&[offer(":nameless", 1, "", &[]), own()]),
            None,
            &["own@us"],
        ),
    ];
    let cluster = |id: &str, name: &str| Cluster { id: id.into(), name: name.into() };
    for (name, change, own_cluster, anywhere, expected) in rows {
        let spec = spec(change).expect("it can be created");
        let market = Market {
            own_cluster: own_cluster.map(<[Offer]>::to_vec),
            anywhere: anywhere.map(<[Offer]>::to_vec),
            clusters: vec![cluster("us", "US-1"), cluster("eu", "EU-2")],
        };
        let places = placements(&spec, &market);
        let seen: Vec<String> = places.iter().map(|it| format!("{}@{}", it.product_id, it.cluster_id)).collect();
        assert_eq!(seen, *expected, "{name}");
        match prepare(spec, &market) {
            Ok(prepared) => assert_eq!(prepared.placements, places, "{name}"),
            Err(Obstacle::NoPlace { .. }) => assert!(expected.is_empty(), "{name}"),
            Err(obstacle) => panic!("{name}: {obstacle}"),
        }
    }
}

/// The order of the provider's list does not matter.
#[test]
fn places_do_not_depend_on_the_order_of_offers() {
    let mut offers: Vec<Offer> = (0..6).map(|n| offer(&format!("p{n}"), 20 + n % 3, "", &["US-1", "EU-2"])).collect();
    offers.push(offer("own", 30, "sold out", &[]));
    let clusters =
        vec![Cluster { id: "us".into(), name: "US-1".into() }, Cluster { id: "eu".into(), name: "EU-2".into() }];
    let spec = spec(|_| ()).expect("it can be created");
    let placed = |offers: &[Offer]| {
        let market =
            Market { own_cluster: Some(offers.to_vec()), anywhere: Some(offers.to_vec()), clusters: clusters.clone() };
        placements(&spec, &market)
    };
    let expected = placed(&offers);
    assert_eq!(expected.len(), 12);
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..50 {
        rng.shuffle(&mut offers);
        assert_eq!(placed(&offers), expected);
    }
}

#[test]
fn a_place_and_its_price_in_words() {
    let rows: &[(&str, &str, Option<u64>, Option<u64>, &str)] = &[
        ("own", "us", Some(33_500), Some(33_500), "on its own product own in us, 0.67 USD/h"),
        ("own", "us", Some(50_000), None, "on its own product own in us, 1.00 USD/h"),
        ("own", "us", None, None, "on its own product own in us"),
        ("x", "us", Some(30_500), Some(33_500), "on x in us in place of own in us, 0.61 USD/h (-8.9 %)"),
        ("x", "eu", Some(40_000), Some(32_000), "on x in eu in place of own in us, 0.80 USD/h (+25.0 %)"),
        ("x", "eu", Some(33_500), Some(33_500), "on x in eu in place of own in us, 0.67 USD/h (the same price)"),
        ("x", "eu", Some(33_499), Some(33_500), "on x in eu in place of own in us, 0.66998 USD/h (-0.0 %)"),
        ("own", "eu", Some(67_000), Some(33_500), "on own in eu in place of own in us, 1.34 USD/h (+100.0 %)"),
        ("x", "", Some(1), None, "on x in any cluster in place of own in us, 0.00002 USD/h"),
        ("x", "eu", None, Some(33_500), "on x in eu in place of own in us"),
        ("x", "eu", Some(5), Some(0), "on x in eu in place of own in us, 0.0001 USD/h"),
        ("x", "eu", Some(u64::MAX / 40), Some(1), "on x in eu in place of own in us, 9223372036854.7758 USD/h"),
    ];
    let spec = spec(|_| ()).expect("it can be created");
    for (product, cluster, price, own_price, expected) in rows {
        let placement = Placement {
            product_id: (*product).into(),
            cluster_id: (*cluster).into(),
            price: price.map(Usd::from_hundred_thousandths),
        };
        let words = placed(&spec, &placement, own_price.map(Usd::from_hundred_thousandths));
        assert!(words.starts_with(expected), "{words:?} is not {expected:?}");
        assert!(words.len() == expected.len() || price.is_some_and(|price| price > 1_000_000), "{words:?}");
    }
}

#[test]
fn obstacles_in_words() {
    let job = JobId::new("j1");
    for (obstacle, expected) in [
        (Obstacle::CannotRecreate(CannotRecreate::NoImage), "no image for it"),
        (Obstacle::NoPlace { product: "p".into() }, "neither its product p nor another of its kind"),
        (Obstacle::NoRoom { product: "p".into() }, "is available now, so it is not deleted first"),
        (Obstacle::JobAtWork(job), "job j1 is at work on it"),
        (Obstacle::Gone, "it is gone"),
        (Obstacle::Unread { kind: ErrorKind::Api, error: "HTTP 500".into() }, "could not be read: HTTP 500"),
    ] {
        assert!(obstacle.to_string().contains(expected), "{obstacle}");
    }
}
