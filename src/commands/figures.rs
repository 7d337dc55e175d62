//! The state of the service from what is stored: the one place where its figures are put together.

use crate::core::record::advice::{Facts, advice};
use crate::core::record::execution::Execution;
use crate::core::record::health::{self, RECENT};
use crate::core::record::indicators::{Indicators, LOOK_BACK, hours};
use crate::core::world::time::{Timestamp, millis};
use crate::report::figures::Figures;
use crate::report::json;
use crate::settings::Settings;
use crate::store::records::{Overview, Selection};

/// The passes that [`figures`] wants to know.
#[must_use]
pub fn selection(now: Timestamp) -> Selection {
    Selection { limit: RECENT, at_least_since: Some(now - LOOK_BACK), ..Selection::default() }
}

/// The state of the service, from an overview of the passes of [`selection`].
#[must_use]
pub fn figures<'a>(overview: &'a Overview, settings: &Settings, now: Timestamp) -> Figures<'a> {
    let Overview { executions: passes, total: _, totals, in_flight, rollout, recreations, outbox } = overview;
    let Settings { enabled, interval, .. } = *settings;
    let last = passes.first().map(|it| &it.execution);
    let recent: Vec<Execution> = passes.iter().take(RECENT).map(|it| it.execution.clone()).collect();
    let diagnosis = health::diagnose(enabled, interval, &recent, now);
    let advice = advice(&Facts { diagnosis: &diagnosis, interval, passes, recreations, outbox }, now);
    let document = json::StatusDocument {
        enabled,
        last_execution: last,
        statistics: totals.statistics(),
        config: config_part(settings),
        migration_service: json::ServicePart::new(enabled, last, &diagnosis),
        in_flight: json::InFlightPart::default(),
    };
    let mut figures = Figures {
        now,
        document,
        diagnosis,
        passes,
        totals: *totals,
        recreations,
        outbox,
        indicators: Indicators::of(passes, enabled.then_some(interval), now),
        hours: hours(passes, now),
        advice,
    };
    // What is quarantined, or ended without a successor, is not in flight: it waits for time or for a person.
    figures.document.in_flight = json::InFlightPart {
        migrations: *in_flight,
        recreations: figures.open().count(),
        rollout: rollout.as_ref().filter(|it| it.rollout.state.end().is_none()).map(|it| it.report(now)),
        quarantined: figures.quarantined().count(),
        undelivered_events: outbox.len(),
    };
    figures
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
        eligibility: policy.eligibility.into_str(),
        scope: policy.scope.into_str(),
    }
}

#[cfg(test)]
mod tests;
