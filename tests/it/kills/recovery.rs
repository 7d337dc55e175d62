//! The same while a reclaim is announced, and while an on-demand instance stands in: two of one lineage live side by side
//! for a while, and whenever the program dies, later passes bring it down to one. What a bridge costs is not forgotten.

use std::collections::BTreeMap;
use std::sync::Mutex;

use novita_sim::{AfterReclaim, Machine, Op, Room, Spec, World};
use tokio::time::Instant;

use super::{first_seed, kill_one};
use crate::audit;
use crate::harness::{BOTH, Call, Kind, MINUTE, Stage, side_by_side};
use crate::successors::{applied, base, deleted_last, each_has_one, living, quick, recorded_before, story};

/// Rounds for each store and each rung.
const ROUNDS: u64 = 3;

/// Kills in each round.
const KILLS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Notice,
    /// The announcement is withdrawn after some of the kills.
    Withdrawn,
    Bridge,
}

#[derive(Debug)]
struct Round {
    kind: Kind,
    rung: Rung,
    seed: u64,
}

/// What all rounds together did.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    creates: usize,
    /// Kills after which two of one lineage lived.
    side_by_side: usize,
    bridges: usize,
}

#[test]
#[expect(clippy::disallowed_macros, reason = "says how much was done")]
fn killed_within_a_notice_or_a_bridge_each_instance_ends_with_one_successor() {
    let first = first_seed();
    let mut rounds = Vec::new();
    for rung in [Rung::Notice, Rung::Withdrawn, Rung::Bridge] {
        let of_rung = |n: u64| BOTH.map(|kind| Round { kind, rung, seed: first + n });
        rounds.extend((0..ROUNDS).flat_map(of_rung));
    }
    let (tally, begun) = (Mutex::new(Tally::default()), Instant::now());
    side_by_side(&rounds, 9, |round| Story::begin(round).tell(&tally));
    let tally = tally.into_inner().expect("no panic");
    println!("seed {first}, {} rounds in {:.0?}: {tally:?}", rounds.len(), begun.elapsed());
    assert!(tally.creates > 10 && tally.side_by_side > 0 && tally.bridges > 0, "too quiet");
}

struct Story<'a> {
    round: &'a Round,
    stage: Stage,
    chance: fastrand::Rng,
    names: Vec<String>,
    wait: u32,
}

/// The spot markets of the fleet.
const MARKETS: [(&str, &str); 3] =
    [("4090.16c62g", "us-xx-1"), ("4090.16c62g", "eu-xx-2"), ("4090.12c50g.v2", "us-xx-1")];

impl<'a> Story<'a> {
    fn begin(round: &'a Round) -> Self {
        let mut chance = fastrand::Rng::with_seed(round.seed);
        let mut world = quick(round.seed);
        world.rules_mut().after_reclaim = AfterReclaim::Kept;
        // Now and then it takes longer than a pass waits.
        if chance.bool() {
            world.rules_mut().create_step_ms = 10_000;
        }
        let names = ["a", "b"].map(str::to_owned).to_vec();
        for name in &names {
            world.add(match round.rung {
                Rung::Notice | Rung::Withdrawn => Spec::running(name).notified(25 * 60_000),
                Rung::Bridge => Spec::reclaimed(name, 20 * 60_000),
            });
        }
        let room = if round.rung == Rung::Bridge { Room::NONE } else { Room::Any };
        MARKETS.into_iter().for_each(|(product, cluster)| world.set_room(product, cluster, room));
        let wait = chance.u32(150..700);
        Self { round, stage: Stage::new(round.kind, world), chance, names, wait }
    }

    fn tell(mut self, tally: &Mutex<Tally>) {
        for kill in 0..KILLS {
            self.stage.provider.with(World::clear_faults);
            let delay = self.chance.u32(1..30);
            self.stage.fault(&format!("any:delay={delay}"));
            if self.chance.bool() {
                self.stage.fault(["create%50:cut-after*1", "delete%50:cut-after*1"][self.chance.usize(0..2)]);
            }
            let Self { round, stage, chance, wait, .. } = &mut self;
            kill_one(stage, chance, 600, &|_| call(stage, round.rung, *wait));
            self.stage.end_lease();
            self.after_a_kill(tally);
            if self.round.rung == Rung::Withdrawn && kill == KILLS / 2 {
                self.withdraw();
            }
            self.stage.provider.advance(self.chance.u64(0..120_000));
        }
        self.stage.provider.with(World::clear_faults);
        self.passes(4);
        if self.round.rung == Rung::Bridge {
            self.stage.provider.with(|world| {
                let bridges = bridges(world);
                assert!(bridges <= 1, "the budget of the day allows one, not {bridges}\n{}", story(world, "a"));
            });
            // The first one has cost its stay by then, so that the budget allows no second one.
            self.stage.provider.with(|world| {
                MARKETS.into_iter().for_each(|(product, cluster)| world.set_room(product, cluster, Room::Any));
            });
            self.stage.provider.advance(65 * MINUTE);
        }
        self.passes(8);
        let writes = self.stage.provider.with(|world| world.log().len());
        self.passes(1);
        assert_eq!(self.stage.provider.with(|world| world.log().len()), writes, "all is done");
        audit::is_complete(&self.stage);
        self.stage.provider.with(|world| self.judge(world, tally));
    }

    /// Nobody is to go any more.
    fn withdraw(&self) {
        self.stage.provider.with(|world| {
            let told = world.machines().filter(|it| it.spot_status == "notified");
            let told: Vec<String> = told.map(|it| it.id.clone()).collect();
            for id in told {
                world.withdraw_reclaim(&id);
            }
        });
    }

    /// At no moment are there more than two of one lineage, and whatever was created was on record before.
    fn after_a_kill(&self, tally: &Mutex<Tally>) {
        recorded_before(&self.stage);
        self.stage.provider.with(|world| {
            let mut tally = tally.lock().expect("no panic");
            tally.kills += 1;
            for name in &self.names {
                let alive = living(world, name).len();
                assert!((1..=2).contains(&alive), "{alive} live\n{}", story(world, name));
                tally.side_by_side += usize::from(alive == 2);
            }
        });
    }

    fn passes(&self, count: u32) {
        for _ in 0..count {
            let code = call(&self.stage, self.round.rung, self.wait).output().code();
            assert!(matches!(code, 0 | 1), "it ended with {code}");
            self.stage.provider.advance(5 * MINUTE);
        }
    }

    fn judge(&self, world: &World, tally: &Mutex<Tally>) {
        each_has_one(world, &self.names);
        deleted_last(world);
        let bridges = applied(world, Op::Create).filter(|entry| entry.name.contains("-bridge-")).count();
        let mut made: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in applied(world, Op::Create) {
            *made.entry(base(&entry.name)).or_default() += 1;
        }
        // One beside the old one; with a bridge, one that stands in and one that returns.
        let most = if self.round.rung == Rung::Bridge { 2 } else { 1 };
        assert!(made.values().all(|count| *count <= most), "{made:?}\n{}", story(world, "a"));
        assert!(world.machines().all(|it| it.billing_mode == "spot"), "it returned");
        let mut tally = tally.lock().expect("no panic");
        tally.creates += world.applied(Op::Create);
        tally.bridges += bridges;
    }
}

fn bridges(world: &World) -> usize {
    world.machines().filter(|it| it.name.contains("-bridge-") && Machine::is_alive(it)).count()
}

fn call(stage: &Stage, rung: Rung, wait: u32) -> Call {
    let call = stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", wait.to_string());
    match rung {
        Rung::Notice | Rung::Withdrawn => call.env("RESPOT_NOTICE", "on"),
        // One stay is 0.67 USD.
        Rung::Bridge => call.env("RESPOT_BRIDGE_USD_PER_DAY", "1").env("RESPOT_BRIDGE_STEADY_MINUTES", "0"),
    }
}
