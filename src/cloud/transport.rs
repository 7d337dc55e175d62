//! One HTTP exchange with a provider, and nothing about what it means.
//!
//! A simulation replaces the network here: everything above, from paging to retries, is the code that production runs.

use std::fmt;
use std::time::Duration;

/// A request without the key and the base URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// The path below the base URL, starting with `/`.
    pub path: &'static str,
    /// Query parameters, not yet encoded.
    pub query: Vec<(&'static str, String)>,
    /// A JSON body. Never logged: it may hold secrets.
    pub body: Option<String>,
    /// The limit of the whole exchange, from its start.
    pub timeout: Duration,
}

impl fmt::Debug for Request {
    /// Without the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, query, body: _, timeout } = self;
        write!(f, "{} {path} {query:?} within {timeout:?}", method.into_str())
    }
}

/// The methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE", const_into_str)]
pub enum Method {
    Get,
    Post,
}

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<String>,
    /// The `Date` header: the provider's clock.
    pub date: Option<String>,
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection was made, so the request had no effect.
    #[error("cannot connect: {0}")]
    NotSent(String),
    /// No connection was made through the proxy that this variable names, so the request had no effect.
    #[error("cannot connect through {variable}: {detail}")]
    NotProxied { variable: &'static str, detail: String },
    /// The server's certificate is not valid. Nothing was sent, and a retry will not help.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// The response was not complete in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke after something may have been sent.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The proxy refused to connect. Nothing was sent, and a retry will not help.
    #[error("the proxy refused: {0}")]
    Proxy(String),
    /// There are no credentials to sign the request with. Nothing was sent.
    #[error("no credentials: {0}")]
    NoCredentials(String),
    /// The response is compressed, which was not asked for.
    #[error("the answer is compressed ({0}), although that was not asked for")]
    Compressed(String),
    /// The response is longer than anything a provider sends.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl TransportError {
    /// How to fix it, where it is understood.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Untrusted(_) => Some(
                "set SSL_CERT_FILE to a file with the certificate of your authority that respot can read, or correct the address of the API",
            ),
            Self::Proxy(_) => Some(PROXY_LOGIN),
            Self::NotProxied { .. } => {
                Some("check that the proxy is up and reaches the provider; NO_PROXY names hosts that need none")
            }
            Self::Compressed(_) => {
                Some("something between here and the provider compresses answers: exempt this program")
            }
            Self::NoCredentials(_) => Some("respot doctor says where credentials are looked for"),
            Self::NotSent(_) | Self::TimedOut(_) | Self::Broken(_) | Self::TooLong(_) => None,
        }
    }
}

/// What to do about a proxy that wants a login, or refuses.
pub const PROXY_LOGIN: &str = "check the user and password in HTTPS_PROXY or HTTP_PROXY (http://user:password@host:port), and what the proxy allows";

/// Carries out one exchange: one attempt, no retries, within the request's timeout.
pub trait Transport {
    /// Sends `request` and reads the whole response.
    ///
    /// # Errors
    /// [`TransportError`], which says whether the request may have had an effect.
    fn exchange(&self, request: &Request) -> impl Future<Output = Result<Response, TransportError>>;
}
