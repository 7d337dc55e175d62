//! DescribeSpotPriceHistory.

use crate::error::{Answer, ApiError};
use crate::filter::Filters;
use crate::form::{Form, parse_time};
use crate::world::World;
use crate::xml::Xml;

const FILTERS: [&str; 6] =
    ["availability-zone", "availability-zone-id", "instance-type", "product-description", "spot-price", "timestamp"];

/// The products that have prices, and how much dearer each is.
const PRODUCTS: [(&str, f64); 2] = [("Linux/UNIX", 1.0), ("Windows", 1.41)];

/// How far the history goes back.
const HISTORY_MS: i64 = 90 * 86_400_000;

struct Row<'a> {
    kind: &'a str,
    zone: &'a str,
    zone_id: &'a str,
    product: String,
    price: String,
    at: i64,
}

impl World {
    pub(crate) fn describe_spot_price_history(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &FILTERS)?;
        let kinds = form.list("InstanceType");
        if let Some(kind) = kinds.iter().find(|kind| crate::catalog::Kind::named(kind).is_none()) {
            return Err(ApiError::value("InstanceType", kind, "It is no instance type."));
        }
        let place = self.region_place(region);
        for (name, is_known) in [
            ("AvailabilityZone", form.get("AvailabilityZone").is_none_or(|z| self.regions[place].zone(z).is_some())),
            ("StartTime", form.get("StartTime").is_none_or(|text| parse_time(text).is_some())),
        ] {
            if !is_known {
                return Err(ApiError::value(name, form.get(name).unwrap_or_default(), "It is not known here."));
            }
        }
        let (rows, token) = self.page(region, form, (1, i64::MAX), |world| {
            let mut rows = world.price_rows(place, form);
            rows.retain(|row| filters.keep(|name| row.facts(name)));
            rows.sort_by_key(|row| std::cmp::Reverse(row.at));
            Ok(rows.iter().map(Row::write).collect())
        })?;
        // The rows are facts of the past: a page keeps them as they are written.
        let mut xml = Xml::new();
        xml.raw_set("spotPriceHistorySet", &rows);
        xml.next_token(token.as_deref(), self.chance().bool());
        Ok(xml.into_text())
    }

    /// The changes of the window, and of each pool the last one before it, which is in force at its beginning.
    fn price_rows(&self, place: usize, form: &Form) -> Vec<Row<'_>> {
        let region = &self.regions[place];
        let oldest = self.now - HISTORY_MS;
        let from = form.get("StartTime").and_then(parse_time).unwrap_or(oldest).max(oldest);
        let to = form.get("EndTime").and_then(parse_time).unwrap_or(self.now);
        let (kinds, products) = (form.list("InstanceType"), form.list("ProductDescription"));
        let mut rows = Vec::new();
        for ((kind, zone), changes) in &region.prices {
            let is_wanted = (kinds.is_empty() || kinds.contains(&kind.as_str()))
                && form.get("AvailabilityZone").is_none_or(|wanted| wanted == zone);
            let Some(zone) = region.zone(zone).filter(|_| is_wanted) else { continue };
            if form.get("AvailabilityZoneId").is_some_and(|wanted| wanted != zone.id) {
                continue;
            }
            let in_force = changes.iter().rev().find(|(at, _)| *at <= from);
            let later = changes.iter().filter(|(at, _)| *at > from && *at <= to);
            for (at, price) in in_force.into_iter().chain(later) {
                for (product, factor) in PRODUCTS {
                    let suffix = if self.rules.vpc_product_word { " (Amazon VPC)" } else { "" };
                    let product = format!("{product}{suffix}");
                    if !products.is_empty() && !products.contains(&product.as_str()) {
                        continue;
                    }
                    let price = if factor > 1.0 {
                        format!("{:.6}", price.parse::<f64>().unwrap_or_default() * factor)
                    } else {
                        price.clone()
                    };
                    rows.push(Row { kind, zone: &zone.name, zone_id: &zone.id, product, price, at: *at });
                }
            }
        }
        rows
    }
}

impl Row<'_> {
    fn facts(&self, name: &str) -> Vec<String> {
        let value = match name {
            "availability-zone" => self.zone,
            "availability-zone-id" => self.zone_id,
            "instance-type" => self.kind,
            "product-description" => &self.product,
            "spot-price" => &self.price,
            _ => return vec![crate::xml::time(self.at)],
        };
        vec![value.to_owned()]
    }

    fn write(&self) -> String {
        let mut xml = Xml::new();
        xml.text("instanceType", self.kind);
        xml.text("productDescription", &self.product);
        xml.text("spotPrice", &self.price);
        xml.time("timestamp", self.at);
        xml.text("availabilityZone", self.zone);
        xml.text("availabilityZoneId", self.zone_id);
        xml.into_text()
    }
}
