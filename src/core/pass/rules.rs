//! The rules that a verdict follows, in their order: the first that has an answer decides.
//!
//! Each rule answers independently of the others, so that the verdict and an explanation, which asks all of them, cannot
//! disagree. A new rule is a variant of [`Rule`] with its answer in `View::answer` and its facts in `View::facts`.

use strum::VariantArray as _;

use crate::core::pass::failures::Failures;
use crate::core::pass::ledger::{Call, InFlight, KnownJob, Ledger, Stamp};
use crate::core::pass::verdict::{Decision, Eligible, FailedJob, Instead, Recreating, Skip};
use crate::core::recreation::journal::{Cause, Next, Recreation, Rest, Step, next};
use crate::core::recreation::marker::{Mark, base_of, is_bridge, marked_name, replacement_name};
use crate::core::world::instance::{Billing, Instance, InstanceId, Status};
use crate::core::world::policy::{Eligibility, Escalation, Halves, Ladder, Policy, Prefer, RecreateOrder, Selector};
use crate::core::world::snapshot::{JobIndex, Snapshot};
use crate::core::world::time::{Timestamp, in_words};
use crate::core::world::times::{LONGEST_NOTICE, PATIENCE, SETTLE_TIME};

/// One question about an instance, in the order in which they are asked. The machine names are only added to, never
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Rule {
    /// Does `--only` name it?
    Selected,
    NotExcluded,
    /// Is it looked after at all, by the provider's facts?
    Ours,
    InScope,
    /// Is no other instance with the same marker more advanced?
    OneOfItsMarker,
    NotInRollout,
    NoRecreation,
    /// Is it not about to be reclaimed, or does the policy wait for the end?
    NotAnnounced,
    /// Is it not an on-demand instance that stands in?
    NotBridge,
    /// Is its status one that a pass acts on?
    Stopped,
    /// Is none of the provider's jobs at work on it?
    NoUnfinishedJob,
    /// Is the end of the last call known?
    CallSettled,
    /// Is there evidence of a reclaim, if the policy asks for it?
    ReclaimEvidence,
    MigrationNotFailed,
    /// Is it not in the middle of a migration?
    NotMigrating,
    /// Is it no replacement that is about to be given up?
    NotGivenUp,
    PassMigrates,
    /// Is it known what it is made of?
    Configured,
    /// Is there room in its own market, as far as is known?
    RoomAtHome,
    /// Is the last attempt long enough ago?
    CooledDown,
}

/// So many migrate calls without an effect are enough: a proved reclaim is brought back elsewhere.
const MOST_FRUITLESS_CALLS: u32 = 2;

/// Whether a pattern means an instance: by its ID, its name, or the name that it had before it was recreated.
pub(in crate::core) fn selects(selector: &Selector, id: &InstanceId, name: &str) -> bool {
    selector.matches(id, name) || selector.matches_text(base_of(name))
}

/// The patterns of a policy that mean none of these instances.
pub fn idle_patterns<'a>(policy: &'a Policy, listed: &'a [Instance]) -> impl Iterator<Item = &'a Selector> {
    let means_any = |selector: &Selector| listed.iter().any(|it| selects(selector, &it.id, &it.name));
    policy.only.iter().chain(&policy.exclude).filter(move |selector| !means_any(selector))
}

/// Everything a verdict on one instance depends on.
pub(in crate::core) struct View<'a> {
    pub(in crate::core) ledger: &'a Ledger,
    pub(in crate::core) policy: &'a Policy,
    pub(in crate::core) jobs: &'a JobIndex<'a>,
    pub(in crate::core) failures: Failures<'a>,
    pub(in crate::core) now: Timestamp,
}

impl<'a> View<'a> {
    pub(in crate::core) fn new(
        snapshot: &'a Snapshot,
        ledger: &'a Ledger,
        policy: &'a Policy,
        jobs: &'a JobIndex<'a>,
        now: Timestamp,
    ) -> Self {
        let overlap = policy.notice.map(|notice| notice.overlap);
        Self { ledger, policy, jobs, failures: Failures::new(snapshot, ledger, jobs, overlap, now), now }
    }

    /// The verdict: what the first rule that has an answer says.
    pub(in crate::core) fn decide(&self, instance: &Instance) -> Decision {
        let answer = Rule::VARIANTS.iter().find_map(|rule| self.answer(*rule, instance));
        answer.unwrap_or_else(|| match self.cooldown(instance) {
            Ok(eligible) => {
                let is_proved = self.failures.reclaimed_at(instance).is_some();
                let job_before = self.newest_job(&instance.id);
                Decision::Migrate { eligible, job_before, is_proved, otherwise: Box::default() }
            }
            Err(skip) => Decision::Skip(skip),
        })
    }

    fn newest_job(&self, id: &InstanceId) -> Option<Box<KnownJob>> {
        let job = self.jobs.newest_migration(id)?;
        Some(Box::new(KnownJob { id: job.id.clone(), created_at: job.created_at }))
    }

    /// What one rule says about an instance; `None` if it leaves the verdict to those behind it.
    pub(in crate::core) fn answer(&self, rule: Rule, instance: &Instance) -> Option<Decision> {
        let Policy { only, exclude, scope, eligibility, halves, .. } = self.policy;
        let Instance { id, name, status, billing, .. } = instance;
        let recreates = self.recreates();
        match rule {
            Rule::Selected => {
                let is_selected = only.is_empty() || only.iter().any(|selector| selects(selector, id, name));
                (!is_selected).then_some(Decision::Skip(Skip::NotSelected))
            }
            Rule::NotExcluded => {
                let excluded = exclude.iter().position(|selector| selects(selector, id, name));
                let excluded = excluded.map(|selector| Skip::Excluded { selector });
                // A pattern may mean the name that its row lacks.
                excluded
                    .or_else(|| (name.is_empty() && !exclude.is_empty()).then_some(Skip::Nameless))
                    .map(Decision::Skip)
            }
            Rule::Ours => {
                let foreign = instance.aside.as_ref().filter(|aside| aside.is_foreign())?;
                Some(Decision::Skip(Skip::Aside(foreign.clone())))
            }
            Rule::InScope => {
                // What stands in for a spot instance is looked after like one.
                let is_covered = scope.covers(billing) || is_bridge(name);
                (!is_covered).then_some(Decision::Skip(Skip::OutOfScope))
            }
            Rule::OneOfItsMarker => {
                let duplicate = self.failures.duplicate(id).filter(|_| recreates)?;
                let of = duplicate.of.clone();
                match duplicate.may_go {
                    true => Some(Decision::Retire { keep: of }),
                    // Two recreations, each of one of them, would not be known as duplicates any more.
                    false if *status == Status::Exited => Some(Decision::Skip(Skip::Duplicate { of })),
                    false => None,
                }
            }
            Rule::NotInRollout => self.failures.moving(id).map(|(old, to)| {
                let (old, to) = (old.clone(), Box::new(to.clone()));
                Decision::Skip(Skip::Moving { old, to })
            }),
            // A rollout's recreation is answered above; a pass leaves it alone.
            Rule::NoRecreation if self.failures.moving(id).is_some() => None,
            Rule::NoRecreation => {
                let recreation = self.failures.recreation(instance)?;
                if !recreates {
                    return Some(Decision::Skip(Skip::RecreationOpen));
                }
                Some(self.go_on(id, recreation))
            }
            Rule::NotAnnounced => self.replaced_ahead(instance),
            Rule::NotBridge => self.returned(instance),
            Rule::Stopped => {
                let may_act = matches!(status, Status::Exited | Status::Migrating);
                (!may_act).then(|| Decision::Skip(self.not_exited(instance)))
            }
            Rule::NoUnfinishedJob => {
                let job = self.jobs.unfinished(id)?;
                // A migration job is what `migrating` means.
                let says_nothing_new = *status == Status::Migrating && job.kind.is_migration();
                Some(Decision::Skip(if says_nothing_new {
                    self.not_exited(instance)
                } else {
                    Skip::JobUnfinished { job: job.id.clone(), kind: job.kind.clone() }
                }))
            }
            Rule::CallSettled => {
                let InFlight { called_at, .. } = *self.unsettled(id).filter(|_| *status == Status::Exited)?;
                Some(Decision::Skip(Skip::Unsettled { called_at, until: called_at + SETTLE_TIME }))
            }
            Rule::ReclaimEvidence => {
                let is_wanted = *eligibility == Eligibility::Reclaimed && *status == Status::Exited;
                // A replacement that never ran was not stopped by a person either.
                let may_act = || self.failures.has_evidence(id) || self.failures.never_ran(instance);
                (is_wanted && !may_act()).then_some(Decision::Skip(Skip::NoReclaimEvidence))
            }
            Rule::MigrationNotFailed => {
                let cause = self.failures.failure(instance).filter(|_| recreates)?;
                if let Some(of) = self.failures.replaces(id) {
                    return Some(Decision::Skip(Skip::ReplacementFailed { of: of.clone() }));
                }
                let marker = replacement_name(id, name, cause.decided_by());
                Some(self.go_on(id, Recreation::planned(name, cause, marker, self.now)))
            }
            Rule::NotMigrating => (*status == Status::Migrating).then(|| Decision::Skip(self.not_exited(instance))),
            Rule::NotGivenUp => {
                let of = self.given_up(id).filter(|_| recreates)?;
                Some(Decision::Skip(Skip::ReplacementFailed { of: of.clone() }))
            }
            Rule::PassMigrates => {
                let acts = self.failures.can_migrate() || self.may_escalate(instance);
                let migrates = *halves != Halves::RecreateOnly && acts;
                (!migrates).then_some(Decision::Skip(Skip::NotFailed))
            }
            Rule::Configured => {
                let record = self.ledger.launch_records.get(id);
                // Of one that runs, the record is not read.
                let is_on_record = *status == Status::Running && self.ledger.kept.contains_key(id);
                let is_known =
                    !self.failures.forgets_ended() || is_on_record || record.is_some_and(|it| it.blueprint.is_some());
                let problem = record.and_then(|it| it.problem.as_deref()).map(Into::into);
                (!is_known).then_some(Decision::Skip(Skip::ConfigurationUnknown { problem }))
            }
            Rule::RoomAtHome => {
                let rests = self.rests_at_home(instance);
                match (self.may_escalate(instance), rests) {
                    (true, _) if !self.failures.can_migrate() => Some(self.escalate(instance, Instead::NoMigration)),
                    (true, Some(until)) => Some(self.escalate(instance, Instead::NoRoom { until })),
                    (true, None) if self.fruitless_calls(id) >= MOST_FRUITLESS_CALLS => {
                        Some(self.escalate(instance, Instead::NoEffect { calls: self.fruitless_calls(id) }))
                    }
                    (true, None) if matches!(self.policy.ladder, Ladder::Recreate | Ladder::RecreateMigrate) => {
                        Some(self.escalate(instance, Instead::Ladder))
                    }
                    (true, None) if self.policy.placing.prefer == Prefer::Market && self.cooldown(instance).is_ok() => {
                        Some(self.escalate(instance, Instead::Ranked))
                    }
                    (false, Some(until)) => {
                        let detail = "its own market refused it".into();
                        let is_proved = self.failures.reclaimed_at(instance).is_some();
                        Some(Decision::Skip(Skip::NoRoom { until: Some(until), detail, is_proved }))
                    }
                    (_, None) => None,
                }
            }
            Rule::CooledDown => Some(match self.cooldown(instance).err()? {
                Skip::CoolingDown { last, until } if self.may_escalate(instance) => {
                    self.escalate(instance, Instead::CoolingDown { last, until })
                }
                skip => Decision::Skip(skip),
            }),
        }
    }

    /// Whether the instance may be replaced by a new one elsewhere because it was reclaimed. A replacement in an open
    /// recreation is handled by that.
    pub(in crate::core) fn may_escalate(&self, instance: &Instance) -> bool {
        let Policy { halves, escalation, ladder, .. } = self.policy;
        let is_allowed = match escalation {
            _ if *ladder == Ladder::Migrate => false,
            Escalation::Never => false,
            Escalation::Evidence => self.failures.reclaimed_at(instance).is_some(),
            Escalation::Always => instance.status == Status::Exited,
        };
        *halves == Halves::Both && is_allowed && self.failures.replaces(&instance.id).is_none()
    }

    /// What the policy says about an instance that runs and is to be reclaimed: it is replaced before, within the lead.
    fn replaced_ahead(&self, instance: &Instance) -> Option<Decision> {
        let Policy { notice, halves, escalation, recreate_order, .. } = self.policy;
        let end = self.announced_end(instance)?;
        let is_due = notice.is_some_and(|notice| self.now + notice.lead >= end);
        let may_replace = *halves == Halves::Both
            && *escalation != Escalation::Never
            && *recreate_order == RecreateOrder::CreateFirst
            && self.failures.replaces(&instance.id).is_none();
        (is_due && may_replace).then(|| self.recreate(instance, Cause::Announced))
    }

    /// When an instance that runs is to be reclaimed. A time that keeps moving away is not believed.
    pub(in crate::core) fn announced_end(&self, instance: &Instance) -> Option<Timestamp> {
        let notice = instance.reclaim.as_ref().filter(|_| instance.status == Status::Running)?;
        let seen = self.ledger.observations.get(&instance.id).filter(|seen| seen.is_about_this_life(instance));
        let first_seen_at = seen.map_or(self.now, |seen| seen.first_seen_at);
        Some(notice.reclaim_at.min(first_seen_at + LONGEST_NOTICE))
    }

    /// What the policy says about an on-demand instance that stands in: it returns to spot after its stay.
    fn returned(&self, instance: &Instance) -> Option<Decision> {
        if !is_bridge(&instance.name) || instance.billing != Billing::OnDemand {
            return None;
        }
        // What is on demand is not reclaimed: a person stopped it, unless it never ran and is all there is.
        if instance.status != Status::Running {
            let is_all_there_is = self.failures.replaces(&instance.id).is_none();
            if is_all_there_is && self.failures.never_ran(instance) && self.recreates() {
                return Some(self.recreate(instance, Cause::Returned));
            }
            let skip =
                if self.failures.never_ran(instance) { Skip::Bridge { until: None } } else { Skip::BridgeStopped };
            return (instance.status == Status::Exited).then_some(Decision::Skip(skip));
        }
        let until = Timestamp::from(instance.started_at.or(instance.created_at)?) + self.policy.bridge.stay;
        if self.now < until || !self.recreates() {
            return Some(Decision::Skip(Skip::Bridge { until: Some(until).filter(|until| self.now < *until) }));
        }
        Some(self.recreate(instance, Cause::Returned))
    }

    /// Replaces an instance that was reclaimed by one on demand, until a market has room again.
    pub(in crate::core) fn bridged(&self, instance: &Instance) -> Option<Decision> {
        let down_at = instance.stopped_at.map(Timestamp::from).or(self.failures.reclaimed_at(instance))?;
        let is_open = self.failures.recreation(instance).is_some();
        let is_due = self.policy.bridge.is_on() && self.now.since(down_at) >= self.policy.bridge.after;
        let may = self.policy.recreate_order == RecreateOrder::CreateFirst && self.may_escalate(instance);
        (is_due && may && !is_open).then(|| self.recreate(instance, Cause::Bridged))
    }

    /// The recreation that follows if the market of a reclaimed instance refuses it, or that an announced reclaim leads to
    /// if it is acted on.
    pub(in crate::core) fn otherwise(&self, instance: &Instance) -> Option<Decision> {
        let is_announced = self.announced_end(instance).is_some() && self.failures.replaces(&instance.id).is_none();
        let cause = if is_announced { Cause::Announced } else { Cause::Reclaimed };
        (is_announced || self.may_escalate(instance)).then(|| self.recreate(instance, cause))
    }

    /// A recreation for a reclaim.
    fn recreate(&self, instance: &Instance, cause: Cause) -> Decision {
        let mark = if cause == Cause::Bridged { Mark::Bridge } else { Mark::Recreated };
        let marker = marked_name(mark, &instance.id, &instance.name, "");
        let mut decision = self.go_on(&instance.id, Recreation::planned(&instance.name, cause, marker, self.now));
        if let Some(work) = decision.recreating_mut() {
            work.is_proved = true;
        }
        decision
    }

    fn fruitless_calls(&self, id: &InstanceId) -> u32 {
        self.ledger.spells.get(id).map_or(0, |spell| spell.fruitless_calls)
    }

    fn escalate(&self, instance: &Instance, instead: Instead) -> Decision {
        let is_proved = self.failures.reclaimed_at(instance).is_some();
        let mut decision = self.recreate(instance, Cause::Reclaimed);
        let eligible = match instead {
            Instead::CoolingDown { last, .. } => Some(Eligible::ReclaimedAgain { last, elapsed: self.now.since(last) }),
            Instead::Ladder if self.policy.ladder == Ladder::Recreate => None,
            Instead::Ranked | Instead::Ladder => self.cooldown(instance).ok(),
            Instead::NoRoom { .. } | Instead::NoMigration | Instead::NoEffect { .. } => None,
        };
        if let Some(work) = decision.recreating_mut() {
            work.instead = Some(instead);
            work.is_proved = is_proved;
            work.at_home = eligible.map(|eligible| (eligible, self.newest_job(&instance.id)));
        }
        decision
    }

    /// Until when the instance's own market is not asked, if it refused lately.
    fn rests_at_home(&self, instance: &Instance) -> Option<Timestamp> {
        let market = self.ledger.markets.get(instance.place.as_deref()?)?;
        market.rests(instance.gpus.max(1).into(), self.now)
    }

    /// Whether this pass handles failed migrations.
    pub(in crate::core) fn recreates(&self) -> bool {
        self.policy.halves != Halves::MigrateOnly
    }

    /// The old instance, if this is its replacement and about to be deleted.
    fn given_up(&self, id: &InstanceId) -> Option<&InstanceId> {
        let Policy { recreate_order, retry_quarantined, .. } = self.policy;
        let old = self.failures.replaces(id)?;
        let recreation = self.ledger.recreations.get(old)?;
        let situation = self.failures.situation(old, recreation)?;
        let seen = recreation.clone().observe(&situation);
        let next = next(&seen, &situation, *recreate_order, *retry_quarantined);
        (matches!(next, Next::Abandon(_)) && seen.step.replacement() == Some(id)).then_some(old)
    }

    /// What comes next in a recreation.
    fn go_on(&self, id: &InstanceId, recreation: Recreation) -> Decision {
        let Policy { recreate_order, retry_quarantined, .. } = self.policy;
        let (recreation, next) = match self.failures.situation(id, &recreation) {
            Some(situation) => {
                let seen = recreation.observe(&situation);
                let next = next(&seen, &situation, *recreate_order, *retry_quarantined);
                (seen, next)
            }
            None => (recreation, Next::Rest(Rest::Unseen)),
        };
        let stored = self.ledger.recreations.get(id);
        match next {
            Next::Rest(rest) => {
                Decision::Skip(Skip::Waiting { instance: id.clone(), recreation: Box::new(recreation), rest })
            }
            Next::Nothing if stored.is_some_and(|stored| stored.step == recreation.step) => {
                Decision::Skip(match recreation.step {
                    Step::Closed { replacement: Some(by) } => Skip::Replaced { by },
                    _ => Skip::NotFailed,
                })
            }
            next => {
                // What an earlier pass started for a reclaim was proved then.
                let was_proved = recreation.cause.is_for_reclaim() && !recreation.pass.is_empty();
                let is_proved = was_proved || self.failures.has_evidence(id);
                let work = Box::new(Recreating { is_proved, ..Recreating::new(id.clone(), recreation, next) });
                if work.starts() { Decision::Recreate(work) } else { Decision::Resume(work) }
            }
        }
    }

    fn not_exited(&self, instance: &Instance) -> Skip {
        if let Some(aside) = &instance.aside {
            return Skip::Aside(aside.clone());
        }
        // A migration that has just started may have no listed job yet.
        let stalled = self.failures.stalled_since(instance).filter(|since| self.now.since(*since) >= SETTLE_TIME);
        if let Some(since) = stalled {
            return Skip::Stalled { since, until: since + PATIENCE };
        }
        // The failure of an earlier job says nothing about a call whose job is not listed yet.
        let failed_job = match self.failures.failure(instance) {
            Some(Cause::JobFailed { job, error }) => Some(Box::new(FailedJob { id: job, error })),
            _ => None,
        };
        Skip::NotExited { failed_job }
    }

    /// Whether the last attempt is long enough ago, and how long that is; or why not.
    pub(in crate::core) fn cooldown(&self, instance: &Instance) -> Result<Eligible, Skip> {
        let last = match self.ledger.last_attempt.get(&instance.id) {
            Some(Stamp::Unreadable(value)) => return Err(Skip::UnreadableRecord { value: value.as_str().into() }),
            Some(Stamp::At(last)) => *last,
            None => return Ok(Eligible::NoPreviousMigration),
        };
        let until = last + self.policy.cooldown;
        if self.now < until {
            return Err(Skip::CoolingDown { last, until });
        }
        Ok(Eligible::CooledDown { last, elapsed: self.now.since(last) })
    }

    /// A call that may still have an effect, and was neither proved nor disproved.
    fn unsettled(&self, id: &InstanceId) -> Option<&InFlight> {
        self.ledger.in_flight.get(id).filter(|call| call.call != Call::Accepted)
    }

    /// The facts of a rule that leaves the verdict to those behind it; `Err` if the question does not arise.
    pub(super) fn facts(&self, rule: Rule, instance: &Instance) -> Result<String, String> {
        let Policy { only, exclude, scope, eligibility, halves, escalation, .. } = self.policy;
        let Instance { id, name, status, billing, .. } = instance;
        let nothing = |why: &str| Err(why.to_owned());
        match rule {
            Rule::Selected => match only.iter().find(|selector| selects(selector, id, name)) {
                Some(selector) => Ok(format!("selected by --only {}", selector.as_str())),
                None => nothing("no --only is given"),
            },
            Rule::NotExcluded if exclude.is_empty() => nothing("no --exclude is given"),
            Rule::NotExcluded => Ok("no --exclude names it".into()),
            Rule::InScope => {
                let billing = if billing.as_str().is_empty() { "not stated" } else { billing.as_str() };
                Ok(format!("billing is {billing}, scope is {}", scope.into_str()))
            }
            Rule::Ours if self.failures.can_migrate() => nothing("the provider has no tags"),
            Rule::Ours => Ok("it is opted in, and managed by no other program".into()),
            Rule::OneOfItsMarker if instance.marker.is_none() => nothing("it has no replacement marker"),
            Rule::OneOfItsMarker => Ok("no other instance with its marker is more advanced".into()),
            Rule::NotInRollout => Ok("no rollout moves it".into()),
            Rule::NoRecreation => Ok("no recreation of it is open".into()),
            Rule::NotAnnounced => match (self.announced_end(instance), self.policy.notice) {
                (None, _) => Ok("no reclaim of it is announced".into()),
                (Some(end), None) => Err(format!("to be reclaimed at {end}; RESPOT_NOTICE is off")),
                (Some(end), Some(notice)) => {
                    let lead = in_words(notice.lead);
                    Ok(format!("to be reclaimed at {end}; replaced {lead} before"))
                }
            },
            Rule::NotBridge if is_bridge(name) => Ok("it is not on demand, or is coming up".into()),
            Rule::NotBridge => nothing("it does not stand in for another"),
            Rule::Stopped => Ok(match instance.stopped_at {
                Some(stopped) => format!("status is {status}, stopped at {}", Timestamp::from(stopped)),
                None => format!("status is {status}"),
            }),
            Rule::NoUnfinishedJob => Ok(match self.jobs.newest_migration(id) {
                Some(job) => {
                    let made = job.created_at.map_or_else(String::new, |at| format!(", of {at}"));
                    format!("no job is at work on it; its newest migration is job {} ({}{made})", job.id, job.state)
                }
                None => "no job is at work on it, and no migration job of it is listed".into(),
            }),
            Rule::CallSettled => match self.ledger.in_flight.get(id) {
                Some(call) => {
                    let known = match call.call {
                        Call::Accepted => "was accepted",
                        Call::Begun | Call::Unknown => "is in doubt, which matters only while it is exited",
                    };
                    Ok(format!("the migrate call at {} {known}", call.called_at))
                }
                None => nothing("no call of an earlier pass is open"),
            },
            Rule::ReclaimEvidence => {
                let seen = self.ledger.observations.get(id);
                let facts = match (&instance.reclaim, seen) {
                    (Some(notice), _) => notice.to_string(),
                    (None, Some(seen)) => format!("{}; last seen at {}", seen.notice, seen.last_seen_at),
                    (None, None) => "no reclaim was announced".into(),
                };
                match (eligibility, status) {
                    (Eligibility::Reclaimed, Status::Exited) => Ok(facts),
                    (Eligibility::Reclaimed, _) => nothing("only what is exited needs evidence of a reclaim"),
                    (Eligibility::Time, Status::Exited)
                        if *escalation == Escalation::Evidence
                            && scope.covers(billing)
                            && self.failures.reclaimed_at(instance).is_none() =>
                    {
                        let elsewhere = "without proof of a reclaim it is only migrated (see MIGRATION_ESCALATION)";
                        Err(format!("eligibility is time; {facts}; {elsewhere}"))
                    }
                    (Eligibility::Time, _) => Err(format!("eligibility is time; {facts}")),
                }
            }
            Rule::MigrationNotFailed if !self.recreates() => nothing("MIGRATION_RETRY_FAILED is false"),
            Rule::MigrationNotFailed => Ok("no migration of it failed or is stuck".into()),
            Rule::NotMigrating => Ok(format!("status is {status}")),
            Rule::NotGivenUp => match self.failures.replaces(id) {
                Some(old) => Ok(format!("it replaces {old}, and is not given up")),
                None => nothing("it replaces no other in an open recreation"),
            },
            Rule::PassMigrates => match halves {
                Halves::MigrateOnly => Ok("the pass migrates only".into()),
                Halves::Both | Halves::RecreateOnly => Ok("the pass migrates".into()),
            },
            Rule::Configured if !self.failures.forgets_ended() => nothing("the provider says what it is made of"),
            Rule::Configured => Ok("what it is made of was recorded while it ran".into()),
            Rule::RoomAtHome => match instance.place.as_deref() {
                Some(place) => Ok(match self.ledger.markets.get(place).and_then(|market| market.refused_at) {
                    Some(at) => format!("its market ({place}) last refused at {at} and may be asked again"),
                    None => format!("its market ({place}) is not known to have refused"),
                }),
                None => nothing("its product or its cluster is not known"),
            },
            Rule::CooledDown => Ok(match self.cooldown(instance) {
                Ok(Eligible::CooledDown { last, elapsed } | Eligible::ReclaimedAgain { last, elapsed }) => {
                    let cooldown = in_words(self.policy.cooldown);
                    format!("the last migration was at {last}, {} ago; the cooldown is {cooldown}", in_words(elapsed))
                }
                Ok(Eligible::NoPreviousMigration) | Err(_) => "no previous migration".into(),
            }),
        }
    }
}
