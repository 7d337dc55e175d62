//! What a span of time brought.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::Column::{Left, Right};
use super::table::table;
use super::{Screen, counted};
use crate::core::pass::spell::Part;
use crate::core::record::downtime::{hours, hours_of};
use crate::core::record::uptime::{Bill, DayUptime, PlaceUptime, Uptime, availability};
use crate::core::world::money::{Usd, decimal};
use crate::core::world::time::in_words;
use crate::report::text::visible;

/// Less lost time than 0.05 hours is not listed.
const SHOWN_MILLIS: i64 = 3 * 60 * 1000;

/// How much of the time the fleet was up, why it was not, where, on which days.
#[must_use]
pub fn uptime(screen: Screen, uptime: &Uptime, of: Option<&str>) -> String {
    let Uptime { from, to, instances, running_seconds, unseen_seconds, lost, reclaims, recoveries, .. } = uptime;
    let span = format!("{} to {}", minute(&from.to_string()), minute(&to.to_string()));
    let lost_millis = lost.total();
    let Some(up) = availability(*running_seconds, lost_millis) else {
        return screen.sentences(&format!("{span}: no pass with this store has seen an instance that is to run"))
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
    if let Some(savings) = savings(&uptime.bill) {
        out += &(screen.sentences(&savings) + "\n");
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
        let saved = it.bill.saved().map_or_else(|| "-".into(), Usd::to_the_cent);
        vec![it.day.clone(), percent(it.running_seconds, it.lost_millis), it.reclaims.to_string(), saved]
    };
    let days: Vec<Vec<String>> = uptime.days.iter().map(day).collect();
    add(&[Left("DAY"), Right("UP"), Right("RECLAIMS"), Right("SAVED USD")], &days, &[]);
    out
}

fn savings(bill: &Bill) -> Option<String> {
    let saved = bill.saved()?;
    let percent = saved.share_of(bill.on_demand_cost).map_or_else(String::new, |it| format!(" ({} %)", decimal(it, 2)));
    let hours = hours_of(bill.priced_seconds);
    let (saved, whole) = (saved.to_the_cent(), bill.on_demand_cost.to_the_cent());
    Some(format!("saved about {saved} of {whole} USD{percent}, by the last known prices of {hours:.1} instance-hours"))
}

/// `2026-01-15 10:45`.
pub(in crate::report) fn minute(time: &str) -> String {
    time.chars().take("2026-01-15T10:45".len()).collect::<String>().replace('T', " ")
}
