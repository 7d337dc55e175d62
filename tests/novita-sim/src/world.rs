//! The provider's world: what exists, and what time does to it. Synchronous and deterministic; the time is told.
//!
//! Rows are kept serialised until they change, so that a page is a copy of text even in a fleet of 100 000.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use crate::api::{Call, Op};
use crate::app::{Apps, Counts, endpoints};
use crate::fault::{Fault, Script};
use crate::history::Past;
use crate::machine::{Cluster, JobRow, Machine, Product, Spec, default_clusters, default_products};
use crate::room::Market;
use crate::settings::Rules;
use crate::time::Event;
use crate::wire;

/// The time a world begins at, unless told otherwise: 2026-01-15T12:00:00Z.
pub const DAWN_MS: i64 = 1_768_478_400_000;

/// The provider's world. Nothing in it moves but by [`World::advance`] and by calls.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) rules: Rules,
    pub(crate) now: i64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) slots: Vec<Option<Slot>>,
    pub(crate) by_id: HashMap<String, usize>,
    /// The listing, oldest first; what is not visible yet is not in it.
    pub(crate) shown: Vec<usize>,
    pub(crate) jobs: Vec<JobRow>,
    /// The job listing. Its order is arbitrary but does not change.
    pub(crate) shown_jobs: Vec<(u64, usize)>,
    /// As they were when they vanished, in that order.
    gone: Vec<Machine>,
    pub(crate) products: Vec<Product>,
    pub(crate) clusters: Vec<Cluster>,
    /// The markets whose room is set.
    pub(crate) markets: Vec<Market>,
    /// The cluster of each network volume. Volumes have a life of their own: they stay when an instance goes.
    pub(crate) volumes: BTreeMap<String, String>,
    /// The cluster of each private network.
    pub(crate) networks: BTreeMap<String, String>,
    pub(crate) timeline: BTreeMap<(i64, u64), Event>,
    pub(crate) events: u64,
    log: Vec<Entry>,
    calls: HashMap<Op, u64>,
    pub(crate) minute: (i64, u32),
    pub(crate) script: Script,
    pub(crate) history: Vec<Past>,
    /// Applications, by the image that they are in.
    pub(crate) apps: Apps,
    /// What [`World::knock`] found out about the running machines, until something changes.
    pub(crate) share: Option<(u32, u32)>,
    /// The slots that changed since the server looked, if there is one.
    pub(crate) stirred: Option<Vec<usize>>,
    pub(crate) hidden: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) machine: Machine,
    /// Changes with every command, so that what was planned before it does not happen any more.
    pub(crate) epoch: u32,
    /// The same for the reclaim.
    pub(crate) reclaim_epoch: u32,
    /// Its jobs, all of them.
    pub(crate) jobs: Vec<usize>,
    pub(crate) row: Option<Box<str>>,
    /// What history knows about it: the place of the newest entry.
    pub(crate) told: Option<usize>,
    /// How often its ports were asked.
    pub(crate) counts: Vec<(u16, Counts)>,
    /// Where its ports can really be reached.
    pub(crate) sockets: Vec<(u16, SocketAddr)>,
}

/// A write that reached the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it took effect or was refused; Unix milliseconds.
    pub at_ms: i64,
    /// What was asked for.
    pub op: Op,
    /// The instance; for a create the new one, or the name asked for if there is none.
    pub instance: String,
    /// The instance's name at the time, "" if it is not known; for a create the name asked for.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, whether or not the client was told.
    Applied,
    /// It did not: the HTTP status and the reason.
    Refused(u16, String),
    /// A fault swallowed it before it could take effect.
    Lost,
}

/// Everything that can be compared about two worlds.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Instances, ordered by id.
    pub machines: Vec<Machine>,
    /// Jobs, oldest first.
    pub jobs: Vec<JobRow>,
}

impl World {
    /// An empty world with some products and clusters.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rules: Rules::default(),
            now: DAWN_MS,
            rng: fastrand::Rng::with_seed(seed),
            slots: Vec::new(),
            by_id: HashMap::new(),
            shown: Vec::new(),
            jobs: Vec::new(),
            shown_jobs: Vec::new(),
            gone: Vec::new(),
            products: default_products(),
            clusters: default_clusters(),
            markets: Vec::new(),
            volumes: BTreeMap::new(),
            networks: BTreeMap::new(),
            timeline: BTreeMap::new(),
            events: 0,
            log: Vec::new(),
            calls: HashMap::new(),
            minute: (0, 0),
            script: Script::new(seed),
            history: Vec::new(),
            apps: Apps::new(),
            share: None,
            stirred: None,
            hidden: Vec::new(),
        }
    }

    /// The same world at another time: everything in it moves along.
    #[must_use]
    pub fn starting_at(mut self, now_ms: i64) -> Self {
        let by = now_ms - self.now;
        let shift = |time: &mut i64| {
            if *time != 0 {
                *time += by;
            }
        };
        self.now = now_ms;
        let slots = self.slots.iter_mut().flatten().map(|slot| {
            slot.row = None;
            &mut slot.machine
        });
        for machine in slots.chain(&mut self.gone) {
            shift(&mut machine.spot_reclaim_at);
            shift(&mut machine.created_at);
            shift(&mut machine.first_ran_at);
            shift(&mut machine.last_started_at);
            shift(&mut machine.last_stopped_at);
        }
        for job in &mut self.jobs {
            shift(&mut job.created_at);
            shift(&mut job.visible_at);
        }
        for entry in &mut self.log {
            shift(&mut entry.at_ms);
        }
        for past in &mut self.history {
            shift(&mut past.at_ms);
        }
        self.markets.iter_mut().for_each(|market| market.shift(by));
        let timeline = std::mem::take(&mut self.timeline);
        self.timeline = timeline.into_iter().map(|((at, n), event)| ((at + by, n), event)).collect();
        self
    }

    /// The rules, to read.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rules, to change at any time.
    pub fn rules_mut(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// The world's time in Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now
    }

    /// Lets time pass, and happen what falls into it, in order.
    pub fn advance(&mut self, ms: u64) {
        self.advance_to(self.now.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
    }

    /// The same, up to a moment; nothing if it has passed.
    pub fn advance_to(&mut self, now_ms: i64) {
        while let Some(entry) = self.timeline.first_entry() {
            let at = entry.key().0;
            if at > now_ms {
                break;
            }
            let event = entry.remove();
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = self.now.max(now_ms);
    }

    /// Lets time pass until nothing is under way any more, reclaims included.
    pub fn settle(&mut self) {
        while let Some((&(at, _), _)) = self.timeline.last_key_value() {
            self.advance_to(at);
        }
    }

    /// Adds a rule to the fault script. The first rule that strikes decides; delays add up.
    pub fn fault(&mut self, fault: Fault) {
        self.script.add(fault);
    }

    /// Forgets all fault rules.
    pub fn clear_faults(&mut self) {
        self.script.clear();
    }

    /// Puts an instance into the world, visible at once. Answers its id.
    ///
    /// # Panics
    /// When the id is taken, or when another application is known to be in its image on the same port.
    pub fn add(&mut self, spec: Spec) -> String {
        let Spec { mut machine, started_ago_ms, stopped_ago_ms, reclaim_in_ms, failed_migration_ago_ms, apps } = spec;
        for app in apps {
            let is_new = self.apps_of(&machine.image_url).all(|known| known.port != app.port || *known == app);
            assert!(is_new, "the image {} has another application on port {}", machine.image_url, app.port);
            self.set_app(&machine.image_url, app);
        }
        if machine.id.is_empty() {
            machine.id = self.new_id();
        }
        if let Some(product) = self.products.iter().find(|product| product.id == machine.product_id) {
            if machine.product_name.as_deref() == Some("") {
                machine.product_name = Some(product.name.clone());
            }
            if machine.cpu_num == 0 {
                machine.cpu_num = product.cpu_per_gpu * machine.gpu_num;
                machine.memory = product.memory_per_gpu * machine.gpu_num;
            }
            if machine.price == 0 {
                machine.price = product.price_as(&machine.billing_mode);
            }
        }
        machine.last_started_at = self.now - started_ago_ms;
        machine.created_at = machine.last_started_at - 100_000;
        if !matches!(machine.status.as_str(), "toCreate" | "creating" | "pulling" | "pending" | "created") {
            machine.first_ran_at = machine.last_started_at;
        }
        machine.last_stopped_at = stopped_ago_ms.map_or(machine.last_stopped_at, |ago| self.now - ago);
        machine.spot_reclaim_at = reclaim_in_ms.map_or(machine.spot_reclaim_at, |after| self.now + after);
        for volume in machine.volumes.iter().filter(|volume| volume.kind == "network") {
            self.volumes.insert(volume.id.clone(), machine.cluster_id.clone());
        }
        if !machine.network_id.is_empty() {
            self.networks.insert(machine.network_id.clone(), machine.cluster_id.clone());
        }
        let (id, notified, at) = (machine.id.clone(), machine.spot_status == "notified", machine.spot_reclaim_at);
        let slot = self.insert(machine);
        self.shown.push(slot);
        if notified {
            self.schedule(at, Event::Reclaim { slot, epoch: 0 });
        }
        if let Some(ago) = failed_migration_ago_ms {
            self.add_job(JobRow::migration(&id, "fail", self.now - ago));
        }
        id
    }

    /// Makes a network volume known, in a cluster. Those of instances are known without.
    pub fn add_volume(&mut self, id: &str, cluster: &str) {
        self.volumes.insert(id.to_owned(), cluster.to_owned());
    }

    /// Makes a private network known, in a cluster. Those of instances are known without.
    pub fn add_network(&mut self, id: &str, cluster: &str) {
        self.networks.insert(id.to_owned(), cluster.to_owned());
    }

    /// Puts a job into the world as it is; an empty id is made up. Answers the id.
    pub fn add_job(&mut self, mut job: JobRow) -> String {
        if job.id.is_empty() {
            job.id = self.new_id();
        }
        let id = job.id.clone();
        let (at, number) = (job.visible_at, self.jobs.len());
        if let Some(Some(slot)) = self.slot(&job.instance_id).and_then(|slot| self.slots.get_mut(slot)) {
            slot.jobs.push(number);
        }
        self.jobs.push(job);
        if at <= self.now {
            self.happen(Event::ShowJob { job: number });
        } else {
            self.schedule(at, Event::ShowJob { job: number });
        }
        id
    }

    /// An instance, whether or not listings show it yet.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Machine> {
        self.slot(id).and_then(|slot| self.machine_at(slot))
    }

    /// Every instance, also those that listings do not show yet, ordered by creation.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.slots.iter().flatten().map(|slot| &slot.machine)
    }

    /// Every instance that is gone without a trace, as it was at its end, in the order of going; deleted by a call, or
    /// by the provider itself.
    pub fn gone(&self) -> impl Iterator<Item = &Machine> {
        self.gone.iter()
    }

    /// Every instance that there is or ever was.
    pub fn ever(&self) -> impl Iterator<Item = &Machine> {
        self.gone().chain(self.machines())
    }

    /// Every instance with this name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Machine> {
        self.machines().filter(move |machine| machine.name == name)
    }

    /// Every job, oldest first.
    #[must_use]
    pub fn jobs(&self) -> &[JobRow] {
        &self.jobs
    }

    /// Changes an instance behind everybody's back. `false` if there is none.
    pub fn edit(&mut self, id: &str, change: impl FnOnce(&mut Machine)) -> bool {
        let slot = self.slot(id);
        slot.is_some_and(|slot| {
            self.change(slot, change);
            true
        })
    }

    /// Changes a job behind everybody's back. `false` if there is none.
    pub fn edit_job(&mut self, id: &str, change: impl FnOnce(&mut JobRow)) -> bool {
        let job = self.jobs.iter_mut().find(|job| job.id == id);
        job.map(change).is_some()
    }

    /// Sets a status for good: what was under way does not happen any more. `false` if there is no such instance.
    pub fn set_status(&mut self, id: &str, status: &str) -> bool {
        if let Some(slot) = self.slot(id) {
            self.command(slot);
        }
        self.edit(id, |machine| status.clone_into(&mut machine.status))
    }

    /// Its user stops it elsewhere. `false` if there is no such instance.
    pub fn user_stop(&mut self, id: &str) -> bool {
        let now = self.now;
        self.set_status(id, "exited") && self.edit(id, |machine| machine.last_stopped_at = now)
    }

    /// The provider announces a reclaim now, and carries it out after the notice time. `false` if there is no such
    /// instance.
    pub fn reclaim(&mut self, id: &str) -> bool {
        self.reclaim_at(id, self.now)
    }

    /// The same with the notice at another time.
    pub fn reclaim_at(&mut self, id: &str, notice_at_ms: i64) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let epoch = self.reclaim_command(slot);
        if notice_at_ms <= self.now {
            self.happen(Event::Notice { slot, epoch });
        } else {
            self.schedule(notice_at_ms, Event::Notice { slot, epoch });
        }
        true
    }

    /// The provider takes it without notice. `false` if there is no such instance.
    pub fn reclaim_now(&mut self, id: &str) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let (epoch, now) = (self.reclaim_command(slot), self.now);
        self.change(slot, |machine| machine.spot_reclaim_at = now);
        self.happen(Event::Reclaim { slot, epoch });
        true
    }

    /// The provider takes this share of the running spot instances at once, drawn from the seed. Answers their ids.
    pub fn reclaim_wave(&mut self, share: f64) -> Vec<String> {
        let spot = |machine: &&Machine| machine.status == "running" && machine.billing_mode == "spot";
        let mut ids: Vec<_> = self.machines().filter(spot).map(|machine| machine.id.clone()).collect();
        ids.retain(|_| self.rng.f64() < share);
        for id in &ids {
            self.reclaim_now(id);
        }
        ids
    }

    /// It is gone, without a trace. `false` if there is no such instance.
    pub fn vanish(&mut self, id: &str) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let epoch = self.command(slot);
        self.happen(Event::Gone { slot, epoch });
        true
    }

    /// Every write that reached the world, in order.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// The writes of one kind about one instance.
    pub fn writes<'a>(&'a self, op: Op, id: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.log.iter().filter(move |entry| entry.op == op && entry.instance == id)
    }

    /// How many migrate calls named this instance: applied, refused and lost.
    #[must_use]
    pub fn migrations_of(&self, id: &str) -> usize {
        self.writes(Op::Migrate, id).count()
    }

    /// How many of them took effect.
    #[must_use]
    pub fn accepted_migrations_of(&self, id: &str) -> usize {
        self.writes(Op::Migrate, id).filter(|entry| entry.outcome == Outcome::Applied).count()
    }

    /// How many writes of this kind took effect.
    #[must_use]
    pub fn applied(&self, op: Op) -> usize {
        self.log.iter().filter(|entry| entry.op == op && entry.outcome == Outcome::Applied).count()
    }

    /// How many calls of this kind arrived, reads too.
    #[must_use]
    pub fn calls(&self, op: Op) -> u64 {
        self.calls.get(&op).copied().unwrap_or(0)
    }

    /// Everything that can be compared about two worlds, without the time.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let mut machines: Vec<_> = self.machines().cloned().collect();
        machines.sort_by(|a, b| a.id.cmp(&b.id));
        Picture { machines, jobs: self.jobs.clone() }
    }

    pub(crate) fn count_call(&mut self, op: Op) {
        *self.calls.entry(op).or_default() += 1;
    }

    /// Writes a call down. `subject` is what the call named; for a create that took effect, the new instance.
    pub(crate) fn record(&mut self, op: Op, subject: &str, outcome: Outcome) {
        let name = if op == Op::Create && outcome != Outcome::Applied {
            subject
        } else {
            self.get(subject).map_or("", |machine| &machine.name)
        };
        let name = name.to_owned();
        self.log.push(Entry { at_ms: self.now, op, instance: subject.to_owned(), name, outcome });
    }

    /// The instance in this slot is gone.
    pub(crate) fn bury(&mut self, slot: usize) {
        if let Some(gone) = self.slots.get_mut(slot).and_then(Option::take) {
            self.by_id.remove(&gone.machine.id);
            self.shown.retain(|shown| *shown != slot);
            self.touched(slot);
            self.tell_gone(&gone.machine.id, &gone.machine.billing_mode);
            self.gone.push(gone.machine);
        }
    }

    pub(crate) fn park(&mut self, call: Call, after_ms: u64) {
        let at = self.now.saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX));
        self.schedule(at, Event::Late(Box::new(call)));
    }

    pub(crate) fn slot(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn machine_at(&self, slot: usize) -> Option<&Machine> {
        self.slots.get(slot)?.as_ref().map(|slot| &slot.machine)
    }

    pub(crate) fn shown(&self) -> &[usize] {
        &self.shown
    }

    /// The jobs that listings show, in the order of listings.
    pub(crate) fn shown_jobs(&self) -> impl Iterator<Item = &JobRow> {
        self.shown_jobs.iter().filter_map(|(_, job)| self.jobs.get(*job))
    }

    /// The jobs of an instance, oldest first.
    pub(crate) fn jobs_of(&self, id: &str) -> impl Iterator<Item = &JobRow> {
        let slot = self.slot(id).and_then(|slot| self.slots.get(slot)?.as_ref());
        let jobs = slot.map_or(&[][..], |slot| &slot.jobs);
        jobs.iter().filter_map(|job| self.jobs.get(*job))
    }

    pub(crate) fn unfinished_jobs_of(&self, id: &str) -> impl Iterator<Item = &JobRow> {
        self.jobs_of(id).filter(|job| job.is_unfinished())
    }

    /// The row of an instance in listings.
    pub(crate) fn row(&mut self, slot: usize) -> &str {
        match self.slots.get_mut(slot) {
            Some(Some(slot)) => {
                if slot.row.is_none() {
                    let endpoints = endpoints(&self.apps, slot, self.rules.wire.endpoint_urls);
                    slot.row = Some(wire::row(&slot.machine, &endpoints).into_boxed_str());
                }
                slot.row.as_deref().unwrap_or_default()
            }
            _ => "",
        }
    }

    /// The same, if it has been written since it changed.
    pub(crate) fn written_row(&self, slot: usize) -> Option<&str> {
        self.slots.get(slot)?.as_ref()?.row.as_deref()
    }

    /// Writes every row now, so that no measurement pays for it later.
    pub fn write_rows(&mut self) {
        for slot in 0..self.slots.len() {
            self.row(slot);
        }
    }

    /// Sixteen lower-case letters and digits, not in use.
    pub(crate) fn new_id(&mut self) -> String {
        loop {
            let id: String = (0..16)
                .map(|_| {
                    let digit = self.rng.u32(..36);
                    char::from_digit(digit, 36).unwrap_or('0')
                })
                .collect();
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    pub(crate) fn insert(&mut self, mut machine: Machine) -> usize {
        if machine.cluster_name.is_empty() {
            let cluster = self.clusters.iter().find(|cluster| cluster.id == machine.cluster_id);
            machine.cluster_name = cluster.map(|cluster| cluster.name.clone()).unwrap_or_default();
        }
        let slot = self.slots.len();
        let taken = self.by_id.insert(machine.id.clone(), slot);
        assert!(taken.is_none(), "two instances with the id {}", machine.id);
        let (jobs, counts, sockets) = (Vec::new(), Vec::new(), Vec::new());
        self.slots.push(Some(Slot {
            machine,
            epoch: 0,
            reclaim_epoch: 0,
            jobs,
            row: None,
            told: None,
            counts,
            sockets,
        }));
        self.touched(slot);
        slot
    }

    /// Something about this machine is different, or it is gone.
    pub(crate) fn touched(&mut self, slot: usize) {
        self.share = None;
        self.tell(slot);
        if let Some(stirred) = self.stirred.as_mut().filter(|_| !self.apps.is_empty()) {
            stirred.push(slot);
        }
    }
}
