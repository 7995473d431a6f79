//! Runs `vswitchd` where it can do no harm, and speaks HTTP with it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_vswitchd");

/// Longest wait for anything; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `ready` says yes.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A place for a daemon: a directory, and a command that runs in new namespaces, with an empty /run.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    /// `vswitchd` with the directories of this place and a configuration of its own (`config.toml`).
    pub fn command(&self) -> Command {
        let config = self.path("config.toml");
        if !config.exists() {
            std::fs::write(&config, "").unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // Names of ports are written below /etc/netns, if it can be made.
        let hide =
            "mount -t tmpfs tmpfs /run && { ! mkdir -p /etc/netns 2>/dev/null || mount -t tmpfs tmpfs /etc/netns; }";
        command.args(["sh", "-c", &format!("{hide} && exec \"$0\" \"$@\""), BINARY]);
        command.arg("--config").arg(config);
        command
            .arg("--run-dir")
            .arg(self.path("run"))
            .arg("--state-dir")
            .arg(self.path("state"));
        command.stdout(Stdio::null()).stderr(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(self.path("log"))
                .unwrap(),
        );
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
            command.env_remove(variable);
        }
        command
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }
}

/// A running daemon; killed at the end of the test if it did not stop before.
pub struct Daemon {
    pub place: Place,
    process: Child,
}

impl Daemon {
    pub fn start() -> Self {
        Self::start_in(Place::new(), |_| {})
    }

    pub fn start_in(place: Place, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = place.command();
        change(&mut command);
        let mut process = command.spawn().unwrap();
        wait_for("the daemon starts", || {
            assert!(
                process.try_wait().unwrap().is_none(),
                "the daemon ended: {}",
                place.log()
            );
            UnixStream::connect(place.socket()).is_ok()
        });
        Self { place, process }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the end and returns the exit code; none if a signal ended it.
    pub fn wait(mut self) -> (Place, Option<i32>) {
        let mut status = None;
        wait_for("the daemon ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        let place = std::mem::replace(&mut self.place, Place::new());
        (place, status.and_then(|status| status.code()))
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        request(&self.place.socket(), method, path, body)
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, "");
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.json()
    }

    /// Sends a request and does not wait for the answer.
    pub fn send(&self, method: &str, path: &str, body: &str) -> UnixStream {
        send(&self.place.socket(), method, path, body)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.place.log());
        }
    }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> Answer {
    let mut text = String::new();
    send(socket, method, path, body).read_to_string(&mut text).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

fn send(socket: &Path, method: &str, path: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    // The daemon may answer and close before it has read all of a body that is too large.
    let _ = write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: vswitch\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream
}
