//! A wire between the program and its Redis server that holds back the answer to what a test waits for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// How often to look whether answers may go on.
const LOOK: Duration = Duration::from_millis(2);

/// Everything passes, until a request with the wanted words has passed: then nothing comes back until it is released.
pub(crate) struct Relay {
    port: u16,
    gate: Arc<Gate>,
}

struct Gate {
    words: &'static str,
    held: AtomicBool,
    released: AtomicBool,
    ended: AtomicBool,
}

impl Relay {
    /// Stands before the server on this port.
    pub(crate) fn before(server: u16, words: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let [held, released, ended] = [false; 3].map(AtomicBool::new);
        let gate = Arc::new(Gate { words, held, released, ended });
        let its = Arc::clone(&gate);
        spawn(move || {
            for near in listener.incoming() {
                if its.ended.load(Ordering::Relaxed) {
                    break;
                }
                let near = near.expect("a connection");
                let far = TcpStream::connect(("127.0.0.1", server)).expect("the server");
                let (requests, answers) = (Arc::clone(&its), Arc::clone(&its));
                let (from, to) = (near.try_clone().expect("a copy"), far.try_clone().expect("a copy"));
                spawn(move || carry(from, to, |bytes| requests.look(bytes)));
                spawn(move || carry(far, near, |_| answers.wait()));
            }
        });
        Self { port, gate }
    }

    /// The address for respot.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Whether the request has passed whose answer is held back.
    pub(crate) fn holds(&self) -> bool {
        self.gate.held.load(Ordering::Relaxed)
    }

    /// Lets everything pass from now on.
    pub(crate) fn release(&self) {
        self.gate.released.store(true, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.release();
        self.gate.ended.store(true, Ordering::Relaxed);
        // So that the thread that listens hears of it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Gate {
    fn look(&self, bytes: &[u8]) {
        if String::from_utf8_lossy(bytes).contains(self.words) {
            self.held.store(true, Ordering::Relaxed);
        }
    }

    fn wait(&self) {
        while self.held.load(Ordering::Relaxed) && !self.released.load(Ordering::Relaxed) {
            sleep(LOOK);
        }
    }
}

/// Carries bytes from one to the other, each piece after a look at it. A request comes in one piece: it is small.
fn carry(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        before(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
