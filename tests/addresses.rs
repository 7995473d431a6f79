//! Addresses and routes: what a lab needs to talk, and what would keep it from talking.

use std::net::IpAddr;
use std::time::Instant;

use etherparse::{EtherType, SlicedPacket};
use vswitch_testing::api::view::{AddressView, Changes, PortState};
use vswitch_testing::api::{IfAddr, Mac, PortKind};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{DEADLINE, Lab, Place, Station, run};

#[test]
fn an_address_without_prefix_is_refused_with_the_reason_and_a_remedy() {
    let lab = Lab::new();
    lab.ctl("add-port red --addr 192.168.15.1")
        .failed(2, &["no route to its neighbours", "try 192.168.15.1/24"]);
    lab.ctl("add-port red --addr fd00::1").failed(2, &["try fd00::1/64"]);
    assert_eq!(run("ip netns list"), "");
    lab.ok("add-port red");
    lab.ctl("addr add red 192.168.15.1").failed(2, &["try 192.168.15.1/24"]);
}

#[test]
fn an_address_that_the_switch_has_already_is_refused() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --addr fd07::1/64");
    lab.ctl("add-port blue --addr 10.7.0.1/24")
        .failed(5, &["10.7.0.1", "red"]);
    assert!(
        !run("ip netns list").contains("blue"),
        "nothing is left of the refused port"
    );
    lab.ok("add-port blue --addr 10.7.0.2/24");
    lab.ctl("addr add blue 10.7.0.1/16").failed(5, &["10.7.0.1", "red"]);
    lab.ctl("addr add blue fd07::1/64").failed(5, &["fd07::1", "red"]);
    lab.ok("switch add other");
    lab.ok("add-port green --switch other --addr 10.7.0.1/24");
}

#[test]
fn an_address_outside_the_others_subnet_is_taken_with_a_warning() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    let changes: Changes = lab.json("add-port blue --addr 10.8.0.2/24");
    assert!(
        changes
            .warnings
            .iter()
            .any(|w| w.contains("10.8.0.2") && w.contains("subnet")),
        "{changes:?}"
    );
    let changes: Changes = lab.json("addr add blue 10.7.0.2/24");
    assert!(changes.warnings.is_empty(), "{changes:?}");
    let changes: Changes = lab.json("addr add blue fd07::2/64");
    assert!(changes.warnings.is_empty(), "the first of its family: {changes:?}");
}

#[test]
fn addresses_are_added_listed_deleted_and_flushed() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24");
    lab.ok("addr add red fd07::1/64");
    lab.ok("addr add blue fd07::2/64");
    lab.ok("ns exec red -- ping -n -c 1 -W 10 fd07::2");
    let list: Vec<AddressView> = lab.json("addr list");
    let list: Vec<_> = list
        .iter()
        .map(|view| format!("{} {}", view.port, view.address))
        .collect();
    for line in [
        "red 10.7.0.1/24",
        "red fd07::1/64",
        "blue 10.7.0.2/24",
        "blue fd07::2/64",
    ] {
        assert!(list.contains(&line.to_owned()), "{list:?}");
    }
    lab.ctl("addr add red 10.7.0.1/24").failed(5, &["10.7.0.1", "red"]);
    lab.ok("addr del red 10.7.0.1/24");
    lab.ctl("addr del red 10.7.0.1/24").failed(4, &["10.7.0.1", "red"]);
    let links = Place::named("red").run_ok("ip -br addr show eth0");
    assert!(!links.contains("10.7.0.1") && links.contains("fd07::1"), "{links}");
    lab.ok("addr flush blue");
    let links = Place::named("blue").run_ok("ip -br addr show eth0 scope global");
    assert!(!links.contains("10.7.0.2") && !links.contains("fd07::2"), "{links}");
}

#[test]
fn ipv6_that_is_turned_off_inside_is_in_the_way_of_new_addresses_only() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    let routed = "add-port green --addr 10.7.0.3/24 --addr fd07::3/64 --gateway fd07::1";
    lab.ok(routed);
    let green = Place::named("green");
    for place in [&red.place, &blue.place, &green] {
        place.run_ok("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    }
    for port in ["red", "blue", "green"] {
        lab.ok(&format!("set port {port} --down"));
        lab.ok(&format!("set port {port} --up --mtu 1400"));
        lab.ctl(&format!("addr add {port} fd07::9/64"))
            .failed(1, &[port, "fd07::9/64", "IPv6 is disabled", "disable_ipv6=0"]);
        assert_eq!(lab.port(port).port.addresses.len(), 2);
    }
    lab.stop_daemon();
    lab.start();
    assert!(
        lab.ports().iter().all(|port| port.state == PortState::Up),
        "{:#?}",
        lab.ports()
    );
    red.ping_soon(blue.v4);
}

/// As Docker leaves a container without a network: IPv6 is off for all interfaces that are to come.
#[test]
fn a_new_interface_has_the_ipv6_addresses_that_it_is_to_have() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    run("ip netns add box");
    let place = Place::named("box");
    place.run_ok("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    for (kind, n) in [("veth", 2), ("tap", 3)] {
        let ifname = format!("{kind}0");
        lab.ok(&format!(
            "add-port {kind} --type {kind} --netns box --name {ifname} --addr fd07::{n}/64"
        ));
        red.ping_soon(format!("fd07::{n}").parse::<std::net::Ipv6Addr>().unwrap());
        // One that is made again too.
        place.run_ok(&format!("ip link del {ifname}"));
        lab.wait_for_state(kind, PortState::Up);
        red.ping_soon(format!("fd07::{n}").parse::<std::net::Ipv6Addr>().unwrap());
        lab.ok(&format!("del-port {kind}"));
    }
    // What asks for none has none, and the others stay as they were.
    lab.ok("add-port plain --netns box --name plain0 --addr 10.7.0.4/24");
    assert_eq!(place.run_ok("sysctl -n net.ipv6.conf.plain0.disable_ipv6"), "1\n");
    assert_eq!(place.run_ok("sysctl -n net.ipv6.conf.default.disable_ipv6"), "1\n");
}

#[test]
fn a_gateway_leads_out_of_the_subnet() {
    let lab = Lab::new();
    lab.ok("add-port gw --type internal --addr 10.7.0.254/24 --addr fd07::fe/64");
    run("ip addr add 10.99.0.1/32 dev lo");
    run("ip addr add fd99::1/128 dev lo");
    lab.ok("add-port red --addr 10.7.0.1/24 --addr fd07::1/64 --gateway 10.7.0.254 --gateway fd07::fe");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24 --addr fd07::2/64");
    for address in ["10.99.0.1", "fd99::1"] {
        lab.ok(&format!("ns exec red -- ping -n -c 1 -W 10 {address}"));
    }
    lab.ok("route add blue default --via 10.7.0.254");
    lab.ok("route add blue fd99::/16 --via fd07::fe");
    for address in ["10.99.0.1", "fd99::1"] {
        lab.ok(&format!("ns exec blue -- ping -n -c 1 -W 10 {address}"));
    }
    lab.ok("route del blue default");
    let routes = Place::named("blue").run_ok("ip route");
    assert!(!routes.contains("default"), "{routes}");
    lab.ctl("route del blue default").failed(4, &["blue"]);
    lab.ctl("route add blue default --via 10.66.0.1")
        .failed(2, &["10.66.0.1"]);
}

#[test]
fn an_address_announces_itself() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    for (kind, n) in [(PortKind::Veth, 2), (PortKind::Tap, 3), (PortKind::Internal, 4)] {
        let name = kind.word();
        let wire = red.raw(false);
        let station = Station::add(&lab, name, kind, n);
        await_announcements(&wire, &station, &[&format!("10.7.0.{n}/24"), &format!("fd07::{n}/64")]);
        let wire = red.raw(false);
        lab.ok(&format!("addr add {name} 10.7.1.{n}/24"));
        await_announcements(&wire, &station, &[&format!("10.7.1.{n}/24")]);
    }
}

/// RFC 5227, 1.1: an ARP request in which sender and target are the new address.
/// RFC 4861, 7.2.6: an unsolicited neighbour advertisement with the override flag to all nodes.
///
/// In any order: the first frame of a station passes the daemon, one that follows at once may overtake it in the kernel.
fn await_announcements(wire: &RawSocket, from: &Station, addresses: &[&str]) {
    let mac = from.mac();
    let mut left: Vec<_> = addresses
        .iter()
        .map(|address| address.parse::<IfAddr>().unwrap().ip())
        .collect();
    let end = Instant::now() + DEADLINE;
    while let Some(frame) = wire.recv(end) {
        let bytes = &frame.bytes;
        if bytes[6..12] != mac.0 {
            continue;
        }
        left.retain(|ip| !announces(bytes, mac, *ip));
        if left.is_empty() {
            return;
        }
    }
    panic!("no announcement of {left:?} by {mac} was seen");
}

fn announces(bytes: &[u8], mac: Mac, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            bytes[..6] == [0xff; 6]
                && bytes[12..14] == EtherType::ARP.0.to_be_bytes()
                && bytes[20..22] == [0, 1]
                && bytes[22..28] == mac.0
                && bytes[28..32] == ip.octets()
                && bytes[38..42] == ip.octets()
        }
        IpAddr::V6(ip) => {
            let packet = SlicedPacket::from_ethernet(bytes).unwrap();
            let Some(etherparse::TransportSlice::Icmpv6(icmp)) = packet.transport else {
                return false;
            };
            let body = icmp.slice();
            // Type 136, override flag, the target, option 2: target link-layer address.
            body[0] == 136
                && body[4] & 0x20 != 0
                && body[8..24] == ip.octets()
                && body[24..26] == [2, 1]
                && body[26..32] == mac.0
        }
    }
}

#[test]
fn a_reused_address_works_at_once() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let old = Station::add(&lab, "old", PortKind::Veth, 2);
    red.ping(old.v4);
    red.ping(old.v6);
    for kind in [PortKind::Tap, PortKind::Veth] {
        lab.ok("del-port old");
        let new = Station::add(&lab, "old", kind, 2);
        // One request each; red still remembers the old MAC unless it was told.
        red.ping(new.v4);
        red.ping(new.v6);
    }
    // The same when the address moves between ports that both stay.
    let other = Station::add(&lab, "other", PortKind::Tap, 3);
    red.ping(other.v4);
    lab.ok("addr del old 10.7.0.2/24");
    lab.ok("addr add other 10.7.0.2/24");
    red.ping(old.v4);
}

/// Only what was lacking on a port that is there was fine.
#[test]
fn what_is_lacking_as_a_whole_is_fine_if_it_is_to_go() {
    let lab = Lab::new();
    for line in [
        "addr del gone 10.7.0.1/24",
        "route del gone 10.8.0.0/16",
        "acl del gone in 1",
        "publish del gone 8080:80",
        "fdb del 02:00:00:00:00:01 --switch gone",
    ] {
        lab.ctl(line).failed(4, &["gone"]);
        lab.ok(&format!("{line} --if-exists"));
    }
    // Of what is to come all has to be there.
    lab.ctl("add-port x --switch gone --addr auto")
        .failed(4, &["switch \"gone\"", "no such switch"]);
}
