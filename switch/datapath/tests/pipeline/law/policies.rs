//! What ports are made of, by chance.

use std::sync::Arc;

use vswitch_api::policy::{AcceptFrames, BeyondLimit, Flooding, Isolation, Learning, PortVlan, TagKind, Trunk};
use vswitch_api::traffic::{Distribution, Share};
use vswitch_api::{Impairment, Impairments, RateLimit, ReservedMulticast, StormControl};
use vswitch_datapath::acl::Acl;
use vswitch_datapath::filter::Program;
use vswitch_datapath::pin::PinTable;
use vswitch_datapath::policy::{PLAIN, PortPolicy};
use vswitch_datapath::vlan::VlanPort;
use vswitch_datapath::{PortSettings, SwitchSettings, TrafficSetup};

use super::dice::Dice;
use super::frames::mac;

/// A VLAN that may carry copies.
pub const COPIES: u16 = 30;

/// What a switch does, by chance.
pub fn switch_settings(dice: &mut Dice<'_>) -> SwitchSettings {
    SwitchSettings {
        rspan: dice
            .sometimes(3, |_| COPIES.to_string().parse().unwrap())
            .into_iter()
            .collect(),
        reserved: dice.of(&[
            ReservedMulticast::default(),
            ReservedMulticast::Lldp,
            ReservedMulticast::All,
        ]),
        vlan_limit: dice.sometimes(6, |_| 2),
    }
}

/// What captures and mirrors want: IP alone, UDP behind no tag, nothing.
pub fn filter(dice: &mut Dice<'_>) -> Program {
    let programs = [
        "4,40 0 0 12,21 0 1 2048,6 0 0 65535,6 0 0 0",
        "6,40 0 0 12,21 0 3 2048,48 0 0 23,21 0 1 17,6 0 0 65535,6 0 0 0",
        "1,6 0 0 0",
    ];
    dice.of(&programs).parse().unwrap()
}

/// `has_rates`: rules may police.
pub fn settings(dice: &mut Dice<'_>, own: usize, has_rates: bool) -> PortSettings {
    PortSettings {
        mtu: dice.of(&[1500, 1500, 9000, 65_535, 576, 68]),
        up: !dice.one_in(12),
        offload: !dice.one_in(3),
        policy: dice.sometimes(2, |dice| Arc::new(policy(dice, own, has_rates))),
    }
}

fn policy(dice: &mut Dice<'_>, own: usize, has_rates: bool) -> PortPolicy {
    let accept = dice.of(&[
        AcceptFrames::All,
        AcceptFrames::All,
        AcceptFrames::Tagged,
        AcceptFrames::Untagged,
    ]);
    let vlan = dice.sometimes(2, vlan);
    PortPolicy {
        vlan_aware: vlan.is_some(),
        vlan: vlan.map_or_else(|| PLAIN.vlan.clone(), |vlan| VlanPort::new(&vlan, accept)),
        learning: Learning {
            enabled: !dice.one_in(6),
            sticky: dice.one_in(6),
            locked: dice.one_in(10),
            limit: dice.sometimes(5, |dice| 1 + u32::from(dice.byte() % 3)),
            beyond: dice.of(&[BeyondLimit::Flood, BeyondLimit::Drop, BeyondLimit::Shut]),
        },
        flooding: Flooding {
            unknown_unicast: !dice.one_in(6),
            multicast: !dice.one_in(6),
            broadcast: !dice.one_in(6),
            hairpin: dice.one_in(4),
        },
        isolation: dice.of(&[
            Isolation::Promiscuous,
            Isolation::Promiscuous,
            Isolation::Isolated,
            Isolation::Community(1),
        ]),
        pin: dice.sometimes(5, |_| {
            let own_ip = format!("10.0.0.{own}/32").parse().unwrap();
            PinTable::new(Some(&[mac(own)]), Some(&[own_ip]))
        }),
        acl_in: dice.sometimes(4, |dice| rules(dice, has_rates)),
        acl_out: dice.sometimes(4, |dice| rules(dice, has_rates)),
    }
}

fn vlan(dice: &mut Dice<'_>) -> PortVlan {
    let id = |dice: &mut Dice<'_>| dice.of(&["10", "20"]).parse().unwrap();
    match dice.below(4) {
        0 => PortVlan::Access(id(dice)),
        1 => PortVlan::Tunnel(id(dice)),
        2 => PortVlan::All,
        _ => PortVlan::Trunk(Trunk {
            allowed: dice.of(&["10", "10,20", "20,30"]).parse().unwrap(),
            native: dice.sometimes(2, id),
            tag: dice.of(&[TagKind::Customer, TagKind::Service]),
        }),
    }
}

fn rules(dice: &mut Dice<'_>, has_rates: bool) -> Arc<Acl> {
    let all = [
        "deny udp to any port 53",
        "deny tcp to any port 22 flags syn,!ack",
        "deny to 10.0.0.3",
        "permit tcp",
        "deny vlan 20",
        "mirror m0 udp",
        "police 1pps burst 2 tcp",
    ];
    let all = if has_rates { &all[..] } else { &all[..6] };
    let rules: Vec<_> = (0..1 + dice.below(3)).map(|_| dice.of(all).parse().unwrap()).collect();
    Arc::new(Acl::new(&rules))
}

/// Impairments, a policer, storm control.
pub fn traffic(dice: &mut Dice<'_>) -> TrafficSetup {
    let limit = |dice: &mut Dice<'_>| match dice.one_in(3) {
        true => RateLimit {
            rate_bps: Some(dice.of(&[8, 1_000_000_000])),
            burst_bytes: dice.sometimes(2, |dice| u32::from(dice.word())),
            ..RateLimit::default()
        },
        false => RateLimit {
            rate_pps: Some(1),
            burst_frames: Some(u32::from(dice.byte() % 4)),
            ..RateLimit::default()
        },
    };
    TrafficSetup {
        impair: Impairments {
            inward: dice.sometimes(4, impairment),
            outward: dice.sometimes(3, impairment),
        },
        police: dice.sometimes(6, limit),
        storm: StormControl {
            broadcast: dice.sometimes(6, limit),
            multicast: dice.sometimes(6, limit),
            unknown_unicast: dice.sometimes(6, limit),
        },
    }
}

fn impairment(dice: &mut Dice<'_>) -> Impairment {
    let share = |dice: &mut Dice<'_>| Share::from_ppm(dice.of(&[0, 0, 300_000, 1_000_000])).unwrap();
    Impairment {
        // At once, soon, or not while the case lasts.
        delay_us: dice.of(&[0, 50, 60_000_000]),
        jitter_us: dice.of(&[0, 0, 20]),
        distribution: dice.of(&[Distribution::Uniform, Distribution::Normal, Distribution::Pareto]),
        loss: share(dice),
        loss_burst: dice.sometimes(3, |dice| 1 + u32::from(dice.byte() % 4)),
        duplicate: share(dice),
        reorder: share(dice),
        corrupt: share(dice),
        rate_bps: dice.sometimes(4, |dice| dice.of(&[8, 10_000_000_000])),
        rate_pps: dice.sometimes(3, |dice| dice.of(&[1, 1_000_000])),
        burst_bytes: dice.of(&[0, 0, 3000]),
        priority: dice.one_in(2),
        limit: dice.sometimes(2, |dice| u32::from(dice.byte() % 8)),
        seed: Some(dice.byte().into()),
    }
}
