//! How far a frame can be read, from outside to inside: the one walk over tags, IP and IPv6 extension headers.
//!
//! All that decides by what a frame says goes by it: the place of a partial checksum, pins, access lists, segmentation. What it can't
//! read to the end has a state of its own ([`Reach`]), so that no rule takes it for something harmless.

use super::ethernet::is_tag;
use super::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_RARP, TPID_CUSTOMER, TPID_SERVICE, bytes_at, u16_at,
};

/// Most tags that are read. Linux strips any number that says VLAN 0; nobody honest sends more than two or three.
pub const MAX_READ_TAGS: usize = 16;
/// Most IPv6 extension headers that are read; RFC 8200 section 4.1 lets five come before TCP.
pub const MAX_EXTENSIONS: usize = 8;
/// Bytes of an IPv6 header without extensions (RFC 8200 section 3).
pub(super) const IPV6_HLEN: usize = 40;
/// Least value of the field that is an EtherType and not the length of an 802.3 frame (IEEE 802.3-2022 clause 3.2.6).
const FIRST_ETHERTYPE: u16 = 0x0600;

/// TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;
/// UDP (RFC 768).
pub const PROTOCOL_UDP: u8 = 17;
/// ICMP (RFC 792).
pub const PROTOCOL_ICMP: u8 = 1;
/// ICMPv6 (RFC 4443).
pub const PROTOCOL_ICMPV6: u8 = 58;
/// SCTP (RFC 9260).
pub const PROTOCOL_SCTP: u8 = 132;

/// How far a frame can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Not behind its tags: it ends within them or has more than [`MAX_READ_TAGS`]; or an LLC/SNAP header stands
    /// before a protocol that rules look at, which some receivers look behind (CVE-2021-27854) and others do not.
    #[default]
    Nothing,
    /// Its EtherType says IP, but the header is not there, of another version, or its lengths do not fit the frame.
    BrokenIp,
    /// Its EtherType, which is not that of IP.
    Link,
    /// The addresses of IPv6; its extension headers are too many, broken, or not all in the first fragment (RFC 7112).
    Addresses,
    /// All up to the layer-4 header.
    Transport,
}

/// Which part of an IP packet a frame carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// All of it, or it is no IP.
    #[default]
    Whole,
    /// The part with the layer-4 header.
    First,
    /// A part without, so many units of 8 bytes from the start.
    Later(u16),
}

/// What could be read of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    frame: &'a [u8],
    /// How far.
    pub reach: Reach,
    /// The EtherType behind all tags (or the length, in an 802.3 frame); 0 if they could not be read.
    pub ethertype: u16,
    /// Of IP: 4, 6; 0: it carries none that can be read.
    pub version: u8,
    /// Of IP, behind all extension headers; 0 if they could not be read.
    pub protocol: u8,
    /// Of IP.
    pub fragment: Fragment,
    /// Bytes before the payload of Ethernet.
    pub(crate) network: usize,
    /// Bytes before that of IP: the layer-4 header, except in later fragments.
    pub(crate) transport: usize,
    /// Where the IP packet ends; what follows is padding.
    pub(super) end: usize,
}

impl<'a> Reading<'a> {
    /// Reads a frame, from the destination MAC on.
    #[inline]
    pub fn of(frame: &'a [u8]) -> Self {
        let mut reading = Self {
            frame,
            reach: Reach::Nothing,
            ethertype: 0,
            version: 0,
            protocol: 0,
            fragment: Fragment::Whole,
            network: 0,
            transport: 0,
            end: frame.len(),
        };
        for tags in 0..=MAX_READ_TAGS {
            let at = 12 + tags * super::VLAN_HLEN;
            match u16_at(frame, at) {
                Some(tpid) if is_tag(tpid) => {}
                Some(ethertype) => {
                    reading.network = at + 2;
                    reading.read(ethertype);
                    break;
                }
                None => break,
            }
        }
        reading
    }

    #[inline]
    fn read(&mut self, ethertype: u16) {
        match ethertype {
            ETHERTYPE_IPV4 => self.read_ipv4(),
            ETHERTYPE_IPV6 => self.read_ipv6(),
            ..FIRST_ETHERTYPE if self.is_hidden() => return,
            _ => self.reach = Reach::Link,
        }
        self.ethertype = ethertype;
    }

    /// RFC 1042: an EtherType behind an LLC/SNAP header.
    #[cold]
    fn is_hidden(&self) -> bool {
        let ethertype = match bytes_at::<8>(self.frame, self.network) {
            Some([0xaa, 0xaa, _, 0, 0, 0 | 0xf8, high, low]) => u16::from_be_bytes([*high, *low]),
            _ => return false,
        };
        matches!(
            ethertype,
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 | ETHERTYPE_ARP | ETHERTYPE_RARP | TPID_CUSTOMER | TPID_SERVICE
        )
    }

    /// RFC 791 section 3.1.
    #[inline]
    fn read_ipv4(&mut self) {
        self.reach = Reach::BrokenIp;
        let Some(header) = bytes_at::<20>(self.frame, self.network) else {
            return;
        };
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let end = self.network + total;
        if header[0] >> 4 != 4 || header_len < 20 || total < header_len || end > self.frame.len() {
            return;
        }
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        self.fragment = match (fragment & 0x1fff, fragment & 0x2000) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First,
            (offset, _) => Fragment::Later(offset),
        };
        (self.version, self.protocol) = (4, header[9]);
        (self.transport, self.end) = (self.network + header_len, end);
        self.reach = Reach::Transport;
    }

    /// RFC 8200 sections 3 and 4.
    #[inline]
    fn read_ipv6(&mut self) {
        self.reach = Reach::BrokenIp;
        let Some(header) = bytes_at::<IPV6_HLEN>(self.frame, self.network) else {
            return;
        };
        let start = self.network + IPV6_HLEN;
        // A payload of 0 that is one all the same (RFC 2675) is longer than any frame here.
        let end = start + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || end > self.frame.len() {
            return;
        }
        self.version = 6;
        (self.transport, self.end) = (start, end);
        self.reach = Reach::Addresses;
        if self.pass_extensions(header[6]).is_some() {
            self.reach = Reach::Transport;
        }
    }

    /// Goes on to the layer-4 header; none if there is no way to it.
    #[inline]
    fn pass_extensions(&mut self, first: u8) -> Option<()> {
        let mut next = first;
        for _ in 0..=MAX_EXTENSIONS {
            let len = match next {
                44 => {
                    let [following, _, high, low, ..] = *bytes_at::<8>(self.frame, self.transport)?;
                    // A fragment of a fragment, which no receiver takes.
                    if self.fragment != Fragment::Whole {
                        return None;
                    }
                    self.fragment = match u16::from_be_bytes([high, low]) >> 3 {
                        0 => Fragment::First,
                        offset => Fragment::Later(offset),
                    };
                    next = following;
                    8
                }
                number if is_extension(number) => {
                    let [following, units] = *bytes_at(self.frame, self.transport)?;
                    next = following;
                    (usize::from(units) + 1) * 8
                }
                number => {
                    self.protocol = number;
                    return Some(());
                }
            };
            self.transport += len;
            if self.transport > self.end {
                self.transport = self.end;
                return None;
            }
            if let Fragment::Later(_) = self.fragment {
                self.protocol = next;
                return Some(());
            }
        }
        None
    }

    /// The frame.
    #[inline]
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// What is behind all tags: an IP header if [`Reading::version`] says so, with addresses. Padding may follow.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.frame.get(self.network..).unwrap_or_default()
    }

    /// The payload of IP without padding: layer-4 header and payload, except in later fragments.
    #[inline]
    pub fn transport(&self) -> &'a [u8] {
        self.frame.get(self.transport..self.end).unwrap_or_default()
    }

    /// Whether it is ARP or RARP.
    #[inline]
    pub fn is_arp(&self) -> bool {
        matches!(self.ethertype, ETHERTYPE_ARP | ETHERTYPE_RARP)
    }
}

/// Whether an IPv6 extension header that only says more about the packet has this number: hop-by-hop, routing, destination options
/// (RFC 8200 section 4). Each has its length in units of 8 octets, the first not counted.
#[inline]
pub const fn is_extension(number: u8) -> bool {
    matches!(number, 0 | 43 | 60)
}

/// Bytes of the shortest header of a protocol whose fields rules look at; 0 for others.
#[inline]
pub const fn least_header(protocol: u8) -> usize {
    match protocol {
        PROTOCOL_TCP => 20,
        PROTOCOL_UDP | PROTOCOL_ICMP => 8,
        PROTOCOL_SCTP => 12,
        PROTOCOL_ICMPV6 => 4,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 header of `total` bytes in all, without options; then zeros.
    fn ipv4(total: u16, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.resize(40, 0);
        packet
    }

    fn frame(tags: usize, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let tags = [0x81, 0, 0, 0].repeat(tags);
        [&[2; 12][..], &tags, &ethertype.to_be_bytes(), payload].concat()
    }

    #[test]
    fn any_honest_number_of_tags_is_read_and_no_more() {
        for tags in 0..=MAX_READ_TAGS {
            let frame = frame(tags, 0x0800, &ipv4(40, 0));
            let reading = Reading::of(&frame);
            assert_eq!((reading.reach, reading.ethertype), (Reach::Transport, 0x0800), "{tags}");
            assert_eq!(reading.transport().len(), 20);
        }
        assert_eq!(
            Reading::of(&frame(MAX_READ_TAGS + 1, 0x0800, &ipv4(40, 0))).reach,
            Reach::Nothing
        );
        assert_eq!(Reading::of(&frame(3, 0x0800, &[])[..24]).reach, Reach::Nothing);
        assert_eq!(Reading::of(&[2; 13]).reach, Reach::Nothing);
    }

    #[test]
    fn lengths_that_do_not_fit_are_told() {
        let reach = |packet: &[u8]| Reading::of(&frame(0, 0x0800, packet)).reach;
        assert_eq!(reach(&ipv4(40, 0)), Reach::Transport);
        assert_eq!(reach(&ipv4(41, 0)), Reach::BrokenIp);
        assert_eq!(reach(&ipv4(19, 0)), Reach::BrokenIp);
        let mut other = ipv4(40, 0);
        other[0] = 0x65;
        assert_eq!(reach(&other), Reach::BrokenIp);
        other[0] = 0x44;
        assert_eq!(reach(&other), Reach::BrokenIp);
        // Padding is no part of the packet.
        assert_eq!(Reading::of(&frame(0, 0x0800, &ipv4(24, 0))).transport().len(), 4);
    }

    #[test]
    fn fragments_are_told_apart() {
        let fragment = |bits| Reading::of(&frame(0, 0x0800, &ipv4(40, bits))).fragment;
        assert_eq!(fragment(0x4000), Fragment::Whole);
        assert_eq!(fragment(0x2000), Fragment::First);
        assert_eq!(fragment(0x2001), Fragment::Later(1));
        assert_eq!(fragment(0x0003), Fragment::Later(3));
    }

    #[test]
    fn extension_headers_are_passed_in_any_order_up_to_the_bound() {
        let ipv6 = |chain: &[u8], last: u8| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, chain.first().copied().unwrap_or(last), 64];
            packet.resize(40, 1);
            for (i, number) in chain.iter().enumerate() {
                let next = chain.get(i + 1).copied().unwrap_or(last);
                // Of a fragment header the second byte is not the length, which comes out the same.
                let offset = if *number == 44 { [0, 1] } else { [0, 0] };
                packet.extend([next, 0, offset[0], offset[1], 0, 0, 0, 0]);
            }
            packet.extend([0; 20]);
            let len = (packet.len() - 40) as u16;
            packet[4..6].copy_from_slice(&len.to_be_bytes());
            packet
        };
        let read = |packet: &[u8]| {
            let frame = frame(0, 0x86dd, packet);
            let reading = Reading::of(&frame);
            (reading.reach, reading.protocol, reading.fragment)
        };
        assert_eq!(read(&ipv6(&[], 6)), (Reach::Transport, 6, Fragment::Whole));
        assert_eq!(read(&ipv6(&[0, 43, 60], 17)), (Reach::Transport, 17, Fragment::Whole));
        assert_eq!(read(&ipv6(&[0, 44, 60], 6)), (Reach::Transport, 6, Fragment::First));
        assert_eq!(read(&ipv6(&[60; MAX_EXTENSIONS], 6)).0, Reach::Transport);
        assert_eq!(read(&ipv6(&[60; MAX_EXTENSIONS + 1], 6)).0, Reach::Addresses);
        assert_eq!(read(&ipv6(&[44, 44], 6)).0, Reach::Addresses);
        // The chain does not end within the packet, whatever follows it.
        let mut cut = ipv6(&[60], 6);
        cut[4..6].copy_from_slice(&[0, 4]);
        assert_eq!(read(&cut).0, Reach::Addresses);
    }

    #[test]
    fn what_a_snap_header_hides_is_not_read() {
        let snap = |oui: u8, ethertype: [u8; 2]| {
            let payload = [&[0xaa, 0xaa, 3, 0, 0, oui][..], &ethertype, &ipv4(40, 0)].concat();
            Reading::of(&frame(1, 48, &payload)).reach
        };
        assert_eq!(snap(0, [8, 0]), Reach::Nothing);
        assert_eq!(snap(0xf8, [8, 6]), Reach::Nothing);
        assert_eq!(snap(0, [0x81, 0]), Reach::Nothing);
        // CDP, AppleTalk.
        assert_eq!(snap(0x0c, [0x20, 0]), Reach::Link);
        assert_eq!(snap(0, [0x80, 0x9b]), Reach::Link);
    }
}
