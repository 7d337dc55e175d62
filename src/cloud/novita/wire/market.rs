//! Products and clusters.

use serde_json::{Map, Value};

use super::{Text, decode};
use crate::core::world::market::{Offer, Stock};
use crate::core::world::money::Usd;

/// A cluster, with its name as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cloud::novita) struct Cluster {
    pub(in crate::cloud::novita) id: String,
    pub(in crate::cloud::novita) name: String,
}

/// Reads the products, with the price in one billing mode. Rows without an id are dropped.
pub(in crate::cloud::novita) fn offers(body: &[u8], billing: &str) -> Result<Vec<Offer>, String> {
    Ok(rows(body, "products")?.iter().filter_map(|row| offer(row.as_object()?, billing)).collect())
}

/// Reads the clusters. Rows without an id are dropped.
pub(in crate::cloud::novita) fn clusters(body: &[u8]) -> Result<Vec<Cluster>, String> {
    let cluster = |row: &Value| {
        let row = row.as_object()?;
        let id = word(row, "id");
        (!id.is_empty()).then(|| Cluster { id, name: word(row, "name") })
    };
    Ok(rows(body, "clusters")?.iter().filter_map(cluster).collect())
}

/// The list under `data`, under its own name, or bare.
fn rows(body: &[u8], name: &str) -> Result<Vec<Value>, String> {
    match decode(body)? {
        Value::Array(rows) => Ok(rows),
        Value::Object(mut fields) => match fields.remove("data").or_else(|| fields.remove(name)) {
            Some(Value::Array(rows)) => Ok(rows),
            // Nothing is on offer.
            Some(Value::Null) => Ok(Vec::new()),
            _ => Err("an object without the list".into()),
        },
        _ => Err("JSON of an unknown shape".into()),
    }
}

/// Prices arrive in 1/100000 USD per GPU and hour.
fn offer(row: &Map<String, Value>, billing: &str) -> Option<Offer> {
    let product_id = word(row, "id");
    if product_id.is_empty() {
        return None;
    }
    let methods = row.get("billingMethods").and_then(Value::as_array);
    let price = |billing: &str| {
        let price = match billing {
            // "0", empty and missing mean "not sold as spot". The price of another mode is never used in its place.
            "spot" => number(row, "spotPrice"),
            "onDemand" => number(row, "price"),
            // The unit of the monthly price is unknown.
            _ => None,
        };
        let is_sold_so = methods.is_none_or(|methods| methods.is_empty() || methods.iter().any(|it| it == billing));
        price.filter(|_| is_sold_so).map(Usd::from_hundred_thousandths)
    };
    // Both fields are hints, and both may be missing. The console reads a missing state as "none"; here that would only
    // prevent the attempt to create, which is the one way to know.
    let stock = match word(row, "inventoryState").to_ascii_lowercase().as_str() {
        "none" => Stock::None,
        "low" => Stock::Low,
        "normal" => Stock::Normal,
        "high" => Stock::High,
        _ => Stock::Unstated,
    };
    let size = |key| number(row, key).and_then(|size| u32::try_from(size).ok());
    let is_deployable = match word(row, "availableDeploy").to_ascii_lowercase().as_str() {
        "true" | "1" => true,
        "false" | "0" => false,
        _ => true,
    };
    let regions = row.get("regions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Some(Offer {
        product_id,
        name: word(row, "name"),
        price: price(billing),
        on_demand_price: price("onDemand"),
        cpu_per_gpu: size("cpuPerGpu"),
        memory_per_gpu: size("memoryPerGpu"),
        available: is_deployable && stock != Stock::None,
        stock,
        // Documented as an object; clients receive names.
        regions: regions.iter().filter_map(Value::as_str).map(|it| it.trim().to_owned()).collect(),
        max_rootfs: size("maxRootFS"),
        quota: None,
    })
}

fn word(row: &Map<String, Value>, key: &str) -> String {
    row.get(key).map(|value| Text::of(value).as_str().trim().to_owned()).unwrap_or_default()
}

/// A number greater than zero.
fn number(row: &Map<String, Value>, key: &str) -> Option<u64> {
    row.get(key).and_then(|value| u64::try_from(Text::of(value).number()?).ok()).filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = (&'static str, Option<u64>, bool, usize, Option<u32>);

    fn check(body: &[u8], billing: &str, expected: &[Seen]) {
        let offers = offers(body, billing).expect("offers");
        let seen: Vec<_> = offers
            .iter()
            .map(|it| (it.product_id.as_str(), it.price, it.available, it.regions.len(), it.max_rootfs))
            .collect();
        let usd = |price: Option<u64>| price.map(Usd::from_hundred_thousandths);
        let expected: Vec<_> = expected.iter().map(|it| (it.0, usd(it.1), it.2, it.3, it.4)).collect();
        assert_eq!(seen, expected, "{billing} in {}", String::from_utf8_lossy(body));
    }

    #[test]
    fn products_are_read_strict_and_loose() {
        let products = fixture!("products.json");
        let gpu = Some(200);
        check(
            products,
            "spot",
            &[
                ("4090.16c62g", Some(33_500), true, 2, gpu),
                ("4090.12c50g.v2", Some(33_500), false, 0, gpu),
                ("h100.24c200g", None, true, 2, gpu),
            ],
        );
        check(
            products,
            "onDemand",
            &[
                ("4090.16c62g", Some(67_000), true, 2, gpu),
                ("4090.12c50g.v2", Some(67_000), false, 0, gpu),
                ("h100.24c200g", Some(250_000), true, 2, gpu),
            ],
        );
        check(
            products,
            "monthly",
            &[
                ("4090.16c62g", None, true, 2, gpu),
                ("4090.12c50g.v2", None, false, 0, gpu),
                ("h100.24c200g", None, true, 2, gpu),
            ],
        );
        let loose = fixture!("products-loose-types.json");
        check(
            loose,
            "spot",
            &[
                ("4090.16c62g", Some(33_500), true, 0, gpu),
                ("l40s.16c80g", None, true, 0, gpu),
                ("a100.32c120g", None, true, 0, gpu),
            ],
        );
        let regions = &offers(products, "spot").expect("offers")[0].regions;
        assert_eq!(regions, &["US-XX-01 (Somewhere)", "EU-XX-02"]);
    }

    #[test]
    fn a_price_is_one_of_the_mode_that_was_asked_for() {
        for (row, spot, on_demand) in [
            (r#""price":"67000","spotPrice":"33500.0""#, Some(33_500), Some(67_000)),
            (r#""price":67000.0,"spotPrice":33500"#, Some(33_500), Some(67_000)),
            (r#""price":"67000""#, None, Some(67_000)),
            (r#""price":"67000","spotPrice":"0""#, None, Some(67_000)),
            (r#""price":"67000","spotPrice":0"#, None, Some(67_000)),
            (r#""price":"67000","spotPrice":"0.0""#, None, Some(67_000)),
            (r#""price":"67000","spotPrice":"""#, None, Some(67_000)),
            (r#""price":"67000","spotPrice":null"#, None, Some(67_000)),
            (r#""price":"free","spotPrice":"-1""#, None, None),
            (r#""price":{},"spotPrice":"33500""#, Some(33_500), None),
            (r#""price":1,"spotPrice":2,"billingMethods":["onDemand"]"#, None, Some(1)),
            (r#""price":1,"spotPrice":2,"billingMethods":["spot"]"#, Some(2), None),
            (r#""price":1,"spotPrice":2,"billingMethods":[]"#, Some(2), Some(1)),
            (r#""price":1,"spotPrice":2,"billingMethods":null"#, Some(2), Some(1)),
        ] {
            let body = format!("{{\"data\":[{{\"id\":\"p\",{row}}}]}}");
            check(body.as_bytes(), "spot", &[("p", spot, true, 0, None)]);
            check(body.as_bytes(), "onDemand", &[("p", on_demand, true, 0, None)]);
            check(body.as_bytes(), "", &[("p", None, true, 0, None)]);
        }
    }

    #[test]
    fn stock_is_believed_in_unless_it_is_denied() {
        for (row, available) in [
            (r#""availableDeploy":true,"inventoryState":"low""#, true),
            (r#""availableDeploy":true,"inventoryState":"none""#, false),
            (r#""availableDeploy":true,"inventoryState":"""#, true),
            (r#""availableDeploy":false,"inventoryState":"high""#, false),
            (r#""availableDeploy":"false""#, false),
            (r#""availableDeploy":1"#, true),
            (r#""inventoryState":"normal""#, true),
            (r#""inventoryState":"None""#, false),
            (r#""availableDeploy":null,"inventoryState":null"#, true),
            (r#""availableDeploy":[],"inventoryState":"newWord""#, true),
        ] {
            let body = format!("[{{\"id\":\"p\",{row}}}]");
            check(body.as_bytes(), "spot", &[("p", None, available, 0, None)]);
        }
    }

    #[test]
    fn lists_come_wrapped_or_bare() {
        let p: &[Seen] = &[("p", None, true, 1, None)];
        check(br#"{"products":[{"id":"p","regions":["r",null,7],"maxRootFS":0}]}"#, "spot", p);
        check(br#"[null,{"name":"x"},"y",{"id":"p","regions":["r"],"maxRootFS":"all"}]"#, "spot", p);
        check(br#"{"data":null}"#, "spot", &[]);
        check(br#"{"data":[]}"#, "spot", &[]);
        for body in [b"{}".as_slice(), b"7", b"", br#"{"data":{"id":"p"}}"#, br#"{"message":"sk_secret"}"#, b"<html>"] {
            let error = offers(body, "spot").expect_err("nonsense");
            assert!(!error.contains("secret"));
            assert!(clusters(body).is_err());
        }
        let cluster = |id: &str, name: &str| Cluster { id: id.into(), name: name.into() };
        let expected = vec![cluster("us-xx-1", "US-XX-01"), cluster("5", "EU-XX-02")];
        assert_eq!(clusters(fixture!("clusters.json")), Ok(expected));
        let loose = br#"{"clusters":[null,{"name":"x"},{"id":5,"name":null}]}"#;
        assert_eq!(clusters(loose), Ok(vec![cluster("5", "")]));
    }
}
