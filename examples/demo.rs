//! respot on a simulated fleet: `cargo run --release --example demo`. Needs no key and no server, leaves nothing behind.
#![expect(clippy::disallowed_macros, reason = "a demo prints")]

use std::io::IsTerminal;
use std::time::Duration;

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
use respot::store::LEASE_LIFE;

const MINUTE_MS: u64 = 60_000;

fn main() -> anyhow::Result<()> {
    let demo = Demo::start()?;
    demo.say("A fleet of 40 GPU instances lives in a simulator of the provider's API, on loopback.");
    demo.say("Some were reclaimed. What would respot do? A dry run writes nothing, anywhere:");
    demo.respot(&["dry-run"])?;

    demo.say(
        "Two migrations had failed before: those instances hang in `migrating`. They are created anew from their own",
    );
    demo.say("data, but the pass is killed right after the first replacement was created:");
    demo.respot_killed(&["check-failed", "-o", "table"])?;
    demo.say("Nothing is lost and nothing forgotten, the journal has it:");
    demo.respot(&["status"])?;
    demo.say("Once the dead pass's lease is over, after 30 s at most, the next one finishes what it began:");
    std::thread::sleep(LEASE_LIFE);
    demo.respot(&["check-failed", "-o", "table"])?;

    demo.say("Now the whole pass, with trouble: the line is cut right after one call, one call is told to slow down,");
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
        // Instances come up in seconds, so that nobody has to wait for them.
        let options = Options { latency: Duration::from_millis(60), speed: 10, ..Options::default() };
        let server = Server::start(world, options)?;
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
        self.call(arguments, std::future::pending())
    }

    /// The same, and the process dies as soon as the provider has created an instance.
    fn respot_killed(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let before = self.server.with(|world| world.applied(Op::Create));
        self.call(arguments, async {
            while self.server.with(|world| world.applied(Op::Create)) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }

    fn call(&self, arguments: &[&str], killed: impl Future<Output = ()>) -> anyhow::Result<()> {
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
            let (console, stop) = (Console::new(Bars::new(self.color), false), Stop::default());
            tokio::select! {
                done = dispatch(&cli, &settings, clock, &stop, &console, show) => Some(done),
                () = killed => None,
            }
        });
        match done {
            None => println!("(killed)\n"),
            Some(Ok(Output { exit, document })) => {
                print(&document);
                println!("(exit code {})\n", exit.code());
            }
            Some(Err(failure)) => println!("error: {}\n(exit code {})\n", failure.message, failure.exit.code()),
        }
        Ok(())
    }

    /// The simulator's own books.
    fn count(&self) {
        self.say("The provider's own books:");
        self.server.with(|world| {
            let of = |op: Op| world.log().iter().filter(move |entry| entry.op == op);
            let took_effect = |op: Op| of(op).filter(|entry| entry.outcome == Outcome::Applied);
            for (op, what) in [(Op::Migrate, "migrate"), (Op::Create, "create"), (Op::Delete, "delete")] {
                println!("{} {what} calls arrived, {} took effect", of(op).count(), took_effect(op).count());
            }
            let replaced = world.gone().filter(|old| took_effect(Op::Delete).any(|entry| entry.instance == old.id));
            for old in replaced {
                let base = old.name.split("-recreated-").next().unwrap_or_default();
                let is_successor =
                    |name: &&str| name.strip_prefix(base).is_some_and(|it| it.starts_with("-recreated-"));
                let successors: Vec<&str> = world.machines().map(|it| it.name.as_str()).filter(is_successor).collect();
                println!("{} is gone, in its place there is {}", old.name, successors.join(", "));
            }
        });
    }
}
