//! A real Redis server for one test: on a free port of this machine, in a folder of its own, gone with the value.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use redis::{Client, Connection, RedisError, RedisResult, Value};
use tempfile::TempDir;

/// How often to look whether the server is up, every 10 ms.
const LOOKS: usize = 1000;

/// A running server, or one that was killed and may be started again.
pub(crate) struct RedisServer {
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    /// `user:password@` of an administrator, when the server asks for one.
    login: String,
    process: Option<Child>,
}

impl RedisServer {
    /// A server without a password, which forgets everything when it ends.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], "")
    }

    /// With more arguments, for example `--requirepass secret`, and the login that the tests' own commands then need:
    /// `:secret@`.
    pub(crate) fn start_with(arguments: &[&str], login: &str) -> Self {
        let mut server = Self {
            folder: TempDir::new().expect("a temporary folder"),
            port: 0,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            login: login.to_owned(),
            process: None,
        };
        // Between choosing a port and using it somebody else may take it.
        while !server.launch(free_port()) {}
        server
    }

    /// The address for respot, with this user and password (`user:password@` or nothing).
    pub(crate) fn url_as(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// The address with the administrator's login.
    pub(crate) fn url(&self) -> String {
        self.url_as(&self.login)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killed");
            process.wait().expect("ended");
        }
    }

    /// Starts it again on the same port, with the files that it left.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.launch(self.port), "port {} was taken meanwhile", self.port);
    }

    /// The server stands still: connections are accepted, nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// It goes on, with all that was sent meanwhile.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Runs a command on a connection of its own and returns what the server says.
    pub(crate) fn try_raw(&self, words: &[&str]) -> RedisResult<Value> {
        loop {
            let ask = |mut line: Connection| redis::cmd(words[0]).arg(&words[1..]).query(&mut line);
            let said = self.connection().and_then(ask);
            // The end of a child of another test interrupts whoever reads; nothing was asked for that does harm twice.
            let is_interrupted = |error: &RedisError| error.to_string().contains("Interrupted system call");
            if !said.as_ref().is_err_and(is_interrupted) {
                return said;
            }
        }
    }

    /// Runs a command that must succeed.
    pub(crate) fn raw(&self, words: &[&str]) -> Value {
        self.try_raw(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn connection(&self) -> RedisResult<Connection> {
        Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(5))
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("a running server").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("the kill command").success());
    }

    /// Whether it came up on this port.
    fn launch(&mut self, port: u16) -> bool {
        self.port = port;
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server: {error}; install it, e.g. apt install redis-server"));
        for _ in 0..LOOKS {
            if process.try_wait().expect("its state").is_some() {
                return false;
            }
            if self.answers_as(process.id()) {
                self.process = Some(process);
                return true;
            }
            sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
        panic!("redis-server did not come up on port {port}");
    }

    /// Whether what listens is our process, and is ready.
    fn answers_as(&self, process: u32) -> bool {
        let answer = self.try_raw(&["INFO"]);
        answer
            .and_then(|info| redis::from_redis_value::<String>(info).map_err(Into::into))
            .is_ok_and(|info| info.contains(&format!("process_id:{process}\r\n")) && info.contains("\r\nloading:0\r\n"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on right now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
