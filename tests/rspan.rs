//! Mirrors by VLAN, and into a VLAN (RSPAN).

use vswitch_testing::api::Mac;
use vswitch_testing::api::mirror::MirrorView;
use vswitch_testing::frame::{VLAN_ETHERTYPE, mac, probe, tagged};
use vswitch_testing::observer::Seen;
use vswitch_testing::{Lab, Observer, wait_for};

const PORTS: [(&str, &str); 6] = [
    ("a10", "--vlan 10"),
    ("b10", "--vlan 10"),
    ("c20", "--vlan 20"),
    ("near", "--trunk 10,999"),
    ("far", "--trunk 20,999"),
    ("probe", "--vlan 999"),
];
const SENTINELS: [Option<u16>; 3] = [Some(10), Some(20), Some(999)];

fn c_tag(frame: &[u8], tci: u16) -> Vec<u8> {
    tagged(frame, VLAN_ETHERTYPE, tci)
}

fn seen<const N: usize>(frames: [(&str, Vec<Vec<u8>>); N]) -> Seen {
    frames.map(|(port, frames)| (port.to_owned(), frames)).into()
}

#[test]
fn copies_travel_in_a_vlan_of_their_own() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &PORTS, &SENTINELS);
    lab.ctl("mirror add far --from a10 --to-vlan 999")
        .failed(5, &["VLAN 999", "set switch main --rspan-vlans 999"]);
    lab.ok("set switch main --rspan-vlans 999");
    lab.ok("mirror add far --from a10,near --direction rx --to-vlan 999");
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    let expected = seen([
        ("b10", vec![frame.clone()]),
        ("near", vec![c_tag(&frame, 10), c_tag(&frame, 999)]),
        ("far", vec![c_tag(&frame, 999)]),
        ("probe", vec![frame.clone()]),
    ]);
    assert_eq!(net.send("a10", std::slice::from_ref(&frame)), expected);
    // The tag of the copy takes the place of the frame's own, and no copy goes back to where the frame came from.
    let (ten, bare) = (c_tag(&frame, 5 << 13 | 10), probe(Mac::BROADCAST, mac(1, 1), 1));
    let expected = seen([
        ("a10", vec![bare.clone()]),
        ("b10", vec![bare.clone()]),
        ("far", vec![c_tag(&bare, 5 << 13 | 999)]),
        ("probe", vec![bare.clone()]),
    ]);
    assert_eq!(net.send("near", &[ten]), expected);
    let view: MirrorView = lab.json("mirror show far");
    assert_eq!((view.frames, view.mirror.to, view.active), (2, None, true));
    let copies = |port: &str| lab.port(port).counters.mirror_copies;
    assert_eq!((copies("a10"), copies("near")), (3, 2));
    // Who is seen in that VLAN is elsewhere: nothing is learned, so that all copies go everywhere.
    let copy = c_tag(&probe(mac(1, 1), mac(1, 9), 2), 999);
    net.send("far", &[copy]);
    let known = lab.fdb("main");
    assert!(
        known
            .iter()
            .all(|entry| entry.vlan.is_none_or(|vlan| vlan.get() != 999)),
        "{known:?}"
    );
    // A trace knows it too.
    let told = lab.ok(&format!("trace probe --src {} --dst {}", mac(1, 8), mac(1, 9)));
    assert!(told.contains("is not learned"), "{told}");
    let shown = lab.ok("switch show main") + &lab.ok("mirror list");
    assert!(shown.contains("RSPAN VLANs") && shown.contains("vlan:999"), "{shown}");
}

/// Copies would go to one port only, those of whoever is known there.
#[test]
fn what_was_learned_in_a_vlan_is_forgotten_when_it_is_to_carry_copies() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &PORTS, &SENTINELS);
    let from = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.send("probe", std::slice::from_ref(&from));
    net.send("a10", &[from]);
    let known = || {
        let known = lab.fdb("main").into_iter().filter(|entry| entry.mac == mac(1, 1));
        known.filter_map(|entry| Some(entry.vlan?.get())).collect::<Vec<_>>()
    };
    assert_eq!(known(), [10, 999]);
    lab.ok("set switch main --rspan-vlans 999");
    assert_eq!(known(), [10]);
}

#[test]
fn a_mirror_of_some_vlans_leaves_out_the_others() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &PORTS, &SENTINELS);
    lab.ok("add-port mon");
    let copied = |lab: &Lab| lab.json::<MirrorView>("mirror show v").frames;
    lab.ok("mirror add v --vlans 20-29 --direction rx --from a10,c20,far --to mon");
    for (from, frame, copies) in [
        ("a10", probe(Mac::BROADCAST, mac(1, 1), 1), 0),
        ("c20", probe(Mac::BROADCAST, mac(1, 2), 2), 1),
        ("far", c_tag(&probe(Mac::BROADCAST, mac(1, 3), 3), 20), 2),
        // Dropped, as the port is not in this VLAN, and seen all the same.
        ("far", c_tag(&probe(Mac::BROADCAST, mac(1, 4), 4), 29), 3),
        ("far", c_tag(&probe(Mac::BROADCAST, mac(1, 5), 5), 30), 3),
    ] {
        net.send(from, &[frame]);
        assert_eq!(copied(&lab), copies, "{from}");
    }
    wait_for("the copies to be sent", || lab.port("mon").counters.tx_frames >= 3);
}
