//! What every store must do, run against each of them: `src/store/mod.rs`, sentence by sentence.

mod broken_line;
mod redis;
mod sqlite;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all};
use respot::core::world::time::Timestamp;
use respot::store::probe::probe;
use respot::store::records::Mode;
use respot::store::{Acquired, Answer, LEASE_LIFE, Lease, Query, StoreError, StoreRead, StoreWrite, Write};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Two ways into one state, and its time.
trait World {
    type Store: StoreWrite;
    /// One writer, and another that shares the state.
    fn stores(&self) -> (&Self::Store, &Self::Store);
    /// Lets time pass for what is stored under `key`.
    async fn pass(&self, key: &str, time: Duration);
}

/// The whole contract. Every part takes keys of its own.
async fn contract<W: World>(world: &W) {
    let (store, other) = world.stores();
    texts_survive(store, other).await;
    answers_come_in_order(store, other).await;
    values_end(world).await;
    the_lease_is_exclusive(store, other).await;
    the_lease_ends_and_is_renewed(world).await;
    nothing_is_written_without_the_lease(store, other).await;
    changes_are_made_in_order_and_again(store, other).await;
    maps_are_trimmed(store, other).await;
    one_racer_wins(store, other).await;
    commits_at_once_all_happen(store, other).await;
    a_probe_is_in_nobodys_way(store, other).await;
    assert_eq!(store.label(), other.label());
}

async fn take(store: &impl StoreWrite, key: &str, token: &str) -> Lease {
    match store.acquire(key, token).await.expect("an answer") {
        Acquired::Granted(lease) => {
            assert!(lease.is_valid());
            assert_eq!((lease.key(), lease.token()), (key, token));
            lease
        }
        Acquired::HeldBy { token: holder } => panic!("{key} is held by {holder}"),
    }
}

async fn holder(store: &impl StoreWrite, key: &str, token: &str) -> Option<String> {
    match store.acquire(key, token).await.expect("an answer") {
        Acquired::Granted(_) => None,
        Acquired::HeldBy { token } => Some(token),
    }
}

async fn value(store: &impl StoreRead, key: &str) -> Option<String> {
    match store.read(&[values(&[key])]).await.expect("an answer").as_slice() {
        [Answer::Values(values)] if values.len() == 1 => values[0].clone(),
        other => panic!("one value was asked for: {other:?}"),
    }
}

async fn map(store: &impl StoreRead, map: &str) -> BTreeMap<String, String> {
    let answers = store.read(&[Query::Map(map.into()), Query::Fields(map.into())]).await.expect("answers");
    let [Answer::Map(entries), Answer::Fields(fields)] = answers.as_slice() else { panic!("{answers:?}") };
    let entries: BTreeMap<_, _> = entries.iter().cloned().collect();
    let mut fields = fields.clone();
    fields.sort();
    assert_eq!(fields, entries.keys().cloned().collect::<Vec<_>>(), "the fields of {map}");
    entries
}

fn values(keys: &[&str]) -> Query {
    Query::Values(keys.iter().map(ToString::to_string).collect())
}

fn map_values(map: &str, fields: &[&str]) -> Query {
    Query::MapValues { map: map.into(), fields: fields.iter().map(ToString::to_string).collect() }
}

fn set(key: &str, value: &str) -> Write {
    Write::Set { key: key.into(), value: value.into(), life: None }
}

fn set_for(key: &str, value: &str, life: Duration) -> Write {
    Write::Set { key: key.into(), value: value.into(), life: Some(life) }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: key.into() }
}

fn map_set(map: &str, field: &str, value: &str) -> Write {
    Write::MapSet { map: map.into(), field: field.into(), value: value.into() }
}

fn map_delete(map: &str, field: &str) -> Write {
    Write::MapDelete { map: map.into(), field: field.into() }
}

fn map_trim(map: &str, keep: usize) -> Write {
    Write::MapTrim { map: map.into(), keep }
}

fn texts<const N: usize>(texts: [Option<&str>; N]) -> Answer {
    Answer::Values(texts.iter().map(|text| text.map(str::to_owned)).collect())
}

async fn texts_survive(store: &impl StoreWrite, other: &impl StoreRead) {
    let long = "0123456789abcdef".repeat(65_536);
    let nasty = [
        "",
        " ",
        "\0",
        "a\0b",
        "\u{feff}é🦀\u{202e}\u{10ffff}",
        r#"'"\`;-- %s {} [] $1 ?1"#,
        "\r\n$5\r\nhello\r\n*1\r\n",
        "-ERR",
        "1e309",
        "null",
        &long,
    ];
    let lease = take(store, "survive:lease", "t").await;
    let mut writes = Vec::new();
    for (index, text) in nasty.iter().enumerate() {
        writes.push(set(&format!("survive:{index}"), text));
        writes.push(map_set("survive:map", text, text));
        if text.len() < 100 {
            writes.push(set(&format!("survive:{text}"), text));
            writes.push(map_set(&format!("survive:map:{text}"), "field", text));
        }
    }
    store.commit(&lease, &writes).await.expect("committed");
    for (index, text) in nasty.iter().enumerate() {
        assert_eq!(value(other, &format!("survive:{index}")).await.as_deref(), Some(*text));
        if text.len() < 100 {
            assert_eq!(value(other, &format!("survive:{text}")).await.as_deref(), Some(*text));
            let answers = other.read(&[map_values(&format!("survive:map:{text}"), &["field"])]).await;
            assert_eq!(answers, Ok(vec![texts([Some(text)])]));
        }
    }
    let expected: BTreeMap<_, _> = nasty.iter().map(|text| (text.to_string(), text.to_string())).collect();
    assert!(map(other, "survive:map").await == expected);
    store.commit_and_release(lease, &[]).await.expect("released");
}

async fn answers_come_in_order(store: &impl StoreWrite, other: &impl StoreRead) {
    let lease = take(store, "order:lease", "holder").await;
    let writes = [set("order:b", "2"), set("order:a", "1"), map_set("order:m", "y", "Y"), map_set("order:m", "x", "X")];
    store.commit(&lease, &writes).await.expect("committed");
    let table = [
        (values(&["order:a", "order:none", "order:b", "order:a"]), texts([Some("1"), None, Some("2"), Some("1")])),
        (values(&[]), texts([])),
        (map_values("order:m", &["y", "none", "x", "y"]), texts([Some("Y"), None, Some("X"), Some("Y")])),
        (map_values("order:m", &[]), texts([])),
        (map_values("order:none", &["x"]), texts([None])),
        (Query::Map("order:none".into()), Answer::Map(Vec::new())),
        (Query::Fields("order:none".into()), Answer::Fields(Vec::new())),
        (values(&["order:lease"]), texts([Some("holder")])),
    ];
    for (query, answer) in &table {
        assert_eq!(other.read(std::slice::from_ref(query)).await, Ok(vec![answer.clone()]), "{query:?}");
    }
    let (queries, answers): (Vec<_>, Vec<_>) = table.into_iter().unzip();
    assert_eq!(other.read(&queries).await, Ok(answers), "all at once");
    assert_eq!(other.read(&[]).await, Ok(Vec::new()));
    store.commit_and_release(lease, &[]).await.expect("released");

    // A large question: the cooldown of each instance of a fleet.
    let keys: Vec<_> = (0..10_000).map(|n| format!("order:fleet:{n}")).collect();
    let lease = take(store, "order:lease", "holder").await;
    let writes: Vec<_> = keys.iter().step_by(2).map(|key| set_for(key, key, WEEK)).collect();
    store.commit_and_release(lease, &writes).await.expect("committed");
    let answers = other.read(&[Query::Values(keys.clone())]).await.expect("an answer");
    let expected = keys.iter().enumerate().map(|(n, key)| (n % 2 == 0).then(|| key.clone())).collect();
    assert!(answers == [Answer::Values(expected)]);
}

async fn values_end<W: World>(world: &W) {
    let (store, other) = world.stores();
    let lease = take(store, "end:lease", "t").await;
    let writes = [
        set_for("end:week", "1", WEEK),
        set_for("end:renewed", "1", SECOND),
        set_for("end:renewed", "2", WEEK),
        set_for("end:kept", "1", SECOND),
        set("end:kept", "2"),
        set_for("end:zero", "1", Duration::ZERO),
        set_for("end:long", "1", Duration::MAX),
    ];
    store.commit_and_release(lease, &writes).await.expect("committed");
    world.pass("end:zero", Duration::from_millis(10)).await;
    world.pass("end:week", WEEK - 5 * SECOND).await;
    assert_eq!(value(other, "end:week").await.as_deref(), Some("1"));
    for (key, expected) in [
        ("end:week", None),
        ("end:kept", Some("2")),
        ("end:long", Some("1")),
        ("end:zero", None),
        ("end:renewed", None),
    ] {
        if key == "end:renewed" {
            world.pass(key, WEEK).await;
        }
        world.pass(key, 10 * SECOND).await;
        assert_eq!(value(other, key).await.as_deref(), expected, "{key}");
    }
    // One that is over can be written and removed like any other.
    let lease = take(store, "end:lease", "t").await;
    store.commit_and_release(lease, &[delete("end:zero"), set("end:week", "again")]).await.expect("committed");
    assert_eq!(value(other, "end:week").await.as_deref(), Some("again"));
}

async fn the_lease_is_exclusive(store: &impl StoreWrite, other: &impl StoreWrite) {
    let lease = take(store, "exclusive", "one").await;
    assert_eq!(holder(other, "exclusive", "two").await.as_deref(), Some("one"));
    assert_eq!(holder(store, "exclusive", "one").await.as_deref(), Some("one"), "nor is it granted twice to one token");
    let elsewhere = take(other, "exclusive:elsewhere", "two").await;
    store.commit_and_release(lease, &[set("exclusive:done", "1")]).await.expect("released");
    assert_eq!(value(other, "exclusive").await, None);
    assert_eq!(value(other, "exclusive:done").await.as_deref(), Some("1"));
    other.renew(&elsewhere).await.expect("another lease is not concerned");
    let lease = take(other, "exclusive", "two").await;
    other.commit_and_release(lease, &[]).await.expect("released");
    other.commit_and_release(elsewhere, &[]).await.expect("released");
}

async fn the_lease_ends_and_is_renewed<W: World>(world: &W) {
    let (store, other) = world.stores();
    let lease = take(store, "ends", "one").await;
    for _ in 0..3 {
        world.pass("ends", 2 * LEASE_LIFE / 3).await;
        store.renew(&lease).await.expect("renewed");
        assert!(lease.is_valid());
    }
    let doubted = Lease::granted("ends", "one", Instant::now() - LEASE_LIFE);
    assert!(!doubted.is_valid());
    store.renew(&doubted).await.expect("renewed");
    assert!(doubted.is_valid());
    world.pass("ends", LEASE_LIFE - 5 * SECOND).await;
    store.commit(&lease, &[set("ends:value", "1")]).await.expect("still ours");
    assert_eq!(holder(other, "ends", "two").await.as_deref(), Some("one"), "a commit is no renewal, nor an end");

    world.pass("ends", 10 * SECOND).await;
    assert_eq!(value(other, "ends").await, None);
    for taken_by_another in [false, true] {
        let second = if taken_by_another { Some(take(other, "ends", "two").await) } else { None };
        let what = format!("taken by another: {taken_by_another}");
        assert_eq!(store.renew(&lease).await, Err(StoreError::LeaseLost), "{what}");
        assert_eq!(store.commit(&lease, &[set("ends:value", "2")]).await, Err(StoreError::LeaseLost), "{what}");
        let same = Lease::granted("ends", "one", Instant::now());
        let released = store.commit_and_release(same, &[set("ends:value", "2")]).await;
        assert_eq!(released, Err(StoreError::LeaseLost), "{what}");
        assert_eq!(value(other, "ends:value").await.as_deref(), Some("1"), "{what}");
        if let Some(second) = second {
            other.commit_and_release(second, &[set("ends:value", "3")]).await.expect("theirs is untouched");
        }
    }
    assert_eq!(value(other, "ends:value").await.as_deref(), Some("3"));
}

async fn nothing_is_written_without_the_lease(store: &impl StoreWrite, other: &impl StoreRead) {
    let lease = take(store, "fenced", "real").await;
    let before = [set("fenced:kept", "1"), map_set("fenced:map", "a", "1"), map_set("fenced:map", "b", "1")];
    store.commit(&lease, &before).await.expect("committed");
    let writes = [
        set("fenced:new", "2"),
        set("fenced:kept", "2"),
        delete("fenced:kept"),
        map_set("fenced:map", "c", "2"),
        map_delete("fenced:map", "a"),
        map_trim("fenced:map", 0),
    ];
    for (key, token) in [("fenced", "forged"), ("fenced", ""), ("fenced:none", "real"), ("fenced:kept", "real")] {
        let forged = || Lease::granted(key, token, Instant::now());
        assert_eq!(store.commit(&forged(), &writes).await, Err(StoreError::LeaseLost), "{key} {token}");
        assert_eq!(store.commit(&forged(), &[]).await, Err(StoreError::LeaseLost), "{key} {token}");
        assert_eq!(store.commit_and_release(forged(), &writes).await, Err(StoreError::LeaseLost), "{key} {token}");
        assert_eq!(store.renew(&forged()).await, Err(StoreError::LeaseLost), "{key} {token}");
    }
    assert_eq!(value(other, "fenced:new").await, None);
    assert_eq!(value(other, "fenced:kept").await.as_deref(), Some("1"));
    assert_eq!(map(other, "fenced:map").await.len(), 2);
    store.commit_and_release(lease, &writes).await.expect("the real one works on");
    assert_eq!(value(other, "fenced:new").await.as_deref(), Some("2"));
    assert_eq!(map(other, "fenced:map").await.len(), 0);
}

async fn changes_are_made_in_order_and_again(store: &impl StoreWrite, other: &impl StoreRead) {
    let lease = take(store, "again", "t").await;
    let writes = [
        set("again:first", "1"),
        delete("again:first"),
        delete("again:second"),
        set("again:second", "1"),
        set("again:second", "2"),
        delete("again:none"),
        map_set("again:map", "a", "1"),
        map_set("again:map", "b", "1"),
        map_delete("again:map", "a"),
        map_delete("again:map", "none"),
        map_delete("again:no-map", "none"),
        map_set("again:map", "c", "1"),
        map_trim("again:map", 1),
        map_trim("again:no-map", 1),
        map_set("again:map", "0", "2"),
    ];
    for round in 0..3 {
        store.commit(&lease, &writes).await.expect("committed");
        assert_eq!(value(other, "again:first").await, None, "round {round}");
        assert_eq!(value(other, "again:second").await.as_deref(), Some("2"), "round {round}");
        let entries: Vec<_> = map(other, "again:map").await.into_iter().collect();
        assert_eq!(entries, [("0".into(), "2".into()), ("c".into(), "1".into())], "round {round}");
    }
    store.commit_and_release(lease, &[]).await.expect("released");
}

async fn maps_are_trimmed(store: &impl StoreWrite, other: &impl StoreRead) {
    let lease = take(store, "trim", "t").await;
    let mut fields =
        ["", "a", "B", "Z", "a\0", "a-b", "ab", "a b", "~", "é", "É", "ß", "\u{ffff}", "\u{10000}", "10", "9"];
    fields.sort_unstable();
    for keep in (0..=fields.len() + 1).chain([usize::MAX]) {
        let mut writes: Vec<_> = fields.iter().rev().map(|field| map_set("trim:order", field, "x")).collect();
        writes.push(map_trim("trim:order", keep));
        store.commit(&lease, &writes).await.expect("committed");
        let kept: Vec<_> = map(other, "trim:order").await.into_keys().collect();
        assert_eq!(kept, fields[fields.len().saturating_sub(keep)..], "keep {keep}");
    }
    let many: Vec<_> =
        (0..10_000).map(|n| map_set("trim:many", &format!("01J{:06}", (n * 7919) % 10_000), "x")).collect();
    store.commit(&lease, &many).await.expect("committed");
    for keep in [9_999, 1_500] {
        store.commit(&lease, &[map_trim("trim:many", keep)]).await.expect("trimmed");
        let kept = map(other, "trim:many").await;
        assert_eq!(kept.len(), keep);
        assert_eq!(kept.keys().next(), Some(&format!("01J{:06}", 10_000 - keep)));
    }
    store.commit_and_release(lease, &[]).await.expect("released");
}

async fn one_racer_wins(store: &impl StoreWrite, other: &impl StoreWrite) {
    for round in 0..50 {
        let (one, two) = join(store.acquire("race", "one"), other.acquire("race", "two")).await;
        match (one.expect("an answer"), two.expect("an answer")) {
            (Acquired::Granted(lease), Acquired::HeldBy { token }) => {
                assert_eq!(token, "one", "round {round}");
                store.commit_and_release(lease, &[]).await.expect("released");
            }
            (Acquired::HeldBy { token }, Acquired::Granted(lease)) => {
                assert_eq!(token, "two", "round {round}");
                other.commit_and_release(lease, &[]).await.expect("released");
            }
            both => panic!("round {round}: {both:?}"),
        }
    }
}

async fn a_probe_is_in_nobodys_way(store: &impl StoreWrite, other: &impl StoreWrite) {
    let probed = probe(other, Timestamp::LATEST).await.expect("nothing wrong");
    assert_eq!(probed.at_work, None);
    let lease = take(store, &Mode::Real.lease_key(), "pass").await;
    for probed in <[_; 2]>::from(join(probe(store, Timestamp::LATEST), probe(other, Timestamp::LATEST)).await) {
        assert_eq!(probed.expect("nothing wrong").at_work.as_deref(), Some("pass"));
    }
    assert_eq!(store.renew(&lease).await, Ok(()));
    store.commit_and_release(lease, &[]).await.expect("released");
}

async fn commits_at_once_all_happen(store: &impl StoreWrite, other: &impl StoreRead) {
    let lease = take(store, "at-once", "t").await;
    let writes: Vec<_> = (0..20).map(|n| [map_set("at-once:map", &n.to_string(), "x")]).collect();
    let commits = join_all(writes.iter().map(|writes| store.commit(&lease, writes)));
    let (committed, renewed) = join(commits, store.renew(&lease)).await;
    assert_eq!(committed, vec![Ok(()); 20]);
    assert_eq!(renewed, Ok(()));
    assert_eq!(map(other, "at-once:map").await.len(), 20);
    store.commit_and_release(lease, &[]).await.expect("released");
}
