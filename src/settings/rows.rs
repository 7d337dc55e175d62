//! Every setting, one row each: name, flag, type, default, parser, range, meaning. The reference, the man page, the help
//! of flags, defaults and error messages all follow from these rows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{SecretSlice, SecretString};
use tracing::level_filters::LevelFilter;
use url::Url;

use super::addresses::{self, Address};
use super::parsers::{self, Invalid};
use super::{ProviderName, Retire, StoreSetting, UserData};
use crate::core::pass::safety::BlastRadius;
use crate::core::rollout::course::{Course, RollbackScope};
use crate::core::world::money::Usd;
use crate::core::world::policy::{
    BridgePolicy, Eligibility, Escalation, Ladder, OptIn, Placing, Policy, Prefer, RecreateOrder, Retirement, Scope,
    Selector,
};
use crate::core::world::probe::Probe;

/// What is known of a setting whatever its type. In the configuration file its name is in lower case.
pub struct Described {
    /// The environment variable.
    pub name: &'static str,
    /// The flag that wins over the environment and the file.
    pub flag: Option<&'static str>,
    default: fn() -> String,
    range: Option<RangeInclusive<u32>>,
    meaning: &'static str,
}

/// A setting with values of type `T`.
pub struct Setting<T: 'static> {
    pub(super) row: Described,
    pub(super) parse: fn(&str) -> Result<T, Invalid>,
}

impl Described {
    /// As an operator would write it, if there is one.
    #[must_use]
    pub fn default(&self) -> Option<String> {
        Some((self.default)()).filter(|default| !default.is_empty())
    }

    /// `1-60`, if it is a number or a list of numbers.
    #[must_use]
    pub fn range(&self) -> Option<String> {
        self.range.as_ref().map(|range| format!("{}-{}", range.start(), range.end()))
    }

    /// What it does, its range and its flag, with code in backticks.
    #[must_use]
    pub fn meaning(&self) -> String {
        let range = self.range().map(|range| format!(". Range: {range}"));
        let flag = self.flag.map(|flag| format!(". Flag: `{flag}`"));
        [Some(self.meaning.to_owned()), range, flag].into_iter().flatten().collect()
    }

    /// The help of its flag.
    pub(super) fn help(&self) -> String {
        let default = self.default().map_or_else(String::new, |default| format!(" [default: {default}]"));
        format!("{} [env: {}]{default}", self.meaning.replace('`', ""), self.name)
    }
}

/// The table of all settings in Markdown, as it is in the reference.
#[must_use]
pub fn reference() -> String {
    let row = |row: &&Described| {
        format!("| `{}` | {} | {} |\n", row.name, row.default().as_deref().unwrap_or("none"), row.meaning())
    };
    format!("| name | default | meaning |\n|---|---|---|\n{}", SETTINGS.iter().map(row).collect::<String>())
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! parser {
    ($parse:path) => {
        $parse
    };
    ($parse:path, $range:expr) => {
        |text| $parse(text, $range)
    };
}

/// `NAME ["--flag"]: Type = default, parser [range], "Meaning";`
macro_rules! settings {
    ($($name:ident $([$flag:literal])?: $type:ty = $default:expr, $parse:path $([$range:expr])?, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub(super) const $name: Setting<$type> = Setting {
                row: Described {
                    name: stringify!($name),
                    flag: optional!($($flag)?),
                    default: || ($default).to_string(),
                    range: optional!($($range)?),
                    meaning: $meaning,
                },
                parse: parser!($parse $(, $range)?),
            };
        )*

        /// Every setting, in the order of the reference.
        pub const SETTINGS: &[&Described] = &[$(&$name.row),*];

        #[cfg(test)]
        const PARSE_DEFAULTS: &[fn() -> Result<(), Invalid>] =
            &[$(|| $name.row.default().map_or(Ok(()), |default| ($name.parse)(&default).map(drop))),*];
    };
}

/// Provider writes in flight.
pub const MAX_CONCURRENT: usize = 5;
/// Deadline of one pass.
pub const JOB_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a pass waits for replacements to run.
pub const RECREATE_WAIT: Duration = Duration::from_secs(120);
/// How long a pass goes on trying while a reclaimed instance is down.
pub const KEEP_TRYING: Duration = Duration::from_secs(240);

const NONE: &str = "";

settings! {
    RESPOT_PROVIDER: ProviderName = ProviderName::Novita.into_str(), parsers::word,
        "The cloud: `novita`, or `ec2` (Amazon EC2)";
    NOVITA_API_KEY: SecretString = NONE, parsers::api_key,
        "API key; or set `NOVITA_API_KEY_FILE`. Required by every command that calls the provider";
    NOVITA_API_KEY_FILE: PathBuf = NONE, parsers::path,
        "File that contains the API key";
    NOVITA_API_BASE_URL: Url = "https://api.novita.ai/gpu-instance/openapi", addresses::base_url,
        "Base URL of the provider's API";
    REDIS_URL["--store"]: StoreSetting = NONE, addresses::store,
        "State store: `redis://…`, `rediss://…` (TLS) or `sqlite:PATH`; without it, an embedded SQLite file";
    REDIS_KEY_PREFIX: String = "respot:", parsers::text,
        "Prefix of every Redis key; may be empty";
    RESPOT_STORE_KEY: SecretSlice<u8> = NONE, parsers::sealing_key,
        "Key of 32 bytes in base64 that seals what is stored of the configuration of instances; or set `RESPOT_STORE_KEY_FILE`";
    RESPOT_STORE_KEY_FILE: PathBuf = NONE, parsers::path,
        "File that contains that key";

    MIGRATION_ENABLED: bool = true, parsers::boolean,
        "Set to `false` to turn passes off: `run` and `check-failed` say so and exit with 0";
    MIGRATION_INTERVAL_MINUTES: Duration = 15, parsers::minutes[1..=60],
        "Minutes between scheduled passes; `status` predicts the next pass from it and reports an overdue one";
    MIGRATION_JOB_TIMEOUT_MS: Duration = JOB_TIMEOUT.as_millis(), parsers::millis[60_000..=1_800_000],
        "Deadline of a pass in milliseconds; nothing new is started after it";
    MIGRATION_MAX_CONCURRENT: usize = MAX_CONCURRENT, parsers::integer[1..=20],
        "Maximum number of concurrent write requests to the provider";
    MIGRATION_DRY_RUN: bool = false, parsers::boolean,
        "Set to `true` to rehearse: passes are recorded, but nothing is written to the provider";
    MIGRATION_RETRY_FAILED: bool = true, parsers::boolean,
        "Whether `run` also recreates instances: failed migrations, as `check-failed` does, reclaimed ones elsewhere, announced ones, stand-ins; `false` only migrates";
    MIGRATION_LOG_LEVEL: LevelFilter = "info", parsers::log_level,
        "Least severe messages to log: `error`, `warn`, `info`, `debug` or `trace`. `RUST_LOG` takes precedence";

    MIGRATION_ELIGIBILITY_INTERVAL_HOURS: Duration = Policy::DEFAULT.cooldown.as_secs() / 3600, parsers::hours[1..=168],
        "Hours to wait before migrating the same instance again";
    MIGRATION_ELIGIBILITY["--eligibility"]: Eligibility = Policy::DEFAULT.eligibility.into_str(), parsers::word,
        "When to migrate an exited instance: `time` (its cooldown is over) or `reclaimed` (it was also reclaimed)";
    MIGRATION_SCOPE["--scope"]: Scope = Policy::DEFAULT.scope.into_str(), parsers::word,
        "Instances to manage: `spot`, or `all` regardless of billing";
    MIGRATION_RECREATE_ORDER: RecreateOrder = Policy::DEFAULT.recreate_order.into_str(), parsers::word,
        "Order of a recreation: `create-first`, or `delete-first` if the quota has no room for old and new at once";
    MIGRATION_RECREATE_WAIT_MS: Duration = RECREATE_WAIT.as_millis(), parsers::millis[0..=600_000],
        "Milliseconds a pass waits for replacements to run; a later pass finishes the rest";
    MIGRATION_MAX_RECREATE_PERCENT: u64 = BlastRadius::DEFAULT.percent, parsers::integer[1..=100],
        "Refuse a pass that would recreate more than this percentage of the managed instances, and more than 3; `--force` overrides it";

    MIGRATION_ESCALATION: Escalation = Policy::DEFAULT.escalation.into_str(), parsers::word,
        "When a reclaimed instance may be recreated elsewhere, which deletes the old one: `evidence` (its reclaim is proved), `always` (whenever it is exited: for fleets that are never stopped by hand) or `never`";
    MIGRATION_PREFER: Prefer = Placing::DEFAULT.prefer.into_str(), parsers::word,
        "What comes first for a reclaimed instance: `place` (migrate it where it is) or `market` (the best market)";
    MIGRATION_LADDER: Ladder = Policy::DEFAULT.ladder.into_str(), parsers::word,
        "What is tried for a reclaimed instance, in this order: `migrate` (where it was), `recreate` (elsewhere), or one of them";
    MIGRATION_KEEP_TRYING_MS["--keep-trying"]: Duration = KEEP_TRYING.as_millis(), parsers::millis[0..=1_500_000],
        "Milliseconds a pass goes on, with a round a minute, while a reclaimed instance is down; capped by the interval and the deadline less a minute";
    MIGRATION_MAX_PRICE_PERCENT: u64 = Placing::DEFAULT.max_price_percent, parsers::integer[100..=1000],
        "No place but its own that costs more than this percentage of what the instance cost; stand-ins have a budget instead";
    RESPOT_RECLAIM_COST_MINUTES: Duration = Placing::DEFAULT.reclaim_cost.as_secs() / 60, parsers::minutes[0..=1440],
        "What a reclaim costs, in minutes of the instance; 0 ranks markets by price alone";
    RESPOT_SPREAD_PERCENT: u64 = Placing::DEFAULT.spread_percent, parsers::integer[0..=100],
        "Among markets that are this much dearer than the best at most, the one with the fewest instances is chosen";
    RESPOT_PLACES: Vec<Selector> = NONE, parsers::selectors,
        "Clusters where replacements may go besides their own: patterns of IDs or names, separated by commas; empty for all";
    RESPOT_NOTICE: bool = "off", parsers::boolean,
        "Whether an announced reclaim is acted on: `on` (the replacement is created before the instance goes) or `off`";
    RESPOT_NOTICE_LEAD_MINUTES: Duration = 0, parsers::lead_minutes[0..=60],
        "Minutes before its announced end at which an instance is replaced, at least 5; 0 for the larger of 20 and two intervals";
    RESPOT_NOTICE_OVERLAP_MINUTES: Duration = 0, parsers::minutes[0..=55],
        "Minutes that an announced instance stays beside its replacement, so that traffic can move";
    RESPOT_BRIDGE_USD_PER_DAY: Usd = "0", parsers::dollars[0..=100_000],
        "What on-demand instances that stand in while no market has room may cost in a day (UTC), in USD; 0 for none. One that is started fits for its stay; one that is all there is goes on beyond, which `status` says";
    RESPOT_BRIDGE_AFTER_MINUTES: Duration = BridgePolicy::DEFAULT.after.as_secs() / 60, parsers::minutes[0..=1440],
        "Minutes that a reclaimed instance is down before an on-demand instance stands in";
    RESPOT_BRIDGE_STAY_MINUTES: Duration = BridgePolicy::DEFAULT.stay.as_secs() / 60, parsers::minutes[5..=10_080],
        "Minutes that such an instance runs at least";
    RESPOT_BRIDGE_STEADY_MINUTES: Duration = BridgePolicy::DEFAULT.steady.as_secs() / 60, parsers::minutes[0..=1440],
        "Minutes without a bad sign after which a market counts as steady, so that such an instance returns to spot";

    WEBHOOK_URL: Address = NONE, addresses::webhook,
        "URL to send events to: HTTPS, or HTTP on this machine";
    WEBHOOK_SECRET: SecretSlice<u8> = NONE, parsers::signing_secret,
        "Secret to sign events with, plain or `whsec_<base64>`; or set `WEBHOOK_SECRET_FILE`";
    WEBHOOK_SECRET_FILE: PathBuf = NONE, parsers::path,
        "File that contains the webhook secret";
    RESPOT_PING_URL: Address = NONE, addresses::address,
        "Dead man's switch: `URL/start` is called when a pass starts, `URL` or `URL/fail` when it ends";
    RESPOT_METRICS_FILE: PathBuf = NONE, parsers::path,
        "File to write Prometheus metrics to after each pass; it is replaced atomically";
    RESPOT_PUSHGATEWAY_URL: Address = NONE, addresses::address,
        "Pushgateway to push the same metrics to, as job `respot`";
    RESPOT_TERMINATION_MESSAGE_FILE: PathBuf = NONE, parsers::path,
        "File to write the summary of each pass to, as one line of JSON; in Kubernetes `/dev/termination-log`";

    RESPOT_PROBE["--probe"]: Probe = NONE, parsers::probe,
        "How to measure health and speed of an instance: `http:PORT/PATH`, `tcp:PORT` or `exec:COMMAND`";
    RESPOT_PROBE_SAMPLES: u32 = Course::SAMPLES, parsers::integer[30..=1000],
        "Number of samples per measurement of an instance";
    RESPOT_PROBE_TIMEOUT_MS: Duration = 5000, parsers::millis[100..=60_000],
        "Milliseconds after which a sample has failed";
    RESPOT_ROLLOUT_MAY_LOSE["--may-lose"]: Vec<Selector> = NONE, parsers::selectors,
        "Instances (name or ID pattern) that may lose container disk and local volumes; repeat the flag, or separate patterns with commas in the variable";
    RESPOT_ROLLOUT_STAGES["--stages"]: Vec<u8> = parsers::list(&Course::STAGES), parsers::increasing[1..=100],
        "Stages of a rollout: cumulative percentages, separated by commas";
    RESPOT_ROLLOUT_SOAK_MINUTES["--soak"]: Vec<u16> = parsers::list(&Course::SOAK_MINUTES), parsers::integers[1..=10_080],
        "Minutes that each stage soaks, separated by commas; the last value applies to all further stages";
    RESPOT_ROLLOUT_HOLD_MINUTES: Duration = Course::HOLD.as_secs() / 60, parsers::minutes[5..=1440],
        "Minutes to wait for an inconclusive gate, or for a new instance to run, before rolling back";
    RESPOT_ROLLOUT_ROLLBACK["--rollback"]: RollbackScope = Course::ROLLBACK.into_str(), parsers::word,
        "What to roll back when a gate fails: `all` stages, or only the failed `stage`";
    RESPOT_ROLLOUT_HOOK: SecretString = NONE, parsers::command,
        "Command that moves traffic: called before an instance that serves is deleted, and after one was put back; its failure holds the step";
    RESPOT_ROLLOUT_HOOK_TIMEOUT_MS: Duration = 60_000, parsers::millis[1000..=300_000],
        "Milliseconds after which the hook is killed and has failed";
    RESPOT_EC2_REGIONS: Vec<String> = NONE, parsers::words,
        "Regions, separated by commas; without it, the region of `AWS_REGION` or of the AWS profile. One that cannot be read is reported, and the others go on";
    RESPOT_EC2_TAG: OptIn = "respot=managed", parsers::opt_in,
        "Tag of the instances to manage: `key=value` or `key`; `*` is every instance, only together with `RESPOT_EC2_ACCOUNT`";
    RESPOT_EC2_ACCOUNT: String = NONE, parsers::account,
        "ID of the account; credentials of another one stop the program before it reads anything";
    RESPOT_EC2_SUBNETS: Vec<String> = NONE, parsers::words,
        "IDs of subnets where replacements may go besides their own, separated by commas; they must be in the same VPC";
    RESPOT_EC2_TYPES: BTreeMap<String, Vec<String>> = NONE, parsers::stand_ins,
        "Instance types that may stand in for another: `g5.xlarge=g6.xlarge+g5.2xlarge`, several separated by commas";
    RESPOT_EC2_PRICES: PathBuf = NONE, parsers::path,
        "File with on-demand prices in USD for an hour, one line for each type (`g5.xlarge = 1.006`); they win over those of the price list service";
    RESPOT_EC2_RETIRE: Retire = Retire::Stop.into_str(), parsers::word,
        "What a rollout does with an on-demand instance that it has replaced: `stop` (it is terminated later) or `terminate`";
    RESPOT_EC2_RETIRE_HOURS: Duration = Retirement::DEFAULT.keep.as_secs() / 3600, parsers::hours[1..=8760],
        "Hours that such an instance stays stopped before a pass terminates it";
    RESPOT_EC2_TARGET_GROUPS: Vec<String> = NONE, parsers::target_groups,
        "ARNs of target groups, separated by commas: a replacement is registered where the old one was; a rollout sees it healthy before it drains the old one";
    RESPOT_EC2_USER_DATA: UserData = UserData::Keep.into_str(), parsers::word,
        "What becomes of user data: `keep` (part of what is recorded for a replacement) or `refuse` (an instance that has any is not launched again)";
    RESPOT_GPU_QUOTA: u32 = NONE, parsers::integer[1..=1_000_000],
        "GPUs that the account may have at once; the provider does not report it";
    RESPOT_INSTANCE_QUOTA: u32 = NONE, parsers::integer[1..=1_000_000],
        "Instances that the account may have at once; the provider does not report it";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_complete_and_its_own_parser_accepts_its_default() {
        for (n, (row, parse_default)) in SETTINGS.iter().zip(PARSE_DEFAULTS).enumerate() {
            let (name, meaning) = (row.name, row.meaning());
            assert_eq!(parse_default(), Ok(()), "{name}: the default is not valid");
            assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert!(SETTINGS[..n].iter().all(|other| other.name != name), "{name} is there twice");
            assert!(row.flag.is_none_or(|flag| flag.starts_with("--")), "{name}");
            assert!(row.range.as_ref().is_none_or(|range| range.start() < range.end()), "{name}");
            let reads_well = meaning.starts_with(char::is_uppercase) && !meaning.ends_with('.') && meaning.len() > 20;
            assert!(reads_well && !meaning.contains(['|', '\n']), "{name}: {meaning}");
            assert_eq!(meaning.matches('`').count() % 2, 0, "{name}: {meaning}");
        }
        assert_eq!(SETTINGS.len(), PARSE_DEFAULTS.len());
    }
}
