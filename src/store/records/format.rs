//! How a record is written and read: JSON with its format version.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::world::instance::InstanceId;
use crate::store::{Answer, StoreError, StoreRead};

/// The format this version writes.
const FORMAT: u64 = 1;

#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u64,
    #[serde(flatten)]
    record: &'a T,
}

pub(super) fn encode<T: Serialize>(record: &T) -> String {
    #[expect(clippy::expect_used, reason = "records are plain structs with string keys, which always serialise")]
    serde_json::to_string(&Versioned { v: FORMAT, record }).expect("records serialise")
}

pub(super) fn decode<T: DeserializeOwned, S: StoreRead>(store: &S, record: &str, text: &str) -> Result<T, StoreError> {
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

pub(super) fn decode_leniently<T: DeserializeOwned, S: StoreRead>(
    store: &S,
    record: &str,
    text: &str,
) -> Result<T, StoreError> {
    // serde's words may quote what is stored, which may be anything.
    serde_json::from_str(text)
        .map_err(|error| unreadable(store, format!("the record {record} is damaged near column {}", error.column())))
}

/// The records of a map by the instance they are about.
pub(super) fn records<T: DeserializeOwned, S: StoreRead, C: FromIterator<(InstanceId, T)>>(
    store: &S,
    map: &str,
    answer: Option<Answer>,
) -> Result<C, StoreError> {
    let entries = entries(store, map, answer)?;
    Ok(entries.into_iter().map(|(field, record)| (InstanceId::new(&field), record)).collect())
}

pub(super) fn record_of(map: &str, field: &str) -> String {
    format!("{map}[{field}]")
}

pub(super) fn entries<T: DeserializeOwned, S: StoreRead>(
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
pub(super) struct Sorted<T> {
    pub(super) intact: Vec<(String, T)>,
    pub(super) damaged: Vec<String>,
    /// Why there may be more that this version must not touch.
    pub(super) newer: Option<StoreError>,
}

pub(super) fn sorted<T: DeserializeOwned, S: StoreRead>(
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

pub(super) fn all<S: StoreRead>(store: &S, answer: Option<Answer>) -> Result<Vec<(String, String)>, StoreError> {
    match answer {
        Some(Answer::Map(entries)) => Ok(entries),
        other => Err(mismatch(store, &other)),
    }
}

pub(super) fn values<S: StoreRead>(store: &S, answer: Option<Answer>) -> Result<Vec<Option<String>>, StoreError> {
    match answer {
        Some(Answer::Values(values)) => Ok(values),
        other => Err(mismatch(store, &other)),
    }
}

pub(super) fn fields<S: StoreRead>(store: &S, answer: Option<Answer>) -> Result<Vec<String>, StoreError> {
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
