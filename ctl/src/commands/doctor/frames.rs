//! The frames by which it is asked how the switch takes what two stations say to each other, and the tag that one has behind a
//! link to another switch.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use vswitch_api::policy::{PortVlan, TagKind, VlanId};
use vswitch_api::{Mac, Port};

use crate::commands::sender::{answer, ethernet, question};

/// A frame and what it is.
pub struct Said {
    /// In words.
    pub what: String,
    /// True: from who asks to who is asked.
    pub forth: bool,
    /// It.
    pub frame: Vec<u8>,
}

/// What is said to get a packet over a link, in order: who has it, the answer, the packet.
pub fn exchange(from: (Mac, IpAddr), to: (Mac, IpAddr), packet: (IpAddr, IpAddr)) -> Vec<Said> {
    let protocol = if to.1.is_ipv4() { "ARP" } else { "neighbour discovery" };
    let asks =
        question(from.0, from.1, to.1).map(|frame| (format!("the question for {} by {protocol}", to.1), true, frame));
    let answers = answer(to.0, to.1, from.0, from.1).map(|frame| (format!("the answer by {protocol}"), false, frame));
    let echo = echo(from.0, to.0, packet).map(|frame| (format!("a ping to {}", packet.1), true, frame));
    let said = [asks, answers, echo].into_iter().flatten();
    said.map(|(what, forth, frame)| Said { what, forth, frame }).collect()
}

/// An echo request (RFC 792, RFC 4443 section 4.1).
fn echo(src: Mac, dst: Mac, packet: (IpAddr, IpAddr)) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let ethertype = match packet {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64).icmpv4_echo_request(1, 1);
            builder.write(&mut bytes, &[0; 56]).ok()?;
            0x0800
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 64).icmpv6_echo_request(1, 1);
            builder.write(&mut bytes, &[0; 56]).ok()?;
            0x86dd
        }
        _ => return None,
    };
    Some(ethernet(dst, src, ethertype, &bytes))
}

/// The VLAN of an untagged frame that comes in from a port, where the port gives it one. What a VLAN device sends has its own.
pub fn vlan_of(port: &Port) -> Option<VlanId> {
    match &port.vlan {
        PortVlan::Access(id) | PortVlan::Tunnel(id) => Some(*id),
        PortVlan::Trunk(trunk) => trunk.native,
        PortVlan::All => None,
    }
}

/// An untagged frame of a VLAN as it leaves by a port.
pub fn shaped(frame: &[u8], vlan: Option<VlanId>, port: &Port) -> Vec<u8> {
    let tag = match (&port.vlan, vlan) {
        (_, None) | (PortVlan::Access(_) | PortVlan::Tunnel(_), _) => None,
        (PortVlan::Trunk(trunk), id) if trunk.native == id => None,
        (PortVlan::Trunk(trunk), Some(id)) => Some((trunk.tag, id)),
        (PortVlan::All, Some(id)) => Some((TagKind::Customer, id)),
    };
    tag.map_or_else(|| frame.to_vec(), |(kind, id)| tagged(frame, kind, id))
}

/// A frame with a tag in front of what it has.
pub fn tagged(frame: &[u8], kind: TagKind, id: VlanId) -> Vec<u8> {
    let protocol: u16 = match kind {
        TagKind::Customer => 0x8100,
        TagKind::Service => 0x88a8,
    };
    let (addresses, rest) = frame.split_at(12.min(frame.len()));
    [addresses, &protocol.to_be_bytes(), &number(id).to_be_bytes(), rest].concat()
}

/// The number of a VLAN.
pub fn number(id: VlanId) -> u16 {
    id.to_string().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use vswitch_api::policy::Trunk;
    use vswitch_api::{PortKind, PortName};

    use super::*;

    #[test]
    fn a_frame_has_the_tag_of_the_link() {
        let mut port = Port::new(
            "up".parse::<PortName>().unwrap(),
            "main".parse().unwrap(),
            PortKind::Link,
        );
        let ten: VlanId = "10".parse().unwrap();
        let frame = [0_u8; 60];
        assert_eq!(shaped(&frame, None, &port).len(), 60);
        assert_eq!(shaped(&frame, Some(ten), &port)[12..16], [0x81, 0, 0, 10]);
        port.vlan = PortVlan::Trunk(Trunk {
            allowed: "10,20".parse().unwrap(),
            native: Some(ten),
            tag: TagKind::Service,
        });
        assert_eq!(
            (shaped(&frame, Some(ten), &port).len(), vlan_of(&port)),
            (60, Some(ten))
        );
        let twenty = "20".parse().unwrap();
        assert_eq!(shaped(&frame, Some(twenty), &port)[12..16], [0x88, 0xa8, 0, 20]);
    }

    #[test]
    fn three_frames_get_a_packet_over_a_link() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for (one, two) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (one, two) = (ip(one), ip(two));
            let said = exchange(
                (Mac([2, 0, 0, 0, 0, 1]), one),
                (Mac([2, 0, 0, 0, 0, 2]), two),
                (one, two),
            );
            assert_eq!(
                said.iter().map(|said| said.forth).collect::<Vec<_>>(),
                [true, false, true]
            );
        }
    }
}
