//! Samples by a command of the operator.

use std::ffi::OsString;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::{ProbeOutcome, ProbeTarget};

/// The exit codes of a shell for a command that cannot be executed, and for one that does not exist.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Runs commands. They see `PATH`, `HOME` and the instance, and nothing else: the environment of this program contains the
/// API key.
#[derive(Debug)]
pub(super) struct Shell(Vec<(&'static str, OsString)>);

impl Shell {
    #[expect(clippy::disallowed_methods, reason = "these are not settings; they are passed to a shell as they are")]
    pub(super) fn of_process() -> Self {
        Self(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect())
    }

    /// Runs a command to its end; exit code 0 passes. Dropping the future kills it with all processes it started.
    pub(super) async fn run(&self, command: &str, target: ProbeTarget<'_>) -> ProbeOutcome {
        let ProbeTarget { id, name, endpoints } = target;
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env_clear().envs(self.0.iter().map(|(name, value)| (name, value)));
        shell.env("RESPOT_INSTANCE_ID", id).env("RESPOT_INSTANCE_NAME", name);
        for endpoint in endpoints {
            shell.env(format!("RESPOT_ENDPOINT_{}", endpoint.port), &endpoint.address);
        }
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = match shell.spawn() {
            Ok(child) => child,
            Err(error) => return ProbeOutcome::Untaken(format!("the command could not be started: {error}")),
        };
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let status = child.wait().await;
        // From here on, the id may belong to another process.
        group.ended();
        match status.map(|status| (status.success(), status.code())) {
            Ok((true, _)) => ProbeOutcome::Good,
            Ok((false, Some(code @ (NOT_EXECUTABLE | NOT_FOUND)))) => {
                ProbeOutcome::Untaken(format!("the command was not found or cannot be executed (exit code {code})"))
            }
            Ok((false, Some(code))) => ProbeOutcome::Bad(format!("the command exited with {code}")),
            Ok((false, None)) => ProbeOutcome::Bad("the command was killed by a signal".into()),
            Err(error) => ProbeOutcome::Untaken(format!("the command could not be waited for: {error}")),
        }
    }
}

/// The processes of one command.
struct Group(Option<Pid>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // This fails if all have ended already.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
