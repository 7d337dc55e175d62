//! Time: booting, checks, and moving the calendar.

use super::asking::{first, good, launched, row, spot_launch};
use crate::{DAWN_MS, Spec, State, World};

#[test]
fn an_instance_boots_and_its_checks_follow() {
    let mut world = World::new(1);
    let form = spot_launch(&world);
    let id = launched(&mut world, &form);
    let ask = format!("InstanceId.1={id}");
    world.advance(27_999);
    assert_eq!(world.instance(&id).expect("it").state, State::Pending);
    assert!(!good(&mut world, "DescribeInstanceStatus", &ask).contains(&id), "only running ones, unless asked");
    let all = format!("{ask}&IncludeAllInstances=true");
    assert!(good(&mut world, "DescribeInstanceStatus", &all).contains("<status>not-applicable</status>"));
    world.advance(1);
    assert_eq!(world.instance(&id).expect("it").state, State::Running);
    assert!(good(&mut world, "DescribeInstanceStatus", &ask).contains("<status>initializing</status>"));
    world.advance(120_000);
    assert!(good(&mut world, "DescribeInstanceStatus", &ask).contains("<status>ok</status>"));
}

#[test]
fn an_instance_ended_while_it_boots_does_not_run() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").pending());
    world.advance(10_000);
    world.user_terminates(&id);
    world.advance(600_000);
    assert_eq!(world.instance(&id).expect("it").state, State::Terminated);
}

#[test]
fn the_calendar_moves_with_everything_in_it() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    world.reclaim(&id);
    let by = 86_400_000 * 300;
    world.starts_at(DAWN_MS + by);
    assert_eq!(first(&row(&mut world, &id), "launchTime").as_deref(), Some("2026-11-11T11:00:00.000Z"));
    world.advance(119_999);
    assert!(world.instance(&id).expect("it").is_living());
    world.advance(20_001);
    let instance = world.instance(&id).expect("it");
    assert_eq!(instance.terminated_ms, Some(DAWN_MS + by + 140_000));
}

#[test]
fn the_same_seed_lives_the_same_life() {
    let live = |seed| {
        let mut world = World::new(seed);
        let ids: Vec<_> = (0..5).map(|number| world.add(Spec::spot(&format!("a{number}")))).collect();
        for id in &ids {
            world.reclaim(id);
        }
        world.advance(1_800_000);
        good(&mut world, "DescribeInstances", "")
    };
    assert_eq!(live(7), live(7));
    assert_ne!(live(7), live(8));
}

#[test]
fn long_fleets_stay_quick() {
    let mut world = World::new(1);
    for number in 0..300 {
        world.add(Spec::spot(&format!("a{number}")));
    }
    world.reclaim_zone("eu-west-1a");
    world.advance(4 * 3_600_000);
    assert_eq!(world.living().count(), 0);
}
