//! The embedded store: one SQLite file, private to its owner.
//!
//! It keeps a rollback journal (SQLite's `DELETE` mode) with `synchronous=EXTRA`, not a write-ahead log, because
//! between passes the state must be one plain file:
//!
//! * Reading creates nothing, so that `history` works in a read-only folder and under another user. Reading a
//!   write-ahead log creates `-wal` and `-shm` files, or requires that nothing is written meanwhile.
//! * A log needs memory shared by all who open the file, which a network volume does not give.
//! * A pass makes few commits. The journal costs each a few milliseconds more, which no pass notices beside the calls
//!   that it records. `EXTRA` also syncs the folder, so that no power cut takes back an intent that was acted on.
//!
//! A reader never waits for more than the end of one commit. A writer killed in the middle of one leaves a `-journal`
//! behind, and the next process that opens the file and may write there restores the state before that commit.
//!
//! Calls block the thread, as each takes milliseconds; only two passes that begin at one moment wait for each other.
//! Workers that come to commit at one moment share a transaction: what takes time is its syncs, on some disks tens of
//! milliseconds, and they would queue for them one after the other.

use std::cell::RefCell;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi, params};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::{Acquired, Answer, LEASE_LIFE, LEASE_RENEWAL, Lease, Query, StoreError, StoreRead, StoreWrite, Write};
use crate::clock::Clock;
use crate::core::world::time::Timestamp;
use crate::paths::is_there;

/// Marks a SQLite file as ours: "rspt".
const APPLICATION_ID: i64 = 0x7273_7074;

/// The newest layout of the tables; `PRAGMA user_version` of the file.
const LAYOUT: i64 = 1;

/// How long to wait for the lock of another process.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many values whose life is over are removed by one commit, so that no commit takes long for it.
const SWEEP: i64 = 256;

const SCHEMA: &str = r#"
CREATE TABLE "values" (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, expires_at INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX values_by_end ON "values" (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE maps (map TEXT NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (map, field)) STRICT, WITHOUT ROWID;
"#;

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// None: the file does not exist, or holds nothing yet, and we only read.
    connection: Option<Connection>,
    label: String,
    clock: Clock,
    waiting: RefCell<Vec<Waiting>>,
}

/// A commit that waits for others to join it.
#[derive(Debug)]
struct Waiting {
    token: String,
    writes: Vec<Write>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// What the file that was opened holds.
#[derive(PartialEq)]
enum Contents {
    Respot,
    Nothing,
}

impl SqliteStore {
    /// Opens the file for a pass. Creates it, and the folders above it, when missing; only its owner may read it.
    ///
    /// `clock` decides when the life of a value is over, and the machine's below it when that of the lease is, so it must
    /// show the real time.
    ///
    /// # Errors
    /// `Refused` when it cannot be written, `Unreadable` when it is damaged or not respot's, `Newer` when a newer
    /// respot wrote it, `Unreachable` when another process keeps it locked.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let label = label(path);
        create_private(path).map_err(|error| StoreError::Refused { store: label.clone(), detail: error })?;
        let connection = connect(path).and_then(|connection| {
            let read_only = connection.is_readonly("main")?;
            Ok((connection, read_only))
        });
        let (connection, read_only) = connection.map_err(|error| failure(&label, &error))?;
        if read_only {
            return Err(StoreError::Refused { store: label, detail: "the file is read-only".into() });
        }
        if inspect(&connection, &label)? == Contents::Nothing {
            create_tables(&connection, &label)?;
        }
        Ok(Self { connection: Some(connection), label, clock, waiting: RefCell::default() })
    }

    /// Opens the file for reading. A missing file is an empty store, and stays missing.
    ///
    /// # Errors
    /// `Refused` when it may not be read, and as [`open`](Self::open) otherwise.
    pub fn open_read(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let label = label(path);
        let refused = |error: std::io::Error| StoreError::Refused { store: label.clone(), detail: error.to_string() };
        if !is_there(path).map_err(refused)? {
            return Ok(Self { connection: None, label, clock, waiting: RefCell::default() });
        }
        is_a_file(path).map_err(|detail| StoreError::Refused { store: label.clone(), detail })?;
        // Not opened as read-only: that could not take back what a killed writer left half done. Where writing is not
        // permitted SQLite falls back to reading by itself.
        let connection = connect(path).and_then(|connection| {
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        });
        let connection = connection.map_err(|error| failure(&label, &error))?;
        let connection = match inspect(&connection, &label)? {
            Contents::Respot => Some(connection),
            Contents::Nothing => None,
        };
        Ok(Self { connection, label, clock, waiting: RefCell::default() })
    }

    /// A store that lives as long as this value, for simulation.
    ///
    /// # Errors
    /// `Refused` when there is no memory for it.
    pub fn in_memory(clock: Clock) -> Result<Self, StoreError> {
        let label = "sqlite in memory".to_owned();
        let connection = Connection::open_in_memory().map_err(|error| failure(&label, &error))?;
        create_tables(&connection, &label)?;
        Ok(Self { connection: Some(connection), label, clock, waiting: RefCell::default() })
    }

    fn begin(&self, behavior: TransactionBehavior) -> Result<Option<Transaction<'_>>, StoreError> {
        let Some(connection) = &self.connection else { return Ok(None) };
        Transaction::new_unchecked(connection, behavior).map(Some).map_err(|error| self.failure(&error))
    }

    fn begin_writing(&self) -> Result<Transaction<'_>, StoreError> {
        let refused = || StoreError::Refused { store: self.label.clone(), detail: "it was opened to read".into() };
        self.begin(TransactionBehavior::Immediate)?.ok_or_else(refused)
    }

    fn finish(&self, transaction: Transaction<'_>) -> Result<(), StoreError> {
        transaction.commit().map_err(|error| self.failure(&error))
    }

    fn write(&self, lease: &Lease, writes: &[Write], release: bool) -> Result<(), StoreError> {
        let transaction = self.begin_writing()?;
        let now = self.clock.now();
        self.check(&transaction, lease)?;
        let apply = || {
            for write in writes {
                apply(&transaction, write, now)?;
            }
            if release {
                delete(&transaction, lease.key())?;
            }
            // By a clock that is wrong, everything may be too old; and leases live by the machine's.
            let surely = now.min(self.clock.machine_now());
            if self.clock.is_compared() { sweep(&transaction, surely) } else { Ok(()) }
        };
        apply().map_err(|error| self.failure(&error))?;
        self.finish(transaction)
    }

    /// Whether the lease is ours. One that is over is lost even if no pass took it: another pass may have come and gone.
    fn check(&self, transaction: &Transaction<'_>, lease: &Lease) -> Result<(), StoreError> {
        match self.value(transaction, lease.key(), self.clock.machine_now())? {
            Some(holder) if holder == lease.token() => Ok(()),
            _ => Err(StoreError::LeaseLost),
        }
    }

    fn value(&self, transaction: &Transaction<'_>, key: &str, now: Timestamp) -> Result<Option<String>, StoreError> {
        const SELECT: &str = r#"SELECT value FROM "values" WHERE key = ?1 AND (expires_at IS NULL OR expires_at > ?2)"#;
        let found = transaction.prepare_cached(SELECT).and_then(|mut statement| {
            statement.query_row(params![key, now.as_millis()], |row| Ok(text(row.get_ref(0)?))).optional()
        });
        self.found(found, "values", key)
    }

    fn map_value(&self, transaction: &Transaction<'_>, map: &str, field: &str) -> Result<Option<String>, StoreError> {
        const SELECT: &str = "SELECT value FROM maps WHERE map = ?1 AND field = ?2";
        let found = transaction.prepare_cached(SELECT).and_then(|mut statement| {
            statement.query_row(params![map, field], |row| Ok(text(row.get_ref(0)?))).optional()
        });
        self.found(found, "maps", field)
    }

    fn found(
        &self,
        found: rusqlite::Result<Option<Result<String, String>>>,
        table: &str,
        key: &str,
    ) -> Result<Option<String>, StoreError> {
        let unreadable = |wrong: String| self.unreadable(table, key, &wrong);
        found.map_err(|error| self.failure(&error))?.transpose().map_err(unreadable)
    }

    fn map(&self, transaction: &Transaction<'_>, map: &str) -> Result<Vec<(String, String)>, StoreError> {
        let mut statement = transaction
            .prepare_cached("SELECT field, value FROM maps WHERE map = ?1")
            .map_err(|error| self.failure(&error))?;
        let rows = statement.query_map([map], |row| Ok((text(row.get_ref(0)?), text(row.get_ref(1)?))));
        let mut entries = Vec::new();
        for row in rows.map_err(|error| self.failure(&error))? {
            let (field, value) = row.map_err(|error| self.failure(&error))?;
            let field = field.map_err(|wrong| self.unreadable("maps", map, &wrong))?;
            let value = value.map_err(|wrong| self.unreadable("maps", &field, &wrong))?;
            entries.push((field, value));
        }
        Ok(entries)
    }

    fn fields(&self, transaction: &Transaction<'_>, map: &str) -> Result<Vec<String>, StoreError> {
        let mut statement = transaction
            .prepare_cached("SELECT field FROM maps WHERE map = ?1")
            .map_err(|error| self.failure(&error))?;
        let rows = statement.query_map([map], |row| Ok(text(row.get_ref(0)?)));
        let mut fields = Vec::new();
        for row in rows.map_err(|error| self.failure(&error))? {
            let field = row.map_err(|error| self.failure(&error))?;
            fields.push(field.map_err(|wrong| self.unreadable("maps", map, &wrong))?);
        }
        Ok(fields)
    }

    fn answer(&self, transaction: &Transaction<'_>, query: &Query, now: Timestamp) -> Result<Answer, StoreError> {
        match query {
            Query::Values(keys) => {
                keys.iter().map(|key| self.value(transaction, key, now)).collect::<Result<_, _>>().map(Answer::Values)
            }
            Query::Map(map) => self.map(transaction, map).map(Answer::Map),
            Query::Fields(map) => self.fields(transaction, map).map(Answer::Fields),
            Query::MapValues { map, fields } => fields
                .iter()
                .map(|field| self.map_value(transaction, map, field))
                .collect::<Result<_, _>>()
                .map(Answer::Values),
        }
    }

    fn failure(&self, error: &rusqlite::Error) -> StoreError {
        failure(&self.label, error)
    }

    fn unreadable(&self, table: &str, key: &str, wrong: &str) -> StoreError {
        StoreError::Unreadable { store: self.label.clone(), detail: format!("table {table}, key {key:?}: {wrong}") }
    }
}

impl StoreRead for SqliteStore {
    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        // One transaction: all answers are of one moment.
        let Some(transaction) = self.begin(TransactionBehavior::Deferred)? else {
            return Ok(queries.iter().map(nothing).collect());
        };
        let now = self.clock.now();
        queries.iter().map(|query| self.answer(&transaction, query, now)).collect()
    }

    fn label(&self) -> String {
        self.label.clone()
    }
}

impl StoreWrite for SqliteStore {
    async fn acquire(&self, key: &str, token: &str) -> Result<Acquired, StoreError> {
        // An end further off than any lease lasts was written before the system clock was set back. A little further
        // is forgiven: a correction by a second or two must not let two passes in.
        const HOLDER: &str = r#"SELECT value FROM "values" WHERE key = ?1 AND expires_at > ?2 AND expires_at <= ?3"#;
        let asked_at = Instant::now();
        let transaction = self.begin_writing()?;
        let now = self.clock.machine_now();
        let end = now + LEASE_LIFE;
        let holder = transaction.prepare_cached(HOLDER).and_then(|mut statement| {
            let key = params![key, now.as_millis(), (end + LEASE_RENEWAL).as_millis()];
            statement.query_row(key, |row| Ok(text(row.get_ref(0)?))).optional()
        });
        if let Some(token) = self.found(holder, "values", key)? {
            return Ok(Acquired::HeldBy { token });
        }
        set(&transaction, key, token, Some(end)).map_err(|error| self.failure(&error))?;
        self.finish(transaction)?;
        Ok(Acquired::Granted(Lease::granted(key, token, asked_at)))
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        let transaction = self.begin_writing()?;
        self.check(&transaction, lease)?;
        let end = self.clock.machine_now() + LEASE_LIFE;
        set(&transaction, lease.key(), lease.token(), Some(end)).map_err(|error| self.failure(&error))?;
        self.finish(transaction)?;
        lease.renewed(asked_at);
        Ok(())
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        let (done, mut outcome) = oneshot::channel();
        self.waiting.borrow_mut().push(Waiting { token: lease.token().into(), writes: writes.to_vec(), done });
        // Callers that are ready join; the first to continue commits for all. Twice: for answers that have arrived to be read,
        // and for those who wait for them to hear of it.
        yield_now().await;
        yield_now().await;
        if let Ok(outcome) = outcome.try_recv() {
            return outcome;
        }
        // A caller that was dropped meanwhile has not committed.
        self.waiting.borrow_mut().retain(|it| !it.done.is_closed());
        let mut joined: Vec<Waiting> =
            self.waiting.borrow_mut().extract_if(.., |it| it.token == lease.token()).collect();
        let writes: Vec<Write> = joined.iter_mut().flat_map(|it| std::mem::take(&mut it.writes)).collect();
        let result = self.write(lease, &writes, false);
        for Waiting { done, .. } in joined {
            let _ = done.send(result.clone());
        }
        result
    }

    async fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.write(&lease, writes, true)
    }
}

fn apply(transaction: &Transaction<'_>, write: &Write, now: Timestamp) -> rusqlite::Result<()> {
    const MAP_SET: &str = "INSERT INTO maps (map, field, value) VALUES (?1, ?2, ?3) \
        ON CONFLICT (map, field) DO UPDATE SET value = excluded.value";
    const MAP_DELETE: &str = "DELETE FROM maps WHERE map = ?1 AND field = ?2";
    const MAP_TRIM: &str = "DELETE FROM maps WHERE map = ?1 AND field IN \
        (SELECT field FROM maps WHERE map = ?1 ORDER BY field DESC LIMIT -1 OFFSET ?2)";
    match write {
        Write::Set { key, value, life } => set(transaction, key, value, life.map(|life| now + life)),
        Write::Delete { key } => delete(transaction, key),
        Write::MapSet { map, field, value } => {
            transaction.prepare_cached(MAP_SET)?.execute(params![map, field, value]).map(drop)
        }
        Write::MapDelete { map, field } => {
            transaction.prepare_cached(MAP_DELETE)?.execute(params![map, field]).map(drop)
        }
        Write::MapTrim { map, keep } => {
            let keep = i64::try_from(*keep).unwrap_or(i64::MAX);
            transaction.prepare_cached(MAP_TRIM)?.execute(params![map, keep]).map(drop)
        }
    }
}

fn set(transaction: &Transaction<'_>, key: &str, value: &str, end: Option<Timestamp>) -> rusqlite::Result<()> {
    const SET: &str = r#"INSERT INTO "values" (key, value, expires_at) VALUES (?1, ?2, ?3)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at"#;
    transaction.prepare_cached(SET)?.execute(params![key, value, end.map(Timestamp::as_millis)]).map(drop)
}

fn delete(transaction: &Transaction<'_>, key: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached(r#"DELETE FROM "values" WHERE key = ?1"#)?.execute([key]).map(drop)
}

fn sweep(transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<()> {
    // Rarely is anything due, and checking costs a tenth of the statement that removes it.
    const DUE: &str = r#"SELECT EXISTS (SELECT 1 FROM "values" WHERE expires_at <= ?1)"#;
    let is_due: bool = transaction.prepare_cached(DUE)?.query_one([now.as_millis()], |row| row.get(0))?;
    if !is_due {
        return Ok(());
    }
    const DELETE: &str = r#"DELETE FROM "values" WHERE key IN
        (SELECT key FROM "values" WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)"#;
    transaction.prepare_cached(DELETE)?.execute(params![now.as_millis(), SWEEP]).map(drop)
}

/// What a store that does not exist answers.
fn nothing(query: &Query) -> Answer {
    match query {
        Query::Values(keys) => Answer::Values(vec![None; keys.len()]),
        Query::MapValues { fields, .. } => Answer::Values(vec![None; fields.len()]),
        Query::Map(_) => Answer::Map(Vec::new()),
        Query::Fields(_) => Answer::Fields(Vec::new()),
    }
}

/// A stored text, or what is there instead: anyone may have edited the file.
fn text(value: ValueRef<'_>) -> Result<String, String> {
    match value {
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(format!("not UTF-8: {error}")),
        },
        other => Err(format!("{} where a text belongs", other.data_type())),
    }
}

fn label(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// Creates an empty file, which SQLite treats as an empty database, so that it is private before anything is in it.
/// SQLite gives its journal the permissions of the file.
fn create_private(path: &Path) -> Result<(), String> {
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
    {
        is_there(folder).map_err(|error| error.to_string())?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| format!("cannot create the folder {}: {error}", folder.display()))?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => is_a_file(path),
        Err(error) => Err(format!("cannot create the file: {error}")),
    }
}

/// Whether what has this name can be a database, which SQLite tells of nothing but that it cannot be opened.
fn is_a_file(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err("it is a folder".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("it is a link to nothing".into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite gives some names another meaning, such as `:memory:` and `file:`; none that begins like this.
    let path = if path.is_absolute() { path.to_owned() } else { Path::new(".").join(path) };
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // What delete-first kept of an environment is wiped when it is not needed any more, and not left in free pages.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

/// Checks whose file this is, without changing it.
fn inspect(connection: &Connection, label: &str) -> Result<Contents, StoreError> {
    const LOOK: &str = "SELECT (SELECT application_id FROM pragma_application_id), \
        (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)";
    let look = connection.query_row(LOOK, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    match look.map_err(|error| failure(label, &error))? {
        (APPLICATION_ID, LAYOUT, 1..) => Ok(Contents::Respot),
        (APPLICATION_ID, found, _) if found > LAYOUT => Err(StoreError::Newer {
            record: label.to_owned(),
            found: found.unsigned_abs(),
            known: LAYOUT.unsigned_abs(),
        }),
        (0, 0, 0) => Ok(Contents::Nothing),
        _ => Err(StoreError::Unreadable {
            store: label.to_owned(),
            detail: "it is a database of another application".into(),
        }),
    }
}

fn create_tables(connection: &Connection, label: &str) -> Result<(), StoreError> {
    let failed = |error| failure(label, &error);
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have made them while we waited for the lock.
    if inspect(&transaction, label)? == Contents::Nothing {
        let create = || {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", LAYOUT)
        };
        create().map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

fn failure(label: &str, error: &rusqlite::Error) -> StoreError {
    let store = label.to_owned();
    let detail = error.to_string();
    let Some(cause) = error.sqlite_error() else { return StoreError::Unreadable { store, detail } };
    match cause.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreError::Unreachable { store, detail: format!("another process has locked it: {detail}") }
        }
        _ if cause.extended_code == ffi::SQLITE_READONLY_ROLLBACK => StoreError::Refused {
            store,
            detail: "a pass was killed while it wrote, and restoring the state before takes the right to write".into(),
        },
        ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::CannotOpen
        | ErrorCode::DiskFull
        | ErrorCode::TooBig
        | ErrorCode::OutOfMemory
        | ErrorCode::AuthorizationForStatementDenied => StoreError::Refused { store, detail },
        ErrorCode::SystemIoFailure if cause.extended_code != ffi::SQLITE_IOERR_SHORT_READ => {
            StoreError::Unreachable { store, detail }
        }
        _ => StoreError::Unreadable { store, detail },
    }
}
