//! Error responses: bodies of many shapes become a machine name, a text that can be shown, a class and a hint.

use super::hidden::Hidden;
use crate::cloud::Effect;
use crate::cloud::request::{Dialect, Refusal, effect_of};
use crate::cloud::transport::{PROXY_LOGIN, Request, Response};
use crate::core::world::error::ErrorKind;

/// Novita's error responses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Novita;

impl Dialect for Novita {
    fn refusal(&self, request: &Request, response: &Response) -> Refusal {
        let said = Body::read(&response.body);
        let (kind, not_found) = classify(response.status, &said);
        let (reason, text) = said.shown(&Hidden::in_body(request.body.as_deref()));
        let mut message = response.status.to_string();
        if let Some(reason) = reason {
            message.push(' ');
            message.push_str(&reason);
        }
        if !text.is_empty() {
            message.push_str(": ");
            message.push_str(&text);
        }
        if kind == ErrorKind::RateLimit {
            message.push_str(" (too many requests, or the GPU quota is used up)");
        }
        let hint = match response.status {
            407 => Some(PROXY_LOGIN),
            403 if said.is_page => {
                Some("something in between refused, not the provider: check the proxy and the firewall")
            }
            _ => None,
        };
        Refusal { kind, effect: effect_of(response.status), not_found, message, hint }
    }

    fn told(&self, body: &[u8]) -> Option<(ErrorKind, String)> {
        error_in(body)
    }

    fn hint(&self, kind: ErrorKind, status: Option<u16>, not_found: bool) -> Option<&'static str> {
        const ANOTHER_API: &str = "check NOVITA_API_BASE_URL: this does not look like the provider's API";
        match kind {
            ErrorKind::Auth if status == Some(403) => {
                Some("check NOVITA_API_KEY: it is not valid, or lacks the permission for this call")
            }
            ErrorKind::Auth => Some("check NOVITA_API_KEY: the provider does not accept it"),
            ErrorKind::Network | ErrorKind::Timeout => Some("check the network and NOVITA_API_BASE_URL"),
            ErrorKind::Api if status.is_none_or(|status| status < 500) => Some(ANOTHER_API),
            ErrorKind::Api => Some("the provider has a problem; the next pass tries again"),
            ErrorKind::RateLimit => Some("call less often, or ask the provider for a higher limit"),
            ErrorKind::State if not_found => Some(ANOTHER_API),
            ErrorKind::Billing => Some("check the balance and the limits of the account in the provider's console"),
            ErrorKind::Capacity | ErrorKind::Configuration | ErrorKind::State => None,
        }
    }
}

/// The body of an error response. Not `Debug`: it may quote the request.
struct Body {
    reason: Option<String>,
    message: String,
    /// Whether it is an HTML page, which the API does not send.
    is_page: bool,
}

impl Body {
    /// Reads a body of any shape.
    fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let string = |pointer: &str| json.pointer(pointer).and_then(|it| it.as_str()).filter(|it| !it.is_empty());
        // Of JSON without a message only what is known to be a machine name is repeated: the rest may be rows of a list, and
        // those have the environment of instances.
        let is_json = json.is_object() || json.is_array();
        let reason = ["/reason", "/code", "/error/reason", "/error/code"]
            .into_iter()
            .find_map(string)
            .or_else(|| string("/message").and_then(machine_name))
            .or_else(|| machine_name(&text).filter(|name| !is_json || is_known(name)));
        let message = ["/message", "/error/message", "/error", "/title", "/msg"].into_iter().find_map(string);
        let is_page = is_page(body);
        let fallback = || match (is_page, is_json) {
            (true, _) => "an HTML page",
            (false, true) => "",
            (false, false) => text.trim(),
        };
        Self { reason: reason.map(Into::into), message: message.unwrap_or_else(fallback).into(), is_page }
    }

    /// Machine name and text without secrets of the request.
    fn shown(&self, hidden: &Hidden) -> (Option<String>, String) {
        let Self { reason, message, is_page: _ } = self;
        let scrub = |text: &str| {
            let end = text.char_indices().nth(LONGEST_SEARCH).map_or(text.len(), |(end, _)| end);
            hidden.scrub(&text[..end])
        };
        // A name that is hidden in part is useless; it may be the first word of a quotation that looked like a name.
        let reason = reason.as_deref().filter(|reason| scrub(reason) == **reason).map(shorten);
        (reason, shorten(&scrub(message)))
    }
}

/// The class and the text of an error that came with a status of 2xx; `None` if the body tells of none, whatever else it holds.
pub(super) fn error_in(body: &[u8]) -> Option<(ErrorKind, String)> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let said = Body::read(body);
    let (kind, _) = classify(200, &said);
    let has_code = codes_in(&json).next().is_some();
    let has_error = match json.get("error") {
        Some(serde_json::Value::String(text)) => !text.is_empty(),
        Some(serde_json::Value::Object(error)) => !error.is_empty(),
        _ => false,
    };
    if kind == ErrorKind::Api && !has_code && !has_error && json.get("success") != Some(&false.into()) {
        return None;
    }
    let (reason, text) = said.shown(&Hidden::in_body(None));
    let told = [reason.unwrap_or_default(), text].join(" ").trim().to_owned();
    Some((kind, if told.is_empty() { "without a text".into() } else { told }))
}

/// What an error in a body says of the call's effect, whatever the status of the response: it was refused only if every code
/// says so.
pub(super) fn effect_in(body: &[u8]) -> Effect {
    let json = serde_json::from_slice(body).unwrap_or_default();
    let mut effects = codes_in(&json).map(effect_of).peekable();
    let is_refused = effects.peek().is_some() && effects.all(|effect| effect == Effect::Refused);
    if is_refused { Effect::Refused } else { Effect::Possible }
}

/// The codes in a body that are those of errors.
fn codes_in(json: &serde_json::Value) -> impl Iterator<Item = u16> {
    let codes = ["/code", "/error/code", "/status"].into_iter().filter_map(|at| json.pointer(at)?.as_u64());
    codes.filter_map(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code))
}

/// Whether a body is an HTML page. The API sends none, so a proxy or another server responded.
pub(super) fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// The first word that looks like one of the provider's machine names.
fn machine_name(text: &str) -> Option<&str> {
    let is_name = |word: &&str| {
        let is_plain = word.starts_with(|c: char| c.is_ascii_uppercase()) && !word.contains(char::is_lowercase);
        is_plain && word.len() >= 6 && (word.contains('_') || KNOWN_SINGLE_WORDS.contains(word))
    };
    // Whole words: the end of a key is none.
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).find(is_name)
}

const KNOWN_SINGLE_WORDS: &[&str] = &["CONFLICT", "FORBIDDEN", "REQUEST", "UNAUTHORIZED", "UNKNOWN"];

/// Whether a machine name is one of the provider's errors.
fn is_known(name: &str) -> bool {
    let body = Body { reason: Some(name.into()), message: String::new(), is_page: false };
    classify(400, &body) != (ErrorKind::Api, false)
}

/// The class of an error, and whether it says that what was asked for does not exist.
fn classify(status: u16, refusal: &Body) -> (ErrorKind, bool) {
    let reason = refusal.reason.as_deref().unwrap_or("");
    let message = refusal.message.to_ascii_lowercase();
    // "not fount" is the provider's own spelling in some responses.
    let says_not_found = || message.contains("not found") || message.contains("not fount");
    let not_found = (status == 404 && !refusal.is_page)
        || (status == 400 && (reason == "RESOURCE_NOT_FOUND" || (reason.is_empty() && says_not_found())));
    if reason.starts_with("PRODUCT_") {
        // Gone, offline or not offered here: the product cannot be had, and another one may be.
        return (ErrorKind::Capacity, false);
    }
    let kind = match (status, reason) {
        _ if not_found => ErrorKind::State,
        (
            _,
            "BALANCE_NOT_ENOUGH"
            | "EXPIRED_OR_BALANCE_NOT_ENOUGH"
            | "NOT_ENOUGH_BALANCE"
            | "DE_BALANCE_NOT_ENOUGH"
            | "UNSUPPORTED_BILLING_MODE"
            | "CREATE_INSTANCE_LIMIT"
            | "CREATE_GPU_NUM_LIMIT"
            | "WALLET_NOT_FOUND"
            | "PREPAID_INSTANCE_NOT_SUPPORT_RELEASE",
        ) => ErrorKind::Billing,
        (_, "INSUFFICIENT_RESOURCE" | "MIGRATE_INSUFFICIENT_RESOURCE" | "CUDA_VERSION_INCOMPATIBLE") => {
            ErrorKind::Capacity
        }
        // The provider has one name for a rate and for a quota; only its text tells.
        (429, _) | (_, "RATE_LIMIT_EXCEEDED") if message.contains("quota") => ErrorKind::Billing,
        (429, _) | (_, "RATE_LIMIT_EXCEEDED") => ErrorKind::RateLimit,
        (402, _) => ErrorKind::Billing,
        (407, _) => ErrorKind::Configuration,
        (403, _) if refusal.is_page => ErrorKind::Configuration,
        (401 | 403, _)
        | (_, "UNAUTHORIZED" | "FORBIDDEN" | "INVALID_API_KEY" | "PERMISSION_DENIED" | "BANNED_USER") => {
            ErrorKind::Auth
        }
        (408, _) => ErrorKind::Timeout,
        (
            _,
            "CONFLICT"
            | "OPERATION_LIMIT"
            | "CLUSTER_STATUS"
            | "NODE_STATUS"
            | "DEPENDENT_RESOURCE_STATE"
            | "GPU_SPEC_USED"
            | "MIGRATION_JOB_NOT_BREAKABLE",
        ) => ErrorKind::State,
        _ if status < 500 && message.contains("invalid state change") => ErrorKind::State,
        (
            _,
            "VALIDATOR_PARAM"
            | "REQUEST"
            | "INVALID_COMMAND_PARAM"
            | "IMAGE_NOT_FOUND"
            | "NETWORK_NOT_FOUND"
            | "GET_TOKEN_FAILED",
        ) => ErrorKind::Configuration,
        (_, reason) if reason.starts_with("NETWORK_STORAGE_") => ErrorKind::Configuration,
        _ => ErrorKind::Api,
    };
    (kind, not_found)
}

/// Characters of a text that are searched for secrets; the rest is never shown.
const LONGEST_SEARCH: usize = 10_000;

/// The longest text of the provider that an error repeats, in characters.
const LONGEST_TEXT: usize = 200;

/// Shortens a text of the provider for a message, and hides what may be a secret: keys (`sk_…`) and what follows a word
/// such as "password". Control characters become spaces.
pub(super) fn shorten(text: &str) -> String {
    let mut out = String::new();
    let mut announced = false;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        let lower = word.to_ascii_lowercase();
        let names_secret = SECRET_NAMES.iter().any(|name| lower.contains(name));
        let assigned = names_secret && lower.split_once(['=', ':']).is_some_and(|(_, value)| !value.is_empty());
        out.push_str(if announced || assigned || lower.contains("sk_") { "[hidden]" } else { word });
        announced = lower == "bearer" || lower == "password" || (names_secret && lower.ends_with([':', '=']));
    }
    match out.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &out[..end]),
        None => out,
    }
}

const SECRET_NAMES: &[&str] =
    &["password", "passwd", "secret", "token", "bearer", "authorization", "api_key", "apikey"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_in_a_body_of_a_success() {
        for body in [
            r#"{}"#,
            r#"{"id":"a"}"#,
            r#"{"code":0,"message":"success"}"#,
            r#"{"code":200,"reason":"","message":"ok","error":null}"#,
            r#"{"status":"migrating","message":"job not found yet is no error"}"#,
            r#"{"success":true,"code":"OK","error":{}}"#,
            r#"ok"#,
            r#""#,
        ] {
            assert_eq!(error_in(body.as_bytes()), None, "{body}");
        }
        for (body, kind, text) in [
            (
                r#"{"code":400,"reason":"INSUFFICIENT_RESOURCE","message":"none left"}"#,
                ErrorKind::Capacity,
                "INSUFFICIENT_RESOURCE none left",
            ),
            (r#"{"code":500,"message":"sorry"}"#, ErrorKind::Api, "sorry"),
            (r#"{"reason":"BALANCE_NOT_ENOUGH"}"#, ErrorKind::Billing, "BALANCE_NOT_ENOUGH"),
            (r#"{"error":"it did not work"}"#, ErrorKind::Api, "it did not work"),
            (r#"{"error":{"code":"CONFLICT","message":"busy"}}"#, ErrorKind::State, "CONFLICT busy"),
            (r#"{"success":false,"message":"no"}"#, ErrorKind::Api, "no"),
        ] {
            let (found, message) = error_in(body.as_bytes()).expect(body);
            assert_eq!(found, kind, "{body}");
            assert!(message.starts_with(text), "{message}");
        }
    }

    #[test]
    fn every_refusal_has_a_class() {
        use ErrorKind::{Api, Auth, Billing, Capacity, Configuration, RateLimit, State, Timeout};
        let stock = Some("INSUFFICIENT_RESOURCE");
        let rows: &[(u16, &[u8], Option<&str>, ErrorKind, bool)] = &[
            (400, fixture!("error-reason.json"), stock, Capacity, false),
            (400, fixture!("error-code-text.json"), stock, Capacity, false),
            (400, fixture!("error-message.json"), stock, Capacity, false),
            (400, fixture!("error-nested.json"), stock, Capacity, false),
            (400, fixture!("error-text-field.json"), stock, Capacity, false),
            (400, fixture!("error-title.json"), stock, Capacity, false),
            (400, fixture!("error-migrate-no-stock.json"), Some("MIGRATE_INSUFFICIENT_RESOURCE"), Capacity, false),
            (400, fixture!("error-not-found.json"), Some("RESOURCE_NOT_FOUND"), State, true),
            (404, br#"{"reason":"PRODUCT_NOT_FOUND"}"#, Some("PRODUCT_NOT_FOUND"), Capacity, false),
            (400, br#"{"reason":"PRODUCT_OFFLINE"}"#, Some("PRODUCT_OFFLINE"), Capacity, false),
            (404, fixture!("error-404.txt"), None, State, true),
            (404, b"", None, State, true),
            (400, br#"{"message":"instance not found"}"#, None, State, true),
            (400, fixture!("error-invalid-state.json"), Some("CONFLICT"), State, false),
            (400, br#"{"message":"invalid state change"}"#, None, State, false),
            (401, fixture!("error-unauthorized.json"), Some("UNAUTHORIZED"), Auth, false),
            (403, b"", None, Auth, false),
            (429, fixture!("error-rate-limit.json"), Some("RATE_LIMIT_EXCEEDED"), RateLimit, false),
            (429, b"slow down", None, RateLimit, false),
            (400, fixture!("error-quota.json"), Some("CREATE_GPU_NUM_LIMIT"), Billing, false),
            (400, fixture!("error-monthly-delete.json"), Some("PREPAID_INSTANCE_NOT_SUPPORT_RELEASE"), Billing, false),
            (400, br#"{"reason":"BALANCE_NOT_ENOUGH"}"#, Some("BALANCE_NOT_ENOUGH"), Billing, false),
            (402, br#"{"reason":"PAYMENT_REQUIRED"}"#, Some("PAYMENT_REQUIRED"), Billing, false),
            (400, br#"{"code":"CREATE_INSTANCE_LIMIT"}"#, Some("CREATE_INSTANCE_LIMIT"), Billing, false),
            (
                400,
                br#"{"reason":"IMAGE_NOT_FOUND","message":"not found"}"#,
                Some("IMAGE_NOT_FOUND"),
                Configuration,
                false,
            ),
            (400, br#"{"reason":"NETWORK_NOT_FOUND"}"#, Some("NETWORK_NOT_FOUND"), Configuration, false),
            (400, br#"{"reason":"INVALID_COMMAND_PARAM"}"#, Some("INVALID_COMMAND_PARAM"), Configuration, false),
            // A page does not come from the API, so it does not know what exists.
            (404, b" <html>404</html>", None, Api, false),
            (400, fixture!("error-echoes-secrets.json"), Some("VALIDATOR_PARAM"), Configuration, false),
            (
                400,
                br#"{"reason":"NETWORK_STORAGE_TOO_LARGE"}"#,
                Some("NETWORK_STORAGE_TOO_LARGE"),
                Configuration,
                false,
            ),
            (400, fixture!("error-message-only.json"), None, Api, false),
            (408, b"", None, Timeout, false),
            (500, fixture!("error-server.json"), Some("UNKNOWN"), Api, false),
            (504, fixture!("error-gateway.html"), None, Api, false),
            (418, b"\x1b[31mteapot", None, Api, false),
            (400, br#"{"errors":[{"code":"INSUFFICIENT_RESOURCE"}]}"#, stock, Capacity, false),
            (400, br#"{"jobs":[{"envs":[{"key":"DB_PASSWORD","value":"hunter2hunter2"}]}]}"#, None, Api, false),
            // The end of a key is no machine name.
            (401, br#"{"code":401,"message":"invalid api key: sk_7F3A9C21D4E85B60A1C2"}"#, None, Auth, false),
        ];
        for (at, (status, body, reason, kind, not_found)) in rows.iter().enumerate() {
            let refusal = Body::read(body);
            let (shown_reason, message) = refusal.shown(&Hidden::default());
            assert_eq!(shown_reason.as_deref(), *reason, "row {at}");
            assert_eq!(classify(*status, &refusal), (*kind, *not_found), "row {at}");
            assert!(!message.contains('\u{1b}') && !message.contains("hunter2"), "row {at}");
        }
    }

    #[test]
    fn what_the_request_holds_is_hidden_and_counts_all_the_same() {
        let body = r#"{"envs":[{"value":"RESOURCE"},{"value":"MY_OWN_SECRET"}]}"#;
        let hidden = Hidden::in_body(Some(body));
        for (answer, kind, reason, message) in [
            // The class does not depend on a word of the user.
            (r#"{"reason":"INSUFFICIENT_RESOURCE","message":"no node"}"#, ErrorKind::Capacity, None, "no node"),
            (r#"{"reason":"CONFLICT","message":"RESOURCE"}"#, ErrorKind::State, Some("CONFLICT"), "[hidden]"),
            // What looks like a machine name may be a value.
            (r#"{"message":"bad value MY_OWN_SECRET"}"#, ErrorKind::Api, None, "bad value [hidden]"),
            ("bad value MY_OWN_SECRET", ErrorKind::Api, None, "bad value [hidden]"),
        ] {
            let refusal = Body::read(answer.as_bytes());
            assert_eq!(classify(400, &refusal), (kind, false));
            assert_eq!(refusal.shown(&hidden), (reason.map(Into::into), message.into()), "{answer}");
        }
        // Hidden before it is shortened: the rest of a long one would give it away.
        let long = "s".repeat(150) + "-tail";
        let hidden = Hidden::in_body(Some(&serde_json::json!({"command": long}).to_string()));
        let refusal = Body::read(format!("{} {long} {long}", "word ".repeat(15)).as_bytes());
        assert!(!refusal.shown(&hidden).1.contains("sss"));
    }

    #[test]
    fn what_may_be_secret_is_taken_out_of_messages() {
        for (text, shown) in [
            ("no node can host this spec", "no node can host this spec"),
            ("key sk_live_1 is wrong", "key [hidden] is wrong"),
            ("Authorization: Bearer abc", "Authorization: [hidden] [hidden]"),
            ("password hunter2 is weak", "password [hidden] is weak"),
            ("invalid token", "invalid token"),
            ("a\u{7}b\nc", "a b c"),
        ] {
            assert_eq!(shorten(text), shown);
        }
        let (_, echoed) = Body::read(fixture!("error-echoes-secrets.json")).shown(&Hidden::default());
        assert!(!echoed.contains("secret"), "{echoed}");
        assert_eq!(shorten(&"x".repeat(300)).chars().count(), LONGEST_TEXT + 1);
    }
}
