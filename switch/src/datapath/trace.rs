//! What the pipeline would do with a frame: the same functions that workers call, without their side effects. Nothing is
//! learned, counted or sent.

use super::counters::DropReason;
use super::egress::{Way, choose};
use super::fdb::{FdbKey, FdbRecord, Learned};
use super::forward::{OutputLists, admit, flood, look_up};
use super::handle::{Datapath, seconds};
use super::snapshot::{PortEntry, Snapshot};
use super::{PortId, SwitchId};
use crate::frame::{MAX_FRAME, VNET_HDR_LEN, VnetHeader, mac_to_u64, wire_size};
use crate::port::Batch;
use vswitch_api::Mac;

/// One step of a frame's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It comes in from the port.
    Ingress {
        /// The switch of the port.
        switch: SwitchId,
        /// Why nothing may come in.
        dropped: Option<DropReason>,
    },
    /// The checks that every frame has to pass.
    Admit {
        /// Bytes of the frame.
        len: usize,
        /// Why it does not pass.
        dropped: Option<DropReason>,
    },
    /// What would be learned.
    Learn {
        /// The source.
        mac: Mac,
        /// What learning it would do.
        learned: Learned,
        /// What is known of it.
        known: Option<FdbRecord>,
    },
    /// Where the destination is.
    LookUp {
        /// The destination.
        mac: Mac,
        /// What is known of it.
        known: Option<FdbRecord>,
        /// Where the frame goes; none: it is flooded.
        to: Option<PortId>,
        /// Why it goes nowhere.
        dropped: Option<DropReason>,
    },
    /// A copy for a mirror.
    Mirror {
        /// Where it goes.
        to: PortId,
    },
    /// Out of a port.
    Egress {
        /// The port.
        port: PortId,
        /// It is a copy for a mirror.
        copy: bool,
        /// Number of frames that it becomes.
        segments: usize,
        /// Whether they are cut here; otherwise by who receives the frame.
        cut: bool,
        /// Why it does not get out.
        dropped: Option<DropReason>,
    },
}

impl Datapath {
    /// The way that a frame (with its virtio-net header in front) would take if it came in from a port now; none: there is
    /// no such port.
    pub fn trace(&self, id: PortId, wire: &[u8]) -> Option<Vec<Step>> {
        let snapshot = self.snapshot();
        let port = snapshot.port(id)?;
        let mut batch = Batch::new();
        let len = wire.len().min(VNET_HDR_LEN + MAX_FRAME);
        batch.tail()[..len].copy_from_slice(&wire[..len]);
        batch.push(len);
        Some(trace(&snapshot, port, &mut batch))
    }
}

fn trace(snapshot: &Snapshot, port: &PortEntry, batch: &mut Batch) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lists = OutputLists::default();
    lists.resize(snapshot.ports.len());
    let closed = match (port.up, port.mirror_only) {
        (false, _) => Some(DropReason::PortDown),
        (_, true) => Some(DropReason::MirrorPort),
        _ => None,
    };
    steps.push(Step::Ingress {
        switch: port.switch,
        dropped: closed,
    });
    if closed.is_some() {
        return steps;
    }
    forward(snapshot, port, batch, &mut lists, &mut steps);
    let outputs: Vec<PortId> = lists.filled().map(|(out, _)| out).collect();
    let mirrors = snapshot.mirrors.iter().filter(|mirror| mirror.switch == port.switch);
    let mut copies: Vec<PortId> = mirrors
        .filter(|mirror| snapshot.port(mirror.to).is_some_and(|to| to.up))
        .filter(|mirror| mirror.wanted(batch, snapshot, port, &lists) != 0)
        .map(|mirror| mirror.to)
        .collect();
    copies.dedup();
    steps.extend(copies.iter().map(|to| Step::Mirror { to: *to }));
    for (out, copy) in outputs
        .into_iter()
        .map(|out| (out, false))
        .chain(copies.into_iter().map(|out| (out, true)))
    {
        steps.extend(snapshot.port(out).map(|out| egress(out, copy, batch)));
    }
    steps
}

/// The same as [`super::forward::forward`] for the one frame of the batch.
fn forward(snapshot: &Snapshot, port: &PortEntry, batch: &Batch, lists: &mut OutputLists, steps: &mut Vec<Step>) {
    let Some(switch) = snapshot.switch(port.switch) else {
        return;
    };
    let (frame, now) = (batch.frame(0), seconds());
    let admitted = admit(frame, batch.wire(0), port, switch.reserved);
    steps.push(Step::Admit {
        len: frame.len(),
        dropped: admitted.err(),
    });
    let Ok((dst, src)) = admitted else { return };
    let key = |mac| FdbKey::new(0, mac_to_u64(mac));
    steps.push(Step::Learn {
        mac: src,
        learned: switch.fdb.would_learn(key(src), port.id),
        known: switch.fdb.record(key(src), now),
    });
    let mut to = look_up(snapshot, switch, dst);
    if dst == src {
        // It would have been learned just before.
        to = to.map(|_| port.id);
    }
    let dropped = (to == Some(port.id)).then_some(DropReason::SamePort);
    steps.push(Step::LookUp {
        mac: dst,
        known: switch.fdb.record(key(dst), now).filter(|_| !dst.is_multicast()),
        to,
        dropped,
    });
    match to {
        _ if dropped.is_some() => {}
        Some(out) => lists.push(out, 0),
        None => flood(switch, port).for_each(|out| lists.push(out, 0)),
    }
}

fn egress(port: &PortEntry, copy: bool, batch: &mut Batch) -> Step {
    let header = batch.wire(0).first_chunk().map(VnetHeader::parse);
    let header = header.and_then(Result::ok).unwrap_or_default();
    let segments = wire_size(batch.frame(0), &header).segments;
    let (cut, dropped) = match choose(port, batch, 0) {
        Way::AsIs => (false, None),
        Way::Segmented => (true, None),
        Way::Dropped(reason) => (false, Some(reason)),
    };
    Step::Egress {
        port: port.id,
        copy,
        segments,
        cut,
        dropped,
    }
}
