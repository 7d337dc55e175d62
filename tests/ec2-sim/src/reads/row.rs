//! How an instance is written.

use crate::catalog::Kind;
use crate::machine::{Disk, Instance, Interface, Lifecycle, State};
use crate::region::{ACCOUNT, ROOT_DEVICE, Region};
use crate::world::World;
use crate::xml::Xml;

impl World {
    /// A reservation with these instances of it.
    pub(crate) fn write_reservation(&self, xml: &mut Xml, slots: &[usize], chance: &mut fastrand::Rng) {
        let Some(first) = slots.first().map(|&slot| &self.instances[slot]) else { return };
        xml.text("reservationId", &first.reservation);
        xml.text("ownerId", ACCOUNT);
        xml.maybe("requesterId", first.facts.requester.as_ref());
        xml.empty("groupSet");
        xml.node("instancesSet", |xml| {
            for &slot in slots {
                xml.node("item", |xml| self.write_instance(xml, &self.instances[slot], chance));
            }
        });
    }

    fn write_instance(&self, xml: &mut Xml, instance: &Instance, chance: &mut fastrand::Rng) {
        let Some(region) = self.region(&instance.region) else { return };
        let facts = &instance.facts;
        xml.text("instanceId", &instance.id);
        xml.text("imageId", &facts.image);
        write_state(xml, "instanceState", instance.state);
        self.write_addresses(xml, instance, region);
        write_text_or_nothing(xml, "reason", &instance.transition_reason, chance);
        match &instance.state_reason {
            Some((code, message)) => xml.node("stateReason", |xml| {
                xml.text("code", code);
                xml.text("message", message);
            }),
            None if chance.bool() => xml.empty("stateReason"),
            None => {}
        }
        xml.maybe("keyName", facts.key.as_ref());
        xml.text("amiLaunchIndex", instance.launch_index);
        xml.empty("productCodes");
        xml.text("instanceType", &instance.kind);
        xml.time("launchTime", instance.started_ms);
        xml.node("placement", |xml| {
            xml.text("availabilityZone", &instance.zone);
            xml.maybe("availabilityZoneId", region.zone(&instance.zone).map(|zone| &zone.id));
            write_text_or_nothing(xml, "groupName", facts.placement_group.as_deref().unwrap_or_default(), chance);
            xml.text("tenancy", &facts.tenancy);
        });
        xml.node("monitoring", |xml| xml.text("state", if facts.monitoring { "enabled" } else { "disabled" }));
        let kind = Kind::named(&instance.kind);
        xml.maybe("architecture", kind.map(|kind| kind.arch));
        xml.text("rootDeviceType", "ebs");
        xml.text("rootDeviceName", ROOT_DEVICE);
        self.write_parts(xml, instance, region);
        xml.text("virtualizationType", "hvm");
        write_text_or_nothing(xml, "clientToken", instance.client_token.as_deref().unwrap_or_default(), chance);
        let tags = instance.shown_tags(self.now);
        if !tags.is_empty() || chance.bool() {
            xml.tags("tagSet", tags);
        }
        xml.text("hypervisor", "xen");
        xml.text("ebsOptimized", facts.ebs_optimized);
        xml.text("enaSupport", true);
        if instance.lifecycle == Lifecycle::Spot {
            xml.text("instanceLifecycle", "spot");
            xml.maybe("spotInstanceRequestId", instance.request.as_ref());
        }
        write_options(xml, instance, kind);
    }

    /// The addresses, subnet and groups: gone when an instance begins to end.
    fn write_addresses(&self, xml: &mut Xml, instance: &Instance, region: &Region) {
        let primary = instance.interfaces.first().filter(|_| !instance.state.is_end());
        let Some(primary) = primary else {
            xml.empty("privateDnsName");
            return xml.empty("dnsName");
        };
        xml.text("privateDnsName", primary.private_name(&instance.region));
        xml.text("privateIpAddress", &primary.address);
        match primary.public_address.as_ref().filter(|_| instance.state == State::Running) {
            Some(address) => {
                xml.text("dnsName", public_name(address, &instance.region));
                xml.text("ipAddress", address);
            }
            None => xml.empty("dnsName"),
        }
        xml.text("subnetId", &instance.subnet);
        xml.text("vpcId", &region.vpc);
        xml.text("sourceDestCheck", primary.source_dest_check);
        write_groups(xml, "groupSet", &instance.facts.groups, region);
    }

    /// The profile, the volumes and the interfaces: gone when an instance has ended.
    fn write_parts(&self, xml: &mut Xml, instance: &Instance, region: &Region) {
        if instance.state == State::Terminated {
            xml.empty("blockDeviceMapping");
            return xml.empty("networkInterfaceSet");
        }
        if let Some(arn) = &instance.facts.profile {
            xml.node("iamInstanceProfile", |xml| {
                xml.text("arn", arn);
                xml.text("id", "AIPAEXAMPLEPROFILE001");
            });
        }
        let disks = instance.disks.iter().filter(|disk| disk.attached_ms <= self.now);
        xml.set("blockDeviceMapping", disks, write_disk);
        xml.set("networkInterfaceSet", &instance.interfaces, |xml, interface| {
            write_interface(xml, interface, instance, region);
        });
    }
}

/// A state with its number.
pub(crate) fn write_state(xml: &mut Xml, name: &str, state: State) {
    xml.node(name, |xml| {
        xml.text("code", state.code());
        xml.text("name", state.name());
    });
}

/// Security groups with their names.
pub(crate) fn write_groups(xml: &mut Xml, name: &str, groups: &[String], region: &Region) {
    xml.set(name, groups, |xml, group| {
        xml.text("groupId", group);
        xml.maybe("groupName", region.groups.iter().find(|(id, _)| id == group).map(|(_, name)| name));
    });
}

/// Where there is no text, AWS writes an empty element or nothing.
fn write_text_or_nothing(xml: &mut Xml, name: &str, text: &str, chance: &mut fastrand::Rng) {
    if !text.is_empty() {
        xml.text(name, text);
    } else if chance.bool() {
        xml.empty(name);
    }
}

pub(crate) fn write_disk(xml: &mut Xml, disk: &Disk) {
    xml.text("deviceName", &disk.device);
    xml.node("ebs", |xml| {
        xml.text("volumeId", &disk.volume);
        xml.text("status", "attached");
        xml.time("attachTime", disk.attached_ms);
        xml.text("deleteOnTermination", disk.delete_on_termination);
    });
}

fn write_interface(xml: &mut Xml, interface: &Interface, instance: &Instance, region: &Region) {
    let has_network = !instance.state.is_end();
    xml.text("networkInterfaceId", &interface.id);
    if has_network {
        xml.text("subnetId", &interface.subnet);
        xml.text("vpcId", &region.vpc);
    }
    if interface.description.is_empty() {
        xml.empty("description");
    } else {
        xml.text("description", &interface.description);
    }
    xml.text("ownerId", ACCOUNT);
    xml.text("status", "in-use");
    xml.text("macAddress", &interface.mac);
    xml.text("sourceDestCheck", interface.source_dest_check);
    if has_network {
        xml.text("privateIpAddress", &interface.address);
        xml.text("privateDnsName", interface.private_name(&instance.region));
        write_groups(xml, "groupSet", &interface.groups, region);
    } else {
        xml.empty("groupSet");
    }
    xml.node("attachment", |xml| {
        xml.text("attachmentId", &interface.attachment);
        xml.text("deviceIndex", interface.index);
        xml.text("status", "attached");
        xml.time("attachTime", interface.attached_ms);
        xml.text("deleteOnTermination", interface.delete_on_termination);
        xml.text("networkCardIndex", 0);
    });
    let public = interface.public_address.as_ref().filter(|_| instance.state == State::Running);
    let association = |xml: &mut Xml, address: &String| {
        xml.node("association", |xml| {
            xml.text("publicIp", address);
            xml.text("publicDnsName", public_name(address, &instance.region));
            xml.text("ipOwnerId", "amazon");
        });
    };
    if let Some(address) = public {
        association(xml, address);
    }
    let addresses = has_network.then_some(&interface.address);
    xml.set("privateIpAddressesSet", addresses, |xml, address| {
        xml.text("privateIpAddress", address);
        xml.text("privateDnsName", interface.private_name(&instance.region));
        xml.text("primary", true);
        if let Some(address) = public {
            association(xml, address);
        }
    });
    xml.empty("ipv6AddressesSet");
    xml.text("interfaceType", "interface");
    xml.node("operator", |xml| xml.text("managed", false));
}

fn write_options(xml: &mut Xml, instance: &Instance, kind: Option<&Kind>) {
    let facts = &instance.facts;
    let own = kind.map(|kind| (kind.cores(), kind.threads));
    if let Some((cores, threads)) = facts.cpu.or(own) {
        xml.node("cpuOptions", |xml| {
            xml.text("coreCount", cores);
            xml.text("threadsPerCore", threads);
        });
    }
    xml.node("capacityReservationSpecification", |xml| xml.text("capacityReservationPreference", "open"));
    xml.node("hibernationOptions", |xml| xml.text("configured", facts.hibernation));
    xml.node("enclaveOptions", |xml| xml.text("enabled", facts.enclave));
    xml.node("metadataOptions", |xml| {
        xml.text("state", if instance.state == State::Pending { "pending" } else { "applied" });
        xml.text("httpTokens", &facts.metadata.tokens);
        xml.text("httpPutResponseHopLimit", facts.metadata.hop_limit);
        xml.text("httpEndpoint", &facts.metadata.endpoint);
        xml.text("httpProtocolIpv6", &facts.metadata.ipv6);
        xml.text("instanceMetadataTags", &facts.metadata.tags);
    });
    xml.node("maintenanceOptions", |xml| {
        xml.text("autoRecovery", &facts.auto_recovery);
        xml.text("rebootMigration", "default");
    });
    xml.node("privateDnsNameOptions", |xml| {
        xml.text("hostnameType", "ip-name");
        xml.text("enableResourceNameDnsARecord", false);
        xml.text("enableResourceNameDnsAAAARecord", false);
    });
    xml.node("networkPerformanceOptions", |xml| xml.text("bandwidthWeighting", "default"));
    xml.text("platformDetails", "Linux/UNIX");
    xml.text("usageOperation", "RunInstances");
    xml.time("usageOperationUpdateTime", instance.launched_ms);
    xml.text("bootMode", "uefi-preferred");
    xml.text("currentInstanceBootMode", "uefi");
    write_operator(xml, instance);
}

pub(crate) fn write_operator(xml: &mut Xml, instance: &Instance) {
    xml.node("operator", |xml| {
        xml.text("managed", instance.facts.managed_by.is_some());
        xml.maybe("principal", instance.facts.managed_by.as_ref());
        if instance.facts.managed_by.is_some() {
            xml.text("hiddenByDefault", instance.facts.hidden);
        }
    });
}

fn public_name(address: &str, region: &str) -> String {
    format!("ec2-{}.{region}.compute.amazonaws.com", address.replace('.', "-"))
}

impl Interface {
    /// The name of its private address.
    pub(crate) fn private_name(&self, region: &str) -> String {
        format!("ip-{}.{region}.compute.internal", self.address.replace('.', "-"))
    }
}
