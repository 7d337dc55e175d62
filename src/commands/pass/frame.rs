//! What every piece of work under the lease has around it: the lease, renewed while it lasts; its record, opened before
//! and closed after; what is told then.

use std::time::Duration;

use tokio::time::Instant;

use super::record::{self, Open};
use super::{Ended, NoPass, Ran, stopped};
use crate::act::Pass;
use crate::act::audit::Audit;
use crate::clock::Clock;
use crate::cloud::CloudRead;
use crate::commands::{Exit, Failure};
use crate::core::record::execution::{Execution, ExecutionStatus};
use crate::core::world::time::Timestamp;
use crate::notify::{self, Notify};
use crate::report::{Event, Reporter};
use crate::stop::{Stop, StopCause};
use crate::store::records::{self, Change, Mode, Outbox};
use crate::store::{Acquired, LEASE_RENEWAL, Lease, StoreError, StoreRead, StoreWrite};

/// Who takes part.
pub(in crate::commands) struct Stage<'a, C, W, S, N> {
    pub(in crate::commands) cloud: &'a C,
    pub(in crate::commands) writer: &'a W,
    pub(in crate::commands) store: &'a S,
    pub(in crate::commands) notify: &'a N,
    pub(in crate::commands) clock: Clock,
    pub(in crate::commands) stop: &'a Stop,
    pub(in crate::commands) reporter: &'a dyn Reporter,
}

/// What kind of work it is.
#[derive(Clone, Copy)]
pub(in crate::commands) struct Frame {
    /// How its id begins.
    pub(in crate::commands) id_prefix: &'static str,
    /// Whether it is a rehearsal.
    pub(in crate::commands) mode: Mode,
    /// Nothing new is begun after this.
    pub(in crate::commands) deadline: Duration,
}

/// Does `work` under the lease, unless somebody else is at work. Whatever happens after the lease is granted is recorded.
///
/// # Errors
/// Exit codes 3, 4 and 5. Work that was stopped or whose actions failed is no error but an [`Ended`].
pub(in crate::commands) async fn under_lease<C: CloudRead, W, S: StoreWrite, N: Notify>(
    stage: Stage<'_, C, W, S, N>,
    frame: Frame,
    work: impl AsyncFnOnce(&Pass<'_, C, W, S>, &mut Open, Instant) -> Result<(), Failure>,
) -> Result<Ran, Failure> {
    let Stage { cloud, writer, store, notify, clock, stop, reporter } = stage;
    let Frame { id_prefix, mode, deadline } = frame;
    let deadline = Instant::now() + deadline;
    let begun = Execution::begun(new_job_id(id_prefix, clock.now()), clock.now(), mode == Mode::Rehearsal);
    let lease = match store.acquire(&mode.lease_key(), &begun.job_id).await? {
        Acquired::Granted(lease) => lease,
        Acquired::HeldBy { token } => {
            reporter.event(Event::AnotherPassRuns { job_id: &token });
            return Ok(Ran::Skipped(NoPass::AnotherRuns { job_id: token }));
        }
    };
    reporter.event(Event::PassBegan { execution: &begun, store: &store.label() });
    let (job_id, audit) = (begun.job_id.clone(), Audit::default());
    let pass = Pass {
        cloud,
        writer,
        store,
        lease: &lease,
        clock,
        stop,
        reporter,
        job_id: &job_id,
        mode,
        audit: &audit,
        tells: notify.wants_events(),
    };
    let mut open = match record::begin(&pass, begun).await {
        Ok(open) => open,
        Err(error) => return Err(give_up(store, lease, error.into()).await),
    };
    let working = async {
        tokio::select! {
            worked = work(&pass, &mut open, deadline) => worked,
            () = keep_lease(store, &lease, stop) => Err(StoreError::LeaseLost.into()),
            () = stop.trigger_at(deadline) => Err(stopped(StopCause::Deadline)),
        }
    };
    let worked = notify::beside(notify, working).await;
    let worked = match (worked, stop.cause()) {
        (Ok(()), Some(StopCause::LeaseLost)) => return Err(give_up(store, lease, StoreError::LeaseLost.into()).await),
        (Err(failure), _) if failure.exit == Exit::Store => return Err(give_up(store, lease, failure).await),
        (worked, _) => worked,
    };
    let execution = conclude(&open, &worked, stop.cause(), clock.now());
    let recorded = record::end(&pass, &open, &execution).await;
    let Open { attempts, view, .. } = open;
    let told = match &recorded {
        Ok(()) if pass.tells => tell(store, notify, clock.now(), reporter).await,
        _ => Vec::new(),
    };
    let released = store.commit_and_release(lease, &records::writes(told, mode, clock.now())).await;
    // The pass is on record as it ended. What could not be struck off is told again.
    if let (Ok(()), Err(error)) = (&recorded, released) {
        reporter.event(Event::NotReleased { error: &error.to_string() });
    }
    reporter.event(Event::PassEnded { execution: &execution });
    worked?;
    recorded?;
    Ok(Ran::Ended(Box::new(Ended { execution, attempts, view })))
}

/// Delivers what waits in the outbox, and answers what is to be changed there. An outbox that cannot be read is left to
/// the next pass.
async fn tell<S: StoreRead, N: Notify>(store: &S, notify: &N, now: Timestamp, reporter: &dyn Reporter) -> Vec<Change> {
    match records::outbox(store).await {
        Ok(Outbox { waiting, damaged }) => {
            let changes = notify::deliver(notify, waiting, now, reporter).await;
            let removed = damaged.into_iter().map(|id| {
                reporter.event(Event::PassedOver { record: &Outbox::record_of(&id) });
                Change::Sent { id }
            });
            changes.into_iter().chain(removed).collect()
        }
        Err(error) => {
            reporter.event(Event::NotTold { setting: "WEBHOOK_URL", error: &error.to_string() });
            Vec::new()
        }
    }
}

/// Ends a pass that the store failed. What it stored last may or may not have arrived, so nothing is written on top:
/// its record stays open, and the next pass closes it from what is really there.
async fn give_up<S: StoreWrite>(store: &S, lease: Lease, failure: Failure) -> Failure {
    // Should this fail, too, the lease expires by itself.
    let _ = store.commit_and_release(lease, &[]).await;
    failure
}

/// Renews the lease until it is lost. Returns only then, when the store says so or its life is over unrenewed.
async fn keep_lease<S: StoreWrite>(store: &S, lease: &Lease, stop: &Stop) {
    loop {
        tokio::time::sleep(LEASE_RENEWAL).await;
        match store.renew(lease).await {
            Ok(()) => {}
            Err(StoreError::LeaseLost) => break,
            // The store may come back while the lease lives.
            Err(_) if lease.is_valid() => {}
            Err(_) => break,
        }
    }
    stop.trigger(StopCause::LeaseLost);
    // Calls in flight end; the pass itself notices that it may not begin anything.
    std::future::pending::<()>().await;
}

/// How a pass ended that the store did not fail.
fn conclude(open: &Open, worked: &Result<(), Failure>, stop: Option<StopCause>, now: Timestamp) -> Execution {
    let (status, error) = match (worked, stop) {
        (Err(failure), _) => (ExecutionStatus::Failed, Some(failure.message.clone())),
        (Ok(()), Some(StopCause::Deadline)) => (ExecutionStatus::Timeout, Some(stopped(StopCause::Deadline).message)),
        (Ok(()), Some(cause)) => (ExecutionStatus::Interrupted, Some(stopped(cause).message)),
        (Ok(()), None) if open.summary.error_count > 0 => (ExecutionStatus::Partial, None),
        (Ok(()), None) => (ExecutionStatus::Completed, None),
    };
    open.begun.clone().closed(status, now, open.summary, error)
}

/// A job id: the time it began, then chance. Sorts by time.
pub(super) fn new_job_id(prefix: &str, now: Timestamp) -> String {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    format!("{prefix}{}", ulid::Ulid::from_parts(millis, fastrand::u128(..)))
}
