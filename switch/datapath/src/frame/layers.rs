//! Where the layers of a TCP or UDP frame begin and end.
//!
//! [`Reading`] finds them; here is what segmentation needs besides, so that [`super::Segments`] can index.

use thiserror::Error;

use super::reading::{Fragment, Reach, Reading};
use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, u16_at};

/// Bytes of a UDP header (RFC 768).
const UDP_HLEN: usize = 8;

/// Why the layers of a frame could not be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayerError {
    /// Its tags can't be read.
    #[error("the frame can't be read behind its tags")]
    Tags,
    /// Neither IPv4 nor IPv6 (this EtherType).
    #[error("the frame with EtherType {0:#06x} does not carry IP")]
    NotIp(u16),
    /// Neither TCP nor UDP, or behind a header that can't be looked behind.
    #[error("IP protocol {0} is neither TCP nor UDP")]
    Protocol(u8),
    /// An IPv6 extension header can't be read.
    #[error("an IPv6 extension header can't be read")]
    Extension,
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
        let reading = Reading::of(frame);
        match (reading.reach, reading.ethertype) {
            (Reach::Nothing, _) => return Err(LayerError::Tags),
            (Reach::Link, other) => return Err(LayerError::NotIp(other)),
            (Reach::BrokenIp, ETHERTYPE_IPV4) => return Err(LayerError::Length("IPv4")),
            (Reach::BrokenIp, _) => return Err(LayerError::Length("IPv6")),
            (Reach::Addresses, _) => return Err(LayerError::Extension),
            (Reach::Transport, _) => {}
        }
        if reading.fragment != Fragment::Whole {
            return Err(LayerError::Fragment);
        }
        let Reading {
            transport,
            end,
            network: ip,
            ..
        } = reading;
        // Padding is no part of the headers.
        let datagram = frame.get(..end).ok_or(LayerError::Length("IP"))?;
        let (protocol, payload) = match reading.protocol {
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
            version: if reading.ethertype == ETHERTYPE_IPV6 {
                Ip::V6
            } else {
                Ip::V4
            },
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
