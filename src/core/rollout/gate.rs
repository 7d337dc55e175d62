//! The quality gate of a rollout: did the instances that were moved get worse? Integers only: no float decides.
//!
//! # The rule
//!
//! `degradation = 0.7 x relative change of the latency + 0.3 x relative change of the error rate`. From 5 % on it fails,
//! and so does a stage of whose moves fewer than 95 % succeeded. What cannot be told is [`Verdict::Inconclusive`], never a
//! pass: the rollout holds, and goes back when it has held for too long.
//!
//! * **Latency**: of each instance the median of its good samples, now against before; then the mean of these changes.
//!   The median, since one slow answer in a hundred says nothing about the others; relative to the instance itself and
//!   only then a mean, since a fleet whose slow members outweigh its quick ones would hide what happens to the quick.
//! * **Errors**: failed of all samples, pooled over the instances: single instances fail too rarely to have a rate.
//!   A rate cannot be told from a lower one below one failed sample in the smaller of the two measurements, so both
//!   count as at least that. Hence a baseline without any error is no division by zero; the first failed sample is noise,
//!   the second a change of +100 % and not an infinite one; and a measurement that happens to see no error where there
//!   was one before does not pay with -100 % for answers that became slower.
//!
//! # Errors that chance explains
//!
//! Failed samples are few: ten and fifteen in two thousand are what one and the same application shows on two days, and
//! yet a change of +50 %, which alone is a degradation of 15 %. Two such counts differ by chance by about the square root
//! of their sum. Within three times that the change of the error rate is not known, and when the verdict hangs on it (it
//! would be the other one had the rate stayed the same) there are too few samples to tell: inconclusive, in both
//! directions. So chance neither rolls a healthy fleet back nor lets a drop of errors hide that it became slower; without
//! this, more than a third of all healthy fleets with an error rate of 0.5 % would be rolled back at the first look, and
//! as many pass that are 8 % worse. Every pass and every failure still obeys the rule above to the letter. Three and not
//! two standard deviations: a rollout is judged many times, and what is held is looked at again.
//!
//! # What is dead does not hold
//!
//! An instance that answered before its move and of which *every* sample fails now is a failure at once, not a missing
//! latency; also when the measurement was given up because it took too long to fail ([`Measurement::given_up`]). The
//! same goes for errors that no improvement of the latency could make up for: it cannot fall by more than 100 %, so
//! a change of the error rate from +250 % on decides alone. But a probe that could not be taken at all (no such command,
//! no endpoint: [`Measurement::untaken`]) says nothing about the instance: inconclusive.
//!
//! # Figures
//!
//! Changes are compared in parts of 10^12, each rounded up by less than one of them (exactly 5 % fails, whatever it
//! is made of), and shown in basis points rounded down, so that 4.999 % is never shown as 5.00 %. Sums saturate in the
//! direction of worse. How often all this errs stands in `docs/rollout-gate.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::world::probe::{Latency, Measurement};

#[cfg(test)]
mod tests;

/// Fewer samples of an instance than this say nothing.
pub const LEAST_SAMPLES: u32 = 30;

/// The parts in which changes are compared: so many are +100 %.
const SCALE: i128 = 1_000_000_000_000;

/// Tenths of the degradation that are the latency's; the others are the errors'.
const LATENCY_TENTHS: i128 = 7;
const ERROR_TENTHS: i128 = 3;

/// A degradation from here on fails: 5 %, in tenths of parts.
const FAILS_FROM: i128 = 10 * SCALE / 20;

/// So many standard deviations are chance.
const CHANCE: i128 = 3;

/// Of a stage at least so many percent of the moves succeed.
const LEAST_SUCCESS: u64 = 95;

/// One instance: the measurement before its move, and the one of now, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Before the first move.
    pub before: &'a Measurement,
    /// Now; `None` if nothing could be measured.
    pub now: Option<&'a Measurement>,
}

/// How the moves of a stage went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moves {
    /// Instances of the stage.
    pub attempted: u32,
    /// Of those, the ones whose spot instance runs and answers.
    pub succeeded: u32,
}

/// What a judgement rests on. Rates and changes in basis points (1/100 of a percent), rounded down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// Instances with a measurement before and now.
    pub instances: u32,
    /// Samples before, over all of them.
    pub samples_before: u64,
    /// Samples now.
    pub samples_now: u64,
    /// Relative change of the latency.
    pub latency_change: Option<i64>,
    /// Failed samples before.
    pub error_rate_before: Option<u64>,
    /// Failed samples now.
    pub error_rate_now: Option<u64>,
    /// Relative change of the error rate.
    pub error_rate_change: Option<i64>,
    /// Whether chance explains that change.
    #[serde(default)]
    pub error_rate_change_by_chance: bool,
    /// 0.7 x relative latency change + 0.3 x relative error-rate change.
    pub degradation: Option<i64>,
    /// How the moves went.
    pub moves: Moves,
    /// Share of the moves that succeeded.
    pub success_rate: Option<u64>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// What it says.
    pub verdict: Verdict,
    /// In one sentence, with the figures.
    pub reason: String,
    /// What it rests on.
    pub effect: Effect,
}

/// What a judgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// They did not get worse by 5 % or more.
    Pass,
    /// They did, or fewer than 95 % of the moves succeeded.
    Fail,
    /// It cannot be told: hold, never go on.
    Inconclusive,
}

/// Judges a stage. An instance with fewer than `least_samples` samples before or now ([`LEAST_SAMPLES`]) makes it
/// inconclusive.
#[must_use]
pub fn judge(pairs: &[Pair<'_>], moves: Moves, least_samples: u32) -> Judgement {
    let looks: Vec<Look<'_>> = pairs.iter().map(|pair| look(pair, least_samples.max(1))).collect();
    let errors = Errors::of(pairs);
    let weighed = errors.as_ref().and_then(|errors| weigh(&looks, errors));
    let effect = effect(pairs, &looks, errors.as_ref(), weighed.as_ref(), moves);
    let ground = decide(&looks, errors.as_ref(), weighed.as_ref(), moves);
    Judgement { verdict: ground.verdict(), reason: Told { ground: &ground, effect: &effect }.to_string(), effect }
}

/// Why a judgement is what it is.
#[derive(Debug)]
enum Ground<'a> {
    /// Too few of the moves succeeded.
    Moves,
    /// So many instances answered before and do not any more; why, of the first of them.
    Dead(usize, &'a str),
    /// So many more samples fail that the latency does not matter.
    Errors,
    /// The degradation is 5 % or more.
    Degraded,
    /// It is not.
    Fine,
    /// So many instances leave a doubt, the first of them this one.
    Unknown(usize, Doubt<'a>),
    /// Whether it is 5 % hangs on a change of the error rate that chance explains.
    Chance,
    /// Nothing was measured.
    NoPairs,
    /// No move was attempted, or more succeeded than were attempted.
    NoMoves,
}

impl Ground<'_> {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Moves | Self::Dead(..) | Self::Errors | Self::Degraded => Verdict::Fail,
            Self::Fine => Verdict::Pass,
            Self::Unknown(..) | Self::Chance | Self::NoPairs | Self::NoMoves => Verdict::Inconclusive,
        }
    }
}

/// In the order in which it counts: what fails for certain fails, also when something else is not known.
fn decide<'a>(looks: &[Look<'a>], errors: Option<&Errors>, weighed: Option<&Weighed>, moves: Moves) -> Ground<'a> {
    let Moves { attempted, succeeded } = moves;
    if u64::from(succeeded) * 100 < u64::from(attempted) * LEAST_SUCCESS {
        return Ground::Moves;
    }
    let mut dead = looks.iter().filter_map(|look| if let Look::Dead(why) = look { Some(*why) } else { None });
    if let Some(why) = dead.next() {
        return Ground::Dead(1 + dead.count(), why);
    }
    if looks.is_empty() {
        return Ground::NoPairs;
    }
    let countable = looks.iter().all(|look| !matches!(look, Look::Uncountable(_)));
    let outweighs = |errors: &&Errors| ERROR_TENTHS * errors.change - LATENCY_TENTHS * SCALE >= FAILS_FROM;
    if countable && errors.filter(outweighs).is_some_and(|errors| !errors.by_chance) {
        return Ground::Errors;
    }
    let doubt = |look: &Look<'a>| match look {
        Look::Uncountable(doubt) | Look::Untimed(doubt) => Some(*doubt),
        Look::Dead(_) | Look::Timed(_) => None,
    };
    let mut doubts = looks.iter().filter_map(doubt);
    if let Some(first) = doubts.next() {
        return Ground::Unknown(1 + doubts.count(), first);
    }
    if attempted == 0 || succeeded > attempted {
        return Ground::NoMoves;
    }
    match (weighed, errors) {
        (Some(weighed), Some(errors)) => match (weighed.fails(), weighed.fails_without_errors()) {
            (fails, otherwise) if fails != otherwise && errors.by_chance => Ground::Chance,
            (true, _) => Ground::Degraded,
            (false, _) => Ground::Fine,
        },
        _ => Ground::NoPairs,
    }
}

/// What can be said about one instance.
#[derive(Clone, Copy, Debug)]
enum Look<'a> {
    /// The relative change of its latency, in parts of [`SCALE`].
    Timed(i128),
    /// Its samples count, its latency does not.
    Untimed(Doubt<'a>),
    /// It answered before, and now never; why not.
    Dead(&'a str),
    /// Its samples do not even count.
    Uncountable(Doubt<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    Now,
}

/// What keeps an instance from being judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt<'a> {
    /// There is no measurement of now.
    Missing,
    /// The probe could not be taken.
    Untaken { when: When, why: Option<&'a str> },
    /// Too few samples.
    Few { when: When, samples: u32, least: u32, why: Option<&'a str> },
    /// More errors than samples, a latency without a good sample, or the other way round.
    Contradictory(When),
    /// No sample was good before.
    NeverGood(Option<&'a str>),
    /// All good samples took exactly as long.
    Constant(When, u64),
    /// A sample took no time.
    Zero(When),
}

fn look<'a>(pair: &Pair<'a>, least: u32) -> Look<'a> {
    let Pair { before, now } = *pair;
    if let Some(doubt) = uncountable(before, When::Before, least) {
        return Look::Uncountable(doubt);
    }
    let Some(now) = now else { return Look::Uncountable(Doubt::Missing) };
    let why = now.last_error.as_deref();
    let never_now = now.latency.is_none() && now.errors > 0 && now.errors == now.samples;
    if before.latency.is_some() && never_now && (now.samples >= least || now.given_up) {
        return Look::Dead(why.unwrap_or("no reason known"));
    }
    if let Some(doubt) = uncountable(now, When::Now, least) {
        return Look::Uncountable(doubt);
    }
    let (Some(was), Some(is)) = (before.latency, now.latency) else {
        return Look::Untimed(Doubt::NeverGood(before.last_error.as_deref()));
    };
    match untimed(was, When::Before).or(untimed(is, When::Now)) {
        Some(doubt) => Look::Untimed(doubt),
        None => Look::Timed(relative(i128::from(is.median) - i128::from(was.median), i128::from(was.median))),
    }
}

/// Why the samples of a measurement do not count.
fn uncountable(measurement: &Measurement, when: When, least: u32) -> Option<Doubt<'_>> {
    let Measurement { at: _, samples, errors, latency, last_error, untaken, given_up: _ } = measurement;
    let (samples, why) = (*samples, last_error.as_deref());
    let in_order = latency.is_none_or(|it| it.least <= it.median && it.median <= it.most);
    match () {
        () if *errors > samples || latency.is_some() != (*errors < samples) || !in_order => {
            Some(Doubt::Contradictory(when))
        }
        () if samples < least && *untaken > 0 => Some(Doubt::Untaken { when, why }),
        () if samples < least => Some(Doubt::Few { when, samples, least, why }),
        () => None,
    }
}

/// Why a latency does not count. A single good sample is constant too.
fn untimed(latency: Latency, when: When) -> Option<Doubt<'static>> {
    let Latency { least, median: _, most } = latency;
    match () {
        () if least == 0 => Some(Doubt::Zero(when)),
        () if least == most => Some(Doubt::Constant(when, most)),
        () => None,
    }
}

/// The samples of all instances that were measured before and now.
#[derive(Debug)]
struct Errors {
    before: Pool,
    now: Pool,
    /// The relative change of the rate, in parts of [`SCALE`].
    change: i128,
    /// Whether the two counts differ by no more than chance explains.
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

    /// Errors and samples, not under one error in `resolution` samples.
    fn at_least_one_in(self, resolution: i128) -> (i128, i128) {
        let (errors, samples) = (i128::from(self.errors), i128::from(self.samples));
        if errors * resolution < samples { (1, resolution) } else { (errors, samples) }
    }

    /// The same rate in less than 2^31 samples, more than there will be: with more, products would not fit.
    fn bounded(self) -> Self {
        let excess = (u64::BITS - self.samples.leading_zeros()).saturating_sub(31);
        Self { errors: self.errors >> excess, samples: self.samples >> excess }
    }
}

impl Errors {
    /// `None` if there are no samples on one of the sides.
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

/// Whether the counts differ by less than [`CHANCE`] of their standard deviations, were the rates the same.
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
fn weigh(looks: &[Look<'_>], errors: &Errors) -> Option<Weighed> {
    let mut latency_sum = 0_i128;
    for look in looks {
        let Look::Timed(change) = look else { return None };
        latency_sum = latency_sum.saturating_add(*change);
    }
    let instances = i128::try_from(looks.len()).ok().filter(|instances| *instances > 0)?;
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

fn effect(
    pairs: &[Pair<'_>],
    looks: &[Look<'_>],
    errors: Option<&Errors>,
    weighed: Option<&Weighed>,
    moves: Moves,
) -> Effect {
    let timed: Vec<i128> =
        looks.iter().filter_map(|look| if let Look::Timed(change) = look { Some(*change) } else { None }).collect();
    let sum = timed.iter().fold(0_i128, |sum, change| sum.saturating_add(*change));
    let mean = i128::try_from(timed.len()).ok().filter(|count| *count > 0).map(|count| sum.div_euclid(count));
    let measured = pairs.iter().filter(|pair| pair.now.is_some()).count();
    let attempted = Some(moves.attempted).filter(|attempted| *attempted > 0);
    Effect {
        instances: u32::try_from(measured).unwrap_or(u32::MAX),
        samples_before: errors.map_or(0, |it| it.before.samples),
        samples_now: errors.map_or(0, |it| it.now.samples),
        latency_change: mean.map(basis_points),
        error_rate_before: errors.map(|it| it.before.rate()),
        error_rate_now: errors.map(|it| it.now.rate()),
        error_rate_change: errors.map(|it| basis_points(it.change)),
        error_rate_change_by_chance: errors.is_some_and(|it| it.by_chance),
        degradation: weighed.map(|it| basis_points(it.total().div_euclid(10 * it.instances))),
        moves,
        success_rate: attempted.map(|attempted| u64::from(moves.succeeded) * 10_000 / u64::from(attempted)),
    }
}

/// Rounded down: what is shown is on the same side of 5 % as what was compared.
fn basis_points(parts: i128) -> i64 {
    let points = parts.div_euclid(SCALE / 10_000);
    i64::try_from(points).unwrap_or(if points > 0 { i64::MAX } else { i64::MIN })
}

/// The reason in words.
struct Told<'a> {
    ground: &'a Ground<'a>,
    effect: &'a Effect,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effect { instances, samples_before, samples_now, moves, .. } = *self.effect;
        let all = |count: usize| format!("{count} instance{}", if count == 1 { "" } else { "s" });
        match self.ground {
            Ground::Moves => {
                let rate = percent(self.effect.success_rate.map_or(0, u64::cast_signed), false);
                write!(f, "{} of {} moves succeeded, {rate}, ", moves.succeeded, moves.attempted)?;
                write!(f, "less than {LEAST_SUCCESS} %")?;
            }
            Ground::Dead(count, why) => {
                write!(f, "{} answered before and no more ({why}){}", all(*count), self.figures())?;
            }
            Ground::Errors => write!(f, "too many samples fail, whatever the latency{}", self.figures())?,
            Ground::Degraded | Ground::Fine => f.write_str(&self.degradation())?,
            Ground::Chance => {
                let degradation = self.degradation();
                write!(f, "{degradation}: whether that is 5 % hangs on failed samples that chance explains")?;
            }
            Ground::Unknown(1, doubt) => write!(f, "{doubt}")?,
            Ground::Unknown(count, doubt) => write!(f, "{doubt}; {} cannot be judged", all(*count))?,
            Ground::NoPairs => f.write_str("no instance was measured")?,
            Ground::NoMoves if moves.attempted == 0 => f.write_str("no move was attempted")?,
            Ground::NoMoves => {
                write!(f, "{} of {} moves succeeded, which cannot be", moves.succeeded, moves.attempted)?;
            }
        }
        if instances > 0 {
            let count = all(usize::try_from(instances).unwrap_or(usize::MAX));
            write!(f, ", {count}, {samples_before} samples before and {samples_now} now")?;
        }
        Ok(())
    }
}

impl Told<'_> {
    /// `degraded by 6.20 % (latency +8.10 %, errors 1.00 % -> 1.17 %)`.
    fn degradation(&self) -> String {
        let points = self.effect.degradation.unwrap_or_default();
        let word = if points < 0 { "improved" } else { "degraded" };
        format!("{word} by {}{}", percent(points.saturating_abs(), false), self.figures())
    }

    /// ` (latency +8.10 %, errors 1.00 % -> 1.17 %)`, or as much of it as is known.
    fn figures(&self) -> String {
        let latency = self.effect.latency_change.map(|change| format!("latency {}", percent(change, true)));
        let rates = self.effect.error_rate_before.zip(self.effect.error_rate_now);
        let errors = rates.map(|(before, now)| {
            let [before, now] = [before, now].map(|rate| percent(rate.cast_signed(), false));
            format!("errors {before} -> {now}")
        });
        let known: Vec<String> = latency.into_iter().chain(errors).collect();
        if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
    }
}

/// Basis points as percent.
fn percent(points: i64, signed: bool) -> String {
    let sign = match points {
        ..0 => "-",
        _ if signed => "+",
        _ => "",
    };
    let points = points.unsigned_abs();
    format!("{sign}{}.{:02} %", points / 100, points % 100)
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::Now => "now",
        })
    }
}

impl fmt::Display for Doubt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self {
            Self::Untaken { why, .. } | Self::Few { why, .. } | Self::NeverGood(why) => *why,
            Self::Missing | Self::Contradictory(_) | Self::Constant(..) | Self::Zero(_) => None,
        };
        match self {
            Self::Missing => f.write_str("an instance was not measured now")?,
            Self::Untaken { when, .. } => write!(f, "the probe of an instance could not be taken {when}")?,
            Self::Few { when, samples, least, .. } => {
                write!(f, "an instance has {samples} samples {when}, {least} are needed")?;
            }
            Self::Contradictory(when) => write!(f, "the measurement of an instance {when} contradicts itself")?,
            Self::NeverGood(_) => f.write_str("an instance had no good sample before")?,
            Self::Constant(when, micros) => {
                write!(f, "every good sample of an instance took exactly {micros} us {when}, which is no measurement")?;
            }
            Self::Zero(when) => write!(f, "a sample of an instance took no time {when}, which is no measurement")?,
        }
        reason.map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}
