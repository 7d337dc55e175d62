//! One step: observe, update the members, decide, act, and update the members again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::ready;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::{Drive, Stepped};
use crate::act::{Edges, Pass, recreate};
use crate::cli::RolloutVerb;
use crate::clock::Clock;
use crate::cloud::{CloudRead, CloudWrite};
use crate::commands::Failure;
use crate::commands::observe::{Observed, confirm_absent, observe};
use crate::commands::run::TIME_TO_CLOSE;
use crate::commands::run::record::Open;
use crate::commands::survey::survey;
use crate::core::pass::ledger::Ledger;
use crate::core::pass::plan::Plan;
use crate::core::pass::safety;
use crate::core::pass::verdict::Recreating;
use crate::core::record::news::closes;
use crate::core::record::outbox::Happened;
use crate::core::recreation::journal::{Next, Recreation};
use crate::core::rollout::course::{Fleet, Member, MemberState, RolloutEnd, State};
use crate::core::rollout::members::FleetView;
use crate::core::rollout::steps::Todo;
use crate::core::world::instance::{Billing, InstanceId, Status};
use crate::core::world::money::Usd;
use crate::core::world::probe::{CloseUp, Measurement, Probe};
use crate::core::world::snapshot::{JobIndex, Snapshot};
use crate::core::world::time::Timestamp;
use crate::measure::{AT_ONCE, ProbeOutcome, ProbeTarget, Prober, measure_all};
use crate::notify::Notify;
use crate::report::Event;
use crate::store::records::{self, Change};
use crate::store::{StoreError, StoreWrite};

/// The time over which the load of instances is read; the provider lags about a minute (`novita-api.md` section 2.8).
const LOAD_WINDOW: Duration = Duration::from_secs(900);
const LOAD_LAG: Duration = Duration::from_secs(60);

/// How long to wait for it.
const PATIENCE_WITH_METRICS: Duration = Duration::from_secs(10);

/// The time between two checks of an instance that does not respond yet.
const POLL: Duration = Duration::from_secs(5);

impl<C: CloudRead, W: CloudWrite, S: StoreWrite, N: Notify, P: Prober> Drive<'_, C, W, S, N, P> {
    pub(super) async fn one_step(
        &self,
        verb: Option<RolloutVerb>,
        pass: &Pass<'_, (C, W, S)>,
        open: &mut Open,
        deadline: Instant,
    ) -> Result<Stepped, Failure> {
        let store = pass.world.store;
        // Nothing is dated again before the clock was compared with the provider's.
        let Some(mut fleet) = records::rollout(store, Timestamp::LATEST).await?.0 else {
            return Ok(no_rollout(&records::journal(store, pass.now()).await?));
        };
        let was_over = fleet.rollout.state.end().is_some();
        let states: Vec<MemberState> = fleet.members.iter().map(|member| member.state).collect();
        let mut stored = Stored(fleet.clone());
        let mut applied = None;
        if let Some(verb) = verb {
            let message = apply(&mut fleet, verb, pass.now());
            stored.save(pass, &fleet, Vec::new()).await?;
            if !matches!(verb, RolloutVerb::Abort { .. }) || fleet.rollout.state.end().is_some() {
                return Ok(Stepped { fleet: Some(fleet), message, was_over, ..Stepped::default() });
            }
            applied = Some(message);
        }
        let observed = tokio::select! {
            biased;
            _ = pass.world.stop.triggered() => return Ok(Stepped { fleet: Some(fleet), ..Stepped::default() }),
            observed = observe(pass.world) => observed?,
        };
        let Observed { mut snapshot, mut ledger, mut redated, plan, .. } = observed;
        let (Some(mut fleet), its) = records::rollout(store, pass.now()).await? else {
            return Ok(no_rollout(&ledger.recreations));
        };
        fleet.rollout.has_hook = self.hook.is_some() || self.writer.moves_traffic();
        redated.extend(its);
        stored.0 = fleet.clone();
        use MemberState::{Moving, Ready, Returning, Undoing, Waiting};
        let is_open = |state| matches!(state, Waiting | Moving | Ready | Returning | Undoing);
        let open_members = fleet.members.iter().filter(|member| is_open(member.state));
        let known = open_members.flat_map(|member| [Some(&member.id), member.successor.as_ref()]).flatten().cloned();
        let missing = (&mut snapshot, &mut ledger);
        redated.extend(confirm_absent(pass.world.cloud, missing, known.collect(), pass.world.limits.workers).await);
        open.summary.total_instances = u64::try_from(snapshot.instances.items.len()).unwrap_or(u64::MAX);
        let jobs = JobIndex::new(&snapshot.jobs.items);
        safety::complete(&snapshot)?;
        let view = FleetView::new(&snapshot, &ledger, &jobs, pass.now());
        let state_before = fleet.rollout.state.clone();
        let news = fleet.observe(&view);
        let mut todo = fleet.settle(pass.now());
        redated.extend(journaled(pass, &ledger, news).await);
        stored.save(pass, &fleet, redated).await?;
        if todo == Todo::Measure {
            let [measured, beside] = self.measure(pass, &fleet).await;
            if pass.world.stop.cause().is_some() {
                return Ok(Stepped { fleet: Some(fleet), ..Stepped::default() });
            }
            let loads =
                loads(pass.world.cloud, fleet.to_measure().into_iter().map(|(_, id)| id), pass.world.clock).await;
            for member in &mut fleet.members {
                member.load_now = member.successor.as_ref().and_then(|id| loads.get(id)).copied().or(member.load_now);
            }
            todo = fleet.judge(measured, &beside, pass.now());
            stored.save(pass, &fleet, Vec::new()).await?;
        }
        // A stage that the gate has just let through starts with the next step.
        let is_new = |state: &State| matches!(state, State::Retiring { .. } | State::Moving { .. });
        let waits = todo != Todo::Work && is_new(&fleet.rollout.state);
        let is_held = waits || fleet.rollout.paused_at.is_some();
        let silent = if is_held { Vec::new() } else { self.silent(pass, &fleet.retiring(&view)).await };
        fleet.heard(&silent, pass.now());
        stored.save(pass, &fleet, Vec::new()).await?;
        let mut switches = if is_held { Vec::new() } else { fleet.switches_before(&view) };
        switches.retain(|switch| !silent.contains(&switch.member));
        let mut unswitched = self.switch(pass, (&mut fleet, &mut stored), switches).await?;
        let mut works = if is_held { Vec::new() } else { fleet.works(&view) };
        works.retain(|work| work.next != Next::DeleteOld || !silent.contains(&work.instance));
        let silent = fleet.members.iter().filter(|it| it.silent_since.is_some() && it.state == MemberState::Ready);
        unswitched.waits.extend(silent.map(|it| format!("{}, whose spot instance does not respond", it.name)));
        let awaits = fleet.members.iter().any(|member| member.awaited().is_some());
        let has_work = !works.is_empty() || awaits;
        let journal = match has_work {
            true => self.carry_out(pass, open, deadline, &mut fleet, (&snapshot, &plan), works).await?,
            false => ledger.recreations.clone(),
        };
        if !is_held && pass.world.stop.cause().is_none() {
            let switches = fleet.switches_after();
            let after = self.switch(pass, (&mut fleet, &mut stored), switches).await?;
            unswitched.troubles.extend(after.troubles);
            unswitched.waits.extend(after.waits);
        }
        if has_work || todo == Todo::Work {
            if pass.world.stop.cause().is_none() {
                fleet.give_up(&journal, pass.now());
                todo = fleet.settle(pass.now());
            }
            stored.save(pass, &fleet, Vec::new()).await?;
        }
        let due = match todo {
            Todo::Rest(due) => due,
            Todo::Work | Todo::Measure => None,
        };
        let mut message = applied.unwrap_or_else(|| summary(&state_before, &fleet, pass.now()));
        if let held @ 1.. = fleet.held_by_notices(&view) {
            message.push_str(&format!("; on-demand instances kept until an announced reclaim is over: {held}"));
        }
        let waits: Vec<String> = fleet.waits(&view).into_iter().chain(unswitched.waits).collect();
        if !waits.is_empty() {
            message.push_str(&format!("; waiting for {}", waits.join(", ")));
        }
        let mut troubles = failures(&fleet, &states);
        troubles.extend(unswitched.troubles);
        troubles.extend(fleet.overdue(pass.now()));
        for trouble in &troubles {
            pass.world.reporter.event(Event::RolloutTroubled { trouble });
        }
        Ok(Stepped { fleet: Some(fleet), message, due, was_over, troubles, ..Stepped::default() })
    }

    /// Advances the journals, waits for a limited time until new instances run and respond, and updates the members. Returns
    /// the journals afterwards.
    async fn carry_out(
        &self,
        pass: &Pass<'_, (C, W, S)>,
        open: &mut Open,
        deadline: Instant,
        fleet: &mut Fleet,
        (snapshot, plan): (&Snapshot, &Plan),
        mut works: Vec<Recreating>,
    ) -> Result<HashMap<InstanceId, Recreation>, Failure> {
        let limits = pass.world.limits;
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(TIME_TO_CLOSE);
        let until = Instant::now() + limits.recreate_wait.min(left);
        let wait = || until.saturating_duration_since(Instant::now());
        survey(pass.world.cloud, &snapshot.jobs.items, &HashMap::new(), works.iter_mut(), limits.workers).await;
        pass.world.reporter.event(Event::ActionsBegin { count: works.len() });
        let is_ours =
            |keep: &InstanceId| fleet.members.iter().any(|it| it.id == *keep || it.successor.as_ref() == Some(keep));
        let mut duplicates = plan.work(&snapshot.instances.items).duplicates;
        duplicates.retain(|it| is_ours(it.keep));
        let retired = recreate::retire(pass, &duplicates).await;
        let works: Vec<&Recreating> = works.iter().collect();
        let underway = recreate::start(pass, &works, &snapshot.instances.items, wait()).await;
        let applied = recreate::finish(pass, underway, wait()).await;
        pass.world.reporter.event(Event::ActionsEnd);
        open.attempts = [retired.attempts, applied.attempts].concat();
        open.summary = open.summary.with_attempts(&open.attempts);
        if let Some(error) = retired.store_error.or(applied.store_error) {
            return Err(error.into());
        }
        let journal = records::journal(pass.world.store, pass.now()).await?;
        fleet.record(&journal, pass.now());
        self.await_successors(pass, fleet, until).await;
        Ok(journal)
    }

    /// Checks the awaited successors until they run and respond, or time is up.
    async fn await_successors(&self, pass: &Pass<'_, (C, W, S)>, fleet: &mut Fleet, until: Instant) {
        let Some(probe) = &self.terms.probe else { return };
        loop {
            let awaited =
                fleet.members.iter().enumerate().filter_map(|(at, member)| Some((at, member, member.awaited()?)));
            let checks = awaited.map(|(at, member, id)| async move {
                let seen = self.responding(pass, probe, id, &member.name).await;
                (at, seen.map(|seen| seen.gpu_price.map(|price| price.times(member.gpu_num))))
            });
            let checked: Vec<(usize, Option<Option<Usd>>)> =
                stream::iter(checks).buffer_unordered(AT_ONCE).collect().await;
            let all = checked.iter().all(|(_, ready)| ready.is_some());
            for (at, cost) in checked.into_iter().filter_map(|(at, ready)| Some((at, ready?))) {
                fleet.members[at].came_up(cost, pass.now());
            }
            let left = until.saturating_duration_since(Instant::now());
            if all || left.is_zero() || pass.world.stop.sleep(POLL.min(left)).await.is_err() {
                return;
            }
        }
    }

    /// The members whose successor does not respond right now, among those whose on-demand instance is about to go.
    async fn silent(&self, pass: &Pass<'_, (C, W, S)>, retiring: &[(&Member, &InstanceId)]) -> Vec<InstanceId> {
        let Some(probe) = &self.terms.probe else { return Vec::new() };
        let asked = retiring.iter().map(|(member, successor)| async move {
            let seen = self.responding(pass, probe, successor, &member.name).await;
            seen.is_none().then(|| member.id.clone())
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(ready).collect().await
    }

    /// The details of an instance, if it runs as spot and responds.
    async fn responding(
        &self,
        pass: &Pass<'_, (C, W, S)>,
        probe: &Probe,
        id: &InstanceId,
        name: &str,
    ) -> Option<CloseUp> {
        let seen = pass.world.cloud.close_up(id).await.ok()??;
        if seen.instance.status != Status::Running || seen.instance.billing != Billing::Spot {
            return None;
        }
        if !pass.world.cloud.is_sound(id).await.ok()? {
            return None;
        }
        let target = ProbeTarget { id: id.as_str(), name, endpoints: &seen.endpoints };
        let sample = self.prober.sample(probe, target).await;
        (sample.outcome == ProbeOutcome::Good).then_some(seen)
    }

    /// Measures the successors, in the same way as before the first move, and beside them the instances that they replace; both
    /// by the id of their member.
    async fn measure(&self, pass: &Pass<'_, (C, W, S)>, fleet: &Fleet) -> [HashMap<InstanceId, Measurement>; 2] {
        let Some(probe) = &self.terms.probe else { return Default::default() };
        let pairs = fleet.to_measure();
        let wanted: Vec<&InstanceId> = pairs.iter().flat_map(|(member, id)| [*id, &member.id]).collect();
        let mut seen = close_ups(pass.world.cloud, &wanted).await;
        seen.retain(|_, seen| seen.instance.status == Status::Running);
        let found: Vec<(&InstanceId, &str, CloseUp)> = pairs
            .iter()
            .flat_map(|(member, id)| [(*id, member), (&member.id, member)])
            .filter_map(|(id, member)| Some((&member.id, member.name.as_str(), seen.remove(id)?)))
            .collect();
        let targets: Vec<ProbeTarget<'_>> = found
            .iter()
            .map(|(_, name, seen)| ProbeTarget { id: seen.instance.id.as_str(), name, endpoints: &seen.endpoints })
            .collect();
        let measured =
            measure_all(self.prober, probe, &targets, fleet.rollout.samples, pass.world.clock, pass.world.stop).await;
        let mut all: [HashMap<InstanceId, Measurement>; 2] = Default::default();
        for ((member, _, seen), measurement) in found.iter().zip(measured) {
            all[usize::from(seen.instance.id == **member)].insert((*member).clone(), measurement);
        }
        all
    }
}

/// The details of instances, as far as the provider returns them.
pub(super) async fn close_ups<C: CloudRead>(cloud: &C, ids: &[&InstanceId]) -> HashMap<InstanceId, CloseUp> {
    let reads = ids.iter().map(|id| async move { Some(((*id).clone(), cloud.close_up(id).await.ok()??)) });
    stream::iter(reads).buffer_unordered(AT_ONCE).filter_map(ready).collect().await
}

/// The mean load of the GPUs of instances in the last 15 minutes, in hundredths of a percent, as far as the provider reports
/// it in time. It decides nothing, so the wait for it is short.
pub(super) async fn loads<'a, C: CloudRead>(
    cloud: &C,
    ids: impl Iterator<Item = &'a InstanceId>,
    clock: &Clock,
) -> HashMap<InstanceId, u32> {
    let known = RefCell::new(HashMap::new());
    let now = clock.now();
    let asking = stream::iter(ids).for_each_concurrent(AT_ONCE, async |id| {
        if let Ok(Some(metrics)) = cloud.metrics(id, now - LOAD_WINDOW, now - LOAD_LAG, LOAD_LAG).await {
            known.borrow_mut().extend(metrics.load().map(|load| (id.clone(), load)));
        }
    });
    let _ = tokio::time::timeout(PATIENCE_WITH_METRICS, asking).await;
    known.into_inner()
}

/// There is none, although its moves may be left.
fn no_rollout(journal: &HashMap<InstanceId, Recreation>) -> Stepped {
    let open = journal.values().filter(|it| it.is_move() && !it.step.is_over()).count();
    if open == 0 {
        return Stepped { message: "there is no rollout".into(), ..Stepped::default() };
    }
    let trouble = format!("moves of one whose record was lost are open: {open}; respot rollout --yes takes them over");
    Stepped { message: format!("there is no rollout, but {trouble}"), troubles: vec![trouble], ..Stepped::default() }
}

/// The members that failed since they had these states, each with its reason.
fn failures(fleet: &Fleet, states: &[MemberState]) -> Vec<String> {
    let is_failed = |state: MemberState| matches!(state, MemberState::Failed | MemberState::Stranded);
    let failed = fleet.members.iter().zip(states).filter(|(it, before)| is_failed(it.state) && !is_failed(**before));
    failed.map(|(it, _)| format!("{} ({}) failed: {}", it.name, it.id, it.note.as_deref().unwrap_or("-"))).collect()
}

/// The rollout as the store has it.
pub(super) struct Stored(pub(super) Fleet);

impl Stored {
    /// Stores what has changed and the given changes in one commit, together with the event for it.
    pub(super) async fn save<E: Edges>(
        &mut self,
        pass: &Pass<'_, E>,
        fleet: &Fleet,
        mut changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let Self(before) = self;
        if before == fleet {
            return if changes.is_empty() { Ok(()) } else { pass.commit(changes).await };
        }
        changes.push(Change::Rollout(Box::new(fleet.rollout.clone())));
        let known = before.members.iter().zip(&fleet.members);
        changes.extend(
            known
                .filter(|(before, member)| before != member)
                .map(|(_, member)| Change::Member(Box::new(member.clone()))),
        );
        if let Some(event) = happened(&before.rollout.state, &fleet.rollout.state) {
            let now = pass.now();
            changes.extend(pass.tell(&Happened::rollout(event, &fleet.report(now), now)));
        }
        pass.commit(changes).await?;
        pass.world.reporter.event(Event::RolloutAdvanced { fleet });
        self.0 = fleet.clone();
        Ok(())
    }
}

/// The changes to the journals of members that an observation found, with their events.
async fn journaled<E: Edges>(pass: &Pass<'_, E>, ledger: &Ledger, news: Vec<(InstanceId, Recreation)>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (old, recreation) in news {
        let recreation = Recreation { pass: pass.job_id.to_owned(), ..recreation };
        pass.world.reporter.event(Event::Journaled { instance: &old, recreation: &recreation });
        let before = ledger.recreations.get(&old).map(|it| &it.step);
        if let Some(new) = closes(before, &recreation) {
            let reachable = pass.connections(&[new]).await.remove(new).unwrap_or_default();
            changes.extend(pass.tell(&Happened::recreated(&old, new, &recreation, reachable, recreation.since)));
        }
        changes.push(Change::Journal(old, Some(recreation)));
    }
    changes
}

/// The event for a change of state, if there is one.
fn happened(before: &State, now: &State) -> Option<&'static str> {
    match now.end() {
        _ if before == now => None,
        Some(RolloutEnd::Completed) => Some("rollout.completed"),
        Some(RolloutEnd::RolledBack | RolloutEnd::Aborted | RolloutEnd::Failed) => Some("rollout.rolled_back"),
        None if before.as_str() == now.as_str() && before.stage() == now.stage() => None,
        None => Some("rollout.advanced"),
    }
}

/// Carries out a verb of the operator, and returns the result in one sentence.
fn apply(fleet: &mut Fleet, verb: RolloutVerb, now: Timestamp) -> String {
    let over = fleet.rollout.state.end().map(|end| end.into_str());
    match (verb, over) {
        (RolloutVerb::Status, _) => String::new(),
        (_, Some(end)) => format!("the last rollout ended as {end}; nothing was changed"),
        (RolloutVerb::Pause, None) => match fleet.pause(now) {
            true => "paused: no step is taken, and nothing is rolled back, until respot rollout resume".into(),
            false => "it is paused already".into(),
        },
        (RolloutVerb::Resume, None) => match fleet.resume(now) {
            true => "resumed: the next call of respot rollout takes the next step".into(),
            false => "it is not paused".into(),
        },
        (RolloutVerb::Abort { .. }, None) => {
            fleet.abort(now);
            "aborted: everything that was moved is being put back".into()
        }
    }
}

/// The result of a step in one sentence.
fn summary(before: &State, fleet: &Fleet, now: Timestamp) -> String {
    let next = fleet.next(now);
    let rollout = &fleet.rollout;
    let percent = |stage: usize| rollout.stages.get(stage).map_or(0, |stage| stage.percent);
    let what = match &rollout.state {
        State::Moving { stage, .. } if before.stage() == Some(*stage) => {
            let waiting = fleet.count(MemberState::Moving);
            format!("waiting for {waiting} instances of the {} % stage", percent(*stage))
        }
        State::Moving { .. } => "the gate passed".into(),
        State::Soaking { stage, .. } => format!("the {} % stage soaks", percent(*stage)),
        State::Held { stage, .. } => {
            format!("the {} % stage is held because the gate is inconclusive", percent(*stage))
        }
        State::Retiring { why: None, .. } => "the last gate passed".into(),
        State::Retiring { .. } => "rolled back, except for the stages that passed".into(),
        State::RollingBack { why, .. } if !matches!(before, State::RollingBack { .. }) => {
            format!("rolling back: {why}")
        }
        State::RollingBack { .. } => "putting back what was moved".into(),
        State::Over { end: RolloutEnd::Completed, .. } => match fleet.count(MemberState::Failed) {
            0 => "every stage passed".into(),
            failed => {
                let all = fleet.members.len();
                format!("every gate passed, but {failed} of {all} instances failed and stay on demand")
            }
        },
        State::Over { end: RolloutEnd::Failed, .. } => "the rollout failed and needs an operator".into(),
        State::Over { .. } => "what was moved has been put back".into(),
    };
    if rollout.state.end().is_some() { what } else { format!("{what}; next: {next}") }
}
