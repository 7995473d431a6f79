//! Partial checksums of which only the frame itself tells.

use super::layers::{Ip, Layers, Transport};
use super::reading::IPV6_HLEN;
use super::{Sum, VnetHeader};

/// The virtio-net header of a frame that came without one: that of a partial checksum where the frame has one.
///
/// The checksum field of a TCP or UDP frame that Linux has left to be finished holds the sum of the pseudo-header. A finished
/// one may by chance hold the same; taking it for partial does no harm, as finishing then gives what is there: with `s` for
/// that sum and `p` for the rest of header and payload, right is `s = !(s + p)`, which says `s + s + p = 0` (all in ones'
/// complement), so that finishing, `!(s + p)`, gives `s`. What is lost is that the receiver would have noticed the damage of
/// one in 65,536 damaged frames.
///
/// Only what is not in a tunnel is found, and no SCTP.
pub fn partial(frame: &[u8]) -> VnetHeader {
    find(frame).unwrap_or_default()
}

fn find(frame: &[u8]) -> Option<VnetHeader> {
    let layers = Layers::find(frame).ok()?;
    let (addresses, len) = match layers.version {
        Ip::V4 => (layers.ip + 12, 8),
        Ip::V6 => (layers.ip + IPV6_HLEN - 32, 32),
    };
    let csum_offset = match layers.protocol {
        Transport::Tcp => 16,
        Transport::Udp => 6,
    };
    let field = frame.get(layers.transport + csum_offset..)?.first_chunk::<2>()?;
    let addresses = frame.get(addresses..addresses + len)?;
    let length = u16::try_from(layers.transport_len()).ok()?;
    let sum = Sum::pseudo_header(addresses, layers.protocol.protocol(), length);
    (sum.partial() == *field).then_some(VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        csum_start: u16::try_from(layers.transport).ok()?,
        csum_offset: csum_offset as u16,
        ..VnetHeader::default()
    })
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, PacketBuilderStep, VlanId};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::complete;
    use crate::frame::testing::simple_checksum;

    /// A frame with right checksums, made by etherparse.
    #[derive(Clone, Debug)]
    struct Shape {
        tcp: bool,
        ipv6: bool,
        tags: u8,
        ends: [u8; 2],
        payload: Vec<u8>,
    }

    impl Shape {
        fn build(&self) -> Vec<u8> {
            let [a, b] = self.ends;
            let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, a], [2, 0, 0, 0, 0, b]);
            let vlan = |id| VlanId::try_new(id).unwrap();
            let step = match (self.tags, self.ipv6) {
                (0, false) => link.ipv4([10, 0, 0, a], [10, 0, 0, b], 64),
                (0, true) => link.ipv6([a; 16], [b; 16], 64),
                (1, false) => link.single_vlan(vlan(5)).ipv4([10, 0, 0, a], [10, 0, 0, b], 64),
                (1, true) => link.single_vlan(vlan(5)).ipv6([a; 16], [b; 16], 64),
                (_, false) => link
                    .double_vlan(vlan(5), vlan(6))
                    .ipv4([10, 0, 0, a], [10, 0, 0, b], 64),
                (_, true) => link.double_vlan(vlan(5), vlan(6)).ipv6([a; 16], [b; 16], 64),
            };
            self.write(step)
        }

        fn write(&self, step: PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8> {
            let mut frame = Vec::new();
            let [a, b] = self.ends.map(u16::from);
            match self.tcp {
                true => step.tcp(a, b, 7, 1024).write(&mut frame, &self.payload).unwrap(),
                false => step.udp(a, b).write(&mut frame, &self.payload).unwrap(),
            }
            frame
        }

        /// Where the layer-4 header and its checksum are.
        fn places(&self) -> (usize, usize) {
            let start = 14 + 4 * usize::from(self.tags) + if self.ipv6 { 40 } else { 20 };
            (start, start + if self.tcp { 16 } else { 6 })
        }

        /// What Linux leaves in the field of a partial checksum, by a plain loop.
        fn seed(&self, frame: &[u8]) -> [u8; 2] {
            let (start, _) = self.places();
            let addresses = if self.ipv6 {
                &frame[start - 32..start]
            } else {
                &frame[start - 8..start]
            };
            let protocol = [0, if self.tcp { 6 } else { 17 }];
            let length = ((frame.len() - start) as u16).to_be_bytes();
            let pseudo = [addresses, &protocol, &length].concat();
            simple_checksum(&pseudo).map(|byte| !byte)
        }
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let payload = prop::collection::vec(any::<u8>(), 0..1400);
        (any::<bool>(), any::<bool>(), 0u8..3, any::<[u8; 2]>(), payload).prop_map(
            |(tcp, ipv6, tags, ends, payload)| Shape {
                tcp,
                ipv6,
                tags,
                ends,
                payload,
            },
        )
    }

    proptest! {
        #[test]
        fn a_partial_checksum_is_found_and_becomes_that_of_etherparse(shape in shape(), padding in 0usize..20) {
            let right = shape.build();
            let (start, field) = shape.places();
            let mut frame = right.clone();
            let seed = shape.seed(&frame);
            frame[field..field + 2].copy_from_slice(&seed);
            let mut header = partial(&frame);
            prop_assert!(header.needs_csum());
            prop_assert_eq!(usize::from(header.csum_start), start);
            // Padding is the link's, and not summed.
            let padded = [&frame[..], &vec![0; padding]].concat();
            prop_assert_eq!(partial(&padded), header);
            complete(&mut frame, &mut header).unwrap();
            prop_assert_eq!(frame, right);
        }

        #[test]
        fn a_right_checksum_stays_whatever_it_is_taken_for(shape in shape()) {
            let right = shape.build();
            let mut frame = right.clone();
            complete(&mut frame, &mut partial(&right)).unwrap();
            prop_assert_eq!(frame, right);
        }

        #[test]
        fn a_right_checksum_that_looks_partial_stays(mut shape in shape()) {
            // The first word of the payload is chosen so that the right checksum is the sum of the pseudo-header.
            shape.payload.splice(..0, [0, 0]);
            let (start, field) = shape.places();
            let mut frame = shape.build();
            let seed = shape.seed(&frame);
            let word = start + if shape.tcp { 20 } else { 8 };
            frame[field..field + 2].copy_from_slice(&seed);
            let doubled = [&seed[..], &frame[start..]].concat();
            let missing = simple_checksum(&doubled);
            frame[word..word + 2].copy_from_slice(&missing);
            let right = frame.clone();
            let whole = [&seed[..], &right[start..]].concat();
            prop_assert_eq!(simple_checksum(&whole), [0, 0], "it is right");
            prop_assert!(partial(&right).needs_csum());
            complete(&mut frame, &mut partial(&right)).unwrap();
            prop_assert_eq!(frame, right);
        }

        #[test]
        fn any_bytes_are_taken(shape in shape(), at: prop::sample::Index, bit in 0u8..8, end: prop::sample::Index) {
            let mut frame = shape.build();
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            frame.truncate(end.index(frame.len()));
            prop_assert_eq!(partial(&frame).check(&frame), Ok(()));
        }
    }
}
