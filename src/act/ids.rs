//! Ids that sort by time.

use crate::core::world::time::Timestamp;

/// An id: the prefix, the time, then chance.
#[must_use]
pub fn new_id(prefix: &str, now: Timestamp) -> String {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    format!("{prefix}{}", ulid::Ulid::from_parts(millis, fastrand::u128(..)))
}
