//! Reading interfaces, whatever their users have written into them.
//!
//! Names and aliases are any bytes to the kernel. The parser of netlink-packet-route gives up on a message with one that is no
//! UTF-8, and a request whose answer can't be parsed is never answered: whoever is root in a namespace could so hide an
//! interface, or hang the daemon. So only what is wanted is read, and of it only what is as it should be.
//!
//! The kernel answers while it takes the request: nothing here waits.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{MsgFlags, recv};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NlasIterator};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use vswitch_api::name::Mac;

use super::link::{GsoSize, Link};

/// The kernel makes no message longer than this (NLMSG_GOODSIZE and the dump size are below).
pub(super) const MESSAGE_MAX: usize = 64 << 10;
/// Length of struct ifinfomsg, after which the attributes come.
pub(super) const IFINFOMSG_LEN: usize = 16;
pub(super) const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
pub(super) const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
/// Place of `tx_dropped` in struct rtnl_link_stats64.
const TX_DROPPED_AT: usize = 7 * size_of::<u64>();

/// Not in the libc crate for every target, as the next ones (linux/if_link.h).
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_XDP_ATTACHED: u16 = 2;
/// XDP_ATTACHED_DRV, XDP_ATTACHED_HW, XDP_ATTACHED_MULTI: a program that the driver or the hardware runs.
const BESIDE_THE_STACK: [u8; 3] = [1, 3, 4];

/// How often all interfaces are asked for until no change comes between.
const TRIES: usize = 10;

/// Which interfaces are asked for.
pub(super) enum Wanted<'a> {
    All,
    Named(&'a str),
    Numbered(u32),
}

/// Opens a socket for [`read_links`] in the namespace of the calling thread.
pub(super) fn open_reader() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    // An answer is there when the request is sent. Should one not be, that is an error, and no reason to wait.
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Asks for interfaces and reads the answer.
///
/// # Errors
/// ENODEV if the one that is asked for is not there; EAGAIN if all of them were asked for and changed again and again meanwhile.
pub(super) fn read_links(socket: &Socket, wanted: &Wanted<'_>) -> io::Result<Vec<Link>> {
    for _ in 0..TRIES {
        if let Some(links) = read_links_once(socket, wanted)? {
            return Ok(links);
        }
    }
    Err(io::Error::from(io::ErrorKind::WouldBlock))
}

/// The same; none if the kernel says that something changed in the midst of its answer, which may have left others out then.
fn read_links_once(socket: &Socket, wanted: &Wanted<'_>) -> io::Result<Option<Vec<Link>>> {
    // What is left of an answer that was given up has another number.
    static ASKED: AtomicU32 = AtomicU32::new(1);
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    let mut message = LinkMessage::default();
    let mut flags = NLM_F_REQUEST;
    match wanted {
        Wanted::All => flags |= NLM_F_DUMP,
        Wanted::Named(name) => message.attributes.push(LinkAttribute::IfName((*name).to_owned())),
        Wanted::Numbered(index) => message.header.index = *index,
    }
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(message));
    request.header.flags = flags;
    request.header.sequence_number = number;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (mut links, mut buffer) = (Vec::new(), vec![0; MESSAGE_MAX]);
    let mut is_whole = true;
    loop {
        let len = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => continue,
            received => received?,
        };
        let mut datagram = &buffer[..len];
        let mut is_ours = false;
        while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
            let aligned = (message.length() as usize).next_multiple_of(4);
            datagram = datagram.get(aligned..).unwrap_or_default();
            if message.sequence_number() != number {
                continue;
            }
            is_ours = true;
            is_whole &= message.flags() & NLM_F_DUMP_INTR == 0;
            match message.message_type() {
                NLMSG_DONE => return Ok(is_whole.then_some(links)),
                NLMSG_ERROR => return Err(error_of(message.payload())),
                libc::RTM_NEWLINK => links.extend(parse(message.payload())),
                _ => {}
            }
        }
        if is_ours && !matches!(wanted, Wanted::All) {
            return Ok(Some(links));
        }
    }
}

pub(super) fn error_of(payload: &[u8]) -> io::Error {
    match payload.first_chunk() {
        Some(code) => io::Error::from_raw_os_error(-i32::from_ne_bytes(*code)),
        None => io::Error::from(io::ErrorKind::InvalidData),
    }
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
