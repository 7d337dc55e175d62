//! What a pass and an analysis cost: the release binary against the stand-in for the provider over real HTTP, as cron would run it.
//!
//! `cargo bench` measures every row and compares it with its bound; `cargo bench -- 100_000` those whose name contains
//! the word; `cargo bench -- --quick` runs small fleets once and judges nothing; `cargo bench -- --serve 100000 100 0`
//! keeps such a fleet up for a profiler: instances, exited, milliseconds a call.
//!
//! Three rules keep the numbers honest. Every pass is checked on the world that it leaves behind, since a pass that
//! fails is fast. The program is started by a small process of its own (see [`probe`]), so that neither the stand-in
//! nor its memory is counted. And the stand-in has written all its pages before the clock starts.

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/redis_server.rs"]
mod redis_server;

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use novita_sim::{Call, Op, Options, Server, Spec, World};
use redis_server::RedisServer;
use respot::clock::Clock;
use respot::cloud::transport::Method;
use respot::commands::analyze::READS_AT_ONCE;
use respot::core::pass::spell::{DaySums, Spell, SpellEnd};
use respot::core::pass::usage::{InstanceDay, MeteredUsage};
use respot::core::record::downtime::DowntimeChange;
use respot::core::world::instance::{InstanceId, Place};
use respot::core::world::money::Usd;
use respot::core::world::time::Timestamp;
use respot::store::records::{Change, Mode, writes};
use respot::store::sqlite::SqliteStore;
use respot::store::{Acquired, StoreError, StoreWrite as _};
use tempfile::TempDir;

const RESPOT: &str = env!("CARGO_BIN_EXE_respot");

/// The first argument that turns this program into the probe.
const PROBE: &str = "--probe";

/// Pages that the client asks for at once, rows in a page, and migrations in flight: what the minimum follows from.
const PAGES_AT_ONCE: usize = 10;
const PAGE_SIZE: usize = 100;
const WORKERS: usize = 5;

/// Kinds of offers in the fleet that is analysed: products times numbers of GPUs.
const PRODUCTS: [&str; 3] = ["4090.16c62g", "a100.32c120g", "l40s.16c80g"];
const MOST_GPUS: u32 = 2;

/// One line of the table.
struct Row {
    name: &'static str,
    what: What,
    runs: usize,
    bounds: Bounds,
}

#[derive(Clone, Copy)]
enum What {
    /// `respot --help`.
    Help,
    /// `respot run` on a fleet.
    Pass { instances: usize, exited: usize, latency: Duration, store: Store },
    /// `respot run` on a fleet with reclaimed instances for which there is room in another market only; it waits for none
    /// of the replacements.
    Elsewhere { instances: usize, reclaimed: usize, latency: Duration },
    /// `respot analyze` on a fleet of on-demand instances.
    Analysis { instances: usize, latency: Duration },
    /// `respot report` with these options, on a store of so many instances and days.
    Report { instances: usize, days: usize, options: &'static [&'static str] },
    /// The file of the program.
    Binary,
}

#[derive(Clone, Copy, PartialEq)]
enum Store {
    Sqlite,
    Redis,
}

/// What must not be exceeded. Bounds that a row does not have are `None`.
#[derive(Clone, Copy)]
struct Bounds {
    wall: Option<Wall>,
    /// User and system time.
    cpu_ms: Option<f64>,
    /// Peak of resident memory, or size on disk.
    mb: Option<f64>,
}

#[derive(Clone, Copy)]
enum Wall {
    /// 1.10 times the calls that must follow one another, and 50 ms.
    Sequence,
    /// 1.15 times the calls that must follow one another.
    Elsewhere,
    /// 1.20 times the calls that must follow one another.
    Analysis,
    Ms(f64),
}

const NONE: Bounds = Bounds { wall: None, cpu_ms: None, mb: None };
const SEQUENCE: Bounds = Bounds { wall: Some(Wall::Sequence), ..NONE };
const IDLE: Bounds = Bounds { cpu_ms: Some(10.0), mb: Some(12.0), ..NONE };
const HUGE: Bounds = Bounds { cpu_ms: Some(1000.0), mb: Some(40.0), ..NONE };

const fn pass(instances: usize, exited: usize, latency_ms: u64, store: Store) -> What {
    What::Pass { instances, exited, latency: Duration::from_millis(latency_ms), store }
}

const fn elsewhere(instances: usize, reclaimed: usize, latency_ms: u64) -> What {
    What::Elsewhere { instances, reclaimed, latency: Duration::from_millis(latency_ms) }
}

const REPORT: Bounds = Bounds { wall: Some(Wall::Ms(100.0)), mb: Some(30.0), ..NONE };

const fn report(options: &'static [&'static str]) -> What {
    What::Report { instances: 200, days: 90, options }
}

const fn analysis(instances: usize, latency_ms: u64) -> What {
    What::Analysis { instances, latency: Duration::from_millis(latency_ms) }
}

const ROWS: &[Row] = &[
    Row { name: "--help", what: What::Help, runs: 40, bounds: Bounds { wall: Some(Wall::Ms(5.0)), ..NONE } },
    Row { name: "100, nothing to do, Redis", what: pass(100, 0, 0, Store::Redis), runs: 20, bounds: IDLE },
    Row { name: "100, nothing to do, SQLite", what: pass(100, 0, 0, Store::Sqlite), runs: 20, bounds: NONE },
    Row {
        name: "1_000, 100 exited, 50 ms, Redis",
        what: pass(1_000, 100, 50, Store::Redis),
        runs: 7,
        bounds: SEQUENCE,
    },
    Row {
        name: "1_000, 100 exited, 50 ms, SQLite",
        what: pass(1_000, 100, 50, Store::Sqlite),
        runs: 7,
        bounds: SEQUENCE,
    },
    Row {
        name: "10_000, 100 exited, 50 ms, SQLite",
        what: pass(10_000, 100, 50, Store::Sqlite),
        runs: 5,
        bounds: SEQUENCE,
    },
    Row {
        name: "1_000, 100 go elsewhere, 50 ms",
        what: elsewhere(1_000, 100, 50),
        runs: 7,
        bounds: Bounds { wall: Some(Wall::Elsewhere), ..NONE },
    },
    Row { name: "100_000, 100 exited, 0 ms, Redis", what: pass(100_000, 100, 0, Store::Redis), runs: 7, bounds: HUGE },
    Row {
        name: "100_000, 100 exited, 0 ms, SQLite",
        what: pass(100_000, 100, 0, Store::Sqlite),
        runs: 7,
        bounds: HUGE,
    },
    Row {
        name: "analyze 1_000 on demand, 50 ms",
        what: analysis(1_000, 50),
        runs: 7,
        bounds: Bounds { wall: Some(Wall::Analysis), ..NONE },
    },
    Row { name: "report, 200 for 90 days", what: report(&["-ojson"]), runs: 10, bounds: REPORT },
    Row { name: "report, one of 200", what: report(&["-ojson", "--instance=i7"]), runs: 10, bounds: REPORT },
    Row { name: "report, as a page", what: report(&["--html=report.html"]), runs: 10, bounds: REPORT },
    Row { name: "binary, stripped", what: What::Binary, runs: 1, bounds: Bounds { mb: Some(8.0), ..NONE } },
];

/// Small enough for every build: whether the benches still work, not how fast anything is.
const QUICK: &[Row] = &[
    Row { name: "--help", what: What::Help, runs: 1, bounds: NONE },
    Row { name: "100, nothing to do, Redis", what: pass(100, 0, 0, Store::Redis), runs: 1, bounds: NONE },
    Row { name: "1_000, 100 exited, 1 ms, Redis", what: pass(1_000, 100, 1, Store::Redis), runs: 1, bounds: NONE },
    Row { name: "1_000, 100 exited, 1 ms, SQLite", what: pass(1_000, 100, 1, Store::Sqlite), runs: 1, bounds: NONE },
    Row { name: "1_000, 100 go elsewhere, 1 ms", what: elsewhere(1_000, 100, 1), runs: 1, bounds: NONE },
    Row { name: "analyze 100 on demand, 1 ms", what: analysis(100, 1), runs: 1, bounds: NONE },
    Row {
        name: "report, 10 for 10 days",
        what: What::Report { instances: 10, days: 10, options: &["-ojson"] },
        runs: 1,
        bounds: NONE,
    },
    Row { name: "binary, stripped", what: What::Binary, runs: 1, bounds: NONE },
];

/// What one run took.
#[derive(Clone, Copy)]
struct Cost {
    wall_ms: f64,
    cpu_ms: f64,
    memory_mb: f64,
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == PROBE) {
        return probe(&arguments[1..]);
    }
    // Cargo's own word for `harness = false`.
    arguments.retain(|argument| argument != "--bench");
    let quick = arguments.iter().any(|argument| argument == "--quick");
    arguments.retain(|argument| argument != "--quick");
    if let [serve, numbers @ ..] = &arguments[..]
        && serve == "--serve"
    {
        return keep_up(numbers);
    }
    let wanted = |row: &&Row| arguments.is_empty() || arguments.iter().any(|word| row.name.contains(word.as_str()));

    let has_redis = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    print(&format!(
        "{:<34} {:<8} {:>28} {:>10} {:>7} {:>10}",
        "row", "what", "median (least to most)", "minimum", "ratio", "bound"
    ));
    let mut missed = 0;
    for row in if quick { QUICK } else { ROWS }.iter().filter(wanted) {
        if matches!(row.what, What::Pass { store: Store::Redis, .. }) && !has_redis {
            print(&format!("{:<34} left out: there is no redis-server", row.name));
            continue;
        }
        match measure(row) {
            Ok(lines) => {
                for (line, within) in lines {
                    missed += usize::from(!within);
                    print(&line);
                }
            }
            Err(why) => {
                missed += 1;
                print(&format!("{:<34} FAILED: {why}", row.name));
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Serves a fleet until it is interrupted.
fn keep_up(numbers: &[String]) -> ExitCode {
    let numbers: Vec<u32> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let [instances, exited, latency_ms] = numbers[..] else {
        print("--serve takes three numbers: instances, exited, milliseconds a call");
        return ExitCode::FAILURE;
    };
    let options = Options { latency: Duration::from_millis(latency_ms.into()), ..Options::default() };
    match Server::start(fleet(instances as usize, exited as usize), options) {
        Ok(server) => {
            print(&format!("NOVITA_API_KEY=sk_test NOVITA_API_BASE_URL={}", server.url()));
            server.wait();
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The lines of a row, and whether each is within its bound.
fn measure(row: &Row) -> Result<Vec<(String, bool)>, String> {
    let Row { name, what, runs, bounds: Bounds { wall: wall_bound, cpu_ms: cpu_bound, mb: mb_bound } } = row;
    let fleet = match *what {
        What::Binary => {
            let bytes = std::fs::metadata(RESPOT).map_err(|error| error.to_string())?.len();
            return Ok(vec![line(name, "size", &mut [megabytes(bytes)], "MB", None, *mb_bound)]);
        }
        What::Pass { instances, exited, .. } => Some(fleet(instances, exited)),
        What::Elsewhere { instances, reclaimed, .. } => Some(without_room(instances, reclaimed)),
        What::Analysis { instances, .. } => Some(on_demand(instances)),
        What::Help | What::Report { .. } => None,
    };
    let (mut wall, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..*runs {
        let Cost { wall_ms, cpu_ms, memory_mb } = match (what, &fleet) {
            (What::Pass { latency, store, .. }, Some(fleet)) => run_pass(fleet.clone(), *latency, *store)?,
            (What::Elsewhere { latency, .. }, Some(fleet)) => run_elsewhere(fleet.clone(), *latency)?,
            (What::Analysis { latency, .. }, Some(fleet)) => run_analysis(fleet.clone(), *latency)?,
            (What::Report { instances, days, options }, _) => run_report(*instances, *days, options)?,
            _ => run_probe(&["--help"], &[], None)?,
        };
        wall.push(wall_ms);
        cpu.push(cpu_ms);
        memory.push(memory_mb);
    }
    let minimum = match *what {
        What::Pass { instances, exited, latency, .. } if !latency.is_zero() => {
            Some(millis(latency) * as_f64(calls_in_sequence(instances, exited)))
        }
        What::Elsewhere { instances, reclaimed, latency } => {
            let calls = pages_in_sequence(instances) + creations_in_sequence(reclaimed);
            Some(millis(latency) * as_f64(calls))
        }
        What::Analysis { instances, latency } => {
            Some(millis(latency) * as_f64(pages_in_sequence(instances) + reads_in_sequence(instances)))
        }
        What::Pass { .. } | What::Help | What::Report { .. } | What::Binary => None,
    };
    let wall_bound = wall_bound.and_then(|bound| match bound {
        Wall::Sequence => minimum.map(|minimum| 1.10 * minimum + 50.0),
        Wall::Elsewhere => minimum.map(|minimum| 1.15 * minimum),
        Wall::Analysis => minimum.map(|minimum| 1.20 * minimum),
        Wall::Ms(most) => Some(most),
    });
    Ok(vec![
        line(name, "wall", &mut wall, "ms", minimum, wall_bound),
        line("", "own CPU", &mut cpu, "ms", None, *cpu_bound),
        line("", "memory", &mut memory, "MB", None, *mb_bound),
    ])
}

/// The calls of a pass that cannot be made at the same time: the first page tells how many there are, the others come
/// some at once, and then the migrations, of which the first to a market goes alone.
fn calls_in_sequence(instances: usize, exited: usize) -> usize {
    pages_in_sequence(instances) + 1 + exited.saturating_sub(1).div_ceil(WORKERS)
}

fn pages_in_sequence(instances: usize) -> usize {
    let other_pages = instances.div_ceil(PAGE_SIZE).saturating_sub(1);
    1 + other_pages.div_ceil(PAGES_AT_ONCE)
}

/// One migration is refused, and what each is made of is read, and what is on offer; the first creation goes alone.
fn creations_in_sequence(reclaimed: usize) -> usize {
    1 + reclaimed.div_ceil(WORKERS) + 1 + 1 + (reclaimed - 1).div_ceil(WORKERS)
}

/// An analysis asks for each kind of offer, and for the metrics of each instance.
fn reads_in_sequence(instances: usize) -> usize {
    (PRODUCTS.len() * MOST_GPUS as usize + instances).div_ceil(READS_AT_ONCE)
}

fn line(
    name: &str,
    what: &str,
    values: &mut [f64],
    unit: &str,
    minimum: Option<f64>,
    bound: Option<f64>,
) -> (String, bool) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    let spread = match values {
        [_] => format!("{median:.1} {unit}"),
        [least, .., most] => format!("{median:.1} ({least:.1} to {most:.1}) {unit}"),
        [] => String::new(),
    };
    let within = bound.is_none_or(|bound| median <= bound);
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.0} {unit}"));
    // Without a minimum the ratio says how much of the bound is used.
    let ratio = minimum.or(bound).map_or_else(|| "-".into(), |of| format!("{:.2}", median / of));
    let mark = match bound {
        Some(_) if within => " ok",
        Some(_) => " MISSED",
        None => "",
    };
    let (minimum, bound) = (number(minimum), number(bound));
    (format!("{name:<34} {what:<8} {spread:>28} {minimum:>10} {ratio:>7} {bound:>10}{mark}"), within)
}

/// A fleet with as many exited instances, spread over all pages; every third row takes liberties with the wire format.
fn fleet(instances: usize, exited: usize) -> World {
    let mut world = World::new(7).starting_at(now_ms());
    let every = instances.checked_div(exited).unwrap_or(usize::MAX);
    for number in 0..instances {
        let name = format!("train-{number}");
        let spec = if number % every == every / 2 { Spec::exited(&name) } else { Spec::running(&name) };
        let quirks = if number % 3 == 0 { u32::try_from(number).unwrap_or(0) & novita_sim::quirk::ALL } else { 0 };
        world.add(spec.quirks(quirks).env("API_TOKEN", "env-secret"));
    }
    write_pages(&mut world, instances);
    world
}

/// A fleet with as many reclaimed instances, whose market has no room any more.
fn without_room(instances: usize, reclaimed: usize) -> World {
    let mut world = World::new(7).starting_at(now_ms());
    let every = instances / reclaimed;
    for number in 0..instances {
        let name = format!("train-{number}");
        let is_down = number % every == every / 2;
        world.add(if is_down { Spec::reclaimed(&name, 20 * 60_000) } else { Spec::running(&name) });
    }
    world.withdraw_product("4090.12c50g.v2");
    if let Some(product) = world.product_mut(PRODUCTS[0]) {
        product.sold_out_in = vec!["us-xx-1".into()];
    }
    write_pages(&mut world, instances);
    world
}

/// A fleet that runs on demand, on every kind of offer; what it would cost as spot is on offer, too.
fn on_demand(instances: usize) -> World {
    let mut world = World::new(7).starting_at(now_ms());
    let products = PRODUCTS.iter().flat_map(|product| (1..=MOST_GPUS).map(move |gpus| (product, gpus)));
    for (number, (product, gpus)) in products.cycle().take(instances).enumerate() {
        world.add(Spec::running(&format!("train-{number}")).billing("onDemand").product(product, gpus));
    }
    write_pages(&mut world, instances);
    world
}

fn write_pages(world: &mut World, instances: usize) {
    // A page that was asked for once is a copy of text from then on.
    for page in 1..=instances.div_ceil(PAGE_SIZE) {
        world.serve(&Call {
            method: Method::Get,
            path: "/v1/gpu/instances".into(),
            query: vec![("pageSize".into(), PAGE_SIZE.to_string()), ("pageNum".into(), page.to_string())],
            key: Some(world.rules().key.clone()),
            body: Vec::new(),
        });
    }
}

/// One pass over the fleet with an empty store, checked on what it did.
fn run_pass(fleet: World, latency: Duration, store: Store) -> Result<Cost, String> {
    let exited: Vec<String> =
        fleet.machines().filter(|machine| machine.status == "exited").map(|machine| machine.id.clone()).collect();
    let key = fleet.rules().key.clone();
    let server = Server::start(fleet, Options { latency, ..Options::default() }).map_err(|error| error.to_string())?;
    // On the disk that also holds the build: a temporary folder may be in memory, where a store's syncs cost nothing.
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let redis = (store == Store::Redis).then(RedisServer::start);
    let store = match &redis {
        Some(redis) => redis.url(),
        None => format!("sqlite:{}", folder.path().join("state.db").display()),
    };
    let environment = [("NOVITA_API_KEY", key), ("NOVITA_API_BASE_URL", server.url())];
    let log = folder.path().join("log");
    let cost = run_probe(&["run", "--store", &store], &environment, Some(&log))?;
    server.with(|world| {
        let wrong: Vec<&String> = exited.iter().filter(|id| world.accepted_migrations_of(id) != 1).collect();
        let calls = world.calls(Op::Migrate);
        if !wrong.is_empty() || calls != exited.len() as u64 {
            return Err(format!("{calls} migrate calls, {} instances not migrated exactly once", wrong.len()));
        }
        Ok(cost)
    })
}

/// One pass that creates everything elsewhere, checked on that.
fn run_elsewhere(fleet: World, latency: Duration) -> Result<Cost, String> {
    let reclaimed = fleet.machines().filter(|machine| machine.status == "exited").count();
    let key = fleet.rules().key.clone();
    let server = Server::start(fleet, Options { latency, ..Options::default() }).map_err(|error| error.to_string())?;
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let store = format!("sqlite:{}", folder.path().join("state.db").display());
    let environment = [
        ("NOVITA_API_KEY", key),
        ("NOVITA_API_BASE_URL", server.url()),
        ("MIGRATION_RECREATE_WAIT_MS", "0".into()),
        ("MIGRATION_KEEP_TRYING_MS", "0".into()),
    ];
    let cost = run_probe(&["run", "--store", &store], &environment, Some(&folder.path().join("log")))?;
    server.with(|world| {
        let (refused, created) = (world.calls(Op::Migrate), world.applied(Op::Create));
        match (refused, created) {
            (1, created) if created == reclaimed => Ok(cost),
            _ => Err(format!("{refused} migrate calls, {created} of {reclaimed} created")),
        }
    })
}

/// One analysis of the fleet with an empty store, checked on what it asked for, and that it did nothing.
fn run_analysis(fleet: World, latency: Duration) -> Result<Cost, String> {
    let instances = fleet.machines().count() as u64;
    let key = fleet.rules().key.clone();
    let server = Server::start(fleet, Options { latency, ..Options::default() }).map_err(|error| error.to_string())?;
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let store = format!("sqlite:{}", folder.path().join("state.db").display());
    let environment = [("NOVITA_API_KEY", key), ("NOVITA_API_BASE_URL", server.url())];
    let cost = run_probe(&["analyze", "--store", &store], &environment, Some(&folder.path().join("log")))?;
    server.with(|world| {
        let calls = [Op::Products, Op::Metrics].map(|op| world.calls(op));
        if calls != [(PRODUCTS.len() * MOST_GPUS as usize) as u64, instances] || !world.log().is_empty() {
            return Err(format!("{calls:?} questions for offers and metrics, {} writes", world.log().len()));
        }
        Ok(cost)
    })
}

/// One report on a store as passes leave it: in every place some instances, each down once in nine days.
fn run_report(instances: usize, days: usize, options: &[&str]) -> Result<Cost, String> {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let file = folder.path().join("state.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let filled = runtime.map_err(|error| error.to_string())?.block_on(fill(&file, instances, days));
    filled.map_err(|error| error.to_string())?;
    let page = folder.path().join("report.html");
    let page = format!("--html={}", page.display());
    let options = options.iter().map(|option| if option.starts_with("--html") { &page } else { *option });
    let store = format!("sqlite:{}", file.display());
    let arguments: Vec<&str> = ["report", "--since", "90d", "--store", &store].into_iter().chain(options).collect();
    run_probe(&arguments, &[], Some(&folder.path().join("log")))
}

async fn fill(file: &Path, instances: usize, days: usize) -> Result<(), StoreError> {
    const DAY_MS: i64 = 86_400_000;
    const PLACES: usize = 20;
    let now = Timestamp::from_millis(now_ms());
    let at = |day: usize, hour: i64| {
        let ago = i64::try_from(days - day).unwrap_or(0) * DAY_MS;
        Timestamp::from_millis(now.as_millis() / DAY_MS * DAY_MS - ago + hour * 3_600_000)
    };
    let id = |number: usize| InstanceId::new(&format!("i{number}"));
    let place = |number: usize| Place {
        product: format!("4090.{}c62g", number % 4).as_str().into(),
        cluster: format!("us-xx-{}", number % (PLACES / 4)).as_str().into(),
    };
    let cents = |cents: u64| Usd::from_hundred_thousandths(cents * 1000);
    let usage =
        MeteredUsage { running_seconds: 86_000, priced_seconds: 86_000, cost: cents(800), on_demand_cost: cents(1600) };
    let mut changes = Vec::new();
    for day in 0..days {
        let name = at(day, 0).to_string().chars().take(10).collect::<String>();
        let mut sums = DaySums { looked_at: Some(at(day + 1, 0)), instances: 200, ..DaySums::default() };
        let mut ran = InstanceDay::default();
        for number in 0..instances {
            sums.running_seconds += usage.running_seconds;
            sums.places.entry(place(number).key()).or_default().add(usage);
            ran.add(&id(number), usage);
            if number % 9 == day % 9 {
                let spell = Spell {
                    ids: vec![id(number)],
                    name: format!("train-{number}"),
                    market: place(number).to_string(),
                    down_at: at(day, 1 + i64::try_from(number % 20).unwrap_or(0)),
                    seen_at: at(day, 2 + i64::try_from(number % 20).unwrap_or(0)),
                    ..Spell::default()
                };
                let up_at = at(day, 3 + i64::try_from(number % 20).unwrap_or(0));
                changes.push(DowntimeChange::Ended(spell.ended(up_at, SpellEnd::InPlace)));
            }
        }
        changes.push(DowntimeChange::Day(name.clone(), sums));
        changes.push(DowntimeChange::Instances(name, ran));
    }
    let store = SqliteStore::open(file, Clock::system())?;
    let Acquired::Granted(lease) = store.acquire("lease", "bench").await? else { return Err(StoreError::LeaseLost) };
    let changes = changes.into_iter().map(Change::Downtime).collect();
    store.commit(&lease, &writes(changes, Mode::Real, now)).await
}

/// Has the probe run respot with this environment and no other.
fn run_probe(arguments: &[&str], environment: &[(&str, String)], log: Option<&Path>) -> Result<Cost, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let log = log.unwrap_or(Path::new("/dev/null"));
    let output = Command::new(this)
        .arg(PROBE)
        .arg(log)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .map_err(|error| format!("the probe: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [0.0, wall_ms, cpu_ms, memory_mb] => Ok(Cost { wall_ms, cpu_ms, memory_mb }),
        _ => {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let last = log.lines().last().unwrap_or_default();
            Err(format!("respot {} ended with {text:?}: {last}", arguments.join(" ")))
        }
    }
}

/// Runs respot and prints its exit code, wall time, CPU time and peak memory.
///
/// A process of its own, since the system tells the cost of all children together, and since a child inherits the peak
/// memory of whoever starts it.
fn probe(arguments: &[String]) -> ExitCode {
    let Some((log, arguments)) = arguments.split_first() else { return ExitCode::FAILURE };
    let run = || -> std::io::Result<String> {
        let mut command = Command::new(RESPOT);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
        let started = now();
        let status = command.spawn()?.wait()?;
        let wall = started.elapsed();
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let (user, system) = (usage.user_time(), usage.system_time());
        let cpu_us = [user, system].iter().map(|time| time.tv_sec() * 1_000_000 + time.tv_usec()).sum::<i64>();
        let memory_kib = u64::try_from(usage.max_rss()).unwrap_or(0);
        let cpu = Duration::from_micros(u64::try_from(cpu_us).unwrap_or(0));
        Ok(format!("{} {} {} {}", status.code().unwrap_or(-1), millis(wall), millis(cpu), megabytes(memory_kib * 1024)))
    };
    match run() {
        Ok(numbers) => {
            print(&numbers);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a handful of calls")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the stand-in lives in the present")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_macros, reason = "a bench prints its table")]
fn print(line: &str) {
    println!("{line}");
}
