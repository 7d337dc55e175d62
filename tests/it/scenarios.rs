//! Runs the scenarios of `tests/scenarios/*.txt`: a fleet and passes in, the expected plan, result and world out.
//! What the lines mean is said in `tests/scenarios/README.md`.

mod cast;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use cast::{Cast, dressed, job};
use clap::Parser as _;
use novita_sim::{DAWN_MS, InProcess, Spec, World};
use respot::act::Limits;
use respot::cli::{Cli, Command, OutputFormat};
use respot::clock::Clock;
use respot::cloud::Rehearsal;
use respot::cloud::novita::client::Client;
use respot::commands::dry_run::{self, Planned};
use respot::commands::run::{self, Ended, Ran};
use respot::commands::{Failure, Presentation, status};
use respot::core::pass::plan::Plan;
use respot::core::record::execution::Attempt;
use respot::core::world::policy::Policy;
use respot::core::world::snapshot::Snapshot;
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::report::human::Screen;
use respot::settings::{Environment, Settings};
use respot::stop::Stop;
use respot::store::records::{self, Mode, Selection};
use respot::store::sqlite::SqliteStore;

#[test]
fn every_scenario_ends_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let mut failed = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let seen = runtime.block_on(play(&text));
        if rewrite() {
            std::fs::write(path, &seen).unwrap();
        } else if let Some((number, expected, got)) = first_difference(&text, &seen) {
            failed.push(format!("{}:{number}\n  expected {expected:?}\n  seen     {got:?}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{} of {} do not end as written:\n{}", failed.len(), paths.len(), failed.join("\n"));
    assert!(paths.len() >= 40, "only {} scenarios found", paths.len());
}

fn first_difference<'a>(text: &'a str, seen: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut expected, mut got) = (text.trim_end().lines(), seen.trim_end().lines());
    for number in 1.. {
        match (expected.next(), got.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some((number, a.unwrap_or("the end"), b.unwrap_or("the end"))),
        }
    }
    None
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
    variables: BTreeMap<String, String>,
    /// How many writes were shown.
    shown: usize,
}

/// Plays a scenario and writes down what happened in the scenario's own words: the input lines as they are, and in
/// place of the expected lines (which are indented) what was seen.
async fn play(text: &str) -> String {
    fastrand::seed(1);
    let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
    let mut stage = Stage {
        provider: InProcess::new(World::new(1)),
        store: SqliteStore::in_memory(clock.clone()).unwrap(),
        clock,
        variables: BTreeMap::from([
            ("NOVITA_API_KEY".into(), "sk_test".into()),
            ("HOME".into(), "/nowhere".into()),
            ("MIGRATION_MAX_CONCURRENT".into(), "2".into()),
            ("MIGRATION_KEEP_TRYING_MS".into(), "0".into()),
        ]),
        shown: 0,
    };
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        let _ = writeln!(out, "{line}");
        let words = split(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if !line.starts_with('#') && !words.is_empty() {
            stage.act(&words, &mut out).await;
        }
    }
    out
}

/// Words, of which those in quotes may hold blanks.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match (c, words.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            (' ', _) if !is_quoted => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

impl Stage {
    async fn act(&mut self, words: &[&str], out: &mut String) {
        match *words {
            ["machine", name, status, ref options @ ..] => {
                let spec =
                    options.iter().fold(Spec::running(name).id(name).status(status), |spec, it| dressed(spec, it));
                self.provider.world().add(spec);
            }
            ["fillers", count] => {
                for n in 0..count.parse().unwrap() {
                    self.provider.world().add(Spec::running("filler").id(&format!("filler-{n}")));
                }
            }
            ["job", name, state, ago, ref options @ ..] => {
                let mut world = self.provider.world();
                let id = Cast::of(&world).id(name);
                let job = job(&world, name, &id, state, duration(ago), options);
                world.add_job(job);
            }
            ["jobs", count, ago] => {
                let mut world = self.provider.world();
                for n in 0..count.parse().unwrap() {
                    let filler = format!("filler-{n}");
                    let job = job(&world, &filler, &filler, "success", duration(ago), &[]);
                    world.add_job(job);
                }
            }
            ["setting", setting] => {
                let (name, value) = setting.split_once('=').unwrap();
                self.variables.insert(name.into(), value.into());
            }
            ["fault", rule] => self.provider.world().fault(rule.parse().unwrap()),
            ["calm"] => self.provider.world().clear_faults(),
            ["wait", time] => tokio::time::sleep(duration(time)).await,
            ["forget"] => self.store = SqliteStore::in_memory(self.clock.clone()).unwrap(),
            ["run" | "check-failed" | "rehearsal" | "dry-run", ..] => self.pass(words, out).await,
            ["world"] => {
                let world = self.provider.world();
                out.push_str(&Cast::of(&world).picture(&world));
            }
            ["show", name] => {
                let world = self.provider.world();
                out.push_str(&Cast::of(&world).portrait(&world, name));
            }
            ["writes"] => {
                let world = self.provider.world();
                let log = &world.log()[self.shown..];
                self.shown = world.log().len();
                out.push_str(&Cast::of(&world).diary(log));
            }
            ["status"] => self.status(out).await,
            ["statistics"] => {
                let totals =
                    records::overview(&self.store, &Selection::default(), Timestamp::LATEST).await.unwrap().totals;
                let _ = writeln!(out, "  migrations: {}, recreations: {}", totals.migrations, totals.recreations);
            }
            _ => {
                let mut world = self.provider.world();
                assert!(cast::happens(&mut world, words), "no such line, or nothing to do it to: {words:?}");
            }
        }
    }

    async fn pass(&self, words: &[&str], out: &mut String) {
        let is_told = words.contains(&"-v");
        let (settings, command) = self.settings(words);
        let mode = if words[0] == "rehearsal" { Mode::Rehearsal } else { Mode::Real };
        let (rules, stop) = (Limits::new(&settings, mode), Stop::default());
        let cloud = Client::new(self.provider.clone());
        if let Command::DryRun { .. } = command {
            match dry_run::dry_run(&respot::act::World {
                cloud: &cloud,
                store: &self.store,
                limits: &rules,
                clock: &self.clock,
                stop: &stop,
                reporter: &Silent,
            })
            .await
            {
                Ok(Planned { execution: _, snapshot, plan }) => {
                    self.verdicts(&snapshot, &plan, &[], &settings.policy, is_told, out);
                    out.push_str("  planned\n");
                }
                Err(failure) => self.refusal(&failure, out),
            }
            return;
        }
        let ran = match mode {
            Mode::Real => {
                run::run(
                    &respot::act::World {
                        cloud: &cloud,
                        store: &self.store,
                        limits: &rules,
                        clock: &self.clock,
                        stop: &stop,
                        reporter: &Silent,
                    },
                    &cloud,
                    &NoReceiver,
                )
                .await
            }
            Mode::Rehearsal => {
                run::run(
                    &respot::act::World {
                        cloud: &cloud,
                        store: &self.store,
                        limits: &rules,
                        clock: &self.clock,
                        stop: &stop,
                        reporter: &Silent,
                    },
                    &Rehearsal,
                    &NoReceiver,
                )
                .await
            }
        };
        match ran {
            Ok(Ran::Ended(ended)) => {
                let Ended { execution, attempts, view } = *ended;
                let (snapshot, plan) = view.unwrap();
                self.verdicts(&snapshot, &plan, &attempts, &settings.policy, is_told, out);
                let _ = writeln!(out, "  {}", execution.status.into_str());
            }
            Ok(Ran::Skipped(_)) => out.push_str("  another pass is running\n"),
            Err(failure) => self.refusal(&failure, out),
        }
    }

    /// What the program makes of these words and of the environment.
    fn settings(&self, words: &[&str]) -> (Settings, Command) {
        let command = if words[0] == "rehearsal" { "run" } else { words[0] };
        let cli = Cli::try_parse_from(["respot", command].iter().chain(&words[1..])).unwrap();
        let environment: Environment = self.variables.clone().into_iter().collect();
        (Settings::load(&cli, &environment).unwrap(), cli.command)
    }

    fn refusal(&self, failure: &Failure, out: &mut String) {
        let words = Cast::of(&self.provider.world()).named(&failure.message);
        let _ = writeln!(out, "  exit {} {}: {words}", failure.exit.code(), failure.kind);
    }

    fn verdicts(
        &self,
        snapshot: &Snapshot,
        plan: &Plan,
        attempts: &[Attempt],
        policy: &Policy,
        is_told: bool,
        out: &mut String,
    ) {
        let cast = Cast::of(&self.provider.world());
        let mut rows: Vec<(String, String)> = Vec::new();
        for (instance, decision) in plan.rows(&snapshot.instances.items) {
            let name = cast.name(&instance.id.to_string());
            if name.starts_with("filler") {
                continue;
            }
            let mut attempts: Vec<&Attempt> = attempts.iter().filter(|it| it.instance_id == instance.id).collect();
            attempts.sort_by_key(|it| it.at);
            let outcome = attempts.iter().map(|it| {
                let kind = it.error_kind.map_or(String::new(), |kind| format!(" {}", kind.into_str()));
                format!(" -> {}{kind}", it.outcome.into_str())
            });
            let outcome: String = outcome.collect();
            let mut row = format!("  {name} {} {}{outcome}\n", decision.verdict().into_str(), decision.reason());
            if is_told {
                let _ = writeln!(row, "    why: {}", cast.named(&decision.detail(instance, policy)));
                for attempt in attempts {
                    let _ = writeln!(row, "    then: {}", cast.named(&attempt.reason));
                }
            }
            rows.push((name, row));
        }
        rows.sort();
        out.extend(rows.into_iter().map(|(_, row)| row));
    }

    /// The lines of `status` about what is in flight.
    async fn status(&self, out: &mut String) {
        let (settings, _) = self.settings(&["status"]);
        let screen = Screen { width: None, color: false };
        let show = Presentation { format: Some(OutputFormat::Table), quiet: false, screen };
        let status = status::status(&self.store, &settings, false, (self.clock.now(), show, &Silent)).await.unwrap();
        let is = |line: &&str, word: &str| line.trim_start().starts_with(word);
        let text = status.document.into_text();
        let lines = text.lines().skip_while(|line| !is(line, "in flight"));
        let cast = Cast::of(&self.provider.world());
        for line in lines.take_while(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let _ = writeln!(out, "  {}", cast.named(&words.join(" ")));
        }
    }
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}
