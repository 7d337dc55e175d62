//! TLS for everything that speaks HTTP here, and what is said when it fails.

use std::error::Error as _;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

/// The system's authorities, or none when no TLS will be spoken: reading them takes longer than a pass over a small
/// fleet.
///
/// # Errors
/// When TLS is needed and no certificate of an authority is found.
pub fn config(needed: bool) -> Result<rustls::ClientConfig> {
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

/// What went wrong below a request, without its address: the outer layers only say that it failed, the inner ones why.
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
