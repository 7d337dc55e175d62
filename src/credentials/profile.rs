//! The files of the AWS command line, `~/.aws/config` and `~/.aws/credentials`.

use std::collections::HashMap;
use std::path::Path;

use super::{CredentialSource, Keys, Lookup};
use crate::paths::{is_there, read_text};

/// The profiles of both files; what is in the credentials file wins.
#[derive(Debug, Default)]
pub(super) struct Profiles(HashMap<String, HashMap<String, String>>);

impl Profiles {
    /// Reads both files, where they are.
    pub(super) fn read<E: From<String>>(get: Lookup<'_, E>) -> Result<Self, E> {
        let mut profiles = Self::default();
        let home = get("HOME")?;
        for (variable, file) in [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")] {
            let usual = home.as_ref().map(|home| format!("{home}/.aws/{file}"));
            let Some(path) = get(variable)?.or(usual) else { continue };
            let failed = |error: std::io::Error| format!("cannot read {path}: {error}");
            if is_there(Path::new(&path)).map_err(failed)? {
                let text = read_text(Path::new(&path)).map_err(failed)?;
                profiles.add(&text, file == "config");
            }
        }
        Ok(profiles)
    }

    fn add(&mut self, text: &str, is_config: bool) {
        let mut current: Option<&mut HashMap<String, String>> = None;
        for line in text.trim_start_matches('\u{feff}').lines() {
            // Indented lines belong to the setting above, of which none is needed.
            if line.trim().is_empty() || line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            if let Some(section) = line.trim().strip_prefix('[').and_then(|it| it.split_once(']')).map(|it| it.0.trim())
            {
                let name = match section.split_once(char::is_whitespace) {
                    Some(("profile", name)) if is_config => Some(name.trim()),
                    Some(_) => None,
                    None if is_config && section != "default" => None,
                    None => Some(section),
                };
                current = name.map(|name| self.0.entry(name.trim_matches('"').to_owned()).or_default());
            } else if let (Some(profile), Some((key, value))) = (current.as_mut(), line.split_once('=')) {
                profile.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
    }

    pub(super) fn region(&self, name: &str) -> Option<String> {
        self.0.get(name)?.get("region").filter(|region| !region.is_empty()).cloned()
    }

    /// The source of the named profile, or of the default one if that says anything about credentials.
    pub(super) fn source(&self, named: Option<&str>, session: &str) -> Result<Option<CredentialSource>, String> {
        self.of(named.unwrap_or("default"), named.is_some(), session, &mut Vec::new())
    }

    fn of<'a>(
        &'a self,
        name: &'a str,
        is_named: bool,
        session: &str,
        seen: &mut Vec<&'a str>,
    ) -> Result<Option<CredentialSource>, String> {
        let Some(profile) = self.0.get(name) else { return Ok(None) };
        let get = |key: &str| profile.get(key).filter(|value| !value.is_empty()).cloned();
        let keys = || -> Result<Option<CredentialSource>, String> {
            match (get("aws_access_key_id"), get("aws_secret_access_key")) {
                (Some(id), Some(secret)) => {
                    let token = get("aws_session_token").map(Into::into);
                    let keys = Keys { id, secret: secret.into(), token, expires_at: None };
                    Ok(Some(CredentialSource::Profile { name: name.into(), keys }))
                }
                (None, None) => Ok(None),
                _ => Err(format!("the profile {name} has half of a pair of keys")),
            }
        };
        if let Some(role) = get("role_arn") {
            // A profile may take its role with its own keys.
            let is_own = seen.last() == Some(&name);
            let from = match (profile.get("source_profile"), get("credential_source").as_deref()) {
                _ if is_own => return keys(),
                (Some(source), _) if source == name => match keys()? {
                    Some(keys) => keys,
                    None => return Err(format!("the source_profile of {name} leads back to itself")),
                },
                (Some(source), _) => {
                    if seen.contains(&source.as_str()) {
                        return Err(format!("the source_profile of {name} leads back to itself"));
                    }
                    seen.push(name);
                    let missing = || format!("the profile {source}, the source_profile of {name}, has no credentials");
                    self.of(source, true, session, seen)?.ok_or_else(missing)?
                }
                (None, Some("Ec2InstanceMetadata")) => CredentialSource::Metadata,
                (None, Some(other)) => {
                    return Err(format!("the credential_source {other} of the profile {name} is not supported"));
                }
                (None, None) => return Err(format!("the profile {name} has a role_arn and no source_profile")),
            };
            let session = get("role_session_name").unwrap_or_else(|| session.into());
            let external_id = get("external_id");
            return Ok(Some(CredentialSource::Role { role, session, external_id, from: Box::new(from) }));
        }
        if let Some(source) = keys()? {
            return Ok(Some(source));
        }
        if let Some(command) = get("credential_process") {
            return Ok(Some(CredentialSource::Process { profile: name.into(), command: command.into() }));
        }
        if get("sso_session").or(get("sso_start_url")).is_some() {
            return Err(format!(
                "the profile {name} signs in by SSO; give another profile the line credential_process = aws configure export-credentials --profile {name}"
            ));
        }
        match is_named {
            true => Err(format!("the profile {name} has no credentials")),
            false => Ok(None),
        }
    }
}
