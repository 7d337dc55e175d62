//! From a call to an answer: which call it is, what the fault script makes of it, and who answers it.

use std::borrow::Cow;

use respot::cloud::transport::Method;
use serde_json::Value;

use crate::fault::What;
use crate::wire::Refusal;
use crate::world::{Outcome, World};

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `GET /v1/gpu/instances`
    List,
    /// `GET /v1/gpu/instance`
    Get,
    /// `GET /v1/jobs`
    Jobs,
    /// `POST /v1/gpu/instance/migrate`
    Migrate,
    /// `POST /v1/gpu/instance/create`
    Create,
    /// `POST /v1/gpu/instance/delete`
    Delete,
    /// `POST /v1/gpu/instance/start`
    Start,
    /// `POST /v1/gpu/instance/stop`
    Stop,
    /// `POST /v1/gpu/instance/restart`
    Restart,
    /// `GET /v1/products`
    Products,
    /// `GET /v1/clusters`
    Clusters,
    /// `GET /v1/metrics/gpu/instance`, on another base
    Metrics,
    /// `GET /v1/billing/bill/list`, on another base
    Bills,
    /// `POST /v1/job/break`
    BreakJob,
    /// `POST /v1/gpu/instance/setAutoMigrate`
    AutoMigrate,
}

const ROUTES: &[(Method, &str, Op, &str)] = &[
    (Method::Get, "/v1/gpu/instances", Op::List, "list"),
    (Method::Get, "/v1/gpu/instance", Op::Get, "get"),
    (Method::Get, "/v1/jobs", Op::Jobs, "jobs"),
    (Method::Post, "/v1/gpu/instance/migrate", Op::Migrate, "migrate"),
    (Method::Post, "/v1/gpu/instance/create", Op::Create, "create"),
    (Method::Post, "/v1/gpu/instance/delete", Op::Delete, "delete"),
    (Method::Post, "/v1/gpu/instance/start", Op::Start, "start"),
    (Method::Post, "/v1/gpu/instance/stop", Op::Stop, "stop"),
    (Method::Post, "/v1/gpu/instance/restart", Op::Restart, "restart"),
    (Method::Get, "/v1/products", Op::Products, "products"),
    (Method::Get, "/v1/clusters", Op::Clusters, "clusters"),
    (Method::Get, "/v1/metrics/gpu/instance", Op::Metrics, "metrics"),
    (Method::Get, "/v1/billing/bill/list", Op::Bills, "bills"),
    (Method::Post, "/v1/job/break", Op::BreakJob, "break"),
    (Method::Post, "/v1/gpu/instance/setAutoMigrate", Op::AutoMigrate, "auto-migrate"),
];

impl Op {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::List,
        Self::Get,
        Self::Jobs,
        Self::Migrate,
        Self::Create,
        Self::Delete,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Products,
        Self::Clusters,
        Self::Metrics,
        Self::Bills,
        Self::BreakJob,
        Self::AutoMigrate,
    ];

    /// Its word in fault rules and in the write log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ROUTES.iter().find(|(_, _, op, _)| *op == self).map_or("", |(_, _, _, word)| word)
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        ROUTES.iter().find(|(_, _, _, known)| *known == word).map(|(_, _, op, _)| *op)
    }

    /// Whether it changes something.
    #[must_use]
    pub fn is_write(self) -> bool {
        ROUTES.iter().any(|(method, _, op, _)| *op == self && *method == Method::Post)
    }

    /// Which call it is; otherwise the HTTP status that says that it is none.
    fn route(method: Method, path: &str) -> Result<Self, u16> {
        let mut status = 404;
        for (wanted, known, op, _) in ROUTES {
            if *known == path {
                if *wanted == method {
                    return Ok(*op);
                }
                status = 405;
            }
        }
        Err(status)
    }
}

/// Whether a path is below `/openapi`, not `/gpu-instance/openapi`.
pub(crate) fn is_elsewhere(path: &str) -> bool {
    path.starts_with("/v1/metrics/") || path.starts_with("/v1/billing/")
}

/// A call as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `GET` or `POST`.
    pub method: Method,
    /// Behind the base address, beginning with `/v1/`.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
    /// The bearer key, if there is one.
    pub key: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    /// The last value of a query parameter that is not empty.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let values = self.query.iter().rev().filter(|(key, _)| key == name);
        values.map(|(_, value)| value.as_str()).find(|value| !value.is_empty())
    }

    /// The body as JSON; null if it is none.
    fn json(&self) -> Value {
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap_or_default() }
    }

    /// What the call is about: an instance's id, for a create the name asked for, for a break the job's id. `json` is
    /// the body of a call that has one.
    fn subject(&self, op: Op, json: &Value) -> Option<String> {
        let key = match op {
            Op::Create => "name",
            Op::BreakJob => "jobId",
            _ => "instanceId",
        };
        match self.method {
            Method::Get => self.query(key).map(str::to_owned),
            Method::Post => json.get(key).and_then(Value::as_str).map(str::to_owned),
        }
    }
}

/// An answer, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The value of `Retry-After`.
    pub retry_after: Option<String>,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, retry_after: None, content_type: "application/json", body: body.into() }
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, retry_after: None, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// What the client gets to see, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// So many milliseconds later than otherwise.
    pub after_ms: u64,
    /// What.
    pub delivery: Delivery,
}

/// What the client gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The answer.
    Answer(Answer),
    /// Its head, announcing the whole length, and half of the body.
    Truncated(Answer),
    /// Its head, and a body without end.
    Endless,
    /// The connection drops.
    Cut,
    /// No connection is made.
    Refused,
    /// Nothing, for ever.
    Hang,
}

/// What a fault does to a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    None,
    EndlessPages,
    SamePage,
    DuplicateRows,
    NoRows,
    BadRow,
    NamelessRow,
    LyingTotal(i64),
}

impl World {
    /// Answers a call at the world's present time.
    pub fn serve(&mut self, call: &Call) -> Reply {
        let Ok(op) = Op::route(call.method, &call.path) else {
            return Reply { after_ms: 0, delivery: Delivery::Answer(self.perform(call, Trick::None)) };
        };
        let subject = call.subject(op, &call.json());
        let (after_ms, what) = self.script.strike(op, subject.as_deref());
        if !matches!(what, Some(What::Refuse)) {
            self.count_call(op);
        }
        let lost = |world: &mut Self| {
            if op.is_write() {
                world.record(op, subject.as_deref().unwrap_or_default(), Outcome::Lost);
            }
        };
        let mut effect = |trick| self.perform(call, trick);
        let delivery = match what {
            None | Some(What::Delay(_)) => Delivery::Answer(effect(Trick::None)),
            Some(What::EndlessPages) => Delivery::Answer(effect(Trick::EndlessPages)),
            Some(What::SamePage) => Delivery::Answer(effect(Trick::SamePage)),
            Some(What::DuplicateRows) => Delivery::Answer(effect(Trick::DuplicateRows)),
            Some(What::NoRows) => Delivery::Answer(effect(Trick::NoRows)),
            Some(What::BadRow) => Delivery::Answer(effect(Trick::BadRow)),
            Some(What::NamelessRow) => Delivery::Answer(effect(Trick::NamelessRow)),
            Some(What::LyingTotal(by)) => Delivery::Answer(effect(Trick::LyingTotal(by))),
            Some(What::CutAfter) => {
                effect(Trick::None);
                Delivery::Cut
            }
            Some(What::Malformed) => {
                let answer = effect(Trick::None);
                Delivery::Answer(Answer::json(malformed(&answer.body)))
            }
            Some(What::Empty) => {
                effect(Trick::None);
                Delivery::Answer(Answer::json(""))
            }
            Some(What::Truncated) => {
                let mut answer = effect(Trick::None);
                if answer.body.len() < 2 {
                    answer.body = b"{\"message\": \"ok\"}".to_vec();
                }
                Delivery::Truncated(answer)
            }
            Some(What::EndlessBody) => {
                effect(Trick::None);
                Delivery::Endless
            }
            Some(What::Hang { effect: true }) => {
                effect(Trick::None);
                Delivery::Hang
            }
            Some(What::Status { code, reason, message, retry_after, effect: takes_effect }) => {
                let reason = reason.map_or(Cow::Borrowed(usual_reason(code)), Cow::Owned);
                let message = message.unwrap_or_else(|| "the provider has a bad day".into());
                if takes_effect {
                    effect(Trick::None);
                } else if op.is_write() {
                    let outcome = Outcome::Refused(code, reason.clone().into_owned());
                    self.record(op, subject.as_deref().unwrap_or_default(), outcome);
                }
                let refusal = Refusal { status: code, reason, message };
                let mut answer = refusal.into_answer(self.rules.wire.errors);
                answer.retry_after = retry_after;
                Delivery::Answer(answer)
            }
            Some(What::Late(ms)) => {
                self.park(call.clone(), ms);
                Delivery::Cut
            }
            Some(What::Refuse) => Delivery::Refused,
            Some(What::CutBefore) => {
                lost(self);
                Delivery::Cut
            }
            Some(What::Hang { effect: false }) => {
                lost(self);
                Delivery::Hang
            }
            Some(What::Html) => {
                lost(self);
                let body = "<!DOCTYPE html><html><head><title>Please sign in</title></head><body>proxy</body></html>";
                Delivery::Answer(Answer { content_type: "text/html", ..Answer::text(200, body) })
            }
        };
        Reply { after_ms, delivery }
    }

    /// Carries the call out and answers it, with no fault but a trick of listings.
    pub(crate) fn perform(&mut self, call: &Call, trick: Trick) -> Answer {
        let op = match Op::route(call.method, &call.path) {
            Ok(op) => op,
            Err(404) => return Answer::text(404, "404 page not found"),
            Err(status) => return Answer::text(status, "method not allowed"),
        };
        let (json, mut created) = (call.json(), None);
        let result = self.admit(call).and_then(|()| match op {
            Op::List => self.list(call, trick),
            Op::Jobs => self.list_jobs(call, trick),
            Op::Get => self.get_instance(call),
            Op::Products => self.list_products(call),
            Op::Clusters => Ok(self.list_clusters()),
            Op::Metrics => self.metrics(call),
            Op::Bills => self.bills(call),
            Op::Create => self.create_instance(&json).map(|(id, answer)| {
                created = Some(id);
                answer
            }),
            Op::BreakJob => self.break_job(&json),
            Op::Migrate | Op::Delete | Op::Start | Op::Stop | Op::Restart | Op::AutoMigrate => self.act(op, &json),
        });
        if op.is_write() {
            let subject = created.or_else(|| call.subject(op, &json)).unwrap_or_default();
            let outcome = match &result {
                Ok(_) => Outcome::Applied,
                Err(refusal) => Outcome::Refused(refusal.status, refusal.reason.clone().into_owned()),
            };
            self.record(op, &subject, outcome);
        }
        result.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// Key and rate.
    fn admit(&mut self, call: &Call) -> Result<(), Refusal> {
        if call.key.as_deref() != Some(&self.rules.key) {
            return Err(Refusal::new(401, "UNAUTHORIZED", "invalid token"));
        }
        let minute = self.now_ms().div_euclid(60_000);
        if self.minute.0 != minute {
            self.minute = (minute, 0);
        }
        self.minute.1 += 1;
        match self.rules.calls_per_minute {
            Some(limit) if self.minute.1 > limit => Err(Refusal::new(429, "RATE_LIMIT_EXCEEDED", "too many requests")),
            _ => Ok(()),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        let is_rate = refusal.status == 429;
        let mut answer = if refusal.is_not_found() {
            refusal.into_not_found(&self.rules.wire)
        } else {
            refusal.into_answer(self.rules.wire.errors)
        };
        if is_rate {
            let left = 60_000 - self.now_ms().rem_euclid(60_000);
            answer.retry_after = Some((left / 1000 + 1).to_string());
        }
        answer
    }
}

/// The reason that usually goes with a status (fact sheet, section 1.3).
fn usual_reason(code: u16) -> &'static str {
    match code {
        401 => "UNAUTHORIZED",
        403 => "FORBIDDEN",
        404 => "RESOURCE_NOT_FOUND",
        429 => "RATE_LIMIT_EXCEEDED",
        400..500 => "REQUEST",
        _ => "UNKNOWN",
    }
}

/// JSON that breaks off in the middle of a string.
fn malformed(body: &[u8]) -> Vec<u8> {
    let mut broken = body.get(..body.len() / 2).unwrap_or_default().to_vec();
    broken.extend_from_slice(b"{\"oops\": \"");
    broken
}
