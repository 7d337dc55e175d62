//! The documents for scripts, in the shapes of the contract's section 5.

use serde::Serialize;

use super::text;
use crate::core::model::{Instance, InstanceId, Timestamp};
use crate::core::policy::Policy;
use crate::core::summary::{Attempt, Diagnosis, Execution, Health, Recorded, Statistics};
use crate::core::verdict::Decision;

/// One row of a plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRow<'a> {
    instance_id: &'a InstanceId,
    instance_name: &'a str,
    status: &'a str,
    verdict: &'static str,
    reason: &'static str,
    detail: String,
    until: Option<Timestamp>,
}

impl<'a> PlanRow<'a> {
    /// The verdict on `instance`.
    #[must_use]
    pub fn new(instance: &'a Instance, decision: &Decision, policy: &Policy) -> Self {
        Self {
            instance_id: &instance.id,
            instance_name: &instance.name,
            status: instance.status.as_str(),
            verdict: decision.verdict(),
            reason: decision.reason(),
            detail: decision.detail(instance, policy),
            until: decision.until(),
        }
    }
}

/// `run` and `dry-run`: the execution with its plan. A dry run has no attempts.
#[derive(Debug, Serialize)]
pub struct PassDocument<'a> {
    /// The pass.
    #[serde(flatten)]
    pub execution: &'a Execution,
    /// What was decided.
    pub plan: Vec<PlanRow<'a>>,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<&'a [Attempt]>,
}

/// A pass that did not take place.
#[derive(Debug, Serialize)]
pub struct SkippedDocument<'a> {
    /// `skipped`.
    pub status: &'static str,
    /// The machine name of why.
    pub reason: &'static str,
    /// Why, in one sentence.
    pub message: &'a str,
}

/// `history`.
#[derive(Debug, Serialize)]
pub struct HistoryDocument<'a> {
    /// Newest first.
    pub executions: &'a [Recorded],
    /// How many there are.
    pub total: usize,
    /// At most this many are shown.
    pub limit: usize,
    /// After passing over this many.
    pub offset: usize,
}

/// `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDocument<'a> {
    /// Whether `run` does anything.
    pub enabled: bool,
    /// The newest pass.
    pub last_execution: Option<&'a Execution>,
    /// Totals over all real passes.
    pub statistics: Statistics,
    /// The settings that matter here.
    pub config: ConfigPart,
    /// Health.
    pub migration_service: ServicePart,
    /// What is not over yet.
    pub in_flight: InFlightPart,
}

/// The settings shown by `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPart {
    /// Minutes between two passes.
    pub interval_minutes: u64,
    /// Deadline of a pass.
    pub job_timeout_ms: i64,
    /// Provider writes in flight.
    pub max_concurrent: usize,
    /// Whether `run` is a rehearsal.
    pub dry_run: bool,
    /// Whether `run` looks after failed migrations.
    pub retry_failed: bool,
    /// Cooldown in hours.
    pub eligibility_interval_hours: u64,
    /// `time` or `reclaimed`.
    pub eligibility: &'static str,
    /// `spot` or `all`.
    pub scope: &'static str,
}

/// The health shown by `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePart {
    /// Whether `run` does anything.
    pub enabled: bool,
    /// When the newest pass began.
    pub last_execution: Option<Timestamp>,
    /// When the next is due.
    pub next_execution: Option<Timestamp>,
    /// The word for it.
    pub status: Health,
    /// Failed or unknown actions of the last five passes.
    pub recent_errors: u64,
}

impl ServicePart {
    /// From a diagnosis.
    #[must_use]
    pub fn new(enabled: bool, last: Option<&Execution>, diagnosis: &Diagnosis) -> Self {
        Self {
            enabled,
            last_execution: last.map(|execution| execution.started_at),
            next_execution: diagnosis.next_execution,
            status: diagnosis.health,
            recent_errors: diagnosis.recent_errors,
        }
    }
}

/// What is not over yet. This version knows neither rollouts nor events, so those are none.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlightPart {
    /// Migrate calls whose end was not seen yet.
    pub migrations: usize,
    /// Open recreations.
    pub recreations: usize,
    /// The rollout under way.
    pub rollout: Option<()>,
    /// Instances left alone after repeated failures.
    pub quarantined: usize,
    /// Events no receiver took yet.
    pub undelivered_events: usize,
}

/// A failure.
#[derive(Debug, Serialize)]
pub struct ErrorDocument<'a> {
    /// The failure.
    pub error: ErrorPart<'a>,
}

/// What failed.
#[derive(Debug, Serialize)]
pub struct ErrorPart<'a> {
    /// The exit code.
    pub code: u8,
    /// The class.
    pub kind: &'a str,
    /// What happened.
    pub message: &'a str,
    /// How to mend it.
    pub hint: Option<&'a str>,
}

/// Writes a document, safe for a terminal, with a line end.
#[must_use]
pub fn document<T: Serialize>(document: &T) -> String {
    #[expect(clippy::expect_used, reason = "documents are plain structs with string keys, which always serialise")]
    let json = serde_json::to_string_pretty(document).expect("documents serialise");
    text::escape_json(&json) + "\n"
}
