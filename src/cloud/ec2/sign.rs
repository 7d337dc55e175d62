//! AWS Signature Version 4, for a POST to `/` (`docs/ec2-api.md` section 1.3).

use std::fmt::Write as _;

use ring::{digest, hmac};
use secrecy::ExposeSecret;
use url::Url;

use crate::core::world::time::Timestamp;
use crate::credentials::Keys;

/// The media type of every request.
pub(super) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// What a signature is valid for.
#[derive(Clone, Copy, Debug)]
pub(super) struct SigningScope<'a> {
    pub(super) region: &'a str,
    /// For example `ec2`.
    pub(super) service: &'a str,
}

/// The headers of a request that its signature covers, besides those that are about the signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) host: &'a str,
    pub(super) content_type: &'a str,
    /// `x-amz-target`, in the JSON protocols.
    pub(super) target: Option<&'a str>,
}

impl<'a> Signed<'a> {
    /// Those of a form.
    pub(super) fn form(host: &'a str) -> Self {
        Self { host, content_type: FORM, target: None }
    }
}

/// The headers `authorization` and `x-amz-date` of a body sent at a time.
pub(super) fn sign(
    keys: &Keys,
    scope: SigningScope<'_>,
    signed: Signed<'_>,
    body: &str,
    at: Timestamp,
) -> (String, String) {
    let Signed { host, content_type, target } = signed;
    let stamp = stamp(at);
    let token = keys.token.as_ref().map(ExposeSecret::expose_secret);
    let mut headers = vec![("content-type", content_type), ("host", host), ("x-amz-date", stamp.as_str())];
    headers.extend(token.map(|token| ("x-amz-security-token", token)));
    headers.extend(target.map(|target| ("x-amz-target", target)));
    (authorization(keys, scope, &headers, body.as_bytes(), &stamp), stamp)
}

/// `headers` in lower case, in order of their names.
fn authorization(keys: &Keys, scope: SigningScope<'_>, headers: &[(&str, &str)], body: &[u8], stamp: &str) -> String {
    let SigningScope { region, service } = scope;
    let date = &stamp[..8];
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let request = format!("POST\n/\n\n{lines}\n{names}\n{}", hex(digest::digest(&digest::SHA256, body).as_ref()));
    let request = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
    let valid_for = format!("{date}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{valid_for}\n{request}");
    let first = format!("AWS4{}", keys.secret.expose_secret());
    let key = [date, region, service, "aws4_request"].into_iter().fold(first.into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    format!("AWS4-HMAC-SHA256 Credential={}/{valid_for}, SignedHeaders={names}, Signature={signature}", keys.id)
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// The host as it is signed: with a port only where that is not the usual one.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `20260101T000000Z`.
fn stamp(at: Timestamp) -> String {
    at.to_string().chars().filter(|c| !matches!(c, '-' | ':')).take(15).chain(['Z']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(token: Option<&str>) -> Keys {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        Keys { id: "AKIDEXAMPLE".into(), secret: secret.into(), token: token.map(Into::into), expires_at: None }
    }

    fn signature(authorization: &str) -> &str {
        authorization.rsplit_once("Signature=").expect("a signature").1
    }

    /// As botocore signs them.
    #[test]
    fn requests_are_signed_as_by_botocore() {
        let token = Some("AQoDYXdzEPT//EXAMPLE+token==");
        let form = ("ec2", Signed::form("ec2.us-east-1.amazonaws.com"), "Action=DescribeInstances&Version=2016-11-15");
        let json = Signed {
            host: "monitoring.us-east-1.amazonaws.com",
            content_type: "application/x-amz-json-1.0",
            target: Some("GraniteServiceVersion20100801.GetMetricData"),
        };
        let json = ("monitoring", json, r#"{"StartTime":1767225600}"#);
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        for (token, (service, signed, body), expected) in [
            (None, form, "666805b442fae179193d912c5ffea0f958fa8db946efcb88308bed7bd90037cc"),
            (token, form, "745397b3daeaf83f4c84fda6cb668a5fed198dbd13ac37089fcba18e9f9273ba"),
            (None, json, "d2a44f1bd3ab13e91c454aa58a45e081455737c2eed8f22565aa9ffc21114355"),
            (token, json, "72611b4c218d40bdbe8c161d5ecc6d79f9f7e6f51055bbb8114ca2481e542dcf"),
        ] {
            let scope = SigningScope { region: "us-east-1", service };
            let (authorization, date) = sign(&keys(token), scope, signed, body, at);
            assert_eq!((signature(&authorization), date.as_str()), (expected, "20260101T000000Z"));
        }
    }

    /// As another implementation signs the same headers, which always says what the time is.
    #[tokio::test]
    async fn requests_are_signed_as_by_reqsign() {
        use reqsign_core::SignRequest as _;
        let token = "AQoDYXdzEPT//EXAMPLE+token==";
        let credential = |token: Option<&str>| reqsign_aws_v4::Credential {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: keys(None).secret.expose_secret().into(),
            session_token: token.map(Into::into),
            expires_in: None,
        };
        for (service, body, token) in [("ec2", "Action=StopInstances", None), ("pricing", "{}", Some(token))] {
            let host = format!("{service}.eu-west-1.amazonaws.com");
            let hash = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
            let request = http::Request::post(format!("https://{host}/")).header("content-type", FORM);
            let request = request.header("host", &host).header("x-amz-content-sha256", &hash);
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            let signer = reqsign_aws_v4::RequestSigner::new(service, "eu-west-1");
            let context = reqsign_core::Context::new();
            signer.sign_request(&context, &mut parts, Some(&credential(token)), None).await.expect("a signature");
            let header = |name: &str| parts.headers[name].to_str().expect("text").to_owned();
            let stamp = header("x-amz-date");
            let mut headers =
                vec![("content-type", FORM), ("host", &host), ("x-amz-content-sha256", &hash), ("x-amz-date", &stamp)];
            headers.extend(token.map(|token| ("x-amz-security-token", token)));
            let scope = SigningScope { region: "eu-west-1", service };
            let ours = authorization(&keys(token), scope, &headers, body.as_bytes(), &stamp);
            assert_eq!(ours, header("authorization"));
        }
    }

    /// Two of the vectors that AWS publishes.
    #[test]
    fn published_vectors_come_out() {
        let scope = SigningScope { region: "us-east-1", service: "service" };
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let stamp = "20150830T123600Z";
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", stamp), ("x-amz-security-token", token)];
        let signed = authorization(&keys(None), scope, &headers, b"", stamp);
        assert_eq!(signature(&signed), "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");

        let body = b"Param1=value1";
        let hash = hex(digest::digest(&digest::SHA256, body).as_ref());
        let headers = [
            ("content-length", "13"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
            ("x-amz-content-sha256", hash.as_str()),
            ("x-amz-date", stamp),
        ];
        let signed = authorization(&keys(None), scope, &headers, body, stamp);
        assert_eq!(signature(&signed), "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b");
    }
}
