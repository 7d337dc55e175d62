//! respot on a simulated fleet: `cargo run --release --example demo`. Needs no key and no server, leaves nothing behind.
#![expect(clippy::disallowed_macros, reason = "a demo prints")]

use std::io::IsTerminal;

use clap::Parser;
use novita_sim::{Op, Options, Outcome, Server, World};
use respot::cli::Cli;
use respot::clock::Clock;
use respot::commands::{Output, Presentation, dispatch};
use respot::core::model::Timestamp;
use respot::report::bars::Bars;
use respot::report::human::Screen;
use respot::report::{Console, print};
use respot::settings::{Environment, Settings};
use respot::stop::Stop;

const MINUTE_MS: u64 = 60_000;

fn main() -> anyhow::Result<()> {
    let demo = Demo::start()?;
    demo.say("A fleet of 40 GPU instances lives in a simulator of the provider's API, on loopback.");
    demo.say("Some were reclaimed. What would respot do? A dry run writes nothing, anywhere:");
    demo.respot(&["dry-run"])?;

    demo.say("Now for real, with trouble: the line is cut right after one call, one call is told to slow down,");
    demo.say("one finds no free GPU.");
    for fault in [
        "migrate@2:cut-after",
        "migrate@4:status=429,retry-after=1",
        "migrate@6:status=400,reason=INSUFFICIENT_RESOURCE",
    ] {
        demo.server.with(|world| world.fault(fault.parse().expect("a fault")));
    }
    demo.respot(&["run", "-o", "table"])?;

    demo.say("Called again at once, it remembers, and tries only what had no effect:");
    demo.respot(&["run", "-o", "table"])?;

    demo.say("Fifteen minutes go by: migrations end, and a wave of reclaims takes more instances.");
    demo.server.advance(15 * MINUTE_MS);
    let taken = demo.server.with(|world| world.reclaim_wave(0.3));
    demo.say(&format!("({} instances taken.) The schedule calls:", taken.len()));
    demo.respot(&["run", "-o", "table"])?;

    demo.say("Fifteen minutes later:");
    demo.server.advance(15 * MINUTE_MS);
    demo.respot(&["run", "-o", "table"])?;

    demo.say("How is it doing, and what did it do?");
    demo.respot(&["status"])?;
    demo.respot(&["history"])?;
    demo.count();
    Ok(())
}

struct Demo {
    server: Server,
    state: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    color: bool,
    width: Option<usize>,
}

impl Demo {
    fn start() -> anyhow::Result<Self> {
        let mut world = World::fleet(11, 40).starting_at(Clock::system().now().as_millis());
        world.rules_mut().visible_after_ms = 500;
        let server =
            Server::start(world, Options { latency: std::time::Duration::from_millis(60), ..Options::default() })?;
        let terminal = std::io::stdout().is_terminal();
        let width = terminal.then(|| usize::from(console::Term::stdout().size().1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { server, state: tempfile::tempdir()?, runtime, color: terminal, width })
    }

    fn say(&self, text: &str) {
        let (bold, reset) = if self.color { ("\u{1b}[1;36m", "\u{1b}[0m") } else { ("", "") };
        println!("{bold}# {text}{reset}");
    }

    /// Calls the program as a shell would, but in this process, so that nothing has to be installed.
    fn respot(&self, arguments: &[&str]) -> anyhow::Result<()> {
        println!("$ respot {}", arguments.join(" "));
        let cli = Cli::try_parse_from([&["respot"], arguments].concat())?;
        let environment: Environment = [
            ("NOVITA_API_KEY", "sk_test".to_owned()),
            ("NOVITA_API_BASE_URL", self.server.url()),
            ("REDIS_URL", format!("sqlite:{}", self.state.path().join("state.db").display())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect();
        let settings = Settings::load(&cli, &environment)?;
        let screen = Screen { width: self.width, color: self.color };
        let show = Presentation { format: cli.global.output, quiet: false, screen };
        let done = self.runtime.block_on(async {
            // The simulated world has its own time.
            let clock = Clock::starting_at(Timestamp::from_millis(self.server.with(|world| world.now_ms())));
            let console = Console::new(Bars::new(self.color), false);
            dispatch(&cli, &settings, clock, &Stop::default(), &console, show).await
        });
        match done {
            Ok(Output { exit, document }) => {
                print(&document);
                println!("(exit code {})\n", exit.code());
            }
            Err(failure) => println!("error: {}\n(exit code {})\n", failure.message, failure.exit.code()),
        }
        Ok(())
    }

    /// The simulator's own books.
    fn count(&self) {
        let (calls, accepted, most) = self.server.with(|world| {
            let log = world.log();
            let calls = log.iter().filter(|entry| entry.op == Op::Migrate).count();
            let mut counts: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
            for entry in log.iter().filter(|entry| entry.outcome == Outcome::Applied) {
                *counts.entry(&entry.instance).or_default() += 1;
            }
            (calls, counts.values().sum::<usize>(), counts.values().max().copied().unwrap_or(0))
        });
        self.say("The provider's own books:");
        println!("{calls} migrate calls arrived, {accepted} took effect, at most {most} for any one instance.");
    }
}
