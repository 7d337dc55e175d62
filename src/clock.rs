//! The one source of time for decisions and records.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::world::time::Timestamp;

/// The clock of decisions and records. It starts at the machine's time and follows the monotonic clock, so that setting the
/// system clock during a pass cannot reorder its records, and tests can run on virtual time.
///
/// The first answer of the provider corrects it: what the provider dates and what passes on other machines recorded is
/// then compared by one clock. Clones share the correction.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: Instant,
    /// How far the machine's clock is ahead of the provider's, in milliseconds, once they were compared.
    ahead: Arc<OnceLock<i64>>,
}

/// What another clock showed at some moment between two others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// To the second, rounded down.
    pub shown: Timestamp,
    pub after: Instant,
    pub before: Instant,
}

/// A smaller difference may be the network's.
const NEGLIGIBLE: Duration = Duration::from_secs(5);

impl Clock {
    /// A clock that shows the system's time until it is compared.
    #[must_use]
    pub fn system() -> Self {
        Self::of_machine(system_now())
    }

    /// The same on a machine whose clock shows `origin` now.
    #[must_use]
    pub fn of_machine(origin: Timestamp) -> Self {
        Self { origin, started: Instant::now(), ahead: Arc::default() }
    }

    /// A clock that shows `origin` now, and that no other clock corrects.
    #[must_use]
    pub fn starting_at(origin: Timestamp) -> Self {
        Self { ahead: Arc::new(OnceLock::from(0)), ..Self::of_machine(origin) }
    }

    /// The time this clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The time this clock shows at `moment`, by what is known now.
    #[must_use]
    pub fn at(&self, moment: Instant) -> Timestamp {
        let ahead = self.ahead.get().copied().unwrap_or(0);
        Timestamp::from_millis(self.machine_at(moment).as_millis().saturating_sub(ahead))
    }

    /// The time that the machine's clock shows.
    #[must_use]
    pub fn machine_now(&self) -> Timestamp {
        self.machine_at(Instant::now())
    }

    fn machine_at(&self, moment: Instant) -> Timestamp {
        match moment.checked_duration_since(self.started) {
            Some(elapsed) => self.origin + elapsed,
            None => self.origin - self.started.duration_since(moment),
        }
    }

    /// Whether it was compared, so that what is too old by it is too old.
    #[must_use]
    pub fn is_compared(&self) -> bool {
        self.ahead.get().is_some()
    }

    /// The time this clock shows, once it was compared.
    #[must_use]
    pub fn compared_now(&self) -> Option<Timestamp> {
        self.is_compared().then(|| self.now())
    }

    /// Corrects this clock by the provider's, the first time. Answers by how many milliseconds the machine's clock is ahead,
    /// if that is more than the network explains. No reading leaves the clock as it is.
    pub fn compare(&self, reading: Option<Reading>) -> Option<i64> {
        if self.is_compared() {
            return None;
        }
        let ahead = reading.map_or(0, |reading| self.ahead_of(reading));
        self.ahead.set(ahead).ok().filter(|()| ahead != 0).map(|()| ahead)
    }

    fn ahead_of(&self, Reading { shown, after, before }: Reading) -> i64 {
        let (earliest, latest) = (self.machine_at(after), self.machine_at(before));
        let ahead = earliest.since(shown + Duration::from_secs(1));
        let behind = shown.since(latest);
        if ahead.max(behind) <= NEGLIGIBLE {
            return 0;
        }
        // The answer is fresher than the request.
        latest.as_millis().saturating_sub(shown.as_millis())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one site that reads the system clock")]
fn system_now() -> Timestamp {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(crate::core::world::time::millis(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_of_the_provider_corrects_the_clock() {
        let at = Timestamp::from_secs;
        let (noon, year) = (1_700_000_000, 365 * 86_400);
        // What the machine shows, how long the answer took, what the provider showed, what is shown then.
        for (machine, took, provider, shown) in [
            (noon, 1, noon, noon + 1),
            (noon, 0, noon + 5, noon),
            (noon, 0, noon + 6, noon + 6),
            (noon + 6, 0, noon, noon + 6),
            (noon + 7, 0, noon, noon),
            (noon, 20, noon, noon + 20),
            (noon + year, 3, noon, noon),
            (noon - year, 3, noon, noon),
        ] {
            let clock = Clock::of_machine(at(machine));
            let (after, kept) = (Instant::now(), clock.clone());
            tokio::time::advance(Duration::from_secs(took)).await;
            let reading = |provider| Some(Reading { shown: at(provider), after, before: Instant::now() });
            let corrected = clock.compare(reading(provider));
            assert_eq!(clock.now(), at(shown), "{machine} {took} {provider}");
            assert_eq!(corrected.is_some(), clock.now() != clock.machine_now());
            assert_eq!(clock.compare(reading(noon - 3 * year)), None, "once");
            assert_eq!((kept.now(), kept.is_compared()), (at(shown), true), "clones agree");
        }
        let fixed = Clock::starting_at(at(noon));
        let now = Instant::now();
        assert_eq!(fixed.compare(Some(Reading { shown: at(0), after: now, before: now })), None);
        assert_eq!(fixed.now(), at(noon));
    }
}
