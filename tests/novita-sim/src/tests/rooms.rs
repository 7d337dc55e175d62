//! Tests of markets whose room is set: what is refused, who is taken and told, what the product list says.

use respot::cloud::transport::Method;
use serde_json::{Value, json};

use super::{act, call, get, status};
use crate::*;

const PRODUCT: &str = "4090.16c62g";
const CLUSTER: &str = "us-xx-1";
const MINUTE: i64 = 60_000;

/// A world with this notice and so many running instances in one market, named after their order.
fn world(seed: u64, notice: Notice, running: usize) -> World {
    let mut world = World::new(seed);
    let rules = world.rules_mut();
    (rules.notice, rules.after_reclaim) = (notice, AfterReclaim::Kept);
    rules.boots_in(2 * MINUTE);
    for number in 0..running {
        world.add(Spec::running("x").id(&format!("x{number}")));
    }
    world
}

fn create(world: &mut World, billing: &str) -> (u16, String) {
    let body = json!({"name": "new", "productId": PRODUCT, "gpuNum": 1, "rootfsSize": 60, "imageUrl": "app:1",
        "kind": "gpu", "billingMode": billing, "clusterId": CLUSTER});
    call(world, Method::Post, "/v1/gpu/instance/create", &[], &body)
}

/// How many run without being told to go, how many run and are told, how many are exited.
fn census(world: &World) -> (usize, usize, usize) {
    let are = |status: &str, told: &str| {
        world.machines().filter(|machine| machine.status == status && machine.spot_status == told).count()
    };
    (are("running", ""), are("running", "notified"), are("exited", "terminated"))
}

#[test]
fn what_does_not_fit_is_refused() {
    // Room, who runs there, the call; whether it is refused.
    for (room, running, action, refused) in [
        (Room::Any, 3, "migrate", false),
        (Room::Any, 3, "create", false),
        (Room::NONE, 0, "migrate", true),
        (Room::NONE, 0, "start", true),
        (Room::NONE, 0, "create", true),
        (Room::NONE, 0, "create on demand", false),
        (Room::For(2), 1, "migrate", false),
        (Room::For(2), 1, "start", false),
        (Room::For(2), 1, "create", false),
        (Room::For(2), 2, "migrate", true),
        (Room::For(2), 2, "start", true),
        (Room::For(2), 2, "create", true),
        (Room::For(2), 2, "migrate who runs", false),
    ] {
        let mut world = world(1, Notice::None, running);
        let down = world.add(Spec::exited("down"));
        world.set_room(PRODUCT, CLUSTER, room);
        let (code, answer) = match action {
            "create" => create(&mut world, "spot"),
            "create on demand" => create(&mut world, "onDemand"),
            "migrate who runs" => act(&mut world, "migrate", "x0"),
            action => act(&mut world, action, &down),
        };
        assert_eq!(code != 200, refused, "{action} with {room:?}: {answer}");
        assert_eq!(answer.contains("INSUFFICIENT_RESOURCE"), refused, "{action} with {room:?}: {answer}");
    }
}

#[test]
fn who_does_not_fit_any_more_is_taken_or_told() {
    let grace = Notice::Grace { withdrawn: 0.0, tick_ms: MINUTE };
    // Notice, the room from when on; the census by the minute: running, told, exited.
    let cases: &[(Notice, &[(i64, Room)], &[(i64, (usize, usize, usize))])] = &[
        (Notice::None, &[(10, Room::NONE)], &[(9, (4, 0, 0)), (10, (0, 0, 4))]),
        (Notice::None, &[(0, Room::For(3)), (10, Room::For(1))], &[(0, (3, 0, 1)), (10, (1, 0, 3))]),
        (Notice::None, &[(5, Room::Any), (10, Room::For(4))], &[(10, (4, 0, 0))]),
        (grace, &[(10, Room::NONE)], &[(9, (4, 0, 0)), (10, (0, 4, 0)), (69, (0, 4, 0)), (70, (0, 0, 4))]),
        // It is back, but nothing is withdrawn.
        (grace, &[(10, Room::NONE), (20, Room::Any)], &[(69, (0, 4, 0)), (70, (0, 0, 4))]),
        (grace, &[(10, Room::For(3)), (20, Room::For(1))], &[(10, (3, 1, 0)), (20, (1, 3, 0)), (80, (1, 0, 3))]),
        (Notice::Ahead, &[(10, Room::NONE)], &[(0, (0, 4, 0)), (9, (0, 4, 0)), (10, (0, 0, 4))]),
        (Notice::Ahead, &[(90, Room::For(3))], &[(29, (4, 0, 0)), (30, (3, 1, 0)), (90, (3, 0, 1))]),
        (
            Notice::Ahead,
            &[(70, Room::For(3)), (90, Room::NONE)],
            &[(10, (3, 1, 0)), (30, (0, 4, 0)), (70, (0, 3, 1)), (90, (0, 0, 4))],
        ),
    ];
    for (notice, rooms, expected) in cases {
        let mut world = world(3, *notice, 4);
        let begun = world.now_ms();
        for (minute, room) in *rooms {
            world.set_room_at(begun + minute * MINUTE, PRODUCT, CLUSTER, *room);
        }
        for (minute, expected) in *expected {
            world.advance_to(begun + minute * MINUTE);
            assert_eq!(census(&world), *expected, "{notice:?} {rooms:?} in minute {minute}");
        }
        let taken = world.machines().filter(|machine| machine.status == "exited");
        taken.for_each(|it| assert_eq!(it.spot_reclaim_at, it.last_stopped_at, "{notice:?} {rooms:?}: {it:?}"));
    }
}

#[test]
fn who_is_on_the_way_is_taken_too_or_told_on_arrival() {
    let grace = Notice::Grace { withdrawn: 0.0, tick_ms: MINUTE };
    // Notice; the status after two minutes and a half, when told to go it ends, in minutes.
    for (notice, expected, ends) in [(Notice::None, "exited", 1), (grace, "running", 62), (Notice::Ahead, "exited", 1)]
    {
        for action in ["migrate", "create"] {
            let mut world = world(5, notice, 0);
            let begun = world.now_ms();
            let id = world.add(Spec::exited("x"));
            world.set_room_at(begun + MINUTE, PRODUCT, CLUSTER, Room::NONE);
            let (code, answer) =
                if action == "create" { create(&mut world, "spot") } else { act(&mut world, "migrate", &id) };
            assert_eq!(code, 200, "{answer}");
            let id = world.machines().last().expect("an instance").id.clone();
            world.advance(150_000);
            assert_eq!(status(&world, &id), expected, "{action}, {notice:?}");
            let at = world.get(&id).expect("it is there").spot_reclaim_at;
            assert_eq!(at, begun + ends * MINUTE, "{action}, {notice:?}");
        }
    }
}

#[test]
fn an_announcement_is_withdrawn_once_the_room_is_back() {
    let mut world = world(7, Notice::Grace { withdrawn: 1.0, tick_ms: MINUTE }, 2);
    let begun = world.now_ms();
    for (minute, room) in [(5, Room::NONE), (20, Room::For(1))] {
        world.set_room_at(begun + minute * MINUTE, PRODUCT, CLUSTER, room);
    }
    for (minute, expected) in [(5, (0, 2, 0)), (19, (0, 2, 0)), (20, (1, 1, 0)), (65, (1, 0, 1))] {
        world.advance_to(begun + minute * MINUTE);
        assert_eq!(census(&world), expected, "minute {minute}");
    }
}

#[test]
fn the_product_list_tells_the_room_of_the_cluster_that_is_asked_about() {
    let elsewhere = "eu-xx-2";
    let stale = Hint::Stale { ms: 10 * MINUTE };
    // Hint, cluster asked about; whether it can be deployed and the word for how many.
    for (hint, cluster, deploy, word) in [
        (Hint::True, CLUSTER, json!(false), json!("none")),
        (Hint::True, elsewhere, json!(true), json!("low")),
        (Hint::True, "", json!(true), json!("low")),
        (stale, CLUSTER, json!(true), json!("high")),
        (stale, elsewhere, json!(false), json!("none")),
        (stale, "", json!(true), json!("high")),
        (Hint::AlwaysYes, CLUSTER, json!(true), json!("high")),
        (Hint::Absent, CLUSTER, Value::Null, Value::Null),
        (Hint::Absent, "", Value::Null, Value::Null),
    ] {
        let mut world = world(9, Notice::None, 0);
        world.rules_mut().hint = hint;
        world.set_room(PRODUCT, CLUSTER, Room::Any);
        world.set_room(PRODUCT, elsewhere, Room::NONE);
        world.advance(20 * MINUTE.unsigned_abs());
        world.set_room(PRODUCT, CLUSTER, Room::NONE);
        world.set_room(PRODUCT, elsewhere, Room::For(3));
        world.advance(5 * MINUTE.unsigned_abs());
        let query = [("clusterId", cluster), ("billingMethod", "spot")];
        let products = get(&mut world, "/v1/products", &query)["data"].clone();
        let product = products.as_array().expect("rows").iter().find(|product| product["id"] == PRODUCT);
        let product = product.expect("it is sold");
        let said = (&product["availableDeploy"], &product["inventoryState"]);
        assert_eq!(said, (&deploy, &word), "{hint:?} in {cluster:?}");
    }
}
