//! One region: calls that read, page by page.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::facts::encoded;
use super::pace::LaunchPace;
use super::refusal::Ec2;
use super::wire::{self, Ec2Row, Instances, RowPage, SpotRequest, XmlPage};
use crate::cloud::request::{READ_TIMEOUT, Requests};
use crate::cloud::transport::{Method, Request, Transport};
use crate::cloud::{CloudError, Progress};
use crate::core::record::trail::ProviderCalls;
use crate::credentials::aws::AwsService;

/// The most values of one filter.
const MOST_VALUES: usize = 200;

/// The rows of a page of a filtered listing: the most that every action allows, but for that of instance types.
const FILTERED_PAGE: u32 = 500;
const TYPES_PAGE: u32 = 100;

/// The most pages of one listing; more are a listing that does not end.
const MOST_PAGES: usize = 1000;

/// One region.
#[derive(Debug)]
pub(super) struct Region<T> {
    pub(super) name: String,
    pub(super) requests: Requests<T, Ec2>,
    pub(super) metrics: Requests<T, Ec2>,
    pub(super) prices: Requests<T, Ec2>,
    pub(super) quotas: Requests<T, Ec2>,
    pub(super) balancers: Requests<T, Ec2>,
    pub(super) launches: RefCell<LaunchPace>,
}

impl<T: Transport> Region<T> {
    /// A region of which nothing was asked yet.
    pub(super) fn new(name: &str, line: impl Fn(AwsService) -> T) -> Self {
        let requests = |service| Requests::new(line(service), Ec2 { region: name.into() });
        Self {
            name: name.into(),
            requests: requests(AwsService::Ec2),
            metrics: requests(AwsService::CloudWatch),
            prices: requests(AwsService::PriceList),
            quotas: requests(AwsService::Quotas),
            balancers: requests(AwsService::LoadBalancers),
            launches: RefCell::default(),
        }
    }

    /// The requests sent so far, by service.
    pub(super) fn calls(&self) -> [ProviderCalls; 5] {
        [&self.requests, &self.metrics, &self.prices, &self.quotas, &self.balancers].map(Requests::calls)
    }

    /// One call that reads.
    pub(super) async fn call<R>(
        &self,
        action: &'static str,
        form: &[(String, String)],
        decode: impl Fn(&[u8]) -> Result<R, String>,
    ) -> Result<R, CloudError> {
        // Boxed here, where every read passes: the futures above would be too deep for the compiler.
        Box::pin(self.requests.ask(&request(action, form), decode)).await
    }

    /// Every row of a listing in a region, page by page.
    pub(super) async fn pages<P: XmlPage>(
        &self,
        action: &'static str,
        form: &[(String, String)],
        at_once: u32,
        progress: Progress<'_>,
    ) -> Result<Vec<P::Item>, CloudError> {
        let rows = RefCell::new(Vec::new());
        let take = |body: &[u8], is_first: bool| {
            let (more, next) = wire::read::<P>(body)?.split();
            let mut rows = rows.borrow_mut();
            if is_first {
                rows.clear();
            }
            rows.extend(more);
            progress(u64::try_from(rows.len()).unwrap_or(u64::MAX), None);
            Ok(next)
        };
        self.each_page(action, form, at_once, &take).await?;
        Ok(rows.into_inner())
    }

    /// Reads page by page until there is no next token. `take` is told whether a page is the first one, and answers with the
    /// token of the next one.
    async fn each_page(
        &self,
        action: &'static str,
        form: &[(String, String)],
        at_once: u32,
        take: &dyn Fn(&[u8], bool) -> Result<Option<String>, String>,
    ) -> Result<(), CloudError> {
        let (mut seen, mut has_begun_again): (Vec<String>, _) = (Vec::new(), false);
        loop {
            let mut form = form.to_vec();
            form.push(("MaxResults".into(), at_once.to_string()));
            form.extend(seen.last().map(|token| ("NextToken".into(), token.clone())));
            let next = match self.call(action, &form, |body| take(body, seen.is_empty())).await {
                // The token of the page is not known any more.
                Err(error) if error.not_found && !seen.is_empty() && !has_begun_again => {
                    (seen, has_begun_again) = (Vec::new(), true);
                    continue;
                }
                answer => answer?,
            };
            match next {
                None => return Ok(()),
                Some(token) if seen.contains(&token) || seen.len() >= MOST_PAGES => {
                    let what = "the listing repeats its pages";
                    return Err(self.requests.unreadable(Method::Post, action, 200, what));
                }
                Some(token) => seen.push(token),
            }
        }
    }

    /// The rows with one of these values of a filter.
    pub(super) async fn filtered<P: XmlPage>(
        &self,
        action: &'static str,
        filter: &str,
        values: &[String],
    ) -> Result<Vec<P::Item>, CloudError> {
        let at_once = if action == "DescribeInstanceTypes" { TYPES_PAGE } else { FILTERED_PAGE };
        let mut rows = Vec::new();
        for values in values.chunks(MOST_VALUES) {
            let mut form = vec![("Filter.1.Name".to_owned(), filter.to_owned())];
            form.extend(values.iter().enumerate().map(|(n, it)| (format!("Filter.1.Value.{}", n + 1), it.clone())));
            rows.extend(self.pages::<P>(action, &form, at_once, &|_, _| ()).await?);
        }
        Ok(rows)
    }

    /// What the instances of a region are, each once, and the spot requests of those that are gone.
    pub(super) async fn look(&self, progress: Progress<'_>) -> Result<(Vec<Told>, Vec<SpotRequest>), CloudError> {
        let (rows, requests) = futures_util::future::try_join(
            self.pages::<Instances>("DescribeInstances", &[], 1000, progress),
            self.pages::<RowPage<SpotRequest>>("DescribeSpotInstanceRequests", &[], 1000, &|_, _| ()),
        )
        .await?;
        Ok(with_requests(rows, requests))
    }

    /// The rows with this value of a filter, in one region.
    pub(super) async fn find(&self, filter: &str, value: &str) -> Result<Vec<Told>, CloudError> {
        let rows = self.filtered::<Instances>("DescribeInstances", filter, &[value.to_owned()]).await?;
        let ids: Vec<String> =
            rows.iter().map(|row| row.spot_instance_request_id.clone()).filter(|it| !it.is_empty()).collect();
        let action = "DescribeSpotInstanceRequests";
        let requests = self.filtered::<RowPage<SpotRequest>>(action, "spot-instance-request-id", &ids).await?;
        Ok(with_requests(rows, requests).0)
    }
}

/// One call that reads, in JSON.
pub(super) async fn ask_json<T: Transport, R: DeserializeOwned>(
    requests: &Requests<T, Ec2>,
    action: &'static str,
    body: &Value,
) -> Result<R, CloudError> {
    let request = Request { body: Some(body.to_string()), ..request(action, &[]) };
    // The words of serde may quote what is answered.
    let decode = |body: &[u8]| serde_json::from_slice(body).map_err(|_| "it is not what was asked for".to_owned());
    Box::pin(requests.ask(&request, decode)).await
}

/// A call that reads.
pub(super) fn request(action: &'static str, form: &[(String, String)]) -> Request {
    let body = encoded(form.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Request { method: Method::Post, path: action, query: Vec::new(), body: Some(body), timeout: READ_TIMEOUT }
}

/// A row, and the spot request that it came from.
pub(super) type Told = (Ec2Row, Option<SpotRequest>);

/// Each instance once, the later row of two, with its spot request; and the requests of no instance.
fn with_requests(rows: Vec<Ec2Row>, requests: Vec<SpotRequest>) -> (Vec<Told>, Vec<SpotRequest>) {
    let mut requests: HashMap<String, SpotRequest> =
        requests.into_iter().map(|it| (it.spot_instance_request_id.clone(), it)).collect();
    let rows: BTreeMap<String, Ec2Row> = rows.into_iter().map(|row| (row.instance_id.clone(), row)).collect();
    let told = rows.into_values().map(|row| {
        let request = requests.remove(&row.spot_instance_request_id);
        (row, request)
    });
    (told.collect(), requests.into_values().collect())
}
