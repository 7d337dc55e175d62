//! Broken builds, to see whether they are noticed.

use super::line::Sight;
use super::store::Forgets;

/// A deliberately broken build, made at the seams of the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    No,
    /// The journal hears of a creation after the call.
    IntentAfterCall,
    /// Replacements are not recognised by their names.
    MarkerIgnored,
    /// The old instance goes before its replacement runs.
    DeleteFirst,
    /// Replacements are taken to run from their creation on.
    RunsAtOnce,
    /// An announcement counts although it was withdrawn.
    NoWithdrawals,
    /// What bridges cost is not stored.
    BudgetForgotten,
    /// A call that had no effect starts the cooldown.
    RefusalCools,
    /// Whatever the clock of the machine shows.
    ClockBelieved,
    /// What one list lacks is gone.
    AbsenceBelieved,
    /// A used up quota is taken for too many calls.
    QuotaRetried,
}

impl Broken {
    pub(super) fn sight(self) -> Sight {
        match self {
            Self::MarkerIgnored => Sight::NoMarkers,
            Self::RunsAtOnce => Sight::RunsAtOnce,
            Self::NoWithdrawals => Sight::NoWithdrawals,
            Self::AbsenceBelieved => Sight::OneLook,
            Self::QuotaRetried => Sight::NoQuotas,
            Self::No
            | Self::IntentAfterCall
            | Self::DeleteFirst
            | Self::BudgetForgotten
            | Self::RefusalCools
            | Self::ClockBelieved => Sight::Clear,
        }
    }

    pub(super) fn forgets(self) -> Option<Forgets> {
        match self {
            Self::BudgetForgotten => Some(Forgets::Bridges),
            Self::RefusalCools => Some(Forgets::Withdrawals),
            _ => None,
        }
    }
}
