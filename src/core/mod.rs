//! The decisions, and the values they are made from.
//!
//! Everything here is a pure function over values: no async, no clock, no environment, no printing, no HTTP and no
//! store. To learn why respot did something, read this folder and nothing else.
//!
//! The rooms stand in one order, and each uses only those before it: [`world`], [`recreation`], [`pass`], [`rollout`],
//! [`record`].

pub mod pass;
pub mod record;
pub mod recreation;
pub mod rollout;
pub mod world;
