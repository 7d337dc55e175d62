//! How a record is written and read: JSON with its format version.

use std::cell::RefCell;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Write;
use crate::core::world::instance::InstanceId;
use crate::core::world::time::{Timestamp, as_of};
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

pub(super) fn record_of(map: &str, field: &str) -> String {
    format!("{map}[{field}]")
}

/// The entries of a map that no decision rests on: one that is damaged is worth no pass.
pub(super) struct Sorted<T> {
    pub(super) intact: Vec<(String, T)>,
    pub(super) damaged: Vec<String>,
    /// Why there may be more that this version must not touch.
    pub(super) newer: Option<StoreError>,
}

/// Decodes what a store answered. Times ahead of `now` read as `now`.
pub(super) struct Decoder {
    store: String,
    now: Timestamp,
    redated: RefCell<Vec<Write>>,
    /// What was passed over.
    unread: RefCell<Vec<String>>,
}

impl Decoder {
    pub(super) fn new<S: StoreRead>(store: &S, now: Timestamp) -> Self {
        Self { store: store.label(), now, redated: RefCell::default(), unread: RefCell::default() }
    }

    /// What writes back the records of maps that had times ahead of `now`, so that they age from now on.
    pub(super) fn redated(self) -> Vec<Write> {
        self.redated.into_inner()
    }

    /// The maps of which records were passed over, with their number.
    pub(super) fn unread(&self) -> Vec<String> {
        self.unread.borrow().clone()
    }

    /// A value, or an entry of a map.
    pub(super) fn decode<T: DeserializeOwned>(&self, record: &str, text: &str) -> Result<T, StoreError> {
        self.decode_dated(record, text).map(|(found, _)| found)
    }

    fn decode_dated<T: DeserializeOwned>(&self, record: &str, text: &str) -> Result<(T, bool), StoreError> {
        #[derive(Deserialize)]
        struct Version {
            v: u64,
        }
        match serde_json::from_str(text) {
            Ok(Version { v: found }) if found > FORMAT => {
                Err(StoreError::Newer { record: record.into(), found, known: FORMAT })
            }
            Ok(Version { .. }) => self.dated(record, text),
            Err(_) => Err(self.unreadable(format!("the record {record} is not what respot writes there"))),
        }
    }

    /// The same, of a newer format as well, as far as it is understood.
    pub(super) fn decode_leniently<T: DeserializeOwned>(&self, record: &str, text: &str) -> Result<T, StoreError> {
        self.dated(record, text).map(|(found, _)| found).or_else(|_| self.decode(record, text))
    }

    fn dated<T: DeserializeOwned>(&self, record: &str, text: &str) -> Result<(T, bool), StoreError> {
        let (read, is_ahead) = as_of(self.now, || serde_json::from_str(text));
        // serde's words may quote what is stored, which may be anything.
        let damaged = |error: serde_json::Error| {
            self.unreadable(format!("the record {record} is damaged near column {}", error.column()))
        };
        Ok((read.map_err(damaged)?, is_ahead))
    }

    /// The value of a key.
    pub(super) fn value<T: DeserializeOwned + Serialize>(&self, key: &str, text: &str) -> Result<T, StoreError> {
        let (found, is_ahead) = self.decode_dated(key, text)?;
        if is_ahead {
            self.redate(Write::Set { key: key.into(), value: encode(&found), life: None });
        }
        Ok(found)
    }

    fn entry<T: DeserializeOwned + Serialize>(&self, map: &str, field: &str, text: &str) -> Result<T, StoreError> {
        let (found, is_ahead) = self.decode_dated(&record_of(map, field), text)?;
        if is_ahead {
            let value = encode(&found);
            self.redate(Write::MapSet { map: map.into(), field: field.into(), value });
        }
        Ok(found)
    }

    pub(super) fn redate(&self, write: Write) {
        self.redated.borrow_mut().push(write);
    }

    /// The records of a map by the instance they are about.
    pub(super) fn records<T: DeserializeOwned + Serialize, C: FromIterator<(InstanceId, T)>>(
        &self,
        map: &str,
        answer: Option<Answer>,
    ) -> Result<C, StoreError> {
        let entries = self.entries(map, answer)?;
        Ok(entries.into_iter().map(|(field, record)| (InstanceId::new(&field), record)).collect())
    }

    pub(super) fn entries<T: DeserializeOwned + Serialize>(
        &self,
        map: &str,
        answer: Option<Answer>,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let entries = self.all(answer)?.into_iter().map(|(field, text)| {
            let record = self.entry(map, &field, &text)?;
            Ok((field, record))
        });
        entries.collect()
    }

    pub(super) fn sorted<T: DeserializeOwned + Serialize>(
        &self,
        map: &str,
        answer: Option<Answer>,
    ) -> Result<Sorted<T>, StoreError> {
        let mut sorted = Sorted { intact: Vec::new(), damaged: Vec::new(), newer: None };
        let mut unread = 0_usize;
        for (field, text) in self.all(answer)? {
            match self.entry(map, &field, &text) {
                Ok(record) => {
                    sorted.intact.push((field, record));
                    continue;
                }
                Err(error @ StoreError::Newer { .. }) => sorted.newer = Some(error),
                Err(_) => sorted.damaged.push(field),
            }
            unread += 1;
        }
        if unread > 0 {
            self.unread.borrow_mut().push(format!("{map}: {unread}"));
        }
        Ok(sorted)
    }

    pub(super) fn all(&self, answer: Option<Answer>) -> Result<Vec<(String, String)>, StoreError> {
        match answer {
            Some(Answer::Map(entries)) => Ok(entries),
            other => Err(self.mismatch(&other)),
        }
    }

    pub(super) fn values(&self, answer: Option<Answer>) -> Result<Vec<Option<String>>, StoreError> {
        match answer {
            Some(Answer::Values(values)) => Ok(values),
            other => Err(self.mismatch(&other)),
        }
    }

    pub(super) fn fields(&self, answer: Option<Answer>) -> Result<Vec<String>, StoreError> {
        match answer {
            Some(Answer::Fields(fields)) => Ok(fields),
            other => Err(self.mismatch(&other)),
        }
    }

    fn mismatch(&self, answer: &Option<Answer>) -> StoreError {
        let shape = match answer {
            Some(Answer::Values(_)) => "values",
            Some(Answer::Map(_)) => "a map",
            Some(Answer::Fields(_)) => "fields",
            None => "nothing",
        };
        self.unreadable(format!("it answered with {shape} where something else was asked for"))
    }

    pub(super) fn unreadable(&self, detail: String) -> StoreError {
        StoreError::Unreadable { store: self.store.clone(), detail }
    }
}
