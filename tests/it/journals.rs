//! Journals that are damaged or lie, orders that change, limits, clocks that jump and requests that arrive late: nothing
//! is lost, and what is doubled all the same is seen and retired.

use novita_sim::{DAWN_MS, Fate as SimFate, Fault, Op, Spec, World};
use respot::core::recreation::journal::{Cause, Recreation, Step};
use respot::core::recreation::marker::replacement_name;
use respot::core::world::instance::{InstanceId, JobId};
use respot::core::world::time::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{BOTH, Call, HOUR, Kind, MINUTE, Stage, each, side_by_side};
use crate::relay::Relay;
use crate::successors::{applied, deleted_last, each_has_one, living, nothing_twice, quick, recorded_before};

fn stuck(count: usize) -> World {
    let mut world = quick(11);
    for n in 0..count {
        let age = 600_000 + 60_000 * i64::try_from(count - n).unwrap();
        world.add(Spec::stuck(&format!("stuck-{n}"), age).id(&format!("s{n}")));
    }
    world
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("stuck-{n}")).collect()
}

fn check_failed(stage: &Stage) -> Call {
    stage.call("check-failed -q").env("MIGRATION_RECREATE_WAIT_MS", "300")
}

/// So many passes, five minutes apart.
fn passes(stage: &Stage, count: usize) {
    for _ in 0..count {
        assert!(matches!(check_failed(stage).output().code(), 0 | 1));
        stage.provider.advance(5 * MINUTE);
    }
}

fn made(stage: &Stage) -> [usize; 2] {
    stage.provider.with(|world| [Op::Create, Op::Delete].map(|op| world.applied(op)))
}

/// A record of the journal of `s0`, as it is stored.
fn record(step: Step, age_ms: i64) -> Value {
    let (id, since) = (InstanceId::new("s0"), Timestamp::from_millis(DAWN_MS - age_ms));
    let cause = Cause::JobFailed { job: JobId::new("j"), error: None };
    let planned = Recreation::planned("stuck-0", cause, replacement_name(&id, "stuck-0", "j"), since);
    let recreation = Recreation { pass: "migration-job-01A".into(), step, ..planned };
    let mut record = serde_json::to_value(recreation).expect("JSON");
    record["v"] = 1.into();
    record
}

#[test]
fn a_journal_that_cannot_be_read_stops_everything() {
    let created = || record(Step::Created { replacement: InstanceId::new("r"), kept: None }, 0);
    let with = |field: &str, value: Value| {
        let mut record = created();
        record[field] = value;
        record.to_string()
    };
    let spoilt = [
        ("garbage".to_owned(), "what respot writes"),
        (String::new(), "what respot writes"),
        (json!({"v": 1}).to_string(), "damaged"),
        (json!({"v": 7, "all": "new"}).to_string(), "newer"),
        (with("v", 2.into()), "newer"),
        (with("step", "flying".into()), "damaged"),
        (with("replacement", Value::Null), "damaged"),
        (with("since", "yesterday".into()), "damaged"),
        (created().to_string()[..60].to_owned(), "what respot writes"),
    ];
    let rows: Vec<_> = BOTH.iter().flat_map(|kind| spoilt.iter().map(move |it| (*kind, it))).collect();
    each(&rows, |(kind, (text, says))| {
        let stage = Stage::new(*kind, stuck(2));
        stage.provider.with(|world| world.add(Spec::exited("down")));
        stage.call("run -q --max-migrations 0 --max-recreations 0").output().ends_with(0);
        stage.put_field("recreations", "s0", text);
        for words in ["check-failed", "run", "dry-run"] {
            stage.call(words).output().ends_with(4).says(["recreations[s0]", says]);
        }
        assert_eq!(stage.stored("recreations[s0]").as_deref(), Some(text.as_str()), "it stays as it is");
        assert_eq!(stage.provider.with(|world| world.log().len()), 0, "and nothing is done");
    });
}

#[test]
fn a_journal_that_names_what_is_not_there_is_put_right() {
    let ghost = || InstanceId::new("never-was");
    let steps = [
        Step::Pending { kept: None },
        Step::Intent { kept: None },
        Step::Created { replacement: ghost(), kept: None },
        Step::Running { replacement: ghost() },
        Step::Deleted { replacement: ghost() },
        Step::Abandoned { replacement: ghost(), kept: None },
        Step::Closed { replacement: Some(ghost()) },
        Step::Closed { replacement: None },
        Step::Ended,
    ];
    let rows: Vec<_> = BOTH
        .iter()
        .flat_map(|kind| steps.iter().flat_map(move |step| [0, 600_000].map(|age| (*kind, step, age))))
        .collect();
    side_by_side(&rows, 8, |(kind, step, age)| {
        let stage = Stage::new(*kind, stuck(2));
        stage.call("check-failed -q --max-recreations 0").output().ends_with(0);
        stage.put_field("recreations", "s0", &record((*step).clone(), *age).to_string());
        passes(&stage, 4);
        stage.provider.with(|world| {
            each_has_one(world, &names(2));
            nothing_twice(world);
            deleted_last(world);
        });
        assert_eq!(made(&stage), [2, 2]);
    });
}

#[test]
fn an_order_that_changes_while_a_recreation_is_open_loses_nothing() {
    // What befalls the call, and at which call the program is killed.
    let moments = [
        ("delete:delay=1500", Op::Delete),
        ("delete:cut-before", Op::Delete),
        ("create:delay=1500", Op::Create),
        ("create:cut-before", Op::Create),
        ("create:late=20000", Op::Create),
    ];
    let orders = ["create-first", "delete-first"];
    let rows: Vec<_> =
        BOTH.iter().flat_map(|kind| moments.iter().flat_map(move |at| orders.map(|it| (*kind, at, it)))).collect();
    side_by_side(&rows, 8, |(kind, (fault, op), order)| {
        let stage = Stage::new(*kind, stuck(2));
        stage.fault(fault);
        let run = check_failed(&stage).env("MIGRATION_RECREATE_ORDER", order).spawn();
        stage.until("the call", |world| world.calls(*op) > 0);
        run.signal(Signal::KILL);
        assert_eq!(run.wait().code(), 137);
        stage.end_lease();
        stage.provider.with(World::clear_faults);
        recorded_before(&stage);
        let other = if *order == orders[0] { orders[1] } else { orders[0] };
        for _ in 0..4 {
            stage.provider.advance(4 * MINUTE);
            let code = check_failed(&stage).env("MIGRATION_RECREATE_ORDER", other).output().code();
            assert!(matches!(code, 0 | 1));
        }
        stage.provider.with(|world| {
            each_has_one(world, &names(2));
            nothing_twice(world);
        });
        assert_eq!(made(&stage), [2, 2]);
    });
}

#[test]
fn a_limit_holds_up_what_is_not_begun_and_nothing_else() {
    let rows: Vec<_> = BOTH.iter().flat_map(|kind| ["create-first", "delete-first"].map(|it| (*kind, it))).collect();
    each(&rows, |(kind, order)| {
        let stage = Stage::new(*kind, stuck(3));
        let pass = |limit: &str| {
            let call = check_failed(&stage).arg("--max-recreations").arg(limit).env("MIGRATION_RECREATE_ORDER", order);
            call.output().ends_with(0);
            stage.provider.advance(5 * MINUTE);
        };
        pass("0");
        assert_eq!(made(&stage), [0, 0]);
        pass("1");
        assert_eq!(made(&stage), [1, 1]);
        stage.provider.with(|world| each_has_one(world, &names(1)));
        // One that is begun is brought to its end whatever the limit is.
        stage.provider.with(|world| world.rules_mut().create_step_ms = 20_000);
        pass("1");
        stage.provider.with(|world| world.rules_mut().create_step_ms = 30);
        pass("0");
        assert_eq!(made(&stage), [2, 2]);
        stage.provider.with(|world| each_has_one(world, &names(2)));
        pass("9");
        assert_eq!(made(&stage), [3, 3]);
        stage.provider.with(|world| each_has_one(world, &names(3)));
        assert_eq!(stage.status()["inFlight"]["recreations"], 0);
    });
}

/// So many were deleted, delete-first, when the program was killed. What is gone must come back, although it is more of
/// what is left than a pass may begin to recreate.
#[test]
fn what_was_deleted_first_comes_back_whatever_share_it_is() {
    each(&BOTH, |kind| {
        let mut world = stuck(6);
        for n in 0..14 {
            world.add(Spec::running(&format!("fine-{n}")));
        }
        let stage = Stage::new(*kind, world);
        let pass = || check_failed(&stage).env("MIGRATION_RECREATE_ORDER", "delete-first");
        stage.fault("create:cut-before");
        let run = pass().env("MIGRATION_MAX_CONCURRENT", "6").spawn();
        stage.until("all are deleted", |world| world.applied(Op::Delete) == 6 && world.calls(Op::Create) > 0);
        run.signal(Signal::KILL);
        assert_eq!(run.wait().code(), 137);
        stage.end_lease();
        stage.provider.with(World::clear_faults);
        stage.provider.advance(5 * MINUTE);
        for _ in 0..3 {
            pass().output().ends_with(0);
            stage.provider.advance(5 * MINUTE);
        }
        stage.provider.with(|world| each_has_one(world, &names(6)));
        assert_eq!(made(&stage), [6, 6]);
    });
}

#[test]
fn a_clock_that_jumps_neither_doubles_nor_strands_a_recreation() {
    // What befalls the first pass, and how far its clock is off.
    let faults =
        ["create:cut-before*9", "create:cut-after*1", "create:late=20000*1", "delete:cut-after*1", "get:delay=1"];
    let (hour, day) = (3_600_000, 24 * 3_600_000);
    let jumps: [&[i64]; 5] =
        [&[0, -hour, -2 * day], &[0, -400 * day, 0], &[20 * hour, 0], &[20 * hour, 20 * hour, -day], &[400 * day, 0]];
    let rows: Vec<_> =
        BOTH.iter().flat_map(|kind| faults.iter().flat_map(move |it| jumps.map(|jumps| (*kind, *it, jumps)))).collect();
    side_by_side(&rows, 8, |(kind, fault, jumps)| {
        let stage = Stage::new(*kind, stuck(2));
        stage.fault(fault);
        for jump in *jumps {
            let now = stage.provider.with(|world| world.now_ms());
            check_failed(&stage).env("MIGRATION_RECREATE_WAIT_MS", "0").now(Some(now + jump)).output();
            stage.provider.with(World::clear_faults);
            stage.provider.advance(1000);
        }
        stage.provider.advance(5 * MINUTE);
        passes(&stage, 4);
        stage.provider.with(|world| {
            each_has_one(world, &names(2));
            deleted_last(world);
        });
    });
}

#[test]
fn a_stall_that_a_wrong_clock_saw_is_counted_from_now() {
    each(&BOTH, |kind| {
        let mut world = quick(11);
        // No job of it is to be seen, so that only our own memory tells since when it has been like this.
        world.add(Spec::exited("stuck-0").status("migrating"));
        let stage = Stage::new(*kind, world);
        let now = stage.provider.with(|world| world.now_ms());
        check_failed(&stage).now(Some(now + 400 * 24 * 3_600_000)).output().ends_with(0);
        passes(&stage, 1);
        assert_eq!(made(&stage), [0, 0], "it may be at work");
        stage.provider.advance(HOUR);
        passes(&stage, 2);
        stage.provider.with(|world| each_has_one(world, &names(1)));
        assert_eq!(made(&stage), [1, 1]);
    });
}

#[test]
fn a_request_that_arrives_late_leaves_one_all_the_same() {
    // How late, how long a step of coming up takes, and how many replacements are made of two.
    // The first of them is found in time.
    let times = [(200_000, 30, 2), (320_000, 30, 4), (320_000, 30_000, 4), (700_000, 30, 4), (3_000_000, 30, 4)];
    let rows: Vec<_> = BOTH
        .iter()
        .flat_map(|kind| times.iter().flat_map(move |time| [false, true].map(|flushed| (*kind, *time, flushed))))
        .collect();
    side_by_side(&rows, 8, |(kind, (late, step, count), flushed)| {
        let mut world = stuck(2);
        world.rules_mut().create_step_ms = *step;
        let stage = Stage::new(*kind, world);
        stage.fault(&format!("create:late={late}*2"));
        passes(&stage, 4);
        if *flushed {
            forget(&stage);
        }
        stage.provider.advance(*late);
        passes(&stage, 4);
        stage.provider.with(|world| {
            each_has_one(world, &names(2));
            deleted_last(world);
        });
        assert_eq!(made(&stage), [*count; 2]);
    });
}

/// The store loses its memory.
fn forget(stage: &Stage) {
    match &stage.redis {
        Some(redis) => drop(redis.raw(&["FLUSHALL"])),
        None => std::fs::remove_file(stage.state_file()).expect("removed"),
    }
}

#[test]
fn a_memory_lost_before_the_replacement_can_be_seen_leaves_one_all_the_same() {
    each(&BOTH, |kind| {
        let mut world = stuck(2);
        // Listings show a new instance so late that a pass without a memory cannot know of it.
        world.rules_mut().visible_after_ms = 60_000;
        // And none runs before the pass that creates it ends, however slow that is.
        world.rules_mut().create_step_ms = 20_000;
        let stage = Stage::new(*kind, world);
        check_failed(&stage).env("MIGRATION_RECREATE_WAIT_MS", "0").output().ends_with(0);
        forget(&stage);
        check_failed(&stage).env("MIGRATION_RECREATE_WAIT_MS", "0").output().ends_with(0);
        assert_eq!(made(&stage), [4, 0], "doubled indeed");
        stage.provider.advance(5 * MINUTE);
        passes(&stage, 4);
        stage.provider.with(|world| {
            each_has_one(world, &names(2));
            deleted_last(world);
        });
        assert_eq!(made(&stage), [4, 4]);
    });
}

/// The worst moment to lose the memory: the intent is stored, the call is next, and another pass begins that knows of
/// neither.
#[test]
fn a_memory_lost_between_intent_and_call_leaves_one_all_the_same() {
    let stage = Stage::new(Kind::Redis, stuck(1));
    let redis = stage.redis.as_ref().expect("a server");
    let relay = Relay::before(redis.port(), r#""step":"intent""#);
    let run = check_failed(&stage).env("REDIS_URL", relay.url()).spawn();
    stage.until("the intent is stored", |_| relay.holds());
    std::thread::sleep(std::time::Duration::from_millis(100));
    forget(&stage);
    check_failed(&stage).env("MIGRATION_RECREATE_WAIT_MS", "0").output().ends_with(0);
    relay.release();
    run.wait().ends_with(4);
    assert_eq!(made(&stage), [2, 0], "doubled indeed");
    stage.provider.advance(5 * MINUTE);
    passes(&stage, 4);
    stage.provider.with(|world| {
        each_has_one(world, &names(1));
        deleted_last(world);
    });
    assert_eq!(made(&stage), [2, 2]);
}

/// Twins of which the better one is taken away, or stopped, before the other is retired.
#[test]
fn of_twins_one_is_left_whatever_becomes_of_the_other() {
    /// What happens to the one that was kept, at the moment when the late one arrives.
    type Fate = (&'static str, fn(&mut World, &str));
    let fates: [Fate; 4] = [
        ("nothing", |_, _| {}),
        ("reclaimed", |world, id| assert!(world.reclaim_now(id))),
        ("stopped", |world, id| assert!(world.user_stop(id))),
        ("vanished", |world, id| assert!(world.vanish(id))),
    ];
    let rows: Vec<_> = BOTH.iter().flat_map(|kind| fates.iter().map(move |fate| (*kind, fate))).collect();
    each(&rows, |(kind, (_, befall))| {
        let stage = Stage::new(*kind, stuck(1));
        stage.provider.with(|world| world.fault("create:late=1200000*1".parse::<Fault>().expect("a rule")));
        passes(&stage, 3);
        stage.provider.with(|world| {
            let id = applied(world, Op::Create).next().expect("a replacement").instance.clone();
            befall(world, &id);
        });
        stage.provider.advance(HOUR / 2);
        for _ in 0..4 {
            stage.call("run -q").output();
            stage.provider.advance(5 * MINUTE);
        }
        stage.provider.with(|world| {
            assert_eq!(living(world, "stuck-0").len(), 1);
            each_has_one(world, &names(1));
        });
    });
}

/// The provider wants fewer requests, and while the deletion of the old instance waits, its replacement goes.
#[test]
fn a_deletion_that_was_put_off_is_not_sent_without_another_look() {
    let stage = Stage::new(Kind::Sqlite, stuck(1));
    stage.fault("delete:status=429,retry-after=8*1");
    let pass = check_failed(&stage).spawn();
    stage.until("the deletion is put off", |world| world.calls(Op::Delete) > 0);
    stage.provider.with(|world| {
        let new = applied(world, Op::Create).next().expect("a replacement").instance.clone();
        assert!(world.vanish(&new));
    });
    pass.wait();
    assert!(stage.provider.with(|world| world.get("s0").is_some()), "both are gone");
    for _ in 0..3 {
        passes(&stage, 3);
        stage.provider.advance(HOUR);
    }
    stage.provider.with(|world| each_has_one(world, &names(1)));
}

#[test]
fn whatever_becomes_of_a_replacement_before_the_old_one_goes_one_is_left() {
    fn edit(world: &mut World, id: &str, fate: SimFate) {
        assert!(world.edit(id, |machine| machine.fate = fate) && world.reclaim_now(id));
    }
    /// What happens to the old instance and the replacement, and the name's beginning of who is left.
    type Blow = (&'static str, fn(&mut World, &str), &'static str);
    let blows: [Blow; 9] = [
        ("reclaimed", |world, new| edit(world, new, SimFate::Succeeds), "stuck-0-"),
        ("reclaimed, and stuck itself", |world, new| edit(world, new, SimFate::FailsStuck), "stuck-0-"),
        ("reclaimed, and back", |world, new| edit(world, new, SimFate::FailsBack), "stuck-0-"),
        ("stopped by its user", |world, new| assert!(world.user_stop(new)), "stuck-0-"),
        ("vanished", |world, new| assert!(world.vanish(new)), "stuck-0-"),
        ("creating for ever", |world, new| assert!(world.set_status(new, "creating")), "stuck-0-"),
        ("being removed", |world, new| assert!(world.set_status(new, "removing") && world.vanish(new)), "stuck-0-"),
        ("not needed", |world, _| assert!(world.set_status("s0", "running")), "stuck-0"),
        ("the old one is gone", |world, _| assert!(world.vanish("s0")), "stuck-0-"),
    ];
    let steps = [Op::Create, Op::Delete];
    let rows: Vec<_> =
        BOTH.iter().flat_map(|kind| blows.iter().flat_map(move |blow| steps.map(|step| (*kind, blow, step)))).collect();
    side_by_side(&rows, 8, |(kind, (_, befall, left), step)| {
        let stage = Stage::new(*kind, stuck(1));
        // Either the replacement is not seen running yet, or it is and the request to delete is lost.
        if *step == Op::Create {
            stage.provider.with(|world| world.rules_mut().create_step_ms = 30_000);
        }
        stage.fault("delete:cut-before");
        assert!(matches!(check_failed(&stage).output().code(), 0 | 1));
        stage.provider.with(World::clear_faults);
        assert_eq!(made(&stage), [1, 0]);
        stage.provider.with(|world| {
            world.rules_mut().create_step_ms = 30;
            let id = applied(world, Op::Create).next().expect("a replacement").instance.clone();
            befall(world, &id);
        });
        for _ in 0..5 {
            for _ in 0..2 {
                assert!(matches!(stage.call("run -q").env("MIGRATION_RECREATE_WAIT_MS", "300").output().code(), 0 | 1));
                stage.provider.advance(5 * MINUTE);
            }
            stage.provider.advance(HOUR);
        }
        stage.provider.with(|world| {
            each_has_one(world, &names(1));
            deleted_last(world);
            assert!(living(world, "stuck-0")[0].name.starts_with(left));
        });
        assert_eq!(stage.status()["inFlight"]["recreations"], 0);
    });
}
