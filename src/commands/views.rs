//! Looking back: `history` and `status`. They hold no writer and need no key.

use std::time::Duration;

use super::{Exit, Failure, Output, Presentation};
use crate::cli::HistoryArgs;
use crate::core::model::{Timestamp, millis};
use crate::core::summary::{self, Execution, Health, RECENT};
use crate::report::{human, json};
use crate::settings::Settings;
use crate::store::StoreRead;
use crate::store::records::{self, Overview, Selection};

/// Past passes, newest first.
///
/// # Errors
/// Exit code 4.
pub async fn history<S: StoreRead>(
    store: &S,
    args: &HistoryArgs,
    now: Timestamp,
    show: Presentation,
) -> Result<Output, Failure> {
    let HistoryArgs { limit, offset, since, instance } = args;
    let since = since.map(|since| now - Duration::from(since));
    let selection = Selection { limit: *limit, offset: *offset, since, instance: instance.clone() };
    let Overview { executions, total, .. } = records::overview(store, &selection).await?;
    let document = if show.json() {
        json::document(&json::HistoryDocument { executions: &executions, total, limit: *limit, offset: *offset })
    } else {
        human::history(show.screen, &executions, total, *offset, now)
    };
    Ok(Output { exit: Exit::Done, document })
}

/// Health, last and next pass, statistics, what is in flight.
///
/// # Errors
/// Exit code 4.
pub async fn status<S: StoreRead>(
    store: &S,
    settings: &Settings,
    check: bool,
    now: Timestamp,
    show: Presentation,
) -> Result<Output, Failure> {
    let selection = Selection { limit: RECENT, ..Selection::default() };
    let overview = records::overview(store, &selection).await?;
    let executions: Vec<Execution> = overview.executions.iter().map(|recorded| recorded.execution.clone()).collect();
    let last = executions.first();
    let diagnosis = summary::diagnose(settings.enabled, settings.interval, &executions, now);
    let status = json::StatusDocument {
        enabled: settings.enabled,
        last_execution: last,
        statistics: overview.totals.statistics(),
        config: config_part(settings),
        migration_service: json::ServicePart::new(settings.enabled, last, &diagnosis),
        in_flight: in_flight(&overview, now),
    };
    let document = if show.json() {
        json::document(&status)
    } else {
        human::status(
            show.screen,
            &status,
            &diagnosis.why,
            &overview.recreations,
            &overview.totals,
            &store.label(),
            now,
        )
    };
    let exit = if check && diagnosis.health != Health::Healthy { Exit::ActionsFailed } else { Exit::Done };
    Ok(Output { exit, document })
}

/// What is quarantined, or ended without a successor, is not in flight: it waits for time or for a person.
fn in_flight(overview: &Overview, now: Timestamp) -> json::InFlightPart {
    let quarantined = overview.recreations.iter().filter(|(_, it)| it.quarantined_until(now).is_some()).count();
    let over = overview.recreations.iter().filter(|(_, it)| it.step.is_over()).count();
    json::InFlightPart {
        migrations: overview.in_flight,
        recreations: overview.recreations.len() - quarantined - over,
        quarantined,
        ..json::InFlightPart::default()
    }
}

fn config_part(settings: &Settings) -> json::ConfigPart {
    let Settings { interval, job_timeout, max_concurrent, rehearsal, retry_failed, policy, .. } = settings;
    json::ConfigPart {
        interval_minutes: interval.as_secs() / 60,
        job_timeout_ms: millis(*job_timeout),
        max_concurrent: *max_concurrent,
        dry_run: *rehearsal,
        retry_failed: *retry_failed,
        eligibility_interval_hours: policy.cooldown.as_secs() / 3600,
        eligibility: policy.eligibility.as_str(),
        scope: policy.scope.as_str(),
    }
}
