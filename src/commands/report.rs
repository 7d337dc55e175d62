//! `report`: how much of a span of time the fleet was up, what was lost and why, and what it cost. Reads the store alone.

use std::time::Duration;

use super::{Exit, Failure, Printed, Session};
use crate::cli::{OutputFormat, ReportArgs};
use crate::core::pass::spell::Spell;
use crate::core::record::uptime::{Remembered, Uptime};
use crate::core::world::instance::InstanceId;
use crate::report::uptime::{UptimeDocument, csv};
use crate::report::{human, json};
use crate::store::records::{self, Overview, Selection};

/// The command.
///
/// # Errors
/// Exit codes 2 and 4.
pub async fn command(session: &Session<'_>, args: &ReportArgs) -> Result<Printed, Failure> {
    let Session { clock, show, .. } = *session;
    let now = clock.now();
    let to = args.until.map_or(now, |until| until.min(now));
    let from = to - Duration::from(args.since);
    let Overview { down, ended_spells, days, .. } =
        records::overview(&session.open_to_read().await?, &Selection::default(), now).await?;
    let uptime = match &args.instance {
        Some(wanted) => {
            let is_of = |spell: &Spell| spell.name == *wanted || spell.ids.iter().any(|id| id.as_str() == wanted);
            let open: Vec<(InstanceId, Spell)> = down.into_iter().filter(|(_, spell)| is_of(spell)).collect();
            let ended: Vec<Spell> = ended_spells.into_iter().filter(is_of).collect();
            Uptime::of_one(Remembered { open: &open, ended: &ended, days: &days }, from, to)
        }
        None => Uptime::of(Remembered { open: &down, ended: &ended_spells, days: &days }, from, to),
    };
    let document = match show.format {
        Some(OutputFormat::Json) => json::document(&UptimeDocument::new(&uptime)),
        Some(OutputFormat::Csv) => csv(&uptime),
        Some(OutputFormat::Table | OutputFormat::Prometheus) | None => {
            human::uptime(show.screen, &uptime, args.instance.as_deref())
        }
    };
    Ok(Printed { exit: Exit::Done, document: document.into() })
}
