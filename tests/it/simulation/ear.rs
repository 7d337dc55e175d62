//! A receiver of events that loses some, is slow now and then, and remembers what it took; and what must be true of the
//! events of a history.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use respot::core::record::execution::Totals;
use respot::core::record::outbox::{EVENT_LIFE, Outgoing};
use respot::notify::{NotDelivered, Notify};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The receiver. Clones are the same one.
#[derive(Clone)]
pub(super) struct Ear {
    taken: Rc<RefCell<HashSet<String>>>,
    chance: Rc<RefCell<fastrand::Rng>>,
    percent: Rc<RefCell<u8>>,
    born: Instant,
}

impl Ear {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            taken: Rc::default(),
            chance: Rc::new(RefCell::new(fastrand::Rng::with_seed(seed ^ 0xea7))),
            percent: Rc::new(RefCell::new(60)),
            born: Instant::now(),
        }
    }

    /// From now on it takes everything.
    pub(super) fn calm(&self) {
        *self.percent.borrow_mut() = 0;
    }

    /// Each thing was told once, and what was told was taken, or given up after its time.
    pub(super) fn judge(&self, stored: &HashMap<String, Value>, totals: &Totals) -> Result<(), String> {
        let count = |events: &[&str]| {
            let is_one = |body: &&Value| events.iter().any(|event| body["event"] == *event);
            stored.values().filter(is_one).count() as u64
        };
        // What stands in, and what returns to spot, are recreations with a name of their own.
        let recreated: &[&str] = &["instance.recreated", "instance.bridged", "instance.returned"];
        for (events, happened) in
            [(recreated, totals.recreations), (&["instance.migrated"], totals.migrations_succeeded)]
        {
            if count(events) != happened {
                return Err(format!("{} events {events:?}, and it happened {happened} times", count(events)));
            }
        }
        let taken = self.taken.borrow();
        match stored.iter().find(|(id, _)| !taken.contains(*id)) {
            Some((id, body)) if self.born.elapsed() < EVENT_LIFE => Err(format!("{id} was lost: {body}")),
            _ => Ok(()),
        }
    }
}

impl Notify for Ear {
    fn wants_events(&self) -> bool {
        true
    }

    async fn began(&self) {
        sleep(Duration::from_millis(500)).await;
    }

    async fn deliver(&self, event: &Outgoing) -> Result<(), NotDelivered> {
        let fails = || self.chance.borrow_mut().u8(0..100) < *self.percent.borrow();
        let slow = self.chance.borrow_mut().u64(0..50);
        let time = if fails() { Duration::from_secs(slow) } else { Duration::from_millis(slow) };
        sleep(time).await;
        if fails() {
            return Err("not today".into());
        }
        self.taken.borrow_mut().insert(event.id.clone());
        if fails() { Err("taken, but nobody heard of it".into()) } else { Ok(()) }
    }
}
