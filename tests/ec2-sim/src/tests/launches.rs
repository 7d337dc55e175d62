//! RunInstances: what it refuses (3.10), and what it makes of what it is told.

use super::asking::{ask, first, good, launch_in, launched, refused, row, spot_launch, texts};
use crate::{EndedBy, Lifecycle, RequestState, Spec, State, World};

/// Replaces parameters of a launch; one without a value is left out.
fn with(form: &str, changes: &str) -> String {
    let mut pairs: Vec<_> = form.split('&').map(str::to_owned).collect();
    for change in changes.split('&').filter(|change| !change.is_empty()) {
        let name = change.split('=').next().unwrap_or_default();
        pairs.retain(|pair| pair.split('=').next() != Some(name));
        if change.contains('=') {
            pairs.push(change.to_owned());
        }
    }
    pairs.join("&")
}

#[test]
fn wrong_launches_are_refused_with_their_code_and_make_nothing() {
    let mut world = World::new(1);
    let form = spot_launch(&world);
    let subnet = world.home().subnet("eu-west-1a");
    let group = world.home().groups[0].0.clone();
    let long = "A".repeat(22_000);
    let network = "NetworkInterface.1.DeviceIndex=0";
    let spot = "InstanceMarketOptions.SpotOptions";
    for (changes, code) in [
        ("ImageId", "MissingParameter"),
        ("MaxCount", "MissingParameter"),
        ("MinCount=2", "InvalidParameterCombination"),
        ("MinCount=0", "InvalidParameterValue"),
        ("MinCount=one", "InvalidParameterValue"),
        ("ImageId=ami-1", "InvalidAMIID.Malformed"),
        ("ImageId=ami-0123456789abcdef0", "InvalidAMIID.NotFound"),
        ("InstanceType=g99.xlarge", "InvalidParameterValue"),
        ("InstanceType=t4g.nano", "InvalidParameterValue"),
        ("KeyName=lost", "InvalidKeyPair.NotFound"),
        ("SubnetId=subnet-0123456789abcdef0", "InvalidSubnetID.NotFound"),
        ("SecurityGroupId.1=sg-0123456789abcdef0", "InvalidGroup.NotFound"),
        ("SecurityGroupId.1=gpu", "InvalidGroupId.Malformed"),
        ("SecurityGroupIds.1=sg-0123456789abcdef0", "UnknownParameter"),
        ("SecurityGroupId.0=sg-0123456789abcdef0", "UnknownParameter"),
        ("InstanceMarketOption.MarketType=spot", "UnknownParameter"),
        ("InstanceMarketOptions.MarketType=Spot", "InvalidParameterValue"),
        (&format!("{spot}.SpotInstanceType=forever"), "InvalidParameterValue"),
        (&format!("{spot}.SpotInstanceType=persistent"), "InvalidParameterCombination"),
        (&format!("{spot}.InstanceInterruptionBehavior=stop"), "InvalidParameterCombination"),
        (&format!("InstanceMarketOptions.MarketType&{spot}.SpotInstanceType=one-time"), "InvalidParameterCombination"),
        (&format!("{spot}.MaxPrice=0.0001"), "InvalidParameterValue"),
        (&format!("{spot}.MaxPrice=0.1"), "SpotMaxPriceTooLow"),
        (network, "InvalidParameterCombination"),
        (&format!("{network}&SubnetId"), "InvalidParameterCombination"),
        (&format!("{network}&SecurityGroupId.1"), "InvalidParameterCombination"),
        (
            &format!(
                "{network}&SubnetId&SecurityGroupId.1&NetworkInterface.1.SubnetId={subnet}&\
                 NetworkInterface.1.AssociatePublicIpAddress=true&NetworkInterface.2.DeviceIndex=1&\
                 NetworkInterface.2.SecurityGroupId.1={group}"
            ),
            "InvalidParameterCombination",
        ),
        ("Placement.AvailabilityZone=eu-west-1b", "InvalidParameterCombination"),
        ("Placement.AvailabilityZone=eu-west-9a", "InvalidParameterValue"),
        ("DisableApiTermination=true", "UnsupportedOperation"),
        ("DisableApiTermination=True", "InvalidParameterValue"),
        ("CpuOptions.CoreCount=9&CpuOptions.ThreadsPerCore=1", "InvalidParameterValue"),
        ("CreditSpecification.CpuCredits=unlimited", "InvalidParameterCombination"),
        ("MetadataOptions.HttpTokens=always", "InvalidParameterValue"),
        ("MetadataOptions.State=applied", "UnknownParameter"),
        ("MetadataOptions.HttpPutResponseHopLimit=99", "InvalidParameterValue"),
        ("IamInstanceProfile.Arn=arn:aws:iam::111122223333:instance-profile/lost", "InvalidParameterValue"),
        ("IamInstanceProfile.Name=lost", "InvalidParameterValue"),
        ("LaunchTemplate.LaunchTemplateId=lt-1", "InvalidLaunchTemplateId.NotFound"),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.VolumeSize=4",
            "InvalidBlockDeviceMapping",
        ),
        ("BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.VolumeId=vol-1", "UnknownParameter"),
        ("BlockDeviceMapping.1.DeviceName=/dev/sdf", "MissingParameter"),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=9&BlockDeviceMapping.1.Ebs.VolumeType=gp9",
            "InvalidParameterValue",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=9&BlockDeviceMapping.1.Ebs.VolumeType=gp2&BlockDeviceMapping.1.Ebs.Throughput=200",
            "InvalidParameterCombination",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=9&BlockDeviceMapping.1.Ebs.VolumeType=gp2&BlockDeviceMapping.1.Ebs.Iops=900",
            "InvalidParameterCombination",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=9&BlockDeviceMapping.1.Ebs.VolumeType=io2",
            "MissingParameter",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.SnapshotId=snap-0123456789abcdef0",
            "InvalidSnapshot.NotFound",
        ),
        (
            "BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=9&BlockDeviceMapping.1.Ebs.KmsKeyId=k",
            "InvalidParameterDependency",
        ),
        ("TagSpecification.1.ResourceType=instances", "InvalidParameterValue"),
        (
            "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=aws:x&TagSpecification.1.Tag.1.Value=1",
            "InvalidTagKey.Malformed",
        ),
        (
            "InstanceMarketOptions.MarketType&TagSpecification.1.ResourceType=spot-instances-request",
            "InvalidParameterValue",
        ),
        ("UserData=%21%21", "InvalidUserData.Malformed"),
        (&format!("UserData={long}"), "InvalidParameterValue"),
        (&format!("ClientToken={}", "t".repeat(65)), "InvalidClientToken"),
    ] {
        let form = with(&form, changes);
        assert_eq!(refused(&mut world, "RunInstances", &form), (400, code.to_owned()), "{changes}");
    }
    assert_eq!((world.instances().count(), world.requests().count(), world.volumes().count()), (0, 0, 0));
}

#[test]
fn fifty_tags_are_the_most() {
    let mut world = World::new(1);
    let mut form = format!("{}&TagSpecification.1.ResourceType=instance", spot_launch(&world));
    for number in 1..=50 {
        form += &format!("&TagSpecification.1.Tag.{number}.Key=k{number}&TagSpecification.1.Tag.{number}.Value=v");
    }
    let id = launched(&mut world, &form);
    let more = format!("ResourceId.1={id}&Tag.1.Key=one-more&Tag.1.Value=v");
    assert_eq!(refused(&mut world, "CreateTags", &more).1, "TagLimitExceeded");
    form += "&TagSpecification.1.Tag.51.Key=k51&TagSpecification.1.Tag.51.Value=v";
    assert_eq!(refused(&mut world, "RunInstances", &form).1, "TagLimitExceeded");
}

#[test]
fn an_instance_is_what_was_asked_for() {
    let mut world = World::new(1);
    let (subnet, group) = (world.home().subnet("eu-west-1b"), world.home().groups[1].0.clone());
    let form = with(
        &launch_in(&world, "eu-west-1b"),
        &format!(
            "SubnetId&SecurityGroupId.1&NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.SubnetId={subnet}&\
             NetworkInterface.1.SecurityGroupId.1={group}&NetworkInterface.1.AssociatePublicIpAddress=true&\
             Monitoring.Enabled=true&EbsOptimized=true&MetadataOptions.HttpPutResponseHopLimit=3&\
             MetadataOptions.HttpTokens=optional&CpuOptions.CoreCount=1&CpuOptions.ThreadsPerCore=2&Placement.Tenancy=dedicated&\
             IamInstanceProfile.Arn={}&UserData=aGk%3D&ClientToken=t-1&DisableApiTermination=true&\
             BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.VolumeSize=80&\
             BlockDeviceMapping.1.Ebs.Encrypted=true&BlockDeviceMapping.1.Ebs.VolumeType=gp3&\
             BlockDeviceMapping.2.DeviceName=/dev/sdf&BlockDeviceMapping.2.Ebs.VolumeSize=9&\
             BlockDeviceMapping.2.Ebs.DeleteOnTermination=false&TagSpecification.1.ResourceType=volume&\
             TagSpecification.1.Tag.1.Key=team&TagSpecification.1.Tag.1.Value=vision",
            crate::PROFILE
        ),
    );
    let id = launched(&mut world, &form);
    world.advance(30_000);
    let told = row(&mut world, &id);
    for (name, value) in [
        ("subnetId", subnet.as_str()),
        ("groupId", &group),
        ("availabilityZone", "eu-west-1b"),
        ("keyName", "ops"),
        ("clientToken", "t-1"),
        ("httpPutResponseHopLimit", "3"),
        ("httpTokens", "optional"),
        ("coreCount", "1"),
        ("tenancy", "dedicated"),
        ("ebsOptimized", "true"),
        ("arn", crate::PROFILE),
        ("ipOwnerId", "amazon"),
    ] {
        assert_eq!(first(&told, name).as_deref(), Some(value), "{name}");
    }
    assert!(told.contains("<monitoring><state>enabled</state></monitoring>"));
    assert!(!told.contains("instanceLifecycle"), "on-demand instances say nothing about it");
    let instance = world.instance(&id).expect("it");
    assert_eq!((instance.lifecycle, instance.user_data.as_deref()), (Lifecycle::OnDemand, Some("aGk=")));
    let volumes =
        good(&mut world, "DescribeVolumes", &format!("Filter.1.Name=attachment.instance-id&Filter.1.Value.1={id}"));
    let mut sizes = texts(&volumes, "size");
    sizes.sort();
    assert_eq!(sizes, ["80", "9"]);
    assert_eq!(texts(&volumes, "deleteOnTermination").iter().filter(|flag| *flag == "false").count(), 1);
    assert_eq!(texts(&volumes, "key"), ["team", "team"]);
    let protection = format!("InstanceId={id}&Attribute=disableApiTermination");
    assert!(good(&mut world, "DescribeInstanceAttribute", &protection).contains("<value>true</value>"));
}

#[test]
fn disks_and_the_public_address_come_after_the_answer() {
    let mut world = World::new(1);
    let id = world.add(Spec::on_demand("web").public_address(true));
    assert!(row(&mut world, &id).contains("<ipAddress>203.0.113."));
    let form = spot_launch(&world);
    let answer = good(&mut world, "RunInstances", &form);
    assert!(answer.contains("<blockDeviceMapping/>") && answer.contains("<name>pending</name>"), "{answer}");
    assert!(!answer.contains("<reservationSet>") && answer.contains("<reservationId>r-"));
    world.advance(2_000);
    let id = first(&answer, "instanceId").expect("an id");
    assert!(row(&mut world, &id).contains("<deviceName>/dev/xvda</deviceName>"));
}

#[test]
fn a_rehearsal_launches_nothing() {
    let mut world = World::new(1);
    let form = format!("{}&DryRun=true", spot_launch(&world));
    world.set_room("g5.xlarge", "eu-west-1a", Some(0));
    assert_eq!(refused(&mut world, "RunInstances", &form), (412, "DryRunOperation".to_owned()));
    assert_eq!(refused(&mut world, "RunInstances", &with(&form, "KeyName=lost")).1, "InvalidKeyPair.NotFound");
    assert_eq!(world.instances().count(), 0);
}

#[test]
fn a_launch_may_answer_well_and_die() {
    let mut world = World::new(1);
    world.launch_dies_with("Server.InternalError");
    let form = spot_launch(&world);
    let id = launched(&mut world, &form);
    assert!(row(&mut world, &id).contains("<name>pending</name>"));
    world.advance(5_000);
    let told = row(&mut world, &id);
    assert!(told.contains("<name>terminated</name>") && told.contains("<code>Server.InternalError</code>"), "{told}");
    let instance = world.instance(&id).expect("it");
    assert_eq!((instance.state, instance.ended_by), (State::Terminated, Some(EndedBy::LaunchFailure)));
    let request = world.request_of(&id).expect("a request");
    assert!(matches!(request.state, RequestState::Failed | RequestState::Closed));
    assert_eq!(request.code, "system-error");
    let id = launched(&mut world, &form);
    world.advance(60_000);
    assert_eq!(world.instance(&id).expect("it").state, State::Running, "only the next launch dies");
}

#[test]
fn several_at_once_share_a_reservation() {
    let mut world = World::new(1);
    let form = with(&spot_launch(&world), "MaxCount=3");
    world.set_room("g5.xlarge", "eu-west-1a", Some(2));
    let answer = ask(&mut world, "RunInstances", &form);
    assert_eq!(texts(&answer.body, "instanceId").len(), 2, "as many as there is room for");
    world.advance(2_000);
    let listing = good(&mut world, "DescribeInstances", "");
    assert_eq!(texts(&listing, "reservationId").len(), 1);
}
