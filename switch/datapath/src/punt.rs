//! Which frames go to an agent: a table that control sets from what its agents declare.
//!
//! The daemon has agents for the probes of its loop guard only. That frames are put aside for others ([`Datapath::take_punted`]) is for
//! whoever uses the datapath as a library.
//!
//! Nearly no frame is wanted by an agent, so the way of each pays one look at 64 bits, by the first octet of its destination: only what
//! these let by is held against the entries. A frame that they let by in vain goes on as if it had not been looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use vswitch_api::Mac;

use super::PortRef;
use super::admit::is_forwarded;
use super::counters::DropReason;
use super::effects::FrameEffects;
use super::guard::{Probe, is_probe};
use super::handle::Datapath;
use super::pipeline::Ingress;
use super::trace::Stage;
use crate::batch::FrameVlan;
use crate::frame::{Reading, mac_to_u64};

/// Frames that may wait.
const QUEUE: usize = 256;

/// An agent, by a number that control knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentId(pub u8);

/// Frames that an agent wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Punt {
    /// Who wants them.
    pub agent: AgentId,
    /// Their destination.
    pub dst: Mac,
    /// Bits of the destination that count: all ones for one address.
    pub mask: Mac,
    /// Their EtherType, behind all tags; none: any.
    pub ethertype: Option<u16>,
    /// What becomes of them.
    pub action: PuntAction,
}

/// What becomes of a frame that an agent wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PuntAction {
    /// The agent gets a copy, and the frame goes on.
    Copy,
    /// The agent gets the frame, which goes no further and is not learned from.
    Take,
    /// Probes of the loop guard: one of this very switch is told of, once, and goes no further; one of another switch goes on, but is
    /// nobody's station. Frames from others than probes have for their source go on as if there were no entry.
    Probe,
}

/// A frame that an agent got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punted {
    /// Who gets it.
    pub agent: AgentId,
    /// Where it came in.
    pub port: PortRef,
    /// Its VLAN, 0 for none.
    pub vlan: u16,
    /// The frame as it came in, from its destination on.
    pub frame: Box<[u8]>,
}

/// Frames that wait for control; more are lost, and counted.
#[derive(Debug)]
pub(super) struct PuntQueue {
    frames: ArrayQueue<Punted>,
    lost: AtomicU64,
}

impl Default for PuntQueue {
    fn default() -> Self {
        Self {
            frames: ArrayQueue::new(QUEUE),
            lost: AtomicU64::new(0),
        }
    }
}

impl PuntQueue {
    pub fn push(&self, punted: Punted) {
        if self.frames.push(punted).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All, and how many were lost.
    pub fn take(&self) -> (Vec<Punted>, u64) {
        let frames = std::iter::from_fn(|| self.frames.pop()).take(QUEUE);
        (frames.collect(), self.lost.swap(0, Ordering::Relaxed))
    }
}

impl Punt {
    fn wants(&self, dst: u64, ethertype: impl FnOnce() -> u16) -> bool {
        let mask = mac_to_u64(self.mask);
        dst & mask == mac_to_u64(self.dst) & mask && self.ethertype.is_none_or(|wanted| wanted == ethertype())
    }
}

/// The entries, and what there is to be looked at first.
#[derive(Clone, Debug, Default)]
pub struct PuntTable {
    /// A bit for each value of the last six bits of the destination's first octet that some entry has. The last of them tells groups
    /// from stations, so what is for a group never makes a frame for a station be looked at.
    may_want: u64,
    entries: Arc<[Punt]>,
}

impl PuntTable {
    /// Of two entries that want a frame the first one counts.
    pub fn new(entries: &[Punt]) -> Self {
        let mut may_want = 0;
        for entry in entries {
            let (dst, mask) = (entry.dst.0[0], entry.mask.0[0]);
            let bits = (0..64).filter(|bits| (bits ^ dst) & mask & 63 == 0);
            may_want = bits.fold(may_want, |all, bits| all | 1 << bits);
        }
        Self {
            may_want,
            entries: entries.into(),
        }
    }

    /// Whether an agent may want a frame for `dst`: what pays each frame.
    #[inline(always)]
    pub(super) fn may_want(&self, dst: u64) -> bool {
        self.may_want >> (dst >> FIRST & 63) & 1 != 0
    }

    /// Whether no agent wants frames for single stations.
    pub(super) fn is_for_groups_only(&self) -> bool {
        self.may_want & STATIONS == 0
    }

    /// The entries, in their order.
    pub fn entries(&self) -> &[Punt] {
        &self.entries
    }

    /// The entry that wants the frame.
    pub(super) fn find(&self, dst: u64, frame: &[u8]) -> Option<&Punt> {
        let ethertype = || Reading::of(frame).ethertype;
        self.entries.iter().find(|entry| entry.wants(dst, ethertype))
    }
}

/// Where the first octet of an address is in its number.
const FIRST: u32 = 40;
/// Every second bit: of first octets that no group has.
const STATIONS: u64 = u64::MAX / 3;

impl Datapath {
    /// Sets which frames go to agents, in place of what was set before.
    pub fn set_punts(&self, punts: &[Punt]) {
        self.revise(|snapshot| snapshot.punts = PuntTable::new(punts));
    }
}

impl Ingress<'_> {
    /// Frames that agents want. What a rule of the port drops never gets here, so neither forged probes nor those of a loop that the
    /// rules cut. Whether the frame goes on without being learned from.
    #[cold]
    pub(super) fn punt<E: FrameEffects>(
        self,
        effects: &mut E,
        frame: &[u8],
        dst: u64,
        vlan: FrameVlan,
    ) -> Result<bool, DropReason> {
        let refused = (!is_forwarded(dst, self.switch.reserved)).then_some(DropReason::ReservedMulticast);
        if let Some(punt) = self.snapshot.punts.find(dst, frame) {
            let agent = punt.agent;
            let dropped = match punt.action {
                PuntAction::Probe => return self.catch_probe(effects, agent, frame, vlan),
                PuntAction::Take => Some(DropReason::Punted),
                // One for bridges was let in for the agent alone.
                PuntAction::Copy => refused,
            };
            effects.tell(|| [Stage::Punt { agent, dropped }]);
            effects.punted(agent, vlan.id(), frame);
            return dropped.map_or(Ok(false), Err);
        }
        if let Some(reason) = refused {
            // It was let in since an agent might have wanted it.
            effects.tell(|| {
                [Stage::Admit {
                    len: frame.len(),
                    dropped: refused,
                }]
            });
            return Err(reason);
        }
        Ok(false)
    }

    /// A probe of this switch has come to its end here. Whether the frame is one of another switch: it is flooded like others, but
    /// not learned.
    fn catch_probe<E: FrameEffects>(
        self,
        effects: &mut E,
        agent: AgentId,
        frame: &[u8],
        vlan: FrameVlan,
    ) -> Result<bool, DropReason> {
        if self.port.policy().learning.locked || !is_probe(frame) {
            // A locked port has no station of this address.
            return Ok(false);
        }
        let own = Probe::parse(frame, self.switch.token);
        let dropped = own.map(|_| DropReason::LoopProbe);
        effects.tell(|| [Stage::Punt { agent, dropped }]);
        let Some(probe) = own else { return Ok(true) };
        let sender = self.snapshot.port(probe.port);
        if let Some(sender) = sender.filter(|sender| sender.switch == self.port.switch) {
            effects.probed(sender, probe, vlan.id());
        }
        Err(DropReason::LoopProbe)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn punt(dst: [u8; 6], mask: [u8; 6], ethertype: Option<u16>) -> Punt {
        Punt {
            agent: AgentId(1),
            dst: Mac(dst),
            mask: Mac(mask),
            ethertype,
            action: PuntAction::Copy,
        }
    }

    #[test]
    fn an_empty_table_wants_nothing_and_one_for_a_group_no_station() {
        let empty = PuntTable::default();
        let group = PuntTable::new(&[punt([1, 0, 0x5e, 0, 0, 7], [0xff; 6], None)]);
        for first in 0..=0xff {
            assert!(!empty.may_want(first << FIRST));
            assert_eq!(group.may_want(first << FIRST), first & 63 == 1);
        }
        assert!(group.is_for_groups_only());
        assert!(!PuntTable::new(&[punt([0; 6], [0; 6], Some(0x888e))]).is_for_groups_only());
    }

    proptest! {
        /// What is not looked at closer is wanted by nobody.
        #[test]
        fn the_first_look_misses_nothing(
            entries in prop::collection::vec((any::<[u8; 6]>(), prop::sample::select(vec![
                [0xff; 6], [0; 6], [1, 0, 0, 0, 0, 0], [0xff, 0xff, 0xff, 0, 0, 0], [0, 0, 0, 0, 0, 0x0f],
            ])), 0..4),
            dst in any::<[u8; 6]>(),
            near in any::<prop::sample::Index>(),
        ) {
            let table: Vec<_> = entries.iter().map(|(dst, mask)| punt(*dst, *mask, None)).collect();
            let table = PuntTable::new(&table);
            let mut dsts = vec![dst];
            if !entries.is_empty() {
                dsts.push(near.get(&entries).0);
            }
            for dst in dsts.into_iter().map(|dst| mac_to_u64(Mac(dst))) {
                prop_assert!(table.may_want(dst) || table.find(dst, &[0; 60]).is_none());
            }
        }
    }
}
