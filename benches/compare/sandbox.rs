//! A private world for the rig: its own process, mount and network namespaces, and an empty /run.
//!
//! Whatever a peer leaves behind (processes, namespaces, interfaces, sockets) goes with it, however the rig ends:
//! the kernel kills all processes of a PID namespace with its first one.

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::command::run;

/// Set for the copy of the rig that runs in the sandbox.
const INSIDE: &str = "VSWITCH_COMPARE_INSIDE";
const NOTHING: Option<&str> = None;
/// Where `ip netns exec` and vswitchd have the files of namespaces.
const NETNS_FILES: &str = "/etc/netns";

/// Runs `work` in the sandbox: the first call starts this program again inside and hands back its exit code.
///
/// # Errors
/// Without root's rights, and what `work` says.
pub fn enter(work: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        furnish()?;
        work()?;
        return Ok(ExitCode::SUCCESS);
    }
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("the rig makes namespaces and so has to be run as root")?;
    let status = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("the rig can't start itself in the sandbox")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn furnish() -> Result<()> {
    // Ctrl-C ends the waiting copy outside; this one, as the first process of its namespace, must follow it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
        .context("mounts can't be made private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NOTHING).context("/proc can't be mounted")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), NOTHING).context("/run can't be mounted")?;
    // Files of namespaces, which a daemon that is killed leaves for the next one: there is none here.
    if Path::new(NETNS_FILES).is_dir() {
        mount(Some("tmpfs"), NETNS_FILES, Some("tmpfs"), MsFlags::empty(), NOTHING)
            .with_context(|| format!("{NETNS_FILES} can't be mounted"))?;
    }
    run("ip link set lo up")?;
    Ok(())
}
