//! Checking signatures (SigV4, 1.3).

use ring::{digest, hmac};

use crate::error::ApiError;
use crate::keys::{AccessKey, Keys};
use crate::protocol::Protocol;

/// How far a clock may be off.
const TOLERANCE_MS: i64 = 15 * 60_000;

/// A request as far as its signature is concerned.
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    /// Names in lower case; a name that occurs twice is there twice.
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a [u8],
}

/// Who signed a request, and for what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) key: String,
    pub(crate) region: String,
    pub(crate) service: String,
}

/// What an `Authorization` header says.
struct Authorization<'a> {
    key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    names: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let (mut scope, mut names, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=')? {
                ("Credential", value) => scope = Some(value),
                ("SignedHeaders", value) => names = Some(value),
                ("Signature", value) => signature = Some(value),
                _ => return None,
            }
        }
        let parts: Vec<_> = scope?.split('/').collect();
        let [key, date, region, service, "aws4_request"] = parts[..] else { return None };
        Some(Self { key, date, region, service, names: names?.split(';').collect(), signature: signature? })
    }
}

impl Signed<'_> {
    /// The region and the service that a request claims to be for, whether or not its signature is right.
    pub(crate) fn scope(&self) -> Option<(String, String)> {
        let authorization = Authorization::parse(self.header("authorization")?)?;
        Some((authorization.region.to_owned(), authorization.service.to_owned()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim())
    }

    /// Who signed the request. `clocks` are the times that a client may take for now, in Unix milliseconds; the first one
    /// is the world's.
    pub(crate) fn verify(&self, keys: &Keys, clocks: [i64; 2]) -> Result<Caller, ApiError> {
        let Some(header) = self.header("authorization") else {
            return Err(ApiError::new("MissingAuthenticationToken", "Request is missing Authentication Token"));
        };
        let incomplete = |why: &str| ApiError::new("IncompleteSignature", why);
        let authorization = Authorization::parse(header).ok_or_else(|| incomplete("The authorization is no SigV4"))?;
        let stamp = self.header("x-amz-date").ok_or_else(|| incomplete("There is no x-amz-date"))?;
        self.check_names(&authorization)?;
        let key = known_key(keys, &authorization)?;
        self.check_token(key, authorization.service)?;
        if !stamp.starts_with(authorization.date) {
            let message = "The date of the credential is not that of the signature";
            return Err(ApiError::new("SignatureDoesNotMatch", message));
        }
        if self.header("x-amz-content-sha256").is_some_and(|told| told != hash(self.body)) {
            let message = "The hash of the body is not the one that is told";
            return Err(ApiError::new("SignatureDoesNotMatch", message));
        }
        let text = self.text_to_sign(&authorization, stamp);
        if sign(&key.secret, &authorization, &text) != authorization.signature {
            let message = "The request signature we calculated does not match the signature you provided. Check your AWS \
                           Secret Access Key and signing method. Consult the service documentation for details.";
            return Err(ApiError::new("SignatureDoesNotMatch", message));
        }
        let signed_at = parse_stamp(stamp).ok_or_else(|| incomplete("The x-amz-date is no time"))?;
        if clocks.iter().all(|now| (now - signed_at).abs() > TOLERANCE_MS) {
            return Err(ApiError::new("RequestExpired", "Request has expired."));
        }
        if key.ends_ms.is_some_and(|ends| ends <= clocks[0]) {
            let is_query = matches!(Protocol::of(authorization.service), Protocol::Query(_));
            let expired = if is_query { "ExpiredToken" } else { "RequestExpired" };
            return Err(ApiError::new(expired, "The security token included in the request is expired"));
        }
        Ok(Caller {
            key: key.id.clone(),
            region: authorization.region.to_owned(),
            service: authorization.service.to_owned(),
        })
    }

    /// The host and everything of AWS's own has to be signed.
    fn check_names(&self, authorization: &Authorization<'_>) -> Result<(), ApiError> {
        let own = self.headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("x-amz-"));
        for name in own.chain(["host", "x-amz-date"]) {
            if !authorization.names.contains(&name) {
                let message = format!("'{name}' must be a signed header");
                return Err(ApiError::new("SignatureDoesNotMatch", message));
            }
        }
        if !authorization.names.is_sorted() {
            return Err(ApiError::new("IncompleteSignature", "The signed headers are not sorted"));
        }
        Ok(())
    }

    fn check_token(&self, key: &AccessKey, service: &str) -> Result<(), ApiError> {
        if self.header("x-amz-security-token") == key.token.as_deref() {
            return Ok(());
        }
        Err(unknown_key(service))
    }

    fn text_to_sign(&self, authorization: &Authorization<'_>, stamp: &str) -> String {
        let Authorization { date, region, service, names, .. } = authorization;
        let headers: String = names.iter().map(|name| format!("{name}:{}\n", self.all(name))).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            self.method,
            self.path,
            canonical_query(self.query),
            names.join(";"),
            hash(self.body)
        );
        format!("AWS4-HMAC-SHA256\n{stamp}\n{date}/{region}/{service}/aws4_request\n{}", hash(canonical.as_bytes()))
    }

    /// All values of a header, with single blanks.
    fn all(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        let values: Vec<_> = values.map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        values.join(",")
    }
}

fn known_key<'a>(keys: &'a Keys, authorization: &Authorization<'_>) -> Result<&'a AccessKey, ApiError> {
    keys.get(authorization.key).ok_or_else(|| unknown_key(authorization.service))
}

fn unknown_key(service: &str) -> ApiError {
    if matches!(Protocol::of(service), Protocol::Query(_)) {
        ApiError::new("InvalidClientTokenId", "The security token included in the request is invalid.")
    } else {
        ApiError::new("AuthFailure", "AWS was not able to validate the provided access credentials")
    }
}

fn sign(secret: &str, authorization: &Authorization<'_>, text: &str) -> String {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [authorization.date, authorization.region, authorization.service, "aws4_request"] {
        key = mac(&key, part);
    }
    hex(&mac(&key, text))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The `Authorization` of a POST to `/` with these headers, all of which are signed.
#[cfg(test)]
pub(crate) fn authorization(
    key: &str,
    secret: &str,
    region: &str,
    service: &str,
    headers: &[(String, String)],
    body: &str,
) -> String {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let stamp = headers.iter().find(|(name, _)| name == "x-amz-date").map(|(_, value)| value.as_str());
    let stamp = stamp.expect("a date");
    let signed = Signed { method: "POST", path: "/", query: "", headers, body: body.as_bytes() };
    let authorization = Authorization { key, date: &stamp[..8], region, service, names, signature: "" };
    let signature = sign(secret, &authorization, &signed.text_to_sign(&authorization, stamp));
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/{}/{region}/{service}/aws4_request, SignedHeaders={}, Signature={signature}",
        authorization.date,
        authorization.names.join(";")
    )
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

/// `20260101T000000Z` in Unix milliseconds.
fn parse_stamp(text: &str) -> Option<i64> {
    let stamp = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(stamp.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &str = "application/x-www-form-urlencoded; charset=utf-8";
    const BODY: &[u8] = b"Action=DescribeInstances&Version=2016-11-15";
    const PLAIN: &str = "666805b442fae179193d912c5ffea0f958fa8db946efcb88308bed7bd90037cc";
    const WITH_TOKEN: &str = "745397b3daeaf83f4c84fda6cb668a5fed198dbd13ac37089fcba18e9f9273ba";
    const TOKEN: &str = "AQoDYXdzEPT//EXAMPLE+token==";
    /// 2026-01-01T00:00:00Z.
    const SIGNED_AT: i64 = 1_767_225_600_000;

    fn headers(names: &str, signature: &str, token: Option<&str>) -> Vec<(String, String)> {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/ec2/aws4_request, SignedHeaders={names}, \
             Signature={signature}"
        );
        let mut headers = vec![
            ("content-type", CONTENT),
            ("host", "ec2.us-east-1.amazonaws.com"),
            ("x-amz-date", "20260101T000000Z"),
            ("authorization", &authorization),
        ];
        headers.extend(token.map(|token| ("x-amz-security-token", token)));
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn verify(headers: &[(String, String)], body: &[u8], keys: &Keys, now: i64) -> Result<Caller, String> {
        let signed = Signed { method: "POST", path: "/", query: "", headers, body };
        signed.verify(keys, [now, now]).map_err(|error| error.code.into_owned())
    }

    #[test]
    fn the_known_answers_of_the_fact_sheet_pass() {
        let mut keys = Keys::default();
        let plain = headers("content-type;host;x-amz-date", PLAIN, None);
        let caller = verify(&plain, BODY, &keys, SIGNED_AT).expect("a right signature");
        assert_eq!((caller.region.as_str(), caller.service.as_str()), ("us-east-1", "ec2"));
        keys.add("AKIDEXAMPLE", crate::SECRET_KEY, Some(TOKEN));
        let names = "content-type;host;x-amz-date;x-amz-security-token";
        assert!(verify(&headers(names, WITH_TOKEN, Some(TOKEN)), BODY, &keys, SIGNED_AT).is_ok());
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_code() {
        let keys = Keys::default();
        let names = "content-type;host;x-amz-date";
        let plain = headers(names, PLAIN, None);
        let verdict = |headers: &[(String, String)], body: &[u8], now| verify(headers, body, &keys, now).unwrap_err();
        assert_eq!(verdict(&plain, b"Action=Other", SIGNED_AT), "SignatureDoesNotMatch");
        assert_eq!(verdict(&plain, BODY, SIGNED_AT + 16 * 60_000), "RequestExpired");
        assert_eq!(verdict(&plain, BODY, SIGNED_AT - 16 * 60_000), "RequestExpired");
        assert_eq!(verdict(&headers("host;x-amz-date", PLAIN, None), BODY, SIGNED_AT), "SignatureDoesNotMatch");
        assert_eq!(verdict(&headers("content-type;x-amz-date", PLAIN, None), BODY, SIGNED_AT), "SignatureDoesNotMatch");
        assert_eq!(verdict(&headers(names, PLAIN, Some(TOKEN)), BODY, SIGNED_AT), "SignatureDoesNotMatch");
        let with_token = headers("content-type;host;x-amz-date;x-amz-security-token", WITH_TOKEN, Some(TOKEN));
        assert_eq!(verdict(&with_token, BODY, SIGNED_AT), "AuthFailure");
        let mut other = plain.clone();
        other[3].1 = other[3].1.replace("AKIDEXAMPLE", "AKIDOTHER");
        assert_eq!(verdict(&other, BODY, SIGNED_AT), "AuthFailure");
        other[3].1 = other[3].1.replace("/ec2/", "/sts/");
        assert_eq!(verdict(&other, BODY, SIGNED_AT), "InvalidClientTokenId");
        assert_eq!(verdict(&plain[..3], BODY, SIGNED_AT), "MissingAuthenticationToken");
    }
}
