//! DescribeRegions and DescribeSubnets.

use crate::error::{Answer, ApiError};
use crate::filter::Filters;
use crate::form::Form;
use crate::region::{ACCOUNT, Zone};
use crate::world::World;
use crate::xml::Xml;

const SUBNET_FILTERS: [&str; 10] = [
    "availability-zone",
    "availability-zone-id",
    "available-ip-address-count",
    "cidr-block",
    "default-for-az",
    "map-public-ip-on-launch",
    "owner-id",
    "state",
    "subnet-id",
    "vpc-id",
];

/// A region that the account has not enabled.
const DISABLED_REGION: &str = "ap-east-1";

impl World {
    pub(crate) fn describe_regions(&mut self, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &["endpoint", "opt-in-status", "region-name"])?;
        let wanted = form.list("RegionName");
        let mut rows: Vec<_> = self.regions().map(|name| (name, "opt-in-not-required")).collect();
        if form.flag("AllRegions") == Some(true) {
            rows.push((DISABLED_REGION, "not-opted-in"));
        }
        if let Some(name) = wanted.iter().find(|name| !rows.iter().any(|(known, _)| known == *name)) {
            return Err(ApiError::value("RegionName", name, "Invalid region provided."));
        }
        rows.retain(|(name, _)| wanted.is_empty() || wanted.contains(name));
        rows.retain(|(name, opted)| {
            filters.keep(|filter| match filter {
                "region-name" => vec![(*name).to_owned()],
                "opt-in-status" => vec![(*opted).to_owned()],
                "endpoint" => vec![format!("ec2.{name}.amazonaws.com")],
                _ => Vec::new(),
            })
        });
        form.unless_dry_run()?;
        let mut xml = Xml::new();
        xml.set("regionInfo", rows, |xml, (name, opted)| {
            xml.text("regionName", name);
            xml.text("regionEndpoint", format_args!("ec2.{name}.amazonaws.com"));
            xml.text("optInStatus", opted);
        });
        Ok(xml.into_text())
    }

    pub(crate) fn describe_subnets(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &SUBNET_FILTERS)?;
        let ids = form.list("SubnetId");
        let place = self.region_place(region);
        let (rows, token) = self.page(region, form, (5, 1_000), |world| {
            let region = &world.regions[place];
            if let Some(id) = ids.iter().find(|id| region.zone_of(id).is_none()) {
                let message = format!("The subnet ID '{id}' does not exist");
                return Err(ApiError::new("InvalidSubnetID.NotFound", message));
            }
            let rows = region.zones.iter().filter(|zone| ids.is_empty() || ids.contains(&zone.subnet.as_str()));
            let rows = rows.filter(|zone| filters.keep(|name| subnet_facts(zone, &region.vpc, name)));
            Ok(rows.map(|zone| zone.subnet.clone()).collect())
        })?;
        let region = &self.regions[place];
        let mut xml = Xml::new();
        xml.set("subnetSet", rows.iter().filter_map(|id| region.zone_of(id)), |xml, zone| {
            xml.text("subnetId", &zone.subnet);
            let arn = format_args!("arn:aws:ec2:{}:{ACCOUNT}:subnet/{}", region.name, zone.subnet);
            xml.text("subnetArn", arn);
            xml.text("state", "available");
            xml.text("ownerId", ACCOUNT);
            xml.text("vpcId", &region.vpc);
            xml.text("cidrBlock", &zone.cidr);
            xml.empty("ipv6CidrBlockAssociationSet");
            xml.text("availableIpAddressCount", zone.free_addresses);
            xml.text("availabilityZone", &zone.name);
            xml.text("availabilityZoneId", &zone.id);
            xml.text("defaultForAz", true);
            xml.text("mapPublicIpOnLaunch", zone.public_by_default);
            xml.text("assignIpv6AddressOnCreation", false);
            xml.text("mapCustomerOwnedIpOnLaunch", false);
            xml.text("enableDns64", false);
            xml.text("ipv6Native", false);
            xml.empty("tagSet");
        });
        xml.next_token(token.as_deref(), self.chance().bool());
        Ok(xml.into_text())
    }
}

fn subnet_facts(zone: &Zone, vpc: &str, name: &str) -> Vec<String> {
    let value = match name {
        "subnet-id" => zone.subnet.clone(),
        "vpc-id" => vpc.to_owned(),
        "availability-zone" => zone.name.clone(),
        "availability-zone-id" => zone.id.clone(),
        "available-ip-address-count" => zone.free_addresses.to_string(),
        "cidr-block" => zone.cidr.clone(),
        "default-for-az" => "true".to_owned(),
        "map-public-ip-on-launch" => zone.public_by_default.to_string(),
        "owner-id" => ACCOUNT.to_owned(),
        "state" => "available".to_owned(),
        _ => return Vec::new(),
    };
    vec![value]
}
