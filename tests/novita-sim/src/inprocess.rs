//! The face for simulations: a transport without a network, on tokio's time, which a test can pause.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use respot::cloud::transport::{Request, Response, Transport, TransportError};
use respot::core::world::probe::{Endpoint, Probe};
use respot::measure::{ProbeOutcome, ProbeSample, ProbeTarget, Prober};
use tokio::time::{Instant, sleep, timeout};

use crate::api::{Answer, Call, Delivery, is_elsewhere};
use crate::app::{AppKind, Knock, Said};
use crate::lock;
use crate::world::World;

/// How much of an endless body is taken before it is called too long.
const PATIENCE: usize = 64 << 20;

/// A [`Transport`] into a [`World`]. The world's time goes on with tokio's; what a test adds with [`World::advance`] stays.
/// Clones share the world. A call takes effect half a latency after it was sent, so an exchange that is dropped earlier
/// never happened.
#[derive(Clone, Debug)]
pub struct InProcess {
    world: Arc<Mutex<World>>,
    synced: Arc<Mutex<Instant>>,
    latency: Duration,
    sample_timeout: Duration,
}

impl InProcess {
    /// A face on this world, which lives on from now. Call it within a tokio runtime.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
            synced: Arc::new(Mutex::new(Instant::now())),
            latency: Duration::from_millis(20),
            sample_timeout: Duration::from_secs(5),
        }
    }

    /// With another time for there and back; 20 ms if not set.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// With another limit for the samples that it takes as a [`Prober`]; 5 s if not set.
    #[must_use]
    pub fn sample_timeout(mut self, limit: Duration) -> Self {
        self.sample_timeout = limit;
        self
    }

    /// The world as it is now. Do not hold it across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = lock(&self.world);
        let mut synced = self.synced.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let passed = Instant::now().saturating_duration_since(*synced).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        // Whole milliseconds only, so that the rest is not lost.
        *synced += Duration::from_millis(passed);
        world.advance(passed);
        world
    }

    async fn converse(&self, request: &Request) -> Result<Response, TransportError> {
        sleep(self.latency / 2).await;
        let reply = {
            let mut world = self.world();
            // Metrics and bills live on another base than the rest, which a client may write down in the path.
            let path = request.path.strip_prefix("/openapi").filter(|path| is_elsewhere(path));
            let call = Call {
                method: request.method,
                path: path.unwrap_or(request.path).to_owned(),
                query: request.query.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
                key: Some(world.rules().key.clone()),
                body: request.body.clone().unwrap_or_default().into_bytes(),
            };
            world.serve(&call)
        };
        sleep(self.latency / 2 + Duration::from_millis(reply.after_ms)).await;
        match reply.delivery {
            Delivery::Answer(Answer { status, retry_after, content_type: _, body }) => {
                let now = u64::try_from(self.world().now_ms()).unwrap_or(0);
                let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(now));
                Ok(Response { status, retry_after, date: Some(date), body })
            }
            Delivery::Truncated(_) => Err(TransportError::Broken("the body ended early".into())),
            Delivery::Cut => Err(TransportError::Broken("connection reset".into())),
            Delivery::Endless => Err(TransportError::TooLong(PATIENCE)),
            Delivery::Refused => Err(TransportError::NotSent("connection refused".into())),
            Delivery::Hang => std::future::pending().await,
        }
    }
}

impl Transport for InProcess {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let whole = timeout(request.timeout, self.converse(request)).await;
        whole.unwrap_or(Err(TransportError::TimedOut(request.timeout)))
    }
}

/// Samples go to the applications behind the endpoints, by their address alone: whoever knows a wrong one asks the wrong
/// machine, or nobody. What a sample takes is what the script says, to the microsecond; tokio's clock goes on by whole
/// milliseconds. A probe that is a command asks the first application behind any of the endpoints, in its own way.
impl Prober for InProcess {
    async fn sample(&self, probe: &Probe, target: ProbeTarget<'_>) -> ProbeSample {
        let asked = {
            let mut world = self.world();
            match probe {
                Probe::Http { port, path: _ } => knock(&mut world, *port, target, AppKind::Http),
                Probe::Tcp { port } => knock(&mut world, *port, target, AppKind::Tcp),
                Probe::Command(_) => {
                    let kind = |endpoint: &Endpoint| world.app_behind(&endpoint.address).map(|app| app.kind);
                    let found = target.endpoints.iter().find_map(|it| Some((it.address.clone(), kind(it)?)));
                    found.map(|(address, kind)| world.knock(&address, kind)).ok_or("no endpoint is reachable".into())
                }
            }
        };
        let bad = |why: &str| ProbeOutcome::Bad(why.into());
        let (took, outcome) = match asked {
            Err(why) => (Duration::ZERO, ProbeOutcome::Untaken(why)),
            Ok(Knock { took_us, said }) => {
                let took = Duration::from_micros(took_us);
                match said {
                    Said::Nothing => (Duration::MAX, ProbeOutcome::Good),
                    Said::Fine => (took, ProbeOutcome::Good),
                    Said::Failed if matches!(probe, Probe::Http { .. }) => (took, bad("status 500")),
                    Said::Failed => (took, bad("failed")),
                    Said::Refused => (took, bad("connection refused")),
                    Said::Closed => (took, bad("connection closed")),
                }
            }
        };
        let limit = self.sample_timeout;
        sleep(took.min(limit)).await;
        if took > limit {
            return ProbeSample { took: limit, outcome: ProbeOutcome::Bad(format!("no answer within {limit:?}")) };
        }
        ProbeSample { took, outcome }
    }
}

fn knock(world: &mut World, port: u16, target: ProbeTarget<'_>, kind: AppKind) -> Result<Knock, String> {
    let endpoint = target.endpoints.iter().find(|endpoint| endpoint.port == port);
    let endpoint = endpoint.ok_or_else(|| format!("no endpoint for port {port}"))?;
    Ok(world.knock(&endpoint.address, kind))
}
