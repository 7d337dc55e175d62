//! Interruptions: notice, reasons, and the words of spot requests (3.3 to 3.5).

use super::asking::{ask, first, good, request_row, row};
use crate::{EndedBy, Notice, RequestState, Spec, State, World};

#[test]
fn the_notice_is_in_the_request_while_the_instance_runs() {
    for (notice, code) in
        [(Notice::AtOnce, "instance-terminated-no-capacity"), (Notice::Marked, "marked-for-termination")]
    {
        let mut world = World::new(1);
        world.rules.notice = notice;
        let id = world.add(Spec::spot("a"));
        assert!(world.reclaim(&id) && !world.reclaim(&id));
        world.advance(119_999);
        assert_eq!(first(&request_row(&mut world, &id), "code").as_deref(), Some(code));
        assert!(row(&mut world, &id).contains("<name>running</name>"));
        world.advance(1);
        assert_eq!(world.instance(&id).expect("it").state, State::ShuttingDown);
        let request = request_row(&mut world, &id);
        assert_eq!(first(&request, "code").as_deref(), Some("instance-terminated-no-capacity"));
        assert_eq!(first(&request, "state").as_deref(), Some("active"));
        world.advance(20_000 + 120_000);
        assert_eq!(first(&request_row(&mut world, &id), "state").as_deref(), Some("closed"));
        assert_eq!(world.instance(&id).expect("it").ended_by, Some(EndedBy::Reclaim));
    }
}

#[test]
fn the_reason_comes_at_one_state_or_the_other() {
    for told_early in [true, false] {
        let mut world = World::new(1);
        world.rules.state_reason_at_shutting_down = told_early;
        let id = world.add(Spec::spot("a"));
        world.reclaim_now(&id);
        assert_eq!(row(&mut world, &id).contains("Server.SpotInstanceTermination"), told_early);
        world.advance(20_000);
        let told = row(&mut world, &id);
        assert!(told.contains("<name>terminated</name>"));
        assert!(told.contains("<code>Server.SpotInstanceTermination</code>"), "{told}");
    }
}

#[test]
fn only_spot_instances_that_live_can_be_reclaimed() {
    let mut world = World::new(1);
    let (web, worker) = (world.add(Spec::on_demand("web")), world.add(Spec::spot("worker")));
    assert!(!world.reclaim(&web) && !world.reclaim_now(&web));
    world.user_terminates(&worker);
    assert!(!world.reclaim(&worker) && !world.reclaim("i-00000000000000000"));
}

#[test]
fn a_zone_is_reclaimed_as_a_whole() {
    let mut world = World::new(1);
    for zone in ["eu-west-1a", "eu-west-1a", "eu-west-1b"] {
        world.add(Spec::spot("a").zone(zone));
    }
    world.add(Spec::on_demand("web"));
    assert_eq!(world.reclaim_zone("eu-west-1a"), 2);
    world.advance(140_000);
    assert_eq!((world.ended_by(EndedBy::Reclaim), world.living().count()), (2, 2));
}

#[test]
fn a_user_s_end_is_not_a_reclaim() {
    let mut world = World::new(1);
    let ended = world.add(Spec::spot("a"));
    let inside = world.add(Spec::spot("b"));
    let called = world.add(Spec::spot("c"));
    let noticed = world.add(Spec::spot("d"));
    world.reclaim(&noticed);
    assert!(world.user_terminates(&ended) && world.shuts_down_inside(&inside) && world.user_terminates(&noticed));
    good(&mut world, "TerminateInstances", &format!("InstanceId.1={called}"));
    world.advance(200_000);
    for (id, code, by) in [
        (&ended, "Client.UserInitiatedShutdown", EndedBy::User),
        (&inside, "Client.InstanceInitiatedShutdown", EndedBy::Inside),
        (&called, "Client.UserInitiatedShutdown", EndedBy::Api),
        (&noticed, "Client.UserInitiatedShutdown", EndedBy::User),
    ] {
        assert_eq!(first(&request_row(&mut world, id), "code").as_deref(), Some("instance-terminated-by-user"));
        let instance = world.instance(id).expect("it");
        assert_eq!(instance.state_reason.as_ref().map(|(code, _)| code.as_str()), Some(code));
        assert_eq!(instance.ended_by, Some(by));
    }
    let told = world.instance(&ended).expect("it").transition_reason.clone();
    assert_eq!(told, "User initiated (2026-01-15 12:00:00 GMT)");
}

#[test]
fn an_announced_interruption_may_not_take_place() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    world.reclaim(&id);
    assert!(world.call_off_reclaim(&id));
    world.advance(600_000);
    assert_eq!(first(&request_row(&mut world, &id), "code").as_deref(), Some("fulfilled"));
    assert!(world.instance(&id).expect("it").is_living());
    assert!(world.reclaim(&id));
    world.advance(140_000);
    assert_eq!(world.ended_by(EndedBy::Reclaim), 1, "the next one does");
}

#[test]
fn a_cancelled_request_says_nothing_of_a_later_reclaim() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let request = world.request_of(&id).expect("a request").id.clone();
    good(&mut world, "CancelSpotInstanceRequests", &format!("SpotInstanceRequestId.1={request}"));
    let told = request_row(&mut world, &id);
    assert_eq!(first(&told, "code").as_deref(), Some("request-canceled-and-instance-running"));
    world.reclaim_now(&id);
    world.advance(20_000);
    assert_eq!(request_row(&mut world, &id).matches("request-canceled-and-instance-running").count(), 1);
    assert!(row(&mut world, &id).contains("Server.SpotInstanceTermination"));
    assert_eq!(world.request(&request).expect("it").state, RequestState::Cancelled);
}

#[test]
fn requests_are_gone_four_hours_after_they_closed() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let request = world.request_of(&id).expect("a request").id.clone();
    world.reclaim_now(&id);
    world.advance(20_000 + 120_000 + 4 * 3_600_000 - 1);
    let by_id = format!("SpotInstanceRequestId.1={request}");
    good(&mut world, "DescribeSpotInstanceRequests", &by_id);
    world.advance(1);
    let reply = ask(&mut world, "DescribeSpotInstanceRequests", &by_id);
    assert_eq!(first(&reply.body, "Code").as_deref(), Some("InvalidSpotInstanceRequestID.NotFound"));
}

#[test]
fn a_cancelled_request_is_gone_four_hours_after_its_instance() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let request = world.request_of(&id).expect("a request").id.clone();
    good(&mut world, "CancelSpotInstanceRequests", &format!("SpotInstanceRequestId.1={request}"));
    world.advance(10 * 3_600_000);
    assert!(request_row(&mut world, &id).contains(&request), "its instance runs on");
    world.reclaim_now(&id);
    world.advance(20_000 + 4 * 3_600_000 - 1);
    assert!(request_row(&mut world, &id).contains(&request));
    world.advance(1);
    assert!(!request_row(&mut world, &id).contains(&request));
}
