//! What goes wrong, and when.

use std::time::Duration;

use novita_sim::{Fault, Machine, Op, What, World};
use respot::core::rollout::course::State;

use super::{History, Tally};

/// Something that happens to instances, between two calls or in the middle of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The provider takes one spot instance.
    Reclaim,
    /// It takes half of them.
    Wave,
    /// Somebody stops a spot instance.
    StopSpot,
    /// Somebody stops an on-demand instance.
    StopOnDemand,
    /// One is gone without a trace.
    Vanish,
    /// No spot is left.
    SoldOut,
    /// Spot is left again.
    Restocked,
    /// What is created for spot becomes something else, or does not any more.
    Lie,
}

impl Mishap {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Reclaim => "reclaims",
            Self::Wave => "waves",
            Self::StopSpot => "stopped spot",
            Self::StopOnDemand => "stopped on-demand",
            Self::Vanish => "vanished",
            Self::SoldOut => "sold out",
            Self::Restocked => "restocked",
            Self::Lie => "lies",
        }
    }

    fn draw(chance: &mut fastrand::Rng) -> Self {
        match chance.u8(0..24) {
            0..=5 => Self::Reclaim,
            6..=8 => Self::Wave,
            9 | 10 => Self::StopSpot,
            11 => Self::StopOnDemand,
            12 => Self::Vanish,
            13..=15 => Self::SoldOut,
            16..=20 => Self::Restocked,
            _ => Self::Lie,
        }
    }

    /// Lets it happen; answers the instances whose families are lost to others than the program.
    pub(super) fn strike(self, world: &mut World, chance: &mut fastrand::Rng, spared: &[String]) -> Vec<String> {
        let (may_vanish_spot, number) = (chance.bool(), chance.usize(..));
        let pick = |mode: &str| {
            let fits = |it: &&Machine| it.status == "running" && it.billing_mode == mode && !spared.contains(&it.id);
            let ids: Vec<String> = world.machines().filter(fits).map(|it| it.id.clone()).collect();
            (!ids.is_empty()).then(|| ids[number % ids.len()].clone())
        };
        let picked = match self {
            Self::Reclaim | Self::StopSpot => pick("spot"),
            Self::StopOnDemand => pick("onDemand"),
            Self::Vanish if may_vanish_spot => pick("spot"),
            Self::Vanish => pick("onDemand"),
            Self::Wave | Self::SoldOut | Self::Restocked | Self::Lie => None,
        };
        match (self, picked) {
            (Self::Reclaim, Some(id)) => drop(world.reclaim_now(&id)),
            (Self::StopSpot, Some(id)) => drop(world.user_stop(&id)),
            (Self::StopOnDemand, Some(id)) => {
                world.user_stop(&id);
                return vec![id];
            }
            (Self::Vanish, Some(id)) => {
                world.vanish(&id);
                return vec![id];
            }
            (Self::Wave, _) => drop(world.reclaim_wave(0.5)),
            (Self::SoldOut, _) => sell_spot(world, false),
            (Self::Restocked, _) => sell_spot(world, true),
            (Self::Lie, _) => {
                let rules = world.rules_mut();
                let lies = [Some("onDemand"), Some(""), None, None][chance.usize(0..4)];
                rules.spot_creates_become = lies;
            }
            (_, None) => {}
        }
        Vec::new()
    }
}

/// Whether there is spot to be had.
pub(super) fn sell_spot(world: &mut World, is_sold: bool) {
    let ids: Vec<String> = world.products().iter().map(|product| product.id.clone()).collect();
    for id in ids {
        if let Some(product) = world.product_mut(&id) {
            product.spot_sold_out = !is_sold;
        }
    }
}

impl History {
    /// What is to happen in the middle of a call, and when.
    pub(super) fn mishap(&mut self) -> Option<(Duration, Mishap)> {
        // What happens between the last gate and the deletions is worth more than the rest.
        let retires = self.last(|it| matches!(it.state, State::Retiring { .. })) == Some(true);
        let most = if retires { 3 } else { 6 };
        let is_due = self.chance.u8(0..most) < self.weather;
        let most = [1_000, 10_000, 150_000][self.chance.usize(0..3)];
        is_due.then(|| (Duration::from_millis(self.chance.u64(0..most)), Mishap::draw(&mut self.chance)))
    }

    /// What goes wrong in the next round, at random.
    pub(super) fn trouble(&mut self, tally: &mut Tally) {
        let weather = self.weather;
        let retires = self.last(|it| matches!(it.state, State::Retiring { .. })) == Some(true);
        let chance = &mut self.chance;
        let mut world = self.line.inner.world();
        world.clear_faults();
        // Deletions of on-demand instances are over in one call, unless something is in their way.
        if chance.u8(0..4) < weather {
            let what = if retires { What::CutBefore } else { What::Refuse };
            world.fault(Fault::on(Op::Delete, what).percent(60));
        }
        let ops = [Op::List, Op::Jobs, Op::Get, Op::Migrate, Op::Create, Op::Create, Op::Delete, Op::Delete];
        for op in ops.into_iter().chain([Op::Products, Op::Metrics]) {
            if chance.u8(0..10) >= 2 * weather {
                continue;
            }
            tally.note("faults");
            world.fault(fault(op, chance));
        }
        if chance.u8(0..20) < weather {
            world.fault("list:lying-total=+1".parse().unwrap());
        }
        if chance.u8(0..8) == 0 {
            world.fault("list:no-rows*2".parse().unwrap());
        }
        if chance.u8(0..20) < weather {
            world.set_stock(chance.u32(0..3));
        } else if chance.bool() {
            world.set_stock(u32::MAX);
        }
        if chance.u8(0..20) < weather {
            let broke = chance.bool();
            world.rules_mut().balance = !broke;
        }
        if chance.u8(0..10) < weather {
            let mishap = Mishap::draw(chance);
            tally.note(mishap.as_str());
            self.excused.extend(mishap.strike(&mut world, chance, &self.untouchable));
        }
        drop(world);
        self.store.shake(if chance.u8(0..8) < weather { chance.u8(1..30) } else { 0 });
        if chance.u8(0..80) < weather {
            self.store.flush();
            self.flushed = true;
            tally.note("flushed");
        }
    }
}

fn fault(op: Op, chance: &mut fastrand::Rng) -> Fault {
    let what = match chance.u8(0..14) {
        0 => What::CutBefore,
        1 => What::CutAfter,
        2 => "any:status=503".parse::<Fault>().unwrap().what,
        3 => "any:status=500,effect".parse::<Fault>().unwrap().what,
        4 => "any:status=429,retry-after=3".parse::<Fault>().unwrap().what,
        5 => "any:hang".parse::<Fault>().unwrap().what,
        6 => "any:hang,effect".parse::<Fault>().unwrap().what,
        7 => What::Truncated,
        8 => What::Refuse,
        // Arrives late, but within what a request can live.
        9 => What::Late(60_000),
        // Arrives when everybody has given it up.
        10 if op == Op::Create => What::Late(chance.u64(200_000..3_000_000)),
        11 if op.is_write() => "any:status=400,reason=INSUFFICIENT_RESOURCE".parse::<Fault>().unwrap().what,
        // An answer to a create without the new instance's id.
        12 if op == Op::Create => What::Empty,
        _ => What::Delay(8_000),
    };
    let fault = Fault::on(op, what).percent(chance.u8(10..100));
    if chance.bool() { fault.times(chance.u32(1..6)) } else { fault }
}
