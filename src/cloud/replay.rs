//! A provider on paper: instances whose room follows a [`Trace`], by the clock of the pass. It answers at once and tells
//! the truth.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

use super::{CloudError, CloudRead, CloudWrite, Effect, Guard, Order, Ping, Progress};
use crate::clock::Clock;
use crate::core::record::trace::{RoomOverTime, Trace};
use crate::core::record::trail::{ProviderCalls, WriteCounts};
use crate::core::recreation::blueprint::{Blueprint, Nearness, Obstacle, Placement, Prepared, Wanted};
use crate::core::rollout::findings::ListedInstance;
use crate::core::rollout::metrics::Metrics;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Billing, Instance, InstanceId, Job, Place, ReclaimNotice, Status};
use crate::core::world::market::{Offer, OfferQuery, Stock};
use crate::core::world::probe::{CloseUp, Connections};
use crate::core::world::snapshot::{Abilities, Listing};
use crate::core::world::time::{Seconds, Timestamp};

/// From an accepted call until the instance runs.
pub const BOOT: Duration = Duration::from_secs(120);

/// How long the fleet has been running when the trace begins: what is reclaimed at once has run before.
const AGE: Duration = Duration::from_secs(3600);

/// The provider.
#[derive(Debug)]
pub struct PaperCloud<'a> {
    trace: &'a Trace,
    places: Vec<Arc<Place>>,
    clock: &'a Clock,
    /// How long before a reclaim it announces it.
    notice: Duration,
    machines: RefCell<Vec<Machine>>,
    /// How many steps of each place have happened.
    happened: RefCell<Vec<usize>>,
    created: Cell<u32>,
    /// Counts the writes that it answered.
    counts: &'a Cell<WriteCounts>,
}

#[derive(Clone, Debug)]
struct Machine {
    id: InstanceId,
    name: String,
    marker: Option<Box<CompactString>>,
    place: usize,
    billing: Billing,
    /// Until it runs.
    status: Status,
    created_at: Timestamp,
    runs_from: Timestamp,
    taken_at: Option<Timestamp>,
}

impl Machine {
    fn lives_in(&self, place: usize) -> bool {
        self.place == place && self.taken_at.is_none() && self.billing == Billing::Spot
    }
}

impl<'a> PaperCloud<'a> {
    /// The fleet as it is at the begin of the trace, which is when `clock` starts.
    #[must_use]
    pub fn new(trace: &'a Trace, notice: Duration, clock: &'a Clock, counts: &'a Cell<WriteCounts>) -> Self {
        let machine = |(number, place): (usize, &usize)| Machine {
            id: InstanceId::new(&format!("i{number:04}")),
            name: format!("instance{number}"),
            marker: None,
            place: *place,
            billing: Billing::Spot,
            status: Status::Running,
            created_at: trace.from - AGE,
            runs_from: trace.from - AGE,
            taken_at: None,
        };
        Self {
            trace,
            places: trace.places.iter().map(|it| Arc::new(it.place.clone())).collect(),
            clock,
            notice,
            machines: RefCell::new(trace.fleet.iter().enumerate().map(machine).collect()),
            happened: RefCell::new(vec![0; trace.places.len()]),
            created: Cell::new(0),
            counts,
        }
    }

    fn count(&self, change: impl FnOnce(&mut WriteCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// What happened up to now: where less fits than lives there, the youngest are taken.
    fn catch_up(&self) {
        let now = self.clock.now();
        let (mut happened, mut machines) = (self.happened.borrow_mut(), self.machines.borrow_mut());
        for (place, course) in self.trace.places.iter().enumerate() {
            for (at, room) in &course.steps[happened[place]..] {
                if *at > now {
                    break;
                }
                happened[place] += 1;
                let living = machines.iter_mut().filter(|it| it.lives_in(place));
                for machine in living.skip(usize::try_from(*room).unwrap_or(usize::MAX)) {
                    machine.taken_at = Some(*at);
                }
            }
        }
    }

    /// When a running instance will be taken, if that is announced by now. `elder` is how many live there that are older.
    fn announced(&self, machine: &Machine, elder: usize, now: Timestamp) -> Option<Timestamp> {
        let happened = self.happened.borrow()[machine.place];
        let coming = &self.trace.places[machine.place].steps[happened..];
        let mut soon = coming.iter().take_while(|(at, _)| *at <= now + self.notice);
        soon.find(|(_, room)| usize::try_from(*room).is_ok_and(|room| room <= elder)).map(|(at, _)| *at)
    }

    fn row(&self, machine: &Machine, announced: Option<Timestamp>, now: Timestamp) -> Instance {
        let Machine { id, name, marker, place, billing, status, created_at, runs_from, taken_at } = machine;
        let secs = |at: Timestamp| Seconds::new(at.as_secs());
        let has_run = taken_at.is_none_or(|at| at >= *runs_from);
        Instance {
            id: id.clone(),
            name: name.as_str().into(),
            status: match taken_at {
                Some(_) => Status::Exited,
                None if now < *runs_from => status.clone(),
                None => Status::Running,
            },
            billing: billing.clone(),
            reclaim: taken_at.map(|at| ("reclaimed", at)).or(announced.map(|at| ("notified", at))).map(
                |(spot_status, reclaim_at)| Box::new(ReclaimNotice { spot_status: spot_status.into(), reclaim_at }),
            ),
            marker: marker.clone(),
            aside: None,
            place: Some(self.places[*place].clone()),
            gpus: 1,
            created_at: secs(*created_at),
            started_at: secs(*runs_from).filter(|_| has_run && now >= *runs_from),
            stopped_at: taken_at.and_then(secs),
        }
    }

    fn rows(&self, is_wanted: impl Fn(&Machine) -> bool) -> Vec<Instance> {
        self.catch_up();
        let (machines, now) = (self.machines.borrow(), self.clock.now());
        let mut living = vec![0; self.places.len()];
        let mut rows = Vec::new();
        for machine in machines.iter() {
            let elder = living[machine.place];
            living[machine.place] += usize::from(machine.lives_in(machine.place));
            if is_wanted(machine) {
                let may_be_told = machine.lives_in(machine.place) && machine.runs_from <= now;
                let announced = may_be_told.then(|| self.announced(machine, elder, now)).flatten();
                rows.push(self.row(machine, announced, now));
            }
        }
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    fn has_room(&self, place: usize) -> bool {
        let living = self.machines.borrow().iter().filter(|it| it.lives_in(place)).count();
        living < usize::try_from(self.trace.places[place].room(self.clock.now())).unwrap_or(usize::MAX)
    }

    /// Asks for room in a place.
    fn enter(&self, place: usize, billing: &Billing, call: &str) -> Result<(), CloudError> {
        if *billing != Billing::Spot || self.has_room(place) {
            return Ok(());
        }
        self.count(|counts| counts.refusals += 1);
        let message = "no room".into();
        Err(CloudError { message, ..refused(call, ErrorKind::Capacity) })
    }

    fn prepared(&self, wanted: &Wanted<'_>) -> Result<Prepared, Obstacle> {
        let machines = self.machines.borrow();
        let machine = machines.iter().find(|it| it.id == *wanted.instance);
        let own = machine.map(|it| it.place).or_else(|| {
            let kept = wanted.kept?.payload.get("place")?.as_u64()?;
            usize::try_from(kept).ok().filter(|place| *place < self.places.len())
        });
        let own = own.ok_or(Obstacle::Gone)?;
        let product = &self.places[own].product;
        let billing = wanted.billing.or(machine.map(|it| &it.billing)).cloned().unwrap_or(Billing::Spot);
        let is_fit = |place: &usize| {
            self.places[*place].product == *product
                && (!wanted.stays || *place == own)
                && (!wanted.needs_room || self.has_room(*place))
        };
        let placement = |place: usize| {
            let [spot, on_demand_price] = self.trace.places[place].prices;
            Placement {
                place: (*self.places[place]).clone(),
                cluster_name: self.places[place].cluster.to_string(),
                nearness: if place == own { Nearness::Own } else { Nearness::Elsewhere },
                price: if billing == Billing::Spot { spot } else { on_demand_price },
                on_demand_price,
                stock: Stock::Unstated,
                words: format!("in {}", self.places[place].cluster),
            }
        };
        let placements: Vec<Placement> = (0..self.places.len()).filter(is_fit).map(placement).collect();
        if placements.is_empty() {
            return Err(Obstacle::NoRoom { product: product.to_string() });
        }
        let payload = [("place".to_owned(), own.into())].into_iter().collect();
        let blueprint = Blueprint { billing, notes: Vec::new(), payload };
        Ok(Prepared {
            blueprint,
            placements,
            gpus: 1,
            own_price: self.trace.places[own].prices[0],
            is_home_untried: false,
            tied_by: None,
            unread: None,
        })
    }
}

fn refused(call: &str, kind: ErrorKind) -> CloudError {
    let call = call.to_owned();
    CloudError { kind, effect: Effect::Refused, not_found: false, call, message: "refused".into(), hint: None }
}

impl CloudRead for PaperCloud<'_> {
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    async fn instances(&self, _: Progress<'_>) -> Result<Listing<Instance>, CloudError> {
        Ok(Listing::complete(self.rows(|_| true)))
    }

    async fn close_up(&self, id: &InstanceId) -> Result<Option<CloseUp>, CloudError> {
        let found = self.rows(|machine| machine.id == *id).into_iter().next();
        let connections = Connections::default();
        Ok(found.map(|instance| CloseUp { instance, endpoints: Vec::new(), connections, gpu_price: None }))
    }

    async fn marked(&self, marker: &str) -> Result<Vec<Instance>, CloudError> {
        Ok(self.rows(|machine| machine.marker.as_deref().is_some_and(|it| it == marker)))
    }

    async fn prepare(&self, wanted: &[Wanted<'_>], _: &[Job], _: usize) -> Vec<Result<Prepared, Obstacle>> {
        self.catch_up();
        wanted.iter().map(|wanted| self.prepared(wanted)).collect()
    }

    async fn offers(&self, _: &OfferQuery) -> Result<Vec<Offer>, CloudError> {
        let offer = |it: &RoomOverTime| Offer {
            product_id: it.place.product.to_string(),
            name: it.place.product.to_string(),
            price: it.prices[0],
            on_demand_price: it.prices[1],
            available: true,
            ..Offer::default()
        };
        Ok(self.trace.places.iter().map(offer).collect())
    }

    async fn fleet(&self, _: Progress<'_>) -> Result<Listing<ListedInstance>, CloudError> {
        Ok(Listing::complete(Vec::new()))
    }

    async fn metrics(
        &self,
        _: &InstanceId,
        _: Timestamp,
        _: Timestamp,
        _: Duration,
    ) -> Result<Option<Metrics>, CloudError> {
        Ok(None)
    }

    async fn ping(&self, _: Duration) -> Ping {
        Ping { answer: Ok(()), responded: true, date: None }
    }

    fn calls(&self) -> ProviderCalls {
        ProviderCalls::default()
    }
}

impl CloudWrite for PaperCloud<'_> {
    async fn migrate(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        self.catch_up();
        if !(guard.may_send)() {
            return Err(CloudError { effect: Effect::NotSent, ..refused("migrate", ErrorKind::Api) });
        }
        let find = |machines: &[Machine]| machines.iter().position(|it| it.id == *id && it.taken_at.is_some());
        let at = find(&self.machines.borrow()).ok_or_else(|| refused("migrate", ErrorKind::Api))?;
        let (place, billing) = (self.machines.borrow()[at].place, self.machines.borrow()[at].billing.clone());
        self.enter(place, &billing, "migrate")?;
        self.count(|counts| counts.migrations += 1);
        let mut machines = self.machines.borrow_mut();
        // The youngest are at the end.
        let machine = machines.remove(at);
        let runs_from = self.clock.now() + BOOT;
        machines.push(Machine { taken_at: None, status: Status::Migrating, runs_from, ..machine });
        Ok(())
    }

    async fn create(&self, order: Order<'_>, guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        self.catch_up();
        if !(guard.may_send)() {
            return Err(CloudError { effect: Effect::NotSent, ..refused("create", ErrorKind::Api) });
        }
        let Order { marker, replaces: _, blueprint, placement } = order;
        let place = self.places.iter().position(|it| **it == placement.place);
        let place = place.ok_or_else(|| refused("create", ErrorKind::Api))?;
        self.enter(place, &blueprint.billing, "create")?;
        self.count(|counts| counts.creations += 1);
        self.created.set(self.created.get() + 1);
        let (id, now) = (InstanceId::new(&format!("r{:06}", self.created.get())), self.clock.now());
        self.machines.borrow_mut().push(Machine {
            id: id.clone(),
            name: marker.to_owned(),
            marker: Some(Box::new(marker.into())),
            place,
            billing: blueprint.billing.clone(),
            status: Status::Creating,
            created_at: now,
            runs_from: now + BOOT,
            taken_at: None,
        });
        Ok(id)
    }

    async fn delete(&self, id: &InstanceId, _: Guard<'_>) -> Result<(), CloudError> {
        self.catch_up();
        self.count(|counts| counts.deletions += 1);
        self.machines.borrow_mut().retain(|machine| machine.id != *id);
        Ok(())
    }
}
