//! From the command line to a working program: where to write, what to log, which signals to hear.

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

/// Looks where stdout and stderr lead, and begins logging.
///
/// # Errors
/// When logging was begun before.
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
    // The screen of a dry run is its verdicts; that of an explanation is one of them.
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
    // In cron the log of a pass is all there is. Somebody who watches sees bars and a table instead, and whoever asked
    // for a view wants the view.
    let default = match cli.command {
        Command::Run(_) | Command::CheckFailed(_) | Command::Rollout(RolloutArgs { verb: None, .. }) if !watched => {
            LevelFilter::INFO
        }
        Command::Run(_)
        | Command::CheckFailed(_)
        | Command::DryRun { .. }
        | Command::Explain { .. }
        | Command::History(_)
        | Command::Status { .. }
        | Command::Analyze(_)
        | Command::Rollout(_)
        | Command::Doctor { .. }
        | Command::Completions { .. }
        | Command::Man => LevelFilter::WARN,
    };
    let level = settings.log_level.unwrap_or(default);
    log::init(level, settings.log_directives.clone(), log_format(cli), color, clock, bars.clone())
        .map_err(|error| Failure::internal(format!("{error:#}")))
}

/// How log lines are to be written.
#[must_use]
pub fn log_format(cli: &Cli) -> log::Format {
    match cli.global.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    }
}

/// Whether `-o json` stands in arguments that could not be parsed, so that a script gets its error as it wants it.
#[must_use]
pub fn asks_for_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]))
}

/// SIGINT and SIGTERM: the first ends the pass in good order, the second at once.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    stop: Stop,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system lets nobody listen.
    pub fn listen(stop: Stop) -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, stop })
    }

    /// Gives the word to stop at the first signal; returns at the second.
    pub async fn insisted(&mut self) -> Failure {
        self.next().await;
        self.stop.trigger(StopCause::Signal);
        tracing::warn!("stopping: calls in flight end, nothing new begins; a second signal stops at once");
        self.next().await;
        Failure {
            exit: Exit::Stopped,
            kind: "stopped",
            message: "stopped at once by a second signal".into(),
            hint: Some("the next pass settles what was left open, within 30 s at the earliest".into()),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
