//! Migrations: intent, call, result.
//!
//! A worker stores a result together with its next intent. If the pass dies in between, the next one finds the call open
//! and settles it by what it observes, as for any other open call.

use std::cell::{Cell, RefCell};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::board::Turnout;
use super::{Applied, CHECK_DELAY, Edges, FirstStoreError, Pass, is_of_the_account};
use crate::cloud::{CloudError, CloudRead as _, CloudWrite as _, Effect, Guard};
use crate::core::pass::ledger::{Call, InFlight};
use crate::core::pass::plan::Migration;
use crate::core::pass::settle::is_new;
use crate::core::record::execution::{Action, Attempt, Outcome};
use crate::core::record::trail::WriteCall;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Instance, InstanceId, Job, Status};
use crate::core::world::snapshot::JobIndex;
use crate::core::world::time::{Timestamp, millis};
use crate::report::Event;
use crate::store::records::{Change, Mode};

/// Migrates `migrations` in order, with at most `workers` calls in flight.
pub async fn migrate<E: Edges>(pass: &Pass<'_, E>, migrations: &[Migration<'_>], jobs_since: Timestamp) -> Applied {
    let queue = Queue::default();
    let workers = (0..pass.world.limits.workers.min(migrations.len())).map(|_| work(pass, migrations, &queue));
    join_all(workers).await;
    let Queue { next, calls, store_error, closed: _ } = queue;
    let mut calls = calls.into_inner();
    if store_error.borrow().is_none() {
        check(pass, &mut calls, jobs_since, &store_error).await;
    }
    let mut attempts: Vec<Attempt> = calls.into_iter().map(|called| called.attempt).collect();
    for migration in migrations.iter().skip(next.get()) {
        let attempt = not_started(pass, migration, &store_error);
        pass.world.reporter.event(Event::ActionEnded(&attempt));
        attempts.push(attempt);
    }
    Applied { attempts, store_error: store_error.into_inner() }
}

/// What the workers share.
#[derive(Default)]
struct Queue<'a> {
    next: Cell<usize>,
    calls: RefCell<Vec<Called<'a>>>,
    store_error: FirstStoreError,
    /// Why any other migration would be refused, too.
    closed: RefCell<Option<String>>,
}

/// A call that was made, or would have been.
struct Called<'a> {
    migration: &'a Migration<'a>,
    attempt: Attempt,
    /// Why the provider's answer does not say whether it worked.
    doubt: Option<Ambiguity>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ambiguity {
    /// No clear answer: only time can prove that it had no effect.
    NoAnswer,
    /// Refused for the instance's state, which this very call may have caused.
    StateRefused,
    /// It is not found, although it is listed.
    NotFound,
}

async fn work<'a, E: Edges>(pass: &Pass<'_, E>, migrations: &'a [Migration<'a>], queue: &Queue<'a>) {
    let mut unsaved: Vec<Change> = Vec::new();
    loop {
        if pass.world.stop.cause().is_some() || queue.store_error.borrow().is_some() {
            break;
        }
        let Some(migration) = migrations.get(queue.next.get()) else { break };
        queue.next.set(queue.next.get() + 1);
        if let Some(why) = &*queue.closed.borrow() {
            let reason = format!("not started: another migration was refused: {why}");
            let attempt = Attempt { reason, ..not_started(pass, migration, &queue.store_error) };
            pass.world.reporter.event(Event::ActionEnded(&attempt));
            queue.calls.borrow_mut().push(Called { migration, attempt, doubt: None });
            continue;
        }
        let (place, gpus) = (migration.instance.place.as_deref(), u32::from(migration.instance.gpus.max(1)));
        if let Some(place) = place.filter(|_| pass.mode() == Mode::Real)
            && let Turnout::Rests(until) = pass.markets.turn(place, gpus, || pass.now()).await
        {
            let reason = format!("no room: {place} refused another instance and is asked again after {until}");
            let attempt =
                Attempt { outcome: Outcome::NoRoom, reason, ..not_started(pass, migration, &queue.store_error) };
            pass.world.reporter.event(Event::ActionEnded(&attempt));
            queue.calls.borrow_mut().push(Called { migration, attempt, doubt: None });
            continue;
        }

        let called_at = pass.now();
        let Instance { id, name, .. } = migration.instance;
        // A rehearsal sends nothing, so there is nothing to put on record.
        let ticket = (pass.mode() == Mode::Real).then(|| pass.about_to(WriteCall::Migrate, (id, name), place));
        let mut changes = std::mem::take(&mut unsaved);
        changes.extend(intent(pass, migration, called_at));
        if let Err(error) = pass.commit(changes).await {
            queue.store_error.borrow_mut().get_or_insert(error);
            let attempt = not_started(pass, migration, &queue.store_error);
            pass.world.reporter.event(Event::ActionEnded(&attempt));
            queue.calls.borrow_mut().push(Called { migration, attempt, doubt: None });
            if let Some(place) = place {
                pass.markets.unanswered(place);
            }
            return;
        }
        let may_send = || pass.may_send(&queue.store_error);
        let begun = Instant::now();
        let answer = pass.writer.migrate(id, Guard { stop: pass.world.stop, may_send: &may_send }).await;
        let response_time = millis(begun.elapsed());
        if let Some(ticket) = ticket {
            pass.answered(ticket, answer.as_ref().map(|()| None), response_time);
        }
        if let Err(error) = &answer
            && error.effect == Effect::Refused
            && is_of_the_account(error.kind)
        {
            queue.closed.borrow_mut().get_or_insert_with(|| error.to_string());
        }
        let called = judge(pass, migration, called_at, Some(response_time), answer);
        if let Some(place) = place.filter(|_| pass.mode() == Mode::Real) {
            match called.attempt.outcome {
                Outcome::Accepted => pass.markets.accepted(place, pass.now()),
                Outcome::NoRoom => pass.markets.refused(place, gpus, pass.now()),
                Outcome::Done | Outcome::Failed | Outcome::Unknown | Outcome::Skipped => pass.markets.unanswered(place),
            }
        }
        unsaved.extend(result(pass, &called));
        pass.world.reporter.event(Event::ActionEnded(&called.attempt));
        queue.calls.borrow_mut().push(called);
    }
    if !unsaved.is_empty()
        && queue.store_error.borrow().is_none()
        && let Err(error) = pass.commit(unsaved).await
    {
        queue.store_error.borrow_mut().get_or_insert(error);
    }
}

/// The changes before the call. A rehearsal has no call to follow.
fn intent<E: Edges>(pass: &Pass<'_, E>, migration: &Migration<'_>, called_at: Timestamp) -> Vec<Change> {
    let id = migration.instance.id.clone();
    let mut changes = vec![Change::Attempt { id: id.clone(), at: called_at }];
    if pass.mode() == Mode::Real {
        changes.push(Change::Follow(id, follow(pass, migration, called_at, Call::Begun)));
    }
    changes
}

fn follow<E: Edges>(pass: &Pass<'_, E>, migration: &Migration<'_>, called_at: Timestamp, call: Call) -> InFlight {
    InFlight {
        instance_name: migration.instance.name.to_string(),
        called_at,
        pass: pass.job_id.to_owned(),
        job_before: migration.job_before.cloned(),
        previous_attempt: migration.eligible.previous_attempt(),
        call,
    }
}

/// The changes after the call.
fn result<E: Edges>(pass: &Pass<'_, E>, called: &Called<'_>) -> Vec<Change> {
    let Called { migration, attempt, doubt } = called;
    let id = migration.instance.id.clone();
    let call = match (attempt.outcome, doubt) {
        (Outcome::Accepted | Outcome::Done, _) => Call::Accepted,
        (Outcome::Unknown, _) | (_, Some(_)) => Call::Unknown,
        (Outcome::Failed | Outcome::NoRoom | Outcome::Skipped, None) => {
            let previous = migration.eligible.previous_attempt();
            return vec![Change::Withdraw { id: id.clone(), previous }, Change::Unfollow(id)];
        }
    };
    if pass.mode() == Mode::Rehearsal {
        return Vec::new();
    }
    vec![Change::Follow(id, follow(pass, migration, attempt.at, call))]
}

/// Turns the provider's answer into an outcome.
fn judge<'a, E: Edges>(
    pass: &Pass<'_, E>,
    migration: &'a Migration<'a>,
    called_at: Timestamp,
    response_time: Option<i64>,
    answer: Result<(), CloudError>,
) -> Called<'a> {
    let attempt = Attempt::new(&migration.instance.id, &migration.instance.name, Action::Migrate, called_at);
    let Err(error) = answer else {
        let reason = match pass.mode() {
            Mode::Real => migration.eligible.in_words(),
            Mode::Rehearsal => format!("rehearsal, not sent: {}", migration.eligible.in_words()),
        };
        let response_time = response_time.filter(|_| pass.mode() == Mode::Real);
        let attempt = Attempt { outcome: Outcome::Accepted, reason, response_time, ..attempt };
        return Called { migration, attempt, doubt: None };
    };
    let (outcome, doubt, kind, reason) = match (error.effect, error.kind) {
        (Effect::NotSent, _) if pass.world.stop.cause().is_some() => (Outcome::Skipped, None, None, error.to_string()),
        (Effect::NotSent, kind) => (Outcome::Failed, None, Some(kind), error.to_string()),
        // The listing of this pass has it, so the path may be what does not exist.
        (Effect::Refused, _) if error.not_found => {
            let reason = format!("the provider does not find it, although it is listed: {error}");
            (Outcome::Skipped, Some(Ambiguity::NotFound), None, reason)
        }
        (Effect::Refused, kind @ ErrorKind::State) => {
            (Outcome::Failed, Some(Ambiguity::StateRefused), Some(kind), error.to_string())
        }
        (Effect::Refused, kind @ ErrorKind::Capacity) => (Outcome::NoRoom, None, Some(kind), error.to_string()),
        (Effect::Refused, kind) => (Outcome::Failed, None, Some(kind), error.to_string()),
        (Effect::Possible, kind) => (Outcome::Unknown, Some(Ambiguity::NoAnswer), Some(kind), error.to_string()),
    };
    let response_time = response_time.filter(|_| error.effect != Effect::NotSent);
    let attempt = Attempt { outcome, reason, error_kind: kind, response_time, ..attempt };
    Called { migration, attempt, doubt }
}

fn not_started<E: Edges>(pass: &Pass<'_, E>, migration: &Migration<'_>, store_error: &FirstStoreError) -> Attempt {
    let Instance { id, name, .. } = migration.instance;
    let attempt = Attempt::new(id, name, Action::Migrate, pass.now());
    Attempt { reason: pass.why_not_started(store_error).into(), ..attempt }
}

/// Checks once what became of the calls in doubt. What is still unclear is settled by a later pass.
async fn check<E: Edges>(
    pass: &Pass<'_, E>,
    calls: &mut [Called<'_>],
    jobs_since: Timestamp,
    store_error: &FirstStoreError,
) {
    let doubtful: Vec<&mut Called<'_>> = calls.iter_mut().filter(|called| called.doubt.is_some()).collect();
    if doubtful.is_empty() || pass.world.stop.sleep(CHECK_DELAY).await.is_err() {
        return;
    }
    let reading = pass.world.cloud.jobs(jobs_since);
    let Some(Ok(jobs)) = pass.unless_stopped(reading).await else { return };
    let jobs = JobIndex::new(&jobs.items);
    let mut changes = Vec::new();
    // One at a time: doubts are rare, and a provider in trouble should not get more requests at once.
    for called in doubtful {
        let Instance { id, name, .. } = called.migration.instance;
        let reading = async {
            match pass.world.cloud.close_up(id).await? {
                Some(seen) => Ok(Some(seen.instance)),
                None => pass.world.cloud.row(id, name).await,
            }
        };
        let Some(Ok(seen)) = pass.unless_stopped(reading).await else { break };
        if resolve(called, seen.as_ref(), &jobs) {
            changes.extend(result(pass, called));
            pass.world.reporter.event(Event::ActionResolved(&called.attempt));
        }
    }
    if !changes.is_empty()
        && let Err(error) = pass.commit(changes).await
    {
        store_error.borrow_mut().get_or_insert(error);
    }
}

/// Settles one doubt by what is seen now; returns whether it could.
fn resolve(called: &mut Called<'_>, instance: Option<&Instance>, jobs: &JobIndex<'_>) -> bool {
    let Called { migration, attempt, doubt } = called;
    let id: &InstanceId = &migration.instance.id;
    let called_at = attempt.at;
    let own_job = |job: &&Job| is_new(job, migration.job_before, called_at);
    let migrating = instance.is_some_and(|instance| instance.status == Status::Migrating);
    if migrating || jobs.newest_migration(id).filter(own_job).is_some() {
        attempt.outcome = Outcome::Accepted;
        attempt.reason = format!("under way, although the answer was: {}", attempt.reason);
        attempt.error_kind = None;
        *doubt = None;
        return true;
    }
    match doubt {
        Some(Ambiguity::StateRefused | Ambiguity::NotFound) => {}
        Some(Ambiguity::NoAnswer) | None => return false,
    }
    *doubt = None;
    match instance.map(|instance| &instance.status) {
        None => {
            attempt.outcome = Outcome::Skipped;
            attempt.reason = "the instance is gone, nothing to do".into();
            attempt.error_kind = None;
        }
        Some(status) if *status != Status::Exited => {
            attempt.outcome = Outcome::Skipped;
            attempt.reason = format!("already changed by another request: its status is {status} now");
            attempt.error_kind = None;
        }
        Some(_) => {}
    }
    true
}
