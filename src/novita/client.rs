//! The one path every request takes: pacing, retries, classes of errors, paging.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::refusal::{Refusal, classify};
use super::transport::{Method, Request, Response, Transport, TransportError};
use super::wire::{self, Page, Row};
use super::{CloudError, CloudRead, CloudWrite, Effect, Guard, Progress};
use crate::core::model::{Instance, InstanceId, Job, Listing, Shortfall, Timestamp};
use crate::core::summary::ErrorKind;

/// One attempt at a read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// One attempt at a write. Longer than a read's: giving up early only makes the outcome unknown.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A call is given up when it could not be done within this time, retries included (contract, exit code 3).
const RETRY_BUDGET: Duration = Duration::from_secs(30);

/// A write that is told to slow down waits longer: limits are often counted by the minute, and nothing is lost by
/// waiting but time, which the pass's deadline bounds.
const PATIENCE_WITH_LIMITS: Duration = Duration::from_secs(90);

/// The wait before the first retry; doubled each time, with jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// How often an answer that is no valid JSON is asked for again: a cut connection mends, a wrong address does not.
const NONSENSE_RETRIES: u32 = 2;

/// The greatest page that clients are known to ask for (`novita-api.md` section 3).
const PAGE_SIZE: usize = 100;

const MIGRATE: &str = "/v1/gpu/instance/migrate";

/// Pages in flight once the first has told how many there are.
const PAGES_AT_ONCE: usize = 10;

/// Without a total, a list that is longer than this does not end.
const MOST_PAGES: usize = 5000;

/// Pages read past the announced end before the list counts as endless.
const PAGES_PAST_THE_END: usize = 20;

/// How often a list is read before it counts as incomplete: a fleet that changes while it is read may show gaps.
const LISTING_ATTEMPTS: u32 = 3;
const LISTING_PAUSE: Duration = Duration::from_millis(300);

/// The provider behind a [`Transport`].
#[derive(Debug)]
pub struct Client<T> {
    transport: T,
    pace: RefCell<Pace>,
}

impl<T: Transport> Client<T> {
    /// A client that has sent nothing yet.
    pub fn new(transport: T) -> Self {
        Self { transport, pace: RefCell::new(Pace::default()) }
    }

    /// Sends a read until it succeeds, its budget is used up or its answer cannot be mended by asking again. Safe to
    /// repeat freely: it changes nothing.
    async fn read<R>(
        &self,
        path: &'static str,
        query: Vec<(&'static str, String)>,
        decode: impl Fn(&[u8]) -> Result<R, String>,
    ) -> Result<R, CloudError> {
        let request = Request { method: Method::Get, path, query, body: None, timeout: READ_TIMEOUT };
        let mut retries = Retries::new();
        let mut nonsense = 0;
        loop {
            self.turn().await;
            retries.attempt();
            let (error, retry_after) = match self.attempt(&request).await {
                Ok(response) => match decode(&response.body) {
                    Ok(value) => return Ok(value),
                    Err(what) => {
                        nonsense += 1;
                        let error = CloudError {
                            message: format!("answered nonsense: {what}"),
                            ..failure(&request, Some(response.status), ErrorKind::Api, Effect::Possible)
                        };
                        if nonsense > NONSENSE_RETRIES {
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
                _ = guard.stop.given() => true,
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
                _ = guard.stop.given() => return Err(error),
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

    /// One exchange, with its answer classified. The second half of the error is what `Retry-After` asks for.
    async fn attempt(&self, request: &Request) -> Result<Response, (CloudError, Option<Duration>)> {
        let response = self.transport.exchange(request).await.map_err(|error| (broken(request, &error), None))?;
        if (200..300).contains(&response.status) {
            self.pace.borrow_mut().speed_up();
            return Ok(response);
        }
        let retry_after =
            response.retry_after.as_deref().and_then(|secs| secs.trim().parse().ok()).map(Duration::from_secs);
        let error = refused(request, &response);
        if response.status == 429 {
            self.pace.borrow_mut().slow_down(Instant::now(), retry_after);
        }
        Err((error, retry_after))
    }

    /// Reads a whole list, several times if it changes under the reader.
    async fn list<R: Row>(
        &self,
        path: &'static str,
        filter: &[(&'static str, String)],
        progress: Progress<'_>,
    ) -> Result<Listing<R>, CloudError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut rows = Rows::default();
            self.read_pages(path, filter, &mut rows, progress).await?;
            let listing = rows.into_listing();
            if listing.is_complete() || attempts == LISTING_ATTEMPTS {
                return Ok(listing);
            }
            tokio::time::sleep(LISTING_PAUSE).await;
        }
    }

    async fn page<R: Row>(
        &self,
        path: &'static str,
        filter: &[(&'static str, String)],
        number: usize,
    ) -> Result<Page<R>, CloudError> {
        let mut query = vec![("pageSize", PAGE_SIZE.to_string()), ("pageNum", number.to_string())];
        query.extend_from_slice(filter);
        self.read(path, query, |body| match R::page(body) {
            // What an empty page looks like where empty things are left out. The first must say more than that.
            Err(_) if number != 1 && is_empty_object(body) => Ok(Page { rows: Vec::new(), received: 0, total: None }),
            page => page,
        })
        .await
    }

    /// Reads all pages. The traps of `novita-api.md` section 3: the base of page numbers is unclear, the page size may
    /// be clamped, totals may be missing or lie, pages may repeat, shift or never end.
    async fn read_pages<R: Row>(
        &self,
        path: &'static str,
        filter: &[(&'static str, String)],
        rows: &mut Rows<R>,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let first = self.page::<R>(path, filter, 1).await?;
        let page_size = if first.received == 0 { PAGE_SIZE } else { first.received };
        // Where no total comes, only a page without news ends the list: the page size may be clamped.
        let goes_on = |received: usize, announced: Option<u64>| match announced {
            Some(_) => received >= page_size,
            None => received > 0,
        };
        let mut last_full = first.received >= PAGE_SIZE || (first.received > 0 && first.total.is_none());
        rows.add(first);
        progress(rows.received(), rows.announced);

        let announced = rows.announced.and_then(|total| usize::try_from(total).ok()).unwrap_or(0);
        let mut last_page = announced.div_ceil(page_size).clamp(1, MOST_PAGES);
        if last_full && announced.is_multiple_of(page_size) && announced > 0 {
            // The announced last page is full: look behind it in the same breath, the total may be too low.
            last_page += 1;
        }
        let mut pages = stream::iter(2..=last_page)
            .map(|number| async move { Ok::<_, CloudError>((number, self.page(path, filter, number).await?)) })
            .buffer_unordered(PAGES_AT_ONCE);
        while let Some((number, page)) = pages.try_next().await? {
            if number == last_page {
                last_full = goes_on(page.received, rows.announced);
            }
            rows.add(page);
            progress(rows.received(), rows.announced);
        }
        drop(pages);

        let end = if announced == 0 { MOST_PAGES } else { last_page + PAGES_PAST_THE_END };
        while last_full {
            last_page += 1;
            if last_page > end {
                let request = Request { method: Method::Get, path, query: vec![], body: None, timeout: READ_TIMEOUT };
                return Err(CloudError {
                    message: format!("answered nonsense: the list does not end after {end} pages"),
                    ..failure(&request, Some(200), ErrorKind::Api, Effect::Possible)
                });
            }
            let page = self.page::<R>(path, filter, last_page).await?;
            let received = page.received;
            let brought_new = rows.add(page);
            last_full = brought_new && goes_on(received, rows.announced);
            progress(rows.received(), rows.announced);
        }
        if rows.falls_short() || rows.announced.is_none() {
            // Where pages count from 0, the first one is still missing.
            let page = self.page::<R>(path, filter, 0).await?;
            rows.add(page);
        }
        Ok(())
    }
}

impl<T: Transport> CloudRead for Client<T> {
    async fn instances(&self, progress: Progress<'_>) -> Result<Listing<Instance>, CloudError> {
        self.list("/v1/gpu/instances", &[], progress).await
    }

    async fn jobs(&self, since: Timestamp) -> Result<Listing<Job>, CloudError> {
        // No filter by type: any unfinished job is a reason to leave an instance alone.
        self.list("/v1/jobs", &[("startTime", since.as_secs().to_string())], &|_, _| ()).await
    }

    async fn instance(&self, id: &InstanceId) -> Result<Option<Instance>, CloudError> {
        let query = vec![("instanceId", id.to_string())];
        match self.read("/v1/gpu/instance", query, wire::instance).await {
            Ok(instance) => Ok(Some(instance)),
            Err(error) if error.not_found => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<T: Transport> CloudWrite for Client<T> {
    async fn migrate(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        let body = serde_json::json!({ "instanceId": id }).to_string();
        // Any 2xx is an acceptance; what the body holds is not documented (section 2.4), so nothing is asked of it. But
        // a page for people does not come from the API: something in between answered, and nobody knows what it did.
        let response = self.write(MIGRATE, body, guard).await?;
        if response.body.trim_ascii_start().starts_with(b"<") {
            return Err(CloudError {
                method: Method::Post.as_str(),
                path: MIGRATE,
                status: Some(response.status),
                reason: None,
                message: "answered with an HTML page, which is not the API's".into(),
                kind: ErrorKind::Api,
                effect: Effect::Possible,
                not_found: false,
            });
        }
        Ok(())
    }
}

/// Rows of one reading, each id once.
struct Rows<R> {
    rows: Vec<R>,
    seen: HashSet<u64>,
    /// Rows without an id: there, but of no use.
    unusable: u64,
    announced: Option<u64>,
    hasher: std::hash::RandomState,
}

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), seen: HashSet::new(), unusable: 0, announced: None, hasher: Default::default() }
    }
}

impl<R: Row> Rows<R> {
    /// Adds a page; says whether it brought an id not seen before.
    fn add(&mut self, page: Page<R>) -> bool {
        use std::hash::BuildHasher;
        let Page { rows, received, total } = page;
        if let Some(total) = total {
            // It may change while the list is read; the latest word counts.
            self.announced = Some(total);
            let expected = usize::try_from(total).unwrap_or(0).min(MOST_PAGES * PAGE_SIZE);
            if self.rows.capacity() < expected && self.rows.is_empty() {
                // Once, to the announced size: growing by doubling would double the memory's peak.
                self.rows.reserve_exact(expected);
            }
        }
        self.unusable += u64::try_from(received - rows.len()).unwrap_or(0);
        let before = self.seen.len();
        for row in rows {
            // Hashes in place of ids halve the memory; a collision is decided by `into_listing`, which compares ids.
            self.seen.insert(self.hasher.hash_one(row.id()));
            self.rows.push(row);
        }
        self.seen.len() > before
    }

    fn received(&self) -> u64 {
        u64::try_from(self.seen.len()).unwrap_or(u64::MAX) + self.unusable
    }

    fn falls_short(&self) -> bool {
        self.announced.is_some_and(|total| self.received() < total)
    }

    fn into_listing(self) -> Listing<R> {
        let Self { mut rows, unusable, announced, .. } = self;
        rows.sort_unstable_by(|a, b| a.id().cmp(b.id()).then(b.caution().cmp(&a.caution())));
        rows.dedup_by(|later, first| later.id() == first.id());
        let received = u64::try_from(rows.len()).unwrap_or(u64::MAX) + unusable;
        let shortfall =
            announced.filter(|&announced| received < announced).map(|announced| Shortfall { announced, received });
        Listing { items: rows, shortfall }
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

fn is_empty_object(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<_, _>>(body).is_ok_and(|object| object.is_empty())
}

fn failure(request: &Request, status: Option<u16>, kind: ErrorKind, effect: Effect) -> CloudError {
    CloudError {
        method: request.method.as_str(),
        path: request.path,
        status,
        reason: None,
        message: String::new(),
        kind,
        effect,
        not_found: false,
    }
}

fn broken(request: &Request, error: &TransportError) -> CloudError {
    let (kind, effect) = match error {
        TransportError::NotSent(_) => (ErrorKind::Network, Effect::NotSent),
        TransportError::Untrusted(_) => (ErrorKind::Configuration, Effect::NotSent),
        TransportError::TimedOut(_) => (ErrorKind::Timeout, Effect::Possible),
        TransportError::Broken(_) => (ErrorKind::Network, Effect::Possible),
        TransportError::TooLong(_) => (ErrorKind::Api, Effect::Possible),
    };
    CloudError { message: error.to_string(), ..failure(request, None, kind, effect) }
}

fn refused(request: &Request, response: &Response) -> CloudError {
    let refusal = Refusal::read(&response.body);
    let (kind, not_found) = classify(response.status, &refusal);
    // A 4xx is a plain no; after a 5xx, a redirect or a 408 nobody knows what happened behind it.
    let effect = match response.status {
        408 => Effect::Possible,
        400..500 => Effect::Refused,
        _ => Effect::Possible,
    };
    let Refusal { reason, mut message } = refusal;
    if kind == ErrorKind::RateLimit {
        // The provider uses one name for both (section 8, item 24).
        message.push_str(" (too many requests, or the GPU quota is used up)");
    }
    CloudError { reason, message, not_found, ..failure(request, Some(response.status), kind, effect) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Billing, Status};

    #[test]
    fn of_two_rows_of_one_instance_the_one_that_forbids_more_is_kept() {
        let row = |status: &Status| Instance {
            id: InstanceId::new("a"),
            name: "a".into(),
            status: status.clone(),
            billing: Billing::Spot,
            reclaim: None,
            stopped_at: None,
        };
        let (exited, migrating) = (Status::Exited, Status::Migrating);
        for statuses in [[&exited, &migrating], [&migrating, &exited]] {
            let mut rows = Rows::default();
            for status in statuses {
                rows.add(Page { rows: vec![row(status)], received: 1, total: Some(1) });
            }
            let listing = rows.into_listing();
            assert_eq!(listing.items, [row(&migrating)]);
            assert!(listing.is_complete());
        }
    }
}
