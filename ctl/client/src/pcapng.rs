//! Reading what the daemon streams: pcapng (draft-ietf-opsawg-pcapng) as it writes it, little-endian.

/// Longest block that is waited for: a frame of the largest snap length with its options.
const MAX_BLOCK: usize = 1 << 20;

/// A captured frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Which interface of the file it was seen at.
    pub interface: usize,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// It goes out of the switch to the port.
    pub outbound: bool,
    /// Frames lost since the one before.
    pub lost_before: u64,
    /// Bytes that were kept.
    pub bytes: Vec<u8>,
    /// Bytes that it had.
    pub original_len: usize,
}

/// What a block tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// An interface; they are numbered in this order.
    Interface {
        /// Its name.
        name: String,
    },
    /// Counts of an interface so far.
    Statistics {
        /// Which.
        interface: usize,
        /// Frames lost since the beginning.
        lost: u64,
    },
}

/// Takes bytes as they come.
#[derive(Debug, Default)]
pub struct Parser {
    rest: Vec<u8>,
}

impl Parser {
    /// What is complete with these bytes.
    ///
    /// # Errors
    /// They are not what the daemon writes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Item>, &'static str> {
        self.rest.extend_from_slice(bytes);
        let mut items = Vec::new();
        let mut at = 0;
        while let (Some(kind), Some(len)) = (u32_at(&self.rest, at), u32_at(&self.rest, at + 4)) {
            let len = len as usize;
            if !(12..=MAX_BLOCK).contains(&len) || !len.is_multiple_of(4) {
                return Err("a reply that is no pcapng");
            }
            let Some(block) = self.rest.get(at..at + len) else {
                break;
            };
            let body = &block[8..len - 4];
            match kind {
                6 => items.push(Item::Frame(frame(body).ok_or("a frame that is cut off")?)),
                5 => items.push(Item::Statistics {
                    interface: u32_at(body, 0).unwrap_or_default() as usize,
                    lost: number(body.get(12..).unwrap_or_default(), 5).unwrap_or(0),
                }),
                1 => {
                    let name = option(body.get(8..).unwrap_or_default(), 2).unwrap_or_default();
                    let name = String::from_utf8_lossy(name).into_owned();
                    items.push(Item::Interface { name });
                }
                _ => {}
            }
            at += len;
        }
        self.rest.drain(..at);
        Ok(items)
    }
}

fn frame(body: &[u8]) -> Option<Frame> {
    let len = u32_at(body, 12)? as usize;
    let bytes = body.get(20..)?.get(..len)?.to_vec();
    let rest = body.get(20 + len.next_multiple_of(4)..)?;
    Some(Frame {
        interface: u32_at(body, 0)? as usize,
        time_ns: u64::from(u32_at(body, 4)?) << 32 | u64::from(u32_at(body, 8)?),
        outbound: number(rest, 2).unwrap_or(0) & 3 == 2,
        lost_before: number(rest, 4).unwrap_or(0),
        bytes,
        original_len: u32_at(body, 16)? as usize,
    })
}

/// The value, as a number, of the option with this code.
fn number(rest: &[u8], wanted: u16) -> Option<u64> {
    let value = option(rest, wanted)?;
    Some(value.iter().rev().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// The value of the option with this code.
fn option(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let [a, b, c, d] = *rest.first_chunk()?;
        let (code, len) = (u16::from_le_bytes([a, b]), usize::from(u16::from_le_bytes([c, d])));
        let value = rest.get(4..4 + len)?;
        if code == wanted {
            return Some(value);
        }
        if code == 0 {
            return None;
        }
        rest = rest.get(4 + len.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = (12 + body.len() as u32).to_le_bytes();
        [&kind.to_le_bytes(), &len, body, &len].concat()
    }

    #[test]
    fn a_frame_is_read_wherever_the_bytes_are_cut() {
        let head = block(0x0a0d_0d0a, &[1; 20]);
        let interface = block(
            1,
            &[&[1, 0, 0, 0, 0, 0, 4, 0, 2, 0, 3, 0][..], b"red\0", &[0; 4]].concat(),
        );
        let body = [
            &[2, 0, 0, 0][..],
            &1u32.to_le_bytes(),
            &2u32.to_le_bytes(),
            &5u32.to_le_bytes(),
            &9u32.to_le_bytes(),
            &[1, 2, 3, 4, 5, 0, 0, 0],
            &[2, 0, 4, 0, 2, 0, 0, 0],
            &[4, 0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0],
            &[0; 4],
        ];
        let counts = block(
            5,
            &[
                &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &[5, 0, 8, 0, 3, 1, 0, 0, 0, 0, 0, 0],
                &[0; 4],
            ]
            .concat(),
        );
        let file = [head, interface, block(6, &body.concat()), counts].concat();
        let expected = Frame {
            interface: 2,
            time_ns: (1 << 32) + 2,
            outbound: true,
            lost_before: 7,
            bytes: vec![1, 2, 3, 4, 5],
            original_len: 9,
        };
        for step in [1, 3, 7, file.len()] {
            let mut parser = Parser::default();
            let items: Vec<_> = file.chunks(step).flat_map(|part| parser.feed(part).unwrap()).collect();
            let (interface, name) = (2, "red".to_owned());
            assert_eq!(
                items,
                [
                    Item::Interface { name },
                    Item::Frame(expected.clone()),
                    Item::Statistics { interface, lost: 259 }
                ]
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 0u32..8, body in prop::collection::vec(any::<u8>(), 0..80), more: Vec<u8>) {
            let mut parser = Parser::default();
            let _ = parser.feed(&[block(kind, &body), more].concat());
        }
    }
}
