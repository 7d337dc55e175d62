//! `dry-run`: what a pass would do. Holds no writer.

use super::observe::{Observed, point_out_idle_patterns, prepared, unless_stopped};
use super::run::{PASS, rows};
use super::survey::survey;
use super::{Exit, Failure, Presentation, Printed, Session};
use crate::act::{Limits, World, new_id};
use crate::cloud::CloudRead;
use crate::core::pass::plan::{self, Plan};
use crate::core::pass::verdict::Decision;
use crate::core::record::execution::{Execution, ExecutionStatus, Summary};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::Snapshot;
use crate::report::document::{Document, Streamed};
use crate::report::human;
use crate::report::json::PassDocument;
use crate::store::StoreRead;
use crate::store::records::Mode;

/// A plan that is not carried out.
#[derive(Debug)]
pub struct Planned {
    /// As if it had been recorded.
    pub execution: Execution,
    pub snapshot: Snapshot,
    pub plan: Plan,
}

/// The command.
///
/// # Errors
/// Exit codes 2 to 6.
pub async fn command(session: &Session<'_>, detailed_exit_code: bool, all: bool) -> Result<Printed, Failure> {
    let Session { settings, show, .. } = *session;
    let (store, cloud) = (session.open_to_plan().await?, session.client().await?);
    let limits = Limits::new(settings, Mode::Real);
    let planned = dry_run(&session.world(&cloud, &store, &limits)).await?;
    Ok(self::show(planned, &settings.policy, (detailed_exit_code, all), show))
}

/// Plans without writing anything.
///
/// # Errors
/// Exit codes 3, 4, 5 and 6.
pub async fn dry_run<C: CloudRead, S: StoreRead>(world: &World<'_, C, S>) -> Result<Planned, Failure> {
    let started_at = world.clock.now();
    let started = Execution::begun(new_id(PASS, started_at), started_at, true);
    let observing = async {
        let mut observed = prepared(world).await?;
        foresee(world, &mut observed).await;
        Ok(observed)
    };
    let Observed { snapshot, plan, safe, .. } = unless_stopped(world.stop, world.limits.deadline, observing).await?;
    safe?;
    point_out_idle_patterns(world, &snapshot);
    let summary = Summary::of_plan(&plan, &snapshot.instances);
    let execution = started.closed(ExecutionStatus::Completed, world.clock.now(), summary, None);
    Ok(Planned { execution, snapshot, plan })
}

/// Adds to each migration of an instance whose reclaim is proved where it would go if its own market refused it. A pass
/// asks that only once it was refused.
async fn foresee<C: CloudRead, S: StoreRead>(world: &World<'_, C, S>, observed: &mut Observed) {
    let World { cloud, limits, clock, .. } = *world;
    let Observed { snapshot, ledger, plan, safe, board, .. } = observed;
    if safe.is_err() {
        return;
    }
    let is_asked = |it: &Decision| matches!(it, Decision::Migrate { is_proved: true, .. });
    let rows = snapshot.instances.items.iter().zip(&mut plan.decisions).filter(|(_, decision)| is_asked(decision));
    let alternatives = plan::otherwise(snapshot, ledger, limits.policy, rows, clock.now());
    let (decisions, mut works): (Vec<_>, Vec<_>) = alternatives.into_iter().unzip();
    survey(cloud, &snapshot.jobs.items, &ledger.launch_records, works.iter_mut(), limits.workers).await;
    for prepared in works.iter().filter_map(|work| work.prepared.as_ref()?.as_ref().ok()) {
        board.state(prepared, clock.now());
    }
    for (decision, work) in decisions.into_iter().zip(&works) {
        decision.foresee(plan::otherwise_in_words(work, board, limits.policy, clock.now()));
    }
}

/// What `dry-run` prints. Outside a terminal every instance has its row, as with `--all`.
#[must_use]
pub fn show(planned: Planned, policy: &Policy, (detailed_exit_code, all): (bool, bool), show: Presentation) -> Printed {
    let acts = planned.plan.work(&planned.snapshot.instances.items).count() > 0;
    let document = if show.json() {
        Document::json((planned, policy.clone()), |(planned, policy), out| {
            let Planned { execution, snapshot, plan } = planned;
            out.document(&PassDocument { execution, plan: Streamed(|| rows(snapshot, plan, policy)), attempts: None })
        })
    } else {
        let Planned { snapshot, plan, .. } = &planned;
        let all = all || show.screen.width.is_none();
        human::plan(show.screen, &snapshot.instances.items, plan, policy, all).into()
    };
    let exit = if detailed_exit_code && acts { Exit::SomethingToDo } else { Exit::Done };
    Printed { exit, document }
}
