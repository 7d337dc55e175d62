//! Traffic: which instance of a member serves, as the operator's hook last confirmed, and what the hook has to be told next.
//!
//! An instance that serves is deleted only after the hook has moved its traffic, and every member that a rollback put back is
//! told once. What is stored is the confirmation, so a crash calls the hook again and never skips it.

use super::course::{Fleet, Member, MemberState, Rollout};
use super::members::FleetView;
use crate::core::pass::verdict::Recreating;
use crate::core::recreation::journal::Next;
use crate::core::recreation::marker::hash;
use crate::core::world::instance::{Billing, InstanceId};

/// Traffic to move from one instance to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The instance of the rollout that it is about.
    pub member: InstanceId,
    pub name: String,
    pub from: InstanceId,
    pub to: InstanceId,
    /// How the instance is billed that takes over.
    pub billing: Billing,
}

impl Switch {
    /// The same for each call about the same switch of this rollout.
    #[must_use]
    pub fn key(&self, rollout: &str) -> String {
        let Self { from, to, .. } = self;
        format!("{rollout}-{:016x}", hash(&[self.member.as_str(), from.as_str(), to.as_str()]))
    }
}

impl Fleet {
    /// What has to be switched before the work that is due now.
    #[must_use]
    pub fn switches_before(&self, view: &FleetView<'_>) -> Vec<Switch> {
        let before = |it: &Member| it.switch_before(&it.intended(&self.rollout, view)?);
        self.members.iter().filter(|it| it.has_traffic(&self.rollout)).filter_map(before).collect()
    }

    /// The members whose on-demand instance is due to be deleted now, each with its successor.
    #[must_use]
    pub fn retiring(&self, view: &FleetView<'_>) -> Vec<(&Member, &InstanceId)> {
        let is_due = |it: &&Member| it.intended(&self.rollout, view).is_some_and(|work| work.next == Next::DeleteOld);
        let ready = self.members.iter().filter(|it| it.state == MemberState::Ready);
        ready.filter(is_due).filter_map(|it| Some((it, it.successor.as_ref()?))).collect()
    }

    /// What has to be switched after what was done.
    #[must_use]
    pub fn switches_after(&self) -> Vec<Switch> {
        self.members.iter().filter_map(|member| member.switch_after(&self.rollout)).collect()
    }

    /// Traffic is about to be moved: from now on either instance may serve.
    pub fn switching(&mut self, switches: &[Switch]) {
        for switch in switches {
            if let Some(member) = self.members.iter_mut().find(|member| member.id == switch.member) {
                member.switching = Some(switch.to.clone());
            }
        }
    }

    /// A switch is confirmed.
    pub fn switched(&mut self, switch: &Switch) {
        if let Some(member) = self.members.iter_mut().find(|member| member.id == switch.member) {
            (member.serves, member.switching) = (Some(switch.to.clone()), None);
        }
    }
}

impl Member {
    fn switch(&self, from: &InstanceId, to: &InstanceId, billing: Billing) -> Switch {
        let (member, name) = (self.id.clone(), self.name.clone());
        Switch { member, name, from: from.clone(), to: to.clone(), billing }
    }

    /// Whether its traffic is moved, in this call or in an earlier one.
    pub(super) fn has_traffic(&self, rollout: &Rollout) -> bool {
        rollout.has_hook || self.serves.is_some() || self.switching.is_some()
    }

    /// What has to be switched before this work.
    pub(super) fn switch_before(&self, work: &Recreating) -> Option<Switch> {
        let (old, new) = (&work.instance, work.recreation.step.replacement()?);
        let to_spot = work.recreation.moves_to() == Some(&Billing::Spot);
        let billing = |is_spot| if is_spot { Billing::Spot } else { Billing::OnDemand };
        match work.next {
            Next::DeleteOld if self.serves.as_ref() != Some(new) => Some(self.switch(old, new, billing(to_spot))),
            Next::Abandon(_) if self.serves.as_ref() == Some(new) || self.switching.as_ref() == Some(new) => {
                Some(self.switch(new, old, billing(!to_spot)))
            }
            _ => None,
        }
    }

    /// What has to be switched although nothing is left to do: the other instance is gone.
    pub(super) fn switch_after(&self, rollout: &Rollout) -> Option<Switch> {
        let (from, to, billing) = match self.state {
            MemberState::Moved => (Some(&self.id), self.successor.as_ref()?, Billing::Spot),
            MemberState::Restored | MemberState::Failed if self.undone_at.is_some() && !self.is_open => {
                // It was created again if it had been deleted.
                let again = self.successor.as_ref().filter(|_| self.retired_at.is_some());
                (self.serves.as_ref().or(self.withdrawn.as_ref()), again.unwrap_or(&self.id), Billing::OnDemand)
            }
            _ => return None,
        };
        let is_due = rollout.has_hook && (self.serves.as_ref() != Some(to) || self.switching.is_some());
        Some(self.switch(from?, to, billing)).filter(|_| is_due)
    }
}
