//! Tables for every verdict.

mod explained;
mod limits;
mod properties;
mod recreations;

use std::time::Duration;

use super::*;
use crate::core::pass::ledger::{Call, InFlight, Stamp};
use crate::core::recreation::journal::Next;
use crate::core::recreation::marker::replacement_name;
use crate::core::world::instance::{Job, JobId, JobKind, JobState, Place, ReclaimNotice};
use crate::core::world::policy::{Eligibility, Halves, Scope, Selector};
use crate::core::world::snapshot::{Listing, Shortfall};
use crate::core::world::time::{Seconds, in_words};

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn hours(n: i64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() - n * 3_600_000)
}

fn place() -> Place {
    Place { product: "p".into(), cluster: "c".into() }
}

fn exited(id: &str) -> Instance {
    Instance {
        id: InstanceId::new(id),
        name: format!("name-{id}").into(),
        status: Status::Exited,
        billing: Billing::Spot,
        reclaim: None,
        marker: None,
        aside: None,
        place: Some(place().into()),
        gpus: 1,
        created_at: None,
        started_at: None,
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
    Snapshot {
        taken_at: now(),
        abilities: Default::default(),
        instances: Listing::complete(instances),
        jobs: Listing::complete(jobs),
    }
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
            |c| c.instance.status = Status::from_word("hibernated"),
            "not_exited",
            "hibernated is unknown",
        ),
        ("no status at all", |c| c.instance.status = Status::from_word(""), "not_exited", "gave no status"),
        (
            "stuck after a failed migration",
            |c| {
                c.instance.status = Status::Migrating;
                c.jobs.push(job("a", "j1", JobKind::InstanceMigrate, JobState::Fail, 1));
            },
            "migration_failed",
            "its migration failed: no node (job j1); recreated",
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
            |c| c.jobs.push(job("a", "j1", JobKind::from_word("x"), JobState::from_word("paused"), 1)),
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
        (
            "billing unknown",
            |c| c.instance.billing = Billing::from_word("x"),
            "out_of_scope",
            "billing is x, scope is spot",
        ),
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
            "not selected by --only",
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
            "excluded by the name that it had before it was recreated",
            |c| {
                c.instance.name = "web-recreated-0123456789ab".into();
                c.policy.exclude.push(Selector::parse("web").unwrap());
            },
            "excluded",
            "excluded by --exclude web",
        ),
        (
            "excluded by a name with brackets, written as it is",
            |c| {
                c.instance.name = "train[7]".into();
                c.policy.exclude.push(Selector::parse("train[7]").unwrap());
            },
            "excluded",
            "excluded by --exclude train[7]",
        ),
        (
            "without a name, which may be an excluded one",
            |c| {
                c.instance.name = "".into();
                c.policy.exclude.push(Selector::parse("web").unwrap());
            },
            "nameless",
            "its row has no name, so that --exclude cannot be checked",
        ),
        (
            "excluded though selected",
            |c| {
                c.policy.only.push(Selector::parse("*").unwrap());
                c.policy.exclude.push(Selector::parse("name-*").unwrap());
            },
            "excluded",
            "excluded by --exclude name-*",
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
                let seen = Observation {
                    notice: notice(),
                    first_seen_at: hours(3),
                    last_seen_at: hours(2),
                    down_seen_at: None,
                };
                c.ledger.observations.insert(InstanceId::new("a"), seen);
            },
            "no_previous_migration",
            "",
        ),
        (
            "evidence, but a week old",
            |c| {
                c.policy.eligibility = Eligibility::Reclaimed;
                let seen = Observation {
                    notice: notice(),
                    first_seen_at: hours(200),
                    last_seen_at: hours(169),
                    down_seen_at: None,
                };
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
            "an accepted call without effect starts no cooldown",
            |c| in_flight(c, Call::Accepted, hours(1), None),
            "no_previous_migration",
            "",
        ),
        (
            "a call in doubt holds back only what is exited",
            |c| {
                in_flight(c, Call::Unknown, Timestamp::from_millis(now().as_millis() - 60_000), None);
                c.instance.status = Status::Migrating;
            },
            "not_exited",
            "status is migrating",
        ),
        (
            "excluded comes before out of scope",
            |c| {
                c.instance.billing = Billing::Monthly;
                c.policy.exclude.push(Selector::parse("*").unwrap());
            },
            "excluded",
            "",
        ),
    ];
    for (name, change, reason, part) in rows {
        let mut case =
            Case { instance: exited("a"), jobs: vec![], ledger: Ledger::default(), policy: Policy::default() };
        change(&mut case);
        let snapshot = world(vec![case.instance, exited("z")], case.jobs);
        let plan = plan(&snapshot, &case.ledger, &case.policy, now());
        assert_eq!(plan.decisions.len(), 2, "{name}: one verdict each");
        let (instance, decision) = (&snapshot.instances.items[0], &plan.decisions[0]);
        assert_eq!(decision.reason(), *reason, "{name}");
        let detail = decision.detail(instance, &case.policy);
        assert!(detail.contains(part), "{name}: {detail:?} lacks {part:?}");
        assert_eq!(decision.verdict() == Verdict::Migrate, matches!(decision, Decision::Migrate { .. }));
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
    snapshot.jobs.shortfall = Some(Shortfall::Rows { announced: 2, received: 1 });
    assert_eq!(plan(&snapshot, &ledger, &Policy::default(), now()).decisions[0].reason(), "call_unsettled");
}

#[test]
fn a_limit_leaves_the_oldest_and_says_so_of_the_others() {
    let stopped = |id: &str, age: i64| Instance { stopped_at: Seconds::new(hours(age).as_secs()), ..exited(id) };
    // "d" says nothing of when it stopped: last.
    let snapshot = world(vec![stopped("a", 1), stopped("b", 3), stopped("c", 2), exited("d")], vec![]);
    for (limit, migrated) in [(Some(2), vec!["b", "c"]), (Some(0), vec![]), (None, vec!["b", "c", "a", "d"])] {
        let policy = Policy { max_migrations: limit, ..Policy::default() };
        let plan = plan(&snapshot, &Ledger::default(), &policy, now());
        let work = plan.work(&snapshot.instances.items);
        let chosen: Vec<&str> = work.migrations.iter().map(|it| it.instance.id.as_str()).collect();
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
    let expected = plan(&world(instances.clone(), jobs.clone()), &Ledger::default(), &Policy::default(), now());
    for _ in 0..jobs.len() {
        jobs.rotate_left(1);
        let got = plan(&world(instances.clone(), jobs.clone()), &Ledger::default(), &Policy::default(), now());
        assert_eq!(got, expected);
    }
}

#[test]
fn a_plan_after_an_applied_plan_is_empty() {
    let snapshot = world(vec![exited("a"), exited("b")], vec![]);
    let first = plan(&snapshot, &Ledger::default(), &Policy::default(), now());
    let work = first.work(&snapshot.instances.items);
    let stamps = work.migrations.iter().map(|it| (it.instance.id.clone(), Stamp::At(now())));
    let ledger = Ledger { last_attempt: stamps.collect(), ..Ledger::default() };
    assert_eq!(ledger.last_attempt.len(), 2);
    let second = plan(&snapshot, &ledger, &Policy::default(), now());
    assert_eq!(second.work(&snapshot.instances.items).count(), 0);
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
