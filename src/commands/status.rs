//! `status`: the state of the service, from what is stored. Its figures are put together here, also for metrics.

use super::{Exit, Failure, Presentation, Printed};
use crate::cli::OutputFormat;
use crate::core::pass::bridge;
use crate::core::pass::ledger::Observation;
use crate::core::pass::spell::ALL_TIME;
use crate::core::record::advice::{self, Facts, advice};
use crate::core::record::downtime::{DownInstance, WINDOWS, recovery, storm};
use crate::core::record::execution::Execution;
use crate::core::record::health::{self, FleetTroubles, Health, LeftOver, RECENT};
use crate::core::record::indicators::{Indicators, LOOK_BACK, hours};
use crate::core::recreation::journal::ENDED_LIFE;
use crate::core::rollout::course::RolloutEnd;
use crate::core::world::instance::InstanceId;
use crate::core::world::policy::Policy;
use crate::core::world::time::{Timestamp, millis};
use crate::report::figures::Figures;
use crate::report::markets::rows;
use crate::report::{Event, Reporter, human, json, prometheus};
use crate::settings::Settings;
use crate::store::StoreRead;
use crate::store::records::{self, Overview, Selection};

/// Whether it is on schedule, healthy and why not, what is under way, how well the last day went, what to do next.
///
/// # Errors
/// Exit code 4.
pub async fn status<S: StoreRead>(
    store: &S,
    settings: &Settings,
    check: bool,
    (now, show, reporter): (Timestamp, Presentation, &dyn Reporter),
) -> Result<Printed, Failure> {
    let overview = records::overview(store, &selection(now), now).await?;
    reporter.event(Event::Unread { records: &overview.unread });
    let figures = figures(&overview, settings, now);
    let document = match show.format {
        Some(OutputFormat::Json) => json::document(&figures.document),
        Some(OutputFormat::Prometheus) => prometheus::text(&figures),
        // A probe wants the exit code alone.
        _ if check && show.quiet => String::new(),
        Some(OutputFormat::Table | OutputFormat::Csv) | None => human::status(show.screen, &figures, &store.label()),
    };
    let healthy = figures.diagnosis.health == Health::Healthy;
    let exit = if check && !healthy { Exit::ActionsFailed } else { Exit::Done };
    Ok(Printed { exit, document: document.into() })
}

/// The passes that [`figures`] wants to know.
#[must_use]
pub fn selection(now: Timestamp) -> Selection {
    Selection { limit: RECENT, at_least_since: Some(now - LOOK_BACK), ..Selection::default() }
}

/// What no pass brings in order.
fn left_over(overview: &Overview, policy: &Policy, now: Timestamp) -> Option<LeftOver> {
    let state = overview.rollout.as_ref().map(|fleet| &fleet.rollout.state);
    let failed = state.filter(|it| it.end() == Some(RolloutEnd::Failed) && now.since(it.since()) < ENDED_LIFE);
    let (spent, standing) = bridge::today(&overview.bridges, now);
    let is_over = standing > 0 && spent > policy.bridge.per_day && policy.bridge.is_on();
    let overdue = overview.rollout.as_ref().and_then(|fleet| fleet.overdue(now));
    let known = [
        overdue.map(|_| LeftOver::OverdueRollout),
        failed.map(|_| LeftOver::FailedRollout),
        (overview.lost_moves > 0).then_some(LeftOver::LostRollout),
    ];
    known.into_iter().flatten().next().or(is_over.then_some(LeftOver::OverBudget))
}

/// The state of the service, from an overview of the passes of [`selection`].
#[must_use]
pub fn figures<'a>(overview: &'a Overview, settings: &Settings, now: Timestamp) -> Figures<'a> {
    let Overview { executions: passes, total: _, totals, in_flight, rollout, recreations, outbox, .. } = overview;
    let Overview { down, ended_spells, days, markets, bridges, notices, .. } = overview;
    let Settings { enabled, interval, ref policy, .. } = *settings;
    let last = passes.first().map(|it| &it.execution);
    let recent: Vec<Execution> = passes.iter().take(RECENT).map(|it| it.execution.clone()).collect();
    let quarantined = recreations.iter().filter(|(_, it)| it.quarantined_until(now).is_some()).count();
    let overdue: Vec<&InstanceId> = advice::overdue(recreations, now).collect();
    let left_over = left_over(overview, policy, now);
    let lost = advice::lost(passes).count();
    let troubles = FleetTroubles { down, quarantined, overdue: &overdue, lost, left_over };
    let diagnosis = health::diagnose(enabled, interval, &recent, troubles, now);
    let recovery = WINDOWS.map(|window| recovery(down, ended_spells, days, window, now));
    let (diagnosed, month) = (&diagnosis, &recovery[2]);
    let facts = Facts {
        diagnosis: diagnosed,
        interval,
        passes,
        recreations,
        outbox,
        down,
        recovery: month,
        days,
        policy,
        left_over,
    };
    let advice = advice(&facts, now);
    // As of the last look: what went down since is not known yet.
    let standing = notices.iter().filter(|seen| seen.down_seen_at.is_none() && seen.believed_end() > now);
    let mut announced: Vec<Timestamp> = standing.map(Observation::believed_end).collect();
    announced.sort_unstable();
    let document = json::StatusDocument {
        enabled,
        last_execution: last,
        statistics: totals.statistics(),
        config: config_part(settings),
        migration_service: json::ServicePart::new(enabled, last, &diagnosis),
        in_flight: json::InFlightPart::default(),
        recovery: json::RecoveryPart {
            figures: recovery[2].clone(),
            down: down.iter().map(|(id, spell)| DownInstance::new(id, spell, now)).collect(),
            windows: recovery.clone(),
        },
        markets: rows(markets, policy.placing.reclaim_cost, now),
        bridges: json::BridgesPart::new(bridges, &policy.bridge, now),
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
        rollout: rollout.as_ref(),
        markets,
        announced,
        notice: policy.notice,
        bridge: policy.bridge,
        down,
        storm: storm(down, ended_spells, now),
        downtime: days.get(ALL_TIME),
        recovery,
    };
    // What is quarantined, or ended without a successor, is not in flight: it waits for time or for a person.
    figures.document.in_flight = json::InFlightPart {
        migrations: *in_flight,
        recreations: figures.open().count(),
        rollout: rollout.as_ref().filter(|it| it.rollout.state.end().is_none()).map(|it| it.report(now)),
        quarantined,
        undelivered_events: outbox.len(),
    };
    figures
}

fn config_part(settings: &Settings) -> json::ConfigPart {
    let Settings { interval, job_timeout, max_concurrent, rehearsal, retry_failed, policy, .. } = settings;
    json::ConfigPart {
        provider: settings.provider.into_str(),
        account: settings.account.clone(),
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
