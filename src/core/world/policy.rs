//! What the operator allows: parsed and checked once, in `settings`.

use std::time::Duration;

use crate::core::world::instance::{Billing, InstanceId};

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
                Billing::Spot | Billing::Unstated | Billing::Other(_) => true,
                Billing::OnDemand | Billing::Monthly => false,
            },
        }
    }
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
        self.0.matches(id.as_str()) || self.0.matches(name)
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
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}
