//! The one path every request takes: pacing, retries, classes of errors. Lists are read by `paging`.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::hidden::Hidden;
use super::paging::{NAME, Search};
use super::refusal::{Refusal, classify, is_page};
use super::transport::{Method, Request, Response, Transport, TransportError};
use super::wire::{self, Row as _};
use crate::cloud::{CloudError, CloudRead, CloudWrite, Effect, Guard, Look, Order, Progress};
use crate::core::record::outbox::Connections;
use crate::core::record::trail::ProviderCalls;
use crate::core::recreation::blueprint::{Cluster, Configuration, Offer, OfferQuery};
use crate::core::rollout::analysis::Member;
use crate::core::rollout::metrics::Metrics;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Instance, InstanceId, Job, JobId};
use crate::core::world::probe::CloseUp;
use crate::core::world::snapshot::Listing;
use crate::core::world::time::Timestamp;

/// One attempt at a read.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// One attempt at a write. Longer than a read's: giving up early only makes the outcome unknown.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A call is given up when it could not be done within this time, retries included (`docs/reference.md`, exit code 3).
const RETRY_BUDGET: Duration = Duration::from_secs(30);

/// A write that is told to slow down waits longer: limits are often counted by the minute, and nothing is lost by
/// waiting but time, which the pass's deadline bounds.
const PATIENCE_WITH_LIMITS: Duration = Duration::from_secs(90);

/// The wait before the first retry; doubled each time, with jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// How often an answer that is no valid JSON is asked for again: a cut connection mends, a wrong address does not.
const NONSENSE_RETRIES: u32 = 2;

const JOBS: &str = "/v1/jobs";
pub(super) const INSTANCES: &str = "/v1/gpu/instances";
const INSTANCE: &str = "/v1/gpu/instance";
const MIGRATE: &str = "/v1/gpu/instance/migrate";
const CREATE: &str = "/v1/gpu/instance/create";
const DELETE: &str = "/v1/gpu/instance/delete";
/// On another base, which the transport knows.
const METRICS: &str = "/v1/metrics/gpu/instance";

/// The provider behind a [`Transport`].
#[derive(Debug)]
pub struct Client<T> {
    transport: T,
    pace: RefCell<Pace>,
    calls: Cell<ProviderCalls>,
}

impl<T: Transport> Client<T> {
    /// A client that has sent nothing yet.
    pub fn new(transport: T) -> Self {
        Self { transport, pace: RefCell::default(), calls: Cell::default() }
    }

    pub(super) fn transport(&self) -> &T {
        &self.transport
    }

    /// Sends a read until it succeeds, its budget is used up or its answer cannot be mended by asking again. Safe to
    /// repeat freely: it changes nothing.
    pub(super) async fn read<R>(
        &self,
        path: &'static str,
        query: Vec<(&'static str, String)>,
        decode: impl Fn(&[u8]) -> Result<R, String>,
    ) -> Result<R, CloudError> {
        let request = Request { method: Method::Get, path, query, body: None, timeout: READ_TIMEOUT };
        let mut retries = Retries::new();
        let mut unreadable = 0;
        loop {
            self.turn().await;
            retries.attempt();
            let (error, retry_after) = match self.attempt(&request).await {
                Ok(response) => match decode(&response.body) {
                    Ok(value) => return Ok(value),
                    Err(what) => {
                        self.count(0, 1);
                        unreadable += 1;
                        let error = nonsense(&request, response.status, &what);
                        if unreadable > NONSENSE_RETRIES {
                            return Err(error);
                        }
                        (error, None)
                    }
                },
                Err((error, retry_after)) => (error, retry_after),
            };
            if !may_mend(&error) {
                return Err(error);
            }
            retries.wait(error, retry_after).await?;
        }
    }

    /// Sends a write. Sent again only after "connection refused" and 429, neither of which can have had an effect;
    /// everything else goes back to the caller with what it may have done.
    async fn write(&self, path: &'static str, body: String, guard: Guard<'_>) -> Result<Response, CloudError> {
        let request =
            Request { method: Method::Post, path, query: Vec::new(), body: Some(body), timeout: WRITE_TIMEOUT };
        let mut retries = Retries::new();
        loop {
            let stopped = tokio::select! {
                biased;
                _ = guard.stop.triggered() => true,
                () = self.turn() => !(guard.may_send)(),
            };
            if stopped {
                return Err(CloudError {
                    message: "not sent: the pass may begin nothing new".into(),
                    ..failure(&request, None, ErrorKind::Timeout, Effect::NotSent)
                });
            }
            retries.attempt();
            let (error, retry_after) = match self.attempt(&request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let repeatable = match error.effect {
                Effect::NotSent => error.kind == ErrorKind::Network,
                Effect::Refused => error.kind == ErrorKind::RateLimit,
                Effect::Possible => false,
            };
            if !repeatable {
                return Err(error);
            }
            tokio::select! {
                biased;
                _ = guard.stop.triggered() => return Err(error),
                waited = retries.wait(error.clone(), retry_after) => waited?,
            }
        }
    }

    async fn turn(&self) {
        let at = self.pace.borrow_mut().next_turn(Instant::now());
        if let Some(at) = at {
            tokio::time::sleep_until(at).await;
        }
    }

    fn count(&self, total: u64, failed: u64) {
        let calls = self.calls.get();
        self.calls.set(ProviderCalls { total: calls.total + total, failed: calls.failed + failed });
    }

    /// One exchange, with its answer classified. The second half of the error is what `Retry-After` asks for.
    async fn attempt(&self, request: &Request) -> Result<Response, (CloudError, Option<Duration>)> {
        self.count(1, 0);
        let response = self.transport.exchange(request).await.map_err(|error| {
            self.count(0, 1);
            (broken(request, &error), None)
        })?;
        if (200..300).contains(&response.status) {
            self.pace.borrow_mut().speed_up();
            return Ok(response);
        }
        let retry_after =
            response.retry_after.as_deref().and_then(|secs| secs.trim().parse().ok()).map(Duration::from_secs);
        let error = refused(request, &response);
        self.count(0, u64::from(error.fails_the_provider()));
        if response.status == 429 {
            self.pace.borrow_mut().slow_down(Instant::now(), retry_after);
        }
        Err((error, retry_after))
    }
}

impl<T: Transport> CloudRead for Client<T> {
    async fn instances(&self, progress: Progress<'_>) -> Result<Listing<Instance>, CloudError> {
        self.list(INSTANCES, &[], progress).await
    }

    async fn jobs(&self, since: Timestamp) -> Result<Listing<Job>, CloudError> {
        // No filter by type: any unfinished job is a reason to leave an instance alone.
        self.list(JOBS, &[("startTime", since.as_secs().to_string())], &|_, _| ()).await
    }

    async fn instance(&self, id: &InstanceId) -> Result<Option<Instance>, CloudError> {
        let query = vec![("instanceId", id.to_string())];
        match self.read(INSTANCE, query, wire::instance).await {
            Ok(instance) => Ok(Some(instance)),
            Err(error) if error.not_found => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>, CloudError> {
        let is_wanted = |row: &Job| row.id == *id;
        let found =
            self.search(JOBS, &[("jobId", id.to_string())], Search { is_wanted: &is_wanted, enough: 1 }).await?;
        Ok(found.into_iter().next())
    }

    async fn named(&self, name: &str) -> Result<Vec<Instance>, CloudError> {
        let is_wanted = |row: &Instance| row.name == name;
        let search = Search { is_wanted: &is_wanted, enough: usize::MAX };
        self.search(INSTANCES, &[(NAME, name.to_owned())], search).await
    }

    async fn configuration(&self, id: &InstanceId, name: &str) -> Result<Option<Configuration>, CloudError> {
        let query = vec![("instanceId", id.to_string())];
        let detail = match self.read(INSTANCE, query.clone(), |body| wire::Record::detail(body, id)).await {
            Ok(detail) => detail,
            Err(error) if error.not_found => return Ok(None),
            Err(error) => return Err(error),
        };
        let filter = if name.is_empty() { vec![] } else { vec![(NAME, name.to_owned())] };
        let is_wanted = |row: &wire::Record| row.id() == id.as_str();
        let rows = self.search(INSTANCES, &filter, Search { is_wanted: &is_wanted, enough: 1 }).await?;
        // The filter is fuzzy, so a row that is not found says nothing, and the detail answer stands alone.
        let configuration = wire::configuration(&detail, rows.first());
        let request = Request { method: Method::Get, path: INSTANCE, query, body: None, timeout: READ_TIMEOUT };
        configuration.map(Some).map_err(|what| nonsense(&request, 200, &what))
    }

    async fn connections(&self, id: &InstanceId) -> Result<Connections, CloudError> {
        self.read(INSTANCE, vec![("instanceId", id.to_string())], |body| wire::connections(body, id)).await
    }

    async fn close_up(&self, id: &InstanceId) -> Result<Option<CloseUp>, CloudError> {
        match self.read(INSTANCE, vec![("instanceId", id.to_string())], |body| wire::close_up(body, id)).await {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if error.not_found => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn calls(&self) -> ProviderCalls {
        self.calls.get()
    }

    async fn offers(&self, query: &OfferQuery) -> Result<Vec<Offer>, CloudError> {
        let OfferQuery { cluster_id, product_name, gpu_num, billing } = query;
        let texts = [
            ("clusterId", cluster_id.clone().unwrap_or_default()),
            ("gpuNum", gpu_num.to_string()),
            ("productName", product_name.clone()),
            ("billingMethod", billing.clone()),
        ];
        let query = texts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        self.read("/v1/products", query, |body| wire::offers(body, billing)).await
    }

    async fn clusters(&self) -> Result<Vec<Cluster>, CloudError> {
        self.read("/v1/clusters", vec![], wire::clusters).await
    }

    async fn fleet(&self, progress: Progress<'_>) -> Result<Listing<Member>, CloudError> {
        self.list(INSTANCES, &[], progress).await
    }

    async fn metrics(
        &self,
        id: &InstanceId,
        from: Timestamp,
        to: Timestamp,
        interval: Duration,
    ) -> Result<Option<Metrics>, CloudError> {
        let query = vec![
            ("instanceId", id.to_string()),
            ("startTime", from.as_secs().to_string()),
            ("endTime", to.as_secs().to_string()),
            ("interval", interval.as_secs().to_string()),
        ];
        match self.read(METRICS, query, wire::metrics).await {
            Ok(metrics) => Ok(Some(metrics)),
            Err(error) if error.not_found => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn look(&self, timeout: Duration) -> Look {
        self.look_once(timeout).await
    }
}

impl<T: Transport> CloudWrite for Client<T> {
    async fn migrate(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        let body = serde_json::json!({ "instanceId": id }).to_string();
        accepted(MIGRATE, &self.write(MIGRATE, body, guard).await?)
    }

    async fn create(&self, order: Order<'_>, guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        let response = match self.write(CREATE, wire::create(order), guard).await {
            // The image, the product or the network: there is no instance yet that could be missing.
            Err(error) if error.not_found => {
                return Err(CloudError { not_found: false, kind: ErrorKind::Configuration, ..error });
            }
            answer => answer?,
        };
        wire::created(&response.body).map_err(|what| unclear(CREATE, &response, format!("answered nonsense: {what}")))
    }

    async fn delete(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        let body = serde_json::json!({ "instanceId": id }).to_string();
        match self.write(DELETE, body, guard).await {
            Ok(response) => accepted(DELETE, &response),
            Err(error) if error.not_found => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Any 2xx is an acceptance; what the body holds is not documented (section 2.4), so nothing is asked of it. But a page
/// for people does not come from the API: something in between answered, and nobody knows what it did.
fn accepted(path: &'static str, response: &Response) -> Result<(), CloudError> {
    if is_page(&response.body) {
        return Err(unclear(path, response, "answered with an HTML page, which is not the API's".into()));
    }
    Ok(())
}

/// A write that was answered so that nobody can say what it did.
fn unclear(path: &'static str, response: &Response, message: String) -> CloudError {
    CloudError {
        method: Method::Post.into_str(),
        path,
        status: Some(response.status),
        reason: None,
        message,
        kind: ErrorKind::Api,
        effect: Effect::Possible,
        not_found: false,
    }
}

/// The rate at which requests are begun: unlimited until the provider complains, then as slow as it takes.
#[derive(Debug, Default)]
struct Pace {
    /// Time between two requests.
    interval: Duration,
    /// Nothing is begun before this.
    next: Option<Instant>,
}

impl Pace {
    const SLOWEST: Duration = Duration::from_secs(2);
    const FIRST_INTERVAL: Duration = Duration::from_millis(50);

    /// When the next request may begin; `None` is at once.
    fn next_turn(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next.filter(|&next| next > now);
        self.next = (!self.interval.is_zero() || at.is_some()).then(|| at.unwrap_or(now) + self.interval);
        at
    }

    /// The provider asked for less: half the rate, and nothing at all for as long as it says.
    fn slow_down(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.interval = (self.interval * 2).clamp(Self::FIRST_INTERVAL, Self::SLOWEST);
        let pause = now + retry_after.unwrap_or(self.interval).min(PATIENCE_WITH_LIMITS);
        self.next = Some(self.next.map_or(pause, |next| next.max(pause)));
    }

    /// A request went through: a little faster again, until there is no limit.
    fn speed_up(&mut self) {
        self.interval = self.interval * 9 / 10;
        if self.interval < Duration::from_millis(5) {
            self.interval = Duration::ZERO;
        }
    }
}

/// The waits between the attempts of one call.
struct Retries {
    /// When the first attempt began; waiting for its turn does not count.
    started: Option<Instant>,
    backoff: Duration,
    count: u32,
}

impl Retries {
    fn new() -> Self {
        Self { started: None, backoff: FIRST_BACKOFF, count: 0 }
    }

    /// An attempt begins.
    fn attempt(&mut self) {
        self.started.get_or_insert_with(Instant::now);
        self.count += 1;
    }

    /// Waits before the next attempt, or gives up with `error` when the budget would be used up by then.
    async fn wait(&mut self, error: CloudError, retry_after: Option<Duration>) -> Result<(), CloudError> {
        let budget = match (error.method, error.kind) {
            ("POST", ErrorKind::RateLimit) => PATIENCE_WITH_LIMITS,
            _ => RETRY_BUDGET,
        };
        // Between half and one and a half times the backoff, so that many clients do not come back as one.
        let jittered = self.backoff.mul_f64(0.5 + fastrand::f64());
        let delay = retry_after.unwrap_or(Duration::ZERO).max(jittered);
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        let spent = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        if spent + delay > budget {
            let message =
                format!("{} (given up after {} attempts in {} s)", error.message, self.count, spent.as_secs());
            return Err(CloudError { message, ..error });
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Whether asking the same again may bring a better answer.
fn may_mend(error: &CloudError) -> bool {
    match (error.kind, error.status) {
        (ErrorKind::Network | ErrorKind::Timeout | ErrorKind::RateLimit, _) => true,
        (ErrorKind::Api, Some(status)) => status >= 500 || (200..300).contains(&status),
        (_, Some(status)) => status >= 500,
        (_, None) => false,
    }
}

fn failure(request: &Request, status: Option<u16>, kind: ErrorKind, effect: Effect) -> CloudError {
    CloudError {
        method: request.method.into_str(),
        path: request.path,
        status,
        reason: None,
        message: String::new(),
        kind,
        effect,
        not_found: false,
    }
}

/// An answer that is none. `what` says so without any of its content.
pub(super) fn nonsense(request: &Request, status: u16, what: &str) -> CloudError {
    let message = format!("answered nonsense: {what}");
    CloudError { message, ..failure(request, Some(status), ErrorKind::Api, Effect::Possible) }
}

pub(super) fn broken(request: &Request, error: &TransportError) -> CloudError {
    let (kind, effect) = match error {
        TransportError::NotSent(_) => (ErrorKind::Network, Effect::NotSent),
        TransportError::Untrusted(_) => (ErrorKind::Configuration, Effect::NotSent),
        TransportError::TimedOut(_) => (ErrorKind::Timeout, Effect::Possible),
        TransportError::Broken(_) => (ErrorKind::Network, Effect::Possible),
        TransportError::TooLong(_) => (ErrorKind::Api, Effect::Possible),
    };
    CloudError { message: error.to_string(), ..failure(request, None, kind, effect) }
}

pub(super) fn refused(request: &Request, response: &Response) -> CloudError {
    let refusal = Refusal::read(&response.body);
    let (kind, not_found) = classify(response.status, &refusal);
    // A 4xx is a plain no; after a 5xx, a redirect or a 408 nobody knows what happened behind it.
    let effect = match response.status {
        408 => Effect::Possible,
        400..500 => Effect::Refused,
        _ => Effect::Possible,
    };
    let (reason, mut message) = refusal.shown(&Hidden::in_body(request.body.as_deref()));
    if kind == ErrorKind::RateLimit {
        // The provider uses one name for both (section 8, item 24).
        message.push_str(" (too many requests, or the GPU quota is used up)");
    }
    CloudError { reason, message, not_found, ..failure(request, Some(response.status), kind, effect) }
}
