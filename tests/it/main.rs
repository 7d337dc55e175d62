//! The integration tests, one binary: what needs more than one module, a server, a file or the program itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod cli;
mod deploy;
mod doctor;
mod explain;
mod faults;
mod generated;
mod harness;
mod journals;
mod kills;
mod leases;
mod limits;
mod lives;
mod outlets;
mod pacing;
mod passes;
mod prometheus;
mod readme;
mod receiver;
mod redis_faults;
mod redis_server;
mod relay;
mod scenarios;
mod secrets;
mod simulation;
mod status;
mod stops;
mod store_contract;
mod stores;
mod successors;
mod tidy;
mod timed;
mod tls;
mod webhooks;
