//! What users of other switches suffer from, and that it does not happen here.
//! (TCP with default offloads is in `connectivity`, stale ARP in `addresses`, tags and reserved multicast in `switching`,
//! the MTU in `offloads` and `ports`, 1,024 ports in `scale`, leftovers in `lifecycle`.)

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use vswitch_testing::api::PortKind;
use vswitch_testing::api::view::PortState;
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, Place, Station, run, transfer, wait_for};

const BRIDGE_SYSCTLS: &str = "/proc/sys/net/bridge";

/// A firewall that drops what is forwarded, and bridged frames go through it where the kernel has br_netfilter.
fn arm_the_firewall() {
    for tables in ["iptables", "ip6tables"] {
        run(&format!("{tables} -P FORWARD DROP"));
        run(&format!("{tables} -A FORWARD -j DROP"));
    }
    if Path::new(BRIDGE_SYSCTLS).exists() {
        for tables in ["iptables", "ip6tables"] {
            fs::write(format!("{BRIDGE_SYSCTLS}/bridge-nf-call-{tables}"), "1").unwrap();
        }
    }
}

#[test]
fn forward_drop_and_br_netfilter_do_not_stop_the_switch() {
    let lab = Lab::new();
    arm_the_firewall();
    let stations = Station::one_of_each(&lab);
    for a in &stations {
        for b in stations.iter().filter(|b| b.port != a.port) {
            a.ping(b.v4);
            a.ping(b.v6);
        }
    }
    transfer::tcp(&stations[0], &stations[1], false, 4);
    transfer::tcp(&stations[1], &stations[2], true, 4);
}

/// The test above proves something only if the same firewall does stop a Linux bridge.
#[test]
fn the_same_firewall_stops_a_linux_bridge() {
    let _lab = Lab::without_daemon();
    run("ip link add br0 up type bridge");
    for (ns, address) in [("red", "10.7.0.1/24"), ("blue", "10.7.0.2/24")] {
        make_device(ns);
        run(&format!("ip link set dev {ns} master br0"));
        run(&format!("ip -n far-{ns} addr add {address} dev eth0"));
    }
    let ping = |seconds| format!("ip netns exec far-red ping -n -c 1 -W {seconds} 10.7.0.2");
    wait_for("the bridge to forward", || {
        Place::Home.output(&ping(1)).status.success()
    });
    arm_the_firewall();
    if Path::new(BRIDGE_SYSCTLS).exists() {
        assert!(
            !Place::Home.output(&ping(1)).status.success(),
            "the firewall of these tests stops nothing"
        );
    }
}

#[test]
fn no_sysctl_of_the_host_changes() {
    let lab = Lab::without_daemon();
    let before = sysctls();
    assert!(before.len() > 100);
    let mut lab = lab;
    lab.start();
    let stations = Station::one_of_each(&lab);
    stations[0].ping(stations[3].v6);
    let after = sysctls();
    for (path, value) in &before {
        assert_eq!(after.get(path), Some(value), "{path}");
    }
}

/// All of /proc/sys/net that can be read, without what only counts.
fn sysctls() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![std::path::PathBuf::from("/proc/sys/net")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(value) = fs::read_to_string(&path) {
                found.insert(path.to_str().unwrap().to_owned(), value);
            }
        }
    }
    found.retain(|path, _| !path.ends_with("nf_conntrack_count"));
    found
}

#[test]
fn the_internal_ports_mac_stays_when_ports_come_and_go() {
    let lab = Lab::new();
    let host = Station::add(&lab, "host", PortKind::Internal, 1);
    let mac = host.mac();
    for n in 0..6 {
        let kind = ["veth", "tap"][n % 2];
        // Low and high addresses: a bridge takes the lowest as its own.
        lab.ok(&format!("add-port p{n} --type {kind} --mac 02:0{n}:00:00:00:01"));
        assert_eq!(host.mac(), mac);
    }
    for n in 0..6 {
        lab.ok(&format!("del-port p{n}"));
        assert_eq!(host.mac(), mac);
    }
}

fn wait_for_state(lab: &Lab, port: &str, state: PortState) {
    wait_for(&format!("port {port} to be {state:?}"), || {
        let now = lab.port(port);
        if now.state == state {
            Ok(())
        } else {
            Err(format!("{:?} {:?}", now.state, now.reason))
        }
    });
}

#[test]
fn a_device_that_vanishes_is_missing_and_works_when_it_is_back() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let device = Station::add(&lab, "device", PortKind::Device, 2);
    let mac = device.mac();
    red.ping(device.v4);
    for _ in 0..2 {
        run("ip link del device");
        wait_for_state(&lab, "device", PortState::Missing);
        assert!(lab.fdb("main").iter().all(|entry| entry.port.as_str() != "device"));
        // Another index than before.
        run("ip link add placeholder type veth peer name placeholder2");
        make_device("device");
        run("ip link del placeholder");
        // The station behind it is the same one, which others remember by its MAC address.
        device.place.run_ok(&format!("ip link set eth0 address {mac}"));
        device.place.run_ok("ip addr add 10.7.0.2/24 dev eth0");
        wait_for_state(&lab, "device", PortState::Up);
        red.ping_soon(device.v4);
    }
}

#[test]
fn a_namespace_that_vanishes_is_missing_and_works_when_it_is_back() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    for (name, kind) in [("blue", PortKind::Veth), ("green", PortKind::Tap)] {
        let station = Station::add(&lab, name, kind, 2);
        let mac = station.mac();
        red.ping(station.v4);
        run(&format!("ip netns del {name}"));
        wait_for_state(&lab, name, PortState::Missing);
        run(&format!("ip netns add {name}"));
        wait_for_state(&lab, name, PortState::Up);
        red.ping_soon(station.v4);
        assert_eq!(station.mac(), mac);
        lab.ok(&format!("del-port {name}"));
    }
}

#[test]
fn removal_works_when_the_namespace_or_device_is_gone_already() {
    let lab = Lab::new();
    make_device("device");
    for (port, kind, gone) in [
        ("red", "veth", "ip netns del red"),
        ("blue", "tap", "ip netns del blue"),
        ("green", "veth", "ip -n green link del eth0"),
        ("yellow", "tap", "ip -n yellow link del eth0"),
        ("host", "internal", "ip link del host"),
        ("device", "device", "ip link del device"),
    ] {
        lab.ok(&format!("add-port {port} --type {kind}"));
        run(gone);
        // At once, whether the daemon has noticed or not.
        lab.ok(&format!("del-port {port}"));
    }
    assert!(lab.ports().is_empty());
    let names = run("ip netns list");
    assert!(
        !["red", "blue", "green", "yellow"].iter().any(|ns| names.contains(ns)),
        "{names}"
    );
    assert!(
        Place::daemons_own()
            .run_ok("ip -br link")
            .lines()
            .all(|line| line.starts_with("lo"))
    );
    // And the names can be used again.
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24");
    lab.ok("ns exec red -- ping -n -c 1 -W 10 10.7.0.2");
}

#[test]
fn a_reset_works_when_half_of_the_lab_is_gone_already() {
    let lab = Lab::new();
    for name in ["red", "blue", "green"] {
        lab.ok(&format!("add-port {name}"));
    }
    lab.ok("add-port host --type internal");
    lab.ok("cable red green");
    run("ip netns del red");
    run("ip link del host");
    run("ip -n blue link del eth0");
    lab.ok("reset --yes");
    assert_eq!(run("ip netns list"), "");
}

#[test]
fn a_taken_over_device_is_given_back_as_it_was() {
    let lab = Lab::new();
    make_device("device");
    let look = || (run("tc qdisc show dev device"), run("ip -d -o link show device"));
    let before = look();
    lab.ok("add-port device --type device");
    lab.ok("del-port device");
    wait_for("the device to be as before", || look() == before);
}

#[test]
fn the_hosts_own_stack_does_not_answer_on_a_taken_over_device() {
    let lab = Lab::new();
    let device = Station::add(&lab, "device", PortKind::Device, 2);
    run("ip addr add 10.7.0.77/24 dev device");
    assert!(
        !device.reaches("10.7.0.77".parse::<std::net::IpAddr>().unwrap()),
        "the host answers beside the switch"
    );
}
