//! The Linux bridge with one veth pair an end.

use anyhow::Result;
use std::fs;

use super::Running;
use crate::big_tcp;
use crate::command::run;
use crate::lab::{A, B, INTERFACE, SWITCH, add_veth, configure, in_namespace};

const BRIDGE: &str = "br0";

/// How long TCP frames may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// 64 KiB, as everywhere.
    Usual,
    /// So many bytes, see [`big_tcp`].
    Big(u32),
}

pub fn set_up(frames: Frames) -> Result<Running> {
    start()?;
    for (near, end) in [("va", &A), ("vb", &B)] {
        attach(near, end.ns)?;
        if let Frames::Big(bytes) = frames {
            big_tcp::allow(SWITCH, near, bytes)?;
            big_tcp::allow(end.ns, INTERFACE, bytes)?;
        }
        configure(end)?;
    }
    Ok(Running::default())
}

/// The bridge without ports.
pub fn start() -> Result<()> {
    in_namespace(SWITCH, || {
        // Where br_netfilter is loaded, every new namespace starts with it on, and frames would pass the IP hooks.
        for family in ["iptables", "ip6tables", "arptables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
            if fs::exists(&path)? {
                fs::write(path, "0")?;
            }
        }
        Ok(())
    })?;
    run(&format!(
        "ip -n {SWITCH} link add {BRIDGE} type bridge stp_state 0 forward_delay 0"
    ))?;
    run(&format!("ip -n {SWITCH} link set {BRIDGE} up"))?;
    Ok(())
}

/// Joins a namespace to it by a veth pair.
pub fn attach(near: &str, ns: &str) -> Result<()> {
    add_veth(near, ns)?;
    run(&format!("ip -n {SWITCH} link set {near} master {BRIDGE}"))?;
    Ok(())
}
