//! `cargo xtask demo`: a lab of three namespaces on one switch, from nothing to nothing.

use std::fs::{self, File};
use std::io::{IsTerminal, stdout};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::shell::{self, headline, target_dir, text, with_signals};
use crate::tools;

/// Namespace, kind of port, last part of the addresses.
const STATIONS: [(&str, &str, u8); 3] = [("red", "veth", 1), ("blue", "veth", 2), ("green", "tap", 3)];
/// What takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs the demo; whatever happens, Ctrl-C too, it leaves nothing behind.
pub fn run() -> Result<()> {
    let interrupted = Interrupted::new()?;
    tools::need_root("the demo")?;
    tools::ensure(tools::FOR_DEMO)?;
    headline("Build (the first time takes a few minutes)");
    shell::build_programs(&["--release"])?;
    let names = free_names();

    headline("Start the daemon and make the lab");
    let lab = DemoLab::start(&interrupted)?;
    for ((_, kind, n), name) in STATIONS.iter().zip(&names) {
        let kind = if *kind == "veth" {
            String::new()
        } else {
            format!(" --type {kind}")
        };
        lab.ctl(&format!(
            "add-port {name} --addr 192.168.15.{n}/24 --addr fd15::{n}/64{kind}"
        ))?;
    }

    headline("Ping between all pairs, IPv4 and IPv6");
    for from in &names {
        for (to, (_, _, n)) in names.iter().zip(STATIONS).filter(|(to, _)| *to != from) {
            for address in [format!("192.168.15.{n}"), format!("fd15::{n}")] {
                lab.ping(from, to, &address)?;
            }
        }
    }

    headline("Look at it");
    for line in ["show".to_owned(), "fdb".to_owned(), format!("ns show {}", names[0])] {
        lab.ctl(&line)?;
    }

    headline("Take it away");
    lab.ctl("reset --yes")?;
    lab.stop()?;
    let left = names.iter().find(|name| Path::new("/run/netns").join(name).exists());
    if let Some(name) = left {
        bail!("namespace {name} is still there after the reset");
    }
    headline("Done: everything worked and nothing is left");
    Ok(())
}

/// red, blue and green, or with a prefix if somebody has these names already.
fn free_names() -> Vec<String> {
    let taken = |name: &str| Path::new("/run/netns").join(name).exists();
    let prefix = if STATIONS.iter().any(|(name, ..)| taken(name)) {
        "demo-"
    } else {
        ""
    };
    STATIONS.iter().map(|(name, ..)| format!("{prefix}{name}")).collect()
}

/// Ctrl-C and `kill` as something that can be asked for. The programs that are started still end at once by them.
struct Interrupted(SignalFd);

impl Interrupted {
    fn new() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(
            &signals,
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        )?))
    }

    fn check(&self) -> Result<()> {
        match self.0.read_signal()? {
            Some(_) => bail!("interrupted"),
            None => Ok(()),
        }
    }
}

/// The daemon with folders of its own, so that one that runs already is not disturbed.
struct DemoLab<'a> {
    daemon: Child,
    folder: TempDir,
    programs: PathBuf,
    interrupted: &'a Interrupted,
}

impl<'a> DemoLab<'a> {
    fn start(interrupted: &'a Interrupted) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vswitch-demo-").tempdir()?;
        let programs = target_dir().join("release");
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new(programs.join("vswitchd"));
        command.arg("--run-dir").arg(folder.path().join("run"));
        command.arg("--state-dir").arg(folder.path().join("state"));
        // In a process group of its own, so that Ctrl-C leaves it there to be told to tidy up.
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        eprintln!("$ {} &", text(&command));
        let daemon = with_signals(&mut command)
            .spawn()
            .with_context(|| format!("{} can't be run", text(&command)))?;
        let mut lab = Self {
            daemon,
            folder,
            programs,
            interrupted,
        };
        lab.wait_until_it_serves()?;
        Ok(lab)
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            self.interrupted.check()?;
            if self
                .command("status")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?
                .success()
            {
                return Ok(());
            }
            if let Some(status) = self.daemon.try_wait()? {
                bail!("the daemon ended: {status}\n{}", self.log());
            }
            if Instant::now() > end {
                bail!("the daemon does not serve\n{}", self.log());
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(self.programs.join("vswitchctl"));
        with_signals(command.args(line.split_whitespace()).stdin(Stdio::null()));
        command.env("VSWITCH_SOCKET", self.folder.path().join("run/control.sock"));
        if stdout().is_terminal() {
            command.args(["--color", "always"]);
        }
        command
    }

    /// Says and runs a command of the control tool.
    fn ctl(&self, line: &str) -> Result<()> {
        self.interrupted.check()?;
        eprintln!("$ vswitchctl {line}");
        let status = self.command(line).status()?;
        self.interrupted.check()?;
        if !status.success() {
            bail!("`vswitchctl {line}`: {status}\n{}", self.log());
        }
        Ok(())
    }

    fn ping(&self, from: &str, to: &str, address: &str) -> Result<()> {
        self.interrupted.check()?;
        let mut command = Command::new("ip");
        command.args([
            "netns", "exec", from, "ping", "-n", "-c", "2", "-i", "0.05", "-W", "5", address,
        ]);
        let output = with_signals(command.stdin(Stdio::null())).output()?;
        self.interrupted.check()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let mut times = said.lines().filter_map(|line| line.split("time=").nth(1));
        match times.next_back() {
            Some(time) if output.status.success() => {
                eprintln!("{from:>10} -> {to:<10} {address:<14} {time}");
                Ok(())
            }
            _ => {
                let cause = String::from_utf8_lossy(&output.stderr);
                bail!(
                    "{from} gets no answer from {to} at {address}\n{said}{cause}\n{}",
                    self.log()
                )
            }
        }
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.daemon.wait()?;
        if !status.success() {
            bail!("the daemon at its stop: {status}\n{}", self.log());
        }
        Ok(())
    }
}

impl Drop for DemoLab<'_> {
    /// After a failure or Ctrl-C: the same as at the good end, as far as it goes.
    fn drop(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(None)) {
            eprintln!("\ntidying up ...");
            let _ = self
                .command("reset --yes")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            let _ = kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM);
            let _ = self.daemon.wait();
        }
    }
}
