//! The rules of a world: how long things take, and what the real service leaves open.

use std::ops::RangeInclusive;

/// How a world behaves. The defaults are a typical day; a test changes what it is about.
#[derive(Clone, Debug)]
pub struct Rules {
    /// From `pending` to `running`.
    pub boot_ms: i64,
    /// From `shutting-down` to `terminated`, and from `stopping` to `stopped`.
    pub stop_ms: i64,
    /// From the notice of an interruption to the interruption.
    pub notice_ms: i64,
    /// From the launch to the end of an instance that dies at its launch.
    pub launch_death_ms: i64,
    /// For so long after its launch nobody finds an instance, nor its spot request.
    pub visible_after_ms: i64,
    /// For so long after they were set nobody sees tags.
    pub tags_visible_after_ms: i64,
    /// How long the row of a terminated instance stays: drawn from this range.
    pub row_life_ms: RangeInclusive<i64>,
    /// From the end of an instance to the end of its spot request.
    pub request_close_ms: i64,
    /// How long a spot request stays after that.
    pub request_life_ms: i64,
    /// How long a persistent request waits before it launches, or starts, its instance again. There must be room, too.
    pub relaunch_after_ms: i64,
    /// How long the status checks of a running instance say `initializing`.
    pub checks_ms: i64,
    /// How long a target is `initial` after its registration, and after its instance runs.
    pub target_initial_ms: i64,
    /// How long a target is `draining` after it was deregistered.
    pub draining_ms: i64,
    /// Whether a reclaimed instance has its reason at `shutting-down` already, or only at `terminated`.
    pub state_reason_at_shutting_down: bool,
    /// What a spot request says while the notice of a termination runs.
    pub notice: Notice,
    /// What the attribute calls say about a terminated instance.
    pub attributes_after_end: AttributesAfterEnd,
    /// Whether spot requests tell the user data of their launch.
    pub user_data_in_request: bool,
    /// What a second launch with the same token and other parameters gets.
    pub token_reuse: TokenReuse,
    /// How long after the end of its instance a token is remembered.
    pub token_life_ms: i64,
    /// Whether price rows carry ` (Amazon VPC)` behind the product.
    pub vpc_product_word: bool,
    /// No page is longer than this, whatever was asked for.
    pub page_size_cap: usize,
    /// Whether an empty page, with a token, comes before every further page.
    pub empty_pages: bool,
    /// Whether every page is in an order of its own, and sometimes repeats a row of an earlier one.
    pub shuffled: bool,
    /// How many points a page of GetMetricData holds at most.
    pub metric_points_cap: usize,
    /// How long the token of a page is good.
    pub page_token_life_ms: i64,
    /// Whether a listing by the filter `availability-zone` survives the disruption of another zone. The documentation
    /// promises it only for listings by id.
    pub zone_filter_survives_disruption: bool,
    /// The token buckets of the throttling; `None` throttles nothing.
    pub throttle: Option<Throttle>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            boot_ms: 30_000,
            stop_ms: 20_000,
            notice_ms: 120_000,
            launch_death_ms: 5_000,
            visible_after_ms: 2_000,
            tags_visible_after_ms: 0,
            row_life_ms: 20 * 60_000..=60 * 60_000,
            request_close_ms: 120_000,
            request_life_ms: 4 * 3_600_000,
            relaunch_after_ms: 60_000,
            checks_ms: 120_000,
            target_initial_ms: 30_000,
            draining_ms: 300_000,
            state_reason_at_shutting_down: true,
            notice: Notice::AtOnce,
            attributes_after_end: AttributesAfterEnd::Empty,
            user_data_in_request: false,
            token_reuse: TokenReuse::Mismatch,
            token_life_ms: 24 * 3_600_000,
            vpc_product_word: false,
            page_size_cap: 1_000,
            empty_pages: false,
            shuffled: false,
            metric_points_cap: 100_800,
            page_token_life_ms: 3_600_000,
            zone_filter_survives_disruption: true,
            throttle: None,
        }
    }
}

/// What a spot request says while the notice of a termination runs: the documentation says both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `instance-terminated-no-capacity`, at once.
    AtOnce,
    /// `marked-for-termination`, and `instance-terminated-no-capacity` when the notice is over.
    Marked,
}

/// What DescribeInstanceAttribute says about a terminated instance: nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributesAfterEnd {
    /// All it said before.
    Kept,
    /// It answers, but there is no user data any more.
    Empty,
    /// `InvalidInstanceID.NotFound`.
    NotFound,
}

/// What a second launch with the same token and other parameters gets: the documentation says either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenReuse {
    /// `IdempotentParameterMismatch`.
    Mismatch,
    /// The first instance, as if nothing were wrong.
    SilentSuccess,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// How many calls it holds.
    pub size: u32,
    /// How many come back per second.
    pub per_second: u32,
}

/// The token buckets of one account, per region and action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Reads that page or filter.
    pub reads: Bucket,
    /// The large listings without page size and filter.
    pub whole_listings: Bucket,
    /// RunInstances and StartInstances.
    pub launches: Bucket,
    /// TerminateInstances.
    pub terminations: Bucket,
    /// CreateTags.
    pub tags: Bucket,
    /// All other writes.
    pub writes: Bucket,
    /// RunInstances, per instance.
    pub launched_instances: Bucket,
    /// TerminateInstances, per instance.
    pub terminated_instances: Bucket,
}

impl Throttle {
    /// The buckets of the documentation (1.8).
    #[must_use]
    pub fn documented() -> Self {
        let bucket = |size, per_second| Bucket { size, per_second };
        Self {
            reads: bucket(100, 20),
            whole_listings: bucket(50, 10),
            launches: bucket(5, 2),
            terminations: bucket(100, 5),
            tags: bucket(100, 10),
            writes: bucket(50, 5),
            launched_instances: bucket(1_000, 2),
            terminated_instances: bucket(1_000, 20),
        }
    }
}
