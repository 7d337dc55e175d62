//! From on-demand to spot, twice: `cargo run --example rollout` shows a rollout that completes and one that its
//! quality gate rolls back, and explains each number. Needs no key and no server, leaves nothing behind.
#![expect(clippy::disallowed_macros, reason = "a demo prints")]

use novita_sim::{App, Change, Condition, Op, Outcome, World};
use serde_json::Value;

#[path = "shared/novita.rs"]
mod novita;
mod shared;

use novita::{MINUTE_MS, Show};

/// Number of instances that may move to spot.
const FLEET: usize = 10;

fn main() -> anyhow::Result<()> {
    println!("==== one that completes ====\n");
    let show = stage(&App::http(8080).base_us(40_000).jitter_us(1_000).boot_ms(5_000))?;
    show.say("Ten on-demand instances, each with an application that answers in 40 ms. What would spot save, and what");
    show.say("speaks against it?");
    show.respot(&["analyze", "--may-lose", "web-*"])?;
    show.say(
        "All gates approve. The first call of `rollout` freezes the candidates, lowest risk first, and measures each",
    );
    show.say("of them, so that there is something to compare with. It moves nothing yet:");
    show.respot(&["rollout", "--yes", "-o", "table"])?;
    explain_stages(&show)?;
    show.say("From now on a scheduler calls it every five minutes, and each call takes at most one step.");
    schedule(&show)?;
    explain(&show)?;
    books(&show);
    show.say("An hour later it has started to pay off:");
    show.server.advance(60 * MINUTE_MS);
    show.respot(&["rollout", "status"])?;
    explain_savings(&show)?;

    println!("==== one that is rolled back ====\n");
    let slower = Change::slower_ppm(150_000).when(Condition::moved_at_least(25));
    let show = stage(&App::http(8080).base_us(40_000).jitter_us(1_000).boot_ms(5_000).spot(slower))?;
    show.say(
        "The same fleet, but its application becomes 15 % slower on spot once a quarter of the instances are spot:",
    );
    show.say("something it depends on cannot keep up. The first stage does not show that.");
    show.respot(&["rollout", "--yes", "-o", "table"])?;
    schedule(&show)?;
    explain(&show)?;
    books(&show);
    show.say("A finished rollout stays as it is; cron may go on calling:");
    show.respot(&["rollout", "--yes", "-o", "table"])?;
    Ok(())
}

fn stage(app: &App) -> anyhow::Result<Show> {
    let mut world = World::on_demand_fleet(3, FLEET);
    world.change_apps(|_, known| *known = app.clone());
    let settings =
        [("RESPOT_PROBE", "http:8080/health"), ("RESPOT_PROBE_SAMPLES", "60"), ("RESPOT_ROLLOUT_MAY_LOSE", "web-*")];
    novita::show(world, &settings)
}

/// Calls it every five minutes until it has finished.
fn schedule(show: &Show) -> anyhow::Result<()> {
    for call in 1.. {
        show.server.advance(5 * MINUTE_MS);
        println!("(five minutes later, call {call})");
        show.respot(&["rollout", "--yes", "-o", "table"])?;
        let state = report(show)?["state"].as_str().unwrap_or_default().to_owned();
        if ["completed", "failed", "rolled_back", "aborted"].contains(&state.as_str()) {
            break;
        }
    }
    Ok(())
}

fn report(show: &Show) -> anyhow::Result<Value> {
    let Some((_, document)) = show.call(&["rollout", "status", "-o", "json"], std::future::pending())? else {
        anyhow::bail!("it did not answer");
    };
    Ok(serde_json::from_str::<Value>(&document)?["rollout"].take())
}

fn explain_stages(show: &Show) -> anyhow::Result<()> {
    let report = report(show)?;
    let mut sum = 0;
    for stage in report["stages"].as_array().into_iter().flatten() {
        let own = stage["instances"].as_u64().unwrap_or(0);
        sum += own;
        let percent = &stage["percent"];
        show.say(&format!("{percent} % of {FLEET}, rounded up, is {sum}: {own} more than before."));
    }
    println!();
    Ok(())
}

/// The figures behind each verdict of the gate.
fn explain(show: &Show) -> anyhow::Result<()> {
    let report = report(show)?;
    show.say("The numbers:");
    for stage in report["stages"].as_array().into_iter().flatten() {
        let (percent, effect) = (&stage["percent"], &stage["effect"]);
        let points =
            |name: &str| effect[name].as_i64().map(|points| f64::from(i32::try_from(points).unwrap_or(0)) / 100.0);
        let (Some(latency), Some(degradation)) = (points("latencyChange"), points("degradation")) else { continue };
        let errors = points("errorRateChange").unwrap_or(0.0);
        println!(
            "  {percent} % stage, instances judged: {}, samples before: {}, now: {}",
            effect["instances"], effect["samplesBefore"], effect["samplesNow"]
        );
        println!("    0.7 x latency {latency:+.2} % + 0.3 x errors {errors:+.2} % = degraded by {degradation:.2} %;");
        println!("    at 5 % or more a stage fails. Verdict: {}", stage["verdict"].as_str().unwrap_or("none"));
    }
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    println!(
        "  of {} candidates {} are on spot now, {} are on-demand as before",
        count("candidates"),
        count("moved"),
        count("candidates") - count("moved")
    );
    println!();
    Ok(())
}

fn explain_savings(show: &Show) -> anyhow::Result<()> {
    let report = report(show)?;
    let (estimated, realised) = (&report["estimatedSavings"], &report["realisedSavings"]);
    let money = |value: &Value| value.as_f64().unwrap_or(0.0);
    let (hourly, monthly) = (money(&estimated["hourly"]), money(&estimated["monthly"]));
    println!("  expected: {hourly:.3} USD/h less for all of them, times 730 h = {monthly:.2} USD per month");
    println!(
        "  realized: {:.2} USD. While a spot instance and the old one run side by side, both are paid for;",
        money(realised)
    );
    println!("            once the old ones are gone, {hourly:.3} USD are saved every hour, at prices read back");
    println!();
    Ok(())
}

/// What the provider recorded.
fn books(show: &Show) {
    show.say("What the provider recorded:");
    show.server.with(|world| {
        let applied = |op: Op| world.log().iter().filter(|it| it.op == op && it.outcome == Outcome::Applied).count();
        println!("  {} creates and {} deletes took effect", applied(Op::Create), applied(Op::Delete));
        let alive = |mode: &str| world.machines().filter(|it| it.is_alive() && it.billing_mode == mode).count();
        println!("  now running: {} on-demand, {} spot; {FLEET} before", alive("onDemand"), alive("spot"));
    });
    println!();
}
