//! Reading interfaces, whatever their users have written into them.
//!
//! Names and aliases are any bytes to the kernel. The parser of netlink-packet-route gives up on a message with one that is no
//! UTF-8, and a request whose answer can't be parsed is never answered: whoever is root in a namespace could so hide an
//! interface, or hang the daemon. So only what is wanted is read, and of it only what is as it should be.

use std::io;
use std::ops::Range;

use rtnetlink::packet_core::NlasIterator;
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use vswitch_api::name::Mac;

use super::ask::{self, Of, ask};
use super::link::{GsoSize, Link};

/// Length of struct ifinfomsg, after which the attributes come.
pub(super) const IFINFOMSG_LEN: usize = 16;
/// Where it has the index.
const IFI_INDEX: Range<usize> = 4..8;
/// Place of `tx_dropped` in struct rtnl_link_stats64.
const TX_DROPPED_AT: usize = 7 * size_of::<u64>();

/// Not in the libc crate for every target, as the next ones (linux/if_link.h).
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_XDP_ATTACHED: u16 = 2;
/// XDP_ATTACHED_DRV, XDP_ATTACHED_HW, XDP_ATTACHED_MULTI: a program that the driver or the hardware runs.
const BESIDE_THE_STACK: [u8; 3] = [1, 3, 4];

/// Which interfaces are asked for.
pub(super) enum Wanted<'a> {
    All,
    Named(&'a str),
    Numbered(u32),
}

/// Opens a socket for [`read_links`] in the namespace of the calling thread.
pub(super) fn open_reader() -> io::Result<Socket> {
    ask::open(NETLINK_ROUTE)
}

/// Asks for interfaces and reads the answer.
///
/// # Errors
/// Those of [`ask`]; ENODEV if the one that is asked for is not there.
pub(super) fn read_links(socket: &Socket, wanted: &Wanted<'_>) -> io::Result<Vec<Link>> {
    let mut request = vec![0; IFINFOMSG_LEN];
    let of = match wanted {
        Wanted::All => Of::All,
        Wanted::Named(name) => {
            ask::put(&mut request, libc::IFLA_IFNAME, format!("{name}\0").as_bytes());
            Of::One
        }
        Wanted::Numbered(index) => {
            request[IFI_INDEX].copy_from_slice(&index.to_ne_bytes());
            Of::One
        }
    };
    ask(socket, libc::RTM_GETLINK, of, &request, |kind, payload| {
        (kind == libc::RTM_NEWLINK).then(|| parse(payload)).flatten()
    })
}

/// Reads a link message: struct ifinfomsg (family, padding, type, index, flags, change) and attributes.
pub(super) fn parse(payload: &[u8]) -> Option<Link> {
    let (header, attributes) = payload.split_at_checked(IFINFOMSG_LEN)?;
    let ethernet = u16::from_ne_bytes(*header[2..].first_chunk()?) == libc::ARPHRD_ETHER;
    let flags = u32::from_ne_bytes(*header[8..].first_chunk()?).cast_signed();
    let mut link = Link {
        index: u32::from_ne_bytes(*header[4..].first_chunk()?),
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags & libc::IFF_UP != 0,
        promiscuous: flags & libc::IFF_PROMISC != 0,
        carrier: flags & libc::IFF_LOWER_UP != 0,
        driver_carrier: false,
        alias: None,
        kind: None,
        master: None,
        group: 0,
        peer_index: None,
        peer_nsid: None,
        gso: None,
        native_xdp: false,
        tx_dropped: 0,
    };
    let (mut ipv4, mut ipv6) = (None, None);
    for attribute in NlasIterator::new(attributes).flatten() {
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_IFALIAS => link.alias = Some(text(value)),
            libc::IFLA_MTU => link.mtu = number(value)?,
            libc::IFLA_ADDRESS if ethernet => link.mac = value.try_into().ok().map(Mac),
            libc::IFLA_MASTER => link.master = Some(number(value)?),
            libc::IFLA_GROUP => link.group = number(value)?,
            libc::IFLA_LINK => link.peer_index = Some(number(value)?),
            libc::IFLA_LINK_NETNSID => link.peer_nsid = Some(number(value)?.cast_signed()),
            libc::IFLA_GSO_MAX_SIZE => ipv6 = Some(number(value)?),
            IFLA_GSO_IPV4_MAX_SIZE => ipv4 = Some(number(value)?),
            libc::IFLA_XDP => {
                let mut infos = NlasIterator::new(value).flatten();
                let attached = infos.find(|info| info.kind() == IFLA_XDP_ATTACHED);
                let how = attached.and_then(|info| info.value().first().copied());
                link.native_xdp = how.is_some_and(|how| BESIDE_THE_STACK.contains(&how));
            }
            libc::IFLA_CARRIER => link.driver_carrier = value.first() == Some(&1),
            libc::IFLA_STATS64 => {
                let dropped = value.get(TX_DROPPED_AT..)?.first_chunk()?;
                link.tx_dropped = u64::from_ne_bytes(*dropped);
            }
            libc::IFLA_LINKINFO => {
                let mut infos = NlasIterator::new(value).flatten();
                let kind = infos.find(|info| info.kind() == libc::IFLA_INFO_KIND);
                link.kind = kind.map(|kind| text(kind.value()));
            }
            _ => {}
        }
    }
    link.gso = ipv4.zip(ipv6).map(|(ipv4, ipv6)| GsoSize { ipv4, ipv6 });
    Some(link)
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The text up to the zero that ends it; bytes that are no UTF-8 as `\xff`, so that two texts never look the same.
pub(super) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_of_any_bytes_is_shown_and_told_from_others() {
        assert_eq!(text(b"eth0\0"), "eth0");
        assert_eq!(text("grün".as_bytes()), "grün");
        assert_eq!(text(b"a\xff\xfeb\0c"), "a\\xff\\xfeb");
        assert_ne!(text(b"\xff"), text(b"\xfe"));
    }

    proptest! {
        #[test]
        fn no_link_message_makes_the_parser_panic(payload: Vec<u8>) {
            parse(&payload);
        }
    }
}
