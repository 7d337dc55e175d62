//! What holds for every plan, shown on worlds that are drawn from a seed; and that no recreation stays where it is.

use super::recreations::{ago, failed, id, kept, stuck};
use super::*;
use crate::core::recreation::journal::{Cause, QUARANTINE, Transition, Unfit};
use crate::core::world::policy::RecreateOrder;
use crate::core::world::time::Seconds;

const STATUSES: [&str; 8] =
    ["running", "exited", "migrating", "creating", "removing", "removed", "hibernated", "starting"];
const JOBS: [&str; 6] = ["success", "fail", "break", "running", "pulling", "odd"];

/// A step with whatever it needs, by its number.
fn step(number: usize, replacement: &str) -> Step {
    let r = || id(replacement);
    match number {
        0 => Step::Pending { kept: None },
        1 => Step::Pending { kept: Some(kept()) },
        2 => Step::Deleting { kept: kept() },
        3 => Step::Intent { kept: None },
        4 => Step::Intent { kept: Some(kept()) },
        5 => Step::Created { replacement: r(), kept: None },
        6 => Step::Created { replacement: r(), kept: Some(kept()) },
        7 => Step::Running { replacement: r() },
        8 => Step::Deleted { replacement: r() },
        9 => Step::Abandoned { replacement: r(), kept: None },
        10 => Step::Abandoned { replacement: r(), kept: Some(kept()) },
        11 => Step::Closed { replacement: Some(r()) },
        12 => Step::Closed { replacement: None },
        _ => Step::Ended,
    }
}

const STEPS: usize = 14;

fn recreation(step: Step, minutes: i64) -> Recreation {
    let cause = Cause::JobFailed { job: JobId::new("job-a"), error: None };
    let last_error = Some("as it was before".into());
    let begun = Recreation::planned("name", cause, "marker".into(), ago(minutes));
    Recreation { step, last_error, pass: "p".into(), ..begun }
}

/// Ten instances, some of which bear the markers of others, jobs of them, and a ledger that may contradict it all.
pub(super) fn drawn(rng: &mut fastrand::Rng) -> (Vec<Instance>, Vec<Job>, Vec<(InstanceId, Recreation)>, Ledger) {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let anybody = |rng: &mut fastrand::Rng| names[rng.usize(..names.len())];
    let mut instances = Vec::new();
    for name in names {
        if rng.u8(..5) == 0 {
            continue;
        }
        let mut instance = exited(name);
        instance.status = Status::from_word(STATUSES[rng.usize(..STATUSES.len())]);
        // A replacement comes after what it replaces.
        let old = anybody(rng);
        if old < name && rng.u8(..3) > 0 {
            instance.name = replacement_name(&id(old), "name", "job-a").into();
            instance.marker = Some(Box::new(instance.name.as_str().into()));
        }
        instance.created_at = Seconds::new(ago(rng.i64(0..200)).as_secs());
        instance.started_at = Seconds::new(ago(rng.i64(0..200)).as_secs()).filter(|_| rng.bool());
        instance.stopped_at = Seconds::new(ago(rng.i64(0..200)).as_secs()).filter(|_| rng.bool());
        if rng.u8(..8) == 0 {
            instance.billing = Billing::OnDemand;
        }
        instances.push(instance);
    }
    let kinds = [JobKind::InstanceMigrate, JobKind::AutoInstanceMigrate, JobKind::SaveImage];
    let jobs = (0..rng.usize(..12)).map(|n| Job {
        created_at: Some(ago(i64::try_from(n * 7).unwrap())),
        state: JobState::from_word(JOBS[rng.usize(..JOBS.len())]),
        ..job(anybody(rng), &format!("j{n}"), kinds[rng.usize(..kinds.len())].clone(), JobState::Fail, 0)
    });
    let jobs: Vec<Job> = jobs.collect();
    // No instance is replaced twice, replaces two, or is replaced while it replaces another.
    let mut cast = names;
    rng.shuffle(&mut cast);
    let mut recreations: Vec<(InstanceId, Recreation)> = Vec::new();
    for pair in cast.chunks_mut(2) {
        pair.sort_unstable();
        if rng.bool() {
            continue;
        }
        let recreation = recreation(step(rng.usize(..STEPS), pair[1]), rng.i64(0..300));
        if let Some(replacement) = instances.iter_mut().find(|it| Some(&it.id) == recreation.step.replacement()) {
            replacement.name = replacement_name(&id(pair[0]), "name", recreation.cause.decided_by()).into();
            replacement.marker = Some(Box::new(replacement.name.as_str().into()));
        }
        recreations.push((id(pair[0]), Recreation { failures: rng.u32(..5), ..recreation }));
    }
    let mut ledger = Ledger::default();
    for name in names {
        if rng.u8(..4) == 0 {
            ledger.stalls.insert(id(name), ago(rng.i64(0..120)));
        }
        if rng.u8(..4) == 0 {
            let call = [Call::Begun, Call::Accepted, Call::Unknown][rng.usize(..3)];
            let call = InFlight {
                instance_name: name.into(),
                called_at: ago(rng.i64(0..90)),
                pass: "p".into(),
                job_before: None,
                previous_attempt: None,
                call,
            };
            ledger.in_flight.insert(id(name), call);
        }
    }
    (instances, jobs, recreations, ledger)
}

pub(super) fn policy(rng: &mut fastrand::Rng) -> Policy {
    Policy {
        halves: [Halves::Both, Halves::Both, Halves::MigrateOnly, Halves::RecreateOnly][rng.usize(..4)],
        recreate_order: [RecreateOrder::CreateFirst, RecreateOrder::DeleteFirst][rng.usize(..2)],
        max_recreations: rng.bool().then(|| rng.usize(..4)),
        max_migrations: rng.bool().then(|| rng.usize(..4)),
        retry_quarantined: rng.bool(),
        exclude: if rng.u8(..4) == 0 { vec![Selector::parse("[ab]").unwrap()] } else { vec![] },
        ..Policy::default()
    }
}

pub(super) const SEEDS: u64 = 4000;

#[test]
fn every_instance_and_every_open_recreation_has_one_verdict() {
    let mut seen = [0; 5];
    for seed in 0..SEEDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (instances, jobs, recreations, ledger) = drawn(&mut rng);
        let (ledger, policy) = (Ledger { recreations: recreations.into_iter().collect(), ..ledger }, policy(&mut rng));
        let snapshot = world(instances, jobs);
        let plan = plan(&snapshot, &ledger, &policy, now());
        assert_eq!(plan.decisions.len(), snapshot.instances.items.len() + plan.absent.len(), "seed {seed}");
        let unlisted = |id: &InstanceId| find(&snapshot.instances.items, id).is_none();
        let mut open: Vec<_> =
            ledger.recreations.iter().filter(|(_, it)| !it.step.is_over()).map(|(id, _)| id).collect();
        open.retain(|id| unlisted(id));
        open.sort();
        let absent: Vec<_> = plan.absent.iter().map(|absent| &absent.id).collect();
        assert_eq!(absent, open, "seed {seed}");

        // What one action rests on, no other action takes away.
        let mut taken: Vec<(&InstanceId, &str)> = Vec::new();
        let mut rested_on: Vec<&InstanceId> = Vec::new();
        for (instance, decision) in plan.rows(&snapshot.instances.items) {
            seen[decision.verdict() as usize] += 1;
            match decision {
                Decision::Migrate { .. } => taken.push((&instance.id, "migrated")),
                Decision::Retire { keep } => {
                    seen[4] += 1;
                    taken.push((&instance.id, "retired"));
                    rested_on.push(keep);
                }
                Decision::Recreate(work) | Decision::Resume(work) => {
                    match (&work.next, work.recreation.step.replacement()) {
                        (Next::DeleteOld, Some(replacement)) => {
                            taken.push((&instance.id, "deleted"));
                            rested_on.push(replacement);
                        }
                        (Next::DeleteOldFirst, _) => taken.push((&instance.id, "deleted first")),
                        (Next::Create, _) if !unlisted(&instance.id) => taken.push((&instance.id, "recreated")),
                        // With the old instance running all its replacements go, one for the other's sake or not.
                        (Next::Abandon(Unfit::NotNeeded), Some(_)) => {}
                        (Next::Abandon(_), Some(replacement)) => taken.push((replacement, "given up")),
                        _ => {}
                    }
                }
                Decision::Skip(_) => {}
            }
            let (text, reason) = (decision.detail(instance, &policy), decision.reason());
            assert!(!text.is_empty() && !reason.is_empty(), "seed {seed}: every verdict says why");
        }
        taken.sort();
        for pair in taken.windows(2) {
            assert_ne!(pair[0].0, pair[1].0, "seed {seed}: {} is {} and {}", pair[0].0, pair[0].1, pair[1].1);
        }
        for id in rested_on {
            let what = taken.iter().find(|(taken, _)| *taken == id);
            assert_eq!(what, None, "seed {seed}: {id} has to stay");
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "every verdict occurs: {seen:?}");
}

/// Neither the order of jobs nor that of the ledger's maps matters, which differs with each map that is made.
#[test]
fn the_order_of_jobs_and_records_does_not_matter() {
    for seed in 0..SEEDS / 10 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (instances, mut jobs, mut recreations, ledger) = drawn(&mut rng);
        let policy = policy(&mut rng);
        let mut planned = |rng: &mut fastrand::Rng| {
            rng.shuffle(&mut jobs);
            rng.shuffle(&mut recreations);
            let recreations = recreations.iter().cloned().collect();
            let ledger = Ledger { recreations, ..ledger.clone() };
            plan(&world(instances.clone(), jobs.clone()), &ledger, &policy, now())
        };
        let expected = planned(&mut rng);
        for _ in 0..5 {
            assert_eq!(planned(&mut rng), expected, "seed {seed}");
        }
    }
}

/// A provider that does everything it is told at once and never refuses.
struct Provider {
    instances: Vec<Instance>,
    jobs: Vec<Job>,
    ledger: Ledger,
    made: usize,
    now: Timestamp,
}

impl Provider {
    /// Passes, five minutes apart, until the recreation of "a" is over, and some more. What is going goes, what comes up
    /// does so within minutes, but for "r", which takes two hours.
    fn goes_on(&mut self, policy: &Policy) {
        let mut left = 3;
        for pass in 0..40 {
            self.pass(policy);
            if pass == 3 {
                self.instances.retain(|it| !it.status.is_going());
            }
            for instance in self.instances.iter_mut().filter(|it| it.status.is_coming_up()) {
                if instance.id != id("r") || pass == 24 {
                    instance.status = Status::Running;
                }
            }
            let is_open = self.ledger.recreations.values().any(|recreation| !recreation.step.is_over());
            left -= i32::from(!is_open && pass > 3);
            if left == 0 {
                break;
            }
        }
    }

    /// One pass, and what it does is done.
    fn pass(&mut self, policy: &Policy) {
        let snapshot = world(self.instances.clone(), self.jobs.clone());
        let plan = plan(&snapshot, &self.ledger, policy, self.now);
        for (id, change) in &plan.journal {
            match change {
                Some(recreation) => drop(self.ledger.recreations.insert(id.clone(), recreation.clone())),
                None => drop(self.ledger.recreations.remove(id)),
            }
        }
        for (id, since) in &plan.stalls {
            match since {
                Some(since) => drop(self.ledger.stalls.insert(id.clone(), *since)),
                None => drop(self.ledger.stalls.remove(id)),
            }
        }
        let work = plan.work(&snapshot.instances.items);
        for work in work.recreations {
            self.carry_out(&work.instance, &work.recreation, &work.next);
        }
        for duplicate in work.duplicates {
            self.delete(&duplicate.instance.id);
        }
        for migration in work.migrations {
            let id = migration.instance.id.clone();
            self.ledger.last_attempt.insert(id.clone(), Stamp::At(self.now));
            self.instances.iter_mut().filter(|it| it.id == id).for_each(|it| it.status = Status::Running);
        }
        self.now = self.now + Duration::from_secs(300);
    }

    fn carry_out(&mut self, old: &InstanceId, recreation: &Recreation, next: &Next) {
        let transition = |recreation: Recreation, transition: Transition| {
            recreation.apply(transition, self.now).expect("a legal transition")
        };
        let then = match (next, recreation.step.replacement().cloned()) {
            (Next::Create, _) => {
                self.made += 1;
                let made = id(&format!("made-{}", self.made));
                let then =
                    transition(transition(recreation.clone(), Transition::Create), Transition::Found(made.clone()));
                let created_at = Seconds::new(self.now.as_secs());
                let (name, marker) =
                    (recreation.marker.as_str().into(), Some(Box::new(recreation.marker.as_str().into())));
                self.instances.push(Instance {
                    name,
                    marker,
                    status: Status::Running,
                    created_at,
                    ..exited(made.as_str())
                });
                then
            }
            (Next::DeleteOldFirst, _) => {
                let then = transition(recreation.clone(), Transition::DeleteOldFirst(kept()));
                self.delete(old);
                then
            }
            (Next::DeleteOld, _) => {
                let then =
                    transition(transition(recreation.clone(), Transition::DeleteOld), Transition::DeletionAccepted);
                self.delete(old);
                then
            }
            (Next::Abandon(why), Some(replacement)) => {
                let then = transition(recreation.clone(), Transition::Abandon(why.clone()));
                self.delete(&replacement);
                then
            }
            (Next::Abandon(_), None) => panic!("there is nothing to give up at {recreation:?}"),
            (Next::CallOff | Next::LeaveBoth(_), _) => panic!("only rollouts want {next:?}"),
            (Next::Watch | Next::Rest(_) | Next::Nothing, _) => return,
        };
        self.ledger.recreations.insert(old.clone(), Recreation { pass: "p".into(), ..then });
    }

    fn delete(&mut self, id: &InstanceId) {
        self.instances.retain(|instance| instance.id != *id);
    }

    fn alive(&self) -> Vec<String> {
        let of_the_story = |it: &&Instance| !it.status.is_going();
        let mut alive: Vec<_> = self.instances.iter().filter(of_the_story).map(|it| it.id.to_string()).collect();
        alive.sort();
        alive
    }
}

/// From every step and every situation a provider in good order leads to the end within half a day, or out of a quarantine:
/// one instance lives, the recreation is over, and where there is none left it says so.
#[test]
fn no_step_is_stuck() {
    let olds: [(&str, fn(Instance) -> Instance, bool); 6] = [
        ("gone", |it| it, false),
        ("stuck", |it| it, true),
        ("exited", |it| Instance { status: Status::Exited, ..it }, true),
        ("running", |it| Instance { status: Status::Running, started_at: Seconds::new(ago(0).as_secs()), ..it }, true),
        (
            "stopped since",
            |it| Instance { status: Status::Exited, started_at: Seconds::new(ago(1).as_secs()), ..it },
            true,
        ),
        ("removing", |it| Instance { status: Status::from_word("removing"), ..it }, true),
    ];
    let replacements = ["", "running", "creating", "exited", "migrating", "removing"];
    let (mut stories, mut failed_stories) = (0, Vec::new());
    for number in 0..STEPS {
        for (name, change, is_there) in &olds {
            for status in replacements {
                for marked in ["", "running", "creating"] {
                    for minutes in [0, 5, 90] {
                        for failures in [0, 3] {
                            for order in [RecreateOrder::CreateFirst, RecreateOrder::DeleteFirst] {
                                let marker = replacement_name(&id("a"), "name", "job-a");
                                let named = |text: &str, status: &str| Instance {
                                    name: marker.as_str().into(),
                                    marker: Some(Box::new(marker.as_str().into())),
                                    status: Status::from_word(status),
                                    created_at: Seconds::new(ago(minutes).as_secs()),
                                    ..exited(text)
                                };
                                let mut instances: Vec<Instance> = Vec::new();
                                instances.extend(is_there.then(|| change(stuck("a"))));
                                instances.extend((!status.is_empty()).then(|| named("r", status)));
                                instances.extend((!marked.is_empty()).then(|| named("s", marked)));
                                let begun = Recreation {
                                    failures,
                                    marker: marker.clone(),
                                    ..recreation(step(number, "r"), minutes)
                                };
                                let mut provider = Provider {
                                    instances,
                                    jobs: vec![failed("a")],
                                    ledger: Ledger {
                                        recreations: [(id("a"), begun.clone())].into(),
                                        ..Ledger::default()
                                    },
                                    made: 0,
                                    now: now(),
                                };
                                let policy = Policy { recreate_order: order, ..Policy::default() };
                                let story = format!(
                                    "{} for {minutes} min, {failures} failures, old {name}, r {status:?}, s {marked:?}, {order:?}",
                                    begun.step.into_str()
                                );
                                stories += 1;
                                provider.goes_on(&policy);
                                provider.now = provider.now + QUARANTINE;
                                provider.goes_on(&policy);
                                failed_stories.extend(is_over(&provider).err().map(|how| format!("{story}: {how}")));
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(failed_stories.is_empty(), "{} of {stories}:\n{}", failed_stories.len(), failed_stories.join("\n"));
    assert!(stories > 10_000, "{stories}");
}

/// Whether a recreation came to its end; if not, how it stands.
fn is_over(provider: &Provider) -> Result<(), String> {
    let alive = provider.alive();
    match provider.ledger.recreations.get(&id("a")) {
        Some(left) if !left.step.is_over() => Err(format!("still {left:?}, alive {alive:?}")),
        Some(ended) if ended.step == Step::Ended && ended.last_error.is_none() => {
            Err("ended, and nobody says why".into())
        }
        left if alive.len() > 1 => Err(format!("alive are {alive:?}, {left:?}")),
        _ => Ok(()),
    }
}
