//! `report`: how much of a span of time the fleet was up, what was lost and why, and what it cost. Reads the store alone, and with `--invoice`
//! the provider's bill.

use std::path::Path;
use std::time::Duration;

use super::observe::unless_stopped;
use super::{Exit, Failure, Printed, Session};
use crate::cli::{OutputFormat, ReportArgs};
use crate::cloud::CloudRead as _;
use crate::core::pass::spell::{Spell, day_of};
use crate::core::pass::usage::InstanceDays;
use crate::core::record::invoice::Invoice;
use crate::core::record::uptime::{Remembered, Uptime, ids_of, lanes, reclaims_by_hour, within};
use crate::core::world::time::Timestamp;
use crate::notify;
use crate::report::page::Page;
use crate::report::uptime::{UptimeDocument, csv};
use crate::report::{Event, human, json};
use crate::settings::SettingsError;
use crate::store::records::{self, Overview, Selection};

/// The command.
///
/// # Errors
/// Exit codes 2, 3, 4, 6 and 7.
pub async fn command(session: &Session<'_>, args: &ReportArgs) -> Result<Printed, Failure> {
    let Session { clock, show, .. } = *session;
    let now = clock.now();
    let to = args.until.map_or(now, |until| until.min(now));
    let from = to - Duration::from(args.since);
    // What ran is counted by day.
    let from = if args.invoice { day_of(from).1 } else { from };
    let store = session.open_to_read().await?;
    let Overview { down, ended_spells, days, unread, .. } =
        records::overview(&store, &Selection::default(), now).await?;
    session.reporter.event(Event::Unread { records: &unread });
    let mut instance_days = InstanceDays::new();
    if args.invoice || args.instance.is_some() {
        let unread;
        (instance_days, unread) = records::instance_days(&store, now).await?;
        session.reporter.event(Event::Unread { records: &unread });
    }
    let (mut open, mut ended) = (down, ended_spells);
    let mut uptime = None;
    if let Some(wanted) = &args.instance {
        let ids = ids_of(Remembered { open: &open, ended: &ended, days: &days }, &instance_days, wanted);
        if ids.is_empty() {
            let hint = Some("name one that passes saw running, by its ID, or that was down, by its name or ID".into());
            return Err(SettingsError { message: format!("nothing is known of {wanted:?}"), hint }.into());
        }
        let is_of = |spell: &Spell| spell.ids.iter().any(|id| ids.contains(id));
        open.retain(|(_, spell)| is_of(spell));
        ended.retain(is_of);
        instance_days.values_mut().for_each(|day| day.instances.retain(|id, _| ids.contains(id)));
        let remembered = Remembered { open: &open, ended: &ended, days: &days };
        uptime = Some(Uptime::of_one(remembered, &instance_days, from, to));
    }
    let remembered = Remembered { open: &open, ended: &ended, days: &days };
    let uptime = uptime.unwrap_or_else(|| Uptime::of(remembered, from, to));
    let mut invoice = None;
    if args.invoice {
        let client = session.client().await?;
        let reading = async { Ok(client.bills(from, to).await?) };
        let rows = unless_stopped(session.stop, session.settings.job_timeout, reading).await?;
        let before = |end: Timestamp| within(&instance_days, &days, from, end.min(to));
        invoice = Some(Invoice::of(&rows, &before(to), (from, to), before));
    }
    let invoice = invoice.as_ref();
    if let Some(path) = &args.html {
        let lanes = lanes(remembered, from, to);
        let by_hour = reclaims_by_hour(&lanes, from);
        let page = Page { uptime: &uptime, lanes: &lanes, by_hour: &by_hour, invoice, of: args.instance.as_deref() };
        notify::replace(path, &page.render()).map_err(|error| unwritten(path, &error))?;
    }
    let document = match (show.format, &args.html) {
        (Some(OutputFormat::Json), _) => json::document(&UptimeDocument::new(&uptime, invoice)),
        (Some(OutputFormat::Csv), _) => csv(&uptime, invoice),
        (None, Some(path)) => format!("{}\n", path.display()),
        (Some(OutputFormat::Table | OutputFormat::Prometheus) | None, _) => {
            human::uptime(show.screen, &uptime, invoice, args.instance.as_deref())
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
