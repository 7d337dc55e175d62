//! What instance types cost and how many an account may have (`docs/ec2-api.md` sections 3.6 and 3.7).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Ec2Client;
use super::fleet::LINUX;
use super::region::{Region, ask_json};
use super::wire::TypeFacts;
use crate::cloud::CloudError;
use crate::cloud::transport::Transport;
use crate::core::world::market::{Offer, OfferQuery, Quota};
use crate::core::world::money::Usd;

/// The largest volume, in GiB.
const LARGEST_VOLUME: u32 = 16_384;

/// The quotas of spot vCPUs: the beginnings of type names, the code, and what it covers.
const SPOT_QUOTAS: &[(&[&str], &str, &str)] = &[
    (&["g", "vt"], "L-3819A6DF", "G and VT"),
    (&["p"], "L-7212CCBC", "P"),
    (&["x"], "L-E3A00192", "X"),
    (&["dl"], "L-85EED4F7", "DL"),
    (&["inf"], "L-B5D1601B", "Inf"),
    (&["f"], "L-88CF9481", "F"),
    (&["a", "c", "d", "h", "i", "m", "r", "t", "z"], "L-34B43A08", "Standard"),
];

/// The code of the quota that spot instances of a type count against, and what it covers.
pub(super) fn quota_of(kind: &str) -> Option<(&'static str, &'static str)> {
    let family: String = kind.chars().take_while(char::is_ascii_lowercase).collect();
    // `g4dn` begins as `g`; `dl1` is not of the family `d`.
    let row = SPOT_QUOTAS.iter().find(|(families, ..)| families.contains(&family.as_str()));
    row.map(|(_, code, covers)| (*code, *covers))
}

impl<T: Transport> Ec2Client<T> {
    /// The spot prices in force; for one type with what else is asked for before a move.
    pub(super) async fn offered(&self, query: &OfferQuery) -> Result<Vec<Offer>, CloudError> {
        let (kind, platform) = query.product_name.split_once(' ').unwrap_or((&query.product_name, LINUX));
        let kinds: Vec<String> = match kind {
            "" => {
                let rows = self.rows.borrow();
                let kinds: BTreeSet<&String> = rows.values().map(|(_, row)| &row.instance_type).collect();
                kinds.into_iter().filter(|kind| !kind.is_empty()).cloned().collect()
            }
            kind => vec![kind.into()],
        };
        let zone = query.cluster_id.as_deref();
        let regions = match zone {
            Some(zone) => self.region_of_zone(zone).into_iter().collect(),
            None => (0..self.regions.len()).collect::<Vec<_>>(),
        };
        let mut offers = Vec::new();
        for region in regions {
            let prices = self.prices(region, &kinds, platform).await?;
            let (on_demand, quota) = match zone {
                Some(_) => (self.on_demand_price(region, kind, platform).await, self.quota(region, kind).await),
                None => (None, None),
            };
            let facts = self.types.borrow().get(kind).cloned().unwrap_or_default();
            let here = prices.into_iter().filter(|((_, at), _)| zone.is_none_or(|zone| zone == at));
            offers.extend(here.map(|((kind, zone), price)| Offer {
                product_id: kind.clone(),
                name: kind,
                price: Some(price),
                on_demand_price: on_demand,
                cpu_per_gpu: facts.cpus(),
                memory_per_gpu: facts.memory_gb(),
                available: true,
                regions: vec![zone],
                max_rootfs: Some(LARGEST_VOLUME),
                quota: quota.clone(),
                ..Offer::default()
            }));
        }
        Ok(offers)
    }

    /// What an hour of a type costs on demand: by the operator's file, or by the price list. `None` if that has no such price,
    /// or several.
    async fn on_demand_price(&self, region: usize, kind: &str, platform: &str) -> Option<Usd> {
        if let Some(price) = self.terms.prices.get(kind) {
            return Some(*price);
        }
        if platform != LINUX {
            return None;
        }
        match self.listed_price(&self.regions[region], kind).await {
            Ok(price) => price,
            Err(error) => {
                *self.unpriced.borrow_mut() = Some(error.to_string());
                None
            }
        }
    }

    async fn listed_price(&self, region: &Region<T>, kind: &str) -> Result<Option<Usd>, CloudError> {
        let filter = |(field, value): (&str, &str)| json!({"Type": "TERM_MATCH", "Field": field, "Value": value});
        let filters = [
            ("regionCode", region.name.as_str()),
            ("instanceType", kind),
            ("operatingSystem", "Linux"),
            ("tenancy", "Shared"),
            ("capacitystatus", "Used"),
            ("preInstalledSw", "NA"),
            ("marketoption", "OnDemand"),
        ];
        let filters: Vec<Value> = filters.into_iter().map(filter).collect();
        let body =
            json!({"ServiceCode": "AmazonEC2", "Filters": filters, "FormatVersion": "aws_v1", "MaxResults": 100});
        let page: PricePage = ask_json(&region.prices, "GetProducts", &body).await?;
        let prices: BTreeSet<Usd> = page.price_list.iter().flat_map(|product| prices_in(product)).collect();
        Ok(prices.first().copied().filter(|_| prices.len() == 1))
    }

    /// The quotas that the spot instances of the last listing count against, in the first region. `more` is what the largest
    /// of them would take again.
    pub async fn quotas(&self) -> Vec<Quota> {
        if self.read_types().await.is_err() {
            return Vec::new();
        }
        let kinds: BTreeMap<&str, String> = {
            let rows = self.rows.borrow();
            let spot = rows.values().filter(|(at, row)| *at == 0 && !row.is_over() && row.instance_lifecycle == "spot");
            let mut kinds: Vec<String> = spot.map(|(_, row)| row.instance_type.clone()).collect();
            kinds.sort_by_key(|kind| self.types.borrow().get(kind).and_then(TypeFacts::cpus));
            kinds.into_iter().filter_map(|kind| Some((quota_of(&kind)?.0, kind))).collect()
        };
        let mut quotas = Vec::new();
        for kind in kinds.values() {
            quotas.extend(self.quota(0, kind).await);
        }
        quotas
    }

    /// How much of its quota of vCPUs a spot instance of a type would take.
    async fn quota(&self, region: usize, kind: &str) -> Option<Quota> {
        let (code, covers) = quota_of(kind)?;
        let body = json!({"ServiceCode": "ec2", "QuotaCode": code});
        let answer: Result<QuotaAnswer, CloudError> =
            ask_json(&self.regions[region].quotas, "GetServiceQuota", &body).await;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is cut to what is possible")]
        let limit = answer.map(|it| it.quota.value.clamp(0.0, 1e9) as u64).map_err(|error| error.to_string());
        let types = self.types.borrow();
        let cpus = |kind: &str| types.get(kind).and_then(TypeFacts::cpus).map_or(0, u64::from);
        let rows = self.rows.borrow();
        let living =
            rows.values().filter(|(at, row)| *at == region && !row.is_over() && row.instance_lifecycle == "spot");
        let counted = living.filter(|(_, row)| quota_of(&row.instance_type).is_some_and(|(its, _)| its == code));
        let used = counted.map(|(_, row)| cpus(&row.instance_type)).sum();
        Some(Quota {
            what: format!("spot vCPUs ({covers} in {})", self.regions[region].name),
            limit,
            used,
            more: cpus(kind),
        })
    }
}

/// The prices on demand in a document of the price list that cost anything.
fn prices_in(product: &str) -> Vec<Usd> {
    let Ok(document) = serde_json::from_str::<Value>(product) else { return Vec::new() };
    let members = |value: &Value| value.as_object().map_or_else(Vec::new, |it| it.values().cloned().collect());
    let terms = members(&document["terms"]["OnDemand"]);
    let dimensions = terms.iter().flat_map(|term| members(&term["priceDimensions"]));
    dimensions.filter_map(|it| Usd::of_decimals(it["pricePerUnit"]["USD"].as_str()?)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PricePage {
    /// Each a JSON document of its own.
    #[serde(default)]
    price_list: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QuotaAnswer {
    quota: QuotaValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QuotaValue {
    value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_their_quotas() {
        for (kind, covers) in [
            ("g5.xlarge", Some("G and VT")),
            ("g4dn.12xlarge", Some("G and VT")),
            ("p4d.24xlarge", Some("P")),
            ("dl1.24xlarge", Some("DL")),
            ("d3.xlarge", Some("Standard")),
            ("inf2.xlarge", Some("Inf")),
            ("t4g.nano", Some("Standard")),
            ("u-12tb1.112xlarge", None),
            ("trn1.2xlarge", None),
        ] {
            assert_eq!(quota_of(kind).map(|(_, covers)| covers), covers, "{kind}");
        }
    }
}
