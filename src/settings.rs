//! Flags, environment and configuration file become [`Settings`], checked before the first request.
//!
//! `rows` has one row for each setting, `parsers` turns text into values, `layers` decides which text wins. Nothing
//! else reads the environment, and secrets are wrapped as soon as they are read.

mod addresses;
pub mod cli;
mod ec2;
mod layers;
mod notify;
mod origins;
mod parsers;
mod rollout;
pub mod rows;

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::{SecretSlice, SecretString};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use url::Url;

pub use addresses::Address;
use cli::{Cli, Command, GateArgs, Global, ReportArgs, RolloutArgs};
pub use ec2::Ec2Settings;
pub use layers::Environment;
use layers::{Layers, absolute, check_names};
pub use notify::{NotifySettings, WebhookSetting};
pub use origins::Origins;
pub use rollout::HookSetting;
pub use rows::{SETTINGS, reference};

use crate::core::pass::safety::BlastRadius;
use crate::core::rollout::course::Course;
use crate::core::rollout::findings::Terms;
use crate::core::world::money::Usd;
use crate::core::world::policy::{
    BridgePolicy, Eligibility, Halves, NoticePolicy, Placing, Policy, RecreateOrder, Selector,
};
use crate::core::world::time::Timestamp;
use crate::paths::folder_of;
use crate::proxies::{Proxies, Proxy, is_loopback};

/// The providers that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum ProviderName {
    Novita,
    Ec2,
}

/// What becomes of user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum UserData {
    Keep,
    Refuse,
}

/// What becomes of an on-demand instance that a rollout has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum Retire {
    Stop,
    Terminate,
}

/// Where state is stored between passes.
#[derive(Clone, Debug)]
pub enum StoreSetting {
    Redis { url: SecretString, prefix: String },
    Sqlite(PathBuf),
}

/// Everything a command needs to know, valid by construction. [`rows`] says what each setting means.
#[derive(Clone, Debug)]
pub struct Settings {
    pub provider: ProviderName,
    /// The account of EC2 that it must be, if one is named.
    pub account: Option<String>,
    /// Present for every command that calls EC2.
    pub ec2: Option<Ec2Settings>,
    /// Present for every command that calls Novita.
    pub api_key: Option<SecretString>,
    pub api_base_url: Url,
    pub store: StoreSetting,
    /// 32 bytes that seal what is stored of the configuration of instances.
    pub store_key: Option<SecretSlice<u8>>,
    pub enabled: bool,
    pub interval: Duration,
    pub job_timeout: Duration,
    pub max_concurrent: usize,
    pub rehearsal: bool,
    pub retry_failed: bool,
    /// From a flag or `MIGRATION_LOG_LEVEL`; each command has a default of its own.
    pub log_level: Option<LevelFilter>,
    /// `RUST_LOG`.
    pub log_directives: Option<Targets>,
    /// Whether `NO_COLOR` is set.
    pub no_color: bool,
    /// Whether `TERM` is not set or `dumb`: then escape sequences are not understood.
    pub dumb_terminal: bool,
    pub policy: Policy,
    pub recreate_wait: Duration,
    /// Capped by the interval and the deadline.
    pub keep_trying: Duration,
    pub blast_radius: BlastRadius,
    /// Replaces the system's time.
    pub now: Option<Timestamp>,
    pub notify: NotifySettings,
    pub proxies: Proxies,
    /// Which instances may move to spot.
    pub terms: Terms,
    pub course: Course,
    pub probe_timeout: Duration,
    /// The hook of rollouts.
    pub hook: Option<HookSetting>,
    pub warnings: Vec<Warning>,
    pub origins: Origins,
}

/// Something that is allowed, but probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    pub fix: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.fix)
    }
}

/// A setting that cannot be used (exit code 2). Names the setting, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    pub message: String,
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
    /// The first setting that is misspelled, cannot be read or is out of range.
    pub fn load(cli: &Cli, environment: &Environment) -> Result<Self> {
        let Global { config, quiet, verbose, now, .. } = &cli.global;
        let mut warnings = check_names(environment)?;
        let flags = flags(cli);
        let layers = Layers::new(&flags, environment, config.as_deref())?;
        let pass = cli.command.pass().cloned().unwrap_or_default();

        let enabled = layers.value(&rows::MIGRATION_ENABLED)?;
        let retry_failed = layers.value(&rows::MIGRATION_RETRY_FAILED)?;
        let provider = layers.value(&rows::RESPOT_PROVIDER)?;
        let api_key = match provider {
            ProviderName::Novita => layers.secret(&rows::NOVITA_API_KEY.row, &rows::NOVITA_API_KEY_FILE.row)?,
            ProviderName::Ec2 => None,
        };
        let api_key = api_key.map(|key| key.parse(&rows::NOVITA_API_KEY)).transpose()?;
        // An operator who turned passes off may have removed the key, too.
        let is_off = !enabled && matches!(cli.command, Command::Run(_) | Command::CheckFailed(_));
        let ec2 = if is_off { None } else { ec2::ec2(&layers, cli)? };
        if api_key.is_none() && cli.command.needs_key() && !is_off && provider == ProviderName::Novita {
            return Err(SettingsError::new("NOVITA_API_KEY is not set")
                .hint("set NOVITA_API_KEY, or NOVITA_API_KEY_FILE to a file that contains the key"));
        }
        let store_key = layers.secret(&rows::RESPOT_STORE_KEY.row, &rows::RESPOT_STORE_KEY_FILE.row)?;
        let store_key = store_key.map(|key| key.parse(&rows::RESPOT_STORE_KEY)).transpose()?;
        let api_base_url = layers.value(&rows::NOVITA_API_BASE_URL)?;
        if api_base_url.scheme() == "http" && !is_loopback(&api_base_url) {
            warnings.push(Warning {
                message: "NOVITA_API_BASE_URL is not https: the API key is sent unencrypted".into(),
                fix: "use https:// in NOVITA_API_BASE_URL".into(),
            });
        }
        let elsewhere = [layers.value(&rows::MIGRATION_LADDER)? != Policy::DEFAULT.ladder, notice(&layers)?.is_some()];
        if !retry_failed && elsewhere.contains(&true) {
            warnings.push(Warning {
                message: "MIGRATION_RETRY_FAILED is false: passes only migrate".into(),
                fix: "MIGRATION_LADDER and RESPOT_NOTICE have no effect; unset it to recreate".into(),
            });
        }
        let ahead = [
            ("RESPOT_NOTICE", notice(&layers)?.is_some()),
            ("RESPOT_BRIDGE_USD_PER_DAY", layers.value(&rows::RESPOT_BRIDGE_USD_PER_DAY)? > Usd::default()),
        ];
        let deletes_first = layers.value(&rows::MIGRATION_RECREATE_ORDER)? == RecreateOrder::DeleteFirst;
        for (name, _) in ahead.into_iter().filter(|(_, is_on)| *is_on && deletes_first) {
            warnings.push(Warning {
                message: format!("{name} has no effect while MIGRATION_RECREATE_ORDER is delete-first"),
                fix: format!("set it to create-first, or unset {name}: two instances would run side by side"),
            });
        }
        let set_level = layers.optional(&rows::MIGRATION_LOG_LEVEL)?;
        let log_level = match (*quiet, *verbose) {
            (true, _) => Some(LevelFilter::ERROR),
            (false, 0) => set_level,
            (false, 1) => Some(LevelFilter::DEBUG),
            (false, _) => Some(LevelFilter::TRACE),
        };
        let notify = notify::settings(&layers, &mut warnings)?;
        let store = store(&layers)?;
        check_outputs(&layers, cli, &store)?;
        let gates = cli.command.gates().cloned().unwrap_or_default();
        Ok(Self {
            provider,
            account: layers.optional(&rows::RESPOT_EC2_ACCOUNT)?.filter(|_| provider == ProviderName::Ec2),
            ec2,
            api_key,
            api_base_url,
            store,
            store_key,
            enabled,
            interval: layers.value(&rows::MIGRATION_INTERVAL_MINUTES)?,
            job_timeout: layers.value(&rows::MIGRATION_JOB_TIMEOUT_MS)?,
            max_concurrent: layers.value(&rows::MIGRATION_MAX_CONCURRENT)?,
            rehearsal: layers.value(&rows::MIGRATION_DRY_RUN)?,
            retry_failed,
            log_level,
            // A flag is meant for this call, so it wins over the environment.
            log_directives: log_directives(environment, &mut warnings)?.filter(|_| !*quiet && *verbose == 0),
            no_color: environment.has("NO_COLOR"),
            dumb_terminal: environment.text("TERM")?.is_none_or(|term| term == "dumb"),
            policy: Policy {
                eligibility: match provider {
                    ProviderName::Novita => layers.value(&rows::MIGRATION_ELIGIBILITY)?,
                    ProviderName::Ec2 => Eligibility::Reclaimed,
                },
                scope: layers.value(&rows::MIGRATION_SCOPE)?,
                cooldown: layers.value(&rows::MIGRATION_ELIGIBILITY_INTERVAL_HOURS)?,
                only: selectors("--only", &pass.only)?,
                exclude: selectors("--exclude", &pass.exclude)?,
                max_migrations: pass.max_migrations,
                halves: match cli.command {
                    Command::CheckFailed(_) => Halves::RecreateOnly,
                    _ if retry_failed => Halves::Both,
                    _ => Halves::MigrateOnly,
                },
                recreate_order: layers.value(&rows::MIGRATION_RECREATE_ORDER)?,
                max_recreations: pass
                    .max_recreations
                    .or((provider == ProviderName::Ec2).then_some(ec2::LAUNCHES_PER_PASS)),
                retry_quarantined: pass.retry_quarantined,
                escalation: layers.value(&rows::MIGRATION_ESCALATION)?,
                ladder: layers.value(&rows::MIGRATION_LADDER)?,
                placing: Placing {
                    prefer: layers.value(&rows::MIGRATION_PREFER)?,
                    max_price_percent: layers.value(&rows::MIGRATION_MAX_PRICE_PERCENT)?,
                    reclaim_cost: layers.value(&rows::RESPOT_RECLAIM_COST_MINUTES)?,
                    spread_percent: layers.value(&rows::RESPOT_SPREAD_PERCENT)?,
                    places: layers.optional(&rows::RESPOT_PLACES)?.unwrap_or_default(),
                },
                notice: notice(&layers)?,
                bridge: BridgePolicy {
                    per_day: layers.value(&rows::RESPOT_BRIDGE_USD_PER_DAY)?,
                    after: layers.value(&rows::RESPOT_BRIDGE_AFTER_MINUTES)?,
                    stay: layers.value(&rows::RESPOT_BRIDGE_STAY_MINUTES)?,
                    steady: layers.value(&rows::RESPOT_BRIDGE_STEADY_MINUTES)?,
                },
            },
            keep_trying: keep_trying(&layers)?,
            recreate_wait: layers.value(&rows::MIGRATION_RECREATE_WAIT_MS)?,
            blast_radius: BlastRadius {
                percent: layers.value(&rows::MIGRATION_MAX_RECREATE_PERCENT)?,
                force: pass.force,
            },
            now: now.as_deref().map(parse_now).transpose()?,
            terms: rollout::terms(&gates, &layers, notify.webhook.is_some())?,
            course: rollout::course(&cli.command, &layers)?,
            probe_timeout: layers.value(&rows::RESPOT_PROBE_TIMEOUT_MS)?,
            hook: rollout::hook(&layers)?,
            notify,
            proxies: if cli.command.uses_network() { proxies(environment)? } else { Proxies::default() },
            warnings,
            origins: Origins::of(&layers),
        })
    }
}

/// Refuses an output file that is the store, or what another setting reads.
fn check_outputs(layers: &Layers<'_>, cli: &Cli, store: &StoreSetting) -> Result<()> {
    let path = |setting: &rows::Setting<PathBuf>| {
        Ok::<_, SettingsError>(layers.optional(setting)?.map(|it| (setting.row.name, it)))
    };
    let page = match &cli.command {
        Command::Report(ReportArgs { html: Some(file), .. }) => Some(("--html", file.clone())),
        _ => None,
    };
    let outputs = [path(&rows::RESPOT_METRICS_FILE)?, path(&rows::RESPOT_TERMINATION_MESSAGE_FILE)?, page];
    let state = match store {
        StoreSetting::Sqlite(file) => Some(("the store", file.clone())),
        StoreSetting::Redis { .. } => None,
    };
    let config = cli.global.config.clone().map(|file| ("the configuration file", file));
    let inputs = [
        state,
        config,
        path(&rows::NOVITA_API_KEY_FILE)?,
        path(&rows::WEBHOOK_SECRET_FILE)?,
        path(&rows::RESPOT_STORE_KEY_FILE)?,
    ];
    // A file that does not exist yet is in a directory that does.
    let in_folder = |path: &Path| Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?));
    let real = |path: &Path| path.canonicalize().ok().or_else(|| in_folder(path)).unwrap_or_else(|| path.to_owned());
    // Two names of one file, by a hard link.
    let number = |path: &Path| path.metadata().ok().map(|it| (it.dev(), it.ino()));
    let is_same = |a: &Path, b: &Path| real(a) == real(b) || number(a).is_some_and(|it| number(b) == Some(it));
    for (output, file) in outputs.iter().flatten() {
        if let Some((input, _)) = inputs.iter().flatten().find(|(_, it)| is_same(it, file)) {
            let message = format!("{output} would overwrite {input}: {}", file.display());
            return Err(SettingsError::new(message).hint("name another file"));
        }
    }
    Ok(())
}

/// Whether announced reclaims are acted on. Unless the operator says otherwise, two passes fall into the lead.
fn notice(layers: &Layers<'_>) -> Result<Option<NoticePolicy>> {
    let (lead, overlap) =
        (layers.value(&rows::RESPOT_NOTICE_LEAD_MINUTES)?, layers.value(&rows::RESPOT_NOTICE_OVERLAP_MINUTES)?);
    let two_passes = layers.value(&rows::MIGRATION_INTERVAL_MINUTES)? * 2;
    let lead = if lead.is_zero() { two_passes.max(Duration::from_secs(20 * 60)) } else { lead };
    Ok(layers.value(&rows::RESPOT_NOTICE)?.then_some(NoticePolicy { lead, overlap }))
}

/// How long a pass goes on trying: another one begins after the interval, and this one ends before its deadline.
fn keep_trying(layers: &Layers<'_>) -> Result<Duration> {
    let interval = layers.value(&rows::MIGRATION_INTERVAL_MINUTES)?;
    let most = interval.min(layers.value(&rows::MIGRATION_JOB_TIMEOUT_MS)?);
    Ok(layers.value(&rows::MIGRATION_KEEP_TRYING_MS)?.min(most.saturating_sub(Duration::from_secs(60))))
}

/// The flags that win over a setting, by its name. `--may-lose` is not among them: it takes one pattern at a time.
fn flags(cli: &Cli) -> Vec<(&'static str, &str)> {
    let mut flags = vec![(rows::REDIS_URL.row.name, &cli.global.store)];
    if let Some(pass) = cli.command.pass() {
        flags.push((rows::MIGRATION_ELIGIBILITY.row.name, &pass.eligibility));
        flags.push((rows::MIGRATION_SCOPE.row.name, &pass.scope));
        flags.push((rows::MIGRATION_KEEP_TRYING_MS.row.name, &pass.keep_trying));
    }
    if let Some(GateArgs { probe, .. }) = cli.command.gates() {
        flags.push((rows::RESPOT_PROBE.row.name, probe));
    }
    if let Command::Rollout(RolloutArgs { stages, soak, rollback, .. }) = &cli.command {
        flags.push((rows::RESPOT_ROLLOUT_STAGES.row.name, stages));
        flags.push((rows::RESPOT_ROLLOUT_SOAK_MINUTES.row.name, soak));
        flags.push((rows::RESPOT_ROLLOUT_ROLLBACK.row.name, rollback));
    }
    flags.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
}

/// The proxies that the usual variables name; the names in lower case win, as with curl. An invalid one is an error: a
/// request that skips the proxy could go where it must not.
fn proxies(environment: &Environment) -> Result<Proxies> {
    let proxy = |names: &[&'static str]| {
        let Some((name, text)) = environment.first(names)? else { return Ok(None) };
        Proxy::parse(name, &text).map(Some).map_err(|problem| {
            SettingsError::new(format!("invalid value for {name}: {problem}"))
                .hint("use http://[user:password@]host:port; the current value is not shown here")
        })
    };
    let http = proxy(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?;
    let https = proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?;
    let exempt = environment.first(&["no_proxy", "NO_PROXY"])?;
    Ok(Proxies::new(http, https, &exempt.unwrap_or_default().1))
}

fn parse_now(text: &str) -> Result<Timestamp> {
    let expected = "expected a time such as 2024-01-15T10:45:00Z";
    text.parse().map_err(|_| SettingsError::new(format!("invalid value {text:?} for --now: {expected}")))
}

fn store(layers: &Layers<'_>) -> Result<StoreSetting> {
    let Some(mut store) = layers.optional(&rows::REDIS_URL)? else {
        return Ok(StoreSetting::Sqlite(default_state_file(layers.environment)?));
    };
    if let StoreSetting::Redis { prefix, .. } = &mut store {
        *prefix = layers.value(&rows::REDIS_KEY_PREFIX)?;
    }
    Ok(store)
}

/// The embedded store's file unless a setting names another.
fn default_state_file(environment: &Environment) -> Result<PathBuf> {
    // systemd may list several folders; the first is ours.
    let folders = environment.text("STATE_DIRECTORY")?;
    if let Some(folder) = folders.as_ref().and_then(|folders| folders.split(':').next()) {
        return Ok(absolute("STATE_DIRECTORY", folder)?.join("state.db"));
    }
    if let Some(folder) = environment.folder("XDG_STATE_HOME")? {
        return Ok(folder.join("respot/state.db"));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/respot/state.db".into());
    }
    let home = environment.folder("HOME")?.ok_or_else(|| {
        SettingsError::new("cannot choose a place for the state file: neither HOME nor XDG_STATE_HOME is set")
            .hint("name one with --store sqlite:PATH")
    })?;
    Ok(home.join(".local/state/respot/state.db"))
}

fn selectors(flag: &str, patterns: &[String]) -> Result<Vec<Selector>> {
    let parse = |pattern: &String| {
        Selector::parse(pattern)
            .map_err(|error| SettingsError::new(format!("invalid pattern {pattern:?} for {flag}: {error}")))
    };
    patterns.iter().map(parse).collect()
}

/// The variable belongs to every program in the environment: a directive that is not understood is another one's.
fn log_directives(environment: &Environment, warnings: &mut Vec<Warning>) -> Result<Option<Targets>> {
    let Some(text) = environment.text("RUST_LOG")? else { return Ok(None) };
    let (known, foreign): (Vec<&str>, Vec<&str>) =
        text.split(',').map(str::trim).partition(|directive| Targets::from_str(directive).is_ok());
    if let Some(ours) = foreign.iter().find(|directive| directive.starts_with("respot")) {
        let expected = "expected a filter such as info or respot=debug";
        return Err(SettingsError::new(format!("invalid value {ours:?} for RUST_LOG: {expected}")));
    }
    warnings.extend(foreign.into_iter().filter(|it| !it.is_empty()).map(|directive| Warning {
        message: format!("RUST_LOG has a directive that is passed over: {directive:?}"),
        fix: "use directives such as info or respot=debug".into(),
    }));
    Ok(Targets::from_str(&known.join(",")).ok().filter(|_| !known.is_empty()))
}
