//! What the kernel remembers of talks that pass it (conntrack), by ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
//!
//! Of each entry only what tells it from others is read, and sent back as it came.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use rtnetlink::packet_core::NlasIterator;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::ask::{self, Of, ask, put};
use super::error::KernelError;
use super::netns::NetNs;

/// IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK.
const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Length of struct nfgenmsg, after which the attributes come.
const NFGENMSG_LEN: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const NLA_F_NESTED: u16 = 1 << 15;
/// IPS_SRC_NAT and IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h).
const TRANSLATED: u32 = 1 << 4 | 1 << 5;

/// A talk, by its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// Who sent it.
    pub from: IpAddr,
    /// Whom it was sent to.
    pub to: IpAddr,
    /// The same with the port, if it is one of UDP.
    pub udp_to: Option<SocketAddr>,
    /// Whether an address or a port was changed.
    pub translated: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    talk: Talk,
    /// What the kernel knows it by: the family, and attributes.
    known_by: Vec<u8>,
}

impl NetNs {
    /// Has the kernel forget these talks, and so what it translated them to: what comes of them next is looked at as if it were the first.
    /// Gives how many there were.
    ///
    /// # Errors
    /// Those of [`NetNs::run`]; the kernel remembers no talks, or was built without ctnetlink.
    pub async fn forget_talks(&self, which: impl Fn(&Talk) -> bool + Send + 'static) -> Result<usize, KernelError> {
        let done = self.run(move || forget_here(which)).await?;
        done.map_err(|error| KernelError::new(format!("forget talks in {self}"), error))
    }
}

fn forget_here(which: impl Fn(&Talk) -> bool) -> io::Result<usize> {
    let socket = ask::open(NETLINK_NETFILTER)?;
    let any = [libc::AF_UNSPEC as u8, 0, 0, 0];
    let entries = ask(&socket, GET, Of::All, &any, |kind, payload| {
        let entry = (kind == NEW).then(|| parse(payload)).flatten();
        entry.filter(|entry| which(&entry.talk))
    })?;
    for entry in &entries {
        match ask(&socket, DELETE, Of::One, &entry.known_by, |_, _| None::<()>) {
            // It has ended by itself.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            deleted => drop(deleted?),
        }
    }
    Ok(entries.len())
}

/// Reads an entry; none: it is not one of IP.
fn parse(payload: &[u8]) -> Option<Entry> {
    let (header, attributes) = payload.split_at_checked(NFGENMSG_LEN)?;
    let mut known_by = header.to_vec();
    let (mut first, mut status) = (None, 0);
    for attribute in NlasIterator::new(attributes).flatten() {
        let (kind, value) = (attribute.kind(), attribute.value());
        match kind {
            CTA_TUPLE_ORIG => {
                first = Some(packet(value)?);
                put(&mut known_by, kind | NLA_F_NESTED, value);
            }
            CTA_STATUS => status = value.first_chunk().map_or(0, |status| u32::from_be_bytes(*status)),
            CTA_ID | CTA_ZONE => put(&mut known_by, kind, value),
            _ => {}
        }
    }
    let (from, to, udp_to) = first?;
    let talk = Talk {
        from,
        to,
        udp_to,
        translated: status & TRANSLATED != 0,
    };
    Some(Entry { talk, known_by })
}

/// Who sends the packets of a tuple and to whom, with the port if they are of UDP.
fn packet(tuple: &[u8]) -> Option<(IpAddr, IpAddr, Option<SocketAddr>)> {
    let (mut from, mut to, mut port, mut protocol) = (None, None, None, None);
    let v4 = |value: &[u8]| value.first_chunk().map(|ip| IpAddr::from(Ipv4Addr::from(*ip)));
    let v6 = |value: &[u8]| value.first_chunk().map(|ip| IpAddr::from(Ipv6Addr::from(*ip)));
    for part in NlasIterator::new(tuple).flatten() {
        for field in NlasIterator::new(part.value()).flatten() {
            let value = field.value();
            match (part.kind(), field.kind()) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC) => from = v4(value),
                (CTA_TUPLE_IP, CTA_IP_V6_SRC) => from = v6(value),
                (CTA_TUPLE_IP, CTA_IP_V4_DST) => to = v4(value),
                (CTA_TUPLE_IP, CTA_IP_V6_DST) => to = v6(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => {
                    port = value.first_chunk().map(|port| u16::from_be_bytes(*port))
                }
                _ => {}
            }
        }
    }
    let is_udp = protocol.map(i32::from) == Some(libc::IPPROTO_UDP);
    let udp_to = to.zip(port).filter(|_| is_udp).map(SocketAddr::from);
    Some((from?, to?, udp_to))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut value = Vec::new();
        parts.iter().for_each(|(kind, part)| put(&mut value, *kind, part));
        value
    }

    fn entry(protocol: u8) -> Vec<u8> {
        let ip = nested(&[(1, &[192, 0, 2, 1]), (CTA_IP_V4_DST, &[192, 0, 2, 2])]);
        let proto = nested(&[
            (CTA_PROTO_NUM, &[protocol]),
            (2, &[0x9c, 0x40]),
            (CTA_PROTO_DST_PORT, &[0x14, 0xb4]),
        ]);
        let tuple = nested(&[
            (CTA_TUPLE_IP | NLA_F_NESTED, &ip),
            (CTA_TUPLE_PROTO | NLA_F_NESTED, &proto),
        ]);
        let attributes = nested(&[
            (CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple),
            (3, &[0, 0, 1, 0x8e]),
            (CTA_ID, &[1, 2, 3, 4]),
        ]);
        [&[libc::AF_INET as u8, 0, 0, 0][..], &attributes].concat()
    }

    #[test]
    fn an_entry_is_known_by_where_it_leads_and_its_number() {
        let message = entry(libc::IPPROTO_UDP as u8);
        let read = parse(&message).unwrap();
        let expected = Talk {
            from: "192.0.2.1".parse().unwrap(),
            to: "192.0.2.2".parse().unwrap(),
            udp_to: Some("192.0.2.2:5300".parse().unwrap()),
            translated: false,
        };
        assert_eq!(read.talk, expected);
        // All but its status, of eight bytes.
        assert_eq!(read.known_by.len(), message.len() - 8);
        assert_eq!(parse(&read.known_by).unwrap(), read);
        let tcp = parse(&entry(libc::IPPROTO_TCP as u8)).unwrap().talk;
        assert_eq!((tcp.to, tcp.udp_to), (expected.to, None));
        // IPS_SRC_NAT in place of IPS_SEEN_REPLY and what comes with it.
        let mut masked = message.clone();
        let at = masked.windows(4).position(|four| four == [0, 0, 1, 0x8e]).unwrap();
        masked[at + 3] = 0x1e;
        assert!(parse(&masked).unwrap().talk.translated);
    }

    proptest! {
        #[test]
        fn no_entry_makes_the_parser_panic(payload: Vec<u8>) {
            parse(&payload);
        }

        #[test]
        fn no_damaged_entry_makes_the_parser_panic(at in 0usize..80, byte: u8, cut in 0usize..80) {
            let mut message = entry(libc::IPPROTO_UDP as u8);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            message.truncate(message.len().saturating_sub(cut));
            parse(&message);
        }
    }
}
