//! The house rules that a compiler does not know: which module may import which, how long a file may be, and that every
//! file an operator copies names only settings and flags that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use respot::cli::{Cli, EXIT_CODES};
use respot::core::record::outbox::EVENTS;
use respot::settings::{SETTINGS, reference};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = all_files(folder);
    found.retain(|path| path.extension().is_some_and(|it| it == extension));
    found
}

/// Every file below a folder, whatever its name.
pub(crate) fn all_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Imports point one way: for each module, the others it may name.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("clock", &["core"]),
    ("stop", &[]),
    ("paths", &[]),
    ("proxies", &[]),
    ("shell", &[]),
    ("settings", &["core", "paths", "proxies", "credentials"]),
    ("tls", &["proxies"]),
    ("credentials", &["core", "paths", "proxies"]),
    ("cloud", &["core", "clock", "stop", "tls", "proxies", "credentials", "paths"]),
    ("measure", &["core", "clock", "stop", "tls", "proxies", "shell"]),
    ("notify", &["core", "clock", "settings", "report", "store", "tls", "proxies"]),
    ("store", &["core", "clock", "paths"]),
    ("report", &["core", "clock"]),
    ("act", &["core", "clock", "stop", "cloud", "store", "report"]),
    (
        "commands",
        &[
            "core", "clock", "stop", "cli", "settings", "cloud", "store", "report", "act", "measure", "notify",
            "paths", "proxies", "shell", "tls",
        ],
    ),
];

#[test]
fn imports_point_one_way() {
    for path in files("src", "rs") {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "main" | "lib") {
            continue;
        }
        let (_, allowed) = MAY_IMPORT.iter().find(|(name, _)| *name == module).unwrap_or_else(|| {
            panic!("the module {module} is in no row of MAY_IMPORT: where in the house does it live?")
        });
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap();
        for named in code.split("crate::").skip(1) {
            let named: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let fine = named == module || allowed.contains(&named.as_str());
            assert!(fine, "{} names crate::{named}, which {module} may not", relative.display());
        }
    }
}

#[test]
fn files_are_short_and_names_say_something() {
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let lines = read(&path).lines().count();
        assert!(lines <= 600, "{} has {lines} lines: the cut is wrong", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        let vague = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "service"];
        assert!(!vague.contains(&name), "{} says nothing", path.display());
    }
    let main = read("src/main.rs").lines().count();
    assert!(main < 60, "main.rs has {main} lines");
}

/// The core decides from values alone.
#[test]
fn the_core_is_pure() {
    let banned =
        ["async ", "tokio", "tracing::", "std::env", "std::fs", "std::io", "SystemTime", "Instant", "println!"];
    for path in files("src/core", "rs") {
        let text = read(&path);
        for word in banned {
            let found = text.lines().find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            // `Instance` begins like `Instant`.
            assert!(found.is_none(), "{} holds {word:?}: {found:?}", path.display());
        }
    }
}

/// Words in capitals that look like one of our variables.
fn variables(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| {
            ["NOVITA_", "MIGRATION_", "REDIS_", "RESPOT_", "WEBHOOK_"].iter().any(|prefix| word.starts_with(prefix))
        })
        .map(String::from)
        .collect()
}

fn flags(text: &str) -> BTreeSet<String> {
    text.split(|c: char| {
        c.is_whitespace() || matches!(c, '`' | '"' | '(' | ')' | '[' | ']' | '/' | ',' | '|' | '=' | '<')
    })
    .filter_map(|word| word.strip_prefix("--"))
    .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
    .map(|word| word.trim_end_matches(['.', ':', ';', '\'']).to_owned())
    .collect()
}

/// Flags of the programs that call ours, by who has them.
const FLAGS_OF_OTHERS: &[(&str, &[&str])] = &[
    ("cargo", &["release", "example", "locked", "path", "quick", "open", "bin", "target", "test"]),
    ("every program", &["help", "version"]),
    ("docker", &["rm", "read-only", "cap-drop", "security-opt", "env-file", "tag", "file", "volumes"]),
    ("docker as the Dockerfile speaks to it", &["from", "mount", "chown"]),
    ("redis-server", &["appendonly", "maxmemory-policy"]),
    ("kubectl", &["namespace", "from-file", "from-literal", "from", "dry-run", "for", "timeout", "selector", "tail"]),
    ("systemctl and journalctl", &["now", "unit", "since", "no-pager"]),
    (
        "aws",
        &[
            "actions",
            "allocation-id",
            "association-id",
            "attribute",
            "aws-service-name",
            "block-device-mappings",
            "client-token",
            "cluster-name",
            "count",
            "debug",
            "description",
            "end-time",
            "experiment-template-id",
            "filters",
            "id",
            "image-id",
            "include-managed-resources",
            "instance-id",
            "instance-ids",
            "instance-initiated-shutdown-behavior",
            "instance-market-options",
            "instance-type",
            "instance-types",
            "key-name",
            "max-results",
            "metric-data-queries",
            "network-interfaces",
            "no-paginate",
            "owners",
            "policy-document",
            "policy-name",
            "product-descriptions",
            "profile",
            "quota-code",
            "region",
            "region-names",
            "role-arn",
            "role-name",
            "service-account",
            "service-code",
            "single-availability-zone",
            "spot-instance-request-ids",
            "start-time",
            "stop-conditions",
            "subnet-id",
            "tag-specifications",
            "tags",
            "target-capacity",
            "targets",
            "user-data",
            "volume-id",
        ],
    ),
    ("deploy/aws/smoke-test", &["fis-role", "image", "long", "region", "respot", "subnet", "type"]),
    ("gh", &["body"]),
    ("apt-get, rm, jq", &["yes", "no-install-recommends", "raw-output", "args", "arg", "from-file", "rawfile"]),
];

/// Every variable that an operator may set.
pub(crate) fn known_variables() -> BTreeSet<&'static str> {
    SETTINGS.iter().map(|it| it.name).chain(["RESPOT_CONFIG"]).collect()
}

/// Variables that probes and hooks are given.
const GIVEN_TO_COMMANDS: [&str; 13] = [
    "RESPOT_INSTANCE_ID",
    "RESPOT_INSTANCE_NAME",
    "RESPOT_ENDPOINT_8080",
    "RESPOT_ADDRESS",
    "RESPOT_HOOK_KEY",
    "RESPOT_ROLLOUT_ID",
    "RESPOT_OLD_ID",
    "RESPOT_NEW_ID",
    "RESPOT_NEW_BILLING",
    "RESPOT_OLD_ENDPOINT_8080",
    "RESPOT_OLD_ADDRESS",
    "RESPOT_NEW_ADDRESS",
    "RESPOT_NEW_ENDPOINT_8080",
];

#[test]
fn what_operators_copy_names_only_what_exists() {
    let mut known_variables = known_variables();
    known_variables.extend(GIVEN_TO_COMMANDS);
    let cli = Cli::command();
    let commands = std::iter::once(&cli).chain(cli.get_subcommands());
    let mut known_flags: BTreeSet<&str> =
        commands.flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long).collect();
    known_flags.extend(FLAGS_OF_OTHERS.iter().flat_map(|(_, flags)| flags.iter().copied()));
    let mut paths = vec![root().join("README.md")];
    paths.extend(["deploy", "docs", "examples"].into_iter().flat_map(all_files));
    // Names of the provider's errors begin like our variables.
    paths.retain(|path| !path.ends_with("docs/novita-api.md"));
    for path in paths {
        let text = read(&path);
        let path = path.strip_prefix(root()).unwrap().display();
        for variable in variables(&text) {
            assert!(known_variables.contains(variable.as_str()), "{path} names {variable}, which is no setting");
        }
        for flag in flags(&text) {
            assert!(known_flags.contains(flag.as_str()), "{path} names --{flag}, which no command takes");
        }
    }
}

/// The page that lists what operators and scripts may rely on.
const REFERENCE: &str = "docs/reference.md";

#[test]
fn the_reference_has_every_setting_with_its_default_and_meaning() {
    assert!(read(REFERENCE).contains(&reference()), "{REFERENCE} lacks the table\n{}", reference());
}

#[test]
fn the_reference_has_every_event_with_its_meaning() {
    let document = read(REFERENCE);
    for (event, meaning) in EVENTS {
        let row = format!("| `{event}` | {meaning} |");
        assert!(document.contains(&row), "{REFERENCE} lacks the row\n{row}");
    }
}

#[test]
fn the_reference_has_every_exit_code() {
    let document = read(REFERENCE);
    let rows = document.split("\n## Exit codes").nth(1).expect("the table");
    for (code, _) in EXIT_CODES {
        assert!(rows.contains(&format!("\n| {code} | ")), "{REFERENCE} lacks the exit code {code}");
    }
}

#[test]
fn the_full_example_has_every_setting_and_range() {
    let example = read("examples/full.toml");
    for setting in SETTINGS {
        let key = setting.name.to_lowercase();
        let there = example.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} =")));
        assert!(there, "examples/full.toml lacks {key}");
        let range = setting.range().map(|range| format!("({range})"));
        assert!(range.is_none_or(|range| example.contains(&range)), "examples/full.toml lacks the range of {key}");
    }
}
