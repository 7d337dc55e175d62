//! The shape of the source, read from the sources themselves: which room of `core` may use which, no circles of files,
//! and one definition for each type name.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{files, read, root};

/// The rooms of `core`, in their order: each may use itself and those before it.
const CORE: [&str; 5] = ["world", "recreation", "pass", "rollout", "record"];

/// A source file without its unit tests and comments, by its path below `src`.
fn sources() -> BTreeMap<String, String> {
    let all = files("src", "rs").into_iter().map(|path| {
        let name = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
        (name, read(&path))
    });
    all.filter(|(name, _)| !name.ends_with("tests.rs") && !name.contains("/tests/")).collect()
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The module of a file: `core/pass/plan.rs` and `core/pass/plan/mod.rs` are both `core::pass::plan`.
fn module(name: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
    if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
        parts.pop();
    }
    parts
}

/// Every path that a `use` tree names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(prefix: &[&str], tree: &str, found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    if let Some(group) = tree.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !group[start..at].trim().is_empty() {
                        leaves(prefix, &group[start..at], found);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    match tree.split_once("::") {
        Some((head, rest)) => leaves(&[prefix, &[head.trim()]].concat(), rest, found),
        None => {
            let name = tree.split_whitespace().next().unwrap_or_default();
            found.push(prefix.iter().map(|it| (*it).to_owned()).chain([name.to_owned()]).collect());
        }
    }
}

/// The crate paths that `code` names, in `use` trees and in place, as seen from the module `here`.
fn named(code: &str, here: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        let rest = &code[at..];
        let end = if code[..at].ends_with("use ") {
            rest.find(';').unwrap()
        } else {
            rest.find(|c| !is_word(c) && c != ':').unwrap_or(rest.len())
        };
        let mut tree = rest[..end].trim_end_matches(':');
        let mut base = here.to_vec();
        while let Some(rest) = tree.strip_prefix("super::") {
            base.pop();
            tree = rest;
        }
        if let Some(rest) = tree.strip_prefix("crate::") {
            base.clear();
            tree = rest;
        }
        leaves(&base, tree, &mut found);
    }
    found
}

/// For each file the files it uses. A parent and its own children are one capability and may use each other.
fn edges(sources: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let modules: BTreeMap<Vec<&str>, &str> = sources.keys().map(|name| (module(name), name.as_str())).collect();
    let owner = |path: &[String]| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        (1..=path.len()).rev().find_map(|n| modules.get(&path[..n]).copied())
    };
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, text) in sources.iter().filter(|(name, _)| *name != "lib.rs" && *name != "main.rs") {
        let here = module(name);
        for path in named(&code(text), &here) {
            let Some(used) = owner(&path) else { continue };
            let there = module(used);
            if !there.starts_with(&here) && !here.starts_with(&there) {
                edges.entry(name).or_default().insert(used);
            }
        }
    }
    edges
}

#[test]
fn the_rooms_of_the_core_stand_in_one_order() {
    let sources = sources();
    let room = |name: &str| {
        let rest = name.strip_prefix("core/")?;
        CORE.iter().position(|room| rest.starts_with(&format!("{room}/")))
    };
    for name in sources.keys().filter(|name| name.starts_with("core/") && *name != "core/mod.rs") {
        assert!(room(name).is_some(), "{name} is in no room of core: {CORE:?}");
    }
    for (name, used) in edges(&sources).iter().flat_map(|(name, used)| used.iter().map(move |it| (*name, *it))) {
        if let (Some(here), Some(there)) = (room(name), room(used)) {
            assert!(there <= here, "{name} uses {used}, but {} stands before {}", CORE[here], CORE[there]);
        }
    }
}

#[test]
fn no_files_form_a_circle() {
    let sources = sources();
    let mut edges = edges(&sources);
    // Files that use nothing that is left cannot be part of a circle.
    while let Some(leaf) =
        edges.iter().find_map(|(name, used)| (!used.iter().any(|it| edges.contains_key(it))).then_some(*name))
    {
        edges.remove(leaf);
    }
    assert!(edges.is_empty(), "files in or before a circle: {:?}", edges.keys().collect::<Vec<_>>());
}

#[test]
fn a_type_name_means_one_thing() {
    let mut defined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, text) in sources() {
        for line in code(&text).lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
                Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
                None => rest,
            });
            let mut words = line.split_whitespace();
            if let (Some("struct" | "enum" | "trait" | "type"), Some(word)) = (words.next(), words.next()) {
                let word: String = word.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                defined.entry(word).or_default().insert(name.clone());
            }
        }
    }
    // An associated type of an operator, not a name of ours.
    defined.remove("Output");
    defined.retain(|_, files| files.len() > 1);
    assert_eq!(defined, BTreeMap::new(), "one name, several types");
}
