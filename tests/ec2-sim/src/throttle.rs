//! Throttling (1.8): token buckets per region and action.

use std::collections::HashMap;

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::rules::Bucket;
use crate::world::World;

/// How full the buckets are: in thousandths of a call, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets(HashMap<(String, String), (i64, i64)>);

impl Buckets {
    /// All are full again.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    fn take(&mut self, region: &str, name: &str, bucket: Bucket, calls: u32, now: i64) -> bool {
        let full = i64::from(bucket.size) * 1_000;
        let (left, since) = self.0.get(&(region.to_owned(), name.to_owned())).copied().unwrap_or((full, now));
        let left = full.min(left + (now - since) * i64::from(bucket.per_second));
        let cost = i64::from(calls) * 1_000;
        let is_enough = left >= cost;
        let left = if is_enough { left - cost } else { left };
        self.0.insert((region.to_owned(), name.to_owned()), (left, now));
        is_enough
    }
}

impl World {
    /// Refuses a call when its bucket is empty.
    pub(crate) fn throttle(&mut self, region: &str, action: &str, form: &Form) -> Answer<()> {
        let Some(throttle) = self.rules.throttle else { return Ok(()) };
        let is_limited =
            form.has("MaxResults") || form.has("Filter") || form.pairs().iter().any(|(n, _)| n.contains("Id."));
        let (name, bucket) = match action {
            "DescribeInstances" | "DescribeInstanceStatus" | "DescribeSpotInstanceRequests" | "DescribeVolumes"
                if !is_limited =>
            {
                ("whole", throttle.whole_listings)
            }
            "RunInstances" | "StartInstances" => ("", throttle.launches),
            "TerminateInstances" => ("", throttle.terminations),
            "CreateTags" => ("", throttle.tags),
            _ if action.starts_with("Describe") => ("", throttle.reads),
            _ => ("", throttle.writes),
        };
        let now = self.now;
        let mut is_free = self.buckets.take(region, &format!("{action}{name}"), bucket, 1, now);
        let (second, instances) = match action {
            "RunInstances" => (Some(throttle.launched_instances), form.count("MaxCount").unwrap_or(1)),
            "TerminateInstances" => {
                let ids = form.list("InstanceId").len();
                (Some(throttle.terminated_instances), u32::try_from(ids).unwrap_or(u32::MAX))
            }
            _ => (None, 0),
        };
        if let Some(bucket) = second {
            is_free &= self.buckets.take(region, &format!("{action} instances"), bucket, instances, now);
        }
        if is_free { Ok(()) } else { Err(ApiError::new("RequestLimitExceeded", "Request limit exceeded.")) }
    }

    /// The same for the other services: their writes are those of EC2, and each has a word of its own.
    pub(crate) fn throttle_service(&mut self, region: &str, service: &str, action: &str) -> Answer<()> {
        let Some(throttle) = self.rules.throttle else { return Ok(()) };
        let is_read = action.starts_with("Describe") || action.starts_with("Get");
        let bucket = if is_read { throttle.reads } else { throttle.writes };
        let now = self.now;
        if self.buckets.take(region, action, bucket, 1, now) {
            return Ok(());
        }
        let code = match service {
            "servicequotas" => "TooManyRequestsException",
            "elasticloadbalancing" => "Throttling",
            _ => "ThrottlingException",
        };
        Err(ApiError::new(code, "Rate exceeded"))
    }
}
