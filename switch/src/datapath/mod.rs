//! The frame's way through the switch.
//!
//! A worker is a plain thread that waits on its queues of all ports. From a queue that is ready it takes a *batch* of
//! frames and runs it to completion:
//!
//! 1. **ingress** ([`forward`]): a frame is dropped, with a [`DropReason`], if its virtio-net header can't be trusted,
//!    if it is shorter than an Ethernet header or longer than the port's MTU allows, or if no station can have sent it;
//! 2. **learn**: the source address is behind this port ([`fdb`]);
//! 3. **look up**: a destination that is known goes to its port; group addresses are never in the table, so broadcast,
//!    multicast and unknown unicast all take the one miss path and are flooded to every other port of the switch;
//! 4. **egress** ([`egress`]): the batch has become a list of frames for each port. A list is sent with as few system
//!    calls as the port allows. A frame that the port can't take as it is gets segmented and summed here.
//!
//! Nothing is copied on the way: a frame lies where it was received, and lists name it by its index. A frame never
//! crosses a thread, so the frames of a flow stay in order: all of a flow come by one queue.
//!
//! What the worker reads is an immutable [`snapshot`] that control replaces as a whole; a worker looks once a batch
//! whether there is a newer one. [`handle::Datapath`] is what control holds: it publishes snapshots and waits, where
//! something is to be freed, until every worker has left the old one. Workers allocate nothing per frame, take no lock
//! that control holds for long, and write only counters of their own.

pub mod counters;
pub mod egress;
pub mod fdb;
pub mod forward;
pub mod handle;
pub mod replica;
pub mod snapshot;
mod worker;

pub use counters::DropReason;
pub use fdb::{FdbFull, FdbRecord};
pub use handle::{Datapath, DatapathConfig, DatapathEvent, PortSetup, SwitchSetup};
pub use replica::Replica;

/// Index of a port in the datapath; used again after the port was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// Index of a switch in the datapath; used again after the switch was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchId(pub u16);

impl PortId {
    /// As an index into tables by port.
    #[inline]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

impl SwitchId {
    /// As an index into tables by switch.
    #[inline]
    pub fn index(self) -> usize {
        self.0.into()
    }
}
