//! The provider's world as values, and what the operator allows: what is seen, never what to do about it.

pub mod error;
pub mod headers;
pub mod instance;
pub mod market;
pub mod money;
pub mod policy;
pub mod probe;
pub mod snapshot;
pub mod time;
pub mod times;
