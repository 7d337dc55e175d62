//! Where a replacement goes: the order of places, and what refusals teach about markets within a pass and across passes.
//!
//! Stock is a hint that orders places and forbids none. A refusal for lack of room counts for every instance that asks the
//! same market for as many GPUs or more, and lets the market rest for some minutes.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::market::{self, Market, Markets, Notice};
use crate::core::recreation::blueprint::{Nearness, Placement, Prepared};
use crate::core::recreation::journal::Cause;
use crate::core::world::instance::{Billing, Instance, Place, Status};
use crate::core::world::market::{Offer, Stock};
use crate::core::world::money::Usd;
use crate::core::world::policy::{Placing, Policy, Prefer, Selector};
use crate::core::world::time::Timestamp;

/// The markets as a pass knows them, with what its own calls add.
#[derive(Clone, Debug, Default)]
pub struct Board {
    markets: Markets,
    /// Instances that are there and do not go.
    ours: HashMap<Place, u32>,
    changed: BTreeSet<Place>,
}

/// Whether the place where an instance was comes first among the places of its replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// Then its cluster, then any other.
    First,
    /// It was asked to migrate the instance, or has just lost it.
    Last,
    /// As any other place.
    Ranked,
    /// Then any other as it is ranked: nothing asked there yet.
    Untried,
}

impl Home {
    fn of(cause: &Cause, placing: &Placing, prepared: &Prepared) -> Self {
        match (placing.prefer, cause) {
            (Prefer::Place, Cause::Reclaimed) if prepared.is_home_untried => Self::Untried,
            (_, Cause::Moved { .. } | Cause::Bridged) => Self::First,
            // Where it was before it was bridged is no better than any other place.
            (_, Cause::Returned) | (Prefer::Market, _) => Self::Ranked,
            (Prefer::Place, Cause::Reclaimed | Cause::Announced) => Self::Last,
            (Prefer::Place, Cause::JobFailed { .. } | Cause::Stalled { .. } | Cause::Found) => Self::First,
        }
    }

    /// Places of a lower class come first, whatever they cost.
    fn class(self, placement: &Placement) -> (bool, bool, Nearness) {
        let has_none = placement.stock == Stock::None;
        match self {
            Self::First => (false, has_none, placement.nearness),
            Self::Last => (placement.nearness == Nearness::Own, has_none, Nearness::Own),
            Self::Ranked => (false, has_none, Nearness::Own),
            Self::Untried => (placement.nearness != Nearness::Own, has_none, Nearness::Own),
        }
    }
}

impl Board {
    #[must_use]
    pub fn new(markets: Markets, instances: &[Instance]) -> Self {
        let mut ours: HashMap<Place, u32> = HashMap::new();
        let there = instances.iter().filter(|it| it.status != Status::Exited && !it.status.is_going());
        for place in there.filter_map(|it| it.place.as_deref()) {
            match ours.get_mut(place) {
                Some(count) => *count += 1,
                None => drop(ours.insert(place.clone(), 1)),
            }
        }
        Self { markets, ours, changed: BTreeSet::new() }
    }

    /// The markets, with what this pass learned.
    #[must_use]
    pub fn markets(&self) -> &Markets {
        &self.markets
    }

    /// How many instances are in a market.
    #[must_use]
    pub fn ours(&self, place: &Place) -> u32 {
        self.ours.get(place).copied().unwrap_or(0)
    }

    /// Counts the time that instances ran and the reclaims since the last observation.
    pub fn observe<'a>(
        &mut self,
        instances: &[Instance],
        notices: impl IntoIterator<Item = Notice<'a>>,
        now: Timestamp,
    ) {
        for (place, market) in market::observe(instances, &self.markets, notices, now) {
            match market {
                Some(market) => drop(self.markets.insert(place.clone(), market)),
                None => drop(self.markets.remove(&place)),
            }
            self.changed.insert(place);
        }
        // What runs on demand makes no market known.
        for (place, market) in &mut self.markets {
            let ours = self.ours.get(place).copied().unwrap_or(0);
            if market.ours != ours {
                market.ours = ours;
                self.changed.insert(place.clone());
            }
        }
    }

    /// What the provider stated while a replacement was prepared.
    pub fn state(&mut self, prepared: &Prepared, now: Timestamp) {
        if prepared.blueprint.billing == Billing::OnDemand {
            return;
        }
        let per_gpu = |price: Usd| Usd::from_micros(price.micros() / i64::from(prepared.gpus.max(1)));
        for Placement { place, price, on_demand_price, stock, .. } in &prepared.placements {
            let prices = [*price, *on_demand_price].map(|price| price.map(per_gpu));
            self.change(place, now, |market| market.state(prices, *stock, now));
        }
    }

    /// Whether instances are in a market whose prices are unknown or old.
    #[must_use]
    pub fn lacks_prices(&self, now: Timestamp) -> bool {
        self.markets.values().any(|market| market.ours > 0 && market.lacks_prices(now))
    }

    /// The prices of spot offers, for the markets where instances are.
    pub fn state_prices(&mut self, offers: &[Offer], now: Timestamp) {
        for (place, market) in self.markets.iter_mut().filter(|(_, market)| market.ours > 0) {
            let offer = offers.iter().find(|offer| *offer.product_id == *place.product);
            let prices = [offer.and_then(|it| it.price), offer.and_then(|it| it.on_demand_price)];
            market.state_prices(prices, now);
            self.changed.insert(place.clone());
        }
    }

    pub fn refuse(&mut self, place: &Place, gpus: u32, now: Timestamp) {
        self.change(place, now, |market| market.refuse(gpus, now));
    }

    pub fn accept(&mut self, place: &Place, now: Timestamp) {
        *self.ours.entry(place.clone()).or_default() += 1;
        let ours = self.ours(place);
        self.change(place, now, |market| {
            market.accept(now);
            market.ours = ours;
        });
    }

    fn change(&mut self, place: &Place, now: Timestamp, change: impl FnOnce(&mut Market)) {
        let known = self.markets.get(place).copied();
        let mut market = known.unwrap_or_else(|| Market::unseen(now));
        change(&mut market);
        if known != Some(market) {
            self.markets.insert(place.clone(), market);
            self.changed.insert(place.clone());
        }
    }

    /// What changed since it was last asked; `None` is a market to forget.
    pub fn take_changed(&mut self) -> Vec<(Place, Option<Market>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|place| (place.clone(), self.markets.get(&place).copied())).collect()
    }

    /// Until when a market is not asked for this many GPUs, if it is not to be asked now.
    #[must_use]
    pub fn rests(&self, place: &Place, gpus: u32, now: Timestamp) -> Option<Timestamp> {
        self.markets.get(place)?.rests(gpus, now)
    }

    /// The next place to ask, given the places that were `tried` in vain. Of those that cost about as much as the best, the
    /// one with the fewest instances, since a market that loses its room takes all that is there.
    #[must_use]
    pub fn choose<'a>(&self, prepared: &'a Prepared, ask: Ask<'_>, tried: &[&Place]) -> Option<&'a Placement> {
        let Ask { cause, policy, .. } = ask;
        let home = Home::of(cause, &policy.placing, prepared);
        let open = prepared.placements.iter();
        let open = open.filter(|it| !tried.contains(&&it.place) && self.left_out(it, prepared, ask).is_none());
        let mut open: Vec<(_, u128, &Placement)> = open.map(|it| (home.class(it), self.score(it, ask), it)).collect();
        let best = open.iter().map(|(class, score, _)| (*class, *score)).min()?;
        let spread = u128::from(policy.placing.spread_percent);
        let near = |score: u128| score.saturating_mul(100) <= best.1.saturating_mul(100 + spread);
        open.retain(|(class, score, _)| *class == best.0 && near(*score));
        let order = |&(_, score, it): &(_, u128, &'a Placement)| {
            (self.ours(&it.place), score, &it.place.cluster, &it.place.product)
        };
        open.into_iter().min_by(|a, b| order(a).cmp(&order(b))).map(|(.., it)| it)
    }

    /// All places in the order in which they would be asked if each refused.
    #[must_use]
    pub fn order<'a>(&self, prepared: &'a Prepared, ask: Ask<'_>) -> Vec<&'a Placement> {
        let mut order: Vec<&Placement> = Vec::new();
        loop {
            let tried: Vec<&Place> = order.iter().map(|it| &it.place).collect();
            let Some(next) = self.choose(prepared, ask, &tried) else { return order };
            order.push(next);
        }
    }

    /// Every place: those that may be asked now in their order, then the others with the reason.
    #[must_use]
    pub fn ranking<'a>(&self, prepared: &'a Prepared, ask: Ask<'_>) -> Vec<(&'a Placement, Option<LeftOut>)> {
        let open = self.order(prepared, ask).into_iter().map(|it| (it, None));
        let rest = prepared.placements.iter().filter_map(|it| Some((it, Some(self.left_out(it, prepared, ask)?))));
        open.chain(rest).collect()
    }

    /// Why a place is not asked now, if so.
    fn left_out(&self, placement: &Placement, prepared: &Prepared, ask: Ask<'_>) -> Option<LeftOut> {
        let Ask { cause, policy, now } = ask;
        let Placement { place, nearness, .. } = placement;
        // On-demand instances have a market of their own, of which nothing is remembered.
        let is_spot = prepared.blueprint.billing != Billing::OnDemand;
        let market = self.markets.get(place).filter(|_| is_spot);
        let bad_at = self.markets.get(place).and_then(|market| market.bad_at);
        if !is_among(placement, &policy.placing) {
            return Some(LeftOut::NotAmongPlaces);
        }
        if placement.nearness != Nearness::Own
            && !is_cheap(placement.price, self.own_price(prepared), policy.placing.max_price_percent)
        {
            return Some(LeftOut::TooDear);
        }
        if let Some(until) = market.and_then(|market| market.rests(prepared.gpus, now)) {
            return Some(LeftOut::Rests { refused_at: market.and_then(|market| market.refused_at), until });
        }
        match (cause, bad_at) {
            (Cause::Announced, _) => (*nearness == Nearness::Own).then_some(LeftOut::AboutToGo),
            (Cause::Returned, Some(bad_at)) => {
                (now.since(bad_at) < policy.bridge.steady).then_some(LeftOut::NotSteady { bad_at })
            }
            _ => None,
        }
    }

    /// What an hour where the instance was costs, or cost when the price was last stated.
    fn own_price(&self, prepared: &Prepared) -> Option<Usd> {
        let remembered = || {
            let own = prepared.placements.iter().find(|it| it.nearness == Nearness::Own)?;
            Some(self.markets.get(&own.place)?.price?.times(prepared.gpus))
        };
        prepared.own_price.or_else(remembered)
    }

    /// What an hour in a place is expected to cost, in micro-USD for all GPUs.
    #[must_use]
    pub fn score(&self, placement: &Placement, Ask { policy, now, .. }: Ask<'_>) -> u128 {
        let market = self.markets.get(&placement.place).copied().unwrap_or_else(|| Market::unseen(now));
        market.score(placement.price.unwrap_or_default(), policy.placing.reclaim_cost, now)
    }

    /// When the first of the places that rest may be asked again.
    #[must_use]
    pub fn rest_of(&self, prepared: &Prepared, now: Timestamp) -> Option<Timestamp> {
        prepared.placements.iter().filter_map(|it| self.rests(&it.place, prepared.gpus, now)).min()
    }
}

/// What a choice of places depends on, beside the markets.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub cause: &'a Cause,
    pub policy: &'a Policy,
    pub now: Timestamp,
}

/// Why a place is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    Rests {
        refused_at: Option<Timestamp>,
        until: Timestamp,
    },
    /// It had a bad sign too recently to return there.
    NotSteady {
        bad_at: Timestamp,
    },
    /// The announced reclaim is there.
    AboutToGo,
    TooDear,
    NotAmongPlaces,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rests { refused_at: Some(at), until } => write!(f, "refused at {at}, rests until {until}"),
            Self::Rests { refused_at: None, until } => write!(f, "rests until {until}"),
            Self::NotSteady { bad_at } => write!(f, "not steady, its last bad sign was at {bad_at}"),
            Self::AboutToGo => f.write_str("it is to be reclaimed there"),
            Self::TooDear => f.write_str("costs more than MIGRATION_MAX_PRICE_PERCENT allows"),
            Self::NotAmongPlaces => f.write_str("not among RESPOT_PLACES"),
        }
    }
}

/// Whether the operator lets a replacement go there. The cluster where the instance was is always allowed.
fn is_among(Placement { place, cluster_name, nearness, .. }: &Placement, placing: &Placing) -> bool {
    placing.places.is_empty()
        || *nearness != Nearness::Elsewhere
        || placing.places.iter().any(|it| it.matches_text(&place.cluster) || it.matches_text(cluster_name))
}

/// The patterns for clusters that match none of these places, unless nothing but what is tied to its cluster is placed.
#[must_use]
pub fn idle_places<'a>(prepared: &[&Prepared], placing: &'a Placing) -> Vec<&'a Selector> {
    let placements = || prepared.iter().filter(|it| it.tied_by.is_none()).flat_map(|it| &it.placements);
    if placements().next().is_none() {
        return Vec::new();
    }
    let is_met = |pattern: &Selector| {
        placements().any(|it| pattern.matches_text(&it.place.cluster) || pattern.matches_text(&it.cluster_name))
    };
    placing.places.iter().filter(|pattern| !is_met(pattern)).collect()
}

/// Whether a place costs no more than this share of what the instance cost, as far as both are known.
fn is_cheap(price: Option<Usd>, own: Option<Usd>, max_percent: u64) -> bool {
    match (price, own) {
        (Some(price), Some(own)) if own > Usd::default() => {
            i128::from(price.micros()) * 100 <= i128::from(own.micros()) * i128::from(max_percent)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::recreation::blueprint::Blueprint;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_700_000_000)
    }

    fn ago(minutes: u64) -> Timestamp {
        now() - Duration::from_secs(60 * minutes)
    }

    fn place(cluster: &str) -> Place {
        Place { product: "p".into(), cluster: cluster.into() }
    }

    /// A place: its cluster, `home` being its own; cents an hour, or `?`; `!` behind it for no stock.
    fn placement(text: &str) -> Placement {
        let (cluster, cents) = text.trim_end_matches('!').split_once(' ').expect("a cluster and a price");
        Placement {
            place: place(cluster),
            cluster_name: cluster.to_uppercase(),
            nearness: match cluster {
                "home" => Nearness::Own,
                "near" => Nearness::SameCluster,
                _ => Nearness::Elsewhere,
            },
            price: cents.parse::<i64>().ok().map(|cents| Usd::from_micros(cents * 10_000)),
            on_demand_price: None,
            stock: if text.ends_with('!') { Stock::None } else { Stock::Normal },
            words: String::new(),
        }
    }

    fn prepared(places: &[&str]) -> Prepared {
        Prepared {
            blueprint: Blueprint { billing: Billing::Spot, notes: vec![], payload: Default::default() },
            placements: places.iter().map(|text| placement(text)).collect(),
            gpus: 2,
            own_price: (!places.contains(&"home ?")).then(|| Usd::from_micros(300_000)),
            is_home_untried: false,
            tied_by: None,
            unread: None,
        }
    }

    fn clusters(board: &Board, prepared: &Prepared, cause: &Cause, placing: &Placing) -> String {
        let policy = Policy { placing: placing.clone(), ..Policy::default() };
        let order = board.order(prepared, Ask { cause, policy: &policy, now: now() });
        order.iter().map(|it| it.place.cluster.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pattern_that_matches_no_place_is_found() {
        let all = prepared(&["a 10", "b 20"]);
        let tied = Prepared { tied_by: Some("a volume".into()), ..prepared(&["a 10"]) };
        let places = ["a", "c*"].map(|text| Selector::parse(text).expect("a pattern")).to_vec();
        let placing = Placing { places, ..Placing::DEFAULT };
        for (prepared, idle) in
            [(vec![&all], vec!["c*"]), (vec![&tied], vec![]), (vec![&tied, &all], vec!["c*"]), (vec![], vec![])]
        {
            let found: Vec<&str> = idle_places(&prepared, &placing).into_iter().map(Selector::as_str).collect();
            assert_eq!(found, idle);
        }
    }

    #[test]
    fn places_have_an_order() {
        type Change = fn(&mut Board);
        let (reclaimed, stalled) = (Cause::Reclaimed, Cause::Stalled { since: ago(60) });
        let untouched: Change = |_| ();
        let (placing, ranked) = (Placing::DEFAULT, Placing { prefer: Prefer::Market, ..Placing::DEFAULT });
        let only_b = Placing { places: vec![Selector::parse("B*").expect("a pattern")], ..Placing::DEFAULT };
        let rows: &[(&str, Change, &Cause, &Placing, &[&str], &str)] = &[
            ("by price, its own last", untouched, &reclaimed, &placing, &["home 30", "b 50", "a 40"], "a b home"),
            (
                "its own first after a failed migration",
                untouched,
                &stalled,
                &placing,
                &["b 20", "near 40", "home 30"],
                "home near b",
            ),
            ("its own among the others", untouched, &reclaimed, &ranked, &["b 20", "home 30", "a 50"], "b home a"),
            ("of equal price by cluster", untouched, &reclaimed, &placing, &["c 30", "a 30", "b 30"], "a b c"),
            (
                "without stock behind, but before its own",
                untouched,
                &reclaimed,
                &placing,
                &["home 30", "a 10!", "b 50"],
                "b a home",
            ),
            ("too dear", untouched, &reclaimed, &placing, &["a 60", "b 61"], "a"),
            (
                "without its own price by the last one",
                |it| it.state(&prepared(&["home 30"]), ago(5)),
                &reclaimed,
                &placing,
                &["home ?", "a 60", "b 61"],
                "a home",
            ),
            ("without any price of its own", untouched, &reclaimed, &placing, &["home ?", "a 60", "b 61"], "a b home"),
            ("its own price is what it was", untouched, &stalled, &placing, &["home 99"], "home"),
            ("only where the operator allows", untouched, &reclaimed, &only_b, &["a 10", "b 20", "home 30"], "b home"),
            (
                "what refused rests",
                |it| it.refuse(&place("a"), 2, ago(0)),
                &reclaimed,
                &placing,
                &["a 10", "b 20"],
                "b",
            ),
            (
                "a refusal of fewer GPUs counts, too",
                |it| it.refuse(&place("a"), 1, ago(0)),
                &reclaimed,
                &placing,
                &["a 10", "b 20"],
                "b",
            ),
            (
                "a refusal of more GPUs does not",
                |it| it.refuse(&place("a"), 4, ago(0)),
                &reclaimed,
                &placing,
                &["a 10", "b 30"],
                "a b",
            ),
            (
                "after its rest it is asked again, last",
                |it| it.refuse(&place("a"), 2, ago(2)),
                &reclaimed,
                &placing,
                &["a 30", "b 30"],
                "b a",
            ),
            (
                "a market that has room does not rest",
                |it| {
                    it.refuse(&place("a"), 2, ago(0));
                    it.accept(&place("a"), ago(0));
                },
                &reclaimed,
                &placing,
                &["a 10", "b 30"],
                "a b",
            ),
            (
                "of about the same price the emptiest",
                |it| it.accept(&place("a"), ago(0)),
                &reclaimed,
                &placing,
                &["a 50", "b 52"],
                "b a",
            ),
            (
                "but not of another price",
                |it| it.accept(&place("a"), ago(0)),
                &reclaimed,
                &placing,
                &["a 50", "b 53"],
                "a b",
            ),
        ];
        for (what, change, cause, placing, places, expected) in rows {
            let mut board = Board::default();
            change(&mut board);
            assert_eq!(clusters(&board, &prepared(places), cause, placing), *expected, "{what}");
        }
    }

    #[test]
    fn each_place_that_is_left_out_has_its_reason() {
        let mut board = Board::default();
        board.refuse(&place("b"), 2, ago(0));
        board.refuse(&place("d"), 2, ago(10));
        let only = ["home", "a", "b", "c", "d"].map(|it| Selector::parse(it).expect("a pattern"));
        let placing = Placing { places: only.into(), ..Placing::DEFAULT };
        let policy = Policy { placing, ..Policy::default() };
        let places = prepared(&["home 30", "a 40", "b 20", "c 90", "d 10", "e 10"]);
        let (announced, returned) = (Cause::Announced, Cause::Returned);
        let rests = format!("b: refused at {}, rests until {}", now(), now() + Duration::from_secs(60));
        let (dear, among) = ("c: costs more than MIGRATION_MAX_PRICE_PERCENT allows", "e: not among RESPOT_PLACES");
        let (goes, steady) =
            ("home: it is to be reclaimed there", &*format!("d: not steady, its last bad sign was at {}", ago(10)));
        for (cause, expected) in [
            (&Cause::Reclaimed, ["d", "a", "home", &rests, dear, among]),
            (&announced, ["d", "a", goes, &rests, dear, among]),
            (&returned, ["home", "a", &rests, dear, steady, among]),
        ] {
            let ranking = board.ranking(&places, Ask { cause, policy: &policy, now: now() });
            let ranking = ranking.into_iter().map(|(it, left_out)| match left_out {
                Some(why) => format!("{}: {why}", it.place.cluster),
                None => it.place.cluster.to_string(),
            });
            assert_eq!(ranking.collect::<Vec<_>>(), expected, "{cause:?}");
        }
    }

    #[test]
    fn a_market_that_refuses_rests_for_half_of_its_drought() {
        let mut market = Market::unseen(ago(0));
        let at = |secs: u64| now() + Duration::from_secs(secs);
        for (secs, rest) in [(0, 60), (60, 60), (200, 100), (400, 200), (600, 300), (3600, 300)] {
            market.refuse(1, at(secs));
            assert_eq!(market.rests(1, at(secs)), Some(at(secs + rest)), "after {secs} s");
            assert_eq!(market.rests(1, at(secs + rest)), None);
        }
        market.state([None; 2], Stock::None, at(4000));
        market.refuse(1, at(4000));
        market.state([None; 2], Stock::Low, at(4001));
        assert_eq!((market.rests(1, at(4001)), market.drought_since), (None, None), "stock is back");
        let young = market.hazard(at(5000));
        market.state([None; 2], Stock::Low, at(5000));
        assert_eq!((market.hazard(at(5000)), market.bad_at), (young, Some(at(4000))), "stock that stays is no sign");
        market.state([None; 2], Stock::None, at(5001));
        market.state([None; 2], Stock::Low, at(9000));
        assert!(market.hazard(at(9000)) > young, "it may have come back just now");
        market.refuse(1, at(4002));
        market.accept(at(4003));
        assert_eq!(market.rests(1, at(4003)), None, "it has room");
        market.rests_until = Some(at(1_000_000));
        assert_eq!(market.rests(1, at(4004)), None, "the clock was set back");
    }

    /// Reclaims seen in so many hours, minutes since the last bad sign, and the hazard per million hours.
    #[test]
    fn a_hazard_is_what_was_counted_and_how_young_the_last_bad_sign_is() {
        for (reclaims, hours, bad, hazard) in [
            (0, 0, None, (83_333 + 83_333) / 2),
            (0, 1000, None, (1_953 + 83_333) / 2),
            (10, 100, None, (96_774 + 83_333) / 2),
            (10, 100, Some(5), (96_774 + 2_000_000) / 2),
            (10, 100, Some(60), (96_774 + 500_000) / 2),
            (u64::MAX, u64::MAX / 3600, Some(0), (3_600_000_000_u64 + 2_000_000) / 2),
        ] {
            let market =
                Market { reclaims, instance_seconds: hours * 3600, bad_at: bad.map(ago), ..Market::unseen(ago(0)) };
            let found = market.hazard(now());
            assert!(
                found.abs_diff(hazard) <= 1 || reclaims == u64::MAX,
                "{reclaims} in {hours} h: {found}, not {hazard}"
            );
        }
    }
}
