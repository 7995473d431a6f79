//! Probes of the loop guard: a frame that comes back to the switch that sent it has found a loop.
//!
//! Anybody can make a frame that looks like a probe. What proves a loop is the nonce, which nobody can guess, which only who is
//! behind the sending port hears, and which counts once: see [`super::snapshot::PortEntry::probe`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vswitch_api::Mac;

use super::counters::DropReason;
use super::effects::FrameEffects;
use super::handle::Datapath;
use super::pipeline::Ingress;
use super::punt::{AgentId, Punt, PuntAction};
use super::snapshot::SwitchEntry;
use super::trace::Stage;
use super::{PortId, PortRef, SwitchId, lock};
use crate::batch::FrameVlan;
use crate::frame::{Reading, VLAN_HLEN, VNET_HDR_LEN};

/// Where probes go: a group address of our own, which other switches flood.
pub const PROBE_DST: Mac = Mac([0x03, 0x76, 0x73, 0x77, 0x00, 0x01]);
/// Where they come from; never learned by us.
pub const PROBE_SRC: Mac = Mac([0x02, 0x76, 0x73, 0x77, 0x00, 0x01]);
/// Local experimental EtherType 1 (IEEE 802-2014 clause 9.2.3).
const PROBE_ETHERTYPE: u16 = 0x88b5;
/// The source of a frame begins here.
const SOURCE: usize = 6;
/// Behind the EtherType are the switch's token, the port and, from here on, the nonce.
const NONCE: usize = 10;
/// Bytes of a probe with its virtio-net header: the shortest frame there is.
const PROBE_LEN: usize = VNET_HDR_LEN + 60;

/// Which frames are to go to the loop guard.
pub const fn punt(agent: AgentId) -> Punt {
    Punt {
        agent,
        dst: PROBE_DST,
        mask: Mac::BROADCAST,
        ethertype: Some(PROBE_ETHERTYPE),
        action: PuntAction::Probe,
    }
}

/// While a switch holds its floods nothing goes round by it, so a storm dies and what comes back of a probe is heard. Probes of other
/// switches, which may hold theirs too, are flooded all the same, each once: they can't become a storm themselves.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// VLAN and nonce of those that were.
    passed: Mutex<HashSet<(u16, u64)>>,
}

/// Most probes of others that pass while floods are held.
const PASSED: usize = 4096;

impl Held {
    /// Whether a frame is a probe that was not seen here before.
    fn passes(&self, frame: &[u8], vlan: u16) -> bool {
        let Some(nonce) = foreign_nonce(frame) else {
            return false;
        };
        let mut passed = lock(&self.passed);
        passed.len() < PASSED && passed.insert((vlan, nonce))
    }
}

impl Ingress<'_> {
    /// A frame that would be flooded, on a switch that holds floods.
    #[cold]
    #[inline(never)]
    pub(super) fn hold<E: FrameEffects>(self, effects: &mut E, wire: &[u8], vlan: FrameVlan) -> Result<(), DropReason> {
        let passes = |held: &Arc<Held>| held.passes(&wire[VNET_HDR_LEN..], vlan.id());
        let dropped = self.switch.held.as_ref().is_some_and(|held| !passes(held));
        let dropped = dropped.then_some(DropReason::LoopGuard);
        effects.tell(|| [Stage::Storm { dropped }]);
        dropped.map_or(Ok(()), Err)
    }
}

impl Datapath {
    /// Has a switch drop what is to be flooded (as `loop-guard`), or flood it again: so a storm ends that frames make which go round. Probes of other
    /// switches pass.
    pub fn hold_floods(&self, switch: SwitchId, held: bool) {
        self.revise(|snapshot| {
            if let Some(Some(entry)) = snapshot.switches.get_mut(switch.index()) {
                *entry = Arc::new(SwitchEntry {
                    held: held.then(Arc::default),
                    ..SwitchEntry::clone(entry)
                });
            }
        });
    }

    /// How many frames of each port were flooded since it was added.
    pub fn flooded(&self) -> Vec<(SwitchId, PortRef, u64)> {
        let snapshot = self.snapshot();
        let flooded = snapshot
            .ports()
            .map(|port| (port.switch, port.port_ref(), port.flooded()));
        flooded.collect()
    }
}

/// What a probe says to the switch that sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The port that it went out of.
    pub port: PortId,
    /// Known to control and to who is behind that port; never 0.
    pub nonce: u64,
}

impl Probe {
    /// The probe of the switch with this token, with a tag of this TPID and VLAN if there is one: a trunk may have no VLAN for
    /// frames without. The token is no secret: by it a switch knows what it must not forward.
    pub fn wire(self, token: u64, tag: Option<(u16, u16)>) -> [u8; PROBE_LEN] {
        let mut wire = [0; PROBE_LEN];
        let frame = &mut wire[VNET_HDR_LEN..];
        frame[..6].copy_from_slice(&PROBE_DST.0);
        frame[6..12].copy_from_slice(&PROBE_SRC.0);
        let mut rest = &mut frame[12..];
        if let Some((tpid, vlan)) = tag {
            rest[..2].copy_from_slice(&tpid.to_be_bytes());
            rest[2..VLAN_HLEN].copy_from_slice(&vlan.to_be_bytes());
            rest = &mut rest[VLAN_HLEN..];
        }
        rest[..2].copy_from_slice(&PROBE_ETHERTYPE.to_be_bytes());
        rest[2..10].copy_from_slice(&token.to_be_bytes());
        rest[10..12].copy_from_slice(&self.port.0.to_be_bytes());
        rest[12..20].copy_from_slice(&self.nonce.to_be_bytes());
        wire
    }

    /// What this frame says, if it is a probe of the switch with this token. Tags in front are looked behind.
    pub fn parse(frame: &[u8], token: u64) -> Option<Self> {
        let (theirs, rest) = payload(frame)?.split_first_chunk::<8>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let nonce = rest.first_chunk::<8>()?;
        (u64::from_be_bytes(*theirs) == token).then(|| Self {
            port: PortId(u16::from_be_bytes(*port)),
            nonce: u64::from_be_bytes(*nonce),
        })
    }

    /// Whether it is the probe that is out, which it then is no more: the same again proves nothing.
    pub fn is_claimed_from(self, out: &AtomicU64) -> bool {
        self.nonce != 0
            && out
                .compare_exchange(self.nonce, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

/// Whether a frame for [`PROBE_DST`] of their EtherType is a probe, of whatever switch.
pub fn is_probe(frame: &[u8]) -> bool {
    frame.get(SOURCE..).is_some_and(|rest| rest.starts_with(&PROBE_SRC.0))
}

/// The nonce of a probe, of whatever switch.
fn foreign_nonce(frame: &[u8]) -> Option<u64> {
    let said = payload(frame).filter(|_| frame.starts_with(&PROBE_DST.0) && is_probe(frame))?;
    let nonce = said.get(NONCE..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*nonce))
}

fn payload(frame: &[u8]) -> Option<&[u8]> {
    let reading = Reading::of(frame);
    (reading.ethertype == PROBE_ETHERTYPE).then(|| reading.payload())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_knows_its_own_probe_only() {
        let probe = Probe {
            port: PortId(3),
            nonce: 0x0123_4567_89ab_cdef,
        };
        for tag in [None, Some((0x8100, 10))] {
            let wire = probe.wire(7, tag);
            let frame = &wire[VNET_HDR_LEN..];
            assert_eq!(Probe::parse(frame, 7), Some(probe));
            assert_eq!(Probe::parse(frame, 8), None);
            assert_eq!(Probe::parse(&frame[..24], 7), None);
            assert!(is_probe(frame));
        }
    }

    #[test]
    fn while_floods_are_held_a_probe_passes_once_in_each_vlan_and_nothing_else() {
        let probe = |nonce, tag| Probe { port: PortId(3), nonce }.wire(7, tag);
        let held = Held::default();
        let passes = |wire: &[u8], vlan| held.passes(&wire[VNET_HDR_LEN..], vlan);
        for (tag, vlan) in [(None, 0), (Some((0x8100, 10)), 10)] {
            let wire = probe(5, tag);
            assert!(passes(&wire, vlan) && !passes(&wire, vlan));
        }
        assert!(passes(&probe(6, None), 0));
        let mut broadcast = probe(8, None);
        broadcast[VNET_HDR_LEN..][..6].fill(0xff);
        assert!(!passes(&broadcast, 0));
    }

    #[test]
    fn a_probe_counts_once_and_no_guess_ever() {
        let probe = |nonce| Probe { port: PortId(3), nonce };
        let out = AtomicU64::new(5);
        assert!([0, 1, 4, 6].iter().all(|guess| !probe(*guess).is_claimed_from(&out)));
        assert!(probe(5).is_claimed_from(&out));
        assert!([5, 0].iter().all(|replayed| !probe(*replayed).is_claimed_from(&out)));
    }
}
