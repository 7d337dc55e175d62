//! What a replay was worth, read off the world alone: the state at the end of each tick, and what is in the provider's
//! log of writes. Nothing here asks the program what it thinks it did.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use novita_sim::{Entry, Machine, Op, Outcome, Room, World};

use crate::replay::{ON_DEMAND, PRODUCT, SPOT};

/// Why an instance is down, as far as the world tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No pass was made since.
    Noticing,
    /// The last pass left no room anywhere.
    NoRoom,
    /// The last pass left room somewhere.
    HeldBack,
    /// It was on its way.
    ComingUp,
}

/// What a replay was worth. Times are counted in whole ticks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// The share of the time that an instance was up.
    pub(crate) up: f64,
    /// From the first tick that an instance was down to the first that it was up again, in ascending order. One that is
    /// down in the end counts with what it has.
    pub(crate) spells: Vec<Duration>,
    /// Hours lost in an instance-month, by [`Cause`].
    pub(crate) lost: [f64; 4],
    /// Instances that the provider took while they ran.
    pub(crate) reclaims: usize,
    /// Accepted migrations and creations.
    pub(crate) moves: usize,
    /// Accepted deletions.
    pub(crate) deletions: usize,
    /// Refused migrations and creations.
    pub(crate) refusals: usize,
    /// Accepted migrations and creations in an instance-day.
    pub(crate) moves_a_day: f64,
    /// The most instances at once, of the whole fleet: those that run and those that come up.
    pub(crate) most_at_once: usize,
    /// USD for each hour that an instance was up; instances cost from the accepted call on.
    pub(crate) cost: f64,
    /// The share of the time that instances were up on demand.
    pub(crate) on_demand: f64,
    /// How many of those that their users had stopped were started.
    pub(crate) woken: usize,
    /// What must not happen, and did.
    pub(crate) broken: Vec<String>,
    /// How often each exit code occurred.
    pub(crate) exits: HashMap<u8, usize>,
}

impl Figures {
    /// Of several replays of one length: shares are means, counts are sums.
    pub(crate) fn of_all(replays: impl Iterator<Item = Self>) -> Self {
        let all: Vec<Self> = replays.collect();
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / count(all.len());
        let sum = |of: fn(&Self) -> usize| all.iter().map(of).sum();
        let mut spells: Vec<Duration> = all.iter().flat_map(|it| it.spells.clone()).collect();
        spells.sort_unstable();
        let mut exits: HashMap<u8, usize> = HashMap::new();
        for (code, times) in all.iter().flat_map(|it| &it.exits) {
            *exits.entry(*code).or_default() += times;
        }
        Self {
            up: mean(|it| it.up),
            spells,
            lost: [mean(|it| it.lost[0]), mean(|it| it.lost[1]), mean(|it| it.lost[2]), mean(|it| it.lost[3])],
            reclaims: sum(|it| it.reclaims),
            moves: sum(|it| it.moves),
            deletions: sum(|it| it.deletions),
            refusals: sum(|it| it.refusals),
            moves_a_day: mean(|it| it.moves_a_day),
            most_at_once: all.iter().map(|it| it.most_at_once).max().unwrap_or_default(),
            cost: mean(|it| it.cost),
            on_demand: mean(|it| it.on_demand),
            woken: sum(|it| it.woken),
            broken: all.iter().flat_map(|it| it.broken.clone()).collect(),
            exits,
        }
    }

    /// How long spells lasted that were longer than this share of them.
    pub(crate) fn spell(&self, percent: usize) -> Duration {
        let last = self.spells.len().saturating_sub(1);
        self.spells.get((self.spells.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }

    pub(crate) fn lost_in_all(&self) -> f64 {
        self.lost.iter().sum()
    }

    /// Refused calls for each spell.
    pub(crate) fn refused(&self) -> f64 {
        count(self.refusals) / count(self.spells.len().max(1))
    }

    /// Accepted calls for each spell, deletions among them.
    pub(crate) fn accepted(&self) -> f64 {
        count(self.moves + self.deletions) / count(self.spells.len().max(1))
    }
}

/// A number of things, to calculate with.
pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// A logical instance: all that were created in the place of the one it began with, and that one.
#[derive(Clone, Debug, Default)]
struct Lineage {
    is_up: bool,
    /// How many ticks it has been down.
    down: usize,
    /// Whether a pass was made since it went down.
    seen: bool,
    /// Whether it is on its way.
    is_coming: bool,
}

/// Watches a world from tick to tick.
pub(crate) struct Watch<'a> {
    zones: &'a [&'a str],
    fleet: u32,
    /// How many of a lineage may live at once.
    most_living: usize,
    lineages: HashMap<String, Lineage>,
    /// What users stopped, by id, and nobody touched since.
    pub(crate) stopped: HashSet<String>,
    /// The last known status of each instance.
    statuses: HashMap<String, String>,
    /// How much of the log and of the history was read.
    read: (usize, usize),
    /// Whether the last pass left room anywhere.
    room_is_left: bool,
    ticks: usize,
    up_ticks: usize,
    on_demand_ticks: usize,
    spells: Vec<usize>,
    lost: [usize; 4],
    /// 1/100000 USD an hour, for each tick.
    paid: u64,
    figures: Figures,
}

/// How many violations are kept.
const ENOUGH: usize = 3;

impl<'a> Watch<'a> {
    pub(crate) fn new(zones: &'a [&'a str], fleet: u32, most_living: usize) -> Self {
        let begun = Lineage { is_up: true, ..Lineage::default() };
        Self {
            zones,
            fleet,
            most_living,
            lineages: (0..fleet).map(|number| (format!("m{number}"), begun.clone())).collect(),
            stopped: HashSet::new(),
            statuses: HashMap::new(),
            read: (0, 0),
            room_is_left: true,
            ticks: 0,
            up_ticks: 0,
            on_demand_ticks: 0,
            spells: Vec::new(),
            lost: [0; 4],
            paid: 0,
            figures: Figures::default(),
        }
    }

    /// The end of a tick.
    pub(crate) fn tick(&mut self, world: &World) {
        self.ticks += 1;
        self.check_living(world);
        for lineage in self.lineages.values_mut() {
            (lineage.is_up, lineage.is_coming) = (false, false);
        }
        for machine in world.machines() {
            let is_living = world.is_living(machine);
            let Some(lineage) = self.lineages.get_mut(lineage_of(machine)).filter(|_| is_living) else { continue };
            let is_spot = machine.billing_mode == "spot";
            let runs = machine.status == "running";
            self.on_demand_ticks += usize::from(runs && !is_spot && !lineage.is_up);
            self.paid += u64::from(if is_spot { SPOT } else { ON_DEMAND });
            lineage.is_up |= runs;
            lineage.is_coming = true;
        }
        for lineage in self.lineages.values_mut() {
            if lineage.is_up {
                self.up_ticks += 1;
                if lineage.down > 0 {
                    self.spells.push(lineage.down);
                }
                (lineage.down, lineage.seen) = (0, false);
                continue;
            }
            lineage.down += 1;
            let cause = match (lineage.is_coming, lineage.seen, self.room_is_left) {
                (true, ..) => Cause::ComingUp,
                (false, false, _) => Cause::Noticing,
                (false, true, true) => Cause::HeldBack,
                (false, true, false) => Cause::NoRoom,
            };
            self.lost[cause as usize] += 1;
        }
        self.read_history(world);
    }

    /// What runs may be deleted only if another one of its lineage runs and is not said to end earlier.
    pub(crate) fn deleting(&mut self, world: &World, id: &str) {
        let Some(old) = world.get(id).filter(|old| old.status == "running") else { return };
        let ends =
            |machine: &Machine| if machine.spot_status == "notified" { machine.spot_reclaim_at } else { i64::MAX };
        let mut running = world.machines().filter(|machine| machine.status == "running" && machine.id != id);
        if !running.any(|other| lineage_of(other) == lineage_of(old) && ends(other) >= ends(old)) {
            self.broken(world, &format!("{id} ran and was deleted without a better one"));
        }
    }

    /// What a pass made of it.
    pub(crate) fn pass_ended(&mut self, world: &World, code: u8) {
        *self.figures.exits.entry(code).or_default() += 1;
        for lineage in self.lineages.values_mut().filter(|lineage| lineage.down > 0) {
            lineage.seen = true;
        }
        self.room_is_left = self.zones.iter().any(|zone| has_room(world, zone));
        self.check_living(world);
        let log = world.log().get(self.read.0..).unwrap_or_default();
        self.read.0 = world.log().len();
        for entry in log {
            self.note(world, entry);
        }
    }

    fn note(&mut self, world: &World, entry: &Entry) {
        let figures = &mut self.figures;
        match (entry.op, &entry.outcome) {
            (Op::Migrate | Op::Create, Outcome::Applied) => figures.moves += 1,
            (Op::Migrate | Op::Create, Outcome::Refused(..)) => figures.refusals += 1,
            (Op::Delete, Outcome::Applied) => figures.deletions += 1,
            _ => {}
        }
        if entry.outcome == Outcome::Applied && self.stopped.remove(&entry.instance) {
            match entry.op {
                Op::Delete => self.broken(world, &format!("{} was stopped by its user, and deleted", entry.instance)),
                _ => self.figures.woken += 1,
            }
        }
    }

    fn check_living(&mut self, world: &World) {
        let mut rows: HashMap<&str, (usize, usize)> = HashMap::new();
        for machine in world.machines().filter(|machine| machine.is_alive()) {
            let (rows, living) = rows.entry(lineage_of(machine)).or_default();
            *rows += 1;
            *living += usize::from(world.is_living(machine));
        }
        let at_once = rows.values().map(|(_, living)| living).sum();
        self.figures.most_at_once = self.figures.most_at_once.max(at_once);
        if rows.len() < self.lineages.len() {
            self.broken(world, "an instance was lost");
        }
        for (lineage, (rows, living)) in rows {
            if living > self.most_living {
                self.broken(world, &format!("{living} of {lineage} lived at once"));
            }
            if rows > 3 {
                self.broken(world, &format!("{lineage} had {rows} rows"));
            }
        }
    }

    /// The program may remember each market once.
    pub(crate) fn check_markets(&mut self, remembered: usize) {
        let markets = self.zones.len();
        if remembered > markets {
            self.figures.broken.push(format!("{remembered} of {markets} markets are remembered"));
        }
    }

    fn broken(&mut self, world: &World, what: &str) {
        if self.figures.broken.len() < ENOUGH {
            let hours = (world.now_ms() - novita_sim::DAWN_MS) / 3_600_000;
            self.figures.broken.push(format!("{what} after {hours} h"));
        }
    }

    /// Counts those that ran and are exited: the provider took them, or their user stopped them.
    fn read_history(&mut self, world: &World) {
        for past in world.history().get(self.read.1..).unwrap_or_default() {
            let before = self.statuses.insert(past.id.clone(), past.status.clone());
            self.figures.reclaims += usize::from(past.status == "exited" && before.is_some_and(|it| it == "running"));
        }
        self.read.1 = world.history().len();
    }

    /// All of it, for ticks of this length.
    pub(crate) fn figures(mut self, gap: Duration) -> Figures {
        self.spells.extend(self.lineages.values().map(|lineage| lineage.down).filter(|down| *down > 0));
        self.spells.sort_unstable();
        let instance_ticks = count(self.ticks) * f64::from(self.fleet);
        let share = |ticks: usize| count(ticks) / instance_ticks;
        let up = share(self.up_ticks);
        let hours_paid = self.paid as f64 / f64::from(SPOT);
        let days = instance_ticks * gap.as_secs_f64() / 86_400.0;
        Figures {
            up,
            spells: self.spells.iter().map(|ticks| gap * u32::try_from(*ticks).unwrap_or(u32::MAX)).collect(),
            lost: self.lost.map(|ticks| share(ticks) * 720.0),
            moves_a_day: count(self.figures.moves) / days,
            cost: hours_paid / count(self.up_ticks.max(1)),
            on_demand: share(self.on_demand_ticks),
            ..self.figures
        }
    }
}

/// Names begin with that of the first one of a lineage, whoever makes them.
fn lineage_of(machine: &Machine) -> &str {
    machine.name.split('-').next().unwrap_or_default()
}

fn has_room(world: &World, zone: &str) -> bool {
    match world.room(PRODUCT, zone) {
        None | Some(Room::Any) => true,
        Some(Room::For(most)) => world.living_in(PRODUCT, zone).count() < usize::try_from(most).unwrap_or(usize::MAX),
    }
}
