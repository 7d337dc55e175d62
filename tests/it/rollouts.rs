//! Rollouts in virtual time: the real client, plan, journal, records, lease and gate over a simulated provider whose
//! instances run an application that answers by a script. What the world holds in the end is what counts.

use std::collections::BTreeMap;
use std::time::Duration;

use novita_sim::{App, Change, Condition, DAWN_MS, InProcess, Load, Machine, Op, Outcome, Spec, World};
use respot::act::Limits;
use respot::cli::RolloutVerb;
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
use respot::commands::Failure;
use respot::commands::rollout::{self, Drive, Stepped};
use respot::commands::run;
use respot::core::pass::safety::BlastRadius;
use respot::core::rollout::course::{Course, Fleet, MemberState, RollbackScope, RolloutEnd};
use respot::core::rollout::findings::Terms;
use respot::core::world::policy::{Policy, Scope, Selector};
use respot::core::world::probe::Probe;
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::{self, Mode};
use tokio::time::{Instant, sleep};

use crate::simulation::store::Memory;

/// The schedule calls so often.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// A fleet, a store and a schedule.
pub(crate) struct Scene {
    pub(crate) provider: InProcess,
    pub(crate) store: Memory,
    pub(crate) clock: Clock,
    pub(crate) policy: Policy,
    pub(crate) terms: Terms,
    pub(crate) course: Course,
}

/// An application whose median answer takes 70 ms, so that 7 % more are a degradation of 4.9 %.
pub(crate) fn app() -> App {
    App::http(8080).base_us(70_000).jitter_us(1_000)
}

pub(crate) fn web(number: usize, app: App) -> Spec {
    Spec::running(&format!("web-{number}")).billing("onDemand").load(Load::Stable(40)).app(app)
}

impl Scene {
    /// So many on-demand instances, each with this application.
    pub(crate) fn of(count: usize, app: &App) -> Self {
        let mut world = World::new(7);
        for number in 0..count {
            world.add(web(number, app.clone()));
        }
        Self::on(world)
    }

    pub(crate) fn on(world: World) -> Self {
        Self {
            provider: InProcess::new(world),
            store: Memory::new(7),
            clock: Clock::starting_at(Timestamp::from_millis(DAWN_MS)),
            policy: Policy::default(),
            terms: Terms {
                may_lose: vec![Selector::parse("*").unwrap()],
                probe: Some(Probe::parse("http:8080/").unwrap()),
                ..Terms::default()
            },
            course: Course { samples: 30, ..Course::default() },
        }
    }

    pub(crate) async fn drive<T>(
        &self,
        work: impl AsyncFnOnce(Drive<'_, Client<InProcess>, Client<InProcess>, Memory, NoReceiver, InProcess>) -> T,
    ) -> T {
        let (cloud, stop) = (Client::new(self.provider.clone()), Stop::default());
        let limits = Limits::of(&self.policy, Mode::Real);
        let world = respot::act::World {
            cloud: &cloud,
            store: &self.store,
            limits: &limits,
            clock: &self.clock,
            stop: &stop,
            reporter: &Silent,
        };
        let drive = Drive {
            world: &world,
            writer: &cloud,
            notify: &NoReceiver,
            prober: &self.provider,
            terms: &self.terms,
            course: &self.course,
            hook: None,
        };
        work(drive).await
    }

    /// One call of the schedule: `respot rollout --yes`.
    pub(crate) async fn call(&self) -> Result<Stepped, Failure> {
        self.drive(async |drive| match rollout::prospect(&drive, false).await? {
            None => drive.step().await,
            Some(analysis) => drive.start(&analysis).await,
        })
        .await
    }

    /// One pass of `respot run` beside it.
    pub(crate) async fn pass(&self) {
        let (cloud, stop) = (Client::new(self.provider.clone()), Stop::default());
        let blast_radius = BlastRadius { force: true, ..BlastRadius::default() };
        let rules = Limits { blast_radius, ..Limits::of(&self.policy, Mode::Real) };
        run::run(
            &respot::act::World {
                cloud: &cloud,
                store: &self.store,
                limits: &rules,
                clock: &self.clock,
                stop: &stop,
                reporter: &Silent,
            },
            &cloud,
            &NoReceiver,
        )
        .await
        .unwrap();
    }

    async fn tell(&self, verb: RolloutVerb) -> Stepped {
        self.drive(async |drive| drive.apply(verb).await).await.unwrap()
    }

    /// The schedule calls until the rollout is over; answers what each call said.
    pub(crate) async fn run(&self) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..200 {
            let stepped = self.call().await.unwrap();
            said.push(stepped.message);
            match &stepped.fleet {
                Some(fleet) if fleet.rollout.state.end().is_none() => sleep(INTERVAL).await,
                _ => return said,
            }
        }
        panic!("it does not end: {said:#?}");
    }

    pub(crate) async fn fleet(&self) -> Fleet {
        records::rollout(&self.store, Timestamp::LATEST).await.unwrap().0.expect("a rollout")
    }

    /// The living instances by their billing.
    pub(crate) fn living(&self) -> BTreeMap<String, usize> {
        let world = self.provider.world();
        let mut living = BTreeMap::new();
        for machine in world.machines().filter(|it| Machine::is_alive(it)) {
            *living.entry(machine.billing_mode.clone()).or_default() += 1;
        }
        living
    }

    pub(crate) fn applied(&self, op: Op) -> usize {
        self.provider.world().log().iter().filter(|it| it.op == op && it.outcome == Outcome::Applied).count()
    }
}

fn living(modes: &[(&str, usize)]) -> BTreeMap<String, usize> {
    modes.iter().map(|(mode, count)| ((*mode).to_owned(), *count)).collect()
}

/// What a rollout of so many instances with this application comes to.
struct Story {
    said: Vec<String>,
    fleet: Fleet,
    living: BTreeMap<String, usize>,
    creates: usize,
    deletes: usize,
}

impl Scene {
    async fn story(&self) -> Story {
        let said = self.run().await;
        let (fleet, living) = (self.fleet().await, self.living());
        Story { said, fleet, living, creates: self.applied(Op::Create), deletes: self.applied(Op::Delete) }
    }
}

impl Story {
    fn ends(&self, end: RolloutEnd, modes: &[(&str, usize)], what: &str) {
        let Self { said, fleet, living: found, .. } = self;
        assert_eq!(fleet.rollout.state.end(), Some(end), "{what}: {said:#?}\n{fleet:#?}");
        assert_eq!(*found, living(modes), "{what}: {said:#?}");
        let why = fleet.rollout.state.why();
        assert_eq!(why.is_none(), end == RolloutEnd::Completed, "{what}: {why:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_rollout_moves_everything_once() {
    for (count, stages) in [(40, vec![4, 16, 20]), (1, vec![1, 0, 0]), (3, vec![1, 1, 1]), (9, vec![1, 4, 4])] {
        let story = Scene::of(count, &app()).story().await;
        story.ends(RolloutEnd::Completed, &[("spot", count)], &count.to_string());
        let Story { fleet, creates, deletes, .. } = story;
        assert_eq!(fleet.rollout.stages.iter().map(|it| it.instances).collect::<Vec<_>>(), stages, "{count}");
        assert_eq!((creates, deletes), (count, count), "{count}");
        assert_eq!(fleet.count(MemberState::Moved), count);
        // What the provider says of their load stands beside the verdict.
        let loads = fleet.members.iter().map(|it| (it.load_before, it.load_now));
        assert!(loads.eq(std::iter::repeat_n((Some(40_00), Some(40_00)), count)), "{count}: {fleet:#?}");
    }
}

/// How the application behaves on spot, how the rollout ends, how many of 9 are on spot then, and what is said of it.
#[tokio::test(start_paused = true)]
async fn the_gate_decides() {
    let on_spot = |change: Change| app().spot(change);
    // Of 100 samples one fails, as many as before.
    let rows: [(&str, App, RolloutEnd, &[(&str, usize)], &str); 12] = [
        ("4.99 %", on_spot(Change::to_us(74_990)), RolloutEnd::Completed, &[("spot", 9)], ""),
        ("5.00 %", on_spot(Change::to_us(75_000)), RolloutEnd::RolledBack, &[("onDemand", 9)], "degraded by 5.00 %"),
        ("5.01 %", on_spot(Change::to_us(75_010)), RolloutEnd::RolledBack, &[("onDemand", 9)], "degraded by 5.01 %"),
        ("faster", on_spot(Change::to_us(50_000)), RolloutEnd::Completed, &[("spot", 9)], ""),
        (
            "only when a third of what runs is spot",
            on_spot(Change::to_us(90_000).when(Condition::moved_at_least(33))),
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "the 50 % stage failed: degraded by 20.00 %",
        ),
        ("errors", on_spot(Change::errors(2_000)), RolloutEnd::RolledBack, &[("onDemand", 9)], "too many samples fail"),
        ("never answers", on_spot(Change::hangs()), RolloutEnd::RolledBack, &[("onDemand", 9)], "0 of 1 moves"),
        (
            "dies while it soaks",
            on_spot(Change::hangs().when(Condition::after_samples(20))),
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "",
        ),
        (
            "fails for good while it soaks",
            on_spot(Change::errors(10_000).when(Condition::after_samples(20))),
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "",
        ),
        (
            "gets better on both",
            app().all(Change::to_us(60_000).when(Condition::from_ms(DAWN_MS + 300_000))),
            RolloutEnd::Completed,
            &[("spot", 9)],
            "",
        ),
        ("boots for two minutes", app().boot_ms(120_000), RolloutEnd::Completed, &[("spot", 9)], ""),
        (
            "boots for two hours",
            on_spot(Change::default()).boot_ms(7_200_000),
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "0 of 1",
        ),
    ];
    for (what, app, end, modes, reason) in rows {
        let mut scene = Scene::of(9, &app);
        scene.course.samples = 100;
        let story = scene.story().await;
        story.ends(end, modes, what);
        let why = story.fleet.rollout.state.why().unwrap_or_default();
        assert!(why.contains(reason), "{what}: {why}");
    }
}

/// What cannot be told is held, and rolled back in the end: never a pass.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_held_and_then_rolled_back() {
    let constant = App::http(8080).base_us(70_000);
    let scene = Scene::of(3, &app().spot(Change::default()));
    scene.call().await.unwrap();
    sleep(INTERVAL).await;
    scene.call().await.unwrap();
    // From now on every answer takes the same time to the microsecond: something answers that is not the application.
    let image = scene.provider.world().machines().next().unwrap().image_url.clone();
    scene.provider.world().set_app(&image, constant);
    let story = scene.story().await;
    story.ends(RolloutEnd::RolledBack, &[("onDemand", 3)], "constant");
    assert!(story.said.iter().any(|said| said.contains("is held")), "{:#?}", story.said);
    let why = story.fleet.rollout.state.why().unwrap();
    assert!(why.contains("the gate was inconclusive for 60 min"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn without_data_nothing_is_begun() {
    for (what, app) in [("never answers", app().hangs()), ("fails", app().errors(10_000))] {
        let scene = Scene::of(3, &app);
        let said = scene.run().await;
        assert_eq!(said.len(), 1, "{what}: {said:?}");
        assert!(said[0].starts_with("nothing to move"), "{what}: {said:?}");
        assert_eq!(scene.living(), living(&[("onDemand", 3)]), "{what}");
        assert_eq!(scene.applied(Op::Create), 0, "{what}");
    }
}

/// What happens after so many calls of the schedule, in the world of nine.
#[tokio::test(start_paused = true)]
async fn trouble_on_the_way() {
    type Trouble = fn(&Scene);
    let spot_sold_out: Trouble = |scene| {
        scene.provider.world().product_mut("4090.16c62g").unwrap().spot_sold_out = true;
    };
    let one_reclaimed: Trouble = |scene| {
        let mut world = scene.provider.world();
        let id = world.machines().find(|it| it.billing_mode == "spot").map(|it| it.id.clone());
        assert!(id.is_none_or(|id| world.reclaim_now(&id)));
    };
    let one_announced: Trouble = |scene| {
        let mut world = scene.provider.world();
        let id = world.machines().find(|it| it.billing_mode == "spot").map(|it| it.id.clone());
        assert!(id.is_some_and(|id| world.reclaim(&id)));
    };
    let lies: Trouble = |scene| scene.provider.world().rules_mut().spot_creates_become = Some("onDemand");
    let says_nothing: Trouble = |scene| scene.provider.world().rules_mut().spot_creates_become = Some("");
    let quota: Trouble = |scene| scene.provider.world().rules_mut().instance_quota = Some(9);
    let rows: [(&str, usize, Trouble, RolloutEnd, &[(&str, usize)], &str); 8] = [
        (
            "no stock from the beginning on",
            1,
            spot_sold_out,
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "the 10 % stage failed",
        ),
        (
            "no stock for the second stage",
            3,
            spot_sold_out,
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "the 50 % stage failed",
        ),
        (
            "reclaimed while the first stage soaks",
            2,
            one_reclaimed,
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "the 10 % stage",
        ),
        (
            "announced while the last stage soaks",
            7,
            one_announced,
            RolloutEnd::Completed,
            &[("onDemand", 1), ("spot", 8)],
            "",
        ),
        ("reclaimed while the last stage soaks", 7, one_reclaimed, RolloutEnd::RolledBack, &[("onDemand", 9)], ""),
        (
            "billed otherwise",
            1,
            lies,
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "is billed as \"onDemand\", not as spot",
        ),
        (
            "billed nobody knows how",
            1,
            says_nothing,
            RolloutEnd::RolledBack,
            &[("onDemand", 9)],
            "is billed as \"\", not as spot",
        ),
        ("no room for two", 1, quota, RolloutEnd::RolledBack, &[("onDemand", 9)], "the 10 % stage failed"),
    ];
    for (what, calls, trouble, end, modes, reason) in rows {
        let scene = Scene::of(9, &app());
        for _ in 0..calls {
            scene.call().await.unwrap();
            sleep(INTERVAL).await;
        }
        trouble(&scene);
        let story = scene.story().await;
        story.ends(end, modes, what);
        let why = story.fleet.rollout.state.why().unwrap_or_default();
        assert!(why.contains(reason), "{what}: {why}");
    }
}

/// One of forty taken back while its stage soaks is 5 % of the stage: the others go on, and it stays on-demand.
#[tokio::test(start_paused = true)]
async fn one_of_twenty_may_fail() {
    let scene = Scene::of(40, &app());
    for _ in 0..5 {
        scene.call().await.unwrap();
        sleep(INTERVAL).await;
    }
    // The last stage is of twenty.
    while scene.fleet().await.rollout.state.stage() != Some(2) {
        scene.call().await.unwrap();
        sleep(INTERVAL).await;
    }
    scene.call().await.unwrap();
    sleep(INTERVAL).await;
    let taken = {
        let mut world = scene.provider.world();
        let newest = world.machines().filter(|it| it.billing_mode == "spot").max_by_key(|it| it.created_at);
        let id = newest.map(|it| it.id.clone()).unwrap();
        world.reclaim_now(&id);
        id
    };
    let story = scene.story().await;
    story.ends(RolloutEnd::Completed, &[("onDemand", 1), ("spot", 39)], "one of twenty");
    let failed = story.fleet.members.iter().find(|it| it.state == MemberState::Failed).unwrap();
    assert!(failed.note.as_deref().unwrap().contains(&taken), "{failed:?}");
}

/// A person holds it, goes on, or ends it, after any number of calls.
#[tokio::test(start_paused = true)]
async fn a_person_has_the_last_word() {
    for calls in 1..12 {
        let scene = Scene::of(9, &app());
        for _ in 0..calls {
            scene.call().await.unwrap();
            sleep(INTERVAL).await;
        }
        scene.tell(RolloutVerb::Pause).await;
        let (before, log) = (scene.fleet().await, scene.provider.world().log().len());
        for _ in 0..20 {
            scene.call().await.unwrap();
            sleep(INTERVAL).await;
        }
        assert_eq!(scene.fleet().await, before, "{calls}");
        assert_eq!(scene.provider.world().log().len(), log, "{calls}: a paused rollout touched the world");
        scene.tell(RolloutVerb::Resume).await;
        if calls % 2 == 0 {
            scene.story().await.ends(
                RolloutEnd::Completed,
                &[("spot", 9)],
                &format!("{calls} calls, then held and resumed"),
            );
            continue;
        }
        scene.call().await.unwrap();
        sleep(INTERVAL).await;
        let over = scene.fleet().await.rollout.state.end();
        scene.tell(RolloutVerb::Abort { wait: false }).await;
        sleep(INTERVAL).await;
        let story = scene.story().await;
        match over {
            // What is over stays as it is.
            Some(end) => story.ends(end, &[("spot", 9)], &format!("{calls} calls, then over")),
            None => story.ends(RolloutEnd::Aborted, &[("onDemand", 9)], &format!("{calls} calls, then aborted")),
        }
    }
}

/// While it soaks one bad look has to be confirmed by the next; the gate itself decides at once.
/// Steps by a clock that is a year ahead delay nothing: what they dated counts from the next step on.
#[tokio::test(start_paused = true)]
async fn a_step_with_the_clock_a_year_ahead_delays_nothing() {
    let mut scene = Scene::of(1, &app());
    scene.call().await.unwrap();
    let (now, begun) = (scene.clock.now(), Instant::now());
    for _ in 0..3 {
        scene.clock = Clock::starting_at(now + Duration::from_secs(365 * 86_400) + begun.elapsed());
        scene.call().await.unwrap();
        sleep(INTERVAL).await;
    }
    scene.clock = Clock::starting_at(now + begun.elapsed());
    let right_again = Instant::now();
    scene.run().await;
    assert_eq!(scene.living(), BTreeMap::from([("spot".to_owned(), 1)]));
    let soaks: Duration = scene.course.soaks.iter().sum();
    assert!(right_again.elapsed() < soaks + 6 * INTERVAL, "{:?}", right_again.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_bad_minute_while_it_soaks_is_no_rollback() {
    let minute = |from: i64| Condition::from_ms(DAWN_MS + from * 60_000);
    let until = |to: i64| Condition::before_ms(DAWN_MS + to * 60_000);
    // The first stage is moved by the sixth minute and soaks twelve; the schedule looks in the eleventh and the sixteenth,
    // and decides in the twenty-first.
    let rows: [(&str, Change, RolloutEnd); 4] = [
        ("a bad look", Change::to_us(80_000).when(minute(9)).when(until(12)), RolloutEnd::Completed),
        ("two of them", Change::to_us(80_000).when(minute(9)).when(until(17)), RolloutEnd::RolledBack),
        ("at the gate", Change::to_us(80_000).when(minute(19)).when(until(23)), RolloutEnd::RolledBack),
        ("a plainly bad look", Change::to_us(100_000).when(minute(9)).when(until(12)), RolloutEnd::RolledBack),
    ];
    for (what, change, end) in rows {
        let mut scene = Scene::of(3, &app().spot(change));
        scene.course.soaks = vec![Duration::from_secs(12 * 60); 3];
        let story = scene.story().await;
        assert_eq!(story.fleet.rollout.state.end(), Some(end), "{what}: {:#?}", story.said);
    }
}

/// With `--rollback stage` what passed before stays.
#[tokio::test(start_paused = true)]
async fn a_stage_goes_back_alone_if_that_is_wanted() {
    let slow = app().spot(Change::to_us(90_000).when(Condition::moved_at_least(33)));
    let mut scene = Scene::of(9, &slow);
    scene.course.rollback = RollbackScope::Stage;
    let story = scene.story().await;
    story.ends(RolloutEnd::RolledBack, &[("onDemand", 8), ("spot", 1)], "one stage");
    assert_eq!((story.fleet.count(MemberState::Moved), story.fleet.count(MemberState::Restored)), (1, 4));
}

/// Only the schedule, for days: stages that soak a day each, passes every quarter of an hour beside it.
#[tokio::test(start_paused = true)]
async fn cron_alone_brings_it_to_the_end() {
    let mut scene = Scene::of(10, &app());
    scene.course.soaks = vec![Duration::from_secs(24 * 3600); 3];
    scene.course.samples = 30;
    let mut days = 0.0;
    loop {
        let stepped = scene.call().await.unwrap();
        scene.pass().await;
        if stepped.fleet.is_some_and(|it| it.rollout.state.end().is_some()) {
            break;
        }
        sleep(Duration::from_secs(900)).await;
        days += 900.0 / 86_400.0;
        assert!(days < 10.0, "it does not end");
    }
    assert!(days > 3.0, "{days}");
    let story = scene.story().await;
    story.ends(RolloutEnd::Completed, &[("spot", 10)], "cron");
    // And what is spot now is looked after like any other.
    let id = {
        let mut world = scene.provider.world();
        let id = world.machines().find(|it| it.billing_mode == "spot").unwrap().id.clone();
        world.reclaim_now(&id);
        id
    };
    sleep(Duration::from_secs(60)).await;
    scene.pass().await;
    assert_eq!(scene.provider.world().accepted_migrations_of(&id), 1);
}

/// What a rollout moves is left alone by the passes beside it, whatever happens to it.
#[tokio::test(start_paused = true)]
async fn passes_leave_alone_what_is_moved() {
    for scope in [Scope::Spot, Scope::All] {
        let mut scene = Scene::of(3, &app());
        scene.policy.scope = scope;
        for _ in 0..3 {
            scene.call().await.unwrap();
            sleep(INTERVAL).await;
        }
        let taken = {
            let mut world = scene.provider.world();
            let id = world.machines().find(|it| it.billing_mode == "spot").unwrap().id.clone();
            world.reclaim_now(&id);
            id
        };
        for _ in 0..3 {
            scene.pass().await;
            sleep(INTERVAL).await;
        }
        let migrations = scene.provider.world().migrations_of(&taken);
        assert_eq!(migrations, 0, "{scope:?}: a pass migrated what the rollout decides about");
        scene.story().await.ends(RolloutEnd::RolledBack, &[("onDemand", 3)], &format!("{scope:?}"));
    }
}

/// Savings: both are paid for while they run side by side, and what counts is what the provider gave back.
#[tokio::test(start_paused = true)]
async fn savings_are_those_of_prices_that_were_read_back() {
    let scene = Scene::of(1, &app());
    scene.call().await.unwrap();
    let report = scene.fleet().await;
    let report = report.report(scene.clock.now());
    assert!((report.estimated_savings.hourly - 0.335).abs() < 1e-9 && report.realized_savings.is_none());
    assert!((report.estimated_savings.annual - 0.335 * 8760.0).abs() < 1e-6);
    let fleet = scene.story().await.fleet;
    let (ready, retired) = (fleet.members[0].ready_at.unwrap(), fleet.members[0].retired_at.unwrap());
    let both = i128::from(retired.as_millis() - ready.as_millis());
    // In the end the time side by side has cost 0.335 USD an hour, and an hour alone saves as much.
    let expected = |hours_alone: i128| 33_500 * (hours_alone * 3_600_000 - both) / 3_600_000;
    for hours in [0, 2, 1000] {
        let later = retired + Duration::from_secs(3600 * u64::try_from(hours).unwrap());
        let realised = fleet.realized(later).map(|amount| i128::from(amount.micros()));
        assert_eq!(realised, Some(10 * expected(hours)), "{hours} h");
    }
}
