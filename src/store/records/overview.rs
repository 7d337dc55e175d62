//! What `status` and `history` show: the passes asked for, and what stands beside them.

use super::super::{Query, StoreError, StoreRead};
use super::format::Decoder;
use super::{Mode, downtime, fleet, keys, markets, waiting};
use crate::core::pass::bridge::Bridges;
use crate::core::pass::ledger::Observation;
use crate::core::pass::market::Markets;
use crate::core::pass::spell::{Days, Spell};
use crate::core::record::execution::{ExecutionStatus, Recorded, Totals};
use crate::core::record::outbox::Outgoing;
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::rollout::course::Fleet;
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::core::world::times::TOLERATED_SKEW;

/// What `status` and `history` show.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// The executions asked for, newest first. One that is open without a lease is shown as interrupted.
    pub executions: Vec<Recorded>,
    /// How many there are, of which `executions` is a part.
    pub total: usize,
    /// Totals over all real passes.
    pub totals: Totals,
    /// Migrate calls whose end was not seen yet.
    pub in_flight: usize,
    /// The last rollout.
    pub rollout: Option<Fleet>,
    /// Recreations that are open, or ended without a successor, by the old instance; not those of rollouts.
    pub recreations: Vec<(InstanceId, Recreation)>,
    /// Moves that are open and belong to no rollout.
    pub lost_moves: usize,
    /// Events that no receiver took yet, oldest first.
    pub outbox: Vec<Outgoing>,
    /// What is down, the longest first.
    pub down: Vec<(InstanceId, Spell)>,
    /// What was down, oldest first.
    pub ended_spells: Vec<Spell>,
    pub days: Days,
    pub markets: Markets,
    pub bridges: Bridges,
    pub notices: Vec<Observation>,
    /// The maps of which records are damaged or of a newer format, with their number: the figures lack them.
    pub unread: Vec<String>,
}

/// Which executions to read.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub limit: usize,
    /// More than that, if it takes them to have all that began then or later, and the one before.
    pub at_least_since: Option<Timestamp>,
    /// Skip this many of the most recent.
    pub offset: usize,
    /// Only those that began then or later.
    pub since: Option<Timestamp>,
}

/// Reads executions, newest first, and the counts beside them.
///
/// # Errors
/// Any of the store's. Records of newer formats are read as far as they are understood.
pub async fn overview<S: StoreRead>(store: &S, selection: &Selection, now: Timestamp) -> Result<Overview, StoreError> {
    let decoder = Decoder::new(store, now);
    let texts = vec![keys::TOTALS.into(), keys::ROLLOUT.into(), Mode::Real.lease_key(), Mode::Rehearsal.lease_key()];
    let queries = [
        Query::Fields(keys::EXECUTIONS.into()),
        Query::Fields(keys::IN_FLIGHT.into()),
        Query::Map(keys::RECREATIONS.into()),
        Query::Map(keys::OUTBOX.into()),
        Query::Map(keys::ROLLOUT_MEMBERS.into()),
        Query::Values(texts),
        Query::Map(keys::SPELLS.into()),
        Query::Map(keys::DOWNTIME.into()),
        Query::Map(keys::DOWNTIME_DAYS.into()),
        Query::Map(keys::EXPOSURES.into()),
        Query::Map(keys::BRIDGES.into()),
        Query::Map(keys::OBSERVATIONS.into()),
    ];
    let mut answers = store.read(&queries).await?.into_iter();
    let mut ids = decoder.fields(answers.next())?;
    let in_flight = decoder.fields(answers.next())?.len();
    let mut recreations: Vec<(InstanceId, Recreation)> = decoder.records(keys::RECREATIONS, answers.next())?;
    let moves = recreations.iter().filter(|(_, it)| it.is_move() && !it.step.is_over()).count();
    recreations.retain(|(_, recreation)| !matches!(recreation.step, Step::Closed { .. }) && !recreation.is_move());
    recreations.sort_by(|a, b| (a.1.opened_at, &a.0).cmp(&(b.1.opened_at, &b.0)));
    let outbox = waiting(&decoder, answers.next())?.waiting;
    let members = answers.next();
    let mut found = decoder.values(answers.next())?.into_iter();
    let totals = match found.next().flatten() {
        Some(text) => decoder.decode_leniently(keys::TOTALS, &text)?,
        None => Totals::default(),
    };
    let rollout = fleet(&decoder, found.next().flatten(), members)?;
    let is_open = rollout.as_ref().is_some_and(|fleet| fleet.rollout.state.end().is_none());
    let lost_moves = if is_open { 0 } else { moves };
    let holders: Vec<String> = found.flatten().collect();
    let (down, ended_spells, days) = downtime::shown(&decoder, &mut answers)?;
    let (markets, bridges, notices) = markets::shown(&decoder, &mut answers)?;
    let unread = decoder.unread();
    let shown =
        Overview { unread, lost_moves, down, ended_spells, days, markets, bridges, notices, ..Overview::default() };

    // Ids sort by time, so the newest page can be chosen before anything is read. When a pass ran whose clock was wrong is
    // not known: it comes last.
    let is_ahead = |id: &String| began_since(id, now + TOLERATED_SKEW);
    ids.sort_unstable_by(|a, b| is_ahead(a).cmp(&is_ahead(b)).then(b.cmp(a)));
    let Selection { limit, at_least_since, offset, since } = selection;
    let young = at_least_since.map_or(0, |since| 1 + ids.iter().take_while(|id| began_since(id, since)).count());
    let limit = &(*limit).max(young);
    let wanted = if since.is_some() { ids.clone() } else { ids.iter().skip(*offset).take(*limit).cloned().collect() };
    let mut executions = Vec::with_capacity(wanted.len());
    if !wanted.is_empty() {
        let queries = [Query::MapValues { map: keys::EXECUTIONS.into(), fields: wanted }];
        let texts = decoder.values(store.read(&queries).await?.into_iter().next())?;
        // The record of a pass says what its clock showed.
        let past = Decoder::new(store, Timestamp::LATEST);
        for text in texts.into_iter().flatten() {
            executions.push(past.decode_leniently::<Recorded>(keys::EXECUTIONS, &text)?);
        }
    }
    let mut total = ids.len();
    if let Some(since) = since {
        executions.retain(|it| it.execution.started_at >= *since);
        total = executions.len();
        executions = executions.into_iter().skip(*offset).take(*limit).collect();
    }
    for Recorded { execution, .. } in &mut executions {
        if execution.status == ExecutionStatus::Running && !holders.contains(&execution.job_id) {
            execution.status = ExecutionStatus::Interrupted;
        }
    }
    Ok(Overview { executions, total, totals, in_flight, rollout, recreations, outbox, ..shown })
}

/// Whether the id of an execution, which begins with a time, says that it began then or later.
fn began_since(job_id: &str, since: Timestamp) -> bool {
    let ulid = job_id.rsplit('-').next().and_then(|id| ulid::Ulid::from_string(id).ok());
    ulid.is_none_or(|ulid| i64::try_from(ulid.timestamp_ms()).is_ok_and(|millis| millis >= since.as_millis()))
}
