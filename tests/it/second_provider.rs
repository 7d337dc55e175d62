//! A second provider, in memory, that differs from Novita wherever the traits allow it: it has no jobs and does not
//! migrate, marks replacements by a tag, forgets what an instance was made of when it is deleted, and creates once per
//! marker. Passes over it keep the same promises.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use novita_sim::DAWN_MS;
use respot::act::{Limits, World};
use respot::clock::Clock;
use respot::cloud::{CloudError, CloudRead, CloudWrite, Effect, Guard, Order, Ping, Progress};
use respot::commands::run::{self, Ran};
use respot::core::pass::safety::BlastRadius;
use respot::core::record::trail::ProviderCalls;
use respot::core::recreation::blueprint::{Blueprint, Nearness, Obstacle, Placement, Prepared, Wanted};
use respot::core::recreation::marker::replacement_name;
use respot::core::rollout::findings::ListedInstance;
use respot::core::rollout::metrics::Metrics;
use respot::core::world::error::ErrorKind;
use respot::core::world::instance::{Billing, Instance, InstanceId, Job, Place, ReclaimNotice, Status};
use respot::core::world::market::{Offer, OfferQuery, Stock};
use respot::core::world::policy::{Policy, RecreateOrder};
use respot::core::world::probe::{CloseUp, Connections};
use respot::core::world::snapshot::{Abilities, Listing};
use respot::core::world::time::{Seconds, Timestamp};
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::LEASE_LIFE;
use respot::store::records::Mode;
use respot::store::sqlite::SqliteStore;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
struct Machine {
    id: InstanceId,
    tag: Option<String>,
    made_of: String,
    created_at: Timestamp,
    runs_from: Timestamp,
    is_reclaimed: bool,
}

struct Yard {
    clock: Clock,
    machines: RefCell<Vec<Machine>>,
    creations: Cell<u32>,
    migrations: Cell<u32>,
    /// Answers to creations that get lost after the effect.
    lost_answers: Cell<u32>,
    /// The next write takes effect and never returns: the pass is killed there.
    hangs: Cell<bool>,
    /// What the next creation answers, creating nothing.
    says: RefCell<Option<InstanceId>>,
}

impl Yard {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            machines: RefCell::default(),
            creations: Cell::new(0),
            migrations: Cell::new(0),
            lost_answers: Cell::new(0),
            hangs: Cell::new(false),
            says: RefCell::default(),
        }
    }

    fn add(&self, id: &str, tag: Option<&str>, created_at: Timestamp, is_reclaimed: bool) {
        self.machines.borrow_mut().push(Machine {
            id: InstanceId::new(id),
            tag: tag.map(Into::into),
            made_of: "image-of-a".into(),
            created_at,
            runs_from: created_at,
            is_reclaimed,
        });
    }

    fn row(&self, machine: &Machine) -> Instance {
        let Machine { id, tag, made_of: _, created_at, runs_from, is_reclaimed } = machine;
        let secs = |at: Timestamp| Seconds::new(at.as_secs());
        Instance {
            id: id.clone(),
            name: "worker".into(),
            status: match is_reclaimed {
                true => Status::Exited,
                false if self.clock.now() < *runs_from => Status::Creating,
                false => Status::Running,
            },
            billing: Billing::Spot,
            reclaim: is_reclaimed
                .then(|| Box::new(ReclaimNotice { spot_status: "terminated".into(), reclaim_at: *runs_from + HOUR })),
            marker: tag.as_deref().map(|tag| Box::new(tag.into())),
            aside: None,
            place: None,
            gpus: 1,
            created_at: secs(*created_at),
            started_at: secs(*runs_from),
            stopped_at: is_reclaimed.then(|| secs(*runs_from + HOUR)).flatten(),
        }
    }

    fn rows(&self, is_wanted: impl Fn(&Machine) -> bool) -> Vec<Instance> {
        let machines = self.machines.borrow();
        let mut rows: Vec<Instance> =
            machines.iter().filter(|it| is_wanted(it)).map(|machine| self.row(machine)).collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    async fn answered<T>(&self, answer: T) -> Result<T, CloudError> {
        if self.hangs.take() {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }
}

fn error(effect: Effect) -> CloudError {
    let message = "the answer was lost".into();
    CloudError { kind: ErrorKind::Timeout, effect, not_found: false, call: "create".into(), message, hint: None }
}

impl CloudRead for Yard {
    fn abilities(&self) -> Abilities {
        Abilities { migrates: false, idempotent_create: true, forgets_ended: false }
    }

    async fn instances(&self, _: Progress<'_>) -> Result<Listing<Instance>, CloudError> {
        Ok(Listing::complete(self.rows(|_| true)))
    }

    async fn close_up(&self, id: &InstanceId) -> Result<Option<CloseUp>, CloudError> {
        let found = self.rows(|machine| machine.id == *id).into_iter().next();
        let connections = Connections::default();
        Ok(found.map(|instance| CloseUp { instance, endpoints: Vec::new(), connections, gpu_price: None }))
    }

    async fn marked(&self, marker: &str) -> Result<Vec<Instance>, CloudError> {
        Ok(self.rows(|machine| machine.tag.as_deref() == Some(marker)))
    }

    async fn prepare(&self, wanted: &[Wanted<'_>], _: &[Job], _: usize) -> Vec<Result<Prepared, Obstacle>> {
        let made_of = |id: &InstanceId| {
            let machines = self.machines.borrow();
            machines.iter().find(|it| it.id == *id).map(|it| it.made_of.clone()).ok_or(Obstacle::Gone)
        };
        let blueprint = |wanted: &Wanted<'_>| -> Result<Blueprint, Obstacle> {
            if let Some(kept) = wanted.kept {
                return Ok(kept.clone());
            }
            let payload = [("image".to_owned(), made_of(wanted.instance)?.into())].into_iter().collect();
            Ok(Blueprint { billing: Billing::Spot, notes: Vec::new(), payload })
        };
        let place = Place { product: "small".into(), cluster: "north".into() };
        let placements = vec![Placement {
            place,
            cluster_name: "North".into(),
            nearness: Nearness::Own,
            price: None,
            on_demand_price: None,
            stock: Stock::Unstated,
            words: "in the north".into(),
        }];
        let prepared = |wanted: &Wanted<'_>| -> Result<Prepared, Obstacle> {
            let blueprint = blueprint(wanted)?;
            Ok(Prepared {
                blueprint,
                placements: placements.clone(),
                gpus: 1,
                own_price: None,
                is_home_untried: true,
                tied_by: None,
                unread: None,
            })
        };
        wanted.iter().map(prepared).collect()
    }

    async fn offers(&self, _: &OfferQuery) -> Result<Vec<Offer>, CloudError> {
        Ok(Vec::new())
    }

    async fn fleet(&self, _: Progress<'_>) -> Result<Listing<ListedInstance>, CloudError> {
        Ok(Listing::complete(Vec::new()))
    }

    async fn metrics(
        &self,
        _: &InstanceId,
        _: Timestamp,
        _: Timestamp,
        _: Duration,
    ) -> Result<Option<Metrics>, CloudError> {
        Ok(None)
    }

    async fn ping(&self, _: Duration) -> Ping {
        Ping { answer: Ok(()), responded: true, date: None }
    }

    fn calls(&self) -> ProviderCalls {
        ProviderCalls::default()
    }
}

impl CloudWrite for Yard {
    async fn migrate(&self, _: &InstanceId, _: Guard<'_>) -> Result<(), CloudError> {
        self.migrations.set(self.migrations.get() + 1);
        Err(error(Effect::Refused))
    }

    async fn create(&self, order: Order<'_>, guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        if !(guard.may_send)() {
            return Err(error(Effect::NotSent));
        }
        if let Some(other) = self.says.take() {
            return Ok(other);
        }
        let known = self.marked(order.marker).await?.into_iter().next();
        let id = known.map_or_else(
            || {
                self.creations.set(self.creations.get() + 1);
                let id = InstanceId::new(&format!("new-{}", self.creations.get()));
                let now = self.clock.now();
                self.machines.borrow_mut().push(Machine {
                    id: id.clone(),
                    tag: Some(order.marker.to_owned()),
                    made_of: order.blueprint.payload["image"].as_str().unwrap_or_default().to_owned(),
                    created_at: now,
                    runs_from: now + Duration::from_secs(20),
                    is_reclaimed: false,
                });
                id
            },
            |known| known.id,
        );
        if self.lost_answers.get() > 0 {
            self.lost_answers.set(self.lost_answers.get() - 1);
            return Err(error(Effect::Possible));
        }
        self.answered(id).await
    }

    async fn delete(&self, id: &InstanceId, _: Guard<'_>) -> Result<(), CloudError> {
        self.machines.borrow_mut().retain(|machine| machine.id != *id);
        self.answered(()).await
    }
}

/// A reclaimed instance `a`, a running one `z`, and what happens to them.
struct Story {
    yard: Yard,
    store: SqliteStore,
    order: RecreateOrder,
}

impl Story {
    fn new(order: RecreateOrder) -> Self {
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let yard = Yard::new(clock.clone());
        yard.add("a", None, clock.now() - 3 * HOUR, true);
        yard.add("z", None, clock.now() - 3 * HOUR, false);
        Self { yard, store: SqliteStore::in_memory(clock.clone()).unwrap(), order }
    }

    async fn pass(&self) {
        let policy = Policy { recreate_order: self.order, ..Policy::default() };
        let blast_radius = BlastRadius { force: true, ..BlastRadius::default() };
        let limits = Limits { blast_radius, ..Limits::of(&policy, Mode::Real) };
        let world = World {
            cloud: &self.yard,
            store: &self.store,
            limits: &limits,
            clock: &self.yard.clock,
            stop: &Stop::default(),
            reporter: &Silent,
        };
        let ran = run::run(&world, &self.yard, &NoReceiver).await;
        assert!(matches!(ran, Ok(Ran::Ended(_))), "{ran:?}");
    }

    /// A pass that is killed once its next write has taken effect; its lease expires.
    async fn killed_pass(&self) {
        self.yard.hangs.set(true);
        assert!(tokio::time::timeout(Duration::from_secs(25), self.pass()).await.is_err(), "it was not killed");
        tokio::time::sleep(LEASE_LIFE).await;
    }

    /// After some more passes `a` has one replacement, made of the same and marked, and `z` is as it was.
    async fn ends_well(&self, creations: u32) {
        for _ in 0..4 {
            self.pass().await;
            tokio::time::sleep(Duration::from_secs(300)).await;
        }
        let rows = self.yard.rows(|_| true);
        let [new, z] = rows.as_slice() else { panic!("{rows:#?}") };
        let marker = replacement_name(&InstanceId::new("a"), "worker", "");
        assert_eq!((new.marker.as_ref().map(|it| it.as_str()), z.id.as_str()), (Some(marker.as_str()), "z"));
        assert_eq!((&new.status, &z.status), (&Status::Running, &Status::Running));
        assert!(self.yard.machines.borrow().iter().all(|machine| machine.made_of == "image-of-a"));
        assert_eq!((self.yard.creations.get(), self.yard.migrations.get()), (creations, 0));
    }
}

fn each_order<F: Future<Output = ()>>(story: impl Fn(Story) -> F) {
    for order in [RecreateOrder::CreateFirst, RecreateOrder::DeleteFirst] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async { story(Story::new(order)).await });
    }
}

#[test]
fn what_was_reclaimed_is_recreated_once() {
    each_order(|story| async move { story.ends_well(1).await });
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    for lost in [1, 2] {
        each_order(|story| async move {
            story.yard.lost_answers.set(lost);
            story.ends_well(1).await;
        });
    }
}

/// The answer names the old instance, or one that has nothing to do with it, and nothing was created.
#[test]
fn an_answer_with_the_id_of_another_is_not_believed() {
    for other in ["a", "z"] {
        each_order(|story| async move {
            story.yard.says.replace(Some(InstanceId::new(other)));
            story.ends_well(1).await;
        });
    }
}

#[test]
fn a_pass_killed_after_each_write_is_continued() {
    for kills in 1..=2 {
        each_order(|story| async move {
            for _ in 0..kills {
                story.killed_pass().await;
            }
            story.ends_well(1).await;
        });
    }
}

#[test]
fn a_replacement_is_adopted_by_its_tag() {
    each_order(|story| async move {
        let marker = replacement_name(&InstanceId::new("a"), "worker", "");
        story.yard.add("by-tag", Some(&marker), story.yard.clock.now() - HOUR, false);
        story.ends_well(0).await;
    });
}

#[test]
fn duplicates_are_retired() {
    each_order(|story| async move {
        let marker = replacement_name(&InstanceId::new("a"), "worker", "");
        for (id, secs) in [("by-tag-1", 3600), ("by-tag-2", 3590)] {
            let created_at = story.yard.clock.now() - Duration::from_secs(secs);
            story.yard.add(id, Some(&marker), created_at, false);
        }
        story.ends_well(0).await;
    });
}
