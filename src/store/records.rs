//! What is kept, under which key, in which format. Written once, for every store.
//!
//! Every record but the migration times is JSON with a format version `v`. A pass refuses to work on a record of a
//! newer format, since writing it back would destroy what it does not know.

use std::collections::HashMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Answer, Query, StoreError, StoreRead, Write};
use crate::core::audit::ProviderWrite;
use crate::core::journal::{Recreation, Step};
use crate::core::ledger::{InFlight, Ledger, Observation, Stamp};
use crate::core::model::{InstanceId, Timestamp};
use crate::core::outbox::{EVENTS_KEPT, Outgoing};
use crate::core::summary::{EXECUTIONS_KEPT, Execution, ExecutionStatus, Recorded, Totals};

/// The keys, behind the prefix. Those of a rehearsal are its own, so that it never delays a real pass.
pub(super) mod keys {
    /// Value, 7 days: RFC 3339 time of the last migrate attempt. `migration-times:{instanceId}`.
    pub(super) const MIGRATION_TIMES: &str = "migration-times:";
    /// Map instance -> [`super::InFlight`]: migrate calls whose end was not seen yet.
    pub(super) const IN_FLIGHT: &str = "in-flight";
    /// Map instance -> [`super::Observation`]: reclaims that were announced.
    pub(super) const OBSERVATIONS: &str = "observations";
    /// Map old instance -> [`super::Recreation`]: the journal. Closed ones are forgotten after a day.
    pub(super) const RECREATIONS: &str = "recreations";
    /// Map instance -> [`super::Stall`]: instances that are `migrating` without a job.
    pub(super) const STALLS: &str = "stalls";
    /// Map job id -> [`super::Recorded`]; the newest [`super::EXECUTIONS_KEPT`] are kept.
    pub(super) const EXECUTIONS: &str = "executions";
    /// Map instance -> [`super::ToldFailure`]: failed migrations that were told of.
    pub(super) const TOLD_FAILURES: &str = "told-failures";
    /// Map number -> [`super::ProviderWrite`]: what the pass that is at work, or was killed, wrote to the provider. They
    /// become part of its execution.
    pub(super) const WRITES: &str = "writes";
    /// Map event id -> [`super::Outgoing`]: events that no receiver took yet.
    pub(super) const OUTBOX: &str = "outbox";
    /// Value: the job id of the pass that is at work, or was killed.
    pub(super) const OPEN_EXECUTION: &str = "open-execution";
    /// Value: [`super::Totals`] over all real passes.
    pub(super) const TOTALS: &str = "totals";
    /// Value, 30 s: the job id of the pass that may write.
    pub(super) const LEASE: &str = "lease";
    /// Value, 30 s: what `doctor` writes to prove that it can be written, and the lease it does that under.
    pub(in super::super) const DOCTOR_PROBE: &str = "doctor-probe:";
    pub(in super::super) const DOCTOR_LEASE: &str = "doctor-lease:";
    /// Before the keys of a rehearsal.
    pub(super) const DRY_RUN: &str = "dry-run:";
}

/// The format this version writes.
const FORMAT: u64 = 1;

/// How long a migration time is kept (contract, section 6).
pub const MIGRATION_TIME_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Since when an instance is `migrating` without a job, as far as is known.
#[derive(Serialize, Deserialize)]
struct Stall {
    since: Timestamp,
}

/// The failed migration of an instance that was last told of.
#[derive(Serialize, Deserialize)]
struct ToldFailure {
    failure: String,
}

/// Whether a pass writes to the provider. Decides where its times, its lease and its open execution live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Real,
    /// It only acts as if.
    Rehearsal,
}

impl Mode {
    fn key(self, key: &str) -> String {
        match self {
            Self::Real => key.into(),
            Self::Rehearsal => format!("{}{key}", keys::DRY_RUN),
        }
    }

    /// The key of the lease that a pass of this kind holds.
    #[must_use]
    pub fn lease_key(self) -> String {
        self.key(keys::LEASE)
    }

    fn migration_time(self, id: &InstanceId) -> String {
        self.key(&format!("{}{id}", keys::MIGRATION_TIMES))
    }
}

/// A change to the records.
#[derive(Clone, Debug)]
pub enum Change {
    /// A pass begins: its execution is stored, still running.
    Open(Execution),
    /// A pass ended, and with it its actions are stored. The pass that is open stays marked as such.
    Record(Recorded),
    /// No pass is open any more.
    CloseOpen,
    /// The totals are now these.
    SetTotals(Totals),
    /// A migrate call is about to be made.
    Attempt {
        /// The instance.
        id: InstanceId,
        /// Now.
        at: Timestamp,
    },
    /// The call had no effect: the time before it counts again.
    Withdraw {
        /// The instance.
        id: InstanceId,
        /// The attempt before, if there was one.
        previous: Option<Timestamp>,
    },
    /// The end of a call is to be looked for.
    Follow(InstanceId, InFlight),
    /// The end of a call was seen.
    Unfollow(InstanceId),
    /// A reclaim notice to remember, or to forget.
    Observe(InstanceId, Option<Observation>),
    /// A recreation is at this step now; or is forgotten.
    Journal(InstanceId, Option<Recreation>),
    /// An instance is `migrating` without a job since then; or not any more.
    Stall(InstanceId, Option<Timestamp>),
    /// This failed migration of the instance was told of; or its instance is gone.
    Told(InstanceId, Option<String>),
    /// A write to the provider is about to be sent, or was; the pass counts them from 0.
    Write(usize, ProviderWrite),
    /// The writes of the open pass are part of its record now.
    ForgetWrites,
    /// An event waits for its receiver.
    Send(Outgoing),
    /// The receiver took it, or it is given up.
    Sent {
        /// The event.
        id: String,
    },
}

/// Translates changes into writes. `now` is the clock of records; lives count from the store's own clock.
#[must_use]
pub fn writes(changes: Vec<Change>, mode: Mode, now: Timestamp) -> Vec<Write> {
    changes.into_iter().flat_map(|change| translate(change, mode, now)).collect()
}

fn translate(change: Change, mode: Mode, now: Timestamp) -> Vec<Write> {
    let execution = |recorded: &Recorded| Write::MapSet {
        map: keys::EXECUTIONS.into(),
        field: recorded.execution.job_id.clone(),
        value: encode(recorded),
    };
    match change {
        Change::Open(opened) => {
            let job_id = opened.job_id.clone();
            vec![
                execution(&Recorded::of(opened)),
                Write::MapTrim { map: keys::EXECUTIONS.into(), keep: EXECUTIONS_KEPT },
                Write::MapTrim { map: keys::OUTBOX.into(), keep: EVENTS_KEPT },
                Write::Set { key: mode.key(keys::OPEN_EXECUTION), value: job_id, life: None },
            ]
        }
        Change::Record(recorded) => vec![execution(&recorded)],
        Change::CloseOpen => vec![Write::Delete { key: mode.key(keys::OPEN_EXECUTION) }],
        Change::SetTotals(totals) => {
            vec![Write::Set { key: keys::TOTALS.into(), value: encode(&totals), life: None }]
        }
        Change::Attempt { id, at } => vec![migration_time(mode, &id, at, MIGRATION_TIME_LIFE)],
        Change::Withdraw { id, previous } => {
            let left = previous.map(|at| (at, MIGRATION_TIME_LIFE.saturating_sub(now.since(at))));
            vec![match left {
                Some((at, life)) if !life.is_zero() => migration_time(mode, &id, at, life),
                _ => Write::Delete { key: mode.migration_time(&id) },
            }]
        }
        Change::Follow(id, call) => vec![entry(keys::IN_FLIGHT, &id, Some(&call))],
        Change::Unfollow(id) => vec![entry::<InFlight>(keys::IN_FLIGHT, &id, None)],
        Change::Observe(id, seen) => vec![entry(keys::OBSERVATIONS, &id, seen.as_ref())],
        Change::Journal(id, recreation) => vec![entry(keys::RECREATIONS, &id, recreation.as_ref())],
        Change::Stall(id, since) => {
            vec![entry(keys::STALLS, &id, since.map(|since| Stall { since }).as_ref())]
        }
        Change::Told(id, failure) => {
            vec![entry(keys::TOLD_FAILURES, &id, failure.map(|failure| ToldFailure { failure }).as_ref())]
        }
        Change::Write(number, write) => {
            vec![Write::MapSet { map: keys::WRITES.into(), field: format!("{number:06}"), value: encode(&write) }]
        }
        Change::ForgetWrites => vec![Write::MapTrim { map: keys::WRITES.into(), keep: 0 }],
        Change::Send(outgoing) => {
            vec![Write::MapSet { map: keys::OUTBOX.into(), field: outgoing.id.clone(), value: encode(&outgoing) }]
        }
        Change::Sent { id } => vec![Write::MapDelete { map: keys::OUTBOX.into(), field: id }],
    }
}

/// The entry of an instance in a map: stored, or removed.
fn entry<T: Serialize>(map: &str, id: &InstanceId, record: Option<&T>) -> Write {
    let (map, field) = (map.to_owned(), id.to_string());
    match record {
        Some(record) => Write::MapSet { map, field, value: encode(record) },
        None => Write::MapDelete { map, field },
    }
}

fn migration_time(mode: Mode, id: &InstanceId, at: Timestamp, life: Duration) -> Write {
    Write::Set { key: mode.migration_time(id), value: at.to_string(), life: Some(life) }
}

/// Reads what a plan needs to know, in one round trip. `ids` are the instances whose migration time may matter.
///
/// A rehearsal honours the times of real passes as well as its own, whichever is later.
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format.
pub async fn ledger<S: StoreRead>(store: &S, ids: &[&InstanceId], mode: Mode) -> Result<Ledger, StoreError> {
    let times_of = |mode: Mode| Query::Values(ids.iter().map(|id| mode.migration_time(id)).collect());
    let maps = [keys::IN_FLIGHT, keys::OBSERVATIONS, keys::RECREATIONS, keys::STALLS, keys::TOLD_FAILURES];
    let mut queries: Vec<Query> = maps.into_iter().map(|map| Query::Map(map.into())).collect();
    queries.push(times_of(Mode::Real));
    if mode == Mode::Rehearsal {
        queries.push(times_of(Mode::Rehearsal));
    }
    let mut answers = store.read(&queries).await?.into_iter();
    let in_flight = records(store, keys::IN_FLIGHT, answers.next())?;
    let observations = records(store, keys::OBSERVATIONS, answers.next())?;
    let recreations = records(store, keys::RECREATIONS, answers.next())?;
    let stalls: Vec<(InstanceId, Stall)> = records(store, keys::STALLS, answers.next())?;
    let stalls = stalls.into_iter().map(|(id, Stall { since })| (id, since)).collect();
    let told: Sorted<ToldFailure> = sorted(store, keys::TOLD_FAILURES, answers.next())?;
    told.newer.map_or(Ok(()), Err)?;
    // Of a damaged one it is known that something was told. That is no failure of today, which so is told once more.
    let something = told.damaged.into_iter().map(|field| (field, ToldFailure { failure: String::new() }));
    let told = told.intact.into_iter().chain(something);
    let told_failures = told.map(|(id, ToldFailure { failure })| (InstanceId::new(&id), failure)).collect();
    let mut ledger =
        Ledger { in_flight, observations, recreations, stalls, told_failures, last_attempt: HashMap::new() };
    for answer in answers {
        for (id, value) in ids.iter().zip(values(store, Some(answer))?) {
            let Some(value) = value else { continue };
            let stamp = value.parse().map_or(Stamp::Unreadable(value), Stamp::At);
            let later = match (ledger.last_attempt.get(*id), &stamp) {
                (Some(Stamp::At(known)), Stamp::At(new)) => new > known,
                (Some(Stamp::Unreadable(_)), _) => false,
                (Some(Stamp::At(_)), Stamp::Unreadable(_)) | (None, _) => true,
            };
            if later {
                ledger.last_attempt.insert((*id).clone(), stamp);
            }
        }
    }
    Ok(ledger)
}

/// What a pass finds when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Totals over all real passes.
    pub totals: Totals,
    /// A pass of the same kind that never closed. Since the lease is ours, it is not at work any more.
    pub unclosed: Option<Recorded>,
    /// The calls it began, if it was a real one.
    pub its_calls: Vec<(InstanceId, InFlight)>,
    /// The recreations it last wrote, if it was a real one.
    pub its_recreations: Vec<(InstanceId, Recreation)>,
    /// What it wrote to the provider, if it was a real one.
    pub its_writes: Vec<ProviderWrite>,
    /// Records of that which nobody can read.
    pub damaged: Vec<String>,
}

/// Reads what a pass needs to begin.
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format.
pub async fn opening<S: StoreRead>(store: &S, mode: Mode) -> Result<Opening, StoreError> {
    let queries = [Query::Values(vec![keys::TOTALS.into(), mode.key(keys::OPEN_EXECUTION)])];
    let mut found = values(store, store.read(&queries).await?.into_iter().next())?.into_iter();
    let totals = match found.next().flatten() {
        Some(text) => decode(store, keys::TOTALS, &text)?,
        None => Totals::default(),
    };
    let Some(job_id) = found.next().flatten() else { return Ok(Opening { totals, ..Opening::default() }) };
    let queries = [
        Query::MapValues { map: keys::EXECUTIONS.into(), fields: vec![job_id.clone()] },
        Query::Map(keys::IN_FLIGHT.into()),
        Query::Map(keys::RECREATIONS.into()),
        Query::Map(keys::WRITES.into()),
    ];
    let mut answers = store.read(&queries).await?.into_iter();
    let unclosed = match values(store, answers.next())?.into_iter().next().flatten() {
        Some(text) => Some(decode::<Recorded, S>(store, keys::EXECUTIONS, &text)?),
        None => None,
    };
    let in_flight: Vec<(InstanceId, InFlight)> = records(store, keys::IN_FLIGHT, answers.next())?;
    let recreations: Vec<(InstanceId, Recreation)> = records(store, keys::RECREATIONS, answers.next())?;
    let mut writes: Sorted<ProviderWrite> = sorted(store, keys::WRITES, answers.next())?;
    writes.newer.map_or(Ok(()), Err)?;
    writes.intact.sort_by(|a, b| a.0.cmp(&b.0));
    let (its_writes, damaged) = match mode {
        Mode::Real => (writes.intact.into_iter().map(|(_, write)| write).collect(), writes.damaged),
        Mode::Rehearsal => (Vec::new(), Vec::new()),
    };
    let damaged = damaged.iter().map(|field| record_of(keys::WRITES, field)).collect();
    let is_its = |pass: &str| pass == job_id && mode == Mode::Real;
    let its_calls = in_flight.into_iter().filter(|(_, call)| is_its(&call.pass)).collect();
    let its_recreations = recreations.into_iter().filter(|(_, recreation)| is_its(&recreation.pass)).collect();
    Ok(Opening { totals, unclosed, its_calls, its_recreations, its_writes, damaged })
}

/// The events that no receiver took yet. Those that a newer version stored are left to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// They themselves, oldest first.
    pub waiting: Vec<Outgoing>,
    /// The ids of those that nobody can read.
    pub damaged: Vec<String>,
}

impl Outbox {
    /// What to call one that is damaged.
    #[must_use]
    pub fn record_of(id: &str) -> String {
        record_of(keys::OUTBOX, id)
    }
}

/// Reads the events that no receiver took yet.
///
/// # Errors
/// Any of the store's.
pub async fn outbox<S: StoreRead>(store: &S) -> Result<Outbox, StoreError> {
    let answer = store.read(&[Query::Map(keys::OUTBOX.into())]).await?.into_iter().next();
    waiting(store, answer)
}

fn waiting<S: StoreRead>(store: &S, answer: Option<Answer>) -> Result<Outbox, StoreError> {
    let Sorted { intact, damaged, newer: _ } = sorted(store, keys::OUTBOX, answer)?;
    // It is struck off by its field, whatever the record says.
    let mut waiting: Vec<Outgoing> = intact.into_iter().map(|(id, event)| Outgoing { id, ..event }).collect();
    waiting.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(Outbox { waiting, damaged })
}

/// What the views show.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// The executions asked for, newest first. One that is open without a lease is shown as interrupted.
    pub executions: Vec<Recorded>,
    /// How many there are, of which `executions` is a part.
    pub total: usize,
    /// Totals over all real passes.
    pub totals: Totals,
    /// Migrate calls whose end was not seen yet.
    pub in_flight: usize,
    /// Recreations that are open, or ended without a successor, by the old instance.
    pub recreations: Vec<(InstanceId, Recreation)>,
    /// Events that no receiver took yet, oldest first.
    pub outbox: Vec<Outgoing>,
}

/// Which executions to read.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// At most this many.
    pub limit: usize,
    /// More than that, if it takes them to have all that began then or later, and the one before.
    pub at_least_since: Option<Timestamp>,
    /// Passing over this many of the newest.
    pub offset: usize,
    /// Only those that began then or later.
    pub since: Option<Timestamp>,
}

/// Reads executions, newest first, and the counts beside them.
///
/// # Errors
/// Any of the store's. Records of newer formats are read as far as they are understood.
pub async fn overview<S: StoreRead>(store: &S, selection: &Selection) -> Result<Overview, StoreError> {
    let leases = vec![keys::TOTALS.into(), Mode::Real.lease_key(), Mode::Rehearsal.lease_key()];
    let queries = [
        Query::Fields(keys::EXECUTIONS.into()),
        Query::Fields(keys::IN_FLIGHT.into()),
        Query::Map(keys::RECREATIONS.into()),
        Query::Map(keys::OUTBOX.into()),
        Query::Values(leases),
    ];
    let mut answers = store.read(&queries).await?.into_iter();
    let mut ids = fields(store, answers.next())?;
    let in_flight = fields(store, answers.next())?.len();
    let mut recreations: Vec<(InstanceId, Recreation)> = records(store, keys::RECREATIONS, answers.next())?;
    recreations.retain(|(_, recreation)| !matches!(recreation.step, Step::Closed { .. }));
    recreations.sort_by(|a, b| (a.1.opened_at, &a.0).cmp(&(b.1.opened_at, &b.0)));
    let outbox = waiting(store, answers.next())?.waiting;
    let mut found = values(store, answers.next())?.into_iter();
    let totals = match found.next().flatten() {
        Some(text) => decode_leniently(store, keys::TOTALS, &text)?,
        None => Totals::default(),
    };
    let holders: Vec<String> = found.flatten().collect();

    // Ids sort by time, so the newest page can be chosen before anything is read.
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let Selection { limit, at_least_since, offset, since } = selection;
    let young = at_least_since.map_or(0, |since| 1 + ids.iter().take_while(|id| began_since(id, since)).count());
    let limit = &(*limit).max(young);
    let wanted = if since.is_some() { ids.clone() } else { ids.iter().skip(*offset).take(*limit).cloned().collect() };
    let mut executions = Vec::with_capacity(wanted.len());
    if !wanted.is_empty() {
        let queries = [Query::MapValues { map: keys::EXECUTIONS.into(), fields: wanted }];
        let texts = values(store, store.read(&queries).await?.into_iter().next())?;
        for text in texts.into_iter().flatten() {
            executions.push(decode_leniently::<Recorded, S>(store, keys::EXECUTIONS, &text)?);
        }
    }
    let mut total = ids.len();
    if let Some(since) = since {
        executions.retain(|it| it.execution.started_at >= *since);
        total = executions.len();
        executions = executions.into_iter().skip(*offset).take(*limit).collect();
    }
    for Recorded { execution, .. } in &mut executions {
        if execution.status == ExecutionStatus::Running && !holders.contains(&execution.job_id) {
            execution.status = ExecutionStatus::Interrupted;
        }
    }
    Ok(Overview { executions, total, totals, in_flight, recreations, outbox })
}

/// Whether the id of an execution, which begins with a time, says that it began then or later.
fn began_since(job_id: &str, since: Timestamp) -> bool {
    let ulid = job_id.rsplit('-').next().and_then(|id| ulid::Ulid::from_string(id).ok());
    ulid.is_none_or(|ulid| i64::try_from(ulid.timestamp_ms()).is_ok_and(|millis| millis >= since.as_millis()))
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u64,
    #[serde(flatten)]
    record: &'a T,
}

fn encode<T: Serialize>(record: &T) -> String {
    #[expect(clippy::expect_used, reason = "records are plain structs with string keys, which always serialise")]
    serde_json::to_string(&Versioned { v: FORMAT, record }).expect("records serialise")
}

fn decode<T: DeserializeOwned, S: StoreRead>(store: &S, record: &str, text: &str) -> Result<T, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    match serde_json::from_str(text) {
        Ok(Version { v: found }) if found > FORMAT => {
            Err(StoreError::Newer { record: record.into(), found, known: FORMAT })
        }
        Ok(Version { .. }) => decode_leniently(store, record, text),
        Err(_) => Err(unreadable(store, format!("the record {record} is not what respot writes there"))),
    }
}

fn decode_leniently<T: DeserializeOwned, S: StoreRead>(store: &S, record: &str, text: &str) -> Result<T, StoreError> {
    // serde's words may quote what is stored, which may be anything.
    serde_json::from_str(text)
        .map_err(|error| unreadable(store, format!("the record {record} is damaged near column {}", error.column())))
}

/// The records of a map by the instance they are about.
fn records<T: DeserializeOwned, S: StoreRead, C: FromIterator<(InstanceId, T)>>(
    store: &S,
    map: &str,
    answer: Option<Answer>,
) -> Result<C, StoreError> {
    let entries = entries(store, map, answer)?;
    Ok(entries.into_iter().map(|(field, record)| (InstanceId::new(&field), record)).collect())
}

fn record_of(map: &str, field: &str) -> String {
    format!("{map}[{field}]")
}

fn entries<T: DeserializeOwned, S: StoreRead>(
    store: &S,
    map: &str,
    answer: Option<Answer>,
) -> Result<Vec<(String, T)>, StoreError> {
    let entries = all(store, answer)?.into_iter().map(|(field, text)| {
        let record = decode(store, &record_of(map, &field), &text)?;
        Ok((field, record))
    });
    entries.collect()
}

/// The entries of a map that no decision rests on: one that is damaged is worth no pass.
struct Sorted<T> {
    intact: Vec<(String, T)>,
    /// Fields.
    damaged: Vec<String>,
    /// Why there may be more that this version must not touch.
    newer: Option<StoreError>,
}

fn sorted<T: DeserializeOwned, S: StoreRead>(
    store: &S,
    map: &str,
    answer: Option<Answer>,
) -> Result<Sorted<T>, StoreError> {
    let mut sorted = Sorted { intact: Vec::new(), damaged: Vec::new(), newer: None };
    for (field, text) in all(store, answer)? {
        match decode(store, &record_of(map, &field), &text) {
            Ok(record) => sorted.intact.push((field, record)),
            Err(error @ StoreError::Newer { .. }) => sorted.newer = Some(error),
            Err(_) => sorted.damaged.push(field),
        }
    }
    Ok(sorted)
}

fn all<S: StoreRead>(store: &S, answer: Option<Answer>) -> Result<Vec<(String, String)>, StoreError> {
    match answer {
        Some(Answer::Map(entries)) => Ok(entries),
        other => Err(mismatch(store, &other)),
    }
}

fn values<S: StoreRead>(store: &S, answer: Option<Answer>) -> Result<Vec<Option<String>>, StoreError> {
    match answer {
        Some(Answer::Values(values)) => Ok(values),
        other => Err(mismatch(store, &other)),
    }
}

fn fields<S: StoreRead>(store: &S, answer: Option<Answer>) -> Result<Vec<String>, StoreError> {
    match answer {
        Some(Answer::Fields(fields)) => Ok(fields),
        other => Err(mismatch(store, &other)),
    }
}

fn mismatch<S: StoreRead>(store: &S, answer: &Option<Answer>) -> StoreError {
    let shape = match answer {
        Some(Answer::Values(_)) => "values",
        Some(Answer::Map(_)) => "a map",
        Some(Answer::Fields(_)) => "fields",
        None => "nothing",
    };
    unreadable(store, format!("it answered with {shape} where something else was asked for"))
}

fn unreadable<S: StoreRead>(store: &S, detail: String) -> StoreError {
    StoreError::Unreadable { store: store.label(), detail }
}
