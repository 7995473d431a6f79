//! Ethernet frames, the virtio-net header, checksums and segmentation; no I/O.
//!
//! A frame from a port is its [`VnetHeader`] and the bytes from the destination MAC on, without preamble and FCS.
//! Both are checked once, at ingress: [`Checked`] is what may enter the switch, and [`Reading`] is the one walk over its layers, by
//! which pins, lists and the place of a checksum go. A port that takes offloads gets header and bytes as they came; for
//! one that does not, and for captures, [`complete`] finishes a checksum and [`Segments`] cuts a GSO frame into
//! the frames that a wire would carry.
//!
//! Nothing here allocates, and no input makes it panic: the tests and the fuzz target `frame` hold it to that.

mod checked;
mod checksum;
mod ethernet;
mod layers;
mod partial;
mod reading;
mod segment;
#[cfg(test)]
mod testing;
mod vnet;

pub use checked::{CheckError, Checked, MAX_SEGMENTS};
pub(crate) use checksum::complete_known;
pub use checksum::{Sum, complete};
pub use ethernet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_RARP, TPID_CUSTOMER, TPID_SERVICE, Tag,
    is_reserved_multicast, mac_to_u64, u64_to_mac,
};
pub use layers::LayerError;
pub use partial::partial;
pub use reading::{
    Fragment, MAX_EXTENSIONS, MAX_READ_TAGS, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP,
    Reach, Reading, is_extension, least_header,
};
pub use segment::{SegmentError, Segments, WireSize, wire_size};
pub use vnet::{Gso, VnetError, VnetHeader};

/// Bytes of an untagged Ethernet header (IEEE 802.3-2022 clause 3.1.1).
pub const ETH_HLEN: usize = 14;
/// Bytes of one VLAN tag (IEEE 802.1Q-2022 clause 9.3).
pub const VLAN_HLEN: usize = 4;
/// Most VLAN tags that the MTU of a port does not count: an S-tag and a C-tag.
pub const MAX_TAGS: usize = 2;
/// Bytes of the virtio-net header that precedes each frame.
pub const VNET_HDR_LEN: usize = 10;
/// Bytes of the largest frame: an IP datagram of 65535 bytes behind two tags.
pub const MAX_FRAME: usize = 65_535 + ETH_HLEN + MAX_TAGS * VLAN_HLEN;

/// The `N` bytes at `at`; None where the buffer ends before.
#[inline]
fn bytes_at<const N: usize>(buffer: &[u8], at: usize) -> Option<&[u8; N]> {
    buffer.get(at..)?.first_chunk()
}

/// The big-endian 16-bit field at `at`; None where the buffer ends before.
#[inline]
fn u16_at(buffer: &[u8], at: usize) -> Option<u16> {
    bytes_at(buffer, at).map(|field| u16::from_be_bytes(*field))
}
