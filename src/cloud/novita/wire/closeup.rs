//! The details of one instance: its state, where its ports can be reached, and its price.

use std::cell::RefCell;

use serde_json::Value;
use url::Url;

use super::Text;
use super::connections::connections;
use super::record::{Record, first_text};
use crate::core::world::instance::InstanceId;
use crate::core::world::probe::{CloseUp, Endpoint};

/// Reads a detail response. What is missing or of an unknown shape is left out, except the instance itself.
pub(in crate::cloud::novita) fn close_up(body: &[u8], asked: &InstanceId) -> Result<CloseUp, String> {
    let record = Record::detail(body, asked)?;
    let (endpoints, connections) = (endpoints(&record), connections(&record));
    let instance = record.instance(&RefCell::default()).ok_or("an object of an unknown shape")?;
    Ok(CloseUp { instance, endpoints, connections, gpu_price: record.price("instancePrice") })
}

/// Where the ports of an instance can be reached.
pub(super) fn endpoints(record: &Record) -> Vec<Endpoint> {
    let mappings = record.list("portMappings").iter().filter_map(Value::as_object);
    let endpoints = mappings.filter_map(|mapping| {
        let port = Text::of(mapping.get("port")?).number().and_then(|port| u16::try_from(port).ok())?;
        let kind = first_text(mapping, &["type"]).unwrap_or_default().trim().to_ascii_lowercase();
        let address = first_text(mapping, &["endpoint"])?.trim().to_owned();
        is_address(&address).then_some(Endpoint { port, kind, address })
    });
    endpoints.filter(|endpoint| endpoint.port > 0).collect()
}

/// Whether it is `host:port`, `host` or an HTTP URL, without credentials.
fn is_address(address: &str) -> bool {
    let whole = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    Url::parse(&whole).is_ok_and(|url| {
        let is_http = matches!(url.scheme(), "http" | "https");
        is_http && url.host_str().is_some_and(|host| !host.is_empty()) && url.username().is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::money::Usd;

    #[test]
    fn ports_are_read_strict_and_loose() {
        let rows: [(&str, &[(u16, &str, &str)]); 6] = [
            ("", &[]),
            (r#","portMappings":null"#, &[]),
            (
                r#","portMappings":[{"port":8080,"endpoint":"host.example:30123","type":"http"}]"#,
                &[(8080, "http", "host.example:30123")],
            ),
            (
                r#","portMappings":[{"port":"22","endpoint":" h:1 ","type":"TCP"},{"port":80,"endpoint":"https://a-80.example"}]"#,
                &[(22, "tcp", "h:1"), (80, "", "https://a-80.example")],
            ),
            (r#","portMappings":[{"port":80},{"port":0,"endpoint":"h:1"},{"port":81,"endpoint":""},7]"#, &[]),
            (r#","portMappings":[{"port":80,"endpoint":"http://u:p@h"},{"port":80,"endpoint":"ftp://h"}]"#, &[]),
        ];
        for (more, expected) in rows {
            let body = format!(r#"{{"id":"a","status":"running","billingMode":"spot","instancePrice":"33500"{more}}}"#);
            let seen = close_up(body.as_bytes(), &InstanceId::new("a")).expect("an instance");
            let endpoints: Vec<_> =
                seen.endpoints.iter().map(|it| (it.port, it.kind.as_str(), it.address.as_str())).collect();
            assert_eq!(endpoints, expected, "{more}");
            assert_eq!(seen.gpu_price, Some(Usd::from_micros(335_000)));
        }
        for (price, expected) in [("0", None), ("\"\"", None), ("null", None), ("\"67000.0\"", Some(67_000))] {
            let body = format!(r#"{{"instance":{{"Id":"a","status":"running","instancePrice":{price}}}}}"#);
            let seen = close_up(body.as_bytes(), &InstanceId::new("a")).expect("an instance");
            assert_eq!(seen.gpu_price, expected.map(Usd::from_hundred_thousandths), "{price}");
        }
        assert!(close_up(br#"{"id":"b"}"#, &InstanceId::new("a")).is_err(), "another one");
    }

    #[test]
    fn one_instance_comes_bare_or_wrapped() {
        let asked = InstanceId::new("a1b2c3d4e5f60718");
        for body in [
            fixture!("get-instance.json"),
            fixture!("get-instance-wrapped.json"),
            fixture!("get-instance-migrating.json"),
            br#"{"id":null,"Id":"a1b2c3d4e5f60718"}"#,
            br#"{"id":"a1b2c3d4e5f60718","Id":"b"}"#,
        ] {
            assert_eq!(close_up(body, &asked).expect("an instance").instance.id, asked);
        }
        assert!(close_up(b"{}", &asked).is_err());
    }
}
