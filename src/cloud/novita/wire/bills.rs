//! The rows of a bill. Nothing of them is guessed: one whose amount or times cannot be read makes the bill unreadable.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Text, decode};
use crate::core::record::invoice::BillRow;
use crate::core::world::instance::InstanceId;
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;

/// More USD than any row has.
const MOST: f64 = 1e9;

/// Reads the rows of a bill. One about no instance has an empty id.
pub(in crate::cloud::novita) fn bills(body: &[u8]) -> Result<Vec<BillRow>, String> {
    let Value::Object(fields) = decode(body)? else { return Err("JSON of an unknown shape".into()) };
    // Wrapped, as other responses may be.
    let fields = match fields.get("data") {
        Some(Value::Object(wrapped)) => wrapped,
        _ => &fields,
    };
    match fields.get("bills") {
        Some(Value::Null) => Ok(Vec::new()),
        // An empty list may be left out, and then nothing is left.
        None if fields.is_empty() => Ok(Vec::new()),
        None => Err("JSON without bills".into()),
        Some(Value::Array(rows)) => rows.iter().map(row).collect(),
        Some(_) => Err("bills are not a list".into()),
    }
}

fn row(row: &Value) -> Result<BillRow, String> {
    let row = row.as_object().ok_or("a bill is not an object")?;
    let text = |name: &str| row.get(name).map(Text::of).unwrap_or_default();
    let moment = |name: &str| text(name).moment().ok_or_else(|| format!("a bill without a readable {name}"));
    let (from, to) = (moment("startTime")?, moment("endTime")?);
    if to < from {
        return Err("a bill that ends before it starts".into());
    }
    Ok(BillRow {
        instance: InstanceId::new(text("ownerID").as_str()),
        from,
        to: end(from, to),
        amount: amount(row).ok_or("a bill without a readable amount")?,
    })
}

/// `endTime` is the last second of the stretch; one that is its end is taken as it is.
fn end(from: Timestamp, to: Timestamp) -> Timestamp {
    let is_last_second = (to.as_secs() - from.as_secs()).rem_euclid(60) == 59;
    if is_last_second { to + Duration::from_secs(1) } else { to }
}

/// In USD where the row says so; else in 1/10000 USD, of which the rest was cut off.
fn amount(row: &Map<String, Value>) -> Option<Usd> {
    let number = |name: &str| row.get(name).and_then(|it| Text::of(it).as_str().trim().parse::<f64>().ok());
    let amount = number("amountDecimal").or_else(|| Some(number("amount")? / 10_000.0))?;
    // What vouchers pay is a part of the amount; should it not be, that is what there is.
    let parts = || [number("voucherAmount"), number("payAmount")].into_iter().flatten().sum::<f64>() / 10_000.0;
    let usd = if amount == 0.0 { parts() } else { amount };
    // NaN is not in any range.
    if !(-MOST..=MOST).contains(&usd) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within the range above")]
    let micros = (usd * 1e6).round() as i64;
    Some(Usd::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_strict_and_loose_and_never_guessed() {
        let row = |fields: &str| format!(r#"{{"bills":[{{"ownerID":"a","startTime":"1768435200",{fields}}}]}}"#);
        for (body, seconds, micros) in [
            (row(r#""endTime":"1768438799","amount":"3350","payAmount":"0","voucherAmount":"3350""#), 3600, 335_000),
            (row(r#""endTime":1768438800,"amount":3350.0"#), 3600, 335_000),
            // The whole number is what is left of the amount when its decimals are cut off.
            (row(r#""endTime":"1768438799","amount":"0","amountDecimal":"0.000042""#), 3600, 42),
            (row(r#""endTime":"1768438799","amount":"-3350","amountDecimal":null"#), 3600, -335_000),
            (row(r#""endTime":"1768438799","amount":"0","voucherAmount":"3000","payAmount":"350""#), 3600, 335_000),
        ] {
            let read = bills(body.as_bytes()).expect(&body);
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].to.as_secs() - read[0].from.as_secs(), seconds, "{body}");
            assert_eq!(read[0].amount.micros(), micros, "{body}");
        }
        for body in ["{}", r#"{"bills":null}"#, r#"{"data":{"bills":[]}}"#] {
            assert_eq!(bills(body.as_bytes()), Ok(Vec::new()), "{body}");
        }
        for (body, what) in [
            (r#"[]"#.to_owned(), "shape"),
            (r#"{"message":"no"}"#.to_owned(), "without bills"),
            (r#"{"bills":{}}"#.to_owned(), "list"),
            (r#"{"bills":[7]}"#.to_owned(), "object"),
            (row(r#""endTime":"1768438799""#), "amount"),
            (row(r#""endTime":"1768438799","amount":"NaN""#), "amount"),
            (row(r#""endTime":"0","amount":"1""#), "endTime"),
            (row(r#""endTime":"1768435199","amount":"1""#), "before"),
        ] {
            assert!(bills(body.as_bytes()).expect_err(&body).contains(what), "{body}");
        }
    }
}
