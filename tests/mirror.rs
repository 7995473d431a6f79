//! Mirrors: what arrives at the destination, and what does not.

use std::time::Instant;

use vswitch_testing::api::mirror::MirrorView;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::ctl::tool;
use vswitch_testing::frame::{VLAN_ETHERTYPE, mac, probe, probe_id, tagged};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{DEADLINE, Lab, Place, Station, Wire, run, transfer, wait_for};

const KINDS: [&str; 4] = ["veth", "tap", "device", "internal"];

/// One of each, silent, every one with a station behind it: n at the n-th port.
fn lab() -> (Lab, Vec<Station>, Wire) {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    for (n, port) in KINDS.into_iter().enumerate() {
        wire.send(port, &[probe(Mac::BROADCAST, station(n), 0)]);
    }
    (lab, stations, wire)
}

fn station(n: usize) -> Mac {
    mac(1, n as u32)
}

/// Frames from station to station, so that nothing is flooded.
fn frames(from: usize, to: usize, first: u32) -> Vec<Vec<u8>> {
    let plain: Vec<_> = (first..first + 5)
        .map(|id| probe(station(to), station(from), id))
        .collect();
    [plain.clone(), vec![tagged(&plain[0], VLAN_ETHERTYPE, 7)]].concat()
}

fn mirror(lab: &Lab) -> MirrorView {
    lab.json("mirror show m")
}

#[test]
fn each_way_is_mirrored_frame_for_frame() {
    let (lab, _stations, wire) = lab();
    // To each kind of port once.
    for (n, to) in KINDS.into_iter().enumerate() {
        let (red, blue) = ((n + 1) % 4, (n + 2) % 4);
        let (red_port, blue_port) = (KINDS[red], KINDS[blue]);
        for (way, red_sends, red_gets) in [("rx", true, false), ("tx", false, true), ("both", true, true)] {
            lab.ok(&format!("mirror add m --from {red_port} --direction {way} --to {to}"));
            let (there, back) = (frames(red, blue, 10), frames(blue, red, 20));
            let copies = |on| if on { vec![to] } else { vec![] };
            there.iter().for_each(|frame| wire.at(red_port).send(frame));
            expect(&wire, blue_port, &there, &copies(red_sends));
            back.iter().for_each(|frame| wire.at(blue_port).send(frame));
            expect(&wire, red_port, &back, &copies(red_gets));
            let expected = there.len() * (usize::from(red_sends) + usize::from(red_gets));
            assert_eq!(mirror(&lab).frames, expected as u64, "{way} at {red_port} to {to}");
            lab.ok("mirror del m");
        }
    }
}

/// What was sent arrived at `port`, and a copy of it at `copies`.
#[track_caller]
fn expect(wire: &Wire, port: &str, frames: &[Vec<u8>], copies: &[&str]) {
    for port in copies.iter().copied().chain([port]) {
        let mut left = frames.to_vec();
        while !left.is_empty() {
            let frame = wire.at(port).recv(Instant::now() + DEADLINE);
            let frame = frame.unwrap_or_else(|| panic!("{} frames never came to {port}", left.len()));
            left.retain(|expected| *expected != frame.bytes);
        }
    }
}

#[test]
fn a_frame_is_copied_once_however_many_ports_it_passes() {
    let (lab, _stations, wire) = lab();
    lab.ok("mirror add m --to internal");
    let before = mirror(&lab).frames;
    wire.at("veth").send(&probe(Mac::BROADCAST, station(0), 1));
    wire.at("veth").send(&probe(station(1), station(0), 2));
    wait_for("the copies", || mirror(&lab).frames - before >= 2);
    assert_eq!(mirror(&lab).frames - before, 2);
    assert_eq!(mirror(&lab).bytes % 60, 0);
    assert!(lab.port("veth").counters.mirror_copies >= 2);
    let shown = lab.ok("show");
    assert!(shown.contains("mirror m: all both to internal, active"), "{shown}");
    // It is the same mirror with another setting.
    let copied = mirror(&lab).frames;
    lab.ok("mirror set m --direction in");
    assert!(mirror(&lab).frames >= copied);
    lab.ok("mirror set m --from tap,veth");
    lab.ok("mirror set m --from default");
    assert_eq!(mirror(&lab).mirror.ports, []);
}

#[test]
fn a_destination_carries_copies_only() {
    let (lab, stations, _) = lab();
    lab.ok("mirror add m --from veth --to tap");
    assert!(lab.fdb("main").iter().all(|entry| entry.port.as_str() != "tap"));
    let tx_before = lab.port("veth").counters.tx_frames;
    let tap = stations[1].raw(false);
    let device = stations[2].raw(false);
    tap.send(&probe(Mac::BROADCAST, station(1), 1));
    device.send(&probe(Mac::BROADCAST, station(2), 2));
    device.send(&probe(station(1), station(2), 3));
    wait_for("the drop", || {
        lab.port("tap")
            .counters
            .rx_drops
            .get("mirror-port")
            .is_some_and(|n| *n > 0)
    });
    wait_for("the floods", || lab.port("internal").counters.tx_frames > 0);
    assert!(lab.fdb("main").iter().all(|entry| entry.port.as_str() != "tap"));
    assert_eq!(mirror(&lab).frames, lab.port("veth").counters.tx_frames - tx_before);
    lab.ok("mirror del m");
    let sent = lab.port("tap").counters.tx_frames;
    device.send(&probe(Mac::BROADCAST, station(2), 4));
    wait_for("tap to be an ordinary port again", || {
        lab.port("tap").counters.tx_frames > sent
    });
}

#[test]
fn a_filter_picks_what_is_copied() {
    let (lab, _stations, wire) = lab();
    let filter = format!("ether src {}", station(0));
    let add = tool()
        .args([
            "mirror", "add", "m", "--from", "veth", "--to", "internal", "--filter", &filter,
        ])
        .status();
    assert!(add.unwrap().success());
    let before = (mirror(&lab).frames, lab.port("veth").counters.tx_frames);
    wire.at("tap").send(&probe(station(0), station(1), 1));
    wait_for("the frame that is not wanted", || {
        lab.port("veth").counters.tx_frames > before.1
    });
    // Of one flow as far as queues go: when the second is counted, the first was looked at.
    wire.at("veth").send(&probe(station(1), mac(5, 5), 2));
    wire.at("veth").send(&probe(station(1), station(0), 3));
    wait_for("the copy", || mirror(&lab).frames > before.0);
    assert_eq!(mirror(&lab).frames - before.0, 1);
    assert!(lab.ok("mirror show m").contains(&filter));
}

#[test]
fn tcp_through_a_mirrored_port_arrives_unharmed() {
    let lab = Lab::new();
    let a = Station::add(&lab, "a", PortKind::Tap, 1);
    let b = Station::add(&lab, "b", PortKind::Veth, 2);
    Station::add_with(&lab, "mon", PortKind::Tap, 3, "--no-offload");
    lab.ok("mirror add m --from a --to mon");
    transfer::tcp(&a, &b, false, 32);
    let view = mirror(&lab);
    assert!(view.bytes > 2 * 32 * 65_536, "{view:?}");
}

#[test]
fn a_mirror_outlives_the_daemon_and_a_port_that_comes_back() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    lab.ok("add-port mon");
    lab.ok("mirror add m --from red --to mon");
    let copies = |lab: &Lab| {
        let before = mirror(lab).frames;
        red.ping_soon(blue.v4);
        mirror(lab).frames - before
    };
    assert!(copies(&lab) >= 2);
    let exported = lab.ok("export");
    lab.kill_daemon();
    lab.start();
    assert!(copies(&lab) >= 2);
    assert_eq!(lab.ok("export"), exported);
    run("ip netns del mon");
    wait_for("the mirror to be out of work", || !mirror(&lab).active);
    red.ping(blue.v4);
    run("ip netns add mon");
    wait_for("the mirror to be back", || mirror(&lab).active);
    assert!(copies(&lab) >= 2);
}

#[test]
fn a_mirror_goes_with_its_destination_or_its_last_port() {
    let lab = Lab::new();
    for port in ["red", "blue", "mon"] {
        lab.ok(&format!("add-port {port}"));
    }
    lab.ok("mirror add m --from red,blue --to mon");
    lab.ok("del-port red");
    assert_eq!(mirror(&lab).mirror.ports.len(), 1);
    let said = lab.ok("del-port blue");
    assert!(said.contains("removed mirror m"), "{said}");
    lab.ok("mirror add m --to mon");
    lab.ok("del-port mon");
    lab.ctl("mirror show m").failed(4, &["m"]);
}

#[test]
fn what_can_not_be_mirrored_is_refused() {
    let lab = Lab::new();
    lab.ok("switch add other");
    for port in ["red", "mon", "far --switch other"] {
        lab.ok(&format!("add-port {port}"));
    }
    lab.ctl("mirror add m --from nosuch --to mon").failed(4, &["nosuch"]);
    lab.ctl("mirror add m --to nosuch").failed(4, &["nosuch"]);
    lab.ctl("mirror add m --from mon --to mon")
        .failed(5, &["mon", "destination"]);
    lab.ctl("mirror add m --from red --to far").failed(5, &["far", "other"]);
    lab.ok("add-port away --switch other");
    lab.ctl("mirror add m --from away --to far")
        .failed(5, &["away", "--switch other"]);
    lab.ctl("mirror add m --from red --to mon --switch nosuch")
        .failed(4, &["nosuch"]);
    lab.ctl("mirror add m --to mon --filter nonsense")
        .failed(2, &["nonsense"]);
    lab.ctl("mirror del m").failed(4, &["m"]);
    lab.ok("mirror del m --if-exists");
    lab.ok("mirror add m --from red --to mon");
    lab.ctl("mirror add m --to mon").failed(5, &["m"]);
    lab.ok("mirror add m --from red --to mon --if-not-exists");
    lab.ctl("mirror add n --from mon --to red")
        .failed(5, &["mirror \"n\"", "mon", "copies only"]);
}

/// As with Open vSwitch (`tests/openvswitch.rs` compares). What docs/features.md says of it.
#[test]
fn a_copy_shows_its_vlan_by_the_settings_of_the_destination() {
    for (options, shown) in [
        ("", true),
        ("--trunk 1", true),
        ("--vlan 1", false),
        ("--trunk 1 --native 1", false),
    ] {
        let lab = Lab::with_one_worker();
        for port in ["a", "b"] {
            lab.ok(&format!("add-port {port} --vlan 1"));
        }
        lab.ok(&format!("add-port probe {options}"));
        lab.ok("mirror add m --from a --to probe");
        let [sender, seen] = ["a", "probe"].map(|port| RawSocket::open(&Place::named(port), "eth0", false));
        let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
        let copy = if shown {
            tagged(&frame, VLAN_ETHERTYPE, 1)
        } else {
            frame.clone()
        };
        sender.send(&frame);
        // The stacks greet each other meanwhile.
        let end = Instant::now() + DEADLINE;
        let copies = std::iter::from_fn(|| seen.recv(end)).map(|frame| frame.bytes);
        let got = copies.into_iter().find(|bytes| probe_id(bytes) == Some(1));
        assert_eq!(got, Some(copy), "{options}");
    }
}
