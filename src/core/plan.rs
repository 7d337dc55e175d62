//! One verdict for every instance, each with its reason, and what became of the calls of earlier passes.
//!
//! [`plan`] cannot fail and cannot wait. Recovery after a crash is not a special path: a call that an earlier pass
//! left open is settled here, on every pass, from what is seen now.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{Instance, InstanceId, Job, JobId, JobKind, Listing, ReclaimNotice, Snapshot, Status, Timestamp};
use super::policy::{Eligibility, Policy};

/// After this long a migrate call that shows no effect had none. Longer than a request can live (its timeout of 30 s),
/// plus the lease of a suspended pass (30 s), plus the time a new job may take to become visible.
pub const SETTLE_TIME: Duration = Duration::from_secs(180);

/// A call that is open for longer than this is not followed any more; as long as its migration time is kept.
pub const FOLLOW_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Evidence of a reclaim counts for this long after it was last seen; the provider keeps a stopped instance's data for
/// seven days at most (`novita-api.md` section 4.3).
pub const EVIDENCE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What earlier passes left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The last migrate attempt of each instance that has one.
    pub last_attempt: HashMap<InstanceId, Stamp>,
    /// Migrate calls whose end was not seen yet.
    pub in_flight: HashMap<InstanceId, InFlight>,
    /// Reclaims that were announced.
    pub observations: HashMap<InstanceId, Observation>,
}

/// The stored time of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Then.
    At(Timestamp),
    /// Something is stored that is no time. The instance is left alone until somebody looks.
    Unreadable(String),
}

/// A migrate call whose end was not seen yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The instance's name at that time.
    pub instance_name: String,
    /// When the call was made, or was about to be.
    pub called_at: Timestamp,
    /// The pass that made it.
    pub pass: String,
    /// The newest migration job known before the call: any other that is not older is the call's own.
    pub job_before: Option<KnownJob>,
    /// The migration time to put back should the call have had no effect.
    pub previous_attempt: Option<Timestamp>,
    /// What is known of the call.
    pub call: Call,
}

/// A job as remembered from before a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownJob {
    /// Its id.
    pub id: JobId,
    /// When it was made, by the provider's clock.
    pub created_at: Option<Timestamp>,
}

/// What is known of a migrate call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// The intent was stored. Unless the pass goes on to say more, it was killed around the call.
    Begun,
    /// The provider accepted it.
    Accepted,
    /// No clear answer came: it may or may not have had an effect.
    Unknown,
}

/// A reclaim as an earlier pass saw it announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// What the provider said.
    pub notice: ReclaimNotice,
    /// When a pass first saw this notice.
    pub first_seen_at: Timestamp,
    /// When a pass last saw it.
    pub last_seen_at: Timestamp,
}

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

/// What became of a migrate call of an earlier pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The instance.
    pub instance: InstanceId,
    /// The call.
    pub call: InFlight,
    /// Its end.
    pub end: End,
}

/// How a migrate call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It had an effect after all: it is under way, and followed on.
    Confirmed,
    /// The instance is running again.
    Migrated,
    /// Its job failed.
    Failed {
        /// Why, in the provider's words.
        error: Option<Box<str>>,
    },
    /// The instance is in no complete listing any more.
    Vanished,
    /// The call never had an effect: the earlier migration time is put back.
    NoEffect,
    /// Nothing more is to be learnt: it was accepted, and the instance ended up in this status.
    Closed {
        /// That status.
        status: Status,
    },
}

impl Settlement {
    /// Whether this is the first proof that the call was accepted.
    #[must_use]
    pub fn proves_acceptance(&self) -> bool {
        self.call.call != Call::Accepted
            && match self.end {
                End::Confirmed | End::Migrated | End::Failed { .. } => true,
                End::Vanished | End::NoEffect | End::Closed { .. } => false,
            }
    }

    /// Whether the call stays on record, now known as accepted.
    #[must_use]
    pub fn stays_open(&self) -> bool {
        matches!(self.end, End::Confirmed)
    }
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

/// Compares the calls of earlier passes with what is seen now. Calls of which nothing new can be said are left out.
fn settle(snapshot: &Snapshot, ledger: &Ledger, jobs: &JobIndex<'_>, now: Timestamp) -> Vec<Settlement> {
    let mut settlements: Vec<Settlement> = ledger
        .in_flight
        .iter()
        .filter_map(|(id, call)| {
            let end = end_of(id, call, snapshot, jobs, now)?;
            Some(Settlement { instance: id.clone(), call: call.clone(), end })
        })
        .collect();
    settlements.sort_by(|a, b| a.instance.cmp(&b.instance));
    settlements
}

fn end_of(id: &InstanceId, call: &InFlight, snapshot: &Snapshot, jobs: &JobIndex<'_>, now: Timestamp) -> Option<End> {
    let Some(instance) = find(&snapshot.instances.items, id) else {
        return snapshot.instances.is_complete().then_some(End::Vanished);
    };
    let settled = now.since(call.called_at) >= SETTLE_TIME;
    let accepted = call.call == Call::Accepted;
    let own_job = jobs.newest_migration(id).filter(|job| is_new(job, call.job_before.as_ref()));
    if let Some(job) = own_job
        && job.state.has_failed()
    {
        return Some(End::Failed { error: job.error.clone() });
    }
    match (&instance.status, own_job) {
        (Status::Running, Some(job)) if !job.state.is_unfinished() => Some(End::Migrated),
        // Running without a job of ours: somebody may have started it by hand. Only an accepted call explains it.
        (Status::Running, None) if accepted => Some(End::Migrated),
        (Status::Migrating, _) | (_, Some(_)) if !accepted => Some(End::Confirmed),
        // The job is done and the instance stays as it is.
        (Status::Exited, Some(job)) if !job.state.is_unfinished() && settled => {
            Some(End::Closed { status: instance.status.clone() })
        }
        // Proved without effect only by complete listings; an accepted call keeps its cooldown all the same.
        (status, None) if settled && snapshot.instances.is_complete() && snapshot.jobs.is_complete() => {
            match (accepted, status) {
                (true, Status::Migrating) => None,
                (true, status) => Some(End::Closed { status: status.clone() }),
                (false, _) => Some(End::NoEffect),
            }
        }
        (status, _) if now.since(call.called_at) >= FOLLOW_TIME => Some(End::Closed { status: status.clone() }),
        _ => None,
    }
}

/// Whether the job was made after the one known before a call. Compares the provider's times with each other only, so
/// a skew between its clock and ours does not matter.
#[must_use]
pub fn is_new(job: &Job, before: Option<&KnownJob>) -> bool {
    before.is_none_or(|before| job.id != before.id && job.created_at >= before.created_at)
}

/// What to remember and to forget about announced reclaims: a notice is kept until the instance is seen running
/// without one, so that it still counts after the reclaim, when the provider's fields may be empty again.
fn observe(snapshot: &Snapshot, ledger: &Ledger, now: Timestamp) -> Vec<(InstanceId, Option<Observation>)> {
    let mut changes: Vec<(InstanceId, Option<Observation>)> = Vec::new();
    for instance in &snapshot.instances.items {
        let known = ledger.observations.get(&instance.id);
        match (&instance.reclaim, known) {
            (Some(notice), known) => {
                let first_seen_at =
                    known.filter(|known| known.notice == **notice).map_or(now, |known| known.first_seen_at);
                let seen = Observation { notice: (**notice).clone(), first_seen_at, last_seen_at: now };
                changes.push((instance.id.clone(), Some(seen)));
            }
            (None, Some(_)) if instance.status == Status::Running => changes.push((instance.id.clone(), None)),
            (None, _) => {}
        }
    }
    let gone = |id: &InstanceId, seen: &Observation| {
        now.since(seen.last_seen_at) > EVIDENCE_LIFE
            || (snapshot.instances.is_complete() && find(&snapshot.instances.items, id).is_none())
    };
    changes.extend(ledger.observations.iter().filter(|(id, seen)| gone(id, seen)).map(|(id, _)| (id.clone(), None)));
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes.dedup_by(|a, b| a.0 == b.0);
    changes
}

/// Finds an instance in a listing ordered by id.
#[must_use]
pub fn find<'a>(instances: &'a [Instance], id: &InstanceId) -> Option<&'a Instance> {
    instances.binary_search_by(|instance| instance.id.cmp(id)).ok().map(|at| &instances[at])
}

/// The jobs of each instance. The order of the provider's list is not trusted.
pub struct JobIndex<'a> {
    by_instance: HashMap<&'a InstanceId, Vec<&'a Job>>,
}

impl<'a> JobIndex<'a> {
    /// Sorts the jobs by instance.
    #[must_use]
    pub fn new(jobs: &'a [Job]) -> Self {
        let mut by_instance: HashMap<&InstanceId, Vec<&Job>> = HashMap::new();
        for job in jobs {
            by_instance.entry(&job.instance).or_default().push(job);
        }
        Self { by_instance }
    }

    fn of(&self, id: &InstanceId) -> impl Iterator<Item = &'a Job> {
        self.by_instance.get(id).into_iter().flatten().copied()
    }

    /// The newest migration job of an instance. Of two made in the same second an unfinished one counts as newer.
    #[must_use]
    pub fn newest_migration(&self, id: &InstanceId) -> Option<&'a Job> {
        self.of(id)
            .filter(|job| job.kind.is_migration())
            .max_by_key(|job| (job.created_at, job.state.is_unfinished(), &job.id))
    }

    /// A job of any kind that may still change the instance.
    #[must_use]
    pub fn unfinished(&self, id: &InstanceId) -> Option<&'a Job> {
        self.of(id).filter(|job| job.state.is_unfinished()).max_by_key(|job| (job.created_at, &job.id))
    }
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
