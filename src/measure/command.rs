//! Samples by a command of the operator's.

use std::ffi::OsString;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::{Outcome, Target};

/// What a shell calls a command that is there but cannot be executed, and one that is not there.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Runs commands. They see where programs and their owner's files are and which instance is meant, and nothing else: the
/// environment of this program holds the key to the account.
#[derive(Debug)]
pub(super) struct Shell(Vec<(&'static str, OsString)>);

impl Shell {
    #[expect(clippy::disallowed_methods, reason = "no settings: handed to a shell as they are")]
    pub(super) fn of_process() -> Self {
        Self(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect())
    }

    /// Runs one to its end: 0 is good. Whoever drops this kills it, with all that it started.
    pub(super) async fn run(&self, command: &str, target: Target<'_>) -> Outcome {
        let Target { id, name, endpoints } = target;
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env_clear().envs(self.0.iter().map(|(name, value)| (name, value)));
        shell.env("RESPOT_INSTANCE_ID", id).env("RESPOT_INSTANCE_NAME", name);
        for endpoint in endpoints {
            shell.env(format!("RESPOT_ENDPOINT_{}", endpoint.port), &endpoint.address);
        }
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = match shell.spawn() {
            Ok(child) => child,
            Err(error) => return Outcome::Untaken(format!("the command was not started: {error}")),
        };
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let status = child.wait().await;
        // Its id may belong to somebody else now.
        group.ended();
        match status.map(|status| (status.success(), status.code())) {
            Ok((true, _)) => Outcome::Good,
            Ok((false, Some(code @ (NOT_EXECUTABLE | NOT_FOUND)))) => {
                Outcome::Untaken(format!("the command was not found or cannot be executed (exit code {code})"))
            }
            Ok((false, Some(code))) => Outcome::Bad(format!("the command ended with {code}")),
            Ok((false, None)) => Outcome::Bad("the command was ended by a signal".into()),
            Err(error) => Outcome::Untaken(format!("the command was lost sight of: {error}")),
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
            // It fails when all have ended, which is what is wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
