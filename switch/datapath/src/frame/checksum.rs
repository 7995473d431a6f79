//! The Internet checksum (RFC 1071).

use super::{Gso, VnetError, VnetHeader};

/// A running sum of 16-bit words. The words are taken in the byte order of the host: the sum comes out right
/// whatever the order, as long as it is written in the same (RFC 1071 section 2 B).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes. Only what is added last may have an odd number of them.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Eight lanes of 32-bit words: the compiler makes vector code of it, and no lane overflows below 16 GiB.
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [0u64; 8];
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, odd) = rest.as_chunks::<2>();
        let mut sum: u64 = words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum();
        if let [last] = odd {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        let total = lanes.iter().map(|lane| fold32(*lane)).sum::<u64>() + sum + fold32(self.0);
        Self(total)
    }

    /// Adds one word, such as a length.
    #[inline]
    pub const fn word(self, word: u16) -> Self {
        Self(fold32(self.0) + u16::from_ne_bytes(word.to_be_bytes()) as u64)
    }

    /// Takes away a word that was added: in ones' complement that is adding its complement (RFC 1624).
    #[inline]
    pub const fn without(self, word: u16) -> Self {
        self.word(!word)
    }

    /// The pseudo-header of TCP and UDP (RFC 9293 section 3.1, RFC 8200 section 8.1): source and destination address
    /// as they follow each other in the IP header, the protocol, and the bytes of the layer-4 header and payload.
    pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u16) -> Self {
        Self::default().bytes(addresses).word(u16::from(protocol)).word(length)
    }

    /// The sum in 16 bits, in the order of the wire: what a partial checksum field holds.
    pub const fn partial(self) -> [u8; 2] {
        let mut sum = fold32(self.0);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_ne_bytes()
    }

    /// The checksum, in the order of the wire.
    pub const fn checksum(self) -> [u8; 2] {
        let [a, b] = self.partial();
        [!a, !b]
    }
}

/// Brings a sum below 2^33, so that more can be added without an overflow.
#[inline]
const fn fold32(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// Finishes the partial checksum that `header` names, in place, and says so in `header`. A frame with a complete one
/// is left alone.
///
/// The Internet checksum is the only one: for SCTP, whose CRC32c the virtio-net header can't express, the result is
/// wrong, as it is when Linux does this.
///
/// # Errors
/// What [`VnetHeader::check`] finds. A GSO frame is refused with [`VnetError::Segmentable`]: its checksums are those
/// of its segments.
pub fn complete(frame: &mut [u8], header: &mut VnetHeader) -> Result<(), VnetError> {
    header.check(frame)?;
    complete_known(frame, header)
}

/// The same of a frame that was checked.
///
/// # Errors
/// Of a GSO frame [`VnetError::Segmentable`].
pub(crate) fn complete_known(frame: &mut [u8], header: &mut VnetHeader) -> Result<(), VnetError> {
    if header.gso != Gso::None {
        return Err(VnetError::Segmentable);
    }
    if header.needs_csum() {
        let (start, offset) = (header.csum_start, header.csum_offset);
        let layer4 = frame.get_mut(usize::from(start)..);
        let layer4 = layer4.filter(|layer4| layer4.len() >= usize::from(offset) + 2);
        finish(
            layer4.ok_or(VnetError::Checksum { start, offset })?,
            usize::from(offset),
        );
        *header = VnetHeader {
            flags: header.flags & !VnetHeader::NEEDS_CSUM,
            csum_start: 0,
            csum_offset: 0,
            ..*header
        };
    }
    Ok(())
}

/// Sums a layer-4 header and its payload, the seed in the checksum field included, and writes the checksum.
pub(super) fn finish(layer4: &mut [u8], field: usize) {
    let checksum = match Sum::default().bytes(layer4).checksum() {
        // 0 would mean "none" in UDP (RFC 768); its other form is right for every protocol (linux CSUM_MANGLED_0).
        [0, 0] => [0xff, 0xff],
        checksum => checksum,
    };
    layer4[field..field + 2].copy_from_slice(&checksum);
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4Header, UdpHeader, ip_number};
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{MAX_FRAME, testing::simple_checksum};

    /// A frame of 14 + 20 bytes that are not summed, then a UDP datagram with the sum of its pseudo-header.
    fn partial_udp(payload: &[u8]) -> (Vec<u8>, VnetHeader, [u8; 2]) {
        let length = (UdpHeader::LEN + payload.len()) as u16;
        let ip = Ipv4Header::new(length, 64, ip_number::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        let mut udp = UdpHeader {
            source_port: 7,
            destination_port: 9,
            length,
            checksum: 0,
        };
        let expected = udp.calc_checksum_ipv4(&ip, payload).unwrap().to_be_bytes();
        let seed = Sum::pseudo_header(&[ip.source, ip.destination].concat(), 17, length).partial();
        udp.checksum = u16::from_be_bytes(seed);
        let frame = [&[0xee; 14][..], &ip.to_bytes(), &udp.to_bytes(), payload].concat();
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            csum_start: 34,
            csum_offset: 6,
            ..VnetHeader::default()
        };
        (frame, header, expected)
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1071 section 3: the words sum up to 2ddf0, that is ddf2.
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), [0xdd, 0xf2]);
        assert_eq!(sum.checksum(), [0x22, 0x0d]);
    }

    #[test]
    fn no_bytes_sum_up_to_nothing() {
        assert_eq!(Sum::default().bytes(&[]).checksum(), [0xff, 0xff]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes minutes there")]
    fn the_largest_frame_of_ones_does_not_overflow() {
        let bytes = vec![0xff; MAX_FRAME];
        assert_eq!(Sum::default().bytes(&bytes).checksum(), simple_checksum(&bytes));
    }

    #[test]
    fn a_udp_checksum_of_zero_is_sent_as_ones() {
        let (mut frame, mut header, _) = partial_udp(&[0, 0]);
        let mut probe = frame.clone();
        complete(&mut probe, &mut header.clone()).unwrap();
        // With its own checksum as payload, the sum becomes ffff and the checksum 0.
        frame[42..44].copy_from_slice(&probe[40..42]);
        complete(&mut frame, &mut header).unwrap();
        assert_eq!(frame[40..42], [0xff, 0xff]);
    }

    #[test]
    fn a_gso_frame_or_a_checksum_outside_is_refused_and_the_frame_left_alone() {
        let (frame, header, _) = partial_udp(b"abc");
        let mut touched = frame.clone();
        let mut gso = VnetHeader {
            gso: Gso::UdpL4,
            gso_size: 2,
            ..header
        };
        assert_eq!(complete(&mut touched, &mut gso), Err(VnetError::Segmentable));
        let mut outside = VnetHeader {
            csum_start: 40,
            ..header
        };
        assert_eq!(
            complete(&mut touched, &mut outside),
            Err(VnetError::Checksum { start: 40, offset: 6 })
        );
        assert_eq!(touched, frame);
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_a_simple_loop(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).checksum(), simple_checksum(&bytes));
        }

        #[test]
        fn parts_sum_up_to_the_whole(a in prop::collection::vec(any::<[u8; 2]>(), 0..50), b: Vec<u8>, word: u16) {
            let a = a.concat();
            let parts = Sum::default().bytes(&a).word(word).bytes(&b);
            let whole = [&a[..], &word.to_be_bytes(), &b].concat();
            prop_assert_eq!(parts.checksum(), simple_checksum(&whole));
            // Taking the word away again leaves the same, or the other form of zero.
            let taken = parts.without(word).checksum();
            let left = simple_checksum(&[&a[..], &b].concat());
            prop_assert!(taken == left || (taken == [0, 0] && left == [0xff, 0xff]));
        }

        #[test]
        fn a_partial_checksum_becomes_the_one_of_etherparse(payload in prop::collection::vec(any::<u8>(), 0..1500)) {
            let (mut frame, mut header, expected) = partial_udp(&payload);
            let untouched = frame.clone();
            complete(&mut frame, &mut header).unwrap();
            prop_assert_eq!(&frame[40..42], &expected);
            prop_assert_eq!(header, VnetHeader::default());
            prop_assert_eq!(&frame[..40], &untouched[..40]);
            prop_assert_eq!(&frame[42..], &untouched[42..]);
        }
    }
}
