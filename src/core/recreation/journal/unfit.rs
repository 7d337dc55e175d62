//! Why a replacement is given up.

use crate::core::world::times::PATIENCE;

/// Why a replacement is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The old instance runs again, and was never to be deleted.
    NotNeeded,
    /// A person stopped the old instance, which was to go on running until then.
    OldStopped,
    NotComingUp,
    Failed(String),
    Down,
    /// It was reclaimed before it was seen running.
    Reclaimed,
    /// A rollout takes it back, for this reason.
    Undone(String),
    /// An earlier pass gave it up, for this reason.
    GivenUp(String),
}

impl Unfit {
    /// Whether it counts as a failed recreation. That a market took it back does not.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Reclaimed | Self::OldStopped => false,
            Self::NotNeeded | Self::NotComingUp | Self::Failed(_) | Self::Down | Self::Undone(_) | Self::GivenUp(_) => {
                true
            }
        }
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("the old instance runs again"),
            Self::OldStopped => f.write_str("a person stopped the old instance"),
            Self::NotComingUp => {
                write!(f, "the replacement did not come up within {} min", PATIENCE.as_secs() / 60)
            }
            Self::Failed(why) => write!(f, "the replacement failed itself: {why}"),
            Self::Down => f.write_str("it does not run any more"),
            Self::Reclaimed => f.write_str("it was reclaimed before it was seen running"),
            Self::Undone(why) | Self::GivenUp(why) => f.write_str(why),
        }
    }
}
