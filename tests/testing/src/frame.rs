//! Frames that a test makes itself: probes that no protocol stack answers and that are told apart by a number.

use vswitch_api::Mac;

/// IEEE 802 Local Experimental EtherType 1 (IEEE 802-2014 table 9-2): no stack takes it.
pub const PROBE_ETHERTYPE: u16 = 0x88b5;
/// EtherType of a C-tag (IEEE 802.1Q-2022 table 9-1).
pub const VLAN_ETHERTYPE: u16 = 0x8100;
/// EtherType of an S-tag.
pub const SERVICE_VLAN_ETHERTYPE: u16 = 0x88a8;

/// The station number `n` of a group: a locally administered unicast address.
pub fn mac(group: u8, n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([0x0a, group, a, b, c, d])
}

/// A probe of 60 bytes, the least that a wire carries (IEEE 802.3 without the frame check sequence).
pub fn probe(dst: Mac, src: Mac, id: u32) -> Vec<u8> {
    probe_of_len(dst, src, id, 60)
}

/// A probe of `len` bytes with the Ethernet header; its filling depends on `id`, so that a mix-up is seen.
pub fn probe_of_len(dst: Mac, src: Mac, id: u32, len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len.max(18));
    frame.extend_from_slice(&dst.0);
    frame.extend_from_slice(&src.0);
    frame.extend_from_slice(&PROBE_ETHERTYPE.to_be_bytes());
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend((18..len).map(|i| (i as u32).wrapping_mul(0x9e37).wrapping_add(id) as u8));
    frame
}

/// The same frame with a tag in front of its EtherType (IEEE 802.1Q-2022 clause 9.6).
pub fn tagged(frame: &[u8], ethertype: u16, tci: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&ethertype.to_be_bytes());
    tagged.extend_from_slice(&tci.to_be_bytes());
    tagged.extend_from_slice(&frame[12..]);
    tagged
}

/// The number of a probe, whatever tags it carries; none for any other frame.
pub fn probe_id(frame: &[u8]) -> Option<u32> {
    let mut at = 12;
    loop {
        let ethertype = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
        at += match ethertype {
            VLAN_ETHERTYPE | SERVICE_VLAN_ETHERTYPE => 4,
            PROBE_ETHERTYPE => return Some(u32::from_be_bytes(frame.get(at + 2..at + 6)?.try_into().ok()?)),
            _ => return None,
        };
    }
}
