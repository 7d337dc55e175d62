//! The integration tests, one binary.
mod redis_server;
mod simulation;
mod store_contract;
