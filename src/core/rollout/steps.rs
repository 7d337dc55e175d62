//! The steps of a rollout: what became of its members, where that leads, and what is to be done about each.

use std::collections::HashMap;
use std::time::Duration;

use crate::core::recreation::journal::{Recreation, Step};
use crate::core::rollout::course::{End, Fleet, Member, MemberState, RollbackScope, State};
use crate::core::rollout::gate::{self, Judgement, LEAST_SAMPLES, Moves, Pair, Verdict};
use crate::core::world::instance::InstanceId;
use crate::core::world::probe::Measurement;
use crate::core::world::time::Timestamp;

/// While a stage soaks it is measured at most so often: a measurement costs the application its samples.
pub const BETWEEN_CHECKS: Duration = Duration::from_secs(60);

/// While a stage soaks it is looked at many times, and each look may err: so one that fails has to be confirmed by the
/// next, unless something is dead, or worse by so many basis points. The gate itself, at the end, decides at once.
const PLAIN: i64 = 2500;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Nothing before then; `None` until somebody or something else changes that.
    Rest(Option<Timestamp>),
    /// The journals of its members go on.
    Work,
    /// Its successors are measured: [`Fleet::to_measure`], then [`Fleet::judge`].
    Measure,
}

impl Fleet {
    /// Goes on from what the members' states allow, and says what is to be done.
    pub fn settle(&mut self, now: Timestamp) -> Todo {
        if self.rollout.paused_at.is_some() {
            return Todo::Rest(None);
        }
        let hold = duration(self.rollout.hold);
        match self.rollout.state.clone() {
            State::Moving { stage, since: _ } => {
                let due = self.members.iter_mut().filter(|it| it.stage <= stage && it.state == MemberState::Waiting);
                if due.map(|member| member.state = MemberState::Moving).count() > 0 {
                    // However long ago the gate before was passed: their time begins with the first attempt.
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
                // It is measured once more when its time is up: perhaps nobody has looked since.
                let due = self.rollout.checked_at.map_or(now, |at| at + BETWEEN_CHECKS).min(since + hold);
                if now < due { Todo::Rest(Some(due)) } else { Todo::Measure }
            }
            State::Retiring { since: _, end, why } => {
                if self.members.iter().any(|it| it.state == MemberState::Ready || it.is_unfinished()) {
                    return Todo::Work;
                }
                self.finish(end, why, now)
            }
            State::RollingBack { since: _, from: _, why, end } => {
                if self.members.iter().any(Member::is_unfinished) {
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

    /// Gives up what has been awaited for too long. Only after it was looked for, and never sooner after it was made: the
    /// schedule may have been away.
    pub fn give_up(&mut self, journal: &HashMap<InstanceId, Recreation>, now: Timestamp) {
        let (State::Moving { since, .. }, None) = (&self.rollout.state, self.rollout.paused_at) else { return };
        let hold = duration(self.rollout.hold);
        let made_at = |id: &InstanceId| {
            let made = journal.get(id).filter(|it| matches!(it.step, Step::Created { .. }));
            made.map_or(*since, |made| made.since.max(*since))
        };
        let minutes = hold.as_secs() / 60;
        let moving = self.members.iter_mut().filter(|it| it.state == MemberState::Moving);
        for member in moving.filter(|it| now.since(made_at(&it.id)) >= hold) {
            member.fail(format!("its spot instance did not run and answer within {minutes} min"));
        }
    }

    fn soak(&self, stage: usize) -> Duration {
        duration(self.rollout.stages.get(stage).map_or(0, |stage| stage.soak))
    }

    /// How the moves went, of the stage itself or of everything so far: the worse of both counts. A stage must not hide
    /// behind those that passed before it, nor what became of them since.
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

    /// Why too many moves of a stage failed, if so. That needs no measurement.
    fn moves_failed(&mut self, stage: usize) -> Option<String> {
        let judgement = gate::judge(&[], self.moves(stage), LEAST_SAMPLES);
        let failed = judgement.verdict == Verdict::Fail;
        failed.then(|| {
            let reason = judgement.reason.clone();
            let failed = self.members.iter().filter(|it| it.stage <= stage && it.state == MemberState::Failed);
            let first = failed.max_by_key(|it| it.stage);
            let first = first.and_then(|it| Some(format!("; {} ({}): {}", it.name, it.id, it.note.as_ref()?)));
            if let Some(stage) = self.rollout.stages.get_mut(stage) {
                stage.judgement = Some(judgement);
            }
            format!("{reason}{}", first.unwrap_or_default())
        })
    }

    /// What is measured now: each member with its successor.
    #[must_use]
    pub fn to_measure(&self) -> Vec<(&Member, &InstanceId)> {
        let members = self.members.iter().filter(|it| matches!(it.state, MemberState::Ready | MemberState::Moved));
        members.filter_map(|member| Some((member, member.successor.as_ref()?))).collect()
    }

    /// Judges the stage from measurements by the member's id, and goes on from that. Here, too, the stage itself is judged
    /// and everything that was moved so far, and the worse verdict counts.
    pub fn judge(&mut self, mut measured: HashMap<InstanceId, Measurement>, now: Timestamp) -> Todo {
        let (State::Soaking { stage, .. } | State::Held { stage, .. }) = self.rollout.state else {
            return Todo::Rest(None);
        };
        let judgement = {
            let pairs = |is_judged: &dyn Fn(&Member) -> bool| -> Vec<Pair<'_>> {
                let judged = self.to_measure().into_iter().filter(|(member, _)| is_judged(member));
                judged.map(|(member, _)| Pair { before: &member.baseline, now: measured.get(&member.id) }).collect()
            };
            let moves = self.moves(stage);
            let own = gate::judge(&pairs(&|member| member.stage == stage), moves, LEAST_SAMPLES);
            let all = gate::judge(&pairs(&|_| true), moves, LEAST_SAMPLES);
            if severity(all.verdict) > severity(own.verdict) { all } else { own }
        };
        for member in &mut self.members {
            if let Some(measurement) = measured.remove(&member.id) {
                member.latest = Some(measurement);
            }
        }
        self.rollout.checked_at = Some(now);
        self.judged(stage, judgement, now)
    }

    fn judged(&mut self, stage: usize, judgement: Judgement, now: Timestamp) -> Todo {
        let (verdict, reason) = (judgement.verdict, judgement.reason.clone());
        let is_plain = judgement.effect.degradation.is_none_or(|points| points >= PLAIN);
        let (has_soaked, has_failed) = match self.rollout.state {
            State::Soaking { since, .. } => (now >= since + self.soak(stage), self.failed_since(stage, since)),
            _ => (true, true),
        };
        if let Some(stage) = self.rollout.stages.get_mut(stage) {
            (stage.judgement, stage.judged_at) = (Some(judgement), Some(now));
        }
        match verdict {
            Verdict::Fail if has_soaked || is_plain || has_failed => self.roll_back(stage, &reason, now),
            Verdict::Pass if has_soaked => self.pass(stage, now),
            Verdict::Inconclusive if has_soaked && matches!(self.rollout.state, State::Soaking { .. }) => {
                self.rollout.state = State::Held { stage, since: now };
                Todo::Rest(Some(now + BETWEEN_CHECKS))
            }
            Verdict::Inconclusive if self.is_held_out(now) => {
                let minutes = duration(self.rollout.hold).as_secs() / 60;
                self.roll_back(stage, &format!("for {minutes} min it could not be told: {reason}"), now)
            }
            Verdict::Pass | Verdict::Fail | Verdict::Inconclusive => Todo::Rest(Some(now + BETWEEN_CHECKS)),
        }
    }

    /// Whether the last measurement of this soak failed.
    fn failed_since(&self, stage: usize, since: Timestamp) -> bool {
        self.rollout.stages.get(stage).is_some_and(|stage| {
            stage.judged_at.is_some_and(|at| at >= since)
                && stage.judgement.as_ref().is_some_and(|it| it.verdict == Verdict::Fail)
        })
    }

    /// Whether it is held, for as long as may be.
    fn is_held_out(&self, now: Timestamp) -> bool {
        matches!(self.rollout.state, State::Held { since, .. } if now.since(since) >= duration(self.rollout.hold))
    }

    /// The gate of a stage is passed. Stages that have no instance of their own have nothing to show.
    fn pass(&mut self, stage: usize, now: Timestamp) -> Todo {
        let next = (stage + 1..self.rollout.stages.len()).find(|&next| self.rollout.stages[next].instances > 0);
        self.rollout.state = match next {
            Some(next) => State::Moving { stage: next, since: now },
            None => State::Retiring { since: now, end: End::Completed, why: None },
        };
        Todo::Rest(Some(now))
    }

    /// A stage failed: it goes back, or everything does.
    fn roll_back(&mut self, stage: usize, why: &str, now: Timestamp) -> Todo {
        let from = match self.rollout.rollback {
            RollbackScope::All => 0,
            RollbackScope::Stage => stage,
        };
        let percent = self.rollout.stages.get(stage).map_or(0, |stage| stage.percent);
        self.go_back(from, format!("the {percent} % stage failed: {why}"), End::RolledBack, now);
        Todo::Work
    }

    /// A person ends it: everything goes back. `false` if it is over already.
    pub fn abort(&mut self, now: Timestamp) -> bool {
        if self.rollout.state.end().is_some() {
            return false;
        }
        self.rollout.paused_at = None;
        self.go_back(0, "it was aborted".into(), End::Aborted, now);
        true
    }

    fn go_back(&mut self, from: usize, why: String, end: End, now: Timestamp) {
        for member in self.members.iter_mut().filter(|it| it.stage >= from) {
            member.state = match member.state {
                MemberState::Moving | MemberState::Ready => MemberState::Undoing,
                MemberState::Moved => MemberState::Returning,
                state => state,
            };
        }
        self.rollout.state = State::RollingBack { since: now, from, why, end };
    }

    fn finish(&mut self, end: End, why: Option<String>, now: Timestamp) -> Todo {
        let stranded = self.members.iter().find(|it| it.state == MemberState::Stranded);
        let (end, why) = match stranded {
            Some(member) => {
                let note = member.note.as_deref().unwrap_or("it could not be put back");
                (End::Failed, Some(format!("{} ({}): {note}", member.name, member.id)))
            }
            None => (end, why),
        };
        self.rollout.state = State::Over { since: now, end, why };
        Todo::Rest(None)
    }
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Inconclusive => 1,
        Verdict::Fail => 2,
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

    /// One of two instances, begun at minute 0, with a hold of 60 minutes.
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
        Fleet::begin("rollout-1".into(), candidates, &course, &Probe::Tcp { port: 22 }, (2, 2), at(0))
    }

    #[test]
    fn time_to_come_up_begins_with_the_first_attempt() {
        let mut fleet = fleet();
        // Nobody called for three hours.
        assert_eq!(fleet.settle(at(180)), Todo::Work);
        fleet.give_up(&HashMap::new(), at(182));
        assert_eq!(fleet.count(MemberState::Moving), 1);
        // And settling alone gives nothing up: what nobody has looked for may run.
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
            // Nobody called for three hours.
            assert_eq!(fleet.settle(at(180)), Todo::Measure);
            fleet.judge(now.map(|now| (InstanceId::new("a"), now)).into_iter().collect(), at(180));
            let state = &fleet.rollout.state;
            assert_eq!(matches!(state, State::Moving { stage: 1, .. }), goes_on, "{state:?}");
            assert_eq!(matches!(state, State::RollingBack { .. }), !goes_on, "{state:?}");
        }
    }
}
