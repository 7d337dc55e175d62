//! respot: parse, read settings, call a command, end with its exit code.

use std::process::ExitCode;

use clap::Parser;
use respot::cli::{Cli, Command, OutputFormat};
use respot::clock::Clock;
use respot::commands::start::{self, Signals};
use respot::commands::{Exit, Failure, Printed, Session, dispatch, man};
use respot::report::{document::Document, log::Format};
use respot::settings::{Environment, Settings};
use respot::stop::Stop;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let (result, json, lines) = match Cli::try_parse_from(&arguments).and_then(Cli::checked) {
        Ok(cli) => (execute(&cli), cli.global.output == Some(OutputFormat::Json), start::log_format(&cli)),
        Err(error) if !error.use_stderr() => {
            let document = Document::from(error.render().to_string());
            (Ok(Printed { exit: Exit::Done, document }), false, Format::Text)
        }
        Err(error) => (Err(Failure::usage(&error)), start::asks_for_json(&arguments), Format::Text),
    };
    ExitCode::from(start::finish(result, json, lines).code())
}

fn execute(cli: &Cli) -> Result<Printed, Failure> {
    if let Command::Manual(wanted) = &cli.command {
        return Ok(man::document(wanted));
    }
    let settings = Settings::load(cli, &Environment::of_process()?)?;
    // One thread: a pass waits, it does not compute.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let result = runtime.block_on(async {
        let clock = settings.now.map_or_else(Clock::system, Clock::starting_at);
        let (show, reporter) = start::console(cli, &settings, &clock)?;
        let (stop, log_format) = (Stop::default(), start::log_format(cli));
        let session =
            Session { settings: &settings, clock: &clock, stop: &stop, reporter: &reporter, show, log_format };
        let mut signals = Signals::listen(stop.clone()).map_err(Failure::internal)?;
        tokio::select! {
            done = dispatch(cli, &session) => done,
            failure = signals.insisted() => Err(failure),
        }
    });
    runtime.shutdown_background(); // A name lookup in progress would block an orderly shutdown.
    result
}
