//! Amazon EC2, whose facts are in `docs/ec2-api.md`.
//!
//! [`client`] makes the calls, `region` those that read lists, `rehearsal` those that only ask for permission. `states` says what a
//! row means, `facts` what a replacement is made of, `pools` where it can be launched, `pace` how fast. For a move to spot, `fleet`
//! reads what it would lose, `prices` what it would save, and `retirement` stops what was replaced. `groups` moves traffic, by what
//! `membership` knows. `wire` knows the shapes of answers, which `xml` reads, `refusal` the error codes. [`transport`] signs requests
//! (`sign`) with the keys that `keys` obtains.

pub mod client;
mod facts;
mod fleet;
mod groups;
mod keys;
mod membership;
mod pace;
mod pools;
mod prices;
mod refusal;
mod region;
mod rehearsal;
mod retirement;
mod sign;
mod states;
#[cfg(test)]
mod tests;
pub mod transport;
mod wire;
mod xml;

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::Result;
use reqwest::header::HeaderMap;
use url::Url;

use self::client::{Ec2Client, FleetTerms};
pub use self::rehearsal::Rehearsed;
use self::transport::{KeyRing, SignedTransport};
pub use self::wire::Caller;
use crate::cloud::http::HttpLine;
use crate::credentials::CredentialSource;
use crate::credentials::aws::AwsService;
use crate::proxies::Proxies;

/// A client for some regions; `address` is where a service is in a region, `metadata` where the machine tells of itself, if that
/// is not the usual address.
///
/// # Errors
/// When a region is none, or no CA certificate is found.
pub fn connect<E: Into<anyhow::Error>>(
    regions: &[String],
    source: CredentialSource,
    terms: FleetTerms,
    proxies: &Proxies,
    metadata: Option<Url>,
    address: impl Fn(AwsService, &str) -> Result<Url, E>,
) -> Result<Ec2Client<SignedTransport>> {
    let Some(home) = regions.first() else { anyhow::bail!("no region of EC2 is set") };
    let mut addresses = BTreeMap::new();
    for (region, service) in regions.iter().flat_map(|region| AwsService::ALL.map(|service| (region, service))) {
        addresses.insert((service, region.clone()), address(service, region).map_err(Into::into)?);
    }
    let of = |service, region: &str| addresses.get(&(service, region.to_owned())).cloned();
    let Some((sts, ec2)) = of(AwsService::Sts, home).zip(of(AwsService::Ec2, home)) else {
        anyhow::bail!("no service has an address")
    };
    // One for all: reading the system's certificates takes longer than a small pass.
    let encrypted = addresses.values().find(|it| it.scheme() == "https").unwrap_or(&ec2);
    let line = HttpLine::new(encrypted, HeaderMap::new(), proxies)?;
    let keys = Rc::new(KeyRing::new(source, (sts, home), metadata, line.clone())?);
    let host = keys.host();
    let client = Ec2Client::new(regions, terms, |service, region| {
        let base = of(service, region).unwrap_or_else(|| ec2.clone());
        SignedTransport::new(line.clone(), base, service.region_for(region), service, Rc::clone(&keys))
    });
    Ok(client.running_on(host))
}
