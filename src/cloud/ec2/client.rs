//! The calls of the API and what comes of them, over one region or several.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::facts::{self, Closer, Form, LaunchFacts, encoded};
use super::membership::{Balance, Targets};
use super::pools::{self, Prices};
use super::refusal::Ec2;
use super::region::{Region, Told, request};
use super::states::{self, ORIGIN};
use super::wire::{
    self, Attributes, Caller, CallerIdentity, Ec2Row, InstanceStatus, Instances, Launched, RowPage, SpotPrice,
    SpotRequest, StatusAnswer, Subnet, TypeFacts, Volume,
};
use crate::clock::{Clock, Reading};
use crate::cloud::request::Requests;
use crate::cloud::transport::{Method, Request, Transport};
use crate::cloud::{CloudError, CloudRead, CloudWrite, Effect, Guard, Made, Order, Ping, Progress, Registered};
use crate::core::record::trail::ProviderCalls;
use crate::core::recreation::blueprint::{Blueprint, Obstacle, Prepared, Wanted};
use crate::core::recreation::marker::letters_of_marker;
use crate::core::rollout::findings::ListedInstance;
use crate::core::rollout::metrics::Metrics;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Aside, Instance, InstanceId, Job, Places, ReclaimNotice, Status};
use crate::core::world::market::{Offer, OfferQuery};
use crate::core::world::money::Usd;
use crate::core::world::policy::{OptIn, Retirement, StandIns};
use crate::core::world::probe::{CloseUp, Connections};
use crate::core::world::snapshot::{Abilities, Listing, Shortfall};
use crate::core::world::time::Timestamp;
use crate::credentials::aws::AwsService;

/// How often a launch is asked for whose instance has come and gone.
const MOST_ROUNDS: u32 = 10;

/// How a fleet on EC2 is looked after.
#[derive(Clone, Debug)]
pub struct FleetTerms {
    pub opt_in: OptIn,
    pub stand_ins: StandIns,
    /// Whether user data is part of what is recorded.
    pub keeps_user_data: bool,
    /// What an hour of an instance type costs on demand, where the operator says so.
    pub prices: BTreeMap<String, Usd>,
    /// What becomes of on-demand instances that a rollout has replaced.
    pub retirement: Retirement,
    /// ARNs of target groups in which traffic is moved.
    pub target_groups: Vec<String>,
}

/// EC2 behind a [`Transport`] for each region.
#[derive(Debug)]
pub struct Ec2Client<T> {
    pub(super) regions: Vec<Region<T>>,
    /// STS, which says whose credentials they are.
    identity: Requests<T, Ec2>,
    pub(super) terms: FleetTerms,
    /// Once it was asked for.
    account: OnceCell<String>,
    /// The instance that this program runs on, once that is known.
    host: Rc<RefCell<Option<String>>>,
    /// What the last listing said of each instance, with its region.
    pub(super) rows: RefCell<HashMap<InstanceId, (usize, Ec2Row)>>,
    /// Why the price list could not be read.
    pub(super) unpriced: RefCell<Option<String>>,
    /// The instance types that were read.
    pub(super) types: RefCell<HashMap<String, TypeFacts>>,
    /// The spot requests of instances that it lacked.
    ended: RefCell<HashMap<InstanceId, SpotRequest>>,
    /// The subnets that the settings name, by region, once they were read.
    subnets: RefCell<HashMap<usize, Vec<Subnet>>>,
    /// The target groups at the last listing, and what is to be put into them.
    pub(super) balance: RefCell<Balance>,
    pub(super) unregistered: RefCell<Targets>,
}

impl<T: Transport> Ec2Client<T> {
    /// A client that has sent nothing yet. `line` is a transport to a service for a region.
    pub fn new(regions: &[String], terms: FleetTerms, line: impl Fn(AwsService, &str) -> T) -> Self {
        let home = regions.first().map_or("", String::as_str);
        let identity = Requests::new(line(AwsService::Sts, home), Ec2 { region: home.into() });
        let regions = regions.iter().map(|region| Region::new(region, |service| line(service, region))).collect();
        Self {
            regions,
            identity,
            terms,
            account: OnceCell::new(),
            host: Rc::default(),
            rows: RefCell::default(),
            unpriced: RefCell::default(),
            types: RefCell::default(),
            ended: RefCell::default(),
            subnets: RefCell::default(),
            balance: RefCell::default(),
            unregistered: RefCell::default(),
        }
    }

    /// The same, on the instance that `host` will name. That one is never acted on.
    #[must_use]
    pub fn running_on(self, host: Rc<RefCell<Option<String>>>) -> Self {
        Self { host, ..self }
    }

    /// Whether this program runs on an instance.
    pub(super) fn is_host(&self, id: &str) -> bool {
        self.host.borrow().as_deref() == Some(id)
    }

    /// Whose credentials these are.
    ///
    /// # Errors
    /// When STS does not answer, or not to these credentials.
    pub async fn caller(&self) -> Result<Caller, CloudError> {
        let decode = |body: &[u8]| Ok(wire::read::<CallerIdentity>(body)?.get_caller_identity_result);
        let caller = Box::pin(self.identity.ask(&request("GetCallerIdentity", &[]), decode)).await?;
        let _ = self.account.set(caller.account.clone());
        Ok(caller)
    }

    /// The region of a zone, for example `eu-west-1` of `eu-west-1a`.
    pub(super) fn region_of_zone(&self, zone: &str) -> Option<usize> {
        let of_zone = self.regions.iter().enumerate().filter(|(_, it)| zone.starts_with(it.name.as_str()));
        of_zone.max_by_key(|(_, it)| it.name.len()).map(|(n, _)| n)
    }

    /// Where an instance may be: its region, if it was listed, otherwise all.
    fn regions_of(&self, id: &InstanceId) -> Vec<usize> {
        let known = self.rows.borrow().get(id).map(|(region, _)| *region);
        known.map_or_else(|| (0..self.regions.len()).collect(), |region| vec![region])
    }

    pub(super) fn instance(&self, row: &Ec2Row, request: Option<&SpotRequest>, places: &mut Places) -> Instance {
        let taken_at = self.reading().map_or_else(Timestamp::default, |it| it.shown);
        states::instance(row, request, (&self.terms.opt_in, self.terms.retirement.keep), places, taken_at)
    }

    /// One instance as it is listed now, and its spot request.
    async fn seen(&self, id: &InstanceId) -> Result<Option<Told>, CloudError> {
        for region in self.regions_of(id) {
            if let Some((row, request)) =
                self.regions[region].find("instance-id", id.as_str()).await?.into_iter().next()
            {
                self.rows.borrow_mut().insert(id.clone(), (region, row.clone()));
                return Ok(Some((row, request)));
            }
        }
        Ok(None)
    }

    /// What an instance that runs is made of.
    pub(super) async fn facts(
        &self,
        region: usize,
        row: &Ec2Row,
        targets: String,
    ) -> Result<Result<Blueprint, String>, CloudError> {
        self.check_whole(region, row)?;
        let ids: Vec<String> = row.block_device_mapping.item.iter().map(|it| it.ebs.volume_id.clone()).collect();
        let attribute = async |attribute: &str| {
            let form = [("InstanceId".to_owned(), row.instance_id.clone()), ("Attribute".into(), attribute.into())];
            self.regions[region].call("DescribeInstanceAttribute", &form, wire::read::<Attributes>).await
        };
        let (volumes, user_data, behavior) = futures_util::future::try_join3(
            self.regions[region].filtered::<RowPage<Volume>>("DescribeVolumes", "volume-id", &ids),
            attribute("userData"),
            attribute("instanceInitiatedShutdownBehavior"),
        )
        .await?;
        let closer = Closer {
            volumes,
            user_data: user_data.user_data.value,
            shutdown_behavior: behavior.instance_initiated_shutdown_behavior.value,
            targets,
        };
        Ok(facts::blueprint(row, &closer, self.terms.keeps_user_data))
    }

    /// Refuses a row of which something could not be read.
    pub(super) fn check_whole(&self, region: usize, row: &Ec2Row) -> Result<(), CloudError> {
        match row.unread.0.first() {
            None => Ok(()),
            Some(element) => {
                let (requests, what) = (&self.regions[region].requests, wire::unexpected(element));
                Err(requests.unreadable(Method::Post, "DescribeInstances", 200, &what))
            }
        }
    }

    async fn prepare_one(&self, wanted: &Wanted<'_>) -> Result<Prepared, Obstacle> {
        let unread = |error: CloudError| Obstacle::Unread { kind: error.kind, error: error.to_string() };
        let mut blueprint = match wanted.kept {
            Some(kept) => kept.clone(),
            None => {
                let Some((row, _)) = self.seen(wanted.instance).await.map_err(unread)? else {
                    return Err(Obstacle::Gone);
                };
                if row.is_over() {
                    let why = "what it was made of is not on record, and EC2 has forgotten it";
                    return Err(Obstacle::CannotRecreate(why.into()));
                }
                let region = self.regions_of(wanted.instance)[0];
                self.facts(region, &row, String::new()).await.map_err(unread)?.map_err(Obstacle::CannotRecreate)?
            }
        };
        if let Some(billing) = wanted.billing {
            blueprint.billing = billing.clone();
        }
        let mut facts = LaunchFacts::of(&blueprint).map_err(Obstacle::CannotRecreate)?;
        let Some(region) = self.region_of_zone(&facts.zone) else {
            return Err(Obstacle::CannotRecreate(format!("its zone {} is in none of RESPOT_EC2_REGIONS", facts.zone)));
        };
        // A rollout moves traffic itself, once what it has launched is healthy.
        facts.targets = if wanted.stays {
            String::new()
        } else {
            self.served(region, wanted.instance, &facts, &mut blueprint.notes)
        };
        blueprint.payload.insert(LaunchFacts::TARGETS.into(), facts.targets.clone().into());
        self.place(region, blueprint, &facts, wanted.stays).await.map_err(unread)
    }

    /// The subnets that the settings name, in a region.
    async fn named_subnets(&self, region: usize) -> Result<Vec<Subnet>, CloudError> {
        if let Some(known) = self.subnets.borrow().get(&region) {
            return Ok(known.clone());
        }
        let named = &self.terms.stand_ins.subnets;
        let found = self.regions[region].filtered::<RowPage<Subnet>>("DescribeSubnets", "subnet-id", named).await?;
        self.subnets.borrow_mut().insert(region, found.clone());
        Ok(found)
    }

    /// The subnet for a launch in a zone: its own there, otherwise the first one that the settings name.
    fn subnet_in(&self, facts: &LaunchFacts, zone: &str) -> Option<String> {
        if zone == facts.zone {
            return Some(facts.subnet.clone());
        }
        let subnets = self.subnets.borrow();
        let fits = |it: &&Subnet| it.availability_zone == zone && it.vpc_id == facts.vpc;
        subnets.values().flatten().find(fits).map(|it| it.subnet_id.clone())
    }

    /// The spot prices in force.
    pub(super) async fn prices(&self, region: usize, kinds: &[String], product: &str) -> Result<Prices, CloudError> {
        if kinds.is_empty() {
            return Ok(Prices::new());
        }
        let form = pools::price_query(kinds, product, Clock::system().machine_now());
        let action = "DescribeSpotPriceHistory";
        Ok(pools::prices(self.regions[region].pages::<RowPage<SpotPrice>>(action, &form, 1000, &|_, _| ()).await?))
    }

    /// Where a replacement can go, its own pool first.
    async fn place(
        &self,
        region: usize,
        blueprint: Blueprint,
        facts: &LaunchFacts,
        stays: bool,
    ) -> Result<Prepared, CloudError> {
        let mut kinds = vec![facts.kind.clone()];
        let others = self.terms.stand_ins.kinds.get(&facts.kind).filter(|_| !stays);
        kinds.extend(others.into_iter().flatten().cloned());
        let mut zones = vec![facts.zone.clone()];
        if !stays && facts.tied_by.is_none() {
            let others = self.named_subnets(region).await?.into_iter().filter(|it| it.vpc_id == facts.vpc);
            zones.extend(others.map(|it| it.availability_zone));
        }
        let (prices, unread) = match self.prices(region, &kinds, &facts.product).await {
            Ok(prices) => (prices, None),
            // Its own pool can be asked without knowing what it costs.
            Err(error) => (Prices::new(), Some(error.to_string())),
        };
        let own_price = prices.get(&(facts.kind.clone(), facts.zone.clone())).copied();
        let placements = pools::placements(facts, &kinds, &zones, &prices);
        let tied_by = facts.tied_by.clone();
        Ok(Prepared { blueprint, placements, gpus: 1, own_price, is_home_untried: true, tied_by, unread })
    }

    /// Launches with the token of this request, and with the next one if what came of that is gone.
    async fn launch(&self, region: usize, mut form: Form, guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        let requests = &self.regions[region].requests;
        let body = |form: &Form| encoded(form.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let plain = form.clone();
        for round in 0..MOST_ROUNDS {
            form.insert("ClientToken".into(), facts::token(&plain, round));
            let wait = self.regions[region].launches.borrow_mut().turn(Instant::now());
            // A pass that is stopped sends nothing more, which the request says.
            let _ = guard.stop.sleep(wait).await;
            let response = match requests.write("RunInstances", body(&form), guard).await {
                // What came of an earlier launch has ended.
                Err(error) if error.not_found => continue,
                answer => answer?,
            };
            let unreadable = |what: &str| requests.unreadable(Method::Post, "RunInstances", response.status, what);
            let launched: Launched = wire::read(&response.body).map_err(|what| unreadable(&what))?;
            let Some(row) = launched.instances_set.item.into_iter().next() else {
                return Err(unreadable("it names no instance"));
            };
            if row.is_over() {
                continue;
            }
            let id = InstanceId::new(&row.instance_id);
            self.rows.borrow_mut().insert(id.clone(), (region, row));
            return Ok(id);
        }
        let error = requests.unreadable(Method::Post, "RunInstances", 200, "every instance of its launches has ended");
        Err(CloudError { kind: ErrorKind::State, effect: Effect::Refused, ..error })
    }
}

impl<T: Transport> CloudRead for Ec2Client<T> {
    fn abilities(&self) -> Abilities {
        Abilities { migrates: false, idempotent_create: true, forgets_ended: true }
    }

    fn owner(&self) -> String {
        self.account.get().map_or_else(|| "ec2".into(), |account| format!("ec2 account {account}"))
    }

    async fn instances(&self, progress: Progress<'_>) -> Result<Listing<Instance>, CloudError> {
        let looked =
            join_all((0..self.regions.len()).map(|region| Box::pin(self.regions[region].look(progress)))).await;
        let (mut items, mut unread, mut places) = (Vec::new(), Vec::new(), Places::default());
        let (mut rows, mut ended) = (HashMap::new(), HashMap::new());
        for (region, looked) in looked.into_iter().enumerate() {
            match looked {
                Ok((looked, requests)) => {
                    ended.extend(requests.into_iter().map(|it| (InstanceId::new(&it.instance_id), it)));
                    for (row, request) in looked {
                        let instance = self.instance(&row, request.as_ref(), &mut places);
                        rows.insert(instance.id.clone(), (region, row));
                        items.push(instance);
                    }
                }
                Err(error) => unread.push((self.regions[region].name.clone(), error)),
            }
        }
        if unread.len() == self.regions.len() {
            return Err(unread.swap_remove(0).1);
        }
        let balance = Box::pin(self.balance()).await;
        *self.balance.borrow_mut() = balance;
        items.sort_by(|a, b| a.id.cmp(&b.id));
        *self.rows.borrow_mut() = rows;
        let retired = items.iter_mut().filter(|it| it.aside.as_deref() == Some(&Aside::Retired { until: None }));
        for instance in retired {
            let rows = self.rows.borrow();
            let Some((_, row)) = rows.get(&instance.id) else { continue };
            if !self.has_heir(row) {
                let until = row.retired_at().map(|at| at + self.terms.retirement.keep);
                instance.aside = Some(Box::new(Aside::Retired { until }));
            }
        }
        *self.ended.borrow_mut() = ended;
        let shortfall =
            unread.into_iter().next().map(|(region, error)| Shortfall::Region { region, error: error.to_string() });
        Ok(Listing { items, shortfall })
    }

    async fn record(
        &self,
        known: &HashMap<InstanceId, &str>,
        at_once: usize,
    ) -> Vec<(InstanceId, Result<Made, CloudError>)> {
        let wanted: Vec<(usize, Ec2Row, String, String)> = {
            let rows = self.rows.borrow();
            let is_ours =
                |row: &Ec2Row| row.instance_state.name == "running" && states::is_ours(row, &self.terms.opt_in);
            let running = rows.iter().filter(|(_, (_, row))| is_ours(row));
            let marked = running.map(|(id, (region, row))| {
                let known = known.get(id).copied().unwrap_or_default();
                let member = self.membership(*region, row, known);
                if !member.missing.is_empty() {
                    let target = (*region, row.instance_id.clone());
                    self.unregistered.borrow_mut().insert(target, member.missing.clone());
                }
                (*region, row, known == member.mark(&facts::mark(row)), member)
            });
            let new = marked.filter(|(_, _, is_known, _)| !is_known);
            new.map(|(region, row, _, it)| (region, row.clone(), it.mark(&facts::mark(row)), it.tag())).collect()
        };
        let made = wanted.iter().map(async |(region, row, mark, targets)| {
            let made = Box::pin(self.facts(*region, row, targets.clone())).await;
            let made = made.map(|blueprint| Made { mark: mark.clone(), blueprint });
            (InstanceId::new(&row.instance_id), made)
        });
        stream::iter(made).buffered(at_once.max(1)).collect().await
    }

    fn ended(&self, id: &InstanceId) -> Option<ReclaimNotice> {
        states::reclaim_of(self.ended.borrow().get(id)?)
    }

    async fn close_up(&self, id: &InstanceId) -> Result<Option<CloseUp>, CloudError> {
        Ok(Box::pin(self.seen(id)).await?.map(|(row, request)| {
            let mut instance = self.instance(&row, request.as_ref(), &mut Places::default());
            // There is nothing left to delete.
            if row.is_over() {
                instance.status = Status::Removed;
                instance.reclaim = None;
            }
            CloseUp {
                instance,
                endpoints: states::endpoints(&row),
                connections: Connections::default(),
                gpu_price: None,
            }
        }))
    }

    async fn is_sound(&self, id: &InstanceId) -> Result<bool, CloudError> {
        let region = self.regions_of(id)[0];
        let form = [("InstanceId.1".to_owned(), id.to_string())];
        let status: StatusAnswer =
            self.regions[region].call("DescribeInstanceStatus", &form, wire::read::<StatusAnswer>).await?;
        let is_ok = |it: &InstanceStatus| it.instance_status.status == "ok" && it.system_status.status == "ok";
        Ok(status.instance_status_set.item.first().is_some_and(is_ok))
    }

    async fn row(&self, id: &InstanceId, _name: &str) -> Result<Option<Instance>, CloudError> {
        let seen = Box::pin(self.seen(id)).await?;
        Ok(seen.map(|(row, request)| self.instance(&row, request.as_ref(), &mut Places::default())))
    }

    async fn marked(&self, marker: &str) -> Result<Vec<Instance>, CloudError> {
        let Some(letters) = letters_of_marker(marker) else { return Ok(Vec::new()) };
        let filter = format!("tag:{ORIGIN}");
        let found = (0..self.regions.len()).map(|region| Box::pin(self.regions[region].find(&filter, letters)));
        let mut instances = Vec::new();
        for found in join_all(found).await {
            for (row, request) in found?.into_iter().filter(|(row, _)| !row.is_over()) {
                instances.push(self.instance(&row, request.as_ref(), &mut Places::default()));
            }
        }
        instances.retain(|it| it.marker.is_some());
        Ok(instances)
    }

    async fn prepare(&self, wanted: &[Wanted<'_>], _jobs: &[Job], at_once: usize) -> Vec<Result<Prepared, Obstacle>> {
        let prepared = wanted.iter().map(|wanted| Box::pin(self.prepare_one(wanted)));
        stream::iter(prepared).buffered(at_once.max(1)).collect().await
    }

    async fn offers(&self, query: &OfferQuery) -> Result<Vec<Offer>, CloudError> {
        Box::pin(self.offered(query)).await
    }

    async fn fleet(&self, progress: Progress<'_>) -> Result<Listing<ListedInstance>, CloudError> {
        Box::pin(self.listed(progress)).await
    }

    fn caveats(&self) -> Vec<String> {
        self.unknowns()
    }

    async fn metrics(
        &self,
        id: &InstanceId,
        from: Timestamp,
        to: Timestamp,
        interval: Duration,
    ) -> Result<Option<Metrics>, CloudError> {
        Box::pin(self.measured(id, (from, to), interval)).await
    }

    async fn ping(&self, timeout: Duration) -> Ping {
        let form = [("MaxResults".to_owned(), "5".to_owned())];
        let request = Request { timeout, ..request("DescribeInstances", &form) };
        self.regions[0].requests.ping_by(&request, |body| wire::read::<Instances>(body).map(drop)).await
    }

    fn reading(&self) -> Option<Reading> {
        self.regions.iter().find_map(|region| region.requests.reading())
    }

    fn calls(&self) -> ProviderCalls {
        self.regions.iter().flat_map(Region::calls).fold(ProviderCalls::default(), |sum, calls| ProviderCalls {
            total: sum.total + calls.total,
            failed: sum.failed + calls.failed,
        })
    }
}

impl<T: Transport> CloudWrite for Ec2Client<T> {
    async fn migrate(&self, _id: &InstanceId, _guard: Guard<'_>) -> Result<(), CloudError> {
        Err(self.regions[0].requests.unsent("migrate", "EC2 does not migrate"))
    }

    async fn create(&self, order: Order<'_>, guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        let Order { marker, replaces, blueprint, placement } = order;
        let not_sent = |region: usize, what: &str| self.regions[region].requests.unsent("RunInstances", what);
        let zone = placement.place.cluster.as_str();
        let Some(region) = self.region_of_zone(zone) else {
            return Err(not_sent(0, &format!("the zone {zone} is in none of RESPOT_EC2_REGIONS")));
        };
        let facts = LaunchFacts::of(blueprint).map_err(|what| not_sent(region, &what))?;
        let subnet = self.subnet_in(&facts, zone).ok_or_else(|| not_sent(region, "no subnet is in that zone"))?;
        let form = facts::launch(&facts, &blueprint.billing, (marker, replaces), (&placement.place, &subnet))
            .map_err(|what| not_sent(region, &what))?;
        Box::pin(self.launch(region, form, guard)).await
    }

    async fn delete(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        let Some((row, request)) = Box::pin(self.seen(id)).await? else { return Ok(()) };
        if row.is_over() {
            return Ok(());
        }
        if self.is_host(id.as_str()) {
            let why = "this program runs on that instance";
            return Err(self.regions[self.regions_of(id)[0]].requests.unsent("TerminateInstances", why));
        }
        let is_on_demand = row.instance_lifecycle.is_empty() && row.spot_instance_request_id.is_empty();
        match (is_on_demand, row.instance_state.name.as_str()) {
            (true, "pending" | "running") if self.terms.retirement.stops => {
                return Box::pin(self.stop(self.regions_of(id)[0], id, guard)).await;
            }
            // It is retired already; a pass that may terminate it says so.
            (true, "stopping" | "stopped") if row.retired_at().is_some() && !self.is_due(&row) => return Ok(()),
            // Its owner was faster: it is out of service, and stays stopped.
            (true, "stopping" | "stopped") if row.retired_at().is_none() => {
                let region = self.regions_of(id)[0];
                return Box::pin(self.tag_retired(region, id, states::BY_OWNER, guard)).await;
            }
            _ => {}
        }
        let requests = &self.regions[self.regions_of(id)[0]].requests;
        // Otherwise EC2 launches another one in its place, without tags.
        if let Some(request) = request.filter(|it| it.kind == "persistent" && it.state != "cancelled") {
            let form = [("SpotInstanceRequestId.1", request.spot_instance_request_id.as_str())];
            Box::pin(requests.write("CancelSpotInstanceRequests", encoded(form), guard)).await?;
        }
        let form = [("InstanceId.1", id.as_str())];
        match Box::pin(requests.write("TerminateInstances", encoded(form), guard)).await {
            Ok(_) => Ok(()),
            // It was there a moment ago: what is new may be unknown to some of EC2's machines.
            Err(error) if error.not_found => Err(CloudError { effect: Effect::Possible, not_found: false, ..error }),
            Err(error) => Err(error),
        }
    }

    fn moves_traffic(&self) -> bool {
        !self.terms.target_groups.is_empty()
    }

    async fn shift(&self, from: &InstanceId, to: &InstanceId, guard: Guard<'_>) -> Result<Option<String>, CloudError> {
        Box::pin(self.shifted(from, to, guard)).await
    }

    async fn register(&self, may: &dyn Fn(&InstanceId) -> bool, guard: Guard<'_>) -> Vec<Registered> {
        Box::pin(self.registered(may, guard)).await
    }
}
