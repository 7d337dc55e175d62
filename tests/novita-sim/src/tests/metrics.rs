//! Tests of the metrics: which points there are, and what is in them.

use std::time::Duration;

use respot::cloud::transport::{Method, Request, Transport as _};
use serde_json::{Value, json};

use super::{call, get};
use crate::*;

const PATH: &str = "/v1/metrics/gpu/instance";

/// The world's first second.
const DAWN_S: i64 = DAWN_MS / 1_000;

/// Times from dawn on, and values.
fn points(series: &Value) -> Vec<(i64, f64)> {
    let rows = series.as_array().map(Vec::as_slice).unwrap_or_default();
    let time = |row: &Value| row["timestamp"].as_str().and_then(|text| text.parse::<i64>().ok()).expect("a time");
    rows.iter().map(|row| (time(row) - DAWN_S, row["value"].as_f64().expect("a value"))).collect()
}

fn times(series: &Value) -> Vec<i64> {
    points(series).into_iter().map(|(at, _)| at).collect()
}

#[test]
fn windows_and_intervals() {
    let at = |seconds: i64| Some((DAWN_S + seconds).to_string());
    let text = |text: &str| Some(text.to_owned());
    // An hour after dawn, of a machine that runs since ten minutes after it: start, end, interval; first, last, number.
    for (start, end, interval, expected) in [
        (None, None, None, Some((3_540, 3_540, 1))),
        (at(3_000), None, None, Some((3_000, 3_540, 37))),
        (at(3_000), None, text("60"), Some((3_000, 3_540, 10))),
        (at(3_000), None, text("16"), Some((3_000, 3_528, 34))),
        (at(3_001), at(3_100), text("30"), Some((3_001, 3_091, 4))),
        (at(3_000), at(3_060), None, Some((3_000, 3_060, 5))),
        // Not before it ran.
        (at(0), None, text("60"), Some((600, 3_540, 50))),
        (at(-7), None, text("60"), Some((653, 3_533, 49))),
        (text("1"), at(610), text("60"), Some((601, 601, 1))),
        (at(0), at(599), text("60"), None),
        // What makes no sense is replaced.
        (at(3_000), None, text("14"), Some((3_000, 3_540, 37))),
        (at(3_000), None, text("soon"), Some((3_000, 3_540, 37))),
        (at(3_000), at(3_601), None, Some((3_000, 3_540, 37))),
        (at(3_000), text("0"), None, Some((3_000, 3_540, 37))),
        (at(3_541), None, None, Some((3_540, 3_540, 1))),
        (at(3_000), at(3_059), None, Some((2_999, 3_059, 5))),
        (text("-5"), None, None, Some((3_540, 3_540, 1))),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec::running("x").started_ago_ms(-600_000));
        world.advance(3_600_000);
        let mut query = vec![("instanceId".to_owned(), id)];
        let asked = [("startTime", start), ("endTime", end), ("interval", interval)];
        query.extend(asked.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        let borrowed: Vec<_> = query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let seen = times(&get(&mut world, PATH, &borrowed)["memUtilization"]);
        let seen = seen.first().map(|first| (*first, *seen.last().expect("a last one"), seen.len()));
        assert_eq!(seen, expected, "{query:?}");
    }
}

#[test]
fn loads_have_shapes() {
    let burst = Load::Burst { idle: 5, peak: 95, every_ms: 60_000, for_ms: 15_000 };
    let variable = Load::Variable { low: 20, high: 80, period_ms: 60_000 };
    // Load; what the GPUs, the 32 cores, the memory and the disk have at the first five points, 15 s apart.
    for (load, gpu, cpu, memory, disk) in [
        (Load::Stable(40), [40.0; 5], 320.0, 30.0, 20.0),
        (Load::Stable(0), [0.0; 5], 0.0, 30.0, 20.0),
        (variable, [20.0, 50.0, 80.0, 50.0, 20.0], 160.0, 30.0, 20.0),
        (burst, [95.0, 5.0, 5.0, 5.0, 95.0], 760.0, 30.0, 20.0),
        (Load::Unhealthy { memory: 97, disk: 99 }, [40.0; 5], 320.0, 97.0, 99.0),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec::running("x").product("4090.16c62g", 2).load(load));
        let start = (DAWN_S - 120).to_string();
        let body = get(&mut world, PATH, &[("instanceId", &id), ("startTime", &start)]);
        let values = |series: &Value| points(series).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(values(&body["gpuUtilization"]["avg"]), gpu, "{load:?}");
        assert_eq!(body["gpuUtilization"]["gpuIds"][1], json!({"gpuId": "4", "items": body["gpuUtilization"]["avg"]}));
        assert_eq!(values(&body["gpuMemUtilization"]["avg"]), [50.0; 5]);
        assert_eq!(values(&body["cpuUtilization"])[0], cpu, "{load:?}");
        assert_eq!(values(&body["memUtilization"]), [memory; 5], "{load:?}");
        assert_eq!(values(&body["rootDiskUtilization"]), [disk; 5], "{load:?}");
    }
}

#[test]
fn there_may_be_no_figures() {
    let empty = json!({"cpuUtilization": [], "memUtilization": [], "rootDiskUtilization": [],
        "gpuUtilization": {"avg": [], "gpuIds": []}, "gpuMemUtilization": {"avg": [], "gpuIds": []}});
    for (spec, expected) in [
        (Spec::running("x").load(Load::None), &empty),
        (Spec::running("x").load(Load::Missing), &json!({})),
        (Spec::exited("x"), &empty),
        (Spec::running("x").started_ago_ms(59_000), &empty),
    ] {
        let mut world = World::new(1);
        let id = world.add(spec);
        assert_eq!(get(&mut world, PATH, &[("instanceId", &id)]), *expected);
    }
    let mut world = World::new(1);
    assert_eq!(call(&mut world, Method::Get, PATH, &[], &Value::Null).0, 400);
    assert_eq!(call(&mut world, Method::Get, PATH, &[("instanceId", "unknown")], &Value::Null).0, 400);
    // What is created from the same image does the same.
    world.add(Spec::running("x").image("web:1").load(Load::Stable(70)));
    let body = json!({"name": "new", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 60, "imageUrl": "web:1",
        "kind": "gpu"});
    call(&mut world, Method::Post, "/v1/gpu/instance/create", &[], &body);
    assert_eq!(world.named("new").next().map(|machine| machine.load), Some(Load::Stable(70)));
}

#[tokio::test(start_paused = true)]
async fn both_paths_lead_to_metrics_in_process() {
    let mut world = World::new(1);
    let id = world.add(Spec::running("x"));
    let provider = InProcess::new(world);
    for path in [PATH, "/openapi/v1/metrics/gpu/instance"] {
        let query = vec![("instanceId", id.clone())];
        let timeout = Duration::from_secs(30);
        let request = Request { method: Method::Get, path, query, body: None, timeout };
        assert_eq!(provider.exchange(&request).await.expect("an answer").status, 200, "{path}");
    }
    assert_eq!(provider.world().calls(Op::Metrics), 2);
}
