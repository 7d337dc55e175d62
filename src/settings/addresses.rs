//! Settings that are addresses, and what an address may look like. Their errors never show a value that may hold a
//! password.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::StoreSetting;
use super::parsers::{self, Invalid};
use crate::proxies::is_loopback;

/// A URL of which only scheme, host and port are ever shown: the rest often grants access by itself.
#[derive(Clone, Debug)]
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
    const HINT: &str = "use a URL such as https://example.com/path; the current value is not shown here";
    let url = Url::parse(text).map_err(|error| Invalid::hidden(error.to_string(), HINT))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Invalid::hidden(format!("unsupported scheme {:?}", url.scheme()), HINT));
    }
    if url.fragment().is_some() {
        return Err(Invalid::hidden("the fragment after # is never sent", HINT));
    }
    Ok(Address::new(url))
}

/// The receiver of events, which hold names and addresses: in clear text they stay on this machine.
pub(super) fn webhook(text: &str) -> Result<Address, Invalid> {
    let address = address(text)?;
    if !address.is_encrypted() && !Url::parse(text).is_ok_and(|url| is_loopback(&url)) {
        let hint = "use https://…; http://… is only allowed for this machine (localhost, 127.0.0.1, [::1])";
        return Err(Invalid::hidden("events would be sent unencrypted over http:", hint));
    }
    Ok(address)
}

/// The state store; the prefix of its keys is a setting of its own.
pub(super) fn store(text: &str) -> Result<StoreSetting, Invalid> {
    const HINT: &str = "use redis://[user:password@]host[:port][/db], rediss://… for TLS, or sqlite:PATH";
    let scheme = text.get(.."sqlite:".len()).filter(|scheme| scheme.eq_ignore_ascii_case("sqlite:"));
    if let Some(path) = scheme.map(|scheme| &text[scheme.len()..]).filter(|path| !path.is_empty()) {
        // None of these is part of a name that is meant, and each would be another memory without a word.
        let odd = path.trim() != path
            || path.starts_with(['"', '\'', '$'])
            || path.contains('?')
            || path.starts_with("file:")
            || path == ":memory:";
        if odd {
            const HINT: &str = "write sqlite:/path/to/state.db, without quotes, blanks, variables and parameters";
            return Err(Invalid { hint: Some(HINT), ..Invalid::new("the path is none that is meant") });
        }
        return parsers::path(path).map(StoreSetting::Sqlite);
    }
    let url = Url::parse(text).map_err(|error| Invalid::hidden(error.to_string(), HINT))?;
    let database = url.path().trim_matches('/');
    let problem = match url.scheme() {
        "sqlite" => "the path is missing".into(),
        "redis" | "rediss" if url.host_str().is_none_or(str::is_empty) => "the host is missing".into(),
        "redis" | "rediss" if !database.is_empty() && database.parse::<u16>().is_err() => {
            "the database is not a number (or a /, # or ? in the password is not percent-encoded)".into()
        }
        "redis" | "rediss" if url.query().is_some() || url.fragment().is_some() => {
            "what follows ? or # is not used (or the password has one that is not percent-encoded)".into()
        }
        "redis" | "rediss" => return Ok(StoreSetting::Redis { url: text.into(), prefix: String::new() }),
        scheme => format!("unsupported scheme {scheme:?}"),
    };
    Err(Invalid::hidden(problem, HINT))
}
