//! Verdicts on instances that need a replacement, are getting one, or are one.

use super::*;
use crate::core::recreation::blueprint::Blueprint;
use crate::core::recreation::journal::{CLOSED_LIFE, Cause, ENDED_LIFE, MOST_FAILURES};
use crate::core::world::policy::RecreateOrder;
use crate::core::world::time::Seconds;

pub(super) fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

pub(super) fn ago(minutes: i64) -> Timestamp {
    Timestamp::from_secs(now().as_secs() - 60 * minutes)
}

pub(super) fn stuck(text: &str) -> Instance {
    Instance { status: Status::Migrating, ..exited(text) }
}

pub(super) fn failed(text: &str) -> Job {
    job(text, &format!("job-{text}"), JobKind::InstanceMigrate, JobState::Fail, 1)
}

pub(super) fn kept() -> Box<Blueprint> {
    Box::new(Blueprint { billing: Billing::Spot, notes: vec![], payload: Default::default() })
}

/// The recreation of an instance at this step for so many minutes.
pub(super) fn open(step: Step, minutes: i64) -> Recreation {
    let cause = Cause::JobFailed { job: JobId::new("job-a"), error: Some("no node".into()) };
    Recreation { step, pass: "p".into(), ..Recreation::planned("name-a", cause, "marker".into(), ago(minutes)) }
}

pub(super) fn created() -> Step {
    Step::Created { replacement: id("r"), kept: None }
}

pub(super) fn replacement(text: &str, status: &str) -> Instance {
    let name = replacement_name(&id("a"), "name-a", "job-a");
    Instance {
        marker: Some(Box::new(name.as_str().into())),
        name: name.into(),
        status: Status::from_word(status),
        ..exited(text)
    }
}

/// What the rows start from: "a" is stuck, its migration failed, and nothing is known of it.
struct Case {
    instances: Vec<Instance>,
    jobs: Vec<Job>,
    ledger: Ledger,
    policy: Policy,
    jobs_missing: Option<Shortfall>,
}

impl Case {
    fn journal(&mut self, step: Step, minutes: i64) {
        self.ledger.recreations.insert(id("a"), open(step, minutes));
    }

    fn replaced_by(&mut self, step: Step, minutes: i64, status: &str) {
        self.instances.push(replacement("r", status));
        self.journal(step, minutes);
    }
}

/// Each row: a change to the world, and the verdict on "a", listed or not, with its reason and a part of the sentence.
#[test]
fn the_verdict_on_an_instance_whose_migration_failed() {
    type Row = (&'static str, fn(&mut Case), &'static str, &'static str, &'static str);
    let rows: &[Row] = &[
        ("it is recreated", |_| (), "recreate", "migration_failed", "its migration failed: no node (job job-a)"),
        ("nobody says why", |c| c.jobs[0].error = None, "recreate", "migration_failed", "gave no reason (job job-a)"),
        (
            "it is exited again",
            |c| c.instances[0].status = Status::Exited,
            "recreate",
            "migration_failed",
            "its migration failed",
        ),
        (
            "and cooling down, which does not matter",
            |c| {
                c.instances[0].status = Status::Exited;
                c.ledger.last_attempt.insert(id("a"), Stamp::At(ago(70)));
            },
            "recreate",
            "migration_failed",
            "",
        ),
        (
            "it is down for an hour: stuck",
            |c| {
                c.jobs.clear();
                c.ledger.stalls.insert(id("a"), ago(60));
            },
            "recreate",
            "migration_stuck",
            "no job is at work on it",
        ),
        (
            "it is down for less",
            |c| {
                c.jobs.clear();
                c.ledger.stalls.insert(id("a"), ago(59));
            },
            "skip",
            "migration_stalled",
            "counts as stuck after",
        ),
        ("not managed", |c| c.policy.exclude.push(Selector::parse("a").unwrap()), "skip", "excluded", ""),
        ("not selected", |c| c.policy.only.push(Selector::parse("z").unwrap()), "skip", "not_selected", ""),
        ("out of scope", |c| c.instances[0].billing = Billing::OnDemand, "skip", "out_of_scope", "onDemand"),
        ("migrate only", |c| c.policy.halves = Halves::MigrateOnly, "skip", "migration_failed", "no node (job job-a)"),
        ("recreate only", |c| c.policy.halves = Halves::RecreateOnly, "recreate", "migration_failed", ""),
        (
            "another job is at work",
            |c| c.jobs.push(job("a", "k", JobKind::SaveImage, JobState::Running, 0)),
            "skip",
            "job_unfinished",
            "job k (saveImage)",
        ),
        (
            "rows are missing",
            |c| c.jobs_missing = Some(Shortfall::Rows { announced: 2, received: 1 }),
            "skip",
            "recreation_waits",
            "the list is incomplete",
        ),
        ("over the limit", |c| c.policy.max_recreations = Some(0), "skip", "over_limit", "limit of 0"),
        (
            "delete-first",
            |c| c.policy.recreate_order = RecreateOrder::DeleteFirst,
            "recreate",
            "migration_failed",
            "deleted first, then recreated",
        ),
        // Open recreations.
        (
            "begun and refused",
            |c| {
                let failed = Recreation {
                    failures: 1,
                    last_error: Some("sold out".into()),
                    ..open(Step::Pending { kept: None }, 5)
                };
                c.ledger.recreations.insert(id("a"), failed);
            },
            "resume",
            "migration_failed",
            "attempt 2, the last one failed: sold out",
        ),
        (
            "in quarantine",
            |c| {
                let failed = Recreation {
                    failures: MOST_FAILURES,
                    last_error: Some("sold out".into()),
                    ..open(Step::Pending { kept: None }, 5)
                };
                c.ledger.recreations.insert(id("a"), failed);
            },
            "skip",
            "quarantined",
            "after 3 failed recreations in a row: sold out",
        ),
        (
            "in quarantine, and released",
            |c| {
                let failed = Recreation {
                    failures: MOST_FAILURES,
                    last_error: Some("sold out".into()),
                    ..open(Step::Pending { kept: None }, 5)
                };
                c.ledger.recreations.insert(id("a"), failed);
                c.policy.retry_quarantined = true;
            },
            "resume",
            "migration_failed",
            "tried again after 3 failures, the last one: sold out",
        ),
        (
            "sent, and no sign",
            |c| c.journal(Step::Intent { kept: None }, 1),
            "skip",
            "recreation_unsettled",
            "the create call at",
        ),
        (
            "sent, and no sign for long",
            |c| c.journal(Step::Intent { kept: None }, 3),
            "resume",
            "migration_failed",
            "the call to create it had no effect",
        ),
        (
            "sent, and there it is",
            |c| c.replaced_by(Step::Intent { kept: None }, 1, "creating"),
            "resume",
            "replacement_coming_up",
            "its replacement r is awaited",
        ),
        (
            "coming up",
            |c| c.replaced_by(created(), 9, "creating"),
            "resume",
            "replacement_coming_up",
            "its replacement r is awaited",
        ),
        (
            "coming up for too long",
            |c| c.replaced_by(created(), 60, "creating"),
            "resume",
            "replacement_abandoned",
            "did not come up within 60 min",
        ),
        (
            "it runs",
            |c| c.replaced_by(created(), 9, "running"),
            "resume",
            "replacement_running",
            "its replacement r runs, the old one is deleted",
        ),
        (
            "it is down",
            |c| c.replaced_by(created(), 9, "exited"),
            "skip",
            "replacement_down",
            "its replacement r does not run",
        ),
        (
            "it vanished",
            |c| c.journal(created(), 9),
            "resume",
            "migration_failed",
            "vanished before it was seen running",
        ),
        (
            "it vanished just now",
            |c| c.journal(created(), 1),
            "resume",
            "replacement_coming_up",
            "its replacement r is awaited",
        ),
        (
            "both run",
            |c| {
                c.replaced_by(created(), 9, "running");
                c.instances[0].status = Status::Running;
            },
            "resume",
            "replacement_abandoned",
            "the old instance runs again",
        ),
        (
            "both run, since a moment",
            |c| {
                c.replaced_by(created(), 1, "running");
                c.instances[0].status = Status::Running;
            },
            "skip",
            "recreation_unsettled",
            "it runs again",
        ),
        (
            "it runs, and something is at work on the old one",
            |c| {
                c.replaced_by(created(), 9, "running");
                c.jobs.push(job("a", "k", JobKind::SaveImage, JobState::Running, 0));
            },
            "skip",
            "recreation_waits",
            "a job is at work on it",
        ),
        (
            "it runs, and the old one does something else",
            |c| {
                c.replaced_by(created(), 9, "running");
                c.instances[0].status = Status::from_word("resetting");
            },
            "skip",
            "recreation_waits",
            "its status is resetting",
        ),
        (
            "the deletion was to be sent",
            |c| c.replaced_by(Step::Running { replacement: id("r") }, 1, "running"),
            "resume",
            "replacement_running",
            "",
        ),
        (
            "the deletion was accepted",
            |c| c.replaced_by(Step::Deleted { replacement: id("r") }, 1, "running"),
            "skip",
            "recreation_unsettled",
            "the delete call at",
        ),
        (
            "the deletion had no effect",
            |c| c.replaced_by(Step::Deleted { replacement: id("r") }, 3, "running"),
            "resume",
            "replacement_running",
            "",
        ),
        (
            "given up",
            |c| {
                c.replaced_by(Step::Abandoned { replacement: id("r"), kept: None }, 1, "creating");
                c.ledger.recreations.get_mut(&id("a")).unwrap().last_error = Some("too slow".into());
            },
            "resume",
            "replacement_abandoned",
            "its replacement r is deleted: too slow",
        ),
        (
            "open, migrate only",
            |c| {
                c.replaced_by(created(), 9, "running");
                c.policy.halves = Halves::MigrateOnly;
            },
            "skip",
            "recreation_open",
            "MIGRATION_RETRY_FAILED is false",
        ),
        (
            "open, excluded",
            |c| {
                c.replaced_by(created(), 9, "running");
                c.policy.exclude.push(Selector::parse("a").unwrap());
            },
            "skip",
            "excluded",
            "",
        ),
        (
            "found by its marker",
            |c| c.instances.push(replacement("r", "running")),
            "resume",
            "replacement_coming_up",
            "no node (job job-a); its replacement r is awaited",
        ),
        (
            "found by its marker, and why is forgotten",
            |c| {
                c.instances.push(replacement("r", "running"));
                c.jobs.clear();
            },
            "resume",
            "replacement_coming_up",
            "found by its marker; its replacement r is awaited",
        ),
        (
            "over, and the row lingers",
            |c| c.replaced_by(Step::Closed { replacement: Some(id("r")) }, 1, "running"),
            "skip",
            "replaced",
            "replaced by r; its row lingers",
        ),
        (
            "over, and the row lingers for too long",
            |c| c.replaced_by(Step::Closed { replacement: Some(id("r")) }, 3, "running"),
            "skip",
            "recreation_unsettled",
            "the delete call",
        ),
        (
            "over, and the replacement vanished since",
            |c| c.journal(Step::Closed { replacement: Some(id("r")) }, 9),
            "recreate",
            "migration_failed",
            "job job-a",
        ),
        ("ended, and there it is again", |c| c.journal(Step::Ended, 9), "recreate", "migration_failed", "job job-a"),
        (
            "it runs again",
            |c| {
                c.journal(Step::Pending { kept: None }, 9);
                c.instances[0].status = Status::Running;
            },
            "resume",
            "recreation_closed",
            "no replacement is needed any more",
        ),
        // The old instance is not listed any more.
        (
            "gone, and nothing is left of it",
            |c| {
                c.journal(Step::Pending { kept: None }, 9);
                c.instances.remove(0);
            },
            "resume",
            "recreation_ended",
            "vanished before a replacement existed",
        ),
        (
            "gone, and its specification is kept",
            |c| {
                c.journal(Step::Deleting { kept: kept() }, 9);
                c.instances.remove(0);
            },
            "resume",
            "migration_failed",
            "recreated",
        ),
        (
            "gone, and kept, over the limit",
            |c| {
                c.journal(Step::Pending { kept: Some(kept()) }, 9);
                c.instances.remove(0);
                c.policy.max_recreations = Some(0);
            },
            "skip",
            "over_limit",
            "",
        ),
        (
            "gone, and the replacement comes up",
            |c| {
                c.replaced_by(created(), 9, "creating");
                c.instances.remove(0);
            },
            "resume",
            "replacement_coming_up",
            "is awaited",
        ),
        (
            "gone, and the replacement runs",
            |c| {
                c.replaced_by(created(), 9, "running");
                c.instances.remove(0);
            },
            "resume",
            "recreation_closed",
            "replaced by r",
        ),
        (
            "gone, excluded by its name",
            |c| {
                c.journal(Step::Pending { kept: Some(kept()) }, 9);
                c.instances.remove(0);
                c.policy.exclude.push(Selector::parse("name-a").unwrap());
            },
            "skip",
            "excluded",
            "",
        ),
        (
            "gone, migrate only",
            |c| {
                c.journal(Step::Pending { kept: Some(kept()) }, 9);
                c.instances.remove(0);
                c.policy.halves = Halves::MigrateOnly;
            },
            "skip",
            "recreation_open",
            "",
        ),
    ];
    for (name, change, verdict, reason, part) in rows {
        let mut case = Case {
            instances: vec![stuck("a")],
            jobs: vec![failed("a")],
            ledger: Ledger::default(),
            policy: Policy::default(),
            jobs_missing: None,
        };
        change(&mut case);
        let mut snapshot = world(case.instances, case.jobs);
        snapshot.jobs.shortfall = case.jobs_missing;
        let plan = plan(&snapshot, &case.ledger, &case.policy, now());
        let rows: Vec<_> = plan.rows(&snapshot.instances.items).filter(|(it, _)| it.id == id("a")).collect();
        let [(instance, decision)] = rows[..] else { panic!("{name}: {} verdicts on it", rows.len()) };
        assert_eq!((decision.verdict().into_str(), decision.reason()), (*verdict, *reason), "{name}");
        let detail = decision.detail(instance, &case.policy);
        assert!(detail.contains(part), "{name}: {detail:?} lacks {part:?}");
        let shown = plan.actions(&snapshot.instances.items).iter().any(|(it, _)| it.id == id("a"));
        assert_eq!(shown, *verdict != "skip", "{name}: what is to be done is shown as such");
    }
}

/// The replacement itself: (its status, the job of it, whether "a" is still there; its verdict).
#[test]
fn a_replacement_is_an_instance_like_any_other_but_for_its_failure() {
    let rows: &[(&str, Option<JobState>, bool, &str, &str)] = &[
        ("running", None, true, "skip", "not_exited"),
        ("creating", None, true, "skip", "not_exited"),
        ("exited", None, true, "migrate", "no_previous_migration"),
        ("migrating", Some(JobState::Running), true, "skip", "not_exited"),
        ("migrating", Some(JobState::Fail), true, "skip", "replacement_failed"),
        ("exited", Some(JobState::Fail), true, "skip", "replacement_failed"),
        ("exited", None, false, "migrate", "no_previous_migration"),
    ];
    for (status, state, is_old_there, verdict, reason) in rows {
        let mut instances = vec![replacement("r", status)];
        instances.extend(is_old_there.then(|| stuck("a")));
        let mut jobs = vec![failed("a")];
        jobs.extend(state.clone().map(|state| job("r", "job-r", JobKind::InstanceMigrate, state, 0)));
        let ledger = Ledger { recreations: [(id("a"), open(created(), 9))].into(), ..Ledger::default() };
        let snapshot = world(instances, jobs);
        let plan = plan(&snapshot, &ledger, &Policy::default(), now());
        let (_, decision) = plan.rows(&snapshot.instances.items).find(|(it, _)| it.id == id("r")).unwrap();
        assert_eq!((decision.verdict().into_str(), decision.reason()), (*verdict, *reason), "{status} {state:?}");
    }
}

#[test]
fn of_two_with_one_marker_the_extra_one_is_retired_even_over_the_limits() {
    let made = |text: &str, minutes: i64| Instance {
        created_at: Seconds::new(ago(minutes).as_secs()),
        ..replacement(text, "running")
    };
    for (halves, retired) in [(Halves::Both, 1), (Halves::RecreateOnly, 1), (Halves::MigrateOnly, 0)] {
        let policy = Policy { halves, max_recreations: Some(0), max_migrations: Some(0), ..Policy::default() };
        let snapshot = world(vec![made("r", 9), made("s", 5)], vec![]);
        let plan = plan(&snapshot, &Ledger::default(), &policy, now());
        let duplicates: Vec<_> = plan
            .work(&snapshot.instances.items)
            .duplicates
            .iter()
            .map(|it| (it.instance.id.clone(), it.keep.clone()))
            .collect();
        assert_eq!(duplicates, vec![(id("s"), id("r")); retired]);
    }
}

/// What a plan has stored of the journal, beyond what it does: (step, minutes, the old one is there, the replacement's
/// status; the step stored, `forgotten`, or nothing).
#[test]
fn what_is_seen_is_stored_and_what_is_over_is_forgotten() {
    let minutes = |duration: Duration| i64::try_from(duration.as_secs() / 60).unwrap();
    let closed = || Step::Closed { replacement: Some(id("r")) };
    let rows: &[(Step, i64, bool, &str, &str)] = &[
        (created(), 9, true, "creating", ""),
        (created(), 9, false, "running", "closed"),
        (Step::Abandoned { replacement: id("r"), kept: None }, 9, true, "exited", ""),
        (Step::Abandoned { replacement: id("r"), kept: None }, 9, false, "exited", "closed"),
        (created(), 9, true, "", "pending"),
        (Step::Intent { kept: None }, 1, true, "creating", "created"),
        (Step::Intent { kept: None }, 1, true, "", ""),
        (Step::Intent { kept: None }, 3, true, "", "pending"),
        (Step::Pending { kept: None }, 9, true, "", ""),
        (Step::Pending { kept: None }, 9, false, "", "ended"),
        (closed(), 9, false, "running", ""),
        (closed(), minutes(CLOSED_LIFE) - 1, false, "running", ""),
        (closed(), minutes(CLOSED_LIFE), false, "running", "forgotten"),
        (Step::Closed { replacement: Some(id("q")) }, minutes(CLOSED_LIFE), false, "running", ""),
        (Step::Ended, minutes(ENDED_LIFE) - 1, false, "", ""),
        (Step::Ended, minutes(ENDED_LIFE), false, "", "forgotten"),
    ];
    for (step, minutes, is_old_there, status, expected) in rows {
        let mut instances = vec![exited("z")];
        instances.extend(is_old_there.then(|| stuck("a")));
        instances.extend((!status.is_empty()).then(|| replacement("r", status)));
        let ledger = Ledger { recreations: [(id("a"), open(step.clone(), *minutes))].into(), ..Ledger::default() };
        let plan = plan(&world(instances, vec![failed("a")]), &ledger, &Policy::default(), now());
        let stored = plan.journal.iter().map(|(of, change)| {
            assert_eq!(*of, id("a"));
            change.as_ref().map_or("forgotten", |recreation| recreation.step.into_str())
        });
        assert_eq!(
            stored.collect::<Vec<_>>().join(" "),
            *expected,
            "{step:?} for {minutes} min, replacement {status:?}"
        );
    }
}
