//! Strict priority: the frames that wait for their turn on a slow line, by traffic class (IEEE 802.1Q-2022 clause 8.6.6
//! and 8.6.8.1).

use std::collections::VecDeque;

use vswitch_api::traffic::{CLASSES, ClassCounters};

use crate::frame::{ETH_HLEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Tag, VLAN_HLEN};

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

/// The traffic class of a frame that came with `priority` (PCP, IEEE 802.1Q-2022 clause 9.6) in a tag that it may not have any more: by
/// that, by that of its outermost tag that has one, or by the class selector bits of its DSCP (RFC 2474 section 4.2.2). Priority 0 says
/// nothing: it is what a tag has that nobody gave one.
pub fn class_of(frame: &[u8], priority: u8) -> u8 {
    let told = Some(priority).filter(|priority| *priority != 0);
    CLASS_OF_PRIORITY[usize::from(told.or_else(|| priority_of(frame)).unwrap_or(0))]
}

fn priority_of(frame: &[u8]) -> Option<u8> {
    let mut tags = 0;
    for tag in Tag::all(frame) {
        if tag.tci >> 13 != 0 {
            return Some((tag.tci >> 13) as u8);
        }
        tags += 1;
    }
    let (ethertype, ip) = frame.get(ETH_HLEN - 2 + tags * VLAN_HLEN..)?.split_first_chunk()?;
    match u16::from_be_bytes(*ethertype) {
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
    fn the_priority_of_a_tag_comes_before_dscp_and_background_below_best_effort() {
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
            let frame = untagged(ethertype, &payload);
            let tag = |pcp: u8| [&frame[..12], &[0x81, 0, pcp << 5, 10], &frame[12..]].concat();
            for frame in [&frame, &tag(0)] {
                assert_eq!(class_of(frame, 0), class, "{ethertype:x} {payload:x?}");
                assert_eq!(class_of(frame, 6), 6, "it came with a tag");
            }
            assert_eq!(class_of(&tag(7), 0), 7);
            // In a tunnel: the tag of the VLAN is the outermost.
            let outer = [&frame[..12], &[0x88, 0xa8, 0, 10], &tag(1)[12..]].concat();
            assert_eq!(class_of(&outer, 0), 0);
        }
        assert_eq!(class_of(&[1, 2, 3], 0), 1);
    }
}
