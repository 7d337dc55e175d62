//! Reading the parameters of RunInstances, and refusing what EC2 refuses.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::catalog::Kind;
use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::machine::{Behavior, Facts, Lifecycle, Metadata};
use crate::plan::{Market, Plan, PlannedInterface};
use crate::reads::is_id;
use crate::region::Region;
use crate::tags::{check_tags, read_tags};
use crate::world::World;

/// What a RunInstances asks for.
pub(crate) struct Order {
    pub(crate) plan: Plan,
    /// Whether the zone is given, or implied by a subnet.
    pub(crate) zone_is_given: bool,
    pub(crate) least: u32,
    pub(crate) most: u32,
}

impl World {
    pub(crate) fn read_order(&self, place: usize, form: &Form) -> Answer<Order> {
        let region = &self.regions[place];
        let (least, most) = read_counts(form)?;
        if form.has("LaunchTemplate") {
            let message = "The specified launch template does not exist.";
            return Err(ApiError::new("InvalidLaunchTemplateId.NotFound", message));
        }
        let image = form.need("ImageId")?;
        if !is_id("ami-", image) {
            return Err(ApiError::new("InvalidAMIID.Malformed", format!("Invalid id: \"{image}\"")));
        }
        let Some(arch) = region.arch_of(image) else {
            return Err(ApiError::new("InvalidAMIID.NotFound", format!("The image id '[{image}]' does not exist")));
        };
        let name = form.get("InstanceType").unwrap_or("m5.large");
        let Some(kind) = Kind::named(name) else {
            return Err(ApiError::new("InvalidParameterValue", format!("Invalid value '{name}' for InstanceType.")));
        };
        if kind.arch != arch {
            let message = format!(
                "The architecture '{}' of the specified instance type does not match the architecture '{arch}' of the \
                 specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.",
                kind.arch
            );
            return Err(ApiError::new("InvalidParameterValue", message));
        }
        let market = read_market(form)?;
        let interfaces = self.read_interfaces(region, form)?;
        let (zone, zone_is_given) = read_zone(region, form, &interfaces)?;
        let subnet = region.subnet(&zone);
        let is_public = region.zone(&zone).is_some_and(|zone| zone.public_by_default);
        let interfaces = interfaces.into_iter().map(|interface| interface.complete(&subnet, region, is_public));
        let interfaces: Vec<_> = interfaces.collect();
        let facts = self.read_facts(form, image, kind, &market, &interfaces)?;
        let disks = crate::disks::read_disks(form, region, image)?;
        let [tags, volume_tags, request_tags] = read_launch_tags(form, market.lifecycle())?;
        let plan = Plan {
            kind: kind.name.to_owned(),
            zone,
            subnet,
            market,
            facts,
            user_data: read_user_data(form)?,
            client_token: read_token(form)?,
            tags,
            volume_tags,
            request_tags,
            disks,
            interfaces,
        };
        Ok(Order { plan, zone_is_given, least, most })
    }

    fn read_facts(
        &self,
        form: &Form,
        image: &str,
        kind: &Kind,
        market: &Market,
        interfaces: &[PlannedInterface],
    ) -> Answer<Facts> {
        let groups = interfaces.first().map(|interface| interface.groups.clone()).unwrap_or_default();
        let mut facts = Facts::plain(image.to_owned(), groups);
        let is_spot = market.lifecycle() == Lifecycle::Spot;
        facts.key = form.owned("KeyName");
        if let Some(key) = facts.key.as_ref().filter(|key| !self.key_pairs.contains(*key)) {
            return Err(ApiError::new("InvalidKeyPair.NotFound", format!("The key pair '{key}' does not exist")));
        }
        facts.profile = self.read_profile(form)?;
        facts.monitoring = form.flag("Monitoring.Enabled").unwrap_or_default();
        facts.ebs_optimized = form.flag("EbsOptimized").unwrap_or_default();
        facts.protected = form.flag("DisableApiTermination").unwrap_or_default();
        facts.stop_protected = form.flag("DisableApiStop").unwrap_or_default();
        if is_spot && (facts.protected || facts.stop_protected) {
            let message = "Termination protection and stop protection cannot be used with Spot Instances.";
            return Err(ApiError::new("UnsupportedOperation", message));
        }
        let own = if is_spot { "terminate" } else { "stop" };
        form.get("InstanceInitiatedShutdownBehavior").unwrap_or(own).clone_into(&mut facts.shutdown_behavior);
        facts.cpu = read_cpu(form, kind)?;
        facts.metadata = read_metadata(form)?;
        form.get("Placement.Tenancy").unwrap_or("default").clone_into(&mut facts.tenancy);
        facts.placement_group = form.owned("Placement.GroupName");
        facts.hibernation = form.flag("HibernationOptions.Configured").unwrap_or_default();
        facts.enclave = form.flag("EnclaveOptions.Enabled").unwrap_or_default();
        form.get("MaintenanceOptions.AutoRecovery").unwrap_or("default").clone_into(&mut facts.auto_recovery);
        facts.credits = form.owned("CreditSpecification.CpuCredits");
        if facts.credits.is_some() && !kind.burstable {
            let message = format!("The {} instance type does not support T2/T3/T4g credit specification.", kind.name);
            return Err(ApiError::combination(message));
        }
        Ok(facts)
    }

    fn read_profile(&self, form: &Form) -> Answer<Option<String>> {
        let (arn, name) = (form.get("IamInstanceProfile.Arn"), form.get("IamInstanceProfile.Name"));
        let known = match (arn, name) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let message =
                    "The parameters iamInstanceProfile.name and iamInstanceProfile.arn cannot be used together";
                return Err(ApiError::combination(message));
            }
            (Some(arn), None) => self.profiles.get(arn),
            (None, Some(name)) => self.profiles.iter().find(|arn| arn.rsplit('/').next() == Some(name)),
        };
        let (parameter, why) = if arn.is_some() {
            ("iamInstanceProfile.arn", "Invalid IAM Instance Profile ARN")
        } else {
            ("iamInstanceProfile.name", "Invalid IAM Instance Profile name")
        };
        let given = arn.or(name).unwrap_or_default();
        known.cloned().map(Some).ok_or_else(|| ApiError::value(parameter, given, why))
    }

    /// The interfaces, as far as they are given: either by themselves or by a subnet and groups.
    fn read_interfaces(&self, region: &Region, form: &Form) -> Answer<Vec<GivenInterface>> {
        let groups = read_groups(region, form, "SecurityGroupId")?;
        let numbers = form.members("NetworkInterface");
        if numbers.is_empty() {
            let subnet = form.owned("SubnetId").map(|subnet| known_subnet(region, subnet)).transpose()?;
            let address = form.owned("PrivateIpAddress");
            self.refuse_used(address.as_deref())?;
            return Ok(vec![GivenInterface { subnet, groups, address, ..GivenInterface::default() }]);
        }
        if form.has("SubnetId") {
            let message = "Network interfaces and an instance-level subnet ID may not be specified on the same request";
            return Err(ApiError::combination(message));
        }
        if form.has("SecurityGroupId") || form.has("SecurityGroup") {
            let message =
                "Network interfaces and an instance-level security groups may not be specified on the same request";
            return Err(ApiError::combination(message));
        }
        let mut interfaces = Vec::new();
        for number in numbers {
            let at = |name: &str| format!("NetworkInterface.{number}.{name}");
            let subnet = form.owned(&at("SubnetId")).map(|subnet| known_subnet(region, subnet)).transpose()?;
            let address = form.owned(&at("PrivateIpAddress"));
            self.refuse_used(address.as_deref())?;
            interfaces.push(GivenInterface {
                index: form.count(&at("DeviceIndex")).ok_or_else(|| ApiError::missing(&at("DeviceIndex")))?,
                subnet,
                groups: read_groups(region, form, &at("SecurityGroupId"))?,
                public: form.flag(&at("AssociatePublicIpAddress")),
                address,
                keep: form.flag(&at("DeleteOnTermination")) == Some(false),
                description: form.owned(&at("Description")).unwrap_or_default(),
            });
        }
        if interfaces.len() > 1 && interfaces.iter().any(|interface| interface.public.is_some()) {
            let message = "The associatePublicIPAddress parameter cannot be specified when launching with multiple network \
                           interfaces.";
            return Err(ApiError::combination(message));
        }
        interfaces.sort_by_key(|interface| interface.index);
        if interfaces.iter().enumerate().any(|(place, interface)| u32::try_from(place) != Ok(interface.index)) {
            let message = "The device indexes of the interfaces have to begin at 0 and have no gaps.";
            return Err(ApiError::new("InvalidParameterValue", message));
        }
        Ok(interfaces)
    }

    fn refuse_used(&self, address: Option<&str>) -> Answer<()> {
        let Some(address) = address else { return Ok(()) };
        let mut living = self.instances.iter().filter(|instance| !instance.state.is_end());
        if living.any(|instance| instance.interfaces.iter().any(|interface| interface.address == address)) {
            return Err(ApiError::new("InvalidIPAddress.InUse", format!("Address {address} is in use.")));
        }
        Ok(())
    }
}

#[derive(Default)]
struct GivenInterface {
    index: u32,
    subnet: Option<String>,
    groups: Vec<String>,
    public: Option<bool>,
    address: Option<String>,
    keep: bool,
    description: String,
}

impl GivenInterface {
    fn complete(self, subnet: &str, region: &Region, is_public: bool) -> PlannedInterface {
        let mut groups = self.groups;
        if groups.is_empty() {
            groups.extend(region.groups.first().map(|(id, _)| id.clone()));
        }
        PlannedInterface {
            index: self.index,
            subnet: subnet.to_owned(),
            groups,
            public: self.public.unwrap_or(is_public),
            address: self.address,
            delete_on_termination: !self.keep,
            description: self.description,
        }
    }
}

fn read_counts(form: &Form) -> Answer<(u32, u32)> {
    form.need("MinCount")?;
    form.need("MaxCount")?;
    let count = |name: &str| {
        let given = form.get(name).unwrap_or_default();
        let why = "The minimum and the maximum count have to be greater than 0.";
        form.count(name).filter(|count| *count > 0).ok_or_else(|| ApiError::value(name, given, why))
    };
    let (least, most) = (count("MinCount")?, count("MaxCount")?);
    if least > most {
        return Err(ApiError::combination("MinCount may not exceed MaxCount"));
    }
    Ok((least, most))
}

fn read_market(form: &Form) -> Answer<Market> {
    let options = "InstanceMarketOptions.SpotOptions";
    match form.get("InstanceMarketOptions.MarketType") {
        None if form.has(options) => {
            let message = "The parameter SpotOptions can only be used with the market type spot.";
            return Err(ApiError::combination(message));
        }
        None => return Ok(Market::OnDemand),
        Some("spot") => {}
        Some(other) => return Err(ApiError::new("Unsupported", format!("There is no market {other} here."))),
    }
    let at = |name: &str| form.get(&format!("{options}.{name}"));
    let persistent = at("SpotInstanceType") == Some("persistent");
    let behavior = Behavior::from(at("InstanceInterruptionBehavior").unwrap_or("terminate"));
    if persistent == (behavior == Behavior::Terminate) {
        let message = "Persistent Spot requests need the interruption behavior stop or hibernate, and one-time requests \
                       the behavior terminate.";
        return Err(ApiError::combination(message));
    }
    let max_price = at("MaxPrice").map(str::to_owned);
    if let Some(price) = max_price.as_ref().filter(|price| !price.parse::<f64>().is_ok_and(|price| price > 0.001)) {
        return Err(ApiError::value("MaxPrice", price, "It must exceed 0.001."));
    }
    Ok(Market::Spot { persistent, behavior, max_price })
}

fn known_subnet(region: &Region, subnet: String) -> Answer<String> {
    if region.zone_of(&subnet).is_none() {
        return Err(ApiError::new("InvalidSubnetID.NotFound", format!("The subnet ID '{subnet}' does not exist")));
    }
    Ok(subnet)
}

fn read_groups(region: &Region, form: &Form, list: &str) -> Answer<Vec<String>> {
    let groups: Vec<_> = form.list(list).into_iter().map(str::to_owned).collect();
    for group in &groups {
        if !is_id("sg-", group) {
            return Err(ApiError::new("InvalidGroupId.Malformed", format!("Invalid id: \"{group}\"")));
        }
        if !region.groups.iter().any(|(id, _)| id == group) {
            let message = format!("The security group '{group}' does not exist");
            return Err(ApiError::new("InvalidGroup.NotFound", message));
        }
    }
    Ok(groups)
}

/// The zone, and whether it was given: by a subnet, by name, or by id.
fn read_zone(region: &Region, form: &Form, interfaces: &[GivenInterface]) -> Answer<(String, bool)> {
    let mut subnets = interfaces.iter().filter_map(|interface| interface.subnet.as_ref());
    let by_subnet = subnets.next();
    if subnets.any(|other| Some(other) != by_subnet) {
        return Err(ApiError::combination("All network interfaces have to be in one subnet here."));
    }
    let by_subnet = by_subnet.and_then(|subnet| region.zone_of(subnet));
    let name = form.get("Placement.AvailabilityZone");
    let id = form.get("Placement.AvailabilityZoneId");
    let by_name = region.zones.iter().find(|zone| name == Some(&zone.name) || id == Some(&zone.id));
    let given = name.or(id);
    match (by_subnet, by_name, given) {
        (_, None, Some(zone)) => {
            Err(ApiError::new("InvalidParameterValue", format!("Invalid availability zone: [{zone}]")))
        }
        (Some(subnet), Some(zone), _) if subnet.name != zone.name => {
            let message = "The availability zone of the subnet is another one than that of the placement.";
            Err(ApiError::combination(message))
        }
        (Some(zone), _, _) | (None, Some(zone), _) => Ok((zone.name.clone(), true)),
        (None, None, None) => Ok((region.zones.first().map(|zone| zone.name.clone()).unwrap_or_default(), false)),
    }
}

fn read_cpu(form: &Form, kind: &Kind) -> Answer<Option<(u32, u32)>> {
    if !form.has("CpuOptions") {
        return Ok(None);
    }
    if kind.arch == "arm64" {
        let message = format!("CpuOptions are not supported for the instance type {}.", kind.name);
        return Err(ApiError::new("UnsupportedOperation", message));
    }
    let cores = form.count("CpuOptions.CoreCount").ok_or_else(|| ApiError::missing("CpuOptions.CoreCount"))?;
    let threads = form.count("CpuOptions.ThreadsPerCore");
    let threads = threads.ok_or_else(|| ApiError::missing("CpuOptions.ThreadsPerCore"))?;
    if !(1..=kind.cores()).contains(&cores) || !(1..=kind.threads).contains(&threads) {
        let message = format!("The CpuOptions {cores}x{threads} are not valid for {}.", kind.name);
        return Err(ApiError::new("InvalidParameterValue", message));
    }
    Ok(Some((cores, threads)))
}

fn read_metadata(form: &Form) -> Answer<Metadata> {
    let own = Metadata::default();
    let word = |name: &str, own: String| form.owned(&format!("MetadataOptions.{name}")).unwrap_or(own);
    let hop_limit = form.number("MetadataOptions.HttpPutResponseHopLimit").unwrap_or_else(|| own.hop_limit.into());
    if !(1..=64).contains(&hop_limit) {
        let why = "Expecting a value between 1 and 64.";
        return Err(ApiError::value("HttpPutResponseHopLimit", &hop_limit.to_string(), why));
    }
    Ok(Metadata {
        tokens: word("HttpTokens", own.tokens),
        hop_limit: u32::try_from(hop_limit).unwrap_or(own.hop_limit),
        endpoint: word("HttpEndpoint", own.endpoint),
        ipv6: word("HttpProtocolIpv6", own.ipv6),
        tags: word("InstanceMetadataTags", own.tags),
    })
}

/// The tags of the instance, its volumes and its spot request.
fn read_launch_tags(form: &Form, market: Lifecycle) -> Answer<[BTreeMap<String, String>; 3]> {
    let mut all = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
    let mut seen = Vec::new();
    for number in form.members("TagSpecification") {
        let kind = form.need(&format!("TagSpecification.{number}.ResourceType"))?;
        let place = match kind {
            "instance" => 0,
            "volume" => 1,
            "spot-instances-request" if market == Lifecycle::Spot => 2,
            "network-interface" => usize::MAX,
            _ => {
                let why = format!("'{kind}' is not a valid taggable resource type for this operation.");
                return Err(ApiError::new("InvalidParameterValue", why));
            }
        };
        if seen.contains(&kind) {
            let message = format!("Duplicate resource type '{kind}' in the tag specifications.");
            return Err(ApiError::new("InvalidParameterValue", message));
        }
        seen.push(kind);
        let tags = read_tags(form, &format!("TagSpecification.{number}.Tag"))?;
        check_tags(&tags)?;
        if let Some(target) = all.get_mut(place) {
            *target = tags;
        }
    }
    Ok(all)
}

fn read_user_data(form: &Form) -> Answer<Option<String>> {
    let Some(data) = form.owned("UserData").filter(|data| !data.is_empty()) else { return Ok(None) };
    let Ok(raw) = BASE64_STANDARD.decode(&data) else {
        return Err(ApiError::new("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data."));
    };
    if raw.len() > 16 * 1_024 {
        return Err(ApiError::new("InvalidParameterValue", "User data is limited to 16384 bytes"));
    }
    Ok(Some(data))
}

fn read_token(form: &Form) -> Answer<Option<String>> {
    let Some(token) = form.owned("ClientToken").filter(|token| !token.is_empty()) else { return Ok(None) };
    if token.len() > 64 || !token.is_ascii() {
        return Err(ApiError::new("InvalidClientToken", "The client token has at most 64 ASCII characters."));
    }
    Ok(Some(token))
}
