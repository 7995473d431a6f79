//! Who gets a frame of a VLAN, and with which tag (IEEE 802.1Q-2022).

use std::sync::Arc;
use std::time::Duration;

use vswitch_api::policy::{AcceptFrames, PortVlan};
use vswitch_api::{Impairment, Mac};
use vswitch_datapath::testing::Switch;
use vswitch_datapath::vlan::VlanPort;
use vswitch_datapath::{DropReason, PortSettings};

use super::lab::{Lab, access, frame, mac, tagged, trunk, vlan};

#[test]
fn a_flood_stays_in_its_vlan_and_shows_it_on_a_trunk() {
    let lab = Lab::new();
    let [a, b, other] = ["10", "10", "20"].map(|id| lab.port_under(access(id)));
    let native = lab.port_under(trunk("10,20", Some("20")));
    let strict = lab.port_under(trunk("10", None));
    let all = [&a, &b, &other, &native, &strict];
    let bare = frame(Mac::BROADCAST, mac(1), 1);
    let ten = tagged(&bare, 0x8100, 10);
    lab.check(&all, &a, &bare, &[(&b, &bare), (&native, &ten), (&strict, &ten)]);
    lab.check(&all, &other, &bare, &[(&native, &bare)]);
    lab.check(&all, &native, &ten, &[(&a, &bare), (&b, &bare), (&strict, &ten)]);
    // A tag that says a priority only is of the native VLAN, and the priority stays.
    let urgent = tagged(&bare, 0x8100, 5 << 13);
    let shown = tagged(&bare, 0x8100, 5 << 13 | 10);
    lab.check(&all, &a, &urgent, &[(&b, &bare), (&native, &shown), (&strict, &shown)]);

    for (from, sent, reason) in [
        (&native, tagged(&bare, 0x8100, 30), DropReason::VlanFiltered),
        (&strict, bare.clone(), DropReason::VlanUntagged),
        (&a, tagged(&bare, 0x8100, 20), DropReason::VlanFiltered),
        (
            &a,
            tagged(&tagged(&bare, 0x8100, 20), 0x8100, 10),
            DropReason::VlanFiltered,
        ),
    ] {
        let before = lab.drops(from, reason);
        lab.check(&all, from, &sent, &[]);
        assert_eq!(lab.drops(from, reason), before + 1, "{sent:02x?}");
    }
}

#[test]
fn the_same_address_in_two_vlans_is_two_stations() {
    let lab = Lab::new();
    let [ten, twenty] = ["10", "20"].map(|id| lab.port_under(access(id)));
    let trunk = lab.port_under(trunk("10,20", None));
    let all = [&ten, &twenty, &trunk];
    let hello = frame(Mac::BROADCAST, mac(1), 0);
    lab.send(&ten, &hello);
    lab.send(&twenty, &hello);
    all.iter().for_each(|port| drop(port.received()));
    assert_eq!(
        (lab.place(10, mac(1)), lab.place(20, mac(1))),
        (Some(ten.id.id), Some(twenty.id.id))
    );
    let to = frame(mac(1), mac(2), 1);
    lab.check(&all, &trunk, &tagged(&to, 0x8100, 10), &[(&ten, &to)]);
    lab.check(&all, &trunk, &tagged(&to, 0x8100, 20), &[(&twenty, &to)]);
}

#[test]
fn a_port_accepts_what_it_is_told_to() {
    let lab = Lab::new();
    let mut policy = access("10");
    policy.vlan = VlanPort::new(&PortVlan::Access("10".parse().unwrap()), AcceptFrames::Untagged);
    let [plain, other] = [policy, access("10")].map(|policy| lab.port_under(policy));
    let bare = frame(Mac::BROADCAST, mac(1), 1);
    lab.check(&[&plain, &other], &plain, &tagged(&bare, 0x8100, 10), &[]);
    assert_eq!(lab.drops(&plain, DropReason::VlanTagged), 1);
    lab.check(&[&plain, &other], &plain, &bare, &[(&other, &bare)]);
}

#[test]
fn a_tunnel_carries_tags_inside_its_own() {
    let lab = Lab::new();
    let tunnel = |id: &str| vlan(&PortVlan::Tunnel(id.parse().unwrap()));
    let [a, b, other] = ["100", "100", "200"].map(|id| lab.port_under(tunnel(id)));
    let core = lab.port_under(trunk("100,200", None));
    let inner = tagged(&frame(Mac::BROADCAST, mac(1), 1), 0x8100, 7);
    let outer = tagged(&inner, 0x8100, 100);
    lab.check(&[&a, &b, &other, &core], &a, &inner, &[(&b, &inner), (&core, &outer)]);
    lab.check(&[&a, &b, &other, &core], &core, &outer, &[(&a, &inner), (&b, &inner)]);
}

/// The class was that of the tag with which a frame left: none behind a trunk, and 0 on one.
#[test]
fn the_class_of_a_frame_crosses_from_access_ports_to_trunks_and_back() {
    let switch = Switch::new().unwrap();
    let [inside, far] = [access("10"), trunk("10", None)].map(|policy| {
        let port = switch.add_port().unwrap();
        port.set(PortSettings {
            policy: Some(Arc::new(policy)),
            ..PortSettings::default()
        });
        port.impair_out(Some(Impairment {
            rate_bps: Some(1_000_000),
            priority: true,
            ..Impairment::default()
        }));
        port
    });
    let ip = |dscp: u8, mark: u8| {
        [
            &[0xff; 6][..],
            &mac(1).0,
            &[8, 0, 0x45, dscp << 2],
            &[0; 60][..],
            &[mark],
        ]
        .concat()
    };
    let with_priority = |pcp: u16, mark: u8| tagged(&ip(0, mark), 0x8100, pcp << 13 | 10);
    // The first is sent at once.
    for (from, to, frames) in [
        (&inside, &far, [ip(0, 1), ip(0, 2), ip(46, 3)]),
        (
            &far,
            &inside,
            [with_priority(0, 1), with_priority(1, 2), with_priority(6, 3)],
        ),
    ] {
        frames.iter().for_each(|frame| from.send(frame));
        switch.advance(Duration::from_secs(1));
        let marks: Vec<_> = to
            .receive_all()
            .iter()
            .filter_map(|frame| frame.last().copied())
            .collect();
        assert_eq!(marks, [1, 3, 2]);
    }
}
