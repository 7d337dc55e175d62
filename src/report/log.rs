//! Log lines on stderr: text for people, JSON for machines. Identifiers are fields; the last line of a pass is its
//! summary.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber, debug, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Event, text};
use crate::clock::Clock;
use crate::core::pass::settle::CallEnd;
use crate::core::pass::verdict::{Decision, Eligible, Skip};
use crate::core::record::execution::{Action, ExecutionStatus, Outcome, Summary, is_pass};
use crate::core::record::trail::ProviderWrite;
use crate::core::recreation::journal::{Cause, Rest};
use crate::core::rollout::course::{Fleet, MemberState, Rollout};
use crate::core::rollout::traffic::Switch;
use crate::core::world::instance::{Instance, InstanceId, Job, Place, Status};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::Shortfall;
use crate::core::world::time::{Timestamp, in_words};
use crate::core::world::times::TOLERATED_SKEW;

/// The target of the audit trail, which has one line for every write request to the provider.
pub const AUDIT: &str = "respot::audit";

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. Other crates log from `warn` on, unless `directives` names them.
///
/// # Errors
/// When logging was started before.
pub fn init<W>(
    level: LevelFilter,
    directives: Option<Targets>,
    format: Format,
    color: bool,
    clock: &Clock,
    writer: W,
) -> anyhow::Result<()>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let targets =
        directives.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN).with_target("respot", level));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(LineFormat { format, color, clock: clock.clone() })
        .with_writer(writer);
    tracing_subscriber::registry().with(targets).with(lines).try_init()?;
    Ok(())
}

/// Logs an event of a pass.
pub(super) fn event(event: Event<'_>) {
    match event {
        Event::PassBegan { execution, store } => {
            if is_pass(&execution.job_id) {
                info!(jobId = execution.job_id, dryRun = execution.dry_run, store, "pass started");
            } else {
                debug!(jobId = execution.job_id, store, "rollout step started");
            }
        }
        Event::FoundUnclosed { execution } => {
            warn!(jobId = execution.job_id, startedAt = %execution.started_at, "an earlier pass was interrupted");
        }
        Event::ClockCorrected { ahead } => {
            let skew = Duration::from_millis(ahead.unsigned_abs());
            let (by, direction) = (in_words(skew), if ahead > 0 { "ahead of" } else { "behind" });
            if skew > TOLERATED_SKEW {
                warn!("the clock of this machine is {by} {direction} the provider's; the pass goes by the provider's");
            } else {
                debug!("the clock of this machine is {by} {direction} the provider's; the pass goes by the provider's");
            }
        }
        Event::AnotherPassRuns { job_id } => info!(jobId = job_id, "another pass is running, nothing to do"),
        Event::Observed { snapshot } => {
            let (instances, jobs) = (snapshot.instances.items.len(), snapshot.jobs.items.len());
            info!(instances, jobs, "listed instances and jobs");
            if let Some(shortfall @ Shortfall::Region { .. }) = &snapshot.instances.shortfall {
                warn!("{shortfall}; nothing is concluded about them");
            }
            if let Some(shortfall @ Shortfall::Nameless { .. }) = &snapshot.instances.shortfall {
                warn!("the list of instances is incomplete: {shortfall}; nothing is recreated");
            }
            let of_no_instance = |job: &&Job| job.instance.as_str().is_empty() && job.state.is_unfinished();
            let unknown = snapshot.jobs.items.iter().filter(of_no_instance).count();
            if unknown > 0 {
                warn!(
                    jobs = unknown,
                    "unfinished jobs without a readable instance ID: no instance waits for their end"
                );
            }
        }
        Event::Decided { instance, decision, policy } => decided(instance, decision, policy),
        Event::Settled(settlement) => {
            let (id, called_at) = (settlement.instance.as_str(), settlement.call.called_at);
            match &settlement.end {
                CallEnd::Migrated => {
                    info!(instanceId = id, calledAt = %called_at, "migration succeeded: instance is running");
                }
                CallEnd::Confirmed => {
                    info!(instanceId = id, calledAt = %called_at, "migrate call took effect: migration in progress");
                }
                CallEnd::Failed { job: _, error } => {
                    let error = error.as_deref().unwrap_or("no reason given");
                    warn!(instanceId = id, calledAt = %called_at, error, "migration failed");
                }
                CallEnd::Vanished => {
                    warn!(instanceId = id, calledAt = %called_at, "instance disappeared during its migration");
                }
                CallEnd::NoEffect => {
                    warn!(instanceId = id, calledAt = %called_at, "migrate call had no effect: no cooldown");
                }
                CallEnd::Closed { status } => {
                    info!(instanceId = id, calledAt = %called_at, %status, "migration ended");
                }
            }
        }
        Event::ActionEnded(attempt) | Event::ActionResolved(attempt) => {
            let (id, name, reason) = (attempt.instance_id.as_str(), attempt.instance_name.as_str(), &attempt.reason);
            let (outcome, action) = (attempt.outcome.into_str(), attempt.action.into_str());
            let response_time = attempt.response_time;
            let kind = attempt.error_kind.map(|kind| kind.into_str());
            macro_rules! line {
                ($macro:ident) => {
                    $macro!(
                        instanceId = id,
                        instanceName = name,
                        action,
                        outcome,
                        errorKind = kind,
                        responseTime = response_time,
                        reason,
                        "{action} {outcome}"
                    )
                };
            }
            match attempt.outcome {
                // A single call, which the audit trail has already logged.
                Outcome::Accepted if attempt.action == Action::Migrate && response_time.is_some() => line!(debug),
                Outcome::Done | Outcome::Accepted | Outcome::NoRoom | Outcome::Skipped => line!(info),
                Outcome::Failed | Outcome::Unknown => line!(warn),
            }
        }
        Event::PassEnded { execution } if is_pass(&execution.job_id) => summary(execution),
        Event::PassEnded { execution } => {
            let (job_id, status) = (execution.job_id.as_str(), execution.status.into_str());
            debug!(jobId = job_id, duration = execution.duration, error = execution.error, "rollout step {status}");
        }
        Event::RolloutAdvanced { fleet } => advanced(fleet),
        Event::Unread { records: [] } => {}
        Event::Unread { records } => {
            warn!("records of the store are damaged or of a newer version, and left out here: {}", records.join(", "));
        }
        Event::TrafficSwitched { switch: Switch { name, from, to, .. } } => {
            info!(instanceName = name, from = from.as_str(), to = to.as_str(), "traffic moved");
        }
        Event::RolloutTroubled { trouble } => warn!("{trouble}"),
        Event::RolloutStepped { message } => info!("{message}"),
        Event::Journaled { instance, recreation } => {
            let step = recreation.step.into_str();
            let replacement = recreation.step.replacement().map(InstanceId::as_str);
            let name = recreation.instance_name.as_str();
            let error = recreation.last_error.as_deref();
            debug!(instanceId = instance.as_str(), instanceName = name, replacement, error, "recreation {step}");
        }
        Event::Wrote { job_id, write } => wrote(job_id, write),
        Event::MemoryLost { replacements: None } => warn!(
            "the store has lost a part of its memory: cooldowns and open recreations may be forgotten; \
             a Redis keeps it with maxmemory-policy noeviction"
        ),
        Event::MemoryLost { replacements: Some(replacements) } => warn!(
            replacements,
            "the store is empty, but passes made some of these instances: its memory was lost, or this is another store; \
             cooldowns and open recreations are forgotten"
        ),
        Event::IdlePattern { pattern } => {
            warn!(
                "the pattern {pattern:?} matches no instance; an ID is not that of a replacement, whose name begins with the old name"
            );
        }
        Event::NotRecorded { instance, error } => {
            warn!(%instance, error, "what it is made of could not be recorded; the next pass tries again");
        }
        Event::Registered { instance, group } => {
            info!(%instance, group, "registered in the target group of what it replaces");
        }
        Event::NotRegistered { instance: Some(instance), group, error } => {
            warn!(%instance, group, error, "not registered in the target group of what it replaces; the next pass tries again");
        }
        Event::NotRegistered { instance: None, group, error } => {
            warn!(group, error, "the target group could not be read: no replacement is registered in it in this pass");
        }
        Event::OffersUnread { error } => {
            warn!(error, "the places on offer could not be read, and some of them may be missing in this pass");
        }
        Event::IdlePlace { pattern } => {
            warn!("RESPOT_PLACES: {pattern:?} matches no cluster that has the products of this pass's replacements");
        }
        Event::ReceiverGone { count } => {
            warn!(count, "events were given up: the receiver answered 410, it is gone; correct or remove WEBHOOK_URL");
        }
        Event::Undelivered { count, error } => {
            warn!(count, error, "events were not delivered: a later pass will retry");
        }
        Event::GivenUp(event) => {
            let (id, error) = (event.id.as_str(), event.last_error.as_deref());
            warn!(eventId = id, event = event.event, attempts = event.attempts, error, "event given up");
        }
        Event::PassedOver { record } => warn!(record, "removed a corrupt record"),
        Event::NotReleased { error } => warn!(error, "failed to release the lease: it expires on its own"),
        Event::NotTold { setting, error } => warn!(setting, error, "notification failed"),
        Event::RoundEnded { down } => info!(down, "reclaimed instances are down: looking again in a minute"),
        Event::RoundFailed { error } => warn!(error, "could not look again: the next pass does"),
        Event::Awaiting { count } => debug!(count, "waiting for replacements to run"),
        Event::Listed { .. } | Event::ActionsBegin { .. } | Event::ActionsEnd => {}
    }
}

/// The progress of a rollout.
fn advanced(fleet: &Fleet) {
    let Rollout { id, state, stages, .. } = &fleet.rollout;
    let percent = state.stage().and_then(|stage| stages.get(stage)).map(|stage| stage.percent);
    let (ready, moved, failed) =
        (fleet.count(MemberState::Ready), fleet.count(MemberState::Moved), fleet.count(MemberState::Failed));
    macro_rules! line {
        ($macro:ident) => {
            $macro!(
                rolloutId = id,
                stage = percent,
                ready,
                moved,
                failed,
                reason = state.why(),
                "rollout {}",
                state.as_str()
            )
        };
    }
    match (state.end(), state.why()) {
        (_, Some(_)) => line!(warn),
        (_, None) => line!(info),
    }
}

/// A line of the audit trail, with its own target so that it can be shipped separately.
fn wrote(job_id: &str, write: &ProviderWrite) {
    let ProviderWrite {
        at,
        call,
        instance_id,
        instance_name,
        outcome,
        error_kind,
        error,
        new_instance_id,
        market,
        response_time,
    } = write;
    let (call, outcome) = (call.into_str(), outcome.into_str());
    info!(
        target: AUDIT,
        at = %at,
        jobId = job_id,
        instanceId = instance_id.as_str(),
        instanceName = instance_name,
        call,
        outcome,
        newInstanceId = new_instance_id.as_ref().map(InstanceId::as_str),
        market = market.as_ref().map(Place::key),
        responseTime = response_time,
        errorKind = error_kind.map(|kind| kind.into_str()),
        error,
        "{call} {outcome}"
    );
}

/// Logs a decision. Builds the sentence only if the line is written: a fleet may have 100 000 instances.
fn decided(instance: &Instance, decision: &Decision, policy: &Policy) {
    macro_rules! line {
        ($macro:ident, $level:ident, $message:literal) => {
            if tracing::enabled!(Level::$level) {
                let detail = decision.detail(instance, policy);
                let (id, name) = (instance.id.as_str(), instance.name.as_str());
                $macro!(instanceId = id, instanceName = name, reason = decision.reason(), detail, $message);
            }
        };
    }
    match (decision, &instance.status) {
        (Decision::Migrate { eligible: Eligible::NoPreviousMigration, .. }, _) => {
            line!(info, INFO, "no previous migration found: eligible");
        }
        (Decision::Migrate { eligible: Eligible::CooledDown { .. }, .. }, _) => {
            line!(info, INFO, "instance eligible for migration: time-based check passed");
        }
        (Decision::Migrate { eligible: Eligible::ReclaimedAgain { .. }, .. }, _) => {
            line!(info, INFO, "instance eligible for migration: reclaimed again");
        }
        (Decision::Skip(Skip::NoRoom { .. }), _) => line!(info, INFO, "no room for the instance"),
        (Decision::Skip(Skip::CoolingDown { .. }), _) => {
            line!(info, INFO, "instance not eligible for migration: insufficient time elapsed");
        }
        (Decision::Recreate(work), _) => match work.recreation.cause {
            Cause::Reclaimed => line!(info, INFO, "reclaimed: recreating the instance elsewhere"),
            Cause::Announced => line!(info, INFO, "reclaim announced: recreating the instance ahead"),
            Cause::Bridged => line!(info, INFO, "no room: creating an on-demand instance to stand in"),
            Cause::Returned => line!(info, INFO, "a market is steady: returning to spot"),
            Cause::JobFailed { .. } | Cause::Stalled { .. } | Cause::Found | Cause::Moved { .. } => {
                line!(info, INFO, "migration failed: recreating the instance");
            }
        },
        (Decision::Resume(_), _) => line!(info, INFO, "resuming recreation"),
        (Decision::Retire { .. }, _) => line!(warn, WARN, "instance is a duplicate"),
        (Decision::Skip(Skip::Waiting { rest: Rest::Quarantined { .. }, .. }), _) => {
            line!(warn, WARN, "instance in quarantine");
        }
        (Decision::Skip(Skip::NotExited { failed_job: Some(_) }), _) => {
            line!(warn, WARN, "migration failed, instance is stuck");
        }
        (Decision::Skip(Skip::UnreadableRecord { .. }), _) => line!(warn, WARN, "instance skipped"),
        (Decision::Skip(_), Status::Other(_)) => line!(info, INFO, "instance skipped"),
        (Decision::Skip(_), _) => line!(debug, DEBUG, "instance skipped"),
    }
}

/// The last line of a pass.
fn summary(execution: &crate::core::record::execution::Execution) {
    let Summary {
        total_instances: total,
        exited_instances: exited,
        eligible_instances: eligible,
        migrated_instances: migrated,
        recreated_instances: recreated,
        skipped_instances: skipped,
        error_count: errors,
        no_room_instances: no_room,
    } = execution.summary;
    let message = match execution.status {
        ExecutionStatus::Completed | ExecutionStatus::Partial => "Migration job completed",
        ExecutionStatus::Failed => "Migration job failed",
        ExecutionStatus::Timeout => "Migration job reached its deadline",
        ExecutionStatus::Interrupted => "Migration job was interrupted",
        ExecutionStatus::Running => "Migration job is running",
    };
    macro_rules! line {
        ($macro:ident) => {
            $macro!(
                jobId = execution.job_id,
                status = execution.status.into_str(),
                dryRun = execution.dry_run,
                duration = execution.duration,
                summary.totalInstances = total,
                summary.exitedInstances = exited,
                summary.eligibleInstances = eligible,
                summary.migratedInstances = migrated,
                summary.recreatedInstances = recreated,
                summary.skippedInstances = skipped,
                summary.errorCount = errors,
                summary.noRoomInstances = no_room,
                "{message}"
            )
        };
    }
    match execution.status {
        ExecutionStatus::Completed | ExecutionStatus::Running => line!(info),
        ExecutionStatus::Partial
        | ExecutionStatus::Failed
        | ExecutionStatus::Timeout
        | ExecutionStatus::Interrupted => line!(warn),
    }
}

/// Writes an event as one line, with every value made safe for a terminal.
struct LineFormat {
    format: Format,
    color: bool,
    clock: Clock,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, values } = fields;
        let level = *event.metadata().level();
        let now = self.clock.machine_now().to_string();
        match self.format {
            Format::Json => {
                let head = [("timestamp", now), ("level", level.as_str().to_ascii_lowercase()), ("message", message)];
                let target = Some(event.metadata().target()).filter(|target| *target == AUDIT);
                let head = head.into_iter().chain(target.map(|target| ("target", target.to_owned())));
                let head = head.map(|(name, text)| (name, Value::String(text)));
                writeln!(writer, "{}", object(head.chain(values)))
            }
            Format::Text => {
                let (color, reset) = if self.color { (color_of(level), "\u{1b}[0m") } else { ("", "") };
                write!(writer, "{now} {color}{level:<5}{reset} {}", text::visible(&message))?;
                for (name, value) in values {
                    let shown = match value {
                        Value::String(value) if !value.is_empty() && !value.contains([' ', '"', '=']) => value,
                        Value::String(value) => format!("{value:?}"),
                        other => other.to_string(),
                    };
                    write!(writer, " {}={}", name.strip_prefix("summary.").unwrap_or(name), text::visible(&shown))?;
                }
                writeln!(writer)
            }
        }
    }
}

fn color_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG | Level::TRACE => "\u{1b}[2m",
    }
}

/// An object on one line. Fields keep their order, so that time and message come first for human readers; fields named
/// `a.b` become fields `b` of an object `a`.
fn object(fields: impl Iterator<Item = (&'static str, Value)>) -> String {
    let (mut line, mut inside) = (String::from("{"), None);
    for (name, value) in fields {
        let (outer, name) = name.split_once('.').map_or((None, name), |(outer, name)| (Some(outer), name));
        if inside.is_some() && inside != outer {
            line.push('}');
        }
        if !line.ends_with('{') {
            line.push(',');
        }
        if let Some(outer) = outer.filter(|outer| inside != Some(*outer)) {
            let _ = write!(line, "{}:{{", Value::from(outer));
        }
        let _ = write!(line, "{}:{value}", Value::from(name));
        inside = outer;
    }
    if inside.is_some() {
        line.push('}');
    }
    line.push('}');
    text::escape_json(&line)
}

/// A failure that ends the program, as a JSON log line.
#[must_use]
pub(super) fn failure_line(message: &str, hint: Option<&str>, now: Timestamp) -> String {
    let hint = hint.map(|hint| ("hint", Value::from(hint)));
    let head = [("timestamp", now.to_string().into()), ("level", "error".into()), ("message", message.into())];
    object(head.into_iter().chain(hint))
}

#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => self.values.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_machines_nest_and_keep_their_order() {
        let rows: &[(&[(&'static str, Value)], &str)] = &[
            (&[], "{}"),
            (&[("z", 1.into()), ("a", "x\u{9b}".into())], "{\"z\":1,\"a\":\"x\\u009b\"}"),
            (&[("s.a", 1.into()), ("s.b", 2.into())], "{\"s\":{\"a\":1,\"b\":2}}"),
            (
                &[("m", "t".into()), ("s.a", 1.into()), ("t.b", 2.into()), ("n", Value::Null)],
                "{\"m\":\"t\",\"s\":{\"a\":1},\"t\":{\"b\":2},\"n\":null}",
            ),
        ];
        for (fields, line) in rows {
            assert_eq!(object(fields.iter().cloned()), *line);
            assert!(serde_json::from_str::<Value>(line).is_ok());
        }
    }
}
