//! Strict priority: the frames that wait for their turn on a slow line, by traffic class (IEEE 802.1Q-2022 clause 8.6.6
//! and 8.6.8.1).

use std::collections::VecDeque;

use vswitch_api::traffic::{CLASSES, ClassCounters};

use crate::frame::{ETH_HLEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Tag};

/// Traffic class of each priority: table 8-5 of IEEE 802.1Q, recommended for eight classes. The default priority, 0, is
/// best effort and stands above 1, background.
const CLASS_OF_PRIORITY: [u8; CLASSES] = [1, 0, 2, 3, 4, 5, 6, 7];

/// A frame that waits for its turn.
#[derive(Debug)]
pub struct Waiting {
    /// Virtio-net header and frame.
    pub wire: Box<[u8]>,
    /// Frames that it is on a wire.
    pub segments: u32,
}

/// The queues of a line that sends the highest class first.
#[derive(Debug, Default)]
pub struct Classes {
    queues: [VecDeque<Waiting>; CLASSES],
    counters: [ClassCounters; CLASSES],
    /// When the frame that is being sent has left, if one is: who comes meanwhile waits.
    pub busy_until: Option<u64>,
}

impl Classes {
    /// Lets a frame wait.
    pub fn push(&mut self, class: u8, frame: Waiting) {
        self.queues[usize::from(class)].push_back(frame);
    }

    /// The frame whose turn it is.
    pub fn next(&mut self) -> Option<Waiting> {
        let (queue, counters) = self
            .queues
            .iter_mut()
            .zip(&mut self.counters)
            .rev()
            .find(|(queue, _)| !queue.is_empty())?;
        counters.sent += 1;
        queue.pop_front()
    }

    /// Gives up the frame of the lowest class below `class` that came last.
    pub fn give_up(&mut self, class: u8) -> Option<Waiting> {
        let lowest = (0..class).find(|lower| !self.queues[usize::from(*lower)].is_empty())?;
        self.dropped(lowest);
        self.queues[usize::from(lowest)].pop_back()
    }

    /// Takes all out, as the line is gone.
    pub fn drain(&mut self) -> impl Iterator<Item = Waiting> + '_ {
        self.busy_until = None;
        self.queues.iter_mut().flat_map(|queue| queue.drain(..))
    }

    /// Counts a frame that found no room.
    pub fn dropped(&mut self, class: u8) {
        self.counters[usize::from(class)].dropped += 1;
    }

    /// What became of the frames of each class.
    pub fn counters(&self) -> [ClassCounters; CLASSES] {
        let mut counters = self.counters;
        for (counters, queue) in counters.iter_mut().zip(&self.queues) {
            counters.waiting = queue.len() as u64;
        }
        counters
    }
}

/// The traffic class of a frame: by the priority in its outermost tag (PCP, IEEE 802.1Q-2022 clause 9.6), if it has one,
/// even if that is 0; else by the class selector bits of its DSCP (RFC 2474 section 4.2.2); else that of priority 0.
pub fn class_of(frame: &[u8]) -> u8 {
    CLASS_OF_PRIORITY[usize::from(priority(frame).unwrap_or(0))]
}

fn priority(frame: &[u8]) -> Option<u8> {
    if let Some(tag) = Tag::nth(frame, 0) {
        return Some((tag.tci >> 13) as u8);
    }
    let (header, ip) = frame.split_first_chunk::<ETH_HLEN>()?;
    match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_IPV4 => Some(ip.get(1)? >> 5),
        // The traffic class begins behind the four bits of the version.
        ETHERTYPE_IPV6 => Some((ip.first()? & 0x0f) >> 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_comes_before_dscp_and_background_below_best_effort() {
        let untagged = |ethertype: u16, payload: &[u8]| {
            let mut frame = vec![2; 12];
            frame.extend(ethertype.to_be_bytes());
            frame.extend(payload);
            frame
        };
        // DSCP 46 (EF) and 8 (CS1), then nothing.
        for (ethertype, payload, class) in [
            (ETHERTYPE_IPV4, vec![0x45, 46 << 2], 5),
            (ETHERTYPE_IPV6, vec![0x60 | 46 >> 2, (46 & 3) << 6], 5),
            (ETHERTYPE_IPV4, vec![0x45, 8 << 2], 0),
            (ETHERTYPE_IPV4, vec![0x45, 0], 1),
            (ETHERTYPE_IPV4, vec![0x45], 1),
            (0x0806, vec![0xff, 0xff], 1),
        ] {
            assert_eq!(
                class_of(&untagged(ethertype, &payload)),
                class,
                "{ethertype:x} {payload:x?}"
            );
        }
        for (priority, class) in [(0u8, 1), (1, 0), (2, 2), (7, 7)] {
            let tagged = untagged(0x8100, &[priority << 5, 10, 8, 0, 0x45, 46 << 2]);
            assert_eq!(class_of(&tagged), class, "priority {priority}");
        }
        assert_eq!(class_of(&[1, 2, 3]), 1);
    }
}
