//! What happens to spot markets and to the people of a history: room that comes and goes, reclaims that are announced and
//! withdrawn, instances that somebody stops; and which rungs of the recovery ladder the operator switched on.

use std::time::Duration;

use novita_sim::{AfterReclaim, Hint, Notice, Room, World};
use respot::core::world::money::Usd;
use respot::core::world::policy::{BridgePolicy, Eligibility, Escalation, NoticePolicy, Policy, Prefer};

/// The spot markets where replacements of the fleet can be.
const MARKETS: [(&str, &str); 3] =
    [("4090.16c62g", "us-xx-1"), ("4090.16c62g", "eu-xx-2"), ("4090.12c50g.v2", "us-xx-1")];

const MINUTE: i64 = 60_000;

/// How far ahead the room of a market is known, with [`Notice::Ahead`].
const FORESIGHT: i64 = 120 * MINUTE;

/// The weather of one history.
#[derive(Debug)]
pub(super) struct Weather {
    /// Whether the room of spot markets comes and goes.
    has_markets: bool,
    /// Whether single reclaims are announced, and withdrawn.
    has_notices: bool,
    has_stops: bool,
    /// Markets without room stay so for this many passes.
    drought: u32,
    /// Instances that a person stopped, and when.
    pub(super) stops: Vec<(String, i64)>,
    pub(super) notices: u64,
    pub(super) withdrawals: u64,
    pub(super) waves: u64,
    pub(super) droughts: u64,
}

impl Weather {
    /// Draws the weather, and how the provider tells of it.
    pub(super) fn draw(chance: &mut fastrand::Rng, world: &mut World) -> Self {
        let has_markets = chance.u8(0..4) > 0;
        let rules = world.rules_mut();
        rules.notice = match chance.u8(0..4) {
            0 => Notice::Grace { withdrawn: [0.0, 0.1][chance.usize(0..2)], tick_ms: MINUTE },
            1 => Notice::Ahead,
            _ => Notice::None,
        };
        rules.notice_ms = [60 * MINUTE, 20 * MINUTE][chance.usize(0..2)];
        rules.hint = match chance.u8(0..6) {
            0 => Hint::Absent,
            1 => Hint::AlwaysYes,
            2 => Hint::Stale { ms: 10 * MINUTE },
            _ => Hint::True,
        };
        rules.after_reclaim =
            [AfterReclaim::Seeded, AfterReclaim::Kept, AfterReclaim::Cleared, AfterReclaim::Kept][chance.usize(0..4)];
        Self {
            has_markets,
            has_notices: chance.bool(),
            has_stops: chance.u8(0..2) == 0,
            drought: 0,
            stops: Vec::new(),
            notices: 0,
            withdrawals: 0,
            waves: 0,
            droughts: 0,
        }
    }

    /// What happens before the next pass. `free` says which instances it may happen to.
    pub(super) fn strike(&mut self, chance: &mut fastrand::Rng, world: &mut World, free: impl Fn(&str) -> bool) {
        if chance.u8(0..4) == 0 {
            self.waves += u64::from(!world.reclaim_wave(0.5).is_empty());
        }
        if self.has_markets {
            self.change_room(chance, world);
        }
        let running: Vec<(String, bool)> = world
            .machines()
            .filter(|it| it.status == "running" && free(&it.id))
            .filter(|it| it.billing_mode == "spot" || it.name.contains("-bridge-"))
            .map(|it| (it.id.clone(), it.spot_status == "notified"))
            .collect();
        for (id, is_announced) in running {
            let is_spot = world.get(&id).is_some_and(|it| it.billing_mode == "spot");
            if self.has_stops && chance.u8(0..if is_announced { 6 } else { 14 }) == 0 {
                world.user_stop(&id);
                self.stops.push((id, world.now_ms()));
            } else if self.has_notices && is_announced && chance.u8(0..3) == 0 {
                self.withdrawals += u64::from(world.withdraw_reclaim(&id));
            } else if self.has_notices && is_spot && !is_announced && chance.u8(0..4) == 0 {
                self.notices += u64::from(world.reclaim(&id));
            }
        }
    }

    fn change_room(&mut self, chance: &mut fastrand::Rng, world: &mut World) {
        if self.drought > 0 {
            self.drought -= 1;
            return;
        }
        let is_drought = chance.u8(0..6) == 0;
        if is_drought {
            self.drought = chance.u32(1..4);
            self.droughts += 1;
        }
        for (product, cluster) in MARKETS {
            let room = match chance.u8(0..6) {
                _ if is_drought => Room::NONE,
                0 | 1 => Room::NONE,
                2 => Room::For(chance.u32(1..4)),
                3 => Room::Any,
                _ => continue,
            };
            if world.rules().notice == Notice::Ahead {
                // Always as far ahead, so that the changes stay in order.
                let at = world.now_ms() + FORESIGHT;
                world.set_room_at(at, product, cluster, room);
            } else {
                world.set_room(product, cluster, room);
            }
        }
    }

    /// There is room for everybody, and nobody stops anything.
    pub(super) fn calm(&self, world: &mut World) {
        for (product, cluster) in MARKETS.into_iter().filter(|_| self.has_markets) {
            if world.rules().notice == Notice::Ahead {
                world.set_room_at(world.now_ms() + FORESIGHT + MINUTE, product, cluster, Room::Any);
            } else {
                world.set_room(product, cluster, Room::Any);
            }
        }
    }

    /// Whether there is room at once when it is calm.
    pub(super) fn clears_at_once(&self, world: &World) -> bool {
        !(self.has_markets && world.rules().notice == Notice::Ahead)
    }
}

/// The rungs of the ladder that the operator switched on, and how long a pass goes on trying.
pub(super) fn draw_policy(chance: &mut fastrand::Rng) -> (Policy, Duration) {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut bridge = BridgePolicy::DEFAULT;
    if chance.u8(0..2) == 0 {
        // An instance on demand costs 0.67 USD an hour.
        bridge.per_day = Usd::from_micros(chance.i64(500_000..4_000_000));
        bridge.after = minutes([0, 15][chance.usize(0..2)]);
        bridge.stay = minutes([15, 60][chance.usize(0..2)]);
        bridge.steady = minutes([0, 30][chance.usize(0..2)]);
    }
    let lead = minutes([20, 30, 60][chance.usize(0..3)]);
    let overlap = minutes([0, 0, 5][chance.usize(0..3)]);
    let policy = Policy {
        eligibility: if chance.u8(0..4) == 0 { Eligibility::Reclaimed } else { Eligibility::Time },
        escalation: match chance.u8(0..8) {
            0 => Escalation::Always,
            1 => Escalation::Never,
            _ => Escalation::Evidence,
        },
        notice: chance.bool().then_some(NoticePolicy { lead, overlap }),
        bridge,
        ..Policy::default()
    };
    let mut policy = policy;
    if chance.u8(0..4) == 0 {
        policy.placing.prefer = Prefer::Market;
    }
    let keep_trying = if chance.u8(0..3) == 0 { minutes(4) } else { Duration::ZERO };
    (policy, keep_trying)
}
