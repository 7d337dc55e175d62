//! One small read without retries, for whoever wants to know how the provider is doing and not what it has.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use super::client::{Client, INSTANCES, broken, nonsense, refused};
use super::transport::{Method, Request, Response, Transport};
use super::wire::Row as _;
use crate::cloud::{CloudError, Look};
use crate::core::world::instance::Instance;
use crate::core::world::time::Timestamp;

impl<T: Transport> Client<T> {
    pub(super) async fn look_once(&self, timeout: Duration) -> Look {
        // What every pass reads first, so a key that may not do that is found out here.
        let query = vec![("pageSize", "1".to_owned()), ("pageNum", "1".to_owned())];
        let request = Request { method: Method::Get, path: INSTANCES, query, body: None, timeout };
        match self.transport().exchange(&request).await {
            Ok(response) => {
                let date = response.date.as_deref().and_then(http_date);
                Look { answer: judge(&request, &response), date }
            }
            Err(error) => Look { answer: Err(broken(&request, &error)), date: None },
        }
    }
}

fn judge(request: &Request, response: &Response) -> Result<(), CloudError> {
    if !(200..300).contains(&response.status) {
        return Err(refused(request, response));
    }
    Instance::page(&response.body).map(drop).map_err(|what| nonsense(request, response.status, &what))
}

/// A time as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`, which the rules of mail can read.
fn http_date(text: &str) -> Option<Timestamp> {
    let moment = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_millis(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("1994-11-06T08:49:37.000Z")),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some("2024-02-29T23:59:59.000Z")),
            // Forms that are older than HTTP/1.1, and none at all.
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(http_date(text).map(|moment| moment.to_string()).as_deref(), expected, "{text}");
        }
    }
}
