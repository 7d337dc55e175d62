//! How often the gate of a rollout errs, by simulation: the tables of `docs/rollout-gate.md` are what it gives.
//! `GATE_RATES=write cargo test --test it gate_rates` writes them anew.
//!
//! Every sample is drawn: one number for whether it fails, one for how long it takes. A latency is a growing function of
//! the latter, so the median of the latencies is that function of the median of the numbers, and is computed once.
//! The same draws serve all changes and both noises of a row. No function of the platform's mathematics is called, so
//! that every machine gives the same tables.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::thread;

use respot::core::rollout::quality::{LEAST_SAMPLES, Moves, Pair, QualityVerdict, judge};
use respot::core::world::probe::{Latency, Measurement};
use respot::core::world::time::Timestamp;

const TRIALS: usize = 10_000;

const INSTANCES: [usize; 3] = [1, 4, 20];

/// The default and the least.
const SAMPLES: [u32; 2] = [100, LEAST_SAMPLES];

/// A coefficient of variation in percent, and the standard deviation of the logarithm: the root of ln(1 + cv^2).
const NOISES: [(u8, f64); 2] = [(10, 0.099_751_345_119_592_7), (30, 0.293_560_379_208_524)];

/// True degradations in percent, all of it the latency's: it changes by 10/7 of them.
const DEGRADATIONS: [u8; 5] = [0, 3, 5, 8, 20];

/// Failing samples before, in 100 000: 0.5 %.
const ERROR_RATE: u64 = 500;

/// So many times as many now; the first is none more.
const TIMES: [u64; 5] = [1, 2, 3, 5, 10];

/// The median of the latency before, in microseconds.
const MEDIAN: f64 = 50_000.0;

/// A call every 5 minutes, a soak of 10 and an hour's hold: a look in the middle of the soak, one at its end and twelve more.
const LOOKS: usize = 14;

/// A degradation that rolls back in the middle of the soak, in basis points.
const OBVIOUS: i64 = 2500;

/// A measurement before the noise is known.
#[derive(Clone, Copy, Debug)]
struct Draw {
    /// By how many times as many fail.
    errors: [u32; TIMES.len()],
    /// By noise: the median of the latencies, in parts of the true one; of the samples that are good when none more fail,
    /// since a few less of them would not show.
    median: [f64; NOISES.len()],
}

fn draw(random: &mut fastrand::Rng, good: &mut Vec<u32>, samples: u32) -> Draw {
    let fails_below = TIMES.map(|times| ((times * ERROR_RATE) << 32) / 100_000);
    let mut errors = [0; TIMES.len()];
    good.clear();
    for _ in 0..samples {
        let bits = random.u64(..);
        let luck = bits & 0xffff_ffff;
        if luck >= fails_below[0] {
            good.push((bits >> 32) as u32);
        }
        if luck < fails_below[TIMES.len() - 1] {
            for (errors, fails_below) in errors.iter_mut().zip(fails_below) {
                *errors += u32::from(luck < fails_below);
            }
        }
    }
    let deviations = quantile((f64::from(median(good)) + 0.5) / 4_294_967_296.0);
    Draw { errors, median: NOISES.map(|(_, sigma)| exp(sigma * deviations)) }
}

/// The lower one in the middle, as `measure` has it. What sorts in general takes ten times as long where it is not
/// optimised: here only the numbers that begin like the median are sorted.
fn median(numbers: &[u32]) -> u32 {
    let beginning = |number: u32| (number >> 26) as usize;
    let mut counts = [0; 64];
    for number in numbers {
        counts[beginning(*number)] += 1;
    }
    let (mut below, mut begins) = ((numbers.len() - 1) / 2, 0);
    while counts[begins] <= below {
        below -= counts[begins];
        begins += 1;
    }
    let mut near: Vec<u32> = numbers.iter().copied().filter(|number| beginning(*number) == begins).collect();
    near.sort_unstable();
    near[below]
}

/// What is below it with this probability in a normal distribution (Acklam's approximation, good to 1e-9), for all that
/// the median of 25 numbers and more can be: other values are 5 standard deviations off.
fn quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    let q = probability.clamp(0.024_25, 0.975_75) - 0.5;
    let at = |coefficients: [f64; 6]| coefficients.into_iter().fold(0.0, |sum, it| sum * (q * q) + it);
    q * at(A) / at(B)
}

/// e to the power of a small number.
fn exp(power: f64) -> f64 {
    (1..=20).rev().fold(1.0, |sum, n| 1.0 + sum * power / f64::from(n))
}

fn measurement(draw: &Draw, samples: u32, noise: usize, times: usize, slower: f64) -> Measurement {
    let micros = MEDIAN * slower * draw.median[noise];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some 50 000")]
    let median = (micros + 0.5) as u64;
    Measurement {
        at: Timestamp::from_secs(0),
        samples,
        errors: draw.errors[times],
        latency: Some(Latency { least: median - 1, median, most: median + 1 }),
        last_error: None,
        untaken: 0,
        given_up: false,
    }
}

/// What became of the trials.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    passed: usize,
    held: usize,
    failed: usize,
    /// Failed at the first look or a later one, or held to the end.
    rolled_back: usize,
}

/// Looks until the verdict is one; what it is at the first look, and in the end.
fn follow(outcomes: &mut Outcomes, before: &[Measurement], mut look: impl FnMut(usize) -> [Vec<Measurement>; 2]) {
    let mut before = before.to_vec();
    for number in 0..LOOKS {
        let [now, beside] = look(number);
        for (before, beside) in before.iter_mut().zip(&beside) {
            before.pool(beside);
        }
        let pairs: Vec<Pair<'_>> =
            before.iter().zip(&now).map(|(before, now)| Pair { before, now: Some(now) }).collect();
        let judged = judge(&pairs, Moves { attempted: 20, succeeded: 20 }, LEAST_SAMPLES);
        let verdict = judged.verdict;
        let is_obvious = judged.figures.degradation.is_none_or(|points| points >= OBVIOUS);
        if number == 0 {
            if verdict == QualityVerdict::Fail && is_obvious {
                outcomes.failed += 1;
                break;
            }
            continue;
        }
        if number == 1 {
            *match verdict {
                QualityVerdict::Pass => &mut outcomes.passed,
                QualityVerdict::Inconclusive => &mut outcomes.held,
                QualityVerdict::Fail => &mut outcomes.failed,
            } += 1;
        }
        match verdict {
            QualityVerdict::Pass => return,
            QualityVerdict::Fail => break,
            QualityVerdict::Inconclusive => {}
        }
    }
    outcomes.rolled_back += 1;
}

/// All outcomes of one fleet and one number of samples.
#[derive(Debug, Default)]
struct Row {
    /// By noise and degradation.
    slower: [[Outcomes; DEGRADATIONS.len()]; NOISES.len()],
    /// By how many times as many fail, with the lesser noise.
    failing: [Outcomes; TIMES.len()],
}

fn simulate(instances: usize, samples: u32) -> Row {
    let mut random = fastrand::Rng::with_seed(u64::from(samples) * 1000 + instances as u64);
    let (mut row, mut good) = (Row::default(), Vec::with_capacity(samples as usize));
    let mut draws: Vec<Vec<Draw>> = Vec::with_capacity(1 + 2 * LOOKS);
    for _ in 0..TRIALS {
        draws.clear();
        // The first are before; the others are drawn when they are first needed.
        let mut measured = |number: usize, noise, times, slower| -> Vec<Measurement> {
            if draws.len() == number {
                draws.push((0..instances).map(|_| draw(&mut random, &mut good, samples)).collect());
            }
            draws[number].iter().map(|draw| measurement(draw, samples, noise, times, slower)).collect()
        };
        for (noise, row) in row.slower.iter_mut().enumerate() {
            let before = measured(0, noise, 0, 1.0);
            for (degradation, outcomes) in DEGRADATIONS.iter().zip(row) {
                let slower = 1.0 + f64::from(*degradation) / 70.0;
                follow(outcomes, &before, |look| {
                    [measured(1 + 2 * look, noise, 0, slower), measured(2 + 2 * look, noise, 0, 1.0)]
                });
            }
        }
        let before = measured(0, 0, 0, 1.0);
        for (times, outcomes) in row.failing.iter_mut().enumerate() {
            follow(outcomes, &before, |look| {
                [measured(1 + 2 * look, 0, times, 1.0), measured(2 + 2 * look, 0, 0, 1.0)]
            });
        }
    }
    row
}

/// One decimal; what is not quite 0 or 100 does not look as if it were.
fn percent(count: usize) -> String {
    let tenths = (count * 1000 + TRIALS / 2) / TRIALS;
    match tenths {
        0 if count > 0 => "<0.1".into(),
        1000 if count < TRIALS => ">99.9".into(),
        _ => format!("{}.{}", tenths / 10, tenths % 10),
    }
}

/// The tables, by the names they have in the document.
fn tables() -> Vec<(&'static str, String)> {
    let rows: Vec<(usize, u32, Row)> = thread::scope(|scope| {
        let rows = SAMPLES.into_iter().flat_map(|samples| INSTANCES.map(|instances| (instances, samples)));
        let rows: Vec<_> = rows
            .map(|(instances, samples)| (instances, samples, scope.spawn(move || simulate(instances, samples))))
            .collect();
        rows.into_iter().map(|(instances, samples, row)| (instances, samples, row.join().unwrap())).collect()
    });
    let all = |it: &Outcomes| [it.passed, it.held, it.failed].map(percent).join(" / ");
    let rolled_back = |it: &Outcomes| percent(it.rolled_back);
    let heading = |columns: Vec<String>| format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    let row = |table: &mut String, columns: Vec<String>| writeln!(table, "| {} |", columns.join(" | ")).unwrap();
    let latency = |show: &dyn Fn(&Outcomes) -> String| {
        let columns = ["instances", "samples", "noise"].map(String::from).into_iter();
        let mut table = heading(columns.chain(DEGRADATIONS.map(|it| format!("{it} %"))).collect());
        for (noise, (cv, _)) in NOISES.iter().enumerate() {
            for (instances, samples, outcomes) in &rows {
                let first = [instances.to_string(), samples.to_string(), format!("{cv} %")];
                row(&mut table, first.into_iter().chain(outcomes.slower[noise].iter().map(show)).collect());
            }
        }
        table
    };
    let errors = |show: &dyn Fn(&Outcomes) -> String| {
        let columns = ["instances", "samples"].map(String::from).into_iter();
        let rate = |times: u64| format!("0.5 % -> {}.{} %", times * ERROR_RATE / 1000, times * ERROR_RATE / 100 % 10);
        let mut table = heading(columns.chain(TIMES.map(rate)).collect());
        for (instances, samples, outcomes) in &rows {
            let first = [instances.to_string(), samples.to_string()];
            row(&mut table, first.into_iter().chain(outcomes.failing.iter().map(show)).collect());
        }
        table
    };
    vec![
        ("latency, in the end", latency(&rolled_back)),
        ("latency, first look", latency(&all)),
        ("errors, in the end", errors(&rolled_back)),
        ("errors, first look", errors(&all)),
    ]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever changed the gate has the tables written anew")]
fn the_document_says_how_often_the_gate_errs() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rollout-gate.md"));
    let document = std::fs::read_to_string(&path).unwrap();
    let mut written = document.clone();
    for (name, table) in tables() {
        let (begin, end) = (format!("<!-- simulated: {name} -->\n\n"), "\n<!-- end -->");
        let (head, rest) = written.split_once(&begin).unwrap_or_else(|| panic!("no place for {name}"));
        let (_, tail) = rest.split_once(end).expect("an end");
        written = format!("{head}{begin}{table}{end}{tail}");
    }
    if std::env::var("GATE_RATES").is_ok_and(|it| it == "write") {
        std::fs::write(&path, written).unwrap();
        return;
    }
    assert_eq!(document, written, "GATE_RATES=write writes docs/rollout-gate.md anew");
}

/// The approximations are what they stand for.
#[test]
fn the_noise_is_what_it_is_called() {
    for (probability, expected) in [(0.5, 0.0), (0.841_344_746_068_543, 1.0), (0.066_807_201_268_858, -1.5)] {
        assert!((quantile(probability) - expected).abs() < 1e-8, "{probability}");
    }
    for power in [-0.6_f64, -0.1, 0.0, 0.3, 0.6] {
        assert!((exp(power) - power.exp()).abs() < 1e-15, "{power}");
    }
    for (cv, sigma) in NOISES {
        assert!(((sigma * sigma).exp_m1().sqrt() - f64::from(cv) / 100.0).abs() < 1e-12, "{cv}");
    }
    let mut random = fastrand::Rng::with_seed(1);
    let draws: Vec<Draw> = (0..10_000).map(|_| draw(&mut random, &mut Vec::new(), 101)).collect();
    let errors: u32 = draws.iter().map(|it| it.errors[0]).sum();
    assert!((4_800..5_300).contains(&errors), "{errors} of 1 010 000 samples failed");
    // The median of n varies by sqrt(pi/2n) standard deviations of one.
    let squares: f64 = draws.iter().map(|it| (it.median[0].ln() / NOISES[0].1).powi(2)).sum();
    let deviation = (squares / 10_000.0).sqrt();
    assert!((0.120..0.128).contains(&deviation), "{deviation}");
}
