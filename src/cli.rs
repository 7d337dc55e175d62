//! The command line: types and help texts only.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Brings reclaimed GPU spot instances back. One shot per invocation: schedule it with cron, systemd or a CronJob.
#[derive(Debug, Parser)]
#[command(name = "respot", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done or nothing to do, 1 some actions failed, 2 usage or configuration, 3 provider, 4 state store, \
5 refused as unsafe, 6 deadline or signal, 10 there is something to do (dry-run --detailed-exit-code).

Settings come from flags, the environment and a file, in this order; see the README for all of them.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One pass: fetch, filter, migrate, look after failed migrations, record
    Run(PassArgs),
    /// The same pass up to the plan, printed with every verdict and reason; writes nothing anywhere
    DryRun {
        /// What the pass may do.
        #[command(flatten)]
        pass: PassArgs,
        /// Exit with 10 when there is something to do
        #[arg(long)]
        detailed_exit_code: bool,
    },
    /// The second half alone: failed and stuck migrations are recreated, open recreations resumed
    CheckFailed(PassArgs),
    /// Past passes, newest first
    History(HistoryArgs),
    /// Health, last and next pass, statistics, what is in flight
    Status {
        /// Exit with 1 unless healthy
        #[arg(long)]
        check: bool,
    },
}

impl Command {
    /// Whether this is a pass, which talks to the provider.
    #[must_use]
    pub fn pass(&self) -> Option<&PassArgs> {
        match self {
            Self::Run(pass) | Self::DryRun { pass, .. } | Self::CheckFailed(pass) => Some(pass),
            Self::History(_) | Self::Status { .. } => None,
        }
    }
}

/// Options of a pass.
#[derive(Args, Clone, Debug, Default)]
pub struct PassArgs {
    /// Migrate at most N instances, those that stopped first
    #[arg(long, value_name = "N")]
    pub max_migrations: Option<usize>,
    /// Recreate at most N instances
    #[arg(long, value_name = "N")]
    pub max_recreations: Option<usize>,
    /// Manage only instances whose name or id matches the pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// Leave alone instances whose name or id matches the pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// When an exited instance may be migrated: time, reclaimed (MIGRATION_ELIGIBILITY)
    #[arg(long, value_name = "POLICY")]
    pub eligibility: Option<String>,
    /// Which instances are managed: spot, all (MIGRATION_SCOPE)
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<String>,
    /// Recreate even when suspiciously many are due (MIGRATION_MAX_RECREATE_PERCENT)
    #[arg(long)]
    pub force: bool,
    /// Try again what is in quarantine after repeated failures
    #[arg(long)]
    pub retry_quarantined: bool,
}

/// Options of `history`.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Show at most N passes
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Pass over the N newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: usize,
    /// Only passes that began within this time, for example 24h
    #[arg(long, value_name = "DURATION")]
    pub since: Option<humantime::Duration>,
    /// Only passes that acted on the instance with this name or id
    #[arg(long, value_name = "INSTANCE")]
    pub instance: Option<String>,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Read settings from this file (RESPOT_CONFIG)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to remember: redis://…, rediss://… or sqlite:PATH (REDIS_URL)
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// How to print data
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub output: Option<OutputFormat>,
    /// Only errors on stderr, no table after a pass
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// More on stderr: every decision; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Whether to use colour (NO_COLOR)
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// How to write log lines
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Decide and record as if it were then
    #[arg(long, global = true, hide = true, value_name = "RFC3339")]
    pub now: Option<String>,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For scripts: one JSON document.
    Json,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
