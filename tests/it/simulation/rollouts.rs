//! Seeded histories of rollouts: on-demand instances with an application that does well on spot, or does not, while
//! everything goes wrong that goes wrong for passes, passes are made beside, and a person interferes.
//!
//! One is replayed alone with `SIM_ROLLOUT=17 cargo test --test it simulation::rollouts`; `SIM_ROLLOUTS=100000` makes
//! more of them than usual.

mod cast;
mod court;
mod mishaps;
mod seams;
mod tally;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use cast::{Cast, Taste};
use futures_util::future::join;
use novita_sim::{DAWN_MS, InProcess, Op, Outcome as Came};
use respot::act::Limits;
use respot::cli::RolloutVerb;
use respot::cloud::novita::client::Client;
use respot::commands::Failure;
use respot::commands::rollout::{self, Drive, Stepped};
use respot::commands::run::{self, Ran};
use respot::core::pass::safety::BlastRadius;
use respot::core::rollout::course::{Course, Fleet, Rollout, State};
use respot::core::rollout::findings::Terms;
use respot::core::world::policy::{Halves, Policy};
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::{Event, Reporter, Silent};
use respot::stop::Stop;
use respot::store::records::{self, Mode};
use seams::{Dial, Line};
use tally::{Tally, quiet};
use tokio::time::sleep;

use super::clocks::Machines;
use super::store::{Memory, Noted};
use super::{Killed, Told};

const HISTORIES: u64 = 300;

/// A deliberately broken build, made at the seams of the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    No,
    /// The journal hears of a creation after the call.
    IntentAfterCall,
    /// Successors are not recognised by their names.
    MarkerIgnored,
    /// What soaks is retired: no gate, no time.
    GatePassed,
    /// Whatever is measured, it is fine.
    Flattered,
    /// Successors are said to be spot, whatever they are.
    SpotIsClaimed,
}

#[test]
#[expect(clippy::disallowed_macros, reason = "says how much was simulated")]
fn no_rollout_loses_or_doubles_anything() {
    let (tally, verdicts) = simulate(seeds(), Broken::No);
    println!("{tally:#?}");
    let mut kinds: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for (seed, verdict) in &verdicts {
        let kind: String = verdict.split(": ").next().unwrap_or_default().to_owned();
        kinds.entry(kind).or_insert((0, *seed)).0 += 1;
    }
    for (kind, (count, seed)) in &kinds {
        println!("{count} x {kind}, first with seed {seed}");
    }
    for (seed, verdict) in verdicts.iter().take(20) {
        println!("seed {seed}: {verdict}");
    }
    if let Some((seed, verdict)) = verdicts.first() {
        panic!("{} histories went wrong; seed {seed}: {verdict}", verdicts.len());
    }
    if seeds().count() >= 300 {
        quiet(&tally);
    }
}

/// The test of the test: what is broken on purpose must be noticed.
#[test]
fn broken_rollouts_are_caught() {
    for (broken, sign) in [
        (Broken::IntentAfterCall, "intents in the journal"),
        (Broken::MarkerIgnored, "instances live"),
        (Broken::GatePassed, "before its successor had soaked"),
        (Broken::Flattered, "does badly on spot"),
        (Broken::SpotIsClaimed, "is billed as"),
    ] {
        let is_caught = (0..20).any(|part| {
            let (_, verdicts) = simulate(20 * part..20 * (part + 1), broken);
            verdicts.iter().any(|(_, verdict)| verdict.contains(sign))
        });
        assert!(is_caught, "{broken:?} went unnoticed");
    }
}

/// Runs the histories on all cores; answers what was wrong, by seed.
fn simulate(seeds: Range<u64>, broken: Broken) -> (Tally, Vec<(u64, String)>) {
    let next = Mutex::new(seeds);
    let result = Mutex::new((Tally::default(), Vec::new()));
    let work = || {
        loop {
            let Some(seed) = next.lock().unwrap().next() else { break };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let mut tally = Tally::default();
            tally.note("histories");
            let verdict = runtime.block_on(async { History::new(seed, broken).live(&mut tally).await });
            let mut result = result.lock().unwrap();
            for (what, count) in tally.0 {
                *result.0.0.entry(what).or_default() += count;
            }
            result.1.extend(verdict.err().map(|verdict| (seed, verdict)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let (tally, mut verdicts) = result.into_inner().unwrap();
    verdicts.sort();
    (tally, verdicts)
}

#[expect(clippy::disallowed_methods, reason = "a test may be told which history to replay")]
fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SIM_ROLLOUT") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_ROLLOUTS").unwrap_or(HISTORIES),
    }
}

/// One world, one store, one rollout or several, and passes beside.
struct History {
    chance: fastrand::Rng,
    line: Line,
    store: Memory,
    machines: Machines,
    policy: Policy,
    terms: Terms,
    course: Course,
    taste: Taste,
    /// The machines that nobody may touch.
    untouchable: Vec<String>,
    /// The machines that the provider took away for good, or that their user stopped for good.
    excused: BTreeSet<String>,
    flushed: bool,
    /// Whether nothing is in the way of a rollout but kills and pauses.
    is_easy: bool,
    /// How rough it gets, 0 to 2.
    weather: u8,
    broken: Broken,
    samples: Cell<u64>,
}

impl History {
    fn new(seed: u64, broken: Broken) -> Self {
        // The client's jitter and the job ids come from the thread's generator.
        fastrand::seed(seed);
        let mut chance = fastrand::Rng::with_seed(seed);
        let Cast { world, untouchable, taste, policy, terms, course, is_easy } = Cast::draw(&mut chance, seed);
        let store = Memory::new(seed);
        match broken {
            Broken::IntentAfterCall => store.delay_intents(),
            Broken::GatePassed => store.pass_gates(),
            Broken::No | Broken::MarkerIgnored | Broken::Flattered | Broken::SpotIsClaimed => {}
        }
        let weather = chance.u8(0..3);
        let line = Line { inner: InProcess::new(world), broken };
        let is_easy = is_easy && weather == 0;
        let (excused, flushed, samples) = (BTreeSet::new(), false, Cell::new(0));
        Self {
            chance,
            line,
            store,
            machines: Machines::draw(seed, false),
            policy,
            terms,
            course,
            taste,
            untouchable,
            excused,
            flushed,
            is_easy,
            weather,
            broken,
            samples,
        }
    }

    /// Between two calls of the schedule: the shortest soak decides.
    fn interval(&self) -> Duration {
        let least = self.course.soaks.iter().min().copied().unwrap_or_default();
        (least / 8).max(Duration::from_secs(300))
    }

    async fn live(mut self, tally: &mut Tally) -> Result<(), String> {
        for _ in 0..self.chance.u32(5..30) {
            self.trouble(tally);
            self.round(tally).await;
            sleep(self.interval().mul_f64(0.2 + self.chance.f64())).await;
            if self.chance.u8(0..25) == 0 {
                // Nobody calls for days: the weekend, an outage of the schedule.
                tally.note("days without a call");
                sleep(Duration::from_secs(self.chance.u64(3600..300_000))).await;
            }
        }
        self.calm();
        if self.is_paused().await {
            let verb = if self.chance.u8(0..4) == 0 { RolloutVerb::Abort { wait: false } } else { RolloutVerb::Resume };
            self.say(verb, tally).await;
        }
        self.to_its_end(tally).await?;
        if self.chance.u8(0..4) == 0 {
            tally.note("second rollouts");
            note(tally, "steps", &self.call(true).await);
            self.to_its_end(tally).await?;
        }
        // Whatever is spot now is an instance like any other.
        for _ in 0..3 {
            note(tally, "passes", &self.pass(Halves::Both).await);
            sleep(Duration::from_secs(600)).await;
        }
        let reclaimed = self.line.inner.world().reclaim_wave(0.5).len();
        tally.count("reclaimed in the end", reclaimed);
        for _ in 0..2 {
            sleep(Duration::from_secs(25 * 3600)).await;
            for _ in 0..5 {
                note(tally, "passes", &self.pass(Halves::Both).await);
                sleep(Duration::from_secs(900)).await;
            }
        }
        self.judge(tally).await
    }

    /// Calm calls until the rollout is over.
    async fn to_its_end(&self, tally: &mut Tally) -> Result<(), String> {
        for round in 0..300 {
            let stepped = self.call(false).await;
            note(tally, "steps", &stepped);
            let stepped = stepped.map_err(|failure| format!("a calm call fails: {}", failure.message))?;
            if round % 3 == 0 {
                note(tally, "passes", &self.pass(Halves::Both).await);
            }
            match &stepped.fleet {
                Some(fleet) if fleet.rollout.state.end().is_none() => sleep(self.interval()).await,
                _ => return Ok(()),
            }
        }
        let fleet = records::rollout(&self.store, Timestamp::LATEST).await.unwrap().0;
        Err(format!("it does not end: {fleet:?}"))
    }

    async fn is_paused(&self) -> bool {
        records::rollout(&self.store, Timestamp::LATEST)
            .await
            .unwrap()
            .0
            .is_some_and(|fleet| fleet.rollout.paused_at.is_some())
    }

    fn calm(&self) {
        let mut world = self.line.inner.world();
        world.clear_faults();
        world.set_stock(u32::MAX);
        mishaps::sell_spot(&mut world, true);
        let rules = world.rules_mut();
        (rules.fail_migrations, rules.stuck_creates, rules.exit_after_create) = (0.0, 0.0, 0.0);
        rules.balance = true;
        rules.refuse_delete_while.clear();
        if self.broken != Broken::SpotIsClaimed {
            rules.spot_creates_become = None;
        }
        drop(world);
        self.store.shake(0);
    }

    /// What the schedule and people do.
    async fn round(&mut self, tally: &mut Tally) {
        let mishap = self.mishap();
        let retires = self.last(|it| matches!(it.state, State::Retiring { .. })) == Some(true);
        match self.chance.u8(0..24) {
            0 => self.say(RolloutVerb::Pause, tally).await,
            1 if retires || self.chance.u8(0..3) == 0 => self.say(RolloutVerb::Abort { wait: false }, tally).await,
            // Halfway through the deletions of on-demand instances somebody changes their mind.
            2 | 3 if retires => {
                let polls = self.polls();
                tally.note("steps");
                if let Some(ended) = (Killed { pass: Box::pin(self.call(false)), polls }).await {
                    errors(tally, &ended);
                }
                self.say(RolloutVerb::Abort { wait: false }, tally).await;
            }
            2 if self.chance.bool() => {
                tally.note("second rollouts");
                note(tally, "steps", &self.call(true).await);
            }
            2..=5 => {
                let (one, two) = join(self.call(false), self.pass(Halves::Both)).await;
                note(tally, "steps", &one);
                note(tally, "passes", &two);
            }
            6 => {
                let (one, two) = join(self.call(false), self.call(false)).await;
                note(tally, "steps", &one);
                note(tally, "steps", &two);
            }
            7..=10 => {
                let polls = self.polls();
                tally.note("steps");
                match (Killed { pass: Box::pin(self.call(false)), polls }).await {
                    Some(ended) => errors(tally, &ended),
                    None => tally.note("killed steps"),
                }
            }
            11 => {
                let polls = self.polls();
                tally.note("passes");
                match (Killed { pass: Box::pin(self.pass(Halves::Both)), polls }).await {
                    Some(ended) => errors(tally, &ended),
                    None => tally.note("killed passes"),
                }
            }
            12 => {
                let mut suspended = Killed { polls: self.polls(), pass: Box::pin(self.call(false)) };
                if let Some(ended) = (&mut suspended).await {
                    return note(tally, "steps", &ended);
                }
                tally.note("suspended steps");
                sleep(Duration::from_secs(self.chance.clone().u64(1..90))).await;
                note(tally, "steps", &self.call(false).await);
                suspended.polls = u32::MAX;
                note(tally, "steps", &suspended.await.unwrap());
            }
            13 | 14 => note(tally, "passes", &self.pass(Halves::Both).await),
            _ => {
                let call = self.call(false);
                let strike = async {
                    match mishap {
                        Some((after, mishap)) => {
                            sleep(after).await;
                            let mut world = self.line.inner.world();
                            mishap.strike(&mut world, &mut self.chance.clone(), &self.untouchable)
                        }
                        None => Vec::new(),
                    }
                };
                let (called, excused) = join(call, strike).await;
                note(tally, "steps", &called);
                if let Some((_, mishap)) = mishap {
                    tally.note(mishap.as_str());
                }
                self.excused.extend(excused);
            }
        }
        if self.chance.u8(0..3) == 0 && self.last(|it| it.paused_at.is_some()) == Some(true) {
            self.say(RolloutVerb::Resume, tally).await;
        }
    }

    /// The rollout as it was stored last; a store that is shaken may not answer.
    fn last<T>(&self, ask: impl FnOnce(&Rollout) -> T) -> Option<T> {
        let rollouts = self.store.rollouts.borrow();
        let last = rollouts.iter().rev().find_map(|(_, noted)| match noted {
            Noted::Rollout(rollout) => Some(rollout),
            _ => None,
        });
        last.map(|rollout| ask(rollout))
    }

    async fn say(&mut self, verb: RolloutVerb, tally: &mut Tally) {
        self.is_easy &= !matches!(verb, RolloutVerb::Abort { .. });
        tally.note(match verb {
            RolloutVerb::Pause => "pauses",
            RolloutVerb::Resume => "resumes",
            _ => "aborts",
        });
        note(tally, "steps", &self.tell(verb).await);
    }

    /// After so many steps something happens to a call: few, or as many as a long one takes.
    fn polls(&mut self) -> u32 {
        let most = [60, 300, 1500][self.chance.usize(0..3)];
        self.chance.u32(1..most)
    }

    async fn drive<T>(
        &self,
        work: impl AsyncFnOnce(Drive<'_, Client<Line>, Client<Line>, Memory, NoReceiver, Dial<'_>>) -> T,
    ) -> T {
        let (cloud, stop) = (Client::new(self.line.clone()), Stop::default());
        let clock = self.machines.clock(&self.line.inner.world());
        let blast_radius = BlastRadius { force: true, ..BlastRadius::default() };
        let dial = Dial { history: self };
        let told = Steps;
        let reporter: &dyn Reporter = if seeds().count() == 1 { &told } else { &Silent };
        let limits = Limits { workers: 3, blast_radius, ..Limits::of(&self.policy, Mode::Real) };
        let world = respot::act::World {
            cloud: &cloud,
            store: &self.store,
            limits: &limits,
            clock: &clock,
            stop: &stop,
            reporter,
        };
        let drive = Drive {
            world: &world,
            writer: &cloud,
            notify: &NoReceiver,
            prober: &dial,
            terms: &self.terms,
            course: &self.course,
            hook: None,
        };
        work(drive).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.line.inner.world().now_ms())
    }

    /// One call of the schedule.
    #[expect(clippy::disallowed_macros, reason = "for a person who replays a history")]
    async fn call(&self, new: bool) -> Result<Stepped, Failure> {
        let called = self
            .drive(async |drive| match rollout::prospect(&drive, new).await? {
                None => drive.step().await,
                Some(analysis) => drive.start(&analysis).await,
            })
            .await;
        if seeds().count() == 1 {
            match &called {
                Ok(stepped) => println!("{} step: {}", self.now(), stepped.message),
                Err(failure) => println!("{} step fails: {}", self.now(), failure.message),
            }
        }
        called
    }

    async fn tell(&self, verb: RolloutVerb) -> Result<Stepped, Failure> {
        self.drive(async |drive| drive.apply(verb).await).await
    }

    async fn pass(&self, halves: Halves) -> Result<Ran, Failure> {
        let policy = Policy { halves, ..self.policy.clone() };
        let blast_radius = BlastRadius { force: true, ..BlastRadius::default() };
        let rules = Limits { workers: 3, blast_radius, ..Limits::of(&policy, Mode::Real) };
        let cloud = Client::new(self.line.clone());
        let clock = self.machines.clock(&self.line.inner.world());
        let told = Told { aloud: true, ..Told::default() };
        let reporter: &dyn Reporter = if seeds().count() == 1 { &told } else { &Silent };
        run::run(
            &respot::act::World {
                cloud: &cloud,
                store: &self.store,
                limits: &rules,
                clock: &clock,
                stop: &Stop::default(),
                reporter,
            },
            &cloud,
            &NoReceiver,
        )
        .await
    }

    /// The world decides what is true.
    #[expect(clippy::disallowed_macros, reason = "for a person who replays a history")]
    async fn judge(self, tally: &mut Tally) -> Result<(), String> {
        let world = self.line.inner.world().clone();
        if seeds().count() == 1 {
            world.log().iter().for_each(|entry| println!("{} {entry:?}", Timestamp::from_millis(entry.at_ms)));
            world.machines().for_each(|it| println!("{} {} {} {}", it.id, it.name, it.status, it.billing_mode));
        }
        for (op, name) in [(Op::Create, "creates"), (Op::Delete, "deletes"), (Op::Migrate, "migrations")] {
            tally.count(name, world.applied(op));
        }
        tally.count("lost writes", world.log().iter().filter(|entry| entry.outcome == Came::Lost).count());
        tally.count("days", usize::try_from((world.now_ms() - DAWN_MS) / 86_400_000).unwrap());
        let fleet: Option<Fleet> = records::rollout(&self.store, Timestamp::LATEST).await.unwrap().0;
        let journal = records::journal(&self.store, Timestamp::LATEST).await.unwrap();
        court::judge(
            &court::Evidence {
                world: &world,
                intents: &self.store.intents.borrow(),
                told: &self.store.rollouts.borrow(),
                fleet: fleet.as_ref(),
                journal: &journal,
                excused: &self.excused,
                untouchable: &self.untouchable,
                taste: self.taste,
                policy: &self.policy,
                flushed: self.flushed,
                was_easy: self.is_easy && self.broken == Broken::No,
            },
            tally,
        )
    }
}

/// Counts a call, and how it ended.
fn note<T: Refused>(tally: &mut Tally, what: &'static str, ended: &Result<T, Failure>) {
    tally.note(what);
    errors(tally, ended);
}

fn errors<T: Refused>(tally: &mut Tally, ended: &Result<T, Failure>) {
    match ended {
        Ok(ended) if ended.was_refused() => tally.note("refused leases"),
        Ok(_) => {}
        Err(failure) if failure.kind == "store" => tally.note("store errors"),
        Err(_) => tally.note("provider errors"),
    }
}

/// Whether a call found another one at work.
trait Refused {
    fn was_refused(&self) -> bool;
}

impl Refused for Stepped {
    fn was_refused(&self) -> bool {
        self.message.starts_with("another pass is running")
    }
}

impl Refused for Ran {
    fn was_refused(&self) -> bool {
        matches!(self, Self::Skipped(_))
    }
}

/// Tells a history that is replayed alone.
struct Steps;

impl Reporter for Steps {
    #[expect(clippy::disallowed_macros, reason = "for a person who replays a history")]
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Decided { .. } => {}
            Event::RolloutAdvanced { fleet } => {
                println!("    {:?}", fleet.rollout.state);
                for it in &fleet.members {
                    println!("      {} {:?} {:?} open={} {:?}", it.id, it.state, it.successor, it.is_open, it.note);
                }
            }
            event => Told { aloud: true, ..Told::default() }.event(event),
        }
    }
}
