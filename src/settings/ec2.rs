//! What concerns Amazon EC2 alone: who it is done as, where, and for which instances.

use url::Url;

use super::cli::{Cli, Command, ReportArgs};
use super::layers::{Environment, Layers};
use super::{ProviderName, Result, SettingsError, UserData, rows};
use crate::core::world::money::Usd;
use crate::core::world::policy::{Eligibility, Ladder, OptIn, StandIns};
use crate::credentials::{self, CredentialSource};
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
    endpoint: Option<Url>,
    sts_endpoint: Option<Url>,
}

impl Ec2Settings {
    /// Where EC2 is in a region.
    ///
    /// # Errors
    /// When the region is no part of a host name.
    pub fn endpoint(&self, region: &str) -> Result<Url> {
        self.endpoint.clone().map_or_else(|| host("ec2", region), Ok)
    }

    /// Where STS is in a region.
    ///
    /// # Errors
    /// When the region is no part of a host name.
    pub fn sts_endpoint(&self, region: &str) -> Result<Url> {
        self.sts_endpoint.clone().map_or_else(|| host("sts", region), Ok)
    }
}

fn host(service: &str, region: &str) -> Result<Url> {
    let domain = match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    let url = format!("https://{service}.{region}.{domain}/");
    url.parse().map_err(|_| SettingsError::new(format!("{region:?} is no region")))
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
        endpoint: endpoint(environment, &["AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"])?,
        sts_endpoint: endpoint(environment, &["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"])?,
    }))
}

/// Refuses what EC2 does not have.
fn check(layers: &Layers<'_>, cli: &Cli) -> Result<()> {
    let refused = |what: &str, why: &str| {
        Err(SettingsError::new(format!("{what} is not possible with RESPOT_PROVIDER=ec2")).hint(why))
    };
    match &cli.command {
        Command::Analyze(_) | Command::Rollout(_) => {
            return refused("moving on-demand instances to spot", "analyze and rollout know Novita only, for now");
        }
        Command::Report(ReportArgs { invoice: true, .. }) => {
            return refused("report --invoice", "leave out --invoice: EC2 has no bill by instance");
        }
        _ => {}
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
