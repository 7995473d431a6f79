//! The virtio-net header: what sender and receiver leave to be done later (virtio 1.2 clause 5.1.6).
//!
//! TAP devices (`IFF_VNET_HDR`) and packet sockets (`PACKET_VNET_HDR`) put these 10 bytes before each frame, in the
//! legacy layout without `num_buffers`. Its 16-bit fields are in the byte order of the host
//! (linux/include/linux/virtio_byteorder.h), not of the network.

use thiserror::Error;

use super::VNET_HDR_LEN;

/// What a virtio-net header says about the frame behind it. The default is a plain frame: nothing left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`VnetHeader::NEEDS_CSUM`] and [`VnetHeader::DATA_VALID`]; other bits are kept as they came.
    pub flags: u8,
    /// Whether and how the frame is to be segmented.
    pub gso: Gso,
    /// Congestion was signalled (CWR): only the first segment may carry that flag. Only with TCP.
    pub ecn: bool,
    /// A hint at the bytes of all headers, at most the frame's length. Linux puts the length of the linear part here.
    pub hdr_len: u16,
    /// Bytes of payload in each segment; the last may have fewer.
    pub gso_size: u16,
    /// Where the sum begins, in bytes from the start of the frame: the layer-4 header.
    pub csum_start: u16,
    /// Where the sum goes, in bytes from `csum_start`; the field holds the sum of the pseudo-header so far.
    pub csum_offset: u16,
}

/// The kind of segmentation that a frame waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// None: the frame is as long as it will be on the wire.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over either, one datagram a segment (USO; virtio 1.3).
    UdpL4,
}

impl Gso {
    /// Offset of the checksum field in the layer-4 header, in bytes; None for a frame that is not segmented.
    #[inline]
    pub const fn csum_offset(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::TcpV4 | Self::TcpV6 => Some(16),
            Self::UdpL4 => Some(6),
        }
    }
}

/// Why a virtio-net header can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VnetError {
    /// A kind of segmentation that was never offered, such as fragmentation of UDP (UFO, 3).
    #[error("unknown GSO type {0:#04x} in the virtio-net header")]
    GsoType(u8),
    /// Segments that would be too small or too many.
    #[error("GSO size {0} in the virtio-net header, too small for the frame")]
    GsoSize(u16),
    /// A GSO frame of another protocol, or without the whole header.
    #[error("the virtio-net header names another protocol than the frame has")]
    Protocol,
    /// The headers would be longer than the frame.
    #[error("the virtio-net header names {0} header bytes, more than the frame has")]
    HeaderLength(u16),
    /// The checksum lies outside the frame, in what was looked at before, or not where the protocol has it.
    #[error("the virtio-net header names a checksum at {start}+{offset}, where the frame can't have one")]
    Checksum {
        /// `csum_start` of the header.
        start: u16,
        /// `csum_offset` of the header.
        offset: u16,
    },
    /// The frame has to be segmented, not only summed.
    #[error("a GSO frame is summed segment by segment")]
    Segmentable,
}

// linux/include/uapi/linux/virtio_net.h
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

impl VnetHeader {
    /// Flag: the checksum at `csum_start + csum_offset` is partial and has to be finished before the wire.
    pub const NEEDS_CSUM: u8 = 1;
    /// Flag: the checksums in the frame were found to be right.
    pub const DATA_VALID: u8 = 2;

    /// Reads a header. [`VnetHeader::check`] holds it against the frame.
    ///
    /// # Errors
    /// [`VnetError::GsoType`].
    #[inline]
    pub fn parse(bytes: &[u8; VNET_HDR_LEN]) -> Result<Self, VnetError> {
        let (gso, ecn) = match bytes[1] {
            GSO_NONE => (Gso::None, false),
            other => gso_from(other)?,
        };
        let field = |at| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Ok(Self {
            flags: bytes[0],
            gso,
            ecn,
            hdr_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
        })
    }

    /// Writes the header as [`VnetHeader::parse`] reads it.
    #[inline]
    pub fn write(&self, out: &mut [u8; VNET_HDR_LEN]) {
        let gso_type = match self.gso {
            Gso::None => GSO_NONE,
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::UdpL4 => GSO_UDP_L4,
        };
        let [a, b] = self.hdr_len.to_ne_bytes();
        let [c, d] = self.gso_size.to_ne_bytes();
        let [e, f] = self.csum_start.to_ne_bytes();
        let [g, h] = self.csum_offset.to_ne_bytes();
        *out = [
            self.flags,
            gso_type | if self.ecn { GSO_ECN } else { 0 },
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
        ];
    }

    /// Whether the checksum is partial.
    #[inline]
    pub const fn needs_csum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }
}

fn gso_from(gso_type: u8) -> Result<(Gso, bool), VnetError> {
    let ecn = gso_type & GSO_ECN != 0;
    match gso_type & !GSO_ECN {
        GSO_TCPV4 => Ok((Gso::TcpV4, ecn)),
        GSO_TCPV6 => Ok((Gso::TcpV6, ecn)),
        GSO_UDP_L4 if !ecn => Ok((Gso::UdpL4, false)),
        _ => Err(VnetError::GsoType(gso_type)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `flags`, `gso_type`, then the four fields in order.
    fn bytes(flags: u8, gso_type: u8, fields: [u16; 4]) -> [u8; VNET_HDR_LEN] {
        let mut out = [0; VNET_HDR_LEN];
        out[0] = flags;
        out[1] = gso_type;
        for (i, field) in fields.into_iter().enumerate() {
            out[2 + 2 * i..4 + 2 * i].copy_from_slice(&field.to_ne_bytes());
        }
        out
    }

    #[test]
    fn fields_are_read_in_the_order_of_the_host() {
        let header = VnetHeader::parse(&bytes(1, 0x81, [54, 1448, 34, 16])).unwrap();
        let expected = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso: Gso::TcpV4,
            ecn: true,
            hdr_len: 54,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        assert_eq!(header, expected);
    }

    #[test]
    fn gso_types_that_were_never_offered_are_refused() {
        for gso_type in [2, 3, 6, 0x20, 0x40, 0x80, 0x83, 0x85, 0xff] {
            assert_eq!(
                VnetHeader::parse(&bytes(0, gso_type, [0; 4])),
                Err(VnetError::GsoType(gso_type))
            );
        }
    }

    #[test]
    fn a_plain_frame_passes() {
        let header = VnetHeader::parse(&[0; VNET_HDR_LEN]).unwrap();
        assert_eq!(header, VnetHeader::default());
        assert_eq!(header.check(&[0; 14]), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_written_the_same(bytes: [u8; VNET_HDR_LEN]) {
            if let Ok(header) = VnetHeader::parse(&bytes) {
                let mut out = [0xaa; VNET_HDR_LEN];
                header.write(&mut out);
                prop_assert_eq!(out, bytes);
            }
        }
    }
}
