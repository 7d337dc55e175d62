//! What comes next in the recreation of a running instance that a rollout moves to another billing mode. The journal is
//! the same. The difference: the old instance is healthy, so it stays until the rollout retires it, and the new one is
//! deleted when the rollout undoes the move.

use super::{Cause, Next, Old, Recreation, Rest, Situation, Step, Successor, Unfit, next};
use crate::core::world::instance::Billing;
use crate::core::world::policy::RecreateOrder;
use crate::core::world::times::{PATIENCE, SETTLE_TIME};

/// What a rollout intends with one move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveIntent {
    /// The new instance runs, and the old one stays.
    Advance,
    /// The new one runs, and the old one is deleted.
    Retire,
    /// The old one stays, and the new one is deleted, for this reason.
    Undo(String),
}

impl Recreation {
    /// Whether it belongs to a rollout.
    #[must_use]
    pub fn is_move(&self) -> bool {
        matches!(self.cause, Cause::Moved { .. })
    }

    /// The billing mode that it moves to, if it is a move.
    #[must_use]
    pub fn moves_to(&self) -> Option<&Billing> {
        self.cause.billing().filter(|_| self.is_move())
    }
}

/// Decides what to do about a move as it is observed.
#[must_use]
pub fn next_move(recreation: &Recreation, situation: &Situation, intent: &MoveIntent) -> Next {
    let Situation { old, successor, now, .. } = situation;
    let unfit = |why: Unfit| match (recreation.moves_to(), old) {
        (Some(Billing::Spot), Old::Runs) => Next::Abandon(why),
        (Some(Billing::OnDemand), Old::Runs | Old::Leaving | Old::Busy | Old::Failed | Old::Down | Old::Stopped) => {
            Next::Abandon(why)
        }
        (_, Old::Busy) => Next::Rest(Rest::OldBusy),
        // Without the old one the new one is all there is. An operator may have stopped the old one on purpose.
        (_, Old::Runs | Old::Leaving | Old::Failed | Old::Down | Old::Stopped | Old::Going | Old::Gone) => {
            Next::LeaveBoth(format!("the old instance does not run any more, so the new one stays: {why}"))
        }
    };
    match (&recreation.step, intent) {
        (Step::Pending { .. }, MoveIntent::Undo(_)) => Next::CallOff,
        // The new one is gone. Another one would have to soak first.
        (Step::Pending { .. }, MoveIntent::Retire) if recreation.moves_to() == Some(&Billing::Spot) => Next::CallOff,
        (Step::Pending { .. }, MoveIntent::Advance | MoveIntent::Retire) => {
            match (recreation.quarantined_until(*now), recreation.moves_to(), old) {
                (Some(until), _, _) => Next::Rest(Rest::Quarantined { until }),
                (None, _, Old::Busy) => Next::Rest(Rest::OldBusy),
                (None, _, Old::Runs | Old::Leaving) => Next::Create,
                // Back to on-demand: that it does not run is one more reason.
                (None, Some(Billing::OnDemand), Old::Down | Old::Stopped | Old::Failed) => Next::Create,
                // It was stopped on purpose.
                (None, _, Old::Down | Old::Stopped | Old::Failed | Old::Going | Old::Gone) => Next::CallOff,
            }
        }
        (Step::Created { .. }, intent) => match (successor, intent) {
            (Successor::Gone, _) => Next::Watch,
            (_, MoveIntent::Undo(why)) => unfit(Unfit::Undone(why.clone())),
            (Successor::None, _) => Next::Watch,
            // One that ran may be restarting: the rollout decides for how long.
            (Successor::ComingUp | Successor::Unclear, MoveIntent::Retire)
                if recreation.moves_to() == Some(&Billing::Spot) =>
            {
                Next::Watch
            }
            (Successor::ComingUp, _) if now.since(recreation.since) >= PATIENCE => unfit(Unfit::NotComingUp),
            (Successor::ComingUp | Successor::Unclear, _) => Next::Watch,
            (Successor::Failed(why), _) => unfit(Unfit::Failed(why.clone())),
            (Successor::Down | Successor::Reclaimed, _) => unfit(Unfit::Down),
            (Successor::Running, MoveIntent::Advance) => Next::Rest(Rest::Soaking),
            (Successor::Running, MoveIntent::Retire) if *old == Old::Busy => Next::Rest(Rest::OldBusy),
            (Successor::Running, MoveIntent::Retire) => Next::DeleteOld,
        },
        // A deletion that shows no effect had none: the old one is still the one to keep.
        (Step::Running { .. } | Step::Deleted { .. }, MoveIntent::Undo(why))
            if *old == Old::Runs && *successor != Successor::Gone =>
        {
            if now.since(recreation.since) >= SETTLE_TIME {
                unfit(Unfit::Undone(why.clone()))
            } else {
                Next::Rest(Rest::Unsettled { until: recreation.since + SETTLE_TIME })
            }
        }
        // It was to be deleted while the old one ran, and is still there. Days may have passed since.
        (Step::Abandoned { .. }, _) if !matches!(successor, Successor::Gone | Successor::None) => {
            unfit(Unfit::GivenUp(recreation.last_error.clone().unwrap_or_default()))
        }
        // A call is under way or answered: the intent comes too late.
        (
            Step::Deleting { .. }
            | Step::Intent { .. }
            | Step::Running { .. }
            | Step::Deleted { .. }
            | Step::Abandoned { .. }
            | Step::Closed { .. }
            | Step::Ended,
            _,
        ) => next(recreation, situation, RecreateOrder::CreateFirst, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::time::Timestamp;

    #[test]
    fn a_deletion_that_shows_no_effect_is_not_sent_again_once_it_is_undone() {
        let (now, ago) = (Timestamp::from_secs(1_700_000_000), Timestamp::from_secs(1_699_999_000));
        let undone = Next::Abandon(Unfit::Undone("why".into()));
        let unsettled = Next::Rest(Rest::Unsettled { until: now + SETTLE_TIME });
        for (since, old, intent, wanted) in [
            (ago, Old::Runs, MoveIntent::Undo("why".into()), undone),
            (now, Old::Runs, MoveIntent::Undo("why".into()), unsettled),
            (ago, Old::Runs, MoveIntent::Retire, Next::DeleteOld),
        ] {
            let cause = Cause::Moved { rollout: "rollout-1".into(), to: Billing::Spot };
            let step = Step::Running { replacement: crate::core::world::instance::InstanceId::new("b") };
            let planned = Recreation::planned("web", cause, "web-recreated-1".into(), now);
            let recreation = Recreation { step, since, ..planned };
            let situation =
                Situation { old, successor: Successor::Running, marked: None, is_unwanted: false, overlap: None, now };
            let next = next_move(&recreation, &situation, &intent);
            assert_eq!(next, wanted, "{intent:?}");
            if let Next::Abandon(_) = next {
                let given_up =
                    recreation.apply(super::super::Transition::Abandon(Unfit::Undone("why".into())), now).unwrap();
                assert!(matches!(given_up.step, Step::Abandoned { .. }));
            }
        }
    }

    #[test]
    fn what_is_all_there_is_stays() {
        let now = Timestamp::from_secs(1_700_000_000);
        for (to, old, stays) in [
            (Billing::Spot, Old::Runs, false),
            (Billing::Spot, Old::Down, true),
            (Billing::OnDemand, Old::Down, false),
            (Billing::OnDemand, Old::Gone, true),
            (Billing::OnDemand, Old::Going, true),
        ] {
            let cause = Cause::Moved { rollout: "rollout-1".into(), to: to.clone() };
            let replacement = crate::core::world::instance::InstanceId::new("b");
            for step in [
                Step::Created { replacement: replacement.clone(), kept: None },
                Step::Abandoned { replacement: replacement.clone(), kept: None },
            ] {
                let planned = Recreation::planned("web", cause.clone(), "web-recreated-1".into(), now);
                let recreation = Recreation { step, ..planned };
                let situation = Situation {
                    old,
                    successor: Successor::Running,
                    marked: None,
                    is_unwanted: false,
                    overlap: None,
                    now,
                };
                let next = next_move(&recreation, &situation, &MoveIntent::Undo("why".into()));
                assert_eq!(matches!(next, Next::LeaveBoth(_)), stays, "{to:?} {old:?}: {next:?}");
                if let Next::LeaveBoth(why) = next {
                    let left = recreation.apply(super::super::Transition::LeaveBoth(why), now).unwrap();
                    assert_eq!(left.step, Step::Ended);
                }
            }
        }
    }

    #[test]
    fn nothing_is_retired_for_a_successor_that_is_still_to_be_made() {
        let now = Timestamp::from_secs(1_700_000_000);
        for (to, intent, wanted) in [
            (Billing::Spot, MoveIntent::Advance, Next::Create),
            (Billing::Spot, MoveIntent::Retire, Next::CallOff),
            (Billing::OnDemand, MoveIntent::Retire, Next::Create),
        ] {
            let cause = Cause::Moved { rollout: "rollout-1".into(), to: to.clone() };
            let recreation = Recreation::planned("web", cause, "web-recreated-1".into(), now);
            let situation = Situation {
                old: Old::Runs,
                successor: Successor::None,
                marked: None,
                is_unwanted: false,
                overlap: None,
                now,
            };
            assert_eq!(next_move(&recreation, &situation, &intent), wanted, "{to:?} {intent:?}");
        }
    }
}
