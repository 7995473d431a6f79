//! VLANs (IEEE 802.1Q-2022): who gets a frame, and with which tag.

use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{SERVICE_VLAN_ETHERTYPE, VLAN_ETHERTYPE, mac, probe, tagged};
use vswitch_testing::{Lab, Observer, Station, run, transfer};

const ACCESS: [(&str, &str); 5] = [
    ("a10", "--vlan 10"),
    ("b10", "--vlan 10"),
    ("a20", "--vlan 20"),
    ("trunk", "--trunk 10,20-29 --native 20"),
    ("strict", "--trunk 10"),
];

fn c_tag(frame: &[u8], tci: u16) -> Vec<u8> {
    tagged(frame, VLAN_ETHERTYPE, tci)
}

#[test]
fn a_flood_stays_in_its_vlan_and_shows_it_where_a_trunk_is() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &ACCESS, &[Some(10), Some(20)]);
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.check(
        "a10",
        &frame,
        &[
            ("b10", frame.clone()),
            ("trunk", c_tag(&frame, 10)),
            ("strict", c_tag(&frame, 10)),
        ],
    );
    // VLAN 20 is the native one of the trunk.
    let frame = probe(Mac::BROADCAST, mac(1, 2), 2);
    net.check("a20", &frame, &[("trunk", frame.clone())]);
    let frame = probe(Mac::BROADCAST, mac(1, 3), 3);
    net.check("trunk", &frame, &[("a20", frame.clone())]);
    let ten = c_tag(&probe(Mac::BROADCAST, mac(1, 4), 4), 10);
    let bare = probe(Mac::BROADCAST, mac(1, 4), 4);
    net.check(
        "trunk",
        &ten,
        &[("a10", bare.clone()), ("b10", bare.clone()), ("strict", ten.clone())],
    );
    let drops = |port: &str, reason: &str| lab.port(port).counters.rx_drops.get(reason).copied().unwrap_or(0);
    // What the stack said before it was silenced had no tag.
    let before = drops("strict", "vlan-untagged");
    // VLAN 30 is not allowed, and nor is what has no VLAN on a trunk without a native one.
    net.check("trunk", &c_tag(&probe(Mac::BROADCAST, mac(1, 5), 5), 30), &[]);
    assert_eq!(drops("trunk", "vlan-filtered"), 1);
    net.check("strict", &probe(Mac::BROADCAST, mac(1, 6), 6), &[]);
    assert_eq!(drops("strict", "vlan-untagged"), before + 1);
    net.check("a10", &c_tag(&probe(Mac::BROADCAST, mac(1, 7), 7), 20), &[]);
    assert_eq!(drops("a10", "vlan-filtered"), 1);
}

#[test]
fn a_priority_tag_is_of_the_native_vlan_and_keeps_its_priority() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &ACCESS, &[Some(10), Some(20)]);
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.check(
        "a10",
        &c_tag(&frame, 5 << 13),
        &[
            ("b10", frame.clone()),
            ("trunk", c_tag(&frame, 5 << 13 | 10)),
            ("strict", c_tag(&frame, 5 << 13 | 10)),
        ],
    );
}

#[test]
fn the_same_address_in_two_vlans_is_two_stations() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &ACCESS, &[Some(10), Some(20)]);
    let station = mac(1, 1);
    net.send("a10", &[probe(Mac::BROADCAST, station, 1)]);
    net.send("a20", &[probe(Mac::BROADCAST, station, 2)]);
    let mut known: Vec<_> = lab
        .fdb("main")
        .into_iter()
        .filter(|entry| entry.mac == station)
        .map(|entry| (entry.vlan.map(|id| id.get()), entry.port.to_string()))
        .collect();
    known.sort();
    assert_eq!(known, [(Some(10), "a10".to_owned()), (Some(20), "a20".to_owned())]);
    let to = probe(station, mac(1, 9), 3);
    net.check("trunk", &to, &[("a20", to.clone())]);
    net.check("trunk", &c_tag(&to, 10), &[("a10", to.clone())]);
    // A static entry, and flushing, by VLAN.
    lab.ok(&format!("fdb add {} b10 --vlan 10", mac(1, 5)));
    let to = probe(mac(1, 5), mac(1, 8), 4);
    net.check("a10", &to, &[("b10", to.clone())]);
    lab.ok("fdb flush --vlan 20");
    let left = lab.fdb("main");
    assert!(
        left.iter().all(|entry| entry.vlan.map(|id| id.get()) != Some(20)),
        "{left:?}"
    );
    assert!(left.iter().any(|entry| entry.mac == station), "{left:?}");
}

#[test]
fn a_port_accepts_what_it_is_told_to() {
    let lab = Lab::with_one_worker();
    let ports = [
        ("a10", "--vlan 10"),
        ("plain", "--vlan 10 --accept untagged"),
        ("tags", "--trunk 10 --native 10 --accept tagged"),
    ];
    let mut net = Observer::new(&lab, &ports, &[Some(10)]);
    let drops = |port: &str, reason: &str| lab.port(port).counters.rx_drops.get(reason).copied().unwrap_or(0);
    // What the stack said before it was silenced had no tag.
    let before = drops("tags", "vlan-untagged");
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.check("plain", &c_tag(&frame, 10), &[]);
    net.check("plain", &frame, &[("a10", frame.clone()), ("tags", frame.clone())]);
    net.check("tags", &frame, &[]);
    net.check(
        "tags",
        &c_tag(&frame, 10),
        &[("a10", frame.clone()), ("plain", frame.clone())],
    );
    assert_eq!(
        (drops("plain", "vlan-tagged"), drops("tags", "vlan-untagged")),
        (1, before + 1)
    );
}

#[test]
fn a_tunnel_carries_whatever_tags_inside_its_own() {
    let lab = Lab::with_one_worker();
    let ports = [
        ("site1", "--tunnel 100"),
        ("site2", "--tunnel 100"),
        ("other", "--tunnel 200"),
        ("core", "--trunk 100,200 --tag service"),
    ];
    // The monitor's tags are customer tags, which in the core are payload: it is told apart by its own VLAN.
    let mut net = Observer::new(&lab, &ports, &[Some(100), Some(200)]);
    let inner = c_tag(&probe(Mac::BROADCAST, mac(1, 1), 1), 7);
    net.check(
        "site1",
        &inner,
        &[
            ("site2", inner.clone()),
            ("core", tagged(&inner, SERVICE_VLAN_ETHERTYPE, 100)),
        ],
    );
    net.check(
        "core",
        &tagged(&inner, SERVICE_VLAN_ETHERTYPE, 200),
        &[("other", inner.clone())],
    );
}

#[test]
fn the_settings_are_seen_kept_and_changed() {
    let mut lab = Lab::with_one_worker();
    lab.ok("add-port red --trunk 20-29,10 --native 1");
    lab.ok("add-port blue --vlan 10");
    let page = lab.ok("port show red");
    assert!(page.contains("trunk 10,20-29, native 1"), "{page}");
    lab.kill_daemon();
    lab.start();
    let vlan = |lab: &Lab, port: &str| serde_json::to_value(lab.port(port).port.vlan).unwrap();
    assert_eq!(vlan(&lab, "red")["trunk"]["allowed"], "10,20-29");
    assert_eq!(vlan(&lab, "blue")["access"], 10);
    lab.ok("set port blue --vlan all");
    assert_eq!(vlan(&lab, "blue"), "all");
    for (line, word) in [
        ("set port blue --vlan 4095", "1 to 4094"),
        ("set port blue --trunk 9-3", "backwards"),
        ("set port blue --accept tagged", "access, trunk or tunnel"),
    ] {
        lab.ctl(line).failed(2, &[word]);
    }
}

/// Tags are put in and taken out on large frames with checksums still to do.
#[test]
fn tcp_crosses_a_trunk_between_two_switches() {
    let lab = Lab::new();
    run("ip link add c1 up type veth peer name c2");
    run("ip link set c2 up");
    lab.ok("switch add far");
    let red = Station::add_with(&lab, "red", PortKind::Veth, 1, "--vlan 10");
    let blue = Station::add_with(&lab, "blue", PortKind::Tap, 2, "--vlan 10 --switch far");
    lab.ok("add-port c1 --type device --trunk 10,20");
    lab.ok("add-port c2 --type device --trunk 10,20 --switch far");
    for offload in ["on", "off"] {
        lab.ok(&format!("set port c1 --offload {offload}"));
        lab.ok(&format!("set port blue --offload {offload}"));
        for v6 in [false, true] {
            red.ping_soon(blue.ip(v6));
            transfer::tcp(&red, &blue, v6, 8);
            transfer::tcp(&blue, &red, v6, 8);
            transfer::udp(&red, &blue, v6);
            transfer::udp_gso(&red, &blue, v6);
        }
    }
}
