//! Figures over two days of one small fleet, and what its spells look like in a life.

use super::*;

/// Three instances watched for two days; one of them was down twice, and is down.
fn two_days() -> Story {
    let mut story = Story::new();
    let old = |it: Instance| Instance { started_at: secs(-4 * 24 * 60), ..it };
    let rest = || [old(row("b", Status::Running)), old(row("c", Status::Running))];
    let mut pass = |minute: i64, a: Instance, attempts: &[Attempt]| {
        story.pass(minute, [a].into_iter().chain(rest()).collect(), vec![], attempts);
    };
    let day = 24 * 60;
    pass(-2 * day, old(row("a", Status::Running)), &[]);
    // Ten minutes noticing, an hour of no room, four minutes coming up: 36 hours ago.
    let begin = -36 * 60;
    pass(begin + 10, old(stopped("a", begin)), &[refused("a", begin + 10)]);
    pass(begin + 70, old(stopped("a", begin)), &[attempt("a", Action::Migrate, Outcome::Accepted, begin + 70)]);
    pass(begin + 80, started("a", begin + 74), &[]);
    // Two hours ago, for twenty minutes.
    pass(-115, Instance { started_at: secs(begin + 74), ..stopped("a", -120) }, &[refused("a", -115)]);
    pass(-95, started("a", -100), &[]);
    // For half an hour now.
    pass(-20, Instance { started_at: secs(-100), ..stopped("a", -30) }, &[refused("a", -20)]);
    story
}

#[test]
fn the_figures_of_a_window_are_those_of_its_time() {
    let story = two_days();
    let open: Vec<_> = story.ledger.spells.clone().into_iter().collect();
    let figures = |window: Duration| recovery(&open, &story.ended, &story.ledger.days, window, at(0));
    let minutes = |millis: Option<i64>| millis.map(|it| it / 60_000);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-3, "{a} is not {b}");

    let day = figures(WINDOWS[0]);
    assert_eq!((day.spells, day.open, day.in_place, day.elsewhere, day.window_ms), (2, 1, 1, 0, 86_400_000));
    assert_eq!((minutes(day.p50_ms), minutes(day.p95_ms), minutes(day.worst_ms)), (Some(20), Some(30), Some(30)));
    near(day.lost_instance_hours, 50.0 / 60.0);
    near(day.lost_by.noticing, 15.0 / 60.0);
    near(day.lost_by.no_room, 35.0 / 60.0);

    let week = figures(WINDOWS[1]);
    assert_eq!((week.spells, minutes(week.p50_ms), minutes(week.worst_ms)), (3, Some(30), Some(74)));
    near(week.lost_instance_hours, 124.0 / 60.0);
    near(week.lost_by.coming_up, 4.0 / 60.0);
    // Of three instances over two days; the last look is twenty minutes old.
    let to_run = 3.0 * 48.0 - 2.0 * 20.0 / 60.0;
    near(week.up_share.expect("a share"), 1.0 - week.lost_instance_hours / to_run);

    // A spell that began before the window counts with what lies in it.
    let hour = figures(Duration::from_secs(3600));
    assert_eq!((hour.spells, hour.open), (1, 1));
    near(hour.lost_instance_hours, 0.5);
    let ten_minutes = figures(Duration::from_secs(600));
    near(ten_minutes.lost_by.no_room, 1.0 / 6.0);
    near(ten_minutes.lost_by.noticing, 0.0);

    // More spells than are kept: the sums of the days stand in.
    let kept: Vec<Spell> = std::iter::repeat_n(story.ended[1].clone(), SPELLS_KEPT).collect();
    let cut = recovery(&open, &kept, &story.ledger.days, WINDOWS[1], at(0));
    near(cut.lost_instance_hours, 124.0 / 60.0);

    let moment = RecoveryFigures { to_run_ms: 300, ..RecoveryFigures::default() };
    assert!(moment.monthly(0.0).is_finite(), "a fleet that was watched for less than a second");
    let nothing = recovery(&[], &[], &Days::default(), WINDOWS[2], at(0));
    let expected = RecoveryFigures { window_ms: 30 * 86_400_000, ..RecoveryFigures::default() };
    assert_eq!(nothing, expected);
}

#[test]
fn recoveries_fall_into_their_buckets() {
    let story = two_days();
    let all = &story.ledger.days[ALL_TIME];
    assert_eq!((all.recovered, all.recovered_millis), (2, (74 + 20) * 60_000));
    // 1, 2, 5, 10, 15, 30 min, 1, 2, 4, 12, 24 h.
    assert_eq!(all.recovered_within, [0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2]);
}

#[test]
fn a_life_tells_its_spells() {
    use crate::core::record::life::{EventKind, Life};
    let story = two_days();
    let spells = || story.ended.iter().chain(story.ledger.spells.values());
    let told = |mut life: Life, wanted: &str| {
        add_spells(&mut life, spells(), wanted, at(0));
        let events = life.events.into_iter().map(|it| (it.event, it.reason.unwrap_or_default()));
        (life.ids, events.collect::<Vec<_>>())
    };
    let (ids, events) = told(Life::default(), "a");
    assert_eq!(ids, [InstanceId::new("a")], "although no pass on record acted on it");
    let (kinds, reasons): (Vec<EventKind>, Vec<String>) = events.into_iter().unzip();
    use EventKind::{Down, UpAgain};
    assert_eq!(kinds, [Down, UpAgain, Down, UpAgain, Down]);
    assert_eq!(reasons[0], "by the provider's stop time; noticed after 10 min");
    assert_eq!(reasons[1], "after 1 h 14 min: noticing 10 min, no room 1 h, coming up 4 min");
    assert_eq!(
        reasons[4],
        "by the provider's stop time; noticed after 10 min; so far 30 min: noticing 10 min, no room 20 min"
    );
    assert_eq!(told(Life::default(), "b"), (vec![], vec![]));
    // A life that is known by its replacement.
    let known = Life { ids: vec![InstanceId::new("z"), InstanceId::new("a")], ..Life::default() };
    assert_eq!(told(known, "whatever").1.len(), 5);
}

/// Each row: market, when it went down and whether it is up again; and the storm: its size, begin, end, still down.
#[test]
fn many_of_one_market_that_go_down_at_once_are_a_storm() {
    type Row = (&'static str, i64, bool);
    type Found = Option<(usize, i64, i64, usize)>;
    let rows: [(&[Row], Found); 6] = [
        (&[("x", -9, false), ("x", -8, false)], None),
        (&[("x", -9, false), ("x", -8, true), ("x", -2, false)], Some((3, -9, -2, 2))),
        (&[("x", -9, false), ("x", -8, false), ("y", -8, false)], None),
        (&[("x", -30, false), ("x", -20, false), ("x", -10, false)], None),
        // Long ago: it is shown until all are up again.
        (&[("x", -301, false), ("x", -300, false), ("x", -299, false)], Some((3, -301, -299, 3))),
        (&[("x", -301, true), ("x", -300, true), ("x", -299, true)], None),
    ];
    for (spells, expected) in rows {
        let spell = |(market, minute, is_up): &Row| Spell {
            market: (*market).into(),
            down_at: at(*minute),
            end: is_up.then_some(SpellEnd::InPlace),
            ..Spell::default()
        };
        let (ended, open): (Vec<Spell>, Vec<Spell>) = spells.iter().map(spell).partition(|it| it.end.is_some());
        let open: Vec<_> = open.into_iter().map(|it| (InstanceId::new("a"), it)).collect();
        let expected = expected.map(|(count, from, to, still_down)| Storm {
            market: "x".into(),
            count,
            from: at(from),
            to: at(to),
            still_down,
        });
        assert_eq!(storm(&open, &ended, at(0)), expected, "{spells:?}");
    }
}

/// Running time counts on the days it was, by instance for three days back.
#[test]
fn a_time_without_passes_counts_on_its_days() {
    const HOUR: u64 = 3600;
    for (days, by_day, by_instance) in [
        (1, vec![12, 12], vec![12, 12]),
        (3, vec![12, 24, 24, 12], vec![12, 24, 24, 12]),
        (5, vec![12, 24, 24, 24, 24, 12], vec![24, 24, 24, 12]),
    ] {
        let mut story = Story::new();
        story.pass(0, vec![row("a", Status::Running)], vec![], &[]);
        story.pass(days * 24 * 60, vec![row("a", Status::Running)], vec![], &[]);
        let sums = story.ledger.days.iter().filter(|(day, _)| *day != ALL_TIME);
        let hours: Vec<u64> = sums.map(|(_, it)| it.running_seconds / HOUR).collect();
        assert_eq!(hours, by_day, "{days} days");
        let a = InstanceId::new("a");
        let ran = story.ledger.instance_days.values().filter_map(|day| day.instances.get(&a));
        assert_eq!(ran.map(|it| it.running_seconds / HOUR).collect::<Vec<_>>(), by_instance, "{days} days");
        // Each day is known as a whole.
        let midnight = |day: &str| format!("{day}T00:00:00Z").parse::<Timestamp>().expect("a day");
        for (day, sums) in story.ledger.days.iter().filter(|(day, _)| *day != ALL_TIME) {
            let begin = midnight(day);
            let whole = share(day, sums, begin, begin + Duration::from_secs(24 * HOUR));
            assert_eq!(whole, 1000, "{day}");
        }
        assert_eq!(story.ledger.days[ALL_TIME].running_seconds / HOUR, 24 * u64::try_from(days).expect("few"));
    }
}
