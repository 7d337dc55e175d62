//! The real program between a provider that is simulated over HTTP and a store that is real.
//!
//! Every wait has a limit, so that no test hangs. Every output of every test is looked through for what must never be
//! in one: the key, and anything that a terminal acts on.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use novita_sim::{Op, Options, Server, World};
use redis::from_redis_value;
use respot::core::world::time::Timestamp;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tempfile::TempDir;

use crate::redis_server::RedisServer;

/// The key that the simulated provider wants.
pub(crate) const KEY: &str = "sk_f00dcafe5ecret";

/// One hour and one minute of the world's time.
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const MINUTE: u64 = 60_000;

/// How long a program may take unless a test says otherwise.
const LIMIT: Duration = Duration::from_secs(45);

/// How often to look at what is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Which store a test works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Redis,
}

pub(crate) const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Redis];

/// A provider, a store and a home, all of which end with the value.
pub(crate) struct Stage {
    pub(crate) provider: Server,
    pub(crate) redis: Option<RedisServer>,
    home: TempDir,
}

impl Stage {
    pub(crate) fn new(kind: Kind, mut world: World) -> Self {
        world.rules_mut().key = KEY.into();
        Self {
            provider: Server::start(world, Options::default()).expect("the provider starts"),
            redis: (kind == Kind::Redis).then(RedisServer::start),
            home: TempDir::new().expect("a temporary folder"),
        }
    }

    /// A call of the program: `run`, `status -o json` and so on. Its clock shows the world's time.
    pub(crate) fn call(&self, words: &str) -> Call {
        let mut command = Command::new(env!("CARGO_BIN_EXE_respot"));
        command.args(words.split_whitespace()).env_clear().current_dir(self.home.path());
        command.env("HOME", self.home.path()).env("XDG_STATE_HOME", self.home.path().join("state"));
        command.env("NOVITA_API_KEY", KEY).env("NOVITA_API_BASE_URL", self.provider.url());
        // A pass that goes on trying takes minutes.
        command.env("MIGRATION_KEEP_TRYING_MS", "0");
        if let Some(redis) = &self.redis {
            command.env("REDIS_URL", redis.url());
        }
        Call { command, now: Some(self.provider.with(|world| world.now_ms())), limit: LIMIT, color: false }
    }

    /// A call of another program, such as a shell that calls ours, with nothing in its environment but where programs
    /// are, and where ours remembers.
    pub(crate) fn other(&self, program: &str) -> Call {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.home.path());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("XDG_STATE_HOME", self.home.path().join("state"));
        Call { command, now: None, limit: LIMIT, color: false }
    }

    /// A pass that must end with this code; answers its document.
    pub(crate) fn pass(&self, code: i32) -> Value {
        self.call("run -o json").output().ends_with(code).json()
    }

    pub(crate) fn status(&self) -> Value {
        self.call("status -o json").output().ends_with(0).json()
    }

    pub(crate) fn history(&self) -> Value {
        self.call("history -o json --limit 1000").output().ends_with(0).json()
    }

    /// A fault of the provider's, in the simulator's notation.
    pub(crate) fn fault(&self, rule: &str) {
        let fault = rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}"));
        self.provider.with(|world| world.fault(fault));
    }

    /// How many migrations of each instance took effect.
    pub(crate) fn accepted(&self, ids: &[&str]) -> Vec<usize> {
        self.provider.with(|world| ids.iter().map(|id| world.accepted_migrations_of(id)).collect())
    }

    /// The ids of all instances of which at least one migration took effect, in order.
    pub(crate) fn migrated(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.provider.with(|world| {
            let log = world.log().iter();
            let applied = log.filter(|it| it.op == Op::Migrate && it.outcome == novita_sim::Outcome::Applied);
            applied.map(|it| it.instance.clone()).collect()
        });
        ids.sort();
        ids
    }

    /// How many calls of any kind the provider saw.
    pub(crate) fn calls(&self) -> u64 {
        self.provider.with(|world| Op::ALL.iter().map(|op| world.calls(*op)).sum())
    }

    /// Waits until the world is as wanted.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&mut World) -> bool) {
        for _ in 0..(LIMIT.as_millis() / LOOK.as_millis()) {
            if self.provider.with(&wanted) {
                return;
            }
            sleep(LOOK);
        }
        panic!("in vain waited until {what}");
    }

    /// The folder of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file into it.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, content).expect("written");
        path
    }

    /// Every file below it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(self.home.path(), &mut found);
        found.sort();
        found
    }

    /// The embedded store's file.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.path("state/respot/state.db")
    }

    /// Everything that is stored: values by their key, texts of maps as `map[field]`.
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        match &self.redis {
            Some(redis) => dump_redis(redis),
            None => dump_sqlite(&self.state_file()),
        }
    }

    /// What is stored under a key, without the usual prefix.
    pub(crate) fn stored(&self, key: &str) -> Option<String> {
        let prefix = if self.redis.is_some() { "respot:" } else { "" };
        self.dump().remove(&format!("{prefix}{key}"))
    }

    /// Stores a value behind the program's back.
    pub(crate) fn put(&self, key: &str, value: &str) {
        match &self.redis {
            Some(redis) => drop(redis.raw(&["SET", &format!("respot:{key}"), value])),
            None => {
                self.sql(r#"INSERT OR REPLACE INTO "values" (key, value) VALUES (?1, ?2)"#, &[key, value]);
            }
        }
    }

    /// Stores a text in a map behind the program's back.
    pub(crate) fn put_field(&self, map: &str, field: &str, value: &str) {
        match &self.redis {
            Some(redis) => drop(redis.raw(&["HSET", &format!("respot:{map}"), field, value])),
            None => {
                let insert = "INSERT OR REPLACE INTO maps (map, field, value) VALUES (?1, ?2, ?3)";
                self.sql(insert, &[map, field, value]);
            }
        }
    }

    /// Ends the life of the lease, as 30 seconds would.
    pub(crate) fn end_lease(&self) {
        match &self.redis {
            Some(redis) => drop(redis.raw(&["DEL", "respot:lease"])),
            None if self.state_file().metadata().is_ok() => {
                self.sql(r#"DELETE FROM "values" WHERE key = ?1"#, &["lease"]);
            }
            None => {}
        }
    }

    /// A connection of the test's own to the embedded store.
    pub(crate) fn open_sqlite(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.state_file()).expect("opened");
        connection.busy_timeout(Duration::from_secs(10)).expect("a limit");
        connection
    }

    fn sql(&self, statement: &str, values: &[&str]) {
        let values = rusqlite::params_from_iter(values);
        match self.open_sqlite().execute(statement, values) {
            // A pass that was killed before it made the tables left nothing to change.
            Err(error) if error.to_string().contains("no such table") => {}
            done => drop(done.expect(statement)),
        }
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => walk(&path, found),
            path => found.push(path),
        }
    }
}

fn dump_sqlite(path: &Path) -> BTreeMap<String, String> {
    if path.metadata().is_err() {
        return BTreeMap::new();
    }
    let connection = rusqlite::Connection::open(path).expect("opened");
    // A program that is killed while it makes the file leaves one without tables, which is an empty store.
    let made: u32 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).expect("a schema");
    if made == 0 {
        return BTreeMap::new();
    }
    let all = r#"SELECT key, value FROM "values" UNION ALL SELECT map || '[' || field || ']', value FROM maps"#;
    let mut statement = connection.prepare(all).expect("tables");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn dump_redis(redis: &RedisServer) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let keys: Vec<String> = from_redis_value(redis.raw(&["KEYS", "*"])).expect("keys");
    for key in keys {
        let kind: String = from_redis_value(redis.raw(&["TYPE", &key])).expect("a type");
        match kind.as_str() {
            "hash" => {
                let map: BTreeMap<String, String> = from_redis_value(redis.raw(&["HGETALL", &key])).expect("a map");
                all.extend(map.into_iter().map(|(field, value)| (format!("{key}[{field}]"), value)));
            }
            "string" => {
                let value: Option<String> = from_redis_value(redis.raw(&["GET", &key])).expect("a value");
                all.extend(value.map(|value| (key, value)));
            }
            other => drop(all.insert(key, format!("({other})"))),
        }
    }
    all
}

/// A call of the program in the making.
pub(crate) struct Call {
    command: Command,
    now: Option<i64>,
    limit: Duration,
    color: bool,
}

impl Call {
    pub(crate) fn arg(mut self, word: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    /// More words.
    pub(crate) fn args(mut self, words: &str) -> Self {
        self.command.args(words.split_whitespace());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Another time than the world's, in Unix milliseconds; none for the system's.
    pub(crate) fn now(mut self, now: Option<i64>) -> Self {
        self.now = now;
        self
    }

    pub(crate) fn limit(mut self, secs: u64) -> Self {
        self.limit = Duration::from_secs(secs);
        self
    }

    /// Bound by permissions, as root is not unless it gives that up.
    pub(crate) fn bound_by_permissions(self) -> Self {
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(self.command.get_program());
        command.args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.command.get_current_dir().expect("a home"));
        Self { command, ..self }
    }

    /// The same call of another build of the program.
    pub(crate) fn by(self, program: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.command.get_current_dir().expect("a home"));
        Self { command, ..self }
    }

    /// Colour is asked for, so escape sequences are expected.
    pub(crate) fn colored(mut self) -> Self {
        self.color = true;
        self
    }

    pub(crate) fn spawn(self) -> Running {
        let Self { mut command, now, limit, color } = self;
        if let Some(now) = now {
            command.arg(format!("--now={}", Timestamp::from_millis(now)));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the program starts");
        let stdout = drain(child.stdout.take().expect("a pipe"));
        let stderr = drain(child.stderr.take().expect("a pipe"));
        Running { child, stdout, stderr, limit, color }
    }

    pub(crate) fn output(self) -> Output {
        self.spawn().wait()
    }

    /// The exit code and stderr where stdout leads elsewhere; or stderr does, and there is none to answer.
    pub(crate) fn printing_to(mut self, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> (i32, String) {
        self.command.args(self.now.map(|now| format!("--now={}", Timestamp::from_millis(now))));
        self.command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = self.command.spawn().expect("the program starts");
        // Ours of the other ends must go.
        drop(self);
        let output = child.wait_with_output().expect("its end");
        (output.status.code().unwrap_or(128), String::from_utf8(output.stderr).expect("UTF-8"))
    }

    /// What somebody sees at a terminal who types this and then hangs up on stdin; answers the exit code, too.
    pub(crate) fn dialog(self, typed: &str) -> (i32, String) {
        let Self { mut command, now, .. } = self;
        command.args(now.map(|now| format!("--now={}", Timestamp::from_millis(now)))).arg("--color=never");
        let size = nix::pty::Winsize { ws_row: 50, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(&size, None).expect("a terminal");
        let also = || slave.try_clone().expect("another end");
        let mut child = command.stdin(also()).stdout(also()).stderr(slave).spawn().expect("it starts");
        drop(command);
        let mut master = std::fs::File::from(master);
        // The last character ends what is typed, as Ctrl-D does.
        master.write_all(format!("{typed}\u{4}").as_bytes()).expect("typed");
        let mut shown = Vec::new();
        let _ = master.read_to_end(&mut shown);
        let code = child.wait().expect("its end").code().expect("a code");
        (code, String::from_utf8(shown).expect("UTF-8").replace('\r', ""))
    }

    /// What somebody sees whose terminal has so many columns; stderr is not shown.
    pub(crate) fn screen(self, columns: u16) -> String {
        let Self { mut command, now, .. } = self;
        command.args(now.map(|now| format!("--now={}", Timestamp::from_millis(now)))).arg("--color=never");
        let size = nix::pty::Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(&size, None).expect("a terminal");
        let mut child = command.stdin(Stdio::null()).stdout(slave).stderr(Stdio::null()).spawn().expect("it starts");
        // Ours of the other end must go, or the terminal never hangs up.
        drop(command);
        let mut shown = Vec::new();
        // Linux ends a terminal that was hung up with an error, after all that was written.
        let _ = std::fs::File::from(master).read_to_end(&mut shown);
        child.wait().expect("its end");
        String::from_utf8(shown).expect("UTF-8").replace('\r', "")
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        pipe.read_to_end(&mut all).expect("read");
        all
    })
}

/// The program at work.
pub(crate) struct Running {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    limit: Duration,
    color: bool,
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// Suspends it, and returns when it really stands still.
    pub(crate) fn suspend(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED);
        assert!(stopped.expect("its state").is_some_and(|(_, status)| status.stopped()));
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Output {
        let mut status = None;
        for _ in 0..(self.limit.as_millis() / LOOK.as_millis()) {
            status = self.child.try_wait().expect("its state");
            if status.is_some() {
                break;
            }
            sleep(LOOK);
        }
        if status.is_none() {
            self.child.kill().expect("killed");
            self.child.wait().expect("ended");
        }
        let text = |all: JoinHandle<Vec<u8>>| String::from_utf8(all.join().expect("drained")).expect("UTF-8");
        let (stdout, stderr) = (text(self.stdout), text(self.stderr));
        let Some(status) = status else {
            panic!("it did not end within {:?}\nstdout: {stdout}\nstderr: {stderr}", self.limit)
        };
        let output = Output { status, stdout, stderr };
        output.check(self.color);
        output
    }
}

/// What the program said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The exit code; 128 and more for a signal.
    pub(crate) fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).expect("an end")
    }

    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Each of the texts is on stderr.
    pub(crate) fn says<T: AsRef<str>>(self, texts: impl IntoIterator<Item = T>) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text.as_ref()), "{:?} is not in stderr: {}", text.as_ref(), self.stderr);
        }
        self
    }

    /// The one document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr))
    }

    /// The text of both, to look for what must not be there.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    fn check(&self, color: bool) {
        // Lines of a table for spreadsheets end with both.
        let all = self.all().replace("\r\n", "\n");
        assert!(!all.contains(KEY), "the key is in {all}");
        let bad = all.chars().find(|c| {
            let escape = color && *c == '\u{1b}';
            let control = c.is_control() && *c != '\n';
            let bidi =
                matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            (control || bidi) && !escape
        });
        assert_eq!(bad, None, "what a terminal acts on is in {all:?}");
        if self.code() == 101 || self.stderr.contains("panicked at") {
            panic!("it panicked: {all}");
        }
    }
}

/// Checks the rows of a table, several at a time, and tells of all that fail.
pub(crate) fn each<T: Debug + Sync>(rows: &[T], check: impl Fn(&T) + Sync) {
    side_by_side(rows, 4, check);
}

/// The same with so many rows at a time; for rows that wait more than they work.
pub(crate) fn side_by_side<T: Debug + Sync>(rows: &[T], at_once: usize, check: impl Fn(&T) + Sync) {
    let next = Mutex::new(rows.iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(rows.len()) {
            scope.spawn(|| {
                loop {
                    let Some(row) = next.lock().expect("no panic").next() else { break };
                    let check = std::panic::AssertUnwindSafe(|| check(row));
                    if std::panic::catch_unwind(check).is_err() {
                        failed.lock().expect("no panic").push(format!("{row:?}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{} of {} rows failed:\n{}", failed.len(), rows.len(), failed.join("\n"));
}

/// The keys of an object, in order, as one text.
pub(crate) fn keys(value: &Value) -> String {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}
