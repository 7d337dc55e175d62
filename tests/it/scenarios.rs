//! Runs the scenarios of `tests/scenarios/*.txt`: a fleet and passes in, the expected plan, result and world out.
//! What the lines mean is said in `tests/scenarios/README.md`.

use std::fmt::Write as _;
use std::time::Duration;

use novita_sim::{DAWN_MS, Fate, InProcess, Spec, World};
use respot::clock::Clock;
use respot::commands::pass::{self, Ended, Ran, Rules};
use respot::core::model::Timestamp;
use respot::core::policy::{Eligibility, Policy, Scope, Selector};
use respot::novita::Rehearsal;
use respot::novita::client::Client;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::{self, Mode, Selection};
use respot::store::sqlite::SqliteStore;

#[test]
fn every_scenario_ends_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let seen = runtime.block_on(play(&text));
        if rewrite() {
            std::fs::write(&path, &seen).unwrap();
            continue;
        }
        assert_eq!(seen.trim_end(), text.trim_end(), "{} does not end as written", path.display());
    }
    assert!(count >= 8, "only {count} scenarios found");
}

/// With `SCENARIOS=write` what is seen becomes what is expected: read the difference before committing it.
#[expect(clippy::disallowed_methods, reason = "a test may be told to rewrite its expectations")]
fn rewrite() -> bool {
    std::env::var("SCENARIOS").is_ok_and(|word| word == "write")
}

struct Stage {
    provider: InProcess,
    store: SqliteStore,
    clock: Clock,
    policy: Policy,
    mode: Mode,
}

/// Plays a scenario and writes down what happened in the scenario's own words: the input lines as they are, and in
/// place of the expected lines (which are indented) what was seen.
async fn play(text: &str) -> String {
    fastrand::seed(1);
    let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
    let policy = Policy::default();
    let mut stage = Stage {
        provider: InProcess::new(World::new(1)),
        store: SqliteStore::in_memory(clock).unwrap(),
        clock,
        policy,
        mode: Mode::Real,
    };
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        let _ = writeln!(out, "{line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with('#') && !words.is_empty() {
            stage.act(&words, &mut out).await;
        }
    }
    out
}

impl Stage {
    async fn act(&mut self, words: &[&str], out: &mut String) {
        match *words {
            ["machine", name, status, ref options @ ..] => {
                let mut spec = Spec::running(name).id(name).status(status);
                for option in options {
                    spec = dress(spec, option);
                }
                self.provider.world().add(spec);
            }
            ["rule", rule] => self.rule(rule),
            ["fault", rule] => self.provider.world().fault(rule.parse().unwrap()),
            ["late", time] => {
                self.provider.world().rules_mut().visible_after_ms = i64::try_from(duration(time).as_millis()).unwrap();
            }
            ["calm"] => self.provider.world().clear_faults(),
            ["wait", time] => tokio::time::sleep(duration(time)).await,
            ["reclaim", name] => assert!(self.provider.world().reclaim_now(name)),
            ["notify", name] => assert!(self.provider.world().reclaim(name)),
            ["stop", name] => assert!(self.provider.world().user_stop(name)),
            ["vanish", name] => assert!(self.provider.world().vanish(name)),
            ["pass"] => self.pass(out).await,
            ["world"] => {
                let world = self.provider.world();
                let mut lines: Vec<String> = world
                    .machines()
                    .map(|machine| {
                        let (id, status) = (&machine.id, &machine.status);
                        format!("  {id} {status}, migrated {}", world.accepted_migrations_of(id))
                    })
                    .collect();
                lines.sort();
                let _ = writeln!(out, "{}", lines.join("\n"));
            }
            ["statistics"] => {
                let overview = records::overview(&self.store, &Selection::default()).await.unwrap();
                let _ = writeln!(out, "  {} migrations", overview.totals.migrations);
            }
            _ => panic!("no such line: {words:?}"),
        }
    }

    fn rule(&mut self, rule: &str) {
        let (name, value) = rule.split_once('=').unwrap();
        match name {
            "cooldown" => self.policy.cooldown = duration(value),
            "eligibility" => {
                self.policy.eligibility = if value == "reclaimed" { Eligibility::Reclaimed } else { Eligibility::Time };
            }
            "scope" => self.policy.scope = if value == "all" { Scope::All } else { Scope::Spot },
            "only" => self.policy.only = vec![Selector::parse(value).unwrap()],
            "exclude" => self.policy.exclude = vec![Selector::parse(value).unwrap()],
            "max-migrations" => self.policy.max_migrations = value.parse().ok(),
            "rehearsal" => self.mode = if value == "true" { Mode::Rehearsal } else { Mode::Real },
            _ => panic!("no such rule: {rule}"),
        }
    }

    async fn pass(&mut self, out: &mut String) {
        let rules = Rules { policy: &self.policy, workers: 2, deadline: Duration::from_secs(600), mode: self.mode };
        let (cloud, stop) = (Client::new(self.provider.clone()), Stop::default());
        let ran = match self.mode {
            Mode::Real => pass::run(&cloud, &self.store, &rules, self.clock, &stop, &Silent).await,
            Mode::Rehearsal => pass::run(&Rehearsal(cloud), &self.store, &rules, self.clock, &stop, &Silent).await,
        };
        let ended = match ran {
            Ok(Ran::Ended(ended)) => ended,
            Ok(Ran::AnotherPassRuns { .. }) => return out.push_str("  another pass is running\n"),
            Err(failure) => {
                let _ = writeln!(out, "  exit {} {}", failure.exit.code(), failure.kind);
                return;
            }
        };
        let Ended { execution, attempts, view } = *ended;
        let (snapshot, plan) = view.unwrap();
        for (instance, decision) in snapshot.instances.items.iter().zip(&plan.decisions) {
            let (verdict, reason) = (decision.verdict(), decision.reason());
            let outcome = attempts.iter().find(|it| it.instance_id == instance.id);
            let outcome = outcome.map_or(String::new(), |it| {
                let kind = it.error_kind.map_or(String::new(), |kind| format!(" {}", kind.as_str()));
                format!(" -> {}{kind}", it.outcome.as_str())
            });
            let _ = writeln!(out, "  {} {verdict} {reason}{outcome}", instance.id);
        }
        let _ = writeln!(out, "  {}", execution.status.as_str());
    }
}

fn dress(spec: Spec, option: &str) -> Spec {
    let (name, value) = option.split_once('=').unwrap();
    let ago = |value: &str| i64::try_from(duration(value).as_millis()).unwrap();
    match (name, value) {
        ("billing", mode) => spec.billing(if mode == "none" { "" } else { mode }),
        ("stopped", time) => spec.stopped_ago_ms(ago(time)),
        ("notified", time) => spec.notified(ago(time)),
        ("fate", "succeeds") => spec.fate(Fate::Succeeds),
        ("fate", "stuck") => spec.fate(Fate::FailsStuck),
        ("fate", "back") => spec.fate(Fate::FailsBack),
        ("fate", "no-stock") => spec.fate(Fate::NoStock),
        _ => panic!("no such option: {option}"),
    }
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}
