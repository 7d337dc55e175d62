//! Measures instances: sends samples of a probe and sums up what came back.
//!
//! The gate compares a measurement with an earlier one, so what matters is that both are taken in the same way:
//!
//! * The samples of one instance are taken **one after the other**. Side by side they would wait for each other, and the
//!   figure would be that of a small load test, which depends on how many there are.
//! * The first one is a **warm-up** and does not count: it looks up the name, makes the connection, fills caches.
//! * Over HTTP the samples of one measurement **share a connection**, as the clients of a service do. With one for each,
//!   two or three round trips of the network and of TLS would stand in each sample, by which the same change of the
//!   application would be a smaller one. A server that closes after each answer is measured with its connections, before
//!   and after alike. With a TCP probe the connection is what is measured.
//! * **Several instances** are measured side by side, [`AT_ONCE`] at most: they do not share what is measured, and the few
//!   samples in flight cost this machine nothing that shows.
//!
//! A dead instance answers slowly: a hundred times the limit would be minutes. When sample after sample fails
//! ([`GIVE_UP_IN_A_ROW`]) and that took [`GIVE_UP_AFTER`], the measurement ends with what it has and says so
//! ([`Measurement::given_up`]); without a single good sample the gate takes that for dead, not for too few samples.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::clock::Clock;
use crate::core::world::probe::{Endpoint, Latency, Measurement, Probe};
use crate::core::world::time::Timestamp;
use crate::stop::Stop;

mod command;
mod net;

pub use net::NetProber;

/// So many instances are measured at once.
pub const AT_ONCE: usize = 16;

/// A measurement is given up when at least so many samples failed in a row,
pub const GIVE_UP_IN_A_ROW: u32 = 3;

/// and together took so long.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// What could not be taken so many times in a row cannot be taken.
const UNTAKEN_IN_A_ROW: u32 = 3;

/// What is probed.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The instance's id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Where its ports can be reached.
    pub endpoints: &'a [Endpoint],
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// From asking to the whole answer.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a sample. Reasons hold neither addresses nor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer in time.
    Good,
    /// A bad one, or none: why.
    Bad(String),
    /// The question could not be asked, which says nothing about the instance: why.
    Untaken(String),
}

/// Sends samples.
pub trait Prober {
    /// One sample; never takes longer than the prober's limit.
    fn sample(&self, probe: &Probe, target: Target<'_>) -> impl Future<Output = Sample>;
}

/// Measures one instance: so many samples, after a warm-up.
pub async fn measure(
    prober: &impl Prober,
    probe: &Probe,
    target: Target<'_>,
    samples: u32,
    now: Timestamp,
) -> Measurement {
    let mut tally = Tally::default();
    tally.fill(prober, probe, target, samples).await;
    tally.summed_up(now)
}

/// Measures many, in the order of the targets. When the word comes, it ends with the samples that it has.
pub async fn measure_all(
    prober: &impl Prober,
    probe: &Probe,
    targets: &[Target<'_>],
    samples: u32,
    clock: Clock,
    stop: &Stop,
) -> Vec<Measurement> {
    let each = targets.iter().map(|target| until_stopped(prober, probe, *target, samples, clock, stop));
    stream::iter(each).buffered(AT_ONCE).collect().await
}

async fn until_stopped(
    prober: &impl Prober,
    probe: &Probe,
    target: Target<'_>,
    samples: u32,
    clock: Clock,
    stop: &Stop,
) -> Measurement {
    let begun = clock.now();
    let mut tally = Tally::default();
    tokio::select! {
        biased;
        _ = stop.triggered() => tally.stopped = true,
        () = tally.fill(prober, probe, target, samples) => {}
    }
    tally.summed_up(begun)
}

/// What came back so far.
#[derive(Debug, Default)]
struct Tally {
    /// How long the good ones took, in microseconds.
    took: Vec<u64>,
    errors: u32,
    untaken: u32,
    last_error: Option<String>,
    given_up: bool,
    stopped: bool,
}

impl Tally {
    async fn fill(&mut self, prober: &impl Prober, probe: &Probe, target: Target<'_>, samples: u32) {
        prober.sample(probe, target).await;
        let (mut bad, mut spent, mut untaken) = (0, Duration::ZERO, 0);
        for _ in 0..samples {
            let Sample { took, outcome } = prober.sample(probe, target).await;
            match outcome {
                Outcome::Good => {
                    self.took.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                    (bad, spent, untaken) = (0, Duration::ZERO, 0);
                }
                Outcome::Bad(why) => {
                    self.errors += 1;
                    self.last_error = Some(why);
                    (bad, spent, untaken) = (bad + 1, spent + took, 0);
                }
                Outcome::Untaken(why) => {
                    self.untaken += 1;
                    self.last_error = Some(why);
                    untaken += 1;
                }
            }
            self.given_up = bad >= GIVE_UP_IN_A_ROW && spent >= GIVE_UP_AFTER;
            if self.given_up || untaken == UNTAKEN_IN_A_ROW {
                return;
            }
        }
    }

    fn summed_up(self, at: Timestamp) -> Measurement {
        let Self { mut took, errors, untaken, last_error, given_up, stopped } = self;
        took.sort_unstable();
        let samples = errors.saturating_add(u32::try_from(took.len()).unwrap_or(u32::MAX));
        Measurement {
            at,
            samples,
            errors,
            latency: latency(&took),
            last_error: last_error.or_else(|| stopped.then(|| "ended before it was measured".into())),
            untaken,
            given_up,
        }
    }
}

/// Of sorted microseconds; with an even number of them the median is the lower of the two in the middle.
fn latency(sorted: &[u64]) -> Option<Latency> {
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    Some(Latency { least, median: sorted[(sorted.len() - 1) / 2], most })
}
