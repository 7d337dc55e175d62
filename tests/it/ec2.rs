//! Passes on Amazon EC2, in virtual time: what was reclaimed is launched again once, as it was, and nothing else is touched.

mod fleet;
mod histories;
mod moves;
mod program;
mod rollouts;
mod traffic;

use std::time::Duration;

use ec2_sim::{EndedBy, Entry, Spec, State, Throttle, World};
use respot::core::pass::safety::BlastRadius;
use respot::core::record::execution::ExecutionStatus;

use self::fleet::{Fleet, MINUTE, story};

const HERE: &str = "eu-west-1a";
const THERE: &str = "eu-west-1b";

/// A fleet of a worker with everything that can be copied, and another one beside it, both seen by a pass.
async fn seen() -> (Fleet, String) {
    let mut world = World::new(11);
    let spec = Spec::spot("worker").zone(HERE).user_data("#!/bin/sh\necho hunter2").public_address(true);
    let id = world.add(spec.volume("/dev/sdb", 200, true).tag("team", "vision").tag("respot", "managed"));
    world.add(Spec::spot("other").zone(THERE));
    let fleet = Fleet::new(world);
    fleet.pass().await;
    (fleet, id)
}

#[test]
fn what_was_reclaimed_is_launched_again_as_it_was() {
    story(async {
        let (fleet, old) = seen().await;
        let before = fleet.with(|world| world.instance(&old).unwrap().clone());
        fleet.with(|world| world.reclaim(&old));
        tokio::time::sleep(5 * MINUTE).await;
        fleet.passes(3).await;
        let new = fleet.only("worker");
        assert_eq!(new.state, State::Running);
        assert_eq!((&new.kind, &new.zone, &new.subnet), (&before.kind, &before.zone, &before.subnet));
        assert_eq!(new.user_data, before.user_data, "user data travels as it is");
        assert_eq!(new.tag("team"), Some("vision"));
        assert_eq!((new.tag("respot:replaces"), new.tag("Name")), (Some(old.as_str()), Some("worker")));
        assert_eq!(fleet.differences(&before, &new), Vec::<String>::new());
        assert_eq!(fleet.with(|world| world.terminations()), 0, "what was reclaimed is over: nothing is terminated");
        assert_eq!(fleet.with(|world| world.launches()), 1);
    });
}

/// Each row: what goes wrong with the launch, and how many times it is sent to have an effect.
#[test]
fn whatever_becomes_of_the_answer_there_is_one() {
    for fault in [
        "RunInstances@1:cut-before",
        "RunInstances@1:cut-after",
        "RunInstances@1-2:cut-after",
        "RunInstances@1:code=InternalError,status=500,after",
        "RunInstances@1:cut-after RunInstances@2:code=InsufficientInstanceCapacity,status=500",
        "RunInstances@1:cut-after RunInstances@2:code=Unsupported,status=400",
        "RunInstances@1:cut-after RunInstances@2:code=MaxSpotInstanceCountExceeded,status=400",
        "RunInstances@1:html",
        "RunInstances@1:empty",
        "RunInstances@1-3:code=RequestLimitExceeded,status=503",
        "RunInstances@1:code=Unavailable,status=503",
        "DescribeInstances@2-5:code=InternalError,status=500",
        "DescribeSpotInstanceRequests@2-4:code=RequestLimitExceeded,status=503",
        "DescribeSpotPriceHistory@all:code=UnauthorizedOperation,status=403",
    ] {
        story(async move {
            let (fleet, old) = seen().await;
            fleet.with(|world| {
                world.reclaim_now(&old);
                fault.split(' ').for_each(|fault| world.fault(fault.parse().unwrap()));
            });
            tokio::time::sleep(5 * MINUTE).await;
            fleet.passes(5).await;
            assert_eq!(fleet.only("worker").state, State::Running, "{fault}");
            assert_eq!(fleet.with(|world| world.launches()), 1, "{fault}");
        });
    }
}

#[test]
fn a_pass_killed_between_launch_and_answer_is_continued() {
    story(async {
        let (fleet, old) = seen().await;
        fleet.with(|world| {
            world.reclaim_now(&old);
            world.fault("RunInstances@1:delay=40000".parse().unwrap());
        });
        tokio::time::sleep(5 * MINUTE).await;
        fleet.killed_pass(Duration::from_secs(20)).await;
        assert_eq!(fleet.with(|world| world.launches()), 1);
        fleet.passes(3).await;
        assert_eq!(fleet.only("worker").state, State::Running);
        assert_eq!(fleet.with(|world| world.launches()), 1, "the same token, or a look, finds it");
    });
}

/// No room comes as HTTP 500, and leads to the next place; a type that is not offered in a zone does, too.
#[test]
fn a_dry_pool_leads_to_another_zone_or_type() {
    let all = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
    let dry: [Vec<(&str, &str)>; 3] = [
        vec![("g5.xlarge", HERE)],
        all.iter().map(|zone| ("g5.xlarge", *zone)).collect(),
        vec![("g5.xlarge", HERE), ("g6.xlarge", HERE), ("g6.xlarge", THERE)],
    ];
    for dry in dry {
        story(async move {
            let (fleet, old) = seen().await;
            fleet.with(|world| {
                world.reclaim_now(&old);
                dry.iter().for_each(|(kind, zone)| world.set_room(kind, zone, Some(0)));
            });
            tokio::time::sleep(5 * MINUTE).await;
            fleet.passes(2).await;
            let new = fleet.only("worker");
            assert_eq!(new.state, State::Running, "{dry:?}");
            assert!(!dry.contains(&(new.kind.as_str(), new.zone.as_str())));
        });
    }
}

/// Nowhere is room for longer than EC2 lists what it took, and longer than the spot request tells of it.
#[test]
fn a_shortage_of_days_loses_nothing() {
    story(async {
        let (fleet, old) = seen().await;
        fleet.with(|world| {
            world.reclaim_now(&old);
            for zone in ["eu-west-1a", "eu-west-1b", "eu-west-1c"] {
                ["g5.xlarge", "g6.xlarge"].iter().for_each(|kind| world.set_room(kind, zone, Some(0)));
            }
        });
        for _ in 0..40 {
            tokio::time::sleep(30 * MINUTE).await;
            fleet.pass().await;
        }
        assert_eq!(fleet.living("worker"), 0);
        fleet.with(|world| world.set_room("g5.xlarge", HERE, None));
        fleet.passes(2).await;
        assert_eq!(fleet.only("worker").state, State::Running);
    });
}

/// No pass ran while EC2 listed what it took: the spot request tells.
#[test]
fn what_vanished_between_two_passes_is_launched_again() {
    story(async {
        let (fleet, old) = seen().await;
        fleet.with(|world| world.reclaim_now(&old));
        tokio::time::sleep(90 * MINUTE).await;
        let is_gone =
            |world: &mut World| world.instance(&old).unwrap().row_gone_ms.is_some_and(|at| at < world.now_ms());
        assert!(fleet.with(is_gone));
        fleet.passes(3).await;
        assert_eq!(fleet.only("worker").state, State::Running);
    });
}

/// Each row: what happens to an instance that must stay as it is.
#[test]
fn what_was_ended_on_purpose_stays_ended() {
    type Event = fn(&mut World, &str);
    let events: [(&str, Event); 3] = [
        ("terminated by its user", |world, id| assert!(world.user_terminates(id))),
        ("shut down inside", |world, id| assert!(world.shuts_down_inside(id))),
        ("terminated by its user within the notice", |world, id| {
            assert!(world.reclaim(id));
            assert!(world.user_terminates(id));
        }),
    ];
    for (what, event) in events {
        story(async move {
            let (fleet, old) = seen().await;
            fleet.with(|world| event(world, &old));
            tokio::time::sleep(MINUTE).await;
            assert_eq!(fleet.reason(&old).await, "terminated_by_user", "{what}");
            for _ in 0..8 {
                tokio::time::sleep(20 * MINUTE).await;
                fleet.pass().await;
            }
            assert_eq!((fleet.living("worker"), fleet.with(|world| world.launches())), (0, 0), "{what}");
        });
    }
}

/// Each row: an instance that is none of ours, although it is reclaimed.
#[test]
fn what_is_not_ours_is_never_touched() {
    let specs = [
        ("not opted in", Spec::spot("web").without_tag("respot")),
        ("in an Auto Scaling group", Spec::spot("web").tag("aws:autoscaling:groupName", "web")),
        ("of EKS", Spec::spot("web").managed_by("eks.amazonaws.com")),
        ("persistent", Spec::spot("web").persistent("stop")),
        ("on demand", Spec::on_demand("web")),
    ];
    for (what, spec) in specs {
        story(async move {
            let mut world = World::new(12);
            let id = world.add(spec);
            let fleet = Fleet::new(world);
            fleet.pass().await;
            fleet.with(|world| world.reclaim_now(&id));
            for _ in 0..4 {
                tokio::time::sleep(10 * MINUTE).await;
                fleet.pass().await;
            }
            let ours = fleet.with(|world| world.log().iter().filter(|it| it.took_effect).count());
            assert_eq!(ours, 0, "{what}");
        });
    }
}

/// A person launches another instance with the tags of a replacement: it is neither a duplicate nor a successor of it.
#[test]
fn tags_that_a_person_copied_mark_nothing() {
    for (what, copy) in [
        ("on demand", Spec::on_demand("worker")),
        ("of a cluster", Spec::spot("worker").tag("kubernetes.io/cluster/x", "owned")),
        ("opted out", Spec::spot("worker").tag("respot", "off")),
    ] {
        story(async move {
            let mut world = World::new(14);
            let mut lost = world.add(Spec::spot("worker"));
            let fleet = Fleet::new(world);
            fleet.passes(2).await;
            let mut copied = None;
            for _ in 0..2 {
                fleet.with(|world| world.reclaim_now(&lost));
                for _ in 0..4 {
                    tokio::time::sleep(10 * MINUTE).await;
                    fleet.pass().await;
                }
                fleet.with(|world| {
                    let is_other = |it: &&ec2_sim::Instance| copied.as_ref() != Some(&it.id);
                    let living: Vec<_> = world.living().filter(is_other).cloned().collect();
                    let [new] = &living[..] else { panic!("{what}: {living:?}") };
                    lost.clone_from(&new.id);
                    let marked = |spec: Spec, key: &str| spec.tag(key, new.tag(key).unwrap());
                    let spec = marked(marked(copy.clone(), "respot:origin"), "respot:replaces").token("console-1");
                    copied.get_or_insert_with(|| world.add(spec));
                });
            }
            let copied = copied.unwrap();
            assert!(fleet.with(|world| world.living().any(|it| it.id == copied)), "{what}: it was ended");
        });
    }
}

/// What cannot be recorded cannot be brought back.
#[test]
fn a_pass_that_can_record_nothing_is_no_clean_one() {
    story(async {
        let mut world = World::new(15);
        world.add(Spec::spot("worker"));
        world.deny("DescribeVolumes");
        let ended = Fleet::new(world).ended().await;
        assert_eq!((ended.execution.status, ended.execution.summary.error_count), (ExecutionStatus::Partial, 1));
    });
}

/// Volumes may grow, which the list of instances does not say.
#[test]
fn what_an_instance_is_made_of_is_read_again_once_a_day() {
    story(async {
        let mut world = World::new(16);
        world.add(Spec::spot("worker"));
        let fleet = Fleet::new(world);
        let reads = || fleet.with(|world| world.log().iter().filter(|it| it.action == "DescribeVolumes").count());
        let mut seen = Vec::new();
        for _ in 0..3 {
            for _ in 0..24 {
                fleet.pass().await;
                tokio::time::sleep(60 * MINUTE).await;
            }
            seen.push(reads());
        }
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn what_no_pass_saw_running_is_not_guessed() {
    story(async {
        let mut world = World::new(13);
        let id = world.add(Spec::spot("worker"));
        world.reclaim_now(&id);
        world.advance(60_000);
        let fleet = Fleet::new(world);
        fleet.passes(2).await;
        assert_eq!(fleet.with(|world| world.launches()), 0);
        assert_eq!(fleet.reason(&id).await, "configuration_unknown");
    });
}

/// A replacement is reclaimed in turn, before it runs and later.
#[test]
fn a_chain_of_reclaims_keeps_one_alive() {
    story(async {
        let (fleet, old) = seen().await;
        fleet.with(|world| world.reclaim_now(&old));
        tokio::time::sleep(5 * MINUTE).await;
        for n in 0..6 {
            fleet.passes(2).await;
            let new = fleet.only("worker");
            assert_eq!(new.tag("Name"), Some("worker"));
            fleet.with(|world| world.reclaim_now(&new.id));
            tokio::time::sleep(if n % 2 == 0 { MINUTE } else { 20 * MINUTE }).await;
        }
        fleet.passes(3).await;
        assert_eq!(fleet.only("worker").state, State::Running);
    });
}

/// A launch is accepted and the instance dies: for lack of room, or for a key that may not be used.
#[test]
fn a_launch_that_dies_is_tried_again() {
    for code in ["Server.InsufficientInstanceCapacity", "Client.InternalError"] {
        story(async move {
            let (fleet, old) = seen().await;
            fleet.with(|world| {
                world.reclaim_now(&old);
                world.launch_dies_with(code);
            });
            tokio::time::sleep(5 * MINUTE).await;
            fleet.passes(5).await;
            assert_eq!(fleet.only("worker").state, State::Running, "{code}");
            assert_eq!(fleet.with(|world| world.ended_by(EndedBy::LaunchFailure)), 1, "{code}");
        });
    }
}

/// AWS takes a zone: what it proves to have taken is not held back by the guard against mass recreations.
#[test]
fn a_zone_that_is_taken_comes_back_elsewhere_in_two_passes() {
    story(async {
        let mut world = World::new(14);
        for n in 0..48 {
            world.add(Spec::spot(&format!("w{n:02}")).zone(HERE));
        }
        world.rules.throttle = Some(Throttle::documented());
        let fleet = Fleet::new(world);
        fleet.pass().await;
        fleet.with(|world| {
            assert_eq!(world.reclaim_zone(HERE), 48);
            world.set_room("g5.xlarge", HERE, Some(0));
        });
        tokio::time::sleep(5 * MINUTE).await;
        fleet.guarded_pass(BlastRadius::default()).await;
        tokio::time::sleep(5 * MINUTE).await;
        fleet.guarded_pass(BlastRadius::default()).await;
        let (running, lost) = fleet.with(|world| {
            let running = world.living().filter(|it| it.state == State::Running).count();
            let names: std::collections::BTreeSet<&str> = world.living().filter_map(|it| it.tag("Name")).collect();
            (running, 48 - names.len())
        });
        assert_eq!((running, lost), (48, 0));
        let is_throttled = |it: &&Entry| it.action == "RunInstances" && it.status == Some(503);
        assert_eq!(fleet.with(|world| world.log().iter().filter(is_throttled).count()), 0, "launches are paced");
    });
}

/// One of two regions cannot be read: nothing is concluded about it, and the other one goes on.
#[test]
fn a_region_that_fails_holds_nothing_up_elsewhere() {
    story(async {
        let (fleet, old) = seen().await;
        fleet.add_region("us-east-1");
        fleet.pass().await;
        fleet.with(|world| {
            world.reclaim_now(&old);
        });
        fleet.cut_off("us-east-1");
        tokio::time::sleep(5 * MINUTE).await;
        fleet.passes(3).await;
        assert_eq!(fleet.only("worker").state, State::Running);
    });
}
