//! The providers.

pub mod novita;
