//! What concerns Amazon EC2 alone: who it is done as, where, and for which instances.

use std::collections::BTreeMap;
use std::path::Path;

use url::Url;

use super::cli::{Cli, Command, ReportArgs};
use super::layers::{Environment, Layers};
use super::{ProviderName, Result, Retire, SettingsError, UserData, rows};
use crate::core::world::money::Usd;
use crate::core::world::policy::{Eligibility, Ladder, OptIn, Retirement, StandIns};
use crate::credentials::aws::AwsService;
use crate::credentials::{self, CredentialSource};
use crate::paths::read_text;
use crate::proxies::is_loopback;

/// The most launches of a pass, unless the operator says otherwise.
pub(super) const LAUNCHES_PER_PASS: usize = 20;

/// How EC2 is used.
#[derive(Clone, Debug)]
pub struct Ec2Settings {
    pub source: CredentialSource,
    /// Never empty.
    pub regions: Vec<String>,
    pub opt_in: OptIn,
    pub stand_ins: StandIns,
    pub keeps_user_data: bool,
    /// What an hour of an instance type costs on demand, where the operator says so.
    pub prices: BTreeMap<String, Usd>,
    pub retirement: Retirement,
    /// ARNs.
    pub target_groups: Vec<String>,
    /// Where the machine tells of itself, if not at the usual address.
    pub metadata: Option<Url>,
    addresses: BTreeMap<AwsService, Url>,
}

impl Ec2Settings {
    /// Where a service is in a region.
    ///
    /// # Errors
    /// When the region is no part of a host name.
    pub fn address(&self, service: AwsService, region: &str) -> Result<Url> {
        if let Some(address) = self.addresses.get(&service) {
            return Ok(address.clone());
        }
        let url = format!("https://{}/", service.host(region));
        url.parse().map_err(|_| SettingsError::new(format!("{region:?} is no region")))
    }
}

impl From<String> for SettingsError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// The settings of EC2, if that is the provider and the command calls it.
pub(super) fn ec2(layers: &Layers<'_>, cli: &Cli) -> Result<Option<Ec2Settings>> {
    if layers.value(&rows::RESPOT_PROVIDER)? != ProviderName::Ec2 {
        return Ok(None);
    }
    check(layers, cli)?;
    if !cli.command.uses_network() {
        return Ok(None);
    }
    let environment = layers.environment;
    let get = |name: &'static str| environment.text(name);
    let found = credentials::find::<SettingsError>(&get)
        .map_err(|error| error.or_hint("see the credentials in docs/ec2.md, and respot doctor"))?;
    let named = layers.optional(&rows::RESPOT_EC2_REGIONS)?.unwrap_or_default();
    let regions = if named.is_empty() { found.region.into_iter().collect() } else { named };
    if regions.is_empty() {
        return Err(SettingsError::new("no region of EC2 is set")
            .hint("set RESPOT_EC2_REGIONS, for example to eu-west-1, or AWS_REGION"));
    }
    let target_groups = layers.optional(&rows::RESPOT_EC2_TARGET_GROUPS)?.unwrap_or_default();
    let region_of = |arn: &str| arn.split(':').nth(3).unwrap_or_default().to_owned();
    if let Some(arn) = target_groups.iter().find(|arn| !regions.contains(&region_of(arn))) {
        return Err(SettingsError::new(format!("RESPOT_EC2_TARGET_GROUPS: {arn} is in {}", region_of(arn))).hint(
            format!("the regions of this fleet are {}: add its region to RESPOT_EC2_REGIONS", regions.join(", ")),
        ));
    }
    let opt_in = layers.value(&rows::RESPOT_EC2_TAG)?;
    if opt_in == OptIn::Everything && layers.get(&rows::RESPOT_EC2_ACCOUNT.row).is_none() {
        return Err(SettingsError::new("RESPOT_EC2_TAG is * and RESPOT_EC2_ACCOUNT is not set")
            .hint("name the account whose instances are all to be managed, or a tag"));
    }
    Ok(Some(Ec2Settings {
        source: found.source,
        regions,
        opt_in,
        stand_ins: StandIns {
            subnets: layers.optional(&rows::RESPOT_EC2_SUBNETS)?.unwrap_or_default(),
            kinds: layers.optional(&rows::RESPOT_EC2_TYPES)?.unwrap_or_default(),
        },
        keeps_user_data: layers.value(&rows::RESPOT_EC2_USER_DATA)? == UserData::Keep,
        prices: layers.optional(&rows::RESPOT_EC2_PRICES)?.map_or_else(|| Ok(BTreeMap::new()), |path| prices(&path))?,
        retirement: Retirement {
            stops: layers.value(&rows::RESPOT_EC2_RETIRE)? == Retire::Stop,
            keep: layers.value(&rows::RESPOT_EC2_RETIRE_HOURS)?,
        },
        target_groups,
        metadata: endpoint(environment, &["AWS_EC2_METADATA_SERVICE_ENDPOINT"])?,
        addresses: addresses(environment)?,
    }))
}

/// Refuses what EC2 does not have.
fn check(layers: &Layers<'_>, cli: &Cli) -> Result<()> {
    let refused = |what: &str, why: &str| {
        Err(SettingsError::new(format!("{what} is not possible with RESPOT_PROVIDER=ec2")).hint(why))
    };
    if matches!(&cli.command, Command::Report(ReportArgs { invoice: true, .. })) {
        return refused("report --invoice", "leave out --invoice: EC2 has no bill by instance");
    }
    let eligibility = layers.get(&rows::MIGRATION_ELIGIBILITY.row);
    if eligibility.is_some() && layers.value(&rows::MIGRATION_ELIGIBILITY)? == Eligibility::Time {
        return refused("MIGRATION_ELIGIBILITY=time", "unset it: on EC2 only what was reclaimed is brought back");
    }
    if layers.value(&rows::MIGRATION_LADDER)? == Ladder::Migrate || !layers.value(&rows::MIGRATION_RETRY_FAILED)? {
        return refused("only to migrate", "unset MIGRATION_LADDER and MIGRATION_RETRY_FAILED: EC2 does not migrate");
    }
    if layers.value(&rows::RESPOT_NOTICE)? {
        return refused("RESPOT_NOTICE=on", "unset it: EC2 announces a reclaim two minutes ahead, between two passes");
    }
    if layers.value(&rows::RESPOT_BRIDGE_USD_PER_DAY)? > Usd::default() {
        return refused("RESPOT_BRIDGE_USD_PER_DAY", "unset it: on-demand stand-ins are for Novita only, for now");
    }
    Ok(())
}

/// Other addresses of services.
fn addresses(environment: &Environment) -> Result<BTreeMap<AwsService, Url>> {
    let mut addresses = BTreeMap::new();
    for service in AwsService::ALL {
        let found = endpoint(environment, &[service.address_variable(), "AWS_ENDPOINT_URL"])?;
        addresses.extend(found.map(|address| (service, address)));
    }
    Ok(addresses)
}

/// The prices of instance types in a file of lines like `g5.xlarge = 1.006`, which TOML takes for a table `g5`.
fn prices(path: &Path) -> Result<BTreeMap<String, Usd>> {
    let name = rows::RESPOT_EC2_PRICES.row.name;
    let invalid = |what: &str| {
        SettingsError::new(format!("invalid value for {name}: {}: {what}", path.display()))
            .hint("write a line for each type, for example: g5.xlarge = 1.006")
    };
    let text = read_text(path).map_err(|error| invalid(&error.to_string()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| invalid(error.message()))?;
    let mut prices = BTreeMap::new();
    for (family, value) in table {
        let rows = match value {
            toml::Value::Table(sizes) => {
                sizes.into_iter().map(|(size, value)| (format!("{family}.{size}"), value)).collect()
            }
            value => vec![(family, value)],
        };
        for (kind, value) in rows {
            let price = match &value {
                toml::Value::String(text) => Usd::of_decimals(text),
                toml::Value::Float(price) => Usd::of_decimals(&price.to_string()),
                toml::Value::Integer(price) => Usd::of_decimals(&price.to_string()),
                _ => None,
            };
            let price = price.ok_or_else(|| invalid(&format!("{kind} has no price in USD for an hour")))?;
            prices.insert(kind, price);
        }
    }
    Ok(prices)
}

/// The first of these variables that is set, as a URL. Requests carry user data, so that they are encrypted unless they stay
/// on this machine.
fn endpoint(environment: &Environment, names: &[&'static str]) -> Result<Option<Url>> {
    let Some((name, text)) = environment.first(names)? else { return Ok(None) };
    let url: Url = text.parse().map_err(|error| SettingsError::new(format!("invalid value for {name}: {error}")))?;
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url);
    if !is_safe || url.query().is_some() || !matches!(url.path(), "" | "/") {
        return Err(SettingsError::new(format!("invalid value for {name}"))
            .hint("use https://HOST, or http:// on this machine, without a path"));
    }
    Ok(Some(url))
}

impl SettingsError {
    fn or_hint(self, hint: &str) -> Self {
        Self { hint: self.hint.or_else(|| Some(hint.into())), ..self }
    }
}
