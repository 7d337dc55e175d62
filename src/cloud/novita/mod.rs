//! Novita AI's GPU-instance API v1, whose facts are in `docs/novita-api.md`.
//!
//! [`client`] makes the calls, and `paging` those that read lists; `blueprint` is what a replacement is made of, `market`
//! where it can be created. `wire` knows the shapes of bodies, `refusal` those of error responses.

/// A response body as the provider may send it, for tests.
#[cfg(test)]
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/novita/", $name)).as_slice()
    };
}

mod blueprint;
pub mod client;
mod hidden;
mod market;
mod paging;
mod refusal;
#[cfg(test)]
mod tests;
mod wire;

use anyhow::Result;
use url::Url;

use self::client::Client;
use crate::cloud::http::HttpTransport;
use crate::proxies::Proxies;

/// A client of the API at `base`, for example `https://api.novita.ai/gpu-instance/openapi`.
///
/// # Errors
/// When the key cannot be sent in a header or no CA certificate is found.
pub fn connect(base: &Url, key: &str, proxies: &Proxies) -> Result<Client<HttpTransport>> {
    Ok(Client::new(HttpTransport::new(base, key, client::path_of, proxies)?))
}
