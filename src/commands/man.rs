//! What the program says of itself for other programs: shell completions and the man page. Both are made from the
//! command line's own description, so they fit the version that prints them. No settings are read for them: a broken
//! environment keeps nobody from the manual.

use clap::{Arg, ArgAction, Args as _, CommandFactory};
use clap_complete::Shell;
use roff::{Inline, Roff, bold, italic, roman};

use super::{Exit, Printed};
use crate::cli::{Cli, Command, EXIT_CODES, PassArgs};
use crate::settings::SETTINGS;

/// The document of a command that needs no settings; `None` for all others.
#[must_use]
pub fn without_settings(command: &Command) -> Option<Printed> {
    match command {
        Command::Completions { shell } => Some(completions(*shell)),
        Command::Man => Some(man()),
        Command::Run(_)
        | Command::DryRun { .. }
        | Command::CheckFailed(_)
        | Command::Explain { .. }
        | Command::History(_)
        | Command::Status { .. }
        | Command::Analyze(_)
        | Command::Rollout(_)
        | Command::Doctor { .. } => None,
    }
}

/// The script that teaches `shell` our commands and flags.
#[must_use]
pub fn completions(shell: Shell) -> Printed {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "respot", &mut script);
    document(String::from_utf8_lossy(&script).into_owned())
}

/// One page in roff: every command with its options, every setting, the exit codes, the files.
#[must_use]
pub fn man() -> Printed {
    let mut program = Cli::command();
    program.build();
    let passes = PassArgs::augment_args(clap::Command::new("pass"));
    let mut page = Roff::new();
    // Names are copied from here: none is to be broken at a hyphen, or spread out.
    page.control("nh", []);
    page.control("ad", ["l"]);
    page.control("SH", ["NAME"]);
    page.text([roman("respot - bring reclaimed GPU spot instances back")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("respot"), roman(" "), italic("COMMAND"), roman(" [OPTIONS]")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(about(&program))]);
    page.control("SH", ["COMMANDS"]);
    // Their own help says nothing that is not on this page.
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        describe_command(&mut page, command, &passes);
    }
    page.control("SH", ["OPTIONS OF A PASS"]);
    for option in passes.get_arguments() {
        describe_option(&mut page, option);
    }
    page.control("SH", ["OPTIONS OF EVERY COMMAND"]);
    for option in program.get_arguments().filter(|option| !option.is_hide_set()) {
        describe_option(&mut page, option);
    }
    page.control("SH", ["SETTINGS"]);
    page.text([roman(
        "A flag wins over the environment, the environment over the file. Keys of the file are these names in lower \
         case. A value out of range, a misspelt name or an unknown key ends the program before any request.",
    )]);
    for setting in SETTINGS {
        page.control("TP", []);
        let default = setting.default();
        page.text([bold(setting.name), roman(format!(" (default: {})", default.as_deref().unwrap_or("none")))]);
        page.text(prose(&setting.meaning()));
    }
    page.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        page.control("TP", []);
        page.text([bold(code.to_string())]);
        page.text([roman(*meaning)]);
    }
    page.control("SH", ["FILES"]);
    for (path, meaning) in FILES {
        page.control("TP", []);
        page.text([italic(*path)]);
        page.text([roman(*meaning)]);
    }
    // Written here, since the library leaves out an empty word, and the page has no date.
    let title = concat!(".TH RESPOT 1 \"\" \"respot ", env!("CARGO_PKG_VERSION"), "\" \"User Commands\"\n");
    document(title.to_owned() + &page.to_roff())
}

const FILES: &[(&str, &str)] = &[
    (
        "$XDG_CONFIG_HOME/respot/respot.toml, ~/.config/respot/respot.toml, /etc/respot/respot.toml",
        "Settings: the first of these that exists, unless --config or RESPOT_CONFIG names another.",
    ),
    (
        "$STATE_DIRECTORY/state.db, $XDG_STATE_HOME/respot/state.db, /var/lib/respot/state.db (root), \
         ~/.local/state/respot/state.db",
        "The embedded store: the first of these that applies, unless --store or REDIS_URL names another store.",
    ),
];

fn document(document: String) -> Printed {
    Printed { exit: Exit::Done, document: document.into() }
}

/// A command with the options that no other has. `passes` has those of the three that make a pass.
fn describe_command(page: &mut Roff, command: &clap::Command, passes: &clap::Command) {
    let is_of_passes = |it: &&Arg| passes.get_arguments().any(|shared| shared.get_id() == it.get_id());
    let own = command.get_arguments().filter(|it| !it.is_global_set() && !it.is_hide_set() && it.get_id() != "help");
    let (shared, own): (Vec<_>, Vec<_>) = own.partition(is_of_passes);
    let (positionals, options): (Vec<_>, Vec<_>) = own.into_iter().partition(|it| it.is_positional());
    let mut usage = vec![bold(format!("respot {}", command.get_name())), roman(" [OPTIONS]")];
    for argument in &positionals {
        usage.extend([roman(" "), italic(value_name(argument))]);
    }
    page.control("TP", ["4"]);
    page.text(usage);
    let shared = if shared.is_empty() { "" } else { " Takes the options of a pass, below." };
    page.text([roman(about(command) + shared)]);
    if !positionals.is_empty() || !options.is_empty() {
        page.control("RS", ["4"]);
        for argument in positionals.into_iter().chain(options) {
            describe_option(page, argument);
        }
        page.control("RE", []);
    }
}

fn about(command: &clap::Command) -> String {
    command.get_about().map(|about| format!("{about}.")).unwrap_or_default()
}

fn describe_option(page: &mut Roff, option: &Arg) {
    let mut names = Vec::new();
    let short = option.get_short().map(|short| format!("-{short}"));
    let long = option.get_long().map(|long| format!("--{long}"));
    for name in short.into_iter().chain(long) {
        if !names.is_empty() {
            names.push(roman(", "));
        }
        names.push(bold(name));
    }
    if option.is_positional() || matches!(option.get_action(), ArgAction::Set | ArgAction::Append) {
        if !names.is_empty() {
            names.push(roman(" "));
        }
        names.push(italic(value_name(option)));
    }
    let mut meaning = option.get_help().map(ToString::to_string).unwrap_or_default();
    let values = option.get_possible_values();
    if !values.is_empty() {
        let words: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
        meaning += &format!(": {}", words.join(", "));
    }
    if let [default] = option.get_default_values()
        && !matches!(option.get_action(), ArgAction::SetTrue)
    {
        meaning += &format!(" (default: {})", default.to_string_lossy());
    }
    page.control("TP", []);
    page.text(names);
    page.text([roman(meaning)]);
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| argument.get_id().to_string(), ToString::to_string)
}

/// What stands between backticks in bold.
fn prose(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().map(|(n, part)| if n % 2 == 1 { bold(part) } else { roman(part) }).collect()
}
