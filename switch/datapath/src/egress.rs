//! From an output list to the port: what it takes as it is goes in one call, the rest is made to fit.

use super::counters::DropReason;
use super::snapshot::PortEntry;
use super::{Direction, blame, sniffer};
use crate::batch::Batch;
use crate::frame::{ETH_HLEN, Gso, MAX_FRAME, Segments, VNET_HDR_LEN, VnetHeader, complete_known};
use crate::port::{Frames, Sent};

/// How a frame fits a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// As it lies in the batch.
    AsIs,
    /// Cut into segments first.
    Segmented,
    /// Not at all.
    Dropped(DropReason),
}

/// What a worker needs to send, kept so that a batch needs no allocation.
pub struct Egress {
    /// The segment being sent: virtio-net header and frame.
    segment: Box<[u8]>,
    ready: Vec<u8>,
}

impl Egress {
    /// With empty buffers.
    pub fn new() -> Self {
        Self {
            segment: vec![0; VNET_HDR_LEN + MAX_FRAME].into(),
            ready: Vec::with_capacity(crate::batch::MAX_BATCH),
        }
    }

    /// Sends a frame, or keeps it for [`Egress::flush`], which comes before another batch or port has its turn; it is counted as sent
    /// or dropped.
    #[inline]
    pub(super) fn send(&mut self, port: &PortEntry, worker: usize, batch: &Batch, i: u8, fit: Fit) {
        match fit {
            Fit::AsIs => self.ready.push(i),
            Fit::Segmented => {
                // Frames stay in their order.
                self.flush(port, worker, batch);
                self.send_segmented(port, worker, batch, i.into());
            }
            Fit::Dropped(reason) => port.counters[worker].drop_frame(reason),
        }
    }

    /// Sends the frames that were kept, in their order.
    pub(super) fn flush(&mut self, port: &PortEntry, worker: usize, batch: &Batch) {
        if self.ready.is_empty() {
            return;
        }
        let sent = hand_over(port, worker, Frames::Of(batch, &self.ready));
        port.counters[worker].sent(&sent, self.ready.len());
        self.ready.clear();
    }

    /// A frame counts once, however many segments it becomes: as dropped if one of them could not be sent.
    fn send_segmented(&mut self, port: &PortEntry, worker: usize, batch: &Batch, i: usize) {
        let counters = &port.counters[worker];
        match self.send_segments(port, worker, batch, i) {
            Ok(()) => {
                counters.tx_frames.add(1);
                counters.tx_bytes.add(batch.frame(i).len() as u64);
            }
            Err(reason) => counters.drop_frame(reason),
        }
    }

    fn send_segments(&mut self, port: &PortEntry, worker: usize, batch: &Batch, i: usize) -> Result<(), DropReason> {
        let mut segments = batch
            .known(i)
            .and_then(|frame| Segments::of(&frame).ok())
            .ok_or(DropReason::Rejected)?;
        let mut outcome = Ok(());
        // The header stays all zero: no offload is left to do.
        while let Some(len) = segments
            .write_next(&mut self.segment[VNET_HDR_LEN..])
            .map_err(|_| DropReason::Rejected)?
        {
            let sent = hand_over(port, worker, Frames::One(&self.segment[..VNET_HDR_LEN + len]));
            if let Some((error, _)) = sent.failures(1).next() {
                outcome = outcome.and(Err(error.into()));
            }
        }
        outcome
    }
}

/// Capture out, and the port itself.
fn hand_over(port: &PortEntry, worker: usize, frames: Frames<'_>) -> Sent {
    if let Some(sniffers) = &port.sniffers {
        sniffer::see(sniffers, Direction::Out, frames.iter());
    }
    let mut sent = Sent::new();
    blame::inside(port, |io| io.send(worker, frames, &mut sent));
    port.correct(&mut sent, frames.len());
    sent
}

impl Default for Egress {
    fn default() -> Self {
        Self::new()
    }
}

/// How the i-th frame of a batch fits a port; a partial checksum is finished if the port takes none.
#[inline]
pub(super) fn fit(port: &PortEntry, batch: &mut Batch, i: usize) -> Fit {
    let len = batch.slot(i).len as usize;
    if port.offload && len <= port.mtu as usize + ETH_HLEN {
        return Fit::AsIs;
    }
    fit_with_care(port, batch, i)
}

fn fit_with_care(port: &PortEntry, batch: &mut Batch, i: usize) -> Fit {
    let Some(frame) = batch.known(i) else {
        return Fit::Dropped(DropReason::Rejected);
    };
    let longest = port.mtu as usize + ETH_HLEN + frame.tag_bytes();
    if frame.wire_size().largest > longest {
        return Fit::Dropped(DropReason::Mtu);
    }
    match frame.header().gso {
        _ if port.offload => Fit::AsIs,
        Gso::None => {
            let header = *frame.header();
            finish_checksum(batch, i, header)
        }
        _ => Fit::Segmented,
    }
}

/// Finishes the checksum where the frame lies: that is right for the ports still to come too.
fn finish_checksum(batch: &mut Batch, i: usize, mut header: VnetHeader) -> Fit {
    let wire = batch.wire_mut(i);
    let Some((place, frame)) = wire.split_first_chunk_mut() else {
        return Fit::Dropped(DropReason::Rejected);
    };
    if complete_known(frame, &mut header).is_err() {
        return Fit::Dropped(DropReason::Rejected);
    }
    header.write(place);
    Fit::AsIs
}
