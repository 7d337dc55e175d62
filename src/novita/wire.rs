//! The shapes of bodies as they are on the wire (`novita-api.md` sections 1.3 and 2), and the way from there into
//! `core::model`.
//!
//! Lenient: numbers may be strings, texts may be numbers, anything may be `null`, empty, missing or of a shape nobody
//! has seen yet; unknown fields are passed over. A row is refused only when it has no id.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::core::model::{
    Billing, Instance, InstanceId, Job, JobId, JobKind, JobState, ReclaimNotice, Status, Timestamp,
};
use crate::core::summary::ErrorKind;

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<T> {
    /// Rows that can be used.
    pub(super) rows: Vec<T>,
    /// Rows on the wire, also those that cannot be used.
    pub(super) received: usize,
    /// The provider's count of all rows.
    pub(super) total: Option<u64>,
}

/// Something that is listed in pages.
pub(super) trait Row: Sized {
    /// Reads a page. `Err` is a description without any of the body's content, which may hold secrets.
    fn page(body: &[u8]) -> Result<Page<Self>, String>;
    /// What tells rows apart.
    fn id(&self) -> &str;
    /// Of two rows with one id, read while the list was changing, the greater is kept.
    fn caution(&self) -> u8;
}

/// A scalar taken as text; `None` for null, lists and objects.
#[derive(Debug, Default)]
struct Text<'a>(Option<Cow<'a, str>>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// A whole number, written as a number or as a string.
    fn number(&self) -> Option<i64> {
        let text = self.as_str().trim();
        text.parse().ok().or_else(|| {
            let (whole, fraction) = text.split_once('.')?;
            fraction.bytes().all(|digit| digit.is_ascii_digit()).then(|| whole.parse().ok())?
        })
    }

    /// Unix seconds; "0", "-1" and anything that is no number mean that there is none.
    fn moment(&self) -> Option<Timestamp> {
        self.number().filter(|&secs| secs > 0).map(Timestamp::from_secs)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl<'de> Visitor<'de> for Scalar {
            type Value = Option<Cow<'de, str>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Some(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(text.into())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(number.to_string())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(number.to_string())))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(number.to_string())))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
                Ok(Some(Cow::Borrowed(if truth { "true" } else { "false" })))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }
        }
        deserializer.deserialize_any(Scalar).map(Text)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstanceRow<'a> {
    #[serde(borrow, default, alias = "Id")]
    id: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(borrow, default)]
    billing_mode: Text<'a>,
    #[serde(borrow, default)]
    spot_status: Text<'a>,
    #[serde(borrow, default)]
    spot_reclaim_time: Text<'a>,
    #[serde(borrow, default)]
    last_stopped_at: Text<'a>,
    #[serde(borrow, default)]
    stopped_at: Text<'a>,
}

impl InstanceRow<'_> {
    fn into_instance(self) -> Option<Instance> {
        let Self { id, name, status, billing_mode, spot_status, spot_reclaim_time, last_stopped_at, stopped_at } = self;
        let reclaim = (!spot_status.as_str().is_empty()).then(|| spot_reclaim_time.moment()).flatten();
        (!id.as_str().is_empty()).then(|| Instance {
            id: InstanceId::new(id.as_str()),
            name: name.as_str().into(),
            status: Status::from_word(status.as_str()),
            billing: Billing::from_word(billing_mode.as_str()),
            reclaim: reclaim.map(|reclaim_at| {
                Box::new(ReclaimNotice { spot_status: CompactString::from(spot_status.as_str()), reclaim_at })
            }),
            stopped_at: last_stopped_at.moment().or_else(|| stopped_at.moment()),
        })
    }
}

#[derive(Deserialize)]
struct InstancePage<'a> {
    #[serde(borrow)]
    instances: Option<Vec<Option<InstanceRow<'a>>>>,
    #[serde(borrow)]
    total: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobRow<'a> {
    /// `Id` on v1, `id` on v2, `jobId` in other answers.
    #[serde(borrow, default, rename = "Id", alias = "id", alias = "jobId")]
    id: Text<'a>,
    #[serde(borrow, default)]
    instance_id: Text<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    state: Option<JobStateRow<'a>>,
    #[serde(borrow, default)]
    created_at: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobStateRow<'a> {
    #[serde(borrow, default)]
    state: Text<'a>,
    #[serde(borrow, default)]
    error_message: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
    #[serde(borrow, default)]
    error: Text<'a>,
}

impl JobRow<'_> {
    fn into_job(self) -> Option<Job> {
        let Self { id, instance_id, kind, state, created_at } = self;
        let (word, error) = match &state {
            Some(JobStateRow { state, error_message, message, error }) => {
                let first = [error_message, message, error].into_iter().map(Text::as_str).find(|it| !it.is_empty());
                (state.as_str(), first.map(|text| shorten(text).into_boxed_str()))
            }
            // No state: nobody can say that it is finished.
            None => ("", None),
        };
        (!id.as_str().is_empty()).then(|| Job {
            id: JobId::new(id.as_str()),
            instance: InstanceId::new(instance_id.as_str()),
            kind: JobKind::from_word(kind.as_str()),
            state: JobState::from_word(word),
            created_at: created_at.moment(),
            error,
        })
    }
}

#[derive(Deserialize)]
struct JobPage<'a> {
    #[serde(borrow)]
    jobs: Option<Vec<Option<JobRow<'a>>>>,
    #[serde(borrow)]
    total: Option<Text<'a>>,
}

impl Row for Instance {
    fn page(body: &[u8]) -> Result<Page<Self>, String> {
        let InstancePage { instances, total } = decode(body)?;
        page_of(instances, total.as_ref(), InstanceRow::into_instance)
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn caution(&self) -> u8 {
        u8::from(self.status != Status::Exited)
    }
}

impl Row for Job {
    fn page(body: &[u8]) -> Result<Page<Self>, String> {
        let JobPage { jobs, total } = decode(body)?;
        page_of(jobs, total.as_ref(), JobRow::into_job)
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn caution(&self) -> u8 {
        u8::from(self.state.is_unfinished())
    }
}

fn page_of<W, T>(
    rows: Option<Vec<Option<W>>>,
    total: Option<&Text<'_>>,
    convert: impl Fn(W) -> Option<T>,
) -> Result<Page<T>, String> {
    if rows.is_none() && total.is_none() {
        return Err("an object without the list and without a total".into());
    }
    let rows = rows.unwrap_or_default();
    let received = rows.len();
    let total = total.and_then(Text::number).and_then(|total| u64::try_from(total).ok()).filter(|&total| total > 0);
    Ok(Page { rows: rows.into_iter().flatten().filter_map(convert).collect(), received, total })
}

/// Reads the answer to "get one instance": the bare object, or wrapped in `instance`.
pub(super) fn instance(body: &[u8]) -> Result<Instance, String> {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        instance: Option<InstanceRow<'a>>,
    }
    let row = match decode::<Wrapped<'_>>(body)?.instance {
        Some(row) => row,
        None => decode(body)?,
    };
    row.into_instance().ok_or_else(|| "an object without an id".into())
}

/// Reads JSON. The error names the place and never quotes the body: serde's own words may repeat a value.
fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        let looks_like_html = body.trim_ascii_start().starts_with(b"<");
        match error.classify() {
            _ if body.is_empty() => "an empty body".into(),
            _ if looks_like_html => "an HTML page".into(),
            serde_json::error::Category::Eof => format!("JSON that is cut off after {} bytes", body.len()),
            serde_json::error::Category::Data => {
                format!("JSON of an unknown shape, at line {} column {}", error.line(), error.column())
            }
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                format!("no valid JSON, at line {} column {}", error.line(), error.column())
            }
        }
    })
}

/// What an error's body says (`novita-api.md` section 1.3).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The machine name.
    pub(super) reason: Option<String>,
    /// The text for people, shortened and scrubbed.
    pub(super) message: String,
}

/// Reads an error's body, whatever its shape.
pub(super) fn refusal(body: &[u8]) -> Refusal {
    let text = String::from_utf8_lossy(body);
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let string = |pointer: &str| json.pointer(pointer).and_then(|it| it.as_str()).filter(|it| !it.is_empty());
    let reason = ["/reason", "/code", "/error/reason", "/error/code"]
        .into_iter()
        .find_map(string)
        .or_else(|| string("/message").and_then(machine_name))
        .or_else(|| machine_name(&text));
    let message = ["/message", "/error/message", "/error", "/title", "/msg"].into_iter().find_map(string);
    let fallback = || {
        let text = text.trim();
        if text.starts_with('<') { "an HTML page" } else { text }
    };
    Refusal { reason: reason.map(shorten), message: shorten(message.unwrap_or_else(fallback)) }
}

/// The first word that looks like one of the provider's machine names.
fn machine_name(text: &str) -> Option<&str> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit()))
        .find(|word| word.len() >= 6 && (word.contains('_') || KNOWN_SINGLE_WORDS.contains(word)))
}

const KNOWN_SINGLE_WORDS: &[&str] = &["CONFLICT", "FORBIDDEN", "REQUEST", "UNAUTHORIZED", "UNKNOWN"];

/// The class of a refusal, and whether it says that the thing does not exist.
pub(super) fn classify(status: u16, refusal: &Refusal) -> (ErrorKind, bool) {
    let reason = refusal.reason.as_deref().unwrap_or("");
    let message = refusal.message.to_ascii_lowercase();
    // "not fount" is the provider's own spelling in places (section 1.3).
    let says_not_found = || message.contains("not found") || message.contains("not fount");
    let not_found =
        status == 404 || (status == 400 && (reason == "RESOURCE_NOT_FOUND" || (reason.is_empty() && says_not_found())));
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
        (429, _) | (_, "RATE_LIMIT_EXCEEDED") => ErrorKind::RateLimit,
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

/// Longest text of the provider's that an error repeats, in characters.
const LONGEST_TEXT: usize = 200;

/// Shortens a text of the provider's for a message, and takes out what may be a secret: keys (`sk_…`) and what follows
/// a word such as "password". Control characters become spaces.
fn shorten(text: &str) -> String {
    let mut hide_next = false;
    let mut out = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        let lower = word.to_ascii_lowercase();
        let names_secret = ["password", "passwd", "secret", "token", "bearer", "authorization", "api_key", "apikey"]
            .iter()
            .any(|name| lower.contains(name));
        if lower.contains("sk_") || hide_next || (names_secret && lower.contains(['=', ':']) && lower.len() > 12) {
            out.push_str("[hidden]");
            hide_next = lower.ends_with("bearer");
        } else {
            out.push_str(word);
            hide_next = names_secret && lower.ends_with([':', '=', 'r']) || lower == "password";
        }
    }
    match out.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &out[..end]),
        None => out,
    }
}
