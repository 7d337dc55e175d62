//! Exchanges over the network, by reqwest over rustls with ring.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use url::Url;

use super::transport::{Method, Request, Response, Transport, TransportError};
use crate::proxies::Proxies;
use crate::tls;

/// Time to make a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that were idle for longer are not reused, so that a write rarely meets one that the server is closing.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// The longest response that is read; a page of 100 instances has some 100 kB.
const LONGEST_ANSWER: usize = 32 << 20;

/// Exchanges over the network.
#[derive(Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    base: Url,
    path: PathOf,
    /// The variable that names the proxy, if requests go through one.
    proxy: Option<&'static str>,
}

/// The path of a request's URL, from the path of the base URL without its last `/` and the request's own path.
pub type PathOf = fn(base: &str, path: &str) -> String;

impl HttpTransport {
    /// A transport to the API at `base` that sends `key` as a bearer token.
    ///
    /// # Errors
    /// When the key cannot be sent in a header or no CA certificate is found.
    pub fn new(base: &Url, key: &str, path: PathOf, proxies: &Proxies) -> Result<Self> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
            .ok()
            .context("the API key contains characters that cannot be sent in a header")?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, bearer),
            // Some APIs require it even for reads.
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        let client = tls::client_builder(base.scheme() == "https", proxies)?
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_LIFE)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self { client, base: base.clone(), path, proxy: proxies.of_url(base).map(|proxy| proxy.variable) })
    }

    fn url(&self, request: &Request) -> Url {
        let mut url = self.base.clone();
        url.set_path(&(self.path)(self.base.path().trim_end_matches('/'), request.path));
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
        let header = |name| answer.headers().get(name).and_then(|it| it.to_str().ok()).map(String::from);
        let (retry_after, date) = (header(RETRY_AFTER), header(DATE));
        if let Some(coding) = header(CONTENT_ENCODING).filter(|it| !it.trim().eq_ignore_ascii_case("identity")) {
            return Err(TransportError::Compressed(coding));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(describe)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(TransportError::TooLong(LONGEST_ANSWER));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, retry_after, date, body })
    }
}

impl Transport for HttpTransport {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let answer = tokio::time::timeout(request.timeout, self.send(request)).await;
        answer.unwrap_or(Err(TransportError::TimedOut(request.timeout))).map_err(|error| match (error, self.proxy) {
            (TransportError::NotSent(detail), Some(variable)) => TransportError::NotProxied { variable, detail },
            (error, _) => error,
        })
    }
}

/// How the HTTP client says that a proxy did not make the connection.
const PROXY_REFUSALS: [&str; 2] = ["proxy authorization required", "tunnel error: unsuccessful"];

/// Sorts reqwest's errors by whether the request can have had an effect.
fn describe(error: reqwest::Error) -> TransportError {
    let connecting = error.is_connect();
    // Without the URL, which is long and known to the caller.
    let text = tls::causes(error);
    match (connecting, text.split_once("invalid peer certificate: ")) {
        (true, Some((_, why))) => TransportError::Untrusted(why.into()),
        // Not a proxy that cannot be reached, which may be in a moment.
        (true, None) if PROXY_REFUSALS.iter().any(|words| text.contains(words)) => TransportError::Proxy(text),
        (true, None) => TransportError::NotSent(text),
        (false, _) => TransportError::Broken(text),
    }
}
