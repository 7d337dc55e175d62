//! What the operator allows: parsed and checked once, in `settings`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::core::world::instance::{Billing, InstanceId};
use crate::core::world::money::Usd;

/// When to migrate an exited instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum Eligibility {
    Time,
    /// Only if this pass or an earlier one also saw evidence of a reclaim.
    Reclaimed,
}

/// Which instances are managed, by their billing mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum Scope {
    /// All except those known to be `onDemand` or `monthly`.
    Spot,
    All,
}

impl Scope {
    /// Whether instances with this billing mode are managed. A missing or unknown mode counts as spot: only what is
    /// *known* to be something else is skipped.
    #[must_use]
    pub fn covers(self, billing: &Billing) -> bool {
        match self {
            Self::All => true,
            Self::Spot => match billing {
                Billing::Spot | Billing::Unstated => true,
                // An unknown mode may be paid for in another way, and is left alone.
                Billing::OnDemand | Billing::Monthly | Billing::Other(_) => false,
            },
        }
    }
}

/// Which instances are looked after, where their owner says so by a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptIn {
    /// Those with this tag, and this value if one is named.
    Tag {
        key: String,
        value: Option<String>,
    },
    Everything,
}

impl fmt::Display for OptIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { key, value: Some(value) } => write!(f, "{key}={value}"),
            Self::Tag { key, value: None } => f.write_str(key),
            Self::Everything => f.write_str("*"),
        }
    }
}

/// What becomes of an on-demand instance that a rollout has replaced, where the provider can stop one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Whether it is stopped first, and kept.
    pub stops: bool,
    /// How long one that is stopped is kept.
    pub keep: Duration,
}

impl Retirement {
    pub const DEFAULT: Self = Self { stops: true, keep: Duration::from_secs(72 * 3600) };
}

/// Where replacements may go besides the place of the instance itself, where the provider does not say what is alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandIns {
    /// Ids of subnets.
    pub subnets: Vec<String>,
    /// Products that may stand in for another, in order of liking.
    pub kinds: BTreeMap<String, Vec<String>>,
}

/// Which halves of a pass run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// Migrate exited instances and recover failed migrations.
    Both,
    /// `MIGRATION_RETRY_FAILED=false`.
    MigrateOnly,
    /// `check-failed`.
    RecreateOnly,
}

/// The order in which an instance is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case", ascii_case_insensitive, const_into_str)]
pub enum RecreateOrder {
    /// Create the replacement; delete the old instance once the replacement runs.
    CreateFirst,
    /// Delete the old instance first, for accounts whose quota has no room for both. The specification is stored
    /// until the replacement runs.
    DeleteFirst,
}

/// When a reclaimed instance may be replaced by a new one elsewhere, which deletes the old one in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum Escalation {
    /// Only with evidence that it was reclaimed, and not stopped by a person.
    Evidence,
    /// Whenever it is exited: for fleets in which instances are never stopped by hand.
    Always,
    Never,
}

/// What comes first for a reclaimed instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum Prefer {
    /// Its own place: it is migrated there, which keeps its ID and address.
    Place,
    /// The best market: its own is one among the others.
    Market,
}

/// What is tried for a reclaimed instance, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(ascii_case_insensitive, const_into_str)]
pub enum Ladder {
    #[strum(serialize = "migrate,recreate")]
    MigrateRecreate,
    #[strum(serialize = "recreate,migrate")]
    RecreateMigrate,
    #[strum(serialize = "migrate")]
    Migrate,
    #[strum(serialize = "recreate")]
    Recreate,
}

/// Where replacements go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placing {
    pub prefer: Prefer,
    /// No place that costs more than this share of what the instance cost, in percent.
    pub max_price_percent: u64,
    /// What a reclaim costs, as time of the instance.
    pub reclaim_cost: Duration,
    /// Of places that are this much dearer than the best at most, the one with the fewest instances is taken, in percent.
    pub spread_percent: u64,
    /// If not empty, only clusters whose ID or name matches one of these.
    pub places: Vec<Selector>,
}

impl Placing {
    /// What applies unless a setting says otherwise.
    pub const DEFAULT: Self = Self {
        prefer: Prefer::Place,
        max_price_percent: 200,
        reclaim_cost: Duration::from_secs(30 * 60),
        spread_percent: 5,
        places: Vec::new(),
    };
}

/// How an announced reclaim is acted on: the replacement is created before the instance goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticePolicy {
    /// How long before its announced end an instance is replaced.
    pub lead: Duration,
    /// How long both run before the old one is deleted.
    pub overlap: Duration,
}

/// The on-demand instance that stands in while no market has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgePolicy {
    /// The most that bridges may cost in a day (UTC).
    pub per_day: Usd,
    /// How long an instance is down before.
    pub after: Duration,
    /// How long a bridge runs at least.
    pub stay: Duration,
    /// How long a market has shown no bad sign before an instance returns to spot there.
    pub steady: Duration,
}

impl BridgePolicy {
    /// What applies unless a setting says otherwise: no bridge.
    pub const DEFAULT: Self = Self {
        per_day: Usd::from_micros(0),
        after: Duration::from_secs(15 * 60),
        stay: Duration::from_secs(60 * 60),
        steady: Duration::from_secs(30 * 60),
    };

    /// Whether there may be bridges.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.per_day > Usd::default()
    }
}

/// A glob pattern for the name or ID of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(glob::Pattern);

impl Selector {
    /// Parses a pattern: `*`, `?`, `[abc]`, `[!abc]`.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        glob::Pattern::new(text).map(Self).map_err(|error| error.msg.to_owned())
    }

    /// Whether the whole name or the whole ID matches.
    #[must_use]
    pub fn matches(&self, id: &InstanceId, name: &str) -> bool {
        self.matches_text(id.as_str()) || self.matches_text(name)
    }

    /// Whether the whole text matches. A name with a bracket, written as it is, means itself.
    #[must_use]
    pub fn matches_text(&self, text: &str) -> bool {
        self.0.matches(text) || self.0.as_str() == text
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Which instances a pass acts on, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub eligibility: Eligibility,
    pub scope: Scope,
    /// How long to wait before migrating the same instance again.
    pub cooldown: Duration,
    /// If not empty, only what matches one of these is managed.
    pub only: Vec<Selector>,
    /// What matches one of these is not managed.
    pub exclude: Vec<Selector>,
    /// Per pass.
    pub max_migrations: Option<usize>,
    pub halves: Halves,
    pub recreate_order: RecreateOrder,
    /// Recreations started or restarted, per pass.
    pub max_recreations: Option<usize>,
    pub retry_quarantined: bool,
    pub escalation: Escalation,
    pub ladder: Ladder,
    pub placing: Placing,
    /// Whether announced reclaims are acted on.
    pub notice: Option<NoticePolicy>,
    pub bridge: BridgePolicy,
}

impl Policy {
    /// What applies unless a setting or a flag says otherwise.
    pub const DEFAULT: Self = Self {
        eligibility: Eligibility::Time,
        scope: Scope::Spot,
        cooldown: Duration::from_secs(4 * 3600),
        only: Vec::new(),
        exclude: Vec::new(),
        max_migrations: None,
        halves: Halves::Both,
        recreate_order: RecreateOrder::CreateFirst,
        max_recreations: None,
        retry_quarantined: false,
        escalation: Escalation::Evidence,
        ladder: Ladder::MigrateRecreate,
        placing: Placing::DEFAULT,
        notice: None,
        bridge: BridgePolicy::DEFAULT,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}
