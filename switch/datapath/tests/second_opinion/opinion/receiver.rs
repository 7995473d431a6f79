//! A receiver that takes whatever any receiver might: it finishes the checksum first, reads behind any number of tags and behind
//! LLC/SNAP, walks all extension headers, puts fragments together, with overlaps as either of two ways has it. It shares no code with what is
//! tested, and is as slow as it is plain.

use std::collections::BTreeMap;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice};

use super::{FORBIDDEN_V4, FORBIDDEN_V6, OWN_LINK_LOCAL, OWN_MAC, OWN_V4, OWN_V6};

/// What the rules do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Another's address as source.
    Source,
    /// ARP of another.
    Arp,
    /// Neighbour discovery about another.
    Neighbour,
    /// Router advertisement or redirect.
    Router,
    /// Answer of a DHCP server.
    Server,
    /// DHCP asked for in another's name.
    Lease,
    /// The denied connection.
    Tcp,
    /// The denied port.
    Udp,
    /// The denied destination.
    Destination,
}

impl Violation {
    pub const ALL: [Self; 9] = [
        Self::Source,
        Self::Arp,
        Self::Neighbour,
        Self::Router,
        Self::Server,
        Self::Lease,
        Self::Tcp,
        Self::Udp,
        Self::Destination,
    ];
}

/// Pieces of a packet.
#[derive(Clone, Default)]
struct Pieces {
    source: Vec<u8>,
    destination: Vec<u8>,
    /// Offset, bytes, whether more follow, and what the header before says comes.
    parts: Vec<(usize, Vec<u8>, bool, u8)>,
}

#[derive(Default)]
struct Receiver {
    delivered: bool,
    found: Vec<Violation>,
    /// By version, addresses, identification and, for IPv4, protocol.
    pieces: BTreeMap<Vec<u8>, Pieces>,
}

/// Whether anything was made of the frames, and what of it is not allowed.
pub fn read(wires: &[Vec<u8>]) -> (bool, Vec<Violation>) {
    let mut receiver = Receiver::default();
    for wire in wires {
        receiver.frame(wire);
    }
    for pieces in std::mem::take(&mut receiver.pieces).into_values() {
        receiver.assemble(&pieces);
    }
    (receiver.delivered, receiver.found)
}

fn finish(wire: &[u8]) -> Option<Vec<u8>> {
    let mut frame = wire.get(10..)?.to_vec();
    if wire[0] & 1 != 0 {
        let start = usize::from(u16::from_ne_bytes([wire[6], wire[7]]));
        let field = start + usize::from(u16::from_ne_bytes([wire[8], wire[9]]));
        if field + 2 > frame.len() {
            return None;
        }
        let mut sum: u64 = 0;
        for pair in frame[start..].chunks(2) {
            sum += u64::from(pair[0]) * 256 + pair.get(1).map_or(0, |low| u64::from(*low));
        }
        while sum > 0xffff {
            sum = sum % 0x10000 + sum / 0x10000;
        }
        let sum = !(sum as u16);
        frame[field] = (sum >> 8) as u8;
        frame[field + 1] = sum as u8;
    }
    Some(frame)
}

impl Receiver {
    fn frame(&mut self, wire: &[u8]) -> Option<()> {
        let frame = finish(wire)?;
        let mut rest = frame.get(12..)?;
        loop {
            let kind = [*rest.first()?, *rest.get(1)?];
            rest = rest.get(2..)?;
            match kind {
                [0x81, 0] | [0x88, 0xa8] => rest = rest.get(2..)?,
                [8, 6] | [0x80, 0x35] => return self.arp(rest),
                [8, 0] => return self.ipv4(rest),
                [0x86, 0xdd] => return self.ipv6(rest),
                [0..=5, _] if rest.starts_with(&[0xaa, 0xaa, 3, 0, 0, 0]) => rest = rest.get(6..)?,
                _ => return None,
            }
        }
    }

    fn violates(&mut self, what: Violation, violated: bool) {
        if violated {
            self.found.push(what);
        }
    }

    fn arp(&mut self, arp: &[u8]) -> Option<()> {
        let (mac, ip) = (arp.get(8..14)?, arp.get(14..18)?);
        arp.get(27)?;
        if arp[2..6] == [8, 0, 6, 4] {
            self.delivered = true;
            self.violates(Violation::Arp, mac != OWN_MAC || ip != OWN_V4 && ip != [0; 4]);
        }
        Some(())
    }

    fn ipv4(&mut self, packet: &[u8]) -> Option<()> {
        let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
        let body = packet.get(header.slice().len()..usize::from(header.total_len()))?;
        let (source, destination) = (header.source().to_vec(), header.destination().to_vec());
        let offset = usize::from(header.fragments_offset().value()) * 8;
        if offset == 0 && !header.more_fragments() {
            self.packet(&source, &destination, header.protocol().0, body);
            return Some(());
        }
        let id = header.identification().to_be_bytes();
        let key = [&[4][..], &source, &destination, &id, &[header.protocol().0]].concat();
        self.keep(key, source, destination)
            .push((offset, body.to_vec(), header.more_fragments(), header.protocol().0));
        Some(())
    }

    fn ipv6(&mut self, packet: &[u8]) -> Option<()> {
        let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
        let len = usize::from(header.payload_length());
        let (source, destination) = (header.source().to_vec(), header.destination().to_vec());
        // Linux trims nothing where hop-by-hop options might say how long it is.
        let body = match (len, header.next_header().0) {
            (0, 0) => &packet[40..],
            _ => packet.get(40..40 + len)?,
        };
        self.extensions(source, destination, header.next_header().0, body)
    }

    fn extensions(&mut self, source: Vec<u8>, destination: Vec<u8>, first: u8, body: &[u8]) -> Option<()> {
        let (mut next, mut rest) = (first, body);
        loop {
            match next {
                0 | 43 | 60 => {
                    let len = 8 + 8 * usize::from(*rest.get(1)?);
                    next = rest[0];
                    rest = rest.get(len..)?;
                }
                44 => {
                    let bits = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
                    let key = [&[6][..], &source, &destination, rest.get(4..8)?].concat();
                    let part = (usize::from(bits & !7), rest[8..].to_vec(), bits & 1 != 0, rest[0]);
                    self.keep(key, source, destination).push(part);
                    return Some(());
                }
                protocol => {
                    self.packet(&source, &destination, protocol, rest);
                    return Some(());
                }
            }
        }
    }

    fn keep(&mut self, key: Vec<u8>, source: Vec<u8>, destination: Vec<u8>) -> &mut Vec<(usize, Vec<u8>, bool, u8)> {
        let pieces = self.pieces.entry(key).or_default();
        (pieces.source, pieces.destination) = (source, destination);
        &mut pieces.parts
    }

    /// Both ways of taking overlaps: what came first stays, or what came last. For IPv6 a packet with overlaps is dropped (RFC 5722).
    fn assemble(&mut self, pieces: &Pieces) {
        let v6 = pieces.source.len() == 16;
        let Some(end) = pieces
            .parts
            .iter()
            .find(|part| !part.2)
            .map(|part| part.0 + part.1.len())
        else {
            return;
        };
        let Some(protocol) = pieces.parts.iter().find(|part| part.0 == 0).map(|part| part.3) else {
            return;
        };
        for last_wins in [false, true] {
            let mut bytes: Vec<Option<u8>> = vec![None; end];
            let mut overlaps = false;
            for (offset, part, _, _) in &pieces.parts {
                for (at, byte) in (*offset..).zip(part) {
                    let Some(place) = bytes.get_mut(at) else { continue };
                    overlaps |= place.is_some();
                    if place.is_none() || last_wins {
                        *place = Some(*byte);
                    }
                }
            }
            let Some(whole) = bytes.into_iter().collect::<Option<Vec<u8>>>() else {
                continue;
            };
            if v6 && !overlaps {
                self.extensions(pieces.source.clone(), pieces.destination.clone(), protocol, &whole);
            } else if !v6 {
                self.packet(&pieces.source, &pieces.destination, protocol, &whole);
            }
        }
    }

    fn packet(&mut self, source: &[u8], destination: &[u8], protocol: u8, body: &[u8]) {
        self.delivered = true;
        let own = [&OWN_V4[..], &OWN_V6, &OWN_LINK_LOCAL].contains(&source);
        let none = source.iter().all(|byte| *byte == 0);
        self.violates(Violation::Source, !own && !none);
        self.violates(
            Violation::Destination,
            destination == FORBIDDEN_V4 || destination == FORBIDDEN_V6,
        );
        match protocol {
            6 => {
                if let Ok(tcp) = TcpHeaderSlice::from_slice(body) {
                    self.violates(Violation::Tcp, tcp.destination_port() == 22 && tcp.syn() && !tcp.ack());
                }
            }
            17 => {
                if let Ok(udp) = UdpHeaderSlice::from_slice(body) {
                    let port = udp.destination_port();
                    self.violates(Violation::Udp, port == 53);
                    self.dhcp(source.len() == 16, port, &body[8..]);
                }
            }
            1 if source.len() == 4 => self.violates(Violation::Router, matches!(body.first(), Some(5 | 9))),
            58 if source.len() == 16 => self.discovery(none, body),
            _ => {}
        }
    }

    fn dhcp(&mut self, v6: bool, port: u16, message: &[u8]) {
        let answers = if v6 { port == 546 } else { port == 68 };
        let asks_server = !v6 && port == 67;
        self.violates(Violation::Server, answers || asks_server && message.first() == Some(&2));
        // Type and length of the client's address stand at 1, the address at 28.
        if asks_server && message.first() == Some(&1) && message.len() >= 34 {
            let own = message[1..3] == [1, 6] && message[28..34] == OWN_MAC;
            self.violates(Violation::Lease, !own);
        }
    }

    fn discovery(&mut self, probes: bool, body: &[u8]) {
        let Some(kind) = body.first() else { return };
        self.violates(Violation::Router, matches!(kind, 134 | 137));
        let target = body.get(8..24);
        let others = target.is_some_and(|target| target != OWN_V6 && target != OWN_LINK_LOCAL);
        self.violates(Violation::Neighbour, others && (*kind == 136 || *kind == 135 && probes));
        // Link-layer addresses of the sender.
        let options = match kind {
            133 => 8,
            135 | 136 => 24,
            _ => return,
        };
        let mut rest = body.get(options..).unwrap_or_default();
        while let [1 | 2, units, ..] = *rest {
            let mac = rest.get(2..8);
            self.violates(Violation::Neighbour, units > 0 && mac.is_some_and(|mac| mac != OWN_MAC));
            rest = rest.get(8 * usize::from(units.max(1))..).unwrap_or_default();
        }
    }
}
