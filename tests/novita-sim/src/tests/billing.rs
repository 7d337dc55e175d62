//! Tests of what instances cost, of billing modes that are not what was asked for, and of what was when.

use respot::cloud::transport::Method;
use serde_json::{Value, json};

use super::{act, call, get};
use crate::*;

const PRODUCT: &str = "4090.16c62g";

/// The status of a create for a billing mode, with the new instance's id or the reason of the refusal.
fn create(world: &mut World, billing: &str) -> (u16, String) {
    let body = json!({"name": "new", "productId": PRODUCT, "gpuNum": 2, "rootfsSize": 60, "imageUrl": "app:1",
        "kind": "gpu", "billingMode": billing});
    let (code, answer) = call(world, Method::Post, "/v1/gpu/instance/create", &[], &body);
    let answer: Value = serde_json::from_str(&answer).expect("json");
    let word = answer["id"].as_str().or(answer["reason"].as_str()).expect("an id or a reason");
    (code, word.to_owned())
}

fn price(world: &mut World, id: &str) -> Value {
    get(world, "/v1/gpu/instance", &[("instanceId", id)])["instancePrice"].clone()
}

#[test]
fn a_price_is_that_of_the_billing_mode_when_it_was_created() {
    let mut world = World::new(1);
    let added = |world: &mut World, billing: &str| world.add(Spec::running("x").product(PRODUCT, 2).billing(billing));
    let made = |world: &mut World, billing: &str| create(world, billing).1;
    let mut known = Vec::new();
    // Billing mode; the price before and after the change.
    for (billing, first, second) in
        [("spot", "33500", "40000"), ("onDemand", "67000", "70000"), ("monthly", "67000", "70000")]
    {
        known.push((added(&mut world, billing), first, second, billing));
        known.push((made(&mut world, billing), first, second, billing));
    }
    assert!(world.set_price(PRODUCT, 70_000, Some(40_000)));
    assert!(!world.set_price("none", 1, None));
    for (id, first, second, billing) in known {
        assert_eq!(price(&mut world, &id), json!(first), "{billing}, older than the change");
        world.edit(&id, |machine| machine.billing_mode = "onDemand".into());
        assert_eq!(price(&mut world, &id), json!(first), "{billing}, changed later");
        for id in [added(&mut world, billing), made(&mut world, billing)] {
            assert_eq!(price(&mut world, &id), json!(second), "{billing}, younger");
        }
    }
    let listed = get(&mut world, "/v1/products", &[])["data"][0].clone();
    assert_eq!((&listed["price"], &listed["spotPrice"]), (&json!("70000"), &json!("40000")));
    let unknown = world.add(Spec::running("x").product("of the past", 1));
    assert_eq!(price(&mut world, &unknown), Value::Null);
    world.edit(&unknown, |machine| machine.price = 7);
    assert_eq!(price(&mut world, &unknown), json!("7"));
    world.rules_mut().wire.get_omits_price = true;
    assert_eq!(price(&mut world, &unknown), Value::Null);
    assert!(world.set_price(PRODUCT, 70_000, None));
    assert_eq!(create(&mut world, "spot"), (400, "UNSUPPORTED_BILLING_MODE".into()));
}

#[test]
fn what_is_created_for_spot_can_be_something_else() {
    // The rules; what four creates for spot and one on demand become, and the price of the first.
    for (become_what, times, expected, first) in [
        (None, None, ["spot", "spot", "spot", "spot", "onDemand"], "33500"),
        (None, Some(2), ["spot", "spot", "spot", "spot", "onDemand"], "33500"),
        (Some("onDemand"), None, ["onDemand"; 5], "67000"),
        (Some("onDemand"), Some(0), ["spot", "spot", "spot", "spot", "onDemand"], "33500"),
        (Some("onDemand"), Some(2), ["onDemand", "onDemand", "spot", "spot", "onDemand"], "67000"),
        (Some(""), Some(1), ["", "spot", "spot", "spot", "onDemand"], "67000"),
    ] {
        let mut world = World::new(1);
        world.rules_mut().spot_creates_become = become_what;
        world.rules_mut().spot_creates_lied_about = times;
        let mut made = Vec::new();
        for asked in ["spot", "spot", "spot", "spot", "onDemand"] {
            let (code, id) = create(&mut world, asked);
            assert_eq!(code, 200, "{id}");
            made.push(id);
        }
        let modes: Vec<_> = made.iter().map(|id| world.get(id).expect("it is there").billing_mode.as_str()).collect();
        assert_eq!(modes, expected, "{become_what:?} {times:?}");
        let shown = get(&mut world, "/v1/gpu/instance", &[("instanceId", &made[0])]);
        assert_eq!((&shown["billingMode"], &shown["instancePrice"]), (&json!(expected[0]), &json!(first)));
    }
}

#[test]
fn spot_can_be_sold_out_alone() {
    const NONE: &str = "INSUFFICIENT_RESOURCE";
    // Stock, spot sold out; whether there are any for spot and on demand.
    for (stock, spot_sold_out, for_spot, on_demand) in
        [(2, false, true, true), (2, true, false, true), (1, false, false, false), (u32::MAX, true, false, true)]
    {
        for (billing, is_there) in [("spot", for_spot), ("onDemand", on_demand)] {
            let mut world = World::new(1);
            let id = world.add(Spec::exited("x").product(PRODUCT, 2).billing(billing));
            let product = world.product_mut(PRODUCT).expect("it is sold");
            (product.stock, product.spot_sold_out) = (stock, spot_sold_out);
            let query = [("billingMethod", billing), ("gpuNum", "2")];
            let hint = get(&mut world, "/v1/products", &query)["data"][0]["availableDeploy"].clone();
            assert_eq!(hint, is_there, "{stock} {spot_sold_out} {billing}");
            let mut again = world.clone();
            let (code, word) = create(&mut world, billing);
            assert_eq!((code == 200, word == NONE), (is_there, !is_there), "{stock} {spot_sold_out} {billing}: {word}");
            let (code, answer) = act(&mut again, "migrate", &id);
            assert_eq!(code == 200, is_there, "{stock} {spot_sold_out} {billing}: {answer}");
            again.product_mut(PRODUCT).expect("it is sold").hint_lies = true;
            assert_eq!(get(&mut again, "/v1/products", &query)["data"][0]["availableDeploy"], true);
        }
    }
}

#[test]
fn history_knows_when_an_instance_ran() {
    let mut world = World::new(1);
    let dawn = world.now_ms();
    let run = |from: i64, to: Option<i64>, billing_mode: &str| Run {
        from_ms: dawn + from,
        to_ms: to.map(|to| dawn + to),
        billing_mode: billing_mode.into(),
    };
    let old = world.add(Spec::running("old").billing("onDemand").started_ago_ms(5_000));
    let down = world.add(Spec::exited("down"));
    let (_, new) = create(&mut world, "spot");
    world.advance(40_000);
    act(&mut world, "delete", &old);
    assert!(world.reclaim_now(&new));
    world.advance(10_000);
    act(&mut world, "migrate", &new);
    world.advance(60_000);
    world.edit(&new, |machine| machine.billing_mode = "onDemand".into());
    world.edit(&new, |machine| machine.name = "no matter".into());
    world.advance(1_000);
    assert_eq!(world.runs_of(&old), [run(-5_000, Some(40_000), "onDemand")]);
    assert_eq!(world.runs_of(&down), []);
    let runs = [run(30_000, Some(40_000), "spot"), run(110_000, Some(110_000), "spot"), run(110_000, None, "onDemand")];
    assert_eq!(world.runs_of(&new), runs);
    let times = [&old, &down, &new].map(|id| world.running_time(id));
    assert_eq!(times, [45_000, 0, 11_000]);
    assert_eq!([&old, &new].map(|id| world.gone_at_ms(id)), [Some(dawn + 49_000), None]);
    world.vanish(&down);
    assert_eq!(world.gone_at_ms(&down), Some(dawn + 111_000));
    let told = |id: &str| -> Vec<_> {
        world
            .history()
            .iter()
            .filter(|past| past.id == id)
            .map(|past| (past.at_ms - dawn, past.status.as_str()))
            .collect()
    };
    assert_eq!(told(&down), [(0, "exited"), (111_000, "gone")]);
    let steps =
        [(-5_000, "running"), (40_000, "toRemove"), (43_000, "removing"), (46_000, "removed"), (49_000, "gone")];
    assert_eq!(told(&old), steps);
    let moved = world.clone().starting_at(dawn + 7);
    assert_eq!(moved.running_time(&old), 45_000);
}

#[test]
fn an_on_demand_fleet_can_be_moved() {
    assert_eq!(World::on_demand_fleet(1, 40).picture(), World::on_demand_fleet(1, 40).picture());
    assert_ne!(World::on_demand_fleet(1, 40).picture(), World::on_demand_fleet(2, 40).picture());
    let mut world = World::on_demand_fleet(1, 40);
    let machines: Vec<_> = world.machines().cloned().collect();
    let volumes = machines.iter().filter(|machine| !machine.volumes.is_empty()).count();
    let kinds = |key: fn(&Machine) -> String| machines.iter().map(key).collect::<std::collections::BTreeSet<_>>().len();
    let numbers = (volumes, kinds(|it| it.product_id.clone()), kinds(|it| it.cluster_id.clone()));
    assert_eq!(numbers, (4, 4, 3));
    assert!(kinds(|machine| format!("{:?}", machine.load)) > 3);
    for (number, old) in machines.iter().enumerate() {
        assert_eq!((old.name.clone(), old.status.as_str()), (format!("web-{number}"), "running"));
        let volumes: Vec<_> = old.volumes.iter().map(|it| json!({"Id": it.id, "mountPoint": it.mount_path})).collect();
        let body = json!({"name": format!("{}-new", old.name), "productId": old.product_id, "gpuNum": old.gpu_num,
            "rootfsSize": old.rootfs_size, "imageUrl": old.image_url, "kind": "gpu", "billingMode": "spot",
            "clusterId": old.cluster_id, "ports": "8080/http", "networkStorages": volumes});
        let (code, answer) = call(&mut world, Method::Post, "/v1/gpu/instance/create", &[], &body);
        assert_eq!(code, 200, "{}: {answer}", old.name);
        let new: Value = serde_json::from_str(&answer).expect("json");
        let new = new["id"].as_str().expect("an id").to_owned();
        world.advance(60_000);
        let took = [&old.id, &new].map(|id| {
            let address = world.endpoint(id, 8080).expect("an endpoint");
            world.knock(&address, AppKind::Http)
        });
        assert_eq!((took[0], took[0].said), (took[1], Said::Fine), "{}", old.name);
        assert!(world.get(&new).is_some_and(|new| new.price < old.price && new.load == old.load), "{}", old.name);
    }
    world.change_apps(|image, app| {
        if image.ends_with("web-0:1.0") {
            app.spot = Change::hangs();
        }
    });
    let said = ["web-0-new", "web-1-new"].map(|name| {
        let id = world.named(name).next().expect("it is there").id.clone();
        let address = world.endpoint(&id, 8080).expect("an endpoint");
        world.knock(&address, AppKind::Http).said
    });
    assert_eq!(said, [Said::Nothing, Said::Fine]);
}
