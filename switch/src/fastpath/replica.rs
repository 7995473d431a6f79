//! The copy of an FDB in the kernel's map.

use std::sync::Arc;

use vswitch_api::Mac;

use super::{FastPath, lock};
use vswitch_datapath::fdb::FdbKey;
use vswitch_datapath::frame::mac_to_u64;
use vswitch_datapath::{PortId, Replica};
use vswitch_linux::bpf::{PlaceValue, StationKey, SwitchKey};

/// The stations of one switch.
pub(super) struct SwitchReplica {
    fast: Arc<FastPath>,
    switch: SwitchKey,
}

impl SwitchReplica {
    pub fn new(fast: Arc<FastPath>, switch: SwitchKey) -> Self {
        Self { fast, switch }
    }

    fn key(&self, key: FdbKey) -> StationKey {
        self::key(self.switch, key.vlan(), key.mac())
    }
}

pub(super) fn key(switch: SwitchKey, vlan: u16, mac: Mac) -> StationKey {
    StationKey {
        switch,
        vlan,
        mac: mac.0,
    }
}

impl Replica for SwitchReplica {
    fn set(&self, key: FdbKey, port: PortId, seen: u32) {
        if self.fast.is_frozen() {
            return;
        }
        let slot = lock(&self.fast.by_port).get(&port).copied();
        let inserted = slot.is_some_and(|slot| {
            let place = PlaceValue::new(slot, mac_to_u64(key.mac()), seen);
            // An error: the map is full. Without an entry the station's frames go to the daemon, which alone knows then that
            // they are not to be flooded.
            let inserted = self.fast.kernel.insert(&self.key(key), place).is_ok();
            if !inserted {
                self.fast.stop_floods();
            }
            inserted
        });
        if !inserted {
            // It may have been behind another port before.
            self.fast.kernel.remove(&self.key(key));
        }
    }

    fn remove(&self, key: FdbKey) {
        if !self.fast.is_frozen() {
            self.fast.kernel.remove(&self.key(key));
        }
    }

    fn seen(&self, key: FdbKey) -> Option<u32> {
        self.fast.kernel.station(&self.key(key)).map(|place| place.seen)
    }
}
