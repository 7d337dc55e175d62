//! A store in memory that can be flushed, rolled back, shaken and lied to. It notes every commit, so that
//! a judge can ask what was recorded when.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use novita_sim::DAWN_MS;
use respot::core::rollout::course::{Member, Rollout};
use respot::store::{Acquired, Answer, LEASE_LIFE, Lease, Query, StoreError, StoreRead, StoreWrite, Write};
use tokio::task::yield_now;
use tokio::time::Instant;

/// What is stored. Times are tokio's, which a simulation pauses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    values: HashMap<String, (String, Option<Instant>)>,
    maps: HashMap<String, HashMap<String, String>>,
}

impl Content {
    fn value(&self, key: &str) -> Option<&String> {
        let (value, until) = self.values.get(key)?;
        until.is_none_or(|until| Instant::now() < until).then_some(value)
    }

    fn apply(&mut self, write: &Write) {
        match write.clone() {
            Write::Set { key, value, life } => {
                self.values.insert(key, (value, life.map(|life| Instant::now() + life)));
            }
            Write::Delete { key } => drop(self.values.remove(&key)),
            Write::MapSet { map, field, value } => drop(self.maps.entry(map).or_default().insert(field, value)),
            Write::MapDelete { map, field } => drop(self.maps.entry(map).or_default().remove(&field)),
            Write::MapTrim { map, keep } => {
                let map = self.maps.entry(map).or_default();
                let mut fields: Vec<String> = map.keys().cloned().collect();
                fields.sort_unstable();
                for field in fields.iter().rev().skip(keep) {
                    map.remove(field);
                }
            }
        }
    }
}

/// An intent to create that was stored: the replacement's name and when, in Unix milliseconds of the world.
pub(crate) type Intent = (String, i64);

/// Something that was stored about a rollout.
#[derive(Clone, Debug)]
pub(crate) enum Noted {
    Rollout(Box<Rollout>),
    Member(Box<Member>),
    /// Another one begins.
    Forgotten,
}

/// How the store behaves.
#[derive(Debug, Default)]
struct Mood {
    /// This share of operations fails, in percent, half of them after their work.
    percent: u8,
    /// Everything fails after so many commits.
    dies_after: Option<usize>,
    /// A broken build: commits that hold an intent to create reach the store one operation late.
    late_intents: bool,
    /// A broken build: a rollout that soaks is read as one whose last gate was passed.
    passes_gates: bool,
    /// A broken build: this is never stored.
    forgets: Option<Forgets>,
}

/// What a broken build keeps in memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgets {
    /// Which bridges there are, and what they cost.
    Bridges,
    /// That a call had no effect.
    Withdrawals,
}

impl Forgets {
    fn is_about(self, write: &Write) -> bool {
        match (self, write) {
            (Self::Bridges, Write::MapSet { map, .. } | Write::MapDelete { map, .. }) => map == "bridges",
            (Self::Withdrawals, Write::Delete { key }) => key.starts_with("migration-times:"),
            _ => false,
        }
    }
}

/// The store. Clones share the content.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    content: Rc<RefCell<Content>>,
    mood: Rc<RefCell<Mood>>,
    chance: Rc<RefCell<fastrand::Rng>>,
    /// The content after each commit.
    pub(crate) versions: Rc<RefCell<Vec<Content>>>,
    /// Whether `versions` is kept.
    pub(crate) keeps_versions: Rc<RefCell<bool>>,
    /// Every intent that was stored.
    pub(crate) intents: Rc<RefCell<Vec<Intent>>>,
    /// Every event that was stored, by its id.
    pub(crate) events: Rc<RefCell<HashMap<String, serde_json::Value>>>,
    /// Everything that was stored about rollouts, with when, in Unix milliseconds of the world.
    pub(crate) rollouts: Rc<RefCell<Vec<(i64, Noted)>>>,
    late: Rc<RefCell<Vec<Write>>>,
    born: Instant,
}

impl Memory {
    /// An empty store.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            content: Rc::default(),
            mood: Rc::default(),
            chance: Rc::new(RefCell::new(fastrand::Rng::with_seed(seed ^ 0xdead))),
            versions: Rc::default(),
            keeps_versions: Rc::default(),
            intents: Rc::default(),
            events: Rc::default(),
            rollouts: Rc::default(),
            late: Rc::default(),
            born: Instant::now(),
        }
    }

    /// From now on this share of operations fails, in percent.
    pub(crate) fn shake(&self, percent: u8) {
        self.mood.borrow_mut().percent = percent;
    }

    /// Everything fails after so many more commits.
    pub(crate) fn die_after(&self, commits: Option<usize>) {
        self.mood.borrow_mut().dies_after = commits;
    }

    /// See `Mood::late_intents`.
    pub(crate) fn delay_intents(&self) {
        self.mood.borrow_mut().late_intents = true;
    }

    /// See `Mood::passes_gates`.
    pub(crate) fn pass_gates(&self) {
        self.mood.borrow_mut().passes_gates = true;
    }

    /// See `Mood::forgets`.
    pub(crate) fn forget(&self, what: Option<Forgets>) {
        self.mood.borrow_mut().forgets = what;
    }

    /// Everything is forgotten.
    pub(crate) fn flush(&self) {
        *self.content.borrow_mut() = Content::default();
    }

    /// The content is this now.
    pub(crate) fn restore(&self, content: Content) {
        *self.content.borrow_mut() = content;
    }

    fn now_ms(&self) -> i64 {
        DAWN_MS + i64::try_from(self.born.elapsed().as_millis()).unwrap()
    }

    fn note(&self, writes: &[Write]) {
        for write in writes {
            if let Some(marker) = intent(write) {
                self.intents.borrow_mut().push((marker, self.now_ms()));
            }
            if let Some(told) = told(write) {
                self.rollouts.borrow_mut().push((self.now_ms(), told));
            }
            if let Write::MapSet { map, field, value } = write
                && map == "outbox"
            {
                let record: serde_json::Value = serde_json::from_str(value).unwrap();
                let body = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
                self.events.borrow_mut().insert(field.clone(), body);
            }
        }
        if *self.keeps_versions.borrow() {
            self.versions.borrow_mut().push(self.content.borrow().clone());
        }
    }

    fn holds(&self, lease: &Lease) -> bool {
        self.content.borrow().value(lease.key()).is_some_and(|holder| holder == lease.token())
    }

    fn write(&self, lease: &Lease, writes: &[Write], release: bool) -> Result<(), StoreError> {
        if !self.holds(lease) {
            return Err(StoreError::LeaseLost);
        }
        if self.mood.borrow().late_intents && writes.iter().any(|write| intent(write).is_some()) {
            self.late.borrow_mut().extend_from_slice(writes);
            return Ok(());
        }
        self.deliver_late();
        let forgets = self.mood.borrow().forgets;
        for write in writes.iter().filter(|write| forgets.is_none_or(|it| !it.is_about(write))) {
            self.content.borrow_mut().apply(write);
        }
        self.note(writes);
        if release {
            self.content.borrow_mut().values.remove(lease.key());
        }
        Ok(())
    }

    fn deliver_late(&self) {
        let late = std::mem::take(&mut *self.late.borrow_mut());
        for write in &late {
            self.content.borrow_mut().apply(write);
        }
        if !late.is_empty() {
            self.note(&late);
        }
    }

    /// Gives a failure and a crash a place to happen on either side of the work.
    async fn around<T>(&self, is_commit: bool, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let down = |detail: &str| StoreError::Unreachable { store: "memory".into(), detail: detail.into() };
        let fails = || self.chance.borrow_mut().u8(0..100) < self.mood.borrow().percent / 2;
        yield_now().await;
        if fails() {
            return Err(down("as told"));
        }
        if let Some(left) = &mut self.mood.borrow_mut().dies_after {
            if *left == 0 {
                return Err(down("for good"));
            }
            *left -= usize::from(is_commit);
        }
        let done = work()?;
        yield_now().await;
        if fails() { Err(down("after its work")) } else { Ok(done) }
    }
}

/// The replacement's name, if this write stores an intent to create.
fn intent(write: &Write) -> Option<String> {
    let Write::MapSet { map, field: _, value } = write else { return None };
    let record: serde_json::Value = serde_json::from_str(value).unwrap();
    (map == "recreations" && record["step"] == "intent").then(|| record["marker"].as_str().unwrap().to_owned())
}

/// What this write says about a rollout, if it does.
fn told(write: &Write) -> Option<Noted> {
    match write {
        Write::Set { key, value, life: _ } if key == "rollout" => {
            Some(Noted::Rollout(serde_json::from_str(value).unwrap()))
        }
        Write::MapSet { map, field: _, value } if map == "rollout-members" => {
            Some(Noted::Member(serde_json::from_str(value).unwrap()))
        }
        Write::MapTrim { map, keep: 0 } if map == "rollout-members" => Some(Noted::Forgotten),
        _ => None,
    }
}

/// A broken build's idea of a rollout that soaks.
fn hastened(text: &str) -> String {
    let mut rollout: serde_json::Value = serde_json::from_str(text).unwrap();
    if rollout["state"]["name"] == "soaking" {
        let since = rollout["state"]["since"].take();
        rollout["state"] = serde_json::json!({"name": "retiring", "since": since, "end": "completed", "why": null});
    }
    rollout.to_string()
}

impl StoreRead for Memory {
    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        self.around(false, || {
            let content = self.content.borrow();
            let map = |name: &String| content.maps.get(name).cloned().unwrap_or_default();
            let answer = |query: &Query| match query {
                Query::Values(keys) if self.mood.borrow().passes_gates && keys.iter().any(|key| key == "rollout") => {
                    Answer::Values(keys.iter().map(|key| content.value(key).map(|text| hastened(text))).collect())
                }
                Query::Values(keys) => Answer::Values(keys.iter().map(|key| content.value(key).cloned()).collect()),
                Query::Map(name) => Answer::Map(map(name).into_iter().collect()),
                Query::Fields(name) => Answer::Fields(map(name).into_keys().collect()),
                Query::MapValues { map: name, fields } => {
                    let map = map(name);
                    Answer::Values(fields.iter().map(|field| map.get(field).cloned()).collect())
                }
            };
            Ok(queries.iter().map(answer).collect())
        })
        .await
    }

    fn label(&self) -> String {
        "memory".into()
    }
}

impl StoreWrite for Memory {
    async fn acquire(&self, key: &str, token: &str) -> Result<Acquired, StoreError> {
        let asked_at = Instant::now();
        self.around(false, || {
            let mut content = self.content.borrow_mut();
            if let Some(holder) = content.value(key).filter(|holder| *holder != token) {
                return Ok(Acquired::HeldBy { token: holder.clone() });
            }
            content.apply(&Write::Set { key: key.into(), value: token.into(), life: Some(LEASE_LIFE) });
            Ok(Acquired::Granted(Lease::granted(key, token, asked_at)))
        })
        .await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        self.around(false, || {
            if !self.holds(lease) {
                return Err(StoreError::LeaseLost);
            }
            let life: Option<Duration> = Some(LEASE_LIFE);
            let renewal = Write::Set { key: lease.key().into(), value: lease.token().into(), life };
            self.content.borrow_mut().apply(&renewal);
            lease.renewed(asked_at);
            Ok(())
        })
        .await
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.around(true, || self.write(lease, writes, false)).await
    }

    async fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.around(true, || self.write(&lease, writes, true)).await
    }
}
