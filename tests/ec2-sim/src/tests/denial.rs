//! What the user may not do.

use super::asking::{ask, first, good, launch_in};
use crate::{Spec, World};

#[test]
fn what_is_denied_fails_in_earnest_and_in_rehearsal() {
    let mut world = World::new(1);
    let web = world.add(Spec::on_demand("web"));
    let spot = world.add(Spec::spot("a"));
    let request = world.request_of(&spot).expect("a request").id.clone();
    let by_id = format!("InstanceId.1={web}");
    let launch = launch_in(&world, "eu-west-1a");
    for (action, form) in [
        ("StopInstances", by_id.clone()),
        ("StartInstances", by_id.clone()),
        ("TerminateInstances", by_id),
        ("RunInstances", launch),
        ("CreateTags", format!("ResourceId.1={web}&Tag.1.Key=a&Tag.1.Value=b")),
        ("CancelSpotInstanceRequests", format!("SpotInstanceRequestId.1={request}")),
        ("DescribeInstances", String::new()),
    ] {
        let rehearsal = format!("{form}&DryRun=true");
        let verdict = |world: &mut World, form: &str| {
            let reply = ask(world, action, form);
            (reply.status, first(&reply.body, "Code").unwrap_or_default())
        };
        assert_eq!(verdict(&mut world, &rehearsal), (412, "DryRunOperation".to_owned()), "{action}");
        world.deny(action);
        for form in [&form, &rehearsal] {
            assert_eq!(verdict(&mut world, form), (403, "UnauthorizedOperation".to_owned()), "{action}");
        }
        let message = first(&ask(&mut world, action, &form).body, "Message").expect("a message");
        assert!(message.contains(&format!("is not authorized to perform: ec2:{action} on resource: ")));
        let resource = match action {
            "DescribeInstances" => "*".to_owned(),
            "RunInstances" => "arn:aws:ec2:eu-west-1:111122223333:instance/*".to_owned(),
            "CancelSpotInstanceRequests" => {
                format!("arn:aws:ec2:eu-west-1:111122223333:spot-instances-request/{request}")
            }
            _ => format!("arn:aws:ec2:eu-west-1:111122223333:instance/{web}"),
        };
        assert!(message.contains(&format!(" on resource: {resource} because")), "{message}");
        let (_, blob) = message.split_once("Encoded authorization failure message: ").expect("a blob");
        assert!(blob.len() > 400 && !blob.contains(' '), "{blob}");
        world.allow(action);
        assert_eq!(verdict(&mut world, &rehearsal).0, 412, "{action}");
    }
    assert_eq!(world.living().count(), 2);
    assert!(world.log().iter().all(|entry| !entry.took_effect));
    good(&mut world, "DescribeInstances", "");
}

#[test]
fn each_service_says_it_in_its_own_words() {
    let mut world = World::new(1);
    for action in ["DescribeTargetGroups", "GetMetricData"] {
        world.deny(action);
    }
    let reply = world.call("eu-west-1", "elasticloadbalancing", "Action=DescribeTargetGroups&Version=2015-12-01");
    assert_eq!((reply.status, first(&reply.body, "Code").as_deref()), (403, Some("AccessDenied")));
    let reply = world.call_json("eu-west-1", "monitoring", "GetMetricData", "{}");
    assert_eq!((reply.status, reply.error_type.as_deref()), (400, Some("AccessDeniedException")));
    assert!(reply.body.contains("cloudwatch:GetMetricData"), "{}", reply.body);
}
