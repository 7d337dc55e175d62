//! DescribeSpotInstanceRequests.

use crate::error::{Answer, ApiError};
use crate::filter::{Filters, tag_facts};
use crate::form::Form;
use crate::region::Region;
use crate::spot::SpotRequest;
use crate::world::World;
use crate::xml::Xml;

use super::row::write_groups;

const FILTERS: [&str; 10] = [
    "availability-zone",
    "instance-id",
    "launched-availability-zone",
    "launch.instance-type",
    "network-interface.subnet-id",
    "product-description",
    "spot-instance-request-id",
    "state",
    "status-code",
    "type",
];

impl World {
    pub(crate) fn describe_spot_instance_requests(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &FILTERS)?;
        let ids = form.list("SpotInstanceRequestId");
        if !ids.is_empty() && form.has("MaxResults") {
            let message = "The parameter spotInstanceRequestIdSet cannot be used with the parameter maxResults";
            return Err(ApiError::combination(message));
        }
        let (rows, token) = self.page(region, form, (5, 1_000), |world| {
            let places = world.shown_requests(region, &ids)?;
            let rows = places.into_iter().map(|place| &world.requests[place]);
            let rows = rows.filter(|request| filters.keep(|name| request_facts(request, name)));
            Ok(rows.map(|request| request.id.clone()).collect())
        })?;
        let rows = rows.iter().filter_map(|id| self.request(id)).filter(|request| request.is_shown(self.now));
        let mut chance = self.chance();
        let is_written_empty = chance.bool();
        let fault_is_written = chance.bool();
        let mut xml = Xml::new();
        xml.set("spotInstanceRequestSet", rows, |xml, request| self.write_request(xml, request, fault_is_written));
        xml.next_token(token.as_deref(), is_written_empty);
        Ok(xml.into_text())
    }

    /// The requests that a call names, or all; those that nobody can see are not there.
    pub(crate) fn shown_requests(&self, region: &str, ids: &[&str]) -> Answer<Vec<usize>> {
        let is_there = |place: &usize| {
            let request = &self.requests[*place];
            request.region == region && request.is_shown(self.now)
        };
        if ids.is_empty() {
            return Ok((0..self.requests.len()).filter(is_there).collect());
        }
        if let Some(id) = ids.iter().find(|id| !id.starts_with("sir-")) {
            let message = format!("Invalid id: \"{id}\" (expecting \"sir-...\")");
            return Err(ApiError::new("InvalidSpotInstanceRequestID.Malformed", message));
        }
        let found = |id: &&str| self.requests_by_id.get(*id).copied().filter(is_there);
        match ids.iter().find(|id| found(id).is_none()) {
            None => Ok(ids.iter().filter_map(found).collect()),
            Some(id) => {
                let message = format!("The spot instance request ID '{id}' does not exist");
                Err(ApiError::new("InvalidSpotInstanceRequestID.NotFound", message))
            }
        }
    }

    fn write_request(&self, xml: &mut Xml, request: &SpotRequest, fault_is_written: bool) {
        let Some(region) = self.region(&request.region) else { return };
        xml.text("spotInstanceRequestId", &request.id);
        xml.text("spotPrice", &request.max_price);
        xml.text("type", if request.persistent { "persistent" } else { "one-time" });
        xml.text("state", request.state.name());
        xml.node("status", |xml| {
            xml.text("code", &request.code);
            xml.time("updateTime", request.updated_ms);
            xml.text("message", request.message());
        });
        if fault_is_written && request.code == "system-error" {
            xml.node("fault", |xml| {
                xml.text("code", "system-error");
                xml.text("message", request.message());
            });
        }
        xml.maybe("instanceId", request.instance.as_ref());
        xml.node("launchSpecification", |xml| self.write_launch(xml, request, region));
        xml.time("createTime", request.created_ms);
        xml.text("productDescription", "Linux/UNIX");
        if request.instance.is_some() {
            xml.text("launchedAvailabilityZone", request.zone());
            xml.maybe("launchedAvailabilityZoneId", region.zone(request.zone()).map(|zone| &zone.id));
        }
        let tags = request.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        xml.tags("tagSet", tags);
        xml.text("instanceInterruptionBehavior", request.behavior.name());
    }

    /// The second, thinner memory of a launch (3.3).
    fn write_launch(&self, xml: &mut Xml, request: &SpotRequest, region: &Region) {
        let plan = &request.plan;
        let facts = &plan.facts;
        if self.rules.user_data_in_request {
            xml.maybe("userData", plan.user_data.as_ref());
        }
        xml.text("imageId", &facts.image);
        xml.maybe("keyName", facts.key.as_ref());
        write_groups(xml, "groupSet", &facts.groups, region);
        xml.text("instanceType", &plan.kind);
        xml.node("placement", |xml| {
            xml.text("availabilityZone", &plan.zone);
            xml.text("tenancy", &facts.tenancy);
        });
        if let Some(arn) = &facts.profile {
            xml.node("iamInstanceProfile", |xml| {
                xml.text("arn", arn);
                xml.maybe("name", arn.rsplit('/').next());
            });
        }
        xml.set("blockDeviceMapping", &plan.disks, |xml, disk| {
            xml.text("deviceName", &disk.device);
            xml.node("ebs", |xml| {
                xml.text("volumeSize", disk.shape.gib);
                xml.text("volumeType", &disk.shape.kind);
                xml.maybe("snapshotId", disk.shape.snapshot.as_ref());
                xml.text("deleteOnTermination", disk.delete_on_termination);
                xml.text("encrypted", disk.shape.encrypted);
            });
        });
        xml.text("ebsOptimized", facts.ebs_optimized);
        xml.node("monitoring", |xml| xml.text("enabled", facts.monitoring));
        xml.text("subnetId", &plan.subnet);
    }
}

fn request_facts(request: &SpotRequest, name: &str) -> Vec<String> {
    let one = |value: &str| vec![value.to_owned()];
    match name {
        "spot-instance-request-id" => one(&request.id),
        "state" => one(request.state.name()),
        "status-code" => one(&request.code),
        "type" => one(if request.persistent { "persistent" } else { "one-time" }),
        "instance-id" => request.instance.clone().into_iter().collect(),
        "availability-zone" | "launched-availability-zone" => one(request.zone()),
        "launch.instance-type" => one(request.kind()),
        "network-interface.subnet-id" => one(&request.plan.subnet),
        "product-description" => one("Linux/UNIX"),
        _ => {
            let tags: Vec<_> = request.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            tag_facts(name, &tags)
        }
    }
}
