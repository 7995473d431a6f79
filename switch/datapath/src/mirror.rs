//! Mirrors (SPAN): copies of frames to a port that carries nothing else.
//!
//! When a batch has become output lists, each mirror looks at them: the frames that came in from one of its ports, and
//! those on the list of one of its ports, go on the list of its destination too. So nothing is copied here either, and a frame
//! that passes several of the ports is sent once. Where there is no mirror, a batch pays one comparison.

use std::sync::Arc;

use vswitch_api::MirrorName;
use vswitch_api::policy::{VlanId, VlanSet};

use super::acl::Acl;
use super::counters::Counter;
use super::effects::Effects;
use super::fdb::FdbFilter;
use super::handle::Datapath;
use super::lists::OutputLists;
use super::pipeline::Ingress;
use super::snapshot::{PortEntry, PortSet, Snapshot};
use super::trace::Stage;
use super::vlan::NO_VLAN;
use super::{PortId, SwitchId};
use crate::batch::{Batch, FrameVlan};
use crate::filter::Program;
use crate::frame::{Checked, MAX_FRAME, Tag};

/// A mirror as workers see it.
#[derive(Clone, Debug)]
pub struct MirrorEntry {
    /// By which rules of access lists name it.
    pub name: MirrorName,
    /// Switch whose frames are copied.
    pub switch: SwitchId,
    /// Ports whose frames are copied; none: all but destinations of mirrors.
    pub ports: Option<PortSet>,
    /// Frames that come in from them.
    pub rx: bool,
    /// Frames that go out to them.
    pub tx: bool,
    /// Only frames of these VLANs; none: all.
    pub vlans: Option<VlanSet>,
    /// Where the copies go.
    pub to: MirrorTo,
    /// Only frames that this program wants; none: all.
    pub filter: Option<Program>,
    /// What was copied.
    pub counters: Arc<MirrorCounters>,
}

/// Where copies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorTo {
    /// To this port, as they are.
    Port(PortId),
    /// Out of the ports of this VLAN, as its frames (RSPAN).
    Vlan(u16),
}

/// What a mirror copied, one set of counters for each worker.
#[derive(Debug)]
pub struct MirrorCounters(Box<[WorkerSet]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct WorkerSet {
    frames: Counter,
    bytes: Counter,
}

impl MirrorCounters {
    /// Counters for so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| WorkerSet::default()).collect())
    }

    /// The same, of a mirror that had copied so much before.
    pub fn going_on(workers: usize, (frames, bytes): (u64, u64)) -> Self {
        let counters = Self::new(workers);
        counters.add(0, frames, bytes);
        counters
    }

    /// Counts what was copied; only the worker with this number may.
    pub(super) fn add(&self, worker: usize, frames: u64, bytes: u64) {
        if let Some(set) = self.0.get(worker) {
            set.frames.add(frames);
            set.bytes.add(bytes);
        }
    }

    /// Frames and bytes.
    pub fn total(&self) -> (u64, u64) {
        let add = |(frames, bytes), set: &WorkerSet| (frames + set.frames.get(), bytes + set.bytes.get());
        self.0.iter().fold((0, 0), add)
    }
}

impl MirrorEntry {
    /// The ports that copies of a frame from `port` go to now.
    fn destinations(&self, snapshot: &Snapshot, port: &PortEntry) -> Vec<PortId> {
        match self.to {
            MirrorTo::Port(to) => Vec::from_iter(is_up(snapshot, to).then_some(to)),
            MirrorTo::Vlan(vlan) => carriers(vlan, snapshot, port).collect(),
        }
    }

    pub(super) fn is_about(&self, port: &PortEntry) -> bool {
        !port.mirror_only && self.ports.as_ref().is_none_or(|ports| ports.contains(port.id))
    }

    /// Frames of the batch to copy, as a bitmap.
    fn wanted(&self, batch: &Batch, snapshot: &Snapshot, port: &PortEntry, lists: &OutputLists) -> u64 {
        let mut wanted = 0;
        if self.rx && self.is_about(port) {
            wanted = frames(batch);
        }
        if self.tx {
            for (out, list) in lists.filled() {
                if snapshot.port(out).is_some_and(|out| self.is_about(out)) {
                    wanted |= listed(list);
                }
            }
        }
        wanted |= self.wanted_by_rules(batch, snapshot, port, lists);
        if let Some(vlans) = &self.vlans {
            let aware = snapshot.switch(port.switch).is_some_and(|switch| switch.vlan_aware);
            wanted = those(wanted, |i| {
                vlan_of(batch, i, aware).is_some_and(|vlan| vlans.contains(vlan))
            });
        }
        if let Some(filter) = &self.filter {
            wanted = those(wanted, |i| filter.matches(batch.frame(i)));
        }
        wanted
    }

    /// Frames that rules of access lists copy, in from the port or out to those of the lists.
    fn wanted_by_rules(&self, batch: &Batch, snapshot: &Snapshot, port: &PortEntry, lists: &OutputLists) -> u64 {
        let copied = |acl: &Acl, frames| those(frames, |i| acl.copies(batch.frame(i), batch.vlan(i).id(), &self.name));
        let mut wanted = 0;
        if let Some(acl) = port.policy().acl_in.as_ref().filter(|acl| acl.has_copies()) {
            wanted = copied(acl, frames(batch));
        }
        for (out, list) in lists.filled() {
            let acl = snapshot.port(out).and_then(|out| out.policy().acl_out.as_ref());
            if let Some(acl) = acl.filter(|acl| acl.has_copies()) {
                wanted |= copied(acl, listed(list));
            }
        }
        wanted
    }
}

/// The VLAN that the switch put a frame into, else that of its tag: it may have been dropped before.
fn vlan_of(batch: &Batch, i: usize, aware: bool) -> Option<VlanId> {
    let known = batch.vlan(i).id();
    if aware && known != NO_VLAN {
        return VlanId::try_from(known).ok();
    }
    VlanId::try_from(Tag::nth(batch.frame(i), 0)?.vlan_id()).ok()
}

const _: () = assert!(crate::batch::MAX_BATCH <= 64, "a batch fits a bitmap");

fn bits(frames: impl Iterator<Item = usize>) -> u64 {
    frames.fold(0, |bits, i| bits | 1 << i)
}

/// Those on a list.
fn listed(list: &[u8]) -> u64 {
    bits(list.iter().map(|i| (*i).into()))
}

/// Those of a batch that can be sent at all.
fn frames(batch: &Batch) -> u64 {
    bits((0..batch.len()).filter(|i| is_frame(batch, *i)))
}

/// Those of `frames` for which `wanted` says so.
fn those(frames: u64, wanted: impl Fn(usize) -> bool) -> u64 {
    bits(ones(frames).filter(|i| wanted(*i)))
}

fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (bits != 0).then(|| bits.trailing_zeros())?;
        bits &= bits - 1;
        Some(at as usize)
    })
}

/// Whether what came in can be sent at all. Whether it may enter the switch is another question.
fn is_frame(batch: &Batch, i: usize) -> bool {
    Checked::new(batch.wire(i)).is_ok_and(|frame| frame.frame().len() < MAX_FRAME)
}

/// Puts the frames of a batch that a mirror wants on the list of its destination.
#[cold]
pub(super) fn mirror<E: Effects>(effects: &mut E, ingress: Ingress<'_>, batch: &Batch, lists: &mut OutputLists) {
    let Ingress { snapshot, port, .. } = ingress;
    for mirror in snapshot.mirrors.iter().filter(|mirror| mirror.switch == port.switch) {
        let wanted = mirror.wanted(batch, snapshot, port, lists);
        let new = match mirror.to {
            MirrorTo::Port(to) if is_up(snapshot, to) => {
                // On the list of the destination is only what another mirror put there.
                let new = wanted & !listed(lists.of(to));
                ones(new).for_each(|i| lists.push(to, i));
                effects.copied(port, new.count_ones().into());
                new
            }
            MirrorTo::Port(_) => continue,
            MirrorTo::Vlan(vlan) => {
                if wanted != 0 {
                    lists.into_vlans.push((vlan, wanted));
                }
                wanted
            }
        };
        if new != 0 {
            effects.tell(|| {
                mirror
                    .destinations(snapshot, port)
                    .into_iter()
                    .map(|to| Stage::Mirror { to })
            });
            let bytes = ones(new).map(|i| batch.frame(i).len() as u64).sum();
            effects.mirrored(mirror, new.count_ones().into(), bytes);
        }
    }
}

/// Puts frames into a VLAN for copies and on the lists of the ports that carry it. All lists have been sent, so that the frames may
/// get another tag.
#[cold]
pub(super) fn into_vlan<E: Effects>(
    effects: &mut E,
    ingress: Ingress<'_>,
    (vlan, frames): (u16, u64),
    batch: &mut Batch,
    lists: &mut OutputLists,
) {
    for i in ones(frames) {
        let own = batch.vlan(i);
        let tci = own.tci & !FrameVlan::ID | vlan;
        batch.set_vlan(i, FrameVlan { tci, ..own });
    }
    for to in carriers(vlan, ingress.snapshot, ingress.port) {
        ones(frames).for_each(|i| lists.push(to, i));
        effects.copied(ingress.port, frames.count_ones().into());
    }
}

fn is_up(snapshot: &Snapshot, port: PortId) -> bool {
    snapshot.port(port).is_some_and(|port| port.up)
}

/// The ports that carry copies in a VLAN of what `port` brought.
fn carriers(vlan: u16, snapshot: &Snapshot, port: &PortEntry) -> impl Iterator<Item = PortId> {
    let others = snapshot.ports.iter().flatten().filter(move |to| {
        to.switch == port.switch && to.id != port.id && to.up && !to.mirror_only && to.policy().vlan.has_joined(vlan)
    });
    others.map(|to| to.id)
}

impl Datapath {
    /// Sets all mirrors. Their destinations forget what was learned there, and carry copies only from now on.
    pub fn set_mirrors(&self, mirrors: Vec<MirrorEntry>) {
        let changed = self.revise(|snapshot| {
            let destination = |id| mirrors.iter().any(|mirror| mirror.to == MirrorTo::Port(id));
            let ports = snapshot.ports.iter().flatten();
            let changed: Vec<_> = ports
                .filter(|port| port.mirror_only != destination(port.id))
                .cloned()
                .collect();
            for port in &changed {
                snapshot.change_port(port.port_ref(), |port| port.mirror_only = !port.mirror_only);
                snapshot.recompile(port.switch);
            }
            snapshot.mirrors = mirrors.into();
            changed
        });
        let destinations: Vec<_> = changed.iter().filter(|before| !before.mirror_only).collect();
        if !destinations.is_empty() {
            // A worker may still be learning by the old snapshot.
            self.quiesce();
        }
        for port in destinations {
            self.fdb_flush(port.switch, FdbFilter::of_port(port.id));
        }
    }
}

/// A port that is gone is no part of a mirror any more: its index may be another port's soon.
pub(super) fn forget_port(snapshot: &mut Snapshot, id: PortId) {
    if snapshot.mirrors.is_empty() {
        return;
    }
    let left = snapshot
        .mirrors
        .iter()
        .filter(|mirror| mirror.to != MirrorTo::Port(id))
        .cloned();
    snapshot.mirrors = left
        .map(|mut mirror| {
            if let Some(ports) = &mut mirror.ports {
                ports.set(id, false);
            }
            mirror
        })
        .collect();
}
