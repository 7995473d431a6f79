//! Where frames go on one network: the rules of a bridge (IEEE 802.1Q-2022 clause 8).

use vswitch_api::{Mac, ReservedMulticast};
use vswitch_datapath::{DropReason, SwitchSettings};

use super::lab::{Lab, frame, mac, settings, tagged};

const ZERO: Mac = Mac([0; 6]);

#[test]
fn groups_and_unknown_stations_are_flooded_to_all_but_the_sender() {
    let lab = Lab::new();
    let [a, b, c] = lab.ports();
    // The last is the first address behind the reserved block.
    for dst in [Mac::BROADCAST, mac(99), ZERO, Mac([1, 0x80, 0xc2, 0, 0, 0x10])] {
        let sent = frame(dst, mac(1), 7);
        lab.check(&[&a, &b, &c], &a, &sent, &[(&b, &sent), (&c, &sent)]);
    }
    let counters = lab.counters(&a);
    assert_eq!((counters.rx_flooded, counters.flood_copies), (4, 8));
}

#[test]
fn a_station_is_reached_where_it_spoke_last() {
    let lab = Lab::new();
    let [a, b, c] = lab.ports();
    for to in [&a, &b, &a] {
        lab.send(to, &frame(Mac::BROADCAST, mac(1), 0));
        [&a, &b, &c].iter().for_each(|port| drop(port.received()));
        let sent = frame(mac(1), mac(3), 1);
        lab.check(&[&a, &b, &c], &c, &sent, &[(to, &sent)]);
        assert_eq!(lab.place(0, mac(1)), Some(to.id.id));
    }
    // Its own port is no way to it.
    let sent = frame(mac(1), mac(2), 2);
    lab.check(&[&a, &b, &c], &a, &sent, &[]);
    assert_eq!(lab.drops(&a, DropReason::SamePort), 1);
}

#[test]
fn nobody_speaks_from_a_group_or_from_zero() {
    let lab = Lab::new();
    let [a, b] = lab.ports();
    for (src, reason) in [
        (Mac::BROADCAST, DropReason::MulticastSource),
        (Mac([1, 0, 0x5e, 0, 0, 1]), DropReason::MulticastSource),
        (ZERO, DropReason::ZeroSource),
    ] {
        let before = lab.drops(&a, reason);
        lab.check(&[&a, &b], &a, &frame(Mac::BROADCAST, src, 0), &[]);
        assert_eq!(lab.drops(&a, reason), before + 1);
    }
    assert_eq!(lab.datapath.fdb_len(lab.switch), 0);
}

#[test]
fn reserved_groups_pass_never_or_lldp_or_all() {
    for (reserved, passing) in [
        (ReservedMulticast::default(), 0),
        (ReservedMulticast::Lldp, 1),
        (ReservedMulticast::All, 16),
    ] {
        let lab = Lab::with(SwitchSettings {
            reserved,
            ..SwitchSettings::default()
        });
        let [a, b] = lab.ports();
        for last in 0..16 {
            lab.send(&a, &frame(Mac([1, 0x80, 0xc2, 0, 0, last]), mac(1), last));
        }
        assert_eq!(b.received().len(), passing, "{reserved:?}");
        assert_eq!(lab.drops(&a, DropReason::ReservedMulticast), 16 - passing as u64);
    }
}

#[test]
fn tags_are_payload_where_no_port_has_a_vlan() {
    let lab = Lab::new();
    let [a, b] = lab.ports();
    let plain = frame(Mac::BROADCAST, mac(1), 1);
    for tagged in [
        tagged(&plain, 0x8100, 5 << 13 | 100),
        tagged(&plain, 0x8100, 7 << 13),
        tagged(&tagged(&plain, 0x8100, 30), 0x88a8, 40),
    ] {
        lab.check(&[&a, &b], &a, &tagged, &[(&b, &tagged)]);
    }
}

#[test]
fn a_frame_is_as_long_as_the_mtu_and_two_tags_allow() {
    let lab = Lab::new();
    let [a, b] = lab.ports();
    let longest = [frame(Mac::BROADCAST, mac(1), 1), vec![1; 1454 + 8]].concat();
    lab.check(&[&b], &a, &longest, &[]);
    assert_eq!(lab.drops(&b, DropReason::Mtu), 1, "it has no tags");
    let tags = tagged(&tagged(&longest[..1514], 0x8100, 1), 0x88a8, 2);
    lab.check(&[&b], &a, &tags, &[(&b, &tags)]);
    lab.send(&a, &[longest, vec![0]].concat());
    lab.send(&a, &[2; 13]);
    assert_eq!(
        (lab.drops(&a, DropReason::Oversize), lab.drops(&a, DropReason::Runt)),
        (1, 1)
    );
}

#[test]
fn a_port_that_is_down_neither_sends_nor_gets_and_forgets_its_stations() {
    let lab = Lab::new();
    let [a, b] = lab.ports();
    lab.send(&a, &frame(Mac::BROADCAST, mac(1), 0));
    b.received();
    let mut down = settings();
    down.up = false;
    lab.datapath.update_port(a.id, down);
    assert_eq!(lab.place(0, mac(1)), None);
    lab.check(&[&a, &b], &a, &frame(Mac::BROADCAST, mac(1), 1), &[]);
    lab.check(&[&a, &b], &b, &frame(mac(1), mac(2), 2), &[]);
    assert_eq!(lab.drops(&a, DropReason::PortDown), 1);
}
