//! TerminateInstances, StopInstances, StartInstances and CancelSpotInstanceRequests.

use crate::catalog::Kind;
use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::machine::{EndedBy, Instance, Lifecycle, State};
use crate::reads::write_state;
use crate::run::{no_room, over_quota};
use crate::spot::RequestState;
use crate::time::user_initiated;
use crate::world::World;
use crate::xml::Xml;

/// The instances of a call with the states they were in.
type Changes = Vec<(usize, State)>;

impl World {
    pub(crate) fn terminate_instances(&mut self, region: &str, form: &Form) -> Answer<String> {
        let slots = self.named_slots(region, form)?;
        let guarded: Vec<_> = slots.iter().filter(|&&slot| self.instances[slot].facts.protected).copied().collect();
        if form.is_dry_run() && guarded.is_empty() {
            form.unless_dry_run()?;
        }
        let guarded_zones: Vec<_> = guarded.iter().map(|&slot| self.instances[slot].zone.clone()).collect();
        let mut changes = Changes::new();
        for slot in slots {
            let before = self.instances[slot].state;
            if guarded_zones.contains(&self.instances[slot].zone) || form.is_dry_run() {
                continue;
            }
            if self.terminate_by(slot, EndedBy::Api) {
                self.effects += 1;
                self.terminations += 1;
            }
            changes.push((slot, before));
        }
        if let Some(&slot) = guarded.first() {
            let message = format!(
                "The instance '{}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try \
                 again.",
                self.instances[slot].id
            );
            return Err(ApiError::new("OperationNotPermitted", message));
        }
        Ok(self.answer_changes(&changes))
    }

    pub(crate) fn stop_instances(&mut self, region: &str, form: &Form) -> Answer<String> {
        let slots = self.named_slots(region, form)?;
        for &slot in &slots {
            self.check_stop(slot)?;
        }
        form.unless_dry_run()?;
        let code = match form.flag("Hibernate") {
            Some(true) => "Client.UserInitiatedHibernate",
            _ => "Client.UserInitiatedShutdown",
        };
        let mut changes = Changes::new();
        for slot in slots {
            let before = self.instances[slot].state;
            if self.instances[slot].is_living() {
                let prose = user_initiated(self.now);
                self.stop(slot, code, prose);
                self.effects += 1;
            }
            changes.push((slot, before));
        }
        Ok(self.answer_changes(&changes))
    }

    fn check_stop(&self, slot: usize) -> Answer<()> {
        let instance = &self.instances[slot];
        let id = &instance.id;
        if instance.state.is_end() {
            return Err(wrong_state(id, "stopped"));
        }
        if instance.facts.stop_protected {
            let message = format!(
                "The instance '{id}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again."
            );
            return Err(ApiError::new("OperationNotPermitted", message));
        }
        if self.may_be_stopped(slot) {
            return Ok(());
        }
        let is_persistent = self.request_place(slot).is_some_and(|place| self.requests[place].persistent);
        if is_persistent {
            let message = format!("The Spot request of the instance '{id}' was canceled.");
            return Err(ApiError::new("IncorrectSpotRequestState", message));
        }
        let message = format!(
            "You can't stop the Spot Instance '{id}' because it is associated with a one-time Spot Instance request. You \
             can only stop Spot Instances associated with persistent Spot Instance requests."
        );
        Err(ApiError::new("UnsupportedOperation", message))
    }

    pub(crate) fn start_instances(&mut self, region: &str, form: &Form) -> Answer<String> {
        let slots = self.named_slots(region, form)?;
        for &slot in &slots {
            self.check_start(slot)?;
        }
        form.unless_dry_run()?;
        self.check_means(region, &slots)?;
        let mut changes = Changes::new();
        for slot in slots {
            let before = self.instances[slot].state;
            changes.push((slot, before));
            if before != State::Stopped {
                continue;
            }
            let instance = &self.instances[slot];
            let (market, kind, zone) = (instance.lifecycle, instance.kind.clone(), instance.zone.clone());
            let place = self.region_place(region);
            self.regions[place].take_room(market, &kind, &zone);
            self.start(slot);
            self.effects += 1;
            let now = self.now;
            if let Some(place) = self.request_place(slot) {
                self.requests[place].state = RequestState::Active;
                self.requests[place].say("fulfilled", now);
            }
        }
        Ok(self.answer_changes(&changes))
    }

    /// Whether there are quota and room to start all that are stopped: a stopped instance has neither.
    fn check_means(&self, region: &str, slots: &[usize]) -> Answer<()> {
        let place = self.region_place(region);
        let region = &self.regions[place];
        let stopped = || slots.iter().map(|&slot| &self.instances[slot]).filter(|it| it.state == State::Stopped);
        for instance in stopped() {
            let market = instance.lifecycle;
            let Some(kind) = Kind::named(&instance.kind) else { continue };
            let alike = stopped().filter(|other| other.lifecycle == market);
            let kinds = alike.filter_map(|other| Kind::named(&other.kind)).filter(|other| other.group == kind.group);
            let wanted: u32 = kinds.map(|kind| kind.vcpus).sum();
            let quota = region.quota(market, kind.group);
            if self.vcpus_taken(&region.name, market, kind.group).saturating_add(wanted) > quota {
                return Err(over_quota(market, quota));
            }
            let pool = |it: &Instance| (it.lifecycle, it.kind.clone(), it.zone.clone());
            let wanted = stopped().filter(|other| pool(other) == pool(instance)).count();
            let room = region.room(market, &instance.kind, &instance.zone);
            if room.is_some_and(|room| usize::try_from(room).is_ok_and(|room| room < wanted)) {
                return Err(no_room(market, &instance.kind, &instance.zone));
            }
        }
        Ok(())
    }

    fn check_start(&self, slot: usize) -> Answer<()> {
        let instance = &self.instances[slot];
        let id = &instance.id;
        if !matches!(instance.state, State::Stopped | State::Pending | State::Running) {
            return Err(wrong_state(id, "started"));
        }
        if instance.state == State::Stopped && instance.lifecycle == Lifecycle::Spot {
            let request = self.request_place(slot).map(|place| &self.requests[place]);
            if request.is_none_or(|request| request.code != "instance-stopped-by-user") {
                let message = format!(
                    "The Spot request of the instance '{id}' is not in a state in which you can start it: only Amazon EC2 \
                     can restart an interrupted instance."
                );
                return Err(ApiError::new("IncorrectSpotRequestState", message));
            }
        }
        Ok(())
    }

    pub(crate) fn cancel_spot_instance_requests(&mut self, region: &str, form: &Form) -> Answer<String> {
        let ids = form.list("SpotInstanceRequestId");
        if ids.is_empty() {
            return Err(ApiError::missing("spotInstanceRequestIdSet"));
        }
        let places = self.shown_requests(region, &ids)?;
        form.unless_dry_run()?;
        for &place in &places {
            self.cancel(place);
        }
        let mut xml = Xml::new();
        xml.set("spotInstanceRequestSet", &places, |xml, &place| {
            let request = &self.requests[place];
            xml.text("spotInstanceRequestId", &request.id);
            // The answer of this action has no word for a failed request.
            let state = if request.state == RequestState::Failed { "closed" } else { request.state.name() };
            xml.text("state", state);
        });
        Ok(xml.into_text())
    }

    /// Cancels a request: the instance of an active one runs on, that of a disabled one is terminated.
    fn cancel(&mut self, place: usize) {
        let now = self.now;
        let request = &mut self.requests[place];
        let before = request.state;
        if matches!(before, RequestState::Closed | RequestState::Cancelled | RequestState::Failed) {
            return;
        }
        let slot = request.instance.as_ref().and_then(|id| self.by_id.get(id).copied());
        let lives = slot.is_some_and(|slot| self.instances[slot].state != State::Terminated);
        request.epoch += 1;
        request.state = RequestState::Cancelled;
        self.effects += 1;
        match before {
            RequestState::Open => request.say("canceled-before-fulfillment", now),
            RequestState::Active if slot.is_some_and(|slot| self.instances[slot].is_living()) => {
                request.say("request-canceled-and-instance-running", now);
            }
            RequestState::Disabled => request.say("instance-terminated-by-user", now),
            RequestState::Active | RequestState::Closed | RequestState::Cancelled | RequestState::Failed => {}
        }
        if !lives {
            request.gone_ms = Some(now + self.rules.request_life_ms);
        }
        if before == RequestState::Disabled
            && let Some(slot) = slot
            && self.terminate_by(slot, EndedBy::Api)
        {
            self.terminations += 1;
        }
    }

    /// The instances that a call names: all must be there.
    fn named_slots(&self, region: &str, form: &Form) -> Answer<Vec<usize>> {
        let ids = form.list("InstanceId");
        if ids.is_empty() {
            return Err(ApiError::missing("instanceIdSet"));
        }
        let mut slots = self.shown_slots(region, &ids)?;
        slots.sort_unstable();
        slots.dedup();
        Ok(slots)
    }

    fn answer_changes(&self, changes: &[(usize, State)]) -> String {
        let mut xml = Xml::new();
        xml.set("instancesSet", changes, |xml, (slot, before)| {
            let instance = &self.instances[*slot];
            xml.text("instanceId", &instance.id);
            write_state(xml, "currentState", instance.state);
            write_state(xml, "previousState", *before);
        });
        xml.into_text()
    }
}

fn wrong_state(id: &str, wanted: &str) -> ApiError {
    let message = format!("The instance '{id}' is not in a state from which it can be {wanted}.");
    ApiError::new("IncorrectInstanceState", message)
}
