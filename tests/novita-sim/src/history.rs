//! What was when: every change of an instance's status or billing, for those who judge a world by its past.

use crate::world::World;

/// What an instance became, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Unix milliseconds. One that was put into the world running became so when it last started.
    pub at_ms: i64,
    /// The instance.
    pub id: String,
    /// Its status from then on; `gone` when it left without a trace.
    pub status: String,
    /// Its billing mode from then on.
    pub billing_mode: String,
}

/// A time in which an instance was running, with one billing mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// From when on, Unix milliseconds.
    pub from_ms: i64,
    /// Until when; `None` if it is running still.
    pub to_ms: Option<i64>,
    /// Its billing mode.
    pub billing_mode: String,
}

impl World {
    /// Everything that instances became, in order.
    #[must_use]
    pub fn history(&self) -> &[Past] {
        &self.history
    }

    /// The times in which an instance was running, in order; also of one that is gone.
    #[must_use]
    pub fn runs_of(&self, id: &str) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for past in self.history.iter().filter(|past| past.id == id) {
            if let Some(open) = runs.last_mut().filter(|run| run.to_ms.is_none()) {
                open.to_ms = Some(past.at_ms);
            }
            if past.status == "running" {
                let billing_mode = past.billing_mode.clone();
                runs.push(Run { from_ms: past.at_ms, to_ms: None, billing_mode });
            }
        }
        runs
    }

    /// How long an instance has been running altogether, in milliseconds.
    #[must_use]
    pub fn running_time(&self, id: &str) -> i64 {
        self.runs_of(id).iter().map(|run| run.to_ms.unwrap_or(self.now) - run.from_ms).sum()
    }

    /// When an instance went without a trace; `None` if it is there, or never was.
    #[must_use]
    pub fn gone_at_ms(&self, id: &str) -> Option<i64> {
        self.history.iter().rfind(|past| past.id == id).filter(|past| past.status == GONE).map(|past| past.at_ms)
    }

    /// Writes down what the machine in this slot is, if that is news.
    pub(crate) fn tell(&mut self, slot: usize) {
        let Some(Some(told)) = self.slots.get_mut(slot) else { return };
        let machine = &told.machine;
        let is_known = |past: &Past| past.status == machine.status && past.billing_mode == machine.billing_mode;
        let known = told.told.and_then(|place| self.history.get(place));
        if known.is_some_and(is_known) {
            return;
        }
        let ran_before = known.is_none() && machine.status == "running" && machine.last_started_at != 0;
        self.history.push(Past {
            at_ms: if ran_before { machine.last_started_at } else { self.now },
            id: machine.id.clone(),
            status: machine.status.clone(),
            billing_mode: machine.billing_mode.clone(),
        });
        told.told = Some(self.history.len() - 1);
    }

    /// Writes down that a machine is gone.
    pub(crate) fn tell_gone(&mut self, id: &str, billing_mode: &str) {
        let (id, billing_mode) = (id.to_owned(), billing_mode.to_owned());
        self.history.push(Past { at_ms: self.now, id, status: GONE.into(), billing_mode });
    }
}

const GONE: &str = "gone";
