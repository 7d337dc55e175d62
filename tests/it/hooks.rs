//! The hook of rollouts that moves traffic: no instance that serves is deleted before it, whatever fails.

use std::path::{Path, PathBuf};

use novita_sim::Op;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{BOTH, Call, MINUTE, Stage, side_by_side};
use crate::rollout_program::{call, good, is_over, living, slow, stage};

/// A hook that writes a line for each call, and fails while a file is there.
struct Traffic {
    folder: tempfile::TempDir,
}

impl Traffic {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command; `then` decides how it ends.
    fn command(&self, then: &str) -> String {
        let line = "$RESPOT_HOOK_KEY $RESPOT_OLD_ID $RESPOT_NEW_ID $RESPOT_NEW_BILLING $RESPOT_INSTANCE_NAME \
                    old=$RESPOT_OLD_ENDPOINT_8080 new=$RESPOT_NEW_ENDPOINT_8080 key=$NOVITA_API_KEY";
        format!("echo \"{line}\" >> {}; {then}", self.path("calls").display())
    }

    fn fails_while(&self, file: &Path) -> String {
        self.command(&format!("test ! -e {}", file.display()))
    }

    /// Each call as its words.
    fn calls(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }
}

fn step(stage: &Stage, hook: &str) -> (i32, Value, String) {
    let output = with(call(stage, "--yes -o json"), hook).output();
    stage.provider.advance(6 * MINUTE);
    (output.code(), output.json(), output.stderr.clone())
}

fn with(call: Call, hook: &str) -> Call {
    call.env("RESPOT_ROLLOUT_HOOK", hook).env("RESPOT_ROLLOUT_HOOK_TIMEOUT_MS", "1000")
}

fn until(stage: &Stage, hook: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..40 {
        let (_, document, _) = step(stage, hook);
        if wanted(&document["rollout"]) {
            return document;
        }
    }
    panic!("it does not come there");
}

fn deleted(stage: &Stage) -> Vec<String> {
    stage.provider.with(|world| {
        let log = world.log();
        log.iter().filter(|entry| entry.op == Op::Delete).map(|entry| entry.instance.clone()).collect()
    })
}

/// Each instance is switched once, with both addresses, before the on-demand one goes; a failing hook holds it.
#[test]
fn traffic_moves_before_the_instance_goes() {
    side_by_side(&BOTH, 2, |kind| {
        let (stage, traffic) = (stage(*kind, 2, &good()), Traffic::new());
        let block = traffic.path("block");
        std::fs::write(&block, "").unwrap();
        let hook = traffic.fails_while(&block);
        until(&stage, &hook, |it| it["state"] == "retiring");
        assert_eq!(traffic.calls(), Vec::<Vec<String>>::new(), "nothing was deleted yet");
        for _ in 0..2 {
            let (code, document, log) = step(&stage, &hook);
            assert_eq!((code, &document["rollout"]["state"]), (1, &"retiring".into()));
            assert!(log.contains("RESPOT_ROLLOUT_HOOK did not move traffic") && log.contains("exited with 1"), "{log}");
            assert!(!log.contains("echo"), "the command may hold a secret: {log}");
        }
        assert_eq!((living(&stage), traffic.calls().len()), ((2, 2), 4), "{:?}", traffic.calls());
        std::fs::remove_file(&block).unwrap();
        assert_eq!(until(&stage, &hook, is_over)["rollout"]["state"], "completed");
        let calls = traffic.calls();
        assert_eq!((living(&stage), calls.len()), ((0, 2), 6), "{calls:?}");
        let mut keys: Vec<&String> = calls.iter().map(|it| &it[0]).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 2, "one key for each switch: {calls:?}");
        for words in &calls {
            assert_eq!((words[3].as_str(), words.last().unwrap().as_str()), ("spot", "key="));
            let is_address = |word: &str| word.len() > "old=".len();
            assert!(is_address(&words[5]) && is_address(&words[6]) && words[5][4..] != words[6][4..], "{words:?}");
        }
    });
}

/// After a rollback each instance that had been ready is switched back once, also across an abort in the middle of the end.
#[test]
fn a_rollback_moves_traffic_back() {
    side_by_side(&BOTH, 2, |kind| {
        let (bad, traffic) = (stage(*kind, 2, &slow()), Traffic::new());
        let hook = traffic.command("true");
        assert_eq!(until(&bad, &hook, is_over)["rollout"]["state"], "rolled_back");
        let calls = traffic.calls();
        assert_eq!((living(&bad), calls.len()), ((2, 0), 1), "{calls:?}");
        assert_eq!((&*calls[0][2], &*calls[0][3]), (&*calls[0][4], "onDemand"), "back to the first one: {calls:?}");

        // Of two, one switch is confirmed and one fails; then it is aborted.
        let (stage, traffic) = (stage(*kind, 2, &good()), Traffic::new());
        let hook = traffic.command("test $RESPOT_INSTANCE_NAME = web-0 -o $RESPOT_NEW_BILLING = onDemand");
        until(&stage, &hook, |it| it["state"] == "retiring");
        assert_eq!(step(&stage, &hook).0, 1);
        assert_eq!(deleted(&stage), ["web-0"]);
        with(call(&stage, "abort"), &hook).output();
        assert_eq!(until(&stage, &hook, is_over)["rollout"]["state"], "aborted");
        let back: Vec<_> = traffic.calls().into_iter().filter(|it| it[3] == "onDemand").collect();
        assert_eq!((living(&stage), back.len()), ((2, 0), 2), "{back:?}");
        // The instance that was deleted has a new one, which is ready before its spot instance goes.
        let again = back.iter().find(|it| it[4] == "web-0").unwrap();
        assert!(again[2] != "web-0" && deleted(&stage).contains(&again[1]), "{back:?}");
    });
}

/// A hook that hangs is killed; a program that is killed during the hook calls it again with the same key.
#[test]
fn a_hook_that_hangs_or_is_cut_off_is_called_again() {
    side_by_side(&BOTH, 2, |kind| {
        let (stage, traffic) = (stage(*kind, 1, &good()), Traffic::new());
        let hook = traffic.command("sleep 20");
        until(&stage, &hook, |it| it["state"] == "retiring");
        let (code, _, log) = step(&stage, &hook);
        assert!(code == 1 && log.contains("did not end within 1 s"), "{code} {log}");
        let cut = with(call(&stage, "--yes"), &hook).env("RESPOT_ROLLOUT_HOOK_TIMEOUT_MS", "9000").spawn();
        while traffic.calls().len() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        cut.signal(Signal::KILL);
        cut.wait();
        stage.end_lease();
        stage.provider.advance(6 * MINUTE);
        assert_eq!(living(&stage), (1, 1));
        assert_eq!(until(&stage, &traffic.command("true"), is_over)["rollout"]["state"], "completed");
        let calls = traffic.calls();
        assert!(calls.len() == 3 && calls.iter().all(|it| it == &calls[0]), "{calls:?}");
        assert_eq!(living(&stage), (0, 1));
    });
}

/// A hook that began may have moved traffic: what it was to be moved to is deleted only after the hook has moved it back, and
/// not without the hook.
#[test]
fn a_switch_that_is_not_confirmed_is_taken_back_first() {
    side_by_side(&BOTH, 2, |kind| {
        let (stage, traffic) = (stage(*kind, 1, &good()), Traffic::new());
        let hangs = traffic.command("sleep 20");
        until(&stage, &hangs, |it| it["state"] == "retiring");
        assert_eq!(step(&stage, &hangs).0, 1);
        let abort = call(&stage, "abort").output();
        assert!(abort.all().contains("set RESPOT_ROLLOUT_HOOK again"), "{}", abort.all());
        let held = call(&stage, "--yes").output();
        assert!(held.code() == 1 && held.all().contains("set RESPOT_ROLLOUT_HOOK again"), "{}", held.all());
        assert_eq!((living(&stage), deleted(&stage).len()), ((1, 1), 0), "either may serve");
        let hook = traffic.command("true");
        assert_eq!(until(&stage, &hook, is_over)["rollout"]["state"], "aborted");
        let calls = traffic.calls();
        assert_eq!((&*calls[1][2], &*calls[1][3], calls.len()), ("web-0", "onDemand", 2), "{calls:?}");
        assert_eq!(living(&stage), (1, 0));
    });
}
