//! An Open vSwitch of the test's own, with its userspace ("netdev") datapath: the second opinion on what a switch does.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::ctl::Reply;
use crate::daemon::Daemon;
use crate::netns::run;
use crate::wait::wait_for;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const FOLDER: &str = "/run/openvswitch";
/// Its one bridge.
const BRIDGE: &str = "br0";

/// ovsdb-server and ovs-vswitchd in the private machine of a [`crate::Lab`], nothing of the system's service.
pub struct Ovs {
    switch: Daemon,
    database: Daemon,
}

impl Ovs {
    /// Starts both on the machine that the calling thread is on, with one bridge.
    ///
    /// # Panics
    /// If the Debian package openvswitch-switch is not installed.
    pub fn start() -> Self {
        assert!(
            Path::new(SCHEMA).exists(),
            "{SCHEMA} is not there: install openvswitch-switch (`cargo xtask test` does)"
        );
        std::fs::create_dir_all(FOLDER).unwrap();
        run(&format!("ovsdb-tool create {FOLDER}/conf.db {SCHEMA}"));
        let database = Daemon::spawn(command(&format!(
            "ovsdb-server {FOLDER}/conf.db --remote=punix:{FOLDER}/db.sock --unixctl={FOLDER}/db.ctl"
        )));
        wait_for("ovsdb-server to serve", || {
            Path::new(&format!("{FOLDER}/db.sock")).exists()
        });
        vsctl("--no-wait init");
        // Tunnels: two tags are told from payload.
        vsctl("--no-wait set Open_vSwitch . other_config:vlan-limit=2");
        let switch = Daemon::spawn(command(&format!(
            "ovs-vswitchd unix:{FOLDER}/db.sock --unixctl={FOLDER}/ovs.ctl"
        )));
        vsctl(&format!(
            "add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type=netdev fail-mode=standalone"
        ));
        Self { switch, database }
    }

    /// Adds a veth port with `eth0` in a namespace of its name; `settings` are columns of the table Port.
    pub fn add_port(&self, name: &str, settings: &str) {
        run(&format!("ip netns add {name}"));
        run(&format!(
            "ip link add name {name} type veth peer name eth0 netns {name}"
        ));
        run(&format!("ip link set dev {name} up"));
        run(&format!("ip -n {name} link set dev eth0 up"));
        vsctl(&format!("add-port {BRIDGE} {name} {settings}"));
    }

    /// Runs a command: `vsctl`, `appctl` or `ofctl` with what follows.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        match line.split_once(' ') {
            Some(("vsctl", words)) => vsctl(words),
            Some(("appctl", words)) => run(&format!("ovs-appctl --target={FOLDER}/ovs.ctl {words}")),
            Some(("ofctl", words)) => run(&format!("ovs-ofctl {words}")),
            _ => panic!("`{line}` begins with none of vsctl, appctl, ofctl"),
        }
    }

    /// Runs a command of ovs-vsctl (`vsctl`) or ovs-appctl (`appctl`) that may fail.
    pub fn call(&self, line: &str) -> Reply {
        let (program, words) = line.split_once(' ').unwrap_or((line, ""));
        let mut command = match program {
            "appctl" => command(&format!("ovs-appctl --target={FOLDER}/ovs.ctl")),
            _ => command(&format!("ovs-vsctl --timeout=20 --db=unix:{FOLDER}/db.sock")),
        };
        Reply::new(line, command.args(words.split(' ')).output().unwrap())
    }

    /// Makes each of the next frames take the long way through the tables: a cached decision may be older than
    /// what was learned since.
    pub fn forget_decisions(&self) {
        self.run("appctl revalidator/purge");
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for daemon in [&mut self.switch, &mut self.database] {
            if daemon.ended().is_none() {
                daemon.signal(Signal::SIGTERM);
                daemon.wait();
            }
        }
    }
}

fn vsctl(words: &str) -> String {
    run(&format!("ovs-vsctl --timeout=20 --db=unix:{FOLDER}/db.sock {words}"))
}

fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
        command.env(variable, FOLDER);
    }
    command
}
