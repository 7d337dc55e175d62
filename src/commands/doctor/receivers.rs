//! Who is told of passes: webhook, dead man's switch, Pushgateway, and files for other programs.
//!
//! Addresses are connected to and sent nothing. Whatever request reaches the dead man's switch, it takes it for a pass
//! that ended well, a HEAD included; so `doctor` in a shell would hide that cron is dead. The others are treated alike.

use std::path::Path;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use url::Url;

use super::files::{file_unwritable, folder_of, unwritable};
use super::{Finding, LIMIT};
use crate::act::new_event_id;
use crate::clock::Clock;
use crate::commands::Exit;
use crate::notify;
use crate::settings::{Address, NotifySettings, Settings, WebhookSetting};

const WEBHOOK: &str = "webhook";

pub(super) async fn check(settings: &Settings, send_test_event: bool) -> Vec<Finding> {
    let NotifySettings { webhook, ping, metrics_file, pushgateway, termination_message_file } = &settings.notify;
    let proxy = settings.origins.proxy;
    let addresses = [
        (WEBHOOK, "WEBHOOK_URL", webhook.as_ref().map(|webhook| &webhook.address)),
        ("ping", "RESPOT_PING_URL", ping.as_ref()),
        ("pushgateway", "RESPOT_PUSHGATEWAY_URL", pushgateway.as_ref()),
    ];
    let mut findings =
        join_all(addresses.map(|(check, setting, address)| connect(check, setting, address, proxy))).await;
    if send_test_event {
        findings[0] = test_event(webhook.as_ref()).await;
    }
    findings.push(match metrics_file {
        // Replaced as one, so it is the folder that has to be writable.
        Some(path) => file("metrics-file", "RESPOT_METRICS_FILE", path, unwritable(folder_of(path))),
        None => Finding::skipped("metrics-file", "RESPOT_METRICS_FILE is not set"),
    });
    findings.extend(termination_message_file.iter().map(|path| {
        // In Kubernetes it is there before, and cannot be replaced.
        let wrong = if path.exists() { file_unwritable(path) } else { unwritable(folder_of(path)) };
        file("termination-file", "RESPOT_TERMINATION_MESSAGE_FILE", path, wrong)
    }));
    findings
}

async fn connect(
    check: &'static str,
    setting: &'static str,
    address: Option<&Address>,
    proxy: Option<&'static str>,
) -> Finding {
    let Some(address) = address else { return Finding::skipped(check, format!("{setting} is not set")) };
    let begun = Instant::now();
    match reach(address).await {
        Ok(()) => Finding::ok(check, format!("{address} takes connections")).took(begun.elapsed()),
        Err(error) => match proxy {
            None => {
                let mend = format!("check {setting}, its name server entry, the receiver and the firewall");
                Finding::failed(check, Exit::ActionsFailed, format!("{address}: {error}"), mend)
            }
            Some(proxy) => {
                let mend = format!("if only {proxy} leads there, all is well; otherwise check {setting}");
                Finding::warning(check, format!("{address}: not without a proxy: {error}"), mend)
            }
        },
    }
}

async fn reach(address: &Address) -> Result<(), String> {
    let url = Url::parse(address.expose()).map_err(|error| error.to_string())?;
    // An IPv6 address stands in brackets there.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or_default();
    match timeout(LIMIT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot connect: {error}")),
        Err(_) => Err(format!("no connection within {} s", LIMIT.as_secs())),
    }
}

async fn test_event(webhook: Option<&WebhookSetting>) -> Finding {
    let Some(webhook) = webhook else {
        let mend = "set WEBHOOK_URL and WEBHOOK_SECRET, or leave --send-test-event out";
        return Finding::failed(WEBHOOK, Exit::Usage, "there is no receiver to send a test event to", mend);
    };
    let address = &webhook.address;
    let begun = Instant::now();
    match timeout(LIMIT, notify::send_test(webhook, new_event_id(Clock::system().now()))).await {
        Ok(Ok(())) => Finding::ok(WEBHOOK, format!("{address} took the test event")).took(begun.elapsed()),
        Ok(Err(error)) => test_failed(address, &error),
        Err(_) => test_failed(address, &format!("no answer within {} s", LIMIT.as_secs())),
    }
}

fn test_failed(address: &Address, error: &str) -> Finding {
    let mend = "check WEBHOOK_URL, that the receiver knows the same WEBHOOK_SECRET, and its log";
    Finding::failed(WEBHOOK, Exit::ActionsFailed, format!("{address} did not take the test event: {error}"), mend)
}

/// A file for other programs, and what speaks against writing it.
fn file(check: &'static str, setting: &str, path: &Path, wrong: Option<(String, String)>) -> Finding {
    let is_folder = || (format!("{} is a folder", path.display()), format!("name a file in {setting}"));
    match path.is_dir().then(is_folder).or(wrong) {
        None => Finding::ok(check, format!("{} can be written", path.display())),
        Some((detail, mend)) => Finding::failed(check, Exit::ActionsFailed, detail, mend),
    }
}
