//! The provider's world as values: what was seen, never what to do about it.
//!
//! Rows are slim on purpose. A pass looks at every instance and acts on few of them, so a row holds what a verdict
//! needs and nothing else.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// A moment in UTC, in milliseconds since the Unix epoch. Written as RFC 3339 with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last moment that RFC 3339 can write, 9999-12-30: later values are clamped to it.
    const LAST_MILLIS: i64 = 253_402_207_200_000;
    /// Year 0, the first moment that RFC 3339 can write.
    const FIRST_MILLIS: i64 = -62_167_219_200_000;

    /// From milliseconds since the Unix epoch; clamped to what RFC 3339 can express.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::FIRST_MILLIS, Self::LAST_MILLIS))
    }

    /// From seconds since the Unix epoch, the provider's unit (`novita-api.md` section 2.1).
    #[must_use]
    pub fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A time of the provider's: whole seconds, in a quarter of the room, since every row has three of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(NonZeroU32);

impl From<Seconds> for Timestamp {
    fn from(Seconds(secs): Seconds) -> Self {
        Self::from_secs(i64::from(secs.get()))
    }
}

impl Seconds {
    /// From seconds since the Unix epoch; `None` before 1970 and after 2106, which the provider means as "never".
    #[must_use]
    pub fn new(secs: i64) -> Option<Self> {
        u32::try_from(secs).ok().and_then(NonZeroU32::new).map(Self)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis(rhs)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(millis(rhs)))
    }
}

/// A duration in whole milliseconds, the unit of the JSON contract.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        f.pad(&format!("{moment:.3}"))
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from_millis(text.trim().parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

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
            Other(Box<str>),
        }

        impl $name {
            /// The words this version knows.
            pub const WORDS: &[&str] = &[$($word),+];

            /// Reads the provider's word.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.into()),
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

/// Rows as they were listed, and whether all of them came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// Each row once, ordered by id.
    pub items: Vec<T>,
    /// What is known to be missing. Absence is proved only by a listing without a shortfall.
    pub shortfall: Option<Shortfall>,
}

impl<T> Listing<T> {
    /// A listing of which nothing is missing.
    #[must_use]
    pub fn complete(items: Vec<T>) -> Self {
        Self { items, shortfall: None }
    }

    /// Whether every row came.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.shortfall.is_none()
    }
}

/// How far a listing fell short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Rows the provider says there are.
    pub announced: u64,
    /// Different rows that came.
    pub received: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { announced, received } = self;
        write!(f, "the provider announced {announced} rows and delivered {received}")
    }
}

/// The provider's world at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the look began, by the clock of decisions.
    pub taken_at: Timestamp,
    /// Every instance, ordered by id.
    pub instances: Listing<Instance>,
    /// The jobs of the last day.
    pub jobs: Listing<Job>,
}

/// Finds an instance in a listing ordered by id.
#[must_use]
pub fn find<'a>(instances: &'a [Instance], id: &InstanceId) -> Option<&'a Instance> {
    instances.binary_search_by(|instance| instance.id.cmp(id)).ok().map(|at| &instances[at])
}

/// The jobs of each instance. The order of the provider's list is not trusted.
pub struct JobIndex<'a> {
    by_instance: HashMap<&'a InstanceId, Vec<&'a Job>>,
}

impl<'a> JobIndex<'a> {
    /// Sorts the jobs by instance.
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

    /// The newest migration job of an instance. Of two made in the same second an unfinished one counts as newer.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_any_offset_and_write_utc_milliseconds() {
        for (text, written) in [
            ("2024-01-15T10:45:00Z", "2024-01-15T10:45:00.000Z"),
            ("2024-01-15T10:45:00.1239+02:00", "2024-01-15T08:45:00.123Z"),
            (" 1969-12-31T23:59:59.999Z\n", "1969-12-31T23:59:59.999Z"),
        ] {
            let moment: Timestamp = text.parse().expect(text);
            assert_eq!(moment.to_string(), written);
            assert_eq!(written.parse::<Timestamp>().expect(written), moment);
        }
        for bad in ["", "yesterday", "2024-01-15", "2024-01-15T10:45:00", "1700000000"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad:?} is no moment");
        }
    }

    #[test]
    fn timestamps_survive_the_ends_of_time() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last + Duration::from_secs(1), last);
        assert_eq!(last.to_string().parse::<Timestamp>().ok(), Some(last));
        let first = Timestamp::from_secs(i64::MIN);
        assert_eq!(first.to_string().parse::<Timestamp>().ok(), Some(first));
        assert_eq!(first.since(last), Duration::ZERO);
    }

    #[test]
    fn every_known_word_reads_back_and_unknown_ones_survive() {
        for word in Status::WORDS {
            let status = Status::from_word(word);
            assert_eq!(status.as_str(), *word);
            assert!(!matches!(status, Status::Other(_)), "{word}");
        }
        assert_eq!(Status::from_word("Exited"), Status::Other("Exited".into()), "case is the provider's");
        assert_eq!(JobState::from_word("paused").as_str(), "paused");
        assert!(JobState::from_word("paused").is_unfinished());
        assert_eq!(Billing::from_word(""), Billing::Unstated);
    }

    #[test]
    fn a_row_stays_slim() {
        assert!(size_of::<Instance>() <= 128, "{} bytes", size_of::<Instance>());
    }
}
