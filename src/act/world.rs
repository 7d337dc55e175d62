//! What every part of a pass shares, and what only a pass that acts has.

use std::time::Duration;

use super::audit::Audit;
use super::board::SharedBoard;
use crate::clock::Clock;
use crate::cloud::{CloudRead, CloudWrite};
use crate::core::pass::safety::BlastRadius;
use crate::core::world::policy::Policy;
use crate::report::Reporter;
use crate::stop::Stop;
use crate::store::records::Mode;
use crate::store::{Lease, StoreWrite};

/// The provider, the store and the process, as far as a command reads them. Holds no writer.
pub struct World<'a, C, S> {
    pub cloud: &'a C,
    pub store: &'a S,
    pub limits: &'a Limits<'a>,
    pub clock: &'a Clock,
    pub stop: &'a Stop,
    pub reporter: &'a dyn Reporter,
}

/// What a pass may do.
#[derive(Clone, Debug)]
pub struct Limits<'a> {
    pub policy: &'a Policy,
    pub workers: usize,
    /// No new work starts after this.
    pub deadline: Duration,
    pub mode: Mode,
    pub blast_radius: BlastRadius,
    /// How long it waits for replacements to run.
    pub recreate_wait: Duration,
    /// How long it goes on with a round a minute while something that was reclaimed is down.
    pub keep_trying: Duration,
}

/// The types that a pass works with, as one parameter: where it reads, where it writes, where it remembers.
pub trait Edges {
    type Cloud: CloudRead;
    type CloudWriter: CloudWrite;
    type Memory: StoreWrite;
}

impl<C: CloudRead, W: CloudWrite, S: StoreWrite> Edges for (C, W, S) {
    type Cloud = C;
    type CloudWriter = W;
    type Memory = S;
}

/// A pass that acts: the world, and the right to change it.
pub struct Pass<'a, E: Edges> {
    pub world: &'a World<'a, E::Cloud, E::Memory>,
    pub writer: &'a E::CloudWriter,
    pub lease: &'a Lease,
    pub job_id: &'a str,
    pub audit: &'a Audit,
    pub markets: &'a SharedBoard,
    /// Whether events are delivered to anyone.
    pub tells: bool,
}
