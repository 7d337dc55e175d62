//! Obtains the keys that requests are signed with, and renews them before they end.

use std::cell::RefCell;
use std::fmt;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::facts::encoded;
use super::refusal::error_in;
use super::sign::{FORM, Signed, SigningScope, host_of, sign};
use super::wire;
use super::xml::{Element, Shape, shapes};
use crate::clock::Clock;
use crate::cloud::http::HttpLine;
use crate::cloud::transport::{Response, TransportError};
use crate::core::world::time::Timestamp;
use crate::credentials::{ContainerToken, CredentialSource, Keys};
use crate::proxies::Proxies;

/// Keys are renewed when they have no more than this left: longer than a pass.
const RESERVE: Duration = Duration::from_secs(600);

/// The metadata endpoint of an EC2 instance.
const METADATA: &str = "http://169.254.169.254";
const METADATA_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const HOST_PATH: &str = "/latest/meta-data/instance-id";

/// How long the endpoints on the machine may take, and how often they are asked.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(2);
const LOCAL_ATTEMPTS: u32 = 3;

const STS_TIMEOUT: Duration = Duration::from_secs(10);
const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

/// The keys of one source, for all requests of a command.
#[derive(Debug)]
pub struct KeyRing {
    source: CredentialSource,
    sts: Url,
    region: String,
    metadata: Url,
    /// To STS, which may be behind a proxy.
    line: HttpLine,
    /// To endpoints on the machine, which are not.
    local: HttpLine,
    keys: RefCell<Option<Keys>>,
    /// The instance that this program runs on, if the metadata was asked for keys and told that, too.
    host: Rc<RefCell<Option<String>>>,
}

/// What a container's endpoint, the metadata and a command answer. Names differ in their case only.
#[derive(Deserialize)]
struct Answered {
    #[serde(alias = "AccessKeyId")]
    access_key_id: String,
    #[serde(alias = "SecretAccessKey")]
    secret_access_key: SecretText,
    #[serde(default, alias = "Token", alias = "SessionToken")]
    token: Option<SecretText>,
    #[serde(default, alias = "Expiration")]
    expiration: Option<String>,
}

shapes! {
    /// Of AssumeRole and AssumeRoleWithWebIdentity.
    struct Assumed {
        result: AssumedResult = "AssumeRoleResult" | "AssumeRoleWithWebIdentityResult",
    }

    struct AssumedResult {
        credentials: AssumedKeys,
    }

    struct AssumedKeys {
        access_key_id: String,
        secret_access_key: SecretText,
        session_token: Option<SecretText>,
        expiration: Option<String>,
    }
}

/// A text that `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
struct SecretText(String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

impl Shape for SecretText {
    fn read(element: &Element, unread: &mut Vec<String>) -> Self {
        Self(String::read(element, unread))
    }
}

impl Answered {
    fn keys(self) -> Keys {
        let Self { access_key_id: id, secret_access_key, token, expiration } = self;
        let token = token.map(|it| it.0).filter(|it| !it.is_empty()).map(SecretString::from);
        let expires_at = expiration.and_then(|at| at.parse::<Timestamp>().ok());
        Keys { id, secret: secret_access_key.0.into(), token, expires_at }
    }
}

fn none(why: impl Into<String>) -> TransportError {
    TransportError::NoCredentials(why.into())
}

impl KeyRing {
    /// Keys of `source`, with STS at `sts` in a region; the metadata of the instance is at its usual address unless another one
    /// is named.
    ///
    /// # Errors
    /// When no CA certificate is found.
    pub fn new(
        source: CredentialSource,
        (sts, region): (Url, &str),
        metadata: Option<Url>,
        line: HttpLine,
    ) -> Result<Self> {
        let metadata = metadata.map_or_else(|| Url::parse(METADATA), Ok)?;
        let local = HttpLine::new(&metadata, HeaderMap::new(), &Proxies::default())?;
        let (keys, host) = (RefCell::default(), Rc::default());
        Ok(Self { source, sts, region: region.into(), metadata, line, local, keys, host })
    }

    /// The instance that this program runs on, once its metadata were asked for keys.
    #[must_use]
    pub fn host(&self) -> Rc<RefCell<Option<String>>> {
        Rc::clone(&self.host)
    }

    /// Where the keys come from.
    pub fn source(&self) -> &CredentialSource {
        &self.source
    }

    /// Keys that are valid for some time.
    ///
    /// # Errors
    /// [`TransportError::NoCredentials`].
    pub(super) async fn keys(&self) -> Result<Keys, TransportError> {
        let now = Clock::system().machine_now();
        let is_fresh = |keys: &&Keys| keys.expires_at.is_none_or(|at| now + RESERVE < at);
        if let Some(keys) = self.keys.borrow().as_ref().filter(is_fresh) {
            return Ok(keys.clone());
        }
        let keys = self.obtain(&self.source).await.map_err(|error| {
            let why = match error {
                TransportError::NoCredentials(why) => why,
                other => other.to_string(),
            };
            none(match &self.source {
                CredentialSource::Metadata => {
                    format!("none are configured, and there is no role of this machine: {why}")
                }
                source => format!("{source}: {why}"),
            })
        })?;
        *self.keys.borrow_mut() = Some(keys.clone());
        Ok(keys)
    }

    async fn obtain(&self, source: &CredentialSource) -> Result<Keys, TransportError> {
        match source {
            CredentialSource::Environment(keys) | CredentialSource::Profile { keys, .. } => Ok(keys.clone()),
            CredentialSource::WebIdentity { role, token_file, session } => {
                let token = crate::paths::read_text(token_file)
                    .map_err(|error| none(format!("cannot read {}: {error}", token_file.display())))?;
                let form = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                    ("WebIdentityToken", token.trim()),
                ];
                self.assume(encoded(form), None).await
            }
            CredentialSource::Role { role, session, external_id, from } => {
                let keys = Box::pin(self.obtain(from)).await?;
                let mut form = vec![
                    ("Action", "AssumeRole"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role.as_str()),
                    ("RoleSessionName", session.as_str()),
                ];
                form.extend(external_id.as_deref().map(|id| ("ExternalId", id)));
                self.assume(encoded(form), Some(&keys)).await
            }
            CredentialSource::Process { command, .. } => printed(command).await,
            CredentialSource::Container { url, token } => {
                let token = match token {
                    None => None,
                    Some(ContainerToken::Value(value)) => Some(value.expose_secret().to_owned()),
                    Some(ContainerToken::File(path)) => Some(
                        crate::paths::read_text(path)
                            .map_err(|error| none(format!("cannot read {}: {error}", path.display())))?,
                    ),
                };
                let response = self.local(reqwest::Method::GET, url, &[("authorization", token.as_deref())]).await?;
                decoded(&response)
            }
            CredentialSource::Metadata => self.of_instance().await,
        }
    }

    async fn assume(&self, body: String, signed_by: Option<&Keys>) -> Result<Keys, TransportError> {
        let mut request = self.line.request(reqwest::Method::POST, self.sts.clone()).header(CONTENT_TYPE, FORM);
        if let Some(keys) = signed_by {
            let scope = SigningScope { region: &self.region, service: "sts" };
            let at = Clock::system().machine_now();
            let (authorization, date) = sign(keys, scope, Signed::form(&host_of(&self.sts)), &body, at);
            request = request.header(AUTHORIZATION, authorization).header("x-amz-date", date);
            if let Some(token) = &keys.token {
                request = request.header("x-amz-security-token", token.expose_secret());
            }
        }
        let response = self.line.send(request.body(body), STS_TIMEOUT).await?;
        if response.status != 200 {
            return Err(none(format!("STS answered {}: {}", response.status, error_in(&response.body))));
        }
        let assumed: Assumed = wire::read(&response.body).map_err(|what| none(format!("STS answered, but {what}")))?;
        let AssumedKeys { access_key_id, secret_access_key, session_token: token, expiration } =
            assumed.result.credentials;
        if access_key_id.is_empty() || secret_access_key.0.is_empty() {
            return Err(none("STS answered something else than credentials"));
        }
        Ok(Answered { access_key_id, secret_access_key, token, expiration }.keys())
    }

    async fn of_instance(&self) -> Result<Keys, TransportError> {
        let url = |path: &str| self.metadata.join(path).map_err(|error| none(error.to_string()));
        let life = ("x-aws-ec2-metadata-token-ttl-seconds", Some("21600"));
        let token = self.local(reqwest::Method::PUT, &url("/latest/api/token")?, &[life]).await?;
        let token = String::from_utf8_lossy(&token.body).into_owned();
        let shown = ("x-aws-ec2-metadata-token", Some(token.as_str()));
        let role = self.local(reqwest::Method::GET, &url(METADATA_PATH)?, &[shown]).await?;
        let role = String::from_utf8_lossy(&role.body).lines().next().unwrap_or_default().trim().to_owned();
        let host = self.local(reqwest::Method::GET, &url(HOST_PATH)?, &[shown]).await;
        *self.host.borrow_mut() = host.ok().map(|it| String::from_utf8_lossy(&it.body).trim().to_owned());
        let path = format!("{METADATA_PATH}{role}");
        decoded(&self.local(reqwest::Method::GET, &url(&path)?, &[shown]).await?)
    }

    /// Asks an endpoint on this machine.
    async fn local(
        &self,
        method: reqwest::Method,
        url: &Url,
        headers: &[(&'static str, Option<&str>)],
    ) -> Result<Response, TransportError> {
        let mut last = none("it was not asked");
        for _ in 0..LOCAL_ATTEMPTS {
            let mut request = self.local.request(method.clone(), url.clone());
            for (name, value) in headers.iter().filter_map(|(name, value)| Some((*name, (*value)?))) {
                let mut value = HeaderValue::from_str(value.trim()).map_err(|_| none("its token cannot be sent"))?;
                value.set_sensitive(true);
                request = request.header(name, value);
            }
            match self.local.send(request, LOCAL_TIMEOUT).await {
                Ok(response) if response.status == 200 => return Ok(response),
                Ok(response) => last = none(format!("{} answered {}", url.path(), response.status)),
                Err(error) => last = none(error.to_string()),
            }
        }
        Err(last)
    }
}

fn decoded(response: &Response) -> Result<Keys, TransportError> {
    let answered: Answered =
        serde_json::from_slice(&response.body).map_err(|_| none("it answered something else than credentials"))?;
    Ok(answered.keys())
}

/// What a command prints. Its output is never shown.
async fn printed(command: &SecretString) -> Result<Keys, TransportError> {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", command.expose_secret()]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PROCESS_TIMEOUT, shell.output()).await;
    let output = output.map_err(|_| none(format!("it printed nothing within {} s", PROCESS_TIMEOUT.as_secs())))?;
    let output = output.map_err(|error| none(format!("it could not be started: {error}")))?;
    if !output.status.success() {
        return Err(none(format!("it ended with {}", output.status)));
    }
    let answered: Answered =
        serde_json::from_slice(&output.stdout).map_err(|_| none("it printed something else than credentials"))?;
    Ok(answered.keys())
}
