//! Tables of every market situation, and of the words for a place and its price.

use super::*;
use crate::cloud::novita::blueprint::{Configuration, NetworkVolume, tests::configuration};
use crate::core::world::instance::Billing;

fn spec(change: impl FnOnce(&mut Configuration)) -> Spec {
    let mut configuration = configuration();
    change(&mut configuration);
    Spec::of(&blueprint(configuration).expect("it can be created")).expect("a specification")
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
        (
            "the own product is sold out",
            free,
            Some(&[own_sold_out(), dear(), cheap()]),
            None,
            &["own@us!", "cheap@us", "dear@us"],
        ),
        (
            "nothing here, so elsewhere",
            free,
            Some(&[own_sold_out()]),
            Some(&[own_sold_out(), far()]),
            &["own@us!", "far@eu"],
        ),
        ("here before elsewhere, though dearer", free, Some(&[dear()]), Some(&[dear(), far()]), &["dear@us", "far@eu"]),
        ("the own product elsewhere", free, Some(&[own_sold_out()]), Some(&[own()]), &["own@us!", "own@eu"]),
        ("no regions is anywhere", free, Some(&[own_sold_out()]), Some(&[everywhere()]), &["own@us!", "all@"]),
        (
            "a region of no known cluster: the provider finds it",
            free,
            Some(&[own_sold_out()]),
            Some(&[own_sold_out(), nowhere()]),
            &["own@us!", "lost@"],
        ),
        ("a volume ties it", tied, Some(&[own_sold_out()]), Some(&[far()]), &["own@us!"]),
        (
            "a private network ties it",
            in_vpc,
            Some(&[own_sold_out(), cheap()]),
            Some(&[far()]),
            &["own@us!", "cheap@us"],
        ),
        ("another name", free, Some(&[own_sold_out(), other()]), Some(&[other()]), &["own@us!"]),
        ("not sold as spot", free, Some(&[own_sold_out(), not_spot()]), None, &["own@us!"]),
        ("too small for its disk", free, Some(&[own_sold_out(), small(), large()]), None, &["own@us!", "large@us"]),
        (
            "nothing at all: the hint is not believed",
            free,
            Some(&[own_sold_out()]),
            Some(&[own_sold_out()]),
            &["own@us!"],
        ),
        ("not sold any more", free, Some(&[cheap()]), Some(&[cheap()]), &["cheap@us"]),
        ("not sold any more, and no other has room", free, Some(&[small()]), Some(&[small()]), &[]),
        ("empty lists prove nothing", free, Some(&[]), Some(&[]), &["own@us!"]),
        ("unread lists prove nothing", free, None, None, &["own@us"]),
        ("only the far list could be read", free, None, Some(&[own(), far()]), &["far@eu", "own@eu", "own@us"]),
        ("its product is not known: by its name", no_product, Some(&[dear(), cheap()]), None, &["cheap@us", "dear@us"]),
        ("its product is not known, and nothing is left", no_product, Some(&[own_sold_out()]), None, &["own@us!"]),
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
        let spec = spec(change);
        let market = OnOffer {
            own_cluster: own_cluster.map(<[Offer]>::to_vec),
            anywhere: anywhere.map(<[Offer]>::to_vec),
            clusters: vec![cluster("us", "US-1"), cluster("eu", "EU-2")],
            ..OnOffer::default()
        };
        let places = sites(&spec, &market);
        let mark = |stock: Stock| if stock == Stock::None { "!" } else { "" };
        let seen: Vec<String> =
            places.iter().map(|it| format!("{}@{}{}", it.product_id, it.cluster_id, mark(it.stock))).collect();
        assert_eq!(seen, *expected, "{name}");
        let blueprint = Blueprint { billing: Billing::Spot, notes: vec![], payload: Default::default() };
        for (needs_room, moves_to) in [(false, None), (true, None), (false, Some(&Billing::Spot))] {
            let id = InstanceId::new("a");
            let wanted = Wanted {
                instance: &id,
                name: "",
                kept: None,
                billing: moves_to,
                stays: moves_to.is_some(),
                failed_job: None,
                needs_room,
            };
            let chosen = choose(&wanted, (blueprint.clone(), None), &spec, &market);
            let chosen = chosen.map(|it| {
                let places = it
                    .placements
                    .iter()
                    .map(|it| format!("{}@{}{}", it.place.product, it.place.cluster, mark(it.stock)));
                places.collect::<Vec<_>>()
            });
            // A move goes where there is stock, if there is any.
            let has_stock = expected.iter().any(|it| !it.ends_with('!'));
            let is_own = |it: &&&str| **it == "own@us" || !has_stock && **it == "own@us!";
            let own = || expected.iter().filter(is_own).map(ToString::to_string).collect::<Vec<_>>();
            match chosen {
                Ok(chosen) if moves_to.is_some() => assert_eq!(chosen, own(), "{name}"),
                Ok(chosen) => assert_eq!(chosen, *expected, "{name}"),
                Err(Obstacle::NoRoom { .. }) => assert!(needs_room && !has_stock, "{name}"),
                Err(Obstacle::NoPlace { .. }) if moves_to.is_some() => {
                    assert!(own().is_empty() || spec.product_id.is_empty(), "{name}");
                }
                Err(obstacle) => assert!(expected.is_empty() && matches!(obstacle, Obstacle::NoPlace { .. }), "{name}"),
            }
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
    let spec = spec(|_| ());
    let placed = |offers: &[Offer]| {
        let market = OnOffer {
            own_cluster: Some(offers.to_vec()),
            anywhere: Some(offers.to_vec()),
            clusters: clusters.clone(),
            ..OnOffer::default()
        };
        sites(&spec, &market)
    };
    let expected = placed(&offers);
    assert_eq!(expected.len(), 14, "what is sold out is among them");
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
    let spec = spec(|_| ());
    for (product, cluster, price, own_price, expected) in rows {
        let site = Site {
            product_id: (*product).into(),
            cluster_id: (*cluster).into(),
            price: price.map(Usd::from_hundred_thousandths),
            on_demand_price: None,
            stock: Stock::Unstated,
        };
        let words = words(&spec, &site, own_price.map(Usd::from_hundred_thousandths), "");
        assert!(words.starts_with(expected), "{words:?} is not {expected:?}");
        assert!(words.len() == expected.len() || price.is_some_and(|price| price > 1_000_000), "{words:?}");
    }
}
