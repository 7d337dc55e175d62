//! Tables for each indicator: what counts, what does not, and what happens on a threshold.

use super::*;
use crate::core::record::execution::{EndedMigrations, Summary};
use crate::core::record::trail::ProviderCalls;
use crate::core::world::instance::InstanceId;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Milliseconds after some moment.
fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

/// A real pass of a minute's length.
fn pass(began: i64) -> Recorded {
    let begun = Execution::begun(format!("migration-job-{began}"), at(began), false);
    Recorded::of(begun.closed(ExecutionStatus::Completed, at(began + MINUTE), Summary::default(), None))
}

fn rehearsal(pass: Recorded) -> Recorded {
    Recorded { execution: Execution { dry_run: true, ..pass.execution }, ..pass }
}

fn attempt(action: Action, outcome: Outcome, new: Option<&str>) -> Attempt {
    Attempt {
        instance_id: InstanceId::new("a"),
        instance_name: "a".into(),
        action,
        outcome,
        reason: String::new(),
        error_kind: None,
        new_instance_id: new.map(InstanceId::new),
        response_time: None,
        at: at(0),
    }
}

fn share(part: u64, whole: u64) -> Share {
    Share { part, whole }
}

#[test]
fn a_threshold_is_not_met_by_touching_it() {
    use Standing::{Met, Missed, NoData};
    let rows = [
        (share(0, 0), Target::Above(95), NoData, None),
        (share(0, 0), Target::Below(1), NoData, None),
        (share(95, 100), Target::Above(95), Missed, Some(9_500)),
        (share(95_001, 100_000), Target::Above(95), Met, Some(9_500)),
        (share(19, 20), Target::Above(95), Missed, Some(9_500)),
        (share(20, 20), Target::Above(95), Met, Some(10_000)),
        (share(0, 20), Target::Above(95), Missed, Some(0)),
        (share(99_999, 100_000), Target::Above(95), Met, Some(9_999)),
        (share(1, 100), Target::Below(1), Missed, Some(100)),
        (share(999, 100_000), Target::Below(1), Met, Some(99)),
        (share(0, 1), Target::Below(1), Met, Some(0)),
        (share(u64::MAX, u64::MAX), Target::Above(95), Met, Some(10_000)),
    ];
    for (share, target, standing, points) in rows {
        assert_eq!((share.against(target), share.basis_points()), (standing, points), "{share:?} {target:?}");
    }
    let limit = Duration::from_millis(1000);
    for (sum_millis, count, standing, mean) in [
        (0, 0, NoData, None),
        (1999, 2, Met, Some(999)),
        (2000, 2, Missed, Some(1000)),
        (2001, 2, Missed, Some(1000)),
        (0, 1, Met, Some(0)),
    ] {
        let got = Mean { sum_millis, count };
        assert_eq!((got.against(limit), got.millis()), (standing, mean), "{got:?}");
    }
}

#[test]
fn indicators_count_what_they_say() {
    use Action::{Migrate, Recreate, Resume};
    use Outcome::{Accepted, Done, Failed, Skipped, Unknown};
    let none = Indicators::of(&[], Some(Duration::from_secs(900)), at(0));
    assert_eq!(none, Indicators::default());

    let attempts = vec![
        attempt(Migrate, Failed, None),
        attempt(Migrate, Done, Some("n")),
        attempt(Recreate, Done, Some("n")),
        attempt(Resume, Done, Some("n")),
        attempt(Resume, Done, None),
        attempt(Recreate, Failed, None),
        attempt(Resume, Failed, Some("n")),
        attempt(Recreate, Accepted, Some("n")),
        attempt(Recreate, Unknown, None),
        attempt(Resume, Skipped, None),
    ];
    let full = |began| Recorded {
        attempts: attempts.clone(),
        provider_calls: ProviderCalls { total: 10, failed: 1 },
        ended_migrations: EndedMigrations { succeeded: 3, failed: 2 },
        ..pass(began)
    };
    let running = Recorded::of(Execution::begun("r".into(), at(-1), false));
    let once = Indicators {
        migrations: share(3, 5),
        recreations: share(2, 4),
        pass_time: Mean { sum_millis: MINUTE, count: 1 },
        provider_errors: share(1, 10),
        schedule: share(0, 0),
    };
    // The passes, newest first, and what they come to at time 0.
    let rows = [
        ("one", vec![full(-HOUR)], once),
        ("a running one has no time", vec![running.clone(), full(-HOUR)], once),
        ("a rehearsal only reads", vec![rehearsal(full(-HOUR))], {
            Indicators { provider_errors: share(1, 10), ..Indicators::default() }
        }),
        ("just young enough", vec![full(1 - 24 * HOUR)], once),
        ("just too old", vec![full(-24 * HOUR)], Indicators::default()),
        ("by a clock that is ahead", vec![full(MINUTE)], once),
        ("two", vec![full(-HOUR), full(-2 * HOUR)], {
            Indicators {
                migrations: share(6, 10),
                recreations: share(4, 8),
                pass_time: Mean { sum_millis: 2 * MINUTE, count: 2 },
                provider_errors: share(2, 20),
                schedule: share(0, 0),
            }
        }),
    ];
    for (name, passes, expected) in rows {
        assert_eq!(Indicators::of(&passes, None, at(0)), expected, "{name}");
    }
}

/// How the schedule of a quarter of an hour was kept, with passes at these seconds, asked at that second.
#[track_caller]
fn kept(name: &str, every_minutes: u64, seconds: &[i64], now: i64, part: u64, whole: u64) {
    let passes: Vec<Recorded> = seconds.iter().rev().map(|second| pass(second * 1000)).collect();
    let interval = Some(Duration::from_secs(60 * every_minutes));
    let got = Indicators::of(&passes, interval, at(now * 1000)).schedule;
    assert_eq!(got, share(part, whole), "{name}");
}

#[test]
fn a_schedule_is_kept_within_a_minute() {
    // Passes by the second, oldest first; when it is asked; those on time of those expected.
    let rows: &[(&str, &[i64], i64, u64, u64)] = &[
        ("no pass at all", &[], 0, 0, 0),
        ("the first is expected by nobody", &[0], 1, 0, 0),
        ("on the second", &[0, 900], 901, 1, 1),
        ("a minute late", &[0, 960], 961, 1, 1),
        ("more than a minute late", &[0, 961], 962, 0, 1),
        ("a minute early", &[0, 840], 841, 1, 1),
        ("more than a minute early is by hand", &[0, 839], 840, 0, 0),
        ("by hand in between", &[0, 10, 400, 839, 900, 1000, 1800], 1801, 2, 2),
        ("one was missed", &[0, 1800], 1801, 1, 2),
        ("one was missed, and the next a minute late", &[0, 1860], 1861, 1, 2),
        ("three were missed", &[0, 3600, 4500], 4501, 2, 5),
        ("a late one moves nothing", &[0, 1000, 1800, 2700], 2701, 2, 3),
        ("late twice for one time is late once", &[0, 1000, 1300, 1800], 1801, 1, 2),
        ("late each time", &[0, 1000, 2100, 2900], 2901, 0, 3),
        ("a schedule that was moved is late once", &[0, 1200, 2100, 3000], 3001, 2, 3),
        ("moved to earlier minutes", &[0, 600, 1500, 2400], 2401, 1, 2),
        ("moved, and one was missed since", &[0, 1200, 3000], 3001, 1, 3),
        ("moved, and one by hand right after", &[0, 1200, 1300, 2100], 2101, 1, 2),
        ("a timer that drifts", &[0, 950, 1900, 2850, 3800], 3801, 4, 4),
        ("after sleep at once, then by the old minutes", &[0, 6000, 6300, 7200], 7201, 2, 8),
        ("asked when the next is due", &[0, 900], 1800, 1, 1),
        ("asked a minute after it was due", &[0, 900], 1860, 1, 1),
        ("asked more than a minute after it was due", &[0, 900], 1861, 1, 2),
        ("long silence", &[0, 900], 900 + 4 * 900 + 61, 1, 5),
        ("silence after a late one, by the old minutes", &[0, 1200], 1200 + 900 + 60, 0, 1),
        ("silence after a late one, by both", &[0, 1200], 1200 + 900 + 61, 0, 2),
        ("of two that began at once one counts", &[0, 900, 900, 901], 902, 1, 1),
        ("asked by a clock that is behind", &[0, 900], 100, 0, 0),
    ];
    for (name, seconds, now, part, whole) in rows {
        kept(name, 15, seconds, *now, *part, *whole);
    }
}

#[test]
fn short_and_long_intervals_are_kept_too() {
    let rows: &[(&str, u64, &[i64], i64, u64, u64)] = &[
        ("within a quarter of a short interval", 1, &[0, 75, 120], 121, 2, 2),
        ("outside of it", 1, &[0, 76, 120], 121, 1, 2),
        ("by hand within a minute", 1, &[0, 20, 44, 60], 61, 1, 1),
        ("two minutes, just in time", 2, &[0, 150], 151, 1, 1),
        ("two minutes, too late", 2, &[0, 151], 152, 0, 1),
        ("four minutes, a full minute", 4, &[0, 300], 301, 1, 1),
        ("an hour", 60, &[0, 3660, 7200], 7201, 2, 2),
        (
            "the interval was made longer: what came in between is extra",
            15,
            &[0, 300, 600, 900, 1200, 1500, 1800],
            1801,
            2,
            2,
        ),
        ("the interval was made shorter: the past is held against it", 5, &[0, 900, 1800, 2100], 2101, 3, 7),
    ];
    for (name, every, seconds, now, part, whole) in rows {
        kept(name, *every, seconds, *now, *part, *whole);
    }
}

#[test]
fn a_schedule_is_judged_by_the_last_day() {
    let (day, quarter) = (24 * 3600, 900);
    let all: Vec<i64> = (0..=200).map(|n| n * quarter).collect();
    // At the moment of a pass the one of a day ago has just left the window.
    kept("a full day", 15, &all, 200 * quarter, 96, 96);
    kept("a second later", 15, &all, 200 * quarter + 1, 96, 96);
    kept("off for days, back just now", 15, &[0, 3 * day], 3 * day, 1, 96);
    kept("off for days, and still", 15, &[0], 3 * day, 0, 95);
    kept("off for days, back at odd minutes", 15, &[0, 3 * day + 400, 3 * day + 1300], 3 * day + 1301, 1, 96);
    // Gaps before the window are of no interest.
    kept("off before", 15, &[0, 5 * day, 5 * day + 900], 6 * day, 1, 95);
    let drifting: Vec<i64> = (0..=100).map(|n| n * 950).collect();
    kept("a day of drift", 15, &drifting, 100 * 950, 91, 91);

    let mixed: Vec<Recorded> = vec![
        Recorded::of(Execution::begun("r".into(), at(3 * 15 * MINUTE), false)),
        rehearsal(pass(2 * 15 * MINUTE)),
        pass(15 * MINUTE),
        pass(0),
    ];
    let quarter = Some(Duration::from_secs(900));
    let of = |interval| Indicators::of(&mixed, interval, at(46 * MINUTE)).schedule;
    assert_eq!(of(quarter), share(3, 3), "rehearsals and a running pass are passes of the schedule");
    assert_eq!(of(None), share(0, 0), "nothing is scheduled");
}

#[test]
fn hours_hold_what_happened_in_them() {
    let busy = |began, status| {
        let summary = Summary {
            total_instances: 9,
            migrated_instances: 3,
            recreated_instances: 2,
            error_count: 1,
            ..Summary::default()
        };
        let Recorded { execution, .. } = pass(began);
        Recorded::of(Execution { status, summary, ..execution })
    };
    let one = Hour { passes: 1, rehearsals: 0, failed: 0, migrated: 3, recreated: 2, errors: 1 };
    use ExecutionStatus::{Completed, Failed, Interrupted, Partial, Running, Timeout};
    // A pass, and the hour that it is in, at time 0.
    let rows = [
        (busy(0, Completed), Some((23, one))),
        (busy(MINUTE, Completed), Some((23, one))),
        (busy(1 - HOUR, Partial), Some((23, one))),
        (busy(-HOUR, Running), Some((22, one))),
        (busy(-12 * HOUR, Failed), Some((11, Hour { failed: 1, ..one }))),
        (busy(-12 * HOUR, Timeout), Some((11, Hour { failed: 1, ..one }))),
        (busy(-12 * HOUR, Interrupted), Some((11, Hour { failed: 1, ..one }))),
        (rehearsal(busy(-2, Completed)), Some((23, Hour { passes: 1, rehearsals: 1, ..Hour::default() }))),
        (busy(1 - 24 * HOUR, Completed), Some((0, one))),
        (busy(-24 * HOUR, Completed), None),
        (busy(-900 * HOUR, Completed), None),
    ];
    for (pass, expected) in rows {
        let mut hours_expected = [Hour::default(); HOURS];
        if let Some((at, hour)) = expected {
            hours_expected[at] = hour;
        }
        assert_eq!(hours(std::slice::from_ref(&pass), at(0)), hours_expected, "{pass:?}");
    }
    let two = hours(&[busy(-1, Completed), busy(-2, Completed)], at(0))[23];
    assert_eq!(two, Hour { passes: 2, migrated: 6, recreated: 4, errors: 2, ..Hour::default() });
}
