//! Probes of the loop guard: a frame that comes back to the switch that sent it has found a loop.

use vswitch_api::Mac;

use super::PortId;
use crate::frame::{VLAN_HLEN, VNET_HDR_LEN};

/// Where probes go: a group address of our own, which other switches flood.
pub const PROBE_DST: Mac = Mac([0x03, 0x76, 0x73, 0x77, 0x00, 0x01]);
/// Where they come from; never learned by us.
const PROBE_SRC: Mac = Mac([0x02, 0x76, 0x73, 0x77, 0x00, 0x01]);
/// Local experimental EtherType 1 (IEEE 802-2014 clause 9.2.3).
const PROBE_ETHERTYPE: u16 = 0x88b5;
/// Bytes of a probe with its virtio-net header: the shortest frame there is.
const PROBE_LEN: usize = VNET_HDR_LEN + 60;

/// The probe that goes out of `port` of the switch with this token, with a tag of this TPID and VLAN if there is one: a
/// trunk may have no VLAN for frames without.
pub fn probe(token: u64, port: PortId, tag: Option<(u16, u16)>) -> [u8; PROBE_LEN] {
    let mut wire = [0; PROBE_LEN];
    let frame = &mut wire[VNET_HDR_LEN..];
    frame[..6].copy_from_slice(&PROBE_DST.0);
    frame[6..12].copy_from_slice(&PROBE_SRC.0);
    let mut rest = &mut frame[12..];
    if let Some((tpid, vlan)) = tag {
        rest[..2].copy_from_slice(&tpid.to_be_bytes());
        rest[2..VLAN_HLEN].copy_from_slice(&vlan.to_be_bytes());
        rest = &mut rest[VLAN_HLEN..];
    }
    rest[..2].copy_from_slice(&PROBE_ETHERTYPE.to_be_bytes());
    rest[2..10].copy_from_slice(&token.to_be_bytes());
    rest[10..12].copy_from_slice(&port.0.to_be_bytes());
    wire
}

/// The port that sent this frame, if it is a probe of the switch with this token. Tags in front are looked behind.
pub fn sent_from(frame: &[u8], token: u64) -> Option<PortId> {
    let payload = crate::frame::EthernetView::new_checked(frame).ok()?;
    let at = payload.payload_offset();
    let body = frame.get(at..at + 10)?;
    let (theirs, port) = body.split_first_chunk::<8>()?;
    (payload.ethertype() == PROBE_ETHERTYPE && u64::from_be_bytes(*theirs) == token)
        .then(|| PortId(u16::from_be_bytes([port[0], port[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_knows_its_own_probe_only() {
        for tag in [None, Some((0x8100, 10))] {
            let wire = probe(7, PortId(3), tag);
            let frame = &wire[VNET_HDR_LEN..];
            assert_eq!(sent_from(frame, 7), Some(PortId(3)));
            assert_eq!(sent_from(frame, 8), None);
            assert_eq!(sent_from(&frame[..20], 7), None);
        }
    }
}
