//! BIG TCP: TCP frames above 64 KiB over IPv4 between veth ports as long as the kernel carries them, whole or cut everywhere else,
//! and never with other bytes. Over IPv6 they are as long as without.

use std::thread;
use std::time::Duration;

use vswitch_testing::api::PortKind;
use vswitch_testing::fastpath::{counters, lab_with};
use vswitch_testing::transfer::{self, TcpPair};
use vswitch_testing::{Lab, Place, Station, linux, run, wait_for};

/// The longest frame that there was before BIG TCP, with its Ethernet header.
const USUAL: usize = 65_535 + 14;

/// Waits until the port has TCP frames above 64 KiB, or has them no more.
#[track_caller]
fn wait_until_big(lab: &Lab, port: &str, big: bool) {
    wait_for("the size of TCP frames to change", || lab.port(port).big_tcp == big);
}

#[test]
fn tcp_crosses_in_frames_above_64_kib_in_the_kernel() {
    let Some((lab, stations)) = lab_with(2) else { return };
    stations
        .iter()
        .for_each(|station| wait_until_big(&lab, &station.port, true));
    for v6 in [false, true] {
        let pair = TcpPair::connect(&stations[0], &stations[1], v6);
        let longest = pair.longest(&stations[1], 400);
        // Linux has them over IPv4 since 6.3.
        let possible = !v6 && linux::at_least(6, 3);
        assert_eq!(longest > USUAL, possible, "IPv{}: {longest}", if v6 { 6 } else { 4 });
    }
    for station in &stations {
        let c = counters(&lab, station);
        assert!(c.rx_fastpath * 10 > c.rx_frames * 9, "most pass the daemon: {c:?}");
    }
}

#[test]
fn a_port_with_a_smaller_mtu_gets_segments_that_fit() {
    let Some((lab, stations)) = lab_with(1) else { return };
    let small = Station::add_with(&lab, "small", PortKind::Veth, 9, "--mtu 1300");
    wait_until_big(&lab, "small", true);
    for v6 in [false, true] {
        transfer::tcp(&stations[0], &small, v6, 100);
    }
    assert_eq!(counters(&lab, &small).tx_drops.values().sum::<u64>(), 0);
}

#[test]
fn a_port_that_the_kernel_does_not_reach_takes_it_from_all_of_its_switch() {
    let Some((lab, stations)) = lab_with(2) else { return };
    lab.ok("switch add second");
    Station::add_with(&lab, "other", PortKind::Veth, 9, "--switch second");
    wait_until_big(&lab, "other", true);
    for (n, kind) in [(3, PortKind::Tap), (4, PortKind::Internal), (5, PortKind::Device)] {
        wait_until_big(&lab, "v1", true);
        // Begun with large frames: it keeps them.
        let old = TcpPair::connect(&stations[0], &stations[1], n % 2 == 0);
        old.exchange(20);
        let added = Station::add(&lab, "added", kind, n);
        wait_until_big(&lab, "v1", false);
        assert!(lab.port("other").big_tcp, "another switch");
        for v6 in [false, true] {
            transfer::tcp(&stations[0], &added, v6, 50);
            transfer::tcp(&added, &stations[1], v6, 50);
            let pair = TcpPair::connect(&stations[0], &stations[1], v6);
            let longest = pair.longest(&stations[1], 400);
            assert!(longest <= USUAL, "{longest}");
        }
        old.exchange(50);
        lab.ok("del-port added");
        if kind == PortKind::Device {
            run("ip link del added");
        }
    }
}

/// The kernel puts customer tags in and takes them out, and no others. (`tests/fastpath_vlan.rs` has trunks.)
#[test]
fn a_port_with_service_tags_takes_it_from_a_switch_with_vlans() {
    let Some((lab, stations)) = lab_with(2) else { return };
    for port in ["v1", "v2"] {
        lab.ok(&format!("set port {port} --vlan 10"));
    }
    lab.ok("add-port trunk --trunk 10,20 --native 1");
    wait_until_big(&lab, "v1", true);
    let pair = TcpPair::connect(&stations[0], &stations[1], false);
    let longest = pair.longest(&stations[1], 400);
    assert!(longest > USUAL, "{longest}");
    for vlan in ["--trunk 10 --tag service", "--tunnel 10"] {
        lab.ok(&format!("set port trunk {vlan}"));
        wait_until_big(&lab, "v1", false);
        lab.ok("set port trunk --vlan 10");
        wait_until_big(&lab, "v1", true);
    }
}

/// Whoever gives the interface in the namespace large frames himself: nothing is lost by it.
#[test]
fn large_frames_that_come_to_the_daemon_are_cut_not_truncated() {
    let Some((lab, stations)) = lab_with(2) else { return };
    let tap = Station::add(&lab, "tap", PortKind::Tap, 8);
    let plain = Station::add_with(&lab, "plain", PortKind::Veth, 9, "--no-offload");
    wait_until_big(&lab, "v1", false);
    stations[0].place.run_ok("ip link set eth0 gso_max_size 185000");
    for to in [&stations[1], &tap, &plain] {
        transfer::tcp(&stations[0], to, true, 50);
        transfer::tcp(&stations[0], to, false, 50);
    }
}

#[test]
fn what_needs_the_daemon_comes_and_goes_in_mid_stream() {
    let Some((lab, stations)) = lab_with(3) else { return };
    wait_until_big(&lab, "v1", true);
    let pairs = [false, true].map(|v6| TcpPair::connect(&stations[0], &stations[1], v6));
    let toggles = [
        ("mirror add m --from v2 --to v3", "mirror del m"),
        ("set port v1 --offload off", "set port v1 --offload on"),
        ("acl add v2 in permit udp", "acl clear v2"),
        ("add-port tap --type tap", "del-port tap"),
    ];
    thread::scope(|scope| {
        let flows = pairs.each_ref().map(|pair| scope.spawn(|| pair.exchange(800)));
        let mut rounds = 0;
        while rounds < 2 || !flows.iter().all(|flow| flow.is_finished()) {
            for (on, off) in toggles {
                lab.ok(on);
                thread::sleep(Duration::from_millis(30));
                lab.ok(off);
                thread::sleep(Duration::from_millis(30));
            }
            lab.ok("capture v2 --duration 0.1 -w /dev/null");
            rounds += 1;
        }
    });
    wait_until_big(&lab, "v1", true);
    let c = counters(&lab, &stations[0]);
    assert!(c.rx_fastpath > 0 && c.rx_fastpath < c.rx_frames, "one way only: {c:?}");
}

#[test]
fn a_daemon_without_it_takes_it_from_the_ports_it_finds() {
    let Some((mut lab, stations)) = lab_with(2) else { return };
    let pair = TcpPair::connect(&stations[0], &stations[1], true);
    for (key, on) in [
        ("big_tcp", true),
        ("big_tcp", false),
        ("big_tcp", true),
        ("fastpath", false),
    ] {
        lab.kill_daemon();
        lab.set_datapath(key, on);
        lab.start();
        wait_until_big(&lab, "v1", on);
        assert_eq!(size_over_ipv6(&stations[0].place, "eth0"), 65_536);
        assert_eq!(size_over_ipv6(&Place::daemons_own(), "v1"), 65_536);
        assert_eq!(lab.ok("port show v1").contains("TCP frames above 64 KiB"), on);
        pair.exchange(100);
    }
}

/// Up to how many bytes an interface is given frames of TCP over IPv6. (What it is over IPv4 Debian's `ip` does not tell.)
fn size_over_ipv6(place: &Place, name: &str) -> u64 {
    let links: serde_json::Value = serde_json::from_str(&place.run_ok(&format!("ip -j -d link show {name}"))).unwrap();
    links[0]["gso_max_size"].as_u64().unwrap()
}

/// A daemon of before has left large frames over IPv6 as well.
#[test]
fn sizes_that_an_earlier_daemon_left_are_brought_up_to_date() {
    let Some((mut lab, stations)) = lab_with(2) else { return };
    wait_until_big(&lab, "v1", true);
    lab.kill_daemon();
    for (place, name) in [(&stations[0].place, "eth0"), (&Place::daemons_own(), "v1")] {
        place.run_ok(&format!("ip link set {name} gso_max_size 185000 gro_max_size 185000"));
    }
    lab.start();
    wait_until_big(&lab, "v1", true);
    wait_for("frames over IPv6 to be as long as without", || {
        size_over_ipv6(&stations[0].place, "eth0") == 65_536 && size_over_ipv6(&Place::daemons_own(), "v1") == 65_536
    });
}

/// Guards against a stall: a stack that forwards counts the jumbo header of an IPv6 frame above 64 KiB against the MTU, and then
/// loses the frame. Between two switches, and between two VLANs of one.
#[test]
fn tcp_crosses_a_station_that_forwards() {
    let Some((lab, _)) = lab_with(0) else { return };
    lab.ok("switch add second");
    for (n, left, right) in [(1, "--switch main", "--switch second"), (2, "--vlan 10", "--vlan 20")] {
        let [client, router, server] = ["c", "r", "s"].map(|name| format!("{name}{n}"));
        lab.ok(&format!(
            "add-port {client} {left} --addr 10.8.{n}1.1/24 --addr fd08:{n}1::1/64 --gateway 10.8.{n}1.2 --gateway fd08:{n}1::2"
        ));
        lab.ok(&format!(
            "add-port {server} {right} --addr 10.8.{n}2.1/24 --addr fd08:{n}2::1/64 --gateway 10.8.{n}2.2 --gateway fd08:{n}2::2"
        ));
        let place = Place::named(&router);
        lab.ok(&format!(
            "add-port {router} {left} --addr 10.8.{n}1.2/24 --addr fd08:{n}1::2/64"
        ));
        lab.ok(&format!(
            "add-port {router}b {right} --netns {router} --name eth1 --addr 10.8.{n}2.2/24 --addr fd08:{n}2::2/64"
        ));
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            place
                .run(|| std::fs::write(format!("/proc/sys/net/{path}"), "1"))
                .unwrap();
        }
        for port in [&client, &server, &router, &format!("{router}b")] {
            wait_until_big(&lab, port, true);
        }
        let end = |name: &str, subnet| Station {
            port: name.to_owned(),
            place: Place::named(name),
            ifname: "eth0".into(),
            v4: format!("10.8.{n}{subnet}.1").parse().unwrap(),
            v6: format!("fd08:{n}{subnet}::1").parse().unwrap(),
        };
        let (client, server) = (end(&client, 1), end(&server, 2));
        for v6 in [false, true] {
            client.ping_soon(server.ip(v6));
            transfer::tcp(&client, &server, v6, 400);
        }
        let fragments = place
            .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp6"))
            .unwrap();
        let fails = fragments.lines().find(|line| line.starts_with("Ip6FragFails"));
        assert_eq!(
            fails.and_then(|line| line.split_whitespace().nth(1)),
            Some("0"),
            "{fragments}"
        );
    }
}
