//! This switch: a vswitchd of its own with private run and state directories, controlled by vswitchctl.

use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;

use super::{Running, target_dir};
use crate::command::{Daemon, inside, run, wait_until};
use crate::lab::{A, B, Lab, PREFIX, SWITCH, add_veth, configure};

/// Whether the kernel may forward by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FastPath {
    /// With TCP frames above 64 KiB.
    Big,
    On,
    Off,
}

pub fn set_up(lab: &Lab, kind: &str, fast: FastPath) -> Result<Running> {
    let (mut running, ctl) = start(lab, fast)?;
    for end in [&A, &B] {
        run(&format!(
            "{ctl} add-port {} --addr {}/{PREFIX} --type {kind}",
            end.ns, end.ip
        ))?;
    }
    running.check_alive()?;
    Ok(running)
}

/// Joins the ends by interfaces that are there already.
pub fn set_up_devices(lab: &Lab, fast: FastPath, options: &str) -> Result<Running> {
    let (mut running, ctl) = start(lab, fast)?;
    for (device, end) in [("va", &A), ("vb", &B)] {
        add_veth(device, end.ns)?;
        configure(end)?;
        run(&format!("{ctl} add-port {device} --type device {options}"))?;
    }
    running.check_alive()?;
    Ok(running)
}

/// Starts the daemon without ports. The second value is the beginning of every `vswitchctl` command to it.
///
/// # Errors
/// If it does not answer within ten seconds.
pub fn start(lab: &Lab, fast: FastPath) -> Result<(Running, String)> {
    let (on, big) = (fast != FastPath::Off, fast == FastPath::Big);
    let more = lab.datapath.join("\n");
    std::fs::write(
        lab.dir().join(CONFIG),
        format!("[datapath]\nfastpath = {on}\nbig_tcp = {big}\n{more}\n"),
    )?;
    let ctl = format!("{} --socket {}", program("vswitchctl")?.display(), socket(lab));
    let mut running = Running::default();
    running.switch.push(spawn(lab)?);
    let answers = wait_until("vswitchd answers", Duration::from_secs(10), || {
        run(&format!("{ctl} status")).map(|_| true)
    });
    running.check_alive()?;
    answers?;
    running.reset = Some(format!("{ctl} reset --yes"));
    Ok((running, ctl))
}

/// Kills the daemon with no chance to tidy up, and starts another in its place, which may not answer yet.
///
/// # Errors
/// If it can't be killed or started.
pub fn replace(lab: &Lab, running: &mut Running) -> Result<()> {
    for daemon in &mut running.switch {
        daemon.kill()?;
    }
    running.switch = vec![spawn(lab)?];
    Ok(())
}

/// File of the configuration in the lab's directory.
const CONFIG: &str = "vswitchd.toml";

fn socket(lab: &Lab) -> String {
    format!("{}/control.sock", lab.dir().display())
}

fn spawn(lab: &Lab) -> Result<Daemon> {
    let dir = lab.dir().display();
    let daemon = format!(
        "{} --socket {} --run-dir {dir}/run --state-dir {dir}/state --config {dir}/{CONFIG}",
        program("vswitchd")?.display(),
        socket(lab)
    );
    Daemon::spawn(&inside(SWITCH, &daemon), &lab.dir().join("vswitchd.log"))
}

/// Where the program of this workspace was built.
///
/// # Errors
/// If the rig's own place is not known.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(target_dir()?.join(name))
}
