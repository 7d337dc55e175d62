//! What time does to the world.

use crate::machine::{Behavior, EndedBy, Instance, State};
use crate::spot::RequestState;
use crate::world::World;

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// It runs, or dies at its launch.
    Boot { slot: usize, epoch: u32 },
    /// The notice of an interruption is over.
    NoticeOver { slot: usize, noticed: i64 },
    /// It is terminated.
    Terminated { slot: usize, epoch: u32 },
    /// It is stopped.
    Stopped { slot: usize, epoch: u32 },
    /// A spot request closes.
    Close { request: usize, epoch: u32 },
    /// A persistent spot request launches, or starts, its instance again.
    Fulfill { request: usize, epoch: u32 },
    /// A target becomes healthy, or is gone.
    Targets,
}

impl World {
    /// Lets time pass, and everything happen that is due until then.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
        while let Some(next) = self.timeline.first_entry() {
            let at = next.key().0;
            if at > until {
                break;
            }
            let event = next.remove();
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = until;
        self.note_targets();
    }

    /// Moves the world to another time of the calendar; nothing happens by it.
    pub fn starts_at(&mut self, now_ms: i64) {
        let by = now_ms - self.now;
        self.now = now_ms;
        let timeline = std::mem::take(&mut self.timeline);
        self.timeline = timeline.into_iter().map(|((at, number), event)| ((at + by, number), event)).collect();
        for region in &mut self.regions {
            region.shift(by);
        }
        for instance in &mut self.instances {
            instance.shift(by);
        }
        for request in &mut self.requests {
            for at in [&mut request.updated_ms, &mut request.created_ms, &mut request.visible_ms] {
                *at += by;
            }
            request.gone_ms = request.gone_ms.map(|at| at + by);
        }
        for volume in self.volumes.values_mut() {
            volume.created_ms += by;
        }
        for entry in &mut self.log {
            entry.at_ms += by;
        }
        for listing in self.listings.values_mut() {
            listing.made_ms += by;
        }
        self.shift_targets(by);
        self.buckets.forget();
        self.keys.shift(by);
        for event in self.timeline.values_mut() {
            if let Event::NoticeOver { noticed, .. } = event {
                *noticed += by;
            }
        }
    }

    pub(crate) fn plan_at(&mut self, at: i64, event: Event) {
        self.planned += 1;
        self.timeline.insert((at, self.planned), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot { slot, epoch } if self.is_current(slot, epoch) => self.boot(slot),
            Event::NoticeOver { slot, noticed } if self.instances[slot].noticed_ms == Some(noticed) => {
                self.interrupt(slot);
            }
            Event::Terminated { slot, epoch } if self.is_current(slot, epoch) => self.terminated(slot),
            Event::Stopped { slot, epoch } if self.is_current(slot, epoch) => self.stopped(slot),
            Event::Close { request, epoch } if self.requests[request].epoch == epoch => {
                self.requests[request].state = RequestState::Closed;
                self.requests[request].gone_ms = Some(self.now + self.rules.request_life_ms);
            }
            Event::Fulfill { request, epoch } if self.requests[request].epoch == epoch => self.fulfill(request),
            Event::Targets => self.note_targets(),
            _ => {}
        }
    }

    fn is_current(&self, slot: usize, epoch: u32) -> bool {
        self.instances[slot].epoch == epoch
    }

    fn boot(&mut self, slot: usize) {
        let now = self.now;
        let Some(code) = self.instances[slot].dies_with.clone() else {
            let instance = &mut self.instances[slot];
            instance.state = State::Running;
            instance.history.runs(now);
            instance.state_reason = None;
            instance.transition_reason.clear();
            self.expect_health(slot);
            self.note_targets();
            return;
        };
        let instance = &mut self.instances[slot];
        instance.epoch += 1;
        instance.ended_ms = Some(now);
        instance.ended_by = Some(EndedBy::LaunchFailure);
        instance.state_reason = Some(reason(&code));
        let status = if code.starts_with("Server.") { "system-error" } else { "bad-parameters" };
        self.give_addresses_back(slot);
        let failed = self.rng.bool();
        if let Some(place) = self.request_place(slot) {
            let request = &mut self.requests[place];
            request.say(status, now);
            request.state = if failed { RequestState::Failed } else { RequestState::Closed };
            request.gone_ms = Some(now + self.rules.request_life_ms);
            request.epoch += 1;
        }
        self.terminated(slot);
    }

    /// The interruption itself: the notice is over, or there was none.
    pub(crate) fn interrupt(&mut self, slot: usize) {
        let now = self.now;
        let place = self.request_place(slot);
        let behavior = place.map_or(Behavior::Terminate, |place| {
            let request = &self.requests[place];
            if request.launches_again() { request.behavior } else { Behavior::Terminate }
        });
        let prose = if self.rng.bool() { service_initiated(now) } else { String::new() };
        if behavior == Behavior::Terminate {
            self.say_of(slot, "instance-terminated-no-capacity");
            self.end(slot, EndedBy::Reclaim, "Server.SpotInstanceTermination", prose);
        } else {
            self.say_of(slot, "marked-for-stop");
            self.stop(slot, "Server.SpotInstanceShutdown", prose);
        }
    }

    /// Begins to end an instance.
    pub(crate) fn end(&mut self, slot: usize, by: EndedBy, code: &str, prose: String) {
        let told_now = by != EndedBy::Reclaim || self.rules.state_reason_at_shutting_down;
        let instance = &mut self.instances[slot];
        instance.epoch += 1;
        instance.noticed_ms = None;
        instance.state = State::ShuttingDown;
        instance.history.ends(self.now);
        instance.ended_ms = Some(self.now);
        instance.ended_by = Some(by);
        instance.state_reason = told_now.then(|| reason(code));
        instance.transition_reason = prose;
        let epoch = instance.epoch;
        self.give_addresses_back(slot);
        self.plan_at(self.now + self.rules.stop_ms, Event::Terminated { slot, epoch });
        self.note_targets();
    }

    fn give_addresses_back(&mut self, slot: usize) {
        for interface in &self.instances[slot].interfaces {
            let mut zones = self.regions.iter_mut().flat_map(|region| region.zones.iter_mut());
            if let Some(zone) = zones.find(|zone| zone.subnet == interface.subnet) {
                zone.free_addresses += 1;
            }
        }
    }

    fn terminated(&mut self, slot: usize) {
        let now = self.now;
        let life = self.rng.i64(self.rules.row_life_ms.clone());
        let instance = &mut self.instances[slot];
        instance.state = State::Terminated;
        instance.history.ends(now);
        instance.terminated_ms = Some(now);
        instance.row_gone_ms = Some(now + life);
        if instance.ended_by == Some(EndedBy::Reclaim) {
            instance.state_reason = Some(reason("Server.SpotInstanceTermination"));
        }
        let keys: Vec<_> = instance.tags.keys().cloned().collect();
        for key in keys {
            let gone = now + self.rng.i64(0..=life);
            let from = instance.tag_times.get(&key).map_or(i64::MIN, |&(from, _)| from);
            instance.tag_times.insert(key, (from, gone));
        }
        for disk in &instance.disks {
            if let Some(volume) = self.volumes.get_mut(&disk.volume) {
                volume.attached_to = None;
                volume.is_deleted |= disk.delete_on_termination;
            }
        }
        self.plan_at(now + life, Event::Targets);
        self.note_targets();
        self.settle_request(slot);
    }

    /// What the end of an instance means for its request: a one-time one closes, a persistent one begins again.
    fn settle_request(&mut self, slot: usize) {
        let Some(place) = self.request_place(slot) else { return };
        let now = self.now;
        let request = &mut self.requests[place];
        request.epoch += 1;
        let epoch = request.epoch;
        match request.state {
            RequestState::Closed | RequestState::Failed => {}
            RequestState::Cancelled => request.gone_ms = Some(now + self.rules.request_life_ms),
            RequestState::Open | RequestState::Active | RequestState::Disabled if request.persistent => {
                request.state = RequestState::Open;
                self.plan_at(now + self.rules.relaunch_after_ms, Event::Fulfill { request: place, epoch });
            }
            RequestState::Open | RequestState::Active | RequestState::Disabled => {
                self.plan_at(now + self.rules.request_close_ms, Event::Close { request: place, epoch });
            }
        }
    }

    /// Begins to stop an instance.
    pub(crate) fn stop(&mut self, slot: usize, code: &str, prose: String) {
        let instance = &mut self.instances[slot];
        instance.epoch += 1;
        instance.noticed_ms = None;
        instance.state = State::Stopping;
        instance.history.ends(self.now);
        instance.state_reason = Some(reason(code));
        instance.transition_reason = prose;
        let epoch = instance.epoch;
        self.plan_at(self.now + self.rules.stop_ms, Event::Stopped { slot, epoch });
        self.note_targets();
    }

    fn stopped(&mut self, slot: usize) {
        let now = self.now;
        self.instances[slot].state = State::Stopped;
        for interface in &mut self.instances[slot].interfaces {
            interface.public_address = None;
        }
        let Some(place) = self.request_place(slot) else { return };
        let by_ec2 = self.instances[slot].state_reason.as_ref().is_some_and(|(code, _)| code.starts_with("Server."));
        let request = &mut self.requests[place];
        if request.state == RequestState::Cancelled {
            return;
        }
        request.epoch += 1;
        request.state = RequestState::Disabled;
        request.say(if by_ec2 { "instance-stopped-no-capacity" } else { "instance-stopped-by-user" }, now);
        let epoch = request.epoch;
        if by_ec2 {
            self.plan_at(now + self.rules.relaunch_after_ms, Event::Fulfill { request: place, epoch });
        }
    }

    /// A persistent request launches a new instance, without tags, or starts the one that EC2 stopped, if there is room.
    fn fulfill(&mut self, place: usize) {
        let now = self.now;
        let request = &self.requests[place];
        let is_stopped = request.state == RequestState::Disabled;
        if !is_stopped && request.state != RequestState::Open {
            return;
        }
        let (plan, id) = (request.plan.clone(), request.id.clone());
        let Some(region) = self.regions.iter().position(|region| region.name == request.region) else { return };
        if !self.regions[region].take_room(plan.market.lifecycle(), &plan.kind, &plan.zone) {
            if !is_stopped {
                self.requests[place].say("capacity-not-available", now);
            }
            return;
        }
        if is_stopped {
            let instance = self.requests[place].instance.clone();
            if let Some(slot) = instance.and_then(|id| self.by_id.get(&id).copied()) {
                self.start(slot);
            }
        } else {
            let reservation = self.fresh("r");
            let slot = self.place(region, plan, now, reservation, Some(&id));
            self.requests[place].instance = Some(self.instances[slot].id.clone());
        }
        let request = &mut self.requests[place];
        request.epoch += 1;
        request.state = RequestState::Active;
        request.say("fulfilled", now);
    }

    /// Starts a stopped instance.
    pub(crate) fn start(&mut self, slot: usize) {
        let now = self.now;
        for place in 0..self.instances[slot].interfaces.len() {
            let address = self.fresh_public_address();
            let interface = &mut self.instances[slot].interfaces[place];
            interface.public_address = interface.public_at_start.then_some(address);
        }
        let instance = &mut self.instances[slot];
        instance.epoch += 1;
        instance.state = State::Pending;
        instance.started_ms = now;
        instance.history.starts(now);
        instance.state_reason = None;
        instance.transition_reason.clear();
        let epoch = instance.epoch;
        self.plan_at(now + self.rules.boot_ms, Event::Boot { slot, epoch });
        self.note_targets();
    }

    /// There is room again: requests of this pool that wait try again.
    pub(crate) fn wake_requests(&mut self, kind: &str, zone: &str) {
        for place in 0..self.requests.len() {
            let request = &mut self.requests[place];
            let is_waiting = match request.state {
                RequestState::Open => request.code == "capacity-not-available",
                RequestState::Disabled => request.code == "instance-stopped-no-capacity",
                _ => false,
            };
            if is_waiting && request.kind() == kind && request.zone() == zone {
                request.epoch += 1;
                let epoch = request.epoch;
                self.plan_at(self.now + 1_000, Event::Fulfill { request: place, epoch });
            }
        }
    }

    /// The place of an instance's spot request.
    pub(crate) fn request_place(&self, slot: usize) -> Option<usize> {
        let place = *self.requests_by_id.get(self.instances[slot].request.as_ref()?)?;
        // A persistent request has moved on to its next instance.
        (self.requests[place].instance.as_ref() == Some(&self.instances[slot].id)).then_some(place)
    }

    /// Sets the status of an instance's request, unless the request was cancelled.
    pub(crate) fn say_of(&mut self, slot: usize, code: &str) {
        let now = self.now;
        if let Some(place) = self.request_place(slot) {
            let request = &mut self.requests[place];
            if request.state != RequestState::Cancelled && request.code != code {
                request.say(code, now);
            }
        }
    }
}

impl Instance {
    fn shift(&mut self, by: i64) {
        for at in [&mut self.launched_ms, &mut self.started_ms, &mut self.visible_ms] {
            *at += by;
        }
        for at in [&mut self.ended_ms, &mut self.terminated_ms, &mut self.noticed_ms, &mut self.row_gone_ms] {
            *at = at.map(|at| at + by);
        }
        for (from, to) in self.tag_times.values_mut() {
            *from = from.saturating_add(by);
            *to = to.saturating_add(by);
        }
        for disk in &mut self.disks {
            disk.attached_ms += by;
        }
        for interface in &mut self.interfaces {
            interface.attached_ms += by;
        }
        self.history.shift(by);
    }
}

fn service_initiated(now: i64) -> String {
    format!("Service initiated ({} GMT)", crate::xml::day_and_time(now))
}

/// The prose about what a user did.
pub(crate) fn user_initiated(now: i64) -> String {
    format!("User initiated ({} GMT)", crate::xml::day_and_time(now))
}

/// A code with the message that goes with it.
pub(crate) fn reason(code: &str) -> (String, String) {
    let sentence = match code {
        "Server.SpotInstanceTermination" => "Instance terminated due to a Spot Instance interruption",
        "Server.SpotInstanceShutdown" => "Instance stopped due to a Spot Instance interruption",
        "Server.InsufficientInstanceCapacity" => "Insufficient capacity to satisfy instance request",
        "Server.InternalError" => "Internal error on launch",
        "Client.InternalError" => "Client error on launch",
        "Client.UserInitiatedShutdown" => "User initiated shutdown",
        "Client.UserInitiatedHibernate" => "User initiated hibernate",
        "Client.InstanceInitiatedShutdown" => "Instance initiated shutdown",
        "Client.VolumeLimitExceeded" => "Volume limit exceeded",
        "Client.InvalidSnapshot.NotFound" => "The snapshot does not exist",
        _ => "Unknown reason",
    };
    (code.to_owned(), format!("{code}: {sentence}"))
}
