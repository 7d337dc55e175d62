//! GetServiceQuota (3.7).

use serde_json::{Value, json};

use super::asking::{ask, ask_json, launch_in, refused_json, spot_launch};
use crate::{Lifecycle, World};

fn quota(world: &mut World, code: &str) -> Value {
    let (status, answer) =
        ask_json(world, "servicequotas", "GetServiceQuota", &json!({"ServiceCode": "ec2", "QuotaCode": code}));
    assert_eq!(status, 200, "{answer}");
    answer["Quota"].clone()
}

#[test]
fn each_code_tells_the_quota_of_its_market_and_group() {
    let mut world = World::new(1);
    world.add_region("us-east-1");
    for (place, (code, market, group)) in (1..).zip([
        ("L-34B43A08", Lifecycle::Spot, "Standard"),
        ("L-3819A6DF", Lifecycle::Spot, "G"),
        ("L-7212CCBC", Lifecycle::Spot, "P"),
        ("L-E3A00192", Lifecycle::Spot, "X"),
        ("L-85EED4F7", Lifecycle::Spot, "DL"),
        ("L-B5D1601B", Lifecycle::Spot, "Inf"),
        ("L-88CF9481", Lifecycle::Spot, "F"),
        ("L-1216C47A", Lifecycle::OnDemand, "Standard"),
        ("L-DB2E81BA", Lifecycle::OnDemand, "G"),
        ("L-417A185B", Lifecycle::OnDemand, "P"),
    ]) {
        world.set_quota("us-east-1", market, group, 1);
        assert_eq!(quota(&mut world, code)["Value"], 1_000_000.0, "{code}: of another region");
        world.set_quota("eu-west-1", market, group, place * 8);
        let told = quota(&mut world, code);
        assert_eq!((&told["QuotaCode"], &told["Value"]), (&json!(code), &json!(f64::from(place * 8))));
        let of = if market == Lifecycle::Spot { "Spot" } else { "OnDemand" };
        assert_eq!(told["UsageMetric"]["MetricDimensions"]["Class"], format!("{group}/{of}"));
    }
    assert!(world.log().iter().all(|entry| entry.action == "GetServiceQuota" && !entry.took_effect));
}

#[test]
fn what_is_told_is_what_holds() {
    let mut world = World::new(1);
    for (code, market, form) in [
        ("L-3819A6DF", Lifecycle::Spot, spot_launch(&world)),
        ("L-DB2E81BA", Lifecycle::OnDemand, launch_in(&world, "eu-west-1a")),
    ] {
        for vcpus in [0, 3, 4] {
            world.set_quota("eu-west-1", market, "G", vcpus);
            let fits = quota(&mut world, code)["Value"].as_f64().is_some_and(|value| value >= 4.0);
            assert_eq!(ask(&mut world, "RunInstances", &form).status == 200, fits, "{code} {vcpus}");
        }
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let mut world = World::new(1);
    let refused = |world: &mut World, body: Value| refused_json(world, "servicequotas", "GetServiceQuota", &body);
    for (body, code) in [
        (json!({"ServiceCode": "ec2", "QuotaCode": "L-00000000"}), "NoSuchResourceException"),
        (json!({"ServiceCode": "ecs", "QuotaCode": "L-3819A6DF"}), "NoSuchResourceException"),
        (json!({"ServiceCode": "ec2"}), "IllegalArgumentException"),
        (json!({"ServiceCode": "ec2", "QuotaCode": 3}), "SerializationException"),
        (json!({"ServiceCode": "ec2", "Code": "L-3819A6DF"}), "SerializationException"),
    ] {
        assert_eq!(refused(&mut world, body), code);
    }
    let good = json!({"ServiceCode": "ec2", "QuotaCode": "L-3819A6DF"});
    world.rules.throttle = Some(crate::Throttle::documented());
    for _ in 0..100 {
        quota(&mut world, "L-3819A6DF");
    }
    assert_eq!(refused(&mut world, good.clone()), "TooManyRequestsException");
    world.fault("GetServiceQuota@1:html".parse().expect("a rule"));
    let reply = world.call_json("eu-west-1", "servicequotas", "GetServiceQuota", &good.to_string());
    assert_eq!((reply.status, reply.content_type), (502, "text/html"));
}
