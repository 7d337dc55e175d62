//! How long things may take, and how long they are remembered.

use std::time::Duration;

/// A migrate call without a visible effect after this time had none. The sum of the timeout of a request (30 s), the
/// lease of a suspended pass (30 s) and the time until a new job is listed, with a margin.
pub const SETTLE_TIME: Duration = Duration::from_secs(180);

/// A call that is open for longer than this is no longer tracked. Migration times are stored for as long.
pub const FOLLOW_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Evidence of a reclaim counts for this long after it was last observed. The provider keeps a stopped instance's data for
/// seven days at most (`novita-api.md` section 4.3).
pub const EVIDENCE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A replacement that is not running within this time is abandoned; a migration without an end within it is stuck.
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// An instance that stopped earlier than this before its announced reclaim was stopped by a person.
pub const RECLAIM_MARGIN: Duration = Duration::from_secs(120);

/// An instance that stopped later than this after its announced reclaim outlived it: the provider took it back without a
/// word, or a migration took the instance away from there.
pub const LATEST_RECLAIM: Duration = Duration::from_secs(6 * 3600);

/// A reclaim is announced an hour ahead (`novita-api.md` section 4.3).
pub const LONGEST_NOTICE: Duration = Duration::from_secs(3600);

/// Two clocks may differ by this much without a word.
pub const TOLERATED_SKEW: Duration = Duration::from_secs(60);

/// How far back jobs are read. Longer than any gap between the passes of a schedule.
pub const JOBS_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// A recreation that is under way for longer than this is stuck: a deletion without effect, a call without an end.
pub const LONGEST_RECREATION: Duration = Duration::from_secs(2 * 3600);
