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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Listing, Timestamp};

    #[test]
    fn a_gap_in_either_listing_is_refused() {
        let gap = || Some(Shortfall { announced: 45, received: 40 });
        for (instances, jobs, expected) in [
            (None, None, None),
            (gap(), None, Some("the list of instances is incomplete: the provider announced 45 rows and delivered 40")),
            (None, gap(), Some("the list of jobs is incomplete: the provider announced 45 rows and delivered 40")),
        ] {
            let snapshot = Snapshot {
                taken_at: Timestamp::default(),
                instances: Listing { items: vec![], shortfall: instances },
                jobs: Listing { items: vec![], shortfall: jobs },
            };
            assert_eq!(check(&snapshot).err().map(|error| error.to_string()).as_deref(), expected);
        }
    }
}
