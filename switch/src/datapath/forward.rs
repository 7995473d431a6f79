//! From a batch to output lists: ingress checks, learning, look-up.

use vswitch_api::{Mac, ReservedMulticast};

use super::PortId;
use super::counters::DropReason;
use super::fdb::{Fdb, FdbKey, Learned};
use super::snapshot::{PortEntry, Snapshot, SwitchEntry};
use crate::frame::{
    ETH_HLEN, Gso, MAX_FRAME, MAX_TAGS, VLAN_HLEN, VNET_HDR_LEN, VnetHeader, is_reserved_multicast, mac_to_u64,
};
use crate::port::Batch;

/// 01-80-C2-00-00-0E, nearest bridge: LLDP (IEEE 802.1AB-2016 table 7-1).
const LLDP: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

/// What a batch is to become: for each port the frames to send, by their index in the batch.
#[derive(Default)]
pub struct OutputLists {
    lists: Vec<Vec<u8>>,
    touched: Vec<PortId>,
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
    Moved(Mac, PortId),
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
    batch: &Batch,
    snapshot: &Snapshot,
    port: &PortEntry,
    worker: usize,
    now: u32,
    lists: &mut OutputLists,
    mut notice: impl FnMut(Notice),
) {
    let counters = &port.counters[worker];
    counters.rx_frames.add(batch.len() as u64);
    let Some(switch) = snapshot.switch(port.switch).filter(|_| port.up) else {
        let bytes = (0..batch.len()).map(|i| batch.frame(i).len() as u64).sum();
        counters.rx_bytes.add(bytes);
        counters.drop_frames(DropReason::PortDown, batch.len() as u64);
        return;
    };
    let mut tally = Tally::default();
    for i in 0..batch.len() {
        let frame = batch.frame(i);
        tally.bytes += frame.len() as u64;
        let (dst, src) = match admit(frame, batch.wire(i), port, switch.reserved) {
            Ok(addresses) => addresses,
            Err(reason) => {
                counters.drop_frame(reason);
                continue;
            }
        };
        learn(&switch.fdb, src, port.id, now, &mut notice);
        match look_up(snapshot, switch, dst) {
            Some(egress) if egress == port.id => counters.drop_frame(DropReason::SamePort),
            Some(egress) => {
                tally.forwarded += 1;
                lists.push(egress, i);
            }
            None => {
                tally.flooded += 1;
                for egress in flood(switch, port) {
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

/// Destination and source of a frame that may enter the switch, or why it may not.
#[inline]
pub(super) fn admit(
    frame: &[u8],
    wire: &[u8],
    port: &PortEntry,
    reserved: ReservedMulticast,
) -> Result<(Mac, Mac), DropReason> {
    let header = wire.first_chunk::<VNET_HDR_LEN>().ok_or(DropReason::Runt)?;
    let header = VnetHeader::parse(header).map_err(|_| DropReason::Malformed)?;
    let ethernet = frame.first_chunk::<ETH_HLEN>().ok_or(DropReason::Runt)?;
    header.check(frame.len()).map_err(|_| DropReason::Malformed)?;
    // Room for two tags, which the MTU does not count (as Linux does for one).
    let longest = port.mtu as usize + ETH_HLEN + MAX_TAGS * VLAN_HLEN;
    // A frame that fills its buffer may have been cut off.
    if frame.len() > longest && (header.gso == Gso::None || frame.len() >= MAX_FRAME) {
        return Err(DropReason::Oversize);
    }
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _] = *ethernet;
    let (dst, src) = (Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5]));
    if !src.is_unicast() {
        let reason = if src.is_multicast() {
            DropReason::MulticastSource
        } else {
            DropReason::ZeroSource
        };
        return Err(reason);
    }
    if is_reserved_multicast(dst) {
        match reserved {
            ReservedMulticast::All => {}
            ReservedMulticast::Lldp if dst == LLDP => {}
            _ => return Err(DropReason::ReservedMulticast),
        }
    }
    Ok((dst, src))
}

#[inline]
fn learn(fdb: &Fdb, src: Mac, port: PortId, now: u32, notice: &mut impl FnMut(Notice)) {
    match fdb.learn(FdbKey::new(0, mac_to_u64(src)), port, now) {
        Learned::Known | Learned::Full => {}
        Learned::New => notice(Notice::Learned(src)),
        Learned::Moved(from) => notice(Notice::Moved(src, from)),
    }
}

/// Where a frame from `port` is flooded to.
#[inline]
pub(super) fn flood(switch: &SwitchEntry, port: &PortEntry) -> impl Iterator<Item = PortId> {
    switch.flood.iter().filter(|egress| *egress != port.id)
}

/// The port to send to; none: flood. An entry whose port is down, going away or a mirror's is as good as none.
#[inline]
pub(super) fn look_up(snapshot: &Snapshot, switch: &SwitchEntry, dst: Mac) -> Option<PortId> {
    if dst.is_multicast() {
        return None;
    }
    let egress = switch.fdb.lookup(FdbKey::new(0, mac_to_u64(dst)))?;
    snapshot
        .port(egress)
        .filter(|port| port.up && !port.mirror_only)
        .map(|port| port.id)
}
