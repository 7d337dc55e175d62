//! What must be true of a world after rollouts were made in it, whatever went wrong meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};

use novita_sim::{Machine, Op, Outcome, World};
use respot::core::recreation::journal::Recreation;
use respot::core::rollout::course::{Fleet, Member, MemberState, Rollout, RolloutEnd, State};
use respot::core::rollout::quality::QualityVerdict;
use respot::core::world::instance::InstanceId;
use respot::core::world::policy::{Policy, Scope};
use respot::core::world::time::millis;

use super::Tally;
use super::cast::Taste;
use crate::simulation::judge::{Families, check_creates};
use crate::simulation::store::{Intent, Noted};

/// A deletion may take effect so long after the last look at what it is based on: its request, or the program itself, was
/// held up. In milliseconds.
const HELD_UP: i64 = 150_000;

/// Everything that is judged.
pub(super) struct Evidence<'a> {
    /// The world in the end.
    pub(super) world: &'a World,
    /// Intents to create that were stored.
    pub(super) intents: &'a [Intent],
    /// What was stored about rollouts.
    pub(super) told: &'a [(i64, Noted)],
    /// The last rollout.
    pub(super) fleet: Option<&'a Fleet>,
    /// The journal in the end.
    pub(super) journal: &'a HashMap<InstanceId, Recreation>,
    /// Instances that the provider took away for good, or that their user stopped.
    pub(super) excused: &'a BTreeSet<String>,
    /// Instances that nobody may touch.
    pub(super) untouchable: &'a [String],
    pub(super) taste: Taste,
    pub(super) policy: &'a Policy,
    /// Whether the store forgot everything once.
    pub(super) flushed: bool,
    /// Whether nothing went wrong but for the program itself, which may have been killed.
    pub(super) was_easy: bool,
}

/// The first thing that is wrong, if anything is.
pub(super) fn judge(evidence: &Evidence<'_>, tally: &mut Tally) -> Result<(), String> {
    let families = Families::of(evidence.world);
    let all = families.all();
    let court = Court { evidence, families, all };
    court.count(tally);
    court.check_writes()?;
    check_creates(evidence.world.log(), evidence.intents)?;
    court.check_deletions(tally)?;
    court.check_terminal()?;
    court.check_families()?;
    court.check_end()?;
    court.check_journal()
}

struct Court<'a> {
    evidence: &'a Evidence<'a>,
    families: Families<'a>,
    /// All instances by the one that their family began with.
    all: HashMap<&'a str, Vec<&'a Machine>>,
}

impl<'a> Court<'a> {
    fn count(&self, tally: &mut Tally) {
        let mut seen: HashSet<(String, &'static str)> = HashSet::new();
        for (_, noted) in self.evidence.told {
            match noted {
                Noted::Rollout(rollout) => {
                    let word = match rollout.state {
                        State::Over { end: RolloutEnd::Completed, .. } => "completed",
                        State::Over { end: RolloutEnd::RolledBack, .. } => "rolled back",
                        State::Over { end: RolloutEnd::Aborted, .. } => "aborted",
                        State::Over { end: RolloutEnd::Failed, .. } => "failed",
                        State::Held { .. } => "held",
                        State::Retiring { .. } => "retiring",
                        State::RollingBack { .. } => "rolling back",
                        State::Moving { .. } | State::Soaking { .. } => continue,
                    };
                    if seen.insert((rollout.id.clone(), word)) {
                        tally.note(word);
                    }
                }
                Noted::Member(member) => {
                    let word = match member.state {
                        MemberState::Returning => "returning members",
                        MemberState::Stranded => "stranded members",
                        MemberState::Failed => "failed members",
                        MemberState::Moved => "moved members",
                        MemberState::Restored => "restored members",
                        _ => continue,
                    };
                    if seen.insert((member.id.to_string(), word)) {
                        tally.note(word);
                    }
                }
                Noted::Forgotten => tally.note("begun"),
            }
        }
        let world = self.evidence.world;
        for entry in world.log().iter().filter(|it| it.op == Op::Create && it.outcome == Outcome::Applied) {
            let is_recent =
                |(marker, at): &&Intent| *marker == entry.name && (0..120_000).contains(&(entry.at_ms - at));
            if !self.evidence.intents.iter().any(|it| is_recent(&it)) {
                tally.note("late creates");
            }
            let was_on_demand =
                self.families.parent.get(entry.instance.as_str()).is_some_and(|old| self.mode(old) == "onDemand");
            if was_on_demand && self.mode(&entry.instance) != "spot" {
                tally.note("misbilled");
            }
        }
    }

    fn family(&self, id: &'a str) -> &[&'a Machine] {
        self.all.get(self.families.root(id)).map_or(&[], Vec::as_slice)
    }

    fn machine(&self, id: &str) -> Option<&'a Machine> {
        self.families.by_id.get(id).copied()
    }

    fn mode(&self, id: &str) -> &'a str {
        self.machine(id).map_or("", |machine| &machine.billing_mode)
    }

    /// Whether others than the program took something of this family.
    fn is_excused(&self, root: &str) -> bool {
        self.evidence.excused.iter().any(|id| self.families.root(id) == root)
    }

    /// Whether an instance was running at a time, or not long before.
    fn ran_at(&self, id: &str, at: i64) -> bool {
        let mut runs = self.evidence.world.runs_of(id).into_iter();
        runs.any(|run| run.from_ms <= at && run.to_ms.is_none_or(|to| to >= at - HELD_UP))
    }

    /// Whether its user stopped it.
    fn stopped_before(&self, id: &str, at: i64) -> bool {
        self.evidence.excused.contains(id) && !self.ran_at(id, at + HELD_UP)
    }

    /// Whether there was such an instance at a time, or not long before.
    fn was_there(&self, id: &str, at: i64) -> bool {
        let world = self.evidence.world;
        self.machine(id).is_some_and(|it| it.created_at <= at)
            && world.gone_at_ms(id).is_none_or(|gone| gone >= at - HELD_UP)
    }

    /// Nobody writes to what is none of the program's business.
    fn check_writes(&self) -> Result<(), String> {
        let Evidence { world, untouchable, told, policy, .. } = self.evidence;
        let members: HashSet<&str> = told
            .iter()
            .filter_map(|(_, noted)| if let Noted::Member(member) = noted { Some(member.id.as_str()) } else { None })
            .collect();
        for entry in world.log().iter().filter(|entry| entry.outcome == Outcome::Applied) {
            let id = entry.instance.as_str();
            if untouchable.iter().any(|it| it == id) {
                return Err(format!("to be left alone: {id}: {entry:?}"));
            }
            let root = self.families.root(id);
            let may = policy.scope == Scope::All || self.mode(root) != "onDemand" || members.contains(root);
            if !may {
                return Err(format!("no member was written to: {id}: {entry:?}"));
            }
            if entry.op == Op::Migrate && self.mode(id) == "onDemand" && policy.scope != Scope::All {
                return Err(format!("an on-demand instance was migrated: {id}"));
            }
        }
        Ok(())
    }

    fn check_deletions(&self, tally: &mut Tally) -> Result<(), String> {
        let world = self.evidence.world;
        for entry in world.log().iter().filter(|it| it.op == Op::Delete && it.outcome == Outcome::Applied) {
            let (id, at) = (entry.instance.as_str(), entry.at_ms);
            let family = self.family(id);
            let is_left = |it: &&Machine| it.id != id && self.was_there(&it.id, at);
            if !family.iter().any(is_left) {
                return Err(format!("the last of its family was deleted: {id}"));
            }
            let is_original = self.mode(id) == "onDemand" && !self.families.parent.contains_key(id);
            let spot = self.families.children(id).iter().filter(|it| it.billing_mode == "spot");
            let spot: Vec<&str> = spot.map(|it| it.id.as_str()).filter(|it| self.ran_at(it, at)).collect();
            if is_original {
                let runs_on_demand = |it: &&&Machine| it.billing_mode == "onDemand" && self.ran_at(&it.id, at);
                let recreated = self.evidence.policy.scope == Scope::All
                    && self.families.children(id).iter().any(|it| runs_on_demand(&it));
                if recreated && spot.is_empty() {
                    continue;
                }
                // A pass that manages on-demand instances, too, and knows nothing of a rollout that was forgotten, or tried
                // to bring back what was stopped, keeps the one of two that runs.
                let may_decide = self.evidence.flushed || world.accepted_migrations_of(id) > 0;
                if may_decide && self.evidence.policy.scope == Scope::All && self.stopped_before(id, at) {
                    continue;
                }
                tally.note("retired");
                self.check_retirement(id, at, &spot)?;
                continue;
            }
            let replaced = self.families.children(id).iter().any(|it| self.ran_at(&it.id, at));
            let given_up = self.families.parent.get(id).is_some_and(|old| {
                let twin = self.families.children(old).iter().any(|it| it.id != id && self.ran_at(&it.id, at));
                // A successor of an on-demand instance goes while that runs; one of an instance that does not run any more
                // goes while there is still something to make another one of.
                let stays = if self.mode(old) == "onDemand" && self.evidence.policy.scope == Scope::Spot {
                    self.ran_at(old, at)
                } else {
                    self.was_there(old, at)
                };
                stays || twin
            });
            if !replaced && !given_up {
                return Err(format!("deleted before its replacement ran: {id}"));
            }
        }
        Ok(())
    }

    /// An on-demand instance went: its successor had soaked, and the gate was passed.
    fn check_retirement(&self, id: &str, at: i64, spot: &[&str]) -> Result<(), String> {
        let Evidence { world, told, taste, .. } = self.evidence;
        if spot.is_empty() {
            return Err(format!("an on-demand instance was deleted without a successor: {id}"));
        }
        if *taste == Taste::Bad {
            return Err(format!("an on-demand instance went whose application does badly on spot: {id}"));
        }
        let mut soak = None;
        let mut head: Option<&Rollout> = None;
        let mut retires = false;
        let mut member: Option<&Member> = None;
        for (_, noted) in told.iter().filter(|(then, _)| *then <= at) {
            match noted {
                Noted::Forgotten => (head, member, retires) = (None, None, false),
                Noted::Rollout(rollout) => {
                    head = Some(rollout);
                    retires |= matches!(rollout.state, State::Retiring { .. });
                }
                Noted::Member(it) if it.id.as_str() == id => member = Some(it),
                Noted::Member(_) => {}
            }
            if let (Some(head), Some(member)) = (head, member) {
                let stage = head.stages.get(member.stage);
                let passed = stage
                    .filter(|stage| stage.judgment.as_ref().is_some_and(|it| it.verdict == QualityVerdict::Pass))
                    .filter(|_| retires);
                soak = passed.map(|stage| millis(stage.soak)).or(soak);
            }
        }
        let Some(soak) = soak else {
            return Err(format!(
                "an on-demand instance went before its successor had soaked and the gate was passed: {id}"
            ));
        };
        let has_soaked = |id: &&&str| {
            let mut runs = world.runs_of(id).into_iter();
            runs.any(|run| run.from_ms <= at - soak && run.to_ms.is_none_or(|to| to >= at - HELD_UP))
        };
        if spot.iter().any(|id| has_soaked(&id)) {
            return Ok(());
        }
        Err(format!("an on-demand instance went before its successor had soaked: {id}"))
    }

    /// What is over stays so.
    fn check_terminal(&self) -> Result<(), String> {
        let mut over: HashMap<&str, &State> = HashMap::new();
        for (_, noted) in self.evidence.told {
            let Noted::Rollout(rollout) = noted else { continue };
            if let Some(state) = over.get(rollout.id.as_str()).filter(|state| ***state != rollout.state) {
                return Err(format!("a rollout that was over goes on: {state:?} -> {:?}", rollout.state));
            }
            if rollout.state.end().is_some() {
                over.insert(&rollout.id, &rollout.state);
            }
        }
        Ok(())
    }

    /// The living instances of a family.
    fn living(&self, family: &[&'a Machine]) -> Vec<&'a Machine> {
        family.iter().copied().filter(|it| it.is_alive() && self.evidence.world.get(&it.id).is_some()).collect()
    }

    fn is_stranded(&self, root: &str) -> bool {
        let members = self.evidence.told.iter().filter_map(|(_, noted)| match noted {
            Noted::Member(member) if member.state == MemberState::Stranded => Some(member),
            _ => None,
        });
        members.into_iter().any(|member| self.families.root(member.id.as_str()) == root)
    }

    /// Whether a successor runs beside its on-demand instance since a rollout was forgotten with the whole store, and no
    /// later one came as far as that instance. A pass that does not manage on-demand instances leaves both.
    fn is_forgotten(&self, root: &str, living: &[&Machine]) -> bool {
        let is_through = |fleet: &Fleet| {
            let member = fleet.members.iter().find(|it| self.families.root(it.id.as_str()) == root);
            member.is_some_and(|it| matches!(it.state, MemberState::Moved | MemberState::Restored))
        };
        self.evidence.flushed
            && living.len() > 1
            && living.iter().any(|it| it.billing_mode == "onDemand" && it.status == "running")
            && !self.evidence.fleet.is_some_and(is_through)
    }

    fn check_families(&self) -> Result<(), String> {
        let Evidence { world, excused, .. } = self.evidence;
        for (&root, family) in &self.all {
            let living = self.living(family);
            let was_taken = family.iter().any(|it| excused.contains(&it.id) && world.get(&it.id).is_none());
            if living.is_empty() && !was_taken {
                return Err(format!("everything is lost: {root}"));
            }
            if self.is_excused(root) || self.is_stranded(root) {
                continue;
            }
            if self.is_forgotten(root, &living) {
                continue;
            }
            // A replacement that a pass asked for as spot and got as something else is out of its scope, and not
            // what rollouts are about.
            if self.mode(root) == "spot" && living.iter().any(|it| it.billing_mode != "spot") {
                continue;
            }
            if living.len() > 1 {
                let words: Vec<_> = living.iter().map(|it| (&it.id, &it.billing_mode, &it.status)).collect();
                return Err(format!("{} instances live: {root}: {words:?}", living.len()));
            }
            if self.evidence.untouchable.iter().any(|it| it == root) {
                continue;
            }
            if let Some(down) = living.iter().find(|it| it.status != "running") {
                return Err(format!("it does not run in the end: {} is {}", down.id, down.status));
            }
        }
        Ok(())
    }

    /// How the last rollout ended is how the world is.
    fn check_end(&self) -> Result<(), String> {
        let Some(Fleet { rollout, members }) = self.evidence.fleet else { return Ok(()) };
        let Some(end) = rollout.state.end() else { return Err(format!("it does not end: {rollout:?}")) };
        if self.evidence.was_easy
            && (end != RolloutEnd::Completed || members.iter().any(|it| it.state != MemberState::Moved))
        {
            return Err(format!("there is no reason not to complete: {rollout:?} {members:?}"));
        }
        let last = self.evidence.told.iter().rev().find_map(|(_, noted)| match noted {
            Noted::Rollout(it) if it.id == rollout.id => match it.state {
                State::RollingBack { from, .. } => Some(from),
                _ => None,
            },
            _ => None,
        });
        for member in members {
            let root = self.families.root(member.id.as_str());
            if self.is_excused(root) {
                continue;
            }
            let living = self.living(self.family(root));
            let [one] = living[..] else { continue };
            let wanted = match (end, member.state) {
                (RolloutEnd::Failed, MemberState::Stranded) => continue,
                (_, MemberState::Moved) if last.is_none_or(|from| member.stage < from) => "spot",
                (_, MemberState::Failed | MemberState::Restored) => "onDemand",
                (RolloutEnd::Aborted | RolloutEnd::RolledBack | RolloutEnd::Failed, MemberState::Waiting) => "onDemand",
                (end, state) => return Err(format!("a member of a rollout that is {end:?} is {state:?}: {member:?}")),
            };
            if one.billing_mode != wanted {
                return Err(format!(
                    "a member that is {:?} is billed as {}: {}",
                    member.state, one.billing_mode, one.id
                ));
            }
        }
        Ok(())
    }

    fn check_journal(&self) -> Result<(), String> {
        for (id, recreation) in self.evidence.journal.iter().filter(|(_, it)| !it.step.is_over()) {
            // Without the old one, nothing can be done about a new one that hangs on its way up.
            let new = recreation.step.replacement().and_then(|new| self.evidence.world.get(new.as_str()));
            let hangs = self.evidence.world.get(id.as_str()).is_none() && new.is_some_and(|it| it.status == "creating");
            if !hangs && !self.is_excused(self.families.root(id.as_str())) {
                return Err(format!("a recreation is still open: {id}: {recreation:?}"));
            }
        }
        Ok(())
    }
}
