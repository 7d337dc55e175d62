//! The GitHub workflow: its step is run as a runner would, by bash, with the real program and the real jq.

use std::fs;

use novita_sim::{Spec, World};
use serde_json::Value;

use super::{documents, passed_over, read};
use crate::harness::{KEY, Kind, Stage};

fn job() -> Value {
    documents(&read("deploy/github-actions/respot.yml"))[0]["jobs"]["dry-run"].clone()
}

fn plan_step() -> Value {
    let steps = job()["steps"].as_array().unwrap().clone();
    steps.into_iter().find(|it| it["id"] == "plan").unwrap()
}

struct Ran {
    code: i32,
    summary: String,
    outputs: String,
    said: String,
}

/// Whether the runner's jq is here, too.
fn has_jq() -> bool {
    let there = std::process::Command::new("jq").arg("--version").output().is_ok();
    if !there {
        passed_over("jq is missing, so no plan becomes a summary");
    }
    there
}

fn run(stage: &Stage, url: &str) -> Ran {
    let (summary, outputs) = (stage.file("summary.md", ""), stage.file("outputs", ""));
    let bin = stage.path("bin");
    fs::create_dir_all(&bin).unwrap();
    // On the real PATH it is the program; here it also gets the world's time.
    let now = respot::core::world::time::Timestamp::from_millis(stage.provider.with(|world| world.now_ms()));
    let program = format!("#!/bin/sh\nexec '{}' \"$@\" --now={now}\n", env!("CARGO_BIN_EXE_respot"));
    let program = stage.file("bin/respot", program);
    fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let step = plan_step();
    assert_eq!(step["shell"], "bash");
    let script = stage.file("step.sh", step["run"].as_str().unwrap());
    let call = stage.other("bash").arg("--noprofile").arg("--norc").arg("-eo").arg("pipefail").arg(script);
    let output = call
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
        .env("HOME", stage.path(""))
        .env("NOVITA_API_KEY", KEY)
        // What a secret that nobody made looks like.
        .env("REDIS_URL", "")
        .env("NOVITA_API_BASE_URL", url)
        .env("GITHUB_STEP_SUMMARY", &summary)
        .env("GITHUB_OUTPUT", &outputs)
        .output();
    let text = |path| fs::read_to_string(path).unwrap();
    Ran { code: output.code(), summary: text(summary), outputs: text(outputs), said: output.all() }
}

#[test]
fn a_plan_becomes_a_summary() {
    if !has_jq() {
        return;
    }
    let mut world = World::new(7);
    world.add(Spec::exited("a|b`<img src=x>*c*[d]_e_"));
    world.add(Spec::exited("trainer"));
    world.add(Spec::running("server"));
    let stage = Stage::new(Kind::Sqlite, world);
    let ran = run(&stage, &stage.provider.url());
    assert_eq!((ran.code, ran.outputs.as_str()), (0, "something-to-do=true\n"), "{}", ran.said);
    assert!(ran.said.contains("::notice"), "{}", ran.said);
    for expected in [
        "3 instances: 2 to act on, 1 left alone.",
        "| trainer | migrate | no previous migration |",
        r"| a\|b\`&lt;img src=x>\*c\*\[d\]\_e\_ | migrate |",
        r"| not\_exited | 1 |",
    ] {
        assert!(ran.summary.contains(expected), "{expected} is not in\n{}", ran.summary);
    }
}

#[test]
fn nothing_to_do_and_failures_are_told_apart() {
    if !has_jq() {
        return;
    }
    let mut world = World::new(7);
    world.add(Spec::running("server"));
    let stage = Stage::new(Kind::Sqlite, world);
    let ran = run(&stage, &stage.provider.url());
    assert_eq!((ran.code, ran.outputs.as_str()), (0, "something-to-do=false\n"), "{}", ran.said);
    assert!(ran.summary.contains("1 instances: 0 to act on") && !ran.said.contains("::notice"), "{}", ran.summary);

    let ran = run(&stage, "http://127.0.0.1:1/nothing-listens-here?");
    assert_eq!((ran.code, ran.outputs.as_str()), (2, ""), "{}", ran.said);
    assert!(ran.summary.contains("NOVITA\\_API\\_BASE\\_URL") && ran.summary.contains("**"), "{}", ran.summary);
}

#[test]
fn the_workflow_may_do_little_and_trusts_what_it_names() {
    let workflow = &documents(&read("deploy/github-actions/respot.yml"))[0];
    assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}));
    assert!(workflow["concurrency"]["group"].is_string());
    assert!(job()["timeout-minutes"].is_number());
    for step in job()["steps"].as_array().unwrap() {
        if let Some(uses) = step["uses"].as_str() {
            let commit = uses.split('@').nth(1).unwrap();
            assert!(commit.len() == 40 && commit.bytes().all(|it| it.is_ascii_hexdigit()), "{uses} can change");
            assert_eq!(step["with"]["persist-credentials"], false);
        }
    }
    for (name, value) in plan_step()["env"].as_object().unwrap() {
        assert_eq!(*value, format!("${{{{ secrets.{name} }}}}"), "a secret is called as its variable is");
    }
}
