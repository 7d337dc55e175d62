//! What is kept of markets, and of what stands in while none has room.

use super::super::{Answer, Query, StoreError, StoreRead};
use super::{Decoder, Sorted, keys};
use crate::core::pass::bridge::{Bridge, Bridges};
use crate::core::pass::ledger::Observation;
use crate::core::pass::market::{Market, Markets};
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::time::Timestamp;

/// What was seen of every place, and why there may be more that this version must not touch. A damaged record is one of a
/// place that was seen last when time began, so that the next observation starts it again, or forgets it.
pub(super) fn places(decoder: &Decoder, answer: Option<Answer>) -> Result<(Markets, Option<StoreError>), StoreError> {
    let Sorted { intact, damaged, newer } = decoder.sorted(keys::EXPOSURES, answer)?;
    let damaged = damaged.into_iter().map(|field| (field, Market::default()));
    let markets = intact.into_iter().chain(damaged).map(|(field, market)| (Place::of_key(&field), market));
    Ok((markets.collect(), newer))
}

/// What is shown, as far as it is understood: markets, bridges, announced reclaims.
pub(super) fn shown(
    decoder: &Decoder,
    answers: &mut impl Iterator<Item = Answer>,
) -> Result<(Markets, Bridges, Vec<Observation>), StoreError> {
    let (markets, _) = places(decoder, answers.next())?;
    let bridges: Sorted<Bridge> = decoder.sorted(keys::BRIDGES, answers.next())?;
    let notices: Sorted<Observation> = decoder.sorted(keys::OBSERVATIONS, answers.next())?;
    let bridges = bridges.intact.into_iter().map(|(old, bridge)| (InstanceId::new(&old), bridge)).collect();
    Ok((markets, bridges, notices.intact.into_iter().map(|(_, seen)| seen).collect()))
}

/// Reads what was seen of every place, as far as it is understood, and the maps of which records are not, with their number.
///
/// # Errors
/// Any of the store's.
pub async fn markets<S: StoreRead>(store: &S, now: Timestamp) -> Result<(Markets, Vec<String>), StoreError> {
    let answer = store.read(&[Query::Map(keys::EXPOSURES.into())]).await?.into_iter().next();
    let decoder = Decoder::new(store, now);
    let (markets, _) = places(&decoder, answer)?;
    Ok((markets, decoder.unread()))
}
