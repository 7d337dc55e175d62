//! The real program and its rollouts, over real HTTP, with real stores: what a person does with it, call by call, and
//! what every call answers. What a rollout decides is tested in `rollouts`; here it has a process around it.

use novita_sim::{App, Change, Machine, Op, World};
use serde_json::{Value, json};

use crate::harness::{BOTH, Call, Kind, MINUTE, Stage, keys, side_by_side};
use crate::rollouts::web;
use crate::successors::{deleted_last, nothing_twice, quick};

/// Its successors are so much faster that no gate fails, however busy the machine is that runs the test.
pub(crate) fn good() -> App {
    App::http(8080).base_us(12_000).jitter_us(500).spot(Change::to_us(6_000))
}

/// It takes three times as long on spot.
pub(crate) fn slow() -> App {
    App::http(8080).base_us(8_000).jitter_us(500).spot(Change::to_us(24_000))
}

pub(crate) fn stage(kind: Kind, count: usize, app: &App) -> Stage {
    let mut world = quick(7);
    for number in 0..count {
        let name = format!("web-{number}");
        world.add(web(number, app.clone()).id(&name).image(&format!("registry.example/{name}:1")));
    }
    Stage::new(kind, world)
}

/// `respot rollout` with these words, and all it needs for this fleet.
pub(crate) fn call(stage: &Stage, words: &str) -> Call {
    let call = stage.call(&format!("rollout {words}")).env("RESPOT_PROBE", "http:8080/");
    let call = call.env("RESPOT_PROBE_SAMPLES", "30").env("MIGRATION_RECREATE_WAIT_MS", "3000");
    call.env("RESPOT_ROLLOUT_MAY_LOSE", "web-*")
}

/// A call of it that ends like this; answers its document.
pub(crate) fn told(stage: &Stage, words: &str, code: i32) -> Value {
    call(stage, &format!("{words} -o json")).output().ends_with(code).json()
}

/// The next call of the schedule, and some minutes until the one after that.
pub(crate) fn next(stage: &Stage) -> Value {
    let output = call(stage, "--yes -o json").output();
    assert!(matches!(output.code(), 0 | 1), "{output:?}");
    stage.provider.advance(6 * MINUTE);
    output.json()
}

/// Calls until the rollout is where it is wanted.
pub(crate) fn until(stage: &Stage, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut said = Vec::new();
    for _ in 0..40 {
        let document = next(stage);
        if wanted(&document["rollout"]) {
            return document;
        }
        said.push(document["message"].clone());
    }
    panic!("it does not come there: {said:#?}");
}

pub(crate) fn is_over(rollout: &Value) -> bool {
    ["completed", "rolled_back", "aborted", "failed"].iter().any(|end| rollout["state"] == *end)
}

/// How many live on-demand, and how many as spot.
pub(crate) fn living(stage: &Stage) -> (usize, usize) {
    stage.provider.with(|world| {
        let of = |mode: &str| world.machines().filter(|it| Machine::is_alive(it) && it.billing_mode == mode).count();
        (of("onDemand"), of("spot"))
    })
}

fn writes(stage: &Stage) -> usize {
    stage.provider.with(|world| world.log().len())
}

fn reason_of(stage: &Stage) -> (Value, Value) {
    let document = told(stage, "status", 0);
    (document["rollout"]["state"].clone(), document["rollout"]["reason"].clone())
}

/// Nobody said that it may begin.
#[test]
fn without_consent_nothing_is_begun() {
    for kind in BOTH {
        let stage = stage(kind, 2, &good());
        for words in ["", "--wait", "--new", "--stages 50,100 --rollback stage", "--max-moves 1"] {
            let output = call(&stage, words).output().ends_with(2).says(["confirmation required", "hint: ", "--yes"]);
            assert_eq!(output.stdout, "", "{words}");
            let error = told(&stage, words, 2)["error"].clone();
            assert_eq!((keys(&error), &error["kind"]), ("code hint kind message".into(), &"consent".into()), "{words}");
        }
        assert_eq!((writes(&stage), living(&stage)), (0, (2, 0)));
        assert!(stage.dump().is_empty(), "{:?}", stage.dump());
    }
}

#[test]
fn at_a_terminal_it_asks_and_yes_is_yes() {
    // What is typed; whether it begins.
    let rows = [
        ("yes\n", true),
        (" YES \n", true),
        ("y\n", false),
        ("no\n", false),
        ("\n", false),
        ("", false),
        ("yes please\n", false),
        ("no\nyes\n", false),
    ];
    side_by_side(&rows, 4, |(typed, begins)| {
        let stage = stage(Kind::Sqlite, 3, &good());
        let (code, shown) = call(&stage, "").dialog(typed);
        assert_eq!(code, if *begins { 0 } else { 2 }, "{shown}");
        for part in ["3 on-demand instances become spot instances", "Type yes to start: "] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        // Errors are not folded: whoever looks for their words in a log finds them.
        let folded = |line: &str| line.contains("error: ") || line.starts_with("hint: ") || line.chars().count() <= 80;
        assert!(shown.lines().all(folded), "{shown}");
        assert_eq!(stage.stored("rollout").is_some(), *begins);
        assert_eq!(writes(&stage), 0, "the first call measures; nothing is moved yet");
    });
    // Nobody is asked who wants a document, or who has said yes, or when there is nothing to move.
    let stage = stage(Kind::Sqlite, 1, &good());
    assert_eq!(call(&stage, "-o json").dialog("yes\n").0, 2);
    let (code, shown) = call(&stage, "").env("RESPOT_ROLLOUT_MAY_LOSE", "").dialog("yes\n");
    assert!(code == 0 && shown.contains("nothing to move") && !shown.contains("Type yes"), "{shown}");
    let (code, shown) = call(&stage, "--yes").dialog("");
    assert!(code == 0 && shown.contains("started with 1 instance") && !shown.contains("Type yes"), "{shown}");
}

#[test]
fn calls_alone_bring_it_to_the_end() {
    for kind in BOTH {
        let stage = stage(kind, 5, &good());
        let mut states = Vec::new();
        loop {
            let document = told(&stage, "--yes", 0);
            let now = (document["rollout"]["state"].clone(), document["rollout"]["stage"].clone());
            let (on_demand, spot) = living(&stage);
            assert!(on_demand == 5 || !["moving", "soaking", "held"].iter().any(|state| now.0 == *state), "{now:?}");
            assert!(on_demand + spot >= 5);
            if states.last() != Some(&now) {
                states.push(now.clone());
            }
            if is_over(&document["rollout"]) {
                break;
            }
            stage.provider.advance(6 * MINUTE);
            assert!(states.len() < 20, "{states:?}");
        }
        let expected = [
            ("moving", json!(1)),
            ("soaking", json!(1)),
            ("moving", json!(2)),
            ("soaking", json!(2)),
            ("moving", json!(3)),
            ("soaking", json!(3)),
            ("retiring", json!(null)),
            ("completed", json!(null)),
        ];
        assert_eq!(states, expected.map(|(state, stage)| (json!(state), stage)));
        assert_eq!(living(&stage), (0, 5));
        stage.provider.with(|world| {
            nothing_twice(world);
            deleted_last(world);
            assert_eq!((world.applied(Op::Create), world.applied(Op::Delete)), (5, 5));
        });
        // And nothing ever happens again, unless another one is asked for.
        let dump = stage.dump();
        for words in ["--yes", "--yes --wait", "", "pause", "resume", "abort", "abort --wait"] {
            let document = told(&stage, words, 0);
            assert!(
                document["message"].as_str().is_some_and(|it| it.starts_with("the last rollout ended")),
                "{words}: {document}"
            );
            assert_eq!(document["rollout"]["state"], "completed", "{words}");
        }
        assert_eq!(writes(&stage), 10);
        let rest = |dump: &std::collections::BTreeMap<String, String>| {
            dump.iter()
                .filter(|(key, _)| !key.contains("rollout-steps["))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(rest(&stage.dump()), rest(&dump));
        let again = told(&stage, "--new --yes", 0);
        assert!(again["message"].as_str().is_some_and(|it| it.starts_with("nothing to move")), "{again}");
        assert_eq!((&again["rollout"], again["members"].as_array().map(Vec::len)), (&Value::Null, Some(0)));
        assert_eq!(told(&stage, "status", 0)["rollout"]["state"], "completed", "what was is not forgotten for that");
        stage.provider.with(|world| world.add(web(9, good()).id("web-9").image("registry.example/web-9:1")));
        let again = told(&stage, "--new --yes", 0);
        assert_eq!((&again["rollout"]["state"], &again["rollout"]["candidates"]), (&json!("moving"), &json!(1)));
        assert_eq!(
            told(&stage, "--new --yes", 0)["rollout"]["rolloutId"],
            again["rollout"]["rolloutId"],
            "one at a time"
        );
    }
}

#[test]
fn a_rollback_is_an_error_of_the_call_that_goes_back() {
    for kind in BOTH {
        let stage = stage(kind, 3, &slow());
        let mut codes = Vec::new();
        let said = loop {
            let output = call(&stage, "--yes -o json").output();
            codes.push(output.code());
            let document = output.json();
            if is_over(&document["rollout"]) {
                break document;
            }
            stage.provider.advance(6 * MINUTE);
            assert!(codes.len() < 20, "{codes:?}: {document}");
        };
        let reason = said["rollout"]["reason"].as_str().unwrap().to_owned();
        assert!(reason.starts_with("the 10 % stage failed: degraded by "), "{reason}");
        assert_eq!(said["rollout"]["state"], "rolled_back");
        let first = codes.iter().position(|code| *code == 1).unwrap();
        assert!(
            codes[..first].iter().all(|code| *code == 0) && codes[first..].iter().all(|code| *code == 1),
            "{codes:?}"
        );
        assert_eq!(living(&stage), (3, 0));
        for words in ["--yes", "", "status", "--yes --wait", "pause", "resume", "abort", "abort --wait"] {
            assert_eq!(told(&stage, words, 0)["rollout"]["reason"], reason, "{words}");
            let shown = call(&stage, words).output().ends_with(0).stdout;
            assert!(shown.contains("rolled back") && shown.contains("degraded by"), "{shown}");
        }
        let screen = call(&stage, "status").screen(80);
        assert!(screen.lines().all(|line| line.chars().count() <= 80) && screen.contains("fail"), "{screen}");
    }
}

/// `--wait` takes the steps itself; where nothing has to be waited for it is quick.
#[test]
fn waiting_goes_on_until_it_is_over() {
    let stage = stage(Kind::Sqlite, 2, &good());
    next(&stage);
    until(&stage, |it| it["state"] == "soaking");
    let document = told(&stage, "abort --wait", 0);
    assert_eq!((&document["rollout"]["state"], living(&stage)), (&"aborted".into(), (2, 0)), "{document}");
    assert!(!document["attempts"].as_array().unwrap().is_empty());

    let failing = self::stage(Kind::Sqlite, 2, &slow());
    next(&failing);
    until(&failing, |it| it["state"] == "soaking");
    let output = call(&failing, "--yes --wait -o json").output().ends_with(1);
    assert_eq!((&output.json()["rollout"]["state"], living(&failing)), (&"rolled_back".into(), (2, 0)));
    assert!(output.stderr.contains("rolling back: "), "{}", output.stderr);
    let later = call(&failing, "--yes --wait -o json").output();
    assert_eq!((later.code(), &later.json()["rollout"]["state"]), (0, &"rolled_back".into()));
}

/// What a person says, in every state; what it answers, and where it is then.
#[test]
fn a_person_is_heard_in_every_state() {
    let states = ["none", "moving", "soaking", "retiring", "rolling_back", "completed"];
    side_by_side(&states, 3, |state| {
        let stage = match *state {
            "rolling_back" => {
                let stage = stage(Kind::Sqlite, 2, &slow());
                stage.fault("delete:status=500");
                stage
            }
            _ => stage(Kind::Redis, 2, &good()),
        };
        if *state != "none" {
            until(&stage, |it| it["state"] == *state);
        }
        if *state == "none" {
            for words in ["status", "pause", "resume", "abort", "abort --wait"] {
                let document = told(&stage, words, 0);
                assert_eq!(document["rollout"], Value::Null, "{words}");
                let message = document["message"].as_str().unwrap();
                assert!(
                    message.starts_with("there has been no rollout yet") || message.starts_with("there is no rollout"),
                    "{words}: {message}"
                );
            }
            return;
        }
        let is_over = *state == "completed";
        let said = |words: &str, wanted: &str| {
            let document = told(&stage, words, 0);
            let message = document["message"].as_str().unwrap();
            let wanted = if is_over { "the last rollout ended" } else { wanted };
            assert!(message.starts_with(wanted), "{state} {words}: {message}");
            document
        };
        let before = writes(&stage);
        said("resume", "it is not paused");
        said("pause", "paused: ");
        said("pause", "it is paused already");
        if !is_over {
            let paused = told(&stage, "--yes", 0);
            assert!(paused["message"].as_str().unwrap().contains("paused"), "{paused}");
            let waited = told(&stage, "--yes --wait", 0);
            assert!(waited["message"].as_str().unwrap().contains("paused"), "who waits is not kept waiting: {waited}");
            assert!(told(&stage, "status", 0)["rollout"]["pausedAt"].is_string());
            stage.provider.advance(600 * MINUTE);
            next(&stage);
        }
        said("resume", "resumed: ");
        assert_eq!(writes(&stage), before, "{state}");
        stage.provider.with(World::clear_faults);
        let document = told(&stage, "abort --wait", 0);
        let (end, lives) = if is_over || *state == "retiring" { ("completed", (0, 2)) } else { ("aborted", (2, 0)) };
        assert_eq!(living(&stage).0 + living(&stage).1, 2, "{document}");
        if *state != "retiring" {
            assert_eq!(
                (document["rollout"]["state"].as_str(), living(&stage)),
                (Some(end), lives),
                "{state}: {document}"
            );
        }
    });
}

/// How it goes is said by flags, too.
#[test]
fn flags_shape_it() {
    // Words; the stages with their instances; candidates.
    let rows: [(&str, &[(u64, u64)], u64); 5] = [
        ("", &[(10, 1), (50, 1), (100, 2)], 4),
        ("--stages 50,100", &[(50, 2), (100, 2)], 4),
        ("--stages 100", &[(100, 4)], 4),
        ("--max-moves 2", &[(10, 1), (50, 0), (100, 1)], 2),
        ("--only web-1 --only web-2 --exclude web-2", &[(10, 1), (50, 0), (100, 0)], 1),
    ];
    side_by_side(&rows, 3, |(words, stages, candidates)| {
        let stage = stage(Kind::Sqlite, 4, &good());
        let document = told(&stage, &format!("{words} --soak 1,2 --yes"), 0);
        let rollout = &document["rollout"];
        let found: Vec<(u64, u64)> = rollout["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["percent"].as_u64().unwrap(), it["instances"].as_u64().unwrap()))
            .collect();
        assert_eq!((&found[..], rollout["candidates"].as_u64()), (*stages, Some(*candidates)), "{words}");
        let soaks: Vec<i64> =
            rollout["stages"].as_array().unwrap().iter().map(|it| it["soak"].as_i64().unwrap()).collect();
        assert_eq!(soaks, [60_000, 120_000, 120_000][..soaks.len()], "{words}");
        // With a share that is not all of them, the rest is never touched.
        if words.contains("max-moves") {
            until(&stage, is_over);
            assert_eq!(living(&stage), (2, 2));
        }
    });
}

/// With `--rollback stage` what passed stays.
#[test]
fn one_stage_alone_goes_back_if_that_was_said() {
    let app = good().spot(Change::to_us(40_000).when(novita_sim::Condition::moved_above(30)));
    let stage = stage(Kind::Sqlite, 4, &app);
    told(&stage, "--yes --stages 25,100 --rollback stage", 0);
    let end = until(&stage, is_over);
    assert_eq!(end["rollout"]["state"], "rolled_back", "{end}");
    assert_eq!(living(&stage), (3, 1), "{end}");
    assert!(reason_of(&stage).1.as_str().unwrap().starts_with("the 100 % stage failed"), "{end}");
}
