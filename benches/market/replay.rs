//! One fleet on one trace: the world, and who makes the passes.

use std::time::Duration;

use novita_sim::{AfterReclaim, Cluster, DAWN_MS, InProcess, Product, Spec, World};
use respot::act::{self, Limits};
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
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

/// A fleet on a trace.
pub(crate) struct Setup<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) fleet: u32,
    /// Minutes between passes.
    pub(crate) minutes: u64,
    pub(crate) column: Column,
}

/// Who makes the passes.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Program(Policy),
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
    let Setup { trace, fleet, minutes, .. } = *setup;
    let provider = InProcess::new(world(setup)).latency(Duration::ZERO);
    let (dawn, clock) = (Instant::now(), Clock::starting_at(Timestamp::from_millis(DAWN_MS)));
    let store = Memory::new(1);
    let zones: Vec<&str> = trace.zones.iter().map(|zone| zone.name.as_str()).collect();
    let mut watch = Watch::new(&zones, fleet, most_living);
    let every = trace.every(minutes);
    let mut ends = dawn;
    for tick in 1..=trace.ticks {
        ends += trace.gap;
        sleep_until(ends - BEFORE_THE_END).await;
        watch.tick(&provider.world());
        if tick % every > 0 {
            continue;
        }
        watch.pass_begins(&provider.world());
        let code = match who {
            Who::Program(policy) => pass(&provider, &store, clock, policy).await,
            Who::Eager => {
                loops::eager(&mut provider.world(), &zones);
                0
            }
            Who::Shell => {
                loops::shell(&mut provider.world());
                0
            }
        };
        watch.pass_ended(&provider.world(), code);
    }
    watch.check_markets(markets_in(&store).await);
    watch.figures(trace.gap)
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
    let Setup { trace, fleet, minutes: _, column } = *setup;
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
async fn pass(provider: &InProcess, store: &Memory, clock: Clock, policy: &Policy) -> u8 {
    let cloud = Client::new(provider.clone());
    // Time stands still within a pass.
    let limits = Limits { recreate_wait: Duration::ZERO, ..Limits::of(policy, Mode::Real) };
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
