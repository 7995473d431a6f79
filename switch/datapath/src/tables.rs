//! What control reads and sets in the tables: FDBs and counters.

use std::sync::Arc;

use vswitch_api::Mac;
use vswitch_api::view::PortCounters;

use super::fdb::{Fdb, FdbFilter, FdbFull, FdbKey, FdbRecord};
use super::handle::Datapath;
use super::snapshot::PortEntry;
use super::{DropReason, PortId, PortRef, SwitchId};
use crate::frame::mac_to_u64;

impl Datapath {
    /// Counters of a port since it was added.
    pub fn counters(&self, port: PortRef) -> PortCounters {
        self.snapshot()
            .find(port)
            .map_or_else(PortCounters::default, |port| port.counted())
    }

    pub(super) fn fdb_of(&self, id: SwitchId) -> Option<Arc<Fdb>> {
        self.snapshot().switch(id).map(|switch| switch.fdb.clone())
    }

    /// All entries of the FDB of a switch.
    pub fn fdb(&self, id: SwitchId) -> Vec<FdbRecord> {
        self.fdb_of(id).map_or_else(Vec::new, |fdb| fdb.records(self.seconds()))
    }

    /// Number of entries in the FDB of a switch.
    pub fn fdb_len(&self, id: SwitchId) -> u32 {
        self.fdb_of(id).map_or(0, |fdb| fdb.len())
    }

    /// How often a station could not be learned since the FDB was full.
    pub fn fdb_full(&self, id: SwitchId) -> u64 {
        self.fdb_of(id).map_or(0, |fdb| fdb.full_count())
    }

    /// How often a station of a switch was seen on another port than before.
    pub fn fdb_moves(&self, id: SwitchId) -> u64 {
        self.fdb_of(id).map_or(0, |fdb| fdb.move_count())
    }

    /// Number of FDB entries of each port of a switch, by port index; ports after the last that has one are left out.
    pub fn fdb_counts(&self, id: SwitchId) -> Vec<u32> {
        self.fdb_of(id).map_or_else(Vec::new, |fdb| fdb.counts())
    }

    /// VLANs of a switch in which stations were learned, with their number; 0 is that of frames without one.
    pub fn fdb_learned_by_vlan(&self, id: SwitchId) -> Vec<(u16, u32)> {
        self.fdb_of(id).map_or_else(Vec::new, |fdb| fdb.learned_by_vlan())
    }

    /// Sets an FDB entry by hand; where there is no room one that was learned is forgotten for it. Nobody looks whether there is such a port: frames for a station behind one that is not there are flooded. For
    /// 00:00:00:00:00:00, which is nobody's address, and for a switch that is not there nothing is set; no frame is held against a group address, or
    /// against a VLAN beyond 4094.
    ///
    /// # Errors
    /// The FDB is full of entries that were set by hand.
    pub fn fdb_add_static(&self, id: SwitchId, vlan: u16, mac: Mac, port: PortId) -> Result<(), FdbFull> {
        self.fdb_of(id)
            .map_or(Ok(()), |fdb| fdb.add_static(key(vlan, mac), port))
    }

    /// Removes an FDB entry of either kind; false if there is none.
    pub fn fdb_remove(&self, id: SwitchId, vlan: u16, mac: Mac) -> bool {
        self.fdb_of(id).is_some_and(|fdb| fdb.remove(key(vlan, mac)))
    }

    /// Removes an FDB entry that was learned, if it is behind this port (none: behind any); false if there is none.
    pub fn fdb_remove_learned(&self, id: SwitchId, vlan: u16, mac: Mac, port: Option<PortId>) -> bool {
        self.fdb_of(id)
            .is_some_and(|fdb| fdb.remove_learned(key(vlan, mac), port))
    }

    /// The port that a station is behind, by the FDB.
    pub fn fdb_port(&self, id: SwitchId, vlan: u16, mac: Mac) -> Option<PortId> {
        let fdb = self.fdb_of(id)?;
        fdb.lookup(key(vlan, mac)).filter(|_| mac != Mac([0; 6]))
    }

    /// Removes an FDB entry that was set by hand, if it is behind this port.
    pub fn fdb_remove_static(&self, id: SwitchId, vlan: u16, mac: Mac, port: PortId) {
        if let Some(fdb) = self.fdb_of(id) {
            fdb.remove_static(key(vlan, mac), port);
        }
    }

    /// Removes learned FDB entries; returns how many.
    pub fn fdb_flush(&self, id: SwitchId, filter: FdbFilter) -> u32 {
        self.fdb_of(id).map_or(0, |fdb| fdb.flush(filter))
    }

    /// Nothing ages by itself: this is called every few seconds, say. Removes the learned FDB entries not seen for `ageing_secs` (0 = never); returns how many.
    pub fn age(&self, id: SwitchId, ageing_secs: u32) -> u32 {
        if ageing_secs == 0 {
            return 0;
        }
        self.fdb_of(id).map_or(0, |fdb| fdb.age(self.seconds(), ageing_secs))
    }
}

impl PortEntry {
    /// How many of its frames were flooded.
    pub(super) fn flooded(&self) -> u64 {
        let mut by_offload = PortCounters::default();
        if let Some(offload) = self.io.offload() {
            offload.add_to(&mut by_offload);
        }
        let workers = self.counters.iter().map(|counters| counters.rx_flooded.get());
        by_offload.rx_flooded + workers.sum::<u64>()
    }

    /// Counters of the port since it was added; also of one that was removed.
    pub fn counted(&self) -> PortCounters {
        let mut total = PortCounters::default();
        self.counters.iter().for_each(|counters| counters.add_to(&mut total));
        self.traffic.iter().for_each(|traffic| traffic.add_to(&mut total));
        if let Some(offload) = self.io.offload() {
            offload.add_to(&mut total);
        }
        let overruns = self.io.overruns();
        if overruns > 0 {
            total.rx_frames += overruns;
            total.rx_drops.insert(DropReason::Overrun.as_str().to_owned(), overruns);
        }
        total
    }
}

pub(super) fn key(vlan: u16, mac: Mac) -> FdbKey {
    FdbKey::new(vlan, mac_to_u64(mac))
}
