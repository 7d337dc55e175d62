//! What the documents and the sources refer to exists: files, headings, sections.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tidy::{all_files, read, root};

/// Folders below which a document may be named without its path.
const HOMES: [&str; 4] = ["", "docs", "deploy", "deploy/prometheus"];

/// Every file that may name a document: sources, documents, deployment files, examples.
fn texts() -> Vec<(PathBuf, String)> {
    let folders = ["src", "docs", "deploy", "examples", "tests/scenarios"];
    let mut paths: Vec<PathBuf> = folders.into_iter().flat_map(all_files).collect();
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(top.filter(|path| path.extension().is_some_and(|it| it == "md" || it == "toml")));
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

fn documents() -> Vec<(PathBuf, String)> {
    texts().into_iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "md")).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Words that end in `.md` and are no address on the Internet.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "./_-:{}*".contains(c)));
    let words = words.filter(|word| !word.contains("://")).map(|word| word.trim_end_matches(['.', ':']));
    words.filter(|word| word.len() > 3 && word.ends_with(".md") && !word.contains(['{', '*'])).collect()
}

#[test]
fn every_document_that_is_named_exists() {
    for (path, text) in texts() {
        for name in named(&text) {
            let homes = HOMES.iter().map(|home| root().join(home)).chain([path.parent().unwrap().to_owned()]);
            let exists = homes.into_iter().any(|home| home.join(name).metadata().is_ok());
            assert!(exists, "{} names {name}, which does not exist", shown(&path));
        }
    }
}

/// Sections of a document are named by their title: "contract, section 5" says neither which document nor what it is about.
#[test]
fn sections_belong_to_a_document() {
    for (path, text) in texts().into_iter() {
        let words = text.lines().flat_map(|line| line.trim_start().trim_start_matches(['/', '!']).split_whitespace());
        let text = words.collect::<Vec<_>>().join(" ").to_lowercase();
        for citation in ["contract's section", "contract, section", "contract section"] {
            assert!(!text.contains(citation), "{} says {citation:?}", shown(&path));
        }
    }
}

/// Whether a test of this name, or any if it is `*`, is in the files of this module.
fn is_tested(module: &[&str], test: &str) -> bool {
    let paths = ["tests/it", "src"].into_iter().flat_map(|folder| {
        let path = root().join(folder).join(module.join("/"));
        let below = if path.is_dir() { all_files(path.to_str().unwrap()) } else { Vec::new() };
        below.into_iter().chain([path.with_extension("rs")])
    });
    let has_it = |text: &str| match test {
        "*" => text.contains("#[test]") || text.contains("#[tokio::test"),
        name => text.contains(&format!("fn {name}()")),
    };
    paths.filter(|path| path.metadata().is_ok()).any(|path| has_it(&read(path)))
}

#[test]
fn the_tests_behind_the_promises_exist() {
    for (path, section) in [("README.md", "\n## The promises"), ("docs/ec2.md", "\n## What it will never do")] {
        let text = read(path);
        let promises = text.split(section).nth(1).unwrap().split("\n## ").next().unwrap();
        let tests: Vec<&str> = promises.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
        assert!(tests.len() > 10, "{tests:?}");
        for test in tests {
            let parts: Vec<&str> = test.split("::").collect();
            let (name, module) = parts.split_last().unwrap();
            assert!(is_tested(module, name), "{path} names the test {test}, which does not exist");
        }
    }
}

/// A path in the repository, written in full, as documents name them in backticks.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
    let below = |folder: &str| word.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    word.chars().all(plain) && ["src", "tests", "docs", "deploy", "examples", "benches"].into_iter().any(below)
}

#[test]
fn every_path_in_the_documents_exists() {
    for (path, text) in documents() {
        for word in prose(&text).split('`').skip(1).step_by(2).filter(|word| is_path(word)) {
            // The operator makes this one.
            let exists = root().join(word).metadata().is_ok() || word == "deploy/respot.env";
            assert!(exists, "{} names {word}, which does not exist", shown(&path));
        }
    }
}

#[test]
fn examples_of_json_are_json() {
    for (path, text) in documents() {
        for block in text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let read = serde_json::from_str::<Value>(block);
            assert!(read.is_ok(), "{}: {}\n{block}", shown(&path), read.unwrap_err());
        }
    }
}

/// Every field of a document, however deep.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                fields(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_reference_names_every_field_that_was_ever_printed() {
    let reference = read("docs/reference.md");
    let mut found = BTreeSet::new();
    for kind in ["redis", "sqlite"] {
        for line in read(format!("tests/fixtures/stores/{kind}-documents.jsonl")).lines() {
            let call: Value = serde_json::from_str(line).unwrap();
            fields(&call[1]["printed"], &mut found);
        }
    }
    assert!(found.len() > 100, "{found:?}");
    let missing: Vec<&String> = found.iter().filter(|field| !reference.contains(*field)).collect();
    assert!(missing.is_empty(), "docs/reference.md lacks {missing:?}");
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    let parts = text.split("```").step_by(2);
    parts.collect::<Vec<_>>().join("\n")
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in prose(text).lines().filter(|line| line.starts_with('#')) {
        let kept = |c: char| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        };
        let anchor: String = heading.trim_start_matches('#').trim().chars().filter_map(kept).collect();
        let another = (1..).map(|n| format!("{anchor}-{n}")).find(|it| !anchors.contains(it)).unwrap();
        anchors.insert(if anchors.contains(&anchor) { another } else { anchor });
    }
    anchors
}

/// Where the links of a document lead, addresses on the Internet left out.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

#[test]
fn links_and_anchors_resolve() {
    for (path, text) in documents() {
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.metadata().is_ok(), "{} links to {file}, which does not exist", shown(&path));
            let found = anchor.is_empty() || anchors(&read(&target)).contains(anchor);
            assert!(found, "{} links to {link}, but there is no such heading", shown(&path));
        }
    }
}

#[test]
fn headings_become_the_anchors_of_github() {
    let text = "# A tool\n## What it costs, exactly\n```text\n# no heading\n```\n### `dry-run` and _it_\n## A tool\n";
    let expected = ["a-tool", "a-tool-1", "dry-run-and-_it_", "what-it-costs-exactly"];
    assert_eq!(anchors(text), expected.map(String::from).into());
}
