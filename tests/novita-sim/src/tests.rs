//! Tests of the rules and of the wire, each through one `check` over a table.

mod apps;
mod billing;
mod creates;
mod doors;
mod metrics;
mod rooms;

use std::collections::BTreeSet;
use std::time::Duration;

use respot::cloud::transport::{Method, Request, Transport, TransportError};
use serde_json::{Value, json};

use crate::*;

/// One GET or POST, answered at once: status and body.
fn call(world: &mut World, method: Method, path: &str, query: &[(&str, &str)], body: &Value) -> (u16, String) {
    let query = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let key = Some("sk_test".to_owned());
    let call = Call { method, path: path.to_owned(), query, key, body: body.to_string().into_bytes() };
    match world.serve(&call).delivery {
        Delivery::Answer(answer) => (answer.status, String::from_utf8(answer.body).expect("utf-8")),
        other => panic!("{path}: {other:?}"),
    }
}

fn get(world: &mut World, path: &str, query: &[(&str, &str)]) -> Value {
    let (status, body) = call(world, Method::Get, path, query, &Value::Null);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect(&body)
}

fn act(world: &mut World, action: &str, id: &str) -> (u16, String) {
    call(world, Method::Post, &format!("/v1/gpu/instance/{action}"), &[], &json!({"instanceId": id}))
}

fn ids(listing: &Value, key: &str) -> Vec<String> {
    let rows = listing[key].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| row["id"].as_str().or(row["Id"].as_str()).expect("an id").to_owned()).collect()
}

fn status(world: &World, id: &str) -> String {
    world.get(id).map_or("gone".into(), |machine| machine.status.clone())
}

#[test]
fn actions_by_status() {
    // Action, status and billing before; HTTP status, reason and status right after, status in the end.
    for (action, before, billing, code, reason, after, end) in [
        ("migrate", "exited", "spot", 200, "", "migrating", "running"),
        ("migrate", "running", "spot", 200, "", "migrating", "running"),
        ("migrate", "migrating", "spot", 400, "CONFLICT", "migrating", "migrating"),
        ("migrate", "pulling", "spot", 400, "CONFLICT", "pulling", "pulling"),
        ("migrate", "resetting", "spot", 400, "CONFLICT", "resetting", "resetting"),
        ("start", "exited", "spot", 200, "", "toStart", "running"),
        ("start", "running", "spot", 400, "CONFLICT", "running", "running"),
        ("start", "starting", "spot", 400, "CONFLICT", "starting", "starting"),
        ("stop", "running", "spot", 200, "", "toStop", "exited"),
        ("stop", "exited", "spot", 400, "CONFLICT", "exited", "exited"),
        ("restart", "running", "onDemand", 200, "", "toRestart", "running"),
        ("restart", "exited", "onDemand", 400, "CONFLICT", "exited", "exited"),
        ("delete", "running", "spot", 200, "", "toRemove", "gone"),
        ("delete", "migrating", "spot", 200, "", "toRemove", "gone"),
        ("delete", "exited", "onDemand", 200, "", "toRemove", "gone"),
        ("delete", "exited", "monthly", 400, "PREPAID_INSTANCE_NOT_SUPPORT_RELEASE", "exited", "exited"),
        ("delete", "removing", "spot", 400, "CONFLICT", "removing", "removing"),
    ] {
        let case = format!("{action} on {before} {billing}");
        let mut world = World::new(1);
        let id = world.add(Spec::exited("x").status(before).billing(billing));
        let (got, body) = act(&mut world, action, &id);
        assert_eq!(got, code, "{case}: {body}");
        assert!(body.contains(reason), "{case}: {body}");
        assert_eq!(status(&world, &id), after, "{case}");
        world.advance(3_600_000);
        assert_eq!(status(&world, &id), end, "{case}");
        let outcome = if code == 200 { Outcome::Applied } else { Outcome::Refused(code, reason.into()) };
        let outcomes: Vec<_> = world.log().iter().map(|entry| entry.outcome.clone()).collect();
        assert_eq!(outcomes, [outcome], "{case}");
    }
}

#[test]
fn migrations_by_fate() {
    for (fate, code, job, before_end, end) in [
        (Fate::Succeeds, 200, "success", "migrating", "running"),
        (Fate::FailsStuck, 200, "fail", "migrating", "migrating"),
        (Fate::FailsBack, 200, "fail", "migrating", "exited"),
        (Fate::NeverEnds, 200, "running", "migrating", "migrating"),
        (Fate::NoStock, 400, "", "exited", "exited"),
    ] {
        let mut world = World::new(2);
        let id = world.add(Spec::exited("x").fate(fate));
        let (got, body) = act(&mut world, "migrate", &id);
        assert_eq!(got, code, "{fate:?}: {body}");
        if code == 200 {
            let (again, body) = act(&mut world, "migrate", &id);
            assert_eq!(again, 400, "{fate:?}: {body}");
            assert!(body.contains("invalid state change"), "{body}");
            let jobs = get(&mut world, "/v1/gpu/instance", &[("instanceId", &id)])["jobs"].clone();
            assert_eq!(jobs[0]["type"], "instanceMigrate", "{fate:?}");
        } else {
            assert!(body.contains("INSUFFICIENT_RESOURCE"), "{body}");
        }
        world.advance(30_000);
        assert_eq!(status(&world, &id), before_end, "{fate:?}");
        world.advance(3_600_000);
        assert_eq!(status(&world, &id), end, "{fate:?}");
        let job_state = world.jobs().first().map_or("", |job| job.state.as_str());
        assert_eq!(job_state, job, "{fate:?}");
        assert_eq!(world.accepted_migrations_of(&id), usize::from(code == 200), "{fate:?}");
    }
}

#[test]
fn a_migration_needs_stock_and_money() {
    let mut world = World::new(3);
    let (a, b) = (world.add(Spec::exited("a")), world.add(Spec::exited("b")));
    world.set_stock(1);
    world.rules_mut().balance = false;
    assert!(act(&mut world, "migrate", &a).1.contains("BALANCE_NOT_ENOUGH"));
    world.rules_mut().balance = true;
    assert_eq!(act(&mut world, "migrate", &a).0, 200);
    assert!(act(&mut world, "migrate", &b).1.contains("INSUFFICIENT_RESOURCE"));
    assert_eq!((world.migrations_of(&a), world.accepted_migrations_of(&a)), (2, 1));
    assert_eq!((world.migrations_of(&b), world.accepted_migrations_of(&b)), (1, 0));
}

#[test]
fn a_reclaim_gives_an_hour_of_notice_and_what_it_leaves_depends() {
    for (after, spot_status, has_time) in [(AfterReclaim::Cleared, "", false), (AfterReclaim::Kept, "terminated", true)]
    {
        let mut world = World::new(4);
        world.rules_mut().after_reclaim = after;
        let id = world.add(Spec::running("x"));
        assert!(world.reclaim(&id));
        let machine = world.get(&id).expect("it is there");
        assert_eq!((machine.status.as_str(), machine.spot_status.as_str()), ("running", "notified"));
        assert_eq!(machine.spot_reclaim_at, world.now_ms() + 3_600_000);
        world.advance(3_599_999);
        assert_eq!(status(&world, &id), "running");
        world.advance(1);
        let machine = world.get(&id).expect("it is there");
        assert_eq!((machine.status.as_str(), machine.spot_status.as_str()), ("exited", spot_status));
        assert_eq!(machine.spot_reclaim_at != 0, has_time);
        assert_eq!(machine.last_stopped_at, world.now_ms());
    }
    let mut world = World::new(4);
    let id = world.add(Spec::running("x").notified(1_000));
    act(&mut world, "migrate", &id);
    world.advance(3_600_000);
    assert_eq!(status(&world, &id), "running", "a migration leaves the reclaimed node");
}

#[test]
fn a_lost_node_cannot_start_but_migrate() {
    let mut world = World::new(5);
    world.rules_mut().node_taken = 1.0;
    let id = world.add(Spec::running("x"));
    world.reclaim_now(&id);
    assert!(act(&mut world, "start", &id).1.contains("INSUFFICIENT_RESOURCE"));
    assert_eq!(act(&mut world, "migrate", &id).0, 200);
}

#[test]
fn what_is_new_shows_late() {
    let mut world = World::new(6);
    let id = world.add(Spec::exited("old"));
    act(&mut world, "migrate", &id);
    let body = json!({"productId": "4090.16c62g", "gpuNum": 1, "rootfsSize": 60, "imageUrl": "app:1", "kind": "gpu",
        "name": "new", "billingMode": "spot", "ports": "80/http,3306/tcp"});
    let (code, answer) = call(&mut world, Method::Post, "/v1/gpu/instance/create", &[], &body);
    assert_eq!(code, 200, "{answer}");
    let new = serde_json::from_str::<Value>(&answer).expect("json")["id"].as_str().expect("an id").to_owned();
    for (passed, jobs, instances) in [(0, 0, 1), (1_499, 0, 1), (1, 1, 2)] {
        world.advance(passed);
        assert_eq!(get(&mut world, "/v1/jobs", &[])["total"], jobs);
        assert_eq!(get(&mut world, "/v1/gpu/instances", &[])["total"], instances);
        assert_eq!(get(&mut world, "/v1/gpu/instance", &[("instanceId", &new)])["status"], "toCreate");
        let listed = get(&mut world, "/v1/gpu/instances", &[("name", "old")]);
        assert_eq!(listed["instances"][0]["status"], "migrating");
    }
    world.advance(60_000);
    assert_eq!(status(&world, &new), "running");
}

#[test]
fn rows_can_be_stale() {
    let mut world = World::new(6);
    world.rules_mut().stale_rows = true;
    let id = world.add(Spec::exited("old"));
    act(&mut world, "migrate", &id);
    let listed = |world: &mut World| get(world, "/v1/gpu/instances", &[])["instances"][0]["status"].clone();
    assert_eq!(listed(&mut world), "exited");
    assert_eq!(get(&mut world, "/v1/gpu/instance", &[("instanceId", &id)])["status"], "migrating");
    world.advance(1_500);
    assert_eq!(listed(&mut world), "migrating");
}

#[test]
fn pages() {
    let mut world = World::fleet(8, 250);
    let page = |world: &mut World, query: &[(&str, &str)]| {
        let listing = get(world, "/v1/gpu/instances", query);
        (ids(&listing, "instances"), listing["instances"].is_array())
    };
    let (first, _) = page(&mut world, &[("pageNum", "1"), ("pageSize", "100")]);
    // Base, pageNum, pageSize; the offset and length expected.
    for (base, number, size, offset, length) in [
        (PageBase::Clamped, "0", "100", 0, 100),
        (PageBase::Clamped, "1", "100", 0, 100),
        (PageBase::Clamped, "2", "50", 50, 50),
        (PageBase::Clamped, "3", "100", 200, 50),
        (PageBase::Clamped, "4", "100", 250, 0),
        (PageBase::Clamped, "1", "1000", 0, 100),
        (PageBase::Clamped, "1", "0", 0, 10),
        (PageBase::Clamped, "", "", 0, 10),
        (PageBase::Zero, "0", "100", 0, 100),
        (PageBase::Zero, "1", "50", 50, 50),
        (PageBase::One, "0", "100", 250, 0),
        (PageBase::One, "1", "100", 0, 100),
    ] {
        world.rules_mut().wire.page_base = base;
        let (ids, _) = page(&mut world, &[("pageNum", number), ("pageSize", size), ("page", "9")]);
        assert_eq!(ids.len(), length, "{base:?} {number}/{size}");
        if offset + length <= first.len() {
            assert_eq!(ids, first[offset..offset + length], "{base:?} {number}/{size}");
        }
    }
    assert!(page(&mut world, &[("pageNum", "99")]).1, "an empty array");
    world.rules_mut().wire.past_end_without_array = true;
    assert!(!page(&mut world, &[("pageNum", "99")]).1, "no array");
    for bad in ["-1", "x"] {
        let (code, _) = call(&mut world, Method::Get, "/v1/gpu/instances", &[("pageNum", bad)], &Value::Null);
        assert_eq!(code, 400);
    }
}

#[test]
fn totals_and_tricks_of_listings() {
    for (total, written) in [(Total::Int, json!(3)), (Total::Text, json!("3")), (Total::Absent, Value::Null)] {
        let mut world = World::fleet(9, 3);
        world.rules_mut().wire.total = total;
        assert_eq!(get(&mut world, "/v1/gpu/instances", &[])["total"], written);
    }
    let mut world = World::fleet(9, 30);
    let pages = |rule: &str, world: &mut World| {
        world.clear_faults();
        world.fault(rule.parse().expect(rule));
        let [first, second] = ["1", "2"].map(|number| get(world, "/v1/gpu/instances", &[("pageNum", number)]));
        (ids(&first, "instances"), ids(&second, "instances"), first["total"].clone())
    };
    let (first, second, _) = pages("list:same-page", &mut world);
    assert_eq!(first, second);
    let (first, second, _) = pages("list:duplicate-rows", &mut world);
    assert_eq!((first.len(), first.iter().collect::<BTreeSet<_>>().len(), second.len()), (20, 10, 20));
    assert_eq!(pages("list:lying-total=-5", &mut world).2, 25);
    let (first, second, _) = pages("list:endless-pages", &mut world);
    assert_eq!(first.iter().chain(&second).collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn errors_come_in_every_shape() {
    for shape in ErrorShape::ALL {
        let mut world = World::new(10);
        world.rules_mut().wire.errors = shape;
        let (code, body) = act(&mut world, "migrate", "unknown");
        assert_eq!(code, 400);
        assert_eq!(body.contains("instance not fount"), shape != ErrorShape::Empty, "{shape:?}: {body}");
    }
    let mut world = World::new(10);
    world.rules_mut().wire.not_found = NotFound::Text404;
    assert_eq!(act(&mut world, "delete", "unknown"), (404, "404 page not found".into()));
    let wrong = Call {
        method: Method::Get,
        path: "/v1/jobs".into(),
        query: Vec::new(),
        key: Some("sk_wrong".into()),
        body: Vec::new(),
    };
    let Delivery::Answer(answer) = world.serve(&wrong).delivery else { panic!("an answer") };
    assert_eq!(answer.status, 401);
    assert!(String::from_utf8_lossy(&answer.body).contains("UNAUTHORIZED"));
}

#[test]
fn jobs_are_filtered_and_keep_their_arbitrary_order() {
    let mut world = World::fleet(11, 400);
    let all = ids(&get(&mut world, "/v1/jobs", &[("pageSize", "100")]), "jobs");
    assert!(all.len() > 10);
    let mut by_age: Vec<_> = world.jobs().iter().map(|job| (job.created_at, job.id.clone())).collect();
    by_age.sort();
    assert_ne!(all, by_age.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    let failed = get(&mut world, "/v1/jobs", &[("state", "fail"), ("type", "instanceMigrate"), ("jobId", "")]);
    assert!(failed["jobs"].as_array().expect("rows").iter().all(|job| job["state"]["state"] == "fail"));
    let since = (world.now_ms() / 1000 - 600).to_string();
    let young = ids(&get(&mut world, "/v1/jobs", &[("startTime", &since), ("pageSize", "100")]), "jobs");
    assert!(young.len() < all.len());
}

#[test]
fn a_fleet_is_decided_by_its_seed_and_has_every_kind() {
    assert_eq!(World::fleet(12, 300).picture(), World::fleet(12, 300).picture());
    assert_ne!(World::fleet(12, 300).picture(), World::fleet(13, 300).picture());
    let world = World::fleet(12, 16);
    let statuses: BTreeSet<_> = world.machines().map(|machine| machine.status.as_str()).collect();
    for status in ["running", "exited", "migrating", "pulling", "removing", "removed", "hibernated"] {
        assert!(statuses.contains(status), "{status} is missing in {statuses:?}");
    }
    let modes: BTreeSet<_> = world.machines().map(|machine| machine.billing_mode.as_str()).collect();
    assert_eq!(modes, BTreeSet::from(["", "monthly", "onDemand", "spot"]));
    let moved = World::fleet(12, 16).starting_at(DAWN_MS + 5_000);
    assert_eq!(moved.now_ms(), DAWN_MS + 5_000);
    let started = |world: &World| world.machines().map(|machine| machine.last_started_at).min();
    assert_eq!(started(&moved), started(&world).map(|at| at + 5_000));
}

#[test]
fn every_liberty_is_json_and_takes_effect() {
    for quirks in 0..=quirk::ALL {
        let mut world = World::new(14);
        let id = world.add(Spec::stuck("x\"\n\u{1f680}", 1_000).quirks(quirks).network_volume("vol-1", "/network"));
        let row = get(&mut world, "/v1/gpu/instances", &[])["instances"][0].clone();
        assert_eq!(row["name"], "x\"\n\u{1f680}");
        assert_eq!(row["gpuNum"].is_string(), quirks & quirk::INT_COUNTS == 0);
        assert_eq!(row["lastStoppedAt"].is_string(), quirks & quirk::INT_TIMES == 0);
        assert_eq!(row.get("spotStatus").is_none(), quirks & quirk::MISSING != 0);
        let one = get(&mut world, "/v1/gpu/instance", &[("instanceId", &id)]);
        assert_eq!((&one["id"], one.get("spotStatus")), (&json!(id), None));
    }
}

#[test]
fn a_page_of_a_large_fleet_is_cheap() {
    let mut world = World::fleet(15, 20_000);
    let started = tokio::time::Instant::now();
    for number in 1..=200 {
        let query = [("pageNum".to_owned(), number.to_string()), ("pageSize".to_owned(), "100".to_owned())];
        let call = Call {
            method: Method::Get,
            path: "/v1/gpu/instances".into(),
            query: query.into(),
            key: Some("sk_test".into()),
            body: Vec::new(),
        };
        for _ in 0..2 {
            let Delivery::Answer(answer) = world.serve(&call).delivery else { panic!("an answer") };
            assert!(answer.body.len() > 50_000);
        }
    }
    // Far above what it takes, even unoptimised on a busy machine: a guard against going quadratic.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

fn migrate_request(id: &str) -> Request {
    Request {
        method: Method::Post,
        path: "/v1/gpu/instance/migrate",
        query: Vec::new(),
        body: Some(json!({"instanceId": id}).to_string()),
        timeout: Duration::from_secs(30),
    }
}

#[tokio::test(start_paused = true)]
async fn faults_and_their_effects_in_process() {
    let timed_out = || TransportError::TimedOut(Duration::from_secs(30));
    let broken = || TransportError::Broken("connection reset".into());
    // Rule; the answer's status or why there is none; migrations accepted, and accepted a minute later; calls logged.
    for (rule, seen, accepted, later, logged) in [
        ("migrate:delay=500", Ok(200), 1, 1, 1),
        ("migrate:delay=31000", Err(timed_out()), 1, 1, 1),
        ("migrate:refuse", Err(TransportError::NotSent("connection refused".into())), 0, 0, 0),
        ("migrate:cut-before", Err(broken()), 0, 0, 1),
        ("migrate:cut-after", Err(broken()), 1, 1, 1),
        ("migrate:late=20000", Err(broken()), 0, 1, 0),
        ("migrate:status=500,effect", Ok(500), 1, 1, 1),
        ("migrate:status=429,retry-after=7", Ok(429), 0, 0, 1),
        ("migrate:malformed", Ok(200), 1, 1, 1),
        ("migrate:empty", Ok(200), 1, 1, 1),
        ("migrate:html", Ok(200), 0, 0, 1),
        ("migrate:truncated", Err(TransportError::Broken("the body ended early".into())), 1, 1, 1),
        ("migrate:hang", Err(timed_out()), 0, 0, 1),
        ("migrate:hang,effect", Err(timed_out()), 1, 1, 1),
        ("migrate:endless-body", Err(TransportError::TooLong(64 << 20)), 1, 1, 1),
    ] {
        let mut world = World::new(16);
        let id = world.add(Spec::exited("x"));
        world.fault(rule.parse().expect(rule));
        let provider = InProcess::new(world);
        let started = provider.world().now_ms();
        let answer = provider.exchange(&migrate_request(&id)).await;
        assert_eq!(answer.as_ref().map(|answer| answer.status).map_err(Clone::clone), seen, "{rule}");
        if rule.contains("retry-after") {
            assert_eq!(answer.expect("an answer").retry_after.as_deref(), Some("7"));
        }
        let passed = provider.world().now_ms() - started;
        assert!((20..=30_000).contains(&passed), "{rule}: {passed} ms");
        assert_eq!(provider.world().accepted_migrations_of(&id), accepted, "{rule}");
        assert_eq!(provider.world().migrations_of(&id), logged, "{rule}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(provider.world().accepted_migrations_of(&id), later, "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchange_dropped_early_never_happened() {
    let mut world = World::new(17);
    let id = world.add(Spec::exited("x"));
    let provider = InProcess::new(world).latency(Duration::from_millis(100));
    for (patience, accepted) in [(40, 0), (60, 1)] {
        let request = migrate_request(&id);
        let exchange = provider.exchange(&request);
        tokio::time::timeout(Duration::from_millis(patience), exchange).await.expect_err("dropped");
        assert_eq!(provider.world().accepted_migrations_of(&id), accepted, "{patience} ms");
    }
}

#[test]
fn products_depend_on_the_question() {
    let mut world = World::new(18);
    let product = |world: &mut World, query: &[(&str, &str)], id: &str| {
        let products = get(world, "/v1/products", query)["data"].clone();
        products.as_array().expect("rows").iter().find(|product| product["id"] == id).cloned().unwrap_or_default()
    };
    world.product_mut("4090.16c62g").expect("it is sold").stock = 3;
    for (gpus, available, inventory) in [("1", true, "low"), ("4", false, "none")] {
        let found = product(&mut world, &[("gpuNum", gpus), ("billingMethod", "spot")], "4090.16c62g");
        assert_eq!((&found["availableDeploy"], &found["inventoryState"]), (&json!(available), &json!(inventory)));
    }
    assert_eq!(product(&mut world, &[("clusterId", "ap-xx-1")], "4090.16c62g"), Value::Null);
    assert_eq!(product(&mut world, &[("billingMethod", "spot")], "h100.24c200g")["availableDeploy"], false);
    assert_eq!(product(&mut world, &[], "h100.24c200g")["availableDeploy"], true);
    world.rules_mut().wire.loose_products = true;
    let loose = product(&mut world, &[], "h100.24c200g");
    assert_eq!((&loose["price"], loose.get("spotPrice"), &loose["cpuPerGpu"]), (&json!(250_000), None, &json!("24")));
}

#[test]
fn fixtures_are_what_their_names_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/novita");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let is_json = serde_json::from_str::<Value>(&text).is_ok();
        assert_eq!(is_json, name.ends_with(".json"), "{name}");
        read += 1;
    }
    assert!(read > 40);
}

#[test]
fn a_wave_takes_running_spot_instances_only() {
    let mut world = World::fleet(19, 100);
    let before = world.picture();
    let taken = world.reclaim_wave(0.5);
    assert!((5..50).contains(&taken.len()), "{}", taken.len());
    for machine in before.machines {
        let now = status(&world, &machine.id);
        if taken.contains(&machine.id) {
            assert_eq!((machine.status.as_str(), machine.billing_mode.as_str()), ("running", "spot"));
            assert_eq!(now, "exited");
        } else {
            assert_eq!(now, machine.status);
        }
    }
}

#[test]
fn calls_above_the_rate_are_refused_until_the_minute_is_over() {
    let mut world = World::new(20);
    world.rules_mut().calls_per_minute = Some(2);
    let list = |world: &mut World| call(world, Method::Get, "/v1/gpu/instances", &[], &Value::Null).0;
    assert_eq!([list(&mut world), list(&mut world), list(&mut world)], [200, 200, 429]);
    world.advance(60_000);
    assert_eq!(list(&mut world), 200);
}

#[test]
fn what_happens_does_not_depend_on_the_steps_of_time() {
    let run = |step: u64| {
        let mut world = World::fleet(21, 200);
        world.rules_mut().fail_migrations = 0.3;
        world.rules_mut().fail_back_to_exited = 0.5;
        let exited: Vec<_> = world.machines().filter(|m| m.status == "exited").map(|m| m.id.clone()).collect();
        for id in exited {
            act(&mut world, "migrate", &id);
        }
        for _ in 0..(7_200_000 / step) {
            world.advance(step);
        }
        world.picture()
    };
    let picture = run(1_000);
    assert_eq!(picture, run(7_200_000));
    assert_eq!(picture, run(40));
    assert!(picture.jobs.iter().any(|job| job.state == "fail" && job.created_at == DAWN_MS));
}

#[test]
fn a_world_settles() {
    let mut world = World::fleet(22, 100);
    let ids: Vec<_> = world.machines().map(|machine| machine.id.clone()).collect();
    for id in &ids {
        act(&mut world, "migrate", id);
    }
    assert!(world.jobs().iter().any(JobRow::is_unfinished));
    world.settle();
    assert!(!world.jobs().iter().any(JobRow::is_unfinished));
    let picture = world.picture();
    world.advance(86_400_000);
    assert_eq!(world.picture(), picture);
}

#[test]
fn a_new_instance_has_what_follows_from_its_product() {
    let mut world = World::new(23);
    let made = world.add(Spec::running("x").product("a100.32c120g", 2).cluster("ap-xx-1"));
    let said = world.add(Spec::running("x").with(|machine| machine.cpu_num = 7));
    let facts = |id: &str| {
        let machine = world.get(id).expect("it is there");
        (machine.product_name.clone().unwrap_or_default(), machine.cpu_num, machine.cluster_name.clone())
    };
    assert_eq!(facts(&made), ("A100 80GB".into(), 64, "AP-XX-01".into()));
    assert_eq!(facts(&said), ("RTX 4090 24GB".into(), 7, "US-XX-01".into()));
}
