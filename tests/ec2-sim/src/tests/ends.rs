//! TerminateInstances, StopInstances, StartInstances.

use super::asking::{first, good, refused, row, texts};
use crate::{Spec, State, World};

#[test]
fn terminating_twice_succeeds_until_the_row_is_gone() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let by_id = format!("InstanceId.1={id}");
    let answer = good(&mut world, "TerminateInstances", &by_id);
    assert_eq!(texts(&answer, "name"), ["shutting-down", "running"]);
    world.advance(20_000);
    let again = good(&mut world, "TerminateInstances", &by_id);
    assert_eq!(texts(&again, "name"), ["terminated", "terminated"]);
    assert_eq!(world.terminations(), 1);
    assert!(row(&mut world, &id).contains("<code>Client.UserInitiatedShutdown</code>"));
    world.unlist(&id);
    assert_eq!(refused(&mut world, "TerminateInstances", &by_id).1, "InvalidInstanceID.NotFound");
}

#[test]
fn one_wrong_id_fails_the_whole_call() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    for (other, code) in [("i-0123456789abcdef0", "InvalidInstanceID.NotFound"), ("a", "InvalidInstanceID.Malformed")] {
        let form = format!("InstanceId.1={id}&InstanceId.2={other}");
        for action in ["TerminateInstances", "DescribeInstances", "StopInstances", "DescribeInstanceStatus"] {
            assert_eq!(refused(&mut world, action, &form), (400, code.to_owned()), "{action}");
        }
    }
    assert!(world.instance(&id).expect("it").is_living());
    assert_eq!(refused(&mut world, "TerminateInstances", "").1, "MissingParameter");
}

#[test]
fn protection_fails_by_zone() {
    let mut world = World::new(1);
    let guarded = world.add(Spec::on_demand("a").protected());
    let beside = world.add(Spec::on_demand("b"));
    let elsewhere = world.add(Spec::on_demand("c").zone("eu-west-1b"));
    let form = format!("InstanceId.1={guarded}&InstanceId.2={beside}&InstanceId.3={elsewhere}");
    assert_eq!(refused(&mut world, "TerminateInstances", &form), (400, "OperationNotPermitted".to_owned()));
    let lives = |world: &World, id: &str| world.instance(id).expect("it").is_living();
    assert!(lives(&world, &guarded) && lives(&world, &beside) && !lives(&world, &elsewhere));
}

#[test]
fn a_rehearsed_end_ends_nothing() {
    let mut world = World::new(1);
    let id = world.add(Spec::on_demand("a"));
    let request = world.add(Spec::spot("b"));
    let request = world.request_of(&request).expect("a request").id.clone();
    for (action, form) in [
        ("TerminateInstances", format!("InstanceId.1={id}")),
        ("StopInstances", format!("InstanceId.1={id}")),
        ("StartInstances", format!("InstanceId.1={id}")),
        ("CancelSpotInstanceRequests", format!("SpotInstanceRequestId.1={request}")),
        ("CreateTags", format!("ResourceId.1={id}&Tag.1.Key=a&Tag.1.Value=b")),
        ("DescribeInstances", String::new()),
        ("DescribeInstanceAttribute", format!("InstanceId={id}&Attribute=userData")),
        ("DescribeSpotInstanceRequests", String::new()),
        ("DescribeVolumes", String::new()),
        ("DescribeSubnets", String::new()),
        ("DescribeRegions", String::new()),
        ("DescribeInstanceTypes", String::new()),
        ("DescribeInstanceTypeOfferings", String::new()),
        ("DescribeSpotPriceHistory", String::new()),
        ("DescribeInstanceStatus", String::new()),
    ] {
        let form = format!("{form}&DryRun=true");
        assert_eq!(refused(&mut world, action, &form), (412, "DryRunOperation".to_owned()), "{action}");
    }
    assert_eq!(world.living().count(), 2);
    assert!(world.log().iter().all(|entry| !entry.took_effect));
    assert!(world.instance(&id).expect("it").tag("a").is_none());
}

#[test]
fn one_time_instances_cannot_be_stopped() {
    let mut world = World::new(1);
    let (spot, web) = (world.add(Spec::spot("a")), world.add(Spec::on_demand("web")));
    assert_eq!(refused(&mut world, "StopInstances", &format!("InstanceId.1={spot}")).1, "UnsupportedOperation");
    assert!(!world.user_stops(&spot) && world.user_stops(&web));
    world.advance(20_000);
    assert_eq!(world.instance(&web).expect("it").state, State::Stopped);
    world.set_on_demand_room("g5.xlarge", "eu-west-1a", Some(0));
    let by_id = format!("InstanceId.1={web}");
    assert_eq!(refused(&mut world, "StartInstances", &by_id), (500, "InsufficientInstanceCapacity".to_owned()));
    world.set_on_demand_room("g5.xlarge", "eu-west-1a", None);
    assert_eq!(texts(&good(&mut world, "StartInstances", &by_id), "name"), ["pending", "stopped"]);
    world.advance(30_000);
    good(&mut world, "TerminateInstances", &by_id);
    assert_eq!(refused(&mut world, "StartInstances", &by_id).1, "IncorrectInstanceState");
    assert_eq!(refused(&mut world, "StopInstances", &by_id).1, "IncorrectInstanceState");
}

#[test]
fn stop_protection_holds() {
    let mut world = World::new(1);
    let id = world.add(Spec::on_demand("a").facts(|facts| facts.stop_protected = true));
    assert_eq!(refused(&mut world, "StopInstances", &format!("InstanceId.1={id}")).1, "OperationNotPermitted");
}

#[test]
fn a_shutdown_from_inside_follows_the_shutdown_behavior() {
    let mut world = World::new(1);
    let (stops, ends) =
        (world.add(Spec::on_demand("a")), world.add(Spec::on_demand("b").shutdown_behavior("terminate")));
    assert!(world.shuts_down_inside(&stops) && world.shuts_down_inside(&ends));
    world.advance(20_000);
    assert_eq!(world.instance(&stops).expect("it").state, State::Stopped);
    assert_eq!(world.instance(&ends).expect("it").state, State::Terminated);
}

#[test]
fn tags_are_set_and_aws_s_own_are_not() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").tag("aws:autoscaling:groupName", "g"));
    assert!(row(&mut world, &id).contains("aws:autoscaling:groupName"), "AWS itself may");
    let tag = |key: &str| format!("ResourceId.1={id}&Tag.1.Key={key}&Tag.1.Value=v");
    assert_eq!(refused(&mut world, "CreateTags", &tag("aws:x")), (400, "InvalidTagKey.Malformed".to_owned()));
    assert_eq!(
        refused(&mut world, "CreateTags", "ResourceId.1=vol-0123456789abcdef0&Tag.1.Key=a").1,
        "InvalidVolume.NotFound"
    );
    assert_eq!(refused(&mut world, "CreateTags", "ResourceId.1=igw-1&Tag.1.Key=a").1, "InvalidID");
    let answer = good(&mut world, "CreateTags", &tag("k"));
    assert_eq!(first(&answer, "return").as_deref(), Some("true"));
    assert_eq!(world.instance(&id).expect("it").tag("k"), Some("v"));
}

#[test]
fn a_stopped_instance_keeps_what_it_has_and_starts_with_quota_and_room() {
    let mut world = World::new(1);
    let spec = Spec::on_demand("web").tag("role", "web").volume("/dev/sdf", 40, false).public_address(true);
    let (id, beside) = (world.add(spec), world.add(Spec::on_demand("beside")));
    let by_id = format!("InstanceId.1={id}");
    let kept = |world: &mut World| {
        let told = row(world, &id);
        let of = |names: &[&str]| names.iter().map(|name| texts(&told, name)).collect::<Vec<_>>();
        of(&["subnetId", "vpcId", "groupId", "volumeId", "privateIpAddress", "networkInterfaceId", "key", "arn"])
    };
    let before = kept(&mut world);
    assert!(before[..7].iter().all(|texts| !texts.is_empty()), "{before:?}");
    let public = first(&row(&mut world, &id), "publicIp").expect("a public address");
    good(&mut world, "StopInstances", &by_id);
    assert_eq!(kept(&mut world), before);
    world.advance(20_000);
    assert_eq!(world.instance(&id).expect("it").state, State::Stopped);
    assert_eq!(kept(&mut world), before);
    assert!(!row(&mut world, &id).contains("<publicIp>"), "it loses its public address");
    world.advance(30 * 86_400_000);
    assert_eq!(kept(&mut world), before, "for ever");
    world.user_stops(&beside);
    world.advance(20_000);
    let both = format!("{by_id}&InstanceId.2={beside}");
    world.set_on_demand_room("g5.xlarge", "eu-west-1a", Some(1));
    assert_eq!(refused(&mut world, "StartInstances", &both), (500, "InsufficientInstanceCapacity".to_owned()));
    assert_eq!(world.living().count(), 0, "all or none");
    world.set_on_demand_room("g5.xlarge", "eu-west-1a", Some(2));
    for (vcpus, form) in [(3, &by_id), (7, &both)] {
        world.set_quota("eu-west-1", crate::Lifecycle::OnDemand, "G", vcpus);
        assert_eq!(refused(&mut world, "StartInstances", form), (400, "VcpuLimitExceeded".to_owned()));
    }
    world.set_quota("eu-west-1", crate::Lifecycle::OnDemand, "G", 8);
    good(&mut world, "StartInstances", &both);
    assert_eq!(world.home().room(crate::Lifecycle::OnDemand, "g5.xlarge", "eu-west-1a"), Some(0));
    world.advance(30_000);
    assert_eq!(kept(&mut world), before);
    assert_ne!(first(&row(&mut world, &id), "publicIp"), Some(public), "another public address");
    good(&mut world, "StartInstances", &both);
}

#[test]
fn protection_can_be_read_and_lifted() {
    let mut world = World::new(1);
    let id = world.add(Spec::on_demand("a").protected().stop_protected());
    let by_id = format!("InstanceId.1={id}");
    let attribute = |world: &mut World, name: &str| {
        let body = good(world, "DescribeInstanceAttribute", &format!("InstanceId={id}&Attribute={name}"));
        first(&body, "value")
    };
    for (action, name) in [("StopInstances", "disableApiStop"), ("TerminateInstances", "disableApiTermination")] {
        assert_eq!(attribute(&mut world, name).as_deref(), Some("true"));
        for form in [&by_id, &format!("{by_id}&DryRun=true")] {
            assert_eq!(refused(&mut world, action, form), (400, "OperationNotPermitted".to_owned()));
        }
        assert!(world.set_stop_protected(&id, false));
        if action == "TerminateInstances" {
            world.set_protected(&id, false);
        }
        assert_eq!(attribute(&mut world, name).as_deref(), Some("false"));
        good(&mut world, action, &by_id);
    }
}
