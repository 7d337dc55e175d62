//! Instances that one call does not see, neither in the list nor by their id, although they exist: nothing is concluded from
//! that. The provider's world decides.

use novita_sim::{Machine, Op, Spec, World};
use serde_json::Value;

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage, side_by_side};
use crate::receiver::Receiver;
use crate::rollout_program::{call, good, is_over, living, next, stage, until};

/// One call while these instances are out of sight.
fn unseen(stage: &Stage, ids: &[String], call: impl FnOnce()) {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stage.provider.with(|world| world.hide(&ids));
    call();
    stage.provider.with(|world| world.hide(&[]));
}

fn alive(stage: &Stage, mode: &str) -> Vec<String> {
    let is_one = |it: &&Machine| it.is_alive() && it.billing_mode == mode;
    stage.provider.with(|world| world.machines().filter(is_one).map(|it| it.id.clone()).collect())
}

/// Each row: the state in which a rollout is, what one call of it does not see, its words, and how the rollout ends: its state,
/// how many live on demand and as spot.
#[test]
fn a_rollout_concludes_nothing_from_one_look() {
    let rows: &[(&str, &str, &str, &str, (usize, usize))] = &[
        ("soaking", "onDemand", "abort", "aborted", (2, 0)),
        ("soaking", "spot", "--yes", "completed", (0, 2)),
        ("soaking", "onDemand", "--yes", "completed", (0, 2)),
        ("retiring", "spot", "--yes", "completed", (0, 2)),
        ("retiring", "onDemand", "--yes", "completed", (0, 2)),
    ];
    let rows: Vec<_> = BOTH.into_iter().flat_map(|kind| rows.iter().map(move |row| (kind, row))).collect();
    side_by_side(&rows, 4, |(kind, (state, hidden, words, end, left))| {
        let stage = stage(*kind, 2, &good());
        until(&stage, |it| it["state"] == *state);
        unseen(&stage, &alive(&stage, hidden), || {
            let code = call(&stage, words).output().code();
            assert!(matches!(code, 0 | 1), "{code}");
        });
        stage.provider.advance(6 * MINUTE);
        let document = until(&stage, is_over);
        assert_eq!((&document["rollout"]["state"], living(&stage)), (&(*end).into(), *left), "{document:#}");
        for _ in 0..3 {
            next(&stage);
        }
        assert_eq!(living(&stage), *left);
    });
}

/// An announced instance, a migration and a recreation that one pass does not see: nothing is reported as lost or done, nothing is
/// forgotten, nothing is made twice.
#[test]
fn a_pass_concludes_nothing_from_one_look() {
    for kind in BOTH {
        let mut world = World::new(5);
        world.add(Spec::running("train-soon").id("soon"));
        world.add(Spec::reclaimed("train-back", 60_000).id("back"));
        world.add(Spec::stuck("train-stuck", 3 * 3_600_000).id("stuck"));
        world.add(Spec::running("train-calm").id("calm"));
        let (stage, receiver) = (Stage::new(kind, world), Receiver::willing());
        let pass = || {
            let call =
                stage.call("run -q").env("WEBHOOK_URL", receiver.url("/")).env("MIGRATION_ELIGIBILITY", "reclaimed");
            call.env("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").env("MIGRATION_RECREATE_WAIT_MS", "0")
        };
        stage.provider.with(|world| assert!(world.reclaim("soon")));
        pass().output().ends_with(0);
        stage.provider.advance(2 * MINUTE);
        unseen(&stage, &["soon", "back", "stuck"].map(str::to_owned), || drop(pass().output().ends_with(0)));
        for _ in 0..20 {
            stage.provider.advance(5 * MINUTE);
            pass().output().ends_with(0);
        }
        let told: Vec<Value> = receiver.taken().iter().map(crate::receiver::Told::json).collect();
        let count = |event: &str| told.iter().filter(|it| it["event"] == event).count();
        assert_eq!(count("instance.lost"), 0, "{told:#?}");
        // Twice migrated: the one that was down, and the one that was taken within the hour.
        assert_eq!((count("instance.migrated"), count("instance.recreated")), (2, 1), "{told:#?}");
        assert_eq!(count("instance.reclaim_notified"), 2, "{told:#?}");
        stage.provider.with(|world| {
            assert_eq!((world.applied(Op::Create), world.applied(Op::Delete), world.applied(Op::Migrate)), (1, 1, 2));
            assert_eq!(world.machines().filter(|it| it.status == "running").count(), 4);
        });
    }
}

/// What is gone for good is told by the second look.
#[test]
fn what_is_gone_is_told_by_the_second_look() {
    let mut world = World::new(5);
    world.add(Spec::running("train-soon").id("soon"));
    world.add(Spec::running("train-calm").id("calm"));
    let (stage, receiver) = (Stage::new(Kind::Sqlite, world), Receiver::willing());
    let pass = || {
        let call = stage.call("run -q").env("WEBHOOK_URL", receiver.url("/"));
        call.env("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").output().ends_with(0);
        stage.provider.advance(5 * MINUTE);
        receiver.taken().iter().filter(|it| it.json()["event"] == "instance.lost").count()
    };
    stage.provider.with(|world| assert!(world.reclaim("soon")));
    pass();
    stage.provider.with(|world| assert!(world.vanish("soon")));
    assert_eq!((pass(), pass(), pass()), (0, 1, 1));
}

/// Each row: the state in which a rollout is, and what the provider says of its spot instances in some looks. Nothing is deleted
/// meanwhile, and the rollout goes on as if nothing had been.
#[test]
fn a_status_that_says_nothing_fails_no_move() {
    let rows: &[(&str, &str)] = &[
        ("soaking", "restarting"),
        ("soaking", "frobnicating"),
        ("retiring", "restarting"),
        ("retiring", "migrating"),
        ("retiring", "frobnicating"),
    ];
    let rows: Vec<_> = BOTH.into_iter().cycle().zip(rows).collect();
    side_by_side(&rows, 5, |(kind, (state, status))| {
        let stage = stage(*kind, 2, &good());
        until(&stage, |it| it["state"] == *state);
        let spot = alive(&stage, "spot");
        let become_all = |status: &str| {
            stage.provider.with(|world| spot.iter().for_each(|id| assert!(world.set_status(id, status))));
        };
        become_all(status);
        for _ in 0..3 {
            assert_eq!(call(&stage, "--yes").output().code(), 0);
            stage.provider.advance(2 * MINUTE);
        }
        assert_eq!(living(&stage), (2, spot.len()), "one that may run was given up, or what it replaces");
        become_all("running");
        let document = until(&stage, is_over);
        assert_eq!((&document["rollout"]["state"], living(&stage)), (&"completed".into(), (0, 2)), "{document:#}");
    });
}

/// A spot instance that states no billing mode in one look may be what it was; one that costs more than on demand is not kept.
#[test]
fn a_move_is_judged_by_what_is_known_of_its_bill() {
    let stage = stage(Kind::Sqlite, 2, &good());
    until(&stage, |it| it["state"] == "soaking");
    // The other one is moved by a later stage, when spot costs more than on demand.
    stage.provider.with(|world| {
        let ids: Vec<String> = world.products().iter().map(|product| product.id.clone()).collect();
        for id in ids {
            let product = world.product_mut(&id).expect("a product");
            product.spot_price = Some(product.price * 2);
        }
    });
    let become_all = |mode: &str| {
        let spot = |machine: &&Machine| machine.name.contains("-recreated-");
        stage.provider.with(|world| {
            let ids: Vec<String> = world.machines().filter(spot).map(|it| it.id.clone()).collect();
            ids.iter().for_each(|id| assert!(world.edit(id, |it| it.billing_mode = mode.into())));
        });
    };
    for mode in ["", "weird"] {
        become_all(mode);
        let waits = call(&stage, "--yes").output();
        assert!(matches!(waits.code(), 0 | 1) && !waits.all().contains("is billed as"), "{mode:?}: {waits:?}");
        assert_eq!(living(&stage).0, 2);
    }
    become_all("spot");
    let document = until(&stage, is_over);
    assert_eq!((&document["rollout"]["state"], living(&stage)), (&"rolled_back".into(), (2, 0)), "{document:#}");
    assert!(document.to_string().contains("USD an hour, and 0.67 on demand"), "{document:#}");
}

/// An instance whose billing mode was changed meanwhile is not deleted: it is out of the scope of the rollout.
#[test]
fn what_is_billed_otherwise_by_now_stays() {
    for (mode, state) in [("monthly", "soaking"), ("spot", "retiring"), ("weird", "retiring")] {
        let stage = stage(Kind::Sqlite, 3, &good());
        until(&stage, |it| it["state"] == state);
        let become_it = |mode: &str| {
            stage.provider.with(|world| assert!(world.edit("web-0", |it| it.billing_mode = mode.into())));
        };
        become_it(mode);
        let mut said = String::new();
        for _ in 0..4 {
            said += &call(&stage, "--yes").output().all();
            stage.provider.advance(2 * MINUTE);
        }
        assert!(said.contains(&format!("billed as \"{mode}\"")), "{mode}: {said}");
        if mode == "weird" {
            become_it("onDemand");
        }
        let document = until(&stage, is_over);
        let is_there = stage.provider.with(|world| world.machines().any(|it| it.id == "web-0" && it.is_alive()));
        assert_eq!(is_there, mode != "weird", "{mode}: {document:#}");
        let writes = |op| stage.provider.with(|world| world.writes(op, "web-0").count());
        assert_eq!(writes(Op::Delete), usize::from(mode == "weird"), "{mode}");
    }
}

#[test]
fn a_move_whose_instance_does_not_run_for_long_has_failed() {
    for (state, status) in [("soaking", "frobnicating"), ("retiring", "restarting")] {
        let stage = stage(Kind::Sqlite, 2, &good());
        until(&stage, |it| it["state"] == state);
        let spot = alive(&stage, "spot");
        stage.provider.with(|world| spot.iter().for_each(|id| assert!(world.set_status(id, status))));
        let waits = call(&stage, "--yes").output().ends_with(0);
        assert!(waits.stdout.contains(&format!(", whose spot instance is {status}")), "{}", waits.stdout);
        stage.provider.advance(2 * HOUR);
        let failed = call(&stage, "--yes").output().ends_with(1);
        assert!(failed.stderr.contains("has not run for 60 min"), "{}", failed.stderr);
        stage.provider.advance(MINUTE);
        let document = until(&stage, is_over);
        assert_eq!((&document["rollout"]["state"], living(&stage)), (&"rolled_back".into(), (2, 0)), "{document:#}");
    }
}
