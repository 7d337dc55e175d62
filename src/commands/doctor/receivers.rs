//! Receivers: webhook, dead man's switch, Pushgateway, and files for other programs.
//!
//! Network receivers are only connected to. A dead man's switch takes any request, even a HEAD, for a successful pass:
//! `doctor` on a terminal would hide that cron is broken.

use std::path::Path;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use url::Url;

use super::files::{file_unwritable, unwritable};
use super::{Finding, LIMIT};
use crate::act::new_id;
use crate::clock::Clock;
use crate::commands::Exit;
use crate::notify;
use crate::paths::{folder_of, is_there};
use crate::proxies::{Proxies, Proxy};
use crate::settings::{Address, NotifySettings, Settings, WebhookSetting};
use crate::tls::shake_hands;

const WEBHOOK: &str = "webhook";

pub(super) async fn check(settings: &Settings, send_test_event: bool) -> Vec<Finding> {
    let NotifySettings { webhook, ping, metrics_file, pushgateway, termination_message_file } = &settings.notify;
    let addresses = [
        (WEBHOOK, "WEBHOOK_URL", webhook.as_ref().map(|webhook| &webhook.address)),
        ("ping", "RESPOT_PING_URL", ping.as_ref()),
        ("pushgateway", "RESPOT_PUSHGATEWAY_URL", pushgateway.as_ref()),
    ];
    let mut findings =
        join_all(addresses.map(|(check, setting, address)| connect(check, setting, address, &settings.proxies))).await;
    if send_test_event {
        findings[0] = test_event(webhook.as_ref(), &settings.proxies).await;
    }
    findings.push(match metrics_file {
        // It is replaced atomically, so the directory has to be writable.
        Some(path) => {
            let wrong = unwritable(folder_of(path)).or_else(|| {
                let error = notify::replaceable(path).err()?;
                Some((format!("{}: {error}", path.display()), "set RESPOT_METRICS_FILE to a file".into()))
            });
            file("metrics-file", "RESPOT_METRICS_FILE", path, wrong)
        }
        None => Finding::skipped("metrics-file", "RESPOT_METRICS_FILE is not set"),
    });
    findings.extend(termination_message_file.iter().map(|path| {
        // In Kubernetes it exists already and cannot be replaced.
        let wrong = match is_there(path) {
            Ok(true) => file_unwritable(path),
            Ok(false) | Err(_) => unwritable(folder_of(path)),
        };
        file("termination-file", "RESPOT_TERMINATION_MESSAGE_FILE", path, wrong)
    }));
    findings
}

async fn connect(check: &'static str, setting: &'static str, address: Option<&Address>, proxies: &Proxies) -> Finding {
    let Some(address) = address else { return Finding::skipped(check, format!("{setting} is not set")) };
    let url = Url::parse(address.expose()).ok();
    let started = Instant::now();
    match (reach(address).await, url.and_then(|url| proxies.of_url(&url))) {
        (Ok(()), _) => Finding::ok(check, format!("{address} accepts connections")).took(started.elapsed()),
        (Err(error), None) => {
            let fix = format!("check {setting}, DNS, the receiver and firewalls");
            Finding::failed(check, Exit::ActionsFailed, format!("{address}: {error}"), fix)
        }
        (Err(error), Some(Proxy { variable: proxy, .. })) => {
            let fix = format!("ignore this if it is only reachable through {proxy}; otherwise check {setting}");
            Finding::warning(check, format!("{address}: no direct connection: {error}"), fix)
        }
    }
}

async fn reach(address: &Address) -> Result<(), String> {
    let url = Url::parse(address.expose()).map_err(|error| error.to_string())?;
    // An IPv6 address is in brackets.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or_default();
    let connected = timeout(LIMIT, TcpStream::connect((host, port))).await;
    let connected = connected.map_err(|_| format!("no connection within {} s", LIMIT.as_secs()))?;
    let stream = connected.map_err(|error| format!("cannot connect: {error}"))?;
    if !address.is_encrypted() {
        return Ok(());
    }
    let host = host.to_owned();
    let handshake = move || -> anyhow::Result<()> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LIMIT))?;
        shake_hands(stream, &host)
    };
    let made = tokio::task::spawn_blocking(handshake).await.map_err(|error| error.to_string())?;
    made.map_err(|error| format!("no TLS connection: {error:#}"))
}

async fn test_event(webhook: Option<&WebhookSetting>, proxies: &Proxies) -> Finding {
    let Some(webhook) = webhook else {
        let fix = "set WEBHOOK_URL and WEBHOOK_SECRET, or omit --send-test-event";
        return Finding::failed(WEBHOOK, Exit::Usage, "no receiver for a test event", fix);
    };
    let (address, started) = (&webhook.address, Instant::now());
    let sent = timeout(LIMIT, notify::send_test(webhook, proxies, new_id("evt_", Clock::system().now()))).await;
    match sent.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs()))) {
        Ok(()) => Finding::ok(WEBHOOK, format!("{address} accepted the test event")).took(started.elapsed()),
        Err(error) => {
            let fix = "check WEBHOOK_URL, that the receiver has the same WEBHOOK_SECRET, and its log";
            let detail = format!("{address} did not accept the test event: {error}");
            Finding::failed(WEBHOOK, Exit::ActionsFailed, detail, fix)
        }
    }
}

/// A file for other programs, and why it cannot be written.
fn file(check: &'static str, setting: &str, path: &Path, wrong: Option<(String, String)>) -> Finding {
    let is_folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let is_directory = || (format!("{} is a directory", path.display()), format!("set {setting} to a file"));
    match is_folder.then(is_directory).or(wrong) {
        None => Finding::ok(check, format!("{} is writable", path.display())),
        Some((detail, fix)) => Finding::failed(check, Exit::ActionsFailed, detail, fix),
    }
}
