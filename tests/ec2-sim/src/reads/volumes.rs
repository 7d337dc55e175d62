//! DescribeVolumes.

use crate::error::{Answer, ApiError};
use crate::filter::{Filters, tag_facts};
use crate::form::Form;
use crate::machine::{Disk, Volume};
use crate::world::World;
use crate::xml::Xml;

const FILTERS: [&str; 13] = [
    "attachment.attach-time",
    "attachment.delete-on-termination",
    "attachment.device",
    "attachment.instance-id",
    "attachment.status",
    "availability-zone",
    "availability-zone-id",
    "encrypted",
    "size",
    "snapshot-id",
    "status",
    "volume-id",
    "volume-type",
];

impl World {
    pub(crate) fn describe_volumes(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &FILTERS)?;
        let ids = form.list("VolumeId");
        if !ids.is_empty() && form.has("MaxResults") {
            let message = "The parameter volumeSet cannot be used with the parameter maxResults";
            return Err(ApiError::combination(message));
        }
        let (rows, token) = self.page(region, form, (5, 500), |world| {
            let is_there = |volume: &&Volume| volume.region == region && !volume.is_deleted;
            if let Some(id) = ids.iter().find(|id| world.volumes.get(**id).filter(is_there).is_none()) {
                let message = format!("The volume '{id}' does not exist.");
                return Err(ApiError::new("InvalidVolume.NotFound", message));
            }
            let rows = world.volumes.values().filter(is_there);
            let rows = rows.filter(|volume| ids.is_empty() || ids.contains(&volume.id.as_str()));
            let rows = rows.filter(|volume| filters.keep(|name| world.volume_facts(volume, name)));
            Ok(rows.map(|volume| volume.id.clone()).collect())
        })?;
        let rows = rows.iter().filter_map(|id| self.volumes.get(id)).filter(|volume| !volume.is_deleted);
        let mut xml = Xml::new();
        xml.set("volumeSet", rows, |xml, volume| self.write_volume(xml, volume));
        xml.next_token(token.as_deref(), self.chance().bool());
        Ok(xml.into_text())
    }

    /// The volume as its instance has it.
    fn attachment(&self, volume: &Volume) -> Option<&Disk> {
        let instance = self.instance(volume.attached_to.as_ref()?)?;
        instance.disks.iter().find(|disk| disk.volume == volume.id)
    }

    fn volume_facts(&self, volume: &Volume, name: &str) -> Vec<String> {
        let disk = self.attachment(volume);
        let of_disk = |fact: fn(&Disk) -> String| disk.map(fact).into_iter().collect();
        match name {
            "volume-id" => vec![volume.id.clone()],
            "availability-zone" => vec![volume.zone.clone()],
            "availability-zone-id" => {
                let zone = self.region(&volume.region).and_then(|region| region.zone(&volume.zone));
                zone.map(|zone| zone.id.clone()).into_iter().collect()
            }
            "encrypted" => vec![volume.shape.encrypted.to_string()],
            "size" => vec![volume.shape.gib.to_string()],
            "snapshot-id" => volume.shape.snapshot.clone().into_iter().collect(),
            "status" => vec![status(volume).to_owned()],
            "volume-type" => vec![volume.shape.kind.clone()],
            "attachment.instance-id" => volume.attached_to.clone().into_iter().collect(),
            "attachment.device" => of_disk(|disk| disk.device.clone()),
            "attachment.delete-on-termination" => of_disk(|disk| disk.delete_on_termination.to_string()),
            "attachment.attach-time" => of_disk(|disk| crate::xml::time(disk.attached_ms)),
            "attachment.status" => of_disk(|_| "attached".to_owned()),
            _ => {
                let tags: Vec<_> = volume.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                tag_facts(name, &tags)
            }
        }
    }

    fn write_volume(&self, xml: &mut Xml, volume: &Volume) {
        let shape = &volume.shape;
        xml.text("volumeId", &volume.id);
        xml.text("size", shape.gib);
        match &shape.snapshot {
            Some(snapshot) => xml.text("snapshotId", snapshot),
            None => xml.empty("snapshotId"),
        }
        xml.text("availabilityZone", &volume.zone);
        let zone = self.region(&volume.region).and_then(|region| region.zone(&volume.zone));
        xml.maybe("availabilityZoneId", zone.map(|zone| &zone.id));
        xml.text("status", status(volume));
        xml.time("createTime", volume.created_ms);
        xml.set("attachmentSet", self.attachment(volume), |xml, disk| {
            xml.text("volumeId", &disk.volume);
            xml.maybe("instanceId", volume.attached_to.as_ref());
            xml.text("device", &disk.device);
            xml.text("status", "attached");
            xml.time("attachTime", disk.attached_ms);
            xml.text("deleteOnTermination", disk.delete_on_termination);
        });
        xml.text("volumeType", &shape.kind);
        xml.maybe("iops", shape.iops);
        xml.maybe("throughput", shape.throughput);
        xml.text("encrypted", shape.encrypted);
        xml.maybe("kmsKeyId", shape.kms_key.as_ref());
        if !volume.tags.is_empty() {
            xml.tags("tagSet", volume.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        }
        xml.text("multiAttachEnabled", false);
        xml.node("operator", |xml| xml.text("managed", false));
    }
}

fn status(volume: &Volume) -> &'static str {
    if volume.attached_to.is_some() { "in-use" } else { "available" }
}
