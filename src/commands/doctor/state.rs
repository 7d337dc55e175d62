//! The store: reachable, readable, writable; and whether the file of the embedded one is in a good place.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::files::{file_unwritable, folder_of, is_ephemeral, mode, nearest, quoted, unwritable};
use super::{Finding, LIMIT};
use crate::clock::Clock;
use crate::commands::{Exit, Failure};
use crate::settings::StoreSetting;
use crate::store::probe::{Probe, probe};
use crate::store::redis::RedisStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{StoreError, StoreWrite};

const STORE: &str = "store";
const FILE: &str = "state-file";

/// So that an attempt that gets no answer ends with words of its own before [`LIMIT`] cuts it off.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everybody but the owner.
const OTHERS: u32 = 0o077;

/// What a server says, and how to mend that. The first that is in the error counts.
const REFUSALS: &[(&str, &str)] = &[
    ("READONLY", "REDIS_URL names a replica: name its master (on the server: REPLICAOF NO ONE)"),
    ("NOAUTH", "write the password into REDIS_URL: redis://:PASSWORD@HOST:PORT"),
    ("user and password", "correct user and password in REDIS_URL: redis://USER:PASSWORD@HOST:PORT"),
    ("WRONGPASS", "correct user and password in REDIS_URL: redis://USER:PASSWORD@HOST:PORT"),
    ("NOPERM", "on the server: ACL SETUSER USER ~respot:* +@read +@write +@scripting +ping +select"),
    ("OOM", "on the server: free memory, or CONFIG SET maxmemory to more"),
    ("MISCONF", "on the server: mend its saving to disk; its log says what is wrong"),
    ("disk is full", "free space on the file system of the state file"),
];

pub(super) async fn check(setting: &StoreSetting) -> Vec<Finding> {
    match setting {
        StoreSetting::Redis { url, prefix } => vec![server(url.expose_secret(), prefix).await],
        StoreSetting::Sqlite(path) if path.exists() => {
            let tried = match SqliteStore::open(path, Clock::system()) {
                Ok(store) => try_out(&store).await,
                Err(error) => Err(error),
            };
            let mut findings = vec![tried.unwrap_or_else(|error| broken(error, Some(path)))];
            findings.extend(file(path));
            findings
        }
        StoreSetting::Sqlite(path) => future_file(path),
    }
}

async fn server(url: &str, prefix: &str) -> Finding {
    let tried = async { try_out(&RedisStore::connect_with(url, prefix, PATIENCE).await?).await };
    match timeout(LIMIT, tried).await {
        Ok(tried) => tried.unwrap_or_else(|error| broken(error, None)),
        Err(_) => {
            let detail = format!("it answers, but not within {} s", LIMIT.as_secs());
            Finding::failed(STORE, Exit::Store, detail, "look at the load of the server and of the network")
        }
    }
}

async fn try_out<S: StoreWrite>(store: &S) -> Result<Finding, StoreError> {
    let Probe { round_trip, at_work } = probe(store).await?;
    let at_work = at_work.map_or_else(String::new, |job| format!("; a pass is at work: {job}"));
    Ok(Finding::ok(STORE, format!("{} can be read and written{at_work}", store.label())).took(round_trip))
}

fn broken(error: StoreError, path: Option<&Path>) -> Finding {
    let text = error.to_string();
    let known = REFUSALS.iter().find(|(words, _)| text.contains(words)).map(|(_, mend)| (*mend).to_owned());
    let refused = matches!(error, StoreError::Refused { .. });
    let mend = known.or_else(|| {
        let path = path.filter(|_| refused)?;
        file_unwritable(path).or_else(|| unwritable(folder_of(path))).map(|(_, mend)| mend)
    });
    let Failure { exit, message, hint, .. } = error.into();
    Finding::failed(STORE, exit, message, mend.or(hint).unwrap_or_default())
}

/// The file of the embedded store is there: is it private, and will it stay?
fn file(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(metadata) = path.metadata()
        && mode(&metadata) & OTHERS != 0
    {
        let detail = format!("others have rights to {} (mode {:04o})", path.display(), mode(&metadata));
        findings.push(Finding::warning(FILE, detail, format!("chmod 600 {}", quoted(path))));
    }
    let folder = folder_of(path);
    if let Ok(metadata) = folder.metadata()
        && mode(&metadata) & 0o1002 == 0o0002
    {
        let detail = format!("everybody may replace files in {} (mode {:04o})", folder.display(), mode(&metadata));
        findings.push(Finding::warning(FILE, detail, format!("chmod o-w {}", quoted(folder))));
    }
    findings.extend(ephemeral(path, folder));
    if findings.is_empty() {
        findings.push(Finding::ok(FILE, "private to its owner"));
    }
    findings
}

/// The first pass makes it. Doctor does not: it leaves nothing behind.
fn future_file(path: &Path) -> Vec<Finding> {
    let folder = folder_of(path);
    let place = nearest(folder);
    let file = match unwritable(place) {
        Some((detail, mend)) => {
            Finding::failed(STORE, Exit::Store, format!("{} cannot be made: {detail}", path.display()), mend)
        }
        None => Finding::ok(STORE, format!("{} will be made by the first pass", path.display())),
    };
    std::iter::once(file).chain(ephemeral(place, folder)).collect()
}

fn ephemeral(existing: &Path, folder: &Path) -> Option<Finding> {
    is_ephemeral(existing).then(|| {
        let detail = format!("{} is in the container's own layer and is lost with it", folder.display());
        let mend = format!("mount a volume at {}, or set REDIS_URL", quoted(folder));
        Finding::warning(FILE, detail, mend)
    })
}
