//! Rollouts in trouble: damaged records, a provider that fails, a probe that reaches nobody, secrets in the wrong places.

use std::collections::BTreeMap;

use novita_sim::{App, Op, World};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{BOTH, HOUR, KEY, Kind, MINUTE, Stage, side_by_side};
use crate::receiver::Receiver;
use crate::rollout_program::{call, good, is_over, living, next, slow, stage, told, until};
use crate::successors::{deleted_last, each_has_one, nothing_twice};

fn writes(stage: &Stage) -> usize {
    stage.provider.with(|world| world.log().len())
}

fn fields(stage: &Stage, map: &str) -> BTreeMap<String, String> {
    let dump = stage.dump().into_iter();
    let of = |key: &str| Some(key.split_once(&format!("{map}["))?.1.trim_end_matches(']').to_owned());
    dump.filter_map(|(key, text)| Some((of(&key)?, text))).collect()
}

fn newer(text: &str) -> String {
    let mut record: Value = serde_json::from_str(text).unwrap();
    for name in ["v", "version", "format", "formatVersion"] {
        if let Some(version) = record.get_mut(name) {
            *version = json!(99);
            return record.to_string();
        }
    }
    panic!("no version in {text}");
}

/// Whatever cannot be read stops the call before the provider is asked to change anything, and is named.
#[test]
fn what_cannot_be_read_stops_it() {
    type Damage = fn(&str) -> String;
    let cut: Damage = |text| text[..text.len() / 2].to_owned();
    let damages: [(&str, Damage); 4] =
        [("cut", cut), ("empty", |_| String::new()), ("other", |_| "[1, 2]".into()), ("newer", newer)];
    let rows: Vec<_> = BOTH
        .into_iter()
        .flat_map(|kind| ["rollout", "rollout-members", "recreations"].map(|what| (kind, what)))
        .collect();
    side_by_side(&rows, 3, |(kind, what)| {
        let stage = stage(*kind, 2, &good());
        until(&stage, |it| it["state"] == "soaking");
        let before = writes(&stage);
        for (name, damage) in damages {
            let put = |text: &str| match *what {
                "rollout" => stage.put("rollout", text),
                _ => stage.put_field(what, "web-0", text),
            };
            let key = if *what == "rollout" { "rollout" } else { "web-0" };
            let good = match *what {
                "rollout" => stage.stored("rollout").unwrap(),
                // The one that was moved first is the one with a journal.
                _ => fields(&stage, what).remove("web-0").unwrap_or_else(|| panic!("{:?}", fields(&stage, what))),
            };
            put(&damage(&good));
            for words in ["--yes", "abort", "pause", "--yes --new"] {
                let output = call(&stage, words).output();
                // What the journal holds does not matter to a person who holds it.
                if *what == "recreations" && words == "pause" {
                    continue;
                }
                let output = output.ends_with(4);
                assert!(output.stderr.contains(key), "{what} {name} {words}: {}", output.stderr);
                assert_eq!(output.stderr.contains("newer"), name == "newer", "{what}: {}", output.stderr);
            }
            assert_eq!(writes(&stage), before, "{what} {name}");
            put(&good);
            told(&stage, "resume", 0);
        }
        assert_eq!(until(&stage, is_over)["rollout"]["state"], "completed", "{what}");
    });
}

/// Members that are missing are not made up, and nothing is done to whom they were about.
#[test]
fn members_that_are_missing_are_missed() {
    let stage = stage(Kind::Sqlite, 3, &good());
    until(&stage, |it| it["state"] == "soaking");
    let gone = stage.open_sqlite().execute("DELETE FROM maps WHERE map = 'rollout-members' AND field = 'web-0'", []);
    assert_eq!(gone.unwrap(), 1);
    let before = writes(&stage);
    let output = call(&stage, "--yes").output();
    assert_eq!((output.code(), writes(&stage)), (4, before), "{}", output.all());
    output.says(["rollout-members: 2 records, and rollout-01", "has 3"]);
}

#[test]
fn what_is_measured_otherwise_is_not_compared() {
    let stage = stage(Kind::Sqlite, 1, &good());
    next(&stage);
    let token = "exec:curl -H token-f00d http://127.0.0.1/";
    for (probe, label) in
        [("tcp:8080", "tcp:8080"), ("http:8080/other", "http:8080/other"), (token, "exec:#"), ("", "none")]
    {
        for words in ["--yes", "--yes --wait"] {
            let output = call(&stage, words).env("RESPOT_PROBE", probe).output().ends_with(2);
            let output = output.says(["http:8080/", label, "respot rollout abort"]);
            assert!(!output.all().contains("token-f00d"), "{}", output.all());
        }
    }
    // To end it no probe is needed, nor to hold it.
    for words in ["status", "pause", "resume", "abort --wait"] {
        let output = call(&stage, &format!("{words} -o json")).env("RESPOT_PROBE", "").output().ends_with(0);
        assert!(output.json()["rollout"]["rolloutId"].is_string());
    }
    let output = call(&stage, "--new --yes").env("RESPOT_PROBE", "").output().ends_with(2);
    output.says(["RESPOT_PROBE is not set", "tcp:22"]);
}

/// A fault while the second stage is moved; the codes that calls may end with then. When it is over, so is the rollout.
#[test]
fn a_provider_in_trouble_delays_and_doubles_nothing() {
    let rows: [(&str, &[i32]); 14] = [
        ("any:refuse", &[3]),
        ("any:status=503", &[3]),
        ("list:html", &[3]),
        ("list:empty", &[3, 5]),
        ("list:status=429", &[3]),
        ("jobs:status=500", &[3]),
        ("create:status=503,effect", &[0, 1]),
        ("create:cut-after*1", &[0, 1]),
        ("create:malformed*1", &[0, 1]),
        ("create:late=30000*1", &[0, 1]),
        ("delete:status=500*3", &[0, 1]),
        ("get:status=500*4", &[0, 1, 3]),
        ("any:status=429,retry-after=1*3", &[0, 1]),
        ("any:delay=150", &[0, 1]),
    ];
    let rows: Vec<_> = rows.into_iter().enumerate().collect();
    side_by_side(&rows, 7, |(at, (fault, codes))| {
        let stage = stage(BOTH[at % 2], 3, &good());
        until(&stage, |it| it["state"] == "moving" && it["stage"] == 2);
        stage.fault(fault);
        let output = call(&stage, "--yes").limit(60).output();
        assert!(codes.contains(&output.code()), "{fault}: {output:?}");
        stage.provider.advance(2 * MINUTE);
        stage.provider.with(World::clear_faults);
        let end = until(&stage, is_over);
        stage.provider.with(|world| {
            each_has_one(world, &["web-0", "web-1", "web-2"].map(String::from));
            nothing_twice(world);
            deleted_last(world);
        });
        assert!(end["rollout"]["state"] != "failed", "{fault}: {end}");
        if !fault.starts_with("create:malformed") && !fault.starts_with("get:") {
            assert_eq!((&end["rollout"]["state"], living(&stage)), (&"completed".into(), (0, 3)), "{fault}: {end}");
        }
    });
}

/// Less is listed than there is: nothing is decided, nothing begun.
#[test]
fn an_incomplete_listing_is_no_ground_to_act_on() {
    for at in ["begin", "soaking", "retiring", "rolling_back"] {
        let stage = stage(Kind::Sqlite, 2, &if at == "rolling_back" { slow() } else { good() });
        if at == "rolling_back" {
            stage.fault("delete:status=500");
        }
        if at != "begin" {
            until(&stage, |it| it["state"] == at);
        }
        let before = writes(&stage);
        stage.provider.with(World::clear_faults);
        stage.fault("list:lying-total=3");
        for words in ["--yes", "abort"] {
            let output = call(&stage, words).output();
            let is_nothing = at == "begin" && words == "abort";
            assert_eq!(output.code(), if is_nothing { 0 } else { 5 }, "{at} {words}: {output:?}");
        }
        assert_eq!(writes(&stage), before, "{at}");
    }
}

/// The application cannot be reached any more, neither the old one nor the new one: that is no pass, and no delay either.
#[test]
fn an_application_that_cannot_be_reached_passes_no_gate() {
    for kind in BOTH {
        let stage = stage(kind, 2, &good());
        until(&stage, |it| it["state"] == "soaking");
        stage.provider.with(|world| {
            let images: Vec<String> = world.machines().map(|it| it.image_url.clone()).collect();
            images.iter().for_each(|image| world.remove_apps(image));
        });
        let begun = Instant::now();
        let document = until(&stage, is_over);
        assert!(begun.elapsed().as_secs() < 40, "{:?}", begun.elapsed());
        assert_eq!((&document["rollout"]["state"], living(&stage)), (&"rolled_back".into(), (2, 0)), "{document}");
    }
}

/// A command may hold a token. It is the operator's own, so it is run, and shown to nobody.
#[test]
fn the_command_of_a_probe_is_a_secret() {
    for kind in BOTH {
        let (stage, receiver) = (stage(kind, 2, &App::http(8080).base_us(1_000)), Receiver::willing());
        let file = stage.path("environment");
        let command = format!(
            "exec:env > {}; sleep 0.0$(( $(date +%N | tail -c 4 | sed 's/^0*//;s/^$/0/') % 5 + 1 )); : token-f00d",
            file.display()
        );
        let run = |words: &str| {
            let call = call(&stage, words).env("RESPOT_PROBE", &command).env("PATH", "/usr/bin:/bin");
            let call = call.env("WEBHOOK_URL", receiver.url("/hook")).env("WEBHOOK_SECRET", "s3cret-of-hooks");
            let output = call.env("RUST_LOG", "trace").output();
            let all = output.all();
            assert!(!all.contains("token-f00d") && !all.contains("s3cret-of-hooks"), "{words}: {all}");
            stage.provider.advance(6 * MINUTE);
            output
        };
        run("--yes -vv").ends_with(0);
        // It fails before it can be over.
        stage.fault("list:html");
        run("--yes").ends_with(3);
        stage.provider.with(World::clear_faults);
        for words in [
            "--yes -vv",
            "--yes -o json",
            "--yes -vv --log-format json",
            "status -o json",
            "status",
            "--yes --only nobody",
        ] {
            let output = run(words);
            assert!(matches!(output.code(), 0 | 1), "{words}: {output:?}");
        }
        let rollout: Value = serde_json::from_str(&stage.stored("rollout").unwrap()).unwrap();
        assert!(rollout.to_string().contains("exec:#"), "{rollout}");
        run("abort --wait -o json").ends_with(0);
        for (key, text) in stage.dump() {
            assert!(!text.contains("token-f00d") && !text.contains(KEY) && !text.contains("s3cret"), "{key}: {text}");
        }
        for told in receiver.taken() {
            assert!(!told.body.contains("token-f00d"), "{told:?}");
        }
        assert!(!receiver.taken().is_empty());
        let environment = std::fs::read_to_string(file).expect("the command ran");
        for secret in [KEY, "s3cret-of-hooks", "NOVITA_API_KEY", "WEBHOOK_SECRET", "REDIS_URL"] {
            assert!(!environment.contains(secret), "{secret} in {environment}");
        }
        assert_eq!(
            stage.provider.with(|world| world.applied(Op::Create)),
            stage.provider.with(|world| world.applied(Op::Delete))
        );
    }
}

/// After a rollback another rollout of the same instances is a new one, and not confused by what is remembered.
#[test]
fn what_went_back_can_be_moved_again() {
    for kind in BOTH {
        let stage = stage(kind, 2, &slow());
        assert_eq!(until(&stage, is_over)["rollout"]["state"], "rolled_back");
        stage.provider.with(|world| {
            let images: Vec<String> = world.machines().map(|it| it.image_url.clone()).collect();
            images.iter().for_each(|image| world.set_app(image, good()));
        });
        assert_eq!(told(&stage, "--new --yes", 0)["rollout"]["state"], "moving");
        let document = until(&stage, is_over);
        assert_eq!((&document["rollout"]["state"], living(&stage)), (&"completed".into(), (0, 2)), "{document}");
        stage.provider.with(|world| deleted_last(world));
    }
}

/// Deletions that are accepted and never happen.
#[test]
fn a_rollout_that_does_not_end_is_said() {
    for (state, words) in [("retiring", "--yes"), ("soaking", "abort")] {
        let stage = stage(Kind::Sqlite, 2, &good());
        until(&stage, |it| it["state"] == state);
        stage.fault("delete:status=200");
        call(&stage, words).output().ends_with(0);
        assert!(!stage.status()["migrationService"]["message"].to_string().contains("rollout"));
        stage.provider.advance(3 * HOUR);
        let output = call(&stage, "--yes").output().ends_with(1);
        for text in [&output.stdout, &output.stderr] {
            assert!(
                text.contains("not finished after 3 h") && text.contains("it waits for web-0 (web-0)"),
                "{state}: {output:?}"
            );
        }
        stage.call("run -q").output().ends_with(0);
        let check = stage.call("status --check").output().ends_with(1);
        assert!(check.stdout.contains("the rollout has not finished for hours"), "{}", check.stdout);
        let metrics = stage.call("status -o prometheus").output().ends_with(0).stdout;
        let now = if words == "abort" { "rolling_back" } else { "retiring" };
        for line in ["respot_rollout_overdue 1\n", &format!("respot_rollout_state{{state=\"{now}\"}} 1\n")] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
        assert!(metrics.contains("respot_rollout_instances{state=\"failed\"} 0"), "{metrics}");
        stage.provider.with(World::clear_faults);
        until(&stage, is_over);
        stage.call("run -q").output().ends_with(0);
        stage.call("status --check").output().ends_with(0);
    }
}

/// The record of a rollout is gone, and its moves are not.
#[test]
fn moves_of_a_lost_rollout_are_taken_over() {
    for kind in BOTH {
        let stage = stage(kind, 2, &good());
        until(&stage, |it| it["state"] == "soaking");
        let lost = match &stage.redis {
            Some(redis) => {
                let _ = redis.raw(&["DEL", "respot:rollout", "respot:rollout-members"]);
                2
            }
            None => {
                let store = stage.open_sqlite();
                store.execute("DELETE FROM maps WHERE map = 'rollout-members'", []).unwrap()
                    + store.execute(r#"DELETE FROM "values" WHERE key = 'rollout'"#, []).unwrap()
            }
        };
        assert!(lost > 0);
        let abort = call(&stage, "abort").output().ends_with(1);
        assert!(abort.all().contains("moves of one whose record was lost are open: 1"), "{abort:?}");
        // The first pass of the store, which is not empty.
        let pass = stage.call("run").output().ends_with(0);
        assert!(!pass.stderr.contains("the store is empty"), "{}", pass.stderr);
        let check = stage.call("status --check").output().ends_with(1);
        assert!(check.stdout.contains("the record of a rollout was lost"), "{}", check.stdout);
        let document = until(&stage, is_over);
        assert_eq!((&document["rollout"]["state"], living(&stage)), (&"completed".into(), (0, 2)), "{document:#}");
        stage.call("run -q").output().ends_with(0);
        stage.call("status --check").output().ends_with(0);
    }
}

#[test]
fn options_that_come_too_late_are_said() {
    let stage = stage(Kind::Sqlite, 2, &good());
    next(&stage);
    let output = call(&stage, "--yes --only nothing --stages 50").output().ends_with(0);
    assert!(output.stderr.contains("since a rollout has started: --only, --stages"), "{}", output.stderr);
}
