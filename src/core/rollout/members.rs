//! One member of a rollout: its state follows the journal of its recreation, and the rollout's intent drives the journal.

use std::collections::HashMap;

use crate::core::pass::failures::Failures;
use crate::core::pass::ledger::Ledger;
use crate::core::pass::verdict::Recreating;
use crate::core::recreation::journal::moves::{MoveIntent, next_move};
use crate::core::recreation::journal::{Cause, MOST_FAILURES, Next, Old, Recreation, Situation, Step, Successor};
use crate::core::recreation::marker::replacement_name;
use crate::core::rollout::course::{Fleet, Member, MemberState, Rollout, State};
use crate::core::world::instance::{Aside, Billing, InstanceId, Status};
use crate::core::world::money::Usd;
use crate::core::world::snapshot::{JobIndex, Snapshot, find};
use crate::core::world::time::Timestamp;

/// What a rollout knows of the world. It must be complete: nothing is concluded from a listing with missing rows.
pub struct FleetView<'a> {
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
    failures: Failures<'a>,
    now: Timestamp,
}

/// A move as observed now.
struct ObservedMove {
    recreation: Recreation,
    situation: Situation,
    /// Whether it is in the journal already.
    is_started: bool,
    /// Whether it differs from the journal.
    is_news: bool,
}

impl<'a> FleetView<'a> {
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, ledger: &'a Ledger, jobs: &'a JobIndex<'a>, now: Timestamp) -> Self {
        Self { snapshot, ledger, failures: Failures::new(snapshot, ledger, jobs, None, now), now }
    }

    fn seen(&self, rollout: &str, member: &Member) -> Option<ObservedMove> {
        let (key, to) = member.journal();
        let stored = self.ledger.recreations.get(&key).filter(|it| is_of(it, rollout, &to));
        let recreation = stored.cloned().unwrap_or_else(|| {
            let cause = Cause::Moved { rollout: rollout.into(), to };
            let marker = replacement_name(&key, &member.name, cause.decided_by());
            Recreation::planned(&member.name, cause, marker, self.now)
        });
        let recreation = recreation.clone().observe(&self.failures.situation(&key, &recreation)?);
        // The observed step may name another successor than the stored one.
        let situation = self.failures.situation(&key, &recreation)?;
        let is_news = stored.map_or(!matches!(recreation.step, Step::Pending { .. }), |it| *it != recreation);
        Some(ObservedMove { recreation, situation, is_started: stored.is_some(), is_news })
    }

    fn billing(&self, id: &InstanceId) -> Option<&'a Billing> {
        find(&self.snapshot.instances.items, id).map(|instance| &instance.billing)
    }

    fn runs_on_demand(&self, id: &InstanceId) -> bool {
        let found = find(&self.snapshot.instances.items, id);
        found.is_some_and(|it| it.status == Status::Running && it.billing == Billing::OnDemand)
    }

    fn is_announced(&self, id: &InstanceId) -> bool {
        find(&self.snapshot.instances.items, id).is_some_and(|it| it.status == Status::Running && it.reclaim.is_some())
    }

    /// Whether an instance has an open recreation that is no move.
    fn is_taken(&self, id: &InstanceId) -> bool {
        self.ledger.recreations.get(id).is_some_and(|it| !it.step.is_over() && !it.is_move())
    }
}

/// Whether it is a move of this rollout. There is one rollout at a time, and one that ends leaves no move open: an open one of
/// another is of a rollout whose record was lost.
fn is_of(recreation: &Recreation, rollout: &str, to: &Billing) -> bool {
    let Cause::Moved { rollout: its, to: its_to } = &recreation.cause else { return false };
    its_to == to && (its == rollout || !recreation.step.is_over())
}

/// Why a new instance does not count, if it has the wrong billing mode, and whether that is certain: a mode that is missing or
/// unknown may be the right one. One that does not run yet may not state its mode.
fn misbilled(seen: &ObservedMove, to: &Billing, view: &FleetView<'_>) -> Option<(String, bool)> {
    let Step::Created { replacement, .. } = &seen.recreation.step else { return None };
    let billing = view.billing(replacement).filter(|billing| *billing != to)?;
    let is_certain = matches!(billing, Billing::Spot | Billing::OnDemand | Billing::Monthly);
    (is_certain || seen.situation.successor == Successor::Running)
        .then(|| (format!("{replacement} is billed as {:?}, not as {to}", billing.as_str()), is_certain))
}

impl Fleet {
    /// Updates each member from an observation, and returns the changes for the journal. Both must be stored in one commit: a
    /// finished member is not observed again, and passes do not touch what its journal leaves open.
    #[must_use]
    pub fn observe(&mut self, view: &FleetView<'_>) -> Vec<(InstanceId, Recreation)> {
        let Self { rollout, members } = self;
        members.iter_mut().filter_map(|member| member.observe(rollout, view)).collect()
    }

    /// Updates each member from the journal after this step's own actions, without a new observation.
    pub fn record(&mut self, recreations: &HashMap<InstanceId, Recreation>, now: Timestamp) {
        let Self { rollout, members } = self;
        for member in members.iter_mut().filter(|it| it.has_journal()) {
            let (key, to) = member.journal();
            if let Some(recreation) = recreations.get(&key).filter(|it| is_of(it, &rollout.id, &to)) {
                member.follow(recreation, now);
            }
        }
    }

    /// How many on-demand instances stay for now, since the reclaim of what took their place is announced.
    #[must_use]
    pub fn held_by_notices(&self, view: &FleetView<'_>) -> usize {
        let is_held = |it: &&Member| it.state == MemberState::Ready && it.is_announced(view);
        let retires = matches!(self.rollout.state, State::Retiring { .. });
        self.members.iter().filter(is_held).count() * usize::from(retires)
    }

    /// What the others wait for: instances that are not seen running as they should, each with its status.
    #[must_use]
    pub fn waits(&self, view: &FleetView<'_>) -> Vec<String> {
        let of = |member: &Member| {
            let successor = member.successor.as_ref().filter(|_| member.unsettled_since.is_some());
            let (which, id) = match successor {
                Some(successor) => ("spot", successor),
                None => ("on-demand", &member.id),
            };
            let found = find(&view.snapshot.instances.items, id)?;
            if successor.is_none() && matches!(found.status, Status::Running | Status::Exited) {
                let billing = Some(&found.billing).filter(|billing| **billing != Billing::OnDemand)?;
                return Some(format!("{}, whose {which} instance is billed as {:?}", member.name, billing.as_str()));
            }
            Some(format!("{}, whose {which} instance is {}", member.name, found.status))
        };
        self.members.iter().filter(|it| it.state == MemberState::Ready).filter_map(of).collect()
    }

    /// These members' successors do not respond, although their on-demand instances are about to go. One that does not for
    /// too long is given up.
    pub fn heard(&mut self, silent: &[InstanceId], now: Timestamp) {
        let hold = self.rollout.hold;
        for member in self.members.iter_mut().filter(|it| it.state == MemberState::Ready) {
            if !silent.contains(&member.id) {
                member.silent_since = None;
                continue;
            }
            let since = *member.silent_since.get_or_insert(now);
            if now.since(since) >= hold {
                let minutes = hold.as_secs() / 60;
                let spot = member.successor.as_ref().map_or("", InstanceId::as_str);
                member.fail(format!("its spot instance {spot} has not responded for {minutes} min"));
            }
        }
    }

    /// The recreations to advance, in the order in which members are moved, or in reverse if they are put back.
    #[must_use]
    pub fn works(&self, view: &FleetView<'_>) -> Vec<Recreating> {
        let mut works: Vec<Recreating> =
            self.members.iter().filter_map(|member| member.work(&self.rollout, view)).collect();
        if matches!(self.rollout.state, State::RollingBack { .. }) {
            works.reverse();
        }
        works
    }
}

impl Member {
    /// Whether its successor is to be reclaimed.
    fn is_announced(&self, view: &FleetView<'_>) -> bool {
        self.successor.as_ref().is_some_and(|id| view.is_announced(id))
    }

    /// The key of its recreation in the journal, and the billing mode to move to.
    fn journal(&self) -> (InstanceId, Billing) {
        match (self.state, &self.successor) {
            (MemberState::Returning, Some(successor)) => (successor.clone(), Billing::OnDemand),
            (MemberState::Stranded, Some(successor)) if self.is_open => (successor.clone(), Billing::OnDemand),
            _ => (self.id.clone(), Billing::Spot),
        }
    }

    /// Whether its journal may change.
    fn has_journal(&self) -> bool {
        matches!(self.state, MemberState::Moving | MemberState::Ready) || self.is_unfinished()
    }

    /// Whether it needs more work, or a call of the hook, in any state of the rollout.
    pub(super) fn is_unfinished_in(&self, rollout: &Rollout) -> bool {
        self.is_unfinished() || self.switch_after(rollout).is_some()
    }

    fn is_unfinished(&self) -> bool {
        match self.state {
            MemberState::Undoing | MemberState::Returning => true,
            MemberState::Failed | MemberState::Stranded => self.is_open,
            MemberState::Waiting
            | MemberState::Moving
            | MemberState::Ready
            | MemberState::Moved
            | MemberState::Restored => false,
        }
    }

    /// It is not moved, for this reason; the first one counts.
    pub(super) fn fail(&mut self, why: String) {
        self.state = MemberState::Failed;
        self.note.get_or_insert(why);
    }

    fn strand(&mut self, why: String) {
        self.state = MemberState::Stranded;
        self.note = Some(why);
    }

    fn observe(&mut self, rollout: &Rollout, view: &FleetView<'_>) -> Option<(InstanceId, Recreation)> {
        if !self.has_journal() {
            return None;
        }
        let seen = view.seen(&rollout.id, self)?;
        let (key, to) = self.journal();
        let is_taken = view.is_taken(&key);
        if let (MemberState::Returning, Step::Created { replacement, .. }) = (self.state, &seen.recreation.step)
            && !is_taken
            && matches!(seen.situation.old, Old::Gone | Old::Going)
            && view.billing(replacement).is_some_and(|billing| *billing != to)
        {
            // Meanwhile, a pass replaced the successor: the new one is the one to return from.
            self.successor = Some(replacement.clone());
            return None;
        }
        if !seen.is_started && (is_taken || matches!(seen.recreation.step, Step::Pending { .. })) {
            self.not_started(is_taken, &seen, view);
            return None;
        }
        let known = self.successor.clone();
        self.follow(&seen.recreation, view.now);
        let step = &seen.recreation.step;
        match self.state {
            MemberState::Moving | MemberState::Ready => {
                let billed = misbilled(&seen, &to, view);
                if let Some(why) = self.no_longer_ours(view) {
                    self.fail(why);
                } else if let Some((why, true)) = billed {
                    self.fail(why);
                } else if self.state == MemberState::Moving {
                    // The reason, should it be given up.
                    self.note = billed.map(|(why, _)| why);
                } else {
                    match (step, &seen.situation.successor) {
                        // A replacement of the successor has not soaked.
                        (step, _) if step.replacement() != known.as_ref() => {
                            self.fail("its spot instance is gone".into());
                        }
                        (Step::Created { .. }, Successor::Running) if billed.is_none() => self.unsettled_since = None,
                        (Step::Created { replacement, .. }, Successor::Failed(why)) => {
                            self.fail(format!("its spot instance {replacement} failed: {why}"));
                        }
                        (Step::Created { replacement, .. }, Successor::Down | Successor::Reclaimed) => {
                            self.fail(format!("its spot instance {replacement} no longer runs"));
                        }
                        // It may be restarting, or the provider may have a new word.
                        (
                            Step::Created { replacement, .. },
                            Successor::Running | Successor::ComingUp | Successor::Unclear,
                        ) => {
                            let since = *self.unsettled_since.get_or_insert(view.now);
                            if view.now.since(since) >= rollout.hold {
                                let minutes = rollout.hold.as_secs() / 60;
                                let unseen =
                                    || format!("its spot instance {replacement} has not run for {minutes} min");
                                self.fail(billed.map_or_else(unseen, |(why, _)| why));
                            }
                        }
                        (Step::Created { .. } | Step::Pending { .. } | Step::Abandoned { .. }, _) => {
                            self.fail("its spot instance is gone".into());
                        }
                        _ => {}
                    }
                }
            }
            MemberState::Restored if to == Billing::Spot && !view.runs_on_demand(&self.id) => {
                self.strand("its spot instance is gone, and it does not run on demand".into());
            }
            _ => {}
        }
        seen.is_news.then_some((key, seen.recreation))
    }

    /// Why its instance is not to be deleted any more, if so: it is billed in another mode than when the rollout started, or
    /// its owner has taken it out of the care of this program.
    fn no_longer_ours(&self, view: &FleetView<'_>) -> Option<String> {
        let instance = find(&view.snapshot.instances.items, &self.id)?;
        match (&instance.billing, instance.aside.as_deref()) {
            (billing @ (Billing::Spot | Billing::Monthly), _) => {
                Some(format!("it is billed as {:?} now, so it stays", billing.as_str()))
            }
            // The tags of what has ended go, and so say nothing.
            (_, Some(aside @ (Aside::NotOptedIn | Aside::ManagedElsewhere { .. }))) if !instance.status.is_going() => {
                Some(format!("it stays: {aside}"))
            }
            _ => None,
        }
    }

    /// Updates it from an observation while its move has not started.
    fn not_started(&mut self, is_taken: bool, seen: &ObservedMove, view: &FleetView<'_>) {
        let is_ours = view.billing(&self.id).is_some_and(|billing| *billing == Billing::OnDemand);
        match self.state {
            MemberState::Ready => self.fail("its spot instance is gone".into()),
            MemberState::Moving if is_taken => {
                self.fail("another recreation of it is open".into());
            }
            MemberState::Moving if self.no_longer_ours(view).is_some() => {
                self.fail(self.no_longer_ours(view).unwrap_or_default());
            }
            MemberState::Moving if !is_ours || !matches!(seen.situation.old, Old::Runs | Old::Busy) => {
                self.fail("it no longer runs on demand".into());
            }
            MemberState::Undoing => self.state = MemberState::Restored,
            MemberState::Returning if matches!(seen.situation.old, Old::Gone | Old::Going) => {
                self.strand("its spot instance vanished before an on-demand instance replaced it".into());
            }
            _ => {}
        }
    }

    /// Updates it from its journal.
    fn follow(&mut self, recreation: &Recreation, now: Timestamp) {
        self.is_open = !recreation.step.is_over();
        let failure = || recreation.last_error.clone().unwrap_or_else(|| "it no longer runs on demand".into());
        let is_given_up = recreation.failures >= MOST_FAILURES && recreation.quarantined_until(now).is_some();
        match (&recreation.step, self.state) {
            (Step::Closed { replacement: Some(new) }, MemberState::Returning | MemberState::Stranded) => {
                (self.state, self.successor, self.note) = (MemberState::Restored, Some(new.clone()), None);
                self.undone_at.get_or_insert(now);
            }
            (Step::Closed { replacement: None } | Step::Ended, MemberState::Returning) => self.strand(failure()),
            (Step::Pending { .. }, MemberState::Returning) if is_given_up => {
                self.strand(format!("no on-demand instance could replace it: {}", failure()));
            }
            (_, MemberState::Returning | MemberState::Stranded) => {}
            // The on-demand instance is gone already, so a new one must be created from the successor.
            (Step::Closed { replacement: Some(new) }, MemberState::Undoing) => {
                (self.state, self.successor) = (MemberState::Returning, Some(new.clone()));
                self.retired_at.get_or_insert(now);
            }
            (Step::Closed { replacement: Some(new) }, _) => {
                (self.state, self.successor) = (MemberState::Moved, Some(new.clone()));
                self.retired_at.get_or_insert(now);
            }
            (Step::Closed { replacement: None }, state) => {
                self.withdrawn = self.successor.take();
                self.undone_at = self.undone_at.or(self.ready_at.map(|_| now));
                if state == MemberState::Undoing {
                    self.state = MemberState::Restored;
                } else {
                    self.fail(failure());
                }
            }
            // Both instances are left as they are: an operator has to decide.
            (Step::Ended, _) if self.successor.is_some() => self.strand(failure()),
            (Step::Ended, _) => self.fail(failure()),
            (Step::Pending { .. }, MemberState::Moving) if is_given_up => self.fail(failure()),
            (step, _) => {
                if let Some(new) = step.replacement() {
                    self.successor = Some(new.clone());
                }
            }
        }
    }

    /// The work that is due, unless traffic has to be switched first.
    fn work(&self, rollout: &Rollout, view: &FleetView<'_>) -> Option<Recreating> {
        let waits = |work: &Recreating| self.has_traffic(rollout) && self.switch_before(work).is_some();
        self.intended(rollout, view).filter(|work| !waits(work))
    }

    pub(super) fn intended(&self, rollout: &Rollout, view: &FleetView<'_>) -> Option<Recreating> {
        let (instance, to) = self.journal();
        let intent = match self.state {
            MemberState::Moving => MoveIntent::Advance,
            MemberState::Ready if matches!(rollout.state, State::Retiring { .. }) && self.unsettled_since.is_none() => {
                MoveIntent::Retire
            }
            MemberState::Failed if self.is_open => MoveIntent::Undo(self.note.clone().unwrap_or_default()),
            MemberState::Undoing => MoveIntent::Undo("the rollout is being rolled back".into()),
            MemberState::Returning => MoveIntent::Retire,
            // A creation that was given up is not tried again; an instance that was created late after all is used.
            MemberState::Stranded if self.is_open => match view.seen(&rollout.id, self)?.recreation.step {
                Step::Pending { .. } => MoveIntent::Undo(self.note.clone().unwrap_or_default()),
                _ => MoveIntent::Retire,
            },
            MemberState::Failed
            | MemberState::Waiting
            | MemberState::Ready
            | MemberState::Moved
            | MemberState::Restored
            | MemberState::Stranded => return None,
        };
        let seen = view.seen(&rollout.id, self)?;
        if !seen.is_started && view.is_taken(&instance) {
            return None;
        }
        let intent = match misbilled(&seen, &to, view) {
            Some((why, true)) => MoveIntent::Undo(why),
            // Nothing is deleted for what may be billed otherwise.
            Some((_, false)) if intent == MoveIntent::Retire => return None,
            Some((_, false)) | None => intent,
        };
        // Nor is one deleted that is not known to be billed on demand still.
        let is_unclear = view.billing(&self.id).is_some_and(|billing| *billing != Billing::OnDemand);
        if intent == MoveIntent::Retire && to == Billing::Spot && is_unclear {
            return None;
        }
        // A successor that is to be reclaimed proves nothing: the on-demand instance stays until that came true or was withdrawn.
        if intent == MoveIntent::Retire && to == Billing::Spot && self.is_announced(view) {
            return None;
        }
        match next_move(&seen.recreation, &seen.situation, &intent) {
            Next::Rest(_) | Next::Nothing => None,
            next => Some(Recreating::new(instance, seen.recreation, next)),
        }
    }

    /// The successor that has yet to run and respond.
    #[must_use]
    pub fn awaited(&self) -> Option<&InstanceId> {
        self.successor.as_ref().filter(|_| self.state == MemberState::Moving)
    }

    /// Its successor runs as spot and responds, and costs this much. One that costs as much as on demand, or more, is not kept.
    pub fn came_up(&mut self, cost: Option<Usd>, now: Timestamp) {
        if let Some((spot, on_demand)) =
            cost.zip(self.read_back.on_demand).filter(|(spot, on_demand)| spot >= on_demand)
        {
            let (spot, on_demand) = (spot.to_the_cent(), on_demand.to_the_cent());
            return self.fail(format!("its spot instance costs {spot} USD an hour, and {on_demand} on demand"));
        }
        (self.state, self.ready_at, self.note) = (MemberState::Ready, Some(now), None);
        self.read_back.spot = cost;
    }
}
