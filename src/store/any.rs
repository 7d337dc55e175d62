//! The store that the settings chose.

use super::redis::RedisStore;
use super::sqlite::SqliteStore;
use super::{Acquired, Answer, Lease, Query, StoreError, StoreRead, StoreWrite, Write};

/// One of the two stores.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in the whole program")]
pub enum Store {
    Redis(RedisStore),
    Sqlite(SqliteStore),
}

impl StoreRead for Store {
    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        match self {
            Self::Redis(store) => store.read(queries).await,
            Self::Sqlite(store) => store.read(queries).await,
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Redis(store) => store.label(),
            Self::Sqlite(store) => store.label(),
        }
    }
}

impl StoreWrite for Store {
    async fn acquire(&self, key: &str, token: &str) -> Result<Acquired, StoreError> {
        match self {
            Self::Redis(store) => store.acquire(key, token).await,
            Self::Sqlite(store) => store.acquire(key, token).await,
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.renew(lease).await,
            Self::Sqlite(store) => store.renew(lease).await,
        }
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.commit(lease, writes).await,
            Self::Sqlite(store) => store.commit(lease, writes).await,
        }
    }

    async fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.commit_and_release(lease, writes).await,
            Self::Sqlite(store) => store.commit_and_release(lease, writes).await,
        }
    }
}
