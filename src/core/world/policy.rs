//! What the operator allows, valid by construction: parsed once in `settings`, never checked again.

use std::time::Duration;

use crate::core::world::instance::{Billing, InstanceId};

/// When an exited instance may be migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum Eligibility {
    /// It is exited and has cooled down.
    Time,
    /// It also bears evidence of a reclaim, now or seen by an earlier pass.
    Reclaimed,
}

/// Which instances are managed by their billing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, const_into_str)]
pub enum Scope {
    /// All but those known to be `onDemand` or `monthly`.
    Spot,
    /// All.
    All,
}

impl Scope {
    /// Whether instances with this billing are managed. A missing or unknown mode counts as spot
    /// (`MIGRATION_SCOPE`): only what is *known* to be something else is skipped.
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

/// Which half of a pass is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// Migrate what is exited, and look after failed migrations.
    Both,
    /// Migrate only (`MIGRATION_RETRY_FAILED=false`).
    MigrateOnly,
    /// Look after failed migrations only (`check-failed`).
    RecreateOnly,
}

/// What comes first when an instance is created anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case", ascii_case_insensitive, const_into_str)]
pub enum RecreateOrder {
    /// The replacement: the old instance is deleted when it runs.
    CreateFirst,
    /// The deletion, for accounts whose quota has no room for two. The specification is kept meanwhile.
    DeleteFirst,
}

/// A shell pattern over an instance's name or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(glob::Pattern);

impl Selector {
    /// Reads a pattern: `*`, `?`, `[abc]`, `[!abc]`.
    ///
    /// # Errors
    /// What is wrong with the pattern, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        glob::Pattern::new(text).map(Self).map_err(|error| error.to_string())
    }

    /// Whether the whole name or the whole id matches.
    #[must_use]
    pub fn matches(&self, id: &InstanceId, name: &str) -> bool {
        self.0.matches(id.as_str()) || self.0.matches(name)
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The rules of eligibility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When an exited instance may be migrated.
    pub eligibility: Eligibility,
    /// Which instances are managed by their billing.
    pub scope: Scope,
    /// How long an instance is left alone after a migration.
    pub cooldown: Duration,
    /// When not empty, only what matches one of these is managed.
    pub only: Vec<Selector>,
    /// What matches one of these is not managed.
    pub exclude: Vec<Selector>,
    /// At most this many migrations in one pass.
    pub max_migrations: Option<usize>,
    /// Which half of the pass is wanted.
    pub halves: Halves,
    /// What comes first in a recreation.
    pub recreate_order: RecreateOrder,
    /// At most this many recreations are begun, or begun again, in one pass.
    pub max_recreations: Option<usize>,
    /// Whether instances in quarantine are tried again.
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
