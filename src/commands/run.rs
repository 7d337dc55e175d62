//! `run` and `check-failed`: one pass, from the lease to the record.

pub(super) mod lease;
pub(super) mod record;

use std::time::Duration;

use tokio::time::Instant;

use self::lease::under_lease;
use self::record::Open;
use super::observe::{Observed, prepared};
use super::{Exit, Failure, Presentation, Printed, Session, status};
use crate::act::{Applied, Edges, Limits, Pass, World, migrate, recreate};
use crate::cloud::{CloudRead, CloudWrite, Rehearsal};
use crate::core::pass::failures::JOBS_WINDOW;
use crate::core::pass::plan::Plan;
use crate::core::record::execution::{Attempt, Execution, ExecutionStatus, Summary};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::Snapshot;
use crate::core::world::time::Timestamp;
use crate::notify::{Closing, Notify, Outlets};
use crate::report::document::{Document, Streamed};
use crate::report::json::{PassDocument, PlanRow};
use crate::report::{Event, Reporter as _, SummaryLast, human, json, prometheus};
use crate::settings::Settings;
use crate::store::any::Store;
use crate::store::records::{self, Mode};
use crate::store::{StoreError, StoreWrite};

/// How the id of a pass begins.
pub(super) const PASS: &str = "migration-job-";

/// How long before its deadline a pass stops waiting for replacements.
pub(super) const TIME_TO_CLOSE: Duration = Duration::from_secs(10);

/// How a pass ended.
#[derive(Debug)]
pub enum Ran {
    Ended(Box<Ended>),
    Skipped(NoPass),
}

/// Why there was no pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPass {
    AnotherRuns { job_id: String },
    Disabled,
}

impl NoPass {
    /// The JSON document.
    #[must_use]
    pub fn document(&self) -> json::SkippedDocument {
        let (reason, message) = match self {
            Self::AnotherRuns { job_id } => {
                ("another_pass_running", format!("another pass is running ({job_id}), nothing to do"))
            }
            Self::Disabled => {
                let message = "migrations are switched off (MIGRATION_ENABLED is false), nothing was done";
                ("disabled", message.to_owned())
            }
        };
        json::SkippedDocument { status: "skipped", reason, message }
    }
}

impl Ran {
    /// Whether the pass did its work, single actions aside; `None` when another pass is running.
    #[must_use]
    pub fn worked(&self) -> Option<bool> {
        match self {
            Self::Ended(ended) => Some(match ended.execution.status {
                ExecutionStatus::Completed | ExecutionStatus::Partial | ExecutionStatus::Running => true,
                ExecutionStatus::Failed | ExecutionStatus::Timeout | ExecutionStatus::Interrupted => false,
            }),
            Self::Skipped(NoPass::AnotherRuns { .. }) => None,
            Self::Skipped(NoPass::Disabled) => Some(true),
        }
    }

    /// As one line of JSON, for those who are notified.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Ended(ended) => json::line(&ended.execution),
            Self::Skipped(why) => json::line(&why.document()),
        }
    }
}

/// A pass that was recorded.
#[derive(Debug)]
pub struct Ended {
    pub execution: Execution,
    pub attempts: Vec<Attempt>,
    /// What it observed; missing when it was stopped before.
    pub view: Option<(Snapshot, Plan)>,
}

/// The command: `run`, and `check-failed`, whose policy leaves the migrations out.
///
/// # Errors
/// Exit codes 2 to 5.
pub async fn command(session: &Session<'_>) -> Result<Printed, Failure> {
    let Session { settings, clock, show, .. } = *session;
    let reporter = SummaryLast::new(session.reporter);
    let session = Session { reporter: &reporter, ..*session };
    let outlets = session.outlets()?;
    let store = match (settings.enabled, outlets.wants_metrics()) {
        (true, _) => Some(session.open_to_write().await),
        (false, true) => Some(session.open_to_read().await),
        (false, false) => None,
    };
    let ran = match &store {
        Some(Ok(store)) if settings.enabled => pass(&session, store, &outlets).await,
        Some(Err(error)) if settings.enabled => Err(error.clone().into()),
        _ => Ok(Ran::Skipped(NoPass::Disabled)),
    };
    let metrics = match &store {
        Some(store) if outlets.wants_metrics() && makes_metrics(&ran) => {
            metrics(store.as_ref(), settings, clock.now()).await.map(Some)
        }
        _ => Ok(None),
    };
    let metrics = metrics.unwrap_or_else(|error| {
        reporter.event(Event::NotTold { setting: "RESPOT_METRICS_FILE", error: &error.to_string() });
        None
    });
    let (worked, message) = match &ran {
        Ok(ran) => (ran.worked(), ran.line()),
        Err(failure) => (Some(false), failure.line()),
    };
    outlets.close(Closing { worked, message: &message, metrics: metrics.as_deref() }).await;
    reporter.finish();
    Ok(self::show(ran?, &settings.policy, show))
}

async fn pass(session: &Session<'_>, store: &Store, outlets: &Outlets<'_>) -> Result<Ran, Failure> {
    let cloud = session.client()?;
    let mode = if session.settings.rehearsal { Mode::Rehearsal } else { Mode::Real };
    let limits = Limits::new(session.settings, mode);
    let world = session.world(&cloud, store, &limits);
    match mode {
        Mode::Real => run(&world, &cloud, outlets).await,
        Mode::Rehearsal => run(&world, &Rehearsal, outlets).await,
    }
}

/// Whether metrics are to be made: not from a store that has just failed, and not beside another pass, which makes them
/// itself.
fn makes_metrics(ran: &Result<Ran, Failure>) -> bool {
    match ran {
        Ok(ran) => ran.worked().is_some(),
        Err(failure) => failure.exit != Exit::Store,
    }
}

async fn metrics(
    store: Result<&Store, &StoreError>,
    settings: &Settings,
    now: Timestamp,
) -> Result<String, StoreError> {
    let overview = records::overview(store.map_err(Clone::clone)?, &status::selection(now)).await?;
    Ok(prometheus::text(&status::figures(&overview, settings, now)))
}

/// Makes one pass under the lease. Whatever happens after the lease is granted is recorded.
///
/// # Errors
/// Exit codes 3, 4 and 5. A pass that was stopped or whose actions failed is not an error but an [`Ended`].
pub async fn run<C: CloudRead, W: CloudWrite, S: StoreWrite, N: Notify>(
    world: &World<'_, C, S>,
    writer: &W,
    notify: &N,
) -> Result<Ran, Failure> {
    under_lease::<(C, W, S), N>(world, writer, notify, PASS, async |pass, open, deadline| {
        work(pass, open, deadline).await
    })
    .await
}

async fn work<E: Edges>(pass: &Pass<'_, E>, open: &mut Open, deadline: Instant) -> Result<(), Failure> {
    let World { limits, stop, reporter, .. } = *pass.world;
    let observed = tokio::select! {
        biased;
        _ = stop.triggered() => return Ok(()),
        observed = prepared(pass.world) => observed?,
    };
    let Observed { snapshot, ledger, plan, safe } = observed;
    open.summary = Summary::of_plan(&plan, &snapshot.instances);
    if let Err(refused) = safe {
        open.view = Some((snapshot, plan));
        return Err(refused.into());
    }
    record::settle(pass, open, (&snapshot, &ledger), &plan).await?;
    let (snapshot, plan) = open.view.insert((snapshot, plan));
    let todo = plan.work(&snapshot.instances.items);
    if todo.count() == 0 {
        return Ok(());
    }
    reporter.event(Event::ActionsBegin { count: todo.count() });
    let retired = recreate::retire(pass, &todo.duplicates).await;
    // Waiting must not run into the deadline.
    let wait = || {
        let left = deadline.saturating_duration_since(Instant::now());
        limits.recreate_wait.min(left.saturating_sub(TIME_TO_CLOSE))
    };
    let underway = recreate::start(pass, &todo.recreations, wait()).await;
    let migrated = match underway.store_error().or(retired.store_error.clone()) {
        Some(_) => Applied::default(),
        None => migrate::migrate(pass, &todo.migrations, snapshot.taken_at - JOBS_WINDOW).await,
    };
    // The wait for replacements comes last, so that it delays no migration.
    let recreated = recreate::finish(pass, underway, wait()).await;
    reporter.event(Event::ActionsEnd);
    open.attempts = [retired.attempts, recreated.attempts, migrated.attempts].concat();
    open.summary = open.summary.with_attempts(&open.attempts);
    match retired.store_error.or(recreated.store_error).or(migrated.store_error) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// What `run` prints.
#[must_use]
pub fn show(ran: Ran, policy: &Policy, show: Presentation) -> Printed {
    let ended = match ran {
        Ran::Ended(ended) => ended,
        Ran::Skipped(why) => return skipped(&why, show),
    };
    let exit = match ended.execution.status {
        ExecutionStatus::Completed | ExecutionStatus::Running => Exit::Done,
        ExecutionStatus::Partial => Exit::ActionsFailed,
        ExecutionStatus::Timeout | ExecutionStatus::Interrupted => Exit::Stopped,
        ExecutionStatus::Failed => Exit::Provider,
    };
    let document = if show.json() {
        let kept = (ended, policy.clone());
        Document::json(kept, |(ended, policy), out| {
            let Ended { execution, attempts, view } = &**ended;
            let plan = Streamed(|| view.iter().flat_map(|(snapshot, plan)| rows(snapshot, plan, policy)));
            out.document(&PassDocument { execution, plan, attempts: Some(attempts) })
        })
    } else if show.wants_table() {
        let Ended { execution, attempts, view } = &*ended;
        let counts = view.as_ref().map_or_else(String::new, |(_, plan)| human::plan_counts(show.screen, plan));
        human::pass(show.screen, execution, attempts, &counts).into()
    } else {
        String::new().into()
    };
    Printed { exit, document }
}

/// The rows of the JSON document.
pub(super) fn rows<'a>(
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    policy: &'a Policy,
) -> impl Iterator<Item = PlanRow<'a>> {
    let rows = plan.rows(&snapshot.instances.items);
    rows.map(|(instance, decision)| PlanRow::new(instance, decision, policy))
}

fn skipped(why: &NoPass, show: Presentation) -> Printed {
    let skipped = why.document();
    let document = match (show.json(), show.quiet) {
        (true, _) => json::document(&skipped),
        (false, true) => String::new(),
        (false, false) => format!("{}\n", skipped.message),
    };
    Printed { exit: Exit::Done, document: document.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_mans_switch_is_told_whether_the_schedule_was_kept() {
        use ExecutionStatus::{Completed, Failed, Interrupted, Partial, Timeout};
        let begun = Execution::begun("a".into(), Timestamp::from_secs(0), false);
        for (status, worked) in
            [(Completed, true), (Partial, true), (Failed, false), (Timeout, false), (Interrupted, false)]
        {
            let execution = Execution { status, ..begun.clone() };
            let ended = Box::new(Ended { execution, attempts: Vec::new(), view: None });
            assert_eq!(Ran::Ended(ended).worked(), Some(worked), "{status:?}");
        }
        assert_eq!(Ran::Skipped(NoPass::AnotherRuns { job_id: "b".into() }).worked(), None);
        assert_eq!(Ran::Skipped(NoPass::Disabled).worked(), Some(true));
    }
}
