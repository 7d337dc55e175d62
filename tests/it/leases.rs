//! The lease between real programs: of two at once one works, and whoever outlived its lease changes nothing any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use novita_sim::{Op, Outcome, Spec, World};
use rustix::process::Signal;

use crate::harness::{BOTH, Kind, MINUTE, Running, Stage, side_by_side};
use crate::relay::Relay;
use crate::successors::{deleted_last, each_has_one, living, nothing_twice, quick};

/// Two at once, so often for each row.
const MEETINGS: usize = 25;

#[test]
fn of_two_at_once_nothing_is_done_twice() {
    let rows: Vec<(Kind, &str)> = BOTH.iter().flat_map(|kind| ["run", "check-failed"].map(|it| (*kind, it))).collect();
    let met = AtomicUsize::new(0);
    side_by_side(&rows, 4, |(kind, second)| {
        let mut chance = fastrand::Rng::with_seed(7);
        let stage = Stage::new(*kind, quick(7));
        stage.fault("any:delay=4");
        let mut names: Vec<String> = Vec::new();
        for round in 0..MEETINGS {
            stage.provider.with(|world| {
                for spec in [Spec::stuck(&format!("stuck-{round}"), 600_000), Spec::exited(&format!("down-{round}"))] {
                    let id = world.add(spec);
                    names.push(world.get(&id).expect("added").name.clone());
                }
            });
            let call = |words: &str| {
                let call = stage.call(words).arg("-o=json").env("MIGRATION_RECREATE_WAIT_MS", "250");
                call.env("MIGRATION_MAX_RECREATE_PERCENT", "100")
            };
            let first = call("run").spawn();
            // At the same moment, or somewhere in the middle.
            sleep(Duration::from_millis(if chance.bool() { 0 } else { chance.u64(0..500) }));
            let both = [first, call(second).spawn()].map(|run| run.wait().ends_with(0).json());
            let refused = both.iter().filter(|it| it["reason"] == "another_pass_running").count();
            assert!(refused < 2, "one of them works");
            met.fetch_add(refused, Ordering::Relaxed);
            stage.provider.with(|world| {
                nothing_twice(world);
                deleted_last(world);
                let refused = world.log().iter().find(|it| it.outcome != Outcome::Applied);
                assert_eq!(refused, None, "none was even asked for while it was under way");
            });
            stage.provider.advance(MINUTE);
        }
        for _ in 0..3 {
            stage.call("run -q").env("MIGRATION_MAX_RECREATE_PERCENT", "100").output().ends_with(0);
            stage.provider.advance(5 * MINUTE);
        }
        stage.provider.with(|world| {
            each_has_one(world, &names);
            nothing_twice(world);
            assert_eq!([Op::Create, Op::Delete, Op::Migrate].map(|op| world.applied(op)), [MEETINGS; 3]);
        });
    });
    let (met, all) = (met.into_inner(), rows.len() * MEETINGS);
    assert!(met > all / 3, "{met} of {all} met at all");
}

/// Where a pass is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The provider's list is on its way.
    Looking,
    /// The answer to this call is on its way; the call itself has taken effect.
    Answer(Op),
    /// The replacement is coming up.
    Waiting,
    /// The intent to create is stored, and the program has not heard of that: the call itself would be next.
    Intent,
}

/// How the lease ends meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its 30 seconds pass.
    ByItself,
    /// Somebody removes it.
    Removed,
    /// Another pass, which is at work when the first one wakes, has it.
    Taken,
}

#[test]
fn whoever_was_suspended_beyond_its_lease_changes_nothing_any_more() {
    let moments = [
        At::Looking,
        At::Answer(Op::Get),
        At::Answer(Op::Create),
        At::Answer(Op::Migrate),
        At::Answer(Op::Delete),
        At::Waiting,
    ];
    let mut rows: Vec<(Kind, At, End)> = Vec::new();
    for kind in BOTH {
        rows.extend(moments.map(|at| (kind, at, End::Removed)));
        rows.extend(moments.map(|at| (kind, at, End::Taken)));
        rows.extend([At::Waiting, At::Answer(Op::Create)].map(|at| (kind, at, End::ByItself)));
    }
    // A test can stand between the program and its memory only where there is a wire.
    rows.push((Kind::Redis, At::Intent, End::ByItself));
    // Those that last come first.
    rows.sort_by_key(|(_, _, end)| *end != End::ByItself);
    side_by_side(&rows, 10, |(kind, at, end)| suspended(*kind, *at, *end));
}

/// Suspends it, but not in the middle of a read or a commit: that would lock everybody else out of the file, and the
/// passes that are to do its work could only say so.
fn suspend(stage: &Stage, run: &Running) {
    loop {
        run.suspend();
        if stage.redis.is_some() {
            return;
        }
        let connection = stage.open_sqlite();
        connection.busy_timeout(Duration::ZERO).expect("no patience");
        if connection.execute_batch("BEGIN EXCLUSIVE; ROLLBACK").is_ok() {
            return;
        }
        run.signal(Signal::CONT);
        sleep(Duration::from_millis(20));
    }
}

fn suspended(kind: Kind, at: At, end: End) {
    let mut world = quick(8);
    world.add(Spec::stuck("stuck", 600_000));
    world.add(Spec::exited("down"));
    if at == At::Waiting {
        world.rules_mut().create_step_ms = 20_000;
    }
    let stage = Stage::new(kind, world);
    let relay = stage.redis.as_ref().map(|redis| Relay::before(redis.port(), r#""step":"intent""#));
    let relay = relay.filter(|_| at == At::Intent);
    let pass = || stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "400");
    let mut call = stage.call("run").env("MIGRATION_RECREATE_WAIT_MS", "30000");
    if let Some(relay) = &relay {
        call = call.env("REDIS_URL", relay.url());
    }
    let op = match at {
        At::Looking => Some(Op::List),
        At::Answer(op) => Some(op),
        At::Waiting | At::Intent => None,
    };
    if let Some(op) = op {
        stage.fault(&format!("{}:delay=1200", op.as_str()));
    }
    let run = call.spawn();
    stage.until("it is in the middle", |world| match at {
        At::Looking | At::Answer(_) => world.calls(op.expect("a call")) > 0,
        At::Waiting => world.applied(Op::Create) == 1 && world.applied(Op::Migrate) == 1,
        At::Intent => relay.as_ref().is_some_and(Relay::holds),
    });
    suspend(&stage, &run);
    stage.provider.with(World::clear_faults);
    match end {
        End::ByItself => sleep(Duration::from_millis(30_500)),
        End::Removed | End::Taken => stage.end_lease(),
    }
    if let Some(relay) = &relay {
        relay.release();
    }
    // Another pass does the work, and one more what it left.
    for _ in 0..3 {
        stage.provider.advance(4 * MINUTE);
        pass().output().ends_with(0);
    }
    let names = ["stuck".to_owned(), "down".to_owned()];
    stage.provider.with(|world| each_has_one(world, &names));
    if end == End::Taken {
        stage.put("lease", "migration-job-01ANOTHER");
    }
    let seen = || stage.provider.with(|world| (world.log().to_vec(), living(world, "stuck").len()));
    let (world, store) = (seen(), stage.dump());
    run.signal(Signal::CONT);
    run.wait().ends_with(4).says(["error: "]);
    assert_eq!(seen(), world);
    assert_eq!(stage.dump(), store);
    stage.provider.with(|world| {
        nothing_twice(world);
        deleted_last(world);
        assert_eq!([Op::Create, Op::Delete, Op::Migrate].map(|op| world.applied(op)), [1; 3]);
    });
    stage.end_lease();
    pass().output().ends_with(0);
    assert_eq!(seen(), world, "nothing was left to do");
}
