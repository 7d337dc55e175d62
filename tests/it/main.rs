//! The integration tests, one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod redis_server;
mod scenarios;
mod simulation;
mod store_contract;
