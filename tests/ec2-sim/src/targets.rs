//! Target groups: which instances get traffic, from when and until when (4.5).
//!
//! Everything follows from when a target was registered, and from its instance. Each change is noted the moment it
//! happens, so that a test can ask for any moment whether there was a healthy target.

use std::fmt;

use crate::error::{Answer, ApiError};
use crate::machine::State;
use crate::region::ACCOUNT;
use crate::time::Event;
use crate::world::World;

/// The port of every target group.
pub(crate) const PORT: u16 = 8_000;

/// A target group of instances.
#[derive(Clone, Debug)]
pub(crate) struct TargetGroup {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) targets: Vec<Target>,
}

/// An instance with a port.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) port: u16,
    registered_ms: i64,
    /// When it was deregistered.
    deregistered_ms: Option<i64>,
    /// The state that was noted last.
    noted: Option<TargetState>,
}

/// The state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// It was registered, or its instance booted, a moment ago.
    Initial,
    /// It gets traffic.
    Healthy,
    /// It fails its checks.
    Unhealthy,
    /// Its instance is stopped or has ended.
    Unused,
    /// It was deregistered; what it has begun it may end.
    Draining,
}

impl TargetState {
    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unused => "unused",
            Self::Draining => "draining",
        }
    }

    /// The code of the reason and its sentence; a healthy one has none.
    pub(crate) fn reason(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Initial => Some(("Elb.RegistrationInProgress", "Target registration is in progress")),
            Self::Healthy => None,
            Self::Unhealthy => Some(("Target.ResponseCodeMismatch", "Health checks failed with these codes: [502]")),
            Self::Unused => Some(("Target.InvalidState", "Target is in the stopped or terminated state")),
            Self::Draining => Some(("Target.DeregistrationInProgress", "Target deregistration is in progress")),
        }
    }
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A change of the state of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetChange {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// The ARN of the target group.
    pub group: String,
    /// The instance.
    pub id: String,
    /// Its port.
    pub port: u16,
    /// The state before; `None` if it was not in the group.
    pub before: Option<TargetState>,
    /// The state from now on; `None` if it is in the group no more.
    pub after: Option<TargetState>,
}

impl World {
    /// Adds a target group for instances, port 8000, to the first region; its ARN.
    pub fn add_target_group(&mut self, name: &str) -> String {
        let region = self.home().name.clone();
        self.add_target_group_in(&region, name)
    }

    /// The same in another region.
    pub fn add_target_group_in(&mut self, region: &str, name: &str) -> String {
        let number = self.rng.u64(..);
        let arn = format!("arn:aws:elasticloadbalancing:{region}:{ACCOUNT}:targetgroup/{name}/{number:016x}");
        let group =
            TargetGroup { arn: arn.clone(), name: name.to_owned(), region: region.to_owned(), targets: Vec::new() };
        self.target_groups.push(group);
        arn
    }

    /// Registers an instance on the port of the group, as a call would; whether it was accepted.
    pub fn register(&mut self, arn: &str, id: &str) -> bool {
        let Some(place) = self.target_groups.iter().position(|group| group.arn == arn) else { return false };
        self.register_targets(place, &[(id.to_owned(), PORT)]).is_ok()
    }

    /// Deregisters an instance from the port of the group, as a call would; whether it was registered.
    pub fn deregister(&mut self, arn: &str, id: &str) -> bool {
        let Some(place) = self.target_groups.iter().position(|group| group.arn == arn) else { return false };
        self.deregister_targets(place, &[(id.to_owned(), PORT)])
    }

    /// The instance fails the health checks of all its groups, or passes them again.
    pub fn set_unhealthy(&mut self, id: &str, is_unhealthy: bool) {
        if is_unhealthy {
            self.unhealthy.insert(id.to_owned());
        } else {
            self.unhealthy.remove(id);
        }
        self.note_targets();
    }

    /// The state of an instance in a target group: `initial`, `healthy`, `unhealthy`, `unused` or `draining`; `None` if
    /// it is not in it. Registered on several ports, it is as well as the first of them that is healthy.
    #[must_use]
    pub fn target_state(&self, arn: &str, id: &str) -> Option<&'static str> {
        let group = self.target_groups.iter().find(|group| group.arn == arn)?;
        let targets = group.targets.iter().filter(|target| target.id == id);
        let states: Vec<_> = targets.filter_map(|target| self.state_of_target(target)).collect();
        let healthy = states.iter().find(|state| **state == TargetState::Healthy);
        healthy.or(states.first()).map(|state| state.name())
    }

    /// Every change of the state of every target, oldest first.
    #[must_use]
    pub fn target_log(&self) -> &[TargetChange] {
        &self.target_log
    }

    /// The least number of healthy targets that a group had at any moment since a time, in Unix milliseconds. What happens
    /// within one millisecond happens at once.
    #[must_use]
    pub fn fewest_healthy(&self, arn: &str, since_ms: i64) -> usize {
        let mut healthy = std::collections::BTreeSet::new();
        let mut fewest = None;
        let mut changes = self.target_log.iter().filter(|change| change.group == arn).peekable();
        while let Some(change) = changes.next() {
            // Between this change and the one before it.
            if change.at_ms > since_ms && fewest.is_none() {
                fewest = Some(healthy.len());
            }
            let target = (change.id.as_str(), change.port);
            if change.after == Some(TargetState::Healthy) {
                healthy.insert(target);
            } else {
                healthy.remove(&target);
            }
            let is_last_of_its_time = changes.peek().is_none_or(|next| next.at_ms > change.at_ms);
            if is_last_of_its_time && change.at_ms >= since_ms {
                fewest = Some(fewest.map_or(healthy.len(), |fewest: usize| fewest.min(healthy.len())));
            }
        }
        fewest.unwrap_or(healthy.len())
    }

    pub(crate) fn register_targets(&mut self, place: usize, wanted: &[(String, u16)]) -> Answer<()> {
        for (id, _) in wanted {
            let region = &self.target_groups[place].region;
            let instance = self.instance(id).filter(|it| it.region == *region && it.is_shown(self.now));
            match instance.map(|instance| instance.state) {
                Some(State::Running) => {}
                Some(_) => {
                    let message =
                        format!("The following targets are not in a running state and cannot be registered: '{id}'");
                    return Err(ApiError::new("InvalidTarget", message));
                }
                None => {
                    return Err(ApiError::new("InvalidTarget", format!("The instance ID '{id}' is not valid")));
                }
            }
        }
        let now = self.now;
        for (id, port) in wanted {
            let targets = &mut self.target_groups[place].targets;
            match targets.iter_mut().find(|target| target.id == *id && target.port == *port) {
                Some(target) if target.deregistered_ms.is_none() => continue,
                Some(target) => {
                    target.registered_ms = now;
                    target.deregistered_ms = None;
                }
                None => targets.push(Target {
                    id: id.clone(),
                    port: *port,
                    registered_ms: now,
                    deregistered_ms: None,
                    noted: None,
                }),
            }
            self.effects += 1;
            self.plan_at(now + self.rules.target_initial_ms, Event::Targets);
        }
        self.note_targets();
        Ok(())
    }

    /// Whether any of them was registered.
    pub(crate) fn deregister_targets(&mut self, place: usize, unwanted: &[(String, u16)]) -> bool {
        let now = self.now;
        let targets = self.target_groups[place].targets.iter_mut();
        let fits = |target: &Target| unwanted.iter().any(|(id, port)| target.id == *id && target.port == *port);
        let mut is_changed = false;
        for target in targets.filter(|target| target.deregistered_ms.is_none() && fits(target)) {
            target.deregistered_ms = Some(now);
            is_changed = true;
        }
        if is_changed {
            self.effects += 1;
            self.plan_at(now + self.rules.draining_ms, Event::Targets);
            self.note_targets();
        }
        is_changed
    }

    /// The state of a target; `None` if it is in its group no more.
    pub(crate) fn state_of_target(&self, target: &Target) -> Option<TargetState> {
        if let Some(since) = target.deregistered_ms {
            return (self.now < since + self.rules.draining_ms).then_some(TargetState::Draining);
        }
        let instance = self.instance(&target.id)?;
        if instance.row_gone_ms.is_some_and(|gone| gone <= self.now) {
            return None;
        }
        Some(match instance.state {
            State::Stopping | State::Stopped | State::ShuttingDown | State::Terminated => TargetState::Unused,
            State::Pending => TargetState::Initial,
            State::Running => {
                let since = target.registered_ms.max(instance.history.running_ms);
                if self.now < since + self.rules.target_initial_ms {
                    TargetState::Initial
                } else if self.unhealthy.contains(&target.id) {
                    TargetState::Unhealthy
                } else {
                    TargetState::Healthy
                }
            }
        })
    }

    /// The instance has booted: it becomes healthy later.
    pub(crate) fn expect_health(&mut self, slot: usize) {
        let id = &self.instances[slot].id;
        if self.target_groups.iter().any(|group| group.targets.iter().any(|target| target.id == *id)) {
            self.plan_at(self.now + self.rules.target_initial_ms, Event::Targets);
        }
    }

    /// Writes down what has changed until now, and forgets the targets that are gone.
    pub(crate) fn note_targets(&mut self) {
        for place in 0..self.target_groups.len() {
            let states: Vec<_> =
                self.target_groups[place].targets.iter().map(|target| self.state_of_target(target)).collect();
            let group = &mut self.target_groups[place];
            for (target, state) in group.targets.iter_mut().zip(states) {
                if target.noted == state {
                    continue;
                }
                self.target_log.push(TargetChange {
                    at_ms: self.now,
                    group: group.arn.clone(),
                    id: target.id.clone(),
                    port: target.port,
                    before: target.noted,
                    after: state,
                });
                target.noted = state;
            }
            group.targets.retain(|target| target.noted.is_some());
        }
    }

    /// Moves everything about targets to another time of the calendar.
    pub(crate) fn shift_targets(&mut self, by: i64) {
        for target in self.target_groups.iter_mut().flat_map(|group| group.targets.iter_mut()) {
            target.registered_ms += by;
            target.deregistered_ms = target.deregistered_ms.map(|at| at + by);
        }
        for change in &mut self.target_log {
            change.at_ms += by;
        }
    }
}
