//! One member of a rollout between the rollout, which wants something of it, and the journal, which knows how far it is.

use std::collections::HashMap;

use crate::core::pass::failures::Failures;
use crate::core::pass::ledger::Ledger;
use crate::core::pass::verdict::Recreating;
use crate::core::recreation::journal::moves::{MoveIntent, next_move};
use crate::core::recreation::journal::{Cause, MOST_FAILURES, Next, Old, Recreation, Situation, Step, Successor};
use crate::core::recreation::marker::replacement_name;
use crate::core::rollout::course::{Fleet, Member, MemberState, Rollout, State};
use crate::core::world::instance::{Billing, InstanceId, Status};
use crate::core::world::money::Usd;
use crate::core::world::snapshot::{JobIndex, Snapshot, find};
use crate::core::world::time::Timestamp;

/// A look at the world. While rows are missing, nothing is concluded from it.
pub struct Sights<'a> {
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
    failures: Failures<'a>,
    now: Timestamp,
}

/// A move as it is seen now.
struct Seen {
    recreation: Recreation,
    situation: Situation,
    /// Whether the journal has it, or it would be begun now.
    is_begun: bool,
    /// Whether the journal does not know it like this.
    is_news: bool,
}

impl<'a> Sights<'a> {
    /// Puts a look together.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, ledger: &'a Ledger, jobs: &'a JobIndex<'a>, now: Timestamp) -> Self {
        Self { snapshot, ledger, failures: Failures::new(snapshot, ledger, jobs, now), now }
    }

    fn seen(&self, rollout: &str, member: &Member) -> Option<Seen> {
        let (key, to) = member.journal();
        let stored = self.ledger.recreations.get(&key).filter(|it| is_of(it, rollout, &to));
        let recreation = stored.cloned().unwrap_or_else(|| {
            let cause = Cause::Moved { rollout: rollout.into(), to };
            let marker = replacement_name(&key, &member.name, cause.decided_by());
            Recreation::planned(&member.name, cause, marker, self.now)
        });
        let recreation = recreation.clone().observe(&self.failures.situation(&key, &recreation)?);
        // What is seen may have another successor than what was known.
        let situation = self.failures.situation(&key, &recreation)?;
        let is_news = stored.map_or(!matches!(recreation.step, Step::Pending { .. }), |it| *it != recreation);
        Some(Seen { recreation, situation, is_begun: stored.is_some(), is_news })
    }

    fn billing(&self, id: &InstanceId) -> Option<&'a Billing> {
        find(&self.snapshot.instances.items, id).map(|instance| &instance.billing)
    }

    fn runs_on_demand(&self, id: &InstanceId) -> bool {
        let found = find(&self.snapshot.instances.items, id);
        found.is_some_and(|it| it.status == Status::Running && it.billing == Billing::OnDemand)
    }

    /// Whether another story is told of it, which is not ours to go on with.
    fn is_taken(&self, id: &InstanceId, rollout: &str) -> bool {
        let stored = self.ledger.recreations.get(id).filter(|it| !it.step.is_over());
        stored.is_some_and(|it| !matches!(&it.cause, Cause::Moved { rollout: its, .. } if its == rollout))
    }
}

fn is_of(recreation: &Recreation, rollout: &str, to: &Billing) -> bool {
    matches!(&recreation.cause, Cause::Moved { rollout: its, to: its_to } if its == rollout && its_to == to)
}

/// Why a new instance will not do: it is billed otherwise than asked for. One that does not run yet may not say.
fn misbilled(seen: &Seen, to: &Billing, sights: &Sights<'_>) -> Option<String> {
    let Step::Created { replacement, .. } = &seen.recreation.step else { return None };
    let billing = sights.billing(replacement).filter(|billing| *billing != to)?;
    let has_to_say = seen.situation.successor == Successor::Running || *billing != Billing::Unstated;
    has_to_say.then(|| format!("{replacement} is billed as {:?}, not as {to}", billing.as_str()))
}

impl Fleet {
    /// Takes over what a look shows about each member, and answers what is news for the journal. Both are to be stored at
    /// once: a member that is through is not looked at again, and whatever its journal leaves open is left alone by passes.
    #[must_use]
    pub fn observe(&mut self, sights: &Sights<'_>) -> Vec<(InstanceId, Recreation)> {
        let Self { rollout, members } = self;
        members.iter_mut().filter_map(|member| member.observe(&rollout.id, sights)).collect()
    }

    /// Takes over what the journal says after deeds of ours, without a new look.
    pub fn record(&mut self, recreations: &HashMap<InstanceId, Recreation>, now: Timestamp) {
        let Self { rollout, members } = self;
        for member in members.iter_mut().filter(|it| it.has_journal()) {
            let (key, to) = member.journal();
            if let Some(recreation) = recreations.get(&key).filter(|it| is_of(it, &rollout.id, &to)) {
                member.follow(recreation, now);
            }
        }
    }

    /// Everything there is to do in the journal, in the order in which members are moved; the other way round when they
    /// are put back.
    #[must_use]
    pub fn works(&self, sights: &Sights<'_>) -> Vec<Recreating> {
        let mut works: Vec<Recreating> =
            self.members.iter().filter_map(|member| member.work(&self.rollout, sights)).collect();
        if matches!(self.rollout.state, State::RollingBack { .. }) {
            works.reverse();
        }
        works
    }
}

impl Member {
    /// Whose recreation it is, and where that leads.
    fn journal(&self) -> (InstanceId, Billing) {
        match (self.state, &self.successor) {
            (MemberState::Returning, Some(successor)) => (successor.clone(), Billing::OnDemand),
            (MemberState::Stranded, Some(successor)) if self.is_open => (successor.clone(), Billing::OnDemand),
            _ => (self.id.clone(), Billing::Spot),
        }
    }

    /// Whether the journal may have something new about it.
    fn has_journal(&self) -> bool {
        match self.state {
            MemberState::Moving | MemberState::Ready | MemberState::Undoing | MemberState::Returning => true,
            MemberState::Failed | MemberState::Stranded => self.is_open,
            MemberState::Waiting | MemberState::Moved | MemberState::Restored => false,
        }
    }

    /// Whether something is still to be done about it, whatever the rollout wants.
    pub(super) fn is_unfinished(&self) -> bool {
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

    pub(super) fn fail(&mut self, why: String) {
        self.state = MemberState::Failed;
        self.note.get_or_insert(why);
    }

    fn strand(&mut self, why: String) {
        self.state = MemberState::Stranded;
        self.note = Some(why);
    }

    fn observe(&mut self, rollout: &str, sights: &Sights<'_>) -> Option<(InstanceId, Recreation)> {
        if !self.has_journal() {
            return None;
        }
        let seen = sights.seen(rollout, self)?;
        let (key, to) = self.journal();
        let is_taken = sights.is_taken(&key, rollout);
        if let (MemberState::Returning, Step::Created { replacement, .. }) = (self.state, &seen.recreation.step)
            && !is_taken
            && matches!(seen.situation.old, Old::Gone | Old::Going)
            && sights.billing(replacement).is_some_and(|billing| *billing != to)
        {
            // A pass put another one in its place meanwhile: that is the one to return from.
            self.successor = Some(replacement.clone());
            return None;
        }
        if !seen.is_begun && (is_taken || matches!(seen.recreation.step, Step::Pending { .. })) {
            self.not_begun(is_taken, &seen, sights);
            return None;
        }
        let known = self.successor.clone();
        self.follow(&seen.recreation, sights.now);
        let step = &seen.recreation.step;
        match self.state {
            MemberState::Moving | MemberState::Ready => {
                if let Some(why) = misbilled(&seen, &to, sights) {
                    self.fail(why);
                } else if self.state == MemberState::Ready {
                    match (step, &seen.situation.successor) {
                        // Whatever took its place has not soaked.
                        (step, _) if step.replacement() != known.as_ref() => {
                            self.fail("its spot instance is gone".into());
                        }
                        (Step::Created { .. }, Successor::Running) => {}
                        (Step::Created { replacement, .. }, Successor::Failed(why)) => {
                            self.fail(format!("its spot instance {replacement} failed: {why}"));
                        }
                        (Step::Created { replacement, .. }, Successor::ComingUp | Successor::Down) => {
                            self.fail(format!("its spot instance {replacement} does not run any more"));
                        }
                        (Step::Created { .. } | Step::Pending { .. } | Step::Abandoned { .. }, _) => {
                            self.fail("its spot instance is gone".into());
                        }
                        _ => {}
                    }
                }
            }
            MemberState::Restored if to == Billing::Spot && !sights.runs_on_demand(&self.id) => {
                self.strand("its spot instance is gone, and it is not seen running on-demand".into());
            }
            _ => {}
        }
        seen.is_news.then_some((key, seen.recreation))
    }

    /// What a look says about a move that nobody has begun yet.
    fn not_begun(&mut self, is_taken: bool, seen: &Seen, sights: &Sights<'_>) {
        let is_ours = sights.billing(&self.id).is_some_and(|billing| *billing == Billing::OnDemand);
        match self.state {
            MemberState::Ready => self.fail("its spot instance is gone".into()),
            MemberState::Moving if is_taken => {
                self.fail("a recreation of it is open already".into());
            }
            MemberState::Moving if !is_ours || !matches!(seen.situation.old, Old::Runs | Old::Busy) => {
                self.fail("it does not run on-demand any more".into());
            }
            MemberState::Undoing => self.state = MemberState::Restored,
            MemberState::Returning if matches!(seen.situation.old, Old::Gone | Old::Going) => {
                self.strand("its spot instance vanished before an on-demand one was made in its place".into());
            }
            _ => {}
        }
    }

    /// What the journal says about it.
    fn follow(&mut self, recreation: &Recreation, now: Timestamp) {
        self.is_open = !recreation.step.is_over();
        let failure = || recreation.last_error.clone().unwrap_or_else(|| "it does not run on-demand any more".into());
        let is_given_up = recreation.failures >= MOST_FAILURES && recreation.quarantined_until(now).is_some();
        match (&recreation.step, self.state) {
            (Step::Closed { replacement: Some(new) }, MemberState::Returning | MemberState::Stranded) => {
                (self.state, self.successor, self.note) = (MemberState::Restored, Some(new.clone()), None);
                self.undone_at.get_or_insert(now);
            }
            (Step::Closed { replacement: None } | Step::Ended, MemberState::Returning) => self.strand(failure()),
            (Step::Pending { .. }, MemberState::Returning) if is_given_up => {
                self.strand(format!("no on-demand instance could be made in its place: {}", failure()));
            }
            (_, MemberState::Returning | MemberState::Stranded) => {}
            // It was gone before its spot instance was: that one has its place, and the way back is the long one.
            (Step::Closed { replacement: Some(new) }, MemberState::Undoing) => {
                (self.state, self.successor) = (MemberState::Returning, Some(new.clone()));
                self.retired_at.get_or_insert(now);
            }
            (Step::Closed { replacement: Some(new) }, _) => {
                (self.state, self.successor) = (MemberState::Moved, Some(new.clone()));
                self.retired_at.get_or_insert(now);
            }
            (Step::Closed { replacement: None }, state) => {
                self.successor = None;
                self.undone_at = self.undone_at.or(self.ready_at.map(|_| now));
                if state == MemberState::Undoing {
                    self.state = MemberState::Restored;
                } else {
                    self.fail(failure());
                }
            }
            // Left as they are, both: what to keep is for a person to say.
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

    fn work(&self, rollout: &Rollout, sights: &Sights<'_>) -> Option<Recreating> {
        let (instance, to) = self.journal();
        let intent = match self.state {
            MemberState::Moving => MoveIntent::Advance,
            MemberState::Ready if matches!(rollout.state, State::Retiring { .. }) => MoveIntent::Retire,
            MemberState::Failed if self.is_open => MoveIntent::Undo(self.note.clone().unwrap_or_default()),
            MemberState::Undoing => MoveIntent::Undo("the rollout goes back".into()),
            MemberState::Returning => MoveIntent::Retire,
            // What was given up is not tried again. What was made all the same, late, is what was wanted.
            MemberState::Stranded if self.is_open => match sights.seen(&rollout.id, self)?.recreation.step {
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
        let seen = sights.seen(&rollout.id, self)?;
        if !seen.is_begun && sights.is_taken(&instance, &rollout.id) {
            return None;
        }
        let intent = match misbilled(&seen, &to, sights) {
            Some(why) => MoveIntent::Undo(why),
            None => intent,
        };
        match next_move(&seen.recreation, &seen.situation, &intent) {
            Next::Rest(_) | Next::Nothing => None,
            next => Some(Recreating { instance, recreation: seen.recreation, next, prepared: None }),
        }
    }

    /// The successor that is to be looked at, if it is awaited.
    #[must_use]
    pub fn awaited(&self) -> Option<&InstanceId> {
        self.successor.as_ref().filter(|_| self.state == MemberState::Moving)
    }

    /// Its successor runs, is billed as it should be and answers; `cost` is what the provider says that it costs.
    pub fn is_ready(&mut self, cost: Option<Usd>, now: Timestamp) {
        self.state = MemberState::Ready;
        self.ready_at = Some(now);
        self.read_back.spot = cost;
    }
}
