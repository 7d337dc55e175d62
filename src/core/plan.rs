//! One verdict for every instance, each with its reason, and what became of the calls of earlier passes.
//!
//! [`plan`] cannot fail and cannot wait. Recovery after a crash is not a special path: a call that an earlier pass
//! left open is settled here, on every pass, from what is seen now.

use std::collections::HashMap;
use std::time::Duration;

use super::ledger::{Call, InFlight, Ledger, Observation, Stamp};
use super::model::{Instance, InstanceId, JobId, JobIndex, JobKind, Listing, Snapshot, Status, Timestamp};
use super::policy::{Eligibility, Policy};
use super::settle::{EVIDENCE_LIFE, End, SETTLE_TIME, Settlement, observe, settle};

/// What a pass would do, or does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for every listed instance, in the listing's order.
    pub decisions: Vec<Decision>,
    /// What became of the calls of earlier passes.
    pub settlements: Vec<Settlement>,
    /// What to remember, and to forget, about announced reclaims.
    pub observations: Vec<(InstanceId, Option<Observation>)>,
}

impl Plan {
    /// The instances to migrate, oldest first, as positions in the listing.
    #[must_use]
    pub fn migrations(&self, instances: &Listing<Instance>) -> Vec<usize> {
        let mut chosen: Vec<usize> =
            (0..self.decisions.len()).filter(|&at| matches!(self.decisions[at], Decision::Migrate(_))).collect();
        chosen.sort_by_key(|&at| oldest_first(&instances.items[at]));
        chosen
    }
}

/// The verdict on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Migrate it.
    Migrate(Eligible),
    /// Leave it alone.
    Skip(Skip),
}

/// Why an instance is to be migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligible {
    /// No attempt is known.
    NoPreviousMigration,
    /// The last attempt is long enough ago.
    CooledDown {
        /// The last attempt.
        last: Timestamp,
        /// How long ago that was.
        elapsed: Duration,
    },
}

/// Why an instance is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// `--only` names others.
    NotSelected,
    /// `--exclude` names it.
    Excluded {
        /// The pattern that matched, by its position.
        selector: usize,
    },
    /// The scope leaves out its billing.
    OutOfScope,
    /// It is doing something else than being exited.
    NotExited {
        /// Its newest migration job, if that failed: the migration will not come to an end by itself.
        failed_job: Option<Box<FailedJob>>,
    },
    /// One of the provider's jobs is at work on it.
    JobUnfinished {
        /// The job.
        job: JobId,
        /// What it does.
        kind: JobKind,
    },
    /// A call of an earlier pass has no clear answer yet.
    Unsettled {
        /// When the call was made.
        called_at: Timestamp,
        /// When it counts as without effect, should nothing be seen until then.
        until: Timestamp,
    },
    /// The `reclaimed` policy wants evidence, and there is none.
    NoReclaimEvidence,
    /// What is stored as its migration time is no time.
    UnreadableRecord {
        /// What is stored.
        value: Box<str>,
    },
    /// The last attempt is too recent.
    CoolingDown {
        /// The last attempt.
        last: Timestamp,
        /// When the cooldown ends.
        until: Timestamp,
    },
    /// Eligible, but the pass may not do more.
    OverLimit {
        /// How many it may.
        limit: usize,
    },
}

/// A migration job that ended without doing its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedJob {
    /// Its id.
    pub id: JobId,
    /// Why, in the provider's words.
    pub error: Option<Box<str>>,
}

/// Decides what to do about every instance in `snapshot`.
///
/// The verdicts follow the order of the contract's section 3: the first rule that fits decides.
#[must_use]
pub fn plan(snapshot: &Snapshot, ledger: &Ledger, policy: &Policy, now: Timestamp) -> Plan {
    let jobs = JobIndex::new(&snapshot.jobs.items);
    let settlements = settle(snapshot, ledger, &jobs, now);
    let no_effect: HashMap<&InstanceId, Option<Timestamp>> = settlements
        .iter()
        .filter(|settlement| settlement.end == End::NoEffect)
        .map(|settlement| (&settlement.instance, settlement.call.previous_attempt))
        .collect();

    let view = View { ledger, policy, jobs: &jobs, no_effect: &no_effect, now };
    let mut decisions: Vec<Decision> = snapshot.instances.items.iter().map(|instance| view.decide(instance)).collect();
    if let Some(limit) = policy.max_migrations {
        cut_to_limit(&mut decisions, &snapshot.instances.items, limit);
    }
    let observations = observe(snapshot, ledger, now);
    Plan { decisions, settlements, observations }
}

/// Everything a verdict on one instance depends on.
struct View<'a> {
    ledger: &'a Ledger,
    policy: &'a Policy,
    jobs: &'a JobIndex<'a>,
    no_effect: &'a HashMap<&'a InstanceId, Option<Timestamp>>,
    now: Timestamp,
}

impl View<'_> {
    fn decide(&self, instance: &Instance) -> Decision {
        match self.obstacle(instance) {
            Some(skip) => Decision::Skip(skip),
            None => self.by_cooldown(instance),
        }
    }

    /// The first reason to leave the instance alone whatever its migration time says.
    fn obstacle(&self, instance: &Instance) -> Option<Skip> {
        let Policy { eligibility, scope, cooldown: _, only, exclude, max_migrations: _ } = self.policy;
        if !only.is_empty() && !only.iter().any(|selector| selector.matches(instance)) {
            return Some(Skip::NotSelected);
        }
        if let Some(selector) = exclude.iter().position(|selector| selector.matches(instance)) {
            return Some(Skip::Excluded { selector });
        }
        if !scope.covers(&instance.billing) {
            return Some(Skip::OutOfScope);
        }
        if instance.status != Status::Exited {
            let failed = || self.jobs.newest_migration(&instance.id).filter(|job| job.state.has_failed());
            let failed_job = (instance.status == Status::Migrating)
                .then(failed)
                .flatten()
                .map(|job| Box::new(FailedJob { id: job.id.clone(), error: job.error.clone() }));
            return Some(Skip::NotExited { failed_job });
        }
        if let Some(job) = self.jobs.unfinished(&instance.id) {
            return Some(Skip::JobUnfinished { job: job.id.clone(), kind: job.kind.clone() });
        }
        if let Some(call) = self.unsettled(&instance.id) {
            return Some(Skip::Unsettled { called_at: call.called_at, until: call.called_at + SETTLE_TIME });
        }
        if *eligibility == Eligibility::Reclaimed && !self.has_evidence(instance) {
            return Some(Skip::NoReclaimEvidence);
        }
        None
    }

    fn by_cooldown(&self, instance: &Instance) -> Decision {
        let last = match (self.no_effect.get(&instance.id), self.ledger.last_attempt.get(&instance.id)) {
            (Some(previous), _) => *previous,
            (None, Some(Stamp::Unreadable(value))) => {
                return Decision::Skip(Skip::UnreadableRecord { value: value.as_str().into() });
            }
            (None, Some(Stamp::At(last))) => Some(*last),
            (None, None) => None,
        };
        let Some(last) = last else { return Decision::Migrate(Eligible::NoPreviousMigration) };
        let until = last + self.policy.cooldown;
        if self.now < until {
            return Decision::Skip(Skip::CoolingDown { last, until });
        }
        Decision::Migrate(Eligible::CooledDown { last, elapsed: self.now.since(last) })
    }

    /// A call that may still have an effect, and was neither proved nor disproved.
    fn unsettled(&self, id: &InstanceId) -> Option<&InFlight> {
        let call = self.ledger.in_flight.get(id)?;
        (call.call != Call::Accepted && !self.no_effect.contains_key(id)).then_some(call)
    }

    fn has_evidence(&self, instance: &Instance) -> bool {
        let seen_earlier = || self.ledger.observations.get(&instance.id);
        instance.reclaim.is_some()
            || seen_earlier().is_some_and(|seen| self.now.since(seen.last_seen_at) <= EVIDENCE_LIFE)
    }
}

/// Leaves `limit` migrations, the oldest; the others become skips that say so.
fn cut_to_limit(decisions: &mut [Decision], instances: &[Instance], limit: usize) {
    let mut chosen: Vec<usize> =
        (0..decisions.len()).filter(|&at| matches!(decisions[at], Decision::Migrate(_))).collect();
    if chosen.len() <= limit {
        return;
    }
    chosen.sort_by_key(|&at| oldest_first(&instances[at]));
    for &at in &chosen[limit..] {
        decisions[at] = Decision::Skip(Skip::OverLimit { limit });
    }
}

/// The order of migrations: who stopped first comes first, who has no stop time last; the id decides the rest, so that
/// the order of the listing does not matter.
fn oldest_first(instance: &Instance) -> (Timestamp, &InstanceId) {
    (instance.stopped_at.unwrap_or(Timestamp::from_millis(i64::MAX)), &instance.id)
}

impl Decision {
    /// The verdict's machine name (contract, section 5).
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Migrate(_) => "migrate",
            Self::Skip(_) => "skip",
        }
    }

    /// The reason's machine name. Names are part of the contract: they are added to, never changed.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Migrate(Eligible::NoPreviousMigration) => "no_previous_migration",
            Self::Migrate(Eligible::CooledDown { .. }) => "cooled_down",
            Self::Skip(skip) => match skip {
                Skip::NotSelected => "not_selected",
                Skip::Excluded { .. } => "excluded",
                Skip::OutOfScope => "out_of_scope",
                Skip::NotExited { failed_job: None } => "not_exited",
                Skip::NotExited { failed_job: Some(_) } => "migration_failed",
                Skip::JobUnfinished { .. } => "job_unfinished",
                Skip::Unsettled { .. } => "call_unsettled",
                Skip::NoReclaimEvidence => "no_reclaim_evidence",
                Skip::UnreadableRecord { .. } => "unreadable_record",
                Skip::CoolingDown { .. } => "cooling_down",
                Skip::OverLimit { .. } => "over_limit",
            },
        }
    }

    /// When the verdict may change by time alone.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Skip(Skip::CoolingDown { until, .. } | Skip::Unsettled { until, .. }) => Some(*until),
            Self::Skip(_) | Self::Migrate(_) => None,
        }
    }

    /// The reason in one sentence, with its facts.
    #[must_use]
    pub fn detail(&self, instance: &Instance, policy: &Policy) -> String {
        match self {
            Self::Migrate(Eligible::NoPreviousMigration) => "no previous migration".into(),
            Self::Migrate(Eligible::CooledDown { last, elapsed }) => {
                format!("{} since the last one at {last}", in_words(*elapsed))
            }
            Self::Skip(skip) => skip.detail(instance, policy),
        }
    }
}

impl Skip {
    fn detail(&self, instance: &Instance, policy: &Policy) -> String {
        match self {
            Self::NotSelected => "not managed: no --only pattern matches".into(),
            Self::Excluded { selector } => {
                let pattern = policy.exclude.get(*selector).map_or("?", |selector| selector.as_str());
                format!("not managed: excluded by {pattern}")
            }
            Self::OutOfScope => {
                format!("not managed: billing is {}, scope is {}", instance.billing, policy.scope.as_str())
            }
            Self::NotExited { failed_job: None } => match &instance.status {
                Status::Other(word) if word.is_empty() => "the provider gave no status; left alone".into(),
                Status::Other(word) => format!("status {word} is unknown to this version; left alone"),
                status => format!("status is {status}, not exited"),
            },
            Self::NotExited { failed_job: Some(job) } => {
                let FailedJob { id, error } = &**job;
                let why = error.as_deref().unwrap_or("the provider gave no reason");
                format!("its migration failed: {why} (job {id})")
            }
            Self::JobUnfinished { job, kind } => format!("job {job} ({kind}) is unfinished on it"),
            Self::Unsettled { called_at, until } => {
                format!("the migrate call at {called_at} has no visible result yet; tried again after {until}")
            }
            Self::NoReclaimEvidence => "no evidence of a reclaim, now or seen by an earlier pass".into(),
            Self::UnreadableRecord { value } => {
                format!("its stored migration time is not a time: {value:?}; delete or mend the record")
            }
            Self::CoolingDown { last, until } => format!("migrated at {last}, cooling down until {until}"),
            Self::OverLimit { limit } => format!("eligible, but over the limit of {limit} for this pass"),
        }
    }
}

/// A duration as a person says it: the two greatest units.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let secs = duration.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Billing, Job, JobState, ReclaimNotice, Shortfall};
    use crate::core::policy::{Scope, Selector};

    fn now() -> Timestamp {
        Timestamp::from_secs(1_700_000_000)
    }

    fn hours(n: i64) -> Timestamp {
        Timestamp::from_millis(now().as_millis() - n * 3_600_000)
    }

    fn policy() -> Policy {
        Policy {
            eligibility: Eligibility::Time,
            scope: Scope::Spot,
            cooldown: Duration::from_secs(4 * 3600),
            only: vec![],
            exclude: vec![],
            max_migrations: None,
        }
    }

    fn exited(id: &str) -> Instance {
        Instance {
            id: InstanceId::new(id),
            name: format!("name-{id}").into(),
            status: Status::Exited,
            billing: Billing::Spot,
            reclaim: None,
            stopped_at: None,
        }
    }

    fn job(instance: &str, id: &str, kind: JobKind, state: JobState, age_hours: i64) -> Job {
        Job {
            id: JobId::new(id),
            instance: InstanceId::new(instance),
            kind,
            state,
            created_at: Some(hours(age_hours)),
            error: Some("no node".into()),
        }
    }

    fn notice() -> ReclaimNotice {
        ReclaimNotice { spot_status: "notified".into(), reclaim_at: hours(1) }
    }

    fn world(mut instances: Vec<Instance>, jobs: Vec<Job>) -> Snapshot {
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        Snapshot { taken_at: now(), instances: Listing::complete(instances), jobs: Listing::complete(jobs) }
    }

    /// Every branch of the verdict, each row on one instance "a": the world, the ledger and the policy are changed,
    /// the reason's machine name and a part of the sentence are expected.
    #[test]
    fn the_first_rule_that_fits_decides() {
        struct Case {
            instance: Instance,
            jobs: Vec<Job>,
            ledger: Ledger,
            policy: Policy,
        }
        type Row = (&'static str, fn(&mut Case), &'static str, &'static str);
        fn last(case: &mut Case, at: Timestamp) {
            case.ledger.last_attempt.insert(InstanceId::new("a"), Stamp::At(at));
        }
        fn in_flight(case: &mut Case, call: Call, called_at: Timestamp, previous: Option<Timestamp>) {
            last(case, called_at);
            let call = InFlight {
                instance_name: "name-a".into(),
                called_at,
                pass: "p".into(),
                job_before: None,
                previous_attempt: previous,
                call,
            };
            case.ledger.in_flight.insert(InstanceId::new("a"), call);
        }
        let rows: &[Row] = &[
            ("never seen before", |_| (), "no_previous_migration", "no previous migration"),
            ("cooled down", |c| last(c, hours(5)), "cooled_down", "5 h since the last one"),
            ("cooled down to the millisecond", |c| last(c, hours(4)), "cooled_down", "4 h since"),
            ("cooling", |c| last(c, hours(3)), "cooling_down", "cooling down until"),
            (
                "one millisecond too early",
                |c| last(c, Timestamp::from_millis(hours(4).as_millis() + 1)),
                "cooling_down",
                "cooling down until",
            ),
            ("the clock was set back", |c| last(c, hours(-2)), "cooling_down", "cooling down until"),
            (
                "garbage for a time",
                |c| {
                    c.ledger.last_attempt.insert(InstanceId::new("a"), Stamp::Unreadable("soon".into()));
                },
                "unreadable_record",
                "\"soon\"",
            ),
            ("running", |c| c.instance.status = Status::Running, "not_exited", "status is running"),
            (
                "an unknown status",
                |c| c.instance.status = Status::Other("hibernated".into()),
                "not_exited",
                "hibernated is unknown",
            ),
            ("no status at all", |c| c.instance.status = Status::Other("".into()), "not_exited", "gave no status"),
            (
                "stuck after a failed migration",
                |c| {
                    c.instance.status = Status::Migrating;
                    c.jobs.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Fail, 1));
                },
                "migration_failed",
                "its migration failed: no node (job j1)",
            ),
            (
                "migrating again after a failed migration",
                |c| {
                    c.instance.status = Status::Migrating;
                    c.jobs.push(job("a", "j2", JobKind::InstanceMigrate, JobState::Running, 1));
                    c.jobs.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Fail, 2));
                },
                "not_exited",
                "status is migrating",
            ),
            (
                "a job is at work",
                |c| c.jobs.push(job("a", "j1", JobKind::SaveImage, JobState::Running, 1)),
                "job_unfinished",
                "job j1 (saveImage) is unfinished",
            ),
            (
                "a job in an unknown state",
                |c| c.jobs.push(job("a", "j1", JobKind::Other("x".into()), JobState::Other("paused".into()), 1)),
                "job_unfinished",
                "job j1 (x)",
            ),
            (
                "all jobs are done",
                |c| c.jobs.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Success, 9)),
                "no_previous_migration",
                "",
            ),
            (
                "a job of another instance",
                |c| c.jobs.push(job("b", "j1", JobKind::InstanceMigrate, JobState::Running, 1)),
                "no_previous_migration",
                "",
            ),
            ("on demand", |c| c.instance.billing = Billing::OnDemand, "out_of_scope", "billing is onDemand"),
            ("monthly", |c| c.instance.billing = Billing::Monthly, "out_of_scope", "billing is monthly"),
            ("billing left out", |c| c.instance.billing = Billing::Unstated, "no_previous_migration", ""),
            ("billing unknown", |c| c.instance.billing = Billing::Other("x".into()), "no_previous_migration", ""),
            (
                "on demand, scope all",
                |c| {
                    c.instance.billing = Billing::OnDemand;
                    c.policy.scope = Scope::All;
                },
                "no_previous_migration",
                "",
            ),
            (
                "only others",
                |c| c.policy.only.push(Selector::parse("train-*").unwrap()),
                "not_selected",
                "no --only pattern",
            ),
            (
                "only this one, by name",
                |c| c.policy.only = vec![Selector::parse("x").unwrap(), Selector::parse("name-?").unwrap()],
                "no_previous_migration",
                "",
            ),
            (
                "only this one, by id",
                |c| c.policy.only.push(Selector::parse("[a-c]").unwrap()),
                "no_previous_migration",
                "",
            ),
            (
                "excluded though selected",
                |c| {
                    c.policy.only.push(Selector::parse("*").unwrap());
                    c.policy.exclude.push(Selector::parse("name-*").unwrap());
                },
                "excluded",
                "excluded by name-*",
            ),
            (
                "not managed comes before not exited",
                |c| {
                    c.instance.billing = Billing::Monthly;
                    c.instance.status = Status::Running;
                },
                "out_of_scope",
                "",
            ),
            (
                "no evidence",
                |c| c.policy.eligibility = Eligibility::Reclaimed,
                "no_reclaim_evidence",
                "no evidence of a reclaim",
            ),
            (
                "evidence now",
                |c| {
                    c.policy.eligibility = Eligibility::Reclaimed;
                    c.instance.reclaim = Some(Box::new(notice()));
                },
                "no_previous_migration",
                "",
            ),
            (
                "evidence seen by an earlier pass",
                |c| {
                    c.policy.eligibility = Eligibility::Reclaimed;
                    let seen = Observation { notice: notice(), first_seen_at: hours(3), last_seen_at: hours(2) };
                    c.ledger.observations.insert(InstanceId::new("a"), seen);
                },
                "no_previous_migration",
                "",
            ),
            (
                "evidence, but a week old",
                |c| {
                    c.policy.eligibility = Eligibility::Reclaimed;
                    let seen = Observation { notice: notice(), first_seen_at: hours(200), last_seen_at: hours(169) };
                    c.ledger.observations.insert(InstanceId::new("a"), seen);
                },
                "no_reclaim_evidence",
                "",
            ),
            (
                "a call without a clear answer, a minute ago",
                |c| in_flight(c, Call::Unknown, Timestamp::from_millis(now().as_millis() - 60_000), None),
                "call_unsettled",
                "no visible result yet",
            ),
            (
                "a call begun by a killed pass, a minute ago",
                |c| in_flight(c, Call::Begun, Timestamp::from_millis(now().as_millis() - 60_000), None),
                "call_unsettled",
                "no visible result yet",
            ),
            (
                "a lost call counts for nothing once settled",
                |c| in_flight(c, Call::Unknown, hours(1), None),
                "no_previous_migration",
                "",
            ),
            (
                "a lost call puts the earlier time back: cooled down",
                |c| in_flight(c, Call::Begun, hours(1), Some(hours(6))),
                "cooled_down",
                "6 h since",
            ),
            (
                "a lost call puts the earlier time back: cooling",
                |c| in_flight(c, Call::Unknown, hours(1), Some(hours(2))),
                "cooling_down",
                "",
            ),
            (
                "an accepted call keeps its cooldown",
                |c| in_flight(c, Call::Accepted, hours(1), None),
                "cooling_down",
                "",
            ),
        ];
        for (name, change, reason, part) in rows {
            let mut case = Case { instance: exited("a"), jobs: vec![], ledger: Ledger::default(), policy: policy() };
            change(&mut case);
            let snapshot = world(vec![case.instance, exited("z")], case.jobs);
            let plan = plan(&snapshot, &case.ledger, &case.policy, now());
            assert_eq!(plan.decisions.len(), 2, "{name}: one verdict each");
            let (instance, decision) = (&snapshot.instances.items[0], &plan.decisions[0]);
            assert_eq!(decision.reason(), *reason, "{name}");
            let detail = decision.detail(instance, &case.policy);
            assert!(detail.contains(part), "{name}: {detail:?} lacks {part:?}");
            assert_eq!(decision.verdict() == "migrate", matches!(decision, Decision::Migrate(_)));
            if let Some(until) = decision.until() {
                assert!(until > now(), "{name}: a verdict that time changes says when");
            }
        }
    }

    #[test]
    fn a_listing_with_gaps_proves_no_absence_of_effect() {
        let call = InFlight {
            instance_name: String::new(),
            called_at: hours(1),
            pass: "p".into(),
            job_before: None,
            previous_attempt: None,
            call: Call::Unknown,
        };
        let ledger = Ledger {
            in_flight: HashMap::from([(InstanceId::new("a"), call)]),
            last_attempt: HashMap::from([(InstanceId::new("a"), Stamp::At(hours(1)))]),
            ..Ledger::default()
        };
        let mut snapshot = world(vec![exited("a")], vec![]);
        snapshot.jobs.shortfall = Some(Shortfall { announced: 2, received: 1 });
        assert_eq!(plan(&snapshot, &ledger, &policy(), now()).decisions[0].reason(), "call_unsettled");
    }

    #[test]
    fn a_limit_leaves_the_oldest_and_says_so_of_the_others() {
        let stopped = |id: &str, age: i64| Instance { stopped_at: Some(hours(age)), ..exited(id) };
        // "d" says nothing of when it stopped: last.
        let snapshot = world(vec![stopped("a", 1), stopped("b", 3), stopped("c", 2), exited("d")], vec![]);
        for (limit, migrated) in [(Some(2), vec!["b", "c"]), (Some(0), vec![]), (None, vec!["b", "c", "a", "d"])] {
            let policy = Policy { max_migrations: limit, ..policy() };
            let plan = plan(&snapshot, &Ledger::default(), &policy, now());
            let chosen: Vec<&str> = plan
                .migrations(&snapshot.instances)
                .into_iter()
                .map(|at| snapshot.instances.items[at].id.as_str())
                .collect();
            assert_eq!(chosen, migrated);
            let over = plan.decisions.iter().filter(|it| it.reason() == "over_limit").count();
            assert_eq!(over, 4 - migrated.len());
        }
    }

    #[test]
    fn the_order_of_the_job_list_does_not_matter() {
        let mut jobs = vec![
            job("a", "j1", JobKind::InstanceMigrate, JobState::Fail, 3),
            job("a", "j2", JobKind::AutoInstanceMigrate, JobState::Success, 1),
            job("b", "j3", JobKind::InstanceMigrate, JobState::Running, 2),
            job("c", "j4", JobKind::SaveImage, JobState::Fail, 1),
        ];
        let instances = vec![exited("a"), exited("b"), exited("c")];
        let expected = plan(&world(instances.clone(), jobs.clone()), &Ledger::default(), &policy(), now());
        for _ in 0..jobs.len() {
            jobs.rotate_left(1);
            let got = plan(&world(instances.clone(), jobs.clone()), &Ledger::default(), &policy(), now());
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_plan_after_an_applied_plan_is_empty() {
        let snapshot = world(vec![exited("a"), exited("b")], vec![]);
        let first = plan(&snapshot, &Ledger::default(), &policy(), now());
        let stamps = first
            .migrations(&snapshot.instances)
            .into_iter()
            .map(|at| (snapshot.instances.items[at].id.clone(), Stamp::At(now())));
        let ledger = Ledger { last_attempt: stamps.collect(), ..Ledger::default() };
        assert_eq!(ledger.last_attempt.len(), 2);
        let second = plan(&snapshot, &ledger, &policy(), now());
        assert!(second.migrations(&snapshot.instances).is_empty());
    }

    #[test]
    fn durations_in_words() {
        for (secs, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (5430, "1 h 30 min"),
            (86_400, "1 d"),
            (90_000, "1 d 1 h"),
            (700_000, "8 d 2 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(secs)), words);
        }
    }
}
