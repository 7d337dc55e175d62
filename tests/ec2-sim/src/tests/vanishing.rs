//! What is forgotten, and when (4.3, 1.10).

use super::asking::{first, good, launched, refused, request_row, row, spot_launch, texts};
use crate::{AttributesAfterEnd, PROFILE, Spec, World};

const FIRST: [&str; 5] = ["subnetId", "vpcId", "ipAddress", "groupId", "publicIp"];
const SECOND: [&str; 3] = ["deviceName", "networkInterfaceId", "arn"];
const LAST: [&str; 8] = [
    "keyName",
    "imageId",
    "instanceType",
    "availabilityZone",
    "httpTokens",
    "coreCount",
    "rootDeviceName",
    "platformDetails",
];

fn has(told: &str, name: &str) -> bool {
    told.contains(&format!("<{name}>"))
}

#[test]
fn attributes_go_in_the_order_of_the_table() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").profile(PROFILE).public_address(true));
    let running = row(&mut world, &id);
    for name in FIRST.iter().chain(&SECOND).chain(&LAST) {
        assert!(has(&running, name), "{name} of a running one");
    }
    world.reclaim_now(&id);
    let ending = row(&mut world, &id);
    assert!(!ending.contains("<privateIpAddress>") && ending.contains("<dnsName/>"));
    for name in FIRST {
        assert!(!has(&ending, name), "{name} goes at shutting-down");
    }
    for name in SECOND.iter().chain(&LAST) {
        assert!(has(&ending, name), "{name} is still there at shutting-down");
    }
    world.advance(20_000);
    let ended = row(&mut world, &id);
    for name in FIRST.iter().chain(&SECOND) {
        assert!(!has(&ended, name), "{name} is gone at terminated");
    }
    for name in LAST {
        assert!(has(&ended, name), "{name} stays with the row");
    }
}

#[test]
fn filters_do_not_find_what_is_forgotten() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let vpc = world.home().vpc.clone();
    let filter = format!("Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}");
    assert!(good(&mut world, "DescribeInstances", &filter).contains(&id));
    world.reclaim_now(&id);
    assert!(!good(&mut world, "DescribeInstances", &filter).contains(&id));
}

#[test]
fn tags_go_one_by_one_and_filters_miss_them() {
    let mut world = World::new(3);
    let id = world.add(Spec::spot("a").tag("k1", "v").tag("k2", "v").tag("k3", "v").tag("k4", "v"));
    world.reclaim_now(&id);
    world.advance(20_000);
    let mut counts = Vec::new();
    loop {
        let listing = good(&mut world, "DescribeInstances", "");
        if !listing.contains(&id) {
            break;
        }
        let count = texts(&listing, "key").len();
        let by_tag = good(&mut world, "DescribeInstances", "Filter.1.Name=tag-key&Filter.1.Value.1=respot");
        assert_eq!(by_tag.contains(&id), listing.contains("<key>respot</key>"));
        counts.push(count);
        assert!(counts.len() < 400, "the row goes within the hour");
        world.advance(10_000);
    }
    assert!(counts.is_sorted_by(|one, next| one >= next), "{counts:?}");
    assert_eq!(counts[0], 6);
    counts.dedup();
    assert!(counts.len() > 4, "not all at once: {counts:?}");
    assert_eq!(world.instance(&id).expect("it").tags.len(), 6, "a test still sees them");
}

#[test]
fn rows_go_within_the_hour_each_at_its_time() {
    let mut world = World::new(1);
    let ids: Vec<_> = (0..20).map(|number| world.add(Spec::spot(&format!("a{number}")))).collect();
    for id in &ids {
        world.reclaim_now(id);
    }
    world.advance(20_000 + 20 * 60_000 - 1);
    assert_eq!(texts(&good(&mut world, "DescribeInstances", ""), "instanceId").len(), 20);
    world.advance(20 * 60_000);
    let left = texts(&good(&mut world, "DescribeInstances", ""), "instanceId").len();
    assert!((1..20).contains(&left), "{left}");
    world.advance(20 * 60_000 + 1);
    assert!(texts(&good(&mut world, "DescribeInstances", ""), "instanceId").is_empty());
    assert_eq!(world.instances().count(), 20);
    let by_id = format!("InstanceId.1={}", ids[0]);
    assert_eq!(refused(&mut world, "DescribeInstances", &by_id).1, "InvalidInstanceID.NotFound");
    assert!(request_row(&mut world, &ids[0]).contains("instance-terminated-no-capacity"), "the request outlives it");
}

#[test]
fn a_row_can_go_at_once() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    assert!(world.unlist(&id) && !world.unlist("i-none"));
    assert!(!good(&mut world, "DescribeInstances", "").contains(&id));
}

#[test]
fn volumes_go_with_their_instance_or_stay() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").volume("/dev/sdf", 20, false).volume("/dev/sdg", 30, true));
    assert_eq!(texts(&good(&mut world, "DescribeVolumes", ""), "size").len(), 3);
    world.reclaim_now(&id);
    assert_eq!(texts(&good(&mut world, "DescribeVolumes", ""), "size").len(), 3);
    world.advance(20_000);
    let left = good(&mut world, "DescribeVolumes", "");
    assert_eq!(texts(&left, "size"), ["20"]);
    assert_eq!(first(&left, "status").as_deref(), Some("available"));
    assert!(left.contains("<availabilityZone>eu-west-1a</availabilityZone>"));
}

#[test]
fn for_its_first_seconds_nobody_finds_an_instance() {
    let mut world = World::new(1);
    let form = format!("{}&ClientToken=t", spot_launch(&world));
    let id = first(&good(&mut world, "RunInstances", &form), "instanceId").expect("an id");
    world.advance(1_999);
    let by_id = format!("InstanceId.1={id}");
    for action in ["DescribeInstances", "TerminateInstances"] {
        assert_eq!(refused(&mut world, action, &by_id), (400, "InvalidInstanceID.NotFound".to_owned()), "{action}");
    }
    let by_token = "Filter.1.Name=client-token&Filter.1.Value.1=t";
    assert!(!good(&mut world, "DescribeInstances", by_token).contains(&id));
    assert!(!good(&mut world, "DescribeSpotInstanceRequests", "").contains("sir-"));
    world.advance(1);
    row(&mut world, &id);
    assert!(good(&mut world, "DescribeInstances", by_token).contains(&id));
    assert!(good(&mut world, "DescribeSpotInstanceRequests", "").contains("sir-"));
}

#[test]
fn tags_may_come_later_than_the_instance() {
    let mut world = World::new(1);
    world.rules.tags_visible_after_ms = 10_000;
    let tags =
        "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=1";
    let form = format!("{}&{tags}", spot_launch(&world));
    let id = launched(&mut world, &form);
    assert!(!row(&mut world, &id).contains("<key>a</key>"));
    world.advance(8_000);
    assert!(row(&mut world, &id).contains("<key>a</key>"));
    good(&mut world, "CreateTags", &format!("ResourceId.1={id}&Tag.1.Key=b&Tag.1.Value=2"));
    assert!(!row(&mut world, &id).contains("<key>b</key>"));
    world.advance(10_000);
    assert!(row(&mut world, &id).contains("<key>b</key><value>2</value>"));
}

#[test]
fn what_attributes_say_of_an_ended_instance_is_a_rule() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").user_data("secret"));
    let ask = format!("InstanceId={id}&Attribute=userData");
    assert!(good(&mut world, "DescribeInstanceAttribute", &ask).contains("<value>c2VjcmV0</value>"));
    world.reclaim_now(&id);
    world.advance(20_000);
    assert!(!good(&mut world, "DescribeInstanceAttribute", &ask).contains("c2VjcmV0"));
    world.rules.attributes_after_end = AttributesAfterEnd::Kept;
    assert!(good(&mut world, "DescribeInstanceAttribute", &ask).contains("c2VjcmV0"));
    world.rules.attributes_after_end = AttributesAfterEnd::NotFound;
    assert_eq!(refused(&mut world, "DescribeInstanceAttribute", &ask).1, "InvalidInstanceID.NotFound");
}

#[test]
fn the_request_remembers_the_launch() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").profile(PROFILE).user_data("secret"));
    world.reclaim_now(&id);
    world.advance(3_600_000 + 20_000);
    let told = request_row(&mut world, &id);
    for name in ["imageId", "subnetId", "groupId", "keyName", "arn", "instanceType", "volumeSize"] {
        assert!(has(&told, name), "{name}");
    }
    assert!(!has(&told, "userData") && !has(&told, "httpTokens"));
    world.rules.user_data_in_request = true;
    assert!(has(&request_row(&mut world, &id), "userData"));
}
