//! All that talks to the kernel: namespaces, links, addresses, routes and tc by rtnetlink, and what the
//! kernel reports back.
//!
//! A netlink socket belongs to the namespace of the thread that opened it and pins that namespace, so
//! sockets inside a user's namespace live for one operation only.

mod address;
pub mod announce;
mod ask;
#[cfg(feature = "fastpath")]
pub mod bpf;
#[cfg(not(feature = "fastpath"))]
#[path = "bpf_absent.rs"]
pub mod bpf;
#[cfg(feature = "fastpath")]
mod bpf_call;
#[cfg(feature = "fastpath")]
mod clsact;
mod conntrack;
mod enter;
mod error;
pub mod ethtool;
pub mod forbidden;
pub mod inherit;
mod link;
mod link_read;
mod mapping;
pub mod memory;
pub mod monitor;
mod named;
mod names;
mod neighbour;
pub mod netlink;
pub mod netns;
pub mod packet;
mod peer;
pub mod poll;
mod presence;
pub mod process;
mod process_identity;
pub mod random;
pub mod rights;
pub mod sockets;
#[cfg(feature = "fastpath")]
pub mod steer;
#[cfg(not(feature = "fastpath"))]
#[path = "steer_absent.rs"]
pub mod steer;
pub mod syscalls;
pub mod tap;
mod tc;
pub mod uring;
#[cfg(feature = "fastpath")]
pub mod xdp;
#[cfg(not(feature = "fastpath"))]
#[path = "xdp_absent.rs"]
pub mod xdp;
pub mod xsk;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use address::{AddressScope, KernelRoute, WayOut};
pub use announce::announce;
pub use conntrack::Talk;
pub use enter::enter;
pub use error::KernelError;
pub use link::{GsoSize, Link, VethPeer};
pub use monitor::{Inside, InsideChange, LinkChange, LinkMonitor, MonitorEvent};
pub use named::{Found, NamedNamespaces};
pub use names::NsEvent;
pub use neighbour::Neighbour;
pub use netlink::Netlink;
pub use netns::{NetNs, NetNsId, hold_own, with_processes};
pub use peer::Peer;
pub use presence::Presence;
pub use process_identity::{Process, process_groups, process_name};

/// Takes a lock, whatever became of who had it before: behind the locks here are descriptors and indices that fit after each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
