//! The start of a rollout: its candidates are found, measured and frozen.

use super::step::{close_ups, loads};
use super::{Drive, Stepped};
use crate::act::{Pass, new_id};
use crate::cloud::{CloudRead, CloudWrite};
use crate::commands::{Exit, Failure, analyze};
use crate::core::record::outbox::Happened;
use crate::core::rollout::analysis::{Analysis, Opportunity};
use crate::core::rollout::course::{Candidate, Costs, Fleet};
use crate::core::rollout::quality::LEAST_SAMPLES;
use crate::core::world::instance::InstanceId;
use crate::measure::{ProbeTarget, Prober, measure_all};
use crate::notify::Notify;
use crate::report::Event;
use crate::settings::SettingsError;
use crate::store::StoreWrite;
use crate::store::records::{self, Change};

/// The analysis to start a rollout from; `None` if one is open, or is over and `new` is not given.
///
/// # Errors
/// Exit codes 2 to 5.
pub async fn prospect<C: CloudRead, W: CloudWrite, S: StoreWrite, N: Notify, P: Prober>(
    drive: &Drive<'_, C, W, S, N, P>,
    new: bool,
) -> Result<Option<Analysis>, Failure> {
    let known = records::rollout(drive.world.store, drive.world.clock.now()).await?.0;
    if known.is_some_and(|fleet| fleet.rollout.state.end().is_none() || !new) {
        return Ok(None);
    }
    if drive.terms.probe.is_none() {
        return Err(SettingsError {
            message: "RESPOT_PROBE is not set: a rollout needs a probe to tell whether moved instances got worse"
                .into(),
            hint: Some("for example RESPOT_PROBE=http:8080/health, or --probe tcp:22".into()),
        }
        .into());
    }
    let Drive { world, prober, terms, .. } = drive;
    let analysis = analyze::analyze(world.cloud, world.store, *prober, terms, world.clock, world.reporter).await?;
    if let Some(shortfall) = &analysis.shortfall {
        return Err(Failure {
            exit: Exit::Unsafe,
            kind: "unsafe",
            message: format!("the list of instances is incomplete: {shortfall}"),
            hint: Some("nothing was done; the next call reads the list again".into()),
            error_kind: None,
        });
    }
    Ok(Some(analysis))
}

impl<C: CloudRead, W: CloudWrite, S: StoreWrite, N: Notify, P: Prober> Drive<'_, C, W, S, N, P> {
    /// Starts a rollout of the approved instances, which is its first step: each candidate is measured before any is moved.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub async fn start(&self, analysis: &Analysis) -> Result<Stepped, Failure> {
        let (approved, lacks) = analysis.movable();
        if approved.is_empty() {
            let found = analysis.found().count();
            return Ok(nothing(format!(
                "nothing to move: {found} of {} instances would save money, and the gates approve none of them; \
                 respot analyze shows why",
                analysis.opportunities.len()
            )));
        }
        let most = self.course.max_moves.unwrap_or(usize::MAX).min(approved.len());
        let mut stepped = Stepped::default();
        let ran = self
            .under_lease(async |pass, open, _| {
                open.summary.total_instances = u64::try_from(analysis.opportunities.len()).unwrap_or(u64::MAX);
                stepped = self.freeze(pass, analysis, &approved[..most]).await?;
                Ok(())
            })
            .await?;
        if let (Some(what), true) = (lacks, stepped.fleet.is_some()) {
            stepped.message.push_str(&format!("; others stay, since the quota of {what} has no room for all at once"));
        }
        match (ran, self.world.stop.cause()) {
            (super::Ran::Ended(_), Some(cause)) => Err(Failure::stopped(cause)),
            (super::Ran::Ended(_), None) => Ok(stepped),
            (super::Ran::Skipped(why), _) => Ok(Stepped { message: why.document().message, ..Stepped::default() }),
        }
    }

    async fn freeze(
        &self,
        pass: &Pass<'_, (C, W, S)>,
        analysis: &Analysis,
        approved: &[&Opportunity],
    ) -> Result<Stepped, Failure> {
        let Some(probe) = &self.terms.probe else { return Ok(nothing("there is no probe".into())) };
        // Another call may have started one meanwhile.
        let known = records::rollout(pass.world.store, pass.now()).await?.0;
        if let Some(fleet) = known.filter(|it| it.rollout.state.end().is_none()) {
            let message = "another call has started a rollout".into();
            return Ok(Stepped { fleet: Some(fleet), message, ..Stepped::default() });
        }
        let ids: Vec<&InstanceId> = approved.iter().map(|it| &it.instance).collect();
        let seen = close_ups(pass.world.cloud, &ids).await;
        let found: Vec<_> = approved.iter().filter_map(|it| Some((*it, seen.get(&it.instance)?))).collect();
        let targets: Vec<ProbeTarget<'_>> = found
            .iter()
            .map(|(it, seen)| ProbeTarget { id: it.instance.as_str(), name: &it.name, endpoints: &seen.endpoints })
            .collect();
        let measured =
            measure_all(self.prober, probe, &targets, self.course.samples, pass.world.clock, pass.world.stop).await;
        if pass.world.stop.cause().is_some() {
            return Ok(nothing("stopped before the rollout started".into()));
        }
        let loads = loads(pass.world.cloud, ids.iter().copied(), pass.world.clock).await;
        let mut left_out = Vec::new();
        let mut candidates = Vec::new();
        for ((it, seen), baseline) in found.into_iter().zip(measured) {
            // Without a baseline there is nothing to compare with.
            if baseline.samples < LEAST_SAMPLES || baseline.latency.is_none() {
                left_out.push(format!("{} ({})", it.name, it.instance));
                continue;
            }
            candidates.push(Candidate {
                id: it.instance.clone(),
                name: it.name.clone(),
                gpu_num: it.gpu_num,
                estimate: Costs { on_demand: it.current_cost, spot: it.spot_cost },
                on_demand_cost: seen.gpu_price.map(|price| price.times(it.gpu_num)),
                baseline,
                load: loads.get(&it.instance).copied(),
            });
        }
        if candidates.is_empty() {
            return Ok(nothing("nothing to move: none of the candidates could be measured with the probe".into()));
        }
        let now = pass.now();
        let id = new_id("rollout-", now);
        let counts = (analysis.opportunities.len(), analysis.found().count());
        let fleet = Fleet::start(id, candidates, self.course, probe, counts, now);
        let mut changes = vec![Change::ForgetMembers, Change::Rollout(Box::new(fleet.rollout.clone()))];
        changes.extend(fleet.members.iter().map(|member| Change::Member(Box::new(member.clone()))));
        changes.extend(pass.tell(&Happened::rollout("rollout.advanced", &fleet.report(now), now)));
        pass.commit(changes).await?;
        pass.world.reporter.event(Event::RolloutAdvanced { fleet: &fleet });
        let left = match left_out.len() {
            0 => String::new(),
            count => format!("; {count} could not be measured and were left out, among them {}", left_out[0]),
        };
        let instances = if fleet.members.len() == 1 { "instance" } else { "instances" };
        let message = format!("started with {} {instances}, each measured{left}", fleet.members.len());
        Ok(Stepped { fleet: Some(fleet), message, worked: true, ..Stepped::default() })
    }
}

/// There was nothing to start.
fn nothing(message: String) -> Stepped {
    Stepped { message, worked: true, ..Stepped::default() }
}
