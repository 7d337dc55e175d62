//! The GitHub workflows: the step that they share is run as a runner would, by bash, with the real program and the real jq.

use std::fs;

use novita_sim::{Spec, World};
use serde_json::Value;

use super::{documents, passed_over, read};
use crate::harness::{KEY, Kind, Stage};
use crate::tidy::known_variables;

/// The workflow for Novita, and that for Amazon EC2.
const WORKFLOWS: [&str; 2] = ["respot.yml", "respot-ec2.yml"];

/// What a step writes the summary with, from the checkout.
const SUMMARY: &str = "deploy/github-actions/summary.jq";

fn workflow(file: &str) -> Value {
    documents(&read(&format!("deploy/github-actions/{file}")))[0].clone()
}

fn plan_step(workflow: &Value) -> Value {
    let steps = workflow["jobs"]["dry-run"]["steps"].as_array().unwrap().clone();
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
    stage.file(SUMMARY, read(SUMMARY));
    let step = plan_step(&workflow(WORKFLOWS[0]));
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
    let [novita, ec2] = WORKFLOWS.map(workflow);
    assert_eq!(novita["permissions"], serde_json::json!({"contents": "read"}));
    assert_eq!(ec2["permissions"], serde_json::json!({"contents": "read", "id-token": "write"}));
    assert_ne!(novita["concurrency"]["group"], ec2["concurrency"]["group"]);
    for workflow in [&novita, &ec2] {
        assert!(workflow["concurrency"]["group"].is_string());
        assert!(workflow["jobs"]["dry-run"]["timeout-minutes"].is_number());
        for step in workflow["jobs"]["dry-run"]["steps"].as_array().unwrap() {
            if let Some(uses) = step["uses"].as_str() {
                let (action, commit) = uses.split_once('@').unwrap();
                assert!(commit.len() == 40 && commit.bytes().all(|it| it.is_ascii_hexdigit()), "{uses} can change");
                let keeps = action == "actions/checkout" && step["with"]["persist-credentials"] != false;
                assert!(!keeps, "{uses} leaves a token behind");
            }
        }
        for (name, value) in plan_step(workflow)["env"].as_object().unwrap() {
            let stored = ["secrets", "vars"].map(|of| format!("${{{{ {of}.{name} }}}}"));
            let is_chosen = name == "RESPOT_PROVIDER" && value == "ec2";
            assert!(is_chosen || stored.iter().any(|it| value == it), "{name} is called as its variable is");
            assert!(known_variables().contains(name.as_str()), "{name} is no setting");
        }
    }
    let (of_novita, of_ec2) = (plan_step(&novita), plan_step(&ec2));
    assert_eq!((&of_novita["run"], &of_novita["shell"]), (&of_ec2["run"], &of_ec2["shell"]), "what is tested above");
}
