//! One call of `rollout`, from its arguments to what it prints.

use std::time::Duration;

use super::{Drive, Stepped, exit, no_consent, prospect};
use crate::act::Limits;
use crate::cli::{RolloutArgs, RolloutVerb};
use crate::commands::{Exit, Failure, Presentation, Printed, Session};
use crate::core::rollout::analysis::Analysis;
use crate::measure::NetProber;
use crate::notify::{EventsOnly, Notify};
use crate::report::{self, Event, SummaryLast, human};
use crate::settings::{Settings, SettingsError};
use crate::store::records::Mode;

/// Takes the next step of a rollout, or carries out a verb of the operator.
///
/// # Errors
/// [`Failure`] with its exit code.
pub async fn command(arguments: &RolloutArgs, session: &Session<'_>) -> Result<Printed, Failure> {
    let reporter = SummaryLast::new(session.reporter);
    let session = Session { reporter: &reporter, ..*session };
    let outlets = session.outlets()?;
    let printed = call(arguments, &session, &EventsOnly(&outlets)).await;
    reporter.finish();
    printed
}

async fn call<N: Notify>(arguments: &RolloutArgs, session: &Session<'_>, notify: &N) -> Result<Printed, Failure> {
    let Session { settings, clock, stop, reporter, show, .. } = *session;
    let RolloutArgs { verb, yes, wait, new, .. } = arguments;
    let shown = |stepped: &Stepped, exit: Exit| super::show(stepped, exit, clock.now(), show, verb.is_none());
    if let Some(RolloutVerb::Status) = verb {
        return Ok(shown(&super::status(&session.open_to_read().await?).await?, Exit::Done));
    }
    if settings.rehearsal && matches!(verb, Some(RolloutVerb::Abort { .. })) {
        // A verb that has no effect must not look like one that has.
        let message = "MIGRATION_DRY_RUN is set, so nothing was aborted".into();
        let hint = Some("unset it for this call".into());
        return Err(SettingsError { message, hint }.into());
    }
    let off = match verb {
        None if !settings.enabled => Some("rollouts are disabled (MIGRATION_ENABLED is false); nothing was done"),
        None if settings.rehearsal => {
            Some("MIGRATION_DRY_RUN is set, so nothing is moved; respot analyze shows what could be")
        }
        _ => None,
    };
    if let Some(message) = off {
        return Ok(shown(&Stepped { message: message.into(), ..Stepped::default() }, Exit::Done));
    }
    let store = session.open_to_write().await?;
    let (cloud, prober) = (session.client()?, NetProber::new(settings.probe_timeout));
    let limits = Limits::new(settings, Mode::Real);
    let drive = Drive {
        world: &session.world(&cloud, &store, &limits),
        writer: &cloud,
        notify,
        prober: &prober,
        terms: &settings.terms,
        course: &settings.course,
    };
    let progress = |stepped: &Stepped| reporter.event(Event::RolloutStepped { message: &stepped.message });
    if let Some(verb) = verb {
        let stepped = drive.apply(*verb).await?;
        return Ok(match verb {
            RolloutVerb::Abort { wait: true } if !stepped.was_over => {
                progress(&stepped);
                let done = drive.wait(progress).await?;
                shown(&done, exit(&done, true))
            }
            RolloutVerb::Abort { .. } => shown(&stepped, exit(&stepped, false)),
            // It was carried out, whatever else goes wrong.
            RolloutVerb::Status | RolloutVerb::Pause | RolloutVerb::Resume => shown(&stepped, Exit::Done),
        });
    }
    let mut first = match prospect(&drive, *new).await? {
        None => drive.step().await?,
        Some(analysis) => {
            let count = analysis.found().filter(|it| it.approved).count();
            if count > 0 && !yes && !consents(&analysis, settings, show) {
                return Err(no_consent());
            }
            loop {
                let stepped = drive.start(&analysis).await?;
                let is_skipped = !stepped.worked && stepped.fleet.is_none();
                if !is_skipped || !*wait {
                    break stepped;
                }
                progress(&stepped);
                stop.sleep(Duration::from_secs(5)).await.map_err(Failure::stopped)?;
            }
        }
    };
    let is_open = first.fleet.as_ref().is_some_and(|it| it.rollout.state.end().is_none());
    if *wait && is_open {
        progress(&first);
        let mut attempts = std::mem::take(&mut first.attempts);
        let mut done = drive.wait(progress).await?;
        attempts.append(&mut done.attempts);
        done.attempts = attempts;
        return Ok(shown(&done, exit(&done, true)));
    }
    Ok(shown(&first, exit(&first, false)))
}

/// Whether an operator at a terminal confirms the start. Without a terminal there is no prompt.
fn consents(analysis: &Analysis, settings: &Settings, show: Presentation) -> bool {
    if show.json() || !report::is_watched() {
        return false;
    }
    let plan = human::prospect(show.screen, analysis, &settings.course);
    report::ask(&format!("{plan}Type yes to start: ")).is_some_and(|answer| answer.trim().eq_ignore_ascii_case("yes"))
}
