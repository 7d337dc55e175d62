//! What the program writes for other programs: completions and the man page.

use std::process::Command;

use clap::CommandFactory;
use novita_sim::World;
use respot::cli::{Cli, EXIT_CODES};
use respot::settings::SETTINGS;

use crate::harness::{Kind, Stage, each};

fn generated(words: &str) -> String {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    // Neither settings that cannot be used nor ones that are missing keep anybody from it.
    let call = stage.call(words).now(None).env("MIGRATION_INTERVAL_MINUTES", "broken").unset("NOVITA_API_KEY");
    let output = call.env("RESPOT_CONFIG", "/nowhere").output().ends_with(0);
    assert_eq!(output.stderr, "", "{words}");
    assert_eq!(stage.files(), [] as [std::path::PathBuf; 0], "{words}");
    output.stdout
}

#[test]
fn every_shell_learns_every_command() {
    each(&["bash", "zsh", "fish", "powershell", "elvish"], |shell| {
        let script = generated(&format!("completions {shell}"));
        for command in Cli::command().get_subcommands() {
            assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
        }
        assert!(script.contains("max-migrations") && script.contains("send-test-event"), "{shell}");
    });
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let script = stage.file("respot.bash", generated("completions bash"));
    // The words so far, of which the last is to be completed.
    each(
        &[
            ("respot st", "status"),
            ("respot d", "dry-run doctor"),
            ("respot run --max-m", "--max-migrations"),
            ("respot dry-run --det", "--detailed-exit-code"),
            ("respot doctor --send", "--send-test-event"),
            ("respot status --ch", "--check"),
            ("respot history --output j", "json"),
            ("respot completions f", "fish"),
        ],
        |(words, expected)| {
            let complete = "source \"$1\"; set -- $2; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                _respot respot \"${!#}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; echo \"${COMPREPLY[*]}\"";
            let output = Command::new("bash").args(["-c", complete, "bash"]).arg(&script).arg(words).output();
            let output = output.expect("bash");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), *expected, "{words}");
        },
    );
}

#[test]
fn the_man_page_names_everything() {
    let page = generated("man").replace("\\-", "-").replace("\\fR", "").replace("\\fB", "").replace("\\fI", "");
    let program = Cli::command();
    for command in std::iter::once(&program).chain(program.get_subcommands()) {
        assert!(page.contains(command.get_name()), "{}", command.get_name());
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let name = argument
                .get_long()
                .map_or_else(|| argument.get_value_names().expect("a name")[0].to_string(), |long| format!("--{long}"));
            assert!(page.contains(&name), "{} {name}", command.get_name());
            let short = argument.get_short().map(|short| format!("-{short}, "));
            assert!(short.is_none_or(|short| page.contains(&short)), "{name}");
        }
    }
    for setting in SETTINGS {
        let default = setting.default();
        let line = format!("\n{} (default: {})\n", setting.name, default.as_deref().unwrap_or("none"));
        assert!(page.contains(&line), "{line}");
    }
    for (code, meaning) in EXIT_CODES {
        assert!(page.contains(&format!("\n{code}\n{meaning}\n")), "{code}");
    }
    assert!(page.contains("\nrespot rollout abort [OPTIONS]\n"), "commands of commands are there, too");
    assert!(!page.contains("--now"), "hidden options stay so");
}
