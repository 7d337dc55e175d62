//! Which requests go through a proxy: as curl decides it from the usual variables, apart from one rule: what stays on this
//! machine is never sent to a proxy.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// The proxies that the environment names.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exempt: Vec<Exempt>,
}

/// A proxy, and the variable that names it. It is shown without user and password.
#[derive(Clone)]
pub struct Proxy {
    pub variable: &'static str,
    url: Url,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.url.port().map_or_else(String::new, |port| format!(":{port}"));
        write!(f, "{}://{}{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    Everything,
    /// This host and all below it.
    Domain {
        name: String,
        port: Option<u16>,
    },
    /// Addresses that share their first bits with this one.
    Network {
        address: IpAddr,
        bits: u32,
        port: Option<u16>,
    },
}

impl Proxies {
    /// `exempt` is the text of `NO_PROXY`.
    #[must_use]
    pub fn new(http: Option<Proxy>, https: Option<Proxy>, exempt: &str) -> Self {
        Self { http, https, exempt: exempt.split([',', ' ', '\t']).filter_map(Exempt::parse).collect() }
    }

    /// The proxy for a request to `url`, if it goes through one.
    #[must_use]
    pub fn of_url(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() };
        proxy.filter(|_| !is_loopback(url) && !self.exempt.iter().any(|it| it.covers(url)))
    }
}

impl Proxy {
    /// Reads the value of a variable; without a scheme it is `http`.
    ///
    /// # Errors
    /// What is wrong with it. The text never shows the value, which may contain a password.
    pub fn parse(variable: &'static str, text: &str) -> Result<Self, String> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
        match url.scheme() {
            "http" | "https" => {}
            scheme if scheme.starts_with("socks") => return Err("SOCKS proxies are not supported".into()),
            scheme => return Err(format!("unsupported scheme {scheme:?}")),
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("a proxy has no path".into());
        }
        Ok(Self { variable, url })
    }

    /// The whole URL, for requests.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Whether a URL leads to this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => {
            let address = address.to_canonical();
            address.is_loopback() || address.is_unspecified()
        }
        None => false,
    }
}

impl Exempt {
    /// An entry: `*`, a host or domain, an address, or a network such as `10.0.0.0/8`; a port may follow the first three.
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        let (host, port) = match entry.rsplit_once(':') {
            // Without brackets, the colons of an IPv6 address are not in front of a port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (entry, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let (address, bits) = host.split_once('/').map_or((host, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|bits| *bits <= all))?;
            return Some(Self::Network { address, bits, port });
        }
        let name = host.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Domain { name, port })
    }

    fn covers(&self, url: &Url) -> bool {
        let has = |port: &Option<u16>| port.is_none_or(|port| url.port_or_known_default() == Some(port));
        match (self, url.host()) {
            (Self::Everything, _) => true,
            (Self::Domain { name, port }, Some(Host::Domain(host))) => {
                let host = host.trim_end_matches('.');
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && has(port)
            }
            (Self::Network { address, bits, port }, Some(Host::Ipv4(host))) => {
                is_in(*address, *bits, host.into()) && has(port)
            }
            (Self::Network { address, bits, port }, Some(Host::Ipv6(host))) => {
                is_in(*address, *bits, host.into()) && has(port)
            }
            _ => false,
        }
    }
}

fn is_in(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_through_the_proxy_that_curl_would_take_but_none_that_stays_here() {
        let proxy = |variable| Proxy::parse(variable, "http://p:1").ok();
        // NO_PROXY, a URL, and whether the request goes through the proxy.
        let rows = [
            ("", "https://api.example.com/", true),
            ("", "http://10.0.0.1/", true),
            ("", "http://localhost:8080/", false),
            ("", "http://127.9.9.9/", false),
            ("", "https://[::1]:8443/", false),
            ("", "http://localhost./", false),
            ("", "http://sim.localhost:8080/", false),
            ("", "http://0.0.0.0/", false),
            ("", "http://[::ffff:127.0.0.1]/", false),
            ("", "http://[::]/", false),
            ("", "http://localhost.example.com/", true),
            ("*", "https://api.example.com/", false),
            ("*", "https://10.0.0.1/", false),
            ("example.com", "https://api.example.com/", false),
            (".example.com", "https://api.example.com/", false),
            ("*.example.com", "https://api.example.com./", false),
            ("EXAMPLE.com", "https://example.com/", false),
            ("ample.com", "https://example.com/", true),
            ("other.net, example.com", "https://example.com/", false),
            ("other.net example.com", "https://example.com/", false),
            ("example.com:443", "https://example.com/", false),
            ("example.com:8443", "https://example.com/", true),
            ("10.0.0.1", "http://10.0.0.1/", false),
            ("10.0.0.1:81", "http://10.0.0.1/", true),
            ("10.0.0.0/8", "http://10.9.8.7/", false),
            ("10.0.0.0/8", "http://11.9.8.7/", true),
            ("0.0.0.0/0", "http://11.9.8.7/", false),
            ("10.0.0.0/33", "http://10.9.8.7/", true),
            ("fd00::/8", "http://[fd12::1]/", false),
            ("fd12::1", "http://[fd12::1]/", false),
            ("[fd12::1]:80", "http://[fd12::1]/", false),
            ("::/0", "http://[fd12::1]/", false),
        ];
        for (exempt, url, is_proxied) in rows {
            let found = Proxies::new(proxy("HTTP_PROXY"), proxy("HTTPS_PROXY"), exempt);
            let proxy = found.of_url(&Url::parse(url).unwrap()).map(|it| it.variable);
            let expected = if url.starts_with("https") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
            assert_eq!(proxy, is_proxied.then_some(expected), "{exempt:?}, {url}");
        }
    }

    #[test]
    fn what_is_no_http_proxy_is_refused() {
        let rows = [
            ("proxy.corp:3128", Ok("http://proxy.corp:3128")),
            ("http://user:pw12@proxy.corp:3128/", Ok("http://proxy.corp:3128")),
            ("socks5h://127.0.0.1:1080", Err("SOCKS proxies are not supported")),
            ("ftp://proxy.corp", Err("unsupported scheme \"ftp\"")),
            ("http://proxy.corp/path", Err("a proxy has no path")),
            ("http://", Err("empty host")),
        ];
        for (text, expected) in rows {
            let parsed = Proxy::parse("HTTPS_PROXY", text).map(|it| format!("{it:?}"));
            assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
