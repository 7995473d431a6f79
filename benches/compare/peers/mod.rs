//! The switches that are compared. Each joins the two ends of a [`Lab`] in its own way.

pub mod bridge;
mod cable;
pub mod ovs;
mod tap_loop;
mod vde;
pub mod vswitch;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use std::path::PathBuf;

use crate::command::{Daemon, is_installed, run};
use crate::lab::Lab;
use vswitch::FastPath;

/// A switch, with the kind of ports that it is tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The Linux bridge with veth ports: what all others are measured by.
    Bridge,
    /// The same with TCP frames above 64 KiB.
    BridgeBig,
    /// This switch with TAP ports.
    VswitchTap,
    /// This switch with veth ports, by the kernel fast path, with TCP frames of the usual 64 KiB.
    VswitchVeth,
    /// The same with TCP frames above 64 KiB, as it comes.
    VswitchVethBig,
    /// The same without the fast path: every frame through user space.
    VswitchVethUser,
    /// This switch with veth pairs of somebody else's as its devices, by the kernel fast path.
    VswitchDevice,
    /// The same without the fast path.
    VswitchDeviceUser,
    /// The same by AF_XDP.
    VswitchDeviceXdp,
    /// Open vSwitch, userspace datapath, veth ports, as it comes.
    Ovs,
    /// The same with TAP ports.
    OvsTap,
    /// Open vSwitch with userspace TSO (experimental there), veth ports.
    OvsTso,
    /// The same with TAP ports.
    OvsTapTso,
    /// VDE with one vde_plug2tap an end.
    Vde,
    /// No switch but a bare veth pair: the limit of ports in the kernel.
    Cable,
    /// No switch but threads that read one TAP device and write to the other: the limit of user space.
    TapLoop,
}

impl Peer {
    /// The name on the command line and in all results.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Bridge => "bridge",
            Peer::BridgeBig => "bridge-big",
            Peer::VswitchTap => "vswitch-tap",
            Peer::VswitchVeth => "vswitch-veth",
            Peer::VswitchVethBig => "vswitch-veth-big",
            Peer::VswitchVethUser => "vswitch-veth-user",
            Peer::VswitchDevice => "vswitch-device",
            Peer::VswitchDeviceUser => "vswitch-device-user",
            Peer::VswitchDeviceXdp => "vswitch-device-xdp",
            Peer::Ovs => "ovs",
            Peer::OvsTap => "ovs-tap",
            Peer::OvsTso => "ovs-tso",
            Peer::OvsTapTso => "ovs-tap-tso",
            Peer::Vde => "vde",
            Peer::Cable => "cable",
            Peer::TapLoop => "tap-loop",
        }
    }

    /// A program that this peer needs and that is not installed.
    pub fn lacks(self) -> Result<Option<String>> {
        let programs: &[&str] = match self {
            Peer::Bridge | Peer::BridgeBig | Peer::Cable | Peer::TapLoop => &["ip"],
            Peer::VswitchTap
            | Peer::VswitchVeth
            | Peer::VswitchVethBig
            | Peer::VswitchVethUser
            | Peer::VswitchDevice
            | Peer::VswitchDeviceUser
            | Peer::VswitchDeviceXdp => {
                let programs = [vswitch::program("vswitchd")?, vswitch::program("vswitchctl")?];
                return Ok(programs
                    .into_iter()
                    .find(|path| !path.is_file())
                    .map(|path| path.display().to_string()));
            }
            Peer::Ovs | Peer::OvsTap | Peer::OvsTso | Peer::OvsTapTso => &["ovsdb-server", "ovs-vswitchd", "ovs-vsctl"],
            Peer::Vde => &["vde_switch", "vde_plug2tap"],
        };
        Ok(programs
            .iter()
            .find(|program| !is_installed(program))
            .map(|program| (*program).to_owned()))
    }

    /// Starts the switch and joins the ends of `lab` by it.
    ///
    /// # Errors
    /// What the first step that fails says; what was started is stopped again.
    pub fn set_up(self, lab: &Lab) -> Result<Running> {
        let running = match self {
            Peer::Bridge => bridge::set_up(bridge::Frames::Usual),
            Peer::BridgeBig => bridge::set_up(bridge::Frames::Big(lab.big_bytes)),
            Peer::VswitchTap => vswitch::set_up(lab, "tap", FastPath::On),
            Peer::VswitchVeth => vswitch::set_up(lab, "veth", FastPath::On),
            Peer::VswitchVethBig => vswitch::set_up(lab, "veth", FastPath::Big),
            Peer::VswitchVethUser => vswitch::set_up(lab, "veth", FastPath::Off),
            Peer::VswitchDevice => vswitch::set_up_devices(lab, FastPath::On, ""),
            Peer::VswitchDeviceUser => vswitch::set_up_devices(lab, FastPath::Off, ""),
            Peer::VswitchDeviceXdp => vswitch::set_up_devices(lab, FastPath::Off, "--xdp"),
            Peer::Ovs => ovs::set_up(lab, ovs::Ports::Veth, ovs::Tso::Off),
            Peer::OvsTap => ovs::set_up(lab, ovs::Ports::Tap, ovs::Tso::Off),
            Peer::OvsTso => ovs::set_up(lab, ovs::Ports::Veth, ovs::Tso::On),
            Peer::OvsTapTso => ovs::set_up(lab, ovs::Ports::Tap, ovs::Tso::On),
            Peer::Vde => vde::set_up(lab),
            Peer::Cable => cable::set_up(),
            Peer::TapLoop => tap_loop::set_up(),
        };
        running.context("can't be set up")
    }
}

/// A peer at work. Dropping it stops its processes; what they made in the lab's namespaces goes with these.
#[derive(Default)]
pub struct Running {
    /// The processes that move frames: theirs is the processor time that is counted.
    switch: Vec<Daemon>,
    /// Others that have to be there, such as a database. Stopped after the switch.
    helpers: Vec<Daemon>,
    /// Threads of this process that move frames. Their processor time is not told apart.
    loops: Option<tap_loop::Loop>,
    /// Run before the processes are stopped.
    reset: Option<String>,
}

impl Running {
    /// The processes whose processor time counts as the switch's; none for a switch in the kernel.
    pub fn pids(&self) -> Vec<u32> {
        self.switch.iter().map(Daemon::pid).collect()
    }

    /// # Errors
    /// If one of the processes has ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        self.switch
            .iter_mut()
            .chain(&mut self.helpers)
            .try_for_each(Daemon::check_alive)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(line) = &self.reset
            && let Err(error) = run(line)
        {
            eprintln!("compare: {error:#}");
        }
    }
}

/// The directory that this program was built into, where its sister programs are too.
fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe().context("the rig's own path is not known")?;
    Ok(program
        .parent()
        .context("the rig's own path has no directory")?
        .to_owned())
}
