//! What goes wrong on the way, and what the log says about it.

use super::asking::{ask, first, good, launch_in, spot_launch};
use crate::{Delivery, Fault, Spec, What, World};

fn rule(text: &str) -> Fault {
    text.parse().expect("a rule")
}

#[test]
fn rules_have_a_text_form() {
    let code = |code: &str, status, after| What::Code { code: code.to_owned(), status, message: None, after };
    for (text, action, first, last, what) in [
        ("RunInstances@1:cut-after", Some("RunInstances"), 1, 1, What::CutAfter),
        ("RunInstances", Some("RunInstances"), 1, 1, code("InternalError", 500, false)),
        ("*@all:delay=30", None, 1, u64::MAX, What::Delay(30)),
        ("DescribeInstances@2-4:html", Some("DescribeInstances"), 2, 4, What::Html),
        ("A@3:code=RequestLimitExceeded", Some("A"), 3, 3, code("RequestLimitExceeded", 503, false)),
        ("A:code=InsufficientInstanceCapacity", Some("A"), 1, 1, code("InsufficientInstanceCapacity", 500, false)),
        ("A:code=X,status=418,after", Some("A"), 1, 1, code("X", 418, true)),
    ] {
        let fault = rule(text);
        assert_eq!(
            (fault.action.as_deref(), fault.first, fault.last, fault.what),
            (action, first, last, what),
            "{text}"
        );
    }
    for text in ["", ":html", "A@0:html", "A@x:html", "A:burn", "A:code=X,status=9", "A:code=X,often", "A:delay=soon"] {
        assert!(text.parse::<Fault>().is_err(), "{text:?}");
    }
}

#[test]
fn each_fault_does_what_it_says() {
    for (what, status, delivery, launches) in [
        ("cut-before", 200, Delivery::CutBefore, 0),
        ("cut-after", 200, Delivery::CutAfter, 1),
        ("code=InternalError,status=500", 500, Delivery::Whole, 0),
        ("code=InternalError,status=500,after", 500, Delivery::Whole, 1),
        ("html", 502, Delivery::Whole, 0),
        ("empty", 200, Delivery::Whole, 1),
        ("delay=70", 200, Delivery::Hang { ms: 70 }, 1),
    ] {
        let mut world = World::new(1);
        world.fault(rule(&format!("RunInstances@1:{what}")));
        let form = spot_launch(&world);
        good(&mut world, "DescribeInstances", "");
        let reply = ask(&mut world, "RunInstances", &form);
        assert_eq!((reply.status, reply.delivery, world.launches()), (status, delivery, launches), "{what}");
        let entry = world.log().last().expect("an entry").clone();
        assert_eq!(entry.took_effect, launches == 1, "{what}");
        assert_eq!(entry.status.is_none(), what.starts_with("cut"), "{what}");
        assert_eq!(reply.body.is_empty(), matches!(what, "empty" | "cut-before"), "{what}");
        good(&mut world, "RunInstances", &form);
        assert_eq!(world.launches(), launches + 1, "only the first call is struck");
    }
}

#[test]
fn rules_count_their_own_calls_and_can_be_forgotten() {
    let mut world = World::new(1);
    world.fault(rule("DescribeInstances@2-3:code=Unavailable"));
    let statuses: Vec<_> = (0..4).map(|_| ask(&mut world, "DescribeInstances", "").status).collect();
    assert_eq!(statuses, [200, 503, 503, 200]);
    world.fault(rule("*@all:html"));
    assert_eq!(ask(&mut world, "DescribeInstances", "").status, 502);
    world.clear_faults();
    good(&mut world, "DescribeInstances", "");
}

#[test]
fn the_log_tells_all_calls() {
    let mut world = World::new(1);
    let id = world.add(Spec::spot("a"));
    good(&mut world, "TerminateInstances", &format!("InstanceId.1={id}"));
    ask(&mut world, "TerminateInstances", "InstanceId.1=i-0123456789abcdef0");
    let form = launch_in(&world, "eu-west-1a");
    good(&mut world, "RunInstances", &form);
    let log: Vec<_> =
        world.log().iter().map(|entry| (entry.action.as_str(), entry.status, entry.took_effect)).collect();
    assert_eq!(
        log,
        [
            ("TerminateInstances", Some(200), true),
            ("TerminateInstances", Some(400), false),
            ("RunInstances", Some(200), true)
        ]
    );
    let entry = &world.log()[1];
    assert_eq!(entry.code.as_deref(), Some("InvalidInstanceID.NotFound"));
    assert_eq!(entry.get("InstanceId.1"), Some("i-0123456789abcdef0"));
    assert_eq!((world.launches(), world.terminations()), (1, 1));
}

#[test]
fn errors_have_the_shape_of_their_service() {
    let mut world = World::new(1);
    let reply = ask(&mut world, "DescribeInstances", "InstanceId.1=%3Cb%3E");
    assert!(reply.body.contains("<Response><Errors><Error><Code>InvalidInstanceID.Malformed</Code><Message>"));
    assert!(reply.body.contains("&lt;b&gt;"), "{}", reply.body);
    assert_eq!(first(&reply.body, "RequestID"), Some(reply.request_id));
    let reply = world.call("eu-west-1", "sts", "Action=Other&Version=2011-06-15");
    assert!(reply.body.starts_with("<ErrorResponse") && reply.body.contains("<Type>Sender</Type>"));
    assert_eq!(first(&reply.body, "RequestId"), Some(reply.request_id));
}

#[test]
fn absent_and_empty_both_occur() {
    let mut world = World::new(1);
    world.add(Spec::spot("a"));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let told = good(&mut world, "DescribeInstances", "");
        for empty in ["<reason/>", "<stateReason/>", "<clientToken/>", "<nextToken/>"] {
            seen.insert((empty, told.contains(empty)));
        }
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}
