//! The files that operators copy, tried for what they are there for: each is read, held against the program that it
//! calls, and called as far as a test machine can. That they have the form their readers want is looked after by
//! `tests/deploy`, with the readers' own checkers.

mod image;
mod kubernetes;
mod policies;
mod schedules;
mod workflow;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use respot::cli::Cli;
use respot::settings::{Environment, Settings};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::tidy::known_variables;

/// What a pass may take after its deadline: for notifications, and for a process to start.
const AFTER_THE_DEADLINE: Duration = Duration::from_secs(10 + 30);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML text.
fn documents(text: &str) -> Vec<Value> {
    let loaded = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    loaded.iter().map(to_json).collect()
}

fn to_json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(truth) => Value::Bool(*truth),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Array(items) => items.iter().map(to_json).collect(),
        Yaml::Hash(entries) => {
            entries.iter().map(|(key, value)| (key.as_str().expect("a text").to_owned(), to_json(value))).collect()
        }
        Yaml::Real(_) | Yaml::Alias(_) | Yaml::BadValue => panic!("{yaml:?} is nothing that we write"),
    }
}

/// This machine does not have or does not allow what a test needs.
#[expect(clippy::disallowed_macros, reason = "a test says what it did not test")]
fn passed_over(why: &str) {
    eprintln!("passed over: {why}");
}

/// What the program makes of a command line and an environment: both must be right in all they say.
fn settings(arguments: &[&str], environment: &[(String, String)]) -> Settings {
    for (name, _) in environment {
        let ours = known_variables().contains(name.as_str()) || name == "STATE_DIRECTORY";
        assert!(ours, "{name} is no setting");
    }
    let cli = Cli::try_parse_from([&["respot"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
    let environment: Environment = environment.iter().cloned().collect();
    Settings::load(&cli, &environment).unwrap_or_else(|error| panic!("{error}"))
}

/// The minutes of a schedule "every N minutes" as cron writes it.
fn every_minutes(schedule: &str) -> Duration {
    let minutes = schedule.strip_prefix("*/").and_then(|it| it.strip_suffix(" * * * *"));
    let minutes = minutes.and_then(|it| it.parse::<u64>().ok()).unwrap_or_else(|| panic!("the schedule {schedule}"));
    assert_eq!(60 % minutes, 0, "passes of {schedule} are not equally far apart");
    Duration::from_secs(60 * minutes)
}

/// A pass that uses its time up is not killed, and is over when the next one is due.
fn leaves_time(settings: &Settings, killed_after: Duration, grace: Duration) {
    let needed = settings.job_timeout + AFTER_THE_DEADLINE;
    assert!(needed <= killed_after, "killed after {killed_after:?}, a pass may need {needed:?}");
    assert!(killed_after + grace <= settings.interval, "{killed_after:?} and {grace:?} of grace outlast the interval");
    assert!(grace >= Duration::from_secs(45), "{grace:?} are not enough for a call in flight to end");
}

/// The calls of the program that a text shows, each as words, without what the shell does with its output.
fn calls(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = line != "```";
            continue;
        }
        let words: Vec<&str> =
            line.split_whitespace().take_while(|word| !word.starts_with(['|', '>', '#', ';'])).collect();
        let program = words.iter().rposition(|word| {
            matches!(*word, "respot" | "/usr/local/bin/respot" | "look") || word.starts_with("respot:")
        });
        if let Some(at) = program.filter(|at| in_block && calls_it(&words[..*at])) {
            found.push(words[at + 1..].iter().take_while(|word| **word != "&&").map(|it| (*it).to_owned()).collect());
        }
    }
    found
}

/// Whether what stands before the program's name lets the shell, docker or cron call it, as `mkdir respot` does not.
fn calls_it(before: &[&str]) -> bool {
    let first = before.first().copied().unwrap_or("respot");
    let scheduled = first.starts_with("*/");
    let by_docker = first == "docker" && before.contains(&"run");
    scheduled || by_docker || before.iter().all(|word| *word == "sudo" || word.contains('='))
}

#[test]
fn the_commands_of_the_guide_are_understood_and_its_files_exist() {
    let guide = read("deploy/README.md");
    let calls = calls(&guide);
    assert!(calls.len() > 15, "{calls:?}");
    for call in calls {
        let words = std::iter::once("respot").chain(call.iter().map(String::as_str));
        // Help and version are errors of the parser that are none.
        if let Some(error) = Cli::try_parse_from(words).err().filter(clap::Error::use_stderr) {
            panic!("respot {}: {error}", call.join(" "));
        }
    }
    for word in guide.split(|c: char| !(c.is_ascii_alphanumeric() || "./-_".contains(c))) {
        let word = word.trim_matches('.');
        // The table of overlays is about one folder.
        let word = &if word.starts_with("overlays/") { format!("deploy/kubernetes/{word}") } else { word.to_owned() };
        let of_ours = ["deploy/", "examples/"].iter().any(|folder| word.starts_with(folder));
        // The operator makes this one.
        if of_ours && word != "deploy/respot.env" {
            assert!(path(word).metadata().is_ok(), "deploy/README.md names {word}, which does not exist");
        }
    }
}

#[test]
fn every_file_says_the_same_version() {
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("respot:{version}");
    let changes = read("CHANGELOG.md");
    let newest = changes.lines().find(|line| line.starts_with("## [") && !line.contains("Unreleased"));
    assert!(newest.is_some_and(|it| it.starts_with(&format!("## [{version}] - 20"))), "{newest:?}");
    assert!(read("deploy/Dockerfile").contains(&format!("image.version=\"{version}\"")));
    assert!(read("deploy/kubernetes/base/kustomization.yaml").contains(&format!("newTag: {version}\n")));
    for file in ["deploy/Dockerfile", "deploy/compose.yaml", "deploy/README.md"] {
        let text = read(file);
        assert!(text.contains(&image), "{file} does not name {image}");
        for other in text.split("respot:").skip(1).filter(|it| it.starts_with(|c: char| c.is_ascii_digit())) {
            assert!(other.starts_with(version), "{file} names respot:{}", &other[..other.len().min(8)]);
        }
    }
}
