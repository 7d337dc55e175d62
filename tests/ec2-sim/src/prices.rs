//! The price list: GetProducts (3.6).
//!
//! Each type has many products in each region: a caller who forgets a filter gets several prices. What is plain Linux
//! costs what [`crate::Region::on_demand_price`] says for the first zone that sells it; the others are made up from it.

use serde_json::{Map, Value, json};

use crate::catalog::{KINDS, Kind};
use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::metrics::fingerprint;
use crate::region::Region;
use crate::world::World;

/// The only regions that have the service.
const REGIONS: [&str; 3] = ["us-east-1", "eu-central-1", "ap-south-1"];
const MOST_PER_PAGE: i64 = 100;
/// The code of the terms on demand, and that of their only price.
const TERM: &str = "JRTCKXETXF";
const RATE: &str = "6YS6EN2CT7";

/// What makes a product of a type.
struct Variant {
    system: &'static str,
    software: &'static str,
    tenancy: &'static str,
    capacity: &'static str,
    market: &'static str,
    operation: &'static str,
    /// How many times the plain price.
    factor: f64,
    /// What is added for each vCPU, in US dollars.
    per_vcpu: f64,
}

const PLAIN: Variant = Variant {
    system: "Linux",
    software: "NA",
    tenancy: "Shared",
    capacity: "Used",
    market: "OnDemand",
    operation: "RunInstances",
    factor: 1.0,
    per_vcpu: 0.0,
};

const VARIANTS: [Variant; 9] = [
    Variant { system: "Windows", operation: "RunInstances:0002", per_vcpu: 0.046, ..PLAIN },
    Variant { capacity: "UnusedCapacityReservation", factor: 0.0, ..PLAIN },
    PLAIN,
    Variant { system: "RHEL", operation: "RunInstances:0010", per_vcpu: 0.0288, ..PLAIN },
    Variant { system: "SUSE", operation: "RunInstances:000g", per_vcpu: 0.014, ..PLAIN },
    Variant { software: "SQL Std", operation: "RunInstances:0004", per_vcpu: 0.12, ..PLAIN },
    Variant { tenancy: "Dedicated", factor: 1.06, ..PLAIN },
    Variant { capacity: "AllocatedCapacityReservation", factor: 0.0, ..PLAIN },
    Variant { market: "CapacityBlock", operation: "RunInstances:CB", factor: 0.8, ..PLAIN },
];

impl World {
    pub(crate) fn get_products(&mut self, region: &str, form: &Form) -> Answer<String> {
        if !REGIONS.contains(&region) {
            let message = format!("Credential should be scoped to a valid region, not '{region}'.");
            return Err(ApiError::new("InvalidSignatureException", message));
        }
        match form.get("ServiceCode") {
            Some("AmazonEC2") => {}
            Some(other) => return Err(invalid(format!("The service code {other} is not valid"))),
            None => return Err(invalid("The service code is missing")),
        }
        if form.get("FormatVersion").is_some_and(|version| version != "aws_v1") {
            return Err(invalid("The format version is not valid"));
        }
        let filters = read_filters(form)?;
        let mut pairs = form.pairs().to_vec();
        if form.get("MaxResults").is_none() {
            pairs.push(("MaxResults".to_owned(), MOST_PER_PAGE.to_string()));
        }
        let listed = self.page(region, &Form::of(pairs), (1, MOST_PER_PAGE), |world| Ok(world.products(&filters)));
        let (rows, token) = listed.map_err(|error| match &*error.code {
            "InvalidPaginationToken" => ApiError::new("InvalidNextTokenException", error.message),
            _ => invalid(error.message),
        })?;
        let mut answer = json!({"FormatVersion": "aws_v1", "PriceList": rows});
        if let Some(token) = token {
            answer["NextToken"] = token.into();
        }
        Ok(answer.to_string())
    }

    /// The documents of all products that pass the filters.
    fn products(&self, filters: &[(&str, &str)]) -> Vec<String> {
        let mut found = Vec::new();
        for region in &self.regions {
            for kind in &KINDS {
                let price = region.zones.iter().find_map(|zone| region.on_demand_price(kind.name, &zone.name));
                let Some(plain) = price.and_then(|price| price.parse::<f64>().ok()) else { continue };
                for variant in &VARIANTS {
                    if variant.market == "CapacityBlock" && kind.gpu.is_none() {
                        continue;
                    }
                    let attributes = attributes(region, kind, variant);
                    let passes = |(field, value): &(&str, &str)| match *field {
                        "productFamily" => *value == FAMILY,
                        field => attributes.get(field).is_some_and(|known| known == value),
                    };
                    if filters.iter().all(passes) {
                        let price = plain * variant.factor + variant.per_vcpu * f64::from(kind.vcpus);
                        found.push(document(&attributes, price));
                    }
                }
            }
        }
        found
    }
}

const FAMILY: &str = "Compute Instance";

fn read_filters(form: &Form) -> Answer<Vec<(&str, &str)>> {
    let read = |number: u32| {
        let part = |name: &str| {
            let part = form.get(&format!("Filters.{number}.{name}"));
            part.ok_or_else(|| invalid(format!("The member {name} of filter {number} is missing")))
        };
        let (kind, field, value) = (part("Type")?, part("Field")?, part("Value")?);
        if kind != "TERM_MATCH" {
            return Err(invalid(format!("There are no filters of type {kind} here")));
        }
        if field != "productFamily" && !FIELDS.contains(&field) {
            return Err(invalid(format!("The attribute {field} does not exist")));
        }
        Ok((field, value))
    };
    form.members("Filters").into_iter().map(read).collect()
}

/// The attributes that every product has.
const FIELDS: [&str; 20] = [
    "capacitystatus",
    "currentGeneration",
    "instanceFamily",
    "instanceType",
    "instancesku",
    "licenseModel",
    "location",
    "locationType",
    "marketoption",
    "memory",
    "networkPerformance",
    "operatingSystem",
    "operation",
    "preInstalledSw",
    "regionCode",
    "servicecode",
    "storage",
    "tenancy",
    "usagetype",
    "vcpu",
];

fn attributes(region: &Region, kind: &Kind, variant: &Variant) -> Map<String, Value> {
    let usage = match (variant.capacity, variant.tenancy) {
        ("UnusedCapacityReservation", _) => "UnusedBox",
        ("AllocatedCapacityReservation", _) => "Reservation",
        (_, "Dedicated") => "DedicatedUsage",
        _ => "BoxUsage",
    };
    let location = match region.name.as_str() {
        "eu-west-1" => "EU (Ireland)",
        "eu-central-1" => "EU (Frankfurt)",
        "us-east-1" => "US East (N. Virginia)",
        "us-west-2" => "US West (Oregon)",
        other => other,
    };
    let family = match (kind.gpu, kind.burstable) {
        (Some(_), _) => "GPU instance",
        (None, _) => "General purpose",
    };
    let is_paid_for = variant.system == "Windows" || variant.software != "NA";
    let storage = if kind.store_gb > 0 { format!("1 x {} NVMe SSD", kind.store_gb) } else { "EBS only".to_owned() };
    let values = json!({
        "capacitystatus": variant.capacity,
        "currentGeneration": "Yes",
        "instanceFamily": family,
        "instanceType": kind.name,
        "instancesku": sku(&format!("{} {}", region.name, kind.name)),
        "licenseModel": if is_paid_for { "License Included" } else { "No License required" },
        "location": location,
        "locationType": "AWS Region",
        "marketoption": variant.market,
        "memory": format!("{} GiB", f64::from(kind.memory_mib) / 1_024.0),
        "networkPerformance": kind.network,
        "operatingSystem": variant.system,
        "operation": variant.operation,
        "preInstalledSw": variant.software,
        "regionCode": region.name,
        "servicecode": "AmazonEC2",
        "storage": storage,
        "tenancy": variant.tenancy,
        "usagetype": format!("{}-{usage}:{}", region.name.to_uppercase(), kind.name),
        "vcpu": kind.vcpus.to_string(),
    });
    match values {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

/// A product with its prices. The terms of reservations are among them, and cheaper.
fn document(attributes: &Map<String, Value>, price: f64) -> String {
    let sku = sku(&Value::Object(attributes.clone()).to_string());
    let kind = attributes["instanceType"].as_str().unwrap_or_default().to_owned();
    let rate = |term: &str, unit: &str, usd: f64| {
        let code = format!("{sku}.{term}.{RATE}");
        json!({code.clone(): {
            "rateCode": code,
            "unit": unit,
            "beginRange": "0",
            "endRange": "Inf",
            "appliesTo": [],
            "description": format!("${usd} per {kind} instance hour"),
            "pricePerUnit": {"USD": format!("{usd:.10}")},
        }})
    };
    let terms = |term: &str, unit: &str, usd: f64, lease: Value| {
        json!({format!("{sku}.{term}"): {
            "sku": sku,
            "offerTermCode": term,
            "effectiveDate": "2026-01-01T00:00:00Z",
            "termAttributes": lease,
            "priceDimensions": rate(term, unit, usd),
        }})
    };
    let lease = json!({"LeaseContractLength": "1yr", "OfferingClass": "standard", "PurchaseOption": "No Upfront"});
    let mut all = json!({"OnDemand": terms(TERM, "Hrs", price, json!({}))});
    if price > 0.0 {
        all["Reserved"] = terms("4NA7Y494T4", "Hrs", price * 0.63, lease);
    }
    let document = json!({
        "product": {"productFamily": FAMILY, "attributes": attributes, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": all,
        "version": "20260101000000",
        "publicationDate": "2026-01-01T00:00:00Z",
    });
    document.to_string()
}

/// 16 letters and digits, always the same for a text.
fn sku(text: &str) -> String {
    let mut rest = u128::from(fingerprint(text)) << 64 | u128::from(fingerprint(&format!("{text}.")));
    let mut letter = || {
        let digit = u32::try_from(rest % 36).unwrap_or_default();
        rest /= 36;
        char::from_digit(digit, 36).unwrap_or('0').to_ascii_uppercase()
    };
    (0..16).map(|_| letter()).collect()
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameterException", message)
}
