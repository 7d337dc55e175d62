//! The metrics of one instance.

use serde_json::{Map, Value};

use super::{Text, decode};
use crate::core::rollout::metrics::{Metrics, Point};

/// More than the sum over the cores of any machine, in percent.
const MOST: f64 = 1_000_000.0;

/// Reads every series. What is missing, empty or not a number is left out.
pub(in crate::cloud::novita) fn metrics(body: &[u8]) -> Result<Metrics, String> {
    let Value::Object(fields) = decode(body)? else { return Err("JSON of an unknown shape".into()) };
    // Wrapped, as other responses may be.
    let fields = match fields.get("data") {
        Some(Value::Object(wrapped)) => wrapped,
        _ => &fields,
    };
    let gpu = fields.get("gpuUtilization");
    Ok(Metrics {
        cpu: series(fields.get("cpuUtilization")),
        memory: series(fields.get("memUtilization")),
        disk: series(fields.get("rootDiskUtilization")),
        gpu: series(gpu.and_then(|gpu| gpu.get("avg")).or(gpu)),
        unreported: None,
    })
}

fn series(value: Option<&Value>) -> Vec<Point> {
    let points = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut points: Vec<Point> = points.iter().filter_map(|point| self::point(point.as_object()?)).collect();
    points.sort_by_key(|point| point.at);
    points
}

fn point(point: &Map<String, Value>) -> Option<Point> {
    let at = Text::of(point.get("timestamp")?).moment()?;
    let value: f64 = Text::of(point.get("value")?).as_str().trim().parse().ok()?;
    // NaN is not in any range.
    if !(0.0..=MOST).contains(&value) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range above")]
    let value = (value * 100.0).round() as u32;
    Some(Point { at, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_strict_and_loose() {
        let body =
            br#"{"cpuUtilization":[{"timestamp":"1758000900","value":12.5},{"timestamp":"1758000000","value":400}],
            "memUtilization":[{"timestamp":1758000000,"value":"30.125"},{"timestamp":"1758000900","value":"NaN"},
                {"timestamp":"1758000900","value":-1},{"timestamp":"1758000900"},{"timestamp":"0","value":1},null,7,
                {"timestamp":"1758000900","value":"inf"},{"timestamp":"1758000900","value":null},{"value":3}],
            "rootDiskUtilization":null,
            "gpuUtilization":{"avg":[{"timestamp":"1758000000","value":40}],"gpuIds":[]}}"#;
        let read = metrics(body).expect("metrics");
        let values = |points: &[Point]| points.iter().map(|it| (it.at.as_secs(), it.value)).collect::<Vec<_>>();
        assert_eq!(values(&read.cpu), [(1_758_000_000, 40_000), (1_758_000_900, 1_250)], "in the order of time");
        assert_eq!(values(&read.memory), [(1_758_000_000, 3_013)]);
        assert_eq!(values(&read.disk), []);
        assert_eq!(values(&read.gpu), [(1_758_000_000, 4_000)]);
        let rows: [(&[u8], usize); 6] = [
            (b"{}", 0),
            (br#"{"gpuUtilization":{}}"#, 0),
            (br#"{"gpuUtilization":null,"cpuUtilization":{}}"#, 0),
            (br#"{"gpuUtilization":{"avg":null}}"#, 0),
            (br#"{"gpuUtilization":[{"timestamp":"1","value":0}]}"#, 1),
            (br#"{"data":{"gpuUtilization":{"avg":[{"timestamp":"1","value":"1e2"}]}}}"#, 1),
        ];
        for (body, points) in rows {
            assert_eq!(metrics(body).map(|it| it.gpu.len()), Ok(points), "{}", String::from_utf8_lossy(body));
        }
        for body in [b"".as_slice(), b"[]", b"7", b"<html>", b"{"] {
            assert!(metrics(body).is_err());
        }
    }
}
