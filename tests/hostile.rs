//! What a hostile station may not do, with frames that any namespace can send by AF_PACKET. Each test says which fault it guards.

use std::time::Instant;

use etherparse::PacketBuilder;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{probe, probe_id};
use vswitch_testing::raw::{RawSocket, VnetHeader};
use vswitch_testing::{DEADLINE, Lab, Station};

const PINNED: &str = "--pin-mac own --pin-ip own";
/// An address that is nobody's.
const SPOOFED: [u8; 4] = [10, 7, 0, 99];

/// A hostile station and the one that it attacks.
struct Net<'a> {
    lab: &'a Lab,
    red: Station,
    blue: Station,
    sender: RawSocket,
    receiver: RawSocket,
    sent: u32,
    taken: u64,
}

impl<'a> Net<'a> {
    fn new(lab: &'a Lab, red: &str, blue: &str) -> Self {
        let red = Station::add_with(lab, "red", PortKind::Veth, 1, red);
        let blue = Station::add_with(lab, "blue", PortKind::Veth, 2, blue);
        red.ping_soon(blue.v4);
        let (sender, receiver) = (red.raw(true), blue.raw(true));
        Self {
            lab,
            red,
            blue,
            sender,
            receiver,
            sent: 0,
            taken: 0,
        }
    }

    /// Sends frames from red, and one that is honest, and counts in `taken` what the kernel did not refuse itself. What came to blue before that one, without what its neighbours say by themselves.
    fn send(&mut self, frames: &[(VnetHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
        self.taken = 0;
        for (header, frame) in frames {
            self.taken += u64::from(self.sender.try_send(*header, frame).is_ok());
        }
        self.sent += 1;
        let last = probe(Mac::BROADCAST, self.red.mac(), self.sent);
        self.sender.send(&last);
        let mut seen = Vec::new();
        loop {
            let end = Instant::now() + DEADLINE;
            let frame = self.receiver.recv(end).expect("the honest frame comes").bytes;
            if probe_id(&frame) == Some(self.sent) {
                return seen;
            }
            seen.push(frame);
        }
    }

    /// The same for frames of which none may come through, each counted for this reason.
    #[track_caller]
    fn refused(&mut self, reason: &str, frames: &[(VnetHeader, Vec<u8>)]) {
        let before = self.drops(reason);
        let seen = self.send(frames);
        for (_, frame) in frames {
            let payload = &frame[frame.len().saturating_sub(20)..];
            assert!(
                !seen.iter().any(|seen| seen.ends_with(payload)),
                "{reason}: {frame:02x?}"
            );
        }
        assert!(self.taken * 3 > frames.len() as u64, "the kernel took {}", self.taken);
        assert_eq!(self.drops(reason) - before, self.taken, "{reason}");
    }

    fn drops(&self, reason: &str) -> u64 {
        let drops = self.lab.port("red").counters.rx_drops;
        drops.get(reason).copied().unwrap_or(0)
    }

    fn udp(&self, source: [u8; 4], port: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.red.mac().0, self.blue.mac().0)
            .ipv4(source, self.blue.v4.octets(), 64)
            .udp(4000, port)
            .write(&mut frame, b"from a hostile station")
            .unwrap();
        frame
    }

    /// A message of DHCP to this port, by or for who has this hardware address.
    fn bootp(&self, to: u16, op: u8, chaddr: [u8; 6]) -> Vec<u8> {
        let message = [
            &[op, 1, 6, 0][..],
            &[0; 24],
            &chaddr,
            &[0; 202],
            b"from a hostile station",
        ]
        .concat();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.red.mac().0, [0xff; 6])
            .ipv4([0; 4], [255; 4], 64)
            .udp(if op == 1 { 68 } else { 67 }, to)
            .write(&mut frame, &message)
            .unwrap();
        frame
    }

    fn udp6(&self, source: &str) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.red.mac().0, self.blue.mac().0)
            .ipv6(source.octets(), self.blue.v6.octets(), 64)
            .udp(4000, 4001)
            .write(&mut frame, b"from a hostile station")
            .unwrap();
        frame
    }

    fn arp(&self, sender: [u8; 4]) -> Vec<u8> {
        let mut frame = [
            &self.blue.mac().0[..],
            &self.red.mac().0,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
        ]
        .concat();
        frame.extend(self.red.mac().0);
        frame.extend(sender);
        frame.extend(self.blue.mac().0);
        frame.extend(self.blue.v4.octets());
        frame.extend(b"from a hostile station");
        frame
    }

    /// An ICMPv6 message to blue: what is behind type, code and checksum, which is filled in.
    fn icmp6(&self, source: &str, kind: u8, body: &[u8]) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.red.mac().0, self.blue.mac().0)
            .ipv6(source.octets(), self.blue.v6.octets(), 255)
            .icmpv6_raw(kind, 0, body[..4].try_into().unwrap())
            .write(&mut frame, &body[4..])
            .unwrap();
        frame
    }
}

/// The link-local address that a station makes from its MAC address.
fn link_local(mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac.0;
    std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]).to_string()
}

fn plain(frame: Vec<u8>) -> (VnetHeader, Vec<u8>) {
    (VnetHeader::default(), frame)
}

/// The frame behind tags of these TPIDs that say VLAN 0, which Linux strips in any number.
fn tagged(frame: &[u8], tags: usize) -> Vec<u8> {
    let tag = |n: usize| {
        if n % 3 == 1 {
            [0x88, 0xa8, 0, 0]
        } else {
            [0x81, 0, 0, 0]
        }
    };
    let tags: Vec<u8> = (0..tags).flat_map(tag).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// Guards E1: three and more tags hid the rest of a frame from pins and lists.
#[test]
fn no_number_of_tags_hides_a_source_or_a_port() {
    let lab = Lab::with_one_worker();
    let mut net = Net::new(&lab, PINNED, "");
    for tags in [0, 1, 2, 3, 4, 9, 16] {
        net.refused("pin-ip", &[plain(tagged(&net.udp(SPOOFED, 9), tags))]);
        net.refused("pin-ip", &[plain(tagged(&net.udp6("fd07::99"), tags))]);
        net.refused("pin-arp", &[plain(tagged(&net.arp(SPOOFED), tags))]);
        // An honest one passes.
        let honest = tagged(&net.udp(net.red.v4.octets(), 9), tags);
        assert!(net.send(&[plain(honest.clone())]).contains(&honest), "{tags}");
    }
    for tags in [17, 200] {
        net.refused("unreadable", &[plain(tagged(&net.udp(SPOOFED, 9), tags))]);
    }
    // The same hidden in an LLC/SNAP header (CVE-2021-27854).
    let spoofed = net.arp(SPOOFED);
    let snap = [&spoofed[..12], &[0, 60, 0xaa, 0xaa, 3, 0, 0, 0], &spoofed[12..]].concat();
    net.refused("unreadable", &[plain(snap.clone()), plain(tagged(&snap, 3))]);
    lab.ok("set port red --pin-ip any --pin-mac any");
    lab.ok("acl add red in deny udp to any port 53");
    for tags in [0, 2, 3, 7] {
        net.refused("acl-in", &[plain(tagged(&net.udp(SPOOFED, 53), tags))]);
    }
    net.refused("unreadable", &[plain(tagged(&net.udp(SPOOFED, 53), 20))]);
    // So does a list on the way out.
    lab.ok("acl clear red");
    lab.ok("acl add blue out deny udp to any port 53");
    let frames = [3, 20].map(|tags| plain(tagged(&net.udp(SPOOFED, 53), tags)));
    let seen = net.send(&frames);
    assert!(!seen.iter().any(|frame| frame.ends_with(b"hostile station")));
    let drops = lab.port("blue").counters.tx_drops;
    assert_eq!((drops["acl-out"], drops["unreadable"]), (1, 1));
    lab.wait_for_sums();
}

/// Guards B1: a partial checksum that is aimed at what was checked already, finished on the way out to a port without offloads.
#[test]
fn a_checksum_can_not_be_aimed_at_what_was_checked() {
    let lab = Lab::with_one_worker();
    let mut net = Net::new(&lab, PINNED, "--no-offload");
    let aimed = |start, offset| VnetHeader {
        flags: 1,
        csum_start: start,
        csum_offset: offset,
        ..VnetHeader::default()
    };
    let udp = net.udp(net.red.v4.octets(), 9);
    let arp = net.arp(net.red.v4.octets());
    let frames = [
        // IPv4 source, protocol, ports; the tag; the sender in ARP.
        (aimed(20, 8), udp.clone()),
        (aimed(14, 14), udp.clone()),
        (aimed(14, 9), udp.clone()),
        (aimed(34, 0), udp.clone()),
        (aimed(34, 2), udp.clone()),
        (aimed(14, 0), tagged(&udp, 1)),
        (aimed(16, 26), tagged(&udp, 3)),
        (aimed(14, 14), arp.clone()),
        (aimed(28, 0), arp),
        (aimed(22, 16), net.udp6("fd07::1")),
    ];
    net.refused("malformed", &frames);
    // Where it belongs it is finished, also in a tunnel.
    let mut partial = udp.clone();
    partial[40..42].copy_from_slice(&[0, 0]);
    let seen = net.send(&[(aimed(34, 6), partial)]);
    assert!(seen.iter().any(|frame| frame[..40] == udp[..40]));
    let inner = [&udp[..42], &[8; 60]].concat();
    let mut tunnel = inner.clone();
    let len = (tunnel.len() - 34) as u16;
    tunnel[16..18].copy_from_slice(&(20 + len).to_be_bytes());
    tunnel[38..40].copy_from_slice(&len.to_be_bytes());
    let seen = net.send(&[(aimed(42 + 34, 6), tunnel.clone())]);
    assert!(
        seen.iter()
            .any(|frame| frame[..42] == tunnel[..42] && frame.len() == tunnel.len())
    );
    lab.wait_for_sums();
}

/// Guards B3: one GSO frame that became 60,000 frames.
#[test]
fn a_frame_becomes_a_bounded_number_of_segments() {
    let lab = Lab::with_one_worker();
    let mut net = Net::new(&lab, "", "--no-offload");
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(net.red.mac().0, net.blue.mac().0)
        .ipv4(net.red.v4.octets(), net.blue.v4.octets(), 64)
        .tcp(4000, 4001, 1, 1000)
        .write(&mut frame, &[7; 60_000])
        .unwrap();
    let gso = |gso_size| VnetHeader {
        flags: 1,
        gso_type: 1,
        hdr_len: 54,
        gso_size,
        csum_start: 34,
        csum_offset: 16,
    };
    net.refused(
        "malformed",
        &[
            (gso(1), frame.clone()),
            (gso(7), frame.clone()),
            (gso(40), frame.clone()),
        ],
    );
    // A stack with a small MSS.
    let seen = net.send(&[(gso(76), frame)]);
    assert_eq!(
        seen.iter().filter(|seen| seen.ends_with(&[7; 30])).count(),
        60_000usize.div_ceil(76)
    );
}

/// Guards E3: a TCP header in two fragments, none of which a list could judge.
#[test]
fn a_header_in_fragments_does_not_pass_a_list() {
    let lab = Lab::with_one_worker();
    let mut net = Net::new(&lab, "", "");
    lab.ok("acl add red in deny tcp to any port 22 flags syn,!ack");
    let mut syn = Vec::new();
    PacketBuilder::ethernet2(net.red.mac().0, net.blue.mac().0)
        .ipv4(net.red.v4.octets(), net.blue.v4.octets(), 64)
        .tcp(4000, 22, 1, 1000)
        .syn()
        .write(&mut syn, b"from a hostile station, and its end")
        .unwrap();
    let part = |from: usize, to: usize, more: u8, padding: usize| {
        let mut part = [&syn[..34], &syn[34 + from..34 + to]].concat();
        part[16..18].copy_from_slice(&(20 + (to - from) as u16).to_be_bytes());
        part[20..22].copy_from_slice(&[more, (from / 8) as u8]);
        part.extend(vec![0xff; padding]);
        plain(part)
    };
    let end = syn.len() - 34;
    net.refused("acl-in", &[plain(syn.clone())]);
    // Cut at 8 bytes, also with padding that looks like flags; overwritten by a second at offset 1.
    let frames = [
        part(0, 8, 0x20, 0),
        part(0, 8, 0x20, 40),
        part(0, 16, 0x20, 0),
        part(8, end, 0, 0),
    ];
    net.refused("tiny-fragment", &frames);
    // Honest fragments pass.
    net.red
        .place
        .run_ok(&format!("ping -n -c 1 -W 10 -s 5000 {}", net.blue.v4));
    net.red
        .place
        .run_ok(&format!("ping -n -c 1 -W 10 -s 5000 {}", net.blue.v6));
}

/// Guards E2: neighbour entries and routes of others taken over by their link-local addresses.
#[test]
fn a_pinned_station_is_no_neighbour_of_another_name_and_no_router() {
    let lab = Lab::with_one_worker();
    let mut net = Net::new(&lab, PINNED, "");
    let mac = net.red.mac().0;
    let own = link_local(net.red.mac());
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let lladdr = |kind: u8| [&[kind, 1][..], &mac].concat();
    let advert = |target: &str| [&[0x20, 0, 0, 0][..], &address(target), &lladdr(2)].concat();
    let router = [&[64, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 0][..], &lladdr(1)].concat();
    let redirect = [&[0; 4][..], &address("fe80::1"), &address("fd07::5"), &lladdr(2)].concat();
    let gateway = [
        net.icmp6("fe80::1", 136, &advert("fe80::1")),
        net.icmp6("fe80::1", 134, &router),
        net.udp6("fe80::1"),
    ];
    net.refused("pin-ip", &gateway.map(plain));
    let others = [
        net.icmp6(&own, 136, &advert("fe80::1")),
        net.icmp6(&own, 136, &advert("fd07::2")),
        net.icmp6("::", 135, &advert("fd07::2")[..20]),
    ];
    net.refused("pin-nd", &others.map(plain));
    let routers = [net.icmp6(&own, 134, &router), net.icmp6(&own, 137, &redirect)];
    net.refused("pin-router", &routers.clone().map(plain));
    let deep = tagged(&routers[0], 5);
    net.refused("pin-router", &[plain(deep)]);
    lab.ok("set port red --allow-ra on");
    assert!(lab.ok("port show red").contains("may send advertisements"));
    let seen = net.send(&routers.clone().map(plain));
    assert!(routers.iter().all(|frame| seen.contains(frame)), "{seen:02x?}");
    // Others' names stay refused.
    net.refused("pin-ip", &[plain(net.icmp6("fe80::1", 134, &router))]);

    // An honest station goes on: its link-local address, duplicate address detection, both families.
    let ping = format!("ping -n -c 1 -W 10 {}%eth0", link_local(net.blue.mac()));
    net.red.place.run_ok(&ping);
    net.red.place.run_ok("ip addr del fd07::1/64 dev eth0");
    net.red.place.run_ok("ip addr add fd07::1/64 dev eth0");
    net.red.ping_soon(net.blue.v6);
    // Not before it has found that nobody else has it.
    net.blue.ping_soon(net.red.v6);
    net.blue.ping(net.red.v4);
}

/// Guards E2: a pinned station was DHCP server and router of the others, and had leases made in their names.
#[test]
fn a_pinned_station_is_no_dhcp_server_and_asks_for_itself() {
    let lab = Lab::with_one_worker();
    let mut net = Net::new(&lab, PINNED, "");
    let (red, blue) = (net.red.mac().0, net.blue.mac().0);
    let answers = [net.bootp(68, 2, blue), net.bootp(67, 2, blue)];
    net.refused("pin-router", &answers.clone().map(plain));
    let for_blue = net.bootp(67, 1, blue);
    net.refused("pin-mac", &[plain(for_blue)]);
    let own = net.bootp(67, 1, red);
    let seen = net.send(&[plain(own.clone())]);
    assert!(seen.contains(&own), "{seen:02x?}");
    lab.ok("set port red --allow-ra on");
    let seen = net.send(&answers.clone().map(plain));
    assert!(answers.iter().all(|frame| seen.contains(frame)), "{seen:02x?}");
}

/// Guards D11: later fragments of what is permitted.
#[test]
fn fragments_of_what_is_permitted_pass_by_their_word() {
    let lab = Lab::with_one_worker();
    let mut net = Net::new(&lab, "", "");
    let mut whole = Vec::new();
    PacketBuilder::ethernet2(net.red.mac().0, net.blue.mac().0)
        .ipv4(net.red.v4.octets(), net.blue.v4.octets(), 64)
        .udp(4000, 5000)
        .write(&mut whole, &[7; 64])
        .unwrap();
    let part = |from: usize, to: usize, more: u8| {
        let mut part = [&whole[..34], &whole[34 + from..34 + to]].concat();
        part[16..18].copy_from_slice(&(20 + (to - from) as u16).to_be_bytes());
        part[20..22].copy_from_slice(&[more, (from / 8) as u8]);
        part
    };
    let parts = [part(0, 40, 0x20), part(40, 72, 0)];
    lab.ok("acl add red in permit udp to any port 5000");
    lab.ok("acl add red in deny udp");
    let seen = net.send(&parts.clone().map(plain));
    assert_eq!((seen.contains(&parts[0]), seen.contains(&parts[1])), (true, false));
    assert_eq!(net.drops("acl-in"), 1);
    lab.ok("acl add red in --at 2 permit udp fragment");
    let seen = net.send(&parts.clone().map(plain));
    assert!(parts.iter().all(|part| seen.contains(part)));
    lab.ctl("acl add red in deny udp to any port 5000 fragment")
        .failed(2, &["leave either out"]);
}
