//! Amazon EC2, whose facts are in `docs/ec2-api.md`.
//!
//! [`client`] makes the calls, `region` those that read lists; `states` says what a row means, `facts` what a replacement is made of, `pools` where it can be
//! launched, `pace` how fast. `wire` knows the shapes of answers, `refusal` the error codes. [`transport`] signs requests (`sign`) with the keys
//! that `keys` obtains.

pub mod client;
mod facts;
mod keys;
mod pace;
mod pools;
mod refusal;
mod region;
mod sign;
mod states;
#[cfg(test)]
mod tests;
pub mod transport;
mod wire;
mod xml;

use std::rc::Rc;

use anyhow::Result;
use url::Url;

use self::client::{Ec2Client, FleetTerms};
use self::transport::{KeyRing, SignedTransport};
pub use self::wire::Caller;
use crate::credentials::CredentialSource;
use crate::proxies::Proxies;

/// A client for some regions, each with the address of EC2 and that of STS there.
///
/// # Errors
/// When no CA certificate is found.
pub fn connect(
    regions: &[(String, Url, Url)],
    source: CredentialSource,
    terms: FleetTerms,
    proxies: &Proxies,
) -> Result<Ec2Client<SignedTransport>> {
    let Some((home, _, sts)) = regions.first() else { anyhow::bail!("no region of EC2 is set") };
    let keys = Rc::new(KeyRing::new(source, sts.clone(), home, proxies)?);
    let identity = SignedTransport::sts(sts.clone(), home, Rc::clone(&keys), proxies)?;
    let transport = |(region, ec2, _): &(String, Url, Url)| {
        Ok((region.clone(), SignedTransport::ec2(ec2.clone(), region, Rc::clone(&keys), proxies)?))
    };
    let transports = regions.iter().map(transport).collect::<Result<Vec<_>>>()?;
    Ok(Ec2Client::new(transports, identity, terms))
}
