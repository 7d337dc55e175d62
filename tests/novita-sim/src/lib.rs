//! A stateful stand-in for the provider's GPU instance API, as awkward as the fact sheet says the real one is.
//!
//! [`World`] is the provider: instances, jobs, products, rules, and a clock that is told the time. It answers through one
//! of two faces: [`InProcess`] is a transport of the client's for simulations in virtual time, [`Server`] speaks HTTP/1.1
//! on a loopback port for tests of the real program. A script of [`Fault`]s decides what goes wrong in between. Tests
//! assert on the world that they end in.
//!
//! The section numbers in comments are those of the fact sheet about the API.

mod actions;
mod api;
mod fault;
mod fleet;
mod inprocess;
mod machine;
mod reads;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod time;
mod wire;
mod world;

pub use api::{Answer, Call, Delivery, Op, Reply};
pub use fault::{Fault, Match, ParseFaultError, What};
pub use inprocess::InProcess;
pub use machine::{Cluster, Fate, JobRow, Machine, Product, Spec, Volume};
pub use server::{Options, Server};
pub use settings::{AfterReclaim, ErrorShape, MigrateAnswer, NotFound, PageBase, Rules, Total, Wire};
pub use wire::quirk;
pub use world::{DAWN_MS, Entry, Outcome, Picture, World};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A world behind a lock; a test that panicked while holding it does not take the others down.
pub(crate) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
