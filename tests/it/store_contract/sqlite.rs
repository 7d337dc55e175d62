//! The contract on the embedded store, and what can happen to a file.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::{fs, thread};

use respot::clock::Clock;
use respot::core::world::time::Timestamp;
use respot::store::sqlite::SqliteStore;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::advance;

use super::*;

/// Tells the child process of `a_stranger_is_refused` where its files are.
const NOBODY: u32 = 65_534;

struct Embedded(SqliteStore, Option<SqliteStore>);

impl World for Embedded {
    type Store = SqliteStore;

    fn stores(&self) -> (&SqliteStore, &SqliteStore) {
        (&self.0, self.1.as_ref().unwrap_or(&self.0))
    }

    async fn pass(&self, _: &str, time: Duration) {
        advance(time).await;
    }
}

/// A folder with one state file, in which the values `a` and `b` and a map `m` of 500 fields are stored.
struct Stored {
    _folder: TempDir,
    path: PathBuf,
}

impl Stored {
    async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("state.db");
        let store = open(&path).expect("opened");
        let lease = take(&store, "lease", "t").await;
        let mut writes = vec![set("a", "1"), set("b", "1")];
        writes.extend((0..500).map(|n| map_set("m", &format!("{n:04}"), &"x".repeat(100))));
        store.commit_and_release(lease, &writes).await.expect("committed");
        Self { _folder: folder, path }
    }

    fn raw(&self) -> Connection {
        Connection::open(&self.path).expect("opened")
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path.parent().expect("a folder")).expect("its entries");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().expect("a text")).collect()
    }
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, Clock::system())
}

fn open_read(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open_read(path, Clock::system())
}

/// Opens and asks for everything: the first thing that goes wrong.
async fn look(path: &Path) -> Result<Vec<Answer>, StoreError> {
    open_read(path)?.read(&[values(&["a", "b"]), Query::Map("m".into()), Query::Fields("m".into())]).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[track_caller]
fn kind<T>(result: Result<T, StoreError>, path: &Path) -> &'static str {
    let Err(error) = result else { return "ok" };
    let text = error.to_string();
    assert!(text.contains(path.to_str().expect("a text")), "{text:?} names {}", path.display());
    match error {
        StoreError::Unreachable { .. } => "unreachable",
        StoreError::Refused { .. } | StoreError::NotPermitted { .. } => "refused",
        StoreError::Unreadable { .. } => "unreadable",
        StoreError::Newer { .. } => "newer",
        StoreError::Foreign { .. } => "foreign",
        StoreError::Sealed { .. } => "sealed",
        StoreError::LeaseLost => "lost",
    }
}

#[tokio::test(start_paused = true)]
async fn sqlite_keeps_the_contract_in_a_file() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("state.db");
    let clock = Clock::system();
    let open = || SqliteStore::open(&path, clock.clone()).expect("opened");
    contract(&Embedded(open(), Some(open()))).await;
}

#[tokio::test(start_paused = true)]
async fn sqlite_keeps_the_contract_in_memory() {
    contract(&Embedded(SqliteStore::in_memory(Clock::system()).expect("memory"), None)).await;
}

#[tokio::test]
async fn the_file_is_private_and_alone() {
    let folder = TempDir::new().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("changed");
    let path = folder.path().join("new/er/state.db");
    let store = open(&path).expect("opened");
    let lease = take(&store, "lease", "t").await;
    store.commit(&lease, &[set("a", "1")]).await.expect("committed");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    assert_eq!(mode(folder.path()), 0o755, "a folder that was there is left as it is");
    assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("entries").count(), 1);
    assert_eq!(store.label(), format!("sqlite:{}", path.display()));
    drop(store);
    assert_eq!(value(&open(&path).expect("opened again"), "a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn reading_changes_nothing() {
    let folder = TempDir::new().expect("a folder");
    for missing in ["state.db", "not/there/state.db"] {
        let store = open_read(&folder.path().join(missing)).expect("an empty store");
        let queries = [values(&["a", "b"]), Query::Map("m".into()), Query::Fields("m".into()), map_values("m", &["f"])];
        let nothing = vec![texts([None, None]), Answer::Map(Vec::new()), Answer::Fields(Vec::new()), texts([None])];
        assert_eq!(store.read(&queries).await, Ok(nothing));
        assert!(matches!(store.acquire("lease", "t").await, Err(StoreError::Refused { .. })));
    }
    assert_eq!(fs::read_dir(folder.path()).expect("entries").count(), 0);

    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").expect("written");
    assert_eq!(look(&empty).await, Ok(vec![texts([None, None]), Answer::Map(Vec::new()), Answer::Fields(Vec::new())]));
    assert_eq!(fs::metadata(&empty).expect("there").len(), 0);
    open(&empty).expect("an empty file becomes a store");

    let stored = Stored::new().await;
    let before = fs::read(&stored.path).expect("its bytes");
    let store = open_read(&stored.path).expect("opened");
    assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
    assert_eq!(stored.files(), ["state.db"]);
    assert!(matches!(store.acquire("lease", "t").await, Err(StoreError::Refused { .. })));
    assert!(fs::read(&stored.path).expect("its bytes") == before);
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let table: [(&str, &str, &str); 7] = [
        ("another application", "PRAGMA application_id = 7; CREATE TABLE t (x)", "unreadable"),
        ("an unmarked database", "CREATE TABLE t (x)", "unreadable"),
        ("only a version", "PRAGMA user_version = 3", "unreadable"),
        ("a newer layout", "PRAGMA application_id = 1920168052; PRAGMA user_version = 2; CREATE TABLE t (x)", "newer"),
        ("no layout", "PRAGMA application_id = 1920168052; PRAGMA user_version = 0; CREATE TABLE t (x)", "unreadable"),
        ("a log, too", "PRAGMA journal_mode = WAL; CREATE TABLE t (x)", "unreadable"),
        ("nothing", "", "ok"),
    ];
    for (what, script, expected) in table {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("state.db");
        Connection::open(&path).and_then(|raw| raw.execute_batch(script)).expect("prepared");
        let before = fs::read(&path).expect("its bytes");
        assert_eq!(kind(look(&path).await, &path), expected, "{what}");
        assert_eq!(kind(open(&path), &path), expected, "{what}");
        assert!(expected == "ok" || fs::read(&path).expect("its bytes") == before, "{what} is untouched");
    }
    let folder = TempDir::new().expect("a folder");
    let text = folder.path().join("notes.txt");
    fs::write(&text, "dear diary, ".repeat(1000)).expect("written");
    for (path, expected) in [
        (text.as_path(), "unreadable"),
        (folder.path(), "refused"),
        (Path::new("/proc/respot/state.db"), "refused"),
        (&text.join("state.db"), "refused"),
    ] {
        assert_eq!(kind(open(path), path), expected);
    }
    assert!(fs::read_to_string(&text).expect("there").starts_with("dear diary"));
}

#[tokio::test]
async fn damage_is_reported_and_never_a_panic() {
    let stored = Stored::new().await;
    let whole = fs::read(&stored.path).expect("its bytes");
    let path = stored.path.with_file_name("damaged.db");
    let mut reported = 0;
    for at in (0..whole.len()).step_by(509) {
        let mut damaged = whole.clone();
        for byte in damaged.iter_mut().skip(at).take(64) {
            *byte ^= 0xa5;
        }
        fs::write(&path, damaged).expect("written");
        for found in [kind(look(&path).await, &path), kind(open(&path), &path)] {
            // SQLite keeps no checksums: a text that changed is for the reader of the record to notice.
            assert!(["ok", "unreadable", "newer"].contains(&found), "damaged at {at}: {found}");
            reported += usize::from(found == "unreadable");
        }
    }
    assert!(reported > 10, "{reported}");
    for length in [2, 99, 100, 512, 4096, 4097, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).expect("written");
        assert_eq!(kind(look(&path).await, &path), "unreadable", "{length} bytes of {}", whole.len());
    }

    let not_text = "INSERT OR REPLACE INTO maps VALUES ('m', 'f', CAST(x'ff41' AS TEXT)); \
        UPDATE \"values\" SET value = CAST(x'c3' AS TEXT) WHERE key = 'a'";
    stored.raw().execute_batch(not_text).expect("edited");
    let store = open(&stored.path).expect("opened");
    for (query, name) in [
        (values(&["b", "a"]), "table values, key \"a\": not UTF-8"),
        (Query::Map("m".into()), "table maps, key \"f\": not UTF-8"),
        (map_values("m", &["f"]), "table maps, key \"f\": not UTF-8"),
    ] {
        let Err(StoreError::Unreadable { detail, .. }) = store.read(&[query]).await else { panic!("{name}") };
        assert!(detail.starts_with(name), "{detail}");
    }
    stored.raw().execute_batch("DROP TABLE \"values\"").expect("edited");
    assert_eq!(kind(look(&stored.path).await, &stored.path), "unreadable");
    assert_eq!(kind(store.acquire("lease", "t").await, &stored.path), "unreadable");
    stored.raw().execute_batch("CREATE TABLE \"values\" (key PRIMARY KEY, value, expires_at)").expect("edited");
    stored.raw().execute_batch("INSERT INTO \"values\" VALUES ('a', 7, NULL), ('b', NULL, NULL)").expect("edited");
    assert_eq!(kind(look(&stored.path).await, &stored.path), "unreadable");
}

#[tokio::test]
async fn a_killed_writer_leaves_the_state_before() {
    let stored = Stored::new().await;
    let raw = stored.raw();
    // So little memory that half of the change is in the file already.
    raw.execute_batch("PRAGMA cache_size = 2; BEGIN IMMEDIATE; DELETE FROM maps; UPDATE \"values\" SET value = '2'")
        .expect("begun");
    let copy = TempDir::new().expect("a folder");
    for name in stored.files() {
        fs::copy(stored.path.with_file_name(&name), copy.path().join(&name)).expect("copied");
    }
    let path = copy.path().join("state.db");
    assert!(path.with_file_name("state.db-journal").metadata().is_ok());
    assert!(fs::read(&path).expect("its bytes") != fs::read_to_string(&stored.path).unwrap_or_default().as_bytes());
    let answers = look(&path).await.expect("read");
    assert_eq!(answers[0], texts([Some("1"), Some("1")]));
    assert!(matches!(&answers[1], Answer::Map(entries) if entries.len() == 500));
    assert!(path.with_file_name("state.db-journal").metadata().is_err());
}

#[tokio::test]
async fn a_lock_is_waited_for_but_not_for_ever() {
    let stored = Stored::new().await;
    let store = open(&stored.path).expect("opened");
    let raw = stored.raw();
    thread::scope(|scope| {
        raw.execute_batch("BEGIN EXCLUSIVE").expect("locked");
        let waiting = scope.spawn(|| kind(open(&stored.path), &stored.path));
        assert_eq!(block_on(async { kind(store.acquire("lease", "t").await, &stored.path) }), "unreachable");
        assert_eq!(waiting.join().expect("no panic"), "unreachable");
        let waiting = scope.spawn(|| kind(open(&stored.path), &stored.path));
        thread::sleep(Duration::from_millis(100));
        raw.execute_batch("ROLLBACK").expect("unlocked");
        assert_eq!(waiting.join().expect("no panic"), "ok");
    });
}

/// Without a runtime: this store waits for nothing but its turn.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn commits_of_one_moment_share_a_transaction_and_not_a_fate() {
    let store = SqliteStore::in_memory(Clock::system()).expect("memory");
    let lost = take(&store, "lease", "lost").await;
    advance(LEASE_LIFE + SECOND).await;
    let held = take(&store, "lease", "held").await;
    let [dropped, late, one, two] = ["dropped", "late", "one", "two"].map(|key| [set(key, "1")]);
    tokio::select! {
        biased;
        _ = store.commit(&held, &dropped) => panic!("it did not wait for others"),
        () = std::future::ready(()) => {}
    }
    let results = tokio::join!(store.commit(&lost, &late), store.commit(&held, &one), store.commit(&held, &two));
    assert_eq!(results, (Err(StoreError::LeaseLost), Ok(()), Ok(())));
    let stored = store.read(&[values(&["dropped", "late", "one", "two"])]).await;
    assert_eq!(stored, Ok(vec![texts([None, None, Some("1"), Some("1")])]));
}

#[tokio::test]
async fn readers_see_whole_commits_while_writers_race() {
    const ROUNDS: usize = 50;
    let stored = Stored::new().await;
    let start = Barrier::new(3);
    let race = |token: &'static str| {
        let store = open(&stored.path).expect("opened");
        let mut won = 0;
        start.wait();
        while won < ROUNDS {
            if let Acquired::Granted(lease) = block_on(store.acquire("lease", token)).expect("an answer") {
                won += 1;
                let both = format!("{token}{won}");
                block_on(store.commit(&lease, &[set("a", &both), set("b", &both)])).expect("committed");
                let count =
                    block_on(value(&store, "count")).map_or(0, |count| count.parse::<usize>().expect("a number"));
                block_on(store.commit_and_release(lease, &[set("count", &(count + 1).to_string())])).expect("released");
            }
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let writers = [scope.spawn(|| race("one")), scope.spawn(|| race("two"))];
        let reader = open_read(&stored.path).expect("opened");
        start.wait();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let answers = block_on(reader.read(&[values(&["a"]), values(&["b"])])).expect("read");
            assert_eq!(answers[0], answers[1]);
        }
    });
    let store = open_read(&stored.path).expect("opened");
    assert_eq!(value(&store, "count").await, Some((2 * ROUNDS).to_string()), "nobody wrote over another");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_goes_bit_by_bit_and_a_clock_set_back_frees_the_lease() {
    let stored = Stored::new().await;
    let rows =
        || stored.raw().query_row("SELECT count(*) FROM \"values\"", [], |row| row.get::<_, i64>(0)).expect("a count");
    let later = Clock::starting_at(Timestamp::from_secs(1_700_000_000));
    let store = SqliteStore::open(&stored.path, later.clone()).expect("opened");
    let lease = take(&store, "lease", "ahead").await;
    let writes: Vec<_> = (0..300).map(|n| set_for(&format!("short:{n}"), "x", SECOND)).collect();
    store.commit(&lease, &writes).await.expect("committed");
    advance(2 * SECOND).await;
    assert_eq!(value(&store, "short:7").await, None);
    for left in [2 + 1 + 44, 3, 3] {
        store.commit(&lease, &[]).await.expect("committed");
        assert_eq!(rows(), left);
    }

    for (seconds_back, held) in [(0, true), (9, true), (11, false), (3600, false)] {
        let earlier = Clock::starting_at(later.now() - Duration::from_secs(seconds_back));
        let other = SqliteStore::open(&stored.path, earlier).expect("opened");
        let key = format!("lease:{seconds_back}");
        let lease = take(&store, &key, "ahead").await;
        assert_eq!(holder(&other, &key, "behind").await.is_some(), held, "set back by {seconds_back} s");
        assert_eq!(store.renew(&lease).await.is_ok(), held, "set back by {seconds_back} s");
    }
}

/// Root may do everything, so as root the test runs the program as another user; otherwise it is one already.
#[tokio::test]
async fn a_stranger_is_refused() {
    let stored = Stored::new().await;
    let folder = stored.path.parent().expect("a folder");
    fs::create_dir(folder.join("open")).expect("made");
    for (path, mode) in [("open/file.db", 0o444), ("open", 0o555), ("", 0o755)] {
        let path = if path.is_empty() { folder.to_path_buf() } else { folder.join(path) };
        if path.extension().is_some() {
            fs::copy(&stored.path, &path).expect("copied");
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    }
    let is_root = fs::metadata(folder).map(|folder| std::os::unix::fs::MetadataExt::uid(&folder)).expect("there") == 0;
    let ends = |command: &str, path: &Path| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_respot"));
        let store = format!("--store=sqlite:{}", path.display());
        program.args([command, &store]).env_clear().env("NOVITA_API_KEY", "sk_test").current_dir("/");
        if is_root {
            program.uid(NOBODY).gid(NOBODY);
        }
        let output = program.output().expect("nobody must be able to run the program: is its folder open to all?");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).contains("refused"))
    };
    let (fine, refused) = ((Some(0), false), (Some(4), true));
    let readable = folder.join("open/file.db");
    assert_eq!(ends("status", &readable), fine, "a read-only file in a read-only folder is read");
    assert_eq!(ends("run", &readable), refused);
    for path in [folder.join("open/new.db"), folder.join("open/new/state.db")] {
        assert_eq!(ends("run", &path), refused);
        assert_eq!(ends("status", &path), fine, "a missing file is an empty store");
    }
    if is_root {
        assert_eq!(ends("status", &stored.path), refused);
        assert_eq!(ends("run", &stored.path), refused);
    }
    fs::set_permissions(folder.join("open"), fs::Permissions::from_mode(0o755)).expect("changed");
}
