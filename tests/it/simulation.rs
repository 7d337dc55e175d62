//! Seeded histories in virtual time: passes over a fleet while everything goes wrong, on the simulator's in-process
//! face and an embedded store in memory. The client, the plan, the records and the lease are the real ones.
//!
//! A history is replayed alone with `SIM_SEED=17 cargo test --test it simulation`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join;
use novita_sim::{DAWN_MS, Fate, Fault, InProcess, MigrateAnswer, Op, Outcome, PageBase, Spec, Total, What, World};
use respot::clock::Clock;
use respot::commands::pass::{self, Ran, Rules};
use respot::core::model::Timestamp;
use respot::core::policy::Policy;
use respot::novita::client::Client;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::{self, Mode, Selection};
use respot::store::sqlite::SqliteStore;
use respot::store::{Acquired, Answer, Lease, Query, StoreError, StoreRead, StoreWrite, Write};
use tokio::task::yield_now;

const HISTORIES: u64 = 400;
/// Short ones let the second attempt at an instance happen in trouble, too.
const COOLDOWNS: [Duration; 2] = [Duration::from_secs(4 * 3600), Duration::from_secs(30 * 60)];
const INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What all histories together did; printed, so that nobody takes a quiet simulation for a good one.
#[derive(Debug, Default)]
struct Tally {
    passes: u64,
    crashes: u64,
    refused_leases: u64,
    migrations: usize,
    lost_calls: usize,
    store_errors: u64,
    provider_errors: u64,
}

#[test]
#[expect(clippy::disallowed_macros, reason = "says how much was simulated")]
fn nothing_is_migrated_twice_and_nothing_is_forgotten() {
    let mut tally = Tally::default();
    for seed in seeds() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(History::new(seed).live(&mut tally));
    }
    println!("{} histories: {tally:?}", seeds().count());
    if seeds().count() > 100 {
        let Tally { passes, crashes, refused_leases, migrations, lost_calls, store_errors, provider_errors } = tally;
        // Each kind of trouble must have happened, or the histories prove less than they say.
        assert!(passes > 8_000 && crashes > 150 && migrations > 800, "too quiet");
        assert!(refused_leases > 300 && lost_calls > 30 && store_errors > 300 && provider_errors > 150, "too quiet");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may be told which history to replay")]
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..HISTORIES,
    }
}

/// One world, one store, and weeks of passes.
struct History {
    seed: u64,
    chance: fastrand::Rng,
    provider: InProcess,
    store: Shaky,
    clock: Clock,
    policy: Policy,
    /// The machines that must be running in the end.
    revivable: Vec<String>,
    /// The machines that nobody may touch.
    untouchable: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        // The client's jitter and the job ids come from the thread's generator.
        fastrand::seed(seed);
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed);
        let (mut revivable, mut untouchable) = (Vec::new(), Vec::new());
        for n in 0..chance.usize(1..8) {
            let name = format!("m-{n}");
            let stopped_ago = chance.i64(60_000..86_400_000);
            match chance.u8(0..10) {
                0 => untouchable.push(world.add(Spec::running(&name))),
                1 => untouchable.push(world.add(Spec::exited(&name).billing("onDemand"))),
                2 => untouchable.push(world.add(Spec::running(&name).status("hibernated"))),
                3 => drop(world.add(Spec::exited(&name).fate(Fate::NoStock))),
                4 => drop(world.add(Spec::exited(&name).fate(Fate::FailsStuck))),
                5 => drop(world.add(Spec::exited(&name).fate(Fate::FailsBack))),
                _ => {
                    let spec = Spec::exited(&name).stopped_ago_ms(stopped_ago).fate(Fate::Succeeds);
                    revivable.push(world.add(spec));
                }
            }
        }
        let rules = world.rules_mut();
        rules.visible_after_ms = chance.i64(0..30_000);
        rules.stale_rows = chance.bool();
        rules.wire.total = [Total::Int, Total::Text, Total::Absent][chance.usize(0..3)];
        rules.wire.page_base = [PageBase::Clamped, PageBase::Zero, PageBase::One][chance.usize(0..3)];
        rules.wire.max_page_size = chance.usize(1..101);
        rules.wire.migrate_answer = MigrateAnswer::Seeded;
        if chance.bool() {
            rules.calls_per_minute = Some(chance.u32(20..200));
        }
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let store = Shaky::new(SqliteStore::in_memory(clock).unwrap(), seed);
        let policy = Policy {
            cooldown: COOLDOWNS[usize::from(seed % 2 == 1)],
            max_migrations: chance.bool().then(|| chance.usize(1..4)),
            ..Policy::default()
        };
        Self { seed, chance, provider: InProcess::new(world), store, clock, policy, revivable, untouchable }
    }

    async fn live(mut self, tally: &mut Tally) {
        for _ in 0..self.chance.u32(4..14) {
            self.trouble();
            self.passes(tally).await;
            tokio::time::sleep(INTERVAL.mul_f64(0.2 + self.chance.f64())).await;
        }
        // The storm is over. Limits may spread the rest over several passes, cooldowns over several hours.
        self.provider.world().clear_faults();
        self.store.calm();
        for _ in 0..22 {
            self.one_pass(tally).await;
            tokio::time::sleep(INTERVAL).await;
        }
        self.judge(tally).await;
    }

    /// Faults for the next pass, at random.
    fn trouble(&mut self) {
        let chance = &mut self.chance;
        let mut world = self.provider.world();
        world.clear_faults();
        for op in [Op::List, Op::Jobs, Op::Get, Op::Migrate] {
            if chance.u8(0..3) > 0 {
                continue;
            }
            let what = match chance.u8(0..11) {
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
                9 => "any:late=60000".parse::<Fault>().unwrap().what,
                _ => "any:delay=8000".parse::<Fault>().unwrap().what,
            };
            let fault = Fault::on(op, what).percent(chance.u8(10..100));
            world.fault(if chance.bool() { fault.times(chance.u32(1..6)) } else { fault });
        }
        if chance.u8(0..10) == 0 {
            world.fault("list:lying-total=+1".parse().unwrap());
        }
        drop(world);
        self.store.shake(if self.chance.u8(0..3) == 0 { self.chance.u8(1..30) } else { 0 });
    }

    /// One pass, or two at once, perhaps killed in the middle.
    async fn passes(&mut self, tally: &mut Tally) {
        match self.chance.u8(0..6) {
            0 => {
                let (one, two) = (self.pass(), self.pass());
                let (one, two) = join(one, two).await;
                for ended in [one, two] {
                    note(tally, &ended);
                }
            }
            1 | 2 => {
                let polls = self.chance.u32(1..120);
                tally.passes += 1;
                match (Killed { pass: Box::pin(self.pass()), polls }).await {
                    Some(ended) => note(tally, &ended),
                    None => tally.crashes += 1,
                }
            }
            _ => self.one_pass(tally).await,
        }
    }

    async fn one_pass(&self, tally: &mut Tally) {
        let ended = self.pass().await;
        note(tally, &ended);
    }

    async fn pass(&self) -> Result<Ran, respot::commands::Failure> {
        let rules = Rules { policy: &self.policy, workers: 3, deadline: Duration::from_secs(600), mode: Mode::Real };
        let cloud = Client::new(self.provider.clone());
        pass::run(&cloud, &self.store, &rules, self.clock, &Stop::default(), &Silent).await
    }

    /// The world decides what is true.
    async fn judge(self, tally: &mut Tally) {
        let seed = self.seed;
        let world = self.provider.world().clone();
        let mut applied: HashMap<&str, Vec<i64>> = HashMap::new();
        for entry in world.log() {
            assert_eq!(entry.op, Op::Migrate, "seed {seed}: a pass only migrates");
            match entry.outcome {
                Outcome::Applied => applied.entry(&entry.instance).or_default().push(entry.at_ms),
                Outcome::Lost => tally.lost_calls += 1,
                Outcome::Refused(..) => {}
            }
        }
        let cooldown = i64::try_from(self.policy.cooldown.as_millis()).unwrap();
        // A call may arrive up to a minute after the time that was recorded for it.
        let tolerance = 90_000;
        for (id, times) in &applied {
            for pair in times.windows(2) {
                let gap = pair[1] - pair[0];
                assert!(gap >= cooldown - tolerance, "seed {seed}: {id} was migrated twice within {gap} ms");
            }
        }
        for id in &self.untouchable {
            assert_eq!(world.migrations_of(id), 0, "seed {seed}: {id} was to be left alone");
        }
        for id in &self.revivable {
            let machine = world.get(id).unwrap();
            assert_eq!(machine.status, "running", "seed {seed}: {id} was forgotten");
            assert_eq!(world.accepted_migrations_of(id), 1, "seed {seed}: {id}");
        }
        let selection = Selection { limit: 5000, ..Selection::default() };
        let overview = records::overview(&self.store, &selection).await.unwrap();
        let migrations: usize = applied.values().map(Vec::len).sum();
        assert_eq!(
            overview.totals.migrations,
            u64::try_from(migrations).unwrap(),
            "seed {seed}: the statistics differ from the world"
        );
        let running = overview.executions.iter().filter(|it| it.execution.completed_at.is_none());
        for recorded in running {
            assert_eq!(recorded.execution.status.as_str(), "interrupted", "seed {seed}: only a killed pass stays open");
        }
        tally.migrations += migrations;
    }
}

fn note(tally: &mut Tally, ended: &Result<Ran, respot::commands::Failure>) {
    tally.passes += 1;
    match ended {
        Ok(Ran::Ended(_)) => {}
        Ok(Ran::AnotherPassRuns { .. }) => tally.refused_leases += 1,
        Err(failure) if failure.kind == "store" => tally.store_errors += 1,
        Err(_) => tally.provider_errors += 1,
    }
}

/// A pass that dies when it has been polled so often: at any of its awaits.
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

/// A store that fails before or after its work, and gives a crash a place to happen on either side.
struct Shaky {
    inner: SqliteStore,
    mood: Rc<RefCell<(fastrand::Rng, u8)>>,
}

impl Shaky {
    fn new(inner: SqliteStore, seed: u64) -> Self {
        Self { inner, mood: Rc::new(RefCell::new((fastrand::Rng::with_seed(seed ^ 0xdead), 0))) }
    }

    /// From now on this share of operations fails, in percent.
    fn shake(&self, percent: u8) {
        self.mood.borrow_mut().1 = percent;
    }

    fn calm(&self) {
        self.shake(0);
    }

    async fn around<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let fails = || {
            let (rng, percent) = &mut *self.mood.borrow_mut();
            (rng.u8(0..100) < *percent / 2)
                .then(|| StoreError::Unreachable { store: "shaky".into(), detail: "as told".into() })
        };
        yield_now().await;
        if let Some(error) = fails() {
            return Err(error);
        }
        let done = work.await?;
        yield_now().await;
        fails().map_or(Ok(done), Err)
    }
}

impl StoreRead for Shaky {
    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        self.around(self.inner.read(queries)).await
    }
    fn label(&self) -> String {
        self.inner.label()
    }
}

impl StoreWrite for Shaky {
    async fn acquire(&self, key: &str, token: &str) -> Result<Acquired, StoreError> {
        self.around(self.inner.acquire(key, token)).await
    }
    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.around(self.inner.renew(lease)).await
    }
    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.around(self.inner.commit(lease, writes)).await
    }
    async fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.around(self.inner.commit_and_release(lease, writes)).await
    }
}
