//! Seeded histories of rollouts on EC2: faults, kills, shortages, reclaims, sick applications, aborts. Whatever happens, each
//! instance runs once in the end, and nothing is stopped or terminated before something else runs in its place.

use std::time::Duration;

use ec2_sim::{Instance, Lifecycle, Spec, State, World};
use respot::cli::RolloutVerb;
use respot::core::rollout::course::RolloutEnd;
use tokio::time::{sleep, timeout};

use super::fleet::{Broken, Fleet, MINUTE, story};
use super::histories::{pick, seeds};
use super::moves::Answers;

/// How many are tried unless the environment says otherwise.
const ROLLOUTS: u64 = 60;

const FAULTS: [&str; 14] = [
    "RunInstances@1:cut-after",
    "RunInstances@1-2:cut-before",
    "RunInstances@1:code=InternalError,status=500,after",
    "RunInstances@1:delay=45000",
    "StopInstances@1:cut-after",
    "StopInstances@1:code=InternalError,status=500",
    "CreateTags@1:cut-after",
    "CreateTags@1:code=InternalError,status=500",
    "TerminateInstances@1:cut-after",
    "DescribeInstances@1-4:code=InternalError,status=500",
    "DescribeInstanceStatus@1-2:code=RequestLimitExceeded,status=503",
    "DescribeTargetHealth@1-2:code=AccessDenied,status=403",
    "RegisterTargets@1:code=InternalFailure,status=500",
    "DeregisterTargets@1:cut-after",
];

/// The members, which serve in a target group if there is one, and others beside them.
fn account(seed: u64, random: &mut fastrand::Rng) -> (World, Vec<String>, Option<String>) {
    let mut world = World::new(seed);
    world.rules.visible_after_ms = random.i64(0..5_000);
    world.rules.boot_ms = random.i64(5_000..150_000);
    let members: Vec<String> = (0..random.u32(1..5))
        .map(|n| world.add(Spec::on_demand(&format!("web-{n}")).cpu(30.0).user_data(&format!("echo {n}"))))
        .collect();
    world.add(Spec::on_demand("foreign").without_tag("respot"));
    world.add(Spec::spot("ours"));
    let group = random.bool().then(|| world.add_target_group("web"));
    for (id, group) in members.iter().zip(group.iter().cycle()) {
        assert!(world.register(group, id));
    }
    world.advance(120_000);
    (world, members, group)
}

/// What happens between two calls.
fn event(world: &mut World, prober: &mut Answers, random: &mut fastrand::Rng) {
    let spot: Vec<String> = world
        .living()
        .filter(|it| it.lifecycle == Lifecycle::Spot && it.name() != "ours")
        .map(|it| it.id.clone())
        .collect();
    match random.u32(..12) {
        0..=5 => world.fault(pick(random, &FAULTS).parse().unwrap()),
        6 if !spot.is_empty() => drop(world.reclaim(&spot[random.usize(..spot.len())])),
        7 if !spot.is_empty() => drop(world.reclaim_now(&spot[random.usize(..spot.len())])),
        8 => world.set_room("g5.xlarge", "eu-west-1a", Some(random.u32(..2))),
        9 => world.set_room("g5.xlarge", "eu-west-1a", None),
        10 => drop(prober.sick.insert(format!("web-{}", random.u32(..4)))),
        _ => prober.sick.clear(),
    }
}

/// Plays one. Answers how it ended.
///
/// # Errors
/// What is wrong with its end.
async fn play(seed: u64, broken: Broken) -> Result<RolloutEnd, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (world, members, group) = account(seed, &mut random);
    let mut fleet = Fleet::new(world);
    fleet.broken = broken;
    fleet.target_groups = group.iter().cloned().collect();
    fleet.retirement.stops = random.u32(..4) > 0;
    let (mut prober, mut over, mut said) = (Answers::default(), None, Vec::new());
    fleet.pass().await;
    for call in 0..200 {
        let is_wild = (1..40).contains(&call);
        if is_wild && random.u32(..3) == 0 {
            fleet.with(|world| event(world, &mut prober, &mut random));
        }
        if call == 40 {
            prober.sick.clear();
            fleet.with(|world| {
                world.clear_faults();
                world.set_room("g5.xlarge", "eu-west-1a", None);
            });
        }
        let verb = (is_wild && random.u32(..40) == 0).then_some(RolloutVerb::Abort { wait: false });
        let patience = if is_wild && random.u32(..5) == 0 { random.u64(..60_000) } else { 3_600_000 };
        match timeout(Duration::from_millis(patience), fleet.try_rollout(&prober, verb)).await {
            Ok(Ok(stepped)) => {
                said.push(stepped.message);
                over = stepped.fleet.and_then(|it| it.rollout.state.end());
            }
            Ok(Err(failure)) => said.push(failure.message),
            // It was killed, and its lease expires.
            Err(_) => sleep(respot::store::LEASE_LIFE).await,
        }
        if over.is_some() {
            break;
        }
        if random.bool() {
            fleet.pass().await;
        }
        sleep(5 * MINUTE).await;
    }
    fleet.with(|world| {
        world.clear_faults();
        world.set_room("g5.xlarge", "eu-west-1a", None);
    });
    fleet.passes(6).await;
    sleep(25 * 60 * MINUTE).await;
    fleet.passes(6).await;
    sleep(72 * 60 * MINUTE).await;
    fleet.passes(3).await;
    let judged = over.ok_or("it does not end".to_owned());
    let judged = judged.and_then(|end| fleet.with(|world| judge(world, &members, group.as_deref())).map(|()| end));
    judged.map_err(|what| {
        let lives: String = fleet.with(|world| {
            let life = |it: &Instance| {
                let Instance { id, state, lifecycle, launched_ms, ended_ms, ended_by, .. } = it;
                format!("{id} {} {lifecycle:?} {state} {launched_ms} {ended_ms:?} {ended_by:?}\n", it.name())
            };
            world.instances().map(life).collect()
        });
        format!("{what}\n{lives}{}\n{}", said.join("\n"), fleet.writes())
    })
}

fn judge(world: &World, members: &[String], group: Option<&str>) -> Result<(), String> {
    for (n, first) in members.iter().enumerate() {
        let name = format!("web-{n}");
        let is_up = |it: &&Instance| it.name() == name && it.state == State::Running;
        let running: Vec<&Instance> = world.living().filter(is_up).collect();
        let [one] = running.as_slice() else { return Err(format!("{name}: {} run", running.len())) };
        if one.user_data != world.instance(first).and_then(|it| it.user_data.clone()) {
            return Err(format!("{name} is not what it was"));
        }
        if group.is_some_and(|group| world.target_state(group, &one.id) != Some("healthy")) {
            return Err(format!("{name} does not serve"));
        }
    }
    if world.living().filter(|it| it.name() == "ours" && it.state == State::Running).count() != 1 {
        return Err("the spot instance beside them is not there once".into());
    }
    let calls = || world.log().iter().filter(|it| it.took_effect);
    for call in calls() {
        let (id, at) = (call.get("InstanceId.1").unwrap_or_default(), call.at_ms);
        let was_stopped = |it: &Instance| {
            calls().any(|stop| {
                stop.action == "StopInstances" && stop.at_ms < at && stop.get("InstanceId.1") == Some(&it.id)
            })
        };
        let lived = |it: &&Instance| it.launched_ms < at && it.ended_ms.is_none_or(|end| end > at) && !was_stopped(it);
        let named = |name: &str| -> Vec<String> {
            world.instances().filter(|it| it.name() == name).filter(lived).map(|it| it.id.clone()).collect()
        };
        match (call.action.as_str(), world.instance(id)) {
            ("RunInstances", _) => {
                let name = call.form.iter().map(|(_, value)| value).find(|value| value.starts_with("web-"));
                let beside = name.map(|name| named(name)).unwrap_or_default();
                if beside.len() > 1 {
                    return Err(format!("{name:?} was launched at {at}, beside {beside:?}"));
                }
            }
            ("StopInstances" | "TerminateInstances", Some(old))
                if !old.name().starts_with("web-") || named(old.name()).iter().all(|it| it == id) =>
            {
                return Err(format!("{id} was ended with nothing in its place, at {at}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn outcome(seed: u64, broken: Broken) -> Result<RolloutEnd, String> {
    let mut ended = Err("it was not played".into());
    story(async { ended = play(seed, broken).await });
    ended.map_err(|what| format!("seed {seed}: {what}"))
}

#[test]
fn every_rollout_ends_well() {
    let (mut ends, mut failed) = (Vec::new(), Vec::new());
    for seed in seeds("SIM_ROLLOUTS", ROLLOUTS) {
        match outcome(seed, Broken::No) {
            Ok(end) => ends.push(end),
            Err(what) => failed.push(what),
        }
    }
    assert!(failed.is_empty(), "{} failed, the first: {}", failed.len(), failed[0]);
    for end in [RolloutEnd::Completed, RolloutEnd::RolledBack, RolloutEnd::Aborted] {
        assert!(ends.len() < 50 || ends.contains(&end), "no rollout ended as {end:?}");
    }
    assert!((0..200).any(|seed| outcome(seed, Broken::TokenForgotten).is_err()), "a broken build was not noticed");
}
