//! The real transport: reqwest over rustls with ring.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use url::Url;

use super::transport::{Method, Request, Response, Transport, TransportError};
use crate::tls;

/// Time to make a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that idled longer is not used again, so that a write rarely meets one that the server is closing.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// The longest answer that is read: a page of 100 instances takes some 100 kB.
const LONGEST_ANSWER: usize = 32 << 20;

/// What lives on another base.
const METRICS: &str = "/v1/metrics/";

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
        let client = tls::client_builder(base.scheme() == "https")?
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_LIFE)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self { client, base: base.clone() })
    }

    fn url(&self, request: &Request) -> Url {
        let mut url = self.base.clone();
        let base = self.base.path().trim_end_matches('/');
        let base = if request.path.starts_with(METRICS) { base_of_metrics(base) } else { base.to_owned() };
        url.set_path(&format!("{base}{}", request.path));
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

/// The metrics are at the same origin under `/openapi`, not under `/gpu-instance/openapi` (section 1.1); behind a proxy,
/// under what stands before that.
fn base_of_metrics(base: &str) -> String {
    format!("{}/openapi", base.strip_suffix("/gpu-instance/openapi").unwrap_or_default())
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
    let text = tls::causes(error);
    match (connecting, text.split_once("invalid peer certificate: ")) {
        (true, Some((_, why))) => TransportError::Untrusted(why.into()),
        (true, None) => TransportError::NotSent(text),
        (false, _) => TransportError::Broken(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_live_beside_the_rest() {
        let rows = [
            ("https://api.example/gpu-instance/openapi", "https://api.example/openapi/v1/metrics/gpu/instance?a=b"),
            ("https://api.example/gpu-instance/openapi/", "https://api.example/openapi/v1/metrics/gpu/instance?a=b"),
            ("https://h:1/x/gpu-instance/openapi", "https://h:1/x/openapi/v1/metrics/gpu/instance?a=b"),
            ("https://api.example", "https://api.example/openapi/v1/metrics/gpu/instance?a=b"),
        ];
        for (base, expected) in rows {
            let transport = HttpTransport::new(&base.parse().expect("a URL"), "sk_test").expect("a transport");
            let request = |path| Request {
                method: Method::Get,
                path,
                query: vec![("a", "b".into())],
                body: None,
                timeout: Duration::from_secs(1),
            };
            assert_eq!(transport.url(&request("/v1/metrics/gpu/instance")).as_str(), expected);
            let plain = transport.url(&request("/v1/gpu/instances"));
            assert_eq!(plain.as_str(), format!("{}/v1/gpu/instances?a=b", base.trim_end_matches('/')));
        }
    }
}
