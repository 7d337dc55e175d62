//! respot on a simulated fleet: `cargo run --example demo`. Needs no key and no server, leaves nothing behind.
#![expect(clippy::disallowed_macros, reason = "a demo prints")]

use std::time::Duration;

use novita::{MINUTE_MS, Show};
use novita_sim::{Op, Outcome, World};
use respot::store::LEASE_LIFE;

#[path = "shared/novita.rs"]
mod novita;
mod shared;

fn main() -> anyhow::Result<()> {
    let demo = novita::show(World::fleet(11, 40), &[])?;
    demo.say("A fleet of 40 GPU instances lives in a simulator of the provider's API, on loopback.");
    demo.say("Some were reclaimed. What would respot do? A dry run writes nothing, anywhere:");
    demo.respot(&["dry-run"])?;

    demo.say(
        "Two migrations had failed before: those instances hang in `migrating`. They are recreated from their own",
    );
    demo.say("data, but the pass is killed right after it has created the first replacement:");
    killed(&demo, &["check-failed", "-o", "table"])?;
    demo.say("Nothing is lost, the journal has it:");
    demo.respot(&["status"])?;
    demo.say("Once the dead pass's lease has expired, after 30 s at most, the next pass finishes what it started:");
    std::thread::sleep(LEASE_LIFE);
    demo.respot(&["check-failed", "-o", "table"])?;

    demo.say("Now a whole pass, with faults: the connection is cut right after one request, one request is told to slow down,");
    demo.say("and one finds no free GPU.");
    for fault in [
        "migrate@2:cut-after",
        "migrate@4:status=429,retry-after=1",
        "migrate@6:status=400,reason=INSUFFICIENT_RESOURCE",
    ] {
        demo.server.with(|world| world.fault(fault.parse().expect("a fault")));
    }
    demo.respot(&["run", "-o", "table"])?;

    demo.say("Called again at once, it remembers, and retries only what had no effect:");
    demo.respot(&["run", "-o", "table"])?;

    demo.say("Fifteen minutes pass: migrations finish, and a wave of reclaims takes more instances.");
    demo.server.advance(15 * MINUTE_MS);
    let taken = demo.server.with(|world| world.reclaim_wave(0.3));
    demo.say(&format!("({} instances taken.) The schedule calls:", taken.len()));
    demo.respot(&["run", "-o", "table"])?;

    demo.say("Fifteen minutes later:");
    demo.server.advance(15 * MINUTE_MS);
    demo.respot(&["run", "-o", "table"])?;

    demo.say("How is it doing, and what did it do?");
    demo.respot(&["status"])?;
    demo.respot(&["history"])?;
    count(&demo);
    Ok(())
}

/// The process dies as soon as the provider has created an instance.
fn killed(demo: &Show, arguments: &[&str]) -> anyhow::Result<()> {
    println!("$ respot {}", arguments.join(" "));
    let before = demo.server.with(|world| world.applied(Op::Create));
    let created = async {
        while demo.server.with(|world| world.applied(Op::Create)) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    demo.call(arguments, created)?;
    println!("(killed)\n");
    Ok(())
}

/// What the simulator recorded.
fn count(demo: &Show) {
    demo.say("What the provider recorded:");
    demo.server.with(|world| {
        let of = |op: Op| world.log().iter().filter(move |entry| entry.op == op);
        let took_effect = |op: Op| of(op).filter(|entry| entry.outcome == Outcome::Applied);
        for (op, what) in [(Op::Migrate, "migrate"), (Op::Create, "create"), (Op::Delete, "delete")] {
            println!("{} {what} requests arrived, {} took effect", of(op).count(), took_effect(op).count());
        }
        let replaced = world.gone().filter(|old| took_effect(Op::Delete).any(|entry| entry.instance == old.id));
        for old in replaced {
            let base = old.name.split("-recreated-").next().unwrap_or_default();
            let is_successor = |name: &&str| name.strip_prefix(base).is_some_and(|it| it.starts_with("-recreated-"));
            let successors: Vec<&str> = world.machines().map(|it| it.name.as_str()).filter(is_successor).collect();
            println!("{} is gone, and {} has taken its place", old.name, successors.join(", "));
        }
    });
}
