//! Where a value comes from: flags win over the environment, the environment wins over the configuration file.
//! Misspelled names are found here.

use std::fmt;
use std::path::{Path, PathBuf};

use super::parsers::Invalid;
use super::rows::{Described, SETTINGS, Setting};
use super::{Result, SettingsError, Warning};

/// The environment as this program sees it.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(String, String)>);

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
        Ok(Self(variables))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A variable that is set and not empty.
    pub(super) fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
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
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "from {flag}"),
            Self::Environment => f.write_str("from the environment"),
            Self::File(path) => write!(f, "from {}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value as it was written, with its place.
pub(super) struct Given {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: Source,
}

impl Given {
    pub(super) fn parse<T>(&self, setting: &Setting<T>) -> Result<T> {
        let Self { name, value, source } = self;
        (setting.parse)(value).map_err(|Invalid { problem, hint, hidden }| {
            let value = if hidden { "value".into() } else { format!("value {}", quoted(value)) };
            let message = format!("invalid {value} for {name} ({source}): {problem}");
            SettingsError { message, hint: hint.map(Into::into) }
        })
    }
}

/// A value as a message shows it. A key may be where it does not belong.
pub(super) fn quoted(value: &str) -> String {
    if value.contains("sk_") { "(it looks like a key and is not shown)".into() } else { format!("{value:?}") }
}

/// Flags over the environment over the file.
pub(super) struct Layers<'a> {
    /// By the name of the setting.
    flags: &'a [(&'static str, &'a str)],
    pub(super) environment: &'a Environment,
    pub(super) file: Vec<(&'static str, String)>,
    pub(super) file_path: Option<PathBuf>,
}

impl<'a> Layers<'a> {
    /// Reads the configuration file.
    pub(super) fn new(
        flags: &'a [(&'static str, &'a str)],
        environment: &'a Environment,
        config: Option<&Path>,
    ) -> Result<Self> {
        let (file_path, file) = read_file(config, environment)?;
        Ok(Self { flags, environment, file, file_path })
    }

    /// What was written for a setting. An empty variable counts as not set.
    pub(super) fn get(&self, row: &Described) -> Option<Given> {
        let name = row.name;
        if let (Some(flag), Some((_, value))) = (row.flag, self.flags.iter().find(|(known, _)| *known == name)) {
            return Some(Given { name, value: (*value).to_owned(), source: Source::Flag(flag) });
        }
        if let Some(value) = self.environment.non_empty(name) {
            return Some(Given { name, value: value.trim().to_owned(), source: Source::Environment });
        }
        let (_, value) = self.file.iter().find(|(known, _)| *known == name)?;
        Some(Given { name, value: value.clone(), source: Source::File(self.file_path.clone()?) })
    }

    /// The value of a setting that has a default.
    pub(super) fn value<T>(&self, setting: &Setting<T>) -> Result<T> {
        let row = &setting.row;
        let default = || Given { name: row.name, value: row.default().unwrap_or_default(), source: Source::Default };
        self.get(row).unwrap_or_else(default).parse(setting)
    }

    /// The value of a setting, if it is set.
    pub(super) fn optional<T>(&self, setting: &Setting<T>) -> Result<Option<T>> {
        self.get(&setting.row).map(|given| given.parse(setting)).transpose()
    }

    /// A secret that is set itself, or through a file that contains it.
    pub(super) fn secret(&self, itself: &Described, as_file: &Described) -> Result<Option<Given>> {
        let is_in_file = |given: &Given| matches!(given.source, Source::File(_));
        match (self.get(itself), self.get(as_file)) {
            // The environment wins over the file between the two names, too.
            (Some(given), Some(path)) if is_in_file(&given) && !is_in_file(&path) => read_secret(path).map(Some),
            (Some(given), _) => Ok(Some(given)),
            (None, path) => path.map(read_secret).transpose(),
        }
    }
}

fn read_secret(given: Given) -> Result<Given> {
    let Given { name, value: path, source } = given;
    let text = std::fs::read_to_string(&path)
        .map_err(|error| SettingsError::new(format!("cannot read {name} {} ({source}): {error}", quoted(&path))))?;
    Ok(Given { name, value: text.trim().to_owned(), source })
}

/// Refuses variables whose name is close to a setting's: a misspelled `MIGRATION_DRY_RUN` would turn a rehearsal into a
/// real pass.
pub(super) fn check_names(environment: &Environment) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for (name, _) in &environment.0 {
        if is_ours(name) {
            continue;
        }
        let Some(meant) = similar(name) else { continue };
        if meant.starts_with("REDIS") {
            // Other programs use such names, too. But with the wrong store, every instance looks new.
            if environment.non_empty(meant).is_none() {
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

/// Reads the configuration file: the one that is named, else the first default that exists, else none.
fn read_file(flag: Option<&Path>, environment: &Environment) -> Result<(Option<PathBuf>, Vec<(&'static str, String)>)> {
    let named = flag.map(Path::to_path_buf).or_else(|| environment.non_empty("RESPOT_CONFIG").map(PathBuf::from));
    let path = match named {
        Some(path) => Some(path),
        None => default_files(environment).into_iter().find(|path| path.exists()),
    };
    let Some(path) = path else { return Ok((None, Vec::new())) };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        SettingsError::new(format!("cannot read the configuration file {}: {error}", path.display()))
    })?;
    let entries = parse_file(&path, &text)?;
    Ok((Some(path), entries))
}

fn default_files(environment: &Environment) -> Vec<PathBuf> {
    let user = environment
        .non_empty("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| environment.non_empty("HOME").map(|home| Path::new(home).join(".config")));
    let folders = user.map(|folder| folder.join("respot")).into_iter().chain([PathBuf::from("/etc/respot")]);
    folders.map(|folder| folder.join("respot.toml")).collect()
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
