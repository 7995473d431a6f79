//! The kernel fast path: which frames the kernel may forward by itself, and the tables by which it does.
//!
//! `bpf/fastpath.c` has the programs, [`crate::kernel::bpf`] loads them and reads and writes their maps. Here is the rest: which
//! port has which slot of the maps, the copy of the FDB ([`replica`]), and what a new daemon takes over from the one before
//! ([`FastPath::claim`], [`FastPath::leftovers`]).
//!
//! # The invariant
//!
//! *A station is in the map if and only if the FDB of its switch has it behind a port that is in the datapath and has a slot,
//! and then behind the same port.* A frame is forwarded in the kernel only if source and destination are in the map under the
//! name of one switch and in the VLAN that untagged frames of the ingress port are in, the source at the very port that the
//! frame came from, if both ports are marked as direct ([`FastPort::set_direct`]), and if untagged frames of the egress port are
//! in the same VLAN: then it goes out as it came in. One with a tag is forwarded on a switch only that does not tell VLANs apart.
//! So the kernel sends a frame only where the daemon would have sent it.
//!
//! It holds since each change of an FDB is written to the map under the lock of the FDB's writer, and since a slot is
//! taken from a port only after the port has ceased to be direct and its stations are out of the FDB. There is
//! this much delay: a program that is running uses what it read when it began, which is some microseconds ago. Where a command has
//! to be able to say that it is over, it waits for those ([`crate::kernel::bpf::settle`]): a port that goes down or asks for the daemon, an entry that is
//! removed by hand. A port that is deleted needs no such wait, since the kernel does that itself as the near end goes.
//!
//! While no daemon runs, nothing is learned and nothing ages: the map stays as it was, and stations that move
//! are found again by the next daemon. That one takes over the stations of the ports it finds unchanged and removes all others.

mod port;
mod replica;
mod slots;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vswitch_api::{Mac, SwitchName};

pub use port::{FastPort, NearEnd, Splice};

use crate::datapath::snapshot::{PortEntry, Snapshot};
use crate::datapath::{PortId, Replica};
use crate::kernel::KernelError;
use crate::kernel::bpf::{Bpf, Program, SwitchKey, unmount};
use replica::SwitchReplica;
use slots::Slots;

/// Index of `lo` in every namespace (the kernel's LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;

/// Frames from and to a port that the kernel may forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// VLAN of those without a tag; they go to ports of the same one.
    pub vlan: u16,
    /// Those with tags too, which say nothing on their switch.
    pub tags: bool,
}

/// What of the frames from and to this port, by itself, may pass the daemon by. None: nothing.
///
/// Who adds a feature that acts on the frames of a port asks for them here.
pub fn direct(snapshot: &Snapshot, port: &PortEntry) -> Option<Direct> {
    // A port without offloads is sent frames that the daemon has segmented and summed.
    let needs_userspace = !port.up
        || !port.offload
        || port.mirror_only
        || port.traffic.is_some()
        || port.taps.is_some()
        || snapshot.is_mirrored(port);
    let switch = snapshot.switch(port.switch).filter(|_| !needs_userspace)?;
    Some(Direct {
        vlan: port.policy().direct_vlan()?,
        tags: !switch.vlan_aware,
    })
}

/// The fast path of one daemon.
#[derive(Debug)]
pub struct FastPath {
    kernel: Bpf,
    root: PathBuf,
    /// The daemon is leaving: what the kernel has is not changed any more.
    frozen: AtomicBool,
    slots: Mutex<Slots>,
    /// Slots of the ports in the datapath.
    by_port: Mutex<HashMap<PortId, u16>>,
    /// Devices that are ports, and the ends of veth pairs beside them.
    spliced: Mutex<BTreeSet<u32>>,
}

/// A station that an earlier daemon left in the map, behind a port that was taken over.
#[derive(Clone, Copy, Debug)]
pub struct Leftover {
    /// The switch.
    pub switch: SwitchKey,
    /// Its VLAN; 0 for none.
    pub vlan: u16,
    /// The station.
    pub mac: Mac,
    /// Slot of the port.
    pub slot: u16,
    /// When it was last seen.
    pub seen: u32,
}

impl FastPath {
    /// Loads the programs; links and maps are pinned under `root`. The calling thread is in the namespace of the near ends.
    ///
    /// # Errors
    /// Those of [`Bpf::load`] and [`Bpf::choose_hook`]; nothing is left at `root` then.
    pub fn open(root: &Path) -> Result<Arc<Self>, KernelError> {
        let opened = Bpf::load(root).and_then(|mut kernel| {
            // Whether it can be attached is found out here, once, and not at each port. Nothing uses the own namespace's lo.
            kernel.choose_hook("lo", LOOPBACK)?;
            Ok(kernel)
        });
        let kernel = opened.inspect_err(|_| unmount(root))?;
        let slots = Slots::found(&kernel);
        // A slot that is free must not bring stations to the port that it is given to.
        for (key, place) in kernel.stations() {
            if !slots.is_left(place.slot()) {
                kernel.remove(&key);
            }
        }
        Ok(Arc::new(Self {
            kernel,
            root: root.to_owned(),
            frozen: AtomicBool::new(false),
            slots: Mutex::new(slots),
            by_port: Mutex::default(),
            spliced: Mutex::default(),
        }))
    }

    /// From here on the kernel goes on with what it has: the daemon's own tables may be taken apart.
    pub fn freeze(&self) {
        // Under the lock of the slots, which each change of a port holds.
        let _slots = lock(&self.slots);
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Removes all of it from the kernel.
    pub fn remove(&self) {
        self.freeze();
        unmount(&self.root);
    }

    /// What keeps the map in step with the FDB of a switch.
    pub fn replica(self: &Arc<Self>, switch: &SwitchName) -> Box<dyn Replica> {
        Box::new(SwitchReplica::new(self.clone(), switch_key(switch)))
    }

    /// Gives a veth port a slot and attaches the programs: the old slot, with its stations, if an earlier daemon had the same
    /// port on the same interfaces. The calling thread is in the namespace of the near end.
    ///
    /// # Errors
    /// All slots are taken, or the kernel refused a step; nothing is left then.
    pub fn claim(self: &Arc<Self>, end: &NearEnd) -> Result<FastPort, KernelError> {
        let record = end.record();
        let (slot, as_it_was) = lock(&self.slots).claim(&record)?;
        let port = FastPort::new(self.clone(), slot, record, end.dropped);
        if !as_it_was {
            port.write()?;
        }
        port.attach(end)?;
        Ok(port)
    }

    /// When all ports are there: what an earlier daemon left and nobody claimed goes. Gives the stations that stay.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let mut slots = lock(&self.slots);
        for slot in slots.take_unclaimed() {
            self.clear(slot);
        }
        let live: BTreeSet<u32> = slots.interfaces();
        for (index, _) in self
            .kernel
            .slots()
            .into_iter()
            .filter(|(index, _)| !live.contains(index))
        {
            self.kernel.clear_slot(index);
        }
        let spliced = lock(&self.spliced).clone();
        for index in self.kernel.splices() {
            if !spliced.contains(&index) {
                self.kernel.clear_splice(index);
            }
        }
        for (program, live) in [(Program::FromStation, &live), (Program::FromDevice, &spliced)] {
            for index in self.kernel.attached(program) {
                if !live.contains(&index) {
                    self.kernel.detach(program, index);
                }
            }
        }
        let mut stay = Vec::new();
        for (key, place) in self.kernel.stations() {
            let port = slots.record(place.slot());
            if port.is_some_and(|record| record.switch == key.switch && record.vlan == key.vlan) {
                stay.push(Leftover {
                    switch: key.switch,
                    vlan: key.vlan,
                    mac: Mac(key.mac),
                    slot: place.slot(),
                    seen: place.seen,
                });
            } else {
                self.kernel.remove_from(&key, place.slot());
            }
        }
        drop(slots);
        stay
    }

    /// Takes out a leftover that the daemon's own table had no place for.
    pub fn forget(&self, leftover: &Leftover) {
        let key = replica::key(leftover.switch, leftover.vlan, leftover.mac);
        self.kernel.remove_from(&key, leftover.slot);
    }

    fn clear(&self, slot: u16) {
        if let Err(error) = self.kernel.set_port(slot, Default::default()) {
            tracing::error!(slot, "can't clear a port of the fast path: {error}");
        }
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }
}

/// The name as it is in the maps.
pub fn switch_key(name: &SwitchName) -> SwitchKey {
    let mut key = SwitchKey::default();
    // At most 15 bytes (NAME_MAX), so none is cut and no two are the same.
    key.iter_mut()
        .zip(name.as_str().bytes())
        .for_each(|(to, from)| *to = from);
    key
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
