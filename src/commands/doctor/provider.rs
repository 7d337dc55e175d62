//! The provider: one request shows whether the API answers, whether it accepts the key, and what time it is there.

use futures_util::future::join;
use tokio::time::{Instant, timeout};

use super::{Finding, LIMIT};
use crate::clock::Clock;
use crate::cloud::{CloudError, CloudRead, Ping};
use crate::commands::session::client;
use crate::commands::{Exit, Failure};
use crate::core::world::error::ErrorKind;
use crate::core::world::snapshot::Shortfall;
use crate::core::world::time::{Timestamp, in_words};
use crate::core::world::times::TOLERATED_SKEW;
use crate::proxies::Proxy;
use crate::settings::Settings;

const API: &str = "api";
const KEY: &str = "key";
const CLOCK: &str = "clock";

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    match client(settings).await {
        Ok(cloud) => ask(&cloud, settings).await,
        Err(failure) => {
            let api = Finding::failed(API, failure.exit, failure.message, failure.hint.unwrap_or_default());
            vec![api, key(settings, None), Finding::skipped(CLOCK, NO_ANSWER)]
        }
    }
}

const NO_ANSWER: &str = "not checked: the API gave no answer";

async fn ask(cloud: &impl CloudRead, settings: &Settings) -> Vec<Finding> {
    // The system's clock, whatever --now says.
    let (started, sent_at) = (Instant::now(), Clock::system().now());
    let ping = cloud.ping(LIMIT).await;
    let took = started.elapsed();
    let Ping { answer, responded, date } = &ping;
    let clock = match *date {
        Some(date) => clock(sent_at + took / 2, date),
        None if answer.is_ok() => Finding::skipped(CLOCK, "not checked: the answer has no date"),
        None => Finding::skipped(CLOCK, NO_ANSWER),
    };
    let api = api(settings, &ping);
    let mut findings = vec![if *responded { api.took(took) } else { api }, key(settings, Some(answer)), clock];
    if answer.is_ok() {
        findings.extend(lists(cloud, sent_at).await);
    }
    findings
}

/// Every pass reads both lists whole. A key may be denied the jobs, and rows may be missing.
async fn lists(cloud: &impl CloudRead, now: Timestamp) -> Vec<Finding> {
    let (instances, jobs) = join(timeout(LIMIT, cloud.instances(&|_, _| ())), timeout(LIMIT, cloud.jobs(now))).await;
    let instances = instances.ok().and_then(|list| incomplete("instances", list.map(|list| list.shortfall)));
    let jobs = jobs.ok().and_then(|list| incomplete("jobs", list.map(|list| list.shortfall)));
    instances.into_iter().chain(jobs).collect()
}

fn incomplete(what: &str, list: Result<Option<Shortfall>, CloudError>) -> Option<Finding> {
    match list {
        Ok(Some(rows @ Shortfall::Nameless { .. })) => {
            let fix = "ask the provider: until then passes migrate, and recreate nothing";
            Some(Finding::warning(API, format!("the list of {what}: {rows}"), fix))
        }
        Ok(shortfall) => {
            let detail = format!("the list of {what} is incomplete: {}", shortfall?);
            let fix = "ask the provider: passes do not act on such a list";
            Some(Finding::failed(API, Exit::Unsafe, detail, fix))
        }
        Err(error) => {
            let Failure { exit, message, hint, .. } = Failure::from(error);
            Some(Finding::failed(API, exit, format!("the list of {what}: {message}"), hint.unwrap_or_default()))
        }
    }
}

fn api(settings: &Settings, ping: &Ping) -> Finding {
    let place = &settings.api_base_url;
    let proxy = settings.proxies.of_url(place);
    let through = proxy.map_or_else(String::new, |it| format!(" through {} ({it})", it.variable));
    match &ping.answer {
        Ok(()) => Finding::ok(API, format!("{place} answers{through}")),
        Err(error) => match error.kind {
            ErrorKind::Auth => Finding::ok(API, format!("{place} answers{through}")),
            ErrorKind::RateLimit => {
                Finding::warning(API, format!("{place} answers, but limits requests: {error}"), RATE)
            }
            _ => {
                let Failure { exit, message, hint, .. } = Failure::from(error.clone());
                let hint = match proxy {
                    Some(Proxy { variable: proxy, .. }) if !ping.responded => {
                        format!("check the network, NOVITA_API_BASE_URL and {proxy}, through which requests go")
                    }
                    _ => hint.unwrap_or_else(|| "check NOVITA_API_BASE_URL".into()),
                };
                Finding::failed(API, exit, format!("{place}: {message}"), hint)
            }
        },
    }
}

const RATE: &str =
    "schedule passes less often (and set MIGRATION_INTERVAL_MINUTES to match), or ask the provider for a higher limit";

fn key(settings: &Settings, answer: Option<&Result<(), CloudError>>) -> Finding {
    if settings.api_key.is_none() {
        let fix = "set NOVITA_API_KEY, or NOVITA_API_KEY_FILE to a file that contains the key";
        return Finding::failed(KEY, Exit::Usage, "NOVITA_API_KEY is not set", fix);
    }
    match answer {
        Some(Ok(())) => Finding::ok(KEY, "the provider accepts it"),
        Some(Err(error)) if error.kind == ErrorKind::Auth => {
            let fix = "create a key in the provider's console and set NOVITA_API_KEY or NOVITA_API_KEY_FILE";
            Finding::failed(KEY, Exit::Provider, format!("the provider rejects it: {error}"), fix)
        }
        Some(Err(_)) | None => Finding::skipped(KEY, "not checked: the API gave no usable answer"),
    }
}

/// `date` is the provider's time, truncated to seconds.
pub(super) fn clock(now: Timestamp, date: Timestamp) -> Finding {
    let (ahead, behind) = (now.since(date), date.since(now));
    let skew = ahead.max(behind);
    if skew <= TOLERATED_SKEW {
        return Finding::ok(CLOCK, format!("differs from the provider's by {} s at most", skew.as_secs() + 1));
    }
    let direction = if ahead > behind { "ahead of" } else { "behind" };
    let detail = format!("{} {direction} the provider's", in_words(skew));
    Finding::warning(CLOCK, detail, "timedatectl set-ntp true (systemd), or start chronyd or ntpd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::json::CheckStatus;

    #[test]
    fn a_clock_is_pointed_out_when_it_is_more_than_a_minute_off() {
        for (now, status, words) in [
            (1_000_000_400, CheckStatus::Ok, "by 1 s"),
            (1_000_060_000, CheckStatus::Ok, "by 61 s"),
            (1_000_060_001, CheckStatus::Warning, "1 min ahead of"),
            (1_000_900_000, CheckStatus::Warning, "15 min ahead of"),
            (999_939_000, CheckStatus::Warning, "1 min behind"),
        ] {
            let part = clock(Timestamp::from_millis(now), Timestamp::from_millis(1_000_000_000)).part;
            assert_eq!(part.status, status, "{}", part.detail);
            assert!(part.detail.contains(words), "{}", part.detail);
        }
    }
}
