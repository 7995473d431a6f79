//! The stages that a frame passes, in their order: here and in [`decide`], and nowhere else.
//!
//! Two run them: a worker ([`super::live`]), which counts, learns, limits and sends, and a trace ([`super::trace`]), which does
//! nothing of that and is told each step. What a stage does beyond looking is a method of [`Effects`] or [`FrameEffects`] ([`super::effects`]), which
//! both have to have. A stage that only looks is run for both anyway, and a step that it tells of has to be put into words before
//! control compiles. So a stage can't be added to one of them alone.
//!
//! Stages that act on a whole batch are functions of this page that begin with a batch; [`Ingress::decide`] has those that each frame
//! passes for itself, in a file of its own. It is compiled twice: with all stages, and without those that only a policy or a policer needs, for switches on
//! which no port has a policy, and ports that have no policer.

mod decide;

use super::counters::{DropReason, Tally};
use super::effects::{Effects, FrameEffects};
use super::egress::{Fit, fit};
use super::lists::OutputLists;
use super::mirror::{self};
use super::snapshot::{PortEntry, PortSet, Snapshot, SwitchEntry};
use super::trace::Stage;
use super::traffic::Line;
use super::{Direction, PortId};
use crate::batch::{Batch, FrameVlan};
use crate::frame::VNET_HDR_LEN;
use crate::port::Frames;

/// Where a frame goes.
enum Output<'a> {
    /// Out of one port.
    Port(PortId),
    /// Out of all of these but the one that it came in at.
    Flood(&'a PortSet),
}

/// A port that a batch comes in at, with what is the same for all of its frames. It is handed on as a value, so that it stays in
/// registers.
#[derive(Clone, Copy)]
pub(super) struct Ingress<'a> {
    pub snapshot: &'a Snapshot,
    pub switch: &'a SwitchEntry,
    pub port: &'a PortEntry,
    /// Seconds of a monotonic clock.
    pub now: u32,
}

/// The way of a batch that was received from a port.
pub(super) fn receive<'a, E: Effects>(
    effects: &mut E,
    snapshot: &'a Snapshot,
    port: &'a PortEntry,
    now: u32,
    batch: &mut Batch,
    lists: &mut OutputLists,
) {
    if port.sniffers.is_some() {
        effects.capture(port, Frames::all(batch));
    }
    let Some(ingress) = open(effects, snapshot, port, now, batch) else {
        return;
    };
    if !impair(effects, port, Direction::In, Frames::all(batch), false) {
        ingress.enter(effects, batch, lists);
    }
}

/// The rest of the way of frames that the line of an impaired port has held.
pub(super) fn arrive<'a, E: Effects>(
    effects: &mut E,
    snapshot: &'a Snapshot,
    line: &Line,
    port: &'a PortEntry,
    now: u32,
    batch: &mut Batch,
    lists: &mut OutputLists,
) {
    match line.direction {
        Direction::In => {
            if let Some(ingress) = open(effects, snapshot, port, now, batch) {
                ingress.enter(effects, batch, lists);
            }
        }
        Direction::Out if port.up => send(effects, port, batch, batch.all(), false),
        Direction::Out => effects.drop_out(port, DropReason::LinkDown, batch.len() as u64),
    }
}

/// The port as one that frames may come in at, or they are dropped.
fn open<'a, E: Effects>(
    effects: &mut E,
    snapshot: &'a Snapshot,
    port: &'a PortEntry,
    now: u32,
    batch: &Batch,
) -> Option<Ingress<'a>> {
    let ingress = Ingress::new(snapshot, port, now);
    effects.tell(|| {
        [Stage::Ingress {
            switch: port.switch,
            dropped: ingress.as_ref().err().copied(),
        }]
    });
    ingress
        .map_err(|reason| effects.refuse(port, reason, batch.len() as u64, batch.bytes()))
        .ok()
}

/// Whether the frames are on the line of the port from here on, as that is impaired.
fn impair<E: Effects>(
    effects: &mut E,
    port: &PortEntry,
    direction: Direction,
    frames: Frames<'_>,
    in_vlans: bool,
) -> bool {
    let traffic = port.traffic.as_ref();
    let Some(line) = traffic.and_then(|traffic| traffic.line(direction)) else {
        return false;
    };
    let port = port.id;
    effects.tell(|| {
        [Stage::Impair {
            port,
            direction,
            dropped: line.loses_all(),
        }]
    });
    effects.impair(line, frames, in_vlans)
}

impl<'a> Ingress<'a> {
    /// Of a port that is open, or why it is not.
    pub fn new(snapshot: &'a Snapshot, port: &'a PortEntry, now: u32) -> Result<Self, DropReason> {
        match snapshot.switch(port.switch) {
            Some(_) if port.up && port.mirror_only => Err(DropReason::MirrorPort),
            Some(switch) if port.up => Ok(Self {
                snapshot,
                switch,
                port,
                now,
            }),
            _ => Err(DropReason::PortDown),
        }
    }

    /// From the door of the switch to the ports.
    fn enter<E: Effects>(self, effects: &mut E, batch: &mut Batch, lists: &mut OutputLists) {
        effects.forward(self, batch, lists);
        if !self.snapshot.mirrors.is_empty() {
            mirror::mirror(effects, self, batch, lists);
        }
        self.leave(effects, batch, lists, false);
        while let Some(copies) = lists.into_vlans.pop() {
            mirror::into_vlan(effects, self, copies, batch, lists);
            self.leave(effects, batch, lists, true);
        }
    }

    /// Puts the frames of a batch on output lists.
    #[inline]
    pub fn forward<E: FrameEffects>(self, effects: &mut E, batch: &mut Batch, lists: &mut OutputLists) {
        if self.switch.has_policies || self.policer().is_some() {
            self.decide_all::<true, E>(effects, batch, lists);
        } else {
            self.decide_all::<false, E>(effects, batch, lists);
        }
    }

    #[inline]
    fn decide_all<const POLICY: bool, E: FrameEffects>(
        self,
        effects: &mut E,
        batch: &mut Batch,
        lists: &mut OutputLists,
    ) {
        let mut tally = Tally::default();
        for i in 0..batch.len() {
            let wire = batch.wire(i);
            tally.bytes += (wire.len() - VNET_HDR_LEN) as u64;
            let (vlan, output) = match self.decide::<POLICY, E>(effects, wire) {
                Ok(decision) => decision,
                Err(reason) => {
                    effects.dropped(reason);
                    // A mirror may copy it all the same: as it came.
                    batch.set_vlan(i, FrameVlan::default());
                    continue;
                }
            };
            if POLICY {
                batch.set_vlan(i, vlan);
            }
            match output {
                Output::Port(egress) => {
                    tally.forwarded += 1;
                    lists.push(egress, i);
                }
                Output::Flood(ports) => {
                    tally.flooded += 1;
                    tally.copies += self.flood::<POLICY>(ports, vlan, i, lists);
                }
            }
        }
        effects.count(batch.len() as u64, &tally);
    }

    /// Puts a frame on the lists of all ports that it may leave by; how many they are.
    // Out of line: the loop over the frames of a batch has the more registers.
    #[inline(never)]
    fn flood<const POLICY: bool>(self, ports: &PortSet, vlan: FrameVlan, i: usize, lists: &mut OutputLists) -> u64 {
        let mut copies = 0;
        ports.iter().for_each(|egress| {
            if self.may_leave::<POLICY>(egress, vlan).is_ok() {
                copies += 1;
                lists.push(egress, i);
            }
        });
        copies
    }

    /// Sends what is on the lists. `copies`: of a mirror, into a VLAN of its own.
    fn leave<E: Effects>(self, effects: &mut E, batch: &mut Batch, lists: &mut OutputLists, copies: bool) {
        lists.drain(|id, list| {
            let Some(port) = self.snapshot.port(id) else { return };
            let copies = copies || port.mirror_only;
            if self.switch.has_policies {
                list.retain(|&i| self.let_out(effects, port, batch, i.into(), copies));
            }
            let frames = Frames::Of(batch, list);
            if !list.is_empty() && !impair(effects, port, Direction::Out, frames, self.switch.vlan_aware) {
                send(effects, port, batch, list, copies);
            }
        });
    }

    /// Whether the rules of a port let a frame out, which then has the tag that it has there.
    fn let_out<E: Effects>(self, effects: &mut E, port: &PortEntry, batch: &mut Batch, i: usize, copy: bool) -> bool {
        let policy = port.policy();
        if let Some(acl) = &policy.acl_out
            && let Some(frame) = batch.known(i)
        {
            let size = || frame.wire_size();
            let now = || self.snapshot.clock.nanoseconds();
            if let Err(refused) = effects.check(acl, &frame.read(), size, now, batch.vlan(i).id()) {
                let reason = refused.egress();
                effects.drop_out(port, reason, 1);
                effects.tell(|| {
                    [Stage::Egress {
                        port: port.id,
                        copy,
                        segments: 0,
                        cut: false,
                        dropped: Some(reason),
                    }]
                });
                return false;
            }
        }
        if self.switch.vlan_aware {
            policy.vlan.shape(batch, i);
        }
        true
    }
}

/// Sends frames out of a port, each so that it fits. `copy`: those of a mirror.
fn send<E: Effects>(effects: &mut E, port: &PortEntry, batch: &mut Batch, list: &[u8], copy: bool) {
    for &i in list {
        let fit = fit(port, batch, i.into());
        effects.tell(|| {
            [Stage::Egress {
                port: port.id,
                copy,
                segments: batch.known(i.into()).map_or(1, |frame| frame.wire_size().segments),
                cut: fit == Fit::Segmented,
                dropped: match fit {
                    Fit::Dropped(reason) => Some(reason),
                    _ => None,
                },
            }]
        });
        effects.send(port, batch, i, fit);
    }
    effects.flush(port, batch);
}
