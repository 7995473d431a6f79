//! What a port lets in and out.

use std::sync::Arc;

use vswitch_api::policy::{BeyondLimit, Isolation};
use vswitch_api::{Mac, RateLimit};
use vswitch_datapath::mirror::{MirrorCounters, MirrorEntry, MirrorTo};
use vswitch_datapath::pin::PinTable;
use vswitch_datapath::policy::{PLAIN, PortPolicy};
use vswitch_datapath::trace::Stage;
use vswitch_datapath::traffic::TrafficSetup;
use vswitch_datapath::{DatapathEvent, DropReason, SwitchSettings};

use super::lab::{Lab, Port, access, acl, frame, mac, tagged};

/// A port whose policy is plain but for `change`.
fn port(lab: &Lab, change: impl FnOnce(&mut PortPolicy)) -> Port {
    let mut policy = PLAIN.clone();
    change(&mut policy);
    lab.port_under(policy)
}

#[test]
fn learning_is_off_sticky_or_locked() {
    let lab = Lab::new();
    let off = port(&lab, |policy| policy.learning.enabled = false);
    let sticky = port(&lab, |policy| policy.learning.sticky = true);
    let locked = port(&lab, |policy| policy.learning.locked = true);
    let other = lab.port();
    let all = [&off, &sticky, &locked, &other];
    let from = |n| frame(Mac::BROADCAST, mac(n), n);
    lab.check(
        &all,
        &off,
        &from(1),
        &[(&sticky, &from(1)), (&locked, &from(1)), (&other, &from(1))],
    );
    assert_eq!(lab.place(0, mac(1)), None);

    lab.send(&sticky, &from(2));
    lab.send(&other, &from(2));
    assert_eq!(lab.place(0, mac(2)), Some(sticky.id.id));

    all.iter().for_each(|port| drop(port.received()));
    lab.check(&all, &locked, &from(3), &[]);
    assert_eq!(lab.drops(&locked, DropReason::Locked), 1);
    lab.datapath
        .fdb_add_static(lab.switch, 0, mac(3), locked.id.id)
        .unwrap();
    lab.check(
        &all,
        &locked,
        &from(3),
        &[(&off, &from(3)), (&sticky, &from(3)), (&other, &from(3))],
    );
}

#[test]
fn a_limit_of_stations_floods_drops_or_asks_to_shut() {
    let lab = Lab::new();
    let limited = |beyond| {
        port(&lab, |policy| {
            policy.learning.limit = Some(1);
            policy.learning.beyond = beyond;
        })
    };
    let [floods, drops, shuts] = [BeyondLimit::Flood, BeyondLimit::Drop, BeyondLimit::Shut].map(limited);
    let other = lab.port();
    for (n, port) in [&floods, &drops, &shuts].into_iter().enumerate() {
        let first = 10 * n as u8;
        lab.send(port, &frame(Mac::BROADCAST, mac(first + 1), 0));
        lab.send(port, &frame(Mac::BROADCAST, mac(first + 2), 0));
        assert_eq!(lab.place(0, mac(first + 1)), Some(port.id.id));
        assert_eq!(lab.place(0, mac(first + 2)), None);
    }
    assert_eq!(other.received().len(), 4, "three first ones, and one that was flooded");
    assert_eq!(lab.drops(&drops, DropReason::MacLimit), 1);
    let (events, _) = lab.datapath.take_events();
    assert!(
        events.contains(&DatapathEvent::LimitReached { port: shuts.id }),
        "{events:?}"
    );
}

#[test]
fn a_vlan_has_as_many_stations_as_the_switch_allows() {
    let lab = Lab::with(SwitchSettings {
        vlan_limit: Some(1),
        ..SwitchSettings::default()
    });
    let [a, b] = lab.ports();
    lab.send(&a, &frame(Mac::BROADCAST, mac(1), 0));
    lab.send(&a, &frame(Mac::BROADCAST, mac(2), 0));
    assert_eq!(b.received().len(), 2);
    assert_eq!((lab.place(0, mac(1)), lab.place(0, mac(2))), (Some(a.id.id), None));
}

#[test]
fn each_class_of_flood_can_be_kept_from_a_port_and_a_hairpin_sends_back() {
    let lab = Lab::new();
    let quiet = port(&lab, |policy| {
        policy.flooding.unknown_unicast = false;
        policy.flooding.broadcast = false;
    });
    let hairpin = port(&lab, |policy| policy.flooding.hairpin = true);
    let group = frame(Mac([1, 0, 0x5e, 0, 0, 1]), mac(1), 1);
    let all = [&quiet, &hairpin];
    for dst in [Mac::BROADCAST, mac(99)] {
        let sent = frame(dst, mac(1), 2);
        lab.check(&all, &hairpin, &sent, &[(&hairpin, &sent)]);
    }
    lab.check(&all, &hairpin, &group, &[(&quiet, &group), (&hairpin, &group)]);
}

#[test]
fn isolated_ports_reach_promiscuous_ones_only() {
    let lab = Lab::new();
    let kinds = [
        Isolation::Isolated,
        Isolation::Isolated,
        Isolation::Community(1),
        Isolation::Community(1),
        Isolation::Promiscuous,
    ];
    let ports = kinds.map(|isolation| port(&lab, |policy| policy.isolation = isolation));
    let all: Vec<_> = ports.iter().collect();
    for (from, reached) in [(0, &[4][..]), (2, &[3, 4]), (4, &[0, 1, 2, 3])] {
        let sent = frame(Mac::BROADCAST, mac(from as u8 + 1), 1);
        let expected: Vec<_> = reached.iter().map(|to| (&ports[*to], &sent[..])).collect();
        lab.check(&all, &ports[from], &sent, &expected);
    }
    // A station that is known is out of reach too.
    lab.check(&all, &ports[2], &frame(mac(1), mac(3), 2), &[]);
    assert_eq!(lab.drops(&ports[2], DropReason::Isolated), 1);
}

#[test]
fn pins_and_lists_keep_out_by_name() {
    let lab = Lab::new();
    let pinned = port(&lab, |policy| policy.pin = Some(PinTable::new(Some(&[mac(1)]), None)));
    let kept = port(&lab, |policy| policy.acl_out = acl(&["deny from 02:00:00:00:00:01"]));
    let listed = port(&lab, |policy| policy.acl_in = acl(&["deny ethertype 0x88b6"]));
    let all = [&pinned, &kept, &listed];
    let own = frame(Mac::BROADCAST, mac(1), 1);
    lab.check(&all, &pinned, &own, &[(&listed, &own)]);
    assert_eq!(lab.drops(&kept, DropReason::AclOut), 1);
    lab.check(&all, &pinned, &frame(Mac::BROADCAST, mac(2), 2), &[]);
    assert_eq!(lab.drops(&pinned, DropReason::PinMac), 1);
    lab.check(&all, &listed, &frame(Mac::BROADCAST, mac(3), 3), &[]);
    assert_eq!(lab.drops(&listed, DropReason::AclIn), 1);
}

/// One frame in a long time.
fn police(lab: &Lab, port: &Port) {
    let police = Some(RateLimit {
        rate_pps: Some(1),
        burst_frames: Some(1),
        ..RateLimit::default()
    });
    let setup = TrafficSetup {
        police,
        ..TrafficSetup::default()
    };
    lab.datapath.set_traffic(port.id, &setup);
}

/// The policer stood at the door: what no rule lets in used up the rate of what would have come through.
#[test]
fn what_is_dropped_before_the_policer_costs_no_rate() {
    let lab = Lab::new();
    let from = lab.port_under(PortPolicy {
        pin: Some(PinTable::new(Some(&[mac(1)]), None)),
        acl_in: acl(&["deny ethertype 0x88b7"]),
        ..access("10")
    });
    let to = lab.port_under(access("10"));
    police(&lab, &from);
    let good = frame(Mac::BROADCAST, mac(1), 1);
    let mut listed = good.clone();
    listed[13] = 0xb7;
    let refused = [
        (good[..13].to_vec(), DropReason::Runt),
        (tagged(&good, 0x8100, 20), DropReason::VlanFiltered),
        (frame(Mac::BROADCAST, mac(2), 1), DropReason::PinMac),
        (listed, DropReason::AclIn),
    ];
    for (frame, reason) in &refused {
        for n in 1..=3 {
            lab.check(&[&to], &from, frame, &[]);
            assert_eq!(lab.drops(&from, *reason), n, "{reason:?}");
        }
    }
    // So says a trace, which comes by the same stages in the same order.
    let of = |frame: &[u8]| -> Vec<_> {
        let stages = lab.trace(&from, frame).into_iter();
        let known = stages.filter_map(|stage| match stage {
            Stage::Vlan { .. } => Some("vlan"),
            Stage::Rules { .. } => Some("rules"),
            Stage::Police { .. } => Some("police"),
            Stage::Learn { .. } => Some("learn"),
            _ => None,
        });
        known.collect()
    };
    assert_eq!(of(&good), ["vlan", "rules", "police", "learn"]);
    assert_eq!(of(&refused[3].0), ["vlan", "rules"]);
    lab.check(&[&to], &from, &good, &[(&to, &good)]);
    lab.check(&[&to], &from, &good, &[]);
    assert_eq!(lab.drops(&from, DropReason::Policed), 1);
    assert_eq!(of(&good), ["vlan", "rules", "police"]);
}

/// Nothing else is asked of such a port or its switch.
#[test]
fn a_policer_needs_no_policy_and_what_it_drops_is_not_learned() {
    let lab = Lab::new();
    let [from, to] = lab.ports();
    police(&lab, &from);
    let frames = [1, 2].map(|n| frame(Mac::BROADCAST, mac(n), n));
    lab.check(&[&to], &from, &frames[0], &[(&to, &frames[0])]);
    lab.check(&[&to], &from, &frames[1], &[]);
    assert_eq!(lab.drops(&from, DropReason::Policed), 1);
    assert_eq!((lab.place(0, mac(1)), lab.place(0, mac(2))), (Some(from.id.id), None));
    assert_eq!(lab.counters(&from).rx_frames, 2);
}

/// Has all that passes copied to a port.
fn mirror(lab: &Lab, to: &Port) {
    lab.datapath.set_mirrors(vec![MirrorEntry {
        name: "m".parse().unwrap(),
        switch: lab.switch,
        ports: None,
        rx: true,
        tx: true,
        vlans: None,
        to: MirrorTo::Port(to.id.id),
        filter: None,
        counters: Arc::new(MirrorCounters::new(1)),
    }]);
}

#[test]
fn a_mirror_shows_what_was_dropped_as_it_came_whatever_came_before() {
    let lab = Lab::new();
    let [a, b] = [(); 2].map(|()| lab.port_under(access("10")));
    let monitor = lab.port();
    mirror(&lab, &monitor);
    let sent = frame(Mac::BROADCAST, mac(1), 1);
    lab.check(
        &[&b, &monitor],
        &a,
        &sent,
        &[(&b, &sent), (&monitor, &tagged(&sent, 0x8100, 10))],
    );
    let dropped = tagged(&sent, 0x8100, 20);
    lab.check(&[&b, &monitor], &a, &dropped, &[(&monitor, &dropped)]);
    assert_eq!(lab.drops(&a, DropReason::VlanFiltered), 1);
    assert_eq!(lab.counters(&a).rx_bytes, (sent.len() + dropped.len()) as u64);
}

#[test]
fn a_mirror_copies_once_and_its_destination_carries_nothing_else() {
    let lab = Lab::new();
    let [a, b, monitor] = lab.ports();
    mirror(&lab, &monitor);
    let all = [&a, &b, &monitor];
    let sent = frame(Mac::BROADCAST, mac(1), 1);
    lab.check(&all, &a, &sent, &[(&b, &sent), (&monitor, &sent)]);
    // What the switch drops was on the wire all the same.
    let dropped = frame(Mac::BROADCAST, Mac([0; 6]), 2);
    lab.check(&all, &a, &dropped, &[(&monitor, &dropped)]);
    lab.check(&all, &monitor, &frame(Mac::BROADCAST, mac(9), 3), &[]);
    assert_eq!(lab.drops(&monitor, DropReason::MirrorPort), 1);
    assert_eq!(lab.counters(&a).mirror_copies, 2);
}

#[test]
fn a_known_station_of_a_locked_port_does_not_age_while_it_talks() {
    use std::time::Duration;
    use vswitch_datapath::PortSettings;
    let switch = vswitch_datapath::testing::Switch::new().unwrap();
    let [a, b] = [0, 1].map(|_| switch.add_port().unwrap());
    switch.set_ageing(300);
    let hello = frame(Mac::BROADCAST, mac(1), 1);
    a.send(&hello);
    b.receive_all();
    let mut policy = PLAIN.clone();
    policy.learning.locked = true;
    a.set(PortSettings {
        policy: Some(Arc::new(policy)),
        ..PortSettings::default()
    });
    for n in 0..5 {
        switch.advance(Duration::from_secs(200));
        a.send(&hello);
        assert_eq!(b.receive_all().len(), 1, "{n}");
    }
}
