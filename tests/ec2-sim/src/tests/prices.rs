//! GetProducts (3.6).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::World;

/// The filters that leave one product.
const FILTERS: [(&str, &str); 7] = [
    ("regionCode", "eu-west-1"),
    ("instanceType", "g5.xlarge"),
    ("operatingSystem", "Linux"),
    ("tenancy", "Shared"),
    ("capacitystatus", "Used"),
    ("preInstalledSw", "NA"),
    ("marketoption", "OnDemand"),
];

fn body(filters: &[(&str, &str)]) -> Value {
    let filters: Vec<_> =
        filters.iter().map(|(field, value)| json!({"Type": "TERM_MATCH", "Field": field, "Value": value})).collect();
    json!({"ServiceCode": "AmazonEC2", "Filters": filters, "FormatVersion": "aws_v1"})
}

/// The filters with another value for one.
fn with(field: &str, value: &str) -> Value {
    let filters = FILTERS.map(|(name, known)| (name, if name == field { value } else { known }));
    body(&filters)
}

fn ask_in(world: &mut World, region: &str, body: &Value) -> (Option<String>, Value) {
    let reply = world.call_json(region, "pricing", "GetProducts", &body.to_string());
    assert_eq!(reply.status == 200, reply.error_type.is_none());
    (reply.error_type, serde_json::from_str(&reply.body).expect("JSON"))
}

/// The documents that pass.
fn products(world: &mut World, body: &Value) -> Vec<Value> {
    let (error, answer) = ask_in(world, "eu-central-1", body);
    assert_eq!(error, None, "{answer}");
    let list = answer["PriceList"].as_array().expect("a list");
    let document = |text: &Value| serde_json::from_str(text.as_str().expect("a string")).expect("a document");
    list.iter().map(document).collect()
}

/// The on-demand price of a document, as text.
fn price(document: &Value) -> String {
    let only = |value: &Value| {
        let members: Vec<_> = value.as_object().expect("an object").values().cloned().collect();
        let [only] = &members[..] else { panic!("{value} has not one member") };
        only.clone()
    };
    let rate = only(&only(&document["terms"]["OnDemand"])["priceDimensions"]);
    assert_eq!(rate["unit"], "Hrs");
    rate["pricePerUnit"]["USD"].as_str().expect("a text").to_owned()
}

fn prices(world: &mut World, body: &Value) -> BTreeSet<String> {
    products(world, body).iter().map(price).collect()
}

#[test]
fn only_all_filters_together_leave_one_price() {
    let mut world = World::new(1);
    world.add_region("us-east-1");
    world.set_on_demand_price("g5.xlarge", "us-east-1a", "1.006");
    let all = body(&FILTERS);
    let found = products(&mut world, &all);
    let [only] = &found[..] else { panic!("{found:?}") };
    assert_eq!(price(only), "1.1230000000");
    assert_eq!(only["product"]["productFamily"], "Compute Instance");
    assert_eq!(only["product"]["attributes"]["operation"], "RunInstances");
    for left_out in 0..FILTERS.len() {
        let mut filters = FILTERS.to_vec();
        let (field, _) = filters.remove(left_out);
        assert!(prices(&mut world, &body(&filters)).len() > 1, "without {field}");
        assert_eq!(world.log().last().map(|entry| entry.took_effect), Some(false));
    }
    for (field, value, wanted) in [
        ("regionCode", "us-east-1", "1.0060000000"),
        ("instanceType", "g6.xlarge", "0.8993000000"),
        ("operatingSystem", "Windows", "1.3070000000"),
        ("operatingSystem", "RHEL", "1.2382000000"),
        ("tenancy", "Dedicated", "1.1903800000"),
        ("capacitystatus", "UnusedCapacityReservation", "0.0000000000"),
        ("preInstalledSw", "SQL Std", "1.6030000000"),
    ] {
        let found = prices(&mut world, &with(field, value));
        assert_eq!(found.iter().collect::<Vec<_>>(), [wanted], "{field} {value}");
    }
    for (field, value) in [("instanceType", "g9.xlarge"), ("operatingSystem", "linux"), ("regionCode", "eu-west-9")] {
        assert!(products(&mut world, &with(field, value)).is_empty(), "{field} {value}");
    }
    let by_operation = [FILTERS[0], FILTERS[1], FILTERS[3], FILTERS[4], ("operation", "RunInstances:0010")];
    assert_eq!(products(&mut world, &body(&by_operation)).len(), 1, "the operation says system and software");
    world.set_on_demand_price("g5.xlarge", "eu-west-1b", "9");
    assert_eq!(price(&products(&mut world, &all)[0]), "1.1230000000", "the first zone counts");
    world.set_on_demand_price("g5.xlarge", "eu-west-1a", "9");
    assert_eq!(price(&products(&mut world, &all)[0]), "9.0000000000");
}

#[test]
fn the_list_comes_in_pages() {
    let mut world = World::new(1);
    world.add_region("us-east-1");
    world.add_region("us-west-2");
    for (size, empty) in [(None, false), (Some(100), true), (Some(7), false)] {
        world.rules.empty_pages = empty;
        let mut ask = body(&[("servicecode", "AmazonEC2")]);
        if let Some(size) = size {
            ask["MaxResults"] = size.into();
        }
        let mut skus = BTreeSet::new();
        loop {
            let (error, answer) = ask_in(&mut world, "us-east-1", &ask);
            assert_eq!(error, None, "{answer}");
            let list = answer["PriceList"].as_array().expect("a list");
            assert!(list.len() <= size.unwrap_or(100));
            for text in list {
                let document: Value = serde_json::from_str(text.as_str().expect("a text")).expect("a document");
                assert!(skus.insert(document["product"]["sku"].to_string()));
            }
            let Some(token) = answer["NextToken"].as_str() else { break };
            ask["NextToken"] = token.into();
        }
        assert_eq!(skus.len(), 3 * (3 * 9 + 2 * 8));
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let mut world = World::new(1);
    let good = body(&FILTERS);
    let changed = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body
    };
    for (region, body, code) in [
        ("us-east-1", good.clone(), None),
        ("ap-south-1", good.clone(), None),
        ("eu-west-1", good.clone(), Some("InvalidSignatureException")),
        ("us-east-1", changed("ServiceCode", json!("AmazonRDS")), Some("InvalidParameterException")),
        ("us-east-1", changed("FormatVersion", json!("v2")), Some("InvalidParameterException")),
        ("us-east-1", changed("MaxResults", json!(101)), Some("InvalidParameterException")),
        ("us-east-1", changed("MaxResults", json!("100")), Some("SerializationException")),
        ("us-east-1", changed("NextToken", json!("x")), Some("InvalidNextTokenException")),
        ("us-east-1", changed("filters", json!([{"Field": "a"}])), Some("SerializationException")),
        (
            "us-east-1",
            changed("Filters", json!([{"Field": "tenancy", "Value": "Shared"}])),
            Some("InvalidParameterException"),
        ),
        ("us-east-1", body(&[("instancetype", "g5.xlarge")]), Some("InvalidParameterException")),
        ("us-east-1", json!({"Filters": []}), Some("InvalidParameterException")),
    ] {
        assert_eq!(ask_in(&mut world, region, &body).0.as_deref(), code, "{region} {body}");
    }
}
