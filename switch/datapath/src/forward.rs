//! From a batch to output lists. [`Way::decide`] is the one place that tells the order of all stages.
//!
//! It is compiled twice: with all stages, and without those that only a policy needs, for switches on which no port has one.

use vswitch_api::policy::BeyondLimit;
use vswitch_api::{Mac, ReservedMulticast};

use super::acl::Refused;
use super::counters::DropReason;
use super::fdb::{FdbKey, LearnRule, Learned};
use super::guard::{PROBE_DST, PROBE_SRC, Probe, is_probe};
use super::snapshot::{PortEntry, PortSet, Snapshot, SwitchEntry};
use super::vlan::NO_VLAN;
use super::{PortId, PortRef};
use crate::batch::{Batch, FrameVlan};
use crate::frame::{
    CheckError, Checked, ETH_HLEN, Gso, MAX_FRAME, MAX_TAGS, VLAN_HLEN, VNET_HDR_LEN, is_reserved_multicast,
    mac_to_u64, u64_to_mac,
};

/// 01-80-C2-00-00-0E, nearest bridge: LLDP (IEEE 802.1AB-2016 table 7-1).
const LLDP: u64 = 0x0180_c200_000e;
/// FF-FF-FF-FF-FF-FF.
const BROADCAST: u64 = mac_to_u64(Mac::BROADCAST);
const PROBE: u64 = mac_to_u64(PROBE_DST);
/// Where they come from.
const PROBER: u64 = mac_to_u64(PROBE_SRC);

/// Whether an address is a group's (IEEE 802-2014 clause 8.2).
#[inline(always)]
fn is_group(address: u64) -> bool {
    address & 1 << 40 != 0
}

/// What a batch is to become: for each port the frames to send, by their index in the batch.
#[derive(Default)]
pub struct OutputLists {
    lists: Vec<Vec<u8>>,
    touched: Vec<PortId>,
    /// Frames to be copied into a VLAN when all lists have been sent, as a bitmap: by then they may get another tag.
    pub(super) into_vlans: Vec<(u16, u64)>,
}

impl OutputLists {
    /// Makes room for `ports` ports, so that nothing is allocated on the frame's way.
    pub fn resize(&mut self, ports: usize) {
        self.lists.resize_with(ports, Vec::new);
        self.touched.reserve(ports);
    }

    /// Puts a frame on the list of a port.
    #[inline]
    pub(super) fn push(&mut self, port: PortId, frame: usize) {
        let list = &mut self.lists[port.index()];
        if list.is_empty() {
            self.touched.push(port);
        }
        list.push(frame as u8);
    }

    /// The lists that are not empty.
    pub(super) fn filled(&self) -> impl Iterator<Item = (PortId, &[u8])> {
        self.touched.iter().map(|port| (*port, self.of(*port)))
    }

    /// The list of a port.
    pub(super) fn of(&self, port: PortId) -> &[u8] {
        self.lists.get(port.index()).map_or(&[], Vec::as_slice)
    }

    /// Hands each list to `send` and empties it.
    pub fn drain(&mut self, mut send: impl FnMut(PortId, &[u8])) {
        for port in self.touched.drain(..) {
            let list = &mut self.lists[port.index()];
            send(port, list);
            list.clear();
        }
    }
}

/// What a batch brought that control wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A station was seen for the first time.
    Learned(Mac),
    /// A station was seen on another port before.
    Moved(FdbKey, PortId),
    /// A station beyond the limit was seen on a port that drops those.
    LimitReached,
    /// The probe of the loop guard that was sent from that port with this nonce came in.
    LoopFound(PortRef, u64),
}

/// Counts of one batch, written to the shared counters once.
#[derive(Default)]
struct Tally {
    bytes: u64,
    forwarded: u64,
    flooded: u64,
    copies: u64,
}

/// Runs all frames of `batch`, which came in at `port`, up to their output lists.
/// `now`: seconds of a monotonic clock. `notice` is called for what was learned.
#[inline]
pub fn forward(
    batch: &mut Batch,
    snapshot: &Snapshot,
    port: &PortEntry,
    worker: usize,
    now: u32,
    lists: &mut OutputLists,
    notice: impl FnMut(Notice),
) {
    let counters = &port.counters[worker];
    counters.rx_frames.add(batch.len() as u64);
    let Some(switch) = snapshot.switch(port.switch).filter(|_| port.up) else {
        let bytes = (0..batch.len()).map(|i| batch.frame(i).len() as u64).sum();
        counters.rx_bytes.add(bytes);
        counters.drop_frames(DropReason::PortDown, batch.len() as u64);
        return;
    };
    let way = Way {
        snapshot,
        switch,
        port,
        now,
    };
    if switch.has_policies {
        way.run::<true>(batch, worker, lists, notice);
    } else {
        way.run::<false>(batch, worker, lists, notice);
    }
}

/// Where a frame goes.
pub(super) enum Output<'a> {
    /// Out of one port.
    Port(PortId),
    /// Out of all of these but the one that it came in at.
    Flood(&'a PortSet),
}

/// What is the same for all frames of a batch.
pub(super) struct Way<'a> {
    pub snapshot: &'a Snapshot,
    pub switch: &'a SwitchEntry,
    pub port: &'a PortEntry,
    /// Seconds of a monotonic clock.
    pub now: u32,
}

impl<'a> Way<'a> {
    #[inline]
    fn run<const POLICY: bool>(
        &self,
        batch: &mut Batch,
        worker: usize,
        lists: &mut OutputLists,
        mut notice: impl FnMut(Notice),
    ) {
        let counters = &self.port.counters[worker];
        let mut tally = Tally::default();
        for i in 0..batch.len() {
            let wire = batch.wire(i);
            let frame = &wire[VNET_HDR_LEN..];
            tally.bytes += frame.len() as u64;
            let (vlan, output) = match self.decide::<POLICY>(wire, &mut notice) {
                Ok(decision) => decision,
                Err(reason) => {
                    counters.drop_frame(reason);
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
                    for egress in ports
                        .iter()
                        .filter(|egress| self.may_leave::<POLICY>(*egress, vlan).is_ok())
                    {
                        tally.copies += 1;
                        lists.push(egress, i);
                    }
                }
            }
        }
        counters.rx_bytes.add(tally.bytes);
        counters.rx_forwarded.add(tally.forwarded);
        counters.rx_flooded.add(tally.flooded);
        counters.flood_copies.add(tally.copies);
    }

    /// The stages that a frame passes, in their order: what becomes of it, or why nothing does.
    #[inline(always)]
    fn decide<const POLICY: bool>(
        &self,
        wire: &[u8],
        notice: &mut impl FnMut(Notice),
    ) -> Result<(FrameVlan, Output<'a>), DropReason> {
        let (frame, dst, src) = admit(wire, self.port, self.switch.reserved)?;
        let vlan = if POLICY {
            self.classify(frame.frame())?
        } else {
            FrameVlan::default()
        };
        if POLICY {
            self.check_rules(&frame, true, u64_to_mac(src), vlan)?;
        }
        if dst == PROBE && src == PROBER && self.catch_probe(frame.frame(), notice)? {
            // Another switch's: it goes on, and is nobody's station.
        } else if POLICY {
            self.learn_by_policy(FdbKey::new(vlan.id(), src), notice)?;
        } else {
            self.learn(FdbKey::new(NO_VLAN, src), LearnRule::PLAIN, notice);
        }
        let output = self.look_up(vlan, dst);
        match output {
            Output::Port(egress) => self.may_leave::<POLICY>(egress, vlan)?,
            Output::Flood(_) => self.may_flood(dst, wire)?,
        }
        Ok((vlan, output))
    }

    /// The VLAN that the frame is in, on a switch that tells them apart.
    #[inline]
    pub(super) fn classify(&self, frame: &[u8]) -> Result<FrameVlan, DropReason> {
        if self.switch.vlan_aware {
            self.port.policy().vlan.classify(frame)
        } else {
            Ok(FrameVlan::default())
        }
    }

    /// Pinned addresses and access control list of the ingress port. `counts`: it counts as a hit of rules and of their rates.
    #[inline]
    pub(super) fn check_rules(
        &self,
        frame: &Checked<'_>,
        counts: bool,
        src: Mac,
        vlan: FrameVlan,
    ) -> Result<(), DropReason> {
        let policy = self.port.policy();
        if policy.pin.is_none() && policy.acl_in.is_none() {
            return Ok(());
        }
        let reading = frame.read();
        if let Some(pin) = &policy.pin {
            pin.check(&reading, src)?;
        }
        let Some(acl) = &policy.acl_in else { return Ok(()) };
        let checked = if counts {
            acl.check(&reading, || frame.wire_size(), vlan.id())
        } else {
            acl.would_check(&reading, vlan.id())
        };
        checked.map_err(Refused::ingress)
    }

    /// A probe of this switch has come to its end here. Whether the frame is one of another switch: it is flooded like others, but
    /// not learned. What a rule of the port drops never gets here, so neither forged probes nor those of a loop that the rules cut.
    #[cold]
    fn catch_probe(&self, frame: &[u8], notice: &mut impl FnMut(Notice)) -> Result<bool, DropReason> {
        if self.port.policy().learning.locked {
            // It has no station of this address.
            return Ok(false);
        }
        let Some(probe) = Probe::parse(frame, self.switch.token) else {
            return Ok(is_probe(frame));
        };
        let sender = self.snapshot.port(probe.port);
        if let Some(sender) = sender.filter(|sender| sender.switch == self.port.switch)
            && probe.is_claimed_from(&sender.probe)
        {
            notice(Notice::LoopFound(sender.port_ref(), probe.nonce));
        }
        Err(DropReason::LoopProbe)
    }

    #[inline(always)]
    fn learn(&self, key: FdbKey, rule: LearnRule, notice: &mut impl FnMut(Notice)) -> Learned {
        let learned = self.switch.fdb.learn(key, self.port.id, self.now, rule);
        match learned {
            Learned::Known | Learned::Full | Learned::Limited => {}
            Learned::New => notice(Notice::Learned(key.mac())),
            Learned::Moved(from) => notice(Notice::Moved(key, from)),
        }
        learned
    }

    fn learn_by_policy(&self, key: FdbKey, notice: &mut impl FnMut(Notice)) -> Result<(), DropReason> {
        let policy = self.port.policy();
        if policy.learning.locked {
            return match self.switch.fdb.lookup(key) {
                Some(port) if port == self.port.id => Ok(()),
                _ => Err(DropReason::Locked),
            };
        }
        if self.learns_in(key.vlan()) {
            let rule = policy.learn_rule(self.switch.vlan_limit);
            if self.learn(key, rule, notice) == Learned::Limited && policy.drops_beyond_limit() {
                if policy.learning.beyond == BeyondLimit::Shut {
                    notice(Notice::LimitReached);
                }
                return Err(DropReason::MacLimit);
            }
        }
        Ok(())
    }

    /// Whether new stations of a VLAN are learned at the port; locked ports learn nothing besides.
    #[inline]
    pub(super) fn learns_in(&self, vlan: u16) -> bool {
        self.port.policy().learning.enabled && !self.switch.rspan.iter().any(|rspan| rspan.get() == vlan)
    }

    /// An entry whose port is down, going away or a mirror's is as good as none. 00:00:00:00:00:00 is nobody, and the key of no
    /// entry.
    #[inline(always)]
    pub(super) fn look_up(&self, vlan: FrameVlan, dst: u64) -> Output<'a> {
        let flood = &self.switch.flood;
        if is_group(dst) {
            return Output::Flood(if dst == BROADCAST {
                &flood.broadcast
            } else {
                &flood.multicast
            });
        }
        let known = self.switch.fdb.lookup(FdbKey::new(vlan.id(), dst));
        match known.filter(|egress| {
            dst != 0
                && self
                    .snapshot
                    .port(*egress)
                    .is_some_and(|port| port.up && !port.mirror_only)
        }) {
            Some(egress) => Output::Port(egress),
            None => Output::Flood(&flood.unknown_unicast),
        }
    }

    /// Storm control.
    #[inline]
    fn may_flood(&self, dst: u64, wire: &[u8]) -> Result<(), DropReason> {
        match &self.port.traffic {
            Some(traffic) if !traffic.may_flood(u64_to_mac(dst), wire) => Err(DropReason::Storm),
            _ => Ok(()),
        }
    }

    /// Whether a frame, for the station behind `egress` or flooded, may go there.
    #[inline]
    pub(super) fn may_leave<const POLICY: bool>(&self, egress: PortId, vlan: FrameVlan) -> Result<(), DropReason> {
        if egress == self.port.id && !(POLICY && self.port.policy().flooding.hairpin) {
            return Err(DropReason::SamePort);
        }
        if POLICY && let Some(port) = self.snapshot.port(egress) {
            let policy = port.policy();
            if self.switch.vlan_aware && !policy.vlan.is_member(vlan.id()) {
                return Err(DropReason::VlanFiltered);
            }
            if egress != self.port.id && !self.port.policy().reaches(policy) {
                return Err(DropReason::Isolated);
            }
        }
        Ok(())
    }
}

/// What was proven of a frame, and destination and source, as numbers, of one that may enter the switch, or why it may not.
#[inline(always)]
pub(super) fn admit<'a>(
    wire: &'a [u8],
    port: &PortEntry,
    reserved: ReservedMulticast,
) -> Result<(Checked<'a>, u64, u64), DropReason> {
    let checked = Checked::new(wire).map_err(|error| match error {
        CheckError::Runt => DropReason::Runt,
        CheckError::Malformed(_) => DropReason::Malformed,
    })?;
    let frame = checked.frame();
    let ethernet = frame.first_chunk::<ETH_HLEN>().ok_or(DropReason::Runt)?;
    // Room for two tags, which the MTU does not count (as Linux does for one).
    let longest = port.mtu as usize + ETH_HLEN + MAX_TAGS * VLAN_HLEN;
    // A frame that fills its buffer may have been cut off.
    if frame.len() > longest && (checked.header().gso == Gso::None || frame.len() >= MAX_FRAME) {
        return Err(DropReason::Oversize);
    }
    // Each is loaded with the two octets behind it, which go.
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    let dst = u64::from_be_bytes([d0, d1, d2, d3, d4, d5, s0, s1]) >> 16;
    let src = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, t0, t1]) >> 16;
    if is_group(src) {
        return Err(DropReason::MulticastSource);
    }
    if src == 0 {
        return Err(DropReason::ZeroSource);
    }
    if is_group(dst) && is_reserved_multicast(u64_to_mac(dst)) {
        match reserved {
            ReservedMulticast::All => {}
            ReservedMulticast::Lldp if dst == LLDP => {}
            _ => return Err(DropReason::ReservedMulticast),
        }
    }
    Ok((checked, dst, src))
}
