//! The documents for scripts, in the shapes of `docs/reference.md`, JSON documents.

use serde::Serialize;

use super::document::Number;
use super::markets::MarketRow;
use super::text;
use crate::core::pass::bridge::{self, Bridge, Bridges};
use crate::core::pass::verdict::Decision;
use crate::core::record::downtime::{DownInstance, RecoveryFigures};
use crate::core::record::execution::{Attempt, Execution, Recorded, Statistics};
use crate::core::record::health::{Diagnosis, Health};
use crate::core::record::life::LifeEvent;
use crate::core::rollout::course::Member;
use crate::core::rollout::report::Report;
use crate::core::world::instance::{Instance, InstanceId};
use crate::core::world::money::Usd;
use crate::core::world::policy::{BridgePolicy, Policy};
use crate::core::world::time::Timestamp;

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
            verdict: decision.verdict().into_str(),
            reason: decision.reason(),
            detail: decision.detail(instance, policy),
            until: decision.until(),
        }
    }
}

/// `run` and `dry-run`: the execution with its plan. A dry run has no attempts.
#[derive(Debug, Serialize)]
pub struct PassDocument<'a, R: Serialize> {
    /// The pass.
    #[serde(flatten)]
    pub execution: &'a Execution,
    /// [`PlanRow`]s: what was decided.
    pub plan: R,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<&'a [Attempt]>,
}

/// `doctor`.
#[derive(Debug, Serialize)]
pub struct DoctorDocument {
    pub ok: bool,
    /// Every check, in the order in which a pass would meet what it is about.
    pub checks: Vec<CheckPart>,
}

/// One check of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckPart {
    pub check: &'static str,
    pub status: CheckStatus,
    /// What was seen, in one line.
    pub detail: String,
    /// A command, or what to do with which setting.
    pub mend: Option<String>,
    /// How long the other side took, in ms.
    pub duration: Option<i64>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but may not be meant so.
    Warning,
    Failed,
    /// There was nothing to look at.
    Skipped,
}

/// A pass that did not take place.
#[derive(Debug, Serialize)]
pub struct SkippedDocument {
    /// `skipped`.
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

/// `history`.
#[derive(Debug, Serialize)]
pub struct HistoryDocument<'a> {
    /// Newest first.
    pub executions: &'a [Recorded],
    pub total: usize,
    /// At most this many are shown.
    pub limit: usize,
    pub offset: usize,
    /// What is asked for of one instance.
    #[serde(flatten)]
    pub life: Option<LifePart<'a>>,
}

/// The life of one instance.
#[derive(Debug, Serialize)]
pub struct LifePart<'a> {
    /// All ids it ever had, old before new.
    pub ids: &'a [InstanceId],
    /// What happened, oldest first.
    pub life: &'a [LifeEvent],
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
    pub config: ConfigPart,
    pub migration_service: ServicePart,
    pub in_flight: InFlightPart<'a>,
    pub recovery: RecoveryPart<'a>,
    /// The best first.
    pub markets: Vec<MarketRow<'a>>,
    pub bridges: BridgesPart<'a>,
}

/// On-demand instances that stand in while no market has room. Amounts are in USD.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgesPart<'a> {
    pub standing: usize,
    /// Since midnight (UTC).
    pub cost_today: Number<Usd>,
    pub budget_per_day: Number<Usd>,
    /// Those that stand, the oldest first.
    pub instances: Vec<BridgePart<'a>>,
}

/// One of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgePart<'a> {
    pub stands_in_for: &'a InstanceId,
    pub opened_at: Timestamp,
    /// For an hour and all its GPUs.
    pub price: Number<Usd>,
}

impl<'a> BridgesPart<'a> {
    #[must_use]
    pub fn new(bridges: &'a Bridges, policy: &BridgePolicy, now: Timestamp) -> Self {
        let (cost_today, standing) = bridge::today(bridges, now);
        let part = |(old, it): (&'a InstanceId, &Bridge)| BridgePart {
            stands_in_for: old,
            opened_at: it.opened_at,
            price: Number(it.price),
        };
        let mut instances: Vec<_> = bridges.iter().filter(|(_, it)| it.closed_at.is_none()).map(part).collect();
        instances.sort_by_key(|it| (it.opened_at, it.stands_in_for));
        Self { standing, cost_today: Number(cost_today), budget_per_day: Number(policy.per_day), instances }
    }
}

/// How what went down is brought back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPart<'a> {
    /// The figures of the last month.
    #[serde(flatten)]
    pub figures: RecoveryFigures,
    /// What is down, the longest first.
    pub down: Vec<DownInstance<'a>>,
    /// The same figures of the last day, week and month.
    pub windows: [RecoveryFigures; 3],
}

/// The settings shown by `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigPart {
    pub provider: &'static str,
    /// That it must be, if one is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Minutes between two passes.
    pub interval_minutes: u64,
    pub job_timeout_ms: i64,
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
    pub next_execution: Option<Timestamp>,
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

/// What `rollout` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutDocument<'a> {
    /// The last rollout.
    pub rollout: Option<Report<'a>>,
    /// What the schedule does next, in one sentence.
    pub next: Option<String>,
    /// What this call did, in one sentence.
    pub message: &'a str,
    pub members: &'a [Member],
    /// What this call did to instances.
    pub attempts: &'a [Attempt],
}

/// What is not over yet.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlightPart<'a> {
    /// Migrate calls whose end was not seen yet.
    pub migrations: usize,
    pub recreations: usize,
    pub rollout: Option<Report<'a>>,
    /// Instances left alone after repeated failures.
    pub quarantined: usize,
    pub undelivered_events: usize,
}

/// A failure.
#[derive(Debug, Serialize)]
pub struct ErrorDocument<'a> {
    pub error: ErrorPart<'a>,
}

/// What failed.
#[derive(Debug, Serialize)]
pub struct ErrorPart<'a> {
    pub code: u8,
    pub kind: &'a str,
    pub message: &'a str,
    pub hint: Option<&'a str>,
}

/// Writes a document, safe for a terminal, with a line end.
#[must_use]
pub fn document<T: Serialize>(document: &T) -> String {
    written(serde_json::to_string_pretty(document))
}

/// The same as one line.
#[must_use]
pub fn line<T: Serialize>(document: &T) -> String {
    written(serde_json::to_string(document))
}

fn written(json: serde_json::Result<String>) -> String {
    #[expect(clippy::expect_used, reason = "documents are plain structs with string keys, which always serialise")]
    let json = json.expect("documents serialise");
    text::escape_json(&json) + "\n"
}
