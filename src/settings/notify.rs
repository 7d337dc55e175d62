//! Who is told of a pass: addresses, files and the secret that signs events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::layers::{Given, Layers};
use super::{
    Address, NotifySettings, Result, SettingsError, SigningSecret, Warning, WebhookSetting, is_loopback, secret,
};

/// How a secret begins whose bytes are written in base64, by Standard Webhooks.
const ENCODED: &str = "whsec_";

pub(super) fn settings(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<NotifySettings> {
    let path = |name| layers.get(name).map(|given| given.value.into());
    Ok(NotifySettings {
        webhook: webhook(layers, warnings)?,
        ping: layers.get("RESPOT_PING_URL").map(|given| address(&given)).transpose()?,
        metrics_file: path("RESPOT_METRICS_FILE"),
        pushgateway: layers.get("RESPOT_PUSHGATEWAY_URL").map(|given| address(&given)).transpose()?,
        termination_message_file: path("RESPOT_TERMINATION_MESSAGE_FILE"),
    })
}

fn webhook(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<Option<WebhookSetting>> {
    let given = secret(layers, "WEBHOOK_SECRET", "WEBHOOK_SECRET_FILE")?;
    match (layers.get("WEBHOOK_URL"), given) {
        (None, None) => Ok(None),
        (None, Some(Given { name, .. })) => {
            // It may belong to another program in the same environment.
            warnings.push(Warning {
                message: format!("{name} is set, but WEBHOOK_URL is not: no events are sent"),
                mend: format!("set WEBHOOK_URL, or remove {name}"),
            });
            Ok(None)
        }
        (Some(_), None) => Err(SettingsError::new("WEBHOOK_URL is set, but WEBHOOK_SECRET is not")
            .hint("events are signed: set WEBHOOK_SECRET, or WEBHOOK_SECRET_FILE to a file that holds the secret")),
        (Some(url), Some(given)) => {
            let address = address(&url)?;
            if address.expose().scheme() != "https" && !is_loopback(address.expose()) {
                return Err(SettingsError::new(format!("WEBHOOK_URL begins with http: ({})", url.source))
                    .hint("allowed is https://…, and http://… only to this machine (localhost, 127.0.0.1, [::1])"));
            }
            Ok(Some(WebhookSetting { address, secret: signing_secret(&given)? }))
        }
    }
}

/// The value is not shown: whoever knows such an address can often write there.
fn address(given: &Given) -> Result<Address> {
    let Given { name, value, source } = given;
    let wrong = |what: &str| {
        SettingsError::new(format!("{name} {what} ({source})"))
            .hint("allowed is an address such as https://example.com/path; its value is not shown here")
    };
    let url = Url::parse(value).map_err(|error| wrong(&format!("is no address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&format!("begins with {}:", url.scheme())));
    }
    if url.fragment().is_some() {
        return Err(wrong("has a part after #, which is never sent"));
    }
    Ok(Address::new(url))
}

fn signing_secret(given: &Given) -> Result<SigningSecret> {
    let Given { name, value, source } = given;
    if value.is_empty() {
        return Err(SettingsError::new(format!("{name} holds no secret ({source})")));
    }
    let Some(encoded) = value.strip_prefix(ENCODED) else { return Ok(SigningSecret(value.clone().into_bytes())) };
    let decoded = STANDARD.decode(encoded).ok().filter(|bytes| !bytes.is_empty());
    decoded.map(SigningSecret).ok_or_else(|| {
        SettingsError::new(format!("{name} begins with {ENCODED}, but what follows is not base64 ({source})"))
            .hint("copy the secret again; its value is not shown here")
    })
}
