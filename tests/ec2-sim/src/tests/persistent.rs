//! Persistent requests: they launch, or start, again (3.3, 3.12).

use super::asking::{first, good, launched, refused, request_row, row, spot_launch};
use crate::{RequestState, Spec, State, World};

fn newest(world: &World) -> &crate::Instance {
    world.instances().last().expect("an instance")
}

#[test]
fn terminate_behavior_launches_a_new_one_without_tags_when_there_is_room() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").persistent("terminate").user_data("x"));
    let request = world.request_of(&id).expect("a request").id.clone();
    world.set_room("g5.xlarge", "eu-west-1a", Some(0));
    world.reclaim(&id);
    world.advance(120_000 + 20_000);
    assert_eq!(world.request(&request).expect("it").state, RequestState::Open);
    world.advance(3_600_000);
    assert_eq!(world.request(&request).expect("it").code, "capacity-not-available");
    assert_eq!(world.instances().count(), 1);
    world.set_room("g5.xlarge", "eu-west-1a", Some(1));
    world.advance(60_000);
    let new = newest(&world);
    assert_eq!((world.living().count(), new.tags.len(), new.request.as_ref()), (1, 0, Some(&request)));
    assert_eq!((new.subnet.clone(), new.user_data.as_deref()), (world.home().subnet("eu-west-1a"), Some("eA==")));
    let told = world.request(&request).expect("it");
    assert_eq!(
        (told.state, told.code.as_str(), told.instance.as_ref()),
        (RequestState::Active, "fulfilled", Some(&new.id))
    );
    assert_eq!(world.home().room(crate::Lifecycle::Spot, "g5.xlarge", "eu-west-1a"), Some(0));
}

#[test]
fn terminating_without_cancelling_brings_another_one() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").persistent("stop"));
    good(&mut world, "TerminateInstances", &format!("InstanceId.1={id}"));
    world.advance(20_000 + 60_000);
    assert_eq!((world.living().count(), newest(&world).name()), (1, ""));
}

#[test]
fn cancelling_first_brings_none() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").persistent("stop"));
    let request = world.request_of(&id).expect("a request").id.clone();
    let answer = good(&mut world, "CancelSpotInstanceRequests", &format!("SpotInstanceRequestId.1={request}"));
    assert_eq!(first(&answer, "state").as_deref(), Some("cancelled"));
    assert!(world.instance(&id).expect("it").is_living(), "its instance runs on");
    good(&mut world, "TerminateInstances", &format!("InstanceId.1={id}"));
    world.advance(3_600_000);
    assert_eq!((world.living().count(), world.instances().count()), (0, 1));
}

#[test]
fn stop_behavior_stops_and_only_ec2_starts_again() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").persistent("stop").public_address(true));
    world.set_room("g5.xlarge", "eu-west-1a", Some(0));
    world.reclaim(&id);
    assert_eq!(first(&request_row(&mut world, &id), "code").as_deref(), Some("marked-for-stop"));
    world.advance(120_000);
    assert!(row(&mut world, &id).contains("<name>stopping</name>"));
    world.advance(20_000);
    let told = row(&mut world, &id);
    assert!(
        told.contains("<name>stopped</name>") && told.contains("<code>Server.SpotInstanceShutdown</code>"),
        "{told}"
    );
    assert!(told.contains("<subnetId>") && !told.contains("<publicIp>"), "a stopped one keeps its place");
    let request = request_row(&mut world, &id);
    assert_eq!(first(&request, "state").as_deref(), Some("disabled"));
    assert_eq!(first(&request, "code").as_deref(), Some("instance-stopped-no-capacity"));
    let start = format!("InstanceId.1={id}");
    assert_eq!(refused(&mut world, "StartInstances", &start), (400, "IncorrectSpotRequestState".to_owned()));
    world.advance(3_600_000);
    assert_eq!(world.instance(&id).expect("it").state, State::Stopped);
    world.set_room("g5.xlarge", "eu-west-1a", None);
    world.advance(60_000);
    let instance = world.instance(&id).expect("it");
    assert_eq!((instance.state, world.instances().count()), (State::Running, 1));
    assert!(instance.started_ms > instance.launched_ms && instance.state_reason.is_none());
    assert_eq!(first(&request_row(&mut world, &id), "code").as_deref(), Some("fulfilled"));
    assert!(row(&mut world, &id).contains("<publicIp>"), "a new public address");
}

#[test]
fn hibernation_begins_at_once() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").persistent("hibernate"));
    world.reclaim(&id);
    assert_eq!(world.instance(&id).expect("it").state, State::Stopping);
}

#[test]
fn cancelling_a_disabled_request_terminates_its_instance() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").persistent("stop"));
    world.rules.relaunch_after_ms = 3_600_000;
    world.reclaim_now(&id);
    world.advance(20_000);
    let request = world.request_of(&id).expect("a request").id.clone();
    good(&mut world, "CancelSpotInstanceRequests", &format!("SpotInstanceRequestId.1={request}"));
    world.advance(20_000);
    assert_eq!(world.instance(&id).expect("it").state, State::Terminated);
    assert!(world.volumes().all(|volume| volume.is_deleted), "its root volume goes with it");
}

#[test]
fn a_user_stops_and_starts_it() {
    let mut world = World::new(1);
    let form = format!(
        "{}&InstanceMarketOptions.SpotOptions.SpotInstanceType=persistent&\
         InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior=stop",
        spot_launch(&world)
    );
    let id = launched(&mut world, &form);
    world.advance(60_000);
    let by_id = format!("InstanceId.1={id}");
    good(&mut world, "StopInstances", &by_id);
    world.advance(20_000);
    let told = request_row(&mut world, &id);
    assert_eq!(first(&told, "code").as_deref(), Some("instance-stopped-by-user"));
    world.advance(3_600_000);
    assert_eq!(world.instance(&id).expect("it").state, State::Stopped, "EC2 leaves it alone");
    good(&mut world, "StartInstances", &by_id);
    world.advance(60_000);
    assert_eq!(world.instance(&id).expect("it").state, State::Running);
    assert_eq!(world.request_of(&id).expect("it").state, RequestState::Active);
}
