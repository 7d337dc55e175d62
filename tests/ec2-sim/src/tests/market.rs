//! Room, quotas, addresses, types and prices.

use super::asking::{ask_in, good, launch_in, launched, refused, spot_launch, spot_launch_in, texts};
use crate::{Lifecycle, Spec, World};

#[test]
fn a_pool_has_so_many_places_and_an_end_gives_none_back() {
    let mut world = World::new(1);
    let form = spot_launch(&world);
    world.set_room("g5.xlarge", "eu-west-1a", Some(1));
    let id = launched(&mut world, &form);
    assert_eq!(refused(&mut world, "RunInstances", &form), (500, "InsufficientInstanceCapacity".to_owned()));
    world.reclaim_now(&id);
    world.advance(600_000);
    assert_eq!(refused(&mut world, "RunInstances", &form).0, 500);
    let elsewhere = spot_launch_in(&world, "eu-west-1b");
    good(&mut world, "RunInstances", &elsewhere);
    let on_demand = launch_in(&world, "eu-west-1a");
    good(&mut world, "RunInstances", &on_demand);
    world.set_on_demand_room("g5.xlarge", "eu-west-1a", Some(0));
    assert_eq!(refused(&mut world, "RunInstances", &on_demand).0, 500);
}

#[test]
fn without_a_zone_ec2_takes_one_with_room() {
    let mut world = World::new(1);
    let subnet = world.home().subnet("eu-west-1a");
    let form = spot_launch(&world).replace(&format!("SubnetId={subnet}&"), "");
    world.set_room("g5.xlarge", "eu-west-1a", Some(0));
    world.set_room("g5.xlarge", "eu-west-1b", Some(0));
    let id = launched(&mut world, &form);
    assert_eq!(world.instance(&id).expect("it").zone, "eu-west-1c");
}

#[test]
fn quotas_count_requests_until_they_close() {
    let mut world = World::new(1);
    let form = spot_launch(&world);
    world.set_quota("eu-west-1", Lifecycle::Spot, "G", 7);
    let id = launched(&mut world, &form);
    assert_eq!(refused(&mut world, "RunInstances", &form), (400, "MaxSpotInstanceCountExceeded".to_owned()));
    good(&mut world, "TerminateInstances", &format!("InstanceId.1={id}"));
    world.advance(20_000 + 119_000);
    assert_eq!(refused(&mut world, "RunInstances", &form).1, "MaxSpotInstanceCountExceeded", "two minutes yet");
    world.advance(1_000);
    let id = launched(&mut world, &form);
    let request = world.request_of(&id).expect("a request").id.clone();
    good(&mut world, "TerminateInstances", &format!("InstanceId.1={id}"));
    good(&mut world, "CancelSpotInstanceRequests", &format!("SpotInstanceRequestId.1={request}"));
    good(&mut world, "RunInstances", &form);
}

#[test]
fn quotas_of_the_markets_and_groups_are_their_own() {
    let mut world = World::new(1);
    let on_demand = launch_in(&world, "eu-west-1a");
    world.set_quota("eu-west-1", Lifecycle::OnDemand, "G", 4);
    world.add(Spec::spot("other market"));
    world.add(Spec::on_demand("other group").kind("m5.large"));
    good(&mut world, "RunInstances", &on_demand);
    assert_eq!(refused(&mut world, "RunInstances", &on_demand), (400, "VcpuLimitExceeded".to_owned()));
    good(&mut world, "RunInstances", &on_demand.replace("g5.xlarge", "m5.large"));
    assert_eq!(world.vcpus_taken("eu-west-1", Lifecycle::OnDemand, "G"), 4);
}

#[test]
fn a_cancelled_request_still_counts_while_its_instance_lives() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let request = world.request_of(&id).expect("a request").id.clone();
    good(&mut world, "CancelSpotInstanceRequests", &format!("SpotInstanceRequestId.1={request}"));
    assert_eq!(world.vcpus_taken("eu-west-1", Lifecycle::Spot, "G"), 4);
    world.user_terminates(&id);
    assert_eq!(world.vcpus_taken("eu-west-1", Lifecycle::Spot, "G"), 0);
}

#[test]
fn a_subnet_runs_out_of_addresses() {
    let mut world = World::new(1);
    let form = spot_launch(&world);
    let subnet = world.home().subnet("eu-west-1a");
    world.set_free_addresses(&subnet, 1);
    let id = launched(&mut world, &form);
    assert_eq!(refused(&mut world, "RunInstances", &form), (400, "InsufficientFreeAddressesInSubnet".to_owned()));
    assert!(good(&mut world, "DescribeSubnets", "").contains("<availableIpAddressCount>0</availableIpAddressCount>"));
    world.user_terminates(&id);
    good(&mut world, "RunInstances", &form);
}

#[test]
fn a_private_address_has_one_owner() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let address = world.instance(&id).expect("it").interfaces[0].address.clone();
    let form = format!("{}&PrivateIpAddress={address}", spot_launch(&world));
    assert_eq!(refused(&mut world, "RunInstances", &form).1, "InvalidIPAddress.InUse");
    world.reclaim_now(&id);
    good(&mut world, "RunInstances", &form);
}

#[test]
fn types_are_sold_in_some_zones_only() {
    let mut world = World::new(1);
    let form = spot_launch_in(&world, "eu-west-1c").replace("g5.xlarge", "g6.xlarge");
    assert_eq!(refused(&mut world, "RunInstances", &form), (400, "Unsupported".to_owned()));
    let offerings = "LocationType=availability-zone&Filter.1.Name=instance-type&Filter.1.Value.1=g6.xlarge";
    let told = good(&mut world, "DescribeInstanceTypeOfferings", offerings);
    assert_eq!(texts(&told, "location"), ["eu-west-1a", "eu-west-1b"]);
    assert_eq!(refused(&mut world, "DescribeInstanceTypes", "InstanceType.1=g99.xlarge").1, "InvalidInstanceType");
}

#[test]
fn prices_from_now_are_one_row_per_zone_with_the_last_change() {
    let mut world = World::new(1);
    let ask = "InstanceType.1=g5.xlarge&ProductDescription.1=Linux/UNIX&ProductDescription.2=Linux/UNIX (Amazon VPC)";
    world.advance(1_000);
    world.set_spot_price("g5.xlarge", "eu-west-1b", "0.777000");
    world.advance(60_000);
    let now = format!("{ask}&StartTime=2026-01-15T12:01:01Z");
    let told = good(&mut world, "DescribeSpotPriceHistory", &now);
    let mut zones = texts(&told, "availabilityZone");
    zones.sort();
    assert_eq!(zones, ["eu-west-1a", "eu-west-1b", "eu-west-1c"]);
    assert!(told.contains("<spotPrice>0.777000</spotPrice><timestamp>2026-01-15T12:00:01.000Z</timestamp>"), "{told}");
    assert_eq!(texts(&good(&mut world, "DescribeSpotPriceHistory", ask), "item").len(), 7, "and the whole history");
    world.rules.vpc_product_word = true;
    assert!(good(&mut world, "DescribeSpotPriceHistory", &now).contains("Linux/UNIX (Amazon VPC)"));
    let plain = now.replace("&ProductDescription.2=Linux/UNIX (Amazon VPC)", "");
    assert!(texts(&good(&mut world, "DescribeSpotPriceHistory", &plain), "item").is_empty());
}

#[test]
fn regions_are_apart() {
    let mut world = World::new(1);
    world.add_region("us-east-1");
    let id = world.add(Spec::spot("far").zone("us-east-1a"));
    assert!(texts(&good(&mut world, "DescribeInstances", ""), "instanceId").is_empty());
    assert_eq!(
        refused(&mut world, "TerminateInstances", &format!("InstanceId.1={id}")).1,
        "InvalidInstanceID.NotFound"
    );
    assert!(ask_in(&mut world, "us-east-1", "DescribeInstances", "").body.contains(&id));
    assert_eq!(texts(&good(&mut world, "DescribeRegions", ""), "regionName"), ["eu-west-1", "us-east-1"]);
    assert!(good(&mut world, "DescribeRegions", "AllRegions=true").contains("not-opted-in"));
    assert_eq!(ask_in(&mut world, "ap-east-1", "DescribeInstances", "").status, 401);
}
