//! Somebody who is told: takes webhooks, pings and pushed metrics over HTTP, or fails in one of the ways receivers do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Duration;

/// What a receiver does with a request, told by its number and what came.
type Manner = dyn Fn(usize, &Told) -> Answer + Send + Sync;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16),
    /// Everything, from the status line on.
    Whole(&'static str),
    /// The connection is closed without a word.
    Dropped,
    /// Nothing ever comes.
    Silence,
}

pub(crate) struct Receiver {
    port: u16,
    told: Arc<Mutex<Vec<(Told, Answer)>>>,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn willing() -> Self {
        Self::with(|_, _| Answer::Status(204))
    }

    pub(crate) fn with(manner: impl Fn(usize, &Told) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let told = Arc::<Mutex<Vec<(Told, Answer)>>>::default();
        let (manner, its): (Arc<Manner>, _) = (Arc::new(manner), Arc::clone(&told));
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let (manner, told) = (Arc::clone(&manner), Arc::clone(&its));
                spawn(move || while hear(&stream, &manner, &told).is_some() {});
            }
        });
        Self { port, told }
    }

    /// Its address, with a path that nobody must see.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Everything that came, with what became of it, in order.
    pub(crate) fn told(&self) -> Vec<(Told, Answer)> {
        self.told.lock().expect("unpoisoned").clone()
    }

    /// What was taken.
    pub(crate) fn taken(&self) -> Vec<Told> {
        let taken = self.told().into_iter().filter(|(_, answer)| matches!(answer, Answer::Status(200..300)));
        taken.map(|(told, _)| told).collect()
    }
}

fn hear(stream: &TcpStream, manner: &Arc<Manner>, told: &Mutex<Vec<(Told, Answer)>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut next = |reader: &mut BufReader<&TcpStream>| {
        line.clear();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = next(&mut reader)?;
    let mut words = first.split(' ').map(String::from);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let line = next(&mut reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Told { method, path, headers, body: String::new() };
    let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).expect("UTF-8");
    let answer = {
        let mut told = told.lock().expect("unpoisoned");
        let answer = manner(told.len(), &request);
        told.push((request, answer));
        answer
    };
    match answer {
        Answer::Status(code) => {
            let mut stream = stream;
            write!(stream, "HTTP/1.1 {code} so be it\r\ncontent-length: 0\r\n\r\n").ok()
        }
        Answer::Whole(text) => {
            let mut stream = stream;
            stream.write_all(text.as_bytes()).ok()
        }
        Answer::Dropped => None,
        Answer::Silence => {
            std::thread::sleep(Duration::from_secs(60));
            None
        }
    }
}
