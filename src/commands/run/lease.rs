//! What surrounds all work under the lease: the lease, renewed while it lasts; the record, opened before and closed after;
//! the delivery of events.

use tokio::time::Instant;

use super::record::{self, Open};
use super::{Ended, NoPass, Ran};
use crate::act::audit::Audit;
use crate::act::board::SharedBoard;
use crate::act::{Edges, Pass, World, new_id};
use crate::commands::{Exit, Failure};
use crate::core::record::execution::{Execution, ExecutionStatus};
use crate::core::world::time::Timestamp;
use crate::notify::{self, Notify};
use crate::report::{Event, Reporter};
use crate::stop::{Stop, StopCause};
use crate::store::records::{self, Change, Mode, Outbox};
use crate::store::{Acquired, LEASE_RENEWAL, Lease, StoreError, StoreRead, StoreWrite};

/// Does `work` under the lease, unless another pass holds it. `id_prefix` starts the id of its record. Whatever happens
/// after the lease is granted is recorded.
///
/// # Errors
/// Exit codes 3, 4 and 5. Work that was stopped or whose actions failed is not an error but an [`Ended`].
pub(in crate::commands) async fn under_lease<E: Edges, N: Notify>(
    world: &World<'_, E::Cloud, E::Memory>,
    writer: &E::CloudWriter,
    notify: &N,
    id_prefix: &str,
    work: impl AsyncFnOnce(&Pass<'_, E>, &mut Open, Instant) -> Result<(), Failure>,
) -> Result<Ran, Failure> {
    let World { store, limits, clock, stop, reporter, .. } = *world;
    let (mode, began) = (limits.mode, Instant::now());
    let deadline = began + limits.deadline;
    let begun = Execution::begun(new_id(id_prefix, clock.now()), clock.now(), mode == Mode::Rehearsal);
    let lease = match store.acquire(&mode.lease_key(), &begun.job_id).await? {
        Acquired::Granted(lease) => lease,
        Acquired::HeldBy { token } => {
            reporter.event(Event::AnotherPassRuns { job_id: &token });
            return Ok(Ran::Skipped(NoPass::AnotherRuns { job_id: token }));
        }
    };
    reporter.event(Event::PassBegan { execution: &begun, store: &store.label() });
    let (job_id, audit, markets) = (begun.job_id.clone(), Audit::default(), SharedBoard::default());
    let tells = notify.wants_events();
    let pass = Pass { world, writer, lease: &lease, job_id: &job_id, audit: &audit, markets: &markets, tells };
    let mut open = match record::begin(&pass, (began, begun)).await {
        Ok(open) => open,
        Err(error) => return Err(give_up(store, lease, error.into()).await),
    };
    let working = async {
        tokio::select! {
            worked = work(&pass, &mut open, deadline) => worked,
            () = keep_lease(store, &lease, stop) => Err(StoreError::LeaseLost.into()),
            () = stop.trigger_at(deadline) => Err(Failure::stopped(StopCause::Deadline)),
        }
    };
    let worked = notify::beside(notify, working).await;
    let worked = match (worked, stop.cause()) {
        (Ok(()), Some(StopCause::LeaseLost)) => return Err(give_up(store, lease, StoreError::LeaseLost.into()).await),
        (Err(failure), _) if failure.exit == Exit::Store => return Err(give_up(store, lease, failure).await),
        (worked, _) => worked,
    };
    open.begun.started_at = clock.at(began);
    let execution = conclude(&open, &worked, stop.cause(), clock.now());
    let recorded = record::end(&pass, &mut open, &execution).await;
    let Open { attempts, view, .. } = open;
    let delivered = match &recorded {
        Ok(()) if pass.tells => deliver(store, notify, clock.compared_now(), reporter).await,
        _ => Vec::new(),
    };
    let released = store.commit_and_release(lease, &records::writes(delivered, mode, clock.now())).await;
    // The pass is on record. Events that could not be removed from the outbox are delivered again.
    if let (Ok(()), Err(error)) = (&recorded, released) {
        reporter.event(Event::NotReleased { error: &error.to_string() });
    }
    reporter.event(Event::PassEnded { execution: &execution });
    worked?;
    recorded?;
    Ok(Ran::Ended(Box::new(Ended { execution, attempts, view })))
}

/// Delivers the outbox and returns the changes to it. An outbox that cannot be read is left to the next pass.
async fn deliver<S: StoreRead, N: Notify>(
    store: &S,
    notify: &N,
    now: Option<Timestamp>,
    reporter: &dyn Reporter,
) -> Vec<Change> {
    match records::outbox(store, now.unwrap_or(Timestamp::LATEST)).await {
        Ok(Outbox { waiting, damaged, redated }) => {
            let changes = notify::deliver(notify, waiting, now, reporter).await;
            let removed = damaged.into_iter().map(|id| {
                reporter.event(Event::PassedOver { record: &Outbox::record_of(&id) });
                Change::Sent { id }
            });
            redated.into_iter().chain(changes).chain(removed).collect()
        }
        Err(error) => {
            reporter.event(Event::NotTold { setting: "WEBHOOK_URL", error: &error.to_string() });
            Vec::new()
        }
    }
}

/// Ends a pass whose store failed. Its last commit may or may not have arrived, so nothing is written on top of it: its
/// record stays open, and the next pass closes it from what is stored.
async fn give_up<S: StoreWrite>(store: &S, lease: Lease, failure: Failure) -> Failure {
    // If this fails, too, the lease expires by itself.
    let _ = store.commit_and_release(lease, &[]).await;
    failure
}

/// Renews the lease until it is lost, then stops the pass. Never returns.
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
    // Calls in flight end; the pass itself notices that it may not start anything.
    std::future::pending::<()>().await;
}

/// How a pass ended whose store did not fail.
fn conclude(open: &Open, worked: &Result<(), Failure>, stop: Option<StopCause>, now: Timestamp) -> Execution {
    let (status, error) = match (worked, stop) {
        (Err(failure), _) => (ExecutionStatus::Failed, Some(failure.message.clone())),
        (Ok(()), Some(StopCause::Deadline)) => {
            (ExecutionStatus::Timeout, Some(Failure::stopped(StopCause::Deadline).message))
        }
        (Ok(()), Some(cause)) => (ExecutionStatus::Interrupted, Some(Failure::stopped(cause).message)),
        (Ok(()), None) if open.summary.error_count > 0 => (ExecutionStatus::Partial, None),
        (Ok(()), None) => (ExecutionStatus::Completed, None),
    };
    let error_kind = worked.as_ref().err().and_then(|failure| failure.error_kind);
    Execution { error_kind, ..open.begun.clone().closed(status, now, open.summary, error) }
}
