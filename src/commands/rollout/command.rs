//! One call of `rollout`, from its arguments to what it prints.

use std::time::Duration;

use super::{Drive, Hook, Stepped, prospect};
use crate::act::Limits;
use crate::cli::{RolloutArgs, RolloutVerb};
use crate::cloud::any::ProviderWriter;
use crate::commands::{Exit, Failure, Presentation, Printed, Session};
use crate::core::record::execution::Outcome;
use crate::core::rollout::analysis::Analysis;
use crate::core::rollout::course::{RolloutEnd, State};
use crate::core::world::time::Timestamp;
use crate::measure::NetProber;
use crate::notify::{EventsOnly, Notify};
use crate::report::text::visible;
use crate::report::{self, Event, SummaryLast, human, json};
use crate::settings::{Settings, SettingsError};
use crate::store::records::{self, Mode};

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
    let shown = |stepped: &Stepped, exit: Exit| printed(stepped, exit, clock.now(), show, verb.is_none());
    if let Some(RolloutVerb::Status) = verb {
        let fleet = records::rollout(&session.open_to_read().await?, clock.now()).await?.0;
        let message = if fleet.is_some() { String::new() } else { "there has been no rollout yet".into() };
        return Ok(shown(&Stepped { fleet, message, ..Stepped::default() }, Exit::Done));
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
    let (cloud, prober) = (session.client().await?, NetProber::new(settings.probe_timeout, &settings.proxies));
    let limits = Limits::new(settings, Mode::Real);
    let hook = settings.hook.clone().map(Hook::new);
    let drive = Drive {
        world: &session.world(&cloud, &store, &limits),
        writer: &ProviderWriter::Cloud(&cloud),
        notify,
        prober: &prober,
        terms: &settings.terms,
        course: &settings.course,
        hook: hook.as_ref(),
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
        None => {
            let idle = idle_options(arguments);
            if !idle.is_empty() {
                tracing::warn!("options without effect, since a rollout has started: {}", idle.join(", "));
            }
            drive.step().await?
        }
        Some(analysis) => {
            let count = analysis.found().filter(|it| it.approved).count();
            if count > 0 && !yes && !consents(&analysis, settings, show) {
                return Err(Failure {
                    exit: Exit::Usage,
                    kind: "consent",
                    message: "confirmation required: a rollout creates and deletes instances; nothing was started"
                        .into(),
                    hint: Some("run respot analyze, then pass --yes, or type yes at the prompt on a terminal".into()),
                    error_kind: None,
                });
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

/// The options that decide how a rollout starts.
fn idle_options(arguments: &RolloutArgs) -> Vec<&'static str> {
    let RolloutArgs { gates, stages, soak, max_moves, rollback, .. } = arguments;
    let given = [
        ("--only", !gates.only.is_empty()),
        ("--exclude", !gates.exclude.is_empty()),
        ("--may-lose", !gates.may_lose.is_empty()),
        ("--stages", stages.is_some()),
        ("--soak", soak.is_some()),
        ("--max-moves", max_moves.is_some()),
        ("--rollback", rollback.is_some()),
    ];
    given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
}

/// Whether an operator at a terminal confirms the start. Without a terminal there is no prompt.
fn consents(analysis: &Analysis, settings: &Settings, show: Presentation) -> bool {
    if show.json() || !report::is_watched() {
        return false;
    }
    let plan = human::prospect(show.screen, analysis, &settings.course);
    report::ask(&format!("{plan}Type yes to start: ")).is_some_and(|answer| answer.trim().eq_ignore_ascii_case("yes"))
}

/// The exit code of a call. Failures of earlier calls do not count.
fn exit(stepped: &Stepped, waited: bool) -> Exit {
    let Some(fleet) = &stepped.fleet else {
        return if stepped.troubles.is_empty() { Exit::Done } else { Exit::ActionsFailed };
    };
    let is_news = stepped.worked && !stepped.was_over;
    let went_wrong = match (fleet.rollout.state.end(), &fleet.rollout.state) {
        (Some(RolloutEnd::Completed | RolloutEnd::Aborted), _) => false,
        (Some(RolloutEnd::Failed | RolloutEnd::RolledBack), _) => is_news || waited,
        (None, State::RollingBack { end: RolloutEnd::RolledBack, .. }) => is_news,
        (None, _) => false,
    };
    let failed = stepped.attempts.iter().any(|it| matches!(it.outcome, Outcome::Failed | Outcome::Unknown));
    let is_troubled = !stepped.troubles.is_empty() && (is_news || waited);
    if went_wrong || is_troubled || failed && !waited { Exit::ActionsFailed } else { Exit::Done }
}

/// What one call prints. The next step, called from cron, prints one sentence next to the log lines; the screen is for a
/// terminal, or if requested.
fn printed(stepped: &Stepped, exit: Exit, now: Timestamp, show: Presentation, is_step: bool) -> Printed {
    let Stepped { fleet, attempts, message, due: _, worked: _, was_over: _, troubles } = stepped;
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
        let lines = why.into_iter().chain(troubles.iter().map(String::as_str));
        lines.fold(format!("{}\n", visible(message)), |lines, line| lines + &visible(line) + "\n")
    } else {
        human::rollout(show.screen, fleet.as_ref(), attempts, message, now)
    };
    Printed { exit, document: document.into() }
}
