//! Who is notified of a pass, apart from the log: a receiver of events, a dead man's switch, a collector of metrics.
//!
//! Nothing here decides anything or can fail a pass: what could not be delivered is logged, and an event waits
//! in the store until it is taken. Receivers that do not answer delay a pass by a second at its beginning, six for
//! events and two and a half at its end, less than ten in all (`docs/reference.md`).

mod files;
mod outbound;
mod outlets;
mod webhook;

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use self::outbound::Outbound;
use crate::clock::Clock;
use crate::core::record::outbox::{Happened, Outgoing};
use crate::core::world::time::Timestamp;
use crate::proxies::Proxies;
use crate::report::{Event, Reporter};
use crate::settings::WebhookSetting;
use crate::store::records::Change;

pub use files::{replace, replaceable};
pub use outlets::{Closing, Outlets};

/// How long a pass delivers events.
const DELIVERY_TIME: Duration = Duration::from_secs(6);

/// Timeout of one request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long a pass waits, after its work, for the dead man's switch to answer the start ping.
const BEGINNING_TIME: Duration = Duration::from_secs(1);

/// Timeout of the dead man's switch and the Pushgateway, in parallel, when a pass ended.
const CLOSING_TIME: Duration = Duration::from_millis(2500);

/// Deliveries in parallel.
const AT_ONCE: usize = 4;

/// The receivers of a running pass.
pub trait Notify {
    /// Whether events are to be stored and delivered.
    fn wants_events(&self) -> bool;

    /// Reports the start of a pass.
    fn began(&self) -> impl Future<Output = ()>;

    /// Delivers one event.
    ///
    /// # Errors
    /// Why delivery failed.
    fn deliver(&self, event: &Outgoing) -> impl Future<Output = Result<(), NotDelivered>>;
}

/// Why something was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDelivered {
    /// Contains neither the address nor the response.
    pub why: String,
    pub resend: Resend,
}

/// When to send again, as far as a receiver says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    Normally,
    /// Not before this has passed: 429 or 503 with `Retry-After`.
    After(Duration),
    /// 410: the receiver is gone.
    Never,
}

impl<T: Into<String>> From<T> for NotDelivered {
    fn from(why: T) -> Self {
        Self { why: why.into(), resend: Resend::Normally }
    }
}

/// No receiver is configured.
#[derive(Clone, Copy, Debug)]
pub struct NoReceiver;

impl Notify for NoReceiver {
    fn wants_events(&self) -> bool {
        false
    }

    async fn began(&self) {}

    async fn deliver(&self, _: &Outgoing) -> Result<(), NotDelivered> {
        Err("no receiver is configured".into())
    }
}

/// Delivers events only: anything but a scheduled pass must not touch the dead man's switch.
#[derive(Debug)]
pub struct EventsOnly<'a, N>(pub &'a N);

impl<N: Notify> Notify for EventsOnly<'_, N> {
    fn wants_events(&self) -> bool {
        self.0.wants_events()
    }

    async fn began(&self) {}

    fn deliver(&self, event: &Outgoing) -> impl Future<Output = Result<(), NotDelivered>> {
        self.0.deliver(event)
    }
}

/// Runs a pass, and reports its start in parallel.
pub async fn beside<T>(notify: &impl Notify, work: impl Future<Output = T>) -> T {
    match select(pin!(work), pin!(notify.began())).await {
        Either::Left((worked, beginning)) => {
            // In this order; otherwise the switch would show a pass as running.
            let _ = tokio::time::timeout(BEGINNING_TIME, beginning).await;
            worked
        }
        Either::Right(((), work)) => work.await,
    }
}

/// Sends a test event.
///
/// # Errors
/// Why delivery failed; contains neither the address nor the response.
pub async fn send_test(webhook: &WebhookSetting, proxies: &Proxies, id: String) -> Result<(), String> {
    let encrypted = webhook.address.is_encrypted();
    let outbound = Outbound::new(encrypted, proxies).map_err(|error| format!("{error:#}"))?;
    let sent = webhook::send(&outbound, webhook, &Happened::test(Clock::system().now()).outgoing(id)).await;
    sent.map_err(|it| it.why)
}

/// Delivers events, the least tried first, so that one that always fails does not block the others. What the receiver asks
/// for holds for all: nothing more is sent in this pass. Returns the changes to the outbox. Without a `now` that is sure,
/// none is too old.
pub async fn deliver<N: Notify>(
    notify: &N,
    waiting: Vec<Outgoing>,
    now: Option<Timestamp>,
    reporter: &dyn Reporter,
) -> Vec<Change> {
    let until = Instant::now() + DELIVERY_TIME;
    let (expired, mut waiting): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|event| now.is_some_and(|now| event.is_expired(now)));
    let is_early = now.is_some_and(|now| waiting.iter().any(|event| event.is_early(now)));
    let mut last_error = is_early.then(|| "the receiver asked to be left alone for some time".to_owned());
    let resend = Cell::new(if is_early { Resend::After(Duration::ZERO) } else { Resend::Normally });
    let count = waiting.len();
    waiting.sort_by(|a, b| (a.attempts, &a.id).cmp(&(b.attempts, &b.id)));
    let sending = waiting.into_iter().map(async |event| {
        if Instant::now() >= until || resend.get() != Resend::Normally {
            return (event, None);
        }
        let sent = tokio::time::timeout_at(until, notify.deliver(&event)).await;
        let sent = sent.unwrap_or_else(|_| Err("no answer in time".into()));
        if let Err(NotDelivered { resend: asked, .. }) = &sent
            && resend.get() != Resend::Never
            && *asked != Resend::Normally
        {
            resend.set(*asked);
        }
        (event, Some(sent))
    });
    let mut sending = pin!(stream::iter(sending).buffer_unordered(AT_ONCE));
    let (mut changes, mut taken, mut untried, mut failed) = (Vec::new(), 0, Vec::new(), Vec::new());
    while let Some((event, sent)) = sending.next().await {
        match sent {
            None => untried.push(event.id),
            Some(Ok(())) => {
                taken += 1;
                changes.push(Change::Sent { id: event.id });
            }
            Some(Err(NotDelivered { why, resend })) => {
                last_error = Some(why.clone());
                let attempts = event.attempts.saturating_add(1);
                let not_before = match resend {
                    Resend::After(wait) => now.map(|now| now + wait),
                    Resend::Normally | Resend::Never => None,
                };
                failed.push(Outgoing { attempts, last_error: Some(why), not_before, ..event });
            }
        }
    }
    let undelivered = count - taken;
    if resend.get() == Resend::Never {
        reporter.event(Event::ReceiverGone { count: undelivered });
        let ids = untried.into_iter().chain(failed.into_iter().map(|event| event.id));
        changes.extend(ids.map(|id| Change::Sent { id }));
    } else {
        if undelivered > 0 {
            let error = last_error.as_deref().unwrap_or("there was no time left");
            reporter.event(Event::Undelivered { count: undelivered, error });
        }
        changes.extend(failed.into_iter().map(Change::Send));
    }
    for event in expired {
        reporter.event(Event::GivenUp(&event));
        changes.push(Change::Sent { id: event.id });
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::report::Silent;

    /// Takes its time, and nothing else.
    struct Slow {
        time: Duration,
        heard: RefCell<Vec<String>>,
    }

    impl Notify for Slow {
        fn wants_events(&self) -> bool {
            true
        }

        async fn began(&self) {
            tokio::time::sleep(self.time).await;
        }

        async fn deliver(&self, event: &Outgoing) -> Result<(), NotDelivered> {
            self.heard.borrow_mut().push(event.id.clone());
            tokio::time::sleep(self.time).await;
            Err("no".into())
        }
    }

    fn event(id: &str, attempts: u32, age: Duration) -> Outgoing {
        let at = Timestamp::from_secs(1_700_000_000) - age;
        Outgoing {
            id: id.into(),
            event: "test".into(),
            at,
            body: "{}".into(),
            attempts,
            last_error: None,
            not_before: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_tried_least_come_first_and_the_time_is_bounded() {
        let now = Timestamp::from_secs(1_700_000_000);
        let fresh = |id: &str, attempts| event(id, attempts, Duration::ZERO);
        let mut waiting = vec![fresh("b2", 2), fresh("c0", 0), fresh("a1", 1), fresh("a0", 0)];
        waiting.push(event("old", 0, crate::core::record::outbox::EVENT_LIFE));
        waiting.extend((0..100).map(|n| fresh(&format!("z{n:02}"), 9)));
        let slow = Slow { time: Duration::from_secs(4), heard: RefCell::default() };
        let begun = Instant::now();
        let changes = deliver(&slow, waiting, Some(now), &Silent).await;
        assert_eq!(begun.elapsed(), DELIVERY_TIME);
        let heard = slow.heard.into_inner();
        assert_eq!(heard, ["a0", "c0", "a1", "b2", "z00", "z01", "z02", "z03"], "the others had no turn");
        let tried = |change: &&Change| matches!(change, Change::Send(event) if event.attempts > 0);
        assert_eq!(changes.iter().filter(tried).count(), heard.len());
        assert!(changes.iter().any(|change| matches!(change, Change::Sent { id } if id == "old")));
        assert_eq!(changes.len(), heard.len() + 1, "what had no turn stays as it was");
    }

    #[tokio::test(start_paused = true)]
    async fn a_beginning_is_told_beside_the_work_and_not_for_long() {
        for (telling, work, whole) in [(0, 5000, 5000), (500, 100, 500), (3000, 100, 1100), (3000, 2500, 3000)] {
            let slow = Slow { time: Duration::from_millis(telling), heard: RefCell::default() };
            let begun = Instant::now();
            beside(&slow, tokio::time::sleep(Duration::from_millis(work))).await;
            assert_eq!(begun.elapsed(), Duration::from_millis(whole), "{telling} {work}");
        }
    }
}
