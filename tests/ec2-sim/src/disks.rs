//! The block devices of a launch.

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::machine::Shape;
use crate::plan::PlannedDisk;
use crate::region::{ROOT_DEVICE, ROOT_GIB, Region};

/// The devices of a launch: the image's root, as it is changed, and those that are added.
pub(crate) fn read_disks(form: &Form, region: &Region, image: &str) -> Answer<Vec<PlannedDisk>> {
    let snapshot = Region::snapshot_of(image);
    let mut disks = vec![PlannedDisk {
        device: ROOT_DEVICE.to_owned(),
        shape: Shape {
            gib: ROOT_GIB,
            kind: "gp3".to_owned(),
            iops: Some(3_000),
            throughput: Some(125),
            encrypted: false,
            kms_key: None,
            snapshot: Some(snapshot.clone()),
        },
        delete_on_termination: true,
    }];
    let mut seen: Vec<&str> = Vec::new();
    for number in form.members("BlockDeviceMapping") {
        let at = |name: &str| format!("BlockDeviceMapping.{number}.{name}");
        let device = form.need(&at("DeviceName"))?;
        if seen.contains(&device) {
            let message = format!("Device name {device} is used twice.");
            return Err(ApiError::new("InvalidBlockDeviceMapping", message));
        }
        seen.push(device);
        if form.has(&at("NoDevice")) || form.has(&at("VirtualName")) {
            continue;
        }
        let is_root = device == ROOT_DEVICE;
        let given = form.owned(&at("Ebs.SnapshotId"));
        if let Some(given) = given.as_ref().filter(|given| **given != snapshot) {
            let message = format!("The snapshot '{given}' does not exist.");
            return Err(ApiError::new("InvalidSnapshot.NotFound", message));
        }
        let from = if is_root { Some(snapshot.clone()) } else { given };
        let shape = read_shape(form, &format!("BlockDeviceMapping.{number}.Ebs"), region, from)?;
        let disk = PlannedDisk {
            device: device.to_owned(),
            shape,
            delete_on_termination: form.flag(&at("Ebs.DeleteOnTermination")).unwrap_or(true),
        };
        match disks.first_mut().filter(|_| is_root) {
            Some(root) => *root = disk,
            None => disks.push(disk),
        }
    }
    Ok(disks)
}

fn read_shape(form: &Form, at: &str, region: &Region, snapshot: Option<String>) -> Answer<Shape> {
    let number = |name: &str| form.count(&format!("{at}.{name}"));
    let least = if snapshot.is_some() { ROOT_GIB } else { 1 };
    let gib = match number("VolumeSize") {
        Some(gib) => gib,
        None if snapshot.is_some() => ROOT_GIB,
        None => return Err(ApiError::missing(&format!("{at}.VolumeSize"))),
    };
    if gib < least {
        let of = snapshot.as_deref().unwrap_or("none");
        let message = format!("Volume of size {gib}GB is smaller than snapshot '{of}', expect size >= {least}GB");
        return Err(ApiError::new("InvalidBlockDeviceMapping", message));
    }
    let kind = form.owned(&format!("{at}.VolumeType")).unwrap_or_else(|| "gp2".to_owned());
    let (mut iops, mut throughput) = (number("Iops"), number("Throughput"));
    match kind.as_str() {
        "gp3" => {
            iops = iops.or(Some(3_000));
            throughput = throughput.or(Some(125));
        }
        "io1" | "io2" if iops.is_none() => return Err(ApiError::missing(&format!("{at}.Iops"))),
        "io1" | "io2" => {}
        _ if iops.is_some() => {
            let message = format!("The parameter iops is not supported for {kind} volumes.");
            return Err(ApiError::combination(message));
        }
        "gp2" => iops = Some((gib * 3).clamp(100, 16_000)),
        _ => {}
    }
    if throughput.is_some() && kind != "gp3" {
        let message = format!("The parameter throughput is not supported for {kind} volumes.");
        return Err(ApiError::combination(message));
    }
    let encrypted = form.flag(&format!("{at}.Encrypted")).unwrap_or_default();
    let given = form.owned(&format!("{at}.KmsKeyId"));
    if given.is_some() && !encrypted {
        let message = "The parameter KmsKeyId requires the parameter Encrypted to be set.";
        return Err(ApiError::new("InvalidParameterDependency", message));
    }
    let kms_key = given.or_else(|| encrypted.then(|| region.kms_key.clone()));
    Ok(Shape { gib, kind, iops, throughput, encrypted, kms_key, snapshot })
}
