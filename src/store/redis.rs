//! The store on a Redis server, for passes that run on more than one machine.
//!
//! One connection is kept. When it breaks, or the server is busy loading, the request is repeated on a new one for
//! five seconds. Reads, renewals and acquisitions may be repeated as they are. A commit may not: the answer to one
//! that took effect can be lost, and the request itself can be late. It would then undo what a later commit wrote,
//! under the same lease. So commits go one at a time, each has a number, and the script that makes one keeps the
//! last number beside the lease and does nothing for a number that it has seen. By the same mark a release knows,
//! when it is repeated and the lease is gone, that it returned the lease itself.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use {
    ::redis::aio::MultiplexedConnection,
    ::redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError},
    ::redis::{ConnectionAddr, ConnectionInfo, ServerError, ServerErrorKind, Value},
};

use super::{Acquired, Answer, LEASE_LIFE, Lease, Query, StoreError, StoreRead, StoreWrite, Write};
use crate::core::world::time::millis;

/// How long a pass keeps trying.
const PATIENCE: Duration = Duration::from_secs(5);

/// The wait before the second attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest wait between attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long the number of the last commit is kept. A request is not late by more: a sender gives up long before.
const MARKER_LIFE: Duration = Duration::from_secs(3600);

/// Redis refuses lives that end beyond its calendar.
const LONGEST_LIFE: Duration = Duration::from_secs(3600 * 24 * 365 * 1000);

/// How much of a server's message is repeated in an error.
const WORDS: usize = 200;

/// How the server says that the user may not do something: itself, and in a script.
const NOT_PERMITTED: [&str; 3] = ["NOPERM", "no permissions to", "The user executing the script can't"];

/// KEYS: the lease; ARGV: the token, its life in ms. Answers the holder, or nothing when it is granted.
///
/// A holder that would hold it for ever, since the life of its key was removed, gets a life; before Redis 7 there is no `NX`.
const ACQUIRE: &str = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end \
    redis.pcall('PEXPIRE', KEYS[1], ARGV[2], 'NX') \
    return redis.call('GET', KEYS[1])";

/// KEYS: the lease; ARGV: the token, its life in ms. Answers 1, or 0 when it is not ours.
const RENEW: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

const COMMIT: &str = include_str!("commit.lua");

/// A store on a Redis server.
pub struct RedisStore {
    client: Client,
    label: String,
    prefix: String,
    patience: Duration,
    line: Mutex<Line>,
    /// The number of the last commit. Locked while one is on its way, so that they arrive in order.
    commits: Mutex<u64>,
    /// Distinguishes our numbers from those of other writers.
    writer: u64,
}

/// The connection, if there is one.
#[derive(Default)]
struct Line {
    /// Counts connections, so that only the broken one is given up.
    number: u64,
    connection: Option<MultiplexedConnection>,
}

/// How a server could lose what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risks {
    /// The policy by which it drops keys when its memory is full, if it does.
    pub eviction: Option<String>,
    /// It keeps nothing on disk: its next restart forgets everything.
    pub is_volatile: bool,
}

/// What came back for a request, and what it took.
struct Reply {
    values: Vec<Value>,
    first_sent_at: Instant,
    sent_at: Instant,
    /// An earlier attempt may have taken effect.
    repeated: bool,
}

impl RedisStore {
    /// Connects to the server at `url` (`redis://`, `rediss://` or `unix://`, with user, password and database). All
    /// keys begin with `prefix`.
    ///
    /// # Errors
    /// `Unreachable` if nothing answers there or what answers is not Redis, `Refused` if it denies access or the address
    /// is invalid.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, prefix, PATIENCE).await
    }

    /// The same with another limit: how long one attempt may take, and how long after the first failure new attempts
    /// start.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with(url: &str, prefix: &str, patience: Duration) -> Result<Self, StoreError> {
        let address = parse(url)?;
        let label = label(&address);
        if matches!(address.addr(), ConnectionAddr::TcpTls { .. }) {
            // Fails when there is one already, which does as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(address).map_err(|error| failure(&label, prefix, &error, &[]))?;
        let store = Self {
            client,
            label,
            prefix: prefix.to_owned(),
            patience,
            line: Mutex::default(),
            commits: Mutex::default(),
            writer: fastrand::u64(..),
        };
        let mut ping = ::redis::pipe();
        ping.cmd("PING");
        store.request(&ping, &[]).await?;
        Ok(store)
    }

    /// How the server could lose what it was given.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and when the user may not ask.
    pub async fn risks(&self) -> Result<Risks, StoreError> {
        let mut info = ::redis::pipe();
        info.cmd("INFO").arg("memory").cmd("INFO").arg("persistence");
        let mut sections = self.request(&info, &[]).await?.values.into_iter();
        let mut section = || text(sections.next().unwrap_or(Value::Nil)).map_err(|wrong| self.unreadable(&wrong));
        let (memory, persistence) = (section()?, section()?);
        let field = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let is_bounded = field("maxmemory").is_some_and(|most| most.trim() != "0");
        let policy = field("maxmemory_policy").map(str::trim).filter(|policy| is_bounded && *policy != "noeviction");
        let mut config = ::redis::pipe();
        config.cmd("CONFIG").arg("GET").arg("save");
        // Managed servers do not say, and save.
        let config = self.exchange(&config).await.ok().and_then(|mut reply| texts(reply.values.pop()).ok());
        let saves = config.is_none_or(|config| config.last().is_none_or(|when| !when.is_empty()));
        let is_volatile = persistence.contains("aof_enabled:0") && !saves;
        Ok(Risks { eviction: policy.map(str::to_owned), is_volatile })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Sends the commands. `asked` holds the key that each is about, to name the one that went wrong.
    async fn request(&self, commands: &Pipeline, asked: &[&str]) -> Result<Reply, StoreError> {
        self.exchange(commands).await.map_err(|error| match failure(&self.label, &self.prefix, &error, asked) {
            StoreError::Refused { store, detail } if NOT_PERMITTED.iter().any(|words| detail.contains(words)) => {
                StoreError::NotPermitted { store, detail, prefix: self.prefix.clone() }
            }
            failure => failure,
        })
    }

    /// Sends the commands, with retries where they are safe.
    async fn exchange(&self, commands: &Pipeline) -> Result<Reply, RedisError> {
        let first_sent_at = Instant::now();
        let mut give_up_at = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let sent_at = Instant::now();
            let error = match self.attempt(commands, give_up_at.unwrap_or(sent_at + self.patience)).await {
                Ok(values) => return Ok(Reply { values, first_sent_at, sent_at, repeated: give_up_at.is_some() }),
                Err(error) if passes(&error) => error,
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            let give_up_at = *give_up_at.get_or_insert(now + self.patience);
            if now + pause >= give_up_at {
                return Err(error);
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn attempt(&self, commands: &Pipeline, until: Instant) -> Result<Vec<Value>, RedisError> {
        let (number, mut connection) = timeout_at(until, self.connected()).await.unwrap_or_else(|_| timed_out())?;
        let answer = timeout_at(until, commands.query_async(&mut connection)).await.unwrap_or_else(|_| timed_out());
        if answer.as_ref().is_err_and(passes) {
            let mut line = self.line.lock().await;
            if line.number == number {
                line.connection = None;
            }
        }
        answer
    }

    /// The connection and its number. Callers that arrive while it is being made wait for it.
    async fn connected(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut line = self.line.lock().await;
        if let Some(connection) = &line.connection {
            return Ok((line.number, connection.clone()));
        }
        // The limits are ours, in `attempt`.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        line.number += 1;
        line.connection = Some(connection.clone());
        Ok((line.number, connection))
    }

    async fn write(&self, lease: &Lease, writes: &[Write], release: bool) -> Result<(), StoreError> {
        let mut number = self.commits.lock().await;
        *number += 1;
        // Its own for each writer, so that removing it cannot take another's away.
        let marker = self.key(&format!("{}:commits:{:016x}", lease.key(), self.writer));
        let mut commit = ::redis::pipe();
        commit.cmd("EVAL").arg(COMMIT).arg(2 + writes.len()).arg(self.key(lease.key())).arg(&marker);
        for write in writes {
            commit.arg(self.key(change(write).0));
        }
        commit.arg(lease.token()).arg(*number).arg(millis(MARKER_LIFE)).arg(if release { "release" } else { "keep" });
        for write in writes {
            let (_, name, first, second) = change(write);
            commit.arg(name).arg(&*first).arg(&*second);
        }
        let reply = texts(self.request(&commit, &[lease.key()]).await?.values.pop())
            .map_err(|wrong| self.unreadable(&wrong))?;
        match reply.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["done"] => {}
            ["lost"] => return Err(StoreError::LeaseLost),
            ["type", key] => return Err(self.unreadable(&about("", key)("another type of data".into()))),
            _ => return Err(self.unreadable("its answer to a commit makes no sense")),
        }
        if release {
            // For tidiness; were it lost, the marker would go by itself.
            let mut remove = ::redis::pipe();
            remove.cmd("DEL").arg(&marker);
            let _ = self.attempt(&remove, Instant::now() + LONGEST_PAUSE).await;
        }
        Ok(())
    }

    fn unreadable(&self, wrong: &str) -> StoreError {
        StoreError::Unreadable { store: self.label.clone(), detail: wrong.to_owned() }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("label", &self.label).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl StoreRead for RedisStore {
    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        // A GET for each key, not one MGET: that would answer "nothing" for a key of another type.
        let mut questions = ::redis::pipe();
        let mut asked = Vec::new();
        for query in queries {
            match query {
                Query::Values(keys) => {
                    for key in keys {
                        questions.cmd("GET").arg(self.key(key));
                        asked.push(key.as_str());
                    }
                }
                Query::Map(map) => {
                    questions.cmd("HGETALL").arg(self.key(map));
                    asked.push(map.as_str());
                }
                Query::Fields(map) => {
                    questions.cmd("HKEYS").arg(self.key(map));
                    asked.push(map.as_str());
                }
                Query::MapValues { map, fields } if !fields.is_empty() => {
                    questions.cmd("HMGET").arg(self.key(map)).arg(fields);
                    asked.push(map.as_str());
                }
                Query::MapValues { .. } => {}
            }
        }
        if asked.is_empty() {
            return Ok(queries.iter().map(|_| Answer::Values(Vec::new())).collect());
        }
        let mut replies = self.request(&questions, &asked).await?.values.into_iter();
        queries
            .iter()
            .map(|query| answer(&self.prefix, query, &mut replies).map_err(|wrong| self.unreadable(&wrong)))
            .collect()
    }

    fn label(&self) -> String {
        self.label.clone()
    }
}

impl StoreWrite for RedisStore {
    async fn acquire(&self, key: &str, token: &str) -> Result<Acquired, StoreError> {
        let mut acquire = ::redis::pipe();
        acquire.cmd("EVAL").arg(ACQUIRE).arg(1).arg(self.key(key)).arg(token).arg(millis(LEASE_LIFE));
        let Reply { mut values, first_sent_at, repeated, .. } = self.request(&acquire, &[key]).await?;
        let holder = values.pop().map_or(Ok(None), optional_text).map_err(|wrong| self.unreadable(&wrong))?;
        match holder {
            // An earlier attempt, whose answer was lost, took it.
            Some(holder) if repeated && holder == token => {}
            Some(token) => return Ok(Acquired::HeldBy { token }),
            None => {}
        }
        Ok(Acquired::Granted(Lease::granted(key, token, first_sent_at)))
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut renew = ::redis::pipe();
        renew.cmd("EVAL").arg(RENEW).arg(1).arg(self.key(lease.key())).arg(lease.token()).arg(millis(LEASE_LIFE));
        let Reply { values, sent_at, .. } = self.request(&renew, &[lease.key()]).await?;
        if values != [Value::Int(1)] {
            return Err(StoreError::LeaseLost);
        }
        lease.renewed(sent_at);
        Ok(())
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.write(lease, writes, false).await
    }

    async fn commit_and_release(&self, lease: Lease, writes: &[Write]) -> Result<(), StoreError> {
        self.write(&lease, writes, true).await
    }
}

/// A change as the script takes it: the key, the name and two operands.
fn change(write: &Write) -> (&str, &'static str, Cow<'_, str>, Cow<'_, str>) {
    match write {
        Write::Set { key, value, life: None } => (key, "set", value.into(), "".into()),
        Write::Set { key, value, life: Some(life) } => {
            // Redis knows no life of no time at all.
            let life = millis(LONGEST_LIFE.min(*life)).max(1);
            (key, "set", value.into(), life.to_string().into())
        }
        Write::Delete { key } => (key, "delete", "".into(), "".into()),
        Write::MapSet { map, field, value } => (map, "map-set", field.into(), value.into()),
        Write::MapDelete { map, field } => (map, "map-delete", field.into(), "".into()),
        Write::MapTrim { map, keep } => (map, "map-trim", keep.to_string().into(), "".into()),
    }
}

/// Takes what answers the query from the replies.
fn answer(prefix: &str, query: &Query, replies: &mut impl Iterator<Item = Value>) -> Result<Answer, String> {
    match query {
        Query::Values(keys) => {
            let values = keys.iter().zip(replies).map(|(key, value)| optional_text(value).map_err(about(prefix, key)));
            values.collect::<Result<_, _>>().map(Answer::Values)
        }
        Query::MapValues { fields, .. } if fields.is_empty() => Ok(Answer::Values(Vec::new())),
        Query::MapValues { map, .. } => {
            let values = list(replies.next()).and_then(|values| values.into_iter().map(optional_text).collect());
            values.map(Answer::Values).map_err(about(prefix, map))
        }
        Query::Fields(map) => texts(replies.next()).map(Answer::Fields).map_err(about(prefix, map)),
        Query::Map(map) => {
            let mut texts = texts(replies.next()).map_err(about(prefix, map))?.into_iter();
            Ok(Answer::Map(std::iter::from_fn(|| texts.next().zip(texts.next())).collect()))
        }
    }
}

fn about(prefix: &str, key: &str) -> impl Fn(String) -> String {
    move |wrong| format!("the key \"{prefix}{key}\": {wrong}")
}

fn list(reply: Option<Value>) -> Result<Vec<Value>, String> {
    match reply {
        Some(Value::Array(values)) => Ok(values),
        _ => Err("not a list".into()),
    }
}

fn texts(reply: Option<Value>) -> Result<Vec<String>, String> {
    list(reply)?.into_iter().map(text).collect()
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}")),
        _ => Err("not a text".into()),
    }
}

fn optional_text(value: Value) -> Result<Option<String>, String> {
    match value {
        Value::Nil => Ok(None),
        value => text(value).map(Some),
    }
}

/// Reads an address without ever repeating it: it may hold a password.
fn parse(url: &str) -> Result<ConnectionInfo, StoreError> {
    let refused = |detail: &str| StoreError::Refused { store: "redis".into(), detail: detail.into() };
    let url_parts = ::redis::parse_redis_url(url).ok_or_else(|| refused("its address is not a Redis URL"))?;
    if url.contains('@') && url_parts.username().is_empty() && url_parts.password().is_none() {
        // What was meant as a password would be taken for a part that we print.
        return Err(refused("its address is not a Redis URL: write /, # and ? in a password as %2F, %23 and %3F"));
    }
    let address = url_parts.into_connection_info();
    let address = address.map_err(|error| refused(&format!("its address is not a Redis URL: {}", words(&error))))?;
    let settings = address.redis_settings().clone();
    Ok(address.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name()))
}

/// The address without user and password.
fn label(address: &ConnectionInfo) -> String {
    let database = address.redis_settings().db();
    let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match address.addr() {
        ConnectionAddr::Tcp(host, port) => format!("redis://{}:{port}/{database}", bracketed(host)),
        ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{}:{port}/{database}", bracketed(host)),
        other => format!("unix://{other}?db={database}"),
    }
}

fn timed_out<T>() -> Result<T, RedisError> {
    Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into())
}

/// Whether the same request may succeed in a moment, on a new connection.
fn passes(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, TryAgain};
    match error.kind() {
        // A certificate that is not trusted now will not be so in a moment.
        ErrorKind::Io => !error.to_string().starts_with("invalid peer certificate"),
        // A truncated reply cannot be distinguished from an invalid one.
        ErrorKind::Parse => true,
        ErrorKind::Server(kind) => matches!(kind, BusyLoading | ClusterDown | MasterDown | TryAgain),
        _ => server_error(error).is_some_and(|(_, error)| error.code() == "BUSY"),
    }
}

fn failure(label: &str, prefix: &str, error: &RedisError, asked: &[&str]) -> StoreError {
    let store = label.to_owned();
    let wrong = server_error(error);
    match &wrong {
        _ if passes(error) || error.is_io_error() => StoreError::Unreachable { store, detail: words(error) },
        Some((index, wrong)) if wrong.code() == "WRONGTYPE" => {
            let key = asked.get(*index).copied().unwrap_or_default();
            StoreError::Unreadable { store, detail: about(prefix, key)("another type of data".into()) }
        }
        _ => StoreError::Refused { store, detail: words(error) },
    }
}

/// The first error that the server itself reported, and which command it is about.
fn server_error(error: &RedisError) -> Option<(usize, ServerError)> {
    error.clone().into_server_errors()?.first().cloned()
}

/// What happened, in one short line.
fn words(error: &RedisError) -> String {
    let all = match (error.kind(), server_error(error)) {
        (_, Some((_, error))) => format!("{} {}", error.code(), error.details().unwrap_or_default()),
        (ErrorKind::AuthenticationFailed, None) => "it does not accept this user and password".into(),
        (ErrorKind::Parse, None) => "what answers there does not speak the Redis protocol".into(),
        (_, None) => error.detail().map_or_else(|| error.to_string(), str::to_owned),
    };
    all.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect()
}
