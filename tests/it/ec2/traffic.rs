//! Target groups of load balancers: traffic follows what a rollout moves and what is launched again, in virtual time.

use ec2_sim::{Instance, Lifecycle, Spec, State, World};
use respot::cli::RolloutVerb;
use respot::core::record::execution::ExecutionStatus;
use respot::core::rollout::course::RolloutEnd;

use super::fleet::{Fleet, MINUTE, story};
use super::moves::{Answers, end, evidence, said, state_of, terms, three};

/// A fleet whose instances serve in a target group, its ARN, and the time from which on they do.
fn served(mut world: World, ids: &[String]) -> (Fleet, String, i64) {
    let group = world.add_target_group("web");
    ids.iter().for_each(|id| assert!(world.register(&group, id)));
    world.advance(120_000);
    let since = world.now_ms();
    let mut fleet = Fleet::new(world);
    fleet.target_groups = vec![group.clone()];
    (fleet, group, since)
}

fn target(fleet: &Fleet, group: &str, id: &str) -> Option<&'static str> {
    fleet.with(|world| world.target_state(group, id))
}

/// The spot instances that exist.
fn spot(fleet: &Fleet) -> Vec<String> {
    let is_spot = |it: &&Instance| it.lifecycle == Lifecycle::Spot;
    fleet.with(|world| world.living().filter(is_spot).map(|it| it.id.clone()).collect())
}

/// What happens to a worker behind a load balancer after it was reclaimed.
type Event = fn(&Fleet, &str);

/// Steps of a rollout, until one of its old instances drains.
async fn rollout_until_draining(fleet: &Fleet, prober: &Answers, (group, old): (&str, &[String])) {
    for _ in 0..60 {
        fleet.rollout(prober, None).await;
        if old.iter().any(|id| target(fleet, group, id) == Some("draining")) {
            return;
        }
        tokio::time::sleep(5 * MINUTE).await;
    }
    panic!("nothing drains");
}

/// Takes every spot instance.
fn reclaim(fleet: &Fleet) {
    spot(fleet).iter().for_each(|id| fleet.with(|world| assert!(world.reclaim_now(id))));
}

/// Each row: what happens before the reclaim, what after the pass that launches, and how the target is in the end.
#[test]
fn a_replacement_serves_where_what_it_replaces_did() {
    let nothing: Event = |_, _| ();
    let rows: &[(&str, Event, Event, Option<&str>)] = &[
        ("nothing", nothing, nothing, Some("healthy")),
        (
            "its registration fails",
            |fleet, _| {
                fleet.with(|world| world.fault("RegisterTargets@1:code=InternalFailure,status=500".parse().unwrap()));
            },
            nothing,
            Some("healthy"),
        ),
        (
            "the group cannot be read",
            nothing,
            |fleet, _| {
                fleet.with(|world| world.fault("DescribeTargetHealth@1:code=AccessDenied,status=403".parse().unwrap()));
            },
            Some("healthy"),
        ),
        ("it is reclaimed in turn before a pass sees it", nothing, |fleet, _| reclaim(fleet), Some("healthy")),
        (
            "a person had taken it out",
            |fleet, group| spot(fleet).iter().for_each(|id| fleet.with(|world| assert!(world.deregister(group, id)))),
            nothing,
            None,
        ),
    ];
    for (what, before, after, then) in rows {
        story(async move {
            let mut world = World::new(41);
            let id = world.add(Spec::spot("worker"));
            let (fleet, group, _) = served(world, &[id]);
            fleet.passes(1).await;
            before(&fleet, &group);
            tokio::time::sleep(5 * MINUTE).await;
            fleet.passes(1).await;
            reclaim(&fleet);
            fleet.pass().await;
            after(&fleet, &group);
            fleet.passes(4).await;
            let new = fleet.only("worker");
            assert_eq!(
                (new.state, target(&fleet, &group, &new.id)),
                (State::Running, *then),
                "{what}\n{}",
                fleet.writes()
            );
        });
    }
}

/// Whatever is the matter with its tags, it is launched again.
#[test]
fn tags_never_prevent_a_launch() {
    for (own, groups, is_served) in [(45, 1, true), (46, 1, false), (60, 1, false), (3, 6, true), (3, 9, false)] {
        story(async move {
            let mut world = World::new(43);
            let tagged = (0..own).fold(Spec::spot("worker"), |spec, n| spec.tag(&format!("tag-{n:02}"), "value"));
            let id = world.add(tagged);
            let names = (0..groups).map(|n| format!("group-{n}-with-a-name-of-thirty-two"));
            let arns: Vec<String> = names.map(|name| world.add_target_group(&name)).collect();
            arns.iter().for_each(|arn| assert!(world.register(arn, &id)));
            let mut fleet = Fleet::new(world);
            fleet.target_groups = arns.clone();
            fleet.passes(1).await;
            reclaim(&fleet);
            fleet.passes(4).await;
            let new = fleet.only("worker");
            let serves = arns.iter().all(|arn| target(&fleet, arn, &new.id) == Some("healthy"));
            assert_eq!((new.state, serves), (State::Running, is_served), "{own} {groups}\n{}", fleet.writes());
        });
    }
}

/// Registered after the last pass that saw it run: the pass that launches its replacement says what is left to do.
#[test]
fn what_no_pass_has_seen_in_a_group_is_said() {
    story(async {
        let mut world = World::new(44);
        let id = world.add(Spec::spot("worker"));
        let (fleet, group, _) = served(world, &[]);
        fleet.passes(1).await;
        fleet.with(|world| assert!(world.register(&group, &id)));
        reclaim(&fleet);
        let attempts = fleet.ended().await.attempts;
        let said = "it is not registered in web:8000: no pass saw the old instance there";
        assert!(attempts.iter().any(|it| it.reason.contains(said)), "{attempts:?}");
        fleet.passes(3).await;
        assert_eq!(target(&fleet, &group, &fleet.only("worker").id), None);
    });
}

/// One that is gone, or may not be read, takes no traffic from the others, and the pass says so.
#[test]
fn a_group_that_cannot_be_read_holds_up_no_other() {
    story(async {
        let mut world = World::new(45);
        let id = world.add(Spec::spot("worker"));
        let (mut fleet, group, _) = served(world, &[id]);
        fleet.target_groups.insert(0, group.replace("/web/", "/gone/"));
        fleet.passes(1).await;
        reclaim(&fleet);
        fleet.passes(3).await;
        assert_eq!(target(&fleet, &group, &fleet.only("worker").id), Some("healthy"));
        let ended = fleet.ended().await;
        assert_eq!((ended.execution.status, ended.execution.summary.error_count), (ExecutionStatus::Partial, 1));
    });
}

/// Its owner stops the old one while it drains: it is out of service, and nobody terminates it.
#[test]
fn an_owner_who_is_faster_keeps_what_was_replaced() {
    story(async {
        let (world, old) = three();
        let (fleet, group, _) = served(world, &old);
        let prober = Answers::default();
        rollout_until_draining(&fleet, &prober, (&group, &old)).await;
        fleet.with(|world| assert!(world.user_stops(&old[0])));
        let steps = fleet.whole_rollout(&prober).await;
        assert_eq!(end(&steps), Some(RolloutEnd::Completed), "{:?}", said(&steps));
        tokio::time::sleep(60 * 80 * MINUTE).await;
        fleet.passes(2).await;
        let states: Vec<State> = old.iter().map(|id| state_of(&fleet, id)).collect();
        assert_eq!(states, [State::Stopped, State::Terminated, State::Terminated]);
    });
}

/// What a person takes out of the group stays out, and so does what replaces it.
#[test]
fn what_is_taken_out_of_a_group_stays_out() {
    story(async {
        let mut world = World::new(42);
        let id = world.add(Spec::spot("worker"));
        let (fleet, group, _) = served(world, &[id]);
        fleet.passes(1).await;
        reclaim(&fleet);
        fleet.passes(3).await;
        let second = fleet.only("worker").id;
        assert_eq!(target(&fleet, &group, &second), Some("healthy"));
        fleet.with(|world| assert!(world.deregister(&group, &second)));
        fleet.passes(3).await;
        assert_eq!(target(&fleet, &group, &second), None);
        reclaim(&fleet);
        fleet.passes(3).await;
        assert_eq!(target(&fleet, &group, &fleet.only("worker").id), None);
    });
}

/// Passes between the steps of a rollout do not send traffic to what has not passed it yet.
#[test]
fn a_pass_leaves_the_traffic_of_a_rollout_alone() {
    story(async {
        let (world, old) = three();
        let (fleet, group, since) = served(world, &old);
        let prober = Answers::default();
        fleet.passes(1).await;
        let mut soaked = 0;
        for _ in 0..80 {
            let stepped = fleet.rollout(&prober, None).await;
            fleet.pass().await;
            let rollout = stepped.fleet.expect("a rollout").rollout;
            if rollout.state.end().is_some() {
                assert_eq!(rollout.state.end(), Some(RolloutEnd::Completed));
                break;
            }
            if rollout.state.as_str() == "soaking" {
                soaked += 1;
                assert!(
                    spot(&fleet).iter().all(|id| target(&fleet, &group, id).is_none()),
                    "{}",
                    rollout.state.as_str()
                );
            }
            tokio::time::sleep(5 * MINUTE).await;
        }
        assert!(soaked > 0);
        assert!(spot(&fleet).iter().all(|id| target(&fleet, &group, id) == Some("healthy")));
        assert!(fleet.with(|world| world.fewest_healthy(&group, since)) >= 3);
        reclaim(&fleet);
        fleet.passes(3).await;
        assert_eq!(spot(&fleet).len(), 3);
        assert!(spot(&fleet).iter().all(|id| target(&fleet, &group, id) == Some("healthy")));
    });
}

/// At no moment is a group without a healthy target, and in the end its targets are the new instances.
#[test]
fn traffic_moves_without_a_gap() {
    story(async {
        let (world, old) = three();
        let (fleet, group, since) = served(world, &old);
        let analysis = fleet.analyze(&terms()).await.unwrap();
        let told = evidence(&analysis.opportunities[0], "application");
        assert!(told.contains("the target group web:8000 passes to the new instance"), "{told}");
        let steps = fleet.whole_rollout(&Answers::default()).await;
        assert_eq!(end(&steps), Some(RolloutEnd::Completed), "{:?}", said(&steps));
        assert!(
            steps.iter().all(|it| it.troubles.is_empty()),
            "{:?}",
            steps.iter().flat_map(|it| &it.troubles).collect::<Vec<_>>()
        );
        assert!(fleet.with(|world| world.fewest_healthy(&group, since)) >= 3);
        assert!(spot(&fleet).iter().all(|id| target(&fleet, &group, id) == Some("healthy")));
        assert!(old.iter().all(|id| target(&fleet, &group, id).is_none()));
    });
}

/// Aborted while the old ones drain: they serve again before what took their place goes.
#[test]
fn an_abort_while_targets_drain_leaves_no_gap() {
    story(async {
        let (world, old) = three();
        let (fleet, group, since) = served(world, &old);
        let prober = Answers::default();
        rollout_until_draining(&fleet, &prober, (&group, &old)).await;
        for _ in 0..30 {
            let stepped = fleet.rollout(&prober, Some(RolloutVerb::Abort { wait: false })).await;
            if stepped.fleet.is_some_and(|it| it.rollout.state.end().is_some()) {
                break;
            }
            tokio::time::sleep(MINUTE).await;
        }
        assert!(
            fleet.with(|world| world.fewest_healthy(&group, since)) >= 1,
            "there is a healthy target at each moment"
        );
        assert!(old.iter().all(|id| state_of(&fleet, id) == State::Running));
        assert!(old.iter().all(|id| target(&fleet, &group, id) == Some("healthy")));
        assert_eq!(spot(&fleet), Vec::<String>::new());
    });
}

/// An instance that does not become healthy holds the rollout, and the old one goes on serving.
#[test]
fn nothing_is_drained_before_its_successor_is_healthy() {
    story(async {
        let (world, old) = three();
        let (fleet, group, since) = served(world, &old);
        let prober = Answers::default();
        let mut said = String::new();
        for _ in 0..40 {
            spot(&fleet).iter().for_each(|id| fleet.with(|world| world.set_unhealthy(id, true)));
            said = fleet.rollout(&prober, None).await.message;
            tokio::time::sleep(5 * MINUTE).await;
        }
        assert!(said.contains("to be healthy in web"), "{said}");
        assert!(fleet.with(|world| world.fewest_healthy(&group, since)) >= 3);
        assert!(old.iter().all(|id| state_of(&fleet, id) == State::Running));
    });
}
