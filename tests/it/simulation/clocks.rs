//! The clocks of the machines that passes run on. The provider's is right.

use std::cell::{Cell, RefCell};

use novita_sim::World;
use respot::clock::Clock;
use respot::core::world::time::Timestamp;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;

/// How far machines' clocks may be ahead, in milliseconds.
const SKEWS: [i64; 8] = [0, 2 * SECOND, -40 * SECOND, -HOUR / 2, 2 * HOUR, -30 * HOUR, YEAR, -YEAR];

/// The machines that calls come from.
pub(super) struct Machines {
    /// How far the clock of each is ahead.
    skews: [Cell<i64>; 2],
    chance: RefCell<fastrand::Rng>,
    is_wrong: bool,
    /// A broken build: the machine's clock is believed.
    believed: bool,
    /// Calls by a clock that was more than a minute off.
    pub(super) off: Cell<u64>,
}

impl Machines {
    pub(super) fn draw(seed: u64, believed: bool) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed ^ 0xc10c);
        let is_wrong = chance.bool() || believed;
        Self { skews: Default::default(), chance: RefCell::new(chance), is_wrong, believed, off: Cell::new(0) }
    }

    /// The clock of the next call. Now and then one is set, or set right.
    pub(super) fn clock(&self, world: &World) -> Clock {
        let mut chance = self.chance.borrow_mut();
        let skew = &self.skews[chance.usize(0..2)];
        if self.is_wrong && chance.u8(0..4) == 0 {
            skew.set(SKEWS[chance.usize(0..SKEWS.len())]);
        }
        self.off.set(self.off.get() + u64::from(skew.get().abs() > 60 * SECOND));
        let shown = Timestamp::from_millis(world.now_ms().saturating_add(skew.get()));
        if self.believed { Clock::starting_at(shown) } else { Clock::of_machine(shown) }
    }
}
