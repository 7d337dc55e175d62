//! One fleet on one trace: the world, and who makes the passes.

use std::cell::RefCell;
use std::time::Duration;

use novita_sim::{AfterReclaim, Cluster, DAWN_MS, InProcess, Product, Spec, World};
use respot::act::{self, Limits};
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
use respot::cloud::transport::{Request, Response, Transport, TransportError};
use respot::commands::run::{self, Ran};
use respot::core::record::execution::ExecutionStatus;
use respot::core::world::policy::Policy;
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::Mode;
use respot::store::{Answer, Query, StoreRead as _};
use tokio::time::{Instant, sleep_until};

use crate::figures::{Figures, Watch};
use crate::loops;
use crate::rows::Column;
use crate::store::Memory;
use crate::trace::Trace;

/// What the fleet is made of.
pub(crate) const PRODUCT: &str = "v100.8c61g";

/// Prices per hour, in 1/100000 USD.
pub(crate) const SPOT: u32 = 100_000;
pub(crate) const ON_DEMAND: u32 = 2 * SPOT;

/// From the accepted call until the instance runs.
const BOOT: Duration = Duration::from_secs(120);

/// A pass is made so long before the end of its tick, so that the room of the tick still holds.
const BEFORE_THE_END: Duration = Duration::from_secs(1);

/// The world is looked at so long before a pass.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A fleet on a trace.
pub(crate) struct Setup<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) fleet: u32,
    /// Minutes between passes.
    pub(crate) minutes: u64,
    /// At the end of which tick of an interval a pass is made.
    pub(crate) phase: usize,
    pub(crate) column: Column,
}

/// Who makes the passes.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// With this policy, going on trying for so long.
    Program(Box<Policy>, Duration),
    Eager,
    Shell,
}

/// Replays the whole trace.
pub(crate) fn replay(setup: &Setup<'_>, who: &Who, most_living: usize) -> Figures {
    // The jitter of the client and the ids of passes come from the generator of the thread.
    fastrand::seed(1);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(replayed(setup, who, most_living))
}

async fn replayed(setup: &Setup<'_>, who: &Who, most_living: usize) -> Figures {
    let Setup { trace, fleet, minutes, phase, column } = *setup;
    let provider = InProcess::new(world(setup)).latency(Duration::ZERO);
    let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
    let zones: Vec<&str> = trace.zones.iter().map(|zone| zone.name.as_str()).collect();
    let watch = RefCell::new(Watch::new(&zones, fleet, most_living));
    let line = Line { provider: &provider, watch: &watch };
    let (store, dawn) = (Memory::new(1), Instant::now());
    let ends = |tick: usize| dawn + trace.gap * u32::try_from(tick).unwrap_or(u32::MAX) - BEFORE_THE_END;
    let passes = async {
        for tick in (1..=trace.ticks).filter(|tick| tick % trace.every(minutes) == phase) {
            sleep_until(ends(tick)).await;
            let code = match who {
                Who::Program(policy, keep_trying) => pass(&line, &store, &clock, policy, *keep_trying).await,
                Who::Eager => {
                    loops::eager(&mut provider.world(), &zones);
                    0
                }
                Who::Shell => {
                    loops::shell(&mut provider.world());
                    0
                }
            };
            watch.borrow_mut().pass_ended(&provider.world(), code);
        }
    };
    // On its own, since a pass may go on for several ticks.
    let looks = async {
        let mut chance = fastrand::Rng::with_seed(1);
        for tick in 1..=trace.ticks {
            sleep_until(ends(tick) - A_MOMENT).await;
            watch.borrow_mut().tick(&provider.world());
            if let Some(a_day) = column.stops_a_day() {
                let stopped = stop_some(&mut provider.world(), &mut chance, a_day * trace.gap.as_secs_f64() / 86_400.0);
                watch.borrow_mut().stopped.extend(stopped);
            }
        }
    };
    tokio::join!(looks, passes);
    let mut watch = watch.into_inner();
    watch.check_markets(markets_in(&store).await);
    watch.figures(trace.gap)
}

/// People stop what runs, each with this probability. Answers what they stopped.
fn stop_some(world: &mut World, chance: &mut fastrand::Rng, probability: f64) -> Vec<String> {
    let running = world.machines().filter(|machine| machine.status == "running");
    let mut ids: Vec<String> = running.map(|machine| machine.id.clone()).collect();
    ids.retain(|id| chance.f64() < probability && world.user_stop(id));
    ids
}

/// The line to the provider, on which deletions are judged before they take effect.
#[derive(Clone)]
struct Line<'a, 'b> {
    provider: &'a InProcess,
    watch: &'a RefCell<Watch<'b>>,
}

impl Transport for Line<'_, '_> {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        if request.path == "/v1/gpu/instance/delete" {
            let body: serde_json::Value =
                request.body.as_deref().and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
            let id = body["instanceId"].as_str().unwrap_or_default();
            self.watch.borrow_mut().deleting(&self.provider.world(), id);
        }
        self.provider.exchange(request).await
    }
}

/// How many markets the program remembers.
async fn markets_in(store: &Memory) -> usize {
    match store.read(&[Query::Fields("exposures".into())]).await.as_deref() {
        Ok([Answer::Fields(markets)]) => markets.len(),
        answer => panic!("a store in memory answers {answer:?}"),
    }
}

/// The room follows the trace, and instance k begins running in zone k mod n.
fn world(setup: &Setup<'_>) -> World {
    let Setup { trace, fleet, minutes: _, phase: _, column } = *setup;
    let mut world = World::new(1);
    while let Some(id) = world.products().first().map(|product| product.id.clone()) {
        world.withdraw_product(&id);
    }
    let clusters = trace.zones.iter().map(|zone| zone.name.clone());
    world.add_product(Product {
        id: PRODUCT.into(),
        name: "V100 16GB".into(),
        cpu_per_gpu: 8,
        memory_per_gpu: 61,
        max_rootfs: 200,
        clusters: clusters.clone().collect(),
        price: ON_DEMAND,
        spot_price: Some(SPOT),
        stock: u32::MAX,
        sold_out_in: Vec::new(),
        spot_sold_out: false,
        hint_lies: false,
    });
    for name in clusters {
        let cluster = Cluster { id: name.clone(), name: name.to_uppercase(), network_storage: true };
        world.add_cluster(cluster);
    }
    let rules = world.rules_mut();
    rules.boots_in(i64::try_from(BOOT.as_millis()).unwrap_or_default());
    rules.after_reclaim = AfterReclaim::Kept;
    column.rules(rules);
    for (number, zone) in (0..fleet).zip(trace.zones.iter().cycle()) {
        let spec = Spec::running(&format!("m{number}")).cluster(&zone.name).product(PRODUCT, 1);
        world.add(column.instance(number, spec));
    }
    let gap = i64::try_from(trace.gap.as_millis()).unwrap_or_default();
    for (number, zone) in trace.zones.iter().enumerate() {
        let mut at = DAWN_MS;
        for tick in 0..trace.ticks {
            let room = trace.room(number, tick);
            if tick == 0 {
                world.set_room(PRODUCT, &zone.name, room);
            } else if room != trace.room(number, tick - 1) {
                world.set_room_at(at, PRODUCT, &zone.name, room);
            }
            at += gap;
        }
    }
    world
}

/// One pass of the program; the exit code.
async fn pass(line: &Line<'_, '_>, store: &Memory, clock: &Clock, policy: &Policy, keep_trying: Duration) -> u8 {
    let cloud = Client::new(line.clone());
    // Time stands still within a pass.
    let limits = Limits { recreate_wait: Duration::ZERO, keep_trying, ..Limits::of(policy, Mode::Real) };
    let (stop, reporter) = (Stop::default(), &Silent);
    let world = act::World { cloud: &cloud, store, limits: &limits, clock, stop: &stop, reporter };
    match run::run(&world, &cloud, &NoReceiver).await {
        Ok(Ran::Ended(ended)) => match ended.execution.status {
            ExecutionStatus::Completed | ExecutionStatus::Running => 0,
            ExecutionStatus::Partial => 1,
            ExecutionStatus::Timeout | ExecutionStatus::Interrupted => 6,
            ExecutionStatus::Failed => 3,
        },
        Ok(Ran::Skipped(_)) => 0,
        Err(failure) => failure.exit.code(),
    }
}
