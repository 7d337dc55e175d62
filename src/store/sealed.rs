//! A store in which what replacements are made of is encrypted: the environment and the user data of instances hold
//! secrets, and a store is readable to more than one program.
//!
//! Only [`Blueprint`](crate::core::recreation::blueprint::Blueprint)s are sealed, each by itself and for its place, with
//! AES-256-GCM; everything else stays legible. What was stored before there was a key is read as it is, and sealed when it
//! is stored again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretSlice};
use serde_json::{Map, Value};

use super::records::keys;
use super::{Acquired, Answer, Lease, Query, StoreError, StoreRead, StoreWrite, Write};
use crate::core::recreation::blueprint::SEALED;

/// The maps with blueprints, and the member that is one.
const SEALED_MAPS: [(&str, &str); 2] = [(keys::RECREATIONS, "kept"), (keys::LAUNCH_RECORDS, "blueprint")];

/// The members of a blueprint that anyone may read.
const LEGIBLE: [&str; 2] = ["billing", "notes"];

/// How many instances are looked at to tell whether their configuration lies open.
const LOOKED_AT: usize = 100;

/// The key that blueprints are sealed with.
#[derive(Debug)]
pub struct SealKey(LessSafeKey);

impl SealKey {
    /// A key of 32 bytes; any other length is no key.
    #[must_use]
    pub fn new(bytes: &SecretSlice<u8>) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, bytes.expose_secret()).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// The nonce, the ciphertext and the tag, in base64.
    fn seal(&self, place: &str, plain: &str) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut text = plain.as_bytes().to_vec();
        let (key, at) = (&self.0, Aad::from(place.as_bytes()));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), at, &mut text).ok()?;
        Some(STANDARD.encode([nonce.as_slice(), &text].concat()))
    }

    /// What was sealed for this place with this key, if it was.
    fn open(&self, place: &str, (nonce, text): (&[u8], &[u8])) -> Option<Map<String, Value>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        serde_json::from_slice(self.0.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text).ok()?).ok()
    }
}

/// A store whose blueprints are sealed if there is a key.
#[derive(Debug)]
pub struct SealedStore<S> {
    store: S,
    key: Option<SealKey>,
    /// Whether what is sealed may stay so: for commands that only show what passes did.
    is_lenient: bool,
}

impl<S: StoreRead> SealedStore<S> {
    /// For passes, and for commands that foretell them: to act on a record, all of it must be legible.
    pub fn new(store: S, key: Option<SealKey>) -> Self {
        Self { store, key, is_lenient: false }
    }

    /// For what only shows what passes did: what cannot be opened stays sealed.
    pub fn showing(store: S, key: Option<SealKey>) -> Self {
        Self { is_lenient: true, ..Self::new(store, key) }
    }

    /// How many configurations lie open, of all recreations and of some instances.
    ///
    /// # Errors
    /// Any of the store's; those of records that cannot be opened.
    pub async fn legible(&self) -> Result<usize, StoreError> {
        let fields = Query::Fields(keys::LAUNCH_RECORDS.into());
        let answers = self.store.read(&[Query::Map(keys::RECREATIONS.into()), fields]).await?;
        let mut texts: Vec<(&str, String)> = Vec::new();
        let mut some: Vec<String> = Vec::new();
        for answer in answers {
            match answer {
                Answer::Map(entries) => texts.extend(entries.into_iter().map(|(_, text)| ("kept", text))),
                Answer::Fields(fields) => some = fields.into_iter().take(LOOKED_AT).collect(),
                Answer::Values(_) => {}
            }
        }
        let query = Query::MapValues { map: keys::LAUNCH_RECORDS.into(), fields: some.clone() };
        if let Some(Answer::Values(values)) = self.store.read(&[query]).await?.pop() {
            for (field, text) in some.iter().zip(values).filter_map(|(field, text)| Some((field, text?))) {
                self.open(keys::LAUNCH_RECORDS, field, text.clone())?;
                texts.push(("blueprint", text));
            }
        }
        let is_open = |(member, text): &&(&str, String)| {
            let record: Value = serde_json::from_str(text).unwrap_or_default();
            record[member].is_object() && record[member].get(SEALED).is_none()
        };
        Ok(texts.iter().filter(is_open).count())
    }

    fn seal(&self, write: &Write) -> Result<Write, StoreError> {
        let (Some(key), Write::MapSet { map, field, value }) = (&self.key, write) else { return Ok(write.clone()) };
        let Some(member) = member_of(map) else { return Ok(write.clone()) };
        let mut record: Map<String, Value> = match serde_json::from_str(value) {
            Ok(Value::Object(record)) if record.get(member).is_some_and(Value::is_object) => record,
            _ => return Ok(write.clone()),
        };
        if let Some(Value::Object(blueprint)) = record.get_mut(member) {
            let (legible, secret): (Map<String, Value>, Map<String, Value>) =
                std::mem::take(blueprint).into_iter().partition(|(name, _)| LEGIBLE.contains(&name.as_str()));
            *blueprint = legible;
            let sealed = key.seal(&place(map, field), &Value::Object(secret).to_string());
            let sealed = sealed
                .ok_or_else(|| self.unreadable("the system has no random numbers to seal a record with".into()))?;
            blueprint.insert(SEALED.into(), sealed.into());
        }
        Ok(Write::MapSet { map: map.clone(), field: field.clone(), value: Value::Object(record).to_string() })
    }

    fn seal_all(&self, writes: &[Write]) -> Result<Vec<Write>, StoreError> {
        writes.iter().map(|write| self.seal(write)).collect()
    }

    /// The text of a record as it was before it was sealed.
    fn open(&self, map: &str, field: &str, text: String) -> Result<String, StoreError> {
        let Some(member) = member_of(map).filter(|_| text.contains(SEALED)) else { return Ok(text) };
        let Ok(Value::Object(mut record)) = serde_json::from_str::<Value>(&text) else { return Ok(text) };
        let Some(Value::Object(blueprint)) = record.get_mut(member) else { return Ok(text) };
        let Some(sealed) = blueprint.get(SEALED) else { return Ok(text) };
        let bytes = sealed.as_str().and_then(|it| STANDARD.decode(it).ok());
        let parts = bytes.as_deref().and_then(|bytes| bytes.split_at_checked(NONCE_LEN));
        let Some(parts) = parts.filter(|(_, text)| text.len() > AES_256_GCM.tag_len()) else {
            let detail = format!("what is sealed in the record {map}[{field}] is damaged");
            return if self.is_lenient { Ok(text) } else { Err(self.unreadable(detail)) };
        };
        let opened = self.key.as_ref().and_then(|key| key.open(&place(map, field), parts));
        let Some(secret) = opened else {
            if self.is_lenient {
                return Ok(text);
            }
            return Err(StoreError::Sealed { record: format!("{map}[{field}]"), has_key: self.key.is_some() });
        };
        blueprint.remove(SEALED);
        blueprint.extend(secret);
        Ok(Value::Object(record).to_string())
    }

    fn unreadable(&self, detail: String) -> StoreError {
        StoreError::Unreadable { store: self.store.label(), detail }
    }

    fn open_answer(&self, query: &Query, answer: Answer) -> Result<Answer, StoreError> {
        Ok(match (query, answer) {
            (Query::Map(map), Answer::Map(entries)) if member_of(map).is_some() => {
                let opened = entries.into_iter().map(|(field, text)| {
                    let text = self.open(map, &field, text)?;
                    Ok((field, text))
                });
                Answer::Map(opened.collect::<Result<_, StoreError>>()?)
            }
            (Query::MapValues { map, fields }, Answer::Values(values)) if member_of(map).is_some() => {
                let opened = fields
                    .iter()
                    .zip(values)
                    .map(|(field, text)| text.map(|text| self.open(map, field, text)).transpose());
                Answer::Values(opened.collect::<Result<_, StoreError>>()?)
            }
            (_, answer) => answer,
        })
    }
}

fn member_of(map: &str) -> Option<&'static str> {
    SEALED_MAPS.iter().find(|(sealed, _)| *sealed == map).map(|(_, member)| *member)
}

/// A record that is moved to another place is not accepted there.
fn place(map: &str, field: &str) -> String {
    format!("{map}/{field}")
}

impl<S: StoreRead> StoreRead for SealedStore<S> {
    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        let answers = self.store.read(queries).await?;
        queries.iter().zip(answers).map(|(query, answer)| self.open_answer(query, answer)).collect()
    }

    fn label(&self) -> String {
        self.store.label()
    }
}

impl<S: StoreWrite> StoreWrite for SealedStore<S> {
    async fn acquire(&self, key: &str, token: &str) -> Result<Acquired, StoreError> {
        self.store.acquire(key, token).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.store.renew(lease).await
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.store.commit(lease, &self.seal_all(writes)?).await
    }

    async fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.store.commit_and_release(lease, &self.seal_all(writes)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::sqlite::SqliteStore;

    fn key(byte: u8) -> Option<SealKey> {
        SealKey::new(&SecretSlice::from(vec![byte; 32]))
    }

    async fn write<S: StoreWrite>(store: &S, map: &str, field: &str, value: &str) {
        let Ok(Acquired::Granted(lease)) = store.acquire("lease", "me").await else { panic!("no lease") };
        let write = Write::MapSet { map: map.into(), field: field.into(), value: value.into() };
        store.commit_and_release(lease, &[write]).await.expect("a commit");
    }

    async fn read<S: StoreRead>(store: &S, map: &str) -> Result<Vec<(String, Value)>, StoreError> {
        match store.read(&[Query::Map(map.into())]).await?.pop() {
            Some(Answer::Map(entries)) => Ok(entries
                .into_iter()
                .map(|(field, text)| (field, serde_json::from_str(&text).expect("JSON")))
                .collect()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn only_who_has_the_key_reads_what_a_replacement_is_made_of() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("state.db");
        let open = || SqliteStore::open(&file, Clock::system()).expect("a store");
        let stored = serde_json::json!({
            "v": 1, "problem": null,
            "blueprint": {"billing": "spot", "notes": ["a note"], "form": {"UserData": "aHVudGVyMg=="}, "kind": "g5.xlarge"},
        });
        let journal = serde_json::json!({
            "v": 1, "step": "pending",
            "kept": {"billing": "spot", "notes": [], "envs": [{"key": "TOKEN", "value": "hunter2"}]},
        });
        let sealed = SealedStore::new(open(), key(1));
        for (map, record) in [(keys::LAUNCH_RECORDS, &stored), (keys::RECREATIONS, &journal)] {
            write(&sealed, map, "i-1", &record.to_string()).await;
            assert_eq!(read(&sealed, map).await, Ok(vec![("i-1".into(), record.clone())]));
            let fields = vec!["i-1".into(), "i-2".into()];
            let query = Query::MapValues { map: map.into(), fields };
            let answers = sealed.read(&[query]).await;
            let Ok([Answer::Values(values)]) = answers.as_deref() else { panic!("{answers:?}") };
            assert!(values[0].as_ref().is_some_and(|text| !text.contains(SEALED)) && values[1].is_none());

            let raw = read(&open(), map).await.expect("entries")[0].1.to_string();
            assert!(!raw.contains("hunter2") && !raw.contains("aHVudGVyMg") && !raw.contains("g5.xlarge"), "{raw}");
            assert!(raw.contains("\"billing\":\"spot\""), "{raw}");

            let record = format!("{map}[i-1]");
            let refused = |has_key| Err(StoreError::Sealed { record: record.clone(), has_key });
            assert_eq!(read(&SealedStore::new(open(), key(2)), map).await, refused(true), "another key");
            assert_eq!(read(&SealedStore::new(open(), None), map).await, refused(false), "no key");
            for other in [None, key(2)] {
                let shown = read(&SealedStore::showing(open(), other), map).await.expect("what is legible");
                assert!(shown[0].1.to_string().contains(SEALED));
            }

            // Moved to another instance it is refused; what is no ciphertext was damaged.
            write(&open(), map, "i-2", &raw).await;
            assert!(matches!(read(&sealed, map).await, Err(StoreError::Sealed { .. })));
            for damaged in [Value::Null, 7.into(), "".into(), "!!!!".into(), "AAAA".into()] {
                let mut record: Value = serde_json::from_str(&raw).expect("JSON");
                let member = if record["kept"].is_object() { "kept" } else { "blueprint" };
                record[member][SEALED] = damaged.clone();
                write(&open(), map, "i-2", &record.to_string()).await;
                let read = read(&sealed, map).await;
                assert!(matches!(read, Err(StoreError::Unreadable { .. })), "{damaged}: {read:?}");
            }
            write(&open(), map, "i-2", &record_without_secrets(&raw)).await;
            assert!(read(&sealed, map).await.is_ok());
        }
        // A file of before, and the way back.
        assert_eq!(sealed.legible().await, Ok(0));
        write(&open(), keys::LAUNCH_RECORDS, "i-1", &stored.to_string()).await;
        assert_eq!(sealed.legible().await, Ok(1));
        assert_eq!(read(&sealed, keys::LAUNCH_RECORDS).await.expect("entries")[0].1, stored);
        write(&SealedStore::new(open(), None), keys::LAUNCH_RECORDS, "i-1", &stored.to_string()).await;
        assert_eq!(read(&open(), keys::LAUNCH_RECORDS).await.expect("entries")[0].1, stored);
        let bytes = std::fs::read(&file).expect("the file");
        let is_there = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!is_there("hunter2"), "nothing of it is left in the file");
    }

    fn record_without_secrets(raw: &str) -> String {
        let Ok(Value::Object(mut record)) = serde_json::from_str::<Value>(raw) else { panic!("{raw}") };
        record.retain(|name, _| name != "kept" && name != "blueprint");
        Value::Object(record).to_string()
    }

    #[test]
    fn a_key_has_32_bytes() {
        for (length, is_key) in [(0, false), (31, false), (32, true), (33, false)] {
            assert_eq!(SealKey::new(&SecretSlice::from(vec![7; length])).is_some(), is_key, "{length}");
        }
    }
}
