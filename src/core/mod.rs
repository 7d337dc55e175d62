//! The decisions, and the values they are made from.
//!
//! Everything here is a pure function over values: no async, no clock, no environment, no printing, no HTTP and no
//! store. Whoever wants to know why respot did something reads this folder and nothing else.

pub mod advice;
pub mod audit;
pub mod explain;
pub mod exposure;
pub mod failures;
pub mod gate;
pub mod health;
pub mod indicators;
pub mod journal;
pub mod ledger;
pub mod life;
pub mod marker;
pub mod metrics;
pub mod model;
pub mod money;
pub mod outbox;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod recreate;
pub mod rollout;
pub mod safety;
pub mod savings;
pub mod settle;
pub mod summary;
pub mod tidings;
pub mod verdict;
