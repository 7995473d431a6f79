//! TCP frames above 64 KiB on an interface. `ip` has a word for those over IPv4 since iproute2 6.3 only.

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::os::fd::AsRawFd;

use crate::lab::in_namespace;

/// As vswitch has it.
pub const BYTES: u32 = 131_072;

// linux/rtnetlink.h, linux/netlink.h, linux/if_link.h
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const HEADER: u32 = 16 + 16;
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_GRO_MAX_SIZE: u16 = 58;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_GRO_IPV4_MAX_SIZE: u16 = 64;

/// Lets the interface `name` in the namespace `ns` send and put together TCP frames of up to so many bytes.
///
/// # Errors
/// There is no such interface, or its driver does not take it.
pub fn allow(ns: &str, name: &str, bytes: u32) -> Result<()> {
    in_namespace(ns, || {
        let index = if_nametoindex(name)?;
        let attributes = [
            IFLA_GSO_MAX_SIZE,
            IFLA_GRO_MAX_SIZE,
            IFLA_GSO_IPV4_MAX_SIZE,
            IFLA_GRO_IPV4_MAX_SIZE,
        ];
        let mut message = Vec::new();
        message.extend((HEADER + 8 * attributes.len() as u32).to_ne_bytes());
        message.extend(RTM_NEWLINK.to_ne_bytes());
        message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
        // Sequence number and port; then struct ifinfomsg: family, type, index, flags, change.
        message.extend([0; 8 + 4]);
        message.extend(index.to_ne_bytes());
        message.extend([0; 8]);
        for kind in attributes {
            message.extend(8u16.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(bytes.to_ne_bytes());
        }
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
        // struct nlmsgerr: after the header a negative error number, or 0.
        let mut answer = [0; 1024];
        recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        ensure!(
            answer[16..20] == [0; 4],
            "the kernel refuses TCP frames of {bytes} bytes"
        );
        Ok(())
    })
    .with_context(|| format!("{name} in {ns}"))
}
