//! What is kept of how often spot instances are taken.

use super::super::{Answer, Query, StoreError, StoreRead};
use super::{Sorted, keys, sorted};
use crate::core::pass::market::{Market, Markets};
use crate::core::world::instance::Place;

/// What was seen of every place, and why there may be more that this version must not touch. A damaged record is one of a
/// place that was seen last when time began, so that the next observation starts it again, or forgets it.
pub(super) fn places<S: StoreRead>(
    store: &S,
    answer: Option<Answer>,
) -> Result<(Markets, Option<StoreError>), StoreError> {
    let Sorted { intact, damaged, newer } = sorted(store, keys::EXPOSURES, answer)?;
    let damaged = damaged.into_iter().map(|field| (field, Market::default()));
    let markets = intact.into_iter().chain(damaged).map(|(field, market)| {
        let (product, cluster) = field.split_once('@').unwrap_or((&field, ""));
        (Place { product: product.into(), cluster: cluster.into() }, market)
    });
    Ok((markets.collect(), newer))
}

/// Reads what was seen of every place, as far as it is understood.
///
/// # Errors
/// Any of the store's.
pub async fn markets<S: StoreRead>(store: &S) -> Result<Markets, StoreError> {
    let answer = store.read(&[Query::Map(keys::EXPOSURES.into())]).await?.into_iter().next();
    Ok(places(store, answer)?.0)
}
