//! What is kept of downtime. No decision rests on it: a damaged record is passed over and overwritten.

use std::collections::HashMap;

use super::super::{Answer, Query, StoreError, StoreRead, Write};
use super::{
    DAYS_KEPT, Decoder, DowntimeChange, INSTANCE_DAYS_KEPT, InstanceDays, SPELLS_KEPT, Sorted, encode, entry, keys,
    record_of,
};
use crate::core::pass::spell::{DaySums, Days, Spell};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;

pub(super) fn writes(change: DowntimeChange) -> Vec<Write> {
    let put = |map: &str, field: String, value: String, keep: usize| {
        vec![Write::MapSet { map: map.into(), field, value }, Write::MapTrim { map: map.into(), keep }]
    };
    match change {
        DowntimeChange::Open(id, spell) => vec![entry(keys::SPELLS, &id, spell.as_ref())],
        DowntimeChange::Ended(spell) => {
            // Sorts by time.
            let at = spell.ended_at.unwrap_or_default();
            let id = spell.ids.first().map_or("", InstanceId::as_str);
            put(keys::DOWNTIME, format!("{at} {id}"), encode(&spell), SPELLS_KEPT)
        }
        // The sums of all time sort behind every day.
        DowntimeChange::Day(day, sums) => put(keys::DOWNTIME_DAYS, day, encode(&sums), DAYS_KEPT + 1),
        DowntimeChange::Instances(day, ran) => put(keys::INSTANCE_DAYS, day, encode(&ran), INSTANCE_DAYS_KEPT),
    }
}

/// What a pass goes on with.
pub(super) fn known(
    decoder: &Decoder,
    answers: &mut impl Iterator<Item = Answer>,
) -> Result<(HashMap<InstanceId, Spell>, Days), StoreError> {
    let spells: Sorted<Spell> = decoder.sorted(keys::SPELLS, answers.next())?;
    let days: Sorted<DaySums> = decoder.sorted(keys::DOWNTIME_DAYS, answers.next())?;
    spells.newer.or(days.newer).map_or(Ok(()), Err)?;
    let spells = spells.intact.into_iter().map(|(id, spell)| (InstanceId::new(&id), spell)).collect();
    Ok((spells, days.intact.into_iter().collect()))
}

/// What ran so far on these days, by instance.
pub(super) fn ran(decoder: &Decoder, days: Vec<String>, answer: Option<Answer>) -> Result<InstanceDays, StoreError> {
    let mut ran = InstanceDays::new();
    for (day, text) in days.into_iter().zip(decoder.values(answer)?) {
        let Some(text) = text else { continue };
        match decoder.decode(&record_of(keys::INSTANCE_DAYS, &day), &text) {
            Ok(read) => drop(ran.insert(day, read)),
            Err(error @ StoreError::Newer { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(ran)
}

/// Reads what ran on each day, by instance; and the maps of which records cannot be read.
///
/// # Errors
/// Any of the store's.
pub async fn instance_days<S: StoreRead>(store: &S, now: Timestamp) -> Result<(InstanceDays, Vec<String>), StoreError> {
    let answer = store.read(&[Query::Map(keys::INSTANCE_DAYS.into())]).await?.into_iter().next();
    let decoder = Decoder::new(store, now);
    let days = decoder.sorted(keys::INSTANCE_DAYS, answer)?.intact;
    Ok((days.into_iter().collect(), decoder.unread()))
}

type Shown = (Vec<(InstanceId, Spell)>, Vec<Spell>, Days);

/// What is shown, as far as it is understood: the longest down first, what is over oldest first.
pub(super) fn shown(decoder: &Decoder, answers: &mut impl Iterator<Item = Answer>) -> Result<Shown, StoreError> {
    let open: Sorted<Spell> = decoder.sorted(keys::SPELLS, answers.next())?;
    let ended: Sorted<Spell> = decoder.sorted(keys::DOWNTIME, answers.next())?;
    let days: Sorted<DaySums> = decoder.sorted(keys::DOWNTIME_DAYS, answers.next())?;
    let mut open: Vec<_> = open.intact.into_iter().map(|(id, spell)| (InstanceId::new(&id), spell)).collect();
    open.sort_by(|a, b| (a.1.down_at, &a.0).cmp(&(b.1.down_at, &b.0)));
    let mut ended: Vec<Spell> = ended.intact.into_iter().map(|(_, spell)| spell).collect();
    ended.sort_by_key(|spell| spell.ended_at.unwrap_or(Timestamp::default()));
    Ok((open, ended, days.intact.into_iter().collect()))
}
