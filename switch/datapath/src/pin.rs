//! Source guard: a pinned port may use certain source addresses only, in ARP, neighbour discovery and DHCP too.
//!
//! It goes by what a receiver reads: behind all tags and extension headers. What can't be read that far is dropped.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use vswitch_api::Mac;

use super::counters::DropReason;
use crate::frame::{
    Fragment, Gso, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_UDP, Reach, Reading, VnetHeader, mac_to_u64,
};

// Types of ICMPv6 messages (RFC 4861 section 4).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Of ICMP (RFC 792), and router advertisement (RFC 1256).
const REDIRECT_V4: u8 = 5;
const ROUTER_ADVERTISEMENT_V4: u8 = 9;
// UDP ports of DHCP (RFC 2131 section 4.1) and DHCPv6 (RFC 8415 section 7.2).
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
/// How a message of a client on Ethernet begins: BOOTREQUEST, type and length of its address (RFC 2131 section 2).
const BOOTREQUEST: [u8; 3] = [1, 1, 6];
const BOOTREPLY: u8 = 2;

/// Source addresses that a port may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinTable {
    macs: Option<Vec<u64>>,
    ips: Option<Vec<IpNet>>,
    /// Router advertisements, redirects and what DHCP servers and relays say pass.
    router: bool,
}

impl PinTable {
    /// None: any address of that kind.
    pub fn new(macs: Option<&[Mac]>, ips: Option<&[IpNet]>) -> Self {
        Self {
            macs: macs.map(|macs| macs.iter().map(|mac| mac_to_u64(*mac)).collect()),
            ips: ips.map(<[_]>::to_vec),
            router: false,
        }
    }

    /// The same for a port that may speak as a router, or may not.
    pub fn with_router(self, router: bool) -> Self {
        Self { router, ..self }
    }

    /// Whether the port may send this frame, which comes with this virtio-net header from the station `src`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, frame: &Reading<'_>, header: VnetHeader, src: Mac) -> Result<(), DropReason> {
        if !self.has_mac(src) {
            return Err(DropReason::PinMac);
        }
        match frame.reach {
            Reach::Nothing | Reach::BrokenIp | Reach::Addresses => return Err(DropReason::UnreadableIn),
            Reach::Link if frame.is_arp() => return self.check_arp(frame.payload()),
            Reach::Link => return Ok(()),
            Reach::Transport => {}
        }
        let allowed = match frame.version {
            4 => field::<4>(frame.payload(), 12).is_some_and(|source| self.has_v4(source.into())),
            _ => field::<16>(frame.payload(), 8).is_some_and(|source| self.has_v6(source.into(), src)),
        };
        if !allowed {
            return Err(DropReason::PinIp);
        }
        match (frame.fragment, frame.protocol) {
            // Without its first fragment, which is looked at, no message comes out of the others.
            (Fragment::Later(_), _) => Ok(()),
            (_, PROTOCOL_ICMP) if frame.version == 4 => self.check_icmp(frame),
            (_, PROTOCOL_ICMPV6) if frame.version == 6 => self.check_discovery(frame, src),
            (_, PROTOCOL_UDP) => self.check_datagram(frame, header),
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

    /// :: is the source of a host's probes (RFC 4862).
    fn has_v6(&self, ip: Ipv6Addr, src: Mac) -> bool {
        ip.is_unspecified() || self.owns_v6(ip, src)
    }

    /// Every host has a link-local address; that of a station is made from its MAC address, if no other is given.
    fn owns_v6(&self, ip: Ipv6Addr, src: Mac) -> bool {
        ip == link_local(src) || self.has(|net| matches!(net, IpNet::V6(net) if net.contains(&ip)))
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

    fn check_icmp(&self, frame: &Reading<'_>) -> Result<(), DropReason> {
        match frame.transport().first() {
            Some(&(REDIRECT_V4 | ROUTER_ADVERTISEMENT_V4)) if !self.router => Err(DropReason::PinRouter),
            Some(_) => Ok(()),
            None => Err(DropReason::UnreadableIn),
        }
    }

    /// Who is no router answers no DHCP, and asks in its own name only. Told by the port that it goes to: clients take an answer
    /// from any.
    fn check_datagram(&self, frame: &Reading<'_>, header: VnetHeader) -> Result<(), DropReason> {
        let datagram = frame.transport();
        let Some(to) = field::<2>(datagram, 2).map(u16::from_be_bytes) else {
            return Err(DropReason::UnreadableIn);
        };
        match (frame.version, to) {
            _ if self.router => Ok(()),
            (4, DHCP_CLIENT) | (6, DHCPV6_CLIENT) => Err(DropReason::PinRouter),
            (4, DHCP_SERVER) => self.check_request(frame, header),
            _ => Ok(()),
        }
    }

    /// A DHCP server gives an address to whom the message names, wherever it comes from.
    fn check_request(&self, frame: &Reading<'_>, header: VnetHeader) -> Result<(), DropReason> {
        // Another message may come out of other fragments, of a second segment, or of a checksum that is written into it.
        let written = header.needs_csum() && usize::from(header.csum_start) != frame.transport;
        if frame.fragment != Fragment::Whole || header.gso != Gso::None || written {
            return Err(DropReason::UnreadableIn);
        }
        // Behind the header of UDP, and behind 28 bytes of the message.
        match (field::<3>(frame.transport(), 8), field::<6>(frame.transport(), 36)) {
            (Some([BOOTREPLY, ..]), _) => Err(DropReason::PinRouter),
            _ if self.macs.is_none() => Ok(()),
            (Some(BOOTREQUEST), Some(mac)) if self.has_mac(Mac(mac)) => Ok(()),
            (Some(_), Some(_)) => Err(DropReason::PinMac),
            _ => Err(DropReason::UnreadableIn),
        }
    }

    /// RFC 4861: what a message says of the sender must be true of the port.
    fn check_discovery(&self, frame: &Reading<'_>, src: Mac) -> Result<(), DropReason> {
        let message = frame.transport();
        // RFC 7112: a first fragment has all headers.
        let Some(&kind) = message.first() else {
            return Err(DropReason::UnreadableIn);
        };
        // Nobody may send these in fragments (RFC 6980 section 5).
        if frame.fragment != Fragment::Whole && matches!(kind, ROUTER_SOLICITATION..=REDIRECT) {
            return Err(DropReason::PinNd);
        }
        if matches!(kind, ROUTER_ADVERTISEMENT | REDIRECT) && !self.router {
            return Err(DropReason::PinRouter);
        }
        let target = || field::<16>(message, 8).map(Ipv6Addr::from).ok_or(DropReason::PinNd);
        // What comes before the options.
        let options = match kind {
            ROUTER_SOLICITATION => 8,
            ROUTER_ADVERTISEMENT => 16,
            NEIGHBOUR_SOLICITATION => {
                // A host that asks for an address from :: is about to take it (RFC 4862 section 5.4).
                let probes = field::<16>(frame.payload(), 8).is_none_or(|source| source == [0; 16]);
                if probes && !self.owns_v6(target()?, src) {
                    return Err(DropReason::PinNd);
                }
                24
            }
            NEIGHBOUR_ADVERTISEMENT => {
                if !self.owns_v6(target()?, src) {
                    return Err(DropReason::PinNd);
                }
                24
            }
            // The address in a redirect is that of another router.
            _ => return Ok(()),
        };
        self.check_options(message.get(options..).ok_or(DropReason::PinNd)?)
    }

    /// The link-layer addresses in the options are the sender's.
    fn check_options(&self, mut rest: &[u8]) -> Result<(), DropReason> {
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

/// The link-local address that a host makes from its MAC address (RFC 4291 appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(a ^ 2, b),
        word(c, 0xff),
        word(0xfe, d),
        word(e, f),
    )
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
