//! Where a replacement can be launched: instance types in zones, with their spot prices.

use std::collections::BTreeMap;

use super::facts::LaunchFacts;
use super::wire::SpotPrice;
use crate::core::recreation::blueprint::{Nearness, Placement};
use crate::core::world::instance::Place;
use crate::core::world::market::Stock;
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;

/// Spot prices in USD for an hour of an instance, by type and zone.
pub(super) type Prices = BTreeMap<(String, String), Usd>;

/// The parameters that ask for the prices in force `now`.
pub(super) fn price_query(kinds: &[String], product: &str, now: Timestamp) -> Vec<(String, String)> {
    let product = if product.is_empty() { "Linux/UNIX" } else { product };
    let kinds = kinds.iter().enumerate().map(|(n, kind)| (format!("InstanceType.{}", n + 1), kind.clone()));
    let mut form: Vec<(String, String)> = kinds.collect();
    // Either word may be the one that AWS answers with.
    form.push(("ProductDescription.1".into(), product.into()));
    form.push(("ProductDescription.2".into(), format!("{product} (Amazon VPC)")));
    let seconds = now.to_string().split('.').next().unwrap_or_default().to_owned();
    form.push(("StartTime".into(), seconds + "Z"));
    form
}

/// The newest price of each type and zone.
pub(super) fn prices(rows: Vec<SpotPrice>) -> Prices {
    let mut newest: BTreeMap<(String, String), (String, Usd)> = BTreeMap::new();
    for row in rows {
        let Some(price) = Usd::of_decimals(&row.spot_price) else { continue };
        let known = newest.entry((row.instance_type, row.availability_zone)).or_default();
        if known.0 <= row.timestamp {
            *known = (row.timestamp, price);
        }
    }
    newest.into_iter().map(|(pool, (_, price))| (pool, price)).collect()
}

/// Every type in every zone where it is offered; its own pool even if its price is not known.
pub(super) fn placements(facts: &LaunchFacts, kinds: &[String], zones: &[String], prices: &Prices) -> Vec<Placement> {
    let mut placements: Vec<Placement> = Vec::new();
    for (zone, kind) in zones.iter().flat_map(|zone| kinds.iter().map(move |kind| (zone, kind))) {
        let is_own = (kind, zone) == (&facts.kind, &facts.zone);
        let price = prices.get(&(kind.clone(), zone.clone())).copied();
        let place = Place { product: kind.as_str().into(), cluster: zone.as_str().into() };
        if placements.iter().any(|it| it.place == place) || !is_own && price.is_none() {
            continue;
        }
        let own = if is_own { "in its own pool " } else { "in " };
        let costs = price.map_or_else(String::new, |price| format!(", {price} USD/h"));
        placements.push(Placement {
            words: format!("{own}{kind} in {zone}{costs}"),
            nearness: match (is_own, *zone == facts.zone) {
                (true, _) => Nearness::Own,
                (false, true) => Nearness::SameCluster,
                (false, false) => Nearness::Elsewhere,
            },
            cluster_name: zone.clone(),
            place,
            price,
            on_demand_price: None,
            stock: Stock::Unstated,
        });
    }
    placements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_price_counts() {
        let row = |price: &str, at: &str| SpotPrice {
            instance_type: "g5.xlarge".into(),
            availability_zone: "eu-west-1a".into(),
            spot_price: price.into(),
            timestamp: at.into(),
        };
        let found = prices(vec![row("0.5", "2026-11-02"), row("0.4", "2026-11-03"), row("0.6", "2026-11-01")]);
        assert_eq!(found.into_values().map(Usd::micros).collect::<Vec<_>>(), [400_000]);
    }
}
