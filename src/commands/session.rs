//! What every command starts from: the settings, the process, and how to open what the settings name.

use std::path::Path;

use secrecy::ExposeSecret as _;

use super::Failure;
use crate::act::{Limits, World};
use crate::cli::OutputFormat;
use crate::clock::Clock;
use crate::cloud::any::Provider;
use crate::cloud::ec2::client::{Ec2Client, FleetTerms};
use crate::cloud::ec2::transport::SignedTransport;
use crate::cloud::ec2::{self, Caller};
use crate::cloud::novita;
use crate::notify::Outlets;
use crate::proxies::Proxies;
use crate::report::human::Screen;
use crate::report::{Reporter, log};
use crate::settings::{Ec2Settings, Settings, SettingsError, StoreSetting};
use crate::stop::Stop;
use crate::store::StoreError;
use crate::store::any::Store;
use crate::store::redis::RedisStore;
use crate::store::sealed::{SealKey, SealedStore};
use crate::store::sqlite::SqliteStore;

/// What the command line, the settings and the process give to every command.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    pub settings: &'a Settings,
    pub clock: &'a Clock,
    /// Triggered by SIGINT, SIGTERM and SIGHUP.
    pub stop: &'a Stop,
    pub reporter: &'a dyn Reporter,
    pub show: Presentation,
    pub log_format: log::Format,
}

impl<'a> Session<'a> {
    pub(super) async fn client(&self) -> Result<Provider<'static>, Failure> {
        client(self.settings).await
    }

    /// The store lives in real time, whatever `--now` says.
    fn clock_of_store(&self) -> Clock {
        if self.settings.now.is_some() { Clock::system() } else { self.clock.clone() }
    }

    pub(super) async fn open_to_write(&self) -> Result<SealedStore<Store>, StoreError> {
        Ok(SealedStore::new(self.open(SqliteStore::open).await?, seal_key(self.settings)))
    }

    /// To foretell what a pass would do, which must be able to read the same.
    pub(super) async fn open_to_plan(&self) -> Result<SealedStore<Store>, StoreError> {
        Ok(SealedStore::new(self.open(SqliteStore::open_read).await?, seal_key(self.settings)))
    }

    /// To show what passes did.
    pub(super) async fn open_to_read(&self) -> Result<SealedStore<Store>, StoreError> {
        Ok(SealedStore::showing(self.open(SqliteStore::open_read).await?, seal_key(self.settings)))
    }

    async fn open(&self, file: fn(&Path, Clock) -> Result<SqliteStore, StoreError>) -> Result<Store, StoreError> {
        Ok(match &self.settings.store {
            StoreSetting::Redis { url, prefix } => {
                Store::Redis(RedisStore::connect(url.expose_secret(), prefix).await?)
            }
            StoreSetting::Sqlite(path) => Store::Sqlite(file(path, self.clock_of_store())?),
        })
    }

    /// Those who are notified.
    pub(super) fn outlets(&self) -> Result<Outlets<'a>, Failure> {
        Outlets::new(&self.settings.notify, &self.settings.proxies, self.reporter).map_err(unusable)
    }

    pub(super) fn world<'w, C, S>(&self, cloud: &'w C, store: &'w S, limits: &'w Limits<'w>) -> World<'w, C, S>
    where
        'a: 'w,
    {
        let Self { clock, stop, reporter, .. } = *self;
        World { cloud, store, limits, clock, stop, reporter }
    }
}

/// The key of what is sealed in the store.
pub(super) fn seal_key(settings: &Settings) -> Option<SealKey> {
    settings.store_key.as_ref().and_then(SealKey::new)
}

/// The client of the provider that the settings name.
pub(super) async fn client(settings: &Settings) -> Result<Provider<'static>, Failure> {
    let Some(ec2) = &settings.ec2 else {
        let key = settings.api_key.as_ref().map_or("", |key| key.expose_secret());
        return novita::connect(&settings.api_base_url, key, &settings.proxies).map(Provider::Novita).map_err(unusable);
    };
    let client = ec2_client(ec2, &settings.proxies)?;
    let Caller { account: actual, arn } = client.caller().await?;
    if let Some(account) = settings.account.as_ref().filter(|account| **account != actual) {
        let message = format!("the credentials are those of account {actual} ({arn}), not of {account}");
        let hint = Some("correct RESPOT_EC2_ACCOUNT, or use other credentials".to_owned());
        return Err(SettingsError { message, hint }.into());
    }
    Ok(Provider::Ec2(Box::new(client)))
}

/// A client of EC2, whatever account its credentials are of.
pub(super) fn ec2_client(ec2: &Ec2Settings, proxies: &Proxies) -> Result<Ec2Client<SignedTransport>, Failure> {
    let terms = FleetTerms {
        opt_in: ec2.opt_in.clone(),
        stand_ins: ec2.stand_ins.clone(),
        keeps_user_data: ec2.keeps_user_data,
        prices: ec2.prices.clone(),
        retirement: ec2.retirement,
        target_groups: ec2.target_groups.clone(),
    };
    let address = |service, region: &str| ec2.address(service, region);
    ec2::connect(&ec2.regions, ec2.source.clone(), terms, proxies, ec2.metadata.clone(), address).map_err(unusable)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(error: anyhow::Error) -> Failure {
    SettingsError { message: format!("{error:#}"), hint: None }.into()
}

/// Where and how results are shown.
#[derive(Clone, Copy, Debug)]
pub struct Presentation {
    /// What the operator asked for, if anything.
    pub format: Option<OutputFormat>,
    pub quiet: bool,
    pub screen: Screen,
}

impl Presentation {
    pub(super) fn json(self) -> bool {
        self.format == Some(OutputFormat::Json)
    }

    /// Whether to print a table after a pass: on a terminal, or where it was asked for. In cron the log is enough.
    pub(super) fn wants_table(self) -> bool {
        let watched = self.screen.width.is_some();
        !self.quiet && (self.format == Some(OutputFormat::Table) || watched)
    }
}
