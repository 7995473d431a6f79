//! Frames for the tests of this module, built and checked by other code than what is tested: etherparse, and a
//! checksum loop that is as simple as can be.

use etherparse::{IpHeaders, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader};
use etherparse::{PacketBuilder, PacketBuilderStep, VlanId};
use etherparse::{TcpHeader, TcpOptionElement, TransportSlice, ip_number};

use super::{Gso, VnetHeader};

/// RFC 1071 section 4.1, word by word, in the order of the wire.
pub(super) fn simple_checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The shape of a GSO frame.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub gso: Gso,
    pub ipv6: bool,
    /// 0 to 2.
    pub tags: u8,
    /// IPv4 options, TCP options and IPv6 extension headers.
    pub options: bool,
    pub gso_size: u16,
    pub payload: Vec<u8>,
}

impl Shape {
    /// The frame with the virtio-net header that Linux would put before it.
    pub(super) fn build(&self) -> (Vec<u8>, VnetHeader) {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
        let vlan = |id| VlanId::try_new(id).unwrap();
        let mut frame = Vec::new();
        match self.tags {
            0 => self.write(link.ip(self.ip()), &mut frame),
            1 => self.write(link.single_vlan(vlan(5)).ip(self.ip()), &mut frame),
            _ => self.write(link.double_vlan(vlan(5), vlan(6)).ip(self.ip()), &mut frame),
        }
        let transport_len = match etherparse::SlicedPacket::from_ethernet(&frame).unwrap().transport {
            Some(TransportSlice::Tcp(tcp)) => tcp.slice().len(),
            Some(TransportSlice::Udp(udp)) => udp.slice().len(),
            other => panic!("{other:?}"),
        };
        let csum_start = frame.len() - transport_len;
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso: self.gso,
            ecn: false,
            hdr_len: (frame.len() - self.payload.len()) as u16,
            gso_size: self.gso_size,
            csum_start: csum_start as u16,
            csum_offset: if self.gso == Gso::UdpL4 { 6 } else { 16 },
        };
        let field = csum_start + usize::from(header.csum_offset);
        let seed = simple_checksum(&pseudo_header(&frame, csum_start));
        frame[field..field + 2].copy_from_slice(&[!seed[0], !seed[1]]);
        (frame, header)
    }

    fn ip(&self) -> IpHeaders {
        if self.ipv6 {
            let ip = Ipv6Header {
                hop_limit: 64,
                source: [0xfd; 16],
                destination: [0xfc; 16],
                ..Ipv6Header::default()
            };
            let extension = Ipv6RawExtHeader::new_raw(ip_number::UDP, &[0; 14]).unwrap();
            let extensions = Ipv6Extensions {
                hop_by_hop_options: self.options.then(|| extension.clone()),
                destination_options: self.options.then_some(extension),
                ..Ipv6Extensions::default()
            };
            IpHeaders::Ipv6(ip, extensions)
        } else {
            let mut ip = Ipv4Header::new(0, 64, ip_number::TCP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
            ip.identification = 0xfffe;
            ip.dont_fragment = true;
            if self.options {
                ip.options = [1; 8].into();
            }
            IpHeaders::Ipv4(ip, Ipv4Extensions::default())
        }
    }

    fn write(&self, step: PacketBuilderStep<IpHeaders>, frame: &mut Vec<u8>) {
        if self.gso == Gso::UdpL4 {
            return step.udp(1000, 2000).write(frame, &self.payload).unwrap();
        }
        let mut tcp = TcpHeader::new(1000, 2000, 0xffff_ff00, 8192);
        (tcp.ack, tcp.fin, tcp.psh, tcp.cwr) = (true, true, true, true);
        if self.options {
            tcp.set_options(&[TcpOptionElement::Timestamp(1, 2)]).unwrap();
        }
        step.tcp_header(tcp).write(frame, &self.payload).unwrap();
    }
}

/// The pseudo-header of a well-formed frame without routing header, whose layer-4 header begins at `transport`.
pub(super) fn pseudo_header(frame: &[u8], transport: usize) -> Vec<u8> {
    let sliced = etherparse::LaxSlicedPacket::from_ethernet(frame).unwrap();
    let length = (frame.len() - transport) as u32;
    match sliced.net.unwrap() {
        etherparse::LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let protocol = [0, header.protocol().0];
            [
                &header.source()[..],
                &header.destination(),
                &protocol,
                &(length as u16).to_be_bytes(),
            ]
            .concat()
        }
        etherparse::LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let protocol = [0, 0, 0, ip.payload().ip_number.0];
            [
                &header.source()[..],
                &header.destination(),
                &length.to_be_bytes(),
                &protocol,
            ]
            .concat()
        }
        other => panic!("{other:?}"),
    }
}
