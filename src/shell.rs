//! Commands of the operator: probes and hooks.

use std::ffi::OsString;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// The exit codes of a shell for a command that cannot be executed, and for one that does not exist.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Runs commands. They see `PATH`, `HOME` and what they are given, and nothing else: the environment of this program contains
/// the API key.
#[derive(Debug)]
pub struct Shell(Vec<(&'static str, OsString)>);

/// Why a command did not succeed. Contains neither the command nor its output, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellError {
    /// It did not run, which says nothing about what it was to do.
    NotRun(String),
    Failed(String),
}

impl Shell {
    /// With `PATH` and `HOME` of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "these are not settings; they are passed to a shell as they are")]
    pub fn of_process() -> Self {
        Self(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect())
    }

    /// Runs a command to its end; exit code 0 is success. Dropping the future kills it with all processes it started.
    ///
    /// # Errors
    /// [`ShellError`].
    pub async fn run<'a>(
        &self,
        command: &str,
        environment: impl IntoIterator<Item = (String, &'a str)>,
    ) -> Result<(), ShellError> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env_clear().envs(self.0.iter().map(|(name, value)| (name, value)));
        shell.envs(environment);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child =
            shell.spawn().map_err(|error| ShellError::NotRun(format!("the command could not be started: {error}")))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let status = child.wait().await;
        // From here on, the id may belong to another process.
        group.ended();
        match status.map(|status| (status.success(), status.code())) {
            Ok((true, _)) => Ok(()),
            Ok((false, Some(code @ (NOT_EXECUTABLE | NOT_FOUND)))) => {
                Err(ShellError::NotRun(format!("the command was not found or cannot be executed (exit code {code})")))
            }
            Ok((false, Some(code))) => Err(ShellError::Failed(format!("the command exited with {code}"))),
            Ok((false, None)) => Err(ShellError::Failed("the command was killed by a signal".into())),
            Err(error) => Err(ShellError::NotRun(format!("the command could not be waited for: {error}"))),
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
