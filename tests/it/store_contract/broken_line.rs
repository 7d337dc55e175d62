//! A line to a Redis server that breaks at the worst moments: an answer is lost, or a request is late.

use std::sync::{Arc, Mutex};

use respot::store::redis::RedisStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::redis_server::RedisServer;

/// What happens to the next request.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The server carries it out, and the line breaks before the answer.
    LoseAnswer,
    /// The line breaks, and the request arrives when it is delivered.
    Hold,
}

/// A request, and the connection on which it will arrive.
type Late = (TcpStream, Vec<u8>);

/// Passes bytes on, until a fault is asked for.
#[derive(Clone)]
struct Line {
    port: u16,
    next: Arc<Mutex<Option<Fault>>>,
    held: Arc<Mutex<Vec<Late>>>,
}

impl Line {
    async fn to(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let line = Self { port, next: Arc::default(), held: Arc::default() };
        let (this, server) = (line.clone(), server.port());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(this.clone().carry(client, server));
            }
        });
        line
    }

    async fn carry(self, mut client: TcpStream, server: u16) {
        let mut server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
        let (mut request, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            let length = client.read(&mut request).await.unwrap_or(0);
            if length == 0 {
                return;
            }
            let fault = self.next.lock().expect("unpoisoned").take();
            if fault == Some(Fault::Hold) {
                self.held.lock().expect("unpoisoned").push((server, request[..length].to_vec()));
                return;
            }
            server.write_all(&request[..length]).await.expect("sent");
            let length = server.read(&mut answer).await.expect("an answer");
            if fault == Some(Fault::LoseAnswer) || client.write_all(&answer[..length]).await.is_err() {
                return;
            }
        }
    }

    fn break_with(&self, fault: Fault) {
        *self.next.lock().expect("unpoisoned") = Some(fault);
    }

    /// Delivers the late requests and waits until they are carried out.
    async fn deliver(&self) {
        let held: Vec<_> = self.held.lock().expect("unpoisoned").drain(..).collect();
        assert!(!held.is_empty(), "something was held");
        for (mut server, request) in held {
            server.write_all(&request).await.expect("sent");
            let length = server.read(&mut [0; 1024]).await.expect("an answer");
            assert_ne!(length, 0);
        }
    }

    async fn store(&self) -> RedisStore {
        RedisStore::connect(&format!("redis://127.0.0.1:{}", self.port), "r:").await.expect("connected")
    }
}

#[tokio::test]
async fn a_lost_answer_changes_nothing() {
    let server = RedisServer::start();
    let line = Line::to(&server).await;
    let store = line.store().await;
    for fault in [Fault::LoseAnswer, Fault::Hold] {
        line.break_with(fault);
        let lease = take(&store, "lease", "t").await;
        line.break_with(fault);
        store.renew(&lease).await.expect("renewed");
        line.break_with(fault);
        store.commit(&lease, &[set("a", "1"), map_set("m", "f", "1")]).await.expect("committed");
        line.break_with(fault);
        assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
        line.break_with(fault);
        store.commit_and_release(lease, &[set("a", "2")]).await.expect("committed and released");
        assert_eq!(value(&store, "a").await.as_deref(), Some("2"));
        assert_eq!(value(&store, "lease").await, None);
    }
}

#[tokio::test]
async fn a_late_commit_undoes_nothing() {
    let server = RedisServer::start();
    let line = Line::to(&server).await;
    let store = line.store().await;
    let lease = take(&store, "lease", "one").await;
    line.break_with(Fault::Hold);
    store.commit(&lease, &[set("a", "1")]).await.expect("committed by the second attempt");
    store.commit(&lease, &[set("a", "2")]).await.expect("committed");
    line.deliver().await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("2"), "under the same lease");

    line.break_with(Fault::Hold);
    store.commit_and_release(lease, &[set("a", "3")]).await.expect("committed by the second attempt");
    let other = line.store().await;
    let lease = take(&other, "lease", "two").await;
    other.commit(&lease, &[set("a", "4")]).await.expect("committed");
    line.deliver().await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("4"), "under another's");
    other.renew(&lease).await.expect("the lease is still theirs");
}

#[tokio::test]
async fn a_lease_that_ended_while_the_line_was_broken_is_lost() {
    let server = RedisServer::start();
    let line = Line::to(&server).await;
    let store = line.store().await;
    for release in [false, true] {
        let lease = take(&store, "lease", "one").await;
        line.break_with(Fault::Hold);
        server.raw(&["DEL", "r:lease"]);
        let writes = [set("a", "1")];
        let answer =
            if release { store.commit_and_release(lease, &writes).await } else { store.commit(&lease, &writes).await };
        assert_eq!(answer, Err(StoreError::LeaseLost), "release: {release}");
        assert_eq!(value(&store, "a").await, None);
    }
}
