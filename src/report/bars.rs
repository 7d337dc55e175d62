//! Progress on a terminal: one bar for each phase, removed when the phase ends. Short work shows none, because it would
//! flicker.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::Event;
use crate::core::record::execution::Outcome;

/// Work that ends within this time shows no bars.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often a bar is drawn, so that its time advances even if nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// The bars, and the only way to write to stderr while they are drawn.
#[derive(Clone, Debug)]
pub struct Bars {
    all: MultiProgress,
    visible: bool,
    current: Arc<Mutex<Option<ProgressBar>>>,
}

impl Bars {
    /// Bars on stderr, drawn only if `visible`.
    #[must_use]
    pub fn new(visible: bool) -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), visible, current: Arc::default() }
    }

    pub(super) fn event(&self, event: Event<'_>) {
        match event {
            Event::PassBegan { .. } => {
                self.start("reading the fleet", None);
                self.show_in_time();
            }
            Event::Listed { received, announced } => self.with(|bar| {
                if let Some(announced) = announced {
                    bar.set_style(bar_style());
                    bar.set_length(announced);
                }
                bar.set_position(received);
            }),
            Event::Observed { .. } | Event::ActionsEnd | Event::PassEnded { .. } => self.end(),
            Event::ActionsBegin { count } => self.start("acting", u64::try_from(count).ok()),
            Event::Awaiting { count } => self.with(|bar| {
                bar.tick();
                bar.set_message(format!("waiting for {count} to run"));
            }),
            Event::ActionEnded(attempt) => self.with(|bar| {
                bar.inc(1);
                if attempt.outcome == Outcome::Failed {
                    bar.set_message(format!("last failure: {}", super::text::visible(&attempt.instance_name)));
                }
            }),
            // For `--wait` on a terminal: log lines of this level are not shown there.
            Event::RolloutStepped { message } if self.visible => {
                let _ = writeln!(self.make_writer(), "{}", super::text::visible(message));
            }
            Event::RolloutStepped { .. }
            | Event::TrafficSwitched { .. }
            | Event::RolloutTroubled { .. }
            | Event::Unread { .. }
            | Event::RoundEnded { .. }
            | Event::RoundFailed { .. }
            | Event::FoundUnclosed { .. }
            | Event::AnotherPassRuns { .. }
            | Event::ClockCorrected { .. }
            | Event::Decided { .. }
            | Event::ActionResolved(_)
            | Event::Journaled { .. }
            | Event::Wrote { .. }
            | Event::ReceiverGone { .. }
            | Event::IdlePattern { .. }
            | Event::IdlePlace { .. }
            | Event::NotRecorded { .. }
            | Event::Registered { .. }
            | Event::NotRegistered { .. }
            | Event::OffersUnread { .. }
            | Event::MemoryLost { .. }
            | Event::Undelivered { .. }
            | Event::GivenUp(_)
            | Event::NotTold { .. }
            | Event::PassedOver { .. }
            | Event::NotReleased { .. }
            | Event::RolloutAdvanced { .. }
            | Event::Settled(_) => {}
        }
    }

    fn start(&self, phase: &'static str, length: Option<u64>) {
        self.end();
        let bar = match length {
            Some(length) => ProgressBar::new(length).with_style(bar_style()),
            None => ProgressBar::new_spinner().with_style(spinner_style()),
        };
        let bar = self.all.add(bar.with_prefix(phase));
        if !self.all.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        self.replace(Some(bar));
    }

    /// Draws the bars after `PATIENCE`, if there are any by then.
    fn show_in_time(&self) {
        if !self.visible {
            return;
        }
        let this = self.clone();
        thread::spawn(move || {
            thread::sleep(PATIENCE);
            this.all.set_draw_target(ProgressDrawTarget::stderr());
            this.with(|bar| bar.enable_steady_tick(TICK));
        });
    }

    fn end(&self) {
        if let Some(bar) = self.replace(None) {
            bar.finish_and_clear();
        }
    }

    fn replace(&self, bar: Option<ProgressBar>) -> Option<ProgressBar> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut current, bar)
    }

    fn with(&self, action: impl FnOnce(&ProgressBar)) {
        let current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = &*current {
            action(bar);
        }
    }
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:>18} {spinner} {elapsed} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:>18} [{bar:30}] {pos}/{len} {elapsed} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl<'a> MakeWriter<'a> for Bars {
    type Writer = Beside<'a>;
    fn make_writer(&'a self) -> Self::Writer {
        Beside(&self.all)
    }
}

/// Writes whole lines to stderr; bars make room for them.
#[derive(Debug)]
pub struct Beside<'a>(&'a MultiProgress);

impl io::Write for Beside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| super::output::log(bytes));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
