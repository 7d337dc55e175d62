//! CloudWatch: how busy instances are and were (3.8).
//!
//! EC2 measures every five minutes, with detailed monitoring each minute; the checks and the agent each minute. The first
//! point is five minutes after a start, the newest one is two minutes old. Points stay readable after the end of their
//! instance, even when its row is gone. What nobody measures is an empty list, and no error.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::json::Document;
use crate::machine::Instance;
use crate::world::World;

const MINUTE_MS: i64 = 60_000;
/// From a start to its first point.
const FIRST_POINT_MS: i64 = 5 * MINUTE_MS;
/// How old the newest point is.
const LAG_MS: i64 = 2 * MINUTE_MS;
/// How busy a CPU is when nobody says.
const USUAL_CPU: f64 = 20.0;
const MOST_QUERIES: usize = 500;

/// When an instance ran, and how busy it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// From each start to its end, which is `None` while it lasts.
    spans: Vec<(i64, Option<i64>)>,
    /// When it was last running, after it had booted.
    pub(crate) running_ms: i64,
    /// How busy the CPU was from when on, where a test said so.
    cpu: Vec<(i64, f64)>,
    gpu: Vec<(i64, f64)>,
}

impl History {
    pub(crate) fn began(at: i64) -> Self {
        Self { spans: vec![(at, None)], running_ms: at, ..Self::default() }
    }

    pub(crate) fn starts(&mut self, at: i64) {
        self.spans.push((at, None));
    }

    /// It has booted.
    pub(crate) fn runs(&mut self, at: i64) {
        self.running_ms = at;
    }

    pub(crate) fn ends(&mut self, at: i64) {
        if let Some((_, end @ None)) = self.spans.last_mut() {
            *end = Some(at);
        }
    }

    /// How busy it was from the beginning.
    pub(crate) fn loads(&mut self, cpu: Option<f64>, gpu: Option<f64>) {
        self.cpu.extend(cpu.map(|percent| (i64::MIN, percent)));
        self.gpu.extend(gpu.map(|percent| (i64::MIN, percent)));
    }

    pub(crate) fn shift(&mut self, by: i64) {
        for (from, to) in &mut self.spans {
            *from += by;
            *to = to.map(|at| at + by);
        }
        self.running_ms += by;
        for (at, _) in self.cpu.iter_mut().chain(&mut self.gpu).filter(|(at, _)| *at != i64::MIN) {
            *at += by;
        }
    }
}

/// What was said about a moment.
fn said(changes: &[(i64, f64)], at: i64) -> Option<f64> {
    changes.iter().rev().find(|(from, _)| *from <= at).map(|(_, percent)| *percent)
}

/// A query, checked.
struct Query<'a> {
    id: &'a str,
    label: &'a str,
    namespace: &'a str,
    metric: &'a str,
    instance: Option<&'a str>,
    period_ms: i64,
    stat: Stat,
    unit: Option<&'a str>,
}

/// What is made of the points of a period.
#[derive(Clone, Copy)]
enum Stat {
    Average,
    Minimum,
    Maximum,
    Sum,
    SampleCount,
    Percentile(f64),
}

impl Stat {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Average" => Self::Average,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            "Sum" => Self::Sum,
            "SampleCount" => Self::SampleCount,
            _ => Self::Percentile(name.strip_prefix('p')?.parse().ok().filter(|rank| (0.0..=100.0).contains(rank))?),
        })
    }

    /// `points` has at least one.
    fn of(self, points: &mut [f64]) -> f64 {
        let count = u32::try_from(points.len()).map(f64::from).unwrap_or(f64::MAX);
        points.sort_by(f64::total_cmp);
        let at = |place: usize| points.get(place.min(points.len().saturating_sub(1))).copied().unwrap_or_default();
        match self {
            Self::Average => points.iter().sum::<f64>() / count,
            Self::Minimum => at(0),
            Self::Maximum => at(usize::MAX),
            Self::Sum => points.iter().sum(),
            Self::SampleCount => count,
            Self::Percentile(rank) => {
                let below = (1..points.len())
                    .filter(|place| f64::from(u32::try_from(*place).unwrap_or(0)) < rank / 100.0 * count);
                at(below.count())
            }
        }
    }
}

/// Where a page of GetMetricData begins: the query, the point in it, and the time that the listing is of.
#[derive(Clone, Copy)]
struct Cursor {
    query: usize,
    point: usize,
    now: i64,
}

impl Cursor {
    fn write(self, print: u64) -> String {
        BASE64_STANDARD.encode(format!("{}.{}.{}.{print:016x}", self.query, self.point, self.now))
    }

    fn read(token: &str, print: u64) -> Option<Self> {
        let text = String::from_utf8(BASE64_STANDARD.decode(token).ok()?).ok()?;
        let parts: Vec<_> = text.split('.').collect();
        let [query, point, now, told] = parts[..] else { return None };
        (told == format!("{print:016x}")).then_some(())?;
        Some(Self { query: query.parse().ok()?, point: point.parse().ok()?, now: now.parse().ok()? })
    }
}

impl World {
    /// How busy the CPU of an instance is from now on, in percent; whether there is such an instance.
    pub fn set_cpu(&mut self, id: &str, percent: f64) -> bool {
        let now = self.now;
        self.instance_mut(id).map(|instance| instance.history.cpu.push((now, percent))).is_some()
    }

    /// How busy its GPU is from now on, in percent, as its CloudWatch agent tells; whether there is such an instance.
    pub fn set_gpu_load(&mut self, id: &str, percent: f64) -> bool {
        let now = self.now;
        self.instance_mut(id).map(|instance| instance.history.gpu.push((now, percent))).is_some()
    }

    pub(crate) fn get_metric_data(&self, region: &str, document: &Document, form: &Form) -> Answer<String> {
        let seconds = |name: &str| {
            let seconds = document.value[name].as_f64();
            seconds.ok_or_else(|| invalid(format!("The parameter {name} is required.")))
        };
        let (start, end) = (millis(seconds("StartTime")?), millis(seconds("EndTime")?));
        if start >= end {
            return Err(invalid("The parameter EndTime must be greater than StartTime."));
        }
        let queries = read_queries(&document.value)?;
        let print = fingerprint(&form.fingerprint(&["NextToken"]));
        let mut at = match form.get("NextToken") {
            None => Cursor { query: 0, point: 0, now: self.now },
            Some(token) => {
                let message = "The next token specified is invalid.";
                Cursor::read(token, print).ok_or_else(|| ApiError::new("InvalidNextToken", message))?
            }
        };
        let asked = form.number("MaxDatapoints").and_then(|most| usize::try_from(most).ok());
        let mut left = asked.unwrap_or(usize::MAX).min(self.rules.metric_points_cap).max(1);
        let ascending = form.get("ScanBy") == Some("TimestampAscending");
        let (mut results, mut next) = (Vec::new(), None);
        for (place, query) in queries.iter().enumerate().skip(at.query) {
            if left == 0 {
                next = Some(Cursor { query: place, point: 0, now: at.now });
                break;
            }
            let mut points = self.points(region, at.now, query, (start, end));
            if !ascending {
                points.reverse();
            }
            let all = points.len();
            let points: Vec<_> = points.into_iter().skip(at.point).take(left).collect();
            let until = at.point + points.len();
            left -= points.len();
            at.point = 0;
            if until < all {
                next = Some(Cursor { query: place, point: until, now: at.now });
            }
            results.push(write(query, &points, next.is_some()));
            if next.is_some() {
                break;
            }
        }
        let mut answer = json!({"MetricDataResults": results, "Messages": []});
        if let Some(next) = next {
            answer["NextToken"] = next.write(print).into();
        }
        Ok(answer.to_string())
    }

    /// The points of a query, oldest first: when each period begins, and its value.
    fn points(&self, region: &str, now: i64, query: &Query<'_>, window: (i64, i64)) -> Vec<(i64, f64)> {
        let instance = query.instance.and_then(|id| self.instance(id));
        let Some(instance) = instance.filter(|instance| instance.region == region) else { return Vec::new() };
        let Some((step, unit, value)) = measured(instance, query) else { return Vec::new() };
        if query.unit.is_some_and(|wanted| wanted != unit) {
            return Vec::new();
        }
        let first = window.0 - window.0.rem_euclid(query.period_ms);
        let mut periods: Vec<(i64, Vec<f64>)> = Vec::new();
        for &(from, to) in &instance.history.spans {
            let from = (from + FIRST_POINT_MS).max(first);
            let to = to.unwrap_or(now).min(now - LAG_MS).min(window.1 - 1);
            let mut at = from + (-from).rem_euclid(step);
            while at <= to {
                let period = at - at.rem_euclid(query.period_ms);
                match periods.last_mut().filter(|(begins, _)| *begins == period) {
                    Some((_, values)) => values.push(value(at)),
                    None => periods.push((period, vec![value(at)])),
                }
                at += step;
            }
        }
        periods.into_iter().map(|(begins, mut values)| (begins, query.stat.of(&mut values))).collect()
    }
}

/// How often a metric is measured, its unit, and what it says at a time.
type Measured<'a> = (i64, &'static str, Box<dyn Fn(i64) -> f64 + 'a>);

fn measured<'a>(instance: &'a Instance, query: &Query<'_>) -> Option<Measured<'a>> {
    let History { cpu, gpu, .. } = &instance.history;
    Some(match (query.namespace, query.metric) {
        ("AWS/EC2", "CPUUtilization") => {
            let step = if instance.facts.monitoring { MINUTE_MS } else { 5 * MINUTE_MS };
            let usual = |at: i64| USUAL_CPU + spread(&instance.id, at);
            (step, "Percent", Box::new(move |at| said(cpu, at).unwrap_or_else(|| usual(at))))
        }
        ("AWS/EC2", "StatusCheckFailed" | "StatusCheckFailed_Instance" | "StatusCheckFailed_System") => {
            (MINUTE_MS, "Count", Box::new(|_| 0.0))
        }
        ("CWAgent", "nvidia_smi_utilization_gpu") if !gpu.is_empty() => {
            (MINUTE_MS, "None", Box::new(move |at| said(gpu, at).unwrap_or_default()))
        }
        _ => return None,
    })
}

/// Between -1 and 1, the same for the same instance and time.
fn spread(id: &str, at: i64) -> f64 {
    let hash = fingerprint(&format!("{id} {}", at / MINUTE_MS));
    f64::from(u32::try_from(hash % 2_001).unwrap_or_default()) / 1_000.0 - 1.0
}

fn read_queries(body: &Value) -> Answer<Vec<Query<'_>>> {
    let queries = body["MetricDataQueries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if queries.is_empty() {
        return Err(invalid("The parameter MetricDataQueries is required."));
    }
    if queries.len() > MOST_QUERIES {
        return Err(invalid(format!(
            "The collection MetricDataQueries must not have a size greater than {MOST_QUERIES}."
        )));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut read = Vec::new();
    for (place, query) in queries.iter().enumerate() {
        let at = format!("MetricDataQueries.member.{}", place + 1);
        let query = read_query(query, &at)?;
        if !seen.insert(query.id) {
            return Err(invalid(format!(
                "The values for parameter Id in MetricDataQueries are not unique: {}",
                query.id
            )));
        }
        read.push(query);
    }
    Ok(read)
}

fn read_query<'a>(query: &'a Value, at: &str) -> Answer<Query<'a>> {
    fn text<'a>(value: &'a Value, name: &str, at: &str) -> Answer<&'a str> {
        let text = value[name].as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| invalid(format!("The parameter {at}.{name} is required.")))
    }
    let id = text(query, "Id", at)?;
    let is_id = id.starts_with(|first: char| first.is_ascii_lowercase())
        && id.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !is_id {
        return Err(invalid(format!(
            "The value {id} for parameter {at}.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$."
        )));
    }
    if !query["Expression"].is_null() {
        return Err(invalid("There are no expressions here."));
    }
    let (stat, metric) = (&query["MetricStat"], &query["MetricStat"]["Metric"]);
    let within = format!("{at}.MetricStat");
    let period = stat["Period"].as_i64().unwrap_or_default();
    if period <= 0 || period % 60 != 0 || period > 86_400 {
        return Err(invalid(format!(
            "The parameter {within}.Period must be a value in the set [ 1, 5, 10, 20, 30 ], or any multiple of 60."
        )));
    }
    let name = text(stat, "Stat", &within)?;
    let stat_of = Stat::named(name)
        .ok_or_else(|| invalid(format!("The value {name} for parameter {within}.Stat is not supported.")))?;
    let within = format!("{within}.Metric");
    let name = text(metric, "MetricName", &within)?;
    let dimensions = metric["Dimensions"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Query {
        id,
        label: query["Label"].as_str().unwrap_or(name),
        namespace: text(metric, "Namespace", &within)?,
        metric: name,
        instance: match dimensions {
            [only] if only["Name"] == "InstanceId" => only["Value"].as_str(),
            _ => None,
        },
        period_ms: period * 1_000,
        stat: stat_of,
        unit: stat["Unit"].as_str(),
    })
}

fn write(query: &Query<'_>, points: &[(i64, f64)], is_partial: bool) -> Value {
    // With a fraction, as these services write times.
    let seconds = |ms: i64| (ms / 1_000) as f64;
    json!({
        "Id": query.id,
        "Label": query.label,
        "StatusCode": if is_partial { "PartialData" } else { "Complete" },
        "Timestamps": points.iter().map(|(at, _)| seconds(*at)).collect::<Vec<_>>(),
        "Values": points.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
    })
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("ValidationError", message)
}

#[expect(clippy::cast_possible_truncation, reason = "a cast of a float is bounded")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).clamp(-1e15, 1e15) as i64
}

/// A number that is always the same for a text (FNV-1a).
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
