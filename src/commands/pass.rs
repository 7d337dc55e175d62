//! One pass: fetch, filter, migrate, recreate, record, tell.

pub(super) mod frame;
pub(super) mod record;

use std::time::Duration;

use futures_util::future::try_join;
use tokio::time::Instant;

use self::frame::{Frame, Stage, new_job_id, under_lease};
use self::record::Open;
use super::survey::survey;
use super::{Exit, Failure, Presentation, Printed};
use crate::act::migrate::{self, Migration};
use crate::act::recreate::{self, Duplicate};
use crate::act::{Applied, Pass};
use crate::clock::Clock;
use crate::cloud::{CloudRead, CloudWrite};
use crate::core::pass::failures::{JOBS_WINDOW, jobs_needed_since};
use crate::core::pass::ledger::{KnownJob, Ledger, Stamp};
use crate::core::pass::plan::{self, Plan};
use crate::core::pass::safety::{self, BlastRadius};
use crate::core::pass::settle::CallEnd;
use crate::core::record::execution::{Attempt, Execution, ExecutionStatus, Summary};
use crate::core::world::instance::{InstanceId, Status};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::{JobIndex, Snapshot};
use crate::core::world::time::Timestamp;
use crate::notify::Notify;
use crate::report::document::{Document, Rows};
use crate::report::json::{PassDocument, PlanRow};
use crate::report::{Event, Reporter, human, json};
use crate::settings::{Settings, rows};
use crate::stop::{Stop, StopCause};
use crate::store::records::{self, Mode};
use crate::store::{StoreError, StoreRead, StoreWrite};

/// How the id of a pass begins.
const PASS: &str = "migration-job-";

/// So long before its deadline a pass no longer waits for replacements.
pub(super) const TIME_TO_CLOSE: Duration = Duration::from_secs(10);

/// What a pass may do.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    /// The rules of eligibility.
    pub policy: &'a Policy,
    /// Provider writes in flight.
    pub workers: usize,
    /// Nothing new is begun after this.
    pub deadline: Duration,
    /// Whether it is a rehearsal.
    pub mode: Mode,
    /// How much it may recreate.
    pub blast_radius: BlastRadius,
    /// How long it waits for replacements to run.
    pub recreate_wait: Duration,
}

impl<'a> Rules<'a> {
    /// The defaults of the settings under this policy.
    #[must_use]
    pub fn of(policy: &'a Policy, mode: Mode) -> Self {
        Self {
            policy,
            workers: rows::MAX_CONCURRENT,
            deadline: rows::JOB_TIMEOUT,
            mode,
            blast_radius: BlastRadius::default(),
            recreate_wait: rows::RECREATE_WAIT,
        }
    }

    /// From the settings.
    #[must_use]
    pub fn new(settings: &'a Settings, mode: Mode) -> Self {
        Self {
            policy: &settings.policy,
            workers: settings.max_concurrent,
            deadline: settings.job_timeout,
            mode,
            blast_radius: settings.blast_radius,
            recreate_wait: settings.recreate_wait,
        }
    }
}

/// How a pass ended.
#[derive(Debug)]
pub enum Ran {
    /// It did its work, as far as it came.
    Ended(Box<Ended>),
    /// There was no pass.
    Skipped(NoPass),
}

/// Why there was no pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPass {
    /// Another one holds the lease.
    AnotherRuns {
        /// That pass.
        job_id: String,
    },
    /// Passes are switched off.
    Disabled,
}

impl NoPass {
    /// As scripts get it.
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
    /// Whether the pass did its work, single actions aside; `None` when another one is at work.
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

    /// What is to be told of it, as one line of JSON.
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
    /// As recorded.
    pub execution: Execution,
    /// What it did.
    pub attempts: Vec<Attempt>,
    /// What it saw; missing when it was stopped before.
    pub view: Option<(Snapshot, Plan)>,
}

/// A plan, and nothing done about it.
#[derive(Debug)]
pub struct Planned {
    /// As if it had been recorded.
    pub execution: Execution,
    /// What was seen.
    pub snapshot: Snapshot,
    /// What would be done.
    pub plan: Plan,
}

/// Plans without writing anything anywhere: it holds no writer.
///
/// # Errors
/// Exit codes 3, 4, 5 and 6.
pub async fn dry_run<C: CloudRead, S: StoreRead>(
    cloud: &C,
    store: &S,
    rules: &Rules<'_>,
    clock: Clock,
    stop: &Stop,
    reporter: &dyn Reporter,
) -> Result<Planned, Failure> {
    let begun = Execution::begun(new_job_id(PASS, clock.now()), clock.now(), true);
    let planning = async {
        let (snapshot, mut plan, _) = look(cloud, store, rules, clock, reporter).await?;
        let checked = safety::check(&snapshot, &plan, rules.blast_radius);
        if checked.is_ok() {
            survey(cloud, &snapshot.jobs.items, plan.recreations_mut(), rules.workers).await;
        }
        announce(&snapshot, &plan, rules, reporter);
        checked?;
        Ok::<_, Failure>((snapshot, plan))
    };
    let (snapshot, plan) = tokio::select! {
        biased;
        cause = stop.triggered() => return Err(stopped(cause)),
        () = stop.trigger_at(Instant::now() + rules.deadline) => return Err(stopped(StopCause::Deadline)),
        planned = planning => planned?,
    };
    let summary = Summary::of_plan(&plan, &snapshot.instances);
    let execution = begun.closed(ExecutionStatus::Completed, clock.now(), summary, None);
    Ok(Planned { execution, snapshot, plan })
}

/// Makes one pass under the lease. Whatever happens after the lease is granted is recorded.
///
/// # Errors
/// Exit codes 3, 4 and 5. A pass that was stopped or whose actions failed is no error but an [`Ended`].
pub async fn run<C: CloudRead, W: CloudWrite, S: StoreWrite, N: Notify>(
    (cloud, writer): (&C, &W),
    store: &S,
    rules: &Rules<'_>,
    notify: &N,
    clock: Clock,
    stop: &Stop,
    reporter: &dyn Reporter,
) -> Result<Ran, Failure> {
    let stage = Stage { cloud, writer, store, notify, clock, stop, reporter };
    let frame = Frame { id_prefix: PASS, mode: rules.mode, deadline: rules.deadline };
    under_lease(stage, frame, async |pass, open, deadline| work(pass, rules, deadline, open).await).await
}

async fn work<C: CloudRead, W: CloudWrite, S: StoreWrite>(
    pass: &Pass<'_, C, W, S>,
    rules: &Rules<'_>,
    deadline: Instant,
    open: &mut Open,
) -> Result<(), Failure> {
    let looking = async {
        let (snapshot, mut plan, ledger) = look(pass.cloud, pass.store, rules, pass.clock, pass.reporter).await?;
        let checked = safety::check(&snapshot, &plan, rules.blast_radius);
        if checked.is_ok() {
            survey(pass.cloud, &snapshot.jobs.items, plan.recreations_mut(), rules.workers).await;
        }
        Ok::<_, Failure>((snapshot, plan, ledger, checked))
    };
    let looked = tokio::select! {
        biased;
        _ = pass.stop.triggered() => return Ok(()),
        looked = looking => looked,
    };
    let (snapshot, plan, ledger, checked) = looked?;
    announce(&snapshot, &plan, rules, pass.reporter);
    open.summary = Summary::of_plan(&plan, &snapshot.instances);
    if let Err(refused) = checked {
        open.view = Some((snapshot, plan));
        return Err(refused.into());
    }
    record::settle(pass, open, (&snapshot, &ledger), &plan, rules.workers).await?;
    let (snapshot, plan) = open.view.insert((snapshot, plan));

    let migrations = migrations(snapshot, plan, &ledger, rules.policy);
    let works = plan.recreations();
    let duplicates: Vec<Duplicate<'_>> =
        plan.duplicates().map(|(at, keep)| Duplicate { instance: &snapshot.instances.items[at], keep }).collect();
    let count = migrations.len() + works.len() + duplicates.len();
    if count == 0 {
        return Ok(());
    }
    pass.reporter.event(Event::ActionsBegin { count });
    // The wait for replacements comes last, so that it delays no migration.
    let retired = recreate::retire(pass, &duplicates).await;
    // To wait is no work that a deadline would have to cut off.
    let wait = || {
        let left = deadline.saturating_duration_since(Instant::now());
        rules.recreate_wait.min(left.saturating_sub(TIME_TO_CLOSE))
    };
    let underway = recreate::begin(pass, &works, rules.workers, wait()).await;
    let migrated = match underway.store_error().or(retired.store_error.clone()) {
        Some(_) => Applied::default(),
        None => migrate::migrate(pass, &migrations, rules.workers, snapshot.taken_at - JOBS_WINDOW).await,
    };
    let recreated = recreate::finish(pass, underway, rules.workers, wait()).await;
    pass.reporter.event(Event::ActionsEnd);
    open.attempts = [retired.attempts, recreated.attempts, migrated.attempts].concat();
    open.summary = open.summary.with_attempts(&open.attempts);
    match retired.store_error.or(recreated.store_error).or(migrated.store_error) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// The migrations of a plan, oldest first, with what is to be remembered of the time before.
fn migrations<'a>(snapshot: &'a Snapshot, plan: &Plan, ledger: &Ledger, policy: &Policy) -> Vec<Migration<'a>> {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let chosen = plan.migrations(&snapshot.instances).into_iter();
    chosen
        .map(|at| {
            let instance = &snapshot.instances.items[at];
            let newest = jobs.newest_migration(&instance.id);
            Migration {
                instance,
                previous_attempt: previous_attempt(&instance.id, ledger, plan),
                job_before: newest.map(|job| KnownJob { id: job.id.clone(), created_at: job.created_at }),
                reason: plan.decisions[at].detail(instance, policy),
            }
        })
        .collect()
}

/// Tells of every verdict.
fn announce(snapshot: &Snapshot, plan: &Plan, rules: &Rules<'_>, reporter: &dyn Reporter) {
    for (instance, decision) in plan.rows(&snapshot.instances.items) {
        reporter.event(Event::Decided { instance, decision, policy: rules.policy });
    }
}

/// Reads the world and the ledger and decides. The whole ledger is one round trip.
pub(super) async fn look<C: CloudRead, S: StoreRead>(
    cloud: &C,
    store: &S,
    rules: &Rules<'_>,
    clock: Clock,
    reporter: &dyn Reporter,
) -> Result<(Snapshot, Plan, Ledger), Failure> {
    let taken_at = clock.now();
    let progress = |received, announced| reporter.event(Event::Listed { received, announced });
    let (instances, jobs) = try_join(cloud.instances(&progress), cloud.jobs(taken_at - JOBS_WINDOW)).await?;
    let mut snapshot = Snapshot { taken_at, instances, jobs };
    let exited: Vec<&InstanceId> =
        snapshot.instances.items.iter().filter(|it| it.status == Status::Exited).map(|it| &it.id).collect();
    let ledger = records::ledger(store, &exited, rules.mode).await?;
    if let Some(since) = jobs_needed_since(&snapshot, &ledger) {
        snapshot.jobs = cloud.jobs(since).await?;
    }
    reporter.event(Event::Observed { snapshot: &snapshot });
    let plan = plan::plan(&snapshot, &ledger, rules.policy, clock.now());
    Ok((snapshot, plan, ledger))
}

/// The attempt to put back should the next call have no effect.
fn previous_attempt(id: &InstanceId, ledger: &Ledger, plan: &Plan) -> Option<Timestamp> {
    let withdrawn = plan.settlements.iter().find(|it| it.instance == *id && it.end == CallEnd::NoEffect);
    match (withdrawn, ledger.last_attempt.get(id)) {
        (Some(settlement), _) => settlement.call.previous_attempt,
        (None, Some(Stamp::At(at))) => Some(*at),
        (None, Some(Stamp::Unreadable(_)) | None) => None,
    }
}

pub(super) fn stopped(cause: StopCause) -> Failure {
    let (message, hint) = match cause {
        StopCause::Deadline => {
            ("the pass ran into its deadline", "raise MIGRATION_JOB_TIMEOUT_MS, or let passes do less")
        }
        StopCause::Signal => ("the pass was stopped by a signal", "the next pass goes on"),
        StopCause::LeaseLost => return StoreError::LeaseLost.into(),
    };
    Failure { exit: Exit::Stopped, kind: "stopped", message: message.into(), hint: Some(hint.into()) }
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
            let plan = Rows(|| view.iter().flat_map(|(snapshot, plan)| rows(snapshot, plan, policy)));
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

/// What `dry-run` prints.
#[must_use]
pub fn show_plan(planned: Planned, policy: &Policy, detailed_exit_code: bool, show: Presentation) -> Printed {
    let acts = !planned.plan.actions(&planned.snapshot.instances.items).is_empty();
    let document = if show.json() {
        Document::json((planned, policy.clone()), |(planned, policy), out| {
            let Planned { execution, snapshot, plan } = planned;
            out.document(&PassDocument { execution, plan: Rows(|| rows(snapshot, plan, policy)), attempts: None })
        })
    } else {
        let Planned { snapshot, plan, .. } = &planned;
        let table = human::plan(show.screen, &snapshot.instances.items, plan, policy);
        format!("{table}\n{}\n", human::plan_counts(show.screen, plan)).into()
    };
    let exit = if detailed_exit_code && acts { Exit::SomethingToDo } else { Exit::Done };
    Printed { exit, document }
}

fn rows<'a>(snapshot: &'a Snapshot, plan: &'a Plan, policy: &'a Policy) -> impl Iterator<Item = PlanRow<'a>> {
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
