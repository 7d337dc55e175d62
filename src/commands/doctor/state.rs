//! The store: reachable, readable, writable; and whether the embedded one is in a good place.

use std::iter;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::files::{file_unwritable, is_ephemeral, mode, nearest, quoted, unwritable};
use super::{Finding, LIMIT};
use crate::clock::Clock;
use crate::commands::rollout::check_probe;
use crate::commands::session::seal_key;
use crate::commands::{Exit, Failure};
use crate::core::rollout::course::{Fleet, Rollout};
use crate::core::world::policy::RecreateOrder;
use crate::core::world::time::{Timestamp, in_words};
use crate::paths::{folder_of, is_there};
use crate::settings::{Settings, SettingsError, StoreSetting};
use crate::store::probe::{Examined, probe};
use crate::store::redis::{RedisStore, Risks};
use crate::store::sealed::SealedStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{StoreError, StoreRead as _, StoreWrite, records};

const STORE: &str = "store";
const FILE: &str = "state-file";
const ROLLOUT: &str = "rollout";
const SEAL: &str = "store-key";

/// If the last step of a rollout is older, no schedule calls it.
const SILENT: Duration = Duration::from_secs(1800);

/// An attempt without an answer ends with its own error before [`LIMIT`] cuts it off.
const PATIENCE: Duration = Duration::from_secs(2);

/// All permissions of everyone but the owner.
const OTHERS: u32 = 0o077;

/// Whether what is stored to create instances again can be read by anyone who reads the store: `open` configurations lie open.
fn legible(settings: &Settings, open: usize) -> Option<Finding> {
    let stores = match &settings.ec2 {
        Some(ec2) => ec2.keeps_user_data,
        None => settings.policy.recreate_order == RecreateOrder::DeleteFirst,
    };
    let what = if settings.ec2.is_some() { "user data of instances" } else { "the environment of instances" };
    Some(match (&settings.store_key, open) {
        (Some(_), 0) => Finding::ok(SEAL, "configurations of instances are sealed"),
        (Some(_), open) => {
            let detail = format!("records that still lie open: {open}, with {what}");
            Finding::warning(SEAL, detail, "each is sealed once its instance changes or is replaced")
        }
        (None, 0) if !stores => return None,
        (None, _) => {
            let detail = format!("{what} lies open in the store while it is needed to create them again");
            Finding::warning(SEAL, detail, "set RESPOT_STORE_KEY to the output of: openssl rand -base64 32")
        }
    })
}

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    match &settings.store {
        StoreSetting::Redis { url, prefix } => server(url.expose_secret(), prefix, settings).await,
        StoreSetting::Sqlite(path) => match is_there(path) {
            Ok(false) => future_file(path).into_iter().chain(legible(settings, 0)).collect(),
            Ok(true) | Err(_) => {
                let tried = async {
                    let store = SqliteStore::open(path, Clock::system())?;
                    try_out(&SealedStore::new(store, seal_key(settings)), settings).await
                };
                let tried = tried.await;
                let found = tried.unwrap_or_else(|error| vec![broken(error, Some(path))]);
                let is_folder = path.metadata().is_ok_and(|it| it.is_dir());
                found.into_iter().chain(if is_folder { Vec::new() } else { file(path) }).collect()
            }
        },
    }
}

async fn server(url: &str, prefix: &str, settings: &Settings) -> Vec<Finding> {
    let tried = async {
        let store = RedisStore::connect_with(url, prefix, PATIENCE).await?;
        let risks = store.risks().await;
        Ok((try_out(&SealedStore::new(store, seal_key(settings)), settings).await?, risks))
    };
    match timeout(LIMIT, tried).await {
        Ok(Ok((found, Ok(Risks { eviction, is_volatile })))) => {
            let warnings = eviction.map(|policy| evicts(&policy)).into_iter().chain(is_volatile.then(forgets));
            found.into_iter().chain(warnings).collect()
        }
        Ok(Ok((mut found, Err(error)))) => {
            let Failure { message, hint, .. } = error.into();
            let detail = format!("whether it evicts keys and saves to disk is not known: {message}");
            found.push(Finding::warning(STORE, detail, hint.unwrap_or_default()));
            found
        }
        Ok(Err(error)) => vec![broken(error, None)],
        Err(_) => {
            let detail = format!("the server answers, but not within {} s", LIMIT.as_secs());
            vec![Finding::failed(STORE, Exit::Store, detail, "check the load of the server and of the network")]
        }
    }
}

/// What is dropped is forgotten: an instance would be migrated again within its cooldown.
fn evicts(policy: &str) -> Finding {
    let detail = format!("the server drops keys when its memory is full (maxmemory-policy {policy})");
    Finding::warning(STORE, detail, "set maxmemory-policy noeviction, or use a Redis for respot alone")
}

fn forgets() -> Finding {
    let detail = "the server keeps nothing on disk: a restart forgets cooldowns and open recreations";
    Finding::warning(STORE, detail, "set appendonly yes, or save 60 1, on the server")
}

async fn try_out<S: StoreWrite>(store: &SealedStore<S>, settings: &Settings) -> Result<Vec<Finding>, StoreError> {
    let now = settings.now.unwrap_or_else(|| Clock::system().now());
    let Examined { round_trip, at_work, unreadable } = probe(store, now).await?;
    if let Some(error) = unreadable {
        let Failure { message, hint, .. } = error.into();
        let detail = format!("passes work, but status or rollout does not: {message}");
        return Ok(vec![Finding::warning(STORE, detail, hint.unwrap_or_default()).took(round_trip)]);
    }
    let at_work = at_work.map_or_else(String::new, |job| format!("; a pass is running: {job}"));
    let found = Finding::ok(STORE, format!("{} is readable and writable{at_work}", store.label())).took(round_trip);
    let rollout = match records::rollout(store, now).await?.0 {
        Some(fleet) if fleet.rollout.state.end().is_none() => {
            let steps = records::rollout_steps(store).await?;
            Some(rollout(&fleet, steps.first().map(|step| step.execution.started_at), settings, now))
        }
        _ => None,
    };
    let legible = legible(settings, store.legible().await?);
    let damaged = records::damaged_launches(store).await?.into_iter().map(|id| {
        let fix = "change a tag of the instance while it runs: the next pass records it again";
        Finding::warning(STORE, format!("what was recorded of {id} is damaged: it could not be launched again"), fix)
    });
    Ok(iter::once(found).chain(damaged).chain(legible).chain(rollout).collect())
}

/// Whether the open rollout goes on by itself.
fn rollout(fleet: &Fleet, last_step: Option<Timestamp>, settings: &Settings, now: Timestamp) -> Finding {
    let Rollout { state, paused_at, begun_at, .. } = &fleet.rollout;
    let name = state.as_str().replace('_', " ");
    if paused_at.is_some() {
        return Finding::warning(ROLLOUT, format!("it is paused while {name}"), "respot rollout resume");
    }
    if let Err(SettingsError { message, hint }) = check_probe(settings.terms.probe.as_ref(), &fleet.rollout) {
        return Finding::warning(ROLLOUT, format!("each step fails: {message}"), hint.unwrap_or_default());
    }
    if let Some(overdue) = fleet.overdue(now) {
        return Finding::warning(ROLLOUT, format!("{name}: {overdue}"), "respot rollout status -o json shows why");
    }
    let silent = now.since(last_step.unwrap_or(*begun_at));
    if silent > SILENT {
        let detail = format!("{name}, and its last step was {} ago", in_words(silent));
        return Finding::warning(ROLLOUT, detail, "schedule respot rollout --yes every 5 minutes, see deploy/crontab");
    }
    Finding::ok(ROLLOUT, format!("{name}; next: {}", fleet.next(now)))
}

fn broken(error: StoreError, path: Option<&Path>) -> Finding {
    let path = path.filter(|_| matches!(error, StoreError::Refused { .. }));
    let not_permitted = path.and_then(|path| file_unwritable(path).or_else(|| unwritable(folder_of(path))));
    let Failure { exit, message, hint, .. } = error.into();
    Finding::failed(STORE, exit, message, not_permitted.map(|(_, fix)| fix).or(hint).unwrap_or_default())
}

/// The embedded store exists: is it private, and will it stay?
fn file(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(metadata) = path.metadata()
        && mode(&metadata) & OTHERS != 0
    {
        let detail = format!("{} is accessible to other users (mode {:04o})", path.display(), mode(&metadata));
        findings.push(Finding::warning(FILE, detail, format!("chmod 600 {}", quoted(path))));
    }
    let folder = folder_of(path);
    if let Ok(metadata) = folder.metadata()
        && mode(&metadata) & 0o1002 == 0o0002
    {
        let detail = format!("everyone can replace files in {} (mode {:04o})", folder.display(), mode(&metadata));
        findings.push(Finding::warning(FILE, detail, format!("chmod o-w {}", quoted(folder))));
    }
    findings.extend(ephemeral(path, folder));
    if findings.is_empty() {
        findings.push(Finding::ok(FILE, "only accessible to its owner"));
    }
    findings
}

/// The first pass creates it; doctor leaves nothing behind.
fn future_file(path: &Path) -> Vec<Finding> {
    let folder = folder_of(path);
    let place = nearest(folder);
    let file = match unwritable(place) {
        Some((detail, fix)) => {
            Finding::failed(STORE, Exit::Store, format!("cannot create {}: {detail}", path.display()), fix)
        }
        None => Finding::ok(STORE, format!("{} will be created by the first pass", path.display())),
    };
    iter::once(file).chain(ephemeral(place, folder)).collect()
}

fn ephemeral(existing: &Path, folder: &Path) -> Option<Finding> {
    is_ephemeral(existing).then(|| {
        let detail = format!("{} is in the container's writable layer and is lost with it", folder.display());
        let fix = format!("mount a volume at {}, or set REDIS_URL", quoted(folder));
        Finding::warning(FILE, detail, fix)
    })
}
