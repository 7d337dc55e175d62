//! HTTP clients with TLS, and how their errors are described.

use std::error::Error as _;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use url::Url;

use crate::proxies::Proxies;

/// An HTTP client that follows no redirects: they would take a key, a signed event or a write to an address that is not
/// configured.
///
/// The system's certificates are only read if a URL is `encrypted`, since that takes longer than a small pass. Which
/// requests go through a proxy is decided by `proxies` alone.
///
/// # Errors
/// When certificates are needed and there are none.
pub fn client_builder(encrypted: bool, proxies: &Proxies) -> Result<reqwest::ClientBuilder> {
    let proxies = proxies.clone();
    let proxy = move |url: &Url| proxies.of_url(url).map(|proxy| proxy.url().clone());
    Ok(reqwest::Client::builder()
        .no_proxy()
        .proxy(reqwest::Proxy::custom(proxy))
        .tls_backend_preconfigured(config(encrypted)?)
        .user_agent(concat!("respot/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none()))
}

fn config(encrypted: bool) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if encrypted {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            match found.errors.first() {
                Some(error) => bail!("no CA certificates found: {error}; correct SSL_CERT_FILE, or unset it"),
                None => bail!("no CA certificates found; install ca-certificates or set SSL_CERT_FILE"),
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(config.context("cannot set up TLS")?.with_root_certificates(roots).with_no_client_auth())
}

/// Makes a TLS connection over an open one and sends nothing else.
///
/// # Errors
/// What is wrong with the server's TLS or its certificate.
pub fn shake_hands(mut stream: std::net::TcpStream, host: &str) -> Result<()> {
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).context("the host is no name for TLS")?;
    let mut session = rustls::ClientConnection::new(Arc::new(config(true)?), name)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(())
}

/// Why a request failed, without its URL: the outer errors only say that it failed, the inner ones why.
#[must_use]
pub fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !text.starts_with("client error (") {
            causes.push(text);
        }
        source = cause.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}
