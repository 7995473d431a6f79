//! Hostile frames, and some that are honest: tags × EtherTypes × extension headers × fragments × virtio-net headers.

use super::{FORBIDDEN_V4, FORBIDDEN_V6, OWN_LINK_LOCAL, OWN_MAC, OWN_V4, OWN_V6};

const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OTHER_V4: [u8; 4] = [10, 0, 0, 9];
const OTHER_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

/// Choices, one byte each; zeros when there are no more.
pub struct Dice<'a>(pub &'a [u8]);

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// Once in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// What is behind an IP header: protocol and bytes.
fn transport(dice: &mut Dice<'_>, v6: bool) -> (u8, Vec<u8>) {
    let port = dice.of(&[22u16, 53, 80, 443, 67, 67, 68, 546]).to_be_bytes();
    let (protocol, mut bytes) = match dice.below(if v6 { 5 } else { 4 }) {
        0 => {
            let flags = dice.of(&[0x02u8, 0x12, 0x10, 0x18]);
            let mut tcp = vec![
                0x10, 0, port[0], port[1], 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 9, 9, 0, 0, 0, 0,
            ];
            tcp.extend([5; 24]);
            (6, tcp)
        }
        1 => {
            let mut udp = vec![0x10, 0, port[0], port[1], 0, 40, 0, 0];
            udp.extend(bootp(dice));
            (17, udp)
        }
        2 if !v6 => {
            let mut icmp = vec![dice.of(&[8u8, 0, 5, 9]), 0, 0, 0];
            icmp.extend([3; 28]);
            (1, icmp)
        }
        3 => (dice.of(&[47u8, 4, 132, 50, 59]), vec![0; 40]),
        _ => (58, discovery(dice)),
    };
    if dice.one_in(6) {
        bytes.truncate(dice.below(44));
    }
    (protocol, bytes)
}

/// What a DHCP server would read, and others take for bytes.
fn bootp(dice: &mut Dice<'_>) -> Vec<u8> {
    let op = dice.of(&[1u8, 1, 1, 2]);
    let chaddr = if dice.one_in(3) { OTHER_MAC } else { OWN_MAC };
    [&[op, 1, 6, 0][..], &[5; 24], &chaddr, &[0; 10]].concat()
}

fn discovery(dice: &mut Dice<'_>) -> Vec<u8> {
    let kind = dice.of(&[128u8, 133, 134, 135, 136, 137]);
    let target = dice.of(&[OWN_V6, OWN_LINK_LOCAL, OTHER_V6, FORBIDDEN_V6]);
    let mac = if dice.one_in(4) { OTHER_MAC } else { OWN_MAC };
    let before: &[u8] = match kind {
        133 | 128 => &[],
        134 => &[0; 8],
        137 => &[&target[..], &OTHER_V6].concat(),
        _ => &target,
    };
    let link_layer = [&[dice.of(&[1u8, 2]), 1][..], &mac].concat();
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], before, &link_layer].concat()
}

fn arp(dice: &mut Dice<'_>) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, dice.of(&[1u8, 2])];
    arp.extend(if dice.one_in(3) { OTHER_MAC } else { OWN_MAC });
    arp.extend(dice.of(&[OWN_V4, OTHER_V4, [0; 4]]));
    arp.extend(OTHER_MAC);
    arp.extend(OTHER_V4);
    arp
}

/// A packet in one piece or several.
fn ipv4(dice: &mut Dice<'_>) -> Vec<Vec<u8>> {
    let (protocol, bytes) = transport(dice, false);
    let options = if dice.one_in(4) { dice.below(11) * 4 } else { 0 };
    let source = dice.of(&[OWN_V4, OWN_V4, OWN_V4, OTHER_V4, [0; 4]]);
    let destination = dice.of(&[OTHER_V4, OTHER_V4, FORBIDDEN_V4]);
    let packet = |from: usize, to: usize, more: bool| {
        let part = &bytes[from.min(bytes.len())..to.min(bytes.len())];
        let offset = (from / 8) as u16 | if more { 0x2000 } else { 0 };
        let mut packet = vec![0x45 + (options / 4) as u8, 0];
        packet.extend(((20 + options + part.len()) as u16).to_be_bytes());
        packet.extend([7, 7]);
        packet.extend(offset.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend([source, destination].concat());
        packet.extend(vec![1; options]);
        packet.extend(part);
        packet
    };
    pieces(dice, bytes.len(), packet)
}

fn ipv6(dice: &mut Dice<'_>) -> Vec<Vec<u8>> {
    let (protocol, payload) = transport(dice, true);
    let source = dice.of(&[OWN_V6, OWN_V6, OWN_LINK_LOCAL, OTHER_V6, [0; 16]]);
    let destination = dice.of(&[OTHER_V6, OTHER_V6, FORBIDDEN_V6]);
    // Extension headers before and behind that of fragments.
    let count = if dice.one_in(8) { 11 } else { 3 };
    let chain = |dice: &mut Dice<'_>, last: u8, payload: &[u8]| {
        let numbers: Vec<u8> = (0..dice.below(count)).map(|_| dice.of(&[60u8, 0, 43])).collect();
        let mut bytes = Vec::new();
        for (i, _) in numbers.iter().enumerate() {
            let units = dice.below(2);
            bytes.extend([
                numbers.get(i + 1).copied().unwrap_or(last),
                units as u8,
                0,
                0,
                1,
                2,
                0,
                0,
            ]);
            bytes.extend(vec![0; 8 * units]);
        }
        bytes.extend(payload);
        (numbers.first().copied().unwrap_or(last), bytes)
    };
    let (inner, bytes) = chain(dice, protocol, &payload);
    let fragmented = dice.one_in(3);
    let (_, before) = if fragmented {
        chain(dice, 44, &[])
    } else {
        (0, Vec::new())
    };
    let outer = match (fragmented, before.is_empty()) {
        (false, _) => inner,
        (true, true) => 44,
        (true, false) => 60,
    };
    let packet = |from: usize, to: usize, more: bool| {
        let part = &bytes[from.min(bytes.len())..to.min(bytes.len())];
        let mut body = before.clone();
        if fragmented {
            body.extend([inner, 0]);
            body.extend((from as u16 & !7 | u16::from(more)).to_be_bytes());
            body.extend([0, 0, 0, 7]);
        }
        body.extend(part);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([outer, 64]);
        packet.extend([source, destination].concat());
        packet.extend(body);
        packet
    };
    if fragmented {
        pieces(dice, bytes.len(), packet)
    } else {
        vec![packet(0, bytes.len(), false)]
    }
}

/// Cuts `len` bytes up, with gaps closed, overlapping or out of order.
fn pieces(dice: &mut Dice<'_>, len: usize, packet: impl Fn(usize, usize, bool) -> Vec<u8>) -> Vec<Vec<u8>> {
    if !dice.one_in(3) || len < 16 {
        return vec![packet(0, len, false)];
    }
    let cut = 8 * (1 + dice.below(len / 8));
    let second = if dice.one_in(3) {
        8 * dice.below(cut / 8 + 1)
    } else {
        cut
    };
    let mut parts = vec![packet(0, cut, true), packet(second, len, false)];
    if dice.one_in(4) {
        parts.swap(0, 1);
    }
    parts
}

/// Frames with their virtio-net headers.
pub fn hostile(dice: &mut Dice<'_>) -> Vec<Vec<u8>> {
    let (ethertype, payloads) = match dice.below(5) {
        0 => ([8, 6], vec![arp(dice)]),
        1 | 2 => ([8, 0], ipv4(dice)),
        _ => ([0x86, 0xdd], ipv6(dice)),
    };
    let mut tags = Vec::new();
    for _ in 0..dice.of(&[0, 0, 0, 1, 2, 3, 4, 16, 17, 20]) {
        tags.extend(dice.of(&[[0x81, 0], [0x81, 0], [0x88, 0xa8]]));
        tags.extend([0, if dice.one_in(8) { 5 } else { 0 }]);
    }
    if dice.one_in(12) {
        tags.extend([0, 60, 0xaa, 0xaa, 3, 0, 0, 0]);
    }
    let src = if dice.one_in(16) { OTHER_MAC } else { OWN_MAC };
    let mut wires: Vec<Vec<u8>> = payloads
        .into_iter()
        .map(|payload| [&[0; 10][..], &OTHER_MAC, &src, &tags, &ethertype, &payload].concat())
        .collect();
    for wire in &mut wires {
        spoil(dice, wire);
    }
    wires
}

/// A virtio-net header, padding, and damage.
fn spoil(dice: &mut Dice<'_>, wire: &mut Vec<u8>) {
    let len = wire.len() - 10;
    if dice.one_in(3) {
        let start = if dice.one_in(2) {
            dice.below(len)
        } else {
            len.saturating_sub(44)
        };
        let offset = dice.of(&[6, 16, 2, 8, 0, dice.0.first().copied().unwrap_or(0) % 24]);
        wire[0] = 1;
        wire[6..8].copy_from_slice(&(start as u16).to_ne_bytes());
        wire[8..10].copy_from_slice(&u16::from(offset).to_ne_bytes());
    }
    if dice.one_in(6) {
        wire.extend(vec![0x12; dice.below(40)]);
    }
    if dice.one_in(6) {
        let at = 10 + dice.below(len);
        wire[at] = dice.byte();
    }
    if dice.one_in(12) {
        wire.truncate(10 + dice.below(len));
    }
}
