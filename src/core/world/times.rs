//! How long things may take, and how long they are remembered.

use std::time::Duration;

/// After this long a migrate call that shows no effect had none. Longer than a request can live (its timeout of 30 s),
/// plus the lease of a suspended pass (30 s), plus the time a new job may take to become visible.
pub const SETTLE_TIME: Duration = Duration::from_secs(180);

/// A call that is open for longer than this is not followed any more; as long as its migration time is kept.
pub const FOLLOW_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Evidence of a reclaim counts for this long after it was last seen; the provider keeps a stopped instance's data for
/// seven days at most (`novita-api.md` section 4.3).
pub const EVIDENCE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A replacement that does not come up within this time is given up; as long as a migration may take.
pub const PATIENCE: Duration = Duration::from_secs(3600);
