//! The world: what exists, and what a test may look at and change.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::catalog::Kind;
use crate::fault::{Fault, Script};
use crate::keys::Keys;
use crate::log::Entry;
use crate::machine::{EndedBy, Instance, Lifecycle, State, Volume};
use crate::page::Listing;
use crate::region::{PROFILE, Region};
use crate::rules::Rules;
use crate::spec::Spec;
use crate::spot::SpotRequest;
use crate::targets::{TargetChange, TargetGroup};
use crate::throttle::Buckets;
use crate::time::Event;
use crate::tokens::Tokens;

/// The time a world begins at: 2026-01-15T12:00:00Z.
pub const DAWN_MS: i64 = 1_768_478_400_000;

/// The world of one account. Nothing in it moves but by [`World::advance`], by calls and by what tests do to it.
#[derive(Clone, Debug)]
pub struct World {
    /// How it behaves.
    pub rules: Rules,
    pub(crate) now: i64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) regions: Vec<Region>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) by_id: HashMap<String, usize>,
    pub(crate) requests: Vec<SpotRequest>,
    pub(crate) requests_by_id: HashMap<String, usize>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) profiles: BTreeSet<String>,
    pub(crate) key_pairs: BTreeSet<String>,
    pub(crate) timeline: BTreeMap<(i64, u64), Event>,
    pub(crate) planned: u64,
    pub(crate) tokens: Tokens,
    pub(crate) listings: HashMap<String, Listing>,
    pub(crate) buckets: Buckets,
    pub(crate) script: Script,
    pub(crate) log: Vec<Entry>,
    pub(crate) keys: Keys,
    pub(crate) target_groups: Vec<TargetGroup>,
    pub(crate) target_log: Vec<TargetChange>,
    /// Instances that fail their health checks.
    pub(crate) unhealthy: BTreeSet<String>,
    pub(crate) deaths: VecDeque<String>,
    /// Actions that the user may not call.
    pub(crate) denied: BTreeSet<String>,
    /// Goes on with every effect of a call.
    pub(crate) effects: u64,
    pub(crate) launches: usize,
    pub(crate) terminations: usize,
}

impl World {
    /// The account with one region, `eu-west-1`, and nothing running.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            rules: Rules::default(),
            now: DAWN_MS,
            rng: fastrand::Rng::with_seed(seed),
            regions: Vec::new(),
            instances: Vec::new(),
            by_id: HashMap::new(),
            requests: Vec::new(),
            requests_by_id: HashMap::new(),
            volumes: BTreeMap::new(),
            profiles: BTreeSet::from([PROFILE.to_owned()]),
            key_pairs: BTreeSet::from([crate::region::KEY_PAIR.to_owned()]),
            timeline: BTreeMap::new(),
            planned: 0,
            tokens: Tokens::default(),
            listings: HashMap::new(),
            buckets: Buckets::default(),
            script: Script::default(),
            log: Vec::new(),
            keys: Keys::default(),
            target_groups: Vec::new(),
            target_log: Vec::new(),
            unhealthy: BTreeSet::new(),
            deaths: VecDeque::new(),
            denied: BTreeSet::new(),
            effects: 0,
            launches: 0,
            terminations: 0,
        };
        world.add_region("eu-west-1");
        world
    }

    /// One more region, with a network, prices and images of its own.
    pub fn add_region(&mut self, name: &str) {
        if self.region(name).is_none() {
            self.regions.push(Region::new(name, self.regions.len(), self.now));
        }
    }

    /// The time, in Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now
    }

    /// A region.
    #[must_use]
    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The region that everything is in unless it says otherwise.
    ///
    /// # Panics
    /// Never: the first region is always there.
    #[must_use]
    pub fn home(&self) -> &Region {
        self.regions.first().expect("the first region is always there")
    }

    /// The names of the regions.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.regions.iter().map(|region| region.name.as_str())
    }

    pub(crate) fn region_of_zone(&mut self, zone: &str) -> Option<&mut Region> {
        self.regions.iter_mut().find(|region| region.zone(zone).is_some())
    }

    /// Adds an instance that exists already; its id.
    ///
    /// # Panics
    /// When there is no such zone, or no such type.
    pub fn add(&mut self, spec: Spec) -> String {
        let Spec { zone, started_ms_ago, is_pending, cpu, gpu_load, .. } = &spec;
        let (ago, is_pending) = (*started_ms_ago, *is_pending);
        let (cpu, gpu_load) = (*cpu, *gpu_load);
        let place = self.regions.iter().position(|region| region.zone(zone).is_some()).expect("a zone of a region");
        let plan = spec.plan(&self.regions[place]);
        self.profiles.extend(plan.facts.profile.clone());
        self.key_pairs.extend(plan.facts.key.clone());
        let now = self.now;
        let reservation = self.fresh("r");
        let slot = self.place(place, plan, now - ago, reservation, None);
        let instance = &mut self.instances[slot];
        instance.visible_ms = now - ago;
        instance.tag_times.clear();
        instance.history.loads(cpu, gpu_load);
        let request = instance.request.clone();
        let id = instance.id.clone();
        if !is_pending {
            instance.epoch += 1;
            instance.state = State::Running;
        }
        if let Some(request) = request.and_then(|id| self.request_mut(&id)) {
            request.visible_ms = now - ago;
        }
        id
    }

    /// Every instance that ever existed, oldest first, even those whose row is gone.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter()
    }

    /// The instances that are pending or running.
    pub fn living(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| instance.is_living())
    }

    /// An instance.
    #[must_use]
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.by_id.get(id).and_then(|&slot| self.instances.get(slot))
    }

    /// The newest instance with this tag `Name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().rev().find(|instance| instance.name() == name)
    }

    pub(crate) fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.by_id.get(id).and_then(|&slot| self.instances.get_mut(slot))
    }

    /// Every spot request that ever was, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = &SpotRequest> {
        self.requests.iter()
    }

    /// A spot request.
    #[must_use]
    pub fn request(&self, id: &str) -> Option<&SpotRequest> {
        self.requests_by_id.get(id).and_then(|&place| self.requests.get(place))
    }

    /// The spot request of an instance.
    #[must_use]
    pub fn request_of(&self, instance: &str) -> Option<&SpotRequest> {
        self.instance(instance)?.request.as_deref().and_then(|id| self.request(id))
    }

    pub(crate) fn request_mut(&mut self, id: &str) -> Option<&mut SpotRequest> {
        self.requests_by_id.get(id).and_then(|&place| self.requests.get_mut(place))
    }

    /// Every volume that ever was.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.values()
    }

    /// All calls, oldest first.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// How many instances calls have launched, whether or not the caller was told.
    #[must_use]
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// How many instances calls have ended, whether or not the caller was told.
    #[must_use]
    pub fn terminations(&self) -> usize {
        self.terminations
    }

    /// How many instances ended so.
    #[must_use]
    pub fn ended_by(&self, by: EndedBy) -> usize {
        self.instances.iter().filter(|instance| instance.ended_by == Some(by)).count()
    }

    /// Places left for spot in a pool; `None` has no limit. A launch takes a place; an end gives none back.
    pub fn set_room(&mut self, kind: &str, zone: &str, places: Option<u32>) {
        self.set_room_of(Lifecycle::Spot, kind, zone, places);
    }

    /// Places left on demand.
    pub fn set_on_demand_room(&mut self, kind: &str, zone: &str, places: Option<u32>) {
        self.set_room_of(Lifecycle::OnDemand, kind, zone, places);
    }

    fn set_room_of(&mut self, market: Lifecycle, kind: &str, zone: &str, places: Option<u32>) {
        let Some(region) = self.region_of_zone(zone) else { return };
        let pool = (market, kind.to_owned(), zone.to_owned());
        match places {
            Some(places) => region.room.insert(pool, places),
            None => region.room.remove(&pool),
        };
        if market == Lifecycle::Spot && places != Some(0) {
            self.wake_requests(kind, zone);
        }
    }

    /// Changes the spot price of a pool; the earlier price stays in its history.
    pub fn set_spot_price(&mut self, kind: &str, zone: &str, price: &str) {
        let now = self.now;
        if let Some(region) = self.region_of_zone(zone) {
            region.prices.entry((kind.to_owned(), zone.to_owned())).or_default().push((now, price.to_owned()));
        }
    }

    /// Changes the on-demand price of a type in a zone.
    pub fn set_on_demand_price(&mut self, kind: &str, zone: &str, price: &str) {
        if let Some(region) = self.region_of_zone(zone) {
            region.on_demand.insert((kind.to_owned(), zone.to_owned()), price.to_owned());
        }
    }

    /// The vCPUs of a quota: of a region, a market and a group of types (`G`, `P`, `Standard`).
    pub fn set_quota(&mut self, region: &str, market: Lifecycle, group: &str, vcpus: u32) {
        if let Some(region) = self.regions.iter_mut().find(|known| known.name == region) {
            region.quotas.insert((market, group.to_owned()), vcpus);
        }
    }

    /// How many addresses are left in a subnet.
    pub fn set_free_addresses(&mut self, subnet: &str, addresses: u32) {
        let mut zones = self.regions.iter_mut().flat_map(|region| region.zones.iter_mut());
        if let Some(zone) = zones.find(|zone| zone.subnet == subnet) {
            zone.free_addresses = addresses;
        }
    }

    /// A key pair that launches may name.
    pub fn add_key_pair(&mut self, name: &str) {
        self.key_pairs.insert(name.to_owned());
    }

    /// An instance profile that launches may name.
    pub fn add_profile(&mut self, arn: &str) {
        self.profiles.insert(arn.to_owned());
    }

    /// The next launch succeeds, but its instance dies with this code, for example `Server.InternalError`.
    pub fn launch_dies_with(&mut self, code: &str) {
        self.deaths.push_back(code.to_owned());
    }

    /// Listings that are not limited to other zones fail until [`World::restore_zone`].
    pub fn disrupt_zone(&mut self, zone: &str) {
        if let Some(region) = self.region_of_zone(zone) {
            region.disrupted.insert(zone.to_owned());
        }
    }

    /// The zone is well again.
    pub fn restore_zone(&mut self, zone: &str) {
        if let Some(region) = self.region_of_zone(zone) {
            region.disrupted.remove(zone);
        }
    }

    /// Adds a rule to what goes wrong.
    pub fn fault(&mut self, fault: Fault) {
        self.script.add(fault);
    }

    /// Forgets all rules about what goes wrong.
    pub fn clear_faults(&mut self) {
        self.script.clear();
    }

    /// An access key that is accepted, with its session token if it has one.
    pub fn add_access_key(&mut self, id: &str, secret: &str, token: Option<&str>) {
        self.keys.add(id, secret, token);
    }

    /// A fresh id: the prefix and 17 hexadecimal digits, as EC2 writes them.
    pub(crate) fn fresh(&mut self, prefix: &str) -> String {
        format!("{prefix}-0{:016x}", self.rng.u64(..))
    }

    /// A fresh id of a call.
    pub(crate) fn fresh_uuid(&mut self) -> String {
        let text = format!("{:032x}", self.rng.u128(..));
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
        format!("{}-{}-4{}-a{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
    }

    /// The vCPUs of a quota that are taken (3.7): spot requests count until they are closed, on-demand instances until
    /// they are gone.
    #[must_use]
    pub fn vcpus_taken(&self, region: &str, market: Lifecycle, group: &str) -> u32 {
        let counts = |kind: &str| Kind::named(kind).filter(|kind| kind.group == group).map_or(0, |kind| kind.vcpus);
        let here = self.instances.iter().filter(|instance| instance.region == region && instance.lifecycle == market);
        match market {
            Lifecycle::OnDemand => {
                let living = here.filter(|instance| {
                    matches!(instance.state, State::Pending | State::Running | State::Stopping | State::ShuttingDown)
                });
                living.map(|instance| counts(&instance.kind)).sum()
            }
            Lifecycle::Spot => {
                let requested = self.requests.iter().filter(|request| request.region == region && request.counts());
                let cancelled = here.filter(|instance| instance.is_living() && !self.is_requested(instance));
                let requested: u32 = requested.map(|request| counts(request.kind())).sum();
                requested + cancelled.map(|instance| counts(&instance.kind)).sum::<u32>()
            }
        }
    }

    fn is_requested(&self, instance: &Instance) -> bool {
        self.request_of(&instance.id).is_some_and(SpotRequest::counts)
    }
}
