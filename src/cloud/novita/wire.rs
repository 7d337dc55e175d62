//! The shapes of bodies on the wire, which `docs/novita-api.md` describes, and their conversion into values of `core`.
//!
//! Lenient: numbers may be strings, texts may be numbers, anything may be `null`, empty, missing or of an unknown shape;
//! unknown fields are ignored. A row is rejected only if it has no id.

mod bills;
mod closeup;
mod connections;
mod fleet;
mod market;
mod mended;
mod metrics;
mod record;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use compact_str::CompactString;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub(super) use self::bills::bills;
pub(super) use self::closeup::close_up;
pub(super) use self::market::{Cluster, clusters, offers};
pub(super) use self::metrics::metrics;
pub(super) use self::record::{Record, configuration};
use super::refusal::{is_page, shorten};
use crate::core::recreation::marker::Origin;
use crate::core::world::instance::{
    Billing, Instance, InstanceId, Job, JobId, JobKind, JobState, Places, ReclaimNotice, Status,
};
use crate::core::world::time::{Seconds, Timestamp};

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListPage<T> {
    pub(super) rows: Vec<T>,
    /// Rows on the wire, with or without an id.
    pub(super) received: usize,
    /// The provider's count of all rows.
    pub(super) total: Option<u64>,
}

/// Something that is listed in pages.
pub(super) trait Listed: Sized {
    /// Reads a page. `Err` describes the body without quoting it, since it may contain secrets.
    fn page(body: &[u8]) -> Result<ListPage<Self>, String>;
    fn id(&self) -> &str;
    /// Of two rows with the same id, read while the list was changing, the one with the greater value is kept.
    fn caution(&self) -> u8;
    /// Whether a row without an id leaves the list incomplete.
    const NEEDS_IDS: bool = true;
}

/// A scalar taken as text; `None` for null, lists and objects.
#[derive(Debug, Default)]
struct Text<'a>(Option<Cow<'a, str>>);

impl<'a> Text<'a> {
    /// Converts a value of any shape.
    fn of(value: &'a serde_json::Value) -> Self {
        use serde_json::Value;
        Self(match value {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        })
    }

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

    /// The same, as a time.
    fn seconds(&self) -> Option<Seconds> {
        self.number().and_then(Seconds::new)
    }

    /// Unix seconds; "0", "-1" and what is not a number mean none.
    fn moment(&self) -> Option<Timestamp> {
        self.number().filter(|&secs| secs > 0).map(Timestamp::from_secs)
    }
}

/// A text whose absence means something: what is there in another shape is a word that nothing knows.
fn stated<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
    deserializer.deserialize_any(Scalar { list: Some("a list"), object: Some("an object") }).map(Text)
}

/// Takes a value of any shape.
struct Scalar {
    /// What lists and objects are read as.
    list: Option<&'static str>,
    object: Option<&'static str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar { list: None, object: None }).map(Text)
    }
}

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
        Ok(self.list.map(Cow::Borrowed))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.object.map(Cow::Borrowed))
    }
}

/// The names of an instance's id.
const INSTANCE_IDS: [&str; 2] = ["id", "Id"];

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
    #[serde(deserialize_with = "stated")]
    billing_mode: Text<'a>,
    #[serde(borrow, default)]
    spot_status: Text<'a>,
    #[serde(borrow, default)]
    spot_reclaim_time: Text<'a>,
    #[serde(borrow, default)]
    created_at: Text<'a>,
    #[serde(borrow, default)]
    last_started_at: Text<'a>,
    #[serde(borrow, default)]
    last_stopped_at: Text<'a>,
    #[serde(borrow, default)]
    stopped_at: Text<'a>,
    #[serde(borrow, default)]
    product_id: Text<'a>,
    #[serde(borrow, default)]
    cluster_id: Text<'a>,
    #[serde(borrow, default)]
    gpu_num: Text<'a>,
}

impl InstanceRow<'_> {
    fn into_instance(self, places: &RefCell<Places>) -> Option<Instance> {
        let Self {
            id,
            name,
            status,
            billing_mode,
            spot_status,
            spot_reclaim_time,
            created_at,
            last_started_at,
            last_stopped_at,
            stopped_at,
            product_id,
            cluster_id,
            gpu_num,
        } = self;
        let is_announced = matches!(spot_status.as_str(), "notified" | "reclaiming");
        // A time beside any other word is left over, or means something else.
        let has_end = is_announced || spot_status.as_str() == "terminated";
        let at = has_end.then(|| spot_reclaim_time.moment()).flatten();
        // What it was started after is over, although its fields may stay.
        let is_over = |at: Timestamp| last_started_at.seconds().is_some_and(|start| at <= start.into());
        let reclaim = at.or(is_announced.then_some(Timestamp::LATEST)).filter(|at| !is_over(*at));
        (!id.as_str().is_empty()).then(|| Instance {
            id: InstanceId::new(id.as_str()),
            name: name.as_str().into(),
            status: Status::from_any_case(status.as_str()),
            billing: Billing::from_any_case(billing_mode.as_str()),
            reclaim: reclaim.map(|reclaim_at| {
                Box::new(ReclaimNotice { spot_status: CompactString::from(spot_status.as_str()), reclaim_at })
            }),
            // The marker of a replacement is its name.
            marker: Origin::in_name(name.as_str()).map(|_| Box::new(name.as_str().into())),
            aside: None,
            place: places.borrow_mut().place(product_id.as_str().trim(), cluster_id.as_str().trim()),
            gpus: gpu_num.number().and_then(|it| u16::try_from(it).ok()).unwrap_or(0),
            created_at: created_at.seconds(),
            started_at: last_started_at.seconds(),
            stopped_at: last_stopped_at.seconds().or_else(|| stopped_at.seconds()),
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
    /// `Id` on v1, `id` on v2, `jobId` in other responses.
    #[serde(borrow, default, rename = "Id", alias = "id", alias = "jobId")]
    id: Text<'a>,
    #[serde(borrow, default)]
    instance_id: Text<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    state: Option<JobStateField<'a>>,
    #[serde(borrow, default)]
    created_at: Text<'a>,
}

/// An object on v1; a bare word is read as well.
#[derive(Deserialize)]
#[serde(untagged)]
enum JobStateField<'a> {
    Object(#[serde(borrow)] JobStateRow<'a>),
    Word(#[serde(borrow)] Text<'a>),
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
    fn into_job(self) -> Job {
        let Self { id, instance_id, kind, state, created_at } = self;
        let (word, error) = match &state {
            Some(JobStateField::Object(JobStateRow { state, error_message, message, error })) => {
                let first = [error_message, message, error].into_iter().map(Text::as_str).find(|it| !it.is_empty());
                (state.as_str(), first.map(|text| shorten(text).into_boxed_str()))
            }
            Some(JobStateField::Word(word)) => (word.as_str(), None),
            // No state is no proof that it is finished.
            None => ("", None),
        };
        // It is at work on its instance, whether its ID can be read or not.
        let id = match id.as_str() {
            "" => JobId::new(&format!("{}/{}", instance_id.as_str(), created_at.as_str())),
            id => JobId::new(id),
        };
        Job {
            id,
            instance: InstanceId::new(instance_id.as_str()),
            kind: JobKind::from_word(kind.as_str()),
            state: JobState::from_word(word),
            created_at: created_at.moment(),
            error,
        }
    }
}

#[derive(Deserialize)]
struct JobPage<'a> {
    #[serde(borrow)]
    jobs: Option<Vec<Option<JobRow<'a>>>>,
    #[serde(borrow)]
    total: Option<Text<'a>>,
}

impl Listed for Instance {
    fn page(body: &[u8]) -> Result<ListPage<Self>, String> {
        let places = RefCell::default();
        match decode(body) {
            Ok(InstancePage { instances, total }) => {
                page_of(instances, total.as_ref(), |row| InstanceRow::into_instance(row, &places))
            }
            Err(what) => {
                let (rows, total) = mended::rows(body, "instances", &INSTANCE_IDS).ok_or(what)?;
                page_of(Some(rows), total.as_ref(), |row| InstanceRow::deserialize(&row).ok()?.into_instance(&places))
            }
        }
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn caution(&self) -> u8 {
        u8::from(self.status != Status::Exited)
    }
}

impl Listed for Job {
    fn page(body: &[u8]) -> Result<ListPage<Self>, String> {
        match decode(body) {
            Ok(JobPage { jobs, total }) => page_of(jobs, total.as_ref(), |row| Some(JobRow::into_job(row))),
            Err(what) => {
                let (rows, total) = mended::rows(body, "jobs", &["Id", "id", "jobId"]).ok_or(what)?;
                page_of(Some(rows), total.as_ref(), |row| Some(JobRow::deserialize(&row).ok()?.into_job()))
            }
        }
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn caution(&self) -> u8 {
        u8::from(self.state.is_unfinished())
    }

    /// An instance that is at work says so itself.
    const NEEDS_IDS: bool = false;
}

fn page_of<W, T>(
    rows: Option<Vec<Option<W>>>,
    total: Option<&Text<'_>>,
    convert: impl Fn(W) -> Option<T>,
) -> Result<ListPage<T>, String> {
    if rows.is_none() && total.is_none() {
        return Err("an object without the list and without a total".into());
    }
    let rows = rows.unwrap_or_default();
    let received = rows.len();
    let total = total.and_then(Text::number).and_then(|total| u64::try_from(total).ok()).filter(|&total| total > 0);
    Ok(ListPage { rows: rows.into_iter().flatten().filter_map(convert).collect(), received, total })
}

/// Reads the id of the new instance, which is documented as `id` and found by clients in the other places.
pub(super) fn created(body: &[u8]) -> Result<InstanceId, String> {
    let answer: serde_json::Value = decode(body)?;
    let id = ["/id", "/Id", "/instanceId", "/instance/id", "/instance/Id"].into_iter().find_map(|place| {
        let id = Text::of(answer.pointer(place)?);
        let id = id.as_str().trim();
        (!id.is_empty()).then(|| InstanceId::new(id))
    });
    id.ok_or_else(|| "an object without an id".into())
}

/// Reads JSON. The error states the position and never quotes the body, as serde's own message may.
fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    // One check of the whole body costs less than one of each text in it.
    let text = std::str::from_utf8(body).map_err(|error| match is_page(body) {
        true => "an HTML page".to_owned(),
        false => format!("text that is not UTF-8 after {} bytes", error.valid_up_to()),
    })?;
    serde_json::from_str(text).map_err(|error| match error.classify() {
        _ if body.is_empty() => "an empty body".into(),
        _ if is_page(body) => "an HTML page".into(),
        serde_json::error::Category::Eof => format!("JSON that is cut off after {} bytes", body.len()),
        serde_json::error::Category::Data => {
            format!("JSON of an unknown shape, at line {} column {}", error.line(), error.column())
        }
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            format!("invalid JSON, at line {} column {}", error.line(), error.column())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_survive_every_looseness() {
        // Body, total, then id, name, status, billing, reclaim and stop time (Unix seconds) of the first row.
        type First = (&'static str, &'static str, &'static str, &'static str, Option<i64>, Option<i64>);
        let rows: &[(&[u8], Option<u64>, usize, First)] = &[
            (
                fixture!("list-instances.json"),
                Some(4),
                4,
                ("a1b2c3d4e5f60718", "train-7", "exited", "spot", None, Some(1_768_390_000)),
            ),
            (
                fixture!("list-instances-loose-types.json"),
                Some(2),
                2,
                ("a1b2c3d4e5f60718", "train-7", "exited", "spot", None, Some(1_768_390_000)),
            ),
            (
                fixture!("list-instances-nulls.json"),
                Some(3),
                3,
                ("a1b2c3d4e5f60718", "train-7", "exited", "", None, None),
            ),
            (
                br#"{"instances":[{"Id":7,"name":true,"status":{"status":"x"},"billingMode":["spot"],
                    "spotStatus":"notified","spotReclaimTime":1768090000.0,"lastStoppedAt":"0","new":{"a":[1]}}]}"#,
                None,
                1,
                ("7", "true", "", "a list", Some(1_768_090_000), None),
            ),
            (
                br#"{"instances":[{"id":"a","spotStatus":"","spotReclaimTime":"1768090000","stoppedAt":"5"}],"total":"1"}"#,
                Some(1),
                1,
                ("a", "", "", "", None, Some(5)),
            ),
            // What states its billing in a shape of its own states it.
            (
                br#"{"instances":[{"id":"a","status":"exited","billingMode":{"mode":"onDemand"}}]}"#,
                None,
                1,
                ("a", "", "exited", "an object", None, None),
            ),
            // Announced without a time; statuses in any case.
            (
                br#"{"instances":[{"id":"a","status":"Running","spotStatus":"notified","spotReclaimTime":"0"}],"total":"1"}"#,
                Some(1),
                1,
                ("a", "", "running", "", Some(Timestamp::LATEST.as_secs()), None),
            ),
            // Of a reclaim before its last start only the fields are left; one of later stands.
            (
                br#"{"instances":[{"id":"a","status":"running","spotStatus":"terminated","spotReclaimTime":"1768090000","lastStartedAt":"1768090130"}]}"#,
                None,
                1,
                ("a", "", "running", "", None, None),
            ),
            (
                br#"{"instances":[{"id":"a","status":"running","spotStatus":"notified","spotReclaimTime":"1768090131","lastStartedAt":"1768090130"}]}"#,
                None,
                1,
                ("a", "", "running", "", Some(1_768_090_131), None),
            ),
            // Nothing is announced, whatever a time may say.
            (
                br#"{"instances":[{"id":"a","status":"running","spotStatus":"running","spotReclaimTime":"1768090131"}]}"#,
                None,
                1,
                ("a", "", "running", "", None, None),
            ),
            // A row without an id is dropped and counted.
            (br#"{"instances":[null,{"name":"x"},{"id":"a"}],"total":3}"#, Some(3), 3, ("a", "", "", "", None, None)),
        ];
        for (at, (body, total, received, first)) in rows.iter().enumerate() {
            let page = <Instance as Listed>::page(body).unwrap_or_else(|error| panic!("row {at}: {error}"));
            assert_eq!((page.total, page.received), (*total, *received), "row {at}");
            let it = &page.rows[0];
            let secs = |moment: Option<Timestamp>| moment.map(Timestamp::as_secs);
            let reclaim = secs(it.reclaim.as_ref().map(|notice| notice.reclaim_at));
            let got = (
                it.id.as_str(),
                &*it.name,
                it.status.as_str(),
                it.billing.as_str(),
                reclaim,
                secs(it.stopped_at.map(Timestamp::from)),
            );
            assert_eq!(got, *first, "row {at}");
        }
    }

    #[test]
    fn pages_past_the_end_are_empty_and_nonsense_is_named_without_being_quoted() {
        for body in [
            fixture!("list-past-the-end.json"),
            fixture!("list-past-the-end-null.json"),
            fixture!("list-past-the-end-without-array.json"),
        ] {
            let page = <Instance as Listed>::page(body).expect("an empty page");
            assert_eq!((page.received, page.rows.len()), (0, 0));
        }
        let secret = br#"{"instances": "sk_secret"}"#.as_slice();
        for (body, part) in [
            (b"".as_slice(), "an empty body"),
            (fixture!("error-gateway.html"), "an HTML page"),
            (fixture!("list-truncated.txt"), "cut off after"),
            (secret, "unknown shape"),
            (br#"{"message": "sk_secret"}"#, "without the list"),
            (b"sk_secret", "invalid JSON"),
            (b"[1, 2]", "unknown shape"),
        ] {
            let error = <Instance as Listed>::page(body).expect_err(part);
            assert!(error.contains(part), "{error:?} lacks {part:?}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn jobs_survive_every_looseness() {
        let page = <Job as Listed>::page(fixture!("list-jobs-odd.json")).expect("odd jobs");
        let seen: Vec<(&str, &str, &str, Option<&str>)> = page
            .rows
            .iter()
            .map(|job| (job.id.as_str(), job.kind.as_str(), job.state.as_str(), job.error.as_deref()))
            .collect();
        assert_eq!(
            seen[..3],
            [
                ("y4u3i2o1p0a9s8d7", "instanceMigrate", "fail", Some("text under message")),
                ("u3i2o1p0a9s8d7f6", "instanceMigrate", "fail", Some("CODE_ONLY")),
                ("i2o1p0a9s8d7f6g5", "newKindOfJob", "paused", None),
            ]
        );
        let body = br#"{"jobs":[{"Id":"a","state":"fail"},{"Id":"b"},{"Id":"c","state":{}},{"Id":"d","state":null}]}"#;
        let states: Vec<bool> =
            <Job as Listed>::page(body).expect("jobs").rows.iter().map(|job| job.state.is_unfinished()).collect();
        assert_eq!(states, [false, true, true, true], "what says nothing counts as unfinished");
        let nameless =
            br#"{"jobs":[{"Id":["a"],"instanceId":"i","createdAt":5,"state":"running"},{"state":"running"}]}"#;
        let nameless = <Job as Listed>::page(nameless).expect("jobs").rows;
        assert_eq!(nameless.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["i/5", "/"]);
        assert!(<Job as Listed>::page(fixture!("list-jobs-past-the-end.json")).expect("empty").rows.is_empty());
    }

    #[test]
    fn the_new_id_is_found_where_clients_find_it() {
        let id = Ok(InstanceId::new("f60718293a4b5c6d"));
        for body in [
            fixture!("create.json"),
            fixture!("create-capital-id.json"),
            br#"{"id":"","instanceId":" f60718293a4b5c6d "}"#,
            br#"{"id":null,"instance":{"id":"f60718293a4b5c6d"}}"#,
            br#"{"instance":{"Id":"f60718293a4b5c6d"}}"#,
        ] {
            assert_eq!(created(body), id);
        }
        assert_eq!(created(br#"{"id":7}"#), Ok(InstanceId::new("7")));
        for (body, part) in [
            (b"".as_slice(), "an empty body"),
            (b"{}", "without an id"),
            (b"null", "without an id"),
            (br#"{"id":{"secret":1}}"#, "without an id"),
            (br#"{"id":"f6071829"#, "cut off"),
            (br#""f60718293a4b5c6d""#, "without an id"),
            (fixture!("error-gateway.html"), "an HTML page"),
        ] {
            let error = created(body).expect_err(part);
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
