//! What the pipeline would do with a frame: the same functions that workers call, without their side effects. Nothing is
//! learned, counted or sent.

use super::counters::DropReason;
use super::egress::{Way, choose};
use super::fdb::{FdbKey, FdbRecord, Learned};
use super::forward::{self, Output, OutputLists, admit};
use super::handle::{Datapath, seconds};
use super::snapshot::{PortEntry, Snapshot};
use super::traffic::{Direction, size_on_the_wire};
use super::vlan::NO_VLAN;
use super::{PortId, PortRef, SwitchId};
use crate::batch::{Batch, FrameVlan};
use crate::frame::{MAX_FRAME, Reading, VNET_HDR_LEN, mac_to_u64, u64_to_mac};
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
    /// Impairment of the wire, by which it may be lost or late.
    Impair {
        /// The port.
        port: PortId,
        /// Into the switch or out of it.
        direction: Direction,
    },
    /// The rate of the policer.
    Police {
        /// It is above, at this moment.
        dropped: Option<DropReason>,
    },
    /// The rate of storm control, of a frame that is to be flooded.
    Storm {
        /// It is above, at this moment.
        dropped: Option<DropReason>,
    },
    /// The checks that every frame has to pass.
    Admit {
        /// Bytes of the frame.
        len: usize,
        /// Why it does not pass.
        dropped: Option<DropReason>,
    },
    /// The VLAN that it is in, on a switch that tells them apart.
    Vlan {
        /// VLAN id, 0 for none.
        id: u16,
        /// Why it may not come in.
        dropped: Option<DropReason>,
    },
    /// Pinned addresses and access control list.
    Rules {
        /// Which of them it does not pass.
        dropped: Option<DropReason>,
    },
    /// What would be learned.
    Learn {
        /// The source.
        mac: Mac,
        /// What learning it would do; none: nothing is learned here.
        learned: Option<Learned>,
        /// What is known of it.
        known: Option<FdbRecord>,
        /// Why it goes no further.
        dropped: Option<DropReason>,
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
    pub fn trace(&self, port: PortRef, wire: &[u8]) -> Option<Vec<Step>> {
        let snapshot = self.snapshot();
        let port = snapshot.find(port)?;
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
    if closed.is_some() || !enter(port, batch, &mut steps) {
        return steps;
    }
    forward(snapshot, port, batch, &mut lists, &mut steps);
    let outputs: Vec<PortId> = lists.filled().map(|(out, _)| out).collect();
    let mirrors = snapshot.mirrors.iter().filter(|mirror| mirror.switch == port.switch);
    let mut copies: Vec<PortId> = mirrors
        .filter(|mirror| mirror.wanted(batch, snapshot, port, &lists) != 0)
        .flat_map(|mirror| mirror.destinations(snapshot, port))
        .collect();
    copies.dedup();
    steps.extend(copies.iter().map(|to| Step::Mirror { to: *to }));
    for (out, copy) in outputs
        .into_iter()
        .map(|out| (out, false))
        .chain(copies.into_iter().map(|out| (out, true)))
    {
        let vlan_aware = snapshot.switch(port.switch).is_some_and(|switch| switch.vlan_aware);
        let Some(out) = snapshot.port(out) else { continue };
        let step = egress(out, vlan_aware, copy, batch);
        // What a rule denies does not come to the wire; what is too long is found out behind it.
        if !matches!(
            step,
            Step::Egress {
                dropped: Some(DropReason::AclOut | DropReason::UnreadableOut | DropReason::TinyFragmentOut),
                ..
            }
        ) {
            impair(out, Direction::Out, &mut steps);
        }
        steps.push(step);
    }
    steps
}

/// The wire of a port, if it is impaired.
fn impair(port: &PortEntry, direction: Direction, steps: &mut Vec<Step>) {
    if port
        .traffic
        .as_ref()
        .is_some_and(|traffic| traffic.line(direction).is_some())
    {
        let port = port.id;
        steps.push(Step::Impair { port, direction });
    }
}

/// Impairment and policer of the port, as they are at this moment; false if the frame ends here.
fn enter(port: &PortEntry, batch: &Batch, steps: &mut Vec<Step>) -> bool {
    let Some(traffic) = &port.traffic else { return true };
    impair(port, Direction::In, steps);
    let passes = traffic.would_police(batch.wire(0));
    if let Some(passes) = passes {
        let dropped = (!passes).then_some(DropReason::Policed);
        steps.push(Step::Police { dropped });
    }
    passes != Some(false)
}

/// The same as [`super::forward::forward`] for the one frame of the batch.
fn forward(snapshot: &Snapshot, port: &PortEntry, batch: &mut Batch, lists: &mut OutputLists, steps: &mut Vec<Step>) {
    let Some(switch) = snapshot.switch(port.switch) else {
        return;
    };
    let way = forward::Way {
        snapshot,
        switch,
        port,
        now: seconds(),
    };
    let admitted = admit(batch.wire(0), port, switch.reserved);
    steps.push(Step::Admit {
        len: batch.frame(0).len(),
        dropped: admitted.err(),
    });
    let Ok((frame, dst, src)) = admitted else { return };
    let (dst, src) = (u64_to_mac(dst), u64_to_mac(src));
    let classified = way.classify(frame.frame());
    if switch.vlan_aware {
        steps.push(Step::Vlan {
            id: classified.map_or(NO_VLAN, FrameVlan::id),
            dropped: classified.err(),
        });
    }
    let Ok(vlan) = classified else { return };
    let policy = port.policy();
    let checked = way.check_rules(&frame, false, src, vlan);
    if policy.pin.is_some() || policy.acl_in.is_some() {
        steps.push(Step::Rules { dropped: checked.err() });
    }
    if checked.is_err() || !learn(&way, vlan, src, steps) {
        return;
    }
    batch.set_vlan(0, vlan);
    look_up(&way, vlan, (dst, src), batch.wire(0), lists, steps);
}

/// What would be learned; false if the frame ends here.
fn learn(way: &forward::Way<'_>, vlan: FrameVlan, src: Mac, steps: &mut Vec<Step>) -> bool {
    let policy = way.port.policy();
    let key = FdbKey::new(vlan.id(), mac_to_u64(src));
    let known = way.switch.fdb.record(key, way.now);
    let here = known.is_some_and(|known| known.port == way.port.id);
    let learns = way.learns_in(vlan.id()) && !policy.learning.locked;
    let rule = policy.learn_rule(way.switch.vlan_limit);
    let learned = learns.then(|| way.switch.fdb.would_learn(key, way.port.id, rule));
    let dropped = match learned {
        _ if policy.learning.locked && !here => Some(DropReason::Locked),
        Some(Learned::Limited) if policy.drops_beyond_limit() => Some(DropReason::MacLimit),
        _ => None,
    };
    steps.push(Step::Learn {
        mac: src,
        learned,
        known,
        dropped,
    });
    dropped.is_none()
}

fn look_up(
    way: &forward::Way<'_>,
    vlan: FrameVlan,
    (dst, src): (Mac, Mac),
    wire: &[u8],
    lists: &mut OutputLists,
    steps: &mut Vec<Step>,
) {
    let mut output = way.look_up(vlan, mac_to_u64(dst));
    if dst == src && matches!(output, Output::Port(_)) {
        // It would have been learned just before.
        output = Output::Port(way.port.id);
    }
    let key = FdbKey::new(vlan.id(), mac_to_u64(dst));
    let (to, dropped) = match output {
        Output::Port(to) => (Some(to), way.may_leave::<true>(to, vlan).err()),
        Output::Flood(_) => (None, None),
    };
    steps.push(Step::LookUp {
        mac: dst,
        known: way.switch.fdb.record(key, way.now).filter(|_| !dst.is_multicast()),
        to,
        dropped,
    });
    if let (Output::Flood(_), Some(traffic)) = (&output, &way.port.traffic)
        && let Some(passes) = traffic.would_flood(dst, wire)
    {
        let dropped = (!passes).then_some(DropReason::Storm);
        steps.push(Step::Storm { dropped });
        if !passes {
            return;
        }
    }
    match output {
        _ if dropped.is_some() => {}
        Output::Port(out) => lists.push(out, 0),
        Output::Flood(ports) => ports
            .iter()
            .filter(|out| way.may_leave::<true>(*out, vlan).is_ok())
            .for_each(|out| lists.push(out, 0)),
    }
}

fn egress(port: &PortEntry, vlan_aware: bool, copy: bool, batch: &mut Batch) -> Step {
    let policy = port.policy();
    let vlan = batch.vlan(0).id();
    let checked = policy
        .acl_out
        .as_ref()
        .map(|acl| acl.would_check(&Reading::of(batch.frame(0)), vlan));
    if let Some(Err(refused)) = checked {
        return Step::Egress {
            port: port.id,
            copy,
            segments: 0,
            cut: false,
            dropped: Some(refused.egress()),
        };
    }
    if vlan_aware {
        policy.vlan.shape(batch, 0);
    }
    let segments = size_on_the_wire(batch.wire(0)).segments;
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
