//! Tags and EtherTypes, and MAC addresses as table keys.

use vswitch_api::Mac;

use super::{ETH_HLEN, VLAN_HLEN, bytes_at, u16_at};

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

impl Tag {
    /// The n-th tag of a frame, 0 the outermost, if it stands there in full, with an EtherType behind.
    #[inline]
    pub fn nth(frame: &[u8], n: usize) -> Option<Self> {
        Self::where_nth(frame, n).filter(|tag| is_tag(tag.tpid))
    }

    /// The outermost tag, if it has this TPID and stands there in full.
    #[inline]
    pub fn outermost(frame: &[u8], tpid: u16) -> Option<Self> {
        Self::where_nth(frame, 0).filter(|tag| tag.tpid == tpid)
    }

    /// What stands where the n-th tag would.
    #[inline]
    fn where_nth(frame: &[u8], n: usize) -> Option<Self> {
        let [t0, t1, c0, c1, _, _] = *bytes_at(frame, ETH_HLEN - 2 + n * VLAN_HLEN)?;
        Some(Self {
            tpid: u16::from_be_bytes([t0, t1]),
            tci: u16::from_be_bytes([c0, c1]),
        })
    }

    /// Whether an n-th tag begins, be it there in full or not.
    #[inline]
    pub fn begins(frame: &[u8], n: usize) -> bool {
        u16_at(frame, ETH_HLEN - 2 + n * VLAN_HLEN).is_some_and(is_tag)
    }

    /// All tags of a frame, outermost first.
    #[inline]
    pub fn all(frame: &[u8]) -> impl Iterator<Item = Self> {
        (0..).map_while(|n| Self::nth(frame, n))
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

    fn tags(frame: &[u8]) -> Vec<(u16, u16)> {
        Tag::all(frame).map(|tag| (tag.tpid, tag.vlan_id())).collect()
    }

    #[test]
    fn tags_are_read_from_the_outermost_on() {
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
        link.double_vlan(VlanId::try_new(100).unwrap(), VlanId::try_new(7).unwrap())
            .ipv6([1; 16], [2; 16], 64)
            .udp(1, 2)
            .write(&mut frame, b"x")
            .unwrap();
        assert_eq!(tags(&frame), [(0x88a8, 100), (0x8100, 7)]);
        assert_eq!(Tag::nth(&frame, 1).map(|tag| tag.tci), Some(7));
        frame.drain(12..20);
        assert_eq!(tags(&frame), []);
    }

    #[test]
    fn a_tag_without_an_ethertype_behind_is_none() {
        let mut frame = [0; 22];
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        frame[16..18].copy_from_slice(&[0x81, 0]);
        assert_eq!((tags(&frame).len(), tags(&frame[..21]).len()), (2, 1));
        assert_eq!((tags(&frame[..17]).len(), tags(&[0; 3]).len()), (0, 0));
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
