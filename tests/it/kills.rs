//! The real program under `kill -9` at random moments, with real stores, over HTTP: whenever it dies, later passes bring
//! every instance to one living successor.
//!
//! What is drawn is drawn from a seed, though not the moment at which the system gets around to the kill. Another seed:
//! `KILL_SEED=17 cargo test --test it kills -- --nocapture`.

mod recovery;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use novita_sim::{Fate, Machine, Op, Spec, World};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::audit;
use crate::harness::{BOTH, Call, Kind, MINUTE, Stage, side_by_side};
use crate::successors::{
    applied, base, deleted_first, deleted_last, each_has_one, living, nothing_twice, recorded_before, story,
};

/// Rounds for each store with replacements created first, with the old instance deleted first, and with requests to
/// create that arrive when nobody counts on them any more.
const ROUNDS: [(&str, bool, u64); 3] =
    [("create-first", false, 16), ("delete-first", false, 4), ("create-first", true, 4)];

/// What the journal may hold only while the old instance is gone and the new one is not there yet.
const SECRET: &str = "hunter2-hunter2";

/// Kills in each round.
const KILLS: usize = 5;

/// What all rounds together did; printed, so that nobody takes a quiet test for a good one.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    creates: usize,
    /// Second replacements of one instance.
    twins: usize,
    deletes: usize,
    migrations: usize,
    /// Replacements that the program was killed too early to hear of.
    orphans: usize,
    /// How far recreations were when the program was killed.
    steps: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Round {
    kind: Kind,
    order: &'static str,
    twins: bool,
    seed: u64,
}

#[expect(clippy::disallowed_methods, reason = "a test may be told its seed")]
fn first_seed() -> u64 {
    std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

#[test]
#[expect(clippy::disallowed_macros, reason = "says how much was done")]
fn whenever_it_is_killed_each_instance_ends_with_one_successor() {
    let first = first_seed();
    let mut rounds = Vec::new();
    for (order, twins, count) in ROUNDS {
        rounds.extend((0..count).flat_map(|n| BOTH.map(|kind| Round { kind, order, twins, seed: first + n })));
    }
    let (tally, begun) = (Mutex::new(Tally::default()), Instant::now());
    side_by_side(&rounds, 12, |round| Story::begin(round).tell(&tally));
    let tally = tally.into_inner().expect("no panic");
    println!("seed {first}, {} rounds in {:.0?}: {tally:?}", rounds.len(), begun.elapsed());
    // Each kind of moment must have been hit, or the kills prove less than they say.
    assert!(tally.kills >= 200 && tally.creates > 100 && tally.orphans > 0 && tally.twins > 0, "too quiet");
    let hit: Vec<&str> = tally.steps.keys().map(String::as_str).collect();
    for step in ["none", "intent", "created"] {
        assert!(hit.contains(&step), "no kill came at {step:?}, only at {hit:?}");
    }
}

/// One round: a fleet in trouble, a provider in trouble, and a program that is killed.
struct Story<'a> {
    round: &'a Round,
    stage: Stage,
    chance: fastrand::Rng,
    /// Each must have one living successor.
    names: Vec<String>,
    /// Nobody may touch these.
    others: Vec<Machine>,
    wait: u32,
}

impl<'a> Story<'a> {
    fn begin(round: &'a Round) -> Self {
        let mut chance = fastrand::Rng::with_seed(round.seed);
        let mut world = World::new(round.seed);
        // What takes the provider minutes takes it moments here, so that a pass sees the end of what it began. The
        // world is not made to fly instead: its time would leave that of the program behind.
        let rules = world.rules_mut();
        // Now and then it takes longer than a pass waits, so that the next ones see a replacement come up.
        rules.create_step_ms = if chance.u8(0..4) == 0 { chance.i64(10_000..90_000) } else { chance.i64(20..90) };
        rules.action_step_ms = chance.i64(10..90);
        rules.visible_after_ms = chance.i64(0..120);
        rules.migrate_pulling_ms = chance.i64(10..100);
        rules.migrate_running_ms = chance.i64(10..200);
        rules.stale_rows = chance.bool();
        let mut names = Vec::new();
        let mut add = |world: &mut World, spec: Spec, name: String| {
            world.add(spec);
            names.push(name);
        };
        for n in 0..chance.usize(2..4) {
            let name = format!("stuck-{n}");
            let spec = Spec::stuck(&name, chance.i64(60_000..4_000_000)).env("TOKEN", SECRET);
            add(&mut world, spec.network_volume(&format!("volume-{n}"), "/data"), name);
        }
        for (kind, fate) in [("well", Fate::Succeeds), ("bad", Fate::FailsStuck), ("back", Fate::FailsBack)] {
            add(&mut world, Spec::exited(kind).fate(fate), kind.to_owned());
        }
        let others = [
            Spec::running("fine"),
            Spec::exited("dear").billing("onDemand"),
            Spec::running("odd").status("hibernated"),
            Spec::running("copy-recreated-2024"),
        ];
        let others: Vec<String> = others.into_iter().map(|spec| world.add(spec)).collect();
        let others = others.iter().map(|id| world.get(id).expect("added").clone()).collect();
        let wait = chance.u32(150..700);
        Self { round, stage: Stage::new(round.kind, world), chance, names, others, wait }
    }

    fn tell(mut self, tally: &Mutex<Tally>) {
        for _ in 0..KILLS {
            self.trouble();
            self.kill_one();
            self.after_a_kill(tally);
            self.stage.end_lease();
            self.stage.provider.advance(self.chance.u64(0..240_000));
        }
        self.stage.provider.with(World::clear_faults);
        for _ in 0..6 {
            self.pass();
        }
        let before = self.stage.provider.with(|world| world.log().len());
        self.pass();
        assert_eq!(self.stage.provider.with(|world| world.log().len()), before, "all is done");
        self.stage.provider.with(|world| self.judge(world, tally));
        audit::is_complete(&self.stage);
        let status = self.stage.status();
        assert!(!self.keeps_secrets(), "what is over needs no specification");
        let open = &status["inFlight"];
        assert_eq!((&open["migrations"], &open["recreations"]), (&0.into(), &0.into()), "{status}");
        let (recreated, migrated) =
            self.stage.provider.with(|world| (self.recreated(world), world.applied(Op::Migrate)));
        let counted = &status["statistics"];
        assert_eq!(counted["totalRecreations"], recreated, "{status}");
        assert_eq!(counted["totalMigrations"], migrated, "{status}");
    }

    /// Answers take time, some get lost, and some requests take effect after the death of the sender.
    fn trouble(&mut self) {
        self.stage.provider.with(World::clear_faults);
        let delay = self.chance.u32(1..20);
        self.stage.fault(&format!("any:delay={delay}"));
        let late = self.chance.u32(50..60_000);
        let rules =
            ["create%30:cut-after*2", "delete%40:cut-after*2", "migrate%30:cut-after*1", "create%20:cut-before"];
        match self.chance.usize(0..8) {
            at if at < rules.len() => self.stage.fault(rules[at]),
            4 => self.stage.fault(&format!("create%30:late={late}*2")),
            5 => self.stage.fault(&format!("migrate%50:late={late}*2")),
            _ => {}
        }
        if self.round.twins {
            self.stage.fault(&format!("create%50:late={}*2", self.chance.u32(100_000..900_000)));
        }
        let slow = ["create", "delete", "get", "migrate", "list"][self.chance.usize(0..5)];
        self.stage.fault(&format!("{slow}:delay={}", self.chance.u32(1..150)));
    }

    /// See [`kill_one`].
    fn kill_one(&mut self) {
        let Self { round, stage, chance, wait, .. } = self;
        let (order, wait) = (round.order, *wait);
        let words = ["run -q", "check-failed -q"];
        kill_one(stage, chance, 900, &|chance| call(stage, words[chance.usize(0..2)], order, wait));
    }

    /// What is known at once: whatever was done to the provider was written down before.
    fn after_a_kill(&self, tally: &Mutex<Tally>) {
        let journal = recorded_before(&self.stage);
        assert!(self.round.order == "delete-first" || !self.keeps_secrets(), "no need to keep secrets");
        let step = |entry: &Value| entry["step"].as_str().expect("a step").to_owned();
        self.stage.provider.with(|world| {
            let mut tally = tally.lock().expect("no panic");
            tally.kills += 1;
            for name in &self.names {
                let entry = journal.iter().find(|it| base(it["marker"].as_str().expect("a marker")) == name);
                *tally.steps.entry(entry.map_or("none".into(), step)).or_default() += 1;
                let alive = living(world, name);
                // Only delete-first leaves nothing behind for a while, but the specification.
                let kept = entry.is_some_and(|it| it["kept"].is_object());
                assert!(!alive.is_empty() || self.round.order == "delete-first" && kept, "{}", story(world, name));
                let unheard = entry.filter(|it| it["step"] == "intent").map(|it| &it["marker"]);
                tally.orphans += alive.iter().filter(|it| unheard == Some(&it.name.as_str().into())).count();
            }
        });
    }

    fn keeps_secrets(&self) -> bool {
        self.stage.dump().values().any(|text| text.contains(SECRET))
    }

    fn pass(&self) {
        let code = call(&self.stage, "run -q --retry-quarantined", self.round.order, self.wait).output().code();
        assert!(matches!(code, 0 | 1), "it ended with {code}");
        self.stage.provider.advance(5 * MINUTE);
    }

    /// How many of the names have a replacement.
    fn recreated(&self, world: &World) -> usize {
        self.names.iter().filter(|name| applied(world, Op::Create).any(|it| base(&it.name) == **name)).count()
    }

    /// The world decides what is true.
    fn judge(&self, world: &World, tally: &Mutex<Tally>) {
        each_has_one(world, &self.names);
        if !self.round.twins {
            nothing_twice(world);
        }
        match self.round.order {
            "create-first" => deleted_last(world),
            _ => deleted_first(world),
        }
        for name in self.names.iter().filter(|name| name.starts_with("stuck")) {
            let of = |machine: &Machine| (machine.envs.clone(), machine.volumes.clone(), machine.image_url.clone());
            let old = world.ever().find(|it| it.name == *name).map(of);
            assert_eq!(old, living(world, name).first().map(|it| of(it)), "made of the same");
        }
        for other in &self.others {
            assert_eq!(world.get(&other.id), Some(other), "left alone");
            assert!(world.log().iter().all(|entry| entry.instance != other.id), "{}", story(world, base(&other.name)));
        }
        let mut tally = tally.lock().expect("no panic");
        tally.creates += world.applied(Op::Create);
        tally.twins += world.applied(Op::Create).saturating_sub(self.recreated(world));
        tally.deletes += world.applied(Op::Delete);
        tally.migrations += world.applied(Op::Migrate);
    }
}

fn call(stage: &Stage, words: &str, order: &str, wait: u32) -> Call {
    let call = stage.call(words).env("MIGRATION_RECREATE_ORDER", order);
    let call = call.env("MIGRATION_RECREATE_WAIT_MS", wait.to_string());
    call.env("MIGRATION_MAX_RECREATE_PERCENT", "100").env("MIGRATION_MAX_CONCURRENT", "3")
}

/// Begins passes until one is killed: some time after its beginning, or just after a call of some kind.
fn kill_one(stage: &Stage, chance: &mut fastrand::Rng, mut longest: u64, call: &dyn Fn(&mut fastrand::Rng) -> Call) {
    let first = longest;
    loop {
        let call = call(chance);
        let op = [None, None, Some(Op::Create), Some(Op::Delete), Some(Op::Migrate), Some(Op::Get)];
        let op = op[chance.usize(0..op.len())].filter(|_| longest > first / 2);
        let calls = || op.map(|op| stage.provider.with(|world| world.calls(op)));
        let (before, begun) = (calls(), Instant::now());
        let run = call.spawn();
        let limit = Duration::from_millis(match op {
            Some(_) => longest,
            None => chance.u64(0..=longest),
        });
        while begun.elapsed() < limit && (op.is_none() || calls() == before) {
            sleep(Duration::from_millis(1));
        }
        if op.is_some() {
            sleep(Duration::from_micros(chance.u64(0..40_000)));
        }
        run.signal(Signal::KILL);
        match run.wait().code() {
            137 => return,
            // It was done before. The next one has less time, in the end not even enough to begin.
            0 | 1 => longest /= 2,
            code => panic!("it ended with {code}"),
        }
        stage.end_lease();
    }
}
