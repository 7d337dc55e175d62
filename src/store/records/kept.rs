//! What is kept of instances for a provider that forgets them.

use std::collections::HashMap;

use super::super::{Query, StoreError, StoreRead};
use super::format::Sorted;
use super::{Decoder, keys, record_of};
use crate::core::pass::kept::LaunchRecord;
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;

/// Reads what these instances are made of.
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format. One that is damaged says so of its instance, and
/// holds up no other.
pub async fn launch_records<S: StoreRead>(
    store: &S,
    ids: &[InstanceId],
) -> Result<HashMap<InstanceId, LaunchRecord>, StoreError> {
    let fields = ids.iter().map(ToString::to_string).collect();
    let query = Query::MapValues { map: keys::LAUNCH_RECORDS.into(), fields };
    let decoder = Decoder::new(store, Timestamp::LATEST);
    let found = decoder.values(store.read(&[query]).await?.into_iter().next())?;
    let records = ids.iter().zip(found).filter_map(|(id, text)| Some((id, text?)));
    let record = |(id, text): (&InstanceId, String)| match decoder
        .decode(&record_of(keys::LAUNCH_RECORDS, id.as_str()), &text)
    {
        Err(error @ StoreError::Unreadable { .. }) => {
            let problem = Some(format!("what was recorded of it cannot be read: {error}"));
            Ok((id.clone(), LaunchRecord { blueprint: None, problem }))
        }
        record => Ok((id.clone(), record?)),
    };
    records.map(record).collect()
}

/// The instances of which the record of what they are made of is damaged.
///
/// # Errors
/// Any of the store's; [`StoreError::Newer`] for a record of a newer format.
pub async fn damaged_launches<S: StoreRead>(store: &S) -> Result<Vec<String>, StoreError> {
    let answer = store.read(&[Query::Map(keys::LAUNCH_RECORDS.into())]).await?.into_iter().next();
    let Sorted { damaged, newer, intact: _ } =
        Decoder::new(store, Timestamp::LATEST).sorted::<LaunchRecord>(keys::LAUNCH_RECORDS, answer)?;
    newer.map_or(Ok(damaged), Err)
}
