//! What is kept, under which key, in which format. Written once, for every store.
//!
//! Every record but the migration times is JSON with a format version `v`. A pass refuses to work on a record of a
//! newer format, since writing it back would destroy what it does not know.

mod downtime;
mod format;
mod kept;
mod markets;
mod memory;
mod overview;

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::downtime::instance_days;
use self::format::{Decoder, Sorted, encode, record_of};
pub use self::kept::{damaged_launches, launch_records};
pub use self::markets::markets;
pub use self::memory::Generation;
pub use self::overview::{Overview, Selection, overview};
use super::{Answer, Query, StoreError, StoreRead, Write};
use crate::core::pass::bridge::{Bridge, Bridges};
use crate::core::pass::kept::{Kept, LaunchRecord};
use crate::core::pass::ledger::{InFlight, Ledger, Observation, Stamp};
use crate::core::pass::market::Market;
use crate::core::pass::usage::{INSTANCE_DAYS_KEPT, InstanceDays};
use crate::core::record::downtime::{DAYS_KEPT, DowntimeChange, SPELLS_KEPT, instance_days_at_hand};
use crate::core::record::execution::{EXECUTIONS_KEPT, Execution, Recorded, Totals, is_pass};
use crate::core::record::outbox::{EVENTS_KEPT, Outgoing};
use crate::core::record::trail::ProviderWrite;
use crate::core::recreation::journal::Recreation;
use crate::core::rollout::course::{Fleet, Member, Rollout};
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::time::Timestamp;

/// The keys, behind the prefix. Those of a rehearsal are its own, so that it never delays a real pass.
pub(super) mod keys {
    /// Value, 7 days: RFC 3339 time of the last migrate attempt. `migration-times:{instanceId}`.
    pub(super) const MIGRATION_TIMES: &str = "migration-times:";
    /// Map instance -> [`super::InFlight`]: migrate calls whose end was not seen yet.
    pub(super) const IN_FLIGHT: &str = "in-flight";
    /// Map instance -> [`super::Observation`]: reclaims that were announced.
    pub(super) const OBSERVATIONS: &str = "observations";
    /// Map old instance -> [`super::Recreation`]: the journal. Closed ones are forgotten after a day.
    pub(in super::super) const RECREATIONS: &str = "recreations";
    /// Map instance -> [`super::Kept`]: instances as they were last seen, where the provider forgets what has ended. Dropped
    /// once they are replaced, or were not seen for a week.
    pub(super) const KEPT: &str = "kept";
    /// Map instance -> [`super::LaunchRecord`]: what they are made of.
    pub(in super::super) const LAUNCH_RECORDS: &str = "launch-records";
    /// Map instance -> [`super::Since`]: instances that are `migrating` without a job.
    pub(super) const STALLS: &str = "stalls";
    /// Map instance -> [`super::Since`]: instances that no list has. Forgotten after a day.
    pub(super) const MISSING: &str = "missing";
    /// Map `product@cluster` -> [`super::Market`]: how often spot instances are taken there. At most
    /// 500, none longer than 90 days after it was last seen.
    pub(super) const EXPOSURES: &str = "exposures";
    /// Map instance -> [`super::Bridge`]: on-demand instances that stand in, by what they stand in for.
    pub(super) const BRIDGES: &str = "bridges";
    /// Map instance -> [`super::Spell`]: what is down.
    pub(super) const SPELLS: &str = "spells";
    /// Map time of the end and instance -> [`super::Spell`]: what was down; the newest [`super::SPELLS_KEPT`] are kept.
    pub(in super::super) const DOWNTIME: &str = "downtime";
    /// Map day (UTC) -> sums of what was down and what ran, and those of all time; [`super::DAYS_KEPT`] days are kept.
    pub(super) const DOWNTIME_DAYS: &str = "downtime-days";
    /// Map day (UTC) -> [`crate::core::pass::usage::InstanceDay`]: what ran, by instance; [`super::INSTANCE_DAYS_KEPT`] days are kept.
    pub(super) const INSTANCE_DAYS: &str = "instance-days";
    /// Map job id -> [`super::Recorded`]; the newest [`super::EXECUTIONS_KEPT`] are kept.
    pub(in super::super) const EXECUTIONS: &str = "executions";
    /// Map job id -> [`super::Recorded`]: the steps of rollouts; as many are kept.
    pub(super) const ROLLOUT_STEPS: &str = "rollout-steps";
    /// Value: [`super::Rollout`], the last one.
    pub(super) const ROLLOUT: &str = "rollout";
    /// Map instance -> [`super::Member`]: its members.
    pub(super) const ROLLOUT_MEMBERS: &str = "rollout-members";
    /// Map instance -> [`super::ToldFailure`]: failed migrations that were reported.
    pub(super) const TOLD_FAILURES: &str = "told-failures";
    /// Map number -> [`super::ProviderWrite`]: what the pass that is at work, or was killed, wrote to the provider. They
    /// become part of its execution.
    pub(in super::super) const WRITES: &str = "writes";
    /// Map event id -> [`super::Outgoing`]: events that no receiver took yet.
    pub(in super::super) const OUTBOX: &str = "outbox";
    /// Value: the job id of the pass that is at work, or was killed.
    pub(super) const OPEN_EXECUTION: &str = "open-execution";
    /// Value: [`super::Generation`], which the totals repeat.
    pub(super) const GENERATION: &str = "generation";
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

/// How long a migration time is kept (`docs/reference.md`, Store keys).
pub const MIGRATION_TIME_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Since when something is so, as far as is known.
#[derive(Serialize, Deserialize)]
struct Since {
    since: Timestamp,
}

/// The failed migration of an instance that was reported last.
#[derive(Serialize, Deserialize)]
struct ToldFailure {
    failure: String,
}

/// Whether a pass writes to the provider. Decides where its times, its lease and its open execution live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
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
    SetTotals(Totals),
    /// This memory begins: the totals have the same number.
    SetGeneration(Generation),
    /// A migrate call is about to be made.
    Attempt {
        id: InstanceId,
        at: Timestamp,
    },
    /// The call had no effect: the time before it counts again.
    Withdraw {
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
    /// An instance as it was last seen; or it is forgotten, and what it is made of with it.
    Keep(InstanceId, Option<Kept>),
    /// What an instance is made of.
    Launch(InstanceId, LaunchRecord),
    /// An instance is `migrating` without a job since then; or not any more.
    Stall(InstanceId, Option<Timestamp>),
    /// An instance is in no list since then; or is again, or is forgotten.
    Missing(InstanceId, Option<Timestamp>),
    /// This failed migration of the instance was reported; or the instance is gone.
    Told(InstanceId, Option<String>),
    /// What is known of a market; or it is forgotten.
    Market(Place, Option<Market>),
    /// An on-demand instance stands in for this one, or does not any more; or it is forgotten.
    Bridge(InstanceId, Option<Bridge>),
    Downtime(DowntimeChange),
    /// A write to the provider is about to be sent, or was; the pass counts them from 0.
    Write(usize, ProviderWrite),
    Rollout(Box<Rollout>),
    Member(Box<Member>),
    /// There are no members any more.
    ForgetMembers,
    /// The writes of the open pass are part of its record now.
    ForgetWrites,
    /// An event waits for its receiver.
    Send(Outgoing),
    /// The receiver took it, or it is given up.
    Sent {
        id: String,
    },
    /// A record whose times were ahead of the clock counts from now.
    Redate(Write),
}

/// Translates changes into writes. `now` is the clock of records; lives count from the store's own clock.
#[must_use]
pub fn writes(changes: Vec<Change>, mode: Mode, now: Timestamp) -> Vec<Write> {
    changes.into_iter().flat_map(|change| translate(change, mode, now)).collect()
}

fn translate(change: Change, mode: Mode, now: Timestamp) -> Vec<Write> {
    let execution = |recorded: &Recorded| Write::MapSet {
        map: executions_with(&recorded.execution.job_id).into(),
        field: recorded.execution.job_id.clone(),
        value: encode(recorded),
    };
    match change {
        Change::Open(opened) => {
            let job_id = opened.job_id.clone();
            vec![
                execution(&Recorded::of(opened)),
                Write::MapTrim { map: executions_with(&job_id).into(), keep: EXECUTIONS_KEPT },
                Write::MapTrim { map: keys::OUTBOX.into(), keep: EVENTS_KEPT },
                Write::Set { key: mode.key(keys::OPEN_EXECUTION), value: job_id, life: None },
            ]
        }
        Change::Record(recorded) => vec![execution(&recorded)],
        Change::CloseOpen => vec![Write::Delete { key: mode.key(keys::OPEN_EXECUTION) }],
        Change::SetTotals(totals) => {
            vec![Write::Set { key: keys::TOTALS.into(), value: encode(&totals), life: None }]
        }
        Change::SetGeneration(generation) => {
            vec![Write::Set { key: keys::GENERATION.into(), value: encode(&generation), life: None }]
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
        Change::Keep(id, Some(kept)) => vec![entry(keys::KEPT, &id, Some(&kept))],
        Change::Keep(id, None) => {
            vec![entry::<Kept>(keys::KEPT, &id, None), entry::<LaunchRecord>(keys::LAUNCH_RECORDS, &id, None)]
        }
        Change::Launch(id, record) => vec![entry(keys::LAUNCH_RECORDS, &id, Some(&record))],
        Change::Stall(id, since) => {
            vec![entry(keys::STALLS, &id, since.map(|since| Since { since }).as_ref())]
        }
        Change::Missing(id, since) => {
            vec![entry(keys::MISSING, &id, since.map(|since| Since { since }).as_ref())]
        }
        Change::Bridge(id, bridge) => vec![entry(keys::BRIDGES, &id, bridge.as_ref())],
        Change::Told(id, failure) => {
            vec![entry(keys::TOLD_FAILURES, &id, failure.map(|failure| ToldFailure { failure }).as_ref())]
        }
        Change::Market(place, market) => {
            let (map, field) = (keys::EXPOSURES.to_owned(), place.key());
            vec![match market {
                Some(market) => Write::MapSet { map, field, value: encode(&market) },
                None => Write::MapDelete { map, field },
            }]
        }
        Change::Downtime(change) => downtime::writes(change),
        Change::Write(number, write) => {
            vec![Write::MapSet { map: keys::WRITES.into(), field: format!("{number:06}"), value: encode(&write) }]
        }
        Change::Rollout(rollout) => {
            vec![Write::Set { key: keys::ROLLOUT.into(), value: encode(&rollout), life: None }]
        }
        Change::Member(member) => vec![entry(keys::ROLLOUT_MEMBERS, &member.id, Some(&*member))],
        Change::ForgetMembers => vec![Write::MapTrim { map: keys::ROLLOUT_MEMBERS.into(), keep: 0 }],
        Change::ForgetWrites => vec![Write::MapTrim { map: keys::WRITES.into(), keep: 0 }],
        Change::Send(outgoing) => {
            vec![Write::MapSet { map: keys::OUTBOX.into(), field: outgoing.id.clone(), value: encode(&outgoing) }]
        }
        Change::Sent { id } => vec![Write::MapDelete { map: keys::OUTBOX.into(), field: id }],
        Change::Redate(write) => vec![write],
    }
}

/// The map that has an execution: steps of rollouts are no passes, by which the schedule is judged.
fn executions_with(job_id: &str) -> &'static str {
    if is_pass(job_id) { keys::EXECUTIONS } else { keys::ROLLOUT_STEPS }
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
/// A rehearsal respects the times of real passes as well as its own, whichever is later. The changes write back what had
/// times ahead of `now`.
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format.
pub async fn ledger<S: StoreRead>(
    store: &S,
    ids: &[&InstanceId],
    mode: Mode,
    now: Timestamp,
) -> Result<(Ledger, Vec<Change>), StoreError> {
    let decoder = Decoder::new(store, now);
    let times_of = |mode: Mode| Query::Values(ids.iter().map(|id| mode.migration_time(id)).collect());
    let maps = [
        keys::IN_FLIGHT,
        keys::OBSERVATIONS,
        keys::RECREATIONS,
        keys::STALLS,
        keys::MISSING,
        keys::TOLD_FAILURES,
        keys::EXPOSURES,
        keys::BRIDGES,
        keys::SPELLS,
        keys::DOWNTIME_DAYS,
        keys::KEPT,
    ];
    let mut queries: Vec<Query> = maps.into_iter().map(|map| Query::Map(map.into())).collect();
    let days_at_hand: Vec<String> = instance_days_at_hand(now).collect();
    queries.push(Query::MapValues { map: keys::INSTANCE_DAYS.into(), fields: days_at_hand.clone() });
    queries.push(Query::Values(vec![keys::GENERATION.into()]));
    queries.push(times_of(Mode::Real));
    if mode == Mode::Rehearsal {
        queries.push(times_of(Mode::Rehearsal));
    }
    let mut answers = store.read(&queries).await?.into_iter();
    let in_flight = decoder.records(keys::IN_FLIGHT, answers.next())?;
    let observations = decoder.records(keys::OBSERVATIONS, answers.next())?;
    let recreations = decoder.records(keys::RECREATIONS, answers.next())?;
    let stalls: Vec<(InstanceId, Since)> = decoder.records(keys::STALLS, answers.next())?;
    let stalls = stalls.into_iter().map(|(id, Since { since })| (id, since)).collect();
    let missing: Vec<(InstanceId, Since)> = decoder.records(keys::MISSING, answers.next())?;
    let missing = missing.into_iter().map(|(id, Since { since })| (id, since)).collect();
    let told: Sorted<ToldFailure> = decoder.sorted(keys::TOLD_FAILURES, answers.next())?;
    told.newer.map_or(Ok(()), Err)?;
    // A damaged record says only that some failure was reported: the current one is reported again.
    let something = told.damaged.into_iter().map(|field| (field, ToldFailure { failure: String::new() }));
    let told = told.intact.into_iter().chain(something);
    let told_failures = told.map(|(id, ToldFailure { failure })| (InstanceId::new(&id), failure)).collect();
    let (markets, newer) = markets::places(&decoder, answers.next())?;
    let bridges: Bridges = decoder.records(keys::BRIDGES, answers.next())?;
    newer.map_or(Ok(()), Err)?;
    let (spells, days) = downtime::known(&decoder, &mut answers)?;
    // What is damaged is recorded again while its instance runs.
    let kept: Sorted<Kept> = decoder.sorted(keys::KEPT, answers.next())?;
    kept.newer.map_or(Ok(()), Err)?;
    let kept = kept.intact.into_iter().map(|(id, kept)| (InstanceId::new(&id), kept)).collect();
    let instance_days = downtime::ran(&decoder, days_at_hand, answers.next())?;
    let owner = memory::owner(&decoder, answers.next())?;
    let mut ledger = Ledger {
        owner,
        last_attempt: HashMap::new(),
        in_flight,
        observations,
        recreations,
        stalls,
        missing,
        told_failures,
        markets,
        bridges,
        spells,
        days,
        instance_days,
        kept,
        launch_records: HashMap::new(),
    };
    let modes = [Mode::Real, Mode::Rehearsal];
    for (answer, mode) in answers.zip(modes) {
        for (id, value) in ids.iter().zip(decoder.values(Some(answer))?) {
            let Some(value) = value else { continue };
            let stamp = match value.parse() {
                Ok(at) if at > now => {
                    decoder.redate(migration_time(mode, id, now, MIGRATION_TIME_LIFE));
                    Stamp::At(now)
                }
                Ok(at) => Stamp::At(at),
                Err(_) => Stamp::Unreadable(value),
            };
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
    let mut changes = redated(decoder);
    // A rehearsal leaves what is real alone.
    let is_rehearsed =
        |it: &Change| matches!(it, Change::Redate(Write::Set { key, .. }) if key.starts_with(keys::DRY_RUN));
    changes.retain(|it| mode == Mode::Real || is_rehearsed(it));
    Ok((ledger, changes))
}

fn redated(decoder: Decoder) -> Vec<Change> {
    decoder.redated().into_iter().map(Change::Redate).collect()
}

/// What a pass finds when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Totals over all real passes.
    pub totals: Totals,
    /// What is kept beside them.
    pub generation: Option<Generation>,
    /// A pass of the same kind that was never closed. Because the lease is ours, it is no longer running.
    pub unclosed: Option<Recorded>,
    /// The calls it began, if it was a real one.
    pub its_calls: Vec<(InstanceId, InFlight)>,
    /// The recreations it last wrote, if it was a real one.
    pub its_recreations: Vec<(InstanceId, Recreation)>,
    /// What it wrote to the provider, if it was a real one.
    pub its_writes: Vec<ProviderWrite>,
    /// Records of that which are damaged.
    pub damaged: Vec<String>,
}

/// Reads what a pass needs to start.
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format.
pub async fn opening<S: StoreRead>(store: &S, mode: Mode) -> Result<Opening, StoreError> {
    let decoder = Decoder::new(store, Timestamp::LATEST);
    let texts = vec![keys::TOTALS.into(), keys::GENERATION.into(), mode.key(keys::OPEN_EXECUTION)];
    let queries = [Query::Values(texts)];
    let mut found = decoder.values(store.read(&queries).await?.into_iter().next())?.into_iter();
    let totals = match found.next().flatten() {
        Some(text) => decoder.decode(keys::TOTALS, &text)?,
        None => Totals::default(),
    };
    let generation = match found.next().flatten() {
        Some(text) => Some(decoder.decode::<Generation>(keys::GENERATION, &text)?),
        None => None,
    };
    let Some(job_id) = found.next().flatten() else {
        return Ok(Opening { totals, generation, ..Opening::default() });
    };
    let queries = [
        Query::MapValues { map: executions_with(&job_id).into(), fields: vec![job_id.clone()] },
        Query::Map(keys::IN_FLIGHT.into()),
        Query::Map(keys::RECREATIONS.into()),
        Query::Map(keys::WRITES.into()),
    ];
    let mut answers = store.read(&queries).await?.into_iter();
    let unclosed = match decoder.values(answers.next())?.into_iter().next().flatten() {
        Some(text) => Some(decoder.decode::<Recorded>(keys::EXECUTIONS, &text)?),
        None => None,
    };
    let in_flight: Vec<(InstanceId, InFlight)> = decoder.records(keys::IN_FLIGHT, answers.next())?;
    let recreations: Vec<(InstanceId, Recreation)> = decoder.records(keys::RECREATIONS, answers.next())?;
    let mut writes: Sorted<ProviderWrite> = decoder.sorted(keys::WRITES, answers.next())?;
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
    Ok(Opening { totals, generation, unclosed, its_calls, its_recreations, its_writes, damaged })
}

/// The events that no receiver took yet. Those that a newer version stored are left to it.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// Oldest first.
    pub waiting: Vec<Outgoing>,
    /// The ids of those that are damaged.
    pub damaged: Vec<String>,
    /// Write back those that were dated ahead.
    pub redated: Vec<Change>,
}

impl Outbox {
    /// The name of a damaged event in messages.
    #[must_use]
    pub fn record_of(id: &str) -> String {
        record_of(keys::OUTBOX, id)
    }
}

/// Reads the events that no receiver took yet.
///
/// # Errors
/// Any of the store's.
pub async fn outbox<S: StoreRead>(store: &S, now: Timestamp) -> Result<Outbox, StoreError> {
    let answer = store.read(&[Query::Map(keys::OUTBOX.into())]).await?.into_iter().next();
    let decoder = Decoder::new(store, now);
    let outbox = waiting(&decoder, answer)?;
    Ok(Outbox { redated: redated(decoder), ..outbox })
}

fn waiting(decoder: &Decoder, answer: Option<Answer>) -> Result<Outbox, StoreError> {
    let Sorted { intact, damaged, newer: _ } = decoder.sorted(keys::OUTBOX, answer)?;
    // It is removed by its field, whatever the record says.
    let mut waiting: Vec<Outgoing> = intact.into_iter().map(|(id, event)| Outgoing { id, ..event }).collect();
    waiting.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(Outbox { waiting, damaged, redated: Vec::new() })
}

/// Reads the last rollout, with its members in their order. The changes write back what had times ahead of `now`.
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format.
pub async fn rollout<S: StoreRead>(store: &S, now: Timestamp) -> Result<(Option<Fleet>, Vec<Change>), StoreError> {
    let decoder = Decoder::new(store, now);
    let queries = [Query::Map(keys::ROLLOUT_MEMBERS.into()), Query::Values(vec![keys::ROLLOUT.into()])];
    let mut answers = store.read(&queries).await?.into_iter();
    let members = answers.next();
    let head = decoder.values(answers.next())?.into_iter().next().flatten();
    let fleet = fleet(&decoder, head, members)?;
    Ok((fleet, redated(decoder)))
}

fn fleet(decoder: &Decoder, head: Option<String>, members: Option<Answer>) -> Result<Option<Fleet>, StoreError> {
    let Some(text) = head else { return Ok(None) };
    let rollout: Rollout = decoder.value(keys::ROLLOUT, &text)?;
    let mut members: Vec<Member> =
        decoder.entries(keys::ROLLOUT_MEMBERS, members)?.into_iter().map(|(_, member)| member).collect();
    members.sort_by_key(|member| member.rank);
    // They are written with the rollout, in one commit. Without its record, a successor would be left alone.
    let wanted: usize = rollout.stages.iter().map(|stage| stage.instances).sum();
    if members.len() != wanted && rollout.state.end().is_none() {
        let detail = format!("{}: {} records, and {} has {wanted}", keys::ROLLOUT_MEMBERS, members.len(), rollout.id);
        return Err(decoder.unreadable(detail));
    }
    Ok(Some(Fleet { rollout, members }))
}

/// Reads the journal alone.
///
/// # Errors
/// As [`rollout`].
pub async fn journal<S: StoreRead>(store: &S, now: Timestamp) -> Result<HashMap<InstanceId, Recreation>, StoreError> {
    let answer = store.read(&[Query::Map(keys::RECREATIONS.into())]).await?.into_iter().next();
    Decoder::new(store, now).records(keys::RECREATIONS, answer)
}

/// Reads the steps of rollouts, newest first.
///
/// # Errors
/// Any of the store's.
pub async fn rollout_steps<S: StoreRead>(store: &S) -> Result<Vec<Recorded>, StoreError> {
    let answer = store.read(&[Query::Map(keys::ROLLOUT_STEPS.into())]).await?.into_iter().next();
    let decoder = Decoder::new(store, Timestamp::LATEST);
    let steps = decoder.all(answer)?.into_iter();
    let steps: Result<Vec<Recorded>, _> =
        steps.map(|(_, text)| decoder.decode_leniently(keys::ROLLOUT_STEPS, &text)).collect();
    let mut steps = steps?;
    steps.sort_by(|a, b| b.execution.job_id.cmp(&a.execution.job_id));
    Ok(steps)
}
