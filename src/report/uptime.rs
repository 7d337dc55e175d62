//! What `report` shows: JSON and CSV.

use serde::Serialize;

use super::csv;
use crate::core::record::downtime::{LostHours, hours, hours_of};
use crate::core::record::uptime::{Bill, DayUptime, PlaceUptime, Uptime, availability};
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

#[derive(Debug, Serialize)]
struct ReportedDay<'a> {
    day: &'a str,
    availability: Option<f64>,
    reclaims: u64,
    saved: Option<f64>,
}

impl<'a> UptimeDocument<'a> {
    /// The document of a span.
    #[must_use]
    pub fn new(uptime: &'a Uptime) -> Self {
        let Uptime { from, to, instances, running_seconds, unseen_seconds, lost, recoveries, reclaims, bill, .. } =
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
            saved: it.bill.saved().map(cents),
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
            savings: SavingsPart::new(bill),
            days: uptime.days.iter().map(day).collect(),
            unseen_hours: hours_of(*unseen_seconds),
        }
    }
}

impl SavingsPart {
    fn new(bill: &Bill) -> Self {
        let saved = bill.saved();
        Self {
            on_demand_cost: saved.map(|_| cents(bill.on_demand_cost)),
            cost: saved.map(|_| cents(bill.cost)),
            saved: saved.map(cents),
            percent: saved.and_then(|it| it.share_of(bill.on_demand_cost)).map(|it| rounded(it, 100.0)),
            priced_hours: hours_of(bill.priced_seconds),
            source: "prices",
            billed: None,
        }
    }
}

/// The days of a span, one row each.
#[must_use]
pub fn csv(uptime: &Uptime) -> String {
    let number = |it: Option<f64>| it.map(|it| it.to_string()).unwrap_or_default();
    let row = |it: &DayUptime| {
        let priced = |amount: Usd| it.bill.saved().map(|_| cents(amount));
        [
            it.day.clone(),
            number(share(it.running_seconds, it.lost_millis)),
            hours_of(it.running_seconds).to_string(),
            hours(it.lost_millis).to_string(),
            it.reclaims.to_string(),
            number(priced(it.bill.cost)),
            number(priced(it.bill.on_demand_cost)),
            number(it.bill.saved().map(cents)),
        ]
    };
    let names = ["day", "availability", "upHours", "downHours", "reclaims", "cost", "onDemandCost", "saved"];
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
