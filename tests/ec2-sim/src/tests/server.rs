//! The server: signatures, faults on the wire, control calls.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::asking::first;
use crate::signature::authorization;
use crate::{ACCESS_KEY, Options, SECRET_KEY, Server, Spec, World};

struct Client<'a> {
    server: &'a Server,
    key: &'a str,
    secret: &'a str,
    token: Option<String>,
}

impl Client<'_> {
    fn call(&self, service: &str, body: &str) -> (u16, String) {
        let now = self.server.with(|world| world.now_ms());
        self.call_at(service, body, now)
    }

    fn call_at(&self, service: &str, body: &str, now: i64) -> (u16, String) {
        let content = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        self.send(service, &[content], "", body, now)
    }

    /// A call of a service that speaks JSON.
    fn call_json(&self, service: &str, target: &str, body: &str) -> (u16, String) {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        self.send(service, &headers, "", body, self.server.with(|world| world.now_ms()))
    }

    /// A call with these headers, and others that are not signed.
    fn send(&self, service: &str, own: &[(&str, &str)], unsigned: &str, body: &str, now: i64) -> (u16, String) {
        let stamp = crate::xml::time(now).replace([':', '-'], "").replace(".000", "");
        let mut headers =
            vec![("host".to_owned(), self.server.address().to_string()), ("x-amz-date".to_owned(), stamp)];
        headers.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        headers.extend(self.token.clone().map(|token| ("x-amz-security-token".to_owned(), token)));
        let signed = authorization(self.key, self.secret, "eu-west-1", service, &headers, body);
        headers.push(("authorization".to_owned(), signed));
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        post(self.server, "/", &format!("{headers}{unsigned}"), body)
    }
}

fn client(server: &Server) -> Client<'_> {
    Client { server, key: ACCESS_KEY, secret: SECRET_KEY, token: None }
}

/// The status, 0 for a cut connection, and the body.
fn post(server: &Server, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let length = body.len();
    let host = if headers.contains("host:") { "" } else { "host: x\r\n" };
    let head = format!("POST {path} HTTP/1.1\r\n{host}{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn sim(server: &Server, call: &str, body: &str) -> (u16, serde_json::Value) {
    let (status, text) = post(server, &format!("/sim/{call}"), "", body);
    (status, serde_json::from_str(&text).unwrap_or_default())
}

const LIST: &str = "Action=DescribeInstances&Version=2016-11-15";
const WHO: &str = "Action=GetCallerIdentity&Version=2011-06-15";

fn started() -> Server {
    let mut world = World::new(1);
    world.add(Spec::spot("worker-1"));
    Server::start(world, Options::default()).expect("a server")
}

#[test]
fn signed_calls_are_answered_and_others_are_not() {
    let server = started();
    let good = client(&server);
    assert_eq!(good.call("ec2", LIST).0, 200);
    assert_eq!(good.call("sts", WHO).0, 200);
    let verdict = |(status, body): (u16, String)| (status, first(&body, "Code").unwrap_or_default());
    let wrong = Client { secret: "wrong", ..client(&server) };
    assert_eq!(verdict(wrong.call("ec2", LIST)), (403, "SignatureDoesNotMatch".to_owned()));
    let unknown = Client { key: "AKIDOTHER", ..client(&server) };
    assert_eq!(verdict(unknown.call("ec2", LIST)), (401, "AuthFailure".to_owned()));
    assert_eq!(verdict(unknown.call("sts", WHO)), (403, "InvalidClientTokenId".to_owned()));
    assert_eq!(verdict(post(&server, "/", "", LIST)), (403, "MissingAuthenticationToken".to_owned()));
    let early = server.with(|world| world.now_ms()) - 16 * 60_000;
    assert_eq!(verdict(good.call_at("ec2", LIST, early)), (400, "RequestExpired".to_owned()));
}

#[test]
fn services_that_speak_json_are_told_apart_by_scope_and_target() {
    let server = started();
    let good = client(&server);
    let target = "GraniteServiceVersion20100801.GetMetricData";
    let query =
        r#"{"Id": "a", "MetricStat": {"Period": 60, "Stat": "Sum", "Metric": {"Namespace": "N", "MetricName": "M"}}}"#;
    let body = format!(r#"{{"StartTime": 1, "EndTime": 2, "MetricDataQueries": [{query}]}}"#);
    let (status, answer) = good.call_json("monitoring", target, &body);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#""MetricDataResults":[{"Id":"a","#), "{answer}");
    let kind = |(status, body): (u16, String)| {
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        (status, body["__type"].as_str().expect("a type").split_once('#').expect("a namespace").1.to_owned())
    };
    let wrong = Client { secret: "wrong", ..client(&server) };
    let unknown = Client { key: "AKIDOTHER", ..client(&server) };
    let now = server.with(|world| world.now_ms());
    let json = ("content-type", "application/x-amz-json-1.0");
    let unsigned = format!("x-amz-target: {target}\r\n");
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (answer, code) in [
        (wrong.call_json("monitoring", target, &body), "InvalidSignatureException"),
        (unknown.call_json("monitoring", target, &body), "UnrecognizedClientException"),
        (good.call_json("monitoring", "AWSPriceListService.GetProducts", &body), "UnknownOperationException"),
        (good.send("monitoring", &[json], &unsigned, &body, now), "InvalidSignatureException"),
        (good.send("monitoring", &[json], "", &body, now), "UnknownOperationException"),
        (good.send("monitoring", &[form, ("x-amz-target", target)], "", &body, now), "UnknownOperationException"),
        (good.send("monitoring", &[json, ("x-amz-target", target)], "", &body, 0), "InvalidSignatureException"),
        (good.call_json("monitoring", target, "{"), "SerializationException"),
    ] {
        assert_eq!(kind(answer), (400, code.to_owned()));
    }
    let actions = server.with(|world| world.log().iter().map(|entry| entry.action.clone()).collect::<Vec<_>>());
    assert_eq!(actions.len(), 9);
    assert_eq!(actions.iter().filter(|action| *action == "GetMetricData").count(), 6, "{actions:?}");
}

#[test]
fn both_clocks_count_after_an_advance() {
    let server = started();
    let real = server.with(|world| world.now_ms());
    server.advance(7_200_000);
    assert_eq!(client(&server).call("ec2", LIST).0, 200);
    assert_eq!(client(&server).call_at("ec2", LIST, real).0, 200);
    assert_eq!(client(&server).call_at("ec2", LIST, real + 3_600_000).0, 400);
}

#[test]
fn temporary_keys_work_with_their_token_until_they_end() {
    let server = started();
    let role = "RoleArn=arn:aws:iam::111122223333:role/respot&RoleSessionName=test";
    let form = format!("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&{role}&WebIdentityToken=jwt");
    let (status, body) = post(&server, "/", "", &form);
    assert_eq!(status, 200, "unsigned: {body}");
    let part = |name: &str| first(&body, name).expect("a part");
    let (key, secret) = (part("AccessKeyId"), part("SecretAccessKey"));
    let client = |token| Client { server: &server, key: &key, secret: &secret, token };
    assert_eq!(client(Some(part("SessionToken"))).call("ec2", LIST).0, 200);
    assert_eq!(client(None).call("ec2", LIST).0, 401);
    assert_eq!(client(Some("other".to_owned())).call("ec2", LIST).0, 401);
    assert_eq!(post(&server, "/", "", &form.replace("WithWebIdentity", "")).0, 403, "AssumeRole has to be signed");
    server.advance(3_600_001);
    let (status, body) = client(Some(part("SessionToken"))).call("ec2", LIST);
    assert_eq!((status, first(&body, "Code").as_deref()), (400, Some("RequestExpired")));
}

#[test]
fn faults_cut_the_connection() {
    let server = started();
    for (rule, status) in [("cut-before", 0), ("cut-after", 0), ("html", 502), ("empty", 200), ("delay=30", 200)] {
        assert_eq!(sim(&server, "fault", &format!("DescribeInstances:{rule}")).0, 200);
        assert_eq!(client(&server).call("ec2", LIST).0, status, "{rule}");
    }
    assert_eq!(client(&server).call("ec2", LIST).0, 200);
}

#[test]
fn control_calls_do_what_the_table_says() {
    let server = started();
    let id = server.with(|world| world.instances().next().expect("one").id.clone());
    let added =
        sim(&server, "add?name=web-1&lifecycle=on-demand&cpu=4&gpu-load=5.5&type=m5.large&zone=eu-west-1c", "").1;
    let web = added["id"].as_str().expect("an id");
    for (call, body, status) in [
        (format!("reclaim?id={id}"), "", 200),
        (format!("call-off-reclaim?id={id}"), "", 200),
        (format!("reclaim?id={web}"), "", 409),
        (format!("user-stops?id={web}"), "", 200),
        (format!("user-terminates?id={web}"), "", 200),
        (format!("shuts-down-inside?id={web}"), "", 409),
        ("reclaim-zone?zone=eu-west-1a".to_owned(), "", 200),
        ("advance?ms=140000".to_owned(), "", 200),
        ("advance?ms=soon".to_owned(), "", 400),
        ("advance".to_owned(), "", 400),
        ("room?type=g5.xlarge&zone=eu-west-1a&n=0".to_owned(), "", 200),
        ("room?type=m5.large&zone=eu-west-1a&n=3&market=on-demand".to_owned(), "", 200),
        ("room?type=g9.xlarge&zone=eu-west-1a&n=0".to_owned(), "", 400),
        ("price?type=g5.xlarge&zone=eu-west-1a&price=0.4012".to_owned(), "", 200),
        ("price?type=g5.xlarge&zone=eu-west-9a&price=0.4012".to_owned(), "", 400),
        ("on-demand-price?type=g5.xlarge&zone=eu-west-1a&price=2".to_owned(), "", 200),
        ("disrupt?zone=eu-west-1a".to_owned(), "", 200),
        ("restore?zone=eu-west-1a".to_owned(), "", 200),
        ("launch-dies?code=Server.InternalError".to_owned(), "", 200),
        ("fault".to_owned(), "RunInstances@1:cut-after", 200),
        ("fault".to_owned(), "RunInstances@0", 400),
        ("clear-faults".to_owned(), "", 200),
        (format!("cpu?id={web}&percent=12.5"), "", 200),
        (format!("cpu?id={web}&percent=much"), "", 400),
        ("gpu-load?id=i-1&percent=12.5".to_owned(), "", 409),
        ("target-group?name=web".to_owned(), "", 200),
        ("target-group?name=web&region=eu-west-9".to_owned(), "", 400),
        (format!("register?arn=arn:x&id={web}"), "", 409),
        ("unhealthy?id=i-1".to_owned(), "", 409),
        (format!("unhealthy?id={web}&is=maybe"), "", 400),
        (format!("protected?id={web}"), "", 200),
        (format!("protected?id={web}&from=stop&is=true"), "", 200),
        ("quota?market=on-demand&group=G&vcpus=8".to_owned(), "", 200),
        ("quota?market=any&group=G&vcpus=8".to_owned(), "", 400),
        ("target-log".to_owned(), "", 200),
        ("deny?action=StopInstances".to_owned(), "", 200),
        ("allow?action=StopInstances".to_owned(), "", 200),
        (format!("unlist?id={web}"), "", 200),
        ("explode".to_owned(), "", 404),
    ] {
        assert_eq!(sim(&server, &call, body).0, status, "{call}");
    }
    let state = sim(&server, "state", "").1;
    assert_eq!(state["instances"][0]["state"], "terminated");
    assert_eq!(state["instances"][0]["endedBy"], "reclaim");
    assert_eq!(state["instances"][1]["zone"], "eu-west-1c");
    assert_eq!(state["requests"][0]["code"], "instance-terminated-no-capacity");
    assert_eq!(state["targetGroups"][0]["name"], "web");
    assert_eq!(state["instances"][1]["stopProtected"], true);
    server.with(|world| {
        assert_eq!(world.home().spot_price("g5.xlarge", "eu-west-1a"), Some("0.4012"));
        assert_eq!(world.home().quota(crate::Lifecycle::OnDemand, "G"), 8);
        assert_eq!(world.home().room(crate::Lifecycle::OnDemand, "m5.large", "eu-west-1a"), Some(3));
        assert_eq!(world.home().room(crate::Lifecycle::Spot, "g5.xlarge", "eu-west-1a"), Some(0));
    });
    client(&server).call("ec2", LIST);
    assert_eq!(sim(&server, "log", "").1[0]["action"], "DescribeInstances");
}
