//! The face for the real program: HTTP/1.1 on a loopback port, in real time, in a thread of its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use respot::clock::Clock;
use respot::cloud::transport::Method;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

use crate::api::{Answer, Call, Delivery, Reply, is_elsewhere};
use crate::control::steer;
use crate::doors::Doors;
use crate::lock;
use crate::world::World;

/// How a server runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How long every answer takes, in real time; so do the delays of faults.
    pub latency: Duration,
    /// How many times faster than real time the world lives. Its time goes on in steps of 5 ms of real time.
    pub speed: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), latency: Duration::ZERO, speed: 1 }
    }
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    host: Arc<Host>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves this world. Its time goes on from here with the real one.
    ///
    /// # Errors
    /// When the address cannot be bound, or no thread started.
    pub fn start(world: World, options: Options) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let world = Arc::new(Mutex::new(world));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let doors = Mutex::new(Doors::new(&world, runtime.handle().clone()));
        let host = Arc::new(Host { world, doors, latency: options.latency });
        host.with(|_| {});
        let server = Arc::clone(&host);
        let thread = std::thread::Builder::new().name("novita-sim".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    // The sender never sends: this resolves when the server is dropped.
                    _ = stopped => {}
                    () = keep_time(&server, options.speed) => {}
                    () = accept(listener, Arc::clone(&server)) => {}
                }
            });
        })?;
        Ok(Self { address, host, stop: Some(stop), thread: Some(thread) })
    }

    /// The base address for the client: what comes in front of `/v1/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/gpu-instance/openapi", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The world. While it is locked, calls wait. Its time is at most some 10 ms behind; so are the ports of
    /// applications, unless the world is changed by [`Server::with`].
    #[must_use]
    pub fn world(&self) -> Arc<Mutex<World>> {
        Arc::clone(&self.host.world)
    }

    /// Looks at the world, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        self.host.with(look)
    }

    /// Lets time pass in the world.
    pub fn advance(&self, ms: u64) {
        self.with(|world| world.advance(ms));
    }

    /// Cuts all connections and closes the port.
    pub fn stop(self) {
        drop(self);
    }

    /// Waits for as long as it runs, which is for ever.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[derive(Debug)]
struct Host {
    world: Arc<Mutex<World>>,
    doors: Mutex<Doors>,
    latency: Duration,
}

impl Host {
    /// Looks at the world, or changes it; the doors of its machines are as they should be before and after.
    fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        let mut world = lock(&self.world);
        let mut doors = lock(&self.doors);
        doors.tend(&mut world);
        let seen = look(&mut world);
        doors.tend(&mut world);
        seen
    }
}

/// Hands the passing time to the world in small pieces.
async fn keep_time(host: &Host, speed: u32) {
    let mut synced = Instant::now();
    loop {
        sleep(Duration::from_millis(5)).await;
        let passed = u64::try_from(synced.elapsed().as_millis()).unwrap_or(u64::MAX);
        synced += Duration::from_millis(passed);
        host.with(|world| world.advance(passed.saturating_mul(u64::from(speed))));
    }
}

async fn accept(listener: std::net::TcpListener, host: Arc<Host>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        // Out of file descriptors, for example: later there may be some again.
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(converse(stream, Arc::clone(&host)));
    }
}

async fn converse(stream: TcpStream, host: Arc<Host>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request| dated_answer(request, Arc::clone(&host)));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // It ends with an error whenever a fault cuts it: that is what faults are for.
    connection.await.ok();
}

/// Why a connection is cut: the script wants it.
#[derive(Debug)]
struct CutOnPurpose;

impl std::fmt::Display for CutOnPurpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for CutOnPurpose {}

/// The answer with the world's idea of the time, where that is not the real one, which hyper writes by itself.
async fn dated_answer(request: Request<Incoming>, host: Arc<Host>) -> Result<Response<Payload>, CutOnPurpose> {
    let mut response = answer(request, Arc::clone(&host)).await?;
    let skew = lock(&host.world).rules().wire.clock_skew_ms;
    if skew != 0 {
        let shown = u64::try_from(Clock::system().now().as_millis() + skew).unwrap_or(0);
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(shown));
        response.headers_mut().insert(DATE, HeaderValue::from_str(&date).map_err(|_| CutOnPurpose)?);
    }
    Ok(response)
}

async fn answer(request: Request<Incoming>, host: Arc<Host>) -> Result<Response<Payload>, CutOnPurpose> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| CutOnPurpose)?.to_bytes();
    let query = head.uri.query().unwrap_or_default();
    let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let path = head.uri.path();
    if let Some(control) = path.strip_prefix("/sim/") {
        let answer = host.with(|world| steer(world, control, &query, &body));
        return respond(answer, Payload::whole);
    }
    let method = match head.method {
        hyper::Method::GET => Method::Get,
        hyper::Method::POST => Method::Post,
        _ => return respond(Answer::text(405, "method not allowed"), Payload::whole),
    };
    // Metrics and bills live on another base than the rest.
    let behind_base = match path.strip_prefix("/gpu-instance/openapi") {
        Some(path) if !is_elsewhere(path) => path,
        Some(_) => "",
        None => path.strip_prefix("/openapi").filter(|path| is_elsewhere(path)).unwrap_or_default(),
    };
    let key = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = key.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let call = Call { method, path: behind_base.to_owned(), query, key, body: body.to_vec() };
    let Reply { after_ms, delivery } = host.with(|world| world.serve(&call));
    let delay = host.latency + Duration::from_millis(after_ms);
    if !delay.is_zero() {
        sleep(delay).await;
    }
    match delivery {
        Delivery::Answer(answer) => respond(answer, Payload::whole),
        Delivery::Truncated(answer) => respond(answer, Payload::half),
        Delivery::Endless => respond(Answer::json(""), |_| Payload::Endless),
        Delivery::Cut | Delivery::Refused => Err(CutOnPurpose),
        Delivery::Hang => std::future::pending().await,
    }
}

fn respond(answer: Answer, payload: impl FnOnce(Bytes) -> Payload) -> Result<Response<Payload>, CutOnPurpose> {
    let Answer { status, retry_after, content_type, body } = answer;
    let length = body.len();
    let payload = payload(Bytes::from(body));
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    if !matches!(payload, Payload::Endless) {
        response = response.header(CONTENT_LENGTH, length);
    }
    if let Some(retry_after) = retry_after {
        response = response.header(RETRY_AFTER, retry_after);
    }
    response.body(payload).map_err(|_| CutOnPurpose)
}

/// A body as the script wants it.
enum Payload {
    Whole(Option<Bytes>),
    /// What comes, and then, a little later so that it arrives, the cut.
    Half(Option<Bytes>, Pin<Box<Sleep>>),
    Endless,
}

impl Payload {
    fn whole(body: Bytes) -> Self {
        Self::Whole(Some(body).filter(|body| !body.is_empty()))
    }

    fn half(mut body: Bytes) -> Self {
        body.truncate(body.len() / 2);
        Self::Half(Some(body), Box::pin(sleep(Duration::from_millis(20))))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = CutOnPurpose;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOnPurpose>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Half(body, pause) => match body.take() {
                Some(body) => Poll::Ready(Some(Ok(Frame::data(body)))),
                None => pause.as_mut().poll(context).map(|()| Some(Err(CutOnPurpose))),
            },
            Self::Endless => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 16 * 1024]))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::machine::Spec;

    fn connect(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.address()).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        stream
    }

    /// Everything that comes back on a connection of its own, up to the cut or the close.
    fn raw(server: &Server, request_line: &str, body: &str) -> String {
        let mut stream = connect(server);
        let length = body.len();
        write!(
            stream,
            "{request_line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("send");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn one_instance() -> (Server, String) {
        let mut world = World::new(1);
        let id = world.add(Spec::exited("x"));
        (Server::start(world, Options::default()).expect("start"), id)
    }

    #[test]
    fn paths_and_keys() {
        let (server, id) = one_instance();
        assert!(server.url().ends_with("/gpu-instance/openapi"));
        for (line, status) in [
            ("GET /gpu-instance/openapi/v1/gpu/instances?pageNum=1&pageSize=100".to_owned(), 200),
            ("GET /gpu-instance/openapi/v1/jobs".into(), 200),
            ("GET /gpu-instance/openapi/v1/products?billingMethod=spot".into(), 200),
            ("GET /gpu-instance/openapi/v1/clusters".into(), 200),
            (format!("GET /gpu-instance/openapi/v1/gpu/instance?instanceId={id}"), 200),
            (format!("GET /openapi/v1/metrics/gpu/instance?instanceId={id}"), 200),
            (format!("GET /gpu-instance/openapi/v1/metrics/gpu/instance?instanceId={id}"), 404),
            ("GET /openapi/v1/billing/bill/list".into(), 400),
            ("GET /gpu-instance/openapi/v1/billing/bill/list".into(), 404),
            ("GET /v1/gpu/instances".into(), 404),
            ("GET /gpu-instance/openapi/v1/gpu/instance/migrate".into(), 405),
            ("PUT /gpu-instance/openapi/v1/jobs".into(), 405),
            ("GET /sim/world".into(), 200),
            ("POST /sim/advance?ms=5".into(), 200),
            ("POST /sim/advance".into(), 400),
            (format!("POST /sim/reclaim?id={id}"), 200),
            ("POST /sim/reclaim?id=unknown".into(), 404),
            ("POST /sim/reclaim-wave?percent=100".into(), 200),
            ("POST /sim/sold-out?product=4090.16c62g&clusters=us-xx-1,eu-xx-2".into(), 200),
        ] {
            let answer = raw(&server, &line, "");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        }
        let mut stream = connect(&server);
        let line = "GET /gpu-instance/openapi/v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(line.as_bytes()).expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }

    #[test]
    fn faults_are_real() {
        let migrate = "POST /gpu-instance/openapi/v1/gpu/instance/migrate";
        // Rule; what comes back at the most; whether the migration took place.
        for (rule, begins, ends, accepted) in [
            ("migrate:cut-before", "", "", 0),
            ("migrate:cut-after", "", "", 1),
            ("migrate:refuse", "", "", 0),
            ("migrate:html", "HTTP/1.1 200 OK", "</html>", 0),
            ("migrate:status=503,retry-after=1", "HTTP/1.1 503 ", "}", 0),
            ("migrate:status=503,effect", "HTTP/1.1 503 ", "}", 1),
            ("migrate:malformed", "HTTP/1.1 200 OK", "{\"oops\": \"", 1),
            ("migrate:delay=50", "HTTP/1.1 200 OK", "", 1),
            ("migrate:truncated", "HTTP/1.1 200 OK", "", 1),
        ] {
            let (server, id) = one_instance();
            let answer = raw(&server, "POST /sim/fault", rule);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{rule}: {answer}");
            let answer = raw(&server, migrate, &format!("{{\"instanceId\": \"{id}\"}}"));
            assert_eq!(answer.is_empty(), begins.is_empty(), "{rule}: {answer}");
            assert!(answer.starts_with(begins) && answer.ends_with(ends), "{rule}: {answer}");
            assert_eq!(answer.contains("retry-after: 1"), rule.contains("retry-after"), "{rule}: {answer}");
            assert_eq!(server.with(|world| world.accepted_migrations_of(&id)), accepted, "{rule}");
        }
    }

    #[test]
    fn lost_creates_and_deletes_are_real() {
        // Rule; how many instances there are right after a create (a delete), and when the late ones have arrived.
        for (rule, creates, late_creates) in [
            ("", 1, 1),
            (":late=400000", 0, 1),
            (":cut-before", 0, 0),
            (":cut-after", 1, 1),
            (":status=500", 0, 0),
            (":status=500,effect", 1, 1),
            (":html", 0, 0),
            (":empty", 1, 1),
            (":malformed", 1, 1),
            (":truncated", 1, 1),
        ] {
            let (server, id) = one_instance();
            for op in ["create/x-*", "delete"] {
                if !rule.is_empty() {
                    let answer = raw(&server, "POST /sim/fault", &format!("{op}{rule}*1"));
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{rule}: {answer}");
                }
            }
            let create = r#"{"name": "x-2", "productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 60,
                "imageUrl": "app:1", "kind": "gpu"}"#;
            let post = "POST /gpu-instance/openapi/v1/gpu/instance/";
            raw(&server, &format!("{post}create"), create);
            raw(&server, &format!("{post}delete"), &format!("{{\"instanceId\": \"{id}\"}}"));
            let counts = |server: &Server| {
                server.with(|world| (world.applied(crate::Op::Create), world.applied(crate::Op::Delete)))
            };
            assert_eq!(counts(&server), (creates, creates), "{rule}");
            raw(&server, "POST /sim/advance?ms=399000", "");
            assert_eq!(counts(&server), (creates, creates), "{rule}");
            raw(&server, "POST /sim/advance?ms=60000", "");
            assert_eq!(counts(&server), (late_creates, late_creates), "{rule}");
            let story = raw(&server, "GET /sim/world", "");
            assert_eq!(story.contains("\"status\":\"running\""), late_creates > 0, "{rule}: {story}");
        }
    }

    #[test]
    fn a_truncated_answer_announces_more_than_it_brings() {
        let (server, _) = one_instance();
        server.with(|world| world.fault("list:truncated".parse().expect("a rule")));
        let answer = raw(&server, "GET /gpu-instance/openapi/v1/gpu/instances", "");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        assert_eq!(length.parse::<usize>().expect("a number") / 2, body.len(), "{head}");
    }

    #[test]
    fn a_hanging_call_does_not_hold_up_the_others() {
        let (server, _) = one_instance();
        server.with(|world| world.fault("jobs:hang*1".parse().expect("a rule")));
        let mut hanging = connect(&server);
        let request = "GET /gpu-instance/openapi/v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n";
        hanging.write_all(request.as_bytes()).expect("send");
        hanging.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
        assert!(hanging.read(&mut [0; 16]).is_err(), "nothing comes");
        assert!(raw(&server, "GET /gpu-instance/openapi/v1/jobs", "").starts_with("HTTP/1.1 200 "));
        server.stop();
        hanging.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        assert_eq!(hanging.read(&mut [0; 16]).unwrap_or(0), 0, "the end of the server ends it");
    }

    #[test]
    fn an_endless_body_does_not_end() {
        let (server, _) = one_instance();
        server.with(|world| world.fault("jobs:endless-body".parse().expect("a rule")));
        let mut stream = connect(&server);
        let request = "GET /gpu-instance/openapi/v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("send");
        let mut taken = Vec::new();
        stream.take(3 << 20).read_to_end(&mut taken).expect("read");
        assert_eq!(taken.len(), 3 << 20);
    }

    #[test]
    fn the_world_lives_faster_if_told_so_and_tells_its_story() {
        let mut world = World::new(2);
        let id = world.add(Spec::exited("x"));
        let server = Server::start(world, Options { speed: 10_000, ..Options::default() }).expect("start");
        raw(&server, "POST /gpu-instance/openapi/v1/gpu/instance/migrate", &format!("{{\"instanceId\":\"{id}\"}}"));
        for _ in 0..500 {
            if raw(&server, "GET /sim/world", "").contains("\"status\":\"running\"") {
                let story = raw(&server, "GET /sim/world", "");
                assert!(story.contains("\"op\":\"migrate\"") && story.contains("\"outcome\":\"applied\""), "{story}");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the migration should take 6 ms of real time");
    }

    #[test]
    fn a_hundred_connections_are_kept_alive() {
        let server = Server::start(World::fleet(3, 200), Options::default()).expect("start");
        let mut streams: Vec<_> = (0..100).map(|_| connect(&server)).collect();
        let line = "GET /gpu-instance/openapi/v1/clusters HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test\r\n\r\n";
        for _ in 0..10 {
            for stream in &mut streams {
                stream.write_all(line.as_bytes()).expect("send");
            }
            for stream in &mut streams {
                let mut answer = [0; 4096];
                let length = stream.read(&mut answer).expect("read");
                assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
            }
        }
        assert_eq!(server.with(|world| world.calls(crate::Op::Clusters)), 1_000);
    }
}
