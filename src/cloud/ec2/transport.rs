//! Signed exchanges with a service of AWS in one region.

use std::rc::Rc;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::ExposeSecret as _;
use url::Url;

use super::facts::encoded;
pub use super::keys::KeyRing;
use super::sign::{FORM, Signed, SigningScope, host_of, sign};
use crate::clock::Clock;
use crate::cloud::http::HttpLine;
use crate::cloud::transport::{Request, Response, Transport, TransportError};
use crate::credentials::aws::{AwsService, Protocol};

/// Signs each attempt and sends it.
#[derive(Clone, Debug)]
pub struct SignedTransport {
    line: HttpLine,
    base: Url,
    region: String,
    service: AwsService,
    keys: Rc<KeyRing>,
}

impl SignedTransport {
    /// A transport to a service at `base` in a region.
    #[must_use]
    pub fn new(line: HttpLine, base: Url, region: &str, service: AwsService, keys: Rc<KeyRing>) -> Self {
        Self { line, base, region: region.into(), service, keys }
    }
}

/// The form of a call: what it is, then its parameters.
#[must_use]
pub fn form_of(request: &Request, version: &str) -> String {
    let call = encoded([("Action", request.path), ("Version", version)]);
    match request.body.as_deref() {
        None | Some("") => call,
        Some(parameters) => format!("{call}&{parameters}"),
    }
}

impl Transport for SignedTransport {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let keys = self.keys.keys().await?;
        let (content_type, target, body) = match self.service.protocol() {
            Protocol::Form { version } => (FORM.to_owned(), None, form_of(request, version)),
            Protocol::Json { version, target } => {
                let body = request.body.clone().unwrap_or_default();
                (format!("application/x-amz-json-{version}"), Some(format!("{target}{}", request.path)), body)
            }
        };
        let scope = SigningScope { region: &self.region, service: self.service.signing_name() };
        let headers = Signed { host: &host_of(&self.base), content_type: &content_type, target: target.as_deref() };
        let (authorization, date) = sign(&keys, scope, headers, &body, Clock::system().machine_now());
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| TransportError::NoCredentials("the keys contain characters that cannot be sent".into()))?;
            value.set_sensitive(true);
            Ok::<_, TransportError>(value)
        };
        let mut builder = self
            .line
            .request(reqwest::Method::POST, self.base.clone())
            .header(CONTENT_TYPE, content_type)
            .header("x-amz-date", date)
            .header(AUTHORIZATION, sensitive(&authorization)?);
        if let Some(target) = target {
            builder = builder.header("x-amz-target", target);
        }
        if let Some(token) = &keys.token {
            builder = builder.header("x-amz-security-token", sensitive(token.expose_secret())?);
        }
        self.line.send(builder.body(body), request.timeout).await
    }
}
