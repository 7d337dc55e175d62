//! The provider: Novita AI's GPU-instance API v1. The only place that knows its HTTP.
//!
//! [`transport`] is one exchange, [`http`] the real one; [`client`] is the one path every request takes, with retries and
//! pacing, and `paging` how lists take it; `wire` and `refusal` know the shapes of bodies and turn them into
//! `core::model` and `core::recreate`.

/// A response body as the provider may send it, for tests.
#[cfg(test)]
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/novita/", $name)).as_slice()
    };
}

pub mod client;
mod hidden;
pub mod http;
mod look;
mod paging;
mod refusal;
#[cfg(test)]
mod tests;
pub mod transport;
mod wire;
