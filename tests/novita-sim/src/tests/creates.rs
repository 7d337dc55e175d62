//! Tests of creations, and of what there is to be created from.

use respot::cloud::transport::{Method, Request, Transport as _};
use serde_json::{Value, json};

use super::{act, call, get, status};
use crate::*;

/// A create that works, changed by a row of a test.
fn body(change: &Value) -> Value {
    let mut body = json!({"name": "new", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 60, "imageUrl": "app:1",
        "kind": "gpu"});
    if let (Some(body), Some(change)) = (body.as_object_mut(), change.as_object()) {
        body.extend(change.clone());
    }
    body
}

fn create(world: &mut World, change: &Value) -> (u16, String) {
    call(world, Method::Post, "/v1/gpu/instance/create", &[], &body(change))
}

/// The cluster of the one created instance, or the reason of the refusal.
fn created_in(world: &mut World, change: &Value) -> String {
    let (code, answer) = create(world, change);
    let answer: Value = serde_json::from_str(&answer).expect("json");
    if code != 200 {
        assert_eq!(code, 400, "{answer}");
        return answer["reason"].as_str().expect("a reason").to_owned();
    }
    world.get(answer["id"].as_str().expect("an id")).expect("it is there").cluster_id.clone()
}

fn sell_out(world: &mut World, product: &str, clusters: &[&str]) {
    let product = world.product_mut(product).expect("it is sold");
    product.sold_out_in = clusters.iter().map(|&id| id.to_owned()).collect();
}

/// What the product list says about the usual product.
fn hint(world: &mut World, query: &[(&str, &str)]) -> (Value, Value) {
    let products = get(world, "/v1/products", query)["data"].clone();
    let product = products.as_array().expect("rows").iter().find(|product| product["id"] == "4090.16c62g").cloned();
    product.map(|product| (product["availableDeploy"].clone(), product["inventoryState"].clone())).unwrap_or_default()
}

#[test]
fn creates_are_checked() {
    for (key, value, reason) in [
        ("name", json!("fine"), ""),
        ("rootfsSize", json!(1), ""),
        ("networkStorages", json!([{"Id": "vol-1"}]), ""),
        ("productId", json!("none"), "VALIDATOR_PARAM"),
        ("productId", json!(""), "VALIDATOR_PARAM"),
        ("gpuNum", json!("1"), "VALIDATOR_PARAM"),
        ("gpuNum", json!(9), "VALIDATOR_PARAM"),
        ("rootfsSize", json!(201), "VALIDATOR_PARAM"),
        ("kind", json!("tpu"), "VALIDATOR_PARAM"),
        ("ports", json!("80:http"), "VALIDATOR_PARAM"),
        ("ports", json!("2222/tcp"), "VALIDATOR_PARAM"),
        ("ports", json!([{"port": 80, "type": "http"}]), "VALIDATOR_PARAM"),
        ("networkStorages", json!([{"id": "vol-1"}]), "VALIDATOR_PARAM"),
        ("networkId", json!(7), "VALIDATOR_PARAM"),
        ("billingMode", json!("cheap"), "VALIDATOR_PARAM"),
        ("clusterId", json!("US-XX-01"), "VALIDATOR_PARAM"),
        ("clusterId", json!("ap-xx-1"), "INSUFFICIENT_RESOURCE"),
    ] {
        let mut world = World::new(7);
        world.add_volume("vol-1", "us-xx-1");
        let (code, answer) = create(&mut world, &json!({key: value}));
        assert_eq!(code == 200, reason.is_empty(), "{key} {value}: {answer}");
        assert!(answer.contains(reason), "{key} {value}: {answer}");
        assert_eq!(world.applied(Op::Create), usize::from(code == 200), "{key} {value}");
    }
}

#[test]
fn volumes_and_networks_are_at_home_in_one_cluster() {
    const NO_VOLUME: &str = "NETWORK_STORAGE_NOT_FOUND";
    const ELSEWHERE: &str = "NETWORK_STORAGE_CLUSTER_MISMATCH";
    // Cluster, volumes and network asked for; the cluster it gets, or the reason of the refusal.
    for (cluster, volumes, network, expected) in [
        ("", &[][..], "", "us-xx-1"),
        ("", &["vol-eu"], "", "eu-xx-2"),
        ("", &[], "vpc-eu", "eu-xx-2"),
        ("", &["vol-eu"], "vpc-eu", "eu-xx-2"),
        ("eu-xx-2", &["vol-eu"], "vpc-eu", "eu-xx-2"),
        ("us-xx-1", &["vol-us", "vol-us-2"], "vpc-us", "us-xx-1"),
        ("us-xx-1", &["vol-eu"], "", ELSEWHERE),
        ("", &["vol-us", "vol-eu"], "", ELSEWHERE),
        ("", &["vol-unknown"], "", NO_VOLUME),
        ("us-xx-1", &["vol-us", "vol-unknown"], "", NO_VOLUME),
        ("", &[], "vpc-unknown", "NETWORK_NOT_FOUND"),
        ("us-xx-1", &[], "vpc-eu", "NETWORK_NOT_FOUND"),
        ("", &["vol-us"], "vpc-eu", "NETWORK_NOT_FOUND"),
    ] {
        let mut world = World::new(1);
        world.add(Spec::running("us").network_volume("vol-us", "/network").network("vpc-us"));
        world.add_volume("vol-us-2", "us-xx-1");
        world.add(Spec::running("eu").cluster("eu-xx-2").network_volume("vol-eu", "/data"));
        world.add_network("vpc-eu", "eu-xx-2");
        let volumes: Vec<_> = volumes.iter().map(|id| json!({"Id": id, "mountPoint": "/data"})).collect();
        let asked = json!({"clusterId": cluster, "networkStorages": volumes, "networkId": network});
        assert_eq!(created_in(&mut world, &asked), expected, "{asked}");
        let made = world.named("new").next();
        assert_eq!(made.map_or("", |made| &made.network_id), if made.is_some() { network } else { "" }, "{asked}");
    }
}

#[test]
fn only_get_tells_the_network() {
    let mut world = World::new(1);
    let (with, without) = (world.add(Spec::running("a").network("vpc-1")), world.add(Spec::running("b")));
    for (id, network) in [(&with, json!({"id": "vpc-1", "ip": "10.0.0.7"})), (&without, json!({"id": "", "ip": ""}))] {
        assert_eq!(get(&mut world, "/v1/gpu/instance", &[("instanceId", id)])["network"], network);
    }
    assert_eq!(get(&mut world, "/v1/gpu/instances", &[])["instances"][0].get("network"), None);
    let clusters = get(&mut world, "/v1/clusters", &[])["data"].clone();
    let support: Vec<_> = clusters.as_array().expect("rows").iter().map(|it| &it["supportInstanceNetwork"]).collect();
    assert_eq!(support, [true, false, false]);
}

#[test]
fn stock_is_a_matter_of_the_cluster() {
    let (yes, low, no) = ((json!(true), json!("high")), (json!(true), json!("low")), (json!(false), json!("none")));
    // Sold out where, stock; the hints without a cluster and for both; where a create without a cluster goes.
    for (sold_out, stock, hints, place) in [
        (&[][..], u32::MAX, [&yes, &yes, &yes], "us-xx-1"),
        (&["us-xx-1"], u32::MAX, [&yes, &no, &yes], "eu-xx-2"),
        (&["eu-xx-2"], 2, [&low, &low, &no], "us-xx-1"),
        (&["us-xx-1", "eu-xx-2"], 9, [&no, &no, &no], "INSUFFICIENT_RESOURCE"),
        (&[], 0, [&no, &no, &no], "INSUFFICIENT_RESOURCE"),
    ] {
        let mut world = World::new(1);
        let old = world.add(Spec::exited("old"));
        sell_out(&mut world, "4090.16c62g", sold_out);
        world.product_mut("4090.16c62g").expect("it is sold").stock = stock;
        let queries: [&[(&str, &str)]; 3] = [&[], &[("clusterId", "us-xx-1")], &[("clusterId", "eu-xx-2")]];
        let seen = queries.map(|query| hint(&mut world, query));
        assert_eq!(seen.each_ref(), hints, "{sold_out:?} {stock}");
        for cluster in sold_out {
            assert_eq!(created_in(&mut world, &json!({"clusterId": cluster})), "INSUFFICIENT_RESOURCE", "{sold_out:?}");
        }
        assert_eq!(created_in(&mut world, &json!({"clusterId": ""})), place, "{sold_out:?} {stock}");
        let (code, answer) = act(&mut world, "migrate", &old);
        let is_there = stock > 0 && !sold_out.contains(&"us-xx-1");
        assert_eq!(code == 200, is_there, "{sold_out:?} {stock}: {answer}");
        assert_eq!(answer.contains("INSUFFICIENT_RESOURCE"), !is_there, "{sold_out:?} {stock}: {answer}");
    }
}

#[test]
fn a_hint_can_lie_and_a_product_can_go() {
    let mut world = World::new(1);
    let old = world.add(Spec::exited("old"));
    sell_out(&mut world, "4090.16c62g", &["us-xx-1", "eu-xx-2"]);
    world.product_mut("4090.16c62g").expect("it is sold").hint_lies = true;
    assert_eq!(hint(&mut world, &[("clusterId", "us-xx-1")]), (json!(true), json!("high")));
    assert_eq!(created_in(&mut world, &json!({})), "INSUFFICIENT_RESOURCE");

    let product = world.withdraw_product("4090.16c62g").expect("it was sold");
    assert_eq!(world.withdraw_product("4090.16c62g"), None);
    assert_eq!(hint(&mut world, &[]), (Value::Null, Value::Null));
    let (code, answer) = create(&mut world, &json!({}));
    assert!(code == 400 && answer.contains("VALIDATOR_PARAM") && answer.contains("invalid productId"), "{answer}");
    assert_eq!(get(&mut world, "/v1/gpu/instance", &[("instanceId", &old)])["productId"], "4090.16c62g");
    assert_eq!(act(&mut world, "migrate", &old).0, 200, "products of the past have what they need");

    world.add_product(Product { sold_out_in: Vec::new(), ..product });
    assert_eq!(created_in(&mut world, &json!({})), "us-xx-1");
}

#[test]
fn quotas_count_what_is_alive() {
    const INSTANCES: &str = "CREATE_INSTANCE_LIMIT";
    const GPUS: &str = "CREATE_GPU_NUM_LIMIT";
    // The status of one old instance with two GPUs, the quotas, the GPUs asked for, the reason of the refusal.
    for (status, instances, gpus, asked, reason) in [
        ("exited", None, None, 8, ""),
        ("exited", Some(2), None, 1, ""),
        ("exited", Some(1), None, 1, INSTANCES),
        ("migrating", Some(1), None, 1, INSTANCES),
        ("toRemove", Some(1), None, 1, ""),
        ("removed", Some(1), None, 1, ""),
        ("exited", None, Some(3), 1, ""),
        ("exited", None, Some(3), 2, GPUS),
        ("removing", None, Some(3), 3, ""),
        ("removing", None, Some(3), 4, GPUS),
        ("exited", Some(1), Some(2), 1, INSTANCES),
    ] {
        let case = format!("{status} {instances:?} {gpus:?} {asked}");
        let mut world = World::new(1);
        world.add(Spec::exited("old").status(status).product("4090.16c62g", 2));
        world.rules_mut().instance_quota = instances;
        world.rules_mut().gpu_quota = gpus;
        let place = created_in(&mut world, &json!({"gpuNum": asked}));
        assert_eq!(place, if reason.is_empty() { "us-xx-1" } else { reason }, "{case}");
    }
}

#[test]
fn the_chronicle_knows_what_was() {
    let mut world = World::new(1);
    let dawn = world.now_ms();
    let ids = ["removed", "vanished", "stays", "pulls"].map(|name| {
        world.add(Spec::running(name).id(name).status(if name == "pulls" { "pulling" } else { "running" }))
    });
    assert_eq!(create(&mut world, &json!({})).0, 200);
    let new = world.named("new").next().expect("it is there").id.clone();
    world.rules_mut().instance_quota = Some(1);
    assert_eq!(create(&mut world, &json!({"name": "refused"})).0, 400);
    world.fault("create:cut-before".parse().expect("a rule"));
    world.serve(&Call {
        method: Method::Post,
        path: "/v1/gpu/instance/create".into(),
        query: Vec::new(),
        key: Some("sk_test".into()),
        body: body(&json!({"name": "lost"})).to_string().into(),
    });
    act(&mut world, "delete", "removed");
    act(&mut world, "stop", "nobody");
    world.advance(60_000);
    world.vanish("vanished");

    let told: Vec<_> = world.log().iter().map(|it| (it.op.as_str(), it.instance.as_str(), it.name.as_str())).collect();
    let expected = [
        ("create", new.as_str(), "new"),
        ("create", "refused", "refused"),
        ("create", "lost", "lost"),
        ("delete", "removed", "removed"),
        ("stop", "nobody", ""),
    ];
    assert_eq!(told, expected);
    let gone: Vec<_> = world.gone().map(|machine| (machine.id.as_str(), machine.status.as_str())).collect();
    assert_eq!(gone, [("removed", "removed"), ("vanished", "running")]);
    assert_eq!(world.ever().count(), 5);
    let first_ran = |id: &str| world.ever().find(|machine| machine.id == id).map(|machine| machine.first_ran_at);
    let started = Some(dawn - 86_400_000);
    assert_eq!(ids.each_ref().map(|id| first_ran(id)), [started, started, started, Some(0)]);
    assert_eq!(first_ran(&new), Some(dawn + 30_000));
    // It stays what it was when the instance runs again.
    act(&mut world, "restart", &new);
    world.advance(60_000);
    let machine = world.get(&new).expect("it is there");
    assert!(machine.status == "running" && machine.last_started_at > machine.first_ran_at);
    assert_eq!(machine.first_ran_at, dawn + 30_000);
    assert_eq!(status(&world, "removed"), "gone");

    let moved = world.starting_at(0);
    let times: Vec<_> = moved.ever().map(|machine| machine.first_ran_at).collect();
    assert!(times.iter().all(|at| *at <= 0), "{times:?}");
}

#[test]
fn new_instances_may_not_come_up() {
    // The shares of those that get stuck and that end, a product; the statuses step by step.
    for (stuck, exits, product, steps) in [
        (0.0, 0.0, "4090.16c62g", ["toCreate", "creating", "pulling", "running"]),
        (0.0, 0.0, "4090.12c50g.v2", ["pending", "creating", "pulling", "running"]),
        (0.0, 1.0, "4090.16c62g", ["toCreate", "creating", "pulling", "exited"]),
        (1.0, 1.0, "4090.16c62g", ["toCreate", "creating", "creating", "creating"]),
    ] {
        let mut world = World::new(1);
        world.rules_mut().stuck_creates = stuck;
        world.rules_mut().exit_after_create = exits;
        create(&mut world, &json!({"productId": product, "billingMode": "spot"}));
        let id = world.named("new").next().expect("it is there").id.clone();
        let mut seen = vec![status(&world, &id)];
        for _ in 0..3 {
            world.advance(10_000);
            seen.push(status(&world, &id));
        }
        assert_eq!(seen, steps);
        world.settle();
        let (end, has_run) = (steps[3], steps[3] == "running");
        let machine = world.get(&id).expect("it is there");
        assert_eq!((machine.first_ran_at != 0, machine.last_stopped_at != 0), (has_run, end == "exited"), "{end}");
        assert_eq!(world.reclaim_wave(1.0).len(), usize::from(has_run), "what runs can be reclaimed");
        assert_eq!(status(&world, &id), if has_run { "exited" } else { end });
    }
}

#[test]
fn a_reclaim_ends_a_creation() {
    let mut world = World::new(1);
    create(&mut world, &json!({"billingMode": "spot"}));
    let id = world.named("new").next().expect("it is there").id.clone();
    world.advance(15_000);
    assert!(world.reclaim_now(&id));
    world.settle();
    let machine = world.get(&id).expect("it is there");
    assert_eq!((machine.status.as_str(), machine.first_ran_at), ("exited", 0));
}

#[test]
fn answers_of_creates() {
    let mut keys = std::collections::BTreeSet::new();
    for (wanted, expected) in [
        (CreateAnswer::LowerId, &["id"][..]),
        (CreateAnswer::CapitalId, &["Id"]),
        (CreateAnswer::Seeded, &["Id", "id"]),
    ] {
        keys.clear();
        let mut world = World::new(1);
        world.rules_mut().wire.create_answer = wanted;
        for _ in 0..20 {
            let (code, answer) = create(&mut world, &json!({}));
            assert_eq!(code, 200, "{answer}");
            let answer: Value = serde_json::from_str(&answer).expect("json");
            let (key, id) = answer.as_object().expect("an object").iter().next().expect("a field");
            keys.insert(key.clone());
            let logged = world.log().last().expect("an entry");
            assert_eq!((Some(logged.instance.as_str()), logged.name.as_str()), (id.as_str(), "new"));
        }
        assert!(keys.iter().eq(expected), "{wanted:?}: {keys:?}");
    }
}

#[test]
fn a_delete_can_have_to_wait() {
    let mut world = World::new(1);
    world.rules_mut().refuse_delete_while = vec!["migrating".into()];
    let (stuck, exited) = (world.add(Spec::stuck("a", 60_000)), world.add(Spec::exited("b")));
    let (code, answer) = act(&mut world, "delete", &stuck);
    assert!(code == 400 && answer.contains("invalid state change"), "{answer}");
    assert_eq!(act(&mut world, "delete", &exited).0, 200);
    world.set_status(&stuck, "exited");
    assert_eq!(act(&mut world, "delete", &stuck).0, 200);
}

#[test]
fn get_may_still_show_a_failed_migration() {
    for (keeps, shown) in [(false, 0), (true, 1)] {
        let mut world = World::new(1);
        let id = world.add(Spec::stuck("x", 60_000));
        world.add_job(JobRow::migration(&id, "success", world.now_ms() - 1_000_000));
        world.add_job(JobRow { kind: "saveImage".into(), ..JobRow::migration(&id, "fail", world.now_ms()) });
        world.rules_mut().wire.get_keeps_failed_jobs = keeps;
        let jobs = get(&mut world, "/v1/gpu/instance", &[("instanceId", &id)])["jobs"].clone();
        assert_eq!(jobs.as_array().map(Vec::len), Some(shown), "{jobs}");
        assert!(!keeps || jobs[0]["type"] == "instanceMigrate", "{jobs}");
    }
}

#[tokio::test(start_paused = true)]
async fn lost_creates_and_deletes_in_process() {
    let seconds = std::time::Duration::from_secs;
    // Rule; creates (and deletes) that took effect right after, when 399 seconds have passed, and a minute later.
    for (rule, first, then, last) in [
        ("late=400000", 0, 0, 1),
        ("late=100000", 0, 1, 1),
        ("cut-before", 0, 0, 0),
        ("cut-after", 1, 1, 1),
        ("hang", 0, 0, 0),
        ("hang,effect", 1, 1, 1),
        ("status=500", 0, 0, 0),
        ("status=500,effect", 1, 1, 1),
        ("html", 0, 0, 0),
        ("empty", 1, 1, 1),
        ("malformed", 1, 1, 1),
        ("truncated", 1, 1, 1),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec::exited("x"));
        world.fault(format!("create/new*:{rule}*1").parse().expect(rule));
        world.fault(format!("delete/{id}:{rule}*1").parse().expect(rule));
        let provider = InProcess::new(world);
        let (create, delete) = (body(&json!({})), json!({"instanceId": id}));
        for (path, body) in [("/v1/gpu/instance/create", create), ("/v1/gpu/instance/delete", delete)] {
            let body = Some(body.to_string());
            let request = Request { method: Method::Post, path, query: Vec::new(), body, timeout: seconds(30) };
            provider.exchange(&request).await.ok();
        }
        for (wait, expected) in [(0, first), (399, then), (60, last)] {
            tokio::time::sleep(seconds(wait)).await;
            let world = provider.world();
            assert_eq!((world.applied(Op::Create), world.applied(Op::Delete)), (expected, expected), "{rule}");
        }
        let world = provider.world();
        assert_eq!(world.gone().count(), last, "{rule}: an old one is deleted");
        assert_eq!(world.named("new").count(), last, "{rule}: a new one is there");
    }
}
