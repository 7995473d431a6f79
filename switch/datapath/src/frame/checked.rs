//! The one checked frame.

use super::reading::{Fragment, Reach, Reading, least_header};
use super::reading::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};
use super::segment::{WireSize, wire_size};
use super::{ETH_HLEN, Gso, MAX_TAGS, Tag, VLAN_HLEN, VNET_HDR_LEN, VnetError, VnetHeader};

/// Least payload of a TCP segment: what Linux lets a peer bring it down to (TCP_MIN_GSO_SIZE).
const MIN_TCP_SEGMENT: u16 = 8;
/// Most segments that a GSO frame may ask for: 64 KiB of those that an MSS of 88, the least that Linux offers (TCP_MIN_MSS), leaves
/// beside 40 bytes of options.
pub const MAX_SEGMENTS: usize = 65_535 / (88 - 40);

/// A frame that a port handed in, and what was proven of it:
/// * it has an Ethernet header in full;
/// * its virtio-net header is one that was offered;
/// * a partial checksum lies where this very frame can have one ([`VnetHeader::check`]): behind all that any stage reads;
/// * a GSO frame is of the protocol that its header says, its segments are neither too small nor too many.
///
/// What only policies ask for is read when they do: [`Checked::read`].
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    frame: &'a [u8],
    header: VnetHeader,
}

/// Why bytes from a port are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckError {
    /// Shorter than an Ethernet header.
    Runt,
    /// The virtio-net header can't be used with this frame.
    Malformed(VnetError),
}

impl<'a> Checked<'a> {
    /// Checks a frame with its virtio-net header in front.
    ///
    /// # Errors
    /// [`CheckError`].
    #[inline(always)]
    pub fn new(wire: &'a [u8]) -> Result<Self, CheckError> {
        let (place, frame) = wire.split_first_chunk::<VNET_HDR_LEN>().ok_or(CheckError::Runt)?;
        let header = VnetHeader::parse(place).map_err(CheckError::Malformed)?;
        if frame.len() < ETH_HLEN {
            return Err(CheckError::Runt);
        }
        Self::of(frame, header).map_err(CheckError::Malformed)
    }

    /// Checks a frame with a header that was read already.
    #[inline(always)]
    pub(super) fn of(frame: &'a [u8], header: VnetHeader) -> Result<Self, VnetError> {
        header.check(frame)?;
        Ok(Self { frame, header })
    }

    /// A frame that has passed [`Checked::new`] and was changed since in its tags only: what was proven then still holds, and costs
    /// nothing again. What stands on it does not rely on that to be safe, only to be right.
    #[inline]
    pub fn known(wire: &'a [u8]) -> Option<Self> {
        let (place, frame) = wire.split_first_chunk::<VNET_HDR_LEN>()?;
        let header = VnetHeader::parse(place).ok()?;
        Some(Self { frame, header })
    }

    /// Bytes of its tags, as far as an MTU does not count them.
    #[inline]
    pub fn tag_bytes(&self) -> usize {
        Tag::all(self.frame).take(MAX_TAGS).count() * VLAN_HLEN
    }

    /// The frame, from the destination MAC on.
    #[inline]
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// Its virtio-net header.
    #[inline]
    pub fn header(&self) -> &VnetHeader {
        &self.header
    }

    /// What it takes on the wire.
    #[inline]
    pub fn wire_size(&self) -> WireSize {
        wire_size(self.frame, &self.header)
    }

    /// Reads it as far as it can be.
    #[inline]
    pub fn read(&self) -> Reading<'a> {
        Reading::of(self.frame)
    }
}

impl VnetHeader {
    /// Holds the header against its frame, from the destination MAC on. What passes here is what Linux takes (`tun_get_user`,
    /// `virtio_net_hdr_to_skb`), except that
    /// * a checksum may not lie where finishing it would change what was looked at before. In an IP packet that is the checksum of
    ///   its own layer-4 header, or one further inside (a tunnel's) where no stage looks. A fragment has none, nor has ARP, nor
    ///   what can't be read;
    /// * a GSO frame is of the protocol that it says, and has [`MAX_SEGMENTS`] at most.
    ///
    /// A GSO frame need not have [`VnetHeader::NEEDS_CSUM`]: Linux hands on those that it has found to be right.
    ///
    /// # Errors
    /// All of [`VnetError`] but `GsoType` and `Segmentable`.
    #[inline]
    pub fn check(&self, frame: &[u8]) -> Result<(), VnetError> {
        if usize::from(self.hdr_len) > frame.len() {
            return Err(VnetError::HeaderLength(self.hdr_len));
        }
        if !self.needs_csum() && self.gso == Gso::None {
            return Ok(());
        }
        self.check_offload(frame)
    }

    // Out of line, so that a plain frame costs two comparisons where this is inlined.
    #[inline(never)]
    fn check_offload(self, frame: &[u8]) -> Result<(), VnetError> {
        let reading = Reading::of(frame);
        if self.needs_csum() && !self.is_checksum_of(&reading) {
            let (start, offset) = (self.csum_start, self.csum_offset);
            return Err(VnetError::Checksum { start, offset });
        }
        if self.gso == Gso::None {
            return Ok(());
        }
        if !self.is_gso_of(&reading) {
            return Err(VnetError::Protocol);
        }
        let least = if self.gso == Gso::UdpL4 { 1 } else { MIN_TCP_SEGMENT };
        if self.gso_size < least || wire_size(frame, &self).segments > MAX_SEGMENTS {
            return Err(VnetError::GsoSize(self.gso_size));
        }
        Ok(())
    }

    /// Whether the partial checksum lies where this frame can have one.
    fn is_checksum_of(&self, reading: &Reading<'_>) -> bool {
        let (start, offset) = (usize::from(self.csum_start), usize::from(self.csum_offset));
        // Of IP the packet's, of others the frame's.
        let inside = start + offset + 2 <= reading.end;
        let fits = self
            .gso
            .csum_offset()
            .is_none_or(|expected| usize::from(expected) == offset);
        let place = match reading.reach {
            Reach::Nothing | Reach::BrokenIp | Reach::Addresses => false,
            // MPLS, PPPoE and others that Linux has sums finished in; no stage looks behind their EtherType.
            Reach::Link => start >= reading.network && !reading.is_arp(),
            Reach::Transport => {
                reading.fragment == Fragment::Whole
                    && start >= reading.transport
                    && is_checksum_at(reading.protocol, start - reading.transport, offset)
            }
        };
        inside && fits && place
    }

    /// Whether a GSO frame is of the protocol that the header says. What is in a tunnel is not looked at: that its checksum lies
    /// further inside is known by now.
    fn is_gso_of(&self, reading: &Reading<'_>) -> bool {
        if self.needs_csum() && usize::from(self.csum_start) != reading.transport {
            return true;
        }
        let (version, protocol) = (reading.version, reading.protocol);
        let agrees = match self.gso {
            Gso::None => false,
            Gso::TcpV4 => version == 4 && protocol == PROTOCOL_TCP,
            Gso::TcpV6 => version == 6 && protocol == PROTOCOL_TCP,
            Gso::UdpL4 => version != 0 && protocol == PROTOCOL_UDP,
        };
        let whole = reading.reach == Reach::Transport && reading.fragment == Fragment::Whole;
        agrees && whole && reading.transport().len() >= least_header(protocol)
    }
}

/// Whether an IP packet of this protocol can have a partial checksum whose sum begins `start` bytes behind its layer-4 header and
/// goes `offset` bytes further.
fn is_checksum_at(protocol: u8, start: usize, offset: usize) -> bool {
    let own = match protocol {
        PROTOCOL_TCP => 16,
        PROTOCOL_UDP => 6,
        PROTOCOL_SCTP => 8,
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => 2,
        // GRE, IP in IP, and what nobody looks into.
        _ => return true,
    };
    // VXLAN, Geneve and other tunnels come in UDP, behind its header.
    start == 0 && offset == own || protocol == PROTOCOL_UDP && start >= least_header(protocol)
}

#[cfg(test)]
mod tests;
