//! The IAM policies: whether they allow what the program calls, and leave only what their guide replaces.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read;
use crate::tidy::files;

const POLICIES: [&str; 3] = ["read", "write", "rollout"];

fn statements(policy: &str) -> Vec<Value> {
    let text = read(&format!("deploy/aws/{policy}-policy.json"));
    let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{policy}: {error}"));
    assert_eq!(document["Version"], "2012-10-17", "{policy}: an older one knows fewer words");
    document["Statement"].as_array().unwrap().clone()
}

/// A text, or a list of texts.
fn texts(value: &Value) -> BTreeSet<String> {
    let items = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    items.iter().map(|it| it.as_str().unwrap_or_else(|| panic!("{it} is no text")).to_owned()).collect()
}

/// Whatever the service. Who one is may be asked without a permission.
#[test]
fn whatever_the_program_reads_is_allowed() {
    let allowed: BTreeSet<String> = statements("read").iter().flat_map(|it| texts(&it["Action"])).collect();
    for path in files("src/cloud/ec2", "rs") {
        let text = std::fs::read_to_string(path).unwrap();
        let verbs = ["\"Describe", "\"Get"].into_iter().flat_map(|verb| text.match_indices(verb));
        for (at, _) in verbs {
            let action: String = text[at + 1..].chars().take_while(char::is_ascii_alphanumeric).collect();
            let is_allowed = allowed.iter().any(|it| it.split_once(':').is_some_and(|(_, known)| known == action));
            assert!(is_allowed || action == "GetCallerIdentity", "deploy/aws/read-policy.json lacks {action}");
        }
    }
}

/// Nothing that changes something is allowed for every resource of an account.
#[test]
fn what_writes_is_limited() {
    for policy in POLICIES {
        let mut seen = BTreeSet::new();
        for statement in statements(policy) {
            let sid = statement["Sid"].as_str().unwrap().to_owned();
            assert_eq!(statement["Effect"], "Allow", "{policy}: {sid}");
            let only_reads = texts(&statement["Action"]).iter().all(|action| {
                let verb = action.split_once(':').unwrap().1;
                ["Describe", "Get"].iter().any(|it| verb.starts_with(it)) && !verb.contains('*')
            });
            for resource in texts(&statement["Resource"]) {
                let is_narrow =
                    resource.starts_with("arn:aws:") && resource.contains("REGION") || resource.contains(":role/ROLE");
                assert!(only_reads || is_narrow, "{policy}: {sid} allows too much: {resource}");
            }
            assert!(seen.insert(sid.clone()), "{policy}: {sid} is there twice");
        }
    }
}

/// An instance is ended, stopped or launched only with a tag that says whose it is.
#[test]
fn what_touches_instances_asks_for_a_tag() {
    for policy in POLICIES {
        for statement in statements(policy) {
            let on_instances = texts(&statement["Resource"]).iter().any(|it| it.ends_with(":instance/*"));
            if on_instances {
                let condition = statement["Condition"].to_string();
                let asks = ["RequestTag/respot:origin", "ResourceTag/respot", "ec2:CreateAction"];
                assert!(asks.iter().any(|it| condition.contains(it)), "{policy}: {statement}");
            }
        }
    }
}
