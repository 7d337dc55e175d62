//! Events: what they say, that no receiver loses one however badly it behaves, and that none of them costs a pass more
//! than ten seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use novita_sim::{Fate, JobRow, Spec, Volume, World};
use respot::core::record::outbox::EVENTS;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::time::Instant;

use crate::harness::{BOTH, Call, HOUR, Kind, MINUTE, Stage};
use crate::receiver::{Answer, Receiver, Told};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn run(stage: &Stage, receiver: &Receiver) -> Call {
    let call = stage.call("run -o json").env("WEBHOOK_URL", receiver.url("/hooks/token-in-the-path"));
    call.env("WEBHOOK_SECRET", SECRET).env("MIGRATION_RECREATE_WAIT_MS", "0")
}

/// Verified by the standard's own implementation, not ours.
fn verify(told: &Told) {
    let headers = told.headers.iter().map(|(name, value)| {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, http::HeaderValue::from_str(value).unwrap())
    });
    Webhook::new(SECRET).unwrap().verify(told.body.as_bytes(), &headers.collect()).expect("a good signature");
}

/// The event of this kind, which must be there once.
fn the<'a>(taken: &'a [Told], event: &str) -> &'a Told {
    let found: Vec<&Told> = taken.iter().filter(|told| told.json()["event"] == event).collect();
    assert_eq!(found.len(), 1, "{event} in {taken:?}");
    found[0]
}

/// One that comes back, one whose migration fails and that is created anew, one whose reclaim is announced.
fn world() -> World {
    let mut world = World::new(2);
    world.add(Spec::reclaimed("train-back", 60_000).id("back"));
    let local = Volume { kind: "local".into(), id: "local-1".into(), size: 60, mount_path: "/data".into() };
    let anew = Spec::reclaimed("train-anew", 60_000).id("anew").fate(Fate::FailsStuck);
    world.add(anew.with(|it| it.volumes.push(local)));
    world.add(Spec::running("train-soon").id("soon"));
    world
}

#[test]
fn every_event_is_told_once_signed_and_true() {
    for kind in BOTH {
        let (stage, receiver) = (Stage::new(kind, world()), Receiver::willing());
        let called_at = stage.provider.with(|world| world.now_ms());
        run(&stage, &receiver).output().ends_with(0);
        assert_eq!(receiver.taken().len(), 2, "two reclaims, announced before: {:?}", receiver.taken());
        stage.provider.advance(10 * MINUTE);
        stage.provider.with(|world| assert!(world.reclaim("soon")));
        for _ in 0..4 {
            run(&stage, &receiver).output().ends_with(0);
            stage.provider.advance(10 * MINUTE);
        }
        // A pass that fails, and a rehearsal of it.
        stage.fault("list:html");
        run(&stage, &receiver).output().ends_with(3);
        stage.provider.with(World::clear_faults);
        run(&stage, &receiver).env("MIGRATION_DRY_RUN", "true").output().ends_with(0);

        let taken = receiver.taken();
        let mut ids = BTreeSet::new();
        for told in &taken {
            verify(told);
            assert_eq!((told.method.as_str(), told.header("content-type")), ("POST", "application/json"));
            assert!(ids.insert(told.header("webhook-id").to_owned()), "told twice: {told:?}");
            assert!(!told.body.contains("secret"), "{told:?}");
            let event = told.json()["event"].clone();
            assert!(EVENTS.iter().any(|(known, _)| event == *known), "{event} is not in the table of events");
        }

        let back = the(&taken, "instance.migrated").json();
        let seen = stage.history()["executions"].as_array().unwrap().iter().rev().nth(1).unwrap().clone();
        let time = back["migration"]["migrationTime"].as_i64().unwrap();
        assert!((590_000..=620_000).contains(&time), "the second pass came ten minutes after the call: {time}");
        assert_eq!(back["timestamp"].as_str().unwrap()[..16], seen["startedAt"].as_str().unwrap()[..16]);
        assert!(called_at > 0);
        let expected = json!({"event": "instance.migrated", "instanceId": "back", "originalInstanceId": "back",
            "status": "running", "timestamp": back["timestamp"],
            "migration": {"reason": "spot_reclaim", "triggeredBy": "automatic_migration", "migrationTime": time,
                "reclaimAnnounced": true},
            "instance": {"id": "back", "name": "train-back", "connectionDetails": back["instance"]["connectionDetails"]}});
        assert_eq!(back, expected);
        let reachable = &back["instance"]["connectionDetails"];
        assert_eq!(reachable["ssh"], "root@host.example:30022");
        assert!(reachable["jupyter"].is_string());

        let failed = the(&taken, "instance.migration_failed").json();
        assert_eq!((&failed["instanceId"], &failed["status"]), (&"anew".into(), &"migrating".into()));
        assert!(failed["migration"]["error"].is_string(), "{failed}");
        let anew = the(&taken, "instance.recreated").json();
        let successor = stage.provider.with(|world| {
            let found = world.machines().find(|it| it.name.starts_with("train-anew-recreated-") && it.is_alive());
            found.map(|it| (it.id.clone(), it.name.clone())).unwrap()
        });
        assert_eq!(
            (anew["instanceId"].as_str(), anew["originalInstanceId"].as_str()),
            (Some(&*successor.0), Some("anew"))
        );
        assert_eq!((&anew["instance"]["name"], &anew["status"]), (&successor.1.into(), &"running".into()));
        assert_eq!(anew["instance"]["notes"], json!(["its local volume at /data is not created again"]));

        let announced: Vec<Value> =
            taken.iter().map(Told::json).filter(|it| it["event"] == "instance.reclaim_notified").collect();
        let whom: BTreeSet<&str> = announced.iter().map(|it| it["instanceId"].as_str().unwrap()).collect();
        assert_eq!(whom, ["anew", "back", "soon"].into());
        assert_eq!(announced.len(), 3);

        let lost = the(&taken, "pass.failed").json();
        assert_eq!((&lost["status"], &lost["pass"]["dryRun"]), (&"failed".into(), &false.into()));
        assert!(lost["pass"]["error"].as_str().unwrap().contains("HTML"), "{lost}");
        assert_eq!(taken.len(), 7, "{taken:?}");
        assert_eq!(stage.status()["inFlight"]["undeliveredEvents"], 0);
    }
}

/// A failed migration that nobody mends is told once; the next failure of the same instance is news again.
#[test]
fn each_failed_migration_is_told_once() {
    for kind in BOTH {
        let (stage, receiver) = (Stage::new(kind, World::new(2)), Receiver::willing());
        stage.provider.with(|world| world.add(Spec::stuck("stuck", 60_000).id("stuck")));
        let told = || receiver.taken().iter().map(|it| it.json()["event"].clone()).collect::<Vec<_>>();
        for passes in [3, 2] {
            let before = told().len();
            for _ in 0..passes {
                run(&stage, &receiver).env("MIGRATION_RETRY_FAILED", "false").output().ends_with(0);
                stage.provider.advance(15 * MINUTE);
            }
            assert_eq!(told()[before..], ["instance.migration_failed"]);
            stage.provider.with(|world| world.add_job(JobRow::migration("stuck", "fail", world.now_ms())));
        }
        // A rehearsal tells what the world does, not what it would have done itself.
        stage.provider.with(|world| world.add_job(JobRow::migration("stuck", "break", world.now_ms())));
        let before = told().len();
        run(&stage, &receiver).env("MIGRATION_DRY_RUN", "true").output().ends_with(0);
        assert_eq!(told().len(), before);
        // What is gone need not be remembered.
        stage.provider.with(|world| assert!(world.vanish("stuck")));
        let remembered = |stage: &Stage| stage.dump().keys().filter(|key| key.contains("told-failures[")).count();
        assert_eq!(remembered(&stage), 1);
        run(&stage, &receiver).output().ends_with(0);
        assert_eq!(remembered(&stage), 0);
    }
}

/// A rehearsal has a lease of its own, so it may see what a real pass sees at the same moment.
#[test]
fn a_rehearsal_beside_a_pass_tells_a_notice_as_the_same_event() {
    for kind in BOTH {
        let (stage, receiver) = (Stage::new(kind, World::new(2)), Receiver::willing());
        stage.provider.with(|world| {
            world.add(Spec::running("soon").id("soon").notified(3_000_000));
            world.add(Spec::running("late").id("late").notified(3_000_000));
        });
        stage.fault("list:delay=1500*2");
        for running in ["true", "false"].map(|dry| run(&stage, &receiver).env("MIGRATION_DRY_RUN", dry).spawn()) {
            running.wait().ends_with(0);
        }
        run(&stage, &receiver).output().ends_with(0);
        let told: BTreeSet<(String, String)> = receiver
            .taken()
            .iter()
            .map(|told| (told.header("webhook-id").to_owned(), told.json()["instanceId"].to_string()))
            .collect();
        assert_eq!(told.len(), 2, "one event for each of them: {told:?}");
    }
}

/// The first delivery of each event, by its id; all deliveries of one id are the same.
fn bodies(receiver: &Receiver) -> BTreeMap<String, String> {
    let mut bodies = BTreeMap::new();
    for (told, _) in receiver.told() {
        let body = bodies.entry(told.header("webhook-id").to_owned()).or_insert_with(|| told.body.clone());
        assert_eq!(*body, told.body);
    }
    bodies
}

#[test]
fn bad_receivers_lose_nothing_and_delay_little() {
    let manners: [(&str, fn(usize, &Told) -> Answer); 4] = [
        ("drops every other", |n, _| if n % 2 == 0 { Answer::Dropped } else { Answer::Status(200) }),
        ("says no to every other", |n, _| Answer::Status(if n % 2 == 0 { 500 } else { 202 })),
        ("hangs at first", |n, _| if n < 9 { Answer::Silence } else { Answer::Status(200) }),
        ("moved away for a while", |n, _| Answer::Status(if n < 20 { 301 } else { 200 })),
    ];
    std::thread::scope(|scope| {
        for (at, (name, manner)) in manners.into_iter().enumerate() {
            scope.spawn(move || {
                let kind = BOTH[at % 2];
                let mut world = World::new(3);
                for n in 0..10 {
                    world.add(Spec::reclaimed(&format!("train-{n}"), 60_000).id(&format!("a{n}")));
                }
                let (stage, receiver) = (Stage::new(kind, world), Receiver::with(manner));
                for pass in 0..12 {
                    let began = Instant::now();
                    run(&stage, &receiver).output().ends_with(0);
                    let took = began.elapsed();
                    assert!(took < Duration::from_secs(10), "{name}: pass {pass} took {took:?}");
                    stage.provider.advance(10 * MINUTE);
                }
                let taken: BTreeSet<String> =
                    receiver.taken().iter().map(|told| told.header("webhook-id").to_owned()).collect();
                let sent = bodies(&receiver);
                assert_eq!(taken, sent.keys().cloned().collect(), "{name}: all that was sent was taken in the end");
                let of = |event: &str| {
                    let all = sent.values().map(|body| serde_json::from_str::<Value>(body).unwrap());
                    let these = all.filter(|body| body["event"] == event);
                    these.map(|body| body["instanceId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
                };
                let everybody: BTreeSet<String> = (0..10).map(|n| format!("a{n}")).collect();
                for event in ["instance.reclaim_notified", "instance.migrated"] {
                    let these = of(event);
                    assert_eq!(these.len(), 10, "{name}: {event}");
                    assert_eq!(these.into_iter().collect::<BTreeSet<_>>(), everybody, "{name}: {event}");
                }
                assert_eq!(stage.status()["inFlight"]["undeliveredEvents"], 0, "{name}");
            });
        }
    });
}

#[test]
fn what_nobody_takes_is_shown_kept_for_three_days_and_then_given_up() {
    for kind in BOTH {
        let (stage, dead) = (Stage::new(kind, world()), Receiver::with(|_, _| Answer::Status(500)));
        let output = run(&stage, &dead).output().ends_with(0);
        assert!(output.stderr.contains("events were not delivered") && output.stderr.contains("answered 500"));
        assert_eq!(stage.status()["inFlight"]["undeliveredEvents"], 2);
        let before = dead.told().len();
        stage.provider.advance(71 * HOUR);
        run(&stage, &dead).output();
        assert!(dead.told().len() >= before + 2, "tried again");
        let twice = stage.dump().into_values().filter(|record| record.contains(r#""attempts":2,"#)).count();
        assert_eq!(twice, 2, "and counted");
        let waiting = stage.status()["inFlight"]["undeliveredEvents"].as_u64().unwrap();
        stage.provider.advance(HOUR + MINUTE);
        let output = run(&stage, &dead).output();
        assert_eq!(output.stderr.matches("event given up").count(), 2, "{}", output.stderr);
        let left = stage.status()["inFlight"]["undeliveredEvents"].as_u64().unwrap();
        assert!(left <= waiting, "{left} of {waiting}");
        // Without a receiver nothing is stored for one.
        let dump = stage.dump();
        stage.call("run -q").output();
        let outbox = |dump: &BTreeMap<String, String>| dump.keys().filter(|key| key.contains("outbox[")).count();
        assert_eq!(outbox(&stage.dump()), outbox(&dump));
    }
}

/// Killed at any moment, a pass has either stored an event with its cause, or the cause is found again.
#[test]
fn a_killed_pass_loses_no_event() {
    for kind in BOTH {
        let stage = Stage::new(kind, world());
        let receiver = Receiver::with(|n, _| if n < 2 { Answer::Silence } else { Answer::Status(200) });
        let running = run(&stage, &receiver).spawn();
        while receiver.told().len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // It was recorded and is about to be told.
        running.signal(rustix::process::Signal::KILL);
        assert_eq!(running.wait().code(), 137);
        let ids = |receiver: &Receiver| bodies(receiver).into_keys().collect::<BTreeSet<_>>();
        let tried = ids(&receiver);
        stage.end_lease();
        run(&stage, &receiver).output().ends_with(0);
        let taken: BTreeSet<_> = receiver.taken().iter().map(|told| told.header("webhook-id").to_owned()).collect();
        assert_eq!(taken, tried, "the same events under the same ids");
    }
}

/// A pass that is stopped says so itself.
#[test]
fn a_stopped_pass_is_told() {
    let (stage, receiver) = (Stage::new(Kind::Sqlite, world()), Receiver::willing());
    stage.fault("list:delay=3000");
    let running = run(&stage, &receiver).spawn();
    stage.until("it looks", |world| world.calls(novita_sim::Op::List) > 0);
    running.signal(rustix::process::Signal::TERM);
    running.wait().ends_with(6);
    assert_eq!(the(&receiver.taken(), "pass.failed").json()["status"], "interrupted");
}

#[test]
fn doctor_sends_a_test_event() {
    for (answer, code, word) in
        [(Answer::Status(204), 0, "ok"), (Answer::Status(403), 1, "FAIL"), (Answer::Dropped, 1, "FAIL")]
    {
        let (stage, receiver) = (Stage::new(Kind::Sqlite, world()), Receiver::with(move |_, _| answer));
        stage.call("run -q").output().ends_with(0);
        let before = stage.dump();
        let call = stage.call("doctor --send-test-event").env("WEBHOOK_URL", receiver.url("/hooks/token-in-the-path"));
        let output = call.env("WEBHOOK_SECRET", SECRET).output().ends_with(code);
        let line = output.stdout.lines().find(|line| line.contains(" webhook ")).unwrap();
        assert!(line.starts_with(word) && !output.all().contains("token-in"), "{output:?}");
        let told = receiver.told();
        assert!(told.iter().all(|(told, _)| told.json()["event"] == "test"), "{told:?}");
        verify(&told[0].0);
        assert_eq!(stage.dump(), before);
    }
}

#[test]
fn a_secret_and_an_address_that_fit_are_wanted() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let rows: &[(&[(&str, &str)], &[&str])] = &[
        (&[("WEBHOOK_URL", "https://hooks.example/hunter2")], &["WEBHOOK_SECRET is not", "signed"]),
        (
            &[("WEBHOOK_URL", "http://hooks.example/hunter2"), ("WEBHOOK_SECRET", "s")],
            &["invalid value for WEBHOOK_URL", "unencrypted over http:"],
        ),
        (
            &[("WEBHOOK_URL", "hunter2"), ("WEBHOOK_SECRET", "s")],
            &["invalid value for WEBHOOK_URL", "relative URL without a base"],
        ),
        (
            &[("WEBHOOK_URL", "ftp://hunter2"), ("WEBHOOK_SECRET", "s")],
            &["invalid value for WEBHOOK_URL", "unsupported scheme \"ftp\""],
        ),
        (&[("WEBHOOK_URL", "https://a/#hunter2"), ("WEBHOOK_SECRET", "s")], &["after #"]),
        (
            &[("WEBHOOK_URL", "https://a"), ("WEBHOOK_SECRET", "whsec_hunter2!")],
            &["invalid value for WEBHOOK_SECRET", "whsec_ is not valid base64"],
        ),
        (
            &[("WEBHOOK_URL", "https://a"), ("WEBHOOK_SECRET_FILE", "/no/hunter")],
            &["cannot read WEBHOOK_SECRET_FILE \"/no/hunter\""],
        ),
        (&[("RESPOT_PING_URL", "hunter2")], &["invalid value for RESPOT_PING_URL", "relative URL without a base"]),
        (
            &[("RESPOT_PUSHGATEWAY_URL", "redis://hunter2")],
            &["invalid value for RESPOT_PUSHGATEWAY_URL", "unsupported scheme \"redis\""],
        ),
    ];
    for (variables, texts) in rows {
        let call = variables.iter().fold(stage.call("run"), |call, (name, value)| call.env(name, value));
        let output = call.output().ends_with(2).says(*texts);
        assert!(!output.all().contains("hunter2"), "{}", output.all());
    }
    assert_eq!(stage.calls(), 0);
}

/// A receiver that asks to be left alone is, and one that is gone is given up.
#[test]
fn what_a_receiver_asks_for_is_done() {
    const LATER: &str = "HTTP/1.1 429 Too Many\r\nretry-after: 1200\r\ncontent-length: 0\r\n\r\n";
    const DOWN: &str = "HTTP/1.1 503 Down\r\nretry-after: 1200\r\ncontent-length: 0\r\n\r\n";
    for kind in BOTH {
        for (answer, warning) in [(Some(LATER), "answered 429"), (Some(DOWN), "answered 503"), (None, "it is gone")] {
            let mut world = World::new(2);
            for n in 0..12 {
                world.add(Spec::reclaimed(&format!("train-{n}"), 60_000).fate(Fate::NoStock));
            }
            let stage = Stage::new(kind, world);
            let receiver = Receiver::with(move |_, _| answer.map_or(Answer::Status(410), Answer::Whole));
            let told = |minutes: u64| {
                stage.provider.advance(minutes * MINUTE);
                let before = receiver.told().len();
                let output = run(&stage, &receiver).env("MIGRATION_ESCALATION", "never").output().ends_with(0);
                (receiver.told().len() - before, output, stage.status()["inFlight"]["undeliveredEvents"].clone())
            };
            let (count, output, left) = told(0);
            assert!((1..=4).contains(&count), "as many as are sent at once: {count}");
            output.says([warning]);
            assert_eq!(left, if answer.is_some() { 12 } else { 0 });
            let (count, _, left) = told(10);
            assert_eq!((count, left), (0, if answer.is_some() { 12.into() } else { 0.into() }), "{warning}");
            assert_eq!(told(11).0 > 0, answer.is_some(), "{warning}");
        }
    }
}

/// One failure and one reclaim are told once each, however long what follows takes and whatever words the provider finds.
#[test]
fn nothing_is_told_twice() {
    for kind in BOTH {
        let mut world = World::new(2);
        world.add(Spec::stuck("train-slow", 3_600_000).id("slow"));
        world.add(Spec::running("train-soon").id("soon"));
        world.rules_mut().create_step_ms = 20 * 60_000;
        let (stage, receiver) = (Stage::new(kind, world), Receiver::willing());
        let pass = || {
            let call = run(&stage, &receiver).env("MIGRATION_RECREATE_ORDER", "delete-first");
            call.output().ends_with(0);
            stage.provider.advance(15 * MINUTE);
        };
        pass();
        stage.provider.with(|world| assert!(world.reclaim("soon")));
        for word in ["notified", "reclaiming", "terminated"] {
            stage.provider.with(|world| world.edit("soon", |machine| machine.spot_status = word.into()));
            pass();
        }
        let count = |event: &str| receiver.taken().iter().filter(|told| told.json()["event"] == event).count();
        assert_eq!(count("instance.migration_failed"), 1, "{:?}", receiver.taken());
        assert_eq!(count("instance.reclaim_notified"), 1, "{:?}", receiver.taken());
    }
}
