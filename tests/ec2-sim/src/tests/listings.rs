//! Paging, filters, throttling, and what fails listings (1.6 to 1.8).

use std::collections::BTreeSet;

use super::asking::{first, good, refused, row, texts};
use crate::filter::is_like;
use crate::{Spec, Throttle, World};

fn fleet(count: usize) -> World {
    let mut world = World::new(1);
    for number in 0..count {
        world.add(Spec::spot(&format!("w{number}")));
    }
    world
}

/// The ids of all pages, page by page.
fn pages(world: &mut World, form: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let body = good(world, "DescribeInstances", &format!("{form}{token}"));
        pages.push(texts(&body, "instanceId"));
        match first(&body, "nextToken").filter(|token| !token.is_empty()) {
            Some(next) => {
                let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
                token = format!("&NextToken={next}");
            }
            None => return pages,
        }
        assert!(pages.len() < 50);
    }
}

#[test]
fn pages_are_as_long_as_asked_for_and_complete() {
    let mut world = fleet(12);
    let lengths: Vec<_> = pages(&mut world, "MaxResults=5").iter().map(Vec::len).collect();
    assert_eq!(lengths, [5, 5, 2]);
    world.rules.page_size_cap = 6;
    assert_eq!(pages(&mut world, "MaxResults=1000").len(), 2);
    assert_eq!(pages(&mut world, "").len(), 2, "the cap holds without a size, too");
    world.rules.empty_pages = true;
    let lengths: Vec<_> = pages(&mut world, "MaxResults=5").iter().map(Vec::len).collect();
    assert_eq!(lengths, [5, 0, 5, 0, 2]);
}

#[test]
fn shuffled_pages_repeat_rows_but_lose_none() {
    let mut world = fleet(23);
    world.rules.shuffled = true;
    let mut is_repeated = false;
    let mut orders = BTreeSet::new();
    for _ in 0..20 {
        let all: Vec<_> = pages(&mut world, "MaxResults=5").concat();
        let unique: BTreeSet<_> = all.iter().cloned().collect();
        assert_eq!(unique.len(), 23);
        is_repeated |= all.len() > 23;
        orders.insert(all);
    }
    assert!(is_repeated && orders.len() > 10);
}

#[test]
fn a_page_shows_the_world_as_it_is_by_then() {
    let mut world = fleet(10);
    let body = good(&mut world, "DescribeInstances", "MaxResults=5");
    let token = first(&body, "nextToken").expect("a token").replace('=', "%3D");
    let ids: Vec<_> = world.instances().map(|instance| instance.id.clone()).collect();
    world.unlist(&ids[9]);
    world.reclaim_now(&ids[8]);
    let body = good(&mut world, "DescribeInstances", &format!("MaxResults=5&NextToken={token}"));
    assert_eq!(texts(&body, "instanceId").len(), 4);
    assert!(body.contains("shutting-down"));
}

#[test]
fn tokens_end_and_belong_to_their_listing() {
    let mut world = fleet(12);
    let body = good(&mut world, "DescribeInstances", "MaxResults=5");
    let token = first(&body, "nextToken").expect("a token").replace('=', "%3D");
    let next = format!("MaxResults=5&NextToken={token}");
    good(&mut world, "DescribeInstances", &next);
    good(&mut world, "DescribeInstances", &next);
    let other = format!("{next}&Filter.1.Name=tag-key&Filter.1.Value.1=a");
    assert_eq!(refused(&mut world, "DescribeInstances", &other).1, "InvalidPaginationToken");
    world.advance(3_600_001);
    assert_eq!(refused(&mut world, "DescribeInstances", &next).1, "InvalidPaginationToken");
    assert_eq!(refused(&mut world, "DescribeInstances", "NextToken=x").1, "InvalidPaginationToken");
}

#[test]
fn page_sizes_have_bounds_and_do_not_go_with_ids() {
    let mut world = fleet(1);
    for (action, form) in [
        ("DescribeInstances", "MaxResults=4"),
        ("DescribeInstances", "MaxResults=1001"),
        ("DescribeSpotInstanceRequests", "MaxResults=4"),
        ("DescribeInstanceTypes", "MaxResults=101"),
        ("DescribeVolumes", "MaxResults=501"),
    ] {
        assert_eq!(refused(&mut world, action, form), (400, "InvalidParameterValue".to_owned()), "{action} {form}");
    }
    let id = world.instances().next().expect("one").id.clone();
    let form = format!("InstanceId.1={id}&MaxResults=5");
    assert_eq!(refused(&mut world, "DescribeInstances", &form), (400, "InvalidParameterCombination".to_owned()));
}

#[test]
fn filters_are_alternatives_within_and_conditions_among_each_other() {
    let mut world = World::new(1);
    let a = world.add(Spec::spot("a").zone("eu-west-1a").tag("team", "Vision"));
    let b = world.add(Spec::spot("b").zone("eu-west-1b").kind("g6.xlarge"));
    let c = world.add(Spec::on_demand("c").zone("eu-west-1b"));
    let request = world.request_of(&a).expect("a request").id.clone();
    for (form, wanted) in [
        ("Filter.1.Name=availability-zone&Filter.1.Value.1=eu-west-1a&Filter.1.Value.2=eu-west-1b", vec![&a, &b, &c]),
        ("Filter.1.Name=instance-lifecycle&Filter.1.Value.1=spot", vec![&a, &b]),
        (
            "Filter.1.Name=instance-lifecycle&Filter.1.Value.1=spot&Filter.2.Name=instance-type&Filter.2.Value.1=g6.*",
            vec![&b],
        ),
        ("Filter.1.Name=tag:team&Filter.1.Value.1=Vision", vec![&a]),
        ("Filter.1.Name=tag:team&Filter.1.Value.1=vision", vec![]),
        ("Filter.1.Name=tag-key&Filter.1.Value.1=respot", vec![&a, &b, &c]),
        (
            "Filter.1.Name=tag:Name&Filter.1.Value.1=%3F&Filter.2.Name=instance-state-name&Filter.2.Value.1=running",
            vec![&a, &b, &c],
        ),
        (&format!("Filter.1.Name=instance-id&Filter.1.Value.1={c}&Filter.1.Value.2=i-0123456789abcdef0"), vec![&c]),
        (&format!("Filter.1.Name=spot-instance-request-id&Filter.1.Value.1={request}"), vec![&a]),
    ] {
        let found = texts(&good(&mut world, "DescribeInstances", form), "instanceId");
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{form}");
    }
    let unknown = "Filter.1.Name=lifecycle&Filter.1.Value.1=spot";
    assert_eq!(refused(&mut world, "DescribeInstances", unknown).1, "InvalidParameterValue");
    let mut many = "Filter.1.Name=instance-id".to_owned();
    for number in 1..=201 {
        many += &format!("&Filter.1.Value.{number}=i-{number}");
    }
    assert_eq!(refused(&mut world, "DescribeInstances", &many).1, "FilterLimitExceeded");
}

#[test]
fn wildcards_stand_for_letters() {
    for (pattern, value, fits) in [
        ("a*c", "abbc", true),
        ("a*c", "abcd", false),
        ("*", "", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*b*", "abc", true),
        ("", "a", false),
        ("*ab", "aab", true),
    ] {
        assert_eq!(is_like(pattern, value), fits, "{pattern} {value}");
    }
}

#[test]
fn unknown_names_and_values_are_refused() {
    let mut world = fleet(1);
    for (action, form, code) in [
        ("DescribeInstances", "InstanceIds.1=i-1", "UnknownParameter"),
        ("DescribeInstances", "Filters.1.Name=a", "UnknownParameter"),
        ("DescribeInstances", "DryRun=yes", "InvalidParameterValue"),
        ("DescribeInstances", "MaxResults=5&MaxResults=6", "InvalidQueryParameter"),
        ("DescribeInstances", "Filter.1.Name=tag-key", "MissingParameter"),
        ("DescribeInstanceAttribute", "InstanceId=i-1&Attribute=user-data", "InvalidParameterValue"),
        ("DescribeInstanceTypeOfferings", "LocationType=zone", "InvalidParameterValue"),
        ("DescribeSpotPriceHistory", "StartTime=now", "InvalidParameterValue"),
        ("DescribeSpotPriceHistory", "AvailabilityZone=eu-west-9a", "InvalidParameterValue"),
        ("DescribeVolumes", "VolumeId.1=vol-0123456789abcdef0", "InvalidVolume.NotFound"),
        ("DescribeSubnets", "SubnetId.1=subnet-1", "InvalidSubnetID.NotFound"),
        (
            "DescribeSpotInstanceRequests",
            "SpotInstanceRequestId.1=sir-12345678",
            "InvalidSpotInstanceRequestID.NotFound",
        ),
        ("DescribeRegions", "RegionName.1=eu-west-9", "InvalidParameterValue"),
        ("DescribeEverything", "", "InvalidAction"),
    ] {
        assert_eq!(refused(&mut world, action, form), (400, code.to_owned()), "{action} {form}");
    }
    let reply = world.call("eu-west-1", "ec2", "Action=DescribeInstances");
    assert_eq!(first(&reply.body, "Code").as_deref(), Some("MissingParameter"));
}

#[test]
fn a_disrupted_zone_fails_what_is_not_limited_to_others() {
    let mut world = World::new(1);
    let here = world.add(Spec::spot("a"));
    let there = world.add(Spec::spot("b").zone("eu-west-1b"));
    world.disrupt_zone("eu-west-1a");
    let by_zone = "Filter.1.Name=availability-zone&Filter.1.Value.1=eu-west-1";
    for form in
        ["MaxResults=100".to_owned(), format!("InstanceId.1={here}"), format!("{by_zone}a"), format!("{by_zone}*")]
    {
        assert_eq!(refused(&mut world, "DescribeInstances", &form).0, 500, "{form}");
    }
    row(&mut world, &there);
    good(&mut world, "DescribeInstances", &format!("{by_zone}b"));
    world.rules.zone_filter_survives_disruption = false;
    assert_eq!(refused(&mut world, "DescribeInstances", &format!("{by_zone}b")).0, 500);
    world.restore_zone("eu-west-1a");
    good(&mut world, "DescribeInstances", "");
}

#[test]
fn hidden_instances_are_shown_to_those_who_ask() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").managed_by("autoscaling").hidden());
    assert!(!good(&mut world, "DescribeInstances", "").contains(&id));
    let told = good(&mut world, "DescribeInstances", "IncludeManagedResources=true");
    assert!(told.contains("<managed>true</managed><principal>autoscaling.amazonaws.com</principal>"), "{told}");
}

#[test]
fn empty_buckets_throttle_with_503_and_without_effect() {
    let mut world = World::new(1);
    world.rules.throttle = Some(Throttle::documented());
    let form = super::asking::spot_launch(&world);
    for _ in 0..5 {
        good(&mut world, "RunInstances", &form);
    }
    assert_eq!(refused(&mut world, "RunInstances", &form), (503, "RequestLimitExceeded".to_owned()));
    assert_eq!(world.launches(), 5);
    world.advance(1_000);
    good(&mut world, "RunInstances", &form);
    good(&mut world, "RunInstances", &form);
    assert_eq!(refused(&mut world, "RunInstances", &form).0, 503, "two come back in a second");
    for _ in 0..50 {
        good(&mut world, "DescribeInstances", "");
    }
    assert_eq!(refused(&mut world, "DescribeInstances", "").0, 503, "half as many without page size and filter");
    for _ in 0..100 {
        good(&mut world, "DescribeInstances", "MaxResults=5");
    }
    assert_eq!(refused(&mut world, "DescribeInstances", "MaxResults=5").0, 503);
}
