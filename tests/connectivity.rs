//! Every kind of port reaches every other, with whatever the kernel's own protocols send.

use vswitch_testing::api::PortKind;
use vswitch_testing::{Lab, Station, transfer};

/// Two stations of each kind; of `internal` one, since two in one namespace would talk past the switch.
fn stations(lab: &Lab) -> Vec<Station> {
    use PortKind::*;
    let ports = [
        ("veth1", Veth),
        ("veth2", Veth),
        ("tap1", Tap),
        ("tap2", Tap),
        ("device1", Device),
        ("device2", Device),
        ("internal1", Internal),
    ];
    ports
        .iter()
        .zip(1..)
        .map(|(&(name, kind), n)| Station::add(lab, name, kind, n))
        .collect()
}

fn for_each_pair(stations: &[Station], mut f: impl FnMut(&Station, &Station, bool)) {
    for (i, a) in stations.iter().enumerate() {
        for b in &stations[i + 1..] {
            for v6 in [false, true] {
                eprintln!("{} - {} over IPv{}", a.port, b.port, if v6 { 6 } else { 4 });
                f(a, b, v6);
            }
        }
    }
}

#[test]
fn every_port_kind_answers_every_other() {
    let lab = Lab::new();
    for_each_pair(&stations(&lab), |a, b, v6| {
        a.ping(b.ip(v6));
        b.ping(a.ip(v6));
    });
}

#[test]
fn tcp_crosses_between_all_port_kinds_byte_for_byte() {
    let lab = Lab::new();
    for_each_pair(&stations(&lab), |a, b, v6| {
        transfer::tcp(a, b, v6, 16);
        transfer::tcp(b, a, v6, 1);
    });
}

#[test]
fn udp_crosses_between_all_port_kinds_byte_for_byte() {
    let lab = Lab::new();
    for_each_pair(&stations(&lab), |a, b, v6| transfer::udp(a, b, v6));
}

#[test]
fn udp_segmentation_offload_crosses_between_all_port_kinds() {
    let lab = Lab::new();
    for_each_pair(&stations(&lab), |a, b, v6| {
        transfer::udp_gso(a, b, v6);
        transfer::udp_gso(b, a, v6);
    });
}

#[test]
fn jumbo_frames_cross_where_the_mtu_allows_them() {
    let lab = Lab::new();
    use PortKind::*;
    let add = |(name, kind, n)| Station::add_with(&lab, name, kind, n, "--mtu 9000");
    let mut stations: Vec<_> = [("veth", Veth, 1), ("tap", Tap, 2), ("internal", Internal, 3)]
        .map(add)
        .into();
    let device = Station::add_with(&lab, "device", Device, 4, "--mtu 9000");
    device.place.run_ok("ip link set eth0 mtu 9000");
    stations.push(device);
    for_each_pair(&stations, |a, b, v6| {
        // 9000 less the headers of IP and ICMP; -M do: no fragments.
        let payload = if v6 { 9000 - 40 - 8 } else { 9000 - 20 - 8 };
        a.place
            .run_ok(&format!("ping -n -c 1 -W 10 -M do -s {payload} {}", b.ip(v6)));
        transfer::tcp(a, b, v6, 16);
    });
}

#[test]
fn several_switches_do_not_hear_each_other() {
    let lab = Lab::new();
    lab.ok("switch add left");
    lab.ok("switch add right");
    let a = Station::add_with(&lab, "a", PortKind::Veth, 1, "--switch left");
    let b = Station::add_with(&lab, "b", PortKind::Tap, 2, "--switch left");
    // The same addresses again on another switch are no conflict.
    let c = Station::add_with(&lab, "c", PortKind::Veth, 1, "--switch right");
    let d = Station::add_with(&lab, "d", PortKind::Tap, 3, "--switch right");
    a.ping(b.v4);
    c.ping(d.v4);
    assert!(!a.reaches(d.v4), "a frame went from one switch to another");
}

#[test]
fn a_cable_joins_two_namespaces_without_a_switch() {
    let lab = Lab::new();
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    lab.ok("ns exec red -- ping -n -c 1 -W 10 10.9.0.2");
    assert!(lab.ports().is_empty(), "a cable is no port");
    let cables: serde_json::Value = lab.json("cable list");
    assert_eq!(cables[0]["a"]["namespace"], "red");
    assert_eq!(cables[0]["b"]["namespace"], "blue");
    lab.ok("cable del red blue");
    assert_eq!(
        vswitch_testing::run("ip netns list"),
        "",
        "the namespaces were made for the cable and go with it"
    );
}
