//! On-demand instances on EC2: what spot would save, and how they move there, in virtual time.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::Duration;

use ec2_sim::{Lifecycle, Spec, State, World};
use respot::cli::RolloutVerb;
use respot::core::rollout::analysis::{Analysis, Opportunity};
use respot::core::rollout::course::RolloutEnd;
use respot::core::rollout::findings::Terms;
use respot::core::world::policy::Selector;
use respot::core::world::probe::Probe;
use respot::measure::{ProbeOutcome, ProbeSample, ProbeTarget, Prober};

use super::fleet::{Fleet, MINUTE, story};

/// An application that answers within 70 ms, but for those that are sick.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) sick: HashSet<String>,
    samples: Cell<u64>,
}

impl Prober for Answers {
    async fn sample(&self, _: &Probe, target: ProbeTarget<'_>) -> ProbeSample {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(target.endpoints.len(), 1, "an instance has an address for all ports");
        let outcome = match self.sick.contains(target.name) {
            true => ProbeOutcome::Bad("503 Service Unavailable".into()),
            false => ProbeOutcome::Good,
        };
        self.samples.set(self.samples.get() + 1);
        ProbeSample { took: Duration::from_micros(70_000 + self.samples.get() * 389 % 997), outcome }
    }
}

pub(super) fn terms() -> Terms {
    Terms {
        may_lose: vec![Selector::parse("*").unwrap()],
        probe: Some(Probe::parse("http:8080/").unwrap()),
        ..Terms::default()
    }
}

fn of<'a>(analysis: &'a Analysis, name: &str) -> Option<&'a Opportunity> {
    analysis.opportunities.iter().find(|it| it.name == name)
}

pub(super) fn evidence(it: &Opportunity, gate: &str) -> String {
    let (_, gate) = it.gates.all().into_iter().find(|(name, _)| *name == gate).unwrap();
    gate.evidence.iter().map(|it| it.text.as_str()).collect::<Vec<_>>().join("; ")
}

/// Each row: an instance, whether it is analyzed, whether it may move, a gate, and what that says.
#[test]
fn an_analysis_knows_prices_quotas_load_and_what_a_move_would_lose() {
    type Row = (&'static str, fn(Spec) -> Spec, Option<bool>, &'static str, &'static str);
    let rows: &[Row] = &[
        (
            "plain",
            |it| it,
            Some(true),
            "resource",
            "0 spot vCPUs (G and VT in eu-west-1) in use plus 4 more, 64 allowed",
        ),
        ("plain", |it| it, Some(true), "performance", "healthy now: CPU 30"),
        ("plain", |it| it, Some(true), "performance", "its GPU load is not reported"),
        (
            "plain",
            |it| it,
            Some(true),
            "application",
            "its root volume (100 GB) and the data at the instance store (250 GB)",
        ),
        ("gpu", |it| it.gpu_load(80.0), Some(true), "performance", "healthy now"),
        ("busy", |it| it.cpu(98.0), Some(false), "performance", "near its limits now: CPU 98"),
        (
            "kept",
            |it| it.volume("/dev/sdf", 500, false),
            Some(true),
            "application",
            "(/dev/sdf) stays with the old instance",
        ),
        ("lost", |it| it.volume("/dev/sdg", 50, true), Some(true), "application", "and the data at /dev/sdg"),
        ("protected", Spec::protected, Some(false), "application", "its termination protection is on"),
        ("foreign", |it| it.without_tag("respot"), None, "", ""),
        ("grouped", |it| it.tag("aws:autoscaling:groupName", "web"), None, "", ""),
    ];
    for (name, change, moves, gate, said) in rows {
        story(async move {
            let mut world = World::new(31);
            world.add(change(Spec::on_demand(name).cpu(30.0)));
            world.set_quota("eu-west-1", Lifecycle::Spot, "G", 64);
            let fleet = Fleet::new(world);
            let analysis = fleet.analyze(&terms()).await.unwrap();
            let found = of(&analysis, name);
            assert_eq!(found.map(|it| it.approved), *moves, "{name}: {found:?}");
            let Some(found) = found else { return };
            let (cost, spot) = (found.current_cost.unwrap(), found.spot_cost.unwrap());
            assert_eq!((cost.to_string(), spot.to_string()), ("1.123".into(), "0.4512".into()));
            assert!(evidence(found, gate).contains(said), "{name}: {}", evidence(found, gate));
            assert_eq!(fleet.with(|world| world.log().iter().filter(|it| it.took_effect).count()), 0);
        });
    }
}

/// Each row: what cannot be read, whether the instance still counts as an opportunity, and what is said of it.
#[test]
fn what_cannot_be_read_is_not_known() {
    for (fault, found, said) in [
        (
            "GetProducts@all:code=AccessDeniedException,status=400",
            false,
            "on-demand prices could not be read, name them in RESPOT_EC2_PRICES",
        ),
        (
            "GetServiceQuota@all:code=AccessDeniedException,status=400",
            true,
            "the quota of spot vCPUs (G and VT in eu-west-1) is unknown",
        ),
        ("DescribeVolumes@all:code=UnauthorizedOperation,status=403", true, "what it would lose is unknown"),
        ("GetMetricData@all:code=AccessDeniedException,status=400", true, "no fresh metrics"),
    ] {
        story(async move {
            let mut world = World::new(32);
            world.add(Spec::on_demand("worker").cpu(30.0));
            world.fault(fault.parse().unwrap());
            let fleet = Fleet::new(world);
            let analysis = fleet.analyze(&terms()).await.unwrap();
            let it = of(&analysis, "worker").unwrap();
            assert_eq!(it.saving().is_some(), found, "{it:?}");
            let all = ["performance", "resource", "application"].map(|gate| evidence(it, gate)).join("; ");
            let all = all + &analysis.notes.join("; ");
            assert!(all.contains(said), "{all}");
        });
    }
}

/// A file of prices stands in for the price list, and wins over it.
#[test]
fn prices_of_the_operator_win() {
    story(async {
        let mut world = World::new(33);
        world.add(Spec::on_demand("worker").cpu(30.0));
        world.deny("GetProducts");
        let mut fleet = Fleet::new(world);
        fleet.prices.insert("g5.xlarge".into(), respot::core::world::money::Usd::from_micros(2_000_000));
        let analysis = fleet.analyze(&terms()).await.unwrap();
        assert_eq!(of(&analysis, "worker").unwrap().current_cost.unwrap().to_string(), "2.00");
    });
}

/// Three on-demand instances, and their ids.
pub(super) fn three() -> (World, Vec<String>) {
    let mut world = World::new(34);
    let ids = (0..3).map(|n| world.add(Spec::on_demand(&format!("web-{n}")).cpu(30.0).user_data("echo hunter2")));
    let ids = ids.collect();
    world.add(Spec::on_demand("foreign").without_tag("respot"));
    (world, ids)
}

pub(super) fn end(steps: &[respot::commands::rollout::Stepped]) -> Option<RolloutEnd> {
    steps.last()?.fleet.as_ref()?.rollout.state.end()
}

pub(super) fn said(steps: &[respot::commands::rollout::Stepped]) -> Vec<&str> {
    steps.iter().map(|it| it.message.as_str()).collect()
}

pub(super) fn state_of(fleet: &Fleet, id: &str) -> State {
    fleet.with(|world| world.instance(id).unwrap().state)
}

/// What is replaced is stopped, kept for as long as the settings say, and terminated by a pass.
#[test]
fn a_rollout_moves_all_and_keeps_the_old_ones_stopped() {
    story(async {
        let (world, old) = three();
        let fleet = Fleet::new(world);
        let steps = fleet.whole_rollout(&Answers::default()).await;
        assert_eq!(end(&steps), Some(RolloutEnd::Completed), "{:?}", said(&steps));
        tokio::time::sleep(5 * MINUTE).await;
        for (n, id) in old.iter().enumerate() {
            assert_eq!(state_of(&fleet, id), State::Stopped);
            let name = format!("web-{n}");
            let new = fleet.with(|world| {
                let spot = |it: &&ec2_sim::Instance| it.name() == name && it.lifecycle == Lifecycle::Spot;
                let found: Vec<_> = world.living().filter(spot).cloned().collect();
                assert_eq!(found.len(), 1, "{name}");
                found[0].clone()
            });
            assert_eq!(
                (new.state, new.kind.as_str(), new.tag("respot:replaces")),
                (State::Running, "g5.xlarge", Some(id.as_str()))
            );
            assert_eq!(new.tag("respot:retired"), None);
            assert!(new.user_data.is_some());
        }
        assert_eq!((fleet.with(|world| world.terminations()), fleet.with(|world| world.launches())), (0, 3));
        tokio::time::sleep(60 * 71 * MINUTE).await;
        fleet.passes(2).await;
        assert!(old.iter().all(|id| state_of(&fleet, id) == State::Stopped), "71 hours are not 72");
        tokio::time::sleep(60 * 2 * MINUTE).await;
        fleet.passes(2).await;
        assert!(old.iter().all(|id| state_of(&fleet, id) == State::Terminated));
        assert_eq!((fleet.with(|world| world.terminations()), fleet.with(|world| world.launches())), (3, 3));
        assert_eq!(fleet.living("foreign"), 1);
    });
}

/// Whoever starts it again, and stops it, has reasons of their own: it is not retired any more, however soon that is.
#[test]
fn what_somebody_starts_again_is_not_terminated() {
    for soon in [1, 60] {
        story(async move {
            let (world, old) = three();
            let fleet = Fleet::new(world);
            fleet.whole_rollout(&Answers::default()).await;
            tokio::time::sleep(5 * MINUTE).await;
            let start = format!("Action=StartInstances&Version=2016-11-15&InstanceId.1={}", old[0]);
            fleet.with(|world| assert_eq!(world.call("eu-west-1", "ec2", &start).status, 200));
            tokio::time::sleep(soon * MINUTE).await;
            fleet.with(|world| assert!(world.user_stops(&old[0])));
            tokio::time::sleep(60 * 80 * MINUTE).await;
            fleet.passes(2).await;
            let states: Vec<State> = old.iter().map(|id| state_of(&fleet, id)).collect();
            assert_eq!(states, [State::Stopped, State::Terminated, State::Terminated]);
        });
    }
}

/// Each row: what became of the spot instances when the time is over. Without one in its place, what was stopped stays.
#[test]
fn what_was_stopped_stays_while_nothing_runs_in_its_place() {
    type Event = fn(&mut World, &str);
    let rows: [(&str, Event); 2] = [
        ("taken, and no room anywhere", |world, id| {
            for (kind, zone) in ["g5.xlarge", "g6.xlarge"].iter().flat_map(|kind| ["a", "b", "c"].map(|it| (kind, it)))
            {
                world.set_room(kind, &format!("eu-west-1{zone}"), Some(0));
            }
            assert!(world.reclaim_now(id));
        }),
        ("terminated by its user", |world, id| assert!(world.user_terminates(id))),
    ];
    for (what, event) in rows {
        story(async move {
            let (world, old) = three();
            let fleet = Fleet::new(world);
            fleet.whole_rollout(&Answers::default()).await;
            fleet.passes(2).await;
            fleet.with(|world| {
                let spot = world.living().filter(|it| it.lifecycle == Lifecycle::Spot).map(|it| it.id.clone());
                spot.collect::<Vec<_>>().iter().for_each(|id| event(world, id));
            });
            for _ in 0..5 {
                tokio::time::sleep(60 * 20 * MINUTE).await;
                fleet.pass().await;
            }
            assert!(old.iter().all(|id| state_of(&fleet, id) == State::Stopped), "{what}");
        });
    }
}

/// Instances of one name: what runs in the place of one does not run in the place of another.
#[test]
fn the_successor_of_another_of_its_name_does_not_count() {
    story(async {
        let mut world = World::new(35);
        let old: Vec<String> = (0..2).map(|_| world.add(Spec::on_demand("web").cpu(30.0))).collect();
        let fleet = Fleet::new(world);
        fleet.whole_rollout(&Answers::default()).await;
        fleet.passes(2).await;
        let gone = fleet.with(|world| {
            let gone = world.living().find(|it| it.tag("respot:replaces") == Some(&old[0])).unwrap().id.clone();
            assert!(world.user_terminates(&gone));
            gone
        });
        for _ in 0..5 {
            tokio::time::sleep(60 * 20 * MINUTE).await;
            fleet.pass().await;
        }
        assert!(fleet.with(|world| world.living().all(|it| it.id != gone)));
        assert_eq!(old.iter().map(|id| state_of(&fleet, id)).collect::<Vec<_>>(), [State::Stopped, State::Terminated]);
    });
}

/// What was created in a rollout and belongs to others now is not undone.
#[test]
fn a_successor_that_was_taken_over_is_kept() {
    for tag in [("respot", "off"), ("kubernetes.io/cluster/x", "owned")] {
        story(async move {
            let (world, old) = three();
            let fleet = Fleet::new(world);
            let prober = Answers::default();
            let taken = loop {
                fleet.rollout(&prober, None).await;
                tokio::time::sleep(5 * MINUTE).await;
                let spot = |it: &&ec2_sim::Instance| it.lifecycle == Lifecycle::Spot && it.state == State::Running;
                if let Some(id) = fleet.with(|world| world.living().find(spot).map(|it| it.id.clone())) {
                    break id;
                }
            };
            let form = format!(
                "Action=CreateTags&Version=2016-11-15&ResourceId.1={taken}&Tag.1.Key={}&Tag.1.Value={}",
                tag.0, tag.1
            );
            fleet.with(|world| assert_eq!(world.call("eu-west-1", "ec2", &form).status, 200));
            fleet.rollout(&prober, Some(RolloutVerb::Abort { wait: false })).await;
            let mut end = None;
            for _ in 0..40 {
                fleet.pass().await;
                tokio::time::sleep(5 * MINUTE).await;
                end = fleet.rollout(&prober, None).await.fleet.and_then(|it| it.rollout.state.end());
                if end.is_some() {
                    break;
                }
            }
            assert!(end.is_some(), "{tag:?}: it does not end");
            assert_eq!(state_of(&fleet, &taken), State::Running, "{tag:?}");
            assert!(old.iter().all(|id| state_of(&fleet, id) == State::Running), "{tag:?}");
        });
    }
}

/// A stop that is refused leaves nothing behind that would take a later stop of its owner for its own.
#[test]
fn an_owner_who_stops_what_was_put_back_keeps_it() {
    story(async {
        let (mut world, old) = three();
        world.deny("StopInstances");
        let fleet = Fleet::new(world);
        let prober = Answers::default();
        for _ in 0..40 {
            let stepped = fleet.rollout(&prober, None).await;
            let is_refused = fleet.with(|world| world.log().iter().any(|it| it.action == "StopInstances"));
            if is_refused || stepped.fleet.is_some_and(|it| it.rollout.state.end().is_some()) {
                break;
            }
            tokio::time::sleep(MINUTE).await;
        }
        fleet.with(|world| world.allow("StopInstances"));
        for _ in 0..20 {
            let stepped = fleet.rollout(&prober, Some(RolloutVerb::Abort { wait: false })).await;
            if stepped.fleet.is_some_and(|it| it.rollout.state.end().is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        assert!(old.iter().all(|id| state_of(&fleet, id) == State::Running));
        fleet.with(|world| old.iter().for_each(|id| assert!(world.user_stops(id))));
        tokio::time::sleep(60 * 80 * MINUTE).await;
        fleet.passes(2).await;
        assert!(old.iter().all(|id| state_of(&fleet, id) == State::Stopped));
    });
}

#[test]
fn what_is_to_be_terminated_at_once_is() {
    story(async {
        let (world, old) = three();
        let mut fleet = Fleet::new(world);
        fleet.retirement.stops = false;
        let steps = fleet.whole_rollout(&Answers::default()).await;
        assert_eq!(end(&steps), Some(RolloutEnd::Completed));
        assert!(old.iter().all(|id| state_of(&fleet, id) != State::Running));
        assert_eq!(fleet.with(|world| world.terminations()), 3);
    });
}

/// Each row: what goes wrong, and how the rollout ends. The on-demand instances run on, and no spot instance is left.
#[test]
fn a_rollout_that_fails_leaves_everything_as_it_was() {
    type Trouble = fn(&mut World);
    let rows: [(&str, bool, Trouble); 4] = [
        ("the application is sick on spot", true, |_| ()),
        ("no room", false, |world| {
            for zone in ["a", "b", "c"] {
                world.set_room("g5.xlarge", &format!("eu-west-1{zone}"), Some(0));
            }
        }),
        ("launches die", false, |world| (0..40).for_each(|_| world.launch_dies_with("Client.InternalError"))),
        ("launches are denied", false, |world| world.deny("RunInstances")),
    ];
    for (what, is_sick, trouble) in rows {
        story(async move {
            let (mut world, old) = three();
            trouble(&mut world);
            let fleet = Fleet::new(world);
            let mut prober = Answers::default();
            let mut steps = vec![fleet.rollout(&prober, None).await];
            if is_sick {
                prober.sick.extend((0..3).map(|n| format!("web-{n}")));
            }
            for _ in 0..60 {
                tokio::time::sleep(5 * MINUTE).await;
                steps.push(fleet.rollout(&prober, None).await);
                if end(&steps).is_some() {
                    break;
                }
            }
            assert!(
                end(&steps).is_some_and(|end| end != RolloutEnd::Failed),
                "{what}: {}",
                steps.last().unwrap().message
            );
            let states: Vec<State> = old.iter().map(|id| state_of(&fleet, id)).collect();
            assert_eq!(states, [State::Running; 3], "{what}: {:?}", said(&steps));
            let spot = |world: &mut World| world.living().filter(|it| it.lifecycle == Lifecycle::Spot).count();
            assert_eq!(fleet.with(spot), 0, "{what}: no spot instance is left");
        });
    }
}

/// An abort after the on-demand instances were stopped creates new ones, billed on demand.
#[test]
fn an_abort_puts_everything_back() {
    for until in ["soaking", "retiring"] {
        story(async move {
            let (world, old) = three();
            let fleet = Fleet::new(world);
            let prober = Answers::default();
            for _ in 0..60 {
                let stepped = fleet.rollout(&prober, None).await;
                if stepped.fleet.is_some_and(|it| it.rollout.state.as_str() == until) {
                    break;
                }
                tokio::time::sleep(5 * MINUTE).await;
            }
            fleet.rollout(&prober, Some(RolloutVerb::Abort { wait: false })).await;
            for _ in 0..40 {
                tokio::time::sleep(5 * MINUTE).await;
                let stepped = fleet.rollout(&prober, None).await;
                if stepped.fleet.is_some_and(|it| it.rollout.state.end().is_some()) {
                    break;
                }
            }
            let running = |lifecycle| {
                fleet.with(|world| {
                    let its = |it: &&ec2_sim::Instance| it.lifecycle == lifecycle && it.state == State::Running;
                    world.living().filter(its).filter(|it| it.name().starts_with("web-")).count()
                })
            };
            assert_eq!((running(Lifecycle::OnDemand), running(Lifecycle::Spot)), (3, 0), "{until}");
            assert!(until != "soaking" || old.iter().all(|id| state_of(&fleet, id) == State::Running));
        });
    }
}

/// Each row: the step before which it happens, and the tag that says so. Whoever takes an instance out of the fleet keeps it.
#[test]
fn what_leaves_the_fleet_leaves_the_rollout() {
    for (before, tag) in [
        ("measuring", ("respot", "off")),
        ("measuring", ("kubernetes.io/cluster/x", "owned")),
        ("retiring", ("respot", "off")),
        ("retiring", ("kubernetes.io/cluster/x", "owned")),
    ] {
        story(async move {
            let (world, old) = three();
            let mut fleet = Fleet::new(world);
            fleet.retirement.stops = false;
            let prober = Answers::default();
            let mut steps = Vec::new();
            for _ in 0..60 {
                steps.push(fleet.rollout(&prober, None).await);
                let state = steps.last().and_then(|it| it.fleet.as_ref()).map(|it| it.rollout.state.as_str());
                if before == "measuring" || state == Some(before) {
                    break;
                }
                tokio::time::sleep(5 * MINUTE).await;
            }
            let form = format!(
                "Action=CreateTags&Version=2016-11-15&ResourceId.1={}&Tag.1.Key={}&Tag.1.Value={}",
                old[0], tag.0, tag.1
            );
            fleet.with(|world| assert_eq!(world.call("eu-west-1", "ec2", &form).status, 200));
            steps.extend(fleet.whole_rollout(&prober).await);
            // A move that fails before the first gate fails its stage.
            let (ends, stay) = match before {
                "measuring" => (RolloutEnd::RolledBack, [true, true, true]),
                _ => (RolloutEnd::Completed, [true, false, false]),
            };
            assert_eq!(end(&steps), Some(ends), "{before} {tag:?}: {:?}", said(&steps));
            let states: Vec<bool> = old.iter().map(|id| state_of(&fleet, id) == State::Running).collect();
            assert_eq!(states, stay, "{before} {tag:?}");
            let spot = |it: &&ec2_sim::Instance| it.lifecycle == Lifecycle::Spot && it.name() == "web-0";
            assert_eq!(fleet.with(|world| world.living().filter(spot).count()), 0, "{before} {tag:?}");
        });
    }
}

/// A successor that does not respond any more when its turn comes: nothing is retired for it, and in the end it goes.
#[test]
fn nothing_is_retired_for_what_does_not_respond() {
    story(async {
        let (world, old) = three();
        let fleet = Fleet::new(world);
        let mut prober = Answers::default();
        let mut said = String::new();
        for n in 0..80 {
            let stepped = fleet.rollout(&prober, None).await;
            said = stepped.message;
            let Some(rollout) = stepped.fleet.map(|it| it.rollout) else { panic!("{said}") };
            if rollout.state.as_str() == "retiring" && prober.sick.is_empty() {
                prober.sick.extend((0..3).map(|n| format!("web-{n}")));
            } else if !prober.sick.is_empty() && rollout.state.end().is_none() && n % 4 == 0 {
                assert!(said.contains("does not respond"), "{said}");
                assert!(old.iter().all(|id| state_of(&fleet, id) == State::Running));
            }
            if rollout.state.end().is_some() {
                break;
            }
            tokio::time::sleep(5 * MINUTE).await;
        }
        assert!(old.iter().all(|id| state_of(&fleet, id) == State::Running), "{said}");
        let spot = |world: &mut World| world.living().filter(|it| it.lifecycle == Lifecycle::Spot).count();
        assert_eq!(fleet.with(spot), 0, "{said}");
    });
}

/// Each instance alone has room in the quota, all together do not.
#[test]
fn a_rollout_begins_with_what_the_quota_has_room_for() {
    story(async {
        let (mut world, old) = three();
        world.set_quota("eu-west-1", Lifecycle::Spot, "G", 8);
        let fleet = Fleet::new(world);
        let analysis = fleet.analyze(&terms()).await.unwrap();
        assert_eq!(analysis.approved().count, 3);
        let steps = fleet.whole_rollout(&Answers::default()).await;
        assert!(
            steps[0].message.contains("the quota of spot vCPUs (G and VT in eu-west-1) has no room"),
            "{}",
            steps[0].message
        );
        assert_eq!(end(&steps), Some(RolloutEnd::Completed), "{:?}", said(&steps));
        let running = old.iter().filter(|id| state_of(&fleet, id) == State::Running).count();
        assert_eq!((running, fleet.with(|world| world.launches())), (1, 2));
    });
}
