//! `markets`: where there is room, as far as the store remembers. Sends no request.

use super::{Exit, Failure, Printed, Session};
use crate::report::markets::{MarketsDocument, rows};
use crate::report::{Event, human, json};
use crate::store::records;

/// The command.
///
/// # Errors
/// Exit codes 2 and 4.
pub async fn command(session: &Session<'_>) -> Result<Printed, Failure> {
    let Session { settings, clock, show, .. } = *session;
    let now = clock.now();
    let (markets, unread) = records::markets(&session.open_to_read().await?, now).await?;
    session.reporter.event(Event::Unread { records: &unread });
    let reclaim_cost = settings.policy.placing.reclaim_cost;
    let document = if show.json() {
        json::document(&MarketsDocument { markets: rows(&markets, reclaim_cost, now) })
    } else {
        human::markets(show.screen, &markets, reclaim_cost, now)
    };
    Ok(Printed { exit: Exit::Done, document: document.into() })
}
