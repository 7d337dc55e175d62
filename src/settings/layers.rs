//! Where a value comes from: flags win over the environment, the environment wins over the configuration file.
//! Misspelled names are found here.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::parsers::{self, Invalid};
use super::rows::{self, Described, SETTINGS, Setting};
use super::{Result, SettingsError, Warning};
use crate::paths::{is_there, read_text};

/// The environment as this program sees it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(String, String)>,
    /// The names of those that a replay sets.
    changed: Vec<String>,
}

impl Environment {
    /// Reads the environment of this process. Other programs' variables that are not UTF-8 are ignored.
    ///
    /// # Errors
    /// When a setting is not UTF-8.
    #[expect(clippy::disallowed_methods, reason = "the one site that reads the environment")]
    pub fn of_process() -> Result<Self> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => variables.push((name, value)),
                Err(_) if is_ours(&name) => return Err(SettingsError::new(format!("{name} is not valid UTF-8"))),
                Err(_) => {}
            }
        }
        Ok(Self { variables, changed: Vec::new() })
    }

    /// The same with some variables set, each as `KEY=VALUE`. They win over what was set.
    ///
    /// # Errors
    /// When one is not a setting.
    pub fn with(mut self, changes: &[String]) -> Result<Self> {
        for change in changes {
            let (name, value) = change.split_once('=').unwrap_or((change, ""));
            if !SETTINGS.iter().any(|row| row.name == name) || !change.contains('=') {
                let error = SettingsError::new(format!("invalid value {change:?} for --set: expected SETTING=VALUE"));
                return Err(match similar(name).filter(|meant| *meant != name) {
                    Some(meant) => error.hint(format!("did you mean {meant}?")),
                    None => error.hint("see the settings in respot man"),
                });
            }
            self.variables.retain(|(known, _)| known != name);
            self.variables.push((name.to_owned(), value.to_owned()));
            self.changed.push(name.to_owned());
        }
        Ok(self)
    }

    /// What a variable is set to, which may be nothing.
    fn get(&self, name: &'static str) -> Result<Option<Given>> {
        let value = self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let is_change = self.changed.iter().any(|changed| changed == name);
        let source = if is_change { Source::Change } else { Source::Environment };
        value.map(|value| Given { name, value, source }.unwrapped()).transpose()
    }

    /// A variable that is set and not empty.
    ///
    /// # Errors
    /// When its value is in quotes or contains control characters.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>> {
        Ok(self.get(name)?.map(|given| given.value).filter(|value| !value.is_empty()))
    }

    /// A variable that names a directory.
    ///
    /// # Errors
    /// As [`text`](Self::text), and when the path depends on where the program is called: another directory would hold another
    /// memory.
    pub(super) fn folder(&self, name: &'static str) -> Result<Option<PathBuf>> {
        self.text(name)?.map(|path| absolute(name, &path)).transpose()
    }

    /// The first of these variables that is set and not empty.
    pub(super) fn first(&self, names: &[&'static str]) -> Result<Option<(&'static str, String)>> {
        for &name in names {
            if let Some(value) = self.text(name)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    /// Whether a variable is set and not empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.variables.iter().any(|(known, value)| known == name && !value.is_empty())
    }
}

/// The path, which must not depend on the working directory.
pub(super) fn absolute(name: &str, path: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    if path.is_relative() {
        let error = SettingsError::new(format!("{name} is not an absolute path: {}", path.display()));
        return Err(error.hint("begin it with /, or unset it"));
    }
    Ok(path)
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().collect(), changed: Vec::new() }
    }
}

/// Every variable that this program reads by a name of its own.
fn known_variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|row| row.name).chain(["RESPOT_CONFIG"])
}

fn is_ours(name: &str) -> bool {
    known_variables().any(|known| known == name)
}

/// Where a value came from, for messages.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Flag(&'static str),
    Environment,
    /// A setting that a replay tries.
    Change,
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "from {flag}"),
            Self::Environment => f.write_str("from the environment"),
            Self::Change => f.write_str("from --set"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value as it was written, with its place.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: Source,
}

impl Given {
    pub(super) fn parse<T>(&self, setting: &Setting<T>) -> Result<T> {
        (setting.parse)(&self.value).map_err(|invalid| self.refused(invalid))
    }

    /// The same without what its file or its shell wrapped it in.
    fn unwrapped(self) -> Result<Self> {
        match parsers::unwrapped(&self.value) {
            Ok(value) => Ok(Self { value: value.to_owned(), ..self }),
            Err(invalid) => Err(self.refused(invalid)),
        }
    }

    fn refused(&self, Invalid { problem, hint, hidden }: Invalid) -> SettingsError {
        let Self { name, value, source } = self;
        let value = if hidden { "value".into() } else { format!("value {}", quoted(value)) };
        let message = format!("invalid {value} for {name} ({source}): {problem}");
        SettingsError { message, hint: hint.map(Into::into) }
    }
}

/// A value as a message shows it. A key may be where it does not belong.
pub(super) fn quoted(value: &str) -> String {
    if value.contains("sk_") { "(it looks like a key and is not shown)".into() } else { format!("{value:?}") }
}

/// Flags over the environment over the file.
pub(super) struct Layers<'a> {
    /// What is in force of what was written, in the order of the settings.
    given: Vec<Given>,
    pub(super) environment: &'a Environment,
    pub(super) file: Vec<(&'static str, String)>,
    pub(super) file_path: Option<PathBuf>,
}

impl<'a> Layers<'a> {
    /// Reads the configuration file. `flags` are by the name of the setting.
    pub(super) fn new(
        flags: &[(&'static str, &str)],
        environment: &'a Environment,
        config: Option<&Path>,
    ) -> Result<Self> {
        let (file_path, file) = read_file(config, environment)?;
        let mut given = Vec::new();
        for row in SETTINGS {
            let (name, flag) = (row.name, row.flag);
            let of_flag = flags.iter().find(|(known, _)| *known == name).zip(flag);
            let of_flag =
                of_flag.map(|((_, value), flag)| Given { name, value: (*value).into(), source: Source::Flag(flag) });
            // An empty variable counts as not set, but for the one whose empty value has a meaning.
            let of_environment = environment.get(name)?;
            let of_environment =
                of_environment.filter(|it| !it.value.is_empty() || name == rows::REDIS_KEY_PREFIX.row.name);
            let is_given = |(known, value): &&(&str, String)| {
                *known == name && (!value.is_empty() || name == rows::REDIS_KEY_PREFIX.row.name)
            };
            let of_file = file.iter().find(is_given).zip(file_path.clone());
            let of_file =
                of_file.map(|((_, value), path)| Given { name, value: value.clone(), source: Source::File(path) });
            // A shell has read the flags: what is in them is meant.
            let written = of_flag.or(of_environment).map_or_else(|| of_file.map(Given::unwrapped), |it| Some(Ok(it)));
            given.extend(written.transpose()?);
        }
        Ok(Self { given, environment, file, file_path })
    }

    /// What was written for a setting.
    pub(super) fn get(&self, row: &Described) -> Option<&Given> {
        self.given.iter().find(|given| given.name == row.name)
    }

    /// The value of a setting that has a default.
    pub(super) fn value<T>(&self, setting: &Setting<T>) -> Result<T> {
        let row = &setting.row;
        let default = || Given { name: row.name, value: row.default().unwrap_or_default(), source: Source::Default };
        self.get(row).cloned().unwrap_or_else(default).parse(setting)
    }

    /// The value of a setting, if it is set.
    pub(super) fn optional<T>(&self, setting: &Setting<T>) -> Result<Option<T>> {
        self.get(&setting.row).map(|given| given.parse(setting)).transpose()
    }

    /// A secret that is set itself, or through a file that contains it.
    pub(super) fn secret(&self, itself: &Described, as_file: &Described) -> Result<Option<Given>> {
        let is_in_file = |given: &Given| matches!(given.source, Source::File(_));
        match (self.get(itself).cloned(), self.get(as_file).cloned()) {
            // The environment wins over the file between the two names, too.
            (Some(given), Some(path)) if is_in_file(&given) && !is_in_file(&path) => read_secret(path).map(Some),
            (Some(given), _) => Ok(Some(given)),
            (None, path) => path.map(read_secret).transpose(),
        }
    }
}

fn read_secret(given: Given) -> Result<Given> {
    let Given { name, value: path, source } = given;
    let text = read_text(Path::new(&path))
        .map_err(|error| SettingsError::new(format!("cannot read {name} {} ({source}): {error}", quoted(&path))))?;
    Given { name, value: text, source }.unwrapped()
}

/// Refuses variables whose name is close to a setting's: a misspelled `MIGRATION_DRY_RUN` would turn a rehearsal into a
/// real pass.
pub(super) fn check_names(environment: &Environment) -> Result<Vec<Warning>> {
    // Names that others use for the same thing.
    const MEANT: [(&str, &str); 4] = [
        ("DRY_RUN", rows::MIGRATION_DRY_RUN.row.name),
        ("RESPOT_DRY_RUN", rows::MIGRATION_DRY_RUN.row.name),
        ("REDIS_HOST", rows::REDIS_URL.row.name),
        ("RESPOT_STORE", rows::REDIS_URL.row.name),
    ];
    let mut warnings = Vec::new();
    for (name, value) in &environment.variables {
        if is_ours(name) || value.is_empty() {
            continue;
        }
        if let Some((_, meant)) = MEANT.iter().find(|(known, _)| known == name) {
            if !environment.has(meant) {
                let message = format!("{name} is set and not read; {meant} is not set");
                warnings.push(Warning { message, fix: format!("set {meant}, or unset {name}") });
            }
            continue;
        }
        let Some(meant) = similar(name) else {
            if ["RESPOT_", "MIGRATION_", "NOVITA_"].iter().any(|ours| name.starts_with(ours)) {
                let message = format!("{name} is set, but there is no such setting");
                warnings.push(Warning { message, fix: "see the settings in respot man, or unset it".into() });
            }
            continue;
        };
        if meant.starts_with("REDIS") {
            // Other programs use such names, too. But with the wrong store, every instance looks new.
            if !environment.has(meant) {
                warnings.push(Warning {
                    message: format!("{name} is set, but {meant} is not (misspelled?)"),
                    fix: format!("rename it to {meant}, or unset it"),
                });
            }
        } else {
            return Err(SettingsError::new(format!("unknown environment variable {name}"))
                .hint(format!("did you mean {meant}? If it is unrelated, unset it")));
        }
    }
    Ok(warnings)
}

/// The setting that a misspelled name is close to, if any. Underscores and case do not count.
fn similar(name: &str) -> Option<&'static str> {
    let squeeze = |name: &str| name.replace('_', "").to_ascii_uppercase();
    let squeezed = squeeze(name);
    known_variables()
        // Other programs have webhooks, too.
        .filter(|known| !known.starts_with("WEBHOOK"))
        // Lengths first, as they are cheap: Kubernetes sets hundreds of variables in a pod.
        .filter(|known| known.bytes().filter(|byte| *byte != b'_').count().abs_diff(squeezed.len()) <= 2)
        .map(|known| (strsim::osa_distance(&squeeze(known), &squeezed), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

/// Reads the configuration file: the one that is named, else the first default that is there, else none. What may not be
/// looked at may be there, and could say that this is a rehearsal.
fn read_file(flag: Option<&Path>, environment: &Environment) -> Result<(Option<PathBuf>, Vec<(&'static str, String)>)> {
    let unreadable = |path: &Path, error: &io::Error| {
        SettingsError::new(format!("cannot read the configuration file {}: {error}", path.display()))
            .hint("make it readable, or name another one with --config")
    };
    let named = match flag {
        Some(path) => Some(path.to_path_buf()),
        None => {
            environment.text("RESPOT_CONFIG")?.map(|text| parsers::path(&text)).transpose().map_err(|invalid| {
                SettingsError::new(format!("invalid value for RESPOT_CONFIG: {}", invalid.problem))
            })?
        }
    };
    let mut path = named;
    if path.is_none() {
        for default in default_files(environment)? {
            if is_there(&default).map_err(|error| unreadable(&default, &error))? {
                path = Some(default);
                break;
            }
        }
    }
    let Some(path) = path else { return Ok((None, Vec::new())) };
    let text = read_text(&path).map_err(|error| unreadable(&path, &error))?;
    let entries = parse_file(&path, &text)?;
    Ok((Some(path), entries))
}

fn default_files(environment: &Environment) -> Result<Vec<PathBuf>> {
    let user = match environment.folder("XDG_CONFIG_HOME")? {
        Some(folder) => Some(folder),
        None => environment.folder("HOME")?.map(|home| home.join(".config")),
    };
    let folders = user.map(|folder| folder.join("respot")).into_iter().chain([PathBuf::from("/etc/respot")]);
    Ok(folders.map(|folder| folder.join("respot.toml")).collect())
}

fn parse_file(path: &Path, text: &str) -> Result<Vec<(&'static str, String)>> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        // The full error quotes the line, which may contain the key.
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        SettingsError::new(format!("{}, line {line}: {}", path.display(), error.message()))
    })?;
    let mut entries = Vec::new();
    for (key, value) in table {
        let name = key.to_ascii_uppercase();
        let is_lower = key == key.to_ascii_lowercase();
        let Some(known) = SETTINGS.iter().find(|row| row.name == name && is_lower) else {
            let error = SettingsError::new(format!("{}: unknown key {key:?}", path.display()));
            return Err(match similar(&name) {
                Some(meant) => error.hint(format!("did you mean {}?", meant.to_ascii_lowercase())),
                None => error.hint("keys are the names of the environment variables in lower case"),
            });
        };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                let what = value.type_str();
                return Err(SettingsError::new(format!(
                    "{}: invalid type for {key}: expected a string, an integer or a boolean, got {what}",
                    path.display()
                )));
            }
        };
        entries.push((known.name, value));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What files, editors and other programs put around a value.
    const WRAPPINGS: [(&str, &str); 10] = [
        ("", "\r"),
        ("", "\n"),
        ("", "\r\n"),
        (" ", " "),
        ("\t", "\t"),
        ("\u{feff}", ""),
        ("\u{feff} ", " \r\n"),
        ("\u{a0}", "\u{a0}"),
        ("\"", "\""),
        ("'", "'\r"),
    ];

    /// Whether a wrapped value is read like the value itself, or refused.
    fn is_harmless<T: PartialEq>(wrapped: Result<T>, plain: &T) -> bool {
        wrapped.map_or_else(|error| error.message.contains("quotes"), |value| value == *plain)
    }

    #[test]
    fn no_wrapping_of_a_value_is_taken_for_a_part_of_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let secret = folder.path().join("secret");
        let empty = Environment::from_iter([("HOME".to_owned(), folder.path().display().to_string())]);
        for (before, behind) in WRAPPINGS {
            let wrapped = format!("{before}value{behind}");
            for row in SETTINGS {
                let name = row.name;
                let value_of = |layers: Result<Layers<'_>>| Some(layers.map(|it| it.get(row).cloned().unwrap().value));
                let variables =
                    [(name.to_owned(), wrapped.clone())].into_iter().chain(empty.variables.clone()).collect();
                let of_environment = value_of(Layers::new(&[], &variables, None));
                let file = folder.path().join("respot.toml");
                let text: String = wrapped.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
                std::fs::write(&file, format!("\u{feff}{} = \"{text}\"\r\n", name.to_ascii_lowercase())).unwrap();
                let of_file = value_of(Layers::new(&[], &empty, Some(&file)));
                for value in [of_environment, of_file].into_iter().flatten() {
                    assert!(is_harmless(value, &"value".to_owned()), "{name}={wrapped:?}");
                }
            }
            for name in ["RUST_LOG", "RESPOT_CONFIG", "HOME", "XDG_STATE_HOME", "STATE_DIRECTORY", "HTTPS_PROXY"] {
                let environment = Environment::from_iter([(name.to_owned(), wrapped.clone())]);
                assert!(is_harmless(environment.text(name), &Some("value".to_owned())), "{name}={wrapped:?}");
            }
            std::fs::write(&secret, &wrapped).unwrap();
            let given = Given {
                name: rows::WEBHOOK_SECRET_FILE.row.name,
                value: secret.display().to_string(),
                source: Source::Environment,
            };
            let read = read_secret(given).map(|given| given.value);
            assert!(is_harmless(read, &"value".to_owned()), "a file with {wrapped:?}");
        }
    }

    #[test]
    fn an_empty_value_counts_as_not_set_in_the_file_too() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("respot.toml");
        std::fs::write(&file, "webhook_url = \"\"\nmigration_scope = \"\"\nredis_key_prefix = \"\"\n").unwrap();
        let empty = Environment::default();
        let layers = Layers::new(&[], &empty, Some(&file)).unwrap();
        let given = |row: &Described| layers.get(row).map(|given| given.value.as_str());
        assert_eq!((given(&rows::WEBHOOK_URL.row), given(&rows::MIGRATION_SCOPE.row)), (None, None));
        assert_eq!(given(&rows::REDIS_KEY_PREFIX.row), Some(""), "whose empty value has a meaning");
    }
}
