//! One verdict for every instance and every open recreation, and what became of the calls of earlier passes.
//!
//! [`plan`] cannot fail and cannot wait. Recovery after a crash is not a special path: what an earlier pass left open
//! is settled here, on every pass, from what is observed now.

use std::collections::{HashMap, HashSet};

use super::ladder::{Ask, Board};
use super::ledger::{KnownJob, Ledger, Observation};
use super::market::score_in_words;
use super::rules::View;
use super::settle::{CallEnd, Settlement, observe, settle, without_effects};
use super::verdict::{Decision, Eligible, Instead, Recreating, Skip, Verdict};
use crate::core::recreation::blueprint::{Nearness, Placement};
use crate::core::recreation::journal::{CLOSED_LIFE, Cause, ENDED_LIFE, Recreation, Step};
use crate::core::world::instance::{Aside, Billing, Instance, InstanceId, Status};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::{JobIndex, Snapshot, find};
use crate::core::world::time::Timestamp;

/// What a pass would do, or does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each row: the listed instances in the listing's order, then `absent`. [`Plan::rows`] pairs them.
    pub decisions: Vec<Decision>,
    /// The old instances of open recreations that are no longer listed, as far as the journal knows them.
    pub absent: Vec<Instance>,
    pub settlements: Vec<Settlement>,
    /// Reclaim notices to remember, and those to forget.
    pub observations: Vec<(InstanceId, Option<Observation>)>,
    /// Since when instances are `migrating` without a job, to remember and to forget.
    pub stalls: Vec<(InstanceId, Option<Timestamp>)>,
    /// Recreations that changed, and those to forget.
    pub journal: Vec<(InstanceId, Option<Recreation>)>,
    /// How many of the listed instances the selection covers.
    pub managed: usize,
    /// How often calls for what is down were refused.
    pub(in crate::core) rejected: HashMap<InstanceId, u32>,
}

/// What a plan asks for, by the way it is carried out.
#[derive(Debug, Default)]
pub struct Work<'a> {
    /// What a rollout replaced and stopped, and what was kept long enough.
    pub expired: Vec<&'a Instance>,
    pub duplicates: Vec<Duplicate<'a>>,
    /// Those that earlier passes started come first.
    pub recreations: Vec<&'a Recreating>,
    /// Oldest first.
    pub migrations: Vec<Migration<'a>>,
}

/// An instance to delete, since another one with its marker stays.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate<'a> {
    pub instance: &'a Instance,
    pub keep: &'a InstanceId,
}

/// An instance to migrate, and what is to be remembered of the time before.
#[derive(Clone, Copy, Debug)]
pub struct Migration<'a> {
    pub instance: &'a Instance,
    pub eligible: Eligible,
    pub job_before: Option<&'a KnownJob>,
}

impl Work<'_> {
    /// How many actions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.expired.len() + self.duplicates.len() + self.recreations.len() + self.migrations.len()
    }
}

impl Plan {
    /// Every instance with its verdict, those that are no longer listed last.
    pub fn rows<'a>(&'a self, listed: &'a [Instance]) -> impl Iterator<Item = (&'a Instance, &'a Decision)> {
        listed.iter().chain(&self.absent).zip(&self.decisions)
    }

    /// Everything there is to do.
    #[must_use]
    pub fn work<'a>(&'a self, listed: &'a [Instance]) -> Work<'a> {
        let mut work = Work::default();
        for (instance, decision) in self.rows(listed) {
            match decision {
                Decision::Migrate { eligible, job_before, .. } => {
                    let (eligible, job_before) = (*eligible, job_before.as_deref());
                    work.migrations.push(Migration { instance, eligible, job_before });
                }
                Decision::Recreate(recreating) | Decision::Resume(recreating) => work.recreations.push(recreating),
                Decision::Retire { keep } => work.duplicates.push(Duplicate { instance, keep }),
                Decision::Skip(Skip::Aside(aside)) if **aside == Aside::Retired { until: None } => {
                    work.expired.push(instance);
                }
                Decision::Skip(_) => {}
            }
        }
        work.recreations.sort_by_key(|recreating| recreating.starts());
        work.migrations.sort_by_key(|migration| self.order(migration.instance));
        work
    }

    /// The rows with an action, for people: open recreations, new ones, migrations; each oldest first.
    #[must_use]
    pub fn actions<'a>(&'a self, listed: &'a [Instance]) -> Vec<(&'a Instance, &'a Decision)> {
        let mut actions: Vec<_> =
            self.rows(listed).filter(|(_, decision)| decision.verdict() != Verdict::Skip).collect();
        actions.sort_by_key(|(instance, decision)| (decision.verdict(), self.order(instance)));
        actions
    }

    /// The order of actions: what was refused least often comes first.
    fn order<'a>(&self, instance: &'a Instance) -> (u32, Timestamp, &'a InstanceId) {
        refused_last(&self.rejected, instance)
    }

    /// How many verdicts there are of this kind.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.decisions.iter().filter(|decision| decision.verdict() == verdict).count()
    }

    /// How many instances would be created, or deleted to be created. One that was deleted first is not counted: it was
    /// allowed when its recreation started, and all that is left to do is to bring it back.
    #[must_use]
    pub fn creations(&self) -> usize {
        let was_deleted = |decision: &Decision| {
            decision.recreation().is_some_and(|(_, it)| matches!(it.step, Step::Pending { kept: Some(_) }))
        };
        let is_proved = |decision: &Decision| decision.recreating().is_some_and(|work| work.is_proved);
        let counts = |decision: &&Decision| decision.creates() && !was_deleted(decision) && !is_proved(decision);
        self.decisions.iter().filter(counts).count()
    }

    /// How many instances would be created for others that were reclaimed for sure.
    #[must_use]
    pub fn proved_creations(&self) -> usize {
        self.decisions.iter().filter(|it| is_proved_creation(it)).count()
    }

    /// Leaves `limit` of the creations for reclaimed instances to this round: those that this pass has not tried yet, and of
    /// them those that are down for longest.
    pub fn limit_wave(&mut self, listed: &[Instance], limit: usize, tried: &HashSet<InstanceId>) {
        let Self { decisions, absent, rejected, .. } = self;
        let skip = || Skip::NextWave { limit };
        let order = |_, _: &Decision, instance| (is_tried(tried, instance), refused_last(rejected, instance));
        cut(decisions, limit, skip, is_proved_creation, order, listed.iter().chain(&*absent));
    }

    /// Leaves every recreation to a pass that sees which instances there are.
    pub fn hold_recreations(&mut self) {
        for decision in &mut self.decisions {
            if matches!(decision, Decision::Recreate(_) | Decision::Resume(_)) {
                *decision = Decision::Skip(Skip::IncompleteList);
            }
        }
    }

    /// Puts the places of every creation into their order, once it is known what is to be created.
    pub fn place(&mut self, board: &Board, policy: &Policy, now: Timestamp) {
        self.decisions.iter_mut().for_each(|decision| place(decision, board, policy, now));
    }
}

/// Puts the places of a creation into their order. A reclaimed instance that is tied to its cluster is migrated there even
/// if it was migrated lately; one that no place has room for waits.
pub fn place(decision: &mut Decision, board: &Board, policy: &Policy, now: Timestamp) {
    let (Decision::Recreate(work) | Decision::Resume(work)) = decision else { return };
    let (instead, is_proved) = (work.instead, work.is_proved);
    let Some(Ok(prepared)) = &mut work.prepared else { return };
    let ask = Ask { cause: &work.recreation.cause, policy, now };
    // What a volume ties to its place cannot be moved ahead: it may be mounted only once.
    let waits = prepared.tied_by.is_some() && work.recreation.cause == Cause::Announced;
    let order = if waits { Vec::new() } else { board.order(prepared, ask).into_iter().cloned().collect() };
    let is_home = order.first().is_some_and(|first| first.nearness == Nearness::Own);
    let stays = match instead {
        Some(Instead::CoolingDown { .. }) => prepared.tied_by.is_some(),
        Some(Instead::Ranked | Instead::Ladder) => prepared.tied_by.is_some() || is_home,
        Some(Instead::NoRoom { .. } | Instead::NoMigration | Instead::NoEffect { .. }) | None => false,
    };
    if let Some((eligible, job_before)) = work.at_home.take().filter(|_| stays) {
        *decision = Decision::Migrate { eligible, job_before, is_proved, otherwise: Box::default() };
    } else if order.is_empty() && work.recreation.cause == Cause::Returned {
        *decision = Decision::Skip(Skip::Bridge { until: None });
    } else if order.is_empty() {
        let is_proved = is_proved && work.recreation.cause != Cause::Announced;
        let until = board.rest_of(prepared, now);
        let mut detail = listed_places(&prepared.placements);
        if let Some(tied_by) = &prepared.tied_by {
            detail.push_str(&format!("; {tied_by} ties it to its cluster"));
        }
        *decision = Decision::Skip(Skip::NoRoom { until, detail: detail.into(), is_proved });
    } else {
        prepared.placements = order;
    }
}

/// What to do about these instances instead, since their own market refused to migrate them; `ledger` has the markets as
/// they are now.
#[must_use]
pub fn escalate(
    snapshot: &Snapshot,
    ledger: &Ledger,
    policy: &Policy,
    refused: &HashSet<&InstanceId>,
    now: Timestamp,
) -> Vec<Decision> {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let view = View::new(snapshot, ledger, policy, &jobs, now);
    let refused = snapshot.instances.items.iter().filter(|it| refused.contains(&it.id) && view.may_escalate(it));
    let mut refused: Vec<&Instance> = refused.collect();
    refused.sort_by_key(|instance| oldest_first(instance));
    let decisions = refused.into_iter().map(|instance| view.decide(instance));
    decisions.filter(|decision| matches!(decision, Decision::Recreate(_))).collect()
}

/// What would be created for each reclaimed instance that its own market refuses, or whose reclaim is announced; with what
/// is given beside it.
#[must_use]
pub fn otherwise<'a, T>(
    snapshot: &Snapshot,
    ledger: &Ledger,
    policy: &Policy,
    instances: impl Iterator<Item = (&'a Instance, T)>,
    now: Timestamp,
) -> Vec<(T, Recreating)> {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let view = View::new(snapshot, ledger, policy, &jobs, now);
    let creation = |(instance, beside)| match view.otherwise(instance)? {
        Decision::Recreate(work) if work.creates() => Some((beside, *work)),
        _ => None,
    };
    instances.filter_map(creation).collect()
}

/// Where a reclaimed instance goes if its own market refuses it, in words.
#[must_use]
pub fn otherwise_in_words(work: &Recreating, board: &Board, policy: &Policy, now: Timestamp) -> String {
    let prepared = match &work.prepared {
        Some(Ok(prepared)) => prepared,
        Some(Err(obstacle)) => return format!("else it waits: {obstacle}"),
        None => return String::new(),
    };
    let ask = Ask { cause: &work.recreation.cause, policy, now };
    let mut order = board.order(prepared, ask);
    order.retain(|it| it.nearness != Nearness::Own);
    let place = |it: &&Placement| format!("{} (score {})", it.place, score_in_words(board.score(it, ask)));
    let places: Vec<String> = order.iter().take(2).map(place).collect();
    let words = match (order.len(), &prepared.tied_by) {
        (0, Some(tied_by)) => return format!("else it waits: {tied_by} ties it to its cluster"),
        (0, None) => return "else it waits: no other place may be asked now".into(),
        (..=2, _) => format!("else recreated on {}", places.join(", ")),
        (count, _) => format!("else recreated on {} and {} more", places.join(", "), count - 2),
    };
    prepared.blueprint.notes.iter().fold(words, |words, note| format!("{words}; {note}"))
}

/// On-demand instances to stand in for those among `without_room` that have been down for long enough.
#[must_use]
pub fn bridges(
    snapshot: &Snapshot,
    ledger: &Ledger,
    policy: &Policy,
    without_room: &HashSet<&InstanceId>,
    now: Timestamp,
) -> Vec<Decision> {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let view = View::new(snapshot, ledger, policy, &jobs, now);
    let mut down: Vec<&Instance> = snapshot.instances.items.iter().filter(|it| without_room.contains(&it.id)).collect();
    down.sort_by_key(|instance| oldest_first(instance));
    down.into_iter().filter_map(|instance| view.bridged(instance)).collect()
}

fn is_tried(tried: &HashSet<InstanceId>, instance: &Instance) -> bool {
    tried.contains(&instance.id)
}

fn is_proved_creation(decision: &Decision) -> bool {
    decision.recreating().is_some_and(|work| work.creates() && work.is_proved)
}

fn listed_places(placements: &[Placement]) -> String {
    let places: Vec<String> = placements.iter().map(|it| it.place.to_string()).collect();
    match &places[..] {
        few if few.len() <= 3 => few.join(", "),
        [first, second, ..] => format!("{first}, {second} and {} more", places.len() - 2),
        _ => String::new(),
    }
}

/// Decides what to do about every instance in `snapshot` and every open recreation in `ledger`. The first rule that fits
/// decides ([`super::rules`]).
#[must_use]
pub fn plan(snapshot: &Snapshot, ledger: &Ledger, policy: &Policy, now: Timestamp) -> Plan {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let settlements = settle(snapshot, ledger, &jobs, now);
    let ledger = &*without_effects(ledger, &settlements);
    let view = View::new(snapshot, ledger, policy, &jobs, now);
    let listed = &snapshot.instances.items;
    let absent = absent(listed, ledger);
    let mut decisions: Vec<Decision> = listed.iter().chain(&absent).map(|instance| view.decide(instance)).collect();
    let managed = decisions[..listed.len()].iter().filter(|decision| decision.is_on_managed()).count();
    let rows = || listed.iter().chain(&absent);
    let mut rejected: HashMap<InstanceId, u32> =
        ledger.spells.iter().map(|(id, spell)| (id.clone(), spell.rejected_calls)).filter(|(_, n)| *n > 0).collect();
    for settlement in settlements.iter().filter(|it| it.end == CallEnd::NoEffect) {
        *rejected.entry(settlement.instance.clone()).or_default() += 1;
    }
    if let Some(limit) = policy.max_migrations {
        let is_cut = |decision: &Decision| matches!(decision, Decision::Migrate { .. });
        cut(
            &mut decisions,
            limit,
            || Skip::OverLimit { limit },
            is_cut,
            |_, _, instance| refused_last(&rejected, instance),
            rows(),
        );
    }
    let journal = journal(&decisions, snapshot, &view);
    if let Some(limit) = policy.max_recreations {
        // First those whose old instance is gone. What was refused least often comes next, then what earlier passes started.
        let order = |at: usize, decision: &Decision, instance| {
            let (refused, stopped_at, id) = refused_last(&rejected, instance);
            (at < listed.len(), refused, matches!(decision, Decision::Recreate(_)), stopped_at, id)
        };
        cut(&mut decisions, limit, || Skip::OverLimit { limit }, Decision::creates, order, rows());
    }
    let (observations, stalls) = (observe(snapshot, ledger, now), view.failures.stalls());
    Plan { decisions, absent, settlements, observations, stalls, journal, managed, rejected }
}

/// The old instances of open recreations that are not listed, ordered by id.
fn absent(listed: &[Instance], ledger: &Ledger) -> Vec<Instance> {
    let open = ledger.recreations.iter().filter(|(_, recreation)| !recreation.step.is_over());
    let mut absent: Vec<Instance> = open
        .filter(|(id, _)| find(listed, id).is_none())
        .map(|(id, recreation)| Instance {
            id: id.clone(),
            name: recreation.instance_name.as_str().into(),
            status: Status::from_word("gone"),
            billing: Billing::Unstated,
            reclaim: None,
            marker: None,
            aside: None,
            place: None,
            gpus: 0,
            created_at: None,
            started_at: None,
            stopped_at: None,
        })
        .collect();
    absent.sort_by(|a, b| a.id.cmp(&b.id));
    absent
}

/// What changed about recreations: steps that the observation brought about, and what was over for long enough to be
/// forgotten.
fn journal(
    decisions: &[Decision],
    snapshot: &Snapshot,
    View { ledger, failures, now, .. }: &View<'_>,
) -> Vec<(InstanceId, Option<Recreation>)> {
    let mut changes: HashMap<&InstanceId, Option<&Recreation>> = HashMap::new();
    for (id, stored) in &ledger.recreations {
        let age = now.since(stored.since);
        let is_forgotten = match stored.step {
            // While others have its marker, only the record says which one stays.
            Step::Closed { .. } => age >= CLOSED_LIFE && !failures.has_others(id, stored.step.replacement()),
            Step::Ended => age >= ENDED_LIFE,
            // Passes no longer handle it, for example since it is excluded. A kept specification is the last trace of an
            // instance, and stays.
            _ => {
                let is_listed = |id: &InstanceId| find(&snapshot.instances.items, id).is_some();
                let is_gone = !is_listed(id) && !stored.step.replacement().is_some_and(is_listed);
                let is_left_alone = is_gone && snapshot.instances.is_complete() && age >= ENDED_LIFE;
                is_left_alone && stored.step.kept().is_none()
            }
        };
        if is_forgotten {
            changes.insert(id, None);
        }
    }
    for (id, recreation) in decisions.iter().filter_map(Decision::recreation) {
        let is_new = match ledger.recreations.get(id) {
            Some(stored) => stored != recreation,
            // A new one is stored with its first transition.
            None => !matches!(recreation.step, Step::Pending { .. }),
        };
        // So is a new one for an instance whose last recreation is over.
        let starts = matches!(recreation.step, Step::Pending { .. }) && recreation.pass.is_empty();
        if is_new && !starts {
            changes.insert(id, Some(recreation));
        }
    }
    let mut changes: Vec<_> = changes.into_iter().map(|(id, change)| (id.clone(), change.cloned())).collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

/// Leaves the first `limit` of the actions that `is_cut` names; the others become skips that say so.
fn cut<'a, K: Ord>(
    decisions: &mut [Decision],
    limit: usize,
    skip: impl Fn() -> Skip,
    is_cut: impl Fn(&Decision) -> bool,
    order: impl Fn(usize, &Decision, &'a Instance) -> K,
    rows: impl Iterator<Item = &'a Instance>,
) {
    let mut chosen: Vec<(K, usize)> = rows
        .zip(&*decisions)
        .enumerate()
        .filter(|(_, (_, decision))| is_cut(decision))
        .map(|(at, (instance, decision))| (order(at, decision, instance), at))
        .collect();
    chosen.sort();
    for (_, at) in chosen.into_iter().skip(limit) {
        decisions[at] = Decision::Skip(skip());
    }
}

/// The order under a limit: what was refused goes behind what was not tried, so that it starves nothing.
fn refused_last<'a>(rejected: &HashMap<InstanceId, u32>, instance: &'a Instance) -> (u32, Timestamp, &'a InstanceId) {
    let (stopped_at, id) = oldest_first(instance);
    (rejected.get(id).copied().unwrap_or(0), stopped_at, id)
}

/// What stopped first comes first, what has no stop time last. The id decides the rest, so that
/// the order of the listing does not matter.
fn oldest_first(instance: &Instance) -> (Timestamp, &InstanceId) {
    (instance.stopped_at.map_or(Timestamp::from_millis(i64::MAX), Timestamp::from), &instance.id)
}

#[cfg(test)]
mod tests;
