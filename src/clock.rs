//! The one source of time for decisions and records.

use tokio::time::Instant;

use crate::core::world::time::Timestamp;

/// The clock of decisions and records. It starts at a given time and follows the monotonic clock, so that setting the
/// system clock back during a pass cannot reorder its records, and tests can run on virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that shows the system's time.
    #[must_use]
    pub fn system() -> Self {
        Self::starting_at(system_now())
    }

    /// A clock that shows `origin` now.
    #[must_use]
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { origin, started: Instant::now() }
    }

    /// The time this clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.origin + self.started.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one site that reads the system clock")]
fn system_now() -> Timestamp {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(crate::core::world::time::millis(elapsed))
}
