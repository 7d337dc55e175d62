//! Probes: how the health and latency of an instance are measured, and the results.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::world::instance::Instance;
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;

/// How an instance is probed. A port is one that the instance listens on; the provider reports its address ([`Endpoint`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `http:8080/health`: passes if a GET returns 2xx or 3xx.
    Http {
        port: u16,
        /// The path with its query; starts with `/`.
        path: String,
    },
    /// `tcp:22`: passes if the connection is accepted.
    Tcp { port: u16 },
    /// `exec:COMMAND`: passes if the command exits with 0.
    Command(String),
}

impl Probe {
    /// Parses a setting.
    ///
    /// # Errors
    /// The allowed forms.
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

/// Where a port of an instance can be reached from outside (`novita-api.md` section 2.1, `portMappings`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The port that the instance listens on, or [`Self::ANY`].
    pub port: u16,
    /// `http` or `tcp`; empty if the provider left it out.
    pub kind: String,
    /// `host:port`, or a URL that starts with `http://` or `https://`.
    pub address: String,
}

impl Endpoint {
    /// Every port, at the same port of its address, which is a host then.
    pub const ANY: u16 = 0;

    /// How a variable is called that tells it to a command.
    #[must_use]
    pub fn variable(&self) -> String {
        if self.port == Self::ANY { "ADDRESS".into() } else { format!("ENDPOINT_{}", self.port) }
    }
}

/// Where an instance can be reached: addresses, never a password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// `user@host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// The address of Jupyter, without its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jupyter: Option<String>,
}

/// The details of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseUp {
    pub instance: Instance,
    /// The addresses of its ports.
    pub endpoints: Vec<Endpoint>,
    pub connections: Connections,
    /// The price of one GPU for one hour, if the provider reports it.
    pub gpu_price: Option<Usd>,
}

/// The result of several samples of one probe on one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    pub at: Timestamp,
    pub samples: u32,
    /// Samples that failed or timed out.
    pub errors: u32,
    /// The latency of passing samples; `None` if there are none.
    pub latency: Option<Latency>,
    /// The reason of the last sample that failed or could not be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Samples that could not be taken, for example because the command or the endpoint does not exist. They do not count
    /// as [`samples`](Self::samples), since they say nothing about the instance.
    #[serde(default)]
    pub untaken: u32,
    /// Whether it ended early because several samples in a row failed slowly.
    #[serde(default)]
    pub given_up: bool,
}

impl Measurement {
    /// Takes a later measurement of the same instance into account: counts add up, and the median is the mean of both by
    /// their numbers of samples. One that was cut short, or in which most samples failed, says nothing about what is usual.
    pub fn pool(&mut self, later: &Self) {
        let (Some(known), Some(new)) = (self.latency, later.latency) else { return };
        if later.given_up || later.untaken > 0 || later.errors > later.samples / 2 {
            return;
        }
        let (before, now) = (u64::from(self.samples), u64::from(later.samples));
        let weighted = u128::from(known.median) * u128::from(before) + u128::from(new.median) * u128::from(now);
        let median = u64::try_from(weighted / u128::from((before + now).max(1))).unwrap_or(known.median);
        let (least, most) = (known.least.min(new.least), known.most.max(new.most));
        self.latency = Some(Latency { least, median, most });
        self.samples = self.samples.saturating_add(later.samples);
        self.errors = self.errors.saturating_add(later.errors);
    }
}

/// The durations of passing samples, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    pub least: u64,
    pub median: u64,
    pub most: u64,
}
