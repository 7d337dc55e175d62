//! Everything that people and scripts see. Work emits [`Event`]s, and only this module prints.
//!
//! [`log`] turns events into log lines, [`bars`] into progress on a terminal; [`human`], [`json`], [`csv`] and
//! [`prometheus`] write the final documents.

pub mod analyze;
pub mod bars;
pub mod csv;
pub mod document;
pub mod explained;
pub mod figures;
pub mod human;
pub mod json;
pub mod log;
pub mod markets;
pub mod output;
pub mod page;
pub mod prometheus;
pub mod replayed;
pub mod text;
pub mod uptime;

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};

use crate::clock::Clock;
use crate::core::pass::settle::Settlement;
use crate::core::pass::verdict::Decision;
use crate::core::record::execution::{Attempt, Execution};
use crate::core::record::outbox::Outgoing;
use crate::core::record::trail::ProviderWrite;
use crate::core::recreation::journal::Recreation;
use crate::core::rollout::course::Fleet;
use crate::core::rollout::traffic::Switch;
use crate::core::world::instance::{Instance, InstanceId};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::Snapshot;

/// Something that happened in a pass.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    PassBegan {
        execution: &'a Execution,
        store: &'a str,
    },
    /// An earlier pass was interrupted before it recorded its end.
    FoundUnclosed {
        execution: &'a Execution,
    },
    AnotherPassRuns {
        job_id: &'a str,
    },
    /// The machine's clock differs from the provider's, by which the pass goes on.
    ClockCorrected {
        /// By how many milliseconds the machine's is ahead.
        ahead: i64,
    },
    /// A page of instances was received.
    Listed {
        received: u64,
        /// All instances, if the provider gives their number.
        announced: Option<u64>,
    },
    Observed {
        snapshot: &'a Snapshot,
    },
    Decided {
        instance: &'a Instance,
        decision: &'a Decision,
        policy: &'a Policy,
    },
    /// The outcome of a call of an earlier pass.
    Settled(&'a Settlement),
    ActionsBegin {
        count: usize,
    },
    ActionEnded(&'a Attempt),
    /// The outcome of an action was unknown, and has been observed since.
    ActionResolved(&'a Attempt),
    /// A step of a recreation was recorded.
    Journaled {
        instance: &'a InstanceId,
        recreation: &'a Recreation,
    },
    /// A write request to the provider ended.
    Wrote {
        job_id: &'a str,
        write: &'a ProviderWrite,
    },
    /// The pass waits for replacements to run.
    Awaiting {
        count: usize,
    },
    ActionsEnd,
    /// The pass looks again in a minute.
    RoundEnded {
        /// Reclaimed instances that do not run yet.
        down: usize,
    },
    /// A later round of the pass could not be made; what was done stands.
    RoundFailed {
        error: &'a str,
    },
    /// The store has lost a part of its memory; or it knows of no pass, and the provider lists this number of
    /// replacements that passes made.
    MemoryLost {
        replacements: Option<usize>,
    },
    /// A pattern of `--only` or `--exclude` means no instance.
    IdlePattern {
        pattern: &'a str,
    },
    /// What an instance is made of could not be read while it runs: after a reclaim it could not be launched again.
    NotRecorded {
        instance: &'a InstanceId,
        error: &'a str,
    },
    /// A replacement gets traffic through a target group.
    Registered {
        instance: &'a InstanceId,
        group: &'a str,
    },
    /// It does not; without an instance, it is not known what is in the target group.
    NotRegistered {
        instance: Option<&'a InstanceId>,
        group: &'a str,
        error: &'a str,
    },
    /// What is on offer could not be read, so that places may be missing.
    OffersUnread {
        error: &'a str,
    },
    /// A pattern of `RESPOT_PLACES` means no cluster where a replacement of the pass could go.
    IdlePlace {
        pattern: &'a str,
    },
    /// The receiver of events is gone for good, and they are given up.
    ReceiverGone {
        count: usize,
    },
    /// Events could not be delivered; later passes will retry.
    Undelivered {
        count: usize,
        /// Why the last delivery failed.
        error: &'a str,
    },
    /// An event is too old to be useful, and is dropped.
    GivenUp(&'a Outgoing),
    /// A notification about the pass failed.
    NotTold {
        setting: &'static str,
        /// Does not contain the address.
        error: &'a str,
    },
    /// A corrupt record is removed. No decision depends on it.
    PassedOver {
        record: &'a str,
    },
    /// The pass is recorded, but its lease could not be released: it expires on its own.
    NotReleased {
        error: &'a str,
    },
    /// Progress of a rollout was recorded.
    RolloutAdvanced {
        fleet: &'a Fleet,
    },
    /// Records that no decision rests on and that cannot be read, by their maps.
    Unread {
        records: &'a [String],
    },
    /// Something of a rollout failed, or does not end.
    /// The hook of a rollout has moved traffic.
    TrafficSwitched {
        switch: &'a Switch,
    },
    RolloutTroubled {
        trouble: &'a str,
    },
    /// A step of a rollout with `--wait`.
    RolloutStepped {
        /// What it did, in one sentence.
        message: &'a str,
    },
    PassEnded {
        execution: &'a Execution,
    },
}

/// Receives events.
pub trait Reporter {
    /// Receives each event, in order.
    fn event(&self, event: Event<'_>);
}

/// Ignores all events.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// The reporter of the program: log lines, and progress on a terminal.
#[derive(Debug)]
pub struct Console {
    bars: bars::Bars,
    verdicts: bool,
}

impl Console {
    /// A console that draws on `bars`. `verdicts` is whether decisions are logged: not when a table will show them.
    #[must_use]
    pub fn new(bars: bars::Bars, verdicts: bool) -> Self {
        Self { bars, verdicts }
    }
}

impl Reporter for Console {
    fn event(&self, event: Event<'_>) {
        self.bars.event(event);
        if self.verdicts || !matches!(event, Event::Decided { .. }) {
            log::event(event);
        }
    }
}

/// Delays the end of a pass until notifications are sent, so that its summary is the last line.
pub struct SummaryLast<'a> {
    inner: &'a dyn Reporter,
    ended: RefCell<Option<Execution>>,
}

impl<'a> SummaryLast<'a> {
    /// Passes all other events to `inner` immediately.
    #[must_use]
    pub fn new(inner: &'a dyn Reporter) -> Self {
        Self { inner, ended: RefCell::default() }
    }

    /// Reports the end of the pass.
    pub fn finish(&self) {
        if let Some(execution) = &*self.ended.borrow() {
            self.inner.event(Event::PassEnded { execution });
        }
    }
}

impl Reporter for SummaryLast<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::PassEnded { execution } => *self.ended.borrow_mut() = Some(execution.clone()),
            event => self.inner.event(event),
        }
    }
}

/// Whether a question can be seen and answered.
#[must_use]
pub fn is_watched() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on stderr and reads a line; `None` at the end of the input.
#[must_use]
pub fn ask(question: &str) -> Option<String> {
    let mut err = std::io::stderr().lock();
    write!(err, "{question}").and_then(|()| err.flush()).ok()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line)
}

/// Prints on stderr why the program failed and how to fix it, made safe for a terminal.
pub fn complain(message: &str, hint: Option<&str>, format: log::Format) {
    let text = match (format, hint) {
        (log::Format::Json, hint) => log::failure_line(message, hint, Clock::system().now()) + "\n",
        (log::Format::Text, Some(hint)) => format!("error: {}\nhint: {}\n", lines(message), lines(hint)),
        (log::Format::Text, None) => format!("error: {}\n", lines(message)),
    };
    output::log(text.as_bytes());
}

/// Makes each line safe on its own: usage errors have several.
fn lines(message: &str) -> String {
    message.trim_end().split('\n').map(text::visible).collect::<Vec<_>>().join("\n")
}
