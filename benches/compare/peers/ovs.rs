//! Open vSwitch with its userspace ("netdev") datapath: a private ovsdb-server and ovs-vswitchd, nothing of the
//! system's service.

use anyhow::Result;
use std::time::Duration;

use super::Running;
use crate::command::{Daemon, inside, run, run_in, wait_until};
use crate::lab::{A, B, INTERFACE, Lab, SWITCH, add_veth, configure};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// How the ends are attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Veth pairs, read by Open vSwitch through AF_PACKET.
    Veth,
    /// TAP devices that Open vSwitch makes and that are moved into the namespaces.
    Tap,
}

/// `other_config:userspace-tso-enable`, read by ovs-vswitchd at its start only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tso {
    Off,
    On,
}

pub fn set_up(lab: &Lab, ports: Ports, tso: Tso) -> Result<Running> {
    let (mut running, vsctl) = start(lab, tso)?;
    for (port, end) in [("pa", &A), ("pb", &B)] {
        attach(&vsctl, port, end.ns, ports, tso)?;
        configure(end)?;
    }
    running.check_alive()?;
    Ok(running)
}

/// Starts it with a bridge without ports. The second value is the beginning of every `ovs-vsctl` command to it.
pub fn start(lab: &Lab, tso: Tso) -> Result<(Running, String)> {
    let dir = lab.dir().display();
    let socket = format!("{dir}/db.sock");
    let vsctl = format!("ovs-vsctl --timeout=10 --db=unix:{socket}");
    let mut running = Running::default();

    run(&format!("ovsdb-tool create {dir}/conf.db {SCHEMA}"))?;
    let database = format!("ovsdb-server {dir}/conf.db --remote=punix:{socket} --unixctl={dir}/db.ctl");
    running
        .helpers
        .push(Daemon::spawn(&database, &lab.dir().join("ovsdb.log"))?);
    wait_until("ovsdb-server answers", Duration::from_secs(10), || {
        run(&format!("{vsctl} --no-wait init")).map(|_| true)
    })?;
    if tso == Tso::On {
        run(&format!(
            "{vsctl} --no-wait set Open_vSwitch . other_config:userspace-tso-enable=true"
        ))?;
    }
    let daemon = format!("env OVS_RUNDIR={dir} ovs-vswitchd unix:{socket} --unixctl={dir}/ovs.ctl");
    running
        .switch
        .push(Daemon::spawn(&inside(SWITCH, &daemon), &lab.dir().join("ovs.log"))?);
    run(&format!("{vsctl} add-br br0 -- set bridge br0 datapath_type=netdev"))?;

    Ok((running, vsctl))
}

/// Joins a namespace to it.
pub fn attach(vsctl: &str, port: &str, ns: &str, ports: Ports, tso: Tso) -> Result<()> {
    match ports {
        Ports::Veth => {
            add_veth(port, ns)?;
            run(&format!("{vsctl} add-port br0 {port}"))?;
            if tso == Tso::Off {
                // Without TSO it forwards partial checksums unfinished and no TCP connection comes about.
                run_in(ns, &format!("ethtool -K {INTERFACE} tx off"))?;
            }
        }
        Ports::Tap => {
            run(&format!("{vsctl} add-port br0 {port} -- set interface {port} type=tap"))?;
            run(&format!("ip -n {SWITCH} link set {port} netns {ns} name {INTERFACE}"))?;
        }
    }
    Ok(())
}
