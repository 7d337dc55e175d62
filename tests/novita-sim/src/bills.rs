//! What was billed, by instance and hour: it follows from what ran when, and at what price.

use serde_json::{Value, json};

use crate::api::{Answer, Call};
use crate::machine::Machine;
use crate::wire::Refusal;
use crate::world::World;

const HOUR_MS: i64 = 3_600_000;

/// The longest span of one call, in seconds.
const LONGEST_S: i64 = 7 * 24 * 3600;

impl World {
    /// What an instance has really cost between two times, in 1/1000000 USD, whether it is on the bill yet or not.
    #[must_use]
    pub fn cost_micros(&self, id: &str, from_ms: i64, to_ms: i64) -> i64 {
        self.ever().find(|machine| machine.id == id).map_or(0, |machine| self.cost(machine, from_ms, to_ms))
    }

    fn cost(&self, machine: &Machine, from_ms: i64, to_ms: i64) -> i64 {
        let runs = self.runs_of(&machine.id).into_iter();
        let ran = runs.map(|run| (run.to_ms.unwrap_or(self.now).min(to_ms) - run.from_ms.max(from_ms)).max(0));
        let per_hour = i64::from(machine.price) * 10 * i64::from(machine.gpu_num);
        per_hour * ran.sum::<i64>() / HOUR_MS
    }

    /// The bill that a call asks for.
    pub(crate) fn bills(&self, call: &Call) -> Result<Answer, Refusal> {
        let word = |name: &str| call.query(name).unwrap_or_default();
        if word("cycleType") != "Hour" || word("productCategory") != "gpu" {
            return Err(Refusal::invalid("only cycleType=Hour and productCategory=gpu are known here"));
        }
        let second = |name: &str| word(name).parse::<i64>().ok().filter(|at| *at > 0);
        let (Some(start), Some(end)) = (second("startTime"), second("endTime")) else {
            return Err(Refusal::invalid("startTime and endTime are required"));
        };
        if end < start || end - start > LONGEST_S {
            return Err(Refusal::invalid("the span is too long"));
        }
        let is_wanted = |machine: &&Machine| word("ownerId").is_empty() || machine.id == word("ownerId");
        // An hour at the border is in both of two calls that meet there.
        let hours = (start * 1000).div_euclid(HOUR_MS)..=(end * 1000).div_euclid(HOUR_MS);
        let last = (self.now - self.rules.bill_after_ms).div_euclid(HOUR_MS);
        let rows: Vec<Value> = hours
            .filter(|hour| *hour < last)
            .flat_map(|hour| self.ever().filter(is_wanted).filter_map(move |machine| self.bill(machine, hour)))
            .collect();
        // Without rows, the field is left out.
        let body = if rows.is_empty() { json!({}) } else { json!({ "bills": rows }) };
        Ok(Answer::json(body.to_string()))
    }

    fn bill(&self, machine: &Machine, hour: i64) -> Option<Value> {
        let (from_ms, to_ms) = (hour * HOUR_MS, (hour + 1) * HOUR_MS);
        let micros = self.cost(machine, from_ms, to_ms);
        if micros == 0 || machine.billing_mode == "monthly" {
            return None;
        }
        let amount = (micros / 100).to_string();
        let mut row = json!({
            "userId": "u1", "startTime": (from_ms / 1000).to_string(), "endTime": (to_ms / 1000 - 1).to_string(),
            "billingMethod": 1, "productName": machine.product_name, "category": "gpu", "ownerID": machine.id,
            "billNum0": "3600", "billNum1": "0", "basePrice0": machine.price.to_string(), "basePrice1": "0",
            "discountPrice0": machine.price.to_string(), "discountPrice1": "0",
            // Paid by a voucher: what was paid in cash says nothing about what it cost.
            "amount": amount, "voucherAmount": amount, "payAmount": "0", "payAmountDisplay": 0,
            "pricePrecision": 10, "productId": machine.product_id,
        });
        if self.rules.wire.bill_decimals {
            row["amountDecimal"] = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000).into();
        }
        Some(row)
    }
}
