//! The memory of markets as `markets` and `status` show it.

use std::time::Duration;

use serde::Serialize;

use super::document::Number;
use crate::core::pass::market::{Market, Markets};
use crate::core::world::instance::Place;
use crate::core::world::money::{Usd, decimal};
use crate::core::world::time::{Timestamp, millis};

/// What `markets -o json` prints.
#[derive(Debug, Serialize)]
pub struct MarketsDocument<'a> {
    pub markets: Vec<MarketRow<'a>>,
}

/// A market as the last pass left it. Prices and scores are for one GPU and an hour.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MarketRow<'a> {
    product_id: &'a str,
    cluster_id: &'a str,
    price: Option<Number<Usd>>,
    stock: Option<&'static str>,
    last_room_at: Option<Timestamp>,
    last_refusal_at: Option<Timestamp>,
    rests_until: Option<Timestamp>,
    reclaims: u64,
    instance_hours: u64,
    reclaims_per_1000_hours: Option<Number<String>>,
    ours: u32,
    steady_ms: i64,
    score: Option<Number<Usd>>,
}

/// What is remembered, the best market first, each with its score if its price is known.
#[must_use]
pub fn ranked(markets: &Markets, reclaim_cost: Duration, now: Timestamp) -> Vec<(&Place, &Market, Option<u128>)> {
    // A damaged record says nothing.
    let known = markets.iter().filter(|(_, market)| **market != Market::default());
    let scored =
        known.map(|(place, market)| (place, market, market.price.map(|price| market.score(price, reclaim_cost, now))));
    let mut ranked: Vec<_> = scored.collect();
    ranked.sort_by_key(|(place, _, score)| (score.is_none(), *score, &place.cluster, &place.product));
    ranked
}

/// The rows of the JSON documents.
#[must_use]
pub fn rows(markets: &Markets, reclaim_cost: Duration, now: Timestamp) -> Vec<MarketRow<'_>> {
    let ranked = ranked(markets, reclaim_cost, now).into_iter();
    ranked.map(|(place, market, score)| MarketRow::new(place, market, score, now)).collect()
}

impl<'a> MarketRow<'a> {
    fn new(place: &'a Place, market: &Market, score: Option<u128>, now: Timestamp) -> Self {
        Self {
            product_id: &place.product,
            cluster_id: &place.cluster,
            price: market.price.map(Number),
            stock: market.has_stock.map(|has_some| if has_some { "some" } else { "none" }),
            last_room_at: market.room_at,
            last_refusal_at: market.refused_at,
            rests_until: market.rests(u32::MAX, now),
            reclaims: market.reclaims,
            instance_hours: market.hours(),
            reclaims_per_1000_hours: market.rate().map(|rate| Number(decimal(rate, 3))),
            ours: market.ours,
            steady_ms: millis(market.steady_for(now)),
            score: score.map(usd),
        }
    }
}

/// A score in micro-USD.
pub(super) fn usd(score: u128) -> Number<Usd> {
    Number(Usd::from_micros(i64::try_from(score).unwrap_or(i64::MAX)))
}
