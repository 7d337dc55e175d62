//! The operator's hook, which moves traffic between the instances of a rollout.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};

use super::Drive;
use super::step::{Stored, close_ups};
use crate::act::Pass;
use crate::cloud::{CloudRead, CloudWrite};
use crate::core::rollout::course::Fleet;
use crate::core::rollout::traffic::Switch;
use crate::core::world::probe::CloseUp;
use crate::measure::Prober;
use crate::notify::Notify;
use crate::report::Event;
use crate::settings::HookSetting;
use crate::shell::{Shell, ShellError};
use crate::store::{StoreError, StoreWrite};

/// The hook, as `RESPOT_ROLLOUT_HOOK` sets it.
#[derive(Debug)]
pub struct Hook {
    setting: HookSetting,
    shell: Shell,
}

impl Hook {
    #[must_use]
    pub fn new(setting: HookSetting) -> Self {
        Self { setting, shell: Shell::of_process() }
    }

    /// Calls it for one switch, with the details of both instances as far as they are known.
    async fn call(&self, rollout: &str, switch: &Switch, [old, new]: [Option<&CloseUp>; 2]) -> Result<(), String> {
        let Switch { member: _, name, from, to, billing } = switch;
        let (key, seconds) = (switch.key(rollout), self.setting.limit.as_secs_f64());
        let mut environment: Vec<(String, &str)> = [
            ("RESPOT_HOOK_KEY", key.as_str()),
            ("RESPOT_ROLLOUT_ID", rollout),
            ("RESPOT_INSTANCE_NAME", name),
            ("RESPOT_OLD_ID", from.as_str()),
            ("RESPOT_NEW_ID", to.as_str()),
            ("RESPOT_NEW_BILLING", billing.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (which, seen) in [("OLD", old), ("NEW", new)] {
            let endpoints = seen.map_or(&[][..], |seen| &seen.endpoints);
            environment
                .extend(endpoints.iter().map(|it| (format!("RESPOT_{which}_{}", it.variable()), it.address.as_str())));
        }
        match timeout(self.setting.limit, self.shell.run(self.setting.command.expose_secret(), environment)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ShellError::NotRun(why) | ShellError::Failed(why))) => Err(why),
            Err(_) => Err(format!("the command did not end within {seconds} s")),
        }
    }
}

/// Switches that run at the same time.
const AT_ONCE: usize = 4;

/// A stop of the program waits for no hook: it is killed, and called again by the next step.
const STOPPED: &str = "the program was stopped";

/// How long a step waits for the provider to move traffic, and how often it looks.
const PATIENCE_WITH_TRAFFIC: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_secs(5);

/// What was not switched yet.
#[derive(Debug, Default)]
pub(super) struct Unswitched {
    /// What went wrong, in sentences.
    pub(super) troubles: Vec<String>,
    /// What is waited for.
    pub(super) waits: Vec<String>,
}

/// How a switch ended.
enum Switched {
    Done,
    Waits(String),
    Failed(String),
}

impl<C: CloudRead, W: CloudWrite, S: StoreWrite, N: Notify, P: Prober> Drive<'_, C, W, S, N, P> {
    /// Moves the traffic of each of these switches, at the provider first, then by the hook, and stores each confirmation.
    pub(super) async fn switch(
        &self,
        pass: &Pass<'_, (C, W, S)>,
        (fleet, stored): (&mut Fleet, &mut Stored),
        switches: Vec<Switch>,
    ) -> Result<Unswitched, StoreError> {
        let mut unswitched = Unswitched::default();
        if switches.is_empty() {
            return Ok(unswitched);
        }
        if self.hook.is_none() && !self.writer.moves_traffic() {
            let held = |Switch { name, from, to, .. }: &Switch| {
                format!(
                    "{name}: its traffic was moved by a hook, and has to be moved from {from} to {to}: set \
                     RESPOT_ROLLOUT_HOOK again"
                )
            };
            unswitched.troubles = switches.iter().map(held).collect();
            return Ok(unswitched);
        }
        fleet.switching(&switches);
        stored.save(pass, fleet, Vec::new()).await?;
        let ids: Vec<_> = switches.iter().flat_map(|it| [&it.from, &it.to]).collect();
        let seen = close_ups(pass.world.cloud, &ids).await;
        let rollout = fleet.rollout.id.clone();
        let (rollout, seen) = (&rollout, &seen);
        let calls = switches.iter().map(|switch| async move {
            let moved = async {
                match self.shifted(pass, switch).await {
                    Switched::Done => {}
                    other => return other,
                }
                let Some(hook) = self.hook else { return Switched::Done };
                match hook.call(rollout, switch, [seen.get(&switch.from), seen.get(&switch.to)]).await {
                    Ok(()) => Switched::Done,
                    Err(why) => Switched::Failed(format!("RESPOT_ROLLOUT_HOOK did not move traffic: {why}")),
                }
            };
            tokio::select! {
                biased;
                _ = pass.world.stop.triggered() => (switch, Switched::Failed(STOPPED.to_owned())),
                moved = moved => (switch, moved),
            }
        });
        let mut calls = std::pin::pin!(stream::iter(calls).buffer_unordered(AT_ONCE));
        while let Some((switch, called)) = calls.next().await {
            let Switch { name, from, to, .. } = switch;
            match called {
                Switched::Done => {
                    pass.world.reporter.event(Event::TrafficSwitched { switch });
                    fleet.switched(switch);
                    stored.save(pass, fleet, Vec::new()).await?;
                }
                Switched::Waits(what) => unswitched.waits.push(format!("{name}: {what}")),
                Switched::Failed(why) => unswitched
                    .troubles
                    .push(format!("{name}: it is not confirmed that traffic moved from {from} to {to}: {why}; the next step tries again")),
            }
        }
        Ok(unswitched)
    }

    /// Moves traffic where the provider does that.
    async fn shifted(&self, pass: &Pass<'_, (C, W, S)>, switch: &Switch) -> Switched {
        let until = Instant::now() + PATIENCE_WITH_TRAFFIC;
        loop {
            match pass.shift(&switch.from, &switch.to).await {
                Ok(None) => return Switched::Done,
                Ok(Some(what)) if Instant::now() >= until => return Switched::Waits(what),
                Ok(Some(_)) => tokio::time::sleep(POLL).await,
                Err(error) => return Switched::Failed(error.to_string()),
            }
        }
    }
}
