//! What `rollout` prints.

use super::Stepped;
use crate::commands::{Exit, Presentation, Printed};
use crate::core::world::time::Timestamp;
use crate::report::text::visible;
use crate::report::{human, json};

/// The document of one call. The next step, called from cron, prints one sentence next to the log lines; the screen is for
/// a terminal, or if requested.
#[must_use]
pub fn show(stepped: &Stepped, exit: Exit, now: Timestamp, show: Presentation, is_step: bool) -> Printed {
    let Stepped { fleet, attempts, message, due: _, worked: _, was_over: _ } = stepped;
    let document = if show.json() {
        json::document(&json::RolloutDocument {
            rollout: fleet.as_ref().map(|fleet| fleet.report(now)),
            next: fleet.as_ref().map(|fleet| fleet.next(now)),
            message,
            members: fleet.as_ref().map_or(&[], |fleet| &fleet.members),
            attempts,
        })
    } else if show.quiet {
        String::new()
    } else if is_step && !show.wants_table() {
        let why = fleet.as_ref().and_then(|fleet| fleet.rollout.state.why());
        why.into_iter().fold(format!("{}\n", visible(message)), |said, why| said + &visible(why) + "\n")
    } else {
        human::rollout(show.screen, fleet.as_ref(), attempts, message, now)
    };
    Printed { exit, document: document.into() }
}
