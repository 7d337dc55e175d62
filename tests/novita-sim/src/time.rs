//! What time and commands do to instances and jobs: every transition of the world is here.

use crate::api::{Call, Trick};
use crate::machine::{Fate, JobRow, Machine};
use crate::settings::AfterReclaim;
use crate::world::{Slot, World};

/// Something that is going to happen. One with an epoch does not, if a newer command came in between.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Status {
        slot: usize,
        epoch: u32,
        status: &'static str,
    },
    Gone {
        slot: usize,
        epoch: u32,
    },
    Notice {
        slot: usize,
        epoch: u32,
    },
    Reclaim {
        slot: usize,
        epoch: u32,
    },
    /// An announced reclaim may be withdrawn.
    Reconsider {
        slot: usize,
        epoch: u32,
    },
    /// The room of a market changes.
    Room {
        market: usize,
    },
    /// It is known by now how the room of a market will change.
    Foretell {
        market: usize,
    },
    Job {
        job: usize,
        slot: usize,
        epoch: u32,
        ends: JobEnd,
    },
    /// From now on listings show the instance.
    Show {
        slot: usize,
    },
    /// From now on listings show the job.
    ShowJob {
        job: usize,
    },
    /// Listings show the instance as it is, and not as it was.
    Refresh {
        slot: usize,
    },
    /// A call that was stuck on its way.
    Late(Box<Call>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// Not yet: it begins to work, and ends so much later (if ever).
    Works(i64, Option<Ending>),
    Ends(Ending),
}

/// How a migration ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Running,
    Exited,
    FailedStuck,
    FailedBack,
}

impl World {
    /// A new instance: GET knows it, listings show it later, and its creation goes on step by step.
    pub(crate) fn create(&mut self, machine: Machine) {
        let slot = self.insert(machine);
        let step = self.rules.create_step_ms;
        self.schedule(self.now + self.rules.visible_after_ms, Event::Show { slot });
        let stuck = self.rng.f64() < self.rules.stuck_creates;
        let exits = self.rng.f64() < self.rules.exit_after_create;
        let steps: &[&'static str] = match (stuck, exits) {
            (true, _) => &["creating"],
            (false, true) => &["creating", "pulling", "exited"],
            (false, false) => &["creating", "pulling", "running"],
        };
        self.walk(slot, 0, step, steps);
    }

    pub(crate) fn change(&mut self, slot: usize, change: impl FnOnce(&mut Machine)) {
        if self.rules.stale_rows {
            self.row(slot);
            self.schedule(self.now + self.rules.visible_after_ms, Event::Refresh { slot });
        }
        let now = self.now;
        if let Some(Some(Slot { machine, row, .. })) = self.slots.get_mut(slot) {
            change(machine);
            if machine.status == "running" && machine.first_ran_at == 0 {
                machine.first_ran_at = now;
            }
            if !self.rules.stale_rows {
                *row = None;
            }
        }
        self.touched(slot);
    }

    /// A new command for the instance: what was under way by an older one does not happen any more.
    pub(crate) fn command(&mut self, slot: usize) -> u32 {
        self.slots.get_mut(slot).and_then(Option::as_mut).map_or(0, |slot| {
            slot.epoch += 1;
            slot.epoch
        })
    }

    pub(crate) fn reclaim_command(&mut self, slot: usize) -> u32 {
        self.slots.get_mut(slot).and_then(Option::as_mut).map_or(0, |slot| {
            slot.reclaim_epoch += 1;
            slot.reclaim_epoch
        })
    }

    /// Sets the first status now, and the others one step after the other.
    pub(crate) fn begin(&mut self, slot: usize, first: &'static str, then: &[&'static str]) {
        let (epoch, step) = (self.command(slot), self.rules.action_step_ms);
        self.happen(Event::Status { slot, epoch, status: first });
        self.walk(slot, epoch, step, then);
    }

    fn walk(&mut self, slot: usize, epoch: u32, step: i64, statuses: &[&'static str]) {
        let mut at = self.now;
        for status in statuses {
            at += step;
            self.schedule(at, Event::Status { slot, epoch, status });
        }
    }

    /// The instance goes, by and by.
    pub(crate) fn remove(&mut self, slot: usize) {
        self.begin(slot, "toRemove", &["removing", "removed"]);
        let epoch = self.slots.get(slot).and_then(Option::as_ref).map_or(0, |slot| slot.epoch);
        self.reclaim_command(slot);
        self.schedule(self.now + 3 * self.rules.action_step_ms, Event::Gone { slot, epoch });
        let id = self.machine_at(slot).map(|machine| machine.id.clone()).unwrap_or_default();
        for job in self.jobs.iter_mut().filter(|job| job.instance_id == id && job.is_unfinished()) {
            job.state = "break".into();
        }
    }

    /// An accepted migration: answers the job's id.
    pub(crate) fn migrate(&mut self, slot: usize) -> String {
        let machine = self.machine_at(slot);
        let was_exited = machine.is_some_and(|machine| machine.status == "exited");
        let (fate, instance_id) = machine.map(|machine| (machine.fate, machine.id.clone())).unwrap_or_default();
        let fails = self.rng.f64() < self.rules.fail_migrations;
        let back = self.rng.f64() < self.rules.fail_back_to_exited;
        let ending = match fate {
            Fate::FailsStuck => Some(Ending::FailedStuck),
            Fate::FailsBack => Some(Ending::FailedBack),
            Fate::NeverEnds => None,
            Fate::Seeded if fails => Some(if back { Ending::FailedBack } else { Ending::FailedStuck }),
            Fate::Succeeds | Fate::Seeded | Fate::NoStock => {
                let exits = was_exited && self.rules.migrate_keeps_exited;
                Some(if exits { Ending::Exited } else { Ending::Running })
            }
        };
        let epoch = self.command(slot);
        self.reclaim_command(slot);
        self.change(slot, |machine| {
            machine.status = "migrating".into();
            machine.node_taken = false;
        });
        let (now, quirks) = (self.now, self.machine_at(slot).map_or(0, |machine| machine.quirks));
        let job = self.jobs.len();
        let visible_at = now + self.rules.visible_after_ms;
        let id = self.add_job(JobRow { visible_at, quirks, ..JobRow::migration(&instance_id, "pulling", now) });
        let ends = JobEnd::Works(self.rules.migrate_running_ms, ending);
        self.schedule(now + self.rules.migrate_pulling_ms, Event::Job { job, slot, epoch, ends });
        id
    }

    pub(crate) fn schedule(&mut self, at: i64, event: Event) {
        self.events += 1;
        self.timeline.insert((at, self.events), event);
    }

    fn is_current(&self, slot: usize, epoch: u32) -> bool {
        matches!(self.slots.get(slot), Some(Some(slot)) if slot.epoch == epoch)
    }

    fn is_reclaimable(&self, slot: usize, epoch: u32) -> bool {
        matches!(self.slots.get(slot), Some(Some(slot)) if slot.reclaim_epoch == epoch)
    }

    pub(crate) fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Status { slot, epoch, status } if self.is_current(slot, epoch) => {
                self.change(slot, |machine| {
                    machine.status = status.into();
                    match status {
                        "running" => machine.last_started_at = now,
                        "exited" => machine.last_stopped_at = now,
                        _ => {}
                    }
                });
                if status == "running" {
                    self.came_up(slot);
                }
            }
            Event::Gone { slot, epoch } if self.is_current(slot, epoch) => self.bury(slot),
            Event::Notice { slot, epoch } if self.is_reclaimable(slot, epoch) => {
                self.announce(slot, now + self.rules.notice_ms);
            }
            Event::Reconsider { slot, epoch } if self.is_reclaimable(slot, epoch) => self.reconsider(slot, epoch),
            Event::Room { market } => self.room_changes(market),
            Event::Foretell { market } => self.review(market),
            Event::Reclaim { slot, epoch } if self.is_reclaimable(slot, epoch) => self.take_away(slot),
            Event::Job { job, slot, epoch, ends } => self.go_on(job, slot, epoch, ends),
            Event::Show { slot } if self.machine_at(slot).is_some() => self.shown.push(slot),
            Event::ShowJob { job } => {
                let order = self.jobs.get(job).map_or(0, |job| arbitrary(&job.id));
                let place = self.shown_jobs.partition_point(|shown| *shown < (order, job));
                self.shown_jobs.insert(place, (order, job));
            }
            Event::Refresh { slot } => {
                if let Some(Some(slot)) = self.slots.get_mut(slot) {
                    slot.row = None;
                }
            }
            Event::Late(call) => {
                self.perform(&call, Trick::None);
            }
            Event::Status { .. }
            | Event::Gone { .. }
            | Event::Notice { .. }
            | Event::Reclaim { .. }
            | Event::Reconsider { .. }
            | Event::Show { .. } => {}
        }
    }

    fn take_away(&mut self, slot: usize) {
        let kept = match self.rules.after_reclaim {
            AfterReclaim::Cleared => false,
            AfterReclaim::Kept => true,
            AfterReclaim::Seeded => self.rng.bool(),
        };
        let (taken, now) = (self.rng.f64() < self.rules.node_taken, self.now);
        let epoch = self.command(slot);
        self.change(slot, |machine| {
            if machine.status != "exited" {
                machine.last_stopped_at = now;
            }
            machine.status = "exited".into();
            machine.node_taken = taken;
            if kept {
                machine.spot_status = "terminated".into();
            } else {
                machine.spot_status.clear();
                machine.spot_reclaim_at = 0;
            }
        });
        if let Some(after) = self.rules.released_after_ms {
            self.schedule(now + after, Event::Gone { slot, epoch });
        }
    }

    fn go_on(&mut self, number: usize, slot: usize, epoch: u32, ends: JobEnd) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(number).filter(|job| job.is_unfinished()) else { return };
        let ending = match ends {
            JobEnd::Works(after, ending) => {
                job.state = "running".into();
                if let Some(ending) = ending {
                    let ends = JobEnd::Ends(ending);
                    self.schedule(now + after, Event::Job { job: number, slot, epoch, ends });
                }
                return;
            }
            JobEnd::Ends(ending) => ending,
        };
        match ending {
            Ending::Running | Ending::Exited => job.state = "success".into(),
            Ending::FailedStuck | Ending::FailedBack => job.fail(),
        }
        if !self.is_current(slot, epoch) {
            return;
        }
        self.change(slot, |machine| match ending {
            Ending::Running | Ending::Exited => {
                machine.spot_status.clear();
                machine.spot_reclaim_at = 0;
                machine.status = if ending == Ending::Running { "running".into() } else { "exited".into() };
                if ending == Ending::Running {
                    machine.last_started_at = now;
                }
            }
            Ending::FailedBack => machine.status = "exited".into(),
            Ending::FailedStuck => {}
        });
        if ending == Ending::Running {
            self.came_up(slot);
        }
    }
}

/// A number that has nothing to do with the order in which ids are made (FNV-1a).
fn arbitrary(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
