//! What a pass says of itself.

use std::cell::Cell;

use respot::core::pass::verdict::{Decision, Skip};
use respot::report::{Event, Reporter};

/// Counts what only the program knows, and tells a history that is replayed alone.
#[derive(Default)]
pub(super) struct Told {
    /// Whether this history is replayed alone.
    pub(super) aloud: bool,
    /// Rounds that a pass went on for.
    pub(super) rounds: Cell<u64>,
    /// Creations that were left to the next wave.
    pub(super) waves: Cell<u64>,
}

impl Reporter for Told {
    #[expect(clippy::disallowed_macros, reason = "for a person who replays a history")]
    fn event(&self, event: Event<'_>) {
        match &event {
            Event::RoundEnded { .. } => self.rounds.set(self.rounds.get() + 1),
            Event::Decided { decision: Decision::Skip(Skip::NextWave { .. }), .. } => {
                self.waves.set(self.waves.get() + 1);
            }
            _ => {}
        }
        if !self.aloud {
            return;
        }
        match event {
            Event::PassBegan { execution, .. } => println!("{} pass", execution.started_at),
            Event::Decided { instance, decision, policy } => {
                let (reason, detail) = (decision.reason(), decision.detail(instance, policy));
                println!("    {} {} {}: {reason}, {detail}", instance.id, instance.name, instance.status);
            }
            Event::Journaled { instance, recreation } => println!("    {instance} at step {:?}", recreation.step),
            Event::ActionEnded(attempt) | Event::ActionResolved(attempt) => {
                let (action, outcome) = (attempt.action.into_str(), attempt.outcome.into_str());
                println!("    {action} {} {outcome}: {}", attempt.instance_id, attempt.reason);
            }
            Event::Settled(settlement) => println!("    settled {}: {:?}", settlement.instance, settlement.end),
            Event::PassEnded { execution } => println!("    {} {:?}", execution.status.into_str(), execution.error),
            _ => {}
        }
    }
}
