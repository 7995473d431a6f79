//! What the pipeline would do with a frame: its stages, run without effects. Nothing is learned, counted or sent.

use std::sync::Arc;

use vswitch_api::Mac;

use super::acl::{Acl, Refused};
use super::counters::{DropReason, Tally};
use super::effects::{Effects, FrameEffects, Run};
use super::egress::Fit;
use super::fdb::{Fdb, FdbKey, FdbRecord, LearnRule, Learned};
use super::guard::Probe;
use super::handle::Datapath;
use super::lists::OutputLists;
use super::mirror::MirrorEntry;
use super::pipeline::{self, Ingress};
use super::punt::AgentId;
use super::snapshot::PortEntry;
use super::traffic::{Limiter, Line};
use super::{Direction, PortId, PortRef, SwitchId};
use crate::batch::Batch;
use crate::frame::{MAX_FRAME, Reading, VNET_HDR_LEN, WireSize};
use crate::port::Frames;

/// A stage that a frame has come to, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
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
        /// All frames are lost there.
        dropped: Option<DropReason>,
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
    /// A frame that an agent wants.
    Punt {
        /// The agent.
        agent: AgentId,
        /// The agent takes it, so it goes no further.
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
    pub fn trace(&self, port: PortRef, wire: &[u8]) -> Option<Vec<Stage>> {
        let snapshot = self.snapshot();
        let port = snapshot.find(port)?;
        let mut batch = Batch::new();
        let len = wire.len().min(VNET_HDR_LEN + MAX_FRAME);
        batch.tail()[..len].copy_from_slice(&wire[..len]);
        batch.push(len);
        let mut lists = OutputLists::default();
        lists.resize(snapshot.ports.len());
        let mut trace = Trace::default();
        let now = snapshot.clock.seconds();
        pipeline::receive(&mut trace, &snapshot, port, now, &mut batch, &mut lists);
        Some(trace.steps)
    }
}

/// Who runs the stages without effects, and writes down what they tell.
#[derive(Default)]
struct Trace {
    steps: Vec<Stage>,
    /// The station that would be in the table by now, and behind which port.
    learned: Option<(FdbKey, PortId)>,
}

impl Run for Trace {
    fn tell<S: IntoIterator<Item = Stage>>(&mut self, steps: impl FnOnce() -> S) {
        self.steps.extend(steps());
    }

    fn admits(&mut self, limiter: &Limiter, now: u64, size: WireSize) -> bool {
        limiter.would_admit(now, size)
    }

    fn check(
        &mut self,
        acl: &Acl,
        frame: &Reading<'_>,
        size: impl Fn() -> WireSize,
        now: impl Fn() -> u64,
        vlan: u16,
    ) -> Result<(), Refused> {
        acl.would_check(frame, size, now, vlan)
    }
}

impl Effects for Trace {
    fn capture(&mut self, _: &PortEntry, _: Frames<'_>) {}

    fn refuse(&mut self, _: &PortEntry, _: DropReason, _: u64, _: u64) {}

    /// By chance it may be lost or late; the trace goes on as if it came through, where that can be.
    fn impair(&mut self, line: &Arc<Line>, _: Frames<'_>, _: bool) -> bool {
        line.loses_all().is_some()
    }

    fn forward(&mut self, ingress: Ingress<'_>, batch: &mut Batch, lists: &mut OutputLists) {
        ingress.forward(self, batch, lists);
    }

    fn mirrored(&mut self, _: &MirrorEntry, _: u64, _: u64) {}

    fn copied(&mut self, _: &PortEntry, _: u64) {}

    fn drop_out(&mut self, _: &PortEntry, _: DropReason, _: u64) {}

    fn send(&mut self, _: &PortEntry, _: &Batch, _: u8, _: Fit) {}

    fn flush(&mut self, _: &PortEntry, _: &Batch) {}
}

impl FrameEffects for Trace {
    fn learn(&mut self, ingress: Ingress<'_>, key: FdbKey, rule: LearnRule) -> Learned {
        let learned = ingress.switch.fdb.would_learn(key, ingress.port.id, rule);
        if let Learned::New | Learned::Moved(_) = learned {
            self.learned = Some((key, ingress.port.id));
        }
        learned
    }

    fn look_up(&self, fdb: &Fdb, key: FdbKey) -> Option<PortId> {
        match self.learned {
            Some((learned, port)) if learned == key => Some(port),
            _ => fdb.lookup(key),
        }
    }

    fn limit_reached(&mut self) {}

    fn probed(&mut self, _: &PortEntry, _: Probe, _: u16) {}

    fn punted(&mut self, _: AgentId, _: u16, _: &[u8]) {}

    fn dropped(&mut self, _: DropReason) {}

    fn count(&mut self, _: u64, _: &Tally) {}
}
