//! The memory between passes: what every store must do.
//!
//! A store knows keys, maps and one lease. It does not know what a record means: that is [`records`], written once
//! for both stores. All queries of one read are one round trip; writes are one transaction that the lease fences.
//!
//! * A *value* is one text under a key, with an optional life after which it is gone.
//! * A *map* holds texts under fields. Fields are read in no particular order.
//! * The *lease* is a value that holds the token of the pass that may write.

pub mod any;
pub mod probe;
pub mod records;
pub mod redis;
pub mod sealed;
pub mod sqlite;

use std::time::Duration;

/// How long a lease lives without being renewed. After a crash the next pass can begin within this time.
pub const LEASE_LIFE: Duration = Duration::from_secs(30);

/// How often a working pass renews its lease.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(10);

/// A query to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The values of these keys, in this order: [`Answer::Values`].
    Values(Vec<String>),
    /// A whole map: [`Answer::Map`].
    Map(String),
    /// The fields of a map, without their texts: [`Answer::Fields`].
    Fields(String),
    /// Some texts of a map, in this order: [`Answer::Values`].
    MapValues { map: String, fields: Vec<String> },
}

/// The answer to a [`Query`], of the shape that the query names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One entry per key or field asked for; `None` where nothing is stored or its life is over.
    Values(Vec<Option<String>>),
    Map(Vec<(String, String)>),
    Fields(Vec<String>),
}

/// A change. All of a commit's changes happen, or none does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a value; `life` counts from now, `None` is for ever.
    Set { key: String, value: String, life: Option<Duration> },
    /// Removes a value; one that is not there is no error.
    Delete { key: String },
    /// Stores a text in a map.
    MapSet { map: String, field: String, value: String },
    /// Removes a field of a map; one that is not there is no error.
    MapDelete { map: String, field: String },
    /// Keeps the `keep` greatest fields (by byte order) of a map and removes the others.
    MapTrim { map: String, keep: usize },
}

/// What can go wrong with a store. Every one of these ends a pass with exit code 4.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached, or did not answer in time.
    #[error("cannot reach the store {store}: {detail}")]
    Unreachable {
        /// Which store, without its password.
        store: String,
        detail: String,
    },
    /// It answered with a refusal: wrong password, read-only, out of memory, disk full.
    #[error("the store {store} refused: {detail}")]
    Refused {
        /// Which store, without its password.
        store: String,
        detail: String,
    },
    /// It refused for want of a permission.
    #[error("the store {store} refused: {detail}")]
    NotPermitted {
        /// Which store, without its password.
        store: String,
        detail: String,
        /// How the names of all keys begin.
        prefix: String,
    },
    /// What it holds is not what respot wrote there.
    #[error("the store {store} cannot be read: {detail}")]
    Unreadable {
        /// Which store, without its password.
        store: String,
        /// Which record, and what is wrong with it.
        detail: String,
    },
    /// A newer respot wrote this: it may contain what this version would destroy.
    #[error("the record {record} has format {found}, and this version knows formats up to {known}")]
    Newer {
        record: String,
        found: u64,
        /// The newest format this version writes.
        known: u64,
    },
    /// What a replacement is made of was sealed, and cannot be opened.
    #[error("the record {record} is sealed{}", if *.has_key { " with another RESPOT_STORE_KEY, or damaged" } else { ", and RESPOT_STORE_KEY is not set" })]
    Sealed { record: String, has_key: bool },
    /// It is the memory of passes over another account.
    #[error("the store {store} belongs to {found}, and this is {own}")]
    Foreign {
        /// Which store, without its password.
        store: String,
        /// Whose it is.
        found: String,
        own: String,
    },
    /// The lease is no longer ours: nothing was written.
    #[error("the lease was lost: it expired or was removed, and another pass may be at work")]
    LeaseLost,
}

/// The right to write. Held by one pass at a time for each name; a pass that lost it can no longer write, because the
/// store compares the token on every commit.
#[derive(Debug)]
pub struct Lease {
    key: String,
    token: String,
    /// On the monotonic clock, which goes on while the process is suspended.
    valid_until: std::cell::Cell<tokio::time::Instant>,
}

impl Lease {
    /// For stores: a lease that was asked for at `asked_at` and granted.
    #[must_use]
    pub fn granted(key: &str, token: &str, asked_at: tokio::time::Instant) -> Self {
        Self { key: key.into(), token: token.into(), valid_until: std::cell::Cell::new(asked_at + LEASE_LIFE) }
    }

    /// The key it lives under, behind the prefix.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Who holds it.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// For stores: the lease was renewed by a request sent at `asked_at`.
    pub fn renewed(&self, asked_at: tokio::time::Instant) {
        self.valid_until.set(asked_at + LEASE_LIFE);
    }

    /// Whether it is sure to be ours still, by our own clock. The store has the last word on writes; this is for
    /// calls to the provider, which knows nothing of leases.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        tokio::time::Instant::now() < self.valid_until.get()
    }
}

/// The answer to the request for a lease.
#[derive(Debug)]
pub enum Acquired {
    Granted(Lease),
    HeldBy { token: String },
}

/// Whether a memory is that of passes over this account. Either may not be known.
///
/// # Errors
/// [`StoreError::Foreign`].
pub fn check_owner(store: &impl StoreRead, found: Option<&str>, own: &str) -> Result<(), StoreError> {
    match found {
        Some(found) if found != own && !own.is_empty() => {
            Err(StoreError::Foreign { store: store.label(), found: found.into(), own: own.into() })
        }
        _ => Ok(()),
    }
}

/// Reading. Never changes anything, not even by creating a file.
pub trait StoreRead {
    /// Answers all `queries` in one round trip, each with the shape its variant names. Values whose life is over are
    /// not seen.
    ///
    /// # Errors
    /// Any [`StoreError`] but `LeaseLost`.
    fn read(&self, queries: &[Query]) -> impl Future<Output = Result<Vec<Answer>, StoreError>>;

    /// What to call this store in a message; never holds a password.
    fn label(&self) -> String;
}

/// Writing, which takes the lease.
pub trait StoreWrite: StoreRead {
    /// Requests the lease `key`. Granted if it is free or its lifetime of [`LEASE_LIFE`] is over.
    ///
    /// # Errors
    /// Any [`StoreError`] but `LeaseLost`.
    fn acquire(&self, key: &str, token: &str) -> impl Future<Output = Result<Acquired, StoreError>>;

    /// Gives the lease another [`LEASE_LIFE`].
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when it is not ours any more; any other when the store did not answer.
    fn renew(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>>;

    /// Makes all changes at once, if the lease is still ours. Repeating a commit does no harm, so a store may do so
    /// when a connection breaks.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] and nothing written; or any other, and all or nothing was written.
    fn commit(&self, lease: &Lease, writes: &[Write]) -> impl Future<Output = Result<(), StoreError>>;

    /// Makes the changes and gives the lease back, as one.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> impl Future<Output = Result<(), StoreError>>;
}
