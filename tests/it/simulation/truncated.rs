//! One recreation, undisturbed but for one thing: its journal ends at every possible length, or the pass dies at each of
//! its awaits. Whatever is left, the next passes bring it to the same end.

use std::collections::HashSet;
use std::time::Duration;

use novita_sim::{DAWN_MS, InProcess, Op, Spec, World};
use respot::act::Limits;
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
use respot::commands::run;
use respot::core::world::policy::{Policy, RecreateOrder};
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::{Mode, overview};
use tokio::time::sleep;

use super::Killed;
use super::judge::{Evidence, judge};
use super::store::Memory;

const ORDERS: [RecreateOrder; 2] = [RecreateOrder::CreateFirst, RecreateOrder::DeleteFirst];

struct Stage {
    provider: InProcess,
    store: Memory,
    clock: Clock,
    policy: Policy,
    old: String,
}

impl Stage {
    fn set(order: RecreateOrder) -> Self {
        let mut world = World::new(1);
        let old = world.add(Spec::stuck("train", 600_000).network_volume("vol-1", "/data"));
        world.add(Spec::running("other"));
        let store = Memory::new(1);
        *store.keeps_versions.borrow_mut() = true;
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let policy = Policy { recreate_order: order, ..Policy::default() };
        Self { provider: InProcess::new(world), store, clock, policy, old }
    }

    async fn pass(&self) {
        let rules = Limits::of(&self.policy, Mode::Real);
        let cloud = Client::new(self.provider.clone());
        let _ = run::run(
            &respot::act::World {
                cloud: &cloud,
                store: &self.store,
                limits: &rules,
                clock: &self.clock,
                stop: &Stop::default(),
                reporter: &Silent,
            },
            &cloud,
            &NoReceiver,
        )
        .await;
    }

    /// The end is always the same: one replacement runs, the old one is gone, nothing is open.
    async fn ends_well(&self, what: &str, most_creates: usize) {
        for _ in 0..6 {
            sleep(Duration::from_secs(900)).await;
            self.pass().await;
        }
        let world = self.provider.world().clone();
        let intents = self.store.intents.borrow().clone();
        let evidence = Evidence {
            world: &world,
            intents: &intents,
            vanished: &HashSet::new(),
            untouchable: &[],
            cooldown: None,
            create_first: self.policy.recreate_order == RecreateOrder::CreateFirst,
            wants_evidence: false,
        };
        if let Err(verdict) = judge(&evidence) {
            panic!("{what}: {verdict}");
        }
        assert!(world.get(&self.old).is_none(), "{what}: the old one is still there");
        let replacements: Vec<_> = world.machines().filter(|it| it.name.starts_with("train-recreated-")).collect();
        assert_eq!(replacements.len(), 1, "{what}");
        assert_eq!(replacements[0].status, "running", "{what}");
        assert_eq!(replacements[0].volumes.len(), 1, "{what}: the volume came along");
        assert!(world.applied(Op::Create) <= most_creates, "{what}: {} creates", world.applied(Op::Create));
        let open = overview(&self.store, &Default::default(), Timestamp::LATEST).await.unwrap().recreations;
        assert!(open.is_empty(), "{what}: {open:?}");
    }
}

fn in_virtual_time(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work);
}

/// The store dies after each commit; so the journal ends there, and the world stays as it was then.
#[test]
fn the_journal_that_ends_at_any_length_is_resumed_to_the_same_end() {
    for order in ORDERS {
        let mut commits = 0;
        in_virtual_time(async {
            let stage = Stage::set(order);
            stage.pass().await;
            commits = stage.store.versions.borrow().len();
        });
        assert!(commits >= 7, "begun, settled, intent, created, running or deleting, deleted, closed");
        for length in 0..=commits {
            in_virtual_time(async {
                let stage = Stage::set(order);
                stage.store.die_after(Some(length));
                stage.pass().await;
                stage.store.die_after(None);
                stage.ends_well(&format!("{order:?}, died after {length} of {commits} commits"), 1).await;
            });
        }
    }
}

/// The store is rolled back to each of its earlier contents, as by a restored backup, while the world went on.
#[test]
fn a_journal_rolled_back_to_any_length_is_resumed_to_the_same_end() {
    for order in ORDERS {
        let mut length = 0;
        loop {
            let mut more = false;
            in_virtual_time(async {
                let stage = Stage::set(order);
                stage.pass().await;
                let versions = stage.store.versions.borrow().clone();
                more = length + 1 < versions.len();
                stage.store.restore(versions[length].clone());
                stage.ends_well(&format!("{order:?}, rolled back to {length} of {}", versions.len()), 1).await;
            });
            if !more {
                break;
            }
            length += 1;
        }
    }
}

/// The pass dies at its first await, at its second, and so on until one comes through.
#[test]
fn a_pass_that_dies_at_any_await_is_put_right_by_the_next() {
    for order in ORDERS {
        let mut polls = 1;
        loop {
            let mut came_through = false;
            in_virtual_time(async {
                let stage = Stage::set(order);
                came_through = Killed { pass: Box::pin(stage.pass()), polls }.await.is_some();
                stage.ends_well(&format!("{order:?}, killed after {polls} polls"), 1).await;
            });
            if came_through {
                break;
            }
            polls += 1;
        }
        assert!(polls > 40, "{order:?}: only {polls} awaits");
    }
}
