//! The steps of one recreation, each stored before the call that it allows is sent.

use std::time::Duration;

use tokio::time::Instant;

use super::{Awaits, POLL, Task};
use crate::act::audit::Ticket;
use crate::act::{CHECK_DELAY, Edges, FirstStoreError, Pass};
use crate::cloud::{CloudRead as _, CloudWrite as _, Effect, Guard};
use crate::core::record::execution::{Attempt, Outcome};
use crate::core::record::news::closes;
use crate::core::record::outbox::Happened;
use crate::core::record::trail::WriteCall;
use crate::core::recreation::blueprint::Prepared;
use crate::core::recreation::journal::{Cause, Next, Old, Recreation, Situation, Step, Successor, Transition, Unfit};
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Aside, Billing, Instance, InstanceId, Place, Status};
use crate::core::world::time::{Timestamp, millis};
use crate::core::world::times::SETTLE_TIME;
use crate::report::Event;
use crate::store::records::{Change, Mode};

/// How long after a look the provider is still asked to delete what was looked at.
const LOOK_LIFE: Duration = Duration::from_secs(5);

/// What is seen of one instance.
pub(super) enum Presence {
    There(Box<Instance>),
    Gone,
}

impl Presence {
    /// Whether it is removed completely.
    fn is_removed(&self) -> bool {
        match self {
            Self::There(seen) => seen.status == Status::Removed,
            Self::Gone => true,
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Self::There(seen) => seen.status.is_going(),
            Self::Gone => true,
        }
    }
}

/// What became of a deletion.
enum Deletion {
    Gone,
    Accepted,
    /// The answer was unclear; deleting again does no harm.
    Unknown,
    Failed,
}

/// What every step of a recreation needs.
pub(super) struct Turn<'a, E: Edges> {
    pub(super) pass: &'a Pass<'a, E>,
    pub(super) store_error: &'a FirstStoreError,
    /// What exists before anything is created, by id.
    pub(super) listed: &'a [Instance],
    /// How long a delete-first recreation waits for the old instance to go.
    pub(super) wait: Duration,
}

impl<E: Edges> Turn<'_, E> {
    pub(super) async fn start(&self, task: &mut Task<'_>) {
        let work = task.work;
        if self.pass.mode() == Mode::Rehearsal {
            let outcome = if work.creates() && matches!(work.prepared, Some(Ok(_))) {
                Outcome::Accepted
            } else {
                Outcome::Skipped
            };
            return task.end(outcome, format!("rehearsal, not sent: {}", work.detail()));
        }
        if work.next != Next::Nothing && !self.pass.may_send(self.store_error) {
            return task.end(Outcome::Skipped, self.pass.why_not_started(self.store_error));
        }
        match (&work.next, &work.prepared) {
            (Next::Create, Some(Ok(prepared))) => self.create(task, prepared).await,
            (Next::DeleteOldFirst, Some(Ok(prepared))) => self.delete_first(task, prepared).await,
            (Next::Create | Next::DeleteOldFirst, Some(Err(obstacle))) => self.obstructed(task, obstacle).await,
            (Next::Create | Next::DeleteOldFirst, None) => task.end(Outcome::Skipped, "not prepared"),
            (Next::Watch, _) => self.await_running(task),
            (Next::DeleteOld, _) => self.delete_old(task).await,
            (Next::Abandon(why), _) => {
                self.abandon(task, why).await;
                self.create_again(task).await;
            }
            (Next::CallOff, _) => self.close_with(task, Transition::CallOff).await,
            (Next::LeaveBoth(why), _) => self.close_with(task, Transition::LeaveBoth(why.clone())).await,
            (Next::Rest(_), _) => task.end(Outcome::Skipped, work.detail()),
            (Next::Nothing, _) => match &task.recreation.step {
                Step::Closed { replacement: Some(_) } => task.end(Outcome::Done, work.detail()),
                Step::Ended => task.fail(Outcome::Failed, ErrorKind::State, work.detail()),
                _ => task.end(Outcome::Skipped, work.detail()),
            },
        }
    }

    /// A write about the old instance.
    pub(super) fn about_to(&self, call: WriteCall, task: &Task<'_>, market: Option<&Place>) -> Ticket {
        self.pass.about_to(call, (&task.work.instance, &task.recreation.instance_name), market)
    }

    pub(super) fn await_running(&self, task: &mut Task<'_>) {
        let replacement = task.recreation.step.replacement().map_or("none", InstanceId::as_str);
        let reason = format!("replacement {replacement}{} is coming up; a later pass finishes", task.place);
        task.end(Outcome::Accepted, reason);
        task.awaits = Awaits::Running;
    }

    /// The order delete-first: the specification is safe in the journal before the old instance goes.
    async fn delete_first(&self, task: &mut Task<'_>, prepared: &Prepared) {
        let ticket = self.about_to(WriteCall::Delete, task, None);
        if !self.advance(task, Transition::DeleteOldFirst(Box::new(prepared.blueprint.clone()))).await {
            return;
        }
        match self.delete(ticket, &task.work.instance, &mut task.attempt).await {
            Deletion::Failed | Deletion::Unknown => return,
            Deletion::Gone | Deletion::Accepted => {}
        }
        let until = Instant::now() + self.wait;
        loop {
            if self.presence(&task.work.instance).await.is_some_and(|seen| seen.is_removed()) {
                break;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.pass.world.stop.sleep(POLL.min(left)).await.is_err() {
                return task.end(Outcome::Accepted, "the old instance is being deleted; a later pass recreates it");
            }
        }
        if self.observe(task, Old::Gone, Successor::None).await {
            self.create(task, prepared).await;
        }
    }

    /// Deletes the old instance, if the replacement runs right now and the old one still does not.
    async fn delete_old(&self, task: &mut Task<'_>) {
        let Some(replacement) = task.recreation.step.replacement().cloned() else { return };
        match self.presence(&replacement).await {
            Some(Presence::There(seen)) if seen.status == Status::Running => {
                // The old one stays if the new one is not what was ordered.
                if task.recreation.cause.billing().is_some_and(|to| *to != seen.billing) {
                    let reason = format!("replacement {replacement} is not billed as it should be; it is undone");
                    return task.end(Outcome::Accepted, reason);
                }
            }
            Some(Presence::There(seen)) => {
                let reason = format!("replacement {replacement} is {}; a later pass goes on", seen.status);
                return task.end(Outcome::Accepted, reason);
            }
            Some(Presence::Gone) | None => {
                let reason = format!("replacement {replacement} was not seen; a later pass goes on");
                return task.end(Outcome::Accepted, reason);
            }
        }
        let old = &task.work.instance;
        match self.presence(old).await {
            Some(seen) if seen.is_gone() => {
                if self.advance(task, Transition::DeleteOld).await {
                    self.close(task).await;
                }
                return;
            }
            // One that runs and is not to go any more is kept.
            Some(Presence::There(seen))
                if seen.status == Status::Running
                    && matches!(task.recreation.step, Step::Created { kept: None, .. })
                    && !self.may_go(task, &replacement).await =>
            {
                return task.end(Outcome::Accepted, "the old instance is kept for now; a later pass decides");
            }
            // The listing may be from before it stopped, and only the next one tells a reclaim from a person's stop.
            Some(Presence::There(seen)) if self.has_just_stopped(task, &seen) => {
                return task.end(Outcome::Accepted, "the old instance has just stopped; a later pass decides");
            }
            Some(_) => {}
            None => return task.end(Outcome::Accepted, "the old instance was not seen; a later pass goes on"),
        }
        let ticket = self.about_to(WriteCall::Delete, task, None);
        if !self.advance(task, Transition::DeleteOld).await {
            return;
        }
        match self.delete(ticket, old, &mut task.attempt).await {
            Deletion::Gone => {
                if self.advance(task, Transition::DeletionAccepted).await {
                    self.close(task).await;
                }
            }
            Deletion::Accepted => {
                if self.advance(task, Transition::DeletionAccepted).await {
                    let reason = format!("replacement {replacement} runs, the old one is being deleted");
                    task.end(Outcome::Accepted, reason);
                }
            }
            Deletion::Unknown | Deletion::Failed => {}
        }
    }

    /// Whether an instance that was to run until its replacement runs stopped a moment ago.
    fn has_just_stopped(&self, task: &Task<'_>, old: &Instance) -> bool {
        let stopped_at = old.stopped_at.filter(|_| old.status == Status::Exited).map(Timestamp::from);
        matches!(task.recreation.cause, Cause::Announced | Cause::Returned)
            && matches!(task.recreation.step, Step::Created { kept: None, .. })
            && stopped_at.is_some_and(|at| self.pass.now().since(at) < SETTLE_TIME)
    }

    /// Whether the old instance may be deleted although it runs: a rollout retires it, its reclaim is still announced, or it
    /// only stands in; and its replacement is not reclaimed before. The list says so, not the details.
    async fn may_go(&self, task: &Task<'_>, replacement: &InstanceId) -> bool {
        let Recreation { cause, instance_name, marker, .. } = &task.recreation;
        if let Cause::Moved { to, .. } = cause {
            // The listing did not announce it, and its row may be out of sight.
            return *to != Billing::Spot || self.row(replacement, marker).await.is_none_or(|new| new.reclaim.is_none());
        }
        let (Some(old), Some(new)) =
            (self.row(&task.work.instance, instance_name).await, self.row(replacement, marker).await)
        else {
            return false;
        };
        let end = |it: &Instance| it.reclaim.as_ref().map(|notice| notice.reclaim_at);
        match cause {
            Cause::Announced => end(&old).is_some_and(|old| end(&new).is_none_or(|new| new > old)),
            Cause::Returned => end(&new).is_none(),
            _ => false,
        }
    }

    /// The row of an instance in the list; `None` if it could not be read.
    async fn row(&self, id: &InstanceId, name: &str) -> Option<Instance> {
        self.pass.unless_stopped(self.pass.world.cloud.row(id, name)).await?.ok()?
    }

    /// Records that nothing more will be done.
    async fn close_with(&self, task: &mut Task<'_>, transition: Transition) {
        if self.advance(task, transition).await {
            task.end(Outcome::Skipped, task.work.detail());
        }
    }

    async fn close(&self, task: &mut Task<'_>) {
        if self.observe(task, Old::Gone, Successor::Running).await {
            let replacement = task.recreation.step.replacement().map_or("none", InstanceId::as_str);
            let reason = format!("replaced by {replacement}{}, which runs", task.place);
            task.end(Outcome::Done, reason);
        }
    }

    /// Deletes a replacement that is given up, if the reason still holds.
    async fn abandon(&self, task: &mut Task<'_>, why: &Unfit) {
        let Some(replacement) = task.recreation.step.replacement().cloned() else { return };
        let was_given_up = matches!(task.recreation.step, Step::Abandoned { .. });
        let is_fit_now = match why {
            _ if was_given_up => false,
            Unfit::NotNeeded => self.runs(&task.work.instance).await != Some(true),
            Unfit::OldStopped => !matches!(self.presence(&task.work.instance).await,
                Some(Presence::There(seen)) if seen.status == Status::Exited),
            Unfit::Undone(_) => false,
            Unfit::NotComingUp | Unfit::Failed(_) | Unfit::Down | Unfit::Reclaimed | Unfit::GivenUp(_) => {
                self.runs(&replacement).await != Some(false)
            }
        };
        // Without the old instance the new one must stay.
        let old = &task.work.instance;
        let is_all_there_is = match task.recreation.moves_to() {
            Some(Billing::Spot) => self.runs(old).await != Some(true),
            Some(_) => self.presence(old).await.is_none_or(|seen| seen.is_gone()),
            None => false,
        };
        if is_fit_now || is_all_there_is {
            return task.end(Outcome::Accepted, format!("replacement {replacement} is kept; a later pass decides"));
        }
        // It belongs to others now, unless it has that from the old one.
        if let Some(aside) = self.foreign(&replacement).await
            && self.foreign(old).await.is_none()
        {
            let why = format!("replacement {replacement} is left as it is: {aside}");
            if self.advance(task, Transition::LeaveBoth(why.clone())).await {
                task.end(Outcome::Skipped, why);
            }
            return;
        }
        let ticket = self.pass.about_to(WriteCall::Delete, (&replacement, &task.recreation.marker), None);
        if !self.advance(task, Transition::Abandon(why.clone())).await {
            return;
        }
        if let Deletion::Gone | Deletion::Accepted = self.delete(ticket, &replacement, &mut task.attempt).await {
            task.end(Outcome::Accepted, format!("replacement {replacement} is deleted: {why}"));
            task.attempt.new_instance_id = None;
        }
    }

    /// Why an instance is not one to act on any more, if so.
    async fn foreign(&self, id: &InstanceId) -> Option<Aside> {
        let Some(Presence::There(seen)) = self.presence(id).await else { return None };
        seen.aside.map(|aside| *aside).filter(|it| matches!(it, Aside::NotOptedIn | Aside::ManagedElsewhere { .. }))
    }

    /// Deletes an instance that another one stands for.
    pub(super) async fn delete_spare(&self, spare: &Instance, done: &str, attempt: &mut Attempt) {
        let ticket = self.pass.about_to(WriteCall::Delete, (&spare.id, &spare.name), None);
        // The next look must not take it for one that was lost.
        let forgotten = Change::Observe(spare.id.clone(), None);
        if let Err(error) = self.pass.commit(vec![forgotten]).await {
            self.store_error.borrow_mut().get_or_insert(error);
            attempt.reason = self.pass.why_not_started(self.store_error).into();
            return;
        }
        let deletion = self.delete(ticket, &spare.id, attempt).await;
        if matches!(deletion, Deletion::Gone | Deletion::Accepted) {
            attempt.outcome = Outcome::Done;
            attempt.reason = done.into();
        }
    }

    /// Checks a replacement that comes up, and continues when it runs.
    pub(super) async fn watch(&self, task: &mut Task<'_>) {
        let Some(replacement) = task.recreation.step.replacement().cloned() else { return };
        match self.presence(&replacement).await {
            Some(Presence::There(seen)) if seen.status == Status::Running && task.recreation.is_move() => {
                let mode = seen.billing;
                task.end(Outcome::Accepted, format!("{replacement} runs as {mode}, beside the old one for now"));
            }
            Some(Presence::There(seen)) if seen.status == Status::Running => {
                task.awaits = Awaits::Nothing;
                if self.pass.may_send(self.store_error) {
                    self.delete_old(task).await;
                }
            }
            Some(Presence::There(seen)) if seen.status.is_coming_up() => {}
            Some(Presence::There(seen)) => {
                let reason = format!("replacement {replacement} is {}; a later pass goes on", seen.status);
                task.end(Outcome::Accepted, reason);
            }
            // A new instance may not be visible everywhere yet.
            Some(Presence::Gone) | None => {
                task.attempt.reason = format!("replacement {replacement} is not to be seen; a later pass finds out");
            }
        }
    }

    /// Finds a replacement whose creation was not answered.
    pub(super) async fn find(&self, task: &mut Task<'_>) {
        task.awaits = Awaits::Nothing;
        let reading = self.pass.world.cloud.marked(&task.recreation.marker);
        let Some(Ok(found)) = self.pass.unless_stopped(reading).await else { return };
        let Some(found) = found.into_iter().find(|instance| !instance.status.is_going()) else { return };
        if self.advance(task, Transition::Found(found.id.clone())).await {
            task.attempt.new_instance_id = Some(found.id);
            self.await_running(task);
        }
    }

    /// Deletes an instance. After an unclear answer, or a refusal for its state, it is checked once more: it may be going
    /// already.
    async fn delete(&self, ticket: Ticket, id: &InstanceId, attempt: &mut Attempt) -> Deletion {
        let begun = Instant::now();
        // What was looked at a while ago may run by now, or what replaces it may not.
        let may_send = || self.pass.may_send(self.store_error) && begun.elapsed() < LOOK_LIFE;
        let answer = self.pass.writer.delete(id, Guard { stop: self.pass.world.stop, may_send: &may_send }).await;
        let response_time = millis(begun.elapsed());
        self.pass.answered(ticket, answer.as_ref().map(|()| None), response_time);
        attempt.response_time = Some(response_time);
        let error = match answer {
            Ok(()) => {
                return match self.presence(id).await {
                    Some(seen) if seen.is_gone() => Deletion::Gone,
                    _ => Deletion::Accepted,
                };
            }
            Err(error) => error,
        };
        if error.effect == Effect::NotSent {
            attempt.response_time = None;
        }
        let is_open = error.effect == Effect::Possible || error.kind == ErrorKind::State;
        if is_open && self.pass.world.stop.sleep(CHECK_DELAY).await.is_ok() {
            match self.presence(id).await {
                Some(seen) if seen.is_gone() => return Deletion::Gone,
                _ => {}
            }
        }
        attempt.reason = error.to_string();
        attempt.error_kind = Some(error.kind);
        match (error.effect, self.pass.world.stop.cause()) {
            (Effect::Possible, _) => {
                attempt.outcome = Outcome::Unknown;
                Deletion::Unknown
            }
            (Effect::NotSent, Some(_)) => {
                attempt.outcome = Outcome::Skipped;
                attempt.error_kind = None;
                Deletion::Failed
            }
            (Effect::NotSent, None) if begun.elapsed() >= LOOK_LIFE => {
                attempt.outcome = Outcome::Skipped;
                attempt.error_kind = None;
                attempt.reason = "not deleted: the provider asked to wait; a later pass looks again".into();
                Deletion::Failed
            }
            (Effect::NotSent | Effect::Refused, _) => {
                attempt.outcome = Outcome::Failed;
                Deletion::Failed
            }
        }
    }

    /// Whether it runs; `None` if that could not be read.
    pub(super) async fn runs(&self, id: &InstanceId) -> Option<bool> {
        Some(match self.presence(id).await? {
            Presence::There(seen) => seen.status == Status::Running,
            Presence::Gone => false,
        })
    }

    /// `None` if it could not be read.
    pub(super) async fn presence(&self, id: &InstanceId) -> Option<Presence> {
        match self.pass.unless_stopped(self.pass.world.cloud.close_up(id)).await? {
            Ok(Some(seen)) => Some(Presence::There(Box::new(seen.instance))),
            Ok(None) => Some(Presence::Gone),
            Err(_) => None,
        }
    }

    /// Stores the journal after a transition. `false` ends the task: nothing is done that is not stored.
    pub(super) async fn advance(&self, task: &mut Task<'_>, transition: Transition) -> bool {
        let now = self.pass.now();
        match task.recreation.clone().apply(transition, now) {
            Ok(recreation) => self.store(task, recreation).await,
            Err(illegal) => {
                task.fail(Outcome::Failed, ErrorKind::State, illegal.to_string());
                false
            }
        }
    }

    /// Stores the journal after an observation.
    pub(super) async fn observe(&self, task: &mut Task<'_>, old: Old, successor: Successor) -> bool {
        let situation =
            Situation { old, successor, marked: None, is_unwanted: false, overlap: None, now: self.pass.now() };
        let recreation = task.recreation.clone().observe(&situation);
        self.store(task, recreation).await
    }

    async fn store(&self, task: &mut Task<'_>, recreation: Recreation) -> bool {
        let recreation = Recreation { pass: self.pass.job_id.to_owned(), ..recreation };
        let old = &task.work.instance;
        let mut changes = vec![Change::Journal(old.clone(), Some(recreation.clone()))];
        if let Some(new) = closes(Some(&task.recreation.step), &recreation) {
            let reachable = self.pass.connections(&[new]).await.remove(new).unwrap_or_default();
            changes.extend(self.pass.tell(&Happened::recreated(old, new, &recreation, reachable, recreation.since)));
        }
        if let Err(error) = self.pass.commit(changes).await {
            self.store_error.borrow_mut().get_or_insert(error);
            task.fail_unrecorded();
            return false;
        }
        self.pass.world.reporter.event(Event::Journaled { instance: &task.work.instance, recreation: &recreation });
        task.recreation = recreation;
        true
    }
}

impl Task<'_> {
    /// A step could not be stored. What was sent before it is in the journal.
    fn fail_unrecorded(&mut self) {
        self.awaits = Awaits::Nothing;
        let sent = self.attempt.response_time.is_some();
        self.attempt.outcome = if sent { Outcome::Unknown } else { Outcome::Skipped };
        self.attempt.reason = "the store failed; the next pass goes on from what it holds".into();
    }
}
