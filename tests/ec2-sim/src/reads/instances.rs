//! DescribeInstances.

use crate::error::{Answer, ApiError};
use crate::filter::{Filters, tag_facts};
use crate::form::Form;
use crate::machine::{Instance, Lifecycle, State};
use crate::world::World;
use crate::xml::{Xml, time};

const FILTERS: [&str; 34] = [
    "architecture",
    "availability-zone",
    "availability-zone-id",
    "block-device-mapping.device-name",
    "block-device-mapping.volume-id",
    "client-token",
    "dns-name",
    "iam-instance-profile.arn",
    "image-id",
    "instance-id",
    "instance-lifecycle",
    "instance-state-code",
    "instance-state-name",
    "instance-type",
    "instance.group-id",
    "ip-address",
    "key-name",
    "launch-time",
    "network-interface.network-interface-id",
    "network-interface.subnet-id",
    "operator.managed",
    "operator.principal",
    "owner-id",
    "placement-group-name",
    "private-dns-name",
    "private-ip-address",
    "requester-id",
    "reservation-id",
    "root-device-name",
    "spot-instance-request-id",
    "state-reason-code",
    "subnet-id",
    "tenancy",
    "vpc-id",
];

impl World {
    pub(crate) fn describe_instances(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &FILTERS)?;
        let ids = form.list("InstanceId");
        if !ids.is_empty() && form.has("MaxResults") {
            let message = "The parameter instancesSet cannot be used with the parameter maxResults";
            return Err(ApiError::combination(message));
        }
        self.refuse_disrupted(region, &ids, &filters)?;
        let with_hidden = form.flag("IncludeManagedResources").unwrap_or_default();
        let (rows, token) = self.page(region, form, (5, 1_000), |world| {
            let slots = world.shown_slots(region, &ids)?;
            let rows = slots.into_iter().map(|slot| &world.instances[slot]);
            let rows = rows.filter(|instance| with_hidden || !instance.facts.hidden);
            let rows = rows.filter(|instance| filters.keep(|name| world.instance_facts(instance, name)));
            Ok(rows.map(|instance| instance.id.clone()).collect())
        })?;
        let mut reservations: Vec<(&str, Vec<usize>)> = Vec::new();
        for slot in rows.iter().filter_map(|id| self.by_id.get(id).copied()) {
            let instance = &self.instances[slot];
            if !instance.is_shown(self.now) {
                continue;
            }
            match reservations.iter_mut().find(|(id, _)| *id == instance.reservation) {
                Some((_, slots)) => slots.push(slot),
                None => reservations.push((&instance.reservation, vec![slot])),
            }
        }
        let chance = std::cell::RefCell::new(self.chance());
        let mut xml = Xml::new();
        xml.set("reservationSet", reservations, |xml, (_, slots)| {
            self.write_reservation(xml, &slots, &mut chance.borrow_mut());
        });
        xml.next_token(token.as_deref(), chance.borrow_mut().bool());
        Ok(xml.into_text())
    }

    /// A source of chances for the writing of an answer.
    pub(crate) fn chance(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.rng.get_seed() ^ self.now.unsigned_abs())
    }

    /// A disrupted zone fails every call that is not limited to others.
    pub(crate) fn refuse_disrupted(&self, region: &str, ids: &[&str], filters: &Filters) -> Answer<()> {
        let disrupted = self.region(region).map(|region| &region.disrupted);
        let Some(disrupted) = disrupted.filter(|zones| !zones.is_empty()) else { return Ok(()) };
        let zones: Vec<_> = if !ids.is_empty() {
            ids.iter().filter_map(|id| self.instance(id)).map(|instance| instance.zone.clone()).collect()
        } else if let Some(zones) = filters.values("availability-zone")
            && self.rules.zone_filter_survives_disruption
        {
            zones.to_vec()
        } else {
            disrupted.iter().cloned().collect()
        };
        let is_hit = disrupted.iter().any(|zone| zones.iter().any(|named| crate::filter::is_like(named, zone)));
        if is_hit { Err(ApiError::new("InternalError", "An internal error has occurred")) } else { Ok(()) }
    }

    /// The instances that a call names, or all; those that nobody can see are not there.
    pub(crate) fn shown_slots(&self, region: &str, ids: &[&str]) -> Answer<Vec<usize>> {
        let is_there =
            |slot: &usize| self.instances[*slot].region == region && self.instances[*slot].is_shown(self.now);
        if ids.is_empty() {
            return Ok((0..self.instances.len()).filter(is_there).collect());
        }
        if let Some(id) = ids.iter().find(|id| !is_id("i-", id)) {
            return Err(ApiError::new("InvalidInstanceID.Malformed", format!("Invalid id: \"{id}\"")));
        }
        let found = |id: &&str| self.by_id.get(*id).copied().filter(is_there);
        let missing: Vec<_> = ids.iter().copied().filter(|id| found(id).is_none()).collect();
        if missing.is_empty() {
            Ok(ids.iter().filter_map(found).collect())
        } else {
            Err(ApiError::no_instance(&missing))
        }
    }

    /// What a filter sees of an instance: no more than the answer tells.
    pub(crate) fn instance_facts(&self, instance: &Instance, name: &str) -> Vec<String> {
        let facts = &instance.facts;
        let has_network = !instance.state.is_end();
        let has_parts = instance.state != State::Terminated;
        let one = |value: &str| vec![value.to_owned()];
        let maybe = |value: Option<&String>| value.cloned().into_iter().collect::<Vec<_>>();
        let region = self.region(&instance.region);
        let primary = instance.interfaces.first();
        match name {
            "instance-id" => one(&instance.id),
            "instance-state-name" => one(instance.state.name()),
            "instance-state-code" => vec![instance.state.code().to_string()],
            "instance-type" => one(&instance.kind),
            "instance-lifecycle" if instance.lifecycle == Lifecycle::Spot => one("spot"),
            "availability-zone" => one(&instance.zone),
            "availability-zone-id" => maybe(region.and_then(|region| region.zone(&instance.zone)).map(|zone| &zone.id)),
            "client-token" => maybe(instance.client_token.as_ref()),
            "spot-instance-request-id" => maybe(instance.request.as_ref()),
            "reservation-id" => one(&instance.reservation),
            "image-id" => one(&facts.image),
            "key-name" => maybe(facts.key.as_ref()),
            "requester-id" => maybe(facts.requester.as_ref()),
            "operator.principal" => maybe(facts.managed_by.as_ref()),
            "operator.managed" => vec![facts.managed_by.is_some().to_string()],
            "owner-id" => one(crate::region::ACCOUNT),
            "tenancy" => one(&facts.tenancy),
            "placement-group-name" => maybe(facts.placement_group.as_ref()),
            "launch-time" => vec![time(instance.started_ms)],
            "root-device-name" => one(crate::region::ROOT_DEVICE),
            "architecture" => {
                let kind = crate::catalog::Kind::named(&instance.kind);
                kind.map(|kind| kind.arch.to_owned()).into_iter().collect()
            }
            "state-reason-code" => maybe(instance.state_reason.as_ref().map(|(code, _)| code)),
            "subnet-id" if has_network => one(&instance.subnet),
            "vpc-id" if has_network => maybe(region.map(|region| &region.vpc)),
            "instance.group-id" if has_network => facts.groups.clone(),
            "private-ip-address" if has_network => maybe(primary.map(|interface| &interface.address)),
            "private-dns-name" if has_network => {
                primary.map(|interface| interface.private_name(&instance.region)).into_iter().collect()
            }
            "ip-address" if has_network => maybe(primary.and_then(|interface| interface.public_address.as_ref())),
            "network-interface.subnet-id" if has_network => {
                instance.interfaces.iter().map(|interface| interface.subnet.clone()).collect()
            }
            "network-interface.network-interface-id" if has_parts => {
                instance.interfaces.iter().map(|interface| interface.id.clone()).collect()
            }
            "iam-instance-profile.arn" if has_parts => maybe(facts.profile.as_ref()),
            "block-device-mapping.device-name" if has_parts => {
                instance.disks.iter().map(|disk| disk.device.clone()).collect()
            }
            "block-device-mapping.volume-id" if has_parts => {
                instance.disks.iter().map(|disk| disk.volume.clone()).collect()
            }
            _ if name.starts_with("tag") => tag_facts(name, &instance.shown_tags(self.now)),
            _ => Vec::new(),
        }
    }
}

/// Whether a text looks like an id with this prefix: 8 or 17 hexadecimal digits behind it.
pub(crate) fn is_id(prefix: &str, id: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| {
        matches!(rest.len(), 8 | 17) && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
