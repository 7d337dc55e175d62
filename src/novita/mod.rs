//! The provider. The only place that knows its HTTP.
pub mod transport;
