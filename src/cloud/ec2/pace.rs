//! How fast instances are launched. EC2 counts calls for the whole account: five at once, then two a second
//! (`docs/ec2-api.md` section 1.8).

use std::time::Duration;

use tokio::time::Instant;

/// The calls that may be made at once.
const BURST: u32 = 5;

/// The time after which one more may be made.
const REFILL: Duration = Duration::from_millis(500);

/// When the next launches may be sent.
#[derive(Debug, Default)]
pub(super) struct LaunchPace {
    /// When all calls of a burst are there again.
    full_at: Option<Instant>,
}

impl LaunchPace {
    /// Takes a turn: how long to wait for it.
    pub(super) fn turn(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + REFILL;
        self.full_at = Some(full_at);
        (full_at - now).saturating_sub(REFILL * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_go_at_once_and_two_a_second_follow() {
        let (mut pace, now) = (LaunchPace::default(), Instant::now());
        let waits: Vec<u128> = (0..8).map(|_| pace.turn(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 500, 1000, 1500]);
        assert_eq!(pace.turn(now + Duration::from_secs(60)), Duration::ZERO, "later the bucket is full again");
    }
}
