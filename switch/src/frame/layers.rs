//! Where the layers of a TCP or UDP frame begin and end.
//!
//! Every offset is checked here, against the frame and against each other, so that [`super::Segments`] can index.

use thiserror::Error;

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetError, EthernetView, bytes_at, u16_at};

/// Bytes of an IPv6 header without extensions (RFC 8200 section 3).
pub(super) const IPV6_HLEN: usize = 40;
/// Bytes of a UDP header (RFC 768).
const UDP_HLEN: usize = 8;
/// Most extension headers that are walked; RFC 8200 section 4.1 lets four kinds come before TCP.
const MAX_EXTENSIONS: usize = 8;

/// Why the layers of a frame could not be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayerError {
    /// See [`EthernetError`].
    #[error(transparent)]
    Ethernet(#[from] EthernetError),
    /// Neither IPv4 nor IPv6 (this EtherType), or an IP header of another version.
    #[error("the frame with EtherType {0:#06x} does not carry IP")]
    NotIp(u16),
    /// Neither TCP nor UDP, or behind a header that can't be looked behind.
    #[error("IP protocol {0} is neither TCP nor UDP")]
    Protocol(u8),
    /// A fragment has no layer-4 header of its own.
    #[error("the frame carries a fragment")]
    Fragment,
    /// A header or the payload is longer than what is there, or shorter than it can be.
    #[error("a length in the {0} header does not fit the frame")]
    Length(&'static str),
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
}

/// The layer-4 protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// Its number in the IP header.
    pub(super) const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Offsets in bytes from the start of the frame: `ip < transport < payload <= end <= frame length`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layers {
    pub(super) version: Ip,
    pub(super) protocol: Transport,
    /// The IP header.
    pub(super) ip: usize,
    /// The TCP or UDP header.
    pub(super) transport: usize,
    /// The payload of TCP or UDP.
    pub(super) payload: usize,
    /// The end of the IP datagram; what follows is padding.
    pub(super) end: usize,
}

impl Layers {
    pub(super) fn find(frame: &[u8]) -> Result<Self, LayerError> {
        let ethernet = EthernetView::new_checked(frame)?;
        let ip = ethernet.payload_offset();
        let (version, transport, number, end) = match ethernet.ethertype() {
            ETHERTYPE_IPV4 => ipv4(frame, ip)?,
            ETHERTYPE_IPV6 => ipv6(frame, ip)?,
            other => return Err(LayerError::NotIp(other)),
        };
        // Padding is no part of the headers.
        let datagram = frame.get(..end).ok_or(LayerError::Length("IP"))?;
        let (protocol, payload) = match number {
            6 => (
                Transport::Tcp,
                transport + tcp_header_len(datagram, transport).ok_or(LayerError::Length("TCP"))?,
            ),
            17 => {
                let length = u16_at(datagram, transport + 4).ok_or(LayerError::Length("UDP"))?;
                if transport + usize::from(length) != end {
                    return Err(LayerError::Length("UDP"));
                }
                (Transport::Udp, transport + UDP_HLEN)
            }
            other => return Err(LayerError::Protocol(other)),
        };
        if payload > end {
            return Err(LayerError::Length("transport"));
        }
        Ok(Self {
            version,
            protocol,
            ip,
            transport,
            payload,
            end,
        })
    }

    /// Bytes of the layer-4 header and its payload.
    pub(super) const fn transport_len(&self) -> usize {
        self.end - self.transport
    }
}

/// Bytes of the TCP header at `at` as its data offset says, 20 to 60; None if that is less than 20 or not there.
pub(super) fn tcp_header_len(frame: &[u8], at: usize) -> Option<usize> {
    let words = frame.get(at + 12)? >> 4;
    (words >= 5).then_some(usize::from(words) * 4)
}

/// Version, offset of the layer-4 header, its protocol number, end of the datagram (not yet held against the frame).
type Network = (Ip, usize, u8, usize);

/// RFC 791 section 3.1.
fn ipv4(frame: &[u8], at: usize) -> Result<Network, LayerError> {
    let header = bytes_at::<20>(frame, at).ok_or(LayerError::Length("IPv4"))?;
    if header[0] >> 4 != 4 {
        return Err(LayerError::NotIp(ETHERTYPE_IPV4));
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < 20 {
        return Err(LayerError::Length("IPv4"));
    }
    // More fragments, or an offset.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(LayerError::Fragment);
    }
    Ok((Ip::V4, at + header_len, header[9], at + total))
}

/// RFC 8200 sections 3 and 4.
fn ipv6(frame: &[u8], at: usize) -> Result<Network, LayerError> {
    let header = bytes_at::<IPV6_HLEN>(frame, at).ok_or(LayerError::Length("IPv6"))?;
    if header[0] >> 4 != 6 {
        return Err(LayerError::NotIp(ETHERTYPE_IPV6));
    }
    let end = at + IPV6_HLEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let (mut next, mut offset) = (header[6], at + IPV6_HLEN);
    for _ in 0..MAX_EXTENSIONS {
        match next {
            // Hop-by-hop options, routing, destination options: next header, length in units of 8 bytes less one.
            0 | 43 | 60 => {
                let [after, units] = *bytes_at(frame, offset).ok_or(LayerError::Length("IPv6 extension"))?;
                next = after;
                offset += (usize::from(units) + 1) * 8;
            }
            44 => return Err(LayerError::Fragment),
            _ => break,
        }
    }
    Ok((Ip::V6, offset, next, end))
}
