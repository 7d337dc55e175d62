//! Settings that are addresses, and what an address may look like. Their errors never show a value that may hold a
//! password.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::StoreSetting;
use super::parsers::Invalid;

/// A URL of which only scheme, host and port are ever shown: the rest often grants access by itself.
#[derive(Clone)]
pub struct Address {
    shown: String,
    whole: SecretString,
}

impl Address {
    /// Hides a URL.
    #[must_use]
    pub fn new(url: Url) -> Self {
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        let shown = format!("{}://{}{port}/…", url.scheme(), url.host_str().unwrap_or_default());
        Self { shown, whole: String::from(url).into() }
    }

    /// The whole URL, for the request itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.whole.expose_secret()
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.shown.starts_with("https:")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The provider's API.
pub(super) fn base_url(text: &str) -> Result<Url, Invalid> {
    const EXPECTED: &str = "an http:// or https:// URL without user, query and fragment";
    let url = Url::parse(text).map_err(|_| Invalid::expected(EXPECTED))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid { hidden: true, ..Invalid::expected(EXPECTED) });
    }
    let is_plain = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if is_plain { Ok(url) } else { Err(Invalid::expected(EXPECTED)) }
}

/// The receiver of a request: events, pings, metrics.
pub(super) fn address(text: &str) -> Result<Address, Invalid> {
    let invalid = |problem: String| {
        Invalid::hidden(problem, "use a URL such as https://example.com/path; the current value is not shown here")
    };
    let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("unsupported scheme {}:", url.scheme())));
    }
    if url.fragment().is_some() {
        return Err(invalid("the fragment after # is never sent".into()));
    }
    Ok(Address::new(url))
}

/// The receiver of events, which hold names and addresses: in clear text they stay on this machine.
pub(super) fn webhook(text: &str) -> Result<Address, Invalid> {
    let address = address(text)?;
    if !address.is_encrypted() && !Url::parse(text).is_ok_and(|url| is_loopback(&url)) {
        let hint = "use https://…; http://… is only allowed for this machine (localhost, 127.0.0.1, [::1])";
        return Err(Invalid::hidden("unencrypted: the scheme is http:", hint));
    }
    Ok(address)
}

/// The state store; the prefix of its keys is a setting of its own.
pub(super) fn store(text: &str) -> Result<StoreSetting, Invalid> {
    let invalid = |problem: String| {
        Invalid::hidden(problem, "use redis://[user:password@]host[:port][/db], rediss://… for TLS, or sqlite:PATH")
    };
    if let Some(path) = text.strip_prefix("sqlite:") {
        return match path {
            "" => Err(invalid("sqlite: without a path".into())),
            path => Ok(StoreSetting::Sqlite(path.into())),
        };
    }
    let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err(invalid(format!("unsupported scheme {}:", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("the host is missing".into()));
    }
    let database = url.path().trim_matches('/');
    if !database.is_empty() && database.parse::<u16>().is_err() {
        return Err(invalid(
            "the database is not a number (or a /, # or ? in the password is not percent-encoded)".into(),
        ));
    }
    Ok(StoreSetting::Redis { url: text.into(), prefix: String::new() })
}
