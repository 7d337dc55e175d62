//! The word "begin nothing new", given once and heard everywhere.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Why a pass begins nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The pass ran into its deadline.
    Deadline,
    /// Somebody sent SIGINT or SIGTERM.
    Signal,
    /// The lease is lost: another pass may be at work.
    LeaseLost,
}

/// A word that many wait for. The first cause given stays.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: watch::Sender<Option<Cause>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { sender: watch::Sender::new(None) }
    }
}

impl Stop {
    /// Gives the word. A later cause does not replace an earlier one.
    pub fn give(&self, cause: Cause) {
        self.sender.send_if_modified(|current| current.is_none() && current.replace(cause).is_none());
    }

    /// The cause, if the word was given.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        *self.sender.borrow()
    }

    /// Waits until the word is given.
    pub async fn given(&self) -> Cause {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(cause) = *receiver.borrow_and_update() {
                return cause;
            }
            if receiver.changed().await.is_err() {
                // Unreachable while `self` holds the sender; waiting for ever is what "never given" means.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Gives the word at `deadline`; never returns.
    pub async fn give_at(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
        self.give(Cause::Deadline);
        std::future::pending::<()>().await;
    }

    /// Sleeps, but not longer than until the word is given.
    ///
    /// # Errors
    /// The cause, when the word came first.
    pub async fn sleep(&self, duration: Duration) -> Result<(), Cause> {
        tokio::select! {
            biased;
            cause = self.given() => Err(cause),
            () = tokio::time::sleep(duration) => Ok(()),
        }
    }
}
