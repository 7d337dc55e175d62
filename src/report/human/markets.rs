//! Where there is room, as far as it is remembered.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::Column::{Left, Right};
use super::table::{painted, table};
use super::{Color, Screen, ago, counted, time_of_day};
use crate::core::pass::market::{Market, Markets, score_in_words};
use crate::core::world::instance::Place;
use crate::core::world::money::decimal;
use crate::core::world::time::{Timestamp, in_words};
use crate::report::markets::ranked;
use crate::report::text::visible;

/// Every market that is remembered, the best first.
#[must_use]
pub fn markets(screen: Screen, markets: &Markets, reclaim_cost: Duration, now: Timestamp) -> String {
    let ranked = ranked(markets, reclaim_cost, now);
    if ranked.is_empty() {
        let text = "no market is known yet: a pass remembers those where a spot instance runs, and those that it asks";
        return screen.sentences(text) + "\n";
    }
    let since = |at: Option<Timestamp>| at.map_or_else(|| "-".into(), |at| ago(at, now));
    let row = |(place, market, score): &(&Place, &Market, Option<u128>)| {
        vec![
            visible(&place.cluster),
            visible(&place.product),
            market.price.map_or_else(|| "-".into(), |price| price.to_string()),
            score.map_or_else(|| "-".into(), score_in_words),
            market.ours.to_string(),
            state(screen, market, now),
            in_words(market.steady_for(now)),
            since(market.room_at),
            since(market.refused_at),
            market.rate().map_or_else(|| "-".into(), |rate| decimal((rate + 50) / 100, 1)),
            market.hours().to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = ranked.iter().map(row).collect();
    let columns = [
        Left("CLUSTER"),
        Left("PRODUCT"),
        Right("USD/H"),
        Right("SCORE"),
        Right("OURS"),
        Left("STATE"),
        Right("STEADY"),
        Right("ROOM"),
        Right("REFUSED"),
        Right("RECLAIMS/1000 H"),
        Right("HOURS SEEN"),
    ];
    let mut out = table(screen, &columns, &rows, &["REFUSED", "ROOM", "HOURS SEEN", "OURS", "RECLAIMS/1000 H"]);
    let legend = "score: what an hour of one GPU is expected to cost, reclaims included";
    let _ = writeln!(
        out,
        "\n{}",
        screen.sentences(&format!("{}, the best first; {legend}", counted(rows.len(), "market")))
    );
    out
}

fn state(screen: Screen, market: &Market, now: Timestamp) -> String {
    let stock = match market.has_stock {
        Some(false) => Some(painted(screen, "no stock", Color::Yellow)),
        Some(true) => Some("has stock".into()),
        None => None,
    };
    let rests = market.rests(u32::MAX, now).map(|until| format!("rests until {}", time_of_day(until, now)));
    let state: Vec<String> = stock.into_iter().chain(rests).collect();
    if state.is_empty() { "-".into() } else { state.join(", ") }
}
