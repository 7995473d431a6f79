//! The kernel fast path: which frames the kernel may forward by itself, and the tables by which it does.
//!
//! `bpf/fastpath.c` has the programs, [`vswitch_linux::bpf`] loads them and reads and writes their maps. Here is the rest: which
//! port has which slot of the maps, the copy of the FDB ([`replica`]), and what a new daemon takes over from the one before
//! ([`FastPath::claim`], [`FastPath::leftovers`]).
//!
//! # The invariant
//!
//! *A station is in the map if and only if the FDB of its switch has it behind a port that is in the datapath and has a slot,
//! and then behind the same port.* A frame is forwarded in the kernel only if its source is in the map under the name of the
//! ingress port's switch and the VLAN that the frame is in there, at the very port that it came from; if its destination is in
//! the map under the same; and if both ports are marked as direct ([`Offload::set_direct`](vswitch_datapath::offload::Offload::set_direct)) and in that VLAN. It leaves with the
//! tag that the daemon would have given it. Which VLAN that is the program finds out as [`vswitch_datapath`] does, for frames
//! with one customer tag or none; others are the daemon's on a switch that tells VLANs apart, and payload on one that does not.
//! So the kernel sends a frame only where the daemon would have sent it.
//!
//! *A list of the ports that a switch floods to is in the kernel only while the kernel may send to each of them whatever is flooded
//! ([`flood`]).* With it a frame for a group or for a station that is not in the map goes to all of them, if its source is
//! known as above. While a port of the list is not direct, whatever the list says, floods are the daemon's. So a port is taken from
//! the kernel's floods by the same step that takes it from unicast; the list itself changes after.
//!
//! It holds since each change of an FDB is written to the map under the lock of the FDB's writer, and since a slot is
//! taken from a port only after the port has ceased to be direct and its stations are out of the FDB. There is
//! this much delay: a program that is running uses what it read when it began, which is some microseconds ago. Where a command has
//! to be able to say that it is over, it waits for those ([`vswitch_linux::bpf::settle`]): a port that goes down or asks for the daemon, an entry that is
//! removed by hand, a port that the kernel does not reach. A port that is deleted needs no such wait, since the kernel does that itself as the near end goes.
//!
//! While no daemon runs, nothing is learned and nothing ages: the maps stay as they were, and stations that move
//! are found again by the next daemon. Until that one has all ports the kernel goes by what the one before left; then it takes over the stations
//! of the ports it finds unchanged and removes all others.

mod flood;
mod port;
mod replica;
mod slots;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vswitch_api::{Mac, SwitchName};

pub use port::{Counted, FastPort, NearEnd, Splice};

use flood::Floods;
use replica::SwitchReplica;
use slots::Slots;
use vswitch_datapath::frame::mac_to_u64;
use vswitch_datapath::offload::Direct;
use vswitch_datapath::punt::Punt;
use vswitch_datapath::vlan::{NO_VLAN, VlanPort};
use vswitch_datapath::{PortId, Replica};
use vswitch_linux::KernelError;
use vswitch_linux::bpf::{
    ACCEPT_TAGGED, ACCEPT_UNTAGGED, Bpf, DIRECT, EVERY_VLAN, Left, NO_NATIVE, PAYLOAD_TAGS, PortRecord, Program,
    SwitchKey, TRUNK, VlanBits, settle, unmount,
};

/// What the programs may forward of a port, in their words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Permit {
    /// Native VLAN.
    vlan: u16,
    /// Those of the record.
    flags: u16,
    /// VLANs besides the native one, if it is in some but not in all.
    members: Option<Arc<VlanBits>>,
}

impl From<&Direct> for Permit {
    fn from(direct: &Direct) -> Self {
        match direct {
            Direct::Plain => Self {
                vlan: NO_VLAN,
                flags: DIRECT | PAYLOAD_TAGS | ACCEPT_UNTAGGED,
                members: None,
            },
            Direct::InVlans(port) => Self::in_vlans(port),
        }
    }
}

impl Permit {
    fn in_vlans(port: &VlanPort) -> Self {
        let everywhere = port.native() == Some(NO_VLAN);
        let trunk = port.has_customer_tags() && !port.is_in_native_only();
        let flag = |flag: u16, set: bool| if set { flag } else { 0 };
        Self {
            vlan: port.native().unwrap_or(NO_NATIVE),
            flags: DIRECT
                | flag(ACCEPT_UNTAGGED, port.accepts_untagged())
                | flag(ACCEPT_TAGGED, port.has_customer_tags() && port.accepts_tagged())
                | flag(TRUNK, trunk)
                | flag(EVERY_VLAN, everywhere),
            members: (trunk && !everywhere).then(|| port.members().clone()),
        }
    }

    /// Whether the port is in a VLAN.
    fn is_in(&self, vlan: u16) -> bool {
        let bit = |members: &Arc<VlanBits>| {
            members
                .get(usize::from(vlan) / 64)
                .is_some_and(|word| word >> (vlan % 64) & 1 != 0)
        };
        self.vlan == vlan || self.flags & EVERY_VLAN != 0 || self.members.as_ref().is_some_and(bit)
    }
}

/// The fast path of one daemon.
#[derive(Debug)]
pub struct FastPath {
    kernel: Bpf,
    /// What agents want and the programs know.
    left: Vec<Left>,
    root: PathBuf,
    /// The daemon is leaving: what the kernel has is not changed any more.
    frozen: AtomicBool,
    slots: Mutex<Slots>,
    /// Slots of the ports in the datapath.
    by_port: Mutex<HashMap<PortId, u16>>,
    /// Devices that are ports, and the ends of veth pairs beside them.
    spliced: Mutex<BTreeSet<u32>>,
    floods: Mutex<Floods>,
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

/// What the programs are told of an entry: they leave its frames to the daemon whatever their EtherType is.
fn left(punt: &Punt) -> Left {
    Left {
        dst: mac_to_u64(punt.dst),
        mask: mac_to_u64(punt.mask),
    }
}

impl FastPath {
    /// Loads the programs; links and maps are pinned under `root`. `punts`: what agents want. The calling thread is in the namespace of the near ends.
    ///
    /// # Errors
    /// Those of [`Bpf::load`] and [`Bpf::probe`]; nothing is left at `root` then.
    pub fn open(root: &Path, punts: &[Punt]) -> Result<Arc<Self>, KernelError> {
        let left: Vec<_> = punts.iter().map(left).collect();
        let opened = Bpf::load(root, &left).and_then(|kernel| {
            // Whether it can be attached is found out here, once, and not at each port. Nothing uses the own namespace's lo.
            kernel.probe("lo")?;
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
            left,
            root: root.to_owned(),
            frozen: AtomicBool::new(false),
            slots: Mutex::new(slots),
            by_port: Mutex::default(),
            spliced: Mutex::default(),
            floods: Mutex::default(),
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
        self.kernel.release();
        unmount(&self.root);
    }

    /// Pins again what somebody has removed; none if all is there.
    pub fn put_back(&self) -> Option<io::Result<()>> {
        let _slots = lock(&self.slots);
        if self.is_frozen() { None } else { self.kernel.put_back() }
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
        let port = FastPort::new(self.clone(), slot, record, as_it_was);
        if !as_it_was {
            port.write()?;
        }
        port.attach(end)?;
        Ok(port)
    }

    /// When all ports are there: the kernel goes by what this daemon says, and what an earlier one left and nobody claimed goes.
    /// Gives the stations that stay.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let mut slots = lock(&self.slots);
        for slot in slots.adopt() {
            self.write_direct(&slots, slot);
        }
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
            if slots.may_know(place.slot(), &key) {
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

    /// Writes what the kernel may forward of a port. It may do less before.
    fn write_direct(&self, slots: &Slots, slot: u16) {
        let Some((record, permit)) = slots.get(slot) else {
            return;
        };
        let before = self.kernel.port(slot).rules;
        if before.is_direct() && record.rules.is_direct() && before != record.rules {
            // Left so by an earlier daemon. This one changes what is allowed by way of nothing being allowed.
            self.write(
                slot,
                PortRecord {
                    rules: before.shut(),
                    ..*record
                },
            );
            settle();
        }
        // The VLANs stay as long as a program may ask for them that found the port direct.
        if let Some(permit) = permit
            && let Err(error) = self.kernel.set_members(slot, permit.members.as_deref())
        {
            tracing::error!(slot, "can't write the VLANs of a port of the fast path: {error}");
            return;
        }
        self.write(slot, *record);
    }

    /// Writes the record of a port that stays the same but for its rules.
    fn write(&self, slot: u16, record: PortRecord) {
        for rules in self.kernel.port(slot).rules.steps(record.rules) {
            if let Err(error) = self.kernel.set_port(slot, PortRecord { rules, ..record }) {
                tracing::error!(slot, "can't write a port of the fast path: {error}");
                return;
            }
        }
    }

    fn clear(&self, slot: u16) {
        let record = self.kernel.port(slot);
        self.write(
            slot,
            PortRecord {
                rules: record.rules.shut(),
                ..record
            },
        );
        let cleared = self.kernel.set_port(slot, Default::default());
        if let Err(error) = cleared.and_then(|()| self.kernel.set_members(slot, None)) {
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
