//! Tests whether a store can be read and written, by doing both. Leaves no trace and blocks no pass.

use std::time::Duration;

use tokio::time::Instant;

use super::records::{self, Mode, Selection, keys};
use super::{Acquired, Answer, LEASE_LIFE, Query, StoreError, StoreRead, StoreWrite, Write};
use crate::core::world::time::Timestamp;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// How long one read took, there and back.
    pub round_trip: Duration,
    /// The job id of the pass that holds the lease.
    pub at_work: Option<String>,
    /// Why `status` or `rollout` cannot read what no pass needs.
    pub unreadable: Option<StoreError>,
}

/// Reads what every pass reads first, then makes every call that a pass makes, on names of its own, and reads the result.
///
/// `now` decides which days a pass would read. The names are random, so that neither a pass at work nor a second probe
/// notices. A map is made and removed by one commit. Whatever a probe that was cut short leaves behind lives [`LEASE_LIFE`].
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format.
pub async fn probe<S: StoreWrite>(store: &S, now: Timestamp) -> Result<Examined, StoreError> {
    let begun = Instant::now();
    let at_work = value(store, &Mode::Real.lease_key()).await?;
    let round_trip = begun.elapsed();
    records::opening(store, Mode::Real).await?;
    records::ledger(store, &[], Mode::Real, now).await?;
    // Not read by every pass, but written.
    let written = [keys::WRITES, keys::EXECUTIONS, keys::OUTBOX, keys::DOWNTIME, keys::LAUNCH_RECORDS];
    let written = written.map(|map| Query::Fields(map.into()));
    store.read(&written).await?;
    prove_writable(store).await?;
    let latest = Selection { limit: 1, ..Selection::default() };
    let unreadable = async {
        records::overview(store, &latest, Timestamp::LATEST).await?;
        records::rollout(store, now).await?;
        records::rollout_steps(store).await
    };
    Ok(Examined { round_trip, at_work, unreadable: unreadable.await.err() })
}

async fn prove_writable<S: StoreWrite>(store: &S) -> Result<(), StoreError> {
    let name = format!("{:016x}", fastrand::u64(..));
    let (lease, key) = (format!("{}{name}", keys::DOCTOR_LEASE), format!("{}{name}", keys::DOCTOR_PROBE));
    let lease = match store.acquire(&lease, &name).await? {
        Acquired::Granted(lease) => lease,
        Acquired::HeldBy { .. } => return Err(odd(store, "it reports a holder of a lease that was never requested")),
    };
    let (map, fields) = (format!("{key}:map"), vec![name.clone()]);
    let writes = [
        Write::Set { key: key.clone(), value: name.clone(), life: None },
        Write::Set { key: key.clone(), value: name.clone(), life: Some(LEASE_LIFE) },
        Write::MapSet { map: map.clone(), field: name.clone(), value: name.clone() },
        Write::MapTrim { map: map.clone(), keep: 1 },
        Write::MapDelete { map: map.clone(), field: name.clone() },
    ];
    let trying = async {
        store.renew(&lease).await?;
        store.commit(&lease, &writes).await?;
        store.read(&[Query::Map(map.clone()), Query::Fields(map.clone()), Query::MapValues { map, fields }]).await?;
        value(store, &key).await
    };
    let kept = trying.await;
    // Also after a failure, so that nothing stays.
    let removed = store.commit_and_release(lease, &[Write::Delete { key }]).await;
    if kept? != Some(name) {
        return Err(odd(store, "it does not answer what was just written"));
    }
    removed
}

async fn value<S: StoreRead>(store: &S, key: &str) -> Result<Option<String>, StoreError> {
    match store.read(&[Query::Values(vec![key.to_owned()])]).await?.pop() {
        Some(Answer::Values(mut values)) => Ok(values.pop().flatten()),
        _ => Err(odd(store, "its answer makes no sense")),
    }
}

fn odd<S: StoreRead>(store: &S, detail: &str) -> StoreError {
    StoreError::Unreadable { store: store.label(), detail: detail.to_owned() }
}
