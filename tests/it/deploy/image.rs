//! The image's root file system, made by the script that the Dockerfile calls, tried in a chroot: as its numeric user,
//! on a root that cannot be written, with one folder that can.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;

use novita_sim::World;
use tempfile::TempDir;

use super::{passed_over, path, read};
use crate::harness::{Call, KEY, Kind, Stage};

/// The user of the image; the manifests of Kubernetes name the same.
pub(super) const USER: u32 = 65532;

/// Mounts the root read-only and the state over it, as a container engine does, and becomes the user.
/// Arguments: root, state, user, then the program's.
const JAIL: &str = r#"
set -eu
root=$1 state=$2 user=$3
shift 3
mount --bind "$root" "$root"
mount --bind "$state" "$root/var/lib/respot"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user:$user" "$root" /usr/local/bin/respot "$@"
"#;

/// Answers every question for an address with 127.0.0.1.
fn name_server(address: &str) -> Option<()> {
    let socket = UdpSocket::bind((address, 53)).ok()?;
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let question = &question[..length];
            // The name is a row of labels, each behind its length; type and class follow.
            let mut end = 12;
            while question[end] != 0 {
                end += usize::from(question[end]) + 1;
            }
            let asks_for_ipv4 = question[end + 1..end + 3] == [0, 1];
            let count = [0, u8::from(asks_for_ipv4)];
            let mut answer =
                [&question[..2], &[0x85, 0x80, 0, 1], &count, &[0, 0, 0, 0], &question[12..end + 5]].concat();
            if asks_for_ipv4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    Some(())
}

struct Jail {
    stage: Stage,
    root: TempDir,
    state: TempDir,
}

impl Jail {
    /// Nothing, where this machine does not let us.
    fn make() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            passed_over("only root can change the root folder");
            return None;
        }
        let namespaces = Command::new("unshare").args(["--mount", "sh", "-c", "mount --bind /tmp /tmp"]).output();
        if !namespaces.is_ok_and(|it| it.status.success()) {
            passed_over("this machine does not let root mount anything");
            return None;
        }
        let (root, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let made = Command::new("sh")
            .arg(path("deploy/rootfs.sh"))
            .args([Path::new(env!("CARGO_BIN_EXE_respot")), root.path()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // What a container engine adds.
        fs::write(root.path().join("etc/hosts"), "127.0.0.1 localhost\n127.0.0.1 provider.in-hosts.test\n").unwrap();
        fs::write(root.path().join("etc/resolv.conf"), "nameserver 127.0.0.77\n").unwrap();
        std::os::unix::fs::chown(state.path(), Some(USER), Some(USER)).unwrap();
        fs::set_permissions(state.path(), Permissions::from_mode(0o700)).unwrap();
        Some(Self { stage: Stage::new(Kind::Sqlite, World::fleet(7, 12)), root, state })
    }

    fn call(&self, host: &str, words: &str) -> Call {
        let url = self.stage.provider.url().replace("127.0.0.1", host);
        let call = self.stage.other("unshare").arg("--mount").arg("sh").arg("-c").arg(JAIL).arg("jail");
        let call = call.arg(self.root.path()).arg(self.state.path()).arg(USER.to_string());
        let call = words.split_whitespace().fold(call, Call::arg);
        let call = call.env("STATE_DIRECTORY", "/var/lib/respot").env("NOVITA_API_KEY", KEY);
        call.env("NOVITA_API_BASE_URL", url)
            .env("MIGRATION_KEEP_TRYING_MS", "0")
            .now(Some(self.stage.provider.with(|world| world.now_ms())))
    }
}

#[test]
fn the_image_works_as_nobody_on_a_read_only_root() {
    let Some(jail) = Jail::make() else { return };

    let version = jail.call("localhost", "--version").now(None).output().ends_with(0).stdout;
    assert_eq!(version, concat!("respot ", env!("CARGO_PKG_VERSION"), "\n"));

    let mut hosts = vec!["127.0.0.1", "localhost", "provider.in-hosts.test"];
    match name_server("127.0.0.77") {
        Some(()) => hosts.push("provider.in-dns.test"),
        None => passed_over("port 53 is not to be had, so no name server is asked"),
    }
    for host in hosts {
        let plan = jail.call(host, "dry-run -o json").output().ends_with(0).json();
        assert_eq!(plan["summary"]["totalInstances"], 12, "{host}");
    }

    // A real pass: it remembers, in a file of its user's alone, and the next one knows.
    let pass = || {
        jail.call("localhost", "run -o json")
            .env("MIGRATION_RETRY_FAILED", "false")
            .env("MIGRATION_KEEP_TRYING_MS", "0")
            .output()
            .ends_with(0)
            .json()
    };
    assert!(pass()["summary"]["migratedInstances"].as_u64().unwrap() > 0);
    assert_eq!(pass()["summary"]["migratedInstances"], 0);
    let file = fs::metadata(jail.state.path().join("state.db")).unwrap();
    assert_eq!((file.uid(), file.mode() & 0o777), (USER, 0o600));
    let history = jail.call("localhost", "history -o json").output().ends_with(0).json();
    assert_eq!(history["total"], 2);

    // A pass that has nowhere to remember does nothing.
    let calls = jail.stage.calls();
    jail.call("localhost", "run --store sqlite:/elsewhere.db").output().ends_with(4);
    assert_eq!(jail.stage.calls(), calls);
}

#[test]
fn the_image_has_certificates_and_looks_at_them() {
    let Some(jail) = Jail::make() else { return };
    // As the last test of the provider over https, from inside: an authority of the system's did not sign this.
    let (port, _, _web) = crate::tls::serve(&jail.stage);
    let url = format!("https://localhost:{port}/gpu-instance/openapi");
    let refused = jail.call("localhost", "dry-run").env("NOVITA_API_BASE_URL", url).output().ends_with(3);
    refused.says(["the server's certificate is not trusted"]);
}

#[test]
fn the_image_holds_the_program_and_what_it_needs_and_nothing_else() {
    let Some(jail) = Jail::make() else { return };
    let listed =
        Command::new("find").arg(jail.root.path()).args(["-type", "f", "-printf", "%P %u %m\n"]).output().unwrap();
    for line in String::from_utf8(listed.stdout).unwrap().lines() {
        let name = line.split(' ').next().unwrap();
        let library = name.starts_with("lib") || name.starts_with("usr/lib");
        let engine = ["etc/hosts", "etc/resolv.conf"].contains(&name);
        let ours = [
            "etc/passwd",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/ssl/certs/ca-certificates.crt",
            "usr/local/bin/respot",
        ];
        assert!(library || engine || ours.contains(&name), "{line} is in the image");
        assert!(!line.ends_with('2') && !line.ends_with('6') && line.contains(" root "), "{line} can be changed");
    }
    let state = fs::metadata(jail.root.path().join("var/lib/respot")).unwrap();
    assert_eq!((state.uid(), state.gid(), state.mode() & 0o777), (USER, USER, 0o700));
    assert!(read("deploy/rootfs.sh").contains(&format!("user={USER}\n")));
}

/// The last stage is a copy of what the script made, so that the tests above are about the image.
#[test]
fn the_dockerfile_ends_with_what_the_script_made() {
    let dockerfile = read("deploy/Dockerfile");
    let (build, last) = dockerfile.split_once("\nFROM scratch\n").expect("a last stage from scratch");
    assert!(build.contains("sh deploy/rootfs.sh \"target/$target/release/respot\" /rootfs"));
    let steps: Vec<&str> = last.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).collect();
    let step = |name: &str| steps.iter().filter(|it| it.starts_with(name)).copied().collect::<Vec<_>>();
    assert_eq!((step("COPY"), step("ADD")), (vec!["COPY --from=build /rootfs/ /"], vec![]));
    assert_eq!(step("USER"), [format!("USER {USER}:{USER}")]);
    assert_eq!(step("ENTRYPOINT"), ["ENTRYPOINT [\"/usr/local/bin/respot\"]"]);
    assert_eq!(step("ENV"), ["ENV STATE_DIRECTORY=/var/lib/respot"]);
    assert_eq!(step("CMD"), ["CMD [\"--help\"]"]);
    assert!(last.contains("licenses=\"MIT OR Apache-2.0\"") && read("Cargo.toml").contains("\"MIT OR Apache-2.0\""));

    let number = |text: &str| -> Vec<u32> { text.split('.').map(|it| it.parse().unwrap()).collect() };
    let of = |text: &str, before: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(before)).unwrap_or_else(|| panic!("no {before}"));
        number(line.trim_matches('"'))
    };
    let needed = of(&read("Cargo.toml"), "rust-version = ");
    assert!(of(&dockerfile, "ARG RUST_VERSION=") >= needed, "the Dockerfile's Rust is too old");
}

/// What `.dockerignore` lets through is enough to build from, and none of it is a secret.
#[test]
fn the_build_gets_all_it_needs() {
    let context = TempDir::new().unwrap();
    let ignore = read(".dockerignore");
    let rules: Vec<&str> = ignore.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "what is not named stays out");
    for rule in &rules[1..] {
        let name = rule.strip_prefix('!').expect("a name that is let through");
        let to = context.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-r").args([path(name), to]).status().unwrap();
        assert!(copied.success(), "{name}");
    }
    let read_it = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version=1", "--quiet"])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(read_it.status.success(), "{}", String::from_utf8_lossy(&read_it.stderr));
    // Cargo lists what it found of the targets, and refuses to build when one that the manifest names is not there.
    let found: serde_json::Value = serde_json::from_slice(&read_it.stdout).unwrap();
    let found = found["packages"].as_array().unwrap().iter().flat_map(|it| it["targets"].as_array().unwrap());
    let found: Vec<&str> = found.map(|it| it["name"].as_str().unwrap()).collect();
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    for kind in ["bin", "bench", "example", "test"] {
        for target in manifest.get(kind).and_then(toml::Value::as_array).into_iter().flatten() {
            let name = target["name"].as_str().unwrap();
            assert!(found.contains(&name), "the {kind} {name} is not let through");
        }
    }
    // Files that the source takes in while it is compiled are below src/, too, but for those of its unit tests.
    let grep = Command::new("grep")
        .args(["-rnE", r#"include_(str|bytes)!\("?(\.\./|/)"#])
        .arg(context.path().join("src"))
        .output();
    assert_eq!(String::from_utf8(grep.unwrap().stdout).unwrap(), "");
}
