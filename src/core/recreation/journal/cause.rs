//! Why a recreation was started.

use serde::{Deserialize, Serialize};

use crate::core::world::instance::{Billing, JobId};
use crate::core::world::time::Timestamp;

/// Why an instance is recreated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    JobFailed {
        job: JobId,
        error: Option<Box<str>>,
    },
    /// It is `migrating`, and no job is at work on it.
    Stalled {
        /// Since then, as far as is known.
        since: Timestamp,
    },
    /// It was reclaimed, and cannot be migrated now.
    Reclaimed,
    /// It runs, and its reclaim is announced.
    Announced,
    /// It was reclaimed, and no market has room: an on-demand instance stands in.
    Bridged,
    /// It is the on-demand instance that stood in, and a market has been steady.
    Returned,
    /// Its replacement was found by its marker; the cause is not on record.
    Found,
    /// It is healthy: a rollout moves it to another billing mode.
    Moved {
        rollout: String,
        to: Billing,
    },
}

impl Cause {
    /// The failed job, if there is one.
    #[must_use]
    pub fn job(&self) -> Option<&JobId> {
        match self {
            Self::JobFailed { job, .. } => Some(job),
            Self::Stalled { .. }
            | Self::Reclaimed
            | Self::Announced
            | Self::Bridged
            | Self::Returned
            | Self::Found
            | Self::Moved { .. } => None,
        }
    }

    /// Whether it is about a reclaim, which the instance did not survive or will not survive. Lack of room ends such a
    /// recreation, and the next pass starts over.
    #[must_use]
    pub fn is_for_reclaim(&self) -> bool {
        match self {
            Self::Reclaimed | Self::Announced | Self::Bridged | Self::Returned => true,
            Self::JobFailed { .. } | Self::Stalled { .. } | Self::Found | Self::Moved { .. } => false,
        }
    }

    /// The billing mode that its replacement has, if it is not that of the old instance.
    #[must_use]
    pub fn billing(&self) -> Option<&Billing> {
        match self {
            Self::Moved { to, .. } => Some(to),
            Self::Bridged => Some(&Billing::OnDemand),
            Self::Returned => Some(&Billing::Spot),
            Self::JobFailed { .. } | Self::Stalled { .. } | Self::Reclaimed | Self::Announced | Self::Found => None,
        }
    }

    /// What the second part of the marker is derived from.
    #[must_use]
    pub fn decided_by(&self) -> &str {
        match self {
            Self::JobFailed { job, .. } => job.as_str(),
            Self::Moved { rollout, .. } => rollout,
            Self::Stalled { .. } | Self::Reclaimed | Self::Announced | Self::Bridged | Self::Returned | Self::Found => {
                ""
            }
        }
    }

    /// In one sentence.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::JobFailed { job, error } => {
                let why = error.as_deref().unwrap_or("the provider gave no reason");
                format!("its migration failed: {why} (job {job})")
            }
            Self::Stalled { since } => format!("it has been migrating since {since} and no job is at work on it"),
            Self::Reclaimed => "it was reclaimed".into(),
            Self::Announced => "its reclaim is announced".into(),
            Self::Bridged => "it was reclaimed, and no market has room".into(),
            Self::Returned => "a market is steady again, so that it returns to spot".into(),
            Self::Found => "a replacement of it was found by its marker".into(),
            Self::Moved { rollout: _, to } => format!("a rollout moves it to {to}"),
        }
    }
}
