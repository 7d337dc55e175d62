//! The provider over https: the real program against a TLS server that is not the provider. An answer that is a web page
//! shows that the certificate was trusted; one that is not trusted ends the program at once, not after 30 s of retries.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use novita_sim::World;

use crate::harness::{Kind, Stage};
use crate::redis_server::free_port;

struct Web(Child);

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures the real time that a person would wait")]
fn the_provider_proves_who_it_is() {
    let stage = Stage::new(Kind::Sqlite, World::new(1));
    let made = |name: &str| {
        let (certificate, key) = (stage.path(&format!("{name}.pem")), stage.path(&format!("{name}.key")));
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .args([&key, std::path::Path::new("-out"), &certificate])
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("the openssl command").success());
        (certificate, key)
    };
    let ((ours, key), (other, _)) = (made("ours"), made("other"));
    let port = free_port();
    let web = Command::new("openssl")
        .args(["s_server", "-www", "-accept", &port.to_string()])
        .args([std::path::Path::new("-cert"), &ours, std::path::Path::new("-key"), &key])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _web = Web(web.expect("the openssl command"));
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
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
