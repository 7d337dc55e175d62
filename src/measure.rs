//! Measures instances: takes samples of a probe and summarizes them.
//!
//! The quality gate compares two measurements, so both must be taken in the same way:
//!
//! * The samples of one instance are taken **one after another**. In parallel they would wait for each other, and the
//!   result would be that of a small load test.
//! * The first sample is a **warm-up** and does not count: it resolves the name, connects, and fills caches.
//! * HTTP samples of one measurement **share a connection**, as the clients of a service do. Otherwise each sample would
//!   include the round trips of TCP and TLS, which would dilute a change in the application. A server that closes the
//!   connection after each response is measured with its connections, before and after alike. A TCP probe measures the
//!   connection itself.
//! * **Several instances** are measured in parallel, at most [`AT_ONCE`]; the few samples in flight do not distort each
//!   other.
//!
//! A dead instance responds slowly, and a hundred timeouts would take minutes. A measurement therefore ends early when
//! [`GIVE_UP_IN_A_ROW`] samples in a row have failed and taken [`GIVE_UP_AFTER`] ([`Measurement::given_up`]). The gate treats
//! such a measurement without a passing sample as dead, not as too few samples.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::clock::Clock;
use crate::core::world::probe::{Endpoint, Latency, Measurement, Probe};
use crate::core::world::time::Timestamp;
use crate::stop::Stop;

mod net;

pub use net::NetProber;

/// The most instances that are measured in parallel.
pub const AT_ONCE: usize = 16;

/// The fewest failures in a row after which a measurement is given up.
pub const GIVE_UP_IN_A_ROW: u32 = 3;

/// The time that those failures must have taken together.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// A measurement ends after this many samples in a row that could not be taken.
const UNTAKEN_IN_A_ROW: u32 = 3;

/// The instance to probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTarget<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// The addresses of its ports.
    pub endpoints: &'a [Endpoint],
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSample {
    /// From the request to the end of the response.
    pub took: Duration,
    pub outcome: ProbeOutcome,
}

/// The outcome of a sample. Reasons contain neither addresses nor responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Good,
    Bad(String),
    /// It could not be taken, which says nothing about the instance, and why.
    Untaken(String),
}

/// Takes samples.
pub trait Prober {
    /// Takes one sample; never takes longer than the prober's limit.
    fn sample(&self, probe: &Probe, target: ProbeTarget<'_>) -> impl Future<Output = ProbeSample>;
}

/// Measures instances, each by a number of samples after a warm-up. The results are in the order of the targets. When the
/// program is stopping, it returns what it has measured so far.
pub async fn measure_all(
    prober: &impl Prober,
    probe: &Probe,
    targets: &[ProbeTarget<'_>],
    samples: u32,
    clock: &Clock,
    stop: &Stop,
) -> Vec<Measurement> {
    let each = targets.iter().map(|target| async move {
        let (started, mut tally) = (clock.now(), Tally::default());
        tokio::select! {
            biased;
            _ = stop.triggered() => tally.stopped = true,
            () = tally.fill(prober, probe, *target, samples) => {}
        }
        tally.summary(started)
    });
    stream::iter(each).buffered(AT_ONCE).collect().await
}

/// The samples so far.
#[derive(Debug, Default)]
struct Tally {
    /// The durations of passing samples, in microseconds.
    took: Vec<u64>,
    errors: u32,
    untaken: u32,
    last_error: Option<String>,
    given_up: bool,
    stopped: bool,
}

impl Tally {
    async fn fill(&mut self, prober: &impl Prober, probe: &Probe, target: ProbeTarget<'_>, samples: u32) {
        prober.sample(probe, target).await;
        let (mut bad, mut spent, mut untaken) = (0, Duration::ZERO, 0);
        for _ in 0..samples {
            let ProbeSample { took, outcome } = prober.sample(probe, target).await;
            match outcome {
                ProbeOutcome::Good => {
                    self.took.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                    (bad, spent, untaken) = (0, Duration::ZERO, 0);
                }
                ProbeOutcome::Bad(why) => {
                    self.errors += 1;
                    self.last_error = Some(why);
                    (bad, spent, untaken) = (bad + 1, spent + took, 0);
                }
                ProbeOutcome::Untaken(why) => {
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

    fn summary(self, at: Timestamp) -> Measurement {
        let Self { mut took, errors, untaken, last_error, given_up, stopped } = self;
        took.sort_unstable();
        let samples = errors.saturating_add(u32::try_from(took.len()).unwrap_or(u32::MAX));
        Measurement {
            at,
            samples,
            errors,
            latency: latency(&took),
            last_error: last_error.or_else(|| stopped.then(|| "stopped before it was measured".into())),
            untaken,
            given_up,
        }
    }
}

/// The latency from sorted microseconds. The median of an even number is the lower of the two in the middle.
fn latency(sorted: &[u64]) -> Option<Latency> {
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    Some(Latency { least, median: sorted[(sorted.len() - 1) / 2], most })
}
