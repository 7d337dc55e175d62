//! Recreations: each step of the journal is stored before the call that it allows is sent.
//!
//! A pass works on them twice. [`start`] sends what can be sent at once. [`finish`], after the migrations, waits a bounded
//! time for the replacements to run and deletes what they replace. The next pass finds the rest in the journal.

mod create;
mod turn;

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use self::turn::Turn;
use super::{Applied, CHECK_DELAY, Edges, FirstStoreError, Pass};
use crate::core::pass::plan::Duplicate;
use crate::core::pass::verdict::Recreating;
use crate::core::record::execution::{Action, Attempt, Outcome};
use crate::core::recreation::journal::Recreation;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Instance, InstanceId};
use crate::core::world::time::Timestamp;
use crate::report::Event;
use crate::store::StoreError;
use crate::store::records::Mode;

/// The interval for checking a replacement that comes up.
const POLL: Duration = Duration::from_secs(5);

/// The recreations of a pass, between [`start`] and [`finish`].
#[derive(Debug, Default)]
pub struct Underway<'a> {
    tasks: Vec<Task<'a>>,
    store_error: FirstStoreError,
}

impl Underway<'_> {
    /// Why the store could not be written to, if so.
    #[must_use]
    pub fn store_error(&self) -> Option<StoreError> {
        self.store_error.borrow().clone()
    }
}

impl<'a> Underway<'a> {
    /// The instances that no market had room for.
    pub fn refused(&self) -> impl Iterator<Item = &'a InstanceId> {
        let refused = self.tasks.iter().filter(|task| task.attempt.outcome == Outcome::NoRoom);
        refused.map(|task| &task.work.instance)
    }

    /// Both, to be finished together.
    #[must_use]
    pub fn and(mut self, other: Underway<'a>) -> Self {
        self.tasks.extend(other.tasks);
        if let Some(error) = other.store_error.into_inner() {
            self.store_error.get_mut().get_or_insert(error);
        }
        self
    }
}

/// One recreation and how far this pass brought it.
#[derive(Debug)]
struct Task<'a> {
    work: &'a Recreating,
    recreation: Recreation,
    attempt: Attempt,
    awaits: Awaits,
    /// Where this pass created the replacement, in words.
    place: String,
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Nothing,
    Running,
    /// That the replacement is found, since the answer to its creation was unclear.
    Found,
}

/// Sends what can be sent at once, in the order of `works`, with at most `workers` recreations at a time. `listed` are the
/// instances that exist before.
pub async fn start<'a, E: Edges>(
    pass: &Pass<'_, E>,
    works: &[&'a Recreating],
    listed: &[Instance],
    wait: Duration,
) -> Underway<'a> {
    let store_error = FirstStoreError::default();
    let mut tasks: Vec<Task<'a>> = works.iter().map(|work| Task::new(work, pass.now())).collect();
    stream::iter(tasks.iter_mut())
        .for_each_concurrent(pass.world.limits.workers, |task| {
            let turn = Turn { pass, store_error: &store_error, listed, wait };
            async move { turn.start(task).await }
        })
        .await;
    Underway { tasks, store_error }
}

/// Waits for replacements to run, for `wait` at most, and deletes what they replace.
pub async fn finish<E: Edges>(pass: &Pass<'_, E>, underway: Underway<'_>, wait: Duration) -> Applied {
    let Underway { mut tasks, store_error } = underway;
    let until = Instant::now() + wait;
    let turn = Turn { pass, store_error: &store_error, listed: &[], wait };
    if tasks.iter().any(|task| task.awaits == Awaits::Found) && pass.world.stop.sleep(CHECK_DELAY).await.is_ok() {
        for task in tasks.iter_mut().filter(|task| task.awaits == Awaits::Found) {
            turn.find(task).await;
        }
    }
    if wait.is_zero() {
        // What was created a moment ago does not run yet.
        let created = tasks.iter_mut().filter(|task| !task.place.is_empty());
        created.for_each(|task| task.awaits = Awaits::Nothing);
    }
    loop {
        let awaited = tasks.iter().filter(|task| task.awaits == Awaits::Running).count();
        if awaited == 0 || !pass.may_send(&store_error) {
            break;
        }
        pass.world.reporter.event(Event::Awaiting { count: awaited });
        stream::iter(tasks.iter_mut().filter(|task| task.awaits == Awaits::Running))
            .for_each_concurrent(pass.world.limits.workers, |task| {
                let turn = &turn;
                async move { turn.watch(task).await }
            })
            .await;
        let is_over = tasks.iter().all(|task| task.awaits != Awaits::Running);
        let left = until.saturating_duration_since(Instant::now());
        if is_over || left.is_zero() || pass.world.stop.sleep(POLL.min(left)).await.is_err() {
            break;
        }
    }
    let attempts: Vec<Attempt> = tasks.into_iter().map(|task| task.attempt).collect();
    for attempt in &attempts {
        pass.world.reporter.event(Event::ActionEnded(attempt));
    }
    Applied { attempts, store_error: store_error.into_inner() }
}

/// Deletes duplicates, each only while the one that stays is seen running.
pub async fn retire<E: Edges>(pass: &Pass<'_, E>, duplicates: &[Duplicate<'_>]) -> Applied {
    let store_error = FirstStoreError::default();
    let turn = Turn { pass, store_error: &store_error, listed: &[], wait: Duration::ZERO };
    let mut attempts = Vec::with_capacity(duplicates.len());
    for Duplicate { instance, keep } in duplicates {
        let mut attempt = Attempt::new(&instance.id, &instance.name, Action::Resume, pass.now());
        attempt.reason = pass.why_not_started(&store_error).into();
        if pass.mode() == Mode::Rehearsal {
            attempt.reason = format!("rehearsal, not deleted: duplicate of {keep}");
        } else if pass.may_send(&store_error) {
            match turn.runs(keep).await {
                Some(true) => {
                    let done = format!("deleted: duplicate of {keep}, which runs");
                    turn.delete_spare(instance, &done, &mut attempt).await;
                }
                Some(false) | None => attempt.reason = format!("{keep} was not seen running, left for a later pass"),
            }
        }
        pass.world.reporter.event(Event::ActionEnded(&attempt));
        attempts.push(attempt);
    }
    Applied { attempts, store_error: store_error.into_inner() }
}

/// Terminates what a rollout replaced and stopped, once it was kept for long enough.
pub async fn expire<E: Edges>(pass: &Pass<'_, E>, expired: &[&Instance]) -> Applied {
    let store_error = FirstStoreError::default();
    let turn = Turn { pass, store_error: &store_error, listed: &[], wait: Duration::ZERO };
    let mut attempts = Vec::with_capacity(expired.len());
    for instance in expired {
        let mut attempt = Attempt::new(&instance.id, &instance.name, Action::Resume, pass.now());
        attempt.reason = pass.why_not_started(&store_error).into();
        if pass.mode() == Mode::Rehearsal {
            attempt.reason = "rehearsal, not terminated: a rollout replaced it".into();
        } else if pass.may_send(&store_error) {
            turn.delete_spare(instance, "terminated: a rollout replaced it, and it was kept long enough", &mut attempt)
                .await;
        }
        pass.world.reporter.event(Event::ActionEnded(&attempt));
        attempts.push(attempt);
    }
    Applied { attempts, store_error: store_error.into_inner() }
}

impl<'a> Task<'a> {
    fn new(work: &'a Recreating, now: Timestamp) -> Self {
        let action = if work.starts() { Action::Recreate } else { Action::Resume };
        let mut attempt = Attempt::new(&work.instance, &work.recreation.instance_name, action, now);
        attempt.new_instance_id = work.recreation.step.replacement().cloned();
        Self { work, recreation: work.recreation.clone(), attempt, awaits: Awaits::Nothing, place: String::new() }
    }

    fn end(&mut self, outcome: Outcome, reason: impl Into<String>) {
        self.attempt.outcome = outcome;
        self.attempt.reason = reason.into();
        self.attempt.error_kind = None;
        self.awaits = Awaits::Nothing;
    }

    fn fail(&mut self, outcome: Outcome, kind: ErrorKind, reason: impl Into<String>) {
        self.end(outcome, reason);
        self.attempt.error_kind = Some(kind);
    }
}
