//! DescribeInstanceTypes and DescribeInstanceTypeOfferings.

use crate::catalog::{KINDS, Kind};
use crate::error::{Answer, ApiError};
use crate::filter::Filters;
use crate::form::Form;
use crate::world::World;
use crate::xml::Xml;

const FILTERS: [&str; 7] = [
    "bare-metal",
    "current-generation",
    "instance-type",
    "memory-info.size-in-mib",
    "processor-info.supported-architecture",
    "supported-usage-class",
    "vcpu-info.default-vcpus",
];

impl World {
    pub(crate) fn describe_instance_types(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &FILTERS)?;
        let names = form.list("InstanceType");
        if !names.is_empty() && form.has("MaxResults") {
            let message = "The parameter instanceTypes cannot be used with the parameter maxResults";
            return Err(ApiError::combination(message));
        }
        let (rows, token) = self.page(region, form, (5, 100), |_| {
            let unknown: Vec<_> = names.iter().copied().filter(|name| Kind::named(name).is_none()).collect();
            if !unknown.is_empty() {
                let message = format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
                return Err(ApiError::new("InvalidInstanceType", message));
            }
            let rows = KINDS.iter().filter(|kind| names.is_empty() || names.contains(&kind.name));
            let rows = rows.filter(|kind| filters.keep(|name| kind_facts(kind, name)));
            Ok(rows.map(|kind| kind.name.to_owned()).collect())
        })?;
        let mut xml = Xml::new();
        xml.set("instanceTypeSet", rows.iter().filter_map(|name| Kind::named(name)), write_kind);
        xml.next_token(token.as_deref(), self.chance().bool());
        Ok(xml.into_text())
    }

    pub(crate) fn describe_instance_type_offerings(&mut self, region: &str, form: &Form) -> Answer<String> {
        let filters = Filters::read(form, &["instance-type", "location"])?;
        let location_type = form.get("LocationType").unwrap_or("region").to_owned();
        let place = self.region_place(region);
        let (rows, token) = self.page(region, form, (5, 1_000), |world| {
            let region = &world.regions[place];
            let mut rows = Vec::new();
            for kind in &KINDS {
                let zones = region.zones.iter().filter(|zone| kind.is_sold_in(&zone.name));
                let locations: Vec<&str> = match location_type.as_str() {
                    "availability-zone" => zones.map(|zone| zone.name.as_str()).collect(),
                    "availability-zone-id" => zones.map(|zone| zone.id.as_str()).collect(),
                    "region" => vec![&region.name],
                    _ => Vec::new(),
                };
                for location in locations {
                    let is_kept = filters.keep(|name| match name {
                        "instance-type" => vec![kind.name.to_owned()],
                        "location" => vec![location.to_owned()],
                        _ => Vec::new(),
                    });
                    if is_kept {
                        rows.push(format!("{}|{location}", kind.name));
                    }
                }
            }
            Ok(rows)
        })?;
        let mut xml = Xml::new();
        let rows = rows.iter().filter_map(|row| row.split_once('|'));
        xml.set("instanceTypeOfferingSet", rows, |xml, (kind, location)| {
            xml.text("instanceType", kind);
            xml.text("locationType", &location_type);
            xml.text("location", location);
        });
        xml.next_token(token.as_deref(), self.chance().bool());
        Ok(xml.into_text())
    }
}

fn kind_facts(kind: &Kind, name: &str) -> Vec<String> {
    let value = match name {
        "instance-type" => kind.name.to_owned(),
        "processor-info.supported-architecture" => kind.arch.to_owned(),
        "vcpu-info.default-vcpus" => kind.vcpus.to_string(),
        "memory-info.size-in-mib" => kind.memory_mib.to_string(),
        "current-generation" => "true".to_owned(),
        "bare-metal" => "false".to_owned(),
        "supported-usage-class" => return vec!["on-demand".to_owned(), "spot".to_owned()],
        _ => return Vec::new(),
    };
    vec![value]
}

fn write_kind(xml: &mut Xml, kind: &Kind) {
    xml.text("instanceType", kind.name);
    xml.text("currentGeneration", true);
    xml.text("freeTierEligible", false);
    xml.words("supportedUsageClasses", ["on-demand", "spot"]);
    xml.words("supportedRootDeviceTypes", ["ebs"]);
    xml.words("supportedVirtualizationTypes", ["hvm"]);
    xml.text("bareMetal", false);
    xml.text("hypervisor", "nitro");
    xml.node("processorInfo", |xml| {
        xml.words("supportedArchitectures", [kind.arch]);
        xml.text("sustainedClockSpeedInGhz", 3.1);
        xml.text("manufacturer", kind.maker);
    });
    xml.node("vCpuInfo", |xml| {
        xml.text("defaultVCpus", kind.vcpus);
        xml.text("defaultCores", kind.cores());
        xml.text("defaultThreadsPerCore", kind.threads);
        xml.words("validCores", 1..=kind.cores());
        xml.words("validThreadsPerCore", 1..=kind.threads);
    });
    xml.node("memoryInfo", |xml| xml.text("sizeInMiB", kind.memory_mib));
    xml.text("instanceStorageSupported", kind.store_gb > 0);
    if kind.store_gb > 0 {
        xml.node("instanceStorageInfo", |xml| {
            xml.text("totalSizeInGB", kind.store_gb);
            xml.set("disks", [kind.store_gb], |xml, size| {
                xml.text("sizeInGB", size);
                xml.text("count", 1);
                xml.text("type", "ssd");
            });
            xml.text("nvmeSupport", "required");
            xml.text("encryptionSupport", "required");
        });
    }
    xml.node("ebsInfo", |xml| {
        xml.text("ebsOptimizedSupport", "default");
        xml.text("encryptionSupport", "supported");
        xml.text("nvmeSupport", "required");
    });
    xml.node("networkInfo", |xml| {
        xml.text("networkPerformance", kind.network);
        xml.text("maximumNetworkInterfaces", if kind.gpu.is_some() { 4 } else { 3 });
        xml.text("maximumNetworkCards", 1);
        xml.text("defaultNetworkCardIndex", 0);
        xml.text("ipv4AddressesPerInterface", 10);
        xml.text("ipv6AddressesPerInterface", 10);
        xml.text("ipv6Supported", true);
        xml.text("enaSupport", "required");
        xml.text("efaSupported", false);
        xml.text("encryptionInTransitSupported", kind.gpu.is_some());
    });
    if let Some(gpu) = kind.gpu {
        xml.node("gpuInfo", |xml| {
            xml.set("gpus", [gpu], |xml, gpu| {
                xml.text("name", gpu.name);
                xml.text("manufacturer", "NVIDIA");
                xml.text("count", gpu.count);
                xml.text("logicalGpuCount", gpu.count);
                xml.text("gpuPartitionSize", 1.0);
                xml.node("memoryInfo", |xml| xml.text("sizeInMiB", gpu.memory_mib));
            });
            xml.text("totalGpuMemoryInMiB", gpu.memory_mib * gpu.count);
        });
    }
    xml.node("placementGroupInfo", |xml| xml.words("supportedStrategies", ["cluster", "partition", "spread"]));
    xml.text("hibernationSupported", kind.name.starts_with("m5"));
    xml.text("burstablePerformanceSupported", kind.burstable);
    xml.text("dedicatedHostsSupported", false);
    xml.text("autoRecoverySupported", true);
    xml.words("supportedBootModes", ["uefi"]);
    xml.text("nitroEnclavesSupport", "unsupported");
    xml.text("nitroTpmSupport", "unsupported");
}
