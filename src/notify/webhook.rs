//! Events in the format of Standard Webhooks (`docs/reference.md`, Events).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use secrecy::ExposeSecret;

use super::NotDelivered;
use super::outbound::{Message, Outbound};
use crate::clock::Clock;
use crate::core::record::outbox::Outgoing;
use crate::settings::WebhookSetting;

/// Sends one event, signed.
pub(super) async fn send(outbound: &Outbound, webhook: &WebhookSetting, event: &Outgoing) -> Result<(), NotDelivered> {
    // The time of sending, by which receivers detect a replay; never that of the event or of `--now`.
    let timestamp = Clock::system().now().as_secs();
    let signature = sign(webhook.secret.expose_secret(), &event.id, timestamp, &event.body);
    let message = Message {
        method: reqwest::Method::POST,
        content_type: "application/json",
        headers: vec![
            ("webhook-id", event.id.clone()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ],
        body: event.body.clone(),
    };
    outbound.send(webhook.address.expose(), message).await
}

/// `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`.
fn sign(secret: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}
