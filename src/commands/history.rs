//! `history`: past passes, what they wrote to the provider, and the life of an instance.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Exit, Failure, Presentation, Printed};
use crate::cli::{DEFAULT_LIMIT, HistoryArgs, OutputFormat};
use crate::core::record::downtime::add_spells;
use crate::core::record::execution::Recorded;
use crate::core::record::life::{self, Life};
use crate::core::world::time::Timestamp;
use crate::report::{csv, human, json};
use crate::store::records::{self, Mode, Overview, Selection};
use crate::store::{StoreError, StoreRead};

/// Past passes, newest first; or the life of one instance.
///
/// # Errors
/// Exit code 4.
pub async fn history<S: StoreRead>(
    store: &S,
    args: &HistoryArgs,
    now: Timestamp,
    show: Presentation,
) -> Result<Printed, Failure> {
    let HistoryArgs { limit, offset, since: span, instance, writes } = args;
    let since = span.map(|since| now - Duration::from(since));
    let (limit, offset) = (*limit, *offset);
    let in_words = span.map(|since| since.to_string());
    if let Some(wanted) = instance {
        let (mut life, executions) = life_of(store, wanted, now).await?;
        life.events.retain(|event| since.is_none_or(|since| event.last_at.unwrap_or(event.at) >= since));
        let mut executions: Vec<Recorded> = executions
            .into_iter()
            .filter(|it| it.acted_on(&life.ids) && since.is_none_or(|since| it.execution.started_at >= since))
            .collect();
        let total = executions.len();
        executions = executions.into_iter().skip(offset).take(limit).collect();
        let document = match show.format {
            Some(OutputFormat::Json) => {
                let part = Some(json::LifePart { ids: &life.ids, life: &life.events });
                json::document(&json::HistoryDocument { executions: &executions, total, limit, offset, life: part })
            }
            Some(OutputFormat::Csv) => csv::events(&life.events),
            Some(OutputFormat::Table | OutputFormat::Prometheus) | None => {
                human::life(show.screen, &life, wanted, in_words.as_deref(), now)
            }
        };
        return Ok(Printed { exit: Exit::Done, document: document.into() });
    }
    let Overview { executions, total, .. } =
        records::overview(store, &Selection { limit, offset, since, ..Selection::default() }, now).await?;
    let command = again(args);
    let page = human::HistoryPage { offset, total, command: &command, since: in_words.as_deref() };
    let document = match (show.format, *writes) {
        (Some(OutputFormat::Json), _) => {
            json::document(&json::HistoryDocument { executions: &executions, total, limit, offset, life: None })
        }
        (Some(OutputFormat::Csv), false) => csv::passes(&executions),
        (Some(OutputFormat::Csv), true) => csv::events(&life::writes(&executions)),
        (Some(OutputFormat::Table | OutputFormat::Prometheus) | None, false) => {
            human::history(show.screen, &executions, page, now)
        }
        (Some(OutputFormat::Table | OutputFormat::Prometheus) | None, true) => {
            human::writes(show.screen, &life::writes(&executions), page, executions.len(), now)
        }
    };
    Ok(Printed { exit: Exit::Done, document: document.into() })
}

/// What is known of an instance by its id or name, and all executions, newest first: passes, and steps of rollouts,
/// which no other view lists.
///
/// # Errors
/// Exit code 4.
pub(super) async fn life_of<S: StoreRead>(
    store: &S,
    wanted: &str,
    now: Timestamp,
) -> Result<(Life, Vec<Recorded>), StoreError> {
    let everything = Selection { limit: usize::MAX, ..Selection::default() };
    let Overview { mut executions, down, ended_spells, .. } = records::overview(store, &everything, now).await?;
    executions.extend(records::rollout_steps(store).await?);
    executions.sort_by_key(|it| std::cmp::Reverse(it.execution.started_at));
    let (ledger, _) = records::ledger(store, &[], Mode::Real, now).await?;
    let mut life = life::life(&executions, &ledger, wanted);
    add_spells(&mut life, ended_spells.iter().chain(down.iter().map(|(_, spell)| spell)), wanted, now);
    Ok((life, executions))
}

/// The same command once more.
fn again(args: &HistoryArgs) -> String {
    let HistoryArgs { limit, offset: _, since, instance: _, writes } = args;
    let mut command = String::from("respot history");
    if *writes {
        command += " --writes";
    }
    if *limit != DEFAULT_LIMIT {
        let _ = write!(command, " --limit {limit}");
    }
    if let Some(since) = since {
        let since = since.to_string().replace(' ', "");
        let _ = write!(command, " --since {since}");
    }
    command
}
