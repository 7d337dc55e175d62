//! What a look shows of each instance, and what that says about its spell.

use std::collections::HashMap;

use super::is_to_run;
use crate::core::pass::ledger::Ledger;
use crate::core::pass::plan::Plan;
use crate::core::pass::settle::Settlement;
use crate::core::pass::spell::{HeldBy, Spell, SpellEnd};
use crate::core::pass::verdict::{Decision, Skip};
use crate::core::recreation::journal::{Cause, Next, Recreation, Rest, Step};
use crate::core::world::instance::{Instance, InstanceId, Status};
use crate::core::world::snapshot::{Snapshot, find};
use crate::core::world::time::Timestamp;
use crate::core::world::times::EVIDENCE_LIFE;

/// What a look says about a spell.
pub(super) enum Fate {
    Up(Timestamp, SpellEnd),
    Down(Standstill),
    /// The replacement went down, and the old instance is gone.
    Inherited(InstanceId),
    /// It is gone, or to be deleted.
    Gone,
    /// The look does not cover it.
    Unseen,
}

/// Why an instance is still down.
pub(super) enum Standstill {
    /// A call was accepted, or may have been.
    UnderWay,
    /// It is this pass's turn.
    Due,
    HeldBack(HeldBy),
    /// Every market that it may go to has refused, and is asked again later.
    NoRoom(HeldBy),
    /// The look says nothing new about it.
    Same,
}

/// What a look shows, by instance.
pub(super) struct LookView<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) ledger: &'a Ledger,
    plan: &'a Plan,
    /// The journal as seen now, by the old instance.
    recreations: HashMap<&'a InstanceId, &'a Recreation>,
    /// The old instance of each replacement in an open recreation.
    pub(super) replaces: HashMap<&'a InstanceId, &'a InstanceId>,
}

/// How a spell ends whose replacement runs.
fn elsewhere(recreation: Option<&Recreation>) -> SpellEnd {
    match recreation.map(|it| &it.cause) {
        Some(Cause::Bridged) => SpellEnd::Bridged,
        _ => SpellEnd::Elsewhere,
    }
}

impl<'a> LookView<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, ledger: &'a Ledger, plan: &'a Plan) -> Self {
        let mut recreations: HashMap<_, _> = ledger.recreations.iter().collect();
        recreations.extend(plan.decisions.iter().filter_map(Decision::recreation));
        recreations.extend(plan.journal.iter().filter_map(|(id, seen)| Some((id, seen.as_ref()?))));
        recreations.retain(|_, recreation| !recreation.is_move());
        let open = recreations.iter().filter(|(_, recreation)| !recreation.step.is_over());
        let replaces = open.filter_map(|(old, recreation)| Some((recreation.step.replacement()?, *old))).collect();
        Self { snapshot, ledger, plan, recreations, replaces }
    }

    fn row(&self, id: &InstanceId) -> Option<(&'a Instance, &'a Decision)> {
        let listed = &self.snapshot.instances.items;
        let at = listed.binary_search_by(|instance| instance.id.cmp(id)).ok();
        let at =
            at.or_else(|| Some(listed.len() + self.plan.absent.iter().position(|instance| instance.id == *id)?))?;
        Some((listed.iter().chain(&self.plan.absent).nth(at)?, self.plan.decisions.get(at)?))
    }

    pub(super) fn runs(&self, id: &InstanceId) -> bool {
        find(&self.snapshot.instances.items, id).is_some_and(|it| it.status == Status::Running)
    }

    /// The replacement of an instance, unless it was given up.
    fn heir(&self, id: &InstanceId) -> Option<(&'a InstanceId, &'a Instance)> {
        let recreation = self.recreations.get(id).filter(|it| !matches!(it.step, Step::Abandoned { .. }))?;
        let replacement = recreation.step.replacement()?;
        Some((replacement, find(&self.snapshot.instances.items, replacement)?))
    }

    /// Whether an instance without a spell is down and should not be.
    pub(super) fn is_lost(&self, instance: &Instance, decision: &Decision) -> bool {
        let is_down = matches!(instance.status, Status::Exited | Status::Migrating);
        // Its replacement runs, and it only waits to be deleted.
        if !is_down || self.heir(&instance.id).is_some_and(|(_, heir)| heir.status == Status::Running) {
            return false;
        }
        let seen = self.ledger.observations.get(&instance.id);
        let is_reclaimed = instance.reclaim.is_some()
            || seen.is_some_and(|seen| self.snapshot.taken_at.since(seen.last_seen_at) <= EVIDENCE_LIFE);
        match decision {
            Decision::Retire { .. } | Decision::Skip(Skip::Duplicate { .. }) => false,
            Decision::Skip(
                Skip::Replaced { .. } | Skip::ReplacementFailed { .. } | Skip::NoReclaimEvidence | Skip::NotFailed,
            ) => is_reclaimed && matches!(decision, Decision::Skip(Skip::NotFailed)),
            Decision::Migrate { .. } | Decision::Recreate(_) | Decision::Resume(_) | Decision::Skip(_) => true,
        }
    }

    pub(super) fn fate(&self, id: &InstanceId, spell: &Spell) -> Fate {
        let now = self.snapshot.taken_at;
        let since = |instance: &Instance| {
            let started = instance.started_at.map_or(now, Timestamp::from);
            started.clamp(spell.known_to().min(now), now)
        };
        let listed = find(&self.snapshot.instances.items, id);
        if let Some(instance) = listed.filter(|it| it.status == Status::Running) {
            return Fate::Up(since(instance), SpellEnd::InPlace);
        }
        let recreation = self.recreations.get(id);
        let heir = self.heir(id);
        if let Some((_, heir)) = heir.filter(|(_, heir)| heir.status == Status::Running) {
            return Fate::Up(since(heir), elsewhere(recreation.copied()));
        }
        let is_open = recreation.is_some_and(|it| !it.step.is_over());
        match self.row(id) {
            Some((_, decision)) if !is_to_run(decision) => Fate::Unseen,
            _ if !is_open && heir.is_some_and(|(_, heir)| !heir.status.is_going()) => {
                heir.map_or(Fate::Gone, |(id, _)| Fate::Inherited(id.clone()))
            }
            Some((instance, decision)) if is_open || !instance.status.is_going() => {
                Fate::Down(self.standstill(instance, decision))
            }
            None if !self.ledger.is_gone(id, &self.snapshot.instances, now) => Fate::Unseen,
            None | Some(_) => Fate::Gone,
        }
    }

    fn standstill(&self, instance: &Instance, decision: &Decision) -> Standstill {
        let held_by = || {
            let (reason, until) = (decision.reason().to_owned(), decision.until());
            HeldBy { reason, since: self.snapshot.taken_at, until }
        };
        let held_back = || Standstill::HeldBack(held_by());
        if self.awaits_call(&instance.id) {
            return Standstill::UnderWay;
        }
        match decision {
            Decision::Migrate { .. } => Standstill::Due,
            Decision::Recreate(work) | Decision::Resume(work) => match work.next {
                Next::Create | Next::DeleteOldFirst | Next::Abandon(_) => Standstill::Due,
                Next::Watch | Next::DeleteOld => Standstill::UnderWay,
                Next::Rest(_) | Next::Nothing | Next::CallOff | Next::LeaveBoth(_) => held_back(),
            },
            Decision::Retire { .. } => Standstill::Same,
            Decision::Skip(skip) => match skip {
                Skip::NotExited { failed_job: None } => match instance.status {
                    Status::Migrating => Standstill::UnderWay,
                    ref status if status.is_coming_up() => Standstill::UnderWay,
                    _ => Standstill::Same,
                },
                Skip::JobUnfinished { kind, .. } if kind.is_migration() => Standstill::UnderWay,
                Skip::Unsettled { .. } | Skip::Stalled { .. } => Standstill::UnderWay,
                Skip::Waiting { rest: Rest::Unsettled { .. } | Rest::OldBusy, .. } => Standstill::UnderWay,
                Skip::Waiting { rest: Rest::Unseen, .. } => Standstill::Same,
                Skip::NoRoom { .. } => Standstill::NoRoom(held_by()),
                // The pass only looks after failed migrations.
                Skip::NotFailed => Standstill::Same,
                _ => held_back(),
            },
        }
    }

    /// Whether an accepted call is under way whose job is not listed yet.
    fn awaits_call(&self, id: &InstanceId) -> bool {
        let settled = self.plan.settlements.iter().find(|it| it.instance == *id);
        self.ledger.in_flight.contains_key(id) && settled.is_none_or(Settlement::stays_open)
    }
}
