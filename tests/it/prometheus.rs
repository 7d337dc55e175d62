//! Metrics, alerts and the dashboard: they name only what exists, tell only what is so, and Prometheus understands them.
#![expect(clippy::disallowed_macros, reason = "says which checks could not be made")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use novita_sim::{Fate, Spec, World};
use respot::report::prometheus::{Kind as Type, METRICS};
use serde_json::Value;

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage};

fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deployed(path)).unwrap()
}

/// Words that look like one of our metrics; of the samples of a histogram, its name.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let histograms = || METRICS.iter().filter(|it| it.kind == Type::Histogram).map(|it| it.name);
    words
        .filter(|word| word.starts_with("respot_") && word.len() > "respot_".len())
        .map(|word| {
            let is_sample =
                |of: &&str| word.strip_prefix(*of).is_some_and(|it| ["_bucket", "_sum", "_count"].contains(&it));
            histograms().find(is_sample).unwrap_or(word)
        })
        .collect()
}

/// The samples of a text by their metric and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

fn counters(text: &str) -> BTreeMap<String, f64> {
    let is_counter = |sample: &str| {
        let name = sample.split('{').next().unwrap();
        METRICS.iter().any(|it| name.starts_with(it.name) && it.kind != Type::Gauge)
    };
    samples(text).into_iter().filter(|(name, _)| is_counter(name)).map(|(name, value)| (name.into(), value)).collect()
}

/// Calls promtool; says so, and that is all, where it is not installed.
fn promtool(words: &[&str], input: &str) {
    let spawned = Command::new("promtool")
        .args(words)
        .current_dir(deployed("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        println!("promtool is not installed: not checked: promtool {}", words.join(" "));
        return;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    assert!(output.status.success(), "promtool {}: {said}\n{input}", words.join(" "));
}

#[test]
fn rules_tests_and_dashboard_name_only_metrics_that_exist() {
    let known: BTreeSet<&str> = METRICS.iter().map(|it| it.name).collect();
    assert_eq!(known.len(), METRICS.len(), "each name once");
    for path in [
        "prometheus/respot.rules.yml",
        "prometheus/respot.rules.test.yml",
        "prometheus/README.md",
        "grafana/respot.json",
    ] {
        let text = read(path);
        let named = metrics_in(&text);
        assert!(named.len() > 5, "{path} names only {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "deploy/{path} names {unknown:?}");
    }
}

#[test]
fn the_documentation_has_every_metric_and_every_alert() {
    let (readme, rules, tests) =
        (read("prometheus/README.md"), read("prometheus/respot.rules.yml"), read("prometheus/respot.rules.test.yml"));
    for metric in METRICS {
        let row = format!("| `{}` | {} | {} |", metric.name, metric.kind.into_str(), metric.help);
        assert!(readme.contains(&row), "deploy/prometheus/README.md lacks the row\n{row}");
    }
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(readme.contains(&format!("| `{alert}` |")), "deploy/prometheus/README.md lacks {alert}");
        let named = format!("alertname: {alert}\n");
        let cases = tests.split(&named).skip(1);
        let silent = |case: &str| case.trim_start().starts_with("exp_alerts: []");
        let (quiet, loud): (Vec<&str>, Vec<&str>) = cases.partition(|case| silent(case));
        assert!(!quiet.is_empty() && !loud.is_empty(), "{alert} must be tested to fire and not to fire");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: Value = serde_json::from_str(&read("grafana/respot.json")).unwrap();
    assert_eq!(dashboard["__inputs"][0]["name"], "DS_PROMETHEUS");
    assert_eq!(dashboard["__inputs"][0]["pluginId"], "prometheus");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another panel");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${DS_PROMETHEUS}", "{title}");
            assert!(!metrics_in(target["expr"].as_str().unwrap()).is_empty(), "{title}");
        }
    }
    assert!(panels.len() >= 12);
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    promtool(&["check", "rules", "respot.rules.yml"], "");
    promtool(&["test", "rules", "respot.rules.test.yml"], "");
}

#[test]
fn metrics_of_real_passes_are_complete_and_counters_never_go_down() {
    for kind in BOTH {
        let mut world = World::new(31);
        world.rules_mut().create_step_ms = 0;
        for (id, fate) in [("a", Fate::Succeeds), ("b", Fate::FailsStuck), ("c", Fate::Succeeds)] {
            world.add(Spec::exited(&format!("train-{id}")).id(id).fate(fate));
        }
        let stage = Stage::new(kind, world);
        let scrape = || {
            let text = stage.call("status -o prometheus").output().ends_with(0).stdout;
            promtool(&["check", "metrics"], &text);
            text
        };
        let mut before = counters(&scrape());
        assert!(before.values().all(|value| *value == 0.0), "{before:?}");
        for n in 0..6 {
            if n == 3 {
                stage.fault("list:status=401*9");
            }
            let code = stage.call("run -q").output().code();
            assert!(code == 0 || n == 3, "pass {n} ended with {code}");
            stage.provider.with(World::clear_faults);
            let after = counters(&scrape());
            for (name, value) in &after {
                assert!(*value >= before[name], "{name} went down from {} to {value}", before[name]);
            }
            before = after;
            stage.provider.advance(15 * MINUTE);
        }
        let text = scrape();
        let there = metrics_in(&text);
        let history = stage.history();
        let recorded = |part: &str, names: &[&str]| {
            let executions = history["executions"].as_array().unwrap().iter();
            executions.flat_map(|it| names.iter().map(|name| it[part][*name].as_u64().unwrap())).sum::<u64>()
        };
        let known = |name: &str| match name {
            // Nobody is told of events here.
            "respot_oldest_undelivered_event_timestamp_seconds" => false,
            "respot_refused_calls_total" => stage.dump().values().any(|record| record.contains("\"refused\":")),
            // There was none.
            name if name.starts_with("respot_rollout_") => false,
            "respot_longest_down_since_timestamp_seconds" => stage.status()["recovery"]["open"] != 0,
            "respot_migration_success_ratio" => recorded("endedMigrations", &["succeeded", "failed"]) > 0,
            "respot_provider_error_ratio" => recorded("providerCalls", &["total"]) > 0,
            _ => true,
        };
        for metric in METRICS {
            assert_eq!(there.contains(metric.name), known(metric.name), "{} in\n{text}", metric.name);
        }

        // The same figures as everywhere else.
        let (status, values) = (stage.status(), samples(&text));
        let figure = |part: &str, name: &str| status[part][name].as_f64().unwrap();
        for (metric, expected) in [
            ("respot_passes_total{result=\"completed\"}", figure("statistics", "successfulExecutions")),
            ("respot_passes_total{result=\"other\"}", figure("statistics", "failedExecutions")),
            ("respot_migrations_total", figure("statistics", "totalMigrations")),
            ("respot_recreations_total", figure("statistics", "totalRecreations")),
            ("respot_errors_total", figure("statistics", "totalErrors")),
            ("respot_in_flight{kind=\"migration\"}", figure("inFlight", "migrations")),
            ("respot_in_flight{kind=\"recreation\"}", figure("inFlight", "recreations")),
            ("respot_undelivered_events", figure("inFlight", "undeliveredEvents")),
            ("respot_schedule_adherence_ratio", 1.0),
        ] {
            assert!((values[metric] - expected).abs() < f64::EPSILON, "{metric} is {} in\n{text}", values[metric]);
        }
        let started = status["lastExecution"]["startedAt"].as_str().unwrap();
        let began: respot::core::world::time::Timestamp = started.parse().unwrap();
        let told = values["respot_last_pass_start_timestamp_seconds"];
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
        let expected = began.as_millis() as f64 / 1000.0;
        assert!((told - expected).abs() < 0.0005, "{told} for {started}");
    }
}

#[test]
fn a_scrape_while_a_pass_is_at_work_is_sensible() {
    let mut world = World::new(32);
    world.add(Spec::exited("train-a").id("a"));
    world.add(Spec::running("web").id("w"));
    let stage = Stage::new(Kind::Sqlite, world);
    stage.pass(0);
    stage.provider.advance(HOUR / 4);
    let scrape = || stage.call("status -o prometheus").output().ends_with(0).stdout;
    let before = scrape();
    stage.fault("list:hang*9");
    let running = stage.call("run -q").spawn();
    let at_work = || scrape().contains("respot_last_pass_status{status=\"running\"} 1");
    for _ in 0..400 {
        if at_work() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let during = scrape();
    let (before, while_at_work) = (samples(&before), samples(&during));
    assert!((while_at_work["respot_last_pass_status{status=\"running\"}"] - 1.0).abs() < f64::EPSILON, "{during}");
    for same in [
        "respot_instances{state=\"total\"}",
        "respot_last_pass_duration_seconds",
        "respot_last_pass_end_timestamp_seconds",
        "respot_migrations_total",
        "respot_healthy",
    ] {
        assert!((while_at_work[same] - before[same]).abs() < f64::EPSILON, "{same} changed in\n{during}");
    }
    let start = "respot_last_pass_start_timestamp_seconds";
    assert!(while_at_work[start] > before[start]);
    promtool(&["check", "metrics"], &during);
    running.signal(rustix::process::Signal::KILL);
    running.wait();
}

#[test]
fn only_status_has_metrics() {
    let stage = Stage::new(Kind::Sqlite, World::new(33));
    for words in ["run", "dry-run", "check-failed", "history"] {
        let output = stage.call(&format!("{words} -o prometheus")).output().ends_with(2);
        let output = output.says(["error: --output prometheus is only supported by respot status"]);
        assert_eq!(output.stdout, "", "{words}");
    }
    assert_eq!((stage.calls(), stage.files().len()), (0, 0));
    // What a probe asks is in the exit code, and a scrape is not silenced by it.
    let output = stage.call("status --check -o prometheus -q").output().ends_with(1);
    assert!(output.stdout.contains("respot_health{state=\"never_executed\"} 1"));
}
