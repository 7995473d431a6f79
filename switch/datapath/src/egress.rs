//! From an output list to the port: what it takes as it is goes in one call, the rest is made to fit.

use super::counters::DropReason;
use super::snapshot::PortEntry;
use super::tap::{self, Direction};
use super::traffic::size_on_the_wire;
use super::vlan::VlanPort;
use crate::batch::Batch;
use crate::frame::{
    ETH_HLEN, Gso, MAX_FRAME, MAX_TAGS, Reading, Segments, VLAN_HLEN, VNET_HDR_LEN, VnetHeader, complete, wire_size,
};
use crate::port::{Frames, Sent};

/// How a frame gets out of a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
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

    /// Sends the frames of `list` to `port`, in order, and counts each as sent or dropped.
    pub fn send(&mut self, port: &PortEntry, worker: usize, batch: &mut Batch, list: &[u8]) {
        self.ready.clear();
        for &i in list {
            match choose(port, batch, i.into()) {
                Way::AsIs => self.ready.push(i),
                Way::Segmented => {
                    self.flush(port, worker, batch);
                    self.send_segmented(port, worker, batch, i.into());
                }
                Way::Dropped(reason) => port.counters[worker].drop_frame(reason),
            }
        }
        self.flush(port, worker, batch);
    }

    fn flush(&mut self, port: &PortEntry, worker: usize, batch: &Batch) {
        if self.ready.is_empty() {
            return;
        }
        if let Some(taps) = &port.taps {
            tap::see(taps, Direction::Out, self.ready.iter().map(|&i| batch.wire(i.into())));
        }
        let mut sent = Sent::new();
        port.io.send(worker, Frames::Of(batch, &self.ready), &mut sent);
        let counters = &port.counters[worker];
        counters.tx_frames.add(sent.frames);
        counters.tx_bytes.add(sent.bytes);
        for (error, count) in sent.failures(self.ready.len()) {
            counters.drop_frames(error.into(), count);
        }
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
        let mut segments = Segments::new(batch.frame(i), &header(batch, i)).map_err(|_| DropReason::Rejected)?;
        let mut outcome = Ok(());
        // The header stays all zero: no offload is left to do.
        while let Some(len) = segments
            .write_next(&mut self.segment[VNET_HDR_LEN..])
            .map_err(|_| DropReason::Rejected)?
        {
            let wire = &self.segment[..VNET_HDR_LEN + len];
            if let Some(taps) = &port.taps {
                tap::see(taps, Direction::Out, std::iter::once(wire));
            }
            let mut sent = Sent::new();
            port.io.send(worker, Frames::One(wire), &mut sent);
            if let Some((error, _)) = sent.failures(1).next() {
                outcome = outcome.and(Err(error.into()));
            }
        }
        outcome
    }
}

/// What a policy does to frames on their way out: puts those of `list` that the port's rules let out into `leaving`, with the
/// tags that they have there. `vlan`: what those are, on a switch that tells VLANs apart.
pub fn leave(
    port: &PortEntry,
    vlan: Option<&VlanPort>,
    worker: usize,
    batch: &mut Batch,
    list: &[u8],
    leaving: &mut Vec<u8>,
) {
    leaving.clear();
    let acl = port.policy.as_ref().and_then(|policy| policy.acl_out.as_deref());
    for &i in list {
        let frame = batch.frame(i.into());
        let size = || size_on_the_wire(batch.wire(i.into()));
        if let Some(acl) = acl
            && let Err(refused) = acl.check(&Reading::of(frame), size, batch.vlan(i.into()).id())
        {
            port.counters[worker].drop_frame(refused.egress());
            continue;
        }
        if let Some(vlan) = vlan {
            vlan.shape(batch, i.into());
        }
        leaving.push(i);
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self::new()
    }
}

/// The header was checked at ingress.
#[inline]
fn header(batch: &Batch, i: usize) -> VnetHeader {
    let header = batch.wire(i).first_chunk().map(VnetHeader::parse);
    header.and_then(Result::ok).unwrap_or_default()
}

#[inline]
pub(super) fn choose(port: &PortEntry, batch: &mut Batch, i: usize) -> Way {
    let len = batch.slot(i).len as usize;
    if port.offload && len <= port.mtu as usize + ETH_HLEN {
        return Way::AsIs;
    }
    choose_with_care(port, batch, i)
}

fn choose_with_care(port: &PortEntry, batch: &mut Batch, i: usize) -> Way {
    let header = header(batch, i);
    let frame = batch.frame(i);
    let longest = port.mtu as usize + ETH_HLEN + tag_bytes(frame);
    if wire_size(frame, &header).largest > longest {
        return Way::Dropped(DropReason::Mtu);
    }
    match header.gso {
        _ if port.offload => Way::AsIs,
        Gso::None => finish_checksum(batch, i, header),
        _ => Way::Segmented,
    }
}

/// Finishes the checksum where the frame lies: that is right for the ports still to come too.
fn finish_checksum(batch: &mut Batch, i: usize, mut header: VnetHeader) -> Way {
    let wire = batch.wire_mut(i);
    let Some((place, frame)) = wire.split_first_chunk_mut() else {
        return Way::Dropped(DropReason::Rejected);
    };
    if complete(frame, &mut header).is_err() {
        return Way::Dropped(DropReason::Rejected);
    }
    header.write(place);
    Way::AsIs
}

/// Bytes of the tags of a frame, which its MTU does not count.
fn tag_bytes(frame: &[u8]) -> usize {
    let tags = crate::frame::EthernetView::new_checked(frame).map_or(0, |view| view.tags().len());
    tags.min(MAX_TAGS) * VLAN_HLEN
}
