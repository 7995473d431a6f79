//! Places of ports in the kernel's maps.

use std::collections::{BTreeSet, HashMap};
use std::io;

use super::Direct;
use crate::kernel::KernelError;
use crate::kernel::bpf::{Bpf, DIRECT, MAX_SLOTS, PortRecord, TAGS};

/// Which slot is whose.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: HashMap<u16, PortRecord>,
    /// Left by an earlier daemon, and not claimed yet.
    unclaimed: HashMap<u16, PortRecord>,
    next: u16,
}

impl Slots {
    /// What an earlier daemon left.
    pub fn found(kernel: &Bpf) -> Self {
        let records = (0..MAX_SLOTS).map(|slot| (slot, kernel.port(slot)));
        Self {
            unclaimed: records.filter(|(_, record)| record.near != 0).collect(),
            ..Self::default()
        }
    }

    /// Whether an earlier daemon had a port in this slot.
    pub fn is_left(&self, slot: u16) -> bool {
        self.unclaimed.contains_key(&slot)
    }

    /// A slot for a port, and whether it is the one that the very same port had before.
    pub fn claim(&mut self, record: &PortRecord) -> Result<(u16, bool), KernelError> {
        let same = |old: &PortRecord| without(old) == without(record);
        let old = self.unclaimed.iter().find(|(_, old)| same(old)).map(|(slot, _)| *slot);
        if let Some(slot) = old {
            self.unclaimed.remove(&slot);
            self.taken.insert(slot, *record);
            return Ok((slot, true));
        }
        // Round and round, so that a slot rests as long as possible before it is another port's.
        let free = (0..MAX_SLOTS)
            .map(|step| (self.next + step) % MAX_SLOTS)
            .find(|slot| !self.taken.contains_key(slot) && !self.unclaimed.contains_key(slot));
        let slot = free.ok_or_else(|| {
            let cause = io::Error::other(format!("{MAX_SLOTS} ports have it already"));
            KernelError::new("give a port the fast path", cause)
        })?;
        self.next = (slot + 1) % MAX_SLOTS;
        self.taken.insert(slot, *record);
        Ok((slot, false))
    }

    /// What is known of the port of a slot.
    pub fn record(&self, slot: u16) -> Option<&PortRecord> {
        self.taken.get(&slot)
    }

    /// Says what the kernel may do with the frames of a port; gives what to write.
    pub fn set_direct(&mut self, slot: u16, direct: Option<Direct>) -> Option<PortRecord> {
        let record = self.taken.get_mut(&slot)?;
        *record = without(record);
        if let Some(Direct { vlan, tags }) = direct {
            record.flags = DIRECT | if tags { TAGS } else { 0 };
            record.vlan = vlan;
        }
        Some(*record)
    }

    pub fn free(&mut self, slot: u16) {
        self.taken.remove(&slot);
    }

    /// The slots that nobody claimed; they are free from now on.
    pub fn take_unclaimed(&mut self) -> Vec<u16> {
        self.unclaimed.drain().map(|(slot, _)| slot).collect()
    }

    /// Near ends and shadows of all ports.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        self.taken
            .values()
            .flat_map(|record| [record.near, record.shadow])
            .collect()
    }
}

/// The record of a port whose frames are all the daemon's.
fn without(record: &PortRecord) -> PortRecord {
    PortRecord {
        flags: 0,
        vlan: 0,
        ..*record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(near: u32) -> PortRecord {
        PortRecord {
            near,
            shadow: near + 1,
            ..PortRecord::default()
        }
    }

    #[test]
    fn a_slot_is_used_again_last_of_all() {
        let mut slots = Slots::default();
        assert_eq!(slots.claim(&record(1)).unwrap(), (0, false));
        slots.free(0);
        for n in 1..MAX_SLOTS {
            assert_eq!(slots.claim(&record(1)).unwrap(), (n, false));
        }
        assert_eq!(slots.claim(&record(1)).unwrap(), (0, false));
        assert!(slots.claim(&record(1)).is_err());
    }

    #[test]
    fn only_the_same_port_gets_its_old_slot() {
        let left = PortRecord {
            flags: DIRECT,
            ..record(5)
        };
        let mut slots = Slots {
            unclaimed: [(0, left), (1, record(9))].into(),
            ..Slots::default()
        };
        let other = PortRecord {
            mac: [2; 6],
            ..record(9)
        };
        assert_eq!(slots.claim(&other).unwrap(), (2, false));
        assert_eq!(slots.claim(&record(5)).unwrap(), (0, true));
        assert_eq!(slots.take_unclaimed(), [1]);
        assert_eq!(slots.interfaces().into_iter().collect::<Vec<_>>(), [5, 6, 9, 10]);
    }
}
