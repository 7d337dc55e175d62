//! What the provider billed, beside what was estimated from prices.
//!
//! A row of a bill is about a stretch of time, usually an hour, of which the instance may have run for a part. Only time
//! that passes saw it running counts, with what was paid for that.

use std::collections::BTreeMap;

use crate::core::pass::spell::day_of;
use crate::core::pass::usage::{InstanceDays, MeteredUsage};
use crate::core::world::instance::InstanceId;
use crate::core::world::money::Usd;
use crate::core::world::time::{Timestamp, millis};

/// What an instance was billed for a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillRow {
    pub instance: InstanceId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Discounts taken off, vouchers not.
    pub amount: Usd,
}

/// The bill of a span of time, beside the estimate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invoice {
    /// What was billed for instances that passes saw running.
    pub billed: Usd,
    /// The part of `billed` for time that passes saw, at known prices.
    pub compared: Usd,
    /// What that time would have cost on demand, by the prices then.
    pub on_demand_cost: Usd,
    pub billed_seconds: u64,
    /// Of these, the running time that is compared.
    pub compared_seconds: u64,
    /// Running time without a row of the bill.
    pub unbilled_seconds: u64,
    /// What prices say that all running time cost.
    pub estimate: Usd,
    pub differences: Differences,
    /// What was billed for other instances of the account.
    pub others: Usd,
    /// Whether any instance was counted by itself in the span; else there is nothing to compare with.
    pub knows_instances: bool,
    /// By day, as far as it is compared.
    pub days: BTreeMap<String, DayBill>,
}

/// Why `billed` is not `estimate`; they add up to the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Running time without a row of the bill.
    pub not_billed: Usd,
    /// Billed time in which no pass saw the instance running.
    pub not_seen: Usd,
    /// Other prices than those last known.
    pub price: Usd,
    /// Running or billed time without a known price.
    pub no_price: Usd,
}

/// What was billed for a day, and what that would have cost on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayBill {
    pub billed: Usd,
    pub on_demand_cost: Usd,
}

const HOUR_MILLIS: i64 = 3_600_000;

/// The seconds of a day.
const MOST_SECONDS: u64 = 86_400;

fn sum(a: &mut Usd, b: Usd) {
    *a = [*a, b].into_iter().sum();
}

/// The amount for `count` of something if `whole` of it costs `amount`.
fn rate(amount: Usd, count: i64, whole: u64) -> Usd {
    amount.part(u64::try_from(count).unwrap_or(0), whole.saturating_mul(1000))
}

impl Invoice {
    /// Sets rows of a bill against what ran on the days of the span, which begins at a midnight in UTC. Rows that begin
    /// outside the span do not count. `before` returns the part of `ran` before a moment: what ran after the end of the
    /// last row is not billed yet.
    #[must_use]
    pub fn of(
        rows: &[BillRow],
        ran: &InstanceDays,
        (from, to): (Timestamp, Timestamp),
        before: impl FnOnce(Timestamp) -> InstanceDays,
    ) -> Self {
        let rows: Vec<&BillRow> = rows.iter().filter(|row| from <= row.from && row.from < to).collect();
        let ran_before_end = before(rows.iter().map(|row| row.to).max().unwrap_or(from));
        let mut fleet: BTreeMap<&InstanceId, OneInstance<'_>> = BTreeMap::new();
        for (day, ran) in ran {
            let before = ran_before_end.get(day);
            // A day has no more time.
            for (id, usage) in ran.instances.iter().filter(|(_, usage)| usage.running_seconds <= MOST_SECONDS) {
                let its = fleet.entry(id).or_default();
                its.ran.add(*usage);
                let of_day = its.days.entry(day.clone()).or_default();
                of_day.ran = *usage;
                let before = before.and_then(|day| day.instances.get(id));
                of_day.billable_seconds = before.map_or(0, |usage| usage.running_seconds);
            }
        }
        let mut invoice = Self { knows_instances: !fleet.is_empty(), ..Self::default() };
        for row in rows {
            match fleet.get_mut(&row.instance) {
                Some(its) => its.rows.push(row),
                None => sum(&mut invoice.others, row.amount),
            }
        }
        for its in fleet.into_values() {
            let OneInstance { ran, days, .. } = its.with_bill();
            days.into_iter().for_each(|(day, of_day)| invoice.add(&ran, day, &of_day));
        }
        invoice
    }

    fn add(&mut self, in_all: &MeteredUsage, day: String, of_day: &DayOfOne) {
        let DayOfOne { ran, billable_seconds, amount, charged, billed_millis, stretches } = *of_day;
        let seconds = |millis: i64| u64::try_from(millis / 1000).unwrap_or(0);
        let length = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
        let (running, billable) = (length(ran.running_seconds), length(billable_seconds));
        let compared = billable.min(billed_millis);
        sum(&mut self.billed, amount);
        sum(&mut self.estimate, ran.cost);
        self.billed_seconds += seconds(billed_millis);
        self.unbilled_seconds += seconds(running - compared);
        let all = amount.minus(ran.cost);
        // The prices of that day, else those of the span.
        let Some(prices) = [&ran, in_all].into_iter().find(|it| it.priced_seconds > 0) else {
            return sum(&mut self.differences.no_price, all);
        };
        let cost_of = |length: i64| rate(prices.cost, length, prices.priced_seconds);
        let no_price = cost_of(running - length(ran.priced_seconds));
        let not_billed = Usd::default().minus(cost_of(running - compared));
        // The instance may have run for only a part of the first and the last row of each stretch: they do not prove time
        // that no pass saw.
        let unseen = (billed_millis - billable - stretches * 2 * HOUR_MILLIS).max(0);
        let most = charged.minus(cost_of(compared)).max(Usd::default());
        let beyond = if compared == 0 { charged } else { cost_of(unseen).min(most) };
        let paid = charged.minus(beyond);
        let not_seen = amount.minus(paid);
        let others: Usd = [no_price, not_billed, not_seen].into_iter().sum();
        let on_demand_cost = rate(prices.on_demand_cost, compared, prices.priced_seconds);
        for (total, part) in [
            (&mut self.differences.no_price, no_price),
            (&mut self.differences.not_billed, not_billed),
            (&mut self.differences.not_seen, not_seen),
            (&mut self.differences.price, all.minus(others)),
            (&mut self.compared, paid),
            (&mut self.on_demand_cost, on_demand_cost),
        ] {
            sum(total, part);
        }
        self.compared_seconds += seconds(compared);
        if compared > 0 {
            let bill = self.days.entry(day).or_default();
            sum(&mut bill.billed, paid);
            sum(&mut bill.on_demand_cost, on_demand_cost);
        }
    }

    /// What spot saved by the bill; `None` while nothing is billed whose prices are known.
    #[must_use]
    pub fn saved(&self) -> Option<Usd> {
        (self.compared_seconds > 0).then(|| self.on_demand_cost.minus(self.compared))
    }
}

impl DayBill {
    #[must_use]
    pub fn saved(&self) -> Usd {
        self.on_demand_cost.minus(self.billed)
    }
}

/// One instance in the span.
#[derive(Default)]
struct OneInstance<'a> {
    ran: MeteredUsage,
    rows: Vec<&'a BillRow>,
    days: BTreeMap<String, DayOfOne>,
}

/// One instance on one day.
#[derive(Default)]
struct DayOfOne {
    ran: MeteredUsage,
    /// How long it ran before the end of the bill.
    billable_seconds: u64,
    amount: Usd,
    /// The same without refunds of other times.
    charged: Usd,
    /// The time that the rows cover, each moment once, and the number of stretches without a gap.
    billed_millis: i64,
    stretches: i64,
}

impl OneInstance<'_> {
    /// Adds the rows of the bill to their days. Rows that overlap are about the same time: a price in several parts, a
    /// correction, a refund.
    fn with_bill(mut self) -> Self {
        self.rows.sort_by_key(|row| row.from);
        let mut stretches: Vec<(Timestamp, Timestamp, Usd)> = Vec::new();
        for BillRow { from, to, amount, .. } in self.rows.drain(..) {
            match stretches.last_mut() {
                Some((_, until, before)) if to <= until => sum(before, *amount),
                Some((_, until, _)) => {
                    let from = (*until).max(*from);
                    stretches.push((from, *to, *amount));
                }
                None => stretches.push((*from, *to, *amount)),
            }
        }
        let mut last = None;
        for (from, to, amount) in stretches {
            let day = day_of(from).0;
            let of_day = self.days.entry(day.clone()).or_default();
            sum(&mut of_day.amount, amount);
            if amount <= Usd::default() {
                continue;
            }
            sum(&mut of_day.charged, amount);
            of_day.billed_millis = of_day.billed_millis.saturating_add(millis(to.since(from)));
            of_day.stretches += i64::from(last != Some((day.clone(), from)));
            last = Some((day, to));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pass::usage::InstanceDay;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_millis(1_768_435_200_000 + hour * 3_600_000)
    }

    /// An instance at 0.30 USD an hour, 0.60 on demand.
    fn ran(seconds: u64, priced: u64) -> MeteredUsage {
        let cents = |rate: u64| Usd::from_micros(i64::try_from(priced * rate * 1_000_000 / 3600 / 100).expect("small"));
        MeteredUsage { running_seconds: seconds, priced_seconds: priced, cost: cents(30), on_demand_cost: cents(60) }
    }

    fn days(day: InstanceDay) -> InstanceDays {
        [("2026-01-15".to_owned(), day)].into()
    }

    /// The last minute before the end of the bill costs a cent, and the half hour after it nothing yet.
    #[test]
    fn what_ran_after_the_end_of_the_bill_is_not_billed_yet() {
        let day = |usage| InstanceDay { instances: [(InstanceId::new("a"), usage)].into() };
        let amount = Usd::from_micros(5_000);
        let bill = [BillRow { instance: InstanceId::new("a"), from: at(11), to: at(12), amount }];
        let it = Invoice::of(&bill, &days(day(ran(1860, 1860))), (at(0), at(13)), |end| {
            assert_eq!(end, at(12));
            days(day(ran(60, 60)))
        });
        assert_eq!(it.saved(), Some(Usd::from_micros(5_000)));
        assert_eq!((it.compared_seconds, it.unbilled_seconds), (60, 1800));
    }

    #[test]
    fn what_is_billed_is_the_estimate_and_its_differences() {
        const HOUR: u64 = 3600;
        let row = |instance: &str, hour: i64, cents: i64| BillRow {
            instance: InstanceId::new(instance),
            from: at(hour),
            to: at(hour + 1),
            amount: Usd::from_micros(cents * 10_000),
        };
        let late =
            |hour: i64| BillRow { to: at(hour + 1) + std::time::Duration::from_secs(1800), ..row("a", hour, 30) };
        // What ran, rows; in cents: compared, on demand, not billed, not seen, price, no price; hours not billed.
        type Row = (MeteredUsage, Vec<BillRow>, [i64; 6], u64);
        let rows: Vec<Row> = vec![
            (ran(2 * HOUR, 2 * HOUR), vec![row("a", 1, 30), row("a", 2, 30)], [60, 120, 0, 0, 0, 0], 0),
            (ran(2 * HOUR, 2 * HOUR), vec![row("a", 1, 30)], [30, 60, -30, 0, 0, 0], 1),
            (ran(2 * HOUR, 2 * HOUR), vec![], [0, 0, -60, 0, 0, 0], 2),
            (
                ran(3 * HOUR, 3 * HOUR),
                vec![row("a", 1, 25), row("a", 2, 25), row("a", 3, 25)],
                [75, 180, 0, 0, -15, 0],
                0,
            ),
            // Twice the same stretch: both were charged, and what ran is not worth more for that.
            (ran(HOUR, HOUR), vec![row("a", 1, 30), row("a", 1, 30)], [60, 60, 0, 0, 30, 0], 0),
            // The price in two parts, and a refund of all of it.
            (ran(HOUR, HOUR), vec![row("a", 1, 20), row("a", 1, 10)], [30, 60, 0, 0, 0, 0], 0),
            (ran(HOUR, HOUR), vec![row("a", 1, 30), row("a", 1, -30)], [0, 0, -30, 0, 0, 0], 1),
            // A refund of another time is none of the time seen.
            (ran(HOUR, HOUR), vec![row("a", 1, 30), row("a", 2, -90)], [30, 60, 0, -90, 0, 0], 0),
            // Rows that end half an hour too late: no time counts twice.
            (ran(3 * HOUR, 3 * HOUR), vec![late(1), late(2), late(3)], [90, 180, 0, 0, 0, 0], 0),
            // Half an hour of a whole one, and the whole of which half an hour was seen.
            (ran(HOUR / 2, HOUR / 2), vec![row("a", 1, 15)], [15, 30, 0, 0, 0, 0], 0),
            (ran(HOUR / 2, HOUR / 2), vec![row("a", 1, 30)], [30, 30, 0, 0, 15, 0], 0),
            // It ran for twice as long as was seen. What the first and the last row are about is not known.
            (ran(6 * HOUR, 6 * HOUR), (1..13).map(|hour| row("a", hour, 30)).collect(), [240, 360, 0, 120, 60, 0], 0),
            // A third of each hour, and all of it was seen.
            (ran(4 * HOUR, 4 * HOUR), (1..13).map(|hour| row("a", hour, 10)).collect(), [120, 240, 0, 0, 0, 0], 0),
            (ran(2 * HOUR, HOUR), vec![row("a", 1, 30), row("a", 2, 30)], [60, 120, 0, 0, 0, 30], 0),
            (ran(2 * HOUR, 0), vec![row("a", 1, 30)], [0, 0, 0, 0, 0, 30], 1),
            // Outside the span, and of another instance.
            (ran(HOUR, HOUR), vec![row("a", -1, 30), row("a", 24, 30), row("b", 1, 7)], [0, 0, -30, 0, 0, 0], 1),
        ];
        for (number, (usage, bill, cents, unbilled)) in rows.into_iter().enumerate() {
            let ran = InstanceDay { instances: [(InstanceId::new("a"), usage)].into() };
            let it = Invoice::of(&bill, &days(ran.clone()), (at(0), at(24)), |_| days(ran));
            let Differences { not_billed, not_seen, price, no_price } = it.differences;
            let found = [it.compared, it.on_demand_cost, not_billed, not_seen, price, no_price];
            assert_eq!(found.map(|amount| amount.micros() / 10_000), cents, "row {number}");
            assert_eq!(it.unbilled_seconds / HOUR, unbilled, "row {number}");
            let total: Usd = [it.estimate, not_billed, not_seen, price, no_price].into_iter().sum();
            assert_eq!(total, it.billed, "row {number}: it adds up");
            assert_eq!(it.others.micros() / 10_000, if number == 15 { 7 } else { 0 });
            let saved: Usd = it.days.values().map(DayBill::saved).sum();
            assert_eq!(it.saved().unwrap_or_default(), saved, "row {number}: the days add up");
        }
    }
}
