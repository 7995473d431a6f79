//! Tells the neighbours of an interface which MAC address an IP address has now, so that none keeps
//! sending to the one that had it before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, setsockopt, socket,
};
use nix::{setsockopt_impl, sockopt_impl};
use vswitch_api::name::Mac;

use super::error::KernelError;
use super::netns::NetNs;

sockopt_impl!(
    /// Sends past the queueing discipline, packet(7).
    QdiscBypass, SetOnly, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, bool
);

const ETHERTYPE_ARP: u16 = libc::ETH_P_ARP as u16;
const ETHERTYPE_IPV6: u16 = libc::ETH_P_IPV6 as u16;
const ICMPV6: u8 = 58;

/// Announces that `addr` is at `mac`, once: with an ARP announcement (RFC 5227 clause 3) or an unsolicited
/// Neighbor Advertisement (RFC 4861 clause 7.2.6), sent out of the interface `ifindex` of `netns`.
///
/// # Errors
/// ENETDOWN if the interface is down, ENOBUFS if it has no carrier, ENXIO or ENODEV if it is gone, EPERM without CAP_NET_RAW.
pub async fn announce(netns: &NetNs, ifindex: u32, mac: Mac, addr: IpAddr) -> Result<(), KernelError> {
    let frame = announcement(mac, addr);
    let sent = netns.run(move || send(ifindex, &frame)).await?;
    let socket = sent.map_err(|e| KernelError::new(format!("announce {addr} on interface {ifindex} of {netns}"), e))?;
    // The kernel closes a packet socket only after an RCU grace period, some milliseconds for which nobody has to wait.
    tokio::task::spawn_blocking(move || drop(socket));
    Ok(())
}

/// Gives the socket, still to be closed.
fn send(ifindex: u32, frame: &[u8]) -> nix::Result<OwnedFd> {
    // Protocol 0: the socket receives nothing.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    // The queueing discipline of an interface that has just come up still drops all, and says nothing.
    setsockopt(&socket, QdiscBypass, &true)?;
    sendto(socket.as_raw_fd(), frame, &link_addr(ifindex)?, MsgFlags::empty())?;
    Ok(socket)
}

fn link_addr(ifindex: u32) -> nix::Result<LinkAddr> {
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a complete sockaddr_ll and the length is its size; it is copied.
    let addr = unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(size_of_val(&raw) as u32)) };
    addr.ok_or(nix::errno::Errno::EINVAL)
}

/// The frame that announces `addr` at `mac`.
fn announcement(mac: Mac, addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(ip) => arp_announcement(mac, ip),
        IpAddr::V6(ip) => neighbour_advertisement(mac, ip),
    }
}

/// RFC 5227 clause 3: an ARP request whose sender and target address are both the announced one.
fn arp_announcement(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(Mac::BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]); // Ethernet, IPv4, address lengths, request (RFC 826)
    frame.extend(mac.0);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

/// RFC 4861 clause 4.4 with the Override flag, to all nodes.
fn neighbour_advertisement(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    const HOP_LIMIT: u8 = 255; // Anything less is ignored (clause 7.1.2).
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    let mut body = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend(ip.octets());
    body.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    body.extend(mac.0);
    let checksum = icmpv6_checksum(ip, all_nodes, &body);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(Mac([0x33, 0x33, 0, 0, 0, 1]), mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, body.len() as u8, ICMPV6, HOP_LIMIT]);
    frame.extend(ip.octets());
    frame.extend(all_nodes.octets());
    frame.extend(body);
    frame
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    [&destination.0[..], &source.0, &ethertype.to_be_bytes()].concat()
}

/// RFC 4443 clause 2.3. `body` has an even length and a checksum of zero.
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> u16 {
    let pseudo_header = [&source.octets()[..], &destination.octets()].concat();
    let words = pseudo_header.chunks_exact(2).chain(body.chunks_exact(2));
    let sum: u32 = words.map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let mut sum = sum + body.len() as u32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{ArpOperation, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv6};
    use proptest::prelude::*;

    const MAC: Mac = Mac([2, 0x76, 0x73, 1, 2, 3]);

    #[test]
    fn an_ipv4_address_is_announced_by_an_arp_request_for_itself() {
        let ip = Ipv4Addr::new(192, 168, 15, 1);
        let frame = announcement(MAC, ip.into());
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let ethernet = parsed.link.unwrap().to_header().unwrap().ethernet2().unwrap();
        assert_eq!((ethernet.destination, ethernet.source), (Mac::BROADCAST.0, MAC.0));
        let Some(NetSlice::Arp(arp)) = parsed.net else {
            panic!("not ARP: {frame:x?}")
        };
        assert_eq!(arp.operation(), ArpOperation::REQUEST);
        assert_eq!((arp.sender_hw_addr(), arp.target_hw_addr()), (&MAC.0[..], &[0; 6][..]));
        assert_eq!(
            (arp.sender_protocol_addr(), arp.target_protocol_addr()),
            (&ip.octets()[..], &ip.octets()[..])
        );
    }

    proptest! {
        #[test]
        fn an_ipv6_address_is_announced_by_a_valid_advertisement(ip: Ipv6Addr, mac: [u8; 6]) {
            let mac = Mac(mac);
            let frame = announcement(mac, ip.into());
            let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
            let ethernet = parsed.link.unwrap().to_header().unwrap().ethernet2().unwrap();
            prop_assert_eq!((ethernet.destination, ethernet.source), ([0x33, 0x33, 0, 0, 0, 1], mac.0));
            let Some(NetSlice::Ipv6(net)) = parsed.net else { panic!("not IPv6: {frame:x?}") };
            let header = net.header();
            prop_assert_eq!(header.source_addr(), ip);
            prop_assert_eq!(header.destination_addr(), "ff02::1".parse::<Ipv6Addr>().unwrap());
            prop_assert_eq!(header.hop_limit(), 255);
            let Some(TransportSlice::Icmpv6(icmp)) = parsed.transport else { panic!("not ICMPv6: {frame:x?}") };
            prop_assert!(icmp.is_checksum_valid(ip.octets(), header.destination()));
            let Icmpv6Type::NeighborAdvertisement(flags) = icmp.icmp_type() else { panic!("{:?}", icmp.icmp_type()) };
            prop_assert_eq!(flags, icmpv6::NeighborAdvertisementHeader { router: false, solicited: false, r#override: true });
            prop_assert_eq!(icmp.payload(), &[&ip.octets()[..], &[2, 1], &mac.0].concat()[..]);
        }
    }
}
