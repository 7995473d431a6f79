//! kill -9 at each system call of each command: the next start takes over what is there or takes it back, and after `reset` the machine
//! is as it was before.
//!
//! Each call of which something may outlive the daemon is a place to be killed before it. There are many hundreds over all commands:
//! each test tries every seventh, `VSWITCH_TEST_KILLS=all` all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use vswitch_testing::api::view::PortState;
use vswitch_testing::api::{Cable, CableView, IfAddr, PortKind, ProcessState, ProcessView};
use vswitch_testing::daemon::Daemon;
use vswitch_testing::faults::Faults;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, Place, run, wait_for};

/// Every so manieth place; prime, so that the places of one command are not always the same ones of a pattern.
const STRIDE: u32 = 7;
/// More places than any command has.
const MOST_STEPS: u32 = 5000;

/// Of those that start and end processes each try takes a while: fewer are made.
const STRIDE_OF_PROCESSES: u32 = 29;

fn stride(line: &str) -> u32 {
    let usual = match line.starts_with("command") || line.contains("--dhcp") {
        true => STRIDE_OF_PROCESSES,
        false => STRIDE,
    };
    match std::env::var("VSWITCH_TEST_KILLS") {
        Ok(all) if all == "all" => 1,
        Ok(stride) => stride.parse().unwrap_or(usual),
        Err(_) => usual,
    }
}

/// The place of the first kill: different ones for different commands, the same at each run.
fn offset(line: &str) -> u32 {
    1 + line
        .bytes()
        .fold(7, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
        % stride(line)
}

/// What there is besides the daemon.
#[derive(Clone)]
struct Machine {
    home: Snapshot,
    theirs: String,
}

impl Machine {
    /// A machine with a namespace and two devices of somebody else.
    fn prepare() -> Self {
        run("ip netns add theirs");
        make_device("eth7");
        make_device("eth8");
        // The kernel would give them addresses in its own time.
        run("ip link set dev eth7 addrgenmode none mtu 1450 down");
        run("ip link set dev eth8 addrgenmode none down");
        run("ip link set dev eth8 up");
        Self::now()
    }

    fn now() -> Self {
        Self {
            home: Snapshot::of_machine(),
            theirs: Place::named("theirs").run_ok("ip -o -d addr"),
        }
    }

    #[track_caller]
    fn wait_until_same(&self, what: &str) {
        self.home.wait_until_same(Snapshot::of_machine);
        wait_for(
            &format!("the namespace of somebody else to be as before ({what})"),
            || {
                let now = Self::now().theirs;
                if now == self.theirs { Ok(()) } else { Err(now) }
            },
        );
    }
}

/// Starts a daemon that is killed at its n-th step from here on. Whether it got so far.
fn killed_at_start(lab: &Lab, n: u32) -> Option<String> {
    let mut command = lab.daemon_command();
    let faults = Faults::prepare(&mut command);
    faults.kill_at(n);
    let mut daemon = Daemon::spawn(command);
    faults.watch(&daemon);
    wait_for("the daemon to serve or to be killed", || {
        daemon.ended().is_some() || lab.ctl("status").code == 0
    });
    let killed = faults.disarm();
    let _ = daemon.kill();
    killed
}

/// An interface has these addresses and this MTU, and no others.
fn check_interface(place: &str, namespace: &str, ifname: &str, addresses: &[IfAddr], mtu: Option<u32>) {
    let text = Place::named(namespace).run_ok(&format!("ip -j addr show dev {ifname}"));
    let links: Value = serde_json::from_str(&text).unwrap();
    let there: BTreeSet<_> = links[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|address| address["scope"] != "link")
        .map(|address| format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"]))
        .collect();
    let wanted: BTreeSet<_> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(there, wanted, "{place}: addresses of {ifname} in {namespace}");
    assert_eq!(
        links[0]["mtu"],
        mtu.unwrap_or(1500),
        "{place}: MTU of {ifname} in {namespace}"
    );
}

/// The lab that came back is there, whole, and no more than it.
fn check_lab(lab: &Lab, place: &str) {
    wait_for(&format!("all ports to be there ({place})"), || {
        let missing: Vec<_> = lab
            .ports()
            .into_iter()
            .filter(|port| port.state == PortState::Missing)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:#?}"))
        }
    });
    for port in lab.ports() {
        let ports = port.port;
        let (Some(namespace), true) = (&ports.namespace, matches!(ports.kind, PortKind::Veth | PortKind::Tap)) else {
            continue;
        };
        check_interface(place, &namespace.to_string(), "eth0", &ports.addresses, ports.mtu);
    }
    for CableView { cable, .. } in lab.json::<Vec<CableView>>("cable list") {
        let Cable { a, b, mtu } = cable;
        for end in [a, b] {
            let ifname = end.ifname.expect("a cable that is there has names");
            check_interface(place, end.namespace.as_str(), ifname.as_str(), &end.addresses, mtu);
        }
    }
    wait_for(&format!("all commands to run ({place})"), || {
        let commands: Vec<ProcessView> = lab.json("command list");
        match commands.iter().all(|command| command.state == ProcessState::Running) {
            true => Ok(()),
            false => Err(format!("{commands:#?}")),
        }
    });
    let exported = lab.ok("export");
    for name in run("ip netns list").lines().filter_map(|line| line.split(' ').next()) {
        let theirs = name == "theirs" || name.starts_with("far-");
        assert!(
            theirs || exported.contains(name),
            "{place}: nobody has the namespace {name}\n{exported}"
        );
    }
}

/// Processes of the commands of these lines, each of which sleeps for a time of its own.
fn sleepers(line: &str, setup: &[&str]) -> Vec<u32> {
    let time = |line: &str| line.split_once("-- sleep ").map(|(_, time)| time.to_owned());
    let times: Vec<_> = setup.iter().copied().chain([line]).filter_map(time).collect();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let sleeps = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        times.iter().any(|time| line == format!("sleep\0{time}\0"))
    };
    pids.filter(sleeps).collect()
}

/// Kills the daemon in turn at the places of `line`, on a lab made by `setup`.
fn kill_at_each_step(setup: &[&str], line: &str) {
    let mut lab = Lab::without_daemon();
    let file = lab.lab_file(LAB);
    let line = &line.replace("LAB", &file);
    run("ip netns add first");
    run("ip netns del first");
    let before = Machine::prepare();
    let steps = (offset(line)..MOST_STEPS).step_by(stride(line) as usize);
    for (kills, step) in steps.enumerate() {
        let killed = if line == "start" {
            lab.start();
            setup.iter().for_each(|line| drop(lab.ok(line)));
            lab.kill_daemon();
            killed_at_start(&lab, step)
        } else {
            let mut command = lab.daemon_command();
            let faults = Faults::prepare(&mut command);
            lab.start_with(command, |daemon| faults.watch(daemon));
            setup.iter().for_each(|line| drop(lab.ok(line)));
            faults.kill_at(step);
            let reply = lab.ctl(line);
            let killed = faults.disarm();
            if killed.is_none() {
                reply.ok();
            }
            lab.kill_daemon();
            killed
        };
        let place = format!("`{line}`, step {step}, {}", killed.as_deref().unwrap_or("after all"));
        eprintln!("{place}");
        lab.start();
        check_lab(&lab, &place);
        lab.ok("reset --yes");
        lab.stop_daemon();
        before.wait_until_same(&place);
        assert!(
            !Path::new("/run/vswitch/processes").exists(),
            "{place}: processes are noted"
        );
        assert_eq!(sleepers(line, setup), [0; 0], "{place}: a process is left");
        // Each begins as the first: no static entries, no salt.
        fs::remove_dir_all("/var/lib/vswitch").unwrap();
        if killed.is_none() {
            assert!(kills > 0, "`{line}` has fewer steps than come before the first kill");
            eprintln!("`{line}`: {kills} kills");
            return;
        }
    }
    panic!("`{line}` takes more than {MOST_STEPS} steps");
}

const LAB: &str = r#"
[[ports]]
name = "red"
switch = "main"
kind = "tap"
addresses = ["10.7.0.1/24"]

[[ports]]
name = "green"
switch = "main"
kind = "veth"
addresses = ["10.7.0.3/24"]

[[ports]]
name = "eth8"
switch = "main"
kind = "device"
"#;

const PORTS: [&str; 4] = [
    "add-port red --addr 10.7.0.1/24",
    "add-port blue --type tap --addr 10.7.0.2/24",
    "add-port host --type internal --addr 10.7.0.9/24",
    "add-port eth7 --type device --mtu 1400",
];

macro_rules! killed {
    ($($name:ident: $setup:expr, $line:expr;)*) => {
        $(#[test]
        fn $name() {
            kill_at_each_step(&$setup, $line);
        })*
    };
}

killed! {
    add_veth: [], "add-port red --addr 10.7.0.1/24 --addr fd07::1/64 --gateway 10.7.0.9";
    add_veth_in_theirs: [], "add-port theirs --addr 10.7.0.1/24";
    add_tap: [], "add-port red --type tap --addr 10.7.0.1/24";
    add_tap_in_theirs: [], "add-port theirs --type tap --addr 10.7.0.1/24";
    add_internal: [], "add-port host --type internal --addr 10.7.0.9/24";
    add_device: [], "add-port eth7 --type device --mtu 1400";
    del_veth: PORTS, "del-port red";
    del_tap: PORTS, "del-port blue";
    del_internal: PORTS, "del-port host";
    del_device: PORTS, "del-port eth7";
    del_tap_in_theirs: ["add-port theirs --type tap"], "del-port theirs";
    add_namespace: [], "ns add red";
    del_namespace: ["ns add red"], "ns del red";
    add_cable: ["ns add blue"], "cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24";
    add_cable_to_theirs: [], "cable red theirs --name-a c --name-b c";
    del_cable: ["cable red theirs"], "cable del red theirs";
    set_cable: ["cable red theirs --addr-a 10.9.0.1/24"], "cable set red theirs mtu=1400 addresses_a=10.9.0.3/24 addresses_b=10.9.0.4/24";
    set_namespace: ["ns add red"], "ns set red net.ipv4.ip_forward=1";
    add_address: [PORTS[0]], "addr add red 10.7.0.7/24";
    del_address: [PORTS[0]], "addr del red 10.7.0.1/24";
    add_address_in_theirs: ["add-port theirs"], "addr add theirs 10.7.0.7/24";
    add_route: [PORTS[0]], "route add red default --via 10.7.0.9";
    del_route: [PORTS[0], "route add red default --via 10.7.0.9"], "route del red default";
    set_mtu: PORTS, "set port red --mtu 1300";
    set_device_mtu: PORTS, "set port eth7 --mtu 1300";
    set_down: PORTS, "set port blue --down";
    add_switch: [], "switch add second";
    del_switch: ["switch add second"], "switch del second";
    add_mirror: PORTS, "mirror add m --to blue --from red";
    del_mirror: [PORTS[0], PORTS[1], "mirror add m --to blue --from red"], "mirror del m";
    add_static_station: [PORTS[0]], "fdb add 02:00:00:00:00:01 red";
    add_command: ["ns add red"], "command add web --ns red -- sleep 100017";
    del_command: ["command add web --ns red -- sleep 100018"], "command del web";
    restart_command: ["command add web --ns red -- sleep 100019"], "command restart web";
    add_gateway_with_dhcp: [], "switch add out --subnet 10.88.0.0/24 --gateway --dhcp";
    apply: PORTS, "apply LAB --yes";
    reset: PORTS, "reset --yes";
    start: PORTS, "start";
}
