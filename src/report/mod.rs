//! What people and scripts see. Work emits [`Event`]s; nobody else prints.
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
pub mod prometheus;
pub mod text;

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
use crate::core::world::instance::{Instance, InstanceId};
use crate::core::world::policy::Policy;
use crate::core::world::snapshot::Snapshot;

/// Something that happened in a pass.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A pass begins.
    PassBegan {
        /// The pass.
        execution: &'a Execution,
        /// The store it remembers in.
        store: &'a str,
    },
    /// An earlier pass never closed.
    FoundUnclosed {
        /// That pass.
        execution: &'a Execution,
    },
    /// Another pass is at work.
    AnotherPassRuns {
        /// Its job id.
        job_id: &'a str,
    },
    /// A page of instances came.
    Listed {
        /// Instances so far.
        received: u64,
        /// Instances there are, if the provider said so.
        announced: Option<u64>,
    },
    /// The provider's world was read.
    Observed {
        /// What was seen.
        snapshot: &'a Snapshot,
    },
    /// A verdict on one instance.
    Decided {
        /// The instance.
        instance: &'a Instance,
        /// The verdict.
        decision: &'a Decision,
        /// The rules it follows.
        policy: &'a Policy,
    },
    /// The end of a call of an earlier pass.
    Settled(&'a Settlement),
    /// Actions begin.
    ActionsBegin {
        /// How many.
        count: usize,
    },
    /// An action ended.
    ActionEnded(&'a Attempt),
    /// A second look told how an action in doubt ended.
    ActionResolved(&'a Attempt),
    /// A recreation came a step further, and the journal says so.
    Journaled {
        /// The old instance.
        instance: &'a InstanceId,
        /// The journal.
        recreation: &'a Recreation,
    },
    /// A write to the provider ended.
    Wrote {
        /// The pass that sent it.
        job_id: &'a str,
        /// The write.
        write: &'a ProviderWrite,
    },
    /// Replacements are waited for.
    Awaiting {
        /// How many.
        count: usize,
    },
    /// All actions ended.
    ActionsEnd,
    /// Events could not be delivered; later passes try again.
    Undelivered {
        /// How many are left.
        count: usize,
        /// Why the last one was not taken.
        error: &'a str,
    },
    /// An event is too old to be of use, and given up.
    GivenUp(&'a Outgoing),
    /// Somebody could not be told of the pass.
    NotTold {
        /// Which setting names them.
        setting: &'static str,
        /// What went wrong, without the address.
        error: &'a str,
    },
    /// A record that no decision rests on is damaged. It is removed.
    PassedOver {
        /// Which one.
        record: &'a str,
    },
    /// The pass is recorded, and its lease could not be given back: it expires by itself.
    NotReleased {
        /// What went wrong.
        error: &'a str,
    },
    /// A rollout is further, and that is stored.
    RolloutAdvanced {
        /// The rollout.
        fleet: &'a Fleet,
    },
    /// A step of a rollout that somebody waits for.
    RolloutStepped {
        /// What it did, in one sentence.
        message: &'a str,
    },
    /// The pass ended.
    PassEnded {
        /// The pass.
        execution: &'a Execution,
    },
}

/// Hears what happens.
pub trait Reporter {
    /// Told of each event, in order.
    fn event(&self, event: Event<'_>);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// The reporter of the program: log lines, and progress where somebody watches.
#[derive(Debug)]
pub struct Console {
    bars: bars::Bars,
    verdicts: bool,
}

impl Console {
    /// A console that draws on `bars`, and logs the verdicts on instances only if no table will show them.
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

/// Keeps the end of a pass back until everybody is told of it, so that its summary is the last line.
pub struct SummaryLast<'a> {
    inner: &'a dyn Reporter,
    ended: RefCell<Option<Execution>>,
}

impl<'a> SummaryLast<'a> {
    /// Everything else goes to `inner` at once.
    #[must_use]
    pub fn new(inner: &'a dyn Reporter) -> Self {
        Self { inner, ended: RefCell::default() }
    }

    /// Now everybody is told.
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

/// Whether somebody sits before both ends: sees what is asked, and can answer.
#[must_use]
pub fn is_watched() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on stderr, and waits for a line; `None` if there is none.
#[must_use]
pub fn ask(question: &str) -> Option<String> {
    let mut err = std::io::stderr().lock();
    write!(err, "{question}").and_then(|()| err.flush()).ok()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line)
}

/// Says on stderr why the program could not do its work, and how to mend it. What comes from outside is made safe.
pub fn complain(message: &str, hint: Option<&str>, format: log::Format) {
    let mut err = std::io::stderr().lock();
    if format == log::Format::Json {
        let _ = writeln!(err, "{}", log::failure_line(message, hint, Clock::system().now()));
        return;
    }
    let _ = writeln!(err, "error: {}", lines(message));
    if let Some(hint) = hint {
        let _ = writeln!(err, "hint: {}", lines(hint));
    }
}

/// Line by line, since usage errors have several.
fn lines(message: &str) -> String {
    message.trim_end().split('\n').map(text::visible).collect::<Vec<_>>().join("\n")
}
