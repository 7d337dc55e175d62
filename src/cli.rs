//! The command line: types and help texts only.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Brings reclaimed GPU spot instances back. One shot per invocation: schedule it with cron, systemd or a CronJob.
#[derive(Debug, Parser)]
#[command(name = "respot", version, after_help = after_help(), disable_help_flag = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

impl Cli {
    /// The same, if the command can print in the format that is asked for.
    ///
    /// # Errors
    /// An error of usage that names the command that can.
    pub fn checked(self) -> Result<Self, clap::Error> {
        let (format, able) = match (self.global.output, &self.command) {
            (Some(OutputFormat::Prometheus), command) if !matches!(command, Command::Status { .. }) => {
                ("prometheus", "status")
            }
            (Some(OutputFormat::Csv), command) if !matches!(command, Command::History(_)) => ("csv", "history"),
            _ => return Ok(self),
        };
        let message = format!("--output {format} is for respot {able} alone");
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }
}

/// The exit codes, for help texts and the man page; `commands::Exit` is what they are made of.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done or nothing to do"),
    (1, "some actions failed"),
    (2, "usage or configuration"),
    (3, "provider"),
    (4, "state store"),
    (5, "refused as unsafe"),
    (6, "deadline or signal"),
    (10, "there is something to do (dry-run --detailed-exit-code)"),
];

fn after_help() -> String {
    let codes: Vec<String> = EXIT_CODES.iter().map(|(code, meaning)| format!("{code} {meaning}")).collect();
    let settings =
        "Settings come from flags, the environment and a file, in this order; see `respot man` for all of them.";
    format!("Exit codes: {}.\n\n{settings}", codes.join(", "))
}

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
    /// Past passes, newest first; or the life of one instance
    History(HistoryArgs),
    /// Why an instance was, or was not, acted on: every rule with its facts; writes nothing anywhere
    Explain {
        /// Its id or name; also of one that was replaced
        instance: String,
        /// What the pass may do.
        #[command(flatten)]
        pass: PassArgs,
    },
    /// Health, last and next pass, statistics, what is in flight
    Status {
        /// Exit with 1 unless healthy
        #[arg(long)]
        check: bool,
    },
    /// On-demand instances that could be spot: savings, risk, gates; writes nothing anywhere
    Analyze(GateArgs),
    /// Moves them gradually, with a quality gate after each stage and a rollback; each call takes at most one step
    Rollout(RolloutArgs),
    /// Checks settings, key, API, clock, store and receivers, and says how to mend what is wrong
    Doctor {
        /// Send the webhook a signed test event; without this it is only connected to
        #[arg(long)]
        send_test_event: bool,
    },
    /// Completions for a shell, to stdout
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The man page, to stdout
    Man,
}

impl Command {
    /// Whether this is a pass, which talks to the provider.
    #[must_use]
    pub fn pass(&self) -> Option<&PassArgs> {
        match self {
            Self::Run(pass) | Self::DryRun { pass, .. } | Self::CheckFailed(pass) | Self::Explain { pass, .. } => {
                Some(pass)
            }
            Self::History(_)
            | Self::Status { .. }
            | Self::Analyze(_)
            | Self::Rollout(_)
            | Self::Doctor { .. }
            | Self::Completions { .. }
            | Self::Man => None,
        }
    }

    /// What the instances that it may move have to fulfil, if it moves or might.
    #[must_use]
    pub fn gates(&self) -> Option<&GateArgs> {
        match self {
            Self::Analyze(gates) | Self::Rollout(RolloutArgs { gates, .. }) => Some(gates),
            Self::Run(_)
            | Self::DryRun { .. }
            | Self::CheckFailed(_)
            | Self::Explain { .. }
            | Self::History(_)
            | Self::Status { .. }
            | Self::Doctor { .. }
            | Self::Completions { .. }
            | Self::Man => None,
        }
    }

    /// Whether it cannot do without the provider.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        match self {
            Self::Rollout(RolloutArgs { verb, .. }) => matches!(verb, None | Some(RolloutVerb::Abort { .. })),
            Self::Analyze(_) => true,
            command => command.pass().is_some(),
        }
    }
}

/// What instances have to fulfil that are to become spot ones.
#[derive(Args, Clone, Debug, Default)]
pub struct GateArgs {
    /// Look only at instances whose name or id matches the pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// Leave alone instances whose name or id matches the pattern (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// How health and speed are measured: http:PORT/PATH, tcp:PORT, exec:COMMAND (RESPOT_PROBE)
    #[arg(long, value_name = "PROBE")]
    pub probe: Option<String>,
    /// These may lose container disk and local volumes: name or id matches (repeatable; RESPOT_ROLLOUT_MAY_LOSE)
    #[arg(long, value_name = "GLOB")]
    pub may_lose: Vec<String>,
}

/// Options of `rollout`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RolloutArgs {
    /// What to do with the rollout; without it, the next step is taken
    #[command(subcommand)]
    pub verb: Option<RolloutVerb>,
    /// Which instances.
    #[command(flatten)]
    pub gates: GateArgs,
    /// Begin without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Go on until it is over, and show how far it is
    #[arg(long)]
    pub wait: bool,
    /// Begin another one after one that is over
    #[arg(long)]
    pub new: bool,
    /// Cumulative shares in percent, for example 10,50,100 (RESPOT_ROLLOUT_STAGES)
    #[arg(long, value_name = "LIST")]
    pub stages: Option<String>,
    /// Minutes that each stage soaks, for example 5,10,15 (RESPOT_ROLLOUT_SOAK_MINUTES)
    #[arg(long, value_name = "LIST")]
    pub soak: Option<String>,
    /// Move at most N instances, those with the lowest risk
    #[arg(long, value_name = "N")]
    pub max_moves: Option<usize>,
    /// What is rolled back when a gate fails: all, stage (RESPOT_ROLLOUT_ROLLBACK)
    #[arg(long, value_name = "SCOPE")]
    pub rollback: Option<String>,
}

/// What to do with a rollout.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum RolloutVerb {
    /// How far it is, what it saved, what comes next
    Status,
    /// Take no more steps until it is resumed
    Pause,
    /// Go on after a pause
    Resume,
    /// Put everything back that was moved, and end it
    Abort {
        /// Go on until everything is put back
        #[arg(long)]
        wait: bool,
    },
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

/// So many passes `history` shows unless told otherwise.
pub const DEFAULT_LIMIT: usize = 20;

/// Options of `history`.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Show at most N passes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
    pub limit: usize,
    /// Pass over the N newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: usize,
    /// Only what happened within this time, for example 24h
    #[arg(long, value_name = "DURATION")]
    pub since: Option<humantime::Duration>,
    /// The life of the instance with this name or id, oldest first, under all ids it ever had
    #[arg(long, value_name = "INSTANCE")]
    pub instance: Option<String>,
    /// Every call of these passes that changed something at the provider, one line each (JSON always has them)
    #[arg(long, conflicts_with = "instance")]
    pub writes: bool,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Read settings from this file (RESPOT_CONFIG)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to remember: redis://…, rediss://… or sqlite:PATH (REDIS_URL)
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// How to print data; prometheus is for status alone, csv for history alone
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
    /// For Prometheus: metrics as text; `status` alone has them.
    Prometheus,
    /// For spreadsheets: `history` alone.
    Csv,
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
