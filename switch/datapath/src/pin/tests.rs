use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LINK_LOCAL: &str = "fe80::ff:fe00:1";
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn table() -> PinTable {
    PinTable::new(
        Some(&[Mac(OWN)]),
        Some(&["10.0.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()]),
    )
}

fn arp(mac: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let mut frame = [[0xff; 6], OWN].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(ip);
    frame.extend([0; 10]);
    frame
}

fn advertisement(source: &str, target: &str, mac: [u8; 6]) -> Vec<u8> {
    let mut payload = vec![0u8, 0, 0, 0];
    payload.extend(target.parse::<Ipv6Addr>().unwrap().octets());
    payload.extend([2, 1]);
    payload.extend(mac);
    let mut frame = Vec::new();
    let source = source.parse::<Ipv6Addr>().unwrap().octets();
    PacketBuilder::ethernet2(OWN, OTHER)
        .ipv6(source, [0xff; 16], 255)
        .icmpv6_raw(136, 0, [0; 4])
        .write(&mut frame, &payload[4..])
        .unwrap();
    frame
}

#[test]
fn only_its_own_addresses() {
    let table = table();
    let check = |frame: &[u8]| table.check(&Reading::of(frame), VnetHeader::default(), Mac(OWN));
    assert_eq!(
        table.check(
            &Reading::of(&arp(OWN, [10, 0, 0, 1])),
            VnetHeader::default(),
            Mac(OTHER)
        ),
        Err(DropReason::PinMac)
    );
    assert_eq!(check(&arp(OWN, [10, 0, 0, 1])), Ok(()));
    assert_eq!(check(&arp(OWN, [0, 0, 0, 0])), Ok(()));
    assert_eq!(check(&arp(OWN, [10, 0, 0, 2])), Err(DropReason::PinArp));
    assert_eq!(check(&arp(OTHER, [10, 0, 0, 1])), Err(DropReason::PinArp));
    assert_eq!(check(&arp(OWN, [10, 0, 0, 1])[..30]), Err(DropReason::PinArp));
    for (source, expected) in [([10, 0, 0, 1], Ok(())), ([10, 0, 0, 2], Err(DropReason::PinIp))] {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(OWN, OTHER)
            .single_vlan(etherparse::VlanId::try_new(5).unwrap())
            .ipv4(source, [10, 0, 0, 9], 64)
            .udp(1, 2)
            .write(&mut frame, b"x")
            .unwrap();
        assert_eq!(check(&frame), expected);
    }
    assert_eq!(check(&advertisement("fd00::1", "fd00::1", OWN)), Ok(()));
    assert_eq!(check(&advertisement(LINK_LOCAL, LINK_LOCAL, OWN)), Ok(()));
    assert_eq!(
        check(&advertisement("fe80::7", LINK_LOCAL, OWN)),
        Err(DropReason::PinIp)
    );
    assert_eq!(
        check(&advertisement(LINK_LOCAL, "fe80::7", OWN)),
        Err(DropReason::PinNd)
    );
    assert_eq!(check(&advertisement(LINK_LOCAL, "::", OWN)), Err(DropReason::PinNd));
    assert_eq!(check(&advertisement("fd00::2", "fd00::1", OWN)), Err(DropReason::PinIp));
    assert_eq!(check(&advertisement("fd00::1", "fd00::2", OWN)), Err(DropReason::PinNd));
    assert_eq!(
        check(&advertisement("fd00::1", "fd00::1", OTHER)),
        Err(DropReason::PinNd)
    );
}

/// An ICMPv6 message of this type.
fn message(kind: u8, source: &str) -> Vec<u8> {
    let mut frame = advertisement(source, "fd00::2", OWN);
    frame[54] = kind;
    frame
}

#[test]
fn a_router_speaks_by_permission_only() {
    for kind in [ROUTER_ADVERTISEMENT, REDIRECT] {
        let frame = message(kind, LINK_LOCAL);
        assert_eq!(
            table().check(&Reading::of(&frame), VnetHeader::default(), Mac(OWN)),
            Err(DropReason::PinRouter)
        );
        let macs_only = PinTable::new(Some(&[Mac(OWN)]), None);
        assert_eq!(
            macs_only.check(&Reading::of(&frame), VnetHeader::default(), Mac(OWN)),
            Err(DropReason::PinRouter)
        );
    }
    let router = table().with_router(true);
    assert_eq!(
        router.check(
            &Reading::of(&message(REDIRECT, LINK_LOCAL)),
            VnetHeader::default(),
            Mac(OWN)
        ),
        Ok(())
    );
    // It is still held to its own address.
    let other = message(ROUTER_ADVERTISEMENT, "fe80::1");
    assert_eq!(
        router.check(&Reading::of(&other), VnetHeader::default(), Mac(OWN)),
        Err(DropReason::PinIp)
    );
    for (kind, expected) in [
        (5, Err(DropReason::PinRouter)),
        (9, Err(DropReason::PinRouter)),
        (8, Ok(())),
    ] {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(OWN, OTHER)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64)
            .icmpv4_raw(kind, 0, [0; 4])
            .write(&mut frame, &[0; 28])
            .unwrap();
        assert_eq!(
            table().check(&Reading::of(&frame), VnetHeader::default(), Mac(OWN)),
            expected
        );
    }
}

/// A BOOTP message from port 68 to this one, by a client of this hardware address.
fn bootp(to: u16, op: u8, chaddr: [u8; 6]) -> Vec<u8> {
    let message = [&[op, 1, 6, 0][..], &[0; 24], &chaddr, &[0; 206]].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(OWN, [0xff; 6])
        .ipv4([0; 4], [255; 4], 64)
        .udp(68, to)
        .write(&mut frame, &message)
        .unwrap();
    frame
}

/// A pinned station was DHCP server of the others, and took leases in their names.
#[test]
fn dhcp_is_answered_by_permission_and_asked_in_the_own_name() {
    let both = table();
    let macs_only = PinTable::new(Some(&[Mac(OWN)]), None);
    let ips_only = PinTable::new(None, Some(&[]));
    let with = |table: &PinTable, frame: &[u8], header: VnetHeader| table.check(&Reading::of(frame), header, Mac(OWN));
    let check = |table: &PinTable, frame: &[u8]| with(table, frame, VnetHeader::default());
    for table in [&both, &macs_only, &ips_only] {
        assert_eq!(check(table, &bootp(67, 1, OWN)), Ok(()));
        for answer in [bootp(68, 2, OTHER), bootp(67, 2, OTHER), bootp(68, 1, OWN)] {
            assert_eq!(check(table, &answer), Err(DropReason::PinRouter));
            let tagged = [&answer[..12], &[0x81, 0, 0, 0].repeat(3), &answer[12..]].concat();
            assert_eq!(check(table, &tagged), Err(DropReason::PinRouter));
            assert_eq!(check(&table.clone().with_router(true), &answer), Ok(()));
        }
    }
    for table in [&both, &macs_only] {
        assert_eq!(check(table, &bootp(67, 1, OTHER)), Err(DropReason::PinMac));
        // Of another kind of network, or without an address: a server knows it apart.
        for (at, value) in [(43, 6), (44, 0), (44, 16), (42, 0)] {
            let mut other = bootp(67, 1, OWN);
            other[at] = value;
            assert_eq!(check(table, &other), Err(DropReason::PinMac));
        }
    }
    assert_eq!(check(&ips_only, &bootp(67, 1, OTHER)), Ok(()));
    // A relay asks for others.
    assert_eq!(check(&both.clone().with_router(true), &bootp(67, 1, OTHER)), Ok(()));
    // What another message may come out of than the one that is read.
    let mut first = bootp(67, 1, OWN);
    first[20] = 0x20;
    assert_eq!(check(&both, &first), Err(DropReason::UnreadableIn));
    let mut short = bootp(67, 1, OWN);
    short[16..18].copy_from_slice(&61u16.to_be_bytes());
    assert_eq!(check(&both, &short), Err(DropReason::UnreadableIn));
    let segments = VnetHeader {
        gso: Gso::UdpL4,
        gso_size: 120,
        ..VnetHeader::default()
    };
    assert_eq!(with(&both, &bootp(67, 1, OWN), segments), Err(DropReason::UnreadableIn));
    for (csum_start, expected) in [(34, Ok(())), (42, Err(DropReason::UnreadableIn))] {
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            csum_start,
            csum_offset: 6,
            ..VnetHeader::default()
        };
        assert_eq!(with(&both, &bootp(67, 1, OWN), header), expected);
    }
    // With options of IPv4 before it.
    let mut options = bootp(68, 2, OTHER);
    options[14] = 0x46;
    options[16..18].copy_from_slice(&272u16.to_be_bytes());
    options.splice(34..34, [1; 4]);
    assert_eq!(check(&both, &options), Err(DropReason::PinRouter));
}

#[test]
fn dhcpv6_is_answered_by_permission() {
    let datagram = |to: u16| {
        let mut frame = Vec::new();
        let source = LINK_LOCAL.parse::<Ipv6Addr>().unwrap().octets();
        PacketBuilder::ethernet2(OWN, OTHER)
            .ipv6(source, [0xfe; 16], 64)
            .udp(547, to)
            .write(&mut frame, &[7; 60])
            .unwrap();
        frame
    };
    let check = |table: PinTable, frame: &[u8]| table.check(&Reading::of(frame), VnetHeader::default(), Mac(OWN));
    assert_eq!(check(table(), &datagram(546)), Err(DropReason::PinRouter));
    assert_eq!(check(table(), &datagram(547)), Ok(()));
    assert_eq!(check(table().with_router(true), &datagram(546)), Ok(()));
    // Behind an extension header, and in a first fragment; the later ones say nothing without it.
    let behind = |number: u8, header: [u8; 8]| {
        let mut frame = datagram(546);
        frame[20] = number;
        frame[18..20].copy_from_slice(&76u16.to_be_bytes());
        frame.splice(54..54, header);
        check(table(), &frame)
    };
    assert_eq!(behind(60, [17, 0, 1, 4, 0, 0, 0, 0]), Err(DropReason::PinRouter));
    assert_eq!(behind(44, [17, 0, 0, 1, 0, 0, 0, 1]), Err(DropReason::PinRouter));
    assert_eq!(behind(44, [17, 0, 0, 8, 0, 0, 0, 1]), Ok(()));
}

#[test]
fn a_probe_is_for_an_own_address() {
    let probe = |target: &str| {
        let mut frame = advertisement("::", target, OWN);
        frame[54] = NEIGHBOUR_SOLICITATION;
        table().check(&Reading::of(&frame), VnetHeader::default(), Mac(OWN))
    };
    assert_eq!((probe("fd00::1"), probe(LINK_LOCAL)), (Ok(()), Ok(())));
    assert_eq!(probe("fd00::2"), Err(DropReason::PinNd));
    // Whom it asks for from its own address is its business.
    assert_eq!(
        table().check(
            &Reading::of(&message(NEIGHBOUR_SOLICITATION, "fd00::1")),
            VnetHeader::default(),
            Mac(OWN)
        ),
        Ok(())
    );
}

#[test]
fn no_number_of_tags_hides_what_is_spoofed() {
    for tags in 0..40 {
        for frame in [arp(OWN, [10, 0, 0, 2]), advertisement("fd00::2", "fd00::2", OWN)] {
            let tagged = [&frame[..12], &[0x81, 0, 0, 0].repeat(tags), &frame[12..]].concat();
            assert!(
                table()
                    .check(&Reading::of(&tagged), VnetHeader::default(), Mac(OWN))
                    .is_err(),
                "{tags}"
            );
        }
    }
}

#[test]
fn neighbour_discovery_in_fragments_is_none() {
    let fragment = |offset: u8, kind: u8| {
        let mut frame = advertisement("fd00::1", "fd00::1", OWN);
        frame[54] = kind;
        frame[20] = 44;
        frame.splice(54..54, [58, 0, 0, offset, 0, 0, 0, 1]);
        table().check(&Reading::of(&frame), VnetHeader::default(), Mac(OWN))
    };
    assert_eq!(fragment(1, 136), Err(DropReason::PinNd));
    assert_eq!(fragment(0, 136), Err(DropReason::PinNd));
    assert_eq!(fragment(8, 136), Ok(()), "of no use without the first");
    assert_eq!(fragment(1, 128), Ok(()), "a long echo request");
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 14..120), kind in 0usize..4) {
        let types = [ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6, 0x8100];
        frame[12..14].copy_from_slice(&types[kind].to_be_bytes());
        let _ = table().check(&Reading::of(&frame), VnetHeader::default(), Mac(OWN));
    }
}

/// One of no length was looked at for ever, a longer one than there is a panic.
#[test]
fn options_of_no_length_or_too_long_are_refused() {
    for units in [0u8, 2, 255] {
        let mut frame = advertisement("fd00::1", "fd00::1", OWN);
        let at = frame.len() - 7;
        frame[at] = units;
        let checked = table().check(&Reading::of(&frame), VnetHeader::default(), Mac(OWN));
        assert_eq!(checked, Err(DropReason::PinNd), "{units}");
    }
}
