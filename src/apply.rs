//! Carries out a plan. Makes no choices: intent, call, result, each recorded, with bounded concurrency.
//!
//! The intent is stored before the call, so that no crash causes a second one.

pub mod migrate;
pub mod recreate;

use std::cell::RefCell;
use std::time::Duration;

use crate::clock::Clock;
use crate::core::model::{InstanceId, Timestamp};
use crate::core::summary::{Action, Attempt, Outcome};
use crate::report::Reporter;
use crate::stop::{Cause, Stop};
use crate::store::records::{self, Change, Mode};
use crate::store::{Lease, StoreError, StoreWrite};

/// The wait before looking at the result of a call whose answer says nothing: the provider was seen to refuse an
/// action that it had carried out, and to show it two seconds later (`novita-api.md` section 1.3).
const LOOK_DELAY: Duration = Duration::from_secs(2);

/// What a pass works with.
#[derive(Clone, Copy)]
pub struct Pass<'a, C, S> {
    /// The provider.
    pub cloud: &'a C,
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

impl<C, S: StoreWrite> Pass<'_, C, S> {
    /// Stores changes under the lease. A lost lease ends the pass for all its workers.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let writes = records::writes(changes, self.mode, self.clock.now());
        let committed = self.store.commit(self.lease, &writes).await;
        if committed == Err(StoreError::LeaseLost) {
            self.stop.give(Cause::LeaseLost);
        }
        committed
    }
}

impl<C, S> Pass<'_, C, S> {
    /// Asked before every sending: nothing new is begun by a pass that was stopped, lost its lease or its memory.
    fn may_send(&self, store_error: &FirstStoreError) -> bool {
        if !self.lease.is_valid() {
            self.stop.give(Cause::LeaseLost);
        }
        self.stop.cause().is_none() && store_error.borrow().is_none()
    }

    /// Why an action was not begun.
    fn why_not_begun(&self, store_error: &FirstStoreError) -> &'static str {
        match (&*store_error.borrow(), self.stop.cause()) {
            (Some(_), _) => "not begun: the attempt could not be recorded",
            (None, Some(Cause::Deadline)) => "not begun: the pass ran into its deadline",
            (None, Some(Cause::Signal)) => "not begun: the pass was stopped by a signal",
            (None, Some(Cause::LeaseLost)) => "not begun: the lease was lost",
            (None, None) => "not begun",
        }
    }

    /// Work that is given up when the pass is stopped.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.stop.given() => None,
            done = work => Some(done),
        }
    }
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
