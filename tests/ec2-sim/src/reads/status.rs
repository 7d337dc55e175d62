//! DescribeInstanceStatus.

use crate::error::{Answer, ApiError};
use crate::filter::Filters;
use crate::form::Form;
use crate::machine::{Instance, State};
use crate::world::World;
use crate::xml::Xml;

use super::row::{write_operator, write_state};

const FILTERS: [&str; 6] = [
    "availability-zone",
    "availability-zone-id",
    "instance-state-code",
    "instance-state-name",
    "instance-status.status",
    "system-status.status",
];

impl World {
    pub(crate) fn describe_instance_status(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &FILTERS)?;
        let ids = form.list("InstanceId");
        if !ids.is_empty() && form.has("MaxResults") {
            let message = "The parameter instancesSet cannot be used with the parameter maxResults";
            return Err(ApiError::combination(message));
        }
        let all = form.flag("IncludeAllInstances").unwrap_or_default();
        let with_hidden = form.flag("IncludeManagedResources").unwrap_or_default();
        let (rows, token) = self.page(region, form, (5, 1_000), |world| {
            let rows = world.shown_slots(region, &ids)?.into_iter().map(|slot| &world.instances[slot]);
            let rows = rows.filter(|instance| all || instance.state == State::Running);
            let rows = rows.filter(|instance| with_hidden || !instance.facts.hidden);
            let rows = rows.filter(|instance| {
                filters.keep(|name| match name {
                    "instance-status.status" | "system-status.status" => vec![world.checks(instance).to_owned()],
                    _ => world.instance_facts(instance, name),
                })
            });
            Ok(rows.map(|instance| instance.id.clone()).collect())
        })?;
        let rows = rows.iter().filter_map(|id| self.instance(id)).filter(|instance| instance.is_shown(self.now));
        let mut xml = Xml::new();
        xml.set("instanceStatusSet", rows, |xml, instance| {
            xml.text("instanceId", &instance.id);
            xml.text("availabilityZone", &instance.zone);
            let zone = self.region(&instance.region).and_then(|region| region.zone(&instance.zone));
            xml.maybe("availabilityZoneId", zone.map(|zone| &zone.id));
            write_operator(xml, instance);
            write_state(xml, "instanceState", instance.state);
            let checks = self.checks(instance);
            for name in ["systemStatus", "instanceStatus", "attachedEbsStatus"] {
                xml.node(name, |xml| {
                    xml.text("status", checks);
                    let details = (checks != "not-applicable").then_some(checks);
                    xml.set("details", details, |xml, checks| {
                        xml.text("name", "reachability");
                        xml.text("status", if checks == "ok" { "passed" } else { "initializing" });
                    });
                });
            }
        });
        xml.next_token(token.as_deref(), self.chance().bool());
        Ok(xml.into_text())
    }

    /// What the status checks of an instance say.
    fn checks(&self, instance: &Instance) -> &'static str {
        let since_boot = self.now - instance.started_ms - self.rules.boot_ms;
        match instance.state {
            State::Running if since_boot >= self.rules.checks_ms => "ok",
            State::Running => "initializing",
            _ => "not-applicable",
        }
    }
}
