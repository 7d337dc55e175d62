//! The decisions, and the values they are made from.
//!
//! Everything here is a pure function over values: no async, no clock, no environment, no printing, no HTTP and no
//! store. Whoever wants to know why respot did something reads this folder and nothing else.

pub mod failures;
pub mod journal;
pub mod ledger;
pub mod marker;
pub mod model;
pub mod plan;
pub mod policy;
pub mod recreate;
pub mod safety;
pub mod settle;
pub mod summary;
pub mod verdict;
