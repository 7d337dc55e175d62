//! What `report` shows: JSON and CSV.

use serde::Serialize;

use super::csv;
use crate::core::pass::usage::MeteredUsage;
use crate::core::record::downtime::{LostHours, hours, hours_of};
use crate::core::record::invoice::{Differences, Invoice};
use crate::core::record::uptime::{DayUptime, PlaceUptime, Uptime, availability};
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;

/// What `report -o json` prints. Durations of recoveries are in milliseconds, amounts in USD.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UptimeDocument<'a> {
    from: Timestamp,
    to: Timestamp,
    instances: u32,
    up_hours: f64,
    down_hours: f64,
    availability: Option<f64>,
    recoveries: RecoveriesPart,
    lost_hours: LostHours,
    reclaims: u64,
    by_place: Vec<ReportedPlace<'a>>,
    savings: SavingsPart,
    /// With `--invoice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice: Option<InvoicePart>,
    days: Vec<ReportedDay<'a>>,
    unseen_hours: f64,
}

#[derive(Debug, Serialize)]
struct RecoveriesPart {
    count: usize,
    p50: Option<i64>,
    p95: Option<i64>,
    worst: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportedPlace<'a> {
    product: &'a str,
    cluster: &'a str,
    instance_hours: f64,
    reclaims: u64,
    refusals: u64,
    availability: Option<f64>,
}

/// Null while no price is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SavingsPart {
    on_demand_cost: Option<f64>,
    cost: Option<f64>,
    saved: Option<f64>,
    percent: Option<f64>,
    /// How much of the running time that is.
    priced_hours: f64,
    source: &'static str,
    billed: Option<f64>,
}

/// The bill beside the estimate. Amounts in USD; `estimated` and the differences add up to what was billed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InvoicePart {
    billed_hours: f64,
    not_billed_hours: f64,
    estimated: f64,
    differences: DifferencesPart,
    other_instances: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DifferencesPart {
    not_billed: f64,
    not_seen_running: f64,
    price: f64,
    no_price: f64,
}

#[derive(Debug, Serialize)]
struct ReportedDay<'a> {
    day: &'a str,
    availability: Option<f64>,
    reclaims: u64,
    saved: Option<f64>,
    /// By the bill, with `--invoice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    proved: Option<f64>,
}

impl<'a> UptimeDocument<'a> {
    /// The document of a span.
    #[must_use]
    pub fn new(uptime: &'a Uptime, invoice: Option<&Invoice>) -> Self {
        let Uptime { from, to, instances, running_seconds, unseen_seconds, lost, recoveries, reclaims, usage, .. } =
            uptime;
        let place = |it: &'a PlaceUptime| ReportedPlace {
            product: &it.place.product,
            cluster: &it.place.cluster,
            instance_hours: hours_of(it.running_seconds),
            reclaims: it.reclaims,
            refusals: it.refusals,
            availability: share(it.running_seconds, it.lost_millis),
        };
        let day = |it: &'a DayUptime| ReportedDay {
            day: &it.day,
            availability: share(it.running_seconds, it.lost_millis),
            reclaims: it.reclaims,
            saved: it.usage.saved().map(cents),
            proved: invoice.and_then(|invoice| invoice.days.get(&it.day)).map(|bill| cents(bill.saved())),
        };
        Self {
            from: *from,
            to: *to,
            instances: *instances,
            up_hours: hours_of(*running_seconds),
            down_hours: hours(lost.total()),
            availability: share(*running_seconds, lost.total()),
            recoveries: RecoveriesPart {
                count: recoveries.len(),
                p50: uptime.recovery(50),
                p95: uptime.recovery(95),
                worst: recoveries.last().copied(),
            },
            lost_hours: LostHours::from(*lost),
            reclaims: *reclaims,
            by_place: uptime.places.iter().map(place).collect(),
            savings: invoice.map_or_else(|| SavingsPart::estimated(usage), SavingsPart::billed),
            invoice: invoice.map(InvoicePart::new),
            days: uptime.days.iter().map(day).collect(),
            unseen_hours: hours_of(*unseen_seconds),
        }
    }
}

impl SavingsPart {
    fn estimated(usage: &MeteredUsage) -> Self {
        let hours = hours_of(usage.priced_seconds);
        Self::of((usage.cost, usage.on_demand_cost, usage.saved()), hours, "prices", None)
    }

    fn billed(invoice: &Invoice) -> Self {
        let amounts = (invoice.compared, invoice.on_demand_cost, invoice.saved());
        Self::of(amounts, hours_of(invoice.compared_seconds), "bill", Some(cents(invoice.billed)))
    }

    fn of(
        (cost, on_demand_cost, saved): (Usd, Usd, Option<Usd>),
        priced_hours: f64,
        source: &'static str,
        billed: Option<f64>,
    ) -> Self {
        let percent = saved.and_then(|it| it.share_of(on_demand_cost)).map(|it| rounded(it, 100.0));
        let known = |amount: Usd| saved.map(|_| cents(amount));
        let (cost, on_demand_cost) = (known(cost), known(on_demand_cost));
        Self { on_demand_cost, cost, saved: saved.map(cents), percent, priced_hours, source, billed }
    }
}

impl InvoicePart {
    fn new(invoice: &Invoice) -> Self {
        let Differences { not_billed, not_seen, price, no_price } = invoice.differences;
        Self {
            billed_hours: hours_of(invoice.billed_seconds),
            not_billed_hours: hours_of(invoice.unbilled_seconds),
            estimated: cents(invoice.estimate),
            differences: DifferencesPart {
                not_billed: cents(not_billed),
                not_seen_running: cents(not_seen),
                price: cents(price),
                no_price: cents(no_price),
            },
            other_instances: cents(invoice.others),
        }
    }
}

/// The days of a span, one row each.
#[must_use]
pub fn csv(uptime: &Uptime, invoice: Option<&Invoice>) -> String {
    let number = |it: Option<f64>| it.map(|it| it.to_string()).unwrap_or_default();
    let row = |it: &DayUptime| {
        let priced = |amount: Usd| it.usage.saved().map(|_| cents(amount));
        [
            it.day.clone(),
            number(share(it.running_seconds, it.lost_millis)),
            hours_of(it.running_seconds).to_string(),
            hours(it.lost_millis).to_string(),
            it.reclaims.to_string(),
            number(priced(it.usage.cost)),
            number(priced(it.usage.on_demand_cost)),
            number(it.usage.saved().map(cents)),
            number(invoice.and_then(|invoice| invoice.days.get(&it.day)).map(|bill| cents(bill.saved()))),
        ]
    };
    let names = ["day", "availability", "upHours", "downHours", "reclaims", "cost", "onDemandCost", "saved", "proved"];
    csv::document(names, uptime.days.iter().map(row))
}

/// An availability to a millionth.
fn share(running_seconds: u64, lost_millis: i64) -> Option<f64> {
    availability(running_seconds, lost_millis).map(|share| (share * 1e6).round() / 1e6)
}

fn cents(amount: Usd) -> f64 {
    (amount.to_f64() * 100.0).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "hundredths of a percent")]
fn rounded(number: u64, one: f64) -> f64 {
    number as f64 / one
}
