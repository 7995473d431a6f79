//! Frames: most of them whole, some with a wrong field, some without sense.

use vswitch_api::Mac;
use vswitch_datapath::frame::{Gso, Sum, VNET_HDR_LEN, VnetHeader};
use vswitch_datapath::guard::{PROBE_DST, PROBE_SRC};

use super::dice::Dice;

/// The n-th station.
pub fn mac(n: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, n as u8])
}

/// A virtio-net header and a frame.
pub fn wire(dice: &mut Dice<'_>, stations: usize, own: usize) -> Vec<u8> {
    let (mut header, mut frame) = whole(dice, stations, own);
    match dice.below(12) {
        0 => {
            let len = dice.below(frame.len());
            frame.truncate(len);
        }
        1 => {
            let at = usize::from(dice.word()) % frame.len().min(80);
            frame[at] ^= 1 << dice.below(8);
        }
        2 => header.gso = dice.of(&[Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::UdpL4]),
        3 => header.gso_size = dice.of(&[0, 1, 7, 8, 100, 0xffff]),
        4 => header.csum_start = dice.word() % 100,
        5 => header.flags = dice.byte(),
        6 => header.hdr_len = dice.word(),
        _ => {}
    }
    let mut wire = vec![0; VNET_HDR_LEN];
    let (place, _) = wire.split_first_chunk_mut().unwrap();
    header.write(place);
    if dice.one_in(40) {
        wire.iter_mut().for_each(|byte| *byte = dice.byte());
    }
    wire.extend(frame);
    wire
}

fn whole(dice: &mut Dice<'_>, stations: usize, own: usize) -> (VnetHeader, Vec<u8>) {
    let dst = match dice.below(10) {
        0 | 1 => Mac::BROADCAST,
        2 => Mac([1, 0, 0x5e, 0, 0, 1]),
        3 => dice.of(&[
            Mac([1, 0x80, 0xc2, 0, 0, 0x0e]),
            Mac([1, 0x80, 0xc2, 0, 0, 0]),
            PROBE_DST,
            Mac([0; 6]),
        ]),
        4 => mac(200),
        _ => mac(dice.below(stations)),
    };
    let src = match dice.below(12) {
        0 => dice.of(&[Mac([0; 6]), Mac([3, 0, 0, 0, 0, 1]), PROBE_SRC, mac(201)]),
        1 | 2 => mac(dice.below(stations)),
        _ => mac(own),
    };
    let mut frame = [dst.0, src.0].concat();
    for _ in 0..dice.of(&[0, 0, 0, 0, 1, 1, 1, 2, 3, 17]) {
        let tpid = dice.of(&[0x8100u16, 0x8100, 0x8100, 0x88a8]);
        let tci = dice.of(&[0u16, 10, 20, 30, 10 | 5 << 13, 4095]);
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    match dice.below(8) {
        0 => {
            frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(src.0);
            frame.extend([10, 0, 0, dice.byte() % 8]);
            frame.extend([0; 10]);
            (VnetHeader::default(), frame)
        }
        1 => {
            frame.extend(dice.of(&[0x88b5u16, 0x88b6, 0x0800, 0x86dd, 0x8847, 40]).to_be_bytes());
            let payload = dice.of(&[0, 46, 1500, 3000]);
            frame.resize(frame.len() + payload, dice.byte());
            (VnetHeader::default(), frame)
        }
        _ => packet(dice, frame, own),
    }
}

/// TCP or UDP over IP, with a complete checksum or a partial one, in one frame or as many.
fn packet(dice: &mut Dice<'_>, mut frame: Vec<u8>, own: usize) -> (VnetHeader, Vec<u8>) {
    let (tcp, v6) = (dice.one_in(2), dice.one_in(3));
    let payload = match dice.below(8) {
        0 => 0,
        1 => usize::from(dice.word()) % 65_400,
        2 => 1472,
        _ => usize::from(dice.byte()) * 12,
    };
    let l4_len = if tcp { 20 } else { 8 } + payload;
    let protocol = if tcp { 6 } else { 17 };
    let addresses = if v6 {
        let source = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, own as u8];
        [source, [0xfd; 16]].concat()
    } else {
        vec![10, 0, 0, own as u8, 10, 0, 0, dice.byte() % 8]
    };
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((l4_len as u16).to_be_bytes());
        frame.extend([protocol, 64]);
    } else {
        let fragment = dice.of(&[[0, 0], [0, 0], [0, 0], [0x20, 0], [0, 1]]);
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((20 + l4_len.min(65_515) as u16).to_be_bytes());
        frame.extend([0, 7]);
        frame.extend(fragment);
        frame.extend([64, protocol, 0, 0]);
    }
    frame.extend(&addresses);
    let csum_start = frame.len() as u16;
    frame.extend([0, 7, 0, dice.of(&[9, 22, 53])]);
    if tcp {
        frame.extend([
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            2,
            0x50,
            dice.of(&[0x10, 0x02, 0x99]),
            9,
            9,
            0,
            0,
            0,
            0,
        ]);
    } else {
        frame.extend((l4_len as u16).to_be_bytes());
        frame.extend([0, 0]);
    }
    frame.resize(frame.len() + payload, 5);
    let csum_offset = if tcp { 16 } else { 6 };
    let mut header = VnetHeader::default();
    if dice.one_in(2) {
        header.flags = VnetHeader::NEEDS_CSUM;
        (header.csum_start, header.csum_offset) = (csum_start, csum_offset);
        let seed = Sum::pseudo_header(&addresses, protocol, l4_len as u16).partial();
        let field = usize::from(csum_start + csum_offset);
        frame[field..field + 2].copy_from_slice(&seed);
    }
    if dice.one_in(2) {
        header.gso = match (tcp, v6) {
            (true, false) => Gso::TcpV4,
            (true, true) => Gso::TcpV6,
            (false, _) => Gso::UdpL4,
        };
        header.gso_size = dice.of(&[1448u16, 500, 50, 8]);
        header.hdr_len = csum_start + if tcp { 20 } else { 8 };
    }
    (header, frame)
}
