//! A simulated fleet on Novita.

use std::time::Duration;

use novita_sim::{Options, Server, World};
use respot::clock::Clock;

use crate::shared::{self, Simulated};

pub(crate) const MINUTE_MS: u64 = 60_000;

/// The program on such a fleet.
pub(crate) type Show = shared::Show<Server>;

impl Simulated for Server {
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("NOVITA_API_KEY", "sk_test".to_owned()), ("NOVITA_API_BASE_URL", self.url())]
    }

    fn now_ms(&self) -> i64 {
        self.with(|world| world.now_ms())
    }
}

/// Serves the world ten times faster than real time, so that instances start quickly. The program gets these settings
/// as well.
pub(crate) fn show(world: World, settings: &[(&'static str, &str)]) -> anyhow::Result<Show> {
    let mut world = world.starting_at(Clock::system().now().as_millis());
    world.rules_mut().visible_after_ms = 500;
    let options = Options { latency: Duration::from_millis(60), speed: 10, ..Options::default() };
    let server = Server::start(world, options)?;
    Show::serving(server, settings)
}
