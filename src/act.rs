//! Carries out a plan. Makes no choices: intent, call, result, each recorded, with bounded concurrency.
//!
//! The intent is stored before the call, so that no crash causes a second one.

pub mod audit;
pub mod migrate;
pub mod recreate;

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use self::audit::{Audit, Ticket};
use crate::clock::Clock;
use crate::cloud::{CloudError, CloudRead};
use crate::core::record::execution::{Action, Attempt, Outcome};
use crate::core::record::outbox::{Connections, Happened};
use crate::core::record::trail::WriteCall;
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::report::{Event, Reporter};
use crate::stop::{Stop, StopCause};
use crate::store::records::{self, Change, Mode};
use crate::store::{Lease, StoreError, StoreWrite};

/// The wait before looking at the result of a call whose answer says nothing: the provider was seen to refuse an
/// action that it had carried out, and to show it two seconds later (`novita-api.md` section 1.3).
const LOOK_DELAY: Duration = Duration::from_secs(2);

/// The longest time that is spent on asking where instances can be reached.
const PATIENCE_WITH_DETAILS: Duration = Duration::from_secs(5);

/// What a pass works with.
#[derive(Clone, Copy)]
pub struct Pass<'a, C, W, S> {
    /// The provider, to read.
    pub cloud: &'a C,
    /// The provider, to write.
    pub writer: &'a W,
    /// The memory.
    pub store: &'a S,
    /// The right to write.
    pub lease: &'a Lease,
    /// The clock of records.
    pub clock: Clock,
    /// The word that ends the pass.
    pub stop: &'a Stop,
    /// Who hears of it.
    pub reporter: &'a dyn Reporter,
    /// Its job id.
    pub job_id: &'a str,
    /// Whether it is a rehearsal.
    pub mode: Mode,
    /// What it wrote to the provider.
    pub audit: &'a Audit,
    /// Whether somebody wants to be told what happens.
    pub tells: bool,
}

/// What became of the actions.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each action of the plan.
    pub attempts: Vec<Attempt>,
    /// Why the store could not be written to, if so. What is in `attempts` was done all the same.
    pub store_error: Option<StoreError>,
}

/// Where the first failure of the store is kept; it ends the work of all.
type FirstStoreError = RefCell<Option<StoreError>>;

impl<C, W, S: StoreWrite> Pass<'_, C, W, S> {
    /// Stores changes under the lease, and with them what is new in the audit trail. A lost lease ends the pass for all
    /// its workers.
    ///
    /// # Errors
    /// As [`StoreWrite::commit`].
    pub async fn commit(&self, mut changes: Vec<Change>) -> Result<(), StoreError> {
        changes.extend(self.audit.unsaved());
        let writes = records::writes(changes, self.mode, self.clock.now());
        let committed = self.store.commit(self.lease, &writes).await;
        if committed == Err(StoreError::LeaseLost) {
            self.stop.trigger(StopCause::LeaseLost);
        }
        committed
    }
}

impl<C: CloudRead, W, S> Pass<'_, C, W, S> {
    /// Where instances can be reached, as far as the provider says so within five seconds. Nobody is asked
    /// when nobody wants to know.
    pub async fn connections(&self, ids: &[&InstanceId], at_once: usize) -> HashMap<InstanceId, Connections> {
        let known = RefCell::new(HashMap::new());
        if self.tells && !ids.is_empty() {
            let asking = stream::iter(ids).for_each_concurrent(at_once, async |id| {
                if let Ok(found) = self.cloud.connections(id).await {
                    known.borrow_mut().insert((*id).clone(), found);
                }
            });
            // What is not known in time is left out of the event.
            let _ = tokio::time::timeout(PATIENCE_WITH_DETAILS, self.unless_stopped(asking)).await;
        }
        known.into_inner()
    }
}

impl<C, W, S> Pass<'_, C, W, S> {
    /// The change that tells of something, if somebody wants to be told.
    #[must_use]
    pub fn tell(&self, happened: &Happened<'_>) -> Option<Change> {
        self.tell_as(happened, new_event_id(self.clock.now()))
    }

    /// The same under an id that others come to as well.
    #[must_use]
    pub fn tell_as(&self, happened: &Happened<'_>, id: String) -> Option<Change> {
        self.tells.then(|| Change::Send(happened.outgoing(id)))
    }

    /// Puts a write to the provider on record; what is committed next takes it along, and only then it is sent.
    fn about_to(&self, call: WriteCall, id: &InstanceId, name: &str) -> Ticket {
        self.audit.begin(call, id, name, self.clock.now())
    }

    /// Puts its end on record.
    fn answered(&self, ticket: Ticket, answer: Result<Option<&InstanceId>, &CloudError>, response_time: i64) {
        let write = self.audit.end(ticket, answer, response_time);
        self.reporter.event(Event::Wrote { job_id: self.job_id, write: &write });
    }

    /// Asked before every sending: nothing new is begun by a pass that was stopped, lost its lease or its memory.
    fn may_send(&self, store_error: &FirstStoreError) -> bool {
        if !self.lease.is_valid() {
            self.stop.trigger(StopCause::LeaseLost);
        }
        self.stop.cause().is_none() && store_error.borrow().is_none()
    }

    /// Why an action was not begun.
    fn why_not_begun(&self, store_error: &FirstStoreError) -> &'static str {
        match (&*store_error.borrow(), self.stop.cause()) {
            (Some(_), _) => "not begun: the attempt could not be recorded",
            (None, Some(StopCause::Deadline)) => "not begun: the pass ran into its deadline",
            (None, Some(StopCause::Signal)) => "not begun: the pass was stopped by a signal",
            (None, Some(StopCause::LeaseLost)) => "not begun: the lease was lost",
            (None, None) => "not begun",
        }
    }

    /// Work that is given up when the pass is stopped.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.stop.triggered() => None,
            done = work => Some(done),
        }
    }
}

/// An event's id: the time, then chance. Sorts by time.
#[must_use]
pub fn new_event_id(now: Timestamp) -> String {
    format!("evt_{}", ulid::Ulid::from_parts(u64::try_from(now.as_millis()).unwrap_or(0), fastrand::u128(..)))
}

/// An action of which nothing is known yet.
fn attempt(id: &InstanceId, name: &str, action: Action, at: Timestamp) -> Attempt {
    Attempt {
        instance_id: id.clone(),
        instance_name: name.to_owned(),
        action,
        outcome: Outcome::Skipped,
        reason: String::new(),
        error_kind: None,
        new_instance_id: None,
        response_time: None,
        at,
    }
}
