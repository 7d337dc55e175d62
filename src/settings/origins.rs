//! Where settings came from, for whoever has to mend them: names and paths, never a value.

use std::path::PathBuf;

use super::SETTINGS;
use super::layers::{Layers, Source};

/// Settings whose value is a secret, or whose address lets whoever knows it write there.
const SECRETS: [&str; 4] = ["NOVITA_API_KEY", "WEBHOOK_SECRET", "WEBHOOK_URL", "RESPOT_PING_URL"];

/// Settings that name a file with a secret in it.
const SECRET_FILES: [&str; 2] = ["NOVITA_API_KEY_FILE", "WEBHOOK_SECRET_FILE"];

/// Variables by which the HTTP client is sent through a proxy.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Where the settings came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// The configuration file that was read, if any.
    pub file: Option<PathBuf>,
    /// The settings that it decides.
    pub from_file: Vec<&'static str>,
    /// The settings that the environment decides.
    pub from_environment: Vec<&'static str>,
    /// Every file that is named to hold a secret, and the configuration file if there is one in it.
    pub secret_files: Vec<PathBuf>,
    /// The variable that sends requests through a proxy, if there is one.
    pub proxy: Option<&'static str>,
}

impl Origins {
    pub(super) fn of(layers: &Layers<'_>) -> Self {
        let mut origins = Self { file: layers.file_path().map(PathBuf::from), ..Self::default() };
        for setting in SETTINGS {
            let Some(given) = layers.get(setting.name) else { continue };
            match given.source {
                Source::File(_) => origins.from_file.push(setting.name),
                Source::Environment => origins.from_environment.push(setting.name),
                Source::Flag(_) => {}
            }
            if SECRET_FILES.contains(&setting.name) {
                origins.secret_files.push(given.value.into());
            }
        }
        // A secret is in the file even where the environment has the last word. Of an address only the part before the
        // host is one.
        let is_secret = |(name, value): &(&str, String)| SECRETS.contains(name) || value.contains('@');
        if layers.file_entries().iter().any(is_secret) {
            origins.secret_files.extend(origins.file.clone());
        }
        origins.proxy = PROXIES.into_iter().find(|name| layers.environment().non_empty(name).is_some());
        origins
    }
}
