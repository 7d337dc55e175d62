//! A store, the provider's world at that moment, and the documents that were printed then; and the story that made them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use novita_sim::{App, Change, Fate, JobRow, Load, Machine, Spec, World};
use respot::core::world::time::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Call, HOUR, Kind, MINUTE, Stage};
use crate::successors::quick;

/// Calls whose documents are pinned. Those that act run on copies.
pub(super) fn documents(kind: Kind) -> &'static [&'static str] {
    // The first ones are enough to see that both stores are read alike.
    match kind {
        Kind::Sqlite => &DOCUMENTS,
        Kind::Redis => &DOCUMENTS[..6],
    }
}

const DOCUMENTS: [&str; 23] = [
    "status -o json",
    "history -o json --limit 100",
    "explain -o json df",
    "rollout status -o json",
    "dry-run -o json",
    "run -o json",
    "status -o prometheus",
    "history -o json --limit 3 --offset 2",
    "history -o json --limit 100 --instance bad",
    "history -o json --limit 100 --instance df",
    "history -o json --limit 100 --instance lost",
    "history -o json --limit 100 --instance web-0",
    "history -o csv --limit 100",
    "history -o csv --limit 100 --instance bad",
    "explain -o json api",
    "explain -o json pending",
    "explain -o json full",
    "explain -o json soon",
    "explain -o json stalled",
    "explain -o json web-0",
    "analyze -o json",
    "check-failed -o json",
    "rollout --yes -o json",
];

/// Names of which one instance each lives in the end.
pub(super) const HEIRS: [&str; 14] =
    ["api", "ok", "bad", "back", "lost", "void", "pending", "stalled", "soon", "df", "slow", "unsure", "quar", "cut"];

pub(super) struct Fixture {
    kind: Kind,
    now: i64,
    world: Value,
    /// The file of the embedded store, or commands that fill a Redis server.
    store: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores")
}

fn names(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Sqlite => ("state.db", "sqlite-world.json", "sqlite-documents.jsonl"),
        Kind::Redis => ("redis.jsonl", "redis-world.json", "redis-documents.jsonl"),
    }
}

/// A call with all that the story needs; no receiver of events ever answers.
pub(super) fn call(stage: &Stage, words: &str) -> Call {
    let call = stage.call(words).env("MIGRATION_RECREATE_WAIT_MS", "300").env("MIGRATION_MAX_RECREATE_PERCENT", "100");
    let call = call.env("RESPOT_PROBE", "http:8080/").env("RESPOT_PROBE_SAMPLES", "30");
    call.env("RESPOT_ROLLOUT_MAY_LOSE", "web-*")
        .env("WEBHOOK_URL", "http://127.0.0.1:1/hooks")
        .env("WEBHOOK_SECRET", "a secret of this test")
}

fn app() -> App {
    App::http(8080).base_us(12_000).jitter_us(500).spot(Change::to_us(6_000))
}

impl Fixture {
    pub(super) fn load(kind: Kind) -> Self {
        let (store, world, _) = names(kind);
        let read = |name: &str| std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let world: Value = serde_json::from_slice(&read(world)).expect("JSON");
        Self { kind, now: world["nowMs"].as_i64().expect("a time"), world, store: read(store) }
    }

    pub(super) fn save(&self, documents: &[(&str, Value)]) {
        let (store, world, printed) = names(self.kind);
        std::fs::write(folder().join(store), &self.store).unwrap();
        // One line a row.
        let text = self.world.to_string().replace("},{", "},\n{");
        std::fs::write(folder().join(world), format!("{text}\n")).unwrap();
        let lines = documents.iter().map(|(words, document)| format!("{}\n", json!([words, document])));
        std::fs::write(folder().join(printed), lines.collect::<String>()).unwrap();
    }

    /// What the earlier version printed.
    pub(super) fn printed(&self, words: &str) -> Value {
        let text = std::fs::read_to_string(folder().join(names(self.kind).2)).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<(String, Value)>(line).expect("JSON"));
        lines.find(|(call, _)| call == words).unwrap_or_else(|| panic!("{words} is not pinned")).1
    }

    /// A provider and a store as they were.
    pub(super) fn stage(&self) -> Stage {
        let stage = Stage::new(self.kind, self.restored_world());
        match &stage.redis {
            Some(redis) => {
                for line in std::str::from_utf8(&self.store).unwrap().lines() {
                    let words: Vec<String> = serde_json::from_str(line).expect("a command");
                    redis.raw(&words.iter().map(String::as_str).collect::<Vec<_>>());
                }
            }
            None => {
                stage.file("state/respot/state.db", &self.store);
                // Migration times live for seven days of the real clock.
                stage.open_sqlite().execute(r#"UPDATE "values" SET expires_at = NULL"#, []).unwrap();
            }
        }
        stage
    }

    /// What a call prints on a copy, and with which code it ends, without what differs from run to run.
    pub(super) fn document(&self, words: &str, program: Option<&Path>) -> Value {
        let stage = self.stage();
        let mut call = call(&stage, words).now(Some(self.now));
        if let Some(program) = program {
            call = call.by(program);
        }
        let output = call.output();
        let mut printed = if words.contains("-o json") {
            output.json()
        } else {
            output.stdout.lines().map(|line| Value::from(line.trim_end_matches('\r'))).collect()
        };
        if words.starts_with("history") && words != DOCUMENTS[1] {
            // They are pinned whole by the list of all.
            let executions = printed.get_mut("executions").and_then(Value::as_array_mut);
            for execution in executions.into_iter().flatten() {
                *execution = execution["jobId"].clone();
            }
        }
        let mut document = json!({"exit": output.code(), "printed": printed});
        Steady { now: Timestamp::from_millis(self.now), known: self.known(), words }.make(&mut document, "");
        document
    }

    /// Everything that was known before a call.
    fn known(&self) -> String {
        let stored: String = self.stage().dump().into_iter().map(|(key, text)| key + &text).collect();
        format!("{} {stored}", self.world)
    }

    fn restored_world(&self) -> World {
        let mut world = quick(12).starting_at(self.now);
        for row in self.world["instances"].as_array().expect("instances") {
            let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name} in {row}")).to_owned();
            let time = |name: &str| row[name].as_i64().unwrap_or_else(|| panic!("{name} in {row}"));
            let mut spec = Spec::running(&text("name")).id(&text("id")).status(&text("status"));
            spec = spec.billing(&text("billingMode")).cluster(&text("clusterId")).image(&text("imageUrl"));
            if text("name").starts_with("web-") {
                spec = spec.load(Load::Stable(40)).app(app());
            }
            for volume in row["volumes"].as_array().expect("volumes") {
                spec = spec.network_volume(volume[0].as_str().unwrap(), volume[1].as_str().unwrap());
            }
            let fate =
                [Fate::Seeded, Fate::Succeeds, Fate::NoStock].into_iter().find(|it| row["fate"] == format!("{it:?}"));
            let id = world.add(spec.fate(fate.unwrap_or_default()));
            world.edit(&id, |machine| {
                machine.product_id = text("productId");
                machine.price = u32::try_from(time("price")).unwrap();
                machine.spot_status = text("spotStatus");
                machine.spot_reclaim_at = time("spotReclaimAt");
                machine.created_at = time("createdAt");
                machine.first_ran_at = time("firstRanAt");
                machine.last_started_at = time("lastStartedAt");
                machine.last_stopped_at = time("lastStoppedAt");
            });
        }
        for row in self.world["jobs"].as_array().expect("jobs") {
            let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name} in {row}")).to_owned();
            let job =
                JobRow::migration(&text("instanceId"), &text("state"), row["createdAt"].as_i64().expect("a time"));
            world.add_job(JobRow { id: text("id"), ..job });
        }
        world
    }

    /// Plays the story with a program, and keeps what is left.
    pub(super) fn record(kind: Kind, program: &Path) -> Self {
        let stage = told(kind, program);
        let now = stage.provider.with(|world| world.now_ms());
        let world = stage.provider.with(|world| snapshot(world, now));
        let store = match &stage.redis {
            Some(_) => {
                let stored = stage.dump().into_iter().filter(|(key, _)| !key.starts_with("respot:lease"));
                let commands = stored.map(|(key, text)| {
                    let words = match key.split_once('[') {
                        Some((map, field)) => vec!["HSET", map, field.trim_end_matches(']'), &text],
                        None => vec!["SET", &key, &text],
                    };
                    format!("{}\n", json!(words))
                });
                commands.collect::<String>().into_bytes()
            }
            None => {
                stage.open_sqlite().execute("VACUUM", []).unwrap();
                std::fs::read(stage.state_file()).unwrap()
            }
        };
        Self { kind, now, world, store }
    }
}

fn snapshot(world: &World, now: i64) -> Value {
    let instances: Vec<Value> = world
        .machines()
        .map(|it: &Machine| {
            let volumes: Vec<_> = it.volumes.iter().map(|it| (&it.id, &it.mount_path)).collect();
            json!({"id": it.id, "name": it.name, "status": it.status, "billingMode": it.billing_mode,
                "clusterId": it.cluster_id, "productId": it.product_id, "imageUrl": it.image_url, "price": it.price,
                "spotStatus": it.spot_status, "spotReclaimAt": it.spot_reclaim_at, "createdAt": it.created_at,
                "firstRanAt": it.first_ran_at, "lastStartedAt": it.last_started_at,
                "lastStoppedAt": it.last_stopped_at, "fate": format!("{:?}", it.fate), "volumes": volumes})
        })
        .collect();
    let job =
        |it: &JobRow| json!({"id": it.id, "instanceId": it.instance_id, "state": it.state, "createdAt": it.created_at});
    json!({"nowMs": now, "instances": instances, "jobs": world.jobs().iter().map(job).collect::<Vec<_>>()})
}

/// Some hours in which everything happens that a store can hold.
fn told(kind: Kind, program: &Path) -> Stage {
    let mut world = quick(11);
    world.add(Spec::running("api").id("api"));
    world.add(Spec::running("soon").id("soon"));
    world.add(Spec::exited("dear").id("dear").billing("onDemand"));
    for (id, fate) in
        [("ok", Fate::Succeeds), ("bad", Fate::FailsStuck), ("back", Fate::FailsBack), ("full", Fate::NoStock)]
    {
        world.add(Spec::reclaimed(id, 60_000).id(id).fate(fate));
    }
    for id in ["lost", "void"] {
        world.add(Spec::exited(id).id(id).fate(Fate::Succeeds));
    }
    world.add(Spec::exited("gone").id("gone").fate(Fate::NeverEnds));
    world.add(Spec::stuck("quar", 60_000).id("quar"));
    for number in 0..4 {
        let id = format!("web-{number}");
        let spec = Spec::running(&id).id(&id).billing("onDemand").image(&format!("registry.example/{id}:1"));
        world.add(spec.load(Load::Stable(40)).app(app()));
    }
    let stage = Stage::new(kind, world);
    let act = |words: &str, more: &[(&str, &str)]| {
        let run = more.iter().fold(call(&stage, words), |call, (name, value)| call.env(name, value));
        let output = run.by(program).output();
        assert!(matches!(output.code(), 0 | 1 | 3), "{words}: {output:?}");
        stage.provider.advance(15 * MINUTE);
        output
    };
    let calm = || stage.provider.with(World::clear_faults);
    stage.fault("migrate/lost:cut-after*1");
    stage.fault("migrate/void:cut-before*1");
    stage.fault("create/quar-*:status=400,reason=IMAGE_NOT_FOUND");
    for _ in 0..3 {
        act("run -q", &[]);
    }
    stage.provider.with(|world| assert!(world.vanish("gone") && world.reclaim("soon")));
    act("check-failed -q", &[]);
    calm();
    // A key that is refused, a page of a proxy, and a rehearsal.
    act("run -q", &[("NOVITA_API_KEY", "sk_other")]).ends_with(3);
    stage.fault("list:html");
    act("run -q", &[]).ends_with(3);
    calm();
    act("run -q", &[("MIGRATION_DRY_RUN", "true")]);
    // A rollout in its first stage.
    for _ in 0..3 {
        act("rollout --yes -q --stages 25,100", &[]);
    }
    // A pass that is killed before it has seen anything, closed by the next.
    killed(&stage, program, "run -q", "list:hang*9", || stage.status()["lastExecution"]["status"] == "running");
    // One that is not there yet, one of which it is not known, one of which only the specification is left.
    stage.provider.with(|world| {
        world.add(Spec::stuck("slow", 60_000).id("slow"));
        world.add(Spec::stuck("unsure", 60_000).id("unsure").network_volume("volume-1", "/data"));
        world.add(Spec::stuck("df", 60_000).id("df"));
        world.add(Spec::exited("stalled").id("stalled").status("migrating").stopped_ago_ms(HOUR.cast_signed()));
        world.add(Spec::exited("pending").id("pending").fate(Fate::NeverEnds));
        world.add(Spec::exited("cooling").id("cooling").fate(Fate::Succeeds));
        world.rules_mut().create_step_ms = HOUR.cast_signed();
    });
    stage.fault("create/df-*:status=400,reason=INSUFFICIENT_RESOURCE");
    for _ in 0..2 {
        act("run -q --only df", &[("MIGRATION_RECREATE_ORDER", "delete-first")]);
    }
    stage.fault("create/unsure-*:cut-before");
    stage.fault("create/slow-*:delay=1");
    act("run -q --exclude df", &[]);
    stage.provider.with(|world| world.user_stop("cooling"));
    act("run -q --exclude df", &[("MIGRATION_DRY_RUN", "true")]);
    // Killed with a call under way.
    stage.provider.with(|world| {
        world.add(Spec::exited("cut").id("cut").fate(Fate::Succeeds));
    });
    killed(&stage, program, "run -q --only cut", "migrate/cut:hang", || {
        stage.dump().keys().any(|key| key.contains("in-flight[cut]"))
    });
    stage
}

/// Starts a pass that cannot go on, and kills it once the store knows what it did.
fn killed(stage: &Stage, program: &Path, words: &str, fault: &str, is_recorded: impl Fn() -> bool) {
    stage.fault(fault);
    let running = call(stage, words).by(program).spawn();
    assert!((0..400).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        is_recorded()
    }));
    running.signal(Signal::KILL);
    running.wait();
    stage.end_lease();
    stage.provider.with(World::clear_faults);
    stage.provider.advance(15 * MINUTE);
}

/// Makes documents of two runs comparable.
struct Steady<'a> {
    now: Timestamp,
    /// Ids that are in here are not drawn by the call.
    known: String,
    words: &'a str,
}

impl Steady<'_> {
    fn make(&self, value: &mut Value, name: &str) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| self.make(value, name)),
            Value::Array(values) => values.iter_mut().for_each(|value| self.make(value, name)),
            Value::String(text) => *text = self.steady(text),
            Value::Number(_) if self.is_measured(name) => *value = json!("(measured)"),
            Value::Number(_) | Value::Null | Value::Bool(_) => {}
        }
    }

    fn is_measured(&self, name: &str) -> bool {
        // What was saved is counted to the moment.
        let counted = name == "realisedSavings";
        let timed = ["duration", "responseTime"].contains(&name);
        counted
            || timed && ["run", "check-failed", "dry-run"].iter().any(|it| self.words.starts_with(it))
            || self.words.starts_with("rollout --yes") && name != "exit"
    }

    fn steady(&self, text: &str) -> String {
        if text.parse::<Timestamp>().is_ok_and(|at| at >= self.now) {
            return "(later)".into();
        }
        let id = text.rsplit_once('-').map_or(text, |(_, id)| id);
        let is_drawn =
            id.len() >= 16 && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c.is_ascii_hexdigit());
        if is_drawn && !self.known.contains(text) { "(drawn)".into() } else { text.to_owned() }
    }
}

/// Sentences may change, unless they are stored; machine names and figures may not.
pub(super) fn without_prose(words: &str, mut document: Value) -> Value {
    if !words.starts_with("history -o json") {
        blank(&mut document);
    }
    document
}

fn blank(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(blank),
        Value::Array(values) => values.iter_mut().for_each(blank),
        Value::String(text) if text.starts_with("# HELP ") => {
            *text = text.split(' ').take(3).collect::<Vec<_>>().join(" ");
        }
        Value::String(text) if text.contains(' ') && !text.starts_with(['#', '"']) && !text.starts_with("respot_") => {
            *text = "(a sentence)".into();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
