//! What an analysis reads of instances: their sizes, what a move would lose, and their load (`docs/ec2-api.md` sections 3.8
//! and 4.6).

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Ec2Client;
use super::region::ask_json;
use super::states;
use super::wire::{self, Attributes, Ec2Row, RowPage, TypeFacts, Volume};
use crate::cloud::request::Requests;
use crate::cloud::transport::Transport;
use crate::cloud::{CloudError, CloudRead as _, Progress};
use crate::core::rollout::findings::{Fittings, ListedInstance};
use crate::core::rollout::metrics::{Metrics, Point};
use crate::core::world::instance::{Billing, Instance, InstanceId, Status};
use crate::core::world::snapshot::Listing;
use crate::core::world::time::Timestamp;

/// The most reads of one kind in flight.
const AT_ONCE: usize = 16;

/// The most pages of an answer of CloudWatch.
const MOST_PAGES: usize = 20;

/// The platform of most instances, and the only one whose price is looked up by the type alone.
pub(super) const LINUX: &str = "Linux/UNIX";

impl<T: Transport> Ec2Client<T> {
    /// Every instance; those that could be moved with what an analysis needs.
    pub(super) async fn listed(&self, progress: Progress<'_>) -> Result<Listing<ListedInstance>, CloudError> {
        let Listing { items, shortfall } = self.instances(progress).await?;
        self.read_types().await?;
        let listed = items.into_iter().map(async |instance| {
            let row = self.rows.borrow().get(&instance.id).cloned();
            match row {
                Some((region, row)) => Box::pin(self.fitted(region, &row, instance)).await,
                None => bare(instance),
            }
        });
        Ok(Listing { items: stream::iter(listed).buffered(AT_ONCE).collect().await, shortfall })
    }

    /// What an analysis does not know.
    pub(super) fn unknowns(&self) -> Vec<String> {
        let rows = self.rows.borrow();
        let is_left_out = |row: &Ec2Row| {
            let is_on_demand = row.instance_lifecycle.is_empty() && row.instance_state.name == "running";
            is_on_demand && !states::is_ours(row, &self.terms.opt_in)
        };
        let left_out = rows.values().filter(|(_, row)| is_left_out(row)).count();
        let covered = "whether a Savings Plan or a Reserved Instance covers an instance is not known: moving one that is \
                       covered saves nothing";
        let opt_in = &self.terms.opt_in;
        let untagged =
            format!("not analyzed, since they lack the tag {opt_in} or another program manages them: {left_out}");
        let untagged = (left_out > 0).then_some(untagged);
        let unseen = match (self.balance.borrow().unread.first(), self.terms.target_groups.is_empty()) {
            (Some((group, error)), _) => Some(format!("what is in the target group {group} could not be read: {error}")),
            (None, true) => Some(
                "whether an instance is in a target group of a load balancer is not known: RESPOT_EC2_TARGET_GROUPS names none"
                    .to_owned(),
            ),
            (None, false) => None,
        };
        let unpriced = self
            .unpriced
            .borrow()
            .as_ref()
            .map(|error| format!("on-demand prices could not be read, name them in RESPOT_EC2_PRICES: {error}"));
        untagged.into_iter().chain(unpriced).chain(unseen).chain([covered.to_owned()]).collect()
    }

    /// Reads what the types of all listed instances are.
    pub(super) async fn read_types(&self) -> Result<(), CloudError> {
        for (number, region) in self.regions.iter().enumerate() {
            let wanted: BTreeSet<String> = {
                let (rows, known) = (self.rows.borrow(), self.types.borrow());
                let here = rows.values().filter(|(at, row)| *at == number && !row.is_over());
                let kinds = here.map(|(_, row)| &row.instance_type).filter(|kind| !kind.is_empty());
                kinds.filter(|kind| !known.contains_key(*kind)).cloned().collect()
            };
            let wanted: Vec<String> = wanted.into_iter().collect();
            let found =
                region.filtered::<RowPage<TypeFacts>>("DescribeInstanceTypes", "instance-type", &wanted).await?;
            self.types.borrow_mut().extend(found.into_iter().map(|it| (it.instance_type.clone(), it)));
        }
        Ok(())
    }

    async fn fitted(&self, region: usize, row: &Ec2Row, instance: Instance) -> ListedInstance {
        let facts = self.types.borrow().get(&row.instance_type).cloned().unwrap_or_default();
        let product_name = match row.platform_details.as_str() {
            "" | LINUX => row.instance_type.clone(),
            platform => format!("{} {platform}", row.instance_type),
        };
        let is_candidate = instance.billing == Billing::OnDemand
            && instance.status == Status::Running
            && states::is_ours(row, &self.terms.opt_in);
        let (rootfs_size, fittings) = match is_candidate {
            true => match self.losses(region, row, &facts).await {
                Ok((size, mut fittings)) => {
                    let groups = self.balance.borrow().of(region, &row.instance_id);
                    let carried = groups
                        .iter()
                        .map(|it| format!("its place in the target group {it} passes to the new instance"));
                    fittings.carried.extend(carried);
                    (size, Ok(fittings))
                }
                Err(error) => (None, Err(error.to_string())),
            },
            false => (None, Err("it is not read of those that stay".into())),
        };
        ListedInstance {
            product_name,
            cpu_num: facts.cpus(),
            memory_gb: facts.memory_gb(),
            rootfs_size,
            fittings,
            endpoints: states::endpoints(row),
            ..bare(instance)
        }
    }

    /// What a move would lose, and the size of the root volume in GiB.
    async fn losses(
        &self,
        region: usize,
        row: &Ec2Row,
        facts: &TypeFacts,
    ) -> Result<(Option<u32>, Fittings), CloudError> {
        self.check_whole(region, row)?;
        let devices = &row.block_device_mapping.item;
        let ids: Vec<String> = devices.iter().map(|it| it.ebs.volume_id.clone()).collect();
        let protection =
            [("InstanceId".to_owned(), row.instance_id.clone()), ("Attribute".into(), "disableApiTermination".into())];
        let here = &self.regions[region];
        let (volumes, protection) = futures_util::future::try_join(
            here.filtered::<RowPage<Volume>>("DescribeVolumes", "volume-id", &ids),
            here.call("DescribeInstanceAttribute", &protection, wire::read::<Attributes>),
        )
        .await?;
        let root = devices.iter().find(|it| it.device_name == row.root_device_name);
        let size = root.and_then(|root| volumes.iter().find(|it| it.volume_id == root.ebs.volume_id)).map(|it| it.size);
        let mut local_volumes = Vec::new();
        let mut consents = Vec::new();
        for device in devices.iter().filter(|it| it.device_name != row.root_device_name) {
            match device.ebs.delete_on_termination {
                true => local_volumes.push(device.device_name.clone()),
                false => consents.push(format!(
                    "volume {} ({}) stays with the old instance and is not attached to the new one",
                    device.ebs.volume_id, device.device_name
                )),
            }
        }
        if let Some(gib) = facts.instance_storage_info.total_size_in_gb.filter(|gib| *gib > 0) {
            local_volumes.push(format!("the instance store ({gib} GB)"));
        }
        let first = row.network_interface_set.item.iter().find(|it| it.attachment.device_index == 0);
        let elastic =
            first.map(|it| &it.association).filter(|it| !it.public_ip.is_empty() && it.ip_owner_id != "amazon");
        consents.extend(elastic.map(|it| format!("its elastic address {} is not moved", it.public_ip)));
        let is_protected = protection.disable_api_termination.value == "true";
        let obstacles = [
            (is_protected, "its termination protection is on, so that it could not be retired"),
            (self.is_host(&row.instance_id), "this program runs on it"),
        ];
        let obstacles = obstacles.into_iter().filter(|(is_one, _)| *is_one).map(|(_, what)| what.to_owned());
        let fittings = Fittings {
            addressed: Some("its network interface".into()),
            network_volumes: Vec::new(),
            local_volumes,
            disk: "root volume",
            carried: Vec::new(),
            consents,
            obstacles: obstacles.collect(),
        };
        Ok((size, fittings))
    }

    /// The load of an instance by CloudWatch, which knows its CPU; its GPU, memory and disk only where an agent reports them.
    pub(super) async fn measured(
        &self,
        id: &InstanceId,
        (from, to): (Timestamp, Timestamp),
        interval: Duration,
    ) -> Result<Option<Metrics>, CloudError> {
        let Some((region, kind)) = self.rows.borrow().get(id).map(|(at, row)| (*at, row.instance_type.clone())) else {
            return Ok(None);
        };
        let query = |id: &str, namespace: &str, metric: &str, instance: &InstanceId| {
            json!({
                "Id": id,
                "MetricStat": {
                    "Metric": {
                        "Namespace": namespace,
                        "MetricName": metric,
                        "Dimensions": [{"Name": "InstanceId", "Value": instance.as_str()}],
                    },
                    "Period": interval.as_secs().max(60),
                    "Stat": "Average",
                },
            })
        };
        let queries =
            [query("cpu", "AWS/EC2", "CPUUtilization", id), query("gpu", "CWAgent", "nvidia_smi_utilization_gpu", id)];
        let mut body = json!({"StartTime": from.as_secs(), "EndTime": to.as_secs(), "MetricDataQueries": queries});
        let requests = &self.regions[region].metrics;
        let (mut cpu, gpu) = read_series(requests, &mut body).await?;
        let facts = self.types.borrow().get(&kind).cloned().unwrap_or_default();
        // Everyone else's series of a CPU sums its cores.
        cpu.iter_mut().for_each(|point| point.value = point.value.saturating_mul(facts.cpus().unwrap_or(1)));
        let unreported = if gpu.is_empty() { Some("GPU load") } else { None };
        Ok(Some(Metrics { cpu, gpu, unreported, ..Metrics::default() }))
    }
}

/// The series of both queries, page by page.
async fn read_series<T: Transport>(
    requests: &Requests<T, super::refusal::Ec2>,
    body: &mut Value,
) -> Result<(Vec<Point>, Vec<Point>), CloudError> {
    let (mut cpu, mut gpu) = (Vec::new(), Vec::new());
    for _ in 0..MOST_PAGES {
        let page: MetricPage = ask_json(requests, "GetMetricData", body).await?;
        for series in page.metric_data_results {
            let points = series.timestamps.iter().zip(&series.values).filter_map(|(at, value)| point(*at, *value));
            if series.id == "cpu" { &mut cpu } else { &mut gpu }.extend(points);
        }
        match page.next_token.filter(|token| !token.is_empty()) {
            Some(token) => body["NextToken"] = token.into(),
            None => break,
        }
    }
    cpu.sort_by_key(|it: &Point| it.at);
    gpu.sort_by_key(|it: &Point| it.at);
    Ok((cpu, gpu))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both are checked to be in range")]
fn point(at: f64, percent: f64) -> Option<Point> {
    let is_sound = (0.0..1e11).contains(&at) && (0.0..=100.0).contains(&percent);
    is_sound.then(|| Point { at: Timestamp::from_secs(at as i64), value: (percent * 100.0).round() as u32 })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricPage {
    #[serde(default)]
    metric_data_results: Vec<MetricSeries>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricSeries {
    id: String,
    /// Seconds since 1970.
    #[serde(default)]
    timestamps: Vec<f64>,
    #[serde(default)]
    values: Vec<f64>,
}

/// A row of which nothing more is known.
fn bare(instance: Instance) -> ListedInstance {
    ListedInstance {
        product_name: instance.place.as_ref().map_or_else(String::new, |place| place.product.to_string()),
        gpu_num: Some(1),
        cpu_num: None,
        memory_gb: None,
        rootfs_size: None,
        fittings: Err("it is not listed any more".into()),
        endpoints: Vec::new(),
        instance,
    }
}
