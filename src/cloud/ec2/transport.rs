//! Signed exchanges with a service of AWS in one region.

use std::rc::Rc;

use anyhow::Result;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use url::Url;

use super::facts::encoded;
pub use super::keys::KeyRing;
use super::sign::{FORM, SigningScope, host_of, sign};
use crate::clock::Clock;
use crate::cloud::http::HttpLine;
use crate::cloud::transport::{Request, Response, Transport, TransportError};
use crate::proxies::Proxies;

/// The version of EC2's API.
const EC2: &str = "2016-11-15";
/// The version of STS's API.
const STS: &str = "2011-06-15";

/// Signs each attempt and sends it.
#[derive(Clone, Debug)]
pub struct SignedTransport {
    line: HttpLine,
    base: Url,
    region: String,
    service: &'static str,
    version: &'static str,
    keys: Rc<KeyRing>,
}

impl SignedTransport {
    /// A transport to EC2 at `base` in a region.
    ///
    /// # Errors
    /// When no CA certificate is found.
    pub fn ec2(base: Url, region: &str, keys: Rc<KeyRing>, proxies: &Proxies) -> Result<Self> {
        Self::new(base, region, ("ec2", EC2), keys, proxies)
    }

    /// The same to STS.
    ///
    /// # Errors
    /// When no CA certificate is found.
    pub fn sts(base: Url, region: &str, keys: Rc<KeyRing>, proxies: &Proxies) -> Result<Self> {
        Self::new(base, region, ("sts", STS), keys, proxies)
    }

    fn new(
        base: Url,
        region: &str,
        (service, version): (&'static str, &'static str),
        keys: Rc<KeyRing>,
        proxies: &Proxies,
    ) -> Result<Self> {
        let line = HttpLine::new(&base, HeaderMap::new(), proxies)?;
        Ok(Self { line, base, region: region.into(), service, version, keys })
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
        let body = form_of(request, self.version);
        let scope = SigningScope { region: &self.region, service: self.service };
        let (authorization, date) = sign(&keys, scope, &host_of(&self.base), &body, Clock::system().machine_now());
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| TransportError::NoCredentials("the keys contain characters that cannot be sent".into()))?;
            value.set_sensitive(true);
            Ok::<_, TransportError>(value)
        };
        let mut builder = self
            .line
            .request(reqwest::Method::POST, self.base.clone())
            .header(CONTENT_TYPE, FORM)
            .header("x-amz-date", date)
            .header(AUTHORIZATION, sensitive(&authorization)?);
        if let Some(token) = &keys.token {
            builder = builder.header("x-amz-security-token", sensitive(token.expose_secret())?);
        }
        self.line.send(builder.body(body), request.timeout).await
    }
}
