//! The real transport: reqwest over rustls with ring.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use url::Url;

use super::transport::{Method, Request, Response, Transport, TransportError};

/// Time to make a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that idled longer is not used again, so that a write rarely meets one that the server is closing.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// The longest answer that is read: a page of 100 instances takes some 100 kB.
const LONGEST_ANSWER: usize = 32 << 20;

/// Exchanges over the network.
#[derive(Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    base: Url,
}

impl HttpTransport {
    /// A transport to the API at `base`, for example `https://api.novita.ai/gpu-instance/openapi`.
    ///
    /// # Errors
    /// When the key cannot stand in a header or no certificate of an authority is found.
    pub fn new(base: &Url, key: &str) -> Result<Self> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
            .ok()
            .context("the API key holds characters that no key has")?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, bearer),
            // Most v1 pages call it required even for reads; harmless where they do not (section 1.2).
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(base.scheme() == "https")?)
            .default_headers(headers)
            .user_agent(concat!("respot/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the key, or repeat a write, at an address nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_LIFE)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self { client, base: base.clone() })
    }

    fn url(&self, request: &Request) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), request.path));
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        url
    }

    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
        };
        let mut builder = self.client.request(method, self.url(request));
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let mut answer = builder.send().await.map_err(describe)?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()).map(String::from);
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(describe)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(TransportError::TooLong(LONGEST_ANSWER));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, retry_after, body })
    }
}

impl Transport for HttpTransport {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        tokio::time::timeout(request.timeout, self.send(request))
            .await
            .unwrap_or(Err(TransportError::TimedOut(request.timeout)))
    }
}

/// Sorts reqwest's errors by the one question that matters: can the request have had an effect?
fn describe(error: reqwest::Error) -> TransportError {
    let connecting = error.is_connect();
    // Without the address: it is ours, long, and named by the caller.
    let error = error.without_url();
    // The outer layers only say that a request failed; the inner ones say why.
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !text.starts_with("client error (") {
            causes.push(text);
        }
        source = cause.source();
    }
    let text = if causes.is_empty() { error.to_string() } else { causes.join(": ") };
    match (connecting, text.split_once("invalid peer certificate: ")) {
        (true, Some((_, why))) => TransportError::Untrusted(why.into()),
        (true, None) => TransportError::NotSent(text),
        (false, _) => TransportError::Broken(text),
    }
}

/// The system's authorities, or none when no TLS will be spoken: reading them takes longer than a pass over a small
/// fleet.
fn tls(needed: bool) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if needed {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            bail!("no certificates of authorities found; install ca-certificates or set SSL_CERT_FILE");
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
