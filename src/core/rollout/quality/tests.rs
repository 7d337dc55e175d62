use super::*;
use crate::core::world::time::Timestamp;

const LEAST: u32 = 30;

/// A measurement whose samples differ a little from each other.
fn of(samples: u32, errors: u32, median: u64) -> Measurement {
    let latency = Latency { least: median - median.min(2) / 2, median, most: median.saturating_add(5) };
    Measurement {
        at: Timestamp::from_secs(0),
        samples,
        errors,
        latency: Some(latency),
        last_error: (errors > 0).then(|| "answered 503".into()),
        untaken: 0,
        given_up: false,
    }
}

/// One without a good sample.
fn bad(samples: u32) -> Measurement {
    Measurement { latency: None, ..of(samples, samples, 100) }
}

/// One that ended early since every sample ran into the limit.
fn given_up(samples: u32) -> Measurement {
    Measurement { given_up: true, last_error: Some("no answer within 5 s".into()), ..bad(samples) }
}

/// One whose probe could not be taken.
fn untaken() -> Measurement {
    Measurement { untaken: 3, last_error: Some("no such command".into()), ..bad(0) }
}

fn timed(least: u64, median: u64, most: u64) -> Measurement {
    Measurement { latency: Some(Latency { least, median, most }), ..of(100, 0, 100) }
}

const ALL: (u32, u32) = (20, 20);

/// A base that 7/10 of a change can be told exactly from: +100 000 is a degradation of 5 %.
const BASE: u64 = 1_400_000;

fn check(pairs: &[(Measurement, Option<Measurement>)], (succeeded, attempted): (u32, u32)) -> Judgment {
    let pairs: Vec<Pair<'_>> = pairs.iter().map(|(before, now)| Pair { before, now: now.as_ref() }).collect();
    judge(&pairs, Moves { attempted, succeeded }, LEAST)
}

#[test]
fn every_verdict_and_every_boundary() {
    use QualityVerdict::{Fail, Inconclusive, Pass};
    let one = |before, now| vec![(before, Some(now))];
    let errors = |before, now| one(of(100_000, before, BASE), of(100_000, now, BASE));
    let slower = |now| one(of(100, 0, BASE), of(100, 0, now));
    let few = |before, now| one(of(100, before, BASE), of(100, now, BASE));
    let rows: Vec<(Vec<(Measurement, Option<Measurement>)>, (u32, u32), QualityVerdict, &str)> = vec![
        // The latency alone.
        (slower(BASE), ALL, Pass, "degraded by 0.00 % (latency +0.00 %, errors 0.00 % -> 0.00 %), 1 instance, "),
        (slower(BASE + 99_800), ALL, Pass, "degraded by 4.99 % (latency +7.12 %, "),
        (slower(BASE + 99_999), ALL, Pass, "degraded by 4.99 % (latency +7.14 %, "),
        (slower(BASE + 100_000), ALL, Fail, "degraded by 5.00 % (latency +7.14 %, "),
        (slower(BASE + 100_200), ALL, Fail, "degraded by 5.01 % (latency +7.15 %, "),
        (slower(BASE / 2), ALL, Pass, "improved by 35.00 % (latency -50.00 %, "),
        (slower(u64::MAX), ALL, Fail, "(latency +"),
        (one(of(100, 0, u64::MAX - 9), of(100, 0, u64::MAX - 9)), ALL, Pass, "latency +0.00 %"),
        (one(of(100, 0, u64::MAX - 9), of(100, 0, 1)), ALL, Pass, "improved by 70.00 % (latency -100.00 %"),
        (one(of(100, 0, 1), of(100, 0, u64::MAX)), ALL, Fail, "latency +"),
        (vec![(of(100, 0, 1), Some(of(100, 0, u64::MAX))); 99], ALL, Fail, "99 instances"),
        // A mean over instances, of changes that no decimal fraction writes: 1/21 and 2/21 are 5 % together.
        (
            [one(of(100, 0, 21), of(100, 0, 22)), one(of(100, 0, 21), of(100, 0, 23))].concat(),
            ALL,
            Fail,
            "degraded by 5.00 % (latency +7.14 %, errors 0.00 % -> 0.00 %), 2 instances, 200 samples before and 200 now",
        ),
        // A quick one weighs as much as a slow one.
        (
            [one(of(100, 0, 1_000), of(100, 0, 1_200)), one(of(100, 0, 900_000), of(100, 0, 900_000))].concat(),
            ALL,
            Fail,
            "degraded by 7.00 % (latency +10.00 %",
        ),
        // The errors alone: 1/6 more of them are 5 %.
        (errors(12_000, 13_996), ALL, Pass, "degraded by 4.99 % (latency +0.00 %, errors 12.00 % -> 13.99 %)"),
        (errors(12_000, 14_000), ALL, Fail, "degraded by 5.00 % (latency +0.00 %, errors 12.00 % -> 14.00 %)"),
        (errors(12_000, 14_004), ALL, Fail, "degraded by 5.01 % "),
        (errors(12_000, 6_000), ALL, Pass, "improved by 15.00 %"),
        // Both.
        (one(of(100_000, 12_000, BASE), of(100_000, 13_000, BASE + 50_000)), ALL, Fail, "degraded by 5.00 %"),
        (one(of(100_000, 12_000, BASE), of(100_000, 13_000, BASE + 49_999)), ALL, Pass, "degraded by 4.99 %"),
        (one(of(100_000, 12_000, BASE), of(100_000, 14_000, BASE - 1_000)), ALL, Pass, "degraded by 4.95 %"),
        // A baseline without any error counts as one, and so does what is measured now.
        (few(0, 1), ALL, Pass, "degraded by 0.00 % (latency +0.00 %, errors 0.00 % -> 1.00 %)"),
        (few(1, 0), ALL, Pass, "degraded by 0.00 % (latency +0.00 %, errors 1.00 % -> 0.00 %)"),
        (few(0, 2), ALL, Inconclusive, "degraded by 30.00 % (latency +0.00 %, errors 0.00 % -> 2.00 %): whether"),
        (few(0, 8), ALL, Inconclusive, "depends on errors that chance can explain"),
        (few(0, 9), ALL, Fail, "too many samples fail, whatever the latency (latency +0.00 %, errors 0.00 % -> 9.00"),
        (one(of(2_000, 0, BASE), of(30, 1, BASE)), ALL, Pass, "degraded by 0.00 %"),
        (one(of(30, 1, BASE), of(2_000, 0, BASE)), ALL, Pass, "degraded by 0.00 %"),
        // What chance explains decides in neither direction, and leaves what it does not decide.
        (one(of(2_000, 10, BASE), of(2_000, 15, BASE)), ALL, Inconclusive, "degraded by 15.00 %"),
        (one(of(2_000, 10, BASE), of(2_000, 5, BASE + 140_000)), ALL, Inconclusive, "improved by 8.00 %"),
        (one(of(2_000, 10, BASE), of(2_000, 11, BASE)), ALL, Pass, "degraded by 3.00 %"),
        (one(of(2_000, 10, BASE), of(2_000, 15, BASE + 140_000)), ALL, Fail, "degraded by 22.00 %"),
        (one(of(2_000, 10, BASE), of(2_000, 5, BASE)), ALL, Pass, "improved by 15.00 %"),
        (one(of(2_000, 10, BASE), of(2_000, 29, BASE)), ALL, Fail, "degraded by 57.00 %"),
        (one(of(2_000, 10, BASE), of(2_000, 28, BASE)), ALL, Inconclusive, "degraded by 54.00 %"),
        // The moves.
        (slower(BASE), (19, 20), Pass, "degraded by 0.00 %"),
        (slower(BASE), (94, 100), Fail, "94 of 100 moves succeeded, 94.00 %, less than 95 %, 1 instance"),
        (slower(BASE), (9_499, 10_000), Fail, "94.99 %, less than 95 %"),
        (slower(BASE), (9_500, 10_000), Pass, "degraded"),
        (slower(BASE), (94_999, 100_000), Fail, "94.99 %, less than 95 %"),
        (slower(BASE), (0, 1), Fail, "0 of 1 moves succeeded, 0.00 %"),
        (slower(BASE), (u32::MAX, u32::MAX), Pass, "degraded"),
        (slower(BASE), (0, 0), Inconclusive, "no move was attempted"),
        (slower(BASE), (2, 1), Inconclusive, "2 of 1 moves succeeded, which is impossible"),
        (vec![], ALL, Inconclusive, "no instance was measured"),
        // Too few moves fail whatever else is not known.
        (vec![], (18, 20), Fail, "18 of 20 moves succeeded, 90.00 %, less than 95 %"),
        (vec![(of(100, 0, BASE), None)], (18, 20), Fail, "18 of 20 moves succeeded"),
        // Too few samples, or none.
        (vec![(of(100, 0, BASE), None)], ALL, Inconclusive, "an instance was not measured now"),
        (one(of(30, 0, BASE), of(30, 0, BASE)), ALL, Pass, "30 samples before and 30 now"),
        (one(of(29, 0, BASE), of(30, 0, BASE)), ALL, Inconclusive, "an instance has 29 samples before, 30 are needed"),
        (one(of(30, 0, BASE), of(29, 0, BASE)), ALL, Inconclusive, "an instance has 29 samples now, 30 are needed"),
        (
            [vec![(of(100, 0, BASE), None); 3], slower(BASE)].concat(),
            ALL,
            Inconclusive,
            "an instance was not measured now; 3 instances cannot be judged, 1 instance, 100 samples before",
        ),
        (one(untaken(), of(100, 0, BASE)), ALL, Inconclusive, "could not run before (no such command)"),
        (one(of(100, 0, BASE), untaken()), ALL, Inconclusive, "could not run now (no such command)"),
        // What is dead does not hold; what never lived does.
        (
            one(of(100, 0, BASE), bad(30)),
            ALL,
            Fail,
            "1 instance passed the probe before and never now (answered 503) (errors",
        ),
        (one(of(100, 0, BASE), bad(29)), ALL, Inconclusive, "an instance has 29 samples now"),
        (one(of(100, 0, BASE), given_up(4)), ALL, Fail, "passed the probe before and never now (no answer within 5 s)"),
        (
            one(given_up(4), given_up(4)),
            ALL,
            Inconclusive,
            "an instance has 4 samples before, 30 are needed (no answer",
        ),
        (one(bad(100), bad(100)), ALL, Inconclusive, "an instance never passed the probe before (answered 503)"),
        (one(bad(100), of(100, 0, BASE)), ALL, Inconclusive, "an instance never passed the probe before"),
        (
            [vec![(of(100, 9, BASE), Some(of(100, 9, BASE))); 999], one(of(100, 0, BASE), bad(100))].concat(),
            ALL,
            Fail,
            "1 instance passed the probe before and never now",
        ),
        (
            [vec![(of(100, 0, BASE), None)], vec![(of(100, 0, BASE), Some(given_up(4))); 2]].concat(),
            ALL,
            Fail,
            "2 instances passed the probe before and never now",
        ),
        // Nearly dead: the one good sample left is no latency, but the errors decide alone.
        (
            one(of(100, 0, BASE), Measurement { errors: 99, ..timed(7, 7, 7) }),
            ALL,
            Fail,
            "too many samples fail, whatever the latency (errors 0.00 % -> 99.00 %)",
        ),
        // Stuck, impossible or contradictory.
        (one(timed(7, 7, 7), of(100, 0, 7)), ALL, Inconclusive, "took exactly 7 us before, which is not plausible"),
        (one(of(100, 0, 7), timed(7, 7, 7)), ALL, Inconclusive, "took exactly 7 us now, which is not plausible"),
        (one(timed(0, 7, 9), of(100, 0, 7)), ALL, Inconclusive, "took no time before"),
        (one(of(100, 0, 7), timed(0, 0, 0)), ALL, Inconclusive, "took no time now"),
        (one(timed(0, 0, 0), timed(0, 0, 0)), ALL, Inconclusive, "took no time before"),
        (one(of(100, 101, 7), of(100, 0, 7)), ALL, Inconclusive, "before contradicts itself"),
        (one(of(100, 0, 7), of(100, 100, 7)), ALL, Inconclusive, "now contradicts itself"),
        (one(of(100, 0, 7), Measurement { errors: 0, ..bad(100) }), ALL, Inconclusive, "now contradicts itself"),
        (one(timed(9, 7, 9), of(100, 0, 7)), ALL, Inconclusive, "before contradicts itself"),
        // Nothing overflows.
        (one(of(u32::MAX, 0, 7), of(u32::MAX, u32::MAX - 1, u64::MAX)), ALL, Fail, "too many samples fail"),
        (one(of(u32::MAX, u32::MAX - 1, u64::MAX), of(30, 0, 1)), ALL, Pass, "improved by "),
        (vec![(of(u32::MAX, 1, 7), Some(of(30, 1, 7))); 99], ALL, Fail, "too many samples fail"),
    ];
    for (pairs, moves, verdict, words) in rows {
        let judgment = check(&pairs, moves);
        assert_eq!(judgment.verdict, verdict, "{words}: {judgment:?}");
        assert!(judgment.reason.contains(words), "{:?} lacks {words:?}", judgment.reason);
        // What is shown is never on the other side of a threshold.
        let QualityFigures { degradation, success_rate, .. } = judgment.figures;
        if verdict == Pass {
            assert!(degradation.unwrap() < 500 && success_rate.unwrap() >= 9_500, "{judgment:?}");
        }
        if judgment.reason.starts_with("degraded") && verdict == Fail {
            assert!(degradation.unwrap() >= 500, "{judgment:?}");
        }
    }
}

#[test]
fn a_judgment_is_kept_as_it_was() {
    let judgment = check(&[(of(100, 1, BASE), Some(of(100, 1, BASE + 50_000)))], ALL);
    let text = serde_json::to_string(&judgment).unwrap();
    assert_eq!(serde_json::from_str::<Judgment>(&text).unwrap(), judgment);
    for part in [r#""verdict":"pass""#, r#""latencyChange":357"#, r#""errorRateBefore":100"#, r#""successRate":10000"#]
    {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    // As an earlier version wrote it.
    let old =
        r#"{"at":"1970-01-01T00:00:00.000Z","samples":100,"errors":0,"latency":{"least":99,"median":100,"most":105}}"#;
    assert_eq!(serde_json::from_str::<Measurement>(old).unwrap(), of(100, 0, 100));
}

/// A fleet that could be: most of what makes it inconclusive is rare.
fn fleet(random: &mut fastrand::Rng) -> Vec<(Measurement, Option<Measurement>)> {
    let draw = |random: &mut fastrand::Rng| {
        let samples = if random.u8(..) < 8 { random.u32(20..40) } else { random.u32(100..1000) };
        let errors = if random.bool() { random.u32(..4) } else { random.u32(..samples) };
        of(samples, errors, random.u64(900..1100))
    };
    let few = random.usize(1..12);
    (0..few).map(|_| (draw(random), if random.u8(..) < 4 { Some(bad(100)) } else { Some(draw(random)) })).collect()
}

#[test]
fn what_may_not_matter_does_not_and_what_may_only_harm_does_not_help() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut seen = [0_u32; 3];
    for _ in 0..20_000 {
        let fleet = fleet(&mut random);
        let judgment = check(&fleet, ALL);
        seen[judgment.verdict as usize] += 1;

        let mut other = fleet.clone();
        random.shuffle(&mut other);
        let shuffled = check(&other, ALL);
        assert_eq!((shuffled.verdict, &shuffled.figures), (judgment.verdict, &judgment.figures));

        let factor = random.u64(2..1_000_000);
        let scale = |it: &Measurement| {
            let latency = it.latency.map(|Latency { least, median, most }| Latency {
                least: least * factor,
                median: median * factor,
                most: most * factor,
            });
            Measurement { latency, ..it.clone() }
        };
        let scaled: Vec<_> = fleet.iter().map(|(before, now)| (scale(before), now.as_ref().map(scale))).collect();
        let scaled = check(&scaled, ALL);
        assert_eq!((scaled.verdict, &scaled.figures), (judgment.verdict, &judgment.figures));

        // Slower at one of them, then failing more often at one of them, then failed moves.
        let mut other = fleet.clone();
        let at = random.usize(..other.len());
        if let Some(Latency { median, most, .. }) = other[at].1.as_mut().and_then(|now| now.latency.as_mut()) {
            *median += random.u64(1..500);
            *most = *median + 5;
        }
        let slower = check(&other, ALL).verdict;
        let mut other = fleet;
        if let Some(now) = other[at].1.as_mut() {
            now.errors += random.u32(..=now.samples - now.errors);
            now.latency = now.latency.filter(|_| now.errors < now.samples);
        }
        let failing = check(&other, ALL).verdict;
        let unmoved = check(&other, (18, 20)).verdict;
        assert_eq!(unmoved, QualityVerdict::Fail);
        match judgment.verdict {
            QualityVerdict::Pass => {}
            QualityVerdict::Fail => {
                assert_ne!(slower, QualityVerdict::Pass, "{judgment:?}");
                assert_ne!(failing, QualityVerdict::Pass, "{judgment:?}");
            }
            QualityVerdict::Inconclusive => assert_ne!(slower, QualityVerdict::Pass, "{judgment:?}"),
        }
    }
    assert!(seen.iter().all(|count| *count > 1000), "all of it was tried: {seen:?}");
}
