//! Segmentation in software: a GSO frame becomes the frames that a wire would carry.
//!
//! The result is that of Linux (`tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment`):
//! * each segment has all headers of the GSO frame and `gso_size` bytes of its payload, the last one what is left;
//! * lengths and checksums are those of the segment; the IPv4 identification counts up from that of the GSO frame;
//! * TCP: the sequence number advances; FIN and PSH stay on the last segment only, CWR on the first only (RFC 3168
//!   section 6.1.2).

use thiserror::Error;

use super::checksum::{Sum, finish};
use super::layers::{Ip, LayerError, Layers, Transport, tcp_header_len};
use super::reading::IPV6_HLEN;
use super::{Checked, Gso, VnetError, VnetHeader};

/// Flags of the TCP header (RFC 9293 section 3.1) that not every segment keeps.
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// Why a frame can't be segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// The frame is no GSO frame.
    #[error("the frame is not to be segmented")]
    NotGso,
    /// See [`VnetError`].
    #[error(transparent)]
    Header(#[from] VnetError),
    /// See [`LayerError`].
    #[error(transparent)]
    Layers(#[from] LayerError),
    /// The virtio-net header speaks of another protocol than the frame has, or of another place of its header.
    #[error("the virtio-net header does not fit the protocol of the frame")]
    Mismatch,
    /// The caller's buffer has not enough room.
    #[error("the buffer is too small for a segment of {0} bytes")]
    Buffer(usize),
}

/// A GSO frame being segmented.
///
/// ```
/// # use vswitch_datapath::frame::{SegmentError, Segments, VnetHeader};
/// # fn send(_: &[u8]) {}
/// fn send_segmented(frame: &[u8], header: &VnetHeader, buffer: &mut [u8]) -> Result<(), SegmentError> {
///     let mut segments = Segments::new(frame, header)?;
///     while let Some(len) = segments.write_next(buffer)? {
///         send(&buffer[..len]);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    frame: &'a [u8],
    layers: Layers,
    gso_size: usize,
    /// Where the checksum field of layer 4 is, in bytes from the layer-4 header.
    csum_offset: usize,
    /// Sum of the pseudo-header without the length.
    seed: Sum,
    count: usize,
    written: usize,
}

impl<'a> Segments<'a> {
    /// Prepares the segmentation of `frame`; costs a look at its headers.
    ///
    /// # Errors
    /// All of [`SegmentError`] but `Buffer`.
    pub fn new(frame: &'a [u8], header: &VnetHeader) -> Result<Self, SegmentError> {
        Self::of(&Checked::of(frame, *header)?)
    }

    /// The same of a frame that was checked.
    ///
    /// # Errors
    /// All of [`SegmentError`] but `Buffer` and `Header`.
    pub fn of(checked: &Checked<'a>) -> Result<Self, SegmentError> {
        let (frame, header) = (checked.frame(), checked.header());
        let csum_offset = header.gso.csum_offset().ok_or(SegmentError::NotGso)?;
        let layers = Layers::find(frame)?;
        let fits = match header.gso {
            Gso::None => false,
            Gso::TcpV4 => (layers.version, layers.protocol) == (Ip::V4, Transport::Tcp),
            Gso::TcpV6 => (layers.version, layers.protocol) == (Ip::V6, Transport::Tcp),
            Gso::UdpL4 => layers.protocol == Transport::Udp,
        };
        if !fits || header.needs_csum() && usize::from(header.csum_start) != layers.transport {
            return Err(SegmentError::Mismatch);
        }
        let gso_size = usize::from(header.gso_size).max(1);
        let csum_offset = usize::from(csum_offset);
        let seed = if header.needs_csum() {
            // The sender's own sum is right even where the last destination stands in a routing header or option.
            let field = layers.transport + csum_offset;
            Sum::default()
                .bytes(&frame[field..field + 2])
                .without(layers.transport_len() as u16)
        } else {
            let addresses = match layers.version {
                Ip::V4 => &frame[layers.ip + 12..layers.ip + 20],
                Ip::V6 => &frame[layers.ip + 8..layers.ip + IPV6_HLEN],
            };
            Sum::pseudo_header(addresses, layers.protocol.protocol(), 0)
        };
        // Without payload there is still the one frame with the headers.
        let count = (layers.end - layers.payload).div_ceil(gso_size).max(1);
        Ok(Self {
            frame,
            layers,
            gso_size,
            csum_offset,
            seed,
            count,
            written: 0,
        })
    }

    /// Writes the next segment to the start of `out`: a finished frame, of which the length in bytes is returned.
    /// None when all have been written.
    ///
    /// # Errors
    /// [`SegmentError::Buffer`] if the segment does not fit; it can be asked for again.
    /// A buffer as long as the GSO frame is enough for all of them.
    pub fn write_next(&mut self, out: &mut [u8]) -> Result<Option<usize>, SegmentError> {
        if self.written == self.count {
            return Ok(None);
        }
        let Layers { payload, end, .. } = self.layers;
        let sent = self.written * self.gso_size;
        let data = &self.frame[payload + sent..end.min(payload + sent + self.gso_size)];
        let len = payload + data.len();
        let segment = out.get_mut(..len).ok_or(SegmentError::Buffer(len))?;
        segment[..payload].copy_from_slice(&self.frame[..payload]);
        segment[payload..].copy_from_slice(data);
        self.set_ip(segment);
        self.set_transport(segment, sent);
        self.written += 1;
        Ok(Some(len))
    }

    fn set_ip(&self, segment: &mut [u8]) {
        let Layers {
            version, ip, transport, ..
        } = self.layers;
        let len = segment.len() - ip;
        match version {
            Ip::V4 => {
                let header = &mut segment[ip..transport];
                header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(self.written as u16);
                header[4..6].copy_from_slice(&id.to_be_bytes());
                header[10..12].fill(0);
                let checksum = Sum::default().bytes(header).checksum();
                header[10..12].copy_from_slice(&checksum);
            }
            Ip::V6 => segment[ip + 4..ip + 6].copy_from_slice(&((len - IPV6_HLEN) as u16).to_be_bytes()),
        }
    }

    /// `sent`: bytes of payload in the segments before this one.
    fn set_transport(&self, segment: &mut [u8], sent: usize) {
        let layer4 = &mut segment[self.layers.transport..];
        let length = layer4.len() as u16;
        match self.layers.protocol {
            Transport::Tcp => {
                let sequence = u32::from_be_bytes([layer4[4], layer4[5], layer4[6], layer4[7]]);
                layer4[4..8].copy_from_slice(&sequence.wrapping_add(sent as u32).to_be_bytes());
                if self.written > 0 {
                    layer4[13] &= !TCP_CWR;
                }
                if self.written + 1 < self.count {
                    layer4[13] &= !(TCP_FIN | TCP_PSH);
                }
            }
            Transport::Udp => layer4[4..6].copy_from_slice(&length.to_be_bytes()),
        }
        layer4[self.csum_offset..self.csum_offset + 2].copy_from_slice(&self.seed.word(length).partial());
        finish(layer4, self.csum_offset);
    }
}

/// What a frame takes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireSize {
    /// How many frames it becomes.
    pub segments: usize,
    /// Bytes of the longest of them, from the destination MAC on.
    pub largest: usize,
    /// Bytes of all of them, likewise.
    pub total: usize,
}

impl WireSize {
    /// Of a frame that stays one.
    pub const fn of_one(len: usize) -> Self {
        Self {
            segments: 1,
            largest: len,
            total: len,
        }
    }
}

/// What a frame takes on the wire, for MTU checks and policing. It costs a few instructions: where the layer-4 header
/// begins is taken from the virtio-net header, which [`VnetHeader::check`] has passed. Only in a GSO frame whose
/// checksum is complete it has to be looked for; [`VnetHeader::hdr_len`] stands in where it can't be found.
#[inline]
pub fn wire_size(frame: &[u8], header: &VnetHeader) -> WireSize {
    if header.gso == Gso::None {
        return WireSize::of_one(frame.len());
    }
    let transport = usize::from(header.csum_start);
    let headers = match header.gso {
        _ if !header.needs_csum() => Layers::find(frame).map_or(usize::from(header.hdr_len), |layers| layers.payload),
        Gso::UdpL4 => transport + 8,
        _ => transport + tcp_header_len(frame, transport).unwrap_or(0),
    };
    let headers = headers.min(frame.len());
    let payload = frame.len() - headers;
    let gso_size = usize::from(header.gso_size).max(1);
    let segments = payload.div_ceil(gso_size).max(1);
    WireSize {
        segments,
        largest: headers + payload.min(gso_size),
        total: segments * headers + payload,
    }
}

#[cfg(test)]
mod tests;
