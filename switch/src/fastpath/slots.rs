//! Places of ports in the kernel's maps.

use std::collections::{BTreeSet, HashMap};
use std::io;

use super::Permit;
use vswitch_linux::KernelError;
use vswitch_linux::bpf::{Bpf, LONG_WAY, MAX_SLOTS, NO_CARRIER, PortRecord, Rules, StationKey};

/// Which slot is whose.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: HashMap<u16, (PortRecord, Option<Permit>)>,
    /// Left by an earlier daemon, and not claimed yet.
    unclaimed: HashMap<u16, PortRecord>,
    next: u16,
    /// All ports are there: the kernel goes by what this daemon says.
    adopted: bool,
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
            self.taken.insert(slot, (*record, None));
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
        self.taken.insert(slot, (*record, None));
        Ok((slot, false))
    }

    /// The record of the port of a slot, and what it is made of.
    pub fn get(&self, slot: u16) -> Option<&(PortRecord, Option<Permit>)> {
        self.taken.get(&slot)
    }

    /// Whether the port of a slot can have a station in the map under this key.
    pub fn may_know(&self, slot: u16, key: &StationKey) -> bool {
        self.taken.get(&slot).is_some_and(|(record, permit)| {
            // Of a port that leaves its frames to the daemon no VLAN is known here.
            let in_vlan = permit.as_ref().map_or(key.vlan == 0, |permit| permit.is_in(key.vlan));
            record.switch == key.switch && in_vlan
        })
    }

    /// Says what the kernel may do with the frames of a port; whether that is to be written.
    pub fn set_direct(&mut self, slot: u16, permit: Option<Permit>) -> bool {
        let Some((record, old)) = self.taken.get_mut(&slot) else {
            return false;
        };
        record.rules = match &permit {
            Some(permit) => Rules::new(
                permit.flags | (record.rules.flags() & (LONG_WAY | NO_CARRIER)),
                permit.vlan,
            ),
            None => record.rules.shut(),
        };
        *old = permit;
        self.adopted
    }

    /// Says how frames get to the station behind a slot, by [`LONG_WAY`] or [`NO_CARRIER`]; whether that is to be written.
    pub fn set_flag(&mut self, slot: u16, flag: u16, set: bool) -> bool {
        let Some((record, _)) = self.taken.get_mut(&slot) else {
            return false;
        };
        let rules = record.rules.with(flag, set);
        let changed = record.rules != rules;
        record.rules = rules;
        changed && self.adopted
    }

    /// All ports are there. Gives their slots.
    pub fn adopt(&mut self) -> Vec<u16> {
        self.adopted = true;
        self.taken.keys().copied().collect()
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
            .flat_map(|(record, _)| [record.near, record.shadow])
            .collect()
    }
}

/// The record of a port whose frames are all the daemon's.
fn without(record: &PortRecord) -> PortRecord {
    PortRecord {
        rules: Rules::default(),
        ..*record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_linux::bpf::DIRECT;

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
            rules: Rules::new(DIRECT, 0),
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
