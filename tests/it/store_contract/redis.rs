//! The contract on a real Redis server, and what can happen to one.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;

use ::redis::Value;
use respot::store::redis::RedisStore;

use super::*;
use crate::harness::{Kind, Stage};
use crate::redis_server::{RedisServer, free_port};

const SECRET: &str = "s3cret";

struct Served {
    server: RedisServer,
    prefix: &'static str,
    stores: [RedisStore; 2],
}

impl World for Served {
    type Store = RedisStore;

    fn stores(&self) -> (&RedisStore, &RedisStore) {
        let [one, two] = &self.stores;
        (one, two)
    }

    /// Brings the end nearer by that much, instead of waiting.
    async fn pass(&self, key: &str, time: Duration) {
        let key = format!("{}{key}", self.prefix);
        let Value::Int(left) = self.server.raw(&["PTTL", &key]) else { panic!("a number") };
        if left < 0 {
            return;
        }
        let left = left - i64::try_from(time.as_millis()).expect("a short time");
        self.server.raw(&["PEXPIRE", &key, &left.to_string()]);
    }
}

async fn connect(server: &RedisServer, prefix: &str) -> RedisStore {
    RedisStore::connect(&server.url(), prefix).await.expect("connected")
}

/// Which error it is; in passing, that it does not tell the password.
#[track_caller]
fn kind<T>(result: Result<T, StoreError>) -> &'static str {
    let Err(error) = result else { return "ok" };
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(SECRET) && !text.contains('\n') && text.len() < 400, "{text}");
    }
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

#[tokio::test]
async fn redis_keeps_the_contract() {
    for prefix in ["respot:", "", "{a b}*?\u{e9}\r\n:"] {
        let server = RedisServer::start();
        let stores = [connect(&server, prefix).await, connect(&server, prefix).await];
        let world = Served { server, prefix, stores };
        contract(&world).await;
        let marks = world.server.raw(&["KEYS", "*:commits:*"]);
        let Value::Array(marks) = marks else { panic!("{marks:?}") };
        assert!(
            marks.iter().all(|mark| format!("{mark:?}").contains("ends:commits")),
            "only of leases lost: {marks:?}"
        );
    }
}

#[tokio::test]
async fn users_and_passwords() {
    let server = RedisServer::start_with(&["--requirepass", SECRET], &format!(":{SECRET}@"));
    server.raw(&["ACL", "SETUSER", "respot", "on", ">s3cret:/@?#%", "~r:*", "+@all"]);
    server.raw(&["ACL", "SETUSER", "reader", "on", ">s3cret", "~r:*", "+@read", "+ping", "+select"]);
    let table = [
        (format!(":{SECRET}@"), "ok"),
        (format!("default:{SECRET}@"), "ok"),
        ("respot:s3cret%3A%2F%40%3F%23%25@".into(), "ok"),
        (String::new(), "refused"),
        (":s3cret-not@".into(), "refused"),
        ("nobody:s3cret@".into(), "refused"),
    ];
    for (login, expected) in table {
        let store = RedisStore::connect(&format!("{}/3", server.url_as(&login)), "r:").await;
        let label = format!("redis://127.0.0.1:{}/3", server.port());
        match &store {
            Ok(store) => {
                assert_eq!(store.label(), label);
                assert!(!format!("{store:?}").contains(SECRET), "{store:?}");
                let lease = take(store, "lease", "t").await;
                store.commit_and_release(lease, &[set("login", &login)]).await.expect("committed");
                assert_eq!(value(store, "login").await, Some(login));
            }
            Err(error) => assert!(error.to_string().contains(&label), "{error}"),
        }
        assert_eq!(kind(store), expected);
    }
    let url = |login: &str, database: &str| format!("{}/{database}", server.url_as(login));
    let reader = RedisStore::connect(&url("reader:s3cret@", "3"), "r:").await.expect("connected");
    assert!(value(&reader, "login").await.is_some());
    assert_eq!(kind(reader.acquire("lease", "t").await), "refused");
    let outside = RedisStore::connect(&url("reader:s3cret@", "3"), "other:").await.expect("connected");
    assert_eq!(kind(outside.read(&[values(&["login"])]).await), "refused");
    assert_eq!(kind(RedisStore::connect(&url(":s3cret@", "99"), "").await), "refused");
}

#[tokio::test]
async fn an_address_that_makes_no_sense_is_not_repeated() {
    for url in [
        "",
        "s3cret",
        "http://:s3cret@127.0.0.1:1",
        "redis://",
        "redis://:s3cret@",
        "redis://:1#s3cret@127.0.0.1:1/0",
        "redis://user:1/s3cret@127.0.0.1:1/0",
        "redis://user:1?s3cret@127.0.0.1:1/0",
        "redis://:s3cret@127.0.0.1:port",
        "redis://:s3cret@127.0.0.1:1/database",
        "redis://:s3cret@0.0.0.0:1",
        "redis://:%ff-s3cret@127.0.0.1:1",
        "rediss://:s3cret@127.0.0.1:1/#s3cret",
    ] {
        assert_eq!(kind(RedisStore::connect(url, "").await), "refused", "{url}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_refused_whole() {
    let server = RedisServer::start();
    let store = connect(&server, "r:").await;
    let lease = take(&store, "lease", "t").await;
    store.commit(&lease, &[set("kept", "1"), map_set("map", "f", "1")]).await.expect("committed");
    let writes = [delete("kept"), map_set("map", "g", "1"), set("new", "1")];
    for (begin, end) in [
        (vec!["CONFIG", "SET", "maxmemory", "1"], vec!["CONFIG", "SET", "maxmemory", "0"]),
        (vec!["REPLICAOF", "127.0.0.1", "1"], vec!["REPLICAOF", "NO", "ONE"]),
        (vec!["CONFIG", "SET", "min-replicas-to-write", "1"], vec!["CONFIG", "SET", "min-replicas-to-write", "0"]),
        (vec!["ACL", "SETUSER", "default", "-set"], vec!["ACL", "SETUSER", "default", "+set"]),
    ] {
        server.raw(&begin);
        assert_eq!(kind(store.commit(&lease, &writes).await), "refused", "{begin:?}");
        assert_eq!(kind(store.acquire("other", "t").await), "refused", "{begin:?}");
        assert_eq!(value(&store, "kept").await.as_deref(), Some("1"), "{begin:?}");
        assert_eq!((value(&store, "new").await, map(&store, "map").await.len()), (None, 1), "{begin:?}");
        server.raw(&end);
        store.renew(&lease).await.expect("it goes on");
    }
    store.commit(&lease, &writes).await.expect("it goes on");
}

#[tokio::test]
async fn what_respot_did_not_write_is_unreadable() {
    let server = RedisServer::start();
    let store = connect(&server, "r:").await;
    let lease = take(&store, "lease", "t").await;
    server.raw(&["LPUSH", "r:list", "x"]);
    server.raw(&["HSET", "r:hash", "f", "x"]);
    server.raw(&["SET", "r:text", "x"]);
    server.raw(&["SETBIT", "r:bytes", "0", "1"]);
    for (query, key) in [
        (values(&["none", "list"]), "list"),
        (values(&["text", "hash"]), "hash"),
        (values(&["text", "bytes"]), "bytes"),
        (Query::Map("text".into()), "text"),
        (Query::Fields("list".into()), "list"),
        (map_values("text", &["f"]), "text"),
    ] {
        let answer = store.read(&[values(&["text"]), query]).await;
        assert!(answer.as_ref().is_err_and(|error| error.to_string().contains(&format!("\"r:{key}\""))), "{answer:?}");
        assert_eq!(kind(answer), "unreadable");
    }
    for wrong in
        [set("list", "x"), delete("hash"), map_set("text", "f", "x"), map_delete("list", "f"), map_trim("text", 1)]
    {
        let commit = store.commit(&lease, &[set("new", "1"), wrong.clone()]).await;
        assert_eq!(kind(commit), "unreadable", "{wrong:?}");
        assert_eq!(value(&store, "new").await, None, "{wrong:?}");
    }
    assert_eq!(kind(store.acquire("list", "t").await), "unreadable");
}

#[tokio::test]
async fn a_restart_is_survived_by_what_the_server_kept() {
    for (keeps, expected) in [(true, "ok"), (false, "lost")] {
        let arguments: &[&str] = if keeps { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] };
        let mut server = RedisServer::start_with(arguments, "");
        let store = connect(&server, "r:").await;
        let lease = take(&store, "lease", "t").await;
        store.commit(&lease, &[set("a", "1")]).await.expect("committed");
        server.kill();
        let back = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(300));
            server.restart();
            server
        });
        let writes = [set("b", "2")];
        let (committed, server) = join(store.commit(&lease, &writes), back).await;
        let server = server.expect("restarted");
        assert_eq!(kind(committed), expected);
        assert_eq!(value(&store, "a").await.is_some(), keeps);
        assert_eq!(value(&store, "b").await.is_some(), keeps);
        assert_eq!(kind(store.renew(&lease).await), expected);
        server.raw(&["FLUSHALL"]);
        assert_eq!(kind(store.renew(&lease).await), "lost");
    }
}

/// Time is virtual once the server is silent, so that waiting costs nothing.
#[tokio::test]
async fn a_server_that_is_gone_or_silent_is_given_up() {
    let mut server = RedisServer::start();
    let store = connect(&server, "r:").await;
    let lease = take(&store, "lease", "t").await;
    tokio::time::pause();
    for silent in [true, false] {
        if silent {
            server.freeze();
        } else {
            server.thaw();
            server.kill();
        }
        let since = Instant::now();
        assert_eq!(kind(store.commit(&lease, &[set("a", "1")]).await), "unreachable");
        assert!(since.elapsed() < Duration::from_secs(11), "{:?}", since.elapsed());
        assert_eq!(kind(store.read(&[values(&["a"])]).await), "unreachable");
        assert_eq!(kind(store.renew(&lease).await), "unreachable");
        assert_eq!(kind(RedisStore::connect(&server.url_as(":s3cret@"), "r:").await), "unreachable");
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let server = RedisServer::start();
    let store = connect(&server, "r:").await;
    let lease = take(&store, "lease", "t").await;
    server.raw(&["CLIENT", "PAUSE", "400"]);
    store.commit(&lease, &[set("a", "1")]).await.expect("late, but committed");
    server.freeze();
    let writes = [set("a", "2")];
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.thaw();
    };
    let (committed, ()) = join(store.commit_and_release(lease, &writes), thaw).await;
    committed.expect("late, but committed");
    assert_eq!(value(&store, "a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn what_is_no_redis_is_unreachable() {
    let answers: [&[u8]; 4] =
        [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"", b"SSH-2.0-x\r\n", b"\0\x15\x03\xff"];
    let attempts = answers.map(|answer| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(answer));
            }
        });
        async move { kind(RedisStore::connect(&format!("redis://:s3cret@127.0.0.1:{port}"), "").await) }
    });
    assert_eq!(join_all(attempts).await, ["unreachable"; 4]);
}

/// Which authorities are trusted is a matter of the environment, so the program itself looks with each.
#[test]
fn tls_is_verified() {
    let stage = Stage::new(Kind::Sqlite, novita_sim::World::new(1));
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("a text").to_owned();
    for name in ["ours", "other"] {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &file(&format!("{name}.key")), "-out", &file(name)])
            .output()
            .expect("the openssl command makes the certificates");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let port = free_port().to_string();
    let (certificate, key) = (file("ours"), file("ours.key"));
    let arguments = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let arguments = [&arguments[..], &["--tls-auth-clients", "no", "--requirepass", SECRET]].concat();
    let _server = RedisServer::start_with(&arguments, &format!(":{SECRET}@"));
    for (trusted, host, expected) in
        [("ours", "127.0.0.1", "ok"), ("other", "127.0.0.1", "no"), ("ours", "localhost", "no")]
    {
        let call = stage.call("run").env("SSL_CERT_FILE", file(trusted));
        let run = call.env("REDIS_URL", format!("rediss://:{SECRET}@{host}:{port}/1")).output();
        let text = run.all();
        assert_eq!(run.code(), if expected == "ok" { 0 } else { 4 }, "{trusted} {host}: {text}");
        assert_eq!(
            text.contains(&format!("store=rediss://127.0.0.1:{port}/1")),
            expected == "ok",
            "{trusted} {host}: {text}"
        );
        assert_eq!(text.contains("invalid peer certificate"), expected != "ok", "{trusted} {host}: {text}");
        assert!(!text.contains(SECRET));
    }
}
