//! Single passes in virtual time: the last moment before a migrate call, and passes that are killed.

use std::cell::Cell;
use std::time::Duration;

use novita_sim::{DAWN_MS, Fate, InProcess, Op, Spec, World};
use respot::act::Limits;
use respot::clock::Clock;
use respot::cloud::Rehearsal;
use respot::cloud::novita::client::Client;
use respot::commands::Exit;
use respot::commands::run::{self, NoPass, Ran};
use respot::core::record::outbox::{EVENTS_KEPT, Happened};
use respot::core::world::policy::Policy;
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::{self, Change, Mode, Selection};
use respot::store::sqlite::SqliteStore;
use respot::store::{Acquired, Answer, LEASE_LIFE, Lease, Query, StoreError, StoreRead, StoreWrite, Write};

use crate::successors::quick;

/// What befalls one commit of the pass, counted from 1: the record of the pass, its plan, then its intents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It succeeds, but takes longer than a lease lives.
    Slow,
    /// It fails, and nothing is written.
    Fails,
    /// Not a commit but the lease: it is lost before it is given back.
    AtTheEnd,
}

struct Told {
    inner: SqliteStore,
    at: u32,
    trouble: Trouble,
    commits: Cell<u32>,
}

impl StoreRead for Told {
    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        self.inner.read(queries).await
    }
    fn label(&self) -> String {
        self.inner.label()
    }
}

impl StoreWrite for Told {
    async fn acquire(&self, key: &str, token: &str) -> Result<Acquired, StoreError> {
        self.inner.acquire(key, token).await
    }
    /// Never answers, so that nobody but the lease itself can tell that its life is over.
    async fn renew(&self, _: &Lease) -> Result<(), StoreError> {
        std::future::pending().await
    }
    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.commits.set(self.commits.get() + 1);
        match self.trouble {
            Trouble::Fails if self.commits.get() == self.at => {
                Err(StoreError::Unreachable { store: "told".into(), detail: "as told".into() })
            }
            Trouble::Slow if self.commits.get() == self.at => {
                let written = self.inner.commit(lease, writes).await;
                tokio::time::sleep(LEASE_LIFE).await;
                written
            }
            _ => self.inner.commit(lease, writes).await,
        }
    }
    async fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> Result<(), StoreError> {
        if self.trouble == Trouble::AtTheEnd {
            return Err(StoreError::LeaseLost);
        }
        self.inner.commit_and_release(lease, writes).await
    }
}

fn in_virtual_time<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(story)
}

/// Makes one pass with two workers over three instances; says which migrations took effect, and how many were asked for.
async fn pass_with(at: u32, trouble: Trouble, fault: Option<&str>) -> ([usize; 3], u64) {
    let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
    let mut world = World::new(71);
    for (id, ago) in [("a", 3_000_000), ("b", 2_000_000), ("c", 1_000_000)] {
        // Each in a market of its own: the first call to a market goes alone.
        world.add(Spec::exited(id).id(id).product(id, 1).stopped_ago_ms(ago).fate(Fate::Succeeds));
    }
    if let Some(fault) = fault {
        world.fault(fault.parse().unwrap());
    }
    let provider = InProcess::new(world);
    let store = Told { inner: SqliteStore::in_memory(clock.clone()).unwrap(), at, trouble, commits: Cell::new(0) };
    let policy = Policy::default();
    let rules = Limits { workers: 2, ..Limits::of(&policy, Mode::Real) };
    let cloud = Client::new(provider.clone());
    let ran = run::run(
        &respot::act::World {
            cloud: &cloud,
            store: &store,
            limits: &rules,
            clock: &clock,
            stop: &Stop::default(),
            reporter: &Silent,
        },
        &cloud,
        &NoReceiver,
    )
    .await;
    assert_eq!(ran.expect_err("the store failed it").exit, Exit::Store);
    let world = provider.world();
    (["a", "b", "c"].map(|id| world.accepted_migrations_of(id)), world.calls(Op::Migrate))
}

/// However long nobody takes them: the oldest make room.
#[test]
fn the_outbox_is_bounded() {
    in_virtual_time(async {
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let store = SqliteStore::in_memory(clock.clone()).unwrap();
        let Acquired::Granted(lease) = store.acquire("lease", "t").await.unwrap() else { panic!("it is free") };
        let event = |n: usize| Change::Send(Happened::test(clock.now()).outgoing(format!("evt_{n:06}")));
        let events = records::writes((0..EVENTS_KEPT + 3).map(event).collect(), Mode::Real, clock.now());
        store.commit_and_release(lease, &events).await.unwrap();
        let (policy, cloud) = (Policy::default(), Client::new(InProcess::new(World::new(76))));
        let rules = Limits::of(&policy, Mode::Real);
        run::run(
            &respot::act::World {
                cloud: &cloud,
                store: &store,
                limits: &rules,
                clock: &clock,
                stop: &Stop::default(),
                reporter: &Silent,
            },
            &cloud,
            &NoReceiver,
        )
        .await
        .unwrap();
        let waiting = records::outbox(&store, Timestamp::LATEST).await.unwrap().waiting;
        assert_eq!((waiting.len(), waiting[0].id.as_str()), (EVENTS_KEPT, "evt_000003"));
    });
}

/// What is recorded is done, whatever becomes of the lease.
#[test]
fn a_pass_that_is_recorded_ended_as_it_is_recorded() {
    in_virtual_time(async {
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let mut world = World::new(71);
        world.add(Spec::exited("a").id("a"));
        let provider = InProcess::new(world);
        let inner = SqliteStore::in_memory(clock.clone()).unwrap();
        let store = Told { inner, at: 0, trouble: Trouble::AtTheEnd, commits: Cell::new(0) };
        let policy = Policy::default();
        let (rules, cloud) = (Limits::of(&policy, Mode::Real), Client::new(provider.clone()));
        let ran = run::run(
            &respot::act::World {
                cloud: &cloud,
                store: &store,
                limits: &rules,
                clock: &clock,
                stop: &Stop::default(),
                reporter: &Silent,
            },
            &cloud,
            &NoReceiver,
        )
        .await;
        let Ran::Ended(ended) = ran.unwrap() else { panic!("nobody else runs") };
        assert_eq!(ended.execution.status.into_str(), "completed");
        assert_eq!(provider.world().accepted_migrations_of("a"), 1);
    });
}

#[test]
fn nothing_is_sent_without_the_right_to_write() {
    let refused_once = Some("migrate/b:status=429,retry-after=5*1");
    // The commit that is in trouble, and how; what befalls the provider; the migrations of three instances, and the
    // calls that were made.
    let rows = [
        // The lease ran out while the first intent was stored: only the other one is sent.
        (3, Trouble::Slow, None, ([0, 1, 1], 2)),
        // "b" waits before it is sent again, and meanwhile the store fails the intent of "c".
        (5, Trouble::Fails, refused_once, ([1, 0, 0], 2)),
        (3, Trouble::Fails, None, ([0, 0, 0], 0)),
    ];
    for (row, (at, trouble, fault, expected)) in rows.into_iter().enumerate() {
        let seen = in_virtual_time(pass_with(at, trouble, fault));
        assert_eq!(seen, expected, "row {row}");
    }
}

/// Waiting for replacements is no work: it ends before the deadline does, and the pass is no failure.
#[test]
fn the_wait_for_replacements_stays_within_the_deadline() {
    in_virtual_time(async {
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let mut world = World::new(72);
        world.add(Spec::stuck("a", 600_000).id("a"));
        world.rules_mut().stuck_creates = 1.0;
        let provider = InProcess::new(world);
        let store = SqliteStore::in_memory(clock.clone()).unwrap();
        let policy = Policy::default();
        let (deadline, recreate_wait) = (Duration::from_secs(60), Duration::from_secs(600));
        let rules = Limits { deadline, recreate_wait, ..Limits::of(&policy, Mode::Real) };
        let cloud = Client::new(provider.clone());
        let ran = run::run(
            &respot::act::World {
                cloud: &cloud,
                store: &store,
                limits: &rules,
                clock: &clock,
                stop: &Stop::default(),
                reporter: &Silent,
            },
            &cloud,
            &NoReceiver,
        )
        .await;
        let Ran::Ended(ended) = ran.unwrap() else { panic!("nobody else runs") };
        assert_eq!(ended.execution.status.into_str(), "completed");
        assert_eq!(ended.attempts[0].outcome.into_str(), "accepted");
        let took = ended.execution.duration.unwrap();
        assert!((40_000..60_000).contains(&took), "{took} ms");
        assert_eq!(provider.world().applied(Op::Create), 1);
    });
}

/// Makes one pass over two failed migrations; says how many replacements were made, and how many old instances deleted.
async fn recreate_with(at: u32, trouble: Trouble) -> [usize; 2] {
    let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
    let mut world = quick(74);
    for (name, product) in [("a", "4090.16c62g"), ("b", "a100.32c120g")] {
        world.add(Spec::stuck(name, 600_000).id(name).product(product, 1));
    }
    let provider = InProcess::new(world);
    let store = Told { inner: SqliteStore::in_memory(clock.clone()).unwrap(), at, trouble, commits: Cell::new(0) };
    let policy = Policy::default();
    let rules = Limits { workers: 2, ..Limits::of(&policy, Mode::Real) };
    let cloud = Client::new(provider.clone());
    let ran = run::run(
        &respot::act::World {
            cloud: &cloud,
            store: &store,
            limits: &rules,
            clock: &clock,
            stop: &Stop::default(),
            reporter: &Silent,
        },
        &cloud,
        &NoReceiver,
    )
    .await;
    assert_eq!(ran.expect_err("the store failed it").exit, Exit::Store);
    let world = provider.world();
    [Op::Create, Op::Delete].map(|op| world.applied(op))
}

#[test]
fn nothing_is_created_or_deleted_without_the_right_to_write() {
    // The commit that is in trouble, and how; the replacements that were made, and the old instances deleted. The first
    // creation goes alone: commit 3 is its intent, 4 tells of its replacement; 5 and 6 are those of the second one, 7 and 8
    // the intents to delete.
    let rows = [
        // The lease ran out while the one intent was stored: only the one before is acted on.
        (3, Trouble::Slow, [0, 0]),
        (5, Trouble::Slow, [1, 0]),
        (7, Trouble::Slow, [2, 1]),
        (8, Trouble::Slow, [2, 1]),
        // What could not be stored ends the work of all.
        (3, Trouble::Fails, [0, 0]),
        (5, Trouble::Fails, [1, 0]),
        (6, Trouble::Fails, [2, 0]),
        (7, Trouble::Fails, [2, 0]),
    ];
    for (at, trouble, expected) in rows {
        let seen = in_virtual_time(recreate_with(at, trouble));
        assert_eq!(seen, expected, "commit {at}");
    }
}

#[test]
fn a_killed_pass_counts_if_it_was_real_and_each_kind_has_a_lease_of_its_own() {
    for (mode, counted) in [(Mode::Real, 2), (Mode::Rehearsal, 0)] {
        in_virtual_time(async {
            let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
            let store = SqliteStore::in_memory(clock.clone()).unwrap();
            let (policy, stop) = (Policy::default(), Stop::default());
            let rules = Limits { workers: 2, ..Limits::of(&policy, mode) };
            let cloud = Client::new(InProcess::new(World::new(72)));
            let world = respot::act::World {
                cloud: &cloud,
                store: &store,
                limits: &rules,
                clock: &clock,
                stop: &stop,
                reporter: &Silent,
            };
            let pass = || run::run(&world, &Rehearsal, &NoReceiver);
            // It has said that it is there, and waits for the provider.
            assert!(tokio::time::timeout(Duration::from_millis(5), pass()).await.is_err());
            assert!(matches!(pass().await, Ok(Ran::Skipped(NoPass::AnotherRuns { .. }))));
            let other = if mode == Mode::Real { Mode::Rehearsal } else { Mode::Real };
            assert!(matches!(store.acquire(&other.lease_key(), "other").await, Ok(Acquired::Granted(_))));
            tokio::time::sleep(LEASE_LIFE).await;
            assert!(matches!(pass().await, Ok(Ran::Ended(_))));
            let overview =
                records::overview(&store, &Selection { limit: 9, ..Selection::default() }, Timestamp::LATEST)
                    .await
                    .unwrap();
            let seen: Vec<&str> = overview.executions.iter().map(|it| it.execution.status.into_str()).collect();
            assert_eq!(seen, ["completed", "interrupted"]);
            assert_eq!(overview.totals.executions, counted);
        });
    }
}

#[test]
fn a_rehearsal_beside_a_real_pass_leaves_the_totals_alone() {
    in_virtual_time(async {
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let store = SqliteStore::in_memory(clock.clone()).unwrap();
        let (policy, stop) = (Policy::default(), Stop::default());
        let rules = |mode| Limits { workers: 2, ..Limits::of(&policy, mode) };
        let (slow, quick) = (InProcess::new(World::new(73)).latency(LEASE_LIFE / 10), InProcess::new(World::new(73)));
        let (slow, quick) = (Client::new(slow), Client::new(quick));
        let (rehearsing, acting) = (rules(Mode::Rehearsal), rules(Mode::Real));
        let (rehearsed, acted) = futures_util::future::join(
            run::run(
                &respot::act::World {
                    cloud: &slow,
                    store: &store,
                    limits: &rehearsing,
                    clock: &clock,
                    stop: &stop,
                    reporter: &Silent,
                },
                &Rehearsal,
                &NoReceiver,
            ),
            run::run(
                &respot::act::World {
                    cloud: &quick,
                    store: &store,
                    limits: &acting,
                    clock: &clock,
                    stop: &stop,
                    reporter: &Silent,
                },
                &quick,
                &NoReceiver,
            ),
        )
        .await;
        assert!(matches!((rehearsed, acted), (Ok(Ran::Ended(_)), Ok(Ran::Ended(_)))));
        let overview = records::overview(&store, &Selection::default(), Timestamp::LATEST).await.unwrap();
        assert_eq!((overview.total, overview.totals.executions), (2, 1));
    });
}
