//! Flags, environment and file become [`Settings`], checked before anything is asked of anybody.
//!
//! The only reader of the environment. Secrets are wrapped as soon as they are read.

mod layers;
mod notify;
mod origins;
mod rollout;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use url::Url;

pub use layers::Environment;
use layers::{Given, Layers, Source, check_names, quoted, word};
pub use origins::Origins;

use crate::cli::{Cli, Command, Global};
use crate::core::pass::safety::BlastRadius;
use crate::core::rollout::analysis::Terms;
use crate::core::rollout::course::Course;
use crate::core::world::policy::{Eligibility, Halves, Policy, RecreateOrder, Scope, Selector};
use crate::core::world::time::Timestamp;

/// A setting: its name in the environment, its default and what it means. In the file the name is in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// The environment variable.
    pub name: &'static str,
    /// As the README shows it.
    pub default: &'static str,
    /// Range and meaning.
    pub meaning: &'static str,
}

/// Every setting, in the order of the README.
pub const SETTINGS: &[Described] = &[
    setting(
        "NOVITA_API_KEY",
        "none",
        "the key; or `NOVITA_API_KEY_FILE`. Needed by all but `history`, `status`, `completions` and `man`",
    ),
    setting("NOVITA_API_KEY_FILE", "none", "a file that holds the key"),
    setting("NOVITA_API_BASE_URL", DEFAULT_BASE_URL, "where the provider's API lives"),
    setting("REDIS_URL", "embedded store", "`redis://`, `rediss://` (TLS) or `sqlite:PATH`; also `--store`"),
    setting("REDIS_KEY_PREFIX", "respot:", "before every key; may be empty"),
    setting("MIGRATION_ENABLED", "true", "`false`: `run` says so and exits 0"),
    setting(
        "MIGRATION_INTERVAL_MINUTES",
        "15",
        "1-60; how often the schedule calls; `status` derives the next pass from it",
    ),
    setting("MIGRATION_JOB_TIMEOUT_MS", "600000", "60000-1800000; deadline of one pass"),
    setting("MIGRATION_MAX_CONCURRENT", "5", "1-20; provider writes in flight"),
    setting("MIGRATION_DRY_RUN", "false", "`true`: `run` is a rehearsal, nothing is written to the provider"),
    setting("MIGRATION_RETRY_FAILED", "true", "whether `run` looks after failed migrations, as `check-failed` does"),
    setting("MIGRATION_LOG_LEVEL", "info", "trace, debug, info, warn, error; `RUST_LOG` wins when set"),
    setting("MIGRATION_ELIGIBILITY_INTERVAL_HOURS", "4", "1-168; cooldown of each instance"),
    setting(
        "MIGRATION_ELIGIBILITY",
        "time",
        "`time`, or `reclaimed`: only with evidence of a reclaim; also `--eligibility`",
    ),
    setting("MIGRATION_SCOPE", "spot", "`spot`, or `all`: whatever the billing; also `--scope`"),
    setting(
        "MIGRATION_RECREATE_ORDER",
        "create-first",
        "`create-first`, or `delete-first` for accounts whose quota has no room for two",
    ),
    setting("MIGRATION_RECREATE_WAIT_MS", "120000", "0-600000; how long a pass waits for replacements to run"),
    setting(
        "MIGRATION_MAX_RECREATE_PERCENT",
        "30",
        "1-100; a pass that would recreate more than this share, and more than 3, is refused; `--force` goes past it",
    ),
    setting("WEBHOOK_URL", "none", "where events are sent; https, or http to this machine"),
    setting("WEBHOOK_SECRET", "none", "signs them, plain or `whsec_<base64>`; or `WEBHOOK_SECRET_FILE`"),
    setting("WEBHOOK_SECRET_FILE", "none", "a file that holds the secret"),
    setting("RESPOT_PING_URL", "none", "dead man's switch: `URL/start`, then `URL` or `URL/fail`"),
    setting("RESPOT_METRICS_FILE", "none", "Prometheus text, replaced as one at the end of each pass"),
    setting("RESPOT_PUSHGATEWAY_URL", "none", "the same pushed to a Pushgateway, as job `respot`"),
    setting(
        "RESPOT_TERMINATION_MESSAGE_FILE",
        "none",
        "the summary of each pass as one line of JSON; in Kubernetes `/dev/termination-log`",
    ),
    setting(
        "RESPOT_PROBE",
        "none",
        "how `analyze` and `rollout` measure an instance: `http:PORT/PATH`, `tcp:PORT`, `exec:COMMAND`; also `--probe`",
    ),
    setting("RESPOT_PROBE_SAMPLES", "100", "30-1000; samples of each measurement of an instance"),
    setting("RESPOT_PROBE_TIMEOUT_MS", "5000", "100-60000; a sample that takes longer has failed"),
    setting(
        "RESPOT_ROLLOUT_MAY_LOSE",
        "none",
        "patterns of names or ids, with commas: these may lose container disk and local volumes; also `--may-lose`",
    ),
    setting("RESPOT_ROLLOUT_STAGES", "10,50,100", "cumulative shares in percent, increasing; also `--stages`"),
    setting(
        "RESPOT_ROLLOUT_SOAK_MINUTES",
        "5,10,15",
        "1-10080 each; how long each stage soaks, the last for all further ones; also `--soak`",
    ),
    setting(
        "RESPOT_ROLLOUT_HOLD_MINUTES",
        "60",
        "5-1440; so long a gate that cannot tell is held, and a new instance awaited, then it is rolled back",
    ),
    setting(
        "RESPOT_ROLLOUT_ROLLBACK",
        "all",
        "`all`, or `stage`: what is rolled back when a gate fails; also `--rollback`",
    ),
    setting("RESPOT_GPU_QUOTA", "none", "GPUs the account may have at once; the provider does not say"),
    setting("RESPOT_INSTANCE_QUOTA", "none", "instances the account may have at once; the provider does not say"),
];

const DEFAULT_BASE_URL: &str = "https://api.novita.ai/gpu-instance/openapi";

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Described {
    Described { name, default, meaning }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Where passes remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSetting {
    /// A Redis server.
    Redis {
        /// Its address, which may hold a password.
        url: Secret,
        /// Before every key.
        prefix: String,
    },
    /// The embedded store: one file.
    Sqlite(PathBuf),
}

/// Everything a command needs to know, valid by construction.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider's key; present for every pass.
    pub api_key: Option<Secret>,
    /// The provider's address.
    pub api_base_url: Url,
    /// Where to remember.
    pub store: StoreSetting,
    /// Whether `run` does anything.
    pub enabled: bool,
    /// How often the schedule calls.
    pub interval: Duration,
    /// Deadline of one pass.
    pub job_timeout: Duration,
    /// Provider writes in flight.
    pub max_concurrent: usize,
    /// Whether `run` is a rehearsal.
    pub rehearsal: bool,
    /// Whether `run` looks after failed migrations.
    pub retry_failed: bool,
    /// What is logged, if a flag or `MIGRATION_LOG_LEVEL` says so.
    pub log_level: Option<LevelFilter>,
    /// `RUST_LOG`.
    pub log_directives: Option<Targets>,
    /// Whether `NO_COLOR` is set.
    pub no_color: bool,
    /// The rules of eligibility.
    pub policy: Policy,
    /// How long a pass waits for replacements to run.
    pub recreate_wait: Duration,
    /// The blast radius.
    pub blast_radius: BlastRadius,
    /// In place of the system's time.
    pub now: Option<Timestamp>,
    /// Who is told of a pass.
    pub notify: NotifySettings,
    /// What may be moved to spot, and what speaks against it.
    pub terms: Terms,
    /// How a rollout goes.
    pub course: Course,
    /// A sample that takes longer has failed.
    pub probe_timeout: Duration,
    /// What the operator should know about these settings.
    pub warnings: Vec<Warning>,
    /// Where they came from.
    pub origins: Origins,
}

/// What is allowed, but may not be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.mend)
    }
}

/// Who is told of a pass, apart from the log.
#[derive(Clone, Debug, Default)]
pub struct NotifySettings {
    /// The receiver of events.
    pub webhook: Option<WebhookSetting>,
    /// The dead man's switch.
    pub ping: Option<Address>,
    /// The file for Prometheus.
    pub metrics_file: Option<PathBuf>,
    /// The Pushgateway.
    pub pushgateway: Option<Address>,
    /// The file for the summary.
    pub termination_message_file: Option<PathBuf>,
}

/// The receiver of events.
#[derive(Clone, Debug)]
pub struct WebhookSetting {
    /// Where it is.
    pub address: Address,
    /// What events are signed with, decoded.
    pub secret: SigningSecret,
}

/// A key for signatures, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// The bytes themselves, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// An address of which only scheme, host and port are ever shown: whoever knows the rest may be able to write there.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Wraps an address.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole address, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(url) = self;
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
        url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str("/…")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A setting that cannot be used (exit code 2). Names the setting, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl SettingsError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

type Result<T, E = SettingsError> = std::result::Result<T, E>;

impl Settings {
    /// Puts the layers together.
    ///
    /// # Errors
    /// The first setting that is misspelt, cannot be read or is out of range.
    pub fn load(cli: &Cli, environment: &Environment) -> Result<Self> {
        let Global { config, store, output: _, quiet, verbose, color: _, log_format: _, now, help: _ } = &cli.global;
        let mut warnings = check_names(environment)?;
        let layers = Layers::new(environment, config.as_deref())?;
        let pass = cli.command.pass().cloned().unwrap_or_default();

        let enabled = layers.truth("MIGRATION_ENABLED", true)?;
        let api_key = api_key(&layers)?;
        // Whoever switched passes off may have taken the key away, too.
        let switched_off = !enabled && matches!(cli.command, Command::Run(_) | Command::CheckFailed(_));
        if api_key.is_none() && cli.command.needs_key() && !switched_off {
            return Err(SettingsError::new("NOVITA_API_KEY is not set")
                .hint("set NOVITA_API_KEY, or NOVITA_API_KEY_FILE to a file that holds the key"));
        }
        let api_base_url = base_url(&layers)?;
        if api_base_url.scheme() == "http" && !is_loopback(&api_base_url) {
            warnings.push(Warning {
                message: "NOVITA_API_BASE_URL is not https: the key travels in the open".into(),
                mend: "write https:// in NOVITA_API_BASE_URL".into(),
            });
        }
        let eligibility = layers.with_flag("--eligibility", pass.eligibility.as_ref(), "MIGRATION_ELIGIBILITY");
        let scope = layers.with_flag("--scope", pass.scope.as_ref(), "MIGRATION_SCOPE");
        let retry_failed = layers.truth("MIGRATION_RETRY_FAILED", true)?;
        let policy = Policy {
            eligibility: word(
                eligibility,
                Eligibility::Time,
                &[("time", Eligibility::Time), ("reclaimed", Eligibility::Reclaimed)],
            )?,
            scope: word(scope, Scope::Spot, &[("spot", Scope::Spot), ("all", Scope::All)])?,
            cooldown: Duration::from_secs(3600 * layers.number("MIGRATION_ELIGIBILITY_INTERVAL_HOURS", 4, 1..=168)?),
            only: selectors("--only", &pass.only)?,
            exclude: selectors("--exclude", &pass.exclude)?,
            max_migrations: pass.max_migrations,
            halves: match cli.command {
                Command::CheckFailed(_) => Halves::RecreateOnly,
                _ if retry_failed => Halves::Both,
                _ => Halves::MigrateOnly,
            },
            recreate_order: word(
                layers.get("MIGRATION_RECREATE_ORDER"),
                RecreateOrder::CreateFirst,
                &[("create-first", RecreateOrder::CreateFirst), ("delete-first", RecreateOrder::DeleteFirst)],
            )?,
            max_recreations: pass.max_recreations,
            retry_quarantined: pass.retry_quarantined,
        };
        let max_concurrent = layers.number("MIGRATION_MAX_CONCURRENT", 5, 1..=20)?;
        let level = log_level(&layers)?;
        let log_level = match (*quiet, *verbose) {
            (true, _) => Some(LevelFilter::ERROR),
            (false, 0) => level,
            (false, 1) => Some(LevelFilter::DEBUG),
            (false, _) => Some(LevelFilter::TRACE),
        };
        let notify = notify::settings(&layers, &mut warnings)?;
        Ok(Self {
            api_key,
            api_base_url,
            store: store_setting(store.as_ref(), &layers, environment)?,
            enabled,
            interval: Duration::from_secs(60 * layers.number("MIGRATION_INTERVAL_MINUTES", 15, 1..=60)?),
            job_timeout: Duration::from_millis(layers.number(
                "MIGRATION_JOB_TIMEOUT_MS",
                600_000,
                60_000..=1_800_000,
            )?),
            max_concurrent: usize::try_from(max_concurrent).unwrap_or(1),
            rehearsal: layers.truth("MIGRATION_DRY_RUN", false)?,
            retry_failed,
            log_level,
            // A flag was meant for this one call, so it wins over the environment.
            log_directives: if *quiet || *verbose > 0 { None } else { log_directives(environment)? },
            no_color: environment.non_empty("NO_COLOR").is_some(),
            policy,
            recreate_wait: Duration::from_millis(layers.number("MIGRATION_RECREATE_WAIT_MS", 120_000, 0..=600_000)?),
            blast_radius: BlastRadius {
                percent: layers.number("MIGRATION_MAX_RECREATE_PERCENT", 30, 1..=100)?,
                force: pass.force,
            },
            now: now.as_deref().map(parse_now).transpose()?,
            terms: rollout::terms(cli.command.gates(), &layers, notify.webhook.is_some())?,
            course: rollout::course(&cli.command, &layers)?,
            probe_timeout: Duration::from_millis(layers.number("RESPOT_PROBE_TIMEOUT_MS", 5000, 100..=60_000)?),
            notify,
            warnings,
            origins: Origins::of(&layers),
        })
    }
}

fn parse_now(text: &str) -> Result<Timestamp> {
    text.parse()
        .map_err(|_| SettingsError::new(format!("--now is {text:?}, allowed is a time such as 2024-01-15T10:45:00Z")))
}

fn api_key(layers: &Layers<'_>) -> Result<Option<Secret>> {
    let Some(given) = secret(layers, "NOVITA_API_KEY", "NOVITA_API_KEY_FILE")? else { return Ok(None) };
    let Given { name, value, source } = given;
    if value.is_empty() {
        return Err(SettingsError::new(format!("{name} holds no key ({source})")));
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SettingsError::new(format!("{name} holds characters that no key has, such as a space ({source})"))
            .hint("copy the key again; its value is not shown here"));
    }
    Ok(Some(Secret(value)))
}

/// A secret that is given itself, or as a file that holds it.
fn secret(layers: &Layers<'_>, itself: &'static str, as_file: &'static str) -> Result<Option<Given>> {
    let from_file = |source: &Source| matches!(source, Source::File(_));
    match (layers.get(itself), layers.get(as_file)) {
        // The environment over the file also between the two ways to give it.
        (Some(given), Some(file)) if from_file(&given.source) && !from_file(&file.source) => read_secret(&file),
        (Some(given), _) => Ok(Some(given)),
        (None, Some(file)) => read_secret(&file),
        (None, None) => Ok(None),
    }
}

fn read_secret(given: &Given) -> Result<Option<Given>> {
    let Given { name, value: path, source } = given;
    let text = std::fs::read_to_string(path).map_err(|error| {
        SettingsError::new(format!("{name} names {}, which cannot be read: {error} ({source})", quoted(path)))
    })?;
    Ok(Some(Given { name, value: text.trim().to_owned(), source: source.clone() }))
}

fn base_url(layers: &Layers<'_>) -> Result<Url> {
    let default = || Given { name: "", value: DEFAULT_BASE_URL.into(), source: Source::Environment };
    let given = layers.get("NOVITA_API_BASE_URL").unwrap_or_else(default);
    let allowed = "an http:// or https:// address without user, query and fragment";
    let url = Url::parse(&given.value).map_err(|_| given.wrong(allowed))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !plain {
        // Not shown: whoever writes a user there wrote a password, too.
        return Err(SettingsError::new(format!("NOVITA_API_BASE_URL holds a user, allowed is {allowed}")));
    }
    let usable = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if usable { Ok(url) } else { Err(given.wrong(allowed)) }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn store_setting(flag: Option<&String>, layers: &Layers<'_>, environment: &Environment) -> Result<StoreSetting> {
    let Some(given) = layers.with_flag("--store", flag, "REDIS_URL") else {
        return Ok(StoreSetting::Sqlite(default_state_file(environment)?));
    };
    let Given { name, value, source } = given;
    if let Some(path) = value.strip_prefix("sqlite:") {
        if path.is_empty() {
            return Err(SettingsError::new(format!("{name} is \"sqlite:\", a path is missing ({source})")));
        }
        return Ok(StoreSetting::Sqlite(path.into()));
    }
    // The value is not shown: it may hold a password.
    let wrong = |what: &str| {
        SettingsError::new(format!("{name} {what} ({source})"))
            .hint("allowed is redis://[user:password@]host[:port][/db], rediss://… for TLS, or sqlite:PATH")
    };
    let url = Url::parse(&value).map_err(|error| wrong(&format!("is no address: {error}")))?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err(wrong(&format!("begins with {}:, which is no store", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    let database = url.path().trim_matches('/');
    if !database.is_empty() && database.parse::<u16>().is_err() {
        return Err(wrong("names a database that is no number, or has a password in which /, # or ? is not encoded"));
    }
    // The one setting whose empty value means something.
    let prefix = match environment.get("REDIS_KEY_PREFIX") {
        Some(prefix) => prefix.to_owned(),
        None => layers.get("REDIS_KEY_PREFIX").map_or_else(|| "respot:".into(), |given| given.value),
    };
    Ok(StoreSetting::Redis { url: Secret(value), prefix })
}

/// Where the embedded store lives when nobody says (contract, section 2).
fn default_state_file(environment: &Environment) -> Result<PathBuf> {
    // systemd may name several folders; the first is ours.
    if let Some(folder) = environment.non_empty("STATE_DIRECTORY").and_then(|folders| folders.split(':').next()) {
        return Ok(Path::new(folder).join("state.db"));
    }
    if let Some(folder) = environment.non_empty("XDG_STATE_HOME") {
        return Ok(Path::new(folder).join("respot/state.db"));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/respot/state.db".into());
    }
    let home = environment.non_empty("HOME").ok_or_else(|| {
        SettingsError::new("no place for the state file: neither HOME nor XDG_STATE_HOME is set")
            .hint("name one with --store sqlite:PATH")
    })?;
    Ok(Path::new(home).join(".local/state/respot/state.db"))
}

fn selectors(flag: &str, patterns: &[String]) -> Result<Vec<Selector>> {
    let parse = |pattern: &String| {
        Selector::parse(pattern)
            .map_err(|error| SettingsError::new(format!("{flag} {pattern:?} is no pattern: {error}")))
    };
    patterns.iter().map(parse).collect()
}

fn log_level(layers: &Layers<'_>) -> Result<Option<LevelFilter>> {
    let Some(given) = layers.get("MIGRATION_LOG_LEVEL") else { return Ok(None) };
    let words = [
        ("trace", LevelFilter::TRACE),
        ("debug", LevelFilter::DEBUG),
        ("info", LevelFilter::INFO),
        ("warn", LevelFilter::WARN),
        ("error", LevelFilter::ERROR),
    ];
    word(Some(given), LevelFilter::INFO, &words).map(Some)
}

fn log_directives(environment: &Environment) -> Result<Option<Targets>> {
    let Some(text) = environment.non_empty("RUST_LOG") else { return Ok(None) };
    Targets::from_str(text)
        .map(Some)
        .map_err(|_| SettingsError::new(format!("RUST_LOG is {text:?}, allowed is for example info or respot=debug")))
}
