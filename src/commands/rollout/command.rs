//! One call of `rollout`, from its arguments to what it prints.

use std::time::Duration;

use super::{Begun, Drive, Prospect, Stepped, exit, no_consent, prospect};
use crate::cli::{RolloutArgs, RolloutVerb};
use crate::commands::pass::{Rules, stopped};
use crate::commands::{Exit, Failure, Presentation, Printed, Session, client, open_to_read, open_to_write};
use crate::core::rollout::analysis::Analysis;
use crate::measure::NetProber;
use crate::notify::Notify;
use crate::report::{self, Event, human};
use crate::settings::{Settings, SettingsError};
use crate::store::records::Mode;

/// The rollout: its next step, or what a person says to it.
///
/// # Errors
/// [`Failure`] with its exit code.
pub async fn command<N: Notify>(
    arguments: &RolloutArgs,
    session: &Session<'_>,
    notify: &N,
) -> Result<Printed, Failure> {
    let Session { settings, clock, stop, reporter, show } = *session;
    let RolloutArgs { verb, yes, wait, new, .. } = arguments;
    let shown = |stepped: &Stepped, exit: Exit| super::show(stepped, exit, clock.now(), show, verb.is_none());
    if let Some(RolloutVerb::Status) = verb {
        return Ok(shown(&super::status(&open_to_read(settings).await?).await?, Exit::Done));
    }
    if !settings.enabled && verb.is_none() {
        let message = "rollouts are switched off (MIGRATION_ENABLED is false), nothing was done".into();
        return Ok(shown(&Stepped { message, ..Stepped::default() }, Exit::Done));
    }
    if settings.rehearsal && matches!(verb, Some(RolloutVerb::Abort { .. })) {
        // A word that is not heard must not look like one that is.
        let message = "MIGRATION_DRY_RUN is set, so nothing was aborted".into();
        let hint = Some("unset it for this call".into());
        return Err(SettingsError { message, hint }.into());
    }
    if settings.rehearsal && verb.is_none() {
        let message = "MIGRATION_DRY_RUN is set, so nothing is moved; respot analyze shows what could be".into();
        return Ok(shown(&Stepped { message, ..Stepped::default() }, Exit::Done));
    }
    let store = open_to_write(settings).await?;
    let (cloud, prober) = (client(settings)?, NetProber::new(settings.probe_timeout));
    let drive = Drive {
        cloud: &cloud,
        writer: &cloud,
        store: &store,
        notify,
        prober: &prober,
        clock,
        stop,
        reporter,
        rules: Rules::new(settings, Mode::Real),
        terms: &settings.terms,
        course: &settings.course,
    };
    let progress = |stepped: &Stepped| reporter.event(Event::RolloutStepped { message: &stepped.message });
    if let Some(verb) = verb {
        let stepped = drive.tell(*verb).await?;
        return Ok(match verb {
            RolloutVerb::Abort { wait: true } if !stepped.was_over => {
                progress(&stepped);
                let done = drive.wait(progress).await?;
                shown(&done, exit(&done, true))
            }
            RolloutVerb::Abort { .. } => shown(&stepped, exit(&stepped, false)),
            // It was heard, whatever else goes wrong.
            RolloutVerb::Status | RolloutVerb::Pause | RolloutVerb::Resume => shown(&stepped, Exit::Done),
        });
    }
    let mut first = match prospect(&drive, *new).await? {
        Prospect::Known => drive.step().await?,
        Prospect::Candidates(analysis) => {
            let count = analysis.found().filter(|it| it.approved).count();
            if count > 0 && !yes && !consents(&analysis, settings, show) {
                return Err(no_consent());
            }
            loop {
                match drive.begin(&analysis).await? {
                    // Another pass is at work, and whoever waits wants it begun.
                    Begun::Yes(stepped) if *wait && stepped.fleet.is_none() => {
                        progress(&stepped);
                        stop.sleep(Duration::from_secs(5)).await.map_err(stopped)?;
                    }
                    Begun::Yes(stepped) => break *stepped,
                    Begun::Nothing(message) => {
                        return Ok(shown(&Stepped { message, ..Stepped::default() }, Exit::Done));
                    }
                }
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

/// Whether somebody at a terminal types that it may begin. Nobody else is asked.
fn consents(analysis: &Analysis, settings: &Settings, show: Presentation) -> bool {
    if show.json() || !report::is_watched() {
        return false;
    }
    let plan = human::prospect(show.screen, analysis, &settings.course);
    report::ask(&format!("{plan}Type yes to begin: ")).is_some_and(|answer| answer.trim().eq_ignore_ascii_case("yes"))
}
