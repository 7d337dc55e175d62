//! A stateful stand-in for Amazon EC2, as awkward as the fact sheet says the real one is.
//!
//! Beside EC2 it answers what respot asks of STS, CloudWatch (`monitoring`), the price list (`pricing`), Service Quotas
//! (`servicequotas`) and Elastic Load Balancing (`elasticloadbalancing`), each in its own protocol.
//!
//! [`World`] is one account: regions, instances, spot requests, volumes, rules, and a clock that is told the time. It
//! answers calls through [`World::call`] and [`World::call_json`] in virtual time, or through a [`Server`] that speaks HTTP/1.1 on a loopback port
//! for tests of the real program. A script of [`Fault`]s decides what goes wrong in between. Tests assert on the world
//! that they end in.
//!
//! ```
//! use ec2_sim::{Delivery, Spec, State, World};
//!
//! let mut world = World::new(7);
//! let id = world.add(Spec::spot("worker-1").zone("eu-west-1b"));
//! world.reclaim(&id);
//! world.advance(140_000);
//! assert_eq!(world.instance(&id).expect("it").state, State::Terminated);
//!
//! world.fault("DescribeInstances@1:cut-after".parse().expect("a rule"));
//! let listing = "Action=DescribeInstances&Version=2016-11-15&MaxResults=100";
//! assert_eq!(world.call("eu-west-1", "ec2", listing).delivery, Delivery::CutAfter);
//! let answer = world.call("eu-west-1", "ec2", listing);
//! assert!(answer.body.contains("Server.SpotInstanceTermination"));
//! assert!(!answer.body.contains("subnet-"), "a terminated instance has forgotten where it was");
//! ```
//!
//! The section numbers in comments are those of the fact sheet about the API.

mod accepted;
mod balancer;
mod call;
mod catalog;
mod control;
mod denial;
mod disks;
mod ends;
mod error;
mod events;
mod fault;
mod filter;
mod form;
mod json;
mod keys;
mod log;
mod machine;
mod metrics;
mod order;
mod page;
mod place;
mod plan;
mod prices;
mod protocol;
mod quotas;
mod reads;
mod region;
mod rules;
mod run;
mod server;
mod signature;
mod spec;
mod spot;
mod sts;
mod tags;
mod targets;
#[cfg(test)]
mod tests;
mod throttle;
mod time;
mod tokens;
mod world;
mod xml;

pub use call::{Delivery, Reply};
pub use catalog::{Gpu, KINDS, Kind};
pub use fault::{Fault, ParseFaultError, What};
pub use keys::{ACCESS_KEY, SECRET_KEY};
pub use log::Entry;
pub use machine::{Behavior, Disk, EndedBy, Facts, Instance, Interface, Lifecycle, Metadata, Shape, State, Volume};
pub use region::{ACCOUNT, KEY_PAIR, PROFILE, ROOT_DEVICE, ROOT_GIB, Region, Zone};
pub use rules::{AttributesAfterEnd, Bucket, Notice, Rules, Throttle, TokenReuse};
pub use server::{Options, Server};
pub use spec::Spec;
pub use spot::{RequestState, SpotRequest};
pub use targets::{TargetChange, TargetState};
pub use world::{DAWN_MS, World};
