//! Carries out a plan and decides nothing: intent, call, result, each recorded, with bounded concurrency.
//!
//! The intent is stored before the call, so that no crash leads to a second call.

pub mod audit;
pub mod board;
mod ids;
pub mod migrate;
pub mod recreate;
mod world;

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use self::audit::Ticket;
pub use self::ids::new_id;
pub use self::world::{Edges, Limits, Pass, World};
use crate::cloud::{CloudError, CloudRead as _, CloudWrite as _, Guard, Registered};
use crate::core::record::execution::{Attempt, Outcome};
use crate::core::record::outbox::{Happened, Outgoing};
use crate::core::record::trail::WriteCall;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::probe::Connections;
use crate::core::world::time::Timestamp;
use crate::report::Event;
use crate::stop::StopCause;
use crate::store::records::{self, Change, Mode};
use crate::store::{StoreError, StoreWrite as _};

/// The wait before checking the effect of a call with an unclear answer: the provider was seen to refuse an action that it
/// had carried out, and to show the effect two seconds later.
const CHECK_DELAY: Duration = Duration::from_secs(2);

/// The longest time spent on reading where instances can be reached.
const PATIENCE_WITH_DETAILS: Duration = Duration::from_secs(5);

/// What became of the actions.
#[derive(Debug, Default)]
pub struct Applied {
    pub attempts: Vec<Attempt>,
    /// Why the store could not be written to, if so. What is in `attempts` was still done.
    pub store_error: Option<StoreError>,
}

impl Applied {
    /// The instances that no market had room for.
    pub fn refused(&self) -> impl Iterator<Item = &InstanceId> {
        let refused = self.attempts.iter().filter(|attempt| attempt.outcome == Outcome::NoRoom);
        refused.map(|attempt| &attempt.instance_id)
    }
}

/// Whether a refusal is about the account, so that every other call of its kind would be refused as well: its money, its
/// quotas, its key, or its rate, once waiting for it was in vain.
fn is_of_the_account(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Billing | ErrorKind::Auth | ErrorKind::RateLimit)
}

/// The first failure of the store; it stops all workers.
type FirstStoreError = RefCell<Option<StoreError>>;

impl<E: Edges> Pass<'_, E> {
    /// Whether it is a rehearsal.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.world.limits.mode
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Stores changes under the lease, and with them what is new in the audit trail. A lost lease stops the whole pass.
    ///
    /// # Errors
    /// As [`crate::store::StoreWrite::commit`].
    pub async fn commit(&self, mut changes: Vec<Change>) -> Result<(), StoreError> {
        changes.extend(self.audit.unsaved());
        if self.mode() == Mode::Real {
            changes.extend(self.markets.unsaved());
        }
        let writes = records::writes(changes, self.mode(), self.now());
        let committed = self.world.store.commit(self.lease, &writes).await;
        if committed == Err(StoreError::LeaseLost) {
            self.world.stop.trigger(StopCause::LeaseLost);
        }
        committed
    }

    /// Where instances can be reached, as far as the provider says so within five seconds. Reads nothing if no events
    /// are delivered.
    pub async fn connections(&self, ids: &[&InstanceId]) -> HashMap<InstanceId, Connections> {
        let known = RefCell::new(HashMap::new());
        if self.tells && !ids.is_empty() {
            let reading = stream::iter(ids).for_each_concurrent(self.world.limits.workers, async |id| {
                if let Ok(Some(found)) = self.world.cloud.close_up(id).await {
                    known.borrow_mut().insert((*id).clone(), found.connections);
                }
            });
            // What is not known in time is left out of the event.
            let _ = tokio::time::timeout(PATIENCE_WITH_DETAILS, self.unless_stopped(reading)).await;
        }
        known.into_inner()
    }

    /// The change that emits an event, if events are delivered.
    #[must_use]
    pub fn tell(&self, happened: &Happened<'_>) -> Option<Change> {
        self.tell_as(happened, new_id("evt_", self.now()))
    }

    /// The same under an id that another pass would choose as well.
    #[must_use]
    pub fn tell_as(&self, happened: &Happened<'_>, id: String) -> Option<Change> {
        let at = self.world.clock.compared_now().unwrap_or(Timestamp::LATEST);
        // By a clock that may be wrong it could be too old at once: the next pass that knows the time dates it.
        self.tells.then(|| Change::Send(Outgoing { at, ..happened.outgoing(id) }))
    }

    /// Puts a write to the provider on record. The next commit stores it, and only then is it sent.
    fn about_to(&self, call: WriteCall, (id, name): (&InstanceId, &str), market: Option<&Place>) -> Ticket {
        self.audit.begin(call, (id, name), market, self.now())
    }

    /// Puts its end on record.
    fn answered(&self, ticket: Ticket, answer: Result<Option<&InstanceId>, &CloudError>, response_time: i64) {
        let write = self.audit.end(ticket, answer, response_time);
        self.world.reporter.event(Event::Wrote { job_id: self.job_id, write: &write });
    }

    /// Asked right before each request: a pass that was stopped, lost its lease or its store sends nothing new.
    fn may_send(&self, store_error: &FirstStoreError) -> bool {
        if !self.lease.is_valid() {
            self.world.stop.trigger(StopCause::LeaseLost);
        }
        self.world.stop.cause().is_none() && store_error.borrow().is_none()
    }

    /// Takes the provider's next step to move traffic from one instance to another.
    ///
    /// # Errors
    /// Those of the provider.
    pub async fn shift(&self, from: &InstanceId, to: &InstanceId) -> Result<Option<String>, CloudError> {
        let no_error = FirstStoreError::default();
        let may_send = || self.may_send(&no_error);
        self.writer.shift(from, to, Guard { stop: self.world.stop, may_send: &may_send }).await
    }

    /// Registers those replacements in target groups that `may` be acted on, and says so.
    /// Returns how many failed.
    pub async fn register(&self, may: &dyn Fn(&InstanceId) -> bool) -> usize {
        let no_error = FirstStoreError::default();
        let may_send = || self.may_send(&no_error);
        let all = self.writer.register(may, Guard { stop: self.world.stop, may_send: &may_send }).await;
        for Registered { instance, group, answer } in &all {
            let error = answer.as_ref().err().map(ToString::to_string);
            self.world.reporter.event(match (instance, &error) {
                (instance, Some(error)) => Event::NotRegistered { instance: instance.as_ref(), group, error },
                (Some(instance), None) => Event::Registered { instance, group },
                (None, None) => continue,
            });
        }
        all.iter().filter(|it| it.answer.is_err()).count()
    }

    /// Why an action was not started.
    fn why_not_started(&self, store_error: &FirstStoreError) -> &'static str {
        match (&*store_error.borrow(), self.world.stop.cause()) {
            (Some(_), _) => "not started: the attempt could not be recorded",
            (None, Some(StopCause::Deadline)) => "not started: the pass reached its deadline",
            (None, Some(StopCause::Signal)) => "not started: the pass was stopped by a signal",
            (None, Some(StopCause::LeaseLost)) => "not started: the lease was lost",
            (None, None) => "not started",
        }
    }

    /// Work that is dropped when the pass is stopped.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.world.stop.triggered() => None,
            done = work => Some(done),
        }
    }
}
