//! The screens in the README and in `docs/` are what the program prints: one story, played by the real binary on a
//! terminal of 100 columns. `README=write cargo test --test it readme` updates them.

use std::path::Path;

use novita_sim::{App, Fate, Load, Spec, World};

use crate::harness::{HOUR, Kind, MINUTE, Stage};
use crate::tidy::{read, root};

/// The documents with screens. Every screen of the story is in one of them.
const DOCUMENTS: [&str; 3] = ["README.md", "docs/operations.md", "docs/rollout.md"];

const COLUMNS: u16 = 100;

/// A few instances: two that were reclaimed, one of which has no room where it was and one whose migration fails, and some
/// to leave alone.
fn world() -> World {
    let mut world = World::new(8);
    // What is created runs at once and is seen at once, so that no pass waits.
    (world.rules_mut().create_step_ms, world.rules_mut().visible_after_ms) = (0, 0);
    let hour = 3_600_000;
    let _ = world.withdraw_product("4090.12c50g.v2");
    world.add(Spec::reclaimed("train-7", 20 * 60_000).id("4kx2m9aa01tzqw3e").fate(Fate::NoStock));
    world.add(Spec::reclaimed("train-8", 25 * 60_000).id("b7c1n5pd8r2fy6ua").fate(Fate::FailsStuck));
    world.add(Spec::running("infer-1").id("h3j9s0vd5k7wm2xq"));
    world.add(Spec::running("infer-2").id("p6t8e1gz4n0cb5ry"));
    world.add(Spec::exited("dev-box").id("q2w5u8i1o4a7d0fg").billing("onDemand").stopped_ago_ms(9 * hour));
    world
}

/// Every screen, in the order in which the story makes them.
fn screens(stage: &Stage) -> Vec<(&'static str, String)> {
    let mut screens = Vec::new();
    let mut show = |words: &'static str| {
        screens.push((words, stage.call(words).screen(COLUMNS)));
    };
    // As a network would; and what is created runs when it is looked at.
    stage.fault("any:delay=20");
    show("dry-run");
    show("run");
    stage.provider.advance(15 * MINUTE);
    stage.call("run -q").output().ends_with(0);
    stage.provider.with(|world| assert!(world.reclaim("h3j9s0vd5k7wm2xq")));
    for _ in 0..6 {
        stage.provider.advance(15 * MINUTE);
        stage.call("run -q").output().ends_with(0);
    }
    stage.provider.advance(5 * MINUTE);
    let looks = [
        "status",
        "history --limit 3",
        "history --instance train-8",
        "explain dev-box",
        "markets",
        "report --since 1d",
    ];
    for words in looks.into_iter().chain(["doctor"]) {
        show(words);
    }
    // Last, so that the screens before are of a small fleet.
    stage.provider.with(|world| {
        for (name, product, gpus, cluster) in [
            ("train-9", "a100.32c120g", 2, "us-xx-1"),
            ("api", "4090.16c62g", 1, "us-xx-1"),
            ("render", "h100.24c200g", 1, "eu-xx-2"),
        ] {
            world.add(Spec::running(name).id(name).billing("onDemand").product(product, gpus).cluster(cluster));
        }
    });
    show("analyze --may-lose train-9");
    let words =
        "replay --trace benches/traces/preemption-1-node-aws-04-22-2023.json --set MIGRATION_INTERVAL_MINUTES=5";
    let trace = words.split(' ').find(|word| word.starts_with("benches")).unwrap();
    stage.file(trace, std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(trace)).unwrap());
    screens.push((words, stage.call(words).unset("MIGRATION_KEEP_TRYING_MS").screen(COLUMNS)));
    stage.provider.with(|world| {
        for number in 0..4 {
            let app = App::http(8080).base_us(100_000).jitter_us(1_000);
            let id = format!("web{number}9ab3k7qx5m2");
            let spec = Spec::running(&format!("web-{number}")).id(&id).billing("onDemand").load(Load::Stable(60));
            world.add(spec.image(&format!("registry.example/web-{number}:1")).app(app));
        }
    });
    let rollout = |words: &str| {
        let call = stage.call(words).env("RESPOT_PROBE", "http:8080/health");
        call.env("RESPOT_PROBE_SAMPLES", "40").env("RESPOT_ROLLOUT_MAY_LOSE", "web-*")
    };
    let words = "rollout --yes --only web-*";
    screens.push((words, rollout(words).screen(COLUMNS)));
    stage.provider.advance(5 * MINUTE);
    rollout("rollout --yes -q").output().ends_with(0);
    stage.provider.advance(6 * MINUTE);
    rollout("rollout --yes -q").output().ends_with(0);
    stage.provider.advance(2 * MINUTE);
    screens.push(("rollout status", rollout("rollout status").screen(COLUMNS)));
    assert!(stage.provider.with(|world| world.now_ms()) > i64::try_from(HOUR).unwrap());
    screens
}

/// The words of a screen, with what differs from run to run left out: times of a machine, ids of passes, places.
fn words(screen: &str) -> Vec<String> {
    let tokens: Vec<&str> = screen.split_whitespace().collect();
    let mut words = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let bare = token.trim_matches(|c: char| !c.is_alphanumeric());
        let unit = tokens.get(at + 1).map_or("", |next| next.trim_matches(|c: char| !c.is_alphanumeric()));
        let is_time = bare.parse::<f64>().is_ok() && matches!(unit, "ms" | "s" | "calls");
        let is_clock = bare.len() == 8 && bare.bytes().filter(|byte| *byte == b':').count() == 2;
        let is_pass = bare.len() >= 26 && bare.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        if token.chars().all(|c| matches!(c, '#' | '…')) || bare == "ms" || bare == "s" {
            continue;
        }
        // What was measured, and whether that is better or worse.
        let before = at.checked_sub(1).map_or("", |at| tokens[at]);
        let is_lost = matches!(before, "lost" | "noticing" | "back" | "room" | "failed" | "up");
        let is_measured = (is_lost || matches!(before, "by" | "(latency" | "pass")) && token.contains('.');
        words.push(match () {
            () if is_measured || matches!(*token, "improved" | "degraded") => "MEASURED".to_owned(),
            () if is_time || is_clock => "TIME".to_owned(),
            // The minute is the story's, the rest the machine's.
            () if bare.len() == "2026-01-15T12:00:00.000Z".len() && bare.ends_with('Z') => bare[..16].to_owned(),
            () if is_pass || token.starts_with("migration-job-") || token.starts_with("rollout-") => "PASS".to_owned(),
            () if token.contains('/') && !token.contains(':') || token.contains("://") || token.contains("sqlite:") => {
                "PLACE".to_owned()
            }
            () => (*token).to_owned(),
        });
    }
    words
}

/// The screens of a document: what is in blocks of `text` below a line `$ respot …`.
fn of_document(document: &str) -> Vec<(String, String)> {
    let mut screens: Vec<(String, String)> = Vec::new();
    for block in document.split("```text\n").skip(1).map(|block| block.split("```").next().unwrap()) {
        for screen in block.split("$ respot ").skip(1) {
            let (words, shown) = screen.split_once('\n').unwrap();
            screens.push((words.to_owned(), shown.to_owned()));
        }
    }
    screens
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a changed screen is written to the documents on request")]
fn its_screens_are_what_the_program_prints() {
    let stage = Stage::new(Kind::Sqlite, world());
    let made = screens(&stage);
    let is_writing = std::env::var("README").is_ok_and(|it| it == "write");
    let home = stage.path("").display().to_string();
    let plain = |screen: &str| {
        let screen = screen.replace(&format!("{home}state/respot"), "/var/lib/respot").replace(&home, "/etc/respot/");
        screen.replace(&stage.provider.url(), "https://api.novita.ai/gpu-instance/openapi")
    };
    let mut shown_somewhere: Vec<String> = Vec::new();
    for name in DOCUMENTS {
        let document = read(name);
        let mut written = document.clone();
        for (command, shown) in of_document(&document) {
            let found = made.iter().find(|(known, _)| *known == command);
            let (_, real) = found.unwrap_or_else(|| panic!("{name}: `respot {command}` is not part of the story"));
            if is_writing {
                let heading = format!("$ respot {command}\n");
                let blank = if shown.ends_with("\n\n") { "\n" } else { "" };
                written = written.replace(&format!("{heading}{shown}"), &format!("{heading}{}{blank}", plain(real)));
            } else {
                // The shares and sums of a report depend on how fast the machine is; its test recomputes them.
                let is_fraction = |word: &String| word.contains('.') && word.parse::<f64>().is_ok();
                let words = |screen: &str| {
                    let mut words = words(screen);
                    let fractions = words.iter_mut().filter(|it| command.starts_with("report") && is_fraction(it));
                    fractions.for_each(|word| *word = "MEASURED".into());
                    words
                };
                assert_eq!(words(&shown), words(real), "{name}: `respot {command}` prints\n{real}");
            }
            shown_somewhere.push(command);
        }
        if is_writing {
            std::fs::write(root().join(name), written).unwrap();
        }
    }
    for (command, _) in &made {
        assert!(shown_somewhere.iter().any(|it| it == command), "no document shows `respot {command}`");
    }
}

#[test]
fn the_readme_is_read_in_five_minutes() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines: what is not for a newcomer belongs in docs/");
}
