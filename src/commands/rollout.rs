//! `rollout`: one step of a rollout under the lease, the operator's verbs, and the loop of `--wait`.

mod command;
mod hook;
mod start;
mod step;

use std::time::Duration;

use tokio::time::Instant;

pub use self::command::command;
pub use self::hook::Hook;
pub use self::start::prospect;
use super::run::lease::under_lease;
use super::run::record::Open;
use super::run::{NoPass, Ran};
use super::{Exit, Failure};
use crate::act::{Pass, World};
use crate::cli::RolloutVerb;
use crate::cloud::{CloudRead, CloudWrite};
use crate::core::record::execution::{Attempt, ROLLOUT_STEP};
use crate::core::rollout::course::{Course, Fleet, Rollout, label};
use crate::core::rollout::findings::Terms;
use crate::core::world::probe::Probe;
use crate::core::world::time::{Timestamp, in_words};
use crate::measure::Prober;
use crate::notify::Notify;
use crate::settings::SettingsError;
use crate::store::StoreWrite;
use crate::store::records;

/// The time between two steps of `--wait` if no time is set for the next one.
const BETWEEN_STEPS: Duration = Duration::from_secs(5);

/// How long a verb waits for another pass to end.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(40);

/// What a rollout works with.
pub struct Drive<'a, C, W, S, N, P> {
    pub world: &'a World<'a, C, S>,
    pub writer: &'a W,
    pub notify: &'a N,
    pub prober: &'a P,
    pub terms: &'a Terms,
    pub course: &'a Course,
    pub hook: Option<&'a Hook>,
}

/// What one call did.
#[derive(Debug, Default)]
pub struct Stepped {
    /// The rollout afterwards, if there is one.
    pub fleet: Option<Fleet>,
    pub attempts: Vec<Attempt>,
    pub message: String,
    /// When the next step is due, if that depends on time.
    pub due: Option<Timestamp>,
    /// Whether it did something, or found nothing to do; `false` if another pass held the lease.
    pub worked: bool,
    /// Whether the rollout was over already.
    pub was_over: bool,
    /// What went wrong in this call, or has not ended for long, in words.
    pub troubles: Vec<String>,
}

impl<C: CloudRead, W: CloudWrite, S: StoreWrite, N: Notify, P: Prober> Drive<'_, C, W, S, N, P> {
    /// Takes the next step of the open rollout.
    ///
    /// # Errors
    /// Exit codes 2, 3, 4, 5 and 6.
    pub async fn step(&self) -> Result<Stepped, Failure> {
        let Some(fleet) = records::rollout(self.world.store, self.world.clock.now()).await?.0 else {
            return Ok(Stepped { message: "there is no rollout".into(), ..Stepped::default() });
        };
        if let Some(message) = resting(&fleet, self.world.clock.now()) {
            return Ok(Stepped { fleet: Some(fleet), message, ..Stepped::default() });
        }
        check_probe(self.terms.probe.as_ref(), &fleet.rollout)?;
        self.take_step(None).await
    }

    /// Carries out a verb of the operator.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub async fn apply(&self, verb: RolloutVerb) -> Result<Stepped, Failure> {
        let until = Instant::now() + PATIENCE_WITH_OTHERS;
        loop {
            let stepped = self.take_step(Some(verb)).await?;
            if stepped.fleet.is_some() || stepped.worked {
                return Ok(stepped);
            }
            // Another pass holds the lease. A verb that had no effect must not look like one that had.
            if Instant::now() >= until || self.world.stop.sleep(Duration::from_secs(2)).await.is_err() {
                return Err(Failure {
                    exit: Exit::ActionsFailed,
                    kind: "busy",
                    message: format!("nothing was changed: {}", stepped.message),
                    hint: Some("try again when that pass has ended; respot status shows it".into()),
                    error_kind: None,
                });
            }
        }
    }

    /// Takes steps until the rollout is over or paused.
    ///
    /// # Errors
    /// As [`step`](Self::step). Errors that may be temporary are retried.
    pub async fn wait(&self, mut progress: impl FnMut(&Stepped)) -> Result<Stepped, Failure> {
        let (mut attempts, mut troubles) = (Vec::new(), Vec::new());
        let mut failures = 0;
        loop {
            match self.step().await {
                Ok(mut stepped) => {
                    failures = 0;
                    attempts.append(&mut stepped.attempts);
                    troubles.append(&mut stepped.troubles);
                    progress(&stepped);
                    let is_open = |it: &Fleet| it.rollout.state.end().is_none() && it.rollout.paused_at.is_none();
                    if !stepped.fleet.as_ref().is_some_and(is_open) {
                        return Ok(Stepped { attempts, troubles, ..stepped });
                    }
                    let now = self.world.clock.now();
                    let left = stepped.due.map_or(BETWEEN_STEPS, |due| due.since(now).max(Duration::from_millis(200)));
                    if let Err(cause) = self.world.stop.sleep(left.min(Duration::from_secs(60))).await {
                        return Err(Failure::stopped(cause));
                    }
                }
                Err(failure) => {
                    failures += 1;
                    let may_be_temporary = matches!(failure.exit, Exit::Provider | Exit::Unsafe | Exit::Store);
                    if !may_be_temporary
                        || failures > 10
                        || self.world.stop.sleep(Duration::from_secs(30)).await.is_err()
                    {
                        return Err(failure);
                    }
                }
            }
        }
    }

    async fn take_step(&self, verb: Option<RolloutVerb>) -> Result<Stepped, Failure> {
        let mut stepped = Stepped::default();
        let ran = self
            .under_lease(async |pass, open, deadline| {
                stepped = self.one_step(verb, pass, open, deadline).await?;
                Ok(())
            })
            .await?;
        match ran {
            Ran::Ended(ended) => {
                stepped.attempts = ended.attempts;
                stepped.worked = true;
                match self.world.stop.cause() {
                    Some(cause) => Err(Failure::stopped(cause)),
                    None => Ok(stepped),
                }
            }
            Ran::Skipped(why) => {
                // A call for the next step also shows the rollout while another pass is running.
                let fleet = match (verb, &why) {
                    (None, NoPass::AnotherRuns { .. }) => {
                        records::rollout(self.world.store, self.world.clock.now()).await?.0
                    }
                    _ => None,
                };
                Ok(Stepped { message: why.document().message, fleet, ..Stepped::default() })
            }
        }
    }

    async fn under_lease(
        &self,
        work: impl AsyncFnOnce(&Pass<'_, (C, W, S)>, &mut Open, Instant) -> Result<(), Failure>,
    ) -> Result<Ran, Failure> {
        under_lease::<(C, W, S), N>(self.world, self.writer, self.notify, ROLLOUT_STEP, work).await
    }
}

/// Both measurements of a comparison must be taken with the same probe.
///
/// # Errors
/// The probe is not the one that the rollout started with.
pub(super) fn check_probe(probe: Option<&Probe>, Rollout { probe: used, .. }: &Rollout) -> Result<(), SettingsError> {
    let given = probe.map(label);
    if given.as_ref() == Some(used) {
        return Ok(());
    }
    let given = given.unwrap_or_else(|| "none".into());
    Err(SettingsError {
        message: format!("the rollout started with the probe {used}, but the current probe is {given}"),
        hint: Some("set RESPOT_PROBE back, or end the rollout with respot rollout abort".into()),
    })
}

/// Why there is nothing to do, if so. This needs no lease.
fn resting(fleet: &Fleet, now: Timestamp) -> Option<String> {
    let rollout = &fleet.rollout;
    if rollout.paused_at.is_some() {
        return Some("the rollout is paused; respot rollout resume continues it".into());
    }
    let end = rollout.state.end()?;
    let ago = in_words(now.since(rollout.state.since()));
    let end = end.into_str().replace('_', " ");
    Some(format!("the last rollout ended {ago} ago: {end}; respot rollout --new starts a new one"))
}
