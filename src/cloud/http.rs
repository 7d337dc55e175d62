//! Exchanges over the network, by reqwest over rustls with ring.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret as _, SecretString};
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
    line: HttpLine,
    base: Url,
    path: PathOf,
    key: SecretString,
}

/// An HTTP client for one host.
#[derive(Clone, Debug)]
pub struct HttpLine {
    client: reqwest::Client,
    /// The variable that names the proxy, if requests go through one.
    proxy: Option<&'static str>,
}

impl HttpLine {
    /// A client for `base` that sends these headers with every request.
    ///
    /// # Errors
    /// When no CA certificate is found.
    pub fn new(base: &Url, headers: HeaderMap, proxies: &Proxies) -> Result<Self> {
        let client = tls::client_builder(base.scheme() == "https", proxies)?
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_LIFE)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self { client, proxy: proxies.of_url(base).map(|proxy| proxy.variable) })
    }

    /// A request to be completed and sent.
    pub fn request(&self, method: reqwest::Method, url: Url) -> reqwest::RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request and reads the whole response within `timeout`.
    ///
    /// # Errors
    /// [`TransportError`], which says whether the request may have had an effect.
    pub async fn send(&self, request: reqwest::RequestBuilder, timeout: Duration) -> Result<Response, TransportError> {
        let answer = tokio::time::timeout(timeout, send(request)).await;
        answer.unwrap_or(Err(TransportError::TimedOut(timeout))).map_err(|error| match (error, self.proxy) {
            (TransportError::NotSent(detail), Some(variable)) => TransportError::NotProxied { variable, detail },
            (error, _) => error,
        })
    }
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
        Ok(Self { line: HttpLine::new(base, headers, proxies)?, base: base.clone(), path, key: key.into() })
    }

    fn url(&self, request: &Request) -> Url {
        let mut url = self.base.clone();
        url.set_path(&(self.path)(self.base.path().trim_end_matches('/'), request.path));
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        url
    }
}

impl Transport for HttpTransport {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
        };
        let mut builder = self.line.request(method, self.url(request));
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let mut response = self.line.send(builder, request.timeout).await?;
        // A refusal may quote the key. Data is left as it is: the environment of an instance may have the same key.
        if !(200..300).contains(&response.status) {
            response.body = without(&response.body, self.key.expose_secret().as_bytes());
        }
        Ok(response)
    }
}

/// Bytes of a secret that give it away.
const TELLING: usize = 8;

/// A text without a secret and without beginnings of it.
fn without(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, behind)) = rest.split_first() {
        let same = rest.iter().zip(secret).take_while(|(a, b)| a == b).count();
        if same >= TELLING.min(secret.len()).max(1) {
            out.extend_from_slice(b"[hidden]");
            rest = &rest[same..];
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

async fn send(request: reqwest::RequestBuilder) -> Result<Response, TransportError> {
    let mut answer = request.send().await.map_err(describe)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_key_is_hidden_whatever_it_looks_like() {
        for (text, shown) in [
            ("invalid api key: nvapi-7F3A9C21D4E85B60", "invalid api key: [hidden]"),
            ("nvapi-7F3A9C21D4E85B60nvapi-7F3A9C21D4E85B60", "[hidden][hidden]"),
            ("invalid api key: nvapi-7F3A9...", "invalid api key: [hidden]..."),
            ("nvapi-7 is short", "nvapi-7 is short"),
            ("", ""),
        ] {
            assert_eq!(without(text.as_bytes(), b"nvapi-7F3A9C21D4E85B60"), shown.as_bytes());
        }
        assert_eq!(without(b"abc", b""), b"abc", "no key");
    }
}
