//! Target groups.

use super::asking::{first, good, texts};
use crate::call::Reply;
use crate::{DAWN_MS, Spec, TargetState, World};

fn call(world: &mut World, action: &str, form: &str) -> Reply {
    world.call("eu-west-1", "elasticloadbalancing", &format!("Action={action}&Version=2015-12-01&{form}"))
}

/// A call about one target that succeeds.
fn act(world: &mut World, action: &str, arn: &str, id: &str) -> String {
    let reply = call(world, action, &format!("TargetGroupArn={arn}&Targets.member.1.Id={id}"));
    assert_eq!(reply.status, 200, "{action} {id}: {}", reply.body);
    reply.body
}

fn with_group(specs: [Spec; 2]) -> (World, String, [String; 2]) {
    let mut world = World::new(1);
    let ids = specs.map(|spec| world.add(spec));
    let arn = world.add_target_group("web");
    (world, arn, ids)
}

#[test]
fn a_target_goes_through_its_states() {
    let (mut world, arn, [web, _]) = with_group([Spec::on_demand("web"), Spec::spot("other")]);
    let by_id = format!("InstanceId.1={web}");
    let mut expected = Vec::new();
    let mut at = |world: &World, wanted: Option<TargetState>| {
        assert_eq!(world.target_state(&arn, &web), wanted.map(TargetState::name), "at {}", world.now_ms() - DAWN_MS);
        expected.push(wanted);
    };
    at(&world, None);
    act(&mut world, "RegisterTargets", &arn, &web);
    at(&world, Some(TargetState::Initial));
    world.advance(29_999);
    assert_eq!(world.target_state(&arn, &web), Some("initial"));
    act(&mut world, "RegisterTargets", &arn, &web);
    world.advance(1);
    at(&world, Some(TargetState::Healthy));
    world.set_unhealthy(&web, true);
    at(&world, Some(TargetState::Unhealthy));
    world.advance(1_000);
    world.set_unhealthy(&web, false);
    at(&world, Some(TargetState::Healthy));
    good(&mut world, "StopInstances", &by_id);
    at(&world, Some(TargetState::Unused));
    world.advance(60_000);
    good(&mut world, "StartInstances", &by_id);
    at(&world, Some(TargetState::Initial));
    world.advance(59_999);
    assert_eq!(world.target_state(&arn, &web), Some("initial"), "30 s to boot, 30 s to be healthy");
    world.advance(1);
    at(&world, Some(TargetState::Healthy));
    act(&mut world, "DeregisterTargets", &arn, &web);
    at(&world, Some(TargetState::Draining));
    world.advance(299_999);
    act(&mut world, "RegisterTargets", &arn, &web);
    at(&world, Some(TargetState::Initial));
    world.advance(30_000);
    at(&world, Some(TargetState::Healthy));
    world.deregister(&arn, &web);
    at(&world, Some(TargetState::Draining));
    act(&mut world, "DeregisterTargets", &arn, &web);
    world.advance(300_000);
    at(&world, None);
    assert!(world.register(&arn, &web));
    at(&world, Some(TargetState::Initial));
    good(&mut world, "TerminateInstances", &by_id);
    at(&world, Some(TargetState::Unused));
    world.advance(61 * 60_000);
    at(&world, None);
    let noted: Vec<_> = world.target_log().iter().map(|change| (change.before, change.after)).collect();
    let wanted: Vec<_> = expected.windows(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(noted, wanted);
}

#[test]
fn the_log_tells_each_change_at_its_moment() {
    let (mut world, arn, [first, second]) = with_group([Spec::spot("a"), Spec::spot("b")]);
    world.rules.draining_ms = 60_000;
    world.register(&arn, &first);
    world.advance(45_000);
    world.register(&arn, &second);
    world.reclaim(&first);
    world.advance(10_000_000);
    let log: Vec<_> = world
        .target_log()
        .iter()
        .map(|it| (it.at_ms - DAWN_MS, if it.id == first { "a" } else { "b" }, it.after.map(TargetState::name)))
        .collect();
    assert_eq!(
        log[..5],
        [
            (0, "a", Some("initial")),
            (30_000, "a", Some("healthy")),
            (45_000, "b", Some("initial")),
            (75_000, "b", Some("healthy")),
            (165_000, "a", Some("unused")),
        ]
    );
    assert_eq!((log[5].1, log[5].2, log.len()), ("a", None, 6), "its row is gone");
    let end = world.now_ms();
    world.deregister(&arn, &second);
    world.advance(500_000);
    let last = &world.target_log()[7];
    assert_eq!((last.at_ms - end, last.after), (60_000, None));
    world.starts_at(DAWN_MS);
    assert!(world.target_log().iter().all(|change| change.at_ms < DAWN_MS), "the calendar moves");
}

#[test]
fn the_log_says_how_many_were_healthy_at_least() {
    let (mut world, arn, [first, second]) = with_group([Spec::spot("a"), Spec::spot("b")]);
    assert_eq!(world.fewest_healthy(&arn, 0), 0);
    world.register(&arn, &first);
    world.advance(30_000);
    assert_eq!(world.fewest_healthy(&arn, DAWN_MS), 0);
    let since = world.now_ms();
    for (at, wanted) in [(DAWN_MS, 0), (since - 1, 0), (since, 1), (since + 1, 1)] {
        assert_eq!(world.fewest_healthy(&arn, at), wanted, "{}", at - since);
    }
    world.register(&arn, &second);
    world.advance(30_000);
    world.deregister(&arn, &first);
    world.advance(600_000);
    assert_eq!(world.fewest_healthy(&arn, since), 1, "one after the other");
    assert_eq!(world.fewest_healthy("arn:other", since), 0);
    world.register(&arn, &first);
    world.advance(30_000);
    let both = world.now_ms();
    assert_eq!(world.fewest_healthy(&arn, both), 2);
    world.advance(1_000);
    world.reclaim_now(&second);
    world.set_unhealthy(&first, true);
    world.set_unhealthy(&first, false);
    assert_eq!((world.fewest_healthy(&arn, both), world.fewest_healthy(&arn, since)), (1, 1), "within a millisecond");
    world.advance(1_000);
    world.set_unhealthy(&first, true);
    world.advance(1_000);
    world.set_unhealthy(&first, false);
    assert_eq!(world.fewest_healthy(&arn, both), 0);
    assert_eq!(world.fewest_healthy(&arn, world.now_ms()), 1);
}

#[test]
fn health_is_told_as_elb_tells_it() {
    let (mut world, arn, [web, other]) = with_group([Spec::on_demand("web"), Spec::on_demand("other")]);
    world.register(&arn, &web);
    let form = format!("TargetGroupArn={arn}");
    let body = call(&mut world, "DescribeTargetHealth", &form).body;
    assert!(body.starts_with(
        "<DescribeTargetHealthResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">"
    ));
    let row = |state: &str| {
        format!(
            "<member><Target><Id>{web}</Id><Port>8000</Port></Target><HealthCheckPort>8000</HealthCheckPort>\
             <TargetHealth><State>{state}</TargetHealth></member>"
        )
    };
    let initial = "initial</State><Reason>Elb.RegistrationInProgress</Reason><Description>Target registration is in \
                   progress</Description>";
    assert!(body.contains(&row(initial)), "{body}");
    world.advance(30_000);
    let body = call(&mut world, "DescribeTargetHealth", &form).body;
    assert!(body.contains(&row("healthy</State>")), "a healthy one has no reason: {body}");
    let both = format!("{form}&Targets.member.1.Id={other}&Targets.member.2.Id={web}");
    let body = call(&mut world, "DescribeTargetHealth", &both).body;
    assert_eq!(texts(&body, "State"), ["unused", "healthy"]);
    assert_eq!(texts(&body, "Reason"), ["Target.NotRegistered"]);
    let body =
        call(&mut world, "DescribeTargetHealth", &format!("{form}&Targets.member.1.Id={web}&Targets.member.1.Port=81"))
            .body;
    assert_eq!(texts(&body, "Reason"), ["Target.NotRegistered"], "on another port");
    let register = format!("{form}&Targets.member.1.Id={web}&Targets.member.1.Port=81");
    assert_eq!(call(&mut world, "RegisterTargets", &register).status, 200);
    assert_eq!(texts(&call(&mut world, "DescribeTargetHealth", &form).body, "Port"), ["8000", "81"]);
    for (reason, act) in [
        ("Target.ResponseCodeMismatch", (|world, id, _| world.set_unhealthy(id, true)) as fn(&mut World, &str, &str)),
        ("Target.InvalidState", |world, id, _| assert!(world.user_stops(id))),
        ("Target.DeregistrationInProgress", |world, id, arn| assert!(world.deregister(arn, id))),
    ] {
        act(&mut world, &web, &arn);
        let body = call(&mut world, "DescribeTargetHealth", &form).body;
        assert_eq!(first(&body, "Reason").as_deref(), Some(reason));
    }
}

#[test]
fn groups_are_listed_in_pages() {
    let mut world = World::new(1);
    world.add_region("us-east-1");
    let arns = ["a", "b", "c"].map(|name| world.add_target_group(name));
    world.add_target_group_in("us-east-1", "d");
    let names =
        |world: &mut World, form: &str| texts(&call(world, "DescribeTargetGroups", form).body, "TargetGroupName");
    assert_eq!(names(&mut world, ""), ["a", "b", "c"]);
    assert_eq!(names(&mut world, &format!("TargetGroupArns.member.1={}", arns[1])), ["b"]);
    assert_eq!(names(&mut world, "Names.member.1=c&Names.member.2=a"), ["a", "c"]);
    let page = call(&mut world, "DescribeTargetGroups", "PageSize=2").body;
    let marker = first(&page, "NextMarker").expect("a marker");
    assert_eq!(texts(&page, "TargetGroupName"), ["a", "b"]);
    let page = call(&mut world, "DescribeTargetGroups", &format!("PageSize=2&Marker={marker}")).body;
    assert_eq!((texts(&page, "TargetGroupName"), first(&page, "NextMarker")), (vec!["c".to_owned()], None));
    for (name, wanted) in [("TargetType", "instance"), ("Port", "8000"), ("Protocol", "HTTP")] {
        assert_eq!(first(&page, name).as_deref(), Some(wanted));
    }
    assert_eq!(first(&page, "VpcId").as_ref(), Some(&world.home().vpc));
}

#[test]
fn what_is_wrong_is_refused() {
    let (mut world, arn, [boots, runs]) = with_group([Spec::on_demand("a").pending(), Spec::on_demand("b")]);
    let unknown = format!("{arn}0");
    for (action, form, status, code) in [
        (
            "RegisterTargets",
            format!("TargetGroupArn={arn}&Targets.member.1.Id={runs}&Targets.member.2.Id={boots}"),
            400,
            "InvalidTarget",
        ),
        (
            "RegisterTargets",
            format!("TargetGroupArn={arn}&Targets.member.1.Id=i-0123456789abcdef0"),
            400,
            "InvalidTarget",
        ),
        ("RegisterTargets", format!("TargetGroupArn={arn}"), 400, "ValidationError"),
        ("RegisterTargets", format!("TargetGroupArn={arn}&Targets.1.Id={runs}"), 400, "ValidationError"),
        (
            "RegisterTargets",
            format!("TargetGroupArn={arn}&Targets.member.1.Id={runs}&Targets.member.1.Port=0"),
            400,
            "ValidationError",
        ),
        ("RegisterTargets", format!("TargetGroupArn={unknown}&Targets.member.1.Id={runs}"), 400, "TargetGroupNotFound"),
        (
            "DeregisterTargets",
            format!("TargetGroupArn={unknown}&Targets.member.1.Id={runs}"),
            400,
            "TargetGroupNotFound",
        ),
        ("DescribeTargetHealth", format!("TargetGroupArn={unknown}"), 400, "TargetGroupNotFound"),
        ("DescribeTargetHealth", "TargetGroupArn=web".to_owned(), 400, "ValidationError"),
        ("DescribeTargetHealth", String::new(), 400, "ValidationError"),
        (
            "DescribeTargetGroups",
            format!("TargetGroupArns.member.1={arn}&TargetGroupArns.member.2={unknown}"),
            400,
            "TargetGroupNotFound",
        ),
        ("DescribeTargetGroups", "PageSize=401".to_owned(), 400, "ValidationError"),
        ("DescribeLoadBalancers", String::new(), 400, "InvalidAction"),
    ] {
        let reply = call(&mut world, action, &form);
        assert_eq!((reply.status, first(&reply.body, "Code").as_deref()), (status, Some(code)), "{action} {form}");
        assert!(
            reply
                .body
                .starts_with("<ErrorResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">")
        );
        assert!(reply.body.contains("<Type>Sender</Type>"));
    }
    assert!(world.target_log().is_empty() && world.log().iter().all(|entry| !entry.took_effect));
    act(&mut world, "DeregisterTargets", &arn, "i-0123456789abcdef0");
    world.fault("RegisterTargets@1:cut-after".parse().expect("a rule"));
    call(&mut world, "RegisterTargets", &format!("TargetGroupArn={arn}&Targets.member.1.Id={runs}"));
    assert_eq!(world.target_state(&arn, &runs), Some("initial"));
    let entry = world.log().last().expect("an entry");
    assert_eq!((entry.action.as_str(), entry.took_effect, entry.status), ("RegisterTargets", true, None));
    world.rules.throttle = Some(crate::Throttle::documented());
    for _ in 0..50 {
        act(&mut world, "RegisterTargets", &arn, &runs);
    }
    let reply = call(&mut world, "RegisterTargets", &format!("TargetGroupArn={arn}&Targets.member.1.Id={runs}"));
    assert_eq!(first(&reply.body, "Code").as_deref(), Some("Throttling"));
}
