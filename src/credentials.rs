//! Where AWS credentials come from (`docs/ec2-api.md` section 2.3): the first source that is configured decides, and its
//! failure is the end. A program that terminates instances must not go on with whatever identity comes next.

pub mod aws;
mod profile;

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use crate::core::world::time::Timestamp;

/// Keys to sign requests with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The access key's ID, which is no secret.
    pub id: String,
    pub secret: SecretString,
    /// Of temporary keys.
    pub token: Option<SecretString>,
    /// When temporary keys end.
    pub expires_at: Option<Timestamp>,
}

/// A source of keys.
#[derive(Clone, Debug)]
pub enum CredentialSource {
    Environment(Keys),
    /// A profile with keys in a file.
    Profile {
        name: String,
        keys: Keys,
    },
    /// A token of a Kubernetes service account, or of another identity provider.
    WebIdentity {
        role: String,
        token_file: PathBuf,
        session: String,
    },
    /// A role that the identity of another source may take.
    Role {
        role: String,
        session: String,
        external_id: Option<String>,
        from: Box<CredentialSource>,
    },
    /// A command that prints keys.
    Process {
        profile: String,
        command: SecretString,
    },
    /// The endpoint that ECS or EKS gives to a container.
    Container {
        url: Url,
        token: Option<ContainerToken>,
    },
    /// The role of the instance that this program runs on.
    Metadata,
}

/// What a container shows to its endpoint.
#[derive(Clone, Debug)]
pub enum ContainerToken {
    File(PathBuf),
    Value(SecretString),
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(_) => f.write_str("AWS_ACCESS_KEY_ID in the environment"),
            Self::Profile { name, .. } => write!(f, "the profile {name}"),
            Self::WebIdentity { role, .. } => write!(f, "the role {role} by web identity"),
            Self::Role { role, from, .. } => write!(f, "the role {role}, taken with {from}"),
            Self::Process { profile, .. } => write!(f, "the credential_process of the profile {profile}"),
            Self::Container { .. } => f.write_str("the container's role"),
            Self::Metadata => f.write_str("the role of the instance that this runs on"),
        }
    }
}

/// Reads a variable; `Ok(None)` if it is not set, or empty.
pub type Lookup<'a, E> = &'a dyn Fn(&'static str) -> Result<Option<String>, E>;

/// What the environment and the AWS configuration files say.
#[derive(Clone, Debug)]
pub struct Found {
    pub source: CredentialSource,
    /// Of the environment, or of the profile.
    pub region: Option<String>,
}

/// The hosts that a container's endpoint may have when it is not encrypted, loopback aside.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// Finds the source that is configured.
///
/// # Errors
/// What is configured and cannot be used, or those of `get`.
pub fn find<E: From<String>>(get: Lookup<'_, E>) -> Result<Found, E> {
    let profiles = profile::Profiles::read(get)?;
    let named = get("AWS_PROFILE")?;
    let of_profile = profiles.region(named.as_deref().unwrap_or("default"));
    let region = get("AWS_REGION")?.or(get("AWS_DEFAULT_REGION")?).or(of_profile);
    Ok(Found { source: source(get, &profiles, named)?, region })
}

fn source<E: From<String>>(
    get: Lookup<'_, E>,
    profiles: &profile::Profiles,
    named: Option<String>,
) -> Result<CredentialSource, E> {
    let session = || Ok::<_, E>(get("AWS_ROLE_SESSION_NAME")?.unwrap_or_else(|| "respot".into()));
    match (get("AWS_ACCESS_KEY_ID")?, get("AWS_SECRET_ACCESS_KEY")?) {
        (Some(id), Some(secret)) => {
            let token = get("AWS_SESSION_TOKEN")?.map(Into::into);
            return Ok(CredentialSource::Environment(Keys { id, secret: secret.into(), token, expires_at: None }));
        }
        (Some(_), None) => return Err(one_alone("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        (None, Some(_)) => return Err(one_alone("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")),
        (None, None) => {}
    }
    match (get("AWS_ROLE_ARN")?, get("AWS_WEB_IDENTITY_TOKEN_FILE")?) {
        (Some(role), Some(file)) => {
            return Ok(CredentialSource::WebIdentity { role, token_file: file.into(), session: session()? });
        }
        (Some(_), None) => return Err(one_alone("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")),
        (None, Some(_)) => return Err(one_alone("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")),
        (None, None) => {}
    }
    if let Some(source) = profiles.source(named.as_deref(), &session()?)? {
        return Ok(source);
    }
    if let Some(name) = named {
        return Err(format!("AWS_PROFILE names the profile {name:?}, which is in neither AWS file").into());
    }
    if let Some(source) = container(get)? {
        return Ok(source);
    }
    let is_off = get("AWS_EC2_METADATA_DISABLED")?.is_some_and(|it| it.eq_ignore_ascii_case("true"));
    if is_off {
        return Err("no AWS credentials are configured, and AWS_EC2_METADATA_DISABLED is true".to_owned().into());
    }
    Ok(CredentialSource::Metadata)
}

fn one_alone<E: From<String>>(set: &str, missing: &str) -> E {
    format!("{set} is set and {missing} is not").into()
}

fn container<E: From<String>>(get: Lookup<'_, E>) -> Result<Option<CredentialSource>, E> {
    const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let url = match (get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")?, get(FULL)?) {
        (Some(path), _) => format!("http://169.254.170.2{path}"),
        (None, Some(url)) => url,
        (None, None) => return Ok(None),
    };
    let url = Url::parse(&url).map_err(|error| format!("invalid value for {FULL}: {error}"))?;
    let is_known = url.host_str().is_some_and(|host| CONTAINER_HOSTS.contains(&host));
    if url.scheme() != "https" && !is_known && !crate::proxies::is_loopback(&url) {
        return Err(format!("{FULL} is not https, and its host is none that gives credentials to a container").into());
    }
    let token = match (get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")?, get("AWS_CONTAINER_AUTHORIZATION_TOKEN")?) {
        (Some(file), _) => Some(ContainerToken::File(file.into())),
        (None, value) => value.map(|value| ContainerToken::Value(value.into())),
    };
    Ok(Some(CredentialSource::Container { url, token }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&'static str, &str)]) -> Result<Found, String> {
        let get = |name: &'static str| -> Result<Option<String>, String> {
            Ok(variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        find(&get)
    }

    /// Two files of AWS; `#` is where their folder is put.
    fn with_files(config: &str, credentials: &str, variables: &[(&'static str, &str)]) -> Result<Found, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (config, credentials) = (path("config", config), path("credentials", credentials));
        let files = [("AWS_CONFIG_FILE", config.as_str()), ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str())];
        found(&[&files[..], variables].concat())
    }

    #[test]
    fn the_first_source_that_is_configured_decides() {
        let keys = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
        let identity = [("AWS_ROLE_ARN", "arn:r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")];
        let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")];
        let rows: &[(&[(&str, &str)], &str)] = &[
            (&keys, "AWS_ACCESS_KEY_ID in the environment"),
            (&identity, "the role arn:r by web identity"),
            (&container, "the container's role"),
            (&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")], "the container's role"),
            (&[], "the role of the instance that this runs on"),
        ];
        for (n, (variables, expected)) in rows.iter().enumerate() {
            let later = rows[n + 1..].iter().flat_map(|(variables, _)| variables.iter().copied());
            let all: Vec<(&'static str, &str)> = variables.iter().copied().chain(later).collect();
            assert_eq!(found(&all).map(|it| it.source.to_string()).as_deref(), Ok(*expected));
        }
    }

    #[test]
    fn what_is_configured_and_cannot_be_used_is_an_error() {
        let rows: &[(&[(&'static str, &str)], &str)] = &[
            (&[("AWS_ACCESS_KEY_ID", "AKID")], "AWS_SECRET_ACCESS_KEY is not"),
            (&[("AWS_ROLE_ARN", "arn:r")], "AWS_WEB_IDENTITY_TOKEN_FILE is not"),
            (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")], "AWS_ROLE_ARN is not"),
            (&[("AWS_PROFILE", "misspelt")], "\"misspelt\""),
            (&[("AWS_EC2_METADATA_DISABLED", "TRUE")], "no AWS credentials are configured"),
            (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/x")], "is not https"),
        ];
        for (variables, expected) in rows {
            let error = found(variables).expect_err("an error");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn profiles_have_keys_roles_and_commands() {
        let config = "# comment\n[default]\nregion = eu-west-1\n\n[profile dev]\nrole_arn = arn:dev\nsource_profile = base\nregion=eu-north-1\n\
            external_id = x1\n[profile tool]\ncredential_process = print-keys --now\n[profile loop]\nrole_arn = a\nsource_profile = loop\n\
            [profile sso]\nsso_session = corp\n[profile box]\nrole_arn = arn:box\ncredential_source = Ec2InstanceMetadata\n";
        let credentials = "[default]\naws_access_key_id = AKID\naws_secret_access_key = hunter2\n\n[base]\naws_access_key_id=B\naws_secret_access_key=s=/+x\n";
        let rows = [
            (None, Ok(("the profile default", Some("eu-west-1")))),
            (Some("dev"), Ok(("the role arn:dev, taken with the profile base", Some("eu-north-1")))),
            (Some("tool"), Ok(("the credential_process of the profile tool", None))),
            (Some("box"), Ok(("the role arn:box, taken with the role of the instance that this runs on", None))),
            (Some("loop"), Err("leads back to itself")),
            (Some("sso"), Err("credential_process = aws configure export-credentials --profile sso")),
            (Some("none"), Err("in neither AWS file")),
        ];
        for (profile, expected) in rows {
            let variables: Vec<(&'static str, &str)> = profile.map(|it| ("AWS_PROFILE", it)).into_iter().collect();
            match (with_files(config, credentials, &variables), expected) {
                (Ok(found), Ok((source, region))) => {
                    assert_eq!((found.source.to_string().as_str(), found.region.as_deref()), (source, region));
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (found, _) => panic!("{profile:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn keys_are_never_shown() {
        let found = found(&[("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")]).expect("keys");
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
