//! What is told of a rollout: documents with their keys, screens, the history of an instance, events, metrics.

use std::collections::BTreeSet;
use std::time::Duration;

use novita_sim::World;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::time::Instant;

use crate::harness::{BOTH, Call, Kind, MINUTE, Stage, keys, side_by_side};
use crate::receiver::{Answer, Receiver, Told};
use crate::rollout_program::{call, good, is_over, next, slow, stage, told, until};

const DOCUMENT: &str = "attempts members message next rollout";
const REPORT: &str = "begunAt candidates degradation estimatedSavings failed instancesAnalyzed moved opportunities \
    pausedAt pricesReadBack probe ready realisedSavings reason restored rolloutId since stage stages state stranded \
    successRate";
const STAGE: &str = "effect instances judgedAt load onSpot percent reason soak verdict";
const EFFECT: &str = "degradation errorRateBefore errorRateChange errorRateChangeByChance errorRateNow instances \
    latencyChange moves samplesBefore samplesNow successRate";
const MEMBER: &str = "baseline estimate gpuNum id isOpen latest loadBefore loadNow name note rank readBack readyAt retiredAt \
    stage state successor undoneAt";
const MEASUREMENT: &str = "at errors givenUp latency samples untaken";
const ATTEMPT: &str = "action at errorKind instanceId instanceName newInstanceId outcome reason responseTime";

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn check_report(report: &Value) {
    assert_eq!(keys(report), REPORT);
    assert_eq!(keys(&report["estimatedSavings"]), "annual hourly monthly");
    for stage in list(report, "stages") {
        assert_eq!(keys(stage), STAGE);
        if !stage["effect"].is_null() {
            assert_eq!(keys(&stage["effect"]), EFFECT);
            assert_eq!(keys(&stage["effect"]["moves"]), "attempted succeeded");
        }
    }
}

fn check(document: &Value) {
    assert_eq!(keys(document), DOCUMENT);
    assert!(document["message"].is_string() && document["members"].is_array() && document["attempts"].is_array());
    assert_eq!(document["rollout"].is_null(), document["next"].is_null());
    if document["rollout"].is_null() {
        return;
    }
    check_report(&document["rollout"]);
    for member in list(document, "members") {
        assert_eq!(keys(member), MEMBER);
        assert_eq!(
            (keys(&member["estimate"]), keys(&member["readBack"])),
            ("onDemand spot".into(), "onDemand spot".into())
        );
        assert_eq!(keys(&member["baseline"]), MEASUREMENT);
        assert_eq!(keys(&member["baseline"]["latency"]), "least median most");
    }
    for attempt in list(document, "attempts") {
        assert_eq!(keys(attempt), ATTEMPT);
    }
}

/// One document for every word, whatever comes of it, and in every state.
#[test]
fn documents_have_their_keys() {
    side_by_side(&BOTH, 2, |kind| {
        let stage = stage(*kind, 2, &good());
        for words in ["status", "pause", "resume", "abort", "abort --wait"] {
            check(&told(&stage, words, 0));
        }
        for _ in 0..12 {
            let document = next(&stage);
            check(&document);
            check(&told(&stage, "status", 0));
            check(&told(&stage, "pause", 0));
            check(&told(&stage, "--yes", 0));
            check(&told(&stage, "resume", 0));
            let in_flight = stage.status()["inFlight"]["rollout"].clone();
            if is_over(&document["rollout"]) {
                assert_eq!(in_flight, Value::Null);
                return;
            }
            check_report(&in_flight);
            assert_eq!(in_flight["rolloutId"], document["rollout"]["rolloutId"]);
            let has_effect = list(&document["rollout"], "stages").iter().any(|it| !it["effect"].is_null());
            assert!(has_effect || document["rollout"]["stage"] == 1, "{document}");
        }
        panic!("it does not end");
    });
}

#[test]
fn failures_are_documents_too() {
    let stage = stage(Kind::Sqlite, 1, &good());
    next(&stage);
    // Words, environment, fault; code and kind.
    let rows: [(&str, (&str, &str), &str, i32, &str); 8] = [
        ("--yes", ("RESPOT_PROBE", "tcp:8080"), "", 2, "configuration"),
        ("--yes", ("RESPOT_PROBE", ""), "", 2, "configuration"),
        ("--yes --nonsense", ("A", "b"), "", 2, "usage"),
        ("--yes", ("NOVITA_API_KEY", ""), "", 2, "configuration"),
        ("--yes", ("NOVITA_API_KEY", "sk_other"), "", 3, "auth"),
        ("--yes", ("A", "b"), "list:html", 3, "api"),
        ("--yes", ("REDIS_URL", "redis://127.0.0.1:1"), "", 4, "store"),
        ("status", ("REDIS_URL", "redis://127.0.0.1:1"), "", 4, "store"),
    ];
    for (words, (name, value), fault, code, kind) in rows {
        if !fault.is_empty() {
            stage.fault(fault);
        }
        let output = call(&stage, &format!("{words} -o json")).env(name, value).output().ends_with(code);
        let document = output.json();
        assert_eq!((keys(&document), keys(&document["error"])), ("error".into(), "code hint kind message".into()));
        assert_eq!(
            (&document["error"]["code"], &document["error"]["kind"]),
            (&code.into(), &kind.into()),
            "{words} {name}"
        );
        stage.provider.with(World::clear_faults);
    }
    let output = call(&stage, "--yes").env("RESPOT_PROBE", "tcp:8080").output().ends_with(2);
    output.says(["http:8080/", "tcp:8080", "respot rollout abort"]);
    assert_eq!(stage.provider.with(|world| world.log().len()), 0);
}

/// Looking writes nothing, anywhere, at any time.
#[test]
fn looking_writes_nothing() {
    for kind in BOTH {
        let stage = stage(kind, 2, &good());
        let look = |when: &str| {
            for words in [
                "analyze",
                "analyze -o json",
                "rollout status",
                "rollout status -o json",
                "status",
                "history",
                "history --instance web-0",
                "explain web-0",
                "explain web-1 -o json",
                "status -o prometheus",
            ] {
                let (files, dump, log) = (stage.files(), stage.dump(), stage.provider.with(|world| world.log().len()));
                let call = stage.call(words).env("RESPOT_PROBE", "http:8080/").env("RESPOT_PROBE_SAMPLES", "30");
                call.output().ends_with(0);
                let after = (stage.files(), stage.dump(), stage.provider.with(|world| world.log().len()));
                assert_eq!(after, (files, dump, log), "{words} {when}");
            }
        };
        look("before it began");
        until(&stage, |it| it["state"] == "soaking");
        look("while it soaks");
        until(&stage, is_over);
        let gone = |word: &str| stage.call(word).output().ends_with(0);
        gone("explain web-0");
        look("when it is over");
    }
}

/// Switched off, or rehearsed: nothing is moved, and that is said.
#[test]
fn what_is_switched_off_moves_nothing() {
    for (name, value, said) in
        [("MIGRATION_ENABLED", "false", "MIGRATION_ENABLED"), ("MIGRATION_DRY_RUN", "true", "MIGRATION_DRY_RUN")]
    {
        let stage = stage(Kind::Sqlite, 2, &good());
        for words in ["--yes", "", "--yes --wait"] {
            let document = call(&stage, &format!("{words} -o json")).env(name, value).output().ends_with(0).json();
            assert!(document["message"].as_str().unwrap().contains(said), "{document}");
            check(&document);
            assert!(call(&stage, words).env(name, value).output().ends_with(0).stdout.contains(said));
        }
        assert_eq!((stage.dump().len(), stage.provider.with(|world| world.log().len())), (0, 0), "{name}");
        until(&stage, |it| it["state"] == "soaking");
        let (dump, log) = (stage.dump(), stage.provider.with(|world| world.log().len()));
        for words in ["--yes", "--yes --wait"] {
            stage.provider.advance(10 * MINUTE);
            call(&stage, words).env(name, value).output().ends_with(0);
        }
        assert_eq!((stage.dump(), stage.provider.with(|world| world.log().len())), (dump, log), "{name}");
    }
}

/// Whoever asks about an instance is told what the rollout did, and health knows nothing of it.
#[test]
fn the_history_of_an_instance_has_what_a_rollout_did() {
    for kind in BOTH {
        let stage = stage(kind, 2, &good());
        stage.pass(0);
        until(&stage, |it| it["state"] == "soaking");
        // A pass leaves alone what is moved, and nothing that is said of it sounds otherwise.
        let explained = stage.call("explain web-0 -o json").output().ends_with(0).json();
        let acts =
            |it: &&Value| it["outcome"].as_str().is_some_and(|outcome| outcome.ends_with("act") || outcome == "acts");
        assert_eq!(list(&explained, "rules").iter().find(acts), None, "{explained}");
        assert!(explained.to_string().contains("a rollout moves it to spot"), "{explained}");
        stage.pass(0);
        let document = until(&stage, |it| it["state"] == "completed");
        let member = list(&document, "members").iter().find(|it| it["name"] == "web-0").unwrap().clone();
        let new = member["successor"].as_str().unwrap();
        let life = |wanted: &str| {
            let words = format!("history -o json --instance {wanted}");
            stage.call(&words).output().ends_with(0).json()
        };
        let of_old = life("web-0");
        assert_eq!(of_old["ids"], json!(["web-0", new]));
        let events: Vec<(String, String, String)> = list(&of_old, "life")
            .iter()
            .map(|it| {
                ["event", "outcome", "instanceId"].map(|name| it[name].as_str().unwrap_or_default().to_owned()).into()
            })
            .collect();
        for wanted in [("create", "accepted", "web-0"), ("delete", "accepted", "web-0")] {
            let wanted = (wanted.0.to_owned(), wanted.1.to_owned(), wanted.2.to_owned());
            assert_eq!(events.iter().filter(|it| **it == wanted).count(), 1, "{wanted:?} in {events:?}");
        }
        let steps: BTreeSet<&str> = list(&of_old, "life").iter().filter_map(|it| it["jobId"].as_str()).collect();
        assert!(!steps.is_empty() && steps.iter().all(|id| id.starts_with("rollout-step-")), "{steps:?}");
        let told: Vec<&str> = list(&of_old, "executions").iter().map(|it| it["jobId"].as_str().unwrap()).collect();
        assert!(told.iter().all(|id| steps.contains(id)) && told.is_sorted_by(|a, b| a > b), "{told:?} of {steps:?}");
        assert_eq!(life(new)["life"], of_old["life"], "asked by the new id");
        for wanted in ["web-0", new] {
            let shown = stage.call(&format!("history --instance {wanted}")).screen(80);
            assert!(shown.contains(&format!("replaced by {new}")), "{shown}");
            assert!(shown.contains("[rollout step 01") && !shown.contains("[pass"), "{shown}");
            assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
            let shown = stage.call(&format!("explain {wanted}")).screen(80);
            assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
            let explained = stage.call(&format!("explain {wanted} -o json")).output().ends_with(0).json();
            assert!(list(&explained, "attempts").iter().any(|it| it["event"] == "create"), "{explained}");
        }
        // Passes are those of `run` alone.
        let history = stage.history();
        assert_eq!((&history["total"], list(&history, "executions").len()), (&json!(2), 2));
        let status = stage.status();
        assert_eq!(status["statistics"]["totalExecutions"], 2);
        assert_eq!(status["statistics"]["totalRecreations"], 0);
        assert_eq!(
            status["inFlight"],
            json!({"migrations": 0, "recreations": 0, "rollout": null, "quarantined": 0, "undeliveredEvents": 0})
        );
        let metrics = stage.call("status -o prometheus").output().ends_with(0).stdout;
        assert!(!metrics.contains("rollout-step"), "{metrics}");
    }
}

/// A rollout whose steps fail does not make passes look ill, nor the other way round.
#[test]
fn health_is_that_of_passes() {
    let stage = stage(Kind::Sqlite, 2, &good());
    until(&stage, |it| it["state"] == "soaking");
    assert_eq!(stage.status()["migrationService"]["status"], "never_executed");
    stage.pass(0);
    stage.provider.advance(MINUTE);
    stage.fault("list:html");
    for _ in 0..6 {
        call(&stage, "--yes").output().ends_with(3);
    }
    let status = stage.status();
    assert_eq!(
        (&status["migrationService"]["status"], &status["migrationService"]["recentErrors"]),
        (&"healthy".into(), &0.into())
    );
    assert_eq!(status["statistics"]["totalExecutions"], 1);
    let shown = stage.call("doctor").env("RESPOT_PROBE", "http:8080/").output();
    assert!(!shown.stdout.contains("rollout-step"), "{}", shown.stdout);
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn telling(call: Call, receiver: &Receiver) -> Call {
    let call = call.env("WEBHOOK_URL", receiver.url("/hooks/token-in-the-path")).env("WEBHOOK_SECRET", SECRET);
    call.env("RESPOT_PING_URL", receiver.url("/ping"))
}

fn verify(told: &Told) {
    let headers = told.headers.iter().map(|(name, value)| {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, http::HeaderValue::from_str(value).unwrap())
    });
    Webhook::new(SECRET).unwrap().verify(told.body.as_bytes(), &headers.collect()).expect("a good signature");
}

/// Calls until it is over, with a receiver; answers how it ended.
fn told_to(stage: &Stage, receiver: &Receiver) -> Value {
    for _ in 0..20 {
        let begun = Instant::now();
        let output = telling(call(stage, "--yes -o json"), receiver).output();
        assert!(matches!(output.code(), 0 | 1), "{output:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert!(!output.all().contains("token-in-the-path"), "{}", output.all());
        stage.provider.advance(6 * MINUTE);
        if is_over(&output.json()["rollout"]) {
            return output.json();
        }
    }
    panic!("it does not end");
}

#[test]
fn events_arrive_once_signed_and_with_their_keys() {
    for kind in BOTH {
        for (app, end) in [(good(), "rollout.completed"), (slow(), "rollout.rolled_back")] {
            let (stage, receiver) = (stage(kind, 2, &app), Receiver::willing());
            told_to(&stage, &receiver);
            let taken = receiver.taken();
            assert!(
                taken.iter().all(|it| it.path == "/hooks/token-in-the-path"),
                "the dead man's switch is for passes"
            );
            let mut ids = BTreeSet::new();
            let mut names = Vec::new();
            for event in &taken {
                verify(event);
                assert!(ids.insert(event.header("webhook-id").to_owned()), "told twice: {event:?}");
                let body = event.json();
                let name = body["event"].as_str().unwrap().to_owned();
                if name == "instance.recreated" {
                    assert_eq!(keys(&body), "event instance instanceId migration originalInstanceId status timestamp");
                    assert_eq!(body["migration"]["reason"], "rollout", "{body}");
                } else {
                    assert_eq!(keys(&body), "event rollout status timestamp", "{body}");
                    assert_eq!(body["status"], body["rollout"]["state"]);
                    check_report(&body["rollout"]);
                }
                names.push(name);
            }
            assert_eq!(names.iter().filter(|it| **it == end).count(), 1, "{names:?}");
            let recreated = names.iter().filter(|it| *it == "instance.recreated").count();
            assert_eq!(recreated, if end == "rollout.completed" { 2 } else { 0 }, "{names:?}");
            assert!(
                names[0] == "rollout.advanced" && names.iter().filter(|it| *it == "rollout.advanced").count() >= 3,
                "{names:?}"
            );
            assert_eq!(stage.status()["inFlight"]["undeliveredEvents"], 0);
        }
    }
}

#[test]
fn a_dead_receiver_fails_nothing() {
    let manners: [fn(usize, &Told) -> Answer; 2] = [|_, _| Answer::Dropped, |_, _| Answer::Silence];
    side_by_side(&manners, 2, |manner| {
        let (stage, receiver) = (stage(Kind::Sqlite, 1, &good()), Receiver::with(*manner));
        assert_eq!(told_to(&stage, &receiver)["rollout"]["state"], "completed");
        let waiting = stage.status()["inFlight"]["undeliveredEvents"].as_u64().unwrap();
        assert!(waiting >= 4, "{waiting}");
        // Whoever takes them later gets them all, from a pass as well.
        let willing = Receiver::willing();
        telling(stage.call("run -q"), &willing).output().ends_with(0);
        let hooks = willing.taken().iter().filter(|it| it.path.starts_with("/hooks")).count();
        assert_eq!(u64::try_from(hooks).unwrap(), waiting);
    });
}

/// `doctor` says whether an open rollout goes on by itself.
#[test]
fn doctor_knows_an_open_rollout() {
    for kind in BOTH {
        let stage = stage(kind, 2, &good());
        let found = |probe: &str| {
            let document = stage.call("doctor -o json").env("RESPOT_PROBE", probe).output().json();
            let checks = document["checks"].as_array().unwrap().iter();
            let found: Vec<_> = checks.filter(|it| it["check"] == "rollout").cloned().collect();
            assert!(found.len() <= 1, "{found:?}");
            found.first().map(|it| (it["status"].as_str().unwrap().to_owned(), it.to_string()))
        };
        let has = |probe: &str, status: &str, words: &str| {
            let (its, text) = found(probe).expect("a finding");
            assert!(its == status && text.contains(words), "{its} {text}");
        };
        assert_eq!(found("http:8080/"), None, "there is none yet");
        until(&stage, |it| it["state"] == "soaking");
        has("http:8080/", "ok", "soaking; next: ");
        has("tcp:22", "warning", "set RESPOT_PROBE back");
        stage.provider.advance(40 * MINUTE);
        has("http:8080/", "warning", "schedule respot rollout --yes");
        told(&stage, "pause", 0);
        has("http:8080/", "warning", "respot rollout resume");
        told(&stage, "abort", 0);
        until(&stage, is_over);
        assert_eq!(found("http:8080/"), None, "it is over");
    }
}
