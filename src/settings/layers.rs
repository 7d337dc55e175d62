//! Where a value comes from: the environment over the file, and a flag over both. Misspelt names are found here.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Result, SETTINGS, SettingsError, Warning};

/// The environment as this program sees it.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// Reads the process's environment. Variables that are not UTF-8 and none of ours are passed over.
    ///
    /// # Errors
    /// When one of ours is not UTF-8.
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

    /// A variable that is set to something.
    pub(super) fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Every variable that means something to this program.
fn known_variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name).chain(["RESPOT_CONFIG"])
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
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "from {flag}"),
            Self::Environment => f.write_str("from the environment"),
            Self::File(path) => write!(f, "from {}", path.display()),
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
    pub(super) fn wrong(&self, allowed: &str) -> SettingsError {
        let Self { name, value, source } = self;
        SettingsError::new(format!("{name} is {}, allowed is {allowed} ({source})", quoted(value)))
    }
}

/// A value as a message shows it. Keys turn up where they do not belong.
pub(super) fn quoted(value: &str) -> String {
    if value.contains("sk_") { "what looks like a key".into() } else { format!("{value:?}") }
}

/// The three layers.
pub(super) struct Layers<'a> {
    environment: &'a Environment,
    file: Vec<(&'static str, String)>,
    file_path: PathBuf,
}

impl<'a> Layers<'a> {
    /// Reads the file and puts it under the environment.
    pub(super) fn new(environment: &'a Environment, config: Option<&Path>) -> Result<Self> {
        let (file_path, file) = read_file(config, environment)?;
        Ok(Self { environment, file, file_path })
    }

    pub(super) fn environment(&self) -> &Environment {
        self.environment
    }

    /// The configuration file that was read, if any.
    pub(super) fn file_path(&self) -> Option<&Path> {
        Some(self.file_path.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// Everything in it.
    pub(super) fn file_entries(&self) -> &[(&'static str, String)] {
        &self.file
    }

    /// The value of a setting: environment over file. An empty variable counts as not set.
    pub(super) fn get(&self, name: &'static str) -> Option<Given> {
        if let Some(value) = self.environment.non_empty(name) {
            return Some(Given { name, value: value.trim().to_owned(), source: Source::Environment });
        }
        let (_, value) = self.file.iter().find(|(known, _)| *known == name)?;
        Some(Given { name, value: value.clone(), source: Source::File(self.file_path.clone()) })
    }

    /// A flag over the other layers.
    pub(super) fn with_flag(&self, flag: &'static str, given: Option<&String>, name: &'static str) -> Option<Given> {
        match given {
            Some(value) => Some(Given { name, value: value.clone(), source: Source::Flag(flag) }),
            None => self.get(name),
        }
    }

    pub(super) fn number(&self, name: &'static str, default: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
        let Some(given) = self.get(name) else { return Ok(default) };
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        given.value.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| given.wrong(&allowed))
    }

    pub(super) fn truth(&self, name: &'static str, default: bool) -> Result<bool> {
        let Some(given) = self.get(name) else { return Ok(default) };
        match given.value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(given.wrong("true or false")),
        }
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(given: Option<Given>, default: T, words: &[(&str, T)]) -> Result<T> {
    let Some(given) = given else { return Ok(default) };
    let allowed = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
    words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(&given.value))
        .map(|(_, value)| *value)
        .ok_or_else(|| given.wrong(&allowed()))
}

/// Refuses variables that look like one of ours but are not: a misspelt `MIGRATION_DRY_RUN` would make a rehearsal
/// real.
pub(super) fn check_names(environment: &Environment) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for (name, _) in &environment.0 {
        if is_ours(name) {
            continue;
        }
        let Some(meant) = similar(name) else { continue };
        if meant.starts_with("REDIS") {
            // Other programs have variables of such names, too; but a store that nobody meant looks empty.
            if environment.non_empty(meant).is_none() {
                warnings.push(Warning {
                    message: format!("{name} is set, but {meant} is not: is it misspelt?"),
                    mend: format!("rename it to {meant}, or remove it"),
                });
            }
        } else {
            return Err(SettingsError::new(format!("the environment variable {name} is no setting"))
                .hint(format!("did you mean {meant}? Otherwise remove it")));
        }
    }
    Ok(warnings)
}

/// The setting that a misspelt name comes close to, if any. Underscores and case do not count.
fn similar(name: &str) -> Option<&'static str> {
    let squeeze = |name: &str| name.replace('_', "").to_ascii_uppercase();
    let squeezed = squeeze(name);
    known_variables()
        // Many programs have a webhook.
        .filter(|known| !known.starts_with("WEBHOOK"))
        // Lengths first: a pod has hundreds of variables, some for each port of each service.
        .filter(|known| known.bytes().filter(|byte| *byte != b'_').count().abs_diff(squeezed.len()) <= 2)
        .map(|known| (strsim::osa_distance(&squeeze(known), &squeezed), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

/// Reads the configuration file: the one named, or the first that exists, or none.
fn read_file(flag: Option<&Path>, environment: &Environment) -> Result<(PathBuf, Vec<(&'static str, String)>)> {
    let named = flag.map(Path::to_path_buf).or_else(|| environment.non_empty("RESPOT_CONFIG").map(PathBuf::from));
    let path = match named {
        Some(path) => Some(path),
        None => default_files(environment).into_iter().find(|path| path.exists()),
    };
    let Some(path) = path else { return Ok((PathBuf::new(), Vec::new())) };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        SettingsError::new(format!("cannot read the configuration file {}: {error}", path.display()))
    })?;
    let entries = parse_file(&path, &text)?;
    Ok((path, entries))
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
        // The error's own text quotes the line, which may hold the key.
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        SettingsError::new(format!("{} line {line}: {}", path.display(), error.message()))
    })?;
    let mut entries = Vec::new();
    for (key, value) in table {
        let name = key.to_ascii_uppercase();
        let Some(known) = SETTINGS.iter().find(|setting| setting.name == name && key == key.to_ascii_lowercase())
        else {
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
                    "{}: {key} is of type {what}, allowed is a string, an integer or a boolean",
                    path.display()
                )));
            }
        };
        entries.push((known.name, value));
    }
    Ok(entries)
}
