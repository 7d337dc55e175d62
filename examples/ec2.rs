//! respot on a simulated EC2 account: `cargo run --release --example ec2`. Needs no account, leaves nothing behind.
#![expect(clippy::disallowed_macros, reason = "a demo prints")]

use std::collections::BTreeMap;
use std::time::Duration;

use ec2_sim::{ACCESS_KEY, Lifecycle, Options, SECRET_KEY, Server, Spec, State, World};
use respot::store::LEASE_LIFE;
use shared::{Show, Simulated};

mod shared;

const LOST_ZONE: &str = "eu-west-1a";
const FIVE_MINUTES_MS: u64 = 300_000;

impl Simulated for Server {
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("RESPOT_PROVIDER", "ec2".to_owned()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    fn now_ms(&self) -> i64 {
        self.with(|world| world.now_ms())
    }
}

fn main() -> anyhow::Result<()> {
    let mut world = World::new(5);
    for (n, zone) in [LOST_ZONE, LOST_ZONE, LOST_ZONE, "eu-west-1b", "eu-west-1c"].iter().enumerate() {
        world.add(Spec::spot(&format!("worker-{n}")).zone(zone).user_data("echo start"));
    }
    world.add(Spec::on_demand("database"));
    let subnets: Vec<String> =
        ["eu-west-1b", "eu-west-1c"].iter().map(|zone| world.home().subnet(zone).to_owned()).collect();
    let server = Server::start(world, Options { speed: 10, ..Options::default() })?;
    let demo = Show::serving(
        server,
        &[("RESPOT_EC2_SUBNETS", &subnets.join(",")), ("RESPOT_EC2_TYPES", "g5.xlarge=g6.xlarge")],
    )?;
    demo.say("Five spot instances with the tag respot=managed live in a simulated EC2 account, on loopback.");
    demo.say("The first pass records what they are made of: EC2 forgets it when it takes one.");
    demo.respot(&["run", "-o", "table"])?;

    demo.say(&format!(
        "EC2 takes the zone {LOST_ZONE}: three instances are gone for good, and there is no room for others."
    ));
    demo.server.with(|world| {
        world.reclaim_zone(LOST_ZONE);
        ["g5.xlarge", "g6.xlarge"].iter().for_each(|kind| world.set_room(kind, LOST_ZONE, Some(0)));
        world.advance(FIVE_MINUTES_MS);
    });
    demo.respot(&["dry-run"])?;

    demo.say("A pass launches them again, and is killed between its first launch and the answer:");
    println!("$ respot run -o table");
    let launched = async {
        while demo.server.with(|world| world.launches()) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    demo.call(&["run", "-o", "table"], launched)?;
    println!("(killed)\n");

    demo.say("Its lease expires after 30 s. The next pass finds what was launched, and launches the others:");
    std::thread::sleep(LEASE_LIFE);
    demo.respot(&["run", "-o", "table"])?;
    demo.server.advance(FIVE_MINUTES_MS);
    demo.say("Five minutes later:");
    demo.respot(&["run", "-o", "table"])?;

    demo.say("What the account has now:");
    demo.server.with(|world| {
        let mut by_zone: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let running = world.living().filter(|it| it.state == State::Running && it.lifecycle == Lifecycle::Spot);
        running.for_each(|it| by_zone.entry(format!("{} in {}", it.kind, it.zone)).or_default().push(it.name()));
        by_zone.iter().for_each(|(pool, names)| println!("{pool}: {}", names.join(", ")));
        println!("{} launches took effect, {} terminations", world.launches(), world.terminations());
    });
    Ok(())
}
