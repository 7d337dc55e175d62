//! The quality gate of a rollout: did the moved instances get worse?
//!
//! `degradation = 0.7 x relative change in latency + 0.3 x relative change in error rate`; 5 % or more fails. What cannot
//! be judged is [`QualityVerdict::Inconclusive`], never a pass. `docs/rollout-gate.md` gives the rules, their reasons, and
//! how often the gate is wrong.
//!
//! All decisions use integers. Changes are compared in parts of 10^12, rounded up, so that exactly 5 % fails; they are
//! shown in basis points, rounded down, so that 4.999 % is never shown as 5.00 %. Sums saturate.

use serde::{Deserialize, Serialize};

use crate::core::world::money::decimal;
use crate::core::world::probe::{Latency, Measurement};

#[cfg(test)]
mod tests;

/// An instance needs at least this many samples before and now.
pub const LEAST_SAMPLES: u32 = 30;

/// The parts in which changes are compared: this many are +100 %.
const SCALE: i128 = 1_000_000_000_000;

/// The weights of latency and errors in the degradation, in tenths.
const LATENCY_TENTHS: i128 = 7;
const ERROR_TENTHS: i128 = 3;

/// The least degradation that fails: 5 %, in tenths of parts.
const FAILS_FROM: i128 = 10 * SCALE / 20;

/// Counts of errors that differ by less than this many standard deviations may differ by chance.
const CHANCE: i128 = 3;

/// The least share of moves of a stage that must succeed, in percent.
const LEAST_SUCCESS: u64 = 95;

/// The measurements of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Before the first move.
    pub before: &'a Measurement,
    /// `None` if it could not be measured.
    pub now: Option<&'a Measurement>,
}

/// How the moves of a stage went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moves {
    pub attempted: u32,
    /// Moves whose spot instance runs and responds.
    pub succeeded: u32,
}

/// The figures of a judgment. Rates and changes are in basis points (1/100 of a percent), rounded down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QualityFigures {
    /// Instances that were measured both before and now.
    pub instances: u32,
    pub samples_before: u64,
    pub samples_now: u64,
    pub latency_change: Option<i64>,
    pub error_rate_before: Option<u64>,
    pub error_rate_now: Option<u64>,
    pub error_rate_change: Option<i64>,
    /// Whether chance can explain that change.
    #[serde(default)]
    pub error_rate_change_by_chance: bool,
    pub degradation: Option<i64>,
    pub moves: Moves,
    /// The share of moves that succeeded.
    pub success_rate: Option<u64>,
}

/// The verdict on a stage, with its reason in one sentence and its figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgment {
    pub verdict: QualityVerdict,
    pub reason: String,
    #[serde(rename = "effect")]
    pub figures: QualityFigures,
}

/// Whether a stage may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum QualityVerdict {
    /// The degradation is below 5 %.
    Pass,
    /// It cannot be judged: hold, and never continue.
    Inconclusive,
    /// The degradation is 5 % or more, an instance is dead, or fewer than 95 % of the moves succeeded.
    Fail,
}

/// Judges a stage. An instance with fewer than `least_samples` samples before or now (usually [`LEAST_SAMPLES`]) makes it
/// inconclusive.
#[must_use]
pub fn judge(pairs: &[Pair<'_>], moves: Moves, least_samples: u32) -> Judgment {
    let compared: Vec<Compared<'_>> = pairs.iter().map(|pair| compare(pair, least_samples.max(1))).collect();
    let errors = Errors::of(pairs);
    let weighed = errors.as_ref().and_then(|errors| weigh(&compared, errors));
    let figures = figures(pairs, &compared, errors.as_ref(), weighed.as_ref(), moves);
    let (verdict, mut reason) = decide(&compared, errors.as_ref(), weighed.as_ref(), &figures);
    if figures.instances > 0 {
        let QualityFigures { instances, samples_before, samples_now, .. } = &figures;
        let instances = counted(usize::try_from(*instances).unwrap_or(usize::MAX));
        reason.push_str(&format!(", {instances}, {samples_before} samples before and {samples_now} now"));
    }
    Judgment { verdict, reason, figures }
}

/// The verdict and its reason. What is certain to fail comes first, since it fails even if something else is unknown.
fn decide(
    compared: &[Compared<'_>],
    errors: Option<&Errors>,
    weighed: Option<&Weighed>,
    figures: &QualityFigures,
) -> (QualityVerdict, String) {
    use QualityVerdict::{Fail, Inconclusive, Pass};
    let Moves { attempted, succeeded } = figures.moves;
    if u64::from(succeeded) * 100 < u64::from(attempted) * LEAST_SUCCESS {
        let rate = percent(figures.success_rate.map_or(0, u64::cast_signed));
        return (Fail, format!("{succeeded} of {attempted} moves succeeded, {rate}, less than {LEAST_SUCCESS} %"));
    }
    let mut dead = compared.iter().filter_map(|it| if let Compared::Dead(why) = it { Some(*why) } else { None });
    if let Some(why) = dead.next() {
        let (all, changes) = (counted(1 + dead.count()), figures.changes());
        return (Fail, format!("{all} passed the probe before and never now ({why}){changes}"));
    }
    if compared.is_empty() {
        return (Inconclusive, "no instance was measured".into());
    }
    let countable = compared.iter().all(|it| !matches!(it, Compared::Uncountable(_)));
    // The latency cannot fall by more than 100 %.
    let outweighs = |errors: &&Errors| ERROR_TENTHS * errors.change - LATENCY_TENTHS * SCALE >= FAILS_FROM;
    if countable && errors.filter(outweighs).is_some_and(|errors| !errors.by_chance) {
        return (Fail, format!("too many samples fail, whatever the latency{}", figures.changes()));
    }
    let mut uncertain = compared.iter().filter_map(|it| match it {
        Compared::Uncountable(why) | Compared::Untimed(why) => Some(why),
        Compared::Dead(_) | Compared::Timed(_) => None,
    });
    if let Some(why) = uncertain.next() {
        return match 1 + uncertain.count() {
            1 => (Inconclusive, why.clone()),
            count => (Inconclusive, format!("{why}; {} cannot be judged", counted(count))),
        };
    }
    if attempted == 0 {
        return (Inconclusive, "no move was attempted".into());
    }
    if succeeded > attempted {
        return (Inconclusive, format!("{succeeded} of {attempted} moves succeeded, which is impossible"));
    }
    let (Some(weighed), Some(errors)) = (weighed, errors) else {
        return (Inconclusive, "no instance was measured".into());
    };
    let (points, changes) = (figures.degradation.unwrap_or_default(), figures.changes());
    let word = if points < 0 { "improved" } else { "degraded" };
    let degradation = format!("{word} by {}{changes}", percent(points.saturating_abs()));
    match weighed.fails() {
        fails if fails != weighed.fails_without_errors() && errors.by_chance => {
            let chance = "whether that reaches 5 % depends on errors that chance can explain";
            (Inconclusive, format!("{degradation}: {chance}"))
        }
        true => (Fail, degradation),
        false => (Pass, degradation),
    }
}

fn counted(instances: usize) -> String {
    format!("{instances} instance{}", if instances == 1 { "" } else { "s" })
}

impl QualityFigures {
    /// ` (latency +8.10 %, errors 1.00 % -> 1.17 %)`, or as much of it as is known.
    fn changes(&self) -> String {
        let sign = |points| if points < 0 { "" } else { "+" };
        let latency = self.latency_change.map(|points| format!("latency {}{}", sign(points), percent(points)));
        let rates = self.error_rate_before.zip(self.error_rate_now);
        let errors = rates
            .map(|(before, now)| format!("errors {} -> {}", percent(before.cast_signed()), percent(now.cast_signed())));
        let known: Vec<String> = latency.into_iter().chain(errors).collect();
        if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
    }
}

/// Basis points as a percentage.
#[must_use]
pub fn percent(points: i64) -> String {
    let sign = if points < 0 { "-" } else { "" };
    format!("{sign}{} %", decimal(points.unsigned_abs(), 2))
}

/// The comparison of one instance with itself.
#[derive(Debug)]
enum Compared<'a> {
    /// The relative change in latency, in parts of [`SCALE`].
    Timed(i128),
    /// Its errors count, but its latency does not, and why.
    Untimed(String),
    /// It passed samples before and fails all of them now, and why.
    Dead(&'a str),
    /// Neither its errors nor its latency count, and why.
    Uncountable(String),
}

fn compare<'a>(pair: &Pair<'a>, least: u32) -> Compared<'a> {
    let Pair { before, now } = *pair;
    if let Some(why) = uncountable(before, "before", least) {
        return Compared::Uncountable(why);
    }
    let Some(now) = now else { return Compared::Uncountable("an instance was not measured now".into()) };
    let never_now = now.latency.is_none() && now.errors > 0 && now.errors == now.samples;
    if before.latency.is_some() && never_now && (now.samples >= least || now.given_up) {
        return Compared::Dead(now.last_error.as_deref().unwrap_or("no reason known"));
    }
    if let Some(why) = uncountable(now, "now", least) {
        return Compared::Uncountable(why);
    }
    let (Some(was), Some(is)) = (before.latency, now.latency) else {
        return Compared::Untimed(format!("an instance never passed the probe before{}", because(before)));
    };
    match untimed(was, "before").or(untimed(is, "now")) {
        Some(why) => Compared::Untimed(why),
        None => Compared::Timed(relative(i128::from(is.median) - i128::from(was.median), i128::from(was.median))),
    }
}

/// Why a measurement does not count at all.
fn uncountable(measurement: &Measurement, when: &str, least: u32) -> Option<String> {
    let Measurement { at: _, samples, errors, latency, last_error: _, untaken, given_up: _ } = measurement;
    let in_order = latency.is_none_or(|it| it.least <= it.median && it.median <= it.most);
    if errors > samples || latency.is_some() != (errors < samples) || !in_order {
        Some(format!("the measurement of an instance {when} contradicts itself"))
    } else if *samples >= least {
        None
    } else if *untaken > 0 {
        Some(format!("the probe of an instance could not run {when}{}", because(measurement)))
    } else {
        Some(format!("an instance has {samples} samples {when}, {least} are needed{}", because(measurement)))
    }
}

/// ` (answered 503)`, if a reason is known.
fn because(measurement: &Measurement) -> String {
    measurement.last_error.as_ref().map_or(String::new(), |why| format!(" ({why})"))
}

/// Why a latency does not count. A single passing sample is constant, too.
fn untimed(latency: Latency, when: &str) -> Option<String> {
    let Latency { least, median: _, most } = latency;
    if least == 0 {
        Some(format!("a sample of an instance took no time {when}, which is not plausible"))
    } else if least == most {
        Some(format!("every sample of an instance took exactly {most} us {when}, which is not plausible"))
    } else {
        None
    }
}

/// The errors of all instances that were measured both before and now.
#[derive(Debug)]
struct Errors {
    before: Pool,
    now: Pool,
    /// The relative change in the rate, in parts of [`SCALE`].
    change: i128,
    /// Whether chance can explain that change.
    by_chance: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    errors: u64,
    samples: u64,
}

impl Pool {
    fn add(&mut self, measurement: &Measurement) {
        let samples = u64::from(measurement.samples);
        self.samples = self.samples.saturating_add(samples);
        self.errors = self.errors.saturating_add(samples.min(measurement.errors.into()));
    }

    fn rate(self) -> u64 {
        let rate = u128::from(self.errors) * 10_000 / u128::from(self.samples.max(1));
        u64::try_from(rate).unwrap_or(10_000)
    }

    /// Errors and samples, but at least one error in `resolution` samples.
    fn at_least_one_in(self, resolution: i128) -> (i128, i128) {
        let (errors, samples) = (i128::from(self.errors), i128::from(self.samples));
        if errors * resolution < samples { (1, resolution) } else { (errors, samples) }
    }

    /// The same rate with fewer than 2^31 samples, so that products fit into an `i128`.
    fn bounded(self) -> Self {
        let excess = (u64::BITS - self.samples.leading_zeros()).saturating_sub(31);
        Self { errors: self.errors >> excess, samples: self.samples >> excess }
    }
}

impl Errors {
    /// `None` if there are no samples before or now.
    fn of(pairs: &[Pair<'_>]) -> Option<Self> {
        let (mut before, mut now) = (Pool::default(), Pool::default());
        for pair in pairs {
            if let Some(measured) = pair.now {
                before.add(pair.before);
                now.add(measured);
            }
        }
        if before.samples == 0 || now.samples == 0 {
            return None;
        }
        let (was, is) = (before.bounded(), now.bounded());
        let resolution = i128::from(was.samples.min(is.samples).max(1));
        let (was_errors, was_samples) = was.at_least_one_in(resolution);
        let (is_errors, is_samples) = is.at_least_one_in(resolution);
        let change = relative(is_errors * was_samples - was_errors * is_samples, was_errors * is_samples);
        Some(Self { before, now, change, by_chance: by_chance(was, is) })
    }
}

/// Whether the counts differ by less than [`CHANCE`] standard deviations of counts with equal rates.
fn by_chance(was: Pool, is: Pool) -> bool {
    let [was_errors, was_samples, is_errors, is_samples] =
        [was.errors, was.samples, is.errors, is.samples].map(i128::from);
    let difference = is_errors * was_samples - was_errors * is_samples;
    difference * difference < CHANCE * CHANCE * was_samples * is_samples * (was_errors + is_errors)
}

/// `change / of` in parts of [`SCALE`], rounded up.
fn relative(change: i128, of: i128) -> i128 {
    let whole = change.div_euclid(of);
    let rest = change - whole * of;
    whole * SCALE + (rest * SCALE + of - 1) / of
}

/// The degradation, in tenths of parts times the number of instances: nothing is divided before it is compared.
#[derive(Debug)]
struct Weighed {
    instances: i128,
    latency_sum: i128,
    errors_change: i128,
}

/// `None` unless the latency of every instance is known.
fn weigh(compared: &[Compared<'_>], errors: &Errors) -> Option<Weighed> {
    let mut latency_sum = 0_i128;
    for it in compared {
        let Compared::Timed(change) = it else { return None };
        latency_sum = latency_sum.saturating_add(*change);
    }
    let instances = i128::try_from(compared.len()).ok().filter(|instances| *instances > 0)?;
    Some(Weighed { instances, latency_sum, errors_change: errors.change })
}

impl Weighed {
    fn total(&self) -> i128 {
        let errors = (ERROR_TENTHS * self.errors_change).saturating_mul(self.instances);
        self.latency_sum.saturating_mul(LATENCY_TENTHS).saturating_add(errors)
    }

    fn fails(&self) -> bool {
        self.total() >= FAILS_FROM * self.instances
    }

    fn fails_without_errors(&self) -> bool {
        self.latency_sum.saturating_mul(LATENCY_TENTHS) >= FAILS_FROM * self.instances
    }
}

fn figures(
    pairs: &[Pair<'_>],
    compared: &[Compared<'_>],
    errors: Option<&Errors>,
    weighed: Option<&Weighed>,
    moves: Moves,
) -> QualityFigures {
    let timed = compared.iter().filter_map(|it| if let Compared::Timed(change) = it { Some(*change) } else { None });
    let (count, sum) = timed.fold((0, 0_i128), |(count, sum), change| (count + 1, sum.saturating_add(change)));
    let measured = pairs.iter().filter(|pair| pair.now.is_some()).count();
    QualityFigures {
        instances: u32::try_from(measured).unwrap_or(u32::MAX),
        samples_before: errors.map_or(0, |it| it.before.samples),
        samples_now: errors.map_or(0, |it| it.now.samples),
        latency_change: (count > 0).then(|| basis_points(sum.div_euclid(count))),
        error_rate_before: errors.map(|it| it.before.rate()),
        error_rate_now: errors.map(|it| it.now.rate()),
        error_rate_change: errors.map(|it| basis_points(it.change)),
        error_rate_change_by_chance: errors.is_some_and(|it| it.by_chance),
        degradation: weighed.map(|it| basis_points(it.total().div_euclid(10 * it.instances))),
        moves,
        success_rate: (u64::from(moves.succeeded) * 10_000).checked_div(moves.attempted.into()),
    }
}

/// Rounded down: what is shown is on the same side of 5 % as what was compared.
fn basis_points(parts: i128) -> i64 {
    let points = parts.div_euclid(SCALE / 10_000);
    i64::try_from(points).unwrap_or(if points > 0 { i64::MAX } else { i64::MIN })
}
