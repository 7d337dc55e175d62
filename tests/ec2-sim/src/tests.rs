//! Each law has a test that fails without it.

mod asking;
mod denial;
mod ends;
mod faults;
mod launches;
mod listings;
mod market;
mod metrics;
mod persistent;
mod prices;
mod quotas;
mod reclaims;
mod server;
mod sts;
mod targets;
mod times;
mod tokens;
mod vanishing;
