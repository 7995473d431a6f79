//! One run of the daemon.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, io, thread};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// The program of this name: from the environment (`VSWITCHD`, `VSWITCHCTL`), else where cargo puts it, else from `PATH`.
pub fn program(name: &str) -> PathBuf {
    if let Some(path) = env::var_os(name.to_uppercase()) {
        return path.into();
    }
    // target/debug/deps/TEST -> target/debug/NAME
    let test = env::current_exe().unwrap();
    let folder = test.parent().and_then(|deps| deps.parent());
    let path = folder.map_or_else(|| name.into(), |folder| folder.join(name));
    if path.exists() {
        return path;
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&folders).map(|folder| folder.join(name));
    installed.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "{} is not there, and {name} not in PATH; build it first, or use `cargo xtask test`, or name it by {}",
            path.display(),
            name.to_uppercase()
        )
    })
}

/// Variables by which the control tool finds a daemon, and how long it waits for it.
const OF_ANOTHER_DAEMON: [&str; 2] = ["VSWITCH_SOCKET", "VSWITCH_TIMEOUT"];

/// A command that finds the daemon of the lab, whatever other one the environment of the test names.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in OF_ANOTHER_DAEMON {
        command.env_remove(name);
    }
    command
}

/// A running (or ended) daemon and what it said.
pub struct Daemon {
    child: Child,
    log: File,
}

impl Daemon {
    /// Starts `command` with both outputs into the log. Does not wait until it serves.
    pub fn spawn(mut command: Command) -> Self {
        let log = tempfile::tempfile().unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap());
        // A test that is killed, as when it hangs, takes its daemon along.
        // SAFETY: between fork and exec only this one system call is made.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
        Self { child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said so far. A thread of its own writes that, a moment later: waited for is a moment without a new line.
    pub fn log(&self) -> String {
        let length = || self.log.metadata().unwrap().len();
        let (mut before, mut looks, mut still) = (length(), 0, 0);
        while still < 8 && looks < 50 {
            thread::sleep(Duration::from_millis(5));
            let now = length();
            still = if now == before { still + 1 } else { 0 };
            (before, looks) = (now, looks + 1);
        }
        let mut bytes = vec![0; before as usize];
        // By position: the daemon writes through the same open file, whose own position must stay.
        match self.log.read_exact_at(&mut bytes, 0) {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(log unreadable: {error})"),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the daemon to end", || self.ended())
    }

    /// kill -9.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Number of open file descriptors.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The same once none is open for a moment only: as many as the ten times before.
    #[track_caller]
    pub fn open_files_at_rest(&self) -> usize {
        let mut seen = Vec::new();
        wait_for("the daemon to open and close no files", || {
            let now = self.open_files();
            seen.retain(|before| *before == now);
            seen.push(now);
            (seen.len() > 10).then_some(now)
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
        if thread::panicking() {
            let log = self.log();
            // The harness asks all the time.
            let lines = log.lines().rev().filter(|line| !line.contains("DEBUG client{"));
            let tail: Vec<_> = lines.take(200).collect();
            eprintln!("--- the daemon said (last {} lines):", tail.len());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
            eprintln!("---");
        }
    }
}
