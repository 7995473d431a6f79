//! Interfaces by which switches get out: made anew, not there yet, and those of a VPN.

use std::process::Command;

use vswitch_testing::daemon::{Daemon, program};

use super::*;

fn again(name: &str) {
    run(&format!("ip link del {name}"));
    run(&format!("ip link add {name} type veth peer name eth0 netns world"));
    run(&format!("ip addr add 203.0.113.1/24 dev {name}"));
    run(&format!("ip link set {name} up"));
    let world = Place::named("world");
    world.run_ok("ip addr add 203.0.113.2/24 dev eth0");
    world.run_ok("ip link set eth0 up");
    run("ip route add default via 203.0.113.2");
}

/// As a VPN that is dialled again is, or a USB adapter that is plugged in again.
#[test]
fn an_uplink_that_is_made_again_or_turned_off_forwards_again() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat --uplink up0"));
    lab.ok("add-port red --switch lab --addr auto");
    pings("red", "203.0.113.2");
    for uplinks in ["up0", "none"] {
        lab.ok(&format!("set switch lab uplinks={uplinks}"));
        again("up0");
        pings("red", "203.0.113.2");
        run("sysctl -qw net.ipv4.conf.up0.forwarding=0");
        wait_for("it to forward again", || forwards("up0"));
        pings("red", "203.0.113.2");
    }
    lab.ok("reset --yes");
    assert!(!forwards("up0"));
}

/// What a daemon has the host forward it keeps to its own gateways, and leaves those of another to that.
#[test]
fn two_daemons_lead_out_by_one_uplink() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    let mut second = Command::new(program("vswitchd"));
    second.args(["--run-dir", "/run/second", "--state-dir", "/run/second/state"]);
    let _second = Daemon::spawn(second);
    let second = |line: &str| lab.ctl(&format!("--socket /run/second/control.sock {line}"));
    wait_for("the second daemon to serve", || second("status").code == 0);
    second("switch add other --subnet 10.20.0.0/24 --subnet fd20::/64 --gateway --nat").ok();
    second("add-port green --switch other --addr auto").ok();
    for name in ["red", "green"] {
        pings(name, "203.0.113.2");
        pings(name, "2001:db8::2");
    }
    // Nobody gets in all the same, nor from one to the other.
    let world = Place::named("world");
    world.run_ok("ip route add 10.0.0.0/8 via 203.0.113.1");
    world.run_ok("ip route add fd00::/8 via 2001:db8::1");
    for (from, to) in [
        ("world", "10.10.0.2"),
        ("world", "fd20::2"),
        ("world", "10.20.0.2"),
        ("red", "10.20.0.2"),
        ("green", "fd10::2"),
    ] {
        never_pings(from, to);
    }
    // A leg without NAT is no gateway any more.
    let group = || run("ip -d link show other-gw").contains("group 30323");
    assert!(group());
    second("set switch other nat=false").ok();
    assert!(!group());
    never_pings("world", "10.20.0.2");
    second("set switch other nat=true").ok();
    // What one turns off as it goes the other turns on again.
    lab.ok("reset --yes");
    pings("green", "203.0.113.2");
    pings("green", "2001:db8::2");
    second("reset --yes").ok();
    assert!(!forwards("up0"));
    assert_eq!(run("nft list tables"), "");
}

/// The VPN of one switch is not up yet: the others do not wait for it.
#[test]
fn an_uplink_that_is_not_there_yet_holds_up_nobody_else() {
    let mut lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat --uplink up0"));
    lab.ok("add-port red --switch lab --addr auto");
    let vpn = "switch add vpn --subnet 10.20.0.0/24 --gateway --nat --uplink a9";
    for line in [format!("{vpn} -n"), vpn.to_owned()] {
        let changes: Changes = lab.json(&line);
        let told = changes.warnings.join("\n");
        for word in ["a9", "\"vpn\"", "no such interface", "set switch vpn uplinks="] {
            assert!(told.contains(word), "{line}: no {word}: {told}");
        }
        assert!(
            !changes.done.iter().any(|done| done.contains("conf.a9.")),
            "{changes:?}"
        );
    }
    let waits = |lab: &Lab| {
        let limits = lab.status().limits;
        limits
            .iter()
            .any(|limit| limit.contains("a9") && limit.contains("no such interface"))
    };
    wait_for("the status to tell", || waits(&lab));
    lab.kill_daemon();
    run("ip link del lab-gw");
    run("sysctl -qw net.ipv4.conf.up0.forwarding=0");
    lab.start();
    pings("red", "203.0.113.2");
    assert!(forwards("up0") && forwards("vpn-gw"));
    run("ip link add a9 type veth peer name b9");
    wait_for("it to be taken", || forwards("a9"));
    wait_for("the status to tell no more", || !waits(&lab));
    // What stands for all interfaces is none of them.
    lab.ok("set switch vpn uplinks=all");
    assert!(!forwards("all") && !forwards("a9"));
    lab.ok("reset --yes");
    assert!(!forwards("up0"));
}

/// OpenVPN leads all away by two halves, wg-quick by rules and a table of their own.
#[test]
fn stations_take_the_way_of_a_vpn_that_the_host_takes() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    run("ip link add tun0 type veth peer name eth1 netns world");
    run("ip addr add 198.51.100.1/24 dev tun0");
    run("ip link set tun0 up");
    let world = Place::named("world");
    world.run_ok("ip addr add 198.51.100.2/24 dev eth1");
    world.run_ok("ip addr add 192.0.2.7/32 dev lo");
    world.run_ok("ip link set eth1 up");
    let ways: [&[&str]; 2] = [
        &[
            "route {} 0.0.0.0/1 via 198.51.100.2",
            "route {} 128.0.0.0/1 via 198.51.100.2",
        ],
        &[
            "route {} default via 198.51.100.2 table 51820",
            "rule {} not fwmark 0xca6c table 51820",
            // What is nearer than everything is found as ever.
            "rule {} table main suppress_prefixlength 0",
        ],
    ];
    for way in ways {
        way.iter()
            .for_each(|line| drop(run(&format!("ip {}", line.replace("{}", "add")))));
        wait_for("the VPN to be taken", || forwards("tun0"));
        pings("red", "192.0.2.7");
        way.iter()
            .for_each(|line| drop(run(&format!("ip {}", line.replace("{}", "del")))));
        wait_for("the VPN to be left", || !forwards("tun0"));
        pings("red", "203.0.113.2");
    }
    // Who names another interface is told that the host goes elsewhere.
    for line in ["set switch lab uplinks=tun0 -n", "set switch lab uplinks=tun0"] {
        let changes: Changes = lab.json(line);
        let told = changes.warnings.join("\n");
        assert!(
            told.contains("the host's way out is up0") && told.contains("\"lab\""),
            "{told}"
        );
    }
}
