//! GetMetricData (3.8).

use serde_json::{Value, json};

use super::asking::{ask_json, refused_json};
use crate::{DAWN_MS, Spec, World};

const NOW: i64 = DAWN_MS / 1_000;

fn query(namespace: &str, metric: &str, id: &str, period: i64) -> Value {
    json!({"Id": "q1", "MetricStat": {
        "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": [{"Name": "InstanceId", "Value": id}]},
        "Period": period, "Stat": "Average",
    }})
}

fn over(from: i64, to: i64, queries: &[Value]) -> Value {
    json!({"StartTime": from, "EndTime": to, "MetricDataQueries": queries})
}

/// The times before or after the dawn in seconds, and the values, of the only query.
fn points(world: &mut World, body: &Value) -> (Vec<i64>, Vec<f64>) {
    let (status, answer) = ask_json(world, "monitoring", "GetMetricData", body);
    assert_eq!(status, 200, "{answer}");
    assert!(answer["Messages"].as_array().expect("messages").is_empty());
    let result = &answer["MetricDataResults"][0];
    assert_eq!((&result["Id"], &result["StatusCode"]), (&json!("q1"), &json!("Complete")));
    let numbers = |name: &str| -> Vec<f64> {
        result[name].as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
    };
    let exact = |seconds: f64| seconds.to_string().parse::<i64>().expect("whole seconds") - NOW;
    (numbers("Timestamps").into_iter().map(exact).collect(), numbers("Values"))
}

#[test]
fn a_point_comes_each_period_from_five_minutes_after_the_start_to_two_before_now() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a").started_ms_ago(1_800_000));
    let detailed = world.add(Spec::spot("b").started_ms_ago(900_000).monitored().cpu(71.5));
    for (id, period, from, wanted) in [
        (&id, 300, -7_200, vec![-300, -600, -900, -1_200, -1_500]),
        (&id, 60, -7_200, vec![-300, -600, -900, -1_200, -1_500]),
        (&id, 600, -1_000, vec![-600, -1_200]),
        (&id, 3_600, -7_200, vec![-3_600]),
        (&detailed, 60, -7_200, vec![-120, -180, -240, -300, -360, -420, -480, -540, -600]),
        (&detailed, 300, -7_200, vec![-300, -600]),
    ] {
        let body = over(NOW + from, NOW, &[query("AWS/EC2", "CPUUtilization", id, period)]);
        let (times, values) = points(&mut world, &body);
        assert_eq!(times, wanted, "{period} from {from}");
        assert_eq!(values.len(), times.len());
        if *id == detailed {
            assert!(values.iter().all(|value| *value == 71.5));
        } else {
            assert!(values.iter().all(|value| (19.0..=21.0).contains(value)), "{values:?}");
        }
        assert_eq!(points(&mut world, &body).1, values, "the same once more");
    }
}

#[test]
fn values_change_from_now_on_and_end_with_the_instance() {
    let mut world = World::new(1);
    let id = world.add(Spec::on_demand("a").started_ms_ago(1_200_000).cpu(10.0).gpu_load(97.0));
    world.set_cpu(&id, 90.0);
    world.advance(900_000);
    let cpu = [query("AWS/EC2", "CPUUtilization", &id, 300)];
    let all = over(NOW - 3_600, NOW + 36_000, &cpu);
    assert_eq!(
        points(&mut world, &all),
        (vec![600, 300, 0, -300, -600, -900], vec![90.0, 90.0, 90.0, 10.0, 10.0, 10.0])
    );
    let mut highest = over(NOW - 3_600, NOW + 36_000, &[query("AWS/EC2", "CPUUtilization", &id, 1_200)]);
    highest["MetricDataQueries"][0]["MetricStat"]["Stat"] = "Maximum".into();
    assert_eq!(points(&mut world, &highest), (vec![0, -1_200], vec![90.0, 10.0]));
    let mut upwards = all.clone();
    upwards["ScanBy"] = "TimestampAscending".into();
    assert_eq!(points(&mut world, &upwards).0, [-900, -600, -300, 0, 300, 600]);
    let until_300 = over(NOW - 300, NOW + 300, &cpu);
    assert_eq!(points(&mut world, &until_300).0, [0, -300], "the end is exclusive");
    world.user_stops(&id);
    world.advance(3_600_000);
    assert_eq!(points(&mut world, &all).0.first(), Some(&900), "nothing is measured while it is stopped");
    let by_id = format!("Action=StartInstances&Version=2016-11-15&InstanceId.1={id}");
    assert_eq!(world.call("eu-west-1", "ec2", &by_id).status, 200);
    world.advance(900_000);
    assert_eq!(points(&mut world, &all).0[..4], [5_100, 4_800, 900, 600]);
    world.user_terminates(&id);
    world.advance(8 * 3_600_000);
    assert_eq!(points(&mut world, &all).0[0], 5_400, "it stays readable");
    let gpu = [query("CWAgent", "nvidia_smi_utilization_gpu", &id, 300)];
    assert_eq!(points(&mut world, &over(NOW, NOW + 301, &gpu)), (vec![300, 0], vec![97.0, 97.0]));
    let checks = [query("AWS/EC2", "StatusCheckFailed", &id, 300)];
    assert_eq!(points(&mut world, &over(NOW, NOW + 301, &checks)).1, [0.0, 0.0]);
}

#[test]
fn what_nobody_measures_is_empty() {
    let mut world = World::new(1);
    world.add_region("us-east-1");
    let id = world.add(Spec::spot("a"));
    let there = world.add(Spec::spot("b").zone("us-east-1a"));
    let mut two = query("AWS/EC2", "CPUUtilization", &id, 300);
    let dimensions = two["MetricStat"]["Metric"]["Dimensions"].as_array_mut().expect("a list");
    dimensions.push(json!({"Name": "ImageId", "Value": "ami-1"}));
    let mut bytes = query("AWS/EC2", "CPUUtilization", &id, 300);
    bytes["MetricStat"]["Unit"] = "Bytes".into();
    for query in [
        query("AWS/Usage", "ResourceCount", &id, 300),
        query("AWS/EC2", "MemoryUtilization", &id, 300),
        query("CWAgent", "nvidia_smi_utilization_gpu", &id, 300),
        query("AWS/EC2", "CPUUtilization", "i-0123456789abcdef0", 300),
        query("AWS/EC2", "CPUUtilization", &there, 300),
        two,
        bytes,
    ] {
        let body = over(NOW - 3_600, NOW, std::slice::from_ref(&query));
        assert_eq!(points(&mut world, &body), (vec![], vec![]), "{query}");
    }
    assert!(world.log().iter().all(|entry| entry.action == "GetMetricData" && !entry.took_effect));
    assert_eq!(world.log()[0].get("MetricDataQueries.1.MetricStat.Metric.Dimensions.1.Value"), Some(id.as_str()));
}

#[test]
fn long_answers_come_in_pages() {
    let mut world = World::new(1);
    let ids: Vec<_> = ["a", "b", "c"].map(|name| world.add(Spec::spot(name))).into();
    world.rules.metric_points_cap = 7;
    let queries = ids.iter().enumerate().map(|(place, id)| {
        let mut query = query("AWS/EC2", "CPUUtilization", id, 300);
        query["Id"] = format!("q{place}").into();
        query
    });
    let queries: Vec<_> = queries.collect();
    let mut body = over(NOW - 7_200, NOW, &queries);
    let mut seen = Vec::new();
    loop {
        let (status, answer) = ask_json(&mut world, "monitoring", "GetMetricData", &body);
        assert_eq!(status, 200, "{answer}");
        for result in answer["MetricDataResults"].as_array().expect("results") {
            let count = result["Values"].as_array().expect("values").len();
            seen.push((result["Id"].as_str().expect("an id").to_owned(), count, result["StatusCode"] == "Complete"));
        }
        let Some(token) = answer["NextToken"].as_str() else { break };
        body["NextToken"] = token.into();
        world.advance(600_000);
    }
    let row = |id: &str, count, is_complete| (id.to_owned(), count, is_complete);
    assert_eq!(
        seen,
        [
            row("q0", 7, false),
            row("q0", 4, true),
            row("q1", 3, false),
            row("q1", 7, false),
            row("q1", 1, true),
            row("q2", 6, false),
            row("q2", 5, true)
        ]
    );
    body["EndTime"] = NOW.into();
    body["StartTime"] = (NOW - 60).into();
    assert_eq!(refused_json(&mut world, "monitoring", "GetMetricData", &body), "InvalidNextToken");
}

#[test]
fn what_is_wrong_is_refused() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    let good = query("AWS/EC2", "CPUUtilization", &id, 300);
    let with = |name: &str, value: Value| {
        let mut query = good.clone();
        *query.pointer_mut(name).expect("a member") = value;
        over(NOW - 3_600, NOW, &[query])
    };
    let many = (0..501).map(|number| {
        let mut query = good.clone();
        query["Id"] = format!("q{number}").into();
        query
    });
    let many: Vec<_> = many.collect();
    for (body, code) in [
        (json!({}), "ValidationError"),
        (json!("text"), "SerializationException"),
        (over(NOW, NOW, std::slice::from_ref(&good)), "ValidationError"),
        (over(NOW - 60, NOW, &[]), "ValidationError"),
        (over(NOW - 60, NOW, &[good.clone(), good.clone()]), "ValidationError"),
        (over(NOW - 60, NOW, &many), "ValidationError"),
        (with("/Id", json!("Q1")), "ValidationError"),
        (with("/MetricStat/Period", json!(61)), "ValidationError"),
        (with("/MetricStat/Period", json!("300")), "SerializationException"),
        (with("/MetricStat/Stat", json!("Mean")), "ValidationError"),
        (with("/MetricStat/Metric/MetricName", json!("")), "ValidationError"),
        (with("/MetricStat/Metric/Dimensions/0", json!({"name": "InstanceId"})), "SerializationException"),
        (
            json!({"StartTime": "2026-01-15T11:00:00Z", "EndTime": NOW, "MetricDataQueries": [good]}),
            "SerializationException",
        ),
    ] {
        assert_eq!(refused_json(&mut world, "monitoring", "GetMetricData", &body), code, "{body}");
    }
    assert_eq!(ask_json(&mut world, "monitoring", "GetMetricData", &over(NOW - 60, NOW, &many[1..])).0, 200);
    let fine = over(NOW - 60, NOW, &[good]);
    assert_eq!(refused_json(&mut world, "monitoring", "GetMetric", &fine), "UnknownOperationException");
    let elsewhere = world.call_json("eu-west-9", "monitoring", "GetMetricData", &fine.to_string());
    assert_eq!((elsewhere.status, elsewhere.error_type.as_deref()), (400, Some("UnrecognizedClientException")));
    world.deny("GetMetricData");
    assert_eq!(refused_json(&mut world, "monitoring", "GetMetricData", &fine), "AccessDeniedException");
    world.allow("GetMetricData");
    world.fault("GetMetricData@1:code=ThrottlingException".parse().expect("a rule"));
    let reply = world.call_json("eu-west-1", "monitoring", "GetMetricData", &fine.to_string());
    assert_eq!((reply.status, reply.error_type.as_deref()), (400, Some("ThrottlingException")));
    assert!(reply.body.contains("\"__type\":\"com.amazon.coral.service#ThrottlingException\""), "{}", reply.body);
    assert_eq!(reply.content_type, "application/x-amz-json-1.0");
    world.rules.throttle = Some(crate::Throttle::documented());
    for _ in 0..100 {
        assert_eq!(ask_json(&mut world, "monitoring", "GetMetricData", &fine).0, 200);
    }
    assert_eq!(refused_json(&mut world, "monitoring", "GetMetricData", &fine), "ThrottlingException");
}
