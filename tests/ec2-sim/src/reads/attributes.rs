//! DescribeInstanceAttribute.

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::machine::{Instance, State};
use crate::region::ROOT_DEVICE;
use crate::rules::AttributesAfterEnd;
use crate::world::World;
use crate::xml::Xml;

use super::row::{write_disk, write_groups};

impl World {
    pub(crate) fn describe_instance_attribute(&mut self, region: &str, form: &Form) -> Answer<String> {
        let id = form.need("InstanceId")?;
        let attribute = form.need("Attribute")?;
        let slots = self.shown_slots(region, &[id])?;
        let instance = slots.first().map(|&slot| &self.instances[slot]).ok_or_else(|| ApiError::no_instance(&[id]))?;
        form.unless_dry_run()?;
        let has_ended = instance.state == State::Terminated;
        if has_ended && self.rules.attributes_after_end == AttributesAfterEnd::NotFound {
            return Err(ApiError::no_instance(&[id]));
        }
        let mut chance = self.chance();
        let mut xml = Xml::new();
        xml.text("instanceId", id);
        let is_forgotten = has_ended && self.rules.attributes_after_end == AttributesAfterEnd::Empty;
        self.write_attribute(&mut xml, instance, attribute, is_forgotten, &mut chance);
        Ok(xml.into_text())
    }

    fn write_attribute(
        &self,
        xml: &mut Xml,
        instance: &Instance,
        attribute: &str,
        is_forgotten: bool,
        chance: &mut fastrand::Rng,
    ) {
        let facts = &instance.facts;
        let text = |xml: &mut Xml, value: &str| xml.node(attribute, |xml| xml.text("value", value));
        let flag = |xml: &mut Xml, value: bool| xml.node(attribute, |xml| xml.text("value", value));
        match attribute {
            "userData" => match instance.user_data.as_ref().filter(|_| !is_forgotten) {
                Some(data) => text(xml, data),
                None if chance.bool() => xml.empty("userData"),
                None => {}
            },
            "disableApiTermination" => flag(xml, facts.protected),
            "disableApiStop" => flag(xml, facts.stop_protected),
            "instanceInitiatedShutdownBehavior" => text(xml, &facts.shutdown_behavior),
            "instanceType" => text(xml, &instance.kind),
            "rootDeviceName" => text(xml, ROOT_DEVICE),
            "sourceDestCheck" => {
                flag(xml, instance.interfaces.first().is_none_or(|interface| interface.source_dest_check));
            }
            "ebsOptimized" => flag(xml, facts.ebs_optimized),
            "enaSupport" => flag(xml, true),
            "enclaveOptions" => xml.node(attribute, |xml| xml.text("enabled", facts.enclave)),
            "groupSet" => {
                let groups = if instance.state.is_end() { &[][..] } else { &facts.groups[..] };
                if let Some(region) = self.region(&instance.region) {
                    write_groups(xml, "groupSet", groups, region);
                }
            }
            "blockDeviceMapping" => {
                let disks = instance.disks.iter().filter(|_| instance.state != State::Terminated);
                xml.set("blockDeviceMapping", disks, write_disk);
            }
            _ => xml.empty(attribute),
        }
    }
}
