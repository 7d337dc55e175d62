//! What a pass did, and what all passes did. Retention is decided here too.

use std::collections::HashSet;

use crate::core::world::error::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::core::pass::plan::Plan;
use crate::core::pass::verdict::Verdict;
use crate::core::record::trail::{ProviderCalls, ProviderWrite, Sighting};
use crate::core::world::instance::{Instance, InstanceId, Status};
use crate::core::world::snapshot::Listing;
use crate::core::world::time::{Timestamp, millis};

/// How many executions are kept. At one pass a quarter of an hour, three weeks.
pub const EXECUTIONS_KEPT: usize = 2000;

/// How the id of one step of a rollout begins; all others are those of passes.
pub const ROLLOUT_STEP: &str = "rollout-step-";

/// Whether an id is that of a pass, and not of a step of a rollout.
#[must_use]
pub fn is_pass(job_id: &str) -> bool {
    !job_id.starts_with(ROLLOUT_STEP)
}

/// One pass, as it is stored and shown (`docs/reference.md`, Passes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// `migration-job-` and a ULID: sorts by time.
    pub job_id: String,
    pub status: ExecutionStatus,
    pub started_at: Timestamp,
    /// When it was closed; missing while it runs, and for ever when it was killed.
    pub completed_at: Option<Timestamp>,
    /// From start to end, in milliseconds; missing with `completed_at`.
    pub duration: Option<i64>,
    /// Whether nothing was written to the provider.
    pub dry_run: bool,
    pub summary: Summary,
    /// Why it failed, was refused or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The class of that error, if it came from the provider; missing in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<ErrorKind>,
}

/// How an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum ExecutionStatus {
    Running,
    Completed,
    Partial,
    Failed,
    Timeout,
    /// Stopped by a signal, or killed: a pass that never closed.
    Interrupted,
}

/// The counts of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub total_instances: u64,
    /// Of those, exited.
    pub exited_instances: u64,
    /// Verdicts migrate or recreate.
    pub eligible_instances: u64,
    /// Migrate calls that the provider accepted in this pass.
    pub migrated_instances: u64,
    pub recreated_instances: u64,
    /// Verdicts skip.
    pub skipped_instances: u64,
    /// Outcomes failed or unknown.
    pub error_count: u64,
    /// Instances that no market had room for.
    #[serde(default)]
    pub no_room_instances: u64,
}

impl Summary {
    /// The counts that follow from looking and deciding.
    #[must_use]
    pub fn of_plan(plan: &Plan, instances: &Listing<Instance>) -> Self {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Self {
            total_instances: count(instances.items.len()),
            exited_instances: count(instances.items.iter().filter(|it| it.status == Status::Exited).count()),
            eligible_instances: count(plan.count(Verdict::Migrate) + plan.count(Verdict::Recreate)),
            skipped_instances: count(plan.count(Verdict::Skip)),
            ..Self::default()
        }
    }

    /// Counts what became of the actions, all of them: what was counted of actions before is replaced.
    #[must_use]
    pub fn with_attempts(self, attempts: &[Attempt]) -> Self {
        let mut summary = Self { migrated_instances: 0, recreated_instances: 0, error_count: 0, ..self };
        for attempt in attempts {
            match (attempt.outcome, attempt.action) {
                (Outcome::Accepted | Outcome::Done, Action::Migrate) => summary.migrated_instances += 1,
                // One without a successor retired an instance that was one too many.
                (Outcome::Done, Action::Recreate | Action::Resume) => {
                    summary.recreated_instances += u64::from(attempt.new_instance_id.is_some());
                }
                (Outcome::Failed | Outcome::Unknown, _) => summary.error_count += 1,
                (Outcome::NoRoom, _) => {}
                (Outcome::Accepted, Action::Recreate | Action::Resume) | (Outcome::Skipped, _) => {}
            }
        }
        // One that was refused in its own market may have been created elsewhere.
        let of = |is_it: fn(Outcome) -> bool| {
            let those = attempts.iter().filter(|it| is_it(it.outcome)).map(|it| &it.instance_id);
            those.collect::<HashSet<&InstanceId>>()
        };
        let placed = of(|outcome| matches!(outcome, Outcome::Done | Outcome::Accepted | Outcome::Unknown));
        let left = of(|outcome| outcome == Outcome::NoRoom).difference(&placed).count();
        summary.no_room_instances = u64::try_from(left).unwrap_or(u64::MAX);
        summary
    }
}

/// One action of a pass and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub instance_id: InstanceId,
    pub instance_name: String,
    pub action: Action,
    pub outcome: Outcome,
    pub reason: String,
    /// The class of the error, if there was one.
    pub error_kind: Option<ErrorKind>,
    /// The instance that took its place, if any.
    pub new_instance_id: Option<InstanceId>,
    /// Time to the provider's answer in milliseconds; missing when no call was made.
    pub response_time: Option<i64>,
    pub at: Timestamp,
}

impl Attempt {
    /// One without an outcome yet.
    #[must_use]
    pub fn new(id: &InstanceId, name: &str, action: Action, at: Timestamp) -> Self {
        Self {
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
}

/// What an attempt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Action {
    Migrate,
    Recreate,
    Resume,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Outcome {
    Done,
    /// The provider accepted the call; a later pass sees its end.
    Accepted,
    /// No market had room. That is no failure: a later pass tries again.
    NoRoom,
    Failed,
    /// Not known yet; a later pass finds out.
    Unknown,
    /// Not begun, or not needed any more.
    Skipped,
}

/// An execution with its actions, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The pass.
    #[serde(flatten)]
    pub execution: Execution,
    pub attempts: Vec<Attempt>,
    /// Every call it made that changes the provider's world.
    #[serde(default)]
    pub writes: Vec<ProviderWrite>,
    /// What it saw happen to instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<Sighting>,
    /// The calls it made in all.
    #[serde(default)]
    pub provider_calls: ProviderCalls,
    /// The ends it saw of migrations that earlier passes began.
    #[serde(default)]
    pub ended_migrations: EndedMigrations,
}

/// Accepted migrations of which a pass saw the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedMigrations {
    /// The instance was seen running again.
    pub succeeded: u64,
    /// The migration failed, or the instance vanished.
    pub failed: u64,
}

impl Recorded {
    /// A pass of which nothing but its state is known yet.
    #[must_use]
    pub fn of(execution: Execution) -> Self {
        Self {
            execution,
            attempts: Vec::new(),
            writes: Vec::new(),
            sightings: Vec::new(),
            provider_calls: ProviderCalls::default(),
            ended_migrations: EndedMigrations::default(),
        }
    }

    /// Whether it acted on one of these instances.
    #[must_use]
    pub fn acted_on(&self, ids: &[InstanceId]) -> bool {
        let is_one = |id: &InstanceId, new: &Option<InstanceId>| {
            ids.contains(id) || new.as_ref().is_some_and(|new| ids.contains(new))
        };
        self.attempts.iter().any(|it| is_one(&it.instance_id, &it.new_instance_id))
            || self.writes.iter().any(|it| is_one(&it.instance_id, &it.new_instance_id))
    }
}

/// Running totals over all real passes; rehearsals are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Passes that were closed, and those that were killed.
    pub executions: u64,
    /// Of those, completed without a failed action.
    pub successful: u64,
    /// Sum of the durations of those that were closed, in milliseconds.
    pub duration_sum: i64,
    pub duration_count: u64,
    /// Accepted migrations, also those proved later.
    pub migrations: u64,
    /// Of those, the ones after which the instance was seen running again.
    #[serde(default)]
    pub migrations_succeeded: u64,
    /// Of those, the ones that failed or whose instance vanished.
    #[serde(default)]
    pub migrations_failed: u64,
    pub recreations: u64,
    pub instances_processed: u64,
    /// Outcomes failed or unknown.
    pub errors: u64,
    /// Which memory they are a part of: the same number is kept beside them, so that the loss of either is noticed. 0 in
    /// stores of earlier versions.
    #[serde(default)]
    pub generation: u64,
}

impl Totals {
    /// Adds a pass that ended, if it was a real one.
    #[must_use]
    pub fn with(self, execution: &Execution) -> Self {
        if execution.dry_run || execution.status == ExecutionStatus::Running || !is_pass(&execution.job_id) {
            return self;
        }
        let Summary {
            total_instances,
            exited_instances: _,
            eligible_instances: _,
            migrated_instances,
            recreated_instances,
            skipped_instances: _,
            error_count,
            no_room_instances: _,
        } = execution.summary;
        Self {
            executions: self.executions + 1,
            successful: self.successful + u64::from(execution.status == ExecutionStatus::Completed),
            duration_sum: self.duration_sum.saturating_add(execution.duration.unwrap_or(0)),
            duration_count: self.duration_count + u64::from(execution.duration.is_some()),
            migrations: self.migrations + migrated_instances,
            migrations_succeeded: self.migrations_succeeded,
            migrations_failed: self.migrations_failed,
            recreations: self.recreations + recreated_instances,
            instances_processed: self.instances_processed + total_instances,
            errors: self.errors + error_count,
            generation: self.generation,
        }
    }

    /// As the contract shows them.
    #[must_use]
    pub fn statistics(self) -> Statistics {
        let Self { executions, successful, duration_sum, duration_count, migrations, .. } = self;
        let count = i64::try_from(duration_count).unwrap_or(i64::MAX);
        Statistics {
            total_executions: executions,
            successful_executions: successful,
            failed_executions: executions.saturating_sub(successful),
            average_execution_time: if count == 0 { 0 } else { duration_sum / count },
            total_migrations: migrations,
            total_recreations: self.recreations,
            total_instances_processed: self.instances_processed,
            total_errors: self.errors,
            success_rate: share(successful, executions),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people; exact up to 2^53 passes")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Totals in the shape of the contract. Before the first pass all figures are 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Real passes that ended.
    pub total_executions: u64,
    /// Of those, `completed`.
    pub successful_executions: u64,
    /// All others: partial, failed, timeout, interrupted.
    pub failed_executions: u64,
    /// Mean duration in milliseconds.
    pub average_execution_time: i64,
    pub total_migrations: u64,
    pub total_recreations: u64,
    /// Instances listed, summed over all passes.
    pub total_instances_processed: u64,
    pub total_errors: u64,
    /// Share of successful executions, 0 to 1.
    pub success_rate: f64,
}

impl Execution {
    /// A pass that begins.
    #[must_use]
    pub fn begun(job_id: String, started_at: Timestamp, dry_run: bool) -> Self {
        Self {
            job_id,
            status: ExecutionStatus::Running,
            started_at,
            completed_at: None,
            duration: None,
            dry_run,
            summary: Summary::default(),
            error: None,
            error_kind: None,
        }
    }

    /// The same pass, ended at `now`.
    #[must_use]
    pub fn closed(self, status: ExecutionStatus, now: Timestamp, summary: Summary, error: Option<String>) -> Self {
        let duration = Some(millis(now.since(self.started_at)));
        Self { status, completed_at: Some(now), duration, summary, error, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + 60 * minutes)
    }

    fn execution(status: ExecutionStatus, began: i64, errors: u64) -> Execution {
        let summary = Summary { total_instances: 45, migrated_instances: 2, error_count: errors, ..Summary::default() };
        let begun = Execution::begun(format!("migration-job-{began}"), at(began), false);
        match status {
            ExecutionStatus::Running => begun,
            ExecutionStatus::Interrupted => Execution { status, summary, ..begun },
            status => begun.closed(status, at(began + 1), summary, None),
        }
    }

    #[test]
    fn totals_count_every_real_pass_once() {
        use ExecutionStatus::{Completed, Interrupted, Partial, Running};
        let rehearsal = Execution { dry_run: true, ..execution(Completed, 9, 0) };
        let passes = [
            execution(Completed, 0, 0),
            execution(Partial, 2, 1),
            execution(Interrupted, 4, 2),
            execution(Running, 6, 0),
            rehearsal,
        ];
        let totals = passes.iter().fold(Totals::default(), Totals::with);
        let Statistics {
            total_executions,
            successful_executions,
            failed_executions,
            average_execution_time,
            total_migrations,
            total_recreations,
            total_instances_processed,
            total_errors,
            success_rate,
        } = totals.statistics();
        assert_eq!((total_executions, successful_executions, failed_executions), (3, 1, 2));
        assert_eq!(average_execution_time, 60_000, "the killed pass has no duration");
        assert_eq!((total_migrations, total_recreations, total_instances_processed, total_errors), (6, 0, 135, 3));
        assert!((success_rate - 1.0 / 3.0).abs() < 1e-9);
        let none = Totals::default().statistics();
        assert_eq!((none.average_execution_time, none.total_executions), (0, 0));
        assert!(none.success_rate.abs() < f64::EPSILON);
    }

    #[test]
    fn outcomes_add_up() {
        let attempt = |outcome| Attempt {
            instance_id: InstanceId::new("a"),
            instance_name: "a".into(),
            action: Action::Migrate,
            outcome,
            reason: String::new(),
            error_kind: None,
            new_instance_id: None,
            response_time: None,
            at: at(0),
        };
        let outcomes = [Outcome::Accepted, Outcome::Done, Outcome::Failed, Outcome::Unknown, Outcome::Skipped];
        let summary = Summary::default().with_attempts(&outcomes.map(attempt));
        assert_eq!((summary.migrated_instances, summary.error_count), (2, 2));
    }
}
