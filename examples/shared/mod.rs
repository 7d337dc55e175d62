//! The program called against a simulated provider in the same process, so that nothing has to be installed.

use std::io::IsTerminal;

use clap::Parser;
use respot::cli::Cli;
use respot::clock::Clock;
use respot::commands::start;
use respot::commands::{Presentation, Printed, Session, dispatch};
use respot::core::world::time::Timestamp;
use respot::report::Console;
use respot::report::bars::Bars;
use respot::report::human::Screen;
use respot::settings::{Environment, Settings};
use respot::stop::Stop;

/// A provider on loopback.
pub(crate) trait Simulated {
    /// The settings that lead to it.
    fn settings(&self) -> Vec<(&'static str, String)>;

    /// Its time, in Unix milliseconds.
    fn now_ms(&self) -> i64;
}

/// A provider and a store that is deleted when the value is dropped.
pub(crate) struct Show<S> {
    pub(crate) server: S,
    state: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    environment: Vec<(&'static str, String)>,
    color: bool,
    width: Option<usize>,
}

impl<S: Simulated> Show<S> {
    /// Shows the program on this provider, with these settings.
    pub(crate) fn serving(server: S, settings: &[(&'static str, &str)]) -> anyhow::Result<Self> {
        let terminal = std::io::stdout().is_terminal();
        let width = terminal.then(|| usize::from(console::Term::stdout().size().1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let environment = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let state = tempfile::tempdir()?;
        Ok(Self { server, state, runtime, environment, color: terminal, width })
    }

    pub(crate) fn say(&self, text: &str) {
        let (bold, reset) = if self.color { ("\u{1b}[1;36m", "\u{1b}[0m") } else { ("", "") };
        println!("{bold}# {text}{reset}");
    }

    /// Calls the program as a shell would, and returns its exit code.
    pub(crate) fn respot(&self, arguments: &[&str]) -> anyhow::Result<u8> {
        println!("$ respot {}", arguments.join(" "));
        let Some((exit, document)) = self.call(arguments, std::future::pending())? else { return Ok(0) };
        print!("{document}");
        println!("(exit code {exit})\n");
        Ok(exit)
    }

    /// Calls it, unless it is killed before it ends, and returns its exit code and its output.
    pub(crate) fn call(
        &self,
        arguments: &[&str],
        killed: impl Future<Output = ()>,
    ) -> anyhow::Result<Option<(u8, String)>> {
        let cli = Cli::try_parse_from([&["respot"], arguments].concat())?;
        let ours = [
            ("REDIS_URL", format!("sqlite:{}", self.state.path().join("state.db").display())),
            // A show does not wait for minutes.
            ("MIGRATION_KEEP_TRYING_MS", "0".to_owned()),
        ];
        let environment: Environment = ours
            .into_iter()
            .chain(self.server.settings())
            .chain(self.environment.iter().cloned())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let settings = Settings::load(&cli, &environment)?;
        let screen = Screen { width: self.width, color: self.color };
        let show = Presentation { format: cli.global.output, quiet: false, screen };
        let done = self.runtime.block_on(async {
            // The simulated world has its own time.
            let clock = Clock::starting_at(Timestamp::from_millis(self.server.now_ms()));
            let (console, stop) = (Console::new(Bars::new(self.color), false), Stop::default());
            let log_format = start::log_format(&cli);
            let session =
                Session { settings: &settings, clock: &clock, stop: &stop, reporter: &console, show, log_format };
            tokio::select! {
                done = dispatch(&cli, &session) => Some(done),
                () = killed => None,
            }
        });
        Ok(match done {
            None => None,
            Some(Ok(Printed { exit, document })) => Some((exit.code(), document.into_text())),
            Some(Err(failure)) => Some((failure.exit.code(), format!("error: {}\n", failure.message))),
        })
    }
}
