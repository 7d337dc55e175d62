//! The stand-in as a program, for demonstrations and for trying things out by hand.

use std::net::SocketAddr;

use clap::Parser;
use ec2_sim::{Fault, KINDS, Options, Server, Spec, World};

/// A stand-in for Amazon EC2 on a local port
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// How many running spot instances there are
    #[arg(long, default_value_t = 12, value_name = "N")]
    instances: usize,
    /// How many running on-demand instances there are besides
    #[arg(long, default_value_t = 0, value_name = "N")]
    on_demand: usize,
    /// What all chances are drawn from
    #[arg(long, default_value_t = 7, value_name = "N")]
    seed: u64,
    /// How many times faster than real time the world lives
    #[arg(long, default_value_t = 1, value_name = "N")]
    speed: u32,
    /// One more region; may be repeated
    #[arg(long, value_name = "NAME")]
    region: Vec<String>,
    /// One more access key, as ID:SECRET or ID:SECRET:TOKEN; may be repeated
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// What goes wrong, for example RunInstances@1:cut-after; may be repeated
    #[arg(long, value_name = "RULE")]
    fault: Vec<Fault>,
}

#[expect(clippy::disallowed_macros, reason = "a program says where it listens")]
fn main() -> std::io::Result<()> {
    let Arguments { listen, instances, on_demand, seed, speed, region, key, fault } = Arguments::parse();
    let mut world = World::new(seed);
    for name in &region {
        world.add_region(name);
    }
    for key in &key {
        let mut parts = key.splitn(3, ':');
        let (id, secret) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        world.add_access_key(id, secret, parts.next());
    }
    let gpus: Vec<_> = KINDS.iter().filter(|kind| kind.gpu.is_some()).collect();
    let zones: Vec<_> = world.home().zones.iter().map(|zone| zone.name.clone()).collect();
    let names = (0..instances).map(|place| (place, true)).chain((0..on_demand).map(|place| (place, false)));
    for (place, is_spot) in names {
        let kind = gpus[place % gpus.len()];
        let mut sold = zones.iter().filter(|zone| kind.is_sold_in(zone)).cycle();
        let zone = sold.nth(place).map_or("eu-west-1a", String::as_str);
        let spec = if is_spot {
            Spec::spot(&format!("worker-{place}"))
        } else {
            Spec::on_demand(&format!("web-{place}")).tag("role", "web")
        };
        world.add(spec.kind(kind.name).zone(zone).user_data(&format!("#!/bin/sh\necho worker {place}\n")));
    }
    for fault in fault {
        world.fault(fault);
    }
    let server = Server::start(world, Options { listen, speed })?;
    println!("listening on {}", server.url());
    server.wait();
    Ok(())
}
