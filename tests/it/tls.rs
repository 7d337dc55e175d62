//! The provider over https: the real program against a TLS server that is not the provider. An answer that is a web page
//! shows that the certificate was trusted; one that is not trusted ends the program at once, not after 30 s of retries.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use novita_sim::World;

use crate::harness::{Kind, Stage};
use crate::redis_server::free_port;

pub(crate) struct Web(Child);

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A certificate for `localhost` that nobody signed but itself, and its key.
fn certificate(stage: &Stage, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (stage.path(&format!("{name}.pem")), stage.path(&format!("{name}.key")));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .args([&key, Path::new("-out"), &certificate])
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("the openssl command").success());
    (certificate, key)
}

/// A server of web pages on `localhost`: its port and its certificate.
pub(crate) fn serve(stage: &Stage) -> (u16, PathBuf, Web) {
    let (ours, key) = certificate(stage, "ours");
    let port = free_port();
    let web = Command::new("openssl")
        .args(["s_server", "-www", "-accept", &port.to_string()])
        .args([Path::new("-cert"), &ours, Path::new("-key"), &key])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let web = Web(web.expect("the openssl command"));
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    (port, ours, web)
}

/// Who is told may not be who was meant: then nothing is told, and nobody learns from the log who was meant.
#[test]
fn a_receiver_proves_who_it_is() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let (port, ours, _web) = serve(&stage);
    let (other, _) = certificate(&stage, "other");
    stage.fault("list:html");
    for (host, trusted, expected) in
        [("127.0.0.1", &ours, "certificate is for another name"), ("localhost", &other, "invalid peer certificate")]
    {
        let call =
            stage.call("run").env("WEBHOOK_URL", format!("https://{host}:{port}/token")).env("WEBHOOK_SECRET", "s");
        let output = call.env("SSL_CERT_FILE", trusted).output().ends_with(3).says([expected]);
        let told = [output.all(), stage.dump().into_values().collect()].concat();
        for name in ["localhost", "token", &port.to_string()] {
            assert!(!told.contains(name), "{name} in {told}");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures the real time that a person would wait")]
fn the_provider_proves_who_it_is() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let (port, ours, _web) = serve(&stage);
    let (other, _) = certificate(&stage, "other");
    for (trusted, expected) in [(&ours, "an HTML page"), (&other, "the server's certificate is not trusted")] {
        let begun = Instant::now();
        stage
            .call("dry-run")
            .env("NOVITA_API_BASE_URL", format!("https://localhost:{port}/gpu-instance/openapi"))
            .env("SSL_CERT_FILE", trusted)
            .output()
            .ends_with(3)
            .says([expected]);
        assert!(begun.elapsed().as_secs() < 15, "given up at once");
    }
}
