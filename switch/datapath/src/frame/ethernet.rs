//! Ethernet II and 802.1Q headers, and MAC addresses as table keys.

use thiserror::Error;
use vswitch_api::Mac;

use super::{ETH_HLEN, MAX_TAGS, VLAN_HLEN, u16_at};

/// Tag protocol identifier of a customer VLAN tag (IEEE 802.1Q-2022 table 9-1).
pub const TPID_CUSTOMER: u16 = 0x8100;
/// Tag protocol identifier of a service VLAN tag (IEEE 802.1Q-2022 table 9-1, formerly 802.1ad).
pub const TPID_SERVICE: u16 = 0x88a8;

/// EtherType of IPv4 (IEEE 802 numbers, IANA).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of RARP (RFC 903).
pub const ETHERTYPE_RARP: u16 = 0x8035;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EthernetError {
    /// Fewer bytes than an Ethernet header has, or than its tags need.
    #[error("the frame ends within its Ethernet header")]
    Truncated,
}

/// One VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Tag protocol identifier: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Tag control information: priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
    pub tci: u16,
}

impl Tag {
    /// VLAN id, 0 to 4095; 0 means that the tag carries a priority only.
    #[inline]
    pub const fn vlan_id(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// A frame whose Ethernet header, up to two tags included, is there in full.
#[derive(Clone, Copy, Debug)]
pub struct EthernetView<'a> {
    frame: &'a [u8],
    header: &'a [u8; ETH_HLEN],
    ethertype: u16,
    tags: u8,
}

impl<'a> EthernetView<'a> {
    /// Looks at a frame, from the destination MAC on.
    ///
    /// # Errors
    /// [`EthernetError::Truncated`].
    #[inline]
    pub fn new_checked(frame: &'a [u8]) -> Result<Self, EthernetError> {
        let header = frame.first_chunk::<ETH_HLEN>().ok_or(EthernetError::Truncated)?;
        let mut view = Self {
            frame,
            header,
            ethertype: u16::from_be_bytes([header[12], header[13]]),
            tags: 0,
        };
        while is_tag(view.ethertype) && usize::from(view.tags) < MAX_TAGS {
            view.tags += 1;
            view.ethertype = u16_at(frame, view.payload_offset() - 2).ok_or(EthernetError::Truncated)?;
        }
        Ok(view)
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = *self.header;
        Mac([a, b, c, d, e, f])
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Mac {
        let [.., a, b, c, d, e, f, _, _] = *self.header;
        Mac([a, b, c, d, e, f])
    }

    /// The EtherType behind the tags (or the length, in an 802.3 frame). A third tag is not looked behind: its TPID
    /// is what stands here then.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        self.ethertype
    }

    /// The tags, outermost first; none to two.
    #[inline]
    pub fn tags(&self) -> impl ExactSizeIterator<Item = Tag> + 'a {
        let tagged = &self.frame[12..self.payload_offset() - 2];
        tagged.chunks_exact(VLAN_HLEN).map(|tag| Tag {
            tpid: u16::from_be_bytes([tag[0], tag[1]]),
            tci: u16::from_be_bytes([tag[2], tag[3]]),
        })
    }

    /// Where the payload begins, in bytes from the start of the frame: 14, 18 or 22.
    #[inline]
    pub fn payload_offset(&self) -> usize {
        ETH_HLEN + usize::from(self.tags) * VLAN_HLEN
    }
}

/// Whether a tag stands where the EtherType would be.
#[inline]
pub(super) const fn is_tag(ethertype: u16) -> bool {
    ethertype == TPID_CUSTOMER || ethertype == TPID_SERVICE
}

/// The address as a number, first octet highest: a key that compares and hashes in one instruction.
#[inline]
pub const fn mac_to_u64(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    // In the two parts that a processor can load at once.
    (u16::from_be_bytes([a, b]) as u64) << 32 | u32::from_be_bytes([c, d, e, f]) as u64
}

/// The address that [`mac_to_u64`] made a number of; the upper 16 bits are ignored.
#[inline]
pub const fn u64_to_mac(key: u64) -> Mac {
    let [_, _, a, b, c, d, e, f] = key.to_be_bytes();
    Mac([a, b, c, d, e, f])
}

/// Whether it is one of 01-80-C2-00-00-00 to -0F, which a bridge never forwards (IEEE 802.1Q-2022 table 8-1).
#[inline]
pub const fn is_reserved_multicast(mac: Mac) -> bool {
    mac_to_u64(mac) & !0x0f == 0x0180_c200_0000
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, VlanId};
    use proptest::prelude::*;

    use super::*;

    const DST: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SRC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn an_untagged_frame() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(SRC, DST)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 2)
            .write(&mut frame, b"x")
            .unwrap();
        let view = EthernetView::new_checked(&frame).unwrap();
        assert_eq!((view.dst(), view.src()), (Mac(DST), Mac(SRC)));
        assert_eq!(
            (view.ethertype(), view.payload_offset(), view.tags().len()),
            (0x0800, 14, 0)
        );
    }

    #[test]
    fn a_frame_with_two_tags() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(SRC, DST)
            .double_vlan(VlanId::try_new(100).unwrap(), VlanId::try_new(7).unwrap())
            .ipv6([1; 16], [2; 16], 64)
            .udp(1, 2)
            .write(&mut frame, b"x")
            .unwrap();
        let view = EthernetView::new_checked(&frame).unwrap();
        assert_eq!((view.ethertype(), view.payload_offset()), (0x86dd, 22));
        let tags: Vec<_> = view.tags().map(|tag| (tag.tpid, tag.vlan_id())).collect();
        assert_eq!(tags, [(0x88a8, 100), (0x8100, 7)]);
    }

    #[test]
    fn a_third_tag_is_payload() {
        let mut frame = [0; 26];
        for at in [12, 16, 20] {
            frame[at..at + 2].copy_from_slice(&[0x81, 0]);
        }
        let view = EthernetView::new_checked(&frame).unwrap();
        assert_eq!(
            (view.ethertype(), view.payload_offset(), view.tags().len()),
            (0x8100, 22, 2)
        );
    }

    #[test]
    fn a_frame_that_ends_in_its_header_is_refused() {
        let mut frame = [0; 18];
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert!(EthernetView::new_checked(&frame).is_ok());
        assert_eq!(
            EthernetView::new_checked(&frame[..17]).unwrap_err(),
            EthernetError::Truncated
        );
        assert_eq!(
            EthernetView::new_checked(&[0; 13]).unwrap_err(),
            EthernetError::Truncated
        );
    }

    #[test]
    fn sixteen_group_addresses_are_reserved() {
        for last in 0..=255 {
            assert_eq!(is_reserved_multicast(Mac([1, 0x80, 0xc2, 0, 0, last])), last < 16);
        }
        assert!(!is_reserved_multicast(Mac([0, 0x80, 0xc2, 0, 0, 0])));
        assert!(!is_reserved_multicast(Mac::BROADCAST));
    }

    proptest! {
        #[test]
        fn a_key_keeps_the_address_and_its_order(a: [u8; 6], b: [u8; 6]) {
            prop_assert_eq!(u64_to_mac(mac_to_u64(Mac(a))), Mac(a));
            prop_assert_eq!(mac_to_u64(Mac(a)).cmp(&mac_to_u64(Mac(b))), a.cmp(&b));
        }
    }
}
