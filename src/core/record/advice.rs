//! What to do next about the state of the service.

use std::time::Duration;

use super::downtime::{LostHours, RecoveryFigures};
use super::health::{Diagnosis, FleetTroubles, Health, LeftOver, RECENT};
use super::outbox::Outgoing;
use super::trail::{Seen, Sighting};
use crate::core::pass::spell::{ALL_TIME, Days, Spell};
use crate::core::record::execution::{Attempt, ExecutionStatus, Outcome, Recorded};
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::InstanceId;
use crate::core::world::policy::Policy;
use crate::core::world::time::Timestamp;
use crate::core::world::times::LONGEST_RECREATION;

/// A step for a person to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is the matter, or what is wanted, in a few words.
    pub what: String,
    /// What to call, in this order.
    pub commands: Vec<String>,
}

/// What advice follows from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub diagnosis: &'a Diagnosis,
    pub interval: Duration,
    /// The last passes, newest first.
    pub passes: &'a [Recorded],
    /// Recreations that are open, or ended without a successor.
    pub recreations: &'a [(InstanceId, Recreation)],
    /// Events that no receiver took yet, oldest first.
    pub outbox: &'a [Outgoing],
    /// What is down, the longest first.
    pub down: &'a [(InstanceId, Spell)],
    /// How what was down came back in the last month.
    pub recovery: &'a RecoveryFigures,
    pub days: &'a Days,
    pub policy: &'a Policy,
    pub left_over: Option<LeftOver>,
}

/// The interval that is recommended: a shorter one brings back little sooner.
const GOOD_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Less lost time in a month is not worth another setting.
const LOST_HOURS_THAT_MATTER: f64 = 1.0;

/// How many announced reclaims in a row must have come true before announcements are to be acted on.
const NOTICES_TO_TRUST: u64 = 10;

/// What to do next, the most urgent first; nothing when all is well, or when nothing is wanted.
#[must_use]
pub fn advice(facts: &Facts<'_>, now: Timestamp) -> Vec<Advice> {
    let Facts { diagnosis, interval, passes, recreations, outbox, down, .. } = *facts;
    match diagnosis.health {
        Health::Disabled => return Vec::new(),
        Health::NeverExecuted => return vec![to("see what a pass would do", ["respot dry-run"])],
        Health::Healthy | Health::Degraded | Health::Unhealthy => {}
    }
    let mut steps = Vec::new();
    if diagnosis.next_execution.is_some_and(|due| now.since(due) > interval) {
        let places = ["crontab -l", "systemctl list-timers", "kubectl get cronjob", "respot doctor"];
        steps.push(to("check the scheduler and this machine's clock, no pass began at its time", places));
    }
    steps.extend(passes.first().and_then(after));

    let quarantined = recreations.iter().filter(|(_, it)| it.quarantined_until(now).is_some());
    let quarantined: Vec<&str> = quarantined.map(|(id, _)| id.as_str()).collect();
    let mut lasting = FleetTroubles { down, ..FleetTroubles::default() }.lasting(interval, now);
    lasting.retain(|(id, _)| !quarantined.contains(&id.as_str()));
    if let [(id, spell), others @ ..] = lasting.as_slice() {
        let name = callable(&spell.name, id);
        let what = format!("see what keeps {name}{} down", and_more(others.len()));
        steps.push(Advice { what, commands: vec![format!("respot explain {name}")] });
    }
    if let [first, others @ ..] = quarantined.as_slice() {
        let what = format!("find out what keeps {first}{} from being recreated", and_more(others.len()));
        let release = "respot run --retry-quarantined".into();
        steps.push(Advice { what, commands: vec![format!("respot explain {first}"), release] });
    }
    let overdue: Vec<&InstanceId> = overdue(recreations, now).collect();
    if let [first, others @ ..] = overdue.as_slice() {
        let what = format!("see what holds up the recreation of {first}{}", and_more(others.len()));
        steps.push(Advice { what, commands: vec![format!("respot explain {first}")] });
    }
    if let Some((what, command)) = facts.left_over.map(LeftOver::in_words) {
        steps.push(to(what, [command]));
    }
    let lost: Vec<&Sighting> = lost(passes).collect();
    if let [first, others @ ..] = lost.as_slice() {
        let name = callable(&first.instance_name, &first.instance_id);
        let what = format!("find out who deleted {name}{}, gone without a successor", and_more(others.len()));
        steps.push(Advice { what, commands: vec![format!("respot history --instance {name}")] });
    }
    let ended = recreations.iter().filter(|(_, it)| matches!(it.step, Step::Ended));
    let ended: Vec<&str> = ended.map(|(id, _)| id.as_str()).collect();
    if let [first, others @ ..] = ended.as_slice() {
        let what = format!("see why {first}{} ended without a successor", and_more(others.len()));
        steps.push(Advice { what, commands: vec![format!("respot explain {first}")] });
    }
    // One that was not sent yet waits for the end of its pass only.
    if outbox.iter().any(|waiting| waiting.attempts > 0) {
        steps.push(to("test the receiver, it takes no events", ["respot doctor --send-test-event"]));
    }
    let failed = |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Failed | Outcome::Unknown);
    let mut recent = passes.iter().take(RECENT).flat_map(|pass| &pass.attempts).filter(failed);
    if diagnosis.recent_errors > 0 {
        let mut commands = vec![format!("respot history --limit {RECENT}")];
        let known = |attempt: &&Attempt| !quarantined.contains(&attempt.instance_id.as_str());
        commands.extend(
            recent
                .find(known)
                .map(|attempt| format!("respot explain {}", callable(&attempt.instance_name, &attempt.instance_id))),
        );
        steps.push(Advice { what: "see which actions failed, and why".into(), commands });
    }
    steps.extend(settings(facts));
    steps
}

/// Recreations that are under way for longer than any should; one that waits for room or for time is not under way.
pub fn overdue(recreations: &[(InstanceId, Recreation)], now: Timestamp) -> impl Iterator<Item = &InstanceId> {
    let is_under_way = |it: &Recreation| !matches!(it.step, Step::Pending { .. }) && !it.step.is_over();
    let overdue =
        recreations.iter().filter(move |(_, it)| now.since(it.opened_at) > LONGEST_RECREATION && is_under_way(it));
    overdue.map(|(id, _)| id)
}

/// What the last passes saw gone without a successor.
pub fn lost(passes: &[Recorded]) -> impl Iterator<Item = &Sighting> {
    passes.iter().take(RECENT).flat_map(|pass| &pass.sightings).filter(|it| it.seen == Seen::Vanished)
}

/// Settings that would have brought back sooner what was down in the last month.
fn settings(Facts { interval, recovery, days, policy, .. }: &Facts<'_>) -> Vec<Advice> {
    let LostHours { noticing, held_back, no_room, failed, coming_up } = recovery.lost_by;
    let matters = recovery.lost_instance_hours >= LOST_HOURS_THAT_MATTER;
    let is_most = |part: f64| matters && [noticing, held_back, no_room, failed, coming_up].iter().all(|it| *it <= part);
    let mut steps = Vec::new();
    if is_most(noticing) && *interval > GOOD_INTERVAL {
        let what = "run passes every 5 minutes, noticing costs the most time";
        steps.push(to(what, ["MIGRATION_INTERVAL_MINUTES=5"]));
    }
    if is_most(no_room) && !policy.bridge.is_on() {
        let what = "consider on-demand stand-ins, lack of room costs the most time";
        steps.push(to(what, ["respot markets", "RESPOT_BRIDGE_USD_PER_DAY"]));
    }
    let taken = taken_in_a_row(days);
    if policy.notice.is_none() && taken >= NOTICES_TO_TRUST {
        let what = format!("replace instances before they go, {taken} announced reclaims in a row came true");
        steps.push(to(&what, ["RESPOT_NOTICE=on"]));
    }
    steps
}

/// Announced reclaims that came true since the last day (UTC) on which one was withdrawn.
fn taken_in_a_row(days: &Days) -> u64 {
    let newest_first = days.iter().rev().filter(|(day, _)| *day != ALL_TIME);
    newest_first.take_while(|(_, sums)| sums.withdrawn == 0).map(|(_, sums)| sums.taken).sum()
}

fn to<const N: usize>(what: &str, commands: [&str; N]) -> Advice {
    Advice { what: what.into(), commands: commands.map(String::from).into() }
}

/// What the end of the last pass asks for.
fn after(last: &Recorded) -> Option<Advice> {
    match last.execution.status {
        ExecutionStatus::Failed if was_refused(last) => {
            Some(to("check the API key, the provider refuses it", ["respot doctor"]))
        }
        ExecutionStatus::Failed => Some(to("find out why the last pass failed", ["respot doctor"])),
        ExecutionStatus::Timeout => {
            let what = "raise MIGRATION_JOB_TIMEOUT_MS or find what is slow, the last pass ran out of time";
            Some(to(what, ["respot history --limit 5", "respot doctor"]))
        }
        ExecutionStatus::Interrupted => Some(to("go on where the last pass was stopped", ["respot run"])),
        ExecutionStatus::Running | ExecutionStatus::Completed | ExecutionStatus::Partial => None,
    }
}

/// Whether the provider refused the key of a pass.
fn was_refused(last: &Recorded) -> bool {
    let mut kinds = last.attempts.iter().map(|attempt| attempt.error_kind).chain([last.execution.error_kind]);
    kinds.any(|kind| kind == Some(ErrorKind::Auth))
}

/// The name, where a shell takes it as it is; else the id.
fn callable<'a>(name: &'a str, id: &'a InstanceId) -> &'a str {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain);
    if fits { name } else { id.as_str() }
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pass::spell::DaySums;
    use crate::core::record::execution::{Action, Execution, Summary};
    use crate::core::record::health::diagnose;
    use crate::core::recreation::journal::{Cause, MOST_FAILURES, QUARANTINE};
    use crate::core::world::money::Usd;
    use crate::core::world::policy::{BridgePolicy, NoticePolicy};

    const QUARTER: Duration = Duration::from_secs(900);

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + 60 * minutes)
    }

    fn pass(status: ExecutionStatus, error: &str, failed: &[(&str, &str)]) -> Recorded {
        let attempts: Vec<Attempt> = failed
            .iter()
            .map(|(id, name)| Attempt {
                instance_id: InstanceId::new(id),
                instance_name: (*name).into(),
                action: Action::Migrate,
                outcome: Outcome::Failed,
                reason: "no".into(),
                error_kind: None,
                new_instance_id: None,
                response_time: None,
                at: at(0),
            })
            .collect();
        let summary = Summary::default().with_attempts(&attempts);
        let error = (!error.is_empty()).then(|| error.to_owned());
        let execution = Execution::begun("a".into(), at(0), false).closed(status, at(1), summary, error);
        Recorded { attempts, ..Recorded::of(execution) }
    }

    fn refused(kind: Option<ErrorKind>) -> Recorded {
        let pass = pass(ExecutionStatus::Failed, "GET /gpu/instances: 401 UNAUTHORIZED", &[]);
        Recorded { execution: Execution { error_kind: kind, ..pass.execution }, ..pass }
    }

    fn recreation(id: &str, failures: u32, step: Step) -> (InstanceId, Recreation) {
        let planned = Recreation::planned("name", Cause::Found, "marker".into(), at(0));
        (InstanceId::new(id), Recreation { failures, step, ..planned })
    }

    fn waiting(attempts: u32) -> Outgoing {
        Outgoing {
            id: "evt".into(),
            event: "pass.failed".into(),
            at: at(0),
            body: String::new(),
            attempts,
            last_error: None,
            not_before: None,
        }
    }

    struct Row {
        enabled: bool,
        passes: Vec<Recorded>,
        recreations: Vec<(InstanceId, Recreation)>,
        outbox: Vec<Outgoing>,
        down: Vec<(InstanceId, Spell)>,
        now: Timestamp,
        expected: &'static [&'static str],
    }

    impl Row {
        fn new(passes: &[Recorded], expected: &'static [&'static str]) -> Self {
            Self {
                enabled: true,
                passes: passes.into(),
                recreations: vec![],
                outbox: vec![],
                down: vec![],
                now: at(2),
                expected,
            }
        }

        /// Each step as one line must hold the text expected of it.
        fn check(&self) {
            let Self { enabled, passes, recreations, outbox, down, now, expected } = self;
            let executions: Vec<Execution> = passes.iter().map(|it| it.execution.clone()).collect();
            let diagnosis =
                diagnose(*enabled, QUARTER, &executions, FleetTroubles { down, ..FleetTroubles::default() }, *now);
            let facts = Facts {
                left_over: None,
                diagnosis: &diagnosis,
                interval: QUARTER,
                passes,
                recreations,
                outbox,
                down,
                recovery: &RecoveryFigures::default(),
                days: &Days::new(),
                policy: &Policy::DEFAULT,
            };
            let steps: Vec<String> =
                advice(&facts, *now).iter().map(|it| format!("{}: {}", it.what, it.commands.join(", "))).collect();
            assert_eq!(steps.len(), expected.len(), "{steps:?} for {expected:?}");
            for (step, part) in steps.iter().zip(*expected) {
                assert!(step.contains(part), "{step:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn each_state_has_its_next_step() {
        use ExecutionStatus::{Completed, Failed, Interrupted, Partial, Running, Timeout};
        let well = pass(Completed, "", &[]);
        let stuck = || recreation("stuck", MOST_FAILURES, Step::Pending { kept: None });
        let other = || recreation("other", MOST_FAILURES, Step::Pending { kept: None });
        let scheduler: &[&str] = &["crontab -l, systemctl list-timers, kubectl get cronjob"];
        let rows = [
            Row::new(&[], &["respot dry-run"]),
            Row::new(std::slice::from_ref(&well), &[]),
            Row { enabled: false, ..Row::new(&[pass(Failed, "x", &[("a", "a")])], &[]) },
            Row { enabled: false, ..Row::new(&[], &[]) },
            Row { now: at(30), ..Row::new(std::slice::from_ref(&well), &[]) },
            Row {
                now: Timestamp::from_millis(at(30).as_millis() + 1),
                ..Row::new(std::slice::from_ref(&well), scheduler)
            },
            Row {
                now: at(40),
                ..Row::new(
                    &[refused(Some(ErrorKind::Auth))],
                    &["scheduler", "API key, the provider refuses it: respot doctor"],
                )
            },
            // A record of an earlier version, which has the error in words only.
            Row::new(&[refused(None)], &["failed: respot doctor"]),
            Row::new(&[pass(Failed, "GET /gpu/instances: connection refused", &[])], &["failed: respot doctor"]),
            Row::new(&[pass(Timeout, "the pass ran into its deadline", &[])], &["MIGRATION_JOB_TIMEOUT_MS"]),
            Row::new(&[pass(Interrupted, "", &[])], &["respot run"]),
            Row::new(&[pass(Running, "", &[])], &[]),
            Row::new(
                &[pass(Partial, "", &[("i1", "train-7")])],
                &["why: respot history --limit 5, respot explain train-7"],
            ),
            Row::new(&[pass(Partial, "", &[("i1", "a b")])], &["respot explain i1"]),
            Row::new(&[pass(Partial, "", &[("i1", "--all")])], &["respot explain i1"]),
            Row::new(&[well.clone(), pass(Partial, "", &[("i1", "b")])], &["respot explain b"]),
            Row {
                recreations: vec![stuck()],
                ..Row::new(
                    std::slice::from_ref(&well),
                    &["recreated: respot explain stuck, respot run --retry-quarantined"],
                )
            },
            Row {
                recreations: vec![stuck(), other()],
                ..Row::new(
                    &[pass(Partial, "", &[("stuck", "stuck"), ("i1", "train-7")])],
                    &["stuck and 1 more", "respot history --limit 5, respot explain train-7"],
                )
            },
            Row {
                recreations: vec![stuck()],
                passes: vec![Recorded {
                    execution: Execution { started_at: at(24 * 60), ..well.execution.clone() },
                    ..well.clone()
                }],
                now: at(0) + QUARANTINE,
                ..Row::new(&[], &[])
            },
            Row {
                recreations: vec![recreation("gone", 0, Step::Ended), recreation("b", 1, Step::Pending { kept: None })],
                ..Row::new(std::slice::from_ref(&well), &["gone ended without a successor: respot explain gone"])
            },
            Row { outbox: vec![waiting(0)], ..Row::new(std::slice::from_ref(&well), &[]) },
            Row {
                outbox: vec![waiting(0), waiting(1)],
                ..Row::new(std::slice::from_ref(&well), &["respot doctor --send-test-event"])
            },
        ];
        for row in &rows {
            row.check();
        }
        let spell = |id: &str, name: &str, since| {
            (InstanceId::new(id), Spell { name: name.into(), down_at: at(since), ..Spell::default() })
        };
        let (long, short) = (spell("i1", "train-7", -29), spell("i2", "a b", -10));
        for (down, recreations, expected) in [
            (vec![short.clone()], vec![], [].as_slice()),
            (vec![long.clone(), short], vec![], &["keeps train-7 down: respot explain train-7"]),
            (vec![spell("i1", "a b", -29), long.clone()], vec![], &["keeps i1 and 1 more down: respot explain i1"]),
            (vec![spell("stuck", "stuck", -29)], vec![stuck()], &["being recreated: respot explain stuck"]),
        ] {
            Row { down, recreations, ..Row::new(std::slice::from_ref(&well), expected) }.check();
        }
        let refused = Recorded {
            attempts: vec![Attempt {
                error_kind: Some(ErrorKind::Auth),
                outcome: Outcome::Skipped,
                ..pass(Failed, "", &[("a", "a")]).attempts.remove(0)
            }],
            ..pass(Failed, "stopped", &[])
        };
        assert_eq!(refused.execution.summary, Summary::default());
        Row::new(&[refused], &["the API key"]).check();
    }

    /// Hours lost in noticing, for want of room and in coming up, minutes between passes, and reclaims by day: those that
    /// came true and those that were withdrawn; and whether announcements are acted on and there may be bridges.
    #[test]
    fn lost_time_asks_for_settings() {
        type Row = ([f64; 3], u64, &'static [(u64, u64)], bool, bool, &'static [&'static str]);
        const INTERVAL: &str = "MIGRATION_INTERVAL_MINUTES=5";
        const BRIDGE: &str = "respot markets, RESPOT_BRIDGE_USD_PER_DAY";
        const NOTICE: &str = "10 announced reclaims in a row came true: RESPOT_NOTICE=on";
        let rows: &[Row] = &[
            ([0.0; 3], 15, &[], false, false, &[]),
            ([0.5, 0.1, 0.1], 15, &[], false, false, &[]),
            ([5.0, 1.0, 2.0], 15, &[], false, false, &[INTERVAL]),
            ([5.0, 1.0, 2.0], 5, &[], false, false, &[]),
            ([1.0, 5.0, 2.0], 15, &[], false, false, &[BRIDGE]),
            ([1.0, 5.0, 2.0], 15, &[], false, true, &[]),
            ([1.0, 2.0, 5.0], 15, &[], false, false, &[]),
            ([0.0; 3], 5, &[(6, 0), (4, 0)], false, false, &[NOTICE]),
            ([0.0; 3], 5, &[(6, 0), (4, 0)], true, false, &[]),
            ([0.0; 3], 5, &[(6, 0), (3, 0)], false, false, &[]),
            ([0.0; 3], 5, &[(9, 1), (6, 0), (4, 0)], false, false, &[NOTICE]),
            ([0.0; 3], 5, &[(6, 0), (4, 1)], false, false, &[]),
        ];
        let passes = [pass(ExecutionStatus::Completed, "", &[])];
        let diagnosis = diagnose(true, QUARTER, &[passes[0].execution.clone()], FleetTroubles::default(), at(2));
        for (lost, minutes, days, has_notice, has_bridge, expected) in rows {
            let [noticing, no_room, coming_up] = *lost;
            let lost_by = LostHours { noticing, no_room, coming_up, ..LostHours::default() };
            let recovery =
                RecoveryFigures { lost_by, lost_instance_hours: lost.iter().sum(), ..RecoveryFigures::default() };
            let day = |(n, (taken, withdrawn)): (usize, &(u64, u64))| {
                let sums = DaySums { taken: *taken, withdrawn: *withdrawn, ..DaySums::default() };
                (format!("2026-01-1{n}"), sums)
            };
            let of_all_time = DaySums { taken: 99, withdrawn: 99, ..DaySums::default() };
            let days: Days = days.iter().enumerate().map(day).chain([(ALL_TIME.to_owned(), of_all_time)]).collect();
            let notice = has_notice.then_some(NoticePolicy { lead: QUARTER, overlap: Duration::ZERO });
            let per_day = Usd::from_micros(i64::from(*has_bridge));
            let bridge = BridgePolicy { per_day, ..BridgePolicy::DEFAULT };
            let facts = Facts {
                left_over: None,
                diagnosis: &diagnosis,
                interval: Duration::from_secs(minutes * 60),
                passes: &passes,
                recreations: &[],
                outbox: &[],
                down: &[],
                recovery: &recovery,
                days: &days,
                policy: &Policy { notice, bridge, ..Policy::DEFAULT },
            };
            let steps = advice(&facts, at(2));
            let steps: Vec<String> =
                steps.iter().map(|it| format!("{}: {}", it.what, it.commands.join(", "))).collect();
            assert_eq!(steps.len(), expected.len(), "{steps:?} for {lost:?} {days:?}");
            assert!(steps.iter().zip(*expected).all(|(step, part)| step.contains(part)), "{steps:?}, not {expected:?}");
        }
    }
}
