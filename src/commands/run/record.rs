//! The record of a pass: its start, what it observed, its end. Its actions are recorded one by one in [`crate::act`].

use tokio::time::Instant;

use crate::act::{Edges, Pass};
use crate::cloud::CloudRead as _;
use crate::core::pass::bridge;
use crate::core::pass::ledger::{Call, InFlight, Ledger};
use crate::core::pass::plan::Plan;
use crate::core::pass::settle::{CallEnd, Settlement};
use crate::core::record::downtime::Downtime;
use crate::core::record::execution::{
    Action, Attempt, EndedMigrations, Execution, ExecutionStatus, Outcome, Recorded, Summary, Totals,
};
use crate::core::record::life::sightings;
use crate::core::record::news::{News, forgotten_failures, news};
use crate::core::record::outbox::{Happened, announcement_id};
use crate::core::record::trail::Sighting;
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::world::instance::InstanceId;
use crate::core::world::snapshot::Snapshot;
use crate::report::Event;
use crate::store::records::{self, Change, Generation, Mode, Opening};
use crate::store::{StoreError, check_owner};

/// A pass that is running.
pub(in crate::commands) struct Open {
    /// When it began, and its record from then. The first look may correct the clock.
    pub(in crate::commands) began: Instant,
    pub(in crate::commands) begun: Execution,
    /// Whether the store was empty before it.
    pub(in crate::commands) is_first: bool,
    pub(in crate::commands) totals: Totals,
    pub(in crate::commands) summary: Summary,
    pub(in crate::commands) ended: EndedMigrations,
    pub(in crate::commands) sightings: Vec<Sighting>,
    pub(in crate::commands) attempts: Vec<Attempt>,
    /// The downtime ledger, from the first look of a real pass on.
    pub(in crate::commands) downtime: Option<Downtime>,
    pub(in crate::commands) view: Option<(Snapshot, Plan)>,
}

impl Open {
    /// An accepted migration had no effect, and is not counted as one.
    fn take_back(&mut self, Settlement { instance, call, .. }: &Settlement, job_id: &str) {
        if call.call != Call::Accepted {
            return;
        }
        if call.pass != job_id {
            self.totals.migrations = self.totals.migrations.saturating_sub(1);
            return;
        }
        let is_it = |it: &&mut Attempt| it.instance_id == *instance && it.outcome == Outcome::Accepted;
        if let Some(attempt) = self.attempts.iter_mut().filter(|it| it.action == Action::Migrate).find(is_it) {
            attempt.outcome = Outcome::Failed;
            attempt.reason = format!("accepted, but it had no effect: {}", attempt.reason);
        }
        self.summary = self.summary.with_attempts(&self.attempts);
    }
}

/// Opens this pass's record, and closes that of a pass that was killed.
pub(in crate::commands) async fn begin<E: Edges>(
    pass: &Pass<'_, E>,
    (began, begun): (Instant, Execution),
) -> Result<Open, StoreError> {
    let opening = records::opening(pass.world.store, pass.mode()).await?;
    let Opening { mut totals, generation, unclosed, its_calls, its_recreations, its_writes, damaged } = opening;
    let own = pass.world.cloud.owner();
    let (generation, owner) = generation.map_or((None, None), |it| (Some(it.generation), it.owner));
    check_owner(pass.world.store, owner.as_deref(), &own)?;
    let (mut changes, mut is_first) = (Vec::new(), false);
    for record in &damaged {
        pass.world.reporter.event(Event::PassedOver { record });
    }
    if let Some(killed) = unclosed {
        pass.world.reporter.event(Event::FoundUnclosed { execution: &killed.execution });
        let recorded = Recorded { writes: its_writes, ..interrupted(killed, &its_calls, &its_recreations) };
        totals = totals.with(&recorded.execution);
        changes.extend(pass.tell(&Happened::pass_failed(&recorded.execution, pass.now())));
        changes.push(Change::Record(recorded));
        if pass.mode() == Mode::Real {
            changes.push(Change::SetTotals(totals));
        }
    }
    if pass.mode() == Mode::Real {
        changes.push(Change::ForgetWrites);
        let is_known = generation == Some(totals.generation) && totals.generation != 0;
        if !is_known {
            if generation.is_some() || totals.generation != 0 {
                pass.world.reporter.event(Event::MemoryLost { replacements: None });
            } else {
                is_first = totals.executions == 0;
            }
            totals.generation = fastrand::u64(1..);
            changes.push(Change::SetTotals(totals));
        }
        if !is_known || owner.is_none() && !own.is_empty() {
            let owner = Some(own).filter(|own| !own.is_empty());
            changes.push(Change::SetGeneration(Generation { generation: totals.generation, owner }));
        }
    }
    changes.push(Change::Open(begun.clone()));
    pass.commit(changes).await?;
    Ok(Open {
        began,
        begun,
        is_first,
        totals,
        summary: Summary::default(),
        ended: EndedMigrations::default(),
        sightings: Vec::new(),
        attempts: Vec::new(),
        downtime: None,
        view: None,
    })
}

/// The record of a killed pass, with what its open calls and its journal tell about it.
fn interrupted(
    killed: Recorded,
    its_calls: &[(InstanceId, InFlight)],
    its_recreations: &[(InstanceId, Recreation)],
) -> Recorded {
    let attempt = |id: &InstanceId, name: &str, action, outcome, at| Attempt {
        outcome,
        reason: "the pass was killed; known from its journal".into(),
        ..Attempt::new(id, name, action, at)
    };
    let calls = its_calls.iter().map(|(id, call)| {
        let outcome = match call.call {
            Call::Accepted => Outcome::Accepted,
            Call::Begun | Call::Unknown => Outcome::Unknown,
        };
        attempt(id, &call.instance_name, Action::Migrate, outcome, call.called_at)
    });
    let recreations = its_recreations.iter().map(|(id, recreation)| {
        let outcome = match recreation.step {
            Step::Closed { replacement: Some(_) } => Outcome::Done,
            Step::Closed { replacement: None } => Outcome::Skipped,
            Step::Pending { .. } | Step::Ended => Outcome::Failed,
            Step::Intent { .. } => Outcome::Unknown,
            Step::Deleting { .. }
            | Step::Created { .. }
            | Step::Running { .. }
            | Step::Deleted { .. }
            | Step::Abandoned { .. } => Outcome::Accepted,
        };
        let attempt = attempt(id, &recreation.instance_name, Action::Resume, outcome, recreation.since);
        Attempt { new_instance_id: recreation.step.replacement().cloned(), ..attempt }
    });
    let attempts = together(&killed.attempts, calls.chain(recreations).collect());
    let summary = killed.execution.summary.with_attempts(&attempts);
    let execution = Execution { status: ExecutionStatus::Interrupted, summary, ..killed.execution };
    Recorded { execution, attempts, ..killed }
}

/// The actions of a killed pass: those that an earlier round recorded, and those that are `known` from the journal, which is
/// newer. A refusal for lack of room leaves nothing in the journal.
fn together(recorded: &[Attempt], known: Vec<Attempt>) -> Vec<Attempt> {
    let is_same = |a: &Attempt, b: &Attempt| {
        a.instance_id == b.instance_id && (a.action == Action::Migrate) == (b.action == Action::Migrate)
    };
    let is_last_word = |it: &&Attempt| it.outcome == Outcome::NoRoom || !known.iter().any(|known| is_same(it, known));
    let mut attempts: Vec<Attempt> = recorded.iter().filter(is_last_word).cloned().collect();
    attempts.extend(known);
    attempts
}

/// Stores what became of the calls of earlier passes, and what is to be remembered of reclaims. Before any action, so
/// that an action's intent is never overwritten by an older story. A rehearsal leaves the calls of real passes alone.
pub(in crate::commands) async fn settle<E: Edges>(
    pass: &Pass<'_, E>,
    open: &mut Open,
    (snapshot, ledger, mut changes): (&Snapshot, &Ledger, Vec<Change>),
    plan: &Plan,
) -> Result<(), StoreError> {
    changes.extend(emit_news(pass, snapshot, ledger, plan).await);
    changes.extend(plan.observations.iter().map(|(id, seen)| Change::Observe(id.clone(), seen.clone())));
    if pass.mode() == Mode::Real {
        let before = open.ended;
        for settlement in &plan.settlements {
            pass.world.reporter.event(Event::Settled(settlement));
            open.totals.migrations += u64::from(settlement.proves_acceptance());
            match settlement.end {
                CallEnd::Migrated => open.ended.succeeded += 1,
                CallEnd::Failed { .. } | CallEnd::Vanished => open.ended.failed += 1,
                CallEnd::Confirmed | CallEnd::NoEffect | CallEnd::Closed { .. } => {}
            }
            let id = settlement.instance.clone();
            if settlement.end == CallEnd::NoEffect {
                open.take_back(settlement, pass.job_id);
                changes.push(Change::Withdraw { id: id.clone(), previous: settlement.call.previous_attempt });
            }
            changes.push(if settlement.stays_open() {
                Change::Follow(id, InFlight { call: Call::Accepted, ..settlement.call.clone() })
            } else {
                Change::Unfollow(id)
            });
        }
        open.totals.migrations_succeeded += open.ended.succeeded - before.succeeded;
        open.totals.migrations_failed += open.ended.failed - before.failed;
        changes.push(Change::SetTotals(open.totals));
        changes.extend(plan.stalls.iter().map(|(id, since)| Change::Stall(id.clone(), *since)));
        for (id, recreation) in &plan.journal {
            let written = recreation.clone().map(|it| Recreation { pass: pass.job_id.to_owned(), ..it });
            changes.push(Change::Journal(id.clone(), written));
        }
        let bridges = bridge::observe(snapshot, &ledger.bridges, pass.now());
        changes.extend(bridges.into_iter().map(|(old, bridge)| Change::Bridge(old, bridge)));
        changes.extend(forgotten_failures(snapshot, ledger).into_iter().map(|id| Change::Told(id, None)));
        let downtime = open.downtime.get_or_insert_with(|| Downtime::of(ledger));
        downtime.note(&open.attempts);
        downtime.look((snapshot, ledger), plan);
        changes.extend(downtime.changes().into_iter().map(Change::Downtime));
    }
    open.begun.started_at = pass.world.clock.at(open.began);
    let execution = Execution { summary: open.summary, ..open.begun.clone() };
    open.sightings.extend(sightings(snapshot, plan, ledger, pass.mode() == Mode::Real));
    let (ended_migrations, sightings, attempts) = (open.ended, open.sightings.clone(), open.attempts.clone());
    changes.push(Change::Record(Recorded { ended_migrations, sightings, attempts, ..Recorded::of(execution) }));
    pass.commit(changes).await
}

/// Emits what is new, in the same commit as the change that records it. A rehearsal records no ends, so it emits none.
async fn emit_news<E: Edges>(pass: &Pass<'_, E>, snapshot: &Snapshot, ledger: &Ledger, plan: &Plan) -> Vec<Change> {
    if !pass.tells {
        return Vec::new();
    }
    let mut news = news(snapshot, plan, ledger);
    news.retain(|it| pass.mode() == Mode::Real || matches!(it, News::Announced { .. }));
    let running = news.iter().filter_map(|it| match it {
        News::Migrated { instance, .. } => Some(&instance.id),
        News::Recreated { new, .. } => Some(*new),
        News::MigrationFailed { .. } | News::Announced { .. } | News::Lost { .. } => None,
    });
    let mut reachable = pass.connections(&running.collect::<Vec<_>>()).await;
    let now = pass.now();
    let mut changes = Vec::new();
    for it in news {
        let happened = match it {
            News::Migrated { instance, called_at, announced } => {
                let reachable = reachable.remove(&instance.id).unwrap_or_default();
                Happened::migrated(instance, called_at, announced, reachable, now)
            }
            News::Recreated { old, new, recreation } => {
                let reachable = reachable.remove(new).unwrap_or_default();
                Happened::recreated(old, new, recreation, reachable, now)
            }
            News::MigrationFailed { instance, ref failure, error } => {
                changes.push(Change::Told(instance.id.clone(), Some(failure.clone())));
                Happened::migration_failed(instance, error, now)
            }
            News::Lost { id, name } => Happened::lost(id, name, now),
            News::Announced { instance, notice } => {
                let happened = Happened::reclaim_notified(instance, notice, now);
                changes.extend(pass.tell_as(&happened, announcement_id(&instance.id, notice)));
                continue;
            }
        };
        changes.extend(pass.tell(&happened));
    }
    changes
}

/// Closes the record of a pass that ended.
pub(in crate::commands) async fn end<E: Edges>(
    pass: &Pass<'_, E>,
    open: &mut Open,
    execution: &Execution,
) -> Result<(), StoreError> {
    let recorded = Recorded {
        execution: execution.clone(),
        attempts: open.attempts.clone(),
        writes: pass.audit.close(),
        provider_calls: pass.world.cloud.calls(),
        ended_migrations: open.ended,
        sightings: open.sightings.clone(),
    };
    let mut changes = Vec::new();
    if let Some(downtime) = &mut open.downtime {
        let (bridges, board) = (pass.markets.bridges(), pass.markets.board());
        downtime.close(&open.attempts, &recorded.writes, (&bridges, board.markets()), pass.now());
        changes.extend(downtime.changes().into_iter().map(Change::Downtime));
    }
    changes.extend([Change::Record(recorded), Change::CloseOpen]);
    if pass.mode() == Mode::Real {
        changes.extend([Change::ForgetWrites, Change::SetTotals(open.totals.with(execution))]);
    }
    if matches!(execution.status, ExecutionStatus::Failed | ExecutionStatus::Timeout | ExecutionStatus::Interrupted) {
        changes.extend(pass.tell(&Happened::pass_failed(execution, pass.now())));
    }
    pass.commit(changes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::execution::Summary;
    use crate::core::recreation::journal::Cause;
    use crate::core::world::time::Timestamp;

    /// A pass of several rounds records the actions of the first ones before it is killed, and the journal has them, too.
    #[test]
    fn the_actions_of_a_killed_pass_are_counted_once() {
        let at = Timestamp::from_secs(1_700_000_000);
        let attempt = |id: &str, action, outcome, new: Option<&str>| Attempt {
            outcome,
            new_instance_id: new.map(InstanceId::new),
            ..Attempt::new(&InstanceId::new(id), id, action, at)
        };
        let attempts = vec![
            attempt("a", Action::Migrate, Outcome::NoRoom, None),
            attempt("a", Action::Recreate, Outcome::Done, Some("a2")),
            attempt("b", Action::Recreate, Outcome::Accepted, Some("b2")),
            attempt("c", Action::Migrate, Outcome::Accepted, None),
        ];
        let summary = Summary { total_instances: 3, ..Summary::default() }.with_attempts(&attempts);
        let execution = Execution { summary, ..Execution::begun("p".into(), at, false) };
        let closed = |id: &str| {
            let step = Step::Closed { replacement: Some(InstanceId::new(id)) };
            Recreation { step, ..Recreation::planned(id, Cause::Reclaimed, id.into(), at) }
        };
        let journal = [(InstanceId::new("a"), closed("a2")), (InstanceId::new("b"), closed("b2"))];
        let found = interrupted(Recorded { attempts, ..Recorded::of(execution) }, &[], &journal);
        let Summary { total_instances, migrated_instances, recreated_instances, error_count, .. } =
            found.execution.summary;
        assert_eq!((total_instances, migrated_instances, recreated_instances, error_count), (3, 1, 2, 0));
        let told: Vec<&str> = found.attempts.iter().map(|it| it.instance_id.as_str()).collect();
        assert_eq!(told, ["a", "c", "a", "b"], "the refusal and the migration stay");
    }
}
