//! Checksums and segmentation: right whatever each side can do, and as on a wire where that is asked for.

use std::time::Instant;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::probe_of_len;
use vswitch_testing::raw::{RawSocket, VnetHeader};
use vswitch_testing::{DEADLINE, Lab, Station, transfer, wait_for};

/// What a namespace's own user may have turned off, after advice against broken switches.
const ALL_OFF: &str = "rx off tx off sg off tso off gso off gro off";

#[test]
fn data_is_right_with_the_receivers_offloads_off() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for receiver in &stations {
        receiver.ethtool(ALL_OFF);
        for sender in stations.iter().filter(|sender| sender.port != receiver.port) {
            for v6 in [false, true] {
                eprintln!(
                    "{} -> {} (off) over IPv{}",
                    sender.port,
                    receiver.port,
                    if v6 { 6 } else { 4 }
                );
                transfer::tcp(sender, receiver, v6, 8);
                transfer::udp(sender, receiver, v6);
                transfer::udp_gso(sender, receiver, v6);
            }
        }
        receiver.ethtool(&ALL_OFF.replace("off", "on"));
    }
}

#[test]
fn a_port_without_offload_gets_frames_as_on_a_wire() {
    let lab = Lab::new();
    let sender = Station::add(&lab, "sender", PortKind::Tap, 1);
    for (kind, n) in [
        (PortKind::Veth, 2),
        (PortKind::Tap, 3),
        (PortKind::Device, 4),
        (PortKind::Internal, 5),
    ] {
        let receiver = Station::add_with(&lab, kind.word(), kind, n, "--no-offload");
        for v6 in [false, true] {
            receiver.ping_soon(sender.ip(v6));
            // Before GRO merges what arrives: a raw socket sees frames as they come from the driver only with GRO off.
            receiver.ethtool("gro off");
            let wire = receiver.raw(true);
            transfer::tcp(&sender, &receiver, v6, 4);
            transfer::udp(&sender, &receiver, v6);
            transfer::udp_gso(&sender, &receiver, v6);
            let sums = check_as_on_a_wire(&wire, 1500);
            assert!(
                sums > 200,
                "only {sums} TCP and UDP checksums were seen at {}",
                receiver.port
            );
        }
    }
}

#[test]
fn offload_can_be_turned_off_and_on_while_traffic_flows() {
    let lab = Lab::new();
    let a = Station::add(&lab, "a", PortKind::Veth, 1);
    let b = Station::add(&lab, "b", PortKind::Tap, 2);
    let pair = transfer::TcpPair::connect(&a, &b, false);
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| pair.exchange(512));
        let mut turns = 0;
        while !transfer.is_finished() || turns < 4 {
            let state = if turns % 2 == 0 { "off" } else { "on" };
            lab.ok(&format!("set port a --offload {state}"));
            lab.ok(&format!("set port b --offload {state}"));
            turns += 1;
        }
    });
    assert!(lab.port("a").port.offload == lab.port("b").port.offload);
}

#[test]
fn a_small_mtu_gets_segments_that_fit() {
    // The sender may send 9000 bytes, the receiver takes 1500: TCP learns the smaller size from the other's MSS,
    // yet hands over GSO frames of 64 KiB, which must come out in pieces of the receiver's size.
    let lab = Lab::new();
    let jumbo = Station::add_with(&lab, "jumbo", PortKind::Tap, 1, "--mtu 9000");
    for (kind, n) in [(PortKind::Veth, 2), (PortKind::Tap, 3), (PortKind::Internal, 4)] {
        let small = Station::add_with(&lab, kind.word(), kind, n, "--mtu 1400");
        for v6 in [false, true] {
            transfer::tcp(&jumbo, &small, v6, 16);
            transfer::tcp(&small, &jumbo, v6, 16);
        }
    }
}

#[test]
fn over_long_frames_are_dropped_and_counted_as_mtu() {
    let lab = Lab::new();
    let jumbo = Station::add_with(&lab, "jumbo", PortKind::Veth, 1, "--mtu 9000");
    let small = Station::add(&lab, "small", PortKind::Veth, 2);
    jumbo.ping(small.v4);
    let sent = jumbo
        .place
        .output(&format!("ping -n -c 3 -i 0.01 -W 1 -M do -s 4000 {}", small.v4));
    assert!(!sent.status.success(), "4028 bytes went through an MTU of 1500");
    let counters = lab.port("small").counters;
    assert_eq!(counters.tx_drops.get("mtu"), Some(&3), "{counters:?}");
    jumbo.ping(small.v4);
}

/// Reads all frames that are there and checks that each fits and has complete, right checksums. Gives how many sums.
fn check_as_on_a_wire(wire: &RawSocket, mtu: usize) -> usize {
    let mut sums = 0;
    let end = Instant::now() + DEADLINE;
    while let Ok(frame) = wire.try_recv() {
        assert!(Instant::now() < end, "frames without end");
        assert_eq!(
            frame.vnet.gso_type,
            0,
            "a GSO frame of {} bytes came out",
            frame.bytes.len()
        );
        assert_eq!(frame.vnet.flags & 1, 0, "a partial checksum came out");
        assert!(
            frame.bytes.len() <= mtu + 14,
            "{} bytes came out of an MTU of {mtu}",
            frame.bytes.len()
        );
        sums += usize::from(checksum_is_right(&frame.bytes));
    }
    sums
}

/// False: the frame has no TCP or UDP checksum to check (ARP, ICMP, fragments).
fn checksum_is_right(frame: &[u8]) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let fragment = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "IPv4 header checksum"
            );
            header.is_fragmenting_payload()
        }
        Some(NetSlice::Ipv6(ip)) => ip.extensions().is_fragmenting_payload(),
        _ => return false,
    };
    if fragment {
        return false;
    }
    let (found, right) = match (&packet.net, &packet.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) => (
            tcp.checksum(),
            tcp.to_header()
                .calc_checksum_ipv4(&ip.header().to_header(), tcp.payload())
                .unwrap(),
        ),
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(tcp))) => (
            tcp.checksum(),
            tcp.to_header()
                .calc_checksum_ipv6(&ip.header().to_header(), tcp.payload())
                .unwrap(),
        ),
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) => (
            udp.checksum(),
            udp.to_header()
                .calc_checksum_ipv4(&ip.header().to_header(), udp.payload())
                .unwrap(),
        ),
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) => (
            udp.checksum(),
            udp.to_header()
                .calc_checksum_ipv6(&ip.header().to_header(), udp.payload())
                .unwrap(),
        ),
        _ => return false,
    };
    // A sum of zero has two forms. Both are right in TCP, and UDP has the one that does not mean "none".
    let found = match (found, &packet.transport) {
        (0xffff, Some(TransportSlice::Tcp(_))) if right == 0 => 0,
        _ => found,
    };
    assert_eq!(found, right, "a checksum is wrong: {frame:02x?}");
    true
}

#[test]
fn ip_fragments_arrive_whole_at_every_kind() {
    // wait_for: the first exchange also resolves addresses.
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for a in &stations {
        for b in stations.iter().filter(|b| b.port != a.port) {
            for v6 in [false, true] {
                let line = format!("ping -n -c 1 -W 5 -s 20000 {}", b.ip(v6));
                wait_for(&line, || a.place.output(&line).status.success());
            }
        }
    }
}

#[test]
fn strange_virtio_net_headers_from_a_namespace_harm_nobody() {
    let mut lab = Lab::new();
    let a = Station::add(&lab, "a", PortKind::Veth, 1);
    let b = Station::add(&lab, "b", PortKind::Tap, 2);
    let plain = Station::add_with(&lab, "plain", PortKind::Tap, 3, "--no-offload");
    a.ping(plain.v4);
    let sender = a.raw(true);
    let mut taken = 0;
    // A TCP frame by its headers, though nothing behind them is right.
    let mut frame = probe_of_len(plain.mac(), a.mac(), 1, 4000);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0x0f, 0x92, 0, 0, 0x40, 0, 64, 6]);
    frame[46] = 0x50;
    for destination in [plain.mac(), b.mac(), Mac::BROADCAST] {
        frame[..6].copy_from_slice(&destination.0);
        for gso_type in [0u8, 1, 4, 3, 5, 0x81] {
            for (gso_size, hdr_len) in [(0, 0), (1, 54), (8, 54), (1400, 54), (1400, 4000), (65_535, 54)] {
                for (flags, csum_start, csum_offset) in
                    [(0, 0, 0), (1, 34, 16), (1, 0, 0), (1, 3998, 0), (1, 34, 6), (2, 0, 0)]
                {
                    let header = VnetHeader {
                        flags,
                        gso_type,
                        hdr_len,
                        gso_size,
                        csum_start,
                        csum_offset,
                    };
                    // The kernel refuses some of these itself.
                    taken += u32::from(sender.try_send(header, &frame).is_ok());
                }
            }
        }
    }
    assert!(taken > 50, "the kernel took only {taken} of the frames");
    a.ping(plain.v4);
    b.ping(a.v6);
    transfer::tcp(&a, &plain, false, 4);
    assert!(lab.daemon().ended().is_none());
    assert!(!lab.daemon().log().contains("panicked"));
}
