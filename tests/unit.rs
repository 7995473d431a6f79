//! The daemon as the unit that is shipped: with its rights, its sandbox and its watchdog, under a real systemd.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vswitch_testing::require::missing;
use vswitch_testing::systemd::Machine;
use vswitch_testing::wait_for;

/// Ports of the long apply, and of the second one beside it.
const PORTS: usize = 60;

fn pid(machine: &Machine) -> String {
    machine.property("MainPID")
}

#[test]
fn it_is_ready_when_it_answers_reloads_and_comes_back_with_its_ports() {
    let Some(machine) = Machine::boot("", "") else { return };
    // Type=notify: systemctl returns when the daemon says that it is ready.
    machine.ok("systemctl start vswitchd");
    let status: Value = machine.ctl("--json status").ok().json();
    assert_eq!(
        status["limits"],
        Value::Array(Vec::new()),
        "the unit takes a right away that it needs"
    );
    machine.ctl("add-port red --addr 10.0.0.1/24").ok();
    machine.ctl("add-port blue --addr 10.0.0.2/24").ok();
    // The mounts of namespaces reach the host.
    machine.ok("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");

    let first = pid(&machine);
    machine.configure("[log]\nlevel = \"debug\"\n");
    machine.ok("systemctl reload vswitchd");
    wait_for("the new log level", || {
        machine.log().contains("configuration reloaded, log level debug")
    });
    assert_eq!(pid(&machine), first);

    machine.ok("systemctl kill --kill-whom=main --signal=KILL vswitchd");
    wait_for("another process", || {
        pid(&machine) != first && machine.property("ActiveState") == "active"
    });
    machine.ok("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
    machine.ok("systemctl restart vswitchd");
    machine.ok("ip netns exec blue ping -n -c 1 -W 5 10.0.0.1");
    machine.ok("systemctl stop vswitchd");
    assert_eq!(machine.property("Result"), "success");
    // Stopped is not removed: what the kernel carries goes on.
    machine.ok("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
    machine.ok("systemctl start vswitchd");
    machine.ctl("reset --yes").ok();
    assert_eq!(machine.ok("ip netns list"), "");
}

/// The address family of AF_XDP was not among those that the unit allows (review B5): it always fell back, and only under systemd.
#[test]
fn a_device_is_reached_by_xdp_under_it_too() {
    let Some(machine) = Machine::boot("", "") else { return };
    machine.ok("systemctl start vswitchd");
    machine.ok("ip link add name dev0 type veth peer name far");
    machine.ok("ip link set far up");
    machine.ctl("add-port dev0 --type device --xdp").ok();
    let show: Value = machine.ctl("--json show").ok().json();
    assert_eq!(show["ports"][0]["xdp_mode"], "copy", "{show:#}");
}

/// Whoever connects while no daemon runs is answered by the next one, and who may connect is told by the daemon's configuration.
#[test]
fn the_control_socket_outlives_it_and_starts_it() {
    let Some(machine) = Machine::boot("", "[daemon]\nsocket_group = \"1\"\nsocket_mode = \"0640\"\n") else {
        return;
    };
    let socket = || {
        let stat = machine.ok("stat --format %F:%a:%g:%i /run/vswitch/control.sock");
        stat.trim().to_owned()
    };
    machine.ok("systemctl start vswitchd.socket");
    let before = socket();
    assert!(before.starts_with("socket:600:0:"), "{before}");
    assert_eq!(machine.property("ActiveState"), "inactive");
    machine.ctl("add-port red --addr 10.0.0.1/24").ok();
    let (first, inode) = (pid(&machine), before.rsplit(':').next().unwrap());
    let served = socket();
    assert_eq!(served, format!("socket:640:1:{inode}"));

    machine.ok("systemctl restart vswitchd");
    assert_ne!(pid(&machine), first);
    assert_eq!(socket(), served);
    machine.ok("systemctl stop vswitchd.service");
    assert_eq!(socket(), served, "it goes with the unit that made it");
    assert!(machine.ctl("port list").ok().stdout.contains("red"));
    // With the socket, the daemon.
    machine.ok("systemctl stop vswitchd.socket");
    assert_eq!(machine.property("ActiveState"), "inactive");
    machine.ok("systemctl start vswitchd");
    machine.ctl("reset --yes").ok();
}

/// systemd held the socket where everybody looks for it, the daemon had its own elsewhere, and whoever asked was never answered.
#[test]
fn a_socket_elsewhere_leaves_nobody_waiting_at_the_usual_one() {
    let Some(machine) = Machine::boot("", "[daemon]\nsocket = \"/run/vswitch/other.sock\"\n") else {
        return;
    };
    machine.ok("systemctl start vswitchd");
    machine.ctl("status").ok();
    machine.ctl("--socket /run/vswitch/other.sock status").ok();
    assert!(machine.log().contains("it serves both"), "{}", machine.log());
}

/// A slip in the configuration took the service and its socket away for a minute, and to start it then failed whatever was mended.
#[test]
fn whoever_mends_the_configuration_starts_it_at_once() {
    let Some(machine) = Machine::boot("", "[daemon]\nsocket_mod = 1\n") else {
        return;
    };
    machine.run("systemctl start vswitchd");
    wait_for("it to be given up", || machine.property("ActiveState") == "failed");
    assert_eq!(
        (machine.property("Result"), machine.property("NRestarts")),
        ("exit-code".into(), "0".into())
    );
    machine.configure("");
    machine.ok("systemctl start vswitchd");
    machine.ctl("status").ok();
}

/// While an edit runs the daemon still tells systemd that it lives (review B4): an apply that takes longer than the watchdog waits
/// is not killed half-way.
#[test]
fn its_watchdog_does_not_end_an_apply_that_takes_longer() {
    let Some(machine) = Machine::boot("WatchdogSec=500ms\n", "") else {
        return;
    };
    machine.ok("systemctl start vswitchd");
    let first = pid(&machine);
    let mut lab = String::new();
    for n in 0..PORTS {
        writeln!(
            lab,
            "[[ports]]\nname = \"p{n}\"\naddresses = [\"10.0.{}.{}/16\"]",
            n / 250,
            n % 250 + 1
        )
        .unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lab).unwrap();
    machine.ctl(&format!("apply {}", file.path().display())).ok();
    let ports: Vec<Value> = machine.ctl("--json show").ok().json::<Value>()["ports"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(ports.len(), PORTS);
    assert!(ports.iter().all(|port| port["state"] == "up"), "{ports:#?}");
    machine.ctl("reset --yes").ok();
    assert_eq!((pid(&machine), machine.property("NRestarts")), (first, "0".into()));
}

/// systemd keeps the queues of the ports while the daemon restarts, and not while it is stopped.
#[test]
fn frames_wait_while_the_unit_restarts() {
    let Some(machine) = Machine::boot("", "[datapath]\nfastpath = false\n") else {
        return;
    };
    machine.ok("systemctl start vswitchd");
    machine.ctl("add-port red --addr 10.0.0.1/24").ok();
    machine.ctl("add-port blue --type tap --addr 10.0.0.2/24").ok();
    machine.ok("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
    let known: Value = machine.ctl("--json fdb show").ok().json();
    std::thread::scope(|scope| {
        // As many as wait in a queue at most, however long it takes.
        let pings = scope.spawn(|| machine.ok("ip netns exec red ping -n -q -c 100 -i 0.01 -W 20 10.0.0.2"));
        machine.ok("systemctl restart vswitchd");
        let said = pings.join().unwrap();
        // Before version 254 systemd may close them.
        assert!(said.contains("100 received"), "{said}");
    });
    assert_eq!(
        machine.property("NFileDescriptorStore"),
        "0",
        "they are the daemon's again"
    );
    let after: Value = machine.ctl("--json fdb show").ok().json();
    assert_eq!(after.as_array().unwrap().len(), known.as_array().unwrap().len());
    let first = pid(&machine);
    machine.ctl("restart").ok();
    assert_eq!(
        (pid(&machine), machine.property("ActiveState")),
        (first, "active".to_owned())
    );
    machine.ok("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
    // What systemd made and what it kept are told apart, also by a program that got the one over an exec.
    let socket = machine.ok("stat -c %i /run/vswitch/control.sock");
    machine.ok("systemctl restart vswitchd");
    assert_eq!(machine.ok("stat -c %i /run/vswitch/control.sock"), socket);
    machine.ctl("restart").ok();
    assert_eq!(machine.ok("stat -c %i /run/vswitch/control.sock"), socket);
    machine.ctl("status").ok();
    assert!(!machine.log().contains("of no use"), "{}", machine.log());
    machine.ok("systemctl stop vswitchd");
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(
        machine.property("NFileDescriptorStore"),
        "0",
        "stopped is not restarted"
    );
}

/// `docs/threat-model.md` has a reason for each line that `systemd-analyze security` finds in the unit, and none for what it does not find any more.
#[test]
fn each_exposure_that_is_left_has_its_reason() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/vswitchd.service");
    let mut analyze = Command::new("systemd-analyze");
    let analyze = analyze
        .args(["security", "--offline=true", "--no-pager", "--json=short"])
        .arg(unit)
        .output();
    let found: Vec<Value> = match &analyze {
        Ok(said) if !said.stdout.is_empty() => serde_json::from_slice(&said.stdout).unwrap(),
        other => return missing("systemd-analyze", format!("{other:?}")),
    };
    let exposed = |line: &&Value| line["exposure"].as_str().is_some_and(|exposure| exposure != "0.0");
    let found: BTreeSet<_> = found
        .iter()
        .filter(exposed)
        .map(|line| line["name"].as_str().unwrap())
        .collect();
    let text = include_str!("../docs/threat-model.md").replace("\\|", "|");
    let (_, table) = text.split_once("| exposure | why it stays |").unwrap();
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let first = rows
        .map(|row| row.split("` | ").next().unwrap().to_owned())
        .collect::<Vec<_>>();
    let named: BTreeSet<_> = first
        .iter()
        .flat_map(|names| names.split('`'))
        .filter(|name| name.contains('='))
        .collect();
    let unexplained: Vec<_> = found.difference(&named).collect();
    assert!(unexplained.is_empty(), "without a reason: {unexplained:?}");
    // Each version of systemd has lines of its own.
    if cfg!(target_arch = "x86_64") && version() == Some(252) {
        assert_eq!(
            named.difference(&found).collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "not found any more"
        );
    }
}

/// Of systemd here.
fn version() -> Option<u32> {
    let said = Command::new("systemctl").arg("--version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    said.split_whitespace().nth(1)?.parse().ok()
}
