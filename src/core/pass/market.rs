//! The memory of markets: for each product in each cluster, the hours that instances were seen running and the reclaims
//! meanwhile, whether it refused or had room, and when it may be asked again.
//!
//! Only observed time counts: at most the hour before each pass, since a reclaim is announced an hour ahead, and nothing
//! the first time a market is seen. This misses hours rather than reclaims, so a rate is too high rather than too low.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::world::instance::{Billing, Instance, InstanceId, Place, Status};
use crate::core::world::market::Stock;
use crate::core::world::money::{Usd, decimal};
use crate::core::world::snapshot::find;
use crate::core::world::time::{Timestamp, any_time_if_any};

/// The most time of one instance that one observation counts.
const LONGEST_SPAN: Duration = Duration::from_secs(3600);

/// The instance-hours from which a rate is known.
pub const ENOUGH_HOURS: u64 = 100;

/// A market where nothing runs is forgotten after this time.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How many markets are remembered; those seen last stay.
pub const MARKETS_KEPT: usize = 500;

/// What is assumed before anything was seen: two reclaims in a day of one instance. It only decides between markets that
/// were never used.
const PRIOR_RECLAIMS: u64 = 2;
const PRIOR_SECONDS: u64 = 24 * 3600;

/// A market that never had a bad sign counts as if the last one was this long before it was first seen.
const UNBLEMISHED: Duration = Duration::from_secs(6 * 3600);

/// Younger signs count as if they were this old.
const YOUNGEST_SIGN_MINUTES: u64 = 15;

/// How long a market that refused is left alone: half of the time since it began to refuse, within these bounds.
const SHORTEST_REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(5 * 60);

/// How long prices are taken to hold.
const PRICES_HOLD: Duration = Duration::from_secs(24 * 3600);

/// What was seen of one market.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Market {
    pub since: Timestamp,
    /// The last observation that saw an instance there, or the last answer to a call.
    pub seen_at: Timestamp,
    /// How long spot instances were seen running, in total, in seconds.
    pub instance_seconds: u64,
    pub reclaims: u64,
    /// The last refusal for lack of room, reclaim or reclaim notice, or the last time that no stock was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_at: Option<Timestamp>,
    /// When stock was first stated again after there was none. It came back at some time before, perhaps just then: room
    /// that is young is likely to go again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_at: Option<Timestamp>,
    /// Since when it has had no room, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drought_since: Option<Timestamp>,
    /// Until when it is not asked again for as many GPUs as it refused.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "any_time_if_any")]
    pub rests_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<Timestamp>,
    /// The smallest number of GPUs that it refused since it last had room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused_gpus: u32,
    /// The last accepted migration or creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_at: Option<Timestamp>,
    /// Whether stock was stated when it was last read; unknown before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_stock: Option<bool>,
    /// Instances there that do not go, at the last observation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ours: u32,
    /// The last price of one GPU for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Usd>,
    /// The same on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_price: Option<Usd>,
    /// When the prices were last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priced_at: Option<Timestamp>,
    /// Accepted migrations and creations.
    #[serde(default, skip_serializing_if = "is_none_counted")]
    pub accepted: u64,
    /// Calls that were refused for lack of room.
    #[serde(default, skip_serializing_if = "is_none_counted")]
    pub refused: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "for serde")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "for serde")]
fn is_none_counted(count: &u64) -> bool {
    *count == 0
}

impl Market {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn unseen(now: Timestamp) -> Self {
        Self { since: now, seen_at: now, ..Self::default() }
    }

    /// How long it has shown no bad sign, as far as was seen.
    #[must_use]
    pub fn steady_for(&self, now: Timestamp) -> Duration {
        now.since(self.bad_at.unwrap_or(self.since))
    }

    /// Whole instance-hours.
    #[must_use]
    pub fn hours(&self) -> u64 {
        self.instance_seconds / 3600
    }

    /// Reclaims in a million instance-hours; `None` while too little was seen.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        if self.hours() < ENOUGH_HOURS {
            return None;
        }
        let rate = u128::from(self.reclaims) * 3600 * 1_000_000 / u128::from(self.instance_seconds);
        u64::try_from(rate).ok()
    }

    /// Until when it is not asked for this many GPUs, if it is not to be asked now.
    #[must_use]
    pub fn rests(&self, gpus: u32, now: Timestamp) -> Option<Timestamp> {
        // A rest that ends later than any can was written before the clock was set back.
        let until = self.rests_until.filter(|until| now < *until && *until <= now + LONGEST_REST)?;
        (gpus >= self.refused_gpus).then_some(until)
    }

    /// It refused this many GPUs for lack of room.
    pub fn refuse(&mut self, gpus: u32, now: Timestamp) {
        let since = *self.drought_since.get_or_insert(now);
        let is_first = self.refused_at.is_none_or(|at| self.room_at.is_some_and(|room| room >= at));
        self.refused_gpus = if is_first { gpus } else { self.refused_gpus.min(gpus) };
        self.refused += 1;
        self.rests_until = Some(now + (now.since(since) / 2).clamp(SHORTEST_REST, LONGEST_REST));
        (self.refused_at, self.bad_at, self.seen_at) = (Some(now), Some(now), now);
    }

    /// It accepted a migration or a creation.
    pub fn accept(&mut self, now: Timestamp) {
        self.accepted += 1;
        (self.room_at, self.seen_at) = (Some(now), now);
        (self.drought_since, self.rests_until, self.refused_gpus) = (None, None, 0);
    }

    /// Whether its prices are unknown or old.
    #[must_use]
    pub fn lacks_prices(&self, now: Timestamp) -> bool {
        self.priced_at.is_none_or(|at| now.since(at) >= PRICES_HOLD)
    }

    /// The provider states its prices, as spot and on demand.
    pub fn state_prices(&mut self, [price, on_demand_price]: [Option<Usd>; 2], now: Timestamp) {
        self.price = price.or(self.price);
        self.on_demand_price = on_demand_price.or(self.on_demand_price);
        self.priced_at = Some(now);
    }

    /// The provider states its prices and its stock.
    pub fn state(&mut self, prices: [Option<Usd>; 2], stock: Stock, now: Timestamp) {
        if prices.iter().any(Option::is_some) {
            self.state_prices(prices, now);
        }
        let has_stock = match stock {
            Stock::Unstated => return,
            Stock::None => false,
            Stock::Low | Stock::Normal | Stock::High => true,
        };
        if has_stock && self.has_stock == Some(false) {
            self.back_at = Some(now);
            (self.drought_since, self.rests_until, self.refused_gpus) = (None, None, 0);
        }
        if !has_stock {
            self.bad_at = Some(now);
            self.drought_since.get_or_insert(now);
        }
        self.has_stock = Some(has_stock);
    }

    /// Expected reclaims in a million instance-hours: half of what was counted, half of what the age of the last bad sign
    /// tells. A market that lost its room just now is likely to lose it again soon.
    #[must_use]
    pub fn hazard(&self, now: Timestamp) -> u64 {
        let reclaims = u128::from(self.reclaims.saturating_add(PRIOR_RECLAIMS));
        let seconds = u128::from(self.instance_seconds.saturating_add(PRIOR_SECONDS));
        let counted = u64::try_from(reclaims * 3_600_000_000 / seconds).unwrap_or(u64::MAX);
        let bad_at = self.bad_at.max(self.back_at).unwrap_or(self.since - UNBLEMISHED);
        let minutes = (now.since(bad_at).as_secs() / 60).max(YOUNGEST_SIGN_MINUTES);
        counted.saturating_add(30_000_000 / minutes) / 2
    }

    /// What an hour there is expected to cost in micro-USD: the price, and the work lost to reclaims, each of which costs
    /// `reclaim_cost`.
    #[must_use]
    pub fn score(&self, price: Usd, reclaim_cost: Duration, now: Timestamp) -> u128 {
        let price = u128::from(price.micros().unsigned_abs());
        let minutes = u128::from(reclaim_cost.as_secs() / 60);
        price + price * u128::from(self.hazard(now)) * minutes / 60_000_000
    }
}

/// A score for people, in USD to a tenth of a cent: markets of one price differ by that.
#[must_use]
pub fn score_in_words(score: u128) -> String {
    decimal(u64::try_from((score + 500) / 1000).unwrap_or(u64::MAX), 3)
}

/// By product and cluster, as they are remembered.
pub type Markets = HashMap<Place, Market>;

/// A reclaim notice that stands.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// The instance that is, or was, to be taken.
    pub instance: &'a InstanceId,
    pub reclaim_at: Timestamp,
    /// Whether no earlier pass has seen it.
    pub is_new: bool,
}

/// What this observation changes; `None` is one to forget. Ordered by place.
#[must_use]
pub fn observe<'a>(
    instances: &[Instance],
    known: &Markets,
    notices: impl IntoIterator<Item = Notice<'a>>,
    now: Timestamp,
) -> Vec<(Place, Option<Market>)> {
    // A market that was not seen for this long starts from zero. So does a damaged record: it was last seen at time zero.
    let alive: Markets =
        known.iter().filter(|(_, it)| now.since(it.seen_at) <= LIFE).map(|(place, it)| (place.clone(), *it)).collect();
    let mut seen: HashMap<&Place, Market> = HashMap::new();
    let running = instances.iter().filter(|it| it.billing == Billing::Spot && it.status == Status::Running);
    for (place, instance) in running.filter_map(|it| Some((it.place.as_deref()?, it))) {
        let market = seen.entry(place).or_insert_with(|| begun(&alive, place, now));
        market.seen_at = now;
        market.instance_seconds += watched(alive.get(place), instance, now).as_secs();
    }
    for Notice { instance, reclaim_at, is_new } in notices {
        let instance = find(instances, instance).filter(|it| it.billing == Billing::Spot);
        let Some(place) = instance.and_then(|it| it.place.as_deref()) else { continue };
        let market = seen.entry(place).or_insert_with(|| begun(&alive, place, now));
        // A reclaim from before the first observation belongs to hours that were not counted.
        if is_new && reclaim_at >= market.since {
            market.reclaims += 1;
        }
        if is_new {
            market.bad_at = Some(now);
        }
    }
    bounded(known, &seen, now)
}

fn begun(known: &Markets, place: &Place, now: Timestamp) -> Market {
    known.get(place).copied().unwrap_or(Market { since: now, seen_at: now, ..Market::default() })
}

/// How much of an instance's time lies between the last observation and this one.
fn watched(known: Option<&Market>, instance: &Instance, now: Timestamp) -> Duration {
    let since_last = known.map_or(Duration::ZERO, |known| now.since(known.seen_at));
    let up = instance.started_at.map_or(Duration::MAX, |at| now.since(at.into()));
    since_last.min(up).min(LONGEST_SPAN)
}

/// Forgets markets that were not seen for long, and those beyond [`MARKETS_KEPT`].
fn bounded(known: &Markets, seen: &HashMap<&Place, Market>, now: Timestamp) -> Vec<(Place, Option<Market>)> {
    let mut kept: Vec<(&Place, Market)> = seen.iter().map(|(place, market)| (*place, *market)).collect();
    kept.extend(known.iter().filter(|(place, _)| !seen.contains_key(place)).map(|(place, it)| (place, *it)));
    kept.sort_by(|a, b| b.1.seen_at.cmp(&a.1.seen_at).then(a.0.cmp(b.0)));
    let mut changes = Vec::new();
    for (at, (place, market)) in kept.into_iter().enumerate() {
        if at >= MARKETS_KEPT || now.since(market.seen_at) > LIFE {
            changes.push((place.clone(), None));
        } else if known.get(place) != Some(&market) {
            changes.push((place.clone(), Some(market)));
        }
    }
    changes.retain(|(place, market)| market.is_some() || known.contains_key(place));
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::instance::Places;
    use crate::core::world::time::Seconds;

    const NOW: i64 = 1_768_478_400;
    const HOUR: i64 = 3600;

    fn ago(secs: i64) -> Timestamp {
        Timestamp::from_secs(NOW - secs)
    }

    fn place(product: &str) -> Place {
        Place { product: product.into(), cluster: "c".into() }
    }

    fn running(id: &str, product: &str, started_ago: Option<i64>) -> Instance {
        Instance {
            id: InstanceId::new(id),
            name: id.into(),
            status: Status::Running,
            billing: Billing::Spot,
            reclaim: None,
            marker: None,
            aside: None,
            place: Places::default().place(product, "c"),
            gpus: 1,
            created_at: None,
            started_at: started_ago.and_then(|ago| Seconds::new(NOW - ago)),
            stopped_at: None,
        }
    }

    fn look_at(
        known: &[(Place, Market)],
        mut instances: Vec<Instance>,
        before: &[(&str, Timestamp)],
        seen: &[(&str, Option<Timestamp>)],
    ) -> Vec<(Place, Option<Market>)> {
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        let known: Markets = known.iter().cloned().collect();
        let (before, seen): (Vec<_>, Vec<_>) = (
            before.iter().map(|(id, at)| (InstanceId::new(id), *at)).collect(),
            seen.iter().filter_map(|(id, at)| Some((InstanceId::new(id), (*at)?))).collect(),
        );
        let notices = seen.iter().map(|notice| {
            let (instance, reclaim_at) = notice;
            Notice { instance, reclaim_at: *reclaim_at, is_new: !before.contains(notice) }
        });
        observe(&instances, &known, notices, ago(0))
    }

    fn market(since: i64, seen: i64, secs: u64, reclaims: u64) -> Market {
        Market { since: ago(since), seen_at: ago(seen), instance_seconds: secs, reclaims, ..Market::default() }
    }

    #[test]
    fn an_observation_counts_the_time_that_was_watched() {
        let known = market(10 * HOUR, 900, 5_000, 1);
        type Row<'a> = (&'a str, Option<Market>, Vec<Instance>, Option<Market>);
        let with = |change: fn(&mut Instance)| {
            let mut instance = running("a", "p", Some(HOUR));
            change(&mut instance);
            vec![instance]
        };
        let rows: Vec<Row<'_>> = vec![
            ("since the last observation", Some(known), with(|_| ()), Some(market(10 * HOUR, 0, 5_900, 1))),
            (
                "several at once",
                Some(known),
                vec![running("a", "p", Some(HOUR)), running("b", "p", None), running("d", "p", Some(60))],
                Some(market(10 * HOUR, 0, 5_000 + 900 + 900 + 60, 1)),
            ),
            ("the first observation", None, with(|_| ()), Some(market(0, 0, 0, 0))),
            (
                "after a long pause",
                Some(market(90 * HOUR, 80 * HOUR, 7, 0)),
                vec![running("a", "p", Some(85 * HOUR))],
                Some(market(90 * HOUR, 0, 7 + 3600, 0)),
            ),
            ("a clock that went back", Some(market(0, -60, 7, 0)), with(|_| ()), Some(market(0, 0, 7, 0))),
            ("not running", Some(known), with(|it| it.status = Status::Exited), None),
            ("not spot", Some(known), with(|it| it.billing = Billing::OnDemand), None),
            ("place not known", Some(known), with(|it| it.place = None), None),
            ("forgotten", Some(market(200 * 24 * HOUR, 91 * 24 * HOUR, 7, 0)), with(|_| ()), Some(market(0, 0, 0, 0))),
            ("damaged", Some(Market::default()), with(|_| ()), Some(market(0, 0, 0, 0))),
        ];
        for (what, known, instances, expected) in rows {
            let known: Vec<_> = known.map(|it| (place("p"), it)).into_iter().collect();
            let expected: Vec<_> = expected.map(|it| (place("p"), Some(it))).into_iter().collect();
            assert_eq!(look_at(&known, instances, &[], &[]), expected, "{what}");
        }
    }

    #[test]
    fn a_reclaim_counts_once_for_each_notice() {
        let known = [(place("p"), market(10 * HOUR, 900, 0, 1))];
        let soon = ago(-HOUR);
        type Row<'a> = (&'a str, &'a [(&'a str, Timestamp)], &'a [(&'a str, Option<Timestamp>)], u64);
        let rows: &[Row<'_>] = &[
            ("none", &[], &[], 1),
            ("a new one", &[], &[("a", Some(soon))], 2),
            ("known", &[("a", soon)], &[("a", Some(soon))], 1),
            ("another time", &[("a", ago(HOUR))], &[("a", Some(soon))], 2),
            ("of another instance", &[("b", soon)], &[("a", Some(soon))], 2),
            ("forgotten", &[("a", soon)], &[("a", None)], 1),
            ("of whom is not listed", &[], &[("z", Some(soon))], 1),
            ("over, and seen late", &[], &[("a", Some(ago(9 * HOUR)))], 2),
            ("from before the first observation", &[], &[("a", Some(ago(11 * HOUR)))], 1),
            ("of one on demand", &[], &[("d", Some(soon))], 1),
        ];
        for (what, before, seen, expected) in rows {
            let mut on_demand = running("d", "p", None);
            on_demand.billing = Billing::OnDemand;
            let changes = look_at(&known, vec![running("a", "p", Some(0)), on_demand], before, seen);
            let [(_, Some(market))] = &changes[..] else { panic!("{what}: {changes:?}") };
            assert_eq!(market.reclaims, *expected, "{what}");
        }
        // Also when nothing runs there any more, and in a place seen for the first time.
        let mut exited = running("a", "p", None);
        exited.status = Status::Exited;
        let changes = look_at(&known, vec![exited.clone()], &[], &[("a", Some(soon))]);
        let blemished = |market: Market| Market { bad_at: Some(ago(0)), ..market };
        assert_eq!(changes, [(place("p"), Some(blemished(market(10 * HOUR, 900, 0, 2))))]);
        let changes = look_at(&[], vec![exited], &[], &[("a", Some(ago(60)))]);
        assert_eq!(changes, [(place("p"), Some(blemished(market(0, 0, 0, 0))))]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let old = |n: usize| {
            let ago = i64::try_from(n).expect("few");
            (place(&format!("p{n:03}")), market(ago, ago, 1, 0))
        };
        let full: Vec<_> = (1..=MARKETS_KEPT).map(old).collect();
        let changes = look_at(&full, vec![running("a", "new", None)], &[], &[]);
        assert_eq!(changes, [(place("new"), Some(market(0, 0, 0, 0))), (place("p500"), None)]);
        let stale =
            [(place("old"), market(0, 90 * 24 * HOUR + 1, 9, 9)), (place("young"), market(0, 90 * 24 * HOUR, 9, 9))];
        assert_eq!(look_at(&stale, vec![], &[], &[]), [(place("old"), None)]);
    }

    #[test]
    fn a_rate_needs_a_hundred_hours() {
        for (secs, reclaims, rate) in [
            (0, 0, None),
            (0, 5, None),
            (100 * 3600 - 1, 5, None),
            (100 * 3600, 0, Some(0)),
            (100 * 3600, 5, Some(50_000)),
            (730 * 3600, 1, Some(1_369)),
            (u64::MAX, u64::MAX, Some(3_600_000_000)),
        ] {
            assert_eq!(market(0, 0, secs, reclaims).rate(), rate, "{reclaims} in {secs} s");
        }
    }
}
