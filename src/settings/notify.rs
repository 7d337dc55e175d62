//! Where events, pings and metrics go.

use std::path::PathBuf;

use secrecy::SecretSlice;

use super::addresses::Address;
use super::layers::{Given, Layers};
use super::{Result, SettingsError, Warning, rows};

/// Where a pass reports to, apart from the log.
#[derive(Clone, Debug, Default)]
pub struct NotifySettings {
    pub webhook: Option<WebhookSetting>,
    pub ping: Option<Address>,
    pub metrics_file: Option<PathBuf>,
    pub pushgateway: Option<Address>,
    pub termination_message_file: Option<PathBuf>,
}

/// The receiver of events.
#[derive(Clone, Debug)]
pub struct WebhookSetting {
    pub address: Address,
    /// The key of the signatures, decoded.
    pub secret: SecretSlice<u8>,
}

pub(super) fn settings(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<NotifySettings> {
    Ok(NotifySettings {
        webhook: webhook(layers, warnings)?,
        ping: layers.optional(&rows::RESPOT_PING_URL)?,
        metrics_file: layers.optional(&rows::RESPOT_METRICS_FILE)?,
        pushgateway: layers.optional(&rows::RESPOT_PUSHGATEWAY_URL)?,
        termination_message_file: layers.optional(&rows::RESPOT_TERMINATION_MESSAGE_FILE)?,
    })
}

fn webhook(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<Option<WebhookSetting>> {
    let secret = layers.secret(&rows::WEBHOOK_SECRET.row, &rows::WEBHOOK_SECRET_FILE.row)?;
    let Some(address) = layers.optional(&rows::WEBHOOK_URL)? else {
        // The secret may belong to another program in the same environment.
        warnings.extend(secret.map(|Given { name, .. }| Warning {
            message: format!("{name} is set, but WEBHOOK_URL is not: no events are sent"),
            fix: format!("set WEBHOOK_URL, or unset {name}"),
        }));
        return Ok(None);
    };
    let secret = secret.ok_or_else(|| {
        SettingsError::new("WEBHOOK_URL is set, but WEBHOOK_SECRET is not")
            .hint("events are signed: set WEBHOOK_SECRET, or WEBHOOK_SECRET_FILE to a file that contains the secret")
    })?;
    Ok(Some(WebhookSetting { address, secret: secret.parse(&rows::WEBHOOK_SECRET)? }))
}
