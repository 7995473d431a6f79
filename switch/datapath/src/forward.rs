//! From a batch to output lists, as a worker does it: with counters, tables and notices.

use vswitch_api::Mac;

use super::PortId;
use super::PortRef;
use super::counters::{DropReason, Tally, WorkerCounters};
use super::effects::{FrameEffects, InEarnest};
use super::fdb::{Fdb, FdbKey, LearnRule, Learned};
use super::guard::Probe;
pub use super::lists::OutputLists;
use super::pipeline::Ingress;
use super::punt::AgentId;
use super::snapshot::{PortEntry, Snapshot};
use crate::batch::Batch;

/// What a batch brought that control wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// A station was seen for the first time.
    Learned(Mac),
    /// A station was seen on another port before.
    Moved(FdbKey, PortId),
    /// A station beyond the limit was seen on a port that drops those.
    LimitReached,
    /// The probe of the loop guard that was sent from that port with this nonce came in, in this VLAN (0 for none).
    LoopFound(PortRef, u64, u16),
    /// An agent gets this frame, of this VLAN (0 for none).
    Punted(AgentId, u16, &'a [u8]),
}

/// Runs all frames of `batch`, which came in at `port`, up to their output lists; those of a port that is not open get nowhere.
/// `now`: seconds of a monotonic clock. `notice` is called for what was learned.
#[inline]
pub fn forward(
    batch: &mut Batch,
    snapshot: &Snapshot,
    port: &PortEntry,
    worker: usize,
    now: u32,
    lists: &mut OutputLists,
    notice: impl FnMut(Notice<'_>),
) {
    if let Ok(ingress) = Ingress::new(snapshot, port, now) {
        ingress.forward(&mut Counted::new(port, worker, notice), batch, lists);
    }
}

/// The effects of a worker on the way of each frame.
pub(super) struct Counted<'a, N> {
    counters: &'a WorkerCounters,
    notice: N,
}

impl<'a, N: FnMut(Notice<'_>)> Counted<'a, N> {
    /// Of frames from a port.
    pub fn new(port: &'a PortEntry, worker: usize, notice: N) -> Self {
        Self {
            counters: &port.counters[worker],
            notice,
        }
    }
}

impl<N> InEarnest for Counted<'_, N> {}

impl<N: FnMut(Notice<'_>)> FrameEffects for Counted<'_, N> {
    #[inline(always)]
    fn learn(&mut self, ingress: Ingress<'_>, key: FdbKey, rule: LearnRule) -> Learned {
        let learned = ingress.switch.fdb.learn(key, ingress.port.id, ingress.now, rule);
        match learned {
            Learned::Known | Learned::Full | Learned::Limited => {}
            Learned::New => (self.notice)(Notice::Learned(key.mac())),
            Learned::Moved(from) => (self.notice)(Notice::Moved(key, from)),
        }
        learned
    }

    #[inline(always)]
    fn look_up(&self, fdb: &Fdb, key: FdbKey) -> Option<PortId> {
        fdb.lookup(key)
    }

    fn limit_reached(&mut self) {
        (self.notice)(Notice::LimitReached);
    }

    fn probed(&mut self, sender: &PortEntry, probe: Probe, vlan: u16) {
        if probe.is_claimed_from(&sender.probe) {
            (self.notice)(Notice::LoopFound(sender.port_ref(), probe.nonce, vlan));
        }
    }

    fn punted(&mut self, agent: AgentId, vlan: u16, frame: &[u8]) {
        (self.notice)(Notice::Punted(agent, vlan, frame));
    }

    #[inline]
    fn dropped(&mut self, reason: DropReason) {
        self.counters.drop_frame(reason);
    }

    #[inline]
    fn count(&mut self, frames: u64, tally: &Tally) {
        self.counters.rx_frames.add(frames);
        self.counters.rx_bytes.add(tally.bytes);
        self.counters.rx_forwarded.add(tally.forwarded);
        self.counters.rx_flooded.add(tally.flooded);
        self.counters.flood_copies.add(tally.copies);
    }
}
