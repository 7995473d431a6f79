//! Running other programs: an error names the program, its arguments and what it said.

use anyhow::{Context, Result, anyhow, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a daemon may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Runs `line`, split at spaces (no shell), and returns its standard output.
///
/// # Errors
/// If the program is not there or exits with anything but 0; the message carries its output.
pub fn run(line: &str) -> Result<String> {
    let output = command(line)?
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{line}` can't be run"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = if stderr.trim().is_empty() {
        stdout.trim()
    } else {
        stderr.trim()
    };
    bail!("`{line}` failed ({}): {said}", output.status)
}

/// Runs `line` in the namespace `ns`.
///
/// # Errors
/// As [`run`].
pub fn run_in(ns: &str, line: &str) -> Result<String> {
    run(&inside(ns, line))
}

/// `line` as it is run in the namespace `ns`. `ip netns exec` would also mount a fresh /sys, and so hide
/// /sys/fs/bpf from a switch that pins something there.
pub fn inside(ns: &str, line: &str) -> String {
    format!("nsenter --net=/run/netns/{ns} {line}")
}

/// Is `program` to be found on the PATH?
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Asks `ready` every few milliseconds until it says yes.
///
/// # Errors
/// After `patience`, with the last error that `ready` gave, if any.
pub fn wait_until(what: &str, patience: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        let answer = ready();
        match answer {
            Ok(true) => return Ok(()),
            Ok(false) | Err(_) if start.elapsed() < patience => sleep(Duration::from_millis(20)),
            Ok(false) => bail!("{what}: not within {} s", patience.as_secs()),
            Err(error) => return Err(error.context(format!("{what}: not within {} s", patience.as_secs()))),
        }
    }
}

fn command(line: &str) -> Result<Command> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().ok_or_else(|| anyhow!("empty command"))?);
    command.args(words);
    Ok(command)
}

/// A program that runs in the background until it is dropped.
pub struct Daemon {
    line: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `line` with its output in `log`. Its standard input stays open and silent, since `vde_switch`
    /// takes the end of it for the order to quit.
    ///
    /// # Errors
    /// If the program can't be started or the log can't be written.
    pub fn spawn(line: &str, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("{}", log.display()))?;
        let errors = output.try_clone()?;
        let child = command(line)?
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("`{line}` can't be started"))?;
        Ok(Self {
            line: line.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// The process id of the program: what enters a namespace for it execs and does not fork.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the program with no chance to tidy up.
    ///
    /// # Errors
    /// If it can't be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("`{}` can't be killed", self.line))?;
        self.child.wait()?;
        Ok(())
    }

    /// # Errors
    /// If the program has ended by itself; with the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("\n");
        bail!("`{}` ended ({status}): {tail}", self.line)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Not reaped yet, so the id can't have been given to another process.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.pid())) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let start = Instant::now();
            while start.elapsed() < STOP_PATIENCE {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
