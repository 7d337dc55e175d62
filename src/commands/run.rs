//! `run` and `check-failed`: one pass, from the lease to the record.

pub(super) mod lease;
pub(super) mod record;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join;
use tokio::time::Instant;

use self::lease::under_lease;
use self::record::Open;
use super::observe::{Observed, point_out_idle_patterns, point_out_offers, prepared_again, record_running};
use super::survey::survey;
use super::{Exit, Failure, Presentation, Printed, Session, status};
use crate::act::{Applied, Edges, Limits, Pass, World, migrate, recreate};
use crate::cloud::any::ProviderWriter;
use crate::cloud::{CloudRead, CloudWrite};
use crate::core::pass::bridge::KnownBridges;
use crate::core::pass::ledger::Ledger;
use crate::core::pass::plan::{self, Plan};
use crate::core::pass::verdict::{Decision, Recreating, Skip};
use crate::core::record::execution::{Action, Attempt, Execution, ExecutionStatus, Outcome, Summary};
use crate::core::recreation::blueprint::Prepared;
use crate::core::world::instance::{Instance, InstanceId, Status};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::{Shortfall, Snapshot, find};
use crate::core::world::time::Timestamp;
use crate::core::world::times::JOBS_WINDOW;
use crate::notify::{Closing, Notify, Outlets};
use crate::report::document::{Document, Streamed};
use crate::report::json::{PassDocument, PlanRow};
use crate::report::{Event, Reporter as _, SummaryLast, human, json, prometheus};
use crate::settings::Settings;
use crate::store::any::Store;
use crate::store::records::{self, Mode};
use crate::store::sealed::SealedStore;
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

async fn pass(session: &Session<'_>, store: &SealedStore<Store>, outlets: &Outlets<'_>) -> Result<Ran, Failure> {
    let cloud = session.client().await?;
    let mode = if session.settings.rehearsal { Mode::Rehearsal } else { Mode::Real };
    let limits = Limits::new(session.settings, mode);
    let world = session.world(&cloud, store, &limits);
    let writer = match mode {
        Mode::Real => ProviderWriter::Cloud(&cloud),
        Mode::Rehearsal => ProviderWriter::Rehearsal,
    };
    run(&world, &writer, outlets).await
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
    store: Result<&SealedStore<Store>, &StoreError>,
    settings: &Settings,
    now: Timestamp,
) -> Result<String, StoreError> {
    let overview = records::overview(store.map_err(Clone::clone)?, &status::selection(now), now).await?;
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
        work(pass, open, deadline).await?;
        if pass.mode() == Mode::Real && deadline.saturating_duration_since(Instant::now()) > TIME_TO_CLOSE {
            tokio::select! {
                _ = world.stop.triggered() => {}
                () = pass.markets.read_prices(world.cloud, pass.now()) => {}
            }
        }
        Ok(())
    })
    .await
}

/// A pass has one round, or several: the next one begins at once while reclaimed instances are recreated in waves, and after
/// a minute while one of them is down and the pass goes on trying.
async fn work<E: Edges>(pass: &Pass<'_, E>, open: &mut Open, deadline: Instant) -> Result<(), Failure> {
    // A rehearsal changes nothing by waiting.
    let is_real = pass.mode() == Mode::Real;
    let until = Instant::now() + if is_real { pass.world.limits.keep_trying } else { Duration::ZERO };
    let mut used = Used::default();
    loop {
        let next = Instant::now() + ROUND;
        let goes_on = next <= until;
        let until_next = if goes_on { deadline.min(next) } else { deadline };
        let ended = match round(pass, open, &mut used, (deadline, until_next)).await {
            // What the first round did stands, and the next pass looks again.
            Err(failure) if used.rounds > 0 && matches!(failure.exit, Exit::Provider | Exit::Unsafe) => {
                pass.world.reporter.event(Event::RoundFailed { error: &failure.message });
                return Ok(());
            }
            ended => ended?,
        };
        used.rounds += 1;
        match ended {
            RoundEnd::NextWave => {}
            RoundEnd::Down if goes_on => {
                pass.world.reporter.event(Event::RoundEnded { down: used.down.len() });
                if pass.world.stop.sleep(next.saturating_duration_since(Instant::now())).await.is_err() {
                    return Ok(());
                }
            }
            RoundEnd::Down | RoundEnd::Done => return Ok(()),
        }
    }
}

/// How often a pass that goes on trying looks again.
const ROUND: Duration = Duration::from_secs(60);

/// What the rounds of a pass have done so far.
#[derive(Debug, Default)]
struct Used {
    rounds: u32,
    migrations: usize,
    recreations: usize,
    /// The counts of the first plan.
    planned: Summary,
    /// Replacements that get no traffic yet, at the last look.
    unregistered: usize,
    /// Instances of which it could not be recorded what they are made of, at the last look.
    unrecorded: usize,
    /// Reclaimed instances that were not seen running since.
    down: HashSet<InstanceId>,
    /// Instances that no market had room for. The next wave takes those first that were not tried yet.
    tried: HashSet<InstanceId>,
}

/// How a round ended.
enum RoundEnd {
    /// More reclaimed instances are to be recreated now.
    NextWave,
    /// Something that was reclaimed is down, or coming up.
    Down,
    Done,
}

impl Used {
    /// What is left of the limits of a pass.
    fn left(&self, policy: &Policy) -> Policy {
        Policy {
            max_migrations: policy.max_migrations.map(|most| most.saturating_sub(self.migrations)),
            max_recreations: policy.max_recreations.map(|most| most.saturating_sub(self.recreations)),
            ..policy.clone()
        }
    }

    fn count(&mut self, attempts: &[Attempt]) {
        let sent = |action: &[Action]| {
            let counts = |it: &&Attempt| action.contains(&it.action) && it.outcome != Outcome::NoRoom;
            attempts.iter().filter(counts).filter(|it| it.response_time.is_some()).count()
        };
        self.migrations += sent(&[Action::Migrate]);
        self.recreations += sent(&[Action::Recreate]);
    }

    /// Takes note of what is down now.
    fn look(&mut self, snapshot: &Snapshot, plan: &Plan) {
        let listed = &snapshot.instances.items;
        self.down.retain(|id| find(listed, id).is_some_and(|it| it.status != Status::Running && !it.status.is_going()));
        // What still runs is not down; a replacement that was created ahead is followed all the same.
        let is_down = |(instance, decision): &(&Instance, &Decision)| {
            let is_followed = instance.status != Status::Running || matches!(decision, Decision::Resume(_));
            decision.is_on_proved() && is_followed
        };
        self.down.extend(plan.rows(listed).filter(is_down).map(|(instance, _)| instance.id.clone()));
    }
}

async fn round<E: Edges>(
    pass: &Pass<'_, E>,
    open: &mut Open,
    used: &mut Used,
    (deadline, until_next): (Instant, Instant),
) -> Result<RoundEnd, Failure> {
    let World { cloud, store, clock, stop, reporter, .. } = *pass.world;
    let policy = used.left(pass.world.limits.policy);
    let limits = &Limits { policy: &policy, ..pass.world.limits.clone() };
    let world = World { cloud, store, limits, clock, stop, reporter };
    let observed = tokio::select! {
        biased;
        _ = stop.triggered() => return Ok(RoundEnd::Done),
        observed = prepared_again(&world, &used.tried) => observed?,
    };
    let Observed { snapshot, mut ledger, mut redated, plan, safe, board } = observed;
    if used.rounds == 0 {
        used.planned = Summary::of_plan(&plan, &snapshot.instances);
        open.summary = used.planned;
        point_out_idle_patterns(&world, &snapshot);
        let replacements = snapshot.instances.items.iter().filter(|it| it.marker.is_some()).count();
        // Names outlive the memory of the passes that gave them.
        if open.is_first && replacements > 0 {
            reporter.event(Event::MemoryLost { replacements: Some(replacements) });
        }
    }
    if let Err(refused) = safe {
        open.view.get_or_insert((snapshot, plan));
        return Err(refused.into());
    }
    if pass.mode() == Mode::Real {
        let (recorded, unrecorded) = record_running(&world, &snapshot, &ledger).await;
        redated.extend(recorded);
        used.unrecorded = unrecorded;
    }
    pass.markets.begin(board, KnownBridges::of(&snapshot, &ledger.bridges, pass.now()));
    record::settle(pass, open, (&snapshot, &ledger, redated), &plan).await?;
    let is_left_out =
        |it: &Decision| matches!(it, Decision::Skip(Skip::NotSelected | Skip::Excluded { .. } | Skip::Nameless));
    let left_out = plan.rows(&snapshot.instances.items).filter(|(_, decision)| is_left_out(decision));
    let left_out: HashSet<&InstanceId> = left_out.map(|(instance, _)| &instance.id).collect();
    used.unregistered = pass.register(&|id| !left_out.contains(id)).await;
    used.look(&snapshot, &plan);
    let listed = &snapshot.instances.items;
    let todo = plan.work(listed);
    let (mut attempts, mut elsewhere, mut error, mut is_new) = (Vec::new(), Vec::new(), None, false);
    let bridges;
    let mut is_cut = plan.decisions.iter().any(|it| matches!(it, Decision::Skip(Skip::NextWave { .. })));
    let may_bridge = pass.world.limits.policy.bridge.is_on();
    let has_no_room = |it: &Decision| matches!(it, Decision::Skip(Skip::NoRoom { .. }));
    if todo.count() > 0 || may_bridge && plan.decisions.iter().any(has_no_room) {
        reporter.event(Event::ActionsBegin { count: todo.count() });
        let expired = recreate::expire(pass, &todo.expired).await;
        attempts.extend(expired.attempts);
        let retired = match expired.store_error {
            Some(error) => Applied { store_error: Some(error), ..Applied::default() },
            None => recreate::retire(pass, &todo.duplicates).await,
        };
        // Waiting must not run into the deadline, nor into the next round if there may be one.
        let wait_until = if used.down.is_empty() { deadline } else { until_next };
        let wait = || {
            let left = wait_until.saturating_duration_since(Instant::now());
            limits.recreate_wait.min(left.saturating_sub(TIME_TO_CLOSE))
        };
        let migrated = match &retired.store_error {
            Some(_) => Applied::default(),
            None => {
                let migrating = migrate::migrate(pass, &todo.migrations, snapshot.taken_at - JOBS_WINDOW);
                // Beside what takes longer anyway.
                match pass.mode() {
                    Mode::Real => join(migrating, pass.markets.read_prices(cloud, pass.now())).await.0,
                    Mode::Rehearsal => migrating.await,
                }
            }
        };
        let started = match retired.store_error.as_ref().or(migrated.store_error.as_ref()) {
            Some(_) => recreate::Underway::default(),
            None => recreate::start(pass, &todo.recreations, listed, wait()).await,
        };
        used.count(&migrated.attempts);
        let refused: HashSet<&InstanceId> = migrated.refused().collect();
        if !refused.is_empty() && migrated.store_error.is_none() {
            ledger.markets = pass.markets.board().markets().clone();
            let left = limits.blast_radius.allowed(plan.managed).saturating_sub(plan.proved_creations());
            let left = if limits.blast_radius.force { usize::MAX } else { left };
            let (chosen, decisions, is_rest) = escalated(pass, &world, (&snapshot, &ledger), &refused, left).await;
            elsewhere = decisions;
            is_cut |= is_rest;
            // What is tied to a market without room is not created anywhere, and was tried all the same.
            is_new |= chosen.into_iter().map(|id| used.tried.insert(id)).fold(false, |any, is_new| any | is_new);
        }
        let works: Vec<&Recreating> = elsewhere.iter().filter_map(Decision::recreating).collect();
        let underway = started.and(recreate::start(pass, &works, listed, wait()).await);
        let mut without_room: HashSet<&InstanceId> = underway.refused().collect();
        without_room.extend(plan.rows(listed).filter_map(|(instance, decision)| match decision {
            Decision::Skip(Skip::NoRoom { is_proved: true, .. }) => Some(&instance.id),
            _ => None,
        }));
        let placed: HashSet<&InstanceId> = works.iter().map(|work| &work.instance).collect();
        without_room.extend(refused.iter().filter(|id| !placed.contains(*id)));
        bridges = bridged(pass, &world, (&snapshot, &ledger), &without_room).await;
        let works: Vec<&Recreating> = bridges.iter().filter_map(Decision::recreating).collect();
        let underway = underway.and(recreate::start(pass, &works, listed, wait()).await);
        // The wait for replacements comes last, so that it delays no migration.
        let recreated = recreate::finish(pass, underway, wait()).await;
        reporter.event(Event::ActionsEnd);
        used.count(&recreated.attempts);
        error = retired.store_error.or(recreated.store_error).or(migrated.store_error);
        attempts = [retired.attempts, recreated.attempts, migrated.attempts].concat();
    }
    let created =
        |it: &Attempt| it.outcome == Outcome::Accepted && it.action != Action::Migrate && it.response_time.is_some();
    for attempt in &attempts {
        if attempt.outcome == Outcome::Done {
            used.down.remove(&attempt.instance_id);
        } else if created(attempt) {
            used.down.insert(attempt.instance_id.clone());
        }
    }
    let has_created = attempts.iter().any(|it| created(it) || it.outcome == Outcome::Done);
    // One creation without an answer says little about the provider while others are answered.
    let is_answered = has_created || !attempts.iter().any(|it| it.outcome == Outcome::Unknown);
    let is_answered = is_answered && !pass.markets.is_closed();
    // A wave that neither creates anything nor tries anyone new is the last one.
    let refused = attempts.iter().filter(|it| it.outcome == Outcome::NoRoom && it.action != Action::Migrate);
    is_new |= refused.map(|it| used.tried.insert(it.instance_id.clone())).fold(false, |any, is_new| any | is_new);
    let has_progress = is_new || has_created;
    // What stands in cannot be created beside a replacement that this round gave up: the next round does.
    let resumed = |it: &Attempt| it.outcome == Outcome::NoRoom && it.action == Action::Resume;
    let is_cut = is_cut || may_bridge && is_new && attempts.iter().any(resumed);
    open.attempts.append(&mut attempts);
    open.summary = used.planned.with_attempts(&open.attempts);
    // What a pass could not read is unattended, whatever went well elsewhere.
    let is_unread = matches!(snapshot.instances.shortfall, Some(Shortfall::Region { .. }));
    let unattended = used.unregistered + used.unrecorded + usize::from(is_unread);
    open.summary.error_count += u64::try_from(unattended).unwrap_or(u64::MAX);
    open.view.get_or_insert((snapshot, plan));
    match error {
        Some(error) => Err(error.into()),
        None if is_cut && is_answered && has_progress => Ok(RoundEnd::NextWave),
        None if used.down.is_empty() => Ok(RoundEnd::Done),
        None => Ok(RoundEnd::Down),
    }
}

/// On-demand instances to stand in for those that no market has room for.
async fn bridged<E: Edges>(
    pass: &Pass<'_, E>,
    world: &World<'_, E::Cloud, E::Memory>,
    (snapshot, ledger): (&Snapshot, &Ledger),
    without_room: &HashSet<&InstanceId>,
) -> Vec<Decision> {
    let limits = world.limits;
    if !limits.policy.bridge.is_on() || without_room.is_empty() || !snapshot.instances.is_complete() {
        return Vec::new();
    }
    let mut decisions = plan::bridges(snapshot, ledger, limits.policy, without_room, pass.now());
    let works = decisions.iter_mut().filter_map(Decision::recreating_mut);
    survey(world.cloud, &snapshot.jobs.items, &ledger.launch_records, works, limits.workers).await;
    for decision in &mut decisions {
        plan::place(decision, &pass.markets.board(), limits.policy, pass.now());
    }
    decisions
}

/// What to do about reclaimed instances that their own market has just refused: create them elsewhere, `most` at a time.
/// Answers which these are, what is to be done, and whether there are more.
async fn escalated<E: Edges>(
    pass: &Pass<'_, E>,
    world: &World<'_, E::Cloud, E::Memory>,
    (snapshot, ledger): (&Snapshot, &Ledger),
    refused: &HashSet<&InstanceId>,
    most: usize,
) -> (Vec<InstanceId>, Vec<Decision>, bool) {
    let limits = world.limits;
    if !snapshot.instances.is_complete() {
        return (Vec::new(), Vec::new(), false);
    }
    let mut decisions = plan::escalate(snapshot, ledger, limits.policy, refused, pass.now());
    decisions.truncate(limits.policy.max_recreations.unwrap_or(usize::MAX));
    let is_cut = decisions.len() > most;
    decisions.truncate(most);
    let chosen = decisions.iter().filter_map(Decision::recreating).map(|work| work.instance.clone()).collect();
    let works = decisions.iter_mut().filter_map(Decision::recreating_mut);
    survey(world.cloud, &snapshot.jobs.items, &ledger.launch_records, works, limits.workers).await;
    let prepared: Vec<&Prepared> = decisions.iter().filter_map(Decision::prepared).collect();
    point_out_offers(world.reporter, &prepared, &limits.policy.placing);
    for decision in &mut decisions {
        if let Some(prepared) = decision.prepared() {
            pass.markets.state(prepared, pass.now());
        }
        plan::place(decision, &pass.markets.board(), limits.policy, pass.now());
    }
    (chosen, decisions, is_cut)
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
