//! Shell completions and the man page, both generated from the command line and the rows of the settings, so that they
//! match the version that prints them. They read no settings: a broken environment does not hide the manual.

use std::iter;

use clap::{Arg, Args as _, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};

use super::{Exit, Printed};
use crate::cli::{Cli, EXIT_CODES, Manual, PassArgs};
use crate::settings::SETTINGS;

/// What such a command prints.
#[must_use]
pub fn document(wanted: &Manual) -> Printed {
    match wanted {
        Manual::Completions { shell } => completions(*shell),
        Manual::Man => man(),
    }
}

/// The script that completes commands and flags.
fn completions(shell: Shell) -> Printed {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "respot", &mut script);
    Printed { exit: Exit::Done, document: String::from_utf8_lossy(&script).into_owned().into() }
}

const FILES: &[(&str, &str)] = &[
    (
        "$XDG_CONFIG_HOME/respot/respot.toml, ~/.config/respot/respot.toml, /etc/respot/respot.toml",
        "The configuration file: the first of these that exists, unless --config or RESPOT_CONFIG names another.",
    ),
    (
        "$STATE_DIRECTORY/state.db, $XDG_STATE_HOME/respot/state.db, /var/lib/respot/state.db (root), \
         ~/.local/state/respot/state.db",
        "The embedded store: the first of these that applies, unless --store or REDIS_URL names another store.",
    ),
];

/// One page in roff: every command with its options, every setting, the exit codes, the files.
fn man() -> Printed {
    let mut program = Cli::command();
    program.build();
    let pass = PassArgs::augment_args(clap::Command::new("pass"));
    // The roff library drops empty arguments, so the title without a date is written here.
    let mut page =
        concat!(".TH RESPOT 1 \"\" \"respot ", env!("CARGO_PKG_VERSION"), "\" \"User Commands\"\n").to_owned();
    // Names are copied from here: do not hyphenate or justify them. The string Aq is the apostrophe of clap_mangen.
    page += ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.nh\n.ad l\n";
    page += &section("NAME", &text([roman("respot - bring back reclaimed GPU spot instances")]));
    page += &section("SYNOPSIS", &text([bold("respot"), roman(" "), italic("COMMAND"), roman(" [OPTIONS]")]));
    page += &section("DESCRIPTION", &text([roman(about(&program))]));
    let commands = program.get_subcommands().flat_map(|command| iter::once(command).chain(command.get_subcommands()));
    let commands = commands.filter(|command| command.get_name() != "help");
    page += &section("COMMANDS", &commands.map(|command| describe(command, &pass)).collect::<String>());
    page += &section("PASS OPTIONS", &options(pass.get_arguments()));
    page += &section("GLOBAL OPTIONS", &options(program.get_arguments()));
    let settings = SETTINGS.iter().map(|row| {
        let default = format!(" (default: {})", row.default().as_deref().unwrap_or("none"));
        entry([bold(row.name), roman(default)], code_in_bold(&row.meaning()))
    });
    let precedence = "Flags take precedence over environment variables, which take precedence over the configuration \
                      file. Keys of the file are these names in lower case. Invalid values, misspelled variables and \
                      unknown keys are errors, found before the first request.";
    page += &section("SETTINGS", &(text([roman(precedence)]) + &settings.collect::<String>()));
    let codes = EXIT_CODES.iter().map(|(code, meaning)| entry([bold(code.to_string())], [roman(*meaning)]));
    page += &section("EXIT STATUS", &codes.collect::<String>());
    let files = FILES.iter().map(|(path, meaning)| entry([italic(*path)], [roman(*meaning)]));
    page += &section("FILES", &files.collect::<String>());
    Printed { exit: Exit::Done, document: page.into() }
}

fn section(name: &str, body: &str) -> String {
    format!(".SH \"{name}\"\n{body}")
}

fn text(words: impl Into<Vec<Inline>>) -> String {
    let mut roff = Roff::new();
    roff.text(words);
    roff.to_roff()
}

fn entry(term: impl Into<Vec<Inline>>, meaning: impl Into<Vec<Inline>>) -> String {
    format!(".TP\n{}{}", text(term), text(meaning))
}

/// A command with the options that it does not share with others.
fn describe(command: &clap::Command, pass: &clap::Command) -> String {
    let mut usage = vec![bold(command.get_bin_name().unwrap_or_default()), roman(" [OPTIONS]")];
    for argument in command.get_positionals() {
        usage.extend([roman(" "), italic(argument.get_id().as_str().to_uppercase())]);
    }
    let has = |command: &clap::Command, option: &Arg| command.get_arguments().any(|it| it.get_id() == option.get_id());
    let is_pass = pass.get_arguments().all(|option| has(command, option));
    let shared = if is_pass { " Takes the pass options below." } else { "" };
    let mut out = entry(usage, [roman(about(command) + shared)]);
    let is_own = |it: &&Arg| !it.is_global_set() && it.get_id() != "help" && !(is_pass && has(pass, it));
    let own = options(command.get_arguments().filter(is_own));
    if !own.is_empty() {
        out += &format!(".RS 4\n{own}.RE\n");
    }
    out
}

fn about(command: &clap::Command) -> String {
    command.get_about().map(|about| format!("{about}.")).unwrap_or_default()
}

/// As clap_mangen renders them, without its heading.
fn options<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let arguments = arguments.cloned().map(|it| it.help_heading(None::<&str>));
    let mut command =
        clap::Command::new("options").version("").disable_version_flag(true).disable_help_flag(true).args(arguments);
    command.build();
    let mut rendered = Vec::new();
    // Writing to memory cannot fail.
    let _ = Man::new(command).render_options_section(&mut rendered);
    let rendered = String::from_utf8_lossy(&rendered);
    rendered.split_once(".SH OPTIONS\n").map_or_else(String::new, |(_, options)| options.to_owned())
}

/// Text with what is between backticks in bold.
fn code_in_bold(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().map(|(n, part)| if n % 2 == 1 { bold(part) } else { roman(part) }).collect()
}
