//! The provider's stand-in as a program, for demonstrations and for trying things out by hand.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use novita_sim::{Fault, Options, Server, World};

/// A stand-in for the provider's GPU instance API on a local port
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// How many instances there are
    #[arg(long, default_value_t = 40, value_name = "N")]
    fleet: usize,
    /// How many on-demand instances there are besides, each with an application that answers on a local port
    #[arg(long, default_value_t = 0, value_name = "N")]
    on_demand: usize,
    /// What the fleet and all chances are drawn from
    #[arg(long, default_value_t = 7, value_name = "N")]
    seed: u64,
    /// The only API key that is accepted
    #[arg(long, default_value = "sk_test", value_name = "KEY")]
    key: String,
    /// How long every answer takes, in milliseconds
    #[arg(long, default_value_t = 20, value_name = "MS")]
    latency_ms: u64,
    /// How many times faster than real time the provider lives
    #[arg(long, default_value_t = 1, value_name = "N")]
    speed: u32,
    /// The share of migrations that fail, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    fail_migrations: f64,
    /// How far its clock is ahead of the real time, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS", allow_negative_numbers = true)]
    clock_skew_ms: i64,
    /// What goes wrong, for example migrate:cut-after*3 or list@2:status=503,retry-after=1; may be repeated
    #[arg(long, value_name = "RULE")]
    fault: Vec<Fault>,
}

#[expect(clippy::disallowed_macros, reason = "a program says where it listens")]
fn main() -> std::io::Result<()> {
    let Arguments { listen, fleet, on_demand, seed, key, latency_ms, speed, fail_migrations, clock_skew_ms, fault } =
        Arguments::parse();
    let mut world = World::fleet(seed, fleet);
    world.add_on_demand_fleet(seed, on_demand);
    let mut world = world.starting_at(system_now_ms());
    world.rules_mut().key = key;
    world.rules_mut().fail_migrations = fail_migrations;
    world.rules_mut().wire.clock_skew_ms = clock_skew_ms;
    for fault in fault {
        world.fault(fault);
    }
    let server = Server::start(world, Options { listen, latency: Duration::from_millis(latency_ms), speed })?;
    println!("listening on {}", server.url());
    server.wait();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the one site that reads the system clock")]
fn system_now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
