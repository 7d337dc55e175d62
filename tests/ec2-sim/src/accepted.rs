//! The parameters that the actions take, and of which kind each is: from the service models of botocore.

use std::fmt;

/// What a parameter wants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Text,
    Flag,
    Number,
    Time,
    /// A time as seconds since 1970, in JSON.
    Seconds,
    Word(&'static [&'static str]),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Flag => f.write_str("true or false"),
            Self::Number => f.write_str("a whole number"),
            Self::Time => f.write_str("a time"),
            Self::Seconds => f.write_str("seconds since 1970"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

type Parameters = &'static [(&'static str, Wanted)];

use Wanted::{Flag, Number, Seconds, Text, Time, Word};

/// The parameters of an action, besides `Action` and `Version`. In a name, `#` stands for a number from 1.
pub(crate) fn accepted(action: &str) -> Parameters {
    match action {
        "DescribeRegions" => DESCRIBE_REGIONS,
        "DescribeInstances" => DESCRIBE_INSTANCES,
        "DescribeSpotInstanceRequests" => DESCRIBE_SPOT_INSTANCE_REQUESTS,
        "DescribeInstanceAttribute" => DESCRIBE_INSTANCE_ATTRIBUTE,
        "DescribeVolumes" => DESCRIBE_VOLUMES,
        "DescribeSubnets" => DESCRIBE_SUBNETS,
        "DescribeInstanceTypes" => DESCRIBE_INSTANCE_TYPES,
        "DescribeInstanceTypeOfferings" => DESCRIBE_INSTANCE_TYPE_OFFERINGS,
        "DescribeSpotPriceHistory" => DESCRIBE_SPOT_PRICE_HISTORY,
        "DescribeInstanceStatus" => DESCRIBE_INSTANCE_STATUS,
        "RunInstances" => RUN_INSTANCES,
        "TerminateInstances" => TERMINATE_INSTANCES,
        "StopInstances" => STOP_INSTANCES,
        "StartInstances" => START_INSTANCES,
        "CancelSpotInstanceRequests" => CANCEL_SPOT_INSTANCE_REQUESTS,
        "CreateTags" => CREATE_TAGS,
        "DescribeTargetGroups" => DESCRIBE_TARGET_GROUPS,
        "DescribeTargetHealth" => DESCRIBE_TARGET_HEALTH,
        "RegisterTargets" => REGISTER_TARGETS,
        "DeregisterTargets" => DEREGISTER_TARGETS,
        "GetMetricData" => GET_METRIC_DATA,
        "GetProducts" => GET_PRODUCTS,
        "GetServiceQuota" => GET_SERVICE_QUOTA,
        _ => &[],
    }
}

const DESCRIBE_REGIONS: Parameters = &[
    ("AllRegions", Flag),
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("RegionName.#", Text),
];

const DESCRIBE_INSTANCES: Parameters = &[
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("IncludeManagedResources", Flag),
    ("InstanceId.#", Text),
    ("MaxResults", Number),
    ("NextToken", Text),
];

const DESCRIBE_SPOT_INSTANCE_REQUESTS: Parameters = &[
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("MaxResults", Number),
    ("NextToken", Text),
    ("SpotInstanceRequestId.#", Text),
];

const DESCRIBE_INSTANCE_ATTRIBUTE: Parameters = &[
    (
        "Attribute",
        Word(&[
            "instanceType",
            "kernel",
            "ramdisk",
            "userData",
            "disableApiTermination",
            "instanceInitiatedShutdownBehavior",
            "rootDeviceName",
            "blockDeviceMapping",
            "productCodes",
            "sourceDestCheck",
            "groupSet",
            "ebsOptimized",
            "sriovNetSupport",
            "enaSupport",
            "enclaveOptions",
            "disableApiStop",
        ]),
    ),
    ("DryRun", Flag),
    ("InstanceId", Text),
];

const DESCRIBE_VOLUMES: Parameters = &[
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("IncludeManagedResources", Flag),
    ("MaxResults", Number),
    ("NextToken", Text),
    ("VolumeId.#", Text),
];

const DESCRIBE_SUBNETS: Parameters = &[
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("MaxResults", Number),
    ("NextToken", Text),
    ("SubnetId.#", Text),
];

const DESCRIBE_INSTANCE_TYPES: Parameters = &[
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("IncludeUnsupportedInRegion", Flag),
    ("InstanceType.#", Text),
    ("MaxResults", Number),
    ("NextToken", Text),
];

const DESCRIBE_INSTANCE_TYPE_OFFERINGS: Parameters = &[
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("LocationType", Word(&["region", "availability-zone", "availability-zone-id", "outpost"])),
    ("MaxResults", Number),
    ("NextToken", Text),
];

const DESCRIBE_SPOT_PRICE_HISTORY: Parameters = &[
    ("AvailabilityZone", Text),
    ("AvailabilityZoneId", Text),
    ("DryRun", Flag),
    ("EndTime", Time),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("InstanceType.#", Text),
    ("MaxResults", Number),
    ("NextToken", Text),
    ("ProductDescription.#", Text),
    ("StartTime", Time),
];

const DESCRIBE_INSTANCE_STATUS: Parameters = &[
    ("DryRun", Flag),
    ("Filter.#.Name", Text),
    ("Filter.#.Value.#", Text),
    ("IncludeAllInstances", Flag),
    ("IncludeManagedResources", Flag),
    ("InstanceId.#", Text),
    ("MaxResults", Number),
    ("NextToken", Text),
];

const RUN_INSTANCES: Parameters = &[
    ("AdditionalInfo", Text),
    ("BlockDeviceMapping.#.DeviceName", Text),
    ("BlockDeviceMapping.#.Ebs.AvailabilityZone", Text),
    ("BlockDeviceMapping.#.Ebs.AvailabilityZoneId", Text),
    ("BlockDeviceMapping.#.Ebs.DeleteOnTermination", Flag),
    ("BlockDeviceMapping.#.Ebs.EbsCardIndex", Number),
    ("BlockDeviceMapping.#.Ebs.Encrypted", Flag),
    ("BlockDeviceMapping.#.Ebs.Iops", Number),
    ("BlockDeviceMapping.#.Ebs.KmsKeyId", Text),
    ("BlockDeviceMapping.#.Ebs.OutpostArn", Text),
    ("BlockDeviceMapping.#.Ebs.SnapshotId", Text),
    ("BlockDeviceMapping.#.Ebs.Throughput", Number),
    ("BlockDeviceMapping.#.Ebs.VolumeInitializationRate", Number),
    ("BlockDeviceMapping.#.Ebs.VolumeSize", Number),
    ("BlockDeviceMapping.#.Ebs.VolumeType", Word(&["standard", "io1", "io2", "gp2", "sc1", "st1", "gp3"])),
    ("BlockDeviceMapping.#.NoDevice", Text),
    ("BlockDeviceMapping.#.VirtualName", Text),
    (
        "CapacityReservationSpecification.CapacityReservationPreference",
        Word(&["capacity-reservations-only", "open", "none"]),
    ),
    ("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId", Text),
    ("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationResourceGroupArn", Text),
    ("ClientToken", Text),
    ("CpuOptions.AmdSevSnp", Word(&["enabled", "disabled"])),
    ("CpuOptions.CoreCount", Number),
    ("CpuOptions.NestedVirtualization", Word(&["enabled", "disabled"])),
    ("CpuOptions.ThreadsPerCore", Number),
    ("CreditSpecification.CpuCredits", Text),
    ("DisableApiStop", Flag),
    ("DisableApiTermination", Flag),
    ("DryRun", Flag),
    ("EbsOptimized", Flag),
    ("ElasticGpuSpecification.#.Type", Text),
    ("ElasticInferenceAccelerator.#.Count", Number),
    ("ElasticInferenceAccelerator.#.Type", Text),
    ("EnablePrimaryIpv6", Flag),
    ("EnclaveOptions.Enabled", Flag),
    ("HibernationOptions.Configured", Flag),
    ("IamInstanceProfile.Arn", Text),
    ("IamInstanceProfile.Name", Text),
    ("ImageId", Text),
    ("InstanceInitiatedShutdownBehavior", Word(&["stop", "terminate"])),
    ("InstanceMarketOptions.MarketType", Word(&["spot", "capacity-block", "interruptible-capacity-reservation"])),
    ("InstanceMarketOptions.SpotOptions.BlockDurationMinutes", Number),
    ("InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior", Word(&["hibernate", "stop", "terminate"])),
    ("InstanceMarketOptions.SpotOptions.MaxPrice", Text),
    ("InstanceMarketOptions.SpotOptions.SpotInstanceType", Word(&["one-time", "persistent"])),
    ("InstanceMarketOptions.SpotOptions.ValidUntil", Time),
    ("InstanceType", Text),
    ("Ipv6Address.#.Ipv6Address", Text),
    ("Ipv6Address.#.IsPrimaryIpv6", Flag),
    ("Ipv6AddressCount", Number),
    ("KernelId", Text),
    ("KeyName", Text),
    ("LaunchTemplate.LaunchTemplateId", Text),
    ("LaunchTemplate.LaunchTemplateName", Text),
    ("LaunchTemplate.Version", Text),
    ("LicenseSpecification.#.LicenseConfigurationArn", Text),
    ("MaintenanceOptions.AutoRecovery", Word(&["disabled", "default"])),
    ("MaxCount", Number),
    ("MetadataOptions.HttpEndpoint", Word(&["disabled", "enabled"])),
    ("MetadataOptions.HttpProtocolIpv6", Word(&["disabled", "enabled"])),
    ("MetadataOptions.HttpPutResponseHopLimit", Number),
    ("MetadataOptions.HttpTokens", Word(&["optional", "required"])),
    ("MetadataOptions.InstanceMetadataTags", Word(&["disabled", "enabled"])),
    ("MinCount", Number),
    ("Monitoring.Enabled", Flag),
    ("NetworkInterface.#.AssociateCarrierIpAddress", Flag),
    ("NetworkInterface.#.AssociatePublicIpAddress", Flag),
    ("NetworkInterface.#.ConnectionTrackingSpecification.TcpEstablishedTimeout", Number),
    ("NetworkInterface.#.ConnectionTrackingSpecification.UdpStreamTimeout", Number),
    ("NetworkInterface.#.ConnectionTrackingSpecification.UdpTimeout", Number),
    ("NetworkInterface.#.DeleteOnTermination", Flag),
    ("NetworkInterface.#.Description", Text),
    ("NetworkInterface.#.DeviceIndex", Number),
    ("NetworkInterface.#.EnaQueueCount", Number),
    ("NetworkInterface.#.EnaSrdSpecification.EnaSrdEnabled", Flag),
    ("NetworkInterface.#.EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled", Flag),
    ("NetworkInterface.#.InterfaceType", Text),
    ("NetworkInterface.#.Ipv4Prefix.#.Ipv4Prefix", Text),
    ("NetworkInterface.#.Ipv4PrefixCount", Number),
    ("NetworkInterface.#.Ipv6AddressCount", Number),
    ("NetworkInterface.#.Ipv6Addresses.#.Ipv6Address", Text),
    ("NetworkInterface.#.Ipv6Addresses.#.IsPrimaryIpv6", Flag),
    ("NetworkInterface.#.Ipv6Prefix.#.Ipv6Prefix", Text),
    ("NetworkInterface.#.Ipv6PrefixCount", Number),
    ("NetworkInterface.#.NetworkCardIndex", Number),
    ("NetworkInterface.#.NetworkInterfaceId", Text),
    ("NetworkInterface.#.PrimaryIpv6", Flag),
    ("NetworkInterface.#.PrivateIpAddress", Text),
    ("NetworkInterface.#.PrivateIpAddresses.#.Primary", Flag),
    ("NetworkInterface.#.PrivateIpAddresses.#.PrivateIpAddress", Text),
    ("NetworkInterface.#.SecondaryPrivateIpAddressCount", Number),
    ("NetworkInterface.#.SecurityGroupId.#", Text),
    ("NetworkInterface.#.SubnetId", Text),
    ("NetworkPerformanceOptions.BandwidthWeighting", Word(&["default", "vpc-1", "ebs-1"])),
    ("Operator.Principal", Text),
    ("Placement.Affinity", Text),
    ("Placement.AvailabilityZone", Text),
    ("Placement.AvailabilityZoneId", Text),
    ("Placement.GroupId", Text),
    ("Placement.GroupName", Text),
    ("Placement.HostId", Text),
    ("Placement.HostResourceGroupArn", Text),
    ("Placement.PartitionNumber", Number),
    ("Placement.SpreadDomain", Text),
    ("Placement.Tenancy", Word(&["default", "dedicated", "host"])),
    ("PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord", Flag),
    ("PrivateDnsNameOptions.EnableResourceNameDnsARecord", Flag),
    ("PrivateDnsNameOptions.HostnameType", Word(&["ip-name", "resource-name"])),
    ("PrivateIpAddress", Text),
    ("RamdiskId", Text),
    ("SecondaryInterface.#.DeleteOnTermination", Flag),
    ("SecondaryInterface.#.DeviceIndex", Number),
    ("SecondaryInterface.#.InterfaceType", Word(&["secondary"])),
    ("SecondaryInterface.#.NetworkCardIndex", Number),
    ("SecondaryInterface.#.PrivateIpAddress.#.PrivateIpAddress", Text),
    ("SecondaryInterface.#.PrivateIpAddressCount", Number),
    ("SecondaryInterface.#.SecondarySubnetId", Text),
    ("SecurityGroup.#", Text),
    ("SecurityGroupId.#", Text),
    ("SubnetId", Text),
    ("TagSpecification.#.ResourceType", Text),
    ("TagSpecification.#.Tag.#.Key", Text),
    ("TagSpecification.#.Tag.#.Value", Text),
    ("UserData", Text),
];

const TERMINATE_INSTANCES: Parameters =
    &[("DryRun", Flag), ("Force", Flag), ("InstanceId.#", Text), ("SkipOsShutdown", Flag)];

const STOP_INSTANCES: Parameters =
    &[("DryRun", Flag), ("Force", Flag), ("Hibernate", Flag), ("InstanceId.#", Text), ("SkipOsShutdown", Flag)];

const START_INSTANCES: Parameters = &[("AdditionalInfo", Text), ("DryRun", Flag), ("InstanceId.#", Text)];

const CANCEL_SPOT_INSTANCE_REQUESTS: Parameters = &[("DryRun", Flag), ("SpotInstanceRequestId.#", Text)];

const CREATE_TAGS: Parameters = &[("DryRun", Flag), ("ResourceId.#", Text), ("Tag.#.Key", Text), ("Tag.#.Value", Text)];

const DESCRIBE_TARGET_GROUPS: Parameters = &[
    ("LoadBalancerArn", Text),
    ("Marker", Text),
    ("Names.member.#", Text),
    ("PageSize", Number),
    ("TargetGroupArns.member.#", Text),
];

const DESCRIBE_TARGET_HEALTH: Parameters = &[
    ("Include.member.#", Word(&["AnomalyDetection", "All"])),
    ("TargetGroupArn", Text),
    ("Targets.member.#.AvailabilityZone", Text),
    ("Targets.member.#.Id", Text),
    ("Targets.member.#.Port", Number),
    ("Targets.member.#.QuicServerId", Text),
];

const REGISTER_TARGETS: Parameters = &[
    ("TargetGroupArn", Text),
    ("Targets.member.#.AvailabilityZone", Text),
    ("Targets.member.#.Id", Text),
    ("Targets.member.#.Port", Number),
    ("Targets.member.#.QuicServerId", Text),
];

const DEREGISTER_TARGETS: Parameters = &[
    ("TargetGroupArn", Text),
    ("Targets.member.#.AvailabilityZone", Text),
    ("Targets.member.#.Id", Text),
    ("Targets.member.#.Port", Number),
    ("Targets.member.#.QuicServerId", Text),
];

const GET_METRIC_DATA: Parameters = &[
    ("EndTime", Seconds),
    ("LabelOptions.Timezone", Text),
    ("MaxDatapoints", Number),
    ("MetricDataQueries.#.AccountId", Text),
    ("MetricDataQueries.#.Expression", Text),
    ("MetricDataQueries.#.Id", Text),
    ("MetricDataQueries.#.Label", Text),
    ("MetricDataQueries.#.MetricStat.Metric.Dimensions.#.Name", Text),
    ("MetricDataQueries.#.MetricStat.Metric.Dimensions.#.Value", Text),
    ("MetricDataQueries.#.MetricStat.Metric.MetricName", Text),
    ("MetricDataQueries.#.MetricStat.Metric.Namespace", Text),
    ("MetricDataQueries.#.MetricStat.Period", Number),
    ("MetricDataQueries.#.MetricStat.Stat", Text),
    (
        "MetricDataQueries.#.MetricStat.Unit",
        Word(&[
            "Seconds",
            "Microseconds",
            "Milliseconds",
            "Bytes",
            "Kilobytes",
            "Megabytes",
            "Gigabytes",
            "Terabytes",
            "Bits",
            "Kilobits",
            "Megabits",
            "Gigabits",
            "Terabits",
            "Percent",
            "Count",
            "Bytes/Second",
            "Kilobytes/Second",
            "Megabytes/Second",
            "Gigabytes/Second",
            "Terabytes/Second",
            "Bits/Second",
            "Kilobits/Second",
            "Megabits/Second",
            "Gigabits/Second",
            "Terabits/Second",
            "Count/Second",
            "None",
        ]),
    ),
    ("MetricDataQueries.#.Period", Number),
    ("MetricDataQueries.#.ReturnData", Flag),
    ("NextToken", Text),
    ("ScanBy", Word(&["TimestampDescending", "TimestampAscending"])),
    ("StartTime", Seconds),
];

const GET_PRODUCTS: Parameters = &[
    ("Filters.#.Field", Text),
    ("Filters.#.Type", Word(&["TERM_MATCH", "EQUALS", "CONTAINS", "ANY_OF", "NONE_OF"])),
    ("Filters.#.Value", Text),
    ("FormatVersion", Text),
    ("MaxResults", Number),
    ("NextToken", Text),
    ("ServiceCode", Text),
];

const GET_SERVICE_QUOTA: Parameters = &[("ContextId", Text), ("QuotaCode", Text), ("ServiceCode", Text)];
