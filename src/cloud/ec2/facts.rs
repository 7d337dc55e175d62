//! What an instance is made of, recorded while it runs, and the form that launches another like it
//! (`docs/ec2-api.md` sections 3.10 and 4.3).

use std::collections::BTreeMap;

use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sign::hex;
use super::states::{ORIGIN, REPLACES, RETIRED, TARGETS, TOKEN_PREFIX};
use super::wire::{CpuOptions, Device, Ec2Row, Interface, Volume};
use crate::core::recreation::blueprint::Blueprint;
use crate::core::recreation::marker::letters_of_marker;
use crate::core::world::instance::{Billing, InstanceId, Place};

/// Parameters of a call, by their names on the wire.
pub(super) type Form = BTreeMap<String, String>;

/// The payload of a [`Blueprint`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LaunchFacts {
    /// The parameters of RunInstances that are the same in every place. May contain secrets.
    pub(super) form: Form,
    /// Those that only its own instance type takes.
    pub(super) of_type: Form,
    pub(super) kind: String,
    pub(super) zone: String,
    pub(super) subnet: String,
    pub(super) vpc: String,
    /// What ties it to its zone, if anything does.
    pub(super) tied_by: Option<String>,
    /// The product by which AWS prices it, for example `Linux/UNIX`.
    pub(super) product: String,
    /// The target groups in which a replacement is to be registered, as a tag.
    #[serde(default)]
    pub(super) targets: String,
}

/// What the listing does not say of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Closer {
    pub(super) volumes: Vec<Volume>,
    /// In base64, as it is read and sent.
    pub(super) user_data: String,
    /// `stop` or `terminate`.
    pub(super) shutdown_behavior: String,
    /// The target groups that it is in, or is to be put into.
    pub(super) targets: String,
}

/// What user data is replaced with where it is not to be kept.
pub(super) const REFUSED: &str = "its user data is not kept (RESPOT_EC2_USER_DATA=refuse), so it is left to you";

impl LaunchFacts {
    /// The field of the target groups.
    pub(super) const TARGETS: &str = "targets";

    /// Reads the payload of a blueprint.
    ///
    /// # Errors
    /// When another provider, or a newer version, wrote it.
    pub(super) fn of(blueprint: &Blueprint) -> Result<Self, String> {
        blueprint.read()
    }

    /// Whether a tag for target groups can be added.
    pub(super) fn has_room_for(&self, targets: &str) -> bool {
        let is_tag = |name: &&String| name.starts_with("TagSpecification.1.") && name.ends_with(".Key");
        let tags = self.form.keys().filter(is_tag).count();
        tags + OWN_TAGS < MOST_TAGS && targets.chars().count() <= LONGEST_TAG
    }
}

/// The most tags of an instance, and the most characters of the value of one.
const MOST_TAGS: usize = 50;
const LONGEST_TAG: usize = 256;

/// Tags that a launch adds to those of the instance, and the one for target groups.
const OWN_TAGS: usize = 2;

/// Identifies what the listing says of an instance that its replacement needs: a change means that the record is old.
pub(super) fn mark(row: &Ec2Row) -> String {
    let mut tags = row.tag_set.item.clone();
    tags.sort();
    let Ec2Row { image_id, instance_type, key_name, ebs_optimized, subnet_id, placement, group_set, .. } = row;
    let facts = format!(
        "{image_id} {instance_type} {key_name} {ebs_optimized} {subnet_id} {placement:?} {group_set:?} {tags:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        row.iam_instance_profile,
        row.network_interface_set,
        row.block_device_mapping,
        row.metadata_options,
        row.cpu_options,
        row.monitoring,
    );
    hex(&digest::digest(&digest::SHA256, facts.as_bytes()).as_ref()[..8])
}

/// What a replacement of an instance that runs is made of.
///
/// # Errors
/// Why it cannot be launched again.
pub(super) fn blueprint(row: &Ec2Row, closer: &Closer, keeps_user_data: bool) -> Result<Blueprint, String> {
    for (what, value) in [("image", &row.image_id), ("subnet", &row.subnet_id), ("instance type", &row.instance_type)] {
        if value.is_empty() {
            return Err(format!("EC2 reports no {what} for it anymore, so it cannot be launched again"));
        }
    }
    let placement = &row.placement;
    if !matches!(placement.tenancy.as_str(), "" | "default") || !placement.host_id.is_empty() {
        return Err(format!("its tenancy is {}, which a spot instance cannot have", placement.tenancy));
    }
    if !closer.user_data.is_empty() && !keeps_user_data {
        return Err(REFUSED.into());
    }
    let mut notes = Vec::new();
    let (mut form, mut of_type) = (Form::new(), Form::new());
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            form.insert(name.into(), value.into());
        }
    };
    set("ImageId", &row.image_id);
    set("KeyName", &row.key_name);
    set("IamInstanceProfile.Arn", &row.iam_instance_profile.arn);
    set("UserData", &closer.user_data);
    // A one-time spot instance cannot be stopped, so that `stop` would be refused.
    if closer.shutdown_behavior == "terminate" {
        set("InstanceInitiatedShutdownBehavior", "terminate");
    }
    set("Placement.GroupName", &placement.group_name);
    if matches!(row.monitoring.name.as_str(), "enabled" | "pending") {
        set("Monitoring.Enabled", "true");
    }
    let metadata = &row.metadata_options;
    set("MetadataOptions.HttpTokens", &metadata.http_tokens);
    set("MetadataOptions.HttpEndpoint", &metadata.http_endpoint);
    set("MetadataOptions.HttpProtocolIpv6", &metadata.http_protocol_ipv6);
    set("MetadataOptions.InstanceMetadataTags", &metadata.instance_metadata_tags);
    if let Some(limit) = metadata.http_put_response_hop_limit {
        set("MetadataOptions.HttpPutResponseHopLimit", &limit.to_string());
    }
    let primary = interfaces(row, &mut notes);
    let groups = primary.map_or(&row.group_set.item, |it| &it.group_set.item);
    let groups = if groups.is_empty() { &row.group_set.item } else { groups };
    for (n, group) in groups.iter().enumerate() {
        set(&format!("NetworkInterface.1.SecurityGroupId.{}", n + 1), &group.group_id);
    }
    set("NetworkInterface.1.DeviceIndex", "0");
    set("NetworkInterface.1.DeleteOnTermination", "true");
    let address = primary.map(|it| &it.association).filter(|it| !it.public_ip.is_empty());
    if address.is_some_and(|it| it.ip_owner_id != "amazon") {
        notes.push("its elastic address is not moved".into());
    }
    set("NetworkInterface.1.AssociatePublicIpAddress", if address.is_some() { "true" } else { "false" });
    if row.ebs_optimized {
        of_type.insert("EbsOptimized".into(), "true".into());
    }
    // One thread on each core is mostly a choice; Arm and T2 have no other, and refuse to be told.
    let CpuOptions { core_count, threads_per_core, amd_sev_snp } = &row.cpu_options;
    let has_choice = row.architecture != "arm64" && !row.instance_type.starts_with("t2.");
    if let (Some(cores), Some(1), true) = (*core_count, *threads_per_core, has_choice) {
        of_type.insert("CpuOptions.CoreCount".into(), cores.to_string());
        of_type.insert("CpuOptions.ThreadsPerCore".into(), "1".into());
    }
    for (is_lost, what) in [
        (row.enclave_options.enabled, "it runs without Nitro Enclaves"),
        (amd_sev_snp == "enabled", "it runs without AMD SEV-SNP"),
        (row.hibernation_options.configured, "it cannot hibernate"),
        (!row.licenses.item.is_empty(), "its license configurations are not set"),
    ] {
        notes.extend(is_lost.then(|| what.into()));
    }
    let tied_by = devices(row, &closer.volumes, &mut form, &mut notes)?;
    tags(row, &mut form, &mut notes);
    let facts = LaunchFacts {
        form,
        of_type,
        kind: row.instance_type.clone(),
        zone: placement.availability_zone.clone(),
        subnet: row.subnet_id.clone(),
        vpc: row.vpc_id.clone(),
        tied_by,
        product: row.platform_details.clone(),
        targets: closer.targets.clone(),
    };
    let billing = if row.instance_lifecycle.is_empty() { Billing::OnDemand } else { Billing::Spot };
    match serde_json::json!(facts) {
        Value::Object(payload) => Ok(Blueprint { billing, notes, payload }),
        _ => Err("it cannot be described".into()),
    }
}

/// The primary interface; names what of the others is lost.
fn interfaces<'a>(row: &'a Ec2Row, notes: &mut Vec<String>) -> Option<&'a Interface> {
    let all = &row.network_interface_set.item;
    if all.len() > 1 {
        notes.push(format!("{} more network interfaces are not created again", all.len() - 1));
    }
    let primary = all.iter().find(|it| it.attachment.device_index == 0)?;
    if primary.source_dest_check == Some(false) {
        notes.push("its source/destination check is on again".into());
    }
    if primary.attachment.delete_on_termination == Some(false) {
        notes.push("its primary network interface stays behind and is not attached".into());
    }
    if !matches!(primary.interface_type.as_str(), "" | "interface") {
        notes.push(format!("its network interface is an ordinary one, and not of the type {}", primary.interface_type));
    }
    if !primary.ipv6_addresses_set.item.is_empty() {
        notes.push("its IPv6 addresses are not assigned".into());
    }
    if primary.private_ip_addresses_set.item.len() > 1 {
        notes.push("its secondary private addresses are not assigned".into());
    }
    Some(primary)
}

/// The root volume, and the volumes that were deleted with it, are created again, without their data; those that stay tie it to
/// their zone.
fn devices(
    row: &Ec2Row,
    volumes: &[Volume],
    form: &mut Form,
    notes: &mut Vec<String>,
) -> Result<Option<String>, String> {
    let (mut count, mut tied_by) = (0, None);
    for Device { device_name, ebs } in &row.block_device_mapping.item {
        if !ebs.delete_on_termination {
            notes.push(format!("volume {} ({device_name}) stays and is not attached", ebs.volume_id));
            tied_by.get_or_insert_with(|| format!("volume {}", ebs.volume_id));
            // It cannot start without a root volume, so that a new one is created like the one that stays.
            if *device_name != row.root_device_name {
                continue;
            }
        }
        let Some(volume) = volumes.iter().find(|volume| volume.volume_id == ebs.volume_id) else {
            return Err(format!("EC2 does not report the size of its volume {}", ebs.volume_id));
        };
        count += 1;
        let mut set = |name: &str, value: String| form.insert(format!("BlockDeviceMapping.{count}.{name}"), value);
        set("DeviceName", device_name.clone());
        set("Ebs.DeleteOnTermination", ebs.delete_on_termination.to_string());
        set("Ebs.VolumeSize", volume.size.to_string());
        set("Ebs.VolumeType", volume.volume_type.clone());
        if let Some(iops) = volume.iops.filter(|_| matches!(volume.volume_type.as_str(), "io1" | "io2" | "gp3")) {
            set("Ebs.Iops", iops.to_string());
        }
        if let Some(throughput) = volume.throughput.filter(|_| volume.volume_type == "gp3") {
            set("Ebs.Throughput", throughput.to_string());
        }
        if volume.encrypted {
            set("Ebs.Encrypted", "true".into());
            if !volume.kms_key_id.is_empty() {
                set("Ebs.KmsKeyId", volume.kms_key_id.clone());
            }
        }
    }
    Ok(tied_by)
}

/// Its own tags, without those that only AWS may set and without ours, which a launch adds; its name first, since there may be
/// too many.
fn tags(row: &Ec2Row, form: &mut Form, notes: &mut Vec<String>) {
    let is_kept = |key: &str| !key.starts_with("aws:") && !matches!(key, ORIGIN | REPLACES | RETIRED | TARGETS);
    let mut tags: Vec<_> = row.tag_set.item.iter().filter(|tag| is_kept(&tag.key)).collect();
    tags.sort_by(|a, b| (a.key != "Name", a).cmp(&(b.key != "Name", b)));
    if tags.len() > MOST_TAGS - OWN_TAGS {
        let left_out: Vec<&str> = tags.drain(MOST_TAGS - OWN_TAGS..).map(|tag| tag.key.as_str()).collect();
        notes.push(format!("its tags {} are not set: EC2 allows {MOST_TAGS}", left_out.join(", ")));
    }
    for (specification, resource) in [(1, "instance"), (2, "volume")] {
        form.insert(format!("TagSpecification.{specification}.ResourceType"), resource.into());
        for (n, tag) in tags.iter().enumerate() {
            let name = format!("TagSpecification.{specification}.Tag.{}", n + 1);
            form.insert(format!("{name}.Key"), tag.key.clone());
            form.insert(format!("{name}.Value"), tag.value.clone());
        }
    }
}

/// The parameters that launch a replacement in a place, but for the token.
///
/// # Errors
/// When the marker has no letters.
pub(super) fn launch(
    facts: &LaunchFacts,
    billing: &Billing,
    (marker, old): (&str, &InstanceId),
    (place, subnet): (&Place, &str),
) -> Result<Form, String> {
    let letters = letters_of_marker(marker).ok_or("the replacement has no marker")?;
    let mut form = facts.form.clone();
    if *place.product == *facts.kind {
        form.extend(facts.of_type.clone());
    }
    let mut set = |name: String, value: &str| form.insert(name, value.to_owned());
    set("InstanceType".into(), &place.product);
    set("MinCount".into(), "1");
    set("MaxCount".into(), "1");
    set("NetworkInterface.1.SubnetId".into(), subnet);
    if *billing == Billing::Spot {
        set("InstanceMarketOptions.MarketType".into(), "spot");
        set("InstanceMarketOptions.SpotOptions.SpotInstanceType".into(), "one-time");
    }
    for specification in [1, 2] {
        let is_key =
            |name: &&String| name.starts_with(&format!("TagSpecification.{specification}.")) && name.ends_with(".Key");
        let count = facts.form.keys().filter(is_key).count();
        let targets = (TARGETS, facts.targets.as_str());
        let has_targets = specification == 1 && !targets.1.is_empty();
        let own = [(ORIGIN, letters), (REPLACES, old.as_str())].into_iter().chain(has_targets.then_some(targets));
        for (n, (key, value)) in own.enumerate() {
            let name = format!("TagSpecification.{specification}.Tag.{}", count + n + 1);
            form.insert(format!("{name}.Key"), key.into());
            form.insert(format!("{name}.Value"), value.into());
        }
    }
    Ok(form)
}

/// The token of a request: the same request has the same, in every pass. `round` tells apart the launches whose instances
/// have come and gone.
pub(super) fn token(form: &Form, round: u32) -> String {
    let text = form.iter().fold(format!("{round}\n"), |text, (name, value)| text + name + "=" + value + "\n");
    let hash = hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    format!("{TOKEN_PREFIX}{}", &hash[..48])
}

/// The body of a call.
pub(super) fn encoded<'a>(form: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}
