//! A simulated provider, and the program called against it in the same process, so that nothing has to be installed.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Parser;
use novita_sim::{Options, Server, World};
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

pub(crate) const MINUTE_MS: u64 = 60_000;

/// A provider on loopback and a store that is deleted when the value is dropped.
pub(crate) struct Show {
    pub(crate) server: Server,
    state: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    environment: Vec<(&'static str, String)>,
    color: bool,
    width: Option<usize>,
}

impl Show {
    /// Serves the world ten times faster than real time, so that instances start quickly. The program gets these settings
    /// as well.
    pub(crate) fn of(world: World, settings: &[(&'static str, &str)]) -> anyhow::Result<Self> {
        let mut world = world.starting_at(Clock::system().now().as_millis());
        world.rules_mut().visible_after_ms = 500;
        let options = Options { latency: Duration::from_millis(60), speed: 10, ..Options::default() };
        let server = Server::start(world, options)?;
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
            ("NOVITA_API_KEY", "sk_test".to_owned()),
            ("NOVITA_API_BASE_URL", self.server.url()),
            ("REDIS_URL", format!("sqlite:{}", self.state.path().join("state.db").display())),
            // A show does not wait for minutes.
            ("MIGRATION_KEEP_TRYING_MS", "0".to_owned()),
        ];
        let environment: Environment = ours
            .into_iter()
            .chain(self.environment.iter().cloned())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let settings = Settings::load(&cli, &environment)?;
        let screen = Screen { width: self.width, color: self.color };
        let show = Presentation { format: cli.global.output, quiet: false, screen };
        let done = self.runtime.block_on(async {
            // The simulated world has its own time.
            let clock = Clock::starting_at(Timestamp::from_millis(self.server.with(|world| world.now_ms())));
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
