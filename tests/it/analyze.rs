//! `analyze` shows what could be saved and what speaks against it, and writes nothing anywhere.

use std::cell::RefCell;
use std::time::Duration;

use novita_sim::{DAWN_MS, InProcess, Op, Options, Server, Spec, World};
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
use respot::cloud::transport::{Request, Response, Transport, TransportError};
use respot::commands::analyze::{self, READS_AT_ONCE};
use respot::commands::{Exit, Failure};
use respot::core::rollout::analysis::Analysis;
use respot::core::rollout::findings::Terms;
use respot::core::rollout::gates::GateVerdict;
use respot::core::rollout::metrics::Workload;
use respot::core::world::money::Usd;
use respot::core::world::policy::Selector;
use respot::core::world::probe::Probe;
use respot::core::world::time::Timestamp;
use respot::measure::{ProbeOutcome, ProbeSample, ProbeTarget, Prober};
use respot::report::Silent;
use respot::store::sqlite::SqliteStore;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{BOTH, Kind, MINUTE, Stage, each, keys};

const DOCUMENT: &str = "approved complete instancesAnalyzed notes opportunities opportunitiesFound others \
    totalAnnualSavings totalMonthlySavings";
const OPPORTUNITY: &str = "annualSavings approved clusterId currentCost gates gpuNum instanceId instanceName \
    interruptionEvidence interruptionRate monthlySavings productId riskLevel savingsAmount savingsPercentage spotCost \
    workload";

fn on_demand(name: &str) -> Spec {
    Spec::running(name).id(name).billing("onDemand")
}

/// Two that could be moved, one that is not sold as spot, and some that are no candidates, such as one that stands in.
fn world() -> World {
    let mut world = World::new(5);
    world.add(on_demand("api").env("TOKEN", "env-secret-1").with(|it| it.command = "serve --key env-secret-2".into()));
    world.add(on_demand("train").product("a100.32c120g", 2).network_volume("vol-1", "/data"));
    world.add(on_demand("only").product("h100.24c200g", 1).cluster("eu-xx-2"));
    world.add(on_demand("train-bridge-ndvegq24paf3"));
    world.add(Spec::running("spot").id("spot"));
    world.add(Spec::exited("down").id("down").billing("onDemand"));
    world.add(Spec::running("month").id("month").billing("monthly"));
    world
}

fn analyze(stage: &Stage, words: &str) -> Value {
    let document = stage.call(&format!("analyze -o json {words}")).output().ends_with(0).json();
    assert_eq!(keys(&document), DOCUMENT);
    assert_eq!(keys(&document["approved"]), "annualSavings count monthlySavings");
    for it in document["opportunities"].as_array().expect("opportunities") {
        assert_eq!(keys(it), OPPORTUNITY);
        assert_eq!(keys(&it["interruptionEvidence"]), "instanceHours reclaims");
        assert_eq!(keys(&it["gates"]), "application performance resource");
        for gate in it["gates"].as_object().expect("gates").values() {
            assert_eq!(keys(gate), "confidence evidence verdict");
        }
    }
    for it in document["others"].as_array().expect("others") {
        assert_eq!(keys(it), "clusterId currentCost instanceId instanceName productId reason spotCost");
    }
    document
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|it| it["instanceId"].as_str().expect("an id")).collect()
}

#[test]
fn it_finds_what_saves_and_writes_nothing() {
    for kind in BOTH {
        let stage = Stage::new(kind, world());
        let (files, dump) = (stage.files(), stage.dump());
        let document = analyze(&stage, "");
        assert_eq!(
            (&document["instancesAnalyzed"], &document["opportunitiesFound"], &document["complete"]),
            (&3.into(), &2.into(), &true.into())
        );
        assert_eq!(ids(&document["opportunities"]), ["train", "api"], "the greater saving first");
        assert_eq!(
            (ids(&document["others"]), &document["others"][0]["reason"]),
            (vec!["only"], &"not sold as spot".into())
        );
        let train = &document["opportunities"][0];
        // 2 x 1.60 USD, of which spot saves half.
        for (field, expected) in [
            ("currentCost", json!(3.2)),
            ("spotCost", json!(1.6)),
            ("savingsAmount", json!(1.6)),
            ("savingsPercentage", json!(50.0)),
            ("monthlySavings", json!(1168.0)),
            ("annualSavings", json!(14_016.0)),
            ("gpuNum", json!(2)),
            ("productId", json!("a100.32c120g")),
            ("clusterId", json!("us-xx-1")),
            ("riskLevel", json!("medium")),
            ("interruptionRate", Value::Null),
            ("approved", json!(false)),
        ] {
            assert_eq!(train[field], expected, "{field}");
        }
        assert_eq!(document["totalMonthlySavings"], json!(1412.55));
        assert_eq!(document["totalAnnualSavings"], json!(16_950.6));
        let table = stage.call("analyze").output().ends_with(0);
        let drawn = stage.call("analyze").screen(80);
        assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{drawn}");
        for part in
            ["train", "1168.00", "++-", "not sold as spot", "application (100 %): ", "2 opportunities: 1412.55 USD"]
        {
            assert!(drawn.contains(part) && table.stdout.contains(part), "{part} is not in {drawn}");
        }
        for output in [&document.to_string(), &table.all()] {
            assert!(!output.contains("env-secret") && !output.contains("TOKEN"), "{output}");
        }
        // One listing, one question for each kind of offer, one for the metrics of each opportunity: three times.
        stage.provider.with(|world| {
            assert!(world.log().is_empty(), "{:?}", world.log());
            let calls = [Op::List, Op::Products, Op::Metrics].map(|op| world.calls(op));
            assert_eq!(calls, [3, 3 * 3, 2 * 3]);
            assert_eq!(world.calls(Op::Get), 0);
        });
        assert_eq!((stage.files(), stage.dump()), (files, dump));
    }
}

/// The gates over what the real binary reads: each row is a fault or a change, and what one gate then says.
#[test]
fn gates_follow_the_settings_and_the_world() {
    type Row = (&'static str, fn(&Stage), &'static str, &'static str, &'static str);
    let rows: &[Row] = &[
        ("--may-lose api", |_| (), "application", "refuse", "it matches api"),
        ("--probe tcp:8080", |_| (), "application", "refuse", "the probe tcp:8080 failed: "),
        ("", |_| (), "performance", "approve", "healthy now: memory 30.0 %, disk 20.0 %, CPU 1"),
        ("", |it| it.fault("metrics:status=404"), "performance", "refuse", "no fresh metrics"),
        ("", |it| it.fault("metrics:html"), "performance", "refuse", "no fresh metrics"),
        ("", |it| it.fault("metrics:empty"), "performance", "refuse", "no fresh metrics"),
        ("", |it| it.fault("metrics:malformed"), "performance", "refuse", "no fresh metrics"),
        ("", |it| it.fault("metrics:status=400"), "performance", "refuse", "no fresh metrics"),
        ("", |it| it.fault("metrics:cut-before*1"), "performance", "approve", "healthy now"),
        ("", |_| (), "resource", "approve", "many left"),
        ("", |it| it.provider.with(|world| world.set_stock(0)), "resource", "refuse", "none left"),
        ("", |it| it.provider.with(|world| world.set_stock(4)), "resource", "approve", "few left"),
        (
            "",
            |it| it.provider.with(|world| world.product_mut("4090.16c62g").unwrap().sold_out_in.push("us-xx-1".into())),
            "resource",
            "refuse",
            "spot stock of 4090.16c62g in us-xx-1: none left",
        ),
        (
            "",
            |it| it.provider.with(|world| world.product_mut("4090.16c62g").unwrap().memory_per_gpu = 32),
            "performance",
            "refuse",
            "32 GB of memory instead of 62",
        ),
        (
            "",
            |it| {
                it.provider.with(|world| world.edit("api", |it| it.ports.clear()));
            },
            "application",
            "refuse",
            "it has no ports",
        ),
    ];
    each(rows, |(words, change, gate, verdict, says)| {
        let stage = Stage::new(Kind::Sqlite, world());
        change(&stage);
        let document = analyze(&stage, words);
        let opportunities = document["opportunities"].as_array().expect("opportunities");
        let api = opportunities.iter().find(|it| it["instanceId"] == "api").expect("an opportunity");
        let gate = &api["gates"][*gate];
        let evidence = gate["evidence"].as_array().expect("evidence");
        assert_eq!(gate["verdict"], *verdict, "{gate:#}");
        assert!(evidence.iter().any(|it| it.as_str().unwrap().contains(says)), "{says:?} is not in {gate:#}");
    });
}

#[test]
fn quotas_and_patterns_choose() {
    let stage = Stage::new(Kind::Sqlite, world());
    // Eight GPUs in seven instances, of which one more would be too many.
    for (setting, value, verdict) in [
        ("RESPOT_GPU_QUOTA", "9", "approve"),
        ("RESPOT_GPU_QUOTA", "8", "refuse"),
        ("RESPOT_INSTANCE_QUOTA", "8", "approve"),
        ("RESPOT_INSTANCE_QUOTA", "7", "refuse"),
    ] {
        let output = stage.call("analyze -o json --only api").env(setting, value).output().ends_with(0);
        let gate = &output.json()["opportunities"][0]["gates"]["resource"];
        assert_eq!(gate["verdict"], verdict, "{setting}={value}: {gate:#}");
    }
    for (words, expected) in [
        ("--only a*", vec!["api"]),
        ("--exclude train", vec!["api"]),
        ("--only api --only train", vec!["train", "api"]),
        ("--only nobody", vec![]),
        ("--only spot", vec![]),
        ("--exclude *", vec![]),
    ] {
        let document = analyze(&stage, words);
        assert_eq!(ids(&document["opportunities"]), expected, "{words}");
    }
    let table = stage.call("analyze --only nobody").output().ends_with(0).stdout;
    assert!(table.starts_with("no running on-demand instance was found\n0 instances analyzed"), "{table}");
}

#[test]
fn it_ends_with_the_documented_codes() {
    let stage = Stage::new(Kind::Sqlite, world());
    let call = |words: &str| stage.call(&format!("analyze {words}"));
    call("").unset("NOVITA_API_KEY").output().ends_with(2).says(["NOVITA_API_KEY"]);
    call("--probe ftp:21").output().ends_with(2).says(["--probe"]);
    call("--force").output().ends_with(2);
    call("-o csv").output().ends_with(2);
    call("--store sqlite:/dev/null/x").output().ends_with(4);
    stage.fault("products:status=401*3");
    call("").output().ends_with(3).says(["/v1/products", "hint: check NOVITA_API_KEY"]);
    stage.provider.with(World::clear_faults);
    // One kind of offer that cannot be read is no reason to say nothing of the others.
    stage.fault("products:status=403*1");
    let document = analyze(&stage, "");
    assert_eq!(document["notes"].as_array().expect("notes").len(), 1, "{document:#}");
    assert_eq!(document["instancesAnalyzed"], 3);
    stage.fault("list:status=401*1");
    let error = call("-o json").output().ends_with(3).json();
    assert_eq!((&error["error"]["code"], &error["error"]["kind"]), (&3.into(), &"auth".into()));
    stage.provider.with(World::clear_faults);
    // What is known to be missing is said, and nothing is refused for it: nothing is done.
    stage.fault("list:lying-total=5");
    let document = analyze(&stage, "");
    assert_eq!((&document["complete"], &document["opportunitiesFound"]), (&false.into(), &2.into()));
    let table = call("").output().ends_with(0).stdout;
    assert!(table.contains("the list of instances is incomplete: the provider announced 12 rows"), "{table}");
    stage.provider.with(World::clear_faults);
    // A row that cannot be read may be one that could move.
    stage.fault("list:bad-row");
    let document = analyze(&stage, "");
    assert!(document["notes"].to_string().contains("their rows cannot be read"), "{document:#}");
    stage.provider.with(World::clear_faults);
    stage.fault("metrics:hang");
    let asked = stage.provider.with(|world| world.calls(Op::Metrics));
    let running = call("").spawn();
    stage.until("it asks for metrics", |world| world.calls(Op::Metrics) > asked);
    running.signal(Signal::TERM);
    running.wait().ends_with(6).says(["stopped by a signal"]);
}

/// The rate comes from what passes have seen, and from nothing else.
#[test]
fn reclaims_are_measured_by_passes() {
    for kind in BOTH {
        let mut world = World::new(9);
        world.add(on_demand("api"));
        for n in 0..40 {
            world.add(Spec::running(&format!("spot-{n}")).id(&format!("spot-{n}")));
        }
        let stage = Stage::new(kind, world);
        stage.pass(0);
        // Damaged: begun anew, in nobody's way.
        stage.put_field("exposures", "4090.16c62g@us-xx-1", "{\"v\":1,\"since\":7}");
        stage.put_field("exposures", "gone@us-xx-1", "not even JSON");
        let exposure = || {
            let text = stage.stored("exposures[4090.16c62g@us-xx-1]").expect("a record");
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let seen = |document: &Value| {
            let it = &document["opportunities"][0];
            let evidence = &it["interruptionEvidence"];
            (it["interruptionRate"].clone(), evidence["instanceHours"].clone(), evidence["reclaims"].clone())
        };
        assert_eq!(seen(&analyze(&stage, "")), (Value::Null, 0.into(), 0.into()));
        stage.pass(0);
        assert_eq!((&exposure()["instanceSeconds"], &exposure()["reclaims"]), (&0.into(), &0.into()));
        assert_eq!(stage.stored("exposures[gone@us-xx-1]"), None, "what nobody can read is gone");
        for _ in 0..4 {
            stage.provider.advance(30 * MINUTE);
            stage.pass(0);
        }
        assert_eq!(seen(&analyze(&stage, "")), (Value::Null, 80.into(), 0.into()), "too little");
        stage.provider.with(|world| assert!(world.reclaim("spot-7")));
        stage.provider.advance(30 * MINUTE);
        stage.pass(0);
        let (rate, hours, reclaims) = seen(&analyze(&stage, ""));
        assert_eq!((&hours, &reclaims), (&100.into(), &1.into()));
        assert_eq!(rate, json!(0.01));
        // The same notice, seen again, is no other reclaim; and a rehearsal measures nothing.
        let before = exposure();
        stage.provider.advance(MINUTE);
        stage.call("run -q").env("MIGRATION_DRY_RUN", "true").output().ends_with(0);
        assert_eq!(exposure(), before);
        stage.pass(0);
        assert_eq!(exposure()["reclaims"], 1);
        let document = analyze(&stage, "");
        assert_eq!(document["opportunities"][0]["riskLevel"], "high");
        let table = stage.call("analyze").output().ends_with(0).stdout;
        assert!(table.contains("  high  "), "{table}");
    }
}

/// A probe that takes a while, and whose answer follows from the instance's name.
struct Fake;

impl Prober for Fake {
    async fn sample(&self, _: &Probe, target: ProbeTarget<'_>) -> ProbeSample {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(target.endpoints.len(), 1, "where it can be reached is in the list");
        let sick = ProbeOutcome::Bad("503 Service Unavailable".into());
        let outcome = if target.name.ends_with("sick") { sick } else { ProbeOutcome::Good };
        ProbeSample { took: Duration::from_millis(5), outcome }
    }
}

/// The provider, with metrics as a test wants them.
struct Metered<F> {
    inner: InProcess,
    metrics: F,
}

impl<F: Fn(&str) -> Result<Value, TransportError>> Transport for Metered<F> {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let answer = self.inner.exchange(request).await;
        if request.path != "/v1/metrics/gpu/instance" {
            return answer;
        }
        let id = request.query.iter().find(|(key, _)| *key == "instanceId").map_or("", |(_, id)| id);
        let body = (self.metrics)(id)?.to_string().into_bytes();
        Ok(Response { body, ..answer? })
    }
}

fn healthy() -> Value {
    let point = |value: f64| json!([{"timestamp": (DAWN_MS / 1000 - 60).to_string(), "value": value}]);
    json!({"cpuUtilization": point(100.0), "memUtilization": point(30.0), "rootDiskUtilization": point(20.0)})
}

fn terms() -> Terms {
    Terms {
        may_lose: vec![Selector::parse("*").unwrap()],
        probe: Some(Probe::Http { port: 8080, path: "/health".into() }),
        gpu_quota: Some(100_000),
        instance_quota: Some(100_000),
        ..Terms::default()
    }
}

/// Analyses a world in virtual time, and says how long that took.
async fn analyzed<T: Transport>(transport: T, terms: &Terms) -> (Result<Analysis, Failure>, Duration) {
    let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
    let store = SqliteStore::in_memory(clock.clone()).unwrap();
    let cloud = Client::new(transport);
    let begun = Instant::now();
    let analysis = analyze::analyze(&cloud, &store, &Fake, terms, &clock, &Silent).await;
    (analysis, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn what_all_gates_approve_is_approved() {
    let mut world = World::new(5);
    for name in ["fine", "sick", "full", "burst"] {
        world.add(on_demand(name));
    }
    let metrics = |id: &str| {
        let mut body = healthy();
        match id {
            "full" => body["rootDiskUtilization"][0]["value"] = json!("97.5"),
            "burst" => {
                let at = |n: i64| (DAWN_MS / 1000 - 60 - 900 * (99 - n)).to_string();
                let point = |n: i64| json!({"timestamp": at(n), "value": if n % 10 == 0 { 99 } else { 1 }});
                body["gpuUtilization"] = json!({"avg": (0..100).map(point).collect::<Vec<_>>()});
            }
            _ => {}
        }
        Ok(body)
    };
    let (analysis, _) = analyzed(Metered { inner: InProcess::new(world), metrics }, &terms()).await;
    let analysis = analysis.expect("an analysis");
    let seen: Vec<_> = analysis
        .opportunities
        .iter()
        .map(|it| {
            let refused: Vec<_> =
                it.gates.all().into_iter().filter(|it| it.1.verdict() == GateVerdict::Refuse).collect();
            (it.instance.as_str(), it.approved, refused.first().map_or("", |it| it.0), it.workload)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("burst", true, "", Workload::Burst),
            ("fine", true, "", Workload::Unknown),
            ("full", false, "performance", Workload::Unknown),
            ("sick", false, "application", Workload::Unknown),
        ]
    );
    let approved = analysis.approved();
    assert_eq!((approved.count, approved.hourly.monthly()), (2, Usd::from_micros(2 * 244_550_000)));
    assert_eq!(analysis.notes, Vec::<String>::new());
}

fn many(count: usize) -> World {
    let mut world = World::new(5);
    for n in 0..count {
        world.add(on_demand(&format!("train-{n}")));
    }
    world
}

/// In virtual time nothing counts but the calls that wait for one another.
#[tokio::test(start_paused = true)]
async fn a_thousand_take_hardly_longer_than_their_calls() {
    let latency = Duration::from_millis(100);
    let inner = InProcess::new(many(1_000)).latency(latency);
    let (analysis, took) = analyzed(Metered { inner: inner.clone(), metrics: |_: &str| Ok(healthy()) }, &terms()).await;
    assert_eq!(analysis.expect("an analysis").approved().count, 1_000);
    let calls = [Op::List, Op::Products, Op::Metrics].map(|op| usize::try_from(inner.world().calls(op)).unwrap());
    assert_eq!((calls[1], calls[2]), (1, 1_000));
    // The first page, the others ten at a time; then the rest.
    let in_sequence = 1 + (calls[0] - 1).div_ceil(10) + (calls[1] + calls[2]).div_ceil(READS_AT_ONCE);
    let minimum = latency * u32::try_from(in_sequence).unwrap();
    assert!(took <= minimum.mul_f64(1.2), "{took:?} are more than 1.2 x {minimum:?}");
    assert!(took >= minimum.mul_f64(0.95), "{took:?} are less than is possible: {minimum:?}");
}

/// Each call that fails is retried for half a minute; a thousand of them would take half an hour.
#[tokio::test(start_paused = true)]
async fn metrics_that_are_down_delay_nothing_for_long() {
    for fault in ["metrics:status=503", "metrics:hang", "metrics:cut-before"] {
        let mut world = many(1_000);
        world.fault(fault.parse().unwrap());
        let (analysis, took) = analyzed(InProcess::new(world), &terms()).await;
        let analysis = analysis.expect("an analysis");
        assert_eq!((analysis.total().count, analysis.approved().count), (1_000, 0), "{fault}");
        assert!(took < Duration::from_secs(45), "{fault}: {took:?}");
        let [note] = &analysis.notes[..] else { panic!("{:?}", analysis.notes) };
        assert!(note.starts_with("metrics of 1000 instances could not be read: GET /v1/metrics"), "{note}");
    }
    // Some that fail now and then are asked for all the same.
    let metrics = RefCell::new(0);
    let metrics = |_: &str| {
        *metrics.borrow_mut() += 1;
        Ok(if *metrics.borrow() % 3 == 0 { json!([]) } else { healthy() })
    };
    let (analysis, _) = analyzed(Metered { inner: InProcess::new(many(200)), metrics }, &terms()).await;
    let approved = analysis.expect("an analysis").approved().count;
    assert!(approved > 150, "{approved}");
}

#[tokio::test(start_paused = true)]
async fn the_provider_that_cannot_be_reached_is_an_error() {
    for (fault, path) in [("list:status=503", "/v1/gpu/instances"), ("products:status=503", "/v1/products")] {
        let mut world = many(3);
        world.fault(fault.parse().unwrap());
        let (analysis, _) = analyzed(InProcess::new(world), &terms()).await;
        let failure = analysis.expect_err(fault);
        assert_eq!((failure.exit, failure.message.contains(path)), (Exit::Provider, true), "{failure:?}");
    }
}

/// Over real HTTP, with a latency; loosely, since the machine has other work.
#[test]
fn a_thousand_over_http() {
    let options = Options { latency: Duration::from_millis(30), ..Options::default() };
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let mut world = many(1_000);
    world.rules_mut().key = crate::harness::KEY.into();
    let provider = Server::start(world, options).expect("the provider starts");
    let started = Instant::now();
    let call = stage.call("analyze -o json").env("NOVITA_API_BASE_URL", provider.url());
    let document = call.output().ends_with(0).json();
    assert_eq!(document["opportunitiesFound"], 1_000);
    // 66 calls one after another are 2 s.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(66 * 30) && took < Duration::from_secs(20), "{took:?}");
}
