//! A stateful stand-in for the provider's GPU instance API, as awkward as the fact sheet says the real one is.
//!
//! [`World`] is the provider: instances, jobs, products, rules, and a clock that is told the time. It answers through one
//! of two faces: [`InProcess`] is a transport of the client's for simulations in virtual time, [`Server`] speaks HTTP/1.1
//! on a loopback port for tests of the real program. A script of [`Fault`]s decides what goes wrong in between. Tests
//! assert on the world that they end in.
//!
//! In a simulation:
//!
//! ```
//! use std::time::Duration;
//! use novita_sim::{Fate, InProcess, Spec, World};
//! use respot::cloud::transport::{Method, Request, Transport as _};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let mut world = World::new(7);
//! let id = world.add(Spec::reclaimed("train-7", 60_000).fate(Fate::FailsStuck));
//! world.fault("migrate:cut-after".parse().expect("a rule"));
//! let provider = InProcess::new(world);
//!
//! let body = Some(format!(r#"{{"instanceId": "{id}"}}"#));
//! let timeout = Duration::from_secs(30);
//! let request = Request { method: Method::Post, path: "/v1/gpu/instance/migrate", query: vec![], body, timeout };
//! provider.exchange(&request).await.expect_err("the connection is cut");
//! tokio::time::sleep(Duration::from_secs(120)).await;
//!
//! assert_eq!(provider.world().accepted_migrations_of(&id), 1);
//! assert_eq!(provider.world().jobs()[0].state, "fail");
//! # }
//! ```
//!
//! For the real program:
//!
//! ```no_run
//! use novita_sim::{Options, Server, World};
//!
//! let server = Server::start(World::fleet(7, 40), Options::default())?;
//! server.with(|world| world.fault("list@2:status=503,retry-after=1".parse().expect("a rule")));
//! let status = std::process::Command::new("respot").env("THE_BASE_URL", server.url()).status()?;
//! server.advance(120_000);
//! assert!(server.with(|world| world.machines().all(|machine| machine.status != "exited")));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A machine can run an [`App`], which answers as a script says: [`InProcess`] takes samples of it in virtual time, the
//! [`Server`] lets it answer on a real port.
//!
//! ```
//! use novita_sim::{App, Change, Condition, InProcess, Spec, World};
//! use respot::core::world::probe::{Endpoint, Probe};
//! use respot::measure::{ProbeOutcome, Prober as _, ProbeTarget};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let mut world = World::new(7);
//! let slow = Change::to_us(21_000).when(Condition::moved_at_least(50));
//! let id = world.add(Spec::running("web-0").app(App::http(8080).base_us(20_000).spot(slow)));
//! let address = world.endpoint(&id, 8080).expect("an application is there");
//! let provider = InProcess::new(world);
//!
//! let endpoints = [Endpoint { port: 8080, kind: "http".into(), address }];
//! let target = ProbeTarget { id: &id, name: "web-0", endpoints: &endpoints };
//! let sample = provider.sample(&Probe::parse("http:8080/health").expect("a probe"), target).await;
//! assert_eq!((sample.took.as_micros(), sample.outcome), (21_000, ProbeOutcome::Good));
//! # }
//! ```
//!
//! The section numbers in comments are those of the fact sheet about the API.

mod actions;
mod api;
mod app;
mod bills;
mod control;
mod doors;
mod fault;
mod fleet;
mod history;
mod inprocess;
mod machine;
mod market;
mod metrics;
mod reads;
mod room;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod time;
mod wire;
mod world;

pub use api::{Answer, Call, Delivery, Op, Reply};
pub use app::{App, AppKind, Change, Condition, Fact, Knock, Pace, ParseAppError, Said, Than};
pub use fault::{Fault, Match, ParseFaultError, What};
pub use history::{Past, Run};
pub use inprocess::InProcess;
pub use machine::{Cluster, Fate, JobRow, Machine, Product, Spec, Volume};
pub use metrics::Load;
pub use room::Room;
pub use server::{Options, Server};
pub use settings::{
    AfterReclaim, CreateAnswer, ErrorShape, Hint, MigrateAnswer, NotFound, Notice, PageBase, Rules, Total, Wire,
};
pub use wire::quirk;
pub use world::{DAWN_MS, Entry, Outcome, Picture, World};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is behind a lock; a test that panicked while holding it does not take the others down.
pub(crate) fn lock<T>(behind: &Mutex<T>) -> MutexGuard<'_, T> {
    behind.lock().unwrap_or_else(PoisonError::into_inner)
}
