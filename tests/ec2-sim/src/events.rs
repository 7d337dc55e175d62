//! What tests let happen to instances. Each answers whether it could happen.

use crate::machine::{Behavior, EndedBy, Instance, Lifecycle, State};
use crate::rules::Notice;
use crate::time::{Event, user_initiated};
use crate::world::World;

impl World {
    /// EC2 takes a spot instance back, with the notice of two minutes. Hibernation begins at once.
    pub fn reclaim(&mut self, id: &str) -> bool {
        let Some(slot) = self.living_slot(id, |instance| instance.lifecycle == Lifecycle::Spot) else { return false };
        if self.instances[slot].noticed_ms.is_some() {
            return false;
        }
        let behavior = self.request_place(slot).map(|place| {
            let request = &self.requests[place];
            if request.launches_again() { request.behavior } else { Behavior::Terminate }
        });
        let code = match (behavior, self.rules.notice) {
            (Some(Behavior::Hibernate), _) => {
                self.interrupt(slot);
                return true;
            }
            (Some(Behavior::Stop), _) => "marked-for-stop",
            (_, Notice::AtOnce) => "instance-terminated-no-capacity",
            (_, Notice::Marked) => "marked-for-termination",
        };
        self.say_of(slot, code);
        let noticed = self.now;
        self.instances[slot].noticed_ms = Some(noticed);
        self.plan_at(noticed + self.rules.notice_ms, Event::NoticeOver { slot, noticed });
        true
    }

    /// The same without the notice.
    pub fn reclaim_now(&mut self, id: &str) -> bool {
        let slot = self.living_slot(id, |instance| instance.lifecycle == Lifecycle::Spot);
        slot.map(|slot| self.interrupt(slot)).is_some()
    }

    /// An interruption that was announced does not take place.
    pub fn call_off_reclaim(&mut self, id: &str) -> bool {
        let slot = self.living_slot(id, |instance| instance.noticed_ms.is_some());
        let Some(slot) = slot else { return false };
        self.instances[slot].noticed_ms = None;
        self.say_of(slot, "fulfilled");
        true
    }

    /// EC2 takes back every spot instance of a zone, with the notice; how many.
    pub fn reclaim_zone(&mut self, zone: &str) -> usize {
        let here = self.living().filter(|instance| instance.zone == zone && instance.lifecycle == Lifecycle::Spot);
        let ids: Vec<_> = here.map(|instance| instance.id.clone()).collect();
        ids.iter().filter(|id| self.reclaim(id)).count()
    }

    /// Its user, or another tool, terminates it.
    pub fn user_terminates(&mut self, id: &str) -> bool {
        let Some(&slot) = self.by_id.get(id) else { return false };
        self.terminate_by(slot, EndedBy::User)
    }

    /// Somebody terminates it; whether that changed anything.
    pub(crate) fn terminate_by(&mut self, slot: usize, by: EndedBy) -> bool {
        if self.instances[slot].state.is_end() {
            return false;
        }
        self.say_of(slot, "instance-terminated-by-user");
        let prose = user_initiated(self.now);
        self.end(slot, by, "Client.UserInitiatedShutdown", prose);
        true
    }

    /// Its user stops it: only on-demand instances and those with a persistent request can be.
    pub fn user_stops(&mut self, id: &str) -> bool {
        let slot = self.living_slot(id, |_| true).filter(|&slot| self.may_be_stopped(slot));
        let Some(slot) = slot else { return false };
        let prose = user_initiated(self.now);
        self.stop(slot, "Client.UserInitiatedShutdown", prose);
        true
    }

    pub(crate) fn may_be_stopped(&self, slot: usize) -> bool {
        self.instances[slot].lifecycle == Lifecycle::OnDemand
            || self.request_place(slot).is_some_and(|place| self.requests[place].launches_again())
    }

    /// It shuts down from inside: it is stopped or terminated, as its shutdown behavior says.
    pub fn shuts_down_inside(&mut self, id: &str) -> bool {
        let Some(slot) = self.living_slot(id, |_| true) else { return false };
        let prose = String::new();
        if self.instances[slot].facts.shutdown_behavior == "stop" && self.may_be_stopped(slot) {
            self.stop(slot, "Client.InstanceInitiatedShutdown", prose);
        } else {
            self.say_of(slot, "instance-terminated-by-user");
            self.end(slot, EndedBy::Inside, "Client.InstanceInitiatedShutdown", prose);
        }
        true
    }

    /// It cannot be terminated by the API, or can again.
    pub fn set_protected(&mut self, id: &str, is_protected: bool) -> bool {
        self.instance_mut(id).map(|instance| instance.facts.protected = is_protected).is_some()
    }

    /// It cannot be stopped by the API, or can again.
    pub fn set_stop_protected(&mut self, id: &str, is_protected: bool) -> bool {
        self.instance_mut(id).map(|instance| instance.facts.stop_protected = is_protected).is_some()
    }

    /// Its row is gone from now on.
    pub fn unlist(&mut self, id: &str) -> bool {
        let now = self.now;
        let is_there = self.instance_mut(id).map(|instance| instance.row_gone_ms = Some(now)).is_some();
        self.note_targets();
        is_there
    }

    fn living_slot(&self, id: &str, fits: impl Fn(&Instance) -> bool) -> Option<usize> {
        let slot = *self.by_id.get(id)?;
        let instance = &self.instances[slot];
        (matches!(instance.state, State::Pending | State::Running) && fits(instance)).then_some(slot)
    }
}
