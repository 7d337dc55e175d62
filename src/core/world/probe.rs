//! Probes: how the health and the speed of an instance are measured, and what a measurement brought.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::world::instance::Instance;
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;

/// How an instance is asked whether it does its work. Ports are those the instance listens on; where they can be reached
/// the provider says ([`Endpoint`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Probe {
    /// `http:8080/health`: a GET answered with 2xx or 3xx.
    Http {
        /// The port.
        port: u16,
        /// The path, with its query; begins with `/`.
        path: String,
    },
    /// `tcp:22`: a connection is accepted.
    Tcp {
        /// The port.
        port: u16,
    },
    /// `exec:COMMAND`: a command of the operator's ends with 0.
    Command(String),
}

impl Probe {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const ALLOWED: &str = "http:PORT/PATH, tcp:PORT or exec:COMMAND, for example http:8080/health";
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(ALLOWED);
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        match text.split_once(':') {
            Some(("http", rest)) => {
                let (number, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let path = if path.is_empty() { "/" } else { path };
                if !is_plain(path) {
                    return Err(ALLOWED);
                }
                Ok(Self::Http { port: port(number)?, path: path.into() })
            }
            Some(("tcp", number)) => Ok(Self::Tcp { port: port(number)? }),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Command(command.trim().into())),
            _ => Err(ALLOWED),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { port, path } => write!(f, "http:{port}{path}"),
            Self::Tcp { port } => write!(f, "tcp:{port}"),
            Self::Command(command) => write!(f, "exec:{command}"),
        }
    }
}

impl TryFrom<String> for Probe {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Probe> for String {
    fn from(probe: Probe) -> Self {
        probe.to_string()
    }
}

/// Where one port of an instance can be reached from outside (`novita-api.md` section 2.1, `portMappings`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The port it listens on.
    pub port: u16,
    /// `http` or `tcp`; empty if the provider left it out.
    pub kind: String,
    /// `host:port`, or an address that begins with `http://` or `https://`.
    pub address: String,
}

/// One instance at close range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseUp {
    /// How it is.
    pub instance: Instance,
    /// Where its ports can be reached.
    pub endpoints: Vec<Endpoint>,
    /// The price of one GPU for one hour, if the provider reports it.
    pub gpu_price: Option<Usd>,
}

/// What many samples of one probe on one instance brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// When it began.
    pub at: Timestamp,
    /// Samples taken: answered well, badly, or not in time.
    pub samples: u32,
    /// Of those, failed: no answer in time, or a bad one.
    pub errors: u32,
    /// How long the good ones took; `None` if there was none.
    pub latency: Option<Latency>,
    /// Why the last one that failed, or could not be taken, did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Samples that could not be taken at all, not among [`samples`](Self::samples): there is no such command, or no
    /// endpoint. They say nothing about the instance.
    #[serde(default)]
    pub untaken: u32,
    /// Whether it ended early since sample after sample failed, each after a long time.
    #[serde(default)]
    pub given_up: bool,
}

/// How long good samples took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// The fastest.
    pub least: u64,
    /// The one in the middle.
    pub median: u64,
    /// The slowest.
    pub most: u64,
}
