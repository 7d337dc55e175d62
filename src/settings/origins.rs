//! Where settings came from: names and paths, never a value.

use std::path::PathBuf;

use super::layers::{Layers, Source};
use super::rows::{self, SETTINGS};

/// Settings whose whole value is a secret, or a URL that grants access by itself.
const SECRETS: [&str; 5] = [
    rows::NOVITA_API_KEY.row.name,
    rows::RESPOT_STORE_KEY.row.name,
    rows::WEBHOOK_SECRET.row.name,
    rows::WEBHOOK_URL.row.name,
    rows::RESPOT_PING_URL.row.name,
];

/// Settings that name a file with a secret in it.
const SECRET_FILES: [&str; 3] =
    [rows::NOVITA_API_KEY_FILE.row.name, rows::RESPOT_STORE_KEY_FILE.row.name, rows::WEBHOOK_SECRET_FILE.row.name];

/// Where the settings came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// The configuration file that was read, if any.
    pub file: Option<PathBuf>,
    pub from_file: Vec<&'static str>,
    /// The settings that the environment decides.
    pub from_environment: Vec<&'static str>,
    /// Every file that contains a secret; the configuration file is one of them if it does.
    pub secret_files: Vec<PathBuf>,
}

impl Origins {
    pub(super) fn of(layers: &Layers<'_>) -> Self {
        let mut origins = Self { file: layers.file_path.clone(), ..Self::default() };
        for row in SETTINGS {
            let Some(given) = layers.get(row) else { continue };
            match &given.source {
                Source::File(_) => origins.from_file.push(given.name),
                Source::Environment | Source::Change => origins.from_environment.push(given.name),
                Source::Flag(_) | Source::Default => {}
            }
            if SECRET_FILES.contains(&given.name) {
                origins.secret_files.push((&given.value).into());
            }
        }
        // A secret is in the file even if the environment wins. In other URLs, only user and password are secret.
        let is_secret = |(name, value): &(&str, String)| SECRETS.contains(name) || value.contains('@');
        if layers.file.iter().any(is_secret) {
            origins.secret_files.extend(origins.file.clone());
        }
        origins
    }
}
