//! What is printed arrives whole, or the exit code says that it did not.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use novita_sim::{Spec, World};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use crate::harness::{Kind, Stage, each};

fn full() -> std::fs::File {
    OpenOptions::new().write(true).open("/dev/full").expect("there")
}

fn stage(count: usize) -> Stage {
    let mut world = World::new(5);
    for number in 0..count {
        world.add(Spec::exited(&format!("m-{number}")));
    }
    Stage::new(Kind::Sqlite, world)
}

#[test]
fn what_cannot_be_written_is_no_success() {
    let stage = stage(3);
    stage.pass(0);
    let commands = [
        "status",
        "status -o json",
        "status -o prometheus",
        "history",
        "history -o csv",
        "history --writes",
        "markets",
        "explain m-0",
        "dry-run",
        "dry-run -o json --detailed-exit-code",
        "doctor",
        "man",
        "completions bash",
        "--help",
        "--version",
        "run -o json",
    ];
    each(&commands, |words| {
        let (code, stderr) = stage.call(words).now(None).printing_to(full(), Stdio::piped());
        assert_eq!(code, 7, "{words}: {stderr}");
        assert!(stderr.contains("error: cannot write to stdout: No space left on device"), "{words}: {stderr}");
    });
    let (code, _) = stage.call("run").printing_to(Stdio::null(), full());
    assert_eq!(code, 7, "the log of a pass got lost");
    let (code, _) = stage.call("run --nonsense").printing_to(Stdio::null(), full());
    assert_eq!(code, 2, "a failure stays what it is");
    let limited = format!("ulimit -f 1; exec {} status -o prometheus > cut", env!("CARGO_BIN_EXE_respot"));
    let output = stage.other("sh").arg("-c").arg(limited).env("HOME", stage.path("")).output().ends_with(7);
    assert!(output.stderr.contains("File too large"), "{}", output.stderr);
}

#[test]
fn a_slow_reader_is_waited_for_and_one_that_went_away_is_no_error() {
    let stage = stage(600);
    stage.pass(0);
    let whole = stage.call("dry-run -o json").output().ends_with(0).stdout;
    assert!(whole.len() > 100_000, "{}", whole.len());
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("non-blocking");
    let read = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut some = [0; 4096];
        loop {
            sleep(Duration::from_millis(2));
            match reader.read(&mut some).expect("read") {
                0 => return all,
                length => all.extend_from_slice(&some[..length]),
            }
        }
    });
    let (code, stderr) = stage.call("dry-run -o json").printing_to(writer, Stdio::piped());
    assert_eq!((code, stderr.as_str()), (0, ""));
    // How long a pass took has more digits now and then.
    let plan = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).expect("a document")["plan"].clone();
    let read = plan(&read.join().expect("read"));
    assert_eq!((read.as_array().map(Vec::len), &read), (Some(600), &plan(whole.as_bytes())));

    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let (code, stderr) = stage.call("dry-run -o json").printing_to(writer, Stdio::piped());
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn a_metrics_file_is_readable_whatever_the_umask() {
    let stage = stage(1);
    let words = format!("umask 077; exec {} run -q", env!("CARGO_BIN_EXE_respot"));
    let call = stage.other("sh").arg("-c").arg(words).env("HOME", stage.path(""));
    let call = call.env("NOVITA_API_KEY", crate::harness::KEY).env("NOVITA_API_BASE_URL", stage.provider.url());
    call.env("MIGRATION_KEEP_TRYING_MS", "0").env("RESPOT_METRICS_FILE", "m.prom").output().ends_with(0);
    let mode = std::fs::metadata(stage.path("m.prom")).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn a_hangup_ends_a_pass_as_a_termination_does_but_not_under_nohup() {
    let stage = stage(3);
    stage.fault("migrate:delay=3000*9");
    let pass = stage.call("run").spawn();
    stage.until("it works", |world| world.calls(novita_sim::Op::Migrate) > 0);
    pass.signal(Signal::HUP);
    pass.wait().ends_with(6);

    stage.end_lease();
    stage.provider.with(World::clear_faults);
    stage.fault("list:delay=2000");
    let calls = stage.calls();
    let words = format!("trap '' HUP; exec {} run -q", env!("CARGO_BIN_EXE_respot"));
    let pass = stage.other("sh").arg("-c").arg(words).env("HOME", stage.path("")).env("MIGRATION_KEEP_TRYING_MS", "0");
    let pass = pass.env("NOVITA_API_KEY", crate::harness::KEY).env("NOVITA_API_BASE_URL", stage.provider.url()).spawn();
    while stage.calls() == calls {
        sleep(Duration::from_millis(5));
    }
    pass.signal(Signal::HUP);
    pass.wait().ends_with(0);
}

/// The store has a second name, by a hard link.
#[test]
fn an_output_never_overwrites_the_store_by_another_name() {
    let stage = stage(1);
    stage.pass(0);
    let name = stage.path("another-name");
    std::fs::hard_link(stage.state_file(), &name).expect("a link");
    let call = stage.call("run").env("RESPOT_TERMINATION_MESSAGE_FILE", &name);
    call.output().ends_with(2).says(["RESPOT_TERMINATION_MESSAGE_FILE would overwrite the store"]);
    stage.pass(0);
}
