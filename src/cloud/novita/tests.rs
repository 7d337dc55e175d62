//! The client against a transport that replays answers: which requests it sends, and what it makes of what comes back.

use std::cell::RefCell;

use super::client::Client;
use super::market::{clusters, configuration};
use super::refusal::Novita;
use crate::cloud::request::Requests;
use crate::cloud::transport::{Method, Request, Response, Transport, TransportError};
use crate::cloud::{CloudRead as _, CloudWrite as _, Effect, Guard, Order};
use crate::core::recreation::blueprint::{Blueprint, Nearness, Placement};
use crate::core::world::error::ErrorKind;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::market::OfferQuery;
use crate::core::world::market::Stock;
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;
use crate::stop::Stop;

type Answer = Result<(u16, Vec<u8>), TransportError>;

/// Answers with a function of the request and of how many went before, and remembers what was asked.
struct Replay<F> {
    answer: F,
    requests: RefCell<Vec<Request>>,
}

impl<F: Fn(&Request, usize) -> Answer> Transport for &Replay<F> {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let before = self.requests.borrow().len();
        self.requests.borrow_mut().push(request.clone());
        let (status, body) = (self.answer)(request, before)?;
        Ok(Response { status, retry_after: None, date: None, body })
    }
}

fn replay<F: Fn(&Request, usize) -> Answer>(answer: F) -> Replay<F> {
    Replay { answer, requests: RefCell::default() }
}

fn query<'a>(request: &'a Request, name: &str) -> &'a str {
    request.query.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

/// A number of instances, and how their list behaves.
#[derive(Clone, Copy)]
struct List {
    count: usize,
    filters: bool,
    /// The number of the first page.
    base: usize,
    page_size: usize,
    /// What it says there are, if anything.
    total: fn(all: usize, filtered: usize) -> Option<usize>,
}

const LIST: List = List { count: 3, filters: true, base: 1, page_size: 100, total: |_, filtered| Some(filtered) };

impl List {
    /// Instance 0 and every hundredth are called `train-7`; what is fuzzy finds `train-70` as well.
    fn answer(self, request: &Request) -> Vec<u8> {
        let name = query(request, "name");
        let all = (0..self.count).map(|n| {
            let name = match n % 100 {
                0 => "train-7".into(),
                1 => "train-70".into(),
                _ => format!("other-{n}"),
            };
            (format!("i{n:06}"), name)
        });
        let filtered: Vec<_> = all.filter(|(_, its)| !self.filters || its.contains(name)).collect();
        let page: usize = query(request, "pageNum").parse().expect("a page");
        let rows = filtered.iter().skip(page.saturating_sub(self.base) * self.page_size).take(self.page_size);
        let rows = rows.filter(|_| page >= self.base);
        let rows: Vec<_> = rows
            .map(|(id, name)| serde_json::json!({"id": id, "name": name, "productName": "RTX 4090 24GB", "envs": []}))
            .collect();
        let mut body = serde_json::json!({"instances": rows});
        if let Some(total) = (self.total)(self.count, filtered.len()) {
            body["total"] = total.into();
        }
        body.to_string().into_bytes()
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_found_whatever_the_filter_does() {
    let many = List { count: 1000, ..LIST };
    let all: fn(usize, usize) -> Option<usize> = |all, _| Some(all);
    // The list, how many are found, and how many requests it takes at most.
    for (at, (list, found, most)) in [
        (LIST, 1, 1),
        (many, 10, 1),
        (List { filters: false, total: all, ..many }, 10, 12),
        (List { filters: false, total: |_, _| None, ..many }, 10, 13),
        // A total that counts what the filter keeps out is not looked for page by page.
        (List { total: all, ..many }, 10, 9),
        (List { base: 0, ..LIST }, 1, 3),
        (List { page_size: 3, ..many }, 10, 10),
        (List { total: |_, _| None, ..LIST }, 1, 3),
    ]
    .into_iter()
    .enumerate()
    {
        let world = replay(|request, _| Ok((200, list.answer(request))));
        let marked = Client::new(&world).marked("train-7").await.expect("marked");
        assert_eq!(marked.len(), found, "row {at}");
        assert!(marked.iter().all(|it| it.name == "train-7"));
        let requests = world.requests.borrow();
        assert!(requests.len() <= most, "row {at}: {} requests", requests.len());
        assert!(requests.iter().all(|it| query(it, "name") == "train-7"));
    }
    for body in [r#"{"instances":[],"total":0}"#, r#"{"total":"0"}"#, "{}", r#"{"instances":null}"#] {
        let world = replay(|_, _| Ok((200, body.into())));
        assert_eq!(Client::new(&world).marked("train-7").await, Ok(vec![]), "{body}");
    }
    // An error with an empty list is an error.
    for body in
        [r#"{"code":500,"message":"db down","instances":[]}"#, r#"{"error":"db down","instances":[],"total":0}"#]
    {
        let world = replay(|_, _| Ok((200, body.into())));
        let client = Client::new(&world);
        let (listed, marked) = (client.instances(&|_, _| ()).await, client.marked("train-7").await);
        for error in [listed.expect_err(body).message, marked.expect_err(body).message] {
            assert!(error.contains("db down"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_configuration_is_put_together_from_both_answers() {
    let detail = |id: &str| serde_json::json!({"id": id, "name": "train-7", "imageUrl": "image"}).to_string();
    let world = |list: List, detail: String| {
        replay(move |request, _| match request.path {
            "/v1/gpu/instance" => Ok((200, detail.clone().into_bytes())),
            _ => Ok((200, list.answer(request))),
        })
    };
    let unfiltered = List { count: 1000, filters: false, ..LIST };
    // The instance, its name, the list, whether the row is found, and how many requests it takes at most.
    for (id, name, list, has_row, most) in [
        ("i000000", "train-7", LIST, true, 2),
        ("i000000", "", LIST, true, 2),
        ("i000900", "", unfiltered, true, 12),
        ("i000000", "train-7", unfiltered, true, 2),
        ("i000001", "other-name", LIST, false, 3),
        ("gone-from-the-list", "train-7", unfiltered, false, 12),
    ] {
        let world = world(list, detail(id));
        let got =
            configuration(&Requests::new(&world, Novita), &InstanceId::new(id), name).await.expect("a configuration");
        let got = got.expect("it exists");
        assert_eq!((got.image_url.as_str(), got.product_name.is_empty()), ("image", !has_row), "{id} {name}");
        let requests = world.requests.borrow();
        assert!(requests.len() <= most, "{id} {name}: {} requests", requests.len());
        assert!(requests[1..].iter().all(|it| it.query.iter().any(|(key, _)| *key == "name") != name.is_empty()));
    }

    // One that is listed, and one that is not.
    for (id, status, body, error) in [
        ("gone", 404, "404 page not found".to_owned(), None),
        ("gone", 400, r#"{"reason":"RESOURCE_NOT_FOUND"}"#.into(), None),
        ("gone", 400, r#"{"message":"instance not fount"}"#.into(), None),
        ("i000000", 404, "404 page not found".into(), Some("GET /v1/gpu/instance: 404: 404 page not found")),
        (
            "i000000",
            400,
            r#"{"reason":"RESOURCE_NOT_FOUND"}"#.into(),
            Some("GET /v1/gpu/instance: 400 RESOURCE_NOT_FOUND"),
        ),
        ("i000000", 404, "<html>".into(), Some("GET /v1/gpu/instance: 404: an HTML page")),
        ("i000000", 200, detail("another"), Some("GET /v1/gpu/instance: 200: unexpected response: another instance")),
        (
            "i000000",
            200,
            r#"{"id":"i000000","command":["env-secret-1"]}"#.into(),
            Some("GET /v1/gpu/instance: 200: unexpected response: its command in a shape that cannot be read"),
        ),
    ] {
        let world = replay(|request, _| match request.path {
            "/v1/gpu/instance" => Ok((status, body.clone().into_bytes())),
            _ => Ok((200, LIST.answer(request))),
        });
        let id = InstanceId::new(id);
        match (configuration(&Requests::new(&world, Novita), &id, "train-7").await, error) {
            (Ok(None), None) => {}
            (Err(got), Some(start)) => assert!(got.to_string().starts_with(start), "{got}"),
            (got, _) => panic!("{status} {body}: {got:?}"),
        }
    }
    let id = InstanceId::new("i000000");
    // What the list would have said is not known then.
    let world = replay(|request, _| match request.path {
        "/v1/gpu/instance" => Ok((200, detail("i000000").into_bytes())),
        _ => Ok((401, vec![])),
    });
    let error = configuration(&Requests::new(&world, Novita), &id, "train-7").await.expect_err("the list fails");
    assert_eq!((error.call.as_str(), error.kind), ("GET /v1/gpu/instances", ErrorKind::Auth));
}

#[tokio::test(start_paused = true)]
async fn offers_are_asked_for_with_the_values_of_the_instance() {
    let world = replay(|request, _| match request.path {
        "/v1/clusters" => Ok((200, fixture!("clusters.json").into())),
        _ => Ok((200, fixture!("products.json").into())),
    });
    let client = Client::new(&world);
    let question = OfferQuery {
        cluster_id: Some("us-xx-1".into()),
        product_name: "RTX 4090 24GB".into(),
        gpu_num: 2,
        billing: "onDemand".into(),
    };
    assert_eq!(client.offers(&question).await.expect("offers")[0].price, Some(Usd::from_micros(670_000)));
    let anywhere =
        OfferQuery { cluster_id: None, product_name: String::new(), billing: "spot".into(), ..question.clone() };
    assert_eq!(client.offers(&anywhere).await.expect("offers")[0].price, Some(Usd::from_micros(335_000)));
    client.offers(&OfferQuery { cluster_id: Some(String::new()), ..anywhere.clone() }).await.expect("offers");
    assert_eq!(clusters(&Requests::new(&world, Novita)).await.expect("clusters").len(), 2);
    let sent: Vec<String> = world
        .requests
        .borrow()
        .iter()
        .map(|it| it.query.iter().map(|(key, value)| format!("{key}={value};")).collect())
        .collect();
    let anywhere = "gpuNum=2;billingMethod=spot;";
    let whole = "clusterId=us-xx-1;gpuNum=2;productName=RTX 4090 24GB;billingMethod=onDemand;";
    assert_eq!(sent, [whole, anywhere, anywhere, ""]);
}

fn blueprint() -> Blueprint {
    let stored = serde_json::json!({
        "kind": "gpu", "billing": "spot", "imageUrl": "registry.example/team/app:1.4", "gpuNum": 1, "rootfsSize": 60,
        "envs": [{"key": "API_TOKEN", "value": "env-secret-1 with\tspaces"}],
        "command": "train --key env-secret-1", "entrypoint": "/bin/private-entry", "notes": [],
    });
    serde_json::from_value(stored).expect("a blueprint")
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_sent_once_and_its_errors_say_what_it_may_have_done() {
    use Effect::{NotSent, Possible, Refused};
    use ErrorKind::{Api, Billing, Capacity, Configuration, Network, RateLimit, State, Timeout};
    let blueprint = blueprint();
    let place = Place { product: "4090.16c62g".into(), cluster: "us-xx-1".into() };
    let placement = Placement {
        place,
        cluster_name: String::new(),
        nearness: Nearness::Own,
        price: None,
        on_demand_price: None,
        stock: Stock::Unstated,
        words: String::new(),
    };
    let order = Order {
        marker: "train-7-recreated-0",
        replaces: &InstanceId::new("a"),
        blueprint: &blueprint,
        placement: &placement,
    };
    let stop = Stop::default();
    let guard = Guard { stop: &stop, may_send: &|| true };
    let ok = || Ok((200, fixture!("create.json").to_vec()));
    let refused = || Err(TransportError::NotSent("connection refused".into()));
    let said = |status: u16, body: &str| Ok((status, body.as_bytes().to_vec()));
    // The answers in turn, the last for good; what comes of it; how many requests, if that is certain.
    let rows: Vec<(Vec<Answer>, Option<(ErrorKind, Effect)>, Option<usize>)> = vec![
        (vec![ok()], None, Some(1)),
        (vec![refused(), said(429, ""), refused(), ok()], None, Some(4)),
        (vec![refused()], Some((Network, NotSent)), None),
        (vec![said(429, r#"{"reason":"RATE_LIMIT_EXCEEDED"}"#)], Some((RateLimit, Refused)), None),
        (vec![said(400, r#"{"reason":"INSUFFICIENT_RESOURCE"}"#), ok()], Some((Capacity, Refused)), Some(1)),
        (vec![said(400, r#"{"reason":"BALANCE_NOT_ENOUGH"}"#), ok()], Some((Billing, Refused)), Some(1)),
        (vec![Ok((400, fixture!("error-quota.json").to_vec())), ok()], Some((Billing, Refused)), Some(1)),
        (vec![said(400, r#"{"reason":"RESOURCE_NOT_FOUND"}"#), ok()], Some((Configuration, Refused)), Some(1)),
        (vec![said(404, "404 page not found"), ok()], Some((Configuration, Refused)), Some(1)),
        (vec![said(400, r#"{"message":"image not found"}"#), ok()], Some((Configuration, Refused)), Some(1)),
        (vec![said(409, r#"{"reason":"CONFLICT"}"#), ok()], Some((State, Refused)), Some(1)),
        (vec![said(500, r#"{"reason":"UNKNOWN"}"#), ok()], Some((Api, Possible)), Some(1)),
        (vec![said(503, r#"{"reason":"INSUFFICIENT_RESOURCE"}"#), ok()], Some((Capacity, Possible)), Some(1)),
        (vec![Ok((504, fixture!("error-gateway.html").to_vec())), ok()], Some((Api, Possible)), Some(1)),
        (vec![Err(TransportError::Broken("reset".into())), ok()], Some((Network, Possible)), Some(1)),
        (
            vec![Err(TransportError::TimedOut(std::time::Duration::from_secs(30))), ok()],
            Some((Timeout, Possible)),
            Some(1),
        ),
        // A refusal in full is one, whatever its status; an error alone says nothing about its effect.
        (
            vec![said(200, r#"{"code":400,"reason":"INSUFFICIENT_RESOURCE","message":"no"}"#), ok()],
            Some((Capacity, Refused)),
            Some(1),
        ),
        (vec![said(200, r#"{"error":"INSUFFICIENT_RESOURCE"}"#), ok()], Some((Capacity, Possible)), Some(1)),
        (
            vec![said(200, r#"{"code":408,"reason":"INSUFFICIENT_RESOURCE"}"#), ok()],
            Some((Capacity, Possible)),
            Some(1),
        ),
        (
            vec![said(200, r#"{"code":400,"status":503,"reason":"INSUFFICIENT_RESOURCE"}"#), ok()],
            Some((Capacity, Possible)),
            Some(1),
        ),
        // Accepted, but the id is unknown.
        (vec![said(200, ""), ok()], Some((Api, Possible)), Some(1)),
        (vec![said(200, "{}"), ok()], Some((Api, Possible)), Some(1)),
        (vec![said(200, r#"{"id":"f607"#), ok()], Some((Api, Possible)), Some(1)),
        (vec![Ok((200, fixture!("error-gateway.html").to_vec())), ok()], Some((Api, Possible)), Some(1)),
        (vec![Ok((400, fixture!("error-create-echoes.json").to_vec())), ok()], Some((Configuration, Refused)), Some(1)),
    ];
    for (at, (answers, outcome, count)) in rows.into_iter().enumerate() {
        let world = replay(|_, before| answers[before.min(answers.len() - 1)].clone());
        let got = Client::new(&world).create(order, guard).await;
        match (&got, outcome) {
            (Ok(id), None) => assert_eq!(id.as_str(), "f60718293a4b5c6d"),
            (Err(error), Some(outcome)) => {
                assert_eq!((error.kind, error.effect), outcome, "row {at}");
                assert!(!error.not_found, "row {at}");
            }
            (got, _) => panic!("row {at}: {got:?}"),
        }
        let requests = world.requests.borrow();
        if let Some(count) = count {
            assert_eq!(requests.len(), count, "row {at}");
        }
        assert!(requests.iter().all(|it| (it.method, it.path) == (Method::Post, "/v1/gpu/instance/create")));
        assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body));
        let words = format!("{got:?} {requests:?} {order:?}");
        assert!(["secret", "private", "spaces"].iter().all(|it| !words.contains(it)), "row {at}: {words}");
    }
    let world = replay(|_, _| ok());
    let forbidden = Guard { stop: &stop, may_send: &|| false };
    let error = Client::new(&world).create(order, forbidden).await.expect_err("it may not be sent");
    assert_eq!((error.effect, world.requests.borrow().len()), (NotSent, 0));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_deleted() {
    use Effect::{Possible, Refused};
    use ErrorKind::{Api, Billing, State};
    let stop = Stop::default();
    let guard = Guard { stop: &stop, may_send: &|| true };
    for (status, body, outcome) in [
        (200, "", None),
        (200, "{}", None),
        (204, "deleted", None),
        (404, "404 page not found", None),
        (404, "", None),
        (400, r#"{"reason":"RESOURCE_NOT_FOUND"}"#, None),
        (400, r#"{"message":"instance not fount"}"#, None),
        (200, " <!DOCTYPE html>", Some((Api, Possible))),
        (404, "<html>not found</html>", Some((Api, Refused))),
        (400, r#"{"reason":"PREPAID_INSTANCE_NOT_SUPPORT_RELEASE"}"#, Some((Billing, Refused))),
        (400, r#"{"reason":"CONFLICT"}"#, Some((State, Refused))),
        (500, "", Some((Api, Possible))),
    ] {
        let world = replay(|_, _| Ok((status, body.into())));
        let got = Client::new(&world).delete(&InstanceId::new("a1b2c3d4e5f60718"), guard).await;
        assert_eq!(got.err().map(|error| (error.kind, error.effect)), outcome, "{status} {body}");
        let requests = world.requests.borrow();
        let body = r#"{"instanceId":"a1b2c3d4e5f60718"}"#;
        assert_eq!((requests.len(), requests[0].path), (1, "/v1/gpu/instance/delete"));
        assert_eq!(requests[0].body.as_deref(), Some(body));
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_are_asked_for_with_their_times() {
    let (id, from, to) = (InstanceId::new("a"), Timestamp::from_secs(1_000), Timestamp::from_secs(2_000));
    let body = br#"{"memUtilization":[{"timestamp":"1500","value":30}]}"#.to_vec();
    // Status and body; whether metrics come of it, or that there is no such instance.
    for (status, body, expected) in [
        (200, body, Ok(Some(1))),
        (200, b"{}".to_vec(), Ok(Some(0))),
        (404, b"404 page not found".to_vec(), Ok(None)),
        (400, br#"{"code":400,"reason":"RESOURCE_NOT_FOUND","message":"instance not fount"}"#.to_vec(), Ok(None)),
        (400, br#"{"code":400,"reason":"VALIDATOR_PARAM","message":"no"}"#.to_vec(), Err(())),
        (200, b"<html>".to_vec(), Err(())),
        (503, vec![], Err(())),
    ] {
        let world = replay(|_, _| Ok((status, body.clone())));
        let metrics = Client::new(&world).metrics(&id, from, to, std::time::Duration::from_secs(900)).await;
        let points = metrics.map(|it| it.map(|it| it.memory.len())).map_err(|_| ());
        assert_eq!(points, expected, "{status}");
        for request in world.requests.borrow().iter() {
            assert_eq!((request.method, request.path), (Method::Get, "/v1/metrics/gpu/instance"));
            let asked = ["instanceId", "startTime", "endTime", "interval"].map(|name| query(request, name));
            assert_eq!(asked, ["a", "1000", "2000", "900"]);
        }
    }
}

/// Each row: the body of a listing that came with status 200, the class of the error, what is said, and whether that is how to
/// correct the address.
#[tokio::test(start_paused = true)]
async fn an_error_with_status_200_is_told_as_that() {
    for (body, kind, says, is_address) in [
        (r#"{"code":401,"reason":"UNAUTHORIZED","message":"invalid token"}"#, ErrorKind::Auth, "invalid token", false),
        (r#"{"success": false}"#, ErrorKind::Api, "an error: without a text", true),
        (r#"{"greeting": "hello"}"#, ErrorKind::Api, "without the list", true),
    ] {
        let provider = replay(|_, _| Ok((200, body.into())));
        let client = Client::new(&provider);
        let read = client.instances(&|_, _| ()).await.expect_err(body);
        let pinged = client.ping(std::time::Duration::from_secs(1)).await.answer.expect_err(body);
        for error in [read, pinged] {
            let hint = error.hint.unwrap_or_default();
            assert_eq!((error.kind, hint.contains("NOVITA_API_BASE_URL")), (kind, is_address), "{body}: {error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
