//! The commands: from settings to an exit code.

pub mod analyze;
pub mod doctor;
pub mod explain;
pub mod figures;
pub mod man;
pub mod pass;
pub mod rollout;
pub mod start;
mod survey;
pub mod views;

use secrecy::ExposeSecret;

use self::pass::{NoPass, Ran};
use crate::cli::{Cli, Command, OutputFormat};
use crate::clock::Clock;
use crate::cloud::http::HttpTransport;
use crate::cloud::novita::{self, client::Client};
use crate::cloud::{CloudError, Rehearsal};
use crate::core::pass::safety::Unsafe;
use crate::core::world::time::Timestamp;
use crate::measure::NetProber;
use crate::notify::{Closing, EventsOnly, Outlets};
use crate::report::document::Document;
use crate::report::human::Screen;
use crate::report::{Event, Reporter, SummaryLast, complain, json, prometheus};
use crate::settings::{Settings, SettingsError, StoreSetting};
use crate::stop::Stop;
use crate::store::StoreError;
use crate::store::any::Store;
use crate::store::records::{self, Mode};
use crate::store::redis::RedisStore;
use crate::store::sqlite::SqliteStore;

/// The documented exit codes (`docs/reference.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do, or another pass is running, or disabled.
    Done = 0,
    /// The pass finished, some actions failed; or `status --check` is not healthy.
    ActionsFailed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The provider could not be reached, answered nonsense or refused the key.
    Provider = 3,
    /// The state store could not be reached or read.
    Store = 4,
    /// Refused as unsafe.
    Unsafe = 5,
    /// Deadline or signal; what was done is recorded.
    Stopped = 6,
    /// `dry-run --detailed-exit-code`: there is something to do.
    SomethingToDo = 10,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command could not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The class, for scripts.
    pub kind: &'static str,
    /// What happened, in one line.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Failure {
    /// Arguments that make no sense.
    #[must_use]
    pub fn usage(error: &clap::Error) -> Self {
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let message = "no command is given".into();
            let hint =
                Some("respot --help shows the commands; to look without touching anything, respot dry-run".into());
            return Self { exit: Exit::Usage, kind: "usage", message, hint };
        }
        let text = error.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
        Self { exit: Exit::Usage, kind: "usage", message, hint: None }
    }

    /// The system does not let the program begin.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub fn internal(error: impl ToString) -> Self {
        Self { exit: Exit::Usage, kind: "configuration", message: error.to_string(), hint: None }
    }

    /// As the JSON document of the contract.
    #[must_use]
    pub fn document(&self) -> String {
        json::document(&self.part())
    }

    /// The same as one line.
    #[must_use]
    pub fn line(&self) -> String {
        json::line(&self.part())
    }

    fn part(&self) -> json::ErrorDocument<'_> {
        let Self { exit, kind, message, hint } = self;
        json::ErrorDocument { error: json::ErrorPart { code: exit.code(), kind, message, hint: hint.as_deref() } }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self { exit: Exit::Usage, kind: "configuration", message: error.message, hint: error.hint }
    }
}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        Self {
            exit: Exit::Provider,
            kind: error.kind.into_str(),
            message: error.to_string(),
            hint: error.hint.map(Into::into),
        }
    }
}

/// What to do if a store refuses, by the first of these words in its answer.
const REFUSALS: &[(&str, &str)] = &[
    ("READONLY", "REDIS_URL points to a replica: use its primary (or run REPLICAOF NO ONE on the server)"),
    ("NOAUTH", "add the password to REDIS_URL: redis://:PASSWORD@HOST:PORT"),
    ("user and password", "correct the user and password in REDIS_URL: redis://USER:PASSWORD@HOST:PORT"),
    ("WRONGPASS", "correct the user and password in REDIS_URL: redis://USER:PASSWORD@HOST:PORT"),
    ("NOPERM", "run on the server: ACL SETUSER USER ~respot:* +@read +@write +@scripting +ping +select"),
    ("OOM", "free memory on the server, or raise its limit with CONFIG SET maxmemory"),
    ("MISCONF", "the server cannot save to disk: see its log"),
    ("disk is full", "free space on the file system of the state file"),
];

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::Unreachable { .. } => "check that the store is up and --store or REDIS_URL names it",
            StoreError::Refused { detail, .. } => {
                let known = REFUSALS.iter().find(|(words, _)| detail.contains(words));
                known.map_or("check the password, the permissions and the free space of the store", |(_, hint)| hint)
            }
            StoreError::Unreadable { .. } => "move the damaged records or the file away; a new one is made",
            StoreError::Newer { .. } => "a newer respot wrote to this store: use that version here, too",
            StoreError::LeaseLost => {
                "was this process suspended, or the store emptied? The next pass settles what is open"
            }
        };
        Self { exit: Exit::Store, kind: "store", message: error.to_string(), hint: Some(hint.into()) }
    }
}

impl From<Unsafe> for Failure {
    fn from(error: Unsafe) -> Self {
        let hint = match error {
            Unsafe::IncompleteListing { .. } => "nothing was done; the next pass reads the list again",
            Unsafe::BlastRadius { .. } => {
                "nothing was done; look at respot dry-run --force, then go past the limit with --force, do less with \
                 --max-recreations, or raise MIGRATION_MAX_RECREATE_PERCENT"
            }
        };
        Self { exit: Exit::Unsafe, kind: "unsafe", message: error.to_string(), hint: Some(hint.into()) }
    }
}

/// A command's result.
#[derive(Debug)]
pub struct Printed {
    /// The exit code.
    pub exit: Exit,
    /// For stdout.
    pub document: Document,
}

/// Where and how results are shown.
#[derive(Clone, Copy, Debug)]
pub struct Presentation {
    /// What the operator asked for, if anything.
    pub format: Option<OutputFormat>,
    /// No table after a pass.
    pub quiet: bool,
    /// The place.
    pub screen: Screen,
}

impl Presentation {
    fn json(self) -> bool {
        self.format == Some(OutputFormat::Json)
    }
}

/// Carries out the command.
///
/// # Errors
/// [`Failure`] with its exit code, when the command could not do its work.
pub async fn dispatch(
    cli: &Cli,
    settings: &Settings,
    clock: Clock,
    stop: &Stop,
    reporter: &dyn Reporter,
    show: Presentation,
) -> Result<Printed, Failure> {
    match &cli.command {
        Command::Run(_) | Command::CheckFailed(_) => {
            let reporter = SummaryLast::new(reporter);
            let outlets = Outlets::new(&settings.notify, &reporter).map_err(unusable)?;
            let ran = if settings.enabled {
                pass(settings, &outlets, clock, stop, &reporter).await
            } else {
                Ok(Ran::Skipped(NoPass::Disabled))
            };
            tell(&ran, settings, &outlets, clock.now(), &reporter).await;
            reporter.finish();
            Ok(pass::show(ran?, &settings.policy, show))
        }
        Command::DryRun { pass: _, detailed_exit_code } => {
            let store = open_to_read(settings).await?;
            let cloud = client(settings)?;
            let rules = pass::Rules::new(settings, Mode::Real);
            let planned = pass::dry_run(&cloud, &store, &rules, clock, stop, reporter).await?;
            Ok(pass::show_plan(planned, &settings.policy, *detailed_exit_code, show))
        }
        Command::Explain { instance, pass: _ } => {
            let store = open_to_read(settings).await?;
            let cloud = client(settings)?;
            let rules = pass::Rules::new(settings, Mode::Real);
            let look = explain::Look { cloud: &cloud, store: &store, rules: &rules, clock, reporter };
            let explained = explain::explain(&look, settings.enabled, instance, stop).await?;
            if let Some(Failure { message, hint, .. }) = &explained.failure {
                complain(message, hint.as_deref(), start::log_format(cli));
            }
            Ok(explain::show(&explained, show))
        }
        Command::History(args) => views::history(&open_to_read(settings).await?, args, clock.now(), show).await,
        Command::Status { check } => {
            views::status(&open_to_read(settings).await?, settings, *check, clock.now(), show).await
        }
        Command::Analyze(_) => {
            let (store, cloud) = (open_to_read(settings).await?, client(settings)?);
            let (prober, terms) = (NetProber::new(settings.probe_timeout), &settings.terms);
            let analyzing = analyze::analyze(&cloud, &store, &prober, terms, clock, reporter);
            Ok(analyze::show(analyze::within(stop, settings.job_timeout, analyzing).await?, show))
        }
        Command::Rollout(arguments) => {
            let reporter = SummaryLast::new(reporter);
            let outlets = Outlets::new(&settings.notify, &reporter).map_err(unusable)?;
            let session = Session { settings, clock, stop, reporter: &reporter, show };
            let output = rollout::command(arguments, &session, &EventsOnly(&outlets)).await;
            reporter.finish();
            output
        }
        Command::Doctor { send_test_event } => Ok(doctor::examine(settings, *send_test_event, show).await),
        Command::Completions { shell } => Ok(man::completions(*shell)),
        Command::Man => Ok(man::man()),
    }
}

/// What the command line, the settings and the process give to every command.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The clock of decisions and records.
    pub clock: Clock,
    /// Triggered by SIGINT and SIGTERM.
    pub stop: &'a Stop,
    /// Receives what happens, for the log and the progress.
    pub reporter: &'a dyn Reporter,
    /// Where and how the result is shown.
    pub show: Presentation,
}

/// Tells whoever is to be told how the command ended.
async fn tell(
    ran: &Result<Ran, Failure>,
    settings: &Settings,
    outlets: &Outlets<'_>,
    now: Timestamp,
    reporter: &dyn Reporter,
) {
    let (worked, message) = match ran {
        Ok(ran) => (ran.worked(), ran.line()),
        Err(failure) => (Some(false), failure.line()),
    };
    // A store that has just failed is not asked again, and a pass that is at work makes metrics itself.
    let is_readable = ran.as_ref().err().is_none_or(|failure| failure.exit != Exit::Store) && worked.is_some();
    let metrics = match outlets.wants_metrics() && is_readable {
        true => metrics(settings, now).await.map(Some),
        false => Ok(None),
    };
    let metrics = metrics.unwrap_or_else(|error| {
        reporter.event(Event::NotTold { setting: "RESPOT_METRICS_FILE", error: &error.to_string() });
        None
    });
    outlets.close(Closing { worked, message: &message, metrics: metrics.as_deref() }).await;
}

async fn metrics(settings: &Settings, now: Timestamp) -> Result<String, StoreError> {
    let store = open_to_read(settings).await?;
    let overview = records::overview(&store, &figures::selection(now)).await?;
    Ok(prometheus::text(&figures::figures(&overview, settings, now)))
}

async fn pass(
    settings: &Settings,
    outlets: &Outlets<'_>,
    clock: Clock,
    stop: &Stop,
    reporter: &dyn Reporter,
) -> Result<Ran, Failure> {
    let store = open_to_write(settings).await?;
    let cloud = client(settings)?;
    let mode = if settings.rehearsal { Mode::Rehearsal } else { Mode::Real };
    let rules = pass::Rules::new(settings, mode);
    match mode {
        Mode::Real => pass::run((&cloud, &cloud), &store, &rules, outlets, clock, stop, reporter).await,
        Mode::Rehearsal => pass::run((&cloud, &Rehearsal), &store, &rules, outlets, clock, stop, reporter).await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(error: anyhow::Error) -> Failure {
    SettingsError { message: format!("{error:#}"), hint: None }.into()
}

fn client(settings: &Settings) -> Result<Client<HttpTransport>, Failure> {
    let key = settings.api_key.as_ref().map_or("", |key| key.expose_secret());
    novita::connect(&settings.api_base_url, key).map_err(unusable)
}

async fn open_to_write(settings: &Settings) -> Result<Store, StoreError> {
    Ok(match &settings.store {
        StoreSetting::Redis { url, prefix } => Store::Redis(RedisStore::connect(url.expose_secret(), prefix).await?),
        StoreSetting::Sqlite(path) => Store::Sqlite(SqliteStore::open(path, Clock::system())?),
    })
}

async fn open_to_read(settings: &Settings) -> Result<Store, StoreError> {
    Ok(match &settings.store {
        StoreSetting::Redis { url, prefix } => Store::Redis(RedisStore::connect(url.expose_secret(), prefix).await?),
        StoreSetting::Sqlite(path) => Store::Sqlite(SqliteStore::open_read(path, Clock::system())?),
    })
}

impl Presentation {
    /// A table after a pass is for somebody who watches, or who asked for it; cron wants the log lines alone.
    fn wants_table(self) -> bool {
        let watched = self.screen.width.is_some();
        !self.quiet && (self.format == Some(OutputFormat::Table) || watched)
    }
}
