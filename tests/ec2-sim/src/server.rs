//! The face for the real program: HTTP/1.1 on a loopback port, in real time, in a thread of its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, DATE, SERVER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::call::{Delivery, Reply};
use crate::control::{Said, steer};
use crate::form::Form;
use crate::json::Document;
use crate::protocol::Protocol;
use crate::signature::{Caller, Signed};
use crate::world::World;

/// How a server runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How many times faster than real time the world lives.
    pub speed: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), speed: 1 }
    }
}

/// A running server. It stops when it is dropped.
///
/// Signatures are checked with the keys of the world ([`World::add_access_key`]); they may be of the real time or of the
/// world's, which is ahead after an advance. The header `Date` is the world's.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves this world. It is moved to the real time; from there its time goes on with the real one.
    ///
    /// # Errors
    /// When the address cannot be bound, or no thread started.
    pub fn start(mut world: World, options: Options) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        world.starts_at(real_now_ms());
        let world = Arc::new(Mutex::new(world));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&world);
        let thread = std::thread::Builder::new().name("ec2-sim".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    // The sender never sends: this resolves when the server is dropped.
                    _ = stopped => {}
                    () = keep_time(&shared, options.speed) => {}
                    () = accept(listener, Arc::clone(&shared)) => {}
                }
            });
        })?;
        Ok(Self { address, world, stop: Some(stop), thread: Some(thread) })
    }

    /// The endpoint for the client, for all regions and services: without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at the world, or changes it. Calls wait so long.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut lock(&self.world))
    }

    /// Lets time pass in the world.
    pub fn advance(&self, ms: u64) {
        self.with(|world| world.advance(ms));
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

/// What is behind a lock; a test that panicked while holding it does not take the others down.
fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "the one site that reads the system clock")]
fn real_now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Hands the passing time to the world in small pieces.
async fn keep_time(world: &Mutex<World>, speed: u32) {
    let mut synced = Instant::now();
    loop {
        sleep(Duration::from_millis(5)).await;
        let passed = u64::try_from(synced.elapsed().as_millis()).unwrap_or(u64::MAX);
        synced += Duration::from_millis(passed);
        lock(world).advance(passed.saturating_mul(u64::from(speed)));
    }
}

async fn accept(listener: std::net::TcpListener, world: Arc<Mutex<World>>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        // Out of file descriptors, for example: later there may be some again.
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(converse(stream, Arc::clone(&world)));
    }
}

async fn converse(stream: TcpStream, world: Arc<Mutex<World>>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request| answer(request, Arc::clone(&world)));
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

async fn answer(request: Request<Incoming>, world: Arc<Mutex<World>>) -> Result<Response<Full<Bytes>>, CutOnPurpose> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| CutOnPurpose)?.to_bytes();
    if let Some(control) = head.uri.path().strip_prefix("/sim/") {
        let query = head.uri.query().unwrap_or_default();
        let Said { status, content_type, text } = steer(&mut lock(&world), control, query, &body);
        let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
        return response.body(Full::new(Bytes::from(text))).map_err(|_| CutOnPurpose);
    }
    let (reply, now) = {
        let mut world = lock(&world);
        (serve(&mut world, &head, &body), world.now_ms())
    };
    match reply.delivery {
        Delivery::Whole => {}
        Delivery::CutBefore | Delivery::CutAfter => return Err(CutOnPurpose),
        Delivery::Hang { ms } => sleep(Duration::from_millis(ms)).await,
    }
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or_default()));
    let response = Response::builder().status(reply.status).header(CONTENT_TYPE, reply.content_type);
    let response = response.header(DATE, date).header(SERVER, "AmazonEC2");
    let response = response.header("x-amzn-requestid", reply.request_id);
    let response = match reply.error_type {
        Some(error_type) => response.header("x-amzn-errortype", error_type),
        None => response,
    };
    response.body(Full::new(Bytes::from(reply.body))).map_err(|_| CutOnPurpose)
}

/// Checks the signature and passes the call on.
fn serve(world: &mut World, head: &Parts, body: &[u8]) -> Reply {
    let values = head.headers.iter();
    let headers: Vec<_> = values
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let query = head.uri.query().unwrap_or_default();
    let signed = Signed { method: head.method.as_str(), path: head.uri.path(), query, headers: &headers, body };
    let form = String::from_utf8_lossy(body);
    let form = if head.method == hyper::Method::GET { query } else { &*form };
    let unsigned = url::form_urlencoded::parse(form.as_bytes())
        .any(|(name, value)| name == "Action" && value == "AssumeRoleWithWebIdentity");
    if unsigned && signed.scope().is_none() {
        return world.call_as("", "eu-west-1", "sts", form);
    }
    let target = signed.header("x-amz-target");
    match signed.verify(&world.keys, [world.now, real_now_ms()]) {
        Ok(Caller { key, region, service }) => match Protocol::of(&service) {
            Protocol::Json { target: prefix, .. } => {
                let media = signed.header("content-type").unwrap_or_default();
                let action = target.and_then(|target| target.strip_prefix(prefix)?.strip_prefix('.'));
                let action = action.filter(|_| Protocol::is_json(media) && signed.method == "POST");
                world.call_json_as(&key, &region, &service, action.unwrap_or_default(), form)
            }
            Protocol::Ec2 | Protocol::Query(_) => world.call_as(&key, &region, &service, form),
        },
        Err(error) => {
            let (region, service) = signed.scope().unwrap_or_else(|| (String::new(), "ec2".to_owned()));
            if let Some((_, action)) = target.and_then(|target| target.rsplit_once('.')) {
                return world.refuse(&region, &service, action, &Document::parse(form).form(), error);
            }
            let form = Form::parse(form);
            world.refuse(&region, &service, form.get("Action").unwrap_or_default(), &form, error)
        }
    }
}
