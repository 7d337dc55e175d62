//! The receivers named in the settings.

use anyhow::Result;
use futures_util::future::join;

use super::outbound::{Message, Outbound};
use super::{CLOSING_TIME, NotDelivered, Notify, files, webhook};
use crate::core::record::outbox::Outgoing;
use crate::proxies::Proxies;
use crate::report::{Event, Reporter};
use crate::settings::{Address, NotifySettings};

/// All configured receivers.
pub struct Outlets<'a> {
    settings: &'a NotifySettings,
    outbound: Option<Outbound>,
    reporter: &'a dyn Reporter,
}

/// How a command ended, for the receivers.
#[derive(Clone, Copy, Debug)]
pub struct Closing<'a> {
    /// Whether the pass did its work, apart from single actions. `None` if there was no pass because another one is running,
    /// which reports by itself.
    pub worked: Option<bool>,
    /// The summary, or why there is none, as one line of JSON.
    pub message: &'a str,
    /// Prometheus text, if it could be made.
    pub metrics: Option<&'a str>,
}

impl<'a> Outlets<'a> {
    /// Creates the configured receivers; without any address, no HTTP client is created.
    ///
    /// # Errors
    /// If an address starts with https and no CA certificates are found.
    pub fn new(settings: &'a NotifySettings, proxies: &Proxies, reporter: &'a dyn Reporter) -> Result<Self> {
        let NotifySettings { webhook, ping, metrics_file: _, pushgateway, termination_message_file: _ } = settings;
        let webhook = webhook.as_ref().map(|webhook| &webhook.address);
        let addresses: Vec<&Address> = [webhook, ping.as_ref(), pushgateway.as_ref()].into_iter().flatten().collect();
        let encrypted = addresses.iter().any(|address| address.is_encrypted());
        let outbound = (!addresses.is_empty()).then(|| Outbound::new(encrypted, proxies)).transpose()?;
        Ok(Self { settings, outbound, reporter })
    }

    /// Whether metrics are wanted.
    #[must_use]
    pub fn wants_metrics(&self) -> bool {
        self.settings.metrics_file.is_some() || self.settings.pushgateway.is_some()
    }

    /// Reports the end of the command: files first, then receivers on the network, in parallel.
    pub async fn close(&self, closing: Closing<'_>) {
        let Closing { worked, message, metrics } = closing;
        if let Some(path) = &self.settings.termination_message_file {
            self.told("RESPOT_TERMINATION_MESSAGE_FILE", files::overwrite(path, message).map_err(|it| it.to_string()));
        }
        if let (Some(path), Some(metrics)) = (&self.settings.metrics_file, metrics) {
            self.told("RESPOT_METRICS_FILE", files::replace(path, metrics).map_err(|it| it.to_string()));
        }
        let ping = async {
            match worked {
                Some(true) => self.ping("", message).await,
                Some(false) => self.ping("fail", message).await,
                None => {}
            }
        };
        join(ping, self.push(metrics)).await;
    }

    async fn ping(&self, end: &str, message: &str) {
        let (Some(outbound), Some(address)) = (&self.outbound, &self.settings.ping) else { return };
        let message = Message {
            method: reqwest::Method::POST,
            content_type: "text/plain; charset=utf-8",
            headers: Vec::new(),
            body: message.to_owned(),
        };
        self.tell("RESPOT_PING_URL", outbound.send(&below(address, end), message)).await;
    }

    async fn push(&self, metrics: Option<&str>) {
        let (Some(outbound), Some(address), Some(metrics)) = (&self.outbound, &self.settings.pushgateway, metrics)
        else {
            return;
        };
        // A group in the URL, which tells several accounts apart, is kept.
        let is_group = address.expose().contains("/metrics/job/");
        let url = if is_group { address.expose().to_owned() } else { below(address, "metrics/job/respot") };
        let message = Message {
            method: reqwest::Method::PUT,
            content_type: "text/plain; version=0.0.4",
            headers: Vec::new(),
            body: metrics.to_owned(),
        };
        self.tell("RESPOT_PUSHGATEWAY_URL", outbound.send(&url, message)).await;
    }

    async fn tell(&self, setting: &'static str, sending: impl Future<Output = Result<(), NotDelivered>>) {
        let sent = tokio::time::timeout(CLOSING_TIME, sending).await;
        self.told(setting, sent.unwrap_or_else(|_| Err("no answer in time".into())).map_err(|it| it.why));
    }

    fn told(&self, setting: &'static str, told: Result<(), String>) {
        if let Err(error) = told {
            self.reporter.event(Event::NotTold { setting, error: &error });
        }
    }
}

impl Notify for Outlets<'_> {
    fn wants_events(&self) -> bool {
        self.settings.webhook.is_some()
    }

    async fn began(&self) {
        self.ping("start", "").await;
    }

    async fn deliver(&self, event: &Outgoing) -> Result<(), NotDelivered> {
        match (&self.outbound, &self.settings.webhook) {
            (Some(outbound), Some(webhook)) => webhook::send(outbound, webhook, event).await,
            _ => Err("WEBHOOK_URL is not set".into()),
        }
    }
}

/// The address with `more` appended to its path.
fn below(address: &Address, more: &str) -> String {
    let url = address.expose();
    if more.is_empty() {
        return url.to_owned();
    }
    let (path, query) = url.find('?').map_or((url, ""), |at| url.split_at(at));
    format!("{}/{more}{query}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn more_goes_behind_the_path() {
        for (address, more, whole) in [
            ("https://ping.example/a-b", "start", "https://ping.example/a-b/start"),
            ("https://ping.example/a-b/", "fail", "https://ping.example/a-b/fail"),
            ("https://ping.example/a-b", "", "https://ping.example/a-b"),
            ("https://ping.example/a?rid=1", "start", "https://ping.example/a/start?rid=1"),
            ("http://push.example:9091", "metrics/job/respot", "http://push.example:9091/metrics/job/respot"),
        ] {
            let address = Address::new(Url::parse(address).unwrap());
            assert_eq!(below(&address, more), whole);
        }
    }
}
