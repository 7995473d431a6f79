//! A copy of the forwarding database elsewhere: in the kernel.

use vswitch_api::Mac;

use super::fdb::{EntryKind, Fdb, FdbKey, FdbRecord};
use super::tables::key as key_of;
use super::{Datapath, PortId, SwitchId, SwitchSetup};

/// What a copy is told of, and asked for.
///
/// The calls that tell it of changes are made while the table's writer lock is held. So they come in the order of the
/// changes, and when a change has returned the copy has it too. They must not use the table.
pub trait Replica: Send + Sync {
    /// The station is behind this port now, and behind no other.
    fn set(&self, key: FdbKey, port: PortId, seen: u32);
    /// The station is not in the table any more.
    fn remove(&self, key: FdbKey);
    /// When the copy last saw a frame from the station (seconds of the monotonic clock), if it has the station.
    fn seen(&self, key: FdbKey) -> Option<u32>;
}

impl Datapath {
    /// Adds a switch without ports, with a copy of its FDB that is kept in step.
    pub fn add_replicated_switch(&self, setup: SwitchSetup, replica: Box<dyn Replica>) -> SwitchId {
        let fdb = Fdb::with_replica(setup.fdb_capacity, replica);
        self.add_switch_with(fdb, setup.settings)
    }

    /// Takes over a station that the copy of the FDB has from before; false if the FDB knows it already, or is full.
    pub fn fdb_adopt(&self, id: SwitchId, vlan: u16, mac: Mac, port: PortId, seen: u32) -> bool {
        self.fdb_of(id)
            .is_some_and(|fdb| fdb.adopt(key_of(vlan, mac), port, seen, EntryKind::Learned))
    }

    /// Takes over what an FDB before this one knew of a station that was learned; false if this one knows it already, or is full.
    pub fn fdb_restore(&self, id: SwitchId, record: &FdbRecord) -> bool {
        let (Some(fdb), Some(age)) = (self.fdb_of(id), record.age_secs) else {
            return false;
        };
        let seen = self.seconds().saturating_sub(age);
        fdb.adopt(key_of(record.vlan, record.mac), record.port, seen, record.kind)
    }

    /// Whether the FDB has an entry of either kind for this station.
    pub fn fdb_knows(&self, id: SwitchId, vlan: u16, mac: Mac) -> bool {
        self.fdb_port(id, vlan, mac).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::super::fdb::{FdbFilter, LearnRule};
    use super::*;
    use crate::snapshot::PortSet;

    #[derive(Clone, Default)]
    struct Copy(Arc<Mutex<HashMap<u64, (PortId, u32)>>>);

    impl Replica for Copy {
        fn set(&self, key: FdbKey, port: PortId, seen: u32) {
            self.0.lock().unwrap().insert(index(key), (port, seen));
        }

        fn remove(&self, key: FdbKey) {
            self.0.lock().unwrap().remove(&index(key));
        }

        fn seen(&self, key: FdbKey) -> Option<u32> {
            self.0.lock().unwrap().get(&index(key)).map(|(_, seen)| *seen)
        }
    }

    fn index(key: FdbKey) -> u64 {
        crate::frame::mac_to_u64(key.mac())
    }

    fn key(n: u64) -> FdbKey {
        FdbKey::new(0, n + 1)
    }

    fn places(fdb: &Fdb) -> HashMap<u64, PortId> {
        fdb.records(0)
            .iter()
            .map(|record| (crate::frame::mac_to_u64(record.mac), record.port))
            .collect()
    }

    fn copied(copy: &Copy) -> HashMap<u64, PortId> {
        copy.0
            .lock()
            .unwrap()
            .iter()
            .map(|(key, (port, _))| (*key, *port))
            .collect()
    }

    #[test]
    fn what_the_replica_sees_keeps_an_entry_young() {
        let copy = Copy::default();
        let fdb = Fdb::with_replica(16, Box::new(copy.clone()));
        fdb.learn(key(1), PortId(1), 10, LearnRule::PLAIN);
        fdb.learn(key(2), PortId(1), 10, LearnRule::PLAIN);
        copy.0.lock().unwrap().get_mut(&2).unwrap().1 = 300;
        assert_eq!(fdb.age(310, 300), 1, "the one that was silent");
        assert_eq!(fdb.records(310)[0].age_secs, Some(10));
        assert_eq!(fdb.age(600, 300), 1);
        assert!(copy.0.lock().unwrap().is_empty());
    }

    #[test]
    fn what_was_learned_meanwhile_is_not_overwritten_by_what_is_adopted() {
        let fdb = Fdb::with_replica(16, Box::<Copy>::default());
        fdb.learn(key(1), PortId(1), 10, LearnRule::PLAIN);
        let adopt = |n| fdb.adopt(key(n), PortId(2), 5, EntryKind::Learned);
        assert!(!adopt(1) && adopt(2));
        assert_eq!(
            (fdb.lookup(key(1)), fdb.lookup(key(2))),
            (Some(PortId(1)), Some(PortId(2)))
        );
    }

    #[test]
    fn after_a_storm_by_many_threads_the_replica_equals_the_table() {
        let copy = Copy::default();
        let fdb = Fdb::with_replica(64, Box::new(copy.clone()));
        std::thread::scope(|scope| {
            for port in 0..4u16 {
                let fdb = &fdb;
                scope.spawn(move || {
                    for n in 0..20_000u64 {
                        fdb.learn(key(n * 7 % 16), PortId(port), 1, LearnRule::PLAIN);
                        if n % 97 == 0 {
                            fdb.flush(FdbFilter::of_port(PortId(port)));
                        }
                    }
                });
            }
        });
        assert_eq!(places(&fdb), copied(&copy));
    }

    proptest! {
        #[test]
        fn after_each_change_the_replica_equals_the_table(
            steps in prop::collection::vec((0u8..7, 0u64..40, 0u16..4), 1..300)
        ) {
            let copy = Copy::default();
            let fdb = Fdb::with_replica(32, Box::new(copy.clone()));
            for (time, (step, n, port)) in steps.into_iter().enumerate() {
                let (time, port) = (time as u32, PortId(port));
                match step {
                    0..3 => drop(fdb.learn(key(n), port, time, LearnRule::PLAIN)),
                    3 => drop(fdb.add_static(key(n), port)),
                    4 => drop(fdb.remove(key(n))),
                    5 => drop(fdb.age(time, 20)),
                    _ => {
                        let mut ports = PortSet::default();
                        ports.set(port, true);
                        fdb.forget_ports(&ports);
                    }
                }
                prop_assert_eq!(places(&fdb), copied(&copy));
            }
        }
    }
}
