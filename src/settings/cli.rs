//! The command line: types and help texts only. The help of a flag that stands for a setting comes from its row.

use std::path::PathBuf;

pub use clap::ColorChoice;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::rows;
use crate::core::world::time::Timestamp;

/// Brings back reclaimed GPU spot instances. Each call runs once and exits: schedule it with cron, systemd or a CronJob.
#[derive(Debug, Parser)]
#[command(name = "respot", version, after_help = after_help(), disable_help_flag = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

impl Cli {
    /// The same, if the command supports the requested output format.
    ///
    /// # Errors
    /// A usage error that names the command that does.
    pub fn checked(self) -> Result<Self, clap::Error> {
        let (format, able) = match (self.global.output, &self.command) {
            (Some(OutputFormat::Prometheus), command) if !matches!(command, Command::Status { .. }) => {
                ("prometheus", "status")
            }
            (Some(OutputFormat::Csv), command) if !matches!(command, Command::History(_) | Command::Report(_)) => {
                ("csv", "history and respot report")
            }
            _ => return Ok(self),
        };
        let message = format!("--output {format} is only supported by respot {able}");
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }
}

/// The numbers of `commands::Exit`, for help texts and the man page.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "success or nothing to do"),
    (1, "some actions failed"),
    (2, "usage or configuration error"),
    (3, "provider error"),
    (4, "state store error"),
    (5, "refused as unsafe"),
    (6, "stopped by deadline or signal"),
    (7, "the output could not be written"),
    (10, "changes are pending (dry-run --detailed-exit-code)"),
];

fn after_help() -> String {
    let codes: Vec<String> = EXIT_CODES.iter().map(|(code, meaning)| format!("{code} {meaning}")).collect();
    let settings = "Flags take precedence over environment variables, which take precedence over the configuration file. \
        See `respot man` for every setting.";
    format!("Exit codes: {}.\n\n{settings}", codes.join(", "))
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one pass: migrate reclaimed instances and recover failed migrations
    Run(PassArgs),
    /// Show what a pass would do and why, without changing anything
    DryRun {
        #[command(flatten)]
        pass: PassArgs,
        /// Exit with 10 if the pass would change something
        #[arg(long)]
        detailed_exit_code: bool,
        /// List every instance, also those that are only counted on a terminal, such as running ones
        #[arg(long)]
        all: bool,
    },
    /// Run only the second half of a pass: recover failed and stuck migrations
    CheckFailed(PassArgs),
    /// Show past passes, newest first, or the history of one instance
    History(HistoryArgs),
    /// Report availability, lost hours by cause, recoveries and savings of a span of time
    Report(ReportArgs),
    /// Replay a market under other settings, offline: availability, recoveries, calls and cost
    Replay(ReplayArgs),
    /// Explain why an instance is or is not acted on, rule by rule
    Explain {
        /// ID or name of the instance, or of one that has been replaced
        instance: String,
        #[command(flatten)]
        pass: PassArgs,
    },
    /// Show health, the last and next pass, statistics and unfinished work
    Status {
        /// Exit with 1 unless the status is healthy
        #[arg(long)]
        check: bool,
    },
    /// Show where there is room: every market that is remembered, the best first
    Markets,
    /// Find on-demand instances that could move to spot, with savings and risk
    Analyze(GateArgs),
    /// Move instances to spot in stages, with quality gates and rollback; one step per call
    Rollout(RolloutArgs),
    /// Check settings, provider, store and receivers, and show how to fix problems
    Doctor {
        /// Send a signed test event to the webhook instead of only connecting to it
        #[arg(long)]
        send_test_event: bool,
    },
    #[command(flatten)]
    Manual(Manual),
}

/// The commands that print a document about the program. They need no settings.
#[derive(Debug, Subcommand)]
pub enum Manual {
    /// Print shell completions to stdout
    Completions {
        /// Shell to generate completions for
        shell: Shell,
    },
    /// Print the man page to stdout
    Man,
}

impl Command {
    /// The options of a pass, for commands that make or plan one.
    #[must_use]
    pub fn pass(&self) -> Option<&PassArgs> {
        match self {
            Self::Run(pass) | Self::DryRun { pass, .. } | Self::CheckFailed(pass) | Self::Explain { pass, .. } => {
                Some(pass)
            }
            _ => None,
        }
    }

    /// The conditions on instances that may move to spot, for commands that move them or might.
    #[must_use]
    pub fn gates(&self) -> Option<&GateArgs> {
        match self {
            Self::Analyze(gates) | Self::Rollout(RolloutArgs { gates, .. }) => Some(gates),
            _ => None,
        }
    }

    /// Whether it calls the provider and cannot run without a key.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        match self {
            Self::Rollout(RolloutArgs { verb, .. }) => matches!(verb, None | Some(RolloutVerb::Abort { .. })),
            Self::Analyze(_) | Self::Report(ReportArgs { invoice: true, .. }) => true,
            command => command.pass().is_some(),
        }
    }

    /// Whether it sends requests over HTTP.
    #[must_use]
    pub fn uses_network(&self) -> bool {
        self.needs_key() || matches!(self, Self::Doctor { .. })
    }
}

/// Conditions on instances that may move to spot.
#[derive(Args, Clone, Debug, Default)]
pub struct GateArgs {
    /// Consider only instances whose name or ID matches this pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// Skip instances whose name or ID matches this pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    #[arg(long, value_name = "PROBE", help = rows::RESPOT_PROBE.row.help())]
    pub probe: Option<String>,
    #[arg(long, value_name = "GLOB", help = rows::RESPOT_ROLLOUT_MAY_LOSE.row.help())]
    pub may_lose: Vec<String>,
}

/// Options of `rollout`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RolloutArgs {
    /// Without it, take the next step
    #[command(subcommand)]
    pub verb: Option<RolloutVerb>,
    #[command(flatten)]
    pub gates: GateArgs,
    /// Start without asking for confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// Keep going until the rollout is finished, showing its progress
    #[arg(long)]
    pub wait: bool,
    /// Start a new rollout after the previous one has finished
    #[arg(long)]
    pub new: bool,
    #[arg(long, value_name = "LIST", help = rows::RESPOT_ROLLOUT_STAGES.row.help())]
    pub stages: Option<String>,
    #[arg(long, value_name = "LIST", help = rows::RESPOT_ROLLOUT_SOAK_MINUTES.row.help())]
    pub soak: Option<String>,
    /// Move at most N instances, lowest risk first
    #[arg(long, value_name = "N")]
    pub max_moves: Option<usize>,
    #[arg(long, value_name = "SCOPE", help = rows::RESPOT_ROLLOUT_ROLLBACK.row.help())]
    pub rollback: Option<String>,
}

/// What to do with a rollout.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum RolloutVerb {
    /// Show progress, savings and the next step
    Status,
    /// Take no more steps until the rollout is resumed
    Pause,
    /// Continue after a pause
    Resume,
    /// Roll back every move and end the rollout
    Abort {
        /// Keep going until everything is rolled back
        #[arg(long)]
        wait: bool,
    },
}

/// Options of a pass.
#[derive(Args, Clone, Debug, Default)]
pub struct PassArgs {
    /// Migrate at most N instances, longest stopped first
    #[arg(long, value_name = "N")]
    pub max_migrations: Option<usize>,
    /// Recreate at most N instances
    #[arg(long, value_name = "N")]
    pub max_recreations: Option<usize>,
    /// Manage only instances whose name or ID matches this pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// Skip instances whose name or ID matches this pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    #[arg(long, value_name = "POLICY", help = rows::MIGRATION_ELIGIBILITY.row.help())]
    pub eligibility: Option<String>,
    #[arg(long, value_name = "SCOPE", help = rows::MIGRATION_SCOPE.row.help())]
    pub scope: Option<String>,
    #[arg(long, value_name = "MS", help = rows::MIGRATION_KEEP_TRYING_MS.row.help())]
    pub keep_trying: Option<String>,
    /// Recreate even more instances than MIGRATION_MAX_RECREATE_PERCENT allows
    #[arg(long)]
    pub force: bool,
    /// Retry instances that are in quarantine after repeated failures
    #[arg(long)]
    pub retry_quarantined: bool,
}

/// How many passes `history` shows by default.
pub const DEFAULT_LIMIT: usize = 20;

/// Options of `history`.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Show at most N passes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
    pub limit: usize,
    /// Skip the N most recent passes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: usize,
    /// Show only what happened within this time, for example 24h
    #[arg(long, value_name = "DURATION")]
    pub since: Option<humantime::Duration>,
    /// Show the history of the instance with this name or ID, oldest first, including the IDs it had before
    #[arg(long, value_name = "INSTANCE")]
    pub instance: Option<String>,
    /// List every write request of these passes to the provider (always included in JSON)
    #[arg(long, conflicts_with = "instance")]
    pub writes: bool,
}

/// Options of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// How far back the report goes, for example 7d
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    pub since: humantime::Duration,
    /// Where it ends, for example 2026-01-15T00:00:00Z [default: now]
    #[arg(long, value_name = "RFC3339")]
    pub until: Option<Timestamp>,
    /// Write the report as a web page to this file, and print its path
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Report on the instance with this name or ID alone
    #[arg(long, value_name = "INSTANCE")]
    pub instance: Option<String>,
    /// Read what the provider billed, and report the savings by it; the report begins at midnight UTC
    #[arg(long)]
    pub invoice: bool,
}

/// Which market to replay, and what to change.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("market").required(true))]
pub struct ReplayArgs {
    /// Replay what the passes of this store saw: reclaims, refusals and accepted calls
    #[arg(long, group = "market")]
    pub from_history: bool,
    /// Replay a trace: {"gap_seconds": 300, "zones": {"CLUSTER_PRODUCT": [[ROOM, TICKS], ...]}}
    #[arg(long, value_name = "FILE", group = "market")]
    pub trace: Option<PathBuf>,
    /// Try this setting, for example MIGRATION_INTERVAL_MINUTES=5 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub changes: Vec<String>,
    /// How long before a reclaim the provider announces it, for example 1h
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub notice: humantime::Duration,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file to read [env: RESPOT_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[arg(long, global = true, value_name = "URL", help = rows::REDIS_URL.row.help())]
    pub store: Option<String>,
    /// Output format; prometheus is for status only, csv for history and report
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub output: Option<OutputFormat>,
    /// Log only errors, and print no table after a pass
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log every decision; repeat (-vv) to log everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use color [env: NO_COLOR]
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Format of log lines
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Use this time instead of the current time
    #[arg(long, global = true, hide = true, value_name = "RFC3339")]
    pub now: Option<String>,
    /// Print help
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort)]
    pub help: Option<bool>,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For scripts: one JSON document.
    Json,
    /// Metrics in the text format of Prometheus, of `status` only.
    Prometheus,
    /// For spreadsheets, of `history` only.
    Csv,
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
