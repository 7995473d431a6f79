//! Ports that routers and VLAN devices part.

use super::*;

/// red - main - router - sw2 - blue
#[test]
fn a_router_between() {
    let lab = Lab::new();
    lab.ok("switch add sw2");
    lab.ok("add-port red --addr 10.1.0.1/24 --gateway 10.1.0.254");
    lab.ok("add-port blue --switch sw2 --addr 10.2.0.1/24 --gateway 10.2.0.254");
    lab.ok("add-port r1 --netns router --name eth0 --addr 10.1.0.254/24");
    lab.ok("add-port r2 --switch sw2 --netns router --name eth1 --addr 10.2.0.254/24");
    let well = "red reaches blue (v4)\n";
    let mend = |cause: &str| {
        let reply = lab.ctl(BROKEN);
        let report: Value = reply.json();
        assert!(
            reply.code == 1 && report["finding"]["cause"].as_str().unwrap().contains(cause),
            "{reply}"
        );
        play(&lab, report["finding"]["mend"].as_str().unwrap());
    };
    let router = Place::named("router");
    router.run_ok("sysctl -qw net.ipv4.ip_forward=0");
    mend("forwarding is off");
    is_well(&lab, well);
    lab.ok("route del blue default");
    mend("blue has no route to 10.1.0.1");
    is_well(&lab, well);
    router.run_ok("iptables -P FORWARD DROP");
    mend("firewall in namespace router");
    is_well(&lab, well);
    lab.ok("acl add r2 in deny icmp");
    mend("ACL");
    is_well(&lab, well);
    // The answer takes a cable, and what comes in by the port is not believed.
    lab.ok("cable red blue --addr-a 10.3.0.1/30 --addr-b 10.3.0.2/30 --name-a x --name-b x");
    Place::named("blue").run_ok("ip route add 10.1.0.1/32 via 10.3.0.1 dev x");
    Place::named("blue").run_ok("sysctl -qw net.ipv4.conf.eth0.rp_filter=1");
    mend("rp_filter");
    is_well(&lab, well);
}

/// What is broken, and what is to be named.
type Broken<'a> = (&'a [&'a str], &'a str);

/// As [`mended`], between any two ports.
#[track_caller]
fn mended_between(lab: &Lab, pair: &str, cases: &[Broken<'_>]) {
    let well = |round: usize| {
        let reply = lab.ctl(&format!("--json doctor {pair}"));
        let report: Value = reply.json();
        assert!(round > 0 || reply.code == 0, "{pair}: {reply}");
        report
    };
    well(0);
    for (breaks, cause) in cases {
        breaks.iter().for_each(|line| play(lab, line));
        for round in 1.. {
            let report = well(round);
            if report["ok"] == true {
                assert!(round > 1, "{breaks:?}: nothing is found: {report}");
                break;
            }
            let finding = &report["finding"];
            let text = finding["cause"].as_str().unwrap();
            assert!(round > 1 || text.contains(cause), "{breaks:?}: not {cause:?}: {report}");
            assert!(round < 4, "{breaks:?}: it is not mended: {report}");
            play(
                lab,
                finding["mend"].as_str().unwrap_or_else(|| panic!("no mend: {report}")),
            );
        }
    }
}

/// red has its addresses on VLAN devices, behind a trunk; none where the kernel has no such devices.
fn behind_a_trunk() -> Option<Lab> {
    let lab = Lab::new();
    if let Err(why) = linux::vlan_devices() {
        kernel_lacks("VLAN devices", why);
        return None;
    }
    lab.ok("add-port red --trunk 10,20");
    lab.ok("add-port blue --vlan 10 --addr 10.7.0.2/24");
    vlan_device_of_red(10, "10.7.0.1/24");
    Some(lab)
}

fn vlan_device_of_red(vid: u8, address: &str) {
    run(&format!(
        "ip -n red link add link eth0 name eth0.{vid} type vlan id {vid}"
    ));
    run(&format!("ip -n red addr add {address} dev eth0.{vid}"));
    run(&format!("ip -n red link set eth0.{vid} up"));
}

#[test]
fn vlan_devices_and_their_trunk() {
    let Some(lab) = behind_a_trunk() else { return };
    mended_between(
        &lab,
        "red blue",
        &[
            (
                &["ip -n red link set eth0.10 down"],
                "VLAN device eth0.10 of port red is down",
            ),
            (&["vswitchctl set port red --trunk 20"], "does not carry VLAN 10"),
            // What comes back without a tag arrives at eth0, where the stack takes it all the same, but for answers of ARP: as long as it knows
            // its neighbour, nothing is wrong.
            (
                &[
                    "vswitchctl set port red --trunk 10,20 --native 10",
                    "ip -n red neigh flush dev eth0.10",
                ],
                "native",
            ),
            (
                &["vswitchctl set port red --vlan 10", "ip -n red neigh flush dev eth0.10"],
                "have no tag",
            ),
            // Without a native VLAN it is refused.
            (
                &["vswitchctl set port red --trunk 10,20 --native 5 --accept untagged"],
                "untagged frames only",
            ),
        ],
    );
}

#[test]
fn vlan_devices_and_the_other_end() {
    let Some(lab) = behind_a_trunk() else { return };
    mended_between(
        &lab,
        "red blue",
        &[
            (&["vswitchctl set port blue --vlan 20"], "not in the same VLAN"),
            (&["ip -n red link set eth0.10 mtu 1400"], "MTU"),
            (&["vswitchctl acl add red in deny icmp"], "ACL"),
            (
                &["ip -n blue neigh replace 10.7.0.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent"],
                "wrong MAC",
            ),
        ],
    );
}

#[test]
fn vlan_devices_of_a_router() {
    let Some(lab) = behind_a_trunk() else { return };
    vlan_device_of_red(20, "10.8.0.1/24");
    lab.ok("ns exec red sysctl -qw net.ipv4.ip_forward=1");
    lab.ok("add-port green --vlan 20 --addr 10.8.0.2/24 --gateway 10.8.0.1");
    lab.ok("route add blue 10.8.0.0/24 --via 10.7.0.1");
    mended_between(
        &lab,
        "blue green",
        &[
            (&["vswitchctl set port red --trunk 10"], "does not carry VLAN 20"),
            (
                &["ip -n red link set eth0.20 down"],
                "VLAN device eth0.20 of port red is down",
            ),
            (&["ip netns exec red sysctl -qw net.ipv4.ip_forward=0"], "forwarding"),
        ],
    );
}

#[test]
fn the_gateways_of_two_switches_keep_them_apart() {
    let lab = Lab::new();
    for (switch, port, subnet) in [("one", "red", "10.1.0.0/24"), ("two", "blue", "10.2.0.0/24")] {
        lab.ok(&format!("switch add {switch} --subnet {subnet} --gateway --nat"));
        lab.ok(&format!("add-port {port} --switch {switch} --addr auto"));
    }
    let reply = lab.ctl("--json doctor red blue");
    let report: Value = reply.json();
    let cause = report["finding"]["cause"].as_str().unwrap_or_default();
    assert!(
        reply.code == 1 && cause.contains("keeps switches one and two apart"),
        "{reply}"
    );
}

/// The route was named that the host would not follow.
#[test]
fn switches_that_are_kept_apart_are_told_before_a_route_that_leads_nowhere() {
    let lab = Lab::new();
    for (switch, port, net) in [("one", "red", "10.1.0"), ("two", "blue", "10.2.0")] {
        lab.ok(&format!("switch add {switch} --subnet {net}.0/24 --gateway --nat"));
        lab.ok(&format!("add-port {port} --switch {switch} --addr {net}.9/24"));
    }
    let report: Value = lab.ctl("--json doctor red blue").json();
    let cause = report["finding"]["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("keeps switches one and two apart"), "{report}");
}

/// What mended these took the pins away, or told nothing.
#[test]
fn a_mac_address_that_is_not_the_own_one() {
    let lab = pair("");
    lab.ok("set port red pin.mac=own");
    run("ip -n red link set eth0 address 02:aa:00:00:00:01");
    wait_for("the daemon to see it", || lab.port("red").reason.is_some());
    let report: Value = lab.ctl(BROKEN).json();
    assert_eq!(report["finding"]["mend"], "vswitchctl set port red --up", "{report}");
    lab.ok("set port red --up");
    is_well(&lab, WELL);
    // A locked port is told of its station, and stays locked.
    lab.ok("set port red --vlan 10 --locked on");
    lab.ok("set port blue --vlan 10");
    lab.ok("fdb flush");
    let report: Value = lab.ctl(BROKEN).json();
    let mend = report["finding"]["mend"].as_str().unwrap();
    assert!(
        mend.starts_with("vswitchctl fdb add ") && mend.ends_with(" red --vlan 10"),
        "{report}"
    );
    play(&lab, mend);
    is_well(&lab, WELL);
}

/// What was named was a trace, which failed.
#[test]
fn ends_of_a_link_with_other_vlans() {
    let lab = pair("--switch sw2");
    lab.ok("link add main sw2");
    is_well(&lab, WELL);
    for breaks in ["set port main-sw2 --vlan 10", "set port sw2-main --trunk 10,20"] {
        let breaks = format!("vswitchctl {breaks}");
        mended(&lab, &[breaks.as_str()], "have other VLAN settings");
    }
}

/// Of routers' ports nothing was looked at, so that nothing was seen to be wrong.
#[test]
fn the_ports_of_a_router() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.1.0.1/24 --gateway 10.1.0.254");
    lab.ok("add-port blue --addr 10.2.0.1/24 --gateway 10.2.0.254");
    lab.ok("add-port r1 --netns r --addr 10.1.0.254/24");
    lab.ok("add-port r2 --netns r --name eth1 --addr 10.2.0.254/24");
    lab.ok("set ns r net.ipv4.ip_forward=1");
    let flush = ["red", "r", "blue"].map(|name| format!("ip -n {name} neigh flush all"));
    let [red, r, blue] = [&*flush[0], &*flush[1], &*flush[2]];
    mended_between(
        &lab,
        "red blue",
        &[
            (&["vswitchctl set port r2 --down"], "port r2 is set down"),
            (&["vswitchctl set port r1 --down"], "port r1 is set down"),
            (
                &["vswitchctl impair r2 --loss 100%"],
                "impairment of port r2 loses 100%",
            ),
            (&["ip -n r link set eth1 down"], "interface eth1 of port r2 is down"),
            (
                &["ip -n r link set eth1 arp off", red, r, blue],
                "interface eth1 of port r2 does no ARP",
            ),
            (&["ip -n r addr flush dev eth1"], "r2 lacks its address 10.2.0.254/24"),
            (
                &["vswitchctl addr flush r2"],
                "port r2, by which r1 is to pass packets on to 10.2.0.1",
            ),
            (
                &["vswitchctl addr flush r1"],
                "10.1.0.254, which port r1 of a router does not have",
            ),
            (
                &["ip netns exec r sysctl -qw net.ipv4.conf.eth1.forwarding=0"],
                "forwarding is off",
            ),
        ],
    );
}

#[test]
fn a_gateway_that_is_down_between_two() {
    let lab = Lab::new();
    for (switch, port, subnet) in [("one", "red", "10.1.0.0/24"), ("two", "blue", "10.2.0.0/24")] {
        lab.ok(&format!("switch add {switch} --subnet {subnet} --gateway"));
        lab.ok(&format!("add-port {port} --switch {switch} --addr auto"));
    }
    run("sysctl -qw net.ipv4.ip_forward=1");
    mended_between(
        &lab,
        "red blue",
        &[
            (&["vswitchctl set port two-gw --down"], "port two-gw is set down"),
            (&["vswitchctl set port one-gw --down"], "port one-gw is set down"),
        ],
    );
}

/// A trace was named, which shows and mends nothing.
#[test]
fn links_that_do_not_take_what_is_said() {
    let lab = pair("--switch sw2");
    lab.ok("link add main sw2");
    let flush = ["ip -n red neigh flush all", "ip -n blue neigh flush all"];
    let link = |breaks: &[&str], cause: &str| {
        mended(&lab, &[breaks, &flush, &["vswitchctl fdb flush"]].concat(), cause);
    };
    link(
        &["vswitchctl link set main-sw2 --trunk 10"],
        "link main-sw2 carries VLANs alone",
    );
    link(
        &["vswitchctl set port main-sw2 --flood none"],
        "port main-sw2 gets no floods",
    );
    link(
        &[
            "vswitchctl set port red --isolation isolated",
            "vswitchctl set port main-sw2 --isolation isolated",
        ],
        "isolated",
    );
    lab.ok("set port red --isolation promiscuous");
    link(
        &[
            "vswitchctl set port sw2-main --isolation isolated",
            "vswitchctl set port blue --isolation isolated",
        ],
        "isolated",
    );
    // From one VLAN to another.
    link(
        &[
            "vswitchctl set port main-sw2 --vlan 10",
            "vswitchctl set port sw2-main --vlan 30",
            "vswitchctl set port red --vlan 10",
            "vswitchctl set port blue --vlan 20",
        ],
        "blue is not in the VLAN of its switch that link sw2-main leads from",
    );
}
