//! Short ways to ask a world.

use serde_json::Value;

use crate::call::Reply;
use crate::world::World;

/// A call to `eu-west-1`; `form` is what follows the version.
pub(super) fn ask(world: &mut World, action: &str, form: &str) -> Reply {
    ask_in(world, "eu-west-1", action, form)
}

/// A call to another region.
pub(super) fn ask_in(world: &mut World, region: &str, action: &str, form: &str) -> Reply {
    world.call(region, "ec2", &format!("Action={action}&Version=2016-11-15&{form}"))
}

/// The body of a call that succeeds.
pub(super) fn good(world: &mut World, action: &str, form: &str) -> String {
    let reply = ask(world, action, form);
    assert_eq!(reply.status, 200, "{action} {form}: {}", reply.body);
    reply.body
}

/// A call to `eu-west-1` of a service that speaks JSON: the status and the answer.
pub(super) fn ask_json(world: &mut World, service: &str, action: &str, body: &Value) -> (u16, Value) {
    let reply = world.call_json("eu-west-1", service, action, &body.to_string());
    (reply.status, serde_json::from_str(&reply.body).expect("JSON"))
}

/// The code of a call of such a service that fails.
pub(super) fn refused_json(world: &mut World, service: &str, action: &str, body: &Value) -> String {
    let (status, answer) = ask_json(world, service, action, body);
    assert_ne!(status, 200, "{body} should have failed: {answer}");
    let kind = answer["__type"].as_str().expect("a type");
    kind.split_once('#').expect("a namespace").1.to_owned()
}

/// The status and the code of a call that fails.
pub(super) fn refused(world: &mut World, action: &str, form: &str) -> (u16, String) {
    let reply = ask(world, action, form);
    let code = first(&reply.body, "Code").unwrap_or_default();
    assert!(!code.is_empty(), "{action} {form} should have failed: {}", reply.body);
    (reply.status, code)
}

/// The texts of all elements of this name.
pub(super) fn texts(body: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = body;
    while let Some((_, after)) = rest.split_once(&open) {
        let (text, after) = after.split_once(&close).expect("a closing tag");
        found.push(text.to_owned());
        rest = after;
    }
    found
}

/// The text of the first element of this name.
pub(super) fn first(body: &str, name: &str) -> Option<String> {
    texts(body, name).into_iter().next()
}

/// The parameters of a launch of one spot instance in the first zone.
pub(super) fn spot_launch(world: &World) -> String {
    spot_launch_in(world, "eu-west-1a")
}

/// The same in another zone.
pub(super) fn spot_launch_in(world: &World, zone: &str) -> String {
    format!("{}&InstanceMarketOptions.MarketType=spot", launch_in(world, zone))
}

/// The same on demand.
pub(super) fn launch_in(world: &World, zone: &str) -> String {
    let region = world.home();
    let group = &region.groups[1].0;
    format!(
        "ImageId={}&InstanceType=g5.xlarge&KeyName=ops&SubnetId={}&SecurityGroupId.1={group}&MinCount=1&MaxCount=1",
        region.image,
        region.subnet(zone)
    )
}

/// Launches one instance, waits until it is seen, and tells its id.
pub(super) fn launched(world: &mut World, form: &str) -> String {
    let body = good(world, "RunInstances", form);
    world.advance(2_000);
    first(&body, "instanceId").expect("an id")
}

/// The row of one instance, as DescribeInstances tells it.
pub(super) fn row(world: &mut World, id: &str) -> String {
    good(world, "DescribeInstances", &format!("InstanceId.1={id}"))
}

/// The row of the spot request of an instance.
pub(super) fn request_row(world: &mut World, id: &str) -> String {
    good(world, "DescribeSpotInstanceRequests", &format!("Filter.1.Name=instance-id&Filter.1.Value.1={id}"))
}
