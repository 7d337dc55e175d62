//! The steps of a rollout: from the states of its members to its next state, and what to do about each member.

use std::collections::HashMap;
use std::time::Duration;

use crate::core::recreation::journal::{Recreation, Step};
use crate::core::rollout::course::{Fleet, Member, MemberState, RollbackScope, RolloutEnd, State};
use crate::core::rollout::quality::{self, Judgment, LEAST_SAMPLES, Moves, Pair, QualityVerdict};
use crate::core::world::instance::InstanceId;
use crate::core::world::probe::Measurement;
use crate::core::world::time::{Timestamp, in_words};
use crate::core::world::times::LONGEST_RECREATION;

/// The least time between two checks of a stage: each measurement loads the application with its samples.
pub const BETWEEN_CHECKS: Duration = Duration::from_secs(60);

/// A degradation in basis points that rolls back at once. A smaller failure during the soak must be confirmed by the next
/// check, since a soaking stage is checked many times and each check may be wrong. The check at the end decides at once.
const OBVIOUS: i64 = 2500;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Nothing before this time; `None` if no time brings the next step.
    Rest(Option<Timestamp>),
    /// Advance the journals of the members: [`Fleet::works`].
    Work,
    /// Measure the successors: [`Fleet::to_measure`], then [`Fleet::judge`].
    Measure,
}

impl Fleet {
    /// Advances the rollout as far as the states of its members allow, and returns what to do next.
    pub fn settle(&mut self, now: Timestamp) -> Todo {
        if self.rollout.paused_at.is_some() {
            return Todo::Rest(None);
        }
        let hold = self.rollout.hold;
        match self.rollout.state.clone() {
            State::Moving { stage, since: _ } => {
                let due = self.members.iter_mut().filter(|it| it.stage <= stage && it.state == MemberState::Waiting);
                if due.map(|member| member.state = MemberState::Moving).count() > 0 {
                    // Their time starts with the first attempt, however long ago the previous gate was passed.
                    self.rollout.state = State::Moving { stage, since: now };
                }
                if self.count(MemberState::Moving) > 0 {
                    return Todo::Work;
                }
                if let Some(why) = self.moves_failed(stage) {
                    return self.roll_back(stage, &why, now);
                }
                self.rollout.state = State::Soaking { stage, since: now };
                Todo::Rest(Some(now + self.soak(stage).min(BETWEEN_CHECKS)))
            }
            State::Soaking { stage, since } => {
                if let Some(why) = self.moves_failed(stage) {
                    return self.roll_back(stage, &why, now);
                }
                let next_check = self.rollout.checked_at.map_or(since, |at| at.max(since)) + BETWEEN_CHECKS;
                let due = next_check.min(since + self.soak(stage));
                if now < due { Todo::Rest(Some(due)) } else { Todo::Measure }
            }
            State::Held { stage, since } => {
                if let Some(why) = self.moves_failed(stage) {
                    return self.roll_back(stage, &why, now);
                }
                // When the hold is over, the stage is checked once more: there may have been no check for a long time.
                let due = self.rollout.checked_at.map_or(now, |at| at + BETWEEN_CHECKS).min(since + hold);
                if now < due { Todo::Rest(Some(due)) } else { Todo::Measure }
            }
            State::Retiring { since: _, end, why } => {
                if self.members.iter().any(|it| it.state == MemberState::Ready || it.is_unfinished_in(&self.rollout)) {
                    return Todo::Work;
                }
                self.finish(end, why, now)
            }
            State::RollingBack { since: _, from: _, why, end } => {
                if self.members.iter().any(|it| it.is_unfinished_in(&self.rollout)) {
                    return Todo::Work;
                }
                if self.count(MemberState::Ready) > 0 {
                    self.rollout.state = State::Retiring { since: now, end, why: Some(why) };
                    return Todo::Rest(Some(now));
                }
                self.finish(end, Some(why), now)
            }
            State::Over { .. } => Todo::Rest(None),
        }
    }

    /// Gives up members whose successor has not become ready within the hold. The time starts when the successor was
    /// created, and a caller must have looked for it first, since the schedule may have been interrupted.
    pub fn give_up(&mut self, journal: &HashMap<InstanceId, Recreation>, now: Timestamp) {
        let (State::Moving { since, .. }, None) = (&self.rollout.state, self.rollout.paused_at) else { return };
        let hold = self.rollout.hold;
        let created_at = |id: &InstanceId| {
            let created = journal.get(id).filter(|it| matches!(it.step, Step::Created { .. }));
            created.map_or(*since, |created| created.since.max(*since))
        };
        let minutes = hold.as_secs() / 60;
        let moving = self.members.iter_mut().filter(|it| it.state == MemberState::Moving);
        for member in moving.filter(|it| now.since(created_at(&it.id)) >= hold) {
            member.fail(format!("its spot instance did not run and respond within {minutes} min"));
        }
    }

    pub(super) fn soak(&self, stage: usize) -> Duration {
        self.rollout.stages.get(stage).map_or(Duration::ZERO, |stage| stage.soak)
    }

    /// How the moves of the stage went, or all moves so far, whichever is worse: earlier stages must not hide a bad one, nor
    /// may it hide what has happened to them since.
    fn moves(&self, stage: usize) -> Moves {
        let of = |is_counted: &dyn Fn(&Member) -> bool| {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let counted = || self.members.iter().filter(|it| is_counted(it));
            let succeeded = counted().filter(|it| matches!(it.state, MemberState::Ready | MemberState::Moved)).count();
            Moves { attempted: count(counted().count()), succeeded: count(succeeded) }
        };
        let (own, all) = (of(&|member| member.stage == stage), of(&|member| member.stage <= stage));
        let share = |moves: Moves, of: Moves| u64::from(moves.succeeded) * u64::from(of.attempted);
        if share(all, own) < share(own, all) { all } else { own }
    }

    /// Why too many moves of a stage failed, if so. This needs no measurement.
    fn moves_failed(&mut self, stage: usize) -> Option<String> {
        let judgment = quality::judge(&[], self.moves(stage), LEAST_SAMPLES);
        let failed = judgment.verdict == QualityVerdict::Fail;
        failed.then(|| {
            let reason = judgment.reason.clone();
            let failed = self.members.iter().filter(|it| it.stage <= stage && it.state == MemberState::Failed);
            let first = failed.max_by_key(|it| it.stage);
            let first = first.and_then(|it| Some(format!("; {} ({}): {}", it.name, it.id, it.note.as_ref()?)));
            if let Some(stage) = self.rollout.stages.get_mut(stage) {
                stage.judgment = Some(judgment);
            }
            format!("{reason}{}", first.unwrap_or_default())
        })
    }

    /// The members to measure, each with its successor.
    #[must_use]
    pub fn to_measure(&self) -> Vec<(&Member, &InstanceId)> {
        let members = self.members.iter().filter(|it| matches!(it.state, MemberState::Ready | MemberState::Moved));
        members.filter_map(|member| Some((member, member.successor.as_ref()?))).collect()
    }

    /// Judges the stage from measurements of the successors and, beside them, of the on-demand instances, both by member id, and
    /// advances accordingly. The stage alone and everything moved so far are both judged, and the worse verdict counts. What is
    /// measured on demand becomes a part of the baseline: one that happened to be good would fail every later check.
    pub fn judge(
        &mut self,
        mut measured: HashMap<InstanceId, Measurement>,
        beside: &HashMap<InstanceId, Measurement>,
        now: Timestamp,
    ) -> Todo {
        for member in &mut self.members {
            if let Some(later) = beside.get(&member.id) {
                member.baseline.pool(later);
            }
        }
        let (State::Soaking { stage, .. } | State::Held { stage, .. }) = self.rollout.state else {
            return Todo::Rest(None);
        };
        let judgment = {
            let pairs = |is_judged: &dyn Fn(&Member) -> bool| -> Vec<Pair<'_>> {
                let judged = self.to_measure().into_iter().filter(|(member, _)| is_judged(member));
                judged.map(|(member, _)| Pair { before: &member.baseline, now: measured.get(&member.id) }).collect()
            };
            let moves = self.moves(stage);
            let own = quality::judge(&pairs(&|member| member.stage == stage), moves, LEAST_SAMPLES);
            let all = quality::judge(&pairs(&|_| true), moves, LEAST_SAMPLES);
            if all.verdict > own.verdict { all } else { own }
        };
        for member in &mut self.members {
            if let Some(measurement) = measured.remove(&member.id) {
                member.latest = Some(measurement);
            }
        }
        self.rollout.checked_at = Some(now);
        self.judged(stage, judgment, now)
    }

    fn judged(&mut self, stage: usize, judgment: Judgment, now: Timestamp) -> Todo {
        let (verdict, reason) = (judgment.verdict, judgment.reason.clone());
        let is_obvious = judgment.figures.degradation.is_none_or(|points| points >= OBVIOUS);
        let (has_soaked, has_failed) = match self.rollout.state {
            State::Soaking { since, .. } => (now >= since + self.soak(stage), self.failed_since(stage, since)),
            _ => (true, true),
        };
        if let Some(stage) = self.rollout.stages.get_mut(stage) {
            (stage.judgment, stage.judged_at) = (Some(judgment), Some(now));
        }
        match verdict {
            QualityVerdict::Fail if has_soaked || is_obvious || has_failed => self.roll_back(stage, &reason, now),
            QualityVerdict::Pass if has_soaked => self.pass(stage, now),
            QualityVerdict::Inconclusive | QualityVerdict::Fail
                if has_soaked && matches!(self.rollout.state, State::Soaking { .. }) =>
            {
                self.rollout.state = State::Held { stage, since: now };
                Todo::Rest(Some(now + BETWEEN_CHECKS))
            }
            QualityVerdict::Inconclusive if self.is_held_out(now) => {
                let minutes = self.rollout.hold.as_secs() / 60;
                self.roll_back(stage, &format!("the gate was inconclusive for {minutes} min: {reason}"), now)
            }
            QualityVerdict::Pass | QualityVerdict::Fail | QualityVerdict::Inconclusive => {
                Todo::Rest(Some(now + BETWEEN_CHECKS))
            }
        }
    }

    /// Whether the last measurement of this soak failed.
    fn failed_since(&self, stage: usize, since: Timestamp) -> bool {
        self.rollout.stages.get(stage).is_some_and(|stage| {
            stage.judged_at.is_some_and(|at| at >= since)
                && stage.judgment.as_ref().is_some_and(|it| it.verdict == QualityVerdict::Fail)
        })
    }

    /// Whether it has been held for as long as allowed.
    fn is_held_out(&self, now: Timestamp) -> bool {
        matches!(self.rollout.state, State::Held { since, .. } if now.since(since) >= self.rollout.hold)
    }

    /// Continues after a passed gate. Stages without instances of their own are skipped.
    fn pass(&mut self, stage: usize, now: Timestamp) -> Todo {
        let next = (stage + 1..self.rollout.stages.len()).find(|&next| self.rollout.stages[next].instances > 0);
        self.rollout.state = match next {
            Some(next) => State::Moving { stage: next, since: now },
            None => State::Retiring { since: now, end: RolloutEnd::Completed, why: None },
        };
        Todo::Rest(Some(now))
    }

    /// Rolls back after a failed stage: the stage or everything.
    fn roll_back(&mut self, stage: usize, why: &str, now: Timestamp) -> Todo {
        let from = match self.rollout.rollback {
            RollbackScope::All => 0,
            RollbackScope::Stage => stage,
        };
        let percent = self.rollout.stages.get(stage).map_or(0, |stage| stage.percent);
        self.go_back(from, format!("the {percent} % stage failed: {why}"), RolloutEnd::RolledBack, now);
        Todo::Work
    }

    /// What has been deleting or restoring instances for longer than [`LONGEST_RECREATION`], in words.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<String> {
        let (State::Retiring { since, .. } | State::RollingBack { since, .. }) = &self.rollout.state else {
            return None;
        };
        let lasts = now.since(*since);
        let waits =
            self.members.iter().filter(|it| it.state == MemberState::Ready || it.is_unfinished_in(&self.rollout));
        let names: Vec<String> = waits.map(|it| format!("{} ({})", it.name, it.id)).collect();
        (lasts > LONGEST_RECREATION && !names.is_empty())
            .then(|| format!("not finished after {}; it waits for {}", in_words(lasts), names.join(", ")))
    }

    /// Aborts it, which puts everything back; `false` if it is over already.
    pub fn abort(&mut self, now: Timestamp) -> bool {
        if self.rollout.state.end().is_some() {
            return false;
        }
        self.rollout.paused_at = None;
        self.go_back(0, "it was aborted".into(), RolloutEnd::Aborted, now);
        true
    }

    fn go_back(&mut self, from: usize, why: String, end: RolloutEnd, now: Timestamp) {
        for member in self.members.iter_mut().filter(|it| it.stage >= from) {
            member.state = match member.state {
                MemberState::Moving | MemberState::Ready => MemberState::Undoing,
                MemberState::Moved => MemberState::Returning,
                state => state,
            };
        }
        self.rollout.state = State::RollingBack { since: now, from, why, end };
    }

    fn finish(&mut self, end: RolloutEnd, why: Option<String>, now: Timestamp) -> Todo {
        let stranded = self.members.iter().find(|it| it.state == MemberState::Stranded);
        let (end, why) = match stranded {
            Some(member) => {
                let note = member.note.as_deref().unwrap_or("it could not be put back");
                (RolloutEnd::Failed, Some(format!("{} ({}): {note}", member.name, member.id)))
            }
            None => (end, why),
        };
        let is_in_vain = end == RolloutEnd::Completed && self.count(MemberState::Moved) == 0;
        let (end, why) = if is_in_vain {
            (RolloutEnd::RolledBack, Some("every instance failed and stays on demand".into()))
        } else {
            (end, why)
        };
        self.rollout.state = State::Over { since: now, end, why };
        Todo::Rest(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::recreation::journal::Cause;
    use crate::core::rollout::course::{Candidate, Costs, Course};
    use crate::core::world::instance::Billing;
    use crate::core::world::probe::{Latency, Probe};

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + 60 * minutes)
    }

    fn measurement() -> Measurement {
        Measurement {
            at: at(0),
            samples: 40,
            errors: 0,
            latency: Some(Latency { least: 9_000, median: 10_000, most: 11_000 }),
            last_error: None,
            untaken: 0,
            given_up: false,
        }
    }

    /// One of two instances, started at minute 0, with a hold of 60 minutes.
    fn fleet() -> Fleet {
        let candidate = |id: &str| Candidate {
            id: InstanceId::new(id),
            name: id.into(),
            gpu_num: 1,
            estimate: Costs::default(),
            on_demand_cost: None,
            baseline: measurement(),
            load: None,
        };
        let course = Course { stages: vec![50, 100], soaks: vec![Duration::from_secs(300); 2], ..Course::default() };
        let candidates = vec![candidate("a"), candidate("b")];
        Fleet::start("rollout-1".into(), candidates, &course, &Probe::Tcp { port: 22 }, (2, 2), at(0))
    }

    #[test]
    fn time_to_come_up_begins_with_the_first_attempt() {
        let mut fleet = fleet();
        // There was no call for three hours.
        assert_eq!(fleet.settle(at(180)), Todo::Work);
        fleet.give_up(&HashMap::new(), at(182));
        assert_eq!(fleet.count(MemberState::Moving), 1);
        // Settling alone gives nothing up, since a successor that was not looked for may run.
        assert_eq!(fleet.settle(at(900)), Todo::Work);
        assert_eq!(fleet.count(MemberState::Moving), 1);
        let cause = Cause::Moved { rollout: "rollout-1".into(), to: Billing::Spot };
        let step = Step::Created { replacement: InstanceId::new("c"), kept: None };
        let made = Recreation { step, ..Recreation::planned("a", cause, "a-recreated-1".into(), at(841)) };
        let journal = HashMap::from([(InstanceId::new("a"), made)]);
        fleet.give_up(&journal, at(900));
        assert_eq!(fleet.count(MemberState::Moving), 1);
        fleet.give_up(&journal, at(901));
        assert_eq!(fleet.count(MemberState::Failed), 1);
        assert_eq!(fleet.settle(at(900)), Todo::Work);
        assert!(matches!(fleet.rollout.state, State::RollingBack { .. }));
    }

    #[test]
    fn what_is_held_for_too_long_is_measured_once_more() {
        for (now, goes_on) in [(Some(measurement()), true), (None, false)] {
            let mut fleet = fleet();
            fleet.rollout.state = State::Held { stage: 0, since: at(0) };
            fleet.rollout.checked_at = Some(at(0));
            (fleet.members[0].state, fleet.members[0].successor) = (MemberState::Ready, Some(InstanceId::new("c")));
            // There was no call for three hours.
            assert_eq!(fleet.settle(at(180)), Todo::Measure);
            let now = now.map(|now| (InstanceId::new("a"), now)).into_iter().collect();
            fleet.judge(now, &HashMap::new(), at(180));
            let state = &fleet.rollout.state;
            assert_eq!(matches!(state, State::Moving { stage: 1, .. }), goes_on, "{state:?}");
            assert_eq!(matches!(state, State::RollingBack { .. }), !goes_on, "{state:?}");
        }
    }
}
