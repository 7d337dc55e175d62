//! The life of one instance: everything the memory knows of it and of those that took its place, in order.
//!
//! An instance that is recreated gets a new id and a new name. A query for any of them returns the history of all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::core::pass::ledger::{Call, Ledger};
use crate::core::pass::plan::Plan;
use crate::core::pass::settle::CallEnd;
use crate::core::pass::verdict::Decision;
use crate::core::record::execution::{Action, Attempt, Outcome, Recorded};
use crate::core::record::news::lost;
use crate::core::record::trail::{ProviderWrite, Seen, Sighting, WriteCall, WriteOutcome};
use crate::core::recreation::journal::{Cause, Recreation, Step};
use crate::core::recreation::marker::Origin;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::InstanceId;
use crate::core::world::snapshot::{Snapshot, find};
use crate::core::world::time::Timestamp;

/// What is known of an instance and of those that took its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The instances, each followed by what replaced it.
    pub ids: Vec<InstanceId>,
    /// Their names, as far as they are known.
    pub names: BTreeMap<InstanceId, String>,
    /// The successor of each that has one.
    pub replaced_by: BTreeMap<InstanceId, InstanceId>,
    /// What happened, oldest first.
    pub events: Vec<LifeEvent>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LifeEvent {
    /// When; of several alike, the first.
    pub at: Timestamp,
    /// When the last of several alike happened.
    pub last_at: Option<Timestamp>,
    /// How often, one time after the other.
    pub times: u32,
    /// The pass, if it is known.
    pub job_id: Option<String>,
    pub dry_run: bool,
    pub instance_id: InstanceId,
    pub instance_name: String,
    pub event: EventKind,
    /// How it ended, if it was done by a pass.
    pub outcome: Option<Conclusion>,
    pub reason: Option<String>,
    /// The class of the error, if there was one.
    pub error_kind: Option<ErrorKind>,
    /// The instance that took its place, if any.
    pub new_instance_id: Option<InstanceId>,
    /// Time to the provider's answer in milliseconds.
    pub response_time: Option<i64>,
}

/// How something that a pass did ended: an action, or one call to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Conclusion {
    Action(Outcome),
    Call(WriteOutcome),
}

impl Conclusion {
    #[must_use]
    pub fn into_str(self) -> &'static str {
        match self {
            Self::Action(outcome) => outcome.into_str(),
            Self::Call(outcome) => outcome.into_str(),
        }
    }

    /// Whether it had the effect that was asked for, or was accepted.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Action(Outcome::Done | Outcome::Accepted) | Self::Call(WriteOutcome::Accepted))
    }

    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Action(Outcome::Failed) | Self::Call(WriteOutcome::Refused))
    }

    fn changed_nothing(self) -> bool {
        self.is_failure() || matches!(self, Self::Action(Outcome::Skipped) | Self::Call(WriteOutcome::NotSent))
    }
}

/// What can happen to an instance. Names are part of the contract: they are added to, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum EventKind {
    /// It was down from then on.
    Down,
    /// A pass saw a reclaim announced.
    ReclaimNotice,
    /// A pass saw that a call in doubt had an effect.
    MigrationConfirmed,
    /// A pass saw that a call in doubt had none.
    CallWithoutEffect,
    /// A pass saw it run again.
    RunningAgain,
    /// A pass saw that its migration failed.
    MigrationFailed,
    /// A pass saw that its migration does not end.
    MigrationStuck,
    /// A pass saw that its migration ended and it does not run.
    NotRunning,
    /// A pass saw that it is gone.
    Vanished,
    /// A pass migrated it, or tried to.
    Migrate,
    /// A pass started to recreate it, or tried to.
    Recreate,
    /// A pass went on with that.
    Resume,
    /// The call that creates its replacement.
    Create,
    Delete,
    /// How its recreation stands, by the journal alone.
    Journal,
    /// It, or what took its place, was up again: the end of a time down.
    UpAgain,
    /// A time down ended without that: it is gone, or not to run any more.
    GivenUp,
}

impl EventKind {
    /// Whether a pass did it, or tried to.
    #[must_use]
    pub fn is_action(self) -> bool {
        matches!(self, Self::Migrate | Self::Recreate | Self::Resume | Self::Create | Self::Delete)
    }
}

impl From<Seen> for EventKind {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::ReclaimNotice => Self::ReclaimNotice,
            Seen::MigrationConfirmed => Self::MigrationConfirmed,
            Seen::CallWithoutEffect => Self::CallWithoutEffect,
            Seen::RunningAgain => Self::RunningAgain,
            Seen::MigrationFailed => Self::MigrationFailed,
            Seen::MigrationStuck => Self::MigrationStuck,
            Seen::NotRunning => Self::NotRunning,
            Seen::Vanished => Self::Vanished,
        }
    }
}

/// What a pass saw happen, to be kept with its record: notices, ends of migrations, what needs a replacement.
///
/// `settles` tells whether the pass stores the ends of earlier calls; one that does not would see them again each time.
#[must_use]
pub fn sightings(snapshot: &Snapshot, plan: &Plan, ledger: &Ledger, settles: bool) -> Vec<Sighting> {
    let mut sightings: Vec<Sighting> = Vec::new();
    let mut saw = |at: Timestamp, id: &InstanceId, name: &str, seen: Seen, detail: String| {
        sightings.push(Sighting { at, instance_id: id.clone(), instance_name: name.into(), seen, detail });
    };
    let listed = |id: &InstanceId| find(&snapshot.instances.items, id);
    for (id, change) in &plan.observations {
        let Some(observed) = change.as_ref().filter(|it| it.first_seen_at == it.last_seen_at) else { continue };
        let name = listed(id).map_or("", |instance| instance.name.as_str());
        saw(observed.first_seen_at, id, name, Seen::ReclaimNotice, observed.notice.to_string());
    }
    let mut told: BTreeSet<&InstanceId> = BTreeSet::new();
    for settlement in plan.settlements.iter().filter(|_| settles) {
        let called = settlement.call.called_at;
        let (seen, detail) = match &settlement.end {
            CallEnd::Confirmed => (Seen::MigrationConfirmed, format!("the migrate call of {called} had an effect")),
            CallEnd::Migrated => (Seen::RunningAgain, format!("after the migrate call of {called}")),
            CallEnd::Failed { job: _, error } => {
                told.insert(&settlement.instance);
                (Seen::MigrationFailed, error.as_deref().unwrap_or("the provider gave no reason").to_owned())
            }
            // Said below, if it has no successor.
            CallEnd::Vanished => continue,
            CallEnd::NoEffect => (Seen::CallWithoutEffect, format!("the migrate call of {called} had no effect")),
            CallEnd::Closed { status } => {
                (Seen::NotRunning, format!("the migrate call of {called} ended, and its status is {status}"))
            }
        };
        saw(snapshot.taken_at, &settlement.instance, &settlement.call.instance_name, seen, detail);
    }
    for (id, name) in lost(snapshot, plan, ledger).into_iter().filter(|_| settles) {
        saw(snapshot.taken_at, id, name, Seen::Vanished, "it is gone, and has no successor".to_owned());
    }
    for decision in &plan.decisions {
        let Decision::Recreate(work) = decision else { continue };
        let Recreation { instance_name, cause, .. } = &work.recreation;
        let (seen, detail) = match cause {
            Cause::JobFailed { .. } if told.contains(&work.instance) => continue,
            Cause::JobFailed { job, error } => {
                let why = error.as_deref().unwrap_or("the provider gave no reason");
                (Seen::MigrationFailed, format!("{why} (job {job})"))
            }
            Cause::Stalled { .. } => (Seen::MigrationStuck, cause.in_words()),
            // That the replacement was found says what is done about it.
            _ => continue,
        };
        saw(snapshot.taken_at, &work.instance, instance_name, seen, detail);
    }
    sightings
}

/// Every write to the provider of these passes, those of the newest pass first.
#[must_use]
pub fn writes(executions: &[Recorded]) -> Vec<LifeEvent> {
    executions.iter().flat_map(|it| it.writes.iter().rev().map(move |write| of_write(it, write))).collect()
}

/// Everything that is known of the instance with this id or name, and of those before and after it. Empty if nothing
/// is. Of several instances with one name it is the life of all.
///
/// `executions` are all there are.
#[must_use]
pub fn life(executions: &[Recorded], ledger: &Ledger, wanted: &str) -> Life {
    let known = Known::new(executions, ledger);
    let ids = known.chain(wanted);
    let members: Members<'_> = ids.iter().copied().collect();
    let mut events: Vec<LifeEvent> = executions
        .iter()
        .rev()
        .flat_map(|recorded| events_of(recorded, &members))
        .chain(of_ledger(executions, ledger, &members))
        .collect();
    // Of one moment, first what was seen, then what was decided, then the calls: the order of the kinds.
    events.sort_by_key(|event| (event.at, event.event));
    Life {
        names: known.names_of(&members),
        replaced_by: known.successors(&members),
        ids: ids.into_iter().cloned().collect(),
        events: without_repetitions(events),
    }
}

/// Who is known by which name, and who took whose place.
#[derive(Default)]
struct Known<'a> {
    /// With each instance its names, the last known one last.
    names: BTreeMap<&'a InstanceId, Vec<&'a str>>,
    /// From the old to the new.
    links: BTreeSet<(&'a InstanceId, &'a InstanceId)>,
    /// What replaced each of them last.
    last: BTreeMap<&'a InstanceId, &'a InstanceId>,
}

impl<'a> Known<'a> {
    fn new(executions: &'a [Recorded], ledger: &'a Ledger) -> Self {
        let mut this = Self::default();
        for Recorded { attempts, writes, sightings, .. } in executions.iter().rev() {
            for Attempt { instance_id, instance_name, new_instance_id, .. } in attempts {
                this.meet(instance_id, instance_name);
                this.link(instance_id, new_instance_id.as_ref());
            }
            for ProviderWrite { instance_id, instance_name, new_instance_id, .. } in writes {
                this.meet(instance_id, instance_name);
                this.link(instance_id, new_instance_id.as_ref());
            }
            for Sighting { instance_id, instance_name, .. } in sightings {
                this.meet(instance_id, instance_name);
            }
        }
        for (id, call) in &ledger.in_flight {
            this.meet(id, &call.instance_name);
        }
        for id in ledger.observations.keys() {
            this.meet(id, "");
        }
        for (old, recreation) in &ledger.recreations {
            this.meet(old, &recreation.instance_name);
            this.link(old, recreation.step.replacement());
            // A replacement that is withdrawn replaces nothing.
            if matches!(recreation.step, Step::Abandoned { .. }) || recreation.step.replacement().is_none() {
                this.last.remove(old);
            }
            if let Some(replacement) = recreation.step.replacement() {
                this.meet(replacement, &recreation.marker);
            }
        }
        // A replacement's name proves what it replaces, also when the record of its creation is gone.
        let origins: BTreeMap<Origin, &InstanceId> = this.names.keys().map(|id| (Origin::of(id), *id)).collect();
        let named = this.names.iter().flat_map(|(id, names)| names.iter().map(move |name| (*id, *name)));
        let proved: Vec<_> =
            named.filter_map(|(id, name)| Some((*origins.get(&Origin::in_name(name)?)?, id))).collect();
        for (old, new) in proved.into_iter().filter(|(old, new)| old != new) {
            this.links.insert((old, new));
            if !ledger.recreations.contains_key(old) {
                this.last.entry(old).or_insert(new);
            }
        }
        this
    }

    fn meet(&mut self, id: &'a InstanceId, name: &'a str) {
        let names = self.names.entry(id).or_default();
        if !name.is_empty() && names.last() != Some(&name) {
            names.push(name);
        }
    }

    fn link(&mut self, old: &'a InstanceId, new: Option<&'a InstanceId>) {
        if let Some(new) = new.filter(|new| *new != old) {
            self.meet(new, "");
            self.links.insert((old, new));
            self.last.insert(old, new);
        }
    }

    /// All instances of the chain to which the wanted one belongs, old before new.
    fn chain(&self, wanted: &str) -> Vec<&'a InstanceId> {
        let is_id = self.names.keys().any(|it| it.as_str() == wanted);
        let is_wanted = |id: &InstanceId, names: &[&str]| match is_id {
            true => id.as_str() == wanted,
            false => names.contains(&wanted) || Origin::in_name(wanted) == Some(Origin::of(id)),
        };
        let mut members: BTreeSet<&InstanceId> =
            self.names.iter().filter(|(id, names)| is_wanted(id, names)).map(|(id, _)| *id).collect();
        loop {
            let linked = self.links.iter().filter(|(old, new)| members.contains(old) != members.contains(new));
            let found: Vec<&InstanceId> = linked.flat_map(|(old, new)| [*old, *new]).collect();
            if found.is_empty() {
                break;
            }
            members.extend(found);
        }
        // Those without a predecessor left come next; a circle, which only damaged records can hold, is ordered by id.
        let mut order: Vec<&InstanceId> = Vec::with_capacity(members.len());
        while !members.is_empty() {
            let waits = |id: &InstanceId| self.links.iter().any(|(old, new)| *new == id && members.contains(old));
            let next = members.iter().find(|id| !waits(id)).or_else(|| members.first()).copied();
            if let Some(next) = next {
                members.remove(next);
                order.push(next);
            }
        }
        order
    }

    fn names_of(&self, members: &BTreeSet<&InstanceId>) -> BTreeMap<InstanceId, String> {
        let last = |id: &InstanceId| self.names.get(id)?.last().map(|name| (*name).to_owned());
        members.iter().filter_map(|id| Some(((*id).clone(), last(id)?))).collect()
    }

    fn successors(&self, members: &BTreeSet<&InstanceId>) -> BTreeMap<InstanceId, InstanceId> {
        let last = self.last.iter().filter(|(old, _)| members.contains(*old));
        last.map(|(old, new)| ((*old).clone(), (*new).clone())).collect()
    }
}

/// The instances whose events are listed. All others are filtered out first: a fleet may have 100 000.
type Members<'a> = BTreeSet<&'a InstanceId>;

/// What one pass did and observed. A migrate call is listed as the attempt that made it.
fn events_of<'a>(recorded: &'a Recorded, members: &'a Members<'a>) -> impl Iterator<Item = LifeEvent> + 'a {
    let sightings = recorded.sightings.iter().filter(|it| members.contains(&it.instance_id));
    let seen = sightings.map(move |sighting| {
        let Sighting { at, instance_id, instance_name, seen, detail } = sighting;
        let event = blank(*at, instance_id, instance_name, (*seen).into());
        with_pass(LifeEvent { reason: Some(detail.clone()), ..event }, recorded)
    });
    let attempts = recorded.attempts.iter().filter(|it| members.contains(&it.instance_id));
    let attempted = attempts.map(move |attempt| of_attempt(recorded, attempt));
    let is_told = |write: &&ProviderWrite| {
        write.call == WriteCall::Migrate
            && recorded.attempts.iter().any(|it| it.action == Action::Migrate && it.instance_id == write.instance_id)
    };
    let writes = recorded.writes.iter().filter(|it| members.contains(&it.instance_id));
    let written = writes.filter(move |write| !is_told(write)).map(|write| of_write(recorded, write));
    seen.chain(attempted).chain(written)
}

fn of_attempt(recorded: &Recorded, attempt: &Attempt) -> LifeEvent {
    let kind = match attempt.action {
        Action::Migrate => EventKind::Migrate,
        Action::Recreate => EventKind::Recreate,
        Action::Resume => EventKind::Resume,
    };
    let event = LifeEvent {
        outcome: Some(Conclusion::Action(attempt.outcome)),
        reason: Some(attempt.reason.clone()).filter(|reason| !reason.is_empty()),
        error_kind: attempt.error_kind,
        new_instance_id: attempt.new_instance_id.clone(),
        response_time: attempt.response_time,
        ..blank(attempt.at, &attempt.instance_id, &attempt.instance_name, kind)
    };
    with_pass(event, recorded)
}

fn of_write(recorded: &Recorded, write: &ProviderWrite) -> LifeEvent {
    let kind = match write.call {
        WriteCall::Migrate => EventKind::Migrate,
        WriteCall::Create => EventKind::Create,
        WriteCall::Delete => EventKind::Delete,
    };
    let event = LifeEvent {
        outcome: Some(Conclusion::Call(write.outcome)),
        reason: write.error.clone(),
        error_kind: write.error_kind,
        new_instance_id: write.new_instance_id.clone(),
        response_time: write.response_time,
        ..blank(write.at, &write.instance_id, &write.instance_name, kind)
    };
    with_pass(event, recorded)
}

/// What the ledger knows and no execution tells: a pass that was killed, or records of an earlier version.
fn of_ledger<'a>(
    executions: &'a [Recorded],
    ledger: &'a Ledger,
    members: &'a Members<'a>,
) -> impl Iterator<Item = LifeEvent> + 'a {
    let acted = |pass: &str, id: &InstanceId| {
        executions.iter().any(|it| {
            it.execution.job_id == pass
                && (it.attempts.iter().any(|it| it.instance_id == *id)
                    || it.writes.iter().any(|it| it.instance_id == *id))
        })
    };
    let saw = |id: &InstanceId, kinds: &[Seen], since: Timestamp| {
        let sightings = executions.iter().flat_map(|it| &it.sightings);
        sightings.into_iter().any(|it| it.instance_id == *id && kinds.contains(&it.seen) && it.at >= since)
    };
    let calls = ledger.in_flight.iter().filter(|(id, _)| members.contains(id));
    let calls = calls.filter(move |(id, call)| !acted(&call.pass, id)).map(|(id, call)| {
        let outcome = match call.call {
            Call::Accepted => Outcome::Accepted,
            Call::Begun | Call::Unknown => Outcome::Unknown,
        };
        LifeEvent {
            job_id: Some(call.pass.clone()),
            outcome: Some(Conclusion::Action(outcome)),
            reason: Some("known from the call that is still open".into()),
            ..blank(call.called_at, id, &call.instance_name, EventKind::Migrate)
        }
    });
    let notices = ledger.observations.iter().filter(|(id, _)| members.contains(id));
    let untold = notices.filter(move |(id, seen)| !saw(id, &[Seen::ReclaimNotice], seen.first_seen_at));
    let notices = untold.map(|(id, seen)| LifeEvent {
        reason: Some(seen.notice.to_string()),
        ..blank(seen.first_seen_at, id, "", EventKind::ReclaimNotice)
    });
    let recreations = || ledger.recreations.iter().filter(|(id, _)| members.contains(id));
    let begun = recreations().filter(move |(id, recreation)| {
        // The observation comes first, the journal entry after the action that followed.
        let since = recreation.opened_at - crate::core::world::times::SETTLE_TIME;
        let is_of_a_failure = matches!(recreation.cause, Cause::JobFailed { .. } | Cause::Stalled { .. });
        is_of_a_failure && !saw(id, &[Seen::MigrationFailed, Seen::MigrationStuck], since)
    });
    let begun = begun.map(|(id, recreation)| {
        let kind = match recreation.cause {
            Cause::Stalled { .. } => EventKind::MigrationStuck,
            _ => EventKind::MigrationFailed,
        };
        LifeEvent {
            reason: Some(recreation.cause.in_words()),
            ..blank(recreation.opened_at, id, &recreation.instance_name, kind)
        }
    });
    let stands = recreations().filter(move |(id, recreation)| !acted(&recreation.pass, id));
    let stands = stands.map(|(id, recreation)| LifeEvent {
        job_id: Some(recreation.pass.clone()).filter(|pass| !pass.is_empty()),
        reason: Some(standing(recreation)),
        new_instance_id: recreation.step.replacement().cloned(),
        ..blank(recreation.since, id, &recreation.instance_name, EventKind::Journal)
    });
    calls.chain(notices).chain(begun).chain(stands)
}

/// How a recreation stands, in words; never what is kept of the old instance.
fn standing(recreation: &Recreation) -> String {
    let stands = step_in_words(&recreation.step);
    match (recreation.failures, &recreation.last_error) {
        (0, _) | (_, None) => stands,
        (1, Some(error)) => format!("{stands}; it failed once: {error}"),
        (failures, Some(error)) => format!("{stands}; it failed {failures} times, the last one: {error}"),
    }
}

/// A step of a recreation in words; never what is kept of the old instance.
#[must_use]
pub fn step_in_words(step: &Step) -> String {
    match step {
        Step::Pending { .. } => "to be created".into(),
        Step::Deleting { .. } => "deleted first, then recreated".into(),
        Step::Intent { .. } => "create call without an answer so far".into(),
        Step::Created { replacement, .. } => format!("replacement {replacement} comes up"),
        Step::Running { replacement } => format!("replacement {replacement} runs, the old one is to go"),
        Step::Deleted { replacement } => format!("replacement {replacement} runs, the old one goes"),
        Step::Abandoned { replacement, .. } => format!("replacement {replacement} is given up"),
        Step::Closed { replacement: Some(replacement) } => format!("done, replaced by {replacement}"),
        Step::Closed { replacement: None } => "done, no replacement was needed any more".into(),
        Step::Ended => "ended without a successor".into(),
    }
}

/// An event of which no more is known.
pub(super) fn blank(at: Timestamp, id: &InstanceId, name: &str, event: EventKind) -> LifeEvent {
    LifeEvent {
        at,
        last_at: None,
        times: 1,
        job_id: None,
        dry_run: false,
        instance_id: id.clone(),
        instance_name: name.to_owned(),
        event,
        outcome: None,
        reason: None,
        error_kind: None,
        new_instance_id: None,
        response_time: None,
    }
}

fn with_pass(event: LifeEvent, recorded: &Recorded) -> LifeEvent {
    let execution = &recorded.execution;
    LifeEvent { job_id: Some(execution.job_id.clone()), dry_run: execution.dry_run, ..event }
}

/// Events that repeat without changing anything are listed once, with a count.
fn without_repetitions(events: Vec<LifeEvent>) -> Vec<LifeEvent> {
    let mut told: Vec<LifeEvent> = Vec::with_capacity(events.len());
    for event in events {
        let changed_nothing = event.outcome.is_some_and(Conclusion::changed_nothing)
            || matches!(event.event, EventKind::MigrationFailed | EventKind::MigrationStuck);
        let before = told.iter_mut().rfind(|it| it.event == event.event && it.instance_id == event.instance_id);
        match before {
            Some(before) if changed_nothing && is_alike(before, &event) => {
                before.times += 1;
                before.last_at = Some(event.at);
            }
            _ => told.push(event),
        }
    }
    told
}

fn is_alike(a: &LifeEvent, b: &LifeEvent) -> bool {
    let what = |it: &LifeEvent| (it.outcome, it.error_kind, it.dry_run);
    what(a) == what(b) && a.reason == b.reason && a.new_instance_id == b.new_instance_id
}

#[cfg(test)]
mod tests;
