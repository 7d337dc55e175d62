//! RunInstances.

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::machine::Lifecycle;
use crate::order::Order;
use crate::plan::Plan;
use crate::time::Event;
use crate::world::World;
use crate::xml::Xml;

impl World {
    pub(crate) fn run_instances(&mut self, region: &str, form: &Form) -> Answer<String> {
        let place = self.region_place(region);
        let Order { plan, zone_is_given, least, most } = self.read_order(place, form)?;
        form.unless_dry_run()?;
        let scope = if zone_is_given { plan.zone.clone() } else { region.to_owned() };
        let fingerprint = form.fingerprint(&["ClientToken"]);
        if let Some(token) = form.get("ClientToken")
            && let Some(instances) = self.earlier(&scope, token, &fingerprint)?
        {
            return Ok(self.answer_launch(&instances));
        }
        let plan = self.choose_zone(place, plan, zone_is_given)?;
        let count = self.count_possible(place, &plan, least, most)?;
        let reservation = self.fresh("r");
        let mut launched = Vec::new();
        for index in 0..count {
            launched.push(self.launch(place, plan.clone(), &reservation, index));
        }
        if let Some(token) = form.get("ClientToken") {
            self.remember(&scope, token, fingerprint, launched.clone());
        }
        Ok(self.answer_launch(&launched))
    }

    /// Where nobody said the zone, EC2 takes one with room.
    fn choose_zone(&mut self, place: usize, plan: Plan, zone_is_given: bool) -> Answer<Plan> {
        let region = &self.regions[place];
        let kind = crate::catalog::Kind::named(&plan.kind);
        let is_sold = |zone: &str| kind.is_some_and(|kind| kind.is_sold_in(zone));
        if zone_is_given {
            if is_sold(&plan.zone) {
                return Ok(plan);
            }
            let others = region.zones.iter().map(|zone| zone.name.as_str()).filter(|zone| is_sold(zone));
            let message = format!(
                "Your requested instance type ({}) is not supported in your requested Availability Zone ({}). Please retry \
                 your request by not specifying an Availability Zone or choosing {}.",
                plan.kind,
                plan.zone,
                others.collect::<Vec<_>>().join(", ")
            );
            return Err(ApiError::new("Unsupported", message));
        }
        let market = plan.market.lifecycle();
        let has_room = |zone: &&str| is_sold(zone) && region.room(market, &plan.kind, zone) != Some(0);
        let zones: Vec<_> = region.zones.iter().map(|zone| zone.name.as_str()).filter(has_room).collect();
        let chosen = self.rng.choice(zones).map(str::to_owned).unwrap_or_else(|| plan.zone.clone());
        let subnet = region.subnet(&chosen);
        let mut plan = plan;
        for interface in &mut plan.interfaces {
            interface.subnet.clone_from(&subnet);
        }
        Ok(Plan { zone: chosen, subnet, ..plan })
    }

    /// How many of the wanted instances there are quota, addresses and room for: in this order.
    fn count_possible(&mut self, place: usize, plan: &Plan, least: u32, most: u32) -> Answer<u32> {
        let Some(kind) = crate::catalog::Kind::named(&plan.kind) else { return Ok(0) };
        let region = &self.regions[place];
        let market = plan.market.lifecycle();
        let quota = region.quota(market, kind.group);
        let taken = self.vcpus_taken(&region.name, market, kind.group);
        let by_quota = quota.saturating_sub(taken) / kind.vcpus;
        if by_quota < least {
            return Err(over_quota(market, quota));
        }
        let free = region.zone_of(&plan.subnet).map_or(0, |zone| zone.free_addresses);
        let per_instance = u32::try_from(plan.interfaces.len().max(1)).unwrap_or(u32::MAX);
        if free / per_instance < least {
            let message = format!("There are not enough free addresses in subnet '{}'.", plan.subnet);
            return Err(ApiError::new("InsufficientFreeAddressesInSubnet", message));
        }
        if let crate::plan::Market::Spot { max_price: Some(most), .. } = &plan.market {
            let price = region.spot_price(&plan.kind, &plan.zone).and_then(|price| price.parse::<f64>().ok());
            if price.is_some_and(|price| most.parse::<f64>().is_ok_and(|most| most < price)) {
                let message =
                    "Your Spot request price is lower than the minimum required Spot request fulfillment price.";
                return Err(ApiError::new("SpotMaxPriceTooLow", message));
            }
        }
        let room = region.room(market, &plan.kind, &plan.zone).unwrap_or(u32::MAX);
        if room < least {
            return Err(no_room(market, &plan.kind, &plan.zone));
        }
        Ok(most.min(by_quota).min(free / per_instance).min(room))
    }

    fn launch(&mut self, place: usize, plan: Plan, reservation: &str, index: u32) -> String {
        let now = self.now;
        self.regions[place].take_room(plan.market.lifecycle(), &plan.kind, &plan.zone);
        let slot = self.place(place, plan, now, reservation.to_owned(), None);
        self.effects += 1;
        self.launches += 1;
        let instance = &mut self.instances[slot];
        instance.launch_index = usize::try_from(index).unwrap_or_default();
        let id = instance.id.clone();
        if let Some(code) = self.deaths.pop_front() {
            instance.dies_with = Some(code);
            instance.epoch += 1;
            let epoch = instance.epoch;
            self.plan_at(now + self.rules.launch_death_ms, Event::Boot { slot, epoch });
        }
        id
    }

    fn answer_launch(&self, instances: &[String]) -> String {
        let slots: Vec<_> = instances.iter().filter_map(|id| self.by_id.get(id).copied()).collect();
        let mut xml = Xml::new();
        self.write_reservation(&mut xml, &slots, &mut self.chance());
        xml.into_text()
    }
}

/// There are not enough vCPUs left in a quota.
pub(crate) fn over_quota(market: Lifecycle, quota: u32) -> ApiError {
    match market {
        Lifecycle::Spot => ApiError::new("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"),
        Lifecycle::OnDemand => {
            let message = format!(
                "You have requested more vCPU capacity than your current vCPU limit of {quota} allows for the instance \
                 bucket that the specified instance type belongs to. Please visit \
                 http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
            );
            ApiError::new("VcpuLimitExceeded", message)
        }
    }
}

/// There is no place left in a pool.
pub(crate) fn no_room(market: Lifecycle, kind: &str, zone: &str) -> ApiError {
    let message = match market {
        Lifecycle::Spot => "There is no Spot capacity available that matches your request.".to_owned(),
        Lifecycle::OnDemand => format!(
            "We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). Our \
             system will be working on provisioning additional capacity."
        ),
    };
    ApiError::new("InsufficientInstanceCapacity", message)
}
