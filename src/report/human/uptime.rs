//! What a span of time brought.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::Column::{Left, Right};
use super::table::table;
use super::{Screen, counted};
use crate::core::pass::spell::Part;
use crate::core::pass::usage::MeteredUsage;
use crate::core::record::downtime::{hours, hours_of};
use crate::core::record::invoice::{DayBill, Differences, Invoice};
use crate::core::record::uptime::{DayUptime, PlaceUptime, Uptime, availability};
use crate::core::world::money::{Usd, decimal};
use crate::core::world::time::in_words;
use crate::report::text::visible;

/// Less lost time than 0.05 hours is not listed.
const SHOWN_MILLIS: i64 = 3 * 60 * 1000;

/// How much of the time the fleet was up, why it was not, where, on which days.
#[must_use]
pub fn uptime(screen: Screen, uptime: &Uptime, invoice: Option<&Invoice>, of: Option<&str>) -> String {
    let Uptime { from, to, instances, running_seconds, unseen_seconds, lost, reclaims, recoveries, .. } = uptime;
    let span = format!("{} to {}", minute(&from.to_string()), minute(&to.to_string()));
    let lost_millis = lost.total();
    let Some(up) = availability(*running_seconds, lost_millis) else {
        return screen.sentences(&format!("{span}: no pass with this store saw an instance that was to run then"))
            + "\n";
    };
    let name = of.map_or_else(|| counted(instances, "instance"), visible);
    let total = hours(lost_millis) + hours_of(*running_seconds);
    let mut head = format!("{span}: {name}, up {:.2} % of {total:.1} instance-hours", up * 100.0);
    if *unseen_seconds > 0 {
        let _ = write!(head, "; of {:.1} more nothing is known", hours_of(*unseen_seconds));
    }
    let mut out = screen.sentences(&head) + "\n";
    let quantile = |name: &str, length: Option<i64>| {
        let length = length.and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
        format!("{name} {}", in_words(Duration::from_millis(length)))
    };
    let mut facts = counted(reclaims, "reclaim");
    if !recoveries.is_empty() {
        let _ = write!(facts, "; {}", counted(recoveries.len(), "recovery"));
        for (name, length) in
            [("p50", uptime.recovery(50)), ("p95", uptime.recovery(95)), ("worst", uptime.recovery(100))]
        {
            let _ = write!(facts, ", {}", quantile(name, length));
        }
    }
    out += &(screen.sentences(&facts) + "\n");
    for line in [savings(&uptime.usage), invoice.map(billed)].into_iter().flatten() {
        out += &(screen.sentences(&line) + "\n");
    }
    let mut parts: Vec<(Part, i64)> = Part::ALL.iter().map(|part| (*part, lost.of(*part))).collect();
    parts.retain(|(_, lost)| *lost >= SHOWN_MILLIS);
    parts.sort_by_key(|(_, lost)| -lost);
    let share = |part: i64| format!("{} %", decimal(u64::try_from(part * 1000 / lost_millis.max(1)).unwrap_or(0), 1));
    let cause = |(part, lost): &(Part, i64)| vec![part.in_words(), format!("{:.1}", hours(*lost)), share(*lost)];
    let causes: Vec<Vec<String>> = parts.iter().map(cause).collect();
    let mut add = |columns: &[_], rows: &[Vec<String>], spare: &[&str]| {
        if !rows.is_empty() {
            out += "\n";
            out += &table(screen, columns, rows, spare);
        }
    };
    add(&[Left("CAUSE"), Right("LOST H"), Right("SHARE")], &causes, &[]);
    let bill: Vec<Vec<String>> = invoice.map(bill_rows).unwrap_or_default();
    add(&[Left("BILL"), Right("USD")], &bill, &[]);
    let percent = |running: u64, lost: i64| {
        availability(running, lost).map_or_else(|| "-".into(), |up| format!("{:.2} %", up * 100.0))
    };
    let place = |it: &PlaceUptime| {
        let (hours, up) = (hours_of(it.running_seconds), percent(it.running_seconds, it.lost_millis));
        let counts = [it.reclaims.to_string(), it.refusals.to_string()];
        [vec![visible(&it.place.cluster), visible(&it.place.product), format!("{hours:.1}"), up], counts.into()]
            .concat()
    };
    let places: Vec<Vec<String>> = uptime.places.iter().map(place).collect();
    let columns = [Left("CLUSTER"), Left("PRODUCT"), Right("HOURS"), Right("UP"), Right("RECLAIMS"), Right("REFUSALS")];
    add(&columns, &places, &["REFUSALS", "HOURS"]);
    let day = |it: &DayUptime| {
        let usd = |amount: Option<Usd>| amount.map_or_else(|| "-".into(), Usd::to_the_cent);
        let mut row = vec![it.day.clone(), percent(it.running_seconds, it.lost_millis), it.reclaims.to_string()];
        row.push(usd(it.usage.saved()));
        row.extend(invoice.map(|invoice| usd(invoice.days.get(&it.day).map(DayBill::saved))));
        row
    };
    let days: Vec<Vec<String>> = uptime.days.iter().map(day).collect();
    let columns = [Left("DAY"), Right("UP"), Right("RECLAIMS"), Right("SAVED USD"), Right("BY THE BILL")];
    add(&columns[..4 + usize::from(invoice.is_some())], &days, &[]);
    out
}

fn savings(usage: &MeteredUsage) -> Option<String> {
    let saved = usage.saved()?;
    let percent =
        saved.share_of(usage.on_demand_cost).map_or_else(String::new, |it| format!(" ({} %)", decimal(it, 2)));
    let hours = hours_of(usage.priced_seconds);
    let (saved, whole) = (saved.to_the_cent(), usage.on_demand_cost.to_the_cent());
    Some(format!("saved about {saved} of {whole} USD{percent}, by the last known prices of {hours:.1} instance-hours"))
}

/// What the bill proves.
pub(in crate::report) fn billed(invoice: &Invoice) -> String {
    let (billed, hours) = (invoice.compared.to_the_cent(), hours_of(invoice.compared_seconds));
    let mut line = match invoice.saved() {
        Some(saved) => {
            let whole = invoice.on_demand_cost;
            let percent = saved.share_of(whole).map_or_else(String::new, |it| format!(" ({} %)", decimal(it, 2)));
            let (saved, whole) = (saved.to_the_cent(), whole.to_the_cent());
            format!(
                "saved {saved} of {whole} USD{percent} by the bill, which has {billed} USD for {hours:.1} instance-hours"
            )
        }
        None if !invoice.knows_instances => {
            "the bill cannot be compared: no pass has counted instances one by one in this time".into()
        }
        None => "the bill has nothing yet for the time that passes saw".into(),
    };
    if invoice.unbilled_seconds > 0 {
        let _ = write!(line, "; {:.1} are not billed yet", hours_of(invoice.unbilled_seconds));
    }
    let not_seen = invoice.differences.not_seen;
    if not_seen.micros() >= 5_000 {
        let _ = write!(line, "; {} USD more are billed for time that no pass saw", not_seen.to_the_cent());
    }
    line
}

/// From the estimate to the bill, reason by reason.
pub(in crate::report) fn bill_rows(invoice: &Invoice) -> Vec<Vec<String>> {
    let Invoice { billed, estimate, differences, others, .. } = invoice;
    let Differences { not_billed, not_seen, price, no_price } = *differences;
    let mut rows = vec![
        ("estimated cost, from prices", *estimate),
        ("running time not billed yet", not_billed),
        ("billed, not seen running", not_seen),
        ("other price than last known", price),
        ("price not known", no_price),
        ("billed", *billed),
        ("billed for other instances, not counted here", *others),
    ];
    let cent = |amount: Usd| amount.micros().abs() >= 5_000;
    rows.retain(|(name, amount)| cent(*amount) || matches!(*name, "estimated cost, from prices" | "billed"));
    rows.into_iter().map(|(name, amount)| vec![name.to_owned(), amount.to_the_cent()]).collect()
}

/// `2026-01-15 10:45`.
pub(in crate::report) fn minute(time: &str) -> String {
    time.chars().take("2026-01-15T10:45".len()).collect::<String>().replace('T', " ")
}
