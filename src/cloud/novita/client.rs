//! The calls of the API and what comes of them. Requests are sent by [`Requests`]; lists are read by `paging`.

use std::time::Duration;

use super::blueprint::create_body;
use super::market::{self, INSTANCE};
use super::paging::{self, INSTANCES, JOBS, NAME, Search};
use super::refusal::{Novita, effect_in, error_in, is_page};
use super::wire::{self, Listed as _};
use crate::clock::Reading;
use crate::cloud::request::Requests;
use crate::cloud::transport::{Method, Response, Transport};
use crate::cloud::{CloudError, CloudRead, CloudWrite, Guard, Order, Ping, Progress};
use crate::core::record::invoice::BillRow;
use crate::core::record::trail::ProviderCalls;
use crate::core::recreation::blueprint::{Obstacle, Prepared, Wanted};
use crate::core::rollout::findings::ListedInstance;
use crate::core::rollout::metrics::Metrics;
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{Instance, InstanceId, Job};
use crate::core::world::market::{Offer, OfferQuery};
use crate::core::world::probe::CloseUp;
use crate::core::world::snapshot::{Abilities, Listing};
use crate::core::world::time::Timestamp;

const MIGRATE: &str = "/v1/gpu/instance/migrate";
const CREATE: &str = "/v1/gpu/instance/create";
const DELETE: &str = "/v1/gpu/instance/delete";
/// Below another base path than the others.
const METRICS: &str = "/v1/metrics/gpu/instance";
const BILLS: &str = "/v1/billing/bill/list";

/// The longest span that one read of hourly bills covers. Bills are not paged, and a row has some 450 bytes: of 1000
/// instances, two days make 22 MB. The documentation allows 31 days, other reports 7.
const BILLS_AT_ONCE: Duration = Duration::from_secs(2 * 24 * 3600);

/// Novita behind a [`Transport`].
#[derive(Debug)]
pub struct Client<T>(Requests<T, Novita>);

impl<T: Transport> Client<T> {
    /// A client that has sent nothing yet.
    pub fn new(transport: T) -> Self {
        Self(Requests::new(transport, Novita))
    }
}

/// The path of a request's URL. Metrics and bills are below `/openapi`, not `/gpu-instance/openapi`; behind a proxy, below what
/// comes before that.
pub(super) fn path_of(base: &str, path: &str) -> String {
    if path.starts_with("/v1/metrics/") || path.starts_with("/v1/billing/") {
        return format!("{}/openapi{path}", base.strip_suffix("/gpu-instance/openapi").unwrap_or_default());
    }
    format!("{base}{path}")
}

/// `None` for what does not exist.
fn found<R>(answer: Result<R, CloudError>) -> Result<Option<R>, CloudError> {
    match answer {
        Ok(it) => Ok(Some(it)),
        Err(error) if error.not_found => Ok(None),
        Err(error) => Err(error),
    }
}

impl<T: Transport> CloudRead for Client<T> {
    fn abilities(&self) -> Abilities {
        Abilities { migrates: true, idempotent_create: false, forgets_ended: false }
    }

    fn owner(&self) -> String {
        "novita".into()
    }

    async fn instances(&self, progress: Progress<'_>) -> Result<Listing<Instance>, CloudError> {
        paging::list(&self.0, INSTANCES, &[], progress).await
    }

    async fn jobs(&self, since: Timestamp) -> Result<Listing<Job>, CloudError> {
        // No filter by type: any unfinished job is a reason to leave an instance alone.
        paging::list(&self.0, JOBS, &[("startTime", since.as_secs().to_string())], &|_, _| ()).await
    }

    async fn close_up(&self, id: &InstanceId) -> Result<Option<CloseUp>, CloudError> {
        found(self.0.read(INSTANCE, vec![("instanceId", id.to_string())], |body| wire::close_up(body, id)).await)
    }

    async fn row(&self, id: &InstanceId, name: &str) -> Result<Option<Instance>, CloudError> {
        let filter = if name.is_empty() { vec![] } else { vec![(NAME, name.to_owned())] };
        let search = Search { is_wanted: &|row: &Instance| row.id == *id, enough: 1 };
        Ok(paging::search(&self.0, INSTANCES, &filter, search).await?.into_iter().next())
    }

    async fn marked(&self, marker: &str) -> Result<Vec<Instance>, CloudError> {
        let search = Search { is_wanted: &|row: &Instance| row.name == marker, enough: usize::MAX };
        paging::search(&self.0, INSTANCES, &[(NAME, marker.to_owned())], search).await
    }

    async fn prepare(&self, wanted: &[Wanted<'_>], jobs: &[Job], at_once: usize) -> Vec<Result<Prepared, Obstacle>> {
        market::prepare(&self.0, wanted, jobs, at_once).await
    }

    fn reading(&self) -> Option<Reading> {
        self.0.reading()
    }

    fn calls(&self) -> ProviderCalls {
        self.0.calls()
    }

    async fn offers(&self, query: &OfferQuery) -> Result<Vec<Offer>, CloudError> {
        market::offers(&self.0, query).await
    }

    async fn fleet(&self, progress: Progress<'_>) -> Result<Listing<ListedInstance>, CloudError> {
        paging::list(&self.0, INSTANCES, &[], progress).await
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
        found(self.0.read(METRICS, query, wire::metrics).await)
    }

    async fn bills(&self, from: Timestamp, to: Timestamp) -> Result<Vec<BillRow>, CloudError> {
        let (mut rows, mut begin) = (Vec::new(), from);
        while begin < to {
            let end = to.min(begin + BILLS_AT_ONCE);
            let query = vec![
                ("cycleType", "Hour".to_owned()),
                ("productCategory", "gpu".to_owned()),
                ("startTime", begin.as_secs().to_string()),
                ("endTime", end.as_secs().to_string()),
            ];
            let decode = |body: &[u8]| match wire::bills(body)? {
                rows if rows.is_empty() => match error_in(body) {
                    Some((_, message)) => Err(format!("an error: {message}")),
                    None => Ok(rows),
                },
                rows => Ok(rows),
            };
            let read = self.0.read(BILLS, query, decode).await?;
            // Another unit of time, for example. Not taken for a bill without rows.
            if read.iter().any(|row| row.from + BILLS_AT_ONCE < begin || end + BILLS_AT_ONCE < row.from) {
                return Err(self.0.unreadable(Method::Get, BILLS, 200, "bills of another time"));
            }
            // Whether a row at the border is in both reads is not documented.
            rows.extend(read.into_iter().filter(|row| begin <= row.from && row.from < end));
            begin = end;
        }
        Ok(rows)
    }

    async fn ping(&self, timeout: Duration) -> Ping {
        // What every pass reads first, so that a key without that permission is found out.
        let query = vec![("pageSize", "1".to_owned()), ("pageNum", "1".to_owned())];
        self.0.ping(INSTANCES, query, timeout, |body| Instance::page(body).map(drop)).await
    }
}

impl<T: Transport> CloudWrite for Client<T> {
    async fn migrate(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        let body = serde_json::json!({ "instanceId": id }).to_string();
        self.accepted(MIGRATE, &self.0.write(MIGRATE, body, guard).await?)
    }

    async fn create(&self, order: Order<'_>, guard: Guard<'_>) -> Result<InstanceId, CloudError> {
        let response = match self.0.write(CREATE, create_body(order), guard).await {
            // The image, the product or the network: there is no instance yet that could be missing.
            Err(error) if error.not_found => {
                return Err(CloudError { not_found: false, kind: ErrorKind::Configuration, ..error });
            }
            answer => answer?,
        };
        wire::created(&response.body).map_err(|what| match error_in(&response.body) {
            Some((kind, message)) => {
                let error = self.0.unreadable(Method::Post, CREATE, response.status, &format!("an error: {message}"));
                CloudError { kind, effect: effect_in(&response.body), ..error }
            }
            None => self.0.unreadable(Method::Post, CREATE, response.status, &what),
        })
    }

    async fn delete(&self, id: &InstanceId, guard: Guard<'_>) -> Result<(), CloudError> {
        let body = serde_json::json!({ "instanceId": id }).to_string();
        match self.0.write(DELETE, body, guard).await {
            Ok(response) => self.accepted(DELETE, &response),
            Err(error) if error.not_found => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<T: Transport> Client<T> {
    /// A 2xx response is an acceptance unless its body tells of an error, which is all that is known of it. An HTML page is
    /// not the API's: something in between responded. Either way the effect is unknown.
    fn accepted(&self, path: &'static str, response: &Response) -> Result<(), CloudError> {
        if is_page(&response.body) {
            return Err(self.0.unreadable(Method::Post, path, response.status, "an HTML page"));
        }
        if let Some((kind, message)) = error_in(&response.body) {
            let error = self.0.unreadable(Method::Post, path, response.status, &format!("an error: {message}"));
            return Err(CloudError { kind, ..error });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_bills_have_a_base_path_of_their_own() {
        for (base, expected) in [
            ("/gpu-instance/openapi", "/openapi/v1/metrics/gpu/instance"),
            ("/x/gpu-instance/openapi", "/x/openapi/v1/metrics/gpu/instance"),
            ("", "/openapi/v1/metrics/gpu/instance"),
        ] {
            assert_eq!(path_of(base, BILLS), expected.replace("metrics/gpu/instance", "billing/bill/list"));
            assert_eq!(path_of(base, METRICS), expected);
            assert_eq!(path_of(base, INSTANCES), format!("{base}/v1/gpu/instances"));
        }
    }
}
