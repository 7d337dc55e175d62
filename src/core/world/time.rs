//! Timestamps of the provider and of records, and durations in words.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::times::TOLERATED_SKEW;

/// A time in UTC, in milliseconds since the Unix epoch. Displayed as RFC 3339 with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 9999-12-30, the maximum in RFC 3339.
    const LAST_MILLIS: i64 = 253_402_207_200_000;
    /// The maximum.
    pub const LATEST: Self = Self(Self::LAST_MILLIS);
    /// Year 0, the minimum in RFC 3339.
    const FIRST_MILLIS: i64 = -62_167_219_200_000;

    /// From milliseconds since the Unix epoch; clamped to the range of RFC 3339.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::FIRST_MILLIS, Self::LAST_MILLIS))
    }

    /// From seconds since the Unix epoch, the provider's unit (`novita-api.md` section 2.1).
    #[must_use]
    pub fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Whether it is further ahead of `now` than clocks differ, so that nothing is known of it but that a clock is wrong.
    #[must_use]
    pub fn is_ahead_of(self, now: Self) -> bool {
        self.since(now) > TOLERATED_SKEW
    }

    /// The time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A time of the provider in whole seconds. Three of them in every instance take a quarter of the memory of an
/// `Option<Timestamp>` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(NonZeroU32);

impl From<Seconds> for Timestamp {
    fn from(Seconds(secs): Seconds) -> Self {
        Self::from_secs(i64::from(secs.get()))
    }
}

impl Seconds {
    /// From seconds since the Unix epoch; `None` before 1970 and after 2106, by which the provider means "never".
    #[must_use]
    pub fn new(secs: i64) -> Option<Self> {
        u32::try_from(secs).ok().and_then(NonZeroU32::new).map(Self)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis(rhs)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(millis(rhs)))
    }
}

/// A duration in whole milliseconds, the unit in JSON.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        f.pad(&format!("{moment:.3}"))
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from_millis(text.trim().parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AnyTime(read) = AnyTime::deserialize(deserializer)?;
        Ok(LATEST.with(|latest| match latest.get() {
            Latest::At(now) | Latest::Cut(now) if read > now => {
                latest.set(Latest::Cut(now));
                now
            }
            _ => read,
        }))
    }
}

/// The latest time that is read at present, and whether one was cut to it.
#[derive(Clone, Copy)]
enum Latest {
    Any,
    At(Timestamp),
    Cut(Timestamp),
}

thread_local! {
    static LATEST: Cell<Latest> = const { Cell::new(Latest::Any) };
}

/// Deserializes what was stored in the past: a [`Timestamp`] in it that is ahead of `now` was written by a clock that was
/// wrong. How long ago is unknown, so it reads as `now`; deadlines, and times of another clock, are kept by
/// [`any_time`]. Answers also whether any was ahead.
pub fn as_of<T>(now: Timestamp, deserialize: impl FnOnce() -> T) -> (T, bool) {
    let before = LATEST.replace(Latest::At(now));
    let read = deserialize();
    (read, matches!(LATEST.replace(before), Latest::Cut(_)))
}

struct AnyTime(Timestamp);

impl<'de> Deserialize<'de> for AnyTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// For serde's `deserialize_with`: a time that may be ahead of the clock.
///
/// # Errors
/// When it is not a time.
pub fn any_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    AnyTime::deserialize(deserializer).map(|AnyTime(read)| read)
}

/// The same where there may be none.
///
/// # Errors
/// When it is not a time.
pub fn any_time_if_any<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(|AnyTime(read)| read))
}

/// A duration in its two largest units, for example `1 h 30 min`.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let secs = duration.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_any_offset_and_write_utc_milliseconds() {
        for (text, written) in [
            ("2024-01-15T10:45:00Z", "2024-01-15T10:45:00.000Z"),
            ("2024-01-15T10:45:00.1239+02:00", "2024-01-15T08:45:00.123Z"),
            (" 1969-12-31T23:59:59.999Z\n", "1969-12-31T23:59:59.999Z"),
        ] {
            let moment: Timestamp = text.parse().expect(text);
            assert_eq!(moment.to_string(), written);
            assert_eq!(written.parse::<Timestamp>().expect(written), moment);
        }
        for bad in ["", "yesterday", "2024-01-15", "2024-01-15T10:45:00", "1700000000"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad:?} is not a timestamp");
        }
    }

    #[test]
    fn timestamps_survive_the_ends_of_time() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last + Duration::from_secs(1), last);
        assert_eq!(last.to_string().parse::<Timestamp>().ok(), Some(last));
        let first = Timestamp::from_secs(i64::MIN);
        assert_eq!(first.to_string().parse::<Timestamp>().ok(), Some(first));
        assert_eq!(first.since(last), Duration::ZERO);
    }
}
