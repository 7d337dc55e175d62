//! Tests of the applications on the machines: what they answer, when, and behind which endpoint.

use std::time::Duration;

use respot::cloud::transport::Method;
use respot::core::world::probe::{Endpoint, Probe};
use respot::measure::{ProbeOutcome, ProbeSample, ProbeTarget, Prober as _};
use serde_json::{Value, json};

use super::{act, call, get};
use crate::*;

fn app(script: &str) -> App {
    script.parse().unwrap_or_else(|error| panic!("{script}: {error}"))
}

/// What so many samples bring: microseconds, or a word for what went wrong.
fn samples(world: &mut World, id: &str, port: u16, count: usize) -> Vec<String> {
    let address = world.endpoint(id, port).unwrap_or_default();
    let sample = |_| {
        let Knock { took_us, said } = world.knock(&address, AppKind::Http);
        match said {
            Said::Fine => took_us.to_string(),
            Said::Failed => format!("failed after {took_us}"),
            other => format!("{other:?}"),
        }
    };
    (0..count).map(sample).collect()
}

fn median(mut took: Vec<u64>) -> u64 {
    took.sort_unstable();
    took[(took.len() - 1) / 2]
}

#[test]
fn scripts_are_followed_to_the_microsecond() {
    // Script, billing mode of the machine, so many of ten others that are spot; what the first samples bring.
    for (script, billing, moved, expected) in [
        ("http:8080 base=20ms", "onDemand", 0, &["20000", "20000", "20000"][..]),
        ("http:8080 base=20ms", "spot", 0, &["20000", "20000", "20000"]),
        ("http:8080 base=20ms jitter=1ms", "spot", 0, &["19000", "20000", "21000", "19000"]),
        ("http:8080 base=1ms jitter=2ms", "spot", 0, &["0", "1000", "3000"]),
        ("http:8080 base=70ms spot=74990us", "onDemand", 0, &["70000"]),
        ("http:8080 base=70ms spot=74990us", "spot", 0, &["74990"]),
        ("http:8080 base=70ms spot=75010us jitter=10us", "spot", 0, &["75000", "75010", "75020"]),
        ("http:8080 base=70ms spot=+7.1428%", "spot", 0, &["74999"]),
        ("http:8080 base=70ms spot=-50%", "spot", 0, &["35000"]),
        ("http:8080 base=70ms all=+10% spot=+10%", "onDemand", 0, &["77000"]),
        ("http:8080 base=70ms all=+10% spot=+10%", "spot", 0, &["84700"]),
        ("http:8080 base=70ms all-errors=50% error-time=5us", "onDemand", 0, &["70000", "failed after 5", "70000"]),
        ("http:8080 base=7us errors=25%", "spot", 0, &["7", "7", "7", "failed after 7", "7"]),
        ("http:8080 base=7us jitter=1us errors=50%", "spot", 0, &["6", "failed after 7", "7", "failed after 7", "8"]),
        ("http:8080 base=7us errors=100% error-time=1us", "spot", 0, &["failed after 1", "failed after 1"]),
        ("http:8080 base=7us errors=25% spot-errors=0%", "spot", 0, &["7", "7", "7", "7"]),
        ("http:8080 base=7us spot-errors=100%", "onDemand", 0, &["7", "7"]),
        ("http:8080 base=7us hangs", "onDemand", 0, &["Nothing", "Nothing"]),
        ("http:8080 base=7us spot-hangs", "onDemand", 0, &["7"]),
        ("http:8080 base=7us spot-hangs", "spot", 0, &["Nothing"]),
        ("http:8080 base=7us spot-errors=100% when=moved>=50%", "spot", 4, &["7"]),
        ("http:8080 base=7us spot-errors=100% when=moved>=50%", "spot", 5, &["failed after 7"]),
        ("http:8080 base=7us all-errors=100% all-when=moved>=50%", "onDemand", 5, &["7"]),
        ("http:8080 base=7us all-errors=100% all-when=moved>50%", "onDemand", 6, &["failed after 7"]),
        ("http:8080 base=7us spot=8us when=sample>=2", "spot", 0, &["7", "7", "8", "8"]),
        ("http:8080 base=7us spot=8us when=sample>=1,sample<2", "spot", 0, &["7", "8", "7"]),
        ("http:8080 base=7us spot=8us when=up>=24h", "spot", 0, &["8"]),
        ("http:8080 base=7us spot=8us when=up>24h", "spot", 0, &["7"]),
        ("http:8080 base=7us spot=8us when=time>=1768478400000", "spot", 0, &["8"]),
        ("http:8080 base=7us spot=8us when=time<1768478400000", "spot", 0, &["7"]),
        ("http:8080 base=7us boot=24h", "spot", 0, &["7"]),
        ("http:8080 base=7us boot=86400001ms", "spot", 0, &["Refused"]),
        ("http:9090 base=7us", "spot", 0, &["Refused"]),
        ("tcp:8080 base=7us", "spot", 0, &["Closed"]),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec::running("x").billing(billing).app(app(script)));
        for number in 0..10 {
            let billing = if number < moved { "spot" } else { "onDemand" };
            world.add(Spec::running("other").billing(billing).image("other"));
        }
        for (status, billing) in [("exited", "spot"), ("running", "monthly"), ("running", "")] {
            world.add(Spec::running("no matter").billing(billing).status(status).image("other"));
        }
        assert_eq!(samples(&mut world, &id, 8080, expected.len()), expected, "{script} on {billing}, {moved} moved");
    }
}

#[test]
fn what_a_measurement_brings_is_exact() {
    // Script, samples; the median of the good ones, and how many are bad: of a spot machine, measured twice.
    for (script, samples, median_us, bad) in [
        ("http:8080 base=20ms jitter=5ms", 5, 20_000, 0),
        ("http:8080 base=20ms jitter=5ms", 30, 20_000, 0),
        ("http:8080 base=20ms jitter=5ms errors=1%", 100, 20_000, 1),
        ("http:8080 base=20ms jitter=5ms errors=1% spot-errors=2%", 100, 20_000, 2),
        ("http:8080 base=20ms jitter=5ms errors=3%", 100, 20_000, 3),
        ("http:8080 base=20ms jitter=5ms errors=50%", 100, 20_000, 50),
        ("http:8080 base=20ms jitter=5ms errors=33.33%", 10_000, 20_000, 3_333),
        ("http:8080 base=20ms jitter=5ms errors=0.01%", 10_000, 20_000, 1),
        ("http:8080 base=20ms jitter=5ms spot=+3%", 100, 20_600, 0),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec::running("x").app(app(script)));
        let address = world.endpoint(&id, 8080).expect("an endpoint");
        for time in 1..=2 {
            let knocks: Vec<_> = (0..samples).map(|_| world.knock(&address, AppKind::Http)).collect();
            let good = knocks.iter().filter(|knock| knock.said == Said::Fine).map(|knock| knock.took_us);
            assert_eq!(median(good.collect()), median_us, "{script}, time {time}");
            assert_eq!(knocks.iter().filter(|knock| knock.said == Said::Failed).count(), bad, "{script}, time {time}");
        }
    }
    // A loss of 0.7 of the change that is just below, at and above 5 %.
    for (spot_us, loss) in [(74_990, 499), (75_000, 500), (75_010, 501)] {
        let slower = App::http(8080).base_us(70_000).spot(Change::to_us(spot_us));
        let mut world = World::new(1);
        let id = world.add(Spec::running("x").app(slower));
        let took = samples(&mut world, &id, 8080, 1)[0].parse::<u64>().expect("a good one");
        assert_eq!((took - 70_000) * 7_000, loss * 70_000);
    }
}

#[test]
fn scripts_read_back_as_written() {
    for text in [
        "http:8080 base=20ms",
        "tcp:22 base=0us",
        "http:8080 base=20ms jitter=1ms errors=1% boot=30s spot=+3% spot-errors=2% when=moved>=50%",
        "http:1 base=1500us errors=0.01% error-time=1ms hangs",
        "http:1 base=20ms spot=-0.0001%",
        "http:1 base=20ms spot=74990us spot-hangs when=up>=10m,time<1768478400000,sample>5",
        "http:1 base=20ms all=+7.1428% all-errors=100% all-hangs all-when=moved<5% spot-errors=0%",
        "http:1 base=1h boot=90s",
    ] {
        assert_eq!(app(text).to_string(), text);
    }
    let built = App::http(8080)
        .base_us(20_000)
        .jitter_us(1_000)
        .errors(100)
        .error_us(2_000)
        .boot_ms(30_000)
        .all(Change::hangs().when(Condition::before_ms(5)))
        .spot(
            Change::slower_ppm(30_000)
                .and_errors(200)
                .when(Condition::moved_above(50))
                .when(Condition::moved_at_least(51))
                .when(Condition::from_ms(7))
                .when(Condition::up_for_ms(600_000))
                .when(Condition::after_samples(50)),
        );
    let text = "http:8080 base=20ms jitter=1ms errors=1% error-time=2ms boot=30s all-hangs all-when=time<5 spot=+3% \
                spot-errors=2% when=moved>50%,moved>=51%,time>=7,up>=10m,sample>=50";
    assert_eq!((built.to_string().as_str(), app(text)), (text, built));
    assert_eq!(app(" http:80  spot-errors=2%\n"), App::http(80).spot(Change::errors(200)));
}

#[test]
fn errors_name_the_bad_part() {
    for (text, part) in [
        ("", "\"\" is no"),
        ("http", "\"http\""),
        ("udp:53", "\"udp\""),
        ("http:0", "\"http:0\""),
        ("http:x", "\"http:x\""),
        ("http:80 colour=red", "\"colour=red\""),
        ("http:80 spot-colour=red", "\"spot-colour=red\""),
        ("http:80 spotty=1%", "\"spotty=1%\""),
        ("http:80 base=20", "\"20\" is no time"),
        ("http:80 base=-1ms", "\"-1ms\" is no time"),
        ("http:80 base=99999999999999h", "is no time"),
        ("http:80 boot=1500us", "whole number of milliseconds"),
        ("http:80 errors=5", "\"5\" is no share"),
        ("http:80 errors=101%", "\"101%\""),
        ("http:80 errors=0.001%", "\"0.001%\""),
        ("http:80 errors=.5%", "\".5%\""),
        ("http:80 errors=-1%", "\"-1%\""),
        ("http:80 spot=3%", "\"3%\""),
        ("http:80 spot=-101%", "\"-101%\""),
        ("http:80 spot=+1.00001%", "\"+1.00001%\""),
        ("http:80 spot", "\"\" is neither"),
        ("http:80 hangs=1", "\"hangs=1\""),
        ("http:80 spot-hangs=1", "\"spot-hangs=1\""),
        ("http:80 when=moved>=50%", "when without"),
        ("http:80 spot=+1% all-when=moved>=50%", "all-when without"),
        ("http:80 spot=+1% when=moved>=50", "\"moved>=50\""),
        ("http:80 spot=+1% when=moved>=101%", "\"moved>=101%\""),
        ("http:80 spot=+1% when=luck>5", "\"luck>5\""),
        ("http:80 spot=+1% when=moved=5%", "\"moved=5%\""),
        ("http:80 spot=+1% when=up>5", "\"5\" is no time"),
        ("http:80 spot=+1% when=", "\"\" is no condition"),
    ] {
        let error = text.parse::<App>().expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn an_application_is_part_of_the_image() {
    let mut world = World::new(1);
    let spec = Spec::running("web").image("web:1").app(App::http(8080)).app(App::tcp(22)).app(App::http(9090));
    let web = world.add(spec.clone().billing("onDemand"));
    let other = world.add(Spec::running("other"));
    let body = json!({"name": "new", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 60, "imageUrl": "web:1",
        "kind": "gpu", "billingMode": "spot", "ports": "9090/http,8080/http"});
    assert_eq!(call(&mut world, Method::Post, "/v1/gpu/instance/create", &[], &body).0, 200);
    let new = world.named("new").next().expect("it is there").id.clone();
    let shown = |world: &mut World, id: &str| -> Vec<(Value, Value)> {
        let rows = get(world, "/v1/gpu/instances", &[("name", id)])["instances"].clone();
        let one = get(world, "/v1/gpu/instance", &[("instanceId", id)]);
        assert_eq!(rows[0].get("portMappings").unwrap_or(&one["portMappings"]), &one["portMappings"]);
        let ports = one["portMappings"].as_array().cloned().unwrap_or_default();
        ports.into_iter().map(|it| (it["port"].clone(), it["endpoint"].clone())).collect()
    };
    let at = |id: &str, place: u16| json!(format!("{id}.pods.example:{}", 20_000 + place));
    let ports: [(Value, Value); 3] = [(json!(8080), at(&web, 0)), (json!(22), at(&web, 1)), (json!(9090), at(&web, 2))];
    assert_eq!(shown(&mut world, &web), ports);
    assert_eq!(shown(&mut world, &other), [(json!(8080), json!("host.example:30080"))]);
    assert_eq!(samples(&mut world, &new, 8080, 1), ["Refused"], "not yet");
    world.advance(60_000);
    assert_eq!(shown(&mut world, &new), [(json!(9090), at(&new, 0)), (json!(8080), at(&new, 1))]);
    for (port, expected) in [(8080, "20000"), (9090, "20000"), (22, "Refused")] {
        assert_eq!(samples(&mut world, &new, port, 1), [expected], "{port}");
    }
    // A row that is written already follows.
    world.set_app("registry.example/team/app:1.4", App::http(8080));
    assert_eq!(shown(&mut world, &other), [(json!(8080), at(&other, 0))]);
    world.rules_mut().wire.endpoint_urls = true;
    let url = get(&mut world, "/v1/gpu/instance", &[("instanceId", &other)])["portMappings"][0]["endpoint"].clone();
    assert_eq!(url, json!(format!("http://{other}.pods.example:20000")));
    assert_eq!(samples(&mut world, &other, 8080, 1), ["20000"], "by its address with http://");
    world.remove_apps("web:1");
    assert_eq!(samples(&mut world, &new, 8080, 1), ["Refused"]);
    world.add(spec);
    assert_eq!(world.apps_of("web:1").count(), 3);
}

#[test]
#[should_panic(expected = "another application on port 8080")]
fn two_applications_on_one_port_need_two_images() {
    let mut world = World::new(1);
    world.add(Spec::running("a").app(App::http(8080)));
    world.add(Spec::running("b").app(App::http(8080).errors(1)));
}

#[test]
fn an_application_is_there_while_its_machine_runs() {
    let mut world = World::new(1);
    let id = world.add(Spec::running("x").billing("onDemand").app(App::http(8080).boot_ms(10_000)));
    let address = world.endpoint(&id, 8080).expect("an endpoint");
    let is_up = |world: &mut World| world.knock(&address, AppKind::Http).said == Said::Fine;
    assert!(is_up(&mut world));
    act(&mut world, "stop", &id);
    assert!(!is_up(&mut world));
    world.advance(60_000);
    act(&mut world, "start", &id);
    // It is running after 6 s, and boots for 10 s more.
    for (passed, up) in [(6_000, false), (9_999, false), (1, true)] {
        world.advance(passed);
        assert_eq!(is_up(&mut world), up, "{passed}");
    }
    assert!(world.reclaim_now(&id));
    assert!(!is_up(&mut world));
    world.vanish(&id);
    assert!(!is_up(&mut world));
    assert_eq!((world.endpoint(&id, 8080), world.app_behind(&address)), (None, None));
}

fn endpoint(port: u16, address: &str) -> Endpoint {
    Endpoint { port, kind: String::new(), address: address.into() }
}

#[tokio::test(start_paused = true)]
async fn samples_in_process() {
    let ms = Duration::from_millis;
    let mut world = World::new(1);
    let spec = |name: &str, script: &str| Spec::running(name).image(name).app(app(script));
    let web = world.add(spec("web", "http:8080 base=74990us").app(App::tcp(22).base_us(300)));
    let bad = world.add(spec("bad", "http:8080 errors=100% error-time=1ms").app(App::tcp(22).errors(10_000)));
    let slow = world.add(spec("slow", "http:8080 base=5001ms"));
    let hung = world.add(spec("hung", "http:8080 hangs").app(App::tcp(22).hangs()));
    let down = world.add(spec("down", "http:8080").status("exited"));
    let of = |world: &World, id: &str, port| world.endpoint(id, port).expect("an endpoint");
    let ends = |id: &str| [8080, 22].map(|port| endpoint(port, &world.endpoint(id, port).unwrap_or_default()));
    let [web_ends, bad_ends, slow_ends, hung_ends, down_ends] = [&web, &bad, &slow, &hung, &down].map(|id| ends(id));
    let wrong = [endpoint(8080, &of(&world, &bad, 8080))];
    let late = ms(5_000);
    let provider = InProcess::new(world);
    // Probe, endpoints; how long, what went wrong.
    for (probe, endpoints, took, error) in [
        ("http:8080/health", &web_ends[..], Duration::from_micros(74_990), ""),
        ("tcp:8080", &web_ends, Duration::from_micros(74_990), ""),
        ("tcp:22", &web_ends, Duration::from_micros(300), ""),
        ("http:22", &web_ends, ms(0), "connection closed"),
        ("http:80", &web_ends, ms(0), "no endpoint for port 80"),
        ("exec:check", &web_ends, Duration::from_micros(74_990), ""),
        ("exec:check", &web_ends[1..], Duration::from_micros(300), ""),
        ("exec:check", &[], ms(0), "no endpoint is reachable"),
        ("http:8080", &bad_ends, ms(1), "status 500"),
        ("tcp:22", &bad_ends, ms(20), "failed"),
        ("http:8080", &wrong, ms(1), "status 500"),
        ("http:8080", &slow_ends, late, "no answer within 5s"),
        ("http:8080", &hung_ends, late, "no answer within 5s"),
        ("tcp:22", &hung_ends, late, "no answer within 5s"),
        ("http:8080", &down_ends, ms(0), "connection refused"),
        ("http:8080", &[endpoint(8080, "host.example:30080")], ms(0), "connection refused"),
    ] {
        let before = tokio::time::Instant::now();
        let probe = Probe::parse(probe).expect(probe);
        // The id and the name are another machine's: only the endpoint counts.
        let sample = provider.sample(&probe, ProbeTarget { id: &down, name: "down", endpoints }).await;
        let outcome = match error {
            "" => ProbeOutcome::Good,
            why if why.contains("no endpoint") => ProbeOutcome::Untaken(why.into()),
            why => ProbeOutcome::Bad(why.into()),
        };
        let expected = ProbeSample { took, outcome };
        assert_eq!(sample, expected, "{probe} {endpoints:?}");
        let passed = before.elapsed();
        assert!(passed >= took && passed <= took + ms(1), "{probe}: {passed:?}");
    }
    let patient = provider.clone().sample_timeout(ms(6_000));
    let probe = Probe::Http { port: 8080, path: "/".into() };
    let target = ProbeTarget { id: "", name: "", endpoints: &slow_ends };
    assert_eq!(patient.sample(&probe, target).await, ProbeSample { took: ms(5_001), outcome: ProbeOutcome::Good });
}
