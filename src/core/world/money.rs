//! Money in the provider's unit, 1/100000 USD (`novita-api.md` section 5): whole numbers, so that nothing is lost on the
//! way from a price to a sum.

/// Hours of a month as bills count them.
pub const HOURS_PER_MONTH: u64 = 730;

/// Hours of a year.
pub const HOURS_PER_YEAR: u64 = 8760;

const UNITS: u64 = 100_000;

/// An amount, written with what matters: at least two decimals, no zeros behind those.
#[must_use]
pub fn usd(amount: u64) -> String {
    let text = decimal(amount, 5);
    let trimmed = text.trim_end_matches('0');
    let decimals = trimmed.len() - trimmed.find('.').unwrap_or(0) - 1;
    if decimals < 2 { text[..text.len() - 3].to_owned() } else { trimmed.to_owned() }
}

/// An amount to the cent, half of one rounded up.
#[must_use]
pub fn to_the_cent(amount: u64) -> String {
    decimal(amount.saturating_add(UNITS / 200) / (UNITS / 100), 2)
}

/// `part` in hundredths of a percent of `whole`, rounded half up; `None` of nothing.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<u64> {
    let (part, whole) = (u128::from(part), u128::from(whole));
    (part * 10_000 + whole / 2).checked_div(whole).and_then(|share| u64::try_from(share).ok())
}

/// A number of which the last `places` digits stand behind the point.
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
    fn amounts_are_written_with_what_matters() {
        for (amount, exact, cents) in [
            (0, "0.00", "0.00"),
            (1, "0.00001", "0.00"),
            (499, "0.00499", "0.00"),
            (500, "0.005", "0.01"),
            (33_500, "0.335", "0.34"),
            (67_000, "0.67", "0.67"),
            (100_000, "1.00", "1.00"),
            (24_455_000, "244.55", "244.55"),
            (293_459_999, "2934.59999", "2934.60"),
        ] {
            assert_eq!((usd(amount).as_str(), to_the_cent(amount).as_str()), (exact, cents), "{amount}");
        }
        assert_eq!(to_the_cent(u64::MAX), "184467440737095.51", "no overflow");
    }

    #[test]
    fn shares_are_rounded_half_up() {
        for (part, whole, expected) in [
            (0, 5, Some(0)),
            (1, 3, Some(3333)),
            (2, 3, Some(6667)),
            (1, 20_000, Some(1)),
            (1, 20_001, Some(0)),
            (u64::MAX, u64::MAX, Some(10_000)),
            (1, 0, None),
        ] {
            assert_eq!(share(part, whole), expected, "{part} of {whole}");
        }
    }
}
