//! Source guard: a pinned port may use certain source addresses only, in ARP and neighbour discovery too.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use vswitch_api::Mac;

use super::counters::DropReason;
use crate::frame::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetView, IPV6_EXTENSIONS, IPV6_FRAGMENT, mac_to_u64,
};

const ETHERTYPE_RARP: u16 = 0x8035;
/// Next header of ICMPv6 (RFC 4443).
const ICMPV6: u8 = 58;

/// Source addresses that a port may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinTable {
    macs: Option<Vec<u64>>,
    ips: Option<Vec<IpNet>>,
}

impl PinTable {
    /// None: any address of that kind.
    pub fn new(macs: Option<&[Mac]>, ips: Option<&[IpNet]>) -> Self {
        Self {
            macs: macs.map(|macs| macs.iter().map(|mac| mac_to_u64(*mac)).collect()),
            ips: ips.map(<[_]>::to_vec),
        }
    }

    /// Whether the port may send this frame, which has at least an Ethernet header.
    pub fn check(&self, frame: &[u8], src: Mac) -> Result<(), DropReason> {
        if !self.has_mac(src) {
            return Err(DropReason::PinMac);
        }
        let Ok(view) = EthernetView::new_checked(frame) else {
            return Ok(());
        };
        let payload = &frame[view.payload_offset()..];
        match view.ethertype() {
            ETHERTYPE_IPV4 => match field::<4>(payload, 12) {
                Some(source) if self.has_v4(source.into()) => Ok(()),
                _ => Err(DropReason::PinIp),
            },
            ETHERTYPE_ARP | ETHERTYPE_RARP => self.check_arp(payload),
            ETHERTYPE_IPV6 => match field::<16>(payload, 8) {
                Some(source) if self.has_v6(source.into()) => self.check_discovery(payload),
                _ => Err(DropReason::PinIp),
            },
            _ => Ok(()),
        }
    }

    fn has_mac(&self, mac: Mac) -> bool {
        self.macs.as_ref().is_none_or(|macs| macs.contains(&mac_to_u64(mac)))
    }

    /// A host without an address asks for one from 0.0.0.0 (RFC 2131), and probes with it (RFC 5227).
    fn has_v4(&self, ip: Ipv4Addr) -> bool {
        ip.is_unspecified() || self.has(|net| matches!(net, IpNet::V4(net) if net.contains(&ip)))
    }

    /// Link-local addresses are a host's own choice (RFC 4862); :: is the source of its probes.
    fn has_v6(&self, ip: Ipv6Addr) -> bool {
        ip.is_unspecified()
            || ip.is_unicast_link_local()
            || self.has(|net| matches!(net, IpNet::V6(net) if net.contains(&ip)))
    }

    fn has(&self, matches: impl Fn(&IpNet) -> bool) -> bool {
        self.ips.as_ref().is_none_or(|ips| ips.iter().any(matches))
    }

    /// RFC 826, for Ethernet and IPv4: the sender's addresses must be the port's.
    fn check_arp(&self, arp: &[u8]) -> Result<(), DropReason> {
        let known = field::<6>(arp, 0) == Some([0, 1, 8, 0, 6, 4]);
        match (field::<6>(arp, 8), field::<4>(arp, 14)) {
            (Some(mac), Some(ip)) if known && self.has_mac(Mac(mac)) && self.has_v4(ip.into()) => Ok(()),
            _ => Err(DropReason::PinArp),
        }
    }

    /// RFC 4861: the target of an advertisement and the link-layer addresses in the options must be the port's.
    fn check_discovery(&self, packet: &[u8]) -> Result<(), DropReason> {
        let (mut next, mut at, mut fragment) = (packet[6], 40, false);
        while next == IPV6_FRAGMENT || IPV6_EXTENSIONS.contains(&next) {
            let Some([following, units, high, low]) = field::<4>(packet, at) else {
                return Err(DropReason::PinNd);
            };
            if next == IPV6_FRAGMENT {
                // Without its first fragment, which is looked at, no message comes out of the others.
                if u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
                    return Ok(());
                }
                fragment = true;
                at += 8;
            } else {
                at += (usize::from(units) + 1) * 8;
            }
            next = following;
        }
        if next != ICMPV6 {
            return Ok(());
        }
        let message = packet.get(at..).unwrap_or_default();
        let Some(kind) = message.first() else {
            // RFC 7112: a first fragment has all headers.
            return if fragment { Err(DropReason::PinNd) } else { Ok(()) };
        };
        // Nobody may send these in fragments (RFC 6980 section 5).
        if fragment && matches!(kind, 133..=137) {
            return Err(DropReason::PinNd);
        }
        // Solicitation of routers, of neighbours, and advertisement of neighbours; what comes before the options.
        let options = match kind {
            133 => 8,
            135 | 136 => 24,
            _ => return Ok(()),
        };
        if *kind == 136 && !field::<16>(message, 8).is_some_and(|target| self.has_v6(target.into())) {
            return Err(DropReason::PinNd);
        }
        let mut rest = message.get(options..).ok_or(DropReason::PinNd)?;
        while let [option, units, ..] = *rest {
            // Source and target link-layer address.
            let own = matches!(option, 1 | 2);
            if own && !field::<6>(rest, 2).is_some_and(|mac| self.has_mac(Mac(mac))) {
                return Err(DropReason::PinNd);
            }
            let len = usize::from(units) * 8;
            if len == 0 || len > rest.len() {
                return Err(DropReason::PinNd);
            }
            rest = &rest[len..];
        }
        Ok(())
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
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
        let check = |frame: &[u8]| table.check(frame, Mac(OWN));
        assert_eq!(
            table.check(&arp(OWN, [10, 0, 0, 1]), Mac(OTHER)),
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
        assert_eq!(check(&advertisement("fe80::7", "fe80::7", OWN)), Ok(()));
        assert_eq!(check(&advertisement("fd00::2", "fd00::1", OWN)), Err(DropReason::PinIp));
        assert_eq!(check(&advertisement("fd00::1", "fd00::2", OWN)), Err(DropReason::PinNd));
        assert_eq!(
            check(&advertisement("fd00::1", "fd00::1", OTHER)),
            Err(DropReason::PinNd)
        );
    }

    #[test]
    fn neighbour_discovery_in_fragments_is_none() {
        let fragment = |offset: u8, kind: u8| {
            let mut frame = advertisement("fd00::1", "fd00::1", OWN);
            frame[54] = kind;
            frame[20] = 44;
            frame.splice(54..54, [58, 0, 0, offset, 0, 0, 0, 1]);
            table().check(&frame, Mac(OWN))
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
            let _ = table().check(&frame, Mac(OWN));
        }
    }
}
