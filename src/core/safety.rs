//! Whether a plan may be carried out at all.

use super::model::{Shortfall, Snapshot};

/// Why a plan is refused as a whole (exit code 5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Rows are known to be missing: what is not seen may be at work.
    #[error("the list of {what} is incomplete: {shortfall}")]
    IncompleteListing {
        /// Which listing.
        what: &'static str,
        /// By how much.
        shortfall: Shortfall,
    },
}

/// Refuses to act on a listing that is known to be incomplete. Without all jobs an instance that is being migrated may
/// look idle; without all instances a limit or a share would be computed from the wrong number.
///
/// # Errors
/// The first reason found.
pub fn check(snapshot: &Snapshot) -> Result<(), Unsafe> {
    let Snapshot { taken_at: _, instances, jobs } = snapshot;
    for (what, shortfall) in [("instances", &instances.shortfall), ("jobs", &jobs.shortfall)] {
        if let Some(shortfall) = shortfall {
            return Err(Unsafe::IncompleteListing { what, shortfall: shortfall.clone() });
        }
    }
    Ok(())
}
