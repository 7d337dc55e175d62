//! Mass reclaims and shortages in virtual time: how soon instances are back, and what that asks of the provider.

use std::time::Duration;

use novita_sim::{DAWN_MS, Fault, InProcess, Op, Outcome, Room, Spec, What, World};
use respot::act::{self, Limits};
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
use respot::commands::run::{self, Ended, Ran};
use respot::core::world::policy::Policy;
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::Mode;
use respot::store::sqlite::SqliteStore;

use crate::successors::quick;

const PRODUCT: &str = "4090.16c62g";
const HERE: &str = "us-xx-1";
const THERE: &str = "eu-xx-2";
const MINUTE: Duration = Duration::from_secs(60);

struct Fleet {
    provider: InProcess,
    store: SqliteStore,
    clock: Clock,
}

impl Fleet {
    /// So many instances in one market, all of which were reclaimed ten minutes ago.
    fn reclaimed(count: u32) -> Self {
        let mut world = quick(91);
        // Only these markets have the product.
        let _ = world.withdraw_product("4090.12c50g.v2");
        for n in 0..count {
            world.add(Spec::reclaimed(&format!("train-{n}"), 600_000).id(&format!("i{n:03}")));
        }
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        Self { provider: InProcess::new(world), store: SqliteStore::in_memory(clock.clone()).unwrap(), clock }
    }

    fn room(&self, cluster: &str, room: Room) {
        self.provider.world().set_room(PRODUCT, cluster, room);
    }

    async fn pass(&self, limits: Limits<'_>) -> Box<Ended> {
        let cloud = Client::new(self.provider.clone());
        let (stop, reporter) = (Stop::default(), &Silent);
        let world = act::World {
            cloud: &cloud,
            store: &self.store,
            limits: &limits,
            clock: &self.clock,
            stop: &stop,
            reporter,
        };
        match run::run(&world, &cloud, &NoReceiver).await {
            Ok(Ran::Ended(ended)) => ended,
            other => panic!("{other:?}"),
        }
    }

    fn running(&self) -> usize {
        self.provider.world().machines().filter(|machine| machine.status == "running").count()
    }

    /// Requests of a kind that were refused.
    fn refused(&self, op: Op) -> usize {
        let world = self.provider.world();
        world.log().iter().filter(|it| it.op == op && matches!(it.outcome, Outcome::Refused(..))).count()
    }
}

/// Where they were there is no room. They are created elsewhere in waves, with one refused request for all of them. A creation
/// without an answer ends the waves only if no other creation is answered.
#[tokio::test(start_paused = true)]
async fn two_hundred_reclaimed_at_once_are_back_within_two_passes() {
    let failing = || Fault::on(Op::Create, What::status(500));
    for (fault, created_at_once, errors) in [(None, 200, 0), (Some(failing().nth(3)), 199, 1), (Some(failing()), 0, 60)]
    {
        let fleet = Fleet::reclaimed(200);
        fleet.room(HERE, Room::For(0));
        fault.clone().into_iter().for_each(|fault| fleet.provider.world().fault(fault));
        let policy = Policy::default();
        let ended = fleet.pass(Limits::of(&policy, Mode::Real)).await;
        assert_eq!(fleet.provider.world().applied(Op::Create), created_at_once, "{fault:?}");
        assert_eq!(usize::try_from(ended.execution.summary.error_count), Ok(errors), "lack of room is no failure");
        if created_at_once == 0 {
            continue;
        }
        fleet.provider.world().clear_faults();
        tokio::time::sleep(5 * MINUTE).await;
        fleet.pass(Limits::of(&policy, Mode::Real)).await;
        assert_eq!(fleet.running(), 200);
        assert_eq!((fleet.refused(Op::Migrate), fleet.refused(Op::Create)), (1, errors), "{fault:?}");
        tokio::time::sleep(5 * MINUTE).await;
        fleet.pass(Limits::of(&policy, Mode::Real)).await;
        let world = fleet.provider.world();
        let old: Vec<_> = world.machines().filter(|machine| machine.cluster_id == HERE).collect();
        assert!(old.is_empty(), "each old one is deleted: {old:?}");
    }
}

/// No market has room for half an hour. Each is asked once a pass, whatever the fleet, and nothing is left in quarantine.
#[tokio::test(start_paused = true)]
async fn a_shortage_costs_one_refused_request_for_each_market_and_pass() {
    let fleet = Fleet::reclaimed(60);
    fleet.room(HERE, Room::For(0));
    fleet.room(THERE, Room::For(0));
    let policy = Policy::default();
    for pass in 1..=6 {
        let ended = fleet.pass(Limits::of(&policy, Mode::Real)).await;
        assert_eq!(ended.execution.status.into_str(), "completed");
        assert_eq!(ended.execution.summary.no_room_instances, 60, "pass {pass}");
        assert!(fleet.refused(Op::Migrate) <= pass && fleet.refused(Op::Create) <= pass, "pass {pass}");
        tokio::time::sleep(5 * MINUTE).await;
    }
    fleet.room(THERE, Room::Any);
    for _ in 0..2 {
        fleet.pass(Limits::of(&policy, Mode::Real)).await;
        tokio::time::sleep(5 * MINUTE).await;
    }
    assert_eq!(fleet.running(), 60);
}

/// The room comes back two minutes after the pass began, and the pass goes on trying.
#[tokio::test(start_paused = true)]
async fn a_pass_goes_on_trying_while_a_reclaimed_instance_is_down() {
    for (keep_trying, expected) in [(Duration::ZERO, 0), (4 * MINUTE, 3)] {
        let fleet = Fleet::reclaimed(3);
        let back_at = fleet.provider.world().now_ms() + 120_000;
        fleet.room(HERE, Room::For(0));
        fleet.room(THERE, Room::For(0));
        fleet.provider.world().set_room_at(back_at, PRODUCT, THERE, Room::Any);
        let policy = Policy::default();
        let limits = Limits { keep_trying, ..Limits::of(&policy, Mode::Real) };
        let ended = fleet.pass(limits).await;
        assert_eq!(fleet.running(), expected, "{keep_trying:?}");
        assert_eq!(ended.execution.summary.no_room_instances, 3 - u64::try_from(expected).unwrap());
        let took = ended.execution.duration.unwrap();
        assert!(took < 250_000, "{took} ms");
    }
}

/// A pass with nothing down ends at once.
#[tokio::test(start_paused = true)]
async fn a_pass_with_nothing_down_does_not_wait() {
    let mut world: World = quick(92);
    world.add(Spec::running("train").id("a"));
    world.add(Spec::exited("stopped by a person").id("b"));
    let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
    let fleet = Fleet { provider: InProcess::new(world), store: SqliteStore::in_memory(clock.clone()).unwrap(), clock };
    let policy = Policy::default();
    let ended = fleet.pass(Limits { keep_trying: 4 * MINUTE, ..Limits::of(&policy, Mode::Real) }).await;
    let took = ended.execution.duration.unwrap();
    assert!(took < 5_000, "{took} ms");
}
