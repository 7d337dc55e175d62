//! Client tokens (1.9).

use super::asking::{ask, first, good, refused, spot_launch, spot_launch_in};
use crate::{TokenReuse, World};

fn with_token(form: &str) -> String {
    format!("{form}&ClientToken=token-1")
}

#[test]
fn the_same_call_with_the_same_token_launches_once() {
    let mut world = World::new(1);
    let form = with_token(&spot_launch(&world));
    let one = first(&good(&mut world, "RunInstances", &form), "instanceId");
    world.advance(60_000);
    let again = good(&mut world, "RunInstances", &form);
    assert_eq!(first(&again, "instanceId"), one);
    assert!(again.contains("<name>running</name>"), "the answer shows the present state");
    assert_eq!((world.instances().count(), world.launches()), (1, 1));
}

#[test]
fn a_lost_answer_can_be_asked_for_again() {
    let mut world = World::new(1);
    let form = with_token(&spot_launch(&world));
    world.fault("RunInstances@1:cut-after".parse().expect("a rule"));
    ask(&mut world, "RunInstances", &form);
    assert_eq!(world.launches(), 1);
    good(&mut world, "RunInstances", &form);
    assert_eq!(world.launches(), 1);
}

#[test]
fn other_parameters_are_a_mismatch_or_the_first_instance() {
    let mut world = World::new(1);
    let form = with_token(&spot_launch(&world));
    let one = first(&good(&mut world, "RunInstances", &form), "instanceId");
    let other = form.replace("g5.xlarge", "g5.2xlarge");
    assert_eq!(refused(&mut world, "RunInstances", &other), (400, "IdempotentParameterMismatch".to_owned()));
    world.rules.token_reuse = TokenReuse::SilentSuccess;
    assert_eq!(first(&good(&mut world, "RunInstances", &other), "instanceId"), one);
    assert_eq!(world.launches(), 1);
}

#[test]
fn the_token_of_an_ended_instance_tells_so() {
    let mut world = World::new(1);
    let form = with_token(&spot_launch(&world));
    let id = first(&good(&mut world, "RunInstances", &form), "instanceId").expect("an id");
    world.advance(60_000);
    world.reclaim_now(&id);
    assert_eq!(refused(&mut world, "RunInstances", &form), (400, "IdempotentInstanceTerminated".to_owned()));
    world.advance(25 * 3_600_000);
    good(&mut world, "RunInstances", &form);
    assert_eq!(world.launches(), 2, "after a day the token is forgotten");
}

#[test]
fn a_token_counts_in_its_zone() {
    let mut world = World::new(1);
    let (here, there) = (spot_launch(&world), spot_launch_in(&world, "eu-west-1b"));
    good(&mut world, "RunInstances", &with_token(&here));
    good(&mut world, "RunInstances", &with_token(&there));
    assert_eq!(world.launches(), 2, "the same token in another subnet's zone launches again");
    let subnet = world.home().subnet("eu-west-1a");
    let anywhere = with_token(&here.replace(&format!("SubnetId={subnet}&"), ""));
    let one = first(&good(&mut world, "RunInstances", &anywhere), "instanceId");
    assert_eq!(first(&good(&mut world, "RunInstances", &anywhere), "instanceId"), one);
    assert_eq!(world.launches(), 3, "without a zone it counts in the region");
}

#[test]
fn a_failed_call_burns_no_token() {
    let mut world = World::new(1);
    let form = with_token(&spot_launch(&world));
    world.set_room("g5.xlarge", "eu-west-1a", Some(0));
    assert_eq!(refused(&mut world, "RunInstances", &form).1, "InsufficientInstanceCapacity");
    world.set_room("g5.xlarge", "eu-west-1a", None);
    good(&mut world, "RunInstances", &form);
    assert_eq!(world.launches(), 1);
}
