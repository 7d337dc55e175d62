//! Whether a plan may be carried out at all.

use super::plan::Plan;
use crate::core::world::snapshot::{Shortfall, Snapshot};

/// How much a pass may recreate before it is refused as a likely mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlastRadius {
    /// More than this share of the managed instances is too much, in percent.
    pub percent: u64,
    /// The operator allows more.
    pub force: bool,
}

impl BlastRadius {
    /// What applies unless a setting or a flag says otherwise.
    pub const DEFAULT: Self = Self { percent: 30, force: false };
}

impl Default for BlastRadius {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl BlastRadius {
    /// How many recreations of this many managed instances are allowed without proof of a reclaim, and how many with it are
    /// started at a time.
    #[must_use]
    pub fn allowed(self, managed: usize) -> usize {
        let share = managed.saturating_mul(usize::try_from(self.percent).unwrap_or(100)) / 100;
        share.max(ALWAYS_ALLOWED)
    }
}

/// This many recreations are always allowed.
const ALWAYS_ALLOWED: usize = 3;

/// Why a plan is refused as a whole (exit code 5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Rows are known to be missing.
    #[error("the list of {what} is incomplete: {shortfall}")]
    IncompleteListing { what: &'static str, shortfall: Shortfall },
    /// This many failures at once suggest a mistake in what is observed.
    #[error(
        "this pass would recreate {recreations} of {managed} managed instances, allowed are {allowed} (the larger of \
         {ALWAYS_ALLOWED} and {percent} %)"
    )]
    BlastRadius { recreations: usize, managed: usize, allowed: usize, percent: u64 },
}

/// Refuses to act on a listing that is known to be incomplete, and on a plan that recreates suspiciously many. Without
/// all jobs an instance that is being migrated may seem idle; without all instances a limit or a share would be computed
/// from the wrong number.
///
/// # Errors
/// The first reason found.
pub fn check(snapshot: &Snapshot, plan: &Plan, radius: BlastRadius) -> Result<(), Unsafe> {
    match (&snapshot.instances.shortfall, snapshot.instances.items.len()) {
        // The others are known, and the plan recreates nothing.
        (Some(Shortfall::Nameless { .. }), 1..) if snapshot.jobs.is_complete() => {}
        // Nothing is concluded about that region.
        (Some(Shortfall::Region { .. }), _) if snapshot.jobs.is_complete() => {}
        _ => complete(snapshot)?,
    }
    let BlastRadius { percent, force } = radius;
    let (recreations, managed) = (plan.creations(), plan.managed);
    let allowed = radius.allowed(managed);
    if recreations > allowed && !force {
        return Err(Unsafe::BlastRadius { recreations, managed, allowed, percent });
    }
    Ok(())
}

/// Whether every row came.
///
/// # Errors
/// [`Unsafe::IncompleteListing`].
pub fn complete(snapshot: &Snapshot) -> Result<(), Unsafe> {
    let Snapshot { taken_at: _, instances, jobs, abilities: _ } = snapshot;
    for (what, shortfall) in [("instances", &instances.shortfall), ("jobs", &jobs.shortfall)] {
        if let Some(shortfall) = shortfall {
            return Err(Unsafe::IncompleteListing { what, shortfall: shortfall.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::snapshot::Listing;
    use crate::core::world::time::Timestamp;

    #[test]
    fn a_gap_in_either_listing_is_refused() {
        let gap = || Some(Shortfall::Rows { announced: 45, received: 40 });
        for (instances, jobs, expected) in [
            (None, None, None),
            (gap(), None, Some("the list of instances is incomplete: the provider announced 45 rows and delivered 40")),
            (None, gap(), Some("the list of jobs is incomplete: the provider announced 45 rows and delivered 40")),
        ] {
            let snapshot = Snapshot {
                abilities: Default::default(),
                taken_at: Timestamp::default(),
                instances: Listing { items: vec![], shortfall: instances },
                jobs: Listing { items: vec![], shortfall: jobs },
            };
            assert_eq!(
                check(&snapshot, &Plan::default(), BlastRadius::default())
                    .err()
                    .map(|error| error.to_string())
                    .as_deref(),
                expected
            );
        }
    }
}
