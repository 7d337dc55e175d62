//! Tests of the applications behind real ports.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::*;

fn server(world: World) -> Server {
    Server::start(world, Options::default()).expect("start")
}

/// An answer on a connection of its own; an error in a word.
fn exchange(address: &str, request: &str, limit: Duration) -> String {
    let address: SocketAddr = address.strip_prefix("http://").unwrap_or(address).parse().expect(address);
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().unwrap_or_else(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "refused".into(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "nothing".into(),
        // Put out: the machine went while the connection was open.
        _ => "cut".into(),
    })
}

const LONG: Duration = Duration::from_secs(10);

/// The status and the body of a GET, or what was there instead.
fn visit(address: &str) -> String {
    let answer = exchange(address, "GET /any/path?x=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", LONG);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) => format!("{} {}", head.split(' ').nth(1).unwrap_or_default(), body.trim()),
        None => answer,
    }
}

/// A call to the provider; its answer as JSON.
fn ask(server: &Server, line: &str, body: &str) -> Value {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let answer = exchange(&server.address().to_string(), &request, LONG);
    let (_, body) = answer.split_once("\r\n\r\n").expect(&answer);
    serde_json::from_str(body).unwrap_or_else(|_| body.into())
}

/// The endpoints as GET shows them, which are those of the list, too.
fn endpoints(server: &Server, id: &str) -> Vec<String> {
    let one = ask(server, &format!("GET /gpu-instance/openapi/v1/gpu/instance?instanceId={id}"), "");
    let list = ask(server, &format!("GET /gpu-instance/openapi/v1/gpu/instances?name={id}"), "");
    let listed = list["instances"].get(0).map_or(&one["portMappings"], |row| &row["portMappings"]);
    assert_eq!(&one["portMappings"], listed);
    let ports = one["portMappings"].as_array().cloned().unwrap_or_default();
    ports.iter().map(|port| port["endpoint"].as_str().expect("an endpoint").to_owned()).collect()
}

/// What is there in the end: doors close a moment later than the world changes.
fn settles(address: &str, expected: &str) {
    let began = Instant::now();
    loop {
        let seen = visit(address);
        if seen == expected {
            return;
        }
        assert!(began.elapsed() < LONG, "{address}: {seen} instead of {expected}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn doors_are_open_while_their_machine_runs() {
    let mut world = World::new(1);
    let app = App::http(8080).base_us(100).boot_ms(30_000);
    let id = world.add(Spec::running("web").image("web:1").billing("onDemand").app(app));
    let plain = world.add(Spec::running("plain"));
    world.rules_mut().visible_after_ms = 0;
    let server = server(world);
    assert_eq!(endpoints(&server, &plain), ["host.example:30080"]);
    let address = endpoints(&server, &id).remove(0);
    settles(&address, "200 ok");
    let act = |action: &str, id: &str| {
        let body = format!("{{\"instanceId\":\"{id}\"}}");
        ask(&server, &format!("POST /gpu-instance/openapi/v1/gpu/instance/{action}"), &body)
    };
    // A call, by whom it may concern; how long after it; what is there then.
    for (call, after_ms, there) in [
        ("stop", 0, "refused"),
        ("stop", 60_000, "refused"),
        ("start", 5_000, "refused"),
        ("", 10_000, "refused"),
        ("", 30_000, "200 ok"),
        ("migrate", 30_000, "refused"),
        ("", 300_000, "200 ok"),
        ("restart", 0, "refused"),
        ("", 60_000, "200 ok"),
    ] {
        if !call.is_empty() {
            act(call, &id);
        }
        server.advance(after_ms);
        settles(&address, there);
        assert_eq!(endpoints(&server, &id), [address.as_str()], "the port stays where it was");
    }
    // One that is created later has an endpoint at once, and an application when it is up.
    let body = "{\"name\":\"new\",\"productId\":\"4090.16c62g\",\"gpuNum\":1,\"rootfsSize\":60,\"imageUrl\":\"web:1\",\
                \"kind\":\"gpu\",\"billingMode\":\"spot\",\"ports\":\"22/tcp,8080/http\"}";
    let new = ask(&server, "POST /gpu-instance/openapi/v1/gpu/instance/create", body)["id"].clone();
    let new = new.as_str().expect("an id");
    let new_address = endpoints(&server, new).remove(1);
    assert_ne!(new_address, address);
    assert_eq!(visit(&new_address), "refused");
    server.advance(120_000);
    settles(&new_address, "200 ok");
    ask(&server, &format!("POST /sim/reclaim-now?id={new}"), "");
    settles(&new_address, "refused");
    act("delete", &id);
    settles(&address, "refused");
    server.advance(120_000);
    assert_eq!(server.with(|world| world.endpoint(&id, 8080)), None);
    settles(&address, "refused");
}

#[test]
fn answers_follow_the_script() {
    // Script of a spot machine; what four visits bring, and how long they take at least.
    for (script, seen, at_least_us) in [
        ("http:8080 base=500us jitter=100us", ["200 ok"; 4], 4 * 500 - 100),
        ("http:8080 base=20ms spot=+50%", ["200 ok"; 4], 4 * 30_000),
        ("http:8080 base=1us errors=50%", ["200 ok", "500 failed", "200 ok", "500 failed"], 0),
        ("http:8080 base=50ms spot-errors=100% error-time=1us", ["500 failed"; 4], 0),
    ] {
        let mut world = World::new(1);
        let id = world.add(Spec::running("x").app(script.parse().expect(script)));
        let server = server(world);
        let address = endpoints(&server, &id).remove(0);
        let began = Instant::now();
        assert_eq!([(); 4].map(|()| visit(&address)), seen, "{script}");
        assert!(began.elapsed() >= Duration::from_micros(at_least_us), "{script}: {:?}", began.elapsed());
    }
}

#[test]
fn some_doors_lead_nowhere() {
    let mut world = World::new(1);
    world.rules_mut().wire.endpoint_urls = true;
    let silent = world.add(Spec::running("silent").image("a").app(App::http(8080).hangs()).app(App::tcp(22)));
    let server = server(world);
    let [web, tcp] = endpoints(&server, &silent).try_into().expect("two");
    assert!(web.starts_with("http://127.0.0.1:") && tcp.starts_with("127.0.0.1:"), "{web} {tcp}");
    let address = |text: &str| text.strip_prefix("http://").unwrap_or(text).parse::<SocketAddr>().expect("an address");
    for door in [&web, &tcp] {
        assert_eq!(exchange(door, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Duration::from_millis(50)), "nothing", "{door}");
    }
    // Whoever is in is put out with the machine.
    let mut inside = TcpStream::connect(address(&tcp)).expect("it is open");
    inside.set_read_timeout(Some(LONG)).expect("a limit");
    server.with(|world| world.vanish(&silent));
    assert!(!matches!(inside.read(&mut [0; 8]), Ok(1..)), "nothing was said");
    settles(&tcp, "refused");
    // An application can come and go.
    let other = server.with(|world| world.add(Spec::running("other").image("b").with(|machine| machine.ports.clear())));
    assert_eq!(endpoints(&server, &other), [""; 0]);
    server.with(|world| world.edit(&other, |machine| machine.ports.push((8080, "http".into()))));
    assert_eq!(endpoints(&server, &other), ["host.example:30080"]);
    assert_eq!(ask(&server, "POST /sim/app?image=b", "http:8080 base=1us"), serde_json::json!({}));
    let door = endpoints(&server, &other).remove(0);
    settles(&door, "200 ok");
    ask(&server, &format!("POST /sim/app?id={other}"), "http:8080 base=1us errors=100%");
    settles(&door, "500 failed");
    ask(&server, "POST /sim/remove-apps?image=b", "");
    settles(&door, "refused");
    assert_eq!(endpoints(&server, &other), ["host.example:30080"]);
}

#[test]
fn machines_without_an_application_cost_nothing() {
    let mut world = World::fleet(1, 20_000);
    let id = world.add(Spec::running("web").image("web:1").app(App::http(8080).base_us(1)));
    let server = server(world);
    let address = endpoints(&server, &id).remove(0);
    settles(&address, "200 ok");
    assert_eq!(server.with(|world| world.slots.iter().flatten().filter(|slot| !slot.sockets.is_empty()).count()), 1);
}
