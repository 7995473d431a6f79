//! Where frames go: the rules of a bridge (IEEE 802.1Q-2022 clause 8) with one VLAN.

use std::time::Instant;

use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{SERVICE_VLAN_ETHERTYPE, VLAN_ETHERTYPE, mac, probe, probe_id, probe_of_len, tagged};
use vswitch_testing::{DEADLINE, Lab, Station, Wire, wait_for};

const KINDS: [&str; 4] = ["veth", "tap", "device", "internal"];

fn lab_and_wire() -> (Lab, Wire) {
    let lab = Lab::new();
    let wire = Wire::tap(&Station::one_of_each(&lab));
    (lab, wire)
}

fn others(port: &str) -> Vec<&'static str> {
    KINDS.into_iter().filter(|other| *other != port).collect()
}

#[test]
fn broadcast_multicast_and_unknown_unicast_go_everywhere_but_back() {
    let (_lab, mut wire) = lab_and_wire();
    let groups = [
        Mac::BROADCAST,
        Mac([0x01, 0x00, 0x5e, 0, 0, 0xfb]),
        Mac([0x33, 0x33, 0xff, 0, 0, 1]),
        // The first address after the reserved block.
        Mac([0x01, 0x80, 0xc2, 0, 0, 0x10]),
        mac(9, 99),
    ];
    for (n, from) in KINDS.into_iter().enumerate() {
        let frames: Vec<_> = groups
            .iter()
            .zip(0..)
            .map(|(&dst, id)| probe(dst, mac(1, n as u32), id))
            .collect();
        wire.check(from, &frames, &others(from), &frames);
    }
}

#[test]
fn a_learned_address_is_reached_at_its_port_alone() {
    let (lab, mut wire) = lab_and_wire();
    for (n, port) in KINDS.into_iter().enumerate() {
        wire.send(port, &[probe(Mac::BROADCAST, mac(1, n as u32), 0)]);
    }
    for (n, from) in KINDS.into_iter().enumerate() {
        for (m, to) in KINDS.into_iter().enumerate().filter(|(_, to)| *to != from) {
            let frames: Vec<_> = (0..5).map(|id| probe(mac(1, m as u32), mac(1, n as u32), id)).collect();
            wire.check(from, &frames, &[to], &frames);
        }
    }
    let fdb = lab.fdb("main");
    for (n, port) in KINDS.into_iter().enumerate() {
        let entry = fdb.iter().find(|entry| entry.mac == mac(1, n as u32)).unwrap();
        assert_eq!(entry.port.as_str(), port);
        assert!(!entry.is_static && entry.age_secs.is_some(), "{entry:?}");
    }
}

#[test]
fn a_frame_for_a_station_behind_its_own_port_is_not_sent_at_all() {
    let (lab, mut wire) = lab_and_wire();
    wire.send("veth", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    let before = lab.port("veth").counters;
    let frames = [probe(mac(1, 1), mac(1, 2), 1)];
    wire.check("veth", &frames, &[], &[]);
    let after = lab.port("veth").counters;
    let drops = |counters: &vswitch_testing::api::view::PortCounters| counters.rx_drops.values().sum::<u64>();
    assert_eq!(
        drops(&after),
        drops(&before) + 1,
        "dropped by a named reason: {:?}",
        after.rx_drops
    );
}

#[test]
fn a_station_that_moves_is_followed() {
    let (lab, mut wire) = lab_and_wire();
    for to in ["veth", "tap", "device", "internal", "veth"] {
        wire.send(to, &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
        let from = others(to)[0];
        let frames = [probe(mac(1, 1), mac(1, 2), 1)];
        wire.check(from, &frames, &[to], &frames);
    }
    assert_eq!(lab.fdb("main").iter().filter(|entry| entry.mac == mac(1, 1)).count(), 1);
}

#[test]
fn a_multicast_source_is_dropped_counted_and_never_learned() {
    let (lab, mut wire) = lab_and_wire();
    for source in [Mac::BROADCAST, Mac([0x01, 0x00, 0x5e, 0, 0, 1])] {
        wire.check(
            "tap",
            &[probe(Mac::BROADCAST, source, 1), probe(mac(9, 9), source, 2)],
            &[],
            &[],
        );
        assert!(lab.fdb("main").iter().all(|entry| entry.mac != source));
    }
    let drops = lab.port("tap").counters.rx_drops;
    assert_eq!(drops.get("multicast-source"), Some(&4), "{drops:?}");
}

#[test]
fn an_all_zero_source_is_never_learned() {
    let (lab, mut wire) = lab_and_wire();
    wire.send("tap", &[probe(Mac::BROADCAST, Mac([0; 6]), 1)]);
    assert!(lab.fdb("main").iter().all(|entry| entry.mac != Mac([0; 6])));
}

#[test]
fn reserved_multicast_is_forwarded_never_or_lldp_or_all() {
    let (lab, mut wire) = lab_and_wire();
    let reserved: Vec<_> = (0..16)
        .map(|n| probe(Mac([0x01, 0x80, 0xc2, 0, 0, n]), mac(1, 1), u32::from(n)))
        .collect();
    let lldp = [reserved[0x0e].clone()];
    for (setting, passing) in [("never", &[][..]), ("lldp", &lldp), ("all", &reserved), ("never", &[])] {
        lab.ok(&format!("set switch main --reserved-multicast {setting}"));
        eprintln!("{setting}");
        wire.check("veth", &reserved, &others("veth"), passing);
    }
    let drops = lab.port("veth").counters.rx_drops;
    assert_eq!(drops.get("reserved-multicast"), Some(&(16 + 15 + 16)), "{drops:?}");
}

#[test]
fn tagged_frames_pass_as_they_are() {
    let (_lab, mut wire) = lab_and_wire();
    for from in KINDS {
        let plain = probe(Mac::BROADCAST, mac(1, 1), 1);
        let frames = [
            tagged(&plain, VLAN_ETHERTYPE, 100),
            // Priority 5, VLAN 4094; priority-tagged (VLAN 0).
            tagged(&plain, VLAN_ETHERTYPE, 5 << 13 | 4094),
            tagged(&plain, VLAN_ETHERTYPE, 7 << 13),
            tagged(&plain, SERVICE_VLAN_ETHERTYPE, 20),
            // Q-in-Q
            tagged(&tagged(&plain, VLAN_ETHERTYPE, 30), SERVICE_VLAN_ETHERTYPE, 40),
        ];
        wire.check(from, &frames, &others(from), &frames);
    }
}

#[test]
fn a_full_frame_may_carry_a_tag_on_top() {
    let (_lab, mut wire) = lab_and_wire();
    // IEEE 802.3-2022 clause 3.2.7: the tag does not count against the payload.
    let frames = [tagged(
        &probe_of_len(Mac::BROADCAST, mac(1, 1), 1, 1514),
        VLAN_ETHERTYPE,
        100,
    )];
    for from in KINDS {
        wire.check(from, &frames, &others(from), &frames);
    }
}

#[test]
fn frames_of_all_lengths_arrive_as_they_are() {
    let (_lab, mut wire) = lab_and_wire();
    for from in KINDS {
        let frames: Vec<_> = (18..=1514)
            .step_by(17)
            .chain([60, 1513, 1514])
            .zip(0..)
            .map(|(length, id)| probe_of_len(Mac::BROADCAST, mac(1, 1), id, length))
            .collect();
        wire.check(from, &frames, &others(from), &frames);
    }
}

#[test]
fn a_burst_keeps_its_order() {
    let lab = Lab::with_one_worker();
    let tap = Station::add(&lab, "tap", PortKind::Tap, 1).raw(false);
    let veth = Station::add(&lab, "veth", PortKind::Veth, 2).raw(false);
    for (from, to) in [(&tap, &veth), (&veth, &tap)] {
        for round in 0..20 {
            (0..200).for_each(|n| from.send(&probe(Mac::BROADCAST, mac(1, 1), round * 200 + n)));
            let mut next = round * 200;
            while next < (round + 1) * 200 {
                let frame = to
                    .recv(Instant::now() + DEADLINE)
                    .unwrap_or_else(|| panic!("frame {next} never came"));
                if let Some(id) = probe_id(&frame.bytes) {
                    assert_eq!(id, next, "frames were lost or changed order");
                    next += 1;
                }
            }
        }
    }
}

#[test]
fn a_port_that_is_down_neither_sends_nor_gets() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    let mut wire = Wire::tap(&stations[..2]);
    lab.ok("set port device --down");
    let device = stations[2].raw(false);
    let frames = [probe(Mac::BROADCAST, mac(1, 1), 7)];
    wire.check("veth", &frames, &["tap"], &frames);
    device.send(&probe(Mac::BROADCAST, mac(1, 3), 8));
    wire.check("tap", &frames, &["veth"], &frames);
    assert!(
        lab.fdb("main").iter().all(|entry| entry.port.as_str() != "device"),
        "learned from a port that is down"
    );
    lab.ok("set port device --up");
    wait_for("the device port to carry frames again", || {
        stations[2].reaches(stations[0].v4)
    });
}
