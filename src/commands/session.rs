//! What every command starts from: the settings, the process, and how to open what the settings name.

use secrecy::ExposeSecret as _;

use super::Failure;
use crate::act::{Limits, World};
use crate::cli::OutputFormat;
use crate::clock::Clock;
use crate::cloud::any::Provider;
use crate::cloud::novita;
use crate::notify::Outlets;
use crate::report::human::Screen;
use crate::report::{Reporter, log};
use crate::settings::{Settings, SettingsError, StoreSetting};
use crate::stop::Stop;
use crate::store::StoreError;
use crate::store::any::Store;
use crate::store::redis::RedisStore;
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
    pub(super) fn client(&self) -> Result<Provider<'static>, Failure> {
        client(self.settings)
    }

    /// The store lives in real time, whatever `--now` says.
    fn clock_of_store(&self) -> Clock {
        if self.settings.now.is_some() { Clock::system() } else { self.clock.clone() }
    }

    pub(super) async fn open_to_write(&self) -> Result<Store, StoreError> {
        Ok(match &self.settings.store {
            StoreSetting::Redis { url, prefix } => {
                Store::Redis(RedisStore::connect(url.expose_secret(), prefix).await?)
            }
            StoreSetting::Sqlite(path) => Store::Sqlite(SqliteStore::open(path, self.clock_of_store())?),
        })
    }

    pub(super) async fn open_to_read(&self) -> Result<Store, StoreError> {
        Ok(match &self.settings.store {
            StoreSetting::Redis { url, prefix } => {
                Store::Redis(RedisStore::connect(url.expose_secret(), prefix).await?)
            }
            StoreSetting::Sqlite(path) => Store::Sqlite(SqliteStore::open_read(path, self.clock_of_store())?),
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

/// The client of the provider that the settings name.
pub(super) fn client(settings: &Settings) -> Result<Provider<'static>, Failure> {
    let key = settings.api_key.as_ref().map_or("", |key| key.expose_secret());
    novita::connect(&settings.api_base_url, key, &settings.proxies).map(Provider::Novita).map_err(unusable)
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
