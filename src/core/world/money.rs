//! Money in whole millionths of a USD, so that no rounding happens between a price and a sum.

use std::fmt;
use std::iter::Sum;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Hours in a month, as bills count them.
pub const HOURS_PER_MONTH: u32 = 730;

/// Hours in a year.
pub const HOURS_PER_YEAR: u32 = 8760;

const MICROS_PER_USD: u64 = 1_000_000;

/// An amount of money, or a price per hour, in micro-USD. Arithmetic saturates.
///
/// Stored records hold 1/100000 USD: a whole number, or a number with a decimal if the amount is finer than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(i64);

impl Usd {
    /// From 1/1000000 USD.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From a decimal number, for example `0.4012000`; `None` unless it is more than 0. Digits after the sixth decimal
    /// do not count.
    #[must_use]
    pub fn of_decimals(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(decimals) {
            return None;
        }
        let micros: i64 = format!("{decimals:0<6}").get(..6)?.parse().ok()?;
        let amount = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?;
        (amount > 0).then_some(Self(amount))
    }

    /// From 1/100000 USD.
    #[must_use]
    pub fn from_hundred_thousandths(amount: u64) -> Self {
        Self(i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(10))
    }

    /// In 1/1000000 USD.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The price of `count` units, or of `count` hours.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count.into()))
    }

    /// What an hourly price adds up to in this time.
    #[must_use]
    pub fn during(self, time: Duration) -> Self {
        let micros = i128::from(self.0) * i128::try_from(time.as_millis()).unwrap_or(i128::MAX) / 3_600_000;
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// This amount less another.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The part `count` of `whole`, rounded toward zero; nothing of nothing.
    #[must_use]
    pub fn part(self, count: u64, whole: u64) -> Self {
        let micros = (i128::from(self.0) * i128::from(count)).checked_div(whole.into()).unwrap_or_default();
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// What an hourly price adds up to in a month.
    #[must_use]
    pub fn monthly(self) -> Self {
        self.times(HOURS_PER_MONTH)
    }

    /// What an hourly price adds up to in a year.
    #[must_use]
    pub fn annual(self) -> Self {
        self.times(HOURS_PER_YEAR)
    }

    /// This amount in hundredths of a percent of `whole`, rounded half up; `None` if `whole` is not positive.
    #[must_use]
    pub fn share_of(self, whole: Self) -> Option<u64> {
        let (part, whole) = (i128::from(self.0), i128::from(whole.0));
        (whole > 0).then(|| u64::try_from((part * 10_000 + whole / 2) / whole).ok())?
    }

    /// Rounded to the cent, half a cent away from zero.
    #[must_use]
    pub fn to_the_cent(self) -> String {
        let cent = MICROS_PER_USD / 100;
        format!("{}{}", self.sign(), decimal((self.0.unsigned_abs() + cent / 2) / cent, 2))
    }

    /// In USD, for JSON documents; nothing is decided on it.
    #[expect(clippy::cast_precision_loss, reason = "for display; decisions are made on the integers")]
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / MICROS_PER_USD as f64
    }

    fn sign(self) -> &'static str {
        if self.0 < 0 { "-" } else { "" }
    }
}

/// All significant digits, and at least two decimals.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = decimal(self.0.unsigned_abs(), 6);
        let (at_least, rest) = digits.split_at(digits.len() - 4);
        write!(f, "{}{at_least}{}", self.sign(), rest.trim_end_matches('0'))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |sum, amount| Self(sum.0.saturating_add(amount.0)))
    }
}

impl Serialize for Usd {
    #[expect(clippy::cast_precision_loss, reason = "exact below 9 billion USD")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 10 {
            0 => serializer.serialize_i64(self.0 / 10),
            _ => serializer.serialize_f64(self.0 as f64 / 10.0),
        }
    }
}

impl<'de> Deserialize<'de> for Usd {
    #[expect(clippy::cast_possible_truncation, reason = "exact below 9 billion USD; a cast saturates beyond i64")]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self((f64::deserialize(deserializer)? * 10.0).round() as i64))
    }
}

/// A number whose last `places` digits are decimals.
#[must_use]
pub fn decimal(number: u64, places: u32) -> String {
    let one = 10_u64.pow(places);
    let width = usize::try_from(places).unwrap_or(0);
    format!("{}.{:0width$}", number / one, number % one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, micros) in [
            ("0.4012000", Some(401_200)),
            ("12", Some(12_000_000)),
            ("0.0000001", None),
            ("0", None),
            ("", None),
            ("-1", None),
            ("+1.5", None),
            ("1.-5", None),
            ("99999999999999999999", None),
            ("abc", None),
        ] {
            assert_eq!(Usd::of_decimals(text).map(Usd::micros), micros, "{text}");
        }
    }

    #[test]
    fn amounts_are_written_with_their_significant_digits() {
        for (amount, exact, cents) in [
            (0, "0.00", "0.00"),
            (1, "0.000001", "0.00"),
            (10, "0.00001", "0.00"),
            (4_990, "0.00499", "0.00"),
            (4_999, "0.004999", "0.00"),
            (5_000, "0.005", "0.01"),
            (335_000, "0.335", "0.34"),
            (670_000, "0.67", "0.67"),
            (1_000_000, "1.00", "1.00"),
            (10_000_000, "10.00", "10.00"),
            (-335_000, "-0.335", "-0.34"),
            (244_550_000, "244.55", "244.55"),
            (2_934_599_990, "2934.59999", "2934.60"),
            (i64::MAX, "9223372036854.775807", "9223372036854.78"),
        ] {
            let amount = Usd::from_micros(amount);
            assert_eq!((amount.to_string().as_str(), amount.to_the_cent().as_str()), (exact, cents), "{amount:?}");
        }
        assert_eq!(Usd::from_micros(i64::MAX).annual(), Usd::from_micros(i64::MAX), "no overflow");
        assert_eq!(Usd::from_hundred_thousandths(u64::MAX), Usd::from_micros(i64::MAX), "no overflow");
    }

    #[test]
    fn shares_are_rounded_half_up() {
        for (part, whole, expected) in [
            (0, 5, Some(0)),
            (1, 3, Some(3333)),
            (2, 3, Some(6667)),
            (1, 20_000, Some(1)),
            (1, 20_001, Some(0)),
            (i64::MAX, i64::MAX, Some(10_000)),
            (1, 0, None),
        ] {
            assert_eq!(Usd(part).share_of(Usd(whole)), expected, "{part} of {whole}");
        }
    }

    #[test]
    fn records_hold_hundred_thousandths() {
        for (amount, stored) in [(335_000, "33500"), (0, "0"), (335_001, "33500.1"), (1, "0.1"), (-10, "-1")] {
            let amount = Usd::from_micros(amount);
            assert_eq!(serde_json::to_string(&amount).expect("JSON"), stored);
            assert_eq!(serde_json::from_str::<Usd>(stored).expect("an amount"), amount, "{stored}");
        }
        assert!(serde_json::from_str::<Usd>("\"33500\"").is_err());
    }
}
