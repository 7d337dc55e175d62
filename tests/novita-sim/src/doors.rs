//! The applications of the server's machines, behind real ports: each has one on the loopback for as long as its machine
//! exists, and somebody listens there for as long as the machine runs.
//!
//! A port is taken before anybody listens on it, so that the endpoint is known from the beginning, connections are
//! refused meanwhile, and a machine that comes back is where it was. Machines without an application cost nothing.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::app::{AppKind, Knock, Said};
use crate::lock;
use crate::world::{Slot, World};

/// The doors of all machines. Lock the world first, then these.
#[derive(Debug)]
pub(crate) struct Doors {
    world: Arc<Mutex<World>>,
    runtime: Handle,
    doors: HashMap<(usize, u16), Door>,
    /// Machines that are up and still boot, so that their doors open without anything else happening.
    booting: BTreeSet<usize>,
}

/// The task behind it ends when it is dropped.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    port: Arc<Mutex<Port>>,
    is_open: watch::Sender<bool>,
}

/// What its task does not have in its hands.
#[derive(Debug)]
enum Port {
    /// Nobody listens there, and nobody else can.
    Taken(TcpSocket),
    /// Whoever comes waits until the task takes it over.
    Listening(TcpListener),
    /// The task has it, or it has to be taken again.
    Away,
}

impl Port {
    /// Listens, so that whoever hears of the open door after this is let in.
    fn listen(&mut self) -> io::Result<()> {
        if let Self::Taken(socket) = std::mem::replace(self, Self::Away) {
            *self = Self::Listening(socket.listen(1_024)?);
        }
        Ok(())
    }

    /// Nobody listens any more, unless the task has taken over: then that is its business.
    fn close(&mut self, address: SocketAddr) {
        if matches!(self, Self::Listening(_)) {
            *self = Self::Away;
            *self = take(address).map_or(Self::Away, Self::Taken);
        }
    }
}

impl Doors {
    pub(crate) fn new(world: &Arc<Mutex<World>>, runtime: Handle) -> Self {
        let mut locked = lock(world);
        let slots = if locked.apps.is_empty() { 0 } else { locked.slots.len() };
        locked.stirred = Some((0..slots).collect());
        drop(locked);
        Self { world: Arc::clone(world), runtime, doors: HashMap::new(), booting: BTreeSet::new() }
    }

    /// Opens and closes doors, as the machines that changed since the last time want it. `world` is the one it was made
    /// for, locked.
    pub(crate) fn tend(&mut self, world: &mut World) {
        let stirred = world.stirred.as_mut().map(std::mem::take).unwrap_or_default();
        if stirred.is_empty() && self.booting.is_empty() {
            return;
        }
        let mut slots = std::mem::take(&mut self.booting);
        slots.extend(stirred);
        for slot in slots {
            self.tend_machine(world, slot);
        }
    }

    fn tend_machine(&mut self, world: &mut World, slot: usize) {
        let wanted = world.doors(slot);
        self.doors.retain(|(owner, port), _| *owner != slot || wanted.iter().any(|it| it.port == *port));
        for WantedDoor { port, opens_in } in wanted {
            if opens_in.is_some_and(|after| after > 0) {
                self.booting.insert(slot);
            }
            let is_open = opens_in.is_some_and(|after| after <= 0);
            if !self.doors.contains_key(&(slot, port))
                && let Ok(door) = self.make(slot, port)
            {
                self.doors.insert((slot, port), door);
            }
            if let Some(door) = self.doors.get(&(slot, port)).filter(|door| *door.is_open.borrow() != is_open) {
                let _context = self.runtime.enter();
                let mut bound = lock(&door.port);
                if is_open {
                    bound.listen().ok();
                } else {
                    bound.close(door.address);
                }
                drop(bound);
                door.is_open.send_replace(is_open);
            }
        }
        let doors = self.doors.iter().filter(|((owner, _), _)| *owner == slot);
        let mut sockets: Vec<_> = doors.map(|((_, port), door)| (*port, door.address)).collect();
        sockets.sort_unstable();
        if let Some(Some(Slot { row, sockets: known, .. })) = world.slots.get_mut(slot)
            && *known != sockets
        {
            (*row, *known) = (None, sockets);
        }
    }

    fn make(&self, slot: usize, port: u16) -> io::Result<Door> {
        let socket = take(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = socket.local_addr()?;
        let (is_open, changes) = watch::channel(false);
        let shared = Arc::new(Mutex::new(Port::Taken(socket)));
        let place = Place { world: Arc::clone(&self.world), slot, port };
        self.runtime.spawn(keep(Arc::clone(&shared), address, changes, place));
        Ok(Door { address, port: shared, is_open })
    }
}

/// A port with an application.
pub(crate) struct WantedDoor {
    port: u16,
    /// In how many milliseconds of the world's time somebody listens there; `None` while the machine is down.
    opens_in: Option<i64>,
}

impl World {
    fn doors(&self, slot: usize) -> Vec<WantedDoor> {
        let Some(machine) = self.machine_at(slot) else { return Vec::new() };
        let exposed = |port: u16| machine.ports.iter().any(|(known, _)| *known == port);
        let apps = self.apps_of(&machine.image_url).filter(|app| exposed(app.port));
        let is_up = machine.status == "running";
        apps.map(|app| WantedDoor { port: app.port, opens_in: is_up.then(|| self.boots_in(machine, app)) }).collect()
    }
}

/// Takes a port without listening on it.
fn take(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the last time may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Which application of which machine.
#[derive(Clone)]
struct Place {
    world: Arc<Mutex<World>>,
    slot: usize,
    port: u16,
}

impl Place {
    fn knock(&self, kind: AppKind) -> Knock {
        lock(&self.world).knock_at(self.slot, self.port, kind)
    }

    fn is_http(&self) -> bool {
        lock(&self.world).app_at(self.slot, self.port).is_some_and(|app| app.kind == AppKind::Http)
    }
}

/// Listens while the door is open; ends when there is no door any more.
async fn keep(port: Arc<Mutex<Port>>, address: SocketAddr, mut is_open: watch::Receiver<bool>, place: Place) {
    while is_open.wait_for(|is_open| *is_open).await.is_ok() {
        let had = std::mem::replace(&mut *lock(&port), Port::Away);
        let listener = match had {
            Port::Listening(listener) => Ok(listener),
            Port::Taken(socket) => socket.listen(1_024),
            Port::Away => take(address).and_then(|socket| socket.listen(1_024)),
        };
        let Ok(listener) = listener else {
            // Somebody else was faster; perhaps not for long.
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let is_closed = tokio::select! {
            closed = is_open.wait_for(|is_open| !is_open) => closed.is_ok(),
            () = accept(&listener, &place) => false,
        };
        if !is_closed {
            return;
        }
        drop(listener);
        if let Ok(socket) = take(address) {
            *lock(&port) = Port::Taken(socket);
        }
    }
}

/// Takes everybody in, for ever. Whoever is in is put out with it.
async fn accept(listener: &TcpListener, place: &Place) {
    let mut guests = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(guests.spawn(receive(stream, place.clone()))),
            // Out of file descriptors, for example: later there may be some again.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
        while guests.try_join_next().is_some() {}
    }
}

async fn receive(mut stream: TcpStream, place: Place) {
    stream.set_nodelay(true).ok();
    if place.is_http() {
        let service = service_fn(move |request| answer(request, place.clone()));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connection.await.ok();
    } else {
        place.knock(AppKind::Tcp);
        let mut ignored = [0; 64];
        while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    }
}

/// Why a connection ends without an answer.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the machine is gone")
    }
}

impl std::error::Error for Gone {}

async fn answer<B>(_: Request<B>, place: Place) -> Result<Response<Full<Bytes>>, Gone> {
    let asked_at = Instant::now();
    let Knock { took_us, said } = place.knock(AppKind::Http);
    let (status, text) = match said {
        Said::Fine => (200, "ok\n"),
        Said::Failed => (500, "failed\n"),
        Said::Nothing => return std::future::pending().await,
        Said::Refused | Said::Closed => return Err(Gone),
    };
    wait_until(asked_at + Duration::from_micros(took_us)).await;
    Response::builder().status(status).body(Full::new(Bytes::from_static(text.as_bytes()))).map_err(|_| Gone)
}

/// Waits more exactly than tokio's timers, which know whole milliseconds only: their last bit is slept through by a
/// thread.
async fn wait_until(moment: Instant) {
    const LAST: Duration = Duration::from_millis(2);
    sleep_until(moment.checked_sub(LAST).unwrap_or(moment)).await;
    let rest = moment.saturating_duration_since(Instant::now());
    if !rest.is_zero() {
        tokio::task::spawn_blocking(move || std::thread::sleep(rest)).await.ok();
    }
}
