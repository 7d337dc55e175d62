//! Paged lists, read whole or searched for a few rows. What they do wrong is in `docs/novita-api.md`.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::refusal::{Novita, error_in};
use super::wire::{ListPage, Listed};
use crate::cloud::request::Requests;
use crate::cloud::transport::{Method, Transport};
use crate::cloud::{CloudError, Progress};
use crate::core::world::snapshot::{Listing, Shortfall};

/// The largest page size that clients are known to use.
const PAGE_SIZE: usize = 100;

/// A list whose total is not reached ends after this many pages in a row without a new row.
const MOST_REPEATS: u32 = 10;

/// Pages in flight once the first one has shown how many there are.
const PAGES_AT_ONCE: usize = 10;

/// A list without a total that is longer than this counts as endless.
const MOST_PAGES: usize = 5000;

/// Pages read past the announced end before the list counts as endless.
const PAGES_PAST_THE_END: usize = 20;

/// How often a list is read before it counts as incomplete: a list that changes while it is read may have gaps.
const LISTING_ATTEMPTS: u32 = 3;
const LISTING_PAUSE: Duration = Duration::from_millis(300);

pub(super) const INSTANCES: &str = "/v1/gpu/instances";
pub(super) const JOBS: &str = "/v1/jobs";

/// A filter of instances that is fuzzy, and perhaps ignored.
pub(super) const NAME: &str = "name";

/// Some rows of a list.
pub(super) struct Search<'a, R> {
    /// Whether a row is one of them.
    pub(super) is_wanted: &'a dyn Fn(&R) -> bool,
    pub(super) enough: usize,
}

/// Reads a whole list, several times if it changes meanwhile.
pub(super) async fn list<T: Transport, R: Listed>(
    requests: &Requests<T, Novita>,
    path: &'static str,
    filter: &[(&'static str, String)],
    progress: Progress<'_>,
) -> Result<Listing<R>, CloudError> {
    let everything = Search { is_wanted: &|_| true, enough: usize::MAX };
    read_list(requests, path, filter, &everything, progress).await
}

/// Reads a list as far as needed and keeps only the wanted rows: a filter that is ignored returns all rows.
pub(super) async fn search<T: Transport, R: Listed>(
    requests: &Requests<T, Novita>,
    path: &'static str,
    filter: &[(&'static str, String)],
    search: Search<'_, R>,
) -> Result<Vec<R>, CloudError> {
    let found = read_list(requests, path, filter, &search, &|_, _| ()).await?;
    match found.shortfall {
        // What is looked for may be one of them.
        Some(shortfall @ Shortfall::Nameless { .. }) if found.items.len() < search.enough => {
            Err(requests.unreadable(Method::Get, path, 200, &shortfall.to_string()))
        }
        _ => Ok(found.items),
    }
}

async fn read_list<T: Transport, R: Listed>(
    requests: &Requests<T, Novita>,
    path: &'static str,
    filter: &[(&'static str, String)],
    search: &Search<'_, R>,
    progress: Progress<'_>,
) -> Result<Listing<R>, CloudError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut rows = Rows::new(search);
        read_pages(requests, path, filter, &mut rows, progress).await?;
        let has_enough = rows.are_enough();
        let listing = rows.into_listing();
        if listing.is_complete() || has_enough || attempts == LISTING_ATTEMPTS {
            return Ok(listing);
        }
        tokio::time::sleep(LISTING_PAUSE).await;
    }
}

async fn page<T: Transport, R: Listed>(
    requests: &Requests<T, Novita>,
    path: &'static str,
    filter: &[(&'static str, String)],
    number: usize,
) -> Result<ListPage<R>, CloudError> {
    let mut query = vec![("pageSize", PAGE_SIZE.to_string()), ("pageNum", number.to_string())];
    query.extend_from_slice(filter);
    let may_be_empty = number != 1 || is_by_name(filter);
    requests
        .read(path, query, |body| match R::page(body) {
            // An empty page whose empty fields are left out. The first page of a whole list must have more.
            Err(_) if may_be_empty && is_empty_object(body) => {
                Ok(ListPage { rows: Vec::new(), received: 0, total: None })
            }
            // An error with an empty list beside it says nothing about what there is.
            Ok(page) if page.received == 0 => match error_in(body) {
                Some((_, message)) => Err(format!("an error: {message}")),
                None => Ok(page),
            },
            page => page,
        })
        .await
}

/// Reads all pages. Page numbers may start at 0 or 1, the page size may be clamped, totals may be missing or wrong, pages
/// may repeat, shift or never end.
async fn read_pages<T: Transport, R: Listed>(
    requests: &Requests<T, Novita>,
    path: &'static str,
    filter: &[(&'static str, String)],
    rows: &mut Rows<'_, R>,
    progress: Progress<'_>,
) -> Result<(), CloudError> {
    let first = page::<T, R>(requests, path, filter, 1).await?;
    let page_size = if first.received == 0 { PAGE_SIZE } else { first.received };
    // Without a total, only a page without new rows ends the list: the page size may be clamped.
    let goes_on = |received: usize, announced: Option<u64>| match announced {
        Some(_) => received >= page_size,
        None => received > 0,
    };
    let mut last_full = first.received >= PAGE_SIZE || (first.received > 0 && first.total.is_none());
    let is_short = first.received < PAGE_SIZE;
    rows.add(first);
    progress(rows.received(), rows.announced);
    if rows.are_enough() {
        return Ok(());
    }
    if is_by_name(filter) && is_short && rows.falls_short() {
        // Either the page size is clamped, or the total counts rows that the filter removes, and hundreds of pages would
        // be requested for nothing.
        let second = page::<T, R>(requests, path, filter, 2).await?;
        if !rows.add(second) {
            let page = page::<T, R>(requests, path, filter, 0).await?;
            rows.add(page);
            return Ok(());
        }
    }

    let announced = rows.announced.and_then(|total| usize::try_from(total).ok()).unwrap_or(0);
    let mut last_page = announced.div_ceil(page_size).clamp(1, MOST_PAGES);
    if last_full && announced.is_multiple_of(page_size) && announced > 0 {
        // The last page is full according to the total, which may be too low: read one more at once.
        last_page += 1;
    }
    let mut pages = stream::iter(2..=last_page)
        .map(|number| async move { Ok::<_, CloudError>((number, page(requests, path, filter, number).await?)) })
        .buffered(PAGES_AT_ONCE);
    let mut repeats = 0;
    while let Some((number, page)) = pages.try_next().await? {
        if page.received == 0 {
            // Whatever the total says, the list ends here.
            last_full = false;
            break;
        }
        if number == last_page {
            last_full = goes_on(page.received, rows.announced);
        }
        repeats = if rows.add(page) { 0 } else { repeats + 1 };
        progress(rows.received(), rows.announced);
        if rows.are_enough() {
            return Ok(());
        }
        if repeats == MOST_REPEATS {
            // Whatever page is asked for, the same rows come: the total would cost thousands of requests for nothing.
            last_full = false;
            break;
        }
    }
    drop(pages);

    let end = if announced == 0 { MOST_PAGES } else { last_page + PAGES_PAST_THE_END };
    while last_full {
        last_page += 1;
        if last_page > end {
            let what = format!("the list does not end after {end} pages");
            return Err(requests.unreadable(Method::Get, path, 200, &what));
        }
        let page = page::<T, R>(requests, path, filter, last_page).await?;
        let received = page.received;
        let brought_new = rows.add(page);
        last_full = brought_new && goes_on(received, rows.announced) && !rows.are_enough();
        progress(rows.received(), rows.announced);
    }
    if !rows.are_enough() && (rows.falls_short() || rows.announced.is_none()) {
        // If page numbers start at 0, the first page is still missing.
        let page = page::<T, R>(requests, path, filter, 0).await?;
        rows.add(page);
    }
    Ok(())
}

fn is_by_name(filter: &[(&'static str, String)]) -> bool {
    filter.iter().any(|(key, _)| *key == NAME)
}

/// The rows of one reading, each id once.
struct Rows<'a, R> {
    rows: Vec<R>,
    seen: HashSet<u64>,
    /// Rows that are not wanted.
    passed_over: u64,
    /// Rows without an id.
    unusable: u64,
    announced: Option<u64>,
    hasher: std::hash::RandomState,
    search: &'a Search<'a, R>,
}

impl<'a, R: Listed> Rows<'a, R> {
    fn new(search: &'a Search<'a, R>) -> Self {
        Self {
            rows: Vec::new(),
            seen: HashSet::new(),
            passed_over: 0,
            unusable: 0,
            announced: None,
            hasher: Default::default(),
            search,
        }
    }

    /// Adds a page; returns whether it has an id not seen before.
    fn add(&mut self, page: ListPage<R>) -> bool {
        use std::hash::BuildHasher;
        let ListPage { rows, received, total } = page;
        if let Some(total) = total {
            // It may change while the list is read; the latest one counts.
            self.announced = Some(total);
        }
        self.unusable += u64::try_from(received - rows.len()).unwrap_or(0);
        let before = self.seen.len();
        for row in rows {
            // Hashes in place of ids halve the memory; a collision is decided by `into_listing`, which compares ids.
            let is_new = self.seen.insert(self.hasher.hash_one(row.id()));
            if (self.search.is_wanted)(&row) {
                self.rows.push(row);
            } else {
                self.passed_over += u64::from(is_new);
            }
        }
        if before == 0 && self.passed_over == 0 {
            // Once, to the announced size: growing by doubling would double the memory's peak.
            let expected = usize::try_from(self.announced.unwrap_or(0)).unwrap_or(0).min(MOST_PAGES * PAGE_SIZE);
            self.rows.reserve_exact(expected.saturating_sub(self.rows.len()));
        }
        self.seen.len() > before
    }

    fn are_enough(&self) -> bool {
        self.rows.len() >= self.search.enough
    }

    fn received(&self) -> u64 {
        u64::try_from(self.seen.len()).unwrap_or(u64::MAX) + self.unusable
    }

    fn falls_short(&self) -> bool {
        self.announced.is_some_and(|total| self.received() < total)
    }

    fn into_listing(self) -> Listing<R> {
        let Self { mut rows, passed_over, unusable, announced, .. } = self;
        rows.sort_unstable_by(|a, b| a.id().cmp(b.id()).then(b.caution().cmp(&a.caution())));
        rows.dedup_by(|later, first| later.id() == first.id());
        let received = u64::try_from(rows.len()).unwrap_or(u64::MAX) + passed_over + unusable;
        let nameless = || (R::NEEDS_IDS && unusable > 0).then_some(Shortfall::Nameless { rows: unusable });
        let shortfall = announced
            .filter(|&announced| received < announced)
            .map(|announced| Shortfall::Rows { announced, received })
            .or_else(nameless);
        Listing { items: rows, shortfall }
    }
}

fn is_empty_object(body: &[u8]) -> bool {
    let object = serde_json::from_slice::<serde_json::Map<_, _>>(body);
    object.is_ok_and(|object| object.values().all(serde_json::Value::is_null))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::instance::{Billing, Instance, InstanceId, Status};

    #[test]
    fn of_two_rows_of_one_instance_the_one_that_forbids_more_is_kept() {
        let row = |status: &Status| Instance {
            id: InstanceId::new("a"),
            name: "a".into(),
            status: status.clone(),
            billing: Billing::Spot,
            reclaim: None,
            marker: None,
            aside: None,
            place: None,
            gpus: 1,
            created_at: None,
            started_at: None,
            stopped_at: None,
        };
        let (exited, migrating) = (Status::Exited, Status::Migrating);
        for statuses in [[&exited, &migrating], [&migrating, &exited]] {
            let everything = Search { is_wanted: &|_| true, enough: usize::MAX };
            let mut rows = Rows::new(&everything);
            for status in statuses {
                rows.add(ListPage { rows: vec![row(status)], received: 1, total: Some(1) });
            }
            let listing = rows.into_listing();
            assert_eq!(listing.items, [row(&migrating)]);
            assert!(listing.is_complete());
        }
    }
}
