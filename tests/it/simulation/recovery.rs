//! What must be true of a world in which reclaimed instances were brought back, judged by what the world and the line to it
//! remember.

use std::collections::{HashMap, HashSet};

use novita_sim::{Entry, Fate, Hint, Machine, Op, Outcome, World};
use respot::core::recreation::marker::Origin;
use respot::core::world::instance::InstanceId;
use respot::core::world::policy::{Eligibility, Escalation, Policy};

use super::judge::Families;
use super::line::{Ask, Deletion, Notes};

/// What a pass saw may be this old when its call takes effect: requests wait, are repeated and outlive a suspended pass.
const TOLERANCE: i64 = 5 * 60_000;

/// A call that arrives so much later than it was sent was counted as one without effect.
const LATE: i64 = 150_000;

/// How long a market that refused is left alone at least, but for what an answer takes to be noted.
const SHORTEST_REST: i64 = 59_000;

/// A call that was about to be sent when the market refused another one.
const UNDER_WAY: i64 = 1_000;

/// The same where the market had taken another one before, so that calls waited for nothing but the pace.
const UNDER_WAY_PACED: i64 = 6_000;

/// An instance that stops so soon before its announced end was not stopped by a person, as far as anybody can tell.
const MARGIN: i64 = 150_000;

const DAY: i64 = 86_400_000;

/// Everything that is judged.
pub(super) struct Past<'a> {
    pub(super) world: &'a World,
    pub(super) notes: &'a Notes,
    pub(super) policy: &'a Policy,
    /// Instances that a person stopped, and when.
    pub(super) stops: &'a [(String, i64)],
    /// Whether the store was flushed.
    pub(super) flushed: bool,
}

/// The first thing that is wrong, if anything is.
pub(super) fn judge(past: &Past<'_>, create_first: bool) -> Result<(), String> {
    let families = Families::of(past.world);
    let late = past.late(&families);
    past.check_rests()?;
    past.check_quotas()?;
    past.check_ties(&families)?;
    past.check_stops(&families)?;
    past.check_budget()?;
    if create_first {
        past.check_deletions(&families)?;
        past.check_companions(&families, &late)?;
    }
    Ok(())
}

fn applied(world: &World, op: Op) -> impl Iterator<Item = &Entry> {
    world.log().iter().filter(move |entry| entry.op == op && entry.outcome == Outcome::Applied)
}

impl Past<'_> {
    /// After a used up quota has refused a creation, none of its billing mode is sent in that pass.
    fn check_quotas(&self) -> Result<(), String> {
        for (pass, billing, _, answered_at) in &self.notes.quotas {
            let is_same = |it: &&(u32, String, i64, i64)| (it.0, &it.1) == (*pass, billing) && it.2 > *answered_at;
            if self.notes.quotas.iter().any(|it| is_same(&it)) {
                return Err(format!("a used up quota of {billing} was asked for again in one pass, {pass}"));
            }
        }
        Ok(())
    }

    /// The families of which a member was created by a request that had been given up, beside another or not.
    fn late(&self, families: &Families<'_>) -> HashSet<String> {
        let mut names: HashSet<&str> = HashSet::new();
        let twins: HashSet<&str> = applied(self.world, Op::Create)
            .filter(|entry| !names.insert(&entry.name))
            .map(|entry| entry.name.as_str())
            .collect();
        let is_late = |entry: &&Entry| {
            if twins.contains(entry.name.as_str()) {
                return true;
            }
            let sent = self.notes.creations.iter().filter(|(name, at)| *name == entry.name && *at <= entry.at_ms);
            sent.map(|(_, at)| *at).max().is_none_or(|at| entry.at_ms - at > LATE)
        };
        let late = applied(self.world, Op::Create).filter(is_late);
        late.filter_map(|entry| families.by_id.get_key_value(entry.instance.as_str()))
            .map(|(id, _)| families.root(id).to_owned())
            .collect()
    }

    /// No pass asks a market again before its rest is over.
    fn check_rests(&self) -> Result<(), String> {
        let Notes { asks, offers_read, ended, .. } = self.notes;
        let knows = |asks: &Ask, of: &Ask| asks.pass == of.pass || of.pass < asks.pass && ended.contains(&of.pass);
        // Stock that is back ends a rest.
        let tells_of_stock = matches!(self.world.rules().hint, Hint::True | Hint::Stale { .. });
        for (at, ask) in asks.iter().enumerate() {
            let before = asks[..at].iter().filter(|it| it.market == ask.market && knows(ask, it));
            let answered = before.filter_map(|it| it.answer.map(|(at, has_room)| (at, has_room, it)));
            let newest = answered.filter(|(at, ..)| *at <= ask.sent_at).max_by_key(|(at, ..)| *at);
            let Some((refused_at, false, refused)) = newest else { continue };
            // It took the last one that it had room for at the same moment.
            let took_at_once = |it: &Ask| matches!(it.answer, Some((at, true)) if (at - refused_at).abs() < UNDER_WAY);
            if asks.iter().any(|it| it.market == ask.market && took_at_once(it)) {
                continue;
            }
            let is_excused = tells_of_stock && offers_read.iter().any(|at| (refused_at..=ask.sent_at).contains(at));
            let after = ask.sent_at - refused_at;
            let took =
                |it: &Ask| it.pass == ask.pass && it.market == ask.market && matches!(it.answer, Some((_, true)));
            let under_way = if asks[..at].iter().any(took) { UNDER_WAY_PACED } else { UNDER_WAY };
            // A call that was told to slow down is one call with its next attempt.
            let is_again = |it: &Ask| it.pass == ask.pass && it.about == ask.about && it.answer.is_none();
            let was_sent_before = asks[..at].iter().any(|it| is_again(it) && it.sent_at <= refused_at + under_way);
            let is_excused = is_excused || was_sent_before;
            if ask.gpus >= refused.gpus && (under_way..SHORTEST_REST).contains(&after) && !is_excused {
                let Ask { market: (product, cluster), about, .. } = ask;
                let of = &refused.about;
                return Err(format!(
                    "{product} in {cluster} was asked about {about} {after} ms after it refused {of}, before its rest was over"
                ));
            }
        }
        Ok(())
    }

    /// What a network volume ties to a cluster stays there.
    fn check_ties(&self, families: &Families<'_>) -> Result<(), String> {
        for (root, members) in families.all() {
            let clusters: HashSet<&str> = members.iter().map(|it| it.cluster_id.as_str()).collect();
            if clusters.len() > 1 && members.iter().any(|it| !it.volumes.is_empty()) {
                return Err(format!("{root} left the cluster of its network volume: {clusters:?}"));
            }
        }
        let is_astray = |entry: &&Entry| matches!(&entry.outcome, Outcome::Refused(_, why) if why.contains("MISMATCH"));
        match self.world.log().iter().find(is_astray) {
            Some(entry) => Err(format!("{} was asked for in the wrong cluster", entry.name)),
            None => Ok(()),
        }
    }

    /// What a person stopped is not replaced, and not woken without evidence of a reclaim where that is asked for.
    fn check_stops(&self, families: &Families<'_>) -> Result<(), String> {
        // Without its records it does not know why a replacement was made.
        if self.flushed {
            return Ok(());
        }
        let migrated = |id: &str, from: i64, to: i64| {
            let mut log = applied(self.world, Op::Migrate).filter(|entry| entry.instance == id);
            log.any(|entry| entry.at_ms >= from && entry.at_ms <= to)
        };
        for (id, stopped_at) in self.stops.iter().filter(|(id, _)| families.by_id.contains_key(id.as_str())) {
            let machine = families.by_id[id.as_str()];
            // Its announced end was about then, so that it looks as if it was taken.
            let end = self.notes.ends.get(id).copied().unwrap_or(0);
            if end <= stopped_at + MARGIN && end >= stopped_at - MARGIN {
                continue;
            }
            let deleted = applied(self.world, Op::Delete).find(|entry| entry.instance == *id).map(|entry| entry.at_ms);
            let is_replaced = !families.children(id).is_empty();
            if let Some(deleted) = deleted
                && self.policy.escalation == Escalation::Evidence
                && is_replaced
                && deleted > stopped_at + TOLERANCE
                && !migrated(id, *stopped_at, deleted)
            {
                return Err(format!(
                    "{id} ({}) was stopped by a person at {stopped_at}, its end was announced for {end}, and replaced",
                    machine.name
                ));
            }
            let is_asked = |ask: &&Ask| ask.about == *id && ask.sent_at > stopped_at + TOLERANCE;
            if self.policy.eligibility == Eligibility::Reclaimed
                && let Some(ask) = self.notes.asks.iter().find(is_asked)
                && !migrated(id, *stopped_at, ask.sent_at)
            {
                return Err(format!("{id} was stopped by a person at {stopped_at} and woken at {}", ask.sent_at));
            }
        }
        Ok(())
    }

    /// No bridge begins unless the cost of the day, one stay of each that stands and one of its own are within the budget.
    fn check_budget(&self) -> Result<(), String> {
        // A store that lost its records lost the cost of bridges that are gone, too.
        if self.flushed {
            return Ok(());
        }
        let bridges: Vec<Bridge> =
            applied(self.world, Op::Create).filter_map(|entry| Bridge::of(self.world, self.notes, entry)).collect();
        let stay = i64::try_from(self.policy.bridge.stay.as_millis()).unwrap();
        for bridge in &bridges {
            let now = bridge.decided_at;
            let others = bridges.iter().filter(|it| it.decided_at < now && it.id != bridge.id);
            let others = others.map(|it| {
                let stands = it.ended_at.is_none_or(|end| end > now);
                it.cost_today(now) + if stands { cost(it.price, stay) } else { 0 }
            });
            let committed = others.sum::<i64>() + cost(bridge.price, stay);
            // A cent for the time between a decision and its call.
            if committed > self.policy.bridge.per_day.micros() + 10_000 {
                return Err(format!(
                    "{} began beyond the budget: {committed} of {} micro-USD are committed",
                    bridge.id,
                    self.policy.bridge.per_day.micros()
                ));
            }
        }
        Ok(())
    }

    /// What is deleted for its replacement has one that runs; what runs itself was still announced, or only stood in.
    fn check_deletions(&self, families: &Families<'_>) -> Result<(), String> {
        for entry in applied(self.world, Op::Delete) {
            let Some((id, machine)) = families.by_id.get_key_value(entry.instance.as_str()) else { continue };
            let sent = |it: &&Deletion| it.id == entry.instance && it.sent_at <= entry.at_ms;
            let Some(Deletion { sent_at, announced_at, .. }) = self.notes.deletions.iter().rfind(sent) else {
                continue;
            };
            let given_up = families.parent.get(id).is_some_and(|old| {
                let twins = families.line(old).into_iter().filter(|it| it.id != *id);
                is_there(self.world, old, *sent_at) || twins.into_iter().any(|it| self.ran_lately(it, *sent_at))
            });
            if !families.children(id).iter().any(|it| self.ran_lately(it, *sent_at)) && !given_up {
                return Err(format!("{id} was deleted while its replacement did not run"));
            }
            let runs = self.world.runs_of(id);
            let run = runs.iter().find(|it| it.from_ms <= *sent_at && it.to_ms.is_none_or(|to| to >= *sent_at));
            let is_expected = run.is_none_or(|run| run.from_ms > sent_at - TOLERANCE)
                || announced_at.is_some_and(|at| at > sent_at - TOLERANCE)
                || machine.name.contains("-bridge-");
            if !is_expected && !given_up {
                return Err(format!("{id} was deleted although it ran and was not announced any more"));
            }
        }
        Ok(())
    }

    /// Whether it ran then, as far as a pass could know.
    fn ran_lately(&self, machine: &Machine, at: i64) -> bool {
        let mut runs = self.world.runs_of(&machine.id).into_iter();
        runs.any(|run| run.from_ms <= at && run.to_ms.is_none_or(|to| to > at - TOLERANCE))
    }

    /// At most two of one family live at a time, and two only under notice or beside a bridge.
    fn check_companions(&self, families: &Families<'_>, late: &HashSet<String>) -> Result<(), String> {
        let may_be_two = self.policy.notice.is_some() || self.policy.bridge.is_on();
        let most = if may_be_two { 2 } else { 1 };
        let mut root_of: HashMap<&str, &str> = HashMap::new();
        for (root, members) in families.all() {
            if members.len() > most && !late.contains(root) {
                root_of.extend(members.iter().map(|member| (member.id.as_str(), root)));
            }
        }
        let mut living: HashMap<&str, HashSet<&str>> = HashMap::new();
        for past in self.world.history() {
            let Some((id, root)) = root_of.get_key_value(past.id.as_str()) else { continue };
            let of_root = living.entry(root).or_default();
            if is_living(&past.status) {
                of_root.insert(id);
            } else {
                of_root.remove(id);
            }
            if of_root.len() > most {
                return Err(format!("of {root} {} lived at once at {}: {of_root:?}", of_root.len(), past.at_ms));
            }
        }
        Ok(())
    }

    /// A refusal starts no cooldown: what was only refused has been asked again since the trouble is over.
    pub(super) fn check_refused(&self, calm_since: i64) -> Result<(), String> {
        if self.policy.eligibility == Eligibility::Reclaimed {
            return Ok(());
        }
        let families = Families::of(self.world);
        let exited = self.world.machines().filter(|it| it.status == "exited" && it.billing_mode == "spot");
        for machine in exited.filter(|it| it.fate != Fate::NoStock && families.children(&it.id).is_empty()) {
            if families.parent.get(machine.id.as_str()).is_some_and(|old| self.world.get(old).is_some()) {
                continue;
            }
            // A recreation of it may be open, and wait for reasons of its own.
            let origin = Some(Origin::of(&InstanceId::new(&machine.id)));
            if self.notes.creations.iter().any(|(name, _)| Origin::in_name(name) == origin) {
                continue;
            }
            let calls: Vec<&Entry> = self.world.writes(Op::Migrate, &machine.id).collect();
            let was_refused = |entry: &&Entry| matches!(&entry.outcome, Outcome::Refused(400, why) if why.contains("INSUFFICIENT_RESOURCE"));
            if calls.last().is_some_and(|last| was_refused(last) && last.at_ms < calm_since)
                && calls.iter().all(|it| matches!(it.outcome, Outcome::Refused(..)))
            {
                return Err(format!("{} waits although it was only refused", machine.id));
            }
        }
        Ok(())
    }
}

/// Whether an instance with this status occupies its place. One that is migrating may be nowhere.
fn is_living(status: &str) -> bool {
    matches!(
        status,
        "toCreate" | "creating" | "pending" | "pulling" | "created" | "toStart" | "starting" | "running" | "restarting"
    )
}

/// Whether an instance was there.
fn is_there(world: &World, id: &str, at: i64) -> bool {
    world.get(id).is_some_and(Machine::is_alive) || world.gone_at_ms(id).is_some_and(|gone| gone > at)
}

/// An on-demand instance that stood in.
struct Bridge {
    id: String,
    /// When the request was sent that it came from.
    decided_at: i64,
    created_at: i64,
    ended_at: Option<i64>,
    /// In micro-USD for an hour.
    price: i64,
}

impl Bridge {
    fn of(world: &World, notes: &Notes, entry: &Entry) -> Option<Self> {
        let machine = world.ever().find(|it| it.id == entry.instance && it.billing_mode == "onDemand")?;
        if !machine.name.contains("-bridge-") {
            return None;
        }
        let sent = notes.creations.iter().filter(|(name, at)| *name == entry.name && *at <= entry.at_ms);
        let deleted = applied(world, Op::Delete).find(|it| it.instance == machine.id).map(|it| it.at_ms);
        Some(Self {
            id: machine.id.clone(),
            decided_at: sent.map(|(_, at)| *at).max().unwrap_or(entry.at_ms),
            created_at: entry.at_ms,
            ended_at: deleted.or(world.gone_at_ms(&machine.id)),
            price: i64::from(machine.price) * 10 * i64::from(machine.gpu_num),
        })
    }

    /// In micro-USD, since midnight (UTC).
    fn cost_today(&self, now: i64) -> i64 {
        let midnight = now - now.rem_euclid(DAY);
        let until = self.ended_at.unwrap_or(now).min(now);
        cost(self.price, until - self.created_at.max(midnight))
    }
}

fn cost(price: i64, ms: i64) -> i64 {
    price * ms.max(0) / 3_600_000
}

/// How much of the ladder was used; printed, so that nobody takes a quiet history for a good one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rungs {
    pub(super) refused: u64,
    /// Instances that were replaced while they ran.
    pub(super) ahead: u64,
    pub(super) bridged: u64,
    pub(super) returned: u64,
    /// Replacements that came up in another market.
    pub(super) elsewhere: u64,
}

impl Rungs {
    pub(super) fn count(world: &World, notes: &Notes) -> Self {
        let families = Families::of(world);
        let refused = notes.asks.iter().filter(|ask| matches!(ask.answer, Some((_, false)))).count() as u64;
        let mut rungs = Self { refused, ..Self::default() };
        for (id, old) in &families.parent {
            let (new, old) = (families.by_id[id], families.by_id[old]);
            let is_bridge = |machine: &Machine| machine.name.contains("-bridge-");
            rungs.bridged += u64::from(is_bridge(new));
            rungs.returned += u64::from(is_bridge(old));
            rungs.elsewhere += u64::from((&new.cluster_id, &new.product_id) != (&old.cluster_id, &old.product_id));
            let ran = world.runs_of(&old.id);
            let is_ahead =
                ran.iter().any(|run| run.from_ms < new.created_at && run.to_ms.is_none_or(|to| to > new.created_at));
            rungs.ahead += u64::from(is_ahead && !is_bridge(old));
        }
        rungs
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self { refused, ahead, bridged, returned, elsewhere } = other;
        self.refused += refused;
        self.ahead += ahead;
        self.bridged += bridged;
        self.returned += returned;
        self.elsewhere += elsewhere;
    }
}
