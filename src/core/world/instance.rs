//! Instances and the provider's jobs, one slim row each: what a verdict needs, and nothing else. A pass looks at every
//! instance and acts on few of them.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::time::{Seconds, Timestamp};

/// A name of the provider's, kept as it came; its own type so that an instance is never taken for a job.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            /// Wraps the text as it is.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

identifier! {
    /// An instance's id. It stays the same through a migration (`novita-api.md` section 4.4).
    InstanceId
}
identifier! {
    /// The id of one of the provider's own jobs, for example a migration (`novita-api.md` section 2.6).
    JobId
}

/// Turns a list of wire words into an enum that keeps the words it does not know.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A word that this version does not know: reported, and left alone.
            Other(Box<CompactString>),
        }

        impl $name {
            /// The words this version knows.
            pub const WORDS: &[&str] = &[$($word),+];

            /// Reads the provider's word.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(Box::new(other.into())),
                }
            }

            /// The provider's word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from_word(&std::borrow::Cow::<str>::deserialize(deserializer)?))
            }
        }
    };
}

words! {
    /// What an instance is doing (`novita-api.md` section 4.1).
    Status {
        /// Queued.
        ToCreate = "toCreate",
        /// Being made.
        Creating = "creating",
        /// Just created, on newer clusters.
        Pending = "pending",
        /// Fetching its image; billing starts here.
        Pulling = "pulling",
        /// Up.
        Running = "running",
        /// About to start.
        ToStart = "toStart",
        /// Starting.
        Starting = "starting",
        /// About to stop.
        ToStop = "toStop",
        /// Stopping.
        Stopping = "stopping",
        /// Stopped: by its user, by a reclaim or for another cause alike.
        Exited = "exited",
        /// About to restart.
        ToRestart = "toRestart",
        /// Restarting.
        Restarting = "restarting",
        /// About to go.
        ToRemove = "toRemove",
        /// Going.
        Removing = "removing",
        /// Gone; the row may linger.
        Removed = "removed",
        /// About to be reset.
        ToReset = "toReset",
        /// An upgrade is under way.
        Resetting = "resetting",
        /// A migration is under way, or failed and left the instance here (section 4.4).
        Migrating = "migrating",
        /// Being frozen.
        Freezing = "freezing",
    }
}

impl Status {
    /// Whether the instance is on its way out for good, or gone already with its row lingering.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!(self, Self::ToRemove | Self::Removing | Self::Removed)
    }

    /// Whether the instance is on its way to run for the first time, or again.
    #[must_use]
    pub fn is_coming_up(&self) -> bool {
        match self {
            Self::ToCreate
            | Self::Creating
            | Self::Pending
            | Self::Pulling
            | Self::ToStart
            | Self::Starting
            | Self::ToRestart
            | Self::Restarting
            | Self::ToReset
            | Self::Resetting => true,
            Self::Running
            | Self::ToStop
            | Self::Stopping
            | Self::Exited
            | Self::ToRemove
            | Self::Removing
            | Self::Removed
            | Self::Migrating
            | Self::Freezing
            | Self::Other(_) => false,
        }
    }
}

words! {
    /// How an instance is paid for. A missing or empty mode is `Unstated`, not a guess.
    Billing {
        /// May be reclaimed.
        Spot = "spot",
        /// By use, not reclaimed.
        OnDemand = "onDemand",
        /// Prepaid by the month.
        Monthly = "monthly",
        /// The provider left the field out or empty.
        Unstated = "",
    }
}

words! {
    /// What one of the provider's jobs does (`novita-api.md` section 2.6).
    JobKind {
        /// A migration that somebody asked for.
        InstanceMigrate = "instanceMigrate",
        /// A migration that the platform began by itself.
        AutoInstanceMigrate = "autoInstanceMigrate",
        /// Saves an image.
        SaveImage = "saveImage",
    }
}

impl JobKind {
    /// Whether the job moves an instance.
    #[must_use]
    pub fn is_migration(&self) -> bool {
        matches!(self, Self::InstanceMigrate | Self::AutoInstanceMigrate)
    }
}

words! {
    /// How far a job is. Unknown words count as unfinished (`novita-api.md` section 2.6).
    JobState {
        /// Waiting.
        Pending = "pending",
        /// Preparing.
        Pulling = "pulling",
        /// At work.
        Running = "running",
        /// Done.
        Success = "success",
        /// Failed.
        Fail = "fail",
        /// Stopped by somebody.
        Break = "break",
    }
}

impl JobState {
    /// Whether the job may still change something.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        match self {
            Self::Success | Self::Fail | Self::Break => false,
            Self::Pending | Self::Pulling | Self::Running | Self::Other(_) => true,
        }
    }

    /// Whether the job ended without doing its work.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self, Self::Fail | Self::Break)
    }
}

/// A reclaim that the provider announced: `spotReclaimTime` not "0" and `spotStatus` not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReclaimNotice {
    /// The provider's word, for example `notified` or `reclaiming`.
    pub spot_status: CompactString,
    /// When the instance is, or was, to be taken.
    pub reclaim_at: Timestamp,
}

impl fmt::Display for ReclaimNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spot_status, reclaim_at } = self;
        write!(f, "{spot_status}, reclaim at {reclaim_at}")
    }
}

/// What an instance runs on, and where: reclaims are as frequent as they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The product, by id.
    pub product: CompactString,
    /// The cluster, by id.
    pub cluster: CompactString,
}

/// One row of the instance list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its name as the user gave it; may hold anything, also control characters.
    pub name: CompactString,
    /// What it is doing.
    pub status: Status,
    /// How it is paid for.
    pub billing: Billing,
    /// The reclaim announced for it, if the provider still says so.
    pub reclaim: Option<Box<ReclaimNotice>>,
    /// The marker of a replacement. The provider keeps it in the name or in a tag.
    pub marker: Option<Box<str>>,
    /// Product and cluster, if the provider says both. Shared, since a fleet is in few places.
    pub place: Option<Arc<Place>>,
    /// When it was created, if the provider says.
    pub created_at: Option<Seconds>,
    /// When it last started, if the provider says.
    pub started_at: Option<Seconds>,
    /// When it last stopped, if the provider says.
    pub stopped_at: Option<Seconds>,
}

/// One row of the job list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The instance it works on.
    pub instance: InstanceId,
    /// What it does.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// When it was made, by the provider's clock.
    pub created_at: Option<Timestamp>,
    /// Why it failed, in the provider's words.
    pub error: Option<Box<str>>,
}

/// Gives rows that are in one place one copy of its name: a fleet of 100 000 is in few places.
#[derive(Debug, Default)]
pub struct Places {
    seen: Vec<Arc<Place>>,
}

impl Places {
    /// The place, unless neither half of it is known.
    pub fn place(&mut self, product: &str, cluster: &str) -> Option<Arc<Place>> {
        if product.is_empty() || cluster.is_empty() {
            return None;
        }
        // The one of the row before is the likeliest.
        let is_it = |place: &&Arc<Place>| place.product == product && place.cluster == cluster;
        if let Some(known) = self.seen.iter().rev().find(is_it) {
            return Some(known.clone());
        }
        let place = Arc::new(Place { product: product.into(), cluster: cluster.into() });
        self.seen.push(place.clone());
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_word_reads_back_and_unknown_ones_survive() {
        for word in Status::WORDS {
            let status = Status::from_word(word);
            assert_eq!(status.as_str(), *word);
            assert!(!matches!(status, Status::Other(_)), "{word}");
        }
        assert_eq!(Status::from_word("Exited"), Status::Other(Box::new("Exited".into())), "case is the provider's");
        assert_eq!(JobState::from_word("paused").as_str(), "paused");
        assert!(JobState::from_word("paused").is_unfinished());
        assert_eq!(Billing::from_word(""), Billing::Unstated);
    }

    #[test]
    fn a_row_stays_slim() {
        assert!(size_of::<Instance>() <= 128, "{} bytes", size_of::<Instance>());
    }
}
