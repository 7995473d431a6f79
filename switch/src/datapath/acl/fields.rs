//! What rules look at, read from a frame.

use crate::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetView, IPV6_EXTENSIONS, IPV6_FRAGMENT, mac_to_u64};

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

/// What is behind the IP header; a fragment but the first has none of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transport {
    pub ports: Option<(u16, u16)>,
    pub flags: Option<u8>,
    pub icmp_type: Option<u8>,
}

impl Fields {
    // For each frame, and called at several places: out of line it takes 18 instructions more.
    #[inline(always)]
    pub fn of(frame: &[u8], vlan: u16) -> Option<(Self, Transport)> {
        let view = EthernetView::new_checked(frame).ok()?;
        let mut fields = Self {
            src_mac: mac_to_u64(view.src()),
            dst_mac: mac_to_u64(view.dst()),
            ethertype: view.ethertype(),
            vlan,
            ..Self::default()
        };
        let packet = &frame[view.payload_offset()..];
        let behind = match view.ethertype() {
            ETHERTYPE_IPV4 => fields.take_v4(packet),
            ETHERTYPE_IPV6 => fields.take_v6(packet),
            _ => None,
        };
        let transport = behind.map_or_else(Transport::default, |bytes| Transport::of(fields.protocol, bytes));
        Some((fields, transport))
    }

    fn take_v4<'a>(&mut self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let header = packet.first_chunk::<20>()?;
        self.version = 4;
        self.protocol = header[9];
        self.src = u32::from_be_bytes([header[12], header[13], header[14], header[15]]).into();
        self.dst = u32::from_be_bytes([header[16], header[17], header[18], header[19]]).into();
        let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        packet
            .get(usize::from(header[0] & 0x0f) * 4..)
            .filter(|_| fragment_offset == 0)
    }

    fn take_v6<'a>(&mut self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let header = packet.first_chunk::<40>()?;
        self.version = 6;
        self.src = u128::from_be_bytes(*header[8..].first_chunk()?);
        self.dst = u128::from_be_bytes(*header[24..].first_chunk()?);
        self.protocol = header[6];
        let mut at = 40;
        loop {
            let rest = packet.get(at..)?;
            if self.protocol == IPV6_FRAGMENT {
                let header = rest.first_chunk::<8>()?;
                self.protocol = header[0];
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    return None;
                }
                at += 8;
            } else if IPV6_EXTENSIONS.contains(&self.protocol) {
                let [next, units] = *rest.first_chunk::<2>()?;
                self.protocol = next;
                at += (usize::from(units) + 1) * 8;
            } else {
                return Some(rest);
            }
        }
    }
}

impl Transport {
    fn of(protocol: u8, bytes: &[u8]) -> Self {
        let mut transport = Self::default();
        match protocol {
            6 | 17 | 132 => {
                let ports = bytes.first_chunk::<4>();
                transport.ports = ports.map(|p| (u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]])));
                transport.flags = bytes.get(13).copied().filter(|_| protocol == 6);
            }
            1 | 58 => transport.icmp_type = bytes.first().copied(),
            _ => {}
        }
        transport
    }
}
