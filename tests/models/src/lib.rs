//! Models: the parts of the datapath in which threads meet without a lock, run by loom through all orders in which their loads and
//! stores may be seen. The sources are the datapath's own; only the primitives are loom's.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the models use a part")]
#[path = "../../../switch/datapath/src/fdb/bucket.rs"]
mod bucket;
#[path = "../../../switch/datapath/src/grace.rs"]
mod grace;

/// Loom's, as the datapath's `sync` has the standard library's.
mod sync {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
    pub use std::sync::PoisonError;
}

mod fdb;
mod snapshot;
