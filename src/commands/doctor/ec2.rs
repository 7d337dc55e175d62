//! Amazon EC2: whose credentials are in use, whether each region answers, what time it is there, and how many instances carry
//! the tag that opts in.

use tokio::time::{Instant, timeout};

use super::provider::clock;
use super::{Finding, LIMIT};
use crate::clock::Clock;
use crate::cloud::ec2::{Caller, Rehearsed};
use crate::cloud::{CloudError, CloudRead as _, Ping};
use crate::commands::session::ec2_client;
use crate::commands::{Exit, Failure};
use crate::core::world::instance::{Aside, Billing, Instance};
use crate::core::world::market::Quota;
use crate::core::world::snapshot::Listing;
use crate::settings::{Ec2Settings, Settings};

const CREDENTIALS: &str = "credentials";
const API: &str = "api";
const CLOCK: &str = "clock";
const INSTANCES: &str = "instances";
const TARGET_GROUPS: &str = "target-groups";
const PERMISSIONS: &str = "permissions";
const QUOTA: &str = "quota";

pub(super) async fn check(settings: &Settings, ec2: &Ec2Settings) -> Vec<Finding> {
    let client = match ec2_client(ec2, &settings.proxies) {
        Ok(client) => client,
        Err(failure) => return vec![of_failure(API, failure)],
    };
    let source = format!("those of {}", ec2.source);
    let mut findings = vec![match timeout(LIMIT, client.caller()).await {
        Ok(Ok(Caller { account, arn })) => match &settings.account {
            Some(wanted) if *wanted != account => {
                let fix = "correct RESPOT_EC2_ACCOUNT, or use other credentials";
                let detail = format!("{source}: account {account} ({arn}), not {wanted}");
                Finding::failed(CREDENTIALS, Exit::Usage, detail, fix)
            }
            Some(_) => Finding::ok(CREDENTIALS, format!("{source}: account {account} ({arn})")),
            None => {
                let fix = format!("set RESPOT_EC2_ACCOUNT={account}: other credentials are refused then");
                Finding::warning(CREDENTIALS, format!("{source}: account {account} ({arn})"), fix)
            }
        },
        Ok(Err(error)) => {
            let Failure { exit, message, .. } = error.into();
            let fix = "see the table of credentials in docs/ec2.md: the first source that is configured decides";
            Finding::failed(CREDENTIALS, exit, format!("{source}: {message}"), fix)
        }
        Err(_) => {
            let detail = format!("{source}: STS did not answer within {} s", LIMIT.as_secs());
            Finding::failed(CREDENTIALS, Exit::Provider, detail, "check the network, and AWS_ENDPOINT_URL_STS")
        }
    }];
    let (started, sent_at) = (Instant::now(), Clock::system().now());
    let Ping { answer, date, .. } = client.ping(LIMIT).await;
    let took = started.elapsed();
    findings.push(match answer {
        Ok(()) => Finding::ok(API, format!("EC2 answers in {}", ec2.regions[0])).took(took),
        Err(error) => of_failure(API, error.into()),
    });
    findings.push(match date {
        Some(date) => clock(sent_at + took / 2, date),
        None => Finding::skipped(CLOCK, "not checked: the API gave no answer"),
    });
    findings.push(match timeout(LIMIT, client.instances(&|_, _| ())).await {
        Ok(Ok(listing)) => instances(&listing, ec2),
        Ok(Err(error)) => of_failure(INSTANCES, error.into()),
        Err(_) => Finding::skipped(INSTANCES, format!("not checked: the list took longer than {} s", LIMIT.as_secs())),
    });
    if !ec2.target_groups.is_empty() {
        findings.extend(target_groups(client.targets()));
    }
    if !findings.iter().any(|it| it.exit != Exit::Done) {
        findings.extend(match timeout(LIMIT, client.rehearsed()).await {
            Ok((reads, writes)) => permissions(&reads, &writes),
            Err(_) => {
                let detail = format!("not rehearsed: that took longer than {} s", LIMIT.as_secs());
                vec![Finding::skipped(PERMISSIONS, detail)]
            }
        });
        if let Ok(quotas) = timeout(LIMIT, client.quotas()).await {
            findings.extend(quotas.into_iter().map(|quota| quota_left(&quota)));
        }
    }
    findings
}

/// Whether the target groups can be read. Whether a target may be registered is not known before one is.
fn target_groups((targets, unread): (usize, Vec<(String, CloudError)>)) -> Vec<Finding> {
    let fix =
        "correct RESPOT_EC2_TARGET_GROUPS, or attach deploy/aws/read-policy.json: replacements get no traffic there";
    let failed = |(group, error): (String, CloudError)| {
        Finding::failed(TARGET_GROUPS, Exit::Provider, format!("{group}: {error}"), fix)
    };
    match unread.is_empty() {
        true => vec![Finding::ok(TARGET_GROUPS, format!("{targets} targets; RegisterTargets cannot be rehearsed"))],
        false => unread.into_iter().map(failed).collect(),
    }
}

/// What the credentials may do. An operator who only looks needs no permission to write.
fn permissions(reads: &[Rehearsed], writes: &[Rehearsed]) -> Vec<Finding> {
    let names = |calls: Vec<&Rehearsed>| calls.into_iter().map(|(action, _)| *action).collect::<Vec<_>>().join(", ");
    let denied = |calls: &[Rehearsed]| {
        let errors = calls.iter().filter_map(|(_, answer)| answer.as_ref()?.as_ref().err());
        errors.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let all = || reads.iter().chain(writes);
    let allowed = names(all().filter(|(_, answer)| matches!(answer, Some(Ok(())))).collect());
    let untried = names(all().filter(|(_, answer)| answer.is_none()).collect());
    let mut findings = Vec::new();
    if !allowed.is_empty() {
        findings.push(Finding::ok(PERMISSIONS, format!("allowed, as a rehearsal says: {allowed}")));
    }
    match denied(reads).as_str() {
        "" => {}
        errors => {
            let fix = "attach deploy/aws/read-policy.json";
            findings.push(Finding::failed(PERMISSIONS, Exit::Provider, errors, fix));
        }
    }
    match denied(writes).as_str() {
        "" => {}
        errors => findings.push(Finding::warning(
            PERMISSIONS,
            errors,
            "attach deploy/aws/write-policy.json, and deploy/aws/rollout-policy.json for rollouts, unless you only look",
        )),
    }
    if !untried.is_empty() {
        let detail = format!("not rehearsed, since no instance with the tag is fit for it: {untried}");
        findings.push(Finding::skipped(PERMISSIONS, detail));
    }
    findings
}

fn quota_left(Quota { what, limit, used, more }: &Quota) -> Finding {
    match limit {
        Ok(limit) if used + more > *limit => {
            let fix = "ask for more in Service Quotas: a replacement may be refused";
            Finding::warning(QUOTA, format!("{used} of {limit} {what} are in use"), fix)
        }
        Ok(limit) => Finding::ok(QUOTA, format!("{used} of {limit} {what} are in use")),
        Err(why) => Finding::skipped(QUOTA, format!("the quota of {what} is not known: {why}")),
    }
}

fn instances(listing: &Listing<Instance>, ec2: &Ec2Settings) -> Finding {
    if let Some(shortfall) = &listing.shortfall {
        let fix = "check RESPOT_EC2_REGIONS and the policy: nothing is done in that region";
        return Finding::failed(INSTANCES, Exit::Unsafe, shortfall.to_string(), fix);
    }
    let spot = || listing.items.iter().filter(|it| it.billing == Billing::Spot && !it.status.is_going());
    let ours = spot().filter(|it| !it.aside.as_ref().is_some_and(|aside| aside.is_foreign())).count();
    let is_managed = |it: &&Instance| matches!(it.aside.as_deref(), Some(Aside::ManagedElsewhere { .. }));
    let (managed, all) = (spot().filter(is_managed).count(), spot().count());
    let regions = ec2.regions.join(", ");
    let detail = format!(
        "{ours} of {all} spot instances in {regions} are looked after ({}); {managed} are managed by other programs",
        ec2.opt_in
    );
    match ours {
        0 => Finding::warning(INSTANCES, detail, format!("tag those that are to be looked after: {}", ec2.opt_in)),
        _ => Finding::ok(INSTANCES, detail),
    }
}

fn of_failure(check: &'static str, failure: Failure) -> Finding {
    let Failure { exit, message, hint, .. } = failure;
    Finding::failed(check, exit, message, hint.unwrap_or_default())
}
