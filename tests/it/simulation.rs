//! Seeded histories in virtual time: weeks of passes over a fleet while everything goes wrong, on the simulator's
//! in-process face. The client, the plan, the journal, the records and the lease are the real ones.
//!
//! A history is replayed alone with `SIM_SEED=17 cargo test --test it simulation`; `SIM_HISTORIES=100000` makes more of
//! them than usual.

mod broken;
mod clocks;
mod ear;
mod judge;
mod line;
mod recovery;
mod rollouts;
pub(crate) mod store;
mod tally;
mod told;
mod truncated;
mod weather;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use broken::Broken;
use clocks::Machines;
use ear::Ear;
use futures_util::future::join;
use judge::{Evidence, judge};
use line::Line;
use novita_sim::{DAWN_MS, Fate, Fault, Machine, MigrateAnswer, Op, Outcome, PageBase, Spec, Total, What, World};
use recovery::{Past, Rungs};
use respot::act::Limits;
use respot::cloud::novita::client::Client;
use respot::commands::Failure;
use respot::commands::run::{self, Ran};
use respot::core::pass::safety::BlastRadius;
use respot::core::recreation::journal::Recreation;
use respot::core::world::instance::InstanceId;
use respot::core::world::policy::{Eligibility, Halves, Policy, RecreateOrder};
use respot::core::world::time::Timestamp;
use respot::stop::Stop;
use respot::store::records::{self, Mode, Selection};
use store::Memory;
use tally::Tally;
use tokio::time::sleep;
use told::Told;
use weather::{Weather, draw_policy};

const HISTORIES: u64 = 10_000;
/// So many histories of a broken build must show that it is broken.
const MOST_BROKEN: u64 = 800;
/// Short ones let the second attempt at an instance happen in trouble, too.
const COOLDOWNS: [Duration; 2] = [Duration::from_secs(4 * 3600), Duration::from_secs(30 * 60)];
const QUOTA: &str = "any:status=429,reason=RATE_LIMIT_EXCEEDED,message=GPU instance quota exceeded";
const INTERVAL: Duration = Duration::from_secs(15 * 60);

#[test]
#[expect(clippy::disallowed_macros, reason = "says how much was simulated")]
fn nothing_is_lost_nothing_is_doubled() {
    let (tally, verdicts) = simulate(seeds(), Broken::No);
    println!("{tally:?}");
    for (seed, verdict) in verdicts.iter().take(20) {
        println!("seed {seed}: {verdict}");
    }
    if let Some((seed, verdict)) = verdicts.first() {
        panic!("{} of {} histories went wrong; seed {seed}: {verdict}", verdicts.len(), tally.histories);
    }
    if seeds().count() > 1000 {
        tally.check_noise();
    }
}

/// The test of the test: what is broken on purpose must be noticed.
#[test]
fn broken_builds_are_caught() {
    for (broken, sign) in [
        (Broken::IntentAfterCall, "intents in the journal"),
        (Broken::MarkerIgnored, "doubled"),
        (Broken::DeleteFirst, "before its replacement ran"),
        (Broken::RunsAtOnce, "while its replacement did not run"),
        (Broken::NoWithdrawals, "was not announced any more"),
        (Broken::BudgetForgotten, "beyond the budget"),
        (Broken::RefusalCools, "it was only refused"),
        (Broken::ClockBelieved, "was migrated twice"),
        (Broken::AbsenceBelieved, "doubled"),
        (Broken::QuotaRetried, "was asked for again in one pass"),
    ] {
        // A few at a time: most are noticed soon.
        let mut seen = Vec::new();
        let is_caught = (0..MOST_BROKEN / 50).any(|at| {
            let (_, verdicts) = simulate(at * 50..(at + 1) * 50, broken);
            let is_caught = verdicts.iter().any(|(_, verdict)| verdict.contains(sign));
            seen.extend(verdicts);
            is_caught
        });
        assert!(is_caught, "{broken:?} went unnoticed in {MOST_BROKEN} histories: {seen:?}");
    }
}

/// Runs the histories on all cores; answers what was wrong, by seed.
fn simulate(seeds: std::ops::Range<u64>, broken: Broken) -> (Tally, Vec<(u64, String)>) {
    let next = Mutex::new(seeds);
    let result = Mutex::new((Tally::default(), Vec::new()));
    let work = || {
        loop {
            let Some(seed) = next.lock().unwrap().next() else { break };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let mut tally = Tally { histories: 1, ..Tally::default() };
            let verdict = runtime.block_on(async { History::new(seed, broken).live(&mut tally).await });
            let mut result = result.lock().unwrap();
            result.0.add(tally);
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
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_HISTORIES").unwrap_or(HISTORIES),
    }
}

/// One world, one store, and days of passes.
struct History {
    chance: fastrand::Rng,
    provider: Line,
    store: Memory,
    ear: Ear,
    machines: Machines,
    policy: Policy,
    /// The machines that nobody may touch.
    untouchable: Vec<String>,
    /// The machines that the provider took away for good.
    vanished: HashSet<String>,
    flushed: bool,
    broken: Broken,
    weather: Weather,
    /// Whether recreations without evidence are limited to the share that is allowed.
    has_waves: bool,
    keep_trying: Duration,
    told: Told,
}

impl History {
    fn new(seed: u64, broken: Broken) -> Self {
        // The client's jitter and the job ids come from the thread's generator.
        fastrand::seed(seed);
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        let mut untouchable = Vec::new();
        for n in 0..chance.usize(1..8) {
            let name = format!("m-{n}");
            let ago = chance.i64(60_000..80_000_000);
            match chance.u8(0..12) {
                0 => untouchable.push(world.add(Spec::running(&name).billing("monthly"))),
                1 => untouchable.push(world.add(Spec::exited(&name).billing("onDemand"))),
                2 => untouchable.push(world.add(Spec::running(&name).status("hibernated"))),
                3 => drop(world.add(Spec::exited(&name).fate(Fate::NoStock))),
                4 => drop(world.add(Spec::exited(&name).fate(Fate::FailsStuck))),
                5 => drop(world.add(Spec::exited(&name).fate(Fate::FailsBack))),
                6 | 7 => drop(world.add(Spec::stuck(&name, ago))),
                8 => drop(world.add(Spec::stuck(&name, ago).network_volume("vol-1", "/data"))),
                9 => drop(world.add(Spec::running(&name))),
                _ => drop(world.add(Spec::exited(&name).stopped_ago_ms(ago).fate(Fate::Succeeds))),
            }
        }
        let rules = world.rules_mut();
        rules.visible_after_ms = chance.i64(0..30_000);
        rules.stale_rows = chance.bool();
        rules.fail_migrations = [0.0, 0.3][chance.usize(0..2)];
        rules.fail_back_to_exited = 0.3;
        rules.stuck_creates = [0.0, 0.2][chance.usize(0..2)];
        rules.exit_after_create = [0.0, 0.2][chance.usize(0..2)];
        rules.create_step_ms = chance.i64(1_000..60_000);
        rules.wire.total = [Total::Int, Total::Text, Total::Absent][chance.usize(0..3)];
        rules.wire.page_base = [PageBase::Clamped, PageBase::Zero, PageBase::One][chance.usize(0..3)];
        rules.wire.max_page_size = chance.usize(1..101);
        rules.wire.migrate_answer = MigrateAnswer::Seeded;
        rules.wire.get_keeps_failed_jobs = chance.bool();
        if chance.u8(0..4) == 0 {
            rules.calls_per_minute = Some(chance.u32(30..200));
        }
        let weather = Weather::draw(&mut chance, &mut world);
        let (ladder, keep_trying) = draw_policy(&mut chance);
        let store = Memory::new(seed);
        if broken == Broken::IntentAfterCall {
            store.delay_intents();
        }
        store.forget(broken.forgets());
        let recreate_order = match broken {
            Broken::No if chance.u8(0..5) > 0 => RecreateOrder::CreateFirst,
            Broken::No | Broken::DeleteFirst => RecreateOrder::DeleteFirst,
            _ => RecreateOrder::CreateFirst,
        };
        let policy = Policy {
            cooldown: COOLDOWNS[usize::from(seed % 2 == 1)],
            max_migrations: chance.bool().then(|| chance.usize(1..4)),
            max_recreations: (chance.u8(0..4) == 0).then(|| chance.usize(1..3)),
            recreate_order,
            ..ladder
        };
        Self {
            provider: Line::new(world, broken.sight()),
            store,
            ear: Ear::new(seed),
            machines: Machines::draw(seed, broken == Broken::ClockBelieved),
            policy,
            untouchable,
            vanished: HashSet::new(),
            flushed: false,
            broken,
            weather,
            has_waves: chance.u8(0..3) == 0,
            keep_trying,
            told: Told { aloud: seeds().count() == 1, ..Told::default() },
            chance,
        }
    }

    async fn live(mut self, tally: &mut Tally) -> Result<(), String> {
        for _ in 0..self.chance.u32(4..14) {
            self.trouble(tally);
            self.passes(tally).await;
            sleep(INTERVAL.mul_f64(0.2 + self.chance.f64())).await;
            if self.chance.u8(0..10) == 0 {
                // Nobody calls for days: the weekend, an outage of the schedule.
                sleep(Duration::from_secs(self.chance.u64(3600..300_000))).await;
            }
        }
        // The storm is over. Limits may spread the rest over several passes, cooldowns over several hours, quarantines
        // over a day.
        self.calm();
        self.policy.max_migrations = None;
        self.has_waves = false;
        let calm_since = self.provider.inner.world().now_ms();
        for _ in 0..7 {
            self.one_pass(tally).await;
            sleep(INTERVAL).await;
        }
        let clears_at_once = self.weather.clears_at_once(&self.provider.inner.world());
        if clears_at_once {
            let world = self.provider.inner.world().clone();
            self.past(&world, &self.provider.notes.borrow()).check_refused(calm_since)?;
        }
        // What came up too slowly when the trouble ended may be given up after the first of these, and quarantined then.
        for _ in 0..2 {
            sleep(Duration::from_secs(25 * 3600)).await;
            for _ in 0..4 {
                self.one_pass(tally).await;
                sleep(INTERVAL).await;
            }
        }
        self.judge(tally).await
    }

    fn calm(&self) {
        let mut world = self.provider.inner.world();
        world.clear_faults();
        world.set_stock(u32::MAX);
        let rules = world.rules_mut();
        (rules.fail_migrations, rules.stuck_creates, rules.exit_after_create) = (0.0, 0.0, 0.0);
        rules.balance = true;
        self.weather.calm(&mut world);
        // One that its market always refuses is asked first for ever, and the others wait for its answer.
        let refused = world.machines().filter(|it| it.fate == Fate::NoStock).map(|it| it.id.clone());
        for id in refused.collect::<Vec<_>>() {
            world.edit(&id, |machine| machine.fate = Fate::Succeeds);
        }
        drop(world);
        self.store.shake(0);
        self.ear.calm();
    }

    /// What goes wrong in the next pass, at random.
    fn trouble(&mut self, tally: &mut Tally) {
        let chance = &mut self.chance;
        let mut world = self.provider.inner.world();
        world.clear_faults();
        for op in [Op::List, Op::Jobs, Op::Get, Op::Migrate, Op::Create, Op::Create, Op::Delete, Op::Products] {
            if chance.u8(0..3) > 0 {
                continue;
            }
            let what = match chance.u8(0..18) {
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
                // Arrives when everybody has given it up. The provider refuses a late migration by itself.
                10 if op == Op::Create => What::Late(chance.u64(200_000..3_000_000)),
                11 if op.is_write() => "any:status=400,reason=INSUFFICIENT_RESOURCE".parse::<Fault>().unwrap().what,
                // An answer to a create without the new instance's id.
                12 if op == Op::Create => What::Empty,
                13 if op.is_write() => QUOTA.parse::<Fault>().unwrap().what,
                14 if op.is_write() => "any:status=200,reason=CONFLICT".parse::<Fault>().unwrap().what,
                // Accepted, and nothing comes of it.
                15 if matches!(op, Op::Migrate | Op::Delete) => What::status(200),
                16 if op == Op::List && chance.bool() => What::NamelessRow,
                16 if matches!(op, Op::List | Op::Jobs) => What::BadRow,
                _ => What::Delay(8_000),
            };
            let fault = Fault::on(op, what).percent(chance.u8(10..100));
            world.fault(if chance.bool() { fault.times(chance.u32(1..6)) } else { fault });
        }
        if chance.u8(0..10) == 0 {
            world.fault("list:lying-total=+1".parse().unwrap());
        }
        if chance.u8(0..8) == 0 {
            world.fault("list:no-rows*2".parse().unwrap());
        }
        if chance.u8(0..6) == 0 {
            world.set_stock(chance.u32(0..3));
        }
        if chance.u8(0..10) == 0 {
            let broke = chance.bool();
            world.rules_mut().balance = !broke;
        }
        self.provider.note_announced(&world);
        let (untouchable, weather) = (&self.untouchable, &mut self.weather);
        weather.strike(chance, &mut world, |id| !untouchable.iter().any(|it| it == id));
        if chance.u8(0..12) == 0 {
            let ids: Vec<String> = world.machines().map(|machine| machine.id.clone()).collect();
            if let Some(id) = chance.choice(ids).filter(|id| !self.untouchable.contains(id)) {
                world.vanish(&id);
                self.vanished.insert(id);
            }
        }
        drop(world);
        self.store.shake(if chance.u8(0..3) == 0 { chance.u8(1..30) } else { 0 });
        // What delete-first keeps is all that is left of an instance, so a flush may lose it.
        if chance.u8(0..14) == 0 && self.policy.recreate_order == RecreateOrder::CreateFirst {
            self.store.flush();
            self.flushed = true;
            tally.flushed += 1;
        }
    }

    /// One pass, or two at once, perhaps killed in the middle, perhaps suspended past its lease.
    async fn passes(&mut self, tally: &mut Tally) {
        match self.chance.u8(0..8) {
            0 => {
                let (one, two) = join(self.pass(Halves::Both), self.pass(Halves::RecreateOnly)).await;
                for ended in [one, two] {
                    tally.note(&ended);
                }
            }
            1..=3 => {
                let polls = self.polls();
                tally.passes += 1;
                match (Killed { pass: Box::pin(self.pass(Halves::Both)), polls }).await {
                    Some(ended) => tally.note(&ended),
                    None => tally.crashes += 1,
                }
            }
            4 => {
                let mut suspended = Killed { polls: self.polls(), pass: Box::pin(self.pass(Halves::Both)) };
                if let Some(ended) = (&mut suspended).await {
                    tally.note(&ended);
                    return;
                }
                tally.suspended += 1;
                sleep(Duration::from_secs(self.chance.clone().u64(1..90))).await;
                tally.note(&self.pass(Halves::Both).await);
                suspended.polls = u32::MAX;
                tally.note(&suspended.await.unwrap());
            }
            _ => self.one_pass(tally).await,
        }
    }

    /// After so many steps something happens to a pass: few, or as many as a long pass takes.
    fn polls(&mut self) -> u32 {
        let most = if self.chance.bool() { 80 } else { 600 };
        self.chance.u32(1..most)
    }

    async fn one_pass(&self, tally: &mut Tally) {
        let ended = self.pass(Halves::Both).await;
        tally.note(&ended);
    }

    async fn pass(&self, halves: Halves) -> Result<Ran, Failure> {
        let policy = Policy { halves, ..self.policy.clone() };
        let blast_radius = BlastRadius { force: !self.has_waves, ..BlastRadius::default() };
        let keep_trying = self.keep_trying;
        let rules = Limits { workers: 3, blast_radius, keep_trying, ..Limits::of(&policy, Mode::Real) };
        let line = self.provider.of_next_pass();
        let clock = self.machines.clock(&line.inner.world());
        let cloud = Client::new(line.clone());
        let ended = run::run(
            &respot::act::World {
                cloud: &cloud,
                store: &self.store,
                limits: &rules,
                clock: &clock,
                stop: &Stop::default(),
                reporter: &self.told,
            },
            &cloud,
            &self.ear,
        )
        .await;
        if ended.is_ok() {
            line.has_ended();
        }
        ended
    }

    fn past<'a>(&'a self, world: &'a World, notes: &'a line::Notes) -> Past<'a> {
        Past { world, notes, policy: &self.policy, stops: &self.weather.stops, flushed: self.flushed }
    }

    /// The world decides what is true.
    #[expect(clippy::disallowed_macros, reason = "for a person who replays a history")]
    async fn judge(self, tally: &mut Tally) -> Result<(), String> {
        let world = self.provider.inner.world().clone();
        if seeds().count() == 1 {
            world.log().iter().for_each(|entry| println!("{} {entry:?}", Timestamp::from_millis(entry.at_ms)));
        }
        let applied = |op: Op| world.applied(op);
        tally.days = f64::from(u32::try_from((world.now_ms() - DAWN_MS) / 60_000).unwrap()) / 1440.0;
        tally.migrations = applied(Op::Migrate);
        tally.creates = applied(Op::Create);
        tally.deletes = applied(Op::Delete);
        tally.lost_calls = world.log().iter().filter(|entry| entry.outcome == Outcome::Lost).count();
        let ops = [Op::List, Op::Jobs, Op::Get, Op::Products, Op::Clusters, Op::Create, Op::Delete, Op::Migrate];
        tally.calls = ops.into_iter().map(|op| world.calls(op)).sum();
        let Weather { notices, withdrawals, waves, droughts, .. } = self.weather;
        (tally.notices, tally.withdrawals, tally.waves, tally.droughts) = (notices, withdrawals, waves, droughts);
        tally.stops = self.weather.stops.len() as u64;
        tally.wrong_clocks = self.machines.off.get();
        (tally.rounds, tally.next_waves) = (self.told.rounds.get(), self.told.waves.get());
        let notes = self.provider.notes.take();
        tally.rungs = Rungs::count(&world, &notes);
        // Delete-first promises everything but the order. The broken build is judged by what it did not promise.
        let create_first = self.policy.recreate_order == RecreateOrder::CreateFirst || self.broken != Broken::No;
        judge(&Evidence {
            world: &world,
            intents: &self.store.intents.borrow(),
            vanished: &self.vanished,
            untouchable: &self.untouchable,
            cooldown: (!self.flushed).then_some(self.policy.cooldown),
            create_first,
            wants_evidence: self.policy.eligibility == Eligibility::Reclaimed,
        })?;
        recovery::judge(&self.past(&world, &notes), create_first)?;
        let selection = Selection { limit: 5000, ..Selection::default() };
        let overview = records::overview(&self.store, &selection, Timestamp::LATEST).await.unwrap();
        // Where evidence is asked for, a replacement that went down without any waits, and its old instance with it.
        let waits = |it: &Recreation| {
            let new = it.step.replacement().and_then(|id| world.get(id.as_str()));
            self.policy.eligibility == Eligibility::Reclaimed && new.is_some_and(|new| new.status == "exited")
        };
        let is_open =
            |id: &InstanceId, it: &Recreation| !it.step.is_over() && !self.vanished.contains(id.as_str()) && !waits(it);
        if let Some((id, open)) = overview.recreations.iter().find(|(id, it)| is_open(id, it)) {
            return Err(format!("the recreation of {id} is still open: {open:?}"));
        }
        for machine in world.machines().filter(|machine| !self.untouchable.contains(&machine.id)) {
            // Nothing can be created in the place of a replacement whose old instance the provider took away.
            let is_awaited = overview.recreations.iter().any(|(old, it)| {
                it.step.replacement().is_some_and(|it| it.as_str() == machine.id)
                    && self.vanished.contains(old.as_str())
            });
            // And nobody knows that it was one, after a flush.
            let is_awaited = is_awaited || self.flushed && machine.status == "creating";
            let replaced_by_waiting =
                overview.recreations.iter().any(|(old, it)| old.as_str() == machine.id && waits(it));
            // A duplicate that hangs on its way up is deleted once the other one runs, which may rest.
            let mut twins = world.machines().filter(|it| it.id != machine.id && it.name == machine.name);
            let is_spare = machine.status == "creating" && twins.any(|twin| self.may_rest(twin));
            let may_wait = is_awaited || is_spare || replaced_by_waiting || self.may_rest(machine);
            if machine.status != "running" && !may_wait {
                return Err(format!("{} was forgotten: it is {}", machine.id, machine.status));
            }
        }
        let killed = overview.executions.iter().filter(|it| it.execution.completed_at.is_none());
        for recorded in killed {
            if recorded.execution.status.into_str() != "interrupted" {
                return Err("only a killed pass stays open".into());
            }
        }
        self.check_statistics(&world, &overview.totals)?;
        // A flush forgets events, too.
        if self.flushed { Ok(()) } else { self.ear.judge(&self.store.events.borrow(), &overview.totals) }
    }

    /// Whether an instance may stay down: nothing says that it was reclaimed where evidence is asked for, or it is a bridge
    /// that a person stopped.
    fn may_rest(&self, machine: &Machine) -> bool {
        let is_stopped = self.weather.stops.iter().any(|(id, _)| *id == machine.id);
        let wants_evidence = self.policy.eligibility == Eligibility::Reclaimed;
        let may_rest = match machine.name.contains("-bridge-") {
            true => is_stopped,
            false => wants_evidence && (is_stopped || machine.spot_reclaim_at == 0),
        };
        machine.status == "exited" && may_rest
    }

    /// What was counted is what happened, where nothing was forgotten or taken away.
    fn check_statistics(&self, world: &World, totals: &respot::core::record::execution::Totals) -> Result<(), String> {
        // Where evidence is asked for, a recreation may stay open.
        let is_open = self.policy.eligibility == Eligibility::Reclaimed;
        if self.flushed || !self.vanished.is_empty() || self.broken != Broken::No || is_open {
            return Ok(());
        }
        let migrations = world.applied(Op::Migrate) as u64;
        if totals.migrations != migrations {
            return Err(format!("{} migrations were counted, {migrations} happened", totals.migrations));
        }
        let families = judge::Families::of(world);
        let replaced = world.gone().filter(|machine| !families.children(&machine.id).is_empty()).count() as u64;
        if totals.recreations != replaced {
            return Err(format!("{} recreations were counted, {replaced} happened", totals.recreations));
        }
        Ok(())
    }
}

/// A pass that stops when it has been polled so often: at any of its awaits. Dropped then, it was killed; awaited again
/// with more polls, it was suspended.
struct Killed<F> {
    pass: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for Killed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.pass.as_mut().poll(context).map(Some)
    }
}
