//! One exchange with the provider, and nothing about what it means.
//!
//! This is the seam at which a stand-in for the provider can take the network's place: everything above it, from
//! paging to retries, is the same in production and in a simulation.

use std::fmt;
use std::time::Duration;

/// A request, ready but for the key and the base address.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// Path behind the base address, beginning with `/v1/`; below `/v1/metrics/` the base is another one (section 1.1).
    pub path: &'static str,
    /// Query parameters, not yet encoded.
    pub query: Vec<(&'static str, String)>,
    /// A JSON body. Never logged: it may hold secrets.
    pub body: Option<String>,
    /// The whole exchange must be over by then, counted from its start.
    pub timeout: Duration,
}

impl fmt::Debug for Request {
    /// Without the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, query, body: _, timeout } = self;
        write!(f, "{} {path} {query:?} within {timeout:?}", method.into_str())
    }
}

/// The two methods of the v1 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE", const_into_str)]
pub enum Method {
    /// Reads.
    Get,
    /// Writes.
    Post,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// The value of `Date`, as it came: what the provider's clock shows.
    pub date: Option<String>,
    /// The body, complete.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection was made, so not one byte of the request can have had an effect.
    #[error("cannot connect: {0}")]
    NotSent(String),
    /// The other side could not prove who it is. Nothing was sent, and asking again will not help.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// Nothing, or not all, came back within the time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke after something may have been sent.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is longer than anything the provider sends.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Carries out one exchange: one attempt, no retries, within the request's timeout.
pub trait Transport {
    /// Sends `request` and reads the whole answer.
    ///
    /// # Errors
    /// [`TransportError`], which tells apart what cannot have had an effect from what may have.
    fn exchange(&self, request: &Request) -> impl Future<Output = Result<Response, TransportError>>;
}
