//! What may enter the switch, and what may not.

use super::*;
use crate::frame::testing::Shape;
use crate::frame::{ETHERTYPE_ARP, complete};

/// A frame with one byte of payload for each of `payload`, and the header that Linux would put before it.
fn tcp(ipv6: bool, gso_size: u16, payload: usize) -> (Vec<u8>, VnetHeader) {
    let gso = if ipv6 { Gso::TcpV6 } else { Gso::TcpV4 };
    let payload = vec![7; payload];
    let shape = Shape {
        gso,
        ipv6,
        tags: 0,
        options: false,
        gso_size,
        payload,
    };
    shape.build()
}

fn partial(start: usize, offset: usize) -> VnetHeader {
    VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        csum_start: start as u16,
        csum_offset: offset as u16,
        ..VnetHeader::default()
    }
}

/// An IPv4 packet of `len` bytes behind its header, and the Ethernet header.
fn ipv4(protocol: u8, len: u16) -> Vec<u8> {
    let mut frame = [&[2; 12][..], &[8, 0, 0x45, 0]].concat();
    frame.extend((20 + len).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.resize(34 + usize::from(len), 0);
    frame
}

/// All places at which a partial checksum is taken, as start and field.
fn places(frame: &[u8]) -> Vec<(usize, usize)> {
    let all = (0..frame.len() + 4).flat_map(|start| (0..frame.len() + 4).map(move |offset| (start, offset)));
    all.filter(|(start, offset)| partial(*start, *offset).check(frame).is_ok())
        .collect()
}

/// Guards B1: a checksum aimed at a field that was checked already. Wherever one is taken, finishing it changes nothing
/// that a pin or a list reads.
#[test]
#[cfg_attr(miri, ignore = "it takes minutes there")]
fn a_checksum_is_never_finished_in_what_was_looked_at() {
    assert_eq!(places(&ipv4(PROTOCOL_TCP, 30)), [(34, 16)]);
    assert_eq!(places(&ipv4(PROTOCOL_ICMP, 30)), [(34, 2)]);
    assert_eq!(places(&ipv4(PROTOCOL_SCTP, 30)), [(34, 8)]);
    // A tunnel's own, and any further inside.
    let udp = places(&ipv4(PROTOCOL_UDP, 40));
    assert!(udp.contains(&(34, 6)) && udp.contains(&(34 + 8 + 8 + 14 + 4, 2)));
    assert!(
        udp.iter().all(|place| *place == (34, 6) || place.0 >= 34 + 8),
        "{udp:?}"
    );
    // GRE and others: nothing of them is looked at.
    assert!(places(&ipv4(47, 40)).iter().all(|(start, _)| *start >= 34));
    // Neither fragments nor ARP have one, nor has what can't be read.
    for fragment in [0x20, 0x01] {
        let mut frame = ipv4(PROTOCOL_UDP, 40);
        frame[20] = fragment;
        assert_eq!(places(&frame), []);
    }
    let mut arp = ipv4(0, 40);
    arp[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    assert_eq!(places(&arp), []);
    let mut cut = ipv4(PROTOCOL_TCP, 30);
    cut.pop();
    assert_eq!(places(&cut), []);
    let deep = [&[2; 12][..], &[0x81, 0, 0, 0].repeat(17), &ipv4(PROTOCOL_TCP, 30)[12..]].concat();
    assert_eq!(places(&deep), []);
    // Nor is one finished in a tag, or in padding.
    let tagged = [
        &[2; 12][..],
        &[0x81, 0, 0, 0].repeat(3),
        &ipv4(PROTOCOL_TCP, 30)[12..],
        &[0; 20],
    ]
    .concat();
    assert_eq!(places(&tagged), [(34 + 12, 16)]);
    // MPLS, PPPoE: behind the EtherType.
    let mut other = ipv4(0, 20);
    other[12..14].copy_from_slice(&[0x88, 0x47]);
    assert!(places(&other).iter().all(|(start, _)| *start >= 14));
}

#[test]
fn the_frame_that_passed_a_pin_is_refused() {
    let mut frame = ipv4(PROTOCOL_UDP, 26);
    let before = frame.clone();
    let mut aimed = partial(20, 8);
    assert_eq!(
        complete(&mut frame, &mut aimed),
        Err(VnetError::Checksum { start: 20, offset: 8 })
    );
    assert_eq!(frame, before);
}

/// Guards B3: a GSO frame that asks for more segments than any stack does.
#[test]
#[cfg_attr(miri, ignore = "it takes minutes there")]
fn segments_are_neither_too_small_nor_too_many() {
    for ipv6 in [false, true] {
        let check = |gso_size, payload| {
            let (frame, header) = tcp(ipv6, gso_size, payload);
            header.check(&frame).is_ok()
        };
        for (size, payload) in [(0, 100), (1, 60_000), (1, 1), (7, 8), (8, 60_000), (40, 60_000)] {
            assert!(!check(size, payload), "{size}");
        }
        // MSS 88 with and without options, 536, and as usual.
        for (size, payload) in [
            (48, 65_000),
            (76, 65_000),
            (88, 65_000),
            (524, 65_000),
            (1448, 65_000),
            (8, 1000),
        ] {
            assert!(check(size, payload), "{size}");
        }
    }
}

#[test]
fn a_gso_frame_is_of_the_protocol_that_it_says() {
    let (frame, header) = tcp(false, 1000, 2500);
    for (gso, csum_offset) in [(Gso::TcpV6, 16), (Gso::UdpL4, 6)] {
        for flags in [0, VnetHeader::NEEDS_CSUM] {
            let other = VnetHeader {
                gso,
                flags,
                csum_offset,
                ..header
            };
            assert!(other.check(&frame).is_err(), "{other:?}");
        }
    }
    // Found to be right by the sender.
    let complete = VnetHeader {
        flags: VnetHeader::DATA_VALID,
        ..header
    };
    assert_eq!(complete.check(&frame), Ok(()));
    assert_eq!(complete.check(&frame[..50]), Err(VnetError::HeaderLength(54)));
    let mut fragment = frame.clone();
    fragment[20] = 0x20;
    assert_eq!(complete.check(&fragment), Err(VnetError::Protocol));
}

#[test]
fn what_is_no_frame_is_refused() {
    assert_eq!(Checked::new(&[0; 9]).unwrap_err(), CheckError::Runt);
    assert_eq!(Checked::new(&[0; VNET_HDR_LEN + 13]).unwrap_err(), CheckError::Runt);
    assert!(Checked::new(&[0; VNET_HDR_LEN + 14]).is_ok());
    let unknown = [&[0, 0x83][..], &[0; 60]].concat();
    assert_eq!(
        Checked::new(&unknown).unwrap_err(),
        CheckError::Malformed(VnetError::GsoType(0x83))
    );
}
