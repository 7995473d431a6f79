//! Random frames, the same for the same seed: such as stations send, and such as they should not.

use vswitch_api::Mac;

use crate::frame::{SERVICE_VLAN_ETHERTYPE, VLAN_ETHERTYPE, mac, probe_of_len, tagged};
use crate::raw::VnetHeader;
use crate::transfer::Noise;

/// Stations, each behind whichever port it was last seen at.
const STATIONS: u32 = 10;

/// Less than a worker takes from a port in one go.
const BATCH_BYTES: u32 = 150_000;

/// Frames that are to be sent in one go, alike but for their number.
#[derive(Debug)]
pub struct Shot {
    /// Index of the port that they come from.
    pub port: usize,
    /// How many.
    pub copies: u32,
    /// What is left to do with them.
    pub header: VnetHeader,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// An endless row of shots.
pub struct Frames {
    noise: Noise,
    ports: usize,
    /// The last frame of a known kind and its port: sent again in a burst.
    last: Option<(usize, VnetHeader, Vec<u8>)>,
}

impl Frames {
    /// Of this seed, from so many ports.
    pub fn new(seed: u64, ports: usize) -> Self {
        Self {
            noise: Noise::new(seed),
            ports,
            last: None,
        }
    }

    /// The next shot. More than one copy comes only of a frame just sent, so that nothing new is learned from them, and what
    /// becomes of one does not depend on how fast another one is.
    pub fn shot(&mut self) -> Shot {
        if self.one_in(3)
            && let Some((port, header, bytes)) = self.last.take()
        {
            // Few enough to be one batch of a worker.
            let most = (BATCH_BYTES / bytes.len() as u32).clamp(1, 20);
            let copies = 1 + self.below(most);
            return Shot {
                port,
                copies,
                header,
                bytes,
            };
        }
        let port = self.below(self.ports as u32) as usize;
        let (header, bytes) = self.frame();
        self.last = Some((port, header, bytes.clone()));
        Shot {
            port,
            copies: 1,
            header,
            bytes,
        }
    }

    /// The frame with another last byte, by which copies are told apart.
    pub fn numbered(&self, bytes: &[u8], copy: u32) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Some(last) = bytes.get_mut(14..).and_then(<[u8]>::last_mut) {
            *last = last.wrapping_add(copy as u8);
        }
        bytes
    }

    fn below(&mut self, n: u32) -> u32 {
        let bytes = self.noise.next(8);
        (u64::from_le_bytes(bytes.try_into().unwrap()) % u64::from(n)) as u32
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    fn station(&mut self) -> Mac {
        mac(1, self.below(STATIONS))
    }

    fn destination(&mut self) -> Mac {
        match self.below(20) {
            0 => Mac::BROADCAST,
            1 => Mac([0x01, 0x00, 0x5e, 0, 0, 7]),
            // For bridges, which do not forward them.
            2 => Mac([0x01, 0x80, 0xc2, 0, 0, self.below(18) as u8]),
            3 => mac(9, self.below(1000)),
            4 => Mac([0; 6]),
            _ => self.station(),
        }
    }

    fn source(&mut self) -> Mac {
        match self.below(30) {
            0 => Mac::BROADCAST,
            1 => Mac([0x03, 0, 0, 0, 0, 1]),
            2 => Mac([0; 6]),
            3 => mac(2, self.below(1000)),
            _ => self.station(),
        }
    }

    fn frame(&mut self) -> (VnetHeader, Vec<u8>) {
        let (dst, src, id) = (self.destination(), self.source(), self.below(1 << 30));
        let plain = VnetHeader::default();
        match self.below(12) {
            // Shorter than a wire carries, down to the bare header.
            0 => {
                let len = 14 + self.below(46) as usize;
                let mut frame = probe_of_len(dst, src, id, len);
                frame.truncate(len);
                (plain, frame)
            }
            // Around every MTU that there is, and beyond.
            1 => {
                let mtu = self.pick(&[1300, 1500, 9000]);
                (plain, probe_of_len(dst, src, id, mtu + 10 + self.below(14) as usize))
            }
            // With tags, and around every MTU that there is.
            2..=4 => {
                let len = if self.one_in(4) {
                    self.pick(&[1300, 1500, 9000]) + 4 + self.below(14) as usize
                } else {
                    60 + self.below(1200) as usize
                };
                let mut frame = probe_of_len(dst, src, id, len);
                for _ in 0..1 + u32::from(self.one_in(3)) {
                    let ethertype = self.pick(&[VLAN_ETHERTYPE, VLAN_ETHERTYPE, SERVICE_VLAN_ETHERTYPE]);
                    let vlan = self.pick(&[0, 1, 10, 10, 20, 20, 30, 0x2000 | 10, 0xb000 | 20, 0xe000, 0xe000, 4095]);
                    frame = tagged(&frame, ethertype, vlan);
                }
                (plain, frame)
            }
            // Cut off in the middle of a tag.
            5 => {
                let mut frame = tagged(&probe_of_len(dst, src, id, 60), VLAN_ETHERTYPE, 10);
                frame.truncate(14 + self.below(5) as usize);
                (plain, frame)
            }
            // A length in the place of the EtherType, and EtherTypes with nothing of what they announce.
            6 => {
                let mut frame = probe_of_len(dst, src, id, 60 + self.below(100) as usize);
                let kind: u16 = self.pick(&[0, 46, 1500, 0x0800, 0x86dd, 0x0806, 0x9000, 0xffff]);
                frame[12..14].copy_from_slice(&kind.to_be_bytes());
                (plain, frame)
            }
            7 => self.offloaded(dst, src),
            _ => (plain, probe_of_len(dst, src, id, 60 + self.below(1200) as usize)),
        }
    }

    /// A TCP or UDP frame over either IP that is to be cut and summed, or only summed.
    fn offloaded(&mut self, dst: Mac, src: Mac) -> (VnetHeader, Vec<u8>) {
        let (cut, v6, udp) = (self.one_in(2), self.one_in(2), self.one_in(3));
        let payload = if cut {
            1200 + self.below(40_000)
        } else {
            self.below(1200)
        } as usize;
        let data = self.noise.next(payload.next_multiple_of(8));
        let (v4_from, v4_to) = ([10, 8, 0, 1], [10, 8, 0, 2]);
        let (v6_from, v6_to) = ([0xfd; 16], [0xfe; 16]);
        let ethernet = etherparse::PacketBuilder::ethernet2(src.0, dst.0);
        let ip = if v6 {
            ethernet.ipv6(v6_from, v6_to, 64)
        } else {
            ethernet.ipv4(v4_from, v4_to, 64)
        };
        let mut frame = Vec::new();
        let written = if udp {
            ip.udp(1000, 2000).write(&mut frame, &data[..payload])
        } else {
            ip.tcp(1000, 2000, self.below(1 << 30), 1000)
                .write(&mut frame, &data[..payload])
        };
        written.unwrap();
        let start = if v6 { 54 } else { 34 };
        let (protocol, headers, offset) = if udp { (17, 8, 6) } else { (6, 20, 16) };
        // The sum of the pseudo-header alone, as a sender leaves it.
        let addresses = if v6 {
            [v6_from, v6_to].concat()
        } else {
            [v4_from, v4_to].concat()
        };
        let words = addresses
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let mut sum = words.sum::<u32>() + protocol + headers + payload as u32;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[start + offset..start + offset + 2].copy_from_slice(&(sum as u16).to_be_bytes());
        let header = VnetHeader {
            flags: 1,
            gso_type: match (cut, udp, v6) {
                (false, ..) => 0,
                (true, true, _) => 5,
                (true, false, true) => 4,
                (true, false, false) => 1,
            },
            hdr_len: start as u16 + headers as u16,
            gso_size: if cut { 1000 } else { 0 },
            csum_start: start as u16,
            csum_offset: offset as u16,
        };
        (header, frame)
    }
}
