//! The commands, a file or folder for each: from the command line to an exit code.

pub mod analyze;
pub mod doctor;
pub mod dry_run;
pub mod explain;
pub mod history;
pub mod man;
pub mod markets;
pub mod observe;
pub mod replay;
pub mod report;
pub mod rollout;
pub mod run;
mod session;
pub mod start;
pub mod status;
mod survey;

pub use self::session::{Presentation, Session};
use crate::cli::{Cli, Command};
use crate::cloud::CloudError;
use crate::core::pass::safety::Unsafe;
use crate::core::world::error::ErrorKind;
use crate::report::document::Document;
use crate::report::json;
use crate::settings::SettingsError;
use crate::stop::StopCause;
use crate::store::StoreError;

/// The exit codes; documented in `docs/reference.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do, or another pass is running, or disabled.
    Done = 0,
    /// The pass finished, some actions failed; or `status --check` is not healthy.
    ActionsFailed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The provider could not be reached, sent an unexpected response or refused the key.
    Provider = 3,
    /// The state store could not be reached or read.
    Store = 4,
    /// Refused as unsafe.
    Unsafe = 5,
    /// Deadline or signal; what was done is recorded.
    Stopped = 6,
    /// The work is done, but stdout or stderr could not be written.
    OutputLost = 7,
    /// `dry-run --detailed-exit-code`: there is something to do.
    SomethingToDo = 10,
}

impl Exit {
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The same if the output got lost: no success, and failures stay what they are.
    #[must_use]
    pub fn without_output(self) -> Self {
        match self {
            Self::Done | Self::SomethingToDo => Self::OutputLost,
            failure => failure,
        }
    }
}

/// Why a command could not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// The class, for scripts.
    pub kind: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// The class of the provider's error, if it is one.
    pub error_kind: Option<ErrorKind>,
}

impl Failure {
    /// Invalid arguments.
    #[must_use]
    pub fn usage(error: &clap::Error) -> Self {
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let message = "no command is given".into();
            let hint = Some("run respot --help for the commands, or respot dry-run to see what a pass would do".into());
            return Self { exit: Exit::Usage, kind: "usage", message, hint, error_kind: None };
        }
        let text = error.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
        Self { exit: Exit::Usage, kind: "usage", message, hint: None, error_kind: None }
    }

    /// The program cannot start.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub fn internal(error: impl ToString) -> Self {
        Self { exit: Exit::Usage, kind: "configuration", message: error.to_string(), hint: None, error_kind: None }
    }

    /// The JSON document.
    #[must_use]
    pub fn document(&self) -> String {
        json::document(&json::ErrorDocument { error: self.part() })
    }

    /// The same as one line.
    #[must_use]
    pub fn line(&self) -> String {
        json::line(&json::ErrorDocument { error: self.part() })
    }

    fn part(&self) -> json::ErrorPart<'_> {
        let Self { exit, kind, message, hint, error_kind: _ } = self;
        json::ErrorPart { code: exit.code(), kind, message, hint: hint.as_deref() }
    }

    /// A command that was stopped before it was done.
    #[must_use]
    pub fn stopped(cause: StopCause) -> Self {
        let (message, hint) = match cause {
            StopCause::Deadline => {
                ("the pass reached its deadline", "raise MIGRATION_JOB_TIMEOUT_MS, or let passes do less")
            }
            StopCause::Signal => ("the pass was stopped by a signal", "the next pass continues"),
            StopCause::LeaseLost => return StoreError::LeaseLost.into(),
        };
        Self {
            exit: Exit::Stopped,
            kind: "stopped",
            message: message.into(),
            hint: Some(hint.into()),
            error_kind: None,
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self { exit: Exit::Usage, kind: "configuration", message: error.message, hint: error.hint, error_kind: None }
    }
}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        Self {
            exit: Exit::Provider,
            kind: error.kind.into_str(),
            message: error.to_string(),
            hint: error.hint.map(Into::into),
            error_kind: Some(error.kind),
        }
    }
}

const NO_CLUSTER: &str = "REDIS_URL points to a Redis Cluster, which is not supported: use a Redis without cluster mode, \
    or the embedded store (--store sqlite:PATH)";

/// What to do about an error of a store, by the first of these words in it.
const REFUSALS: &[(&str, &str)] = &[
    (
        "invalid peer certificate",
        "set SSL_CERT_FILE to a file with the certificate of the authority that signed the server's, which respot can read",
    ),
    ("CROSSSLOT", NO_CLUSTER),
    ("MOVED", NO_CLUSTER),
    ("CLUSTERDOWN", NO_CLUSTER),
    ("cluster mode", NO_CLUSTER),
    ("DB index is out of range", "correct the number of the database at the end of REDIS_URL"),
    (
        "unknown command",
        "the server does not know this command: REDIS_URL names a Sentinel or another port, or the server has renamed it",
    ),
    ("a database of another application", "name another file: this one belongs to something else"),
    ("it is a link to nothing", "remove the link, or make the file that it leads to"),
    ("it is a folder", "name a file in it, for example --store sqlite:/var/lib/respot/state.db"),
    ("READONLY", "REDIS_URL points to a replica: use its primary (or run REPLICAOF NO ONE on the server)"),
    ("NOAUTH", "add the password to REDIS_URL: redis://:PASSWORD@HOST:PORT"),
    ("user and password", "correct the user and password in REDIS_URL: redis://USER:PASSWORD@HOST:PORT"),
    ("WRONGPASS", "correct the user and password in REDIS_URL: redis://USER:PASSWORD@HOST:PORT"),
    ("NOREPLICAS", "the server has too few replicas (min-replicas-to-write): bring them up, or lower that setting"),
    ("OOM", "free memory on the server, or raise its limit with CONFIG SET maxmemory"),
    ("MISCONF", "the server cannot save to disk: see its log"),
    ("disk is full", "free space on the file system of the state file"),
];

/// As a pattern of Redis that means itself.
fn glob_escaped(text: &str) -> String {
    let escaped = |c: char| if "*?[]\\^".contains(c) { format!("\\{c}") } else { c.to_string() };
    text.chars().map(escaped).collect()
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        let known = REFUSALS.iter().find(|(words, _)| text.contains(words)).map(|(_, hint)| *hint);
        let hint = known.unwrap_or(match &error {
            StoreError::NotPermitted { prefix, detail, .. } => {
                let rights = if detail.contains(" key") {
                    format!("'~{}*'", glob_escaped(prefix))
                } else {
                    "+@read +@write +@scripting +ping +select +info".into()
                };
                let hint = format!("run on the server: ACL SETUSER USER {rights}");
                return Self { exit: Exit::Store, kind: "store", message: text, hint: Some(hint), error_kind: None };
            }
            StoreError::Unreachable { store, .. } if store.starts_with("rediss:") => {
                "check that the store is up, speaks TLS on that port, and REDIS_URL names it"
            }
            StoreError::Unreachable { .. } => "check that the store is up and --store or REDIS_URL names it",
            StoreError::Refused { store, .. } if store.starts_with("sqlite:") => {
                "check the owner and the permissions of the file and its directory, and the free space"
            }
            StoreError::Refused { .. } => "check the password, the permissions and the free space of the store",
            StoreError::Unreadable { .. } => "move the damaged records or the file away; a new one is made",
            StoreError::Sealed { .. } => {
                "set RESPOT_STORE_KEY to the key that it was sealed with; without that key, delete the record"
            }
            StoreError::Foreign { .. } => "one store is for one account: name another with --store or REDIS_KEY_PREFIX",
            StoreError::Newer { .. } => "a newer respot wrote to this store: use that version here, too",
            StoreError::LeaseLost => {
                "was this process suspended, or the store emptied? The next pass settles what is open"
            }
        });
        Self { exit: Exit::Store, kind: "store", message: text, hint: Some(hint.into()), error_kind: None }
    }
}

impl From<Unsafe> for Failure {
    fn from(error: Unsafe) -> Self {
        let hint = match error {
            Unsafe::IncompleteListing { .. } => "nothing was done; the next pass reads the list again",
            Unsafe::BlastRadius { .. } => {
                "nothing was done; check respot dry-run --force, then exceed the limit with --force, do less with \
                 --max-recreations, or raise MIGRATION_MAX_RECREATE_PERCENT"
            }
        };
        Self {
            exit: Exit::Unsafe,
            kind: "unsafe",
            message: error.to_string(),
            hint: Some(hint.into()),
            error_kind: None,
        }
    }
}

/// What a command prints, and how it exits.
#[derive(Debug)]
pub struct Printed {
    pub exit: Exit,
    pub document: Document,
}

/// Carries out the command.
///
/// # Errors
/// [`Failure`] with its exit code, when the command could not do its work.
pub async fn dispatch(cli: &Cli, session: &Session<'_>) -> Result<Printed, Failure> {
    match &cli.command {
        Command::Run(_) | Command::CheckFailed(_) => run::command(session).await,
        Command::DryRun { pass: _, detailed_exit_code, all } => {
            dry_run::command(session, *detailed_exit_code, *all).await
        }
        Command::Explain { instance, pass: _ } => explain::command(session, instance).await,
        Command::History(args) => {
            history::history(&session.open_to_read().await?, args, session.clock.now(), session.show).await
        }
        Command::Status { check } => {
            let Session { settings, clock, show, reporter, .. } = *session;
            let screen = (clock.now(), show, reporter);
            status::status(&session.open_to_read().await?, settings, *check, screen).await
        }
        Command::Report(args) => report::command(session, args).await,
        Command::Replay(args) => replay::command(cli, session, args).await,
        Command::Markets => markets::command(session).await,
        Command::Analyze(_) => analyze::command(session).await,
        Command::Rollout(arguments) => rollout::command(arguments, session).await,
        Command::Doctor { send_test_event } => {
            Ok(doctor::examine(session.settings, *send_test_event, session.show).await)
        }
        Command::Manual(wanted) => Ok(man::document(wanted)),
    }
}
