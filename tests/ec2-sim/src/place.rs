//! Making instances: what a launch leaves behind, whoever asked for it.

use std::collections::BTreeMap;

use crate::machine::{Disk, Instance, Interface, State, Volume};
use crate::metrics::History;
use crate::plan::{Market, Plan, PlannedDisk, PlannedInterface};
use crate::spot::{RequestState, SpotRequest};
use crate::time::Event;
use crate::world::World;

impl World {
    /// Makes the instance of a plan, pending. A spot instance gets a request of its own unless there is one already.
    pub(crate) fn place(
        &mut self,
        region: usize,
        plan: Plan,
        launched: i64,
        reservation: String,
        request: Option<&str>,
    ) -> usize {
        let id = self.fresh("i");
        let request = match (request, &plan.market) {
            (Some(request), _) => Some(request.to_owned()),
            (None, Market::Spot { persistent, behavior, max_price }) => {
                let (persistent, behavior, max_price) = (*persistent, *behavior, max_price.clone());
                let regular = self.regions[region].on_demand_price(&plan.kind, &plan.zone).unwrap_or("1.0");
                let max_price = max_price.unwrap_or_else(|| regular.to_owned());
                let request = SpotRequest {
                    id: self.fresh_request_id(),
                    region: self.regions[region].name.clone(),
                    state: RequestState::Active,
                    code: "fulfilled".to_owned(),
                    updated_ms: launched,
                    created_ms: launched,
                    instance: Some(id.clone()),
                    persistent,
                    behavior,
                    max_price: format!("{:.6}", max_price.parse::<f64>().unwrap_or_default()),
                    tags: plan.request_tags.clone(),
                    plan: Plan { tags: BTreeMap::new(), client_token: None, ..plan.clone() },
                    visible_ms: launched + self.rules.visible_after_ms,
                    gone_ms: None,
                    epoch: 0,
                };
                let id = request.id.clone();
                self.requests_by_id.insert(id.clone(), self.requests.len());
                self.requests.push(request);
                Some(id)
            }
            (None, Market::OnDemand) => None,
        };
        let region_name = self.regions[region].name.clone();
        let mut disks = Vec::new();
        for disk in &plan.disks {
            disks.push(self.make_volume(&region_name, &plan, disk, &id, launched));
        }
        let mut interfaces = Vec::new();
        for interface in &plan.interfaces {
            interfaces.push(self.make_interface(region, interface, launched));
        }
        let seen_from = launched + self.rules.tags_visible_after_ms;
        let tag_times = plan.tags.keys().map(|key| (key.clone(), (seen_from, i64::MAX))).collect();
        let slot = self.instances.len();
        self.by_id.insert(id.clone(), slot);
        self.instances.push(Instance {
            id,
            region: region_name,
            state: State::Pending,
            tags: plan.tags,
            kind: plan.kind,
            zone: plan.zone,
            subnet: plan.subnet,
            lifecycle: plan.market.lifecycle(),
            client_token: plan.client_token,
            user_data: plan.user_data,
            request,
            launched_ms: launched,
            started_ms: launched,
            ended_ms: None,
            terminated_ms: None,
            ended_by: None,
            noticed_ms: None,
            state_reason: None,
            transition_reason: String::new(),
            facts: plan.facts,
            reservation,
            disks,
            interfaces,
            row_gone_ms: None,
            visible_ms: launched + self.rules.visible_after_ms,
            tag_times,
            epoch: 0,
            dies_with: None,
            launch_index: 0,
            history: History::began(launched),
        });
        self.plan_at(launched + self.rules.boot_ms, Event::Boot { slot, epoch: 0 });
        slot
    }

    fn make_volume(&mut self, region: &str, plan: &Plan, disk: &PlannedDisk, id: &str, now: i64) -> Disk {
        let volume = Volume {
            id: self.fresh("vol"),
            region: region.to_owned(),
            zone: plan.zone.clone(),
            shape: disk.shape.clone(),
            tags: plan.volume_tags.clone(),
            created_ms: now,
            attached_to: Some(id.to_owned()),
            is_deleted: false,
        };
        let made = Disk {
            device: disk.device.clone(),
            volume: volume.id.clone(),
            delete_on_termination: disk.delete_on_termination,
            attached_ms: now + 1_000,
        };
        self.volumes.insert(volume.id.clone(), volume);
        made
    }

    fn make_interface(&mut self, region: usize, planned: &PlannedInterface, now: i64) -> Interface {
        let public_address = planned.public.then(|| self.fresh_public_address());
        let mac: Vec<_> = (0..5).map(|_| format!("{:02x}", self.rng.u8(..))).collect();
        let (id, attachment) = (self.fresh("eni"), self.fresh("eni-attach"));
        let zone = self.regions[region].zones.iter_mut().find(|zone| zone.subnet == planned.subnet);
        let address = zone.map(|zone| {
            zone.free_addresses = zone.free_addresses.saturating_sub(1);
            planned.address.clone().unwrap_or_else(|| zone.next_address())
        });
        Interface {
            id,
            attachment,
            index: planned.index,
            subnet: planned.subnet.clone(),
            groups: planned.groups.clone(),
            address: address.unwrap_or_default(),
            public_address,
            public_at_start: planned.public,
            mac: format!("02:{}", mac.join(":")),
            delete_on_termination: planned.delete_on_termination,
            source_dest_check: true,
            description: planned.description.clone(),
            attached_ms: now,
        }
    }

    pub(crate) fn fresh_public_address(&mut self) -> String {
        format!("203.0.113.{}", self.rng.u8(1..255))
    }

    /// Requests have short ids: `sir-` and eight letters or digits.
    fn fresh_request_id(&mut self) -> String {
        let letters: String = (0..8).map(|_| self.rng.digit(36)).collect();
        format!("sir-{letters}")
    }
}
