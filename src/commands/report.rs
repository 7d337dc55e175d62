//! `report`: how much of a span of time the fleet was up, what was lost and why, and what it cost. Reads the store alone.

use std::path::Path;
use std::time::Duration;

use super::{Exit, Failure, Printed, Session};
use crate::cli::{OutputFormat, ReportArgs};
use crate::core::pass::spell::Spell;
use crate::core::record::uptime::{Remembered, Uptime, lanes, reclaims_by_hour};
use crate::core::world::instance::InstanceId;
use crate::notify;
use crate::report::page::Page;
use crate::report::uptime::{UptimeDocument, csv};
use crate::report::{Event, human, json};
use crate::settings::SettingsError;
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
    let Overview { down, ended_spells, days, unread, .. } =
        records::overview(&session.open_to_read().await?, &Selection::default(), now).await?;
    session.reporter.event(Event::Unread { records: &unread });
    let (open, ended) = match &args.instance {
        Some(wanted) => {
            let is_of = |spell: &Spell| spell.name == *wanted || spell.ids.iter().any(|id| id.as_str() == wanted);
            let open: Vec<(InstanceId, Spell)> = down.into_iter().filter(|(_, spell)| is_of(spell)).collect();
            let ended: Vec<Spell> = ended_spells.into_iter().filter(is_of).collect();
            if open.is_empty() && ended.is_empty() {
                let hint = Some("name an instance that was down, by its name or ID: respot history".into());
                return Err(SettingsError { message: format!("no downtime of {wanted:?} is known"), hint }.into());
            }
            (open, ended)
        }
        None => (down, ended_spells),
    };
    let remembered = Remembered { open: &open, ended: &ended, days: &days };
    let uptime = match &args.instance {
        Some(_) => Uptime::of_one(remembered, from, to),
        None => Uptime::of(remembered, from, to),
    };
    if let Some(path) = &args.html {
        let lanes = lanes(remembered, from, to);
        let by_hour = reclaims_by_hour(&lanes, from);
        let page = Page { uptime: &uptime, lanes: &lanes, by_hour: &by_hour, of: args.instance.as_deref() };
        notify::replace(path, &page.render()).map_err(|error| unwritten(path, &error))?;
    }
    let document = match (show.format, &args.html) {
        (Some(OutputFormat::Json), _) => json::document(&UptimeDocument::new(&uptime)),
        (Some(OutputFormat::Csv), _) => csv(&uptime),
        (None, Some(path)) => format!("{}\n", path.display()),
        (Some(OutputFormat::Table | OutputFormat::Prometheus) | None, _) => {
            human::uptime(show.screen, &uptime, args.instance.as_deref())
        }
    };
    Ok(Printed { exit: Exit::Done, document: document.into() })
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure {
        exit: Exit::OutputLost,
        kind: "output",
        message: format!("cannot write {}: {error}", path.display()),
        hint: Some("name a file in a directory that exists and can be written".into()),
        error_kind: None,
    }
}
