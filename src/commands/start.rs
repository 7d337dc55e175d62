//! Starts the program: where to print, what to log, which signals to handle.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::{Exit, Failure, Presentation};
use crate::cli::{Cli, ColorChoice, Command, LogFormat, RolloutArgs};
use crate::clock::Clock;
use crate::report::bars::Bars;
use crate::report::human::Screen;
use crate::report::{Console, log};
use crate::settings::Settings;
use crate::stop::{Stop, StopCause};

/// Determines how to print, and starts logging.
///
/// # Errors
/// When logging was started before.
pub fn console(cli: &Cli, settings: &Settings, clock: Clock) -> Result<(Presentation, Console), Failure> {
    let global = &cli.global;
    let colored = |terminal: bool| match global.color {
        ColorChoice::Auto => terminal && !settings.no_color,
        ColorChoice::Always => true,
        ColorChoice::Never => false,
    };
    let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
    let width = out.then(|| usize::from(console::Term::stdout().size().1));
    let screen = Screen { width, color: colored(out) };
    let show = Presentation { format: global.output, quiet: global.quiet, screen };

    let bars = Bars::new(err && !global.quiet);
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
    clock: Clock,
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

/// SIGINT and SIGTERM: the first requests a shutdown, the second ends the program at once.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    stop: Stop,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen(stop: Stop) -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, stop })
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
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
