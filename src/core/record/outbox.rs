//! Events: what is sent to the receiver of webhooks (`docs/reference.md`), and those on their way to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::record::execution::{Execution, Summary};
use crate::core::recreation::journal::{Cause, Recreation};
use crate::core::recreation::marker::hash;
use crate::core::rollout::report::Report;
use crate::core::world::headers::LONGEST_WAIT;
use crate::core::world::instance::{Instance, InstanceId, ReclaimNotice};
use crate::core::world::policy::Scope;
use crate::core::world::probe::Connections;
use crate::core::world::time::{Timestamp, any_time_if_any, millis};

/// An event that no receiver took by then is given up (`docs/reference.md`).
pub const EVENT_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);

/// How many events wait at most; of more, the oldest are given up.
pub const EVENTS_KEPT: usize = 5000;

/// Every event with its meaning, in the order of `docs/reference.md`.
pub const EVENTS: &[(&str, &str)] = &[
    ("instance.migrated", "an instance that respot migrated is running again"),
    ("instance.recreated", "a replacement is running, and the old instance is gone"),
    ("instance.bridged", "no market has room: an on-demand instance stands in, and the old one is gone"),
    ("instance.returned", "the instance is back on spot, and the on-demand one that stood in is gone"),
    (
        "instance.migration_failed",
        "a migration failed or is stuck, also one that respot did not request; once per failure",
    ),
    ("instance.lost", "an instance that was down, or to be reclaimed, is gone and has no successor"),
    ("instance.reclaim_notified", "the provider announced that it will reclaim an instance; once for each reclaim"),
    ("rollout.advanced", "a rollout started, reached the next stage, is held, or started to roll back"),
    ("rollout.rolled_back", "a rollout has ended and rolled back; the event names what could not be put back"),
    ("rollout.completed", "a rollout has finished, and every stage passed"),
    ("pass.failed", "a pass failed, reached its deadline, was stopped or was killed"),
    ("test", "sent by `respot doctor --send-test-event`; nothing happened"),
];

fn recreated_as(cause: &Cause) -> &'static str {
    match cause {
        Cause::Bridged => "instance.bridged",
        Cause::Returned => "instance.returned",
        _ => "instance.recreated",
    }
}

/// An event that waits for a receiver to take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outgoing {
    /// The same for every delivery of it, so that a receiver knows it again. Sorts by time.
    pub id: String,
    /// What happened: `instance.migrated` and so on.
    pub event: String,
    pub at: Timestamp,
    /// What is sent, as it is signed.
    pub body: String,
    /// How often it was sent in vain.
    pub attempts: u32,
    /// Why the last delivery failed.
    pub last_error: Option<String>,
    /// The receiver asked to be left alone until then.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "any_time_if_any")]
    pub not_before: Option<Timestamp>,
}

impl Outgoing {
    /// Whether it is too old to be of use.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.since(self.at) >= EVENT_LIFE
    }

    /// Whether its receiver asked to be left alone for longer. A time further ahead than any that is asked for is not
    /// believed.
    #[must_use]
    pub fn is_early(&self, now: Timestamp) -> bool {
        self.not_before.is_some_and(|at| at > now && at.since(now) <= LONGEST_WAIT)
    }
}

/// An event. Its JSON is documented in `docs/reference.md`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Happened<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<&'a InstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_instance_id: Option<&'a InstanceId>,
    status: &'a str,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    migration: Option<MigrationPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reclaim: Option<&'a ReclaimNotice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<InstancePart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<PassPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<&'a Report<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MigrationPart<'a> {
    reason: &'static str,
    triggered_by: &'static str,
    migration_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reclaim_announced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl MigrationPart<'_> {
    /// Spot instances are taken back; what is not one ended in some other way.
    fn of(instance: &Instance) -> Self {
        let reason = if Scope::Spot.covers(&instance.billing) { "spot_reclaim" } else { "exited" };
        Self { reason, triggered_by: TRIGGER, migration_time: None, reclaim_announced: None, error: None }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InstancePart<'a> {
    id: &'a InstanceId,
    name: &'a str,
    connection_details: Connections,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PassPart<'a> {
    job_id: &'a str,
    started_at: Timestamp,
    duration: Option<i64>,
    dry_run: bool,
    error: Option<&'a str>,
    summary: &'a Summary,
}

impl<'a> Happened<'a> {
    /// A migration that respot asked for at `called_at` is over: the instance runs again.
    #[must_use]
    pub fn migrated(
        instance: &'a Instance,
        called_at: Timestamp,
        announced: bool,
        reachable: Connections,
        now: Timestamp,
    ) -> Self {
        let migration = MigrationPart {
            migration_time: Some(millis(now.since(called_at))),
            reclaim_announced: Some(announced),
            ..MigrationPart::of(instance)
        };
        let part = InstancePart { id: &instance.id, name: &instance.name, connection_details: reachable, notes: &[] };
        Self { instance: Some(part), migration: Some(migration), ..Self::about("instance.migrated", instance, now) }
    }

    /// An instance was recreated.
    #[must_use]
    pub fn recreated(
        old: &'a InstanceId,
        new: &'a InstanceId,
        recreation: &'a Recreation,
        reachable: Connections,
        now: Timestamp,
    ) -> Self {
        let reason = match recreation.cause {
            Cause::JobFailed { .. } | Cause::Found => "migration_failed",
            Cause::Stalled { .. } => "migration_stuck",
            Cause::Reclaimed => "spot_reclaim",
            Cause::Announced => "reclaim_announced",
            Cause::Bridged => "bridge",
            Cause::Returned => "return_to_spot",
            Cause::Moved { .. } => "rollout",
        };
        let migration = MigrationPart {
            reason,
            triggered_by: TRIGGER,
            migration_time: Some(millis(now.since(recreation.opened_at))),
            reclaim_announced: None,
            error: None,
        };
        let Recreation { marker: name, notes, .. } = recreation;
        let part = InstancePart { id: new, name, connection_details: reachable, notes };
        Self {
            instance_id: Some(new),
            original_instance_id: Some(old),
            migration: Some(migration),
            instance: Some(part),
            ..Self::of(recreated_as(&recreation.cause), "running", now)
        }
    }

    /// A migration failed, or hangs, whether respot or a person started it.
    #[must_use]
    pub fn migration_failed(instance: &'a Instance, error: Option<&'a str>, now: Timestamp) -> Self {
        let migration = MigrationPart { error, ..MigrationPart::of(instance) };
        Self { migration: Some(migration), ..Self::about("instance.migration_failed", instance, now) }
    }

    /// An instance is gone without a successor. Its name is empty where nothing told it before.
    #[must_use]
    pub fn lost(id: &'a InstanceId, name: &'a str, now: Timestamp) -> Self {
        let part = InstancePart { id, name, connection_details: Connections::default(), notes: &[] };
        let (instance_id, original_instance_id, instance) = (Some(id), Some(id), Some(part));
        Self { instance_id, original_instance_id, instance, ..Self::of("instance.lost", "gone", now) }
    }

    /// The provider announces that it takes an instance back.
    #[must_use]
    pub fn reclaim_notified(instance: &'a Instance, notice: &'a ReclaimNotice, now: Timestamp) -> Self {
        Self { reclaim: Some(notice), ..Self::about("instance.reclaim_notified", instance, now) }
    }

    /// A pass could not do its work, or not all of it.
    #[must_use]
    pub fn pass_failed(execution: &'a Execution, now: Timestamp) -> Self {
        let Execution { job_id, status, started_at, completed_at: _, duration, dry_run, summary, error, error_kind: _ } =
            execution;
        let pass = PassPart {
            job_id,
            started_at: *started_at,
            duration: *duration,
            dry_run: *dry_run,
            error: error.as_deref(),
            summary,
        };
        Self { pass: Some(pass), ..Self::of("pass.failed", status.into_str(), now) }
    }

    /// A rollout is somewhere else than before.
    #[must_use]
    pub fn rollout(event: &'static str, report: &'a Report<'a>, now: Timestamp) -> Self {
        Self { rollout: Some(report), ..Self::of(event, report.state, now) }
    }

    /// Nothing happened: the operator wants to see an event arrive.
    #[must_use]
    pub fn test(now: Timestamp) -> Self {
        Self::of("test", "ok", now)
    }

    fn about(event: &'static str, instance: &'a Instance, now: Timestamp) -> Self {
        let part = InstancePart {
            id: &instance.id,
            name: &instance.name,
            connection_details: Connections::default(),
            notes: &[],
        };
        Self {
            instance_id: Some(&instance.id),
            original_instance_id: Some(&instance.id),
            instance: Some(part),
            ..Self::of(event, instance.status.as_str(), now)
        }
    }

    fn of(event: &'static str, status: &'a str, timestamp: Timestamp) -> Self {
        Self {
            event,
            instance_id: None,
            original_instance_id: None,
            status,
            timestamp,
            migration: None,
            reclaim: None,
            instance: None,
            pass: None,
            rollout: None,
        }
    }

    /// Ready to be sent under an id that nothing else has.
    #[must_use]
    pub fn outgoing(&self, id: String) -> Outgoing {
        #[expect(clippy::expect_used, reason = "a plain struct with string keys, which always serialises")]
        let body = serde_json::to_string(self).expect("events serialise");
        Outgoing {
            id,
            event: self.event.into(),
            at: self.timestamp,
            body,
            attempts: 0,
            last_error: None,
            not_before: None,
        }
    }
}

/// The id of the event that tells of a reclaim notice. It follows from the notice, so that a pass and a rehearsal beside
/// it, each with a lease of its own, tell what both see as one event.
#[must_use]
pub fn announcement_id(instance: &InstanceId, notice: &ReclaimNotice) -> String {
    let ReclaimNotice { spot_status, reclaim_at } = notice;
    let millis = u64::try_from(reclaim_at.as_millis()).unwrap_or(0);
    let chance = hash(&["announced", instance.as_str(), spot_status]);
    format!("evt_{}", ulid::Ulid::from_parts(millis, chance.into()))
}

/// What sets a migration off.
const TRIGGER: &str = "automatic_migration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recreation_says_what_it_was_for() {
        let then = Timestamp::from_secs(1_700_000_000);
        let failed = Cause::JobFailed { job: crate::core::world::instance::JobId::new("j"), error: None };
        for (cause, reason) in [
            (failed, "migration_failed"),
            (Cause::Stalled { since: then }, "migration_stuck"),
            (Cause::Found, "migration_failed"),
        ] {
            let recreation = Recreation::planned("old", cause, "old-recreated-x".into(), then);
            let (old, new) = (InstanceId::new("old"), InstanceId::new("new"));
            let now = then + Duration::from_secs(45);
            let body =
                Happened::recreated(&old, &new, &recreation, Connections::default(), now).outgoing("e".into()).body;
            let wanted = format!(
                r#""migration":{{"reason":"{reason}","triggeredBy":"automatic_migration","migrationTime":45000}}"#
            );
            assert!(body.contains(&wanted), "{body}");
        }
    }
}
