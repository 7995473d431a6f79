//! Every frame that a stack may make arrives: TCP and UDP over IPv4 and IPv6, in one piece and in segments that somebody is still to cut,
//! bare and inside VXLAN, with no tag, one and two, between all kinds of ports, with the fast path and without, whatever the two ends
//! can do. Real bytes through real sockets are compared.
//!
//! Tags and the offloads of the two ends are combined in pairs, all else in full; with `VSWITCH_TEST_MATRIX=full` in the environment
//! everything is.

use std::env;

use vswitch_testing::api::PortKind;
use vswitch_testing::station::ALL_KINDS;
use vswitch_testing::{Lab, Station, run, transfer, trunk};

/// How many tags all frames of a station have.
type Tags = usize;

/// What one end of the switch leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offloads {
    /// All that its kind can.
    Default,
    /// `--no-offload`: the switch sums and cuts up what goes to it.
    Port,
    /// Nothing: turned off at the interface, of a device at both ends of it.
    Interface,
}

const OFFLOADS: [Offloads; 3] = [Offloads::Default, Offloads::Port, Offloads::Interface];

/// One station with its tunnels.
struct End {
    station: Station,
    kind: PortKind,
    /// Inside VXLAN over IPv4, without a checksum outside, and over IPv6, with one.
    tunnels: [Station; 2],
}

impl End {
    fn add(lab: &Lab, name: &str, kind: PortKind, n: u8) -> Self {
        let station = Station::add(lab, name, kind, n);
        let tunnels = [(4, "group 239.7.0.4"), (6, "group ff05::7:6")].map(|(id, group)| {
            // In the namespace of the host as in the others: one station of the kind `internal` is enough for it.
            let (ifname, dev) = (format!("vx{id}"), &station.ifname);
            let run = |line: String| station.place.run_ok(&line);
            run(format!(
                "ip link add {ifname} type vxlan id {id} {group} dev {dev} dstport 478{id}"
            ));
            let inner = Station {
                v4: [10, 7, id, n].into(),
                v6: [0xfd07, id.into(), 0, 0, 0, 0, 0, n.into()].into(),
                ifname: ifname.clone(),
                ..station.clone()
            };
            run(format!("ip addr add {}/24 dev {ifname}", inner.v4));
            run(format!("ip addr add {}/64 dev {ifname} nodad", inner.v6));
            run(format!("ip link set {ifname} up"));
            inner
        });
        Self { station, kind, tunnels }
    }

    fn set_tags(&self, lab: &Lab, tags: Tags) {
        match tags {
            0 => {}
            1 => trunk::tag(lab, &self.station),
            _ => trunk::tag_twice(lab, &self.station),
        }
    }

    fn set_offloads(&self, lab: &Lab, offloads: Offloads) {
        let on_unless = |off| if offloads == off { "off" } else { "on" };
        let port = &self.station.port;
        lab.ok(&format!("set port {port} --offload {}", on_unless(Offloads::Port)));
        let on = on_unless(Offloads::Interface);
        let features = format!("rx {on} tx {on} sg {on} tso {on} gso {on} gro {on}");
        self.station.ethtool(&features);
        if self.kind == PortKind::Device {
            run(&format!("ethtool -K {port} {features}"));
        }
    }
}

#[test]
fn whatever_a_stack_sends_arrives() {
    matrix(|_| {});
}

/// The same where the kernel forwards nothing by itself, whatever the environment says.
#[test]
fn whatever_a_stack_sends_arrives_without_the_fast_path() {
    matrix(|lab| lab.set_datapath("fastpath", false));
}

fn matrix(set_up: impl Fn(&mut Lab)) {
    let mut lab = Lab::without_daemon();
    set_up(&mut lab);
    lab.start();
    let left: Vec<_> = ALL_KINDS
        .into_iter()
        .zip(1..)
        .map(|(kind, n)| End::add(&lab, &format!("l{}", kind.word()), kind, n))
        .collect();
    let right: Vec<_> = [PortKind::Veth, PortKind::Tap, PortKind::Device]
        .into_iter()
        .zip(11..)
        .map(|(kind, n)| End::add(&lab, &format!("r{}", kind.word()), kind, n))
        .collect();
    let full = env::var_os("VSWITCH_TEST_MATRIX").is_some_and(|value| value == "full");
    for tags in 0..3 {
        left.iter().chain(&right).for_each(|end| end.set_tags(&lab, tags));
        for (i, one) in OFFLOADS.into_iter().enumerate() {
            for (j, other) in OFFLOADS.into_iter().enumerate() {
                // Each pair of two of the three is there once: a Latin square.
                if !full && j != (i + tags) % OFFLOADS.len() {
                    continue;
                }
                left.iter().for_each(|end| end.set_offloads(&lab, one));
                right.iter().for_each(|end| end.set_offloads(&lab, other));
                for a in &left {
                    for b in &right {
                        eprintln!(
                            "{tags} tags, {one:?} and {other:?}: {} - {}",
                            a.station.port, b.station.port
                        );
                        exchange(&a.station, &b.station, tags);
                        for (a, b) in a.tunnels.iter().zip(&b.tunnels) {
                            eprintln!("  inside {}", a.ifname);
                            exchange(a, b, tags);
                        }
                    }
                }
            }
        }
        if tags > 0 {
            left.iter().chain(&right).for_each(|end| trunk::untag(&end.station));
        }
    }
    for port in lab.ports() {
        let counters = &port.counters;
        for reason in ["rejected", "malformed", "mtu", "oversize"] {
            let dropped = [&counters.rx_drops, &counters.tx_drops].map(|drops| drops.get(reason).copied());
            assert_eq!(dropped, [None, None], "{reason}: {port:#?}");
        }
    }
}

/// All kinds of GSO and none, both ways. With two tags no stack makes UDP segments: Linux can't cut them for its own interface,
/// and the sender is told so (ENOMEM).
fn exchange(a: &Station, b: &Station, tags: Tags) {
    for v6 in [false, true] {
        transfer::tcp(a, b, v6, 4);
        transfer::udp(a, b, v6);
        if tags < 2 {
            transfer::udp_gso(a, b, v6);
            transfer::udp_gso(b, a, v6);
        }
    }
}
