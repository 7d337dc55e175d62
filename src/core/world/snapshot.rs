//! The provider's instances and jobs at one moment, and whether any are known to be missing.

use std::collections::HashMap;
use std::fmt;

use super::instance::{Instance, InstanceId, Job};
use super::time::Timestamp;

/// Listed rows, and whether the list is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// Each row once, ordered by id.
    pub items: Vec<T>,
    /// What is known to be missing. Only a listing without a shortfall proves that a row does not exist.
    pub shortfall: Option<Shortfall>,
}

impl<T> Listing<T> {
    /// A listing without a shortfall.
    #[must_use]
    pub fn complete(items: Vec<T>) -> Self {
        Self { items, shortfall: None }
    }

    /// Whether no row is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.shortfall.is_none()
    }
}

/// How it is known that a listing is incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// The provider announced more rows than it delivered distinct ones.
    Rows { announced: u64, received: u64 },
    /// Rows of which the ID cannot be read. Each may be any instance.
    Nameless { rows: u64 },
    /// Instances that exist, or of which that could not be read.
    Unlisted { ids: Vec<InstanceId> },
    /// A region of which nothing was read.
    Region { region: String, error: String },
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { announced, received } => {
                write!(f, "the provider announced {announced} rows and delivered {received}")
            }
            Self::Region { region, error } => write!(f, "the instances in {region} could not be read: {error}"),
            Self::Nameless { rows } => write!(f, "{rows} of its rows have no ID that can be read"),
            Self::Unlisted { ids } => {
                let shown: Vec<&str> = ids.iter().take(3).map(InstanceId::as_str).collect();
                let more = if ids.len() > shown.len() {
                    format!(" and {} more", ids.len() - shown.len())
                } else {
                    String::new()
                };
                write!(f, "it lacks {}{more}, which the provider may still have", shown.join(", "))
            }
        }
    }
}

/// The provider's instances and jobs at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The start of the requests, by the clock of decisions.
    pub taken_at: Timestamp,
    /// Every instance, ordered by id.
    pub instances: Listing<Instance>,
    /// The jobs of the last day.
    pub jobs: Listing<Job>,
    pub abilities: Abilities,
}

/// What a provider can do, where the rules depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Whether it can migrate an instance. Otherwise a reclaimed instance needs a replacement at once.
    pub migrates: bool,
    /// Whether creating with the same marker again returns the same instance, so that a lost answer can be asked for
    /// again.
    pub idempotent_create: bool,
    /// Whether what was reclaimed is over for good, and forgotten: what it is made of is recorded while it runs.
    pub forgets_ended: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { migrates: true, idempotent_create: false, forgets_ended: false }
    }
}

/// Finds an instance in a listing ordered by id.
#[must_use]
pub fn find<'a>(instances: &'a [Instance], id: &InstanceId) -> Option<&'a Instance> {
    instances.binary_search_by(|instance| instance.id.cmp(id)).ok().map(|at| &instances[at])
}

/// The jobs of each instance. Does not rely on the order of the provider's list.
pub struct JobIndex<'a> {
    by_instance: HashMap<&'a InstanceId, Vec<&'a Job>>,
}

impl<'a> JobIndex<'a> {
    #[must_use]
    pub fn new(jobs: &'a [Job]) -> Self {
        let mut by_instance: HashMap<&InstanceId, Vec<&Job>> = HashMap::new();
        for job in jobs {
            by_instance.entry(&job.instance).or_default().push(job);
        }
        Self { by_instance }
    }

    fn of(&self, id: &InstanceId) -> impl Iterator<Item = &'a Job> {
        self.by_instance.get(id).into_iter().flatten().copied()
    }

    /// The newest migration job of an instance. If two were created in the same second, an unfinished one counts as newer.
    #[must_use]
    pub fn newest_migration(&self, id: &InstanceId) -> Option<&'a Job> {
        self.of(id)
            .filter(|job| job.kind.is_migration())
            .max_by_key(|job| (job.created_at, job.state.is_unfinished(), &job.id))
    }

    /// A job of any kind that may still change the instance.
    #[must_use]
    pub fn unfinished(&self, id: &InstanceId) -> Option<&'a Job> {
        self.of(id).filter(|job| job.state.is_unfinished()).max_by_key(|job| (job.created_at, &job.id))
    }
}
