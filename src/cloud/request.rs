//! The request engine: pacing, retries, one path for reads and one for writes. What the answers mean is left to the
//! provider's [`Dialect`].

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::transport::{Method, Request, Response, Transport, TransportError};
use super::{CloudError, Effect, Guard, Ping};
use crate::clock::Reading;
use crate::core::record::trail::ProviderCalls;
use crate::core::world::error::ErrorKind;
use crate::core::world::headers::{http_date, retry_after};

/// The timeout of one attempt at a read.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of one attempt at a write. Longer than a read's: giving up early only makes the outcome unknown.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A call fails when it did not succeed within this time, retries included.
const RETRY_BUDGET: Duration = Duration::from_secs(30);

/// A rate-limited write waits longer: limits are often counted by the minute, and waiting costs only time, which the
/// pass's deadline bounds.
const RATE_LIMIT_BUDGET: Duration = Duration::from_secs(90);

/// The wait before the first retry; doubled each time, with jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Retries after a response that cannot be read: a truncated body may be complete next time, a wrong address stays wrong.
const UNREADABLE_RETRIES: u32 = 2;

/// What a provider's responses mean.
pub trait Dialect {
    /// The call that a request makes, as messages name it.
    fn call(&self, request: &Request) -> String {
        format!("{} {}", request.method.into_str(), request.path)
    }

    /// Reads a response whose status is not 2xx. The message must not repeat secrets of the request.
    fn refusal(&self, request: &Request, response: &Response) -> Refusal;

    /// The class and the text of an error that a body tells of although the status is 2xx.
    fn told(&self, body: &[u8]) -> Option<(ErrorKind, String)> {
        let _ = body;
        None
    }

    /// How to fix an error of this kind; `status` is `None` when there was no response.
    fn hint(&self, kind: ErrorKind, status: Option<u16>, not_found: bool) -> Option<&'static str>;
}

/// A response whose status is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: ErrorKind,
    /// Whether the request may have changed something all the same.
    pub effect: Effect,
    /// Whether what the request named does not exist.
    pub not_found: bool,
    /// The provider's text, without secrets.
    pub message: String,
    /// How to fix it, where the response says more than its class.
    pub hint: Option<&'static str>,
}

/// Sends requests through a [`Transport`], at the rate that the provider accepts.
#[derive(Debug)]
pub struct Requests<T, D> {
    transport: T,
    dialect: D,
    pace: RefCell<Pace>,
    calls: Cell<ProviderCalls>,
    reading: Cell<Option<Reading>>,
}

/// A failed attempt, with what decides about the next one.
struct Failed {
    error: CloudError,
    status: Option<u16>,
    retry_after: Option<Duration>,
}

impl<T: Transport, D: Dialect> Requests<T, D> {
    /// An engine that has sent nothing yet.
    pub fn new(transport: T, dialect: D) -> Self {
        Self { transport, dialect, pace: RefCell::default(), calls: Cell::default(), reading: Cell::default() }
    }

    /// The requests sent so far.
    pub fn calls(&self) -> ProviderCalls {
        self.calls.get()
    }

    /// What the provider's clock showed when it last answered.
    pub fn reading(&self) -> Option<Reading> {
        self.reading.get()
    }

    /// Sends a read until it succeeds, its budget is used up or repeating it is pointless. `decode` describes a body
    /// that it cannot read without quoting it.
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn read<R>(
        &self,
        path: &'static str,
        query: Vec<(&'static str, String)>,
        decode: impl Fn(&[u8]) -> Result<R, String>,
    ) -> Result<R, CloudError> {
        let request = Request { method: Method::Get, path, query, body: None, timeout: READ_TIMEOUT };
        self.ask(&request, decode).await
    }

    /// The same with a request of any form, for providers that read by POST.
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn ask<R>(
        &self,
        request: &Request,
        decode: impl Fn(&[u8]) -> Result<R, String>,
    ) -> Result<R, CloudError> {
        let decoded = RefCell::new(None);
        let take = |body: &[u8]| {
            decoded.replace(Some(decode(body)?));
            Ok(())
        };
        let status = self.answered(request, &take).await?;
        let missing = || self.unreadable(request.method, request.path, status, "nothing");
        decoded.into_inner().ok_or_else(missing)
    }

    /// Sends a read until its body is taken. One function for all that is read: the program would be larger by each.
    async fn answered(&self, request: &Request, take: &dyn Fn(&[u8]) -> Result<(), String>) -> Result<u16, CloudError> {
        let mut retries = Retries::new(RETRY_BUDGET);
        let mut unreadable = 0;
        loop {
            self.turn().await;
            retries.attempt();
            let failed = match self.attempt(request).await {
                Ok(response) => match take(&response.body) {
                    Ok(()) => return Ok(response.status),
                    Err(what) => {
                        self.count(0, 1);
                        unreadable += 1;
                        let error = self.misread(request, &response, &what);
                        Failed { error, status: Some(response.status), retry_after: None }
                    }
                },
                Err(failed) => failed,
            };
            if unreadable > UNREADABLE_RETRIES || !is_worth_repeating(&failed) {
                return Err(failed.error);
            }
            retries.wait(failed).await?;
        }
    }

    /// Sends a write. Only "connection refused" and refusals for too many requests are retried, since neither can have had an effect; every other
    /// error is returned with the effect it may have had.
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn write(&self, path: &'static str, body: String, guard: Guard<'_>) -> Result<Response, CloudError> {
        let request =
            Request { method: Method::Post, path, query: Vec::new(), body: Some(body), timeout: WRITE_TIMEOUT };
        let mut retries = Retries::new(RETRY_BUDGET);
        loop {
            let stopped = tokio::select! {
                biased;
                _ = guard.stop.triggered() => true,
                () = self.turn() => !(guard.may_send)(),
            };
            if stopped {
                let error = self.error(&request, ErrorKind::Timeout, Effect::NotSent, None);
                return Err(CloudError {
                    message: "request not sent: the pass is stopping".into(),
                    hint: None,
                    ..error
                });
            }
            retries.attempt();
            let failed = match self.attempt(&request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            match (failed.error.effect, failed.error.kind) {
                (Effect::NotSent, ErrorKind::Network) => retries.budget = RETRY_BUDGET,
                (Effect::Refused, ErrorKind::RateLimit) => retries.budget = RATE_LIMIT_BUDGET,
                _ => return Err(failed.error),
            }
            let error = failed.error.clone();
            tokio::select! {
                biased;
                _ = guard.stop.triggered() => return Err(error),
                waited = retries.wait(failed) => waited?,
            }
        }
    }

    /// Sends a read once, for at most `timeout`.
    pub async fn ping(
        &self,
        path: &'static str,
        query: Vec<(&'static str, String)>,
        timeout: Duration,
        decode: impl Fn(&[u8]) -> Result<(), String>,
    ) -> Ping {
        self.ping_by(&Request { method: Method::Get, path, query, body: None, timeout }, decode).await
    }

    /// The same with a request of any form.
    pub async fn ping_by(&self, request: &Request, decode: impl Fn(&[u8]) -> Result<(), String>) -> Ping {
        match self.transport.exchange(request).await {
            Ok(response) => {
                let answer = if (200..300).contains(&response.status) {
                    decode(&response.body).map_err(|what| self.misread(request, &response, &what))
                } else {
                    Err(self.refused(request, &response))
                };
                Ping { answer, responded: true, date: response.date.as_deref().and_then(http_date) }
            }
            Err(error) => Ping { answer: Err(self.broken(request, &error)), responded: false, date: None },
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

    async fn attempt(&self, request: &Request) -> Result<Response, Failed> {
        self.count(1, 0);
        let after = Instant::now();
        let response = self.transport.exchange(request).await.map_err(|error| {
            self.count(0, 1);
            Failed { error: self.broken(request, &error), status: None, retry_after: None }
        })?;
        let Response { status, .. } = response;
        if (200..300).contains(&status) {
            self.pace.borrow_mut().speed_up();
            if let Some(shown) = response.date.as_deref().and_then(http_date) {
                self.reading.set(Some(Reading { shown, after, before: Instant::now() }));
            }
            return Ok(response);
        }
        let retry_after = response.retry_after.as_deref().and_then(|it| retry_after(it, response.date.as_deref()));
        let error = self.refused(request, &response);
        // A plain refusal of one request is not a failure of the provider.
        let is_refusal = matches!(
            error.kind,
            ErrorKind::Capacity | ErrorKind::Billing | ErrorKind::Configuration | ErrorKind::State
        );
        self.count(0, u64::from(!is_refusal || error.effect == Effect::Possible));
        if status == 429 || error.kind == ErrorKind::RateLimit {
            self.pace.borrow_mut().slow_down(Instant::now(), retry_after);
        }
        Err(Failed { error, status: Some(status), retry_after })
    }

    fn error(&self, request: &Request, kind: ErrorKind, effect: Effect, status: Option<u16>) -> CloudError {
        CloudError {
            kind,
            effect,
            not_found: false,
            call: self.dialect.call(request),
            message: String::new(),
            hint: self.dialect.hint(kind, status, false),
        }
    }

    /// A 2xx response whose body does not say what came of the request. `what` describes the body without quoting it.
    pub fn unreadable(&self, method: Method, path: &'static str, status: u16, what: &str) -> CloudError {
        let request = Request { method, path, query: Vec::new(), body: None, timeout: Duration::ZERO };
        let message = format!("{status}: unexpected response: {what}");
        CloudError { message, ..self.error(&request, ErrorKind::Api, Effect::Possible, Some(status)) }
    }

    /// The same for a body that was received: an error that it tells of says more than its shape.
    fn misread(&self, request: &Request, response: &Response, what: &str) -> CloudError {
        let status = response.status;
        match self.dialect.told(&response.body) {
            Some((kind, text)) => {
                let message = format!("{status}: an error: {text}");
                CloudError { message, ..self.error(request, kind, Effect::Possible, Some(status)) }
            }
            None => self.unreadable(request.method, request.path, status, what),
        }
    }

    /// A call that cannot be made, and was not.
    pub fn unsent(&self, path: &'static str, why: &str) -> CloudError {
        let request = Request { method: Method::Post, path, query: Vec::new(), body: None, timeout: Duration::ZERO };
        let message = why.to_owned();
        CloudError { message, ..self.error(&request, ErrorKind::Configuration, Effect::NotSent, None) }
    }

    fn broken(&self, request: &Request, error: &TransportError) -> CloudError {
        let (kind, effect) = match error {
            TransportError::NotSent(_) | TransportError::NotProxied { .. } => (ErrorKind::Network, Effect::NotSent),
            TransportError::Untrusted(_) | TransportError::Proxy(_) => (ErrorKind::Configuration, Effect::NotSent),
            TransportError::NoCredentials(_) => (ErrorKind::Auth, Effect::NotSent),
            TransportError::TimedOut(_) => (ErrorKind::Timeout, Effect::Possible),
            TransportError::Broken(_) => (ErrorKind::Network, Effect::Possible),
            TransportError::TooLong(_) | TransportError::Compressed(_) => (ErrorKind::Api, Effect::Possible),
        };
        let known = self.error(request, kind, effect, None);
        CloudError { message: error.to_string(), hint: error.hint().or(known.hint), ..known }
    }

    fn refused(&self, request: &Request, response: &Response) -> CloudError {
        let Refusal { kind, effect, not_found, message, hint } = self.dialect.refusal(request, response);
        let status = Some(response.status);
        let hint = hint.or_else(|| self.dialect.hint(kind, status, not_found));
        CloudError { message, not_found, hint, ..self.error(request, kind, effect, status) }
    }
}

/// A 4xx is a plain refusal; after a 5xx, a redirect or a 408 the effect is unknown.
pub fn effect_of(status: u16) -> Effect {
    match status {
        408 => Effect::Possible,
        400..500 => Effect::Refused,
        _ => Effect::Possible,
    }
}

/// The rate of requests: unlimited until the provider complains, then as slow as it requires.
#[derive(Debug, Default)]
struct Pace {
    interval: Duration,
    /// No request starts before this time.
    next: Option<Instant>,
}

impl Pace {
    const SLOWEST: Duration = Duration::from_secs(2);
    const FIRST_INTERVAL: Duration = Duration::from_millis(50);

    /// When the next request may start; `None` is now.
    fn next_turn(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next.filter(|&next| next > now);
        self.next = (!self.interval.is_zero() || at.is_some()).then(|| at.unwrap_or(now) + self.interval);
        at
    }

    /// After a refusal for too many requests: half the rate, and a pause for as long as the provider asks.
    fn slow_down(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.interval = (self.interval * 2).clamp(Self::FIRST_INTERVAL, Self::SLOWEST);
        let pause = now + retry_after.unwrap_or(self.interval).min(RATE_LIMIT_BUDGET);
        self.next = Some(self.next.map_or(pause, |next| next.max(pause)));
    }

    /// After a success: a little faster, until there is no limit again.
    fn speed_up(&mut self) {
        self.interval = self.interval * 9 / 10;
        if self.interval < Duration::from_millis(5) {
            self.interval = Duration::ZERO;
        }
    }
}

/// The waits between the attempts of one call.
struct Retries {
    /// When the first attempt started; waiting for its turn does not count.
    started: Option<Instant>,
    budget: Duration,
    backoff: Duration,
    count: u32,
}

impl Retries {
    fn new(budget: Duration) -> Self {
        Self { started: None, budget, backoff: FIRST_BACKOFF, count: 0 }
    }

    fn attempt(&mut self) {
        self.started.get_or_insert_with(Instant::now);
        self.count += 1;
    }

    /// Waits before the next attempt, or returns the error if the budget would be used up by then.
    async fn wait(&mut self, failed: Failed) -> Result<(), CloudError> {
        let Failed { error, retry_after, status: _ } = failed;
        // Between half and one and a half times the backoff, so that clients that failed together do not retry together.
        let jittered = self.backoff.mul_f64(0.5 + fastrand::f64());
        let delay = retry_after.unwrap_or(Duration::ZERO).max(jittered);
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        let spent = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        if spent + delay > self.budget {
            let message =
                format!("{} (given up after {} in {} s)", error.message, attempts(self.count), spent.as_secs());
            return Err(CloudError { message, ..error });
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

fn attempts(count: u32) -> String {
    if count == 1 { "1 attempt".into() } else { format!("{count} attempts") }
}

/// Whether the same request may get a better response.
fn is_worth_repeating(failed: &Failed) -> bool {
    match (failed.error.kind, failed.status) {
        (ErrorKind::Network | ErrorKind::Timeout | ErrorKind::RateLimit, _) => true,
        (ErrorKind::Api, Some(status)) => status >= 500 || (200..300).contains(&status),
        (_, Some(status)) => status >= 500,
        (_, None) => false,
    }
}
