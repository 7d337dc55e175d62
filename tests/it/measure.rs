//! Measurements over real sockets and by real commands: what a sample makes of every answer there is, and what many of
//! them add up to.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

use novita_sim::World;
use respot::clock::Clock;
use respot::core::rollout::quality::{LEAST_SAMPLES, Moves, Pair, QualityVerdict, judge};
use respot::core::world::probe::{Endpoint, Latency, Measurement, Probe};
use respot::core::world::time::Timestamp;
use respot::measure::{AT_ONCE, NetProber, ProbeOutcome, ProbeSample, ProbeTarget, Prober, measure_all};
use respot::proxies::Proxies;
use respot::stop::{Stop, StopCause};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::{Kind, Stage};
use crate::redis_server::free_port;
use crate::tls::serve;

const LIMIT: Duration = Duration::from_millis(400);

/// Answers over HTTP as the path wants it.
struct Web {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                spawn(move || while answer(&stream).is_some() {});
            }
        });
        Self { port, connections }
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(&format!("127.0.0.1:{}", self.port))
    }
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint { port: 80, kind: "http".into(), address: address.into() }
}

/// `None` when the connection is to end.
fn answer(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1)?.split('?').next()?;
    let mut stream = stream;
    let mut say = |text: &str| stream.write_all(text.as_bytes()).ok();
    let (what, number) = path.rsplit_once('/')?;
    let number: u64 = number.parse().unwrap_or(0);
    match what {
        "/status" => say(&format!("HTTP/1.1 {number} so be it\r\ncontent-length: 2\r\nlocation: /hang/0\r\n\r\nhi")),
        "/after" => {
            sleep(Duration::from_millis(number));
            say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        }
        "/closes" => say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").and(None),
        "/hang" => {
            sleep(Duration::from_secs(3));
            None
        }
        "/drops" => None,
        "/cut" => say("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nhi").and(None),
        "/noise" => say("SSH-2.0-OpenSSH_9.6\r\n").and(None),
        "/drip" => {
            say("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n")?;
            for _ in 0..100 {
                say("x")?;
                sleep(Duration::from_millis(20));
            }
            None
        }
        "/endless" => {
            say("HTTP/1.1 200 OK\r\n\r\n")?;
            let piece = "x".repeat(1 << 16);
            while say(&piece).is_some() {}
            None
        }
        _ => say("HTTP/1.1 404 not here\r\ncontent-length: 0\r\n\r\n"),
    }
}

fn target(endpoints: &[Endpoint]) -> ProbeTarget<'_> {
    ProbeTarget { id: "inst-1", name: "train 1", endpoints }
}

fn probe(text: &str) -> Probe {
    Probe::parse(text).unwrap()
}

async fn sample(text: &str, endpoints: &[Endpoint]) -> ProbeSample {
    let begun = Instant::now();
    let sample = NetProber::new(LIMIT, &Proxies::default()).sample(&probe(text), target(endpoints)).await;
    let elapsed = begun.elapsed();
    assert!(elapsed < LIMIT + Duration::from_secs(1) && sample.took <= elapsed, "{text} took {elapsed:?}: {sample:?}");
    sample
}

#[derive(Clone, Copy, Debug)]
enum Is {
    Good,
    Bad(&'static str),
    Untaken(&'static str),
}

#[track_caller]
fn check(what: &str, sample: &ProbeSample, is: Is) {
    let fine = match (&sample.outcome, is) {
        (ProbeOutcome::Good, Is::Good) => true,
        (ProbeOutcome::Bad(why), Is::Bad(words)) | (ProbeOutcome::Untaken(why), Is::Untaken(words)) => {
            assert!(!why.contains("127.0.0.1") && !why.contains("token"), "{why} tells an address");
            why.contains(words)
        }
        _ => false,
    };
    assert!(fine, "{what}: {sample:?} is not {is:?}");
}

#[tokio::test]
async fn what_a_sample_makes_of_every_answer() {
    let web = Web::start();
    let plain = format!("127.0.0.1:{}", web.port);
    let (closed, not_tls) = (format!("127.0.0.1:{}", free_port()), format!("https://{plain}"));
    let (based, nowhere) = (format!("http://{plain}/status/"), "host.invalid:80");
    let late = Is::Bad("no answer within 400ms");
    let rows: &[(&str, &str, Is)] = &[
        ("http:80/status/200", &plain, Is::Good),
        ("http:80/status/200?token=x", &plain, Is::Good),
        ("http:80/status/204", &plain, Is::Good),
        ("http:80/status/302", &plain, Is::Good),
        ("http:80/200", &based, Is::Good),
        ("http:80/status/404?token=x", &plain, Is::Bad("answered 404")),
        ("http:80/status/500", &plain, Is::Bad("answered 500")),
        ("http:80/404", &based, Is::Bad("answered 404")),
        ("http:80/after/100", &plain, Is::Good),
        ("http:80/endless/0", &plain, Is::Good),
        ("http:80/hang/0", &plain, late),
        ("http:80/drip/0", &plain, late),
        ("http:80/drops/0?token=x", &plain, Is::Bad("")),
        ("http:80/cut/0", &plain, Is::Bad("")),
        ("http:80/noise/0", &plain, Is::Bad("")),
        ("http:80/status/200?token=x", &not_tls, Is::Bad("")),
        ("http:80/status/200", &closed, Is::Bad("refused")),
        ("http:80/", nowhere, Is::Untaken("its name does not resolve")),
        ("http:80/", "two words", Is::Untaken("no valid address")),
        ("http:81/", &plain, Is::Untaken("the provider reports no endpoint for port 81")),
        ("tcp:80", &plain, Is::Good),
        ("tcp:80", &based, Is::Good),
        ("tcp:80", &closed, Is::Bad("refused")),
        ("tcp:80", nowhere, Is::Untaken("its name does not resolve")),
        ("tcp:80", "two words", Is::Untaken("no valid address")),
        ("tcp:22", &plain, Is::Untaken("the provider reports no endpoint for port 22")),
    ];
    for (text, address, is) in rows {
        let sample = sample(text, &[endpoint(address)]).await;
        check(&format!("{text} at {address}"), &sample, *is);
        if *text == "http:80/after/100" {
            assert!(sample.took >= Duration::from_millis(100), "{sample:?}");
        }
    }
}

/// Of two endpoints of a port the one that speaks as the probe does is asked.
#[tokio::test]
async fn the_endpoint_of_the_probes_kind_is_asked() {
    let web = Web::start();
    let closed = Endpoint { kind: "tcp".into(), ..endpoint(&format!("127.0.0.1:{}", free_port())) };
    let both = [closed, web.endpoint()];
    check("http", &sample("http:80/status/200", &both).await, Is::Good);
    check("tcp", &sample("tcp:80", &both).await, Is::Bad("refused"));
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_no_good_answer() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let (port, _, _web) = serve(&stage);
    let prober = NetProber::new(Duration::from_secs(20), &Proxies::default());
    let at = [endpoint(&format!("https://localhost:{port}"))];
    let sample = prober.sample(&probe("http:80/"), target(&at)).await;
    check("https", &sample, Is::Bad("invalid peer certificate"));
}

#[tokio::test]
async fn commands() {
    let late = Is::Bad("no answer within 400ms");
    let rows = [
        ("true", Is::Good),
        ("cat", Is::Good),
        ("head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2", Is::Good),
        (
            "[ \"$RESPOT_INSTANCE_ID $RESPOT_INSTANCE_NAME $RESPOT_ENDPOINT_80\" = 'inst-1 train 1 1.2.3.4:5' ]",
            Is::Good,
        ),
        ("exit 3", Is::Bad("the command exited with 3")),
        ("kill -9 $$", Is::Bad("the command was killed by a signal")),
        ("sleep 30", late),
        ("trap '' TERM INT HUP; while :; do sleep 1; done", late),
        ("there-is-no-such-command", Is::Untaken("not found or cannot be executed (exit code 127)")),
        ("/etc/passwd", Is::Untaken("not found or cannot be executed (exit code 126)")),
    ];
    for (command, is) in rows {
        let sample = sample(&format!("exec:{command}"), &[endpoint("1.2.3.4:5")]).await;
        check(command, &sample, is);
    }
}

/// The key to the account, for example, is in the environment of the program.
#[tokio::test]
async fn a_command_sees_only_what_it_needs() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("seen");
    check("env", &sample(&format!("exec:env > {}", file.display()), &[]).await, Is::Good);
    let seen = std::fs::read_to_string(file).unwrap();
    let names: Vec<&str> = seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in &names {
        let expected = ["PATH", "HOME", "RESPOT_INSTANCE_ID", "RESPOT_INSTANCE_NAME", "PWD", "OLDPWD", "SHLVL", "_"];
        assert!(expected.contains(name), "a command sees {name}");
    }
    assert!(names.contains(&"PATH") && names.contains(&"RESPOT_INSTANCE_ID"), "{names:?}");
}

#[tokio::test]
async fn a_command_that_hangs_ends_with_all_that_it_started() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("child");
    let command = format!("exec:sleep 300 & echo $! > {}; wait", file.display());
    check("hangs", &sample(&command, &[]).await, Is::Bad("no answer within"));
    let child = std::fs::read_to_string(&file).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    let ended = |_: &u32| {
        sleep(Duration::from_millis(10));
        // One that ended and that nobody asked about yet is a Z.
        std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "))
    };
    assert!((0..300).any(|look| ended(&look)), "the child of the command still runs");
}

/// A server that answers as it is told: the first time it is asked is the warm-up.
struct Script {
    /// What comes, again and again.
    answers: Vec<ProbeSample>,
    asked: Cell<usize>,
    at_once: RefCell<(usize, usize)>,
}

impl Script {
    fn of(answers: Vec<ProbeSample>) -> Self {
        Self { answers, asked: Cell::new(0), at_once: RefCell::default() }
    }
}

impl Prober for Script {
    async fn sample(&self, _: &Probe, _: ProbeTarget<'_>) -> ProbeSample {
        let sample = self.answers[self.asked.replace(self.asked.get() + 1) % self.answers.len()].clone();
        let in_flight = self.at_once.borrow().0 + 1;
        self.at_once.replace_with(|(_, most)| (in_flight, in_flight.max(*most)));
        tokio::time::sleep(sample.took).await;
        self.at_once.borrow_mut().0 -= 1;
        sample
    }
}

fn good(micros: u64) -> ProbeSample {
    ProbeSample { took: Duration::from_micros(micros), outcome: ProbeOutcome::Good }
}

fn bad(seconds: u64) -> ProbeSample {
    ProbeSample { took: Duration::from_secs(seconds), outcome: ProbeOutcome::Bad("late".into()) }
}

fn untaken() -> ProbeSample {
    ProbeSample { took: Duration::ZERO, outcome: ProbeOutcome::Untaken("no such command".into()) }
}

fn measured(samples: u32, errors: u32, latency: Option<(u64, u64, u64)>) -> Measurement {
    Measurement {
        at: Timestamp::from_secs(7),
        samples,
        errors,
        latency: latency.map(|(least, median, most)| Latency { least, median, most }),
        last_error: (errors > 0).then(|| "late".into()),
        untaken: 0,
        given_up: false,
    }
}

#[tokio::test(start_paused = true)]
async fn what_samples_add_up_to() {
    let not_to_be_taken =
        |untaken, it: Measurement| Measurement { untaken, last_error: Some("no such command".into()), ..it };
    let given_up = |it: Measurement| Measurement { given_up: true, ..it };
    // The script, whose first sample is the warm-up; how many are wanted; what it is, and after how many seconds at most.
    let rows = vec![
        (vec![good(9_000), good(5)], 1, measured(1, 0, Some((5, 5, 5))), 1),
        (vec![good(9_000), good(30), good(10), good(20)], 3, measured(3, 0, Some((10, 20, 30))), 1),
        (vec![good(9_000), good(30), good(10), good(20), good(40)], 4, measured(4, 0, Some((10, 20, 40))), 1),
        (vec![good(9_000), good(2), bad(1), good(1)], 3, measured(3, 1, Some((1, 1, 2))), 3),
        (vec![bad(1), good(2), good(3)], 2, measured(2, 0, Some((2, 2, 3))), 3),
        (vec![bad(0)], 100, measured(100, 100, None), 1),
        // Dead: 5 s are the limit of a sample by default, 60 s the longest.
        (vec![bad(5)], 100, given_up(measured(4, 4, None)), 25),
        (vec![bad(1)], 100, given_up(measured(20, 20, None)), 21),
        (vec![bad(60)], 100, given_up(measured(3, 3, None)), 240),
        (vec![good(1), good(2), bad(9), bad(9), bad(9)], 100, given_up(measured(4, 3, Some((2, 2, 2)))), 28),
        // Half of it, always in between, is not dead but bad, and told by its errors.
        (vec![bad(9), good(2)], 40, measured(40, 20, Some((2, 2, 2))), 400),
        // What cannot be asked now cannot be asked in a moment.
        (vec![untaken()], 100, not_to_be_taken(3, measured(0, 0, None)), 1),
        (vec![good(1), good(2), untaken()], 3, not_to_be_taken(1, measured(2, 0, Some((1, 1, 2)))), 1),
    ];
    for (answers, samples, expected, seconds) in rows {
        let begun = Instant::now();
        let script = Script::of(answers);
        let measurement = measure(&script, &probe("tcp:22"), target(&[]), samples).await;
        assert_eq!(measurement, expected);
        assert!(begun.elapsed() <= Duration::from_secs(seconds), "{:?} for {expected:?}", begun.elapsed());
    }
}

/// Measures one instance.
async fn measure(prober: &impl Prober, probe: &Probe, target: ProbeTarget<'_>, samples: u32) -> Measurement {
    let clock = Clock::starting_at(Timestamp::from_secs(7));
    measure_all(prober, probe, &[target], samples, &clock, &Stop::default()).await.remove(0)
}

#[tokio::test(start_paused = true)]
async fn many_are_measured_side_by_side_but_not_all_at_once() {
    let targets = vec![target(&[]); 3 * AT_ONCE];
    let (script, stop) = (Script::of(vec![good(1_000)]), Stop::default());
    let clock = Clock::starting_at(Timestamp::from_secs(7));
    let measurements = measure_all(&script, &probe("tcp:22"), &targets, 10, &clock, &stop).await;
    assert_eq!((measurements.len(), script.at_once.borrow().1), (3 * AT_ONCE, AT_ONCE));
    assert!(measurements.iter().all(|it| it.samples == 10), "{measurements:?}");

    // The word comes after 50 samples of the first ones, before the last ones began.
    let script = Script::of(vec![good(1_000_000)]);
    let word = async {
        tokio::time::sleep(Duration::from_millis(51_500)).await;
        stop.trigger(StopCause::Signal);
    };
    let begun = Instant::now();
    let wanted = probe("tcp:22");
    let (measurements, ()) = tokio::join!(measure_all(&script, &wanted, &targets, 100, &clock, &stop), word);
    assert!(begun.elapsed() < Duration::from_secs(52));
    let samples: Vec<u32> = measurements.iter().map(|it| it.samples).collect();
    assert_eq!(samples, [vec![50; AT_ONCE], vec![0; 2 * AT_ONCE]].concat());
    assert_eq!(measurements[AT_ONCE].last_error.as_deref(), Some("stopped before it was measured"));
}

#[tokio::test]
async fn the_samples_of_a_measurement_share_a_connection_if_they_can() {
    for (path, expected) in [("status/200", 1), ("status/500", 1), ("closes/0", 11)] {
        let web = Web::start();
        let prober = NetProber::new(LIMIT, &Proxies::default());
        let wanted = probe(&format!("http:80/{path}"));
        let measurement = measure(&prober, &wanted, target(&[web.endpoint()]), 10).await;
        assert_eq!(measurement.samples, 10, "{measurement:?}");
        assert_eq!(web.connections.load(Ordering::Relaxed), expected, "{path}");
    }
}

/// From sockets to a verdict.
#[tokio::test]
async fn what_became_of_an_application_is_told() {
    let web = Web::start();
    let prober = NetProber::new(LIMIT, &Proxies::default());
    let at = [web.endpoint()];
    let measured = async |text: &str, endpoints: &[Endpoint]| {
        measure(&prober, &probe(text), target(endpoints), LEAST_SAMPLES).await
    };
    let before = measured("http:80/after/10", &at).await;
    let rows = [
        (measured("http:80/after/20", &at).await, QualityVerdict::Fail, "degraded by "),
        (
            measured("http:80/status/503", &at).await,
            QualityVerdict::Fail,
            "passed the probe before and never now (answered 503)",
        ),
        (measured("http:81/", &at).await, QualityVerdict::Inconclusive, "could not run now"),
        (measured("exec:there-is-no-such-command", &at).await, QualityVerdict::Inconclusive, "could not run now"),
    ];
    for (now, verdict, words) in rows {
        let pairs = [Pair { before: &before, now: Some(&now) }];
        let judgment = judge(&pairs, Moves { attempted: 1, succeeded: 1 }, LEAST_SAMPLES);
        assert_eq!(judgment.verdict, verdict, "{judgment:?}");
        assert!(judgment.reason.contains(words), "{judgment:?}");
    }
}
