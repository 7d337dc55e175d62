//! The client under a rate limit: it slows down by itself, loses no call and wastes few.

use novita_sim::{DAWN_MS, Fate, InProcess, Op, Outcome, Spec, World};
use respot::act::Limits;
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
use respot::commands::run::{self, Ran};
use respot::core::record::execution::ExecutionStatus;
use respot::core::world::policy::Policy;
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::Mode;
use respot::store::sqlite::SqliteStore;

#[tokio::test(start_paused = true)]
async fn a_rate_limit_slows_the_pass_and_fails_nothing() {
    // Calls a minute that the provider allows, and the share of refused calls that is tolerable, in percent.
    for (limit, tolerable) in [(None, 0), (Some(60), 10), (Some(30), 20), (Some(15), 40)] {
        fastrand::seed(1);
        let mut world = World::new(1);
        let ids: Vec<String> =
            (0..100).map(|n| world.add(Spec::exited(&format!("m-{n}")).fate(Fate::Succeeds))).collect();
        world.rules_mut().calls_per_minute = limit;
        let provider = InProcess::new(world);
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS));
        let policy = Policy::default();
        let rules = Limits::of(&policy, Mode::Real);
        let store = SqliteStore::in_memory(clock.clone()).unwrap();
        let client = Client::new(provider.clone());
        let ran = run::run(
            &respot::act::World {
                cloud: &client,
                store: &store,
                limits: &rules,
                clock: &clock,
                stop: &Stop::default(),
                reporter: &Silent,
            },
            &client,
            &NoReceiver,
        )
        .await
        .unwrap();

        let Ran::Ended(ended) = ran else { panic!("nobody else holds the lease") };
        assert_eq!(ended.execution.status, ExecutionStatus::Completed, "at {limit:?} a minute");
        let world = provider.world();
        assert!(ids.iter().all(|id| world.accepted_migrations_of(id) == 1), "at {limit:?} a minute");
        let refused = world
            .log()
            .iter()
            .filter(|entry| entry.op == Op::Migrate && matches!(entry.outcome, Outcome::Refused(429, _)))
            .count();
        assert!(refused * 100 <= tolerable * ids.len(), "at {limit:?} a minute {refused} calls were refused");
    }
}
