//! Samples over the network.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use url::{Host, Url};

use super::{ProbeOutcome, ProbeSample, ProbeTarget, Prober};
use crate::core::world::probe::{Endpoint, Probe};
use crate::proxies::Proxies;
use crate::shell::{Shell, ShellError};
use crate::tls;

/// The most that is read of a response. A longer or endless response counts as complete.
const LONGEST_ANSWER: usize = 1 << 20;

/// Connections serve one measurement; the next one is minutes later.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// Takes samples over HTTP, over TCP, or by a command.
#[derive(Debug)]
pub struct NetProber {
    limit: Duration,
    proxies: Proxies,
    shell: Shell,
    // Created when first needed, since reading the system's certificates takes longer than many a measurement.
    plain: OnceLock<Result<reqwest::Client, String>>,
    encrypted: OnceLock<Result<reqwest::Client, String>>,
}

impl NetProber {
    /// A prober whose samples fail when they take longer than `limit`.
    #[must_use]
    pub fn new(limit: Duration, proxies: &Proxies) -> Self {
        let proxies = proxies.clone();
        Self { limit, proxies, shell: Shell::of_process(), plain: OnceLock::new(), encrypted: OnceLock::new() }
    }

    fn client(&self, encrypted: bool) -> Result<&reqwest::Client, String> {
        let client = if encrypted { &self.encrypted } else { &self.plain };
        client
            .get_or_init(|| client_of(encrypted, &self.proxies).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(Clone::clone)
    }

    async fn command(&self, command: &str, target: ProbeTarget<'_>) -> ProbeOutcome {
        let ProbeTarget { id, name, endpoints } = target;
        let instance = [("RESPOT_INSTANCE_ID", id), ("RESPOT_INSTANCE_NAME", name)];
        let instance = instance.map(|(name, value)| (name.to_owned(), value));
        let addresses = endpoints.iter().map(|it| (format!("RESPOT_{}", it.variable()), it.address.as_str()));
        match self.shell.run(command, instance.into_iter().chain(addresses)).await {
            Ok(()) => ProbeOutcome::Good,
            Err(ShellError::NotRun(why)) => ProbeOutcome::Untaken(why),
            Err(ShellError::Failed(why)) => ProbeOutcome::Bad(why),
        }
    }

    async fn http(&self, endpoint: &Endpoint, path: &str) -> ProbeSample {
        let Some(url) = url(endpoint, path) else { return untaken("its endpoint has no valid address") };
        let client = match self.client(url.scheme() == "https") {
            Ok(client) => client,
            Err(why) => return untaken(&why),
        };
        self.timed(get(client, url)).await
    }

    async fn tcp(&self, endpoint: &Endpoint) -> ProbeSample {
        let Some((host, port)) = url(endpoint, "").and_then(|url| Some((host(&url)?, url.port_or_known_default()?)))
        else {
            return untaken("its endpoint has no valid address");
        };
        // Name resolution is not measured, since it is not the instance that responds.
        let found = tokio::time::timeout(self.limit, lookup_host((host, port))).await;
        let Ok(Ok(found)) = found else { return untaken("its name does not resolve") };
        let found: Vec<_> = found.collect();
        let connect = async {
            match TcpStream::connect(found.as_slice()).await {
                Ok(_) => ProbeOutcome::Good,
                Err(error) => ProbeOutcome::Bad(error.to_string()),
            }
        };
        self.timed(connect).await
    }

    /// Measures the time, and fails what exceeds the limit.
    async fn timed(&self, asked: impl Future<Output = ProbeOutcome>) -> ProbeSample {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(self.limit, asked).await;
        let took = begun.elapsed();
        ProbeSample {
            took,
            outcome: outcome.unwrap_or_else(|_| ProbeOutcome::Bad(format!("no answer within {:?}", self.limit))),
        }
    }
}

impl Prober for NetProber {
    async fn sample(&self, probe: &Probe, target: ProbeTarget<'_>) -> ProbeSample {
        match probe {
            Probe::Command(command) => self.timed(self.command(command, target)).await,
            Probe::Http { port, path } => match endpoint(target, *port, "http") {
                Some(endpoint) => self.http(&endpoint, path).await,
                None => untaken(&format!("the provider reports no endpoint for port {port}")),
            },
            Probe::Tcp { port } => match endpoint(target, *port, "tcp") {
                Some(endpoint) => self.tcp(&endpoint).await,
                None => untaken(&format!("the provider reports no endpoint for port {port}")),
            },
        }
    }
}

fn untaken(why: &str) -> ProbeSample {
    ProbeSample { took: Duration::ZERO, outcome: ProbeOutcome::Untaken(why.into()) }
}

/// The endpoint of a port, preferably of this kind.
fn endpoint(target: ProbeTarget<'_>, port: u16, kind: &str) -> Option<Endpoint> {
    let mut of_port = target.endpoints.iter().filter(|it| it.port == port);
    let own = of_port.clone().find(|it| it.kind == kind).or_else(|| of_port.next()).cloned();
    let any = || target.endpoints.iter().find(|it| it.port == Endpoint::ANY);
    own.or_else(|| any().map(|it| Endpoint { port, address: format!("{}:{port}", it.address), ..it.clone() }))
}

/// The endpoint's scheme (default http), host, port and path, followed by `path`.
fn url(endpoint: &Endpoint, path: &str) -> Option<Url> {
    let address = endpoint.address.trim();
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let base = Url::parse(&with_scheme).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let origin = &base[..url::Position::BeforePath];
    Url::parse(&format!("{origin}{}{path}", base.path().trim_end_matches('/'))).ok()
}

fn host(url: &Url) -> Option<String> {
    Some(match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    })
}

fn client_of(encrypted: bool, proxies: &Proxies) -> anyhow::Result<reqwest::Client> {
    Ok(tls::client_builder(encrypted, proxies)?.pool_idle_timeout(IDLE_LIFE).pool_max_idle_per_host(1).build()?)
}

/// A GET: 2xx and 3xx pass.
async fn get(client: &reqwest::Client, url: Url) -> ProbeOutcome {
    let mut answer = match client.get(url).send().await {
        Ok(answer) => answer,
        Err(error) => return broken(error),
    };
    let mut read = 0;
    while read < LONGEST_ANSWER {
        match answer.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => break,
            Err(error) => return broken(error),
        }
    }
    match answer.status().as_u16() {
        200..400 => ProbeOutcome::Good,
        status => ProbeOutcome::Bad(format!("answered {status}")),
    }
}

/// No response, or an incomplete one. A name that does not resolve says nothing about the instance.
fn broken(error: reqwest::Error) -> ProbeOutcome {
    let connecting = error.is_connect();
    let causes = tls::causes(error);
    if connecting && causes.starts_with("dns error") {
        return ProbeOutcome::Untaken("its name does not resolve".into());
    }
    ProbeOutcome::Bad(causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_endpoints() {
        let rows = [
            ("node-1.example:30080", "/health?deep=1", Some("http://node-1.example:30080/health?deep=1")),
            ("https://x-8080.example", "/health", Some("https://x-8080.example/health")),
            ("https://example/base/", "/health", Some("https://example/base/health")),
            ("http://example:81/base?x=1#y", "/", Some("http://example:81/base/")),
            ("http://user:pw@example", "/", Some("http://user:pw@example/")),
            ("[::1]:80", "/", Some("http://[::1]/")),
            (" 10.0.0.1:8080 ", "/../x", Some("http://10.0.0.1:8080/x")),
            ("", "/", None),
            ("ssh://example:22", "/", None),
            ("two words", "/", None),
        ];
        for (address, path, expected) in rows {
            let endpoint = Endpoint { port: 80, kind: String::new(), address: address.into() };
            assert_eq!(url(&endpoint, path).map(String::from).as_deref(), expected, "{address}");
        }
    }
}
