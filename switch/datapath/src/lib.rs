//! The frame's way through the switch: the datapath of vswitchd, and a library for whoever has frames to switch.
//!
//! [`testing::Switch`] is the shortest way to one, in a time of its own.
//!
//! It knows no kernel but the poller and the clock. Where frames come from and go to is a [`port::PortIo`], of which
//! [`memory::MemoryPort`] is the one that needs nothing; what may forward frames past it is an [`offload::Offload`].
//!
//! A worker is a plain thread that waits on its queues of all ports. From a queue that is ready it takes a *batch* of
//! frames and runs it to completion. `pipeline.rs` has all stages in their order; in short:
//!
//! 1. **ingress**: a frame is dropped, with a [`DropReason`], if its virtio-net header can't be trusted,
//!    if it is shorter than an Ethernet header or longer than the port's MTU allows, or if no station can have sent it;
//! 2. **VLAN admission** ([`vlan`]), the **source guard** ([`pin`]), the access control list ([`acl`]) and the policer ([`traffic`]),
//!    where a port asks for them ([`policy`]);
//! 3. **learn**: the source address is behind this port ([`fdb`]);
//! 4. **look up**: a destination that is known goes to its port; group addresses are never in the table, so broadcast,
//!    multicast and unknown unicast all take the one miss path and are flooded to every other port of the switch;
//! 5. **egress** (`egress`): the batch has become a list of frames for each port. A list is sent with as few system
//!    calls as the port allows. A frame that the port can't take as it is gets segmented and summed here.
//!
//! Between 3 and 4 [`mirror`]s put frames on the list of one more port. A port under capture shows its frames to its
//! [`sniffer`]s, those that come in before 1 and those that go out at 4. [`trace`] runs the same stages with one frame and tells of
//! each step, without a side effect.
//!
//! Nothing is copied on the way: a frame lies where it was received, and lists name it by its index. A frame never
//! crosses a thread, so the frames of a flow stay in order: all of a flow come by one queue.
//!
//! A port that is impaired, policed or limited leaves this way at 1, 2, 3 or 4: see [`traffic`].
//!
//! What the worker reads is an immutable [`snapshot`] that control replaces as a whole; a worker looks once a batch
//! whether there is a newer one. [`handle::Datapath`] is what control holds: it publishes snapshots and waits, where
//! something is to be freed, until every worker has left the old one. Workers allocate nothing per frame, take no lock
//! that control holds for long, and write only counters of their own.

#![deny(unsafe_code)]

pub mod acl;
mod admit;
mod affinity;
pub mod batch;
mod blame;
mod clock;
pub mod counters;
mod effects;
mod egress;
pub mod fdb;
pub mod filter;
pub mod forward;
pub mod frame;
mod grace;
pub mod guard;
pub mod handle;
mod lists;
mod live;
mod load;
pub mod memory;
pub mod mirror;
mod nearness;
pub mod offload;
mod patience;
pub mod pin;
mod pipeline;
pub mod policy;
pub mod port;
pub mod punt;
pub mod replica;
mod setup;
pub mod snapshot;
pub mod sniffer;
mod sync;
mod tables;
pub mod testing;
pub mod trace;
pub mod traffic;
pub mod vlan;
mod worker;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use affinity::check_cpus;
pub use clock::VirtualTime;
pub use counters::DropReason;
pub use fdb::{EntryKind, FdbFilter, FdbFull, FdbRecord};
pub use handle::{Datapath, MAX_PORTS};
pub use replica::Replica;
pub use setup::{
    Begin, DatapathConfig, DatapathEvent, PortSettings, PortSetup, SenderCore, SwitchSettings, SwitchSetup,
};
pub use traffic::TrafficSetup;
/// The types that switches and ports are described by, so that whoever uses this crate needs no other.
pub use vswitch_api as api;

/// Takes a lock, whatever became of who had it before. What is behind the locks of the datapath is changed in steps that leave it
/// whole; a panic in between leaves at worst a rate or a random number half-used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Index of a port in the datapath; used again after the port was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// Index of a switch in the datapath; used again after the switch was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchId(pub u16);

/// A port by its index and its serial number: never another that has the index by now. Whoever speaks of a port outside the
/// datapath does so by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRef {
    /// Its index.
    pub id: PortId,
    /// Tells it from ports that had the index before.
    pub serial: u64,
}

/// Which way a frame goes, as the switch sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the port into the switch.
    In,
    /// Out of the switch to the port.
    Out,
}

impl PortId {
    /// As an index into tables by port.
    #[inline]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

impl From<PortRef> for PortId {
    fn from(port: PortRef) -> Self {
        port.id
    }
}

impl SwitchId {
    /// As an index into tables by switch.
    #[inline]
    pub fn index(self) -> usize {
        self.0.into()
    }
}
