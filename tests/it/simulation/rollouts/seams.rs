//! What lies between the program and the world: where broken builds are broken.

use std::time::Duration;

use novita_sim::InProcess;
use respot::cloud::transport::{Request, Response, Transport, TransportError};
use respot::core::world::probe::Probe;
use respot::measure::{ProbeOutcome, ProbeSample, ProbeTarget, Prober};
use tokio::time::sleep;

use super::{Broken, History, cast};

/// The line to the provider, on which broken builds hear what is not said.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) inner: InProcess,
    pub(super) broken: Broken,
}

impl Transport for Line {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let mut response = self.inner.exchange(request).await?;
        let text = || String::from_utf8_lossy(&response.body).into_owned();
        match self.broken {
            Broken::MarkerIgnored => response.body = text().replace("-recreated-", "-forgotten-").into_bytes(),
            Broken::SpotIsClaimed => response.body = cast::claim_spot(&text()).into_bytes(),
            Broken::No | Broken::IntentAfterCall | Broken::GatePassed | Broken::Flattered => {}
        }
        Ok(response)
    }
}

/// Measures; that of a broken build finds everything fine.
pub(super) struct Dial<'a> {
    pub(super) history: &'a History,
}

impl Prober for Dial<'_> {
    async fn sample(&self, probe: &Probe, target: ProbeTarget<'_>) -> ProbeSample {
        let History { line, broken, samples, .. } = self.history;
        if *broken == Broken::Flattered {
            samples.set(samples.get() + 1);
            sleep(Duration::from_millis(1)).await;
            return ProbeSample { took: Duration::from_millis(70 + samples.get() % 3), outcome: ProbeOutcome::Good };
        }
        line.inner.sample(probe, target).await
    }
}
