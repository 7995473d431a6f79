//! What threads share their memory by, in the parts that are modelled: `tests/models` has those with loom's in the place of these.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
pub use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
