//! Instances and the provider's jobs, one small row each with only what decisions need: a pass reads every instance and
//! acts on few.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::time::{Seconds, Timestamp, any_time};

/// An id of the provider, kept as received. Each kind is a type, so that an instance is never mistaken for a job.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }

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
    /// An instance's id. It stays the same through a migration.
    InstanceId
}
identifier! {
    /// The id of one of the provider's own jobs, for example a migration.
    JobId
}

/// Makes an enum of the provider's words that also keeps unknown ones.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A word that this version does not know. It is reported, and nothing is done.
            Other(Box<CompactString>),
        }

        impl $name {
            /// All known words.
            pub const WORDS: &[&str] = &[$($word),+];

            /// Parses the provider's word.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(Box::new(other.into())),
                }
            }

            /// The same in any case.
            #[must_use]
            pub fn from_any_case(word: &str) -> Self {
                let word = word.trim();
                Self::from_word(Self::WORDS.iter().find(|known| known.eq_ignore_ascii_case(word)).unwrap_or(&word))
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
    /// The status of an instance.
    Status {
        ToCreate = "toCreate",
        Creating = "creating",
        /// Follows creation on newer clusters.
        Pending = "pending",
        /// Pulls its image. Billing starts here.
        Pulling = "pulling",
        Running = "running",
        ToStart = "toStart",
        Starting = "starting",
        ToStop = "toStop",
        Stopping = "stopping",
        /// Stopped by its user, by a reclaim or for any other reason.
        Exited = "exited",
        ToRestart = "toRestart",
        Restarting = "restarting",
        ToRemove = "toRemove",
        Removing = "removing",
        /// Deleted, but possibly still listed.
        Removed = "removed",
        ToReset = "toReset",
        /// Being upgraded.
        Resetting = "resetting",
        /// Being migrated, or left in this status by a failed migration (section 4.4).
        Migrating = "migrating",
        Freezing = "freezing",
    }
}

impl Status {
    /// Whether the instance is being deleted, or is deleted and still listed.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!(self, Self::ToRemove | Self::Removing | Self::Removed)
    }

    /// Whether the instance is about to run.
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
    /// The billing mode of an instance. A missing or empty mode is `Unstated`; it is never guessed.
    Billing {
        /// Can be reclaimed.
        Spot = "spot",
        /// By use; never reclaimed.
        OnDemand = "onDemand",
        /// Paid monthly in advance.
        Monthly = "monthly",
        /// The provider left the field out or empty.
        Unstated = "",
    }
}

words! {
    /// What one of the provider's jobs does.
    JobKind {
        /// A requested migration.
        InstanceMigrate = "instanceMigrate",
        /// A migration that the provider started.
        AutoInstanceMigrate = "autoInstanceMigrate",
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
    /// The state of a job. Unknown words count as unfinished.
    JobState {
        Pending = "pending",
        Pulling = "pulling",
        Running = "running",
        Success = "success",
        Fail = "fail",
        /// Canceled.
        Break = "break",
    }
}

impl JobState {
    /// Whether the job can still change the instance.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        match self {
            Self::Success | Self::Fail | Self::Break => false,
            Self::Pending | Self::Pulling | Self::Running | Self::Other(_) => true,
        }
    }

    /// Whether the job ended without success.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self, Self::Fail | Self::Break)
    }
}

/// A reclaim that the provider announced: `spotReclaimTime` not "0" and `spotStatus` not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReclaimNotice {
    /// As the provider states it, for example `notified` or `reclaiming`.
    pub spot_status: CompactString,
    /// The announced time of the reclaim, which can be in the past.
    #[serde(deserialize_with = "any_time")]
    pub reclaim_at: Timestamp,
}

impl fmt::Display for ReclaimNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spot_status, reclaim_at } = self;
        write!(f, "{spot_status}, reclaim at {reclaim_at}")
    }
}

/// Why an instance is not one to act on, by facts of the provider.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Aside {
    /// It lacks the tag that puts it under the care of this program.
    NotOptedIn,
    /// Another program or service brings it back.
    ManagedElsewhere {
        by: Box<str>,
    },
    /// The provider stopped it, and starts it again itself.
    #[strum(serialize = "stopped_by_ec2")]
    StoppedByProvider,
    StoppedByUser,
    TerminatedByUser,
    /// A rollout replaced and stopped it. It is kept until then, and while nothing runs in its place; `None` if neither is so.
    Retired {
        until: Option<Timestamp>,
    },
}

impl Aside {
    /// Whether it is none of the instances that are looked after.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::NotOptedIn | Self::ManagedElsewhere { .. } | Self::Retired { .. })
    }
}

impl fmt::Display for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOptedIn => f.write_str("it lacks the tag that opts in (RESPOT_EC2_TAG)"),
            Self::ManagedElsewhere { by } => write!(f, "managed by {by}, which brings it back itself"),
            Self::StoppedByProvider => {
                f.write_str("the provider stopped it and starts it again itself: its spot request is persistent")
            }
            Self::StoppedByUser => f.write_str("a person or a program stopped it"),
            Self::TerminatedByUser => f.write_str("a person or a program terminated it"),
            Self::Retired { until: Some(until) } => {
                write!(f, "a rollout replaced it: it is stopped, and terminated after {until} while its successor runs")
            }
            Self::Retired { until: None } => f.write_str("a rollout replaced it, and a pass terminates it now"),
        }
    }
}

/// A product in a cluster, which together determine how often reclaims happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Product id.
    pub product: CompactString,
    /// Cluster id.
    pub cluster: CompactString,
}

impl Place {
    /// How it is stored: `product@cluster`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}@{}", self.product, self.cluster)
    }

    /// The place of a [`key`](Self::key).
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        let (product, cluster) = key.split_once('@').unwrap_or((key, ""));
        Self { product: product.into(), cluster: cluster.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster.as_str() {
            "" => write!(f, "{} in any cluster", self.product),
            cluster => write!(f, "{} in {cluster}", self.product),
        }
    }
}

/// A row of the instance list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    /// Chosen by the user; can contain control characters.
    pub name: CompactString,
    pub status: Status,
    pub billing: Billing,
    /// The announced reclaim, as long as the provider states it.
    pub reclaim: Option<Box<ReclaimNotice>>,
    /// The marker of a replacement. The provider keeps it in the name or in a tag.
    pub marker: Option<Box<CompactString>>,
    /// Why it is not one to act on, if the provider's facts say so.
    pub aside: Option<Box<Aside>>,
    /// Product and cluster, if both are known. Shared, because a fleet is in few places.
    pub place: Option<Arc<Place>>,
    /// 0 if the provider does not say.
    pub gpus: u16,
    pub created_at: Option<Seconds>,
    pub started_at: Option<Seconds>,
    pub stopped_at: Option<Seconds>,
}

/// A row of the job list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub instance: InstanceId,
    pub kind: JobKind,
    pub state: JobState,
    /// By the provider's clock.
    pub created_at: Option<Timestamp>,
    /// The provider's reason for a failure.
    pub error: Option<Box<str>>,
}

/// Shares one copy of a place among all rows: a fleet of 100 000 is in few places.
#[derive(Debug, Default)]
pub struct Places {
    seen: Vec<Arc<Place>>,
}

impl Places {
    /// The place, unless product or cluster is unknown.
    pub fn place(&mut self, product: &str, cluster: &str) -> Option<Arc<Place>> {
        if product.is_empty() || cluster.is_empty() {
            return None;
        }
        // Most likely the place of the previous row.
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
        for (word, billing) in [
            ("", Billing::Unstated),
            (" ", Billing::Unstated),
            ("OnDemand", Billing::OnDemand),
            ("SPOT", Billing::Spot),
            ("postpaid", Billing::Other(Box::new("postpaid".into()))),
        ] {
            assert_eq!(Billing::from_any_case(word), billing, "{word:?}");
        }
    }

    #[test]
    fn a_row_stays_slim() {
        assert!(size_of::<Instance>() <= 128, "{} bytes", size_of::<Instance>());
    }
}
