//! What rules look at, read from a frame.

use vswitch_api::acl::AclRule;

use super::Refused;
use crate::frame::{
    ETH_HLEN, Fragment, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, Reach, Reading, Tag,
    is_extension, least_header, mac_to_u64,
};
use crate::vlan::NO_VLAN;
use vswitch_api::Mac;

/// How far into a frame a list looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    /// It has no rule that lets in, keeps out or polices.
    #[default]
    Nowhere,
    /// Addresses, tags and EtherType of Ethernet.
    Link,
    /// Addresses and protocol of IP.
    Network,
    /// Ports, flags and types behind it.
    Transport,
}

impl Depth {
    /// Of one rule.
    pub fn of(rule: &AclRule) -> Self {
        if rule.src_port.or(rule.dst_port).is_some() || rule.flags.is_some() || rule.icmp_type.is_some() {
            Self::Transport
        } else if rule.protocol.is_some() || rule.src.or(rule.dst).is_some() || rule.fragment {
            Self::Network
        } else {
            Self::Link
        }
    }

    /// Whether a frame can be read as far as this. What can't be is not let through for want of a rule that matches it.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub fn can_see(self, frame: &Reading<'_>) -> Result<(), Refused> {
        let enough = match self {
            Self::Nowhere => return Ok(()),
            Self::Link => frame.reach != Reach::Nothing,
            Self::Network | Self::Transport => matches!(frame.reach, Reach::Transport | Reach::Link),
        };
        if !enough {
            return Err(Refused::Unreadable);
        }
        if self < Self::Transport || frame.version == 0 {
            return Ok(());
        }
        match frame.fragment {
            Fragment::Whole if frame.transport().len() < least_header(frame.protocol) => Err(Refused::Unreadable),
            // RFC 1858 section 3.2, RFC 7112: the header that is looked at is in the first fragment as a whole.
            Fragment::First if frame.transport().len() < least_header(frame.protocol) => Err(Refused::TinyFragment),
            // Section 3.2.2, RFC 3128: nor is it overwritten by the next. Behind what may be more extension headers it is not known where it is.
            Fragment::Later(1) if frame.protocol == PROTOCOL_TCP => Err(Refused::TinyFragment),
            Fragment::Later(_) if frame.version == 6 && is_extension(frame.protocol) => Err(Refused::TinyFragment),
            _ => Ok(()),
        }
    }
}

/// The fields of a frame that rules look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Fields {
    pub src: u128,
    pub dst: u128,
    pub src_mac: u64,
    pub dst_mac: u64,
    /// 4, 6; 0: no IP.
    pub version: u8,
    /// IP protocol, if `version` is not 0.
    pub protocol: u8,
    pub ethertype: u16,
    pub vlan: u16,
}

/// What is behind the IP header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transport {
    pub ports: Option<(u16, u16)>,
    pub flags: Option<u8>,
    pub icmp_type: Option<u8>,
    /// A fragment but the first: it has none of these.
    pub later: bool,
}

impl Fields {
    /// `vlan`: what the switch put the frame into. Where it tells no VLANs apart (0) the frame's own tag says it.
    // For each frame, and called at several places: out of line it takes 18 instructions more.
    #[inline(always)]
    pub fn of(frame: &Reading<'_>, vlan: u16) -> Option<(Self, Transport)> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *frame.frame().first_chunk()?;
        let vlan = match vlan {
            NO_VLAN if frame.network > ETH_HLEN => Tag::nth(frame.frame(), 0).map_or(NO_VLAN, Tag::vlan_id),
            known => known,
        };
        let mut fields = Self {
            src_mac: mac_to_u64(Mac([s0, s1, s2, s3, s4, s5])),
            dst_mac: mac_to_u64(Mac([d0, d1, d2, d3, d4, d5])),
            ethertype: frame.ethertype,
            version: frame.version,
            protocol: frame.protocol,
            vlan,
            ..Self::default()
        };
        match frame.version {
            4 => {
                let addresses = frame.payload().get(12..)?.first_chunk::<8>()?;
                let both = u64::from_be_bytes(*addresses);
                (fields.src, fields.dst) = ((both >> 32).into(), (both & 0xffff_ffff).into());
            }
            6 => {
                let (src, rest) = frame.payload().get(8..)?.split_first_chunk()?;
                fields.src = u128::from_be_bytes(*src);
                fields.dst = u128::from_be_bytes(*rest.first_chunk()?);
            }
            _ => return Some((fields, Transport::default())),
        }
        Some((fields, Transport::of(frame)))
    }
}

impl Transport {
    #[inline]
    fn of(frame: &Reading<'_>) -> Self {
        let mut transport = Self::default();
        if let Fragment::Later(_) = frame.fragment {
            transport.later = true;
            return transport;
        }
        let bytes = frame.transport();
        match frame.protocol {
            PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP => {
                let ports = bytes.first_chunk::<4>();
                transport.ports = ports.map(|p| (u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]])));
                transport.flags = bytes.get(13).copied().filter(|_| frame.protocol == PROTOCOL_TCP);
            }
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => transport.icmp_type = bytes.first().copied(),
            _ => {}
        }
        transport
    }
}
