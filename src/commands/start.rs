//! Starts the program: where to print, what to log, which signals to handle.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::{Exit, Failure, Presentation, Printed};
use crate::cli::{Cli, ColorChoice, Command, LogFormat, RolloutArgs};
use crate::clock::Clock;
use crate::report::bars::Bars;
use crate::report::document::Document;
use crate::report::human::Screen;
use crate::report::{self, Console, log};
use crate::settings::Settings;
use crate::stop::{Stop, StopCause};

/// Determines how to print, and starts logging.
///
/// # Errors
/// When logging was started before.
pub fn console(cli: &Cli, settings: &Settings, clock: &Clock) -> Result<(Presentation, Console), Failure> {
    let global = &cli.global;
    let colored = |terminal: bool| match global.color {
        ColorChoice::Auto => terminal && !settings.no_color && !settings.dumb_terminal,
        ColorChoice::Always => true,
        ColorChoice::Never => false,
    };
    let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
    let width = out.then(|| usize::from(console::Term::stdout().size().1));
    let screen = Screen { width, color: colored(out) };
    let show = Presentation { format: global.output, quiet: global.quiet, screen };

    let bars = Bars::new(err && !global.quiet && !settings.dumb_terminal);
    start_log(cli, settings, clock, &bars, out && err, colored(err))?;
    // Doctor shows them itself.
    if !matches!(cli.command, Command::Doctor { .. }) {
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
    }
    // A dry run prints its verdicts, so that they need not be in the log.
    let verdicts = global.verbose > 0 || !matches!(cli.command, Command::DryRun { .. });
    Ok((show, Console::new(bars, verdicts)))
}

fn start_log(
    cli: &Cli,
    settings: &Settings,
    clock: &Clock,
    bars: &Bars,
    watched: bool,
    color: bool,
) -> Result<(), Failure> {
    // In cron the log of a pass is all there is. On a terminal there are bars and a table instead, and the commands that
    // only show something show that.
    let default = match cli.command {
        Command::Run(_) | Command::CheckFailed(_) | Command::Rollout(RolloutArgs { verb: None, .. }) if !watched => {
            LevelFilter::INFO
        }
        _ => LevelFilter::WARN,
    };
    let level = settings.log_level.unwrap_or(default);
    log::init(level, settings.log_directives.clone(), log_format(cli), color, clock, bars.clone())
        .map_err(|error| Failure::internal(format!("{error:#}")))
}

/// Prints what came of a command; `json` asks for failures as a document, too. Output that got lost is no success.
#[must_use]
pub fn finish(result: Result<Printed, Failure>, json: bool, format: log::Format) -> Exit {
    let (exit, document) = match result {
        Ok(Printed { exit, document }) => (exit, Some(document)),
        Err(failure) => {
            report::complain(&failure.message, failure.hint.as_deref(), format);
            (failure.exit, json.then(|| Document::from(failure.document())))
        }
    };
    let printed = document.map_or(Ok(()), Document::print);
    if let Err(error) = &printed {
        let hint = "what was printed is incomplete; free space, or print elsewhere";
        report::complain(&format!("cannot write to stdout: {error}"), Some(hint), format);
    }
    if printed.is_err() || report::output::log_is_lost() { exit.without_output() } else { exit }
}

/// How log lines are written.
#[must_use]
pub fn log_format(cli: &Cli) -> log::Format {
    match cli.global.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    }
}

/// Whether arguments that could not be parsed contain `-o json`, so that a script gets its error as JSON.
#[must_use]
pub fn asks_for_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]))
}

/// SIGINT, SIGTERM and SIGHUP: the first requests a shutdown, the second ends the program at once.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Not if it is ignored, as under `nohup`.
    hangup: Option<Signal>,
    stop: Stop,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen(stop: Stop) -> io::Result<Self> {
        // Without a handler, a limit on the size of files would end the program instead of the write.
        const SIGXFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();
        drop(signal(SignalKind::from_raw(SIGXFSZ))?);
        let hangup = (!is_hangup_ignored()).then(|| signal(SignalKind::hangup())).transpose()?;
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup, stop })
    }

    /// Requests the shutdown at the first signal; returns at the second.
    pub async fn insisted(&mut self) -> Failure {
        self.next().await;
        self.stop.trigger(StopCause::Signal);
        tracing::warn!("stopping: calls in flight end, no new work starts; a second signal stops at once");
        self.next().await;
        Failure {
            exit: Exit::Stopped,
            kind: "stopped",
            message: "stopped at once by a second signal".into(),
            hint: Some("the next pass settles what was left open, within 30 s at the earliest".into()),
            error_kind: None,
        }
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether the parent had SIGHUP ignored; only Linux tells.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
