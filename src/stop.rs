//! Cooperative shutdown: once triggered, no new work starts.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Why no new work starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    Deadline,
    Signal,
    /// The lease is lost: another pass may be running.
    LeaseLost,
}

/// A shutdown request that clones share. The first cause is kept.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: watch::Sender<Option<StopCause>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { sender: watch::Sender::new(None) }
    }
}

impl Stop {
    /// Requests the shutdown. A later cause does not replace an earlier one.
    pub fn trigger(&self, cause: StopCause) {
        self.sender.send_if_modified(|current| current.is_none() && current.replace(cause).is_none());
    }

    /// The cause, if the shutdown was requested.
    #[must_use]
    pub fn cause(&self) -> Option<StopCause> {
        *self.sender.borrow()
    }

    /// Waits until the shutdown is requested.
    pub async fn triggered(&self) -> StopCause {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(cause) = *receiver.borrow_and_update() {
                return cause;
            }
            if receiver.changed().await.is_err() {
                // Unreachable while `self` holds the sender. Without a sender the shutdown is never requested.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Requests the shutdown at `deadline`; never returns.
    pub async fn trigger_at(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
        self.trigger(StopCause::Deadline);
        std::future::pending::<()>().await;
    }

    /// Sleeps until `duration` has passed or the shutdown is requested.
    ///
    /// # Errors
    /// The cause, if the shutdown came first.
    pub async fn sleep(&self, duration: Duration) -> Result<(), StopCause> {
        tokio::select! {
            biased;
            cause = self.triggered() => Err(cause),
            () = tokio::time::sleep(duration) => Ok(()),
        }
    }
}
