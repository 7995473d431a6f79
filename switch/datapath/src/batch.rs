//! A batch: the frames that a worker took from one port in one go, and the memory they lie in.

use std::fmt;

use crate::frame::{Checked, MAX_FRAME, VLAN_HLEN, VNET_HDR_LEN, VnetHeader};

/// Most frames of a batch.
pub const MAX_BATCH: usize = 64;
/// Bytes that a batch may fill before it is processed, so that large frames are sent while they are still in the cache.
const CACHE_BUDGET: usize = 192 << 10;
/// Room in front of a frame: its virtio-net header ends there, and up to two tags can be put in below it.
/// 66 + 14 puts the IP header of an untagged frame on a 16-byte boundary.
pub const HEADROOM: usize = 66;
/// Distance of two slots when each must be able to take the longest frame. The odd lines spread the heads over the cache.
pub const STRIDE: usize = (HEADROOM + MAX_FRAME).next_multiple_of(64) + 192;

const _: () = assert!(HEADROOM >= VNET_HDR_LEN + 2 * VLAN_HLEN);

/// Where a frame lies in the arena of its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Offset of the first byte of the destination address; the virtio-net header lies just before it.
    pub start: u32,
    /// Bytes of the frame, without the virtio-net header.
    pub len: u32,
}

/// The VLAN of a frame, and how its buffer shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameVlan {
    /// Priority, drop eligibility and VLAN id, as a tag has them.
    pub tci: u16,
    /// TPID of the tag in the buffer that shows this VLAN (or the priority only); 0: there is none.
    pub tpid: u16,
}

impl FrameVlan {
    /// Bits of the tag control information that are the VLAN id (IEEE 802.1Q-2022 clause 9.6).
    pub const ID: u16 = 0x0fff;

    /// VLAN id; 0 for none.
    #[inline]
    pub fn id(self) -> u16 {
        self.tci & Self::ID
    }

    /// Priority (PCP); 0 without a tag.
    pub fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }
}

/// Frames from one port with their virtio-net headers, reused from batch to batch.
pub struct Batch {
    arena: Box<[u8]>,
    slots: [Slot; MAX_BATCH],
    /// Of frames on a switch with VLANs only.
    vlans: [FrameVlan; MAX_BATCH],
    len: usize,
    /// Arena offset up to which slots are taken.
    used: usize,
    /// How much of that holds nothing, behind frames in fixed slots.
    skipped: usize,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch of {} frames", self.len)
    }
}

impl Batch {
    /// An empty batch. Its memory is touched only as frames come.
    pub fn new() -> Self {
        Self {
            arena: vec![0; MAX_BATCH * STRIDE].into(),
            slots: [Slot::default(); MAX_BATCH],
            vlans: [FrameVlan::default(); MAX_BATCH],
            len: 0,
            used: 0,
            skipped: 0,
        }
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        self.len = 0;
        self.used = 0;
        self.skipped = 0;
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No frames.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All frames as a list, by their index.
    pub fn all(&self) -> &'static [u8] {
        const ALL: [u8; MAX_BATCH] = {
            let mut all = [0; MAX_BATCH];
            let mut i = 0;
            while i < MAX_BATCH {
                all[i] = i as u8;
                i += 1;
            }
            all
        };
        &ALL[..self.len]
    }

    /// Bytes of all frames, without virtio-net headers.
    pub fn bytes(&self) -> u64 {
        self.slots[..self.len].iter().map(|slot| u64::from(slot.len)).sum()
    }

    /// How many frames like these should be taken before they are processed.
    pub fn affordable(&self) -> usize {
        let filled = (self.used - self.skipped).max(1);
        (self.len * CACHE_BUDGET / filled).min(MAX_BATCH)
    }

    /// Whether one more frame of any length should be taken before the batch is processed.
    pub fn has_room(&self) -> bool {
        self.len < MAX_BATCH && self.used <= (MAX_BATCH - 1) * STRIDE && self.used - self.skipped < CACHE_BUDGET
    }

    /// Room for the next frame of a port that is read frame by frame: virtio-net header and frame go here. The header says that
    /// nothing is left to be done with the frame, unless another one is written over it.
    ///
    /// # Panics
    /// There is none: [`Batch::has_room`] says so.
    pub fn tail(&mut self) -> &mut [u8] {
        let room = self.room();
        room[..VNET_HDR_LEN].fill(0);
        room
    }

    /// The same, with what lies there of frames before.
    fn room(&mut self) -> &mut [u8] {
        let start = self.used + HEADROOM - VNET_HDR_LEN;
        let room = self.arena.get_mut(start..start + VNET_HDR_LEN + MAX_FRAME);
        room.unwrap_or_else(|| no_room())
    }

    /// Takes `len` bytes (virtio-net header and frame) that were written into [`Batch::tail`], of which no more count than there is room for.
    ///
    /// # Panics
    /// There is no room: [`Batch::has_room`] says so.
    pub fn push(&mut self, len: usize) {
        let len = len.min(VNET_HDR_LEN + MAX_FRAME);
        self.push_at(self.used, len);
        self.used += (HEADROOM + len).next_multiple_of(64);
    }

    /// Takes a copy of a frame with its virtio-net header in front, of at most [`MAX_FRAME`] bytes; there must be room.
    pub fn push_copy(&mut self, wire: &[u8]) {
        if let Some(place) = self.room().get_mut(..wire.len()) {
            place.copy_from_slice(wire);
            self.push(wire.len());
        }
    }

    /// The whole arena, for a port that fills many slots with one call; the i-th then goes to [`Batch::start_of`]. What lies there is of
    /// frames before: each needs a virtio-net header of its own.
    pub fn arena_mut(&mut self) -> &mut [u8] {
        &mut self.arena
    }

    /// Where virtio-net header and frame of the i-th fixed slot go; there is room for [`MAX_FRAME`] and the header.
    pub fn start_of(i: usize) -> usize {
        i * STRIDE + HEADROOM - VNET_HDR_LEN
    }

    /// The first fixed slot that no frame reaches into; the slots up to [`MAX_BATCH`] are free.
    pub fn free_slot(&self) -> usize {
        self.used.div_ceil(STRIDE)
    }

    /// Takes `len` bytes (virtio-net header and frame) at the i-th fixed slot, which was free, and puts `tag` (TPID, TCI)
    /// back in its place behind the addresses.
    pub fn push_fixed(&mut self, i: usize, len: usize, tag: Option<(u16, u16)>) {
        self.push_at(i * STRIDE, len);
        self.put_tag(tag);
        let end = (i + 1) * STRIDE;
        self.skipped += end.saturating_sub(self.used + (HEADROOM + len).next_multiple_of(64));
        self.used = end;
    }

    /// Puts a tag into the last frame.
    fn put_tag(&mut self, tag: Option<(u16, u16)>) {
        if let Some((tpid, tci)) = tag
            && let Some(slot) = self.slots[..self.len].last_mut()
            && slot.len >= 12
        {
            push_tag(&mut self.arena, slot, tpid, tci);
        }
    }

    /// Takes a copy of a frame of at most [`MAX_FRAME`] bytes with this header, and puts `tag` (TPID, TCI) back in its place behind
    /// the addresses; there must be room.
    pub fn push_with(&mut self, header: VnetHeader, frame: &[u8], tag: Option<(u16, u16)>) {
        let len = VNET_HDR_LEN + frame.len();
        let place = self.room().get_mut(..len);
        let Some((head, body)) = place.and_then(|place| place.split_first_chunk_mut()) else {
            return;
        };
        header.write(head);
        body.copy_from_slice(frame);
        self.push(len);
        self.put_tag(tag);
    }

    /// Takes a frame that the kernel had but could not describe: no header says what this one says, so it is dropped as malformed.
    pub fn push_undescribed(&mut self) {
        self.room()[..VNET_HDR_LEN].fill(0xff);
        self.push(VNET_HDR_LEN);
    }

    /// The VLAN that the i-th frame was put into.
    pub fn vlan(&self, i: usize) -> FrameVlan {
        self.vlans[i]
    }

    /// Puts the i-th frame into a VLAN. Its tag, if `vlan` says that there is one, is there in full.
    pub fn set_vlan(&mut self, i: usize, vlan: FrameVlan) {
        self.vlans[i] = vlan;
    }

    /// Makes the buffer of the i-th frame show its VLAN by a tag with this TPID, or by none.
    pub fn retag(&mut self, i: usize, wanted: Option<u16>) {
        let (slot, vlan) = (&mut self.slots[i], &mut self.vlans[i]);
        match (vlan.tpid != 0, wanted) {
            (false, None) => {}
            (false, Some(tpid)) => push_tag(&mut self.arena, slot, tpid, vlan.tci),
            (true, None) => pop_tag(&mut self.arena, slot),
            (true, Some(tpid)) => write_tag(&mut self.arena, slot.start as usize, tpid, vlan.tci),
        }
        vlan.tpid = wanted.unwrap_or(0);
    }

    fn push_at(&mut self, slot: usize, len: usize) {
        let place = self.slots.get_mut(self.len).unwrap_or_else(|| no_room());
        *place = Slot {
            start: (slot + HEADROOM) as u32,
            len: len.saturating_sub(VNET_HDR_LEN) as u32,
        };
        self.len += 1;
    }

    /// Where the i-th frame lies.
    pub fn slot(&self, i: usize) -> Slot {
        self.slots[i]
    }

    /// The i-th frame.
    pub fn frame(&self, i: usize) -> &[u8] {
        let Slot { start, len } = self.slots[i];
        &self.arena[start as usize..][..len as usize]
    }

    /// The i-th frame with its virtio-net header in front, as ports send it.
    pub fn wire(&self, i: usize) -> &[u8] {
        let Slot { start, len } = self.slots[i];
        &self.arena[start as usize - VNET_HDR_LEN..][..VNET_HDR_LEN + len as usize]
    }

    /// The i-th frame, which passed the ingress check and was changed since in its tags only.
    #[inline]
    pub fn known(&self, i: usize) -> Option<Checked<'_>> {
        Checked::known(self.wire(i))
    }

    /// The i-th frame with its virtio-net header, to change in place.
    pub fn wire_mut(&mut self, i: usize) -> &mut [u8] {
        let Slot { start, len } = self.slots[i];
        &mut self.arena[start as usize - VNET_HDR_LEN..][..VNET_HDR_LEN + len as usize]
    }
}

#[cold]
fn no_room() -> ! {
    panic!("a batch has no room for one more frame: a port asks Batch::has_room before each")
}

/// Puts a tag in behind the addresses; the headroom takes two.
fn push_tag(arena: &mut [u8], slot: &mut Slot, tpid: u16, tci: u16) {
    let start = slot.start as usize;
    arena.copy_within(start - VNET_HDR_LEN..start + 12, start - VNET_HDR_LEN - VLAN_HLEN);
    slot.start -= VLAN_HLEN as u32;
    slot.len += VLAN_HLEN as u32;
    write_tag(arena, start - VLAN_HLEN, tpid, tci);
    shift_offloads(&mut arena[start - VNET_HDR_LEN - VLAN_HLEN..], u16::saturating_add);
}

/// Takes the outermost tag out.
fn pop_tag(arena: &mut [u8], slot: &mut Slot) {
    let start = slot.start as usize;
    arena.copy_within(start - VNET_HDR_LEN..start + 12, start - VNET_HDR_LEN + VLAN_HLEN);
    slot.start += VLAN_HLEN as u32;
    slot.len = slot.len.saturating_sub(VLAN_HLEN as u32);
    shift_offloads(&mut arena[start - VNET_HDR_LEN + VLAN_HLEN..], u16::saturating_sub);
}

/// Writes the outermost tag of the frame that starts at `start`.
fn write_tag(arena: &mut [u8], start: usize, tpid: u16, tci: u16) {
    arena[start + 12..start + 14].copy_from_slice(&tpid.to_be_bytes());
    arena[start + 14..start + 16].copy_from_slice(&tci.to_be_bytes());
}

/// The virtio-net header counts from the start of the frame, which a tag makes longer or shorter.
fn shift_offloads(wire: &mut [u8], shift: impl Fn(u16, u16) -> u16) {
    let Some(place) = wire.first_chunk_mut::<VNET_HDR_LEN>() else {
        return;
    };
    // What can't be read is left for the ingress check to refuse.
    let Ok(mut header) = VnetHeader::parse(place) else {
        return;
    };
    if header.needs_csum() {
        header.csum_start = shift(header.csum_start, VLAN_HLEN as u16);
    }
    if header.hdr_len > 0 {
        header.hdr_len = shift(header.hdr_len, VLAN_HLEN as u16);
    }
    header.write(place);
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::VnetHeader;

    #[test]
    fn frames_read_one_by_one_go_behind_those_in_fixed_slots() {
        let mut batch = Batch::new();
        batch.push_copy(&[1; VNET_HDR_LEN + 60]);
        assert_eq!(batch.free_slot(), 1);
        for i in 1..40 {
            let at = Batch::start_of(i);
            batch.arena_mut()[at..][..VNET_HDR_LEN + 60].fill(2);
            batch.push_fixed(i, VNET_HDR_LEN + 60, None);
        }
        assert_eq!(batch.free_slot(), 40);
        assert!(batch.has_room(), "forty short frames do not fill the cache");
        batch.push_copy(&[3; VNET_HDR_LEN + 60]);
        let frames: Vec<_> = (0..batch.len()).map(|i| batch.frame(i).to_vec()).collect();
        assert!(frames[0] == [1; 60] && frames[1..40].iter().all(|frame| *frame == [2; 60]) && frames[40] == [3; 60]);
    }

    #[test]
    fn long_frames_in_fixed_slots_fill_a_batch_as_any_do() {
        let mut batch = Batch::new();
        for i in 0..3 {
            assert!(batch.has_room());
            batch.push_fixed(i, VNET_HDR_LEN + MAX_FRAME, None);
        }
        assert!(!batch.has_room());
        batch.clear();
        assert!(batch.has_room() && batch.free_slot() == 0);
    }

    #[test]
    fn a_batch_whose_last_slot_is_taken_has_no_room() {
        let mut batch = Batch::new();
        batch.push_fixed(MAX_BATCH - 1, VNET_HDR_LEN + 60, None);
        assert!(!batch.has_room());
    }

    #[test]
    fn a_batch_of_short_frames_is_affordable_wherever_they_lie() {
        let mut batch = Batch::new();
        (0..MAX_BATCH).for_each(|i| batch.push_fixed(i, VNET_HDR_LEN + 60, None));
        assert_eq!(batch.affordable(), MAX_BATCH);
        batch.clear();
        (0..3).for_each(|i| batch.push_fixed(i, VNET_HDR_LEN + MAX_FRAME, None));
        assert!(batch.affordable() < 4);
    }

    #[test]
    fn a_frame_that_could_not_be_described_has_no_header_that_anybody_takes() {
        let mut batch = Batch::new();
        batch.push_undescribed();
        assert!(batch.frame(0).is_empty());
        assert!(VnetHeader::parse(batch.wire(0).first_chunk().unwrap()).is_err());
    }
}
